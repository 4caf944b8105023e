//! Each vendor's records, in files of every width and family, read as they are meant.

use std::net::IpAddr;

use meridian::geo::{Coordinates, Country, Place};

use crate::support::Field::{Bool, Double, Float, List, Number};
use crate::support::{
    Field, Mmdb, at, compile_and_compare, country, folder, ip, map, open, open_one, text, write,
};

/// What each vendor says of Sydney. Its coordinates are exact as floats, too.
fn sydney() -> Place {
    Place {
        country: country("AU"),
        subdivision: Some("NSW".into()),
        city: Some("Sydney".into()),
        coordinates: at(-33.875, 151.25),
        radius_km: Some(20.0),
        asn: Some(13335),
    }
}

/// Puts a record into files of all record sizes and both families, and asks for it in all ways.
fn read_everywhere(record: &Field) -> Place {
    let (inside, outside) = (ip("198.41.3.255"), ip("198.41.4.0"));
    let (inside_v6, outside_v6) = (ip("2a01:4f8:1::1"), ip("2a01:4f9::"));
    let mut places = Vec::new();
    for record_bits in [24, 28, 32] {
        let v4 = Mmdb::v4().with("198.41.0.0/22", record);
        let both = Mmdb::v6().with("198.41.0.0/22", record).with("2a01:4f8::/32", record);
        for (file, known) in [(v4, vec![inside]), (both, vec![inside, inside_v6])] {
            let folder = folder();
            let databases = open(&[write(&folder, "test.mmdb", &file.octets_of(record_bits))]);
            for &address in &known {
                let matches = databases.matches(address);
                assert_eq!(matches.len(), 1, "{address} of {record:?}, {record_bits} bits");
                let network = if address.is_ipv4() { "198.41.0.0/22" } else { "2a01:4f8::/32" };
                assert_eq!(matches[0].network.to_string(), network);
                places.push(databases.locate(address));
            }
            for address in [outside, outside_v6] {
                assert!(databases.matches(address).is_empty(), "{address}");
                assert_eq!(databases.locate(address), Place::default());
            }
            compile_and_compare(&databases, &[inside, outside, inside_v6, outside_v6]);
        }
    }
    let first = places.swap_remove(0);
    assert!(places.iter().all(|place| *place == first), "{places:?}");
    first
}

/// The same of one file, where widths are not what is at stake.
fn read(record: &Field) -> Place {
    let (_folder, databases) = open_one(&Mmdb::v6().with("198.41.0.0/22", record).with("2a01::/32", record));
    let addresses: [IpAddr; 2] = [ip("198.41.1.1"), ip("2a01::1")];
    compile_and_compare(&databases, &addresses);
    assert_eq!(databases.locate(addresses[0]), databases.locate(addresses[1]));
    databases.locate(addresses[0])
}

/// A file that is about something at all: one of which no record is of use is refused.
fn read_beside_another(record: &Field) -> Place {
    let file = Mmdb::v4().with("198.41.0.0/22", record).with("9.9.9.0/24", &map([("country", text("GB"))]));
    let (_folder, databases) = open_one(&file);
    compile_and_compare(&databases, &[ip("198.41.1.1"), ip("9.9.9.9"), ip("8.8.8.8")]);
    databases.locate(ip("198.41.1.1"))
}

fn names(name: &'static str) -> Field {
    map([("names", map([("en", text(name))]))])
}

#[test]
fn nested_records_of_maxmind_and_db_ip() {
    let record = map([
        ("continent", map([("code", text("OC")), ("geoname_id", Number(6_255_151))])),
        ("country", map([("iso_code", text("AU")), ("is_in_european_union", Bool(false))])),
        ("registered_country", map([("iso_code", text("US"))])),
        ("subdivisions", List(vec![map([("iso_code", text("NSW"))]), map([("iso_code", text("XYZ"))])])),
        ("city", names("Sydney")),
        (
            "location",
            map([
                ("latitude", Double(-33.875)),
                ("longitude", Double(151.25)),
                ("accuracy_radius", Number(20)),
                ("time_zone", text("Australia/Sydney")),
            ]),
        ),
        ("traits", map([("autonomous_system_number", Number(13335))])),
    ]);
    assert_eq!(read_everywhere(&record), sydney());
}

#[test]
fn flat_records_of_ip_location_db_with_floats() {
    let record = map([
        ("city", text("Sydney")),
        ("country_code", text("AU")),
        ("latitude", Float(-33.875)),
        ("longitude", Float(151.25)),
        ("postcode", text("")),
        ("state1", text("NSW")),
        ("state2", text("")),
        ("timezone", text("")),
    ]);
    assert_eq!(read_everywhere(&record), Place { radius_km: None, asn: None, ..sydney() });
}

