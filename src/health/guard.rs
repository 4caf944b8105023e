//! Guards: what keeps checks from taking too much away. The verdicts on a service's sites in, which of them are held out.
//!
//! Three ways in which checks do more harm than what they find (meaning 9), in the order in which they are asked:
//!
//! - *isolation*: the fault is here. Where canaries, which have nothing to do with any site, fail as well, no site leaves.
//! - *blast radius*: too much at once. One site always may leave; beyond that a part of them within some time. Where all are
//!   down, nothing is gained by holding any, and what happens then was decided by the operator (`all_down`).
//! - *panic*: too little left. What is left would be crushed under everybody's clients, so all are given out again.
//!
//! A guard only ever holds what is down; none takes away what is up. All of it is arithmetic on what it is told, and on times
//! that it is told.

use std::fmt;

use tokio::time::Instant;

use crate::site::{BlastRadius, Guards};

/// What checks say of a site, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not known yet: it counts as up, but it never was.
    Unknown,
    /// Enough of it works.
    Up,
    /// Too little does.
    Down,
    /// An operator took it out, or put it in, whatever checks say: no guard's business.
    Set,
}

/// Why a site that is down is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The fault is here.
    Isolation,
    /// Too many left lately.
    BlastRadius,
    /// Too few are left.
    Panic,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hold::Isolation => "isolation",
            Hold::BlastRadius => "blast radius",
            Hold::Panic => "panic",
        })
    }
}

/// What is remembered of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    standing: Standing,
    /// When it left last.
    left: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nothing is known of it.
    #[default]
    New,
    /// It was up.
    In,
    /// It was let go.
    Gone,
}

impl Remembered {
    /// Of a site that was up, and of one that was not.
    #[must_use]
    pub fn new(is_in: bool, left: Option<Instant>) -> Remembered {
        Remembered { standing: if is_in { Standing::In } else { Standing::Gone }, left }
    }

    /// Whether it was up and has not been let go.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.standing == Standing::In
    }

    /// When it left last.
    #[must_use]
    pub fn left(&self) -> Option<Instant> {
        self.left
    }
}

/// Judges a service's sites. `isolated` is since when canaries fail, as far as anybody can tell: what left since then comes back.
/// Gives a hold for each site that has one.
pub fn judge(
    guards: &Guards,
    sites: &mut [Remembered],
    seen: &[Seen],
    isolated: Option<Instant>,
    now: Instant,
) -> Vec<Option<Hold>> {
    let mut holds = vec![None; sites.len()];
    for (site, seen) in sites.iter_mut().zip(seen) {
        match seen {
            Seen::Up => site.standing = Standing::In,
            // What never was up does not leave: at the start, and after a reload, checks are believed.
            Seen::Down if site.standing == Standing::New => site.standing = Standing::Gone,
            _ => {}
        }
    }
    if let Some(since) = isolated {
        for (index, site) in sites.iter_mut().enumerate().filter(|(index, _)| seen[*index] == Seen::Down) {
            if site.left.is_some_and(|left| left >= since) {
                *site = Remembered { standing: Standing::In, left: None };
            }
            if site.standing == Standing::In {
                holds[index] = Some(Hold::Isolation);
            }
        }
        return holds;
    }
    let counted = || seen.iter().filter(|seen| **seen != Seen::Set);
    let (all, up) = (counted().count(), counted().filter(|seen| **seen != Seen::Down).count());
    let leaving = |sites: &[Remembered]| -> Vec<usize> {
        (0..sites.len())
            .filter(|index| seen[*index] == Seen::Down && sites[*index].standing == Standing::In)
            .collect()
    };
    for index in leaving(sites) {
        if up == 0 || may_leave(guards.blast_radius, sites, index, all, now) {
            sites[index] = Remembered { standing: Standing::Gone, left: Some(now) };
        } else {
            holds[index] = Some(Hold::BlastRadius);
        }
    }
    if guards.panic.is_some_and(|least| (up as f64) < least * all as f64) {
        for (hold, _) in holds.iter_mut().zip(seen).filter(|(_, seen)| **seen == Seen::Down) {
            hold.get_or_insert(Hold::Panic);
        }
    }
    holds
}

