//! What is wrong with a zone although each of its lines could be read.

use std::collections::{HashMap, HashSet};

use super::ZoneFile;
use super::records::Record;
use crate::finding::{At, Findings};
use crate::site::Service;
use crate::wire::{Name, Rtype, rdata};

/// From here on a steered TTL keeps clients at a dead site for longer than people wait.
const LONG_STEERED_TTL: u32 = 300;

/// Checks a zone as a whole. An RRset may be of `largest_rrset` octets.
pub fn check(zone: &ZoneFile, largest_rrset: usize, findings: &mut Findings) {
    let checked = Checked::new(zone);
    checked.check_sizes(largest_rrset, findings);
    checked.check_apex(findings);
    checked.check_owners(findings);
    checked.check_steered(findings);
    checked.check_targets(findings);
    checked.check_hidden(findings);
}

/// A zone by owner.
struct Checked<'z> {
    zone: &'z ZoneFile,
    owners: HashMap<Name, Vec<Record<'z>>>,
    steered: HashMap<Name, &'z Service>,
    /// All owners and the names between them and the apex (RFC 4592 2.2.2).
    names: HashSet<Name>,
    /// Delegated names, and names with a DNAME.
    cuts: HashSet<Name>,
    dnames: HashSet<Name>,
}

impl<'z> Checked<'z> {
    fn new(zone: &'z ZoneFile) -> Checked<'z> {
        let mut owners: HashMap<Name, Vec<Record<'z>>> = HashMap::new();
        let mut last: Option<(&[u8], Name)> = None;
        for record in zone.records.iter() {
            let name = match last.take() {
                Some((octets, name)) if octets == record.owner => name,
                _ => record.owner_name(),
            };
            match owners.get_mut(&name) {
                Some(records) => records.push(record),
                None => {
                    owners.insert(name.clone(), vec![record]);
                }
            }
            last = Some((record.owner, name));
        }
        let having = |rtype: Rtype| {
            owners
                .iter()
                .filter(move |(_, records)| records.iter().any(|record| record.rtype == rtype))
                .map(|(name, _)| name.clone())
        };
        let cuts = having(Rtype::NS).filter(|name| *name != zone.apex).collect();
        let dnames = having(Rtype::DNAME).collect();
        let steered = zone
            .steered
            .iter()
            .map(|steered| (steered.owner.clone(), &*zone.services[steered.service]))
            .collect();
        let mut names = HashSet::new();
        for owner in owners.keys().chain(zone.steered.iter().map(|steered| &steered.owner)) {
            for name in ancestors(owner, &zone.apex) {
                if !names.insert(name) {
                    break;
                }
            }
        }
        Checked { zone, owners, steered, names, cuts, dnames }
    }

    fn records(&self, name: &Name, rtype: Rtype) -> impl Iterator<Item = &Record<'z>> {
        self.owners.get(name).into_iter().flatten().filter(move |record| record.rtype == rtype)
    }

