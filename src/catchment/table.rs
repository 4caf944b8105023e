//! The partition of an address space into ranges of one class each, and for each service where among them its ranking
//! changes.
//!
//! Immutable; every steered query reads it, mostly where nobody did for a while: what counts is how many lines of the
//! processor's cache a look-up touches. Ranges lie sorted in one array, the class of each beside its start; an index over the
//! upper 16 bits leaves a short binary search, and of IPv4 the lower 16 bits as all that a start needs. IPv6 ranges are kept by
//! their upper 64 bits: nothing that databases know is finer. The rare /64 that a rule splits (`subnet: 2001:db8::1/128`) is a
//! *cell* with a small table of its own.
//!
//! The length of the block around an address needs no stored prefix: it follows from where the range begins and
//! ends. For one service of many, neighbouring ranges may have the same ranking; a bitmap with two summary levels
//! finds the next change in either direction without walking over millions of ranges.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Ranges of classes over a space of `A`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Ranges<A: Bits> {
    entries: Entries<A::Rest>,
    /// By the upper 16 bits: how many ranges start below.
    index: Vec<u32>,
}

/// Of each range what its place in the index does not tell of its start, and its class in as few octets as there are classes for.
#[derive(Debug, Serialize, Deserialize)]
enum Entries<R> {
    Narrow(Vec<(R, u16)>),
    Wide(Vec<(R, u32)>),
}

impl<R> Default for Entries<R> {
    fn default() -> Entries<R> {
        Entries::Narrow(Vec::new())
    }
}

/// An address, or the upper half of one.
pub trait Bits: Copy + Ord {
    /// Enough of an address to tell it from others with the same upper 16 bits.
    type Rest: Copy + Ord + std::fmt::Debug + Default + Serialize + DeserializeOwned;
    /// The upper 16 bits.
    fn upper(self) -> usize;
    /// What else it takes.
    fn rest(self) -> Self::Rest;
    /// The address that both make.
    fn of(upper: usize, rest: Self::Rest) -> Self;
    /// Length of the largest block around this address that lies within `first` and `last`.
    fn block_length(self, first: Self, last: Self) -> u8;
    /// The one before.
    fn before(self) -> Self;
    /// The last of all.
    const LAST: Self;
}

macro_rules! bits {
    ($type:ty, $rest:ty) => {
        impl Bits for $type {
            type Rest = $rest;

            const LAST: $type = <$type>::MAX;

            #[inline]
            fn upper(self) -> usize {
                (self >> (<$type>::BITS - 16)) as usize
            }

            #[inline]
            fn rest(self) -> $rest {
                self as $rest
            }

            #[inline]
            fn of(upper: usize, rest: $rest) -> $type {
                (upper as $type) << (<$type>::BITS - 16) | <$type>::from(rest)
            }

            #[inline]
            fn block_length(self, first: $type, last: $type) -> u8 {
                let apart = |other: $type| ((self ^ other).leading_zeros() + 1) as u8;
                let below = first.checked_sub(1).map_or(0, apart);
                let above = last.checked_add(1).map_or(0, apart);
                below.max(above)
            }

            #[inline]
            fn before(self) -> $type {
                self.wrapping_sub(1)
            }
        }
    };
}

bits!(u32, u16);
bits!(u64, u64);

impl<A: Bits> Ranges<A> {
    /// From starts in ascending order, the first of which is zero, and their classes.
    #[must_use]
    pub fn new(starts: &[A], classes: &[u32]) -> Ranges<A> {
        let mut index = vec![0; (1 << 16) + 1];
        for start in starts {
            index[start.upper() + 1] += 1;
        }
        for upper in 0..1 << 16 {
            index[upper + 1] += index[upper];
        }
        let parts = || starts.iter().map(|start| start.rest()).zip(classes);
        let entries = match classes.iter().all(|class| *class <= u32::from(u16::MAX)) {
            true => Entries::Narrow(parts().map(|(rest, class)| (rest, *class as u16)).collect()),
            false => Entries::Wide(parts().map(|(rest, class)| (rest, *class)).collect()),
        };
        Ranges { entries, index }
    }

