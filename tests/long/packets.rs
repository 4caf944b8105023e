//! The long version of what `system` does in short, and what takes its ten seconds by itself: `cargo test --test packets`.
//!
//! `MERIDIAN_PACKETS=10000000 cargo test --release --test packets a_million` asks ten times as many. With valgrind the same test
//! tells instructions per packet, as the difference between two counts:
//! `MERIDIAN_PACKETS=20000 valgrind --tool=callgrind target/release/deps/packets-* a_million`.

#[path = "../support/geo.rs"]
mod geo;
#[path = "../system/noise.rs"]
mod noise;
#[path = "../support/packet.rs"]
mod packet;
#[path = "../support/question.rs"]
mod question;
#[path = "../support/server.rs"]
mod server;
#[path = "../fuzz/src/lib.rs"]
pub mod targets;
#[path = "../system/world.rs"]
#[allow(dead_code)] // `system` needs all of it
mod world;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use meridian::health::board::Board;
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond};
use meridian::reload::Reloader;
use meridian::wire::message::Message;
use noise::{Numbers, assert_is_unharmed, flood_tcp, flood_udp};
use server::{Server, tcp_client};

#[test]
fn two_hundred_thousand_packets_of_any_octets_harm_nobody() {
    let server = Server::start(world::home());
    let mut numbers = Numbers(0x7061_636b_6574_7321);
    // The first of each kind touches memory that is then used again and again.
    flood_udp(&server, 1000, &mut numbers);
    flood_tcp(server.at, 100, &mut numbers);
    let before = server.process.resident_memory();
    flood_udp(&server, 100_000, &mut numbers);
    flood_tcp(server.at, 100_000, &mut numbers);
    assert_is_unharmed(&server, 200_000, before);
    server.stop();
}

/// Without sockets, where each response can be held against its query.
#[test]
fn a_million_packets_get_what_they_are_owed() {
    let count: u32 =
        std::env::var("MERIDIAN_PACKETS").map_or(1_000_000, |count| count.parse().expect("a number"));
    let home = world::home();
    let mut reloader = Reloader::new(&home.path("zones"), &[home.path("geodb")], None);
    let (snapshot, layout) = reloader.reload(false).snapshot.expect("it loads");
    let board = Board::new(layout);
    let queries = noise::good_queries();
    let mut numbers = Numbers(0x6f64_645f_6f63_7465);
    let mut worker = Worker::default();
    let mut out = vec![0; 65_535];
    let mut dropped = 0;
    let mut rcodes = std::collections::BTreeMap::new();
    for number in 0..count {
        let bytes = noise::packet(&mut numbers, &queries);
        let transport = if number % 4 == 0 { Transport::Tcp } else { Transport::Udp };
        let longest = if transport == Transport::Udp { 1232 } else { out.len() };
        let client = IpAddr::V4(Ipv4Addr::from(number.wrapping_mul(0x9e37_79b9)));
        let request = Request { bytes: &bytes, client, transport, now_ms: 1_559_731_985_000 };
        let outcome = respond(&mut worker, &request, &snapshot, &board, &mut out[..longest]);
        let Outcome::Responded(responded) = outcome else {
            assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0, "dropped: {bytes:02x?}");
            dropped += 1;
            continue;
        };
        let response = &out[..responded.length];
        assert!(bytes.len() >= 12 && bytes[2] & 0x80 == 0, "answered: {bytes:02x?}");
        if let Err(error) = packet::hold_against_the_query(&bytes, response) {
            panic!("{error}: {bytes:02x?} -> {response:02x?}");
        }
        // Without EDNS nobody takes more over UDP (RFC 1035 2.3.4).
        if transport == Transport::Udp && response.len() > 512 {
            assert!(Message::read(response).is_some_and(|message| message.edns.is_some()), "{bytes:02x?}");
        }
        // And as fuzzing does, by a model that reads queries in its own way, for any client and whatever is up.
        let scene = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        targets::respond(&[&scene[..], &bytes].concat());
        *rcodes.entry(responded.rcode.0).or_insert(0_u32) += 1;
    }
    println!("{count} packets: {dropped} dropped, by RCODE {rcodes:?}");
    // Every kind of answer was among them.
    if count >= 1_000_000 {
        for rcode in [0, 1, 3, 4, 5, 9, 16] {
            assert!(rcodes.contains_key(&rcode), "never RCODE {rcode}");
        }
    }
}

#[test]
fn a_connection_without_queries_is_closed_after_ten_seconds() {
    let server = Server::start(world::home());
    let start = Instant::now();
    let mut stream = tcp_client(server.at);
    assert_eq!(stream.read(&mut [0; 16]).expect("it is closed in good order"), 0);
    let took = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&took), "closed after {took:?}");
    server.stop();
}
