//! The control socket: one JSON line in, one JSON line out. Whoever may open the socket may command the server, so the file
//! belongs to its user alone.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use crate::config::Config;
use crate::daemon::Event;
use crate::finding::{Findings, Severity};
use crate::geo::read::About;
use crate::health;
use crate::health::board::{Board, Share};
use crate::health::tries::Tries;
use crate::nameserver::counters::Totals;
use crate::nameserver::limit::Deed;
use crate::nameserver::{NoSite, Transport};
use crate::observe::query_log;
use crate::observe::tally::OfService;
use crate::policy::rate_limit::Level;
use crate::reload::{Outcome, ZoneStatus};
use crate::site::Service;
use crate::snapshot::Snapshot;

/// Of one command.
const LONGEST_LINE: u64 = 64 << 10;
/// For a command to be written, and for a status.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a reload, which may have to wait for others, a large database and the first round of new checks.
const PATIENCE_WITH_RELOADS: Duration = Duration::from_secs(600);

/// What a running server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// How are you?
    Status,
    /// Read everything again.
    Reload {
        /// Let go of what is gone.
        force: bool,
    },
}

/// What it answers.
pub type Reply = Value;

/// The last time that everything was read, for people.
#[derive(Clone, Copy, Debug)]
pub struct LastReload {
    /// When.
    pub at: SystemTime,
    /// What for.
    pub why: &'static str,
    /// How it went.
    pub outcome: Outcome,
}

/// Removes the socket when dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Command {
    fn to_line(self) -> String {
        match self {
            Command::Status => json!({ "command": "status" }),
            Command::Reload { force } => json!({ "command": "reload", "force": force }),
        }
        .to_string()
    }

    fn from_line(line: &str) -> Result<Command, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match value.get("command").and_then(Value::as_str) {
            Some("status") => Ok(Command::Status),
            Some("reload") => {
                Ok(Command::Reload { force: value.get("force").and_then(Value::as_bool).unwrap_or(false) })
            }
            _ => Err("known commands: status, reload".to_owned()),
        }
    }
}

/// Opens the socket, and sends what comes in to main.
///
/// # Errors
/// When another server has it, or the file system refuses.
pub fn listen(slow: &Runtime, path: &Path, events: Sender<Event>) -> Result<Control, String> {
    let told = |error: io::Error| format!("control socket {}: {error}", path.display());
    if UnixStream::connect(path).is_ok() {
        return Err(format!("control socket {}: another server has it", path.display()));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    // What a server left that did not stop by itself; nothing else is ours to remove.
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path).map_err(told)?,
        Ok(_) => return Err(format!("control socket {}: there is a file of that name", path.display())),
        Err(_) => {}
    }
    let _entered = slow.enter();
    let listener = tokio::net::UnixListener::bind(path).map_err(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(told)?;
    slow.spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, events.clone()))),
                Err(error) => {
                    debug!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(Control { path: path.to_owned() })
}

async fn converse(stream: tokio::net::UnixStream, events: Sender<Event>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LONGEST_LINE));
    if !matches!(timeout(PATIENCE, reader.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let reply = match Command::from_line(&line) {
        Err(error) => error_reply(&error),
        Ok(command) => {
            let (sender, receiver) = oneshot::channel();
            let sent = events.send(Event::Command(command, sender)).is_ok();
            match receiver.await {
                Ok(reply) if sent => reply,
                _ => error_reply("the server is stopping"),
            }
        }
    };
    let _ = timeout(PATIENCE, writer.write_all(format!("{reply}\n").as_bytes())).await;
}

/// Tells a running server something, and waits for what it says.
///
/// # Errors
/// When there is none, or it does not answer in time; what the server itself calls an error.
pub fn tell(path: &Path, command: Command) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(match command {
        Command::Status => PATIENCE,
        Command::Reload { .. } => PATIENCE_WITH_RELOADS,
    }))?;
    writeln!(stream, "{}", command.to_line())?;
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        _ => error,
    })?;
    if read == 0 {
        return Err(io::Error::other("it stopped"));
    }
    let reply: Reply = serde_json::from_str(&line).map_err(io::Error::other)?;
    match reply["error"].as_str() {
        Some(error) => Err(io::Error::other(error.to_owned())),
        None => Ok(reply),
    }
}

