//! Finds prices: those of full sites go up and down, one site after the other, each to where its own load just fits, until
//! all do. With prices of others as they are a site's load falls with its own; so each step is the best for its site, and all
//! together they climb to the optimum of a concave function, the dual of the transportation problem.

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
            let left = split(offers, None, open, prices, |chance, part| {
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
        while looks < MOST_LOOKS && is_due.contains(&true) {
            for site in 0..open.len() {
                if !std::mem::replace(&mut is_due[site], false) {
                    continue;
                }
                looks += self.groups_of[site].len() + COST_OF_A_SITE;
                let price = self.price_of(site, open, room[site], &prices, &mut reach);
                if (price - prices[site]).abs() < 1e-4 {
                    continue;
                }
                prices[site] = price;
                for group in &self.groups_of[site] {
                    for offer in self.offers_of(&self.groups[*group as usize]) {
                        let other = usize::from(offer.site);
                        is_due[other] |= other != site && open[other] > 0.0;
                    }
                }
            }
        }
        prices
    }

    /// The least price at which a site's load fits, the others' prices being what they are.
    fn price_of(&self, site: usize, open: &[f64], room: f64, prices: &[f64], reach: &mut [f64]) -> f64 {
        // By the highest whole number of steps at which the site still has them.
        reach.fill(0.0);
        let mut always = 0.0;
        for group in &self.groups_of[site] {
            let group = &self.groups[*group as usize];
            let offers = self.offers_of(group);
            let Some(place) = offers.iter().position(|offer| usize::from(offer.site) == site) else {
                continue;
            };
            let own = u32::from(offers[place].step);
            let left = split(offers, Some(place), open, prices, |chance, part| {
                let highest = if usize::from(chance.place) < place {
                    chance.steps.checked_sub(own + 1)
                } else {
                    chance.steps.checked_sub(own)
                };
                if let Some(highest) = highest {
                    reach[(highest as usize).min(MOST_STEPS)] += part * group.demand;
                }
            });
            if left > 0.0 {
                reach[MOST_STEPS + 1] += left * group.demand;
                let is_first = offers[..place].iter().all(|offer| open[usize::from(offer.site)] <= 0.0);
                always += if is_first { left * group.demand * (1.0 - open[site]) } else { 0.0 };
            }
        }
        let room = (room - always) / open[site];
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
    /// clients can go to.
    fn stretch(&self, open: &[f64], room: &[f64]) -> Vec<f64> {
        let in_all: f64 = room.iter().zip(open).map(|(room, open)| room * open).sum();
        let mut weights: Vec<f64> = room.iter().zip(open).map(|(room, open)| room * open).collect();
        let mut loads = vec![0.0; open.len()];
        for _ in 0..ROUNDS_OF_SPREADING {
            loads.fill(0.0);
            for group in &self.groups {
                let offers = self.offers_of(group);
                let all: f64 = offers.iter().map(|offer| weights[usize::from(offer.site)]).sum();
                if all > 0.0 {
                    for offer in offers {
                        let site = usize::from(offer.site);
                        loads[site] += group.demand * weights[site] / all;
                    }
                }
            }
            for ((weight, load), room) in weights.iter_mut().zip(&loads).zip(room) {
                if *load > 0.0 && *room > 0.0 {
                    *weight = (*weight * room / load / in_all).clamp(1e-12, 1e12);
                }
            }
        }
        // A little more than just enough, or prices would never end to rise.
        room.iter().zip(loads).map(|(room, load)| room.max(load) * (1.0 + 2.0 * EXACTLY)).collect()
    }
}

/// Splits a group among its sites, or among all but one of them, as queries are: by the block of a client each site admits
/// it or not, and costs the price rounded down or up, each for itself. Gives the part that none admits.
#[inline]
fn split(
    offers: &[Offer],
    without: Option<usize>,
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
        if open[site] <= 0.0 || without == Some(place) {
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
        split(offers, None, open, prices, |chance, part| {
            steps += part * f64::from(offers[usize::from(chance.place)].step);
        });
        steps
    }
}
