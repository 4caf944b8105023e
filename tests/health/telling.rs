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
    };
    check.kind = CheckKind::Http(http);
    let health = Health::new(Handle::current());
    let board = health.adopt(layout([(at.ip(), vec![check])]));
    until(|| board.verdict(0) == Verdict::Up).await;
    server.kill().await;
    let _server = Server::start_at(at, ill()).await;
    until(|| board.verdict(0) == Verdict::Down).await;
    let subject = format!("{} port {}, http www.example.com/healthz", at.ip(), at.port());
    assert_eq!(
        log.lines(),
        [format!("INFO {subject}: up (good)"), format!("WARN {subject}: down (status 503)")]
    );
}

#[tokio::test]
async fn trouble_of_our_own_is_told_when_it_begins_and_when_it_ends() {
    let (log, _guard) = Log::start();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let (address, mut check) = (own_address(), fast(1));
    let http = HttpCheck { path: "/".to_owned(), host: None, status: vec![(200, 399)], body: None };
    check.kind =
        CheckKind::Https(http, TlsCheck { sni: None, verify: true, ca: Some(ca.clone()), pin: vec![] });
    let health = Health::new(Handle::current());
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
