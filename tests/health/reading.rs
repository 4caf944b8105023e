//! What `check` says of a check that cannot be meant, or could never succeed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meridian::finding::{Findings, Source};
use meridian::site::read::Shared;
use meridian::site::{BlastRadius, Check, CheckKind, DnsCheck, ExecCheck, FileCheck, Guards, MinUp, Service};
use meridian::wire::{Name, Rtype};
use meridian::yaml;

/// The checks that are taken over, and `line:column: text` of each finding.
fn read(folder: &Path, check: &str) -> (Vec<Check>, Vec<String>) {
    let text = format!(
        "sites: {{ a: {{ A: 192.0.2.1 }} }}\n\
         services:\n  web:\n    checks:\n      - {{ tcp: {{}}, port: 1 }}\n      - {check}\n"
    );
    let mut findings = Findings::new();
    let node = yaml::read(&Source::new(folder.join("sites.yaml"), text), &mut findings).unwrap();
    let shared = Shared::read(&[node.mapping("", &mut findings).unwrap()], &mut findings);
    // A service that is not whole is not taken over at all.
    let checks = shared.services.first().map_or_else(Vec::new, |service| service.checks[1..].to_vec());
    (
        checks,
        findings.iter().map(|found| format!("{}:{}: {}", found.line, found.column, found.text)).collect(),
    )
}

fn findings_of(check: &str) -> Vec<String> {
    let (checks, findings) = read(Path::new(""), check);
    assert_eq!(checks, [], "a check with an error is not made");
    findings
}

#[test]
fn every_has_bounds() {
    assert_eq!(
        findings_of("{ tcp: {}, port: 80, every: 10ms, timeout: 10ms }"),
        ["6:37: every: 50ms to 24h"]
    );
    assert_eq!(findings_of("{ tcp: {}, port: 80, every: 25h }"), ["6:37: every: 50ms to 24h"]);
}

#[test]
fn a_timeout_is_at_most_a_minute() {
    assert_eq!(findings_of("{ tcp: {}, port: 80, every: 5m, timeout: 61s }"), ["6:50: timeout: at most 60s"]);
    let (checks, findings) = read(Path::new(""), "{ tcp: {}, port: 80, every: 5m, timeout: 60s }");
    assert_eq!((checks.len(), findings.len()), (1, 0));
}

#[test]
fn a_timeout_is_no_longer_than_every() {
    let findings = findings_of("{ tcp: {}, port: 80, every: 1s, timeout: 2s }");
    assert_eq!(findings, ["6:50: timeout must not be longer than every"]);
}

#[test]
fn a_list_of_statuses_is_not_empty() {
    let findings = findings_of("{ http: { status: [] } }");
    assert_eq!(findings, ["6:27: status: an empty list accepts no answer; leave the key out"]);
}

#[test]
fn a_text_that_no_body_can_have_is_refused() {
    let finding = "6:25: body: a text of 1 to 65536 octets, as much as is read of an answer";
    assert_eq!(findings_of("{ http: { body: '' } }"), [finding]);
    assert_eq!(findings_of(&format!("{{ http: {{ body: {} }} }}", "x".repeat(65_537))), [finding]);
}

#[test]
fn an_sni_is_a_host_name() {
    assert_eq!(findings_of("{ https: { sni: 'a b' } }"), ["6:25: \"a b\" is no host name"]);
}

/// What is said of `ca: ca.pem` with these contents.
fn findings_of_ca(contents: Option<&[u8]>) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(contents) = contents {
        std::fs::write(folder.path().join("ca.pem"), contents).unwrap();
    }
    let (_, findings) = read(folder.path(), "{ https: { ca: ca.pem } }");
    (folder, findings)
}

#[test]
fn a_ca_file_that_is_not_there_is_told() {
    let (folder, findings) = findings_of_ca(None);
    assert_eq!(findings, [format!("6:24: there is no file {}/ca.pem", folder.path().display())]);
}

#[test]
fn a_ca_file_without_a_certificate_is_told() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for contents in ["", "no PEM at all\n", key.as_str()] {
        let (folder, findings) = findings_of_ca(Some(contents.as_bytes()));
        assert_eq!(findings, [format!("6:24: {}/ca.pem holds no certificate", folder.path().display())]);
    }
}