#[test]
fn records_of_ipinfo_since_2025() {
    let record = map([
        ("asn", text("AS13335")),
        ("as_name", text("Cloudflare, Inc.")),
        ("city", text("Sydney")),
        ("continent", text("Oceania")),
        ("continent_code", text("OC")),
        ("country", text("Australia")),
        ("country_code", text("AU")),
        ("latitude", Double(-33.875)),
        ("longitude", Double(151.25)),
        ("radius", Number(20_000)),
        ("region", text("New South Wales")),
        ("region_code", text("NSW")),
    ]);
    assert_eq!(read_everywhere(&record), sydney());
}

#[test]
fn records_of_ipinfo_before_with_all_numbers_in_texts() {
    let record = map([
        ("asn", text("AS13335")),
        ("city", text("Sydney")),
        ("country", text("AU")),
        ("country_name", text("Australia")),
        ("lat", text("-33.875")),
        ("lng", text("151.25")),
        ("radius", text("20000")),
        ("region", text("New South Wales")),
    ]);
    let expected = Place { subdivision: Some("New South Wales".into()), ..sydney() };
    assert_eq!(read_everywhere(&record), expected);
}

#[test]
fn records_of_ipinfo_that_nest_the_new_fields() {
    let geo = map([
        ("city", text("Sydney")),
        ("region_code", text("NSW")),
        ("country", text("Australia")),
        ("country_code", text("AU")),
        ("latitude", Double(-33.875)),
        ("longitude", Double(151.25)),
        ("radius", Number(20_000)),
    ]);
    let record = map([("geo", geo), ("as", map([("asn", text("AS13335")), ("type", text("hosting"))]))]);
    assert_eq!(read(&record), sydney());
}

#[test]
fn files_of_nothing_but_asns() {
    let asn = Place { asn: Some(13335), ..Place::default() };
    for record in [
        map([("autonomous_system_number", Number(13335)), ("autonomous_system_organization", text("X"))]),
        map([("asn", text("AS13335")), ("domain", text("x.example")), ("name", text("X"))]),
        map([("asn", text("13335"))]),
    ] {
        assert_eq!(read_everywhere(&record), asn, "{record:?}");
    }
}

#[test]
fn the_country_that_an_as_is_registered_in_is_not_where_its_clients_are() {
    // IPinfo's files of ASNs as of 2025: `name` is the AS's, and 1.0.0.0/24, which they call US, is in Australia.
    let record = map([
        ("asn", text("AS13335")),
        ("country", text("US")),
        ("domain", text("cloudflare.com")),
        ("name", text("Cloudflare, Inc.")),
        ("type", text("hosting")),
    ]);
    assert_eq!(read_everywhere(&record), Place { asn: Some(13335), ..Place::default() });
    // Where both are told of the address, the AS has its own keys.
    let record =
        map([("asn", text("AS13335")), ("as_name", text("Cloudflare, Inc.")), ("country", text("AU"))]);
    assert_eq!(read(&record).country, country("AU"));
}

#[test]
fn files_of_nothing_but_countries() {
    let expected = Place { country: country("GB"), ..Place::default() };
    for record in [
        map([("country_code", text("GB"))]),
        map([("country", map([("iso_code", text("GB"))]))]),
        map([("country", text("GB")), ("continent", text("EU"))]),
        map([("country_code", text("gb"))]),
    ] {
        assert_eq!(read(&record), expected, "{record:?}");
    }
}

#[test]
fn the_registered_country_stands_in_for_one_that_is_missing() {
    let record = map([("registered_country", map([("iso_code", text("GB"))]))]);
    assert_eq!(read(&record).country, country("GB"));
}

#[test]
fn a_subdivision_without_a_code_goes_by_its_name() {
    let record = map([
        ("country", map([("iso_code", text("AU"))])),
        ("subdivisions", List(vec![names("New South Wales")])),
    ]);
    assert_eq!(read(&record).subdivision.as_deref(), Some("New South Wales"));
}

#[test]
fn empty_texts_are_absent() {
    let record = map([
        ("asn", text("")),
        ("city", text("")),
        ("country", text("")),
        ("country_code", text("")),
        ("lat", text("")),
        ("lng", text("")),
        ("radius", text("")),
        ("region", text("")),
        ("state1", text("")),
    ]);
    assert_eq!(read_beside_another(&record), Place::default());
}

#[test]
fn what_is_no_country_is_none() {
    for code in ["ZZ", "XX", "-", "A1", "Australia"] {
        let record = map([("country_code", text(code)), ("city", text("Somewhere"))]);
        assert_eq!(read(&record).country, None, "{code}");
    }
}

