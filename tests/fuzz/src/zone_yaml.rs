//! A zone in YAML: read, checked, compiled, asked; and the same text as a file of sites and services.

use std::str;

use meridian::finding::{Findings, Source};
use meridian::site::read::Shared;
use meridian::wire::Name;
use meridian::yaml;
use meridian::zone::compile::LONGEST_RRSET;
use meridian::zone::{Owners, check, compile, yaml as zone_yaml};

use super::asking::ask_for_all;
use super::world;

/// No panic on the way, whatever is wrong; what compiles, even with mistakes, can be asked; what passes its check compiles.
///
/// # Panics
/// When that does not hold.
pub fn zone_yaml(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let source = Source::new("example.com.yaml", text);
    let mut findings = Findings::new();
    let Some(root) = yaml::read(&source, &mut findings) else {
        let _ = findings.to_string();
        assert!(findings.has_errors(), "refused, and nothing was said");
        return;
    };
    as_shared(&root);
    let apex = Name::parse("example.com.", None).expect("a name");
    let _ = zone_yaml::name_inside(&root, &mut Findings::new());
    let Some(file) = zone_yaml::read(&source, &root, &apex, world::shared(), &mut findings) else { return };
    check::check(&file, &Owners::of(&file), LONGEST_RRSET, &mut findings);
    findings.sort();
    let _ = findings.to_string();
    let is_good = !findings.has_errors();
    match compile::compile(&file, Owners::of(&file), file.automatic_serial.then_some(7)) {
        Ok(zone) => ask_for_all(&file, zone, is_good),
        Err(compile::CompileError::NoSoa) => assert!(!is_good, "no SOA, and nothing was said"),
        Err(_) => {}
    }
}

fn as_shared(root: &yaml::Node) {
    let mut findings = Findings::new();
    let Some(mapping) = root.mapping("sites: and services:", &mut findings) else { return };
    let shared = Shared::read(&[mapping], &mut findings);
    let _ = findings.to_string();
    if !findings.has_errors() {
        let _ = meridian::site::compile::compile(&shared.services);
        if !shared.services.is_empty() {
            let _ = world::catchments_of(&shared.services);
        }
    }
}
