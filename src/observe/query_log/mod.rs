//! One query of so many, written down: who asked for what, and what became of it.
//!
//! ```text
//!   worker   sees every query; copies each Nth into a ring of its own, which was made before       (`Sampler`)
//!   ring     one writer, one reader, no lock; what does not fit is lost, and counted
//!   log      a thread: empties all rings, makes lines of JSON, writes and exchanges files          (`Log`, `line`, `file`)
//! ```
//!
//! So no query waits for a disk. Of addresses only the block is copied, a /24 or a /56: the log is to tell where queries come
//! from, not who asks. Names of services and sites are not copied with each query: a ring is told whose slots they are with the
//! first query of each snapshot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ipnetwork::IpNetwork;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::config::QueryLog;
use crate::geo::special::embedded;
use crate::health::board::Board;
use crate::nameserver::client::Client;
use crate::nameserver::edns::ClientSubnet;
use crate::nameserver::limit::Deed;
use crate::nameserver::query::{HEADER_LENGTH, Query};
use crate::nameserver::response::Rcode;
use crate::nameserver::{Given, NoSite, Outcome, Request, Steered, Transport};
use crate::snapshot::Snapshot;
use crate::wire::name::LONGEST;
use crate::wire::{Qname, Rtype};

mod file;
mod line;

use file::File;

/// Entries of a ring, at some 350 octets each.
const ENTRIES: usize = 4096;
/// How often rings are emptied; and how soon again where one was a quarter full, so that it does not run over.
const EVERY: Duration = Duration::from_millis(50);
const SOON: Duration = Duration::from_millis(1);

/// A query, and what became of it.
#[derive(Debug)]
struct Sample {
    /// Whose slots are meant from this one on, where that is another than before.
    board: Option<Arc<Board>>,
    /// Milliseconds since 1970.
    at_ms: u64,
    client: IpNetwork,
    subnet: Option<IpNetwork>,
    transport: Transport,
    qname: [u8; LONGEST],
    /// 0 where no question could be read.
    qname_length: u8,
    qtype: Rtype,
    /// None where nothing was sent.
    rcode: Option<Rcode>,
    steered: Option<Place>,
    /// Of the service, from 1.
    rule: Option<u32>,
    scope: Option<u8>,
    is_truncated: bool,
    limited: Option<Deed>,
}

/// A service's choice, by slot.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the site; of any site of the service where it gave none.
    slot: u32,
    no_site: Option<NoSite>,
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
    samples: Producer<Sample>,
    /// The snapshot whose board the ring was told.
    told: Option<u64>,
    sought: Qname,
    lost: Arc<Lost>,
}

/// The log's end of it.
#[derive(Debug)]
pub struct Samples {
    samples: Consumer<Sample>,
    board: Option<Arc<Board>>,
    lost: Arc<Lost>,
}

/// A ring of so many entries, for one query of `every`.
#[must_use]
pub fn ring(every: u32, entries: usize) -> (Sampler, Samples) {
    let (producer, consumer) = RingBuffer::new(entries);
    let lost = Arc::<Lost>::default();
    let samples = Samples { samples: consumer, board: None, lost: Arc::clone(&lost) };
    let every = every.max(1);
    let sampler =
        Sampler { every, left: every, samples: producer, told: None, sought: Qname::default(), lost };
    (sampler, samples)
}

impl Sampler {
    /// Looks at a query that was answered; copies it if it is its turn.
    #[inline]
    pub fn see(&mut self, request: &Request<'_>, snapshot: &Snapshot, board: &Arc<Board>, outcome: &Outcome) {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.every;
            self.take(request, snapshot, board, outcome);
        }
    }

    #[cold]
    fn take(&mut self, request: &Request<'_>, snapshot: &Snapshot, board: &Arc<Board>, outcome: &Outcome) {
        let mut sample = Sample::of(request, snapshot, outcome, &mut self.sought);
        let number = Some(snapshot.number());
        sample.board = (self.told != number).then(|| Arc::clone(board));
        match self.samples.push(sample) {
            Ok(()) => self.told = number,
            Err(_) => {
                self.lost.0.store(self.lost.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            }
        }
    }
}