#[test]
fn a_ca_file_with_a_broken_certificate_is_told() {
    for contents in [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    ] {
        let (folder, findings) = findings_of_ca(Some(contents.as_bytes()));
        let beginning = format!("6:24: {}/ca.pem: ", folder.path().display());
        assert!(findings.len() == 1 && findings[0].starts_with(&beginning), "{findings:?}");
    }
}

#[test]
fn a_ca_file_with_certificates_is_taken() {
    let certificate = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap().cert.pem();
    let (_folder, findings) = findings_of_ca(Some(certificate.as_bytes()));
    assert_eq!(findings, Vec::<String>::new());
}

// Kinds.

fn kind_of(check: &str) -> CheckKind {
    let (checks, findings) = read(Path::new("/srv/zones"), check);
    assert_eq!(findings, Vec::<String>::new(), "{check}");
    checks.into_iter().next().expect("a check").kind
}

#[test]
fn a_check_is_of_one_kind() {
    let kinds = "tcp, http, https, dns, icmp, exec and file";
    let finding = format!("6:9: a check is one of {kinds}, as in {{ tcp: {{}}, port: 443 }}");
    assert_eq!(findings_of("{ port: 80 }"), [finding.as_str()]);
    assert_eq!(findings_of("{ tcp: {}, icmp: {} }"), [finding.as_str()]);
    assert_eq!(
        findings_of("{ tcp: {}, icpm: {}, port: 80 }"),
        ["6:20: unknown key \"icpm\"; did you mean \"icmp\"?"]
    );
}

#[test]
fn kinds_without_a_port_have_none_and_others_have_a_usual_one() {
    assert_eq!(findings_of("{ icmp: {}, port: 80 }"), ["6:27: an icmp check has no port"]);
    assert_eq!(findings_of("{ file: { path: x }, port: 80 }"), ["6:36: a file check has no port"]);
    assert_eq!(findings_of("{ tcp: {} }"), ["6:9: a tcp check needs a port"]);
    assert_eq!(
        findings_of("{ exec: { command: [/bin/sh, '{port}'] } }"),
        ["6:9: an exec check whose command has {port} needs a port"]
    );
    for (check, port) in [
        ("{ http: {} }", Some(80)),
        ("{ https: {} }", Some(443)),
        ("{ dns: { name: example.com } }", Some(53)),
        ("{ dns: { name: example.com }, port: 5300 }", Some(5300)),
        ("{ icmp: {} }", None),
        ("{ exec: { command: [/bin/sh, '{address}'] } }", None),
        ("{ exec: { command: [/bin/sh, '{port}'] }, port: 80 }", Some(80)),
        ("{ file: { path: x } }", None),
    ] {
        let (checks, findings) = read(Path::new(""), check);
        assert_eq!((checks[0].port, findings.len()), (port, 0), "{check}");
    }
}

#[test]
fn a_dns_check_asks_for_a_whole_name() {
    let name = |text| Name::parse(text, None).unwrap();
    let asked = |name, rtype, rcodes: &[u16], tcp| {
        CheckKind::Dns(DnsCheck { name, rtype, rcodes: rcodes.to_vec(), tcp })
    };
    assert_eq!(
        kind_of("{ dns: { name: example.com } }"),
        asked(name("example.com."), Rtype::SOA, &[0], false)
    );
    assert_eq!(
        kind_of("{ dns: { name: ., type: NS, rcode: [NOERROR, REFUSED], tcp: true } }"),
        asked(name("."), Rtype::NS, &[0, 5], true)
    );
}

#[test]
fn a_dns_check_that_cannot_be_asked_is_told() {
    for (check, finding) in [
        ("{ dns: {} }", "6:16: a dns check needs a name, as in { name: example.com }"),
        ("{ dns: { name: 'a..b' } }", "6:24: \"a..b\" is no name: a name with an empty label"),
        ("{ dns: { name: a, type: SAO } }", "6:33: unknown type \"SAO\"; did you mean \"SOA\"?"),
        ("{ dns: { name: a, type: OPT } }", "6:33: OPT is no type that records have"),
        ("{ dns: { name: a, rcode: NOEROR } }", "6:34: unknown RCODE \"NOEROR\"; did you mean \"NOERROR\"?"),
        (
            "{ dns: { name: a, rcode: [] } }",
            "6:34: rcode: an empty list accepts no answer; leave the key out",
        ),
        ("{ dns: { name: a, tcp: yes } }", "6:32: true or false is expected here"),
        ("{ dns: { name: a, typ: A } }", "6:27: unknown key \"typ\"; did you mean \"type\"?"),
        ("{ icmp: { count: 3 } }", "6:19: unknown key \"count\"; known here: "),
    ] {
        assert_eq!(findings_of(check), [finding], "{check}");
    }
}

