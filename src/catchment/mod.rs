//! The compiled answer to "which sites, in which order, for this client": one table look-up.
//!
//! A catchment maps each client prefix to a ranking of a service's sites, the largest blocks with one
//! ranking each. Built by `compile` off the query path, read by every steered query, immutable.
//!
//! All services share one partition of the address space into ranges of one *class* each: where no service sees a
//! difference, there is none. A class stands for one ranking in each service, and each service has a bitmap of the
//! places where its own ranking changes, so that its scopes are as wide as if it were alone.
//!
//! *Not done:* one table a service. Twenty services over one city database would be twenty times the memory and
//! as many walks of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub mod census;
pub mod classes;
pub mod compile;
pub mod demand;
mod overlay;
pub mod ranking;
pub mod stored;
pub mod table;

use serde::{Deserialize, Serialize};

use demand::Clients;
use ranking::Rankings;
use table::{Bits, Boundaries, CELL, Cell, Ranges};

/// Index of a service in the list that the catchments were compiled from.
pub type ServiceIndex = u16;

/// Number of a ranking within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Catchments {
    v4: Ranges<u32>,
    /// By the upper 64 bits.
    v6: Ranges<u64>,
    cells: Vec<Cell>,
    services: Vec<ServiceCatchments>,
}

/// What one service makes of the classes.
#[derive(Debug, Serialize, Deserialize)]
struct ServiceCatchments {
    /// By class.
    ranking_of: Vec<RankingId>,
    /// By class: which rule speaks, from 1, or 0; empty where there is none. For who tells of a query: another rule with the same
    /// ranking makes no range, and no scope shorter.
    rule_of: Vec<u32>,
    rankings: Rankings,
    v4_changes: Boundaries,
    v6_changes: Boundaries,
    /// Where the service spills: how many clients have which sites how far.
    clients: Vec<Clients>,
    /// By rule: whether there is an address for which it speaks.
    rule_matches: Vec<bool>,
}

impl Catchments {
    /// Finds the ranking for an IPv4 client.
    #[inline]
    #[must_use]
    pub fn lookup_v4(&self, service: ServiceIndex, address: Ipv4Addr) -> Catch {
        let service = &self.services[usize::from(service)];
        let address = u32::from(address);
        let (range, class) = self.v4.find(address);
        let (first, last) = self.v4.extent(address, service.v4_changes.run(range));
        Catch {
            ranking: service.ranking_of[class as usize],
            prefix_length: address.block_length(first, last),
        }
    }

    /// Finds the ranking for an IPv6 client. Embedded IPv4 addresses were taken out before this.
    #[inline]
    #[must_use]
    pub fn lookup_v6(&self, service: ServiceIndex, address: Ipv6Addr) -> Catch {
        let service = &self.services[usize::from(service)];
        let upper = (u128::from(address) >> 64) as u64;
        let (range, class) = self.v6.find(upper);
        if class & CELL != 0 {
            let cell = &self.cells[(class & !CELL) as usize];
            if service.ranking_of_cell(cell).is_none() {
                return service.look_up_in(cell, u128::from(address) as u64);
            }
        }
        let (first, last) = self.v6.extent(upper, service.v6_changes.run(range));
        let class = if class & CELL == 0 { class } else { self.cells[(class & !CELL) as usize].parts[0].1 };
        Catch { ranking: service.ranking_of[class as usize], prefix_length: upper.block_length(first, last) }
    }

