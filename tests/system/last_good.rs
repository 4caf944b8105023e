//! A start with files that are broken or gone: what was served last is served again, and it is told.

use std::fs;

use crate::history::wait_for_kept;
use crate::server::{Home, Server};
use crate::world::{self, FRANKFURT, SYDNEY, answer, answer_from, question, wait_for_answer};

/// A home that was served once, in version 1.
fn served_before() -> Home {
    let server = Server::start(world::home());
    wait_for_kept(&server, 1);
    server.stop()
}

/// All of it is as it was, and everybody who looks is told.
#[track_caller]
fn is_as_it_was(server: &Server) {
    server.process.wait_for_line("what is wrong is served as it was in snapshot 1");
    assert_eq!(answer(server, "v.example.com", "TXT"), "\"1\"");
    assert_eq!(answer(server, "v.example.org", "TXT"), "\"1\"");
    assert_eq!(answer_from(server, "www.example.com", SYDNEY), "192.0.2.1");
    assert_eq!(answer_from(server, "www.example.com", FRANKFURT), "192.0.2.102");
    let status = server.status();
    assert_eq!(status["degraded"], true, "{status:#}");
    assert_ne!(status["reloads"]["last"]["outcome"], "took all", "{status:#}");
}

#[test]
fn a_zone_that_is_broken_at_the_start_is_served_as_it_was_and_the_others_as_they_are() {
    let home = served_before();
    home.write("zones/example.com.yaml", "records: [\n");
    home.write("zones/example.org.zone", world::master_file(2));
    let server = Server::start(home);
    server.process.wait_for_line("what is wrong is served as it was in snapshot 1");
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");
    assert_eq!(answer(&server, "v.example.org", "TXT"), "\"2\"");
    assert_eq!(server.status()["degraded"], true);
    server.home.save("zones/example.com.yaml", world::zone(3));
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"3\"");
    assert_eq!(server.status()["degraded"], false);
    server.stop();
}

#[test]
fn broken_sites_at_the_start_are_as_they_were() {
    let home = served_before();
    home.write("zones/sites.yaml", "sites: { syd: { locaton: [0, 0] } }\n");
    let server = Server::start(home);
    is_as_it_was(&server);
    server.stop();
}

#[test]
fn a_folder_that_is_empty_or_gone_at_the_start_is_served_as_it_was() {
    let home = served_before();
    for entry in fs::read_dir(home.path("zones")).expect("a folder").flatten() {
        fs::remove_file(entry.path()).expect("it is there");
    }
    let server = Server::start(home);
    is_as_it_was(&server);
    let home = server.stop();
    fs::remove_dir(home.path("zones")).expect("it is empty");
    let server = Server::start(home);
    is_as_it_was(&server);
    // And what comes is served.
    fs::create_dir(server.home.path("zones")).expect("a folder is made");
    for (name, text) in [
        ("sites.yaml", world::sites(2)),
        ("example.com.yaml", world::zone(2)),
        ("example.org.zone", world::master_file(2)),
    ] {
        server.home.save(&format!("zones/{name}"), text);
    }
    server.tell(&["reload"]).expect(0);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"2\"");
    server.stop();
}

#[test]
fn a_geo_database_that_is_missing_or_damaged_at_the_start_decides_as_it_did() {
    let home = served_before();
    let path = home.path("geodb/places-ipv4.mmdb");
    let octets = fs::read(&path).expect("a database");
    fs::write(&path, &octets[..octets.len() / 2]).expect("it is cut off");
    let server = Server::start(home);
    is_as_it_was(&server);
    let home = server.stop();
    fs::remove_file(&path).expect("it is there");
    let server = Server::start(home);
    is_as_it_was(&server);
    fs::write(&path, octets).expect("it is back");
    server.tell(&["reload"]).expect(0);
    assert_eq!(server.status()["degraded"], false);
    server.stop();
}

#[test]
fn strict_refuses_all_the_same() {
    let home = served_before();
    home.write("zones/example.com.yaml", "records: [\n");
    let told = home.run(&["serve", "--config", "meridian.yaml", "--strict"]).expect(1).stderr;
    assert!(told.contains("--strict: there are errors"), "{told}");
}

#[test]
fn a_snapshot_that_is_damaged_gives_way_to_the_one_before() {
    let server = Server::start(world::home());
    server.home.save("zones/example.com.yaml", world::zone(2));
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"2\"");
    wait_for_kept(&server, 2);
    let home = server.stop();
    let digest = meridian::change::content::Digest::of(world::zone(2).as_bytes()).to_string();
    home.write(&format!("run/history/objects/{}/{}", &digest[..2], &digest[2..]), "spoiled");
    home.write("zones/example.com.yaml", "records: [\n");
    let server = Server::start(home);
    server.process.wait_for_line("is damaged");
    is_as_it_was(&server);
    server.stop();
}
