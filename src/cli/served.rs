//! What the running server serves, which may be another thing than what stands in the files.

use std::io;
use std::path::{Path, PathBuf};

use crate::change::history::History;
use crate::config::Config;
use crate::finding::At;
use crate::reload::{Reload, Reloader};

/// Where the texts of a snapshot stood while they were read.
pub(super) struct Served {
    folder: PathBuf,
}

impl Served {
    /// Reads the zones and sites of a snapshot from history, with the geo databases that it was made of as far as they are at
    /// hand; none where history does not have it.
    ///
    /// # Errors
    /// When the texts cannot be written out.
    pub(super) fn read(
        config: &Config,
        reloader: &mut Reloader,
        number: u64,
    ) -> io::Result<Option<(Served, Reload)>> {
        let history = History::of(&config.state, config.history);
        let Some(entry) = history.entry(number) else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        history.check_out(&entry, folder.path())?;
        let databases = entry.databases.iter().map(|known| (known.path.clone(), known.stamp)).collect();
        let Reload { outcome, findings, snapshot } = reloader.begin_with(folder.path(), databases);
        let served = Served { folder: folder.path().to_owned() };
        let findings = findings.with_paths(|path| served.name(path));
        Ok(Some((served, Reload { outcome, findings, snapshot })))
    }

    /// What people are told instead of a path that is gone.
    fn name(&self, path: &Path) -> PathBuf {
        let within = path.strip_prefix(&self.folder);
        within.map_or_else(|_| path.to_owned(), |within| Path::new("(as it is served)").join(within))
    }

    /// Where something was written.
    pub(super) fn place(&self, at: &At) -> String {
        format!("{}:{}:{}", self.name(&at.source.path).display(), at.line, at.column)
    }
}
