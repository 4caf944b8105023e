//! Behind a load balancer that says who asked. Here 127.0.0.1 is one, and other loopback addresses are anybody.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use meridian::transport::proxy;
use meridian::wire::message::Message;
use socket2::{Domain, Socket, Type};

use crate::server::{ANSWER_TIME, PATIENCE, Server, framed, in_words, read_framed, tcp_client};
use crate::world::{self, question};

/// Of whoever asks from Sydney and from Frankfurt.
const SYDNEY: &str = "192.0.2.1";
const FRANKFURT: &str = "192.0.2.102";

fn start() -> Server {
    let home = world::home();
    home.write(
        "meridian.yaml",
        "listen: [{ address: \"127.0.0.1:0\", proxy_from: [127.0.0.1/32, \"2001:db8::/32\"] }]\nworkers: 1\n",
    );
    Server::start(home)
}

fn query() -> Vec<u8> {
    question("www.example.com", "A").to_wire()
}

fn header(source: &str, is_datagram: bool) -> Vec<u8> {
    let source: IpAddr = source.parse().expect("an address");
    let destination: IpAddr = if source.is_ipv4() { [192, 0, 2, 53].into() } else { [0; 16].into() };
    proxy::write((source, 4711).into(), (destination, 53).into(), is_datagram)
}

fn udp_from(local: &str, at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((local, 0)).expect("loopback is ours");
    socket.connect(at).expect("loopback has a route");
    socket.set_read_timeout(Some(ANSWER_TIME)).expect("a time-out can be set");
    socket
}

fn tcp_from(local: [u8; 4], at: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((local, 0)).into()).expect("loopback is ours");
    socket.connect(&at.into()).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket.into()
}

#[track_caller]
fn answer_in_words(response: &[u8]) -> String {
    in_words(&Message::read(response).expect("a response that is well-formed"))
}

/// The next response on a socket, which is that to the next query: what is dropped gets none.
#[track_caller]
fn next_answer(socket: &UdpSocket) -> String {
    let mut response = [0; 4096];
    let length = socket.recv(&mut response).expect("a response");
    answer_in_words(&response[..length])
}

