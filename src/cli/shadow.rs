//! `meridian shadow`: a candidate beside the server, asked what clients ask.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::Places;
use super::ask::no_server;
use super::coverage::{Failure, wrong_usage};
use super::diff::sides::{Origin, Sides, running};
use super::operate::parse_time;
use super::replayed::Replayed;
use crate::change::history::History;
use crate::config::{Config, QueryLog};
use crate::control::{self, Command};
use crate::reload::watch;
use crate::replay::follow::Follow;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How soon what went wrong is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is told how things stand.
const TELL: Duration = Duration::from_secs(10);
/// How long a snapshot may take into history, which is written after it is served.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tell what a folder of zones would answer differently to the clients of the running server, as they ask.
///
/// Follows the server's query log, and answers each query in it twice: from the snapshot that is served, and from the folder; both with the
/// verdicts, drains and forces of the server. The server itself is not touched.
///
/// Exit 0: all would be answered alike; 1: not all, or the folder is not good; 5: no server runs.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian shadow next --for 10m")]
pub(super) struct Shadow {
    /// The folder of zones.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// End after so long; without it, on ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    lasts: Option<Duration>,
    /// End after so many queries.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    places: Places,
    /// For programs: a line each time.
    #[arg(long)]
    json: bool,
}

/// What has to be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Something happened at the server.
    Server,
    /// The folder has changed.
    Folder,
    /// Somebody has seen enough.
    Stop,
}

/// The two that answer, kept as they are at the server and in the folder.
struct Pair {
    config: Config,
    history: History,
    folder: PathBuf,
    sides: Sides,
    /// Which one is served.
    snapshot: u64,
    /// When to try again, while they are not known as they are now.
    again: Option<Instant>,
}

impl Shadow {
    pub(super) fn run(self) -> ExitCode {
        match self.shadow() {
            Ok(code) => code,
            Err((text, code)) => {
                eprint!("{text}");
                code
            }
        }
    }

    fn shadow(&self) -> Result<ExitCode, Failure> {
        let config = self.places.config().map_err(|code| (String::new(), code))?;
        let Some(log) = config.query_log.clone() else {
            return Err(wrong_usage(without_log(&self.places.config_path())));
        };
        let mut pair = Pair::begin(config, &self.folder)?;
        let told = |error: std::io::Error| (format!("{}: {error}\n", log.file.display()), ExitCode::from(1));
        let mut follow = Follow::begin(&log.file).map_err(told)?;
        let (events, received) = channel();
        let _watching = listen(&events, &pair.config, &self.folder)
            .map_err(|error| (format!("{error}\n"), ExitCode::from(1)))?;
        if !self.json {
            let QueryLog { file, sample, .. } = &log;
            let part = if *sample == 1 { "all queries".to_owned() } else { format!("one query of {sample}") };
            super::print(&format!("following {}, {part}: {}\n", file.display(), pair.in_words()));
        }
        let mut replayed = Replayed::of(&log.file);
        self.follow(&mut follow, &mut pair, &mut replayed, &received).map_err(told)?;
        super::print(&if self.json { format!("{}\n", replayed.to_json()) } else { replayed.to_text() });
        Ok(ExitCode::from(u8::from(replayed.comparison.different > 0)))
    }

    /// Until it is enough.
    fn follow(
        &self,
        follow: &mut Follow,
        pair: &mut Pair,
        replayed: &mut Replayed,
        events: &Receiver<Event>,
    ) -> std::io::Result<()> {
        let end = self.lasts.map(|lasts| Instant::now() + lasts);
        let mut next = Instant::now() + TELL;
        loop {
            let event = match events.recv_timeout(LOOK) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
            };
            // What was asked before something happened was answered without it, as far as that can be told.
            let Replayed { comparison, counts, .. } = replayed;
            let Some(sides) = pair.sides.both() else { return Ok(()) };
            let most = self.count.unwrap_or(u64::MAX);
            let found = follow.read(&mut |question| {
                if comparison.queries < most {
                    comparison.add(question, sides);
                }
            })?;
            counts.queries += found.queries;
            counts.unreadable += found.unreadable;
            let now = Instant::now();
            let is_over = end.is_some_and(|end| now >= end) || comparison.queries >= most;
            if is_over || event == Some(Event::Stop) {
                return Ok(());
            }
            if pair.look(event) && !self.json {
                super::print(&format!("from here on {}\n", pair.in_words()));
            }
            if now >= next {
                next = now + TELL;
                super::print(&if self.json {
                    format!("{}\n", replayed.to_json())
                } else {
                    format!("{}\n", replayed.in_short())
                });
            }
        }
    }
}

