//! `checks:` and `profiles:` as written -> [`Check`]s as meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::finding::{At, Findings, Severity, did_you_mean};
use crate::health::Canary;
use crate::health::probe::{LONGEST_BODY, read_roots};
use crate::site::{
    Check, CheckKind, DnsCheck, ExecCheck, FileCheck, HttpCheck, LoadCheck, LoadSource, TlsCheck,
};
use crate::wire::message::RCODES;
use crate::wire::{Name, Rtype};
use crate::yaml::{Content, Mapping, Node};

/// The keys that a profile may have, and a check of its own.
const TIMES: [&str; 5] = ["every", "timeout", "fall", "rise", "jitter"];

/// What stands for something else in commands and paths.
const STAND_INS: [&str; 3] = ["{address}", "{port}", "{site}"];

/// Times and counts under a name, for checks to name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    name: String,
    /// None for one that could not be read.
    times: Option<Times>,
    at: At,
}

/// What applies to checks that name no profile.
const DEFAULT: &str = "default";

/// What a profile or a check says about when and how often; what it leaves out is up to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    every: Option<Duration>,
    timeout: Option<Duration>,
    fall: Option<u16>,
    rise: Option<u16>,
    jitter: Option<u8>,
}

impl Times {
    /// None, and findings, if anything is wrong with them.
    fn read(mapping: &Mapping<'_>, findings: &mut Findings) -> Option<Times> {
        let errors_before = errors(findings);
        let mut time = |key: &str, least: Duration, most: Duration, told: &str| {
            let node = mapping.get(key)?;
            let time = node.duration(findings)?;
            if !(least..=most).contains(&time) {
                findings.error(&node.at, told);
            }
            Some(time)
        };
        let day = Duration::from_secs(86_400);
        let every = time("every", Duration::from_millis(50), day, "every: 50ms to 24h");
        // The server listens after one attempt at everything, and a reload waits for one at what is new.
        let timeout =
            time("timeout", Duration::from_nanos(1), Duration::from_secs(60), "timeout: at most 60s");
        let mut count = |key: &str| mapping.get(key).and_then(|node| node.number(1, 100, findings));
        let (fall, rise) = (count("fall"), count("rise"));
        let jitter = mapping.get("jitter").and_then(|node| read_jitter(node, findings));
        (errors(findings) == errors_before).then_some(Times { every, timeout, fall, rise, jitter })
    }

    fn or(self, others: Times) -> Times {
        Times {
            every: self.every.or(others.every),
            timeout: self.timeout.or(others.timeout),
            fall: self.fall.or(others.fall),
            rise: self.rise.or(others.rise),
            jitter: self.jitter.or(others.jitter),
        }
    }
}

fn errors(findings: &Findings) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

fn read_jitter(node: &Node, findings: &mut Findings) -> Option<u8> {
    let text = node.text("a part of every, such as 10%,", findings)?;
    let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse().ok());
    let percent = percent.filter(|percent| *percent <= 50);
    if percent.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no part from 0% to 50%"));
    }
    percent
}

/// Adds the profiles of a file to those that are known.
pub(super) fn read_profiles(file: &Mapping<'_>, profiles: &mut Vec<Profile>, findings: &mut Findings) {
    let Some(node) = file.get("profiles") else { return };
    let Some(mapping) = node.mapping("profiles by name", findings) else { return };
    for (key, value) in mapping.entries {
        let Some(name) = key.text("a profile's name", findings) else { continue };
        if let Some(earlier) = profiles.iter().find(|profile| profile.name == name) {
            findings.error(&key.at, format!("profile \"{name}\" is already written at {}", earlier.at));
            continue;
        }
        let times = read_profile(value, findings);
        profiles.push(Profile { name: name.to_owned(), times, at: key.at.clone() });
    }
}

fn read_profile(node: &Node, findings: &mut Findings) -> Option<Times> {
    let mapping = node.mapping("times, as in { every: 1s, timeout: 500ms },", findings)?;
    let errors_before = errors(findings);
    mapping.know_only(&TIMES, findings);
    let times = Times::read(&mapping, findings)?;
    if let (Some(every), Some(timeout)) = (times.every, times.timeout)
        && timeout > every
    {
        findings.error(at_key(&mapping, "timeout"), "timeout must not be longer than every");
    }
    (errors(findings) == errors_before).then_some(times)
}

fn at_key<'n>(mapping: &Mapping<'n>, key: &str) -> &'n At {
    mapping.get(key).map_or(mapping.at, |value| &value.at)
}

