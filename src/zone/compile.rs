//! Records that were checked -> the tree that is served.

use std::collections::HashSet;

use crate::wire::name::{label_starts, wire_length};
use crate::wire::{Name, Rtype, number, rdata};
use crate::zone::ZoneFile;
use crate::zone::name_tree::{NameTree, NodeId, TOP};
use crate::zone::owners::{Owners, Placed};
use crate::zone::records::{Record, Records};
use crate::zone::tree::{Additional, Node, Piece, Rrset, SteeredOwner, Target, Zone};

/// Where QNAME stands in every response (RFC 1035 4.1.1: right after the header).
pub const QNAME_POINTER: [u8; 2] = [0xc0, 12];

/// The most names whose addresses go along with an RRset; more would let one small query pull
/// a very large response together (CVE-2024-11187).
const MOST_ADDITIONAL_NAMES: usize = 13;

/// The longest RRset: header, the longest question and an OPT must stand beside it in a message of 65,535 octets.
pub const LONGEST_RRSET: usize = 65_535 - 12 - (255 + 4) - 64;

/// Why a zone that passed its check cannot be served all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// There is no SOA at the apex to make negative answers of.
    NoSoa,
    /// An RRset that fits into no message.
    RrsetTooLarge(Name, Rtype),
    /// Addresses of the hosts that an RRset names, which fit into no message.
    AdditionalTooLarge(Name, Rtype),
    /// More steered owners than can be numbered.
    TooManySteered,
    /// More octets than offsets can name.
    ZoneTooLarge,
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CompileError::NoSoa => f.write_str("the zone has no SOA at its apex"),
            CompileError::RrsetTooLarge(owner, rtype) => {
                write!(f, "the {rtype} records of {owner} do not fit into one message of 65,535 octets")
            }
            CompileError::AdditionalTooLarge(owner, rtype) => {
                write!(
                    f,
                    "the addresses of the hosts that the {rtype} records of {owner} name do not fit into one message"
                )
            }
            CompileError::TooManySteered => f.write_str("the zone has more than 65,534 steered owners"),
            CompileError::ZoneTooLarge => f.write_str("the zone is larger than 4 GiB"),
        }
    }
}

impl std::error::Error for CompileError {}

/// Compiles a zone. `serial` replaces the SOA's, where the zone leaves it to us.
///
/// # Errors
/// What `zone::check` finds as well, but the tree must not be built on trust.
pub fn compile(file: &ZoneFile, owners: Owners, serial: Option<u32>) -> Result<Zone, CompileError> {
    let mut compiler = Compiler::new(file, &owners, serial);
    compiler.add_steered()?;
    compiler.add_rrsets()?;
    compiler.add_additionals()?;
    let zone = compiler.finish()?;
    let mut zone = Zone { names: owners.names, ..zone };
    zone.walk_to_targets();
    Ok(zone)
}

struct Compiler<'z> {
    file: &'z ZoneFile,
    owners: &'z Owners,
    /// All of it but the names.
    zone: Zone,
    serial: Option<u32>,
}

