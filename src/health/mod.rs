//! Whether sites work: attempts -> verdicts -> published.
//!
//! `probe` makes attempts, `judge` turns their results into verdicts; `publish` knows whom these concern; `service` puts them together
//! with what operators said (`overrides`) and what guards hold (`guard`), and writes a `board`, which the query path reads without a
//! lock: it never waits for any of this. `events` tells what happened; `memory` keeps what has come of all that over a restart.
//!
//! Each (address, check) that any service asks for is one task, however many ask for it: asleep on the one wheel of timers of the runtime,
//! which is the schedule of all, and woken with those that are due in the same tick; `turns` has the ticks, and bounds how many
//! of them make an attempt at a time. Verdicts outlive snapshots. A snapshot changes in three steps, so that no
//! board ever forgets what it knew while it is served:
//!
//! ```text
//!   adopt(layout)   a board that starts with all that is known; checks that are new begin
//!   (swap)          both boards are read for a moment, and each verdict goes to both
//!   retire()        checks that only the old board needed end; the old board stays as it is
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::site::Check;

pub mod board;
mod checked;
pub mod events;
pub mod guard;
pub mod judge;
mod known;
mod memory;
mod moment;
pub mod overrides;
pub mod probe;
mod publish;
mod service;
mod shed;
#[cfg(test)]
mod simulation;
pub mod spill;
pub mod tries;
mod turns;

pub use publish::{Held, Loaded};

use board::{Board, Layout, Verdict};
use checked::{Checked, Subject, subjects_of};
use events::{Event, Kind};
use known::Known;
use memory::RememberedVerdict;
use moment::Moment;
use overrides::{Order, Override, Refusal};
use probe::Probe;
use publish::Published;
use tries::Tries;
use turns::Turns;

/// At the start, attempts are spread over this long; later each goes its own way.
const SPREAD: Duration = Duration::from_millis(100);

/// How often is looked whether time has changed something: overrides that expire, shares that move; and whether there is something
/// to write down.
const TICK: Duration = Duration::from_secs(1);

/// Runs the checks, and knows every verdict.
#[derive(Debug)]
pub struct Health {
    runtime: Handle,
    known: Arc<Mutex<Known>>,
    turns: Arc<Turns>,
    ticking: AbortHandle,
}

/// An address beside all sites that says whether this server reaches anything.
pub type Canary = (IpAddr, Check);

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
    /// How long it took; none where it could not be made.
    pub took: Option<Duration>,
    /// What the last one said that was not good, and when.
    pub last_error: Option<(SystemTime, String)>,
    /// When the certificate ends that was shown last, over TLS.
    pub certificate_expires: Option<SystemTime>,
}

impl Health {
    /// Checks will run on this runtime. What operators said and what is known is kept in a folder, if there is one.
    #[must_use]
    pub fn new(runtime: Handle, folder: Option<&Path>) -> Health {
        Health::of(runtime, Known::recall(folder, Moment::read()))
    }

    /// The same, beside another process that still is the server. What that one writes is read, again with the first board, with
    /// [`hear_of_orders`](Health::hear_of_orders), and once more when it has let go; nothing is written until then, which is [`take_state_over`](Health::take_state_over).
    #[must_use]
    pub fn beside(runtime: Handle, folder: &Path) -> Health {
        Health::beside_at(runtime, folder, Moment::read())
    }

    fn beside_at(runtime: Handle, folder: &Path, at: Moment) -> Health {
        Health::of(runtime, Known::recall_anothers(folder, at))
    }

    fn of(runtime: Handle, known: Known) -> Health {
        let known = Arc::new(Mutex::new(known));
        let ticking = runtime.spawn(tick(Arc::downgrade(&known))).abort_handle();
        Health { runtime, known, turns: Arc::new(Turns::new()), ticking }
    }

    /// Watches these, too; they tell whether a fault is here.
    pub fn watch_canaries(&self, canaries: Vec<Canary>) {
        self.watch_canaries_at(canaries, Moment::read());
    }

    fn watch_canaries_at(&self, canaries: Vec<Canary>, at: Moment) {
        let mut known = lock(&self.known);
        for (address, check) in canaries {
            let canary = self.subject(&mut known, Subject { address, check }, at);
            known.canaries.push(canary);
        }
        known.look_at_canaries(at);
    }

