//! One look-up in a catchment. `MERIDIAN_CITY_DB=v4.mmdb:v6.mmdb` for a full city database.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use meridian::catchment::compile::compile;

#[path = "world/mod.rs"]
mod world;

/// So many that neither the table nor the addresses stay in a cache.
const ADDRESSES: usize = 1 << 20;

fn table(criterion: &mut Criterion) {
    let v4 = world::v4_addresses(ADDRESSES);
    let v6 = world::v6_addresses(ADDRESSES);
    for (services, sites) in [(1, 6), (1, 300), (20, 300)] {
        let (databases, what) = world::databases();
        let all = world::sites(sites);
        let list = match services {
            1 => vec![Arc::new(world::service("all", all))],
            many => world::services(many, &all),
        };
        let catchments = compile(&list, &databases);
        drop(databases);
        let mut group = criterion.benchmark_group(format!("{what}, {services} services, {sites} sites"));
        group.bench_function("IPv4", |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 1) % ADDRESSES;
                black_box(catchments.lookup_v4(0, v4[at]))
            });
        });
        group.bench_function("IPv6", |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 1) % ADDRESSES;
                black_box(catchments.lookup_v6(0, v6[at]))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, table);
criterion_main!(benches);
