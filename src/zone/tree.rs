//! A zone as it is served: names, RRsets, and the pieces of wire format that responses are put together from.
//!
//! Immutable once compiled; every query reads it, nothing else does. A zone that did not change is carried
//! from snapshot to snapshot as it is, so nothing in here knows of other zones, services or sites: a steered
//! owner holds only the number of a service in the zone's own list, which the snapshot translates.
//!
//! *Pieces.* All records of an RRset lie in wire format one after the other, as they go into a response:
//! owner, type, class, TTL, RDLENGTH, RDATA. The owner is a pointer to offset 12, where QNAME stands; the
//! writer changes it when the owner is another name. Names in RDATA that may be compressed (RFC 3597 4)
//! end in a pointer to the apex, whose place depends on QNAME's length alone: each piece carries the list of those
//! pointers, for the writer to fill in. Glue has its owner written out to the apex in the same way.
//!
//! *Not done:* no RRset is stored twice for different QNAME lengths, and no compression other than
//! towards QNAME is sought: it would be paid for at every query.

use crate::wire::{Name, Qname, Rtype};
use crate::zone::name_tree::{NameTree, NodeId, TOP};

/// A compiled zone.
#[derive(Debug)]
pub struct Zone {
    pub(super) apex: Name,
    pub(super) apex_labels: usize,
    pub(super) names: NameTree,
    /// By node.
    pub(super) nodes: Vec<Node>,
    /// By node, then by type.
    pub(super) rrsets: Vec<Rrset>,
    /// Pieces: wire format, then the offsets of its apex pointers, two octets each.
    pub(super) pieces: Vec<u8>,
    pub(super) additionals: Vec<Additional>,
    pub(super) targets: Vec<Target>,
    /// Names of the targets, uncompressed.
    pub(super) target_names: Vec<u8>,
    pub(super) steered: Vec<SteeredOwner>,
    pub(super) soa: u32,
    pub(super) negative_ttl: u32,
    pub(super) serial: u32,
}

/// What exists at a name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    pub(super) first_rrset: u32,
    pub(super) rrset_count: u16,
    /// Index into the zone's steered owners, plus one; 0 for a name that is not steered.
    pub(super) steered: u16,
    pub(super) marks: Marks,
}

/// What a walk must know of a node without looking at its RRsets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) is_cut: bool,
    pub(super) has_dname: bool,
    pub(super) has_wildcard: bool,
}

/// An RRset's piece and what goes with it.
#[derive(Clone, Copy, Debug)]
pub struct Rrset {
    pub(super) rtype: Rtype,
    pub(super) piece: Piece,
    /// For CNAME and DNAME the number of the target; for the others that of the additional records, plus one.
    pub(super) extra: u32,
}

/// Records in wire format within the zone's pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub(super) start: u32,
    pub(super) length: u16,
    pub(super) pointer_count: u16,
    pub(super) record_count: u16,
}

/// Address records that go with an RRset that names hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additional {
    /// Without these a referral is of no use: the response has them all or has TC set (RFC 9471 3).
    pub required: Piece,
    /// These go in when they fit.
    pub welcome: Piece,
}

/// Where a CNAME or DNAME points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Where its name begins.
    pub(super) name: u32,
    /// Octets of it.
    pub(super) length: u8,
    /// Where the walk towards it ends; none for a name that is not below the apex. Known beforehand: or a chain among names of
    /// many labels, each link of which is walked to again, would cost a hundred times what other answers do.
    pub(super) walk: Option<Walk>,
}

/// A steered name: which service chooses, and the TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteeredOwner {
    /// Index into the list of services that the zone was compiled with.
    pub service: u16,
    /// Seconds; where the owner says nothing, the service's at the time.
    pub ttl: Option<u32>,
}

