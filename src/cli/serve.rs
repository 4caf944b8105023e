//! `meridian serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{Places, parse_listener, start_log};
use crate::config::Listener;
use crate::daemon::handover::{Predecessor, Program};
use crate::daemon::{self, Options};

/// Answer queries until told to stop.
///
/// HUP reads everything again; files that change are noticed anyway. USR2 starts the program anew in the place of this one, and
/// no query is lost (`meridian replace`). TERM and INT stop.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian serve --listen 192.0.2.53:53 --listen '[2001:db8::53]:53'")]
pub(super) struct Serve {
    #[command(flatten)]
    places: Places,
    /// Where to listen, UDP and TCP; may be given several times.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listener)]
    listen: Vec<SocketAddr>,
    /// Refuse to start with any error in zones, sites, geo databases or expectations.
    #[arg(long)]
    strict: bool,
    /// Whom to become once the sockets are bound, when started as root.
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Do without the sandbox: read whatever the user may read.
    #[arg(long)]
    no_sandbox: bool,
    /// Answer from this folder of zones instead, on addresses of its own, with the verdicts of the server that runs: no checks, no
    /// control socket, nothing is kept. At 127.0.0.1:5301 unless --listen says where.
    #[arg(long, value_name = "DIR", conflicts_with = "strict")]
    preview: Option<PathBuf>,
    /// Take the place of the server that is at the other end of standard input.
    #[arg(long, hide = true)]
    takes_over: bool,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        start_log();
        let predecessor = match self.takes_over.then(Predecessor::find).transpose() {
            Ok(predecessor) => predecessor.map(Arc::new),
            Err(error) => {
                tracing::error!("--takes-over is for `meridian replace`: {error}");
                return ExitCode::from(2);
            }
        };
        let fail = |why: &str| {
            tracing::error!("{why}");
            // To whoever waits for it.
            if let Some(predecessor) = &predecessor {
                predecessor.fail(why);
            }
            ExitCode::from(1)
        };
        let mut config = match self.places.config() {
            Ok(config) => config,
            Err(code) => {
                fail("the configuration is wrong; the log tells what");
                return code;
            }
        };
        if let Some(folder) = self.preview {
            return match daemon::preview::serve(config, folder, &self.listen) {
                Ok(never) => match never {},
                Err(reason) => fail(&reason),
            };
        }
        if !self.listen.is_empty() {
            config.listen = self.listen.into_iter().map(Listener::plain).collect();
        }
        config.user = self.user.or(config.user);
        config.sandbox &= !self.no_sandbox;
        let program = Program::of_this_process();
        let program =
            program.inspect_err(|error| tracing::warn!("this server cannot be replaced: {error}")).ok();
        let options = Options { config_path: self.places.config_path(), strict: self.strict, program };
        match daemon::serve(&config, &options, predecessor.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(&reason),
        }
    }
}