#[test]
fn a_program_is_told_by_its_path() {
    let command = ["/bin/sh", "-c", "", "{address}"].map(str::to_owned).to_vec();
    assert_eq!(
        kind_of("{ exec: { command: [/bin/sh, -c, '', '{address}'] } }"),
        CheckKind::Exec(ExecCheck { command })
    );
    assert_eq!(
        kind_of("{ exec: { command: /bin/true } }"),
        CheckKind::Exec(ExecCheck { command: vec!["/bin/true".to_owned()] })
    );
    for (check, finding) in [
        (
            "{ exec: {} }",
            "6:17: an exec check needs a command, as in { command: [/usr/lib/monitor/check, \"{address}\"] }",
        ),
        (
            "{ exec: { command: [check] } }",
            "6:29: the path of a program begins with /: no shell and no PATH looks for it",
        ),
        ("{ exec: { command: [/bin/sh, [a]] } }", "6:38: an argument is expected here"),
    ] {
        assert_eq!(findings_of(check), [finding], "{check}");
    }
}

#[test]
fn what_is_almost_a_stand_in_and_a_program_that_is_not_there_are_warned_of() {
    for (check, finding) in [
        (
            "{ exec: { command: [/bin/sh, '%{http_code} {adress}'] } }",
            "6:38: {adress} stays as it is; did you mean \"{address}\"?",
        ),
        ("{ file: { path: 'run/{ste}' } }", "6:25: {ste} stays as it is; did you mean \"{site}\"?"),
        ("{ exec: { command: [/not/there] } }", "6:29: there is no file /not/there"),
    ] {
        let (checks, findings) = read(Path::new(""), check);
        assert_eq!((checks.len(), findings), (1, vec![finding.to_owned()]), "{check}");
    }
}

#[test]
fn the_path_of_a_file_is_seen_from_the_file_that_names_it() {
    let file = |path: &str, seconds| {
        CheckKind::File(FileCheck { path: path.into(), max_age: Duration::from_secs(seconds) })
    };
    assert_eq!(kind_of("{ file: { path: up, max_age: 1m } }"), file("/srv/zones/up", 60));
    assert_eq!(kind_of("{ file: { path: '/run/{site}' } }"), file("/run/{site}", 30));
    for (check, finding) in [
        ("{ file: {} }", "6:17: a file check needs a path, as in { path: \"run/health/{site}\" }"),
        ("{ file: { path: x, max_age: 500ms } }", "6:37: max_age: 1s to 24h"),
        ("{ file: { path: x, max_age: 30 } }", "6:37: \"30\" is no time such as 500ms, 5s or 2m"),
    ] {
        assert_eq!(findings_of(check), [finding], "{check}");
    }
}

#[test]
fn a_pin_is_hexadecimal_or_base64() {
    let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    let check = format!("{{ https: {{ pin: [{digits}, {base64}, {}] }} }}", digits.to_uppercase());
    let CheckKind::Https(_, tls) = kind_of(&check) else { panic!("no https") };
    assert_eq!((tls.pin.len(), tls.pin[0] == tls.pin[1], tls.pin[1] == tls.pin[2]), (3, true, true));
    let finding = "6:25: a pin is the SHA-256 of a public key: 64 hexadecimal digits, or 44 of base64";
    for pin in ["abc", "ba7816bf", "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="] {
        assert_eq!(findings_of(&format!("{{ https: {{ pin: {pin} }} }}")), [finding]);
    }
    let finding = "6:25: pin: an empty list accepts no key; leave the key out";
    assert_eq!(findings_of("{ https: { pin: [] } }"), [finding]);
}

// How many must pass, and how many must be up.

/// A service with these lines, and what is said of it.
fn read_service(lines: &str) -> (Option<Arc<Service>>, Vec<String>) {
    read_text(&format!("sites: {{ a: {{ A: 192.0.2.1 }} }}\nservices:\n  web:\n{lines}"))
}

