//! All that the health side knows, behind one lock: what checks found, what operators said, what guards remember; and the boards
//! that are told of it.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::board::{Target, Verdict};
use super::events::{Events, Kind};
use super::judge::{self, Attempt, Judge};
use super::memory::{Memory, Remembered};
use super::overrides::{Deed, Milliseconds, Overrides};
use super::probe::{Certificate, Remarks};
use super::publish::{Around, Published};
use super::tries::Tries;
use crate::site::Check;

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) subjects: HashMap<Arc<Subject>, Checked>,
    pub(super) canaries: Vec<Arc<Subject>>,
    /// Since when the canaries fail, all of them.
    pub(super) isolated: Option<Instant>,
    /// Since when attempts at all canaries fail, whatever the verdicts are yet.
    pub(super) suspected: Option<Instant>,
    /// The newest last.
    pub(super) boards: Vec<Published>,
    pub(super) overrides: Overrides,
    /// Whether shares that operators gave are on their way.
    pub(super) is_moving: bool,
    pub(super) memory: Memory,
    pub(super) events: Events,
    pub(super) tries: Tries,
}

/// What one task tries.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) address: IpAddr,
    pub(super) check: Check,
}

#[derive(Debug)]
pub(super) struct Checked {
    pub(super) judge: Judge,
    pub(super) task: AbortHandle,
    /// Whether an attempt has ended yet.
    pub(super) tried: watch::Sender<bool>,
    /// Whether the last attempt could not be made.
    pub(super) in_trouble: bool,
    /// Since when none has succeeded.
    pub(super) failing: Option<Instant>,
    /// Since when it is down, if it was up before.
    pub(super) fell: Option<Instant>,
    /// What the server showed last, over TLS; and the one whose end was told of.
    pub(super) certificate: Option<Certificate>,
    pub(super) told: Option<Certificate>,
    /// What the last attempt said, and since when the verdict stands.
    pub(super) last: String,
    pub(super) since: SystemTime,
}

impl Known {
    pub(super) fn register(
        &mut self,
        subject: &Subject,
        attempt: &Attempt,
        took: Duration,
        remarks: Remarks,
    ) {
        self.tries.register(&subject.check.kind, attempt, took);
        self.tell_of_certificate(subject, remarks.certificate);
        let Some(checked) = self.subjects.get_mut(subject) else { return };
        let load = remarks.load;
        checked.register(subject, attempt, remarks);
        let (was_wavering, before) = (checked.judge.is_wavering(), checked.judge.verdict());
        let changed = checked.judge.register(attempt);
        let is_wavering = checked.judge.is_wavering();
        checked.tried.send_replace(true);
        if changed.is_some() {
            checked.since = SystemTime::now();
            let has_fallen = before == Verdict::Up && checked.judge.verdict() == Verdict::Down;
            checked.fell = has_fallen.then(Instant::now);
        }
        let last = checked.last.clone();
        let is_canary = self.canaries.iter().any(|canary| **canary == *subject);
        if is_canary {
            self.look_at_canaries();
        }
        if let Some(verdict) = changed {
            let of_what = if is_canary { "canary " } else { "" };
            let text = format!("{of_what}{subject}: {verdict} ({last})");
            match verdict {
                Verdict::Up => self.events.note(Kind::Verdict, text),
                _ => self.events.warn(Kind::Verdict, text),
            }
        }
        if changed.is_some() || was_wavering != is_wavering {
            self.note(subject);
        }
        if let Some(load) = load {
            self.note_load(subject, load);
        }
    }

    /// Publishes what follows from a load that was told.
    fn note_load(&mut self, subject: &Subject, load: f64) {
        let Some(check) = subject.check.load() else { return };
        let until = Instant::now() + 3 * subject.check.every + subject.check.timeout;
        self.publish(|published, around| {
            let slots = published.slots.get(subject).cloned().unwrap_or_default();
            for slot in &slots {
                published.note_load(*slot, load, check, until, around.now);
            }
            published.publish(Some(&slots), around);
        });
    }