/// Where a walk down from the apex ended. `below` is how many of the name's leftmost labels lie below the
/// node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The name exists.
    Exact(NodeId),
    /// It does not; its records are synthesized from this one (RFC 4592 3.3.1).
    Wildcard(NodeId),
    /// A zone cut at or above it.
    Cut {
        /// The delegated name.
        node: NodeId,
        /// Labels of the name below it.
        below: u8,
    },
    /// A DNAME above it.
    Dname {
        /// Its owner.
        node: NodeId,
        /// Labels of the name below it.
        below: u8,
    },
    /// Neither it nor a wildcard for it exists.
    Missing,
}

impl Zone {
    /// The zone's name.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// SOA SERIAL.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// How many names exist, empty non-terminals included.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// How many labels the apex has.
    #[must_use]
    pub fn apex_labels(&self) -> usize {
        self.apex_labels
    }

    /// By node of this zone the node of the same name in another version of it, if that has one.
    #[must_use]
    pub fn nodes_in(&self, other: &Zone) -> Vec<Option<NodeId>> {
        // A node comes after its parent.
        let mut there = vec![Some(TOP); self.names.len()];
        for node in 1..self.names.len() {
            let parent = there[self.names.parent(node as NodeId) as usize];
            there[node] =
                parent.and_then(|parent| other.names.child(parent, self.names.label(node as NodeId)));
        }
        there
    }

    /// The name of a node, in lower case.
    #[must_use]
    pub fn owner(&self, node: NodeId) -> Name {
        let labels: Vec<&[u8]> = self
            .names
            .upwards(node)
            .take_while(|node| *node != TOP)
            .map(|node| self.names.label(node))
            .collect();
        // What was compiled is short enough.
        labels.into_iter().rev().fold(self.apex.clone(), |name, label| name.child(label).unwrap_or(name))
    }

    /// Walks down from the apex towards a name that is at or below it (RFC 1034 4.3.2 step 3).
    #[inline]
    #[must_use]
    pub fn walk(&self, qname: &Qname) -> Walk {
        self.walk_on(TOP, qname, qname.label_count() - self.apex_labels)
    }

    /// Walks on from a node to the name whose `below` leftmost labels lie below that.
    #[inline]
    fn walk_on(&self, mut node: NodeId, qname: &Qname, mut below: usize) -> Walk {
        loop {
            let marks = self.nodes[node as usize].marks;
            if marks.is_cut {
                return Walk::Cut { node, below: below as u8 };
            }
            if below == 0 {
                return Walk::Exact(node);
            }
            if marks.has_dname {
                return Walk::Dname { node, below: below as u8 };
            }
            match self.names.child(node, qname.label(below - 1)) {
                Some(child) => {
                    node = child;
                    below -= 1;
                }
                None if marks.has_wildcard => {
                    return self.names.child(node, b"*").map_or(Walk::Missing, Walk::Wildcard);
                }
                None => return Walk::Missing,
            }
        }
    }

    /// Has the memory come near in which it stands where all the rest is. For whoever looks ahead, as are those that follow.
    #[inline]
    #[must_use]
    pub fn touch(&self) -> usize {
        // In their order in memory they are some lines of the cache apart.
        self.apex_labels ^ self.names.len() ^ self.nodes.len() ^ self.rrsets.len() ^ self.pieces.len()
    }

    /// Where a name is, if it is in the zone and chance does not have it otherwise: see [`NameTree::likely_child`].
    #[inline]
    #[must_use]
    pub fn likely_node(&self, qname: &Qname) -> NodeId {
        let mut node = TOP;
        for below in (0..qname.label_count().saturating_sub(self.apex_labels)).rev() {
            let Some(child) = self.names.likely_child(node, qname.label(below)) else { break };
            node = child;
        }
        node
    }

    /// Has the memory of a node come near.
    #[inline]
    #[must_use]
    pub fn touch_node(&self, node: NodeId) -> u32 {
        self.names.parent(node) ^ self.nodes[node as usize].first_rrset
    }

    /// The same of its label and its first RRset, when the node is near.
    #[inline]
    #[must_use]
    pub fn touch_rrset(&self, node: NodeId) -> usize {
        self.rrsets_at(node).first().map_or(0, |rrset| rrset.piece.start as usize)
            ^ self.names.label(node).len()
    }