/// What to do about it.
fn without_log(config: &Path) -> String {
    format!(
        "{}: shadow follows the query log of the server, which writes none; to have one, add\n\n    \
         query_log: {{ file: log/queries.log, sample: 1/100 }}\n\nand say `meridian replace`",
        config.display()
    )
}

impl Pair {
    fn begin(config: Config, folder: &Path) -> Result<Pair, Failure> {
        let history = History::of(&config.state, config.history);
        let status = control::tell(&config.control, &Command::Status)
            .map_err(|error| (String::new(), no_server(&config.control, &error)))?;
        let end = Instant::now() + PATIENCE;
        let (sides, snapshot) = loop {
            match read(&config, &history, folder) {
                // It was served a moment ago, and is written down now.
                Err((_, code)) if code == ExitCode::from(5) && Instant::now() < end => thread::sleep(AGAIN),
                read => break read?,
            }
        };
        publish(&sides, &status);
        Ok(Pair { config, history, folder: folder.to_owned(), sides, snapshot, again: None })
    }

    /// Takes over what has happened; gives whether others answer than before. A server that does not answer is asked again, and is
    /// meanwhile what it was.
    fn look(&mut self, event: Option<Event>) -> bool {
        let now = Instant::now();
        if event.is_none() && self.again.is_none_or(|again| now < again) {
            return false;
        }
        let Ok(status) = control::tell(&self.config.control, &Command::Status) else {
            self.again = Some(now + AGAIN);
            return false;
        };
        let is_another = status["snapshot"].as_u64() != Some(self.snapshot);
        let is_to_read = is_another || self.again.is_some() || event == Some(Event::Folder);
        if is_to_read {
            match read(&self.config, &self.history, &self.folder) {
                Ok((sides, snapshot)) => {
                    (self.sides, self.snapshot) = (sides, snapshot);
                    self.again = None;
                }
                Err((why, code)) => {
                    // Of a folder that is broken it is told, and once; what is not in history yet will be in a moment.
                    if self.again.is_none() && code == ExitCode::from(1) {
                        eprint!("{why}");
                    }
                    self.again = Some(now + AGAIN);
                }
            }
        }
        publish(&self.sides, &status);
        is_to_read && self.again.is_none()
    }

    fn in_words(&self) -> String {
        format!("snapshot {} beside {}", self.snapshot, self.folder.display())
    }
}

/// Both have the verdicts of the server.
fn publish(sides: &Sides, status: &Value) {
    sides.both().iter().flatten().for_each(|side| control::publish_as(side.board, status));
}

/// What is served and what is in the folder, of which all must be good, and the number of the former.
fn read(config: &Config, history: &History, folder: &Path) -> Result<(Sides, u64), Failure> {
    let served = running(config, history)?;
    let number = served.number;
    let (old, new) = (Origin::Snapshot(Box::new(served)), Origin::Folder(folder.to_owned()));
    let sides = Sides::read(config, history, &old, &new)?;
    if sides.findings.has_errors() || sides.both().is_none() {
        return Err((sides.findings.to_string(), ExitCode::from(1)));
    }
    Ok((sides, number))
}

/// Sends what has to be looked into.
fn listen(events: &Sender<Event>, config: &Config, folder: &Path) -> std::io::Result<watch::Watching> {
    let (server, control) = (events.clone(), config.control.clone());
    thread::Builder::new().name("server".to_owned()).spawn(move || {
        loop {
            let told = control::follow(&control, |_| server.send(Event::Server).is_ok());
            // It was replaced or stopped; whatever happened meanwhile was missed.
            if told.is_ok() || server.send(Event::Server).is_err() {
                return;
            }
            thread::sleep(AGAIN);
        }
    })?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    let entered = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(entered);
    let stop = events.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = stop.send(Event::Stop);
    })?;
    let changed = events.clone();
    watch::watch(vec![folder.to_owned()], move || {
        let _ = changed.send(Event::Folder);
    })
}
