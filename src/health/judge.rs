//! Results of attempts -> verdicts on checks -> a verdict on an address: nothing but counting.

use super::board::Verdict;

/// What one attempt told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// As it should be.
    Success,
    /// Why not, for people.
    Failure(String),
    /// It could not even be tried, through no fault of the address (no route, no descriptors).
    LocalTrouble(String),
}

/// The verdict on one (address, check) so far.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    verdict: Verdict,
    fall: u16,
    rise: u16,
    /// What failures have filled, and successes let leak, of what makes an address down.
    filled: u16,
    /// Successes in a row.
    good: u16,
    /// How often it fell lately.
    falls: u16,
    /// Attempts in a row that could not be made.
    untried: u16,
}

/// What a failure fills; a success lets one leak. So an address that fails every other time, and never `fall` times in a row,
/// goes as well: of more than one failure in five, failures win.
const FAILURE: u16 = 4;
/// Who falls again and again must be good for longer, up to so many times `rise`.
const MOST_FALLS: u16 = 4;
/// After so many successes in a row one fall is forgotten.
const FORGETS: u16 = 60;

impl Judge {
    /// Knows nothing yet. `fall` failures in a row make an address down, `rise` successes up again.
    #[must_use]
    pub fn new(fall: u16, rise: u16) -> Judge {
        Judge { verdict: Verdict::Unknown, fall, rise, filled: 0, good: 0, falls: 0, untried: 0 }
    }

    /// Goes on from what was known before, and how often it had fallen: from there, rise and fall count.
    pub fn resume(&mut self, verdict: Verdict, falls: u16) {
        self.falls = falls.min(MOST_FALLS);
        self.set(verdict);
    }

    /// How often it fell lately.
    #[must_use]
    pub fn falls(&self) -> u16 {
        self.falls
    }

    /// Up, down, or unknown.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether failures have begun that may come to more.
    #[must_use]
    pub fn is_wavering(&self) -> bool {
        self.verdict == Verdict::Up && self.filled > 0
    }

    /// Takes one result into account; gives the verdict if that changed it.
    ///
    /// The first result sets it outright (meaning 7): at the start nobody knows better. One attempt that could not be
    /// made tells nothing; as many in a row as make an address down make it unknown, and so up: our own trouble must not
    /// take sites away, nor keep one away for ever.
    pub fn register(&mut self, attempt: &Attempt) -> Option<Verdict> {
        let before = self.verdict;
        match attempt {
            Attempt::LocalTrouble(_) => {
                self.untried = self.untried.saturating_add(1);
                if self.untried >= self.fall {
                    self.set(Verdict::Unknown);
                }
            }
            Attempt::Success => self.hear_good(),
            Attempt::Failure(_) => self.hear_bad(),
        }
        (self.verdict != before).then_some(self.verdict)
    }

    /// It was so and fell, and that told nothing of it: as if it had not. From there, rise and fall count.
    pub fn absolve(&mut self, before: Verdict) {
        self.falls = self.falls.saturating_sub(1);
        self.set(before);
    }

    fn hear_good(&mut self) {
        self.untried = 0;
        self.good = self.good.saturating_add(1);
        self.filled = self.filled.saturating_sub(1);
        if self.good.is_multiple_of(FORGETS) {
            self.falls = self.falls.saturating_sub(1);
        }
        let needed = self.rise.saturating_mul(self.falls.clamp(1, MOST_FALLS));
        if self.verdict == Verdict::Unknown || self.verdict == Verdict::Down && self.good >= needed {
            self.set(Verdict::Up);
        }
    }

    fn hear_bad(&mut self) {
        self.untried = 0;
        self.good = 0;
        self.filled = self.filled.saturating_add(FAILURE);
        let is_full = self.filled >= self.fall.saturating_mul(FAILURE);
        if self.verdict == Verdict::Unknown || self.verdict == Verdict::Up && is_full {
            self.falls = (self.falls + 1).min(MOST_FALLS);
            self.set(Verdict::Down);
        }
    }

    fn set(&mut self, verdict: Verdict) {
        (self.verdict, self.filled, self.good) = (verdict, 0, 0);
    }
}