fn read_text(text: &str) -> (Option<Arc<Service>>, Vec<String>) {
    let mut findings = Findings::new();
    let node = yaml::read(&Source::new("sites.yaml", text), &mut findings).unwrap();
    let shared = Shared::read(&[node.mapping("", &mut findings).unwrap()], &mut findings);
    let findings = findings.iter().map(|found| format!("{}:{}: {}", found.line, found.column, found.text));
    (shared.service("web").cloned(), findings.collect())
}

const TWO: &str = "    checks: [{ icmp: {} }, { tcp: {}, port: 80 }]\n";

#[test]
fn need_is_all_any_or_a_number() {
    for (need, number) in [("", 2), ("    need: all\n", 2), ("    need: any\n", 1), ("    need: 2\n", 2)] {
        let (service, findings) = read_service(&format!("{TWO}{need}"));
        assert_eq!((service.unwrap().need, findings.len()), (number, 0), "{need}");
    }
    assert_eq!(read_service("    ttl: 30\n").0.unwrap().need, 0);
}

#[test]
fn a_need_that_cannot_be_met_is_told() {
    for (need, finding) in [
        ("0", "5:11: \"0\" is none of all, any and a number from 1 to 2"),
        ("3", "5:11: \"3\" is none of all, any and a number from 1 to 2"),
        ("al", "5:11: \"al\" is none of all, any and a number from 1 to 2; did you mean \"all\"?"),
        ("[1]", "5:11: all, any, or a number of checks is expected here"),
    ] {
        let (service, findings) = read_service(&format!("{TWO}    need: {need}\n"));
        assert_eq!((service, findings), (None, vec![finding.to_owned()]), "{need}");
    }
    let (_, findings) = read_service("    need: any\n");
    assert_eq!(findings, ["4:11: need: there are no checks to pass"]);
}

#[test]
fn min_up_is_a_number_or_one_for_each_type() {
    for (min_up, v4, v6) in [("3", 3, 3), ("{ A: 2, AAAA: 1 }", 2, 1), ("{ AAAA: 4 }", 1, 4), ("{}", 1, 1)] {
        let (service, findings) = read_service(&format!("    min_up: {min_up}\n"));
        assert_eq!((service.unwrap().min_up, findings.len()), (MinUp { v4, v6 }, 0), "{min_up}");
    }
    for (min_up, finding) in [
        ("0", "4:13: \"0\" is no number from 1 to 16"),
        ("{ A: 17 }", "4:18: \"17\" is no number from 1 to 16"),
        ("{ AAA: 2 }", "4:15: unknown key \"AAA\"; did you mean \"AAAA\"?"),
        ("[1, 2]", "4:13: a number, or { A: 2, AAAA: 1 }, is expected here, as key: value"),
    ] {
        let (service, findings) = read_service(&format!("    min_up: {min_up}\n"));
        assert_eq!((service, findings), (None, vec![finding.to_owned()]), "{min_up}");
    }
}

#[test]
fn a_ttl_is_seconds_or_a_range_of_them() {
    for (written, ttl) in [("45", 45..=45), ("30..300", 30..=300), ("0 .. 60", 0..=60)] {
        let (service, findings) = read_service(&format!("    ttl: {written}\n"));
        assert_eq!((service.unwrap().ttl.clone(), findings.len()), (ttl, 0), "{written}");
    }
    for (written, finding) in [
        ("300..30", "4:10: \"300..30\" is no range of seconds such as 30..300"),
        ("30..", "4:10: \"30..\" is no range of seconds such as 30..300"),
        ("soon", "4:10: \"soon\" is no number of seconds such as 30, nor a range such as 30..300"),
    ] {
        let (service, findings) = read_service(&format!("    ttl: {written}\n"));
        assert_eq!((service, findings), (None, vec![finding.to_owned()]), "{written}");
    }
}

