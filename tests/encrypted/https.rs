//! DNS over HTTPS (RFC 8484).

use meridian::wire::message::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::clients::{
    Came, Http, PREFACE, ends_within, get, home, http2_frame, post, start, start_in, tls_to, version_query,
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
    let start = std::time::Instant::now();
    assert!(ends_within(PATIENCE, &mut stream).await);
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "ended after {:?}", start.elapsed());
    let mut http = Http::to(server.https, &server.root, "h2").await;
    assert_eq!(http.get(&version_query(0)).await.status, 200);
    server.server.stop();
}
