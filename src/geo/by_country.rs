//! Which country an address is in, and nothing else: a small table for whoever counts, compiled from the databases.
//!
//! Catchments know rankings and no countries, and the databases are dropped once these are compiled. Runs of addresses of one
//! country are one entry: of five octets for IPv4, and of nine for IPv6, of which the upper 64 bits tell. Read off the query path.

use std::net::IpAddr;

use super::special::{Run, embedded, v4_runs, v6_runs};
use super::{Databases, Geography};

/// Entries of each table: four times what countries need. A database that has more is something else, and its end is unknown.
const MOST: usize = 1 << 21;
/// What no database knows.
const UNKNOWN: u8 = u8::MAX;
/// Where IPv6 is looked for: global unicast space.
const GLOBAL_UNICAST: (u128, u8) = (0x2000 << 112, 3);

/// Addresses by country.
#[derive(Debug, Default)]
pub struct ByCountry {
    v4: Runs<u32>,
    /// By the upper 64 bits.
    v6: Runs<u64>,
    special_v4: Vec<Run<u32>>,
    special_v6: Vec<Run<u128>>,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the country of this number.
    Country(u8),
    /// No database tells.
    Unknown,
    /// Not globally reachable: none is asked (meaning 3).
    Special,
}

/// Each entry holds until the next begins.
#[derive(Debug)]
struct Runs<A> {
    firsts: Vec<A>,
    countries: Vec<u8>,
}

impl<A> Default for Runs<A> {
    fn default() -> Runs<A> {
        Runs { firsts: Vec::new(), countries: Vec::new() }
    }
}

impl<A: Ord + Copy> Runs<A> {
    /// From here on it is this country.
    fn begin(&mut self, first: A, country: u8) {
        if self.firsts.len() == MOST {
            return;
        }
        // Of those that begin within one /64 the last counts.
        if self.firsts.last() == Some(&first) {
            self.countries.pop();
            self.firsts.pop();
        }
        if self.countries.last() == Some(&country) {
            return;
        }
        self.firsts.push(first);
        self.countries.push(if self.firsts.len() == MOST { UNKNOWN } else { country });
    }

    fn shrink(&mut self) {
        self.firsts.shrink_to_fit();
        self.countries.shrink_to_fit();
    }

    fn get(&self, address: A) -> Whereabouts {
        let index = self.firsts.partition_point(|first| *first <= address);
        match index.checked_sub(1).map(|index| self.countries[index]) {
            None | Some(UNKNOWN) => Whereabouts::Unknown,
            Some(country) => Whereabouts::Country(country),
        }
    }
}

impl ByCountry {
    /// Walks the databases; that of a city database takes seconds.
    #[must_use]
    pub fn compile(databases: &Databases) -> ByCountry {
        let mut table = ByCountry { special_v4: v4_runs(), special_v6: v6_runs(), ..ByCountry::default() };
        databases.begin();
        let mut walker = databases.walker();
        let mut countries = Countries { databases, known: Vec::new() };
        let v4 = &mut table.v4;
        walker.walk_v4((0, 0), &mut |block| {
            v4.begin(block.first, countries.of(block.records.place));
            if let Some(next) = block.last.checked_add(1) {
                v4.begin(next, UNKNOWN);
            }
        });
        let v6 = &mut table.v6;
        walker.walk_v6(GLOBAL_UNICAST, &mut |block| {
            v6.begin((block.first >> 64) as u64, countries.of(block.records.place));
            v6.begin((block.last >> 64) as u64 + 1, UNKNOWN);
        });
        table.v4.shrink();
        table.v6.shrink();
        table
    }

    /// Where an address is: IPv4 wherever one is embedded (meaning 2).
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Whereabouts {
        let address = match address {
            IpAddr::V6(address) => {
                embedded(address).map_or(IpAddr::V6(address), |found| found.address.into())
            }
            address => address,
        };
        match address {
            IpAddr::V4(address) => match is_in(&self.special_v4, u32::from(address)) {
                true => Whereabouts::Special,
                false => self.v4.get(u32::from(address)),
            },
            IpAddr::V6(address) => match is_in(&self.special_v6, u128::from(address)) {
                true => Whereabouts::Special,
                false => self.v6.get((u128::from(address) >> 64) as u64),
            },
        }
    }
}

/// What the databases' records say, each asked once.
struct Countries<'d> {
    databases: &'d Databases,
    known: Vec<Option<u8>>,
}

impl Countries<'_> {
    fn of(&mut self, place: u32) -> u8 {
        let index = place as usize;
        if self.known.len() <= index {
            self.known.resize(index + 1, None);
        }
        *self.known[index].get_or_insert_with(|| {
            let place = self.databases.place(super::Records { place, asn: 0 });
            place.country.and_then(super::Country::number).unwrap_or(UNKNOWN)
        })
    }
}

fn is_in<A: Ord + Copy>(runs: &[Run<A>], address: A) -> bool {
    let index = runs.partition_point(|(first, _)| *first <= address);
    index.checked_sub(1).is_some_and(|index| address <= runs[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Findings;
    use crate::geo::Country;

    #[test]
    fn the_table_says_what_the_databases_say() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut findings = Findings::new();
        let databases = Databases::open(&[root.join("geodb")], &mut findings);
        let table = ByCountry::compile(&databases);
        let mut state: u64 = 88_172_645_463_325_252;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut known = 0;
        for number in 0..20_000 {
            let address = match number % 2 {
                0 => IpAddr::from((next() as u32).to_be_bytes()),
                _ => IpAddr::from(
                    (1 << 125 | u128::from(next() >> 8) << 68 | u128::from(next())).to_be_bytes(),
                ),
            };
            // Located as IPv4, which is tried with addresses of its own.
            if matches!(address, IpAddr::V6(address) if embedded(address).is_some()) {
                continue;
            }
            let expected = databases.locate(address).country.and_then(Country::number);
            match table.locate(address) {
                Whereabouts::Special => continue,
                Whereabouts::Unknown => assert_eq!(expected, None, "{address}"),
                Whereabouts::Country(country) => {
                    known += 1;
                    assert_eq!(expected, Some(country), "{address}");
                }
            }
        }
        assert!(known > 5_000, "{known}");
        let locate = |text: &str| table.locate(text.parse().unwrap());
        assert_eq!(locate("10.1.2.3"), Whereabouts::Special);
        assert_eq!(locate("2001:db8::1"), Whereabouts::Special);
        assert_eq!(locate("::ffff:1.1.1.1"), locate("1.1.1.1"));
        assert_ne!(locate("1.1.1.1"), Whereabouts::Unknown);
    }

    #[test]
    fn runs_of_one_country_are_one_and_too_many_are_cut() {
        let mut runs = Runs::<u32>::default();
        for (first, country) in [(0, 1), (10, UNKNOWN), (10, 1), (20, UNKNOWN), (20, 2), (30, UNKNOWN)] {
            runs.begin(first, country);
        }
        assert_eq!(runs.firsts, [0, 20, 30]);
        assert_eq!((runs.get(19), runs.get(20)), (Whereabouts::Country(1), Whereabouts::Country(2)));
        assert_eq!(runs.get(30), Whereabouts::Unknown);
        for first in 0..2 * MOST as u32 {
            runs.begin(100 + first, (first % 2) as u8);
        }
        assert_eq!((runs.firsts.len(), runs.get(u32::MAX)), (MOST, Whereabouts::Unknown));
    }
}