/// Why a command was not obeyed.
#[must_use]
pub fn error_reply(text: &str) -> Reply {
    json!({ "error": text })
}

/// How a reload went.
#[must_use]
pub fn reload_reply(outcome: Outcome, findings: &Findings) -> Reply {
    json!({ "outcome": outcome_name(outcome), "findings": findings_as_json(findings) })
}

/// How a reload went, in words.
#[must_use]
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::TookAll => "took all",
        Outcome::KeptSome => "kept some",
        Outcome::TookNothing => "took nothing",
    }
}

fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Findings for programs.
#[must_use]
pub fn findings_as_json(findings: &Findings) -> Value {
    findings
        .iter()
        .map(|finding| {
            json!({
                "severity": if finding.severity == Severity::Error { "error" } else { "warning" },
                "file": finding.path.display().to_string(),
                "line": finding.line,
                "column": finding.column,
                "text": finding.text,
                "shown": finding.shown,
            })
        })
        .collect()
}

/// All that `status` is made of.
pub struct Status<'a> {
    /// Since the start.
    pub uptime: Duration,
    /// What is served.
    pub snapshot: &'a Snapshot,
    /// And how its sites are.
    pub board: &'a Board,
    /// The snapshot's services, in its order.
    pub services: &'a [Arc<Service>],
    /// Its zones.
    pub zones: Vec<ZoneStatus>,
    /// What is checked.
    pub checks: Vec<health::Status>,
    /// What became of all attempts.
    pub tries: Tries,
    /// The geo databases.
    pub databases: &'a [About],
    /// What was counted.
    pub totals: Totals,
    /// Answers by service, in the snapshot's order.
    pub answers: Vec<OfService>,
    /// What became of sampled queries, where any are.
    pub query_log: Option<query_log::Counts>,
    /// Messages that cost their own answer.
    pub panics: u64,
    /// What each thread that listens counted besides, by its name.
    pub transports: Vec<(String, Vec<(&'static str, u64)>)>,
    /// Reloads since the start, by outcome.
    pub reloads: [u64; 4],
    /// The last of them.
    pub last_reload: Option<&'a LastReload>,
    /// When the snapshot was taken over.
    pub taken_over: SystemTime,
    /// Of the last reload.
    pub findings: &'a Findings,
    /// Where it listens.
    pub listen: &'a [SocketAddr],
    /// What it was told.
    pub config: &'a Config,
}

/// How the server is.
#[must_use]
pub fn status_reply(status: &Status<'_>) -> Reply {
    let totals = status.totals;
    let size = status.snapshot.catchments().size();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": status.uptime.as_secs(),
        "listen": status.listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
        "zones_folder": status.config.zones.display().to_string(),
        "snapshot": status.snapshot.number(),
        "zones": status.zones.iter().map(zone_as_json).collect::<Vec<_>>(),
        "services": status.snapshot.services().iter().enumerate()
            .map(|(index, _)| service_as_json(status, index)).collect::<Vec<_>>(),
        "checks": status.checks.iter().map(check_as_json).collect::<Vec<_>>(),
        "geodb": status.databases.iter().map(|about| json!({
            "file": about.path.display().to_string(),
            "kind": about.kind,
            "build_epoch": about.build_epoch,
        })).collect::<Vec<_>>(),
        "degraded": status.databases.is_empty(),
        "catchments": {
            "ipv4_ranges": size.v4_ranges,
            "ipv6_ranges": size.v6_ranges,
            "rankings": size.rankings,
            "octets": size.octets,
        },
        "counters": {
            "udp_queries": totals.queries[Transport::Udp as usize],
            "tcp_queries": totals.queries[Transport::Tcp as usize],
            "tls_queries": totals.queries[Transport::Tls as usize],
            "https_queries": totals.queries[Transport::Https as usize],
            "quic_queries": totals.queries[Transport::Quic as usize],
            "dropped": totals.dropped,
            "truncated": totals.truncated,
            "client_subnets": totals.client_subnets,
            "steered": totals.steered,
            "trailing_octets": totals.trailing_octets,
            "cookies": totals.cookies,
            "proven_cookies": totals.proven_cookies,
            "panics": status.panics,
            "noerror": totals.rcodes[0],
            "formerr": totals.rcodes[1],
            "servfail": totals.rcodes[2],
            "nxdomain": totals.rcodes[3],
            "notimp": totals.rcodes[4],
            "refused": totals.rcodes[5],
            "limited_truncated": by_level(&totals, Deed::Truncated),
            "limited_dropped": by_level(&totals, Deed::Dropped),
            "would_have_limited": by_level(&totals, Deed::Nothing),
        },
        "transports": status.transports.iter()
            .map(|(name, counts)| {
                let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
                (name.clone(), Value::Object(counts))
            })
            .collect::<serde_json::Map<_, _>>(),
        "reloads": {
            "unchanged": status.reloads[Outcome::Unchanged as usize],
            "took_all": status.reloads[Outcome::TookAll as usize],
            "kept_some": status.reloads[Outcome::KeptSome as usize],
            "took_nothing": status.reloads[Outcome::TookNothing as usize],
            "taken_over": seconds_since_1970(status.taken_over),
            "last": status.last_reload.map(|last| json!({
                "at": seconds_since_1970(last.at),
                "why": last.why,
                "outcome": outcome_name(last.outcome),
            })),
        },
        "query_log": status.query_log.zip(status.config.query_log.as_ref()).map(|(counts, log)| json!({
            "file": log.file.display().to_string(),
            "written": counts.written,
            "unwritten": counts.unwritten,
            "lost": counts.lost,
        })),
        "findings": findings_as_json(status.findings),
    })
}