#[track_caller]
fn assert_is_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 16]) {
        Ok(count) => assert_eq!(count, 0, "it is answered"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[track_caller]
fn wait_for_refusals(server: &Server, thread: &str, count: u64) {
    server.wait_for_status("counted", |status| status["transports"][thread]["proxy_refused"] == count);
}

#[test]
fn datagrams_are_answered_as_if_the_source_had_asked() {
    let server = start();
    let proxy = udp_from("127.0.0.1", server.at);
    let send = |parts: &[&[u8]]| proxy.send(&parts.concat()).expect("it is sent");
    for (source, expected) in [("1.1.1.7", SYDNEY), ("9.9.9.7", FRANKFURT), ("::ffff:1.1.1.7", SYDNEY)] {
        for is_datagram in [true, false] {
            send(&[&header(source, is_datagram), &query()]);
            assert_eq!(next_answer(&proxy), expected, "{source}");
        }
    }
    // What is dropped: no header, two, one of version 1, one that is cut, and one without a message behind it.
    let sydney = header("1.1.1.7", true);
    send(&[&query()]);
    send(&[&sydney, &sydney, &query()]);
    send(&[b"PROXY UDP4 1.1.1.7 192.0.2.53 1 53\r\n", &query()]);
    send(&[b"PROXY TCP4 1.1.1.7 192.0.2.53 1 53\r\n", &query()]);
    send(&[&sydney[..20]]);
    send(&[&sydney]);
    send(&[&header("9.9.9.7", true), &query()]);
    assert_eq!(next_answer(&proxy), FRANKFURT);
    wait_for_refusals(&server, "udp-0", 5);

    // Nobody else may.
    let anybody = udp_from("127.88.3.1", server.at);
    anybody.send(&[&sydney[..], &query()].concat()).expect("it is sent");
    anybody.send(&question("v.example.com", "TXT").to_wire()).expect("it is sent");
    assert_eq!(next_answer(&anybody), "\"1\"");
    wait_for_refusals(&server, "udp-0", 6);
    server.stop();
}

#[test]
fn connections_are_answered_as_if_the_source_had_asked() {
    let server = start();
    let line = |text: &str| text.as_bytes().to_vec();
    for (header, expected) in [
        (header("1.1.1.7", false), SYDNEY),
        (header("9.9.9.7", false), FRANKFURT),
        (line("PROXY TCP4 1.1.1.7 192.0.2.53 4711 53\r\n"), SYDNEY),
        (line("PROXY TCP4 9.9.9.7 192.0.2.53 4711 53\r\n"), FRANKFURT),
    ] {
        let mut stream = tcp_client(server.at);
        stream.write_all(&[&header[..], &framed(&query()), &framed(&query())].concat()).expect("it is sent");
        for _ in 0..2 {
            assert_eq!(answer_in_words(&read_framed(&mut stream).expect("a response")), expected);
        }
        // Octet by octet.
        let mut stream = tcp_client(server.at);
        for octet in [&header[..], &framed(&query())].concat() {
            stream.write_all(&[octet]).expect("it is sent");
        }
        assert_eq!(answer_in_words(&read_framed(&mut stream).expect("a response")), expected);
    }
    // Whoever speaks for itself: a health check.
    for header in [line("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), line("PROXY UNKNOWN\r\n")] {
        let mut stream = tcp_client(server.at);
        stream.write_all(&[&header[..], &framed(&query())].concat()).expect("it is sent");
        assert_eq!(Message::read(&read_framed(&mut stream).expect("a response")).expect("one").rcode(), 0);
    }
    server.stop();
}

#[test]
fn connections_that_break_the_rule_are_closed() {
    let server = start();
    let sydney = header("1.1.1.7", false);
    let refused = [framed(&query()), [&sydney[..], &sydney, &framed(&query())].concat(), vec![b'\r'; 12]];
    for bytes in &refused {
        let mut stream = tcp_client(server.at);
        stream.write_all(bytes).expect("it is sent");
        assert_is_closed(&mut stream);
    }
    for bytes in [&[&sydney[..], &framed(&query())].concat()[..], b"PROXY TCP4 1.1.1.7 1.1.1.7 1 1\r\n"] {
        let mut stream = tcp_from([127, 88, 3, 1], server.at);
        stream.write_all(bytes).expect("it is sent");
        assert_is_closed(&mut stream);
    }
    wait_for_refusals(&server, "tcp", 5);
    // Nobody else has to.
    let mut stream = tcp_from([127, 88, 3, 1], server.at);
    stream.write_all(&framed(&query())).expect("it is sent");
    assert!(read_framed(&mut stream).is_ok());

    // A header has as much time as a message.
    let mut stream = tcp_client(server.at);
    stream.write_all(&sydney[..20]).expect("it is sent");
    let start = Instant::now();
    assert_is_closed(&mut stream);
    let took = start.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_secs(4)).contains(&took), "cut off after {took:?}");
    server.stop();
}

/// Not those of the balancer, from where all of them come.
#[test]
fn the_limits_are_those_of_who_asked() {
    let server = start();
    let connect = |source: &str| {
        let mut stream = tcp_client(server.at);
        stream.write_all(&[&header(source, false)[..], &framed(&query())].concat()).expect("it is sent");
        read_framed(&mut stream).map(|_| stream)
    };
    let mut held = Vec::new();
    for number in 0..80 {
        held.push(connect(&format!("198.51.100.{number}")).expect("there is room for another client"));
    }
    for number in 0..64 {
        let connection = connect("1.1.1.7");
        held.push(connection.unwrap_or_else(|error| panic!("{error} after {number}")));
    }
    assert!(connect("1.1.1.7").is_err());
    assert!(connect("::ffff:1.1.1.7").is_err());
    assert!(connect("1.1.1.8").is_ok());
    assert!(connect("::ffff:1.1.1.8").is_ok());
    server.stop();
}
