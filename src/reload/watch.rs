//! Notices that files changed.
//!
//! The kernel's events only say *look now*: an editor that renames over, a checkout of a thousand files and
//! a swapped symbolic link all look different in events, and some file systems lose them. What decides is a
//! look at the files themselves, whenever events have been quiet for a moment, and every few seconds without any.

use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

use crate::stamp::Stamp;

/// Events must have been quiet for this long: a save is several of them, a checkout thousands.
const QUIET: Duration = Duration::from_millis(200);
/// A stream of events that never ends is looked into all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// For events that got lost (network and overlay file systems).
const LOOK_ANYWAY: Duration = Duration::from_secs(10);
/// Folders within folders; more is a loop of symbolic links.
const DEEPEST: usize = 16;

/// Ends the watching when dropped.
#[derive(Debug)]
pub struct Watching {
    events: Sender<Event>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
    }
}

/// What the thread waits for.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    LookNow,
    Stop,
}

/// Calls `changed` from a thread of its own, once for each time that anything at or below `roots` is no longer as it
/// was. A root may be a file, a folder, a symbolic link to either, or nothing yet.
pub fn watch(roots: Vec<PathBuf>, changed: impl Fn() + Send + 'static) -> std::io::Result<Watching> {
    let (events, received) = channel();
    let hints = events.clone();
    // What is there before the first event counts as known only if it is looked at before this returns.
    let known = Look::at(&roots);
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch_until_dropped(&roots, known, &hints, &received, &changed))?;
    Ok(Watching { events })
}

fn watch_until_dropped(
    roots: &[PathBuf],
    mut known: Look,
    hints: &Sender<Event>,
    received: &Receiver<Event>,
    changed: &impl Fn(),
) {
    let mut _watcher = watch_folders(&known, roots, hints);
    let mut wait = Duration::ZERO; // what changed before the watcher stood gave no event
    loop {
        match received.recv_timeout(wait) {
            Ok(Event::LookNow) if wait_for_quiet(received) => {}
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let look = Look::at(roots);
        wait = LOOK_ANYWAY;
        if look != known {
            if look.folders != known.folders {
                _watcher = watch_folders(&look, roots, hints);
                wait = Duration::ZERO;
            }
            known = look;
            debug!("files changed");
            changed();
        }
    }
}

/// False when it is time to stop.
fn wait_for_quiet(received: &Receiver<Event>) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match received.recv_timeout(QUIET) {
            Ok(Event::LookNow) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// Asks for events from every folder that was seen, and from those that the roots stand in: the swap of a symbolic link
/// happens there.
fn watch_folders(look: &Look, roots: &[PathBuf], hints: &Sender<Event>) -> Option<RecommendedWatcher> {
    let hints = hints.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Being read is no change; without this each look would cause the next.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = hints.send(Event::LookNow);
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            warn!("changes of files are noticed only every {} s: {error}", LOOK_ANYWAY.as_secs());
            return None;
        }
    };
    let parents =
        roots.iter().filter_map(|root| root.parent()).map(|parent| match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        });
    for folder in look.folders.iter().map(|(path, _)| path.as_path()).chain(parents) {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            debug!("no events from {}: {error}", folder.display());
        }
    }
    Some(watcher)
}

/// What all files under some roots looked like, in the order in which they are come across: by name within a folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    files: Vec<(PathBuf, Stamp)>,
    /// With device and inode: behind the same path may be another folder by now.
    folders: Vec<(PathBuf, (u64, u64))>,
}

impl Look {
    fn at(roots: &[PathBuf]) -> Look {
        let mut look = Look::default();
        for root in roots {
            if let Ok(metadata) = fs::metadata(root) {
                look.add(root.clone(), &metadata, &mut Vec::new());
            }
        }
        look
    }

    /// `above` are the folders that this one is in: a symbolic link back to one of them is not followed.
    fn add(&mut self, path: PathBuf, metadata: &Metadata, above: &mut Vec<(u64, u64)>) {
        let stamp = Stamp::of(metadata);
        if metadata.is_file() {
            self.files.push((path, stamp));
        } else if metadata.is_dir() && above.len() < DEEPEST && !above.contains(&stamp.identity()) {
            let mut entries: Vec<_> = fs::read_dir(&path).into_iter().flatten().flatten().collect();
            entries.sort_by_cached_key(DirEntry::file_name);
            self.folders.push((path, stamp.identity()));
            above.push(stamp.identity());
            for entry in entries {
                // Of the entry itself the kernel need not walk the whole path; a link is what it leads to.
                let metadata = match entry.metadata() {
                    Ok(metadata) if metadata.is_symlink() => fs::metadata(entry.path()),
                    metadata => metadata,
                };
                if let Ok(metadata) = metadata {
                    self.add(entry.path(), &metadata, above);
                }
            }
            above.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A folder under watch, and the changes that were noticed.
    fn watched(root: &Path) -> (Watching, Receiver<()>) {
        let (noticed, changes) = channel();
        let watching = watch(vec![root.to_owned()], move || {
            let _ = noticed.send(());
        })
        .unwrap();
        (watching, changes)
    }

    fn expect_change(changes: &Receiver<()>) {
        changes.recv_timeout(Duration::from_secs(30)).expect("the change is noticed");
    }

    #[test]
    fn a_file_renamed_over_another_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zone"), "one").unwrap();
        let (_watching, changes) = watched(folder.path());
        fs::write(folder.path().join("zone~"), "two").unwrap();
        fs::rename(folder.path().join("zone~"), folder.path().join("zone")).unwrap();
        expect_change(&changes);
    }

    #[test]
    fn a_file_that_others_may_read_from_now_on_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("zone");
        fs::write(&file, "one").unwrap();
        let (_watching, changes) = watched(folder.path());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        expect_change(&changes);
    }

    #[test]
    fn a_symbolic_link_that_is_swapped_is_a_change_and_its_new_folder_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        for release in ["1", "2"] {
            fs::create_dir(folder.path().join(release)).unwrap();
            fs::write(folder.path().join(release).join("zone"), "same").unwrap();
        }
        let root = folder.path().join("current");
        symlink("1", &root).unwrap();
        let (_watching, changes) = watched(&root);
        symlink("2", folder.path().join("next")).unwrap();
        fs::rename(folder.path().join("next"), &root).unwrap();
        expect_change(&changes);
        fs::write(folder.path().join("2").join("zone"), "another").unwrap();
        expect_change(&changes);
    }

    #[test]
    fn a_folder_that_comes_later_is_noticed_with_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("zones");
        let (_watching, changes) = watched(&root);
        fs::create_dir(&root).unwrap();
        expect_change(&changes);
        fs::write(root.join("zone"), "one").unwrap();
        expect_change(&changes);
    }
}
