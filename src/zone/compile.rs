//! Records that were checked -> the tree that is served.

use std::collections::HashSet;

use crate::wire::name::wire_length;
use crate::wire::{Name, Rtype, number, rdata};
use crate::zone::ZoneFile;
use crate::zone::name_tree::{NameTree, NodeId, TOP};
use crate::zone::records::Record;
use crate::zone::tree::{Additional, Node, Piece, Rrset, SteeredOwner, Zone};

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
pub fn compile(file: &ZoneFile, serial: Option<u32>) -> Result<Zone, CompileError> {
    let mut compiler = Compiler::new(&file.apex, serial);
    let placed = compiler.place(file);
    compiler.add_steered(file)?;
    compiler.add_rrsets(&placed)?;
    compiler.add_additionals(&placed)?;
    compiler.finish()
}

struct Compiler {
    zone: Zone,
    serial: Option<u32>,
}

/// A record and the node of its owner.
struct Placed<'a> {
    node: NodeId,
    record: Record<'a>,
}

impl Compiler {
    fn new(apex: &Name, serial: Option<u32>) -> Compiler {
        let zone = Zone {
            apex: apex.clone(),
            apex_labels: apex.labels().count(),
            names: NameTree::default(),
            nodes: Vec::new(),
            rrsets: Vec::new(),
            pieces: Vec::new(),
            additionals: Vec::new(),
            targets: Vec::new(),
            steered: Vec::new(),
            soa: u32::MAX,
            negative_ttl: 0,
            serial: 0,
        };
        Compiler { zone, serial }
    }

