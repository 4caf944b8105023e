//! The server's own query log: a line of JSON for each query; see `docs/operation.md`.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{Question, Questions, client_subnet};
use crate::wire::{Name, number};

/// Octets of a line: a name of 255 octets, each written as `\\000`, and all the rest.
const LONGEST_LINE: usize = 4096;

/// What says what was asked, and by whom.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    client: Cow<'a, str>,
    subnet: Option<Cow<'a, str>>,
    qname: Option<Cow<'a, str>>,
    qtype: Option<Cow<'a, str>>,
}

pub(super) fn read(file: &mut impl BufRead, questions: &mut Questions<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.take(LONGEST_LINE as u64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if !line.ends_with(b"\n") && line.len() == LONGEST_LINE {
            questions.counts.unreadable += 1;
            skip_line(file)?;
            continue;
        }
        read_line(&line, questions);
    }
    if questions.counts.queries == 0 && questions.counts.unreadable > 0 {
        return Err(io::Error::other(
            "no query stands in it: a query log of this server, a capture (pcap, pcapng) or a dnstap file is expected",
        ));
    }
    Ok(())
}

/// Takes one line, with or without its end. Nothing is taken from an empty one.
pub(super) fn read_line(line: &[u8], questions: &mut Questions<'_>) {
    let line = line.trim_ascii();
    match questions.question.read_line(line) {
        _ if line.is_empty() => {}
        Some(()) => questions.hand_on(),
        None => questions.counts.unreadable += 1,
    }
}

fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    let mut rest = Vec::new();
    loop {
        rest.clear();
        let count = file.take(LONGEST_LINE as u64).read_until(b'\n', &mut rest)?;
        if count == 0 || rest.ends_with(b"\n") {
            return Ok(());
        }
    }
}

impl Question {
    /// None if no query can be told from it.
    fn read_line(&mut self, line: &[u8]) -> Option<()> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let client: IpNetwork = line.client.parse().ok()?;
        let subnet = line.subnet.map(|subnet| subnet.parse::<IpNetwork>()).transpose().ok()?;
        let qname = Name::parse(&line.qname?, None).ok()?;
        self.qname.read(qname.wire())?;
        self.qtype = line.qtype?.parse().ok()?;
        // A log does not tell the class: those that are not IN get the same whatever zones there are.
        self.qclass = number::IN;
        self.source = client.network();
        self.subnet = subnet.as_ref().map(client_subnet);
        Some(())
    }
}
