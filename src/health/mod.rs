//! Whether sites work: attempts -> verdicts -> published.
//!
//! `probe` makes attempts, `judge` turns their results into verdicts, `board` publishes them to the query
//! path, which reads it without a lock and never waits for any of this.
//!
//! Each (address, check) that any service asks for is one task, however many ask for it. Verdicts outlive
//! snapshots. A snapshot changes in three steps, so that no board ever forgets what it knew while it is
//! served:
//!
//! ```text
//!   adopt(layout)   a board that starts with all that is known; checks that are new begin
//!   (swap)          both boards are read for a moment, and each verdict goes to both
//!   retire()        checks that only the old board needed end; the old board stays as it is
//! ```

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::site::Check;

pub mod board;
pub mod judge;
pub mod probe;
pub mod tries;
mod turns;

use board::{Board, Layout, Target, Verdict};
use judge::{Attempt, Judge};
use probe::{Certificate, Probe, Remarks};
use tries::Tries;
use turns::Turns;

/// At the start, attempts are spread over this long; later each goes its own way.
const SPREAD: Duration = Duration::from_millis(100);

/// Runs the checks, and knows every verdict.
#[derive(Debug)]
pub struct Health {
    runtime: Handle,
    known: Arc<Mutex<Known>>,
    turns: Arc<Turns>,
}

#[derive(Debug, Default)]
struct Known {
    subjects: HashMap<Arc<Subject>, Checked>,
    /// The newest last.
    boards: Vec<Published>,
    tries: Tries,
}

/// What one task tries.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    address: IpAddr,
    check: Check,
}

/// A board that verdicts go to, for as long as somebody holds it.
#[derive(Debug)]
struct Published {
    board: Weak<Board>,
    /// Which slots a subject has a say in. Without it, a site of many addresses that fails would cost as many
    /// walks over the whole board.
    slots: HashMap<Arc<Subject>, Vec<u32>>,
}

#[derive(Debug)]
struct Checked {
    judge: Judge,
    task: AbortHandle,
    /// Whether an attempt has ended yet.
    tried: watch::Sender<bool>,
    /// Whether the last attempt could not be made.
    in_trouble: bool,
    /// What the server showed last, over TLS; and the one whose end was told of.
    certificate: Option<Certificate>,
    told: Option<Certificate>,
    /// What the last attempt said, and since when the verdict stands.
    last: String,
    since: SystemTime,
}

/// What is known of an (address, check), for people.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whom.
    pub address: IpAddr,
    /// What.
    pub check: Check,
    /// The verdict.
    pub verdict: Verdict,
    /// Since when.
    pub since: SystemTime,
    /// What the last attempt said.
    pub last: String,
    /// When the certificate ends that was shown last, over TLS.
    pub certificate_expires: Option<SystemTime>,
}

impl Health {
    /// Checks will run on this runtime.
    #[must_use]
    pub fn new(runtime: Handle) -> Health {
        Health { runtime, known: Arc::default(), turns: Arc::new(Turns::new()) }
    }

    /// A board for a snapshot, filled with what is known. Starts the checks that it needs and ends none: the
    /// board that is still served may need them. Call [`retire`](Health::retire) when this one is.
    #[must_use]
    pub fn adopt(&self, layout: Layout) -> Arc<Board> {
        let board = Arc::new(Board::new(layout));
        let mut known = lock(&self.known);
        let mut slots: HashMap<Arc<Subject>, Vec<u32>> = HashMap::new();
        for (slot, target) in board.layout().targets.iter().enumerate() {
            for subject in subjects_of(target) {
                let subject = match known.subjects.get_key_value(&subject) {
                    Some((subject, _)) => Arc::clone(subject),
                    None => {
                        let subject = Arc::new(subject);
                        known.subjects.insert(Arc::clone(&subject), self.start(&subject));
                        subject
                    }
                };
                slots.entry(subject).or_default().push(slot as u32);
            }
        }
        for slot in 0..board.layout().targets.len() {
            known.publish_on(&board, slot as u32);
        }
        known.boards.retain(Published::is_held);
        known.boards.push(Published { board: Arc::downgrade(&board), slots });
        board
    }

    /// Ends the checks that the newest board does not need, and publishes on no other from here on: what is
    /// read of an older one by then is a query under way. To be called after the newest board was swapped in;
    /// boards that were adopted and let go of do not count.
    pub fn retire(&self) {
        let mut known = lock(&self.known);
        known.boards.retain(Published::is_held);
        let older = known.boards.len().saturating_sub(1);
        known.boards.drain(..older);
        let Known { subjects, boards, .. } = &mut *known;
        subjects.retain(|subject, checked| {
            let stays = boards.iter().any(|newest| newest.slots.contains_key(subject));
            if !stays {
                checked.task.abort();
            }
            stays
        });
    }

    /// Until every check has had its say, or twice the longest time-out of those that have not is over
    /// (meaning 7). An attempt is over with its own time-out, so this ends sooner unless the machine is
    /// overwhelmed.
    pub fn first_round(&self) -> impl Future<Output = ()> + Send + use<> {
        let (waiting, longest): (Vec<_>, Duration) = {
            let known = lock(&self.known);
            let untried = || known.subjects.iter().filter(|(_, checked)| !*checked.tried.borrow());
            let waiting = untried().map(|(_, checked)| checked.tried.subscribe()).collect();
            let longest = untried().map(|(subject, _)| subject.check.timeout).max();
            (waiting, longest.unwrap_or_default())
        };
        async move {
            let all = async {
                for mut tried in waiting {
                    let _ = tried.wait_for(|tried| *tried).await;
                }
            };
            if timeout(longest * 2 + SPREAD, all).await.is_err() {
                info!("some checks have not answered yet; what is not known counts as up");
            }
        }
    }

