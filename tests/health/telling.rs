//! What an operator reads in the log: each change once, with what was checked.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian::health::Health;
use meridian::health::board::Verdict;
use meridian::site::{CheckKind, HttpCheck, TlsCheck};
use tokio::runtime::Handle;
use tracing::subscriber::DefaultGuard;

use crate::following::{fast, layout, until};
use crate::server::{Server, good, ill, own_address};
use crate::tls::{certificate_for, serve};

/// Lines that this thread logged. Tests here run all of their tasks on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Log, DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test]
async fn up_is_news_and_down_a_warning_with_what_was_checked() {
    let (log, _guard) = Log::start();
    let server = Server::start(good()).await;
    let (at, mut check) = (server.at, fast(server.at.port()));
    let http = HttpCheck {
        path: "/healthz".to_owned(),
        host: Some("www.example.com".to_owned()),
        status: vec![(200, 399)],
        body: None,
        load: None,
    };
    check.kind = CheckKind::Http(http);
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout([(at.ip(), vec![check])]));
    until(|| board.verdict(0) == Verdict::Up).await;
    server.kill().await;
    let _server = Server::start_at(at, ill()).await;
    until(|| board.verdict(0) == Verdict::Down).await;
    let subject = format!("{} port {}, http www.example.com/healthz", at.ip(), at.port());
    let lines = log.lines();
    let [up, down] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(*up, format!("INFO {subject}: up (good)"));
    // It was the second of two failures, a tenth of a second apart.
    let since = down.strip_prefix(&format!("WARN {subject}: down (status 503, failing for "));
    let since =
        since.and_then(|line| line.strip_suffix(" s)")).and_then(|seconds| seconds.parse::<f64>().ok());
    assert!(since.is_some_and(|seconds| (0.1..10.0).contains(&seconds)), "{down}");
}

#[tokio::test]
async fn what_was_wrong_last_is_kept_when_all_is_good_again() {
    let server = Server::start(ill()).await;
    let (at, check) = (server.at, fast(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout([(at.ip(), vec![check])]));
    until(|| board.verdict(0) == Verdict::Down).await;
    let of_ill = health.status().remove(0);
    let (when, text) = of_ill.last_error.expect("an error");
    assert_eq!((text.as_str(), of_ill.last.as_str()), ("status 503", "status 503"));
    server.kill().await;
    let _server = Server::start_at(at, good()).await;
    until(|| board.verdict(0) == Verdict::Up).await;
    let of_good = health.status().remove(0);
    assert_eq!(of_good.last, "good");
    assert!(of_good.took.is_some_and(|took| took > Duration::ZERO && took < Duration::from_secs(1)));
    assert!(of_good.last_error.is_some_and(|(at, _)| at >= when));
}

#[tokio::test]
async fn trouble_of_our_own_is_told_when_it_begins_and_when_it_ends() {
    let (log, _guard) = Log::start();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let (address, mut check) = (own_address(), fast(1));
    let http =
        HttpCheck { path: "/".to_owned(), host: None, status: vec![(200, 399)], body: None, load: None };
    check.kind =
        CheckKind::Https(http, TlsCheck { sni: None, verify: true, ca: Some(ca.clone()), pin: vec![] });
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout([(address, vec![check])]));
    until(|| log.lines().len() == 1).await;
    // Long enough for it to be told again, if it were.
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(board.verdict(0), Verdict::Unknown);
    let certificate = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap().cert.pem();
    std::fs::write(&ca, certificate).unwrap();
    until(|| board.verdict(0) == Verdict::Down).await;
    let subject = format!("{address} port 1, https /");
    let expected = [
        format!("WARN {subject}: cannot be checked from here ({} holds no certificate)", ca.display()),
        format!("INFO {subject}: can be checked from here again"),
        format!("WARN {subject}: down (connect: Connection refused (os error 111))"),
    ];
    assert_eq!(log.lines(), expected);
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_once_at_however_many_addresses_it_is() {
    let (log, _guard) = Log::start();
    let mut params = certificate_for("www.example.com");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let day = 86_400;
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds as u64);
    (params.not_before, params.not_after) = (at(now - 30 * day), at(now + 3 * day + 3600));
    // All of 127.0.0.0/8 is at this port.
    let server = serve("0.0.0.0:0".parse().unwrap(), params, None).await;
    let addresses = [own_address(), own_address(), own_address()];
    let mut check = fast(server.at.port());
    let CheckKind::Http(http) = check.kind else { panic!("another kind") };
    check.kind = CheckKind::Https(http, TlsCheck { sni: None, verify: false, ca: None, pin: vec![] });
    (check.every, check.timeout) = (Duration::from_millis(500), Duration::from_millis(500));
    let health = Health::new(Handle::current(), None);
    let _board = health.adopt(layout(addresses.map(|address| (address, vec![check.clone()]))));
    health.first_round().await;
    // Another round, in which it would be told again.
    let rounds = server.handshakes();
    until(|| server.handshakes() >= rounds + 4).await;
    let told: Vec<String> = log.lines().into_iter().filter(|line| line.contains("certificate")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("WARN 127.77.") && told[0].ends_with("its certificate ends in 3 days"),
        "{told:?}"
    );
    let until = health.status()[0].certificate_expires.expect("a certificate");
    assert_eq!(until.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64, now + 3 * day + 3600);
}
