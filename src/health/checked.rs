//! One check of one address: whom a task asks what, and what has come of it.

use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::board::{Target, Verdict};
use super::judge::{Attempt, Judge};
use super::memory::RememberedVerdict;
use super::moment::Moment;
use super::probe::{Certificate, Remarks};
use crate::change::content::Digest;
use crate::site::Check;

/// What one task tries.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) address: IpAddr,
    pub(super) check: Check,
}

#[derive(Debug)]
pub(super) struct Checked {
    /// Of the subject, in the memory.
    pub(super) key: String,
    pub(super) judge: Judge,
    pub(super) task: AbortHandle,
    /// Whether an attempt has ended yet.
    pub(super) tried: watch::Sender<bool>,
    /// Whether the last attempt could not be made.
    pub(super) in_trouble: bool,
    /// Since when none has succeeded.
    pub(super) failing: Option<Instant>,
    /// How attempts end lately, and since when all of them have.
    ending: Option<(Discriminant<Attempt>, Instant)>,
    /// While it is down, if that began in this run.
    fall: Option<Fall>,
    /// What the server showed last, over TLS; and the one whose end was told of.
    pub(super) certificate: Option<Certificate>,
    pub(super) told: Option<Certificate>,
    /// What the last attempt said; and since when the verdict stands.
    pub(super) last: String,
    /// How long it took, if it could be made.
    pub(super) took: Option<Duration>,
    /// What the last one said that was not good, and when.
    pub(super) last_error: Option<(SystemTime, String)>,
    pub(super) since: SystemTime,
}

/// How something came to be down.
#[derive(Clone, Copy, Debug)]
struct Fall {
    when: Instant,
    /// What it was before, and since when.
    before: Verdict,
    since: SystemTime,
}

impl Checked {
    /// One that was not tried yet, in this run; what is known of it from before.
    pub(super) fn new(
        subject: &Subject,
        task: AbortHandle,
        remembered: Option<RememberedVerdict>,
        at: Moment,
    ) -> Checked {
        let mut judge = Judge::new(subject.check.fall, subject.check.rise);
        if let Some(remembered) = remembered {
            judge.resume(remembered.verdict(), remembered.falls());
        }
        Checked {
            key: subject.key(),
            judge,
            task,
            // What was known a moment ago need not be waited for.
            tried: watch::Sender::new(remembered.is_some()),
            in_trouble: false,
            // A canary that failed when the last run ended fails until it is tried again: this server is still cut off.
            failing: remembered.filter(|remembered| remembered.is_failing()).map(|_| at.now),
            ending: None,
            fall: None,
            certificate: None,
            told: None,
            last: remembered.map_or("not tried yet", |_| "not tried yet since the last start").to_owned(),
            took: None,
            last_error: None,
            since: remembered.map_or(at.wall, RememberedVerdict::since),
        }
    }

    /// Takes what another process knows, where that is newer and something else. Whether it was.
    pub(super) fn learn(&mut self, known: RememberedVerdict, at: Moment) -> bool {
        let (verdict, before) = (known.verdict(), self.judge.verdict());
        if known.since() <= self.since || verdict == before {
            return false;
        }
        self.judge.resume(verdict, known.falls());
        let since = std::mem::replace(&mut self.since, known.since());
        // It fell there as it would have here: with this server's own link, maybe.
        let ago = at.wall.duration_since(known.since()).unwrap_or_default();
        let when = at.now.checked_sub(ago).unwrap_or(at.now);
        self.fall = (verdict == Verdict::Down).then_some(Fall { when, before, since });
        true
    }

    /// What the next run is to know. What fell with this server's own link is as before when that is over: the next run must not
    /// believe it either.
    pub(super) fn remember(&self, is_canary: bool, cut_off: Option<Instant>) -> Option<RememberedVerdict> {
        let fell_with_it = |fall: &Fall| !is_canary && cut_off.is_some_and(|cut_off| fall.when >= cut_off);
        let falls = self.judge.falls();
        let (verdict, since, falls) = match self.fall.filter(fell_with_it) {
            Some(fall) => (fall.before, fall.since, falls.saturating_sub(1)),
            None => (self.judge.verdict(), self.since, falls),
        };
        let is_failing = is_canary && self.failing.is_some();
        RememberedVerdict::of(verdict, since, is_failing, falls)
    }