    /// The same of that RRset's records, when it is near itself.
    #[inline]
    #[must_use]
    pub fn touch_piece(&self, node: NodeId) -> u8 {
        let rrset = self.rrsets_at(node).first();
        rrset.and_then(|rrset| self.pieces.get(rrset.piece.start as usize)).copied().unwrap_or(0)
    }

    /// Walks to where a CNAME or DNAME leads: a name of which all but the `kept` leftmost labels are the target. None if that is
    /// not at or below the apex.
    #[must_use]
    pub fn walk_to_target(&self, rrset: &Rrset, qname: &Qname, kept: usize) -> Option<Walk> {
        let walk = match self.targets[rrset.extra as usize].walk? {
            Walk::Exact(node) => self.walk_on(node, qname, kept),
            Walk::Cut { node, below } => Walk::Cut { node, below: below + kept as u8 },
            Walk::Dname { node, below } => Walk::Dname { node, below: below + kept as u8 },
            // The closest encloser is the target's, and so is the source of synthesis.
            walk @ (Walk::Wildcard(_) | Walk::Missing) => walk,
        };
        Some(walk)
    }

    /// Walks to all targets, once the tree is as it will be.
    pub(super) fn walk_to_targets(&mut self) {
        let mut sought = Qname::default();
        let walks: Vec<Option<Walk>> = self
            .targets
            .iter()
            .map(|target| {
                let name = Name::first_of(self.name_of(target)).ok()?;
                let is_inside = name.is_at_or_below(&self.apex) && sought.read(name.wire()).is_some();
                is_inside.then(|| self.walk(&sought))
            })
            .collect();
        for (target, walk) in self.targets.iter_mut().zip(walks) {
            target.walk = walk;
        }
    }

    /// Whether a name is a zone cut here, or lies below one.
    #[must_use]
    pub fn delegates(&self, name: &Name) -> bool {
        let mut sought = Qname::default();
        sought.read(name.wire()).is_some() && matches!(self.walk(&sought), Walk::Cut { .. })
    }

    /// The RRset of a type at a node.
    #[inline]
    #[must_use]
    pub fn rrset(&self, node: NodeId, rtype: Rtype) -> Option<&Rrset> {
        let rrsets = self.rrsets_at(node);
        // Most names have one or two types; a name with hundreds of them must not be worth attacking.
        if rrsets.len() <= 8 {
            rrsets.iter().find(|rrset| rrset.rtype == rtype)
        } else {
            rrsets.binary_search_by_key(&rtype, |rrset| rrset.rtype).ok().map(|found| &rrsets[found])
        }
    }

    /// All RRsets at a node, by type.
    #[inline]
    #[must_use]
    pub fn rrsets_at(&self, node: NodeId) -> &[Rrset] {
        let Node { first_rrset, rrset_count, .. } = self.nodes[node as usize];
        let first = first_rrset as usize;
        &self.rrsets[first..first + usize::from(rrset_count)]
    }

    /// Whether and how the node is steered.
    #[inline]
    #[must_use]
    pub fn steered(&self, node: NodeId) -> Option<SteeredOwner> {
        match self.nodes[node as usize].steered {
            0 => None,
            number => Some(self.steered[usize::from(number) - 1]),
        }
    }

    /// All of its steered names.
    #[must_use]
    pub fn steered_owners(&self) -> &[SteeredOwner] {
        &self.steered
    }

    /// The SOA, for the authority section of negative answers.
    #[must_use]
    pub fn soa(&self) -> &Rrset {
        &self.rrsets[self.soa as usize]
    }

    /// Seconds for which a negative answer may be kept: min(SOA TTL, SOA MINIMUM) (RFC 2308 5).
    #[must_use]
    pub fn negative_ttl(&self) -> u32 {
        self.negative_ttl
    }

    /// Where a CNAME or DNAME points to, uncompressed.
    #[must_use]
    pub fn target(&self, rrset: &Rrset) -> &[u8] {
        self.name_of(&self.targets[rrset.extra as usize])
    }

