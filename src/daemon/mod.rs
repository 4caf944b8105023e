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
//!   history          writes down what was served
//!   query-log        writes down what workers sampled, each into a ring of its own
//!   countries        counts by country what workers sampled, likewise; compile-countries makes the table for that
//!   watchdog         asks the server something, tells systemd that it answered
//!   replacement      waits for a server that is to take this one's place, or for the one whose place this one takes
//! ```
//!
//! A snapshot that brings new checks waits for their first results before it is published (meaning 7). Main does not wait
//! with it: it goes on to tell its status and to stop when told; only further reloads are put off.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, oneshot};
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use crate::change::content::Digest;
use crate::change::history::{History, Rollback};
use crate::change::{Cause, checkout};
use crate::config::listen::Protocol;
use crate::config::{Config, Listener};
use crate::control::{self, Command, Control, Reply};
use crate::finding::{Findings, Severity};
use crate::health::Health;
use crate::health::events::Event as Happened;
use crate::observe::process::Process;
use crate::observe::{self, metrics};
use crate::policy::cookie::Secrets;
use crate::reload::{Outcome, Reload, Reloader, in_one_line, watch};

mod encrypted;
pub mod handover;
mod history;
pub mod preview;
mod published;
mod reloads;
mod replacement;
mod sandbox;
mod servers;
mod systemd;

use handover::{Kept, Predecessor, Program, Starter, Successor};
use history::Recorder;
use published::{Published, Retired};
use reloads::{Next, Reloads, log};
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
    /// How to start another like this one; where nobody says, it cannot be replaced.
    pub program: Option<Program>,
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
    /// USR2.
    Replace,
    /// The server that is to take this one's place is ready, or is none.
    Replaced(Result<Successor, String>),
    /// The server whose place this one takes has let go of everything.
    Yours,
    /// It has not, and goes on.
    Unwanted,
    /// TERM or INT.
    Stop(&'static str),
}

