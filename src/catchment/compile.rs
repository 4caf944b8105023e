//! Places + services -> [`Catchments`].
//!
//! The address spaces are cut into shards that threads take as they are free. Within a shard three things are laid
//! over each other: what the geo databases know, the special-purpose blocks, and the subnets that rules name.
//! Each combination that occurs is ranked once, for all services, and becomes a class.

use std::sync::{Arc, Mutex, PoisonError};

use super::census::{Addresses, Counts};
use super::classes::{Cache, Classes, Numbers};
use super::demand::{Demand, Family, Tally};
use super::overlay::{Cut, Overlays};
use super::ranking::{Interner, Order, Rankings};
use super::table::{Boundaries, CELL, Cell, Ranges};
use super::{Catchments, ServiceCatchments};
use crate::geo::special::allocated_v6;
use crate::geo::{Geography, Records, Walker};
use crate::parallel;
use crate::site::Service;

/// Compiles the tables of some services on all cores.
#[must_use]
pub fn compile(services: &[Arc<Service>], geography: &dyn Geography) -> Catchments {
    survey(services, geography, false).assemble(services)
}

/// What is known of the whole address space: all that the geo databases are needed for, so that they can be let go of
/// before the tables are put together.
pub struct Survey {
    v4: Vec<V4Ranges>,
    v6: Vec<V6Ranges>,
    numbers: Numbers,
    demand: Demand,
    /// Each thread's.
    counts: Vec<Counts<u32>>,
}

/// Walks the databases on all cores. `counts`: for a [`Census`](super::census::Census), too.
#[must_use]
pub fn survey(services: &[Arc<Service>], geography: &dyn Geography, counts: bool) -> Survey {
    let overlays = Overlays::new(services);
    let classes = Classes::new(services, geography);
    let demand = Mutex::new(Demand::default());
    let tally = |family| Tally::new(services, geography, family);
    geography.begin();
    let is_nobody = |records: Records| records == Records::default() && !geography.knows_nothing();
    let allocated = allocated_v6();
    let thread =
        || Thread { walker: geography.walker(), cache: Cache::default(), counted: Counts::default() };
    let walk_v4 = |shard: usize, thread: &mut Thread<'_>| {
        let first = (shard as u32) << 24;
        let mut ranges = V4Ranges::default();
        let mut cut = Cut::new(&overlays.v4, u128::from(first), u128::from(first | 0x00ff_ffff));
        let mut tally = tally(Family::V4);
        let Thread { walker, cache, counted } = thread;
        let mut push = |start: u128, last, records, overlay| {
            let class = classes.class(cache, records, overlay, &overlays);
            ranges.push(start as u32, class);
            if !overlays.is_special(overlay) {
                tally.add(class, records, start, last);
                if counts && !is_nobody(records) {
                    let v4 = (last - start + 1) as u64;
                    counted.add(records.place, class, Addresses { v4, v6: 0 });
                }
            }
        };
        walker.walk_v4((first, 8), &mut |block| {
            let (first, last) = (u128::from(block.first), u128::from(block.last));
            cut.until(first, last, block.records, &mut push);
        });
        cut.finish(&mut push);
        tally.add_to(&demand);
        ranges
    };
    let walk_v6 = |shard: usize, thread: &mut Thread<'_>| {
        let (first, last, is_walked) = v6_shard(shard);
        // Of most shards one or none.
        let is_here = |&&run: &&(u128, u128)| overlap((first, last), run) > 0;
        let allocated: Vec<(u128, u128)> = allocated.iter().filter(is_here).copied().collect();
        let mut ranges = V6Ranges::default();
        let mut cut = Cut::new(&overlays.v6, first, last);
        let mut tally = tally(Family::V6);
        let Thread { walker, cache, counted } = thread;
        let mut push = |start, last, records, overlay| {
            let class = classes.class(cache, records, overlay, &overlays);
            ranges.push(start, class);
            if !overlays.is_special(overlay) {
                tally.add(class, records, start, last);
                if counts && !is_nobody(records) {
                    let v6 = allocated.iter().map(|&run| overlap((start, last), run)).sum();
                    if v6 > 0 {
                        counted.add(records.place, class, Addresses { v4: 0, v6 });
                    }
                }
            }
        };
        if is_walked {
            walker.walk_v6((first, 16), &mut |block| {
                cut.until(block.first, block.last, block.records, &mut push);
            });
        }
        cut.finish(&mut push);
        tally.add_to(&demand);
        ranges
    };
    // Both families in one go: what a thread has met in the one it knows in the other.
    let walk = |shard: usize, thread: &mut Thread<'_>| match shard.checked_sub(V4_SHARDS) {
        None => Shard::V4(walk_v4(shard, thread)),
        Some(shard) => Shard::V6(walk_v6(shard, thread)),
    };
    let (shards, counted) = parallel::map_and_gather(V4_SHARDS + V6_SHARDS, thread, walk, |thread| {
        counts.then_some(thread.counted)
    });
    let (mut v4, mut v6) = (Vec::with_capacity(V4_SHARDS), Vec::with_capacity(V6_SHARDS));
    for shard in shards {
        match shard {
            Shard::V4(ranges) => v4.push(ranges),
            Shard::V6(ranges) => v6.push(ranges),
        }
    }
    let demand = demand.into_inner().unwrap_or_else(PoisonError::into_inner);
    Survey { v4, v6, numbers: classes.into_table(), demand, counts: counted.into_iter().flatten().collect() }
}

