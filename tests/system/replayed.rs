//! Queries that clients sent: what a change would answer to them, from files and beside the server.

use std::fs;

use nix::sys::signal::Signal;

use crate::capture::{ETHERNET, pcap, query_packet};
use crate::server::{Home, Server, ask_udp};
use crate::world::{self, FRANKFURT, SYDNEY, answer_from, question, question_from};

/// Frankfurt is taken out, and `v` says something else.
fn write_next(home: &Home) {
    fs::create_dir_all(home.path("next")).expect("a folder");
    for (name, text) in [
        ("example.com.yaml", world::zone(7)),
        ("sites.yaml", world::sites(1).replace("[syd, fra, iad]", "[syd, iad]")),
        ("example.org.zone", world::master_file(1)),
    ] {
        home.write(&format!("next/{name}"), text);
    }
}

/// Three from Frankfurt, one from Sydney, one for what has changed, and something else.
fn log() -> String {
    let line = |subnet: &str, name: &str, rtype: &str| {
        format!(
            "{{\"client\":\"192.0.2.0/24\",\"subnet\":\"{subnet}\",\"qname\":\"{name}\",\"qtype\":\"{rtype}\"}}\n"
        )
    };
    let www = |subnet: &str| line(subnet, "www.example.com.", "A");
    [
        www(FRANKFURT).repeat(3),
        www(SYDNEY),
        line(SYDNEY, "v.example.com.", "TXT"),
        line(SYDNEY, "v.example.org.", "TXT"),
        "nonsense\n".to_owned(),
    ]
    .concat()
}