    fn name_of(&self, target: &Target) -> &[u8] {
        let start = target.name as usize;
        &self.target_names[start..start + usize::from(target.length)]
    }

    /// Seconds, of an RRset's first record.
    #[must_use]
    pub fn ttl(&self, rrset: &Rrset) -> u32 {
        match self.piece(rrset.piece).0 {
            [_, _, _, _, _, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    }

    /// The addresses that go with an RRset.
    #[must_use]
    pub fn additional(&self, rrset: &Rrset) -> Additional {
        match rrset.extra {
            _ if matches!(rrset.rtype, Rtype::CNAME | Rtype::DNAME) => Additional::default(),
            0 => Additional::default(),
            number => self.additionals[number as usize - 1],
        }
    }

    /// The octets of a piece, and where in them pointers to the apex stand, each in two octets.
    #[inline]
    #[must_use]
    pub fn piece(&self, piece: Piece) -> (&[u8], &[u8]) {
        let start = piece.start as usize;
        let end = start + usize::from(piece.length);
        (&self.pieces[start..end], &self.pieces[end..end + 2 * usize::from(piece.pointer_count)])
    }
}

impl Rrset {
    /// Its type.
    #[must_use]
    pub fn rtype(&self) -> Rtype {
        self.rtype
    }

    /// Its records.
    #[must_use]
    pub fn piece(&self) -> Piece {
        self.piece
    }
}

impl Piece {
    /// How many records.
    #[must_use]
    pub fn record_count(&self) -> u16 {
        self.record_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Findings, Source};
    use crate::zone::{Owners, compile, master};

    fn qname(text: &str) -> Qname {
        let mut qname = Qname::default();
        qname.read(Name::parse(text, None).unwrap().wire()).unwrap();
        qname
    }

    /// Wherever an alias leads, what was walked beforehand is what a walk to that name gives; with labels that a DNAME keeps as
    /// well as without.
    #[test]
    fn the_walk_to_a_target_is_the_walk_to_its_name() {
        let targets = [
            "@",
            "a",
            "A",
            "nowhere",
            "deep.er.a",
            "er.a",
            "x.w",
            "*.w",
            "y.x.w",
            "cut",
            "ns.cut",
            "x.y.cut",
            "dn",
            "x.dn",
            "x.y.dn",
            "alias0",
        ];
        let mut text = String::from(
            "$TTL 60\n@ SOA a h 1 2h 1h 2w 60\n@ NS a\na A 192.0.2.1\ndeep.er.a A 192.0.2.1\n*.w A 192.0.2.1\n\
             cut NS ns.cut\nns.cut A 192.0.2.1\ndn DNAME elsewhere.example.\nalias CNAME elsewhere.example.\n",
        );
        for (number, target) in targets.iter().enumerate() {
            text += &format!("alias{number} CNAME {target}\n");
        }
        let apex = Name::parse("example.com.", None).unwrap();
        let mut findings = Findings::new();
        let file = master::read(&Source::new("zone", text), &apex, None, &mut findings);
        assert!(!findings.has_errors(), "{findings}");
        let zone = compile::compile(&file, Owners::of(&file), None).unwrap();
        let alias = |name: &str| {
            let Walk::Exact(node) = zone.walk(&qname(&format!("{name}.example.com."))) else {
                panic!("{name}")
            };
            zone.rrset(node, Rtype::CNAME).unwrap()
        };
        for (number, target) in targets.iter().enumerate() {
            for (kept, prefix) in ["", "k.", "x.y."].into_iter().enumerate() {
                let name = format!("{prefix}{target}.example.com.").replace("@.", "");
                let name = qname(&name);
                let walked = zone.walk_to_target(alias(&format!("alias{number}")), &name, kept);
                assert_eq!(walked, Some(zone.walk(&name)), "{prefix}{target}");
            }
        }
        assert_eq!(zone.walk_to_target(alias("alias"), &qname("elsewhere.example."), 0), None);
    }
}
