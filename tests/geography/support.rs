//! What the tests of geography share: database files of known contents, services to look through, and the naive
//! answer that tables are held against.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use meridian::catchment::classes::rank;
use meridian::catchment::compile::compile;
use meridian::catchment::ranking::{Order, Ranker};
use meridian::catchment::{Catch, Catchments, Ranking};
use meridian::finding::{At, Findings, Source};
use meridian::geo::special::{embedded, v4_runs, v6_runs};
use meridian::geo::{Continent, Coordinates, Country, Databases, Place};
use meridian::site::{Rule, RuleAction, Service};
use serde::ser::{Serialize, Serializer};
use tempfile::TempDir;

use crate::world;

/// A value of a record, in just the width that a vendor stores.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Text(&'static str),
    Double(f64),
    Float(f32),
    Number(u32),
    Bool(bool),
    List(Vec<Field>),
    Map(Vec<(&'static str, Field)>),
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Text(text) => serializer.serialize_str(text),
            Field::Double(number) => serializer.serialize_f64(*number),
            Field::Float(number) => serializer.serialize_f32(*number),
            Field::Number(number) => serializer.serialize_u32(*number),
            Field::Bool(truth) => serializer.serialize_bool(*truth),
            Field::List(items) => serializer.collect_seq(items),
            Field::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

/// A record of some fields.
pub(crate) fn map<const N: usize>(entries: [(&'static str, Field); N]) -> Field {
    Field::Map(entries.into())
}

pub(crate) fn text(text: &'static str) -> Field {
    Field::Text(text)
}

/// A database file in the making.
pub(crate) struct Mmdb {
    writer: Database,
    is_v6: bool,
}

impl Mmdb {
    /// For IPv4 alone.
    pub(crate) fn v4() -> Mmdb {
        Mmdb::new(IpVersion::V4, false)
    }

    /// For both families, if both are given networks.
    pub(crate) fn v6() -> Mmdb {
        Mmdb::new(IpVersion::V6, true)
    }

    fn new(version: IpVersion, is_v6: bool) -> Mmdb {
        let mut writer = Database::default();
        writer.metadata.ip_version = version;
        writer.metadata.binary_format_major_version = 2;
        writer.metadata.database_type = "Test".to_owned();
        writer.metadata.build_epoch = 1_780_000_000;
        Mmdb { writer, is_v6 }
    }

    /// Adds a network; wider ones go first.
    pub(crate) fn with(mut self, network: &str, record: &Field) -> Mmdb {
        let network: IpAddrWithMask = network.parse().expect("a network");
        // IPv4 lives below ::/96 of an IPv6 file.
        let network = match network.addr {
            IpAddr::V4(address) if self.is_v6 => {
                let address = Ipv6Addr::from(u128::from(u32::from(address)));
                IpAddrWithMask::new(address.into(), network.mask + 96)
            }
            _ => network,
        };
        let data = self.writer.insert_value(record).expect("a record that can be written");
        self.writer.insert_node(network, data);
        self
    }

    /// The file, its tree in records of 24 bits.
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.writer.write_to(Vec::new()).expect("a file that can be written")
    }

    /// The file with its tree in records of 24, 28 or 32 bits. The writer goes beyond 24 only for files of 16 MB, so
    /// the tree is written again here.
    pub(crate) fn octets_of(&self, record_bits: u8) -> Vec<u8> {
        let octets = self.octets();
        let nodes = node_count(&octets) as usize;
        let (tree, rest) = octets.split_at(nodes * 6);
        let mut written = Vec::new();
        for node in tree.chunks(6) {
            let (left, right) = node.split_at(3);
            match record_bits {
                24 => written.extend_from_slice(node),
                28 => written.extend_from_slice(&[left, &[0], right].concat()),
                _ => written.extend_from_slice(&[&[0], left, &[0], right].concat()),
            }
        }
        written.extend_from_slice(rest);
        let at = value_of("record_size", &written).start;
        written[at] = record_bits;
        written
    }
}

/// Where the metadata have the octets of a number.
pub(crate) fn value_of(key: &str, octets: &[u8]) -> std::ops::Range<usize> {
    let found = octets.windows(key.len()).rposition(|window| window == key.as_bytes());
    let control = found.expect("a key of the metadata") + key.len();
    control + 1..control + 1 + usize::from(octets[control] & 0x1f)
}

/// How many nodes a file claims to have.
pub(crate) fn node_count(octets: &[u8]) -> u32 {
    octets[value_of("node_count", octets)].iter().fold(0, |count, octet| count << 8 | u32::from(*octet))
}

/// Makes a file claim another number of nodes.
pub(crate) fn set_node_count(octets: &mut Vec<u8>, count: u32) {
    let value = value_of("node_count", octets);
    // The control octet is that of an unsigned number of 32 bits in full, however short the writer's was.
    octets.splice(value.start - 1..value.end, [&[0xc4], count.to_be_bytes().as_slice()].concat());
}

/// Writes a file into a folder.
pub(crate) fn write(folder: &TempDir, name: &str, octets: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, octets).expect("a file that can be written");
    path
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

/// Opens files that are all good.
pub(crate) fn open(paths: &[PathBuf]) -> Databases {
    let mut findings = Findings::new();
    let databases = Databases::open(paths, &mut findings);
    assert!(findings.is_empty(), "{findings}");
    databases
}

/// Opens one good file.
pub(crate) fn open_one(file: &Mmdb) -> (TempDir, Databases) {
    let folder = folder();
    let databases = open(&[write(&folder, "test.mmdb", &file.octets())]);
    (folder, databases)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn country(code: &str) -> Option<Country> {
    Some(Country::from_code(code).expect("a country"))
}

pub(crate) fn at(latitude: f64, longitude: f64) -> Option<Coordinates> {
    Some(Coordinates { latitude, longitude })
}

/// A service over 24 sites that tells places apart by distance alone, and one that does by each kind of rule.
pub(crate) fn services() -> Vec<Arc<Service>> {
    let sites = world::sites(24);
    let by_distance = world::service("by-distance", sites.clone());
    let mut by_rule = world::service("by-rule", sites);
    let nobody = Rule {
        subnets: Vec::new(),
        asns: Vec::new(),
        countries: Vec::new(),
        continents: Vec::new(),
        subdivisions: Vec::new(),
        action: RuleAction::Deny,
        at: At::start(&Source::new("test", "")),
    };
    let sites = |site: u16| RuleAction::Sites { sites: vec![site], only: false };
    by_rule.rules = vec![
        Rule {
            subdivisions: vec!["AU-NSW".to_owned()],
            asns: vec![13335],
            action: sites(0),
            ..nobody.clone()
        },
        Rule { subdivisions: vec!["AU-NSW".to_owned()], action: sites(1), ..nobody.clone() },
        Rule { asns: vec![13335], action: sites(2), ..nobody.clone() },
        Rule { countries: country("AU").into_iter().collect(), action: sites(3), ..nobody.clone() },
        Rule { continents: vec![Continent::Europe], ..nobody },
    ];
    vec![Arc::new(by_distance), Arc::new(by_rule)]
}

/// The number of the special-purpose block that an address lies in, from 1; 0 elsewhere.
pub(crate) fn special(address: IpAddr) -> u32 {
    let v4 = v4_runs();
    let found = match address {
        IpAddr::V4(address) => {
            v4.iter().position(|(first, last)| (*first..=*last).contains(&u32::from(address)))
        }
        IpAddr::V6(address) => v6_runs()
            .iter()
            .position(|(first, last)| (*first..=*last).contains(&u128::from(address)))
            .map(|run| run + v4.len()),
    };
    found.map_or(0, |run| run as u32 + 1)
}

/// The order of sites for one address at a place, without any table.
pub(crate) fn naive(service: &Service, address: IpAddr, place: &Place) -> Order {
    let special = special(address);
    let place = if special == 0 { place.clone() } else { Place::default() };
    // Where IPv4 is embedded it decides, whatever lies around.
    let embeds = matches!(address, IpAddr::V6(address) if embedded(address).is_some());
    let is_in = |subnet: &IpNetwork| !embeds && subnet.contains(address);
    rank(&Ranker::new(service), service, &place, special, is_in).0
}

pub(crate) fn look_up(catchments: &Catchments, service: usize, address: IpAddr) -> Catch {
    match address {
        IpAddr::V4(address) => catchments.lookup_v4(service as u16, address),
        IpAddr::V6(address) => catchments.lookup_v6(service as u16, address),
    }
}

pub(crate) fn ranking(catchments: &Catchments, service: usize, address: IpAddr) -> Ranking<'_> {
    catchments.ranking(service as u16, look_up(catchments, service, address).ranking)
}

/// Whether a ranking of the table is an order found without it.
pub(crate) fn is_order(ranking: Ranking<'_>, order: &Order) -> bool {
    ranking.exact == order.exact
        && ranking.rest.is_empty() != order.has_rest
        && ranking.near == order.near
        && ranking.denied == order.denied
        && ranking.special == (order.special != 0)
}

/// Holds the compiled table against `locate`, at some addresses; gives the table.
pub(crate) fn compile_and_compare(databases: &Databases, addresses: &[IpAddr]) -> Catchments {
    let services = services();
    let catchments = compile(&services, databases);
    assert_eq!(databases.damaged(), Vec::<PathBuf>::new());
    for &address in addresses {
        let place = databases.locate(address);
        for (index, service) in services.iter().enumerate() {
            let (compiled, order) = (ranking(&catchments, index, address), naive(service, address, &place));
            let name = &service.name;
            assert!(
                is_order(compiled, &order),
                "{name}, {address}, {place:?}: {compiled:?} is not {order:?}"
            );
        }
    }
    catchments
}

/// An address by its number.
pub(crate) fn address(number: u128, is_v6: bool) -> IpAddr {
    if is_v6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}