impl Sample {
    fn of(request: &Request<'_>, snapshot: &Snapshot, outcome: &Outcome, sought: &mut Qname) -> Sample {
        let mut sample = Sample {
            board: None,
            at_ms: request.now_ms,
            client: block(request.client, u8::MAX),
            subnet: None,
            transport: request.transport,
            qname: [0; LONGEST],
            qname_length: 0,
            qtype: Rtype(0),
            rcode: None,
            steered: outcome.steered().and_then(|steered| Place::of(steered, snapshot)),
            rule: None,
            scope: None,
            is_truncated: false,
            limited: None,
        };
        // Read once more, for few are sampled and the answer keeps nothing that it does not need.
        if !Query::is_none(request.bytes) {
            let query = Query::read(request.bytes, sought);
            if let Some(question) = query.question {
                let name = &request.bytes[HEADER_LENGTH..HEADER_LENGTH + question.name_length];
                sample.qname[..name.len()].copy_from_slice(name);
                sample.qname_length = name.len() as u8;
                sample.qtype = question.qtype;
            }
            let subnet = query.edns.and_then(|edns| edns.client_subnet);
            sample.subnet = subnet.as_ref().and_then(block_of_subnet);
            if let Some(Steered { service, .. }) = outcome.steered() {
                let (client, uses_subnet) =
                    (Client::new(request.client, subnet.as_ref()), snapshot.service(service).ecs);
                let rule = client.rule(snapshot.catchments(), service, uses_subnet);
                sample.rule = rule.map(|rule| rule as u32 + 1);
            }
        }
        match outcome {
            Outcome::Dropped => {}
            Outcome::Limited(limited) => sample.limited = Some(limited.deed),
            Outcome::Responded(responded) => {
                sample.rcode = Some(responded.rcode);
                sample.scope = responded.scope;
                sample.is_truncated = responded.is_truncated;
                sample.limited = responded.limited.map(|limited| limited.deed);
            }
        }
        sample
    }
}

impl Place {
    /// None for a service without sites, whose name no slot tells.
    fn of(steered: Steered, snapshot: &Snapshot) -> Option<Place> {
        let sites = &snapshot.service(steered.service).sites;
        let (site, no_site) = match steered.given {
            Given::Site(site) => (site, None),
            Given::NoSite(why) => (0, Some(why)),
        };
        sites.get(usize::from(site)).map(|site| Place { slot: site.share, no_site })
    }
}

