//! The order of a service's sites for one place.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::catchment::{Ranking, RankingId};
use crate::geo::{Coordinates, Place};
use crate::site::cost::{UnitVector, cost, steps};
use crate::site::{Near, RuleAction, Service};

/// How many sites of a ranking are exact at least (meaning 6): with so many down at once, the order of the others is
/// nobody's trouble.
pub const EXACT: usize = 8;

/// How many sites about as close share a client at most: each costs a draw in each of its queries.
pub const MOST_NEAR: usize = 32;

/// What makes two clients' orders of sites the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// Sites, best first.
    pub exact: Vec<u16>,
    /// How many steps of distance farther than the first each of them is, of as many as spill is decided among; never less
    /// than those before it. Empty where the service does not spill.
    pub steps: Vec<u16>,
    /// Whether the others follow, in order of distance from the first.
    pub has_rest: bool,
    /// How many of `exact` share the client.
    pub near: u8,
    /// A rule denies the client.
    pub denied: bool,
    /// The special block that the address lies in, from 1, where no `subnet` rule names it.
    pub special: u32,
}

/// A service, made ready for many places to be asked about.
#[derive(Debug)]
pub struct Ranker<'s> {
    service: &'s Service,
    /// Sites with a location, in order of their names, so that the first of equals wins.
    vectors: Vec<(u16, UnitVector, f64)>,
    /// Sites without one, likewise.
    nowhere: Vec<u16>,
    has_handicaps: bool,
}

