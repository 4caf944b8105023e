//! `meridian export`: a master file that other servers take, and that is read back as what it was.

use std::fs;
use std::path::Path;
use std::process::Command;

use meridian::finding::{Findings, Source};
use meridian::wire::{Name, Rtype};
use meridian::zone::{ZoneFile, master};

use crate::server::Home;

fn read(text: &str, apex: &str) -> ZoneFile {
    let mut findings = Findings::new();
    let apex = Name::parse(apex, Some(&Name::root())).expect("a name");
    let zone = master::read(&Source::new("exported", text), &apex, None, &mut findings);
    assert_eq!(findings.to_string(), "");
    zone
}

/// Owner, type, TTL and data, sorted, and without the serial.
fn records(zone: &ZoneFile) -> Vec<(String, Rtype, u32, Vec<u8>)> {
    let mut records: Vec<_> = zone
        .records
        .iter()
        .map(|record| {
            let end = record.rdata.len().saturating_sub(if record.rtype == Rtype::SOA { 20 } else { 0 });
            (record.owner_name().to_string(), record.rtype, record.ttl, record.rdata[..end].to_vec())
        })
        .collect();
    records.sort();
    records
}

#[test]
fn a_master_file_is_read_back_as_the_same_records() {
    let home = Home::of_sample();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("zones/example.org.zone");
    let written = read(&fs::read_to_string(sample).expect("the sample"), "example.org");
    let exported = home.run(&["export", "example.org"]).expect(0).stdout;
    assert_eq!(records(&read(&exported, "example.org")), records(&written));
    // And again, by way of YAML.
    home.write("example.org", &exported);
    fs::remove_file(home.path("zones/example.org.zone")).expect("the sample");
    home.run(&["import", "example.org", "--to", "zones"]).expect(0);
    let again = home.run(&["export", "example.org"]).expect(0).stdout;
    assert_eq!(records(&read(&again, "example.org")), records(&written));
}

#[test]
fn steered_names_are_comments_and_the_serial_is_the_one_that_is_served() {
    let home = Home::of_sample();
    let exported = home.run(&["export", "example.com"]).expect(0).stdout;
    assert!(
        exported.starts_with("$ORIGIN example.com.\nexample.com. 3600 IN SOA ns1.example.com. "),
        "{exported}"
    );
    for told in [
        "; www.example.com. 30 IN: the nearest healthy site of web\n",
        "; demo.example.com. 5 IN: the nearest healthy site of demo\n",
        "mail.example.com. 600 IN A 192.0.2.25\n",
    ] {
        assert!(exported.contains(told), "{exported}");
    }
    let zone = read(&exported, "example.com");
    let soa = zone.records.iter().find(|record| record.rtype == Rtype::SOA).expect("an SOA");
    let serial = &soa.rdata[soa.rdata.len() - 20..][..4];
    assert!(serial.iter().any(|octet| *octet != 0), "{serial:?}");
}

#[test]
fn a_zone_that_is_not_there_or_not_whole_is_told() {
    let home = Home::of_sample();
    let ran = home.run(&["export", "example.con"]).expect(2);
    assert_eq!(ran.stderr, "zones has no zone \"example.con\"; did you mean \"example.com\"?\n");
    home.replace("zones/example.com.yaml", "A: 192.0.2.53", "A: 192.0.2.530");
    let ran = home.run(&["export", "example.com"]).expect(1);
    assert!(ran.stderr.contains("zones/example.com.yaml:") && ran.stdout.is_empty(), "{}", ran.stderr);
}

#[test]
fn bind_takes_what_is_exported() {
    let home = Home::of_sample();
    if Command::new("named-checkzone").arg("-v").output().is_err() {
        eprintln!("skipped: no named-checkzone");
        return;
    }
    for zone in ["example.com", "example.org"] {
        home.write("exported", home.run(&["export", zone]).expect(0).stdout);
        let checked =
            Command::new("named-checkzone").args(["-i", "local", zone]).arg(home.path("exported")).output();
        let checked = checked.expect("it runs");
        assert!(checked.status.success(), "{zone}: {}", String::from_utf8_lossy(&checked.stdout));
    }
}