/// One always may; else as many as leave lately are fewer than may. One that comes and goes counts once.
fn may_leave(
    blast_radius: Option<BlastRadius>,
    sites: &[Remembered],
    index: usize,
    all: usize,
    now: Instant,
) -> bool {
    let Some(BlastRadius { most, within }) = blast_radius else { return true };
    let left_lately = |site: &Remembered| site.left.is_some_and(|left| now.duration_since(left) < within);
    let others = sites.iter().enumerate().filter(|(other, site)| *other != index && left_lately(site));
    others.count() < ((most * all as f64).ceil() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const WITHIN: Duration = Duration::from_secs(600);

    /// A service over time: `u` up, `d` down, `?` unknown, `s` set by an operator, a letter for each site.
    struct Play {
        guards: Guards,
        sites: Vec<Remembered>,
        start: Instant,
        isolated: Option<Instant>,
    }

    impl Play {
        fn new(guards: Guards, sites: usize) -> Play {
            Play { guards, sites: vec![Remembered::default(); sites], start: Instant::now(), isolated: None }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// `.` is no hold, `i`, `b` and `p` are one by isolation, blast radius and panic.
        fn see(&mut self, seconds: u64, seen: &str) -> String {
            let seen: Vec<Seen> = seen.chars().map(as_seen).collect();
            let now = self.at(seconds);
            let holds = judge(&self.guards, &mut self.sites, &seen, self.isolated, now);
            let letter = |hold: Option<Hold>| match hold {
                None => '.',
                Some(Hold::Isolation) => 'i',
                Some(Hold::BlastRadius) => 'b',
                Some(Hold::Panic) => 'p',
            };
            holds.into_iter().map(letter).collect()
        }
    }

    fn as_seen(letter: char) -> Seen {
        match letter {
            'u' => Seen::Up,
            'd' => Seen::Down,
            's' => Seen::Set,
            _ => Seen::Unknown,
        }
    }

    #[test]
    fn meaning_9_one_site_may_leave_and_beyond_that_half_of_them_in_ten_minutes() {
        let mut play = Play::new(Guards::default(), 6);
        assert_eq!(play.see(0, "uuuuuu"), "......");
        assert_eq!(play.see(1, "dduuuu"), "......");
        assert_eq!(play.see(2, "dddduu"), "...b..");
        // Who comes back makes no room: it has left within the time.
        assert_eq!(play.see(3, "udddud"), "...b.b");
        assert_eq!(play.see(601, "udddud"), "......");
        let mut pair = Play::new(Guards::default(), 2);
        assert_eq!(pair.see(0, "uu"), "..");
        assert_eq!(pair.see(1, "du"), "..");
    }

    #[test]
    fn meaning_9_where_all_are_down_none_is_held_by_the_blast_radius() {
        let mut play = Play::new(Guards::default(), 4);
        play.see(0, "uuuu");
        assert_eq!(play.see(1, "dddu"), "..b.");
        assert_eq!(play.see(2, "dddd"), "....");
    }

    #[test]
    fn meaning_9_what_never_was_up_is_not_held() {
        let mut play = Play::new(Guards::default(), 4);
        assert_eq!(play.see(0, "??u?"), "....");
        assert_eq!(play.see(1, "ddud"), "....");
    }

    #[test]
    fn meaning_9_isolation_takes_back_what_left_since_the_canaries_fail_and_keeps_the_rest_out() {
        let mut play = Play::new(Guards::default(), 3);
        play.see(0, "uuu");
        play.see(10, "duu");
        play.see(100, "ddu");
        play.isolated = Some(play.at(99));
        assert_eq!(play.see(101, "ddd"), ".ii");
        assert_eq!(play.see(102, "dud"), "..i");
        play.isolated = None;
        assert_eq!(play.see(103, "duu"), "...");
        // The blast radius still knows of the one that left by itself.
        assert_eq!(play.see(104, "ddu"), "...");
    }

    #[test]
    fn meaning_9_panic_gives_all_out_but_what_an_operator_set() {
        let guards = Guards { blast_radius: None, panic: Some(0.5) };
        let mut play = Play::new(guards, 4);
        play.see(0, "uuuu");
        assert_eq!(play.see(1, "dduu"), "....");
        assert_eq!(play.see(2, "dddu"), "ppp.");
        assert_eq!(play.see(3, "sddu"), ".pp.");
        assert_eq!(play.see(4, "dduu"), "....");
    }

    proptest! {
        /// Whatever happens: a site that is up is never held, nor one that an operator set; and within any ten minutes no more
        /// leave than may, unless all are down.
        #[test]
        fn guards_hold_only_what_is_down_and_the_blast_radius_is_kept(
            steps in proptest::collection::vec((1_u64..200, proptest::collection::vec(0..4_usize, 6)), 1..40),
            most in 0.1..1.0_f64,
        ) {
            let blast_radius = BlastRadius { most, within: WITHIN };
            let mut play = Play::new(Guards { blast_radius: Some(blast_radius), panic: None }, 6);
            let mut at = 0;
            for (wait, letters) in steps {
                at += wait;
                let seen: String = letters.iter().map(|letter| ['u', 'd', '?', 's'][*letter]).collect();
                let before = play.sites.clone();
                let holds = play.see(at, &seen);
                for (seen, hold) in seen.chars().zip(holds.chars()) {
                    prop_assert!(hold == '.' || seen == 'd');
                }
                let now = play.at(at);
                let lately = |site: &&Remembered| site.left.is_some_and(|left| now - left < WITHIN);
                let left_now = play.sites.iter().zip(&before).filter(|(after, before)| after.left != before.left).count();
                let all = seen.chars().filter(|seen| *seen != 's').count();
                let is_all_down = !seen.contains(['u', '?']);
                let may = ((most * all as f64).ceil() as usize).max(1);
                prop_assert!(left_now == 0 || is_all_down || play.sites.iter().filter(lately).count() <= may.max(before.iter().filter(lately).count()));
            }
        }
    }
}