impl<'z> Compiler<'z> {
    fn new(file: &'z ZoneFile, owners: &'z Owners, serial: Option<u32>) -> Compiler<'z> {
        let mut zone = Zone {
            apex: file.apex.clone(),
            apex_labels: file.apex.labels().count(),
            names: NameTree::default(),
            nodes: vec![Node::default(); owners.names.len()],
            rrsets: Vec::with_capacity(Owners::rrsets(owners.all()).count()),
            pieces: Vec::new(),
            additionals: Vec::new(),
            targets: Vec::new(),
            target_names: Vec::new(),
            steered: Vec::new(),
            soa: u32::MAX,
            negative_ttl: 0,
            serial: 0,
        };
        for node in (0..owners.names.len() as NodeId).filter(|node| owners.is_wildcard(*node)) {
            zone.nodes[owners.names.parent(node) as usize].marks.has_wildcard = true;
        }
        Compiler { file, owners, zone, serial }
    }

    fn add_steered(&mut self) -> Result<(), CompileError> {
        for (steered, &node) in self.file.steered.iter().zip(self.owners.steered()) {
            self.zone.steered.push(SteeredOwner {
                service: u16::try_from(steered.service).map_err(|_| CompileError::TooManySteered)?,
                ttl: steered.ttl,
            });
            self.zone.nodes[node as usize].steered =
                u16::try_from(self.zone.steered.len()).map_err(|_| CompileError::TooManySteered)?;
        }
        Ok(())
    }

    fn add_rrsets(&mut self) -> Result<(), CompileError> {
        let (owners, records) = (self.owners, &self.file.records);
        for rrset in Owners::rrsets(owners.all()) {
            let (node, first) = (rrset[0].node, rrset[0].of(records));
            let mut piece = PieceWriter::new(&mut self.zone);
            for record in as_rrset(rrset, records) {
                let serial = self.serial.filter(|_| record.rtype == Rtype::SOA);
                piece.push(&QNAME_POINTER, &record, serial);
            }
            let piece =
                piece.finish().ok_or_else(|| CompileError::RrsetTooLarge(first.owner_name(), first.rtype))?;
            self.add_rrset(node, first, lowest_ttl(rrset, records), piece);
        }
        Ok(())
    }

    fn add_rrset(&mut self, node: NodeId, first: Record<'_>, ttl: u32, piece: Piece) {
        let zone = &mut self.zone;
        let mut extra = 0;
        match first.rtype {
            Rtype::SOA if node == TOP => {
                zone.soa = zone.rrsets.len() as u32;
                let fixed = &first.rdata[first.rdata.len().saturating_sub(20)..];
                let field = |n: usize| {
                    fixed.get(n..n + 4).map_or(0, |f| u32::from_be_bytes([f[0], f[1], f[2], f[3]]))
                };
                zone.serial = self.serial.unwrap_or(field(0));
                zone.negative_ttl = ttl.min(field(16));
            }
            Rtype::NS if node != TOP => zone.nodes[node as usize].marks.is_cut = true,
            Rtype::CNAME | Rtype::DNAME => {
                zone.nodes[node as usize].marks.has_dname |= first.rtype == Rtype::DNAME;
                extra = zone.targets.len() as u32;
                let name = &first.rdata[..wire_length(first.rdata).unwrap_or_default()];
                let start = zone.target_names.len() as u32;
                zone.targets.push(Target { name: start, length: name.len() as u8, walk: None });
                zone.target_names.extend_from_slice(name);
            }
            _ => {}
        }
        let entry = &mut zone.nodes[node as usize];
        if entry.rrset_count == 0 {
            entry.first_rrset = zone.rrsets.len() as u32;
        }
        entry.rrset_count += 1;
        zone.rrsets.push(Rrset { rtype: first.rtype, piece, extra });
    }

    /// Addresses for the hosts that NS, MX, SRV, SVCB and HTTPS name, as far as this zone has them (RFC 1034 4.3.2 step
    /// 6, RFC 9460 4.1, RFC 9471). Hosts that are steered get none: their addresses depend on who asks (meaning 14).
    fn add_additionals(&mut self) -> Result<(), CompileError> {
        let (owners, records) = (self.owners, &self.file.records);
        for (number, rrset) in Owners::rrsets(owners.all()).enumerate() {
            let (node, first) = (rrset[0].node, rrset[0].of(records));
            if !matches!(first.rtype, Rtype::NS | Rtype::MX | Rtype::SRV | Rtype::SVCB | Rtype::HTTPS) {
                continue;
            }
            let cut = self.zone.nodes[node as usize].marks.is_cut.then_some(node);
            let mut hosts: Vec<NodeId> = Vec::new();
            for record in rrset.iter().map(|placed| placed.of(records)) {
                for offset in rdata::names(record.rtype, record.rdata) {
                    hosts.extend(self.find(&record.rdata[offset..]));
                }
                // A service binding without a target is about its own owner (RFC 9460 2.5.2); at a wildcard that is
                // another one in each answer.
                if rdata::is_about_its_owner(record.rtype, record.rdata) && !owners.is_wildcard(node) {
                    hosts.extend(self.find(record.owner));
                }
            }
            let mut seen = Vec::new();
            hosts.retain(|host| {
                !seen.contains(host) && {
                    seen.push(*host);
                    true
                }
            });
            let (required, welcome): (Vec<NodeId>, Vec<NodeId>) =
                hosts.into_iter().partition(|host| cut.is_some_and(|cut| owners.is_at_or_below(*host, cut)));
            let welcome: Vec<NodeId> = welcome.into_iter().take(MOST_ADDITIONAL_NAMES).collect();
            let additional = (self.write_addresses(&required), self.write_addresses(&welcome));
            let too_large = || CompileError::AdditionalTooLarge(first.owner_name(), first.rtype);
            let additional = Additional {
                required: additional.0.ok_or_else(too_large)?,
                welcome: additional.1.ok_or_else(too_large)?,
            };
            if additional.required.record_count + additional.welcome.record_count > 0 {
                self.zone.additionals.push(additional);
                self.zone.rrsets[number].extra = self.zone.additionals.len() as u32;
            }
        }
        Ok(())
    }

    /// None when they fit into no message.
    fn write_addresses(&mut self, hosts: &[NodeId]) -> Option<Piece> {
        let mut piece = PieceWriter::new(&mut self.zone);
        for &host in hosts {
            for rtype in [Rtype::A, Rtype::AAAA] {
                for address in as_rrset(self.owners.of_type(host, rtype), &self.file.records) {
                    piece.push_with_owner(&address);
                }
            }
        }
        piece.finish()
    }

    /// The node of a name, if this zone has it and nobody steers it.
    fn find(&self, name: &[u8]) -> Option<NodeId> {
        let name = Name::first_of(name).ok().filter(|name| name.is_at_or_below(&self.zone.apex))?;
        let (node, below) = self.owners.closest(&name);
        (below == 0 && self.zone.nodes[node as usize].steered == 0).then_some(node)
    }

    fn finish(mut self) -> Result<Zone, CompileError> {
        if self.zone.soa == u32::MAX {
            return Err(CompileError::NoSoa);
        }
        if self.zone.pieces.len() > u32::MAX as usize {
            return Err(CompileError::ZoneTooLarge);
        }
        self.zone.pieces.shrink_to_fit();
        self.zone.rrsets.shrink_to_fit();
        Ok(self.zone)
    }
}

