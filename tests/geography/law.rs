//! The law of the compiled table: at every address it says what ranking that address alone would say, and the block
//! that it reports is the largest with that ranking (meaning 5).
//!
//! Rankings can change only where a network, a rule's subnet or a reserved block begins or ends; so looking at all
//! of those places within a block is looking at the whole of it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use meridian::catchment::compile::compile;
use meridian::catchment::ranking::Order;
use meridian::finding::{At, Source};
use meridian::geo::special::{v4_runs, v6_runs};
use meridian::geo::{Block, Continent, Geography, Place, Records, Walker};
use meridian::site::{Near, Rule, RuleAction, Service, Site};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{address, at, country, is_order, look_up, naive, ranking};
use crate::world;

/// First address and length.
type Prefix = (u128, u8);

/// An address space of one family.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Family {
    is_v6: bool,
}

impl Family {
    fn bits(self) -> u8 {
        if self.is_v6 { 128 } else { 32 }
    }

    fn last(self) -> u128 {
        u128::MAX >> (128 - u32::from(self.bits()))
    }

    fn block(self, around: u128, length: u8) -> RangeInclusive<u128> {
        let host = self.last().checked_shr(u32::from(length)).filter(|_| length < self.bits()).unwrap_or(0);
        around & !host..=around | host
    }

    fn network(self, (first, length): Prefix) -> IpNetwork {
        IpNetwork::new(address(first, self.is_v6), length).expect("a network")
    }
}

const V4: Family = Family { is_v6: false };
const V6: Family = Family { is_v6: true };

/// A database that is a list: of the networks that an address lies in the longest counts.
#[derive(Debug)]
struct List {
    v4: Vec<(Prefix, Records)>,
    v6: Vec<(Prefix, Records)>,
}

impl List {
    fn of(&self, family: Family) -> &[(Prefix, Records)] {
        if family.is_v6 { &self.v6 } else { &self.v4 }
    }

    fn records(&self, family: Family, number: u128) -> Records {
        let networks = self.of(family).iter();
        let around = networks.filter(|((first, length), _)| family.block(*first, *length).contains(&number));
        around.max_by_key(|((_, length), _)| *length).map(|(_, records)| *records).unwrap_or_default()
    }

    /// What is known of an address; nobody was given IPv6 outside of 2000::/3, so that nothing is known of it.
    fn place(&self, family: Family, number: u128) -> Place {
        if family.is_v6 && number >> 125 != 1 {
            return Place::default();
        }
        Geography::place(self, self.records(family, number))
    }

    /// Where anything begins, or has just ended.
    fn edges(&self, family: Family) -> Vec<u128> {
        let ranges = self.of(family).iter().map(|((first, length), _)| family.block(*first, *length));
        edges(family, ranges)
    }
}

fn edges(family: Family, ranges: impl Iterator<Item = RangeInclusive<u128>>) -> Vec<u128> {
    let ends = ranges.flat_map(|range| [Some(*range.start()), range.end().checked_add(1)]);
    let mut edges: Vec<u128> = ends.flatten().chain([0]).filter(|edge| *edge <= family.last()).collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

impl Geography for List {
    fn walker(&self) -> Box<dyn Walker + '_> {
        Box::new(ListWalker { list: self, v4: self.edges(V4), v6: self.edges(V6) })
    }

    fn place(&self, records: Records) -> Place {
        let asn = records.asn.checked_sub(1).map(|asn| ASNS[asn as usize]);
        let place = records.place.checked_sub(1).map(|place| places().swap_remove(place as usize));
        Place { asn, ..place.unwrap_or_default() }
    }
}

struct ListWalker<'l> {
    list: &'l List,
    v4: Vec<u128>,
    v6: Vec<u128>,
}

impl ListWalker<'_> {
    fn walk(&self, family: Family, (first, length): Prefix, each: &mut dyn FnMut(Block<u128>)) {
        let edges = if family.is_v6 { &self.v6 } else { &self.v4 };
        let within = family.block(first, length);
        let from = edges.partition_point(|edge| *edge <= first) - 1;
        for (index, &edge) in edges.iter().enumerate().skip(from) {
            if edge > *within.end() {
                return;
            }
            let last = edges.get(index + 1).map_or(family.last(), |next| next - 1).min(*within.end());
            let records = self.list.records(family, edge);
            if records != Records::default() {
                each(Block { first: edge.max(first), last, records });
            }
        }
    }
}

impl Walker for ListWalker<'_> {
    fn walk_v4(&mut self, (first, length): (u32, u8), each: &mut dyn FnMut(Block<u32>)) {
        self.walk(V4, (u128::from(first), length), &mut |block| {
            each(Block { first: block.first as u32, last: block.last as u32, records: block.records });
        });
    }

    fn walk_v6(&mut self, prefix: (u128, u8), each: &mut dyn FnMut(Block<u128>)) {
        assert_eq!(prefix.0 >> 125, 1, "nothing else is ever asked for");
        self.walk(V6, prefix, each);
    }
}

const ASNS: [u32; 2] = [13335, 64500];

