//! Response rate limiting: who is answered too often, told from a table of fixed size.
//!
//! After the design of Knot DNS: an address counts on its own and with the blocks around it, each at its own rate, whatever
//! is asked. The numbers are [`crate::policy::rate_limit`]'s; here is what is remembered of the addresses.
//!
//! Remembered is *until when* somebody has had what is theirs (a leaky bucket as GCRA, ITU-T I.371): each response moves that time on by
//! its price, and who would be further ahead of now than the window is limited. Time itself forgives, exactly at the rate,
//! so that nothing needs to be swept; and one number is all there is to an entry. (Knot lets loads decay exponentially, which
//! limits bursts more strictly than their mean rate, and must touch all entries of a line to do so.)
//!
//! A line of the table is one cache line with ten entries. Who is not in it takes the place of the least busy one **and that one's
//! time** (Metwally et al., "Space-Saving", 2005): nobody is ever taken for less busy than they are, however many addresses
//! are forged; and somebody quiet is taken for busy only while all ten of a line are, which on the mean needs ten times the rate of an
//! address on each line: 4 million queries a second with the defaults. What remains is that one of ten others has the same 16-bit
//! tag, and is being limited: 1 in 6,500 at worst, as long as the attack lasts. Tags and lines come from a hash with secrets of
//! the table's own, so that nobody can aim.
//!
//! The wider a block, the more it may have, and the less does one response more or less matter: of every so many responses one is
//! counted for all, by chance, until some block nears its limit; then each is, and is held against each block. It halves the cost. A single address
//! alone in its blocks is not limited by them even when chance counts all that it sends.
//!
//! What is limited is not charged for: an attack takes up to the whole rate of its victim, but not a second more.
//!
//! One table for each worker, and no line of the cache in common. The kernel spreads sockets over workers by address and port,
//! so an address that asks from many ports has its rate once with each of the workers. The rate is not divided by them: resolvers behind
//! few ports would get but a part of what is theirs, while a victim is hit with a few thousand small responses a second at most.
//! A zone's NXDOMAIN comes from everywhere, and so to all workers alike: there the rate is divided.
//!
//! *Not used:* the crate governor, which has GCRA too. It keeps an entry for each key in a map that grows with every address that is
//! forged, until somebody sweeps it; fixed memory, several prefix lengths at once and the sharing of a line are what is ours.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

use crate::policy::rate_limit::{LEVELS, Level, MILLISECOND, Mode, Prices, RateLimit};
use crate::wire::Name;

/// What is done about a response that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is sent without what was asked for: the address proves itself over TCP or by a cookie.
    Truncated,
    /// It is not sent.
    Dropped,
    /// It is sent as it is, and counted.
    Nothing,
}

/// A response that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Whose rate is used up, the narrowest.
    pub level: Level,
    /// And what follows.
    pub deed: Deed,
}

/// Entries of a line.
const WAYS: usize = 10;
/// Milliseconds after which a line's times are counted from a new base: with the window, they stay within 31 bits.
const REBASED_AFTER: u32 = 1 << 15;
/// Milliseconds after which nothing in a line can still be ahead.
const FORGOTTEN_AFTER: u32 = 1 << 17;
/// Milliseconds by which a clock may be set back without all being forgotten.
const CLOCK_STEP: u32 = 5000;

/// Milliseconds for which every response is counted for every block, after one was nearly too much.
const WATCHED_FOR: u32 = 1000;

/// One cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line {
    /// Until when each is busy, from the base on, in parts of a millisecond.
    until: [u32; WAYS],
    /// What is left of each one's hash.
    tags: [u16; WAYS],
    /// Milliseconds, of which the upper bits are left out: they come around after 49 days.
    base: u32,
}

