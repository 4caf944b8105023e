//! Places + services -> [`Catchments`].
//!
//! The address spaces are cut into shards that threads take as they are free. Within a shard three things are laid
//! over each other: what the geo databases know, the special-purpose blocks, and the subnets that rules name.
//! Each combination that occurs is ranked once, for all services, and becomes a class.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use ipnetwork::IpNetwork;

use super::census::{Addresses, Counts};
use super::demand::{Demand, Family, Tally};
use super::ranking::{Interner, Order, Ranker, Rankings};
use super::table::{Boundaries, CELL, Cell, Ranges};
use super::{Catchments, RankingId, ServiceCatchments};
use crate::geo::special::{self, allocated_v6};
use crate::geo::{Country, Geography, Place, Records, Walker};
use crate::parallel;
use crate::site::rules::first_match;
use crate::site::{Rule, Service};

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

/// What lies over the databases: special-purpose blocks and the subnets of rules.
struct Overlays {
    /// Distinct combinations; 0 is that of nothing at all.
    kinds: Vec<Overlay>,
    v4: Vec<(u128, u32)>,
    v6: Vec<(u128, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Overlay {
    /// Number of the special-purpose run, from 1; 0 elsewhere.
    special: u32,
    /// The rules' subnets that the addresses lie in.
    subnets: Vec<IpNetwork>,
}

impl Overlays {
    fn is_special(&self, kind: u32) -> bool {
        self.kinds[kind as usize].special != 0
    }

    fn new(services: &[Arc<Service>]) -> Overlays {
        let subnets = services.iter().flat_map(|service| &service.rules).flat_map(|rule| &rule.subnets);
        let (v4_subnets, v6_subnets): (Vec<IpNetwork>, Vec<IpNetwork>) =
            subnets.copied().partition(IpNetwork::is_ipv4);
        let v4_runs: Vec<_> = special::v4_runs()
            .into_iter()
            .map(|(first, last)| (u128::from(first), u128::from(last)))
            .collect();
        let v6_runs = special::v6_runs();
        let mut kinds = Interner::default();
        kinds.number(Overlay::default());
        let v4 = lay(&v4_runs, 0, &v4_subnets, |_| false, &mut kinds);
        // However wide a rule's subnet is, there the embedded addresses decide, each for itself (meaning 2).
        let embeds = |first| special::embedded(Ipv6Addr::from(first)).is_some();
        let v6 = lay(&v6_runs, v4_runs.len() as u32, &v6_subnets, embeds, &mut kinds);
        Overlays { kinds: kinds.into_list(), v4, v6 }
    }
}

/// Cuts an address space wherever a run or a subnet begins or ends; gives each part's start and kind. A run that `is_closed`,
/// by its first address, no subnet reaches into.
fn lay(
    runs: &[special::Run<u128>],
    numbered_from: u32,
    subnets: &[IpNetwork],
    is_closed: impl Fn(u128) -> bool,
    kinds: &mut Interner<Overlay>,
) -> Vec<(u128, u32)> {
    let mut events: BTreeMap<u128, Vec<(IpNetwork, bool)>> = BTreeMap::from([(0, Vec::new())]);
    for &(first, last) in runs {
        events.entry(first).or_default();
        events.entry(last.wrapping_add(1)).or_default();
    }
    let mut distinct = subnets.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    for subnet in distinct {
        let (first, last) = match subnet {
            IpNetwork::V4(v4) => (u128::from(u32::from(v4.network())), u128::from(u32::from(v4.broadcast()))),
            IpNetwork::V6(v6) => (u128::from(v6.network()), u128::from(v6.broadcast())),
        };
        events.entry(first).or_default().push((subnet, true));
        // Where the space ends nothing needs to end; for IPv4 that is a start that no shard ever gets to.
        if let Some(after) = last.checked_add(1) {
            events.entry(after).or_default().push((subnet, false));
        }
    }
    let mut open: Vec<IpNetwork> = Vec::new();
    let mut parts = Vec::with_capacity(events.len());
    for (start, changes) in events {
        for (subnet, begins) in changes {
            if begins {
                open.push(subnet);
            } else {
                open.retain(|other| *other != subnet);
            }
        }
        let run = runs.partition_point(|(_, last)| *last < start);
        let (special, closed) = match runs.get(run) {
            Some((first, _)) if *first <= start => (numbered_from + run as u32 + 1, is_closed(*first)),
            _ => (0, false),
        };
        let subnets = if closed { Vec::new() } else { open.clone() };
        parts.push((start, kinds.number(Overlay { special, subnets })));
    }
    parts
}

/// Walks along the overlays of one shard, as the databases' blocks come in.
struct Cut<'o> {
    overlays: &'o [(u128, u32)],
    /// The overlay that `at` lies in.
    current: usize,
    at: u128,
    last: u128,
    is_done: bool,
}

impl<'o> Cut<'o> {
    fn new(overlays: &'o [(u128, u32)], first: u128, last: u128) -> Cut<'o> {
        let current = overlays.partition_point(|(start, _)| *start <= first) - 1;
        Cut { overlays, current, at: first, last, is_done: false }
    }

    /// Gives the parts, from first to last address, of what lies before a block, of which nothing is known, and then those of the block.
    #[inline]
    fn until(
        &mut self,
        first: u128,
        last: u128,
        records: Records,
        each: &mut impl FnMut(u128, u128, Records, u32),
    ) {
        if self.at < first {
            self.advance(first - 1, Records::default(), each);
        }
        self.advance(last, records, each);
    }

    fn finish(mut self, each: &mut impl FnMut(u128, u128, Records, u32)) {
        self.advance(self.last, Records::default(), each);
    }

    #[inline]
    fn advance(&mut self, last: u128, records: Records, each: &mut impl FnMut(u128, u128, Records, u32)) {
        while !self.is_done && self.at <= last {
            let overlay = self.overlays[self.current].1;
            let end = match self.overlays.get(self.current + 1) {
                Some((next, _)) if *next <= last => {
                    self.current += 1;
                    next - 1
                }
                _ => last,
            };
            each(self.at, end, records, overlay);
            self.is_done = end >= self.last;
            self.at = end.wrapping_add(1);
            if let Some((next, _)) = self.overlays.get(self.current + 1)
                && *next == self.at
            {
                self.current += 1;
            }
        }
    }
}

/// What decides a class: the records that speak for an address, and its overlay.
type Key = (Records, u32);

/// The classes that one thread has met; most blocks are like one not far before.
#[derive(Default)]
struct Cache {
    last: Option<(Key, u32)>,
    /// By number of the place record plus one, where nothing else matters: nearly everywhere. `UNMET` elsewhere.
    by_place: Vec<u32>,
    others: HashMap<Key, u32, FixedState>,
}

const UNMET: u32 = u32::MAX;

impl Cache {
    fn find(&mut self, key: &Key) -> &mut u32 {
        match *key {
            (Records { place, asn: 0 }, 0) => {
                let place = place as usize;
                if place >= self.by_place.len() {
                    self.by_place.resize((place + 1).next_power_of_two(), UNMET);
                }
                &mut self.by_place[place]
            }
            key => self.others.entry(key).or_insert(UNMET),
        }
    }
}

/// All that the order of sites depends on. Many records are about the same point, in IPv4 and in IPv6.
#[derive(PartialEq, Eq, Hash)]
struct Facts {
    country: Option<Country>,
    point: Option<(u64, u64)>,
    subdivision: Option<Box<str>>,
    asn: Option<u32>,
    overlay: u32,
}

/// All classes, shared by the threads.
struct Classes<'s> {
    services: &'s [Arc<Service>],
    geography: &'s dyn Geography,
    rankers: Vec<Ranker<'s>>,
    asks_for_asn: bool,
    asks_for_subdivision: bool,
    known: RwLock<HashMap<Facts, u32, FixedState>>,
    numbers: Mutex<Numbers>,
}

#[derive(Default)]
struct Numbers {
    /// By service.
    orders: Vec<Interner<Order>>,
    classes: ClassTable,
    /// By service and rule.
    rule_matches: Vec<Vec<bool>>,
}

impl<'s> Classes<'s> {
    fn new(services: &'s [Arc<Service>], geography: &'s dyn Geography) -> Classes<'s> {
        let numbers = Numbers {
            orders: services.iter().map(|_| Interner::default()).collect(),
            classes: ClassTable::new(services),
            rule_matches: services.iter().map(|service| vec![false; service.rules.len()]).collect(),
        };
        Classes {
            services,
            geography,
            rankers: services.iter().map(|service| Ranker::new(service)).collect(),
            asks_for_asn: any_rule(services, |rule| !rule.asns.is_empty()),
            asks_for_subdivision: any_rule(services, |rule| !rule.subdivisions.is_empty()),
            known: RwLock::default(),
            numbers: Mutex::new(numbers),
        }
    }