/// Fewer than were written when one of them could not be read.
pub(super) fn read_checks(items: &[Node], profiles: &[Profile], findings: &mut Findings) -> Vec<Check> {
    items.iter().filter_map(|item| read_check(item, profiles, &[], findings)).collect()
}

/// Checks of addresses that belong to no site: `{ address: 192.0.2.1, icmp: {} }`.
pub fn read_canaries(node: &Node, findings: &mut Findings) -> Vec<Canary> {
    const EXAMPLE: &str = "a canary such as { address: 192.0.2.1, icmp: {} }";
    let read = |item: &Node, findings: &mut Findings| {
        let check = read_check(item, &[], &["address"], findings)?;
        if check.load().is_some() {
            findings
                .warning(&item.at, "load: means nothing here: a canary is no site, and nobody is sent to it");
        }
        let address = item.mapping(EXAMPLE, findings)?.get("address");
        let Some(address) = address else {
            findings.error(&item.at, format!("address: is missing, as in {EXAMPLE}"));
            return None;
        };
        let text = address.text("an address such as 192.0.2.1", findings)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            findings.error(&address.at, format!("\"{text}\" is no address such as 192.0.2.1 or 2001:db8::1"));
        }
        Some((parsed?, check))
    };
    node.items().iter().filter_map(|item| read(item, findings)).collect()
}

/// How many of a service's checks an address must pass.
pub(super) fn read_need(service: &Mapping<'_>, findings: &mut Findings) -> u16 {
    let checks = service.get("checks").map_or(0, |node| node.items().len().min(usize::from(u16::MAX)) as u16);
    let Some(node) = service.get("need") else { return checks };
    let Some(text) = node.text("all, any, or a number of checks", findings) else { return checks };
    match text {
        _ if checks == 0 => findings.error(&node.at, "need: there are no checks to pass"),
        "all" => {}
        "any" => return 1,
        _ => match text.parse() {
            Ok(need) if (1..=checks).contains(&need) => return need,
            _ => {
                let hint = did_you_mean(text, ["all", "any"]);
                let text = format!("\"{text}\" is none of all, any and a number from 1 to {checks}{hint}");
                findings.error(&node.at, text);
            }
        },
    }
    checks
}

fn read_check(
    node: &Node,
    profiles: &[Profile],
    more_keys: &[&str],
    findings: &mut Findings,
) -> Option<Check> {
    let mapping = node.mapping("a check such as { tcp: {}, port: 443 }", findings)?;
    let errors_before = errors(findings);
    let keys: Vec<&str> =
        CheckKind::NAMES.iter().chain(&["port", "profile"]).chain(&TIMES).chain(more_keys).copied().collect();
    mapping.know_only(&keys, findings);
    let kinds: Vec<&(Node, Node)> = mapping
        .entries
        .iter()
        .filter(|(key, _)| key.scalar().is_some_and(|key| CheckKind::NAMES.contains(&key)))
        .collect();
    let [(kind, value)] = kinds[..] else {
        let (last, others) = CheckKind::NAMES.split_last()?;
        let text =
            format!("a check is one of {} and {last}, as in {{ tcp: {{}}, port: 443 }}", others.join(", "));
        findings.error(&node.at, text);
        return None;
    };
    let kind = read_kind(kind.scalar()?, value, findings)?;
    let port = read_port(&kind, &mapping, findings);
    let profile = read_profile_of(&mapping, profiles, findings);
    let own = Times::read(&mapping, findings);
    let (port, times) = (port?, own?.or(profile?));
    let every = times.every.unwrap_or(Duration::from_secs(5));
    let timeout = times.timeout.unwrap_or(Duration::from_secs(2).min(every));
    if timeout > every {
        // One of them is written here: a profile by itself was looked at where it stands.
        let key = if mapping.get("timeout").is_some() { "timeout" } else { "every" };
        findings.error(at_key(&mapping, key), "timeout must not be longer than every");
    }
    let check = Check {
        kind,
        port,
        every,
        timeout,
        fall: times.fall.unwrap_or(2),
        rise: times.rise.unwrap_or(2),
        jitter: times.jitter.unwrap_or(10),
    };
    (errors(findings) == errors_before).then_some(check)
}

fn read_kind(word: &str, value: &Node, findings: &mut Findings) -> Option<CheckKind> {
    match word {
        "http" => Some(CheckKind::Http(read_http(value, &[], findings)?)),
        "https" => {
            let http = read_http(value, &["sni", "verify", "ca", "pin"], findings)?;
            Some(CheckKind::Https(http, read_tls(value, findings)?))
        }
        "dns" => Some(CheckKind::Dns(read_dns(value, findings)?)),
        "exec" => Some(CheckKind::Exec(read_exec(value, findings)?)),
        "file" => Some(CheckKind::File(read_file(value, findings)?)),
        without_keys => {
            value.mapping("nothing, or { }", findings)?.know_only(&[], findings);
            Some(if without_keys == "icmp" { CheckKind::Icmp } else { CheckKind::Tcp })
        }
    }
}