/// What one worker remembers of who was answered. Without a table nobody is limited.
#[derive(Default)]
pub struct Limiter {
    lines: Box<[Line]>,
    secrets: Secrets,
    /// Among how many workers the kernel divides what comes.
    workers: u32,
    /// Limited responses since one was sent.
    unsent: u32,
    /// Until when every response is counted for every block.
    watched_until: u32,
    /// What chance is made of.
    chance: u64,
}

struct Secrets {
    shared: SharedSeed,
    of_level: [u64; LEVELS],
}

impl Default for Secrets {
    /// Of a table that there is not.
    fn default() -> Secrets {
        Secrets { shared: SharedSeed::from_u64(0), of_level: [0; LEVELS] }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

impl Limiter {
    /// A table for that many addresses and blocks, at least, of one of so many workers.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(entries: u32, workers: usize) -> Result<Limiter, getrandom::Error> {
        let mut numbers = [0; 8 * (LEVELS + 1)];
        getrandom::fill(&mut numbers)?;
        let mut numbers = numbers.chunks_exact(8).map(|octets| {
            u64::from_le_bytes([
                octets[0], octets[1], octets[2], octets[3], octets[4], octets[5], octets[6], octets[7],
            ])
        });
        Ok(Limiter::with_secrets(entries, workers, std::array::from_fn(|_| numbers.next().unwrap_or(0))))
    }

    fn with_secrets(entries: u32, workers: usize, secrets: [u64; LEVELS + 1]) -> Limiter {
        let lines = (entries as usize).div_ceil(WAYS).max(1).next_power_of_two();
        let [shared, of_level @ ..] = secrets;
        Limiter {
            lines: vec![Line::default(); lines].into_boxed_slice(),
            secrets: Secrets { shared: SharedSeed::from_u64(shared), of_level },
            workers: u32::try_from(workers).unwrap_or(u32::MAX).max(1),
            unsent: 0,
            watched_until: 0,
            chance: shared,
        }
    }

    /// Whether one more response to an address is one too many, and what is done then. `nonsense` is the zone, where it is
    /// NXDOMAIN. Only for what came in a datagram from an address that is not proven.
    #[inline]
    pub fn limit(
        &mut self,
        limit: &RateLimit,
        client: IpAddr,
        nonsense: Option<&Name>,
        now_ms: u64,
    ) -> Option<Limited> {
        if limit.mode == Mode::Off || self.lines.is_empty() {
            return None;
        }
        // Only differences matter, of less than 49 days.
        let now_ms = now_ms as u32;
        let level = match client {
            IpAddr::V4(address) => {
                let bits = u32::from(address);
                let keys = [
                    (Level::V4Address, bits),
                    (Level::V4Length24, bits & 0xffff_ff00),
                    (Level::V4Length20, bits & 0xffff_f000),
                    (Level::V4Length18, bits & 0xffff_c000),
                ];
                let keys = keys.map(|(level, bits)| (level, u128::from(bits)));
                self.charge(limit, keys, nonsense, now_ms)
            }
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                let block = |length: u32| bits >> (128 - length) << (128 - length);
                let keys = [
                    (Level::V6Address, bits),
                    (Level::V6Length64, block(64)),
                    (Level::V6Length56, block(56)),
                    (Level::V6Length48, block(48)),
                    (Level::V6Length32, block(32)),
                ];
                self.charge(limit, keys, nonsense, now_ms)
            }
        }?;
        Some(Limited { level, deed: self.deed(limit) })
    }

