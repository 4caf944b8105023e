//! The running server: start order, every thread and task, shutdown.
//!
//! ```text
//!   udp-0 .. udp-n   a socket each, batches in and out          \
//!   tcp              all connections                             > read `Published`, write their own counters
//!   tls-n, quic-n,   the connections of one certificate each    /
//!   https-n
//!   certificates     looks at their files
//!   main             one event after the other: reload, status, stop; publishes snapshots
//!   watch            looks at files, says "changed" to main
//!   slow (2 threads) checks; signals, the control socket, metrics and rounds of checks, which send events to main
//!   query-log        writes down what workers sampled, each into a ring of its own
//!   watchdog         asks the server something, tells systemd that it answered
//! ```
//!
//! A snapshot that brings new checks waits for their first results before it is published (meaning 7). Main does not wait
//! with it: it goes on to tell its status and to stop when told; only further reloads are put off.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, oneshot};
use tracing::{debug, error, info, warn};

use crate::config::listen::Protocol;
use crate::config::{Config, Listener};
use crate::control::{self, Command, LastReload, Reply};
use crate::finding::{Findings, Severity};
use crate::health::Health;
use crate::health::board::Layout;
use crate::health::events::Event as Happened;
use crate::observe::process::Process;
use crate::observe::query_log::Log;
use crate::observe::{self, metrics};
use crate::policy::cookie::Secrets;
use crate::reload::{Outcome, Reload, Reloader, in_one_line, watch};
use crate::snapshot::Snapshot;

mod encrypted;
mod published;
mod sandbox;
mod servers;
mod systemd;

use published::{Published, Retired};
use servers::{Listeners, Servers};
use systemd::{Manager, Passed};

/// How many of the last things that happened are told with the status.
const EVENTS_IN_STATUS: usize = 20;

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

