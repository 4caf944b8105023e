//! What is the same over every transport.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use meridian::wire::message::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::clients::{
    Encrypted, Http, LOCALHOST, NAME, PREFACE, ask_quic, ask_stream, connect_from, ends_within, home,
    http2_frame, quic_client, quic_client_config, quic_to, start, start_in, start_with_large, tls_over,
    tls_to, version_query,
};
use crate::question::Question;
use crate::server::{PATIENCE, in_words, read_framed, tcp_client};
use crate::world::{question, question_from};

/// The response to a query over each of the transports.
async fn ask_all(server: &Encrypted, client: IpAddr, query: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let Encrypted { tls, quic, https, root, .. } = server;
    let stream = connect_from(client, *tls).await.expect("a connection");
    let mut stream = tls_over(stream, root, &["dot"]).await.expect("a handshake");
    let over_tls = ask_stream(&mut stream, query).await.expect("a response over TLS");
    let endpoint = quic_client(client, root, &["doq"]);
    let connection = endpoint.connect(*quic, NAME).expect("a connection").await.expect("a handshake");
    let over_quic = ask_quic(&connection, query).await.expect("a response over QUIC");
    let mut responses = vec![("TLS", over_tls), ("QUIC", over_quic)];
    for protocol in ["http/1.1", "h2"] {
        let stream = connect_from(client, *https).await.expect("a connection");
        let mut http = Http::over(stream, root, protocol).await;
        for came in [http.get(query).await, http.post(query).await] {
            assert_eq!(came.status, 200);
            responses.push((protocol, came.body));
        }
    }
    responses
}

/// RFC 9250 4.2.1 and RFC 8484 4.1 want 0.
fn to_wire(question: &Question) -> Vec<u8> {
    let mut query = question.to_wire();
    query[..2].fill(0);
    query
}

#[tokio::test]
async fn answers_are_the_same_over_every_transport() {
    let server = start_with_large();
    let mut questions = vec![
        question("v.example.com", "TXT"),
        question("large.example.com", "TXT"),
        question("nowhere.example.com", "A"),
        question("example.com", "MX"),
        question("example.net", "A"),
        question("v.example.org", "TXT"),
        question_from("www.example.com", "A", "9.9.9.0/24"),
    ];
    questions.push(Question { opcode: 4, ..question("example.com", "SOA") });
    questions.push(Question { version: 1, payload: Some(1232), ..question("example.com", "SOA") });
    for question in questions {
        let query = to_wire(&question);
        let mut stream = tcp_client(server.server.at);
        stream.write_all(&crate::server::framed(&query)).expect("it is sent");
        let over_tcp = read_framed(&mut stream).expect("a response over TCP");
        for (transport, response) in ask_all(&server, LOCALHOST, &query).await {
            assert_eq!(Message::read(&response), Message::read(&over_tcp), "{question:?} over {transport}");
            assert_eq!(response, over_tcp, "{question:?} over {transport}");
        }
    }
    server.server.stop();
}

/// RFC 8467 4.1.
#[tokio::test]
async fn whoever_asks_for_padding_gets_468_octets() {
    const PADDING: u16 = 12;
    let server = start();
    let query =
        to_wire(&Question { options: vec![(PADDING, Vec::new())], ..question("v.example.com", "TXT") });
    for (transport, response) in ask_all(&server, LOCALHOST, &query).await {
        assert_eq!(response.len(), 468, "over {transport}");
        assert_eq!(in_words(&Message::read(&response).expect("well-formed")), "\"1\"");
    }
    // Nor does anybody get it who did not.
    let query = to_wire(&Question { payload: Some(1232), ..question("v.example.com", "TXT") });
    for (transport, response) in ask_all(&server, LOCALHOST, &query).await {
        assert!(response.len() < 100, "over {transport}");
    }
    server.server.stop();
}

#[tokio::test]
async fn who_asks_is_whose_answer_it_is() {
    let (home, root) = home();
    home.replace(
        "zones/sites.yaml",
        "{ sites: [syd, fra, iad] }",
        "{ sites: [syd, fra, iad], rules: [{ subnet: 127.88.5.0/24, sites: [iad] }] }",
    );
    let server = start_in(home, root);
    for (client, site) in [([127, 88, 5, 1], "192.0.2.103"), ([127, 88, 6, 1], "192.0.2.1")] {
        let query = to_wire(&question("www.example.com", "A"));
        for (transport, response) in ask_all(&server, client.into(), &query).await {
            assert_eq!(
                in_words(&Message::read(&response).expect("well-formed")),
                site,
                "{client:?} over {transport}"
            );
        }
    }
    server.server.stop();
}

