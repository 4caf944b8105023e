//! What all benches share: services over many sites, the geo databases, and addresses to ask for.

#![allow(dead_code)] // each bench uses a part

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meridian::finding::{At, Findings, Source};
use meridian::geo::{Coordinates, Country, Databases};
use meridian::site::{AllDown, Guards, MinUp, Rule, RuleAction, Service, Site, SiteRrset};
use meridian::wire::Rtype;

pub(crate) mod callgrind;

/// A full city database if `MERIDIAN_CITY_DB` names its files (separated by colons), else what is shipped.
pub(crate) fn databases() -> (Databases, &'static str) {
    let (paths, what) = match std::env::var("MERIDIAN_CITY_DB") {
        Ok(paths) => (paths.split(':').map(PathBuf::from).collect(), "city database"),
        Err(_) => (vec![PathBuf::from("geodb")], "country database"),
    };
    let mut findings = Findings::new();
    let databases = Databases::open(&paths, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    (databases, what)
}

/// Numbers that are the same on every machine.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn nowhere() -> At {
    At::start(&Source::new("bench", ""))
}

/// Sites where people live: around the points of countries.
pub(crate) fn sites(count: usize) -> Vec<Arc<Site>> {
    let points: Vec<Coordinates> =
        Country::codes().filter_map(|code| Country::from_code(&code)?.point()).collect();
    let mut numbers = Numbers::new(1);
    (0..count)
        .map(|number| {
            let point = points[numbers.below(points.len())];
            let mut offset = || numbers.below(1000) as f64 / 100.0 - 5.0;
            let latitude = (point.latitude + offset()).clamp(-90.0, 90.0);
            let longitude = (point.longitude + offset()).clamp(-180.0, 180.0);
            let octets = [192, 0, (number >> 8) as u8, number as u8];
            Arc::new(Site {
                name: format!("site{number:03}"),
                location: Some(Coordinates { latitude, longitude }),
                rrsets: vec![
                    SiteRrset { rtype: Rtype::A, rdatas: vec![octets.into()] },
                    SiteRrset {
                        rtype: Rtype::AAAA,
                        rdatas: vec![[[0x20, 1, 0xd, 0xb8].as_slice(), &octets, &[0; 8]].concat().into()],
                    },
                ],
                weight: 100,
                capacity: None,
                handicap_km: 0.0,
                tags: Vec::new(),
                maintenance: Vec::new(),
                at: nowhere(),
            })
        })
        .collect()
}

/// The same as users write them; services may follow.
pub(crate) fn sites_file(count: usize) -> String {
    let mut text = String::from("sites:\n");
    for (number, site) in sites(count).iter().enumerate() {
        let Some(Coordinates { latitude, longitude }) = site.location else { continue };
        let (high, low) = (number >> 8, number & 255);
        let _ = writeln!(
            text,
            "  {}: {{ location: [{latitude}, {longitude}], A: 192.0.{high}.{low}, AAAA: \"2001:db8::{number}\" }}",
            site.name
        );
    }
    text
}

/// A service without rules and checks.
pub(crate) fn service(name: &str, sites: Vec<Arc<Site>>) -> Service {
    Service {
        name: name.to_owned(),
        ttl: 30..=30,
        sites,
        checks: Vec::new(),
        need: 0,
        rules: Vec::new(),
        sites_per_answer: 1,
        near: None,
        spill: false,
        demand: None,
        ecs: true,
        all_down: AllDown::Preferred,
        same_site: false,
        min_up: MinUp::of_both(1),
        guards: Guards::default(),
        slow_start: Duration::ZERO,
        at: nowhere(),
    }
}

/// Twenty services, each over another part of the sites and with rules of its own.
pub(crate) fn services(count: usize, sites: &[Arc<Site>]) -> Vec<Arc<Service>> {
    let mut numbers = Numbers::new(2);
    let countries: Vec<String> = Country::codes().collect();
    (0..count)
        .map(|number| {
            let own: Vec<Arc<Site>> = sites.iter().filter(|_| numbers.below(4) > 0).cloned().collect();
            let mut service = service(&format!("service{number}"), own);
            for _ in 0..5 {
                let site = numbers.below(service.sites.len()) as u16;
                let country = &countries[numbers.below(countries.len())];
                service.rules.push(Rule {
                    subnets: Vec::new(),
                    asns: Vec::new(),
                    countries: Country::from_code(country).into_iter().collect(),
                    continents: Vec::new(),
                    subdivisions: Vec::new(),
                    action: RuleAction::Sites { sites: vec![site], only: false },
                    at: nowhere(),
                });
            }
            Arc::new(service)
        })
        .collect()
}

/// Addresses as they come: anywhere in IPv4.
pub(crate) fn v4_addresses(count: usize) -> Vec<Ipv4Addr> {
    let mut numbers = Numbers::new(3);
    (0..count).map(|_| Ipv4Addr::from(numbers.next() as u32)).collect()
}

/// Anywhere in the blocks that registries gave out most of.
pub(crate) fn v6_addresses(count: usize) -> Vec<Ipv6Addr> {
    let mut numbers = Numbers::new(4);
    (0..count).map(|_| v6_address(&mut numbers)).collect()
}

/// One of those.
pub(crate) fn v6_address(numbers: &mut Numbers) -> Ipv6Addr {
    let heads = [
        0x2001_u128,
        0x2400,
        0x2404,
        0x2406,
        0x2600,
        0x2604,
        0x2607,
        0x2800,
        0x2a00,
        0x2a01,
        0x2a02,
        0x2a0a,
        0x2c0f,
    ];
    let head = heads[numbers.below(heads.len())] << 112;
    Ipv6Addr::from(head | u128::from(numbers.next()) << 48 | u128::from(numbers.next()) >> 16)
}

/// Both families in turn.
pub(crate) fn addresses(count: usize) -> Vec<IpAddr> {
    let v4 = v4_addresses(count / 2).into_iter().map(IpAddr::from);
    let v6 = v6_addresses(count / 2).into_iter().map(IpAddr::from);
    v4.zip(v6).flat_map(|(a, b)| [a, b]).collect()
}

/// Octets of memory that the process holds, or held at most (`VmRSS`, `VmHWM`).
pub(crate) fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    let kilobytes = line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
    kilobytes.unwrap_or(0_u64) << 10
}
