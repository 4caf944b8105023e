//! DNS over HTTPS (RFC 8484).

use std::time::{Duration, Instant};

use meridian::wire::message::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clients::{
    Came, Http, PREFACE, connect_from, ends_within, get, home, http2_frame, post, start, start_in,
    start_with_large, tls_over, tls_to, version_query,
};
use crate::server::{PATIENCE, in_words};
use crate::world::{self, question};

const DNS_MESSAGE: &str = "application/dns-message";

#[tokio::test]
async fn get_and_post_are_answered_over_both_versions() {
    let server = start();
    for protocol in ["http/1.1", "h2"] {
        let mut http = Http::to(server.https, &server.root, protocol).await;
        let query = version_query(0);
        let came = http.get(&query).await;
        assert_eq!((came.status.as_u16(), came.kind.as_str()), (200, DNS_MESSAGE));
        assert_eq!(in_words(&Message::read(&came.body).expect("well-formed")), "\"1\"");
        assert_eq!(http.post(&query).await, came, "{protocol}");
        // The same with a parameter, in other letters.
        let other = http.fetch(post("Application/DNS-Message; charset=x", &query)).await;
        assert_eq!(other, came, "{protocol}");
    }
    server.server.stop();
}

/// RFC 8484 5.1; and private, for what is answered depends on who asks.
#[tokio::test]
async fn an_answer_is_fresh_for_as_long_as_its_smallest_ttl() {
    let (home, root) = home();
    let zone = world::zone(1)
        + "  short: { A: { ttl: 7, data: 192.0.2.1 }, AAAA: \"2001:db8::1\" }\n  alias: { CNAME: short }\n";
    home.write(
        "zones/example.com.yaml",
        zone.replace("contact: hostmaster@example.com", "contact: h, negative_ttl: 13"),
    );
    let server = start_in(home, root);
    let mut http = Http::to(server.https, &server.root, "h2").await;
    let fresh = [
        ("v.example.com", "TXT", 60),
        ("short.example.com", "A", 7),
        ("alias.example.com", "A", 7),
        ("nowhere.example.com", "A", 13),
        ("v.example.com", "A", 13),
        // Refused: nobody's to keep.
        ("example.net", "A", 0),
    ];
    for (name, rtype, seconds) in fresh {
        let came = http.get(&question(name, rtype).to_wire()).await;
        assert_eq!(came.cache_control, format!("private, max-age={seconds}"), "{name} {rtype}");
    }
    server.server.stop();
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told() {
    let server = start();
    let query = version_query(0);
    let mut response = query.clone();
    response[2] |= 0x80;
    let text = data_encoding::BASE64URL_NOPAD.encode(&query);
    let with_method = |method: &str| {
        let mut request = get("/dns-query");
        *request.method_mut() = method.parse().expect("a method");
        request
    };
    for protocol in ["http/1.1", "h2"] {
        let mut http = Http::to(server.https, &server.root, protocol).await;
        let wrong = [
            (404, get(&format!("/?dns={text}"))),
            (404, get(&format!("/dns-query/?dns={text}"))),
            (405, with_method("PUT")),
            (405, with_method("HEAD")),
            (415, post("application/json", &query)),
            (400, get("/dns-query")),
            (400, get("/dns-query?dns=")),
            (400, get(&format!("/dns-query?dns={text}="))),
            (400, get("/dns-query?dns=%00")),
            (400, post(DNS_MESSAGE, b"")),
            (400, post(DNS_MESSAGE, &response)),
            (413, post(DNS_MESSAGE, &vec![0; 65_536])),
        ];
        for (status, request) in wrong {
            let what = format!("{protocol}: {} {}", request.method(), request.uri());
            let Came { status: came, allow, cache_control, .. } = http.fetch(request).await;
            assert_eq!(came.as_u16(), status, "{what}");
            assert_eq!(allow, if status == 405 { "GET, POST" } else { "" }, "{what}");
            assert_eq!(cache_control, "", "{what}");
            if status == 413 {
                // What is left of the body is nobody's to read.
                http = Http::to(server.https, &server.root, protocol).await;
            }
        }
        assert_eq!(http.get(&query).await.status, 200, "{protocol} goes on");
    }
    server.server.stop();
}

#[tokio::test]
async fn the_path_is_what_the_configuration_says() {
    let (home, root) = home();
    home.replace(
        "meridian.yaml",
        "https: { certificate: c.pem, key: k.pem }",
        "https: { certificate: c.pem, key: k.pem, path: /q }",
    );
    let server = start_in(home, root);
    let mut http = Http::to(server.https, &server.root, "h2").await;
    let text = data_encoding::BASE64URL_NOPAD.encode(&version_query(0));
    assert_eq!(http.fetch(get(&format!("/q?dns={text}"))).await.status, 200);
    assert_eq!(http.get(&version_query(0)).await.status, 404);
    server.server.stop();
}

#[tokio::test]
async fn a_hundred_requests_at_a_time_are_all_answered() {
    let server = start();
    let Http::Two(requests) = Http::to(server.https, &server.root, "h2").await else { unreachable!() };
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let mut http = Http::Two(requests.clone());
        tasks.spawn(async move { http.post(&version_query(0)).await });
    }
    while let Some(came) = tasks.join_next().await {
        assert_eq!(came.expect("no panic").status, 200);
    }
    server.server.stop();
}

