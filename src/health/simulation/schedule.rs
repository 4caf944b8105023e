//! What may happen to a service, in any order: networks and servers that fail, operators, clocks that are set, reloads.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::WORLDS;
use crate::health::overrides::Wish;

/// What happens in one of the worlds, one after the other, and how many seconds nothing else does after each.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) world: usize,
    pub(super) steps: Vec<(Step, u64)>,
}

/// Numbers of sites, addresses and checks go round.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// All of a site's servers are such from now on.
    Site(usize, Fate),
    /// One of all addresses is.
    Address(usize, Fate),
    /// What one of all checks asks is.
    Check(usize, Fate),
    /// A part of the network is lost, or is back.
    Cut(Cut, bool),
    /// An operator says something.
    Word(Word),
    /// The clock on the wall is set by so many seconds.
    SetClock(i64),
    /// Another snapshot of the same files is swapped in.
    Reload,
    /// This server ends and is back after so many milliseconds.
    Restart(End, u64),
    /// Another one is started, which takes this one's place after so many seconds.
    Replace(u64),
}

/// How this server ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It writes down what it knows.
    Stopped,
    /// What it wrote last has to do.
    Killed,
}

/// How a server answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Well,
    Refuses,
    /// After so many milliseconds; that may be later than anybody waits.
    Slow(u64),
    /// Refuses where a bit is set, one after the other.
    Flaps(u8),
}

/// What cannot be reached any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Nothing that is sent comes back.
    Uplink,
    /// Nothing of the canaries of these bits does.
    Canaries(u8),
    /// Nothing of the sites of these bits does.
    Sites(u8),
    /// Nothing can be sent.
    Sends,
    /// Nothing can be sent over IPv6.
    SendsOverV6,
}

/// An order, of one site or of all.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) wish: Wish,
    pub(super) site: Option<usize>,
    pub(super) is_of_service: bool,
    /// Seconds.
    pub(super) lasts: Option<u64>,
    pub(super) over: u64,
    pub(super) anyway: bool,
}

pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    schedules_of(prop_oneof![4 => failure(), 1 => order()])
}

/// Operators have much to say.
pub(super) fn schedules_of_operators() -> impl Strategy<Value = Schedule> {
    schedules_of(prop_oneof![failure(), order()])
}

/// This server's own link comes and goes, or what canaries have of it.
pub(super) fn schedules_of_outages() -> impl Strategy<Value = Schedule> {
    let cut = prop_oneof![2 => Just(Cut::Uplink), 1 => (1..4_u8).prop_map(Cut::Canaries)];
    let outage = (cut, any::<bool>()).prop_map(|(cut, is_cut)| Step::Cut(cut, is_cut));
    schedules_of(prop_oneof![failure(), outage])
}

/// In any of the worlds.
pub(super) fn schedules_of(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Schedule> {
    // Now and then long enough for what left to be forgotten.
    let wait = prop_oneof![8 => 1..40_u64, 2 => 40..160_u64, 1 => 200..400_u64];
    (0..WORLDS.len(), vec((step, wait), 4..20)).prop_map(|(world, steps)| Schedule { world, steps })
}

/// Nobody says anything.
pub(super) fn failure() -> impl Strategy<Value = Step> {
    let cut = prop_oneof![
        4 => Just(Cut::Uplink),
        2 => (1..4_u8).prop_map(Cut::Canaries),
        2 => any::<u8>().prop_map(Cut::Sites),
        1 => Just(Cut::Sends),
        1 => Just(Cut::SendsOverV6),
    ];
    prop_oneof![
        6 => (any::<usize>(), fate()).prop_map(|(site, fate)| Step::Site(site, fate)),
        1 => (any::<usize>(), fate()).prop_map(|(address, fate)| Step::Address(address, fate)),
        1 => (any::<usize>(), fate()).prop_map(|(check, fate)| Step::Check(check, fate)),
        3 => (cut, any::<bool>()).prop_map(|(cut, is_cut)| Step::Cut(cut, is_cut)),
        1 => clock(),
        1 => Just(Step::Reload),
        1 => restart(),
        1 => (0..60_u64).prop_map(Step::Replace),
    ]
}

/// Whenever it ends it is back in the same moment, having written down what it knows.
pub(super) fn schedules_with_restarts() -> impl Strategy<Value = Schedule> {
    let at_once = |step| match step {
        Step::Restart(..) | Step::Replace(_) => Step::Restart(End::Stopped, 0),
        step => step,
    };
    schedules_of(prop_oneof![4 => failure(), 1 => order(), 1 => restart()].prop_map(at_once))
}

fn restart() -> impl Strategy<Value = Step> {
    let end = prop_oneof![Just(End::Stopped), Just(End::Killed)];
    let away = prop_oneof![0..2000_u64, 0..120_000_u64];
    (end, away).prop_map(|(end, away)| Step::Restart(end, away))
}

/// Somebody says anything of a site or of all.
fn order() -> impl Strategy<Value = Step> {
    let wish = select(vec![Wish::Drain, Wish::Undrain, Wish::ForceUp, Wish::ForceDown, Wish::Unforce]);
    word(wish, option::weighted(0.8, any::<usize>())).prop_map(Step::Word)
}

pub(super) fn word(
    wish: impl Strategy<Value = Wish>,
    site: impl Strategy<Value = Option<usize>>,
) -> impl Strategy<Value = Word> {
    let over = prop_oneof![2 => Just(0), 1 => 1..3_u64, 2 => 1..300_u64];
    (wish, site, any::<bool>(), option::of(1..300_u64), over, any::<bool>()).prop_map(
        |(wish, site, is_of_service, lasts, over, anyway)| Word {
            wish,
            site,
            is_of_service,
            lasts,
            over,
            anyway,
        },
    )
}

pub(super) fn clock() -> impl Strategy<Value = Step> {
    prop_oneof![-90..90_i64, -86_400..86_400_i64].prop_map(Step::SetClock)
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Well),
        4 => Just(Fate::Refuses),
        2 => (0..4000_u64).prop_map(Fate::Slow),
        2 => any::<u8>().prop_map(Fate::Flaps),
    ]
}
