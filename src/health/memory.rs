//! Verdicts over a restart: what was known a moment ago is better than nothing, so a server that starts again neither asks its
//! clients to wait for a first round of checks nor sends them to what was down; what guards remember, so that a restart
//! is no way around them; and how far sites are that start slowly, are relieved or are full, so that a restart moves no client.
//!
//! The file is written soon after any of that has changed, so that a server that is killed leaves the truth behind, and from time to
//! time while none does. It is trusted for some time from when it was written. That is told by the clock on the wall when it is opened, and from then
//! on by one that nobody sets. A clock that was set back while no server ran makes it younger by as much: nothing else tells. One that was set back
//! farther, so that it was written in the future, or set forward makes it worth nothing; then the first round of checks decides.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::board::{SiteOfService, Verdict};
use super::guard;
use super::shed::{Report, Shedding};
use crate::replace::replace;

/// Within the state folder.
const FILE: &str = "verdicts.json";
/// What was written longer ago tells nothing.
const TRUSTED: Duration = Duration::from_secs(600);
/// What is written no later than this after a moment is of that moment.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How often it is written while nothing changes, so that it is fresh when it is needed.
const FRESH: Duration = Duration::from_secs(60);

/// A file of what is known.
#[derive(Debug, Default)]
pub(super) struct Memory {
    path: Option<PathBuf>,
    earlier: Option<Earlier>,
    written: Option<SystemTime>,
    /// Something has changed since it was written.
    pub(super) is_outdated: bool,
    is_broken: bool,
    /// How often it was to be written; and which of these times was the last that came to it, for they may overtake each other.
    begun: u64,
    done: Arc<Mutex<u64>>,
}

/// What the last run knew.
#[derive(Debug)]
struct Earlier {
    written: Instant,
    /// Each is used once: what is gone and comes again later is another matter.
    verdicts: HashMap<String, RememberedVerdict>,
    sites: HashMap<SiteOfService, Site>,
}

/// A verdict on an (address, check), and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RememberedVerdict {
    is_up: bool,
    /// In milliseconds since 1970.
    since: u64,
    /// The last attempt failed, whatever the verdict is yet: of canaries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_failing: bool,
    /// How often it fell lately.
    #[serde(default)]
    falls: u16,
}

/// What has come of verdicts, loads and time at a site.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RememberedSite {
    pub(super) guard: guard::Remembered,
    /// When it came back, if it takes its clients step by step since then.
    pub(super) back: Option<Instant>,
    /// What it said of its load, and what it is relieved of for that.
    pub(super) relief: Option<(Report, Shedding)>,
    /// What it costs, in [`PRICE_UNIT`](super::spill::PRICE_UNIT)s.
    pub(super) price: u32,
}

/// Times are as precise as guards count them.
#[derive(Serialize, Deserialize)]
struct File {
    /// In milliseconds since 1970.
    written: u64,
    verdicts: HashMap<String, RememberedVerdict>,
    sites: Vec<Site>,
}

/// A [`RememberedSite`]. When something was is told in milliseconds before all of this was written.
#[derive(Debug, Serialize, Deserialize)]
struct Site {
    service: String,
    site: String,
    is_in: bool,
    left: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relief: Option<Relief>,
    #[serde(default)]
    price: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Relief {
    address: IpAddr,
    load: f64,
    shed_above: f64,
    resume_below: f64,
    /// In milliseconds.
    lasts: u64,
    part: f64,
}

impl Site {
    fn of(site: SiteOfService, known: RememberedSite, written: Instant) -> Site {
        let before = |when: Instant| in_milliseconds(written.duration_since(when));
        let RememberedSite { guard, back, relief, price } = known;
        // What is no number makes a file that cannot be read.
        let relief = relief.filter(|(report, _)| report.load.is_finite());
        let relief = relief.map(|(report, shedding)| Relief {
            address: report.address,
            load: report.load,
            shed_above: report.shed_above,
            resume_below: report.resume_below,
            lasts: in_milliseconds(report.lasts),
            part: shedding.part,
        });
        Site {
            service: site.service,
            site: site.site,
            is_in: guard.is_in(),
            left: guard.left().map(before),
            back: back.map(before),
            relief,
            price,
        }
    }

    /// What it is told to be when somebody asks.
    fn known(self, written: Instant, now: Instant) -> RememberedSite {
        let ago = |time| written.checked_sub(Duration::from_millis(time)).unwrap_or(written);
        let of_relief = |relief: Relief| {
            let report = Report {
                address: relief.address,
                load: relief.load,
                shed_above: relief.shed_above,
                resume_below: relief.resume_below,
                // Nobody could listen meanwhile: it counts until there was time to hear it again.
                told: now,
                lasts: Duration::from_millis(relief.lasts).min(TRUSTED),
            };
            (report, Shedding::resume(relief.part, now))
        };
        RememberedSite {
            guard: guard::Remembered::new(self.is_in, self.left.map(ago)),
            back: self.back.map(ago),
            relief: self.relief.map(of_relief),
            price: self.price,
        }
    }
}

impl RememberedVerdict {
    /// None for what there is no verdict on.
    #[must_use]
    pub(super) fn of(
        verdict: Verdict,
        since: SystemTime,
        is_failing: bool,
        falls: u16,
    ) -> Option<RememberedVerdict> {
        let is_up = match verdict {
            Verdict::Up => true,
            Verdict::Down => false,
            _ => return None,
        };
        let since = since.duration_since(UNIX_EPOCH).map_or(0, in_milliseconds);
        Some(RememberedVerdict { is_up, since, is_failing, falls })
    }

