//! The two sides of a comparison: where each comes from, and what answers there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::change::history::{Entry, History};
use crate::cli::coverage::{Failure, wrong_usage};
use crate::cli::history::time;
use crate::config::Config;
use crate::control::{self, Command};
use crate::coverage::View;
use crate::finding::{Findings, Severity};
use crate::health::board::{Board, Layout};
use crate::health::spill;
use crate::reload::{Answering, Outcome, Reload, Reloader};
use crate::replay::compare::Side;
use crate::site::Service;
use crate::snapshot::Snapshot;
use crate::wire::Rtype;

/// Where one side comes from.
pub(in crate::cli) enum Origin {
    Folder(PathBuf),
    Snapshot(Box<Entry>),
}

/// One side, on a board on which all is well until somebody says otherwise.
pub(in crate::cli) struct Version {
    pub(super) zones: Vec<Answering>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) snapshot: Snapshot,
    pub(super) board: Board,
}

/// Both, and what a reload would say of going from the one to the other.
pub(in crate::cli) struct Sides {
    pub(super) old: Version,
    /// None if it is the same, or nothing of it is taken over.
    pub(super) new: Option<Version>,
    pub(super) outcome: Outcome,
    /// Errors.
    pub(in crate::cli) findings: Findings,
    pub(super) notes: Vec<String>,
    /// The geo databases are not those of the old side.
    pub(super) is_moved: bool,
    pub(super) databases: Vec<PathBuf>,
}

/// What the server serves; without one, what was served last.
pub(in crate::cli) fn running(config: &Config, history: &History) -> Result<Entry, Failure> {
    let status = control::tell(&config.control, &Command::Status);
    let number = status.ok().and_then(|status| status["snapshot"].as_u64());
    let entry = number.map_or_else(|| history.last(), |number| history.entry(number));
    entry.ok_or_else(|| {
        let text = match number {
            Some(number) => format!("snapshot {number} is served, and history does not have it\n"),
            None => format!("nothing was served yet, as far as {} tells\n", config.state.display()),
        };
        (text, ExitCode::from(5))
    })
}

impl Sides {
    pub(in crate::cli) fn read(
        config: &Config,
        history: &History,
        old: &Origin,
        new: &Origin,
    ) -> Result<Sides, Failure> {
        let failed = |error: std::io::Error| (format!("{error}\n"), ExitCode::from(1));
        let folders = tempfile::tempdir().map_err(failed)?;
        let mut reloader = Reloader::to_compare(config);
        let mut notes = Vec::new();
        let begun = match old {
            Origin::Folder(folder) => {
                reloader.read_from(Some(folder.clone()));
                reloader.reload(false)
            }
            Origin::Snapshot(entry) => {
                let folder = folders.path().join("old");
                history.check_out(entry, &folder).map_err(failed)?;
                let databases =
                    entry.databases.iter().map(|known| (known.path.clone(), known.stamp)).collect();
                let begun = reloader.begin_with(&folder, databases);
                let has_databases = !entry.databases.is_empty();
                let is_as_it_was = reloader.take_unverified().is_some();
                if has_databases && !is_as_it_was && entry.databases.iter().any(|known| !known.is_there()) {
                    notes.push(format!(
                        "the geo databases of snapshot {} are not at hand any more: what they move is not told",
                        entry.number
                    ));
                }
                begun
            }
        };
        let geography = reloader.databases().to_vec();
        let old =
            Version::of(&reloader, begun.snapshot).ok_or((begun.findings.to_string(), ExitCode::from(1)))?;
        match new {
            Origin::Folder(folder) if !folder.is_dir() => {
                return Err(wrong_usage(format!("{}: there is no such folder", folder.display())));
            }
            Origin::Folder(folder) => reloader.read_from(Some(folder.clone())),
            Origin::Snapshot(entry) => {
                let folder = folders.path().join("new");
                history.check_out(entry, &folder).map_err(failed)?;
                reloader.read_from(Some(folder));
            }
        }
        let is_forced = matches!(new, Origin::Snapshot(_));
        let Reload { outcome, findings, mut snapshot } = reloader.reload(is_forced);
        if outcome == Outcome::Held {
            snapshot = reloader.reload(true).snapshot;
        }
        Ok(Sides {
            old,
            new: Version::of(&reloader, snapshot),
            outcome,
            findings: findings
                .only(|finding| finding.severity == Severity::Error)
                .with_paths(|path| without_folder(path, folders.path())),
            notes,
            is_moved: reloader.databases() != geography,
            databases: reloader.databases().iter().map(|(path, _)| path.clone()).collect(),
        })
    }

    /// What answers before and after; none if nothing of the new side can be taken over.
    pub(in crate::cli) fn both(&self) -> Option<[Side<'_>; 2]> {
        let new = self.new.as_ref().or(Some(&self.old)).filter(|_| self.outcome != Outcome::TookNothing)?;
        Some([self.old.side(), new.side()])
    }
}

/// A file of a snapshot is that, and not where it lies while it is compared.
fn without_folder(path: &Path, folders: &Path) -> PathBuf {
    let within = path.strip_prefix(folders).ok().and_then(|path| path.strip_prefix("old").ok());
    within.map_or_else(|| path.to_owned(), |path| Path::new("(as it is served)").join(path))
}

impl Version {
    fn of(reloader: &Reloader, snapshot: Option<(Snapshot, Layout)>) -> Option<Version> {
        let (snapshot, layout) = snapshot?;
        let board = Board::new(layout);
        spill::price(&board);
        Some(Version { zones: reloader.answering(), services: reloader.services().to_vec(), snapshot, board })
    }

    pub(super) fn view(&self, service: usize, rtype: Rtype) -> Option<View<'_>> {
        let rtype = self.snapshot.service(service as u16).find_type(rtype)?;
        Some(View { snapshot: &self.snapshot, service: service as u16, rtype })
    }

    fn side(&self) -> Side<'_> {
        Side { snapshot: &self.snapshot, board: &self.board }
    }
}

impl Origin {
    pub(super) fn in_words(&self) -> String {
        match self {
            Origin::Folder(folder) => folder.display().to_string(),
            Origin::Snapshot(entry) => format!("snapshot {}, since {}", entry.number, time(entry.at)),
        }
    }
}
