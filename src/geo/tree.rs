//! The search tree of an MMDB file, looked over before anything walks it.
//!
//! Each node leads to two others, and nothing in the format keeps those of a damaged file from leading back, or from
//! being led to twice: 128 nodes, each leading to the next one twice, are 2^128 ways, and where all of them end at
//! nothing a walk would never come back to tell. A sound tree is walked in as many steps as it has nodes. Only IPv4
//! is led to several times, by its aliases (::ffff:0:0/96, 2002::/16, 2001::/32); it counts once, and walks skip the
//! rest.

use maxminddb::Metadata;

/// Refuses a tree that takes longer to walk than its number of nodes allows for. The reader has seen to it that
/// all nodes lie within the file.
pub(super) fn check(octets: &[u8], metadata: &Metadata) -> Result<(), String> {
    let tree = Tree { octets, record_bits: metadata.record_size, node_count: metadata.node_count };
    let is_v6 = metadata.ip_version == 6;
    let ipv4 = if is_v6 { tree.ipv4() } else { None };
    // Twice as many as there are, since a writer may share equal parts of a tree.
    let most = u64::from(tree.node_count) * 2 + 2;
    let mut steps: u64 = 0;
    let mut stack = vec![Step { node: 0, depth: 0, is_in_ipv4: true }];
    while let Some(Step { node, depth, is_in_ipv4 }) = stack.pop() {
        if node >= tree.node_count || (Some(node) == ipv4 && !is_in_ipv4) {
            continue;
        }
        if depth == if is_v6 { 128 } else { 32 } {
            return Err("damaged: its search tree is deeper than an address is long".to_owned());
        }
        steps += 1;
        if steps > most {
            return Err(format!(
                "damaged: it lists more networks than its {} nodes can hold",
                tree.node_count
            ));
        }
        for is_one in [true, false] {
            let is_in_ipv4 = is_in_ipv4 && (depth >= 96 || !is_one);
            stack.push(Step { node: tree.child(node, is_one), depth: depth + 1, is_in_ipv4 });
        }
    }
    Ok(())
}

/// On the way from the root.
struct Step {
    node: u32,
    depth: u8,
    /// Within ::/96, or still on the way there.
    is_in_ipv4: bool,
}

struct Tree<'o> {
    octets: &'o [u8],
    record_bits: u16,
    node_count: u32,
}

impl Tree<'_> {
    /// The node that ::/96 and its aliases lead to. What is no node holds no trap, and neither does the root: whoever
    /// leads back to it goes deeper without end.
    fn ipv4(&self) -> Option<u32> {
        let mut node = 0;
        for _ in 0..96 {
            if node >= self.node_count {
                return None;
            }
            node = self.child(node, false);
        }
        Some(node).filter(|node| *node != 0)
    }

    fn child(&self, node: u32, is_one: bool) -> u32 {
        let start = node as usize * usize::from(self.record_bits) / 4;
        let node = &self.octets[start..start + usize::from(self.record_bits) / 4];
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