/// What main waits for.
pub enum Event {
    /// Files changed.
    Changed,
    /// The geo databases are others than those that the tables in the state folder were made of.
    TablesAreWrong,
    /// HUP.
    HangUp,
    /// Somebody at the control socket.
    Command(Command, oneshot::Sender<Reply>),
    /// Somebody there who wants to know what happens.
    Watch(oneshot::Sender<broadcast::Receiver<Happened>>),
    /// Somebody wants the metrics.
    Metrics(oneshot::Sender<String>),
    /// Every check of the snapshot that is to be published has had its say, or its time.
    Checked,
    /// TERM or INT.
    Stop(&'static str),
}

/// Serves until told to stop.
///
/// # Errors
/// Why it could not start; what is wrong with the files was logged before.
pub fn serve(config: &Config, options: &Options) -> Result<(), String> {
    let started = Instant::now();
    // While there is one thread: what is given up now is given up by all that follow.
    let mut passed = Passed::take();
    let process = Process::open();
    let listeners = Listeners::bind(config, &mut passed)?;
    let metrics = servers::bind_metrics(&config.metrics, &mut passed)?;
    passed.tell_of_the_rest();
    let workers = listeners.workers();
    sandbox::give_up_root(config)?;
    let is_confined = sandbox::confine(config, options).is_some();
    let manager = Manager::start();
    let slow = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("slow")
        .enable_all()
        .build()
        .map_err(|error| format!("no threads: {error}"))?;
    let (events, received) = channel();
    spawn_signals(&slow, &events).map_err(|error| format!("no signals: {error}"))?;
    let control = control::listen(&slow, &config.control, events.clone())?;
    let asked = events.clone();
    let ask = move |reply| drop(asked.send(Event::Metrics(reply)));
    observe::http::serve(&slow, metrics, Box::new(ask)).map_err(|error| format!("no metrics: {error}"))?;
    // Before anything is read, so that nothing changes unseen.
    let watching = watch_files(config, options, &events);

    let file_config =
        options.config_path.exists().then(|| Config::read(Some(&options.config_path), &mut Findings::new()));
    let mut main = Main {
        reloader: Reloader::of(config, true),
        own_secrets: own_secrets()?,
        health: Health::new(slow.handle().clone(), Some(&config.state)),
        slow,
        events,
        serving: Serving::NotYet(listeners),
        manager,
        is_confined,
        next: None,
        put_off: VecDeque::new(),
        retired: Retired::default(),
        workers,
        started,
        process,
        last_findings: Findings::new(),
        reloads: Reloads::default(),
        config: config.clone(),
        options: options.clone(),
        file_config,
    };
    main.health.watch_canaries(config.canaries.clone());
    let result = main.start().and_then(|()| main.run(&received));
    main.manager.stopping();
    drop(watching);
    drop(control);
    if let Serving::Now { servers, .. } = &mut main.serving {
        servers.stop();
    }
    main.slow.shutdown_timeout(Duration::from_secs(1));
    if result.is_ok() {
        info!("stopped");
    }
    result
}

fn own_secrets() -> Result<Secrets, String> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(Secrets::new(secret, None))
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

fn watch_files(config: &Config, options: &Options, events: &Sender<Event>) -> Option<watch::Watching> {
    let files = [&config.zones, &options.config_path].into_iter().chain(&config.answers.secrets);
    let watched = files.chain(&config.geodb).cloned().collect();
    let events = events.clone();
    let watching = watch::watch(watched, move || {
        let _ = events.send(Event::Changed);
    });
    watching.inspect_err(|error| warn!("changes of files are not noticed: {error}")).ok()
}

/// What the main thread owns.
struct Main {
    reloader: Reloader,
    /// For cookies, where the configuration names no secrets.
    own_secrets: Secrets,
    health: Health,
    slow: Runtime,
    events: Sender<Event>,
    serving: Serving,
    manager: Manager,
    /// Whether the kernel keeps files from it.
    is_confined: bool,
    /// A snapshot whose checks are being tried for the first time.
    next: Option<Next>,
    /// Reloads that were asked for since.
    put_off: VecDeque<Event>,
    retired: Retired,
    /// Threads that answer.
    workers: usize,
    started: Instant,
    process: Process,
    last_findings: Findings,
    reloads: Reloads,
    config: Config,
    options: Options,
    /// What the file said at the start, if there was one.
    file_config: Option<Config>,
}

/// Queries are answered as soon as there is something to answer from; until then the kernel keeps what comes.
enum Serving {
    NotYet(Listeners),
    Now { published: Arc<ArcSwap<Published>>, servers: Servers },
    Failed,
}

/// What is to be published, and who waits for that.
struct Next {
    published: Published,
    why: &'static str,
    began: Instant,
    outcome: Outcome,
    reply: Option<oneshot::Sender<Reply>>,
}

/// How the reloads went since the start.
#[derive(Clone, Debug, Default)]
struct Reloads {
    counts: [u64; 4],
    last: Option<LastReload>,
    /// When the last snapshot was published.
    taken_over: Option<SystemTime>,
}

impl Main {
    fn start(&mut self) -> Result<(), String> {
        let Reload { findings, snapshot, outcome } = self.read("start", false);
        log(&findings, self.is_confined);
        if self.options.strict && findings.has_errors() {
            return Err("--strict: there are errors".to_owned());
        }
        self.last_findings = findings;
        let Some((snapshot, layout)) = snapshot else {
            return Err("there is nothing to serve".to_owned());
        };
        let published = self.put_together(snapshot, layout);
        let next = Next { published, why: "start", began: self.started, outcome, reply: None };
        self.wait_for_checks(next);
        Ok(())
    }

    fn run(&mut self, received: &Receiver<Event>) -> Result<(), String> {
        loop {
            let event = match received.recv_timeout(TIDY) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    self.retired.tidy_up();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            match event {
                Event::Stop(signal) => {
                    info!("{signal}: stopping");
                    return Ok(());
                }
                Event::Checked => {
                    self.publish()?;
                    while let Some(event) = self.put_off.pop_front().filter(|_| self.next.is_none()) {
                        self.obey(event);
                    }
                }
                // Not put off by checks of a reload: who takes a site out has a reason.
                Event::Command(Command::Order(order), reply) => {
                    let _ = reply.send(control::order_reply(self.health.follow(&order)));
                }
                Event::Watch(reply) => {
                    let _ = reply.send(self.health.watch());
                }
                Event::Command(Command::Status, reply) => {
                    let _ = reply.send(self.status());
                }
                // Dropped where there is nothing to tell yet.
                Event::Metrics(reply) => {
                    if let Some(page) = self.with_status(|status| metrics::render(status, &self.process)) {
                        let _ = reply.send(page);
                    }
                }
                event if self.next.is_some() => self.put_off.push_back(event),
                event => self.obey(event),
            }
            self.retired.tidy_up();
        }
    }

    fn put_together(&self, snapshot: Snapshot, layout: Layout) -> Published {
        Published::new(snapshot, self.health.adopt(layout), self.workers)
    }

