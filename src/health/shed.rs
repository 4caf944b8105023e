//! How a site that says that it has too much is relieved: step by step while it says so, slowly back when it has less; never
//! of more than half of its clients, so that a number that is wrong takes no site away.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Of what it has left, at each step.
const STEP: f64 = 0.1;
/// Of all that it would have, at each step back.
const STEP_BACK: f64 = 0.04;
/// At most, of all that it would have.
const MOST: f64 = 0.5;

/// What a site said last of its load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Report {
    /// Which address of its said so.
    pub(super) address: IpAddr,
    /// In parts of its capacity.
    pub(super) load: f64,
    /// The parts that are too much, and little enough.
    pub(super) shed_above: f64,
    pub(super) resume_below: f64,
    /// When it did, and for how long that tells something.
    pub(super) told: Instant,
    pub(super) lasts: Duration,
}

impl Report {
    /// Of several addresses of a site the one with most counts, while it is fresh.
    pub(super) fn is_outdone_by(&self, other: &Report, now: Instant) -> bool {
        !self.is_fresh(now) || self.address == other.address || self.load <= other.load
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.told) < self.lasts
    }
}

/// What a site is relieved of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Shedding {
    /// The part of the clients that it would have.
    pub(super) part: f64,
    stepped: Option<Instant>,
}

impl Shedding {
    /// As much as before. What it did before is not known again yet, so that the next step is a while away.
    pub(super) fn resume(part: f64, now: Instant) -> Shedding {
        Shedding { part: part.clamp(0.0, MOST), stepped: Some(now) }
    }

    /// A step, if one is due: only when the last has had its effect, which takes a `pace`, the next is known to be needed.
    /// Without a fresh report nothing is shed.
    pub(super) fn judge(&mut self, report: Option<Report>, pace: Duration, now: Instant) {
        let Some(report) = report.filter(|report| report.is_fresh(now)) else {
            *self = Shedding::default();
            return;
        };
        if self.stepped.is_some_and(|stepped| now.duration_since(stepped) < pace) {
            return;
        }
        let part = match report.load {
            load if load > report.shed_above => (self.part + STEP * (1.0 - self.part)).min(MOST),
            load if load < report.resume_below => (self.part - STEP_BACK).max(0.0),
            _ => self.part,
        };
        if part != self.part {
            (self.part, self.stepped) = (part, Some(now));
        }
    }

    pub(super) fn is_any(&self) -> bool {
        self.part > 0.0
    }

    /// The part of the clients that it would have which it is given.
    pub(super) fn relief(&self) -> f64 {
        1.0 - self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Duration = Duration::from_secs(35);

    fn report(load: f64, told: Instant) -> Report {
        Report { address: [192, 0, 2, 1].into(), load, shed_above: 0.9, resume_below: 0.8, told, lasts: PACE }
    }

    #[test]
    fn a_site_is_relieved_step_by_step_and_gets_its_clients_back_slowly() {
        let (mut shedding, mut now) = (Shedding::default(), Instant::now());
        let mut after = |shedding: &mut Shedding, seconds: u64, load: f64| {
            now += Duration::from_secs(seconds);
            shedding.judge(Some(report(load, now)), PACE, now);
            (shedding.relief() * 1000.0).round() / 1000.0
        };
        assert_eq!(after(&mut shedding, 0, 0.9), 1.0);
        assert_eq!(after(&mut shedding, 0, 0.95), 0.9);
        // What that does is not seen yet.
        assert_eq!(after(&mut shedding, 34, 0.95), 0.9);
        assert_eq!(after(&mut shedding, 1, 0.95), 0.81);
        // Between the two points nothing happens.
        assert_eq!(after(&mut shedding, 500, 0.85), 0.81);
        assert_eq!(after(&mut shedding, 35, 0.7), 0.85);
        assert_eq!(
            [35, 35, 35, 35].map(|seconds| after(&mut shedding, seconds, 0.7)),
            [0.89, 0.93, 0.97, 1.0]
        );
    }

    #[test]
    fn what_is_stale_sheds_nothing() {
        let (mut shedding, now) = (Shedding::default(), Instant::now());
        shedding.judge(Some(report(2.0, now)), PACE, now);
        assert!(shedding.is_any());
        shedding.judge(Some(report(2.0, now)), PACE, now + PACE);
        assert!(!shedding.is_any());
    }

    proptest! {
        /// Whatever a site says, it keeps at least half of its clients.
        #[test]
        fn no_number_empties_a_site(loads in proptest::collection::vec((0.0..1e9_f64, 0..400_u64), 1..100)) {
            let (mut shedding, mut now) = (Shedding::default(), Instant::now());
            for (load, seconds) in loads {
                now += Duration::from_secs(seconds);
                shedding.judge(Some(report(load, now)), PACE, now);
                prop_assert!((0.5..=1.0).contains(&shedding.relief()));
            }
        }
    }
}
