//! `listen:` -> where and how the server listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::finding::Findings;
use crate::yaml::{Content, Mapping, Node};

/// One place to listen at.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Address and port; port 0 is any.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Who must put the PROXY protocol before what it sends, and nobody else may; empty for a listener without it.
    pub proxy_from: Vec<IpNetwork>,
}

/// What is spoken at a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    /// DNS over UDP and TCP.
    Plain,
    /// DNS over TLS (RFC 7858), over TCP.
    Tls(Certificate),
    /// DNS over QUIC (RFC 9250), over UDP.
    Quic(Certificate),
    /// DNS over HTTPS (RFC 8484), over TCP, at a path such as `/dns-query`.
    Https(Certificate, String),
}

impl Protocol {
    /// What the server proves its name by, where it does.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match self {
            Protocol::Plain => None,
            Protocol::Tls(files) | Protocol::Quic(files) | Protocol::Https(files, _) => Some(files),
        }
    }
}

/// Files by which a server proves its name; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// PEM, the server's own first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Listener {
    /// DNS over UDP and TCP.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Listener {
        Listener { address, protocol: Protocol::Plain, proxy_from: Vec::new() }
    }
}

/// Reads `192.0.2.53:53`, or a mapping with `address:`. Relative paths are taken from `folder`.
pub(super) fn read(node: &Node, folder: &Path, findings: &mut Findings) -> Option<Listener> {
    let Content::Mapping(entries) = &node.content else {
        return read_address(node, findings).map(Listener::plain);
    };
    let mapping = Mapping { at: &node.at, entries };
    mapping.know_only(&["address", "tls", "quic", "https", "proxy_from"], findings);
    let Some(address) = mapping.get("address") else {
        findings.error(&node.at, "address: is missing");
        return None;
    };
    let address = read_address(address, findings)?;
    let protocols: Vec<(&str, &Node)> =
        ["tls", "quic", "https"].into_iter().filter_map(|key| Some((key, mapping.get(key)?))).collect();
    let protocol = match protocols[..] {
        [] => Protocol::Plain,
        [("tls", node)] => Protocol::Tls(read_certificate(node, &[], folder, findings)?),
        [("quic", node)] => Protocol::Quic(read_certificate(node, &[], folder, findings)?),
        [("https", node)] => {
            Protocol::Https(read_certificate(node, &["path"], folder, findings)?, read_path(node, findings)?)
        }
        _ => {
            findings
                .error(&node.at, "a listener is one of tls, quic and https, or none of them; write several");
            return None;
        }
    };
    let proxy_from = match mapping.get("proxy_from") {
        None => Vec::new(),
        Some(node) => node.items().iter().filter_map(|item| read_network(item, findings)).collect(),
    };
    if let (Protocol::Quic(_), Some(node)) = (&protocol, mapping.get("proxy_from")) {
        let text = "QUIC knows no PROXY headers, for nothing may stand before its packets; \
                    the balancer has to pass on the client's address itself";
        findings.error(&node.at, text);
        return None;
    }
    Some(Listener { address, protocol, proxy_from })
}

fn read_address(node: &Node, findings: &mut Findings) -> Option<SocketAddr> {
    let text = node.text("an address and a port such as 192.0.2.53:53", findings)?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let text = format!("\"{text}\" is no address with a port such as 192.0.2.53:53 or [2001:db8::53]:53");
        findings.error(&node.at, text);
    }
    parsed
}

fn read_certificate(
    node: &Node,
    more: &[&str],
    folder: &Path,
    findings: &mut Findings,
) -> Option<Certificate> {
    let mapping = node.mapping("certificate and key", findings)?;
    let keys: Vec<&str> = ["certificate", "key"].iter().chain(more).copied().collect();
    mapping.know_only(&keys, findings);
    let mut path = |key: &str| {
        let Some(file) = mapping.get(key) else {
            findings.error(&node.at, format!("{key}: is missing, a PEM file"));
            return None;
        };
        file.text("a PEM file", findings).map(|text| folder.join(text))
    };
    Some(Certificate { certificate: path("certificate")?, key: path("key")? })
}

fn read_path(node: &Node, findings: &mut Findings) -> Option<String> {
    let Some(node) = node.mapping("certificate, key and path", findings)?.get("path") else {
        return Some("/dns-query".to_owned());
    };
    let path = node.text("a path such as /dns-query", findings)?;
    if !path.starts_with('/') || path.bytes().any(|octet| !(0x21..0x7f).contains(&octet) || octet == b'?') {
        findings.error(&node.at, "a path begins with / and has no spaces, as in /dns-query");
        return None;
    }
    Some(path.to_owned())
}

fn read_network(node: &Node, findings: &mut Findings) -> Option<IpNetwork> {
    let text = node.text("an address or a subnet", findings)?;
    let network = text.parse().ok();
    if network.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no address and no subnet"));
    }
    network
}
