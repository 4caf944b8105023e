//! Runs `tests/scenarios/<topic>/*.scenario`: zones, sites and geography, then queries with the responses expected.
//! One behaviour a file; the head of the file says which, and the number of the meaning (docs/answers.md) that it holds.
//!
//! ```text
//! # What this is about.
//! file zones/example.com.yaml           a file of the folder; its indented lines are its text
//! geo 1.1.0.0/16 AU -33.9 151.2 Sydney  a network of the geo database: country, then coordinates, then city
//! asn 1.1.1.0/24 13335                  one of the ASN database
//! down syd | up syd                     all of a site's addresses; forced-down, forced-up as an operator says it
//! down 192.0.2.10                       one address
//! share syd 50%                         in every service; 0% is drained
//! query NAME TYPE [from ADDRESS] [subnet PREFIX] [tcp] [edns] [do] [payload N] [class N] [opcode N] [version N] [rd]
//!       [option CODE HEX]...            the indented lines are the response
//! packet PART... [udp|tcp]              likewise, part for part (tests/support/packet.rs): over UDP and TCP, unless one is named
//! policy KEY VALUE                      before the first query: nsid, version, identity, cookies SECRET, requires-cookie true,
//!                                       max-without-cookie N, udp-payload V4[,V6],
//!                                       rate-limit PER_SECOND,BURST,SLIP,NXDOMAIN_PER_SECOND
//! wait MILLISECONDS                     before the next query; all others come at one time
//! remove PATH | rename PATH PATH        of a file
//! reload [force]                        what came of it, and the findings
//! check                                 the findings as they are printed
//! ```
//!
//! `MERIDIAN_UPDATE_SCENARIOS=1 cargo test --test scenarios` writes what came into the files, for somebody to read
//! before it is committed.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use libtest_mimic::{Arguments, Failed, Trial};
use meridian::health::board::{Board, Share, Verdict};
use meridian::health::spill;
use meridian::nameserver::limit::Limiter;
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond};
use meridian::policy::Policy;
use meridian::policy::cookie::Secrets;
use meridian::policy::rate_limit::{Mode, Prices, RateLimit, Rates};
use meridian::reload::{self, Reload, Reloader};
use meridian::snapshot::Snapshot;
use meridian::wire::message::Message;
use meridian::wire::{Name, Rtype};

#[path = "support/geo.rs"]
mod geo;
#[path = "support/packet.rs"]
mod packet;
#[path = "support/question.rs"]
mod question;

use question::Question;

