//! The threads that answer: sockets bound first, read when there is something to answer from.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ipnetwork::IpNetwork;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch as flag;
use tracing::{error, warn};

use super::encrypted::Encrypted;
use super::published::Published;
use super::systemd::Passed;
use crate::config::Config;
use crate::nameserver::counters::{Counters, Totals};
use crate::nameserver::limit::Limiter;
use crate::nameserver::{Request, Transport, Worker, respond};
use crate::observe::{countries, query_log};
use crate::transport::{self, Responder, Stop, tcp, udp};

/// Sockets that are bound and not read yet: the kernel keeps what comes until there is something to answer from.
pub(super) struct Listeners {
    udp: Vec<(UdpSocket, Vec<IpNetwork>)>,
    tcp: Vec<tcp::Entrance>,
    encrypted: Encrypted,
    addresses: Vec<SocketAddr>,
}

impl Listeners {
    pub(super) fn bind(config: &Config, passed: &mut Passed) -> Result<Listeners, String> {
        let workers = match config.workers {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let mut listeners = Listeners {
            udp: Vec::new(),
            tcp: Vec::new(),
            encrypted: Encrypted::default(),
            addresses: Vec::new(),
        };
        for listener in &config.listen {
            let address = listener.address;
            let told = |error: io::Error| {
                let hint = match error.kind() {
                    io::ErrorKind::AddrInUse => "; does another server run there?",
                    io::ErrorKind::PermissionDenied => {
                        "; ports below 1024 need root, CAP_NET_BIND_SERVICE or a systemd socket"
                    }
                    io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
                    _ => "",
                };
                format!("cannot listen on {address}: {error}{hint}")
            };
            if let Some(address) = listeners.encrypted.bind(listener, passed).map_err(told)? {
                listeners.addresses.push(address);
                continue;
            }
            // TCP first: it refuses an address that another process uses, UDP would share it.
            let (tcp, udp) = bind_both(address, workers, passed).map_err(told)?;
            passed.keep("tcp", address, &tcp).map_err(told)?;
            if let Ok(at) = tcp.local_addr() {
                udp.iter().try_for_each(|socket| passed.keep("udp", at, socket)).map_err(told)?;
            }
            listeners.addresses.extend(tcp.local_addr());
            let proxy_from = &listener.proxy_from;
            listeners.tcp.push(tcp::Entrance { listener: tcp, proxy_from: proxy_from.clone() });
            listeners.udp.extend(udp.into_iter().map(|socket| (socket, proxy_from.clone())));
        }
        Ok(listeners)
    }

    /// Threads that are going to answer.
    pub(super) fn workers(&self) -> usize {
        self.udp.len() + 1 + self.encrypted.threads()
    }

    pub(super) fn serve(
        self,
        published: &Arc<ArcSwap<Published>>,
        query_log: Option<query_log::Log>,
        countries: Option<countries::Countries>,
    ) -> Result<Servers, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stopped) = flag::channel(Stop::No);
        let mut servers = Servers {
            threads: Vec::new(),
            counters: Vec::new(),
            transports: Vec::new(),
            panics: Arc::default(),
            rings: query_log,
            query_log: None,
            origins: countries,
            countries: None,
            stop,
            stop_tcp,
            may_read_quic: Arc::default(),
            addresses: self.addresses,
        };
        let addresses: Vec<_> = self.udp.iter().map(|(socket, _)| socket.local_addr().ok()).collect();
        let entries = published.load().snapshot.policy().rate_limit.entries;
        for (number, (socket, proxy_from)) in self.udp.into_iter().enumerate() {
            let mut answerer = servers.answerer(published, Transport::Udp);
            let workers = addresses.iter().filter(|address| **address == addresses[number]).count();
            let limiter = Limiter::new(entries, workers);
            answerer.worker.set_limiter(limiter.map_err(|error| format!("no random numbers: {error}"))?);
            let stop = Arc::clone(&servers.stop);
            let name = format!("udp-{number}");
            let counters = servers.transport(&name);
            servers.spawn(name, move || udp::serve(&socket, &proxy_from, &mut answerer, &counters, &stop))?;
        }
        let answerer = servers.answerer(published, Transport::Tcp);
        let entrances = self.tcp;
        let counters = servers.transport("tcp");
        let connections = connections(1 + self.encrypted.stream_threads());
        let limits = tcp::Limits { connections, ..tcp::Limits::default() };
        self.encrypted.serve(&mut servers, published, limits, &stopped)?;
        servers.spawn("tcp".to_owned(), move || {
            if let Err(error) = tcp::serve(entrances, answerer, limits, counters, stopped) {
                error!("TCP is not served: {error}");
            }
        })?;
        let started = servers.rings.take().map(|log| log.start(super::give_way)).transpose();
        servers.query_log = started.map_err(|error| format!("no thread: {error}"))?;
        let started = servers.origins.take().map(|countries| countries.start(super::give_way)).transpose();
        servers.countries = started.map_err(|error| format!("no thread: {error}"))?;
        Ok(servers)
    }
}

