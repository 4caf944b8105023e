//! Sections, flags, OPT, truncation -> wire.
//!
//! A [`Response`] is written once, forward, into the caller's buffer: header and question first, then records
//! copied from pieces that were compiled at load. Room for the OPT record is kept back from the start, so that a
//! response to a query with EDNS never loses its OPT to truncation.

use super::edns::{self, ClientSubnet};
use super::query::{HEADER_LENGTH, Query, Tsig};
use crate::policy::cookie::Standing;
use crate::site::compile::{CompiledService, HEAD, Hints, SiteRecord};
use crate::wire::{Rtype, number, rdata};
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
    pub const NOTAUTH: Rcode = Rcode(9);
    pub const BADVERS: Rcode = Rcode(16);
    pub const BADCOOKIE: Rcode = Rcode(23);
}

/// An extended error (RFC 8914): why, beside the RCODE, and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT, where the code alone says too little.
    pub text: &'static str,
}

#[allow(missing_docs)] // IANA's names
impl ExtendedError {
    /// All sites are down, and what is answered is better than nothing.
    pub const ALL_DOWN: ExtendedError = ExtendedError { code: 0, text: "all sites are down" };
    /// All sites are down, and the records kept for that are answered.
    pub const LAST_RESORT: ExtendedError = ExtendedError { code: 0, text: "all sites are down: last resort" };
    pub const BLOCKED: ExtendedError = ExtendedError { code: 15, text: "" };
    pub const NOT_AUTHORITATIVE: ExtendedError = ExtendedError { code: 20, text: "" };
    pub const INVALID_DATA: ExtendedError = ExtendedError { code: 24, text: "" };
}

/// What fits into a UDP response without EDNS (RFC 1035 2.3.4).
pub const PLAIN_UDP_PAYLOAD: u16 = 512;
/// Responses that only their length could tell apart are padded to a multiple of this (RFC 8467 4.1).
const PADDING_BLOCK: usize = 468;

/// An extended error without text.
const CODE_LENGTH: usize = 6;

/// Flags in the third octet of the header.
const QR: u8 = 0x80;
const OPCODE_AND_RD: u8 = 0x79;
const AA: u8 = 0x04;
const TC: u8 = 0x02;

/// With its text of an extended error a response is at most so many times as long as the query.
const TEXT_FACTOR: usize = 3;
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

/// How long a response may be, in octets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whatever it says.
    pub longest: usize,
    /// When it says that there is nothing.
    pub longest_negative: usize,
}

/// What the response's OPT holds, but for what comes about on the way.
#[derive(Clone, Copy, Debug)]
pub struct Opt<'a> {
    /// What we take over UDP.
    pub udp_payload: u16,
    /// DO, copied.
    pub dnssec_ok: bool,
    /// Echoed, with the scope.
    pub client_subnet: Option<ClientSubnet>,
    /// The client's part and ours.
    pub cookie: Option<[u8; 24]>,
    /// Who we are.
    pub nsid: Option<&'a [u8]>,
    /// Tenths of a second.
    pub keepalive: Option<u16>,
    /// Whether the serial of the zone that answers is asked for.
    pub has_zone_version: bool,
    /// Whether the response's length is to tell little.
    pub is_padded: bool,
}

impl Opt<'_> {
    /// Octets that are kept back for it.
    #[inline]
    fn room(&self) -> usize {
        OPT_LENGTH
            + self.client_subnet.as_ref().map_or(0, |subnet| 8 + subnet.address_length())
            + self.cookie.as_ref().map_or(0, |cookie| 4 + cookie.len())
            + self.nsid.map_or(0, |nsid| 4 + nsid.len())
            + self.keepalive.map_or(0, |_| 6)
            + if self.has_zone_version { 10 } else { 0 }
    }
}

