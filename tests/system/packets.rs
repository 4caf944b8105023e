//! Packets of any octets: whatever they are, the next client is answered. Many more: `cargo test --test packets`.

use crate::noise::{Numbers, assert_is_unharmed, flood_tcp, flood_udp};
use crate::server::Server;
use crate::world;

#[test]
fn packets_of_any_octets_harm_nobody() {
    let server = Server::start(world::home());
    let mut numbers = Numbers(0x6d65_7269_6469_616e);
    // The first of each kind touches memory that is then used again and again.
    flood_udp(&server, 1000, &mut numbers);
    flood_tcp(server.at, 100, &mut numbers);
    let before = server.process.resident_memory();
    flood_udp(&server, 20_000, &mut numbers);
    flood_tcp(server.at, 2_000, &mut numbers);
    assert_is_unharmed(&server, 22_000, before);
    server.stop();
}
