//! What is wrong with a zone although each of its lines could be read.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use super::ZoneFile;
use super::name_tree::{NodeId, TOP};
use super::owners::{Owners, Placed};
use super::records::Record;
use crate::finding::{At, Findings};
use crate::site::Service;
use crate::wire::{Name, Rtype, rdata};

/// From here on a steered TTL keeps clients at a dead site for longer than people wait.
const LONG_STEERED_TTL: u32 = 300;

/// Checks a zone as a whole. An RRset may be of `largest_rrset` octets.
pub fn check(zone: &ZoneFile, owners: &Owners, largest_rrset: usize, findings: &mut Findings) {
    let checked = Checked::new(zone, owners);
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
    owners: &'z Owners,
    steered: HashMap<NodeId, &'z Service>,
    /// Delegated names, and names with a DNAME.
    cuts: HashSet<NodeId>,
    dnames: HashSet<NodeId>,
}

impl<'z> Checked<'z> {
    fn new(zone: &'z ZoneFile, owners: &'z Owners) -> Checked<'z> {
        let having = |rtype: Rtype| {
            let nodes = owners.owners().map(|placed| placed[0].node);
            nodes.filter(move |node| !owners.of_type(*node, rtype).is_empty())
        };
        let cuts = having(Rtype::NS).filter(|node| *node != TOP).collect();
        let dnames = having(Rtype::DNAME).collect();
        let services = zone.steered.iter().map(|steered| &*zone.services[steered.service]);
        let steered = owners.steered().iter().copied().zip(services).collect();
        Checked { zone, owners, steered, cuts, dnames }
    }

    fn records(&self, placed: &'z [Placed]) -> impl Iterator<Item = Record<'z>> + Clone + use<'z> {
        let records = &self.zone.records;
        placed.iter().map(|placed| placed.of(records))
    }

    fn first(&self, node: NodeId, rtype: Rtype) -> Option<Record<'z>> {
        self.nth(node, rtype, 0)
    }

    fn nth(&self, node: NodeId, rtype: Rtype, n: usize) -> Option<Record<'z>> {
        self.owners.of_type(node, rtype).get(n).map(|placed| placed.of(&self.zone.records))
    }

    /// What no resolver should be made to take.
    fn check_sizes(&self, largest: usize, findings: &mut Findings) {
        /// Owner, as a pointer, type, class, TTL and RDLENGTH.
        const BEFORE_RDATA: usize = 12;
        for rrset in Owners::rrsets(self.owners.all()) {
            let size: usize = self.records(rrset).map(|record| BEFORE_RDATA + record.rdata.len()).sum();
            if size > largest {
                let first = rrset[0].of(&self.zone.records);
                let (rtype, owner) = (first.rtype, first.owner_name());
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
        let is_yaml = self.zone.source.path.extension().is_some_and(|extension| extension == "yaml");
        let as_in = |example: &str| if is_yaml { format!("; as in {example}") } else { String::new() };
        if self.first(TOP, Rtype::SOA).is_none() {
            let example = as_in("soa: { primary: ns1, contact: hostmaster@example.com }");
            findings.error(&at, format!("the zone has no SOA at its apex {apex}{example}"));
        }
        if let Some(second) = self.nth(TOP, Rtype::SOA, 1) {
            findings.error(&second.at(), "a zone has one SOA");
        }
        if self.first(TOP, Rtype::NS).is_none() {
            let example = as_in("\"@\": { NS: [ns1, ns2] }");
            findings.error(&at, format!("the zone has no NS at its apex {apex}{example}"));
        }
        let below_apex = self.owners.all().iter().filter(|placed| placed.node != TOP);
        for record in below_apex.map(|placed| placed.of(&self.zone.records)) {
            if record.rtype == Rtype::SOA {
                findings.error(&record.at(), "an SOA stands at the apex and nowhere else");
            }
        }
    }

    fn check_owners(&self, findings: &mut Findings) {
        for placed in self.owners.owners() {
            let node = placed[0].node;
            self.check_alias(node, placed, findings);
            self.check_ttls(placed, findings);
            if self.owners.is_wildcard(node) {
                for rtype in [Rtype::NS, Rtype::DNAME] {
                    for record in self.records(self.owners.of_type(node, rtype)) {
                        // RFC 4592 4.2 and 4.4: undefined, and servers disagree.
                        findings.error(&record.at(), format!("{rtype} at a wildcard"));
                    }
                }
            }
        }
    }

    /// RFC 1034 3.6.2, RFC 2181 10.1, RFC 6672 2.3 and 2.4.
    fn check_alias(&self, node: NodeId, placed: &'z [Placed], findings: &mut Findings) {
        // Signatures and the proof that there is nothing else may stand beside a CNAME (RFC 4034 3, 4).
        let is_other = |record: &Record<'_>| {
            !matches!(record.rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC | Rtype::KEY | Rtype::SIG)
        };
        if let Some(cname) = self.first(node, Rtype::CNAME) {
            let owner = cname.owner_name();
            if let Some(other) = self.records(placed).find(is_other) {
                findings.error(
                    &cname.at(),
                    format!(
                        "{owner} has a CNAME and {} records (line {}); a CNAME stands alone",
                        other.rtype,
                        other.at().line
                    ),
                );
            }
            if self.steered.contains_key(&node) {
                findings
                    .error(&cname.at(), format!("{owner} has a CNAME and a service; a CNAME stands alone"));
            }
        }
        if let Some(dname) = self.first(node, Rtype::DNAME).filter(|_| self.cuts.contains(&node)) {
            let owner = dname.owner_name();
            findings.error(&dname.at(), format!("{owner} is delegated and cannot have a DNAME"));
        }
        for rtype in [Rtype::CNAME, Rtype::DNAME] {
            if let Some(second) = self.nth(node, rtype, 1) {
                let owner = second.owner_name();
                findings.error(&second.at(), format!("{owner} has more than one {rtype}"));
            }
        }
    }

    fn check_ttls(&self, placed: &'z [Placed], findings: &mut Findings) {
        for rrset in Owners::rrsets(placed).filter(|rrset| rrset.len() > 1) {
            let mut records = self.records(rrset).filter(|record| record.rtype != Rtype::RRSIG);
            let Some(first) = records.next() else { continue };
            if let Some(record) = records.find(|record| record.ttl != first.ttl) {
                let (rtype, owner) = (record.rtype, record.owner_name());
                findings.warning(
                    &record.at(),
                    format!(
                        "the {rtype} records of {owner} have different TTLs; the lowest is served (RFC 2181 5.2)"
                    ),
                );
            }
        }
    }

    fn check_steered(&self, findings: &mut Findings) {
        let mut seen = HashSet::new();
        for (steered, &node) in self.zone.steered.iter().zip(self.owners.steered()) {
            let service = &self.zone.services[steered.service];
            let owner = &steered.owner;
            if !seen.insert(node) {
                findings.error(&steered.at, format!("{owner} is steered twice"));
            }
            let ttl = steered.ttl.unwrap_or(*service.ttl.end());
            if ttl > LONG_STEERED_TTL {
                findings.warning(
                    &steered.at,
                    format!("a steered TTL of {ttl} s keeps clients at a dead site for that long; 30 to 60 is usual"),
                );
            }
            let types: HashSet<Rtype> =
                service.sites.iter().flat_map(|site| &site.rrsets).map(|rrset| rrset.rtype).collect();
            let beside = self.owners.at(node);
            if types.contains(&Rtype::CNAME) && (node == TOP || !beside.is_empty()) {
                findings.error(
                    &steered.at,
                    format!("the sites of \"{}\" are a CNAME, which cannot stand at an apex or beside other records", service.name),
                );
            }
            for record in self.records(beside).filter(|record| types.contains(&record.rtype)) {
                findings.error(
                    &record.at(),
                    format!(
                        "{owner} is steered (line {}); its {} records come from the sites of \"{}\", written at {}",
                        steered.at.line, record.rtype, service.name, service.at
                    ),
                );
            }
            if self.cuts.contains(&node) {
                findings.error(&steered.at, format!("{owner} is delegated and cannot be steered"));
            }
        }
    }

    /// What NS, MX and SRV name must be hosts with addresses (RFC 2181 10.3); what a CNAME names should exist.
    fn check_targets(&self, findings: &mut Findings) {
        for placed in self.owners.all() {
            let record = placed.of(&self.zone.records);
            let check = match record.rtype {
                Rtype::NS | Rtype::MX | Rtype::SRV => Checked::check_target,
                Rtype::CNAME => Checked::check_alias_target,
                _ => continue,
            };
            for offset in rdata::names(record.rtype, record.rdata) {
                let Ok(target) = Name::first_of(&record.rdata[offset..]) else { continue };
                if !target.is_root() && target.is_at_or_below(&self.zone.apex) {
                    check(self, placed.node, &record, &target, findings);
                }
            }
        }
    }

    fn check_alias_target(
        &self,
        _owner: NodeId,
        record: &Record<'_>,
        target: &Name,
        findings: &mut Findings,
    ) {
        let (closest, _) = self.owners.closest(target);
        let is_answered = self.source_of(target).is_some()
            || self.cut_above(closest).is_some()
            || self.owners.names.upwards(closest).any(|above| self.dnames.contains(&above));
        if !is_answered {
            let text =
                format!("this CNAME points at {target}, which does not exist{}", self.dot_hint(target));
            findings.warning(&record.at(), text);
        }
    }

    /// A name that was meant to be absolute, and got the zone's name behind it.
    fn dot_hint(&self, target: &Name) -> String {
        let relative = target.relative_to(&self.zone.apex);
        let below = target.labels().count() - self.zone.apex.labels().count();
        if relative.parse::<Ipv4Addr>().is_ok() {
            return format!(
                "; {relative} is an address, and a name is expected, whose A record says the address"
            );
        }
        if below < 2 || self.owners.closest(target).1 == 0 {
            return String::new();
        }
        let whole = Name::parse(&relative, Some(&Name::root()));
        match whole.is_ok_and(|whole| whole.is_at_or_below(&self.zone.apex)) {
            true => {
                format!("; the zone's name stands there twice: a whole name ends in a dot, as in {relative}.")
            }
            false => "; a name that is not of this zone ends in a dot".to_owned(),
        }
    }

    fn check_target(&self, owner: NodeId, record: &Record<'_>, target: &Name, findings: &mut Findings) {
        let rtype = record.rtype;
        let source = self.source_of(target);
        if source.is_some_and(|source| self.first(source, Rtype::CNAME).is_some()) {
            let text = format!("this {rtype} points at {target}, which is a CNAME");
            // Mail is delivered all the same, mostly; a delegation does not work.
            if rtype == Rtype::NS {
                findings.error(&record.at(), text);
            } else {
                findings.warning(&record.at(), text);
            }
            return;
        }
        if source.is_some_and(|source| self.steered.contains_key(&source)) {
            if rtype == Rtype::NS {
                let text = format!(
                    "the name server {target} is steered; its address must be the same for everybody"
                );
                findings.error(&record.at(), text);
            }
            return;
        }
        let (closest, below) = self.owners.closest(target);
        let cut = self.cut_above(closest);
        let has_address =
            |node: NodeId| self.first(node, Rtype::A).is_some() || self.first(node, Rtype::AAAA).is_some();
        // Below a cut there are no wildcards: what is to be glue stands there by its name.
        if source.is_some_and(|source| has_address(source) && (cut.is_none() || below == 0)) {
            return;
        }
        match (rtype, cut) {
            // Glue is needed just where the name lies below the cut that it serves (RFC 9471 2.1).
            (Rtype::NS, Some(cut)) if owner == cut => {
                let cut = record.owner_name();
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

    /// The owner whose records a name gets: itself, or the wildcard right below its closest encloser (RFC 4592 3.3.1).
    fn source_of(&self, name: &Name) -> Option<NodeId> {
        match self.owners.closest(name) {
            (node, 0) => Some(node),
            (closest, _) => self.owners.wildcard_below(closest).filter(|wildcard| {
                !self.owners.at(*wildcard).is_empty() || self.steered.contains_key(wildcard)
            }),
        }
    }

    /// The delegated name at or above a node.
    fn cut_above(&self, node: NodeId) -> Option<NodeId> {
        self.owners.names.upwards(node).find(|above| self.cuts.contains(above))
    }

    /// Records that no answer ever shows: below a delegation but glue, below a DNAME.
    fn check_hidden(&self, findings: &mut Findings) {
        if self.cuts.is_empty() && self.dnames.is_empty() {
            return;
        }
        for placed in self.owners.owners() {
            let node = placed[0].node;
            if let Some(cut) = self.cut_above(node) {
                let is_hidden = |record: &Record<'_>| {
                    let is_address = matches!(record.rtype, Rtype::A | Rtype::AAAA);
                    let is_glue = is_address && (node != cut || self.is_server_of(cut, record));
                    let is_of_cut = node == cut
                        && matches!(record.rtype, Rtype::NS | Rtype::DS | Rtype::RRSIG | Rtype::NSEC);
                    !is_glue && !is_of_cut
                };
                if let Some(record) = self.records(placed).find(is_hidden) {
                    let line = self.first(cut, Rtype::NS).map_or(0, |record| record.at().line);
                    let cut = self.name_of(cut);
                    let text = format!("never answered: {cut} is delegated by its NS records (line {line})");
                    findings.warning(&record.at(), text);
                }
            }
            self.check_below_dname(node, &placed[0].of(&self.zone.records).at(), findings);
        }
        for (steered, &node) in self.zone.steered.iter().zip(self.owners.steered()) {
            if let Some(cut) = self.cut_above(node) {
                let cut = self.name_of(cut);
                findings.error(&steered.at, format!("never answered: {cut} is delegated"));
            }
            self.check_below_dname(node, &steered.at, findings);
        }
    }

    /// Whether a delegated name is a name server of its own, so that its addresses are glue.
    fn is_server_of(&self, cut: NodeId, record: &Record<'_>) -> bool {
        let owner = record.owner_name();
        let servers = self.records(self.owners.of_type(cut, Rtype::NS));
        servers
            .map(|server| Name::first_of(server.rdata))
            .any(|server| server.is_ok_and(|server| server == owner))
    }

    /// RFC 6672 2.4.
    fn check_below_dname(&self, node: NodeId, at: &At, findings: &mut Findings) {
        let above = self.owners.names.upwards(node).skip(1).find(|above| self.dnames.contains(above));
        if let Some(above) = above {
            let (owner, above) = (self.name_of(node), self.name_of(above));
            findings.error(at, format!("{owner} lies below the DNAME at {above}"));
        }
    }

    /// As it was written where it owns records.
    fn name_of(&self, node: NodeId) -> Name {
        match self.owners.at(node) {
            [first, ..] => first.of(&self.zone.records).owner_name(),
            [] => self.owners.name(node, &self.zone.apex),
        }
    }
}
