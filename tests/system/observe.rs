//! What the server tells of itself: answers by site, metrics, the query log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::failover::Website;
use crate::operate::{checked_home, listeners};
use crate::packet;
use crate::server::{Home, PATIENCE, Process, Server, ask_tcp, ask_udp, tcp_client, udp_client};
use crate::world::{
    self, FRANKFURT, SYDNEY, WASHINGTON, answer, answer_from, question_from, wait_for_answer,
};

/// Of the only service: answers by site, and those without one.
fn answers(status: &Value) -> (Vec<(&str, u64)>, &Value) {
    let service = &status["services"][0];
    let sites = service["sites"].as_array().expect("a list");
    (sites.iter().map(of_site).collect(), &service["answers_without_site"])
}

fn of_site(site: &Value) -> (&str, u64) {
    (site["site"].as_str().expect("a name"), site["answers"].as_u64().expect("a count"))
}

#[test]
fn answers_are_counted_by_site_and_the_counts_outlive_reloads() {
    let home = world::home();
    let sites = |of_service: &str| {
        world::sites(1).replace("web: { sites: [syd, fra, iad] }", &format!("web: {{ {of_service} }}"))
    };
    home.write(
        "zones/sites.yaml",
        sites("sites: [syd, fra, iad], rules: [{ subnet: 9.9.9.0/24, deny: true }]"),
    );
    let server = Server::start(home);
    for _ in 0..3 {
        answer_from(&server, "www.example.com", SYDNEY);
    }
    ask_tcp(server.at, &question_from("www.example.com", "A", WASHINGTON).to_wire());
    assert_eq!(answer_from(&server, "www.example.com", FRANKFURT), "NOERROR");
    answer_from(&server, "www.example.com", SYDNEY);
    let before = server.status();
    let without = json!({ "denied": 1, "no_data": 0, "nothing_up": 0, "last_resort": 0 });
    assert_eq!(answers(&before), (vec![("syd", 4), ("fra", 0), ("iad", 1)], &without));

    // The next snapshot has other sites in another order: slots of one mean nothing in the other.
    server.home.save("zones/sites.yaml", sites("sites: [iad, syd]"));
    wait_for_answer(&server, &question_from("www.example.com", "A", FRANKFURT), "192.0.2.103");
    server.wait_for_status("with both counts", |status| {
        let (sites, denied) = answers(status);
        // Whatever was asked until the new snapshot came was denied.
        matches!(sites[..], [("iad", 2), ("syd", 4)]) && denied["denied"].as_u64() >= Some(1)
    });
    let denied = server.status()["services"][0]["answers_without_site"]["denied"].clone();
    server.home.save("zones/sites.yaml", sites("sites: [fra, iad, syd]"));
    wait_for_answer(&server, &question_from("www.example.com", "A", FRANKFURT), "192.0.2.102");
    let status = server.status();
    let (sites, without) = answers(&status);
    assert_eq!((sites[0], sites[2], &without["denied"]), (("fra", 1), ("syd", 4), &denied));
    server.stop();
}

// Metrics.

/// With metrics at a port that the kernel chooses.
fn tell_metrics(home: &Home) {
    home.write("meridian.yaml", "listen: \"127.0.0.1:0\"\nworkers: 2\nmetrics: 127.0.0.1:0\n");
}

fn metrics_address(process: &Process) -> SocketAddr {
    let line = process.wait_for_line("metrics at http://");
    let (_, rest) = line.split_once("http://").expect("a URL");
    rest.trim_end_matches("/metrics").parse().expect("an address")
}

/// Head and body.
#[track_caller]
fn request(at: SocketAddr, words: &str) -> (String, String) {
    let mut stream = tcp_client(at);
    write!(stream, "{words} HTTP/1.1\r\nHost: meridian\r\n\r\n").expect("the request is sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response, and the end of the connection");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[track_caller]
fn page(server: &Server) -> String {
    let (head, body) = request(metrics_address(&server.process), "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}\n{body}");
    body
}

/// Every sample by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let earlier = samples.insert(name.to_owned(), value.parse().expect("a number"));
        assert_eq!(earlier, None, "{name} is told twice");
    }
    samples
}

/// Until the page is as wanted.
#[track_caller]
fn wait_for_page(server: &Server, what: &str, is_so: impl Fn(&BTreeMap<String, f64>) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = page(server);
        if is_so(&samples(&page)) {
            return;
        }
        assert!(Instant::now() < end, "never {what}:\n{page}");
    }
}

