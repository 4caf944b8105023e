//! How many responses an address, its neighbourhood and a zone's nonsense are worth, and what becomes of the rest.
//!
//! An address that anybody may have forged is a victim that we can be made to shoot at. So it gets so many responses a second and
//! no more, and so does each of the blocks around it, for who floods a network forges all of its addresses.

/// What a rate holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One IPv4 address.
    V4Address,
    /// An IPv4 /24.
    V4Length24,
    /// An IPv4 /20.
    V4Length20,
    /// An IPv4 /18.
    V4Length18,
    /// One IPv6 address.
    V6Address,
    /// An IPv6 /64.
    V6Length64,
    /// An IPv6 /56.
    V6Length56,
    /// An IPv6 /48.
    V6Length48,
    /// An IPv6 /32.
    V6Length32,
    /// NXDOMAIN from one zone, to whomever.
    ZoneNxDomain,
}

/// Kinds of [`Level`].
pub const LEVELS: usize = 10;

impl Level {
    /// All of them, in their order.
    pub const ALL: [Level; LEVELS] = [
        Level::V4Address,
        Level::V4Length24,
        Level::V4Length20,
        Level::V4Length18,
        Level::V6Address,
        Level::V6Length64,
        Level::V6Length56,
        Level::V6Length48,
        Level::V6Length32,
        Level::ZoneNxDomain,
    ];

    /// How many times the rate of a single address it has: those of Knot DNS, which observed that many clients share an
    /// IPv4 block, and few an IPv6 block that a household or a site is given.
    #[must_use]
    pub fn multiplier(self) -> u32 {
        match self {
            Level::V4Address | Level::V6Address | Level::ZoneNxDomain => 1,
            Level::V6Length64 => 2,
            Level::V6Length56 => 3,
            Level::V6Length48 => 4,
            Level::V4Length24 => 32,
            Level::V6Length32 => 64,
            Level::V4Length20 => 256,
            Level::V4Length18 => 768,
        }
    }

    /// Under which name it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::V4Address => "ipv4/32",
            Level::V4Length24 => "ipv4/24",
            Level::V4Length20 => "ipv4/20",
            Level::V4Length18 => "ipv4/18",
            Level::V6Address => "ipv6/128",
            Level::V6Length64 => "ipv6/64",
            Level::V6Length56 => "ipv6/56",
            Level::V6Length48 => "ipv6/48",
            Level::V6Length32 => "ipv6/32",
            Level::ZoneNxDomain => "zone/nxdomain",
        }
    }
}

/// What is done about too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is even counted.
    Off,
    /// What would be limited is counted, and answered as usual.
    DryRun,
    /// It is limited.
    On,
}

/// A millisecond, in the unit that prices are given in.
pub const MILLISECOND: u32 = 1 << 15;
/// Seconds of its rate that may come in one burst, at most.
pub const LONGEST_BURST: u32 = 15;
/// Responses a second to a single address, at most.
pub const HIGHEST_RATE: u32 = 100_000;

/// Rates as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Responses a second to a single address.
    pub per_second: u32,
    /// Responses at once to a single address that was quiet; none: two and a half seconds' worth.
    pub burst: Option<u32>,
    /// NXDOMAIN a second from one zone; 0: no matter how many.
    pub nxdomain_per_second: u32,
}

/// What an operator decided about responses that are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What is done.
    pub mode: Mode,
    /// Every so manieth limited response is sent truncated, the others are not sent; 0: none is.
    pub slip: u32,
    /// Blocks and addresses that a worker remembers, at least. It takes effect at the start.
    pub entries: u32,
    /// How many are too many.
    pub prices: Prices,
}

/// Rates as the query path counts: how far ahead of time a response puts whom it is sent to, and how far they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    window: u32,
    of_level: [u32; LEVELS],
}

impl Prices {
    /// A rate is taken from 1 to [`HIGHEST_RATE`], a burst from 1 to [`LONGEST_BURST`] seconds' worth.
    #[must_use]
    pub fn new(rates: &Rates) -> Prices {
        let second = 1000 * u64::from(MILLISECOND);
        let rate = u64::from(rates.per_second.clamp(1, HIGHEST_RATE));
        let most = rate * u64::from(LONGEST_BURST);
        let burst = rates.burst.map_or((rate * 5).div_ceil(2), u64::from).clamp(1, most);
        // At most 15 seconds: 29 bits. Prices are rounded down, so that a whole burst fits.
        let window = second * burst / rate;
        let of_level = Level::ALL.map(|level| {
            let rate = match level {
                Level::ZoneNxDomain => u64::from(rates.nxdomain_per_second),
                _ => rate * u64::from(level.multiplier()),
            };
            second.checked_div(rate).map_or(0, |price| price.clamp(1, window) as u32)
        });
        Prices { window: window as u32, of_level }
    }

    /// How far ahead of time anybody may be, in parts of a [`MILLISECOND`].
    #[inline]
    #[must_use]
    pub fn window(&self) -> u32 {
        self.window
    }

    /// By how much one response puts a level ahead of time; 0 where nothing is too much.
    #[inline]
    #[must_use]
    pub fn of(&self, level: Level) -> u32 {
        self.of_level[level as usize]
    }
}

impl Default for Rates {
    /// Those of Knot DNS. A resolver behind which a city sits asks one server of one zone less than 50 times a second.
    ///
    /// No limit for a zone's NXDOMAIN: floods of random names come through resolvers, which are worth an answer, and each
    /// response that is truncated comes back over TCP, dearer than the NXDOMAIN, which costs no more than any other answer
    /// here. Which number of typing errors is usual nobody knows but the zone's owner.
    fn default() -> Rates {
        Rates { per_second: 50, burst: None, nxdomain_per_second: 0 }
    }
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit { mode: Mode::DryRun, slip: 1, entries: 1 << 16, prices: Prices::new(&Rates::default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_burst_fits_at_every_level_and_not_one_more() {
        for per_second in [1, 2, 7, 50, 333, 5_000] {
            for burst in [None, Some(1), Some(per_second), Some(15 * per_second)] {
                let prices = Prices::new(&Rates { per_second, burst, nxdomain_per_second: per_second });
                let burst = u64::from(burst.unwrap_or((per_second * 5).div_ceil(2)));
                for level in Level::ALL {
                    let burst = burst * u64::from(level.multiplier());
                    let (price, window) = (u64::from(prices.of(level)), u64::from(prices.window()));
                    assert!(price * burst <= window, "{per_second} {burst} {level:?}");
                    // Prices are whole numbers: of many small ones a few hundredths too many fit.
                    assert!(price * (burst + burst / 8 + 1) > window, "{per_second} {burst} {level:?}");
                }
            }
        }
    }

    #[test]
    fn whatever_is_asked_for_fits_its_numbers() {
        for per_second in [0, 1, HIGHEST_RATE, u32::MAX] {
            for burst in [None, Some(0), Some(u32::MAX)] {
                for nxdomain_per_second in [0, 1, u32::MAX] {
                    let prices = Prices::new(&Rates { per_second, burst, nxdomain_per_second });
                    assert!(prices.window() <= LONGEST_BURST * 1000 * MILLISECOND);
                    for level in Level::ALL {
                        let is_free = level == Level::ZoneNxDomain && nxdomain_per_second == 0;
                        assert_eq!(prices.of(level) == 0, is_free);
                        assert!(prices.of(level) <= prices.window());
                    }
                }
            }
        }
    }

    #[test]
    fn levels_are_in_their_order() {
        for (index, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(level as usize, index);
        }
    }
}
