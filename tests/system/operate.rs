//! An operator's word: drains, forces, what they come to, and what becomes of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::history::wait_for_kept;
use crate::server::{Home, PATIENCE, Server};
use crate::world::{self, FRANKFURT, SYDNEY, WASHINGTON, answer_from, question_from, wait_for_answer};

const SYD: &str = "192.0.2.10";
const FRA: &str = "192.0.2.20";

/// Two sites, in two services.
fn home() -> Home {
    let home = world::home();
    home.write(
        "zones/sites.yaml",
        "sites:
  syd: { location: [-33.87, 151.21], A: 192.0.2.10 }
  fra: { location: [50.11, 8.68], A: 192.0.2.20 }
services:
  web: { sites: [syd, fra] }
",
    );
    home
}

fn site<'s>(status: &'s Value, name: &str) -> &'s Value {
    let sites = status["services"][0]["sites"].as_array().expect("a list");
    sites.iter().find(|site| site["site"] == name).expect("the site")
}

fn sydney(server: &Server) -> String {
    answer_from(server, "www.example.com", SYDNEY)
}

#[test]
fn meaning_8_a_drained_site_takes_nobody_until_it_is_undrained() {
    let server = Server::start(home());
    assert_eq!(sydney(&server), SYD);
    let ran = server.tell(&["drain", "syd", "--reason", "kernel upgrade"]).expect(0);
    assert_eq!(ran.stdout, "syd: drained\n");
    assert_eq!(sydney(&server), FRA);
    let status = server.status();
    assert_eq!(site(&status, "syd")["share"], 0.0);
    let standing = &status["overrides"][0];
    assert_eq!((&standing["what"], &standing["reason"]), (&"drained".into(), &"kernel upgrade".into()));
    assert!(standing["by"].as_str().is_some_and(|by| by.contains("uid ")), "{standing}");
    let text = server.tell(&["status"]).expect(0).stdout;
    assert!(text.contains(" answers, drained\n"), "{text}");
    assert!(text.contains("until it is taken back, by "), "{text}");
    assert_eq!(server.tell(&["undrain", "s*"]).expect(0).stdout, "syd: takes clients again\n");
    assert_eq!(sydney(&server), SYD);
    assert_eq!(server.status()["overrides"], serde_json::json!([]));
    server.stop();
}

#[test]
fn meaning_9_the_last_site_of_a_service_is_not_drained_without_force() {
    let server = Server::start(home());
    server.tell(&["drain", "syd"]).expect(0);
    let ran = server.tell(&["drain", "fra"]).expect(4);
    assert_eq!(ran.stderr, "that leaves no site for web; --force does it all the same\n");
    assert_eq!(sydney(&server), FRA);
    server.tell(&["force", "fra", "down"]).expect(4);
    // And then there is none, even though all_down would give the preferred one.
    server.tell(&["drain", "fra", "--force"]).expect(0);
    assert_eq!(sydney(&server), "NOERROR");
    server.stop();
}

#[test]
fn meaning_9_force_goes_before_drain_and_before_what_checks_say() {
    let server = Server::start(home());
    server.tell(&["drain", "syd"]).expect(0);
    assert_eq!(server.tell(&["force", "syd", "up"]).expect(0).stdout, "syd: up, whatever checks say\n");
    assert_eq!(sydney(&server), SYD);
    server.tell(&["force", "syd", "down", "--service", "w?b"]).expect(0);
    assert_eq!(sydney(&server), FRA);
    assert_eq!(site(&server.status(), "syd")["verdicts"][SYD], "forced down");
    assert_eq!(
        server.tell(&["unforce", "syd", "--service", "web"]).expect(0).stdout,
        "syd in web: checks decide again\n"
    );
    assert_eq!(sydney(&server), SYD);
    server.tell(&["unforce", "syd"]).expect(0);
    assert_eq!(sydney(&server), FRA);
    server.stop();
}

