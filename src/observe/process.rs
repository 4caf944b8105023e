//! What the kernel says of this process.

use std::fs::{File, metadata};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use nix::sys::resource::{Resource, getrlimit};

/// Opened before the sandbox, which grants nothing below `/proc`.
#[derive(Debug)]
pub struct Process {
    status: Option<File>,
    /// When it started.
    pub started: SystemTime,
}

impl Process {
    /// This one, which starts now.
    #[must_use]
    pub fn open() -> Process {
        Process { status: File::open("/proc/self/status").ok(), started: SystemTime::now() }
    }

    /// Octets of memory that are really there.
    #[must_use]
    pub fn resident_memory(&self) -> Option<u64> {
        let mut text = [0; 8192];
        let length = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = String::from_utf8_lossy(&text[..length]);
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    }

    /// Descriptors that are open. The folder's size says how many there are (Linux 6.2), and to ask for that is no reading.
    #[must_use]
    pub fn descriptors(&self) -> Option<u64> {
        metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|&count| count > 0)
    }

    /// Descriptors that it may open.
    #[must_use]
    pub fn most_descriptors(&self) -> Option<u64> {
        getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_is_told() {
        let process = Process::open();
        let taken = std::hint::black_box(vec![1_u8; 64 << 20]);
        // Other tests take and give back meanwhile.
        let told = process.resident_memory().unwrap();
        assert!(told >= taken.len() as u64, "{told}");
    }
}
