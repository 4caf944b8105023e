//! DNS over TLS (RFC 7858).

use meridian::wire::message::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::clients::{
    LOCALHOST, ask_stream, connect_from, ends_within, read_framed, start, tls_over, tls_to, version_query,
};
use crate::server::{PATIENCE, framed, in_words};

#[tokio::test]
async fn dot_is_what_is_spoken() {
    let server = start();
    for (offered, chosen) in [(&["dot"][..], Some(&b"dot"[..])), (&["h2", "dot"], Some(b"dot")), (&[], None)]
    {
        let mut stream = tls_to(server.tls, &server.root, offered).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
        let response = ask_stream(&mut stream, &version_query(7)).await.expect("a response");
        assert_eq!(in_words(&Message::read(&response).expect("well-formed")), "\"1\"");
    }
    assert!(tls_to(server.tls, &server.root, &["h2"]).await.is_err());
    server.server.stop();
}

#[tokio::test]
async fn a_hundred_queries_in_one_go_are_all_answered() {
    let server = start();
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    let queries: Vec<u8> = (0..100).flat_map(|id| framed(&version_query(id))).collect();
    stream.write_all(&queries).await.expect("they are sent");
    // Whoever has nothing more to ask still wants the answers.
    stream.shutdown().await.expect("it is open");
    for id in 0..100 {
        let response = read_framed(&mut stream).await.expect("a response");
        assert_eq!(Message::read(&response).expect("well-formed").id, id);
    }
    assert_eq!(stream.read(&mut [0]).await.expect("it ends in good order"), 0);
    server.server.stop();
}

#[tokio::test]
async fn a_message_that_is_no_query_ends_the_connection() {
    let server = start();
    let mut response = version_query(1);
    response[2] |= 0x80;
    for message in [&response[..], b"", b"short"] {
        let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
        stream.write_all(&framed(message)).await.expect("it is sent");
        assert!(read_framed(&mut stream).await.is_err());
    }
    server.server.stop();
}

#[tokio::test]
async fn a_client_has_sixty_four_connections_and_no_more() {
    let server = start();
    let mut open = Vec::new();
    for _ in 0..64 {
        // A handshake counts.
        open.push(connect_from(LOCALHOST, server.tls).await.expect("a connection"));
    }
    let mut one_too_many = connect_from(LOCALHOST, server.tls).await.expect("the kernel takes it");
    assert!(ends_within(PATIENCE, &mut one_too_many).await);
    let another = connect_from([127, 88, 8, 1].into(), server.tls).await.expect("a connection");
    let mut another = tls_over(another, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut another, &version_query(1)).await.expect("there is room for another client");
    // The limit of one transport is no other's.
    let mut http = crate::clients::Http::to(server.https, &server.root, "h2").await;
    assert_eq!(http.get(&version_query(0)).await.status, 200);
    let first = open.pop().expect("it is open");
    let mut stream = tls_over(first, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &version_query(1)).await.expect("whoever has room is answered");
    server.server.stop();
}

/// Handshakes that break off wherever they may (CVE-2026-12245).
#[tokio::test]
async fn whoever_hangs_up_in_the_handshake_harms_nobody() {
    let server = start();
    let config = crate::clients::client_config(&server.root, &["dot"]);
    let name = tokio_rustls::rustls::pki_types::ServerName::try_from(crate::clients::NAME).expect("a name");
    let mut client = tokio_rustls::rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    for length in (0..hello.len()).step_by(7).chain([hello.len()]) {
        let mut stream = connect_from(LOCALHOST, server.tls).await.expect("a connection");
        stream.write_all(&hello[..length]).await.expect("it is sent");
        drop(stream);
    }
    let mut garbage = connect_from(LOCALHOST, server.tls).await.expect("a connection");
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is sent");
    assert!(ends_within(PATIENCE, &mut garbage).await);
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &version_query(1)).await.expect("a response");
    server.server.stop();
}
