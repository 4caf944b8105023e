//! Results of attempts -> verdicts: nothing but counting.

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
    /// Results in a row that speak against the verdict.
    against: u16,
    /// Attempts in a row that could not be made.
    untried: u16,
}

impl Judge {
    /// Knows nothing yet. `fall` failures in a row make an address down, `rise` successes up again.
    #[must_use]
    pub fn new(fall: u16, rise: u16) -> Judge {
        Judge { verdict: Verdict::Unknown, fall, rise, against: 0, untried: 0 }
    }

    /// Up, down, or unknown.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
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
                    (self.verdict, self.against) = (Verdict::Unknown, 0);
                }
            }
            Attempt::Success => self.hear(Verdict::Up, self.rise),
            Attempt::Failure(_) => self.hear(Verdict::Down, self.fall),
        }
        (self.verdict != before).then_some(self.verdict)
    }

    fn hear(&mut self, told: Verdict, needed: u16) {
        self.untried = 0;
        if self.verdict == told {
            self.against = 0;
            return;
        }
        self.against = self.against.saturating_add(1);
        if self.verdict == Verdict::Unknown || self.against >= needed {
            (self.verdict, self.against) = (told, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn meaning_7_trouble_of_our_own_is_never_down_and_ends_what_was_known() {
        assert_eq!(judged(2, 2, "???"), "nnn");
        assert_eq!(judged(2, 2, "+?-?-"), "uuuud");
        assert_eq!(judged(2, 2, "-??-"), "ddnd");
        assert_eq!(judged(2, 2, "-??+"), "ddnu");
    }
}
