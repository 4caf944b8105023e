//! Instructions per query, which do not drift as times do: a budget for each kind of answer, and bounds between them.
//! Needs valgrind. It is run by `.ci/run`, so that no change makes the query path slower unseen.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use meridian::health::board::{Board, Verdict};
use meridian::nameserver::limit::Limiter;
use meridian::nameserver::{Request, Transport, Worker, respond};
use meridian::observe::countries;
use meridian::observe::query_log::{Sampler, ring};
use meridian::observe::tally::Tally;
use meridian::reload::Reloader;
use meridian::snapshot::Snapshot;
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};

#[path = "world/mod.rs"]
mod world;

/// Tells the child of valgrind from the bench.
const CHILD: &str = "MERIDIAN_INSTRUCTIONS";
/// Queries of each kind.
const COUNT: usize = 2048;
/// No shape of query costs more than so many times the median of all kinds: none of three hundred sites being up is the worst.
const WORST_SHAPE: u64 = 10;

/// Who asks for what; `#` in the name is a random label.
struct Kind {
    /// Octets that are overwritten at random.
    changed: usize,
    /// What a query is filled up with that nobody needs.
    stuff: fn(&mut Vec<u8>),
    title: &'static str,
    qname: String,
    qtype: Rtype,
    has_subnet: bool,
    /// From where the queries come, one each.
    clients: fn(usize) -> Vec<IpAddr>,
    /// Whether the query log takes one of a hundred.
    is_logged: bool,
    /// Whether one of a hundred is counted by country.
    is_counted: bool,
    /// Where it is asked.
    served: Served,
    /// Instructions per query that it may take.
    budget: u64,
}

/// What is served.
#[derive(Clone, Copy, PartialEq)]
enum Served {
    /// The sample, and a zone of odd shapes.
    Sample,
    /// The same, where the service spills.
    Roomy,
    /// The same, and its sites are full.
    Full,
    /// Three hundred sites, most of them down.
    Many,
}

impl Served {
    const ALL: [Served; 4] = [Served::Sample, Served::Roomy, Served::Full, Served::Many];
}

