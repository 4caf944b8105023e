//! The OPT record of a query (RFC 6891) and the options in it that mean something here. What is unknown is ignored.

use crate::policy::cookie::Cookie;

/// CLIENT-SUBNET (RFC 7871).
pub const CLIENT_SUBNET: u16 = 8;
/// NSID (RFC 5001).
pub const NSID: u16 = 3;
/// COOKIE (RFC 7873).
pub const COOKIE: u16 = 10;
/// edns-tcp-keepalive (RFC 7828).
pub const TCP_KEEPALIVE: u16 = 11;
/// PADDING (RFC 7830).
pub const PADDING: u16 = 12;
/// EXTENDED-ERROR (RFC 8914).
pub const EXTENDED_ERROR: u16 = 15;
/// ZONEVERSION (RFC 9660).
pub const ZONE_VERSION: u16 = 19;

/// What an OPT record says (RFC 6891 6.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Edns<'a> {
    /// The largest UDP payload that the asker takes.
    pub udp_payload: u16,
    /// EDNS version.
    pub version: u8,
    /// DO.
    pub dnssec_ok: bool,
    /// The first client subnet option, if it is well-formed.
    pub client_subnet: Option<ClientSubnet>,
    /// The first cookie, if it is well-formed.
    pub cookie: Option<Cookie<'a>>,
    /// Whether these are asked for.
    pub asks_for: Asked,
}

/// Options that ask for themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// NSID.
    pub nsid: bool,
    /// Keepalive.
    pub keepalive: bool,
    /// Padding.
    pub padding: bool,
    /// Zone version.
    pub zone_version: bool,
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

impl<'a> Edns<'a> {
    /// From an OPT record's CLASS and TTL, without its options.
    pub(super) fn bare(class: u16, ttl: [u8; 4]) -> Edns<'a> {
        let [_extended_rcode, version, flags, _] = ttl;
        Edns { udp_payload: class, version, dnssec_ok: flags & 0x80 != 0, ..Edns::default() }
    }

    /// None when an option is cut short, or one that means something is malformed: the first client subnet, or the first
    /// cookie. What was well-formed before it stays known.
    pub(super) fn read_options(&mut self, mut octets: &'a [u8]) -> Option<()> {
        // Versions above 0 may mean anything by their options: BADVERS, whatever they are (RFC 6891 6.1.3).
        if self.version > 0 {
            return Some(());
        }
        while !octets.is_empty() {
            let (head, rest) = octets.split_first_chunk()?;
            let head = u32::from_be_bytes(*head);
            let (code, length) = ((head >> 16) as u16, (head & 0xffff) as usize);
            let (value, rest) = rest.split_at_checked(length)?;
            octets = rest;
            match code {
                CLIENT_SUBNET if self.client_subnet.is_none() => {
                    self.client_subnet = Some(read_client_subnet(value)?);
                }
                COOKIE if self.cookie.is_none() => self.cookie = Some(Cookie::read(value)?),
                NSID => self.asks_for.nsid = true,
                TCP_KEEPALIVE => self.asks_for.keepalive = true,
                PADDING => self.asks_for.padding = true,
                ZONE_VERSION => self.asks_for.zone_version = true,
                _ => {}
            }
        }
        Some(())
    }
}

/// A client subnet option's value, none if malformed (RFC 7871 6 and 7.1.2; meaning 1).
#[must_use]
pub fn read_client_subnet(value: &[u8]) -> Option<ClientSubnet> {
    let (&[family @ .., source_prefix_length, scope_prefix_length], octets) =
        value.split_first_chunk::<4>()?;
    let family = u16::from_be_bytes(family);
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
