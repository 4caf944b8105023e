//! Wire format -> [`Query`]: header, question, EDNS. Reads once, forward, and keeps nothing that it does not need.
//!
//! Whatever is wrong with a message is a value in the query, not an error: the answer to a broken message
//! still repeats what could be read of it (RFC 6891 7: else the asker concludes that we have no EDNS).

use crate::nameserver::response::Rcode;
use crate::wire::{Qname, Rtype, number};

/// Octets of a message before its question (RFC 1035 4.1.1).
pub const HEADER_LENGTH: usize = 12;

/// A message that is no response, as far as it could be read.
#[derive(Debug)]
pub struct Query<'a> {
    bytes: &'a [u8],
    /// The octets of the question, when there was exactly one and it could be read.
    pub question: Option<Question>,
    /// What the OPT record said, when there was one and it could be read.
    pub edns: Option<Edns>,
    /// What must be answered because of the message alone.
    pub fault: Option<Rcode>,
    /// Octets after the last record: answered as usual, and counted.
    pub has_trailing_octets: bool,
}

/// The one question of a query; its name is in the [`Qname`] that was filled.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Octets of QNAME in the message, from offset 12.
    pub name_length: usize,
    /// QTYPE.
    pub qtype: Rtype,
    /// QCLASS.
    pub qclass: u16,
}

/// What an OPT record says (RFC 6891 6.1).
#[derive(Clone, Copy, Debug)]
pub struct Edns {
    /// The largest UDP payload that the asker takes.
    pub udp_payload: u16,
    /// EDNS version.
    pub version: u8,
    /// DO.
    pub dnssec_ok: bool,
    /// The first client subnet option, if it is well-formed.
    pub client_subnet: Option<ClientSubnet>,
}

/// A well-formed client subnet option of a query (RFC 7871 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// 1 IPv4, 2 IPv6, 0 only with a source prefix-length of 0.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH.
    pub source_prefix_length: u8,
    /// ADDRESS, zero-filled.
    pub address: [u8; 16],
}

impl ClientSubnet {
    /// Octets of ADDRESS in the option.
    #[must_use]
    pub fn address_length(&self) -> usize {
        usize::from(self.source_prefix_length).div_ceil(8)
    }
}

const OPT_CLIENT_SUBNET: u16 = 8;

impl<'a> Query<'a> {
    /// Reads a message and its QNAME. None for what must not be answered at all: less than a header, or a
    /// response, however broken; two servers that answer each other's errors never stop.
    #[inline]
    pub fn read(bytes: &'a [u8], qname: &mut Qname) -> Option<Query<'a>> {
        if bytes.len() < HEADER_LENGTH || bytes[2] & 0x80 != 0 {
            return None;
        }
        let mut query = Query { bytes, question: None, edns: None, fault: None, has_trailing_octets: false };
        query.fault = query.read_body(qname).err();
        if query.opcode() != 0 {
            query.fault = Some(Rcode::NOTIMP);
        } else if query.fault.is_none() && query.edns.is_some_and(|edns| edns.version > 0) {
            query.fault = Some(Rcode::BADVERS);
        }
        Some(query)
    }

    /// OPCODE.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.bytes[2] >> 3 & 0x0f
    }

