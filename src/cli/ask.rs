//! `meridian status` and `meridian reload`: a word with a running server.

use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;

use super::Places;
use crate::control::{self, Command, Word};
use crate::finding::printable;
use crate::health::overrides::in_words;

/// In seconds: so long what was wrong is told of what is good again.
const HOUR: u64 = 3600;

/// Where the server is.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The configuration that names the control socket.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket itself.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    pub(super) json: bool,
}

/// Tell how the running server is: zones, sites, checks, counters.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian status --json")]
pub(super) struct Status {
    #[command(flatten)]
    server: Server,
}

/// Make the running server read everything again.
///
/// Exit 0: all is served; 1: some zones keep their last good version; 3: nothing was taken over; 4: it is held, for it goes far.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian reload")]
pub(super) struct Reload {
    #[command(flatten)]
    server: Server,
    /// Let go of zones, shared files and databases that are gone; do what is held; end a rollback.
    #[arg(long)]
    force: bool,
    /// Why, for history.
    #[arg(long, default_value = "")]
    reason: String,
}

impl Server {
    pub(super) fn tell(&self, command: &Command) -> Result<Value, ExitCode> {
        let path = self.path()?;
        control::tell(&path, command).map_err(|error| no_server(&path, &error))
    }

    pub(super) fn path(&self) -> Result<PathBuf, ExitCode> {
        Ok(match &self.control {
            Some(path) => path.clone(),
            None => Places { config: self.config.clone(), zones: None, geodb: Vec::new() }.config()?.control,
        })
    }
}

/// None that answers.
pub(super) fn no_server(path: &Path, error: &io::Error) -> ExitCode {
    eprintln!("{}: {error}; is a server running?", path.display());
    ExitCode::from(5)
}

impl Status {
    pub(super) fn run(self) -> ExitCode {
        let status = match self.server.tell(&Command::Status) {
            Ok(status) => status,
            Err(code) => return code,
        };
        let mut out = String::new();
        let _ = if self.server.json { writeln!(out, "{status:#}") } else { write_status(&mut out, &status) };
        super::print(&out);
        ExitCode::SUCCESS
    }
}

impl Reload {
    pub(super) fn run(self) -> ExitCode {
        let reply = match self.server.tell(&Command::Reload {
            force: self.force,
            word: Word { reason: self.reason.clone(), by: user() },
        }) {
            Ok(reply) => reply,
            Err(code) => return code,
        };
        let mut out = String::new();
        let _ = if self.server.json { writeln!(out, "{reply:#}") } else { write_reload(&mut out, &reply) };
        super::print(&out);
        exit_of_reload(&text(&reply["outcome"]))
    }
}

pub(super) fn exit_of_reload(outcome: &str) -> ExitCode {
    match outcome {
        "unchanged" | "took all" => ExitCode::SUCCESS,
        "kept some" => ExitCode::from(1),
        "held" => ExitCode::from(4),
        _ => ExitCode::from(3),
    }
}

/// Who works as root through sudo is known by it.
pub(super) fn user() -> String {
    ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

/// Without what a terminal would act on: files and servers of others have a say in it.
pub(super) fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or(&value.to_string()))
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn write_reload(out: &mut String, reply: &Value) -> fmt::Result {
    write_findings(out, reply)?;
    match reply["snapshot"].as_u64() {
        Some(number) => writeln!(out, "{}: snapshot {number} is served", text(&reply["outcome"])),
        None => writeln!(out, "{}", text(&reply["outcome"])),
    }
}

fn write_findings(out: &mut String, reply: &Value) -> fmt::Result {
    for finding in list(&reply["findings"]) {
        let place = match finding["line"].as_u64() {
            Some(0) | None => text(&finding["file"]),
            Some(line) => format!("{}:{line}:{}", text(&finding["file"]), finding["column"]),
        };
        let severity = if finding["severity"] == "warning" { "warning: " } else { "" };
        writeln!(out, "{place}: {severity}{}", text(&finding["text"]))?;
        if let Some(shown) = finding["shown"].as_str() {
            writeln!(out, "    {}", printable(shown))?;
        }
    }
    Ok(())
}