/// When it is, but for what is waited: the time of the test vectors of RFC 9018, in milliseconds.
const NOW_MS: u64 = 1_559_731_985_000;

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = scenario_files(&root);
    let numbers = numbers_of(&files);
    let mut trials: Vec<Trial> = files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap_or(&path).with_extension("").display().to_string();
            Trial::test(name, move || run(&path))
        })
        .collect();
    trials.push(Trial::test("every meaning has a scenario", move || {
        let lacking: Vec<u8> = (1..=18).filter(|number| !numbers.contains(number)).collect();
        if lacking.is_empty() { Ok(()) } else { Err(format!("none for {lacking:?}").into()) }
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// What the names of files begin with.
fn numbers_of(files: &[PathBuf]) -> Vec<u8> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.split('_').next()?.parse().ok();
    files.iter().filter_map(number).collect()
}

fn scenario_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(scenario_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "scenario") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A line and the indented lines under it.
struct Step {
    /// From 1.
    line: usize,
    head: String,
    body: String,
}

fn run(path: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(path)?;
    let mut stage = Stage::new()?;
    let mut rewritten = String::new();
    let mut failures = String::new();
    for step in steps(&text) {
        let came = stage.play(&step).map_err(|error| format!("line {}: {error}", step.line))?;
        let body = came.as_ref().unwrap_or(&step.body);
        let _ = write!(rewritten, "{}", step.head);
        for line in body.lines() {
            rewritten.push('\n');
            if !line.is_empty() {
                let _ = write!(rewritten, "    {line}");
            }
        }
        rewritten.push('\n');
        if body.trim_end() != step.body.trim_end() {
            let _ = write!(
                failures,
                "line {}: {}\n--- expected\n{}--- came\n{body}\n",
                step.line, step.head, step.body
            );
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    if std::env::var_os("MERIDIAN_UPDATE_SCENARIOS").is_some() {
        fs::write(path, rewritten)?;
        return Ok(());
    }
    Err(failures.into())
}

/// Comments and empty lines are steps of nothing, so that a file can be written back as it was.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut empty_lines = 0;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("    "), steps.last_mut()) {
            (Some(inside), Some(step)) => {
                step.body.push_str(&"\n".repeat(std::mem::take(&mut empty_lines)));
                step.body.push_str(inside);
                step.body.push('\n');
            }
            _ if line.is_empty() => empty_lines += 1,
            _ => {
                for _ in 0..std::mem::take(&mut empty_lines) {
                    steps.push(Step { line: index, head: String::new(), body: String::new() });
                }
                steps.push(Step { line: index + 1, head: line.to_owned(), body: String::new() });
            }
        }
    }
    steps
}

/// Folders of a scenario's own, and the server's parts without sockets and threads.
struct Stage {
    folder: tempfile::TempDir,
    policy: Policy,
    places: Vec<geo::Row>,
    asns: Vec<geo::Row>,
    reloader: Reloader,
    live: Option<Live>,
    worker: Worker,
    now_ms: u64,
}

struct Live {
    snapshot: Snapshot,
    board: Board,
}

impl Stage {
    fn new() -> Result<Stage, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        for name in ["zones", "geodb"] {
            fs::create_dir(folder.path().join(name)).map_err(|error| error.to_string())?;
        }
        let reloader = Reloader::new(&folder.path().join("zones"), &[folder.path().join("geodb")], None);
        Ok(Stage {
            folder,
            policy: Policy::default(),
            places: Vec::new(),
            asns: Vec::new(),
            reloader,
            live: None,
            worker: Worker::with_limiter(Limiter::new(1 << 10, 1).map_err(|error| error.to_string())?),
            now_ms: NOW_MS,
        })
    }

    /// Does what a step says; gives what came of it, where something does.
    fn play(&mut self, step: &Step) -> Result<Option<String>, String> {
        let words: Vec<&str> = step.head.split_ascii_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["file", path] => self.write(path, &step.body)?,
            ["remove", path] => {
                let path = self.folder.path().join(path);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .map_err(|error| error.to_string())?;
            }
            ["rename", from, to] => {
                fs::rename(self.folder.path().join(from), self.folder.path().join(to))
                    .map_err(|error| error.to_string())?;
            }
            ["geo", network, known @ ..] => {
                self.places.push(geo::Row { network: network_of(network)?, record: record_of(known)? });
                geo::write(&self.folder.path().join("geodb"), "place", &self.places);
            }
            ["asn", network, number] => {
                let asn = number.parse().map_err(|_| format!("{number} is no AS number"))?;
                let record = geo::Record { autonomous_system_number: Some(asn), ..geo::Record::default() };
                self.asns.push(geo::Row { network: network_of(network)?, record });
                geo::write(&self.folder.path().join("geodb"), "asn", &self.asns);
            }
            [verdict @ ("up" | "down" | "forced-up" | "forced-down"), whom] => {
                self.set_verdict(verdict, whom)?;
            }
            ["share", site, percent] => self.set_share(site, percent)?,
            ["policy", key, value] => self.set_policy(key, value)?,
            ["wait", milliseconds] => {
                self.now_ms += milliseconds.parse::<u64>().map_err(|error| error.to_string())?;
            }
            ["query", name, rtype, rest @ ..] => return self.query(name, rtype, rest).map(Some),
            ["packet", parts @ ..] => return self.packet(parts).map(Some),
            ["reload", rest @ ..] => return Ok(Some(self.reload(rest == ["force"]))),
            ["check"] => return Ok(Some(self.check())),
            _ => return Err(format!("unknown step: {}", step.head)),
        }
        Ok(None)
    }

    fn write(&self, path: &str, text: &str) -> Result<(), String> {
        let path = self.folder.path().join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|error| error.to_string())
    }

    /// The snapshot that is served; the first question brings it up.
    fn live(&mut self) -> Result<&Live, String> {
        if self.live.is_none() {
            let Reload { snapshot, findings, .. } = self.reloader.reload(false);
            if findings.has_errors() {
                return Err(format!(
                    "what is written does not load; say `reload` to expect that\n{findings}"
                ));
            }
            self.publish(snapshot);
        }
        self.live.as_ref().ok_or_else(|| "nothing is served".to_owned())
    }

    fn publish(&mut self, snapshot: Option<(Snapshot, meridian::health::board::Layout)>) {
        if let Some((snapshot, layout)) = snapshot {
            let snapshot = snapshot.with_policy(Arc::new(self.policy.clone()));
            let board = Board::new(layout);
            spill::price(&board);
            self.live = Some(Live { snapshot, board });
        }
    }

    fn set_verdict(&mut self, verdict: &str, whom: &str) -> Result<(), String> {
        let verdict = match verdict {
            "up" => Verdict::Up,
            "down" => Verdict::Down,
            "forced-up" => Verdict::ForcedUp,
            _ => Verdict::ForcedDown,
        };
        let live = self.live()?;
        let layout = live.board.layout();
        let mut slots = Vec::new();
        if let Ok(address) = whom.parse::<IpAddr>() {
            slots.extend(
                layout
                    .targets
                    .iter()
                    .enumerate()
                    .filter(|(_, target)| target.address == address)
                    .map(|(slot, _)| slot as u32),
            );
        }
        for service in live.snapshot.services() {
            for (index, site) in service.sites.iter().enumerate() {
                if layout.shares[site.share as usize].site == whom {
                    slots.extend(service.addresses(index as u16).iter().map(|address| address.verdict));
                }
            }
        }
        if slots.is_empty() {
            return Err(format!("{whom} is no site and no address of one"));
        }
        for slot in slots {
            live.board.set_verdict(slot, verdict);
        }
        spill::price(&live.board);
        Ok(())
    }

    fn set_share(&mut self, site: &str, percent: &str) -> Result<(), String> {
        let percent: f64 =
            percent.trim_end_matches('%').parse().map_err(|_| format!("{percent} is no share"))?;
        let live = self.live()?;
        let slots = live.board.layout().shares.iter().enumerate().filter(|(_, share)| share.site == site);
        let slots: Vec<u32> = slots.map(|(slot, _)| slot as u32).collect();
        if slots.is_empty() {
            return Err(format!("there is no site {site}"));
        }
        for slot in slots {
            live.board.set_share(slot, Share((percent / 100.0 * f64::from(Share::FULL.0)).round() as u16));
        }
        spill::price(&live.board);
        Ok(())
    }

    fn set_policy(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match key {
            "nsid" => self.policy.nsid = Some(value.as_bytes().into()),
            "version" => self.policy.version = Some(value.into()),
            "identity" => self.policy.identity = Some(value.into()),
            "requires-cookie" => self.policy.requires_cookie = value == "true",
            "max-without-cookie" => self.policy.max_without_cookie = Some(number()?),
            "udp-payload" => {
                let (v4, v6) = value.split_once(',').unwrap_or((value, value));
                let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
                (self.policy.udp_payload_v4, self.policy.udp_payload_v6) = (number(v4)?, number(v6)?);
            }
            "rate-limit" => self.policy.rate_limit = rate_limit_of(value)?,
            "cookies" => {
                let secret = data_encoding::HEXLOWER
                    .decode(value.as_bytes())
                    .ok()
                    .and_then(|secret| secret.try_into().ok());
                self.policy.cookies =
                    Some(Secrets::new(secret.ok_or("a secret has 32 hexadecimal digits")?, None));
            }
            _ => return Err(format!("unknown policy {key}")),
        }
        Ok(())
    }

    fn query(&mut self, name: &str, rtype: &str, rest: &[&str]) -> Result<String, String> {
        let name = Name::parse(name, Some(&Name::root())).map_err(|error| format!("{name}: {error}"))?;
        let rtype: Rtype = rtype.parse().map_err(|_| format!("{rtype} is no type"))?;
        let mut question = Question::new(name, rtype);
        let mut from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let mut transport = Transport::Udp;
        let mut words = rest.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{text} is no number"));
            match word {
                "from" => from = value()?.parse().map_err(|_| "from takes an address".to_owned())?,
                "subnet" => question.subnet = Some(network_of(value()?)?),
                "tcp" => transport = Transport::Tcp,
                "tls" => transport = Transport::Tls,
                "edns" => question.payload = question.payload.or(Some(1232)),
                "do" => question.dnssec_ok = true,
                "rd" => question.recursion_desired = true,
                "payload" => question.payload = Some(number(value()?)?),
                "class" => question.class = number(value()?)?,
                "opcode" => question.opcode = number(value()?)? as u8,
                "version" => {
                    question.version = number(value()?)? as u8;
                    question.payload = question.payload.or(Some(1232));
                }
                "option" => {
                    let code = number(value()?)?;
                    let octets = match value()? {
                        "-" => Vec::new(),
                        hex => data_encoding::HEXLOWER_PERMISSIVE
                            .decode(hex.as_bytes())
                            .map_err(|error| error.to_string())?,
                    };
                    question.options.push((code, octets));
                }
                _ => return Err(format!("unknown word {word}")),
            }
        }
        self.ask(&question.to_wire(), from, transport)
    }

    fn packet(&mut self, parts: &[&str]) -> Result<String, String> {
        let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let (parts, transport) = match parts {
            [parts @ .., "udp"] => (parts, Some(Transport::Udp)),
            [parts @ .., "tcp"] => (parts, Some(Transport::Tcp)),
            parts => (parts, None),
        };
        let bytes = packet::build(parts.iter().copied())?;
        if let Some(transport) = transport {
            return self.ask(&bytes, client, transport);
        }
        let over_udp = self.ask(&bytes, client, Transport::Udp)?;
        let over_tcp = self.ask(&bytes, client, Transport::Tcp)?;
        Ok(if over_udp == over_tcp { over_udp } else { format!("over UDP\n{over_udp}over TCP\n{over_tcp}") })
    }

    fn ask(&mut self, bytes: &[u8], client: IpAddr, transport: Transport) -> Result<String, String> {
        self.live()?;
        let live = self.live.as_ref().ok_or("nothing is served")?;
        let request = Request { bytes, client, transport, now_ms: self.now_ms };
        let mut out = vec![0; if transport == Transport::Udp { 1232 } else { 65_535 }];
        match respond(&mut self.worker, &request, &live.snapshot, &live.board, &mut out) {
            Outcome::Dropped | Outcome::Limited(_) => Ok("no response\n".to_owned()),
            Outcome::Responded(responded) => {
                let response = &out[..responded.length];
                packet::hold_against_the_query(bytes, response)?;
                let message = Message::read(response).ok_or("the response is not well-formed")?;
                Ok(packet::print(&message))
            }
        }
    }

    fn reload(&mut self, force: bool) -> String {
        let Reload { outcome, findings, snapshot } = self.reloader.reload(force);
        self.publish(snapshot);
        let outcome = match outcome {
            reload::Outcome::Unchanged => "unchanged",
            reload::Outcome::TookAll => "took all",
            reload::Outcome::KeptSome => "kept some",
            reload::Outcome::TookNothing => "took nothing",
            reload::Outcome::Held => "held",
        };
        let mut text = format!("{outcome}\n");
        for finding in findings.iter() {
            let first = finding.to_string().lines().next().unwrap_or_default().to_owned();
            let _ = writeln!(text, "{}", self.without_folder(&first));
        }
        for zone in self.reloader.zones().iter().filter(|zone| zone.is_kept) {
            let _ = writeln!(text, "status: {} is kept", zone.name);
        }
        text
    }

    fn check(&self) -> String {
        let folder = self.folder.path();
        let mut reloader = Reloader::new(&folder.join("zones"), &[folder.join("geodb")], None);
        let findings = reloader.reload(false).findings;
        let text = self.without_folder(&findings.to_string());
        if text.is_empty() { "nothing found\n".to_owned() } else { text }
    }

    fn without_folder(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn rate_limit_of(text: &str) -> Result<RateLimit, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[per_second, burst, slip, nxdomain_per_second]) => {
            let prices = Prices::new(&Rates { per_second, burst: Some(burst), nxdomain_per_second });
            Ok(RateLimit { mode: Mode::On, slip, prices, ..RateLimit::default() })
        }
        _ => Err(format!("{text} is no rate limit")),
    }
}

fn network_of(text: &str) -> Result<IpNetwork, String> {
    text.parse().map_err(|_| format!("{text} is no network"))
}

/// `AU`, `AU -33.9 151.2 Sydney`, `- 0 0`: the country, then coordinates, then the city; `US/CA` has a subdivision.
fn record_of(known: &[&str]) -> Result<geo::Record, String> {
    let number = |text: &&str| text.parse::<f32>().map_err(|_| format!("{text} is no degree"));
    let mut record = geo::Record::default();
    if let Some(country) = known.first().filter(|country| **country != "-") {
        let (country, subdivision) =
            country.split_once('/').map_or((*country, None), |(country, rest)| (country, Some(rest)));
        record.country_code = Some(country.to_owned());
        record.state1 = subdivision.map(str::to_owned);
    }
    record.latitude = known.get(1).map(number).transpose()?;
    record.longitude = known.get(2).map(number).transpose()?;
    record.city = known.get(3).map(|city| (*city).to_owned());
    Ok(record)
}
