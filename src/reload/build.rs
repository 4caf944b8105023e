//! Puts a snapshot together, and asks it whether it answers as the zones themselves say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::expect;
use super::zones::{ServedZone, Standing};
use super::{Geography, KeepAll, Reloader, Served};
use crate::catchment::census::Census;
use crate::catchment::compile::survey;
use crate::catchment::stored::{Inputs, Stored, Unverified};
use crate::catchment::{Catchments, ServiceIndex};
use crate::finding::{Findings, Source};
use crate::geo::Databases;
use crate::geo::read::About;
use crate::health::board::Layout;
use crate::site::Service;
use crate::site::read::Shared;
use crate::snapshot::{Snapshot, ZoneToPublish, services_of};
use crate::wire::Name;

/// All that a snapshot is built from.
pub(super) struct Next {
    pub(super) root: PathBuf,
    pub(super) shared_files: Vec<Arc<Source>>,
    pub(super) shared: Shared,
    pub(super) zones: BTreeMap<Name, ServedZone>,
    pub(super) geography: Geography,
    pub(super) geography_is_new: bool,
    pub(super) force: bool,
}

/// Which sites are nearest for whom, and what says so.
struct Tables {
    catchments: Arc<Catchments>,
    about: Vec<About>,
    unverified: Option<Unverified>,
    databases: Option<Databases>,
    census: Option<Arc<Census>>,
}

impl Reloader {
    /// Puts a snapshot together; zones that fail their own expectations go back to their last good version.
    pub(super) fn build(
        &self,
        next: Next,
        findings: &mut Findings,
    ) -> Result<(Served, Snapshot, Layout), KeepAll> {
        let Next { root, shared_files, shared, mut zones, mut geography, geography_is_new, force } = next;
        let mut unverified = None;
        let mut databases = None;
        let mut census = None;
        let mut about = self.served.as_ref().map(|served| served.about.clone()).unwrap_or_default();
        let mut known: Option<(Vec<Arc<Service>>, Arc<Catchments>)> = match &self.served {
            Some(served) if !geography_is_new => {
                geography.refused.extend(served.geography.refused.iter().cloned());
                Some((served.services.clone(), Arc::clone(&served.catchments)))
            }
            _ => None,
        };
        // What a round finds is told once: the last round's, with what made the rounds before it fail.
        let mut of_failed_rounds = Findings::new();
        loop {
            let mut of_round = Findings::new();
            let to_publish: Vec<ZoneToPublish> =
                zones.iter().map(|(name, zone)| zone.to_publish(name)).collect();
            let services = services_of(&to_publish);
            if services.len() > usize::from(ServiceIndex::MAX) {
                let text = format!("more than {} services in all zones together", ServiceIndex::MAX);
                findings.unreadable(self.root(), text);
                return Err(KeepAll);
            }
            let catchments = match &known {
                Some((earlier, catchments)) if same_preferences(earlier, &services) => Arc::clone(catchments),
                _ => {
                    let tables = self.tables(&services, force, &mut geography, findings)?;
                    about = tables.about;
                    unverified = tables.unverified;
                    databases = tables.databases;
                    census = tables.census;
                    tables.catchments
                }
            };
            known = Some((services.clone(), Arc::clone(&catchments)));
            let (snapshot, layout) = Snapshot::new(self.number + 1, &to_publish, Arc::clone(&catchments));
            let failing = run_expectations(&zones, &snapshot, &layout, &mut of_round);
            match self.fall_back(&failing, &mut zones, &shared, force, &mut of_round) {
                Ok(false) => {}
                Ok(true) => {
                    of_failed_rounds.extend(of_round);
                    continue;
                }
                Err(KeepAll) => {
                    findings.extend(of_failed_rounds);
                    findings.extend(of_round);
                    return Err(KeepAll);
                }
            }
            warn_of_unreachable(&services, &shared, &catchments, !geography.files.is_empty(), &mut of_round);
            warn_of_undelegated(&zones, &mut of_round);
            findings.extend(of_failed_rounds);
            findings.extend(of_round);
            let policy = Arc::clone(&self.policy);
            let snapshot = snapshot.with_policy(Arc::clone(&policy));
            let served = Served {
                root,
                shared_files,
                shared,
                zones,
                services,
                catchments,
                geography,
                about,
                policy,
                failing,
                unverified,
                databases,
                census,
                is_suspect: false,
            };
            return Ok((served, snapshot, layout));
        }
    }

    /// The tables that an earlier start kept, or new ones: opens the geo databases, compiles, and lets go of them.
    fn tables(
        &self,
        services: &[Arc<Service>],
        force: bool,
        geography: &mut Geography,
        findings: &mut Findings,
    ) -> Result<Tables, KeepAll> {
        let inputs = Inputs::new(&geography.files, services);
        if let Some(stored) = self.store.read(&inputs, self.keeps_databases) {
            let unverified = Some(Unverified::of(&stored));
            return Ok(Tables {
                catchments: stored.catchments,
                about: stored.about,
                unverified,
                databases: None,
                census: stored.census,
            });
        }
        let mut own = Findings::new();
        let paths: Vec<_> = geography.files.iter().map(|(path, _)| path.clone()).collect();
        let databases = Databases::open(&paths, &mut own);
        let mut survey = survey(services, &databases, self.keeps_databases || self.store.keeps());
        // Large files show their damage only when they are walked.
        for path in databases.damaged() {
            own.unreadable(&path, "damaged: its search tree leads nowhere, or has no end");
        }
        let about = databases.about();
        // Tables of what is left of the databases would take the place of those of all.
        let digests = (own.is_empty() && geography.refused.is_empty()).then(|| databases.digests());
        let counts = survey.take_counts();
        // Who is asked for it at once keeps the databases; for the next start there is time, and the databases are let go of first.
        let (kept, to_store): (_, Box<dyn FnOnce() -> Arc<Census> + Send>) = match self.keeps_databases {
            true => {
                let census = Arc::new(Census::new(&counts, databases.places()));
                (Some((databases, Arc::clone(&census))), Box::new(move || census))
            }
            false => {
                let place_of = databases.into_places();
                (None, Box::new(move || Arc::new(Census::new(&counts, place_of))))
            }
        };
        let mut refused = BTreeSet::new();
        self.hold_against_served(own, force, &mut refused, findings)?;
        geography.refused.extend(refused);
        let catchments = Arc::new(survey.assemble(services));
        if let Some(digests) = digests {
            let (about, catchments) = (about.clone(), Arc::clone(&catchments));
            self.store.write(Stored { inputs, digests, about, catchments, census: None }, to_store);
        }
        let (databases, census) = kept.unzip();
        Ok(Tables { catchments, about, unverified: None, databases, census })
    }

