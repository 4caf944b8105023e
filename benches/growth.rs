//! What a query costs while what is served grows: names, zones, sites, and how much of the client's address is known.
//! Instructions, which do not drift, and time where everything is asked for at random, so that memory has to be waited for.
//! Needs valgrind. `MERIDIAN_CITY_DB` puts the sites over a full city database; `--instructions` leaves the time out, as `.ci/run`
//! does: who shares a machine shares its memory.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use meridian::catchment::Catchments;
use meridian::finding::{Findings, Source};
use meridian::health::board::{Board, Layout};
use meridian::nameserver::ahead;
use meridian::nameserver::limit::Limiter;
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond};
use meridian::observe::tally::Tally;
use meridian::reload::Reloader;
use meridian::snapshot::{Snapshot, ZoneToPublish};
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};
use meridian::zone::{Owners, compile, master};

#[path = "world/mod.rs"]
mod world;

use world::Numbers;

/// Tells the child of valgrind from the bench.
const CHILD: &str = "MERIDIAN_GROWTH";
/// Queries that are counted of each size.
const COUNTED: usize = 2048;
/// Queries that are timed of each size, others in each round.
const TIMED: usize = 1 << 16;
/// Of which the median counts. All sizes take turns, so that whatever else the machine does hits all alike.
const ROUNDS: usize = 9;
/// From the smallest to the largest: instructions, in tenths.
const INSTRUCTIONS_GROW: u64 = 15;
/// The same in time.
const TIME_GROWS: f64 = 3.0;

/// What grows, and how it is asked for.
struct Axis {
    title: &'static str,
    /// From the smallest to the largest.
    sizes: Vec<Size>,
}

struct Size {
    title: String,
    served: Rc<Served>,
    /// Something of it, at random.
    ask: Box<dyn Fn(&mut Numbers) -> Asked>,
}

struct Served {
    snapshot: Snapshot,
    board: Board,
    tally: Tally,
}

struct Asked {
    bytes: Vec<u8>,
    client: IpAddr,
}

fn axes() -> Vec<Axis> {
    let names = [1, 1_000, 1_000_000].map(|count| (count, Rc::new(one_zone(count))));
    let of_names = |title, label: fn(usize) -> String| Axis {
        title,
        sizes: names
            .iter()
            .map(|(count, served)| {
                let count = *count;
                let ask = move |numbers: &mut Numbers| {
                    let qname = format!("{}.example.com.", label(numbers.below(count)));
                    plain(&qname, numbers)
                };
                Size { title: format!("{count} names"), served: Rc::clone(served), ask: Box::new(ask) }
            })
            .collect(),
    };
    let zones = Axis {
        title: "a name in one of many zones",
        sizes: [1, 100, 10_000]
            .map(|count| {
                let ask = move |numbers: &mut Numbers| {
                    let (zone, host) = (numbers.below(count), numbers.below(HOSTS));
                    plain(&format!("host{host}.zone{zone}.example."), numbers)
                };
                Size {
                    title: format!("{count} zones"),
                    served: Rc::new(many_zones(count)),
                    ask: Box::new(ask),
                }
            })
            .into(),
    };
    let sites = [6, 50, 300].map(|count| (count, Rc::new(many_sites(count))));
    let of_sites = |title, rtype, length, address| Axis {
        title,
        sizes: sites
            .iter()
            .map(|(count, served)| Size {
                title: format!("{count} sites"),
                served: Rc::clone(served),
                ask: Box::new(move |numbers| steered(rtype, length, address, numbers)),
            })
            .collect(),
    };
    let of_lengths = |title, rtype, lengths: [u8; 4], address| Axis {
        title,
        sizes: lengths
            .map(|length| Size {
                title: format!("/{length}"),
                served: Rc::clone(&sites[2].1),
                ask: Box::new(move |numbers| steered(rtype, length, address, numbers)),
            })
            .into(),
    };
    vec![
        of_names("a name of one zone", |number| format!("host{number}")),
        of_names("a name that it has not", |number| format!("guest{number}")),
        zones,
        of_sites("the nearest site, IPv4 /24", Rtype::A, 24, of_ipv4),
        of_sites("the nearest site, IPv6 /56", Rtype::AAAA, 56, of_ipv6),
        of_lengths("the nearest of 300 sites, IPv4", Rtype::A, [8, 16, 24, 32], of_ipv4),
        of_lengths("the nearest of 300 sites, IPv6", Rtype::AAAA, [32, 40, 48, 56], of_ipv6),
    ]
}

