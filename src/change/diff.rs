//! What would be answered differently: records by owner and type, and what services are made of.
//!
//! Who moves to which site is counted elsewhere (`coverage`), on two sides that are numbered alike: [`merge`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::coverage::Part;
use crate::nameserver::Given;
use crate::reload::Answering;
use crate::site::{Service, Site, SiteRrset};
use crate::wire::message::Message;
use crate::wire::{Name, Rtype, rdata};
use crate::zone::Zone;
use crate::zone::name_tree::NodeId;
use crate::zone::tree::Rrset;

/// What stands in the place of a type for a name that a service steers.
const STEERED: &str = "service";

/// What has become of a zone.
#[derive(Clone, Debug, PartialEq)]
pub enum ZoneChange {
    /// It was not there; so many names.
    Added(usize),
    /// It is not there.
    Removed(usize),
    /// Records are others.
    Changed(Vec<RecordChange>),
}

/// What has become of the records of one type at one name.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordChange {
    /// The name.
    pub owner: Name,
    /// A type, or `service` for a name that is steered.
    pub what: String,
    /// As it was, if it was there.
    pub before: Option<Records>,
    /// As it is.
    pub after: Option<Records>,
}

/// Records of one type at one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// Seconds; of a steered name none where the service's counts.
    pub ttl: Option<u32>,
    /// In presentation format; of a steered name the service's name.
    pub data: Vec<String>,
}

/// What has become of a service, apart from who goes where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceChange {
    /// Settings that are others, by their keys.
    pub settings: Vec<&'static str>,
    /// Sites that are new.
    pub added: Vec<String>,
    /// Sites that are gone.
    pub removed: Vec<String>,
    /// Sites with other records or settings: the site, what, before, after.
    pub sites: Vec<(String, String, Vec<String>, Vec<String>)>,
}

impl RecordChange {
    /// The services before and after, of a name that is steered by one in both versions.
    #[must_use]
    pub fn services(&self) -> Option<(&str, &str)> {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return None };
        let (before, after) = (before.data.first()?, after.data.first()?);
        (self.what == STEERED).then_some((before, after))
    }
}

