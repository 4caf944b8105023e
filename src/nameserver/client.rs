//! Whose answer this is: the source address, or the client subnet that the query carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::edns::ClientSubnet;
use crate::catchment::{Catch, Catchments, RankingId, ServiceIndex};
use crate::geo::special::{Embedded, embedded};

/// Where a query comes from, as far as it tells.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    source: Located,
    subnet: Option<Located>,
}

/// An address as the catchments know it: IPv4 wherever one is embedded (meaning 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Located {
    V4 {
        address: Ipv4Addr,
        /// What a scope within IPv4 grows by in the address that was sent.
        offset: u8,
    },
    V6(Ipv6Addr),
}

/// The ranking that decides, for whom, and how far it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Within the service.
    pub ranking: RankingId,
    /// Length of the block around the client subnet in which this very ranking decides; 0 when the source address
    /// does everywhere.
    pub scope: u8,
    /// What shares are decided by: the /24 or /56 of the address that decides, and nothing finer.
    pub block: u64,
    /// The shortest scope that a decision by share may carry; 0 when the source address decides.
    pub share_scope: u8,
}

impl Position {
    /// Of an address that asks for itself, with the scope that a resolver would be told that sends it as a client subnet.
    #[must_use]
    pub fn of(address: IpAddr, catchments: &Catchments, service: ServiceIndex) -> Position {
        let located = Located::new(address);
        let (catch, offset) = located.look_up(catchments, service);
        Position {
            ranking: catch.ranking,
            scope: offset + catch.prefix_length,
            block: located.block(),
            share_scope: located.share_scope(),
        }
    }
}

impl Client {
    /// Reads the two addresses once; what a service makes of them is `locate`'s business.
    #[must_use]
    pub fn new(source: IpAddr, subnet: Option<&ClientSubnet>) -> Client {
        let source = Located::new(source);
        // Source prefix-length 0 asks that nothing of the option be used (RFC 7871 7.1.2).
        let subnet =
            subnet.filter(|subnet| subnet.source_prefix_length > 0).map(|subnet| match subnet.family {
                1 => {
                    let [a, b, c, d, ..] = subnet.address;
                    Located::V4 { address: Ipv4Addr::new(a, b, c, d), offset: 0 }
                }
                _ => Located::from_v6(Ipv6Addr::from(subnet.address)),
            });
        Client { source, subnet }
    }

    /// Which rule of a service spoke, for who tells of the query: `locate` does not look.
    #[must_use]
    pub fn rule(&self, catchments: &Catchments, service: ServiceIndex, uses_subnet: bool) -> Option<usize> {
        let speaks = |subnet: &Located| {
            let (catch, _) = subnet.look_up(catchments, service);
            !catchments.ranking(service, catch.ranking).special
        };
        let subnet = self.subnet.filter(|subnet| uses_subnet && speaks(subnet));
        let address = match subnet.unwrap_or(self.source) {
            Located::V4 { address, .. } => address.into(),
            Located::V6(address) => address.into(),
        };
        catchments.rule(service, address)
    }

    /// One look-up, or two where the client subnet is of an address that nobody can be located by (meaning 3):
    /// then the source address decides, everywhere in the block around the subnet that is like it.
    #[inline]
    #[must_use]
    pub fn locate(&self, catchments: &Catchments, service: ServiceIndex, uses_subnet: bool) -> Position {
        let mut scope = 0;
        if uses_subnet && let Some(subnet) = self.subnet {
            let (catch, offset) = subnet.look_up(catchments, service);
            scope = offset + catch.prefix_length;
            if !catchments.ranking(service, catch.ranking).special {
                return Position {
                    ranking: catch.ranking,
                    scope,
                    block: subnet.block(),
                    share_scope: subnet.share_scope(),
                };
            }
        }
        let (catch, _) = self.source.look_up(catchments, service);
        Position { ranking: catch.ranking, scope, block: self.source.block(), share_scope: 0 }
    }
}

impl Located {
    fn new(address: IpAddr) -> Located {
        match address {
            IpAddr::V4(address) => Located::V4 { address, offset: 0 },
            IpAddr::V6(address) => Located::from_v6(address),
        }
    }

    fn from_v6(address: Ipv6Addr) -> Located {
        match embedded(address) {
            Some(Embedded { address, offset }) => Located::V4 { address, offset },
            None => Located::V6(address),
        }
    }

    #[inline]
    fn look_up(self, catchments: &Catchments, service: ServiceIndex) -> (Catch, u8) {
        match self {
            Located::V4 { address, offset } => (catchments.lookup_v4(service, address), offset),
            Located::V6(address) => (catchments.lookup_v6(service, address), 0),
        }
    }

    /// An IPv4 block and an IPv6 block are never the same number: the latter lie below 2^56, the former above.
    #[inline]
    fn block(self) -> u64 {
        match self {
            Located::V4 { address, .. } => 1 << 63 | u64::from(u32::from(address) >> 8),
            Located::V6(address) => (u128::from(address) >> 72) as u64,
        }
    }

    #[inline]
    fn share_scope(self) -> u8 {
        match self {
            Located::V4 { offset, .. } => offset + 24,
            Located::V6(_) => 56,
        }
    }
}
