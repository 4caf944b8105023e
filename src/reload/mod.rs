//! Notice a change -> build -> swap, or keep the old one and say why.
//!
//! A [`Reloader`] remembers what is served and where it was read from. A reload reads everything again, falls back on
//! what is served wherever the new is broken or gone, and gives a new snapshot only if something is different.
//! Nothing here is on the query path, and nothing is published here: the daemon does that.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catchment::Catchments;
use crate::catchment::compile::survey;
use crate::finding::{Finding, Findings, Source};
use crate::geo::Databases;
use crate::geo::read::About;
use crate::health::board::Layout;
use crate::site::Service;
use crate::site::read::Shared;
use crate::snapshot::{Snapshot, ZoneToPublish, services_of};
use crate::wire::Name;
use crate::yaml;
use crate::zone::read::{Folder, WrittenZone, list};
use crate::zone::{Expectation, Zone, compile};

pub mod expect;
pub mod serials;
pub mod watch;

use serials::{Serial, Serials};

/// How a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Unchanged,
    /// All that was found is served.
    TookAll,
    /// Some zones keep their last good version, or at the start have none.
    KeptSome,
    /// The whole old snapshot stays.
    TookNothing,
}

/// What a reload gave.
#[derive(Debug)]
pub struct Reload {
    /// How it went.
    pub outcome: Outcome,
    /// Everything that was found.
    pub findings: Findings,
    /// What is to be served from now on, if that is anything new, and what its board has slots for.
    pub snapshot: Option<(Snapshot, Layout)>,
}

/// Builds snapshots from a folder of zones and some geo databases.
#[derive(Debug)]
pub struct Reloader {
    zones: PathBuf,
    geodb: Vec<PathBuf>,
    serials: Serials,
    number: u64,
    served: Option<Served>,
}

/// What the last snapshot was built from.
#[derive(Debug)]
struct Served {
    shared_files: Vec<Arc<Source>>,
    shared: Shared,
    zones: BTreeMap<Name, ServedZone>,
    services: Vec<Arc<Service>>,
    catchments: Arc<Catchments>,
    geography: Vec<Stamp>,
    about: Vec<About>,
}

/// A zone as it is, or is to be, served.
#[derive(Clone, Debug)]
struct ServedZone {
    /// Its last good text; its last text where none was good.
    written: WrittenZone,
    /// None: it could never be read, and its names are SERVFAIL (meaning 18).
    zone: Option<Arc<Zone>>,
    services: Vec<Arc<Service>>,
    expectations: Arc<[Expectation]>,
    serial: Option<Serial>,
    standing: Standing,
}

/// How a zone on its way into a snapshot relates to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// As it was.
    Same,
    /// Read anew.
    New,
    /// Kept, because its file is broken or gone; built anew where what is shared changed.
    Kept,
    /// Never was good.
    Broken,
}

/// A file of the geo databases, so that a change is noticed without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// The whole old snapshot stays; the findings say why.
struct KeepAll;

/// What is known of a zone that is served, for `status`.
#[derive(Clone, Debug)]
pub struct ZoneStatus {
    /// Its name.
    pub name: Name,
    /// SOA SERIAL, unless it is broken.
    pub serial: Option<u32>,
    /// Names in it.
    pub names: usize,
    /// Its file is broken or gone, and its last good version is served.
    pub is_kept: bool,
}

impl Reloader {
    /// Where to read from. Without a state folder serials are not kept.
    #[must_use]
    pub fn new(zones: &Path, geodb: &[PathBuf], state: Option<&Path>) -> Reloader {
        Reloader {
            zones: zones.to_owned(),
            geodb: geodb.to_owned(),
            serials: Serials::open(state),
            number: 0,
            served: None,
        }
    }

    /// Reads everything again. `force` lets go of zones whose files are gone (meaning 17).
    pub fn reload(&mut self, force: bool) -> Reload {
        let mut findings = Findings::new();
        let attempt = self.attempt(force, &mut findings);
        match attempt {
            Ok(Some((served, snapshot, layout))) => {
                let kept = |zone: &ServedZone| matches!(zone.standing, Standing::Kept | Standing::Broken);
                let outcome =
                    if served.zones.values().any(kept) { Outcome::KeptSome } else { Outcome::TookAll };
                for (name, zone) in &served.zones {
                    if let Some(serial) = zone.serial {
                        self.serials.note(name, serial);
                    }
                }
                self.serials.save();
                self.number = snapshot.number();
                self.served = Some(served);
                Reload { outcome, findings, snapshot: Some((snapshot, layout)) }
            }
            Ok(None) => {
                let outcome = if findings.has_errors() { Outcome::KeptSome } else { Outcome::Unchanged };
                Reload { outcome, findings, snapshot: None }
            }
            Err(KeepAll) => Reload { outcome: Outcome::TookNothing, findings, snapshot: None },
        }
    }