    /// Whether a zone went back to its last good version, so that all must be built once more.
    fn fall_back(
        &self,
        failing: &BTreeSet<Name>,
        zones: &mut BTreeMap<Name, ServedZone>,
        shared: &Shared,
        force: bool,
        findings: &mut Findings,
    ) -> Result<bool, KeepAll> {
        let Some(served) = &self.served else { return Ok(false) };
        let earlier = |name: &Name| served.zones.get(name).filter(|earlier| earlier.version.zone.is_some());
        // First those that somebody changed: another zone's expectation may fail for what is theirs.
        let mut fell_back = false;
        for name in failing {
            if let (Some(zone), Some(earlier)) = (zones.get(name), earlier(name))
                && zone.standing == Standing::New
                && !earlier.version.has_text_of(&zone.version)
            {
                let kept = self.keep(earlier, shared, true, findings)?;
                zones.insert(name.clone(), kept);
                fell_back = true;
            }
        }
        // What failed before fails still, and a new zone is served as at the start (meaning 18): no reason to hold up all
        // others. But a zone that nobody touched fails against what is shared now.
        let is_hurt = |name: &&Name| earlier(name).is_some() && !served.failing.contains(*name);
        if !fell_back && !force && failing.iter().any(|name| is_hurt(&name)) {
            return Err(KeepAll);
        }
        Ok(fell_back)
    }
}

/// Whether two lists of services steer everybody alike; addresses and checks do not matter for that.
fn same_preferences(a: &[Arc<Service>], b: &[Arc<Service>]) -> bool {
    let same_sites = |a: &Service, b: &Service| {
        a.sites.len() == b.sites.len()
            && a.sites
                .iter()
                .zip(&b.sites)
                .all(|(a, b)| a.name == b.name && a.location == b.location && a.handicap_km == b.handicap_km)
    };
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.name == b.name
                && a.near == b.near
                && a.spill == b.spill
                && a.rules == b.rules
                && same_sites(a, b)
        })
}

/// The zones that do not answer as they themselves say.
fn run_expectations(
    zones: &BTreeMap<Name, ServedZone>,
    snapshot: &Snapshot,
    layout: &Layout,
    findings: &mut Findings,
) -> BTreeSet<Name> {
    let mut failing = BTreeSet::new();
    for (name, zone) in zones {
        for expectation in &zone.version.expectations {
            if let Some(text) = expect::failure(expectation, snapshot, layout) {
                findings.error(&expectation.at, format!("expectation failed: {text}"));
                failing.insert(name.clone());
            }
        }
    }
    failing
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
                    "no address that the geo databases know is left for it; put it before the rules that take them, or ask a database that knows more"
                } else {
                    "earlier rules match all of it; put it before them, or take it out"
                };
                findings.warning(&rule.at, format!("this rule never matches: {why}"));
            }
        }
        for (number, site) in service.sites.iter().enumerate() {
            if !catchments.reaches(index as u16, number as u16) {
                let text = format!(
                    "site \"{}\" of service \"{}\" answers nobody, whoever else is down: rules with `only` have taken all clients; name it in one of them, or take it out",
                    site.name, service.name
                );
                findings.warning(&site.at, text);
            }
        }
    }
    let used =
        |name: &str| shared.services.iter().flat_map(|service| &service.sites).any(|site| site.name == name);
    // One that could not be read may use it.
    let unused = shared.sites.iter().filter(|site| shared.is_whole() && !used(&site.name));
    for site in unused {
        findings.warning(
            &site.at,
            format!("no service uses site \"{}\": name it in one, or take it out", site.name),
        );
    }
}

/// A zone below one that we serve as well, which says nothing of it: who walks down from there never finds it. Told when
/// either of them is new.
fn warn_of_undelegated(zones: &BTreeMap<Name, ServedZone>, findings: &mut Findings) {
    let closest_above = |name: &Name| {
        std::iter::successors(name.parent(), Name::parent).find_map(|above| zones.get_key_value(&above))
    };
    let mut told = BTreeSet::new();
    for (new, _) in zones.iter().filter(|(_, zone)| zone.standing != Standing::Same) {
        // In canonical order a name is followed by those below it.
        for (name, zone) in zones.range(new..).take_while(|(name, _)| name.is_at_or_below(new)) {
            let Some((above, parent)) = closest_above(name) else { continue };
            let delegates = parent.version.zone.as_ref().is_none_or(|parent| parent.delegates(name));
            if (name == new || above == new) && !delegates && told.insert(name) {
                let text = format!("the zone {above} is served here too and does not delegate {name}");
                findings.note(zone.version.path(), text);
            }
        }
    }
}
