//! Every snapshot that went live, as the texts that it was made of.
//!
//! In the state folder:
//!
//! ```text
//!   history/000042.json       an entry: when, why, by whom, the digest of its list of files
//!   history/rollback          which of them is served instead of the files, if one is
//!   history/objects/ab/cd..   a text, deflated, under its SHA-256: a zone, a shared file, or a list of files
//! ```
//!
//! A text is written once, however many snapshots have it. It is written before the entry that needs it and an entry is renamed into its
//! place, so that whoever is killed at any step leaves entries that are whole. What is read is held against its digest: what a disk made of it
//! is not served. A damaged text is removed, to be written again with the next snapshot that has it.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use super::Cause;
use super::content::{Digest, Tree};
use crate::finding::Source;
use crate::geo::read::About;
use crate::replace::replace;
use crate::stamp::Stamp;
use crate::zone::master::read_text;

/// Within the state folder.
const FOLDER: &str = "history";
/// Within the history: what is served instead of the files.
const ROLLBACK: &str = "rollback";

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Snapshots; none: nothing is written down.
    pub keep: usize,
    /// Octets on the disk, but for the newest snapshot, which is always kept.
    pub max_size: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { keep: 100, max_size: 256 << 20 }
    }
}

/// A snapshot that went live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The snapshot's number; they go on over restarts.
    pub number: u64,
    /// When it was served first, in seconds since 1970.
    pub at: u64,
    /// What made it.
    #[serde(flatten)]
    pub cause: Cause,
    /// Of the git checkout that the zones are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Of zones, sites and geo databases together: two servers that serve the same have the same.
    pub digest: Digest,
    /// Of the list of files.
    pub tree: Digest,
    /// The geo databases as they were.
    pub databases: Vec<Database>,
    /// How many zones, and names in them.
    pub zones: usize,
    /// See there.
    pub names: usize,
}

/// A geo database, by which it is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The file.
    pub path: PathBuf,
    /// What it was.
    pub stamp: Stamp,
    /// What it said of itself, where it could be read.
    pub about: Option<About>,
}

/// A file that a snapshot was made of.
#[derive(Clone, Debug)]
pub struct Ingredient {
    /// Within the folder of zones.
    pub name: String,
    /// Where it stands.
    pub path: PathBuf,
    /// What it said.
    pub digest: Digest,
    /// Its text, where it is at hand.
    pub source: Option<Arc<Source>>,
}

/// An operator's word that an earlier snapshot is to be served until the files change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// Its number.
    pub to: u64,
    /// Of the folder of zones as it is, which is not served: once it is another, it is.
    pub instead_of: Digest,
}

/// The state folder's history.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
    bounds: Bounds,
}

impl Database {
    /// Whether the file is what it was.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp)
    }
}

impl Entry {
    /// Now, in seconds since 1970.
    #[must_use]
    pub fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }
}

impl History {
    /// Of a state folder, whether or not there is any.
    #[must_use]
    pub fn of(state: &Path, bounds: Bounds) -> History {
        History { folder: state.join(FOLDER), bounds }
    }

