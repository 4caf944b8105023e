//! A file that is replaced whole: a crash leaves the old one or the new one, and never half of either.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Puts a file into the place of another, and makes the folder that it is in.
///
/// # Errors
/// As the file system has it; the other file is as it was then.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(octets)?;
    // What was renamed must be what was written, also when the power goes.
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Whether this is the name of what an editor or an updater has beside a file while it writes, or keeps of the one before.
pub(crate) fn is_beside_a_file(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~')
}
