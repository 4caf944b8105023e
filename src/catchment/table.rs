//! The partition of an address space into ranges of one class each, and for each service where among them its ranking
//! changes.
//!
//! Immutable; every steered query reads it. Starts of ranges lie sorted in one array, classes in another; an
//! index over the upper 16 bits leaves a short binary search. IPv6 ranges are kept by their upper 64 bits: nothing
//! that databases know is finer. The rare /64 that a rule splits (`subnet: 2001:db8::1/128`) is a *cell* with a
//! small table of its own.
//!
//! The length of the block around an address needs no stored prefix: it follows from where the range begins and
//! ends. For one service of many, neighbouring ranges may have the same ranking; a bitmap with two summary levels
//! finds the next change in either direction without walking over millions of ranges.

/// Ranges of classes over a space of `A`.
#[derive(Debug, Default)]
pub struct Ranges<A> {
    starts: Vec<A>,
    classes: Vec<u32>,
    /// By the upper 16 bits: how many ranges start below.
    index: Vec<u32>,
}

/// An address, or the upper half of one.
pub trait Bits: Copy + Ord {
    /// The upper 16 bits.
    fn upper(self) -> usize;
    /// Length of the largest block around this address that lies within `first` and `last`.
    fn block_length(self, first: Self, last: Self) -> u8;
    /// The one before.
    fn before(self) -> Self;
    /// The last of all.
    const LAST: Self;
}

macro_rules! bits {
    ($type:ty) => {
        impl Bits for $type {
            const LAST: $type = <$type>::MAX;

            #[inline]
            fn upper(self) -> usize {
                (self >> (<$type>::BITS - 16)) as usize
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

bits!(u32);
bits!(u64);

impl<A: Bits> Ranges<A> {
    /// From starts in ascending order, the first of which is zero, and their classes.
    #[must_use]
    pub fn new(starts: Vec<A>, classes: Vec<u32>) -> Ranges<A> {
        let mut index = vec![0; (1 << 16) + 1];
        for start in &starts {
            index[start.upper() + 1] += 1;
        }
        for upper in 0..1 << 16 {
            index[upper + 1] += index[upper];
        }
        Ranges { starts, classes, index }
    }

    /// The range that an address lies in.
    #[inline]
    #[must_use]
    pub fn find(&self, address: A) -> usize {
        let upper = address.upper();
        let (from, to) = (self.index[upper] as usize, self.index[upper + 1] as usize);
        // What starts above the address within its 65,536th; the one before it has the address.
        (from + self.starts[from..to].partition_point(|start| *start <= address)).saturating_sub(1)
    }

    /// The class of a range.
    #[inline]
    #[must_use]
    pub fn class(&self, range: usize) -> u32 {
        self.classes[range]
    }

    /// Where a run of ranges begins and ends.
    #[inline]
    #[must_use]
    pub fn extent(&self, first: usize, after: usize) -> (A, A) {
        (self.starts[first], self.starts.get(after).map_or(A::LAST, |next| next.before()))
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none, as before anything was compiled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Octets of memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.starts.len() * size_of::<A>() + self.classes.len() * 4 + self.index.len() * 4
    }
}

/// A /64 that is split: starts of the lower halves, and their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// In ascending order from 0, with the class from there on.
    pub parts: Vec<(u64, u32)>,
}

/// In a class, says that the rest is the number of a [`Cell`].
pub const CELL: u32 = 1 << 31;

/// Where the ranking of one service changes: one bit a range, set for the first of each run.
#[derive(Debug, Default)]
pub struct Boundaries {
    /// The bits, then for each 64 of them whether any is set, then the same again.
    levels: [Vec<u64>; 3],
    length: usize,
}

impl Boundaries {
    /// `is_boundary(n)` tells whether range n begins another run; range 0 always does.
    #[must_use]
    pub fn new(length: usize, is_boundary: impl Fn(usize) -> bool) -> Boundaries {
        let mut levels = [const { Vec::new() }; 3];
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
            let ranges = Ranges::new(starts.clone(), vec![0; starts.len()]);
            prop_assert_eq!(ranges.find(address), naive);
            prop_assert_eq!(ranges.find(starts[naive]), naive);
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
