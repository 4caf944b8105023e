//! A packet of a capture -> the message in it, if it goes to port 53.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Questions;

/// Where servers are asked.
const DNS: u16 = 53;

/// Kinds of links (the registry of tcpdump.org).
const LOOPBACK: [u16; 2] = [0, 108];
const ETHERNET: u16 = 1;
const RAW_IP: [u16; 5] = [12, 14, 101, 228, 229];
const LINUX_COOKED: u16 = 113;
const LINUX_COOKED_2: u16 = 276;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and what was in use before that.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What IP carries.
struct Carried<'a> {
    source: IpAddr,
    protocol: u8,
    octets: &'a [u8],
    /// The capture has less than there was.
    is_cut: bool,
}

/// # Errors
/// If nothing is known of such a link.
pub(super) fn read(link: u16, packet: &[u8], questions: &mut Questions<'_>) -> io::Result<()> {
    let network = match link {
        ETHERNET => network(packet, 12, 14),
        LINUX_COOKED => network(packet, 14, 16),
        LINUX_COOKED_2 => network(packet, 0, 20),
        link if LOOPBACK.contains(&link) => packet.get(4..).and_then(by_version),
        link if RAW_IP.contains(&link) => by_version(packet),
        other => {
            return Err(io::Error::other(format!(
                "its packets are of link type {other}; Ethernet, Linux cooked, raw IP and loopback are read here"
            )));
        }
    };
    let carried = network.and_then(|(kind, packet)| match kind {
        IPV4 => v4(packet),
        IPV6 => v6(packet),
        _ => None,
    });
    match carried {
        Some(carried) if carried.protocol == UDP => read_datagram(&carried, questions),
        Some(carried) if carried.protocol == TCP => read_segment(&carried, questions),
        _ => questions.counts.others += 1,
    }
    Ok(())
}

/// What follows a link's header, past any tags of virtual networks.
fn network(packet: &[u8], kind_at: usize, end: usize) -> Option<(u16, &[u8])> {
    let mut kind = u16_at(packet, kind_at)?;
    let mut rest = packet.get(end..)?;
    while VLAN.contains(&kind) {
        kind = u16_at(rest, 2)?;
        rest = rest.get(4..)?;
    }
    Some((kind, rest))
}

fn by_version(packet: &[u8]) -> Option<(u16, &[u8])> {
    match packet.first()? >> 4 {
        4 => Some((IPV4, packet)),
        6 => Some((IPV6, packet)),
        _ => None,
    }
}

/// None for what is no IPv4, and for any fragment but the first.
fn v4(packet: &[u8]) -> Option<Carried<'_>> {
    let header = packet.get(..20)?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let is_first = u16_at(header, 6)? & 0x1fff == 0;
    if header[0] >> 4 != 4 || length < 20 || !is_first {
        return None;
    }
    let source = Ipv4Addr::from(*header[12..].first_chunk()?);
    // None where the network card cuts into segments: all of it, then.
    let end = Some(usize::from(u16_at(header, 2)?)).filter(|end| *end > 0).unwrap_or(packet.len());
    let octets = packet.get(length..end.min(packet.len()))?;
    Some(Carried { source: source.into(), protocol: header[9], octets, is_cut: end > packet.len() })
}

/// None for what is no IPv6, and for any fragment but the first.
fn v6(packet: &[u8]) -> Option<Carried<'_>> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let (header, rest) = packet.split_at_checked(40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let source = Ipv6Addr::from(*header[8..].first_chunk()?);
    let length = Some(usize::from(u16_at(header, 4)?)).filter(|length| *length > 0).unwrap_or(rest.len());
    let mut octets = &rest[..length.min(rest.len())];
    let mut protocol = header[6];
    // Each is at least eight octets, so that they end with the packet.
    loop {
        let skipped = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(*octets.get(1)?),
            FRAGMENT if u16_at(octets, 2)? >> 3 == 0 => 8,
            FRAGMENT => return None,
            _ => break,
        };
        protocol = *octets.first()?;
        octets = octets.get(skipped..)?;
    }
    Some(Carried { source: source.into(), protocol, octets, is_cut: length > rest.len() })
}

fn read_datagram(carried: &Carried<'_>, questions: &mut Questions<'_>) {
    if u16_at(carried.octets, 2) != Some(DNS) {
        questions.counts.others += 1;
        return;
    }
    let message = u16_at(carried.octets, 4).and_then(|length| carried.octets.get(8..usize::from(length)));
    match message {
        Some(message) if !carried.is_cut => questions.message(message, carried.source),
        _ => questions.counts.unreadable += 1,
    }
}

/// Messages that stand in one segment, each whole: streams are not put together.
fn read_segment(carried: &Carried<'_>, questions: &mut Questions<'_>) {
    let offset = carried.octets.get(12).map(|octet| usize::from(octet >> 4) * 4);
    let stream = offset.filter(|offset| *offset >= 20).and_then(|offset| carried.octets.get(offset..));
    let is_asked = u16_at(carried.octets, 2) == Some(DNS);
    let Some(mut stream) = stream.filter(|stream| is_asked && !stream.is_empty()) else {
        questions.counts.others += 1;
        return;
    };
    while !stream.is_empty() {
        let message = u16_at(stream, 0).map(usize::from);
        let message = message.and_then(|length| stream.get(2..)?.split_at_checked(length));
        let Some((message, rest)) = message else {
            questions.counts.unreadable += 1;
            return;
        };
        questions.message(message, carried.source);
        stream = rest;
    }
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}