fn kinds() -> Vec<Kind> {
    let kind = |title, qname: &str, qtype, has_subnet, budget| Kind {
        title,
        qname: qname.to_owned(),
        qtype,
        has_subnet,
        clients: of_ipv4,
        budget,
        changed: 0,
        stuff: |_| {},
        is_logged: false,
        is_counted: false,
        served: Served::Sample,
    };
    vec![
        kind("steered A, client subnet", "www.example.com.", Rtype::A, true, 3_330),
        kind("steered A, source address", "www.example.com.", Rtype::A, false, 2_680),
        kind("steered A below a wildcard", "#.www.example.com.", Rtype::A, true, 3_470),
        kind("static A", "ns1.example.com.", Rtype::A, false, 1_590),
        kind("static MX with an address", "example.com.", Rtype::MX, false, 1_580),
        kind("NODATA", "ns1.example.com.", Rtype::TXT, false, 1_660),
        kind("NXDOMAIN, random label", "#.example.com.", Rtype::A, false, 1_540),
        kind("referral with glue", "www.partner.example.com.", Rtype::A, false, 1_810),
        kind("REFUSED, random label", "#.example.net.", Rtype::A, false, 900),
        kind("ANY", "example.com.", Rtype::ANY, false, 1_560),
        kind("chain of CNAMEs", "c0.shapes.example.", Rtype::A, false, 10_450),
        kind("chain of DNAMEs", "x.d0.shapes.example.", Rtype::A, false, 7_000),
        kind(
            "NXDOMAIN of 110 labels",
            &format!("{}#.shapes.example.", "a.".repeat(107)),
            Rtype::A,
            false,
            3_620,
        ),
        kind(
            "wildcard under 60 labels",
            &format!("#.{}shapes.example.", "w.".repeat(60)),
            Rtype::A,
            false,
            11_150,
        ),
        kind(
            "chain of CNAMEs, 28 labels each",
            &format!("c0{}.shapes.example.", ".v".repeat(25)),
            Rtype::A,
            true,
            23_000,
        ),
        kind(
            "chain of DNAMEs, 28 labels each",
            &format!("x.d0{}.shapes.example.", ".v".repeat(25)),
            Rtype::A,
            true,
            14_800,
        ),
        Kind {
            served: Served::Many,
            ..kind("16 of 32 sites about as close", "near.many.example.", Rtype::A, true, 24_200)
        },
        Kind {
            served: Served::Many,
            ..kind("one of 300 sites is up", "one.many.example.", Rtype::A, true, 23_700)
        },
        Kind {
            served: Served::Many,
            ..kind("none of 300 sites is up", "none.many.example.", Rtype::A, true, 32_000)
        },
        kind("an RRset that fits into no datagram", "wide.shapes.example.", Rtype::A, false, 1_480),
        Kind { changed: 3, ..kind("www with three octets changed", "www.example.com.", Rtype::A, true, 950) },
        // As much as a datagram takes that no network splits: 280 options, 74 records.
        Kind {
            stuff: options,
            ..kind("1,200 octets of options", "ns1.example.com.", Rtype::A, false, 6_550)
        },
        Kind {
            stuff: records,
            ..kind("1,200 octets of records", "ns1.example.com.", Rtype::A, false, 4_960)
        },
        Kind {
            is_logged: true,
            ..kind("steered A, subnet, query log of 1/100", "www.example.com.", Rtype::A, true, 3_265)
        },
        // Beside each other, for the rate limiter is in the same state: see `main`.
        kind("steered A, subnet, once more", "www.example.com.", Rtype::A, true, 3_245),
        Kind {
            is_counted: true,
            ..kind("steered A, subnet, countries of 1/100", "www.example.com.", Rtype::A, true, 3_255)
        },
        // An address counts with the blocks around it: those of IPv6 are more, and narrower, so that fewer are left to chance.
        Kind {
            clients: of_ipv6,
            ..kind("steered AAAA, IPv6 source address", "www.example.com.", Rtype::AAAA, false, 2_825)
        },
        Kind {
            clients: of_one_block,
            ..kind("the same, from one /64 that floods", "www.example.com.", Rtype::AAAA, false, 2_875)
        },
        // Once a block is near its limit, nothing is left to chance for a while.
        Kind {
            clients: of_ipv6,
            ..kind("the same from anywhere, meanwhile", "www.example.com.", Rtype::AAAA, false, 2_915)
        },
        Kind {
            served: Served::Roomy,
            ..kind("steered A, spill, while all fits", "www.example.com.", Rtype::A, true, 3_460)
        },
        Kind {
            served: Served::Full,
            ..kind("steered A, spill, every site full", "www.example.com.", Rtype::A, true, 3_800)
        },
    ]
}

/// Options that nobody knows, none of which may be passed over unseen: the next could be a cookie.
fn options(query: &mut Vec<u8>) {
    const COUNT: u16 = 280;
    query[11] += 1;
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    query.extend((4 * COUNT).to_be_bytes());
    (0..COUNT).for_each(|_| query.extend([0xff, 0xf0, 0, 0]));
}

/// Records in the additional section, any of which could be an OPT.
fn records(query: &mut Vec<u8>) {
    const COUNT: u8 = 74;
    query[11] += COUNT;
    (0..COUNT).for_each(|number| query.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, number]));
}

fn of_ipv4(count: usize) -> Vec<IpAddr> {
    world::v4_addresses(count).into_iter().map(IpAddr::from).collect()
}

fn of_ipv6(count: usize) -> Vec<IpAddr> {
    world::v6_addresses(count).into_iter().map(IpAddr::from).collect()
}

/// More than a /64 may ask for.
fn of_one_block(count: usize) -> Vec<IpAddr> {
    let network = u128::from(Ipv6Addr::new(0x2001, 0x4860, 1, 2, 0, 0, 0, 0));
    world::v6_addresses(count)
        .into_iter()
        .map(|host| Ipv6Addr::from(network | u128::from(host) & u128::from(u64::MAX)).into())
        .collect()
}