fn places() -> Vec<Place> {
    let place = |code: &str, subdivision: Option<&str>, latitude: f64, longitude: f64| Place {
        country: country(code),
        subdivision: subdivision.map(Box::from),
        city: subdivision.map(|_| "City".into()),
        coordinates: at(latitude, longitude),
        ..Place::default()
    };
    vec![
        place("AU", Some("NSW"), -33.875, 151.25),
        place("AU", Some("WA"), -31.95, 115.86),
        place("AU", None, -25.0, 135.0),
        place("US", Some("CA"), 37.77, -122.42),
        place("DE", Some("SN"), 51.05, 13.74),
        Place { country: country("GB"), ..Place::default() },
        Place { coordinates: at(-1.29, 36.82), city: Some("City".into()), ..Place::default() },
        Place { subdivision: Some("CA".into()), ..Place::default() },
    ]
}

/// Near places where something special happens, so that networks touch, nest and straddle.
fn prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let bases: &[&str] = if family.is_v6 {
        &[
            "::",
            "::1",
            "64:ff9b::",
            "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2000::",
            "2001::",
            "2001:1::1",
            "2001:db8::",
            "2002::",
            "2a01:4f8::",
            "2a01:4f8:0:1::",
            "2a01:4f8:0:1:8000::",
            "2a01:4f8::ffff:ffff",
            "2a01:4f8:0:2::1",
            "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::",
            "fc00::",
            "fe80::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ]
    } else {
        &[
            "0.0.0.0",
            "1.1.1.0",
            "9.255.255.255",
            "10.0.0.0",
            "10.64.0.0",
            "126.255.255.255",
            "192.0.0.8",
            "192.0.2.0",
            "198.41.0.0",
            "198.41.127.255",
            "198.51.100.128",
            "203.0.113.7",
            "223.255.255.255",
            "255.255.255.255",
        ]
    };
    let bases: Vec<u128> = bases
        .iter()
        .map(|base| match base.parse().expect("an address") {
            IpAddr::V4(base) => u128::from(u32::from(base)),
            IpAddr::V6(base) => u128::from(base),
        })
        .collect();
    // Mostly the base itself or what is near it, now and then anything.
    let noise = (any::<u128>(), 0..=128_u32).prop_map(|(noise, bits)| noise.checked_shr(bits).unwrap_or(0));
    let noise = prop_oneof![2 => Just(0), 2 => 0..4_u128, 3 => noise];
    let length = prop_oneof![
        2 => Just(family.bits()),
        1 => Just(family.bits() / 2),
        4 => 0..=family.bits(),
    ];
    (select(bases), noise, length).prop_map(move |(base, noise, length)| {
        (*family.block((base ^ noise) & family.last(), length).start(), length)
    })
}

fn networks(family: Family) -> impl Strategy<Value = Vec<(Prefix, Records)>> {
    let records = (0..=places().len() as u32, 0..=ASNS.len() as u32);
    let records = records.prop_map(|(place, asn)| Records { place, asn });
    let known = |(_, records): &(Prefix, Records)| *records != Records::default();
    vec((prefix(family), records), 0..10)
        .prop_map(move |networks| networks.into_iter().filter(known).collect::<Vec<_>>())
        .prop_map(|mut networks| {
            // One network has one record.
            networks.sort_by_key(|(prefix, _)| *prefix);
            networks.dedup_by_key(|(prefix, _)| *prefix);
            networks
        })
}

fn list() -> impl Strategy<Value = List> {
    (networks(V4), networks(V6)).prop_map(|(v4, v6)| List { v4, v6 })
}

fn rule(sites: u16) -> impl Strategy<Value = Rule> {
    let subnet = prop_oneof![
        prefix(V4).prop_map(|prefix| V4.network(prefix)),
        prefix(V6).prop_map(|prefix| V6.network(prefix)),
    ];
    let subnets = prop_oneof![1 => Just(Vec::new()), 3 => vec(subnet, 1..4)];
    let asns = prop_oneof![4 => Just(Vec::new()), 1 => select(ASNS.to_vec()).prop_map(|asn| vec![asn])];
    let countries = option::weighted(0.2, select(vec!["AU", "GB", "US"]));
    let continents = option::weighted(0.1, select(vec![Continent::Europe, Continent::NorthAmerica]));
    let subdivisions = option::weighted(0.2, select(vec!["AU-NSW", "CA", "US-CA"]));
    let action = prop_oneof![
        1 => Just(RuleAction::Deny),
        4 => (vec(0..sites, 1..4), any::<bool>()).prop_map(|(mut sites, only)| {
            sites.sort_unstable();
            sites.dedup();
            RuleAction::Sites { sites, only }
        }),
    ];
    (subnets, asns, countries, continents, subdivisions, action).prop_map(
        |(subnets, asns, code, continents, subdivisions, action)| Rule {
            subnets,
            asns,
            countries: code.into_iter().filter_map(country).collect(),
            continents: continents.into_iter().collect(),
            subdivisions: subdivisions.into_iter().map(str::to_owned).collect(),
            action,
            at: At::start(&Source::new("test", "")),
        },
    )
}

