//! The packets of `tests/scenarios/packets` once more, through the sockets: what a datagram and a connection bring is what the name
//! server is asked, and what it says is what comes back.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use meridian::wire::message::Message;

use crate::packet;
use crate::server::{Home, Server, framed, read_framed, tcp_client, udp_client};
use crate::world::question;

/// What is asked after each packet: its answer says that the packet was dealt with.
const NEXT: [u8; 2] = *b"NX";

#[test]
fn odd_packets_are_answered_through_sockets_as_they_are_without() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/packets");
    let mut asked = 0;
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a file is read");
        // Cookies tell the time.
        if !text.contains("policy cookies") {
            asked += ask_all(&text);
        }
    }
    assert!(asked > 250, "{asked}");
}

/// Gives how many.
fn ask_all(scenario: &str) -> usize {
    let steps = steps(scenario);
    let home = Home::new();
    let mut configuration = home.read("meridian.yaml");
    for (head, body) in &steps {
        if let Some(path) = head.strip_prefix("file ") {
            home.write(path, body);
        } else if let Some(nsid) = head.strip_prefix("policy nsid ") {
            configuration += &format!("answers: {{ nsid: {nsid} }}\n");
        }
    }
    home.write("meridian.yaml", configuration);
    let server = Server::start(home);
    let told = mark(&server, 0);
    let packets: Vec<(&str, &String)> =
        steps.iter().filter_map(|(head, body)| Some((head.strip_prefix("packet ")?, body))).collect();
    for (words, expected) in &packets {
        let (over_udp, over_tcp) = expected
            .strip_prefix("over UDP\n")
            .and_then(|both| both.split_once("over TCP\n"))
            .unwrap_or((expected, expected));
        let is_only = |transport| words.ends_with(transport);
        let words = words.split_ascii_whitespace().filter(|word| !matches!(*word, "udp" | "tcp"));
        let packet = packet::build(words).expect("a packet");
        if !is_only(" tcp") {
            assert_eq!(over_udp_came(server.at, &packet), over_udp, "over UDP: {head}", head = hex(&packet));
        }
        if !is_only(" udp") {
            assert_eq!(over_tcp_came(server.at, &packet), over_tcp, "over TCP: {head}", head = hex(&packet));
        }
    }
    assert_eq!(server.status()["counters"]["panics"], 0);
    // Nobody fills a log from afar.
    assert_eq!(mark(&server, told), told + 1, "{:#?}", server.process.lines());
    server.stop();
    packets.len()
}

/// How many lines there are in the log, with one that is written now.
fn mark(server: &Server, earlier: usize) -> usize {
    server.tell(&["reload"]).expect(0);
    let line = server.process.wait_for_line_after(earlier, "nothing is new");
    server.process.lines().iter().rposition(|told| *told == line).expect("it is there") + 1
}

/// Lines, each with what is indented under it.
fn steps(text: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("    "), steps.last_mut()) {
            (Some(inside), Some((_, body))) => *body += &format!("{inside}\n"),
            _ => steps.push((line.to_owned(), String::new())),
        }
    }
    steps
}

fn hex(packet: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&packet[..packet.len().min(200)])
}

/// What is asked after a packet.
fn next() -> Vec<u8> {
    let mut next = question("www.example.com", "A").to_wire();
    next[..2].copy_from_slice(&NEXT);
    next
}

fn over_udp_came(at: SocketAddr, packet: &[u8]) -> String {
    let client = udp_client(at);
    client.socket.send(packet).expect("it is sent");
    client.socket.send(&next()).expect("it is sent");
    let mut response = [0; 65_535];
    let length = client.socket.recv(&mut response).expect("the server answers");
    in_words(&response[..length])
}

fn over_tcp_came(at: SocketAddr, packet: &[u8]) -> String {
    let mut stream = tcp_client(at);
    // The server may close the connection on what is no query.
    let sent = std::io::Write::write_all(&mut stream, &[framed(packet), framed(&next())].concat());
    sent.and_then(|()| read_framed(&mut stream))
        .map_or_else(|_| "no response\n".to_owned(), |response| in_words(&response))
}

fn in_words(response: &[u8]) -> String {
    match Message::read(response) {
        Some(message) if message.id == u16::from_be_bytes(NEXT) => "no response\n".to_owned(),
        Some(message) => packet::print(&message),
        None => format!("not well-formed: {response:02x?}"),
    }
}
