//! The long version of what `system` does in short, and what takes its ten seconds by itself: `cargo test --test packets`.

#[path = "../support/geo.rs"]
mod geo;
#[path = "../system/noise.rs"]
mod noise;
#[path = "../support/question.rs"]
mod question;
#[path = "../support/server.rs"]
mod server;
#[path = "../system/world.rs"]
#[allow(dead_code)] // `system` needs all of it
mod world;

use std::io::Read;
use std::time::{Duration, Instant};

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