/// Hosts of each of many zones.
const HOSTS: usize = 10;

fn one_zone(names: usize) -> Served {
    let zone = zone("example.com.", names);
    serve(&[zone])
}

fn many_zones(count: usize) -> Served {
    let zones: Vec<ZoneToPublish> =
        (0..count).map(|number| zone(&format!("zone{number}.example."), HOSTS)).collect();
    serve(&zones)
}

fn zone(apex: &str, hosts: usize) -> ZoneToPublish {
    let name = Name::parse(apex, None).expect("a name");
    let mut text = String::from("$TTL 60\n@ SOA ns1 hostmaster 1 1h 10m 2w 5m\n@ NS ns1\nns1 A 192.0.2.1\n");
    for number in 0..hosts {
        let _ = writeln!(text, "host{number} A 192.0.2.1");
    }
    let mut findings = Findings::new();
    let file = master::read(&Source::new("zone", text), &name, None, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    let zone = compile::compile(&file, Owners::of(&file), None).expect("the zone is sound");
    ZoneToPublish { name, zone: Some(Arc::new(zone)), services: Vec::new() }
}

fn serve(zones: &[ZoneToPublish]) -> Served {
    let (snapshot, layout) = Snapshot::new(1, zones, Arc::new(Catchments::default()));
    Served::new(snapshot, layout)
}

fn many_sites(count: usize) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let sites = world::sites_file(count) + "services: { web: {} }\n";
    let zone = "soa: { primary: ns1, contact: h@example.com }\nrecords:\n  \"@\": { NS: ns1 }\n  \
                ns1: { A: 192.0.2.53 }\n  www: { service: web }\n";
    fs::write(folder.path().join("sites.yaml"), sites).expect("a file");
    fs::write(folder.path().join("example.com.yaml"), zone).expect("a file");
    let geodb: Vec<PathBuf> = match std::env::var("MERIDIAN_CITY_DB") {
        Ok(paths) => paths.split(':').map(PathBuf::from).collect(),
        Err(_) => vec![PathBuf::from("geodb")],
    };
    let reload = Reloader::new(folder.path(), &geodb, None).reload(false);
    let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
    Served::new(snapshot, layout)
}

impl Served {
    fn new(snapshot: Snapshot, layout: Layout) -> Served {
        let board = Board::new(layout);
        let tally = Tally::new(1, &snapshot, board.layout());
        Served { snapshot, board, tally }
    }
}

fn plain(qname: &str, numbers: &mut Numbers) -> Asked {
    let name = Name::parse(qname, None).expect("a name");
    Asked { bytes: query(&name, Rtype::A, None), client: of_ipv4(numbers) }
}

fn steered(rtype: Rtype, length: u8, address: fn(&mut Numbers) -> IpAddr, numbers: &mut Numbers) -> Asked {
    let name = Name::parse("www.example.com.", None).expect("a name");
    let subnet = IpNetwork::new(address(numbers), length).expect("a subnet");
    let subnet = IpNetwork::new(subnet.network(), length).expect("a subnet");
    Asked { bytes: query(&name, rtype, Some(subnet)), client: of_ipv4(numbers) }
}

fn of_ipv4(numbers: &mut Numbers) -> IpAddr {
    IpAddr::V4((numbers.next() as u32).into())
}

fn of_ipv6(numbers: &mut Numbers) -> IpAddr {
    IpAddr::V6(world::v6_address(numbers))
}

/// What is counted and timed, once for each size.
#[inline(never)]
fn answer_all(queries: &[Asked], worker: &mut Worker, served: &Served) -> usize {
    let mut out = [0; 1232];
    let mut octets = 0;
    // A million queries a second in full batches, so that the rate limiter counts as it does under load.
    for (number, batch) in (0_u64..).zip(queries.chunks(ahead::MOST)) {
        let now_ms = 1_000_000 + number * ahead::MOST as u64 / 1000;
        worker.look_ahead(batch.iter().map(|asked| asked.bytes.as_slice()), &served.snapshot);
        for Asked { bytes, client } in batch {
            let request = Request { bytes, client: *client, transport: Transport::Udp, now_ms };
            let outcome = respond(worker, black_box(&request), &served.snapshot, &served.board, &mut out);
            served.tally.count(0, &served.snapshot, black_box(&outcome));
            octets += black_box(&outcome).length().unwrap_or_default();
        }
    }
    octets
}

