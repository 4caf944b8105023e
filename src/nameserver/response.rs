//! Sections, flags, OPT, truncation -> wire.
//!
//! A [`Response`] is written once, forward, into the caller's buffer: header and question first, then records
//! copied from pieces that were compiled at load. Room for the OPT record is kept back from the start, so that a
//! response to a query with EDNS never loses its OPT to truncation.

use crate::nameserver::query::{ClientSubnet, Edns, HEADER_LENGTH, Query};
use crate::site::compile::{CompiledService, SiteRecord};
use crate::wire::{Rtype, number};
use crate::zone::Zone;
use crate::zone::tree::{Piece, Rrset};

/// RCODE with its upper bits (RFC 6891 6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub u16);

#[allow(missing_docs)] // IANA's mnemonics
impl Rcode {
    pub const NOERROR: Rcode = Rcode(0);
    pub const FORMERR: Rcode = Rcode(1);
    pub const SERVFAIL: Rcode = Rcode(2);
    pub const NXDOMAIN: Rcode = Rcode(3);
    pub const NOTIMP: Rcode = Rcode(4);
    pub const REFUSED: Rcode = Rcode(5);
    pub const YXDOMAIN: Rcode = Rcode(6);
    pub const BADVERS: Rcode = Rcode(16);
}

/// INFO-CODE of an extended error (RFC 8914 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedError(pub u16);

#[allow(missing_docs)] // IANA's names
impl ExtendedError {
    pub const BLOCKED: ExtendedError = ExtendedError(15);
    pub const NOT_AUTHORITATIVE: ExtendedError = ExtendedError(20);
    pub const INVALID_DATA: ExtendedError = ExtendedError(24);
}

/// What fits into a UDP response without EDNS (RFC 1035 2.3.4).
pub const PLAIN_UDP_PAYLOAD: u16 = 512;
/// What we send over UDP at most, and say that we take: it passes every path unfragmented (DNS Flag Day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

/// Flags in the third octet of the header.
const QR: u8 = 0x80;
const OPCODE_AND_RD: u8 = 0x79;
const AA: u8 = 0x04;
const TC: u8 = 0x02;

/// OPT without options: root, type, class, TTL, RDLENGTH.
const OPT_LENGTH: usize = 11;
const DO: u8 = 0x80;

/// Where a name stands in the message; an RRset's owner points at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamePosition(pub usize);

impl NamePosition {
    /// QNAME's.
    pub const QNAME: NamePosition = NamePosition(HEADER_LENGTH);

    fn pointer(self) -> [u8; 2] {
        (0xc000 | self.0 as u16).to_be_bytes()
    }
}

/// A section that records are put into; its value is where the header counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// ANSWER
    Answer = 6,
    /// AUTHORITY
    Authority = 8,
    /// ADDITIONAL
    Additional = 10,
}

/// Not enough room: the response must be truncated, or do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A response that is being written.
pub struct Response<'o> {
    out: &'o mut [u8],
    at: usize,
    /// Where records must end for the OPT to fit.
    limit: usize,
    /// The same with the OPT's room.
    end: usize,
    question_end: usize,
    apex: [u8; 2],
    edns: Option<Edns>,
    rcode: Rcode,
    scope: Option<u8>,
    extended_error: Option<ExtendedError>,
}

