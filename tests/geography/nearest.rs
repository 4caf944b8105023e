//! Meaning 6 on a sample of a real city database: the first eight sites are the nearest eight.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{Reader, WithinOptions};
use meridian::catchment::compile::compile;
use meridian::geo::Coordinates;
use meridian::site::Service;
use meridian::site::cost::EARTH_RADIUS_KM;

use crate::support::{address, open, ranking, special};
use crate::world::{self, Numbers};

/// By another formula than the one under test.
fn haversine_km(a: Coordinates, b: Coordinates) -> f64 {
    let (phi, psi) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half = ((psi - phi) / 2.0).sin().powi(2)
        + phi.cos() * psi.cos() * ((b.longitude - a.longitude).to_radians() / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS_KM * half.sqrt().min(1.0).asin()
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/geodb").join(name)
}

/// Clients as they come, addresses drawn from the sample's networks of both families, and a few from anywhere.
fn addresses(database: &Path) -> Vec<IpAddr> {
    let clients = fs::read_to_string(sample("city-sample-clients.csv")).expect("the sample's clients");
    let clients = clients.lines().skip(1).filter_map(|line| line.split(',').next()?.parse().ok());
    let mut addresses: Vec<IpAddr> = clients.take(1500).collect();
    assert_eq!(addresses.len(), 1500);
    let reader = Reader::open_readfile(database).expect("the sample");
    let networks: Vec<_> = reader
        .networks(WithinOptions::default())
        .expect("networks")
        .filter_map(|found| found.ok()?.network().ok())
        .collect();
    let mut numbers = Numbers::new(11);
    for is_v6 in [false, true] {
        let of_family: Vec<_> = networks.iter().filter(|network| network.is_ipv6() == is_v6).collect();
        assert!(of_family.len() >= 1000, "{} networks", of_family.len());
        for _ in 0..1500 {
            let network = of_family[numbers.below(of_family.len())];
            let (first, bits) = match network.network() {
                IpAddr::V4(first) => (u128::from(u32::from(first)), 32),
                IpAddr::V6(first) => (u128::from(first), 128),
            };
            let random = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
            let host = random & !u128::MAX.checked_shl(bits - u32::from(network.prefix())).unwrap_or(0);
            addresses.push(address(first | host, is_v6));
        }
    }
    addresses.extend(world::addresses(500));
    addresses
}

fn the_first_eight_are_the_nearest_eight(file: &str) {
    let path = sample(file);
    let databases = open(std::slice::from_ref(&path));
    let addresses = addresses(&path);
    assert_eq!(addresses.len(), 5000);
    let services: Vec<Arc<Service>> =
        [6, 30, 300].map(|count| Arc::new(world::service("web", world::sites(count)))).into();
    let catchments = compile(&services, &databases);
    let mut located = [0, 0];
    for &address in &addresses {
        let place = databases.locate(address);
        let point = if special(address) == 0 { place.point() } else { None };
        located[usize::from(address.is_ipv6())] += usize::from(point.is_some());
        for (index, service) in services.iter().enumerate() {
            let found = ranking(&catchments, index, address);
            let Some(point) = point else {
                assert_eq!(found.exact, (0..service.sites.len() as u16).collect::<Vec<_>>(), "{address}");
                continue;
            };
            let km = |site: &u16| {
                service.sites[usize::from(*site)]
                    .location
                    .map(|site| haversine_km(point, site))
                    .expect("a location")
            };
            let mut nearest: Vec<f64> = (0..service.sites.len() as u16).map(|site| km(&site)).collect();
            nearest.sort_by(f64::total_cmp);
            let mut distinct = found.exact.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!((found.exact.len(), distinct.len()), (8.min(nearest.len()), 8.min(nearest.len())));
            for (site, wanted) in found.exact.iter().zip(&nearest) {
                // Sites within a kilometre of each other may change places.
                assert!((km(site) - wanted).abs() < 1.0, "{address}, {place:?}: {:?}", found.exact);
            }
        }
    }
    assert!(located[0] > 2500 && located[1] > 1400, "of both families: {located:?}");
}

#[test]
fn in_flat_records() {
    the_first_eight_are_the_nearest_eight("city-sample-flat.mmdb");
}

#[test]
fn in_nested_records() {
    the_first_eight_are_the_nearest_eight("city-sample-nested.mmdb");
}

#[test]
fn after_the_first_eight_the_others_follow_by_distance_from_the_first() {
    let databases = open(&[sample("city-sample-flat.mmdb")]);
    let service = Arc::new(world::service("web", world::sites(30)));
    let catchments = compile(&[Arc::clone(&service)], &databases);
    let clients = addresses(&sample("city-sample-flat.mmdb"));
    let located = clients.iter().filter(|address| databases.locate(**address).point().is_some());
    for &address in located.take(200) {
        let found = ranking(&catchments, 0, address);
        let location = |site: u16| service.sites[usize::from(site)].location.expect("a location");
        let first = location(found.exact[0]);
        assert_eq!(found.rest.len(), 30);
        let km: Vec<f64> = found.rest.iter().map(|site| haversine_km(first, location(*site))).collect();
        assert!(km.windows(2).all(|pair| pair[0] <= pair[1] + 0.001), "{address}: {km:?}");
    }
}