/// Each of them as often as no other.
#[test]
fn responses_that_are_rare_have_counters_of_their_own() {
    let label = |letter: &str| letter.repeat(60);
    let long = format!("{}.{}.{}.example.net.", label("a"), label("b"), label("c"));
    let home = Home::new();
    let soa = format!("soa: {{ primary: {long}, contact: {long} }}\n");
    let records = format!("records: {{ \"@\": {{ NS: ns.example.net. }}, d: {{ DNAME: {long} }} }}\n");
    home.write("zones/example.com.yaml", soa + &records);
    tell_metrics(&home);
    let configuration = home.read("meridian.yaml");
    let server = Server::start(home);
    let ask = |times: usize, words: &str| {
        let query = packet::build(words.split(' ')).expect("a packet");
        (0..times).for_each(|_| drop(ask_udp(server.at, &query)));
    };
    let tsig = "TSIG ANY 00000000 0021 0b686d61632d73686132353600000000000001012c0004aabbccdd494400000000";
    ask(1, &format!("0000:1,0,0,0 {}.d.example.com. A IN", label("x")));
    ask(2, "0000:1,0,0,0 x.example.com. A IN");
    ask(3, &format!("0000:1,0,0,1 www.example.com. A IN 036b657900 {tsig}"));
    ask(4, "0000:1,0,0,1 www.example.com. A IN 00 OPT 04d0 00010000 0000");
    server.home.save("meridian.yaml", configuration + "answers: { cookies: { require: true } }\n");
    server.tell(&["reload"]).expect(0);
    ask(5, "0000:1,0,0,1 www.example.com. A IN 00 OPT 04d0 00000000 000c 000a0008 2464c4abcf10c957");

    let counters = server.status()["counters"].clone();
    let samples = samples(&page(&server));
    for (name, rcode, count) in [
        ("yxdomain", "YXDOMAIN", 1),
        ("notauth", "NOTAUTH", 3),
        ("badvers", "BADVERS", 4),
        ("badcookie", "BADCOOKIE", 5),
    ] {
        assert_eq!(counters[name], count, "{name} of {counters:#}");
        let sample = format!("meridian_responses_total{{rcode=\"{rcode}\"}}");
        assert_eq!(samples.get(&sample), Some(&f64::from(count)), "{sample}");
    }
    assert_eq!(counters["would_amplify"], 2, "{counters:#}");
    assert_eq!(samples["meridian_responses_would_amplify_total"], 2.0);
    server.stop();
}

