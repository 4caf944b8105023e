//! Wire format -> [`Query`]: header, question, EDNS. Reads once, forward, and keeps nothing that it does not need.
//!
//! Whatever is wrong with a message is a value in the query, not an error: the answer to a broken message
//! still repeats what could be read of it (RFC 6891 7: else the asker concludes that we have no EDNS).

use super::edns::Edns;
use super::response::Rcode;
use crate::wire::name::wire_length;
use crate::wire::{Qname, Rtype, number};

/// Octets of a message before its question (RFC 1035 4.1.1).
pub const HEADER_LENGTH: usize = 12;

/// A message that is no response, as far as it could be read.
#[derive(Debug)]
pub struct Query<'a> {
    bytes: &'a [u8],
    /// The question, when there was exactly one and it could be read.
    pub question: Option<Question>,
    /// What the OPT record said, when there was one and it could be read.
    pub edns: Option<Edns<'a>>,
    /// The signature, when there is one.
    pub tsig: Option<Tsig<'a>>,
    /// What must be answered because of the message alone.
    pub fault: Option<Rcode>,
    /// Octets after the last record: answered as usual, and counted.
    pub has_trailing_octets: bool,
    /// Records in the answer or authority section: the same.
    pub has_records: bool,
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

/// A transaction signature (RFC 8945 4.2), as far as it is needed to say that its key is not known here.
#[derive(Clone, Copy, Debug)]
pub struct Tsig<'a> {
    /// The key's name, uncompressed.
    pub key: &'a [u8],
    /// The algorithm's name, uncompressed.
    pub algorithm: &'a [u8],
    /// Time signed and fudge, as they came.
    pub time: &'a [u8],
    /// Original ID.
    pub original_id: &'a [u8],
}

impl<'a> Query<'a> {
    /// Whether a message must not be answered at all: less than a header, or a response, however broken; two servers that
    /// answer each other's errors never stop.
    #[inline]
    #[must_use]
    pub fn is_none(bytes: &[u8]) -> bool {
        bytes.len() < HEADER_LENGTH || bytes[2] & 0x80 != 0
    }