/// The verdict on an address of those on its checks, `need` of which it must pass: up when so many are up for certain, down
/// when so many cannot be reached though all that is unknown were up, else unknown.
///
/// A check that is not made any more is None, and might say anything: where that makes a difference, so is the result.
#[must_use]
pub fn combine(verdicts: impl IntoIterator<Item = Option<Verdict>>, need: u16) -> Option<Verdict> {
    let (mut up, mut unknown, mut untold) = (0, 0, 0);
    for verdict in verdicts {
        match verdict {
            Some(Verdict::Up | Verdict::ForcedUp | Verdict::Held) => up += 1,
            Some(Verdict::Unknown) => unknown += 1,
            Some(Verdict::Down | Verdict::ForcedDown) => {}
            None => untold += 1,
        }
    }
    let need = usize::from(need);
    let told = |up: usize| match () {
        () if up >= need => Verdict::Up,
        () if up + unknown < need => Verdict::Down,
        () => Verdict::Unknown,
    };
    (told(up) == told(up + untold)).then_some(told(up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_verdict() -> impl Strategy<Value = Option<Verdict>> {
        prop_oneof![
            Just(None),
            Just(Some(Verdict::Up)),
            Just(Some(Verdict::Down)),
            Just(Some(Verdict::Unknown))
        ]
    }

    /// Every list in which one of `what` became `first` or `second`, over and over until none is left.
    fn decided(list: &[Option<Verdict>], what: Option<Verdict>, by: &[Verdict]) -> Vec<Vec<Option<Verdict>>> {
        let Some(at) = list.iter().position(|verdict| *verdict == what) else { return vec![list.to_vec()] };
        let each = by.iter().flat_map(|verdict| {
            let mut list = list.to_vec();
            list[at] = Some(*verdict);
            decided(&list, what, by)
        });
        each.collect()
    }

    fn alike<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Option<T> {
        let mut all = all.into_iter();
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    proptest! {
        /// The law is the definition: what holds however the unknown checks turn out is certain.
        #[test]
        fn a_verdict_is_certain_when_every_unknown_check_could_turn_out_either_way(
            list in proptest::collection::vec(any_verdict().prop_filter("told", Option::is_some), 0..6),
            need in 0_u16..7,
        ) {
            let outcomes = decided(&list, Some(Verdict::Unknown), &[Verdict::Up, Verdict::Down]);
            let passes = |list: &Vec<_>| list.iter().filter(|verdict| **verdict == Some(Verdict::Up)).count();
            let certain = alike(outcomes.iter().map(|list| passes(list) >= usize::from(need)));
            let expected = match certain {
                Some(true) => Verdict::Up,
                Some(false) => Verdict::Down,
                None => Verdict::Unknown,
            };
            prop_assert_eq!(combine(list, need), Some(expected));
        }

        #[test]
        fn what_is_not_told_any_more_keeps_the_last_verdict_where_it_could_make_a_difference(
            list in proptest::collection::vec(any_verdict(), 0..6),
            need in 0_u16..7,
        ) {
            let all = decided(&list, None, &[Verdict::Up, Verdict::Down, Verdict::Unknown]);
            let expected = alike(all.into_iter().map(|list| combine(list, need))).flatten();
            prop_assert_eq!(combine(list, need), expected);
        }

        #[test]
        fn the_order_is_nothing_and_another_success_never_harms(
            list in proptest::collection::vec(any_verdict(), 1..6),
            at in any::<proptest::sample::Index>(),
            need in 0_u16..7,
        ) {
            let told = combine(list.iter().copied(), need);
            prop_assert_eq!(combine(list.iter().rev().copied(), need), told);
            let mut better = list.clone();
            better[at.index(list.len())] = Some(Verdict::Up);
            if told == Some(Verdict::Up) {
                prop_assert_eq!(combine(better, need), told);
            } else if combine(better.iter().copied(), need) == Some(Verdict::Down) {
                prop_assert_eq!(told, Some(Verdict::Down));
            }
        }
    }

    /// `+` success, `-` failure, `?` local trouble; after each: `u` up, `d` down, `n` unknown.
    fn judged(fall: u16, rise: u16, results: &str) -> String {
        let mut judge = Judge::new(fall, rise);
        let attempt = |c| match c {
            '+' => Attempt::Success,
            '-' => Attempt::Failure(String::new()),
            _ => Attempt::LocalTrouble(String::new()),
        };
        results
            .chars()
            .map(|c| {
                judge.register(&attempt(c));
                match judge.verdict() {
                    Verdict::Up => 'u',
                    Verdict::Down => 'd',
                    _ => 'n',
                }
            })
            .collect()
    }

    #[test]
    fn meaning_7_the_first_result_decides_and_then_fall_and_rise_do() {
        assert_eq!(judged(2, 3, "+-+--"), "uuuud");
        assert_eq!(judged(2, 3, "-++-+++"), "ddddddu");
        assert_eq!(judged(1, 1, "+-+"), "udu");
    }

    #[test]
    fn meaning_9_who_fell_with_us_is_up_as_before_and_has_not_fallen() {
        let (good, bad) = (Attempt::Success, Attempt::Failure(String::new()));
        let mut judge = Judge::new(2, 2);
        judge.register(&good);
        judge.register(&bad);
        assert_eq!(judge.register(&bad), Some(Verdict::Down));
        judge.absolve(Verdict::Up);
        assert_eq!(judge.verdict(), Verdict::Up);
        // One that was under way meanwhile takes nothing away; two that follow do.
        assert_eq!(judge.register(&bad), None);
        assert_eq!(judge.register(&bad), Some(Verdict::Down));
        // That was its first fall: `rise` is enough.
        assert_eq!(judge.register(&good), None);
        assert_eq!(judge.register(&good), Some(Verdict::Up));
    }

    #[test]
    fn meaning_7_rise_counts_from_what_was_known_elsewhere() {
        let mut judge = Judge::new(2, 3);
        (0..10).for_each(|_| assert_ne!(judge.register(&Attempt::Success), Some(Verdict::Down)));
        judge.resume(Verdict::Down, 1);
        let heard = [(); 3].map(|()| judge.register(&Attempt::Success));
        assert_eq!(heard, [None, None, Some(Verdict::Up)]);
        judge.resume(Verdict::Down, u16::MAX);
        assert_eq!(judge.falls(), MOST_FALLS);
    }

    #[test]
    fn meaning_7_an_address_that_fails_every_other_time_goes_too() {
        assert_eq!(judged(2, 2, "+-+-+-"), "uuuuud");
        // One in five does not.
        assert_eq!(judged(2, 2, &"++++-".repeat(20)), "u".repeat(100));
    }

    #[test]
    fn meaning_7_who_falls_again_and_again_must_be_good_for_longer_until_that_is_forgotten() {
        assert_eq!(judged(1, 2, "+-++-++++-++++++"), "uddudddduddddddu");
        let calm = "+".repeat(usize::from(FORGETS));
        let long = format!("+-++-++++{calm}{calm}-++");
        assert!(judged(1, 2, &long).ends_with("uddu"));
    }

    proptest! {
        /// Whatever comes: `fall` failures in a row are down, and enough successes in a row are up; what never failed never falls.
        #[test]
        fn enough_in_a_row_decides(fall in 1_u16..6, rise in 1_u16..6, results in "[+?-]{0,60}") {
            let after = |more: String| judged(fall, rise, &format!("{results}{more}")).pop();
            prop_assert_eq!(after("-".repeat(usize::from(fall))), Some('d'));
            prop_assert_eq!(after("+".repeat(usize::from(rise * MOST_FALLS))), Some('u'));
            let never = results.replace('-', "+");
            prop_assert!(!judged(fall, rise, &never).contains('d'));
        }
    }

    #[test]
    fn meaning_7_trouble_of_our_own_is_never_down_and_ends_what_was_known() {
        assert_eq!(judged(2, 2, "???"), "nnn");
        assert_eq!(judged(2, 2, "+?-?-"), "uuuud");
        assert_eq!(judged(2, 2, "-??-"), "ddnd");
        assert_eq!(judged(2, 2, "-??+"), "ddnu");
    }
}
