//! How many addresses are where and of which class, counted while the databases are walked: whoever counts what they are given
//! (`coverage`) need not walk them again.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::AddAssign;

use foldhash::fast::FixedState;

/// How many addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Addresses by the number of their place record, and by what else is told of them: nearly everywhere the same for all of a place.
#[derive(Debug)]
pub struct Census<T> {
    usual: Vec<Option<(T, Addresses)>>,
    others: HashMap<(u32, T), Addresses, FixedState>,
}

impl<T> Default for Census<T> {
    fn default() -> Census<T> {
        Census { usual: Vec::new(), others: HashMap::default() }
    }
}

impl<T: Copy + Eq + Hash> Census<T> {
    /// Counts some.
    #[inline]
    pub fn add(&mut self, place: u32, told: T, addresses: Addresses) {
        let index = place as usize;
        if index >= self.usual.len() {
            self.usual.resize((index + 1).next_power_of_two(), None);
        }
        match &mut self.usual[index] {
            Some((known, counted)) if *known == told => *counted += addresses,
            Some(_) => *self.others.entry((place, told)).or_default() += addresses,
            none => *none = Some((told, addresses)),
        }
    }

    /// Number of the place, what is told, how many.
    pub fn iter(&self) -> impl Iterator<Item = (u32, T, Addresses)> + '_ {
        let usual = self.usual.iter().enumerate();
        let usual =
            usual.filter_map(|(place, counted)| counted.map(|(told, count)| (place as u32, told, count)));
        usual.chain(self.others.iter().map(|(&(place, told), &count)| (place, told, count)))
    }
}