impl<'s> Ranker<'s> {
    /// Prepares a service.
    #[must_use]
    pub fn new(service: &'s Service) -> Ranker<'s> {
        let mut by_name: Vec<u16> = (0..service.sites.len() as u16).collect();
        by_name.sort_by(|a, b| service.sites[usize::from(*a)].name.cmp(&service.sites[usize::from(*b)].name));
        let location = |site: u16| service.sites[usize::from(site)].location;
        let vector = |site: u16| {
            let handicap = service.sites[usize::from(site)].handicap_km;
            location(site).map(|location| (site, UnitVector::new(location), handicap))
        };
        Ranker {
            service,
            vectors: by_name.iter().filter_map(|&site| vector(site)).collect(),
            nowhere: by_name.iter().copied().filter(|&site| location(site).is_none()).collect(),
            has_handicaps: service.sites.iter().any(|site| site.handicap_km != 0.0),
        }
    }

    /// The order for a place, of which `rule` is the first that matched.
    #[must_use]
    pub fn rank(&self, place: &Place, rule: Option<usize>) -> Order {
        let action = rule.and_then(|rule| self.service.rules.get(rule)).map(|rule| &rule.action);
        let (first, only) = match action {
            Some(RuleAction::Deny) => return Order { denied: true, ..Order::default() },
            Some(RuleAction::Sites { sites, only }) => (sites.as_slice(), *only),
            None => (&[][..], false),
        };
        let mut exact: Vec<u16> = first.to_vec();
        let count = self.service.sites.len();
        let mut near = u8::from(!exact.is_empty());
        match place.point() {
            _ if only => {}
            Some(point) => {
                let wanted = EXACT.max(exact.len());
                self.extend_by_cost(point, wanted, &mut exact);
                if first.is_empty() {
                    near = self.count_near(point, &exact);
                }
                if usize::from(near) == EXACT {
                    self.extend_near(point, &mut exact);
                    near = exact.len() as u8;
                }
            }
            None if first.is_empty() => {
                exact.extend(0..count as u16);
                near = u8::from(count > 0);
            }
            None => {}
        }
        let steps = self.steps(place.point(), &exact);
        Order { has_rest: !only && exact.len() < count, exact, steps, near, denied: false, special: 0 }
    }

    /// Where nothing is known of the place all are as far: those clients lose nothing that could be told.
    fn steps(&self, point: Option<Coordinates>, exact: &[u16]) -> Vec<u16> {
        if !self.service.spill {
            return Vec::new();
        }
        let cost = |site: &u16| point.and_then(|point| self.cost(point, *site));
        let first = exact.first().and_then(cost);
        let farther = |site| first.zip(cost(site)).map_or(0, |(first, cost)| steps(cost - first));
        // A rule's sites come first however far they are.
        let mut most = 0;
        let never_less = |steps: u16| {
            most = most.max(steps);
            most
        };
        exact.iter().take(EXACT).map(farther).map(never_less).collect()
    }

    /// All sites in order of distance from one of them, itself first.
    #[must_use]
    pub fn by_distance_from(&self, site: u16) -> Vec<u16> {
        let mut order = vec![site];
        match self.service.sites[usize::from(site)].location {
            Some(point) => {
                let from = UnitVector::new(point);
                let mut others: Vec<_> = self.vectors.iter().filter(|(other, ..)| *other != site).collect();
                others.sort_by(|a, b| from.closeness(&b.1).total_cmp(&from.closeness(&a.1)));
                order.extend(others.into_iter().map(|(other, ..)| *other));
                order.extend(self.nowhere.iter().filter(|other| **other != site));
            }
            None => order.extend((0..self.service.sites.len() as u16).filter(|other| *other != site)),
        }
        order
    }

    /// Fills up with the cheapest sites that are not in yet.
    fn extend_by_cost(&self, point: Coordinates, wanted: usize, exact: &mut Vec<u16>) {
        let from = UnitVector::new(point);
        let given = exact.len();
        let mut best = [(f64::INFINITY, 0_u16); EXACT];
        let room = (wanted - given).min(EXACT);
        let mut count = 0;
        for (site, vector, handicap) in &self.vectors {
            let cost = if self.has_handicaps { from.km(vector) + handicap } else { -from.closeness(vector) };
            // Equal costs keep the order of names: only what is strictly cheaper moves ahead.
            if room == 0 || (count == room && cost >= best[room - 1].0) || exact[..given].contains(site) {
                continue;
            }
            let place = best[..count].iter().position(|(other, _)| cost < *other).unwrap_or(count);
            count = (count + 1).min(room);
            best[place..count].rotate_right(1);
            best[place] = (cost, *site);
        }
        exact.extend(best[..count].iter().map(|(_, site)| *site));
        let left = wanted.saturating_sub(exact.len());
        let nowhere = self.nowhere.iter().filter(|site| !exact.contains(site)).take(left).copied();
        exact.extend(nowhere.collect::<Vec<_>>());
    }

    fn count_near(&self, point: Coordinates, exact: &[u16]) -> u8 {
        let limit = exact.first().and_then(|&nearest| self.limit_of_near(point, nearest));
        let Some(limit) = limit else { return u8::from(!exact.is_empty()) };
        let is_near = |site: &&u16| self.cost(point, **site).is_some_and(|cost| cost <= limit);
        exact.iter().take_while(is_near).count().max(1) as u8
    }

    /// All exact ones are near: then more may be. What is added stands in the order of numbers, for a draw decides among
    /// them, and each order of them would be a ranking of its own.
    fn extend_near(&self, point: Coordinates, exact: &mut Vec<u16>) {
        let Some(limit) = self.limit_of_near(point, exact[0]) else { return };
        let others = self.vectors.iter().filter(|(site, ..)| !exact.contains(site));
        let mut near: Vec<(f64, u16)> =
            others.filter_map(|(site, ..)| self.cost(point, *site).map(|cost| (cost, *site))).collect();
        near.retain(|(cost, _)| *cost <= limit);
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        near.truncate(MOST_NEAR - exact.len());
        near.sort_by_key(|(_, site)| *site);
        exact.extend(near.into_iter().map(|(_, site)| site));
    }

    /// The cost up to which sites share a client whose nearest is this one.
    fn limit_of_near(&self, point: Coordinates, nearest: u16) -> Option<f64> {
        let nearest = self.cost(point, nearest)?;
        match self.service.near? {
            Near::Kilometres(kilometres) => Some(nearest + kilometres),
            Near::Fraction(fraction) => Some(nearest * (1.0 + fraction)),
        }
    }

    fn cost(&self, point: Coordinates, site: u16) -> Option<f64> {
        cost(point, &self.service.sites[usize::from(site)]).map(|cost| cost.cost)
    }
}

/// The distinct rankings of one service.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Rankings {
    entries: Vec<Entry>,
    sites: Vec<u16>,
    /// By ranking, where the service spills.
    steps: Vec<[u16; EXACT]>,
    /// By the first site: all sites by distance from it.
    rests: Vec<Box<[u16]>>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    start: u32,
    length: u16,
    near: u8,
    has_rest: bool,
    denied: bool,
    special: bool,
}

