//! What happened to queries, counted: one set of counters for each worker, written by it alone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::nameserver::limit::Limited;
use crate::nameserver::{Outcome, Transport};
use crate::policy::cookie::Standing;
use crate::policy::rate_limit::LEVELS;

/// One worker's counters. Aligned to two cache lines, the unit that neighbouring cores pull back and forth, so
/// that no two workers ever write to the same one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    queries: [AtomicU64; TRANSPORTS],
    dropped: AtomicU64,
    truncated: AtomicU64,
    would_amplify: AtomicU64,
    client_subnets: AtomicU64,
    steered: AtomicU64,
    trailing_octets: AtomicU64,
    with_records: AtomicU64,
    cookies: AtomicU64,
    proven_cookies: AtomicU64,
    rcodes: [AtomicU64; RCODES],
    limited: [[AtomicU64; LEVELS]; DEEDS],
}

/// Kinds of [`Transport`].
const TRANSPORTS: usize = Transport::ALL.len();

/// Kinds of [`Deed`](super::limit::Deed).
const DEEDS: usize = 3;

/// RCODEs 0 to 15, BADVERS, and one place for all above, which is BADCOOKIE's.
const RCODES: usize = 18;

/// A reading of one or of several workers' counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that came, in the order of [`Transport`].
    pub queries: [u64; TRANSPORTS],
    /// Messages that got no response: too short, or responses themselves. Those that were limited are counted there.
    pub dropped: u64,
    /// Responses with TC.
    pub truncated: u64,
    /// Those of them that were too long beside their query, for who has not proven the address.
    pub would_amplify: u64,
    /// Responses that echo a client subnet.
    pub client_subnets: u64,
    /// Responses that a service chose.
    pub steered: u64,
    /// Queries with octets after the last record.
    pub trailing_octets: u64,
    /// Queries with records in the answer or authority section.
    pub with_records: u64,
    /// Queries with a cookie.
    pub cookies: u64,
    /// Those of them whose cookie proved the address.
    pub proven_cookies: u64,
    /// Responses by RCODE; the last two are BADVERS and BADCOOKIE.
    pub rcodes: [u64; RCODES],
    /// Responses that were one too many: in the order of [`Deed`](super::limit::Deed), then of the levels.
    pub limited: [[u64; LEVELS]; DEEDS],
}

impl Counters {
    /// Counts one message.
    #[inline]
    pub fn register(&self, transport: Transport, outcome: &Outcome) {
        bump(&self.queries[transport as usize]);
        let responded = match outcome {
            Outcome::Dropped => return bump(&self.dropped),
            Outcome::Limited(limited) => return self.register_limited(*limited),
            Outcome::Responded(responded) => responded,
        };
        bump(&self.rcodes[usize::from(responded.rcode.0).min(RCODES - 1)]);
        if responded.is_truncated {
            bump(&self.truncated);
            if responded.would_amplify {
                bump(&self.would_amplify);
            }
        }
        if responded.scope.is_some() {
            bump(&self.client_subnets);
        }
        if responded.steered.is_some() {
            bump(&self.steered);
        }
        if responded.has_trailing_octets {
            bump(&self.trailing_octets);
        }
        if responded.has_records {
            bump(&self.with_records);
        }
        if responded.cookie != Standing::None {
            bump(&self.cookies);
        }
        if responded.cookie.is_proven() {
            bump(&self.proven_cookies);
        }
        if let Some(limited) = responded.limited {
            self.register_limited(limited);
        }
    }

    #[cold]
    fn register_limited(&self, Limited { level, deed }: Limited) {
        bump(&self.limited[deed as usize][level as usize]);
    }

    /// Adds what was counted so far.
    pub fn add_to(&self, totals: &mut Totals) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (total, counter) in totals.queries.iter_mut().zip(&self.queries) {
            *total += read(counter);
        }
        totals.dropped += read(&self.dropped);
        totals.truncated += read(&self.truncated);
        totals.would_amplify += read(&self.would_amplify);
        totals.client_subnets += read(&self.client_subnets);
        totals.steered += read(&self.steered);
        totals.trailing_octets += read(&self.trailing_octets);
        totals.with_records += read(&self.with_records);
        totals.cookies += read(&self.cookies);
        totals.proven_cookies += read(&self.proven_cookies);
        for (total, counter) in totals.rcodes.iter_mut().zip(&self.rcodes) {
            *total += read(counter);
        }
        let limited = totals.limited.as_flattened_mut().iter_mut();
        for (total, counter) in limited.zip(self.limited.as_flattened()) {
            *total += read(counter);
        }
    }
}

/// Only the owner writes, so a load and a store do; they cost a third of an atomic addition.
#[inline]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}