fn write_status(out: &mut String, status: &Value) -> fmt::Result {
    writeln!(
        out,
        "meridian {} pid {} up {} s, snapshot {}, listening on {}",
        text(&status["version"]),
        status["pid"],
        status["uptime_seconds"],
        status["snapshot"],
        list(&status["listen"]).iter().map(text).collect::<Vec<_>>().join(", "),
    )?;
    if let Some(rollback) = status["rollback"].as_u64() {
        writeln!(out, "rolled back to snapshot {rollback}, until the files change")?;
    }
    writeln!(out, "\nzones")?;
    for zone in list(&status["zones"]) {
        let serial = if zone["serial"].is_null() { "-".to_owned() } else { zone["serial"].to_string() };
        writeln!(
            out,
            "  {:30} {:6} serial {serial}, {} names",
            text(&zone["name"]),
            text(&zone["state"]),
            zone["names"]
        )?;
    }
    writeln!(out, "\nservices")?;
    for service in list(&status["services"]) {
        let checked = if service["checked"] == true { "" } else { " (not checked)" };
        writeln!(out, "  {}{checked}", text(&service["name"]))?;
        for site in list(&service["sites"]) {
            write!(
                out,
                "    {:20} {} of {} addresses up, {} answers",
                text(&site["site"]),
                site["up"],
                site["addresses"],
                site["answers"]
            )?;
            match site["share"].as_f64() {
                Some(0.0) => write!(out, ", drained")?,
                Some(share) if share < 1.0 => write!(out, ", takes {:.0}% of its clients", share * 100.0)?,
                _ => {}
            }
            if let Some(load) = site["load"].as_f64() {
                write!(out, ", loaded to {:.0}%", load * 100.0)?;
            }
            if let Some(price) = site["price_km"].as_f64().filter(|price| *price > 0.0) {
                write!(out, ", full: counts as {price:.0} km farther")?;
            }
            if !site["held"].is_null() {
                write!(out, ", held ({})", text(&site["held"]))?;
            }
            writeln!(out)?;
        }
    }
    write_overrides(out, status)?;
    if !list(&status["checks"]).is_empty() {
        writeln!(out, "\nchecks")?;
    }
    for check in list(&status["checks"]) {
        write_check(out, check)?;
    }
    writeln!(out, "\ngeo databases")?;
    for database in list(&status["geodb"]) {
        writeln!(
            out,
            "  {:30} {}, {}",
            text(&database["file"]),
            text(&database["kind"]),
            age(&database["build_epoch"])
        )?;
    }
    if list(&status["geodb"]).is_empty() {
        writeln!(out, "  none: rules and the written order of sites decide")?;
    }
    write_connections(out, &status["transports"])?;
    let counters = &status["counters"];
    let by_transport = ["UDP", "TCP", "TLS", "HTTPS", "QUIC"]
        .map(|name| format!("{} {name}", counters[format!("{}_queries", name.to_lowercase())]));
    writeln!(
        out,
        "\nqueries: {}; {} steered, {} with client subnet, {} dropped",
        by_transport.join(", "),
        counters["steered"],
        counters["client_subnets"],
        counters["dropped"],
    )?;
    let log = &status["query_log"];
    if !log.is_null() {
        writeln!(
            out,
            "query log: {} lines written to {}; {} that could not be, {} that were too many at once",
            log["written"],
            text(&log["file"]),
            log["unwritten"],
            log["lost"],
        )?;
    }
    let last = &status["reloads"]["last"];
    writeln!(out, "last read: {} ({}): {}", ago(&last["at"]), text(&last["why"]), text(&last["outcome"]))?;
    if !list(&status["findings"]).is_empty() {
        writeln!(out, "\nfound then")?;
        write_findings(out, status)?;
    }
    if !list(&status["events"]).is_empty() {
        writeln!(out, "\nwhat happened last")?;
    }
    for event in list(&status["events"]) {
        writeln!(out, "  {:>12}  {}", ago(&event["at"]), text(&event["text"]))?;
    }
    Ok(())
}

