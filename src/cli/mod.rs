//! The command line: one file per command.
//!
//! Exit: 0 good; 1 findings, or a reload that kept some old; 2 wrong usage; 3 a reload that took nothing, or a
//! replacement that came to nothing; 4 an order or a change that goes too
//! far; 5 no server, or none that answers.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, DEFAULT_PATH};
use crate::finding::Findings;

mod ask;
mod check;
mod completions;
mod coverage;
mod demo_sites;
mod diff;
mod explain;
mod export;
mod history;
mod import;
mod man;
mod map;
mod operate;
mod replace;
mod replayed;
mod schema;
mod serve;
mod served;
mod shadow;
mod simulate;

/// Authoritative DNS that answers with the nearest healthy site.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Explain(explain::Explain),
    Diff(diff::Diff),
    Shadow(shadow::Shadow),
    Map(map::MapCommand),
    Simulate(simulate::Simulate),
    Import(import::Import),
    Export(export::Export),
    Schema(schema::Schema),
    Completions(completions::Completions),
    Man(man::Man),
    Status(ask::Status),
    Reload(ask::Reload),
    History(history::HistoryCommand),
    Rollback(history::Rollback),
    Replace(replace::Replace),
    Drain(operate::Drain),
    Undrain(operate::Undrain),
    Force(operate::Force),
    Unforce(operate::Unforce),
    Watch(operate::Watch),
    DemoSites(demo_sites::DemoSites),
    #[command(hide = true)]
    Starter(replace::Starter),
}

/// Where things are; each wins over the file.
#[derive(Clone, Debug, Args)]
struct Places {
    /// The configuration; ./meridian.yaml if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of zones.
    #[arg(long, value_name = "DIR")]
    zones: Option<PathBuf>,
    /// An MMDB file or a folder of them; may be given several times, in order.
    #[arg(long, value_name = "PATH")]
    geodb: Vec<PathBuf>,
}

impl Places {
    /// The configuration with what the command line says; none, and findings on standard error, if it is wrong.
    fn config(&self) -> Result<Config, ExitCode> {
        let mut findings = Findings::new();
        let mut config = Config::read(self.config.as_deref(), &mut findings);
        if findings.has_errors() {
            eprint!("{findings}");
            return Err(ExitCode::from(1));
        }
        if let Some(zones) = &self.zones {
            config.zones.clone_from(zones);
        }
        if !self.geodb.is_empty() {
            config.geodb.clone_from(&self.geodb);
            config.geodb_is_named = true;
        }
        Ok(config)
    }

    fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| Path::new(DEFAULT_PATH).to_owned())
    }
}

/// The command line without what only we ourselves type: for completions and man pages.
fn shown() -> clap::Command {
    let all = Cli::command();
    let about = all.get_about().cloned().unwrap_or_default();
    clap::Command::new("meridian")
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(all.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Shadow(command) => command.run(),
        Command::Map(command) => command.run(),
        Command::Simulate(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::History(command) => command.run(),
        Command::Rollback(command) => command.run(),
        Command::Replace(command) => command.run(),
        Command::Drain(command) => command.run(),
        Command::Undrain(command) => command.run(),
        Command::Force(command) => command.run(),
        Command::Unforce(command) => command.run(),
        Command::Watch(command) => command.run(),
        Command::DemoSites(command) => command.run(),
        Command::Starter(command) => command.run(),
    }
}

/// Writes to standard output. Whoever reads it may have seen enough (`| head`): that is no mistake, and false.
fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Standard error, whether or not anybody reads it: a log that cannot be written is no reason for a check or a
/// reload to end.
struct Log;

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log, on standard error; `RUST_LOG=debug` tells more.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// What listens where, as `--listen` takes it.
fn parse_listener(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address with a port is expected, such as 192.0.2.53:53 or [::1]:5300".to_owned())
}
