//! `metrics:`, `countries:` and `query_log:` -> where and how the server tells of itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::finding::Findings;
use crate::yaml::Node;

/// Which queries are written down, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLog {
    /// The file that is written to.
    pub file: PathBuf,
    /// One query of so many.
    pub sample: u32,
    /// Octets after which another file is begun.
    pub max_size: u64,
    /// How many full ones are kept.
    pub keep: u32,
}

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

/// Reads `{ file, sample, max_size, keep }`. A relative path is taken from `folder`.
pub(super) fn read_query_log(node: &Node, folder: &Path, findings: &mut Findings) -> Option<QueryLog> {
    let mapping = node.mapping("file, sample, max_size and keep", findings)?;
    mapping.know_only(&["file", "sample", "max_size", "keep"], findings);
    let Some(file) = mapping.get("file") else {
        findings.error(&node.at, "file: is missing, what the query log is written to");
        return None;
    };
    let file = folder.join(file.text("a file", findings)?);
    let sample = mapping.get("sample").map_or(Some(100), |node| read_sample(node, findings))?;
    let max_size = mapping.get("max_size").map_or(Some(64 << 20), |node| read_size(node, findings))?;
    let keep = mapping.get("keep").map_or(Some(2), |node| node.number(0, 1000, findings))?;
    Some(QueryLog { file, sample, max_size, keep })
}

/// `1/100`.
pub(super) fn read_sample(node: &Node, findings: &mut Findings) -> Option<u32> {
    const MOST: u32 = 1_000_000;
    let text = node.text("a part such as 1/100", findings)?;
    let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
    let number = number.filter(|number| (1..=MOST).contains(number));
    if number.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no part from 1/1 to 1/{MOST} such as 1/100"));
    }
    number
}

/// `64M`.
pub(super) fn read_size(node: &Node, findings: &mut Findings) -> Option<u64> {
    const UNITS: [(char, u64); 3] = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let text = node.text("a size such as 64M", findings)?;
    let (number, unit) = UNITS
        .iter()
        .find_map(|(letter, octets)| Some((text.strip_suffix(*letter)?, *octets)))
        .unwrap_or((text, 1));
    let octets = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    let octets = octets.filter(|octets| (4 << 10..=1 << 40).contains(octets));
    if octets.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no size from 4K to 1024G such as 64M"));
    }
    octets
}
