//! Virtual time: attempts end as the network of a schedule lets them, clocks tick, operators speak, and the health side
//! as it is hears of all that. Nothing waits, nothing is random but the schedule.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proptest::test_runner::TestCaseResult;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use super::schedule::{Cut, End, Fate, Schedule, Step, Word};
use super::words::Words;
use super::world::{MOST_SITES, WORLDS, World};
use crate::health::board::{Board, Share, Verdict};
use crate::health::checked::Subject;
use crate::health::guard::Hold;
use crate::health::judge::Attempt;
use crate::health::known::Known;
use crate::health::moment::Moment;
use crate::health::overrides::{Order, Refusal};
use crate::health::probe::Remarks;
use crate::health::{Health, lock};
use crate::site::Check;

/// By the clock on the wall, in milliseconds since 1970.
const BEGINS: u64 = 1_800_000_000_000;

/// In milliseconds; a time-out may be as long as that.
const FIRST_ROUND: u64 = 4000;

/// So many times `rise` in a row, whoever fell again and again is up.
const CERTAINLY: u32 = 4;

/// A service, and all that happened to it so far.
pub(super) struct Play {
    pub(super) world: &'static World,
    pub(super) health: Health,
    pub(super) board: Arc<Board>,
    /// What the board showed before the last thing happened, and since.
    pub(super) before: Shown,
    pub(super) shown: Shown,
    pub(super) words: Words,
    /// Those of sites, then canaries.
    pub(super) asked: Vec<Asked>,
    /// In milliseconds, by the clock that nobody sets.
    pub(super) now: u64,
    /// How far the one on the wall was set.
    set: i64,
    /// How many events there were.
    told: u64,
    network: Network,
    /// By when it is, and then in the order in which it came to be.
    due: BTreeMap<(u64, u64), Due>,
    numbered: u64,
    start: Instant,
    /// Nobody drives it: no attempt is made but those that are played.
    runtime: Runtime,
    /// What outlives this server.
    state: TempDir,
    /// What it would have written by now.
    unwritten: Option<Write>,
    /// Another that is about to take this one's place, and what it is to answer from once it has read everything.
    successor: Option<(Health, Option<Arc<Board>>)>,
}

type Write = Box<dyn FnOnce() -> Result<(), String>>;

/// An address that is asked something again and again.
pub(super) struct Asked {
    pub(super) subject: Subject,
    /// The slot that it has a say in; none of a canary.
    pub(super) slot: Option<usize>,
    fate: Fate,
    /// Attempts that have begun.
    begun: u64,
    /// Results in this run of the server, in the order of `tries::RESULTS`; and in the next, which has begun already.
    pub(super) results: [u64; 3],
    beside: [u64; 3],
    /// Successes in a row; and failures in a row, none of them while nobody could say whose fault that was.
    pub(super) good: u32,
    pub(super) bad: u32,
    pub(super) has_last_failed: bool,
    /// Results in earlier runs of the server.
    earlier: [u64; 3],
}

/// What a board shows, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) shares: Vec<Share>,
    /// By site.
    pub(super) holds: Vec<Option<Hold>>,
    pub(super) ttl: u32,
    pub(super) prices: Vec<u32>,
}

/// What the health side was told.
pub(super) enum Happened {
    /// How an attempt ended.
    Attempt,
    /// A word, and what it came to.
    Word(Result<Vec<String>, Refusal>),
    Tick,
    Reload,
    Restart,
    /// Nothing: it has to notice.
    Change,
}

enum Due {
    Attempt(usize),
    End(usize, Attempt),
    Tick,
    Adopt,
    TakeOver,
}

#[derive(Default)]
struct Network {
    uplink: bool,
    /// By bits.
    canaries: u8,
    sites: u8,
    sends: bool,
    sends_over_v6: bool,
}

/// Plays a schedule, and looks each time that something has happened.
pub(super) fn play(
    schedule: &Schedule,
    mut look: impl FnMut(&Play, Happened) -> TestCaseResult,
) -> TestCaseResult {
    let mut play = Play::begin(&WORLDS[schedule.world]);
    for (step, seconds) in &schedule.steps {
        let happened = play.take(step);
        play.look();
        look(&play, happened)?;
        let until = play.now + seconds * 1000;
        while let Some(happened) = play.next(until) {
            let is_news = play.look();
            // Most attempts change nothing; if one did, and should not have, the next tick shows it.
            if is_news || !matches!(happened, Happened::Attempt) {
                look(&play, happened)?;
            }
        }
    }
    Ok(())
}

