//! What the operator decided about responses in general. Part of the snapshot: read by every query, changed by a reload.

pub mod cookie;
pub mod rate_limit;
pub mod read;

use cookie::Secrets;
use rate_limit::RateLimit;

/// What we send over UDP at most, and say that we take: it passes every path unfragmented (DNS Flag Day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

/// The defaults are those of a configuration that says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Octets of a response over UDP, at most, to IPv4 clients; 512 to 4,096.
    pub udp_payload_v4: u16,
    /// The same to IPv6 clients.
    pub udp_payload_v6: u16,
    /// Which of several servers of one address this is, for who asks (RFC 5001).
    pub nsid: Option<Box<[u8]>>,
    /// Server cookies are made and taken (RFC 7873); without secrets the option is not known here.
    pub cookies: Option<Secrets>,
    /// Over UDP, a cookie without a part that proves its address is sent back for one that does (BADCOOKIE).
    pub requires_cookie: bool,
    /// Responses over UDP that are longer than this are for who has a cookie; others get TC.
    pub max_without_cookie: Option<u16>,
    /// What `version.bind` and `version.server` in class CH are answered with.
    pub version: Option<Box<str>>,
    /// What `id.server` and `hostname.bind` in class CH are answered with.
    pub identity: Option<Box<str>>,
    /// Tenths of a second for which a connection may be idle, for who asks (RFC 7828).
    pub keepalive: u16,
    /// Responses over UDP to addresses that may be forged: how many, and what becomes of the rest.
    pub rate_limit: RateLimit,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            udp_payload_v4: UDP_PAYLOAD,
            udp_payload_v6: UDP_PAYLOAD,
            nsid: None,
            cookies: None,
            requires_cookie: false,
            max_without_cookie: None,
            version: None,
            identity: None,
            keepalive: 100,
            rate_limit: RateLimit::default(),
        }
    }
}