#[test]
fn an_override_expires_by_itself_and_the_rest_survives_a_restart() {
    let server = Server::start(home());
    server.tell(&["drain", "syd", "--for", "1d", "--reason", "move"]).expect(0);
    assert_eq!(sydney(&server), FRA);
    let server = Server::start(server.stop());
    assert_eq!(sydney(&server), FRA);
    assert_eq!(server.status()["overrides"][0]["reason"], "move");
    // The new word takes the old one's place.
    server.tell(&["drain", "syd", "--for", "1s"]).expect(0);
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), SYD);
    server.process.wait_for_line("syd: the drain has expired");
    assert_eq!(server.status()["overrides"], serde_json::json!([]));
    server.stop();
}

#[test]
fn a_window_of_maintenance_begins_and_ends_by_itself() {
    let home = home();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let at = |after: u64| jiff::Timestamp::from_second((seconds + after) as i64).expect("a time");
    let window = format!("A: 192.0.2.10, maintenance: {{ from: \"{}\", until: \"{}\" }}", at(0), at(6));
    home.replace("zones/sites.yaml", "A: 192.0.2.10", &window);
    let server = Server::start(home);
    let question = question_from("www.example.com", "A", SYDNEY);
    wait_for_answer(&server, &question, FRA);
    assert_eq!(server.status()["overrides"][0]["by"], "maintenance");
    wait_for_answer(&server, &question, SYD);
    assert!(SystemTime::now() >= UNIX_EPOCH + Duration::from_secs(seconds + 6));
    server.stop();
}

#[test]
fn explain_of_the_running_server_knows_what_operators_said() {
    let server = Server::start(home());
    let explain = |more: &[&str]| {
        let words = [&["explain", "www.example.com", "--from", "1.1.1.1"], more].concat();
        server.home.run(&words).expect(0).stdout
    };
    server.tell(&["drain", "syd", "--reason", "kernel upgrade"]).expect(0);
    assert!(explain(&[]).contains("chosen    syd\n"));
    let running = explain(&["--running"]);
    assert!(running.contains("chosen    fra\n") && running.contains(" drained\n"), "{running}");
    let line =
        running.lines().find(|line| line.contains("until it is taken back, by ")).expect("who said so");
    assert!(line.trim_start().starts_with("drained until") && line.ends_with(": kernel upgrade"), "{line}");
    server.tell(&["force", "syd", "up"]).expect(0);
    let running = explain(&["--running"]);
    assert!(running.contains("chosen    syd\n") && running.contains("forced up"), "{running}");
    let home = server.stop();
    home.run(&["explain", "www.example.com", "--from", "1.1.1.1", "--running"]).expect(5);
}

/// With Frankfurt out, Washington has not room for its clients as well as its own: who lives in Frankfurt loses less.
#[test]
fn what_a_full_site_costs_is_told_wherever_somebody_asks_why() {
    let home = world::home();
    home.write(
        "zones/sites.yaml",
        "sites:
  syd: { location: [-33.87, 151.21], A: 192.0.2.10, capacity: 100 }
  fra: { location: [50.11, 8.68], A: 192.0.2.20, capacity: 100 }
  iad: { location: [38.95, -77.45], A: 192.0.2.30, capacity: 50 }
services:
  web: { sites: [syd, fra, iad], spill: { demand: 150 } }
",
    );
    let server = Server::start(home);
    let explain = |more: &[&str]| {
        let words = [&["explain", "www.example.com", "--from", "9.9.9.9"], more].concat();
        server.home.run(&words).expect(0).stdout
    };
    assert!(explain(&["--running"]).contains("chosen    fra\n"));
    server.tell(&["drain", "fra"]).expect(0);
    let is_told = |text: &str| {
        let iad = text.lines().find(|line| line.contains(". iad ")).expect("a line of the ranking");
        assert!(text.contains("chosen    syd\n") && iad.ends_with(" km while it is full"), "{text}");
    };
    is_told(&explain(&["--running"]));
    is_told(&explain(&["--down", "fra"]));
    assert_eq!(answer_from(&server, "www.example.com", FRANKFURT), SYD);
    assert_eq!(answer_from(&server, "www.example.com", WASHINGTON), "192.0.2.30");
    let status = server.home.run(&["status"]).expect(0).stdout;
    let iad = status.lines().find(|line| line.trim_start().starts_with("iad ")).expect("a line of its own");
    assert!(iad.contains(", full: counts as ") && iad.ends_with(" km farther"), "{iad}");
    assert!(status.contains("service web: iad is full; "), "{status}");
    let simulated = server.home.run(&["simulate", "web", "--down", "fra"]).expect(0).stdout;
    let iad = simulated.lines().rfind(|line| line.starts_with("iad ")).expect("a line of its own");
    assert!(iad.ends_with(" 100.0 %"), "{simulated}");
    let simulated = server.home.run(&["simulate", "web", "--down", "fra", "--drain", "syd"]).expect(0).stdout;
    assert!(simulated.ends_with("warning: there is not room for all\n"), "{simulated}");
    server.stop();
}