fn service() -> impl Strategy<Value = Arc<Service>> {
    let near = option::of(prop_oneof![Just(Near::Kilometres(2000.0)), Just(Near::Fraction(0.5))]);
    (1..14_u16).prop_flat_map(move |count| {
        let odd = vec((option::weighted(0.2, 0..3_u8), 0..5_u8), usize::from(count));
        (odd, vec(rule(count), 0..5), near.clone(), any::<bool>()).prop_map(|(odd, rules, near, spill)| {
            let near = near.filter(|_| !spill);
            let sites = world::sites(odd.len()).into_iter().zip(odd).map(|(site, (handicap, nowhere))| {
                let location = site.location.filter(|_| nowhere > 0);
                let handicap_km = handicap.map_or(0.0, |handicap| f64::from(handicap) * 700.0);
                Arc::new(Site { location, handicap_km, ..Site::clone(&site) })
            });
            Arc::new(Service { rules, near, spill, ..world::service("web", sites.collect()) })
        })
    })
}

/// Orders wherever they can change, in the order of addresses: found without any table.
struct Naive<'n> {
    family: Family,
    orders: Vec<(u128, Order)>,
    list: &'n List,
    service: &'n Service,
}

impl<'n> Naive<'n> {
    fn new(family: Family, list: &'n List, service: &'n Service) -> Naive<'n> {
        let mut naive = Naive { family, orders: Vec::new(), list, service };
        let places = places_of_change(family, list, service);
        naive.orders = places.into_iter().map(|number| (number, naive.order(number))).collect();
        naive
    }

    fn order(&self, number: u128) -> Order {
        let place = self.list.place(self.family, number);
        naive(self.service, address(number, self.family.is_v6), &place)
    }

    /// Whether a whole block has one order.
    fn is_throughout(&self, block: &RangeInclusive<u128>, order: &Order) -> bool {
        let from = self.orders.partition_point(|(number, _)| number < block.start());
        let to = self.orders.partition_point(|(number, _)| number <= block.end());
        self.order(*block.start()) == *order && self.orders[from..to].iter().all(|(_, other)| other == order)
    }
}

fn places_of_change(family: Family, list: &List, service: &Service) -> Vec<u128> {
    let subnets = service.rules.iter().flat_map(|rule| &rule.subnets);
    let subnets = subnets.filter_map(|subnet| match subnet {
        IpNetwork::V4(subnet) if !family.is_v6 => {
            Some((u128::from(u32::from(subnet.network())), subnet.prefix()))
        }
        IpNetwork::V6(subnet) if family.is_v6 => Some((u128::from(subnet.network()), subnet.prefix())),
        _ => None,
    });
    let subnets = subnets.map(|(first, length)| family.block(first, length));
    let runs: Vec<RangeInclusive<u128>> = if family.is_v6 {
        // 2000::/3 is where look-ups begin and end.
        v6_runs().into_iter().chain([(1 << 125, (1 << 126) - 1)]).map(|(first, last)| first..=last).collect()
    } else {
        v4_runs().into_iter().map(|(first, last)| u128::from(first)..=u128::from(last)).collect()
    };
    let mut places = list.edges(family);
    places.extend(edges(family, subnets.chain(runs)));
    places.sort_unstable();
    places.dedup();
    places
}

fn check(
    family: Family,
    list: &List,
    services: &[Arc<Service>],
    random: &[u128],
) -> Result<(), TestCaseError> {
    let catchments = compile(services, list);
    for (index, service) in services.iter().enumerate() {
        let naive = Naive::new(family, list, service);
        let edges = naive.orders.iter().flat_map(|(edge, _)| [*edge, edge.wrapping_sub(1) & family.last()]);
        for number in edges.chain(random.iter().map(|number| number & family.last())) {
            let client = address(number, family.is_v6);
            let order = naive.order(number);
            let (found, length) =
                (ranking(&catchments, index, client), look_up(&catchments, index, client).prefix_length);
            prop_assert!(is_order(found, &order), "{}: {:?} is not {:?}", client, found, order);
            let steps = catchments.steps(index as u16, look_up(&catchments, index, client).ranking);
            prop_assert_eq!(steps, &order.steps, "{}", client);
            let block = family.block(number, length);
            prop_assert!(naive.is_throughout(&block, &order), "{}/{} is too wide", client, length);
            if let Some(wider) = length.checked_sub(1) {
                let parent = family.block(number, wider);
                prop_assert!(!naive.is_throughout(&parent, &order), "{}/{} could be wider", client, length);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ipv4_table_is_the_naive_scan(
        list in list(),
        services in vec(service(), 1..4),
        random in vec(any::<u128>(), 16),
    ) {
        check(V4, &list, &services, &random)?;
    }

    #[test]
    fn the_ipv6_table_is_the_naive_scan(
        list in list(),
        services in vec(service(), 1..4),
        random in vec(prop_oneof![any::<u128>(), any::<u128>().prop_map(|number| 1 << 125 | number >> 3)], 16),
    ) {
        check(V6, &list, &services, &random)?;
    }
}