/// The outer None after a finding; the inner for kinds that have no port.
fn read_port(kind: &CheckKind, mapping: &Mapping<'_>, findings: &mut Findings) -> Option<Option<u16>> {
    let default = match kind {
        CheckKind::Http(_) => Some(80),
        CheckKind::Https(..) => Some(443),
        CheckKind::Dns(_) => Some(53),
        _ => None,
    };
    match (mapping.get("port"), kind) {
        (Some(node), CheckKind::Icmp | CheckKind::File(_)) => {
            let article = if *kind == CheckKind::Icmp { "an" } else { "a" };
            findings.error(&node.at, format!("{article} {} check has no port", kind.name()));
            None
        }
        (Some(node), _) => node.number(1, u16::MAX, findings).map(Some),
        (None, CheckKind::Tcp) => {
            findings.error(mapping.at, "a tcp check needs a port");
            None
        }
        (None, CheckKind::Exec(exec)) if exec.command.iter().any(|argument| argument.contains("{port}")) => {
            findings.error(mapping.at, "an exec check whose command has {port} needs a port");
            None
        }
        (None, _) => Some(default),
    }
}

/// What applies where the check itself says nothing.
fn read_profile_of(mapping: &Mapping<'_>, profiles: &[Profile], findings: &mut Findings) -> Option<Times> {
    let of_name = |name: &str| profiles.iter().find(|profile| profile.name == name);
    let Some(node) = mapping.get("profile") else {
        return of_name(DEFAULT).map_or(Some(Times::default()), |profile| profile.times);
    };
    let name = node.text("a profile's name", findings)?;
    let profile = of_name(name);
    if profile.is_none() {
        let hint = did_you_mean(name, profiles.iter().map(|profile| profile.name.as_str()));
        findings.error(&node.at, format!("unknown profile \"{name}\"{hint}"));
    }
    profile?.times
}

fn read_http(node: &Node, more_keys: &[&str], findings: &mut Findings) -> Option<HttpCheck> {
    let mapping = node.mapping("a path, as in { path: /healthz }", findings)?;
    let keys: Vec<&str> =
        ["path", "host", "status", "body", "load"].iter().chain(more_keys).copied().collect();
    mapping.know_only(&keys, findings);
    let text = |key: &str, findings: &mut Findings| {
        mapping.get(key).and_then(|node| Some((node.at.clone(), node.text("a text", findings)?.to_owned())))
    };
    let path = match text("path", findings) {
        None => "/".to_owned(),
        Some((at, path)) => {
            if !path.starts_with('/') || path.bytes().any(|octet| !(0x21..0x7f).contains(&octet)) {
                findings.error(&at, "a path begins with / and has no spaces, as in /healthz");
                return None;
            }
            path
        }
    };
    let host = match text("host", findings) {
        Some((at, host)) if host.parse::<hyper::http::uri::Authority>().is_err() => {
            findings.error(&at, format!("\"{host}\" is no host name"));
            return None;
        }
        host => host.map(|(_, host)| host),
    };
    let body = match text("body", findings) {
        Some((at, body)) if !(1..=LONGEST_BODY).contains(&body.len()) => {
            findings.error(&at, "body: a text of 1 to 65536 octets, as much as is read of an answer");
            return None;
        }
        body => body.map(|(_, body)| body),
    };
    let status = match mapping.get("status") {
        Some(node) if node.items().is_empty() => {
            findings.error(&node.at, "status: an empty list accepts no answer; leave the key out");
            return None;
        }
        None => vec![(200, 399)],
        Some(node) => node.items().iter().filter_map(|item| read_status(item, findings)).collect(),
    };
    let load = match mapping.get("load") {
        None => None,
        Some(node) => Some(read_load(node, findings)?),
    };
    Some(HttpCheck { path, host, status, body, load })
}

