//! Several files over each other: the country group from the first that knows an address, the ASN from the first that
//! knows one.

use std::path::PathBuf;

use meridian::geo::{Geography, Place};
use tempfile::TempDir;

use crate::support::Field::{Double, Number};
use crate::support::{Field, Mmdb, compile_and_compare, country, folder, ip, map, open, text, write};

fn of_country(code: &'static str) -> Field {
    map([("country_code", text(code))])
}

fn of_asn(asn: u32) -> Field {
    map([("autonomous_system_number", Number(asn))])
}

fn of_city(code: &'static str, city: &'static str, latitude: f64, longitude: f64) -> Field {
    map([
        ("country_code", text(code)),
        ("city", text(city)),
        ("latitude", Double(latitude)),
        ("longitude", Double(longitude)),
    ])
}

/// Networks that lie in, around, and across each other.
fn three_files(folder: &TempDir) -> [PathBuf; 3] {
    let country = Mmdb::v6()
        .with("198.0.0.0/8", &of_country("GB"))
        .with("198.41.0.0/16", &of_country("AU"))
        .with("2a00::/12", &of_country("GB"));
    let asn = Mmdb::v6()
        .with("198.41.0.0/20", &of_asn(13335))
        .with("9.0.0.0/8", &of_asn(64500))
        .with("2a01:4f8:1::/48", &of_asn(13335));
    let city = Mmdb::v6()
        .with("198.41.8.0/21", &of_city("NZ", "Auckland", -36.85, 174.75))
        .with("9.9.9.0/24", &of_city("CH", "Zurich", 47.375, 8.5))
        .with("2a01:4f8::/32", &of_city("DE", "Falkenstein", 50.5, 12.25));
    [("country.mmdb", country), ("asn.mmdb", asn), ("city.mmdb", city)]
        .map(|(name, file)| write(folder, name, &file.octets()))
}

const ADDRESSES: [&str; 16] = [
    "198.40.255.255",
    "198.41.0.0",
    "198.41.7.255",
    "198.41.8.0",
    "198.41.15.255",
    "198.41.16.0",
    "198.42.0.0",
    "197.255.255.255",
    "9.0.0.0",
    "9.9.9.0",
    "9.9.10.0",
    "10.0.0.0",
    "2a01:4f8::",
    "2a01:4f8:1::",
    "2a01:4f8:2::",
    "2a10::",
];

#[test]
fn the_first_file_that_knows_the_country_gives_the_whole_group() {
    let folder = folder();
    let databases = open(&three_files(&folder));
    let place = databases.locate(ip("198.41.8.1"));
    assert_eq!(place, Place { country: country("AU"), asn: Some(13335), ..Place::default() });
    // Where the country file knows nothing the city file speaks, though it comes last.
    let place = databases.locate(ip("9.9.9.9"));
    assert_eq!(
        (place.country, place.city.as_deref(), place.asn),
        (country("CH"), Some("Zurich"), Some(64500))
    );
    compile_and_compare(&databases, &ADDRESSES.map(ip));
}

#[test]
fn the_order_of_files_decides() {
    let folder = folder();
    let [of_country, of_asn, of_city] = three_files(&folder);
    let orders = [
        [&of_city, &of_asn, &of_country],
        [&of_asn, &of_city, &of_country],
        [&of_country, &of_city, &of_asn],
    ];
    for (order, expected) in orders.into_iter().zip(["NZ", "NZ", "AU"]) {
        let databases = open(&order.map(Clone::clone));
        assert_eq!(databases.locate(ip("198.41.8.1")).country, country(expected), "{order:?}");
        assert_eq!(databases.locate(ip("198.41.0.1")).country, country("AU"));
        assert_eq!(databases.locate(ip("198.41.8.1")).asn, Some(13335));
        compile_and_compare(&databases, &ADDRESSES.map(ip));
    }
}

#[test]
fn the_asn_comes_from_the_first_file_that_knows_one() {
    let folder = folder();
    // The city file comes first and knows an ASN for half of what it knows.
    let with_asn = map([("country_code", text("AU")), ("asn", text("AS64501"))]);
    let city = Mmdb::v4().with("198.41.0.0/17", &of_country("AU")).with("198.41.64.0/18", &with_asn);
    let asn = Mmdb::v4().with("198.41.0.0/16", &of_asn(13335));
    let paths = [write(&folder, "a.mmdb", &city.octets()), write(&folder, "b.mmdb", &asn.octets())];
    let databases = open(&paths);
    for (address, expected) in [("198.41.0.1", 13335), ("198.41.64.1", 64501), ("198.41.128.1", 13335)] {
        assert_eq!(databases.locate(ip(address)).asn, Some(expected), "{address}");
    }
    compile_and_compare(&databases, &["198.41.0.1", "198.41.64.1", "198.41.128.1", "198.42.0.0"].map(ip));
}

