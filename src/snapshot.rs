//! Everything that a query needs but verdicts and shares: immutable, numbered, swapped whole.
//!
//! Built on the slow side by `reload`, read by every query. Zones that did not change are shared with the
//! snapshot before; the rest is small or, like the catchments, shared as well when its inputs are the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::catchment::{Catchments, ServiceIndex};
use crate::health::board::Layout;
use crate::health::spill::Market;
use crate::policy::Policy;
use crate::site::Service;
use crate::site::compile::{CompiledService, compile};
use crate::wire::{Name, Qname, Rtype};
use crate::zone::Zone;
use crate::zone::name_tree::{NameTree, NodeId, TOP};

/// What queries are answered from.
#[derive(Debug)]
pub struct Snapshot {
    number: u64,
    /// Zone names, from the root down.
    directory: NameTree,
    /// By node of the directory.
    at_node: Vec<AtNode>,
    zones: Vec<PublishedZone>,
    services: Vec<CompiledService>,
    catchments: Arc<Catchments>,
    policy: Arc<Policy>,
    is_large: bool,
}

/// Names from which on a snapshot is large. A name takes about a hundred octets, and who answers has a megabyte or two of cache for
/// itself.
const LARGE: usize = 20_000;

/// What the directory has at a name.
#[derive(Clone, Copy, Debug, Default)]
struct AtNode {
    /// Index into `zones` plus one, or 0.
    zone: u32,
    /// Whether there are names below: most walks end at a zone, and need not look.
    has_children: bool,
}

/// A zone on its way into a snapshot.
#[derive(Clone, Debug)]
pub struct ZoneToPublish {
    /// The zone's name.
    pub name: Name,
    /// None for a zone that holds its name and nothing else.
    pub zone: Option<Arc<Zone>>,
    /// What the zone's own numbers of services stand for.
    pub services: Vec<Arc<Service>>,
}

/// The services that some zones use, each once: the order in which catchments are compiled. A service's name
/// says which it is; a zone's own services carry the zone's name.
#[must_use]
pub fn services_of(zones: &[ZoneToPublish]) -> Vec<Arc<Service>> {
    let mut names = HashSet::new();
    let used = zones.iter().flat_map(|zone| &zone.services);
    used.filter(|service| names.insert(service.name.as_str())).cloned().collect()
}

/// Index of a zone within a snapshot.
pub type ZoneIndex = u32;

/// A name that we answer for.
#[derive(Clone, Debug)]
pub struct PublishedZone {
    /// The zone's name.
    pub name: Name,
    /// None for a zone that never could be read: it holds its name, and all of it is SERVFAIL (meaning 18).
    pub zone: Option<Arc<Zone>>,
    /// From the zone's own numbers of services to the snapshot's.
    pub services: Arc<[ServiceIndex]>,
    /// In the snapshot's directory.
    node: NodeId,
}

impl Snapshot {
    /// Puts a snapshot together, and lays out the board that goes with it. `catchments` are those of
    /// [`services_of`] the same zones, in that order.
    #[must_use]
    pub fn new(number: u64, zones: &[ZoneToPublish], catchments: Arc<Catchments>) -> (Snapshot, Layout) {
        let services = services_of(zones);
        let (compiled, mut layout) = compile(&services);
        for (index, (service, slots)) in services.iter().zip(&mut layout.services).enumerate() {
            slots.market = Market::new(service, index as ServiceIndex, &catchments).map(Arc::new);
        }
        let index_of: HashMap<&str, ServiceIndex> = services
            .iter()
            .enumerate()
            .map(|(index, service)| (service.name.as_str(), index as ServiceIndex))
            .collect();
        let mut directory = NameTree::default();
        let mut at_node = vec![AtNode::default()];
        let mut published = Vec::with_capacity(zones.len());
        for zone in zones {
            let labels: Vec<&[u8]> = zone.name.labels().collect();
            let node = directory.insert(labels.into_iter().rev());
            let known = at_node.len();
            at_node.resize(directory.len(), AtNode::default());
            for new in known..at_node.len() {
                at_node[directory.parent(new as NodeId) as usize].has_children = true;
            }
            published.push(PublishedZone {
                name: zone.name.clone(),
                zone: zone.zone.clone(),
                services: zone.services.iter().map(|service| index_of[service.name.as_str()]).collect(),
                node,
            });
            at_node[node as usize].zone = published.len() as u32;
        }
        let names: usize =
            published.iter().filter_map(|zone| zone.zone.as_ref()).map(|zone| zone.name_count()).sum();
        let snapshot = Snapshot {
            number,
            directory,
            at_node,
            zones: published,
            services: compiled,
            catchments,
            policy: Arc::default(),
            is_large: names > LARGE,
        };
        (snapshot, layout)
    }

