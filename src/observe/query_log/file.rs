//! Lines -> a file, and files that are exchanged before they get too long.
//!
//! Trouble with it (no room, no permission, no folder) is told once, and tried again each time; lines are let go of meanwhile,
//! and counted. A file that somebody renamed or removed is left to them, and another one begun.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{info, warn};

use crate::config::QueryLog;

/// Octets that are written at once.
const BATCH: usize = 64 << 10;

/// What became of lines.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) unwritten: AtomicU64,
}

/// The file that is written to, and those before it.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    max_size: u64,
    keep: u32,
    open: Option<fs::File>,
    /// Octets of the file.
    size: u64,
    pending: Vec<u8>,
    lines: u64,
    /// Lines that could not be written since all was well.
    missing: u64,
    in_trouble: bool,
    counts: Arc<Counts>,
}

impl File {
    pub(super) fn new(config: &QueryLog) -> File {
        File {
            path: config.file.clone(),
            max_size: config.max_size,
            keep: config.keep,
            open: None,
            size: 0,
            pending: Vec::with_capacity(2 * BATCH),
            lines: 0,
            missing: 0,
            in_trouble: false,
            counts: Arc::default(),
        }
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Adds a line, which is written with the next ones.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.pending.len();
        write(&mut self.pending);
        // A line that would make the file too long is the first of the next one.
        if self.size + self.pending.len() as u64 > self.max_size && self.size + before as u64 > 0 {
            let line = self.pending.split_off(before);
            self.flush();
            if self.size > 0 {
                let exchanged = self.exchange();
                self.note(exchanged);
            }
            self.pending.extend(line);
        }
        self.lines += 1;
        if self.pending.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes what there is.
    pub(super) fn flush(&mut self) {
        if self.lines == 0 {
            // Begun at once, so that trouble is told at the start and not with the first query; and again where it was taken away.
            if !self.is_open() {
                let opened = self.reopen();
                self.note(opened);
            }
            return;
        }
        let written = self.write();
        let lines = std::mem::take(&mut self.lines);
        self.pending.clear();
        match &written {
            Ok(()) => {
                self.counts.written.fetch_add(lines, Ordering::Relaxed);
            }
            Err(_) => {
                self.missing += lines;
                self.counts.unwritten.fetch_add(lines, Ordering::Relaxed);
            }
        }
        self.note(written);
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.is_open() {
            self.reopen()?;
        }
        let Some(file) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        // Others may have cut it (logrotate's copytruncate).
        let size = file.metadata()?.len();
        self.size = size;
        // A file that could not be exchanged does not grow on; one line may be longer than a whole file is to be.
        if size > 0 && size + self.pending.len() as u64 > self.max_size {
            self.exchange()?;
        }
        let Some(file) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let size = self.size;
        if let Err(error) = file.write_all(&self.pending) {
            // No half line for whoever reads it.
            let _ = file.set_len(size);
            return Err(error);
        }
        self.size += self.pending.len() as u64;
        Ok(())
    }

    /// Whether what is open is what stands at the path.
    fn is_open(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let Some(Ok(open)) = self.open.as_ref().map(|file| file.metadata().map(identity)) else {
            return false;
        };
        fs::metadata(&self.path).is_ok_and(|metadata| identity(metadata) == open)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.open = None;
        self.size = 0;
        // To open a pipe is to wait for a reader.
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return Err(io::Error::other("it is a pipe"));
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.open = Some(file);
        Ok(())
    }

    /// Gives the file a number, those that have one the next, and begins another.
    fn exchange(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        for number in (1..self.keep).rev() {
            rename_if_there(&numbered(number), &numbered(number + 1))?;
        }
        match self.keep {
            0 => fs::remove_file(&self.path)?,
            _ => rename_if_there(&self.path, &numbered(1))?,
        }
        self.reopen()
    }

    /// Tells of trouble when it begins, and when it ends.
    fn note(&mut self, result: io::Result<()>) {
        let path = self.path.display();
        match (self.in_trouble, result) {
            (false, Err(error)) => {
                warn!("query log {path}: {error}; it is tried again, and queries are answered meanwhile");
                self.in_trouble = true;
            }
            (true, Ok(())) => {
                info!("query log {path}: is written again; {} lines are missing", self.missing);
                self.in_trouble = false;
                self.missing = 0;
            }
            _ => {}
        }
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, max_size: u64, keep: u32) -> File {
        File::new(&QueryLog { file: folder.join("q.log"), sample: 1, max_size, keep })
    }

    fn push(file: &mut File, text: &str) {
        file.push(|line| line.extend(format!("{text}\n").into_bytes()));
    }

    fn read(folder: &Path, name: &str) -> Option<String> {
        fs::read_to_string(folder.join(name)).ok()
    }

    fn counted(file: &File) -> (u64, u64) {
        (file.counts.written.load(Ordering::Relaxed), file.counts.unwritten.load(Ordering::Relaxed))
    }

    #[test]
    fn files_are_exchanged_before_they_are_too_long_and_so_many_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let mut log = file(folder, 10, 2);
        for number in 0..9 {
            push(&mut log, &format!("{number:04}")); // two fit
        }
        log.flush();
        assert_eq!(read(folder, "q.log").as_deref(), Some("0008\n"));
        assert_eq!(read(folder, "q.log.1").as_deref(), Some("0006\n0007\n"));
        assert_eq!(read(folder, "q.log.2").as_deref(), Some("0004\n0005\n"));
        assert_eq!(read(folder, "q.log.3"), None);
        assert_eq!(counted(&log), (9, 0));
        // One that is longer than a file has one for itself.
        push(&mut log, "a line of its own");
        push(&mut log, "x");
        log.flush();
        assert_eq!(read(folder, "q.log.1").as_deref(), Some("a line of its own\n"));
        assert_eq!(read(folder, "q.log").as_deref(), Some("x\n"));
    }

