//! A master file: read, checked, compiled, asked, and written as YAML, which must say the same.

use std::collections::BTreeMap;
use std::str;

use meridian::finding::{Findings, Source};
use meridian::site::read::Shared;
use meridian::wire::{Name, Rtype};
use meridian::yaml;
use meridian::zone::compile::LONGEST_RRSET;
use meridian::zone::{Owners, ZoneFile, check, compile, master, write, yaml as zone_yaml};

use super::asking::ask_for_all;

/// No panic, whatever is wrong; what compiles can be asked; a zone without errors is the same after `meridian import`.
///
/// # Panics
/// When that does not hold.
pub fn master_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if reaches_out(text) {
        return;
    }
    let apex = if text.starts_with(";root") { "." } else { "example.com." };
    let apex = Name::parse(apex, None).expect("a name");
    // In this folder there is nothing to be included.
    let source = Source::new("/dev/shm/meridian-fuzz-empty/example.com.zone", text);
    let mut findings = Findings::new();
    let file = master::read(&source, &apex, None, &mut findings);
    check::check(&file, &Owners::of(&file), LONGEST_RRSET, &mut findings);
    findings.sort();
    let _ = findings.to_string();
    let is_good = !findings.has_errors();
    match compile::compile(&file, Owners::of(&file), None) {
        Ok(zone) => ask_for_all(&file, zone, is_good),
        Err(compile::CompileError::NoSoa) => assert!(!is_good, "no SOA, and nothing was said"),
        Err(_) => {}
    }
    if is_good {
        check_import(&file);
    }
}

/// What would read other files, or count for so long that nothing else gets tried.
fn reaches_out(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let counts_far = |line: &str| {
        let number = line.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 2);
        line.contains("$GENERATE") && number
    };
    upper.lines().any(|line| counts_far(line) || (line.contains("$INCLUDE") && line.contains('/')))
        || upper.matches("$GENERATE").count() > 2
}

type RecordSet = BTreeMap<(Vec<u8>, Rtype), (u32, Vec<Vec<u8>>)>;

/// Owner and type to TTL and data: what is served. Equal records are one, and an RRset has one TTL (RFC 2181 5).
fn what_is_served(file: &ZoneFile) -> RecordSet {
    let mut served = RecordSet::new();
    for record in file.records.iter() {
        let key = (record.owner.to_ascii_lowercase(), record.rtype);
        let (ttl, data) = served.entry(key).or_insert((record.ttl, Vec::new()));
        *ttl = record.ttl.min(*ttl);
        data.push(record.rdata.to_vec());
    }
    for (_, data) in served.values_mut() {
        data.sort();
        data.dedup();
    }
    served
}

fn check_import(file: &ZoneFile) {
    let written = write::to_yaml(&file.apex, &file.records, &[]);
    let source = Source::new("imported.yaml", written.as_str());
    let mut findings = Findings::new();
    let root = yaml::read(&source, &mut findings);
    let again = root
        .and_then(|root| zone_yaml::read(&source, &root, &file.apex, &Shared::default(), &mut findings))
        .unwrap_or_else(|| panic!("what was written cannot be read:\n{findings}\n{written}"));
    assert!(!findings.has_errors(), "what was written is refused:\n{findings}\n{written}");
    assert_eq!(what_is_served(file), what_is_served(&again), "\n{written}");
}
