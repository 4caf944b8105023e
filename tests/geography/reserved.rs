//! Meanings 2 and 3 in the compiled table: what is not globally reachable, or stands for an IPv4 address, is never
//! looked up, whatever a database claims.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use meridian::catchment::compile::compile;
use meridian::geo::special::{v4_runs, v6_runs};
use meridian::geo::{Databases, Place};
use meridian::site::{RuleAction, Service};
use tempfile::TempDir;

use crate::support::{
    Mmdb, address, compile_and_compare, country, ip, look_up, map, open_one, ranking, services, special, text,
};

/// A database that claims to know every address there is.
fn know_all() -> (TempDir, Databases) {
    let record = map([("country_code", text("AU"))]);
    open_one(
        &Mmdb::v6()
            .with("::/1", &record)
            .with("8000::/1", &record)
            .with("0.0.0.0/1", &record)
            .with("128.0.0.0/1", &record),
    )
}

const RESERVED: [&str; 46] = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "169.254.1.1",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.11",
    "192.0.2.1",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.255",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:1.1.1.1",
    "::ffff:0:1.1.1.1",
    "64:ff9b::1.1.1.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:ffff::",
    "2001:1::",
    "2001:1::4",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:101:101::1",
    "2002:ffff:ffff::",
    "3fff::1",
    "3fff:fff:ffff::",
    "5f00::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "ff02::1",
];

const REACHABLE: [&str; 24] = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.1.0",
    "192.88.99.1",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:1::1",
    "2001:3::1",
    "2001:4:112::1",
    "2001:200::1",
    "2003::1",
    "3ffe::1",
    "3fff:1000::",
];

#[test]
fn reserved_addresses_are_not_looked_up() {
    let (_folder, databases) = know_all();
    let services = services();
    let catchments = compile(&services, &databases);
    for address in RESERVED.map(ip) {
        let found = ranking(&catchments, 0, address);
        assert!(found.special, "{address}");
        // No place at all: the order as written (meaning 6).
        assert_eq!(found.exact, (0..24).collect::<Vec<u16>>(), "{address}");
    }
}

#[test]
fn their_neighbours_are() {
    let (_folder, databases) = know_all();
    let catchments = compile(&services(), &databases);
    for address in REACHABLE.map(ip) {
        let found = ranking(&catchments, 1, address);
        assert!(!found.special, "{address}");
        assert_eq!(found.exact.first(), Some(&3), "{address}: the rule for AU");
    }
}

#[test]
fn each_reserved_block_ends_just_where_it_ends() {
    let (_folder, databases) = know_all();
    let v4 = v4_runs().into_iter().map(|(first, last)| (u128::from(first), u128::from(last)));
    let v6 = v6_runs().into_iter();
    let mut addresses = Vec::new();
    for (runs, is_v6, end) in
        [(v4.collect::<Vec<_>>(), false, u128::from(u32::MAX)), (v6.collect(), true, u128::MAX)]
    {
        for (first, last) in runs {
            let around = [first.saturating_sub(1), first, first + (last - first) / 2, last];
            addresses.extend(around.map(|number| address(number, is_v6)));
            addresses.push(address(last.saturating_add(1).min(end), is_v6));
        }
    }
    let catchments = compile_and_compare(&databases, &addresses);
    for &address in &addresses {
        assert_eq!(ranking(&catchments, 0, address).special, special(address) != 0, "{address}");
    }
}

#[test]
fn the_scope_of_a_reserved_address_stays_within_its_block() {
    let (_folder, databases) = know_all();
    let catchments = compile(&services(), &databases);
    for (text, length) in [
        ("10.1.2.3", 8),
        ("100.64.0.1", 10),
        ("127.0.0.1", 8),
        ("192.0.2.1", 24),
        // What is reachable leaves a hole: .8 stands alone beside it.
        ("192.0.0.8", 32),
        ("192.0.0.1", 29),
        // Adjacent, and each a block of its own.
        ("224.0.0.1", 4),
        ("240.0.0.1", 4),
        ("fc00::1", 7),
        ("fe80::1", 10),
        ("2001:db8::1", 32),
        ("2002:101:101::", 16),
        ("2001:0:1::", 32),
        ("::1", 128),
        ("64:ff9b::1.1.1.1", 96),
    ] {
        assert_eq!(look_up(&catchments, 0, ip(text)).prefix_length, length, "{text}");
    }
}

#[test]
fn a_subnet_rule_may_name_a_reserved_block() {
    let (_folder, databases) = know_all();
    let mut service = Service::clone(&services()[1]);
    let subnets = ["10.1.0.0/16", "fd00::/8"].map(|subnet| subnet.parse().expect("a subnet"));
    service.rules[0].subnets = subnets.into();
    service.rules[0].subdivisions.clear();
    service.rules[0].asns.clear();
    service.rules[0].action = RuleAction::Sites { sites: vec![7], only: false };
    let catchments = compile(&[Arc::new(service)], &databases);
    for (text, is_named) in [("10.1.2.3", true), ("10.2.0.0", false), ("fd00::1", true), ("fc00::1", false)] {
        let found = ranking(&catchments, 0, ip(text));
        assert_eq!(
            (found.special, found.exact.first()),
            (!is_named, Some(if is_named { &7 } else { &0 })),
            "{text}"
        );
    }
    assert_eq!(look_up(&catchments, 0, ip("10.1.2.3")).prefix_length, 16);
    assert_eq!(look_up(&catchments, 0, ip("10.2.2.3")).prefix_length, 15);
}

#[test]
fn ipv6_that_nobody_was_given_is_not_looked_up() {
    let (_folder, databases) = know_all();
    let addresses: [IpAddr; 5] = ["::2", "1fff::1", "4000::1", "8000::1", "a000::1"].map(ip);
    for address in addresses {
        assert_eq!(databases.locate(address), Place::default(), "{address}");
    }
    compile_and_compare(&databases, &addresses);
    assert_eq!(databases.locate(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).into()).country, country("AU"));
}
