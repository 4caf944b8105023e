//! Files that change while the server runs, in all the ways in which people and programs change files.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::server::{Server, in_words, udp_client};
use crate::world::{self, SYDNEY, answer, answer_from, ask_with, question, question_from, wait_for_answer};

#[test]
fn a_zone_that_is_renamed_over_is_served() {
    let server = Server::start(world::home());
    server.home.save("zones/example.com.yaml", world::zone(2));
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"2\"");
    server.process.wait_for_line("files changed: snapshot 2 is served");
    server.stop();
}

#[test]
fn a_zone_that_is_written_in_place_is_served() {
    let server = Server::start(world::home());
    server.home.write("zones/example.com.yaml", world::zone(2));
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"2\"");
    server.home.write("zones/example.org.zone", world::master_file(2));
    wait_for_answer(&server, &question("v.example.org", "TXT"), "\"2\"");
    server.stop();
}

#[test]
fn sites_and_a_geo_database_that_change_are_served() {
    let server = Server::start(world::home());
    server.home.save("zones/sites.yaml", world::sites(2));
    let question = question_from("www.example.com", "A", SYDNEY);
    wait_for_answer(&server, &question, "192.0.2.2");
    world::write_geography(&server.home, true);
    wait_for_answer(&server, &question, "192.0.2.103");
    server.stop();
}

#[test]
fn a_new_zone_is_served_and_one_that_is_gone_is_kept_until_forced() {
    let server = Server::start(world::home());
    assert_eq!(answer(&server, "v.example.net", "TXT"), "REFUSED");
    server.home.save("zones/example.net.yaml", world::zone(7));
    wait_for_answer(&server, &question("v.example.net", "TXT"), "\"7\"");
    let mark = server.process.mark();
    fs::remove_file(server.home.path("zones/example.net.yaml")).expect("it is there");
    server.process.wait_for_line_after(mark, "example.net.yaml: is gone");
    server.tell(&["reload"]).expect(1);
    assert_eq!(answer(&server, "v.example.net", "TXT"), "\"7\"");
    server.tell(&["reload", "--force"]).expect(0);
    assert_eq!(answer(&server, "v.example.net", "TXT"), "REFUSED");
    server.stop();
}

#[test]
fn a_checkout_of_two_hundred_zones_is_a_few_snapshots() {
    let home = world::home();
    let name = |number: u32| format!("zone{number}.example.net");
    for number in 0..200 {
        home.write(&format!("zones/{}.yaml", name(number)), world::zone(1));
    }
    let server = Server::start(home);
    for number in 0..200 {
        let path = format!("zones/{}.yaml", name(number));
        fs::remove_file(server.home.path(&path)).expect("it is there"); // as git does
        server.home.write(&path, world::zone(2));
    }
    for number in 0..200 {
        let question = question(&format!("v.{}", name(number)), "TXT");
        wait_for_answer(&server, &question, "\"2\"");
    }
    let snapshot = server.status()["snapshot"].as_u64().expect("a number");
    assert!((2..5).contains(&snapshot), "snapshot {snapshot}");
    server.stop();
}

#[test]
fn a_symbolic_link_that_is_swapped_brings_a_whole_folder() {
    let home = world::home();
    fs::create_dir(home.path("releases")).expect("a folder is made");
    fs::rename(home.path("zones"), home.path("releases/1")).expect("it is there");
    fs::create_dir(home.path("releases/2")).expect("a folder is made");
    home.write("releases/2/example.com.yaml", world::zone(2));
    home.write("releases/2/example.org.zone", world::master_file(2));
    home.write("releases/2/sites.yaml", world::sites(2));
    symlink("releases/1", home.path("zones")).expect("a link is made");
    let server = Server::start(home);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");

    symlink("releases/2", server.home.path("next")).expect("a link is made");
    fs::rename(server.home.path("next"), server.home.path("zones")).expect("it is renamed over");
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"2\"");
    assert_eq!(answer(&server, "v.example.org", "TXT"), "\"2\"");
    assert_eq!(answer_from(&server, "www.example.com", SYDNEY), "192.0.2.2");
    assert_eq!(server.status()["snapshot"], 2);

    // And the new folder is the one that is watched.
    server.home.write("releases/2/example.com.yaml", world::zone(3));
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"3\"");
    server.stop();
}

#[test]
fn an_included_file_that_changes_is_served() {
    let home = world::home();
    home.write("zones/hosts.inc", "w TXT \"old\"\n");
    home.write("zones/example.org.zone", world::master_file(1) + "$INCLUDE hosts.inc\n");
    let server = Server::start(home);
    assert_eq!(answer(&server, "w.example.org", "TXT"), "\"old\"");
    server.home.save("zones/hosts.inc", "w TXT \"new\"\n");
    wait_for_answer(&server, &question("w.example.org", "TXT"), "\"new\"");
    server.stop();
}

#[test]
fn a_configuration_that_changes_is_told_and_waits_for_the_next_start() {
    let server = Server::start(world::home());
    let other = server.home.read("meridian.yaml") + "zones: elsewhere\n";
    server.home.save("meridian.yaml", other);
    let line = server.process.wait_for_line("meridian.yaml: ");
    assert!(line.contains("takes effect at the next start"), "{line}");
    server.tell(&["reload"]).expect(0);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");
    server.stop();
}

#[test]
fn hup_reads_everything_again() {
    let server = Server::start(world::home());
    server.process.signal(Signal::SIGHUP);
    server.process.wait_for_line("HUP: nothing is new");
    server.home.save("zones/example.com.yaml", world::zone(2));
    server.process.signal(Signal::SIGHUP);
    server.process.wait_for_line("HUP: snapshot 2 is served");
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"2\"");
    server.stop();
}

#[test]
fn while_fifty_versions_come_nobody_waits_and_nobody_sees_an_older_one_again() {
    const VERSIONS: u32 = 50;
    let server = Server::start(world::home());
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = [false, true]
        .into_iter()
        .map(|has_new_sockets| {
            let (at, is_over) = (server.at, Arc::clone(&is_over));
            thread::spawn(move || {
                let question = question("v.example.com", "TXT");
                let mut client = udp_client(at);
                let (mut newest, mut asked) = (1, 0);
                while !is_over.load(Ordering::Relaxed) {
                    // Another socket, another thread of the server.
                    if has_new_sockets {
                        client = udp_client(at);
                    }
                    let message = ask_with(&mut client, &question).expect("an answer in time");
                    let version: u32 =
                        in_words(&message).trim_matches('"').parse().expect("one of the versions");
                    assert!((newest..=VERSIONS).contains(&version), "{version} after {newest}");
                    newest = version;
                    asked += 1;
                }
                (newest, asked)
            })
        })
        .collect();
    for version in 2..=VERSIONS {
        server.home.save("zones/example.com.yaml", world::zone(version));
        server.tell(&["reload"]).expect(0);
        assert_eq!(answer(&server, "v.example.com", "TXT"), format!("\"{version}\""));
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let (newest, asked) = client.join().expect("every answer was right");
        assert!(newest >= VERSIONS - 1 && asked > VERSIONS, "version {newest} after {asked} answers");
    }
    server.stop();
}