    fn obey(&mut self, event: Event) {
        match event {
            Event::Changed => self.reload("files changed", false, None),
            Event::TablesAreWrong => {
                warn!("the geo databases are not what the tables in the state folder say; compiling anew");
                self.reloader.distrust_tables();
                self.reload("tables were wrong", false, None);
            }
            Event::HangUp => self.reload("HUP", false, None),
            Event::Command(Command::Reload { force }, reply) => self.reload("asked to", force, Some(reply)),
            // Obeyed at once, where they come in.
            Event::Command(..) | Event::Watch(_) | Event::Metrics(_) | Event::Checked | Event::Stop(_) => {}
        }
    }

    /// Reads everything again. What is new is published when its checks have had their say.
    fn reload(&mut self, why: &'static str, force: bool, reply: Option<oneshot::Sender<Reply>>) {
        let began = Instant::now();
        self.manager.reloading();
        let Reload { outcome, findings, snapshot } = self.read(why, force);
        log(&findings, self.is_confined);
        match outcome {
            Outcome::Unchanged => info!("{why}: nothing is new"),
            Outcome::TookAll => {}
            Outcome::KeptSome => error!("{why}: what is wrong keeps its last good version"),
            Outcome::TookNothing => error!("{why}: nothing was taken over; everything stays as it was"),
        }
        self.last_findings = findings;
        if let Some((snapshot, layout)) = snapshot {
            let published = self.put_together(snapshot, layout);
            self.wait_for_checks(Next { published, why, began, outcome, reply });
            return;
        }
        self.manager.reloaded(&self.in_brief());
        if let Some(reply) = reply {
            let _ = reply.send(control::reload_reply(outcome, &self.last_findings));
        }
    }

    /// The configuration, then all that it names.
    fn read(&mut self, why: &'static str, force: bool) -> Reload {
        let mut findings = Findings::new();
        let config = self.read_config(force, &mut findings);
        let reload = if findings.has_errors() {
            Reload { outcome: Outcome::TookNothing, findings, snapshot: None }
        } else {
            let is_another = |config: &Config| {
                self.file_config.as_ref().is_some_and(|earlier| !earlier.starts_like(config))
            };
            if config.as_ref().is_some_and(is_another) {
                findings
                    .note(&self.options.config_path, "is another now; that takes effect at the next start");
            }
            let answers = config.map_or_else(|| self.config.answers.clone(), |config| config.answers);
            self.reloader.set_policy(answers.policy(&self.own_secrets));
            // Nothing is known to panic. Should a file be found that does, it costs its reload and not the server.
            let reload = catch_unwind(AssertUnwindSafe(|| self.reloader.reload(force)));
            let mut reload = reload.unwrap_or_else(|_| {
                let mut findings = Findings::new();
                findings.unreadable(
                    &self.config.zones,
                    "reading failed in a way that it never should; please report it",
                );
                Reload { outcome: Outcome::TookNothing, findings, snapshot: None }
            });
            self.look_into_databases();
            findings.extend(reload.findings);
            reload.findings = findings;
            reload
        };
        self.reloads.counts[reload.outcome as usize] += 1;
        self.reloads.last = Some(LastReload { at: SystemTime::now(), why, outcome: reload.outcome });
        reload
    }

    /// Where tables were at hand, compares what they were made of; beside everything else, for it reads all of the databases.
    fn look_into_databases(&mut self) {
        let Some(unverified) = self.reloader.take_unverified() else { return };
        info!(
            "tables in the state folder are used; the geo databases are compared with what these were made of"
        );
        let events = self.events.clone();
        let look = move || {
            if unverified.are_as_they_were() {
                debug!("the geo databases are what the tables in the state folder were made of");
            } else {
                let _ = events.send(Event::TablesAreWrong);
            }
        };
        if let Err(error) = thread::Builder::new().name("verify".to_owned()).spawn(look) {
            warn!("the geo databases were not compared: {error}");
        }
    }

    fn read_config(&self, force: bool, findings: &mut Findings) -> Option<Config> {
        let path = &self.options.config_path;
        match path.exists() {
            true => Some(Config::read(Some(path), findings)),
            false => {
                if self.file_config.is_some() && !force {
                    findings
                        .unreadable(path, "is gone; what it said is kept until `meridian reload --force`");
                }
                None
            }
        }
    }

    fn wait_for_checks(&mut self, next: Next) {
        self.next = Some(next);
        let round = self.health.first_round();
        let events = self.events.clone();
        self.slow.spawn(async move {
            round.await;
            let _ = events.send(Event::Checked);
        });
    }

