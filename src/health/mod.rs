//! Whether sites work: attempts -> verdicts -> published.
//!
//! `probe` makes attempts, `judge` turns their results into verdicts, `board` publishes them to the query
//! path, which reads it without a lock and never waits for any of this.
//!
//! Each (address, check) that any service asks for is one task, however many ask for it. Verdicts outlive
//! snapshots: a board for a new snapshot starts with all that is known, and each later verdict goes to
//! every board that is still read.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use crate::site::Check;

pub mod board;
pub mod judge;
pub mod probe;

use board::{Board, Layout, Target, Verdict};
use judge::{Attempt, Judge};
use probe::Probe;

/// At the start, attempts are spread over this long; later each goes its own way.
const SPREAD: Duration = Duration::from_millis(100);

/// Runs the checks, and knows every verdict.
#[derive(Debug)]
pub struct Health {
    runtime: Handle,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    subjects: HashMap<Subject, Checked>,
    boards: Vec<Weak<Board>>,
}

/// What one task tries.
type Subject = (IpAddr, Check);

#[derive(Debug)]
struct Checked {
    judge: Judge,
    task: AbortHandle,
    /// Whether an attempt has ended yet.
    tried: watch::Sender<bool>,
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
}

impl Health {
    /// Checks will run on this runtime.
    #[must_use]
    pub fn new(runtime: Handle) -> Health {
        Health { runtime, known: Arc::default() }
    }

    /// A board for a snapshot, filled with what is known. Starts the checks that it needs, and ends those that it does
    /// not.
    #[must_use]
    pub fn adopt(&self, layout: Layout) -> Arc<Board> {
        let board = Arc::new(Board::new(layout));
        let mut known = lock(&self.known);
        let subjects: HashSet<Subject> = board.layout().targets.iter().flat_map(subjects_of).collect();
        known.subjects.retain(|subject, checked| {
            let stays = subjects.contains(subject);
            if !stays {
                checked.task.abort();
            }
            stays
        });
        for subject in subjects {
            if !known.subjects.contains_key(&subject) {
                let checked = self.start(subject.clone());
                known.subjects.insert(subject, checked);
            }
        }
        known.boards.retain(|board| board.strong_count() > 0);
        known.boards.push(Arc::downgrade(&board));
        known.publish_on(&board);
        board
    }

    /// Until every check has had its say, or twice the longest time-out is over (meaning 7).
    pub async fn first_round(&self) {
        let (waiting, longest): (Vec<_>, Duration) = {
            let known = lock(&self.known);
            let waiting = known.subjects.values().map(|checked| checked.tried.subscribe()).collect();
            let longest = known.subjects.keys().map(|(_, check)| check.timeout).max();
            (waiting, longest.unwrap_or_default())
        };
        let all = async {
            for mut tried in waiting {
                let _ = tried.wait_for(|tried| *tried).await;
            }
        };
        if timeout(longest * 2 + SPREAD, all).await.is_err() {
            info!("some checks have not answered yet; what is not known counts as up");
        }
    }

    /// Everything that is checked, by address.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let known = lock(&self.known);
        let mut list: Vec<Status> = known
            .subjects
            .iter()
            .map(|((address, check), checked)| Status {
                address: *address,
                check: check.clone(),
                verdict: checked.judge.verdict(),
                since: checked.since,
                last: checked.last.clone(),
            })
            .collect();
        list.sort_by_key(|status| (status.address, status.check.port));
        list
    }

    fn start(&self, subject: Subject) -> Checked {
        let judge = Judge::new(subject.1.fall, subject.1.rise);
        let known = Arc::downgrade(&self.known);
        let task = self.runtime.spawn(check_for_ever(subject, known)).abort_handle();
        Checked {
            judge,
            task,
            tried: watch::Sender::new(false),
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
    fn register(&mut self, subject: &Subject, attempt: &Attempt) {
        let Some(checked) = self.subjects.get_mut(subject) else { return };
        checked.last = match attempt {
            Attempt::Success => "good".to_owned(),
            Attempt::Failure(text) | Attempt::LocalTrouble(text) => text.clone(),
        };
        let changed = checked.judge.register(attempt);
        if let Some(verdict) = changed {
            checked.since = SystemTime::now();
            let (address, check) = subject;
            info!("{address} port {}: {verdict} ({})", check.port, checked.last);
        }
        checked.tried.send_replace(true);
        if changed.is_some() {
            self.boards.retain(|board| board.strong_count() > 0);
            for board in self.boards.iter().filter_map(Weak::upgrade) {
                self.publish_on(&board);
            }
        }
    }

    fn publish_on(&self, board: &Board) {
        for (slot, target) in board.layout().targets.iter().enumerate() {
            board.set_verdict(slot as u32, self.verdict_on(target));
        }
    }

    /// An address must pass all of its checks.
    fn verdict_on(&self, target: &Target) -> Verdict {
        let verdicts =
            subjects_of(target).map(|subject| self.subjects.get(&subject).map(|checked| checked.judge.verdict()));
        let mut all = Verdict::Up;
        for verdict in verdicts {
            match verdict {
                Some(Verdict::Down) => return Verdict::Down,
                Some(Verdict::Up) => {}
                _ => all = Verdict::Unknown,
            }
        }
        all
    }
}

fn subjects_of(target: &Target) -> impl Iterator<Item = Subject> {
    target.checks.iter().map(|check| (target.address, check.clone()))
}

/// Ends when the health side is gone, or when aborted.
async fn check_for_ever(subject: Subject, known: Weak<Mutex<Known>>) {
    let (address, check) = subject.clone();
    let probe = Probe::new(&check);
    let mut jitter = Jitter::new(&subject);
    let mut next = Instant::now() + SPREAD.min(check.every).mul_f64(jitter.next());
    loop {
        sleep_until(next).await;
        let started = Instant::now();
        let attempt = probe.attempt(address).await;
        debug!("{address} port {}: {attempt:?}", check.port);
        let Some(known) = known.upgrade() else { return };
        lock(&known).register(&subject, &attempt);
        drop(known);
        // A little early rather than late, so that checks drift apart and the promised time holds.
        next = started + check.every.mul_f64(1.0 - 0.1 * jitter.next());
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

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
