//! One attempt over HTTP: every shape of a good answer is good, every shape of a bad one is bad, each of fifty times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian::health::judge::Attempt;
use meridian::health::probe::Probe;
use meridian::site::{Check, CheckKind};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::server::{PATIENCE, Server, Step, http_check, own_address};

const TIMES: usize = 50;

/// What fifty attempts said, all of them under way at once; None unless they agree.
async fn said_by_all(check: &Check, server: SocketAddr) -> Option<Attempt> {
    let probe = Arc::new(Probe::new(check));
    let mut attempts = JoinSet::new();
    for _ in 0..TIMES {
        let probe = Arc::clone(&probe);
        attempts.spawn(async move { probe.attempt(server.ip()).await });
    }
    let mut said = attempts.join_all().await;
    let first = said.pop();
    if said.iter().any(|other| Some(other) != first.as_ref()) {
        eprintln!("not alike: {first:?}, {said:?}");
        return None;
    }
    first
}

fn wanting(port: u16, wanted: Option<&str>) -> Check {
    let mut check = http_check(port);
    if let CheckKind::Http(http) = &mut check.kind {
        http.body = wanted.map(str::to_owned);
    }
    check
}

/// Who ends the connection after a complete answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The server, at once.
    Close,
    /// Nobody but us.
    KeepAlive,
}

/// Sends an answer in every way that it can be sent, and expects success of each; with a `body:` too, which is found
/// where there is one.
async fn assert_good(head: &str, body: &str, ends: &[End]) {
    for &end in ends {
        let word = if end == End::Close { "close" } else { "keep-alive" };
        let head = format!("{head}Connection: {word}\r\n\r\n");
        let whole = vec![Step::Send(format!("{head}{body}").into_bytes())];
        let halves = vec![Step::Send(head.into_bytes()), Step::Pause, Step::Send(body.as_bytes().to_vec())];
        for mut script in [whole, halves] {
            if end == End::KeepAlive {
                script.push(Step::Hold);
            }
            let server = Server::start(script.clone()).await;
            let plain = said_by_all(&wanting(server.at.port(), None), server.at).await;
            assert_eq!(plain, Some(Attempt::Success), "{script:?}");
            let searched = said_by_all(&wanting(server.at.port(), Some("all is well")), server.at).await;
            let expected = match body {
                "" => Attempt::Failure("the body has no \"all is well\"".to_owned()),
                _ => Attempt::Success,
            };
            assert_eq!(searched, Some(expected), "{script:?}");
        }
    }
}