#[test]
fn guards_have_defaults_and_can_be_set_or_turned_off() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let blast = |most: f64, within: Duration| Some(BlastRadius { most, within });
    for (written, blast_radius, panic, slow_start) in [
        ("", blast(0.5, minutes(10)), None, Duration::ZERO),
        ("    blast_radius: off\n    panic: 50%\n", None, Some(0.5), Duration::ZERO),
        ("    blast_radius: 25%\n    slow_start: 5m\n", blast(0.25, minutes(10)), None, minutes(5)),
        ("    blast_radius: { sites: 100%, within: 1h }\n", blast(1.0, minutes(60)), None, Duration::ZERO),
        ("    blast_radius: { within: 1m }\n", blast(0.5, minutes(1)), None, Duration::ZERO),
    ] {
        let (service, findings) = read_service(&format!("    ttl: 30\n{written}"));
        let service = service.unwrap_or_else(|| panic!("{findings:?}"));
        assert_eq!(
            (service.guards, service.slow_start),
            (Guards { blast_radius, panic }, slow_start),
            "{written}"
        );
    }
    for (written, finding) in [
        ("panic: half", "4:12: \"half\" is no part such as 50%"),
        ("panic: 0%", "4:12: \"0%\" is no part such as 50%"),
        ("blast_radius: { site: 50% }", "4:21: unknown key \"site\"; did you mean \"sites\"?"),
        ("slow_start: 2d", "4:17: at most 24 hours"),
        ("blast_radius: { within: soon }", "4:29: \"soon\" is no time such as 500ms, 5s or 2m"),
    ] {
        let (service, findings) = read_service(&format!("    {written}\n"));
        assert_eq!((service, findings), (None, vec![finding.to_owned()]), "{written}");
    }
}

#[test]
fn a_window_of_maintenance_is_two_points_in_time() {
    let read = |window: &str| {
        let (service, findings) = read_text(&format!(
            "sites: {{ a: {{ A: 192.0.2.1, maintenance: {window} }} }}\nservices: {{ web: {{}} }}\n"
        ));
        (service.map(|service| service.sites[0].maintenance.clone()), findings)
    };
    let (windows, findings) =
        read("{ from: 2026-12-01T22:00:00Z, until: 2026-12-02T10:00:00+11:00, over: 5m, reason: move }");
    assert_eq!(findings, [] as [&str; 0]);
    let window = windows.unwrap().remove(0);
    assert_eq!(window.until.duration_since(window.from).unwrap(), Duration::from_secs(3600));
    let share = |seconds: i64| {
        let at = if seconds < 0 {
            window.from - Duration::from_secs(1)
        } else {
            window.from + Duration::from_secs(seconds as u64)
        };
        window.share(at)
    };
    assert_eq!([-1, 0, 150, 300, 3599, 3600].map(share), [1.0, 1.0, 0.5, 0.0, 0.0, 1.0]);
    for (window, told) in [
        (
            "{ from: tomorrow, until: 2026-12-02T10:00:00Z }",
            "\"tomorrow\" is no time such as 2026-12-01T22:00:00Z",
        ),
        ("{ from: 2026-12-02T10:00:00Z }", "until: is missing"),
        ("{ from: 2026-12-02T10:00:00Z, until: 2026-12-02T10:00:00Z }", "must be later than from"),
        ("{ form: 2026-12-02T10:00:00Z }", "unknown key \"form\"; did you mean \"from\"?"),
    ] {
        let (service, findings) = read(window);
        assert!(service.is_none() && findings.iter().any(|found| found.contains(told)), "{findings:?}");
    }
}

#[test]
fn detection_is_as_long_as_the_checks_that_need_needs_take() {
    let detection = |need: &str| {
        let checks = "    checks: [{ tcp: {}, port: 1, every: 1s, timeout: 500ms }, { tcp: {}, port: 2, every: 5s, timeout: 2s, fall: 3 }]\n";
        read_service(&format!("{checks}{need}")).0.unwrap().detection()
    };
    // All must pass, so the faster one decides; any may, so the slower does.
    assert_eq!(detection(""), Some(Duration::from_millis(2500)));
    assert_eq!(detection("    need: any\n"), Some(Duration::from_secs(17)));
    assert_eq!(read_service("    ttl: 30\n").0.unwrap().detection(), None);
}

// Profiles.

/// `every`, `timeout`, `fall`, `rise`, `jitter`.
type Times = (u128, u128, u16, u16, u8);

/// Those of the check, and what is said.
fn times(profiles: &str, check: &str) -> (Option<Times>, Vec<String>) {
    let (service, findings) = read_text(&format!(
        "sites: {{ a: {{ A: 192.0.2.1 }} }}\nprofiles:\n{profiles}services: {{ web: {{ checks: [{{ icmp: {{}}{check} }}] }} }}\n"
    ));
    let times = service.map(|service| {
        let check = &service.checks[0];
        (check.every.as_millis(), check.timeout.as_millis(), check.fall, check.rise, check.jitter)
    });
    (times, findings)
}

