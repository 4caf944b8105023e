//! Where addresses are: MMDB files -> places.

pub mod by_country;
pub mod country;
pub mod place;
pub mod read;
mod record;
pub mod special;
mod tree;

pub use country::{Continent, Country};
pub(crate) use place::Whereabouts;
pub use place::{Coordinates, Place};
pub use read::Databases;

/// What an address space is known to hold: read by `catchment::compile` once per load, never per query.
///
/// The databases implement it; tests implement it over a list.
pub trait Geography: Sync {
    /// From here on everything is walked once, by one or several walkers.
    fn begin(&self) {}

    /// Whether there is nothing to walk at all.
    fn knows_nothing(&self) -> bool {
        false
    }

    /// For one thread to walk with.
    fn walker(&self) -> Box<dyn Walker + '_>;

    /// What the records of a block say. The same pair always gives the same place.
    fn place(&self, records: Records) -> Place;
}

/// Walks over address space, and remembers what it met.
pub trait Walker {
    /// Every block of IPv4 addresses within `prefix` (first address and length) that something is known of, in
    /// ascending order and without overlap, cut at the prefix. Adjacent blocks may have equal records.
    fn walk_v4(&mut self, prefix: (u32, u8), each: &mut dyn FnMut(Block<u32>));

    /// The same for IPv6, where only global unicast space, 2000::/3, is ever asked for.
    fn walk_v6(&mut self, prefix: (u128, u8), each: &mut dyn FnMut(Block<u128>));
}

/// A run of addresses with the same records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<A> {
    /// First address.
    pub first: A,
    /// Last address, inclusive.
    pub last: A,
    /// What is known of them.
    pub records: Records,
}

/// Which database records speak for an address: the country group from one file, the ASN from one file.
/// Numbers of the [`Geography`] that gave them, from 1 and without large gaps; 0 where no file knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Records {
    /// For country to radius.
    pub place: u32,
    /// For the ASN.
    pub asn: u32,
}
