//! The PROXY protocol: whom a load balancer speaks for. Version 2 over UDP and TCP, version 1 over TCP alone
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).
//!
//! Whoever may put a header before what it sends says who asked, and so which site answers and whose limits count. So the
//! two cases never mix (section 5 of the specification): listed sources *must* send one, nobody else *may*; there is no
//! guessing. Written here and not taken from a crate: it is a page, reads nothing but addresses, and what it refuses
//! is ours to decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;

/// The first octets of version 2. As DNS over TCP they would be a message of 3,338 octets, over UDP one with opcode 1: no
/// query begins like this.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The first octets of version 1. As DNS over TCP they would be a message of opcode 11.
const WORD: [u8; 6] = *b"PROXY ";
/// Of version 2, before the addresses.
const FIXED: usize = 16;
/// Longer headers are refused. Addresses need 36 octets at most, the rest are TLVs that nothing here reads; PowerDNS
/// draws the line at the same place.
pub const LONGEST: usize = 512;
/// Of version 1, with CRLF (section 2.1: "a 108-byte buffer is always enough").
const LONGEST_LINE: usize = 107;

/// What some octets are as the beginning of a stream, or as a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A header of `length` octets, behind which the message begins.
    Complete {
        /// Who asked; none where the header says that the sender speaks for itself, or does not know.
        source: Option<IpAddr>,
        /// Octets of the header.
        length: usize,
    },
    /// The beginning of one. At least so many octets are missing, and so many may be read without reading beyond its end.
    Incomplete {
        /// More than 0.
        missing: usize,
    },
    /// No header, or one that must not be.
    Refused,
}

/// Reads a header of either version.
#[must_use]
pub fn read(bytes: &[u8]) -> Header {
    match is_header(bytes) {
        Some(false) => Header::Refused,
        // Every header is longer than the signature.
        None => Header::Incomplete { missing: SIGNATURE.len() - bytes.len() },
        Some(true) if bytes[0] == SIGNATURE[0] => read_binary(bytes),
        Some(true) => read_text(bytes),
    }
}

/// Reads a header before a message in one datagram, which has to be whole and of version 2: version 1 is for streams.
#[must_use]
pub fn read_datagram(bytes: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    match read(bytes) {
        Header::Complete { source, length } if bytes[0] == SIGNATURE[0] => Some((source, &bytes[length..])),
        _ => None,
    }
}

/// Whether this is how a header begins; none if too little is there to tell.
#[must_use]
pub fn is_header(bytes: &[u8]) -> Option<bool> {
    let begins_with = |known: &[u8]| {
        let common = bytes.len().min(known.len());
        (bytes[..common] == known[..common]).then_some(common == known.len())
    };
    match (begins_with(&SIGNATURE), begins_with(&WORD)) {
        (None, None) => Some(false),
        // Version 1 waits for as much as version 2, so that whoever reads needs to know but one length.
        _ if bytes.len() < SIGNATURE.len() => None,
        _ => Some(true),
    }
}

/// Whether somebody is one of those who must send a header.
#[must_use]
pub fn is_listed(proxy_from: &[IpNetwork], peer: IpAddr) -> bool {
    proxy_from.iter().any(|network| network.contains(peer))
}

/// Section 2.2.
fn read_binary(bytes: &[u8]) -> Header {
    // Version and command.
    let is_local = match bytes.get(12) {
        None => return Header::Incomplete { missing: FIXED - bytes.len() },
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Header::Refused,
    };
    if bytes.len() < FIXED {
        return Header::Incomplete { missing: FIXED - bytes.len() };
    }
    let length = FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    // How many octets of addresses and ports there have to be: what else is written there is refused before it comes.
    let addresses = match bytes[13] {
        // LOCAL: a health check of the balancer's own; "the receiver must discard the protocol block including the family".
        _ if is_local => 0,
        // UNSPEC: the balancer does not know. "The receiver is free to accept the connection anyway and use the real
        // endpoint addresses."
        0x00 => 0,
        // TCP or UDP, whichever the client spoke to the balancer: a DoH query may well go on as a datagram.
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        // A Unix socket is nowhere on this earth; all else "must be rejected as invalid by receivers".
        _ => return Header::Refused,
    };
    if length > LONGEST || length < FIXED + addresses {
        return Header::Refused;
    }
    if bytes.len() < length {
        return Header::Incomplete { missing: length - bytes.len() };
    }
    let at = |offset: usize| bytes[FIXED + offset];
    let source = match addresses {
        12 => Some(IpAddr::V4(Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(at)))),
        36 => Some(IpAddr::V6(Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(at)))),
        _ => None,
    };
    complete(source, length)
}

