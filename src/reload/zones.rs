//! Each zone's next version: read anew, the same as before, or the last good one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::serials::Serial;
use super::{KeepAll, Reloader};
use crate::finding::{Findings, Source};
use crate::site::Service;
use crate::site::read::Shared;
use crate::snapshot::ZoneToPublish;
use crate::wire::Name;
use crate::zone::master::read_text;
use crate::zone::read::{Folder, WrittenZone};
use crate::zone::{Expectation, Zone, compile};

/// A zone as it is, or is to be, served.
#[derive(Clone, Debug)]
pub(super) struct ServedZone {
    /// Its last good text; its last text where none was good.
    pub(super) written: WrittenZone,
    /// None: it could never be read, and its names are SERVFAIL (meaning 18).
    pub(super) zone: Option<Arc<Zone>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) expectations: Arc<[Expectation]>,
    pub(super) serial: Option<Serial>,
    pub(super) standing: Standing,
    /// Files that the zone's own includes.
    included: Arc<[Arc<Source>]>,
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
        let mut zones = BTreeMap::new();
        for written in &folder.zones {
            let served = self.served.as_ref().and_then(|served| served.zones.get(&written.name));
            if let Some(served) = served
                && !shared_is_new
                && served.is_unchanged(written)
            {
                let same =
                    ServedZone { standing: Standing::Same, written: written.clone(), ..served.clone() };
                zones.insert(written.name.clone(), same);
                continue;
            }
            let zone = match self.build_zone(written, shared, findings) {
                Some(zone) => zone,
                None => match served.filter(|served| served.zone.is_some()) {
                    Some(served) => self.keep(served, shared, shared_is_new, findings)?,
                    None => ServedZone::broken(written),
                },
            };
            zones.insert(written.name.clone(), zone);
        }
        let served = self.served.iter().flat_map(|served| &served.zones);
        // What never was a zone is not missed.
        for (name, served) in served.filter(|(_, zone)| zone.zone.is_some()) {
            if zones.contains_key(name) || force {
                continue;
            }
            let text = format!("is gone; the zone {name} is kept until `meridian reload --force`");
            findings.unreadable(&served.written.path, text);
            zones.insert(name.clone(), self.keep(served, shared, shared_is_new, findings)?);
        }
        if zones.is_empty() {
            findings
                .unreadable(&self.zones, "there is no zone here; a zone is a file such as example.com.yaml");
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
        if !shared_is_new || served.services.is_empty() {
            return Ok(ServedZone { standing: Standing::Kept, ..served.clone() });
        }
        let mut of_old = Findings::new();
        match self.build_zone(&served.written, shared, &mut of_old) {
            Some(zone) => Ok(ServedZone { standing: Standing::Kept, ..zone }),
            None => {
                let text = format!(
                    "the last good version of {} does not go with what is shared now; everything stays as it was",
                    served.written.name
                );
                findings.unreadable(&served.written.path, text);
                findings.extend(of_old);
                Err(KeepAll)
            }
        }
    }

    fn build_zone(
        &self,
        written: &WrittenZone,
        shared: &Shared,
        findings: &mut Findings,
    ) -> Option<ServedZone> {
        let mut own = Findings::new();
        let file = written.read(shared, &mut own);
        let is_broken = own.has_errors();
        findings.extend(own);
        let (file, owners) = file.filter(|_| !is_broken)?;
        let proposed = file.automatic_serial.then(|| self.serials.propose(&file));
        match compile::compile(&file, owners, proposed.map(|serial| serial.number)) {
            Ok(zone) => Some(ServedZone {
                written: written.clone(),
                serial: Some(proposed.unwrap_or_else(|| Serial::as_written(&file, zone.serial()))),
                zone: Some(Arc::new(zone)),
                included: file.included.into(),
                services: file.services,
                expectations: file.expectations.into(),
                standing: Standing::New,
            }),
            Err(error) => {
                findings.unreadable(&written.path, error.to_string());
                None
            }
        }
    }
}

impl ServedZone {
    fn broken(written: &WrittenZone) -> ServedZone {
        ServedZone {
            written: written.clone(),
            zone: None,
            services: Vec::new(),
            expectations: Arc::default(),
            serial: None,
            standing: Standing::Broken,
            included: Arc::default(),
        }
    }

    /// Whether the files are as they were when they were good.
    pub(super) fn is_unchanged(&self, written: &WrittenZone) -> bool {
        let (Ok(mine), Ok(theirs)) = (&self.written.text, &written.text) else { return false };
        self.zone.is_some()
            && self.written.rival == written.rival
            && mine.text == theirs.text
            && (self.included.is_empty() || mine.path == theirs.path)
            && self.included.iter().all(|file| read_text(&file.path).is_ok_and(|text| text == file.text))
    }

    pub(super) fn to_publish(&self, name: &Name) -> ZoneToPublish {
        ZoneToPublish { name: name.clone(), zone: self.zone.clone(), services: self.services.clone() }
    }
}
