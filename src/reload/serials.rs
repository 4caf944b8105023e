//! Serials of zones that leave theirs to us: the time of the last change of content, never below one that was served
//! (RFC 1982), whoever chose that one. Kept in the state folder, so that a restart does not turn one back.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use foldhash::fast::FixedState;
use tracing::{debug, warn};

use crate::replace::replace;
use crate::site::AllDown;
use crate::wire::Name;
use crate::zone::ZoneFile;

/// Within the state folder: a zone, its serial and the digest of its content to a line.
const FILE: &str = "serials";

/// The last serials that were served.
#[derive(Debug, Default)]
pub struct Serials {
    path: Option<PathBuf>,
    served: BTreeMap<String, Serial>,
    is_changed: bool,
    /// That they cannot be kept.
    is_told: bool,
    /// All are 0: for whoever compares zones, to whom the time is no difference.
    is_timeless: bool,
}

/// A serial and the content that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// SOA SERIAL.
    pub number: u32,
    digest: u64,
}

impl Serial {
    /// What a zone's file says: when it leaves the serial to us one day, that goes on from there.
    #[must_use]
    pub fn as_written(zone: &ZoneFile, number: u32) -> Serial {
        Serial { number, digest: digest(zone) }
    }
}

impl Serials {
    /// Reads what was served before; without a folder nothing is kept.
    #[must_use]
    pub fn open(folder: Option<&Path>) -> Serials {
        let path = folder.map(|folder| folder.join(FILE));
        let text = path.as_deref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let read = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let name = words.next()?.to_owned();
            let number = words.next()?.parse().ok()?;
            let digest = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((name, Serial { number, digest }))
        };
        Serials { path, served: text.lines().filter_map(read).collect(), ..Serials::default() }
    }

    /// Serials that are all alike.
    #[must_use]
    pub fn timeless() -> Serials {
        Serials { is_timeless: true, ..Serials::default() }
    }

    /// The serial for a zone's content: the last one if it is the same, else a higher one (RFC 1982 3.2).
    #[must_use]
    pub fn propose(&self, zone: &ZoneFile) -> Serial {
        let digest = digest(zone);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32);
        let number = match self.served.get(&key(&zone.apex)) {
            _ if self.is_timeless => 0,
            Some(last) if last.digest == digest => last.number,
            Some(last) if now.wrapping_sub(last.number) as i32 <= 0 => last.number.wrapping_add(1),
            _ => now,
        };
        Serial { number, digest }
    }

    /// Remembers what is served from now on.
    pub fn note(&mut self, apex: &Name, serial: Serial) {
        self.is_changed |= self.served.insert(key(apex), serial) != Some(serial);
    }

    /// Writes them down, by a rename, so that a crash leaves the old or the new.
    pub fn save(&mut self) {
        let Some(path) = self.path.as_deref().filter(|_| self.is_changed) else { return };
        let line =
            |(name, serial): (&String, &Serial)| format!("{name} {} {:016x}\n", serial.number, serial.digest);
        let text: String = self.served.iter().map(line).collect();
        match replace(path, text.as_bytes()) {
            Ok(()) => (self.is_changed, self.is_told) = (false, false),
            Err(error) if self.is_told => debug!("serials cannot be kept in {}: {error}", path.display()),
            Err(error) => {
                warn!("serials cannot be kept in {}: {error}", path.display());
                self.is_told = true;
            }
        }
    }
}

fn key(apex: &Name) -> String {
    apex.to_lowercase().to_string()
}

/// All that answers of the zone are made of, but its serial. The hash is fixed: its values outlive the process.
fn digest(zone: &ZoneFile) -> u64 {
    let mut hasher = FixedState::with_seed(0x005e_71a1).build_hasher();
    for record in zone.records.iter() {
        (record.owner, record.rtype, record.ttl, record.rdata).hash(&mut hasher);
    }
    for steered in &zone.steered {
        let service = &zone.services[steered.service];
        let ttl = steered.ttl.map_or_else(|| service.ttl.clone(), |ttl| ttl..=ttl);
        (steered.owner.wire(), &service.name, ttl.start()).hash(&mut hasher);
        if ttl.start() != ttl.end() {
            ttl.end().hash(&mut hasher);
        }
        for site in &service.sites {
            site.name.hash(&mut hasher);
            for rrset in &site.rrsets {
                (rrset.rtype, &rrset.rdatas).hash(&mut hasher);
            }
        }
        if let AllDown::LastResort(rrsets) = &service.all_down {
            for rrset in rrsets {
                (rrset.rtype, &rrset.rdatas).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}
