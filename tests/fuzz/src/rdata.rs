//! RDATA of every type: text to octets and back. The first two octets are the type, the third says whether text or
//! octets follow.

use std::str;

use meridian::finding::{Findings, Source};
use meridian::wire::{Name, Rtype, rdata as codec};
use meridian::zone::master;

/// What is read is well-formed; what is well-formed prints as a text that reads back as the same octets, alone and in
/// a master file; names are found where there are names.
///
/// # Panics
/// When that does not hold.
pub fn rdata(bytes: &[u8]) {
    let [high, low, kind, data @ ..] = bytes else { return };
    let rtype = Rtype(u16::from_be_bytes([*high, *low]));
    let origin = Name::parse("example.com.", None).expect("a name");
    if kind % 2 == 0 {
        let Ok(text) = str::from_utf8(data) else { return };
        if let Ok(octets) = codec::parse(rtype, text, &origin) {
            assert!(codec::check(rtype, &octets).is_ok(), "{rtype} {text:?} gives malformed {octets:02x?}");
            check_printed(rtype, &octets, &origin);
        }
    } else {
        let _ = codec::print(rtype, data);
        let _ = codec::names(rtype, data);
        if codec::check(rtype, data).is_ok() {
            check_printed(rtype, data, &origin);
        }
    }
}

fn check_printed(rtype: Rtype, octets: &[u8], origin: &Name) {
    let printed = codec::print(rtype, octets);
    assert_eq!(codec::parse(rtype, &printed, origin).as_deref(), Ok(octets), "{rtype} {printed}");
    let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let unknown = format!("\\# {} {digits}", octets.len());
    assert_eq!(codec::parse(rtype, &unknown, origin).as_deref(), Ok(octets), "{rtype} {unknown}");
    for offset in codec::names(rtype, octets) {
        assert!(Name::first_of(&octets[offset..]).is_ok(), "{rtype} {printed}: no name at {offset}");
    }
    if !rtype.is_meta() {
        check_in_master_file(rtype, octets, &printed, origin);
    }
}

/// A master file splits into words before the type is known.
fn check_in_master_file(rtype: Rtype, octets: &[u8], printed: &str, origin: &Name) {
    let source = Source::new("example.com.zone", format!("@ 60 IN {rtype} {printed}\n"));
    let mut findings = Findings::new();
    let file = master::read(&source, origin, None, &mut findings);
    let records: Vec<(Rtype, &[u8])> =
        file.records.iter().map(|record| (record.rtype, record.rdata)).collect();
    assert_eq!(records, [(rtype, octets)], "{findings}\n{}", source.text);
}
