//! `answers:` of the configuration -> [`Policy`].

use std::path::{Path, PathBuf};

use super::Policy;
use super::cookie::Secrets;
use super::rate_limit::{HIGHEST_RATE, LONGEST_BURST, Mode, Prices, RateLimit, Rates};
use crate::finding::Findings;
use crate::yaml::{Content, Node};
use crate::zone::master::read_text;

/// What is written about responses in general.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// All of it but the secrets.
    policy: Policy,
    cookies: Cookies,
    /// The file that holds the secrets, if there is one.
    pub secrets: Option<PathBuf>,
}

/// Where the secrets of cookies come from.
#[derive(Clone, Debug, Default, PartialEq)]
enum Cookies {
    /// The option is not known here.
    Off,
    /// This process makes one up.
    #[default]
    Own,
    /// From a file that the servers of one address share.
    Shared(Secrets),
}

impl Written {
    /// As meant; `own` is for who names no secrets.
    #[must_use]
    pub fn policy(&self, own: &Secrets) -> Policy {
        let cookies = match &self.cookies {
            Cookies::Off => None,
            Cookies::Own => Some(own.clone()),
            Cookies::Shared(secrets) => Some(secrets.clone()),
        };
        Policy { cookies, ..self.policy.clone() }
    }
}

/// Reads it. Relative paths are taken from `folder`.
pub fn read(node: &Node, folder: &Path, findings: &mut Findings) -> Written {
    let mut written = Written::default();
    let Some(mapping) = node.mapping("what answers are like", findings) else { return written };
    let keys = ["udp_payload", "nsid", "version", "identity", "cookies", "max_without_cookie", "rate_limit"];
    mapping.know_only(&keys, findings);
    let policy = &mut written.policy;
    if let Some(node) = mapping.get("udp_payload") {
        (policy.udp_payload_v4, policy.udp_payload_v6) =
            read_payload(node, policy.udp_payload_v4, policy.udp_payload_v6, findings);
    }
    let text = |key: &str, longest: usize, findings: &mut Findings| {
        let node = mapping.get(key)?;
        let text = node.text("a text", findings)?;
        if text.len() > longest {
            findings.error(&node.at, format!("{key}: at most {longest} octets"));
        }
        (text.len() <= longest).then(|| text.to_owned())
    };
    policy.nsid = text("nsid", 32, findings).map(|text| text.into_bytes().into());
    policy.version = text("version", 255, findings).map(Into::into);
    policy.identity = text("identity", 255, findings).map(Into::into);
    policy.max_without_cookie =
        mapping.get("max_without_cookie").and_then(|node| node.number(512, 4096, findings));
    if let Some(node) = mapping.get("cookies") {
        read_cookies(node, folder, &mut written, findings);
    }
    if let Some(node) = mapping.get("rate_limit") {
        written.policy.rate_limit = read_rate_limit(node, findings);
    }
    written
}

/// One number, or one for each family.
fn read_payload(node: &Node, v4: u16, v6: u16, findings: &mut Findings) -> (u16, u16) {
    if let Content::Mapping(_) = &node.content {
        let Some(mapping) = node.mapping("v4 and v6", findings) else { return (v4, v6) };
        mapping.know_only(&["v4", "v6"], findings);
        let mut number = |key: &str| mapping.get(key).and_then(|node| node.number(512, 4096, findings));
        return (number("v4").unwrap_or(v4), number("v6").unwrap_or(v6));
    }
    let both = node.number(512, 4096, findings);
    (both.unwrap_or(v4), both.unwrap_or(v6))
}

/// `false`, `true`, or a mapping.
fn read_rate_limit(node: &Node, findings: &mut Findings) -> RateLimit {
    let default = RateLimit::default();
    if node.scalar().is_some() {
        let mode = match node.boolean(findings) {
            Some(true) => Mode::On,
            Some(false) => Mode::Off,
            None => default.mode,
        };
        return RateLimit { mode, ..default };
    }
    let Some(mapping) = node.mapping("per_second, burst, slip, ...", findings) else { return default };
    mapping.know_only(&["per_second", "burst", "slip", "nxdomain_per_second", "table", "dry_run"], findings);
    let mut number = |key: &str, least: u32, most: u32| {
        mapping.get(key).and_then(|node| node.number(least, most, findings))
    };
    let rates = Rates::default();
    let per_second = number("per_second", 1, HIGHEST_RATE).unwrap_or(rates.per_second);
    let rates = Rates {
        per_second,
        burst: number("burst", 1, per_second * LONGEST_BURST),
        nxdomain_per_second: number("nxdomain_per_second", 0, 1_000_000_000)
            .unwrap_or(rates.nxdomain_per_second),
    };
    let slip = number("slip", 0, 1000).unwrap_or(default.slip);
    let entries = number("table", 1 << 10, 1 << 24).unwrap_or(default.entries);
    let is_dry_run = mapping.get("dry_run").and_then(|node| node.boolean(findings)).unwrap_or(true);
    let mode = if is_dry_run { Mode::DryRun } else { Mode::On };
    RateLimit { mode, slip, entries, prices: Prices::new(&rates) }
}

