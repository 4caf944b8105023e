//! Compiled tables in a file, so that a start need not walk the geo databases: with those of all cities that takes longer than
//! everything else together. Behind them the census that was taken along, for those who count.
//!
//! The tables belong to what they were made of: the databases by path and stamp, all that the order of sites depends on, and
//! the program that made them. Whatever does not fit is as good as no file. Stamps can deceive, on a file system that is restored or
//! whose clock stands still: the digests of the databases' octets are there to be compared once the server answers ([`Unverified`]).

use std::fs;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use foldhash::quality::FixedState;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::Catchments;
use super::census::Census;
use crate::geo::read::About;
use crate::replace::replace;
use crate::site::Service;
use crate::stamp::Stamp;

/// Within the state folder.
const FILE: &str = "tables";
/// How such a file begins; behind it a digest of the rest.
const MAGIC: &[u8] = b"meridian tables\n";

/// Where tables are kept.
#[derive(Debug, Default)]
pub struct Store {
    path: Option<PathBuf>,
    is_distrusted: bool,
    is_read_only: bool,
    /// Who writes the file: a disk takes longer than somebody who waits for an answer should.
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What tables are made of. Others of any of these are other tables.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    program: Option<Stamp>,
    databases: Vec<(PathBuf, Stamp)>,
    preferences: u64,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored {
    /// What they were made of.
    pub inputs: Inputs,
    /// Of the databases' octets.
    pub digests: Vec<u64>,
    /// What the databases said of themselves.
    pub about: Vec<About>,
    /// The tables.
    pub catchments: Arc<Catchments>,
    /// Who is where, for whoever asked for it.
    #[serde(skip)]
    pub census: Option<Arc<Census>>,
}

impl Inputs {
    /// Of these files, in the order in which they are asked, for these services.
    #[must_use]
    pub fn new(databases: &[(PathBuf, Stamp)], services: &[Arc<Service>]) -> Inputs {
        let program = std::env::current_exe().and_then(fs::metadata).ok();
        let mut hasher = DefaultHasher::new();
        for service in services {
            // What is printed of a rule tells where it stands as well: a file that was edited above it costs one slow start.
            hasher.write(
                format!("{:?}{:?}{:?}{:?}", service.name, service.near, service.spill, service.rules)
                    .as_bytes(),
            );
            for site in &service.sites {
                hasher.write(format!("{:?}{:?}{:?}", site.name, site.location, site.handicap_km).as_bytes());
            }
        }
        Inputs {
            program: program.as_ref().map(Stamp::of),
            databases: databases.to_vec(),
            preferences: hasher.finish(),
        }
    }

    /// Whether tables of these are worth keeping, and are told from those of another program, which may be of another form.
    fn tell_apart(&self) -> bool {
        !self.databases.is_empty() && self.program.is_some()
    }
}

impl Store {
    /// In a state folder; without one nothing is kept.
    #[must_use]
    pub fn new(state: Option<&Path>) -> Store {
        let path = state.map(|folder| folder.join(FILE));
        Store { path, is_distrusted: false, is_read_only: false, writer: Mutex::default() }
    }

    /// Another's, who keeps tables there.
    #[must_use]
    pub fn read_only(mut self) -> Store {
        self.is_read_only = true;
        self
    }

    /// From here on nothing is taken from the file.
    pub fn distrust(&mut self) {
        self.is_distrusted = true;
    }

    /// Whether anything will be kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.path.is_some() && !self.is_read_only
    }

    /// The tables of these inputs, if they are at hand.
    #[must_use]
    pub fn read(&self, inputs: &Inputs, with_census: bool) -> Option<Stored> {
        let path = self.path.as_deref().filter(|_| !self.is_distrusted && inputs.tell_apart())?;
        self.wait();
        let octets = fs::read(path).ok()?;
        let (digest, body) = octets.strip_prefix(MAGIC)?.split_first_chunk()?;
        if u64::from_le_bytes(*digest) != digest_of(body).ok()? {
            warn!("{} is damaged; the tables are compiled anew", path.display());
            return None;
        }
        let (mut stored, rest): (Stored, &[u8]) = postcard::take_from_bytes(body).ok()?;
        if with_census {
            stored.census = Some(Arc::new(Census::of(rest)));
        }
        (stored.inputs == *inputs).then_some(stored)
    }