impl<'o> Response<'o> {
    /// Header and question. `longest` is what the transport takes; the buffer must be at least 512 octets.
    pub fn begin(query: &Query<'_>, longest: usize, out: &'o mut [u8]) -> Response<'o> {
        let question = query.question_octets();
        let header = query.header();
        let question_end = HEADER_LENGTH + question.len();
        out[..HEADER_LENGTH].fill(0);
        out[..2].copy_from_slice(&header[..2]);
        out[2] = QR | header[2] & OPCODE_AND_RD;
        out[5] = u8::from(!question.is_empty());
        out[HEADER_LENGTH..question_end].copy_from_slice(question);
        let end = longest.min(out.len());
        let opt = query.edns.map_or(0, |edns| {
            OPT_LENGTH + edns.client_subnet.map_or(0, |subnet| 8 + subnet.address_length())
        });
        Response {
            out,
            at: question_end,
            limit: end - opt,
            end,
            question_end,
            apex: [0xc0, 0],
            edns: query.edns,
            rcode: Rcode::NOERROR,
            scope: query.edns.and_then(|edns| edns.client_subnet).map(|_| 0),
            extended_error: None,
        }
    }

    /// Where names of the zone point: its apex is the end of QNAME.
    pub fn within(&mut self, zone: &Zone) {
        let apex = self.question_end - 4 - zone.apex().wire().len();
        self.apex = NamePosition(apex).pointer();
    }

    /// Sets AA.
    pub fn set_authoritative(&mut self) {
        self.out[2] |= AA;
    }

    /// Clears AA.
    pub fn clear_authoritative(&mut self) {
        self.out[2] &= !AA;
    }

    /// Sets RCODE, upper bits included.
    pub fn set_rcode(&mut self, rcode: Rcode) {
        self.rcode = rcode;
    }

    /// Adds an extended error, where the asker has EDNS.
    pub fn set_extended_error(&mut self, error: ExtendedError) {
        self.extended_error = Some(error);
    }

    /// Sets SCOPE PREFIX-LENGTH, where the query carries a client subnet; otherwise nothing is sent.
    pub fn set_scope(&mut self, scope: u8) {
        self.scope = self.scope.map(|_| scope);
    }

    /// Drops all records, and says so by TC.
    pub fn truncate(&mut self) {
        self.at = self.question_end;
        self.out[6..HEADER_LENGTH].fill(0);
        self.mark_truncated();
    }

    /// Says by TC that something that belongs here did not fit.
    pub fn mark_truncated(&mut self) {
        self.out[2] |= TC;
    }

    /// Where the next record's RDATA will stand: a CNAME's target, which the next owner points at.
    #[must_use]
    pub fn next_rdata(&self) -> NamePosition {
        NamePosition(self.at + 12)
    }

    /// An RRset under an owner that stands elsewhere in the message.
    #[inline]
    pub fn push_rrset(
        &mut self,
        section: Section,
        zone: &Zone,
        rrset: &Rrset,
        owner: NamePosition,
    ) -> Result<(), Full> {
        let start = self.at;
        self.push_piece(section, zone, rrset.piece())?;
        if owner != NamePosition::QNAME {
            self.set_owners(start, owner);
        }
        Ok(())
    }

    /// The zone's SOA, as negative answers carry it (RFC 2308 3).
    pub fn push_negative_soa(&mut self, zone: &Zone, ttl: u32) -> Result<(), Full> {
        let start = self.at;
        let soa = zone.soa();
        self.push_piece(Section::Authority, zone, soa.piece())?;
        self.out[start..start + 2].copy_from_slice(&self.apex);
        self.out[start + 6..start + 10].copy_from_slice(&ttl.to_be_bytes());
        Ok(())
    }

    /// Records that bring their owners along.
    #[inline]
    pub fn push_piece(&mut self, section: Section, zone: &Zone, piece: Piece) -> Result<(), Full> {
        let (octets, pointers) = zone.piece(piece);
        let start = self.push(octets)?;
        for offset in pointers.chunks_exact(2) {
            let at = start + usize::from(u16::from_be_bytes([offset[0], offset[1]]));
            self.out[at..at + 2].copy_from_slice(&self.apex);
        }
        self.count(section, piece.record_count());
        Ok(())
    }

    /// One record of a site.
    #[inline]
    pub fn push_site_record(
        &mut self,
        service: &CompiledService,
        record: &SiteRecord,
        ttl: u32,
        owner: NamePosition,
    ) -> Result<(), Full> {
        let start = self.push(service.octets(record))?;
        self.out[start..start + 2].copy_from_slice(&owner.pointer());
        self.out[start + 6..start + 10].copy_from_slice(&ttl.to_be_bytes());
        self.count(Section::Answer, 1);
        Ok(())
    }

    /// A CNAME made from a DNAME (RFC 6672 3.1): its TTL is the DNAME's.
    pub fn push_synthesized_cname(
        &mut self,
        owner: NamePosition,
        ttl: u32,
        target: &[u8],
    ) -> Result<(), Full> {
        self.push_record_head(owner, Rtype::CNAME, ttl, target.len())?;
        self.push(target)?;
        self.count(Section::Answer, 1);
        Ok(())
    }

    /// What ANY is answered with where there is nothing that may be shown to everybody (RFC 8482 4.2).
    pub fn push_minimal_any(&mut self, ttl: u32) -> Result<(), Full> {
        const RDATA: &[u8] = b"\x07RFC8482\x00";
        self.push_record_head(NamePosition::QNAME, Rtype::HINFO, ttl, RDATA.len())?;
        self.push(RDATA)?;
        self.count(Section::Answer, 1);
        Ok(())
    }

    /// Writes RCODE and OPT; gives the length of the whole.
    #[inline]
    pub fn finish(mut self) -> Finished {
        self.out[3] = (self.rcode.0 & 0x0f) as u8;
        if let Some(edns) = self.edns {
            self.push_opt(&edns);
        }
        Finished {
            length: self.at,
            rcode: self.rcode,
            scope: self.scope,
            is_truncated: self.out[2] & TC != 0,
            extended_error: self.extended_error,
        }
    }

    fn push_opt(&mut self, edns: &Edns) {
        self.limit = self.end;
        let start = self.at;
        let upper_rcode = (self.rcode.0 >> 4) as u8;
        let flags = if edns.dnssec_ok { DO } else { 0 };
        let [size_high, size_low] = UDP_PAYLOAD.to_be_bytes();
        let _ = self.push(&[0, 0, Rtype::OPT.0 as u8, size_high, size_low, upper_rcode, 0, flags, 0, 0, 0]);
        if let (Some(subnet), Some(scope)) = (edns.client_subnet, self.scope) {
            self.push_client_subnet(&subnet, scope);
        }
        if let Some(ExtendedError(code)) = self.extended_error {
            let [high, low] = code.to_be_bytes();
            // Where it does not fit, the RCODE has to do.
            let _ = self.push(&[0, 15, 0, 2, high, low]);
        }
        let length = (self.at - start - OPT_LENGTH) as u16;
        self.out[start + 9..start + 11].copy_from_slice(&length.to_be_bytes());
        self.count(Section::Additional, 1);
    }

    /// Family, source prefix-length and address as they came (RFC 7871 7.2.1).
    fn push_client_subnet(&mut self, subnet: &ClientSubnet, scope: u8) {
        let length = subnet.address_length();
        let [family_high, family_low] = subnet.family.to_be_bytes();
        let _ = self.push(&[
            0,
            8,
            0,
            4 + length as u8,
            family_high,
            family_low,
            subnet.source_prefix_length,
            scope,
        ]);
        let _ = self.push(&subnet.address[..length]);
    }

    fn push_record_head(
        &mut self,
        owner: NamePosition,
        rtype: Rtype,
        ttl: u32,
        rdata_length: usize,
    ) -> Result<(), Full> {
        if self.at + 12 + rdata_length > self.limit {
            return Err(Full);
        }
        self.push(&owner.pointer())?;
        self.push(&rtype.0.to_be_bytes())?;
        self.push(&number::IN.to_be_bytes())?;
        self.push(&ttl.to_be_bytes())?;
        self.push(&(rdata_length as u16).to_be_bytes()).map(|_| ())
    }

    /// Points the owners of all records from `start` on at a name.
    #[cold]
    fn set_owners(&mut self, start: usize, owner: NamePosition) {
        let mut at = start;
        while at < self.at {
            self.out[at..at + 2].copy_from_slice(&owner.pointer());
            at += 12 + usize::from(u16::from_be_bytes([self.out[at + 10], self.out[at + 11]]));
        }
    }

    #[inline]
    fn push(&mut self, octets: &[u8]) -> Result<usize, Full> {
        let start = self.at;
        let end = start + octets.len();
        if end > self.limit {
            return Err(Full);
        }
        self.out[start..end].copy_from_slice(octets);
        self.at = end;
        Ok(start)
    }

    fn count(&mut self, section: Section, records: u16) {
        let at = section as usize;
        let sum = u16::from_be_bytes([self.out[at], self.out[at + 1]]).saturating_add(records);
        self.out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// What a finished response tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// Octets.
    pub length: usize,
    /// RCODE.
    pub rcode: Rcode,
    /// SCOPE PREFIX-LENGTH, where a client subnet is echoed.
    pub scope: Option<u8>,
    /// TC.
    pub is_truncated: bool,
    /// Its extended error, if any.
    pub extended_error: Option<ExtendedError>,
}
