//! What was served before, and the way back to it.

use std::fs;
use std::process::Command;

use crate::server::{Home, Server};
use crate::world::{self, Load, SYDNEY, answer, answer_from, question, question_from, wait_for_answer};

/// The newest snapshot that is written down, once it is this one or a later.
#[track_caller]
pub(crate) fn wait_for_kept(server: &Server, number: u64) {
    wait_for_history(server, |kept| kept.last().is_some_and(|newest| *newest >= number));
}

/// Waits until such numbers are kept: they are written, and what is too old is removed, after a snapshot is served.
#[track_caller]
fn wait_for_history(server: &Server, is_so: impl Fn(&[u64]) -> bool) {
    let end = std::time::Instant::now() + crate::server::PATIENCE;
    loop {
        let told = server.home.run(&["history", "--json"]).expect(0).json();
        let kept = told["snapshots"].as_array().into_iter().flatten();
        let kept: Vec<u64> = kept.filter_map(|entry| entry["number"].as_u64()).collect();
        if is_so(&kept) {
            return;
        }
        assert!(std::time::Instant::now() < end, "that is never kept: {told:#}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn change(server: &Server, version: u32) {
    server.home.save("zones/example.com.yaml", world::zone(version));
    wait_for_answer(server, &question("v.example.com", "TXT"), &format!("\"{version}\""));
}

fn lines(home: &Home, arguments: &[&str]) -> Vec<String> {
    home.run(arguments).expect(0).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn every_snapshot_that_went_live_is_listed_with_what_made_it() {
    let server = Server::start(world::home());
    change(&server, 2);
    server.home.save("zones/sites.yaml", world::sites(2));
    server.tell(&["reload", "--reason", "sydney has moved"]).expect(0);
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "192.0.2.2");
    wait_for_kept(&server, 3);
    let listed = lines(&server.home, &["history"]);
    assert!(listed[0].starts_with("snapshot") && listed.len() == 4, "{listed:#?}");
    // The watcher may have been faster than the command.
    assert!(listed[1].trim_start().starts_with('3'), "{listed:#?}");
    assert!(listed[2].ends_with("files changed") && listed[3].ends_with("start"), "{listed:#?}");
    let shown = lines(&server.home, &["history", "show", "1"]);
    for file in ["example.com.yaml", "example.org.zone", "sites.yaml"] {
        assert!(shown.iter().any(|line| line.ends_with(&format!("  {file}"))), "{shown:#?}");
    }
    assert!(shown.iter().any(|line| line.contains("places-ipv4.mmdb, built 2026-05-28")), "{shown:#?}");
    let text = server.home.run(&["history", "show", "1", "example.com.yaml"]).expect(0).stdout;
    assert_eq!(text, world::zone(1));
    server.stop();
}

#[test]
fn who_reloads_and_why_is_kept_and_so_is_the_commit() {
    let home = world::home();
    fs::create_dir_all(home.path(".git/logs")).expect("a folder is made");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    home.write(".git/logs/HEAD", format!("{} {commit} A <a@b> 1 +0000\tcommit\n", "0".repeat(40)));
    let server = Server::start(home);
    wait_for_kept(&server, 1);
    let told = server.home.run(&["history", "--json"]).expect(0).json();
    assert_eq!(told["snapshots"][0]["commit"], commit);
    assert_eq!(told["snapshots"][0]["why"], "start");
    let digest = told["snapshots"][0]["digest"].clone();
    assert_eq!(server.status()["digest"], digest);
    server.tell(&["rollback", "1", "--reason", "to see"]).expect(0);
    server.home.save("zones/example.com.yaml", world::zone(2));
    server.wait_for_status("a reload among the events", |status| {
        status["events"].as_array().is_some_and(|events| {
            events.iter().any(|event| {
                event["kind"] == "reload" && event["text"].to_string().contains("snapshot 2 is served")
            })
        })
    });
    server.tell(&["rollback", "1", "--reason", "to see"]).expect(0);
    assert_eq!(server.status()["reloads"]["last"]["reason"], "to see");
    assert!(server.status()["reloads"]["last"]["by"].as_str().is_some_and(|by| by.contains("uid ")));
    server.stop();
}

#[test]
fn a_restart_with_the_same_files_is_the_same_snapshot() {
    let server = Server::start(world::home());
    change(&server, 2);
    wait_for_kept(&server, 2);
    let server = Server::start(server.stop());
    assert_eq!(server.status()["snapshot"], 2);
    let home = server.stop();
    home.save("zones/example.com.yaml", world::zone(3));
    let server = Server::start(home);
    assert_eq!(server.status()["snapshot"], 3);
    wait_for_kept(&server, 3);
    assert_eq!(lines(&server.home, &["history"]).len(), 4);
    server.stop();
}

#[test]
fn a_rollback_is_served_over_a_restart_until_the_files_change() {
    let server = Server::start(world::home());
    server.home.save("zones/sites.yaml", world::sites(2));
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "192.0.2.2");
    change(&server, 2);
    fs::remove_file(server.home.path("zones/example.org.zone")).expect("it is there");
    server.tell(&["reload", "--force"]).expect(0);
    assert_eq!(answer(&server, "v.example.org", "TXT"), "REFUSED");
    wait_for_kept(&server, 4);

    let told = server.tell(&["rollback", "1", "--reason", "all of it was wrong"]).expect(0).stdout;
    assert_eq!(told, "took all: snapshot 5 is served\n");
    let is_back = |server: &Server| {
        assert_eq!(answer(server, "v.example.com", "TXT"), "\"1\"");
        assert_eq!(answer(server, "v.example.org", "TXT"), "\"1\"");
        assert_eq!(answer_from(server, "www.example.com", SYDNEY), "192.0.2.1");
    };
    is_back(&server);
    server.tell(&["reload"]).expect(0);
    is_back(&server);
    wait_for_kept(&server, 5);
    let listed = lines(&server.home, &["history"]);
    assert!(
        listed[1].contains("rolled back to 1, by ") && listed[1].ends_with(": all of it was wrong"),
        "{listed:#?}"
    );
    assert_eq!(listed[6], "snapshot 1 is served instead of the files, until they change");

    let server = Server::start(server.stop());
    is_back(&server);
    assert_eq!(server.status()["rollback"], 1);
    change(&server, 3);
    assert_eq!(answer(&server, "v.example.org", "TXT"), "\"1\"", "gone, and kept until --force");
    assert_eq!(answer_from(&server, "www.example.com", SYDNEY), "192.0.2.2");
    assert_eq!(server.status()["rollback"], serde_json::Value::Null);
    server.stop();
}

#[test]
fn reload_force_ends_a_rollback_and_what_is_not_kept_cannot_be_had() {
    let server = Server::start(world::home());
    change(&server, 2);
    wait_for_kept(&server, 2);
    server.tell(&["rollback", "1"]).expect(0);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");
    server.tell(&["reload", "--force"]).expect(0);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"2\"");
    let told = server.tell(&["rollback", "77"]).expect(2).stderr;
    assert_eq!(told, "snapshot 77 is not kept\n");
    server.stop();
}

