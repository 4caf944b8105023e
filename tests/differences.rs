//! `meridian diff` says that nothing differs exactly where nobody is answered differently, and its shares are those of counting.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use ipnetwork::{IpNetwork, Ipv4Network};
use meridian::config::Config;
use meridian::health::board::Board;
use meridian::health::spill;
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond};
use meridian::reload::Reloader;
use meridian::snapshot::Snapshot;
use meridian::wire::message::{Message, query};
use meridian::wire::{Name, Rtype};
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};
use serde_json::Value;

#[path = "support/geo.rs"]
mod geo;

/// Where anybody is, of all of IPv4.
const NETWORKS: [(&str, &str, f32, f32); 4] = [
    ("5.0.0.0/24", "AU", -33.9, 151.2),
    ("5.0.1.0/24", "DE", 50.1, 8.7),
    ("5.0.2.0/25", "JP", 35.7, 139.7),
    ("5.0.8.0/21", "US", 38.9, -77.0),
];

/// Random queries that each pair is asked.
const QUERIES: usize = 10_000;

const NAMES: [&str; 11] = [
    "example.com.",
    "www.example.com.",
    "o.example.com.",
    "mail.example.com.",
    "a.b.example.com.",
    "b.example.com.",
    "x.example.com.",
    "x.w.example.com.",
    "x.sub.example.com.",
    "sub.example.com.",
    "x.y.example.com.",
];
const TYPES: [Rtype; 5] = [Rtype::A, Rtype::TXT, Rtype::NS, Rtype::SOA, Rtype::AAAA];

/// What may be written, each as one of a few.
#[derive(Clone, Debug, PartialEq)]
struct World {
    www: usize,
    wildcard: usize,
    mail: usize,
    text: usize,
    negative_ttl: usize,
    delegation: usize,
    sites: usize,
    rule: usize,
    address: usize,
    ttl: usize,
    sharing: usize,
    capacity: usize,
}

impl World {
    fn zone(&self) -> String {
        let www = ["{ service: web }", "{ service: other }", "{ A: 192.0.2.1 }", "{ service: web, TXT: x }"]
            [self.www];
        let wildcard = ["", "  \"*\": { A: 192.0.2.9 }\n", "  \"*.w\": { service: web }\n"][self.wildcard];
        let mail = ["", "  mail: { A: 192.0.2.25 }\n", "  mail: { A: { ttl: 60, data: [192.0.2.25] } }\n"]
            [self.mail];
        let text =
            ["", "  a.b: { TXT: one }\n", "  a.b: { TXT: [one, two] }\n", "  a.b: { TXT: [two, one] }\n"]
                [self.text];
        let delegation = ["", "  sub: { NS: ns.sub }\n  ns.sub: { A: 192.0.2.53 }\n"][self.delegation];
        let negative_ttl = [60, 300][self.negative_ttl];
        format!(
            "soa: {{ primary: ns1.example.net., negative_ttl: {negative_ttl} }}\nrecords:\n  \"@\": {{ NS: ns1.example.net. }}\n  www: {www}\n  o: {{ service: other }}\n{wildcard}{mail}{text}{delegation}"
        )
    }

    fn sites(&self) -> String {
        // Where clients spill, prices come before rules and the order of sites, and these may decide nothing.
        let (order, rule) = if self.sharing == 2 { (self.sites & 2, 0) } else { (self.sites, self.rule) };
        let sites = ["[syd, fra, iad]", "[fra, syd, iad]", "[syd, fra]"][order];
        let rule =
            ["", ", rules: [{ country: [JP], sites: [fra] }]", ", rules: [{ country: [JP], deny: true }]"]
                [rule];
        let address = ["192.0.2.10", "192.0.2.11"][self.address];
        let ttl = [30, 60][self.ttl];
        let sharing = ["", ", near: 30000 km", ", spill: { demand: 30 }"][self.sharing];
        let capacity = [15, 5][self.capacity];
        format!(
            "sites:\n  syd: {{ location: [-33.87, 151.21], A: {address}, capacity: 15 }}\n  fra: {{ location: [50.11, 8.68], A: 192.0.2.20, capacity: 15 }}\n  iad: {{ location: [38.95, -77.45], A: 192.0.2.30, capacity: {capacity} }}\nservices:\n  web: {{ ttl: {ttl}, sites: {sites}{rule}{sharing} }}\n  other: {{ sites: [fra, iad] }}\n"
        )
    }

    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("example.com.yaml"), self.zone()).expect("a file");
        fs::write(folder.join("sites.yaml"), self.sites()).expect("a file");
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let of_zone = (0..4_usize, 0..3_usize, 0..3_usize, 0..4_usize, 0..2_usize, 0..2_usize);
    let of_sites = (0..3_usize, 0..3_usize, 0..2_usize, 0..2_usize, 0..3_usize, 0..2_usize);
    (of_zone, of_sites).prop_map(
        |(
            (www, wildcard, mail, text, negative_ttl, delegation),
            (sites, rule, address, ttl, sharing, capacity),
        )| World {
            www,
            wildcard,
            mail,
            text,
            negative_ttl,
            delegation,
            sites,
            rule,
            address,
            ttl,
            sharing,
            capacity,
        },
    )
}