/// What promtool has to say against a page; nothing where it is not installed.
fn lint(page: &str) -> String {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("skipped: promtool is not installed (apt-get install prometheus)");
        return String::new();
    };
    promtool.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    assert!(output.status.success() || !output.stderr.is_empty());
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn metrics_say_what_status_says() {
    let home = world::home();
    tell_metrics(&home);
    let server = Server::start(home);
    for _ in 0..3 {
        answer_from(&server, "www.example.com", SYDNEY);
    }
    ask_tcp(server.at, &question_from("www.example.com", "A", WASHINGTON).to_wire());
    answer(&server, "nowhere.example.com", "A");
    let page = page(&server);
    assert_eq!(lint(&page), "");
    let samples = samples(&page);
    let expected = [
        ("meridian_queries_total{transport=\"udp\"}", 4.0),
        ("meridian_queries_total{transport=\"tcp\"}", 1.0),
        ("meridian_responses_total{rcode=\"NOERROR\"}", 4.0),
        ("meridian_responses_total{rcode=\"NXDOMAIN\"}", 1.0),
        ("meridian_responses_total{rcode=\"REFUSED\"}", 0.0),
        ("meridian_responses_with_client_subnet_total", 4.0),
        ("meridian_answers_total{service=\"web\",site=\"syd\"}", 3.0),
        ("meridian_answers_total{service=\"web\",site=\"fra\"}", 0.0),
        ("meridian_answers_total{service=\"web\",site=\"iad\"}", 1.0),
        ("meridian_answers_without_site_total{service=\"web\",reason=\"denied\"}", 0.0),
        ("meridian_connections_accepted_total{thread=\"tcp\"}", 1.0),
        ("meridian_reloads_total{outcome=\"took_all\"}", 1.0),
        ("meridian_last_reload_successful", 1.0),
        ("meridian_snapshot_number", 1.0),
        ("meridian_zones{state=\"good\"}", 2.0),
        ("meridian_zone_serial{zone=\"example.org.\"}", 1.0),
        ("meridian_degraded", 0.0),
        ("meridian_thread_panics_total{thread=\"udp-0\"}", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(samples.get(name), Some(&value), "{name} in\n{page}");
    }
    // The sandbox is on, and hides nothing of the process from itself.
    assert!(samples["process_resident_memory_bytes"] > 1e6 && samples["process_max_fds"] > 8.0);
    assert!(samples["process_start_time_seconds"] > 1.7e9);
    assert!(samples["meridian_last_reload_taken_over_timestamp_seconds"] > 1.7e9);

    // What the manual has in its table is what there is.
    let manual = include_str!("../../docs/operation.md");
    let section = manual.split_once("\n## Metrics\n").expect("a section").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let named: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .flat_map(|line| line.split(" | ").next().unwrap_or_default().split('`'))
        .filter(|word| word.starts_with("meridian_") || word.starts_with("process_"))
        .map(|word| word.split('{').next().unwrap_or_default())
        .collect();
    let told: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(named, told);

    // No count of a thread is in the status alone.
    let status = server.status();
    for (thread, counts) in status["transports"].as_object().expect("threads") {
        let told = samples.keys().filter(|name| name.contains(&format!("thread=\"{thread}\""))).count();
        assert_eq!(told, counts.as_object().expect("counts").len(), "of {thread} in\n{page}");
    }
    server.stop();
}

/// With so many of the queries looked at.
fn count_countries(home: &Home, part: &str) {
    home.write(
        "meridian.yaml",
        format!("listen: \"127.0.0.1:0\"\nworkers: 2\nmetrics: 127.0.0.1:0\ncountries: {part}\n"),
    );
}

fn of_country(code: &str) -> String {
    format!("meridian_answers_by_country_total{{country=\"{code}\"}}")
}

#[test]
fn answers_are_counted_by_country_of_the_databases_that_are_served() {
    let home = world::home();
    count_countries(&home, "1/1");
    let server = Server::start(home);
    for subnet in [SYDNEY, SYDNEY, SYDNEY, FRANKFURT] {
        answer_from(&server, "www.example.com", subnet);
    }
    ask_tcp(server.at, &question_from("nowhere.example.com", "A", WASHINGTON).to_wire());
    // Loopback is nowhere, and so is a subnet of a private network: there the source decides.
    answer(&server, "v.example.com", "TXT");
    answer_from(&server, "www.example.com", "10.1.1.0/24");
    wait_for_page(&server, "all of them", |samples| {
        let count = |code| samples.get(&of_country(code)).copied().unwrap_or_default();
        ["AU", "DE", "US", "unknown"].map(count) == [3.0, 1.0, 1.0, 2.0]
    });
    let page = page(&server);
    assert_eq!(lint(&page), "");
    assert!(page.contains("address; one query in 1 is looked at, and counts as many times.\n"), "{page}");
    let counted = &server.status()["answers_by_country"];
    assert_eq!(counted["countries"], json!({ "AU": 3, "DE": 1, "US": 1 }));

    // Sydney moves to Washington.
    world::write_geography(&server.home, true);
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "192.0.2.103");
    wait_for_page(&server, "the other database's country", |samples| {
        answer_from(&server, "www.example.com", SYDNEY);
        samples[&of_country("US")] > 3.0
    });
    server.stop();
}

#[test]
fn of_so_many_queries_one_is_counted_for_all() {
    let home = world::home();
    count_countries(&home, "1/10");
    let server = Server::start(home);
    // Of one port, and so with one thread.
    let mut client = udp_client(server.at);
    for _ in 0..35 {
        client.exchange(&question_from("www.example.com", "A", SYDNEY).to_wire()).expect("a response");
    }
    wait_for_page(&server, "three of them", |samples| samples.get(&of_country("AU")) == Some(&30.0));
    assert!(page(&server).contains("one query in 10 is looked at"));
    server.stop();
}

#[test]
fn no_counter_goes_back_over_a_reload() {
    let home = world::home();
    tell_metrics(&home);
    let server = Server::start(home);
    answer_from(&server, "www.example.com", SYDNEY);
    let before = page(&server);
    server.home.save("zones/sites.yaml", world::sites(2));
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "192.0.2.2");
    wait_for_page(&server, "the next snapshot", |samples| samples["meridian_snapshot_number"] == 2.0);
    let after = page(&server);
    let (then, now) = (samples(&before), samples(&after));
    for name in before.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")) {
        for (sample, value) in then.iter().filter(|(sample, _)| sample.split('{').next() == Some(name)) {
            assert!(now[sample] >= *value, "{sample} was {value} in\n{after}");
        }
    }
    let of_sydney = "meridian_answers_total{service=\"web\",site=\"syd\"}";
    assert!(now[of_sydney] > then[of_sydney]);
    server.stop();
}