    fn publish(&mut self) -> Result<(), String> {
        let Some(Next { published, why, began, outcome, reply }) = self.next.take() else { return Ok(()) };
        let number = published.snapshot.number();
        match std::mem::replace(&mut self.serving, Serving::Failed) {
            Serving::Now { published: live, servers } => {
                self.retired.push(live.swap(Arc::new(published)));
                self.serving = Serving::Now { published: live, servers };
                self.manager.reloaded(&self.in_brief());
                info!("{why}: snapshot {number} is served after {} ms", began.elapsed().as_millis());
            }
            Serving::NotYet(listeners) => {
                let (zones, services) =
                    (published.snapshot.zones().len(), published.snapshot.services().len());
                let published = Arc::new(ArcSwap::from_pointee(published));
                let servers = listeners.serve(&published, self.config.query_log.as_ref().map(Log::new))?;
                for address in servers.addresses() {
                    info!("listening on {address}");
                }
                self.serving = Serving::Now { published, servers };
                give_way();
                info!(zones, services, "ready after {} ms", began.elapsed().as_millis());
                self.manager.ready(self.addresses_for_all(), &self.in_brief());
            }
            Serving::Failed => return Ok(()),
        }
        self.reloads.taken_over = Some(SystemTime::now());
        self.health.retire();
        self.ask_the_server_for_a_zone();
        if let Some(reply) = reply {
            let _ = reply.send(control::reload_reply(outcome, &self.last_findings));
        }
        Ok(())
    }

    /// For systemd.
    fn in_brief(&self) -> String {
        let Serving::Now { published, .. } = &self.serving else { return "starting".to_owned() };
        let published = published.load();
        let trouble = match self.reloads.last.as_ref().map(|last| last.outcome) {
            Some(Outcome::KeptSome) => "; some zones keep their last good version, see the log",
            Some(Outcome::TookNothing) => "; the last reload took nothing over, see the log",
            _ => "",
        };
        let (snapshot, zones) = (published.snapshot.number(), published.snapshot.zones().len());
        format!("snapshot {snapshot} is served: {zones} zones{trouble}")
    }

    /// Where anybody may ask over UDP, the server itself among them.
    fn addresses_for_all(&self) -> Vec<SocketAddr> {
        let Serving::Now { servers, .. } = &self.serving else { return Vec::new() };
        let is_for_all =
            |listener: &Listener| listener.protocol == Protocol::Plain && listener.proxy_from.is_empty();
        let listeners = self.config.listen.iter().zip(servers.addresses());
        listeners.filter(|(listener, _)| is_for_all(listener)).map(|(_, address)| *address).collect()
    }

    fn ask_the_server_for_a_zone(&self) {
        if let Serving::Now { published, .. } = &self.serving {
            self.manager.ask_for(published.load().snapshot.zones().first().map(|zone| &zone.name));
        }
    }

    fn status(&self) -> Reply {
        self.with_status(control::status_reply)
            .unwrap_or_else(|| control::error_reply("starting: the first round of checks is not over yet"))
    }

    /// Tells the status in some way; none before there is one.
    fn with_status<T>(&self, tell: impl FnOnce(&control::Status<'_>) -> T) -> Option<T> {
        let Serving::Now { published, servers } = &self.serving else { return None };
        let published = published.load();
        let status = control::Status {
            uptime: self.started.elapsed(),
            snapshot: &published.snapshot,
            board: &published.board,
            services: self.reloader.services(),
            zones: self.reloader.zones(),
            checks: self.health.status(),
            tries: self.health.tries(),
            overrides: self.health.overrides(),
            held: self.health.held(),
            is_isolated: self.health.is_isolated(),
            events: self.health.last_events(EVENTS_IN_STATUS),
            databases: self.reloader.about(),
            totals: servers.totals(),
            query_log: servers.query_log(),
            answers: self.retired.answers(&published),
            panics: servers.panics(),
            transports: servers.transports(),
            reloads: self.reloads.counts,
            last_reload: self.reloads.last.as_ref(),
            taken_over: self.reloads.taken_over.unwrap_or(UNIX_EPOCH),
            findings: &self.last_findings,
            listen: servers.addresses(),
            config: &self.config,
        };
        Some(tell(&status))
    }
}

/// From here on this thread, and those that it begins to read and compile with, have a tenth of a processor's time where the
/// threads that answer want all of it.
fn give_way() {
    const NICE: i32 = 10;
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        debug!("what is not urgent does not give way to queries: {error}");
    }
}

fn log(findings: &Findings, is_confined: bool) {
    for finding in findings.iter() {
        match finding.severity {
            Severity::Error => error!("{}", in_one_line(finding)),
            Severity::Warning => warn!("{}", in_one_line(finding)),
        }
    }
    if is_confined && findings.iter().any(|finding| finding.text.contains("Permission denied")) {
        warn!("the sandbox grants the folders that meridian.yaml names, and what is listed under readable:");
    }
}