const BOTH: &[End] = &[End::Close, End::KeepAlive];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_a_told_length_is_good() {
    assert_good("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n", "all is well!\n", BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_content_is_good() {
    assert_good("HTTP/1.1 204 No Content\r\n", "", BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_body_is_good() {
    assert_good("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "", BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_good_and_is_not_followed() {
    assert_good("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n", "", BOTH)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_is_good() {
    let body = "4\r\nall \r\n7\r\nis well\r\n0\r\n\r\n";
    assert_good("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", body, BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_end_of_the_connection_ends_is_good() {
    assert_good("HTTP/1.1 200 OK\r\n", "all is well", &[End::Close]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_good() {
    assert_good("HTTP/1.0 200 OK\r\n", "all is well", &[End::Close]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_before_the_answer_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    let head = format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 11\r\n");
    assert_good(&head, "all is well", BOTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_found_across_packets() {
    let script = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is".to_vec()),
        Step::Pause,
        Step::Send(b" well".to_vec()),
    ];
    let server = Server::start(script).await;
    let said = said_by_all(&wanting(server.at.port(), Some("all is well")), server.at).await;
    assert_eq!(said, Some(Attempt::Success));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_was_found_is_good_though_the_body_never_ends() {
    let script = vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\nall is well".to_vec()), Step::Hold];
    let server = Server::start(script).await;
    let said = said_by_all(&wanting(server.at.port(), Some("all is well")), server.at).await;
    assert_eq!(said, Some(Attempt::Success));
}

/// 64 KiB that end with the text, or, `late` by one octet, go beyond.
async fn text_at_the_end(late: bool) -> Option<Attempt> {
    let mut body = vec![b'.'; (64 << 10) - "all is well".len() + usize::from(late)];
    body.extend_from_slice(b"all is well and goes on");
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.append(&mut body);
    let server = Server::start(vec![Step::Send(answer)]).await;
    said_by_all(&wanting(server.at.port(), Some("all is well")), server.at).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_found_at_the_very_end_of_64_kib() {
    assert_eq!(text_at_the_end(false).await, Some(Attempt::Success));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_not_looked_for_beyond_64_kib() {
    let expected = Attempt::Failure("the body has no \"all is well\"".to_owned());
    assert_eq!(text_at_the_end(true).await, Some(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_names_path_host_and_us_and_closes() {
    let server = Server::start(vec![Step::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())]).await;
    let mut check = http_check(server.at.port());
    if let CheckKind::Http(http) = &mut check.kind {
        (http.path, http.host) = ("/healthz?deep=1".to_owned(), Some("www.example.com".to_owned()));
    }
    Probe::new(&check).attempt(server.at.ip()).await;
    let heads = server.heads.lock().unwrap();
    let expected = concat!(
        "GET /healthz?deep=1 HTTP/1.1\r\nhost: www.example.com\r\nuser-agent: meridian/",
        env!("CARGO_PKG_VERSION"),
        "\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(*heads, [expected]);
}

/// The failure that fifty attempts agree on.
async fn failure(script: Vec<Step>, wanted: Option<&str>, timeout: Duration) -> String {
    let server = Server::start(script).await;
    let mut check = wanting(server.at.port(), wanted);
    check.timeout = timeout;
    match said_by_all(&check, server.at).await {
        Some(Attempt::Failure(text)) => text,
        other => panic!("{other:?}"),
    }
}

const SHORT: Duration = Duration::from_millis(250);

fn sent(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_out_of_range_is_bad() {
    let answer = sent("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(failure(answer, None, PATIENCE).await, "status 503");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_the_text_is_bad() {
    let answer = sent("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbroken");
    assert_eq!(failure(answer, Some("all is well"), PATIENCE).await, "the body has no \"all is well\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_bad() {
    let at = {
        let listener = TcpListener::bind(SocketAddr::new(own_address(), 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let said = said_by_all(&http_check(at.port()), at).await;
    assert_eq!(said, Some(Attempt::Failure("connect: Connection refused (os error 111)".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_bad_when_the_time_is_over() {
    assert_eq!(failure(vec![Step::Hold], None, SHORT).await, "HTTP: no answer within 250ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_takes_is_bad_when_the_time_is_over() {
    // A queue of one that is full: the kernel answers no more handshakes.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(own_address(), 0).into()).unwrap();
    socket.listen(0).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(at)).await {
        waiting.push(stream);
    }
    let mut check = http_check(at.port());
    check.timeout = SHORT;
    let said = said_by_all(&check, at).await;
    assert_eq!(said, Some(Attempt::Failure("connect: nothing within 250ms".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_closed_at_once_is_bad() {
    let text = failure(vec![], None, PATIENCE).await;
    assert_eq!(text, "HTTP: connection closed before message completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_breaks_off_is_bad() {
    let text = failure(sent("HTTP/1.1 200 OK\r\nContent-Le"), None, PATIENCE).await;
    assert_eq!(text, "HTTP: connection closed before message completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_another_language_is_bad() {
    let text = failure(sent("220 mail.example.com ESMTP\r\n"), None, PATIENCE).await;
    assert!(text.starts_with("HTTP: "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_an_end_is_bad_before_the_time_is_over() {
    let script = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Step::SendForEver(format!("X: {}\r\n", "x".repeat(2000)).into_bytes()),
    ];
    let text = failure(script, None, PATIENCE).await;
    assert!(text.starts_with("HTTP: ") && !text.contains("within"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_one_line_without_an_end_is_bad_before_the_time_is_over() {
    let script = vec![Step::Send(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), Step::SendForEver(vec![b'x'; 4096])];
    let text = failure(script, None, PATIENCE).await;
    assert!(text.starts_with("HTTP: ") && !text.contains("within"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_an_end_is_read_for_64_kib_and_no_more() {
    let script = vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Step::SendForEver(vec![b'x'; 4096])];
    let text = failure(script, Some("all is well"), PATIENCE).await;
    assert_eq!(text, "the body has no \"all is well\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_without_an_end_is_bad_when_the_time_is_over() {
    let script = vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\nall is".to_vec()), Step::Hold];
    let text = failure(script, Some("all is well"), SHORT).await;
    assert_eq!(text, "the body has no \"all is well\" within 250ms");
}