#[test]
fn a_query_log_tells_whom_a_change_answers_differently() {
    let home = world::home();
    write_next(&home);
    home.write("q.log", log());
    let arguments = ["diff", "next", "--against", "zones", "--queries", "q.log"];
    let text = home.run(&arguments).expect(0).stdout;
    for line in [
        "  A: 33.3 % of IPv4 and 0.0 % of IPv6 move, and so do 75.0 % of 4 queries\n",
        "queries  6 in q.log, 4 would be answered differently (66.7 %)\n         1 would be answered alike, but for another scope\n         1 more cannot be read as queries\n",
        "  name              type  queries  get              would get\n",
        "  www.example.com.  A           3  fra 192.0.2.102  iad 192.0.2.103\n",
        "  v.example.com.    TXT         1  \"1\"              \"7\"\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let told = home.run(&[&arguments[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(told["queries"]["different"], 4);
    assert_eq!(told["queries"]["names"][0]["ways"][0]["after"], "iad 192.0.2.103");
    assert_eq!(told["services"]["web"]["types"][0]["moves"][0]["queries"], 0.75);
}

#[test]
fn a_capture_does_as_well_as_a_log() {
    let home = world::home();
    write_next(&home);
    let resolver = "198.51.100.7".parse().expect("an address");
    let packet =
        |subnet: &str| query_packet(resolver, &question_from("wWw.example.com", "A", subnet).to_wire());
    let file = pcap(ETHERNET, &[packet("9.9.9.77/32"), packet(SYDNEY), vec![0; 60]], false);
    home.write("q.pcap", &file);
    let text = home.run(&["diff", "next", "--against", "zones", "--queries", "q.pcap"]).expect(0).stdout;
    assert!(text.contains("queries  2 in q.pcap, 1 would be answered differently (50.0 %)\n"), "{text}");
    let arguments = ["simulate", "web", "--down", "fra", "--queries", "q.pcap"];
    let text = home.run(&arguments).expect(0).stdout;
    assert!(text.contains("queries    2 of this service in q.pcap\n"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("fra") && line.contains("50.0 %")), "{text}");
    home.write("q.pcap", &file[..file.len() - 100]);
    let text = home.run(&arguments).expect(0).stdout;
    assert!(text.contains("1 of this service") && text.contains("cut off or damaged"), "{text}");
}

#[test]
fn where_nothing_changes_all_queries_are_answered_alike() {
    let home = world::home();
    home.write("q.log", log());
    let text = home.run(&["diff", "--against", "zones", "--queries", "q.log"]).expect(0).stdout;
    assert!(text.contains("queries  6 in q.log, 0 would be answered differently (0.0 %)\n"), "{text}");
    assert!(text.ends_with("nothing would be answered differently\n"), "{text}");
}

#[test]
fn a_file_that_holds_no_queries_is_told_with_what_is_expected() {
    let home = world::home();
    home.write("q.zip", "PK\u{3}\u{4}");
    for command in [&["diff", "--against", "zones"][..], &["simulate", "web", "--down", "fra"]] {
        let text = home.run(&[command, &["--queries", "q.zip"]].concat()).expect(2).stderr;
        assert!(text.starts_with("q.zip: no query stands in it: a query log"), "{text}");
    }
}

fn start() -> Server {
    let home = world::home();
    home.write(
        "meridian.yaml",
        "listen: \"127.0.0.1:0\"\nworkers: 1\nquery_log: { file: log/q.log, sample: 1/1 }\n",
    );
    write_next(&home);
    Server::start(home)
}

#[test]
fn a_shadow_tells_what_would_be_answered_differently_as_clients_ask() {
    let server = start();
    // What was asked before does not count.
    answer_from(&server, "www.example.com", FRANKFURT);
    server.wait_for_status("with a line", |status| status["query_log"]["written"] == 1);
    let mut shadow = server.home.spawn(&["shadow", "next", "--config", "meridian.yaml", "--count", "3"]);
    shadow.wait_for_line("following log/q.log, all queries: snapshot 1 beside next");
    assert_eq!(answer_from(&server, "www.example.com", FRANKFURT), "192.0.2.102");
    answer_from(&server, "www.example.com", SYDNEY);
    answer_from(&server, "www.example.com", SYDNEY);
    assert_eq!(shadow.wait().code(), Some(1));
    let text = shadow.lines().join("\n");
    assert!(text.contains("queries  3 in log/q.log, 1 would be answered differently (33.3 %)"), "{text}");
    assert!(text.contains("fra 192.0.2.102  iad 192.0.2.103"), "{text}");
    assert_eq!(server.status()["snapshot"], 1);
    server.stop();
}

#[test]
fn a_shadow_has_the_verdicts_of_the_server_and_ends_when_it_is_told_to() {
    let server = start();
    // With Frankfurt out at the server, the folder that has no Frankfurt answers the same.
    server.tell(&["force", "fra", "down"]).expect(0);
    let mut shadow = server.home.spawn(&["shadow", "next", "--config", "meridian.yaml", "--count", "1"]);
    shadow.wait_for_line("following");
    assert_eq!(answer_from(&server, "www.example.com", FRANKFURT), "192.0.2.103");
    assert_eq!(shadow.wait().code(), Some(0), "{}", shadow.lines().join("\n"));

    let mut shadow = server.home.spawn(&["shadow", "zones", "--config", "meridian.yaml"]);
    shadow.wait_for_line("following");
    shadow.signal(Signal::SIGINT);
    assert_eq!(shadow.wait().code(), Some(0));
    assert!(shadow.lines().iter().any(|line| line.starts_with("queries  0 in log/q.log")));
    server.stop();
}

/// Whatever is edited while it runs: the server's zones, or the candidate's.
#[test]
fn a_shadow_goes_on_with_what_is_served_and_with_what_is_in_the_folder() {
    let server = start();
    let mut shadow = server.home.spawn(&["shadow", "next", "--config", "meridian.yaml", "--count", "3"]);
    shadow.wait_for_line("following");
    let version = question("v.example.com", "TXT");
    let ask = |written: u64| {
        ask_udp(server.at, &version.to_wire());
        server.wait_for_status("with its line", |status| status["query_log"]["written"] == written);
    };
    ask(1);
    let mark = shadow.mark();
    server.home.save("zones/example.com.yaml", world::zone(7));
    shadow.wait_for_line_after(mark, "from here on snapshot 2 beside next");
    ask(2);
    let mark = shadow.mark();
    server.home.save("next/example.com.yaml", world::zone(8));
    shadow.wait_for_line_after(mark, "from here on snapshot 2 beside next");
    ask(3);
    assert_eq!(shadow.wait().code(), Some(1));
    let lines = shadow.lines();
    let told: Vec<&String> = lines.iter().filter(|line| line.ends_with('"')).collect();
    assert!(lines.iter().any(|line| line.contains("queries  3") && line.contains(", 2 would")), "{lines:?}");
    assert_eq!(told.len(), 1, "{lines:?}");
    server.stop();
}

#[test]
fn a_shadow_without_a_query_log_says_what_to_write() {
    let home = world::home();
    let text = home.run(&["shadow", "zones"]).expect(2).stderr;
    assert!(text.contains("\n    query_log: { file: log/queries.log, sample: 1/100 }\n"), "{text}");
    home.write("meridian.yaml", "query_log: { file: log/q.log }\n");
    home.run(&["shadow", "zones"]).expect(5);
}
