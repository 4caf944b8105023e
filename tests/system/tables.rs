//! Compiled tables that outlive the server.

use std::fs;

use meridian::reload::{Outcome, Reloader};

use crate::server::Server;
use crate::world::{self, FRANKFURT, SYDNEY, answer_from};

const USED: &str = "tables in the state folder are used";

#[track_caller]
fn assert_answers(server: &Server, of_sydney: &str) {
    assert_eq!(answer_from(server, "www.example.com", SYDNEY), of_sydney);
    assert_eq!(answer_from(server, "www.example.com", FRANKFURT), "192.0.2.102");
}

#[test]
fn the_next_start_uses_the_tables_that_were_compiled_and_answers_the_same() {
    let server = Server::start(world::home());
    assert!(!server.process.lines().iter().any(|line| line.contains(USED)));
    assert_answers(&server, "192.0.2.1");
    let server = Server::start(server.stop());
    server.process.wait_for_line(USED);
    assert_answers(&server, "192.0.2.1");
    // Addresses decide nothing about who is near.
    let home = server.stop();
    home.save("zones/sites.yaml", world::sites(9));
    let server = Server::start(home);
    server.process.wait_for_line(USED);
    assert_answers(&server, "192.0.2.9");
    server.stop();
}

#[test]
fn tables_of_other_databases_or_other_sites_are_not_used() {
    let home = Server::start(world::home()).stop();
    world::write_geography(&home, true);
    let server = Server::start(home);
    assert_answers(&server, "192.0.2.103");
    let home = server.stop();
    home.replace("zones/sites.yaml", "[38.95, -77.45]", "[1.35, 103.82]");
    let server = Server::start(home);
    // From Washington it is nearer to Frankfurt than to Singapore.
    assert_answers(&server, "192.0.2.102");
    assert!(!server.process.lines().iter().any(|line| line.contains(USED)));
    server.stop();
}

#[test]
fn tables_that_are_damaged_do_no_harm() {
    let home = Server::start(world::home()).stop();
    let path = home.path("run/tables");
    let mut octets = fs::read(&path).expect("tables are kept");
    let middle = octets.len() / 2;
    octets[middle] ^= 0x55;
    fs::write(&path, octets).expect("they are spoiled");
    let server = Server::start(home);
    server.process.wait_for_line("run/tables is damaged; the tables are compiled anew");
    assert_answers(&server, "192.0.2.1");
    server.stop();
}

#[test]
fn tables_that_are_distrusted_are_compiled_anew() {
    let home = world::home();
    let reloader = || Reloader::new(&home.path("zones"), &[home.path("geodb")], Some(&home.path("run")));
    let mut first = reloader();
    assert_eq!(first.reload(false).outcome, Outcome::TookAll);
    assert!(first.take_unverified().is_none(), "they were compiled");
    // What it began to write is there when it is gone.
    drop(first);
    let mut second = reloader();
    assert_eq!(second.reload(false).outcome, Outcome::TookAll);
    let unverified = second.take_unverified().expect("they were at hand");
    assert!(unverified.are_as_they_were());
    second.distrust_tables();
    assert_eq!(second.reload(false).outcome, Outcome::TookAll);
    assert!(second.take_unverified().is_none(), "they were compiled");
    assert_eq!(second.reload(false).outcome, Outcome::Unchanged);
}
