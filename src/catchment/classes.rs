//! Classes: each combination of what is known of an address and what lies over it is ranked once, for all services, however many blocks
//! and threads meet it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use ipnetwork::IpNetwork;

use super::RankingId;
use super::overlay::{Overlay, Overlays};
use super::ranking::{Interner, Order, Ranker};
use crate::geo::{Country, Geography, Place, Records};
use crate::site::rules::first_match;
use crate::site::{Rule, Service};

/// What decides a class: the records that speak for an address, and its overlay.
type Key = (Records, u32);

/// The classes that one thread has met; most blocks are like one not far before.
#[derive(Default)]
pub(super) struct Cache {
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
pub(super) struct Classes<'s> {
    services: &'s [Arc<Service>],
    geography: &'s dyn Geography,
    rankers: Vec<Ranker<'s>>,
    asks_for_asn: bool,
    asks_for_subdivision: bool,
    known: RwLock<HashMap<Facts, u32, FixedState>>,
    numbers: Mutex<Numbers>,
}

#[derive(Default)]
pub(super) struct Numbers {
    /// By service.
    pub(super) orders: Vec<Interner<Order>>,
    pub(super) classes: ClassTable,
    /// By service and rule.
    pub(super) rule_matches: Vec<Vec<bool>>,
}

impl<'s> Classes<'s> {
    pub(super) fn new(services: &'s [Arc<Service>], geography: &'s dyn Geography) -> Classes<'s> {
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
    pub(super) fn class(
        &self,
        cache: &mut Cache,
        records: Records,
        overlay: u32,
        overlays: &Overlays,
    ) -> u32 {
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

    pub(super) fn into_table(self) -> Numbers {
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
pub(super) struct ClassTable {
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
    pub(super) fn rankings(&self, service: usize) -> Vec<RankingId> {
        self.column(service).map(RankingId).collect()
    }

    /// By class, from 1; 0 where none speaks. Empty where the service has none.
    pub(super) fn rules(&self, service: usize) -> Vec<u32> {
        self.rules[service].map_or_else(Vec::new, |column| self.column(column).collect())
    }

    fn column(&self, column: usize) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |class| self.cells[class * self.width + column])
    }
}
