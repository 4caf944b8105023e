//! Responses by the country of whoever asked, of one query in so many.
//!
//! ```text
//!   worker    copies where each Nth query came from into a ring of its own, which was made before      (`Sampler`)
//!   ring      one writer, one reader, no lock; what does not fit is lost, and counted
//!   counting  a thread: empties all rings, looks each up in a table of countries, counts               (`Counting`)
//!   compiling a thread for as long as it takes, when geo databases are others than before
//! ```
//!
//! So no query waits for a look-up. Addresses stay in memory, and only until they are looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use tracing::{info, warn};

use crate::finding::Findings;
use crate::geo::by_country::{ByCountry, Whereabouts};
use crate::geo::read::list;
use crate::geo::{Country, Databases};
use crate::nameserver::edns::ClientSubnet;
use crate::nameserver::query::Query;
use crate::nameserver::{Outcome, Request};
use crate::stamp::Stamp;
use crate::wire::Qname;

/// Entries of a ring, at some 40 octets each.
const ENTRIES: usize = 4096;
/// How often rings are emptied; and how soon again where one was a quarter full, so that it does not run over.
const EVERY: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_millis(1);
/// Countries, and one more for what no database knows.
const SLOTS: usize = 256;
const UNKNOWN: usize = SLOTS - 1;

/// Where a query came from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    source: IpAddr,
    /// The client subnet's first address.
    subnet: Option<IpAddr>,
}

/// What one worker could not get rid of.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lost(AtomicU64);

/// The worker's end of a ring.
#[derive(Debug)]
pub struct Sampler {
    every: u32,
    left: u32,
    origins: Producer<Origin>,
    sought: Qname,
    lost: Arc<Lost>,
}

/// The other end.
#[derive(Debug)]
pub struct Origins {
    origins: Consumer<Origin>,
    lost: Arc<Lost>,
}

/// A ring of so many entries, for one query of `every`.
#[must_use]
pub fn ring(every: u32, entries: usize) -> (Sampler, Origins) {
    let (producer, consumer) = RingBuffer::new(entries);
    let lost = Arc::<Lost>::default();
    let origins = Origins { origins: consumer, lost: Arc::clone(&lost) };
    let every = every.max(1);
    (Sampler { every, left: every, origins: producer, sought: Qname::default(), lost }, origins)
}

impl Sampler {
    /// Looks at a query that was answered; copies where it came from if it is its turn.
    #[inline]
    pub fn see(&mut self, request: &Request<'_>, outcome: &Outcome) {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.every;
            self.take(request, outcome);
        }
    }

    #[cold]
    fn take(&mut self, request: &Request<'_>, outcome: &Outcome) {
        if outcome.length().is_none() {
            return;
        }
        // Read once more, for few are sampled and the answer keeps nothing that it does not need.
        let edns = Query::read(request.bytes, &mut self.sought).edns;
        let subnet = edns.and_then(|edns| edns.client_subnet).as_ref().and_then(first_address);
        if self.origins.push(Origin { source: request.client, subnet }).is_err() {
            self.lost.0.store(self.lost.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }
}

/// None for a subnet that asks not to be used (RFC 7871 7.1.2).
fn first_address(subnet: &ClientSubnet) -> Option<IpAddr> {
    let [a, b, c, d, ..] = subnet.address;
    match (subnet.source_prefix_length, subnet.family) {
        (0, _) => None,
        (_, 1) => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => Some(Ipv6Addr::from(subnet.address).into()),
    }
}

/// What was counted.
#[derive(Debug)]
struct Counts([AtomicU64; SLOTS]);

/// What was counted so far, each query of the sample for all that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// One query of so many is looked at.
    pub every: u32,
    /// By code, those that have any.
    pub countries: Vec<(String, u64)>,
    /// Of no country that a database knows.
    pub unknown: u64,
    /// Of the sample, those that found their ring full.
    pub lost: u64,
}

/// The whole of it: rings are made from it, then it is started.
#[derive(Debug)]
pub struct Countries {
    every: u32,
    databases: Vec<PathBuf>,
    rings: Vec<Origins>,
}

impl Countries {
    /// By these databases, of one query of `every`; nothing is read yet.
    #[must_use]
    pub fn new(every: u32, databases: &[PathBuf]) -> Countries {
        Countries { every, databases: databases.to_vec(), rings: Vec::new() }
    }

    /// For one more worker.
    pub fn sampler(&mut self) -> Sampler {
        let (sampler, origins) = ring(self.every, ENTRIES);
        self.rings.push(origins);
        sampler
    }

    /// Begins to count, in a thread that does `first` before all else, as does one that compiles. Until there is a table,
    /// what was sampled waits in its ring.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self, first: fn()) -> std::io::Result<Counting> {
        let Countries { every, databases, rings } = self;
        let counts = Arc::new(Counts(std::array::from_fn(|_| AtomicU64::new(0))));
        let stop = Arc::<AtomicBool>::default();
        let lost = rings.iter().map(|ring| Arc::clone(&ring.lost)).collect();
        let (tables, received) = channel();
        let (own, told) = (Arc::clone(&counts), Arc::clone(&stop));
        let thread = thread::Builder::new().name("countries".to_owned()).spawn(move || {
            first();
            count(rings, &received, &own, &told);
        })?;
        Ok(Counting { every, databases, made_of: Vec::new(), tables, first, counts, lost, stop, thread })
    }
}

