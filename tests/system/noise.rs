//! Octets that nobody would send who means well: at random, and queries with a few octets changed.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use meridian::wire::message::Message;

use crate::packet;
use crate::question::Question;
use crate::server::{Server, UdpClient, framed, in_words, read_framed, tcp_client, udp_client};
use crate::world::{question, question_from};

/// So many packets, then a query whose answer says that all of them were dealt with: none is lost in a full buffer.
const BATCH: usize = 20;

/// The same on every machine (xorshift).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Queries of every kind, to be mutated.
pub(crate) fn good_queries() -> Vec<Vec<u8>> {
    let plain = |name: &str, rtype: &str| question(name, rtype);
    let questions = [
        plain("v.example.com", "TXT"),
        plain("www.example.com", "A"),
        plain("nowhere.example.com", "AAAA"),
        plain("example.com", "ANY"),
        plain("example.net", "A"),
        question_from("www.example.com", "A", "1.1.1.0/24"),
        question_from("www.example.com", "A", "2001:db8::/56"),
        Question { payload: Some(512), dnssec_ok: true, ..plain("example.org", "SOA") },
        Question { options: vec![(10, vec![7; 8]), (3, Vec::new())], ..plain("v.example.org", "TXT") },
        Question { opcode: 4, ..plain("example.com", "SOA") },
        Question { version: 1, payload: Some(1232), ..plain("example.com", "NS") },
    ];
    let mut queries: Vec<Vec<u8>> = questions.iter().map(Question::to_wire).collect();
    let signed = "0000:1,0,0,1 v.example.com. TXT IN key. TSIG ANY 00000000 0017 \
                  016100000000000001012c000411223344494400000000";
    let signed = signed.split_ascii_whitespace();
    queries.push(packet::build(signed).expect("a query"));
    queries
}

/// Every third packet is noise from end to end, the others almost are queries.
pub(crate) fn packet(numbers: &mut Numbers, queries: &[Vec<u8>]) -> Vec<u8> {
    if numbers.below(3) == 0 {
        let length = match numbers.below(20) {
            0 => numbers.below(5000),
            _ => numbers.below(80),
        };
        return (0..length).map(|_| numbers.next() as u8).collect();
    }
    let mut packet = queries[numbers.below(queries.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(packet.len());
        match numbers.below(5) {
            0 => packet.truncate(at),
            1 => packet.insert(at, numbers.next() as u8),
            2 => packet.extend_from_within(at..),
            _ if packet.is_empty() => {}
            3 => packet[at] ^= 1 << numbers.below(8),
            _ => packet[at] = [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff][numbers.below(7)],
        }
    }
    packet.truncate(9000);
    packet
}

/// Sends packets over UDP; whatever comes back must be a response.
pub(crate) fn flood_udp(server: &Server, count: usize, numbers: &mut Numbers) {
    let queries = good_queries();
    // Several sockets reach all threads of the server.
    let clients: Vec<UdpClient> = (0..4).map(|_| udp_client(server.at)).collect();
    for batch in 0..count / BATCH {
        let index = batch % clients.len();
        let client = &clients[index];
        for _ in 0..BATCH {
            // The kernel may refuse one that is too long; that is no matter here.
            let _ = client.socket.send(&packet(numbers, &queries));
        }
        assert_still_answers(client, batch as u16 | 0x8000);
    }
}

/// No other packet has this ID, but by chance: that is why the answer is looked at as well.
fn assert_still_answers(client: &UdpClient, id: u16) {
    let mut query = question("v.example.com", "TXT").to_wire();
    query[..2].copy_from_slice(&id.to_be_bytes());
    client.socket.send(&query).expect("it is sent");
    let mut response = [0; 65_535];
    loop {
        let length = client.socket.recv(&mut response).expect("the server answers");
        let message = Message::read(&response[..length]);
        let message = message.unwrap_or_else(|| panic!("not well-formed: {:02x?}", &response[..length]));
        assert_eq!(message.flags >> 15, 1, "a query came back");
        if message.id == id && in_words(&message) == "\"1\"" {
            return;
        }
    }
}

/// Sends messages over TCP, several on a connection for as long as the server bears with it.
pub(crate) fn flood_tcp(at: SocketAddr, count: usize, numbers: &mut Numbers) {
    let queries = good_queries();
    let mut stream = tcp_client(at);
    for _ in 0..count {
        if send_and_read(&mut stream, &packet(numbers, &queries)).is_err() {
            stream = tcp_client(at);
        }
    }
}

/// # Errors
/// The server ended the connection.
fn send_and_read(stream: &mut TcpStream, packet: &[u8]) -> std::io::Result<()> {
    stream.write_all(&framed(packet))?;
    let response = read_framed(stream)?;
    assert!(Message::read(&response).is_some(), "not well-formed: {response:02x?}");
    Ok(())
}

/// That the server is as well as before: it took note of everything, nothing panicked, and it grew by less than 10 MB.
pub(crate) fn assert_is_unharmed(server: &Server, sent: u64, memory_before: u64) {
    let counters = &server.status()["counters"];
    let counted = ["udp_queries", "tcp_queries"].map(|name| counters[name].as_u64().expect("a number"));
    assert!(counted.iter().sum::<u64>() >= sent, "{counters}");
    assert_eq!(counters["panics"], 0);
    let memory = server.process.resident_memory();
    assert!(memory < memory_before + 10_000, "{memory_before} KiB became {memory} KiB");
}
