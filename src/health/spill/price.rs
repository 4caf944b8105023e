//! Finds prices: those of full sites go up and down, one site after the other, each to where its own load just fits, until
//! all do; and where some only outbid each other, theirs together. With prices of others as they are a site's load falls with
//! its own; so each step is the best for its site, and all together they climb to the optimum of a concave function, the dual
//! of the transportation problem.

use super::{Group, MOST_STEPS, Market, Offer};
use crate::catchment::ranking::EXACT;

/// A load that differs from its site's room by no more is right.
const EXACTLY: f64 = 0.001;
/// From so much too much on somebody should be told that there is no room.
const TOO_MUCH: f64 = 1.01;
/// How many groups are looked at before what was found has to do: some ten milliseconds. Close to the end prices move little.
const MOST_LOOKS: usize = 600_000;
/// What a site costs besides its groups, in groups.
const COST_OF_A_SITE: usize = 100;
/// In so many rounds each site finds its own price; who has not by then may be outbidding others.
const ROUNDS_ALONE: u32 = 4;
/// Rounds in which what cannot fit is spread.
const ROUNDS_OF_SPREADING: usize = 60;

/// What may come of a group: a site at a number of steps, price and distance together, and with which probability it is
/// admitted at that. At most two for each site.
#[derive(Clone, Copy, Default)]
struct Chance {
    steps: u32,
    /// Its place in the group's order: the first of equals wins.
    place: u8,
    part: f64,
}

impl Market {
    /// Prices in steps at which loads fit rooms, or else exceed them alike.
    pub(super) fn settle(&self, open: &[f64], room: &[f64]) -> Vec<f64> {
        let nothing = vec![0.0; open.len()];
        let is_too_much = |room: &[f64], prices: &[f64], most: f64| {
            let loads = self.loads(open, prices);
            loads.iter().zip(room).any(|(load, room)| *load > room * most)
        };
        if !is_too_much(room, &nothing, 1.0 + EXACTLY) {
            return nothing;
        }
        let in_all: f64 = room.iter().zip(open).filter(|(_, open)| **open > 0.0).map(|(room, _)| room).sum();
        if in_all > 1.0 {
            let prices = self.climb(open, room);
            if !is_too_much(room, &prices, TOO_MUCH) {
                return prices;
            }
        }
        self.climb(open, &self.stretch(open, room))
    }

    /// What each site is given at some prices.
    pub(super) fn loads(&self, open: &[f64], prices: &[f64]) -> Vec<f64> {
        let mut loads = vec![0.0; open.len()];
        for group in &self.groups {
            let offers = self.offers_of(group);
            let left = split(offers, everybody, open, prices, |chance, part| {
                loads[usize::from(offers[usize::from(chance.place)].site)] += part * group.demand;
            });
            if let Some(first) = offers.iter().find(|offer| open[usize::from(offer.site)] > 0.0) {
                // Whom nobody admitted the first takes all the same.
                loads[usize::from(first.site)] += left * group.demand;
            }
        }
        loads
    }

    fn offers_of(&self, group: &Group) -> &[Offer] {
        &self.offers[group.first as usize..][..usize::from(group.count)]
    }

    fn climb(&self, open: &[f64], room: &[f64]) -> Vec<f64> {
        let mut prices = vec![0.0; open.len()];
        let mut is_due: Vec<bool> = open.iter().map(|open| *open > 0.0).collect();
        let mut looks = 0;
        let mut reach = vec![0.0; MOST_STEPS + 2];
        for round in 1_u32.. {
            if looks >= MOST_LOOKS || !is_due.contains(&true) {
                break;
            }
            for site in 0..open.len() {
                if std::mem::replace(&mut is_due[site], false) {
                    looks += self.move_together(&[site], open, room, &mut prices, &mut is_due, &mut reach);
                }
            }
            if round.is_multiple_of(ROUNDS_ALONE) {
                looks += self.groups.len();
                for rivals in self.rivals(open, &prices) {
                    looks += self.move_together(&rivals, open, room, &mut prices, &mut is_due, &mut reach);
                }
            }
        }
        prices
    }

    /// Sites that cost something and share a group's clients, directly or by others between them. Each of them alone could
    /// only hand its clients to the next, which hands them back: together they outbid each other by a hair at a time, for as
    /// long as it takes until somebody else is no farther.
    fn rivals(&self, open: &[f64], prices: &[f64]) -> Vec<Vec<usize>> {
        let mut set_of: Vec<usize> = (0..open.len()).collect();
        for group in &self.groups {
            let offers = self.offers_of(group);
            let mut earlier = None;
            split(offers, everybody, open, prices, |chance, part| {
                let site = usize::from(offers[usize::from(chance.place)].site);
                if part < 1e-9 || prices[site] <= 0.0 {
                    return;
                }
                let set = set_of[site];
                if let Some(other) = earlier.replace(set).filter(|other| *other != set) {
                    set_of.iter_mut().filter(|of| **of == other).for_each(|of| *of = set);
                }
            });
        }
        let members = |set| (0..open.len()).filter(|site| set_of[*site] == set).collect::<Vec<_>>();
        (0..open.len()).map(members).filter(|set| set.len() > 1).collect()
    }