#[tokio::test]
async fn a_head_is_sixteen_kilobytes_at_most() {
    let server = start();
    let long = format!("/dns-query?dns={}", "A".repeat(20_000));
    let mut http = Http::to(server.https, &server.root, "h2").await;
    let refused = http.send(get(&long)).await;
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status() == 431));
    let mut stream = tls_to(server.https, &server.root, &["http/1.1"]).await.expect("a handshake");
    let head = format!("GET {long} HTTP/1.1\r\nhost: a\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let mut came = [0; 12];
    stream.read_exact(&mut came).await.expect("a response");
    assert!(came.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&came));
    assert!(ends_within(PATIENCE, &mut stream).await);
    server.server.stop();
}

/// CVE-2023-44487: requests that are taken back as soon as they are made.
#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let server = start();
    let mut stream = tls_to(server.https, &server.root, &["h2"]).await.expect("a handshake");
    let mut octets = PREFACE.to_vec();
    octets.extend(http2_frame(4, 0, 0, &[]));
    for number in 0..1000 {
        let id = 2 * number + 1;
        // :method GET, :scheme https, :path /, :authority a
        octets.extend(http2_frame(1, 5, id, &[0x82, 0x87, 0x84, 0x41, 1, b'a']));
        octets.extend(http2_frame(3, 0, id, &8_u32.to_be_bytes()));
    }
    let _ = stream.write_all(&octets).await;
    let _ = stream.flush().await;
    let start = Instant::now();
    assert!(ends_within(PATIENCE, &mut stream).await);
    assert!(start.elapsed() < Duration::from_secs(5), "ended after {:?}", start.elapsed());
    let mut http = Http::to(server.https, &server.root, "h2").await;
    assert_eq!(http.get(&version_query(0)).await.status, 200);
    server.server.stop();
}