#[tokio::test]
async fn a_proxy_tells_who_asks_before_the_handshake() {
    let (home, root) = home();
    home.replace("meridian.yaml", "key: k.pem } }", "key: k.pem }, proxy_from: 127.88.7.1 }");
    // Not over QUIC.
    home.replace(
        "meridian.yaml",
        "quic: { certificate: c.pem, key: k.pem }, proxy_from: 127.88.7.1 }",
        "quic: { certificate: c.pem, key: k.pem } }",
    );
    home.replace(
        "zones/sites.yaml",
        "{ sites: [syd, fra, iad] }",
        "{ sites: [syd, fra, iad], rules: [{ subnet: 203.0.113.0/24, sites: [iad] }] }",
    );
    let server = start_in(home, root);
    let query = to_wire(&question("www.example.com", "A"));
    let through_proxy = async |at: SocketAddr| {
        let mut stream = connect_from([127, 88, 7, 1].into(), at).await.expect("a connection");
        stream.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.53 4711 853\r\n").await.expect("it is sent");
        stream
    };
    let mut stream =
        tls_over(through_proxy(server.tls).await, &server.root, &["dot"]).await.expect("a handshake");
    let response = ask_stream(&mut stream, &query).await.expect("a response");
    assert_eq!(in_words(&Message::read(&response).expect("well-formed")), "192.0.2.103");
    let mut http = Http::over(through_proxy(server.https).await, &server.root, "h2").await;
    let response = http.get(&query).await.body;
    assert_eq!(in_words(&Message::read(&response).expect("well-formed")), "192.0.2.103");
    // Whoever is no proxy speaks for itself.
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    let response = ask_stream(&mut stream, &query).await.expect("a response");
    assert_eq!(in_words(&Message::read(&response).expect("well-formed")), "192.0.2.1");
    server.server.stop();
}

/// All at the same time, for the sake of whoever waits for the tests.
#[tokio::test]
async fn whoever_takes_too_long_is_sent_away() {
    let server = start_with_large();
    tokio::join!(
        whoever_takes_nothing_gets_no_more_than_is_bounded(&server),
        idle_ends_after_ten_seconds(&server),
        a_handshake_takes_five_seconds_at_most(&server),
        a_message_takes_two_seconds_at_most(&server),
    );
    server.server.stop();
}

/// What keeps a connection is questions that are answered: no ping, no request for something else, and no part of one.
async fn idle_ends_after_ten_seconds(server: &Encrypted) {
    let Encrypted { tls, quic, https, root, .. } = server;
    let start = Instant::now();
    let over_tls = async {
        let mut stream = tls_to(*tls, root, &["dot"]).await.expect("a handshake");
        ask_stream(&mut stream, &version_query(1)).await.expect("a response");
        // In good order: with a farewell of TLS's, without which this is an error.
        let ended = timeout(PATIENCE, stream.read(&mut [0])).await.expect("it ends");
        assert_eq!(ended.expect("a farewell"), 0);
        start.elapsed()
    };
    let over_quic = async {
        let connection = quic_to(*quic, root).await;
        ask_quic(&connection, &version_query(0)).await.expect("a response");
        let pings = async {
            while connection.close_reason().is_none() {
                // A stream on which nothing comes is as little as a ping.
                let _ = connection.open_bi().await.map(|(mut send, _)| send.reset(3_u8.into()));
                sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(PATIENCE, pings).await.expect("it ends");
        start.elapsed()
    };
    let over_http2 = async {
        let mut http = Http::to(*https, root, "h2").await;
        assert_eq!(http.get(&version_query(0)).await.status, 200);
        let others = async {
            while http.send(crate::clients::get("/favicon.ico")).await.is_ok() {
                sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(PATIENCE, others).await.expect("it ends");
        start.elapsed()
    };
    let over_http1 = async {
        let mut stream = tls_to(*https, root, &["http/1.1"]).await.expect("a handshake");
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let drip = async {
            for octet in b"GET /dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB HTTP/1.1\r\n" {
                if write.write_all(&[*octet]).await.is_err() || write.flush().await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            () = drip => panic!("it is never sent away"),
            ended = ends_within(PATIENCE, &mut read) => assert!(ended),
        }
        start.elapsed()
    };
    let (tls, quic, http2, http1) = tokio::join!(over_tls, over_quic, over_http2, over_http1);
    for (transport, took) in [("TLS", tls), ("QUIC", quic), ("HTTP/2", http2), ("HTTP/1.1", http1)] {
        let is_right = (Duration::from_secs(9)..Duration::from_secs(13)).contains(&took);
        assert!(is_right, "{transport} ended after {took:?}");
    }
}

async fn a_handshake_takes_five_seconds_at_most(server: &Encrypted) {
    let start = Instant::now();
    let mut streams = Vec::new();
    for at in [server.tls, server.https] {
        for beginning in [&b""[..], b"\x16\x03\x01\x02\x00", b"\x16"] {
            let mut stream = connect_from(LOCALHOST, at).await.expect("a connection");
            stream.write_all(beginning).await.expect("it is sent");
            streams.push(stream);
        }
    }
    // They keep nobody waiting.
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &version_query(1)).await.expect("a response");
    assert!(start.elapsed() < Duration::from_secs(2));
    for mut stream in streams {
        assert!(ends_within(PATIENCE, &mut stream).await);
    }
    let took = start.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(8)).contains(&took), "they ended after {took:?}");
}

async fn a_message_takes_two_seconds_at_most(server: &Encrypted) {
    let start = Instant::now();
    let over_tls = async {
        let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
        stream.write_all(&[0, 30, 1, 2]).await.expect("it is sent");
        stream.flush().await.expect("it is sent");
        assert!(ends_within(PATIENCE, &mut stream).await);
    };
    let over_quic = async {
        let connection = quic_to(server.quic, &server.root).await;
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&[0, 30, 0, 0]).await.expect("it is sent");
        // DOQ_EXCESSIVE_LOAD, of this stream alone.
        let error = recv.read_to_end(100).await.expect_err("there is no response");
        assert_eq!(error, quinn::ReadToEndError::Read(quinn::ReadError::Reset(4_u8.into())));
        ask_quic(&connection, &version_query(0)).await.expect("a response on another stream");
    };
    let over_https = async {
        let mut stream = tls_to(server.https, &server.root, &["http/1.1"]).await.expect("a handshake");
        let head = b"POST /dns-query HTTP/1.1\r\nhost: a\r\ncontent-type: application/dns-message\r\ncontent-length: 30\r\n\r\n12";
        stream.write_all(head).await.expect("it is sent");
        let mut came = [0; 12];
        stream.read_exact(&mut came).await.expect("a response");
        assert_eq!(&came, b"HTTP/1.1 408");
    };
    tokio::join!(over_tls, over_quic, over_https);
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "they ended after {took:?}");
}