    /// Publishes what is known of a subject wherever it has a say.
    fn note(&mut self, subject: &Subject) {
        let of_slot =
            |(slot, target): (u32, Target)| (slot, self.verdict_on(&target), self.is_doubted(&target));
        let of_board = |published: &Published| published.targets_of(subject).map(of_slot).collect::<Vec<_>>();
        let mut news = self.boards.iter().map(of_board).collect::<Vec<_>>().into_iter();
        self.publish(|published, around| {
            let news = news.next().unwrap_or_default();
            for (slot, verdict, is_doubted) in &news {
                published.note(*slot, *verdict, *is_doubted);
            }
            let slots: Vec<u32> = news.iter().map(|(slot, ..)| *slot).collect();
            published.publish(Some(&slots), around);
        });
    }

    /// Whether the fault is here: no canary is up, and at least one has said so.
    fn look_at_canaries(&mut self) {
        let canaries: Vec<(&Subject, &Checked)> =
            self.canaries.iter().filter_map(|canary| Some((&**canary, self.subjects.get(canary)?))).collect();
        let fails = |checked: &Checked| {
            checked.judge.verdict() == Verdict::Down
                || checked.in_trouble && checked.judge.verdict() != Verdict::Up
        };
        let all_fail = !canaries.is_empty() && canaries.iter().all(|(_, checked)| fails(checked));
        // What broke may have broken just after the attempt before the first that failed.
        let since = canaries.iter().filter_map(|(canary, checked)| {
            checked.failing?.checked_sub(canary.check.every + canary.check.timeout)
        });
        let since = since.min();
        // Sites that are cut off with us may be told down a moment before the canaries are: they wait where the last attempt at
        // each canary has failed.
        let suspected = since.filter(|_| canaries.iter().all(|(_, checked)| checked.failing.is_some()));
        let is_news = suspected.is_some() != self.suspected.is_some();
        self.suspected = suspected;
        let since = since.filter(|_| all_fail);
        match (since, self.isolated) {
            (Some(since), None) => {
                self.isolated = Some(since);
                let text = "every canary fails: this server is cut off, and no site leaves";
                self.events.warn(Kind::Alarm, text.to_owned());
            }
            (None, Some(since)) => {
                self.isolated = None;
                let text = "a canary answers again: verdicts count again";
                self.events.note(Kind::Alarm, text.to_owned());
                self.absolve(since);
            }
            _ if is_news => {}
            _ => return,
        }
        self.publish(|published, around| published.publish(None, around));
    }

    /// What fell while this server was cut off is up as before: that told nothing of it. It leaves if it fails from now on.
    fn absolve(&mut self, since: Instant) {
        let fell =
            self.subjects.iter_mut().filter(|(_, checked)| checked.fell.is_some_and(|fell| fell >= since));
        let absolved: Vec<Arc<Subject>> = fell
            .map(|(subject, checked)| {
                checked.judge.absolve();
                (checked.fell, checked.since) = (None, SystemTime::now());
                Arc::clone(subject)
            })
            .collect();
        for subject in absolved {
            self.note(&subject);
        }
    }

