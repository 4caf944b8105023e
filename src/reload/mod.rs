//! Notice a change -> build -> swap, or keep the old one and say why.
//!
//! A [`Reloader`] remembers what is served and where it was read from. A reload reads everything again (here), chooses
//! each zone's next version (`zones`), falls back on what is served wherever the new is broken or gone, and puts a new
//! snapshot together only if something is different (`build`). Nothing here is on the query path, and nothing is published
//! here: the daemon does that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catchment::Catchments;
use crate::catchment::census::Census;
use crate::catchment::stored::{Store, Unverified};
use crate::change::gates::Gates;
use crate::config::Config;
use crate::finding::{Finding, Findings, Severity, Source};
use crate::geo;
use crate::geo::Databases;
use crate::geo::read::About;
use crate::health::board::Layout;
use crate::health::overrides::{Deed, Override};
use crate::policy::Policy;
use crate::site::read::Shared;
use crate::site::{Service, Site};
use crate::snapshot::Snapshot;
use crate::stamp::Stamp;
use crate::wire::Name;
use crate::yaml;
use crate::zone::compile::LONGEST_RRSET;
use crate::zone::read::{Folder, Was, list};

mod build;
pub mod expect;
mod hold;
mod made_of;
pub mod serials;
pub mod watch;
mod zones;

use build::Next;
pub use made_of::Answering;
use serials::Serials;
use zones::{ServedZone, Standing};

/// How a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Unchanged,
    /// All that was found is served.
    TookAll,
    /// Something is wrong, and what it concerns keeps its last good version; or at the start has none.
    KeptSome,
    /// The whole old snapshot stays: something is wrong with what all share.
    TookNothing,
    /// The whole old snapshot stays: nothing is wrong, but the step is so large that somebody has to say that it is meant.
    Held,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] =
        [Outcome::Unchanged, Outcome::TookAll, Outcome::KeptSome, Outcome::TookNothing, Outcome::Held];
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
    /// Nobody named the geo databases: where they would be, there may be none.
    geodb_may_be_missing: bool,
    /// Octets that an RRset may take.
    largest_rrset: usize,
    policy: Arc<Policy>,
    gates: Gates,
    /// What operators said of sites.
    overrides: Vec<Override>,
    /// Where to read zones from, if it is not the folder that they are written in.
    instead: Option<PathBuf>,
    /// What the geo databases were, in case that they cannot be read now.
    remembered: Option<Geography>,
    serials: Serials,
    store: Store,
    number: u64,
    /// For whoever asks the geo databases more than the tables tell.
    keeps_databases: bool,
    served: Option<Served>,
}

/// What the last snapshot was built from.
#[derive(Debug)]
struct Served {
    /// The folder that was read.
    root: PathBuf,
    shared_files: Vec<Arc<Source>>,
    shared: Shared,
    zones: BTreeMap<Name, ServedZone>,
    services: Vec<Arc<Service>>,
    catchments: Arc<Catchments>,
    geography: Geography,
    about: Vec<About>,
    policy: Arc<Policy>,
    /// Zones that do not answer as they themselves say, and are served all the same: from the start, or by force.
    failing: BTreeSet<Name>,
    /// Until somebody takes it to have it looked into.
    unverified: Option<Unverified>,
    /// Where they are kept, until somebody takes them.
    databases: Option<Databases>,
    /// The same.
    census: Option<Arc<Census>>,
    /// The geo databases say something else than the tables, though their stamps are the same.
    is_suspect: bool,
}

/// The files of the geo databases, so that a change is noticed without reading them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Geography {
    /// In the order in which they are asked.
    files: Vec<(PathBuf, Stamp)>,
    /// What could not be used when the snapshot was built, so that it is no reason to refuse the next one.
    refused: BTreeSet<PathBuf>,
}

/// The whole old snapshot stays; the findings say why.
struct KeepAll;

