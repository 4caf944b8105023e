//! A query log that is still written, line by line as it comes, over files that are exchanged.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Counts, Question, Questions, query_log};

/// Octets that are read at once; a line that is longer is none.
const CHUNK: usize = 64 << 10;

/// Where the reading is. The file may be renamed, removed, cut, or not be there yet.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    open: Option<File>,
    /// Octets of it that were read.
    at: u64,
    /// What is there of a line that has not ended.
    rest: Vec<u8>,
}

impl Follow {
    /// From here on: what is in the file already is passed over.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub fn begin(path: &Path) -> io::Result<Follow> {
        let mut follow = Follow { path: path.to_owned(), open: None, at: 0, rest: Vec::new() };
        follow.open()?;
        if let Some(file) = &mut follow.open {
            follow.at = file.seek(SeekFrom::End(0))?;
        }
        Ok(follow)
    }

    /// Hands on what was written since the last time.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&mut self, each: &mut dyn FnMut(&Question)) -> io::Result<Counts> {
        let mut questions = Questions::new(each);
        // Whether it was exchanged is asked before it is read to its end: after that nobody writes to the old one any more.
        let is_exchanged = self.is_exchanged();
        self.read_to_end(&mut questions)?;
        if is_exchanged {
            self.open = None;
            self.rest.clear();
            self.open()?;
            self.read_to_end(&mut questions)?;
        }
        Ok(questions.counts)
    }

    fn open(&mut self) -> io::Result<()> {
        match File::open(&self.path) {
            Ok(file) => (self.open, self.at) = (Some(file), 0),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether another file stands at the path, or the first one does.
    fn is_exchanged(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(&self.path).map(identity).ok();
        let open = self.open.as_ref().and_then(|file| file.metadata().map(identity).ok());
        there.is_some() && there != open
    }

    fn read_to_end(&mut self, questions: &mut Questions<'_>) -> io::Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        // Cut by somebody else, such as logrotate's copytruncate.
        if file.metadata()?.len() < self.at {
            self.at = file.seek(SeekFrom::Start(0))?;
            self.rest.clear();
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match file.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                return Ok(());
            }
            self.at += count as u64;
            self.rest.extend_from_slice(&chunk[..count]);
            let whole = self.rest.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1);
            for line in self.rest[..whole].split(|octet| *octet == b'\n') {
                query_log::read_line(line, questions);
            }
            self.rest.drain(..whole);
            if self.rest.len() > CHUNK {
                self.rest.clear();
                questions.counts.unreadable += 1;
            }
        }
    }
}
