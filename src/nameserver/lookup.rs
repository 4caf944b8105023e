//! QNAME and QTYPE in a zone -> what there is (RFC 1034 4.3.2 step 3, RFC 4592, RFC 6672, RFC 8020).

use crate::catchment::ServiceIndex;
use crate::site::compile::{CompiledService, TypeIndex};
use crate::snapshot::{PublishedZone, Snapshot};
use crate::wire::Rtype;
use crate::zone::Zone;
use crate::zone::name_tree::NodeId;
use crate::zone::tree::{Rrset, Walk};

/// What a zone has for a name and a type.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'s> {
    /// The RRset.
    Answer(&'s Rrset),
    /// A service chooses the records.
    Steered(SteeredLookup<'s>),
    /// The name is an alias.
    Cname(&'s Rrset),
    /// A name above it is; `below` is how many of the name's labels lie below that.
    Dname(&'s Rrset, usize),
    /// The name is delegated; `below` as above.
    Referral(&'s Rrset, usize),
    /// ANY, at a name whose only records are steered (RFC 8482 4.2).
    Minimal,
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist, nor anything below it.
    NxDomain,
}

/// A steered name, and the type to be given there.
#[derive(Clone, Copy, Debug)]
pub struct SteeredLookup<'s> {
    /// Which service.
    pub index: ServiceIndex,
    /// The service.
    pub service: &'s CompiledService,
    /// The asked type among the service's, or CNAME.
    pub rtype: TypeIndex,
    /// Seconds; the service's at the time where there is none.
    pub ttl: Option<u32>,
}

/// Looks up what there is where a walk towards a name ended.
#[inline]
#[must_use]
pub fn look_up<'s>(
    snapshot: &'s Snapshot,
    published: &'s PublishedZone,
    zone: &'s Zone,
    walk: Walk,
    qtype: Rtype,
) -> Lookup<'s> {
    match walk {
        Walk::Exact(node) | Walk::Wildcard(node) => look_up_at(snapshot, published, zone, node, qtype),
        // DS is the parent's to answer (RFC 4035 3.1.4.1).
        Walk::Cut { node, below: 0 } if qtype == Rtype::DS => {
            zone.rrset(node, Rtype::DS).map_or(Lookup::NoData, Lookup::Answer)
        }
        Walk::Cut { node, below } => {
            zone.rrset(node, Rtype::NS).map_or(Lookup::NoData, |ns| Lookup::Referral(ns, usize::from(below)))
        }
        Walk::Dname { node, below } => {
            let dname = zone.rrset(node, Rtype::DNAME);
            dname.map_or(Lookup::NxDomain, |dname| Lookup::Dname(dname, usize::from(below)))
        }
        Walk::Missing => Lookup::NxDomain,
    }
}

#[inline]
fn look_up_at<'s>(
    snapshot: &'s Snapshot,
    published: &'s PublishedZone,
    zone: &'s Zone,
    node: NodeId,
    qtype: Rtype,
) -> Lookup<'s> {
    let steered = zone.steered(node);
    if qtype == Rtype::ANY {
        return match zone.rrsets_at(node).first() {
            Some(rrset) => Lookup::Answer(rrset),
            None if steered.is_some() => Lookup::Minimal,
            None => Lookup::NoData,
        };
    }
    if let Some(owner) = steered {
        let index = published.services[usize::from(owner.service)];
        let service = snapshot.service(index);
        if let Some(rtype) = service.find_type(qtype).or_else(|| service.find_type(Rtype::CNAME)) {
            return Lookup::Steered(SteeredLookup { index, service, rtype, ttl: owner.ttl });
        }
    }
    if let Some(rrset) = zone.rrset(node, qtype) {
        return Lookup::Answer(rrset);
    }
    zone.rrset(node, Rtype::CNAME).map_or(Lookup::NoData, Lookup::Cname)
}
