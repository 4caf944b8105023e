//! `meridian diff` says that nothing differs exactly where nobody is answered differently, and its shares are those of counting.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use ipnetwork::IpNetwork;
use meridian::health::board::Board;
use meridian::reload::Reloader;
use meridian::reload::expect::ask;
use meridian::snapshot::Snapshot;
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype, rdata};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

#[path = "support/geo.rs"]
mod geo;

/// Where anybody is; 256 addresses each.
const NETWORKS: [(&str, &str, f32, f32); 4] = [
    ("5.0.0.0/24", "AU", -33.9, 151.2),
    ("5.0.1.0/24", "DE", 50.1, 8.7),
    ("5.0.2.0/24", "US", 38.9, -77.0),
    ("5.0.3.0/24", "JP", 35.7, 139.7),
];

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
        let sites = ["[syd, fra, iad]", "[fra, syd, iad]", "[syd, fra]"][self.sites];
        let rule =
            ["", ", rules: [{ country: [JP], sites: [fra] }]", ", rules: [{ country: [JP], deny: true }]"]
                [self.rule];
        let address = ["192.0.2.10", "192.0.2.11"][self.address];
        let ttl = [30, 60][self.ttl];
        format!(
            "sites:\n  syd: {{ location: [-33.87, 151.21], A: {address} }}\n  fra: {{ location: [50.11, 8.68], A: 192.0.2.20 }}\n  iad: {{ location: [38.95, -77.45], A: 192.0.2.30 }}\nservices:\n  web: {{ ttl: {ttl}, sites: {sites}{rule} }}\n  other: {{ sites: [fra, iad] }}\n"
        )
    }

    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("example.com.yaml"), self.zone()).expect("a file");
        fs::write(folder.join("sites.yaml"), self.sites()).expect("a file");
    }
}

fn worlds() -> impl Strategy<Value = World> {
    (
        0..4_usize,
        0..3_usize,
        0..3_usize,
        0..4_usize,
        0..2_usize,
        0..2_usize,
        0..3_usize,
        0..3_usize,
        0..2_usize,
        0..2_usize,
    )
        .prop_map(|(www, wildcard, mail, text, negative_ttl, delegation, sites, rule, address, ttl)| {
            World { www, wildcard, mail, text, negative_ttl, delegation, sites, rule, address, ttl }
        })
}

/// Another one, or one with a single thing changed, or the same.
fn pairs() -> impl Strategy<Value = (World, World)> {
    (worlds(), worlds(), 0..12_usize).prop_map(|(old, other, which)| {
        let mut new = old.clone();
        match which {
            0 => new.www = other.www,
            1 => new.wildcard = other.wildcard,
            2 => new.mail = other.mail,
            3 => new.text = other.text,
            4 => new.negative_ttl = other.negative_ttl,
            5 => new.delegation = other.delegation,
            6 => new.sites = other.sites,
            7 => new.rule = other.rule,
            8 => new.address = other.address,
            9 => new.ttl = other.ttl,
            10 => new = other,
            _ => {}
        }
        (old, new)
    })
}

/// A snapshot, on a board on which all is well.
fn snapshot(zones: &Path, geodb: &Path) -> (Snapshot, Board) {
    let reload = Reloader::new(zones, &[geodb.to_owned()], None).reload(false);
    let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
    (snapshot, Board::new(layout))
}

/// All that a resolver is told, but for the serial.
fn answer((snapshot, board): &(Snapshot, Board), name: &str, rtype: Rtype, from: IpAddr) -> String {
    let subnet = IpNetwork::new(from, 32).expect("an address");
    let question = query(&Name::parse(name, None).expect("a name"), rtype, Some(subnet));
    let (_, message) = ask(snapshot, board, Ipv4Addr::LOCALHOST.into(), &question).expect("a response");
    let without_serial = |data: String, rtype: Rtype| match rtype {
        Rtype::SOA => data
            .split(' ')
            .enumerate()
            .filter(|(index, _)| *index != 2)
            .map(|(_, word)| word.to_owned())
            .collect::<Vec<_>>()
            .join(" "),
        _ => data,
    };
    let mut told = format!("{} ", message.rcode());
    for section in &message.sections {
        for record in section.iter().filter(|record| record.rtype != Rtype::OPT) {
            let data = without_serial(rdata::print(record.rtype, &record.rdata), record.rtype);
            told.push_str(&format!("{} {} {} {data}; ", record.owner, record.ttl, record.rtype));
        }
        told.push('|');
    }
    told
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

#[test]
fn nothing_differs_exactly_where_nobody_is_answered_differently() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("geodb")).expect("a folder");
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
    geo::write(&folder.path().join("geodb"), "place", &NETWORKS.iter().map(row).collect::<Vec<_>>());
    let names = [
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
    let types = [Rtype::A, Rtype::TXT, Rtype::NS, Rtype::SOA, Rtype::AAAA];
    let mut runner = TestRunner::new(Config { cases: 60, ..Config::default() });
    let alike = std::cell::Cell::new(0);
    let result = runner.run(&pairs(), |(old, new)| {
        for (name, world) in [("old", &old), ("new", &new)] {
            world.write(&folder.path().join(name));
        }
        let told = diff(folder.path());
        let geodb = folder.path().join("geodb");
        let [before, after] = ["old", "new"].map(|name| snapshot(&folder.path().join(name), &geodb));
        let mut is_alike = true;
        let mut moved: BTreeMap<&str, u64> = BTreeMap::new();
        for network in 0..4_u8 {
            for host in (0..=255).step_by(51) {
                let from = IpAddr::from([5, 0, network, host]);
                for name in names {
                    for rtype in types {
                        is_alike &= answer(&before, name, rtype, from) == answer(&after, name, rtype, from);
                    }
                }
            }
            // Of the service by itself, whatever name leads to it.
            let from = IpAddr::from([5, 0, network, 7]);
            let site = |side: &(Snapshot, Board)| {
                let told = answer(side, "www.example.com.", Rtype::A, from);
                ["192.0.2.10;", "192.0.2.11;", "192.0.2.20;", "192.0.2.30;"]
                    .into_iter()
                    .find(|address| told.contains(address))
                    .map(|address| address.replace(".11;", ".10;"))
            };
            if site(&before) != site(&after) {
                *moved.entry("web").or_default() += 256;
            }
        }
        let zones = told["zones"].as_object().expect("zones");
        let services = told["services"].as_object().expect("services");
        // A service that no name leads to is still another.
        let is_told_alike = zones.is_empty() && services.is_empty();
        prop_assert_eq!(is_told_alike, is_alike, "{:?}\n{:?}\n{:#}", old, new, told);
        if old.www == 0 && new.www == 0 {
            let share = told["services"]["web"]["types"][0]["share"]["ipv4"].as_f64().unwrap_or(0.0);
            prop_assert_eq!(
                share,
                *moved.get("web").unwrap_or(&0) as f64 / 1024.0,
                "{:?}\n{:?}\n{:#}",
                old,
                new,
                told
            );
        }
        alike.set(alike.get() + u32::from(is_alike));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let alike = alike.get();
    assert!((5..55).contains(&alike), "{alike} of 60 pairs are alike");
}