    /// Reads a message, which is at least a header, and its QNAME.
    #[inline]
    #[must_use]
    pub fn read(bytes: &'a [u8], qname: &mut Qname) -> Query<'a> {
        let mut query = Query {
            bytes,
            question: None,
            edns: None,
            tsig: None,
            fault: None,
            has_trailing_octets: false,
            has_records: false,
        };
        query.fault = query.read_body(qname).err();
        if query.opcode() != 0 {
            query.fault = Some(Rcode::NOTIMP);
        } else if query.fault.is_none() && query.edns.as_ref().is_some_and(|edns| edns.version > 0) {
            query.fault = Some(Rcode::BADVERS);
        }
        query
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

    /// Octets of the message.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The question section as it came, QNAME's case and all; empty if it could not be read.
    #[must_use]
    pub fn question_octets(&self) -> &'a [u8] {
        let length = self.question.map_or(0, |question| question.name_length + 4);
        &self.bytes[HEADER_LENGTH..HEADER_LENGTH + length]
    }

    fn read_body(&mut self, qname: &mut Qname) -> Result<(), Rcode> {
        let mut reader = Reader { rest: &self.bytes[HEADER_LENGTH..] };
        match self.count(4) {
            0 => {}
            1 => self.question = Some(reader.question(qname).ok_or(Rcode::FORMERR)?),
            _ => return Err(Rcode::FORMERR),
        }
        // What is wrong among the records does not end the reading: an OPT that is still to come is answered (RFC 6891 7).
        let mut fault = Ok(());
        // A count promises records; each is at least 11 octets, so the message's end bounds the loops.
        let records = u32::from(self.count(6)) + u32::from(self.count(8));
        for _ in 0..records {
            let record = reader.record().ok_or(Rcode::FORMERR)?;
            if matches!(record.rtype, Rtype::OPT | Rtype::TSIG) {
                fault = Err(Rcode::FORMERR);
            }
        }
        for _ in 0..self.count(10) {
            // A signature is the last record (RFC 8945 5.1).
            if self.tsig.take().is_some() {
                fault = Err(Rcode::FORMERR);
            }
            let record = reader.record().ok_or(Rcode::FORMERR)?;
            match record.rtype {
                Rtype::OPT => fault = fault.and(self.read_opt(&record)),
                Rtype::TSIG => match record.as_tsig() {
                    Some(tsig) => self.tsig = Some(tsig),
                    None => fault = Err(Rcode::FORMERR),
                },
                _ => {}
            }
        }
        fault?;
        self.has_trailing_octets = !reader.rest.is_empty();
        self.has_records = records > 0;
        // Without a question it can only be about a cookie (RFC 7873 5.4).
        let is_about_something =
            self.question.is_some() || self.edns.as_ref().is_some_and(|edns| edns.cookie.is_some());
        if is_about_something { Ok(()) } else { Err(Rcode::FORMERR) }
    }

    /// One OPT, at the root (RFC 6891 6.1.1, 6.1.2).
    fn read_opt(&mut self, record: &Record<'a>) -> Result<(), Rcode> {
        let mut edns = Edns::bare(record.class, record.ttl);
        if self.edns.is_some() || record.owner != [0] {
            self.edns.get_or_insert(edns);
            return Err(Rcode::FORMERR);
        }
        let options = edns.read_options(record.rdata);
        self.edns = Some(edns);
        options.ok_or(Rcode::FORMERR)
    }

    fn count(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

struct Record<'a> {
    /// As it stands in the message, pointers and all.
    owner: &'a [u8],
    rtype: Rtype,
    class: u16,
    ttl: [u8; 4],
    rdata: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn question(&mut self, qname: &mut Qname) -> Option<Question> {
        qname.read(self.rest)?;
        let name_length = qname.wire().len();
        let (_, rest) = self.rest.split_at_checked(name_length)?;
        // QTYPE, QCLASS.
        let (&[t0, t1, c0, c1], rest) = rest.split_first_chunk()?;
        self.rest = rest;
        let (qtype, qclass) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]));
        Some(Question { name_length, qtype: Rtype(qtype), qclass })
    }

    #[inline]
    fn record(&mut self) -> Option<Record<'a>> {
        let (owner, rest) = self.rest.split_at_checked(self.name_length()?)?;
        // TYPE, CLASS, TTL, RDLENGTH.
        let (&[t0, t1, c0, c1, ttl @ .., l0, l1], rest) = rest.split_first_chunk::<10>()?;
        let (rdata, rest) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
        self.rest = rest;
        let (rtype, class) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]));
        Some(Record { owner, rtype: Rtype(rtype), class, ttl, rdata })
    }

    /// Of the name that comes next. A pointer ends it; where that points to is nobody's business here.
    fn name_length(&self) -> Option<usize> {
        let mut at = 0;
        loop {
            match *self.rest.get(at)? {
                0 => return Some(at + 1),
                length @ 1..=63 => at += 1 + usize::from(length),
                0xc0.. => return Some(at + 2),
                _ => return None,
            }
            // There must be room for the root.
            if at >= crate::wire::name::LONGEST {
                return None;
            }
        }
    }
}

impl<'a> Record<'a> {
    /// None when it is malformed; its names must not be compressed (RFC 8945 4.2).
    fn as_tsig(&self) -> Option<Tsig<'a>> {
        wire_length(self.owner).filter(|length| *length == self.owner.len())?;
        let (algorithm, rest) = self.rdata.split_at_checked(wire_length(self.rdata)?)?;
        let (time, rest) = rest.split_at_checked(8)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (_mac, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (original_id, rest) = rest.split_at_checked(2)?;
        let (_error, rest) = rest.split_at_checked(2)?;
        let (length, other) = rest.split_first_chunk()?;
        let is_whole = other.len() == usize::from(u16::from_be_bytes(*length));
        is_whole.then_some(Tsig { key: self.owner, algorithm, time, original_id })
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
