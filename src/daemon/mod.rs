//! The running server: start order, every thread and task, shutdown.
//!
//! ```text
//!   udp-0 .. udp-n   a socket each, batches in and out          \
//!   tcp              all connections                             > read `Published`, write their own counters
//!   main             one event after the other: reload, status, stop; publishes snapshots
//!   watch            looks at files, says "changed" to main
//!   slow (2 threads) checks; signals and the control socket, which send events to main
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as flag;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::control::{self, Command, Reply};
use crate::finding::{Findings, Severity};
use crate::health::Health;
use crate::health::board::Board;
use crate::nameserver::counters::{Counters, Totals};
use crate::nameserver::{Request, Transport, Worker, respond};
use crate::reload::{Outcome, Reload, Reloader, in_one_line, watch};
use crate::snapshot::Snapshot;
use crate::transport::{Responder, tcp, udp};

/// How often main looks whether something is left to be tidied up.
const TIDY: Duration = Duration::from_secs(1);

/// What the server is to do besides what the file says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file that the configuration came from, or would come from.
    pub config_path: PathBuf,
    /// Refuse to start with any error in zones, sites, geo databases or expectations.
    pub strict: bool,
}

/// A snapshot and its board, which are swapped together: slots of one mean nothing in another.
struct Published {
    snapshot: Snapshot,
    board: Arc<Board>,
}

/// What main waits for.
pub enum Event {
    /// Files changed.
    Changed,
    /// HUP.
    HangUp,
    /// Somebody at the control socket.
    Command(Command, tokio::sync::oneshot::Sender<Reply>),
    /// TERM or INT.
    Stop(&'static str),
}

/// Serves until told to stop.
///
/// # Errors
/// Why it could not start; what is wrong with the files was logged before.
pub fn serve(config: &Config, options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let listeners = Listeners::bind(config)?;
    let slow = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("slow")
        .enable_all()
        .build()
        .map_err(|error| format!("no threads: {error}"))?;
    let (events, received) = channel();
    spawn_signals(&slow, &events).map_err(|error| format!("no signals: {error}"))?;
    let control = control::listen(&slow, &config.control, events.clone())?;

    let mut reloader = Reloader::new(&config.zones, &config.geodb, Some(&config.state));
    let health = Health::new(slow.handle().clone());
    let Reload { findings, snapshot, .. } = reloader.reload(false);
    log(&findings);
    if options.strict && findings.has_errors() {
        return Err("--strict: there are errors".to_owned());
    }
    let Some((snapshot, layout)) = snapshot else {
        return Err("there is nothing to serve".to_owned());
    };
    let board = health.adopt(layout);
    slow.block_on(health.first_round());

    let published = Arc::new(ArcSwap::from_pointee(Published { snapshot, board }));
    let servers = listeners.serve(&published)?;
    let watched: Vec<PathBuf> = [&config.zones, &options.config_path].into_iter().chain(&config.geodb).cloned().collect();
    let changed = events.clone();
    let watching = watch::watch(watched, move || {
        let _ = changed.send(Event::Changed);
    });
    if let Err(error) = &watching {
        warn!("changes of files are not noticed: {error}");
    }
    for address in &servers.addresses {
        info!("listening on {address}");
    }
    let now = published.load();
    info!(
        zones = now.snapshot.zones().len(),
        services = now.snapshot.services().len(),
        "ready after {} ms",
        started.elapsed().as_millis()
    );
    drop(now);

    let mut main = Main {
        reloader,
        health,
        slow,
        published,
        retired: Vec::new(),
        servers,
        started,
        last_findings: findings,
        config: config.clone(),
        options: options.clone(),
        file_config: Config::read(Some(&options.config_path), &mut Findings::new()),
    };
    main.run(&received);
    drop(watching);
    drop(control);
    main.servers.stop();
    main.slow.shutdown_timeout(Duration::from_secs(1));
    info!("stopped");
    Ok(())
}

/// Sockets that are bound and not read yet: the kernel keeps what comes until there is something to answer from.
struct Listeners {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Listeners, String> {
        let workers = match config.workers {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let mut listeners = Listeners { udp: Vec::new(), tcp: Vec::new(), addresses: Vec::new() };
        for &address in &config.listen {
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
            // TCP first: it refuses an address that another process uses, UDP would share it.
            let (tcp, udp) = bind_both(address, workers).map_err(told)?;
            listeners.addresses.extend(tcp.local_addr());
            listeners.tcp.push(tcp);
            listeners.udp.extend(udp);
        }
        Ok(listeners)
    }