impl Rankings {
    /// Stores orders; the n-th becomes ranking n.
    #[must_use]
    pub fn new(service: &Service, orders: &[Order]) -> Rankings {
        let mut rankings = Rankings::default();
        if orders.iter().any(|order| order.has_rest) {
            let ranker = Ranker::new(service);
            let sites = 0..service.sites.len() as u16;
            rankings.rests = sites.map(|site| ranker.by_distance_from(site).into()).collect();
        }
        for order in orders {
            rankings.entries.push(Entry {
                start: rankings.sites.len() as u32,
                length: order.exact.len() as u16,
                near: order.near,
                has_rest: order.has_rest,
                denied: order.denied,
                special: order.special != 0,
            });
            rankings.sites.extend_from_slice(&order.exact);
            if service.spill {
                let mut steps = [0; EXACT];
                steps[..order.steps.len()].copy_from_slice(&order.steps);
                rankings.steps.push(steps);
            }
        }
        rankings
    }

    /// A ranking by its number.
    #[inline]
    #[must_use]
    pub fn get(&self, id: RankingId) -> Ranking<'_> {
        let entry = self.entries[id.0 as usize];
        let start = entry.start as usize;
        let exact = &self.sites[start..start + usize::from(entry.length)];
        let rest = match exact.first() {
            Some(&first) if entry.has_rest => &*self.rests[usize::from(first)],
            _ => &[],
        };
        Ranking { exact, rest, near: entry.near, denied: entry.denied, special: entry.special }
    }

    /// How many steps farther than the first each of its first sites is; none where the service does not spill.
    #[inline]
    #[must_use]
    pub fn steps(&self, id: RankingId) -> &[u16] {
        let length = usize::from(self.entries[id.0 as usize].length).min(EXACT);
        self.steps.get(id.0 as usize).map_or(&[], |steps| &steps[..length])
    }

    /// All, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Ranking<'_>> {
        (0..self.entries.len() as u32).map(|number| self.get(RankingId(number)))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Octets of memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let rests: usize = self.rests.iter().map(|rest| rest.len() * 2).sum();
        self.entries.len() * size_of::<Entry>() + self.sites.len() * 2 + self.steps.len() * 2 * EXACT + rests
    }
}

/// Numbers equal things alike, from 0.
#[derive(Debug)]
pub(super) struct Interner<T> {
    numbers: HashMap<T, u32, foldhash::fast::FixedState>,
}

impl<T> Default for Interner<T> {
    fn default() -> Interner<T> {
        Interner { numbers: HashMap::default() }
    }
}

impl<T: std::hash::Hash + Eq> Interner<T> {
    pub(super) fn number(&mut self, thing: T) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(thing).or_insert(next)
    }

    /// All things, the n-th at place n.
    pub(super) fn into_list(self) -> Vec<T> {
        let mut list: Vec<(T, u32)> = self.numbers.into_iter().collect();
        list.sort_unstable_by_key(|(_, number)| *number);
        list.into_iter().map(|(thing, _)| thing).collect()
    }
}
