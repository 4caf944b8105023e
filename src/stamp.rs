//! Whether a file is still what it was, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The clocks of file systems tick, at worst every two seconds (FAT): what is written twice within a tick looks as if it
/// had been written once.
const TICK: Duration = Duration::from_secs(2);

/// Enough of a file's metadata to tell that it was written again or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Nobody sets this one back; and it tells when who may read the file changes.
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file's metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether what is written to the file from `now` on gives it another stamp. Until then the text decides.
    #[must_use]
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let last = self.modified.max(self.changed);
        let last = UNIX_EPOCH.checked_add(Duration::from_secs(last.0.max(0) as u64 + 1));
        last.is_some_and(|last| now.duration_since(last).is_ok_and(|age| age > TICK))
    }

    /// Device and inode: the same folder has the same, by whatever path.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_just_written_is_not_settled_and_what_is_old_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        fs::write(&path, "one").unwrap();
        let stamp = Stamp::of(&fs::metadata(&path).unwrap());
        assert!(!stamp.is_settled(SystemTime::now()));
        assert!(stamp.is_settled(SystemTime::now() + Duration::from_secs(10)));
        assert!(!stamp.is_settled(SystemTime::now() - Duration::from_secs(10)), "a clock that went back");
    }

    #[test]
    fn a_file_that_is_replaced_has_another_stamp_whatever_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        fs::write(&path, "one").unwrap();
        let (before, modified) =
            (Stamp::of(&fs::metadata(&path).unwrap()), fs::metadata(&path).unwrap().modified().unwrap());
        let other = folder.path().join("zone.new");
        fs::write(&other, "two").unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&fs::metadata(&path).unwrap()), before);
    }
}
