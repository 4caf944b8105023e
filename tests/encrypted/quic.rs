//! DNS over QUIC (RFC 9250).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian::wire::message::Message;
use quinn::{ConnectionError, ReadError, ReadToEndError};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::clients::{LOCALHOST, NAME, ask_quic, close_code, quic_client, quic_to, start, version_query};
use crate::question::Question;
use crate::server::{PATIENCE, framed, in_words};
use crate::world::question;

const DOQ_PROTOCOL_ERROR: u8 = 2;

#[tokio::test]
async fn doq_is_what_is_spoken() {
    let server = start();
    let connection = quic_to(server.quic, &server.root).await;
    let handshake = connection.handshake_data().expect("it is over");
    let handshake = handshake.downcast::<quinn::crypto::rustls::HandshakeData>().expect("of rustls");
    assert_eq!(handshake.protocol.as_deref(), Some(&b"doq"[..]));
    let response = ask_quic(&connection, &version_query(0)).await.expect("a response");
    let response = Message::read(&response).expect("well-formed");
    assert_eq!((response.id, in_words(&response).as_str()), (0, "\"1\""));
    for others in [&["h3"][..], &[]] {
        let endpoint = quic_client(LOCALHOST, &server.root, others);
        assert!(endpoint.connect(server.quic, NAME).expect("a connection").await.is_err(), "{others:?}");
    }
    server.server.stop();
}

/// What must not be on a stream (RFC 9250 4.3.3).
#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_so() {
    let server = start();
    let keepalive = Question { options: vec![(11, Vec::new())], ..question("v.example.com", "TXT") };
    let mut keepalive = keepalive.to_wire();
    keepalive[..2].fill(0);
    let query = framed(&version_query(0));
    let wrong = [
        ("an ID", framed(&version_query(1))),
        ("two queries", query.repeat(2)),
        ("an octet more", [&query[..], b"x"].concat()),
        ("no end", query[..query.len() - 1].to_vec()),
        ("half a length", vec![0]),
        ("nothing", Vec::new()),
        ("edns-tcp-keepalive", framed(&keepalive)),
    ];
    for (what, octets) in wrong {
        let connection = quic_to(server.quic, &server.root).await;
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&octets).await.expect("it is sent");
        send.finish().expect("it is open");
        assert_eq!(close_code(&connection).await, DOQ_PROTOCOL_ERROR.into(), "{what}");
    }
    server.server.stop();
}

#[tokio::test]
async fn a_message_that_is_no_query_costs_its_stream_alone() {
    let server = start();
    let connection = quic_to(server.quic, &server.root).await;
    let mut response = version_query(0);
    response[2] |= 0x80;
    for message in [&response[..], b""] {
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&framed(message)).await.expect("it is sent");
        send.finish().expect("it is open");
        let error = recv.read_to_end(100).await.expect_err("there is no response");
        assert_eq!(error, ReadToEndError::Read(ReadError::Reset(1_u8.into())));
    }
    ask_quic(&connection, &version_query(0)).await.expect("a response on another stream");
    server.server.stop();
}

#[tokio::test]
async fn a_hundred_streams_at_a_time_and_no_more() {
    let server = start();
    let connection = quic_to(server.quic, &server.root).await;
    let query = framed(&version_query(0));
    let mut streams = Vec::new();
    for _ in 0..100 {
        let (mut send, recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&query).await.expect("it is sent");
        streams.push((send, recv));
    }
    assert!(timeout(Duration::from_millis(200), connection.open_bi()).await.is_err());
    assert!(timeout(Duration::from_millis(200), connection.open_uni()).await.is_err());
    // All of them are answered, the last one first.
    for (send, recv) in streams.iter_mut().rev() {
        send.finish().expect("it is open");
        let response = timeout(PATIENCE, recv.read_to_end(1000)).await.expect("in time").expect("a response");
        assert_eq!(in_words(&Message::read(&response[2..]).expect("well-formed")), "\"1\"");
    }
    timeout(PATIENCE, connection.open_bi()).await.expect("there is room").expect("a stream");
    server.server.stop();
}

/// What is sent before a handshake could be sent again by anybody (RFC 9250 4.5).
#[tokio::test]
async fn nothing_is_heard_before_a_handshake() {
    let server = start();
    let endpoint = quic_client(LOCALHOST, &server.root, &["doq"]);
    for _ in 0..2 {
        let connecting = endpoint.connect(server.quic, NAME).expect("a connection");
        let Err(connecting) = connecting.into_0rtt() else { panic!("there is 0-RTT") };
        let connection = connecting.await.expect("a handshake");
        ask_quic(&connection, &version_query(0)).await.expect("a response");
        connection.close(0_u8.into(), b"");
    }
    server.server.stop();
}

#[tokio::test]
async fn a_client_has_sixty_four_connections_and_no_more() {
    let server = start();
    let endpoint = quic_client(LOCALHOST, &server.root, &["doq"]);
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(endpoint.connect(server.quic, NAME).expect("a connection").await.expect("there is room"));
    }
    match endpoint.connect(server.quic, NAME).expect("a connection").await {
        Err(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        }
        other => panic!("{other:?}"),
    }
    let another = quic_client([127, 88, 8, 1].into(), &server.root, &["doq"]);
    let another = another.connect(server.quic, NAME).expect("a connection").await.expect("there is room");
    ask_quic(&another, &version_query(0)).await.expect("a response");
    // Room that is given back is room.
    open.pop().expect("it is open").close(0_u8.into(), b"");
    let again = async { while endpoint.connect(server.quic, NAME).expect("a connection").await.is_err() {} };
    timeout(PATIENCE, again).await.expect("room is given back");
    server.server.stop();
}

/// Passes packets on, and sees whether the server answered with a Retry (RFC 9000 17.2.5).
async fn relay(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let socket = UdpSocket::bind((LOCALHOST, 0)).await.expect("a socket");
    let at = socket.local_addr().expect("it is bound");
    let has_retry = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_retry);
    tokio::spawn(async move {
        let mut client = None;
        let mut packet = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let next = if from == to { client } else { Some(to) };
            if from == to {
                seen.fetch_or(packet[0] & 0xf0 == 0xf0, Ordering::Relaxed);
            } else {
                client = Some(from);
            }
            if let Some(next) = next {
                let _ = socket.send_to(&packet[..length], next).await;
            }
        }
    });
    (at, has_retry)
}

#[tokio::test]
async fn whoever_has_many_connections_proves_its_address_before_the_next() {
    let server = start();
    let endpoint = quic_client(LOCALHOST, &server.root, &["doq"]);
    let mut open = Vec::new();
    for count in 0..12 {
        let (at, has_retry) = relay(server.quic).await;
        let connection = endpoint.connect(at, NAME).expect("a connection").await.expect("a handshake");
        ask_quic(&connection, &version_query(0)).await.expect("a response");
        assert_eq!(has_retry.load(Ordering::Relaxed), count >= 8, "with {count} connections");
        open.push(connection);
    }
    server.server.stop();
}