    /// The range that an address lies in, and its class.
    // Always: who tells of a query looks up as well, and for a second caller the first would have to call.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, address: A) -> (usize, u32) {
        let upper = address.upper();
        let bounds = (self.index[upper] as usize, self.index[upper + 1] as usize);
        match &self.entries {
            Entries::Narrow(entries) => find(entries, bounds, address.rest()),
            Entries::Wide(entries) => find(entries, bounds, address.rest()),
        }
    }

    /// Where a run of ranges begins and ends that an address lies in.
    #[inline]
    #[must_use]
    pub fn extent(&self, address: A, (first, after): (usize, usize)) -> (A, A) {
        let last = if after < self.len() { self.start(after, address.upper()).before() } else { A::LAST };
        (self.start(first, address.upper()), last)
    }

    /// Where a range begins, probably near an upper part.
    #[inline]
    fn start(&self, range: usize, near: usize) -> A {
        let is_there = (self.index[near]..self.index[near + 1]).contains(&(range as u32));
        let rest = match &self.entries {
            Entries::Narrow(entries) => entries[range].0,
            Entries::Wide(entries) => entries[range].0,
        };
        A::of(if is_there { near } else { self.upper_of(range as u32, near) }, rest)
    }

    /// The upper part of a range's start: in steps that double, for it is seldom far.
    fn upper_of(&self, range: u32, near: usize) -> usize {
        let (mut low, mut high) = (near, near + 1);
        let mut step = 1;
        while self.index[low] > range {
            (low, high) = (low.saturating_sub(step), low);
            step *= 2;
        }
        while self.index[high] <= range {
            (low, high) = (high, (high + step).min(1 << 16));
            step *= 2;
        }
        low + self.index[low..high].partition_point(|below| *below <= range) - 1
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.entries {
            Entries::Narrow(entries) => entries.len(),
            Entries::Wide(entries) => entries.len(),
        }
    }

    /// Whether there are none, as before anything was compiled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let entries = match &self.entries {
            Entries::Narrow(entries) => size_of_val(entries.as_slice()),
            Entries::Wide(entries) => size_of_val(entries.as_slice()),
        };
        entries + size_of_val(self.index.as_slice())
    }
}

/// What starts above an address is sought between two bounds, among starts with the same upper bits; the one before it has the address.
#[inline]
fn find<R: Ord + Copy, C: Copy + Into<u32>>(
    entries: &[(R, C)],
    (from, to): (usize, usize),
    rest: R,
) -> (usize, u32) {
    let above = from + entries[from..to].partition_point(|(start, _)| *start <= rest);
    let range = above.saturating_sub(1);
    (range, entries[range].1.into())
}

/// A /64 that is split: starts of the lower halves, and their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// In ascending order from 0, with the class from there on.
    pub parts: Vec<(u64, u32)>,
}

impl Cell {
    /// Which part a lower half lies in.
    #[must_use]
    pub fn part_at(&self, lower: u64) -> usize {
        self.parts.partition_point(|(start, _)| *start <= lower).saturating_sub(1)
    }
}

/// In a class, says that the rest is the number of a [`Cell`].
pub const CELL: u32 = 1 << 31;

/// Where the ranking of one service changes: one bit a range, set for the first of each run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Boundaries {
    /// The bits, then for each 64 of them whether any is set, then the same again. Nothing where every range is a run, as with
    /// one service.
    levels: [Vec<u64>; 3],
    length: usize,
}

impl Boundaries {
    /// `is_boundary(n)` tells whether range n begins another run; range 0 always does.
    #[must_use]
    pub fn new(length: usize, is_boundary: impl Fn(usize) -> bool) -> Boundaries {
        let mut levels = [const { Vec::new() }; 3];
        if (1..length).all(&is_boundary) {
            return Boundaries { levels, length };
        }
        let mut count = length;
        for level in &mut levels {
            count = count.div_ceil(64);
            level.resize(count, 0);
        }
        let mut boundaries = Boundaries { levels, length };
        for range in (0..length).filter(|&range| range == 0 || is_boundary(range)) {
            let mut at = range;
            for level in &mut boundaries.levels {
                level[at / 64] |= 1 << (at % 64);
                at /= 64;
            }
        }
        boundaries
    }

    /// The first range of the run that a range belongs to, and the one after its last.
    #[inline]
    #[must_use]
    pub fn run(&self, range: usize) -> (usize, usize) {
        if self.levels[0].is_empty() {
            return (range, range + 1);
        }
        (self.at_or_before(range), self.after(range))
    }