    #[inline]
    fn class(&self, cache: &mut Cache, records: Records, overlay: u32, overlays: &Overlays) -> u32 {
        let is_special = overlays.kinds[overlay as usize].special != 0;
        let records = match records {
            // Whatever a database claims to know of these (meaning 3).
            _ if is_special => Records::default(),
            Records { place, .. } if !self.asks_for_asn => Records { place, asn: 0 },
            both => both,
        };
        let key = (records, overlay);
        if let Some((last, class)) = cache.last
            && last == key
        {
            return class;
        }
        let class = cache.find(&key);
        if *class == UNMET {
            *class = self.find_or_rank(key, &overlays.kinds[overlay as usize]);
        }
        let class = *class;
        cache.last = Some((key, class));
        class
    }

    fn find_or_rank(&self, (records, overlay_number): Key, overlay: &Overlay) -> u32 {
        let mut place = self.geography.place(records);
        if !self.asks_for_asn {
            place.asn = None;
        }
        let facts = Facts {
            country: place.country,
            point: place.point().map(|point| (point.latitude.to_bits(), point.longitude.to_bits())),
            subdivision: place.subdivision.clone().filter(|_| self.asks_for_subdivision),
            asn: place.asn,
            overlay: overlay_number,
        };
        if let Some(class) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&facts) {
            return *class;
        }
        let ranked: Vec<(Order, Option<usize>)> = self
            .rankers
            .iter()
            .zip(self.services)
            .map(|(ranker, service)| {
                rank(ranker, service, &place, overlay.special, |net| overlay.subnets.contains(net))
            })
            .collect();
        let class = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).number(ranked);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(facts, class);
        class
    }

    fn into_table(self) -> Numbers {
        self.numbers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn any_rule(services: &[Arc<Service>], asks: impl Fn(&Rule) -> bool) -> bool {
    services.iter().flat_map(|service| &service.rules).any(asks)
}

/// The order of a service's sites for whoever is at a place, and the rule that matched. `special` is the number of the
/// special-purpose block that they are in, 0 elsewhere.
pub fn rank(
    ranker: &Ranker<'_>,
    service: &Service,
    place: &Place,
    special: u32,
    is_in: impl Fn(&IpNetwork) -> bool,
) -> (Order, Option<usize>) {
    let rule = first_match(service, place, is_in);
    let mut order = ranker.rank(place, rule);
    let is_named = rule.is_some_and(|rule| !service.rules[rule].subnets.is_empty());
    if !is_named {
        order.special = special;
    }
    (order, rule)
}

impl Numbers {
    fn number(&mut self, ranked: Vec<(Order, Option<usize>)>) -> u32 {
        let mut class = vec![0; self.classes.width];
        for (service, (order, rule)) in ranked.into_iter().enumerate() {
            if let Some(rule) = rule {
                self.rule_matches[service][rule] = true;
            }
            class[service] = self.orders[service].number(order);
            if let Some(column) = self.classes.rules[service] {
                class[column] = rule.map_or(0, |rule| rule as u32 + 1);
            }
        }
        self.classes.number(&class)
    }
}

/// What each class is in each service. In one piece: there may be as many classes as there are cities.
#[derive(Default)]
struct ClassTable {
    /// Columns: the ranking of each service, then the rule, from 1, of each that has rules.
    width: usize,
    /// By service: the column of its rules.
    rules: Vec<Option<usize>>,
    count: usize,
    /// By class, then column.
    cells: Vec<u32>,
    numbers: HashTable<u32>,
}

impl ClassTable {
    fn new(services: &[Arc<Service>]) -> ClassTable {
        let mut width = services.len();
        let column = |service: &Arc<Service>| {
            width += usize::from(!service.rules.is_empty());
            (!service.rules.is_empty()).then(|| width - 1)
        };
        let rules = services.iter().map(column).collect();
        ClassTable { width, rules, ..ClassTable::default() }
    }

    fn number(&mut self, class: &[u32]) -> u32 {
        const HASH: FixedState = FixedState::with_seed(1);
        let ClassTable { width, count, cells: all, numbers, .. } = self;
        let of = |all: &Vec<u32>, class: u32| HASH.hash_one(&all[class as usize * *width..][..*width]);
        let is_same = |known: &u32| all[*known as usize * *width..][..*width] == *class;
        let hash = HASH.hash_one(class);
        if let Some(known) = numbers.find(hash, is_same) {
            return *known;
        }
        let number = *count as u32;
        *count += 1;
        all.extend_from_slice(class);
        numbers.insert_unique(hash, number, |class| of(all, *class));
        number
    }

    /// By class, for one service.
    fn rankings(&self, service: usize) -> Vec<RankingId> {
        self.column(service).map(RankingId).collect()
    }

    /// By class, from 1; 0 where none speaks. Empty where the service has none.
    fn rules(&self, service: usize) -> Vec<u32> {
        self.rules[service].map_or_else(Vec::new, |column| self.column(column).collect())
    }

    fn column(&self, column: usize) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |class| self.cells[class * self.width + column])
    }
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
