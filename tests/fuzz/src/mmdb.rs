//! A geo database: opened, asked, walked whole for catchments. A damaged file may be refused or give less; it must not
//! panic, and it must not take long.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use meridian::catchment::compile::compile;
use meridian::finding::Findings;
use meridian::geo::Databases;

use super::scratch::Scratch;
use super::world;

/// Of a few kilobytes, on a machine that has other things to do; libFuzzer's own limit is for everything else.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static FILE: Scratch = Scratch::new("mmdb");
}

/// No panic, in bounded time; what is said of an address is about a network that holds it.
///
/// # Panics
/// When that does not hold.
pub fn mmdb(bytes: &[u8]) {
    FILE.with(|file| {
        let start = Instant::now();
        let mut findings = Findings::new();
        let databases = Databases::open(&[file.write(bytes).to_owned()], &mut findings);
        let _ = (findings.to_string(), databases.about());
        assert_eq!(databases.is_empty(), findings.has_errors());
        if databases.is_empty() {
            return;
        }
        for address in world::addresses() {
            for found in databases.matches(address) {
                let network = found.network;
                assert!(network.contains(address), "{network} does not hold {address}");
            }
            let place = databases.locate(address);
            let _ = (place.point(), place.continent());
        }
        let catchments = compile(world::services(), &databases);
        for address in world::addresses() {
            let catch = match address {
                IpAddr::V4(address) => catchments.lookup_v4(0, address),
                IpAddr::V6(address) => catchments.lookup_v6(0, address),
            };
            let _ = catchments.ranking(0, catch.ranking);
        }
        let _ = databases.damaged();
        assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
    });
}