#[test]
fn explain_of_the_running_server_is_about_what_is_served_and_not_about_the_files() {
    let home = home();
    let ruled = "web: { rules: [{ country: [AU], sites: [fra] }], sites: [syd, fra] }";
    home.replace("zones/sites.yaml", "web: { sites: [syd, fra] }", ruled);
    let server = Server::start(home);
    // It is written down beside the queries.
    wait_for_kept(&server, 1);
    // A file of which nothing is served.
    server.home.save("zones/sites.yaml", "sites: nowhere\n");
    server.tell(&["reload"]).expect(3);
    let told = server.home.run(&["explain", "www.example.com", "--from", "1.1.1.1", "--running"]).expect(0);
    assert!(told.stdout.contains("chosen    fra\n"), "{}", told.stdout);
    assert!(
        told.stdout.contains("rule      number 1, at (as it is served)/sites.yaml:5:"),
        "{}",
        told.stdout
    );
    assert_eq!(told.stderr, "");
    server.stop();
}

#[test]
fn explain_tells_how_long_the_last_client_stays() {
    let home = checked_home(1, "127.88.10");
    home.replace("zones/sites.yaml", "every: 200ms, timeout: 200ms", "every: 5s, timeout: 2s, fall: 3");
    let ran = home.run(&["explain", "www.example.com", "--from", "1.1.1.1"]).expect(0);
    assert!(ran.stdout.contains("failover  17s to tell, the last client after 47s\n"), "{}", ran.stdout);
}

#[test]
fn a_drain_may_go_little_by_little() {
    let server = Server::start(home());
    let ran = server.tell(&["drain", "syd", "--over", "3s"]).expect(0);
    assert_eq!(ran.stdout, "syd: drained over 3s\n");
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), FRA);
    let share = |server: &Server| site(&server.status(), "syd")["share"].as_f64().expect("a number");
    let mut seen = vec![share(&server)];
    while share(&server) > 0.0 {
        seen.push(share(&server));
        thread::yield_now();
    }
    assert!(seen.is_sorted_by(|a, b| a >= b), "{seen:?}");
    server.stop();
}

#[test]
fn what_makes_no_sense_is_told_and_changes_nothing() {
    let server = Server::start(home());
    let told = |arguments: &[&str]| server.tell(arguments).expect(2).stderr;
    assert_eq!(told(&["drain", "sid"]), "no site \"sid\"; did you mean \"syd\"?\n");
    assert_eq!(told(&["drain", "syd", "--service", "wep"]), "no service \"wep\"; did you mean \"web\"?\n");
    assert_eq!(told(&["undrain", "syd"]), "nothing of the kind stands for \"syd\"\n");
    assert!(
        told(&["drain", "syd", "--for", "soon"]).contains("a time is expected, such as 90s, 30m, 2h or 1d")
    );
    assert_eq!(server.status()["overrides"], serde_json::json!([]));
    let home = server.stop();
    home.run(&["drain", "syd"]).expect(5);
}

