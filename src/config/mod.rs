//! `meridian.yaml`: as written, then as meant.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::change::gates::Gates;
use crate::change::history::Bounds;
use crate::finding::{Findings, Source};
use crate::health::Canary;
use crate::policy;
use crate::policy::read::Written;
use crate::site::read::read_canaries;
use crate::yaml::{self, Content, Node};
use crate::zone::compile::LONGEST_RRSET;
use crate::zone::master::read_text;

mod change;
pub mod listen;
mod observe;

pub use listen::Listener;
pub use observe::QueryLog;

/// The file that is read when no other is named.
pub const DEFAULT_PATH: &str = "meridian.yaml";

/// What the whole server is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where and how it listens.
    pub listen: Vec<Listener>,
    /// The folder of zones.
    pub zones: PathBuf,
    /// MMDB files, and folders of them.
    pub geodb: Vec<PathBuf>,
    /// Whether somebody named them; if not, there may be none.
    pub geodb_is_named: bool,
    /// The control socket.
    pub control: PathBuf,
    /// Serials that were served, kept across restarts.
    pub state: PathBuf,
    /// UDP threads; 0 is one per core.
    pub workers: usize,
    /// Whom root becomes once sockets are bound: `NAME` or `NAME:GROUP`.
    pub user: Option<String>,
    /// Whether the kernel is asked to keep the server away from all other files.
    pub sandbox: bool,
    /// What may be read besides what is named here.
    pub readable: Vec<PathBuf>,
    /// Programs that checks may run, and folders of them.
    pub executable: Vec<PathBuf>,
    /// Octets that an RRset of a zone may take.
    pub largest_rrset: usize,
    /// Where the metrics are told over HTTP.
    pub metrics: Vec<SocketAddr>,
    /// Of one query in so many the country is counted, if any are.
    pub countries: Option<u32>,
    /// Which queries are written down, if any are.
    pub query_log: Option<QueryLog>,
    /// Addresses beside all sites: when none of them answers, the fault is here.
    pub canaries: Vec<Canary>,
    /// How far a change may go by itself. It takes effect with a reload.
    pub gates: Gates,
    /// How many snapshots are kept, for a way back.
    pub history: Bounds,
    /// What responses are like in general. It takes effect with a reload; all else does at the next start.
    pub answers: Written,
}

impl Default for Config {
    /// Serves the zones of the folder that one stands in, on loopback.
    fn default() -> Config {
        Config {
            listen: vec![Listener::plain(SocketAddr::from(([127, 0, 0, 1], 5300)))],
            zones: PathBuf::from("zones"),
            geodb: vec![PathBuf::from("geodb")],
            geodb_is_named: false,
            control: PathBuf::from("run/meridian.sock"),
            state: PathBuf::from("run"),
            workers: 0,
            user: None,
            sandbox: true,
            readable: Vec::new(),
            executable: Vec::new(),
            largest_rrset: LONGEST_RRSET,
            metrics: Vec::new(),
            countries: None,
            query_log: None,
            canaries: Vec::new(),
            gates: Gates::default(),
            history: Bounds::default(),
            answers: Written::default(),
        }
    }
}

const KEYS: [&str; 18] = [
    "listen",
    "zones",
    "geodb",
    "control",
    "state",
    "workers",
    "largest_rrset",
    "answers",
    "user",
    "sandbox",
    "readable",
    "executable",
    "canaries",
    "metrics",
    "countries",
    "query_log",
    "gates",
    "history",
];

/// Whether this YAML is a configuration: it has keys of one, and no others.
#[must_use]
pub fn is_configuration(root: &Node) -> bool {
    matches!(&root.content, Content::Mapping(entries)
        if !entries.is_empty() && entries.iter().all(|(key, _)| key.scalar().is_some_and(|key| KEYS.contains(&key))))
}

impl Config {
    /// Reads a file; the default where none is named and there is none.
    ///
    /// Relative paths are taken from the folder that the file stands in.
    pub fn read(path: Option<&Path>, findings: &mut Findings) -> Config {
        let (path, is_named) = match path {
            Some(path) => (path, true),
            None => (Path::new(DEFAULT_PATH), false),
        };
        match read_text(path) {
            Ok(text) => Config::parse(&Source::new(path, text), findings),
            Err(error) if is_named || !matches!(path.try_exists(), Ok(false)) => {
                findings.unreadable(path, error);
                Config::default()
            }
            Err(_) => Config::default(),
        }
    }

    /// Whether another says the same of all that takes effect at the start only.
    #[must_use]
    pub fn starts_like(&self, other: &Config) -> bool {
        let at_start = |config: &Config| Config {
            answers: Written::default(),
            gates: Gates::default(),
            ..config.clone()
        };
        at_start(self) == at_start(other)
    }

    /// With its paths taken from a folder.
    fn within(mut self, folder: &Path) -> Config {
        for path in [&mut self.zones, &mut self.control, &mut self.state].into_iter().chain(&mut self.geodb) {
            *path = folder.join(&*path);
        }
        self
    }