/// Where metrics are told.
pub(super) fn bind_metrics(
    addresses: &[SocketAddr],
    passed: &mut Passed,
) -> Result<Vec<TcpListener>, String> {
    let bind = |&address: &SocketAddr| {
        let bound =
            passed.tcp("metrics", address).and_then(|socket| socket.map_or_else(|| tcp::bind(address), Ok));
        let kept = bound.and_then(|socket| passed.keep("metrics", address, &socket).map(|()| socket));
        kept.map_err(|error| format!("cannot tell metrics at {address}: {error}"))
    };
    addresses.iter().map(bind).collect()
}

/// As many as are allowed, but for the descriptors that checks, reloads and the control socket need: with none left, our
/// own trouble would count every site as up. Takes what the system allows at most. For each of so many threads.
fn connections(threads: usize) -> usize {
    /// Of few, half.
    const RESERVE: u64 = 128;
    let most = tcp::Limits::default().connections;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return most };
    let descriptors = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let left = descriptors - RESERVE.clamp(descriptors / 4, descriptors / 2);
    let connections = most.min(usize::try_from(left).unwrap_or(most) / threads).max(1);
    if connections < most {
        warn!(
            "at most {connections} TCP connections: {descriptors} descriptors are allowed (ulimit -n, LimitNOFILE=)"
        );
    }
    connections
}

