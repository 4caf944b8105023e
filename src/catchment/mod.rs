//! The compiled answer to "which sites, in which order, for this client": one table look-up.
//!
//! A catchment maps each client prefix to a ranking of a service's sites, the largest blocks with one
//! ranking each. Built by `compile`, read by the query path, immutable.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Index of a service in the list that the catchments were compiled from.
pub type ServiceIndex = u16;

/// Number of a ranking within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RankingId(pub u32);

/// What [`Catchments::lookup_v4`] and its sibling find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Catch {
    /// Whose order of sites.
    pub ranking: RankingId,
    /// Length of the largest block around the address in which the ranking is the same (meaning 5).
    pub prefix_length: u8,
}

/// An order of a service's sites.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranking<'a> {
    /// Indexes into the service's sites, best first: exact.
    pub exact: &'a [u16],
    /// The whole service in order of distance from the first of `exact`; those of `exact` recur in it and are to
    /// be skipped. Empty when nothing follows.
    pub rest: &'a [u16],
    /// How many of `exact`, from the first, share the clients (`near`); at least 1 unless `exact` is empty.
    pub near: u8,
    /// A rule denies these clients.
    pub denied: bool,
    /// The address is not globally reachable and no `subnet` rule of the service names it: a client
    /// subnet of this kind gives way to the source address (meaning 3).
    pub special: bool,
}

/// The compiled tables of all services of a snapshot.
#[derive(Debug, Default)]
pub struct Catchments {}

impl Catchments {
    /// Finds the ranking for an IPv4 client.
    #[must_use]
    pub fn lookup_v4(&self, _service: ServiceIndex, _address: Ipv4Addr) -> Catch {
        Catch { ranking: RankingId(0), prefix_length: 0 }
    }

    /// Finds the ranking for an IPv6 client. Embedded IPv4 addresses were taken out before this.
    #[must_use]
    pub fn lookup_v6(&self, _service: ServiceIndex, _address: Ipv6Addr) -> Catch {
        Catch { ranking: RankingId(0), prefix_length: 0 }
    }

    /// The ranking that a look-up in the same service found.
    #[must_use]
    pub fn ranking(&self, _service: ServiceIndex, _id: RankingId) -> Ranking<'_> {
        Ranking { exact: &[], rest: &[], near: 0, denied: false, special: false }
    }
}
