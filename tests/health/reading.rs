//! What `check` says of a check that cannot be meant, or could never succeed.

use meridian::finding::{Findings, Source};
use meridian::site::Check;
use meridian::site::read::Shared;
use meridian::yaml;

/// The checks that are taken over, and `line:column: text` of each finding.
fn read(folder: &std::path::Path, check: &str) -> (Vec<Check>, Vec<String>) {
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
    let (checks, findings) = read(std::path::Path::new(""), check);
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
    let (checks, findings) = read(std::path::Path::new(""), "{ tcp: {}, port: 80, every: 5m, timeout: 60s }");
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