impl Play {
    fn begin(world: &'static World) -> Play {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let state = folder_in_memory();
        // A day from now, so that any time that is told lies within what the clock can say.
        let start = Instant::now() + Duration::from_secs(86_400);
        let at = Moment { wall: UNIX_EPOCH + Duration::from_millis(BEGINS), now: start };
        let (health, board) = begin(world, &runtime, &state, at);
        let targets = world.layout.targets.iter().enumerate();
        let of_sites = targets.flat_map(|(slot, target)| {
            target.checks.iter().map(move |check| Asked::new(target.address, check.clone(), Some(slot)))
        });
        let canaries =
            world.canaries.iter().map(|(address, check)| Asked::new(*address, check.clone(), None));
        let asked: Vec<Asked> = of_sites.chain(canaries).collect();
        let shown = Shown::of(world, &board, &health);
        let mut play = Play {
            world,
            health,
            board,
            before: shown.clone(),
            shown,
            words: Words::none(world.sites()),
            asked,
            now: 0,
            set: 0,
            told: 0,
            network: Network::default(),
            due: BTreeMap::new(),
            numbered: 0,
            start,
            runtime,
            state,
            unwritten: None,
            successor: None,
        };
        play.begin_to_ask();
        play
    }

    fn begin_to_ask(&mut self) {
        for index in 0..self.asked.len() {
            self.plan(7 * index as u64, Due::Attempt(index));
        }
        self.plan(1000, Due::Tick);
    }

    fn restart(&mut self, end: End, away: u64) {
        if matches!(end, End::Stopped) {
            let at = self.moment();
            self.unwritten = lock(&self.health.known).remember(at).map(|write| Box::new(write) as Write);
        }
        self.write();
        // By the clocks of this schedule, which the health side does not have at its end.
        lock(&self.health.known).overrides.set_anothers(true);
        self.successor = None;
        self.now += away;
        self.asked.iter_mut().for_each(|asked| asked.beside = [0; 3]);
        let (health, board) = begin(self.world, &self.runtime, &self.state, self.moment());
        self.go_on_with(health, board);
    }

    /// Another one begins to read; canaries it asks by itself from now on.
    fn begin_to_replace(&mut self, after: u64) {
        if self.successor.is_some() {
            return;
        }
        self.write();
        let at = self.moment();
        let successor = Health::beside_at(self.runtime.handle().clone(), self.state.path(), at);
        successor.watch_canaries_at(self.world.canaries.clone(), at);
        self.successor = Some((successor, None));
        self.plan(after * 1000, Due::Adopt);
    }

    /// It has read everything, and asks sites too; the old one goes on.
    fn adopt_beside(&mut self) {
        self.write();
        let at = self.moment();
        let layout = self.world.layout.clone();
        if let Some((successor, board)) = &mut self.successor {
            *board = Some(successor.adopt_at(layout, || at));
            self.plan(FIRST_ROUND, Due::TakeOver);
        }
    }

    fn replace(&mut self) {
        let Some((successor, Some(board))) = self.successor.take() else { return };
        let at = self.moment();
        self.health.give_state_away_at(at);
        successor.take_state_over_at(at);
        self.go_on_with(successor, board);
    }

    /// What the disk has had time for.
    fn write(&mut self) {
        if let Some(write) = self.unwritten.take() {
            write().expect("a folder that can be written to");
        }
    }

    fn go_on_with(&mut self, health: Health, board: Arc<Board>) {
        (self.health, self.board) = (health, board);
        self.told = 0;
        self.due.clear();
        self.asked.iter_mut().for_each(Asked::forget);
        self.words.tick(self.wall());
        self.begin_to_ask();
    }

    /// By the clock on the wall.
    pub(super) fn wall(&self) -> u64 {
        (BEGINS + self.now).saturating_add_signed(self.set)
    }

    /// Whether a canary says for certain that the fault is not here; with none there is nothing that says that it is.
    pub(super) fn is_trusted(&self) -> bool {
        let mut canaries = self.canaries().peekable();
        let is_well = |canary: &Asked| {
            let enough = CERTAINLY * u32::from(canary.subject.check.rise);
            canary.good >= enough || canary.has_always_succeeded()
        };
        canaries.peek().is_none() || canaries.any(is_well)
    }

