//! `checks:` as written -> [`Check`]s as meant.

use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;

use crate::finding::Findings;
use crate::health::probe::{LONGEST_BODY, read_roots};
use crate::site::{Check, CheckKind, HttpCheck, TlsCheck};
use crate::yaml::Node;

pub(super) fn read_checks(node: &Node, findings: &mut Findings) -> Vec<Check> {
    node.items().iter().filter_map(|item| read_check(item, findings)).collect()
}

fn read_check(node: &Node, findings: &mut Findings) -> Option<Check> {
    let mapping = node.mapping("a check such as { tcp: {}, port: 443 }", findings)?;
    mapping.know_only(&["tcp", "http", "https", "port", "every", "timeout", "fall", "rise"], findings);
    let kinds: Vec<&(Node, Node)> = mapping
        .entries
        .iter()
        .filter(|(key, _)| matches!(key.scalar(), Some("tcp" | "http" | "https")))
        .collect();
    let [(kind, value)] = kinds[..] else {
        findings.error(&node.at, "a check is one of tcp, http and https, as in { tcp: {}, port: 443 }");
        return None;
    };
    let (kind, default_port) = match kind.scalar() {
        Some("http") => (CheckKind::Http(read_http(value, &[], findings)?), Some(80)),
        Some("https") => {
            let http = read_http(value, &["sni", "verify", "ca"], findings)?;
            (CheckKind::Https(http, read_tls(value, findings)?), Some(443))
        }
        _ => {
            value.mapping("nothing, or { }", findings)?.know_only(&[], findings);
            (CheckKind::Tcp, None)
        }
    };
    let port = match mapping.get("port") {
        Some(port) => port.number(1, u16::MAX, findings)?,
        None => match default_port {
            Some(port) => port,
            None => {
                findings.error(&node.at, "a tcp check needs a port");
                return None;
            }
        },
    };
    let time = |key: &str, default: Duration, findings: &mut Findings| {
        mapping.get(key).map_or(Some(default), |node| node.duration(findings))
    };
    let every = time("every", Duration::from_secs(5), findings)?;
    let timeout = time("timeout", Duration::from_secs(2).min(every), findings)?;
    let count = |key: &str, findings: &mut Findings| {
        mapping.get(key).map_or(Some(2), |node| node.number(1, 100, findings))
    };
    let (fall, rise) = (count("fall", findings)?, count("rise", findings)?);
    let errors_before = findings.iter().count();
    let at = |key: &str| mapping.get(key).map_or(&node.at, |value| &value.at);
    if !(Duration::from_millis(50)..=Duration::from_secs(86_400)).contains(&every) {
        findings.error(at("every"), "every: 50ms to 24h");
    }
    // The server listens after one attempt at everything, and a reload waits for one at what is new.
    if timeout > Duration::from_secs(60) {
        findings.error(at("timeout"), "timeout: at most 60s");
    }
    if timeout > every {
        findings.error(at("timeout"), "timeout must not be longer than every");
    }
    (findings.iter().count() == errors_before).then_some(Check { kind, port, every, timeout, fall, rise })
}

fn read_http(node: &Node, more_keys: &[&str], findings: &mut Findings) -> Option<HttpCheck> {
    let mapping = node.mapping("a path, as in { path: /healthz }", findings)?;
    let keys: Vec<&str> = ["path", "host", "status", "body"].iter().chain(more_keys).copied().collect();
    mapping.know_only(&keys, findings);
    let text = |key: &str, findings: &mut Findings| {
        mapping.get(key).and_then(|node| Some((node.at.clone(), node.text("a text", findings)?.to_owned())))
    };
    let path = match text("path", findings) {
        None => "/".to_owned(),
        Some((at, path)) => {
            if !path.starts_with('/') || path.bytes().any(|octet| !(0x21..0x7f).contains(&octet)) {
                findings.error(&at, "a path begins with / and has no spaces, as in /healthz");
                return None;
            }
            path
        }
    };
    let host = match text("host", findings) {
        Some((at, host)) if host.parse::<hyper::http::uri::Authority>().is_err() => {
            findings.error(&at, format!("\"{host}\" is no host name"));
            return None;
        }
        host => host.map(|(_, host)| host),
    };
    let body = match text("body", findings) {
        Some((at, body)) if !(1..=LONGEST_BODY).contains(&body.len()) => {
            findings.error(&at, "body: a text of 1 to 65536 octets, as much as is read of an answer");
            return None;
        }
        body => body.map(|(_, body)| body),
    };
    let status = match mapping.get("status") {
        Some(node) if node.items().is_empty() => {
            findings.error(&node.at, "status: an empty list accepts no answer; leave the key out");
            return None;
        }
        None => vec![(200, 399)],
        Some(node) => node.items().iter().filter_map(|item| read_status(item, findings)).collect(),
    };
    Some(HttpCheck { path, host, status, body })
}

fn read_status(node: &Node, findings: &mut Findings) -> Option<(u16, u16)> {
    let text = node.text("a status such as 200 or 200-399", findings)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            findings.error(&node.at, format!("\"{text}\" is no status such as 200 or 200-399"));
            None
        }
    }
}

fn read_tls(node: &Node, findings: &mut Findings) -> Option<TlsCheck> {
    let mapping = node.mapping("a path", findings)?;
    let sni = match mapping.get("sni").and_then(|node| Some((node, node.text("a host name", findings)?))) {
        Some((node, name)) if ServerName::try_from(name).is_err() => {
            findings.error(&node.at, format!("\"{name}\" is no host name"));
            return None;
        }
        sni => sni.map(|(_, name)| name.to_owned()),
    };
    let verify = mapping.get("verify").map_or(Some(true), |node| node.boolean(findings))?;
    let ca = match mapping.get("ca") {
        None => None,
        Some(node) => {
            let path = Path::new(node.text("a PEM file", findings)?);
            let folder = node.at.source.path.parent().unwrap_or(Path::new(""));
            let path = folder.join(path);
            let fault = match path.is_file() {
                true => read_roots(&path).err(),
                false => Some(format!("there is no file {}", path.display())),
            };
            if let Some(fault) = fault {
                findings.error(&node.at, fault);
            }
            Some(path)
        }
    };
    Some(TlsCheck { sni, verify, ca })
}