    /// Charges all levels for one response, or where it is too much for one of them, none; and says for which.
    #[inline(always)]
    fn charge<const COUNT: usize>(
        &mut self,
        limit: &RateLimit,
        keys: [(Level, u128); COUNT],
        nonsense: Option<&Name>,
        now_ms: u32,
    ) -> Option<Level> {
        let (prices, window) = (&limit.prices, limit.prices.window());
        let chance = self.next_chance();
        let is_watched = (1..=WATCHED_FOR).contains(&self.watched_until.wrapping_sub(now_ms));
        // For how many responses this one counts.
        let counts_for = |level: Level| {
            let weight = weight(level);
            if is_watched {
                1
            } else if chance & (weight - 1) == 0 {
                weight
            } else {
                0
            }
        };
        for index in 0..COUNT {
            let (level, key) = keys[index];
            let weight = counts_for(level);
            if weight == 0 {
                continue;
            }
            let hash = self.hash(level, |hasher| hasher.write_u128(key));
            let ahead = self.enter(hash, prices.of(level).wrapping_mul(weight), window, now_ms);
            if index > 0 && ahead > window / 4 * 3 {
                self.watched_until = now_ms.wrapping_add(WATCHED_FOR);
            }
            if ahead > window {
                self.take_back(prices, keys.into_iter().take(index), counts_for, now_ms);
                return Some(level);
            }
        }
        if let Some(zone) = nonsense.filter(|_| prices.of(Level::ZoneNxDomain) != 0) {
            let price = prices.of(Level::ZoneNxDomain).saturating_mul(self.workers).min(window);
            let hash = self.hash(Level::ZoneNxDomain, |hasher| hasher.write(zone.wire()));
            if self.enter(hash, price, window, now_ms) > window {
                self.take_back(prices, keys.into_iter(), counts_for, now_ms);
                return Some(Level::ZoneNxDomain);
            }
        }
        None
    }

    /// Numbers that nobody outside can foresee (a linear generator's upper bits); that they are even is all that is needed.
    #[inline(always)]
    fn next_chance(&mut self) -> u32 {
        self.chance = self.chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.chance >> 40) as u32
    }

    #[inline(always)]
    fn hash(&self, level: Level, write: impl FnOnce(&mut FoldHasher<'_>)) -> u64 {
        let secret = self.secrets.of_level[level as usize];
        let mut hasher = FoldHasher::with_seed(secret, &self.secrets.shared);
        write(&mut hasher);
        hasher.finish()
    }

    /// Moves somebody's time on, unless it would be further ahead than the window; gives how far ahead.
    #[inline(always)]
    fn enter(&mut self, hash: u64, price: u32, window: u32, now_ms: u32) -> u32 {
        let (line, tag) = self.line(hash);
        let now = line.now(now_ms);
        let slot = line.slot(tag, now);
        // Base to now is less than 30 bits, window and price are 29: none of these comes around.
        let until = line.until[slot].max(now).wrapping_add(price);
        let ahead = until.wrapping_sub(now);
        if ahead <= window {
            line.tags[slot] = tag;
            line.until[slot] = until;
        }
        ahead
    }

    /// What was charged for a response that is not sent. Whose place was taken does not get it back: they were the least busy.
    #[cold]
    #[inline(never)]
    fn take_back(
        &mut self,
        prices: &Prices,
        charged: impl Iterator<Item = (Level, u128)>,
        weight: impl Fn(Level) -> u32,
        now_ms: u32,
    ) {
        for (level, key) in charged {
            let hash = self.hash(level, |hasher| hasher.write_u128(key));
            let (line, tag) = self.line(hash);
            let now = line.now(now_ms);
            let slot = line.slot(tag, now);
            // Unless another level took the place in between.
            if line.tags[slot] == tag {
                let price = prices.of(level).wrapping_mul(weight(level));
                line.until[slot] = line.until[slot].saturating_sub(price);
            }
        }
    }

    /// A line, and the tag in it.
    #[inline(always)]
    fn line(&mut self, hash: u64) -> (&mut Line, u16) {
        let index = hash as usize & (self.lines.len() - 1);
        (&mut self.lines[index], (hash >> 48) as u16)
    }

    /// With 1, the default, none is dropped: who waits in vain for an answer is open to a forged one for longer.
    #[cold]
    fn deed(&mut self, limit: &RateLimit) -> Deed {
        if limit.mode == Mode::DryRun {
            return Deed::Nothing;
        }
        self.unsent = self.unsent.saturating_add(1);
        if limit.slip == 0 || self.unsent < limit.slip {
            return Deed::Dropped;
        }
        self.unsent = 0;
        Deed::Truncated
    }
}

