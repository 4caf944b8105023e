//! How many addresses are where and of which class, counted while the databases are walked: whoever counts what they are given
//! (`coverage`) need not walk them again. Kept beside the tables, for they are no use to who answers queries.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::ops::AddAssign;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::{Deserialize, Serialize};

use super::{Catchments, RankingId, ServiceIndex};
use crate::geo::Whereabouts;

/// How many addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// IPv4.
    pub v4: u64,
    /// IPv6.
    pub v6: u128,
}

impl AddAssign for Addresses {
    fn add_assign(&mut self, other: Addresses) {
        self.v4 += other.v4;
        self.v6 += other.v6;
    }
}

/// Addresses by their place and by their class in the tables that were compiled with it.
#[derive(Debug, Default)]
pub struct Census {
    /// [`Row`]s one behind the other, as they are in a file: half a million of a city database.
    rows: Vec<u8>,
}

type Row = (Whereabouts, u32, Addresses);

impl Census {
    /// Of what threads counted by class. Places with the same whereabouts become one.
    pub(crate) fn new(counts: &[Counts<u32>], place_of: impl Fn(u32) -> Whereabouts) -> Census {
        let key = |place: u32, class: u32| {
            let (country, point) = place_of(place);
            (country, point.map(|point| [point.latitude.to_bits(), point.longitude.to_bits()]), class)
        };
        let hash = |place: u32, class: u32| FixedState::default().hash_one(key(place, class));
        let mut index: HashTable<u32> = HashTable::new();
        let mut sums: Vec<(u32, u32)> = Vec::new();
        let mut addresses: Vec<Addresses> = Vec::new();
        for (place, class, some) in counts.iter().flat_map(Counts::iter) {
            let is_same = |&number: &u32| {
                let (other, its_class) = sums[number as usize];
                key(other, its_class) == key(place, class)
            };
            let rehash = |&number: &u32| {
                let (place, class) = sums[number as usize];
                hash(place, class)
            };
            match index.entry(hash(place, class), is_same, rehash) {
                Entry::Occupied(number) => addresses[*number.get() as usize] += some,
                Entry::Vacant(free) => {
                    free.insert(sums.len() as u32);
                    sums.push((place, class));
                    addresses.push(some);
                }
            }
        }
        let mut rows = Vec::new();
        for ((place, class), addresses) in sums.into_iter().zip(addresses) {
            let row: Row = (place_of(place), class, addresses);
            rows = postcard::to_extend(&row, rows).expect("rows are written into memory");
        }
        Census { rows }
    }

    /// As it was kept. Octets that are none end it early.
    pub(super) fn of(rows: &[u8]) -> Census {
        Census { rows: rows.to_vec() }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.rows
    }

    /// Where, which ranking of a service, and how many. The tables are those that were compiled with it.
    pub(crate) fn by_ranking(
        &self,
        tables: &Catchments,
        service: ServiceIndex,
    ) -> impl Iterator<Item = (Whereabouts, RankingId, Addresses)> {
        let mut rest = self.rows.as_slice();
        let rows = std::iter::from_fn(move || {
            let (row, after): (Row, _) = postcard::take_from_bytes(rest).ok()?;
            rest = after;
            Some(row)
        });
        rows.map(move |(at, class, count)| (at, tables.ranking_of(service, class), count))
    }
}

/// Addresses by the number of their place record, and by what else is told of them: nearly everywhere the same for all of a place. Of
/// a million places, by each thread: so it is packed.
#[derive(Debug)]
pub struct Counts<T> {
    usual: Vec<Usual<T>>,
    others: HashMap<(u32, T), Addresses, FixedState>,
}

#[derive(Clone, Copy, Debug)]
struct Usual<T> {
    /// Anything as long as nothing is counted.
    told: T,
    v4: u32,
    /// Whole /64s.
    v6_subnets: u64,
}

impl<T> Default for Counts<T> {
    fn default() -> Counts<T> {
        Counts { usual: Vec::new(), others: HashMap::default() }
    }
}

impl<T: Copy + Eq + Hash> Counts<T> {
    /// Counts some, of one network.
    #[inline]
    pub fn add(&mut self, place: u32, told: T, addresses: Addresses) {
        let index = place as usize;
        if index >= self.usual.len() {
            self.usual.resize(index + 1, Usual { told, v4: 0, v6_subnets: 0 });
        }
        let usual = &mut self.usual[index];
        if (usual.v4, usual.v6_subnets) == (0, 0) {
            usual.told = told;
        }
        // All of IPv4 are one more than fit.
        let v4 = u32::try_from(addresses.v4).ok().and_then(|v4| usual.v4.checked_add(v4));
        match v4 {
            Some(v4) if usual.told == told && addresses.v6 as u64 == 0 => {
                usual.v4 = v4;
                usual.v6_subnets += (addresses.v6 >> 64) as u64;
            }
            _ => *self.others.entry((place, told)).or_default() += addresses,
        }
    }

    /// Number of the place, what is told, how many; of some twice.
    pub fn iter(&self) -> impl Iterator<Item = (u32, T, Addresses)> + '_ {
        let usual = self.usual.iter().enumerate().filter_map(|(place, usual)| {
            let addresses = Addresses { v4: usual.v4.into(), v6: u128::from(usual.v6_subnets) << 64 };
            (addresses != Addresses::default()).then_some((place as u32, usual.told, addresses))
        });
        usual.chain(self.others.iter().map(|(&(place, told), &count)| (place, told, count)))
    }
}