    /// Everything that is checked, by address.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let known = lock(&self.known);
        let mut list: Vec<Status> = known
            .subjects
            .iter()
            .map(|(subject, checked)| Status {
                address: subject.address,
                check: subject.check.clone(),
                verdict: checked.judge.verdict(),
                since: checked.since,
                last: checked.last.clone(),
                certificate_expires: checked.certificate.map(|certificate| certificate.expires),
            })
            .collect();
        list.sort_by_key(|status| (status.address, status.check.port));
        list
    }

    /// What became of all attempts since the start.
    #[must_use]
    pub fn tries(&self) -> Tries {
        lock(&self.known).tries
    }

    fn start(&self, subject: &Arc<Subject>) -> Checked {
        let judge = Judge::new(subject.check.fall, subject.check.rise);
        let (known, turns) = (Arc::downgrade(&self.known), Arc::clone(&self.turns));
        let task = self.runtime.spawn(check_for_ever(Arc::clone(subject), known, turns)).abort_handle();
        Checked {
            judge,
            task,
            tried: watch::Sender::new(false),
            in_trouble: false,
            certificate: None,
            told: None,
            last: "not tried yet".to_owned(),
            since: SystemTime::now(),
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        for checked in lock(&self.known).subjects.values() {
            checked.task.abort();
        }
    }
}

impl Known {
    fn register(&mut self, subject: &Subject, attempt: &Attempt, took: Duration, remarks: Remarks) {
        self.tries.register(&subject.check.kind, attempt, took);
        self.tell_of_certificate(subject, remarks.certificate);
        let Some(checked) = self.subjects.get_mut(subject) else { return };
        checked.register(subject, attempt, remarks);
        let changed = checked.judge.register(attempt);
        checked.tried.send_replace(true);
        let Some(verdict) = changed else { return };
        checked.since = SystemTime::now();
        let last = &checked.last;
        match verdict {
            Verdict::Up => info!("{subject}: {verdict} ({last})"),
            _ => warn!("{subject}: {verdict} ({last})"),
        }
        self.boards.retain(Published::is_held);
        for published in &self.boards {
            let Some(board) = published.board.upgrade() else { continue };
            for slot in published.slots.get(subject).into_iter().flatten() {
                self.publish_on(&board, *slot);
            }
        }
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

    /// Writes a slot's verdict, unless one of its checks is not made any more: what was known last stands.
    fn publish_on(&self, board: &Board, slot: u32) {
        let target = board.layout().targets.get(slot as usize);
        if let Some(verdict) = target.and_then(|target| self.verdict_on(target)) {
            board.set_verdict(slot, verdict);
        }
    }

    /// None where it cannot be told, for want of checks that are not made any more.
    fn verdict_on(&self, target: &Target) -> Option<Verdict> {
        let verdict_of = |subject| self.subjects.get(&subject).map(|checked| checked.judge.verdict());
        judge::combine(subjects_of(target).map(verdict_of), target.need)
    }
}

impl Checked {
    /// Notes what an attempt said. Trouble of our own is told when it begins and when it ends: it takes no
    /// site away, so nobody would notice.
    fn register(&mut self, subject: &Subject, attempt: &Attempt, remarks: Remarks) {
        self.certificate = remarks.certificate;
        self.last = match attempt {
            Attempt::Success => remarks.words.unwrap_or_else(|| "good".to_owned()),
            Attempt::Failure(text) | Attempt::LocalTrouble(text) => text.clone(),
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

impl Published {
    fn is_held(&self) -> bool {
        self.board.strong_count() > 0
    }
}

impl fmt::Display for Subject {
    /// `192.0.2.1 port 80, http www.example.com/healthz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before_kind = if self.check.port.is_some() { " " } else { ", " };
        write!(f, "{}{before_kind}{}", self.address, self.check)
    }
}

fn subjects_of(target: &Target) -> impl Iterator<Item = Subject> {
    target.checks.iter().map(|check| Subject { address: target.address, check: check.clone() })
}

/// Ends when the health side is gone, or when aborted.
async fn check_for_ever(subject: Arc<Subject>, known: Weak<Mutex<Known>>, turns: Arc<Turns>) {
    let Subject { address, check } = &*subject;
    let probe = Probe::new(check);
    let mut jitter = Jitter::new(&subject);
    let mut next = Instant::now() + SPREAD.min(check.every).mul_f64(jitter.next());
    loop {
        sleep_until(next).await;
        let Some(turn) = turns.take(check).await else { return };
        let started = Instant::now();
        // In a box, so that thousands of checks that wait for the next time do not each keep room for an attempt.
        let attempt = Box::pin(probe.attempt(*address)).await;
        let took = started.elapsed();
        drop(turn);
        debug!("{subject}: {attempt:?}");
        let Some(known) = known.upgrade() else { return };
        lock(&known).register(&subject, &attempt, took, probe.remarks());
        drop(known);
        // A little early rather than late, so that checks drift apart and the promised time holds.
        next = started + check.every.mul_f64(1.0 - f64::from(check.jitter) / 100.0 * jitter.next());
    }
}

/// Numbers from 0 to 1 that need not be random, only different for each check.
struct Jitter(u64);

impl Jitter {
    fn new(subject: &Subject) -> Jitter {
        use std::hash::BuildHasher;
        Jitter(foldhash::fast::FixedState::default().hash_one(subject))
    }

    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

/// `13 days`, or of less than two `31 hours`.
fn in_days(time: Duration) -> String {
    match time.as_secs() / 3600 {
        hours @ 0..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