    /// Moves the prices of some sites up or down by the same, to where what they are given together just fits. Those who may
    /// notice are due. Gives how many groups were looked at.
    fn move_together(
        &self,
        sites: &[usize],
        open: &[f64],
        room: &[f64],
        prices: &mut [f64],
        is_due: &mut [bool],
        reach: &mut [f64],
    ) -> usize {
        let before = prices[sites[0]];
        let is_alone = sites.len() == 1;
        let least = sites.iter().map(|site| prices[*site]).fold(f64::INFINITY, f64::min);
        let down = if is_alone { least } else { least.floor() };
        sites.iter().for_each(|site| prices[*site] -= down);
        let room = sites.iter().map(|site| room[*site]).sum();
        let more = self.price_of(sites, open, room, prices, reach);
        // How the load of several falls between whole steps is for each of them alone to find: not over one that they are between.
        let more = if is_alone { more } else { down.clamp(more.floor(), more.ceil()) };
        sites.iter().for_each(|site| prices[*site] = (prices[*site] + more).min(MOST_STEPS as f64));
        if (prices[sites[0]] - before).abs() >= 1e-4 {
            for group in sites.iter().flat_map(|site| &self.groups_of[*site]) {
                for offer in self.offers_of(&self.groups[*group as usize]) {
                    let other = usize::from(offer.site);
                    is_due[other] |= sites != [other] && open[other] > 0.0;
                }
            }
        }
        sites.iter().map(|site| self.groups_of[*site].len() + COST_OF_A_SITE).sum()
    }

    /// By how much the prices of some sites must rise, at least, so that they fit together, the others' being what they are.
    fn price_of(&self, sites: &[usize], open: &[f64], room: f64, prices: &[f64], reach: &mut [f64]) -> f64 {
        // By the highest whole number of steps at which they still have them.
        reach.fill(0.0);
        let mut always = 0.0;
        let mut is_among = vec![false; open.len()];
        sites.iter().for_each(|site| is_among[*site] = true);
        let mut groups: Vec<u32> = sites.iter().flat_map(|site| &self.groups_of[*site]).copied().collect();
        if sites.len() > 1 {
            groups.sort_unstable();
            groups.dedup();
        }
        for group in groups {
            let group = &self.groups[group as usize];
            let offers = self.offers_of(group);
            let is_theirs = |offer: &Offer| is_among[usize::from(offer.site)];
            let is_anothers = |offer: &Offer| !is_theirs(offer);
            let mut own = [(Chance::default(), 0.0); 2 * EXACT];
            let mut count = 0;
            let of_none = split(offers, is_theirs, open, prices, |chance, part| {
                own[count] = (chance, part * group.demand);
                count += 1;
            });
            let left = split(offers, is_anothers, open, prices, |other, part| {
                for (chance, demand) in &own[..count] {
                    let needed = chance.steps + u32::from(other.place < chance.place);
                    if let Some(highest) = other.steps.checked_sub(needed) {
                        reach[(highest as usize).min(MOST_STEPS)] += part * demand;
                    }
                }
            });
            if left > 0.0 {
                reach[MOST_STEPS + 1] += own[..count].iter().map(|(_, demand)| left * demand).sum::<f64>();
                // Whom nobody admits the first takes all the same.
                let first = offers.iter().find(|offer| open[usize::from(offer.site)] > 0.0);
                always += if first.is_some_and(is_theirs) { left * of_none * group.demand } else { 0.0 };
            }
        }
        let room = room - always;
        let mut above = reach[MOST_STEPS + 1];
        if above > room {
            return MOST_STEPS as f64;
        }
        for steps in (0..=MOST_STEPS).rev() {
            let load = above + reach[steps];
            // What differs by rounding alone is the same on every machine.
            if load > room + 1e-9 {
                // Between these whole numbers the load falls evenly.
                return (steps as f64 + (load - room) / (load - above)).min(MOST_STEPS as f64);
            }
            above = load;
        }
        0.0
    }