#[test]
fn verdicts_and_attempts_are_told() {
    let home = world::home();
    tell_metrics(&home);
    let open = TcpListener::bind("127.88.2.1:0").expect("a port");
    let port = open.local_addr().expect("an address").port();
    // Nobody listens at the second.
    home.write(
        "zones/sites.yaml",
        format!(
            "sites:
  syd: {{ location: [-33.87, 151.21], A: 127.88.2.1 }}
  fra: {{ location: [50.11, 8.68], A: 127.88.2.2 }}
services:
  web:
    sites: [syd, fra]
    checks: [{{ tcp: {{}}, port: {port}, every: 200ms, timeout: 200ms }}]
"
        ),
    );
    let server = Server::start(home);
    wait_for_page(&server, "one up and one down", |samples| {
        let up = |site: &str, address: &str| {
            samples[&format!("meridian_address_up{{service=\"web\",site=\"{site}\",address=\"{address}\"}}")]
        };
        let attempts = |result: &str| {
            samples[&format!("meridian_check_attempts_total{{kind=\"tcp\",result=\"{result}\"}}")]
        };
        let timed = samples["meridian_check_duration_seconds_count{kind=\"tcp\"}"];
        (up("syd", "127.88.2.1"), up("fra", "127.88.2.2")) == (1.0, 0.0)
            && attempts("success") >= 1.0
            && attempts("failure") >= 1.0
            && timed == attempts("success") + attempts("failure")
    });
    assert_eq!(lint(&page(&server)), "");
    server.stop();
}

/// Each of these, to the last digit; a value that is none: there is no such sample.
#[track_caller]
fn wait_for_samples(server: &Server, expected: &[(&str, Option<f64>)]) {
    wait_for_page(server, &format!("{expected:?}"), |samples| {
        expected.iter().all(|(name, value)| samples.get(*name) == value.as_ref())
    });
}

#[test]
fn what_stands_between_checks_and_answers_is_told() {
    let (port, mut listening) = listeners(["127.88.30.1", "127.88.30.2", "127.88.30.3"]);
    let home = checked_home(port, "127.88.30");
    tell_metrics(&home);
    let mut text = home.read("meridian.yaml");
    text += &format!(
        "canaries: [{{ address: 127.88.30.3, tcp: {{}}, port: {port}, every: 200ms, timeout: 200ms }}]\n"
    );
    home.write("meridian.yaml", text);
    let server = Server::start(home);
    const DRAINED: &str = "meridian_override{service=\"\",site=\"syd\",what=\"drained\"}";
    const FORCED: &str = "meridian_override{service=\"web\",site=\"fra\",what=\"forced down\"}";
    const SHARE: &str = "meridian_site_share_ratio{service=\"web\",site=\"syd\"}";
    const HELD: [&str; 2] = [
        "meridian_site_held{service=\"web\",site=\"syd\",guard=\"isolation\"}",
        "meridian_site_held{service=\"web\",site=\"fra\",guard=\"isolation\"}",
    ];
    const UP: &str = "meridian_address_up{service=\"web\",site=\"fra\",address=\"127.88.30.2\"}";
    const ORDERS: &str = "meridian_events_total{kind=\"override\"}";
    const ALARMS: &str = "meridian_events_total{kind=\"alarm\"}";
    const ISOLATED: &str = "meridian_isolated";
    wait_for_samples(
        &server,
        &[
            (DRAINED, None),
            (FORCED, None),
            (SHARE, Some(1.0)),
            (HELD[0], None),
            (UP, Some(1.0)),
            (ORDERS, Some(0.0)),
            (ISOLATED, Some(0.0)),
            ("meridian_events_total{kind=\"verdict\"}", Some(3.0)),
        ],
    );
    server.tell(&["drain", "syd"]).expect(0);
    wait_for_samples(&server, &[(DRAINED, Some(1.0)), (SHARE, Some(0.0)), (ORDERS, Some(1.0))]);
    server.tell(&["undrain", "syd"]).expect(0);
    server.tell(&["force", "fra", "down", "--service", "web"]).expect(0);
    wait_for_samples(
        &server,
        &[(DRAINED, None), (SHARE, Some(1.0)), (FORCED, Some(1.0)), (UP, Some(0.0)), (ORDERS, Some(3.0))],
    );
    server.tell(&["unforce", "fra", "--service", "web"]).expect(0);
    wait_for_samples(&server, &[(FORCED, None), (UP, Some(1.0)), (ORDERS, Some(4.0))]);
    let alarms = samples(&page(&server))[ALARMS];
    // Everything at once, as when the link of this machine goes.
    listening.iter_mut().for_each(|listener| drop(listener.take()));
    wait_for_samples(
        &server,
        &[(ISOLATED, Some(1.0)), (HELD[0], Some(1.0)), (HELD[1], Some(1.0)), (UP, Some(1.0))],
    );
    let page = page(&server);
    assert_eq!(lint(&page), "");
    let samples = samples(&page);
    assert!(samples[ALARMS] > alarms && samples["meridian_events_total{kind=\"guard\"}"] >= 2.0, "{page}");
    server.stop();
}