    /// The zones that are served.
    #[must_use]
    pub fn zones(&self) -> Vec<ZoneStatus> {
        let status = |(name, zone): (&Name, &ServedZone)| ZoneStatus {
            name: name.clone(),
            serial: zone.zone.as_ref().map(|zone| zone.serial()),
            names: zone.zone.as_ref().map_or(0, |zone| zone.name_count()),
            is_kept: zone.standing == Standing::Kept,
        };
        self.served.iter().flat_map(|served| &served.zones).map(status).collect()
    }

    /// The services that are served, in the order of the snapshot's.
    #[must_use]
    pub fn services(&self) -> &[Arc<Service>] {
        self.served.as_ref().map(|served| served.services.as_slice()).unwrap_or_default()
    }

    /// What the geo databases say of themselves.
    #[must_use]
    pub fn about(&self) -> &[About] {
        self.served.as_ref().map(|served| served.about.as_slice()).unwrap_or_default()
    }

    /// What the next snapshot is made of, or none if that would be the last one again.
    fn attempt(
        &self,
        force: bool,
        findings: &mut Findings,
    ) -> Result<Option<(Served, Snapshot, Layout)>, KeepAll> {
        let folder = list(&self.zones);
        let shared = self.read_shared(&folder, force, findings)?;
        let shared_is_new = self.served.as_ref().is_none_or(|served| served.shared != shared);
        let zones = self.choose_zones(&folder, &shared, shared_is_new, force, findings)?;
        let geography = self.stamps(force, findings)?;
        let geography_is_new = self.served.as_ref().is_none_or(|served| served.geography != geography);

        let is_same = |zone: &ServedZone| {
            matches!(zone.standing, Standing::Same | Standing::Kept | Standing::Broken)
        };
        let count_is_same = self.served.as_ref().is_some_and(|served| served.zones.len() == zones.len());
        if !shared_is_new && !geography_is_new && count_is_same && zones.values().all(is_same) {
            return Ok(None);
        }
        let shared_files = folder.shared;
        self.build(Next { shared_files, shared, zones, geography, geography_is_new, force }, findings).map(Some)
    }

    fn read_shared(&self, folder: &Folder, force: bool, findings: &mut Findings) -> Result<Shared, KeepAll> {
        let mut own = folder.findings.clone();
        let gone = |earlier: &&Arc<Source>| folder.shared.iter().all(|now| now.path != earlier.path);
        for file in self.served.iter().flat_map(|served| &served.shared_files).filter(gone) {
            if !force && !file.path.exists() {
                own.unreadable(&file.path, "is gone; what it held is kept until `meridian reload --force`");
            }
        }
        let roots: Vec<yaml::Node> =
            folder.shared.iter().filter_map(|source| yaml::read(source, &mut own)).collect();
        let mappings: Vec<yaml::Mapping<'_>> =
            roots.iter().filter_map(|root| root.mapping("sites: and services:", &mut own)).collect();
        let shared = Shared::read(&mappings, &mut own);
        own.sort();
        let is_broken = own.has_errors();
        findings.extend(own);
        if is_broken && self.served.is_some() { Err(KeepAll) } else { Ok(shared) }
    }

    /// Each zone's next version: new, same, or the last good one.
    fn choose_zones(
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
                zones.insert(written.name.clone(), ServedZone { standing: Standing::Same, ..served.clone() });
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
        for (name, served) in self.served.iter().flat_map(|served| &served.zones) {
            if zones.contains_key(name) || force {
                continue;
            }
            let text = format!("is gone; the zone {name} is kept until `meridian reload --force`");
            findings.unreadable(&served.written.path, text);
            let zone = match served.zone {
                Some(_) => self.keep(served, shared, shared_is_new, findings)?,
                None => served.clone(),
            };
            zones.insert(name.clone(), zone);
        }
        if zones.is_empty() {
            findings.unreadable(&self.zones, "there is no zone here; a zone is a file such as example.com.yaml");
            return Err(KeepAll);
        }
        Ok(zones)
    }

