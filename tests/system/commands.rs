//! The command line: what each command says and how it exits; starting and stopping.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::server::{Home, Server, ask_udp};
use crate::world::{self, answer, question};

fn words(value: &Value) -> &str {
    value.as_str().expect("a text")
}

// check

#[test]
fn check_calls_the_shipped_sample_good() {
    let ran = Home::of_sample().run(&["check"]).expect(0);
    let told = "good: 2 zones, 18 names, 2 services
web: nobody checks its sites, a dead one stays
demo: a dead site is told within 2.5s, its last client has left after 7.5s
";
    assert_eq!(ran.stdout, told);
    assert_eq!(ran.stderr, "");
}

#[test]
fn check_tells_every_mistake_with_its_place_and_exits_with_1() {
    let home = world::home();
    let zone = world::zone(1).replace("2.53", "2.530").replace(": web", ": wep");
    home.write("zones/example.com.yaml", zone);
    home.write("zones/example.org.zone", world::master_file(1).replace("v TXT", "v TXTT"));
    let ran = home.run(&["check"]).expect(1);
    for told in [
        "zones/example.com.yaml:5:13: ",
        "  ns1: { A: 192.0.2.530 }\n",
        "zones/example.com.yaml:6:19: unknown service \"wep\"; did you mean \"web\"?",
        "zones/example.org.zone:5:3: ",
    ] {
        assert!(ran.stdout.contains(told), "no {told} in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("good"));

    // One file's findings alone; for programs.
    let ran = home.run(&["check", "zones/example.org.zone", "--json"]).expect(1).json();
    let findings = ran["findings"].as_array().expect("a list");
    assert!(!findings.is_empty());
    for finding in findings {
        assert_eq!(finding["file"], "zones/example.org.zone");
        assert_eq!(finding["severity"], "error");
        assert_eq!((&finding["line"], &finding["column"]), (&json!(5), &json!(3)));
    }
    home.run(&["check", "zones/sites.yaml"]).expect(0);
}

/// From death to the last client: what the checks take, and the longest TTL that any name gives out.
#[test]
fn check_tells_the_worst_case_of_each_service() {
    let home = Home::of_sample();
    let promise = |home: &Home| {
        let told = home.run(&["check", "--json"]).expect(0).json();
        let services = told["services"].as_array().expect("a list").clone();
        let of_demo = services.into_iter().find(|service| service["service"] == "demo").expect("it is used");
        (of_demo["detection_seconds"].clone(), of_demo["last_client_seconds"].clone())
    };
    assert_eq!(promise(&home), (json!(2.5), json!(7.5)));
    // Of a range the upper bound, whatever is given out now.
    home.replace("zones/sites.yaml", "    ttl: 5\n", "    ttl: 5..120\n");
    assert_eq!(promise(&home), (json!(2.5), json!(122.5)));
    // A name may have a TTL of its own, and the longest counts.
    let zone = home.read("zones/example.com.yaml");
    home.save(
        "zones/example.com.yaml",
        zone.replace("records:\n", "records:\n  slow: { service: demo, ttl: 200 }\n"),
    );
    assert_eq!(promise(&home), (json!(2.5), json!(202.5)));
    // Nobody looks: nobody knows.
    home.replace("zones/sites.yaml", "    checks:\n", "    checks: []\n");
    home.replace(
        "zones/sites.yaml",
        "      - { http: { path: / }, port: 8080, every: 1s, timeout: 500ms, fall: 2, rise: 2 }\n",
        "",
    );
    assert_eq!(promise(&home), (Value::Null, Value::Null));
}

#[test]
fn check_runs_the_expectations_of_zones() {
    let home = Home::of_sample();
    home.replace("zones/example.com.yaml", "from: 1.1.1.1, site: syd", "from: 1.1.1.1, site: fra");
    let ran = home.run(&["check"]).expect(1);
    assert!(ran.stdout.contains("zones/example.com.yaml:31:5: expectation failed"), "{}", ran.stdout);
}

#[test]
fn check_refuses_an_rrset_above_the_limit_that_is_set() {
    let home = world::home();
    let many: String = (0..40).map(|host| format!("wide A 192.0.2.{host}\n")).collect();
    home.write("zones/example.org.zone", world::master_file(1) + &many);
    home.run(&["check"]).expect(0);
    home.write("meridian.yaml", "largest_rrset: 600\n");
    let told = "the A records of wide.example.org. take 640 octets, more than largest_rrset (600)";
    let ran = home.run(&["check"]).expect(1);
    assert!(ran.stdout.contains(told), "{}", ran.stdout);
}

#[test]
fn check_of_what_is_not_there_is_wrong_usage() {
    let home = world::home();
    home.run(&["check", "nowhere.yaml"]).expect(2);
    home.write("zones/notes.txt", "");
    home.run(&["check", "zones/notes.txt"]).expect(2);
}

#[test]
fn check_of_a_broken_configuration_exits_with_1() {
    let home = world::home();
    home.write("meridian.yaml", "lisen: \"127.0.0.1:0\"\n");
    for arguments in [&["check"][..], &["check", "meridian.yaml"], &["check", "--config", "meridian.yaml"]] {
        let ran = home.run(arguments).expect(1);
        let told = ran.stdout + &ran.stderr;
        assert!(
            told.contains("meridian.yaml:1:1: unknown key \"lisen\"; did you mean \"listen\"?"),
            "{told}"
        );
    }
}

// usage

#[test]
fn wrong_usage_exits_with_2() {
    let home = world::home();
    for arguments in [
        &[][..],
        &["bogus"],
        &["serve", "--nonsense"],
        &["serve", "--listen", "nowhere"],
        &["explain", "www.example.com"],
        &["explain", "www.example.com", "--from", "somewhere"],
        &["explain", "www.example.com", "B", "--from", "1.1.1.1"],
        &["explain", "www..example.com", "--from", "1.1.1.1"],
        &["explain", "www.example.com", "--from", "1.1.1.1", "--down", "sid"],
        &["import"],
        &["reload", "now"],
    ] {
        let ran = home.run(arguments).expect(2);
        assert_ne!(ran.stderr, "", "{arguments:?}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let home = world::home();
    home.run(&["--help"]).expect(0);
    for command in ["serve", "check", "explain", "import", "status", "reload", "demo-sites"] {
        let ran = home.run(&[command, "--help"]).expect(0);
        assert!(ran.stdout.contains(&format!("Example: meridian {command}")), "{}", ran.stdout);
    }
}

#[test]
fn without_a_server_status_and_reload_exit_with_5() {
    let home = world::home();
    for command in ["status", "reload"] {
        let ran = home.run(&[command]).expect(5);
        assert!(ran.stderr.contains("run/meridian.sock"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

// reload and status; 1 and 3 are in `damage` as well

#[test]
fn reload_exits_with_0_for_all_1_for_some_and_3_for_nothing() {
    let server = Server::start(world::home());
    let reload = |code: i32| server.home.run(&["reload", "--json"]).expect(code).json();
    assert_eq!(reload(0)["outcome"], "unchanged");
    server.home.save("zones/example.com.yaml", "records: {");
    let told = reload(1);
    assert_eq!(told["outcome"], "kept some");
    assert_eq!(told["zones"], json!({ "all": 2, "kept": ["example.com."], "broken": [] }));
    server.home.save("zones/sites.yaml", "sites: {");
    assert_eq!(reload(3)["outcome"], "took nothing");
    server.home.save("zones/sites.yaml", world::sites(1));
    server.home.save("zones/example.com.yaml", world::zone(2));
    server.home.run(&["reload"]).expect(0);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"2\"");
    server.stop();
}

#[test]
fn status_tells_what_is_served_to_people_and_programs() {
    let server = Server::start(world::home());
    answer(&server, "v.example.com", "TXT");
    let status = server.home.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["pid"], server.process.pid());
    assert_eq!(status["listen"], json!([server.at.to_string()]));
    assert_eq!(status["snapshot"], 1);
    assert_eq!(status["counters"]["udp_queries"], 1);
    assert_eq!(status["degraded"], false);
    let zones = status["zones"].as_array().expect("a list");
    let in_short: Vec<_> = zones.iter().map(|zone| (words(&zone["name"]), words(&zone["state"]))).collect();
    assert_eq!(in_short, [("example.com.", "good"), ("example.org.", "good")]);
    let told = server.home.run(&["status"]).expect(0).stdout;
    for text in ["example.com.", "web", "syd", "places-ipv4.mmdb", "queries: 1 UDP"] {
        assert!(told.contains(text), "no {text} in\n{told}");
    }
    server.stop();
}

#[test]
fn every_key_of_status_is_on_the_page() {
    const PAGE: &str = include_str!("../../docs/failover.md");
    /// What is in these is by address, by level of rate limits, by listener, by country.
    const BY_NAME: [&str; 6] =
        ["verdicts", "limited_truncated", "limited_dropped", "would_have_limited", "transports", "countries"];
    let home = world::home();
    let config = "listen: \"127.0.0.1:0\"\ncountries: 1/1\nquery_log: { file: q.log, sample: 1/1 }\n";
    home.write("meridian.yaml", config);
    let checks = "checks: [{ tcp: {}, port: 9 }]";
    home.write("zones/sites.yaml", world::sites(1).replace("iad] }", &format!("iad], {checks} }}")));
    home.write("zones/broken.example.yaml", "no zone\n");
    let server = Server::start(home);
    server.tell(&["drain", "syd"]).expect(0);
    let status = server.status();
    let (_, after) = PAGE.split_once("### The object of `status`").expect("the section");
    let section = after.split("\n#").next().expect("it ends");
    let mut keys = Vec::new();
    keys_of(&status, &BY_NAME, &mut keys);
    // All kinds of things are there to be named.
    for key in ["until", "last_error", "sample", "written", "price_km", "outcome"] {
        assert!(keys.iter().any(|known| known == key), "no {key} in {keys:?}");
    }
    // Those of a finding are on the page of `check`.
    let of_finding = ["severity", "file", "line", "column", "text", "shown"];
    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| !section.contains(&format!("`{key}`")) && !of_finding.contains(&key.as_str()))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

fn keys_of(value: &Value, by_name: &[&str], keys: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                keys.push(key.clone());
                match (value, by_name.contains(&key.as_str())) {
                    (Value::Object(by_name_of), true) => {
                        if let Some(first) = by_name_of.values().next() {
                            keys_of(first, by_name, keys);
                        }
                    }
                    (value, _) => keys_of(value, by_name, keys),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys_of(value, by_name, keys)),
        _ => {}
    }
}

// explain

#[test]
fn explain_tells_programs_all_that_led_to_an_answer() {
    let home = world::home();
    let explained =
        home.run(&["explain", "www.example.com", "--from", world::SYDNEY, "--json"]).expect(0).json();
    assert_eq!(explained["place"]["country"], "AU");
    assert_eq!(explained["place"]["city"], "Sydney");
    assert_eq!(explained["service"], "web");
    assert_eq!(explained["rule"], Value::Null);
    assert_eq!(explained["chosen"], "syd");
    assert_eq!(explained["scope"], 24);
    assert_eq!(explained["ttl"], 30);
    assert!(words(&explained["response"]).contains("www.example.com.\t30\tIN\tA\t192.0.2.1\n"));
    let ranking = explained["ranking"].as_array().expect("a list");
    let in_order: Vec<&str> = ranking.iter().map(|ranked| words(&ranked["site"])).collect();
    assert_eq!(in_order, ["syd", "iad", "fra"]);
    let mut last = 0.0;
    for ranked in ranking {
        let keys: Vec<&String> = ranked.as_object().expect("a mapping").keys().collect();
        assert_eq!(keys, ["basis", "causes", "cost", "km", "price_km", "share", "site", "verdict"]);
        assert_eq!((&ranked["basis"], &ranked["verdict"]), (&json!("distance"), &json!("up")));
        let km = ranked["km"].as_f64().expect("a number");
        assert!(km >= last && ranked["cost"].as_f64() == Some(km), "{ranking:?}");
        last = km;
    }
}

#[test]
fn explain_down_moves_to_the_next_site() {
    let home = world::home();
    let explain = |down: &[&str]| {
        let mut arguments = vec!["explain", "www.example.com", "--from", world::SYDNEY, "--json"];
        arguments.extend(down.iter().flat_map(|site| ["--down", site]));
        home.run(&arguments).expect(0).json()
    };
    let explained = explain(&["syd"]);
    assert_eq!(explained["chosen"], "iad");
    assert_eq!(explained["ranking"][0]["verdict"], "down");
    assert_eq!(explain(&["syd", "iad"])["chosen"], "fra");
    assert_eq!(explain(&["syd", "iad", "fra"])["chosen"], "syd");
}

#[test]
fn explain_names_the_rule_that_matched() {
    let explained = Home::of_sample()
        .run(&["explain", "www.example.com", "A", "--from", "203.0.113.7", "--json"])
        .expect(0)
        .json();
    assert_eq!(explained["chosen"], "jnb");
    assert_eq!(explained["rule"]["number"], 1);
    assert!(words(&explained["rule"]["at"]).starts_with("zones/sites.yaml:24:"), "{explained}");
    assert_eq!(explained["ranking"][0]["basis"], "rule");
}

#[test]
fn explain_without_anything_to_serve_exits_with_1() {
    let home = Home::new();
    let ran = home.run(&["explain", "www.example.com", "--from", "1.1.1.1"]).expect(1);
    assert_ne!(ran.stderr, "");
}

#[test]
fn whoever_closes_the_output_early_causes_no_panic() {
    let home = world::home();
    let long: String = (0..20_000).map(|number| format!("host{number} A 192.0.2.1\n")).collect();
    home.write("long.zone", world::master_file(1) + &long);
    for arguments in [
        &["explain", "www.example.com", "--from", "1.1.1.1"][..],
        &["explain", "www.example.com", "--from", "1.1.1.1", "--json"],
        &["check"],
        &["import", "long.zone", "--zone", "example.org"],
        &["--help"],
    ] {
        let mut command = home.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let mut told = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("it is text");
        let status = child.wait().expect("it ends");
        assert_eq!((status.code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

// import

/// Something of everything.
const MASTER_FILE: &str = r#"$TTL 1h
@ IN SOA ns1 hostmaster.example.org. 2026112401 1h 10m 2w 5m
@ 300 NS ns1
@ 300 NS ns.example.net.
@ MX 10 mail
@ MX 20 mail.example.net.
@ TXT "v=spf1 -all"
@ TXT "two" "texts; with \"quotes\""
@ CAA 0 issue "ca.example.net; policy=ev"
ns1 A 192.0.2.53
ns1 AAAA 2001:db8::53
mail 60 A 192.0.2.25
www CNAME @
*.wild A 192.0.2.99
deep.er.still TXT "below empty non-terminals"
old DNAME new
_sip._tcp SRV 10 60 5060 mail
odd TYPE65280 \# 4 0A000001
web HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.80
key SSHFP 4 2 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789
no NAPTR 100 50 "s" "z3950+I2L+I2C" "" _z3950._tcp
sub NS ns.sub
ns.sub A 192.0.2.54
sub DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
$GENERATE 1-3 host$ A 192.0.2.10$
"#;

#[test]
fn an_imported_zone_is_good_and_serves_the_same_records() {
    let original = Home::new();
    original.write("zones/example.org.zone", MASTER_FILE);
    let yaml = original.run(&["import", "zones/example.org.zone"]).expect(0);
    assert_eq!(yaml.stderr, "");
    let imported = Home::new();
    imported.write("zones/example.org.yaml", &yaml.stdout);
    let checked = imported.run(&["check"]).expect(0).stdout;
    assert!(checked.contains("good: 1 zones"), "{checked}");

    let servers = [original, imported].map(Server::start);
    for owner in [
        "",
        "ns1.",
        "mail.",
        "www.",
        "a.wild.",
        "deep.er.still.",
        "er.still.",
        "x.old.",
        "old.",
        "_sip._tcp.",
        "odd.",
        "web.",
        "key.",
        "no.",
        "sub.",
        "x.sub.",
        "host2.",
        "nowhere.",
    ] {
        for rtype in [
            "A",
            "AAAA",
            "NS",
            "SOA",
            "MX",
            "TXT",
            "CAA",
            "CNAME",
            "DNAME",
            "SRV",
            "TYPE65280",
            "HTTPS",
            "SSHFP",
            "NAPTR",
            "DS",
        ] {
            let query = question(&format!("{owner}example.org"), rtype).to_wire();
            let [mut before, mut after] = [0, 1].map(|server| ask_udp(servers[server].at, &query));
            // The order within an RRset means nothing.
            for section in before.sections.iter_mut().chain(&mut after.sections) {
                section.sort_by_key(ToString::to_string);
            }
            assert_eq!(before, after, "{owner}example.org {rtype}, from\n{}", yaml.stdout);
        }
    }
    for server in servers {
        server.stop();
    }
}

#[test]
fn import_tells_what_it_could_not_read_and_exits_with_1() {
    let home = world::home();
    home.write("bad.zone", world::master_file(1) + "x A 192.0.2.256\ny A 192.0.2.7\n");
    let ran = home.run(&["import", "bad.zone", "--zone", "example.org"]).expect(1);
    assert!(ran.stderr.contains("bad.zone:6:5: "), "{}", ran.stderr);
    assert!(ran.stdout.contains("192.0.2.7"), "what is right is imported: {}", ran.stdout);
    home.run(&["import", "nowhere.zone"]).expect(1);
    home.run(&["import", "bad.zone", "--zone", "a..b"]).expect(2);
}

// starting and stopping

#[test]
fn term_and_int_stop_the_server_and_its_socket_is_removed() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(world::home());
        assert!(server.home.path("run/meridian.sock").exists());
        server.process.signal(signal);
        assert_eq!(server.process.wait().code(), Some(0));
        assert!(server.process.lines().iter().any(|line| line.ends_with(" stopped")));
        assert!(!server.home.path("run/meridian.sock").exists());
    }
}

#[test]
fn a_server_that_waits_for_its_first_checks_says_so_and_can_be_stopped() {
    // Connections to it are made, and nobody ever answers.
    let silent = TcpListener::bind("127.88.2.1:0").expect("a port");
    let port = silent.local_addr().expect("it is bound").port();
    let home = world::home();
    let sites = world::sites(1).replace("192.0.2.10", "127.88.2.10").replace("192.0.2.1 ", "127.88.2.1 ");
    let checks =
        format!("iad], checks: [{{ tcp: {{}}, port: {port} }}, {{ http: {{ path: / }}, port: {port}, ");
    let sites = sites.replace("iad] ", &(checks + "every: 60s, timeout: 30s }] "));
    home.write("zones/sites.yaml", sites);
    let mut process = home.spawn(&["serve"]);
    process.wait_for_line("127.88.2.1 port");
    let ran = home.run(&["status"]).expect(5);
    assert!(ran.stderr.contains("starting"), "{}", ran.stderr);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(0), "{:?}", process.lines());
}

#[test]
fn serials_never_go_back_over_a_restart() {
    let serial = |server: &Server| server.status()["zones"][0]["serial"].as_u64().expect("a number");
    let server = Server::start(world::home());
    let first = serial(&server);
    server.home.save("zones/example.com.yaml", world::zone(2));
    server.process.wait_for_line("snapshot 2 is served");
    let second = serial(&server);
    assert!(second > first, "{second} after {first}");
    let Server { mut process, home, .. } = server;
    process.kill();

    // The same content is the same serial, however the server ended.
    let server = Server::start(home);
    assert_eq!(serial(&server), second);
    let Server { mut process, home, .. } = server;
    process.kill();
    home.save("zones/example.com.yaml", world::zone(1));
    let server = Server::start(home);
    assert!(serial(&server) > second);
    server.stop();
}

/// Waits for a server that does not start.
#[track_caller]
fn assert_refuses_to_start(home: &Home, arguments: &[&str], told: &str) {
    let mut process = home.spawn(&[&["serve"], arguments].concat());
    let code = process.wait().code();
    let log = process.lines().join("\n");
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(told), "no {told} in\n{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_second_server_at_the_same_control_socket_refuses_to_start() {
    let server = Server::start(world::home());
    assert_refuses_to_start(&server.home, &[], "run/meridian.sock: another server has it");
    server.status();
    server.stop();
}

#[test]
fn a_second_server_at_the_same_address_refuses_to_start() {
    let server = Server::start(world::home());
    let other = world::home();
    let address = server.at.to_string();
    assert_refuses_to_start(&other, &["--listen", &address], &format!("cannot listen on {address}"));
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");
    server.stop();
}

#[test]
fn strict_refuses_to_start_with_any_error() {
    let home = world::home();
    home.write("zones/example.org.zone", world::master_file(1).replace("v TXT", "v TXTT"));
    assert_refuses_to_start(&home, &["--strict"], "zones/example.org.zone:5:3: ");
    // Without it the other zone is served.
    let server = Server::start(home);
    assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");
    assert_eq!(answer(&server, "v.example.org", "TXT"), "SERVFAIL");
    server.stop();
}

#[test]
fn a_broken_configuration_refuses_to_start() {
    let home = world::home();
    home.write("meridian.yaml", "listen: nowhere\n");
    assert_refuses_to_start(&home, &[], "meridian.yaml:1:9: ");
    assert_refuses_to_start(&home, &["--config", "other.yaml"], "other.yaml: ");
}

#[test]
fn the_control_socket_of_a_server_that_was_killed_is_taken_over() {
    let mut server = Server::start(world::home());
    server.process.kill();
    assert!(server.home.path("run/meridian.sock").exists());
    server.home.run(&["status"]).expect(5);
    let again = Server::start(server.home);
    again.status();
    again.stop();
}

#[test]
fn a_file_where_the_control_socket_should_be_is_left_alone() {
    let home = world::home();
    fs::create_dir(home.path("run")).expect("a folder is made");
    home.write("run/meridian.sock", "dear diary");
    assert_refuses_to_start(&home, &[], "run/meridian.sock: there is a file of that name");
    assert_eq!(home.read("run/meridian.sock"), "dear diary");
}

#[test]
fn the_control_socket_belongs_to_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(world::home());
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&server.home.path("run/meridian.sock")), 0o600);
    server.stop();
}

#[test]
fn what_is_no_command_is_refused_at_the_control_socket() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let server = Server::start(world::home());
    for line in ["", "\n", "status\n", "{\"command\":\"dance\"}\n", "{\"command\":1}\n", "[[[[[[\n"] {
        let mut stream = UnixStream::connect(server.home.path("run/meridian.sock")).expect("it listens");
        stream.write_all(line.as_bytes()).expect("it is sent");
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers or closes");
        assert!(reply.is_empty() && line.is_empty() || reply.starts_with("{\"error\":"), "{line}: {reply}");
    }
    server.status();
    server.stop();
}

// map, simulate

#[test]
fn map_and_simulate_know_the_nearest_valid_word_and_do_without_a_database() {
    let home = Home::of_sample();
    let ran = home.run(&["map", "wep"]).expect(2);
    assert_eq!(ran.stderr, "unknown service \"wep\"; did you mean \"web\"?\n");
    let ran = home.run(&["simulate", "web", "--drain", "sid"]).expect(2);
    assert_eq!(ran.stderr, "unknown site \"sid\"; did you mean \"syd\"?\n");
    home.run(&["simulate", "web"]).expect(2);
    let ran = home.run(&["simulate", "--down", "fre"]).expect(2);
    assert_eq!(ran.stderr, "no service has a site \"fre\"; did you mean \"fra\"?\n");

    let told = home.run(&["simulate", "web", "--down", "fra", "--json"]).expect(0).json();
    let moved: f64 = told["moves"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|moved| moved["share"]["ipv4"].as_f64())
        .sum();
    let fra =
        told["sites"].as_array().expect("a list").iter().find(|site| site["site"] == "fra").expect("fra");
    assert!((moved - fra["before"]["ipv4"].as_f64().expect("a number")).abs() < 1e-9);

    // Without a service's name: of each that has one of the sites.
    let of_one = home.run(&["simulate", "web", "--down", "fra"]).expect(0).stdout;
    assert_eq!(home.run(&["simulate", "--down", "fra"]).expect(0).stdout, of_one);
    let both = ["simulate", "--down", "fra", "--down", "demo-syd"];
    let of_both = home.run(&both).expect(0).stdout;
    assert!(of_both.starts_with(&format!("{of_one}\nservice    demo, type A\n")), "{of_both}");
    let told = home.run(&[&both[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(told["services"][1]["down"], serde_json::json!(["demo-syd"]));
    let ran = home.run(&[&both[..], &["--svg", "both.svg"]].concat()).expect(2);
    assert_eq!(ran.stderr, "a picture is of one service: name web or demo\n");

    std::fs::remove_dir_all(home.path("geodb")).expect("a folder");
    home.write("zones/example.com.yaml", world::zone(1));
    let ran = home.run(&["map", "web"]).expect(0);
    assert!(ran.stdout.contains("databases  none: by rules and the order of sites only\n"), "{}", ran.stdout);
}

#[test]
fn simulate_draws_a_picture_in_which_the_site_is_out() {
    let home = world::home();
    let ran = home.run(&["simulate", "web", "--down", "fra", "--svg", "out.svg"]).expect(0);
    assert!(!ran.stdout.contains("<svg"), "{}", ran.stdout);
    let picture = home.read("out.svg");
    let texts = texts_of(&picture);
    assert!(texts.iter().any(|text| text == "web: who moves when fra is down"), "{texts:?}");
    let label = |text: &str| texts.iter().filter(|other| *other == text).count();
    assert_eq!(["fra (out)", "fra", "syd", "iad"].map(label), [1, 0, 1, 1], "{texts:?}");
    // Who leaves Frankfurt is somewhere else: what the legend says.
    let legend = |site: &str| texts.iter().find(|text| text.starts_with(&format!("{site}  IPv4"))).cloned();
    assert!(legend("fra").is_some_and(|text| text.contains(" to  0.0 %")), "{texts:?}");
    assert_ne!(picture, {
        home.run(&["simulate", "web", "--down", "syd", "--svg", "other.svg"]).expect(0);
        home.read("other.svg")
    });
}

/// Of an XML document without comments, sections or instructions, all of whose elements have to end as they began.
#[track_caller]
fn texts_of(document: &str) -> Vec<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut texts = Vec::new();
    let mut rest = document.strip_prefix('<').expect("it begins with an element");
    loop {
        let (tag, after) = rest.split_once('>').expect("the end of a tag");
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name), "in {document}"),
            (None, true) => {}
            (None, false) => open.push(name),
        }
        assert!(!tag.contains(['<', '\n']) && tag.matches('"').count() % 2 == 0, "<{tag}>");
        let Some((text, next)) = after.split_once('<') else {
            assert_eq!((open.len(), after.trim()), (0, ""), "what is left of {document}");
            return texts;
        };
        assert!(!open.is_empty(), "a second document after {text}");
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
        let known: usize = entities.iter().map(|entity| text.matches(entity).count()).sum();
        assert_eq!(text.matches('&').count(), known, "{text}");
        texts.push(text.trim().to_owned());
        rest = next;
    }
}

// diff

/// A zone `www` and two folders of it: `zones`, and `next`.
fn write_sides(home: &Home, sites: [&str; 2], www: [&str; 2]) {
    for ((folder, sites), www) in ["zones", "next"].into_iter().zip(sites).zip(www) {
        let _ = fs::remove_dir_all(home.path(folder));
        fs::create_dir(home.path(folder)).expect("a folder is made");
        home.write(&format!("{folder}/sites.yaml"), sites);
        let zone = "soa: { primary: ns.example.net., contact: h.example.com. }\nrecords:\n  \"@\": { NS: ns.example.net. }\n";
        home.write(&format!("{folder}/example.com.yaml"), format!("{zone}  www: {{ service: {www} }}\n"));
    }
}

/// Neither service is another than before, and yet everybody who asks for the name goes elsewhere.
#[test]
fn a_name_that_is_sent_to_another_service_is_told_with_who_moves() {
    let home = world::home();
    let sites = "sites:
  fra: { location: [50.11, 8.68], A: 192.0.2.30 }
  iad: { location: [38.95, -77.45], A: 192.0.2.50 }
services: { web: { sites: [fra, iad] }, one: { sites: [fra] } }
";
    write_sides(&home, [sites, sites], ["web", "one"]);
    let arguments = ["diff", "next", "--against", "zones"];
    let text = home.run(&arguments).expect(0).stdout;
    assert!(text.contains("\nwww.example.com.: service web, then one\n  A: "), "{text}");
    let told = home.run(&[&arguments[..], &["--json"]].concat()).expect(0).json();
    let sent = &told["sent_elsewhere"][0];
    assert_eq!((&sent["names"][0], &sent["to"]), (&json!("www.example.com."), &json!("one")));
    let moves = sent["types"][0]["moves"].as_array().expect("a list");
    let [only] = moves.as_slice() else { panic!("{moves:?}") };
    assert_eq!((&only["from"], &only["to"]), (&json!("iad"), &json!("fra")));
    assert!(only["share"]["ipv4"].as_f64().expect("a number") > 0.3, "{only}");
    assert_eq!(only["countries"][0]["of_country"]["ipv4"], 1.0, "{only}");
}

/// As a reload would end that is not taken over, and one that is held.
#[test]
fn the_exit_code_of_diff_is_what_a_reload_would_come_to() {
    let home = world::home();
    let next = |text: String| {
        let _ = fs::create_dir(home.path("next"));
        home.write("next/sites.yaml", world::sites(1));
        home.write("next/example.org.zone", world::master_file(1));
        home.write("next/example.com.yaml", text);
        ["diff", "next", "--against", "zones"]
    };
    let failing = "expect:\n  - { name: www, from: 1.1.1.1, site: fra }\n";
    let ran = home.run(&next(world::zone(1) + failing)).expect(1);
    let wanted = "site fra is expected, site syd answers";
    assert!(ran.stdout.contains("a reload would say: ") && ran.stdout.contains(wanted), "{}", ran.stdout);
    let names: String = (0..8).map(|number| format!("  n{number}: {{ A: 192.0.2.9 }}\n")).collect();
    let arguments = next(world::zone(1));
    home.write("zones/example.com.yaml", world::zone(1) + &names);
    let ran = home.run(&arguments).expect(4);
    assert!(ran.stdout.contains("held: 8 of 12 names are gone"), "{}", ran.stdout);
}

#[test]
fn pictures_are_drawn_of_what_map_and_diff_tell() {
    let home = world::home();
    fs::create_dir(home.path("next")).expect("a folder is made");
    home.write("next/sites.yaml", world::sites(1).replace("sites: [syd, fra, iad]", "sites: [syd, iad]"));
    home.write("next/example.com.yaml", world::zone(1));
    home.write("next/example.org.zone", world::master_file(1));
    home.run(&["map", "web", "--down", "fra", "--svg", "map.svg", "--png", "map.png"]).expect(0);
    let diff = ["diff", "next", "--against", "zones", "--svg", "diff.svg", "--png", "diff.png"];
    home.run(&diff).expect(0);
    home.run(&[&diff[..], &["--service", "web"]].concat()).expect(0);
    let ran = home.run(&[&diff[..], &["--service", "wep"]].concat()).expect(2);
    assert_eq!(ran.stderr, "nobody of service \"wep\" moves; did you mean \"web\"?\n");
    for (name, title) in [
        ("map", "web: the site that each place gets, fra down"),
        ("diff", "web: who moves from zones to next"),
    ] {
        let texts = texts_of(&home.read(&format!("{name}.svg")));
        assert!(texts.iter().any(|text| text == title), "{texts:?}");
        let png = fs::read(home.path(&format!("{name}.png"))).expect("a picture");
        assert!(png.starts_with(b"\x89PNG\r\n"), "{name}");
    }
}

#[test]
fn diff_compares_with_a_snapshot_of_history() {
    let server = Server::start(world::home());
    server.home.save("zones/example.com.yaml", world::zone(2));
    server.tell(&["reload"]).expect(0);
    server.wait_for_status("snapshot 2", |status| status["snapshot"] == 2);
    let text = server.home.run(&["diff", "--against", "1"]).expect(0).stdout;
    assert!(
        text.starts_with("against  snapshot 1, since ") && text.contains("  + v 60 TXT \"2\"\n"),
        "{text}"
    );
    let ran = server.home.run(&["diff", "--against", "7"]).expect(2);
    assert_eq!(ran.stderr, "snapshot 7 is not kept\n");
    server.stop();
}

/// They have neither A nor AAAA.
#[test]
fn who_moves_between_sites_of_names_is_told_too() {
    let home = world::home();
    let old = "sites:
  fra: { location: [50.11, 8.68], CNAME: fra.example.net. }
  iad: { location: [38.95, -77.45], CNAME: iad.example.net. }
services: { web: { sites: [fra] } }
";
    write_sides(&home, [old, &old.replace("[fra] }", "[fra, iad] }")], ["web", "web"]);
    let text = home.run(&["diff", "next", "--against", "zones"]).expect(0).stdout;
    assert!(text.contains("  + site iad\n  CNAME: "), "{text}");
    assert!(text.lines().any(|line| line.trim_start().starts_with("fra   iad")), "{text}");
}