#[test]
fn coordinates_off_the_globe_are_absent() {
    let off = [(90.5, 0.5), (-90.5, 0.5), (0.5, 180.5), (0.5, -180.5), (f64::NAN, 1.0), (1.0, f64::INFINITY)];
    for (latitude, longitude) in off {
        let record = map([
            ("country_code", text("AU")),
            ("city", text("Sydney")),
            ("latitude", Double(latitude)),
            ("longitude", Double(longitude)),
        ]);
        let place = read(&record);
        assert_eq!(place.coordinates, None, "{latitude}, {longitude}");
        assert_eq!(place.point(), place.country.and_then(Country::point));
    }
}

#[test]
fn the_corners_of_the_globe_are_on_it() {
    for (latitude, longitude) in [(90.0, 180.0), (-90.0, -180.0)] {
        let record =
            map([("city", text("X")), ("latitude", Double(latitude)), ("longitude", Double(longitude))]);
        assert_eq!(read(&record).coordinates, Some(Coordinates { latitude, longitude }));
    }
}

#[test]
fn zero_and_zero_is_no_location() {
    let record = map([("city", text("X")), ("latitude", Double(0.0)), ("longitude", Double(0.0))]);
    assert_eq!(read(&record).coordinates, None);
}

#[test]
fn an_asn_of_zero_or_out_of_range_is_none() {
    let zero = map([("country_code", text("AU")), ("autonomous_system_number", Number(0))]);
    assert_eq!(read(&zero).asn, None);
    for asn in ["AS0", "AS", "AS4294967296", "cloudflare"] {
        let record = map([("country_code", text("AU")), ("asn", text(asn))]);
        assert_eq!(read(&record).asn, None, "{asn}");
    }
    let largest = map([("country_code", text("AU")), ("autonomous_system_number", Number(u32::MAX))]);
    assert_eq!(read(&largest).asn, Some(u32::MAX));
}

#[test]
fn a_place_without_city_or_with_a_wide_radius_is_its_country() {
    let nested = |radius: u32, city: &'static str| {
        map([
            ("country", map([("iso_code", text("AU"))])),
            ("city", names(city)),
            (
                "location",
                map([
                    ("latitude", Double(-33.875)),
                    ("longitude", Double(151.25)),
                    ("accuracy_radius", Number(radius)),
                ]),
            ),
        ])
    };
    let point = |record: &Field| read(record).point();
    let of_country = country("AU").and_then(Country::point);
    assert_eq!(point(&nested(499, "Sydney")), at(-33.875, 151.25));
    assert_eq!(point(&nested(500, "Sydney")), of_country);
    assert_eq!(point(&nested(10, "")), of_country);
}

#[test]
fn a_record_of_another_shape_is_no_location() {
    for record in [text("AU"), Number(7), List(vec![text("country_code"), text("AU")]), map([])] {
        assert_eq!(read_beside_another(&record), Place::default(), "{record:?}");
    }
    let odd = map([("country_code", Number(61)), ("city", List(vec![])), ("latitude", Bool(true))]);
    assert_eq!(read_beside_another(&odd), Place::default());
}

#[test]
fn a_record_that_does_not_decode_is_no_location_and_the_others_are() {
    let good = map([("country_code", text("GB"))]);
    let file =
        Mmdb::v4().with("198.41.0.0/22", &map([("country_code", text("AU"))])).with("9.9.9.0/24", &good);
    let mut octets = file.octets();
    // The two letters become octets that no text can have.
    let place = octets.windows(2).position(|window| window == b"AU").expect("the text");
    octets[place..place + 2].copy_from_slice(&[0xc3, 0x28]);
    let folder = folder();
    let databases = open(&[write(&folder, "test.mmdb", &octets)]);
    assert!(databases.matches(ip("198.41.0.1")).is_empty());
    assert_eq!(databases.locate(ip("9.9.9.9")).country, country("GB"));
    compile_and_compare(&databases, &[ip("198.41.0.1"), ip("9.9.9.9")]);
}

#[test]
fn a_file_about_something_else_is_refused() {
    let folder = folder();
    let file = Mmdb::v4().with("198.41.0.0/22", &map([("connection_type", text("Cellular"))]));
    let path = write(&folder, "test.mmdb", &file.octets());
    let mut findings = meridian::finding::Findings::new();
    assert!(meridian::geo::Databases::open(&[path], &mut findings).is_empty());
    assert!(findings.to_string().contains("none of its records tells a country"), "{findings}");
}