/// Twenty connections of a hundred large responses each would be 100 MB, were all of them made at once.
async fn whoever_takes_nothing_gets_no_more_than_is_bounded(server: &Encrypted) {
    let Encrypted { quic, https, root, .. } = server;
    let query = to_wire(&question("large.example.com", "TXT"));
    let path = format!("/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(&query));
    let client: IpAddr = [127, 88, 9, 1].into();
    let before = server.server.process.resident_memory();
    let start = Instant::now();

    // SETTINGS_INITIAL_WINDOW_SIZE 0: responses may be made, and not be sent.
    let mut over_http2 = Vec::new();
    for _ in 0..20 {
        let stream = connect_from(client, *https).await.expect("a connection");
        let mut stream = tls_over(stream, root, &["h2"]).await.expect("a handshake");
        let mut octets = PREFACE.to_vec();
        octets.extend(http2_frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
        let fields = [&[0x82, 0x87, 0x41, 1, b'a', 4, path.len() as u8], path.as_bytes()].concat();
        octets.extend((0..100).flat_map(|number| http2_frame(1, 5, 2 * number + 1, &fields)));
        stream.write_all(&octets).await.expect("they are sent");
        stream.flush().await.expect("they are sent");
        over_http2.push(stream);
    }
    // Nor by a client of QUIC that has no room.
    let mut transport = quinn::TransportConfig::default();
    transport.receive_window(10_000_u32.into());
    let endpoint = quic_client(client, root, &["doq"]);
    let mut config = quic_client_config(root, &["doq"]);
    config.transport_config(std::sync::Arc::new(transport));
    let mut over_quic = Vec::new();
    for _ in 0..20 {
        let connecting = endpoint.connect_with(config.clone(), *quic, NAME).expect("a connection");
        let connection = connecting.await.expect("a handshake");
        for _ in 0..100 {
            let (mut send, recv) = connection.open_bi().await.expect("a stream");
            send.write_all(&crate::server::framed(&query)).await.expect("it is sent");
            send.finish().expect("it is open");
            over_quic.push(recv);
        }
    }
    // One after the other, and none of them read.
    let over_http1 = async {
        let stream = connect_from(client, *https).await.expect("a connection");
        let mut stream = tls_over(stream, root, &["http/1.1"]).await.expect("a handshake");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").repeat(100);
        let began = Instant::now();
        let ask = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
        timeout(PATIENCE, ask).await.expect("it is cut off");
        began.elapsed()
    };
    let took = over_http1.await;
    assert!(took < Duration::from_secs(8), "HTTP/1.1 ended after {took:?}");
    let grown = server.server.process.resident_memory().saturating_sub(before);
    assert!(grown < 40 << 10, "it took {grown} KiB");
    for recv in &mut over_quic {
        let _ = timeout(PATIENCE, recv.received_reset()).await.expect("it is reset");
    }
    for stream in &mut over_http2 {
        assert!(ends_within(PATIENCE, stream).await);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "all ended after {took:?}");
}
