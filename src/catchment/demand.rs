//! How many clients have which ranking, for services that spill: counted while the databases are walked, as `coverage` counts
//! them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::FixedState;

use super::RankingId;
use crate::geo::special::allocated_v6;
use crate::geo::{Geography, Records};
use crate::site::Service;

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// The addresses of each class: of IPv4, and of IPv6 in /64s.
#[derive(Debug, Default)]
pub(super) struct Demand {
    by_class: Vec<[u64; 2]>,
}

/// What one shard adds to it.
pub(super) struct Tally {
    family: Family,
    is_wanted: bool,
    counts_unknown: bool,
    /// Of IPv6, what anybody was given.
    allocated: Vec<(u128, u128)>,
    by_class: HashMap<u32, u64, FixedState>,
}

impl Tally {
    /// Counts nothing where nobody asks.
    pub(super) fn new(services: &[Arc<Service>], geography: &dyn Geography, family: Family) -> Tally {
        Tally {
            family,
            is_wanted: services.iter().any(|service| service.spill),
            counts_unknown: geography.knows_nothing(),
            allocated: if family == Family::V6 { allocated_v6() } else { Vec::new() },
            by_class: HashMap::default(),
        }
    }

    /// Addresses from the first to the last of some, none of them special.
    #[inline]
    pub(super) fn add(&mut self, class: u32, records: Records, first: u128, last: u128) {
        if !self.is_wanted || records.place == 0 && !self.counts_unknown {
            return;
        }
        let count = match self.family {
            Family::V4 => (last - first + 1) as u64,
            Family::V6 => {
                let within = |&(from, to): &(u128, u128)| {
                    let (first, last) = (first.max(from), last.min(to));
                    if first > last { 0 } else { ((last - first) >> 64) as u64 + 1 }
                };
                self.allocated.iter().map(within).sum()
            }
        };
        *self.by_class.entry(class).or_default() += count;
    }

    pub(super) fn add_to(self, demand: &Mutex<Demand>) {
        if self.by_class.is_empty() {
            return;
        }
        let demand = &mut demand.lock().unwrap_or_else(PoisonError::into_inner).by_class;
        for (class, count) in self.by_class {
            let class = class as usize;
            if class >= demand.len() {
                demand.resize((class + 1).next_power_of_two(), [0; 2]);
            }
            demand[class][self.family as usize] += count;
        }
    }
}

impl Demand {
    /// The part of all clients that have each ranking. IPv4 and IPv6 are half of it each.
    pub(super) fn by_ranking(&self, ranking_of: &[RankingId], count: usize) -> Vec<f64> {
        let mut all = [0_u64; 2];
        for counts in &self.by_class {
            all[0] += counts[0];
            all[1] += counts[1];
        }
        let families = all.iter().filter(|all| **all > 0).count() as f64;
        let part = |family: usize, count: u64| {
            if all[family] > 0 { count as f64 / all[family] as f64 / families } else { 0.0 }
        };
        let mut demand = vec![0.0; count];
        for (RankingId(ranking), counts) in ranking_of.iter().zip(&self.by_class) {
            demand[*ranking as usize] += part(0, counts[0]) + part(1, counts[1]);
        }
        demand
    }
}