    /// Where it fell since then, it is again what it was before, which is given.
    pub(super) fn absolve(&mut self, since: Instant) -> Option<Verdict> {
        let fall = self.fall.take_if(|fall| fall.when >= since)?;
        self.judge.absolve(fall.before);
        self.since = fall.since;
        Some(fall.before)
    }

    /// Takes an attempt into account. Gives the verdict if that changed it, and what speaks for it.
    pub(super) fn register(
        &mut self,
        subject: &Subject,
        attempt: &Attempt,
        took: Duration,
        remarks: Remarks,
        at: Moment,
    ) -> Option<(Verdict, String)> {
        self.note(subject, attempt, took, remarks, at);
        let before = self.judge.verdict();
        let changed = self.judge.register(attempt);
        self.tried.send_replace(true);
        let verdict = changed?;
        let since = std::mem::replace(&mut self.since, at.wall);
        self.fall = (verdict == Verdict::Down).then_some(Fall { when: at.now, before, since });
        Some((verdict, self.evidence(attempt, at.now)))
    }

    /// Notes what an attempt said. Trouble of our own is told when it begins and when it ends: it takes no
    /// site away, so nobody would notice.
    fn note(&mut self, subject: &Subject, attempt: &Attempt, took: Duration, remarks: Remarks, at: Moment) {
        self.certificate = remarks.certificate;
        self.last = match attempt {
            Attempt::Success => remarks.words.unwrap_or_else(|| "good".to_owned()),
            Attempt::Failure(text) | Attempt::LocalTrouble(text) => text.clone(),
        };
        self.failing = match attempt {
            Attempt::Success => None,
            _ => self.failing.or(Some(at.now)),
        };
        let how = discriminant(attempt);
        self.ending = self.ending.filter(|(earlier, _)| *earlier == how).or(Some((how, at.now)));
        if self.failing.is_some() {
            self.last_error = Some((at.wall, self.last.clone()));
        }
        let is_trouble = matches!(attempt, Attempt::LocalTrouble(_));
        self.took = (!is_trouble).then_some(took);
        match (self.in_trouble, is_trouble) {
            (false, true) => warn!("{subject}: cannot be checked from here ({})", self.last),
            (true, false) => info!("{subject}: can be checked from here again"),
            _ => {}
        }
        self.in_trouble = is_trouble;
    }

    /// What the last attempt said, and for how long attempts have ended as it did, if it was not the first.
    fn evidence(&self, last: &Attempt, now: Instant) -> String {
        let how = match last {
            Attempt::Success => "good",
            Attempt::Failure(_) => "failing",
            Attempt::LocalTrouble(_) => "not possible",
        };
        match self.ending.map_or(Duration::ZERO, |(_, since)| now.duration_since(since)) {
            Duration::ZERO => self.last.clone(),
            long if self.last == how => format!("{how} for {:.1} s", long.as_secs_f64()),
            long => format!("{}, {how} for {:.1} s", self.last, long.as_secs_f64()),
        }
    }
}

impl Subject {
    /// What it is known by in the memory: as people know it, and what else decides, for checks that look alike may not be.
    pub(super) fn key(&self) -> String {
        let digest = Digest::of(format!("{:?}", self.check).as_bytes()).to_string();
        format!("{self} {}", &digest[..16])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{CheckKind, HttpCheck};

    fn http(status: (u16, u16), body: Option<&str>) -> Subject {
        let kind = CheckKind::Http(HttpCheck {
            path: "/".to_owned(),
            host: None,
            status: vec![status],
            body: body.map(str::to_owned),
            load: None,
        });
        let check = Check {
            kind,
            port: Some(80),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
            jitter: 0,
        };
        Subject { address: IpAddr::from([192, 0, 2, 1]), check }
    }

    #[test]
    fn checks_that_look_alike_have_keys_of_their_own() {
        let (one, status, body) =
            (http((200, 399), None), http((200, 200), None), http((200, 399), Some("ok")));
        assert_eq!(one.to_string(), status.to_string());
        assert_eq!(one.key(), http((200, 399), None).key());
        assert_ne!(one.key(), status.key());
        assert_ne!(one.key(), body.key());
    }

    /// One that is up since a moment, and that moment.
    fn up() -> (Checked, Moment) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = runtime.spawn(async {}).abort_handle();
        let at = Moment::read();
        let mut checked = Checked::new(&http((200, 200), None), task, None, at);
        hear(&mut checked, &Attempt::Success, at);
        (checked, at)
    }

