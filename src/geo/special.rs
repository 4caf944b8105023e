//! Special-purpose address blocks, and the IPv6 forms that embed an IPv4 address.
//!
//! From IANA's two registries (RFC 6890, RFC 8190): what is not globally reachable is never looked up in a
//! database, which may well claim to know it. Multicast and what is reserved for future use count as
//! such, too: no client has such an address.

use std::net::{Ipv4Addr, Ipv6Addr};

/// IPv4 blocks that are not globally reachable.
const V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Within those, what is reachable all the same: PCP and TURN anycast (RFC 7723, RFC 8155).
const V4_REACHABLE: &[([u8; 4], u8)] = &[([192, 0, 0, 9], 32), ([192, 0, 0, 10], 32)];

/// IPv6 blocks that are not globally reachable, and those that embed an IPv4 address: whoever gets as far as
/// looking one of the latter up could not read the embedded address out of it.
const V6: &[(&str, u8)] = &[
    ("::", 128),
    ("::1", 128),
    ("::ffff:0:0", 96),
    ("::ffff:0:0:0", 96),
    ("64:ff9b::", 96),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("100:0:0:1::", 64),
    ("2001::", 32),
    ("2001:1::", 32),
    ("2001:2::", 31),
    ("2001:4::", 30),
    ("2001:8::", 29),
    ("2001:10::", 28),
    ("2001:40::", 26),
    ("2001:80::", 25),
    ("2001:100::", 24),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("3fff::", 20),
    ("5f00::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("fec0::", 10),
    ("ff00::", 8),
];

/// Within those, what is reachable all the same.
const V6_REACHABLE: &[(&str, u8)] =
    &[("2001:1::1", 128), ("2001:1::2", 128), ("2001:1::3", 128), ("2001:3::", 32), ("2001:4:112::", 48)];

/// A run of special addresses, first and last.
pub type Run<A> = (A, A);

/// The special IPv4 addresses, in ascending order; each run lies within one block.
#[must_use]
pub fn v4_runs() -> Vec<Run<u32>> {
    let run = |&(octets, length): &([u8; 4], u8)| {
        let first = u32::from(Ipv4Addr::from(octets));
        (u128::from(first), u128::from(first | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0)))
    };
    let runs = subtract(V4.iter().map(run).collect(), &V4_REACHABLE.iter().map(run).collect::<Vec<_>>());
    runs.into_iter().map(|(first, last)| (first as u32, last as u32)).collect()
}

/// The special IPv6 addresses, in ascending order; each run lies within one block.
#[must_use]
pub fn v6_runs() -> Vec<Run<u128>> {
    let run = |&(text, length): &(&str, u8)| {
        let first = u128::from(text.parse::<Ipv6Addr>().unwrap_or(Ipv6Addr::UNSPECIFIED));
        (first, first | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0))
    };
    subtract(V6.iter().map(run).collect(), &V6_REACHABLE.iter().map(run).collect::<Vec<_>>())
}

/// What IANA gave to the registries (ipv6-unicast-address-assignments), the many small blocks of 2001::/16 as one. Held against a copy
/// of that list of 2019 or later; 2410::/12 is younger than it, and stands here because databases know networks of people in it. To be looked at again
/// when a registry is given more: what is missing here is not counted.
///
/// Several databases fill the rest, which is nobody's, with some country: a share of the address space would be the share of that.
const ALLOCATED: &[(u128, u8)] = &[
    (0x2001_0000, 16),
    (0x2003_0000, 18),
    (0x2400_0000, 11),
    (0x2600_0000, 12),
    (0x2610_0000, 23),
    (0x2620_0000, 23),
    (0x2630_0000, 12),
    (0x2800_0000, 12),
    (0x2a00_0000, 11),
    (0x2c00_0000, 12),
];

/// The same as runs, in ascending order.
#[must_use]
pub fn allocated_v6() -> Vec<Run<u128>> {
    let run = |&(upper, length): &(u128, u8)| (upper << 96, upper << 96 | u128::MAX >> length);
    ALLOCATED.iter().map(run).collect()
}