/// By name; what has not changed is left out.
#[must_use]
pub fn zones(old: &[Answering], new: &[Answering]) -> BTreeMap<Name, ZoneChange> {
    let by_name = |zones: &[Answering]| -> BTreeMap<Name, Answering> {
        zones.iter().map(|zone| (zone.name.clone(), zone.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let names_of = |zone: &Answering| zone.zone.as_ref().map_or(0, |zone| zone.name_count());
    let mut changes = BTreeMap::new();
    for (name, before) in &old {
        let change = match new.get(name) {
            None => Some(ZoneChange::Removed(names_of(before))),
            Some(after) => compare(before, after),
        };
        changes.extend(change.map(|change| (name.clone(), change)));
    }
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    changes.extend(added.map(|(name, zone)| (name.clone(), ZoneChange::Added(names_of(zone)))));
    changes
}

fn compare(before: &Answering, after: &Answering) -> Option<ZoneChange> {
    let (Some(old), Some(new)) = (&before.zone, &after.zone) else {
        return match (&before.zone, &after.zone) {
            (Some(old), None) => Some(ZoneChange::Removed(old.name_count())),
            (None, Some(new)) => Some(ZoneChange::Added(new.name_count())),
            _ => None,
        };
    };
    if Arc::ptr_eq(old, new) {
        return None;
    }
    let mut changes = Vec::new();
    let mut at_name = |old_node: Option<NodeId>, new_node: Option<NodeId>| {
        let sets_before = old_node.map(|node| sets(old, node, &before.services)).unwrap_or_default();
        let sets_after = new_node.map(|node| sets(new, node, &after.services)).unwrap_or_default();
        let owner = || match (old_node, new_node) {
            (Some(node), _) => old.owner(node),
            (None, node) => new.owner(node.unwrap_or_default()),
        };
        for (what, set) in &sets_before {
            let now = sets_after.get(what);
            if now != Some(set) {
                let [before, after] = [Some(set), now].map(|set| set.map(Set::read));
                changes.push(RecordChange { owner: owner(), what: what.clone(), before, after });
            }
        }
        for (what, set) in sets_after.iter().filter(|(what, _)| !sets_before.contains_key(*what)) {
            let after = Some(set.read());
            changes.push(RecordChange { owner: owner(), what: what.clone(), before: None, after });
        }
    };
    for (node, there) in old.nodes_in(new).into_iter().enumerate() {
        at_name(Some(node as NodeId), there);
    }
    for (node, there) in new.nodes_in(old).into_iter().enumerate().filter(|(_, there)| there.is_none()) {
        at_name(there, Some(node as NodeId));
    }
    changes.sort_by(|a, b| (&a.owner, &a.what).cmp(&(&b.owner, &b.what)));
    (!changes.is_empty()).then_some(ZoneChange::Changed(changes))
}

/// What a zone says of a name and a type.
enum Set<'z> {
    Records(&'z Zone, Rrset),
    Steered(Option<u32>, &'z str),
}

impl PartialEq for Set<'_> {
    /// Versions of a zone have one apex, so that the same records are the same octets.
    fn eq(&self, other: &Set<'_>) -> bool {
        match (self, other) {
            (Set::Records(zone, rrset), Set::Records(other_zone, other)) => {
                zone.piece(rrset.piece()) == other_zone.piece(other.piece())
            }
            (Set::Steered(ttl, service), Set::Steered(other_ttl, other)) => {
                (ttl, service) == (other_ttl, other)
            }
            _ => false,
        }
    }
}

impl Set<'_> {
    fn read(&self) -> Records {
        match self {
            Set::Steered(ttl, service) => Records { ttl: *ttl, data: vec![(*service).to_owned()] },
            Set::Records(zone, rrset) => {
                let message = Message::read(&as_message(zone, rrset));
                let records = message.as_ref().map(Message::answers).unwrap_or_default();
                Records {
                    ttl: records.first().map(|record| record.ttl),
                    data: records.iter().map(|record| rdata::print(record.rtype, &record.rdata)).collect(),
                }
            }
        }
    }
}

fn sets<'z>(zone: &'z Zone, node: NodeId, services: &'z [Arc<Service>]) -> BTreeMap<String, Set<'z>> {
    let records =
        zone.rrsets_at(node).iter().map(|rrset| (rrset.rtype().to_string(), Set::Records(zone, *rrset)));
    let steered = zone.steered(node).and_then(|steered| {
        let service = services.get(usize::from(steered.service))?;
        Some((STEERED.to_owned(), Set::Steered(steered.ttl, &service.name)))
    });
    records.chain(steered).collect()
}

/// A response to a question for the apex, to which all pointers of a piece lead.
fn as_message(zone: &Zone, rrset: &Rrset) -> Vec<u8> {
    const HEADER: usize = 12;
    let (octets, pointers) = zone.piece(rrset.piece());
    let mut message = vec![0; HEADER];
    message[2] = 0x80;
    message[5] = 1;
    message[6..8].copy_from_slice(&rrset.piece().record_count().to_be_bytes());
    message.extend_from_slice(zone.apex().wire());
    message.extend_from_slice(&[0, 1, 0, 1]);
    let start = message.len();
    message.extend_from_slice(octets);
    for at in pointers.chunks_exact(2) {
        let at = start + usize::from(u16::from_be_bytes([at[0], at[1]]));
        message[at..at + 2].copy_from_slice(&(0xc000 | HEADER as u16).to_be_bytes());
    }
    message
}

/// What has become of a service; none if nothing has.
#[must_use]
pub fn service(old: &Service, new: &Service) -> Option<ServiceChange> {
    let mut change = ServiceChange::default();
    let settings = [
        ("sites", order_of(old, new) != order_of(new, old)),
        ("ttl", old.ttl != new.ttl),
        ("checks", (&old.checks, old.need) != (&new.checks, new.need)),
        ("rules", rules_by_name(old) != rules_by_name(new)),
        ("sites_per_answer", old.sites_per_answer != new.sites_per_answer),
        ("near", old.near != new.near),
        ("spill", (old.spill, old.demand) != (new.spill, new.demand)),
        ("ecs", old.ecs != new.ecs),
        ("all_down", old.all_down != new.all_down),
        ("same_site", old.same_site != new.same_site),
        ("min_up", old.min_up != new.min_up),
        ("guards", old.guards != new.guards),
        ("slow_start", old.slow_start != new.slow_start),
    ];
    change.settings.extend(settings.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key));
    let find =
        |service: &'_ Service, name: &str| service.sites.iter().find(|site| site.name == name).cloned();
    for before in &old.sites {
        match find(new, &before.name) {
            None => change.removed.push(before.name.clone()),
            Some(after) => change.sites.extend(site(before, &after, old.spill && new.spill)),
        }
    }
    let is_new = |site: &&Arc<Site>| find(old, &site.name).is_none();
    change.added.extend(new.sites.iter().filter(is_new).map(|site| site.name.clone()));
    (change != ServiceChange::default()).then_some(change)
}

/// Rules name sites by number, which others may have taken.
fn rules_by_name(service: &Service) -> Vec<String> {
    let names: Vec<&str> = service.sites.iter().map(|site| site.name.as_str()).collect();
    let told = |rule: &crate::site::Rule| {
        let action = match &rule.action {
            crate::site::RuleAction::Sites { sites, only } => {
                let sites: Vec<&str> =
                    sites.iter().filter_map(|site| names.get(usize::from(*site)).copied()).collect();
                format!("{sites:?} {only}")
            }
            action => format!("{action:?}"),
        };
        let for_whom = (&rule.subnets, &rule.asns, &rule.countries, &rule.continents, &rule.subdivisions);
        format!("{for_whom:?} {action}")
    };
    service.rules.iter().map(told).collect()
}

/// The names of the sites that the other version has too, in the order written: it decides for those of whom nothing is known.
fn order_of<'s>(service: &'s Service, other: &Service) -> Vec<&'s str> {
    let names = service.sites.iter().map(|site| site.name.as_str());
    names.filter(|name| other.sites.iter().any(|site| site.name == *name)).collect()
}

