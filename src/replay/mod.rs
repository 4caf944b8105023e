//! Queries that real clients sent, read from a file: what they are told, and what they would be told.
//!
//! ```text
//!   file         told apart by its first octets; gzip is taken off
//!     query_log  lines of JSON, as the server writes them
//!     capture    pcap and pcapng -> packet: link, IP, UDP or TCP -> a message to port 53
//!     dnstap     frames of protobuf -> a message
//!   Question     what matters of a query: name, type, class, who asks, for which subnet
//!   compare      two sides answer it, and the octets are compared
//!   names        which names differ most, and how
//!   follow       the same of a query log that is still written
//! ```
//!
//! A question is answered as soon as it is read, and nothing of it is kept. To answer it on two sides takes about as long as to find
//! out whether the same was asked before; so equal questions are not gathered, the source address counts as it is written
//! (a `subnet` rule or a network of a database may be finer than a /24), and memory does not grow with the file.
//!
//! What is in a file may have been sent by anybody: what is no query is counted, and ends nothing.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};

use flate2::bufread::MultiGzDecoder;
use ipnetwork::IpNetwork;

use crate::nameserver::edns::{CLIENT_SUBNET, ClientSubnet};
use crate::nameserver::query::{HEADER_LENGTH, Query};
use crate::wire::{Qname, Rtype, number};

mod capture;
pub mod compare;
mod dnstap;
pub mod follow;
pub mod names;
mod packet;
mod query_log;

/// Octets of a file that are read at once.
const BUFFER: usize = 256 << 10;
/// Octets that tell what a file is.
const HEAD: u64 = 12;
/// Begins a file of gzip (RFC 1952 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What matters of a query.
#[derive(Clone, Debug)]
pub struct Question {
    /// QNAME, in lower case.
    pub qname: Qname,
    /// QTYPE.
    pub qtype: Rtype,
    /// QCLASS.
    pub qclass: u16,
    /// Who asks; of a query log the first address of the block.
    pub source: IpAddr,
    /// For whom, if the asker told.
    pub subnet: Option<ClientSubnet>,
}

/// What was in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries.
    pub queries: u64,
    /// What should be a query and is none: broken, not whole, or cut into segments.
    pub unreadable: u64,
    /// What is no query and is not meant to be one: responses, packets to other ports.
    pub others: u64,
    /// The file ends within something, or goes on with what it cannot hold: what is behind that was not read.
    pub is_cut_off: bool,
}

/// Hands on the questions of a file to its end, in their order.
///
/// # Errors
/// If it cannot be read, or is none of the files that are known here.
pub fn read(file: impl Read, each: &mut dyn FnMut(&Question)) -> io::Result<Counts> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    let head = head_of(&mut file)?;
    let mut questions = Questions::new(each);
    if head.starts_with(&GZIP) {
        let mut plain = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(head.chain(file)));
        let read = head_of(&mut plain).and_then(|head| read_plain(&head, plain, &mut questions));
        match read.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                questions.counts.is_cut_off = true;
            }
            _ => read?,
        }
    } else {
        read_plain(&head, file, &mut questions)?;
    }
    Ok(questions.counts)
}

fn head_of(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

fn read_plain(head: &[u8], rest: impl BufRead, questions: &mut Questions<'_>) -> io::Result<()> {
    let mut file = head.chain(rest);
    if capture::is_pcap(head) {
        capture::read_pcap(&mut file, questions)
    } else if capture::is_pcapng(head) {
        capture::read_pcapng(&mut file, questions)
    } else if dnstap::is_dnstap(head) {
        dnstap::read(&mut file, questions)
    } else {
        query_log::read(&mut file, questions)
    }
}

/// So many octets of a stream; false if it ends before them.
fn fill(stream: &mut impl Read, octets: &mut Vec<u8>, length: usize) -> io::Result<bool> {
    octets.clear();
    stream.take(length as u64).read_to_end(octets)?;
    Ok(octets.len() == length)
}

/// Where questions go, and what was found so far.
struct Questions<'a> {
    each: &'a mut dyn FnMut(&Question),
    question: Question,
    counts: Counts,
}

impl<'a> Questions<'a> {
    fn new(each: &'a mut dyn FnMut(&Question)) -> Questions<'a> {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let question = Question {
            qname: Qname::default(),
            qtype: Rtype::A,
            qclass: number::IN,
            source: nowhere,
            subnet: None,
        };
        Questions { each, question, counts: Counts::default() }
    }

    /// Takes a message that somebody sent to a server.
    fn message(&mut self, bytes: &[u8], source: IpAddr) {
        let is_response = bytes.len() >= HEADER_LENGTH && Query::is_none(bytes);
        if is_response {
            self.counts.others += 1;
        } else if self.question.read(bytes, source).is_some() {
            self.hand_on();
        } else {
            self.counts.unreadable += 1;
        }
    }

    fn hand_on(&mut self) {
        self.counts.queries += 1;
        (self.each)(&self.question);
    }
}

impl Question {
    /// Becomes that of a message; none, and nothing to rely on, if it is no well-formed query that asks for something.
    fn read(&mut self, bytes: &[u8], source: IpAddr) -> Option<()> {
        if Query::is_none(bytes) {
            return None;
        }
        let query = Query::read(bytes, &mut self.qname);
        let asked = query.question.filter(|_| query.fault.is_none())?;
        (self.qtype, self.qclass, self.source) = (asked.qtype, asked.qclass, source);
        self.subnet = query.edns.and_then(|edns| edns.client_subnet);
        Some(())
    }

    /// As a message, in place of what is there: with an OPT if there is a subnet, and with the ID 0.
    pub fn write(&self, message: &mut Vec<u8>) {
        const OPT_AND_OPTION: usize = 11 + 8;
        message.clear();
        message.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.subnet.is_some())]);
        message.extend_from_slice(self.qname.wire());
        message.extend_from_slice(&self.qtype.0.to_be_bytes());
        message.extend_from_slice(&self.qclass.to_be_bytes());
        let Some(subnet) = &self.subnet else { return };
        let octets = &subnet.address[..subnet.address_length().min(subnet.address.len())];
        let length = octets.len() as u16;
        message.reserve(OPT_AND_OPTION + octets.len());
        // The root, OPT, 1,232 octets, no flags.
        message.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
        message.extend_from_slice(&(8 + length).to_be_bytes());
        message.extend_from_slice(&CLIENT_SUBNET.to_be_bytes());
        message.extend_from_slice(&(4 + length).to_be_bytes());
        message.extend_from_slice(&subnet.family.to_be_bytes());
        message.extend_from_slice(&[subnet.source_prefix_length, 0]);
        message.extend_from_slice(octets);
    }
}

/// As a resolver would have sent it.
fn client_subnet(subnet: &IpNetwork) -> ClientSubnet {
    let mut address = [0; 16];
    let family = match subnet.network() {
        IpAddr::V4(v4) => {
            address[..4].copy_from_slice(&v4.octets());
            1
        }
        IpAddr::V6(v6) => {
            address = v6.octets();
            2
        }
    };
    ClientSubnet { family, source_prefix_length: subnet.prefix(), address }
}