    /// Sites about which no operator decides.
    pub(super) fn unset_sites(&self) -> impl Iterator<Item = usize> {
        (0..self.world.sites()).filter(|site| !self.shown.is_set(self.world, *site))
    }

    pub(super) fn canaries(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|asked| asked.slot.is_none())
    }

    /// Those that have a say in a site.
    pub(super) fn of_site(&self, site: usize) -> impl Iterator<Item = &Asked> {
        let slots = self.world.slots(site);
        self.asked.iter().filter(move |asked| asked.slot.is_some_and(|slot| slots.contains(&slot)))
    }

    fn moment(&self) -> Moment {
        let wall = UNIX_EPOCH + Duration::from_millis(self.wall());
        Moment { wall, now: self.start + Duration::from_millis(self.now) }
    }

    fn plan(&mut self, after: u64, due: Due) {
        self.numbered += 1;
        self.due.insert((self.now + after, self.numbered), due);
    }

    /// Whether there is something new to see, or was told.
    fn look(&mut self) -> bool {
        let shown = Shown::of(self.world, &self.board, &self.health);
        self.before = std::mem::replace(&mut self.shown, shown);
        let (_, counts) = self.health.last_events(0);
        let told = std::mem::replace(&mut self.told, counts.iter().sum());
        self.has_changed() || told != self.told
    }

    /// Whether the board shows something else than before.
    pub(super) fn has_changed(&self) -> bool {
        self.before != self.shown
    }

    /// Does what a schedule says.
    fn take(&mut self, step: &Step) -> Happened {
        let world = self.world;
        match step {
            Step::Site(site, fate) => {
                let slots = world.slots(site % world.sites());
                self.set_fate(*fate, |_, asked| asked.slot.is_some_and(|slot| slots.contains(&slot)));
            }
            Step::Address(slot, fate) => {
                let slot = slot % world.layout.targets.len();
                self.set_fate(*fate, |_, asked| asked.slot == Some(slot));
            }
            Step::Check(check, fate) => {
                let check = check % (self.asked.len() - world.canaries.len());
                self.set_fate(*fate, |index, _| index == check);
            }
            Step::Cut(cut, is_so) => match cut {
                Cut::Uplink => self.network.uplink = *is_so,
                Cut::Canaries(canaries) => self.network.canaries = if *is_so { *canaries } else { 0 },
                Cut::Sites(sites) => self.network.sites = if *is_so { *sites } else { 0 },
                Cut::Sends => self.network.sends = *is_so,
                Cut::SendsOverV6 => self.network.sends_over_v6 = *is_so,
            },
            Step::Word(word) => return Happened::Word(self.say(word)),
            Step::SetClock(seconds) => {
                self.set += seconds * 1000;
                self.words.set_clock(seconds * 1000);
            }
            Step::Reload => {
                let board = self.health.adopt_at(world.layout.clone(), || self.moment());
                self.board = board;
                self.health.retire();
                return Happened::Reload;
            }
            Step::Restart(end, away) => {
                self.restart(*end, *away);
                return Happened::Restart;
            }
            Step::Replace(after) => self.begin_to_replace(*after),
        }
        Happened::Change
    }

    fn set_fate(&mut self, fate: Fate, is_meant: impl Fn(usize, &Asked) -> bool) {
        for (index, asked) in self.asked.iter_mut().enumerate() {
            if is_meant(index, asked) {
                asked.fate = fate;
            }
        }
    }

    fn say(&mut self, word: &Word) -> Result<Vec<String>, Refusal> {
        let site = word.site.map(|site| site % self.world.sites());
        let order = Order {
            wish: word.wish.clone(),
            site: site.map_or_else(|| "*".to_owned(), |site| format!("s{site}")),
            service: word.is_of_service.then(|| self.world.service().name.clone()),
            lasts: word.lasts.map(|seconds| seconds * 1000),
            over: word.over * 1000,
            reason: String::new(),
            by: "the schedule".to_owned(),
            anyway: word.anyway,
        };
        let at = self.moment();
        let done = lock(&self.health.known).follow(&order, at)?;
        self.words.say(&Word { site, ..word.clone() }, self.wall());
        Ok(done)
    }

    /// The next thing that the health side is told until then.
    fn next(&mut self, until: u64) -> Option<Happened> {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((now, _), due) = entry.remove_entry();
            self.now = now;
            match due {
                Due::Attempt(index) => self.begin_attempt(index),
                Due::End(index, attempt) => {
                    self.end_attempt(index, &attempt);
                    return Some(Happened::Attempt);
                }
                Due::Tick => {
                    self.plan(1000, Due::Tick);
                    let at = self.moment();
                    if let Some(write) = lock(&self.health.known).tick(at) {
                        self.unwritten = Some(Box::new(write));
                    }
                    if let Some((successor, _)) = &self.successor {
                        let write = lock(&successor.known).tick(at);
                        assert!(write.is_none(), "what is written is another's");
                    }
                    self.words.tick(self.wall());
                    return Some(Happened::Tick);
                }
                Due::Adopt => self.adopt_beside(),
                Due::TakeOver => {
                    self.replace();
                    return Some(Happened::Restart);
                }
            }
        }
        self.now = until;
        None
    }

    fn begin_attempt(&mut self, index: usize) {
        let first_canary = self.asked.len() - self.world.canaries.len();
        let asked = &mut self.asked[index];
        let is_cut = match asked.slot {
            Some(slot) => self.network.sites >> self.world.site_of(slot) & 1 == 1,
            None => self.network.canaries >> (index - first_canary) & 1 == 1,
        };
        let (took, attempt) = self.network.answer(asked, is_cut);
        let Check { every, jitter, .. } = asked.subject.check;
        // Drifting apart, as attempts do.
        let early = (index as u64 * 31 + asked.begun * 17) % 100 * u64::from(jitter) / 100;
        asked.begun += 1;
        let every = every.as_millis() as u64;
        self.plan(took, Due::End(index, attempt));
        self.plan(every - every * early / 100, Due::Attempt(index));
    }

    fn end_attempt(&mut self, index: usize, attempt: &Attempt) {
        let at = self.moment();
        let asked = &mut self.asked[index];
        let took = Duration::from_millis(1);
        lock(&self.health.known).register(&asked.subject, attempt, took, Remarks::default(), at);
        let result = asked.hear(attempt);
        // The other one asks by itself, at the same times for all that this says; of sites once it has read them.
        let asks = |(_, board): &&(Health, Option<Arc<Board>>)| asked.slot.is_none() || board.is_some();
        if let Some((successor, _)) = self.successor.as_ref().filter(asks) {
            lock(&successor.known).register(&asked.subject, attempt, took, Remarks::default(), at);
            asked.beside[result] += 1;
        }
        if !self.is_trusted() {
            self.asked.iter_mut().for_each(|asked| asked.bad = 0);
        }
    }
}