fn subtract(mut runs: Vec<Run<u128>>, holes: &[Run<u128>]) -> Vec<Run<u128>> {
    for &(hole_first, hole_last) in holes {
        runs = runs
            .into_iter()
            .flat_map(|(first, last)| {
                let is_inside = first <= hole_first && hole_last <= last;
                let before = (is_inside && first < hole_first).then(|| (first, hole_first - 1));
                let after = (is_inside && hole_last < last).then(|| (hole_last + 1, last));
                let whole = (!is_inside).then_some((first, last));
                [whole, before, after].into_iter().flatten()
            })
            .collect();
    }
    runs.sort_unstable();
    runs
}

/// An IPv4 address within an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The address.
    pub address: Ipv4Addr,
    /// What a prefix length within IPv4 grows by within IPv6.
    pub offset: u8,
}

/// The IPv4 address that an IPv6 address stands for: IPv4-mapped (RFC 4291 2.5.5.2), SIIT (RFC 2765 2.1), NAT64
/// (RFC 6052 2.1), 6to4 (RFC 3056 2) and Teredo's client (RFC 4380 4).
///
/// Of a subnet it is that of its first address. One that gives no bit of the IPv4 address (`2002::/16`) so stands for
/// 0.0.0.0, or inverted for 255.255.255.255: addresses that are nobody's and leave the decision to the source address
/// (meaning 3), with a scope that does not reach into those that are somebody's.
#[inline]
#[must_use]
pub fn embedded(address: Ipv6Addr) -> Option<Embedded> {
    let number = u128::from(address);
    let (offset, octets) = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            (96, number as u32)
        }
        [0x2002, ..] => (16, (number >> 80) as u32),
        // The client's address stands inverted.
        [0x2001, 0, ..] => (96, !(number as u32)),
        _ => return None,
    };
    Some(Embedded { address: Ipv4Addr::from(octets), offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn embedded_in(text: &str) -> Option<(String, u8)> {
        embedded(text.parse().unwrap()).map(|found| (found.address.to_string(), found.offset))
    }

    #[test]
    fn the_five_forms_are_read() {
        for text in ["::ffff:198.41.0.4", "::ffff:0:198.41.0.4", "64:ff9b::198.41.0.4"] {
            assert_eq!(embedded_in(text), Some(("198.41.0.4".to_owned(), 96)), "{text}");
        }
        assert_eq!(embedded_in("2002:c629:0004::"), Some(("198.41.0.4".to_owned(), 16)));
        assert_eq!(embedded_in("2001:0:4136:e378:8000:63bf:39d6:fffb"), Some(("198.41.0.4".to_owned(), 96)));
        assert_eq!(embedded_in("2001:db8::1"), None);
        assert_eq!(embedded_in("64:ff9b:1::1"), None);
    }

    #[test]
    fn a_subnet_without_a_bit_of_the_address_stands_for_nobodys() {
        for text in ["2002::", "64:ff9b::", "::ffff:0:0", "2001:0:4136:e378::"] {
            let found = embedded(text.parse().unwrap()).unwrap();
            let number = u32::from(found.address);
            assert!(v4_runs().iter().any(|&(first, last)| (first..=last).contains(&number)), "{text}");
        }
    }

    #[test]
    fn runs_are_in_order_and_apart() {
        assert!(v4_runs().windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(v6_runs().windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    proptest! {
        #[test]
        fn an_address_is_special_just_when_its_longest_block_says_so(near in 0..V4.len(), low in any::<u32>(), bits in 0..33_u32) {
            let base = u32::from(Ipv4Addr::from(V4[near].0));
            let address = base ^ low.checked_shr(bits).unwrap_or(0);
            let covers = |&(octets, length): &([u8; 4], u8)| {
                let shift = 32 - u32::from(length);
                address.checked_shr(shift) == u32::from(Ipv4Addr::from(octets)).checked_shr(shift)
            };
            let expected = V4.iter().any(covers) && !V4_REACHABLE.iter().any(covers);
            prop_assert_eq!(v4_runs().iter().any(|&(first, last)| (first..=last).contains(&address)), expected);
        }
    }
}
