//! Verdicts that follow what servers do, over snapshots that come and go (meanings 7 and 16).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian::health::Health;
use meridian::health::board::{Board, Layout, ServiceSlots, Share, SiteOfService, Target, Verdict};
use meridian::health::overrides::{Order, Wish};
use meridian::site::{Check, CheckKind, FileCheck, Guards, MinUp};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::server::{PATIENCE, Server, Step, good, http_check, ill, own_address};

const EVERY: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(80);

/// `GET /` ten times a second, two of a kind to change a verdict.
pub(crate) fn fast(port: u16) -> Check {
    Check { every: EVERY, timeout: TIMEOUT, ..http_check(port) }
}

/// Slot n is entry n.
pub(crate) fn layout(targets: impl IntoIterator<Item = (IpAddr, Vec<Check>)>) -> Layout {
    let target = |(address, checks): (IpAddr, Vec<Check>)| Target {
        address,
        need: checks.len() as u16,
        checks: checks.into(),
    };
    let targets: Vec<Target> = targets.into_iter().map(target).collect();
    // Each is a service of its own.
    let name = |slot: usize| format!("service {slot}");
    let services = 0..targets.len() as u32;
    Layout {
        shares: (0..targets.len())
            .map(|slot| SiteOfService { service: name(slot), site: "site".to_owned() })
            .collect(),
        services: services
            .map(|slot| ServiceSlots {
                name: name(slot as usize),
                first_share: slot,
                targets: std::iter::once(slot..slot + 1).collect(),
                min_up: MinUp::of_both(1),
                guards: Guards::default(),
                windows: vec![Vec::new(); 1],
                slow_start: Duration::ZERO,
                ttl: 30..=30,
                is_checked: true,
                market: None,
            })
            .collect(),
        targets,
    }
}

/// Waits for something to become true, and gives how long that took, without the time for which the machine kept this
/// thread, and with it all that the test consists of, from running.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) -> Duration {
    const STEP: Duration = Duration::from_millis(1);
    const USUAL: Duration = Duration::from_millis(4);
    let polled = async {
        let mut took = Duration::ZERO;
        let mut last = Instant::now();
        while !is_so() {
            sleep(STEP).await;
            took += last.elapsed().min(USUAL);
            last = Instant::now();
        }
        took
    };
    timeout(PATIENCE, polled).await.expect("it never came")
}

fn adopt_one(health: &Health, address: IpAddr, check: Check) -> Arc<Board> {
    health.adopt(layout([(address, vec![check])]))
}

/// Until another attempt at this server has ended in an answer.
async fn next_attempts(server: &Server, more: usize) {
    let wanted = server.connections() + more;
    until(|| server.connections() >= wanted).await;
}

#[tokio::test]
async fn meaning_7_nothing_is_known_before_the_first_result() {
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, own_address(), fast(1));
    assert_eq!(board.verdict(0), Verdict::Unknown);
}

#[tokio::test]
async fn meaning_7_the_first_result_makes_a_dead_address_down_outright() {
    let mut check = http_check(1);
    (check.fall, check.rise) = (100, 100);
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, own_address(), check);
    health.first_round().await;
    assert_eq!(board.verdict(0), Verdict::Down);
}

#[tokio::test]
async fn meaning_7_the_first_result_makes_a_good_address_up_outright() {
    let server = Server::start(good()).await;
    let mut check = http_check(server.at.port());
    (check.fall, check.rise) = (100, 100);
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, server.at.ip(), check);
    health.first_round().await;
    assert_eq!((board.verdict(0), server.connections()), (Verdict::Up, 1));
}

#[tokio::test]
async fn a_tcp_check_is_content_with_a_connection() {
    let server = Server::start(ill()).await;
    let health = Health::new(Handle::current(), None);
    let check = Check { kind: CheckKind::Tcp, ..fast(server.at.port()) };
    let board = adopt_one(&health, server.at.ip(), check);
    health.first_round().await;
    assert_eq!(board.verdict(0), Verdict::Up);
}

#[tokio::test]
async fn an_address_must_pass_all_of_its_checks() {
    let server = Server::start(good()).await;
    let health = Health::new(Handle::current(), None);
    let checks = vec![fast(server.at.port()), Check { kind: CheckKind::Tcp, ..fast(1) }];
    let board = health.adopt(layout([(server.at.ip(), checks)]));
    health.first_round().await;
    assert_eq!(board.verdict(0), Verdict::Down);
}