/// A response that is being written.
pub struct Response<'o> {
    out: &'o mut [u8],
    at: usize,
    /// Where records must end for the OPT to fit.
    limit: usize,
    /// The same for a negative answer.
    negative_limit: usize,
    /// The same with the OPT's room.
    end: usize,
    /// The same for the text of an extended error, which is for people and never worth an amplification.
    text_end: usize,
    question_end: usize,
    apex: [u8; 2],
    rcode: Rcode,
    scope: u8,
    zone_version: Option<(u8, u32)>,
    extended_error: Option<ExtendedError>,
    unknown_key: Option<Tsig<'o>>,
    would_amplify: bool,
}

impl<'o> Response<'o> {
    /// Header and question; room is kept for the OPT that [`finish`](Response::finish) writes. The buffer must be at least 512
    /// octets.
    #[inline]
    pub fn begin(
        query: &Query<'_>,
        limits: Limits,
        opt: Option<&Opt<'_>>,
        out: &'o mut [u8],
    ) -> Response<'o> {
        let question = query.question_octets();
        let header = query.header();
        let question_end = HEADER_LENGTH + question.len();
        out[..HEADER_LENGTH].fill(0);
        out[..2].copy_from_slice(&header[..2]);
        out[2] = QR | header[2] & OPCODE_AND_RD;
        out[5] = u8::from(!question.is_empty());
        out[HEADER_LENGTH..question_end].copy_from_slice(question);
        let end = limits.longest.min(out.len());
        let room = opt.map_or(0, Opt::room);
        Response {
            out,
            at: question_end,
            limit: end.saturating_sub(room),
            negative_limit: limits.longest_negative.min(end).saturating_sub(room),
            end,
            text_end: end.min(TEXT_FACTOR * query.length()),
            question_end,
            apex: [0xc0, 0],
            rcode: Rcode::NOERROR,
            scope: 0,
            zone_version: None,
            extended_error: None,
            unknown_key: None,
            would_amplify: false,
        }
    }

    /// Where names of the zone point: its apex is the end of QNAME.
    pub fn within(&mut self, zone: &Zone) {
        self.zone_version = Some((zone.apex_labels() as u8, zone.serial()));
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

    /// RCODE, as it stands.
    #[inline]
    #[must_use]
    pub fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// Says nothing but that the address must prove itself: by the cookie that the response brings, to who has them
    /// (RFC 7873 5.2.3), else by TC, over TCP. Longer than the query only by our part of the cookie.
    #[cold]
    pub fn withhold(&mut self, standing: Standing) {
        self.truncate();
        if standing == Standing::Unproven {
            self.out[2] &= !TC;
            self.clear_authoritative();
            self.rcode = Rcode::BADCOOKIE;
        }
        self.scope = 0;
        self.zone_version = None;
        self.extended_error = None;
        self.unknown_key = None;
        self.would_amplify = false;
    }

    /// Adds an extended error, where the asker has EDNS.
    pub fn set_extended_error(&mut self, error: ExtendedError) {
        self.extended_error = Some(error);
    }

    /// Says that the key of a signature is not known here (RFC 8945 5.2.1).
    pub fn set_unknown_key(&mut self, tsig: &Tsig<'o>) {
        self.rcode = Rcode::NOTAUTH;
        self.unknown_key = Some(*tsig);
    }

    /// Sets SCOPE PREFIX-LENGTH; it is sent where the query carries a client subnet.
    pub fn set_scope(&mut self, scope: u8) {
        self.scope = scope;
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
        // Of a chain, the links are what was asked for, and would come with a good answer too.
        let links = start - self.question_end;
        // No room is kept back for it; without an OPT there is none.
        let code = self.extended_error.filter(|_| self.limit < self.end).map_or(0, |_| CODE_LENGTH);
        // Who may have all that fits does without the code rather than without the SOA.
        let is_bound = self.negative_limit < self.limit;
        if is_bound && self.at - links + code > self.negative_limit {
            self.would_amplify = true;
            return Err(Full);
        }
        self.out[start..start + 2].copy_from_slice(&self.apex);
        self.out[start + 6..start + 10].copy_from_slice(&ttl.to_be_bytes());
        Ok(())
    }

    /// Records that bring their owners along.
    #[inline]
    pub fn push_piece(&mut self, section: Section, zone: &Zone, piece: Piece) -> Result<(), Full> {
        if piece.record_count() == 0 {
            return Ok(());
        }
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
        section: Section,
        service: &CompiledService,
        record: &SiteRecord,
        ttl: u32,
        owner: NamePosition,
    ) -> Result<(), Full> {
        let start = self.push(service.octets(record))?;
        self.out[start..start + 2].copy_from_slice(&owner.pointer());
        self.out[start + 6..start + 10].copy_from_slice(&ttl.to_be_bytes());
        self.count(section, 1);
        Ok(())
    }

    /// One record of HTTPS or SVCB, with addresses of its site as hints.
    pub fn push_hinted_record<'r>(
        &mut self,
        service: &CompiledService,
        record: &SiteRecord,
        hints: Hints,
        addresses: &(impl Iterator<Item = &'r SiteRecord> + Clone),
        ttl: u32,
        owner: NamePosition,
    ) -> Result<(), Full> {
        let start = self.at;
        let octets = service.octets(record);
        let mut done = 0;
        for (key, at, rtype) in
            [(rdata::IPV4HINT, hints.v4_at, Rtype::A), (rdata::IPV6HINT, hints.v6_at, Rtype::AAAA)]
        {
            let is_of_family = |address: &&SiteRecord| service.octets(address)[2..4] == rtype.0.to_be_bytes();
            let family = addresses.clone().filter(is_of_family);
            let at = usize::from(at);
            let length: usize = family.clone().map(|address| service.octets(address).len() - HEAD).sum();
            if at == 0 || length == 0 {
                continue;
            }
            self.push(&octets[done..at])?;
            done = at;
            self.push(&key.to_be_bytes())?;
            self.push(&(length as u16).to_be_bytes())?;
            for address in family {
                self.push(&service.octets(address)[HEAD..])?;
            }
        }
        self.push(&octets[done..])?;
        let length = (self.at - start - HEAD) as u16;
        self.out[start..start + 2].copy_from_slice(&owner.pointer());
        self.out[start + 6..start + 10].copy_from_slice(&ttl.to_be_bytes());
        self.out[start + 10..start + 12].copy_from_slice(&length.to_be_bytes());
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

    /// One text in class CH, of at most 255 octets.
    pub fn push_chaos(&mut self, text: &str) {
        let text = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
        let start = self.at;
        if self.push_record_head(NamePosition::QNAME, Rtype::TXT, 0, 1 + text.len()).is_ok() {
            self.out[start + 4..start + 6].copy_from_slice(&number::CH.to_be_bytes());
            let _ = self.push(&[text.len() as u8]).and_then(|_| self.push(text));
            self.count(Section::Answer, 1);
            self.set_authoritative();
        }
    }

    /// Writes RCODE, OPT and TSIG; gives the length of the whole.
    #[inline]
    pub fn finish(&mut self, opt: Option<&Opt<'_>>) -> Finished {
        self.out[3] = (self.rcode.0 & 0x0f) as u8;
        if let Some(opt) = opt {
            self.push_opt(opt);
        }
        if let Some(tsig) = self.unknown_key {
            self.push_unknown_key(&tsig);
        }
        Finished {
            length: self.at,
            rcode: self.rcode,
            scope: opt.filter(|opt| opt.client_subnet.is_some()).map(|_| self.scope),
            is_truncated: self.out[2] & TC != 0,
            would_amplify: self.would_amplify,
            extended_error: self.extended_error,
        }
    }

    fn push_opt(&mut self, opt: &Opt<'_>) {
        self.limit = self.end;
        let start = self.at;
        let upper_rcode = (self.rcode.0 >> 4) as u8;
        let flags = if opt.dnssec_ok { DO } else { 0 };
        let [size_high, size_low] = opt.udp_payload.to_be_bytes();
        let _ = self.push(&[0, 0, Rtype::OPT.0 as u8, size_high, size_low, upper_rcode, 0, flags, 0, 0, 0]);
        if let Some(subnet) = &opt.client_subnet {
            self.push_client_subnet(subnet, self.scope);
        }
        if let Some(cookie) = &opt.cookie {
            self.push_option(edns::COOKIE, cookie);
        }
        if let Some(nsid) = opt.nsid {
            self.push_option(edns::NSID, nsid);
        }
        if let Some(keepalive) = opt.keepalive {
            self.push_option(edns::TCP_KEEPALIVE, &keepalive.to_be_bytes());
        }
        if let Some((labels, serial)) = self.zone_version.filter(|_| opt.has_zone_version) {
            let [a, b, c, d] = serial.to_be_bytes();
            // Type 0 is the SOA's serial (RFC 9660 2.1).
            self.push_option(edns::ZONE_VERSION, &[labels, 0, a, b, c, d]);
        }
        if let Some(error) = self.extended_error {
            self.push_extended_error(error);
        }
        if opt.is_padded {
            self.push_padding();
        }
        let length = (self.at - start - OPT_LENGTH) as u16;
        self.out[start + 9..start + 11].copy_from_slice(&length.to_be_bytes());
        self.count(Section::Additional, 1);
    }

    /// All of an option, or where it does not fit none of it.
    fn push_option(&mut self, code: u16, value: &[u8]) {
        if self.at + 4 + value.len() <= self.limit {
            let [code_high, code_low] = code.to_be_bytes();
            let [length_high, length_low] = (value.len() as u16).to_be_bytes();
            let _ = self.push(&[code_high, code_low, length_high, length_low]);
            let _ = self.push(value);
        }
    }

    /// Where it does not fit, the RCODE has to do.
    fn push_extended_error(&mut self, error: ExtendedError) {
        let text = if self.at + CODE_LENGTH + error.text.len() <= self.text_end { error.text } else { "" };
        if self.at + CODE_LENGTH + text.len() <= self.limit {
            self.push_option(edns::EXTENDED_ERROR, &error.code.to_be_bytes());
            let length_at = self.at - 4;
            self.out[length_at..length_at + 2].copy_from_slice(&(2 + text.len() as u16).to_be_bytes());
            let _ = self.push(text.as_bytes());
        }
    }

    fn push_padding(&mut self) {
        let padded = (self.at + 4).next_multiple_of(PADDING_BLOCK).min(self.limit);
        if let Some(length) = padded.checked_sub(self.at + 4) {
            let [code_high, code_low] = edns::PADDING.to_be_bytes();
            let [length_high, length_low] = (length as u16).to_be_bytes();
            let _ = self.push(&[code_high, code_low, length_high, length_low]);
            self.out[self.at..self.at + length].fill(0);
            self.at += length;
        }
    }

    /// An unsigned TSIG that says BADKEY (RFC 8945 5.2.1, 5.3.2).
    #[cold]
    fn push_unknown_key(&mut self, tsig: &Tsig<'_>) {
        const BADKEY: [u8; 2] = [0, 17];
        self.limit = self.end;
        let length = tsig.algorithm.len() + tsig.time.len() + 2 + tsig.original_id.len() + BADKEY.len() + 2;
        if self.at + tsig.key.len() + 10 + length > self.limit {
            return;
        }
        let [length_high, length_low] = (length as u16).to_be_bytes();
        let [class_high, class_low] = number::CLASS_ANY.to_be_bytes();
        let head = [0, Rtype::TSIG.0 as u8, class_high, class_low, 0, 0, 0, 0, length_high, length_low];
        let parts: [&[u8]; 8] =
            [tsig.key, &head, tsig.algorithm, tsig.time, &[0, 0], tsig.original_id, &BADKEY, &[0, 0]];
        for part in parts {
            let _ = self.push(part);
        }
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
    /// TC for its length beside the query's, and for nothing else.
    pub would_amplify: bool,
    /// Its extended error, if any.
    pub extended_error: Option<ExtendedError>,
}