/// How many addresses two runs, from first to last, have in common.
fn overlap((first, last): (u128, u128), (from, to): (u128, u128)) -> u128 {
    let (first, last) = (first.max(from), last.min(to));
    if first > last { 0 } else { last - first + 1 }
}

/// What one shard comes to.
enum Shard {
    V4(V4Ranges),
    V6(V6Ranges),
}

/// IPv4 in pieces of a /8.
const V4_SHARDS: usize = 256;

/// 2000::/3 in pieces of a /16, and what lies below and above it, of which no database knows anything.
const V6_SHARDS: usize = 8192 + 2;

fn v6_shard(shard: usize) -> (u128, u128, bool) {
    const UNICAST: u128 = 0x2000 << 112;
    match shard {
        0 => (0, UNICAST - 1, false),
        shard if shard == V6_SHARDS - 1 => (0x4000 << 112, u128::MAX, false),
        shard => {
            let first = UNICAST + ((shard as u128 - 1) << 112);
            (first, first + ((1 << 112) - 1), true)
        }
    }
}

/// What one thread works with.
struct Thread<'g> {
    walker: Box<dyn Walker + 'g>,
    cache: Cache,
    counted: Counts<u32>,
}

/// Ranges of one shard, neighbours of one class merged.
#[derive(Default)]
struct V4Ranges {
    starts: Vec<u32>,
    classes: Vec<u32>,
}

impl V4Ranges {
    #[inline]
    fn push(&mut self, start: u32, class: u32) {
        if self.classes.last() != Some(&class) {
            self.starts.push(start);
            self.classes.push(class);
        }
    }

    fn join(shards: Vec<V4Ranges>) -> V4Ranges {
        let count = shards.iter().map(|shard| shard.starts.len()).sum();
        let mut joined = V4Ranges { starts: Vec::with_capacity(count), classes: Vec::with_capacity(count) };
        for shard in shards {
            // Only a shard's first can be like what is there already.
            let skipped =
                usize::from(joined.classes.last().is_some_and(|last| shard.classes.first() == Some(last)));
            joined.starts.extend_from_slice(&shard.starts[skipped..]);
            joined.classes.extend_from_slice(&shard.classes[skipped..]);
        }
        joined
    }
}

/// The same by upper halves, with the /64s that are split taken out into cells.
#[derive(Default)]
struct V6Ranges {
    starts: Vec<u64>,
    classes: Vec<u32>,
    cells: Vec<Cell>,
    /// The class that goes on, cells or not.
    class: Option<u32>,
    /// The /64 that the last range is a cell for.
    cell_at: Option<u64>,
}

impl V6Ranges {
    #[inline]
    fn push(&mut self, start: u128, class: u32) {
        if self.class == Some(class) {
            return;
        }
        let (upper, lower) = ((start >> 64) as u64, start as u64);
        self.close_cell_before(upper);
        if lower == 0 {
            self.push_range(upper, class);
        } else {
            self.open_cell(upper);
            if let Some(cell) = self.cells.last_mut() {
                cell.parts.push((lower, class));
            }
        }
        self.class = Some(class);
    }

    /// What goes on after a cell begins a range of its own.
    fn close_cell_before(&mut self, upper: u64) {
        if let (Some(at), Some(class)) = (self.cell_at, self.class)
            && at < upper
        {
            self.cell_at = None;
            if at + 1 < upper {
                self.push_range(at + 1, class);
            }
        }
    }