/// What may become of a world: a single thing is changed, or all, or what no name leads to, or nothing.
const KINDS: usize = 17;

/// Pairs of one kind, where that can be seen: what belongs to sites at a name that is steered, and no price hides order, rules or
/// capacity.
fn pairs(kind: usize) -> impl Strategy<Value = (World, World)> {
    (worlds(), worlds()).prop_map(move |(mut old, other)| {
        match kind {
            7..=9 => old.www = 0,
            6 | 15 => (old.www, old.sites) = (0, 0),
            10 | 16 => (old.www, old.sharing) = (0, 0),
            11 => (old.www, old.sharing, old.sites) = (0, 2, 0),
            13 => (old.www, old.wildcard) = (1 + old.www % 2, old.wildcard % 2),
            _ => {}
        }
        if matches!(kind, 6 | 7 | 15) {
            old.sharing %= 2;
        }
        let mut new = old.clone();
        let another = |known: usize, other: usize, count: usize| {
            if known == other { (known + 1) % count } else { other }
        };
        match kind {
            0 => new.www = another(old.www, other.www, 4),
            1 => new.wildcard = another(old.wildcard, other.wildcard, 3),
            2 => new.mail = another(old.mail, other.mail, 3),
            3 => new.text = another(old.text, other.text, 4),
            4 => new.negative_ttl = 1 - old.negative_ttl,
            5 => new.delegation = 1 - old.delegation,
            // Their order; one less.
            6 => new.sites = 1,
            15 => new.sites = 2,
            7 => new.rule = another(old.rule, other.rule, 3),
            8 => new.address = 1 - old.address,
            9 => new.ttl = 1 - old.ttl,
            10 => new.sharing = 1,
            16 => new.sharing = 2,
            11 => new.capacity = 1 - old.capacity,
            12 => new = other,
            13 => new = World { sites: other.sites, rule: other.rule, ttl: other.ttl, ..new },
            _ => {}
        }
        (old, new)
    })
}

/// A client, or a resolver that tells its address, and what is asked: one of `NAMES`, one of `TYPES`.
#[derive(Clone, Copy, Debug)]
struct Asked {
    client: IpAddr,
    is_told: bool,
    name: &'static str,
    rtype: Rtype,
}

impl Asked {
    /// Most clients are where something is known; others nobody knows where.
    fn at_random(known: &[IpAddr], random: &mut TestRng) -> Asked {
        let mut below = |most: usize| (random.next_u64() % most as u64) as usize;
        let client = match below(10) {
            0 => Ipv4Addr::new(5, 1 + below(9) as u8, below(256) as u8, below(256) as u8).into(),
            1 => Ipv6Addr::new(0x2a02, below(65536) as u16, 0, 0, 0, 0, 0, 1).into(),
            _ => known[below(known.len())],
        };
        let (name, rtype) = (NAMES[below(NAMES.len())], TYPES[below(TYPES.len())]);
        Asked { client, is_told: below(2) == 0, name, rtype }
    }
}

/// All addresses of `NETWORKS`.
fn known_addresses() -> Vec<IpAddr> {
    let addresses = |(network, ..): &(&str, _, _, _)| {
        let network: Ipv4Network = network.parse().expect("a network");
        network.iter().map(IpAddr::V4)
    };
    NETWORKS.iter().flat_map(addresses).collect()
}

/// What answers, on a board on which all is well.
struct Side {
    snapshot: Snapshot,
    board: Board,
    worker: Worker,
    response: Vec<u8>,
}

impl Side {
    /// Serials that are left to us are no difference: here all are 0.
    fn read(zones: &Path, geodb: &Path) -> Side {
        let config = Config {
            zones: zones.to_owned(),
            geodb: vec![geodb.to_owned()],
            state: zones.join("none"),
            ..Config::default()
        };
        let reload = Reloader::to_compare(&config).reload(false);
        let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
        let board = Board::new(layout);
        spill::price(&board);
        Side { snapshot, board, worker: Worker::default(), response: vec![0; usize::from(u16::MAX)] }
    }

