//! How many clients have which sites how far, for services that spill: counted while the databases are walked, as `coverage`
//! counts them. Who goes where is found anew whenever a site comes or goes, so there are not many groups of them, however many
//! rankings there are: what is about as far is then taken together.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use super::RankingId;
use super::ranking::Rankings;
use crate::geo::special::allocated_v6;
use crate::geo::{Geography, Records};
use crate::site::Service;

/// More groups of clients than that are not told apart.
const MOST_GROUPS: usize = 2048;

/// Clients for whom the same sites are about as far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// In their order, and how many steps farther than the first each is.
    pub sites: Box<[(u16, u16)]>,
    /// The part of all clients that they are.
    pub demand: f64,
}

impl Clients {
    /// Octets of memory.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Clients>() + self.sites.len() * size_of::<(u16, u16)>()
    }
}

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
    /// By what sites are how far. IPv4 and IPv6 are half of all each.
    pub(super) fn clients(&self, ranking_of: &[RankingId], rankings: &Rankings) -> Vec<Clients> {
        let mut all = [0_u64; 2];
        for counts in &self.by_class {
            all[0] += counts[0];
            all[1] += counts[1];
        }
        let families = all.iter().filter(|all| **all > 0).count() as f64;
        let part = |family: usize, count: u64| match all[family] {
            0 => 0.0,
            all => count as f64 / all as f64 / families,
        };
        let mut counts = vec![[0_u64; 2]; rankings.len()];
        for (RankingId(ranking), of_class) in ranking_of.iter().zip(&self.by_class) {
            counts[*ranking as usize][0] += of_class[0];
            counts[*ranking as usize][1] += of_class[1];
        }
        let clients = (0..).map(RankingId).zip(counts).map(|(id, counts)| {
            let steps = rankings.steps(id).iter().copied();
            let sites = rankings.get(id).exact.iter().copied().zip(steps).collect();
            Clients { sites, demand: part(0, counts[0]) + part(1, counts[1]) }
        });
        take_together(clients.filter(|clients| clients.demand > 0.0).collect(), MOST_GROUPS)
    }
}

/// Sites, and how many grains farther each is.
type Coarse = Vec<(u16, u16)>;

/// What is taken together.
struct Sum {
    /// By site, each client's times its demand.
    steps: Vec<f64>,
    demand: f64,
}

/// Alike on every machine, though rankings are numbered as threads come to them.
fn take_together(mut clients: Vec<Clients>, most: usize) -> Vec<Clients> {
    clients.sort_unstable_by(|a, b| a.sites.cmp(&b.sites));
    for grain in (0..16).map(|shift| 1 << shift) {
        let mut groups: BTreeMap<Coarse, Sum> = BTreeMap::new();
        for Clients { sites, demand } in &clients {
            let key = sites.iter().map(|(site, steps)| (*site, steps / grain)).collect();
            let group =
                groups.entry(key).or_insert_with(|| Sum { steps: vec![0.0; sites.len()], demand: 0.0 });
            for (sum, (_, steps)) in group.steps.iter_mut().zip(sites) {
                *sum += f64::from(*steps) * demand;
            }
            group.demand += demand;
        }
        if groups.len() <= most || grain == 1 << 15 {
            let group = |(key, Sum { steps, demand }): (Coarse, Sum)| {
                let mean = |((site, _), steps): (&(u16, u16), f64)| (*site, (steps / demand).round() as u16);
                Clients { sites: key.iter().zip(steps).map(mean).collect(), demand }
            };
            return groups.into_iter().map(group).collect();
        }
    }
    clients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_as_far_is_taken_together_and_nobody_is_lost() {
        let clients = (0..1000_u16).map(|number| Clients {
            sites: [(0, 0), (1, number % 100), (2, 100 + number / 10)].into(),
            demand: 0.001,
        });
        let groups = take_together(clients.clone().collect(), 50);
        assert!((10..=50).contains(&groups.len()), "{}", groups.len());
        assert!((groups.iter().map(|group| group.demand).sum::<f64>() - 1.0).abs() < 1e-9);
        let mean = |groups: &[Clients]| {
            groups.iter().map(|group| f64::from(group.sites[2].1) * group.demand).sum::<f64>()
        };
        assert!((mean(&groups) - mean(&clients.clone().collect::<Vec<_>>())).abs() < 0.5);
        // Where there are few they stay as they are.
        assert_eq!(take_together(clients.take(50).collect(), 50).len(), 50);
    }
}