    fn serve(self, published: &Arc<ArcSwap<Published>>) -> Result<Servers, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stopped) = flag::channel(false);
        let mut servers =
            Servers { threads: Vec::new(), counters: Vec::new(), panics: Arc::default(), stop, stop_tcp, addresses: self.addresses };
        for (number, socket) in self.udp.into_iter().enumerate() {
            let mut answerer = servers.answerer(published, Transport::Udp);
            let stop = Arc::clone(&servers.stop);
            servers.spawn(format!("udp-{number}"), move || udp::serve(&socket, &mut answerer, &stop))?;
        }
        let answerer = servers.answerer(published, Transport::Tcp);
        let tcp_listeners = self.tcp;
        servers.spawn("tcp".to_owned(), move || {
            if let Err(error) = tcp::serve(tcp_listeners, answerer, tcp::Limits::default(), stopped) {
                error!("TCP is not served: {error}");
            }
        })?;
        Ok(servers)
    }
}

/// Port 0 is chosen by TCP; UDP may find it taken, and then another is tried.
fn bind_both(address: SocketAddr, workers: usize) -> io::Result<(TcpListener, Vec<UdpSocket>)> {
    let mut tries = if address.port() == 0 { 20 } else { 1 };
    loop {
        tries -= 1;
        let tcp = tcp::bind(address)?;
        match udp::bind(tcp.local_addr()?, workers) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// The threads that answer.
struct Servers {
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
    panics: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    stop_tcp: flag::Sender<bool>,
    addresses: Vec<SocketAddr>,
}

impl Servers {
    fn answerer(&mut self, published: &Arc<ArcSwap<Published>>, transport: Transport) -> Answerer {
        let worker = Worker::default();
        self.counters.push(worker.counters());
        Answerer {
            worker,
            published: arc_swap::Cache::new(Arc::clone(published)),
            transport,
            panics: Arc::clone(&self.panics),
        }
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let thread = thread::Builder::new().name(name).spawn(run).map_err(|error| format!("no thread: {error}"))?;
        self.threads.push(thread);
        Ok(())
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.counters {
            counters.add_to(&mut totals);
        }
        totals
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stop_tcp.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers on one thread, from what is published at the time.
struct Answerer {
    worker: Worker,
    published: arc_swap::Cache<Arc<ArcSwap<Published>>, Arc<Published>>,
    transport: Transport,
    panics: Arc<AtomicU64>,
}

impl Responder for Answerer {
    fn respond(&mut self, message: &[u8], client: IpAddr, out: &mut [u8]) -> Option<usize> {
        let Answerer { worker, published, transport, panics } = self;
        let Published { snapshot, board } = &**published.load();
        let request = Request { bytes: message, client, transport: *transport };
        // Nothing is known to panic. Should a message be found that does, it costs its own answer and no other.
        let answer = AssertUnwindSafe(|| respond(worker, &request, snapshot, board, out).length());
        catch_unwind(answer).unwrap_or_else(|_| {
            panics.fetch_add(1, Ordering::Relaxed);
            None
        })
    }

    fn idle(&mut self) {
        self.published.load();
    }
}

fn spawn_signals(slow: &Runtime, events: &Sender<Event>) -> io::Result<()> {
    let _entered = slow.enter();
    let make: [(SignalKind, fn() -> Event); 3] = [
        (SignalKind::terminate(), || Event::Stop("TERM")),
        (SignalKind::interrupt(), || Event::Stop("INT")),
        (SignalKind::hangup(), || Event::HangUp),
    ];
    for (kind, event) in make {
        let mut signals = signal(kind)?;
        let events = events.clone();
        slow.spawn(async move { while signals.recv().await.is_some() && events.send(event()).is_ok() {} });
    }
    Ok(())
}

/// What the main thread owns.
struct Main {
    reloader: Reloader,
    health: Health,
    slow: Runtime,
    published: Arc<ArcSwap<Published>>,
    /// Snapshots that a thread may still read. They are let go of here: freeing one takes longer than a query may.
    retired: Vec<Arc<Published>>,
    servers: Servers,
    started: Instant,
    last_findings: Findings,
    config: Config,
    options: Options,
    /// What the file said at the start.
    file_config: Config,
}

impl Main {
    fn run(&mut self, events: &Receiver<Event>) {
        loop {
            match events.recv_timeout(TIDY) {
                Ok(Event::Changed) => drop(self.reload("files changed", false)),
                Ok(Event::HangUp) => drop(self.reload("HUP", false)),
                Ok(Event::Command(command, reply)) => {
                    let _ = reply.send(self.obey(command));
                }
                Ok(Event::Stop(signal)) => {
                    info!("{signal}: stopping");
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.retired.retain(|published| Arc::strong_count(published) > 1);
        }
    }

    fn obey(&mut self, command: Command) -> Reply {
        match command {
            Command::Reload { force } => {
                let outcome = self.reload("asked to", force);
                control::reload_reply(outcome, &self.last_findings)
            }
            Command::Status => self.status(),
        }
    }

    fn reload(&mut self, why: &str, force: bool) -> Outcome {
        let started = Instant::now();
        let mut of_config = Findings::new();
        let config = Config::read(self.config_file(), &mut of_config);
        if of_config.has_errors() {
            log(&of_config);
            error!("{why}: nothing was taken over; everything stays as it was");
            self.last_findings = of_config;
            return Outcome::TookNothing;
        }
        if config != self.file_config {
            warn!("{} changed; that takes effect at the next start", self.options.config_path.display());
        }
        let Reload { outcome, findings, snapshot } = self.reloader.reload(force);
        log(&findings);
        if let Some((snapshot, layout)) = snapshot {
            let number = snapshot.number();
            let board = self.health.adopt(layout);
            self.slow.block_on(self.health.first_round());
            let old = self.published.swap(Arc::new(Published { snapshot, board }));
            self.retired.push(old);
            info!("{why}: snapshot {number} is served after {} ms", started.elapsed().as_millis());
        }
        match outcome {
            Outcome::Unchanged => info!("{why}: nothing is new"),
            Outcome::TookAll => {}
            Outcome::KeptSome => error!("{why}: some zones keep their last good version"),
            Outcome::TookNothing => error!("{why}: nothing was taken over; everything stays as it was"),
        }
        self.last_findings = findings;
        outcome
    }

    fn config_file(&self) -> Option<&std::path::Path> {
        self.options.config_path.exists().then_some(self.options.config_path.as_path())
    }

    fn status(&self) -> Reply {
        let published = self.published.load();
        control::status_reply(&control::Status {
            uptime: self.started.elapsed(),
            snapshot: &published.snapshot,
            board: &published.board,
            services: self.reloader.services(),
            zones: self.reloader.zones(),
            checks: self.health.status(),
            databases: self.reloader.about(),
            totals: self.servers.totals(),
            panics: self.servers.panics.load(Ordering::Relaxed),
            findings: &self.last_findings,
            listen: &self.servers.addresses,
            config: &self.config,
        })
    }
}

fn log(findings: &Findings) {
    for finding in findings.iter() {
        match finding.severity {
            Severity::Error => error!("{}", in_one_line(finding)),
            Severity::Warning => warn!("{}", in_one_line(finding)),
        }
    }
}