/// `{ header: X-Load, shed_above: 90%, resume_below: 80% }`; `{ json: load }`, `{ body: number }`.
fn read_load(node: &Node, findings: &mut Findings) -> Option<LoadCheck> {
    const EXAMPLE: &str = "where the load is, as in { header: X-Load }, { json: load } or { body: number }";
    let mapping = node.mapping(EXAMPLE, findings)?;
    mapping.know_only(&["header", "json", "body", "shed_above", "resume_below"], findings);
    let given = ["header", "json", "body"].map(|key| mapping.get(key).map(|value| (key, value)));
    let [Some((key, value))] = given.into_iter().filter(Option::is_some).collect::<Vec<_>>()[..] else {
        findings.error(&node.at, format!("load: {EXAMPLE}"));
        return None;
    };
    let text = value.text(EXAMPLE, findings)?;
    let source = match key {
        "header" if text.parse::<hyper::header::HeaderName>().is_err() => {
            findings.error(&value.at, format!("\"{text}\" is no name of a header field"));
            return None;
        }
        "header" => LoadSource::Header(text.to_owned()),
        "json" => LoadSource::Json(text.to_owned()),
        _ if text == "number" => LoadSource::Body,
        _ => {
            findings.error(&value.at, "body: number, where all of the body is the load");
            return None;
        }
    };
    let mut percent = |key: &str, default: u8| {
        let Some(node) = mapping.get(key) else { return Some(default) };
        let text = node.text("a part of the capacity such as 90%", findings)?;
        let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse().ok());
        let percent = percent.filter(|percent| (1..=200).contains(percent));
        if percent.is_none() {
            findings.error(&node.at, format!("\"{text}\" is no part of the capacity from 1% to 200%"));
        }
        percent
    };
    let shed_above = percent("shed_above", 90)?;
    let resume_below = percent("resume_below", shed_above - shed_above / 10)?;
    if resume_below > shed_above {
        findings.error(at_key(&mapping, "resume_below"), "resume_below must not be above shed_above");
        return None;
    }
    Some(LoadCheck { source, shed_above, resume_below })
}

fn read_status(node: &Node, findings: &mut Findings) -> Option<(u16, u16)> {
    let text = node.text("a status such as 200 or 200-399", findings)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            findings.error(&node.at, format!("\"{text}\" is no status such as 200 or 200-399"));
            None
        }
    }
}

fn read_tls(node: &Node, findings: &mut Findings) -> Option<TlsCheck> {
    let mapping = node.mapping("a path", findings)?;
    let sni = match mapping.get("sni").and_then(|node| Some((node, node.text("a host name", findings)?))) {
        Some((node, name)) if ServerName::try_from(name).is_err() => {
            findings.error(&node.at, format!("\"{name}\" is no host name"));
            return None;
        }
        sni => sni.map(|(_, name)| name.to_owned()),
    };
    let verify = mapping.get("verify").map_or(Some(true), |node| node.boolean(findings))?;
    let ca = match mapping.get("ca") {
        None => None,
        Some(node) => {
            let path = beside(node, node.text("a PEM file", findings)?);
            let fault = match path.is_file() {
                true => read_roots(&path).err(),
                false => Some(format!("there is no file {}", path.display())),
            };
            if let Some(fault) = fault {
                findings.error(&node.at, fault);
            }
            Some(path)
        }
    };
    let pin = match mapping.get("pin") {
        None => Vec::new(),
        Some(node) => {
            if node.items().is_empty() {
                findings.error(&node.at, "pin: an empty list accepts no key; leave the key out");
            }
            node.items().iter().filter_map(|item| read_pin(item, findings)).collect()
        }
    };
    Some(TlsCheck { sni, verify, ca, pin })
}

/// SHA-256 in hexadecimal, or in base64.
fn read_pin(node: &Node, findings: &mut Findings) -> Option<[u8; 32]> {
    let text = node.text("the SHA-256 of a public key", findings)?;
    let of_64_digits = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    let octets = of_64_digits.or_else(|_| BASE64.decode(text.as_bytes())).ok();
    let pin = octets.and_then(|octets| octets.try_into().ok());
    if pin.is_none() {
        findings
            .error(&node.at, "a pin is the SHA-256 of a public key: 64 hexadecimal digits, or 44 of base64");
    }
    pin
}

