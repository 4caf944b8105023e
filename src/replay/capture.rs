//! Captures: pcap (as libpcap writes it) and pcapng -> packets. The layouts are those of draft-ietf-opsawg-pcap and
//! draft-ietf-opsawg-pcapng.

use std::io::{self, Read};

use super::{Questions, fill, packet};

/// Octets of a packet or a block: beyond what any link carries, and little enough to hold.
const LONGEST: usize = 1 << 20;
/// Interfaces of one section.
const MOST_INTERFACES: usize = 4096;

/// Seconds with microseconds, and with nanoseconds.
const PCAP: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
const PCAP_HEADER: usize = 24;
const PCAP_RECORD: usize = 16;

/// The same octets in either order.
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Which octet of a number comes first: that of the machine that wrote it.
#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl Order {
    /// That in which a number is what it should be.
    fn find(octets: &[u8], is_meant: impl Fn(u32) -> bool) -> Option<Order> {
        [Order::Big, Order::Little].into_iter().find(|order| order.u32(octets, 0).is_some_and(&is_meant))
    }

    fn u32(self, octets: &[u8], at: usize) -> Option<u32> {
        let octets = *octets.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Big => u32::from_be_bytes(octets),
            Order::Little => u32::from_le_bytes(octets),
        })
    }

    fn u16(self, octets: &[u8], at: usize) -> Option<u16> {
        let octets = *octets.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Big => u16::from_be_bytes(octets),
            Order::Little => u16::from_le_bytes(octets),
        })
    }
}

pub(super) fn is_pcap(head: &[u8]) -> bool {
    Order::find(head, |magic| PCAP.contains(&magic)).is_some()
}

pub(super) fn is_pcapng(head: &[u8]) -> bool {
    head.starts_with(&SECTION.to_be_bytes())
        && head.get(8..).is_some_and(|rest| Order::find(rest, |magic| magic == BYTE_ORDER).is_some())
}

pub(super) fn read_pcap(file: &mut impl Read, questions: &mut Questions<'_>) -> io::Result<()> {
    let mut octets = Vec::new();
    if !fill(file, &mut octets, PCAP_HEADER)? {
        questions.counts.is_cut_off = true;
        return Ok(());
    }
    let order = Order::find(&octets, |magic| PCAP.contains(&magic)).unwrap_or(Order::Big);
    // Above the link type stands how long its checksum is.
    let link = order.u32(&octets, 20).unwrap_or(0) as u16;
    loop {
        let is_whole = fill(file, &mut octets, PCAP_RECORD)?;
        if octets.is_empty() {
            return Ok(());
        }
        let length = order.u32(&octets, 8).map(|length| length as usize);
        let length = length.filter(|length| is_whole && *length <= LONGEST);
        if !matches!(length, Some(length) if fill(file, &mut octets, length)?) {
            questions.counts.is_cut_off = true;
            return Ok(());
        }
        packet::read(link, &octets, questions)?;
    }
}

pub(super) fn read_pcapng(file: &mut impl Read, questions: &mut Questions<'_>) -> io::Result<()> {
    const HEAD: usize = 12;
    let mut order = Order::Big;
    let mut links: Vec<u16> = Vec::new();
    let mut octets = Vec::new();
    loop {
        // A block is its type, its length, what it holds, and its length again: at least as much as is taken for its head.
        let is_whole = fill(file, &mut octets, HEAD)?;
        if octets.is_empty() {
            return Ok(());
        }
        let mut head = [0; HEAD];
        head[..octets.len()].copy_from_slice(&octets);
        if head.starts_with(&SECTION.to_be_bytes()) {
            order = Order::find(&head[8..], |magic| magic == BYTE_ORDER).unwrap_or(order);
            links.clear();
        }
        let (kind, length) = (order.u32(&head, 0), order.u32(&head, 4));
        let rest = length.and_then(|length| (length as usize).checked_sub(HEAD));
        let rest = rest.filter(|rest| is_whole && *rest <= LONGEST && rest % 4 == 0);
        if !matches!(rest, Some(rest) if fill(file, &mut octets, rest)?) {
            questions.counts.is_cut_off = true;
            return Ok(());
        }
        // Behind the head, of which the last four octets are the block's first ones.
        let first = order.u32(&head, 8).unwrap_or(0);
        let upper_half = order.u16(&head, 8).unwrap_or(0);
        let told = match kind.unwrap_or(0) {
            INTERFACE if links.len() < MOST_INTERFACES => {
                links.push(upper_half);
                continue;
            }
            ENHANCED_PACKET => order.u32(&octets, 8).map(|length| (first as usize, 16, length)),
            OBSOLETE_PACKET => order.u32(&octets, 8).map(|length| (usize::from(upper_half), 16, length)),
            // It tells how long the packet was, not how much of it is here: the rest of the block, but for its last length.
            SIMPLE_PACKET => octets.len().checked_sub(4).map(|most| (0, 0, first.min(most as u32))),
            _ => continue,
        };
        let packet = told.and_then(|(interface, at, length): (usize, usize, u32)| {
            let end = at.checked_add(length as usize)?;
            Some((*links.get(interface)?, octets.get(at..end)?))
        });
        match packet {
            Some((link, packet)) => packet::read(link, packet, questions)?,
            None => questions.counts.unreadable += 1,
        }
    }
}
