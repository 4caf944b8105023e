//! `meridian serve`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use super::{Places, parse_listener, start_log};
use crate::config::Listener;
use crate::daemon::{self, Options};

/// Answer queries until told to stop.
///
/// HUP reads everything again; files that change are noticed anyway. TERM and INT stop.
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
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        start_log();
        let mut config = match self.places.config() {
            Ok(config) => config,
            Err(code) => return code,
        };
        if !self.listen.is_empty() {
            config.listen = self.listen.into_iter().map(Listener::plain).collect();
        }
        config.user = self.user.or(config.user);
        config.sandbox &= !self.no_sandbox;
        let options = Options { config_path: self.places.config_path(), strict: self.strict };
        match daemon::serve(&config, &options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                tracing::error!("{reason}");
                ExitCode::from(1)
            }
        }
    }
}