/// The block around an address that is told of it, no longer than `most`. Of an IPv6 address that holds an IPv4 one (6to4), no
/// more of that is told than of any other.
fn block(address: IpAddr, most: u8) -> IpNetwork {
    let (longest, nowhere) = match address {
        IpAddr::V4(_) => (24, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(address) => {
            let longest = embedded(address).map_or(56, |embedded| (embedded.offset + 24).min(56));
            (longest, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
    };
    let length = most.min(longest);
    let around = IpNetwork::new(address, length).and_then(|block| IpNetwork::new(block.network(), length));
    // It is never too long; if it were, rather nothing than the address.
    around.unwrap_or_else(|_| nowhere.into())
}

fn block_of_subnet(subnet: &ClientSubnet) -> Option<IpNetwork> {
    let address = match subnet.family {
        1 => IpAddr::from([subnet.address[0], subnet.address[1], subnet.address[2], subnet.address[3]]),
        2 => IpAddr::from(subnet.address),
        _ => return None,
    };
    Some(block(address, subnet.source_prefix_length))
}

impl Samples {
    /// Everything that is there, oldest first; gives how many there were.
    fn empty_into(&mut self, mut write: impl FnMut(&Sample, Option<&Board>)) -> usize {
        let mut count = 0;
        while let Ok(mut sample) = self.samples.pop() {
            if let Some(board) = sample.board.take() {
                self.board = Some(board);
            }
            write(&sample, self.board.as_deref());
            count += 1;
        }
        count
    }
}

/// What became of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that were written.
    pub written: u64,
    /// Those that could not be: no room on the disk, no permission.
    pub unwritten: u64,
    /// Samples that found their ring full.
    pub lost: u64,
}

/// The whole log: rings are made from it, then it is started.
#[derive(Debug)]
pub struct Log {
    every: u32,
    rings: Vec<Samples>,
    file: File,
}

/// A log that runs.
#[derive(Debug)]
pub struct Running {
    lost: Vec<Arc<Lost>>,
    file: Arc<file::Counts>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Log {
    /// As it is configured; nothing is opened yet.
    #[must_use]
    pub fn new(config: &QueryLog) -> Log {
        Log { every: config.sample, rings: Vec::new(), file: File::new(config) }
    }

    /// For one more worker.
    pub fn sampler(&mut self) -> Sampler {
        let (sampler, samples) = ring(self.every, ENTRIES);
        self.rings.push(samples);
        sampler
    }

    /// Begins to write, in a thread that does `first` before all else.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self, first: fn()) -> std::io::Result<Running> {
        let Log { mut rings, mut file, .. } = self;
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let lost = rings.iter().map(|ring| Arc::clone(&ring.lost)).collect();
        let counts = file.counts();
        let thread = thread::Builder::new().name("query-log".to_owned()).spawn(move || {
            first();
            loop {
                // What was put into rings before it was told to stop is written.
                let is_last = told.load(Ordering::Acquire);
                let mut most = 0;
                for ring in &mut rings {
                    let write = |sample: &Sample, board: Option<&Board>| {
                        file.push(|line| line::write(line, sample, board));
                    };
                    most = most.max(ring.empty_into(write));
                }
                file.flush();
                if is_last {
                    return;
                }
                thread::park_timeout(if most >= ENTRIES / 4 { SOON } else { EVERY });
            }
        })?;
        Ok(Running { lost, file: counts, stop, thread })
    }
}

impl Running {
    /// So far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            written: self.file.written.load(Ordering::Relaxed),
            unwritten: self.file.unwritten.load(Ordering::Relaxed),
            lost: self.lost.iter().map(|lost| lost.0.load(Ordering::Relaxed)).sum(),
        }
    }

    /// Writes what is left, and ends. To be called after the last worker ended.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nameserver::{Worker, respond};
    use crate::reload::Reloader;
    use crate::wire::Name;
    use crate::wire::message::query;

    #[test]
    fn of_an_address_nothing_is_told_but_its_block() {
        let told = |address: &str, most| block(address.parse().unwrap(), most).to_string();
        assert_eq!(told("192.0.2.77", u8::MAX), "192.0.2.0/24");
        assert_eq!(told("192.0.2.77", 32), "192.0.2.0/24");
        assert_eq!(told("192.168.2.77", 12), "192.160.0.0/12");
        assert_eq!(told("192.0.2.77", 0), "0.0.0.0/0");
        assert_eq!(told("2001:db8:1:2ff:3::4", u8::MAX), "2001:db8:1:200::/56");
        assert_eq!(told("2001:db8:1:2ff:3::4", 48), "2001:db8:1::/48");
        assert_eq!(told("2001:db8::", 0), "::/0");
        assert_eq!(told("2002:c000:24d::1", u8::MAX), "2002:c000:200::/40");
        assert_eq!(told("::ffff:192.0.2.77", u8::MAX), "::/56");
        assert_eq!(told("64:ff9b::192.0.2.77", u8::MAX), "64:ff9b::/56");
        let subnet = ClientSubnet { family: 0, source_prefix_length: 0, address: [0; 16] };
        assert_eq!(block_of_subnet(&subnet), None);
    }

    #[test]
    fn a_full_ring_costs_lines_and_no_answers() {
        let folder = tempfile::tempdir().unwrap();
        let zone = "soa: { primary: ns1.example.net. }\nrecords:\n  \"@\": { NS: ns1.example.net. }\n  v: { TXT: v }\n";
        std::fs::write(folder.path().join("example.com.yaml"), zone).unwrap();
        let no_databases: [std::path::PathBuf; 0] = [];
        let reload = Reloader::new(folder.path(), &no_databases, None).reload(false);
        let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
        let board = Arc::new(Board::new(layout));
        let question = query(&Name::parse("v.example.com.", None).unwrap(), Rtype::TXT, None);
        let path = folder.path().join("q.log");
        let config = QueryLog { file: path.clone(), sample: 1, max_size: 1 << 20, keep: 1 };
        let (mut sampler, samples) = ring(1, 4);
        let mut log = Log::new(&config);
        log.rings.push(samples);
        let mut worker = Worker::default();
        let mut out = [0; 1232];
        let mut answer = |now_ms| {
            let client = IpAddr::from([127, 0, 0, 1]);
            let request = Request { bytes: &question, client, transport: Transport::Udp, now_ms };
            let outcome = respond(&mut worker, &request, &snapshot, &board, &mut out);
            sampler.see(&request, &snapshot, &board, &outcome);
            assert!(matches!(outcome, Outcome::Responded(responded) if responded.rcode == Rcode::NOERROR));
        };
        // Nobody empties it yet.
        (0..10).for_each(&mut answer);
        let running = log.start(|| {}).unwrap();
        let wait_for = |written: u64| {
            while running.counts().written < written {
                thread::yield_now();
            }
        };
        wait_for(4);
        assert_eq!(running.counts(), Counts { written: 4, unwritten: 0, lost: 6 });
        // There is room again.
        answer(10);
        wait_for(5);
        assert_eq!(running.counts(), Counts { written: 5, unwritten: 0, lost: 6 });
        running.stop();
        let text = std::fs::read_to_string(path).unwrap();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let times: Vec<_> = text.lines().map(|text| line(text)["time"].clone()).collect();
        let expected = [0, 1, 2, 3, 10].map(|ms| format!("1970-01-01T00:00:00.{ms:03}Z"));
        assert_eq!(times, expected);
    }
}
