//! A file that another program writes: `up` or `down`, and why.

use std::fs::OpenOptions;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::{Deadline, Trouble, first_line};
use crate::site::FileCheck;

/// What is read of a file, in octets.
const LONGEST_FILE: u64 = 4096;

/// Whether a thread is at the file. One that a network file system keeps must not become many.
#[derive(Default)]
pub(super) struct Reading(Arc<AtomicBool>);

/// Whatever happens to the thread.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Reading {
    /// What the file says. A writer that is silent says nothing of the address.
    pub(super) async fn read(
        &self,
        file: &FileCheck,
        address: IpAddr,
        until: Deadline,
    ) -> Result<Option<String>, Trouble> {
        let path = PathBuf::from(file.path.to_string_lossy().replace("{address}", &address.to_string()));
        let slow = || Trouble::Ours(format!("{} cannot be read within {:?}", path.display(), until.timeout));
        if self.0.swap(true, Ordering::AcqRel) {
            return Err(slow());
        }
        let ended = Ended(Arc::clone(&self.0));
        let (read_path, max_age) = (path.clone(), file.max_age);
        let read = spawn_blocking(move || {
            let _ended = ended;
            read(&read_path, max_age)
        });
        match timeout_at(until.at, read).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => Err(Trouble::Ours(format!("{}: {error}", path.display()))),
            Err(_) => Err(slow()),
        }
    }
}

fn read(path: &Path, max_age: Duration) -> Result<Option<String>, Trouble> {
    let silent = |why: String| Trouble::Ours(format!("the writer is silent: {}{why}", path.display()));
    let told = |error| silent(format!(": {error}"));
    // A pipe of that name would keep us until somebody writes.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    if !metadata.is_file() {
        return Err(silent(" is no file".to_owned()));
    }
    let now = SystemTime::now();
    let written = metadata.modified().map_err(told)?;
    // A time to come is as wrong as one that is long gone: it would never be too old.
    let age = now.duration_since(written).unwrap_or_else(|ahead| ahead.duration());
    if age > max_age {
        return Err(silent(format!(" is {} s old", age.as_secs())));
    }
    let mut octets = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut octets).map_err(told)?;
    let line = first_line(&octets).unwrap_or_default();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
    let rest = rest.trim();
    match word {
        "up" => Ok((!rest.is_empty()).then(|| rest.to_owned())),
        "down" if rest.is_empty() => Err(Trouble::Theirs(format!("{} says down", path.display()))),
        "down" => Err(Trouble::Theirs(rest.to_owned())),
        // Half written, perhaps.
        _ => Err(Trouble::Ours(format!("{} says \"{word}\", neither up nor down", path.display()))),
    }
}
