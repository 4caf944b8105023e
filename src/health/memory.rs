//! Verdicts over a restart: what was known a moment ago is better than nothing, so a server that starts again neither asks its
//! clients to wait for a first round of checks nor sends them to what was down.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::board::Verdict;
use crate::replace::replace;

/// Within the state folder.
const FILE: &str = "verdicts.json";
/// What was written longer ago tells nothing.
const TRUSTED: Duration = Duration::from_secs(600);
/// How often it is written while nothing changes, so that it is fresh when it is needed.
const FRESH: Duration = Duration::from_secs(60);

/// A file of verdicts.
#[derive(Debug, Default)]
pub(super) struct Memory {
    path: Option<PathBuf>,
    /// From the last run; each is used once.
    known: HashMap<String, Remembered>,
    written: Option<SystemTime>,
    is_broken: bool,
    /// Another process may read the file, or write it.
    pub(super) is_lent: bool,
}

/// A verdict on an (address, check), and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    is_up: bool,
    since: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    written: u64,
    verdicts: HashMap<String, Remembered>,
}

impl Remembered {
    /// None for what there is no verdict on.
    #[must_use]
    pub(super) fn of(verdict: Verdict, since: SystemTime) -> Option<Remembered> {
        let is_up = match verdict {
            Verdict::Up => true,
            Verdict::Down => false,
            _ => return None,
        };
        Some(Remembered { is_up, since: since.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()) })
    }

    /// The verdict.
    #[must_use]
    pub(super) fn verdict(self) -> Verdict {
        if self.is_up { Verdict::Up } else { Verdict::Down }
    }

    /// Since when.
    #[must_use]
    pub(super) fn since(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since)
    }
}

impl Memory {
    /// Reads what the last run knew, if that is not too long ago; without a folder nothing is kept.
    #[must_use]
    pub(super) fn open(folder: Option<&Path>, now: SystemTime) -> Memory {
        let path = folder.map(|folder| folder.join(FILE));
        let octets = path.as_deref().and_then(|path| fs::read(path).ok());
        let file = octets.and_then(|octets| serde_json::from_slice::<File>(&octets).ok());
        let is_fresh = |file: &File| {
            let written = UNIX_EPOCH + Duration::from_secs(file.written);
            // Written in the future: by a clock that was wrong, then or now.
            now.duration_since(written).is_ok_and(|age| age <= TRUSTED)
        };
        let known = file.filter(is_fresh).map(|file| file.verdicts).unwrap_or_default();
        debug!("{} verdicts are known from the last run", known.len());
        Memory { path, known, written: None, is_broken: false, is_lent: false }
    }

    /// What the last run knew of a subject.
    pub(super) fn take(&mut self, subject: &str) -> Option<Remembered> {
        self.known.remove(subject)
    }

    /// Whether it is time to write though nothing has changed.
    #[must_use]
    pub(super) fn is_stale(&self, now: SystemTime) -> bool {
        let age = |written: SystemTime| now.duration_since(written).unwrap_or(FRESH);
        self.path.is_some() && !self.is_lent && self.written.is_none_or(|written| age(written) >= FRESH)
    }

    /// Where and what to write; none without a folder.
    pub(super) fn begin_to_write(
        &mut self,
        verdicts: HashMap<String, Remembered>,
        now: SystemTime,
    ) -> Option<impl FnOnce() -> Result<(), String> + Send + use<>> {
        let path = self.path.clone().filter(|_| !self.is_lent)?;
        self.written = Some(now);
        let written = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Some(move || {
            let octets =
                serde_json::to_vec(&File { written, verdicts }).map_err(|error| error.to_string())?;
            replace(&path, &octets).map_err(|error| format!("{}: {error}", path.display()))
        })
    }

    /// Tells of trouble once, and that it is over.
    pub(super) fn wrote(&mut self, result: Result<(), String>) {
        match (result, self.is_broken) {
            (Err(error), false) => {
                warn!("{error}; a restart will not know the verdicts");
                self.is_broken = true;
            }
            (Ok(()), true) => self.is_broken = false,
            _ => {}
        }
    }
}
