//! What sites say that they have to do, and what is made of it.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use meridian::health::Health;
use meridian::health::board::Layout;
use meridian::health::probe::Probe;
use meridian::reload::Reloader;
use meridian::site::{Check, CheckKind, LoadCheck, LoadSource};
use tokio::runtime::Handle;

use crate::following::until;
use crate::server::{Server, Step, http_check};

fn answer(head: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::Send(format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {length}\r\n\r\n{body}").into_bytes())]
}

fn telling(port: u16, source: LoadSource) -> Check {
    let mut check = http_check(port);
    if let CheckKind::Http(http) = &mut check.kind {
        http.load = Some(LoadCheck { source, shed_above: 90, resume_below: 80 });
    }
    check
}

#[tokio::test]
async fn a_load_is_read_wherever_it_is_told_and_nowhere_else() {
    let header = || LoadSource::Header("x-load".to_owned());
    let json = |key: &str| LoadSource::Json(key.to_owned());
    let cases = [
        (header(), "X-Load: 0.5\r\n", "", Some(0.5)),
        (header(), "X-Load: much\r\n", "", None),
        (header(), "X-Load: -1\r\n", "", None),
        (header(), "", "0.5", None),
        (json("load"), "", "{\"load\": 12}", Some(12.0)),
        (json("load"), "", "{\"load\": \"12.5\"}", Some(12.5)),
        (json("system.load"), "", "{\"system\": {\"load\": 3}}", Some(3.0)),
        (json("load"), "", "{\"lead\": 12}", None),
        (json("load"), "", "load: 12", None),
        (LoadSource::Body, "", " 850\n", Some(850.0)),
        (LoadSource::Body, "", "NaN", None),
        (LoadSource::Body, "", "850 requests", None),
    ];
    for (source, head, body, expected) in cases {
        let server = Server::start(answer(head, body)).await;
        let probe = Probe::new(&telling(server.at.port(), source.clone()));
        // Who does not tell it is no less well.
        assert_eq!(probe.attempt(server.at.ip()).await, meridian::health::judge::Attempt::Success);
        assert_eq!(probe.remarks().load, expected, "{source:?} in {head:?} {body:?}");
    }
}

#[tokio::test]
async fn a_text_that_is_wanted_is_looked_for_beside_the_load() {
    let server = Server::start(answer("", "{\"state\": \"ok\", \"load\": 12}")).await;
    for (wanted, is_good) in [("\"ok\"", true), ("\"well\"", false)] {
        let mut check = telling(server.at.port(), LoadSource::Json("load".to_owned()));
        if let CheckKind::Http(http) = &mut check.kind {
            http.body = Some(wanted.to_owned());
        }
        let probe = Probe::new(&check);
        let attempt = probe.attempt(server.at.ip()).await;
        assert_eq!(attempt == meridian::health::judge::Attempt::Success, is_good, "{attempt:?}");
        assert_eq!(probe.remarks().load, is_good.then_some(12.0));
    }
}

/// Two sites of which everybody gets the first, whose load is a number in its answers.
fn files(folder: &std::path::Path, addresses: [IpAddr; 2], port: u16) {
    let sites = format!(
        "sites:
  a: {{ A: {}, capacity: 1000 }}
  b: {{ A: {}, capacity: 1000 }}
services:
  web:
    ttl: 0
    spill: {{ demand: 500 }}
    checks:
      - {{ http: {{ path: /, load: {{ body: number }} }}, port: {port}, every: 100ms, timeout: 80ms }}
",
        addresses[0], addresses[1]
    );
    let zone = "soa: { primary: ns1.example.net., serial: 1 }\nrecords:\n  \"@\": { NS: ns1.example.net. }\n  www: { service: web }\n";
    fs::write(folder.join("sites.yaml"), sites).unwrap();
    fs::write(folder.join("example.com.yaml"), zone).unwrap();
}

/// The servers of both, the first of which says that it has so much to do, the other 100 of 1,000.
async fn busy_and_idle(load: &str) -> (Server, Server, Layout) {
    let busy = Server::start(answer("", load)).await;
    let at = busy.at;
    let idle = Server::start_at((crate::server::own_address(), at.port()).into(), answer("", "100")).await;
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), [at.ip(), idle.at.ip()], at.port());
    let no_databases: [std::path::PathBuf; 0] = [];
    let reload = Reloader::new(folder.path(), &no_databases, None).reload(false);
    let (_snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
    (busy, idle, layout)
}

#[tokio::test]
async fn a_site_that_says_it_has_too_much_is_relieved_until_it_has_not() {
    let (busy, _other, layout) = busy_and_idle("950").await;
    let at = busy.at;
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout);
    assert!(!board.is_priced(0));
    until(|| board.is_priced(0)).await;
    // A tenth of a step: so many of its clients, who all have the other as near, leave.
    assert!((6_500..6_620).contains(&board.price(0)), "{}", board.price(0));
    assert_eq!(board.price(1), 0);
    let loads = health.loads();
    let of_busy = loads.iter().find(|loaded| loaded.site == "a").expect("it told its load");
    assert!((of_busy.load - 0.95).abs() < 1e-9 && (of_busy.shed - 0.1).abs() < 1e-9, "{of_busy:?}");
    let (events, _) = health.last_events(10);
    let told = |text: &str| events.iter().any(|event| event.text.contains(text));
    assert!(told("service web, site a: is loaded to 95 %, and is relieved of clients"), "{events:?}");
    // No less than a second for each step.
    until(|| board.price(0) > 12_000).await;
    busy.kill().await;
    let _idle = Server::start_at(at, answer("", "100")).await;
    until(|| !board.is_priced(0)).await;
}

/// As for an upgrade, or because it was killed.
#[tokio::test]
async fn a_site_stays_relieved_where_the_server_is_started_again() {
    let (_busy, _other, layout) = busy_and_idle("950").await;
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let health = Health::new(Handle::current(), Some(folder.path()));
        let board = health.adopt(layout.clone());
        (health, board)
    };
    let (health, board) = start();
    assert!(!board.is_priced(0));
    until(|| board.price(0) > 12_000).await;
    drop(health);
    let before = board.price(0);
    let (_health, board) = start();
    assert!(board.is_priced(0));
    assert_eq!(board.price(0), before);
}

#[tokio::test]
async fn a_site_that_tells_nothing_any_more_is_relieved_of_nothing() {
    let (busy, _other, layout) = busy_and_idle("2000").await;
    let at = busy.at;
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout);
    until(|| board.is_priced(0)).await;
    busy.kill().await;
    // Up and well, but for the number.
    let _silent = Server::start_at(at, answer("", "many")).await;
    let took = until(|| !board.is_priced(0)).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}