    fn hear(checked: &mut Checked, attempt: &Attempt, at: Moment) -> Option<Verdict> {
        let took = Duration::from_millis(1);
        let changed = checked.register(&http((200, 200), None), attempt, took, Remarks::default(), at);
        changed.map(|(verdict, _)| verdict)
    }

    fn after(at: Moment, milliseconds: u64) -> Moment {
        let time = Duration::from_millis(milliseconds);
        Moment { wall: at.wall + time, now: at.now + time }
    }

    #[test]
    fn what_another_process_knows_is_taken_where_it_is_newer_by_a_millisecond_and_something_else() {
        let (mut checked, at) = up();
        let known = |verdict, since: Moment| RememberedVerdict::of(verdict, since.wall, false, 1).unwrap();
        assert!(!checked.learn(known(Verdict::Down, at), after(at, 500)));
        assert!(!checked.learn(known(Verdict::Up, after(at, 2)), after(at, 500)));
        assert!(checked.learn(known(Verdict::Down, after(at, 2)), after(at, 500)));
        assert_eq!(checked.judge.verdict(), Verdict::Down);
        // What it had heard itself before counts no more.
        assert_eq!(hear(&mut checked, &Attempt::Success, after(at, 600)), None);
        assert_eq!(hear(&mut checked, &Attempt::Success, after(at, 700)), Some(Verdict::Up));
    }

    #[test]
    fn meaning_9_what_fell_in_another_process_is_as_before_when_that_was_for_want_of_a_link() {
        let (mut checked, at) = up();
        let known = RememberedVerdict::of(Verdict::Down, after(at, 1000).wall, false, 1).unwrap();
        assert!(checked.learn(known, after(at, 5000)));
        assert_eq!(checked.absolve(at.now + Duration::from_millis(1500)), None);
        assert_eq!(checked.absolve(at.now + Duration::from_millis(500)), Some(Verdict::Up));
        assert_eq!((checked.judge.verdict(), checked.since), (Verdict::Up, at.wall));
    }

    #[test]
    fn how_often_it_fell_outlives_a_restart_and_what_fell_for_want_of_a_link_is_none_of_it() {
        let refused = Attempt::Failure("refused".to_owned());
        let (mut checked, at) = up();
        let mut now = at;
        let mut fall_and_rise = |checked: &mut Checked, successes: usize| {
            (0..2).for_each(|_| {
                now = after(now, 1000);
                hear(checked, &refused, now);
            });
            let fallen = now;
            let heard: Vec<_> = (0..successes).map(|_| hear(checked, &Attempt::Success, now)).collect();
            (fallen, heard.iter().flatten().count())
        };
        assert_eq!(fall_and_rise(&mut checked, 2).1, 1);
        assert_eq!(fall_and_rise(&mut checked, 4).1, 1);
        let (fallen, _) = fall_and_rise(&mut checked, 0);
        let restart = |remembered: Option<RememberedVerdict>| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let task = runtime.spawn(async {}).abort_handle();
            Checked::new(&http((200, 200), None), task, remembered, fallen)
        };
        let mut next = restart(checked.remember(false, None));
        let heard: Vec<_> = (0..6).map(|_| hear(&mut next, &Attempt::Success, fallen)).collect();
        assert_eq!(heard, [None, None, None, None, None, Some(Verdict::Up)]);
        let next = restart(checked.remember(false, Some(fallen.now)));
        assert_eq!((next.judge.verdict(), next.judge.falls()), (Verdict::Up, 2));
    }
}
