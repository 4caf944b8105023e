//! Listening everywhere: whoever asked one address wants to hear from that one.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use meridian::wire::message::Message;

use crate::server::{ANSWER_TIME, Home, Server, address_in, in_words};
use crate::world::{self, question};

#[test]
fn a_response_leaves_from_the_ipv4_address_that_was_asked() {
    let server = Server::start(listening_on("0.0.0.0:0"));
    for asked in ["127.0.0.5", "127.0.0.1", "127.99.88.77"] {
        assert_answers_from(asked.parse().expect("an address"), server.at.port());
    }
    server.stop();
}

#[test]
fn a_response_leaves_from_the_ipv6_address_that_was_asked() {
    let addresses = own_ipv6_addresses();
    if addresses.is_empty() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let server = Server::start(listening_on("[::]:0"));
    for asked in addresses {
        assert_answers_from(asked.into(), server.at.port());
    }
    server.stop();
}

#[test]
fn both_wildcards_may_share_a_port() {
    if own_ipv6_addresses().is_empty() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let port = free_port();
    let home = world::home();
    home.write("meridian.yaml", format!("listen: [\"0.0.0.0:{port}\", \"[::]:{port}\"]\nworkers: 2\n"));
    let server = Server::start(home);
    let lines = server.process.lines();
    let listening: Vec<SocketAddr> =
        lines.iter().filter(|line| line.contains("listening on")).map(|line| address_in(line)).collect();
    assert_eq!(listening.len(), 2, "{lines:?}");
    assert_answers_from("127.0.0.5".parse().expect("an address"), port);
    assert_answers_from(Ipv6Addr::LOCALHOST.into(), port);
    server.stop();
}

/// Free in both families for TCP, where connections of earlier tests may still be in TIME-WAIT, and for UDP. Whoever takes it
/// before the server does is another test run.
fn free_port() -> u16 {
    let of_tcp = || {
        let listener = TcpListener::bind("[::]:0").expect("a port");
        listener.local_addr().expect("its address").port()
    };
    let is_free_for_udp = |port: &u16| UdpSocket::bind(("::", *port)).is_ok();
    std::iter::repeat_with(of_tcp).find(is_free_for_udp).expect("one of many")
}

fn listening_on(address: &str) -> Home {
    let home = world::home();
    home.write("meridian.yaml", format!("listen: \"{address}\"\nworkers: 2\n"));
    home
}

/// The socket is not connected: the kernel would drop what comes from elsewhere.
#[track_caller]
fn assert_answers_from(asked: IpAddr, port: u16) {
    let anywhere = if asked.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(anywhere).expect("a socket");
    socket.set_read_timeout(Some(ANSWER_TIME)).expect("a time-out can be set");
    let query = question("v.example.com", "TXT").to_wire();
    socket.send_to(&query, (asked, port)).expect("our own addresses have a route");
    let mut response = [0; 4096];
    let (length, from) = socket.recv_from(&mut response).expect("a response");
    assert_eq!(from, SocketAddr::new(asked, port));
    assert_eq!(
        Message::read(&response[..length]).map(|message| in_words(&message)).as_deref(),
        Some("\"1\"")
    );
}

/// All but link-local ones, which mean nothing without their link.
fn own_ipv6_addresses() -> Vec<Ipv6Addr> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let addresses = table.lines().filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok());
    addresses.map(Ipv6Addr::from).filter(|address| !address.is_unicast_link_local()).collect()
}
