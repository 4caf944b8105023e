//! `meridian check`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, fs};

use clap::Args;
use serde_json::{Value, json};

use super::Places;
use crate::catchment::ServiceIndex;
use crate::config::{self, Config, DEFAULT_PATH, Listener};
use crate::control::findings_as_json;
use crate::finding::{Findings, Source};
use crate::health::board::Board;
use crate::lint::{delegation, lint};
use crate::reload::Reloader;
use crate::snapshot::Snapshot;
use crate::transport::encrypted::certificate;
use crate::yaml;

/// Tell everything that is wrong with zones, sites, geo databases and certificates, run the zones' expectations, and tell of
/// each service how long it sends clients to a site that has died.
///
/// Exit 0: valid; 1: not.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian check zones/example.com.yaml")]
pub(super) struct Check {
    /// A folder of zones, one file in it, or a configuration; default: the folder that would be served.
    path: Option<PathBuf>,
    /// Ask this server of the parent zone how the zones are delegated; may be given several times.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = parse_server)]
    delegation: Vec<SocketAddr>,
    #[command(flatten)]
    places: Places,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(mut self) -> ExitCode {
        let (config, only) = match self.what() {
            Ok(what) => what,
            Err(code) => return code,
        };
        let mut findings = Findings::new();
        check_certificates(&config.listen, &mut findings);
        let mut reloader = Reloader::of(&config, false);
        reloader.keep_databases();
        let reload = reloader.reload(false);
        let databases = reloader.take_databases().unwrap_or_default();
        let promises =
            reload.snapshot.as_ref().map_or_else(Vec::new, |(snapshot, _)| promises(&reloader, snapshot));
        let delegations = reload.snapshot.map_or_else(Findings::new, |(snapshot, layout)| {
            delegation::look(&self.delegation, &reloader.answering(), &snapshot, &Board::new(layout))
        });
        findings.extend(reload.findings);
        findings.extend(delegations);
        findings.extend(lint(reloader.services(), &reloader.answering(), &databases));
        let findings = match &only {
            Some(path) => findings.only(|finding| is_same_file(&finding.path, path)),
            None => findings,
        };
        self.print(&findings, &reloader, &promises);
        if findings.has_errors() { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }

    /// Where to read, and the file whose findings alone are asked for. A zone means something only together with its
    /// neighbours: all are read, in the folder that is served if the file is in it.
    fn what(&mut self) -> Result<(Config, Option<PathBuf>), ExitCode> {
        let Some(path) = self.path.take() else { return Ok((self.places.config()?, None)) };
        let wrong_usage = |text: &str| {
            eprintln!("{}: {text}", path.display());
            Err(ExitCode::from(2))
        };
        if path.is_dir() {
            self.places.zones = Some(path);
            // Where it is served is not asked.
            return Ok((Config { listen: Vec::new(), ..self.places.config()? }, None));
        }
        if !path.is_file() {
            return wrong_usage("there is no such file");
        }
        if is_configuration(&path) {
            self.places.config = Some(path);
            return Ok((self.places.config()?, None));
        }
        if !["yaml", "yml", "zone"]
            .iter()
            .any(|known| path.extension().is_some_and(|extension| extension == *known))
        {
            return wrong_usage("a file that is read ends in .yaml or .zone");
        }
        let mut config = self.places.config()?;
        let is_served = match (path.canonicalize(), config.zones.canonicalize()) {
            (Ok(path), Ok(zones)) => path.starts_with(zones),
            _ => false,
        };
        if !is_served {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            config.zones = folder.unwrap_or(Path::new(".")).to_owned();
        }
        Ok((config, Some(path)))
    }

    fn print(&self, findings: &Findings, reloader: &Reloader, promises: &[Promise]) {
        if self.json {
            let services: Vec<Value> = promises.iter().map(Promise::to_json).collect();
            super::print(&format!(
                "{}\n",
                json!({ "findings": findings_as_json(findings), "services": services })
            ));
            return;
        }
        let mut text = findings.to_string();
        if !findings.has_errors() {
            let zones = reloader.zones();
            let names: usize = zones.iter().map(|zone| zone.names).sum();
            let services = reloader.services().len();
            text.push_str(&format!("good: {} zones, {names} names, {services} services\n", zones.len()));
            text.extend(promises.iter().map(ToString::to_string));
        }
        super::print(&text);
    }
}

/// How long a service sends clients to a site that has died, at most.
struct Promise {
    service: String,
    /// Until it is told, and until its last client has left; none where nobody looks.
    failover: Option<(Duration, Duration)>,
}

/// Of each service that a name uses.
fn promises(reloader: &Reloader, snapshot: &Snapshot) -> Vec<Promise> {
    let services = reloader.services().iter().enumerate();
    services
        .map(|(index, service)| {
            let of_service = *service.ttl.end();
            let longest_ttl = snapshot.longest_ttl(index as ServiceIndex, of_service).unwrap_or(of_service);
            let failover = service.detection().zip(service.last_client(longest_ttl));
            Promise { service: service.name.clone(), failover }
        })
        .collect()
}

impl Promise {
    fn to_json(&self) -> Value {
        json!({
            "service": self.service,
            "detection_seconds": self.failover.map(|(detection, _)| detection.as_secs_f64()),
            "last_client_seconds": self.failover.map(|(_, last_client)| last_client.as_secs_f64()),
        })
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = &self.service;
        match self.failover {
            None => writeln!(f, "{service}: nobody checks its sites, a dead one stays"),
            Some((detection, last_client)) => writeln!(
                f,
                "{service}: a dead site is told within {detection:?}, its last client has left after {last_client:?}"
            ),
        }
    }
}

/// An address, at port 53 unless it says another.
fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let of_address = |text: &str| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    let parsed = text.parse().or_else(|_| of_address(text));
    parsed.map_err(|_| "an address is expected, such as 192.0.2.1 or [2001:db8::1]:53".to_owned())
}

/// Reads those of all listeners as the server does at its start.
fn check_certificates(listeners: &[Listener], findings: &mut Findings) {
    let mut checked = HashSet::new();
    for files in listeners.iter().filter_map(|listener| listener.protocol.certificate()) {
        if checked.insert(files) {
            certificate::read(&files.certificate, &files.key, findings);
        }
    }
}

/// Told by its keys, whatever its name.
fn is_configuration(path: &Path) -> bool {
    let source = fs::read_to_string(path).map(|text| Source::new(path, text));
    let root = source.ok().and_then(|source| yaml::read(&source, &mut Findings::new()));
    root.is_some_and(|root| config::is_configuration(&root))
        || path.file_name().is_some_and(|name| name == DEFAULT_PATH)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