/// Section 2.1: `PROXY TCP4 SOURCE DESTINATION PORT PORT CRLF`, one space each.
fn read_text(bytes: &[u8]) -> Header {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        // What is yet to come may be `\n` alone: octet by octet, so that none of the message behind it is read.
        return if within.len() < LONGEST_LINE { Header::Incomplete { missing: 1 } } else { Header::Refused };
    };
    let length = end + 2;
    let Ok(line) = std::str::from_utf8(&within[WORD.len()..end]) else { return Header::Refused };
    let mut words = line.split(' ');
    let is_v4 = match words.next() {
        // "The receiver must ignore anything presented before the CRLF", and use the real addresses.
        Some("UNKNOWN") => return complete(None, length),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Header::Refused,
    };
    let mut address = || {
        let address = words.next()?.parse::<IpAddr>().ok()?;
        (address.is_ipv4() == is_v4).then_some(address)
    };
    let addresses = (address(), address());
    let mut port = || {
        let word = words.next()?;
        let is_plain =
            word.bytes().all(|octet| octet.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| is_plain)
    };
    let ports = (port(), port());
    match (addresses, ports, words.next()) {
        ((Some(source), Some(_)), (Some(_), Some(_)), None) => complete(Some(source), length),
        _ => Header::Refused,
    }
}

fn complete(source: Option<IpAddr>, length: usize) -> Header {
    // All of ::ffff:0:0/96 shares one /64; as IPv6 the IPv4 clients of a balancer would be one client to every limit.
    Header::Complete { source: source.map(|source| source.to_canonical()), length }
}

