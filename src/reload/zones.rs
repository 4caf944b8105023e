//! Each zone's next version: read anew, the same as before, or the last good one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::serials::Serial;
use super::{KeepAll, Reloader};
use crate::change::content::Digest;
use crate::finding::{Findings, Source};
use crate::parallel;
use crate::site::Service;
use crate::site::read::Shared;
use crate::snapshot::ZoneToPublish;
use crate::wire::Name;
use crate::zone::master::read_text;
use crate::zone::read::{Folder, Text, WrittenZone};
use crate::zone::{Expectation, Zone, compile};

/// A zone as it is, or is to be, served.
#[derive(Clone, Debug)]
pub(super) struct ServedZone {
    pub(super) version: Arc<Version>,
    pub(super) standing: Standing,
}

/// What was made of a zone's file.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// The last good one; the last where none was good. The text is at hand where it is to be read again when what is shared changes.
    pub(super) written: WrittenZone,
    /// Of the text.
    pub(super) digest: Digest,
    /// None: it could never be read, and its names are SERVFAIL (meaning 18).
    pub(super) zone: Option<Arc<Zone>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) expectations: Vec<Expectation>,
    pub(super) serial: Option<Serial>,
    /// Files that the zone's own includes, and the digest of each.
    pub(super) included: Vec<(PathBuf, Digest)>,
}

/// How a zone on its way into a snapshot relates to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As it was.
    Same,
    /// Read anew.
    New,
    /// Kept, because its file is broken or gone; built anew where what is shared changed.
    Kept,
    /// Never was good.
    Broken,
}

impl Reloader {
    /// Chooses for every zone that there is, and for those that were.
    pub(super) fn choose_zones(
        &self,
        folder: &Folder,
        shared: &Shared,
        shared_is_new: bool,
        force: bool,
        findings: &mut Findings,
    ) -> Result<BTreeMap<Name, ServedZone>, KeepAll> {
        let served_zones = self.served.as_ref().map(|served| &served.zones);
        let by_name: HashMap<&Name, &ServedZone> = served_zones.into_iter().flatten().collect();
        let is_same = |written: &&WrittenZone| {
            let served = by_name.get(&written.name).map(|served| &served.version);
            served.is_some_and(|served| {
                served.is_unchanged(written) && !(shared_is_new && served.uses_shared())
            })
        };
        let (same, to_read): (Vec<&WrittenZone>, Vec<&WrittenZone>) = folder.zones.iter().partition(is_same);
        let same =
            same.into_iter().map(|written| (written.name.clone(), by_name[&written.name].still(written)));
        let mut zones: BTreeMap<Name, ServedZone> = same.collect();
        let read = parallel::map(to_read.len(), |number| self.build_zone(to_read[number], shared));
        for (written, (zone, found)) in to_read.into_iter().zip(read) {
            findings.extend(found);
            let zone = match zone {
                Some(zone) => zone,
                None => match by_name.get(&written.name).filter(|served| served.version.zone.is_some()) {
                    Some(served) => self.keep(served, shared, shared_is_new, findings)?,
                    None => ServedZone::broken(written),
                },
            };
            zones.insert(written.name.clone(), zone);
        }
        // What never was a zone is not missed.
        let served = served_zones.into_iter().flatten().filter(|(_, served)| served.version.zone.is_some());
        for (name, served) in served.filter(|_| !force) {
            if zones.contains_key(name) {
                continue;
            }
            let text = format!("is gone; the zone {name} is kept until `meridian reload --force`");
            findings.unreadable(&served.version.written.path, text);
            zones.insert(name.clone(), self.keep(served, shared, shared_is_new, findings)?);
        }
        if zones.is_empty() {
            findings
                .unreadable(self.root(), "there is no zone here; a zone is a file such as example.com.yaml");
            return Err(KeepAll);
        }
        Ok(zones)
    }

    /// The last good version, built against what is shared now.
    pub(super) fn keep(
        &self,
        served: &ServedZone,
        shared: &Shared,
        shared_is_new: bool,
        findings: &mut Findings,
    ) -> Result<ServedZone, KeepAll> {
        let ServedZone { version, .. } = served;
        if !shared_is_new || !version.uses_shared() {
            return Ok(ServedZone { version: Arc::clone(version), standing: Standing::Kept });
        }
        match self.build_zone(&version.written, shared) {
            (Some(zone), _) => Ok(ServedZone { standing: Standing::Kept, ..zone }),
            (None, of_old) => {
                let text = format!(
                    "the last good version of {} does not go with what is shared now; everything stays as it was",
                    version.written.name
                );
                findings.unreadable(&version.written.path, text);
                findings.extend(of_old);
                Err(KeepAll)
            }
        }
    }

