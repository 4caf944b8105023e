//! Prices against what enumeration finds, and what must hold of them however many clients there are.

use std::collections::HashMap;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A group: the steps to each site, and how many clients.
type Clients = (Vec<u16>, u8);

/// Steps to a site that a group cannot go to.
const NOWHERE: u16 = u16::MAX;

fn market(capacities: &[f64], clients: &[Clients]) -> Market {
    let demand = clients.iter().map(|(_, count)| f64::from(*count)).sum();
    let in_order = |steps: &[u16]| {
        let mut order: Vec<(u16, u16)> =
            (0..).zip(steps.iter().copied()).filter(|(_, step)| *step != NOWHERE).collect();
        order.sort_by_key(|(_, step)| *step);
        let nearest = order[0].1;
        order.into_iter().map(move |(site, step)| (site, step - nearest))
    };
    let clients = clients.iter().map(|(steps, count)| (in_order(steps), f64::from(*count)));
    Market::of(capacities, Some(demand), clients).expect("clients")
}

fn all_open(sites: usize) -> Vec<Part> {
    vec![Part { open: 1.0, relief: 1.0 }; sites]
}

fn in_steps(prices: &Prices) -> Vec<f64> {
    prices.of_sites.iter().map(|price| f64::from(*price) / f64::from(PRICE_UNIT)).collect()
}

/// What comes of prices: loads, and the distance of all, in steps.
fn outcome(market: &Market, prices: &Prices) -> (Vec<f64>, f64) {
    let open = vec![1.0; market.capacities.len()];
    let prices = in_steps(prices);
    let mut steps = 0.0;
    for group in &market.groups {
        steps += market.steps_of(group, &open, &prices) * group.demand;
    }
    (market.loads(&open, &prices), steps)
}

/// The least steps of all clients together with at most so many at each site, by trying everything.
fn least(
    clients: &[Clients],
    room: &mut Vec<u8>,
    known: &mut HashMap<(usize, Vec<u8>), Option<u32>>,
) -> Option<u32> {
    fn place(
        clients: &[Clients],
        left: u8,
        site: usize,
        room: &mut Vec<u8>,
        known: &mut HashMap<(usize, Vec<u8>), Option<u32>>,
    ) -> Option<u32> {
        let (steps, _) = &clients[0];
        if site == steps.len() {
            return if left == 0 { least(&clients[1..], room, known) } else { None };
        }
        let nearest = steps.iter().min().expect("a site");
        let mut best = None;
        for here in 0..=left.min(room[site]) {
            room[site] -= here;
            let rest = place(clients, left - here, site + 1, room, known);
            room[site] += here;
            let sum = rest.map(|rest| rest + u32::from(here) * u32::from(steps[site] - nearest));
            best = [best, sum].into_iter().flatten().min();
        }
        best
    }
    let Some((_, count)) = clients.first() else { return Some(0) };
    let key = (clients.len(), room.clone());
    if let Some(known) = known.get(&key) {
        return *known;
    }
    let best = place(clients, *count, 0, room, known);
    known.insert(key, best);
    best
}