fn count(mut rings: Vec<Origins>, tables: &Receiver<ByCountry>, counts: &Counts, stop: &AtomicBool) {
    let mut table: Option<ByCountry> = None;
    while !stop.load(Ordering::Acquire) {
        table = tables.try_iter().last().or(table);
        let mut most = 0;
        if let Some(table) = &table {
            for ring in &mut rings {
                most = most.max(ring.origins.slots());
                while let Ok(origin) = ring.origins.pop() {
                    let slot = origin.slot(table);
                    counts.0[slot].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        thread::park_timeout(if most >= ENTRIES / 4 { SOON } else { EVERY });
    }
}

impl Origin {
    /// As sites are chosen: a client subnet that nobody can be located by gives way to the source address (meaning 3).
    fn slot(self, table: &ByCountry) -> usize {
        let of_subnet = self.subnet.map_or(Whereabouts::Special, |subnet| table.locate(subnet));
        let whereabouts = match of_subnet {
            Whereabouts::Special => table.locate(self.source),
            known => known,
        };
        match whereabouts {
            Whereabouts::Country(number) => usize::from(number),
            Whereabouts::Unknown | Whereabouts::Special => UNKNOWN,
        }
    }
}

/// Counting that goes on.
#[derive(Debug)]
pub struct Counting {
    every: u32,
    databases: Vec<PathBuf>,
    /// The files of the last table that was begun.
    made_of: Vec<(PathBuf, Option<Stamp>)>,
    tables: Sender<ByCountry>,
    first: fn(),
    counts: Arc<Counts>,
    lost: Vec<Arc<Lost>>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Counting {
    /// Has another table compiled if the geo databases are others; the one that there is counts until it is ready.
    pub fn look_at_databases(&mut self) {
        let files = list(&self.databases, &mut Findings::new());
        let stamp = |path: &Path| path.metadata().ok().map(|metadata| Stamp::of(&metadata));
        let made_of: Vec<_> = files.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        let is_first = self.made_of.is_empty();
        if made_of == self.made_of && !made_of.is_empty() {
            return;
        }
        self.made_of = made_of;
        let (paths, tables, first) = (self.databases.clone(), self.tables.clone(), self.first);
        let compile = move || {
            first();
            let mut findings = Findings::new();
            let databases = Databases::open(&paths, &mut findings);
            // Half of what was there would count others wrong; at the start it is better than nothing.
            if findings.has_errors() && !is_first {
                return warn!("answers by country are counted by the databases that were there before");
            }
            let _ = tables.send(ByCountry::compile(&databases));
            info!("answers are counted by country");
        };
        if let Err(error) = thread::Builder::new().name("compile-countries".to_owned()).spawn(compile) {
            warn!("answers are not counted by country: {error}");
        }
    }

    /// So far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let count = |slot: &AtomicU64| slot.load(Ordering::Relaxed) * u64::from(self.every);
        let countries = Country::codes().zip(&self.counts.0).map(|(code, slot)| (code, count(slot)));
        Totals {
            every: self.every,
            countries: countries.filter(|(_, count)| *count > 0).collect(),
            unknown: count(&self.counts.0[UNKNOWN]),
            lost: self.lost.iter().map(|lost| lost.0.load(Ordering::Relaxed)).sum(),
        }
    }

    /// Ends it. To be called after the last worker ended.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::board::Board;
    use crate::nameserver::{Transport, Worker, respond};
    use crate::reload::Reloader;
    use crate::wire::message::query;
    use crate::wire::{Name, Rtype};

    #[test]
    fn a_full_ring_costs_counts_and_no_answers() {
        let folder = tempfile::tempdir().unwrap();
        let zone = "soa: { primary: ns1.example.net. }\nrecords:\n  \"@\": { NS: ns1.example.net. }\n";
        std::fs::write(folder.path().join("example.com.yaml"), zone).unwrap();
        let no_databases: [PathBuf; 0] = [];
        let reload = Reloader::new(folder.path(), &no_databases, None).reload(false);
        let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
        let board = Board::new(layout);
        let question = query(&Name::parse("example.com.", None).unwrap(), Rtype::A, None);
        let (mut sampler, origins) = ring(3, 4);
        let mut countries = Countries::new(3, &no_databases);
        countries.rings.push(origins);
        let mut counting = countries.start(|| {}).unwrap();
        let mut worker = Worker::default();
        let mut out = [0; 1232];
        let mut answer = || {
            let client = IpAddr::from([127, 0, 0, 1]);
            let request = Request { bytes: &question, client, transport: Transport::Udp, now_ms: 0 };
            let outcome = respond(&mut worker, &request, &snapshot, &board, &mut out);
            sampler.see(&request, &outcome);
            assert!(outcome.length().is_some());
        };
        // Ten of them are looked at; before there is a table nobody empties the ring.
        (0..30).for_each(|_| answer());
        counting.look_at_databases();
        let wait_for = |unknown: u64| {
            while counting.totals().unknown < unknown {
                thread::yield_now();
            }
        };
        let totals = |unknown| Totals { every: 3, countries: Vec::new(), unknown, lost: 6 };
        wait_for(12);
        assert_eq!(counting.totals(), totals(12));
        // There is room again.
        (0..3).for_each(|_| answer());
        wait_for(15);
        assert_eq!(counting.totals(), totals(15));
        counting.stop();
    }
}