/// `192.0.2.10 port 80 tcp   up   for 2h 5m, good, in 1.2 ms; 34 s ago: connect: Connection refused`.
fn write_check(out: &mut String, check: &Value) -> fmt::Result {
    let port = check["port"].as_u64().map_or_else(String::new, |port| format!("port {port} "));
    let target = format!("{} {port}{}", text(&check["address"]), text(&check["kind"]));
    write!(out, "  {target:40} {:8} ", text(&check["verdict"]))?;
    if let Some(seconds) = seconds_since(&check["since"]) {
        write!(out, "for {}, ", if seconds == 0 { "0s".to_owned() } else { in_words(1000 * seconds) })?;
    }
    write!(out, "{}", text(&check["last"]))?;
    if let Some(rtt) = check["rtt_ms"].as_f64() {
        write!(out, ", in {rtt:.1} ms")?;
    }
    let error = &check["last_error"];
    let is_news = check["verdict"] == "down" || seconds_since(&error["at"]).is_some_and(|ago| ago <= HOUR);
    // What was just said need not be said twice.
    if !error.is_null() && is_news && error["text"] != check["last"] {
        write!(out, "; {}: {}", ago(&error["at"]), text(&error["text"]))?;
    }
    writeln!(out)
}

/// What operators said, and whether the server knows itself to be cut off.
/// Of an override: until when, who, and why.
pub(super) fn who_said_so(standing: &Value) -> String {
    let until = match standing["until"].as_u64().zip(now()) {
        Some((until, now)) => format!("for {} more", in_words(1000 * until.saturating_sub(now))),
        None => "until it is taken back".to_owned(),
    };
    match text(&standing["reason"]) {
        reason if reason.is_empty() => format!("{until}, by {}", text(&standing["by"])),
        reason => format!("{until}, by {}: {reason}", text(&standing["by"])),
    }
}

fn write_overrides(out: &mut String, status: &Value) -> fmt::Result {
    match status["isolated"].as_bool() {
        Some(true) => writeln!(out, "\nevery canary fails: the fault is here, and no site leaves")?,
        Some(false) => writeln!(out, "\nthe canaries are well")?,
        None => {}
    }
    if !list(&status["overrides"]).is_empty() {
        writeln!(out, "\noverrides")?;
    }
    for standing in list(&status["overrides"]) {
        let service = standing["service"].as_str().map_or("every service".to_owned(), printable);
        let (site, what) = (text(&standing["site"]), text(&standing["what"]));
        writeln!(out, "  {site:20} {what:12} in {service}, {}", who_said_so(standing))?;
    }
    Ok(())
}

/// Of each thread that has any.
fn write_connections(out: &mut String, transports: &Value) -> fmt::Result {
    writeln!(out, "\nconnections")?;
    let threads = transports.as_object().into_iter().flatten();
    for (name, counts) in threads.filter(|(name, _)| !name.starts_with("udp-")) {
        let cut_off = ["evicted", "cut_off_slow", "cut_off_idle", "cut_off_unread"];
        let cut_off: u64 = cut_off.iter().filter_map(|kind| counts[kind].as_u64()).sum();
        write!(
            out,
            "  {:10} {} open, {} accepted, {} refused, {cut_off} cut off at a limit",
            printable(name),
            counts["connections"],
            counts["accepted"],
            counts["refused"],
        )?;
        match name.as_str() {
            "tcp" => writeln!(out)?,
            _ => writeln!(out, ", {} failed handshakes", counts["failed_handshakes"])?,
        }
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs())
}

fn seconds_since(epoch: &Value) -> Option<u64> {
    now()?.checked_sub(epoch.as_u64()?)
}

fn age(epoch: &Value) -> String {
    seconds_since(epoch)
        .map_or_else(|| "of an unknown day".to_owned(), |age| format!("{} days old", age / 86_400))
}

fn ago(epoch: &Value) -> String {
    seconds_since(epoch).map_or_else(|| "never".to_owned(), |ago| format!("{ago} s ago"))
}