    /// A board for a snapshot, filled with what is known. Starts the checks that it needs and ends none: the
    /// board that is still served may need them. Call [`retire`](Health::retire) when this one is.
    #[must_use]
    pub fn adopt(&self, layout: Layout) -> Arc<Board> {
        self.adopt_at(layout, Moment::read)
    }

    fn adopt_at(&self, layout: Layout, moment: impl FnOnce() -> Moment) -> Arc<Board> {
        let board = Arc::new(Board::new(layout));
        let mut known = lock(&self.known);
        // Not before: what others have published meanwhile would be of later.
        let at = moment();
        if known.overrides.is_anothers() {
            known.recall_again(at);
        }
        let mut slots: HashMap<Arc<Subject>, Vec<u32>> = HashMap::new();
        for (slot, target) in board.layout().targets.iter().enumerate() {
            for subject in subjects_of(target) {
                let subject = self.subject(&mut known, subject, at);
                slots.entry(subject).or_default().push(slot as u32);
            }
        }
        known.boards.retain(Published::is_held);
        let mut published = Published::new(&board, slots, known.boards.last());
        published.resume(false, |site| known.memory.take_site(site, at.now));
        for (slot, target) in board.layout().targets.iter().enumerate() {
            published.note(slot as u32, known.verdict_on(target), known.is_doubted(target));
        }
        known.boards.push(published);
        // Some of what stood may have ended while no server ran.
        known.expire(at);
        known.publish(at, |published, around| {
            if published.is_of(&board) {
                published.publish(None, around);
            }
        });
        board
    }