    /// Inserts all owners; gives the records in the order of the tree: by node, by type, as written.
    fn place<'a>(&mut self, file: &'a ZoneFile) -> Vec<Placed<'a>> {
        let mut last: Option<(&[u8], NodeId)> = None;
        let mut placed: Vec<Placed<'a>> = Vec::with_capacity(file.records.len());
        for record in file.records.iter() {
            let node = match last {
                Some((owner, node)) if owner == record.owner => node,
                _ => self.insert(record.owner),
            };
            last = Some((record.owner, node));
            placed.push(Placed { node, record });
        }
        for steered in &file.steered {
            self.insert(steered.owner.wire());
        }
        placed.sort_by_key(|placed| (placed.node, placed.record.rtype));
        self.zone.names.shrink();
        self.zone.nodes = vec![Node::default(); self.zone.names.len()];
        for node in 0..self.zone.names.len() as NodeId {
            if node != TOP && self.zone.names.label(node) == b"*" {
                let parent = self.zone.names.parent(node);
                self.zone.nodes[parent as usize].marks.has_wildcard = true;
            }
        }
        placed
    }

    /// The node of an owner at or below the apex.
    fn insert(&mut self, owner: &[u8]) -> NodeId {
        let mut starts = [0; 127];
        let count = label_starts(owner, &mut starts).saturating_sub(self.zone.apex_labels);
        let labels = starts[..count].iter().rev().map(|&start| {
            let start = usize::from(start);
            &owner[start + 1..start + 1 + usize::from(owner[start])]
        });
        self.zone.names.insert(labels)
    }

    fn add_steered(&mut self, file: &ZoneFile) -> Result<(), CompileError> {
        for steered in &file.steered {
            let service = &file.services[steered.service];
            let node = self.insert(steered.owner.wire());
            self.zone.steered.push(SteeredOwner {
                service: u16::try_from(steered.service).map_err(|_| CompileError::TooManySteered)?,
                ttl: steered.ttl.unwrap_or(service.ttl),
            });
            self.zone.nodes[node as usize].steered =
                u16::try_from(self.zone.steered.len()).map_err(|_| CompileError::TooManySteered)?;
        }
        Ok(())
    }

    fn add_rrsets(&mut self, placed: &[Placed<'_>]) -> Result<(), CompileError> {
        for records in placed.chunk_by(|a, b| (a.node, a.record.rtype) == (b.node, b.record.rtype)) {
            let (node, first) = (records[0].node, records[0].record);
            let ttl = lowest_ttl(records);
            let mut piece = PieceWriter::new(&mut self.zone);
            for record in as_rrset(records) {
                let serial = self.serial.filter(|_| record.rtype == Rtype::SOA);
                piece.push(&QNAME_POINTER, &record, serial);
            }
            let piece =
                piece.finish().ok_or_else(|| CompileError::RrsetTooLarge(first.owner_name(), first.rtype))?;
            self.add_rrset(node, first, ttl, piece);
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
                zone.targets.extend_from_slice(first.rdata);
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
    fn add_additionals(&mut self, placed: &[Placed<'_>]) -> Result<(), CompileError> {
        let rrsets = placed.chunk_by(|a, b| (a.node, a.record.rtype) == (b.node, b.record.rtype));
        for (rrset, records) in rrsets.enumerate() {
            let rtype = records[0].record.rtype;
            if !matches!(rtype, Rtype::NS | Rtype::MX | Rtype::SRV | Rtype::SVCB | Rtype::HTTPS) {
                continue;
            }
            let cut = self.zone.nodes[records[0].node as usize].marks.is_cut.then_some(records[0].node);
            let mut hosts: Vec<NodeId> = Vec::new();
            for placed in records {
                for offset in rdata::names(placed.record.rtype, placed.record.rdata) {
                    hosts.extend(self.find(&placed.record.rdata[offset..]));
                }
                // A service binding without a target is about its own owner (RFC 9460 2.5.2); at a wildcard that is
                // another one in each answer.
                if rdata::is_about_its_owner(rtype, placed.record.rdata)
                    && !placed.record.owner.starts_with(b"\x01*")
                {
                    hosts.extend(self.find(placed.record.owner));
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
                hosts.into_iter().partition(|host| cut.is_some_and(|cut| self.is_at_or_below(*host, cut)));
            let welcome: Vec<NodeId> = welcome.into_iter().take(MOST_ADDITIONAL_NAMES).collect();
            let additional =
                (self.write_addresses(placed, &required), self.write_addresses(placed, &welcome));
            let first = records[0].record;
            let too_large = || CompileError::AdditionalTooLarge(first.owner_name(), first.rtype);
            let additional = Additional {
                required: additional.0.ok_or_else(too_large)?,
                welcome: additional.1.ok_or_else(too_large)?,
            };
            if additional.required.record_count + additional.welcome.record_count > 0 {
                self.zone.additionals.push(additional);
                self.zone.rrsets[rrset].extra = self.zone.additionals.len() as u32;
            }
        }
        Ok(())
    }

    /// None when they fit into no message.
    fn write_addresses(&mut self, placed: &[Placed<'_>], hosts: &[NodeId]) -> Option<Piece> {
        let mut piece = PieceWriter::new(&mut self.zone);
        for &host in hosts {
            let first = placed.partition_point(|placed| placed.node < host);
            let count = placed[first..].partition_point(|placed| placed.node == host);
            let rrsets = placed[first..first + count].chunk_by(|a, b| a.record.rtype == b.record.rtype);
            for address in rrsets
                .filter(|rrset| matches!(rrset[0].record.rtype, Rtype::A | Rtype::AAAA))
                .flat_map(as_rrset)
            {
                piece.push_with_owner(&address);
            }
        }
        piece.finish()
    }

    /// The node of a name, if this zone has it.
    fn find(&self, name: &[u8]) -> Option<NodeId> {
        let name =
            Name::first_of(name).ok().filter(|name| name.is_at_or_below(&self.zone.apex))?.to_lowercase();
        let labels: Vec<&[u8]> = name.labels().collect();
        let below = labels.len() - self.zone.apex_labels;
        let node =
            labels[..below].iter().rev().try_fold(TOP, |node, label| self.zone.names.child(node, label))?;
        (self.zone.nodes[node as usize].steered == 0).then_some(node)
    }

    fn is_at_or_below(&self, mut node: NodeId, ancestor: NodeId) -> bool {
        while node != ancestor && node != TOP {
            node = self.zone.names.parent(node);
        }
        node == ancestor
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
fn lowest_ttl(records: &[Placed<'_>]) -> u32 {
    records.iter().map(|placed| placed.record.ttl).min().unwrap_or(0)
}

/// Records as they are answered: equal ones are one (RFC 2181 5), and all have the same TTL.
fn as_rrset<'p>(records: &'p [Placed<'p>]) -> impl Iterator<Item = Record<'p>> {
    let ttl = lowest_ttl(records);
    let mut seen = HashSet::new();
    records.iter().map(|placed| placed.record).filter_map(move |mut record| {
        if records.len() > 1 && !seen.insert(rdata::canonical(record.rtype, record.rdata)) {
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
        let owner = record.owner.to_vec();
        self.push_name(&owner);
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
        let count = label_starts(name, &mut starts);
        let apex = self.zone.apex.wire();
        if count >= self.zone.apex_labels && self.zone.apex_labels > 0 {
            let suffix = usize::from(starts[count - self.zone.apex_labels]);
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

/// Where each label of a whole name begins, the root's not counted; gives how many.
fn label_starts(name: &[u8], starts: &mut [u8; 127]) -> usize {
    let mut at = 0;
    let mut count = 0;
    while let Some(&length) = name.get(at).filter(|&&length| length != 0) {
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(length);
    }
    count
}