/// One of so many responses is counted, for all of them: powers of two, and no more than the level's multiplier.
#[inline(always)]
fn weight(level: Level) -> u32 {
    match level {
        Level::V4Address | Level::V6Address | Level::ZoneNxDomain => 1,
        Level::V6Length64 | Level::V6Length56 => 2,
        Level::V4Length24 | Level::V6Length48 => 4,
        Level::V4Length20 | Level::V6Length32 => 16,
        Level::V4Length18 => 32,
    }
}

impl Line {
    /// Now, from the line's base on.
    #[inline(always)]
    fn now(&mut self, now_ms: u32) -> u32 {
        let elapsed = now_ms.wrapping_sub(self.base);
        if elapsed < REBASED_AFTER {
            elapsed << MILLISECOND.trailing_zeros()
        } else {
            self.rebase(now_ms, elapsed)
        }
    }

    #[cold]
    fn rebase(&mut self, now_ms: u32, elapsed: u32) -> u32 {
        // A clock that was put right a little: time stands still until it is there again.
        if elapsed.wrapping_neg() <= CLOCK_STEP {
            return 0;
        }
        if elapsed >= FORGOTTEN_AFTER {
            self.until = [0; WAYS];
        } else {
            let elapsed = elapsed.saturating_mul(MILLISECOND);
            self.until = self.until.map(|until| until.saturating_sub(elapsed));
        }
        self.base = now_ms;
        0
    }

    /// Whose tag it is, or else the first that is not busy, or else the least busy.
    #[inline(always)]
    fn slot(&self, tag: u16, now: u32) -> usize {
        match self.tags.iter().position(|other| *other == tag) {
            Some(slot) => slot,
            None => self.least_busy(now),
        }
    }