/// Serves until told to stop.
///
/// # Errors
/// Why it could not start; what is wrong with the files was logged before.
pub fn serve(
    config: &Config,
    options: &Options,
    predecessor: Option<&Arc<Predecessor>>,
) -> Result<(), String> {
    let started = Instant::now();
    // While there is one thread: what is given up now is given up by all that follow.
    let mut passed = Passed::take(predecessor.map(|predecessor| &**predecessor))
        .map_err(|error| format!("the server to be replaced gives no sockets: {error}"))?;
    let process = Process::open();
    let listeners = Listeners::bind(config, &mut passed)?;
    let metrics = servers::bind_metrics(&config.metrics, &mut passed)?;
    let control = passed.control(&config.control);
    let mut kept = passed.tell_of_the_rest();
    let workers = listeners.workers();
    sandbox::give_up_root(config)?;
    let starter = options.program.as_ref().and_then(|program| {
        let started = Starter::start(program);
        started.inspect_err(|error| warn!("this server cannot be replaced: {error}")).ok()
    });
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
    let has_control = control.is_some();
    let control = match control {
        Some(socket) => Control::of(&config.control, socket),
        None => control::open(&config.control)?,
    };
    let socket = control.socket().try_clone().map_err(|error| format!("no control socket: {error}"))?;
    kept.push(Kept { name: format!("control {}", config.control.display()), socket: socket.into() });
    // Before anything is read, so that nothing changes unseen.
    let watching = watch_files(config, options, &events);

    let file_config =
        options.config_path.exists().then(|| Config::read(Some(&options.config_path), &mut Findings::new()));
    let history = History::of(&config.state, config.history);
    let mut main = Main {
        reloader: Reloader::of(config, true),
        recorder: Recorder::start(&history),
        history,
        rollback: None,
        digest: Digest::default(),
        last_kept: None,
        git_logs: checkout::logs(&config.zones),
        own_secrets: own_secrets()?,
        health: match predecessor {
            None => Health::new(slow.handle().clone(), Some(&config.state)),
            Some(_) => Health::beside(slow.handle().clone(), &config.state),
        },
        slow,
        events,
        serving: Serving::NotYet(listeners),
        doors: Doors { control, metrics, accepting: Vec::new() },
        starter: starter.map(Arc::new),
        kept: Arc::new(kept),
        predecessor: predecessor.cloned(),
        has_control,
        replacing: None,
        is_replaced: false,
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
    if predecessor.is_none() {
        main.open_doors()?;
    }
    let result = main.start().and_then(|()| main.run(&received));
    if !main.is_replaced {
        main.manager.stopping();
    }
    drop(watching);
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
    let make: [(SignalKind, fn() -> Event); 4] = [
        (SignalKind::terminate(), || Event::Stop("TERM")),
        (SignalKind::interrupt(), || Event::Stop("INT")),
        (SignalKind::hangup(), || Event::HangUp),
        (SignalKind::user_defined2(), || Event::Replace),
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
    history: History,
    recorder: Recorder,
    /// What an operator went back to.
    rollback: Option<Rollback>,
    /// Of what is served.
    digest: Digest,
    /// The snapshot that was served before the start.
    last_kept: Option<(u64, Digest)>,
    /// Where git tells which commit the zones are at.
    git_logs: Option<PathBuf>,
    /// For cookies, where the configuration names no secrets.
    own_secrets: Secrets,
    health: Health,
    slow: Runtime,
    events: Sender<Event>,
    serving: Serving,
    doors: Doors,
    starter: Option<Arc<Starter>>,
    /// What is handed over.
    kept: Arc<Vec<Kept>>,
    /// Whose place this one takes.
    predecessor: Option<Arc<Predecessor>>,
    /// The control socket was there before.
    has_control: bool,
    /// Somebody is to take this one's place; with who wants to know how that went.
    replacing: Option<Option<oneshot::Sender<Reply>>>,
    is_replaced: bool,
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

/// Where people and programs come in that do not ask for names.
struct Doors {
    control: Control,
    /// Until they are served.
    metrics: Vec<TcpListener>,
    accepting: Vec<AbortHandle>,
}

/// Queries are answered as soon as there is something to answer from; until then the kernel keeps what comes.
enum Serving {
    NotYet(Listeners),
    Now { published: Arc<ArcSwap<Published>>, servers: Box<Servers> },
    Failed,
}

impl Main {
    fn start(&mut self) -> Result<(), String> {
        self.look_into_history();
        let cause = Cause::from("start");
        let mut reload = self.read(&cause, false);
        log(&reload.findings, self.is_confined);
        if !self.options.strict && self.is_worse_than_last(&reload) {
            reload = self.start_with_last_good(&cause).unwrap_or(reload);
        }
        let Reload { findings, snapshot, outcome } = reload;
        if self.options.strict && findings.has_errors() {
            let first = findings.iter().find(|finding| finding.severity == Severity::Error);
            let first = first.map_or_else(String::new, in_one_line);
            return Err(format!("--strict: there are errors, such as {first}"));
        }
        self.last_findings = findings;
        let Some((mut snapshot, layout)) = snapshot else {
            return Err("there is nothing to serve".to_owned());
        };
        // The same under the same number, however often the server is started.
        if let Some((number, digest)) = self.last_kept
            && digest == self.reloader.digest()
        {
            snapshot = snapshot.with_number(number);
            self.reloader.count_from(number);
        }
        let published = self.put_together(snapshot, layout);
        let next = Next { published, cause, began: self.started, outcome, reply: None };
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
                    self.give_up_replacing(received);
                    return Ok(());
                }
                Event::Replaced(Ok(successor)) => {
                    self.hand_over(&successor, received);
                    return Ok(());
                }
                Event::Replaced(Err(why)) => self.go_on(&why),
                Event::Yours => self.be_the_server()?,
                Event::Unwanted => {
                    return Err("the server that was here is not to be replaced any more".to_owned());
                }
                Event::Command(Command::Replace, reply) if self.replacing.is_some() => {
                    let why = "waits: another one is about to be ready".to_owned();
                    let _ = reply.send(control::replace_reply(&Err(why)));
                }
                Event::Replace if self.replacing.is_some() => {}
                Event::Checked => {
                    self.publish()?;
                    self.obey_what_was_put_off();
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
                // What is read while it starts, it reads itself.
                event if self.next.is_some() || self.replacing.is_some() => self.put_off.push_back(event),
                event => self.obey(event),
            }
            self.retired.tidy_up();
        }
    }

    fn obey(&mut self, event: Event) {
        match event {
            Event::Changed => self.reload(Cause::from("files changed"), false, None),
            Event::TablesAreWrong => {
                warn!("the geo databases are not what the tables in the state folder say; compiling anew");
                self.reloader.distrust_tables();
                self.reload(Cause::from("tables were wrong"), false, None);
            }
            Event::HangUp => self.reload(Cause::from("HUP"), false, None),
            Event::Replace => self.replace(None),
            Event::Command(Command::Replace, reply) => self.replace(Some(reply)),
            Event::Command(Command::Reload { force, word }, reply) => {
                let why = if force { "reload --force" } else { "reload" };
                self.reload(word.cause(why.to_owned()), force, Some(reply));
            }
            Event::Command(Command::Rollback { to, word }, reply) => self.roll_back(to, word, reply),
            // Obeyed at once, where they come in.
            Event::Command(..) | Event::Watch(_) | Event::Metrics(_) | Event::Checked | Event::Stop(_) => {}
            Event::Replaced(_) | Event::Yours | Event::Unwanted => {}
        }
    }

    fn obey_what_was_put_off(&mut self) {
        while self.next.is_none() && self.replacing.is_none() {
            let Some(event) = self.put_off.pop_front() else { return };
            self.obey(event);
        }
    }

    /// Serves the control socket and metrics.
    fn open_doors(&mut self) -> Result<(), String> {
        self.doors.control.serve(&self.slow, self.events.clone())?;
        let asked = self.events.clone();
        let ask = move |reply| drop(asked.send(Event::Metrics(reply)));
        let metrics = std::mem::take(&mut self.doors.metrics);
        let accepting = observe::http::serve(&self.slow, metrics, Box::new(ask));
        self.doors.accepting = accepting.map_err(|error| format!("no metrics: {error}"))?;
        Ok(())
    }

    /// Nobody else reads the same sockets, nor tells systemd how the server is.
    fn begin(&self) {
        let Serving::Now { servers, .. } = &self.serving else { return };
        servers.read_quic();
        self.manager.ready(self.addresses_for_all(), &self.in_brief());
    }

    /// For systemd.
    fn in_brief(&self) -> String {
        let Serving::Now { published, .. } = &self.serving else { return "starting".to_owned() };
        let published = published.load();
        let trouble = match self.reloads.last.as_ref().map(|last| last.outcome) {
            Some(Outcome::KeptSome) => "; some zones keep their last good version, see the log",
            Some(Outcome::TookNothing) => "; the last reload took nothing over, see the log",
            Some(Outcome::Held) => "; the last reload is held, see the log",
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

    fn served_number(&self) -> Option<u64> {
        let Serving::Now { published, .. } = &self.serving else { return None };
        Some(published.load().snapshot.number())
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
            digest: self.digest,
            rollback: self.rollback.map(|rollback| rollback.to),
            overrides: self.health.overrides(),
            held: self.health.held(),
            loads: self.health.loads(),
            is_isolated: self.health.is_isolated(),
            events: self.health.last_events(EVENTS_IN_STATUS),
            databases: self.reloader.about(),
            totals: servers.totals(),
            query_log: servers.query_log(),
            countries: servers.countries(),
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
