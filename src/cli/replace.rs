//! `meridian replace`, and the process that starts the new server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::ask::{Server, text};
use crate::control::Command;
use crate::daemon::handover;

/// Have the running server replaced by a new one, from the same file with the same arguments; no query is lost.
///
/// Returns when the new one answers. Exit 0: it does; 3: it does not, and the old one goes on.
#[derive(Debug, Args)]
#[command(after_help = "Example: apt upgrade meridian && meridian replace")]
pub(super) struct Replace {
    #[command(flatten)]
    server: Server,
}

/// Waits until it is told to start a server.
#[derive(Debug, Args)]
pub(super) struct Starter {
    /// The server's file.
    file: PathBuf,
    /// What it is called with.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    arguments: Vec<OsString>,
}

impl Replace {
    pub(super) fn run(self) -> ExitCode {
        let reply = match self.server.tell(&Command::Replace) {
            Ok(reply) => reply,
            Err(code) => return code,
        };
        if self.server.json {
            super::print(&format!("{reply:#}\n"));
        }
        match reply["failed"].as_str() {
            None if !self.server.json => {
                super::print(&format!("process {} is the server now\n", reply["replaced_by"]));
            }
            None => {}
            Some(_) => {
                eprintln!("the new server {}; the old one goes on", text(&reply["failed"]));
                return ExitCode::from(3);
            }
        }
        ExitCode::SUCCESS
    }
}

impl Starter {
    pub(super) fn run(self) -> ExitCode {
        match handover::run_starter(&self.file, &self.arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}; `meridian serve` starts this by itself");
                ExitCode::from(2)
            }
        }
    }
}
