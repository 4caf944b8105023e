//! What became of attempts, and how long they took: counted from the start on, whatever is checked meanwhile.

use std::time::Duration;

use super::judge::Attempt;
use crate::site::CheckKind;

/// Milliseconds up to which attempts are told apart by how long they took.
pub const BOUNDS: [u64; 11] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

/// What may become of an attempt, by name: good; bad; not even made, for want of something of our own.
pub const RESULTS: [&str; 3] = ["success", "failure", "local_trouble"];

/// Attempts of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfKind {
    /// In the order of [`RESULTS`].
    pub results: [u64; RESULTS.len()],
    /// Those that took no longer than each of [`BOUNDS`] and longer than the one before; then all others.
    pub took: [u64; BOUNDS.len() + 1],
    /// How long all of them took together.
    pub in_all: Duration,
}

/// All attempts since the start, in the order of [`CheckKind::NAMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries(pub [OfKind; CheckKind::NAMES.len()]);

impl Tries {
    pub(super) fn register(&mut self, kind: &CheckKind, attempt: &Attempt, took: Duration) {
        let result = match attempt {
            Attempt::Success => 0,
            Attempt::Failure(_) => 1,
            Attempt::LocalTrouble(_) => 2,
        };
        let of_kind = &mut self.0[kind.number()];
        of_kind.results[result] += 1;
        of_kind.took[BOUNDS.partition_point(|&bound| Duration::from_millis(bound) < took)] += 1;
        of_kind.in_all += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_counts_at_the_first_bound_that_it_keeps() {
        let mut tries = Tries::default();
        let failure = Attempt::Failure("no".to_owned());
        tries.register(&CheckKind::Tcp, &Attempt::Success, Duration::ZERO);
        tries.register(&CheckKind::Tcp, &Attempt::Success, Duration::from_millis(1));
        tries.register(&CheckKind::Tcp, &failure, Duration::from_micros(1001));
        tries.register(&CheckKind::Tcp, &failure, Duration::from_secs(60));
        let OfKind { results, took, in_all } = tries.0[0];
        assert_eq!(results, [2, 2, 0]);
        assert_eq!((took[0], took[1], took[11]), (2, 1, 1));
        assert_eq!(in_all, Duration::from_micros(60_002_001));
        assert_eq!(tries.0[1], OfKind::default());
    }
}