/// What a reload comes to.
enum Attempt {
    /// What is served already; but its files may have other names by now, and some of it may be kept only.
    Same { root: PathBuf, shared_files: Vec<Arc<Source>>, zones: BTreeMap<Name, ServedZone> },
    /// Another snapshot.
    New(Box<(Served, Snapshot, Layout)>),
}

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
            geodb_may_be_missing: false,
            largest_rrset: LONGEST_RRSET,
            policy: Arc::default(),
            gates: Gates::default(),
            overrides: Vec::new(),
            instead: None,
            remembered: None,
            serials: Serials::open(state),
            store: Store::new(state),
            number: 0,
            keeps_databases: false,
            served: None,
        }
    }

    /// As a configuration says; `keeps_state` for the server, whose serials outlive it.
    #[must_use]
    pub fn of(config: &Config, keeps_state: bool) -> Reloader {
        Reloader {
            geodb_may_be_missing: !config.geodb_is_named,
            largest_rrset: config.largest_rrset,
            gates: config.gates,
            ..Reloader::new(&config.zones, &config.geodb, keeps_state.then_some(config.state.as_path()))
        }
    }

    /// What responses are like in general, from the next reload on.
    pub fn set_policy(&mut self, policy: Policy) {
        if policy != *self.policy {
            self.policy = Arc::new(policy);
        }
    }

    /// For whoever compares snapshots: serials that are left to us are all alike, and tables are taken from a state folder, and not put there.
    #[must_use]
    pub fn to_compare(config: &Config) -> Reloader {
        Reloader {
            serials: Serials::timeless(),
            store: Store::new(Some(&config.state)).read_only(),
            ..Reloader::of(config, false)
        }
    }

    /// How far a change may go by itself, from the next reload on.
    pub fn set_gates(&mut self, gates: Gates) {
        self.gates = gates;
    }

    /// What operators said of sites: a change must not leave a service nothing but drained ones.
    pub fn set_overrides(&mut self, overrides: Vec<Override>) {
        self.overrides = overrides;
    }

    /// From the next reload on zones and sites are read from another folder; none: from where they are written.
    pub fn read_from(&mut self, folder: Option<PathBuf>) {
        self.instead = folder;
    }

    /// The next snapshot gets the number behind this one.
    pub fn count_from(&mut self, number: u64) {
        self.number = number;
    }

    /// Begins with a snapshot of an earlier time, whose files are in a folder: what is wrong with those that are read next keeps the version
    /// of that time. Geo databases that cannot be read are as they were then, as far as their tables are at hand.
    pub fn begin_with(&mut self, folder: &Path, databases: Vec<(PathBuf, Stamp)>) -> Reload {
        let instead = self.instead.replace(folder.to_owned());
        self.remembered = Some(Geography { files: databases, refused: BTreeSet::new() });
        self.served = None;
        let reload = self.reload(false);
        self.instead = instead;
        self.remembered = None;
        reload
    }

    /// Whether an operator took a site out of a service.
    fn is_out(&self, service: &Service, site: &Site) -> bool {
        self.overrides.iter().any(|said| {
            matches!(said.deed, Deed::Drain { .. } | Deed::Down)
                && said.site == site.name
                && said.service.as_ref().is_none_or(|name| *name == service.name)
        })
    }

    fn root(&self) -> &Path {
        self.instead.as_deref().unwrap_or(&self.zones)
    }

    /// Reads everything again. `force` lets go of what is gone (meaning 17), and of what would be held.
    pub fn reload(&mut self, force: bool) -> Reload {
        let mut findings = Findings::new();
        let attempt = self.attempt(force, &mut findings);
        let has_errors = findings.has_errors();
        match attempt {
            Ok(Attempt::New(new)) if !force && self.is_held(&new, &mut findings) => {
                Reload { outcome: Outcome::Held, findings, snapshot: None }
            }
            Ok(Attempt::New(new)) => {
                let (served, snapshot, layout) = *new;
                for (name, zone) in served.zones.iter().filter(|(_, zone)| zone.standing != Standing::Same) {
                    if let Some(serial) = zone.version.serial {
                        self.serials.note(name, serial);
                    }
                }
                self.serials.save();
                self.number = snapshot.number();
                self.served = Some(served);
                let outcome = if has_errors { Outcome::KeptSome } else { Outcome::TookAll };
                Reload { outcome, findings, snapshot: Some((snapshot, layout)) }
            }
            Ok(Attempt::Same { root, shared_files, zones }) => {
                if let Some(served) = &mut self.served {
                    served.root = root;
                    served.shared_files = shared_files;
                    served.zones = zones;
                }
                let outcome = if has_errors { Outcome::KeptSome } else { Outcome::Unchanged };
                Reload { outcome, findings, snapshot: None }
            }
            Err(KeepAll) => Reload { outcome: Outcome::TookNothing, findings, snapshot: None },
        }
    }

    /// From here on [`take_databases`](Reloader::take_databases) has what the tables were compiled from, and
    /// [`take_census`](Reloader::take_census) what was counted.
    pub fn keep_databases(&mut self) {
        self.keeps_databases = true;
    }

    /// The databases that the tables were compiled from, all of their records decoded: once.
    pub fn take_databases(&mut self) -> Option<Databases> {
        self.served.as_mut()?.databases.take()
    }

    /// Who is where, by the databases that the tables were compiled from: once.
    pub fn take_census(&mut self) -> Option<Arc<Census>> {
        self.served.as_mut()?.census.take()
    }

    /// The databases that were not looked into, because an earlier start had kept their tables: once.
    pub fn take_unverified(&mut self) -> Option<Unverified> {
        self.served.as_mut()?.unverified.take()
    }

    /// The databases are not what the tables that were kept say: the next reload compiles.
    pub fn distrust_tables(&mut self) {
        self.store.distrust();
        if let Some(served) = &mut self.served {
            served.is_suspect = true;
        }
    }

    /// The zones that are served.
    #[must_use]
    pub fn zones(&self) -> Vec<ZoneStatus> {
        let status = |(name, zone): (&Name, &ServedZone)| ZoneStatus {
            name: name.clone(),
            serial: zone.version.zone.as_ref().map(|zone| zone.serial()),
            names: zone.version.zone.as_ref().map_or(0, |zone| zone.name_count()),
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

    /// What the next snapshot is made of, unless that would be the last one again.
    fn attempt(&self, force: bool, findings: &mut Findings) -> Result<Attempt, KeepAll> {
        let folder = list(self.root(), self.largest_rrset, &self.was());
        let shared = self.read_shared(&folder, force, findings)?;
        let shared_is_new = self.served.as_ref().is_none_or(|served| served.shared != shared);
        let zones = self.choose_zones(&folder, &shared, shared_is_new, force, findings)?;
        let geography = self.look_at_geography(force, findings)?;
        let geography_is_new = self
            .served
            .as_ref()
            .is_none_or(|served| served.is_suspect || served.geography.files != geography.files);

        let is_same = |zone: &ServedZone| zone.standing != Standing::New;
        let names_are_same = self.served.as_ref().is_some_and(|served| served.zones.keys().eq(zones.keys()));
        let shared_files = folder.shared;
        let policy_is_same =
            self.served.as_ref().is_some_and(|served| Arc::ptr_eq(&served.policy, &self.policy));
        if !shared_is_new
            && !geography_is_new
            && policy_is_same
            && names_are_same
            && zones.values().all(is_same)
        {
            return Ok(Attempt::Same { root: self.root().to_owned(), shared_files, zones });
        }
        let next = Next {
            root: self.root().to_owned(),
            shared_files,
            shared,
            zones,
            geography,
            geography_is_new,
            force,
        };
        self.build(next, findings).map(|new| Attempt::New(Box::new(new)))
    }

    /// What each file was when it was good: one that cannot be read now is still that.
    fn was(&self) -> HashMap<&Path, Was<'_>> {
        let Some(served) = &self.served else { return HashMap::new() };
        let shared = served.shared_files.iter().map(|source| (source.path.as_path(), Was::Shared));
        let zones = served.zones.iter().map(|(name, zone)| {
            // What never was good is read again, so that it is told again what is wrong.
            let stamp = zone.version.written.stamp.filter(|_| zone.version.zone.is_some());
            (zone.version.path(), Was::Zone(name, stamp))
        });
        shared.chain(zones).collect()
    }

    fn read_shared(&self, folder: &Folder, force: bool, findings: &mut Findings) -> Result<Shared, KeepAll> {
        let mut own = folder.findings.clone();
        let roots: Vec<yaml::Node> =
            folder.shared.iter().filter_map(|source| yaml::read(source, &mut own)).collect();
        let mappings: Vec<yaml::Mapping<'_>> =
            roots.iter().filter_map(|root| root.mapping("sites: and services:", &mut own)).collect();
        let shared = Shared::read(&mappings, &mut own);
        // A file that is gone is missed only if what it held is nowhere else.
        if let Some(served) = self.served.as_ref().filter(|served| !force && served.shared != shared) {
            let is_gone = |file: &&Arc<Source>| folder.shared.iter().all(|now| now.path != file.path);
            for file in served.shared_files.iter().filter(is_gone).filter(|file| !file.path.exists()) {
                own.unreadable(&file.path, "is gone; what it held is kept until `meridian reload --force`");
            }
        }
        own.sort();
        let is_broken = own.has_errors();
        findings.extend(own);
        if is_broken && self.served.is_some() { Err(KeepAll) } else { Ok(shared) }
    }

    /// A file that is missing or gone is a reason to keep what is served, unless it was missing then already.
    fn look_at_geography(&self, force: bool, findings: &mut Findings) -> Result<Geography, KeepAll> {
        // As they were, if it is they that are meant now: whether they can be read is for the next look.
        let is_meant = |(path, _): &(PathBuf, Stamp)| self.geodb.iter().any(|meant| path.starts_with(meant));
        if let Some(remembered) = self.remembered.as_ref().filter(|known| known.files.iter().all(is_meant)) {
            return Ok(remembered.clone());
        }
        let mut own = Findings::new();
        let mut geography = Geography::default();
        let optional = |path: &PathBuf| self.geodb_may_be_missing && !path.exists();
        let paths: Vec<PathBuf> = self.geodb.iter().filter(|path| !optional(path)).cloned().collect();
        for path in geo::read::list(&paths, &mut own) {
            match fs::metadata(&path) {
                // A folder would be listed once more when it is opened, and be no database at all.
                Ok(metadata) if !metadata.is_file() => own.unreadable(&path, "no regular file"),
                Ok(metadata) => geography.files.push((path, Stamp::of(&metadata))),
                Err(error) => own.unreadable(&path, error.to_string()),
            }
        }
        for (path, _) in self.served.iter().flat_map(|served| &served.geography.files) {
            let is_told = own.iter().any(|finding| finding.path == *path);
            if !force && !is_told && geography.files.iter().all(|(file, _)| file != path) {
                own.unreadable(path, "is gone; what it held is kept until `meridian reload --force`");
            }
        }
        self.hold_against_served(own, force, &mut geography.refused, findings)?;
        Ok(geography)
    }

    /// Takes over what was found about geo databases; new trouble keeps what is served.
    fn hold_against_served(
        &self,
        found: Findings,
        force: bool,
        refused: &mut BTreeSet<PathBuf>,
        findings: &mut Findings,
    ) -> Result<(), KeepAll> {
        let is_error = |finding: &&Finding| finding.severity == Severity::Error;
        let is_new_trouble = self.served.as_ref().is_some_and(|served| {
            let is_waived =
                |path: &Path| served.geography.refused.contains(path) || (force && !path.exists());
            found.iter().filter(is_error).any(|finding| !is_waived(&finding.path))
        });
        refused.extend(found.iter().filter(is_error).map(|finding| finding.path.clone()));
        findings.extend(found);
        if is_new_trouble { Err(KeepAll) } else { Ok(()) }
    }
}

/// A finding in one line, as it is logged.
#[must_use]
pub fn in_one_line(finding: &Finding) -> String {
    finding.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join(" | ")
}
