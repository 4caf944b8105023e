//! `meridian history` and `meridian rollback`: what was served before, and the way back.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::Places;
use super::ask::{Server, exit_of_reload, text, user, write_reload};
use super::coverage::table;
use crate::change::history::{Entry, History};
use crate::control::{Command, Word};
use crate::finding::printable;

/// Tell which snapshots were served, when and why; or what one was made of.
///
/// It reads the state folder: no server need be running.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: meridian history show 12 example.com.yaml",
    args_conflicts_with_subcommands = true
)]
pub(super) struct HistoryCommand {
    #[command(subcommand)]
    show: Option<Show>,
    #[command(flatten)]
    of: Of,
}

/// Whose history.
#[derive(Debug, Args)]
struct Of {
    /// The configuration that names the state folder.
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Tell what a snapshot was made of, or print one of its files.
    Show {
        /// The snapshot.
        number: u64,
        /// A file of it.
        file: Option<String>,
        #[command(flatten)]
        of: Of,
    },
}

/// Make the running server go back to an earlier snapshot, until the files change.
///
/// Zones and sites are as they were; geo databases are those of today. Restarts do not change that; the next change of a file does, and so
/// does `meridian reload --force`.
///
/// Exit 0: it is served; 1: it is, but for what of it is broken; 3: it is not; 5: no server.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian rollback 12 --reason \"lhr was missing\"")]
pub(super) struct Rollback {
    /// Which; `meridian history` lists them.
    number: u64,
    /// Why, for history.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: Server,
}

impl Of {
    fn history(&self) -> Result<History, ExitCode> {
        let places = Places { config: self.config.clone(), zones: None, geodb: Vec::new() };
        let config = places.config()?;
        Ok(History::of(&config.state, config.history))
    }
}

impl HistoryCommand {
    pub(super) fn run(self) -> ExitCode {
        let done = match &self.show {
            None => list(&self.of),
            Some(Show::Show { number, file, of }) => show(*number, file.as_deref(), of),
        };
        done.map_or_else(|code| code, |()| ExitCode::SUCCESS)
    }
}

fn list(of: &Of) -> Result<(), ExitCode> {
    let history = of.history()?;
    let entries = history.entries();
    if of.json {
        super::print(&format!("{:#}\n", json!({ "snapshots": entries, "rollback": history.rollback() })));
        return Ok(());
    }
    let mut rows = vec![["snapshot", "since", "zones", "names", "why"].map(str::to_owned).to_vec()];
    for entry in entries.iter().rev() {
        let why = told(entry);
        rows.push(vec![
            entry.number.to_string(),
            time(entry.at),
            entry.zones.to_string(),
            entry.names.to_string(),
            why,
        ]);
    }
    let mut out = table(&rows, &[1, 4]);
    if let Some(rollback) = history.rollback() {
        out.push_str(&format!(
            "snapshot {} is served instead of the files, until they change\n",
            rollback.to
        ));
    }
    super::print(&out);
    Ok(())
}

/// What made it, who wanted it, and what git calls it.
fn told(entry: &Entry) -> String {
    let cause = &entry.cause;
    let mut told = cause.why.clone();
    if let Some(by) = &cause.by {
        told.push_str(&format!(", by {by}"));
    }
    if let Some(reason) = &cause.reason {
        told.push_str(&format!(": {reason}"));
    }
    if let Some(commit) = &entry.commit {
        told.push_str(&format!(" (commit {})", commit.get(..12).unwrap_or(commit)));
    }
    printable(&told)
}

/// In UTC.
pub(super) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn show(number: u64, file: Option<&str>, of: &Of) -> Result<(), ExitCode> {
    let history = of.history()?;
    let fail = |text: String| {
        eprintln!("{}", printable(&text));
        ExitCode::from(2)
    };
    let entry = history.entry(number).ok_or_else(|| fail(format!("snapshot {number} is not kept")))?;
    let tree = history.tree(&entry).map_err(|error| fail(error.to_string()))?;
    if let Some(file) = file {
        let digest = tree.0.get(file).ok_or_else(|| fail(format!("snapshot {number} has no file {file}")))?;
        let octets = history.text(digest).map_err(|error| fail(error.to_string()))?;
        super::print(&String::from_utf8_lossy(&octets));
        return Ok(());
    }
    if of.json {
        let files: serde_json::Map<_, _> =
            tree.0.iter().map(|(path, digest)| (path.clone(), json!(digest))).collect();
        super::print(&format!("{:#}\n", json!({ "snapshot": entry, "files": files })));
        return Ok(());
    }
    let mut out = format!(
        "snapshot  {}\nsince     {}\nwhy       {}\ndigest    {}\n",
        entry.number,
        time(entry.at),
        told(&entry),
        entry.digest,
    );
    for database in &entry.databases {
        let built = database
            .about
            .as_ref()
            .map_or_else(String::new, |about| format!(", built {}", time(about.build_epoch)));
        out.push_str(&format!("database  {}{built}\n", printable(&database.path.display().to_string())));
    }
    for (path, digest) in &tree.0 {
        out.push_str(&format!("{:.12}  {}\n", digest.to_string(), printable(path)));
    }
    super::print(&out);
    Ok(())
}

impl Rollback {
    pub(super) fn run(self) -> ExitCode {
        let word = Word { reason: self.reason, by: user() };
        let reply = match self.server.tell(&Command::Rollback { to: self.number, word }) {
            Ok(reply) => reply,
            Err(code) => return code,
        };
        if let Some(wrong) = reply["wrong"].as_str() {
            eprintln!("{}", printable(wrong));
            return ExitCode::from(2);
        }
        let mut out = String::new();
        let _ = if self.server.json {
            std::fmt::Write::write_fmt(&mut out, format_args!("{reply:#}\n"))
        } else {
            write_reload(&mut out, &reply)
        };
        super::print(&out);
        exit_of_reload(&text(&reply["outcome"]))
    }
}
