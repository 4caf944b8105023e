//! The git checkout that a folder is in: which commit it is at.
//!
//! Read from the log of HEAD, which git only appends to. Of all of `.git` that folder alone need be readable: what else is in there, such as
//! passwords in the addresses of remotes, is none of a server's business.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of logs of the checkout that a folder is in; none where it is in none.
#[must_use]
pub fn logs(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let git = folder.ancestors().map(|above| above.join(".git")).find(|git| git.exists())?;
    let git = match fs::read_to_string(&git) {
        // A worktree: a file that says where.
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => git,
    };
    Some(git.join("logs"))
}

/// The commit that the log's last line came to.
#[must_use]
pub fn commit(logs: &Path) -> Option<String> {
    let log = fs::read_to_string(logs.join("HEAD")).ok()?;
    let commit = log.lines().next_back()?.split(' ').nth(1)?;
    let is_one = matches!(commit.len(), 40 | 64) && commit.bytes().all(|octet| octet.is_ascii_hexdigit());
    is_one.then(|| commit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "0000000000000000000000000000000000000000 89abcdef0123456789abcdef0123456789abcdef A <a@b> 1 +0000\tcommit\n\
                       89abcdef0123456789abcdef0123456789abcdef 0123456789abcdef0123456789abcdef01234567 A <a@b> 2 +0000\tpull\n";

    #[test]
    fn the_commit_is_that_of_the_last_line_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let zones = folder.path().join("etc/zones");
        fs::create_dir_all(&zones).unwrap();
        fs::create_dir_all(folder.path().join(".git/logs")).unwrap();
        fs::write(folder.path().join(".git/logs/HEAD"), LOG).unwrap();
        let commit_of = |zones: &Path| logs(zones).and_then(|logs| commit(&logs));
        assert_eq!(commit_of(&zones).as_deref(), Some("0123456789abcdef0123456789abcdef01234567"));
        let worktree = folder.path().join("other");
        fs::create_dir(&worktree).unwrap();
        fs::write(worktree.join(".git"), "gitdir: ../.git\n").unwrap();
        assert_eq!(commit_of(&worktree), commit_of(&zones));
        fs::write(folder.path().join(".git/logs/HEAD"), "no log\n").unwrap();
        assert_eq!(commit_of(&zones), None);
    }
}