    /// Does what an operator asks. Gives what it comes to, a line for each site.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn follow(&self, order: &Order) -> Result<Vec<String>, Refusal> {
        lock(&self.known).follow(order, Moment::read())
    }

    /// Why a restart would not know what operators said, after one more try to write it; none where it would.
    #[must_use]
    pub fn orders_that_a_restart_would_not_know(&self) -> Option<String> {
        let mut known = lock(&self.known);
        known.overrides.write_what_is_unwritten();
        known.overrides.unwritten().map(str::to_owned)
    }

    /// Somebody else is the server from now on: what is known is written down, and nothing is ever after.
    pub fn give_state_away(&self) {
        self.give_state_away_at(Moment::read());
    }

    fn give_state_away_at(&self, at: Moment) {
        let write = {
            let mut known = lock(&self.known);
            let write = known.remember(at);
            known.overrides.write_what_is_unwritten();
            if let Some(why) = known.overrides.unwritten() {
                warn!("{why}; the new server does not know what was drained and forced lately");
            }
            known.overrides.set_anothers(true);
            write
        };
        // After this one nothing is under way any more that could come after what the other one writes.
        if let Some(Err(error)) = write.map(|write| write()) {
            warn!("{error}; the new server goes on from what was written before");
        }
    }

    /// Beside another process, which operators speak to: what they have said by now stands here, too. To be called when this one is about to
    /// answer.
    pub fn hear_of_orders(&self) {
        let at = Moment::read();
        let mut known = lock(&self.known);
        if known.overrides.is_anothers() {
            known.overrides.read_again();
            known.expire(at);
            known.is_moving |= known.overrides.is_moving(at.milliseconds());
            known.publish(at, |published, around| published.publish(None, around));
        }
    }

    /// From now on it is this one's. What is there is read once more: it was another process that operators spoke to, and that was the server
    /// while this one had its first round of checks.
    pub fn take_state_over(&self) {
        self.take_state_over_at(Moment::read());
    }

    fn take_state_over_at(&self, at: Moment) {
        let mut known = lock(&self.known);
        known.overrides.set_anothers(false);
        known.catch_up(at);
        known.memory.is_outdated = true;
        known.expire(at);
        known.is_moving |= known.overrides.is_moving(at.milliseconds());
        known.publish(at, |published, around| published.publish(None, around));
    }

    /// What operators said, and what still stands of it; windows of maintenance that are open are among it.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        let known = lock(&self.known);
        let windows = known
            .boards
            .last()
            .map(|newest| newest.open_windows(Moment::read().milliseconds()))
            .unwrap_or_default();
        known.overrides.list().iter().cloned().chain(windows).collect()
    }

    /// Sites that are down and given out all the same.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        lock(&self.known).boards.last().map(Published::held).unwrap_or_default()
    }

    /// Sites that told their load lately.
    #[must_use]
    pub fn loads(&self) -> Vec<Loaded> {
        lock(&self.known).boards.last().map(Published::loads).unwrap_or_default()
    }

    /// Whether all canaries fail; none where there are none.
    #[must_use]
    pub fn is_isolated(&self) -> Option<bool> {
        let known = lock(&self.known);
        (!known.canaries.is_empty()).then_some(known.isolated.is_some())
    }

    /// What happened last, and how much did of each kind.
    #[must_use]
    pub fn last_events(&self, most: usize) -> (Vec<Event>, [u64; Kind::ALL.len()]) {
        let known = lock(&self.known);
        (known.events.last(most).cloned().collect(), known.events.counts())
    }

    /// What happens from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        lock(&self.known).events.watch()
    }

    /// Puts something that happened elsewhere among the events.
    pub fn note(&self, kind: Kind, text: String) {
        lock(&self.known).events.note(kind, text);
    }

    /// The same, of what an operator should look at.
    pub fn warn(&self, kind: Kind, text: String) {
        lock(&self.known).events.warn(kind, text);
    }

    /// Ends the checks that the newest board does not need, and publishes on no other from here on: what is
    /// read of an older one by then is a query under way. To be called after the newest board was swapped in;
    /// boards that were adopted and let go of do not count.
    pub fn retire(&self) {
        let mut known = lock(&self.known);
        known.boards.retain(Published::is_held);
        let older = known.boards.len().saturating_sub(1);
        known.boards.drain(..older);
        let Known { subjects, boards, canaries, .. } = &mut *known;
        subjects.retain(|subject, checked| {
            let stays =
                canaries.contains(subject) || boards.iter().any(|newest| newest.slots.contains_key(subject));
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
                took: checked.took,
                last_error: checked.last_error.clone(),
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

    /// The one that is checked already, or a new one whose check begins.
    fn subject(&self, known: &mut Known, subject: Subject, at: Moment) -> Arc<Subject> {
        if let Some((known, _)) = known.subjects.get_key_value(&subject) {
            return Arc::clone(known);
        }
        let subject = Arc::new(subject);
        let remembered = known.memory.take(&subject.key(), at.now);
        known.subjects.insert(Arc::clone(&subject), self.start(&subject, remembered, at));
        subject
    }

    fn start(&self, subject: &Arc<Subject>, remembered: Option<RememberedVerdict>, at: Moment) -> Checked {
        let (known, turns) = (Arc::downgrade(&self.known), Arc::clone(&self.turns));
        let task = self.runtime.spawn(check_for_ever(Arc::clone(subject), known, turns)).abort_handle();
        Checked::new(subject, task, remembered, at)
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.ticking.abort();
        let mut known = lock(&self.known);
        for checked in known.subjects.values() {
            checked.task.abort();
        }
        known.overrides.write_what_is_unwritten();
        if let Some(write) = known.remember(Moment::read()) {
            let result = write();
            known.memory.wrote(result);
        }
    }
}

/// Ends when the health side is gone, or when aborted.
async fn tick(known: Weak<Mutex<Known>>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(known) = known.upgrade() else { return };
        let write = lock(&known).tick(Moment::read());
        // Neither under the lock nor here: a disk may take its time, and checks must not. (What an operator says is written under the
        // lock before it is done: that is rare, and must not be lost; what could not be is tried again as the disk lets it.)
        if let Some(write) = write {
            let result = spawn_blocking(write).await.unwrap_or_else(|error| Err(error.to_string()));
            lock(&known).memory.wrote(result);
        }
    }
}

/// Ends when the health side is gone, or when aborted.
async fn check_for_ever(subject: Arc<Subject>, known: Weak<Mutex<Known>>, turns: Arc<Turns>) {
    let Subject { address, check } = &*subject;
    let probe = Probe::new(check);
    let mut jitter = Jitter::new(&subject);
    // The first attempts come together, for somebody waits for them; the second of each goes its own way, and so all that follow.
    let mut earlier = 0.9;
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
        lock(&known).register(&subject, &attempt, took, probe.remarks(), Moment::read());
        drop(known);
        // A little early rather than late, so that checks drift apart and the promised time holds.
        next = started + check.every.mul_f64(1.0 - earlier * jitter.next());
        next = turns.tick_before(next, check.every);
        earlier = f64::from(check.jitter) / 100.0;
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
