//! `gates:` and `history:` -> how far a change may go by itself, and how many stay at hand.

use crate::change::gates::Gates;
use crate::change::history::Bounds;
use crate::finding::Findings;
use crate::yaml::Node;

use super::observe::read_size;

/// Reads `{ names, moves, networks }`.
pub(super) fn read_gates(node: &Node, findings: &mut Findings) -> Gates {
    let mut gates = Gates::default();
    let Some(mapping) = node.mapping("names, moves and networks", findings) else { return gates };
    mapping.know_only(&["names", "moves", "networks"], findings);
    for (key, gate) in
        [("names", &mut gates.names), ("moves", &mut gates.moves), ("networks", &mut gates.networks)]
    {
        if let Some(node) = mapping.get(key) {
            *gate = read_gate(node, findings);
        }
    }
    gates
}

/// `50%` or `off`.
fn read_gate(node: &Node, findings: &mut Findings) -> Option<f64> {
    let text = node.text("a part such as 50%, or off", findings)?;
    if text == "off" {
        return None;
    }
    let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no part from 0% to 100%, nor off"));
    }
    percent.map(|percent| percent / 100.0)
}

/// Reads `{ keep, max_size }`.
pub(super) fn read_history(node: &Node, findings: &mut Findings) -> Bounds {
    let mut bounds = Bounds::default();
    let Some(mapping) = node.mapping("keep and max_size", findings) else { return bounds };
    mapping.know_only(&["keep", "max_size"], findings);
    if let Some(keep) = mapping.get("keep").and_then(|node| node.number(0, 100_000, findings)) {
        bounds.keep = keep;
    }
    if let Some(size) = mapping.get("max_size").and_then(|node| read_size(node, findings)) {
        bounds.max_size = size;
    }
    bounds
}