    #[inline(never)]
    fn least_busy(&self, now: u32) -> usize {
        if let Some(slot) = self.until.iter().position(|until| *until <= now) {
            return slot;
        }
        let mut least = 0;
        for slot in 1..WAYS {
            if self.until[slot] < self.until[least] {
                least = slot;
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::policy::rate_limit::Rates;

    fn limiter(entries: u32) -> Limiter {
        // The same on every machine, so that what holds with the odds holds always.
        Limiter::with_secrets(entries, 1, std::array::from_fn(|index| numbers(index as u64 + 1)))
    }

    /// Numbers without a pattern (SplitMix64).
    fn numbers(seed: u64) -> u64 {
        let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn on(per_second: u32, burst: u32) -> RateLimit {
        let rates = Rates { per_second, burst: Some(burst), nxdomain_per_second: 0 };
        RateLimit { mode: Mode::On, prices: Prices::new(&rates), ..RateLimit::default() }
    }

    fn v4(bits: u32) -> IpAddr {
        Ipv4Addr::from(bits).into()
    }

    fn v6(bits: u128) -> IpAddr {
        Ipv6Addr::from(bits).into()
    }

    /// How many of so many responses at one time are not one too many, and whose rate ended it.
    fn at_once(
        limiter: &mut Limiter,
        limit: &RateLimit,
        now_ms: u64,
        mut client: impl FnMut(u32) -> IpAddr,
    ) -> (u32, Option<Level>) {
        for count in 0..200_000 {
            if let Some(limited) = limiter.limit(limit, client(count), None, now_ms) {
                return (count, Some(limited.level));
            }
        }
        (200_000, None)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limit = on(50, 125);
        let mut limiter = limiter(1 << 10);
        let client = v4(0xc000_0201);
        let first = at_once(&mut limiter, &limit, 1_000_000, |_| client);
        assert_eq!(first, (125, Some(Level::V4Address)));
        // One is forgiven every 20 ms, and all after two seconds and a half.
        assert_eq!(at_once(&mut limiter, &limit, 1_000_019, |_| client).0, 0);
        assert_eq!(at_once(&mut limiter, &limit, 1_000_020, |_| client).0, 1);
        assert_eq!(at_once(&mut limiter, &limit, 1_001_020, |_| client).0, 50);
        assert_eq!(at_once(&mut limiter, &limit, 1_003_520, |_| client).0, 125);
        assert_eq!(at_once(&mut limiter, &limit, 90_000_000_000, |_| client).0, 125);
    }

    /// Over many bases of the line.
    #[test]
    fn an_attack_takes_the_rate_and_no_more_for_hours() {
        let limit = on(50, 125);
        let mut limiter = limiter(1 << 10);
        let answered = (0..7_200_000_u64)
            .filter(|now_ms| {
                limiter.limit(&limit, v4(0xc000_0201), None, 1_700_000_000_000 + now_ms).is_none()
            })
            .count();
        assert!((360_000..=360_200).contains(&answered), "{answered}");
    }

    #[test]
    fn blocks_have_their_own_rates() {
        let limit = on(50, 125);
        for (step, burst, level) in [
            (0x1, 125 * 32, Level::V4Length24),
            (0x100, 125 * 256, Level::V4Length20),
            (0x1000, 125 * 768, Level::V4Length18),
        ] {
            let mut limiter = limiter(1 << 16);
            // Around in the block, so that no narrower one is used up before.
            let wide = match level {
                Level::V4Length24 => 0x100,
                Level::V4Length20 => 0x1000,
                _ => 0x4000,
            };
            let client = |count: u32| v4(0x0a00_0000 + (count * 97 * (step.min(0x100) | 1)) % wide);
            let (answered, limited) = at_once(&mut limiter, &limit, 0, client);
            assert_eq!(limited, Some(level));
            // But for chance, and for small prices, which are whole numbers.
            assert!((burst - burst / 8..burst + burst / 8).contains(&answered), "{level:?} {answered}");
        }
        for (bits, burst, level) in [
            (0, 125, Level::V6Address),
            (1, 250, Level::V6Length64),
            (64, 375, Level::V6Length56),
            (72, 500, Level::V6Length48),
            (80, 8000, Level::V6Length32),
        ] {
            let mut limiter = limiter(1 << 16);
            let client = |count: u32| {
                let spread = u128::from(numbers(u64::from(count)) & 0xff);
                let step = if bits == 0 { 0 } else { spread << (bits - u32::from(bits == 1)) };
                // Each address once, so that no address is used up before.
                v6((0x2001_0db8 << 96) | step | if bits == 0 { 0 } else { u128::from(count) << 8 })
            };
            let (answered, limited) = at_once(&mut limiter, &limit, 0, client);
            assert_eq!(limited, Some(level));
            let chance = if level == Level::V6Address { 0 } else { burst / 8 };
            assert!((burst - chance..=burst + chance).contains(&answered), "{level:?} {answered}");
        }
        // No chance that counts all can limit an address by its blocks alone.
        for level in Level::ALL {
            assert!(weight(level) <= level.multiplier() && weight(level).is_power_of_two());
        }
    }

    #[test]
    fn limited_ones_are_truncated_dropped_or_only_counted() {
        let client = v4(0xc000_0201);
        let deeds = |mode: Mode, slip: u32| -> Vec<Deed> {
            let limit = RateLimit { mode, slip, ..on(1, 1) };
            let mut limiter = limiter(1 << 10);
            (0..7)
                .filter_map(|_| limiter.limit(&limit, client, None, 0))
                .map(|limited| limited.deed)
                .collect()
        };
        assert_eq!(deeds(Mode::On, 1), [Deed::Truncated; 6]);
        assert_eq!(deeds(Mode::On, 0), [Deed::Dropped; 6]);
        let every_third = [Deed::Dropped, Deed::Dropped, Deed::Truncated];
        assert_eq!(deeds(Mode::On, 3), [every_third, every_third].concat());
        assert_eq!(deeds(Mode::DryRun, 1), [Deed::Nothing; 6]);
        assert_eq!(deeds(Mode::Off, 1), []);
        assert_eq!(Limiter::default().limit(&on(1, 1), client, None, 0), None);
    }

    #[test]
    fn a_zones_nonsense_is_limited_among_all_workers() {
        let zone = Name::parse("example.com.", None).unwrap();
        let other = Name::parse("example.org.", None).unwrap();
        let rates = Rates { per_second: 50, burst: Some(100), nxdomain_per_second: 400 };
        let limit = RateLimit { mode: Mode::On, prices: Prices::new(&rates), ..RateLimit::default() };
        let mut limiter = limiter(1 << 16);
        limiter.workers = 4;
        // Two seconds of a hundred a second, from everywhere.
        let nonsense = |limiter: &mut Limiter, zone: &Name| {
            let client = |count: u32| v4(numbers(u64::from(count)) as u32);
            let count =
                (0..1000).take_while(|count| limiter.limit(&limit, client(*count), Some(zone), 0).is_none());
            count.count()
        };
        assert_eq!(nonsense(&mut limiter, &zone), 200);
        assert_eq!(nonsense(&mut limiter, &other), 200);
        let limited = limiter.limit(&limit, v4(1), Some(&zone), 0).map(|limited| limited.level);
        assert_eq!(limited, Some(Level::ZoneNxDomain));
        assert_eq!(limiter.limit(&limit, v4(1), None, 0), None);
    }

    /// 50,000 forged addresses ask once a second each, among them a hundred attackers with 500 queries a second and
    /// a thousand resolvers with 20: of the attackers 9 of 10 are limited, of all others nobody.
    #[test]
    fn forged_addresses_hide_no_attacker_and_harm_nobody() {
        let limit = on(50, 125);
        let mut limiter = limiter(1 << 16);
        let address = |kind: u64, number: u64| v4(numbers(kind << 32 | number) as u32);
        let (mut attacks, mut harmed) = (0_u32, 0_u32);
        for now_ms in 0..20_000_u64 {
            let mut ask = |client: IpAddr| {
                u32::from(limiter.limit(&limit, client, None, 1_700_000_000_000 + now_ms).is_some())
            };
            for number in 0..50 {
                harmed += ask(address(1, now_ms % 1000 * 50 + number));
                attacks += ask(address(2, now_ms % 2 * 50 + number));
            }
            for number in 0..20 {
                harmed += ask(address(3, now_ms % 50 * 20 + number));
            }
        }
        assert_eq!(harmed, 0);
        // Of 10,000 queries each, the burst and 50 a second are answered.
        let limited = 100 * (10_000 - 125 - 20 * 50);
        assert!((limited..limited + 1000).contains(&attacks), "{attacks} for {limited}");
    }

    /// A million forged addresses a second, each once: on a table that they fill many times over.
    #[test]
    fn nor_do_a_million_forged_addresses_a_second() {
        let limit = on(50, 125);
        let mut limiter = limiter(1 << 16);
        let (mut attacks, mut harmed) = (0_u32, 0_u32);
        for now_ms in 0..3000_u64 {
            for number in 0..1000 {
                let forged = v4(numbers(now_ms * 1000 + number) as u32);
                harmed += u32::from(limiter.limit(&limit, forged, None, now_ms).is_some());
            }
            attacks += u32::from(limiter.limit(&limit, v4(0xc633_6401), None, now_ms).is_some());
        }
        assert_eq!(harmed, 0);
        assert!((3000 - 125 - 150..3000 - 125 - 150 + 10).contains(&attacks), "{attacks}");
    }

    /// Among attackers on all lines that are all limited, who is quiet is taken for one of them only by an equal tag.
    #[test]
    fn who_is_quiet_is_mistaken_for_an_attacker_once_in_thousands() {
        let limit = on(50, 125);
        let mut limiter = limiter(1 << 12);
        // One of the ten entries of each line, on the mean.
        for attacker in 0..512_u64 {
            at_once(&mut limiter, &limit, 0, |_| v4(numbers(attacker) as u32));
        }
        let quiet = 100_000;
        let mistaken = (0..quiet)
            .filter(|number| {
                let client = v4(numbers(1 << 40 | number) as u32);
                limiter
                    .limit(&limit, client, None, 0)
                    .is_some_and(|limited| limited.level == Level::V4Address)
            })
            .count();
        // Each a chance of 1 in 65,536.
        assert!(mistaken < 10, "{mistaken} of {quiet}");
    }

    #[test]
    fn a_line_is_a_cache_line_and_the_table_never_grows() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
        let mut limiter = limiter(1 << 16);
        assert_eq!(size_of_val(&*limiter.lines), 512 << 10);
        let lines = limiter.lines.as_ptr();
        for number in 0..200_000 {
            let wide = u128::from(numbers(number)) << 64 | u128::from(numbers(!number));
            limiter.limit(&RateLimit::default(), v6(wide), None, number);
        }
        assert_eq!((limiter.lines.as_ptr(), size_of_val(&*limiter.lines)), (lines, 512 << 10));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_limits_nor_forgets() {
        let limit = on(50, 125);
        let mut limiter = limiter(1 << 10);
        let client = v4(0xc000_0201);
        at_once(&mut limiter, &limit, 10_000_000, |_| client);
        assert_eq!(at_once(&mut limiter, &limit, 9_999_000, |_| client).0, 0);
        assert_eq!(at_once(&mut limiter, &limit, 10_000_020, |_| client).0, 1);
        // By hours, forwards or backwards: all is forgotten.
        assert_eq!(at_once(&mut limiter, &limit, 5_000_000, |_| client).0, 125);
        assert_eq!(at_once(&mut limiter, &limit, 50_000_000, |_| client).0, 125);
    }

    proptest! {
        /// Whatever others do: who keeps to their rate is not limited. Of others there are fewer than would use up
        /// a block around them or fill a line, which the tests above bound.
        #[test]
        fn who_keeps_to_their_rate_is_never_limited(
            client: u32,
            rate in 1_u32..=50,
            start in 0_u64..1 << 42,
            others in proptest::collection::vec((any::<u32>(), 0_u64..40), 1..2000),
        ) {
            let limit = on(50, 125);
            let mut limiter = limiter(1 << 16);
            let mut now_ms = start;
            let mut next = start;
            for (other, wait) in others {
                now_ms += wait;
                // Sometimes a crowd from one address, of another /18 than the client's.
                if other >> 14 != client >> 14 {
                    for _ in 0..=other % 7 * 40 {
                        limiter.limit(&limit, v4(other), None, now_ms);
                    }
                }
                while next <= now_ms {
                    prop_assert_eq!(limiter.limit(&limit, v4(client), None, now_ms), None);
                    next += u64::from(1000_u32.div_ceil(rate));
                }
            }
        }

        /// Nobody gets more than the burst and the rate, whatever others do.
        #[test]
        fn nobody_is_answered_more_often_than_they_are_worth(
            client: u128,
            queries in proptest::collection::vec((any::<u32>(), 0_u64..30), 1..3000),
        ) {
            let limit = on(50, 125);
            // So small that everybody is in everybody's way.
            let mut limiter = limiter(100);
            let (mut now_ms, mut answered) = (0, 0);
            for (other, wait) in queries {
                now_ms += wait;
                limiter.limit(&limit, v4(other), None, now_ms);
                answered += u64::from(limiter.limit(&limit, v6(client), None, now_ms).is_none());
            }
            prop_assert!(answered <= 125 + now_ms * 50 / 1000 + 1, "{} in {} ms", answered, now_ms);
        }
    }
}
