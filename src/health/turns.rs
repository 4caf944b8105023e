//! Whose turn it is: how many attempts may be under way at once.
//!
//! Attempts at what is silent last as long as their time-outs, so that without a bound a network that fails would cost as many
//! descriptors, and as much memory, as there are checks: at the very moment when there is none to waste.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::site::{Check, CheckKind};

/// 5,000 checks every 5 s that all wait for 2 s are 2,000 at any time.
const MOST_ATTEMPTS: usize = 2048;

/// Programs cost more than descriptors.
const MOST_PROGRAMS: usize = 32;

/// Attempts that are due within this begin together: one wakes the threads for all of them, which costs nearly as
/// much as the attempts themselves.
const TICK: Duration = Duration::from_millis(50);

/// Turns of all checks together, in the order in which they came to be due.
#[derive(Debug)]
pub(super) struct Turns {
    attempts: Semaphore,
    programs: Semaphore,
    /// Whether attempts come later than was promised, and that was told.
    is_late: AtomicBool,
    /// Ticks are counted from here.
    start: Instant,
}

impl Turns {
    /// As many as descriptors are left for, of which connections take three quarters at most.
    pub(super) fn new() -> Turns {
        let descriptors = match getrlimit(Resource::RLIMIT_NOFILE) {
            // What the system allows at most, for checks begin before anything else asks for it.
            Ok((_, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
            Ok((soft, _)) => soft,
            Err(_) => 0,
        };
        let attempts = usize::try_from(descriptors / 8).unwrap_or(MOST_ATTEMPTS).clamp(16, MOST_ATTEMPTS);
        Turns::of(attempts, MOST_PROGRAMS.min(attempts / 4))
    }

    fn of(attempts: usize, programs: usize) -> Turns {
        Turns {
            attempts: Semaphore::new(attempts),
            programs: Semaphore::new(programs),
            is_late: AtomicBool::new(false),
            start: Instant::now(),
        }
    }

    /// The last tick that is not later. Checks that are made more often have shorter ones.
    pub(super) fn tick_before(&self, due: Instant, every: Duration) -> Instant {
        let tick = TICK.min(every / 50).as_nanos().max(1);
        let over = due.saturating_duration_since(self.start).as_nanos() % tick;
        due - Duration::from_nanos(over as u64)
    }

    /// Waits until it is this check's turn, which lasts for as long as what is given is kept. None never comes.
    pub(super) async fn take(&self, check: &Check) -> Option<SemaphorePermit<'_>> {
        let turns = match check.kind {
            CheckKind::Exec(_) => &self.programs,
            _ => &self.attempts,
        };
        if let Ok(turn) = turns.try_acquire() {
            self.tell(false);
            return Some(turn);
        }
        let due = Instant::now();
        let turn = turns.acquire().await.ok();
        if due.elapsed() > check.every {
            self.tell(true);
        }
        turn
    }

    fn tell(&self, is_late: bool) {
        // Read first: it is the same at nearly every attempt, of every thread.
        if self.is_late.load(Ordering::Relaxed) == is_late
            || self.is_late.swap(is_late, Ordering::Relaxed) == is_late
        {
            return;
        }
        if is_late {
            warn!("too many checks at once: attempts come later than every: says, and verdicts with them");
        } else {
            info!("checks are in time again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tokio::task::JoinSet;

    use super::*;
    use crate::site::ExecCheck;

    fn check(kind: CheckKind, every: Duration) -> Check {
        Check { kind, port: None, every, timeout: every, fall: 1, rise: 1, jitter: 0 }
    }

    #[tokio::test]
    async fn no_more_than_the_bound_are_under_way_and_every_one_has_its_turn() {
        let turns = Arc::new(Turns::of(7, 2));
        let kinds = [CheckKind::Icmp, CheckKind::Exec(ExecCheck { command: Vec::new() })];
        for (kind, bound) in kinds.into_iter().zip([7, 2]) {
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut attempts = JoinSet::new();
            for _ in 0..100 {
                let (turns, now, most) = (Arc::clone(&turns), Arc::clone(&now), Arc::clone(&most));
                let check = check(kind.clone(), Duration::from_secs(60));
                attempts.spawn(async move {
                    let _turn = turns.take(&check).await.expect("a turn");
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    now.fetch_sub(1, Ordering::Relaxed);
                });
            }
            assert_eq!(attempts.join_all().await.len(), 100);
            assert_eq!(most.load(Ordering::Relaxed), bound);
        }
    }

    #[tokio::test]
    async fn what_is_due_within_a_tick_is_due_together_and_never_late() {
        let turns = Turns::of(1, 1);
        let (every, tick) = (Duration::from_secs(5), Duration::from_millis(50));
        let at = |milliseconds| turns.start + Duration::from_millis(milliseconds);
        for (due, expected) in [(0, 0), (49, 0), (50, 50), (99, 50), (5_000, 5_000), (5_049, 5_000)] {
            assert_eq!(turns.tick_before(at(due), every), at(expected), "{due}");
            let often = turns.tick_before(at(due), Duration::from_millis(50));
            assert!(often <= at(due) && at(due) - often < tick / 50, "{due}");
        }
    }

    #[tokio::test]
    async fn lateness_is_known_until_there_is_room_again() {
        let turns = Arc::new(Turns::of(1, 1));
        let is_late = || turns.is_late.load(Ordering::Relaxed);
        for (every, expected) in [(Duration::from_secs(3600), false), (Duration::from_nanos(1), true)] {
            let check = check(CheckKind::Icmp, every);
            let first = turns.take(&check).await;
            assert!(!is_late());
            let next = tokio::spawn({
                let (turns, check) = (Arc::clone(&turns), check.clone());
                async move { turns.take(&check).await.is_some() }
            });
            // It asks now, and gets nothing.
            tokio::task::yield_now().await;
            drop(first);
            assert!(next.await.unwrap());
            assert_eq!(is_late(), expected);
            assert!(turns.take(&check).await.is_some());
            assert!(!is_late());
        }
    }
}