    fn open_cell(&mut self, upper: u64) {
        if self.cell_at == Some(upper) {
            return;
        }
        let begins_with = if self.starts.last() == Some(&upper) {
            self.starts.pop();
            self.classes.pop()
        } else {
            self.class
        };
        self.push_range(upper, CELL | self.cells.len() as u32);
        self.cells.push(Cell { parts: vec![(0, begins_with.unwrap_or(0))] });
        self.cell_at = Some(upper);
    }

    fn push_range(&mut self, upper: u64, class: u32) {
        self.starts.push(upper);
        self.classes.push(class);
    }

    fn join(shards: Vec<V6Ranges>) -> V6Ranges {
        let count = shards.iter().map(|shard| shard.starts.len()).sum();
        let mut joined = V6Ranges {
            starts: Vec::with_capacity(count),
            classes: Vec::with_capacity(count),
            ..V6Ranges::default()
        };
        for shard in shards {
            let Some(&first) = shard.starts.first() else { continue };
            joined.close_cell_before(first);
            let number = joined.cells.len() as u32;
            for (&start, &class) in shard.starts.iter().zip(&shard.classes) {
                let class = if class & CELL == 0 { class } else { class + number };
                if class & CELL != 0 || joined.classes.last() != Some(&class) {
                    joined.push_range(start, class);
                }
            }
            joined.cells.extend(shard.cells);
            joined.class = shard.class;
            joined.cell_at = shard.cell_at;
        }
        // What goes on after the last cell, up to the end of the space.
        if let (Some(at), Some(class)) = (joined.cell_at, joined.class)
            && let Some(after) = at.checked_add(1)
        {
            joined.push_range(after, class);
        }
        joined
    }
}

impl Survey {
    /// What a [`Census`] is made of, where it was counted: once.
    pub(crate) fn take_counts(&mut self) -> Vec<Counts<u32>> {
        std::mem::take(&mut self.counts)
    }

    /// Puts the tables together. The services are those of the survey.
    #[must_use]
    pub fn assemble(self, services: &[Arc<Service>]) -> Catchments {
        let Survey { v4, v6, numbers, demand, counts: _ } = self;
        assemble(services, &V4Ranges::join(v4), V6Ranges::join(v6), numbers, &demand)
    }
}

fn assemble(
    services: &[Arc<Service>],
    v4: &V4Ranges,
    v6: V6Ranges,
    numbers: Numbers,
    demand: &Demand,
) -> Catchments {
    let classes = numbers.classes;
    let cells = v6.cells;
    let of_service = |index: usize, service: &Service, orders: Interner<Order>, rule_matches: Vec<bool>| {
        let mut of_service = ServiceCatchments {
            ranking_of: classes.rankings(index),
            rule_of: classes.rules(index),
            rankings: Rankings::new(service, &orders.into_list()),
            v4_changes: Boundaries::default(),
            v6_changes: Boundaries::default(),
            clients: Vec::new(),
            rule_matches,
        };
        if service.spill {
            of_service.clients = demand.clients(&of_service.ranking_of, &of_service.rankings);
        }
        let ranking = |class: u32| match class & CELL {
            0 => Some(of_service.ranking_of[class as usize]),
            _ => of_service.ranking_of_cell(&cells[(class & !CELL) as usize]),
        };
        // A /64 that is split for this service is a run of its own: no block reaches into or out of it.
        let changes = |before: u32, here: u32| {
            let (before, here) = (ranking(before), ranking(here));
            before != here || before.is_none()
        };
        let v4_changes = Boundaries::new(v4.classes.len(), |n| changes(v4.classes[n - 1], v4.classes[n]));
        let v6_changes = Boundaries::new(v6.classes.len(), |n| changes(v6.classes[n - 1], v6.classes[n]));
        of_service.v4_changes = v4_changes;
        of_service.v6_changes = v6_changes;
        of_service
    };
    let parts = services.iter().zip(numbers.orders).zip(numbers.rule_matches).enumerate();
    let services = parts
        .map(|(index, ((service, orders), matches))| of_service(index, service, orders, matches))
        .collect();
    Catchments {
        v4: Ranges::new(&v4.starts, &v4.classes),
        v6: Ranges::new(&v6.starts, &v6.classes),
        cells,
        services,
    }
}