    /// The same, answering by a policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Arc<Policy>) -> Snapshot {
        self.policy = policy;
        self
    }

    /// The same under another number.
    #[must_use]
    pub fn with_number(mut self, number: u64) -> Snapshot {
        self.number = number;
        self
    }

    /// What the operator decided about responses in general.
    #[inline]
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Counts up with every snapshot of this process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The zone that speaks for a name: the closest one above it. DS at a zone's apex is the parent's to
    /// answer (RFC 4035 3.1.4.1), where the parent is here as well.
    #[inline]
    #[must_use]
    pub fn find_zone(&self, qname: &Qname, qtype: Rtype) -> Option<ZoneIndex> {
        self.closest_zone(qname, qtype, |node, label| self.directory.child(node, label))
    }

    /// What [`find_zone`](Snapshot::find_zone) finds, if chance does not have it otherwise; without waiting for what it has found. For
    /// whoever looks ahead.
    #[inline]
    #[must_use]
    pub fn likely_zone(&self, qname: &Qname) -> Option<ZoneIndex> {
        self.closest_zone(qname, Rtype::A, |node, label| self.directory.likely_child(node, label))
    }

    #[inline(always)]
    fn closest_zone(
        &self,
        qname: &Qname,
        qtype: Rtype,
        child: impl Fn(NodeId, &[u8]) -> Option<NodeId>,
    ) -> Option<ZoneIndex> {
        let mut node = TOP;
        let mut here = self.at_node[TOP as usize];
        let mut found = here.zone;
        for labels_left in (0..qname.label_count()).rev() {
            if !here.has_children {
                break;
            }
            let Some(child) = child(node, qname.label(labels_left)) else { break };
            node = child;
            here = self.at_node[node as usize];
            let is_the_parents = qtype == Rtype::DS && labels_left == 0 && found != 0;
            if here.zone != 0 && !is_the_parents {
                found = here.zone;
            }
        }
        found.checked_sub(1)
    }

    /// Has the memory come near that tells that it is this zone. For whoever looks ahead.
    #[inline]
    #[must_use]
    pub fn touch_zone(&self, index: ZoneIndex) -> usize {
        self.directory.label(self.zone(index).node).len()
    }

    /// Whether what is served is more than the processor's caches hold.
    #[inline]
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.is_large
    }

    /// Whether it is this zone that speaks for a name at or below its own.
    #[inline]
    #[must_use]
    pub fn is_closest(&self, index: ZoneIndex, qname: &Qname, qtype: Rtype) -> bool {
        let is_alone = !self.at_node[self.zones[index as usize].node as usize].has_children;
        is_alone && qtype != Rtype::DS || self.find_zone(qname, qtype) == Some(index)
    }

    /// A zone by its index.
    #[inline]
    #[must_use]
    pub fn zone(&self, index: ZoneIndex) -> &PublishedZone {
        &self.zones[index as usize]
    }

    /// All zones.
    #[must_use]
    pub fn zones(&self) -> &[PublishedZone] {
        &self.zones
    }

    /// A service by its index.
    #[inline]
    #[must_use]
    pub fn service(&self, index: ServiceIndex) -> &CompiledService {
        &self.services[usize::from(index)]
    }

    /// All services.
    #[must_use]
    pub fn services(&self) -> &[CompiledService] {
        &self.services
    }

    /// The longest TTL that answers of a service have, under any of its names; `otherwise` where a name does not say. In seconds.
    /// None where no name is steered by it.
    #[must_use]
    pub fn longest_ttl(&self, index: ServiceIndex, otherwise: u32) -> Option<u32> {
        let owners = self.zones.iter().flat_map(|published| {
            let owners = published.zone.as_ref().map(|zone| zone.steered_owners()).unwrap_or_default();
            owners.iter().filter(move |owner| published.services[usize::from(owner.service)] == index)
        });
        owners.map(|owner| owner.ttl.unwrap_or(otherwise)).max()
    }

    /// The compiled tables of all services.
    #[inline]
    #[must_use]
    pub fn catchments(&self) -> &Catchments {
        &self.catchments
    }
}
