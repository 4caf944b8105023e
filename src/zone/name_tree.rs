//! A tree of names: finds a node's child by label, in constant time however many names there are.
//!
//! A node exists for every name that exists, empty non-terminals included (RFC 4592 2.2.2), so that a walk
//! from the top that stops at the first missing child has found the closest encloser. What a node *is*
//! stands elsewhere, in arrays indexed by its number. Built once, then read by every query.
//!
//! One hash table holds the edges of the whole tree, keyed by parent and label. A table a node would be an
//! allocation a node; sorted names would cost a comparison of names for each halving.

use hashbrown::HashTable;

/// A node's number: 0 is the top, then in the order of insertion.
pub type NodeId = u32;

/// The top of every tree: a zone's apex, or the root.
pub const TOP: NodeId = 0;

/// Names below one top.
#[derive(Clone, Debug)]
pub struct NameTree {
    nodes: Vec<Node>,
    edges: HashTable<NodeId>,
    /// Labels in lower case, each behind its length octet.
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: NodeId,
    label: u32,
}

impl Default for NameTree {
    fn default() -> NameTree {
        NameTree { nodes: vec![Node { parent: TOP, label: 0 }], edges: HashTable::new(), labels: vec![0] }
    }
}

impl NameTree {
    /// How many nodes there are; at least the top.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the top always is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The child of `parent` with this label, which must be in lower case.
    #[inline]
    #[must_use]
    pub fn child(&self, parent: NodeId, label: &[u8]) -> Option<NodeId> {
        self.edges.find(hash(parent, label), |&node| self.is_edge(node, parent, label)).copied()
    }

    /// The child of `parent` with this label, or by chance, in one of some hundred times, another node: for whoever looks ahead, and does
    /// not wait for the nodes.
    #[inline]
    #[must_use]
    pub fn likely_child(&self, parent: NodeId, label: &[u8]) -> Option<NodeId> {
        self.edges.find(hash(parent, label), |_| true).copied()
    }

    /// The parent of a node; the top is its own.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> NodeId {
        self.nodes[node as usize].parent
    }

    /// The node's label, in lower case; empty for the top.
    #[must_use]
    pub fn label(&self, node: NodeId) -> &[u8] {
        let start = self.nodes[node as usize].label as usize;
        let length = usize::from(self.labels[start]);
        &self.labels[start + 1..start + 1 + length]
    }

    /// Makes sure that the name exists whose labels, counted from the top down, are these; and all names
    /// between it and the top. Gives its node.
    pub fn insert<'a>(&mut self, labels_from_top: impl Iterator<Item = &'a [u8]>) -> NodeId {
        let mut node = TOP;
        for label in labels_from_top {
            let label = label.to_ascii_lowercase();
            node = match self.child(node, &label) {
                Some(child) => child,
                None => self.add_child(node, &label),
            };
        }
        node
    }

    /// The closest encloser of a name whose labels, counted from the top down, are these (RFC 4592 3.3.1): the last node on the
    /// way to it, and how many labels lie below that one; none for a name that exists.
    pub fn closest<'a>(&self, labels_from_top: impl ExactSizeIterator<Item = &'a [u8]>) -> (NodeId, usize) {
        let mut node = TOP;
        let mut below = labels_from_top.len();
        for label in labels_from_top {
            match self.child(node, &label.to_ascii_lowercase()) {
                Some(child) => node = child,
                None => break,
            }
            below -= 1;
        }
        (node, below)
    }

    /// A node and those above it, the top last.
    pub fn upwards(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(node), |&node| (node != TOP).then(|| self.parent(node)))
    }

    fn add_child(&mut self, parent: NodeId, label: &[u8]) -> NodeId {
        let child = self.nodes.len() as NodeId;
        let start = self.labels.len() as u32;
        self.labels.push(label.len() as u8);
        self.labels.extend_from_slice(label);
        self.nodes.push(Node { parent, label: start });
        let (nodes, labels) = (&self.nodes, &self.labels);
        self.edges.insert_unique(hash(parent, label), child, |&node| {
            let Node { parent, label } = nodes[node as usize];
            let start = label as usize + 1;
            hash(parent, &labels[start..start + usize::from(labels[start - 1])])
        });
        child
    }

    /// Gives back what growing reserved.
    pub fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.labels.shrink_to_fit();
    }

    #[inline]
    fn is_edge(&self, node: NodeId, parent: NodeId, label: &[u8]) -> bool {
        self.nodes[node as usize].parent == parent && is_equal(self.label(node), label)
    }
}