    /// The verdict.
    #[must_use]
    pub(super) fn verdict(self) -> Verdict {
        if self.is_up { Verdict::Up } else { Verdict::Down }
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub(super) fn is_failing(self) -> bool {
        self.is_failing
    }

    /// Since when.
    #[must_use]
    pub(super) fn since(self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.since)).unwrap_or(UNIX_EPOCH)
    }

    /// How often it fell lately.
    #[must_use]
    pub(super) fn falls(self) -> u16 {
        self.falls
    }
}

impl Memory {
    /// Reads what the last run knew, if that is not too long ago; without a folder nothing is kept.
    #[must_use]
    pub(super) fn open(folder: Option<&Path>, wall: SystemTime, now: Instant) -> Memory {
        let path = folder.map(|folder| folder.join(FILE));
        let earlier = path.as_deref().and_then(read).and_then(|file| Earlier::of(file, wall, now));
        let count = earlier.as_ref().map_or(0, |earlier| earlier.verdicts.len());
        debug!("{count} verdicts are known from the last run");
        // What it says is still all that is known.
        Memory { path, earlier, written: Some(wall), ..Memory::default() }
    }

    /// What the last run knew of a subject, by its key.
    pub(super) fn take(&mut self, key: &str, now: Instant) -> Option<RememberedVerdict> {
        self.trusted(now)?.verdicts.remove(key)
    }

    /// What the last run knew of a site.
    pub(super) fn take_site(&mut self, site: &SiteOfService, now: Instant) -> Option<RememberedSite> {
        let earlier = self.trusted(now)?;
        Some(earlier.sites.remove(site)?.known(earlier.written, now))
    }

    /// Checks and sites may come much later than the start.
    fn trusted(&mut self, now: Instant) -> Option<&mut Earlier> {
        self.earlier.take_if(|earlier| now.duration_since(earlier.written) > TRUSTED);
        self.earlier.as_mut()
    }

    /// Whether it is time to write: something has changed, or nothing has for long.
    #[must_use]
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        let age = |written: SystemTime| now.duration_since(written).unwrap_or(FRESH);
        let is_stale = || self.written.is_none_or(|written| age(written) >= FRESH);
        self.path.is_some() && (self.is_outdated || is_stale())
    }

    /// Where and what to write; none without a folder.
    pub(super) fn begin_to_write(
        &mut self,
        verdicts: HashMap<String, RememberedVerdict>,
        sites: Vec<(SiteOfService, RememberedSite)>,
        wall: SystemTime,
        now: Instant,
    ) -> Option<impl FnOnce() -> Result<(), String> + Send + use<>> {
        let path = self.path.clone()?;
        (self.written, self.is_outdated) = (Some(wall), false);
        self.begun += 1;
        let (number, done) = (self.begun, Arc::clone(&self.done));
        let written = wall.duration_since(UNIX_EPOCH).map_or(0, in_milliseconds);
        let sites = sites.into_iter().map(|(site, known)| Site::of(site, known, now)).collect();
        Some(move || {
            let octets =
                serde_json::to_vec(&File { written, verdicts, sites }).map_err(|error| error.to_string())?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            // What is newer stays.
            if *done < number {
                replace(&path, &octets).map_err(|error| format!("{}: {error}", path.display()))?;
                *done = number;
            }
            Ok(())
        })
    }

    /// Tells of trouble once, and that it is over. What could not be written is tried again.
    pub(super) fn wrote(&mut self, result: Result<(), String>) {
        self.is_outdated |= result.is_err();
        match (result, self.is_broken) {
            (Err(error), false) => {
                warn!("{error}; a restart will not know the verdicts");
                self.is_broken = true;
            }
            (Ok(()), true) => self.is_broken = false,
            _ => {}
        }
    }
}

impl Earlier {
    /// None where it is too long ago.
    fn of(file: File, wall: SystemTime, now: Instant) -> Option<Earlier> {
        let written = UNIX_EPOCH.checked_add(Duration::from_millis(file.written))?;
        // Written in the future: by a clock that was wrong, then or now. But it may have been written between the look at the clock and
        // the look at the file.
        let age = match wall.duration_since(written) {
            Ok(age) => age,
            Err(early) if early.duration() < AT_ONCE => Duration::ZERO,
            Err(_) => return None,
        };
        if age > TRUSTED {
            return None;
        }
        let written = now.checked_sub(age)?;
        let by_name =
            |site: Site| (SiteOfService { service: site.service.clone(), site: site.site.clone() }, site);
        let sites = file.sites.into_iter().map(by_name).collect();
        Some(Earlier { written, verdicts: file.verdicts, sites })
    }
}

