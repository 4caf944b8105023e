//! What was served before: written down beside the queries, and taken up again when files are broken at the start or an operator wants to go
//! back.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::Main;
use crate::change::content::{Digest, Tree};
use crate::change::history::{Entry, History, Ingredient, Rollback};
use crate::change::{Cause, checkout};
use crate::control::{self, Reply, Word};
use crate::reload::{Outcome, Reload};

/// Writes snapshots down, one after the other, on a thread of its own: a disk may be slow, or full.
pub(super) struct Recorder {
    snapshots: Option<Sender<(Entry, Vec<Ingredient>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    pub(super) fn start(history: &History) -> Recorder {
        let (snapshots, received) = channel::<(Entry, Vec<Ingredient>)>();
        let history = history.clone();
        let mut is_told = false;
        let record = move || {
            for (entry, ingredients) in received {
                let number = entry.number;
                match history.keep(entry, &ingredients) {
                    Ok(()) => is_told = false,
                    // Nobody needs to read it at every change.
                    Err(error) if is_told => debug!("snapshot {number} is not kept: {error}"),
                    Err(error) => {
                        warn!("snapshot {number} is not kept, there will be no way back to it: {error}");
                        is_told = true;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("history".to_owned()).spawn(record);
        let thread = thread.inspect_err(|error| warn!("no history is kept: {error}")).ok();
        Recorder { snapshots: Some(snapshots), thread }
    }

    fn record(&self, entry: Entry, ingredients: Vec<Ingredient>) {
        if let Some(snapshots) = &self.snapshots {
            let _ = snapshots.send((entry, ingredients));
        }
    }
}

impl Drop for Recorder {
    /// What was served is written down to the end.
    fn drop(&mut self) {
        self.snapshots = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Main {
    /// Writes down what is served, unless that is what was served before the start.
    pub(super) fn record(&mut self, number: u64, cause: Cause) {
        let mut entry = self.reloader.entry(number, cause);
        entry.commit = self.git_logs.as_deref().and_then(checkout::commit);
        self.digest = entry.digest;
        if self.last_kept == Some((number, entry.digest)) {
            return;
        }
        self.recorder.record(entry, self.reloader.ingredients());
    }

    /// Where numbers go on from, and whether an operator went back before the server was started anew.
    pub(super) fn look_into_history(&mut self) {
        let last = self.history.last();
        self.last_kept = last.as_ref().map(|last| (last.number, last.digest));
        self.reloader.count_from(last.map_or(0, |last| last.number));
        self.rollback = self.history.rollback();
        let Some(rollback) = self.rollback else { return };
        let entry = self.history.entry(rollback.to);
        match entry.map(|entry| self.history.folder_of(&entry)) {
            Some(Ok(folder)) => return self.reloader.read_from(Some(folder)),
            Some(Err(error)) => warn!("what was rolled back to is not at hand any more: {error}"),
            None => warn!("snapshot {} was rolled back to, and is not kept any more", rollback.to),
        }
        self.set_rollback(None);
    }

    /// Files that have changed since an operator went back are served again, and so are they by force.
    pub(super) fn follow_rollback(&mut self, force: bool) {
        let Some(rollback) = self.rollback else { return };
        let is_over = force || self.digest_of_files() != rollback.instead_of;
        if is_over {
            info!(
                "the files are served again, and no longer snapshot {} that was rolled back to",
                rollback.to
            );
            self.set_rollback(None);
            self.reloader.read_from(None);
        }
    }

    fn set_rollback(&mut self, rollback: Option<Rollback>) {
        self.rollback = rollback;
        if let Err(error) = self.history.roll_back(rollback.as_ref()) {
            warn!("a restart will not know of the rollback: {error}");
        }
    }

    /// Of the folder of zones as it is; the same of all folders that cannot be read.
    fn digest_of_files(&self) -> Digest {
        Tree::of_folder(&self.config.zones).map(|tree| tree.digest()).unwrap_or_default()
    }

    /// Serves an earlier snapshot.
    pub(super) fn roll_back(&mut self, to: u64, word: Word, reply: oneshot::Sender<Reply>) {
        let Some(entry) = self.history.entry(to) else {
            let _ = reply.send(control::wrong_reply(&format!("snapshot {to} is not kept")));
            return;
        };
        let folder = match self.history.folder_of(&entry) {
            Ok(folder) => folder,
            Err(error) => {
                let _ = reply.send(control::wrong_reply(&format!("snapshot {to} cannot be had: {error}")));
                return;
            }
        };
        let rollback = Rollback { to, instead_of: self.digest_of_files() };
        self.reloader.read_from(Some(folder));
        let before = self.rollback.take();
        self.reload(word.cause(format!("rolled back to {to}")), true, Some(reply));
        if self.reloads.last.as_ref().is_some_and(|last| last.outcome == Outcome::TookNothing) {
            self.rollback = before;
            let folder = before.and_then(|before| self.history.entry(before.to));
            self.reloader.read_from(folder.and_then(|entry| self.history.folder_of(&entry).ok()));
            return;
        }
        self.set_rollback(Some(rollback));
    }

    /// Whether a start is worse off than the last snapshot was.
    pub(super) fn is_worse_than_last(&self, reload: &Reload) -> bool {
        let had_databases = || self.history.last().is_some_and(|last| !last.databases.is_empty());
        reload.findings.has_errors() || (self.reloader.about().is_empty() && had_databases())
    }

    /// The newest snapshot that can be had, and on it what is good of the files as they are now.
    pub(super) fn start_with_last_good(&mut self, cause: &Cause) -> Option<Reload> {
        let last = self.last_kept?.0;
        for entry in self.history.entries().into_iter().rev() {
            let number = entry.number;
            let folder = match self.history.folder_of(&entry) {
                Ok(folder) => folder,
                Err(error) => {
                    warn!("snapshot {number} cannot be had: {error}");
                    continue;
                }
            };
            self.reloader.count_from(number.saturating_sub(1));
            let databases = entry.databases.into_iter().map(|database| (database.path, database.stamp));
            let begun = self.reloader.begin_with(&folder, databases.collect());
            self.reloader.count_from(last);
            let Some(snapshot) = begun.snapshot else { continue };
            // The start counts as one.
            self.reloads.counts = Default::default();
            let now = self.read(cause, false);
            error!("the files are not all good; what is wrong is served as it was in snapshot {number}");
            return Some(Reload { snapshot: now.snapshot.or(Some(snapshot)), ..now });
        }
        // What was tried has left nothing to go on from.
        Some(self.read(cause, false))
    }
}
