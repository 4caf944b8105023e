//! Wire in, wire out: whole queries through `respond`. `perf stat -e instructions:u` counts what does not drift.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use ipnetwork::IpNetwork;
use meridian::health::board::Board;
use meridian::nameserver::limit::Limiter;
use meridian::nameserver::{Request, Transport, Worker, respond};
use meridian::reload::Reloader;
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};

#[path = "world/mod.rs"]
mod world;

const CLIENTS: usize = 4096;

fn responses(criterion: &mut Criterion) {
    let mut reloader = Reloader::new(Path::new("zones"), &[PathBuf::from("geodb")], None);
    let (snapshot, layout) = reloader.reload(false).snapshot.expect("the sample is served");
    let board = Board::new(layout);
    let clients = world::v4_addresses(CLIENTS);
    let name = |text: &str| Name::parse(text, None).expect("a name");
    let subnet = |client: Ipv4Addr| IpNetwork::new(IpAddr::V4(client), 24).ok();
    let cases: BTreeMap<&str, (&str, Rtype, bool)> = BTreeMap::from([
        ("steered A with client subnet", ("www.example.com.", Rtype::A, true)),
        ("steered A by source address", ("www.example.com.", Rtype::A, false)),
        ("steered A below a wildcard, with client subnet", ("shop.www.example.com.", Rtype::A, true)),
        ("static A", ("ns1.example.com.", Rtype::A, false)),
        ("static MX with additional", ("example.com.", Rtype::MX, false)),
        ("NXDOMAIN", ("nowhere.example.com.", Rtype::A, false)),
        ("referral with glue", ("www.partner.example.com.", Rtype::A, false)),
        ("REFUSED", ("www.example.net.", Rtype::A, false)),
    ]);
    let mut group = criterion.benchmark_group("respond");
    for (title, (qname, qtype, has_subnet)) in cases {
        let queries: Vec<Vec<u8>> = clients
            .iter()
            .map(|&client| {
                let client = Ipv4Addr::from(u32::from(client) & 0xffff_ff00);
                query(&name(qname), qtype, if has_subnet { subnet(client) } else { None })
            })
            .collect();
        group.bench_function(title, |bencher| {
            let mut worker = Worker::with_limiter(Limiter::new(1 << 16, 1).expect("random numbers"));
            let mut now_ms = 0;
            let mut out = [0; 1232];
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 1) % CLIENTS;
                // A million queries a second.
                now_ms += u64::from(at % 1000 == 0);
                let client = if has_subnet { Ipv4Addr::new(9, 9, 9, 9) } else { clients[at] };
                let request =
                    Request { bytes: &queries[at], client: client.into(), transport: Transport::Udp, now_ms };
                black_box(respond(&mut worker, black_box(&request), &snapshot, &board, &mut out))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, responses);
criterion_main!(benches);