    /// The last good version, built against what is shared now.
    fn keep(
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

    fn build_zone(&self, written: &WrittenZone, shared: &Shared, findings: &mut Findings) -> Option<ServedZone> {
        let mut own = Findings::new();
        let file = written.read(shared, &mut own);
        let is_broken = own.has_errors();
        findings.extend(own);
        let file = file.filter(|_| !is_broken)?;
        let serial = file.automatic_serial.then(|| self.serials.propose(&file));
        match compile::compile(&file, serial.map(|serial| serial.number)) {
            Ok(zone) => Some(ServedZone {
                written: written.clone(),
                zone: Some(Arc::new(zone)),
                services: file.services,
                expectations: file.expectations.into(),
                serial,
                standing: Standing::New,
            }),
            Err(error) => {
                findings.unreadable(&written.path, error.to_string());
                None
            }
        }
    }

    fn stamps(&self, force: bool, findings: &mut Findings) -> Result<Vec<Stamp>, KeepAll> {
        let mut own = Findings::new();
        let paths = crate::geo::read::list(&self.geodb, &mut own);
        let mut stamps = Vec::new();
        for path in paths {
            match fs::metadata(&path) {
                Ok(metadata) => stamps.push(Stamp {
                    path,
                    inode: metadata.ino(),
                    length: metadata.len(),
                    modified: (metadata.mtime(), metadata.mtime_nsec()),
                }),
                Err(error) => own.unreadable(&path, error.to_string()),
            }
        }
        let served = self.served.as_ref().map(|served| served.geography.as_slice()).unwrap_or_default();
        for earlier in served {
            if !force && !own.has_errors() && !earlier.path.exists() {
                own.unreadable(&earlier.path, "is gone; what it held is kept until `meridian reload --force`");
            }
        }
        let is_broken = own.has_errors();
        findings.extend(own);
        if is_broken && self.served.is_some() { Err(KeepAll) } else { Ok(stamps) }
    }

    /// Puts a snapshot together; zones that fail their own expectations go back to their last good version.
    fn build(&self, next: Next, findings: &mut Findings) -> Result<(Served, Snapshot, Layout), KeepAll> {
        let Next { shared_files, shared, mut zones, geography, geography_is_new, force } = next;
        let mut about = None;
        let mut known: Option<(Vec<Arc<Service>>, Arc<Catchments>)> = match &self.served {
            Some(served) if !geography_is_new => {
                Some((served.services.clone(), Arc::clone(&served.catchments)))
            }
            _ => None,
        };
        loop {
            let to_publish: Vec<ZoneToPublish> = zones.iter().map(|(name, zone)| zone.to_publish(name)).collect();
            let services = services_of(&to_publish);
            let catchments = match &known {
                Some((earlier, catchments)) if same_preferences(earlier, &services) => Arc::clone(catchments),
                _ => {
                    let databases = self.open_databases(findings)?;
                    let survey = survey(&services, &databases);
                    self.refuse_damaged(&databases, findings)?;
                    about = Some(databases.about());
                    drop(databases);
                    Arc::new(survey.assemble(&services))
                }
            };
            known = Some((services.clone(), Arc::clone(&catchments)));
            let (snapshot, layout) = Snapshot::new(self.number + 1, &to_publish, Arc::clone(&catchments));
            let failed = run_expectations(&zones, &snapshot, &layout, findings);
            if self.fall_back(&failed, &mut zones, &shared, force, findings)? {
                continue;
            }
            warn_of_unreachable(&services, &shared, &catchments, !geography.is_empty(), findings);
            let about = about.or_else(|| self.served.as_ref().map(|served| served.about.clone())).unwrap_or_default();
            let served = Served { shared_files, shared, zones, services, catchments, geography, about };
            return Ok((served, snapshot, layout));
        }
    }

    fn open_databases(&self, findings: &mut Findings) -> Result<Databases, KeepAll> {
        let mut own = Findings::new();
        let databases = Databases::open(&self.geodb, &mut own);
        let is_broken = own.has_errors();
        findings.extend(own);
        // At the start there is nothing to keep: the written order of sites is better than no answer.
        if is_broken && self.served.is_some() { Err(KeepAll) } else { Ok(databases) }
    }

    /// Large files show their damage only when they are walked.
    fn refuse_damaged(&self, databases: &Databases, findings: &mut Findings) -> Result<(), KeepAll> {
        let damaged = databases.damaged();
        for path in &damaged {
            findings.unreadable(path, "damaged: its search tree leads nowhere, or has no end");
        }
        if damaged.is_empty() || self.served.is_none() { Ok(()) } else { Err(KeepAll) }
    }

    /// Whether a zone went back to its last good version, so that all must be built once more.
    fn fall_back(
        &self,
        failed: &[Name],
        zones: &mut BTreeMap<Name, ServedZone>,
        shared: &Shared,
        force: bool,
        findings: &mut Findings,
    ) -> Result<bool, KeepAll> {
        let Some(served) = &self.served else { return Ok(false) };
        let mut fell_back = false;
        for name in failed {
            let Some(zone) = zones.get(name) else { continue };
            let earlier = served.zones.get(name).filter(|earlier| earlier.zone.is_some());
            match earlier {
                Some(earlier) if zone.standing == Standing::New && !earlier.is_unchanged(&zone.written) => {
                    let kept = self.keep(earlier, shared, true, findings)?;
                    zones.insert(name.clone(), kept);
                    fell_back = true;
                }
                // A zone that nobody touched fails against what is shared now.
                Some(_) if !force => return Err(KeepAll),
                _ => {}
            }
        }
        Ok(fell_back)
    }
}

/// All that a snapshot is built from.
struct Next {
    shared_files: Vec<Arc<Source>>,
    shared: Shared,
    zones: BTreeMap<Name, ServedZone>,
    geography: Vec<Stamp>,
    geography_is_new: bool,
    force: bool,
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
        }
    }

    /// Whether the file is as it was when it was good. A file that includes others must be read to tell.
    fn is_unchanged(&self, written: &WrittenZone) -> bool {
        let (Ok(mine), Ok(theirs)) = (&self.written.text, &written.text) else { return false };
        self.zone.is_some()
            && self.written.rival == written.rival
            && mine.path == theirs.path
            && mine.text == theirs.text
            && !mine.text.contains("$INCLUDE")
    }

    fn to_publish(&self, name: &Name) -> ZoneToPublish {
        ZoneToPublish { name: name.clone(), zone: self.zone.clone(), services: self.services.clone() }
    }
}