/// `false`, `true`, or `{ secrets: FILE, require: true }`.
fn read_cookies(node: &Node, folder: &Path, written: &mut Written, findings: &mut Findings) {
    if node.scalar().is_some() {
        if node.boolean(findings) == Some(false) {
            written.cookies = Cookies::Off;
        }
        return;
    }
    let Some(mapping) = node.mapping("secrets and require", findings) else { return };
    mapping.know_only(&["secrets", "require"], findings);
    written.policy.requires_cookie =
        mapping.get("require").and_then(|node| node.boolean(findings)).unwrap_or(false);
    if let Some(node) = mapping.get("secrets")
        && let Some(text) = node.text("a file", findings)
    {
        let path = folder.join(text);
        match read_text(&path) {
            Ok(text) => match read_secrets(&path, &text, findings) {
                Some(secrets) => written.cookies = Cookies::Shared(secrets),
                None => written.cookies = Cookies::Off,
            },
            Err(error) => findings.error(&node.at, format!("{}: {error}", path.display())),
        }
        written.secrets = Some(path);
    }
}

/// One secret of 32 hexadecimal digits to a line; the first makes cookies, a second is taken as well. Nothing of them is ever
/// shown, not in a mistake either.
fn read_secrets(path: &Path, text: &str, findings: &mut Findings) -> Option<Secrets> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let secret = |line: &&str| -> Option<[u8; 16]> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(line.as_bytes()).ok()?.try_into().ok()
    };
    let secrets: Option<Vec<[u8; 16]>> = lines.iter().map(secret).collect();
    match secrets.as_deref() {
        Some([active]) => Some(Secrets::new(*active, None)),
        Some([active, other]) => Some(Secrets::new(*active, Some(*other))),
        _ => {
            findings.unreadable(
                path,
                "one or two lines of 32 hexadecimal digits are expected, as `openssl rand -hex 16` gives",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Source;
    use crate::yaml;

    fn read_as(text: &str, secrets: Option<&str>) -> (Policy, String) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(secrets) = secrets {
            std::fs::write(folder.path().join("secrets"), secrets).unwrap();
        }
        let mut findings = Findings::new();
        let root = yaml::read(&Source::new("meridian.yaml", text), &mut findings).unwrap();
        let written = read(&root, folder.path(), &mut findings);
        let text = findings.to_string().replace(&format!("{}/", folder.path().display()), "");
        (written.policy(&Secrets::new([1; 16], None)), text)
    }

    #[test]
    fn everything_is_read() {
        let text =
            "{ udp_payload: { v6: 1280 }, nsid: syd, version: v, identity: i, max_without_cookie: 512 }";
        let (policy, findings) = read_as(text, None);
        assert_eq!(findings, "");
        assert_eq!((policy.udp_payload_v4, policy.udp_payload_v6), (1232, 1280));
        assert_eq!(policy.nsid.as_deref(), Some(b"syd".as_slice()));
        assert_eq!((policy.version.as_deref(), policy.identity.as_deref()), (Some("v"), Some("i")));
        assert_eq!(policy.max_without_cookie, Some(512));
        assert_eq!(policy.cookies, Some(Secrets::new([1; 16], None)));
    }

    #[test]
    fn secrets_come_from_a_file_and_are_never_shown() {
        let text = "{ cookies: { secrets: secrets, require: true } }";
        let good =
            "# active, then the next\n00112233445566778899aabbccddeeff\nffeeddccbbaa99887766554433221100\n";
        let (policy, findings) = read_as(text, Some(good));
        assert_eq!(findings, "");
        assert!(policy.requires_cookie);
        let active: [u8; 16] = std::array::from_fn(|octet| octet as u8 * 0x11);
        let next: [u8; 16] = std::array::from_fn(|octet| 0xff - octet as u8 * 0x11);
        assert_eq!(policy.cookies, Some(Secrets::new(active, Some(next))));
        let (policy, findings) = read_as(text, Some("00112233445566778899aabbccddeef\n"));
        assert!(findings.contains("32 hexadecimal digits") && !findings.contains("0011"), "{findings}");
        assert_eq!(policy.cookies, None);
        assert!(read_as(text, None).1.contains("secrets: No such file"));
        assert_eq!(read_as("{ cookies: false }", None).0.cookies, None);
    }

    #[test]
    fn rates_are_read_and_limit_nobody_unless_it_is_said() {
        let limit_of = |text: &str| {
            let (policy, findings) = read_as(text, None);
            assert_eq!(findings, "");
            policy.rate_limit
        };
        assert_eq!(limit_of("{ nsid: a }"), RateLimit::default());
        assert_eq!(RateLimit::default().mode, Mode::DryRun);
        assert_eq!(limit_of("{ rate_limit: { slip: 2 } }").mode, Mode::DryRun);
        assert_eq!(limit_of("{ rate_limit: true }").mode, Mode::On);
        assert_eq!(limit_of("{ rate_limit: false }").mode, Mode::Off);
        let text = "{ rate_limit: { per_second: 20, burst: 60, slip: 0, nxdomain_per_second: 100, table: 4096, dry_run: false } }";
        let rates = Rates { per_second: 20, burst: Some(60), nxdomain_per_second: 100 };
        let limit = RateLimit { mode: Mode::On, slip: 0, entries: 4096, prices: Prices::new(&rates) };
        assert_eq!(limit_of(text), limit);
    }

    #[test]
    fn what_is_out_of_bounds_is_told() {
        for (text, told) in [
            ("{ udp_payload: 100 }", "no number from 512 to 4096"),
            ("{ nsid: 123456789012345678901234567890123 }", "at most 32 octets"),
            ("{ rate_limit: { per_second: 0 } }", "no number from 1 to 100000"),
            ("{ rate_limit: { burst: 751 } }", "no number from 1 to 750"),
            ("{ rate_limit: { dryrun: false } }", "did you mean \"dry_run\"?"),
            ("{ cookie: true }", "did you mean \"cookies\"?"),
        ] {
            assert!(read_as(text, None).1.contains(told), "{text}");
        }
    }
}