    fn build_zone(&self, written: &WrittenZone, shared: &Shared) -> (Option<ServedZone>, Findings) {
        let mut findings = Findings::new();
        let read = written.read(shared, &mut findings);
        let Some((file, owners)) = read.filter(|_| !findings.has_errors()) else { return (None, findings) };
        let proposed = file.automatic_serial.then(|| self.serials.propose(&file));
        let zone = match compile::compile(&file, owners, proposed.map(|serial| serial.number)) {
            Ok(zone) => zone,
            Err(error) => {
                findings.unreadable(&written.path, error.to_string());
                return (None, findings);
            }
        };
        let serial = proposed.unwrap_or_else(|| Serial::as_written(&file, zone.serial()));
        let digest_of = |file: &Arc<Source>| (file.path.clone(), Digest::of(file.text.as_bytes()));
        let mut version = Version {
            written: written.with_text(Text::Read(Arc::clone(&file.source))),
            digest: Digest::of(file.source.text.as_bytes()),
            zone: Some(Arc::new(zone)),
            serial: Some(serial),
            included: file.included.iter().map(digest_of).collect(),
            services: file.services,
            expectations: file.expectations,
        };
        // A zone of a million names has a text of 30 MB.
        if !version.uses_shared() {
            version.written.text = Text::AsItWas;
        }
        (Some(ServedZone { version: Arc::new(version), standing: Standing::New }), findings)
    }
}

impl ServedZone {
    fn broken(written: &WrittenZone) -> ServedZone {
        let version = Version {
            written: written.clone(),
            digest: Digest::default(),
            zone: None,
            services: Vec::new(),
            expectations: Vec::new(),
            serial: None,
            included: Vec::new(),
        };
        ServedZone { version: Arc::new(version), standing: Standing::Broken }
    }

    /// The same, from a file that says the same.
    fn still(&self, written: &WrittenZone) -> ServedZone {
        let known = &self.version.written;
        let version = if known.path == written.path && known.stamp == written.stamp {
            Arc::clone(&self.version)
        } else {
            Arc::new(Version { written: written.with_text(known.text.clone()), ..(*self.version).clone() })
        };
        ServedZone { version, standing: Standing::Same }
    }

    pub(super) fn to_publish(&self, name: &Name) -> ZoneToPublish {
        let Version { zone, services, .. } = &*self.version;
        ZoneToPublish { name: name.clone(), zone: zone.clone(), services: services.clone() }
    }
}

impl Version {
    /// Whether what it means hangs on more than its own file.
    fn uses_shared(&self) -> bool {
        !self.services.is_empty()
    }

    /// Whether the files are as they were when they were good.
    pub(super) fn is_unchanged(&self, written: &WrittenZone) -> bool {
        let says_the_same = match &written.text {
            Text::AsItWas => true,
            Text::Read(source) => Digest::of(source.text.as_bytes()) == self.digest,
            Text::Unreadable(_) => false,
        };
        let is_as_it_was = |(path, known): &(PathBuf, Digest)| {
            read_text(path).is_ok_and(|text| Digest::of(text.as_bytes()) == *known)
        };
        self.zone.is_some()
            && says_the_same
            && self.written.rival == written.rival
            && (self.included.is_empty() || self.written.path == written.path)
            && self.included.iter().all(is_as_it_was)
    }

    /// Whether both were made of the same text.
    pub(super) fn has_text_of(&self, other: &Version) -> bool {
        (self.digest, &self.included) == (other.digest, &other.included)
    }

    /// What it says, where that is at hand.
    pub(super) fn text(&self) -> Option<Arc<Source>> {
        match &self.written.text {
            Text::Read(source) => Some(Arc::clone(source)),
            Text::AsItWas | Text::Unreadable(_) => None,
        }
    }

    /// Where it stands.
    pub(super) fn path(&self) -> &Path {
        &self.written.path
    }
}