    /// Hands each board what it takes to be written.
    pub(super) fn publish(&mut self, mut publish: impl FnMut(&mut Published, &mut Around<'_>)) {
        let Known { boards, overrides, events, isolated, suspected, canaries, is_moving, .. } = self;
        let mut around = Around {
            overrides,
            isolated: isolated.or(*suspected),
            has_canaries: !canaries.is_empty(),
            events,
            is_moving: *is_moving,
            tells: false,
            wall: wall(),
            now: Instant::now(),
        };
        let newest = boards.len().saturating_sub(1);
        for (index, published) in boards.iter_mut().enumerate() {
            around.tells = index == newest;
            publish(published, &mut around);
        }
    }

    /// Once a second.
    pub(super) fn tick(&mut self) {
        for over in self.overrides.expire(wall()) {
            let service = over.service.map_or_else(String::new, |service| format!(" in {service}"));
            let text = match over.deed {
                Deed::Undrain { .. } => "takes all of its clients again",
                Deed::Drain { .. } => "the drain has expired",
                Deed::Up | Deed::Down => "what it was forced to be has expired",
            };
            self.events.note(Kind::Override, format!("{}{service}: {text}", over.site));
            self.publish(|published, around| published.publish(None, around));
        }
        self.boards.retain(Published::is_held);
        // Once more after the last step: that is the one that arrives.
        let moves = self.overrides.is_moving(wall());
        self.is_moving |= moves;
        self.publish(Published::move_on);
        self.is_moving = moves;
    }

    /// What it takes to write down what is known, if there is somewhere to write it.
    pub(super) fn remember(&mut self) -> Option<impl FnOnce() -> Result<(), String> + Send + use<>> {
        let verdicts = self.subjects.iter().filter_map(|(subject, checked)| {
            Some((subject.to_string(), Remembered::of(checked.judge.verdict(), checked.since)?))
        });
        let verdicts = verdicts.collect();
        self.memory.begin_to_write(verdicts, SystemTime::now())
    }

    /// Once for each certificate, at however many addresses it is.
    fn tell_of_certificate(&mut self, subject: &Subject, shown: Option<Certificate>) {
        let now = SystemTime::now();
        let Some(certificate) = shown.filter(|certificate| certificate.is_due <= now) else { return };
        let is_told = |checked: &Checked| checked.told == Some(certificate);
        if self.subjects.get(subject).is_none_or(is_told) {
            return;
        }
        if !self.subjects.values().any(is_told) {
            match certificate.expires.duration_since(now) {
                Ok(left) => warn!("{subject}: its certificate ends in {}", in_days(left)),
                Err(past) => warn!("{subject}: its certificate ended {} ago", in_days(past.duration())),
            }
        }
        if let Some(checked) = self.subjects.get_mut(subject) {
            checked.told = Some(certificate);
        }
    }

    /// Whether attempts lately speak against what is known of it.
    pub(super) fn is_doubted(&self, target: &Target) -> bool {
        let is_wavering =
            |subject| self.subjects.get(&subject).is_some_and(|checked| checked.judge.is_wavering());
        subjects_of(target).any(is_wavering)
    }

    /// None where it cannot be told, for want of checks that are not made any more.
    pub(super) fn verdict_on(&self, target: &Target) -> Option<Verdict> {
        let verdict_of = |subject| self.subjects.get(&subject).map(|checked| checked.judge.verdict());
        judge::combine(subjects_of(target).map(verdict_of), target.need)
    }
}

impl Checked {
    /// Notes what an attempt said. Trouble of our own is told when it begins and when it ends: it takes no
    /// site away, so nobody would notice.
    pub(super) fn register(&mut self, subject: &Subject, attempt: &Attempt, remarks: Remarks) {
        self.certificate = remarks.certificate;
        self.last = match attempt {
            Attempt::Success => remarks.words.unwrap_or_else(|| "good".to_owned()),
            Attempt::Failure(text) | Attempt::LocalTrouble(text) => text.clone(),
        };
        self.failing = match attempt {
            Attempt::Success => None,
            _ => self.failing.or_else(|| Some(Instant::now())),
        };
        let is_trouble = matches!(attempt, Attempt::LocalTrouble(_));
        match (self.in_trouble, is_trouble) {
            (false, true) => warn!("{subject}: cannot be checked from here ({})", self.last),
            (true, false) => info!("{subject}: can be checked from here again"),
            _ => {}
        }
        self.in_trouble = is_trouble;
    }
}

impl fmt::Display for Subject {
    /// `192.0.2.1 port 80, http www.example.com/healthz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before_kind = if self.check.port.is_some() { " " } else { ", " };
        write!(f, "{}{before_kind}{}", self.address, self.check)
    }
}

pub(super) fn subjects_of(target: &Target) -> impl Iterator<Item = Subject> {
    target.checks.iter().map(|check| Subject { address: target.address, check: check.clone() })
}

/// `13 days`, or of less than two `31 hours`.
fn in_days(time: Duration) -> String {
    match time.as_secs() / 3600 {
        hours @ 0..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

/// Milliseconds since 1970.
pub(super) fn wall() -> Milliseconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as Milliseconds)
}
