//! Who gets which site, counted over the whole address space.
//!
//! The geo databases are walked once more, beside the compiled tables: each network is steered as a query from it
//! would be, and its addresses count for its place and its site. Where a census was taken while the tables were compiled,
//! they need not be walked again. Nothing is counted that a query cannot be: special-purpose
//! addresses are left out, and those of which no database knows anything, which are nobody's. With no database at all every
//! address counts. Of IPv6 only what the registries have.
//!
//! An answer holds for the whole block that its scope names (meaning 5), so that few addresses need to be steered. Where a share
//! decides, that is a /24, or a /56: of IPv4 each is steered, of IPv6 a sample, since a /32 has 16 million of them. A census knows how
//! many are somewhere and not which: by it who shares what is drawn for both.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;

pub use crate::catchment::census::Addresses;
use crate::catchment::census::{Census, Counts};
use crate::catchment::{RankingId, ServiceIndex};
use crate::geo::special::{allocated_v6, v4_runs, v6_runs};
use crate::geo::{Coordinates, Country, Databases, Geography, Records, Walker};
use crate::health::board::Board;
use crate::nameserver::client::Position;
use crate::nameserver::lookup::SteeredLookup;
use crate::nameserver::steer::steer_at;
use crate::nameserver::{Given, NoSite};
use crate::parallel;
use crate::site::compile::TypeIndex;
use crate::snapshot::Snapshot;

pub mod summary;

/// Whose answers are counted.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What answers.
    pub snapshot: &'a Snapshot,
    /// Which of its services.
    pub service: ServiceIndex,
    /// What is asked for.
    pub rtype: TypeIndex,
}

/// What answers, and how its sites are. Several of them are compared: of one snapshot on several boards, or of several snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What is asked.
    pub view: View<'a>,
    /// On which board.
    pub board: &'a Board,
}

/// Some addresses at one place that get the same; of several sides, of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part<const N: usize> {
    /// Where they are, as the databases say.
    pub country: Option<Country>,
    /// What distances are told from.
    pub point: Option<Coordinates>,
    /// By side.
    pub given: [Given; N],
    /// How many they are.
    pub addresses: Addresses,
}

impl View<'_> {
    /// What the service gives to an address.
    #[must_use]
    pub fn given(&self, address: IpAddr, board: &Board) -> Given {
        self.given_at(self.position(address), board).0
    }

    fn position(&self, address: IpAddr) -> Position {
        Position::of(address, self.snapshot.catchments(), self.service)
    }

    fn given_at(&self, position: Position, board: &Board) -> (Given, u8) {
        let steering = steer_at(&self.lookup(), position, self.snapshot.catchments(), board);
        (steering.choice.given(), steering.scope)
    }

    /// As a query finds it at the service's name.
    #[must_use]
    pub fn lookup(&self) -> SteeredLookup<'_> {
        let service = self.snapshot.service(self.service);
        SteeredLookup { index: self.service, service, rtype: self.rtype, ttl: None }
    }
}