/// Of an edge. It needs no secret: queries only look things up, and a zone's names are its operator's. One multiplication, whose
/// halves are folded together, mixes as much as names need.
#[inline]
fn hash(parent: NodeId, label: &[u8]) -> u64 {
    const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f];
    let mut mixed = u64::from(parent).wrapping_mul(ODD[0]) ^ label.len() as u64;
    let mut rest = label;
    while rest.len() > SHORT {
        let (start, end) = rest.split_at(SHORT);
        let (first, second) = words(start);
        mixed = fold(first ^ mixed, second ^ ODD[1]);
        rest = end;
    }
    let (first, second) = words(rest);
    fold(first ^ mixed, second ^ ODD[2])
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Octets that [`words`] tells apart. Nearly all labels are as short.
const SHORT: usize = 16;

/// All octets of a short label in two numbers, some of them twice: among labels of one length no two have the same.
#[inline]
fn words(label: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (label.first_chunk(), label.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (label.first_chunk(), label.last_chunk()) {
        (u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)), 0)
    } else if let [first, .., last] = label {
        let middle = label[label.len() / 2];
        (u64::from(*first) << 16 | u64::from(middle) << 8 | u64::from(*last), 0)
    } else {
        (label.first().copied().map_or(0, u64::from), 0)
    }
}

/// Without the call that a comparison of slices is.
#[inline]
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && if a.len() <= SHORT { words(a) == words(b) } else { a == b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> impl Iterator<Item = &[u8]> {
        name.rsplit('.').map(str::as_bytes)
    }

    proptest::proptest! {
        #[test]
        fn labels_are_equal_when_their_octets_are(
            a in proptest::collection::vec(proptest::num::u8::ANY, 0..24),
            at in 0_usize..24,
            octet: u8,
        ) {
            let mut b = a.clone();
            if let Some(place) = b.get_mut(at) {
                *place = octet;
            }
            proptest::prop_assert_eq!(is_equal(&a, &b), a == b);
            proptest::prop_assert!(is_equal(&a, &a.clone()) && !is_equal(&a, &[&a[..], b"x"].concat()));
        }
    }

    /// A million names as people number them, under some thousand parents: no more of them share a slot than chance has it.
    #[test]
    fn hashes_of_names_that_are_alike_spread() {
        let mut seen = vec![0_u8; 1 << 20];
        for number in 0..1_u32 << 20 {
            let label = [format!("host{number}"), format!("{number:x}"), format!("customer-{number:08}-www")];
            let hash = hash(number / 1000, label[number as usize % 3].as_bytes());
            let slot = &mut seen[hash as usize & ((1 << 20) - 1)];
            *slot = slot.saturating_add(1);
        }
        // As many slots as balls: 1/e of them stay empty, and none has more than a dozen.
        let empty = seen.iter().filter(|count| **count == 0).count() as f64 / seen.len() as f64;
        assert!((empty - (-1.0_f64).exp()).abs() < 0.005, "{empty}");
        assert!(seen.iter().all(|count| *count <= 12));
    }

    #[test]
    fn names_between_exist_too_and_case_does_not_matter() {
        let mut tree = NameTree::default();
        let deep = tree.insert(labels("A.b.c"));
        assert_eq!(tree.len(), 4);
        assert_eq!(tree.insert(labels("a.B.C")), deep);
        let c = tree.child(TOP, b"c").expect("the empty non-terminal exists");
        assert_eq!(tree.parent(tree.parent(deep)), c);
        assert_eq!(tree.label(deep), b"a");
        assert_eq!(tree.child(TOP, b"a"), None);
    }
}
