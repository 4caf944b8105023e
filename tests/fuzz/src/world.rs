//! What queries are answered from: zones with every static corner case, services with rules, shares and subnets of
//! their own, a zone that is broken, and a few places.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use meridian::catchment::{Catchments, compile::compile};
use meridian::finding::{Findings, Source};
use meridian::geo::{Block, Coordinates, Country, Geography, Place, Records, Walker};
use meridian::health::board::Board;
use meridian::policy::Policy;
use meridian::policy::cookie::Secrets;
use meridian::site::Service;
use meridian::site::read::Shared;
use meridian::snapshot::{Snapshot, ZoneToPublish, services_of};
use meridian::wire::Name;
use meridian::yaml;
use meridian::zone::compile::LONGEST_RRSET;
use meridian::zone::{Owners, ZoneFile, check, compile as zone_compile, master, yaml as zone_yaml};

const SITES: &str = include_str!("../world/sites.yaml");
const STEERED: &str = include_str!("../world/example.com.yaml");
const CORNERS: &str = include_str!("../world/corners.zone");
const ROOT: &str = include_str!("../world/root.zone");

/// A snapshot and its board.
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) board: Board,
}

impl World {
    /// With a root zone nothing is refused; without one most is.
    pub(crate) fn new(has_root: bool) -> World {
        let mut zones = vec![
            published(read_yaml("example.com.", STEERED)),
            published(read_master("corners.test.", CORNERS)),
            published(read_master(
                "sub.corners.test.",
                "$TTL 60\n@ SOA a b 1 2 3 4 5\n@ NS ns.example.net.\n",
            )),
            ZoneToPublish { name: name("broken.test."), zone: None, services: Vec::new() },
            ZoneToPublish { name: name("broken.example.com."), zone: None, services: Vec::new() },
        ];
        if has_root {
            zones.push(published(read_master(".", ROOT)));
        }
        let catchments = Arc::new(compile(&services_of(&zones), &Places));
        let (snapshot, layout) = Snapshot::new(1, &zones, catchments);
        let policy = Policy {
            cookies: Some(Secrets::new([7; 16], Some([8; 16]))),
            nsid: Some(Box::from(*b"fuzz")),
            ..Policy::default()
        };
        let snapshot = snapshot.with_policy(Arc::new(policy));
        World { snapshot, board: Board::new(layout) }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text, None).expect("a name")
}

fn published(file: ZoneFile) -> ZoneToPublish {
    let zone = zone_compile::compile(&file, Owners::of(&file), None).expect("the world compiles");
    ZoneToPublish { name: file.apex, zone: Some(Arc::new(zone)), services: file.services }
}

fn read_yaml(apex: &str, text: &str) -> ZoneFile {
    let source = Source::new("world.yaml", text);
    let mut findings = Findings::new();
    let root = yaml::read(&source, &mut findings).expect("the world is YAML");
    let file = zone_yaml::read(&source, &root, &name(apex), shared(), &mut findings).expect("a zone");
    check::check(&file, &Owners::of(&file), LONGEST_RRSET, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    file
}

fn read_master(apex: &str, text: &str) -> ZoneFile {
    let mut findings = Findings::new();
    let file = master::read(&Source::new("world.zone", text), &name(apex), None, &mut findings);
    check::check(&file, &Owners::of(&file), LONGEST_RRSET, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    file
}

/// The sites and services that zones may use.
pub(crate) fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let source = Source::new("sites.yaml", SITES);
        let mut findings = Findings::new();
        let root = yaml::read(&source, &mut findings).expect("the sites are YAML");
        let mapping = root.mapping("", &mut findings).expect("a mapping");
        let shared = Shared::read(&[mapping], &mut findings);
        assert!(!findings.has_errors(), "{findings}");
        shared
    })
}

/// A few services for databases to be walked for.
pub(crate) fn services() -> &'static [Arc<Service>] {
    &shared().services[..2]
}

/// Tables for some services; those of shared services alone are kept, since most zones have no others.
pub(crate) fn catchments_of(services: &[Arc<Service>]) -> Arc<Catchments> {
    thread_local! {
        static KNOWN: RefCell<HashMap<Vec<String>, Arc<Catchments>>> = RefCell::default();
    }
    let is_shared =
        |service: &Arc<Service>| shared().services.iter().any(|known| Arc::ptr_eq(known, service));
    if !services.iter().all(is_shared) {
        return Arc::new(compile(services, &Places));
    }
    let names = services.iter().map(|service| service.name.clone()).collect();
    KNOWN.with_borrow_mut(|known| {
        Arc::clone(known.entry(names).or_insert_with(|| Arc::new(compile(services, &Places))))
    })
}

/// Addresses of every kind: known, unknown, reserved, IPv4 within IPv6.
pub(crate) fn addresses() -> impl Iterator<Item = IpAddr> {
    let v4 =
        [[0, 0, 0, 0], [1, 1, 1, 1], [10, 0, 0, 1], [81, 2, 69, 142], [203, 0, 113, 9], [255, 255, 255, 255]];
    let v6 =
        [0, 1, 0x2001_0218 << 96, 0x2a02_06b8 << 96 | 1, 0xffff_0101_0101, 0x2002_0102_0304 << 80, u128::MAX];
    let v4 = v4.into_iter().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.chain(v6.into_iter().map(|bits: u128| IpAddr::V6(Ipv6Addr::from(bits))))
}

/// Three places and nothing, in turns of a /14 of IPv4 and of a /16 of IPv6; an AS in every third.
struct Places;

impl Geography for Places {
    fn walker(&self) -> Box<dyn Walker + '_> {
        Box::new(Places)
    }

    fn place(&self, records: Records) -> Place {
        let at = |latitude, longitude| Some(Coordinates { latitude, longitude });
        let (country, city, coordinates) = match records.place {
            1 => ("NO", Some("Oslo".into()), at(59.9, 10.7)),
            2 => ("NZ", None, None),
            3 => ("US", Some("Reno".into()), at(39.5, -119.8)),
            _ => return Place { asn: (records.asn > 0).then_some(64_500), ..Place::default() },
        };
        Place {
            country: Country::from_code(country),
            city,
            coordinates,
            asn: (records.asn > 0).then_some(64_500),
            ..Place::default()
        }
    }
}

fn records(number: u32) -> Records {
    Records { place: number % 4, asn: u32::from(number % 3 == 1) }
}

impl Walker for Places {
    fn walk_v4(&mut self, (first, length): (u32, u8), each: &mut dyn FnMut(Block<u32>)) {
        let last = first | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let mut at = first;
        loop {
            let end = last.min(at | 0x0003_ffff);
            let records = records((at >> 18) % 61);
            if records != Records::default() {
                each(Block { first: at, last: end, records });
            }
            if end == last {
                return;
            }
            at = end + 1;
        }
    }

    fn walk_v6(&mut self, (first, length): (u128, u8), each: &mut dyn FnMut(Block<u128>)) {
        let last = first | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let records = records((first >> 112) as u32 % 61);
        if records != Records::default() {
            each(Block { first, last, records });
        }
    }
}