fn new_worker() -> Worker {
    Worker::with_limiter(Limiter::new(1 << 16, 1).expect("random numbers"))
}

fn play() {
    let mut numbers = Numbers::new(5);
    for axis in axes() {
        for size in &axis.sizes {
            let queries: Vec<Asked> = (0..COUNTED).map(|_| (size.ask)(&mut numbers)).collect();
            answer_all(&queries, &mut new_worker(), &size.served);
        }
    }
}

/// Nanoseconds per query of each size, by round.
fn time(axis: &Axis, numbers: &mut Numbers) -> Vec<Vec<f64>> {
    let mut rounds = vec![Vec::new(); axis.sizes.len()];
    let mut workers: Vec<Worker> = axis.sizes.iter().map(|_| new_worker()).collect();
    for _ in 0..ROUNDS {
        for ((size, worker), rounds) in axis.sizes.iter().zip(&mut workers).zip(&mut rounds) {
            let queries: Vec<Asked> = (0..TIMED).map(|_| (size.ask)(numbers)).collect();
            let begin = Instant::now();
            black_box(answer_all(&queries, worker, &size.served));
            rounds.push(begin.elapsed().as_nanos() as f64 / TIMED as f64);
        }
    }
    rounds
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// That it is the answer which is meant: a server that refuses everything grows well.
fn look_at_answers(axis: &Axis, numbers: &mut Numbers) {
    for size in &axis.sizes {
        let Asked { bytes, client } = (size.ask)(numbers);
        let request = Request { bytes: &bytes, client, transport: Transport::Udp, now_ms: 1 };
        let Served { snapshot, board, .. } = &*size.served;
        let mut out = [0; 1232];
        let outcome = respond(&mut new_worker(), &request, snapshot, board, &mut out);
        let Outcome::Responded(responded) = outcome else { panic!("{}: {outcome:?}", axis.title) };
        let (rcode, answers) = (responded.rcode.0, out[7]);
        let expected = if axis.title == "a name that it has not" { (3, 0) } else { (0, 1) };
        assert_eq!((rcode, answers), expected, "{}, {}", axis.title, size.title);
    }
}

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return play();
    }
    // `cargo test` and `cargo bench --no-run` have no need of it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let has_time = !std::env::args().any(|argument| argument == "--instructions");
    let axes = axes();
    let mut numbers = Numbers::new(6);
    axes.iter().for_each(|axis| look_at_answers(axis, &mut numbers));
    let mut counts = world::callgrind::count("growth::answer_all", CHILD).into_iter();
    let mut failures = String::new();
    println!("{:36} {:>14} {:>12} {:>6} {:>6} {:>6}", "what grows", "", "instructions", "x", "ns", "x");
    for axis in &axes {
        let rounds = if has_time { time(axis, &mut numbers) } else { vec![vec![f64::NAN]; axis.sizes.len()] };
        let mut smallest = None;
        for (size, of_size) in axis.sizes.iter().zip(&rounds) {
            let count = counts.next().expect("a sum of each size") / COUNTED as u64;
            let base = *smallest.get_or_insert(count);
            // Within a round, so that what the machine does besides does not matter.
            let times = of_size.iter().zip(&rounds[0]).map(|(time, base)| time / base).collect();
            let (time, growth) = (median(of_size.clone()), median(times));
            println!(
                "{:36} {:>14} {count:12} {:6.2} {time:6.0} {growth:6.2}",
                axis.title,
                size.title,
                count as f64 / base as f64
            );
            if count * 10 > base * INSTRUCTIONS_GROW {
                let _ = writeln!(
                    failures,
                    "{}, {}: {count} instructions, {base} at first",
                    axis.title, size.title
                );
            }
            if growth > TIME_GROWS {
                let _ = writeln!(
                    failures,
                    "{}, {}: {growth:.2} times as long as at first",
                    axis.title, size.title
                );
            }
        }
    }
    if !failures.is_empty() {
        eprint!("{failures}");
        std::process::exit(1);
    }
}
