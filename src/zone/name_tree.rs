//! A tree of names: finds a node's child by label, in constant time however many names there are.
//!
//! A node exists for every name that exists, empty non-terminals included (RFC 4592 2.2.2), so that a walk
//! from the top that stops at the first missing child has found the closest encloser. What a node *is*
//! stands elsewhere, in arrays indexed by its number. Built once, then read by every query.
//!
//! One hash table holds the edges of the whole tree, keyed by parent and label. A table a node would be an
//! allocation a node; sorted names would cost a comparison of names for each halving.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// A node's number: 0 is the top, then in the order of insertion.
pub type NodeId = u32;

/// The top of every tree: a zone's apex, or the root.
pub const TOP: NodeId = 0;

/// The hash needs no secret: queries only look things up, and a zone's names are its operator's.
const HASH: FixedState = FixedState::with_seed(0x6d65_7269_6469_616e);

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
        self.nodes[node as usize].parent == parent && self.label(node) == label
    }
}

#[inline]
fn hash(parent: NodeId, label: &[u8]) -> u64 {
    HASH.hash_one((parent, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> impl Iterator<Item = &[u8]> {
        name.rsplit('.').map(str::as_bytes)
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
