//! What has to come of operators' words, from the words alone.

use super::schedule::Word;
use crate::health::overrides::{Forced, Wish};

/// Whoever looks once a second may be so late, in milliseconds.
const LATE: u64 = 1000;

/// What stands, by site: said of all services, and of this one.
pub(super) struct Words(Vec<[Said; 2]>);

/// Times are milliseconds since 1970.
#[derive(Clone, Copy, Default)]
struct Said {
    force: Option<(Forced, Option<u64>)>,
    drain: Option<Drain>,
}

#[derive(Clone, Copy)]
struct Drain {
    /// When the share is where it goes: nothing, or everything again.
    arrives: u64,
    has_arrived: bool,
    until: Option<u64>,
    is_back: bool,
}

impl Words {
    pub(super) fn none(sites: usize) -> Words {
        Words(vec![[Said::default(); 2]; sites])
    }

    /// What was followed.
    pub(super) fn say(&mut self, word: &Word, wall: u64) {
        let until = word.lasts.map(|lasts| wall + lasts * 1000);
        let drain = |is_back, until| Drain {
            arrives: wall + word.over * 1000,
            has_arrived: word.over == 0,
            until,
            is_back,
        };
        let chosen =
            self.0.iter_mut().enumerate().filter(|(site, _)| word.site.is_none_or(|only| only == *site));
        for (_, said) in chosen {
            let said = &mut said[usize::from(word.is_of_service)];
            match word.wish {
                Wish::Drain => said.drain = Some(drain(false, until)),
                Wish::Undrain if said.drain.is_some_and(|standing| !standing.is_back) => {
                    said.drain = Some(drain(true, None)).filter(|_| word.over > 0);
                }
                Wish::Undrain => {}
                Wish::ForceUp => said.force = Some((Forced::Up, until)),
                Wish::ForceDown => said.force = Some((Forced::Down, until)),
                Wish::Unforce => said.force = None,
            }
        }
    }

    /// The clock was set by so many milliseconds. Who is on the way stays as far as that was, or gets farther.
    pub(super) fn set_clock(&mut self, by: i64) {
        let back = by.min(0).unsigned_abs();
        for drain in self.0.iter_mut().flatten().filter_map(|said| said.drain.as_mut()) {
            drain.arrives = drain.arrives.saturating_sub(back) + if back > 0 { LATE } else { 0 };
        }
    }

    /// Looks at the clock: what is over by it is over.
    pub(super) fn tick(&mut self, wall: u64) {
        let stands = |until: Option<u64>| until.is_none_or(|until| wall < until);
        for said in self.0.iter_mut().flatten() {
            said.force = said.force.filter(|(_, until)| stands(*until));
            if let Some(drain) = &mut said.drain {
                drain.has_arrived |= wall >= drain.arrives;
            }
            said.drain =
                said.drain.filter(|drain| stands(drain.until) && !(drain.is_back && drain.has_arrived));
        }
    }

    pub(super) fn forced(&self, site: usize) -> Option<Forced> {
        let [of_all, of_one] = self.0[site];
        of_one.force.or(of_all.force).map(|(forced, _)| forced)
    }

    /// Whether it is to take nobody by now. Force goes before drain.
    pub(super) fn is_drained(&self, site: usize) -> bool {
        let is_out = |said: &Said| said.drain.is_some_and(|drain| drain.has_arrived && !drain.is_back);
        self.forced(site).is_none() && self.0[site].iter().any(is_out)
    }

    /// Whether anything is said of how much it takes.
    pub(super) fn is_any_drain(&self, site: usize) -> bool {
        self.0[site].iter().any(|said| said.drain.is_some())
    }

    /// Whether its clients are on their way back.
    pub(super) fn is_back(&self, site: usize) -> bool {
        self.0[site].iter().any(|said| said.drain.is_some_and(|drain| drain.is_back))
    }

    /// Whether an operator took it away.
    pub(super) fn is_out(&self, site: usize) -> bool {
        self.is_drained(site) || self.forced(site) == Some(Forced::Down)
    }
}
