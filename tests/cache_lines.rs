//! No two workers write to the same line of the processor's cache: each query would wait for another core's.

use std::collections::HashSet;
use std::iter::repeat_with;
use std::ops::RangeInclusive;
use std::sync::Arc;

use meridian::{nameserver, transport};

/// Neighbouring cores pull lines back and forth in pairs.
const UNIT: usize = 128;

/// The units that some counters lie in.
fn units<T>(counters: &Arc<T>) -> RangeInclusive<usize> {
    let start = Arc::as_ptr(counters).addr();
    start / UNIT..=(start + size_of::<T>() - 1) / UNIT
}

/// Each begins a unit and fills its last one, so that nobody else's data lies there; not even their own reference count.
fn assert_apart<T: Default>() {
    let workers: Vec<Arc<T>> = repeat_with(Arc::default).take(64).collect();
    let mut seen = HashSet::new();
    for counters in &workers {
        assert_eq!(Arc::as_ptr(counters).addr() % UNIT, 0);
        assert_eq!(size_of::<T>() % UNIT, 0);
        assert!(units(counters).all(|unit| seen.insert(unit)));
    }
}

#[test]
fn counters_of_answers_are_apart() {
    assert_apart::<nameserver::counters::Counters>();
}

#[test]
fn counters_of_transports_are_apart() {
    assert_apart::<transport::Counters>();
}
