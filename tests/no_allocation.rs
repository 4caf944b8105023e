//! The query path allocates nothing, whatever is asked: each response is counted on its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian::health::board::{Board, Layout, Share, Verdict};
use meridian::nameserver::limit::Limiter;
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond};
use meridian::observe::countries;
use meridian::observe::query_log::ring;
use meridian::observe::tally::Tally;
use meridian::policy::Policy;
use meridian::policy::rate_limit::{Mode, Prices, RateLimit, Rates};
use meridian::reload::Reloader;
use meridian::snapshot::Snapshot;
use meridian::wire::{Name, Rtype};

#[path = "support/question.rs"]
mod question;

use question::Question;

fn sample() -> (Snapshot, Layout) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let zones: PathBuf = root.join("zones");
    let reload = Reloader::new(&zones, &[root.join("geodb")], None).reload(false);
    let (snapshot, layout) = reload.snapshot.expect("the sample is served");
    let prices = Prices::new(&Rates { per_second: 50, burst: None, nxdomain_per_second: 10 });
    let rate_limit = RateLimit { mode: Mode::On, slip: 2, prices, ..RateLimit::default() };
    (snapshot.with_policy(Arc::new(Policy { rate_limit, ..Policy::default() })), layout)
}

/// Names of every kind that the sample has.
const NAMES: [&str; 14] = [
    "www.example.com.",
    "example.com.",
    "shop.www.example.com.",
    "WwW.eXaMpLe.CoM.",
    "demo.example.com.",
    "ns1.example.com.",
    "blog.example.com.",
    "shop.old.example.com.",
    "x.partner.example.com.",
    "nowhere.example.com.",
    "tcp.example.com.",
    "www.example.org.",
    "www.example.net.",
    ".",
];

/// Every query on its own; the worker and the buffer are there before.
fn assert_nothing_is_allocated(snapshot: &Snapshot, board: &Arc<Board>, queries: &[Vec<u8>]) {
    // Time stands still here, so that soon all is limited that comes in datagrams.
    let mut worker = Worker::with_limiter(Limiter::new(1 << 10, 1).expect("random numbers"));
    let tally = Tally::new(1, snapshot, board.layout());
    let mut rings = [ring(1, 2 * queries.len()), ring(1, 10)];
    let mut origins = [countries::ring(1, 2 * queries.len()), countries::ring(1, 10)];
    let mut out = vec![0; 65_535];
    for bytes in queries {
        for transport in [Transport::Udp, Transport::Tcp] {
            let client = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
            let request = Request { bytes, client, transport, now_ms: 0 };
            let mut outcome = Outcome::Dropped;
            let allocated = allocation_counter::measure(|| {
                outcome = respond(&mut worker, &request, snapshot, board, &mut out);
                tally.count(0, snapshot, &outcome);
                // Of two rings one is soon full.
                for (sampler, _) in &mut rings {
                    sampler.see(&request, snapshot, board, &outcome);
                }
                for (sampler, _) in &mut origins {
                    sampler.see(&request, &outcome);
                }
            });
            assert_eq!(allocated.count_total, 0, "{bytes:02x?} {outcome:?}");
        }
    }
}

fn questions() -> Vec<Vec<u8>> {
    let rtypes = [
        Rtype::A,
        Rtype::AAAA,
        Rtype::NS,
        Rtype::MX,
        Rtype::TXT,
        Rtype::DS,
        Rtype::ANY,
        Rtype::AXFR,
        Rtype(65_280),
    ];
    let mut queries = Vec::new();
    for name in NAMES {
        for rtype in rtypes {
            let mut question = Question::new(Name::parse(name, None).expect("a name"), rtype);
            queries.push(question.to_wire());
            question.payload = Some(512);
            question.dnssec_ok = true;
            queries.push(question.to_wire());
            for subnet in ["1.1.1.0/24", "10.1.1.0/24", "2a02:6b8::/32", "2002:101:100::/40", "0.0.0.0/0"] {
                question.subnet = subnet.parse().ok();
                queries.push(question.to_wire());
            }
        }
    }
    queries
}

#[test]
fn a_query_allocates_nothing() {
    let (snapshot, layout) = sample();
    assert_nothing_is_allocated(&snapshot, &Arc::new(Board::new(layout)), &questions());
}

#[test]
fn nor_does_one_for_sites_that_are_down_drained_or_shared() {
    let (snapshot, layout) = sample();
    let board = Arc::new(Board::new(layout));
    for round in 0..8_u32 {
        for slot in 0..board.layout().targets.len() as u32 {
            let is_down = round == 7 || (slot + round) % 3 == 0;
            board.set_verdict(slot, if is_down { Verdict::Down } else { Verdict::Up });
        }
        for slot in 0..board.layout().shares.len() as u32 {
            board
                .set_share(slot, [Share::FULL, Share(30_000), Share::DRAINED][((slot + round) % 3) as usize]);
        }
        assert_nothing_is_allocated(&snapshot, &board, &questions());
    }
}

/// Octets changed here and there, and messages cut short.
#[test]
fn nor_does_a_broken_message() {
    let (snapshot, layout) = sample();
    let mut broken = Vec::new();
    for (number, query) in questions().iter().enumerate() {
        for change in 0..12_usize {
            let mut query = query.clone();
            let at = (number * 31 + change * 17) % query.len();
            query[at] ^= 1 << (change % 8);
            query.truncate(query.len() - change % 3);
            broken.push(query);
        }
    }
    assert_nothing_is_allocated(&snapshot, &Arc::new(Board::new(layout)), &broken);
}

/// Where so much is served that memory is had come near beforehand.
#[test]
fn nor_does_looking_ahead() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts: String = (0..20_001).map(|number| format!("host{number} A 192.0.2.1\n")).collect();
    let zone = format!("$TTL 60\n@ SOA ns h 1 2h 1h 2w 60\n@ NS ns\nns A 192.0.2.1\n{hosts}");
    std::fs::write(folder.path().join("example.com.zone"), zone).expect("a file");
    let no_databases: [PathBuf; 0] = [];
    let reload = Reloader::new(folder.path(), &no_databases, None).reload(false);
    let (snapshot, _) = reload.snapshot.expect("it is served");
    assert!(snapshot.is_large());
    let mut worker = Worker::default();
    for batch in questions().chunks(32) {
        let messages = || batch.iter().map(Vec::as_slice);
        let allocated = allocation_counter::measure(|| worker.look_ahead(messages(), &snapshot));
        assert_eq!(allocated.count_total, 0);
    }
}