    /// The response, as it is sent.
    fn ask(&mut self, client: IpAddr, question: &[u8]) -> &[u8] {
        let request = Request { bytes: question, client, transport: Transport::Tcp, now_ms: 0 };
        let Side { snapshot, board, worker, response } = self;
        match respond(worker, &request, snapshot, board, response) {
            Outcome::Responded(responded) => &response[..responded.length],
            outcome => panic!("{outcome:?}"),
        }
    }
}

/// All that a resolver is told of records, where the octets are not the same already.
fn is_alike(before: &[u8], after: &[u8]) -> bool {
    let told = |response: &[u8]| {
        let message = Message::read(response).expect("a message");
        (message.rcode(), message.flags, message.sections)
    };
    before == after || told(before) == told(after)
}

fn diff(folder: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["diff", "new", "--against", "old", "--json"])
        .current_dir(folder)
        .output()
        .expect("it runs");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What part of the known addresses is given another site at www.
fn moved(known: &[IpAddr], [before, after]: &mut [Side; 2]) -> f64 {
    let site = |side: &mut Side, client: IpAddr| {
        let question = query(&name("www.example.com."), Rtype::A, None);
        let message = Message::read(side.ask(client, &question)).expect("a message");
        // A site that has another address is still the same.
        message.answers().first().map(|record| record.rdata[3] / 10)
    };
    let moves = known.iter().filter(|client| site(before, **client) != site(after, **client)).count();
    moves as f64 / known.len() as f64
}

fn name(text: &str) -> Name {
    Name::parse(text, None).expect("a name")
}

/// PROPTEST_CASES says how many pairs of each kind.
fn some_pairs() -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 5 };
    ProptestConfig { cases, failure_persistence: None, ..config }
}

#[test]
fn nothing_differs_exactly_where_nobody_is_answered_differently() {
    let folder = tempfile::tempdir().expect("a folder");
    let geodb = folder.path().join("geodb");
    fs::create_dir(&geodb).expect("a folder");
    let row = |(network, country, latitude, longitude): &(&str, &str, f32, f32)| geo::Row {
        network: network.parse().expect("a network"),
        record: geo::Record {
            country_code: Some((*country).to_owned()),
            latitude: Some(*latitude),
            longitude: Some(*longitude),
            city: Some("A".to_owned()),
            ..geo::Record::default()
        },
    };
    geo::write(&geodb, "place", &NETWORKS.iter().map(row).collect::<Vec<_>>());
    let known = known_addresses();
    let random = RefCell::new(TestRunner::new(some_pairs()).new_rng());
    let (pairs_alike, all) = (Cell::new(0), Cell::new(0));
    let compare = |(old, new): (World, World)| {
        for (name, world) in [("old", &old), ("new", &new)] {
            world.write(&folder.path().join(name));
        }
        let told = diff(folder.path());
        let mut sides = ["old", "new"].map(|name| Side::read(&folder.path().join(name), &geodb));
        let differs =
            (0..QUERIES).map(|_| Asked::at_random(&known, &mut random.borrow_mut())).find(|asked| {
                let subnet = asked.is_told.then(|| IpNetwork::from(asked.client));
                let question = query(&name(asked.name), asked.rtype, subnet);
                let client = if asked.is_told { Ipv4Addr::LOCALHOST.into() } else { asked.client };
                let [before, after] = &mut sides;
                !is_alike(before.ask(client, &question), after.ask(client, &question))
            });
        let zones = told["zones"].as_object().expect("zones");
        let services = told["services"].as_object().expect("services");
        let is_told_alike = zones.is_empty() && services.is_empty();
        prop_assert_eq!(is_told_alike, differs.is_none(), "{:?}\n{:?}\n{:?}\n{:#}", old, new, differs, told);
        if old.www == 0 && new.www == 0 {
            let share = told["services"]["web"]["types"][0]["share"]["ipv4"].as_f64().unwrap_or(0.0);
            prop_assert_eq!(share, moved(&known, &mut sides), "{:?}\n{:?}\n{:#}", old, new, told);
        }
        pairs_alike.set(pairs_alike.get() + u32::from(differs.is_none()));
        all.set(all.get() + 1);
        Ok(())
    };
    for kind in 0..KINDS {
        if let Err(error) = TestRunner::new(some_pairs()).run(&pairs(kind), compare) {
            panic!("{error}");
        }
    }
    let (alike, all) = (pairs_alike.get(), all.get());
    assert!(alike * 10 > all && alike * 4 < all, "{alike} of {all} pairs are alike");
}
