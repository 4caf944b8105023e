//! The published verdicts and shares: arrays of atomics, written by the health side, read by every query.
//!
//! A board belongs to one snapshot, whose compiled services hold the slot numbers. Verdicts outlive it: the
//! health side fills a new board from what it knows before the snapshot goes live, and writes each later
//! verdict to every board that is still read.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use super::spill::Market;
use crate::site::{Check, Guards, MinUp, Window};

/// What is believed of one (address, checks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Not known yet, or not ours to tell: counts as up (meaning 7).
    Unknown = 0,
    /// Works.
    Up = 1,
    /// Does not.
    Down = 2,
    /// Does not, as far as checks tell, and is given out all the same: a guard holds it.
    Held = 5,
    /// An operator said that it works.
    ForcedUp = 3,
    /// An operator said that it does not.
    ForcedDown = 4,
}

impl Verdict {
    /// Whether the address is given out.
    #[must_use]
    pub fn is_served(self) -> bool {
        !matches!(self, Verdict::Down | Verdict::ForcedDown)
    }

    /// Of its name in `status`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Verdict> {
        (0..=5).map(Verdict::from_number).find(|verdict| verdict.to_string() == name)
    }

    fn from_number(number: u8) -> Verdict {
        match number {
            1 => Verdict::Up,
            2 => Verdict::Down,
            3 => Verdict::ForcedUp,
            4 => Verdict::ForcedDown,
            5 => Verdict::Held,
            _ => Verdict::Unknown,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Unknown => "unknown",
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Held => "held",
            Verdict::ForcedUp => "forced up",
            Verdict::ForcedDown => "forced down",
        })
    }
}

/// How much of its clients a site takes: 0 is drained, `Share::FULL` is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u16);

impl Share {
    /// Takes everybody.
    pub const FULL: Share = Share(u16::MAX);
    /// Takes nobody, even when every other site is down.
    pub const DRAINED: Share = Share(0);
}

/// What a board has slots for, in order: slot n of the board is entry n of the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Addresses with the checks of each.
    pub targets: Vec<Target>,
    /// Sites within services, by name.
    pub shares: Vec<SiteOfService>,
    /// Services, and which sites are theirs.
    pub services: Vec<ServiceSlots>,
}

/// An address of a site of a service, and what it must pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whom to ask.
    pub address: IpAddr,
    /// Empty for an address that nobody checks: up, until an operator says otherwise.
    pub checks: Arc<[Check]>,
    /// How many of them must pass; 0 where there are none.
    pub need: u16,
}

/// A site within a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteOfService {
    /// The service's name.
    pub service: String,
    /// The site's name.
    pub site: String,
}

/// A service: what guards and operators act on.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSlots {
    /// The service's name.
    pub name: String,
    /// The first of its sites among the shares; the others follow.
    pub first_share: u32,
    /// The addresses of each site among the targets.
    pub targets: Vec<Range<u32>>,
    /// How many addresses of a type must be up for a site to count.
    pub min_up: MinUp,
    /// What keeps checks from taking too much away.
    pub guards: Guards,
    /// When each site is to take no clients.
    pub windows: Vec<Vec<Window>>,
    /// Over how long a site that comes back takes its clients back.
    pub slow_start: Duration,
    /// TTL of its records: short while something is about to change, long in calm.
    pub ttl: RangeInclusive<u32>,
    /// Whether anything is checked.
    pub is_checked: bool,
    /// Where it spills: what clients ask for, and what sites have room for.
    pub market: Option<Arc<Market>>,
}

impl Layout {
    /// The sites of a service, in order.
    #[must_use]
    pub fn sites(&self, service: &ServiceSlots) -> &[SiteOfService] {
        let first = service.first_share as usize;
        &self.shares[first..first + service.targets.len()]
    }
}

/// One snapshot's verdicts and shares.
#[derive(Debug)]
pub struct Board {
    layout: Layout,
    verdicts: Box<[AtomicU8]>,
    shares: Box<[AtomicU16]>,
    ttls: Box<[AtomicU32]>,
    /// By share.
    prices: Box<[AtomicU32]>,
    /// By service: whether any of its prices is above 0.
    priced: Box<[AtomicBool]>,
}

impl Board {
    /// All unknown, all full.
    #[must_use]
    pub fn new(layout: Layout) -> Board {
        Board {
            verdicts: layout.targets.iter().map(|_| AtomicU8::new(Verdict::Unknown as u8)).collect(),
            shares: layout.shares.iter().map(|_| AtomicU16::new(Share::FULL.0)).collect(),
            ttls: layout.services.iter().map(|service| AtomicU32::new(*service.ttl.start())).collect(),
            prices: layout.shares.iter().map(|_| AtomicU32::new(0)).collect(),
            priced: layout.services.iter().map(|_| AtomicBool::new(false)).collect(),
            layout,
        }
    }

    /// What the slots stand for.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Slots that the board does not have are up: records that are no addresses.
    #[must_use]
    pub fn verdict(&self, slot: u32) -> Verdict {
        self.verdicts
            .get(slot as usize)
            .map_or(Verdict::Up, |verdict| Verdict::from_number(verdict.load(Ordering::Relaxed)))
    }

    /// Slots that the board does not have take everybody.
    #[must_use]
    pub fn share(&self, slot: u32) -> Share {
        self.shares.get(slot as usize).map_or(Share::FULL, |share| Share(share.load(Ordering::Relaxed)))
    }

    /// The TTL of a service's records, in seconds; the index is that of the layout and of the snapshot.
    #[inline]
    #[must_use]
    pub fn ttl(&self, service: u16) -> u32 {
        self.ttls.get(usize::from(service)).map_or(0, |ttl| ttl.load(Ordering::Relaxed))
    }

    /// What a site costs besides its distance, in [`PRICE_UNIT`](super::spill::PRICE_UNIT)s; the slot is that of its share.
    #[inline]
    #[must_use]
    pub fn price(&self, slot: u32) -> u32 {
        self.prices.get(slot as usize).map_or(0, |price| price.load(Ordering::Relaxed))
    }

    /// Whether any site of a service costs anything.
    #[inline]
    #[must_use]
    pub fn is_priced(&self, service: u16) -> bool {
        self.priced.get(usize::from(service)).is_some_and(|priced| priced.load(Ordering::Relaxed))
    }

    /// Publishes a price, for [`set_priced`](Board::set_priced) to put in force.
    pub fn set_price(&self, slot: u32, price: u32) {
        if let Some(published) = self.prices.get(slot as usize) {
            published.store(price, Ordering::Relaxed);
        }
    }

    /// Says whether the prices of a service's sites are looked at.
    pub fn set_priced(&self, service: u16, is_so: bool) {
        if let Some(published) = self.priced.get(usize::from(service)) {
            published.store(is_so, Ordering::Relaxed);
        }
    }

    /// Publishes a TTL; the next query sees it.
    pub fn set_ttl(&self, service: u16, ttl: u32) {
        if let Some(published) = self.ttls.get(usize::from(service)) {
            published.store(ttl, Ordering::Relaxed);
        }
    }

    /// Publishes a verdict; the next query sees it.
    pub fn set_verdict(&self, slot: u32, verdict: Verdict) {
        if let Some(published) = self.verdicts.get(slot as usize) {
            published.store(verdict as u8, Ordering::Relaxed);
        }
    }

    /// Publishes a share; the next query sees it.
    pub fn set_share(&self, slot: u32, share: Share) {
        if let Some(published) = self.shares.get(slot as usize) {
            published.store(share.0, Ordering::Relaxed);
        }
    }
}