#[tokio::test]
async fn as_many_checks_as_are_needed_suffice() {
    let server = Server::start(good()).await;
    let (at, dead) = (server.at, Check { kind: CheckKind::Tcp, ..fast(1) });
    let checks = vec![fast(at.port()), dead.clone(), Check { fall: 3, ..dead }];
    let mut layout = layout((0..3).map(|_| (at.ip(), checks.clone())));
    for (need, target) in (1..).zip(&mut layout.targets) {
        target.need = need;
    }
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout);
    health.first_round().await;
    let verdicts = [0, 1, 2].map(|slot| board.verdict(slot));
    assert_eq!(verdicts, [Verdict::Up, Verdict::Down, Verdict::Down]);
    server.kill().await;
    until(|| board.verdict(0) == Verdict::Down).await;
}

#[tokio::test]
async fn a_check_that_tells_nothing_leaves_open_what_the_others_do_not_decide() {
    let server = Server::start(good()).await;
    let at = server.at;
    let silent = FileCheck { path: "/not/there".into(), max_age: Duration::from_secs(30) };
    let checks = vec![fast(at.port()), Check { kind: CheckKind::File(silent), port: None, ..fast(1) }];
    let mut layout = layout((0..2).map(|_| (at.ip(), checks.clone())));
    layout.targets[1].need = 1;
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout);
    health.first_round().await;
    assert_eq!([0, 1].map(|slot| board.verdict(slot)), [Verdict::Unknown, Verdict::Up]);
    server.kill().await;
    until(|| [0, 1].map(|slot| board.verdict(slot)) == [Verdict::Down, Verdict::Unknown]).await;
}

#[tokio::test]
async fn an_address_that_nobody_checks_is_served() {
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout([(own_address(), vec![])]));
    assert!(board.verdict(0).is_served());
}

#[tokio::test]
async fn a_server_that_is_killed_is_down_within_fall_times_every_and_one_timeout() {
    let server = Server::start(good()).await;
    let check = fast(server.at.port());
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, server.at.ip(), check.clone());
    until(|| board.verdict(0) == Verdict::Up).await;
    server.kill().await;
    let took = until(|| board.verdict(0) == Verdict::Down).await;
    assert!(took <= EVERY * u32::from(check.fall) + TIMEOUT + EVERY, "{took:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_down_within_fall_times_every_and_one_timeout() {
    let server = Server::start(good()).await;
    let (at, check) = (server.at, fast(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, at.ip(), check.clone());
    until(|| board.verdict(0) == Verdict::Up).await;
    server.kill().await;
    let _silent = Server::start_at(at, vec![Step::Hold]).await;
    let took = until(|| board.verdict(0) == Verdict::Down).await;
    assert!(took <= EVERY * u32::from(check.fall) + TIMEOUT + EVERY, "{took:?}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_up_within_rise_times_every_and_one_timeout() {
    let at = {
        let server = Server::start(good()).await;
        let at = server.at;
        server.kill().await;
        at
    };
    let check = fast(at.port());
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, at.ip(), check.clone());
    until(|| board.verdict(0) == Verdict::Down).await;
    let _server = Server::start_at(at, good()).await;
    let took = until(|| board.verdict(0) == Verdict::Up).await;
    assert!(took <= EVERY * u32::from(check.rise) + TIMEOUT + EVERY, "{took:?}");
}

#[tokio::test]
async fn it_takes_as_many_failures_as_fall_says() {
    let server = Server::start(good()).await;
    let (at, check) = (server.at, Check { fall: 4, ..fast(server.at.port()) });
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, at.ip(), check);
    until(|| board.verdict(0) == Verdict::Up).await;
    server.kill().await;
    let server = Server::start_at(at, ill()).await;
    until(|| board.verdict(0) == Verdict::Down).await;
    // Refused ones between the two servers may have counted too, at most one.
    assert!((3..=4).contains(&server.connections()), "{}", server.connections());
}