#[test]
fn what_is_served_is_told_by_its_digest_and_the_age_of_its_databases() {
    let home = world::home();
    tell_metrics(&home);
    let server = Server::start(home);
    let page = page(&server);
    let samples = samples(&page);
    let digest = server.status()["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(samples.get(&format!("meridian_snapshot_info{{digest=\"{digest}\"}}")), Some(&1.0), "{page}");
    let built: Vec<_> = samples
        .iter()
        .filter(|(name, _)| name.starts_with("meridian_geo_database_build_timestamp_seconds{"))
        .collect();
    let [(name, seconds)] = built[..] else { panic!("{page}") };
    assert!(name.contains("file=\"") && name.ends_with("places-ipv4.mmdb\"}"), "{name}");
    assert_eq!(*seconds, 1_780_000_000.0);
    server.stop();
}

#[test]
fn responses_that_were_or_would_have_been_one_too_many_are_told() {
    for (dry_run, deed, other) in [(false, "dropped", "would_have"), (true, "would_have", "dropped")] {
        let home = world::home();
        home.write(
            "meridian.yaml",
            format!(
                "listen: \"127.0.0.1:0\"\nworkers: 1\nmetrics: 127.0.0.1:0\n\
                 answers: {{ rate_limit: {{ per_second: 1, burst: 1, slip: 0, dry_run: {dry_run} }}, cookies: false }}\n"
            ),
        );
        let server = Server::start(home);
        let client = udp_client(server.at);
        for _ in 0..100 {
            client.socket.send(&world::question("v.example.com", "TXT").to_wire()).expect("it is sent");
        }
        let of = |samples: &BTreeMap<String, f64>, deed: &str| -> f64 {
            let begin = format!("meridian_rate_limited_total{{deed=\"{deed}\",level=\"");
            samples.iter().filter(|(name, _)| name.starts_with(&begin)).map(|(_, count)| count).sum()
        };
        wait_for_page(&server, "all queries", |samples| {
            samples["meridian_queries_total{transport=\"udp\"}"] == 100.0
        });
        let samples = samples(&page(&server));
        assert!(of(&samples, deed) >= 80.0, "{samples:?}");
        assert_eq!(of(&samples, other), 0.0);
        server.stop();
    }
}

#[test]
fn what_sites_have_to_do_and_what_they_are_relieved_of_is_told() {
    let busy = Website::start_saying("127.88.31.1:0".parse().expect("an address"), "950").expect("a port");
    let port = busy.at.port();
    let other = Website::start_saying(([127, 88, 31, 2], port).into(), "100").expect("its port is free");
    let home = world::home();
    tell_metrics(&home);
    home.write(
        "zones/sites.yaml",
        format!(
            "sites:
  syd: {{ location: [-33.87, 151.21], A: 127.88.31.1, capacity: 1000 }}
  fra: {{ location: [50.11, 8.68], A: 127.88.31.2, capacity: 1000 }}
services:
  web:
    sites: [syd, fra]
    spill: {{ demand: 500 }}
    ttl: 0
    checks: [{{ http: {{ load: {{ body: number }} }}, port: {port}, every: 200ms, timeout: 200ms }}]
"
        ),
    );
    let server = Server::start(home);
    let of = |samples: &BTreeMap<String, f64>, name: &str, site: &str| {
        samples.get(&format!("meridian_site_{name}{{service=\"web\",site=\"{site}\"}}")).copied()
    };
    wait_for_page(&server, "a site that is relieved", |samples| {
        let of = |name, site| of(samples, name, site);
        of("load_ratio", "syd") == Some(0.95)
            && of("load_ratio", "fra") == Some(0.1)
            && of("shed_ratio", "syd").is_some_and(|shed| shed > 0.0 && shed < 1.0)
            && of("shed_ratio", "fra") == Some(0.0)
            && of("price_metres", "syd") > Some(0.0)
            && of("price_metres", "fra") == Some(0.0)
    });
    assert_eq!(lint(&page(&server)), "");
    drop((busy, other));
    server.stop();
}

