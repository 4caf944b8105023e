//! What the parent's servers say of a zone, held against what the zone says: they are two, and people change one of them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::finding::Findings;
use crate::health::board::Board;
use crate::reload::Answering;
use crate::reload::expect::ask;
use crate::snapshot::Snapshot;
use crate::wire::message::{Message, Record, query, rcode_name};
use crate::wire::{Name, Rtype, rdata};

/// For one answer; there are three attempts.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;

/// Asks each of the parent's servers for each zone.
#[must_use]
pub fn look(servers: &[SocketAddr], zones: &[Answering], snapshot: &Snapshot, board: &Board) -> Findings {
    let mut findings = Findings::new();
    for zone in zones.iter().filter(|zone| zone.zone.is_some()) {
        let own = Own { zone: &zone.name, snapshot, board };
        for server in servers {
            match (ask_server(*server, &zone.name, Rtype::NS), ask_server(*server, &zone.name, Rtype::DS)) {
                (Ok(names), Ok(digests)) => own.compare(*server, &names, &digests, &zone.path, &mut findings),
                (Err(error), _) | (_, Err(error)) => {
                    findings.note(
                        &zone.path,
                        format!("{server} does not say how {} is delegated: {error}", zone.name),
                    );
                }
            }
        }
    }
    findings
}

/// The zone's own side.
struct Own<'a> {
    zone: &'a Name,
    snapshot: &'a Snapshot,
    board: &'a Board,
}

impl Own<'_> {
    fn compare(
        &self,
        server: SocketAddr,
        names: &Message,
        digests: &Message,
        path: &Path,
        findings: &mut Findings,
    ) {
        let zone = self.zone;
        let delegated: BTreeSet<String> = data(names, zone, Rtype::NS).collect();
        let own: BTreeSet<String> =
            self.ask(zone, Rtype::NS).iter().flat_map(|message| data(message, zone, Rtype::NS)).collect();
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        if delegated.is_empty() {
            let text = format!(
                "{server} does not delegate {zone} ({}): nobody who comes from there finds it; have {} entered there",
                rcode_name(names.rcode()),
                list(&own)
            );
            findings.unreadable(path, text);
            return;
        }
        let more: BTreeSet<String> = delegated.difference(&own).cloned().collect();
        if !more.is_empty() {
            let text = format!(
                "{server} delegates {zone} to {}, of which the zone's own NS records say nothing; have it removed there, or add it here",
                list(&more)
            );
            findings.note(path, text);
        }
        let fewer: BTreeSet<String> = own.difference(&delegated).cloned().collect();
        if !fewer.is_empty() {
            let text = format!(
                "{server} does not know of {}, which the zone's own NS records name: whoever comes anew never asks it; have it entered there",
                list(&fewer)
            );
            findings.note(path, text);
        }
        for name in &delegated {
            self.compare_glue(server, names, name, path, findings);
        }
        let is_signed = self.ask(zone, Rtype::DNSKEY).is_some_and(|message| !message.answers().is_empty());
        if data(digests, zone, Rtype::DS).next().is_some() && !is_signed {
            let text = format!(
                "{server} has a DS record for {zone}, which is not signed: validating resolvers refuse all of it; have the DS removed there"
            );
            findings.unreadable(path, text);
        }
    }

    fn compare_glue(
        &self,
        server: SocketAddr,
        names: &Message,
        name: &str,
        path: &Path,
        findings: &mut Findings,
    ) {
        let Ok(host) = Name::parse(name, None) else { return };
        // Of others' names the parent need not know.
        if !host.is_at_or_below(self.zone) {
            return;
        }
        let glue: BTreeSet<String> = [Rtype::A, Rtype::AAAA]
            .into_iter()
            .flat_map(|rtype| data(names, &host, rtype).collect::<Vec<_>>())
            .collect();
        let own: BTreeSet<String> = [Rtype::A, Rtype::AAAA]
            .into_iter()
            .filter_map(|rtype| Some((rtype, self.ask(&host, rtype)?)))
            .flat_map(|(rtype, message)| data(&message, &host, rtype).collect::<Vec<_>>())
            .collect();
        if glue == own || own.is_empty() {
            return;
        }
        let list = |some: &BTreeSet<String>| match some.len() {
            0 => "no address".to_owned(),
            _ => some.iter().cloned().collect::<Vec<_>>().join(", "),
        };
        let text = format!(
            "{server} has {} for {host}, and the zone has {}: queries go to the former; have the glue changed there",
            list(&glue),
            list(&own)
        );
        findings.unreadable(path, text);
    }

    fn ask(&self, name: &Name, rtype: Rtype) -> Option<Message> {
        let question = query(name, rtype, None);
        ask(self.snapshot, self.board, IpAddr::V4(Ipv4Addr::LOCALHOST), &question).map(|(_, message)| message)
    }
}

/// RDATA of a name's records of one type, wherever in a message: a referral has them in other sections than an answer. In lower case, for
/// names are the same in any.
fn data<'m>(message: &'m Message, owner: &'m Name, rtype: Rtype) -> impl Iterator<Item = String> + 'm {
    let records = message.sections.iter().flatten();
    let is_sought = move |record: &&Record| record.rtype == rtype && record.owner == *owner;
    records.filter(is_sought).map(|record| rdata::print(record.rtype, &record.rdata).to_lowercase())
}

fn ask_server(server: SocketAddr, name: &Name, rtype: Rtype) -> io::Result<Message> {
    let local =
        SocketAddr::new(if server.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) }, 0);
    let socket = UdpSocket::bind(local)?;
    socket.connect(server)?;
    let mut question = query(name, rtype, None);
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    question[..2].copy_from_slice(&id);
    let mut response = [0; 4096];
    for _ in 0..ATTEMPTS {
        socket.send(&question)?;
        let end = Instant::now() + PATIENCE;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            let length = match socket.recv(&mut response) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break;
                }
                Err(error) => return Err(error),
            };
            if let Some(message) = Message::read(&response[..length]).filter(|_| response[..2] == id) {
                return Ok(message);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
}
