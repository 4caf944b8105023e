//! Answers from a folder that is not served yet, beside the server that runs and with its verdicts, for whoever wants to ask it before it is.
//!
//! It has no checks, no control socket and no state, and ends when it is told to by any signal: there is nothing to lose.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::published::Published;
use super::servers::{Listeners, Servers};
use super::systemd::Passed;
use super::{log, own_secrets};
use crate::config::{Config, Listener};
use crate::control::{self, Command};
use crate::health::board::Board;
use crate::health::spill;
use crate::reload::{Outcome, Reload, Reloader, watch};

/// Where it listens unless somebody says where.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 5301);

/// How often the server is asked for its verdicts.
const LOOK: Duration = Duration::from_secs(1);

/// Serves until it is killed.
///
/// # Errors
/// Why it could not start.
pub fn serve(mut config: Config, folder: PathBuf, listen: &[SocketAddr]) -> Result<Infallible, String> {
    let listen = if listen.is_empty() { &[SocketAddr::from(ADDRESS)] } else { listen };
    config.listen = listen.iter().copied().map(Listener::plain).collect();
    config.workers = 1;
    let mut passed = Passed::take(None).map_err(|error| format!("sockets: {error}"))?;
    let listeners = Listeners::bind(&config, &mut passed)?;
    let mut preview = Preview {
        reloader: Reloader::to_compare(&config),
        workers: listeners.workers(),
        control: config.control.clone(),
        is_alone: false,
    };
    preview.reloader.read_from(Some(folder.clone()));
    preview.reloader.set_policy(config.answers.policy(&own_secrets()?));
    let published =
        preview.read().ok_or_else(|| format!("{}: there is nothing to serve", folder.display()))?;
    let published = Arc::new(ArcSwap::from_pointee(published));
    let servers: Servers = listeners.serve(&published, None, None)?;
    for listener in servers.addresses() {
        info!("listening on {listener}");
    }
    info!("ready: a preview of {}", folder.display());
    let (changed, changes) = channel();
    let watched: Vec<PathBuf> = std::iter::once(folder).chain(config.geodb.iter().cloned()).collect();
    let _watching = watch::watch(watched, move || {
        let _ = changed.send(());
    });
    loop {
        match changes.recv_timeout(LOOK) {
            Ok(()) => {
                if let Some(next) = preview.read() {
                    published.store(Arc::new(next));
                    info!("the preview has changed");
                }
            }
            Err(RecvTimeoutError::Timeout) => preview.look_at_server(&published.load().board),
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(LOOK);
                preview.look_at_server(&published.load().board);
            }
        }
    }
}

struct Preview {
    reloader: Reloader,
    workers: usize,
    control: PathBuf,
    /// No server is there whose verdicts could be taken.
    is_alone: bool,
}

impl Preview {
    /// None where nothing is new, or nothing is good.
    fn read(&mut self) -> Option<Published> {
        // Nothing is held: that is what somebody wants to look at.
        let Reload { outcome, findings, snapshot } = self.reloader.reload(true);
        log(&findings, false);
        if matches!(outcome, Outcome::KeptSome | Outcome::TookNothing) {
            warn!("not all of it is good");
        }
        let (snapshot, layout) = snapshot?;
        let board = Arc::new(Board::new(layout));
        self.look_at_server(&board);
        // What sites cost depends on the new files, too.
        spill::price(&board);
        Some(Published::new(snapshot, board, self.workers))
    }

    fn look_at_server(&mut self, board: &Board) {
        let status = control::tell(&self.control, &Command::Status);
        let was_alone = std::mem::replace(&mut self.is_alone, status.is_err());
        match status {
            Ok(status) => {
                control::publish_as(board, &status);
                if was_alone {
                    info!("verdicts are those of the server at {}", shown(&self.control));
                }
            }
            Err(error) if !was_alone => {
                warn!(
                    "{}: {error}; verdicts are those of before, and sites are up that have none",
                    shown(&self.control)
                );
            }
            Err(_) => {}
        }
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
