//! Changes that go so far that somebody has to say that they are meant.

use std::fs;

use crate::geo;
use crate::server::{Home, Server};
use crate::world::{self, FRANKFURT, Load, SYDNEY, answer, question, question_from, wait_for_answer};

/// Changes something while the server is asked; it is held, and nobody gets another answer. By force it is served.
#[track_caller]
fn is_held(server: &Server, change: impl FnOnce(&Home), told: &str) {
    let load = Load::start(
        server.at,
        vec![
            (question("v.example.com", "TXT"), "\"1\"".to_owned()),
            (question_from("www.example.com", "A", SYDNEY), "192.0.2.1".to_owned()),
            (question_from("www.example.com", "A", FRANKFURT), "192.0.2.102".to_owned()),
        ],
    );
    let before = server.status()["snapshot"].clone();
    let mark = server.process.mark();
    change(&server.home);
    server.process.wait_for_line_after(mark, told);
    let reload = server.tell(&["reload"]).expect(4).stdout;
    assert!(reload.contains(told) && reload.contains("held: "), "{reload}");
    assert!(reload.ends_with(&format!("held: snapshot {before} is served\n")), "{reload}");
    let status = server.status();
    assert_eq!((&status["snapshot"], &status["reloads"]["last"]["outcome"]), (&before, &"held".into()));
    load.stop().expect("no answer has changed");
    server.tell(&["reload", "--force"]).expect(0);
    assert_eq!(server.status()["snapshot"].as_u64(), before.as_u64().map(|before| before + 1));
}

#[test]
fn a_zone_that_loses_more_than_half_of_its_names_is_held() {
    let home = world::home();
    let names: String = (0..8).map(|number| format!("  n{number}: {{ A: 192.0.2.9 }}\n")).collect();
    home.write("zones/example.com.yaml", world::zone(1) + &names);
    let server = Server::start(home);
    // Twelve names with the apex; six may go.
    let some: String = (0..2).map(|number| format!("  n{number}: {{ A: 192.0.2.9 }}\n")).collect();
    server.home.save("zones/example.com.yaml", world::zone(1) + &some);
    wait_for_answer(&server, &question("n2.example.com", "A"), "NXDOMAIN");
    // Others in their place do not make up for them.
    let others: String = (0..9).map(|number| format!("  m{number}: {{ A: 192.0.2.9 }}\n")).collect();
    let many: String = (0..8).map(|number| format!("  k{number}: {{ A: 192.0.2.9 }}\n")).collect();
    server.home.save("zones/example.com.yaml", world::zone(1) + &some + &many);
    wait_for_answer(&server, &question("k7.example.com", "A"), "192.0.2.9");
    is_held(
        &server,
        |home| home.save("zones/example.com.yaml", world::zone(1) + &others),
        "zones/example.com.yaml: held: 10 of 14 names are gone",
    );
    assert_eq!(answer(&server, "m8.example.com", "A"), "192.0.2.9");
    server.stop();
}

#[test]
fn a_change_that_leaves_a_service_nothing_but_drained_sites_is_held() {
    let home = world::home();
    let server = Server::start(home);
    server.tell(&["drain", "iad"]).expect(0);
    is_held(
        &server,
        |home| home.replace("zones/sites.yaml", "sites: [syd, fra, iad]", "sites: [iad]"),
        "service \"web\" has no site left that takes clients",
    );
    server.stop();
}

fn rows(networks: &[&str], is_moved: bool) -> Vec<geo::Row> {
    let (country, latitude, longitude) = if is_moved { ("US", 38.9, -77.0) } else { ("AU", -33.9, 151.2) };
    let row = |network: &&str| geo::Row {
        network: network.parse().expect("a network"),
        record: geo::Record {
            country_code: Some(country.to_owned()),
            latitude: Some(latitude),
            longitude: Some(longitude),
            city: Some("A".to_owned()),
            ..geo::Record::default()
        },
    };
    networks.iter().map(row).collect()
}

#[test]
fn a_geo_database_that_moves_a_fifth_of_the_address_space_is_held() {
    // Of IPv6, two of the five large blocks that registries have.
    for (family, networks) in [("IPv4", &["64.0.0.0/2"][..]), ("IPv6", &["2600::/12", "2a00::/12"])] {
        let home = world::home();
        let write = |home: &Home, is_moved, epoch| {
            geo::write_built(&home.path("geodb"), "more", &rows(networks, is_moved), epoch);
        };
        write(&home, false, 1_780_000_000);
        let server = Server::start(home);
        let why = format!("% of {family} go to another site of service \"web\"");
        is_held(&server, |home| write(home, true, 1_780_000_001), &why);
        server.stop();
    }
}

