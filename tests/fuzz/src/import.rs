//! Other servers' files, each read as all of them: nothing that anybody wrote ends in a panic, and what is written of it is YAML.

use meridian::finding::{Findings, Source};
use meridian::import::detect::Format;
use meridian::import::{Imported, gdnsd, master, octodns, powerdns, tinydns, vscf, write};
use meridian::wire::Name;
use meridian::yaml;

/// Every reader is given the same octets.
pub fn import(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let source = Source::new("written", &*text);
    let apex = Name::parse("example.com.", None).expect("a name");
    let _ = Format::of(&text);
    let mut findings = Findings::new();
    let mut all: Vec<Imported> = Vec::new();
    let mut read = |reader: &mut dyn FnMut(&mut Imported, &mut Findings)| {
        let mut imported = Imported::default();
        reader(&mut imported, &mut findings);
        all.push(imported);
    };
    read(&mut |imported, findings| master::read(&source, &apex, imported, findings));
    read(&mut |imported, findings| tinydns::read(&source, imported, findings));
    read(&mut |imported, findings| {
        let zone =
            Source::new("example.com", "@ SOA a b 1 1 1 1 1\n@ NS a\nwww DYNA geoip!www\nm DYNA multifo!m\n");
        let zones = vec![(apex.clone(), zone), (apex.clone(), source.clone())];
        let configurations = vscf::read(&source, findings).into_iter().collect();
        gdnsd::read(&gdnsd::Files { configurations, zones }, imported, findings);
    });
    if let Some(root) = yaml::read(&source, &mut Findings::new()) {
        read(&mut |imported, findings| powerdns::read(&root, imported, findings));
        read(&mut |imported, findings| octodns::read(&root, &apex, imported, findings));
    }
    for imported in &all {
        for (name, text) in write::files(imported) {
            let mut findings = Findings::new();
            yaml::read(&Source::new(&name, &*text), &mut findings);
            assert!(!findings.has_errors(), "{name}: {findings}\n{text}");
        }
    }
}
