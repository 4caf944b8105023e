//! Finding names in a zone of a million.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use meridian::catchment::Catchments;
use meridian::finding::{Findings, Source};
use meridian::nameserver::lookup::look_up;
use meridian::snapshot::{Snapshot, ZoneToPublish};
use meridian::wire::{Name, Qname, Rtype};
use meridian::zone::{Owners, compile, master};

#[path = "world/mod.rs"]
mod world;

const NAMES: usize = 1_000_000;

fn lookup(criterion: &mut Criterion) {
    let apex = Name::parse("example.com.", None).expect("a name");
    let mut text = String::from("$TTL 60\n@ SOA ns1 hostmaster 1 1h 10m 2w 5m\n@ NS ns1\nns1 A 192.0.2.1\n");
    for number in 0..NAMES {
        text.push_str(&format!("host{number} A 192.0.2.1\n"));
    }
    let mut findings = Findings::new();
    let file = master::read(&Source::new("example.com.zone", text), &apex, None, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    let zone = Arc::new(compile::compile(&file, Owners::of(&file), None).expect("the zone is sound"));
    let to_publish = [ZoneToPublish { name: apex, zone: Some(Arc::clone(&zone)), services: Vec::new() }];
    let (snapshot, _) = Snapshot::new(1, &to_publish, Arc::new(Catchments::default()));
    let mut numbers = world::Numbers::new(5);
    let mut qname = |prefix: &str| {
        let name =
            Name::parse(&format!("{prefix}{}.example.com.", numbers.below(NAMES)), None).expect("a name");
        let mut qname = Qname::default();
        qname.read(name.wire());
        qname
    };
    let mut group = criterion.benchmark_group("a name among a million");
    for (title, prefix) in [("that exists", "host"), ("that does not", "guest")] {
        let qnames: Vec<Qname> = (0..65_536).map(|_| qname(prefix)).collect();
        group.bench_function(title, |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 1) % qnames.len();
                let published = snapshot.find_zone(&qnames[at], Rtype::A).map(|index| snapshot.zone(index));
                let found = published
                    .map(|published| look_up(&snapshot, published, &zone, zone.walk(&qnames[at]), Rtype::A));
                black_box(found.is_some())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
