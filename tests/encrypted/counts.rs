//! What is told of connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::clients::{
    Http, LOCALHOST, NAME, ask_quic, ask_stream, certificate_from_to, connect_from, home, new_certificate,
    quic_client, quic_to, start, start_in, tls_to, version_query,
};
use crate::server::PATIENCE;
use crate::world::{SYDNEY, question_from};

#[tokio::test]
async fn handshakes_that_fail_are_counted_and_told() {
    let server = start();
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &version_query(1)).await.expect("a response");
    let connection = quic_to(server.quic, &server.root).await;
    ask_quic(&connection, &version_query(0)).await.expect("a response");
    let mut http = Http::to(server.https, &server.root, "h2").await;
    assert_eq!(http.get(&version_query(0)).await.status, 200);

    // A certificate that the client does not trust, a protocol that the server does not speak, and what is no handshake.
    let (_, _, stranger) = new_certificate();
    assert!(tls_to(server.tls, &stranger, &["dot"]).await.is_err());
    assert!(tls_to(server.https, &stranger, &["h2"]).await.is_err());
    let endpoint = quic_client(LOCALHOST, &stranger, &["doq"]);
    assert!(endpoint.connect(server.quic, NAME).expect("a connection").await.is_err());
    assert!(tls_to(server.tls, &server.root, &["h2"]).await.is_err());
    let mut garbage = connect_from(LOCALHOST, server.tls).await.expect("a connection");
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is sent");

    for (thread, failed) in [("tls-0", 3), ("https-0", 1), ("quic-0", 1)] {
        server.server.wait_for_status("counted", |status| {
            let counts = &status["transports"][thread];
            let told = ["failed_handshakes", "accepted", "connections"].map(|count| counts[count].as_u64());
            told == [Some(failed), Some(failed + 1), Some(1)]
        });
    }
    let told = server.server.tell(&["status"]).expect(0).stdout;
    for line in [
        "  https-0    1 open, 2 accepted, 0 refused, 0 cut off at a limit, 1 failed handshakes\n",
        "  quic-0     1 open, 2 accepted, 0 refused, 0 cut off at a limit, 1 failed handshakes\n",
        "  tcp        0 open, 0 accepted, 0 refused, 0 cut off at a limit\n",
        "  tls-0      1 open, 4 accepted, 0 refused, 0 cut off at a limit, 3 failed handshakes\n",
        "queries: 0 UDP, 0 TCP, 1 TLS, 1 HTTPS, 1 QUIC; ",
    ] {
        assert!(told.contains(line), "no {line:?} in\n{told}");
    }
    server.server.stop();
}

/// Each thread that answers has a row of its own in tallies, and a ring of its own for the query log.
#[tokio::test]
async fn every_transport_counts_its_answers_by_site_and_writes_them_down() {
    let (home, root) = home();
    let listen = home.read("meridian.yaml");
    home.write("meridian.yaml", listen + "query_log: { file: q.log, sample: 1/1 }\n");
    let server = start_in(home, root);
    let mut query = question_from("www.example.com", "A", SYDNEY).to_wire();
    query[..2].copy_from_slice(&[0, 0]);
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &query).await.expect("a response");
    let connection = quic_to(server.quic, &server.root).await;
    ask_quic(&connection, &query).await.expect("a response");
    let mut http = Http::to(server.https, &server.root, "h2").await;
    assert_eq!(http.get(&query).await.status, 200);

    let sites = &server.server.status()["services"][0]["sites"];
    assert_eq!((&sites[0]["site"], &sites[0]["answers"]), (&"syd".into(), &3.into()));
    let home = server.server.stop();
    let log = home.read("q.log");
    for transport in ["tls", "quic", "https"] {
        let of_transport = |line: &&str| line.contains(&format!("\"transport\":\"{transport}\""));
        let lines: Vec<&str> = log.lines().filter(of_transport).collect();
        assert!(matches!(lines[..], [line] if line.contains("\"site\":\"syd\"")), "{transport} in\n{log}");
    }
}

/// Of a site that is this very server.
#[test]
fn when_a_certificate_ends_that_a_check_was_shown_is_a_metric() {
    let (home, root) = home();
    let listen = home.read("meridian.yaml");
    home.write("meridian.yaml", listen + "metrics: 127.0.0.1:0\n");
    // 2030-01-01.
    let (certificate, key, _) = certificate_from_to(1975, 2030);
    home.write("c.pem", certificate);
    home.write("k.pem", key);
    let server = start_in(home, root);
    let port = server.https.port();
    let process = &server.server.process;
    let line = process.wait_for_line("metrics at http://");
    let metrics: SocketAddr = line
        .split_once("http://")
        .expect("a URL")
        .1
        .trim_end_matches("/metrics")
        .parse()
        .expect("an address");
    let check = format!("{{ https: {{ verify: false }}, port: {port}, every: 1s, timeout: 1s }}");
    let home = &server.server.home;
    let sites = home.read("zones/sites.yaml").replace("192.0.2.1 ", "127.0.0.1 ");
    home.save(
        "zones/sites.yaml",
        sites.replace("sites: [syd, fra, iad]", &format!("sites: [syd], checks: [{check}]")),
    );
    let wanted = format!(
        "meridian_check_certificate_expiry_timestamp_seconds{{address=\"127.0.0.1\",port=\"{port}\"}} 1893456000"
    );
    let end = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(metrics).expect("a connection");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: meridian\r\n\r\n").expect("the request is sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a response");
        if page.lines().any(|line| line == wanted) {
            break;
        }
        assert!(Instant::now() < end, "no {wanted} in\n{page}");
        thread::sleep(Duration::from_millis(50));
    }
    server.server.stop();
}