const FAST: &str = "  fast: { every: 1s, timeout: 500ms, rise: 3, fall: 4, jitter: 20% }\n";
const USUAL: &str = "  default: { every: 10s, fall: 5 }\n";

#[test]
fn a_check_takes_what_it_does_not_say_from_the_profile_that_it_names_or_from_the_default() {
    let both = format!("{FAST}{USUAL}");
    for (profiles, check, expected) in [
        (FAST, "", (5000, 2000, 2, 2, 10)),
        (FAST, ", profile: fast", (1000, 500, 4, 3, 20)),
        (FAST, ", profile: fast, every: 2s, fall: 1, jitter: 0%", (2000, 500, 1, 3, 0)),
        (&both, "", (10_000, 2000, 5, 2, 10)),
        (&both, ", every: 1s", (1000, 1000, 5, 2, 10)),
        // The default is for those that name none.
        (&both, ", profile: fast", (1000, 500, 4, 3, 20)),
    ] {
        assert_eq!(times(profiles, check), (Some(expected), vec![]), "{check}");
    }
}

#[test]
fn what_is_wrong_with_a_profile_is_told_where_it_stands() {
    for (profiles, finding) in [
        ("  fast: { every: 10ms }\n", "3:18: every: 50ms to 24h"),
        ("  fast: { timeout: 2m }\n", "3:20: timeout: at most 60s"),
        ("  fast: { every: 1s, timeout: 2s }\n", "3:31: timeout must not be longer than every"),
        ("  fast: { evry: 1s }\n", "3:11: unknown key \"evry\"; did you mean \"every\"?"),
        ("  fast: { jitter: 60% }\n", "3:19: \"60%\" is no part from 0% to 50%"),
        ("  fast: { jitter: 0.1 }\n", "3:19: \"0.1\" is no part from 0% to 50%"),
        (
            "  fast: { port: 80 }\n",
            "3:11: unknown key \"port\"; known here: every, timeout, fall, rise, jitter",
        ),
        ("  fast: 1s\n", "3:9: times, as in { every: 1s, timeout: 500ms }, is expected here, as key: value"),
    ] {
        // The check that names it is not made, without another word.
        assert_eq!(times(profiles, ", profile: fast"), (None, vec![finding.to_owned()]), "{profiles}");
    }
}

#[test]
fn a_profile_and_a_check_that_do_not_go_together_are_told_at_the_check() {
    let slow = "  slow: { timeout: 4s }\n";
    assert_eq!(
        times(slow, ", profile: slow, every: 1s"),
        (None, vec!["4:63: timeout must not be longer than every".to_owned()])
    );
    let (_, findings) = times(FAST, ", profile: fats");
    assert_eq!(findings, ["4:50: unknown profile \"fats\"; did you mean \"fast\"?"]);
}

#[test]
fn a_profile_stands_once() {
    let shared = read_mapping("profiles: { fast: { every: 1s } }\n");
    let mut findings = Findings::new();
    let shared = Shared::read(&[shared.mapping("", &mut findings).unwrap()], &mut findings);
    let zone = read_mapping(
        "profiles: { fast: { every: 2s }, own: { every: 3s } }\nsites: { a: { A: 192.0.2.1 } }\n\
         services: { web: { checks: [{ icmp: {}, profile: own }, { icmp: {}, profile: fast }] } }\n",
    );
    let apex = Name::parse("example.com.", None).unwrap();
    let own = shared.with_own(&zone.mapping("", &mut findings).unwrap(), &apex, &mut findings);
    let told: Vec<String> = findings.iter().map(|finding| finding.text.clone()).collect();
    assert_eq!(told, ["profile \"fast\" is already written at sites.yaml:1:13"]);
    let checks = &own.service("web@example.com.").unwrap().checks;
    assert_eq!(checks.iter().map(|check| check.every.as_secs()).collect::<Vec<_>>(), [3, 1]);
}

fn read_mapping(text: &str) -> yaml::Node {
    yaml::read(&Source::new("sites.yaml", text), &mut Findings::new()).unwrap()
}
