//! What the sites of a service cost besides their distance, so that none is given more than it has room for.
//!
//! The cheapest way to spread clients over sites of limited capacity has *prices*: each client goes to the site with the
//! least distance and price, together; a site with room is free, and the price of a full one is just so high that the
//! clients for whom another is least farther go there. So a query needs no list of who goes where, only a number for
//! each site. All prices are zero while everything fits; then nothing is different from a service without `spill`.
//!
//! Distances come in steps ([`STEP_KM`](crate::site::cost::STEP_KM)), and a price between two whole steps is the lower one for
//! some /24s and the higher for the others, by a fixed hash: as a price rises, each of them moves once.
//!
//! Clients are counted as `coverage` counts them, and know nothing of each other: prices depend on verdicts, shares and what
//! sites said of their load, and are the same on every server that sees the same. *Not done:* counting real queries. What
//! resolvers ask is not what their users do, and each server would see something else.

use std::ops::Range;

use super::board::{Board, ServiceSlots, Share};
use crate::catchment::{Catchments, ServiceIndex};
use crate::site::cost::STEP_KM;
use crate::site::{MinUp, Service};

mod price;
#[cfg(test)]
mod tests;

/// The part of a step that prices are told in: a price is so many of these.
pub const PRICE_UNIT: u32 = 1 << 16;

/// No site costs more: it has no clients left but those who can go nowhere else.
pub(crate) const MOST_STEPS: usize = 2047;

/// How much more than its room a site may be given before somebody has to move: what is counted is not so exact, and who
/// moves loses what caches know.
const SLACK: f64 = 0.03;

/// What the clients of a service ask for, and what room its sites have.
#[derive(Debug, PartialEq)]
pub struct Market {
    /// By site, in parts of all demand.
    capacities: Box<[f64]>,
    /// All demand, in the operator's unit.
    in_all: f64,
    groups: Box<[Group]>,
    offers: Box<[Offer]>,
    /// By site: the groups that it is offered to.
    groups_of: Box<[Box<[u32]>]>,
}

/// Clients for whom the same sites are as far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Group {
    /// In parts of all.
    demand: f64,
    /// Its first offer, and how many there are: at most [`EXACT`](crate::catchment::ranking::EXACT).
    first: u32,
    count: u8,
}

/// A site that a group may go to, in the group's order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Offer {
    site: u16,
    /// How many steps farther than the first it is.
    step: u16,
}

/// What the sites of a service cost, and what that comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// By site, in [`PRICE_UNIT`]s.
    pub of_sites: Vec<u32>,
    /// The fullest site's load in parts of its room: above 1 only where there is no better way.
    pub fullest: f64,
}

impl Prices {
    /// Whether any site costs anything.
    #[must_use]
    pub fn are_any(&self) -> bool {
        self.of_sites.iter().any(|price| *price > 0)
    }

    /// Whether there is not room for all, however they are spread.
    #[must_use]
    pub fn are_in_vain(&self) -> bool {
        self.fullest > 1.0 + SLACK
    }
}

/// Kilometres that a price stands for.
#[must_use]
pub fn in_km(price: u32) -> f64 {
    f64::from(price) / f64::from(PRICE_UNIT) * STEP_KM
}

/// The other way round.
#[must_use]
pub fn from_km(km: f64) -> u32 {
    (km / STEP_KM * f64::from(PRICE_UNIT)).round() as u32
}

/// How a site takes part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The part of its clients that it takes: 0 when it is down or drained.
    pub open: f64,
    /// The part of what it would be given that it is to be given, for it says that it has too much.
    pub relief: f64,
}

impl Market {
    /// Of a service that spills, from its tables; none of others, and where nobody is counted.
    #[must_use]
    pub fn new(service: &Service, index: ServiceIndex, catchments: &Catchments) -> Option<Market> {
        let clients = catchments.clients(index);
        let clients = clients.map(|clients| (clients.sites.iter().copied(), clients.demand));
        let capacities: Vec<f64> = service.sites.iter().map(|site| site.capacity.unwrap_or(1.0)).collect();
        service.spill.then(|| Market::of(&capacities, service.demand, clients)).flatten()
    }

    /// Of sites with some capacities, and groups of clients with the sites in their order, the steps to each, and how
    /// many they are. `demand` is what all of them ask for, in the unit of capacities; without it so much that the fullest
    /// site just has room for its own while all are up.
    fn of<O: Iterator<Item = (u16, u16)>>(
        capacities: &[f64],
        demand: Option<f64>,
        clients: impl Iterator<Item = (O, f64)>,
    ) -> Option<Market> {
        let (mut groups, mut offers) = (Vec::new(), Vec::new());
        let mut groups_of = vec![Vec::new(); capacities.len()];
        for (of_group, demand) in clients.filter(|(_, demand)| *demand > 0.0) {
            let first = offers.len();
            for (site, step) in of_group {
                offers.push(Offer { site, step });
                groups_of[usize::from(site)].push(groups.len() as u32);
            }
            let count = (offers.len() - first) as u8;
            if count > 0 {
                groups.push(Group { demand, first: first as u32, count });
            }
        }
        let all: f64 = groups.iter().map(|group| group.demand).sum();
        if all <= 0.0 {
            return None;
        }
        groups.iter_mut().for_each(|group| group.demand /= all);
        let mut market = Market {
            capacities: capacities.into(),
            in_all: 1.0,
            groups: groups.into(),
            offers: offers.into(),
            groups_of: groups_of.into_iter().map(Vec::into_boxed_slice).collect(),
        };
        let in_all = match demand {
            Some(demand) => demand,
            None => {
                let loads = market.loads(&vec![1.0; capacities.len()], &vec![0.0; capacities.len()]);
                let least = loads.iter().zip(capacities).filter(|(load, _)| **load > 0.0);
                least.map(|(load, capacity)| capacity / load).fold(f64::INFINITY, f64::min)
            }
        };
        market.capacities.iter_mut().for_each(|capacity| *capacity /= in_all);
        market.in_all = in_all;
        Some(market)
    }