/// Counts on all cores. Parts with the same place may come several times. The databases are those that the reloader kept, if it did.
#[must_use]
pub fn count<const N: usize>(sides: [Side<'_>; N], databases: &Databases) -> Vec<Part<N>> {
    let geography = (!databases.is_empty()).then_some(databases as &dyn Geography);
    databases.begin();
    let v4_runs: Vec<(u128, u128)> =
        v4_runs().into_iter().map(|(first, last)| (u128::from(first), u128::from(last))).collect();
    let v6_runs = not_counted_v6();
    let thread = || Thread { walker: databases.walker(), counter: Counter::new(sides) };
    let counted = parallel::gather(
        V4_SHARDS + V6_SHARDS,
        thread,
        |shard, Thread { walker, counter }| match shard.checked_sub(V4_SHARDS) {
            None => {
                let first = (shard as u32) << 24;
                counter.begin(Family::V4, &v4_runs);
                match geography {
                    Some(_) => walker.walk_v4((first, 8), &mut |block| {
                        counter.add_block(u128::from(block.first), u128::from(block.last), block.records);
                    }),
                    None => counter.add_block(
                        u128::from(first),
                        u128::from(first | 0x00ff_ffff),
                        Records::default(),
                    ),
                }
            }
            Some(shard) => {
                let first = (0x2000 + shard as u128) << 112;
                counter.begin(Family::V6, &v6_runs);
                match geography {
                    Some(_) => walker.walk_v6((first, 16), &mut |block| {
                        counter.add_block(block.first, block.last, block.records);
                    }),
                    None => counter.add_block(first, first | ((1 << 112) - 1), Records::default()),
                }
            }
        },
        |thread| thread.counter.counted,
    );
    let place_of = databases.places();
    let part = |(place, given, addresses)| {
        let (country, point) = place_of(place);
        Part { country, point, given, addresses }
    };
    counted.iter().flat_map(Counts::iter).map(part).collect()
}

/// The same by a census of the tables of the snapshot, on several boards. Where a share decides, each place has as large a part of
/// every lot as its ranking has altogether: those are drawn, which is told beside.
#[must_use]
pub fn count_in<const N: usize>(
    census: &Census,
    view: View<'_>,
    boards: [&Board; N],
) -> (Vec<Part<N>>, bool) {
    let rows: Vec<_> = census.by_ranking(view.snapshot.catchments(), view.service).collect();
    let mut all = Addresses::default();
    rows.iter().for_each(|(_, _, addresses)| all += *addresses);
    let mut weights: HashMap<RankingId, f64, FixedState> = HashMap::default();
    for (_, ranking, addresses) in &rows {
        *weights.entry(*ranking).or_default() += addresses.of(all).weight();
    }
    let lots: HashMap<RankingId, Vec<Lot<N>>, FixedState> =
        weights.into_iter().map(|(ranking, weight)| (ranking, lots(view, boards, ranking, weight))).collect();
    let are_drawn = lots.values().any(|lots| lots.len() > 1);
    let parts = rows.into_iter().flat_map(|((country, point), ranking, addresses)| {
        let of_lot =
            move |lot: &Lot<N>| Part { country, point, given: lot.given, addresses: lot.of(addresses) };
        lots[&ranking].iter().map(of_lot).filter(|part| part.addresses != Addresses::default())
    });
    (parts.collect(), are_drawn)
}

/// Those with the same ranking who are given the same: from one part of them up to another, in 1/2³².
struct Lot<const N: usize> {
    given: [Given; N],
    from: u64,
    to: u64,
}

impl<const N: usize> Lot<N> {
    /// This lot's part; those of all lots are all.
    fn of(&self, all: Addresses) -> Addresses {
        // In two halves, for a product with all of IPv6 would not fit.
        let below = |count: u128, part: u64| {
            (count >> 32) * u128::from(part) + (((count & 0xffff_ffff) * u128::from(part)) >> 32)
        };
        let of = |count: u128| below(count, self.to) - below(count, self.from);
        Addresses { v4: of(all.v4.into()) as u64, v6: of(all.v6) }
    }
}

/// Who are given what of those with one ranking: all the same, or as the lots of their blocks fall, of which some are drawn for them, more
/// for the many.
fn lots<const N: usize>(view: View<'_>, boards: [&Board; N], ranking: RankingId, weight: f64) -> Vec<Lot<N>> {
    /// Of each ranking at least, and of all together, whose parts err by about a thousandth of all.
    const DRAWN: (f64, f64) = (256.0, 400_000.0);
    let given = |block: u64| {
        let position = Position { ranking, scope: 0, block, share_scope: 1 };
        let mut scope = 0;
        let given = boards.map(|board| {
            let (given, of_board) = view.given_at(position, board);
            scope = scope.max(of_board);
            given
        });
        (given, scope)
    };
    let (whole, scope) = given(0);
    if scope == 0 {
        return vec![Lot { given: whole, from: 0, to: 1 << 32 }];
    }
    let draws = (DRAWN.0 + DRAWN.1 * weight / 2.0) as u64;
    let mut counts: Vec<([Given; N], u64)> = Vec::new();
    for draw in 0..draws {
        // Blocks of their own for each ranking, so that their errors are not the same.
        let (given, _) = given(u64::from(ranking.0) << 32 | draw);
        match counts.iter_mut().find(|(known, _)| *known == given) {
            Some((_, count)) => *count += 1,
            None => counts.push((given, 1)),
        }
    }
    let mut drawn = 0;
    let lot = |(given, count)| {
        let from = (drawn << 32) / draws;
        drawn += count;
        Lot { given, from, to: (drawn << 32) / draws }
    };
    counts.into_iter().map(lot).collect()
}

/// The /8 of IPv4, and the /16 of 2000::/3: there is no other IPv6 that anybody was given.
const V4_SHARDS: usize = 256;
const V6_SHARDS: usize = 8192;

/// Special-purpose runs, and what is not allocated, in ascending order.
fn not_counted_v6() -> Vec<(u128, u128)> {
    let mut runs = v6_runs();
    let mut at = 0;
    for (first, last) in allocated_v6() {
        runs.push((at, first - 1));
        at = last + 1;
    }
    runs.push((at, u128::MAX));
    // One may lie in another: the one that ends later counts.
    runs.sort_unstable();
    let mut apart: Vec<(u128, u128)> = Vec::with_capacity(runs.len());
    for (first, last) in runs {
        match apart.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    apart
}

/// What one thread works with.
struct Thread<'a, const N: usize> {
    walker: Box<dyn Walker + 'a>,
    counter: Counter<'a, N>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from(number as u32).into(),
            Family::V6 => Ipv6Addr::from(number).into(),
        }
    }

    /// The last address of the block of some length around one.
    fn last_of_block(self, number: u128, length: u8) -> u128 {
        let bits = if self == Family::V4 { 32 } else { 128 };
        number | 1_u128.checked_shl(bits - u32::from(length)).unwrap_or(0).wrapping_sub(1)
    }
}