#[test]
fn a_city_database_may_come_in_two_files() {
    let folder = folder();
    let sydney = of_city("AU", "Sydney", -33.875, 151.25);
    let v4 = Mmdb::v4().with("198.41.0.0/16", &sydney);
    let v6 = Mmdb::v6().with("2a01:4f8::/32", &of_city("DE", "Falkenstein", 50.5, 12.25));
    let paths = [write(&folder, "v4.mmdb", &v4.octets()), write(&folder, "v6.mmdb", &v6.octets())];
    for paths in [paths.clone(), [paths[1].clone(), paths[0].clone()]] {
        let databases = open(&paths);
        assert_eq!(databases.locate(ip("198.41.0.1")).city.as_deref(), Some("Sydney"));
        assert_eq!(databases.locate(ip("2a01:4f8::1")).city.as_deref(), Some("Falkenstein"));
        compile_and_compare(&databases, &ADDRESSES.map(ip));
    }
}

#[test]
fn an_ipv4_address_is_not_found_in_a_file_of_ipv6_alone() {
    let addresses = ["198.41.0.1", "1.1.1.1", "32.1.4.5", "2a01:4f8::1"].map(ip);
    let (_, v4) = (addresses[3], &addresses[..3]);
    let record = of_city("DE", "Falkenstein", 50.5, 12.25);
    // Nothing where IPv4 would be; then a network so wide that it covers where IPv4 would be.
    let files = [
        Mmdb::v6().with("2a01:4f8::/32", &record),
        Mmdb::v6().with("::/3", &record).with("2000::/3", &record),
    ];
    for file in files {
        let folder = folder();
        let databases = open(&[write(&folder, "v6.mmdb", &file.octets())]);
        for &address in v4 {
            assert!(databases.matches(address).is_empty(), "{address}");
        }
        assert_eq!(databases.locate(addresses[3]).country, country("DE"));
        compile_and_compare(&databases, &addresses);
    }
}

#[test]
fn an_ipv6_address_is_not_found_in_a_file_of_ipv4_alone() {
    let folder = folder();
    let file = Mmdb::v4().with("0.0.0.0/1", &of_country("AU")).with("128.0.0.0/1", &of_country("AU"));
    let databases = open(&[write(&folder, "v4.mmdb", &file.octets())]);
    let addresses = ["2a01:4f8::1", "2000::", "3ffe::1", "198.41.0.1"].map(ip);
    for &address in &addresses[..3] {
        assert!(databases.matches(address).is_empty(), "{address}");
    }
    compile_and_compare(&databases, &addresses);
}

#[test]
fn the_files_of_a_folder_are_asked_by_name() {
    let folder = folder();
    for (name, code) in [("20-b.mmdb", "GB"), ("10-a.mmdb", "AU"), ("00-c.txt", "NZ")] {
        write(&folder, name, &Mmdb::v4().with("198.41.0.0/16", &of_country(code)).octets());
    }
    let databases = open(&[folder.path().to_owned()]);
    assert_eq!(databases.about().len(), 2, "what is not *.mmdb is left alone");
    assert_eq!(databases.locate(ip("198.41.0.1")).country, country("AU"));
}

#[test]
fn a_file_says_what_it_is_and_when_it_was_made() {
    let folder = folder();
    let path = write(&folder, "a.mmdb", &Mmdb::v4().with("1.0.0.0/8", &of_country("AU")).octets());
    let about = open(std::slice::from_ref(&path)).about();
    assert_eq!(about.len(), 1);
    assert_eq!(
        (&about[0].path, about[0].kind.as_str(), about[0].build_epoch),
        (&path, "Test", 1_780_000_000)
    );
}

#[test]
fn databases_may_be_walked_again_and_again() {
    let folder = folder();
    let databases = open(&three_files(&folder));
    let mut walker = databases.walker();
    for _ in 0..10 {
        databases.begin();
        let mut count = 0;
        for upper in 0x2000..0x4000 {
            walker.walk_v6((upper << 112, 16), &mut |_| count += 1);
        }
        // 2a01 in five parts, cut by the city's /32 and within it by the ASN's /48; and fifteen others of 2a00::/12.
        assert_eq!(count, 20);
    }
    drop(walker);
    assert_eq!(databases.damaged(), Vec::<PathBuf>::new());
}

#[test]
fn a_broken_file_is_told_and_the_others_are_opened() {
    let folder = folder();
    let good = write(&folder, "b.mmdb", &Mmdb::v4().with("1.0.0.0/8", &of_country("AU")).octets());
    let broken = write(&folder, "a.mmdb", b"not a database");
    let mut findings = meridian::finding::Findings::new();
    let databases = meridian::geo::Databases::open(&[broken, good], &mut findings);
    assert!(findings.has_errors());
    assert!(findings.to_string().contains("a.mmdb"), "{findings}");
    assert_eq!(databases.locate(ip("1.1.1.1")).country, country("AU"));
}