#[tokio::test]
async fn equal_checks_of_equal_addresses_run_once() {
    let server = Server::start(good()).await;
    let (address, check) = (server.at.ip(), http_check(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let board = health.adopt(layout([(address, vec![check.clone()]), (address, vec![check.clone(), check])]));
    health.first_round().await;
    assert_eq!((board.verdict(0), board.verdict(1)), (Verdict::Up, Verdict::Up));
    assert_eq!((server.connections(), health.status().len()), (1, 1));
}

#[tokio::test]
async fn unequal_checks_of_one_address_run_each() {
    let server = Server::start(good()).await;
    let (address, check) = (server.at.ip(), http_check(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let _board = health.adopt(layout([(address, vec![check.clone(), Check { fall: 3, ..check }])]));
    health.first_round().await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn meaning_16_verdicts_of_unchanged_checks_survive_a_new_layout() {
    let server = Server::start(good()).await;
    let (at, check) = (server.at, http_check(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let _old = health.adopt(layout([(at.ip(), vec![check.clone()]), (own_address(), vec![http_check(1)])]));
    health.first_round().await;
    // Another slot now, and known before anybody was asked again.
    let new = health.adopt(layout([(own_address(), vec![]), (at.ip(), vec![check])]));
    health.retire();
    assert_eq!((new.verdict(1), server.connections()), (Verdict::Up, 1));
}

#[tokio::test]
async fn a_dead_address_stays_down_on_the_old_board_while_the_new_one_does_without_it() {
    let server = Server::start(good()).await;
    let (dead, check) = (own_address(), fast(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let old = health.adopt(layout([(dead, vec![http_check(1)]), (server.at.ip(), vec![check.clone()])]));
    health.first_round().await;
    assert_eq!((old.verdict(0), old.verdict(1)), (Verdict::Down, Verdict::Up));
    let _new = health.adopt(layout([(server.at.ip(), vec![check])]));
    // A verdict that is published on both boards, between the two steps of a swap and behind them.
    server.kill().await;
    until(|| old.verdict(1) == Verdict::Down).await;
    assert_eq!(old.verdict(0), Verdict::Down);
    health.retire();
    assert_eq!(old.verdict(0), Verdict::Down);
}

#[tokio::test]
async fn a_new_board_that_shares_one_check_of_two_does_not_make_the_old_verdict_unknown() {
    let server = Server::start(good()).await;
    let (at, kept) = (server.at, fast(server.at.port()));
    let gone = Check { fall: 3, ..kept.clone() };
    let health = Health::new(Handle::current(), None);
    let old = health.adopt(layout([(at.ip(), vec![kept.clone(), gone])]));
    health.first_round().await;
    let new = health.adopt(layout([(at.ip(), vec![kept])]));
    health.retire();
    server.kill().await;
    until(|| new.verdict(0) == Verdict::Down).await;
    assert_ne!(old.verdict(0), Verdict::Unknown);
}

#[tokio::test]
async fn both_boards_hear_of_a_change_until_the_old_one_is_retired() {
    let server = Server::start(good()).await;
    let (at, check) = (server.at, fast(server.at.port()));
    let health = Health::new(Handle::current(), None);
    let old = adopt_one(&health, at.ip(), check.clone());
    health.first_round().await;
    let new = adopt_one(&health, at.ip(), check);
    server.kill().await;
    until(|| old.verdict(0) == Verdict::Down && new.verdict(0) == Verdict::Down).await;
    health.retire();
    let _server = Server::start_at(at, good()).await;
    until(|| new.verdict(0) == Verdict::Up).await;
    assert_eq!(old.verdict(0), Verdict::Down);
}

#[tokio::test]
async fn checks_go_on_between_adopt_and_retire_though_the_new_board_does_without_them() {
    let server = Server::start(good()).await;
    let health = Health::new(Handle::current(), None);
    let old = adopt_one(&health, server.at.ip(), fast(server.at.port()));
    health.first_round().await;
    let _new = health.adopt(layout([]));
    next_attempts(&server, 2).await;
    server.kill().await;
    until(|| old.verdict(0) == Verdict::Down).await;
}

#[tokio::test]
async fn checks_that_are_not_needed_end_with_retire() {
    let (gone, kept) = (Server::start(good()).await, Server::start(good()).await);
    let health = Health::new(Handle::current(), None);
    let stays = (kept.at.ip(), vec![fast(kept.at.port())]);
    let tasks_before = alive_tasks();
    let _old = health.adopt(layout([(gone.at.ip(), vec![fast(gone.at.port())]), stays.clone()]));
    health.first_round().await;
    let _new = health.adopt(layout([stays]));
    health.retire();
    // Servers' tasks for one conversation end with it.
    until(|| alive_tasks() == tasks_before + 1).await;
    let connections = gone.connections();
    next_attempts(&kept, 3).await;
    assert_eq!((gone.connections(), health.status().len()), (connections, 1));
}

#[tokio::test]
async fn a_board_that_was_let_go_of_before_the_swap_does_not_end_what_is_served() {
    let server = Server::start(good()).await;
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, server.at.ip(), fast(server.at.port()));
    health.first_round().await;
    drop(health.adopt(layout([])));
    health.retire();
    server.kill().await;
    until(|| board.verdict(0) == Verdict::Down).await;
}

#[tokio::test]
async fn no_task_outlives_the_health_side() {
    let tasks_before = alive_tasks();
    let health = Health::new(Handle::current(), None);
    let _board = health.adopt(layout((0..20).map(|_| (own_address(), vec![fast(1)]))));
    health.first_round().await;
    drop(health);
    until(|| alive_tasks() == tasks_before).await;
}

#[tokio::test]
async fn five_hundred_targets_cost_as_many_tasks_down_as_up() {
    // One listener for all of 127.0.0.0/8: where it accepts, everybody is up.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let health = Health::new(Handle::current(), None);
    let tasks_before = alive_tasks();
    let accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let targets: Vec<IpAddr> =
        (0..500_u16).map(|n| Ipv4Addr::new(127, 78, (n >> 8) as u8, n as u8).into()).collect();
    let check = Check {
        kind: CheckKind::Tcp,
        every: Duration::from_millis(400),
        timeout: Duration::from_millis(400),
        ..http_check(port)
    };
    let board = health.adopt(layout(targets.iter().map(|address| (*address, vec![check.clone()]))));
    let all = |verdict: Verdict| (0..500).all(|slot| board.verdict(slot) == verdict);
    until(|| all(Verdict::Up)).await;
    assert_eq!(alive_tasks(), tasks_before + 1 + 500);
    accepting.abort();
    until(|| all(Verdict::Down)).await;
    assert_eq!(alive_tasks(), tasks_before + 500);
}

#[tokio::test]
async fn a_change_of_one_target_leaves_the_others_alone() {
    let servers = [Server::start(good()).await, Server::start(good()).await, Server::start(ill()).await];
    let health = Health::new(Handle::current(), None);
    let board =
        health.adopt(layout(servers.iter().map(|server| (server.at.ip(), vec![fast(server.at.port())]))));
    health.first_round().await;
    let [first, _second, _third] = servers;
    first.kill().await;
    until(|| board.verdict(0) == Verdict::Down).await;
    assert_eq!((board.verdict(1), board.verdict(2)), (Verdict::Up, Verdict::Down));
}

#[tokio::test]
async fn meaning_7_an_address_without_a_route_stays_unknown() {
    // A link-local address without its interface leads nowhere, with or without IPv6 on this machine.
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, address.into(), fast(80));
    health.first_round().await;
    assert_eq!(board.verdict(0), Verdict::Unknown);
    let last: HashMap<IpAddr, String> =
        health.status().into_iter().map(|status| (status.address, status.last)).collect();
    assert!(last[&address.into()].starts_with("connect: "), "{last:?}");
}

#[tokio::test]
async fn the_first_round_waits_for_a_silent_server_as_long_as_its_own_timeout() {
    let server = Server::start(vec![Step::Hold]).await;
    let check = Check { timeout: Duration::from_millis(500), ..http_check(server.at.port()) };
    let health = Health::new(Handle::current(), None);
    let board = adopt_one(&health, server.at.ip(), check.clone());
    let begun = Instant::now();
    health.first_round().await;
    assert!(begun.elapsed() < check.timeout * 2, "{:?}", begun.elapsed());
    assert_eq!(board.verdict(0), Verdict::Down);
}

#[tokio::test]
async fn the_first_round_of_a_reload_waits_for_what_is_new_only() {
    let old = SocketAddr::new(own_address(), 1);
    let health = Health::new(Handle::current(), None);
    let _old = adopt_one(&health, old.ip(), http_check(old.port()));
    health.first_round().await;
    let _new = adopt_one(&health, old.ip(), http_check(old.port()));
    let begun = Instant::now();
    health.first_round().await;
    // The next attempt at the old one is due in twenty seconds.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// While a server starts that is to take the place of one that runs, operators speak to the latter.
#[tokio::test]
async fn who_starts_beside_a_running_server_writes_over_nothing_that_is_said_to_that_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = Health::new(Handle::current(), Some(folder.path()));
    let board = adopt_one(&running, own_address(), fast(1));
    let order = |wish, lasts| Order {
        wish,
        site: "site".to_owned(),
        service: None,
        lasts,
        over: 0,
        reason: String::new(),
        by: "a test".to_owned(),
        anyway: true,
    };
    running.follow(&order(Wish::Drain, Some(100))).expect("it is drained");
    let starting = Health::beside(Handle::current(), folder.path());
    let own_board = starting.adopt(board.layout().clone());
    assert_eq!(own_board.share(0), Share::DRAINED);
    running.follow(&order(Wish::ForceUp, None)).expect("it is forced");
    // By then it is over for the one that starts, too.
    until(|| own_board.share(0) == Share::FULL).await;
    running.give_state_away();
    starting.take_state_over();
    assert_eq!(own_board.verdict(0), Verdict::ForcedUp);
    drop(starting);
    let next = Health::new(Handle::current(), Some(folder.path()));
    assert_eq!(next.adopt(board.layout().clone()).verdict(0), Verdict::ForcedUp);
}