/// Adds networks up, in ascending order within a shard.
struct Counter<'a, const N: usize> {
    sides: [Side<'a>; N],
    family: Family,
    /// Special-purpose runs that are still ahead.
    runs: &'a [(u128, u128)],
    /// What holds up to an address, since that of the last network.
    known: Option<(u128, [Given; N])>,
    counted: Counts<[Given; N]>,
}

impl<'a, const N: usize> Counter<'a, N> {
    fn new(sides: [Side<'a>; N]) -> Counter<'a, N> {
        Counter { sides, family: Family::V4, runs: &[], known: None, counted: Counts::default() }
    }

    fn begin(&mut self, family: Family, runs: &'a [(u128, u128)]) {
        (self.family, self.runs, self.known) = (family, runs, None);
    }

    fn add_block(&mut self, first: u128, last: u128, records: Records) {
        let mut at = first;
        while at <= last {
            while let Some(((_, run_last), later)) = self.runs.split_first()
                && *run_last < at
            {
                self.runs = later;
            }
            let mut end = last;
            match self.runs.first() {
                Some(&(run_first, run_last)) if run_first <= at => {
                    let Some(after) = run_last.checked_add(1) else { return };
                    at = after;
                    continue;
                }
                Some(&(run_first, _)) => end = end.min(run_first - 1),
                None => {}
            }
            let given = match self.known {
                Some((until, given)) if at <= until => {
                    end = end.min(until);
                    given
                }
                _ => match self.look_up(at) {
                    Looked::Holds(until, given) => {
                        self.known = Some((until, given));
                        end = end.min(until);
                        given
                    }
                    Looked::Shared(until, positions) => {
                        end = end.min(until);
                        self.sample(at, end, positions, records.place);
                        at = end + 1;
                        continue;
                    }
                },
            };
            self.add(records.place, given, at, end);
            at = end + 1;
        }
    }

    fn look_up(&self, at: u128) -> Looked<N> {
        let positions = self.sides.map(|side| side.view.position(self.family.address(at)));
        let unshared = positions.iter().map(|position| position.scope).max().unwrap_or_default();
        let mut scope = unshared;
        let given = self.given(positions, |of_side| scope = scope.max(of_side));
        if self.family == Family::V6 && scope > unshared {
            return Looked::Shared(self.family.last_of_block(at, unshared), positions);
        }
        Looked::Holds(self.family.last_of_block(at, scope), given)
    }

    /// Splits IPv6 addresses into runs of /56s, of each of which the middle one is steered: of a /32 sixty-four. A database has
    /// millions of networks, whose errors even out.
    fn sample(&mut self, first: u128, last: u128, positions: [Position; N], place: u32) {
        const HOST: u32 = 72;
        let (from, to) = (first >> HOST, last >> HOST);
        let blocks = to - from + 1;
        let samples = if blocks <= 4 { blocks } else { (blocks >> 18).clamp(1, 64) };
        for sample in 0..samples {
            let low = from + blocks * sample / samples;
            let high = from + blocks * (sample + 1) / samples - 1;
            let block = (low + (high - low) / 2) as u64;
            let given = self.given(positions.map(|position| Position { block, ..position }), |_| {});
            self.add(place, given, first.max(low << HOST), last.min(high << HOST | ((1 << HOST) - 1)));
        }
    }

    fn given(&self, positions: [Position; N], mut scope: impl FnMut(u8)) -> [Given; N] {
        let mut given = [Given::NoSite(NoSite::NoData); N];
        for ((given, side), position) in given.iter_mut().zip(self.sides).zip(positions) {
            let (of_side, its_scope) = side.view.given_at(position, side.board);
            *given = of_side;
            scope(its_scope);
        }
        given
    }

    fn add(&mut self, place: u32, given: [Given; N], first: u128, last: u128) {
        let count = last - first + 1;
        let addresses = match self.family {
            Family::V4 => Addresses { v4: count as u64, v6: 0 },
            Family::V6 => Addresses { v4: 0, v6: count },
        };
        self.counted.add(place, given, addresses);
    }
}

/// What is given at an address, and up to where.
enum Looked<const N: usize> {
    Holds(u128, [Given; N]),
    /// Each /56 for itself.
    Shared(u128, [Position; N]),
}