    fn parse(source: &std::sync::Arc<Source>, findings: &mut Findings) -> Config {
        let folder = source.path.parent().unwrap_or(Path::new(""));
        let mut config = Config::default().within(folder);
        if source.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return config;
        }
        let Some(root) = yaml::read(source, findings) else { return config };
        let Some(mapping) = root.mapping("listen, zones, geodb, ...", findings) else { return config };
        mapping.know_only(&KEYS, findings);
        let path = |key: &str, into: &mut PathBuf, findings: &mut Findings| {
            if let Some(text) = mapping.get(key).and_then(|node| node.text("a path", findings)) {
                *into = folder.join(text);
            }
        };
        path("zones", &mut config.zones, findings);
        path("control", &mut config.control, findings);
        path("state", &mut config.state, findings);
        config.user = mapping
            .get("user")
            .and_then(|node| node.text("a user, or USER:GROUP", findings))
            .map(str::to_owned);
        config.sandbox =
            mapping.get("sandbox").and_then(|node| node.boolean(findings)).unwrap_or(config.sandbox);
        for (key, into) in [("readable", &mut config.readable), ("executable", &mut config.executable)] {
            if let Some(node) = mapping.get(key) {
                let paths = node.items().iter().filter_map(|item| item.text("a file or a folder", findings));
                *into = paths.map(|text| folder.join(text)).collect();
            }
        }
        if let Some(node) = mapping.get("geodb") {
            let items = node.items().iter();
            let paths = items.filter_map(|item| item.text("an MMDB file, or a folder of them", findings));
            config.geodb = paths.map(|text| folder.join(text)).collect();
            config.geodb_is_named = true;
        }
        if let Some(node) = mapping.get("listen") {
            config.listen =
                node.items().iter().filter_map(|item| listen::read(item, folder, findings)).collect();
            if config.listen.is_empty() && !findings.has_errors() {
                findings.error(&node.at, "listen: needs at least one address");
            }
        }
        config.workers =
            mapping.get("workers").and_then(|node| node.number(0, 1024, findings)).unwrap_or(config.workers);
        config.largest_rrset = mapping
            .get("largest_rrset")
            .and_then(|node| node.number(512, LONGEST_RRSET, findings))
            .unwrap_or(config.largest_rrset);
        if let Some(node) = mapping.get("metrics") {
            config.metrics = observe::read_metrics(node, findings);
        }
        config.countries = mapping.get("countries").and_then(|node| observe::read_sample(node, findings));
        config.query_log =
            mapping.get("query_log").and_then(|node| observe::read_query_log(node, folder, findings));
        if let Some(node) = mapping.get("canaries") {
            config.canaries = read_canaries(node, findings);
        }
        if let Some(node) = mapping.get("gates") {
            config.gates = change::read_gates(node, findings);
        }
        if let Some(node) = mapping.get("history") {
            config.history = change::read_history(node, findings);
        }
        if let Some(node) = mapping.get("answers") {
            config.answers = policy::read::read(node, folder, findings);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Config, String) {
        let mut findings = Findings::new();
        let config = Config::parse(&Source::new("etc/meridian.yaml", text), &mut findings);
        (config, findings.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let (config, findings) = parse("zones: z\ngeodb: [a.mmdb, /b]\nlisten: \"[::1]:53\"\n");
        assert_eq!(findings, "");
        assert_eq!(config.zones, Path::new("etc/z"));
        assert_eq!(config.geodb, [Path::new("etc/a.mmdb"), Path::new("/b")]);
        assert_eq!(config.listen, [Listener::plain("[::1]:53".parse().unwrap())]);
    }

    #[test]
    fn a_canary_is_a_check_of_an_address() {
        let (config, findings) =
            parse("canaries: [{ address: \"2001:db8::1\", tcp: {}, port: 53, every: 2s }]\n");
        assert_eq!(findings, "");
        let (address, check) = &config.canaries[0];
        assert_eq!(
            (address.to_string(), check.port, check.every.as_secs()),
            ("2001:db8::1".to_owned(), Some(53), 2)
        );
        for (written, told) in [
            ("{ icmp: {} }", "address: is missing, as in a canary such as { address: 192.0.2.1, icmp: {} }"),
            ("{ address: here, icmp: {} }", "\"here\" is no address such as 192.0.2.1 or 2001:db8::1"),
            ("{ address: 192.0.2.1 }", "a check is one of "),
            (
                "{ address: 192.0.2.1, http: { load: { body: number } } }",
                "load: means nothing here: a canary is no site",
            ),
            ("{ adress: 192.0.2.1, icmp: {} }", "unknown key \"adress\"; did you mean \"address\"?"),
        ] {
            let findings = parse(&format!("canaries: [{written}]\n")).1;
            assert!(findings.contains(told), "{findings}");
        }
    }

    #[test]
    fn a_file_of_comments_is_the_default() {
        let (config, findings) = parse("# nothing\n\n");
        assert_eq!(findings, "");
        assert_eq!(config, Config::default().within(Path::new("etc")));
        assert_eq!(config, parse("workers: 0\n").0);
    }

    #[test]
    fn an_unknown_key_is_refused_and_a_near_one_named() {
        assert!(parse("lisen: x\n").1.contains("did you mean \"listen\"?"));
        assert!(parse("listen: 192.0.2.53\n").1.contains("no address with a port"));
    }

    #[test]
    fn metrics_are_told_at_one_address_or_at_several() {
        assert_eq!(parse("zones: z\n").0.metrics, []);
        let (config, findings) = parse("metrics: 127.0.0.1:9853\n");
        assert_eq!((config.metrics, findings.as_str()), (vec!["127.0.0.1:9853".parse().unwrap()], ""));
        assert_eq!(parse("metrics: [\"127.0.0.1:9853\", \"[::1]:9853\"]\n").0.metrics.len(), 2);
        let told = |text: &str| parse(text).1;
        assert!(
            told("metrics: [127.0.0.1:1, here]\n").contains(
                "etc/meridian.yaml:1:24: \"here\" is no address with a port such as 127.0.0.1:9853"
            )
        );
        assert!(
            told("metrics: { port: 1 }\n")
                .contains("an address and a port such as 127.0.0.1:9853 is expected")
        );
        assert!(told("metrcs: 127.0.0.1:9853\n").contains("did you mean \"metrics\"?"));
    }

    #[test]
    fn countries_are_counted_of_a_part() {
        assert_eq!(parse("zones: z\n").0.countries, None);
        assert_eq!(parse("countries: 1/100\n").0.countries, Some(100));
        assert!(
            parse("countries: all\n").1.contains("\"all\" is no part from 1/1 to 1/1000000 such as 1/100")
        );
    }

    #[test]
    fn a_query_log_has_a_file_a_part_a_size_and_a_number() {
        assert_eq!(parse("zones: z\n").0.query_log, None);
        let (config, findings) = parse("query_log: { file: run/queries.log }\n");
        let expected =
            QueryLog { file: "etc/run/queries.log".into(), sample: 100, max_size: 64 << 20, keep: 2 };
        assert_eq!((config.query_log, findings.as_str()), (Some(expected), ""));
        let written = "query_log: { file: /q, sample: 1/1, max_size: 5000, keep: 0 }\n";
        let expected = QueryLog { file: "/q".into(), sample: 1, max_size: 5000, keep: 0 };
        assert_eq!(parse(written).0.query_log, Some(expected));
        let told = |keys: &str, text: &str| {
            let told = parse(&format!("query_log: {{ file: q, {keys} }}\n")).1;
            assert!(told.contains(text), "{keys}: {told}");
        };
        told(
            "sample: 0.01",
            "etc/meridian.yaml:1:31: \"0.01\" is no part from 1/1 to 1/1000000 such as 1/100",
        );
        told("sample: 1/0", "\"1/0\" is no part");
        told("sample: 2/100", "\"2/100\" is no part");
        told("max_size: 64MB", "\"64MB\" is no size from 4K to 1024G such as 64M");
        told("max_size: 1K", "\"1K\" is no size");
        told("max_size: 99999999999999999999G", "is no size");
        told("max_size: 18014398509481985K", "is no size");
        told("keep: -1", "\"-1\" is no number from 0 to 1000");
        told("sampel: 1/10", "did you mean \"sample\"?");
        assert!(parse("query_log: { keep: 1 }\n").1.contains("file: is missing"));
        assert!(
            parse("query_log: run/q.log\n").1.contains("file, sample, max_size and keep is expected here")
        );
        assert!(parse("querylog: {}\n").1.contains("did you mean \"query_log\"?"));
    }

    #[test]
    fn a_listener_speaks_one_protocol_with_a_certificate() {
        let (config, findings) = parse(concat!(
            "listen:\n",
            "  - { address: 192.0.2.53:853, tls: { certificate: c.pem, key: k.pem } }\n",
            "  - { address: 192.0.2.53:443, https: { certificate: c.pem, key: /k.pem, path: /q }, proxy_from: 10.0.0.0/8 }\n",
        ));
        assert_eq!(findings, "");
        let certificate = listen::Certificate { certificate: "etc/c.pem".into(), key: "etc/k.pem".into() };
        assert_eq!(config.listen[0].protocol, listen::Protocol::Tls(certificate));
        assert!(matches!(&config.listen[1].protocol, listen::Protocol::Https(_, path) if path == "/q"));
        assert_eq!(config.listen[1].proxy_from, ["10.0.0.0/8".parse().unwrap()]);
        let told = |text: &str| parse(text).1;
        assert!(
            told("listen: { address: 192.0.2.53:853, tls: { key: k.pem } }\n")
                .contains("certificate: is missing")
        );
        assert!(told("listen: { address: 192.0.2.53:853, tls: {}, quic: {} }\n").contains("write several"));
        assert!(
            told("listen: { address: 192.0.2.53:853, quic: { certificate: c, key: k }, proxy_from: 10.0.0.1 }\n")
                .contains("QUIC knows no PROXY headers")
        );
        assert!(told("listen: { adress: 192.0.2.53:853 }\n").contains("did you mean \"address\"?"));
    }
}