#[test]
fn a_rollback_loses_no_query() {
    let server = Server::start(world::home());
    change(&server, 2);
    wait_for_kept(&server, 2);
    let load = Load::start(server.at, vec![(question("v.example.org", "TXT"), "\"1\"".to_owned())]);
    for _ in 0..5 {
        server.tell(&["rollback", "1"]).expect(0);
        server.tell(&["reload", "--force"]).expect(0);
    }
    load.stop().expect("every answer is right");
    server.stop();
}

#[test]
fn where_nothing_can_be_kept_all_is_served_and_it_is_told_once() {
    let home = world::home();
    fs::create_dir(home.path("run")).expect("a folder is made");
    // Like a disk that is full, also for root.
    home.write("run/history", "no folder");
    fs::create_dir(home.path("run/serials")).expect("a folder is made");
    let server = Server::start(home);
    for version in 2..5 {
        change(&server, version);
    }
    let server_log = server.process.lines();
    for what in ["is not kept", "serials cannot be kept"] {
        let told = server_log.iter().filter(|line| line.contains(what)).count();
        assert_eq!(told, 1, "{what}: {server_log:#?}");
    }
    server.stop();
}

#[test]
fn whoever_is_killed_while_writing_starts_with_what_was_served() {
    // tests/long/run asks for more.
    let rounds = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8_u32);
    let home = world::home();
    // None of them goes while it is looked at.
    home.write("meridian.yaml", "listen: \"127.0.0.1:0\"\nworkers: 1\nhistory: { keep: 1000 }\n");
    // Syd's place, and so the tables, are others each time; whether it is up is told by a file.
    let sites = |version: u32| {
        let checks =
            "checks: [{ file: { path: ../verdict }, every: 100ms, timeout: 50ms, fall: 1, rise: 1 }]";
        let sites = world::sites(1).replace("iad] }", &format!("iad], {checks} }}"));
        sites.replace("-33.87", &format!("-33.{:03}", version % 1000))
    };
    home.write("zones/sites.yaml", sites(1));
    home.write("verdict", "up\n");
    let mut server = Server::start(home);
    for round in 0..rounds {
        let version = 2 + round;
        server.home.save("verdict", if round % 2 == 0 { "down\n" } else { "up\n" });
        // What operators say is written down as well, at about the same time.
        let order = server.home.spawn(&[if round % 4 < 2 { "drain" } else { "undrain" }, "fra"]);
        server.home.save("zones/sites.yaml", sites(version));
        server.home.save("zones/example.com.yaml", world::zone(version));
        if round % 4 == 3 {
            // A verdict is written within a second of its change.
            std::thread::sleep(std::time::Duration::from_millis(900 + u64::from(round * 37 % 300)));
        } else if round % 2 == 0 {
            wait_for_answer(&server, &question("v.example.com", "TXT"), &format!("\"{version}\""));
            // Somewhere between the first text and the last rename.
            std::thread::sleep(std::time::Duration::from_micros(u64::from(round * 97 % 4000)));
        }
        server.process.kill();
        let process = server.home.spawn(&["serve", "--config", "meridian.yaml"]);
        server = Server::of(process, server.home);
        drop(order);
        assert_eq!(answer(&server, "v.example.com", "TXT"), format!("\"{version}\""));
        let overrides = server.status()["overrides"].as_array().map(Vec::len);
        assert!(overrides.is_some_and(|count| count <= 1), "{overrides:?}");
        let log = server.process.lines();
        let is_void = |line: &&String| {
            [" are void", " are not known", " is damaged"].iter().any(|what| line.contains(what))
        };
        assert_eq!(log.iter().find(is_void), None);
        // Whatever is listed is whole.
        let told = server.home.run(&["history", "--json"]).expect(0).json();
        for entry in told["snapshots"].as_array().expect("a list") {
            server.home.run(&["history", "show", &entry["number"].to_string(), "sites.yaml"]).expect(0);
        }
    }
    server.stop();
}