fn cases() -> impl Strategy<Value = (Vec<u8>, Vec<Clients>)> {
    let sites = prop_oneof![2 => Just(2_usize), 2 => Just(3), 1 => Just(4)];
    sites.prop_flat_map(|sites| (vec(1..12_u8, sites), vec((vec(0..400_u16, sites), 1..5_u8), 1..6)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where there is room, no site has too much, and the distance of all together is within 1 % of the least; where there is
    /// not, none has much more too much than all together.
    #[test]
    fn prices_spread_clients_as_well_as_trying_everything((room, clients) in cases()) {
        let capacities: Vec<f64> = room.iter().map(|room| f64::from(*room)).collect();
        let market = market(&capacities, &clients);
        let prices = market.price(&all_open(room.len()), &Prices::default());
        let (loads, steps) = outcome(&market, &prices);
        let demand: f64 = clients.iter().map(|(_, count)| f64::from(*count)).sum();
        let (mut left, mut known) = (room.clone(), HashMap::new());
        let fullness = loads.iter().zip(&market.capacities).map(|(load, capacity)| load / capacity);
        match least(&clients, &mut left, &mut known) {
            Some(least) => {
                for fullness in fullness {
                    prop_assert!(fullness <= 1.01, "{:?} of {:?} at {:?}", loads, market.capacities, prices);
                }
                let least = f64::from(least) / demand;
                prop_assert!(steps <= least * 1.01 + 0.01, "{} instead of {}: {:?} {:?}", steps, least, loads, prices);
            }
            None => {
                let all = 1.0 / market.capacities.iter().sum::<f64>();
                for fullness in fullness {
                    prop_assert!(fullness <= all * 1.01, "{:?} of {:?}: {}", loads, market.capacities, all);
                }
            }
        }
    }

    /// Where clients can go to some sites only, and there is not room: nobody is at a site that has more too much than another
    /// that they can go to.
    #[test]
    fn nobody_is_where_it_is_fuller_than_it_need_be((room, clients) in cases(), missing in vec(0..4_usize, 6)) {
        let capacities: Vec<f64> = room.iter().map(|room| f64::from(*room) / 8.0).collect();
        let mut clients = clients;
        for ((steps, _), missing) in clients.iter_mut().zip(missing) {
            let missing = missing % steps.len();
            steps[missing] = NOWHERE;
        }
        let market = market(&capacities, &clients);
        let prices = market.price(&all_open(room.len()), &Prices::default());
        let (loads, _) = outcome(&market, &prices);
        let fullness = |site: usize| loads[site] / market.capacities[site];
        let in_steps = in_steps(&prices);
        for group in &market.groups {
            let given = market.given(group, &vec![1.0; room.len()], &in_steps);
            // Rooms are stretched by a hair more than must be, so a few may be.
            for site in given.iter().filter(|(site, part)| part * group.demand > 0.01 * loads[*site]).map(|(site, _)| *site) {
                for (other, _) in &given {
                    prop_assert!(
                        fullness(site) <= 1.01 || fullness(site) <= fullness(*other) * 1.01,
                        "{} and {}: {:?} of {:?} at {:?}", site, other, loads, market.capacities, prices
                    );
                }
            }
        }
    }

    /// Meaning 10: as a site's price rises, clients only leave it, and as one comes back they only return.
    #[test]
    fn a_site_that_is_out_gets_none_and_all_of_its_own_back((room, clients) in cases(), out in 0..4_usize) {
        let out = out % room.len();
        let capacities: Vec<f64> = room.iter().map(|room| f64::from(*room)).collect();
        let market = market(&capacities, &clients);
        let mut parts = all_open(room.len());
        let before = market.price(&parts, &Prices::default());
        parts[out].open = 0.0;
        let without = market.price(&parts, &before);
        let open: Vec<f64> = parts.iter().map(|part| part.open).collect();
        let loads = market.loads(&open, &in_steps(&without));
        prop_assert_eq!(loads[out], 0.0);
        prop_assert!((loads.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        parts[out].open = 1.0;
        let after = market.price(&parts, &without);
        let loads = |prices| outcome(&market, prices).0;
        for (back, before) in loads(&after).into_iter().zip(loads(&before)) {
            prop_assert!((back - before).abs() <= 2.0 * SLACK * before.max(0.01), "{} instead of {}", back, before);
        }
    }
}

#[test]
fn what_fits_costs_nothing() {
    let market = market(&[6.0, 6.0], &[(vec![0, 9], 5), (vec![9, 0], 6)]);
    let prices = market.price(&all_open(2), &Prices::default());
    assert_eq!(prices.of_sites, [0, 0]);
}

#[test]
fn those_who_lose_least_go_first() {
    // All of one site's clients, which is out, are nearest to the second; those of the third group lose least.
    let clients = [(vec![0, 10, 90], 4), (vec![0, 10, 50], 4), (vec![0, 10, 20], 4)];
    let market = market(&[12.0, 8.0, 12.0], &clients);
    let mut parts = all_open(3);
    parts[0].open = 0.0;
    let prices = market.price(&parts, &Prices::default());
    assert!((9..=11).contains(&(prices.of_sites[1] / PRICE_UNIT)), "{prices:?}");
    assert!((prices.fullest - 1.0).abs() < 0.01, "{prices:?}");
}

#[test]
fn a_site_that_asks_for_relief_gives_that_part_away_whatever_its_capacity() {
    let market = market(&[100.0, 100.0], &[(vec![0, 3], 5), (vec![0, 9], 5), (vec![9, 0], 5)]);
    let mut parts = all_open(2);
    parts[0].relief = 0.7;
    let (loads, _) = outcome(&market, &market.price(&parts, &Prices::default()));
    assert!((loads[0] - 0.7 * 2.0 / 3.0).abs() < 0.01, "{loads:?}");
}

#[test]
fn small_changes_move_nobody() {
    let market = market(&[5.0, 9.0], &[(vec![0, 3], 5), (vec![0, 9], 5)]);
    let mut parts = all_open(2);
    let before = market.price(&parts, &Prices::default());
    assert_ne!(before.of_sites, [0, 0]);
    parts[1].open = 0.99;
    assert_eq!(market.price(&parts, &before).of_sites, before.of_sites);
}

/// Time is bounded, however full it is: measured with optimisation, where it is some ten milliseconds.
#[test]
fn five_thousand_groups_and_three_hundred_sites_take_no_time() {
    let mut number = 1_u64;
    let mut next = move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (number >> 33) as usize
    };
    let clients: Vec<(Vec<(u16, u16)>, f64)> = (0..5000)
        .map(|_| {
            let first = next() % 300;
            let order =
                (0..8).map(|place| (((first + place * 7) % 300) as u16, (place * 9 + next() % 9) as u16));
            (order.collect(), 1.0 + (next() % 100) as f64)
        })
        .collect();
    let capacities = vec![1.0; 300];
    let market =
        Market::of(&capacities, None, clients.into_iter().map(|(order, demand)| (order.into_iter(), demand)))
            .expect("clients");
    let mut parts = all_open(300);
    for out in [7, 14, 21, 28, 200] {
        parts[out].open = 0.0;
        let begun = Instant::now();
        let prices = market.price(&parts, &Prices::default());
        println!("without {out}: {:?}, the fullest has {:.3}", begun.elapsed(), prices.fullest);
        assert!(prices.fullest < 1.02, "{}", prices.fullest);
    }
}

#[test]
fn where_there_is_not_room_each_has_as_much_too_much() {
    let market = market(&[4.0, 1.0], &[(vec![0, 0], 8)]);
    let prices = market.price(&all_open(2), &Prices::default());
    let (loads, _) = outcome(&market, &prices);
    assert!((loads[1] - 0.2).abs() < 0.002, "{loads:?} {prices:?}");
}
