//! A file of one's own in memory, written anew for every input: some readers take a path and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Removed when its thread ends.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(extension: &str) -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Scratch { path: folder.join(format!("meridian-fuzz-{}-{number}.{extension}", std::process::id())) }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> &Path {
        fs::write(&self.path, bytes).expect("a file in memory can be written");
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
