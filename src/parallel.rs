//! Work on all cores, for the slow side.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `work` once for each number below `count`, in any order and on as many threads as are of use; gives the results in
/// order. Each thread works with a `state` of its own.
///
/// # Panics
/// When `work` does.
pub(crate) fn map_with<S, T: Send>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(usize, &mut S) -> T + Sync,
) -> Vec<T> {
    map_and_gather(count, state, work, |_| ()).0
}

/// The same for work that adds up in the state as well: gives what `finish` makes of each thread's, too.
///
/// # Panics
/// When `work` or `finish` does.
pub(crate) fn map_and_gather<S, T: Send, U: Send>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(usize, &mut S) -> T + Sync,
    finish: impl Fn(S) -> U + Sync,
) -> (Vec<T>, Vec<U>) {
    let done = || (state(), Vec::new());
    let step = |number: usize, (state, done): &mut (S, Vec<(usize, T)>)| {
        done.push((number, work(number, state)));
    };
    let (gathered, done): (Vec<U>, Vec<_>) =
        gather(count, done, step, |(state, done)| (finish(state), done)).into_iter().unzip();
    let mut results: Vec<(usize, T)> = done.into_iter().flatten().collect();
    results.sort_unstable_by_key(|(number, _)| *number);
    (results.into_iter().map(|(_, result)| result).collect(), gathered)
}

/// The same for work that only adds up in the state: gives what `finish` makes of each thread's.
///
/// # Panics
/// When `work` or `finish` does.
pub(crate) fn gather<S, T: Send>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(usize, &mut S) + Sync,
    finish: impl Fn(S) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut state = state();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return finish(state);
            }
            work(number, &mut state);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(count);
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut results = vec![take()];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
}

/// [`map_with`] for work that needs no state.
pub(crate) fn map<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    map_with(count, || (), |number, ()| work(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whoever_did_the_work() {
        assert_eq!(map(1000, |number| number * 2), (0..1000).map(|number| number * 2).collect::<Vec<_>>());
        assert_eq!(map(0, |number| number), [0; 0]);
    }
}