#[test]
fn a_geo_database_that_is_older_or_lost_much_is_held() {
    let home = world::home();
    let many: Vec<String> = (0..100).map(|number| format!("5.{number}.0.0/24")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let write = |home: &Home, count: usize, epoch| {
        geo::write_built(&home.path("geodb"), "more", &rows(&many[..count], false), epoch);
    };
    write(&home, 100, 1_780_000_000);
    let server = Server::start(home);
    is_held(
        &server,
        |home| write(home, 100, 1_770_000_000),
        "more-ipv4.mmdb: held: was built on 2026-02-02, the one before on 2026-05-28",
    );
    is_held(&server, |home| write(home, 50, 1_780_000_000), "% of its networks are gone");
    server.stop();
}

#[test]
fn a_gate_is_as_wide_as_it_is_set_and_may_be_off() {
    let home = world::home();
    home.write("meridian.yaml", "listen: \"127.0.0.1:0\"\nworkers: 1\ngates: { names: 0% }\n");
    let names = |count: usize| -> String {
        (0..count).map(|number| format!("  n{number}: {{ A: 192.0.2.9 }}\n")).collect()
    };
    home.write("zones/example.com.yaml", world::zone(1) + &names(9));
    let server = Server::start(home);
    server.home.save("zones/example.com.yaml", world::zone(1) + &names(8));
    server.tell(&["reload"]).expect(4);
    server.home.write("meridian.yaml", "listen: \"127.0.0.1:0\"\nworkers: 1\ngates: { names: off }\n");
    server.home.save("zones/example.com.yaml", world::zone(1));
    // Whoever notices first: the watcher or the command.
    let code = server.tell(&["reload"]).code;
    assert_eq!(code, Some(0));
    assert_eq!(answer(&server, "n0.example.com", "A"), "NXDOMAIN");
    server.stop();
}

#[test]
fn gates_for_databases_may_be_off() {
    let home = world::home();
    home.write(
        "meridian.yaml",
        "listen: \"127.0.0.1:0\"\nworkers: 1\ngates: { moves: off, networks: 60% }\n",
    );
    let write = |home: &Home, networks: &[&str], is_moved, epoch| {
        geo::write_built(&home.path("geodb"), "more", &rows(networks, is_moved), epoch);
    };
    let wide = ["64.0.0.0/2"];
    let many: Vec<String> = (0..100).map(|number| format!("5.{number}.0.0/24")).collect();
    let all: Vec<&str> = many.iter().map(String::as_str).chain(wide).collect();
    write(&home, &all, false, 1_780_000_000);
    let server = Server::start(home);
    // A quarter of IPv4 goes elsewhere, and then half of the networks is gone: each by itself would be held.
    write(&server.home, &all, true, 1_780_000_001);
    server.tell(&["reload"]).expect(0);
    write(&server.home, &all[50..], true, 1_780_000_002);
    server.tell(&["reload"]).expect(0);
    write(&server.home, &all[85..], true, 1_780_000_003);
    assert!(server.tell(&["reload"]).expect(4).stdout.contains("% of its networks are gone"));
    server.stop();
}

#[test]
fn a_database_that_is_not_what_its_checksum_says_is_refused() {
    let home = world::home();
    let server = Server::start(home);
    let load =
        Load::start(server.at, vec![(question_from("www.example.com", "A", SYDNEY), "192.0.2.1".to_owned())]);
    let path = server.home.path("geodb/places-ipv4.mmdb");
    server.home.write("geodb/places-ipv4.mmdb.sha256", format!("{}  places-ipv4.mmdb\n", "0".repeat(64)));
    world::write_geography(&server.home, true);
    let told = server.tell(&["reload"]).expect(3).stdout;
    assert!(told.contains("geodb/places-ipv4.mmdb: is not what places-ipv4.mmdb.sha256 says"), "{told}");
    load.stop().expect("no answer has changed");
    let digest = meridian::change::content::Digest::of(&fs::read(&path).expect("a database"));
    server.home.write("geodb/places-ipv4.mmdb.sha256", format!("{digest}  places-ipv4.mmdb\n"));
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "192.0.2.103");
    server.stop();
}