#[test]
fn who_watches_sees_what_happens() {
    let server = Server::start(home());
    let mut watch =
        server.home.command(&["watch", "--json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let (first, came) = mpsc::channel();
    let lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let reading =
        thread::spawn(move || lines.map_while(Result::ok).take(1).try_for_each(|line| first.send(line)));
    // Until it is there, what happens happens without it.
    let line = loop {
        server.tell(&["drain", "syd", "--reason", "a test"]).expect(0);
        server.tell(&["undrain", "syd"]).expect(0);
        if let Ok(line) = came.try_recv() {
            break line;
        }
    };
    reading.join().expect("no panic").expect("somebody listens");
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["kind"], "override");
    watch.kill().expect("it is there");
    watch.wait().expect("it ends");
    server.stop();
}

#[test]
fn overrides_that_cannot_be_read_are_told_and_kept() {
    let home = home();
    std::fs::create_dir_all(home.path("run")).expect("a folder");
    home.write("run/overrides.json", "{ not JSON");
    let server = Server::start(home);
    server.process.wait_for_line("drains and forces that stand only there are void; it is kept as");
    server.tell(&["drain", "syd"]).expect(0);
    assert_eq!(server.home.read("run/overrides.json.broken"), "{ not JSON");
    server.stop();
}

/// Ports of this machine that something listens at, until they are dropped.
pub(crate) fn listeners(addresses: [&str; 3]) -> (u16, Vec<Option<TcpListener>>) {
    for _ in 0..50 {
        let first = TcpListener::bind((addresses[0], 0)).expect("a port");
        let port = first.local_addr().expect("it is bound").port();
        let others: Result<Vec<_>, _> =
            addresses[1..].iter().map(|address| TcpListener::bind((*address, port)).map(Some)).collect();
        if let Ok(others) = others {
            return (port, std::iter::once(Some(first)).chain(others).collect());
        }
    }
    panic!("no port is free at three addresses");
}

/// Two sites, and a canary beside them.
pub(crate) fn checked_home(port: u16, network: &str) -> Home {
    let home = world::home();
    home.write(
        "zones/sites.yaml",
        format!(
            "sites:
  syd: {{ location: [-33.87, 151.21], A: {network}.1 }}
  fra: {{ location: [50.11, 8.68], A: {network}.2 }}
services:
  web:
    sites: [syd, fra]
    checks: [{{ tcp: {{}}, port: {port}, every: 200ms, timeout: 200ms }}]
"
        ),
    );
    home
}

#[test]
fn meaning_9_a_server_that_is_cut_off_lets_no_site_go() {
    let (port, mut listening) = listeners(["127.88.7.1", "127.88.7.2", "127.88.7.3"]);
    let home = checked_home(port, "127.88.7");
    let mut text = home.read("meridian.yaml");
    text += &format!(
        "canaries: [{{ address: 127.88.7.3, tcp: {{}}, port: {port}, every: 200ms, timeout: 200ms }}]\n"
    );
    home.write("meridian.yaml", text);
    let server = Server::start(home);
    assert_eq!(sydney(&server), "127.88.7.1");
    assert_eq!(server.status()["isolated"], false);
    // Everything at once, as when the link of this machine goes.
    listening.iter_mut().for_each(|listener| drop(listener.take()));
    server.process.wait_for_line("every canary fails: this server is cut off");
    server.wait_for_status("are both held", |status| {
        ["syd", "fra"].iter().all(|name| site(status, name)["held"] == "isolation")
    });
    assert_eq!(sydney(&server), "127.88.7.1");
    assert_eq!(site(&server.status(), "syd")["verdicts"]["127.88.7.1"], "held");
    // The canary is back, the sites are not: that is believed.
    listening[2] = Some(TcpListener::bind(("127.88.7.3", port)).expect("its port is free"));
    server.process.wait_for_line("a canary answers again");
    server.wait_for_status("are let go", |status| site(status, "syd")["held"].is_null());
    server
        .process
        .wait_for_line("service web: every site is down; the canaries are well, so this is believed");
    server.stop();
}

#[test]
fn what_was_known_before_a_restart_is_known_after_it() {
    let (port, mut listening) = listeners(["127.88.8.1", "127.88.8.2", "127.88.8.3"]);
    drop(listening[0].take());
    let server = Server::start(checked_home(port, "127.88.8"));
    assert_eq!(sydney(&server), "127.88.8.2");
    let since = |server: &Server| server.status()["checks"][0]["since"].clone();
    let before = since(&server);
    let home = server.stop();
    let text = home.read("run/verdicts.json");
    assert!(text.contains("127.88.8.1 port"), "{text}");
    let server = Server::start(home);
    // Down from the first answer on, and since when it was.
    assert_eq!(sydney(&server), "127.88.8.2");
    assert_eq!(since(&server), before);
    let _syd = TcpListener::bind(("127.88.8.1", port)).expect("its port is free");
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.8.1");
    server.stop();
}

/// Verdicts are written soon after they change, and long before they would be if nothing did.
fn wait_for_written(server: &Server, text: &str) {
    let end = Instant::now() + PATIENCE;
    let is_written =
        || fs::read_to_string(server.home.path("run/verdicts.json")).is_ok_and(|file| file.contains(text));
    while !is_written() {
        assert!(Instant::now() < end, "{text} is not written");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_changed_a_moment_before_a_server_is_killed_is_known_when_it_starts_again() {
    let (port, mut listening) = listeners(["127.88.10.1", "127.88.10.2", "127.88.10.3"]);
    let mut server = Server::start(checked_home(port, "127.88.10"));
    assert_eq!(sydney(&server), "127.88.10.1");
    drop(listening[0].take());
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.10.2");
    wait_for_written(&server, "\"is_up\":false");
    let since = |server: &Server| server.status()["checks"][0]["since"].clone();
    let before = since(&server);
    server.process.kill();
    let server = Server::start(server.home);
    assert_eq!(sydney(&server), "127.88.10.2");
    assert_eq!(since(&server), before);
    server.stop();
}

#[test]
fn verdicts_that_cannot_be_read_are_told_once_and_the_first_round_decides() {
    let (port, mut listening) = listeners(["127.88.13.1", "127.88.13.2", "127.88.13.3"]);
    drop(listening[0].take());
    let home = checked_home(port, "127.88.13");
    fs::create_dir(home.path("run")).expect("a folder is made");
    home.write("run/verdicts.json", "{\"written\":");
    let server = Server::start(home);
    assert_eq!(sydney(&server), "127.88.13.2");
    let lines = server.process.lines();
    let told = |line: &&String| line.contains("the verdicts of the last run are not known");
    assert_eq!(lines.iter().filter(told).count(), 1, "{lines:?}");
    server.stop();
}

#[test]
fn meaning_9_what_left_and_what_is_held_is_remembered_over_a_restart() {
    let (port, mut listening) = listeners(["127.88.11.1", "127.88.11.2", "127.88.11.3"]);
    let home = checked_home(port, "127.88.11");
    home.replace(
        "zones/sites.yaml",
        "services:",
        "  iad: { location: [38.95, -77.45], A: 127.88.11.3 }\nservices:",
    );
    home.replace("zones/sites.yaml", "sites: [syd, fra]", "sites: [syd, fra, iad]\n    blast_radius: 30%");
    let server = Server::start(home);
    drop(listening[0].take());
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.11.3");
    let server = Server::start(server.stop());
    assert_eq!(sydney(&server), "127.88.11.3");
    drop(listening[2].take());
    server
        .process
        .wait_for_line("service web, site iad: is down, and is given out all the same (blast radius)");
    let server = Server::start(server.stop());
    assert_eq!(sydney(&server), "127.88.11.3");
    assert_eq!(site(&server.status(), "iad")["held"], "blast radius");
    server.stop();
}

#[test]
fn status_tells_of_a_check_since_when_how_long_it_took_and_what_was_wrong_last() {
    let (port, mut listening) = listeners(["127.88.12.1", "127.88.12.2", "127.88.12.3"]);
    drop(listening[0].take());
    let server = Server::start(checked_home(port, "127.88.12"));
    let line = |server: &Server| {
        let text = server.tell(&["status"]).expect(0).stdout;
        let line = text.lines().find(|line| line.contains("127.88.12.1 port")).expect("the check");
        line.to_owned()
    };
    let down = line(&server);
    assert!(down.contains(" down     for ") && down.contains(", connect: Connection refused"), "{down}");
    let _syd = TcpListener::bind(("127.88.12.1", port)).expect("its port is free");
    server.wait_for_status("is up", |status| status["checks"][0]["verdict"] == "up");
    let status = server.status();
    let check = &status["checks"][0];
    assert!(check["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0 && rtt < 200.0), "{check}");
    assert!(check["last_error"]["at"].as_u64().is_some(), "{check}");
    let up = line(&server);
    assert!(up.contains(" ms; ") && up.contains(" ago: connect: Connection refused"), "{up}");
    server.stop();
}

#[test]
fn meaning_9_one_site_of_a_service_always_may_leave_and_the_next_is_held_while_others_are_up() {
    let (port, mut listening) = listeners(["127.88.9.1", "127.88.9.2", "127.88.9.3"]);
    let home = checked_home(port, "127.88.9");
    home.replace(
        "zones/sites.yaml",
        "services:",
        "  iad: { location: [38.95, -77.45], A: 127.88.9.3 }\nservices:",
    );
    home.replace("zones/sites.yaml", "sites: [syd, fra]", "sites: [syd, fra, iad]\n    blast_radius: 30%");
    let server = Server::start(home);
    drop(listening[0].take());
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.9.3");
    drop(listening[2].take());
    server
        .process
        .wait_for_line("service web, site iad: is down, and is given out all the same (blast radius)");
    assert_eq!(sydney(&server), "127.88.9.3");
    let ran = server.home.run(&["explain", "www.example.com", "--from", "8.8.8.8", "--running"]).expect(0);
    let iad = ran.stdout.lines().find(|line| line.contains(". iad ")).expect("a line of the ranking");
    assert!(iad.contains(" held ") && ran.stdout.contains("chosen    iad\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("{iad}\n               held: blast radius\n")), "{}", ran.stdout);
    // Where all are down, the operator said what happens.
    drop(listening[1].take());
    server.process.wait_for_line("service web: every site is down; no canaries are configured");
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.9.1");
    server.stop();
}

#[test]
fn meaning_9_where_too_few_sites_are_left_panic_gives_out_all_but_those_that_are_drained() {
    let (port, mut listening) = listeners(["127.88.11.1", "127.88.11.2", "127.88.11.3"]);
    let home = checked_home(port, "127.88.11");
    home.replace(
        "zones/sites.yaml",
        "services:",
        "  iad: { location: [38.95, -77.45], A: 127.88.11.3 }\nservices:",
    );
    let guards = "sites: [syd, fra, iad]\n    blast_radius: off\n    panic: 60%";
    home.replace("zones/sites.yaml", "sites: [syd, fra]", guards);
    let server = Server::start(home);
    // Two of three are enough.
    drop(listening[0].take());
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.11.3");
    // One is not.
    drop(listening[2].take());
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "127.88.11.1");
    assert_eq!(answer_from(&server, "www.example.com", WASHINGTON), "127.88.11.3");
    server.process.wait_for_line("service web, site syd: is down, and is given out all the same (panic)");
    let status = server.status();
    assert_eq!(
        ["syd", "fra", "iad"].map(|name| site(&status, name)["held"].as_str()),
        [Some("panic"), None, Some("panic")]
    );
    let ran = server.home.run(&["explain", "www.example.com", "--from", "1.1.1.1", "--running"]).expect(0);
    let syd = ran.stdout.lines().find(|line| line.contains(". syd ")).expect("a line of the ranking");
    assert!(syd.contains(" held ") && ran.stdout.contains("chosen    syd\n"), "{}", ran.stdout);
    server.tell(&["drain", "syd"]).expect(0);
    assert_eq!(sydney(&server), "127.88.11.3");
    server.stop();
}

#[test]
fn a_drain_may_be_taken_back_little_by_little() {
    let server = Server::start(home());
    server.tell(&["drain", "syd"]).expect(0);
    assert_eq!(sydney(&server), FRA);
    let ran = server.tell(&["undrain", "syd", "--over", "3s"]).expect(0);
    assert_eq!(ran.stdout, "syd: takes clients again over 3s\n");
    assert_eq!(server.status()["overrides"][0]["what"], "undrained");
    let share = |server: &Server| site(&server.status(), "syd")["share"].as_f64().expect("a number");
    let mut seen = vec![share(&server)];
    while seen.last() != Some(&1.0) {
        seen.push(share(&server));
        thread::yield_now();
    }
    assert!(seen[0] < 1.0 && seen.is_sorted(), "{seen:?}");
    assert!(seen.iter().any(|share| *share > 0.0 && *share < 1.0), "{seen:?}");
    assert_eq!(sydney(&server), SYD);
    server.wait_for_status("with nothing that stands", |status| status["overrides"] == serde_json::json!([]));
    server.stop();
}