/// Responses that were one too many, by whose rate was used up.
fn by_level(totals: &Totals, deed: Deed) -> Value {
    let counts = totals.limited[deed as usize];
    Level::ALL.iter().zip(counts).map(|(level, count)| (level.name().to_owned(), json!(count))).collect()
}

/// How a zone is, in a word.
#[must_use]
pub fn state_of(zone: &ZoneStatus) -> &'static str {
    match zone {
        ZoneStatus { serial: None, .. } => "broken",
        ZoneStatus { is_kept: true, .. } => "kept",
        _ => "good",
    }
}

fn zone_as_json(zone: &ZoneStatus) -> Value {
    let state = state_of(zone);
    json!({ "name": zone.name.to_string(), "serial": zone.serial, "names": zone.names, "state": state })
}

fn service_as_json(status: &Status<'_>, index: usize) -> Value {
    let compiled = &status.snapshot.services()[index];
    let answers = &status.answers[index];
    let sites: Vec<Value> = compiled
        .sites
        .iter()
        .enumerate()
        .map(|(number, site)| {
            let addresses = compiled.addresses(number as u16);
            let up =
                addresses.iter().filter(|address| status.board.verdict(address.verdict).is_served()).count();
            json!({
                "site": status.board.layout().shares[site.share as usize].site,
                "addresses": addresses.len(),
                "up": up,
                "answers": answers.sites[number],
                "share": f64::from(status.board.share(site.share).0) / f64::from(Share::FULL.0),
            })
        })
        .collect();
    let checked = status.services.get(index).is_some_and(|service| !service.checks.is_empty());
    let without = NoSite::ALL.iter().zip(answers.without);
    let without: Value = without.map(|(why, count)| (why.name().to_owned(), json!(count))).collect();
    json!({ "name": compiled.name, "checked": checked, "sites": sites, "answers_without_site": without })
}

fn check_as_json(check: &health::Status) -> Value {
    json!({
        "address": check.address.to_string(),
        "port": check.check.port,
        "verdict": check.verdict.to_string(),
        "kind": check.check.kind.to_string(),
        "since": seconds_since_1970(check.since),
        "last": check.last,
        "certificate_expires": check.certificate_expires.map(seconds_since_1970),
    })
}