/// One TTL an RRset (RFC 2181 5.2); the lowest, so that nothing is kept longer than was written.
fn lowest_ttl(rrset: &[Placed], records: &Records) -> u32 {
    rrset.iter().map(|placed| placed.of(records).ttl).min().unwrap_or(0)
}

/// Records as they are answered: equal ones are one (RFC 2181 5), and all have the same TTL.
fn as_rrset<'z>(rrset: &'z [Placed], records: &'z Records) -> impl Iterator<Item = Record<'z>> {
    let ttl = lowest_ttl(rrset, records);
    let mut seen = HashSet::new();
    rrset.iter().map(|placed| placed.of(records)).filter_map(move |mut record| {
        if rrset.len() > 1 && !seen.insert(rdata::canonical(record.rtype, record.rdata)) {
            return None;
        }
        // Each signature has the TTL of the RRset that it signs (RFC 4034 3).
        if record.rtype != Rtype::RRSIG {
            record.ttl = ttl;
        }
        Some(record)
    })
}

/// Writes one piece at the end of a zone's pieces.
struct PieceWriter<'a> {
    zone: &'a mut Zone,
    start: usize,
    pointers: Vec<u16>,
    record_count: u16,
}

impl<'a> PieceWriter<'a> {
    fn new(zone: &'a mut Zone) -> PieceWriter<'a> {
        let start = zone.pieces.len();
        PieceWriter { zone, start, pointers: Vec::new(), record_count: 0 }
    }

    /// A record whose owner is written out up to the apex.
    fn push_with_owner(&mut self, record: &Record<'_>) {
        self.push_name(record.owner);
        self.push_after_owner(record, None);
    }

    fn push(&mut self, owner: &[u8], record: &Record<'_>, serial: Option<u32>) {
        self.zone.pieces.extend_from_slice(owner);
        self.push_after_owner(record, serial);
    }

    fn push_after_owner(&mut self, record: &Record<'_>, serial: Option<u32>) {
        if self.zone.pieces.len() - self.start > LONGEST_RRSET {
            return; // it is refused as a whole, in the end
        }
        let pieces = &mut self.zone.pieces;
        pieces.extend_from_slice(&record.rtype.0.to_be_bytes());
        pieces.extend_from_slice(&number::IN.to_be_bytes());
        pieces.extend_from_slice(&record.ttl.to_be_bytes());
        let length_at = pieces.len();
        pieces.extend_from_slice(&[0, 0]);
        self.push_rdata(record);
        let pieces = &mut self.zone.pieces;
        let length = (pieces.len() - length_at - 2) as u16;
        pieces[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        if let Some(serial) = serial {
            let serial_at = pieces.len() - 20;
            pieces[serial_at..serial_at + 4].copy_from_slice(&serial.to_be_bytes());
        }
        self.record_count += 1;
    }

    fn push_rdata(&mut self, record: &Record<'_>) {
        let mut done = 0;
        if rdata::may_be_compressed(record.rtype) {
            for offset in rdata::names(record.rtype, record.rdata) {
                let Some(length) = wire_length(&record.rdata[offset..]) else { break };
                self.zone.pieces.extend_from_slice(&record.rdata[done..offset]);
                self.push_name(&record.rdata[offset..offset + length]);
                done = offset + length;
            }
        }
        self.zone.pieces.extend_from_slice(&record.rdata[done..]);
    }

    /// A name: its labels below the apex and a pointer to the apex, or the whole of it when it is elsewhere. The
    /// root is as short as a pointer to it.
    fn push_name(&mut self, name: &[u8]) {
        let mut starts = [0; 127];
        let starts = label_starts(name, &mut starts);
        let apex = self.zone.apex.wire();
        if starts.len() >= self.zone.apex_labels && self.zone.apex_labels > 0 {
            let suffix = usize::from(starts[starts.len() - self.zone.apex_labels]);
            if name[suffix..].eq_ignore_ascii_case(apex) {
                self.zone.pieces.extend_from_slice(&name[..suffix]);
                // Beyond 65,535 the piece is refused as a whole.
                self.pointers.push((self.zone.pieces.len() - self.start).min(usize::from(u16::MAX)) as u16);
                self.zone.pieces.extend_from_slice(&[0xc0, 0]);
                return;
            }
        }
        self.zone.pieces.extend_from_slice(name);
    }

    /// None when the records fill more than a message.
    fn finish(self) -> Option<Piece> {
        let length = self.zone.pieces.len() - self.start;
        let length = u16::try_from(length).ok().filter(|_| length <= LONGEST_RRSET)?;
        for pointer in &self.pointers {
            self.zone.pieces.extend_from_slice(&pointer.to_be_bytes());
        }
        Some(Piece {
            start: self.start as u32,
            length,
            pointer_count: self.pointers.len() as u16,
            record_count: self.record_count,
        })
    }
}
