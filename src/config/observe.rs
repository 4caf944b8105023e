//! `metrics:` -> where and how the server tells of itself.

use std::net::SocketAddr;

use crate::finding::Findings;
use crate::yaml::Node;

/// Reads `127.0.0.1:9853`, or a list of such.
pub(super) fn read_metrics(node: &Node, findings: &mut Findings) -> Vec<SocketAddr> {
    node.items().iter().filter_map(|item| read_address(item, findings)).collect()
}

fn read_address(node: &Node, findings: &mut Findings) -> Option<SocketAddr> {
    let text = node.text("an address and a port such as 127.0.0.1:9853", findings)?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let text = format!("\"{text}\" is no address with a port such as 127.0.0.1:9853 or [::1]:9853");
        findings.error(&node.at, text);
    }
    parsed
}