    /// Rooms that are enough where there is not enough: as much larger, alike, as it takes among the sites that the same
    /// clients can go to. Each group in turn is poured anew over what the others gave, until nothing moves.
    fn stretch(&self, open: &[f64], room: &[f64]) -> Vec<f64> {
        let mut given = vec![0.0; self.offers.len()];
        let mut loads = vec![0.0; open.len()];
        let mut edges = Vec::with_capacity(2 * EXACT);
        for _ in 0..ROUNDS_OF_SPREADING {
            let mut moved = 0.0;
            for group in &self.groups {
                let first = group.first as usize;
                let offers = &self.offers[first..][..usize::from(group.count)];
                let given = &mut given[first..][..offers.len()];
                for (offer, given) in offers.iter().zip(&*given) {
                    loads[usize::from(offer.site)] -= given;
                }
                let level = level(group.demand, offers, open, room, &loads, &mut edges);
                for (offer, given) in offers.iter().zip(given) {
                    let site = usize::from(offer.site);
                    let most = open[site] * group.demand;
                    let now = (level * room[site] - loads[site]).clamp(0.0, most);
                    moved += (now - *given).abs();
                    *given = now;
                    loads[site] += now;
                }
            }
            if moved < EXACTLY / 10.0 {
                break;
            }
        }
        // A little more than just enough, or prices would never end to rise.
        room.iter().zip(loads).map(|(room, load)| room.max(load) * (1.0 + EXACTLY / 4.0)).collect()
    }
}

/// How full a group makes its sites, none of them more than it must: in parts of their room.
fn level(
    demand: f64,
    offers: &[Offer],
    open: &[f64],
    room: &[f64],
    loads: &[f64],
    edges: &mut Vec<(f64, f64)>,
) -> f64 {
    // Where a site begins to take some, and where it has all of those that it admits.
    edges.clear();
    for site in offers.iter().map(|offer| usize::from(offer.site)) {
        if open[site] > 0.0 && room[site] > 0.0 {
            edges.push((loads[site] / room[site], room[site]));
            edges.push(((loads[site] + open[site] * demand) / room[site], -room[site]));
        }
    }
    edges.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let (mut level, mut width, mut left) = (0.0, 0.0, demand);
    for (edge, wider) in edges.iter() {
        let until_here = width * (edge - level);
        if until_here >= left {
            return level + left / width;
        }
        (level, width, left) = (*edge, width + wider, left - until_here);
    }
    level
}

fn everybody(_: &Offer) -> bool {
    true
}

/// Splits a group among its sites, or among some of them, as queries are: by the block of a client each site admits
/// it or not, and costs the price rounded down or up, each for itself. Gives the part that none admits.
#[inline]
fn split(
    offers: &[Offer],
    takes_part: impl Fn(&Offer) -> bool,
    open: &[f64],
    prices: &[f64],
    mut each: impl FnMut(Chance, f64),
) -> f64 {
    let mut chances = [Chance::default(); 2 * EXACT];
    let mut count = 0;
    // No farther than the nearest that admits everybody.
    let mut bound = (u32::MAX, u8::MAX);
    for (place, offer) in offers.iter().enumerate() {
        let site = usize::from(offer.site);
        if open[site] <= 0.0 || !takes_part(offer) {
            continue;
        }
        let place = place as u8;
        let whole = prices[site] as u32;
        let up = prices[site] - f64::from(whole);
        let steps = u32::from(offer.step) + whole;
        if open[site] >= 1.0 {
            bound = bound.min((steps + u32::from(up > 0.0), place));
        }
        for (steps, part) in [(steps, open[site] * (1.0 - up)), (steps + 1, open[site] * up)] {
            if part > 0.0 && (steps, place) <= bound && count < chances.len() {
                let mut at = count;
                while at > 0 && (chances[at - 1].steps, chances[at - 1].place) > (steps, place) {
                    chances[at] = chances[at - 1];
                    at -= 1;
                }
                chances[at] = Chance { steps, place, part };
                count += 1;
            }
        }
    }
    // Of each site what may still come, and the product of them: that none has come yet.
    let mut ahead = [1.0_f64; EXACT];
    let mut left = 1.0;
    for chance in &chances[..count] {
        let of_site = &mut ahead[usize::from(chance.place)];
        let others = left / *of_site;
        each(*chance, chance.part * others);
        *of_site -= chance.part;
        if *of_site < 1e-9 {
            return 0.0;
        }
        left = others * *of_site;
    }
    left
}

#[cfg(test)]
impl Market {
    /// How far the clients of a group have it at some prices, on average.
    pub(super) fn steps_of(&self, group: &Group, open: &[f64], prices: &[f64]) -> f64 {
        let offers = self.offers_of(group);
        let mut steps = 0.0;
        split(offers, everybody, open, prices, |chance, part| {
            steps += part * f64::from(offers[usize::from(chance.place)].step);
        });
        steps
    }

    /// Which part of a group each site gets at some prices, of those that it can go to.
    pub(super) fn given(&self, group: &Group, open: &[f64], prices: &[f64]) -> Vec<(usize, f64)> {
        let offers = self.offers_of(group);
        let mut given: Vec<(usize, f64)> =
            offers.iter().map(|offer| (usize::from(offer.site), 0.0)).collect();
        split(offers, everybody, open, prices, |chance, part| given[usize::from(chance.place)].1 += part);
        given
    }
}