    /// Keeps tables for the next start, on a thread of its own, which takes the time that a census needs, too.
    pub(crate) fn write(&self, mut stored: Stored, census: impl FnOnce() -> Arc<Census> + Send + 'static) {
        let Some(path) = self.path.clone().filter(|_| self.keeps() && stored.inputs.tell_apart()) else {
            return;
        };
        self.wait();
        let write = move || {
            stored.census = Some(census());
            match write(&path, &stored) {
                Ok(()) => debug!("tables are kept in {}", path.display()),
                Err(error) => warn!("tables cannot be kept in {}: {error}", path.display()),
            }
        };
        match thread::Builder::new().name("tables".to_owned()).spawn(write) {
            Ok(writer) => *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer),
            Err(error) => warn!("tables cannot be kept: no thread: {error}"),
        }
    }

    /// Until what is being written stands there.
    fn wait(&self) {
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // One that panicked has told so, and left the file of before.
            let _ = writer.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.wait();
    }
}

fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let mut body = postcard::to_stdvec(stored).map_err(io::Error::other)?;
    if let Some(census) = &stored.census {
        body.extend(census.octets());
    }
    replace(path, &[MAGIC, &digest_of(&*body)?.to_le_bytes(), &body].concat())
}

/// Databases that nobody looked into, for their tables were at hand.
#[derive(Debug)]
pub struct Unverified {
    databases: Vec<(PathBuf, u64)>,
}

impl Unverified {
    /// Those of stored tables.
    #[must_use]
    pub fn of(stored: &Stored) -> Unverified {
        let paths = stored.inputs.databases.iter().map(|(path, _)| path.clone());
        Unverified { databases: paths.zip(stored.digests.iter().copied()).collect() }
    }

    /// Whether the databases are those that the tables were made of. Reads all of them.
    #[must_use]
    pub fn are_as_they_were(&self) -> bool {
        let is_as_it_was = |(path, digest): &(PathBuf, u64)| {
            fs::File::open(path).and_then(digest_of).is_ok_and(|found| found == *digest)
        };
        self.databases.iter().all(is_as_it_was)
    }
}

/// To tell octets from others by accident, not by intent: who may write here may also write zones.
pub fn digest_of(mut octets: impl Read) -> io::Result<u64> {
    const PIECE: u64 = 1 << 20;
    let mut hasher = FixedState::with_seed(0).build_hasher();
    let mut piece = Vec::new();
    while octets.by_ref().take(PIECE).read_to_end(&mut piece)? > 0 {
        hasher.write(&piece);
        piece.clear();
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(path: &Path) -> Inputs {
        let stamp = Stamp::of(&fs::metadata(path).unwrap());
        Inputs::new(&[(path.to_owned(), stamp)], &[])
    }

    fn stored(folder: &Path) -> (Store, PathBuf) {
        let database = folder.join("city.mmdb");
        fs::write(&database, "octets").unwrap();
        let store = Store::new(Some(folder));
        let tables = Stored {
            inputs: inputs(&database),
            digests: vec![digest_of(&b"octets"[..]).unwrap()],
            about: Vec::new(),
            catchments: Arc::default(),
            census: None,
        };
        store.write(tables, Arc::default);
        store.wait();
        (store, database)
    }

    #[test]
    fn tables_are_found_for_what_they_were_made_of_and_for_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (store, database) = stored(folder.path());
        assert!(store.read(&inputs(&database), false).is_some_and(|stored| stored.census.is_none()));
        assert!(store.read(&inputs(&database), true).is_some_and(|stored| stored.census.is_some()));
        fs::write(&database, "others").unwrap();
        assert!(store.read(&inputs(&database), false).is_none());
        assert!(store.read(&Inputs { preferences: 1, ..inputs(&database) }, false).is_none());
    }

    #[test]
    fn damaged_tables_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let (store, database) = stored(folder.path());
        let path = folder.path().join(FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(store.read(&inputs(&database), true).is_none(), "octet {at}");
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(store.read(&inputs(&database), true).is_none());
    }

    #[test]
    fn databases_that_only_look_the_same_are_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let (store, database) = stored(folder.path());
        let unverified = Unverified::of(&store.read(&inputs(&database), false).unwrap());
        assert!(unverified.are_as_they_were());
        fs::write(&database, "others").unwrap();
        assert!(!unverified.are_as_they_were());
    }
}