    /// What no resolver should be made to take.
    fn check_sizes(&self, largest: usize, findings: &mut Findings) {
        /// Owner, as a pointer, type, class, TTL and RDLENGTH.
        const BEFORE_RDATA: usize = 12;
        for (owner, records) in &self.owners {
            let mut sizes: HashMap<Rtype, (&Record<'_>, usize)> = HashMap::new();
            for record in records {
                sizes.entry(record.rtype).or_insert((record, 0)).1 += BEFORE_RDATA + record.rdata.len();
            }
            for (rtype, (first, size)) in sizes.into_iter().filter(|(_, (_, size))| *size > largest) {
                findings.error(
                    &first.at(),
                    format!("the {rtype} records of {owner} take {size} octets, more than largest_rrset ({largest})"),
                );
            }
        }
    }

    /// RFC 1034 4.2.1.
    fn check_apex(&self, findings: &mut Findings) {
        let apex = &self.zone.apex;
        let at = At::start(&self.zone.source);
        let soas: Vec<_> = self.records(apex, Rtype::SOA).collect();
        match soas.as_slice() {
            [] => findings.error(&at, format!("the zone has no SOA at its apex {apex}")),
            [_] => {}
            [_, second, ..] => findings.error(&second.at(), "a zone has one SOA"),
        }
        if self.records(apex, Rtype::NS).next().is_none() {
            findings.error(&at, format!("the zone has no NS at its apex {apex}"));
        }
        for record in self.zone.records.iter() {
            if record.rtype == Rtype::SOA && record.owner_name() != *apex {
                findings.error(&record.at(), "an SOA stands at the apex and nowhere else");
            }
        }
    }

    fn check_owners(&self, findings: &mut Findings) {
        for (owner, records) in &self.owners {
            self.check_alias(owner, records, findings);
            self.check_ttls(owner, records, findings);
            if owner.is_wildcard() {
                for record in records.iter().filter(|record| matches!(record.rtype, Rtype::NS | Rtype::DNAME))
                {
                    // RFC 4592 4.2 and 4.4: undefined, and servers disagree.
                    findings.error(&record.at(), format!("{} at a wildcard", record.rtype));
                }
            }
        }
    }

    /// RFC 1034 3.6.2, RFC 2181 10.1, RFC 6672 2.3 and 2.4.
    fn check_alias(&self, owner: &Name, records: &[Record<'_>], findings: &mut Findings) {
        // Signatures and the proof that there is nothing else may stand beside a CNAME (RFC 4034 3, 4).
        let is_other = |record: &&Record<'_>| {
            !matches!(record.rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC | Rtype::KEY | Rtype::SIG)
        };
        let cnames: Vec<_> = records.iter().filter(|record| record.rtype == Rtype::CNAME).collect();
        if let Some(cname) = cnames.first() {
            if let Some(other) = records.iter().find(is_other) {
                findings.error(
                    &cname.at(),
                    format!("{owner} has a CNAME and {} records; a CNAME stands alone", other.rtype),
                );
            }
            if self.steered.contains_key(owner) {
                findings
                    .error(&cname.at(), format!("{owner} has a CNAME and a service; a CNAME stands alone"));
            }
        }
        let dname = records.iter().find(|record| record.rtype == Rtype::DNAME);
        if let Some(dname) = dname.filter(|_| self.cuts.contains(owner)) {
            findings.error(&dname.at(), format!("{owner} is delegated and cannot have a DNAME"));
        }
        for rtype in [Rtype::CNAME, Rtype::DNAME] {
            if let Some(second) = records.iter().filter(|record| record.rtype == rtype).nth(1) {
                findings.error(&second.at(), format!("{owner} has more than one {rtype}"));
            }
        }
    }

    fn check_ttls(&self, owner: &Name, records: &[Record<'_>], findings: &mut Findings) {
        let mut first_of: HashMap<Rtype, u32> = HashMap::new();
        let mut told = HashSet::new();
        for record in records.iter().filter(|record| record.rtype != Rtype::RRSIG) {
            let first = *first_of.entry(record.rtype).or_insert(record.ttl);
            if first != record.ttl && told.insert(record.rtype) {
                findings.warning(
                    &record.at(),
                    format!(
                        "the {} records of {owner} have different TTLs; the lowest is served (RFC 2181 5.2)",
                        record.rtype
                    ),
                );
            }
        }
    }

    fn check_steered(&self, findings: &mut Findings) {
        let mut seen = HashSet::new();
        for steered in &self.zone.steered {
            let service = &self.zone.services[steered.service];
            let owner = &steered.owner;
            if !seen.insert(owner) {
                findings.error(&steered.at, format!("{owner} is steered twice"));
            }
            let ttl = steered.ttl.unwrap_or(service.ttl);
            if ttl > LONG_STEERED_TTL {
                findings.warning(
                    &steered.at,
                    format!("a steered TTL of {ttl} s keeps clients at a dead site for that long; 30 to 60 is usual"),
                );
            }
            let types: HashSet<Rtype> =
                service.sites.iter().flat_map(|site| &site.rrsets).map(|rrset| rrset.rtype).collect();
            let beside = self.owners.get(owner).map(Vec::as_slice).unwrap_or_default();
            if types.contains(&Rtype::CNAME) && (*owner == self.zone.apex || !beside.is_empty()) {
                findings.error(
                    &steered.at,
                    format!("the sites of \"{}\" are a CNAME, which cannot stand at an apex or beside other records", service.name),
                );
            }
            for record in beside.iter().filter(|record| types.contains(&record.rtype)) {
                findings.error(
                    &record.at(),
                    format!(
                        "{owner} is steered; its {} records come from the sites of \"{}\"",
                        record.rtype, service.name
                    ),
                );
            }
            if beside.iter().any(|record| record.rtype == Rtype::NS) && *owner != self.zone.apex {
                findings.error(&steered.at, format!("{owner} is delegated and cannot be steered"));
            }
        }
    }

    /// What NS, MX and SRV name must be hosts with addresses (RFC 2181 10.3); what a CNAME names should exist.
    fn check_targets(&self, findings: &mut Findings) {
        for record in self.zone.records.iter() {
            let check = match record.rtype {
                Rtype::NS | Rtype::MX | Rtype::SRV => Checked::check_target,
                Rtype::CNAME => Checked::check_alias_target,
                _ => continue,
            };
            for offset in rdata::names(record.rtype, record.rdata) {
                let Ok(target) = Name::first_of(&record.rdata[offset..]) else { continue };
                if !target.is_root() && target.is_at_or_below(&self.zone.apex) {
                    check(self, &record, &target, findings);
                }
            }
        }
    }

    fn check_alias_target(&self, record: &Record<'_>, target: &Name, findings: &mut Findings) {
        let is_answered = self.source_of(target).is_some()
            || self.cut_above(target).is_some()
            || ancestors(target, &self.zone.apex).any(|ancestor| self.dnames.contains(&ancestor));
        if !is_answered {
            let text =
                format!("this CNAME points at {target}, which does not exist{}", self.dot_hint(target));
            findings.warning(&record.at(), text);
        }
    }

    /// A name that was meant to be absolute, and got the zone's name behind it.
    fn dot_hint(&self, target: &Name) -> &'static str {
        let below = target.labels().count() - self.zone.apex.labels().count();
        if below >= 2 && !self.names.contains(target) {
            "; a name that is not of this zone ends in a dot"
        } else {
            ""
        }
    }

    fn check_target(&self, record: &Record<'_>, target: &Name, findings: &mut Findings) {
        let rtype = record.rtype;
        let source = self.source_of(target);
        if let Some(source) = &source
            && self.records(source, Rtype::CNAME).next().is_some()
        {
            let text = format!("this {rtype} points at {target}, which is a CNAME");
            // Mail is delivered all the same, mostly; a delegation does not work.
            if rtype == Rtype::NS {
                findings.error(&record.at(), text);
            } else {
                findings.warning(&record.at(), text);
            }
            return;
        }
        if source.as_ref().is_some_and(|source| self.steered.contains_key(source)) {
            if rtype == Rtype::NS {
                let text = format!(
                    "the name server {target} is steered; its address must be the same for everybody"
                );
                findings.error(&record.at(), text);
            }
            return;
        }
        let has_address = |name: &Name| {
            self.records(name, Rtype::A).next().is_some() || self.records(name, Rtype::AAAA).next().is_some()
        };
        let cut = self.cut_above(target);
        // Below a cut there are no wildcards: what is to be glue stands there by its name.
        if source.as_ref().is_some_and(|source| has_address(source) && (cut.is_none() || source == target)) {
            return;
        }
        match (rtype, cut) {
            // Glue is needed just where the name lies below the cut that it serves (RFC 9471 2.1).
            (Rtype::NS, Some(cut)) if record.owner_name() == cut => {
                findings.error(
                    &record.at(),
                    format!("missing glue: {target} lies within {cut} and has no address here"),
                );
            }
            (_, Some(_)) => {}
            (Rtype::NS, None) => {
                let hint = self.dot_hint(target);
                findings.error(
                    &record.at(),
                    format!("missing glue: the name server {target} has no address in this zone{hint}"),
                );
            }
            (_, None) => {
                let hint = self.dot_hint(target);
                findings.warning(
                    &record.at(),
                    format!("this {rtype} points at {target}, which has no address in this zone{hint}"),
                );
            }
        }
    }

    /// The owner whose records a name gets: itself or the wildcard that covers it.
    fn source_of(&self, name: &Name) -> Option<Name> {
        if self.exists(name) {
            return Some(name.clone());
        }
        let mut ancestor = name.parent()?;
        while ancestor.is_at_or_below(&self.zone.apex) {
            if let Ok(wildcard) = ancestor.child(b"*")
                && (self.owners.contains_key(&wildcard) || self.steered.contains_key(&wildcard))
            {
                return Some(wildcard);
            }
            if self.exists(&ancestor) {
                return None;
            }
            ancestor = ancestor.parent()?;
        }
        None
    }

    fn exists(&self, name: &Name) -> bool {
        self.names.contains(name)
    }

    /// The delegated name at or above a name.
    fn cut_above(&self, name: &Name) -> Option<Name> {
        ancestors(name, &self.zone.apex).find(|ancestor| self.cuts.contains(ancestor))
    }

    /// Records that no answer ever shows: below a delegation but glue, below a DNAME.
    fn check_hidden(&self, findings: &mut Findings) {
        for (owner, records) in &self.owners {
            if let Some(cut) = self.cut_above(owner) {
                let is_hidden = |record: &&Record<'_>| {
                    let is_glue = matches!(record.rtype, Rtype::A | Rtype::AAAA);
                    let is_of_cut = *owner == cut
                        && matches!(record.rtype, Rtype::NS | Rtype::DS | Rtype::RRSIG | Rtype::NSEC);
                    !is_glue && !is_of_cut
                };
                if let Some(record) = records.iter().find(is_hidden) {
                    findings.warning(&record.at(), format!("never answered: {cut} is delegated"));
                }
            }
            self.check_below_dname(owner, &records[0].at(), findings);
        }
        for steered in &self.zone.steered {
            if let Some(cut) = self.cut_above(&steered.owner) {
                findings.error(&steered.at, format!("never answered: {cut} is delegated"));
            }
            self.check_below_dname(&steered.owner, &steered.at, findings);
        }
    }

    /// RFC 6672 2.4.
    fn check_below_dname(&self, owner: &Name, at: &At, findings: &mut Findings) {
        let above = owner.parent().and_then(|parent| {
            ancestors(&parent, &self.zone.apex).find(|ancestor| self.dnames.contains(ancestor))
        });
        if let Some(above) = above {
            findings.error(at, format!("{owner} lies below the DNAME at {above}"));
        }
    }
}

/// A name and those above it, up to the apex.
fn ancestors<'a>(name: &Name, apex: &'a Name) -> impl Iterator<Item = Name> + use<'a> {
    let inside = name.is_at_or_below(apex).then(|| name.clone());
    std::iter::successors(inside, move |name| if name == apex { None } else { name.parent() })
}