/// What systemd passed, or else sockets of our own. Port 0 is chosen by TCP; UDP may find it taken, and then another is tried.
fn bind_both(
    address: SocketAddr,
    workers: usize,
    passed: &mut Passed,
) -> io::Result<(TcpListener, Vec<UdpSocket>)> {
    let mut tries = if address.port() == 0 { 20 } else { 1 };
    loop {
        tries -= 1;
        let tcp = passed.tcp("tcp", address)?.map_or_else(|| tcp::bind(address), Ok)?;
        let at = tcp.local_addr()?;
        match passed.udp(at, workers)?.map_or_else(|| udp::bind(at, workers), Ok) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// The threads that answer.
pub(super) struct Servers {
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
    /// What each thread counts besides answers, by its name.
    transports: Vec<(String, Arc<transport::Counters>)>,
    panics: Arc<AtomicU64>,
    /// Until every worker has its own.
    rings: Option<query_log::Log>,
    query_log: Option<query_log::Running>,
    /// Until every worker has its own.
    origins: Option<countries::Countries>,
    countries: Option<countries::Counting>,
    stop: Arc<AtomicBool>,
    stop_tcp: flag::Sender<Stop>,
    /// Not while another process does.
    may_read_quic: Arc<AtomicBool>,
    addresses: Vec<SocketAddr>,
}

impl Servers {
    /// What threads look at that are not woken.
    pub(super) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    pub(super) fn answerer(&mut self, published: &Arc<ArcSwap<Published>>, transport: Transport) -> Answerer {
        let worker = Worker::default();
        let number = self.counters.len();
        self.counters.push(worker.counters());
        Answerer {
            number,
            worker,
            published: arc_swap::Cache::new(Arc::clone(published)),
            sampler: self.rings.as_mut().map(query_log::Log::sampler),
            of_countries: self.origins.as_mut().map(countries::Countries::sampler),
            transport,
            now_ms: 0,
            panics: Arc::clone(&self.panics),
        }
    }

    /// Counters of one thread.
    pub(super) fn transport(&mut self, name: &str) -> Arc<transport::Counters> {
        let counters = Arc::<transport::Counters>::default();
        self.transports.push((name.to_owned(), Arc::clone(&counters)));
        counters
    }

    pub(super) fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let thread =
            thread::Builder::new().name(name).spawn(run).map_err(|error| format!("no thread: {error}"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Messages that cost their own answer.
    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// What all of them counted.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.counters {
            counters.add_to(&mut totals);
        }
        totals
    }

    /// What became of sampled queries, where any are.
    pub(super) fn query_log(&self) -> Option<query_log::Counts> {
        self.query_log.as_ref().map(query_log::Running::counts)
    }

    /// Answers by country, where they are counted.
    pub(super) fn countries(&self) -> Option<countries::Totals> {
        self.countries.as_ref().map(countries::Counting::totals)
    }

    /// Whoever counts by country goes by the databases that there are now.
    pub(super) fn look_at_databases(&mut self) {
        if let Some(countries) = &mut self.countries {
            countries.look_at_databases();
        }
    }

    /// What each thread counted besides, by its name.
    pub(super) fn transports(&self) -> Vec<(String, Vec<(&'static str, u64)>)> {
        self.transports.iter().map(|(name, counters)| (name.clone(), counters.all().collect())).collect()
    }

    /// Has the sockets of QUIC read from now on.
    pub(super) fn read_quic(&self) {
        self.may_read_quic.store(true, Ordering::Relaxed);
    }

    /// Waits until the sockets of QUIC may be read; at once where all is to stop.
    pub(super) fn gate(&self) -> impl FnOnce() + Send + use<> {
        let (gate, stop) = (Arc::clone(&self.may_read_quic), Arc::clone(&self.stop));
        move || {
            while !gate.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Lets nobody in any more, and ends what cannot go on beside another server: returns when that is so.
    pub(super) fn make_room(&mut self) {
        let _ = self.stop_tcp.send(Stop::WhenDone);
        let is_quic =
            |thread: &JoinHandle<()>| thread.thread().name().is_some_and(|name| name.starts_with("quic-"));
        let (quic, others) = self.threads.drain(..).partition(is_quic);
        self.threads = others;
        let quic: Vec<JoinHandle<()>> = quic;
        for thread in quic {
            let _ = thread.join();
        }
    }

    /// What has been read is answered, and nothing more is read but from who is connected.
    pub(super) fn stop_reading(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Nothing is left to be answered.
    pub(super) fn is_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends them, and waits until they did.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stop_tcp.send(Stop::Now);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(query_log) = self.query_log.take() {
            query_log.stop();
        }
        if let Some(countries) = self.countries.take() {
            countries.stop();
        }
    }
}

/// Answers on one thread, from what is published at the time.
pub(super) struct Answerer {
    /// Its row in tallies.
    number: usize,
    worker: Worker,
    published: arc_swap::Cache<Arc<ArcSwap<Published>>, Arc<Published>>,
    sampler: Option<query_log::Sampler>,
    of_countries: Option<countries::Sampler>,
    transport: Transport,
    /// Milliseconds since 1970, as of the last batch.
    now_ms: u64,
    panics: Arc<AtomicU64>,
}

impl Responder for Answerer {
    fn respond(&mut self, message: &[u8], client: IpAddr, out: &mut [u8]) -> Option<usize> {
        let Answerer { number, worker, published, sampler, of_countries, transport, now_ms, panics } = self;
        let Published { snapshot, board, tally } = &**published.load();
        let request = Request { bytes: message, client, transport: *transport, now_ms: *now_ms };
        // Nothing is known to panic. Should a message be found that does, it costs its own answer and no other.
        let answer = AssertUnwindSafe(|| {
            let outcome = respond(worker, &request, snapshot, board, out);
            tally.count(*number, snapshot, &outcome);
            if let Some(sampler) = sampler {
                sampler.see(&request, snapshot, board, &outcome);
            }
            if let Some(of_countries) = of_countries {
                of_countries.see(&request, &outcome);
            }
            outcome.length()
        });
        catch_unwind(answer).unwrap_or_else(|_| {
            panics.fetch_add(1, Ordering::Relaxed);
            None
        })
    }

    fn look_ahead<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>) {
        let Answerer { worker, published, .. } = self;
        worker.look_ahead(messages, &published.load().snapshot);
    }

    fn refresh(&mut self) {
        self.published.load();
        self.now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::board::Board;
    use crate::policy::Policy;
    use crate::reload::Reloader;
    use crate::wire::message::query;
    use crate::wire::{Name, Rtype};

    /// RFC 7828 3.3.2: what the option says is for how long a connection may be idle.
    #[test]
    fn what_clients_are_told_is_how_long_they_may_be_idle() {
        let told = std::time::Duration::from_millis(100) * u32::from(Policy::default().keepalive);
        assert_eq!(told, tcp::Limits::default().idle);
    }

    /// Nothing that arrives is known to do it; but a buffer without room for any response is none that a transport brings.
    #[test]
    fn a_panic_costs_one_answer_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let zone = "soa: { primary: ns1.example.net. }\nrecords: { \"@\": { NS: ns1.example.net. } }\n";
        std::fs::write(folder.path().join("example.com.yaml"), zone).unwrap();
        let no_databases: [std::path::PathBuf; 0] = [];
        let reload = Reloader::new(folder.path(), &no_databases, None).reload(false);
        let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
        let published = Published::new(snapshot, Arc::new(Board::new(layout)), 1);
        let panics = Arc::<AtomicU64>::default();
        let mut answerer = Answerer {
            number: 0,
            worker: Worker::default(),
            published: arc_swap::Cache::new(Arc::new(ArcSwap::from_pointee(published))),
            sampler: None,
            of_countries: None,
            transport: Transport::Udp,
            now_ms: 0,
            panics: Arc::clone(&panics),
        };
        let query = query(&Name::parse("example.com.", None).unwrap(), Rtype::SOA, None);
        let mut respond = |out: &mut [u8]| answerer.respond(&query, [127, 0, 0, 1].into(), out);
        assert_eq!(respond(&mut []), None);
        assert_eq!(panics.load(Ordering::Relaxed), 1);
        assert!(respond(&mut [0; 1232]).is_some());
        assert_eq!(panics.load(Ordering::Relaxed), 1);
    }
}