fn read_dns(node: &Node, findings: &mut Findings) -> Option<DnsCheck> {
    let mapping = node.mapping("a name, as in { name: example.com },", findings)?;
    mapping.know_only(&["name", "type", "rcode", "tcp"], findings);
    let Some(name) = mapping.get("name") else {
        findings.error(&node.at, "a dns check needs a name, as in { name: example.com }");
        return None;
    };
    let text = name.text("a name such as example.com", findings)?;
    // Not completed by the zone that the check may stand in: it is another server's name.
    let name = match Name::parse(text, Some(&Name::root())) {
        Ok(name) => name,
        Err(error) => {
            findings.error(&name.at, format!("\"{text}\" is no name: {error}"));
            return None;
        }
    };
    let rtype = mapping.get("type").map_or(Some(Rtype::SOA), |node| {
        let text = node.text("a record type such as SOA", findings)?;
        let rtype = text.parse::<Rtype>().ok();
        if rtype.is_none() {
            let hint = did_you_mean(text, Rtype::mnemonics());
            findings.error(&node.at, format!("unknown type \"{text}\"{hint}"));
        }
        if let Some(rtype) = rtype.filter(|rtype| rtype.is_meta()) {
            findings.error(&node.at, format!("{rtype} is no type that records have"));
        }
        rtype
    })?;
    let rcodes = match mapping.get("rcode") {
        None => vec![0],
        Some(node) => {
            if node.items().is_empty() {
                findings.error(&node.at, "rcode: an empty list accepts no answer; leave the key out");
            }
            node.items().iter().filter_map(|item| read_rcode(item, findings)).collect()
        }
    };
    let tcp = mapping.get("tcp").map_or(Some(false), |node| node.boolean(findings))?;
    Some(DnsCheck { name, rtype, rcodes, tcp })
}

fn read_rcode(node: &Node, findings: &mut Findings) -> Option<u16> {
    let text = node.text("an RCODE such as NOERROR", findings)?;
    let rcode = RCODES.iter().position(|rcode| rcode.eq_ignore_ascii_case(text));
    if rcode.is_none() {
        findings.error(&node.at, format!("unknown RCODE \"{text}\"{}", did_you_mean(text, RCODES)));
    }
    rcode.map(|rcode| rcode as u16)
}

fn read_exec(node: &Node, findings: &mut Findings) -> Option<ExecCheck> {
    let mapping =
        node.mapping("a command, as in { command: [/usr/lib/monitor/check, \"{address}\"] },", findings)?;
    mapping.know_only(&["command"], findings);
    let items = mapping.get("command").map_or(&[][..], Node::items);
    let Some(program) = items.first() else {
        let text =
            "an exec check needs a command, as in { command: [/usr/lib/monitor/check, \"{address}\"] }";
        findings.error(&node.at, text);
        return None;
    };
    let path = Path::new(program.text("the path of a program", findings)?);
    if !path.is_absolute() {
        findings.error(&program.at, "the path of a program begins with /: no shell and no PATH looks for it");
        return None;
    }
    let arguments = items.iter().map(|item| match &item.content {
        // The empty text is one that a program may be told.
        Content::Scalar { text, .. } => Some(text.clone()),
        _ => item.text("an argument", findings).map(str::to_owned),
    });
    let command: Vec<String> = arguments.collect::<Option<_>>()?;
    // Only now, for what is not there may come; while it is not, nothing is known of the address, and that is up.
    if !path.is_file() {
        findings.warning(&program.at, format!("there is no file {}", path.display()));
    }
    for (item, text) in items.iter().zip(&command).skip(1) {
        warn_of_stand_ins(&item.at, text, findings);
    }
    Some(ExecCheck { command })
}

/// Braces may be meant as they are, but not those around what is almost one of the words that stand for something.
fn warn_of_stand_ins(at: &At, text: &str, findings: &mut Findings) {
    for part in text.split('{').skip(1) {
        let Some((word, _)) = part.split_once('}') else { continue };
        let word = format!("{{{word}}}");
        let hint = did_you_mean(&word, STAND_INS);
        if !STAND_INS.contains(&word.as_str()) && !hint.is_empty() {
            findings.warning(at, format!("{word} stays as it is{hint}"));
        }
    }
}

fn read_file(node: &Node, findings: &mut Findings) -> Option<FileCheck> {
    let mapping = node.mapping("a path, as in { path: \"run/health/{site}\" },", findings)?;
    mapping.know_only(&["path", "max_age"], findings);
    let Some(path) = mapping.get("path") else {
        findings.error(&node.at, "a file check needs a path, as in { path: \"run/health/{site}\" }");
        return None;
    };
    let text = path.text("a path", findings)?;
    warn_of_stand_ins(&path.at, text, findings);
    let max_age = match mapping.get("max_age") {
        None => Duration::from_secs(30),
        Some(node) => {
            let max_age = node.duration(findings)?;
            if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&max_age) {
                findings.error(&node.at, "max_age: 1s to 24h");
            }
            max_age
        }
    };
    Some(FileCheck { path: beside(node, text), max_age })
}

/// A path, seen from the file that names it.
fn beside(node: &Node, path: &str) -> PathBuf {
    node.at.source.path.parent().unwrap_or(Path::new("")).join(path)
}