    /// The ranking that a look-up in the same service found.
    #[inline]
    #[must_use]
    pub fn ranking(&self, service: ServiceIndex, id: RankingId) -> Ranking<'_> {
        self.services[usize::from(service)].rankings.get(id)
    }

    /// How many steps of distance farther than the first each of a ranking's first sites is; none where the service does not
    /// spill.
    #[inline]
    #[must_use]
    pub fn steps(&self, service: ServiceIndex, id: RankingId) -> &[u16] {
        self.services[usize::from(service)].rankings.steps(id)
    }

    /// Who the clients of a service that spills are; nobody of others.
    pub fn clients(&self, service: ServiceIndex) -> impl Iterator<Item = &Clients> {
        self.services[usize::from(service)].clients.iter()
    }

    /// The ranking that a class of clients has in a service.
    fn ranking_of(&self, service: ServiceIndex, class: u32) -> RankingId {
        self.services[usize::from(service)].ranking_of[class as usize]
    }

    /// Which rule of a service speaks for an address, in which no other is embedded.
    #[must_use]
    pub fn rule(&self, service: ServiceIndex, address: IpAddr) -> Option<usize> {
        let class = match address {
            IpAddr::V4(address) => self.v4.find(u32::from(address)).1,
            IpAddr::V6(address) => {
                let class = self.v6.find((u128::from(address) >> 64) as u64).1;
                match class & CELL {
                    0 => class,
                    _ => {
                        let cell = &self.cells[(class & !CELL) as usize];
                        cell.parts[cell.part_at(u128::from(address) as u64)].1
                    }
                }
            }
        };
        let rule = self.services[usize::from(service)].rule_of.get(class as usize)?;
        rule.checked_sub(1).map(|rule| rule as usize)
    }

    /// Whether there is an address for which a rule of a service speaks.
    #[must_use]
    pub fn rule_matches(&self, service: ServiceIndex, rule: usize) -> bool {
        self.services[usize::from(service)].rule_matches.get(rule).copied().unwrap_or(false)
    }

    /// Whether any client could ever be given a site of a service, if need be after all others failed.
    #[must_use]
    pub fn reaches(&self, service: ServiceIndex, site: u16) -> bool {
        self.services[usize::from(service)]
            .rankings
            .iter()
            .any(|ranking| ranking.exact.contains(&site) || ranking.rest.contains(&site))
    }

    /// How large the tables are, for people.
    #[must_use]
    pub fn size(&self) -> Size {
        let services = self.services.iter().map(ServiceCatchments::size);
        let cells = self.cells.iter().map(|cell| cell.parts.len() * size_of::<(u64, u32)>());
        Size {
            v4_ranges: self.v4.len(),
            v6_ranges: self.v6.len(),
            rankings: self.services.iter().map(|service| service.rankings.len()).sum(),
            octets: self.v4.size() + self.v6.size() + cells.sum::<usize>() + services.sum::<usize>(),
        }
    }
}

impl ServiceCatchments {
    /// The one ranking of a split /64, if for this service it is not split at all.
    fn ranking_of_cell(&self, cell: &Cell) -> Option<RankingId> {
        let mut parts = cell.parts.iter().map(|(_, class)| self.ranking_of[*class as usize]);
        let first = parts.next()?;
        parts.all(|other| other == first).then_some(first)
    }

    /// Within a split /64: no block around the address is larger than it.
    #[cold]
    fn look_up_in(&self, cell: &Cell, lower: u64) -> Catch {
        let ranking = |part: usize| self.ranking_of[cell.parts[part].1 as usize];
        let part = cell.part_at(lower);
        let mut first = part;
        while first > 0 && ranking(first - 1) == ranking(part) {
            first -= 1;
        }
        let mut after = part + 1;
        while after < cell.parts.len() && ranking(after) == ranking(part) {
            after += 1;
        }
        let last = cell.parts.get(after).map_or(u64::MAX, |(start, _)| start - 1);
        Catch { ranking: ranking(part), prefix_length: 64 + lower.block_length(cell.parts[first].0, last) }
    }

    fn size(&self) -> usize {
        self.ranking_of.len() * size_of::<RankingId>()
            + self.rule_of.len() * size_of::<u32>()
            + self.rankings.size()
            + self.v4_changes.size()
            + self.v6_changes.size()
            + self.clients.iter().map(Clients::size).sum::<usize>()
    }
}

/// How large compiled tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// IPv4 ranges that at least one service tells apart from their neighbours.
    pub v4_ranges: usize,
    /// The same for IPv6.
    pub v6_ranges: usize,
    /// Distinct rankings of all services together.
    pub rankings: usize,
    /// Memory.
    pub octets: usize,
}
