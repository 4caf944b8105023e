//! Captures and dnstap files as other programs write them, from their specifications.

#![allow(dead_code)] // each test binary that includes this needs a part of it

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ETHERNET: u32 = 1;
pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;

/// A file of libpcap with the packets of one link; in the other order of octets if asked for.
pub(crate) fn pcap(link: u32, packets: &[Vec<u8>], is_big: bool) -> Vec<u8> {
    let number = |value: u32| if is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut file = number(0xa1b2_c3d4).to_vec();
    file.extend(if is_big { [0, 2, 0, 4] } else { [2, 0, 4, 0] });
    for value in [0, 0, 65_535, link] {
        file.extend(number(value));
    }
    for packet in packets {
        for value in [1_700_000_000, 0, packet.len() as u32, packet.len() as u32] {
            file.extend(number(value));
        }
        file.extend(packet);
    }
    file
}

/// A block of pcapng, filled up to whole numbers.
pub(crate) fn block(kind: u32, body: &[u8], is_big: bool) -> Vec<u8> {
    let number = |value: u32| if is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let filled = body.len().next_multiple_of(4);
    let length = number(12 + filled as u32);
    let mut block = [number(kind), length].concat();
    block.extend(body);
    block.resize(8 + filled, 0);
    block.extend(length);
    block
}

/// A file of pcapng: an interface for each link, and packets with the number of theirs.
pub(crate) fn pcapng(links: &[u16], packets: &[(u32, Vec<u8>)], is_big: bool) -> Vec<u8> {
    let number = |value: u32| if is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let short = |value: u16| if is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let version = [short(1), short(0)].concat();
    let mut file = block(0x0a0d_0d0a, &[&number(0x1a2b_3c4d)[..], &version, &[255; 8]].concat(), is_big);
    for link in links {
        file.extend(block(1, &[&short(*link)[..], &[0, 0], &number(65_535)].concat(), is_big));
    }
    for (interface, packet) in packets {
        let length = number(packet.len() as u32);
        let head = [number(*interface), [0; 4], [0; 4], length, length].concat();
        file.extend(block(6, &[&head[..], packet].concat(), is_big));
    }
    file
}

/// A header of a link before a packet.
pub(crate) fn framed(header: &[u8], packet: &[u8]) -> Vec<u8> {
    [header, packet].concat()
}

pub(crate) fn ethernet(packet: &[u8]) -> Vec<u8> {
    let kind: &[u8] = if packet[0] >> 4 == 4 { &[8, 0] } else { &[0x86, 0xdd] };
    [&[2; 12], kind, packet].concat()
}

/// From an address to a server of the same family.
pub(crate) fn ip(source: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => v4(source, protocol, payload),
        IpAddr::V6(source) => v6(source, protocol, payload),
    }
}

fn v4(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend([192, 0, 2, 53]);
    packet.extend(payload);
    packet
}

fn v6(source: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(source.octets());
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(payload);
    packet
}

pub(crate) fn udp(port: u16, message: &[u8]) -> Vec<u8> {
    let mut datagram = 40_000_u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + message.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(message);
    datagram
}

pub(crate) fn tcp(port: u16, stream: &[u8]) -> Vec<u8> {
    let mut segment = 40_000_u16.to_be_bytes().to_vec();
    segment.extend(port.to_be_bytes());
    // Sequence, acknowledgement, eight words of header with twelve octets of options, flags, window, checksum, urgent.
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x18, 255, 255, 0, 0, 0, 0]);
    segment.extend([1; 12]);
    segment.extend(stream);
    segment
}

/// As it stands in a stream.
pub(crate) fn with_length(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A whole packet to a server over UDP, on Ethernet.
pub(crate) fn query_packet(source: IpAddr, message: &[u8]) -> Vec<u8> {
    ethernet(&ip(source, UDP, &udp(53, message)))
}

/// A file of frame streams; `is_both_ways` with what a reader would have said between.
pub(crate) fn dnstap(frames: &[Vec<u8>], is_both_ways: bool) -> Vec<u8> {
    const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";
    let control = |kind: u32, has_content: bool| {
        let mut body = kind.to_be_bytes().to_vec();
        if has_content {
            body.extend(1_u32.to_be_bytes());
            body.extend((CONTENT.len() as u32).to_be_bytes());
            body.extend(CONTENT);
        }
        [&[0; 4], &(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    let mut file = if is_both_ways { control(4, true) } else { Vec::new() };
    file.extend(control(2, true));
    for frame in frames {
        file.extend((frame.len() as u32).to_be_bytes());
        file.extend(frame);
    }
    file.extend(control(3, false));
    file
}

/// A frame of dnstap: a message of a kind, from an address.
pub(crate) fn tapped(kind: u8, source: IpAddr, message: &[u8]) -> Vec<u8> {
    let address = match source {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    // type, socket_family, query_address, query_port, query_time_sec, query_time_nsec, query_message
    let mut inner = vec![0x08, kind, 0x10, 1, 0x22, address.len() as u8];
    inner.extend(address);
    inner.extend([0x30, 0xb9, 0x60, 0x40, 0x80, 0xe2, 0xcf, 0xaa, 0x06, 0x4d, 1, 2, 3, 4, 0x52]);
    inner.extend(varint(message.len()));
    inner.extend(message);
    // identity, message, type
    let mut frame = vec![0x0a, 2, b'n', b's', 0x72];
    frame.extend(varint(inner.len()));
    frame.extend(inner);
    frame.extend([0x78, 1]);
    frame
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    while number >= 0x80 {
        octets.push(number as u8 | 0x80);
        number >>= 7;
    }
    octets.push(number as u8);
    octets
}