    /// The header as it came.
    #[must_use]
    pub fn header(&self) -> &'a [u8] {
        &self.bytes[..HEADER_LENGTH]
    }

    /// The question section as it came, QNAME's case and all; empty if it could not be read.
    #[must_use]
    pub fn question_octets(&self) -> &'a [u8] {
        let length = self.question.map_or(0, |question| question.name_length + 4);
        &self.bytes[HEADER_LENGTH..HEADER_LENGTH + length]
    }

    fn read_body(&mut self, qname: &mut Qname) -> Result<(), Rcode> {
        let mut reader = Reader { bytes: self.bytes, at: HEADER_LENGTH };
        if self.count(4) != 1 {
            return Err(Rcode::FORMERR);
        }
        let question = reader.question(qname).ok_or(Rcode::FORMERR)?;
        self.question = Some(question);
        // A count promises records; each is at least 11 octets, so the message's end bounds the loops.
        for _ in 0..u32::from(self.count(6)) + u32::from(self.count(8)) {
            let record = reader.record().ok_or(Rcode::FORMERR)?;
            if record.rtype == Rtype::OPT {
                return Err(Rcode::FORMERR);
            }
        }
        for _ in 0..self.count(10) {
            let record = reader.record().ok_or(Rcode::FORMERR)?;
            if record.rtype != Rtype::OPT {
                continue;
            }
            // One OPT, at the root (RFC 6891 6.1.1, 6.1.2).
            if self.edns.is_some() || !record.is_at_root {
                self.edns.get_or_insert(Edns::bare(&record));
                return Err(Rcode::FORMERR);
            }
            let mut edns = Edns::bare(&record);
            let options = edns.read_options(record.rdata);
            self.edns = Some(edns);
            options.ok_or(Rcode::FORMERR)?;
        }
        self.has_trailing_octets = reader.at < self.bytes.len();
        Ok(())
    }

    fn count(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

impl Edns {
    fn bare(opt: &Record<'_>) -> Edns {
        let [_extended_rcode, version, flags, _] = opt.ttl;
        Edns { udp_payload: opt.class, version, dnssec_ok: flags & 0x80 != 0, client_subnet: None }
    }

    /// None when an option is cut short, or the client subnet is malformed.
    fn read_options(&mut self, mut octets: &[u8]) -> Option<()> {
        // Versions above 0 may mean anything by their options: BADVERS, whatever they are (RFC 6891 6.1.3).
        if self.version > 0 {
            return Some(());
        }
        let mut seen_client_subnet = false;
        while !octets.is_empty() {
            let (head, rest) = octets.split_at_checked(4)?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (value, rest) = rest.split_at_checked(length)?;
            octets = rest;
            if u16::from_be_bytes([head[0], head[1]]) == OPT_CLIENT_SUBNET && !seen_client_subnet {
                seen_client_subnet = true;
                self.client_subnet = Some(read_client_subnet(value)?);
            }
        }
        Some(())
    }
}

/// A client subnet option's value, none if malformed (RFC 7871 6 and 7.1.2; meaning 1).
pub fn read_client_subnet(value: &[u8]) -> Option<ClientSubnet> {
    let (head, octets) = value.split_at_checked(4)?;
    let family = u16::from_be_bytes([head[0], head[1]]);
    let (source_prefix_length, scope_prefix_length) = (head[2], head[3]);
    let longest = match family {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return None,
    };
    let well_formed = source_prefix_length <= longest
        && scope_prefix_length == 0
        && octets.len() == usize::from(source_prefix_length).div_ceil(8);
    if !well_formed {
        return None;
    }
    let mut address = [0; 16];
    address[..octets.len()].copy_from_slice(octets);
    let bits_beyond = u128::from_be_bytes(address).checked_shl(u32::from(source_prefix_length)).unwrap_or(0);
    (bits_beyond == 0).then_some(ClientSubnet { family, source_prefix_length, address })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct Record<'a> {
    is_at_root: bool,
    rtype: Rtype,
    class: u16,
    ttl: [u8; 4],
    rdata: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn question(&mut self, qname: &mut Qname) -> Option<Question> {
        qname.read(&self.bytes[self.at..])?;
        let name_length = qname.wire().len();
        self.at += name_length;
        let fixed = self.take(4)?;
        let qtype = Rtype(u16::from_be_bytes([fixed[0], fixed[1]]));
        Some(Question { name_length, qtype, qclass: u16::from_be_bytes([fixed[2], fixed[3]]) })
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let is_at_root = self.bytes.get(self.at) == Some(&0);
        self.skip_name()?;
        let fixed = self.take(10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        Some(Record {
            is_at_root,
            rtype: Rtype(u16::from_be_bytes([fixed[0], fixed[1]])),
            class: u16::from_be_bytes([fixed[2], fixed[3]]),
            ttl: [fixed[4], fixed[5], fixed[6], fixed[7]],
            rdata: self.take(length)?,
        })
    }

    /// Over a name, which a pointer ends; where it points to is nobody's business here.
    fn skip_name(&mut self) -> Option<()> {
        let start = self.at;
        loop {
            let length = *self.bytes.get(self.at)?;
            match length {
                0 => {
                    self.at += 1;
                    return Some(());
                }
                1..=63 => self.at += 1 + usize::from(length),
                0xc0.. => {
                    self.at += 2;
                    return (self.at <= self.bytes.len()).then_some(());
                }
                _ => return None,
            }
            if self.at - start > crate::wire::name::LONGEST {
                return None;
            }
        }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }
}

impl Question {
    /// What must be answered because of QTYPE and QCLASS alone, whatever the name.
    #[must_use]
    pub fn fault(&self, over_udp: bool) -> Option<Rcode> {
        match self.qtype {
            // These never are questions (RFC 6891 6.1.1, RFC 8945 5, RFC 2930 2).
            Rtype::OPT | Rtype::TSIG | Rtype::TKEY => Some(Rcode::FORMERR),
            // Transfers need TCP (RFC 5936 4.2); IXFR over UDP is allowed to be refused.
            Rtype::AXFR if over_udp => Some(Rcode::FORMERR),
            Rtype::AXFR | Rtype::IXFR => Some(Rcode::REFUSED),
            _ if self.qclass != number::IN => Some(Rcode::REFUSED),
            _ => None,
        }
    }
}
