//! Other servers' files, one folder each, with what comes of them: the files, and what is told.
//!
//! `MERIDIAN_UPDATE_IMPORTS=1 cargo test --test import` writes what came into `expected/`, for somebody to read before it
//! is committed.

#[path = "../support/geo.rs"]
mod geo;
#[path = "../support/server.rs"]
mod server;

mod export;
mod law;

use std::fs;
use std::path::{Path, PathBuf};

use meridian::finding::{Findings, Source};
use meridian::import::Imported;
use meridian::import::detect::Format;
use meridian::yaml;

use server::Home;

fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(format)
}

/// A folder with what came of these files, which passes `check`.
fn import(format: &str, files: &[&str]) -> Home {
    let home = Home::new();
    let place = |network: &str, country: &str, latitude: f32, longitude: f32| geo::Row {
        network: network.parse().expect("a network"),
        record: geo::Record {
            country_code: Some(country.to_owned()),
            latitude: Some(latitude),
            longitude: Some(longitude),
            ..geo::Record::default()
        },
    };
    let rows = [
        place("1.1.1.0/24", "AU", -33.9, 151.2),
        place("5.1.83.0/24", "DE", 50.1, 8.7),
        place("8.8.8.0/24", "US", 37.4, -122.1),
        place("41.0.0.0/24", "ZA", -26.2, 28.0),
        place("41.90.1.0/24", "KE", -1.3, 36.8),
        place("87.92.0.0/16", "FI", 60.2, 24.9),
    ];
    geo::write(&home.path("geodb"), "places", &rows);
    for file in files {
        home.write(file, fs::read(folder(format).join(file)).expect("an input"));
    }
    let arguments: Vec<&str> = ["import"].iter().chain(files).chain(&["--to", "zones"]).copied().collect();
    let ran = home.run(&arguments).expect(1);
    let mut came = vec![("told".to_owned(), ran.stderr)];
    for path in ran.stdout.lines() {
        let name = path.strip_prefix("zones/").expect("a path within the folder");
        came.push((name.to_owned(), home.read(path)));
    }
    let expected = folder(format).join("expected");
    for (name, text) in came {
        let path = expected.join(&name);
        if std::env::var_os("MERIDIAN_UPDATE_IMPORTS").is_some() {
            fs::create_dir_all(&expected).and_then(|()| fs::write(&path, &text)).expect("it is written");
        }
        assert_eq!(text, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
    }
    let ran = home.run(&["check"]);
    assert_eq!((ran.code, ran.stdout.contains("good: ")), (Some(0), true), "{}{}", ran.stdout, ran.stderr);
    home
}

/// The addresses that a client is answered.
fn answer(home: &Home, name: &str, rtype: &str, from: &str) -> Vec<String> {
    let told = home.run(&["explain", name, rtype, "--from", from]).expect(0).stdout;
    let answers = told.split(";; ANSWER SECTION:\n").nth(1).unwrap_or_default();
    let answers = answers.split("\n\n").next().unwrap_or_default();
    answers.lines().filter_map(|line| line.rsplit('\t').next()).map(str::to_owned).collect()
}

#[test]
fn of_powerdns_the_names_that_services_make_become_sites_and_their_places_rules() {
    let home = import("powerdns", &["geo.yaml"]);
    let of = |name: &str, from: &str| answer(&home, name, "A", from);
    // Finland, an office, and where nothing else says what to do.
    assert_eq!(of("service.geo.example.com", "87.92.0.1"), ["192.0.2.2"]);
    assert_eq!(of("service.geo.example.com", "10.1.2.3"), ["192.0.2.6"]);
    assert_eq!(of("service.geo.example.com", "1.1.1.1"), ["192.0.2.5"]);
    assert_eq!(of("region.geo.example.com", "1.1.1.1"), Vec::<String>::new());
    assert_eq!(of("family.geo.example.com", "10.0.0.1"), ["192.0.2.13"]);
    assert_eq!(of("family.geo.example.com", "2001:4860::1"), ["192.0.2.14"]);
    assert_eq!(of("two.geo.example.com", "5.1.83.1"), ["192.0.2.15"]);
    // A wildcard is for all who have no name of their own.
    assert_eq!(of("wild.geo.example.com", "41.90.1.1"), ["192.0.2.11"]);
    assert_eq!(of("wild.geo.example.com", "41.0.0.1"), ["192.0.2.10"]);
    assert_eq!(of("wild.geo.example.com", "87.92.0.1"), ["192.0.2.12"]);
    assert_eq!(answer(&home, "fi.eu.service.geo.example.com", "A", "1.1.1.1"), ["192.0.2.2"]);
}

#[test]
fn of_octodns_pools_become_sites_and_geos_rules() {
    let home = import("octodns", &["example.com.yaml"]);
    let of = |rtype: &str, from: &str| answer(&home, "www.example.com", rtype, from);
    assert_eq!(of("A", "5.1.83.1"), ["192.0.2.10", "192.0.2.11"]);
    assert_eq!(of("AAAA", "8.8.8.8"), ["2001:db8::30"]);
    assert_eq!(of("A", "203.0.113.9"), ["192.0.2.30"]);
    assert_eq!(of("A", "1.1.1.1"), ["192.0.2.20"]);
    let down = ["explain", "www.example.com", "A", "--from", "5.1.83.1", "--down", "eu"];
    assert!(home.run(&down).expect(0).stdout.contains("chosen    na\n"));
    assert_eq!(answer(&home, "example.com", "TXT", "1.1.1.1"), ["\"v=spf1 -all; really\""]);
}

#[test]
fn of_gdnsd_datacenters_become_sites_and_maps_rules() {
    let home = import("gdnsd", &["config", "example.com"]);
    let of = |name: &str, from: &str| answer(&home, name, "A", from);
    assert_eq!(of("www.example.com", "5.1.83.1"), ["192.0.2.2"]);
    assert_eq!(of("www.example.com", "1.1.1.1"), ["192.0.2.3", "192.0.2.4"]);
    assert_eq!(of("www.example.com", "10.1.0.1"), ["192.0.2.1"]);
    assert_eq!(of("www.example.com", "10.2.0.1"), ["192.0.2.3", "192.0.2.4"]);
    assert_eq!(of("mail.example.com", "5.1.83.1"), ["192.0.2.7", "192.0.2.8"]);
    assert_eq!(of("cdn.example.com", "1.1.1.1"), ["us.cdn.example.net."]);
    assert_eq!(of("two.example.com", "1.1.1.1"), ["192.0.2.11"]);
    // The datacenter decides, whether or not it has the type.
    assert_eq!(answer(&home, "www.example.com", "AAAA", "5.1.83.1"), ["2001:db8::2"]);
    assert_eq!(answer(&home, "www.example.com", "AAAA", "8.8.8.8"), Vec::<String>::new());
    // An empty list is for those who are to get nothing; without coordinates and a default the order written is for all others.
    assert_eq!(of("mail.example.com", "41.0.0.1"), Vec::<String>::new());
    assert_eq!(of("order.example.com", "8.8.8.8"), ["192.0.2.14"]);
    assert_eq!(of("order.example.com", "5.1.83.1"), ["192.0.2.15"]);
    let told = home.run(&["explain", "www.example.com", "A", "--from", "1.1.1.1"]).expect(0).stdout;
    assert!(told.contains("\nttl       300\n"), "{told}");
}

#[test]
fn of_tinydns_every_line_is_read_and_locations_become_sites() {
    let home = import("tinydns", &["data"]);
    let of = |name: &str, rtype: &str| answer(&home, name, rtype, "1.1.1.1");
    assert_eq!(of("www.example.com", "A"), ["192.0.2.1"]);
    assert_eq!(of("1.2.0.192.in-addr.arpa", "PTR"), ["www.example.com."]);
    assert_eq!(of("a.b.wild.example.com", "A"), ["192.0.2.2"]);
    assert_eq!(of("example.com", "TXT"), ["\"v=spf1 ip4:192.0.2.0/24 -all\""]);
    assert_eq!(of("example.com", "CAA"), ["0 issue \"ca.example.net\""]);
    assert_eq!(of("six.example.com", "AAAA"), ["2001:db8::1"]);
    assert_eq!(of("down.example.com", "A"), Vec::<String>::new());
    let located = |name: &str, from: &str| answer(&home, name, "A", from);
    assert_eq!(located("intra.example.com", "10.0.0.1"), ["10.0.0.1"]);
    assert_eq!(located("intra.example.com", "192.168.9.9"), ["10.0.0.1"]);
    assert_eq!(located("intra.example.com", "1.1.1.1"), ["192.0.2.3"]);
    // A client of a location within another is in the inner one alone.
    assert_eq!(located("intra.example.com", "10.1.0.1"), Vec::<String>::new());
    assert_eq!(located("mixed.example.com", "10.0.0.1"), ["192.0.2.4", "10.0.0.4"]);
    assert_eq!(located("mixed.example.com", "10.1.0.1"), ["192.0.2.4"]);
    assert_eq!(located("only.example.com", "1.1.1.1"), Vec::<String>::new());
}

#[test]
fn whose_file_it_is_is_told_by_what_it_says() {
    for (path, format) in [
        ("powerdns/geo.yaml", Format::PowerDns),
        ("octodns/example.com.yaml", Format::OctoDns),
        ("gdnsd/config", Format::Gdnsd),
        ("gdnsd/example.com", Format::Gdnsd),
        ("tinydns/data", Format::TinyDns),
        ("../../zones/example.org.zone", Format::Master),
    ] {
        let text = fs::read_to_string(folder(path)).expect("an input");
        assert_eq!(Format::of(&text), format, "{path}");
    }
    // A mistake makes it nobody else's, and what two formats have in common does not make it one of the two.
    let one_is_odd = "# data\n.example.com:192.0.2.53:a\n+www.example.com:192.0.2.1\n*odd\n";
    assert_eq!(Format::of(one_is_odd), Format::TinyDns);
    let without_soa = "@ 3600 AAAA 2001:db8::1\n@ 3600 AAAA 2001:db8::2\n";
    assert_eq!(Format::of(without_soa), Format::Master);
    let quoted = "---\n'': {type: A, value: 192.0.2.1}\nwww: {type: A, value: 192.0.2.1}\n";
    assert_eq!(Format::of(quoted), Format::OctoDns);
}

#[test]
fn a_format_that_is_said_is_taken_and_nothing_is_overwritten() {
    let home = Home::new();
    home.write("data", "xnonsense\n.example.com:192.0.2.53:a\n+www.example.com:192.0.2.1\n");
    let ran = home.run(&["import", "data", "--format", "tinydns", "--to", "zones"]).expect(1);
    assert_eq!(
        ran.stderr,
        "data:1:1: not carried over: no line of tinydns begins with \"x\"\n    xnonsense\n    ^\n"
    );
    assert_eq!(ran.stdout, "zones/example.com.yaml\n");
    let ran = home.run(&["import", "data", "--format", "tinydns", "--to", "zones"]).expect(1);
    assert!(
        ran.stderr.starts_with("zones/example.com.yaml is there already; nothing was written\n"),
        "{}",
        ran.stderr
    );
    home.run(&["import", "data", "--format", "bind"]).expect(2);
    home.write("data", ".example.com:192.0.2.53:a\n+www.example.com:192.0.2.1\n");
    let ran = home.run(&["import", "data"]).expect(0);
    assert!(ran.stdout.starts_with("# example.com, from data\nttl: "), "{}", ran.stdout);
}

#[test]
fn every_line_that_is_left_out_is_told_however_many() {
    let home = Home::new();
    let lines: String = (0..300).map(|number| format!("+h{number}.elsewhere.example:192.0.2.1\n")).collect();
    home.write("data", format!(".example.com:192.0.2.53:a\n{lines}"));
    let told = home.run(&["import", "data"]).expect(1).stderr;
    assert_eq!(told.matches(": not carried over: ").count(), 300);
}

/// Nothing that anybody writes ends in a panic.
#[test]
fn what_is_broken_is_told() {
    for format in ["powerdns", "octodns", "gdnsd", "tinydns"] {
        let (name, text) = match format {
            "powerdns" => ("geo.yaml", fs::read_to_string(folder("powerdns/geo.yaml"))),
            "octodns" => ("example.com.yaml", fs::read_to_string(folder("octodns/example.com.yaml"))),
            "gdnsd" => ("config", fs::read_to_string(folder("gdnsd/config"))),
            _ => ("data", fs::read_to_string(folder("tinydns/data"))),
        };
        let text = text.expect("an input");
        let ends = text.char_indices().map(|(at, _)| at).step_by(7);
        for end in ends {
            // Cut off, and with a hole.
            for broken in [
                text[..end].to_owned(),
                format!("{}{}", &text[..end], text.get(end + 3..).unwrap_or_default()),
            ] {
                read(format, name, &broken);
            }
        }
    }
}

fn read(format: &str, name: &str, text: &str) {
    let (mut imported, mut findings) = (Imported::default(), Findings::new());
    let source = Source::new(name, text);
    let apex = meridian::wire::Name::parse("example.com.", None).expect("a name");
    match format {
        "tinydns" => meridian::import::tinydns::read(&source, &mut imported, &mut findings),
        "gdnsd" => {
            let zone = fs::read_to_string(folder("gdnsd/example.com")).expect("a zone");
            let files = meridian::import::gdnsd::Files {
                configurations: meridian::import::vscf::read(&source, &mut findings).into_iter().collect(),
                zones: vec![(apex, Source::new("example.com", zone))],
            };
            meridian::import::gdnsd::read(&files, &mut imported, &mut findings);
        }
        _ => {
            let Some(root) = yaml::read(&source, &mut findings) else { return };
            match format {
                "powerdns" => meridian::import::powerdns::read(&root, &mut imported, &mut findings),
                _ => meridian::import::octodns::read(&root, &apex, &mut imported, &mut findings),
            }
        }
    }
    let _ = meridian::import::write::files(&imported);
}