/// Capacities decide nothing where nobody spills.
fn site(old: &Site, new: &Site, spills: bool) -> Vec<(String, String, Vec<String>, Vec<String>)> {
    let mut changes = Vec::new();
    let data = |site: &Site, rtype: Rtype| -> Vec<String> {
        let rrsets = site.rrsets.iter().filter(|rrset: &&SiteRrset| rrset.rtype == rtype);
        rrsets.flat_map(|rrset| rrset.rdatas.iter().map(|data| rdata::print(rtype, data))).collect()
    };
    let mut types: Vec<Rtype> = old.rrsets.iter().chain(&new.rrsets).map(|rrset| rrset.rtype).collect();
    types.sort_unstable();
    types.dedup();
    for rtype in types {
        let (before, after) = (data(old, rtype), data(new, rtype));
        if before != after {
            changes.push((new.name.clone(), rtype.to_string(), before, after));
        }
    }
    let told = |site: &Site| {
        let location =
            site.location.map_or_else(String::new, |at| format!("{}, {}", at.latitude, at.longitude));
        [
            ("location", location),
            ("weight", site.weight.to_string()),
            ("handicap", format!("{} km", site.handicap_km)),
            ("capacity", site.capacity.filter(|_| spills).map_or_else(String::new, |room| room.to_string())),
        ]
    };
    for ((what, before), (_, after)) in told(old).into_iter().zip(told(new)) {
        if before != after {
            changes.push((new.name.clone(), what.to_owned(), vec![before], vec![after]));
        }
    }
    changes
}

/// A service that has the sites of two versions, the new one's first and in its order, and the number in it of each site of the old one.
#[must_use]
pub fn merge(old: &Service, new: &Service) -> (Service, Vec<u16>) {
    let mut merged = new.clone();
    let number = |before: &Arc<Site>, merged: &mut Service| {
        let known = merged.sites.iter().position(|site| site.name == before.name);
        known.unwrap_or_else(|| {
            merged.sites.push(Arc::clone(before));
            merged.sites.len() - 1
        }) as u16
    };
    let numbers = old.sites.iter().map(|site| number(site, &mut merged)).collect();
    (merged, numbers)
}

/// Counts of both sides in the numbers of [`merge`].
#[must_use]
pub fn in_merged(mut parts: Vec<Part<2>>, numbers: &[u16]) -> Vec<Part<2>> {
    for part in &mut parts {
        if let Given::Site(site) = part.given[0] {
            part.given[0] = Given::Site(numbers[usize::from(site)]);
        }
    }
    parts
}
