//! The search tree of an MMDB file, walked in order of addresses.
//!
//! Each node leads to two others, and nothing in the format keeps those of a damaged file from leading back, or from
//! being led to twice: 128 nodes, each leading to the next one twice, are 2^128 ways, and where all of them end at
//! nothing a walk would never come back to tell. A sound tree is walked in as many steps as it has nodes. Only IPv4
//! is led to several times, by its aliases (::ffff:0:0/96, 2002::/16, 2001::/32); it counts once, and walks skip the
//! rest.
//!
//! The reader of the crate walks as well, and makes an address, a network and a result of each step: with a city database
//! that was a third of the time until the server is ready.

use std::sync::atomic::{AtomicU64, Ordering};

use maxminddb::Metadata;

/// A tree whose nodes all lie within the file: the crate's reader has seen to that.
#[derive(Debug)]
pub(super) struct Tree {
    record_bits: u16,
    node_count: u32,
    is_v6: bool,
    /// What ::/96 and its aliases lead to.
    ipv4: Option<u32>,
    /// Steps that all walks together may take until the next [`begin`](Tree::begin).
    steps_left: AtomicU64,
}

/// A tree that leads nowhere or has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// A network and the record that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Its first address; that of an IPv4 network in the lower 32 bits.
    pub(super) first: u128,
    /// Its last address.
    pub(super) last: u128,
    /// What tells its record from others.
    pub(super) record: u32,
}

impl Tree {
    pub(super) fn new(octets: &[u8], metadata: &Metadata) -> Tree {
        let mut tree = Tree {
            record_bits: metadata.record_size,
            node_count: metadata.node_count,
            is_v6: metadata.ip_version == 6,
            ipv4: None,
            steps_left: AtomicU64::new(0),
        };
        // What leads back to the root is a trap, and no IPv4.
        tree.ipv4 = tree.is_v6.then(|| tree.node_of_ipv4(octets)).flatten().filter(|node| *node != 0);
        tree
    }

    /// From here on everything may be walked once. Twice as many steps as there are nodes, since a writer may share equal parts of
    /// a tree.
    pub(super) fn begin(&self) {
        self.steps_left.store(u64::from(self.node_count) * 2 + 2, Ordering::Relaxed);
    }

    fn node_of_ipv4(&self, octets: &[u8]) -> Option<u32> {
        (0..96).try_fold(0, |node, _| (node < self.node_count).then(|| self.child(octets, node, false)))
    }

    /// Whether there is anything about IPv4, or about IPv6.
    fn root(&self, is_v4: bool) -> Option<u32> {
        match (is_v4, self.is_v6) {
            (true, true) => self.ipv4,
            (false, false) => None,
            _ => Some(0),
        }
    }

    /// The networks that have a record, within a prefix, in order. `first` is the address that the prefix begins with. A network
    /// that the prefix lies in is given as the prefix.
    pub(super) fn walk<'t>(&'t self, octets: &'t [u8], is_v4: bool, first: u128, length: u8) -> Walk<'t> {
        let width = if is_v4 { 32 } else { 128 };
        let mut walk =
            Walk { tree: self, octets, is_v4, width, first, stack: Vec::with_capacity(130), steps: 0 };
        let Some(mut node) = self.root(is_v4) else { return walk };
        for depth in 0..length {
            if node >= self.node_count || self.is_alias(node, is_v4) {
                break;
            }
            node = self.child(octets, node, first >> (width - 1 - depth) & 1 == 1);
        }
        walk.stack.push(Step { node, depth: length, bits: 0 });
        walk
    }

    /// Whether a node of the IPv6 space is IPv4 once more.
    fn is_alias(&self, node: u32, is_v4: bool) -> bool {
        !is_v4 && node < self.node_count && Some(node) == self.ipv4
    }

    #[inline]
    fn child(&self, octets: &[u8], node: u32, is_one: bool) -> u32 {
        let start = node as usize * usize::from(self.record_bits) / 4;
        let node = &octets[start..start + usize::from(self.record_bits) / 4];
        let octets = match (self.record_bits, is_one) {
            (24, false) => [0, node[0], node[1], node[2]],
            (24, true) => [0, node[3], node[4], node[5]],
            // The middle octet has the upper four bits of both.
            (28, false) => [node[3] >> 4, node[0], node[1], node[2]],
            (28, true) => [node[3] & 0x0f, node[4], node[5], node[6]],
            (_, false) => [node[0], node[1], node[2], node[3]],
            (_, true) => [node[4], node[5], node[6], node[7]],
        };
        u32::from_be_bytes(octets)
    }
}

/// A walk in order of addresses.
pub(super) struct Walk<'t> {
    tree: &'t Tree,
    octets: &'t [u8],
    is_v4: bool,
    /// Bits of an address.
    width: u8,
    /// Where the prefix begins.
    first: u128,
    /// What is still to be seen, the next last.
    stack: Vec<Step>,
    /// Taken, and not yet told.
    steps: u64,
}

/// On the way down.
struct Step {
    node: u32,
    depth: u8,
    /// The bits below the prefix.
    bits: u128,
}

impl Iterator for Walk<'_> {
    type Item = Result<Network, Damaged>;

    #[inline]
    fn next(&mut self) -> Option<Result<Network, Damaged>> {
        let tree = self.tree;
        while let Some(Step { node, depth, bits }) = self.stack.pop() {
            if node == tree.node_count || tree.is_alias(node, self.is_v4) {
                continue;
            }
            let left = self.width - depth;
            if node > tree.node_count {
                let first = self.first | bits;
                let last = first | u128::MAX.checked_shr(128 - u32::from(left)).unwrap_or(0);
                return Some(Ok(Network { first, last, record: node }));
            }
            self.steps += 1;
            if left == 0 || (self.steps.is_multiple_of(1024) && self.is_too_long()) {
                self.stack.clear();
                return Some(Err(Damaged));
            }
            for is_one in [true, false] {
                let bits = bits | u128::from(is_one) << (left - 1);
                self.stack.push(Step { node: tree.child(self.octets, node, is_one), depth: depth + 1, bits });
            }
        }
        self.is_too_long().then_some(Err(Damaged))
    }
}

impl Walk<'_> {
    /// Takes the steps off those that are left for all.
    fn is_too_long(&mut self) -> bool {
        let steps = std::mem::take(&mut self.steps);
        let take = |left: u64| left.checked_sub(steps);
        self.tree.steps_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err()
    }
}