/// A header of version 2, as balancers write it: for tests.
#[doc(hidden)]
#[must_use]
pub fn write(source: SocketAddr, destination: SocketAddr, is_datagram: bool) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let addresses = [octets(source.ip()), octets(destination.ip())].concat();
    let family = if source.is_ipv4() { 0x10 } else { 0x20 };
    header.extend([0x21, family + 1 + u8::from(is_datagram), 0, addresses.len() as u8 + 4]);
    header.extend(addresses);
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Signature, version and command, family, and what follows behind its length.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = rest.len() as u16;
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 53];

    fn asked_by(source: &str) -> Option<IpAddr> {
        Some(source.parse().expect("an address"))
    }

    #[test]
    fn binary_headers() {
        let source = asked_by("192.0.2.7");
        for family in [0x11, 0x12] {
            assert_eq!(read(&binary(0x21, family, &V4)), Header::Complete { source, length: 28 });
        }
        let mut v6 = Ipv6Addr::from(0x2001_0db8 << 96 | 7).octets().to_vec();
        v6.extend([0; 20]);
        assert_eq!(
            read(&binary(0x21, 0x21, &v6)),
            Header::Complete { source: asked_by("2001:db8::7"), length: 52 }
        );
        // TLVs, well-formed or not, are nobody's business; what follows is the message.
        let long = [&V4[..], &[4, 0xff, 0xff, 1, 2, 3]].concat();
        let mut bytes = binary(0x21, 0x11, &long);
        bytes.extend(b"message");
        assert_eq!(read(&bytes), Header::Complete { source, length: 34 });
        assert_eq!(read_datagram(&bytes), Some((source, &b"message"[..])));
    }

    #[test]
    fn whoever_speaks_for_itself_is_who_asks() {
        for (family, rest) in [(0x00, &[][..]), (0x11, &V4), (0x31, &[0; 216]), (0xff, &[1, 2, 3])] {
            let length = FIXED + rest.len();
            assert_eq!(read(&binary(0x20, family, rest)), Header::Complete { source: None, length });
        }
        assert_eq!(read(&binary(0x21, 0x00, &[9; 5])), Header::Complete { source: None, length: 21 });
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped(), 1));
        let header = write(mapped, mapped, true);
        assert_eq!(read(&header), Header::Complete { source: asked_by("192.0.2.7"), length: 52 });
    }

    #[test]
    fn what_must_not_be_is_refused() {
        let refused = [
            binary(0x11, 0x11, &V4),            // version 1 in version 2's clothes
            binary(0x22, 0x11, &V4),            // command 2
            binary(0x21, 0x10, &V4),            // IPv4, unspecified transport
            binary(0x21, 0x13, &V4),            // IPv4, transport 3
            binary(0x21, 0x31, &[0; 216]),      // a Unix socket
            binary(0x21, 0x41, &V4),            // family 4
            binary(0x21, 0x11, &V4[..11]),      // shorter than its addresses
            binary(0x21, 0x11, &[]),            // none at all
            binary(0x21, 0x21, &V4),            // IPv6, but as long as IPv4
            binary(0x21, 0x11, &[0; 497]),      // 513 octets
            binary(0x20, 0x00, &[0; 497]),      // likewise, of the balancer's own
            b"GET / HTTP/1.1\r\n\r\n".to_vec(), // something else
        ];
        for bytes in refused {
            assert_eq!(read(&bytes), Header::Refused, "{bytes:x?}");
        }
        // The length alone decides, before anything else of it has come.
        assert_eq!(read(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat()), Header::Refused);
        assert_eq!(
            read(&binary(0x21, 0x11, &[0; 496])),
            Header::Complete { source: asked_by("0.0.0.0"), length: 512 }
        );
    }

    #[test]
    fn lines() {
        let source = asked_by("192.0.2.7");
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 53\r\n";
        assert_eq!(read(line), Header::Complete { source, length: line.len() });
        assert_eq!(read_datagram(line), None);
        let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\nmore";
        assert_eq!(read(v6), Header::Complete { source: asked_by("2001:db8::7"), length: v6.len() - 4 });
        for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 what ever\r\n"] {
            assert_eq!(read(line.as_bytes()), Header::Complete { source: None, length: line.len() });
        }
    }

    #[test]
    fn lines_that_are_none() {
        let refused = [
            "PROXY TCP5 192.0.2.7 198.51.100.1 12345 53\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 1\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 1\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 12345 53\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 12345 53\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 12345 53 \r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +12345 53\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 012345 53\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 53\r\n",
            "PROXY TCP4 192.0.2.7 x 12345 53\r\n",
            "PROXY tcp4 192.0.2.7 198.51.100.1 1 1\r\n",
            "proxy TCP4 192.0.2.7 198.51.100.1 1 1\r\n",
        ];
        for line in refused {
            assert_eq!(read(line.as_bytes()), Header::Refused, "{line}");
        }
        // Longer than a line may be, whether it ends or not.
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(read(long.as_bytes()), Header::Refused);
        assert_eq!(
            read(&long.as_bytes()[1..].iter().fold(b"P".to_vec(), |mut line, octet| {
                line.push(*octet);
                line
            })),
            Header::Refused
        );
        let just_right = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(read(just_right.as_bytes()), Header::Complete { source: None, length: 107 });
    }

    proptest! {
        /// However it comes in pieces: what is missing is asked for, never more, until it is whole.
        #[test]
        fn pieces_are_as_good_as_the_whole(text in any::<bool>(), rest in prop::collection::vec(any::<u8>(), 12..60), behind in prop::collection::vec(any::<u8>(), 0..40)) {
            let header = match text {
                true => format!("PROXY TCP4 192.0.2.{} 198.51.100.1 {} 53\r\n", rest[0], rest[1]).into_bytes(),
                false => binary(0x21, 0x12, &rest),
            };
            let stream = [&header[..], &behind].concat();
            let whole = read(&stream);
            let is_whole = matches!(whole, Header::Complete { length, .. } if length == header.len());
            prop_assert!(is_whole);
            let mut have = 0;
            while let Header::Incomplete { missing } = read(&stream[..have]) {
                prop_assert!(missing > 0 && have + missing <= header.len());
                have += missing;
            }
            prop_assert_eq!(have, header.len());
            prop_assert_eq!(read(&stream[..have]), whole);
            for end in 0..header.len() {
                let is_incomplete = matches!(read(&stream[..end]), Header::Incomplete { .. });
                prop_assert!(is_incomplete);
            }
        }

        /// Of any octets: more of them never turn a refusal or a header into something else.
        #[test]
        fn more_octets_change_nothing(command in 0x1f..0x24_u8, family in any::<u8>(), length in 0..600_u16, rest in prop::collection::vec(any::<u8>(), 0..600)) {
            let bytes = [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), &rest].concat();
            let whole = read(&bytes);
            for end in 0..bytes.len() {
                match read(&bytes[..end]) {
                    Header::Incomplete { missing } => prop_assert!(missing > 0 && end + missing <= LONGEST),
                    other => prop_assert_eq!(other, whole),
                }
            }
        }
    }
}