/// A server starts, from what there is of an earlier one.
fn begin(world: &World, runtime: &Runtime, state: &TempDir, at: Moment) -> (Health, Arc<Board>) {
    let health = Health::of(runtime.handle().clone(), Known::recall(Some(state.path()), at));
    health.watch_canaries_at(world.canaries.clone(), at);
    let board = health.adopt_at(world.layout.clone(), || at);
    (health, board)
}

/// Where there is such a thing: what operators say is written through to the disk.
fn folder_in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder")
}

impl Asked {
    fn new(address: IpAddr, check: Check, slot: Option<usize>) -> Asked {
        Asked {
            subject: Subject { address, check },
            slot,
            fate: Fate::Well,
            begun: 0,
            results: [0; 3],
            beside: [0; 3],
            good: 0,
            bad: 0,
            has_last_failed: false,
            earlier: [0; 3],
        }
    }

    /// Gives the result.
    fn hear(&mut self, attempt: &Attempt) -> usize {
        let (result, good, bad) = match attempt {
            Attempt::Success => (0, self.good + 1, 0),
            Attempt::Failure(_) => (1, 0, self.bad + 1),
            Attempt::LocalTrouble(_) => (2, 0, 0),
        };
        self.results[result] += 1;
        (self.good, self.bad, self.has_last_failed) = (good, bad, result != 0);
        result
    }

    pub(super) fn has_ever_failed(&self) -> bool {
        self.results[1] + self.earlier[1] > 0
    }

    fn has_always_succeeded(&self) -> bool {
        !self.has_ever_failed() && self.results[2] + self.earlier[2] == 0
    }

    /// Another run of the server begins.
    fn forget(&mut self) {
        for (earlier, result) in self.earlier.iter_mut().zip(self.results) {
            *earlier += result;
        }
        self.results = std::mem::take(&mut self.beside);
        (self.good, self.bad) = (0, 0);
    }
}