#[test]
fn names_with_quotes_and_backslashes_are_labels_all_the_same() {
    let home = world::home();
    tell_metrics(&home);
    home.write("zones/sites.yaml", world::sites(1).replace("web:", r#""we\"b\\":"#));
    home.write("zones/example.com.yaml", world::zone(1).replace("service: web", r#"service: "we\"b\\""#));
    let server = Server::start(home);
    answer_from(&server, "www.example.com", SYDNEY);
    let page = page(&server);
    assert_eq!(lint(&page), "");
    assert_eq!(samples(&page)[r#"meridian_answers_total{service="we\"b\\",site="syd"}"#], 1.0);
    server.stop();
}

#[test]
fn nothing_but_metrics_is_told_and_nobody_holds_the_place_of_others() {
    let home = world::home();
    tell_metrics(&home);
    let server = Server::start(home);
    let at = metrics_address(&server.process);
    let status_of = |words: &str| request(at, words).0.lines().next().expect("a line").to_owned();
    assert_eq!(status_of("GET /"), "HTTP/1.1 404 Not Found");
    assert_eq!(status_of("POST /metrics"), "HTTP/1.1 405 Method Not Allowed");
    let (head, body) = request(at, "HEAD /metrics");
    assert!(head.contains("content-type: text/plain; version=0.0.4") && body.is_empty(), "{head}");

    // More than there are places, and none of them says anything.
    let silent: Vec<_> = (0..20).map(|_| tcp_client(at)).collect();
    assert!(page(&server).contains("meridian_queries_total"));
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new()).expect("it is closed");
    }
    server.stop();
}

#[test]
fn serials_are_told_of_a_thousand_zones_and_of_no_more() {
    let home = world::home();
    tell_metrics(&home);
    for number in 0..998 {
        home.write(&format!("zones/z{number}.example.zone"), world::master_file(1));
    }
    let server = Server::start(home);
    let serials = |samples: &BTreeMap<String, f64>| {
        samples.keys().filter(|name| name.starts_with("meridian_zone_serial{")).count()
    };
    assert_eq!(serials(&samples(&page(&server))), 1000);
    server.home.write("zones/one.more.example.zone", world::master_file(1));
    wait_for_page(&server, "one zone more", |samples| samples["meridian_zones{state=\"good\"}"] == 1001.0);
    assert_eq!(serials(&samples(&page(&server))), 0);
    server.stop();
}

#[test]
fn a_start_says_so_where_metrics_cannot_be_told() {
    let home = world::home();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address");
    home.write("meridian.yaml", format!("listen: \"127.0.0.1:0\"\nmetrics: [\"127.0.0.1:0\", \"{at}\"]\n"));
    let ran = home.run(&["serve", "--config", "meridian.yaml"]).expect(1);
    assert!(
        ran.stderr.contains(&format!("cannot tell metrics at {at}: Address already in use")),
        "{}",
        ran.stderr
    );
    home.write("meridian.yaml", "metrics: everywhere\nquery_log: { file: q.log, sample: all }\n");
    let found = home.run(&["check"]).expect(1).stderr;
    for text in [
        "meridian.yaml:1:10: \"everywhere\" is no address with a port",
        "meridian.yaml:2:35: \"all\" is no part from 1/1 to 1/1000000 such as 1/100",
    ] {
        assert!(found.contains(text), "no {text} in\n{found}");
    }
}

#[test]
fn what_is_odd_about_a_query_that_is_answered_all_the_same_is_counted() {
    let home = world::home();
    tell_metrics(&home);
    let server = Server::start(home);
    let plain = world::question("www.example.com", "A").to_wire();
    let mut with_answer = plain.clone();
    // A record of no length at the name of the question.
    with_answer[7] = 1;
    with_answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    let with_more = [&plain[..], b"more"].concat();
    for query in [&plain, &with_answer, &with_more, &with_more] {
        assert_eq!(ask_udp(server.at, query).rcode(), 0);
    }
    let samples = samples(&page(&server));
    assert_eq!(samples["meridian_queries_with_records_total"], 1.0);
    assert_eq!(samples["meridian_queries_with_trailing_octets_total"], 2.0);
    server.stop();
}

#[test]
fn what_stands_between_the_files_and_what_is_served_is_told() {
    let home = world::home();
    tell_metrics(&home);
    let server = Server::start(home);
    wait_for_page(&server, "in order", |samples| {
        samples["meridian_degraded"] == 0.0 && samples["meridian_rolled_back"] == 0.0
    });
    server.home.save("zones/example.com.yaml", "soa: nonsense\n");
    server.tell(&["reload"]).expect(1);
    wait_for_page(&server, "degraded", |samples| samples["meridian_degraded"] == 1.0);
    server.home.save("zones/example.com.yaml", world::zone(2));
    server.tell(&["reload"]).expect(0);
    server.tell(&["drain", "iad"]).expect(0);
    server.home.replace("zones/sites.yaml", "sites: [syd, fra, iad]", "sites: [iad]");
    server.tell(&["reload"]).expect(4);
    let held = "meridian_reloads_total{outcome=\"held\"}";
    wait_for_page(&server, "held, and no longer degraded", |samples| {
        samples[held] >= 1.0 && samples["meridian_degraded"] == 0.0
    });
    server.tell(&["rollback", "1"]).expect(0);
    wait_for_page(&server, "rolled back", |samples| samples["meridian_rolled_back"] == 1.0);
    server.stop();
}

#[test]
fn before_anything_is_served_there_are_no_metrics() {
    let home = world::home();
    tell_metrics(&home);
    // It takes connections and says nothing, so that the first round of checks has no end in sight.
    let silent = TcpListener::bind("127.88.2.3:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let checks = format!("checks: [{{ http: {{}}, port: {port}, timeout: 60s, every: 60s }}]");
    let sites = world::sites(1).replace("192.0.2.1 ", "127.88.2.3 ");
    home.write(
        "zones/sites.yaml",
        sites.replace("sites: [syd, fra, iad]", &format!("sites: [syd], {checks}")),
    );
    let process = home.spawn(&["serve", "--config", "meridian.yaml"]);
    let (head, body) = request(metrics_address(&process), "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body, "the server does not answer queries yet\n");
}

// The query log.

/// With a query log in a folder of its own, where each query is written down.
fn log_queries(home: &Home, more: &str) {
    home.write(
        "meridian.yaml",
        format!(
            "listen: \"127.0.0.1:0\"\nworkers: 2\nmetrics: 127.0.0.1:0\nquery_log: {{ file: log/q.log, sample: 1/1{more} }}\n"
        ),
    );
}

/// Lines of a file as they are now; none where there is none.
fn lines_of(home: &Home, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(home.path(name)).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Until there are so many.
#[track_caller]
fn wait_for_lines(server: &Server, name: &str, count: usize) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let lines = lines_of(&server.home, name);
        if lines.len() >= count {
            return lines;
        }
        assert!(
            Instant::now() < end,
            "{lines:?} and never {count} in\n{}",
            server.process.lines().join("\n")
        );
    }
}

#[test]
fn what_is_asked_and_answered_is_written_down() {
    let home = world::home();
    log_queries(&home, "");
    home.replace(
        "zones/sites.yaml",
        "web: { sites",
        // The second says what holds around it, too: it is told, and makes no scope shorter.
        "web: { rules: [{ subnet: 9.9.9.0/24, deny: true }, { subnet: 1.1.1.64/26, sites: [syd] }], sites",
    );
    let server = Server::start(home);
    let ask = |name: &str, rtype: &str, subnet: &str| {
        ask_udp(server.at, &question_from(name, rtype, subnet).to_wire());
    };
    ask("WWW.example.com", "A", "1.1.1.77/32");
    ask("www.example.com", "A", FRANKFURT);
    ask("www.example.com", "MX", SYDNEY);
    ask_tcp(server.at, &world::question(r#"a\"\000\\b\.c.example.com"#, "TYPE65280").to_wire());
    // A response is never answered, and has no question here.
    let mut answered = world::question("www.example.com", "A").to_wire();
    answered[2] |= 0x80;
    udp_client(server.at).socket.send(&answered).expect("it is sent");

    let mut lines = wait_for_lines(&server, "log/q.log", 5);
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        let time = line.remove("time").expect("a time");
        let time = time.as_str().expect("a text");
        assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 24, "{time}");
        assert_eq!(line.remove("client"), Some(json!("127.0.0.0/24")));
    }
    // Each thread has a ring of its own, so only of one thread the order is known.
    let mut expected = vec![
        json!({ "transport": "udp", "subnet": "1.1.1.0/24", "qname": "WWW.example.com.", "qtype": "A",
            "rcode": "NOERROR", "service": "web", "site": "syd", "rule": 2, "scope": 24 }),
        json!({ "transport": "udp", "subnet": "9.9.9.0/24", "qname": "www.example.com.", "qtype": "A",
            "rcode": "NOERROR", "service": "web", "no_site": "denied", "rule": 1, "scope": 24 }),
        json!({ "transport": "udp", "subnet": "1.1.1.0/24", "qname": "www.example.com.", "qtype": "MX",
            "rcode": "NOERROR", "scope": 0 }),
        json!({ "transport": "tcp", "qname": r#"a\"\000\\b\.c.example.com."#, "qtype": "TYPE65280",
            "rcode": "NXDOMAIN" }),
        json!({ "transport": "udp" }),
    ];
    lines.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(lines, expected);

    server.wait_for_status("with five lines", |status| status["query_log"]["written"] == 5);
    let samples = samples(&page(&server));
    assert_eq!(samples["meridian_query_log_lines_total"], 5.0);
    assert_eq!(samples["meridian_query_log_lost_total{reason=\"full\"}"], 0.0);
    let mode = fs::metadata(server.home.path("log/q.log")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o037, 0, "{mode:o}");
    server.stop();
}

#[test]
fn names_in_the_query_log_are_those_of_the_snapshot_that_answered() {
    let home = world::home();
    log_queries(&home, "");
    let server = Server::start(home);
    answer_from(&server, "www.example.com", FRANKFURT);
    server.home.save(
        "zones/sites.yaml",
        world::sites(2).replace("fra:", "ber:").replace("[syd, fra, iad]", "[iad, ber, syd]"),
    );
    wait_for_answer(&server, &question_from("www.example.com", "A", SYDNEY), "192.0.2.2");
    answer_from(&server, "www.example.com", FRANKFURT);
    let home = server.stop();
    let lines = lines_of(&home, "log/q.log");
    let sites = |subnet: &str| -> Vec<&str> {
        lines
            .iter()
            .filter(|line| line["subnet"] == subnet)
            .filter_map(|line| line["site"].as_str())
            .collect()
    };
    let frankfurt: BTreeSet<&str> = sites(FRANKFURT).into_iter().collect();
    assert_eq!(frankfurt, BTreeSet::from(["fra", "ber"]));
    assert!(!sites(SYDNEY).is_empty() && sites(SYDNEY).iter().all(|site| *site == "syd"));
}

#[test]
fn one_query_of_so_many_is_written_down_and_limited_ones_say_so() {
    let home = world::home();
    home.write(
        "meridian.yaml",
        "listen: \"127.0.0.1:0\"\nworkers: 1\nquery_log: { file: q.log, sample: 1/10 }\n\
         answers: { rate_limit: { per_second: 1, burst: 1, slip: 0, dry_run: false }, cookies: false }\n",
    );
    let server = Server::start(home);
    let client = udp_client(server.at);
    for _ in 0..100 {
        client.socket.send(&world::question("v.example.com", "TXT").to_wire()).expect("it is sent");
    }
    let lines = wait_for_lines(&server, "q.log", 10);
    let limited = lines.iter().filter(|line| line["limited"] == "dropped" && line["rcode"].is_null()).count();
    assert!(limited >= 8, "{lines:?}");
    server.wait_for_status("with all queries", |status| status["counters"]["udp_queries"] == 100);
    let home = server.stop();
    assert_eq!(lines_of(&home, "q.log").len(), 10);
}

#[test]
fn a_long_query_log_is_exchanged_and_one_that_was_taken_away_is_begun_anew() {
    let home = world::home();
    log_queries(&home, ", max_size: 4K, keep: 1");
    let server = Server::start(home);
    let ask = || answer(&server, "v.example.com", "TXT");
    let path = |name: &str| server.home.path(name);
    // Some 130 octets each: three files' worth.
    for _ in 0..90 {
        ask();
    }
    server.wait_for_status("with all lines", |status| status["query_log"]["written"] == 90);
    assert!(fs::metadata(path("log/q.log.1")).expect("it is there").len() <= 4096);
    assert!(!lines_of(&server.home, "log/q.log.1").is_empty());

    // As logrotate does it, without a word to the server.
    fs::rename(path("log/q.log"), path("log/taken")).expect("it is there");
    ask();
    wait_for_lines(&server, "log/q.log", 1);
    let home = server.stop();
    let mut names: Vec<_> = fs::read_dir(home.path("log"))
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["q.log", "q.log.1", "taken"]);
}

#[test]
fn a_full_disk_costs_lines_and_no_answers() {
    let home = world::home();
    log_queries(&home, "");
    // /dev/full is no file that the server is granted.
    home.replace("meridian.yaml", "workers: 2", "workers: 2\nsandbox: false");
    fs::create_dir(home.path("log")).expect("a folder is made");
    symlink("/dev/full", home.path("log/q.log")).expect("a link is made");
    let server = Server::start(home);
    let ask = || assert_eq!(answer(&server, "v.example.com", "TXT"), "\"1\"");
    ask();
    let line = server.process.wait_for_line("query log");
    assert!(line.contains("WARN") && line.contains("log/q.log: No space left on device"), "{line}");
    let mark = server.process.mark();
    ask();
    server.wait_for_status("with two lines too many", |status| status["query_log"]["unwritten"] == 2);
    assert!(!server.process.lines()[mark..].iter().any(|line| line.contains("query log")), "told once");

    fs::remove_file(server.home.path("log/q.log")).expect("it is there");
    ask();
    wait_for_lines(&server, "log/q.log", 1);
    server.process.wait_for_line_after(mark, "is written again; 2 lines are missing");
    server.stop();
}
