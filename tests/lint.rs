//! What `meridian check` says of what is legal and will not do what it was written for.

use std::fs;
use std::process::Command;

#[path = "support/geo.rs"]
mod geo;
#[path = "support/server.rs"]
mod server;

const CHECKED: &str = "checks: [{ tcp: {}, port: 80, every: 5s, timeout: 2s, fall: 2 }]";

/// All that is told of a zone and some sites, with a database that knows Australia and Germany.
fn check(zone: &str, sites: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["zones", "geodb"] {
        fs::create_dir(path(name)).expect("a folder");
    }
    let row = |network: &str, country: &str| geo::Row {
        network: network.parse().expect("a network"),
        record: geo::Record { country_code: Some(country.to_owned()), ..geo::Record::default() },
    };
    geo::write(&path("geodb"), "place", &[row("1.1.1.0/24", "AU"), row("5.1.1.0/24", "DE")]);
    let zone = format!(
        "soa: {{ primary: ns1.example.net. }}\nrecords:\n  \"@\": {{ NS: ns1.example.net. }}\n{zone}"
    );
    fs::write(path("zones/example.com.yaml"), zone).expect("a file");
    fs::write(path("zones/sites.yaml"), sites).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .arg("check")
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "a warning is no error: {text}");
    text
}

const FAR: &str = "sites:\n  syd: { location: [-33.87, 151.21], A: 192.0.2.1 }\n  fra: { location: [50.11, 8.68], A: 192.0.2.2 }\n";
const NEAR: &str = "sites:\n  fra: { location: [50.11, 8.68], A: 192.0.2.1 }\n  ams: { location: [52.37, 4.90], A: 192.0.2.2 }\n";
const WWW: &str = "  www: { service: web }\n";

#[test]
fn sites_that_all_stand_in_one_region() {
    let told = check(WWW, &format!("{NEAR}services:\n  web: {{}}\n"));
    assert!(
        told.contains(
            "zones/sites.yaml:5:3: warning: all sites of service \"web\" stand within 364 km of each other"
        ),
        "{told}"
    );
    assert!(!check(WWW, &format!("{FAR}services:\n  web: {{}}\n")).contains("stand within"));
}

#[test]
fn ttls_that_are_longer_than_a_failover_should_be() {
    let told = check(WWW, &format!("{FAR}services:\n  web: {{ ttl: 3600, {CHECKED} }}\n"));
    assert!(told.contains("is told of a dead site within 12s, and its clients stay 3600 s longer"), "{told}");
    assert!(
        !check(WWW, &format!("{FAR}services:\n  web: {{ ttl: 3600 }}\n")).contains("s longer"),
        "nobody checks"
    );
    let own = "  www: { service: { name: web, ttl: 3600 } }\n";
    let told = check(own, &format!("{FAR}services:\n  web: {{ {CHECKED} }}\n"));
    assert!(
        told.contains("example.com.yaml: warning: www.example.com. has a TTL of 3600: service \"web\""),
        "{told}"
    );
}

#[test]
fn plain_records_with_the_address_of_a_site_that_is_checked() {
    let zone =
        "  www: { service: web }\n  api: { A: [198.51.100.1, 192.0.2.2] }\n  other: { A: 198.51.100.2 }\n";
    let told = check(zone, &format!("{FAR}services:\n  web: {{ {CHECKED} }}\n"));
    assert!(
        told.contains("api.example.com. is 192.0.2.2 whether or not site \"fra\" is up; `service: web` instead would fail over"),
        "{told}"
    );
    assert!(!told.contains("other.example.com."), "{told}");
    let many: String = (0..5).map(|number| format!("  n{number}: {{ A: 192.0.2.1 }}\n")).collect();
    let told = check(&format!("{WWW}{many}"), &format!("{FAR}services:\n  web: {{ {CHECKED} }}\n"));
    assert_eq!(told.matches("whether or not").count(), 3, "{told}");
    assert!(told.contains("2 names more have plain addresses of sites"), "{told}");
}

#[test]
fn countries_that_nobody_knows() {
    let told =
        check(WWW, &format!("{FAR}services:\n  web: {{ rules: [{{ country: [AU, NZ], sites: [syd] }}] }}\n"));
    assert!(told.contains("no network is known in AD AE "), "{told}");
    assert!(!told.contains(" AQ") && !told.contains("in AU"), "{told}");
    assert!(told.contains("zones/sites.yaml:5:18: warning: no geo database knows a network in NZ"), "{told}");
}

/// A server of the parent zone, and what `check --delegation` says of the zone below it.
fn check_delegation(parent: &str, child: &str) -> (Option<i32>, String) {
    let server = {
        let home = server::Home::new();
        home.write("zones/com.zone", parent);
        server::Server::start(home)
    };
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("zones")).expect("a folder");
    fs::write(folder.path().join("zones/example.com.zone"), child).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["check", "--delegation", &server.at.to_string()])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).replace(&server.at.to_string(), "PARENT");
    server.stop();
    (output.status.code(), told)
}

const PARENT: &str = "$TTL 60\n@ SOA ns.com. h.com. 1 1h 1h 2w 60\n@ NS ns\nns A 192.0.2.1\n";
const CHILD: &str =
    "$TTL 60\n@ SOA ns1 h 1 1h 1h 2w 60\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.53\nns2 A 192.0.2.54\n";

#[test]
fn a_delegation_that_matches_and_ones_that_do_not() {
    let good = "example NS ns1.example\nexample NS ns2.example\nns1.example A 192.0.2.53\nns2.example A 192.0.2.54\n";
    let (code, told) = check_delegation(&format!("{PARENT}{good}"), CHILD);
    assert_eq!((code, told.contains("PARENT")), (Some(0), false), "{told}");

    let (code, told) = check_delegation(PARENT, CHILD);
    let wanted = "example.com.zone: PARENT does not delegate example.com. (NXDOMAIN): nobody who comes from there finds it; have ns1.example.com., ns2.example.com. entered there";
    assert!(code == Some(1) && told.contains(wanted), "{told}");

    let other =
        "example NS ns1.example\nexample NS old.example\nns1.example A 192.0.2.99\nold.example A 192.0.2.7\n";
    let (code, told) = check_delegation(&format!("{PARENT}{other}"), CHILD);
    for wanted in [
        "PARENT delegates example.com. to old.example.com., of which the zone's own NS records say nothing",
        "PARENT does not know of ns2.example.com., which the zone's own NS records name",
        "PARENT has 192.0.2.99 for ns1.example.com., and the zone has 192.0.2.53",
    ] {
        assert!(code == Some(1) && told.contains(wanted), "{wanted}:\n{told}");
    }

    let signed = format!("{PARENT}{good}example DS 12345 13 2 {}\n", "AB".repeat(32));
    let (code, told) = check_delegation(&signed, CHILD);
    assert!(
        code == Some(1) && told.contains("PARENT has a DS record for example.com., which is not signed"),
        "{told}"
    );
}

#[test]
fn a_server_that_does_not_answer_is_told() {
    // Nobody listens there: the kernel says so at once.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let nobody = socket.local_addr().expect("an address");
    drop(socket);
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("zones")).expect("a folder");
    fs::write(folder.path().join("zones/example.com.zone"), CHILD).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["check", "--delegation", &nobody.to_string()])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("{nobody} does not say how example.com. is delegated: ")), "{told}");
}