    /// How many groups of clients it tells apart.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// What a site has room for, in the operator's unit.
    #[must_use]
    pub fn capacity(&self, site: usize) -> f64 {
        self.capacities[site] * self.in_all
    }

    /// What each site has room for, in parts of all that clients ask for.
    #[must_use]
    pub fn capacities(&self) -> &[f64] {
        &self.capacities
    }

    /// The prices at which every site has room for what it is given, if there are any. Those of before stay while they are
    /// about right.
    #[must_use]
    pub fn price(&self, parts: &[Part], before: &Prices) -> Prices {
        let open: Vec<f64> = parts.iter().map(|part| part.open).collect();
        let mut room = self.capacities.to_vec();
        let mut found = self.settle(&open, &room);
        if parts.iter().any(|part| part.relief < 1.0) {
            // Less than it would have: what was counted may be far from what it has, so its capacity says nothing.
            let loads = self.loads(&open, &found);
            for ((room, part), load) in room.iter_mut().zip(parts).zip(loads) {
                if part.relief < 1.0 {
                    *room = room.min(load * part.relief);
                }
            }
            found = self.settle(&open, &room);
        }
        let fullest = |prices: &[f64]| {
            let loads = self.loads(&open, prices);
            let full = loads.iter().zip(&self.capacities).filter(|(load, _)| **load > 0.0);
            full.map(|(load, capacity)| load / capacity).fold(0.0, f64::max)
        };
        let earlier: Vec<f64> =
            before.of_sites.iter().map(|price| f64::from(*price) / f64::from(PRICE_UNIT)).collect();
        if earlier.len() == found.len() && self.are_about_right(&open, &earlier, &found) {
            return Prices { of_sites: before.of_sites.clone(), fullest: fullest(&earlier) };
        }
        let in_units = |price: &f64| (price * f64::from(PRICE_UNIT)).round() as u32;
        Prices { of_sites: found.iter().map(in_units).collect(), fullest: fullest(&found) }
    }

    /// Whether other prices give each site about what these do.
    fn are_about_right(&self, open: &[f64], others: &[f64], these: &[f64]) -> bool {
        // What is free is free at once, and the other way round.
        let are_alike = others.iter().zip(these).all(|(other, this)| (*other == 0.0) == (*this == 0.0));
        are_alike && {
            let [others, these] = [others, these].map(|prices| self.loads(open, prices));
            others.iter().zip(these).all(|(other, this)| (other - this).abs() <= this * SLACK)
        }
    }
}

/// How the sites of a service take part, for the verdicts and shares on a board; `relief` is by site.
pub(super) fn parts(board: &Board, service: &ServiceSlots, relief: impl Fn(usize) -> f64) -> Vec<Part> {
    let part = |(site, slots): (usize, &Range<u32>)| {
        let share = board.share(service.first_share + site as u32);
        let is_open = share != Share::DRAINED && is_served(board, slots, service.min_up);
        let open = if is_open { f64::from(share.0) / f64::from(Share::FULL.0) } else { 0.0 };
        Part { open, relief: relief(site) }
    };
    service.targets.iter().enumerate().map(part).collect()
}

/// The next query sees them.
pub(super) fn publish(board: &Board, index: ServiceIndex, first_share: u32, prices: &Prices) {
    for (slot, price) in (first_share..).zip(&prices.of_sites) {
        board.set_price(slot, *price);
    }
    board.set_priced(index, prices.are_any());
}

/// Prices all services, on a board that the health side has nothing to do with.
pub fn price(board: &Board) {
    for (index, service) in board.layout().services.iter().enumerate() {
        if let Some(market) = &service.market {
            let prices = market.price(&parts(board, service, |_| 1.0), &Prices::default());
            publish(board, index as ServiceIndex, service.first_share, &prices);
        }
    }
}

/// Whether enough of a site's addresses of one type are given out (meaning 7).
fn is_served(board: &Board, slots: &Range<u32>, min_up: MinUp) -> bool {
    let are_enough = |is_v4: bool, needed: u8| {
        let of_type = |slot: &u32| board.layout().targets[*slot as usize].address.is_ipv4() == is_v4;
        let count = slots.clone().filter(of_type).count();
        let up = slots.clone().filter(of_type).filter(|slot| board.verdict(*slot).is_served()).count();
        count > 0 && up >= usize::from(needed.max(1)).min(count)
    };
    slots.is_empty() || are_enough(true, min_up.v4) || are_enough(false, min_up.v6)
}