    #[test]
    fn another_start_goes_on_where_the_last_one_ended() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("q.log"), "12345\n").unwrap();
        let mut log = file(home.path(), 10, 0);
        push(&mut log, "a");
        log.flush();
        assert_eq!(read(home.path(), "q.log").as_deref(), Some("12345\na\n"));
        push(&mut log, "bcd");
        log.flush();
        assert_eq!(read(home.path(), "q.log").as_deref(), Some("bcd\n"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_renamed_or_cut_is_left_to_whoever_did_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let mut log = file(folder, 1000, 1);
        push(&mut log, "a");
        log.flush();
        fs::rename(folder.join("q.log"), folder.join("taken")).unwrap();
        push(&mut log, "b");
        log.flush();
        assert_eq!(read(folder, "taken").as_deref(), Some("a\n"));
        assert_eq!(read(folder, "q.log").as_deref(), Some("b\n"));
        fs::write(folder.join("q.log"), "").unwrap();
        push(&mut log, "c");
        log.flush();
        assert_eq!(read(folder, "q.log").as_deref(), Some("c\n"));
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_writing_goes_on_when_it_can() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("later");
        let mut log = file(&folder, 1000, 1);
        push(&mut log, "a");
        log.flush();
        assert_eq!((counted(&log), log.in_trouble), ((0, 1), true));
        fs::create_dir(&folder).unwrap();
        push(&mut log, "b");
        log.flush();
        assert_eq!((counted(&log), log.in_trouble), ((1, 1), false));
        assert_eq!(read(&folder, "q.log").as_deref(), Some("b\n"));
    }

    /// Rather no more lines than a disk that is full: here a folder stands where the old file should go.
    #[test]
    fn a_file_that_cannot_be_exchanged_does_not_grow() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        fs::create_dir_all(folder.join("q.log.1/full")).unwrap();
        let mut log = file(folder, 10, 1);
        for _ in 0..5 {
            push(&mut log, "abcd");
            log.flush();
        }
        assert_eq!(read(folder, "q.log").as_deref(), Some("abcd\nabcd\n"));
        assert_eq!((counted(&log), log.in_trouble), ((2, 3), true));
        fs::remove_dir_all(folder.join("q.log.1")).unwrap();
        push(&mut log, "x");
        log.flush();
        assert_eq!(read(folder, "q.log").as_deref(), Some("x\n"));
        assert!(!log.in_trouble);
    }
}