/// A query for `large`, as the fields of a request (RFC 7541 6): :method GET, :scheme https, :authority a, :path.
fn request_for_large() -> Vec<u8> {
    let query = question("large.example.com", "TXT").to_wire();
    let path = format!("/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(&query));
    [&[0x82, 0x87, 0x41, 1, b'a', 4, path.len() as u8], path.as_bytes()].concat()
}

/// SETTINGS_INITIAL_WINDOW_SIZE.
fn windows_of(octets: u32) -> Vec<u8> {
    http2_frame(4, 0, 0, &[&[0, 4][..], &octets.to_be_bytes()].concat())
}

/// To keep a window of HTTP/2 shut is not to read.
#[tokio::test]
async fn whoever_keeps_its_window_shut_has_two_seconds() {
    let server = start_with_large();
    let mut stream = tls_to(server.https, &server.root, &["h2"]).await.expect("a handshake");
    let octets = [PREFACE, &windows_of(0), &http2_frame(1, 5, 1, &request_for_large())].concat();
    stream.write_all(&octets).await.expect("they are sent");
    stream.flush().await.expect("they are sent");
    let start = Instant::now();
    assert!(ends_within(PATIENCE, &mut stream).await);
    let took = start.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_secs(5)).contains(&took), "it ended after {took:?}");
    server.server.wait_for_status("counted", |status| {
        let counts = &status["transports"]["https-0"];
        (counts["cut_off_unread"].as_u64(), counts["connections"].as_u64()) == (Some(1), Some(0))
    });
    server.server.stop();
}

/// Five responses of 50,000 octets in four seconds.
#[tokio::test]
async fn whoever_takes_a_window_a_second_gets_all_of_it() {
    let server = start_with_large();
    let stream = tls_to(server.https, &server.root, &["h2"]).await.expect("a handshake");
    let (mut read, mut write) = tokio::io::split(stream);
    let mut octets = [PREFACE, &windows_of(1 << 20)].concat();
    octets.extend((0..5).flat_map(|number| http2_frame(1, 5, 2 * number + 1, &request_for_large())));
    write.write_all(&octets).await.expect("they are sent");
    let open_windows = async {
        for _ in 0..4 {
            write.flush().await.expect("they are sent");
            sleep(Duration::from_secs(1)).await;
            // WINDOW_UPDATE of the connection, whose first window is as large (RFC 9113 6.9.2).
            write.write_all(&http2_frame(8, 0, 0, &65_535_u32.to_be_bytes())).await.expect("it is open");
        }
        write.flush().await.expect("they are sent");
    };
    let read_all = async {
        let mut ended = 0;
        while ended < 5 {
            let mut head = [0; 9];
            read.read_exact(&mut head).await.expect("it is not cut off");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            read.read_exact(&mut vec![0; length]).await.expect("it is not cut off");
            // DATA with END_STREAM.
            ended += usize::from(head[3] == 0 && head[4] & 1 == 1);
        }
    };
    timeout(PATIENCE, async { tokio::join!(open_windows, read_all) }).await.expect("all of it");
    server.server.stop();
}

/// Four hundred connections of 256 KiB each would be 100 MB: a few addresses have as many.
#[tokio::test]
async fn what_all_clients_together_do_not_take_is_bounded() {
    let server = start_with_large();
    let mut idle = Vec::new();
    for number in 0..400_u32 {
        let client = [127, 88, 10, 1 + (number / 60) as u8];
        let stream = connect_from(client.into(), server.https).await.expect("a connection");
        let mut stream = tls_over(stream, &server.root, &["h2"]).await.expect("a handshake");
        stream.write_all(&[PREFACE, &windows_of(0)].concat()).await.expect("they are sent");
        idle.push(stream);
    }
    let before = server.server.process.resident_memory();
    let requests: Vec<u8> =
        (0..5).flat_map(|number| http2_frame(1, 5, 2 * number + 1, &request_for_large())).collect();
    for stream in &mut idle {
        // Some have to go by then.
        let _ = stream.write_all(&requests).await;
        let _ = stream.flush().await;
    }
    // Whoever takes what it asks for is answered all the same.
    let mut http = Http::to(server.https, &server.root, "h2").await;
    assert!(http.get(&question("large.example.com", "TXT").to_wire()).await.body.len() > 50_000);
    let grown = server.server.process.resident_memory().saturating_sub(before);
    assert!(grown < 80 << 10, "it took {grown} KiB");
    server.server.wait_for_status("told to go", |status| {
        status["transports"]["https-0"]["cut_off_unread"].as_u64() > Some(0)
    });
    server.server.stop();
}