/// Whether two lists of services steer everybody alike; addresses and checks do not matter for that.
fn same_preferences(a: &[Arc<Service>], b: &[Arc<Service>]) -> bool {
    let same_sites = |a: &Service, b: &Service| {
        a.sites.len() == b.sites.len()
            && a.sites.iter().zip(&b.sites).all(|(a, b)| {
                a.name == b.name && a.location == b.location && a.handicap_km == b.handicap_km
            })
    };
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.name == b.name && a.near == b.near && a.rules == b.rules && same_sites(a, b)
        })
}

/// The zones that do not answer as they themselves say.
fn run_expectations(
    zones: &BTreeMap<Name, ServedZone>,
    snapshot: &Snapshot,
    layout: &Layout,
    findings: &mut Findings,
) -> Vec<Name> {
    let mut failed = Vec::new();
    for (name, zone) in zones {
        for expectation in zone.expectations.iter() {
            if let Some(text) = expect::failure(expectation, snapshot, layout) {
                findings.error(&expectation.at, format!("expectation failed: {text}"));
                failed.push(name.clone());
            }
        }
    }
    failed.dedup();
    failed
}

/// What was written for nobody.
fn warn_of_unreachable(
    services: &[Arc<Service>],
    shared: &Shared,
    catchments: &Catchments,
    has_geography: bool,
    findings: &mut Findings,
) {
    for (index, service) in services.iter().enumerate() {
        for (number, rule) in service.rules.iter().enumerate() {
            let asks_for_place = !rule.countries.is_empty()
                || !rule.continents.is_empty()
                || !rule.subdivisions.is_empty()
                || !rule.asns.is_empty();
            if (has_geography || !asks_for_place) && !catchments.rule_matches(index as u16, number) {
                let why = if asks_for_place {
                    "no address that the geo databases know is left for it"
                } else {
                    "earlier rules match all of it"
                };
                findings.warning(&rule.at, format!("this rule never matches: {why}"));
            }
        }
        for (number, site) in service.sites.iter().enumerate() {
            if !catchments.reaches(index as u16, number as u16) {
                let text = format!("site \"{}\" of service \"{}\" answers nobody", site.name, service.name);
                findings.warning(&site.at, text);
            }
        }
    }
    let used = |name: &str| shared.services.iter().flat_map(|service| &service.sites).any(|site| site.name == name);
    for site in shared.sites.iter().filter(|site| !used(&site.name)) {
        findings.warning(&site.at, format!("no service uses site \"{}\"", site.name));
    }
}

/// A finding in one line, as it is logged.
#[must_use]
pub fn in_one_line(finding: &Finding) -> String {
    finding.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join(" | ")
}