/// Chains as long as anybody would follow them, names as deep as they get.
fn shapes() -> String {
    let mut text =
        String::from("$TTL 60\n@ SOA ns1.example.net. hostmaster 1 2h 1h 2w 60\n@ NS ns1.example.net.\n");
    for link in 0..40 {
        let _ = writeln!(text, "c{link} CNAME c{}", link + 1);
        let _ = writeln!(text, "d{link} DNAME d{}", link + 1);
        for (letter, rtype) in [("c", "CNAME"), ("d", "DNAME")] {
            let deep = ".v".repeat(25);
            let _ = writeln!(text, "{letter}{link}{deep} {rtype} {letter}{}{deep}", link + 1);
        }
    }
    text.push_str("c40 A 192.0.2.1\nx.d40 A 192.0.2.1\n");
    let _ = writeln!(text, "*{} A 192.0.2.1", ".w".repeat(60));
    for host in 0..250 {
        let _ = writeln!(text, "wide A 192.0.2.{host}");
    }
    text
}

fn open(served: Served) -> (Snapshot, Arc<Board>) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: String| fs::write(folder.path().join(file), text).expect("a file");
    if served == Served::Many {
        write("sites.yaml", world::sites_file(300) + MANY_SERVICES);
        write("many.example.yaml", MANY_ZONE.to_owned());
    } else {
        let read = |file| fs::read_to_string(Path::new("zones").join(file)).expect("the sample");
        let sites = read("sites.yaml");
        assert!(sites.contains("\n  web:\n"), "a service to change");
        let spill = "\n  web:\n    spill: true\n";
        write(
            "sites.yaml",
            if served == Served::Sample { sites } else { sites.replace("\n  web:\n", spill) },
        );
        write("example.com.yaml", read("example.com.yaml"));
        write("shapes.example.zone", shapes());
    }
    let reload = Reloader::new(folder.path(), &[PathBuf::from("geodb")], None).reload(false);
    let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
    let board = Board::new(layout);
    match served {
        Served::Sample | Served::Roomy => {}
        Served::Full => {
            let web = board.layout().services.iter().position(|service| service.name == "web");
            for slot in 0..board.layout().shares.len() as u32 {
                board.set_price(slot, 100_000 + slot * 7_777);
            }
            board.set_priced(web.expect("a service") as u16, true);
        }
        Served::Many => {
            for service in &board.layout().services {
                let down = match service.name.as_str() {
                    "one" => &service.targets[1..],
                    "none" => &service.targets[..],
                    _ => &[],
                };
                down.iter().flat_map(Clone::clone).for_each(|slot| board.set_verdict(slot, Verdict::Down));
            }
        }
    }
    (snapshot, Arc::new(board))
}

const MANY_SERVICES: &str =
    "services:\n  one: {}\n  none: {}\n  near: { near: 30000 km, sites_per_answer: 16 }\n";

const MANY_ZONE: &str = "soa: { primary: ns1, contact: h@example.com }\nrecords:\n  '@': { NS: ns1 }\n  \
                         ns1: { A: 192.0.2.53 }\n  near: { service: near }\n  one: { service: one }\n  \
                         none: { service: none }\n";

/// What is counted, once for each kind.
#[inline(never)]
fn answer_all(
    queries: &[(Vec<u8>, IpAddr)],
    earlier: usize,
    worker: &mut Worker,
    snapshot: &Snapshot,
    board: &Arc<Board>,
    tally: &Tally,
    (mut sampler, mut of_countries): (Option<&mut Sampler>, Option<&mut countries::Sampler>),
) {
    let mut out = [0; 1232];
    // A million queries a second, so that the rate limiter counts as it does under load.
    for (number, (bytes, client)) in (earlier as u64..).zip(queries) {
        let now_ms = 1_000_000 + number / 1000;
        let request = Request { bytes, client: *client, transport: Transport::Udp, now_ms };
        let outcome = respond(worker, black_box(&request), snapshot, board, &mut out);
        tally.count(0, snapshot, black_box(&outcome));
        if let Some(sampler) = &mut sampler {
            sampler.see(&request, snapshot, board, &outcome);
        }
        if let Some(of_countries) = &mut of_countries {
            of_countries.see(&request, &outcome);
        }
    }
}