#[test]
fn only_as_many_are_kept_as_the_configuration_says() {
    let home = world::home();
    home.write("meridian.yaml", "listen: \"127.0.0.1:0\"\nworkers: 1\nhistory: { keep: 2 }\n");
    let server = Server::start(home);
    for version in 2..6 {
        change(&server, version);
        wait_for_kept(&server, u64::from(version));
    }
    wait_for_history(&server, |kept| kept == [4, 5]);
    assert_eq!(lines(&server.home, &["history"]).len(), 1 + 2);
    // A program that reads the state folder sees what the manual says.
    let listed = Command::new("ls").arg(server.home.path("run/history")).output().expect("ls");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("000005.json"));
    server.stop();
}

#[test]
fn a_rollback_to_what_is_not_kept_any_more_is_over_at_the_next_start() {
    let server = Server::start(world::home());
    change(&server, 2);
    wait_for_kept(&server, 2);
    server.tell(&["rollback", "1"]).expect(0);
    wait_for_kept(&server, 3);
    let home = server.stop();
    fs::remove_file(home.path("run/history/000001.json")).expect("it is there");
    let server = Server::start(home);
    server.process.wait_for_line("snapshot 1 was rolled back to, and is not kept any more");
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"2\"");
    assert_eq!(server.status()["rollback"], serde_json::Value::Null);
    server.stop();
}