    /// All entries, the oldest first. What is no entry is passed over.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            self.numbers().into_iter().filter_map(|number| self.entry(number)).collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<Entry> {
        let mut numbers = self.numbers();
        numbers.sort_unstable();
        numbers.into_iter().rev().find_map(|number| self.entry(number))
    }

    /// One of them, if it is kept.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<Entry> {
        let text = fs::read(self.path_of_entry(number)).ok()?;
        serde_json::from_slice(&text).ok().filter(|entry: &Entry| entry.number == number)
    }

    /// The earlier snapshot that is served instead of the files, since an operator said so.
    #[must_use]
    pub fn rollback(&self) -> Option<Rollback> {
        serde_json::from_slice(&fs::read(self.folder.join(ROLLBACK)).ok()?).ok()
    }

    /// From now on this is, over restarts too; none: the files are.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn roll_back(&self, rollback: Option<&Rollback>) -> io::Result<()> {
        let path = self.folder.join(ROLLBACK);
        match rollback {
            Some(rollback) => replace(&path, &serde_json::to_vec(rollback).map_err(io::Error::other)?),
            None if path.exists() => fs::remove_file(path),
            None => Ok(()),
        }
    }

    /// The folder with the files of a snapshot, written anew; those of others are removed.
    ///
    /// # Errors
    /// See [`check_out`](History::check_out).
    pub fn folder_of(&self, entry: &Entry) -> io::Result<PathBuf> {
        let all = self.folder.join("checked-out");
        let beside = all.join(format!("{:06}.new", entry.number));
        if beside.exists() {
            fs::remove_dir_all(&beside)?;
        }
        fs::create_dir_all(&beside)?;
        self.check_out(entry, &beside)?;
        for other in fs::read_dir(&all)? {
            let other = other?.path();
            if other != beside {
                fs::remove_dir_all(other)?;
            }
        }
        let folder = beside.with_extension("");
        fs::rename(beside, &folder)?;
        Ok(folder)
    }

    /// Which files a snapshot was made of.
    ///
    /// # Errors
    /// If that is gone, or damaged.
    pub fn tree(&self, entry: &Entry) -> io::Result<Tree> {
        let text = self.text(&entry.tree)?;
        let tree = String::from_utf8(text).ok().and_then(|text| Tree::from_text(&text));
        tree.ok_or_else(|| {
            io::Error::other(format!("the list of files of snapshot {} is none", entry.number))
        })
    }

    /// A text by its digest.
    ///
    /// # Errors
    /// If it is gone, or damaged; then it is removed, so that it is written again.
    pub fn text(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let path = self.path_of_text(digest);
        let mut text = Vec::new();
        let read = ZlibDecoder::new(fs::File::open(&path)?).read_to_end(&mut text);
        if read.is_ok() && Digest::of(&text) == *digest {
            return Ok(text);
        }
        let _ = fs::remove_file(&path);
        Err(io::Error::other(format!("{} is damaged", path.display())))
    }

    /// Writes the files of a snapshot into a folder of their own.
    ///
    /// # Errors
    /// If one of them is gone or damaged, or the folder cannot be written.
    pub fn check_out(&self, entry: &Entry, folder: &Path) -> io::Result<()> {
        for (name, digest) in self.tree(entry)?.0 {
            let text = self.text(&digest)?;
            let path = folder.join(&name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, text)?;
        }
        Ok(())
    }

    /// Keeps a snapshot, and lets go of those for which there is no room. `entry.tree` need not be set.
    ///
    /// # Errors
    /// When the disk is full or the folder cannot be written; and when a file has changed since the snapshot was made of it and nobody
    /// has its text any more. What is there already stays.
    pub fn keep(&self, mut entry: Entry, ingredients: &[Ingredient]) -> io::Result<()> {
        if self.bounds.keep == 0 {
            return Ok(());
        }
        for ingredient in ingredients {
            if self.path_of_text(&ingredient.digest).exists() {
                continue;
            }
            let text = match &ingredient.source {
                Some(source) => source.text.clone(),
                None => read_text(&ingredient.path).map_err(io::Error::other)?,
            };
            if Digest::of(text.as_bytes()) != ingredient.digest {
                let text = format!("{} has changed again before it was kept", ingredient.path.display());
                return Err(io::Error::other(text));
            }
            self.write_text(&ingredient.digest, text.as_bytes())?;
        }
        let files = ingredients.iter().map(|ingredient| (ingredient.name.clone(), ingredient.digest));
        let tree = Tree(files.collect());
        entry.tree = tree.digest();
        if !self.path_of_text(&entry.tree).exists() {
            self.write_text(&entry.tree, tree.to_text().as_bytes())?;
        }
        let mut text = serde_json::to_vec_pretty(&entry).map_err(io::Error::other)?;
        text.push(b'\n');
        replace(&self.path_of_entry(entry.number), &text)?;
        // All at once, for a file system takes its time for each file that it is asked to make sure of; and last, for it may take seconds on a disk
        // that is busy. Should the power go before that, a text that is not what its digest says gives its snapshot away.
        rustix::fs::syncfs(fs::File::open(&self.folder)?)?;
        self.make_room(entry.number)
    }

    /// Removes what is beyond the bounds, if anything is.
    fn make_room(&self, newest: u64) -> io::Result<()> {
        let texts = self.texts()?;
        let size: u64 = texts.iter().map(|(digest, _)| self.size_of(digest)).sum();
        if self.numbers().len() <= self.bounds.keep && size <= self.bounds.max_size {
            return Ok(());
        }
        let needed = self.let_go(newest)?;
        for (digest, path) in texts {
            if !needed.contains(&digest) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Removes the oldest entries beyond the bounds. Gives the texts that the others need.
    fn let_go(&self, newest: u64) -> io::Result<HashSet<Digest>> {
        let mut numbers = self.numbers();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let mut needed = HashSet::new();
        let mut size = 0;
        let mut is_full = false;
        for (position, number) in numbers.into_iter().enumerate() {
            let entry = self.entry(number);
            let texts = entry.and_then(|entry| {
                let tree = self.tree(&entry).ok()?;
                Some(tree.0.into_values().chain([entry.tree]).collect::<Vec<_>>())
            });
            let Some(texts) = texts.filter(|_| !is_full && position < self.bounds.keep) else {
                fs::remove_file(self.path_of_entry(number))?;
                continue;
            };
            let new: Vec<Digest> = texts.into_iter().filter(|digest| !needed.contains(digest)).collect();
            size += new.iter().map(|digest| self.size_of(digest)).sum::<u64>();
            if size > self.bounds.max_size && number != newest {
                is_full = true;
                fs::remove_file(self.path_of_entry(number))?;
                continue;
            }
            needed.extend(new);
        }
        Ok(needed)
    }

    /// All that are on the disk; one that was not written to its end is written over by the next.
    fn texts(&self) -> io::Result<Vec<(Digest, PathBuf)>> {
        let mut texts = Vec::new();
        for folder in fs::read_dir(self.folder.join("objects"))? {
            let folder = folder?;
            let first = folder.file_name().to_string_lossy().into_owned();
            for text in fs::read_dir(folder.path())? {
                let text = text?;
                let name = format!("{first}{}", text.file_name().to_string_lossy());
                texts.extend(name.parse().ok().map(|digest| (digest, text.path())));
            }
        }
        Ok(texts)
    }

    fn write_text(&self, digest: &Digest, text: &[u8]) -> io::Result<()> {
        let path = self.path_of_text(digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = path.with_extension("new");
        let mut encoder = ZlibEncoder::new(fs::File::create(&beside)?, Compression::fast());
        encoder.write_all(text)?;
        encoder.finish()?;
        fs::rename(beside, path)
    }

    /// As the disk counts it.
    fn size_of(&self, digest: &Digest) -> u64 {
        const BLOCK: u64 = 4096;
        fs::metadata(self.path_of_text(digest)).map_or(0, |metadata| metadata.len().next_multiple_of(BLOCK))
    }

    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
        entries.filter_map(number).collect()
    }

    fn path_of_entry(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.json"))
    }

    fn path_of_text(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join("objects").join(&name[..2]).join(&name[2..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            number,
            at: 1_700_000_000,
            cause: Cause::from("files changed"),
            commit: None,
            digest: Digest::default(),
            tree: Digest::default(),
            databases: Vec::new(),
            zones: 1,
            names: 2,
        }
    }

    fn ingredients(files: &[(&str, &str)]) -> Vec<Ingredient> {
        let ingredient = |(name, text): &(&str, &str)| Ingredient {
            name: (*name).to_owned(),
            path: PathBuf::from(name),
            digest: Digest::of(text.as_bytes()),
            source: Some(Source::new(*name, *text)),
        };
        files.iter().map(ingredient).collect()
    }

    fn history(keep: usize, max_size: u64) -> (tempfile::TempDir, History) {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path(), Bounds { keep, max_size });
        (folder, history)
    }

    #[test]
    fn what_was_kept_is_checked_out_again() {
        let (folder, history) = history(10, 1 << 20);
        let files = [("example.com.yaml", "one"), ("more/sites.yaml", "two")];
        history.keep(entry(7), &ingredients(&files)).unwrap();
        let kept = history.last().unwrap();
        assert_eq!((kept.number, kept.tree), (7, history.tree(&kept).unwrap().digest()));
        let out = folder.path().join("out");
        history.check_out(&kept, &out).unwrap();
        for (name, text) in files {
            assert_eq!(fs::read_to_string(out.join(name)).unwrap(), text);
        }
    }

    #[test]
    fn a_text_is_written_once_and_goes_with_the_last_entry_that_needs_it() {
        let (_folder, history) = history(2, 1 << 20);
        let texts = |history: &History| {
            let folders = fs::read_dir(history.folder.join("objects")).unwrap().flatten();
            folders.map(|folder| fs::read_dir(folder.path()).unwrap().count()).sum::<usize>()
        };
        history.keep(entry(1), &ingredients(&[("a", "1"), ("b", "same")])).unwrap();
        history.keep(entry(2), &ingredients(&[("a", "2"), ("b", "same")])).unwrap();
        assert_eq!(texts(&history), 3 + 2);
        history.keep(entry(3), &ingredients(&[("a", "3"), ("b", "same")])).unwrap();
        assert_eq!(texts(&history), 3 + 2, "the first entry's are gone");
        assert_eq!(history.entries().iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3]);
        assert!(history.tree(&history.entry(2).unwrap()).is_ok());
    }

    #[test]
    fn the_newest_is_kept_however_large_and_no_other_beyond_the_size() {
        let (_folder, history) = history(100, 3 * 4096);
        history.keep(entry(1), &ingredients(&[("a", "1")])).unwrap();
        history.keep(entry(2), &ingredients(&[("a", "2"), ("b", "3"), ("c", "4")])).unwrap();
        assert_eq!(history.entries().iter().map(|entry| entry.number).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_text_that_was_damaged_is_told_and_written_again() {
        let (folder, history) = history(10, 1 << 20);
        history.keep(entry(1), &ingredients(&[("a", "1")])).unwrap();
        let digest = Digest::of(b"1");
        for damage in [&b""[..], b"some text", &[0x78, 0x01, 0xff]] {
            fs::write(history.path_of_text(&digest), damage).unwrap();
            let told = history.check_out(&history.entry(1).unwrap(), &folder.path().join("out")).unwrap_err();
            assert!(told.to_string().contains("is damaged"), "{told}");
            history.keep(entry(2), &ingredients(&[("a", "1")])).unwrap();
            assert_eq!(history.text(&digest).unwrap(), b"1");
        }
    }

    #[test]
    fn a_file_that_says_something_else_by_now_is_not_kept_as_what_it_was() {
        let (folder, history) = history(10, 1 << 20);
        let path = folder.path().join("example.com.zone");
        fs::write(&path, "new").unwrap();
        let old = Ingredient {
            name: "example.com.zone".to_owned(),
            path,
            digest: Digest::of(b"old"),
            source: None,
        };
        assert!(history.keep(entry(1), &[old]).unwrap_err().to_string().contains("has changed again"));
        assert_eq!(history.last(), None);
    }

    #[test]
    fn who_keeps_nothing_writes_nothing() {
        let (folder, history) = history(0, 1 << 20);
        history.keep(entry(1), &ingredients(&[("a", "1")])).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
