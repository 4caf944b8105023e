//! Other people's databases: each file of a folder is read with what it knows, or refused with a reason.
//!
//! The folder is named by `MERIDIAN_GEODATA`: vendors' valid test files in `maxmind-test/`, broken ones in
//! `maxmind-bad/`, samples in `ipinfo-samples/`, and files of the first level. None of them is ours to pass on, so
//! that a plain `cargo test` leaves this out: `MERIDIAN_GEODATA=... cargo test --test geodata -- --nocapture`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use maxminddb::{Reader, WithinOptions};
use meridian::finding::Findings;
use meridian::geo::{Databases, Geography, Place, Records};

/// For any one file, however broken; a debug build has it with room to spare.
const PATIENCE: Duration = Duration::from_secs(2);

/// Broken databases that are valid all the same, as their README says.
const VALID_AMONG_BAD: [&str; 1] = ["libmaxminddb-uint64-max-epoch.mmdb"];

/// How many networks know what.
#[derive(Debug, Default)]
struct Known {
    networks: usize,
    country: usize,
    subdivision: usize,
    point: usize,
    asn: usize,
}

impl Known {
    fn add(&mut self, place: &Place) {
        self.networks += 1;
        self.country += usize::from(place.country.is_some());
        self.subdivision += usize::from(place.subdivision.is_some());
        self.point += usize::from(place.point().is_some());
        self.asn += usize::from(place.asn.is_some());
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known { networks, country, subdivision, point, asn } = self;
        write!(
            f,
            "{networks} networks: country {country}, subdivision {subdivision}, point {point}, ASN {asn}"
        )
    }
}

/// Opens and walks a file, or says why not.
fn read(path: &Path) -> Result<Known, String> {
    let mut findings = Findings::new();
    let databases = Databases::open(&[path.to_owned()], &mut findings);
    if findings.has_errors() {
        return Err(findings.to_string().trim().replace('\n', " "));
    }
    let mut known = Known::default();
    let mut places: BTreeMap<(u32, u32), Place> = BTreeMap::new();
    let mut add = |records: Records| {
        let key = (records.place, records.asn);
        known.add(places.entry(key).or_insert_with(|| databases.place(records)));
    };
    let mut walker = databases.walker();
    walker.walk_v4((0, 0), &mut |block| add(block.records));
    walker.walk_v6((0x2000 << 112, 3), &mut |block| add(block.records));
    drop(walker);
    if databases.damaged().is_empty() { Ok(known) } else { Err("damaged, found while walking".to_owned()) }
}

/// What a sound file holds of country, location and ASN, by a reader that knows nothing of places: networks of
/// addresses that we would look up, whose record has one of the keys that every vendor uses for them.
fn holds_something(path: &Path) -> Option<bool> {
    const KEYS: [&str; 9] = [
        "country",
        "registered_country",
        "country_code",
        "location",
        "latitude",
        "lat",
        "geo",
        "asn",
        "autonomous_system_number",
    ];
    let reader = Reader::open_readfile(path).ok()?;
    let mut holds = false;
    let most = reader.metadata().node_count as usize * 2 + 2;
    for (count, found) in reader.networks(WithinOptions::default()).ok()?.enumerate() {
        let record = found.ok()?.decode::<serde_json::Value>().ok()?;
        let has = |key: &&str| record.as_ref().is_some_and(|record| is_told(&record[*key]));
        holds |= KEYS.iter().any(has);
        if count > most {
            return None;
        }
    }
    Some(holds)
}

fn is_told(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Object(map) => !map.is_empty(),
        serde_json::Value::Number(_) => true,
        _ => false,
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder that can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "mmdb") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn geodata() -> PathBuf {
    env::var_os("MERIDIAN_GEODATA").expect("MERIDIAN_GEODATA names the folder to read").into()
}

#[test]
fn every_file_is_read_or_refused_with_a_reason() {
    let folder = geodata();
    let files = files_below(&folder);
    assert!(!files.is_empty(), "{} has no *.mmdb", folder.display());
    let (mut read_count, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.strip_prefix(&folder).unwrap_or(path).display();
        let is_bad = path.components().any(|part| part.as_os_str() == "maxmind-bad")
            && !VALID_AMONG_BAD.iter().any(|valid| path.ends_with(valid));
        let started = Instant::now();
        let fate = read(path);
        let took = started.elapsed();
        match &fate {
            Ok(known) => println!("{name}: {known}, {} ms", took.as_millis()),
            Err(reason) => println!("{name}: refused in {} ms: {reason}", took.as_millis()),
        }
        *if fate.is_ok() { &mut read_count } else { &mut refused } += 1;
        let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() < 1 << 20);
        if is_small && took > PATIENCE {
            wrong.push(format!("{name} took {took:?}"));
        }
        match fate {
            Ok(known) if is_bad && known.country + known.point + known.asn > 0 => {
                wrong.push(format!("{name} is broken and tells places"));
            }
            Err(_) if !is_bad && holds_something(path) == Some(true) => {
                wrong.push(format!("{name} is refused, and holds places"));
            }
            _ => {}
        }
    }
    println!("{} files: {read_count} read, {refused} refused", files.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Addresses that the vendors' own sources tell of.
#[test]
fn well_known_addresses_are_where_their_vendors_say() {
    let folder = geodata();
    for (file, address, expected) in [
        ("maxmind-test/GeoIP2-City-Test.mmdb", "81.2.69.142", "GB ENG London 51.5142 -0.0931"),
        ("maxmind-test/GeoIP2-City-Test.mmdb", "89.160.20.128", "SE E Linköping 58.4167 15.6167"),
        ("maxmind-test/GeoLite2-City-Test.mmdb", "2001:218::1", "JP - - 35.68536 139.75309"),
        ("maxmind-test/GeoIP2-Country-Test.mmdb", "89.160.20.128", "SE - -"),
        ("maxmind-test/GeoLite2-ASN-Test.mmdb", "1.128.0.0", "- - - AS1221"),
        ("maxmind-test/GeoIP2-ISP-Test.mmdb", "1.128.0.1", "- - - AS1221"),
        ("ipinfo-samples/ipinfo_asn_sample.mmdb", "1.0.0.1", "- - - AS13335"),
        ("ipinfo-samples/ipinfo_core_sample.mmdb", "1.0.0.1", "AU NSW Sydney -33.86785 151.20732 AS13335"),
        ("ipinfo-samples/ipinfo_plus_sample.mmdb", "1.0.0.1", "AU NSW Sydney -33.86785 151.20732 AS13335"),
        ("ipinfo-samples/ip_geolocation_sample.mmdb", "1.22.93.1", "IN GJ Ahmedabad 23.02579 72.58727"),
        ("ipinfo-samples/ip_country_sample.mmdb", "1.0.0.1", "AU - -"),
        ("ipinfo-samples/ipinfo_lite_sample.mmdb", "1.0.0.1", "AU - - AS13335"),
    ] {
        let path = folder.join(file);
        let databases = Databases::open(&[path], &mut Findings::new());
        let place = databases.locate(address.parse::<IpAddr>().expect("an address"));
        assert_eq!(describe(&place), expected, "{file}, {address}");
    }
}

fn describe(place: &Place) -> String {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let country = place.country.map(|country| country.to_string());
    let mut words = vec![
        or_dash(country.as_deref()),
        or_dash(place.subdivision.as_deref()),
        or_dash(place.city.as_deref()),
    ];
    words.extend(place.coordinates.map(|point| format!("{} {}", point.latitude, point.longitude)));
    words.extend(place.asn.map(|asn| format!("AS{asn}")));
    words.join(" ")
}