impl Network {
    /// How an attempt ends, and after how many milliseconds.
    fn answer(&self, asked: &Asked, is_cut: bool) -> (u64, Attempt) {
        let timeout = asked.subject.check.timeout.as_millis() as u64;
        let silence = || (timeout, Attempt::Failure("nothing in time".to_owned()));
        let refusal = || (5, Attempt::Failure("refused".to_owned()));
        match asked.fate {
            _ if self.sends || self.sends_over_v6 && asked.subject.address.is_ipv6() => {
                (0, Attempt::LocalTrouble("no route".to_owned()))
            }
            _ if self.uplink || is_cut => silence(),
            Fate::Well => (20, Attempt::Success),
            Fate::Refuses => refusal(),
            Fate::Slow(after) if after < timeout => (after, Attempt::Success),
            Fate::Slow(_) => silence(),
            Fate::Flaps(bits) if bits >> (asked.begun % 8) & 1 == 1 => refusal(),
            Fate::Flaps(_) => (20, Attempt::Success),
        }
    }
}

impl Shown {
    fn of(world: &World, board: &Board, health: &Health) -> Shown {
        let mut holds = vec![None; world.sites()];
        for held in health.held() {
            let site = world.layout.shares.iter().position(|share| share.site == held.site);
            holds[site.expect("a site of the service")] = Some(held.hold);
        }
        Shown {
            verdicts: (0..world.layout.targets.len()).map(|slot| board.verdict(slot as u32)).collect(),
            shares: (0..world.sites()).map(|site| board.share(site as u32)).collect(),
            holds,
            ttl: board.ttl(0),
            prices: (0..world.sites()).map(|site| board.price(site as u32)).collect(),
        }
    }

    /// Whether a site is given to anybody, for what is said of its addresses.
    pub(super) fn is_in(&self, world: &World, site: usize) -> bool {
        world.is_enough_of_any(site, |slot| self.verdicts[slot].is_served())
    }

    /// Whether a site is well, or may be, as far as checks tell: a guard is no check.
    pub(super) fn is_alive(&self, world: &World, site: usize) -> bool {
        let is_alive = |slot: usize| matches!(self.verdicts[slot], Verdict::Up | Verdict::Unknown);
        world.is_enough_of_any(site, is_alive)
    }

    /// Sites that have no room for all of their clients.
    pub(super) fn full(&self) -> impl Iterator<Item = usize> {
        (0..self.prices.len()).filter(|site| self.prices[*site] > 0)
    }

    /// Whether an operator decides about a site.
    pub(super) fn is_set(&self, world: &World, site: usize) -> bool {
        let is_forced = |slot| matches!(self.verdicts[slot], Verdict::ForcedUp | Verdict::ForcedDown);
        self.shares[site] == Share::DRAINED || world.slots(site).any(is_forced)
    }
}

/// Which sites have left lately, as seen on the board.
#[derive(Default)]
pub(super) struct Departures {
    /// By site: when it left last.
    left: [Option<u64>; MOST_SITES],
    /// Those that have been up since.
    were_up: [bool; MOST_SITES],
}

impl Departures {
    /// Takes the last change into account; gives the sites that left with it, without an operator's word.
    pub(super) fn count(&mut self, play: &Play) -> Vec<usize> {
        let Play { world, before, shown, .. } = play;
        let mut leaving = Vec::new();
        if !play.has_changed() {
            return leaving;
        }
        for site in 0..world.sites() {
            let (was_in, is_in) = (before.is_in(world, site), shown.is_in(world, site));
            let is_set = before.is_set(world, site) || shown.is_set(world, site);
            // Who is given out in panic has left already.
            self.were_up[site] &= before.holds[site] != Some(Hold::Panic);
            if was_in && !is_in && !is_set && self.were_up[site] {
                (self.left[site], self.were_up[site]) = (Some(play.now), false);
                leaving.push(site);
            }
            // What left with this server's own link has not.
            if !was_in && is_in && shown.holds[site] == Some(Hold::Isolation) {
                (self.left[site], self.were_up[site]) = (None, true);
            }
            let is_up = world.slots(site).any(|slot| shown.verdicts[slot] == Verdict::Up);
            self.were_up[site] |= is_up && shown.is_alive(world, site) && !shown.is_set(world, site);
        }
        leaving
    }

    /// How many sites have left within so long.
    pub(super) fn within(&self, play: &Play, time: Duration) -> usize {
        let is_lately = |left: &&u64| Duration::from_millis(play.now - **left) < time;
        self.left.iter().flatten().filter(is_lately).count()
    }
}