    fn at_or_before(&self, range: usize) -> usize {
        let mut at = range;
        for (depth, level) in self.levels.iter().enumerate() {
            let word = level[at / 64] & (u64::MAX >> (63 - at % 64));
            if word != 0 {
                return self.descend(depth, at / 64 * 64 + 63 - word.leading_zeros() as usize, true);
            }
            // Nothing set here: on with what lies before this word, one level up.
            match (at / 64).checked_sub(1) {
                Some(before) => at = before,
                None => return 0,
            }
        }
        let top = &self.levels[2];
        let word = (0..=at.min(top.len().saturating_sub(1))).rev().find(|&word| top[word] != 0);
        word.map_or(0, |word| self.descend(2, word * 64 + 63 - top[word].leading_zeros() as usize, true))
    }

    fn after(&self, range: usize) -> usize {
        let mut at = range + 1;
        for (depth, level) in self.levels.iter().enumerate() {
            let Some(&whole) = level.get(at / 64) else { return self.length };
            let word = whole & (u64::MAX << (at % 64));
            if word != 0 {
                return self.descend(depth, at / 64 * 64 + word.trailing_zeros() as usize, false);
            }
            at = at / 64 + 1;
        }
        let top = &self.levels[2];
        let word = (at..top.len()).find(|&word| top[word] != 0);
        word.map_or(self.length, |word| {
            self.descend(2, word * 64 + top[word].trailing_zeros() as usize, false)
        })
    }

    /// From a set bit of a summary level to the last, or first, bit that it stands for.
    fn descend(&self, depth: usize, mut at: usize, last: bool) -> usize {
        for level in self.levels[..depth].iter().rev() {
            let word = level[at];
            let bit = if last { 63 - word.leading_zeros() } else { word.trailing_zeros() };
            at = at * 64 + bit as usize;
        }
        at
    }

    /// Octets of memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.levels.iter().map(|level| level.len() * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_range_found_is_the_last_that_starts_at_or_below(
            mut starts in proptest::collection::btree_set(any::<u32>(), 0..200),
            address in any::<u32>(),
        ) {
            starts.insert(0);
            let starts: Vec<u32> = starts.into_iter().collect();
            let naive = starts.iter().rposition(|start| *start <= address).unwrap();
            let ranges = Ranges::new(&starts, &(0..starts.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(ranges.find(address), (naive, naive as u32));
            prop_assert_eq!(ranges.find(starts[naive]), (naive, naive as u32));
            let wide = Ranges::new(&starts, &(0..starts.len() as u32).map(|class| class << 16).collect::<Vec<_>>());
            prop_assert_eq!(wide.find(address), (naive, (naive as u32) << 16));
            let last = starts.get(naive + 1).map_or(u32::MAX, |next| next - 1);
            prop_assert_eq!(ranges.extent(address, (naive, naive + 1)), (starts[naive], last));
            prop_assert_eq!(ranges.extent(address, (0, starts.len())), (0, u32::MAX));
        }

        #[test]
        fn a_run_is_bounded_by_the_set_bits_around_it(
            length in 1..20_000_usize,
            set in proptest::collection::btree_set(0..20_000_usize, 0..12),
            range in 0..20_000_usize,
        ) {
            let range = range % length;
            let boundaries = Boundaries::new(length, |range| set.contains(&range));
            let first = set.iter().copied().filter(|bit| *bit <= range && *bit < length).max().unwrap_or(0);
            let after = set.iter().copied().filter(|bit| *bit > range && *bit < length).min().unwrap_or(length);
            prop_assert_eq!(boundaries.run(range), (first, after));
        }

        #[test]
        fn a_block_is_the_largest_that_fits(address in any::<u32>(), below in any::<u32>(), above in any::<u32>(), bits in 0..32_u32) {
            let first = address.saturating_sub(below >> bits);
            let last = address.saturating_add(above >> bits);
            let length = address.block_length(first, last);
            let fits = |length: u8| {
                let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                address & !host >= first && address | host <= last
            };
            prop_assert!(fits(length));
            prop_assert!(length == 0 || !fits(length - 1));
        }
    }
}
