//! What is written of anything imported is read back as what it was, by the readers of the server.

use meridian::finding::{Findings, Source};
use meridian::import::write::files;
use meridian::import::{Imported, Rule, Service, Site, Steered, Zone};
use meridian::site::RuleAction;
use meridian::site::read::Shared;
use meridian::wire::{Name, Rtype};
use meridian::{yaml, zone};
use proptest::prelude::*;

/// A site's name, a service's, or a text: whatever somebody may have written elsewhere.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}",
        Just("true".to_owned()),
        Just("NO".to_owned()),
        Just("010".to_owned()),
        Just("- a".to_owned()),
        Just("a: b #c".to_owned()),
        Just("[x, \"y\"]".to_owned()),
        Just("*a &b !c %d @e `f".to_owned()),
        "[ -~]{1,12}",
        "\\PC{1,6}",
    ]
}

fn data() -> impl Strategy<Value = Vec<(Rtype, Vec<u8>)>> {
    let record = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| (Rtype::A, octets.to_vec())),
        any::<[u8; 16]>().prop_map(|octets| (Rtype::AAAA, octets.to_vec())),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|text| { (Rtype::TXT, [&[text.len() as u8][..], &text].concat()) }),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(|octets| (Rtype(65_280), octets)),
    ];
    proptest::collection::btree_set(record, 1..5).prop_map(|records| records.into_iter().collect())
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut known = Vec::new();
    for name in names {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sites_services_and_rules_are_read_back(
        names in proptest::collection::vec(word(), 1..5).prop_map(unique),
        records in proptest::collection::vec(data(), 5),
        location in proptest::option::of((-90.0..90.0f64, -180.0..180.0f64)),
        service in word(),
        subnets in proptest::collection::vec(any::<[u8; 3]>(), 0..4),
        last_resort in data(),
    ) {
        let sites: Vec<Site> = names.iter().zip(&records).map(|(name, records)| {
            Site { name: name.clone(), location, records: records.clone() }
        }).collect();
        let mut written = Service::new(service.clone());
        written.ttl = Some(60);
        written.sites.clone_from(&names);
        for subnet in &subnets {
            let subnet = format!("{}.{}.{}.0/24", subnet[0], subnet[1], subnet[2]);
            written.add_rule(Rule { conditions: vec![("subnet", vec![subnet])], sites: vec![names[0].clone()] });
        }
        written.add_rule(Rule::default());
        written.last_resort = last_resort;
        let imported = Imported { sites, services: vec![written.clone()], zones: Vec::new() };
        let (name, text) = files(&imported).remove(0);
        prop_assert_eq!(&name, "sites.yaml");
        let mut findings = Findings::new();
        let root = yaml::read(&Source::new(name, &*text), &mut findings).expect("YAML");
        let mapping = root.mapping("", &mut findings).expect("a mapping");
        let shared = Shared::read(&[mapping], &mut findings);
        prop_assert!(!findings.has_errors(), "{findings}{text}");
        for (site, read) in imported.sites.iter().zip(&shared.sites) {
            prop_assert_eq!(&site.name, &read.name);
            let mut expected = site.records.clone();
            let mut came: Vec<(Rtype, Vec<u8>)> = read.rrsets.iter()
                .flat_map(|rrset| rrset.rdatas.iter().map(|octets| (rrset.rtype, octets.to_vec()))).collect();
            expected.sort();
            came.sort();
            prop_assert_eq!(expected, came, "{}", text);
        }
        let read = &shared.services[0];
        prop_assert_eq!(&read.name, &service);
        prop_assert_eq!(read.rules.len(), written.rules.len());
        prop_assert!(matches!(read.rules.last().map(|rule| &rule.action), Some(RuleAction::Deny)));
    }

    #[test]
    fn records_and_steered_names_are_read_back(
        labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 1..4),
        records in data(),
        ttls in proptest::collection::vec(0..100_000u32, 5),
    ) {
        let apex = Name::parse("example.com.", None).expect("a name");
        let owner = labels.iter().fold(apex.clone(), |name, label| name.child(label).expect("a name"));
        let mut findings = Findings::new();
        let at = meridian::finding::At::start(&Source::new("written", ""));
        let mut zone = Zone::new(apex.clone());
        // One TTL an RRset.
        for (rtype, octets) in &records {
            zone.push(&owner, *rtype, ttls[usize::from(rtype.0 % 5)], octets, &at, &mut findings);
        }
        zone.steered.push(Steered { owner: owner.clone(), service: "web".to_owned(), ttl: Some(ttls[0]) });
        let imported = Imported { zones: vec![zone], ..Imported::default() };
        let (name, text) = files(&imported).remove(0);
        prop_assert_eq!(&name, "example.com.yaml");
        let shared = "sites: { a: { A: 192.0.2.1 } }\nservices: { web: {} }\n";
        let shared = yaml::read(&Source::new("sites.yaml", shared), &mut findings).expect("YAML");
        let shared = Shared::read(&[shared.mapping("", &mut findings).expect("a mapping")], &mut findings);
        let source = Source::new(name, &*text);
        let root = yaml::read(&source, &mut findings).expect("YAML");
        let read = zone::yaml::read(&source, &root, &apex, &shared, &mut findings).expect("a zone");
        prop_assert!(!findings.has_errors(), "{findings}{text}");
        let mut expected: Vec<_> = imported.zones[0].records.iter().map(|record| (record.owner_name(), record.rtype, record.ttl, record.rdata.to_vec())).collect();
        let mut came: Vec<_> = read.records.iter().map(|record| (record.owner_name(), record.rtype, record.ttl, record.rdata.to_vec())).collect();
        expected.sort_by_key(|(_, rtype, _, octets)| (*rtype, octets.clone()));
        came.sort_by_key(|(_, rtype, _, octets)| (*rtype, octets.clone()));
        prop_assert_eq!(came, expected, "{}", text);
        prop_assert_eq!(read.steered.len(), 1);
        prop_assert_eq!(read.steered[0].ttl, Some(ttls[0]));
        prop_assert_eq!(&read.steered[0].owner, &owner);
    }
}