fn in_milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What cannot be read is told, and is as if it were not there: the first round of checks decides.
fn read(path: &Path) -> Option<File> {
    let read = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(octets) => serde_json::from_slice(&octets).map_err(|error| error.to_string()),
    };
    read.inspect_err(|error| warn!("{}: {error}; the verdicts of the last run are not known", path.display()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: u64 = 1_000_000_000;

    fn wall(seconds: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(WRITTEN.saturating_add_signed(seconds))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A folder in which somebody has written that `a` is down, and that a site left 100.25 s before.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut memory = Memory::open(Some(folder.path()), wall(0), now);
        let down = RememberedVerdict::of(Verdict::Down, wall(-50), false, 0).unwrap();
        let left = guard::Remembered::new(false, now.checked_sub(Duration::from_millis(100_250)));
        let verdicts = HashMap::from([("a".to_owned(), down)]);
        let left = RememberedSite { guard: left, ..RememberedSite::default() };
        memory.begin_to_write(verdicts, vec![(site(), left)], wall(0), now).unwrap()().unwrap();
        folder
    }

    fn site() -> SiteOfService {
        SiteOfService { service: "web".to_owned(), site: "syd".to_owned() }
    }

    /// Opened so long after it was written, and asked so long after that.
    fn is_known(opened: i64, asked: u64) -> bool {
        let (folder, now) = (folder(), Instant::now());
        let mut memory = Memory::open(Some(folder.path()), wall(opened), now);
        let is_site_known = memory.take_site(&site(), now + seconds(asked)).is_some();
        let known = memory.take("a", now + seconds(asked));
        assert_eq!(known.is_some(), is_site_known);
        known.is_some_and(|known| known.verdict() == Verdict::Down)
    }

    #[test]
    fn a_verdict_is_trusted_for_ten_minutes_from_when_it_was_written_however_late_it_is_asked_for() {
        assert!(is_known(0, 0));
        assert!(is_known(600, 0));
        assert!(!is_known(601, 0));
        assert!(is_known(300, 300));
        assert!(!is_known(300, 301));
    }

    #[test]
    fn what_was_written_in_the_future_is_worth_nothing() {
        assert!(!is_known(-1, 0));
        assert!(!is_known(-1, 2));
    }

    /// A server that is about to take another's place reads while that one writes.
    #[test]
    fn what_was_written_just_after_the_clock_was_read_is_known() {
        let (folder, now) = (folder(), Instant::now());
        let just_before = wall(0) - Duration::from_millis(999);
        assert!(Memory::open(Some(folder.path()), just_before, now).take("a", now).is_some());
    }

    #[test]
    fn a_site_left_when_it_did_not_when_the_server_started() {
        let (folder, now) = (folder(), Instant::now());
        let mut memory = Memory::open(Some(folder.path()), wall(20), now);
        let left = memory.take_site(&site(), now).and_then(|known| known.guard.left()).expect("it left");
        assert_eq!(now.duration_since(left).as_millis(), 120_250);
    }

    #[test]
    fn what_was_known_is_taken_once() {
        let (folder, now) = (folder(), Instant::now());
        let mut memory = Memory::open(Some(folder.path()), wall(1), now);
        assert!(memory.take("a", now).is_some());
        assert!(memory.take("a", now).is_none());
        assert!(memory.take_site(&site(), now).is_some());
        assert!(memory.take_site(&site(), now).is_none());
    }

    #[test]
    fn it_is_written_when_something_has_changed_or_a_minute_is_over_and_again_where_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut memory = Memory::open(Some(folder.path()), wall(0), now);
        assert!(!memory.is_due(wall(59)));
        assert!(memory.is_due(wall(60)));
        memory.is_outdated = true;
        assert!(memory.is_due(wall(1)));
        memory.begin_to_write(HashMap::new(), Vec::new(), wall(1), now).unwrap()().unwrap();
        assert!(!memory.is_due(wall(60)));
        memory.wrote(Err("the disk is full".to_owned()));
        assert!(memory.is_due(wall(2)));
    }

    #[test]
    fn what_is_older_is_not_written_over_what_is_newer() {
        let folder = folder();
        let now = Instant::now();
        let mut memory = Memory::open(Some(folder.path()), wall(0), now);
        let mut begin = |name: &str| {
            let up = RememberedVerdict::of(Verdict::Up, wall(0), false, 0).unwrap();
            memory.begin_to_write(HashMap::from([(name.to_owned(), up)]), Vec::new(), wall(0), now).unwrap()
        };
        let (older, newer) = (begin("older"), begin("newer"));
        newer().unwrap();
        older().unwrap();
        assert!(Memory::open(Some(folder.path()), wall(0), now).take("newer", now).is_some());
    }
}
