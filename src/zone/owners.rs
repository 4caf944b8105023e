//! A zone's records by owner: what the check of a zone and its compilation both look at.
//!
//! Records stay where they were read; here they are numbers in another order. A zone may have a million owners: a map from
//! names to lists of records would be most of what reading it costs.

use super::name_tree::{NameTree, NodeId, TOP};
use super::records::{Record, Records};
use super::{Steered, ZoneFile};
use crate::wire::name::label_starts;
use crate::wire::{Name, Rtype};

/// The names of a zone, and what stands at each.
#[derive(Debug)]
pub struct Owners {
    /// All owners, and the names between them and the apex (RFC 4592 2.2.2).
    pub(super) names: NameTree,
    apex_labels: usize,
    /// By node, then by type, then as written.
    placed: Vec<Placed>,
    /// By node: where its records begin among `placed`; and one more, for the end.
    starts: Vec<u32>,
    /// The node of each steered owner, as written.
    steered: Vec<NodeId>,
}

/// A record and the node of its owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) node: NodeId,
    rtype: Rtype,
    index: u32,
}

impl Placed {
    pub(super) fn of(self, records: &Records) -> Record<'_> {
        records.get(self.index as usize)
    }
}

impl Owners {
    /// Finds the place of every record.
    #[must_use]
    pub fn of(zone: &ZoneFile) -> Owners {
        let mut names = NameTree::default();
        let apex_labels = zone.apex.labels().count();
        let mut placed = Vec::with_capacity(zone.records.len());
        let mut last: Option<(&[u8], NodeId)> = None;
        for (index, record) in zone.records.iter().enumerate() {
            // Records of one owner usually follow each other.
            let node = match last {
                Some((owner, node)) if owner == record.owner => node,
                _ => names.insert(Labels::of(record.owner, apex_labels)),
            };
            last = Some((record.owner, node));
            placed.push(Placed { node, rtype: record.rtype, index: index as u32 });
        }
        let place = |steered: &Steered| names.insert(Labels::of(steered.owner.wire(), apex_labels));
        let steered = zone.steered.iter().map(place).collect();
        placed.sort_by_key(|placed| (placed.node, placed.rtype));
        names.shrink();
        let mut starts = Vec::with_capacity(names.len() + 1);
        for (at, placed) in placed.iter().enumerate() {
            starts.resize(starts.len().max(placed.node as usize + 1), at as u32);
        }
        starts.resize(names.len() + 1, placed.len() as u32);
        Owners { names, apex_labels, placed, starts, steered }
    }

    /// What stands at a node, by type and as written.
    pub(super) fn at(&self, node: NodeId) -> &[Placed] {
        let node = node as usize;
        &self.placed[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Those of one type.
    pub(super) fn of_type(&self, node: NodeId, rtype: Rtype) -> &[Placed] {
        let here = self.at(node);
        let start = here.partition_point(|placed| placed.rtype < rtype);
        let length = here[start..].partition_point(|placed| placed.rtype == rtype);
        &here[start..start + length]
    }

    /// Every owner's records.
    pub(super) fn owners(&self) -> impl Iterator<Item = &[Placed]> {
        self.placed.chunk_by(|a, b| a.node == b.node)
    }

    /// The RRsets among records of one node, or of all.
    pub(super) fn rrsets(placed: &[Placed]) -> impl Iterator<Item = &[Placed]> {
        placed.chunk_by(|a, b| (a.node, a.rtype) == (b.node, b.rtype))
    }

    /// By node, then by type, then as written.
    pub(super) fn all(&self) -> &[Placed] {
        &self.placed
    }

    /// The node of each steered owner, as written.
    pub(super) fn steered(&self) -> &[NodeId] {
        &self.steered
    }

    /// The closest encloser of a name that is at or below the apex, and how many of its labels lie below that.
    pub(super) fn closest(&self, name: &Name) -> (NodeId, usize) {
        self.names.closest(Labels::of(name.wire(), self.apex_labels))
    }

    /// The name of a node, in lower case.
    pub(super) fn name(&self, node: NodeId, apex: &Name) -> Name {
        let mut way: Vec<NodeId> = self.names.upwards(node).collect();
        way.pop();
        way.iter().rev().fold(apex.clone(), |name, &node| {
            name.child(self.names.label(node)).expect("every node has a name that was read")
        })
    }

    /// Whether one node is another, or below it.
    pub(super) fn is_at_or_below(&self, node: NodeId, ancestor: NodeId) -> bool {
        self.names.upwards(node).any(|above| above == ancestor)
    }

    /// The wildcard right below a node.
    pub(super) fn wildcard_below(&self, node: NodeId) -> Option<NodeId> {
        self.names.child(node, b"*")
    }

    /// Whether the node is a wildcard (RFC 4592 2.1.1).
    pub(super) fn is_wildcard(&self, node: NodeId) -> bool {
        node != TOP && self.names.label(node) == b"*"
    }
}

/// The labels of a name below the apex, from there down.
struct Labels<'n> {
    name: &'n [u8],
    starts: [u8; 127],
    left: usize,
}

impl<'n> Labels<'n> {
    fn of(name: &'n [u8], apex_labels: usize) -> Labels<'n> {
        let mut starts = [0; 127];
        let left = label_starts(name, &mut starts).len().saturating_sub(apex_labels);
        Labels { name, starts, left }
    }
}

impl<'n> Iterator for Labels<'n> {
    type Item = &'n [u8];

    fn next(&mut self) -> Option<&'n [u8]> {
        self.left = self.left.checked_sub(1)?;
        let start = usize::from(self.starts[self.left]);
        Some(&self.name[start + 1..start + 1 + usize::from(self.name[start])])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Labels<'_> {}