fn play() {
    let worlds = Served::ALL.map(|served| {
        let (snapshot, board) = open(served);
        let tally = Tally::new(1, &snapshot, board.layout());
        (served, snapshot, board, tally)
    });
    let mut worker = Worker::with_limiter(Limiter::new(1 << 16, 1).expect("random numbers"));
    let (mut sampler, _samples) = ring(100, COUNT);
    let (mut of_countries, _origins) = countries::ring(100, COUNT);
    let mut numbers = world::Numbers::new(5);
    for (index, kind) in kinds().into_iter().enumerate() {
        let queries: Vec<(Vec<u8>, IpAddr)> = (kind.clients)(COUNT)
            .into_iter()
            .map(|client| {
                let label = format!("{:012x}", numbers.next() >> 16);
                let name = Name::parse(&kind.qname.replace('#', &label), None).expect("a name");
                let length = if client.is_ipv4() { 24 } else { 56 };
                let subnet = IpNetwork::new(client, length).expect("a subnet");
                let subnet = IpNetwork::new(subnet.network(), length).expect("a subnet");
                let mut bytes = query(&name, kind.qtype, kind.has_subnet.then_some(subnet));
                (kind.stuff)(&mut bytes);
                for _ in 0..kind.changed {
                    let at = numbers.below(bytes.len());
                    bytes[at] = numbers.next() as u8;
                }
                (bytes, client)
            })
            .collect();
        let sampler = kind.is_logged.then_some(&mut sampler);
        let of_countries = kind.is_counted.then_some(&mut of_countries);
        let samplers = (sampler, of_countries);
        let (_, snapshot, board, tally) =
            worlds.iter().find(|(served, ..)| *served == kind.served).expect("one of them");
        answer_all(&queries, index * COUNT, &mut worker, snapshot, board, tally, samplers);
    }
}

fn overflow_is_checked() -> bool {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let is_panic = std::panic::catch_unwind(|| black_box(u8::MAX) + black_box(1)).is_err();
    std::panic::set_hook(told);
    is_panic
}

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return play();
    }
    // `cargo test` and `cargo bench --no-run` have no need of it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // What is counted is what is shipped: there a wrong length is a panic that is counted, and no wrong answer.
    assert!(overflow_is_checked(), "the release profile does not check for overflow");
    let kinds = kinds();
    let counts = world::callgrind::count("instructions::answer_all", CHILD);
    assert_eq!(counts.len(), kinds.len(), "a sum of each kind");
    let counts: Vec<u64> = counts.into_iter().map(|count| count / COUNT as u64).collect();
    let mut failures = String::new();
    println!("{:40} {:>12} {:>8}", "kind of answer", "instructions", "budget");
    for (kind, count) in kinds.iter().zip(&counts) {
        println!("{:40} {count:12} {:8}", kind.title, kind.budget);
        if *count > kind.budget {
            let _ = writeln!(failures, "{}: {count} instructions, {} allowed", kind.title, kind.budget);
        }
    }
    let mut sorted = counts.clone();
    sorted.sort_unstable();
    let median = sorted[sorted.len() / 2];
    for (kind, count) in kinds.iter().zip(&counts).filter(|(_, count)| **count > WORST_SHAPE * median) {
        let _ = writeln!(
            failures,
            "{}: {count} instructions are {} times the median",
            kind.title,
            count / median
        );
    }
    let of =
        |title: &str| counts[kinds.iter().position(|kind| kind.title.starts_with(title)).expect("a kind")];
    let (hit, miss) = (of("static A"), of("NXDOMAIN, random"));
    println!("random names cost {:.2} times what names that exist do", miss as f64 / hit as f64);
    if miss * 10 > hit * 12 {
        let _ = writeln!(
            failures,
            "a flood of random names costs {miss}, names that exist {hit}: more than 1.2 times"
        );
    }
    let (plain, counted) = (of("steered A, subnet, once more"), of("steered A, subnet, countries"));
    println!("counting countries costs {:.1}%", 100.0 * (counted as f64 / plain as f64 - 1.0));
    if counted * 100 > plain * 101 {
        let _ = writeln!(
            failures,
            "counting countries costs {counted} instead of {plain}: more than a hundredth"
        );
    }
    if !failures.is_empty() {
        eprint!("{failures}");
        std::process::exit(1);
    }
}
