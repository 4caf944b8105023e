//! `sites:` and `services:` as written -> [`Site`]s and [`Service`]s as meant.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{
    AllDown, Check, CheckKind, HttpCheck, Near, Rule, RuleAction, Service, Site, SiteRrset, TlsCheck,
};
use crate::finding::{At, Findings, did_you_mean};
use crate::geo::country::code_hint;
use crate::geo::special::{Embedded, embedded};
use crate::geo::{Continent, Coordinates, Country};
use crate::health::probe::{LONGEST_BODY, read_roots};
use crate::wire::{Name, Rtype};
use crate::yaml::{Mapping, Node};
use crate::zone::yaml::read_rdata;

/// The sites and services that some zones may name, in the order written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    /// All sites.
    pub sites: Vec<Arc<Site>>,
    /// All services.
    pub services: Vec<Arc<Service>>,
    /// Sites and services that could not be read. Half a service is not served: a rule that is missing may be the one
    /// that keeps somebody out.
    broken: Vec<String>,
}

impl Shared {
    /// A service by its name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Whether a site or a service of this name is written, but could not be read.
    #[must_use]
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.iter().any(|broken| broken == name)
    }

    /// Reads `sites:` and `services:` of the shared files, one after the other.
    pub fn read(files: &[Mapping<'_>], findings: &mut Findings) -> Shared {
        let mut shared = Shared::default();
        for file in files {
            file.know_only(&["sites", "services"], findings);
            shared.read_sites(file, &Name::root(), findings);
        }
        for file in files {
            shared.read_services(file, None, findings);
        }
        shared
    }

    /// These, and those that a zone file carries itself. Its services get the zone's name behind an `@`.
    #[must_use]
    pub fn with_own(&self, file: &Mapping<'_>, zone: &Name, findings: &mut Findings) -> Shared {
        let mut own = self.clone();
        own.read_sites(file, zone, findings);
        own.read_services(file, Some(zone), findings);
        own
    }

    fn read_sites(&mut self, file: &Mapping<'_>, origin: &Name, findings: &mut Findings) {
        let Some(sites) = file.get("sites") else { return };
        let Some(sites) = sites.mapping("sites by name", findings) else { return };
        for (key, value) in sites.entries {
            let Some(name) = key.text("a site's name", findings) else { continue };
            if let Some(earlier) = self.sites.iter().find(|site| site.name == name) {
                findings.error(&key.at, format!("site \"{name}\" is already written at {}", earlier.at));
                continue;
            }
            let mut own = Findings::new();
            match read_site(name, &key.at, value, origin, &mut own).filter(|_| !own.has_errors()) {
                Some(site) => self.sites.push(Arc::new(site)),
                None => self.broken.push(name.to_owned()),
            }
            findings.extend(own);
        }
    }

    fn read_services(&mut self, file: &Mapping<'_>, zone: Option<&Name>, findings: &mut Findings) {
        let Some(services) = file.get("services") else { return };
        let Some(services) = services.mapping("services by name", findings) else { return };
        for (key, value) in services.entries {
            let Some(name) = key.text("a service's name", findings) else { continue };
            let name = match zone {
                Some(zone) => format!("{name}@{zone}"),
                None => name.to_owned(),
            };
            if let Some(earlier) = self.service(&name) {
                findings.error(&key.at, format!("service \"{name}\" is already written at {}", earlier.at));
                continue;
            }
            let origin = zone.cloned().unwrap_or_else(Name::root);
            let mut own = Findings::new();
            let reader = ServiceReader { shared: self, is_whole: true, origin, findings: &mut own };
            match reader.read(name.clone(), &key.at, value).filter(|_| !own.has_errors()) {
                Some(service) => self.services.push(Arc::new(service)),
                None => self.broken.push(name),
            }
            findings.extend(own);
        }
    }
}

const SITE_KEYS: [&str; 8] = ["location", "weight", "handicap", "tags", "A", "AAAA", "HTTPS", "CNAME"];

fn read_site(name: &str, at: &At, node: &Node, origin: &Name, findings: &mut Findings) -> Option<Site> {
    let mapping = node.mapping("a site's location and records", findings)?;
    let mut site = Site {
        name: name.to_owned(),
        location: None,
        rrsets: Vec::new(),
        weight: 100,
        handicap_km: 0.0,
        tags: Vec::new(),
        at: at.clone(),
    };
    for (key, value) in mapping.entries {
        match key.scalar().unwrap_or_default() {
            "location" => site.location = read_location(value, findings),
            "weight" => site.weight = value.number(0, u16::MAX, findings).unwrap_or(site.weight),
            "handicap" => site.handicap_km = read_km(value, findings).unwrap_or(0.0),
            "tags" => {
                site.tags.extend(
                    value.items().iter().filter_map(|tag| tag.text("a tag", findings)).map(str::to_owned),
                );
            }
            rtype => match rtype.parse::<Rtype>() {
                Ok(rtype) => site.rrsets.extend(read_site_rrset(rtype, key, value, origin, findings)),
                Err(_) => {
                    let hint = match did_you_mean(rtype, SITE_KEYS) {
                        none if none.is_empty() => format!("; known here: {}", SITE_KEYS.join(", ")),
                        hint => hint,
                    };
                    findings.error(&key.at, format!("unknown key \"{rtype}\"{hint}"));
                }
            },
        }
    }
    if site.rrsets.iter().any(|rrset| rrset.rtype == Rtype::CNAME) && site.rrsets.len() > 1 {
        findings.error(at, format!("site \"{name}\" has a CNAME and other records; a CNAME stands alone"));
    }
    if site.rrsets.is_empty() && !findings.has_errors() {
        findings.warning(at, format!("site \"{name}\" has no records: it never answers"));
    }
    Some(site)
}

/// The most octets that the records of one type take at one site, so that as many sites as one answer holds fit
/// into one message.
const LONGEST_SITE_RRSET: usize = 4_000;

/// The records of one type at a site, or of a last resort.
fn read_site_rrset(
    rtype: Rtype,
    key: &Node,
    value: &Node,
    origin: &Name,
    findings: &mut Findings,
) -> Option<SiteRrset> {
    const NEVER: [Rtype; 12] = [
        Rtype::SOA,
        Rtype::NS,
        Rtype::DNAME,
        Rtype::DS,
        Rtype::DNSKEY,
        Rtype::CDS,
        Rtype::CDNSKEY,
        Rtype::RRSIG,
        Rtype::NSEC,
        Rtype::NSEC3,
        Rtype::NSEC3PARAM,
        Rtype::ZONEMD,
    ];
    if rtype.is_meta() || NEVER.contains(&rtype) {
        findings.error(&key.at, format!("{rtype} records belong to a zone, not to a site"));
        return None;
    }
    let mut rdatas: Vec<Box<[u8]>> = Vec::new();
    for item in value.items() {
        let Some(rdata) = read_rdata(rtype, item, origin, findings) else { continue };
        if rdatas.iter().any(|known| **known == *rdata) {
            findings.error(&item.at, format!("this {rtype} record stands here twice"));
        } else {
            rdatas.push(rdata.into());
        }
    }
    if rtype == Rtype::CNAME && rdatas.len() > 1 {
        findings.error(&value.at, "a name has one CNAME");
    }
    if rdatas.iter().map(|rdata| 12 + rdata.len()).sum::<usize>() > LONGEST_SITE_RRSET {
        findings.error(
            &value.at,
            format!("more than {LONGEST_SITE_RRSET} octets of {rtype} records at one site"),
        );
        return None;
    }
    (!rdatas.is_empty()).then_some(SiteRrset { rtype, rdatas })
}

fn read_location(node: &Node, findings: &mut Findings) -> Option<Coordinates> {
    let [latitude, longitude] = node.items() else {
        findings.error(&node.at, "a location is [latitude, longitude] in degrees, as in [51.47, -0.45]");
        return None;
    };
    let latitude = latitude.decimal(-90.0, 90.0, findings);
    let longitude = longitude.decimal(-180.0, 180.0, findings);
    Some(Coordinates { latitude: latitude?, longitude: longitude? })
}

/// `500 km`; a bare number is kilometres too.
fn read_km(node: &Node, findings: &mut Findings) -> Option<f64> {
    let text = node.text("a distance such as 500 km", findings)?;
    let number = text.strip_suffix("km").unwrap_or(text).trim();
    let km = number.parse::<f64>().ok().filter(|km| (0.0..=40_000.0).contains(km));
    if km.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no distance such as 500 km"));
    }
    km
}

const SERVICE_KEYS: [&str; 10] =
    ["ttl", "sites", "checks", "rules", "sites_per_answer", "near", "ecs", "all_down", "same_site", "min_up"];

/// The sites of a service, for its rules to name.
struct Members<'a> {
    index: HashMap<&'a str, u16>,
    /// Written, but not to be read; that is told where they stand.
    broken: &'a [String],
}

struct ServiceReader<'a> {
    shared: &'a Shared,
    /// Whether all of its sites could be read.
    is_whole: bool,
    origin: Name,
    findings: &'a mut Findings,
}

impl ServiceReader<'_> {
    fn read(mut self, name: String, at: &At, node: &Node) -> Option<Service> {
        let mapping = node.mapping("a service's sites, checks and rules", self.findings)?;
        mapping.know_only(&SERVICE_KEYS, self.findings);
        let sites = self.sites(&mapping, at);
        let names = Members {
            index: sites.iter().enumerate().map(|(index, site)| (site.name.as_str(), index as u16)).collect(),
            broken: &self.shared.broken,
        };
        let findings = &mut *self.findings;
        let number = |key: &str, default: u8, findings: &mut Findings| {
            mapping.get(key).and_then(|node| node.number(1, 16, findings)).unwrap_or(default)
        };
        let boolean = |key: &str, default: bool, findings: &mut Findings| {
            mapping.get(key).and_then(|node| node.boolean(findings)).unwrap_or(default)
        };
        let service = Service {
            ttl: mapping.get("ttl").and_then(|node| node.number(0, i32::MAX as u32, findings)).unwrap_or(30),
            sites_per_answer: number("sites_per_answer", 1, findings),
            min_up: number("min_up", 1, findings),
            near: mapping.get("near").and_then(|node| read_near(node, findings)),
            ecs: boolean("ecs", true, findings),
            same_site: boolean("same_site", false, findings),
            checks: mapping.get("checks").map(|node| read_checks(node, findings)).unwrap_or_default(),
            rules: mapping.get("rules").map(|node| read_rules(node, &names, findings)).unwrap_or_default(),
            all_down: mapping
                .get("all_down")
                .and_then(|node| read_all_down(node, &self.origin, findings))
                .unwrap_or(AllDown::Preferred),
            name,
            sites,
            at: at.clone(),
        };
        self.check_types(&service, mapping.get("same_site").is_some());
        self.is_whole.then_some(service)
    }

    fn sites(&mut self, mapping: &Mapping<'_>, at: &At) -> Vec<Arc<Site>> {
        let mut chosen: Vec<Arc<Site>> = Vec::new();
        match mapping.get("sites") {
            None => {
                chosen = self.shared.sites.clone();
                self.is_whole = self.shared.broken.is_empty();
            }
            Some(node) => {
                for item in node.items() {
                    let Some(name) = item.text("a site's name", self.findings) else { continue };
                    match self.shared.sites.iter().find(|site| site.name == name) {
                        None if self.shared.is_broken(name) => self.is_whole = false,
                        None => self.findings.error(&item.at, unknown_site(name, &self.shared.sites)),
                        Some(site) if chosen.iter().any(|known| known.name == site.name) => {
                            self.findings.error(&item.at, format!("site \"{name}\" stands here twice"));
                        }
                        Some(site) => chosen.push(Arc::clone(site)),
                    }
                }
            }
        }
        if chosen.is_empty() && self.is_whole && !self.findings.has_errors() {
            self.findings.error(at, "a service needs at least one site");
        }
        if chosen.len() > usize::from(u16::MAX) {
            self.findings.error(at, "a service has at most 65,535 sites");
            chosen.clear();
        }
        chosen
    }

    /// Resolvers may take one client's negative answer for everybody's (RFC 7871 7.4), so types that some sites
    /// lack are worth a word; a CNAME beside addresses cannot be answered at all.
    fn check_types(&mut self, service: &Service, same_site_is_said: bool) {
        let has = |site: &Site, rtype| site.rrsets.iter().any(|rrset| rrset.rtype == rtype);
        let with_cname = service.sites.iter().filter(|site| has(site, Rtype::CNAME)).count();
        if with_cname > 0 && service.sites.iter().any(|site| !has(site, Rtype::CNAME)) {
            self.findings.error(
                &service.at,
                format!(
                    "service \"{}\" mixes sites that are a CNAME with sites that have addresses",
                    service.name
                ),
            );
            return;
        }
        if with_cname > 0 && service.sites_per_answer > 1 {
            self.findings.error(
                &service.at,
                format!(
                    "service \"{}\": a name has one CNAME (RFC 2181 10.1), so sites_per_answer is 1",
                    service.name
                ),
            );
        }
        if service.same_site && same_site_is_said {
            self.findings.warning(
                &service.at,
                "same_site: true answers NODATA where the nearest site lacks the type; resolvers may take that for everybody's answer (RFC 7871 7.4)",
            );
        }
        let mut types: Vec<Rtype> =
            service.sites.iter().flat_map(|site| site.rrsets.iter().map(|rrset| rrset.rtype)).collect();
        types.sort_unstable();
        types.dedup();
        if let AllDown::LastResort(rrsets) = &service.all_down {
            for rrset in rrsets.iter().filter(|rrset| !types.contains(&rrset.rtype)) {
                let text = format!(
                    "service \"{}\": no site has {} records, so its last resort never is asked for its own",
                    service.name, rrset.rtype
                );
                self.findings.warning(&service.at, text);
            }
        }
        for rtype in types {
            let lacking: Vec<&str> = service
                .sites
                .iter()
                .filter(|site| !has(site, rtype))
                .map(|site| site.name.as_str())
                .collect();
            if !lacking.is_empty() {
                let few = lacking.iter().take(5).copied().collect::<Vec<_>>().join(", ");
                let more = if lacking.len() > 5 { ", ..." } else { "" };
                let instead = if service.same_site {
                    "its clients get NODATA"
                } else {
                    "its clients are sent to other sites"
                };
                self.findings.warning(
                    &service.at,
                    format!("service \"{}\": {rtype} is missing at {few}{more}; {instead}", service.name),
                );
            }
        }
    }
}

/// What to say of a site that does not exist.
#[must_use]
pub fn unknown_site(name: &str, sites: &[Arc<Site>]) -> String {
    let hint = did_you_mean(name, sites.iter().map(|site| site.name.as_str()));
    format!("unknown site \"{name}\"{hint}")
}

fn read_near(node: &Node, findings: &mut Findings) -> Option<Near> {
    let text = node.text("a distance such as 200 km, or a part such as 10%", findings)?;
    let Some(percent) = text.strip_suffix('%') else { return read_km(node, findings).map(Near::Kilometres) };
    let fraction = percent.trim().parse::<f64>().ok().filter(|percent| (0.0..=1000.0).contains(percent));
    if fraction.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no part such as 10%"));
    }
    fraction.map(|percent| Near::Fraction(percent / 100.0))
}

fn read_all_down(node: &Node, origin: &Name, findings: &mut Findings) -> Option<AllDown> {
    const WORDS: [&str; 4] = ["preferred", "all", "nodata", "servfail"];
    if let Some(word) = node.scalar() {
        return match word {
            "preferred" => Some(AllDown::Preferred),
            "all" => Some(AllDown::All),
            "nodata" => Some(AllDown::NoData),
            "servfail" => Some(AllDown::ServFail),
            _ => {
                let hint = did_you_mean(word, WORDS);
                let text = format!(
                    "\"{word}\" is none of {} and {{ last_resort: {{ A: ... }} }}{hint}",
                    WORDS.join(", ")
                );
                findings.error(&node.at, text);
                None
            }
        };
    }
    let mapping = node.mapping("last_resort", findings)?;
    mapping.know_only(&["last_resort"], findings);
    let records = mapping.get("last_resort")?.mapping("records by type", findings)?;
    let mut rrsets = Vec::new();
    for (key, value) in records.entries {
        match key.scalar().unwrap_or_default().parse::<Rtype>() {
            Ok(rtype) => rrsets.extend(read_site_rrset(rtype, key, value, origin, findings)),
            Err(_) => findings.error(&key.at, "a record type such as A is expected here"),
        }
    }
    Some(AllDown::LastResort(rrsets))
}

fn read_checks(node: &Node, findings: &mut Findings) -> Vec<Check> {
    node.items().iter().filter_map(|item| read_check(item, findings)).collect()
}

fn read_check(node: &Node, findings: &mut Findings) -> Option<Check> {
    let mapping = node.mapping("a check such as { tcp: {}, port: 443 }", findings)?;
    mapping.know_only(&["tcp", "http", "https", "port", "every", "timeout", "fall", "rise"], findings);
    let kinds: Vec<&(Node, Node)> = mapping
        .entries
        .iter()
        .filter(|(key, _)| matches!(key.scalar(), Some("tcp" | "http" | "https")))
        .collect();
    let [(kind, value)] = kinds[..] else {
        findings.error(&node.at, "a check is one of tcp, http and https, as in { tcp: {}, port: 443 }");
        return None;
    };
    let (kind, default_port) = match kind.scalar() {
        Some("http") => (CheckKind::Http(read_http(value, &[], findings)?), Some(80)),
        Some("https") => {
            let http = read_http(value, &["sni", "verify", "ca"], findings)?;
            (CheckKind::Https(http, read_tls(value, findings)?), Some(443))
        }
        _ => {
            value.mapping("nothing, or { }", findings)?.know_only(&[], findings);
            (CheckKind::Tcp, None)
        }
    };
    let port = match mapping.get("port") {
        Some(port) => port.number(1, u16::MAX, findings)?,
        None => match default_port {
            Some(port) => port,
            None => {
                findings.error(&node.at, "a tcp check needs a port");
                return None;
            }
        },
    };
    let time = |key: &str, default: Duration, findings: &mut Findings| {
        mapping.get(key).map_or(Some(default), |node| node.duration(findings))
    };
    let every = time("every", Duration::from_secs(5), findings)?;
    let timeout = time("timeout", Duration::from_secs(2).min(every), findings)?;
    let count = |key: &str, findings: &mut Findings| {
        mapping.get(key).map_or(Some(2), |node| node.number(1, 100, findings))
    };
    let (fall, rise) = (count("fall", findings)?, count("rise", findings)?);
    let errors_before = findings.iter().count();
    let at = |key: &str| mapping.get(key).map_or(&node.at, |value| &value.at);
    if !(Duration::from_millis(50)..=Duration::from_secs(86_400)).contains(&every) {
        findings.error(at("every"), "every: 50ms to 24h");
    }
    // The server listens after one attempt at everything, and a reload waits for one at what is new.
    if timeout > Duration::from_secs(60) {
        findings.error(at("timeout"), "timeout: at most 60s");
    }
    if timeout > every {
        findings.error(at("timeout"), "timeout must not be longer than every");
    }
    (findings.iter().count() == errors_before).then_some(Check { kind, port, every, timeout, fall, rise })
}

fn read_http(node: &Node, more_keys: &[&str], findings: &mut Findings) -> Option<HttpCheck> {
    let mapping = node.mapping("a path, as in { path: /healthz }", findings)?;
    let keys: Vec<&str> = ["path", "host", "status", "body"].iter().chain(more_keys).copied().collect();
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
    Some(HttpCheck { path, host, status, body })
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
            let path = Path::new(node.text("a PEM file", findings)?);
            let folder = node.at.source.path.parent().unwrap_or(Path::new(""));
            let path = folder.join(path);
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
    Some(TlsCheck { sni, verify, ca })
}

const RULE_KEYS: [&str; 9] =
    ["subnet", "asn", "country", "continent", "subdivision", "else", "sites", "only", "deny"];

fn read_rules(node: &Node, sites: &Members<'_>, findings: &mut Findings) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut ended: Option<At> = None;
    for item in node.items() {
        if let Some(rule) = read_rule(item, sites, findings) {
            if let Some(end) = &ended {
                let text =
                    format!("this rule can never match: the one in line {} matches everybody", end.line);
                findings.error(&rule.at, text);
            }
            let matches_everybody = rule.subnets.is_empty()
                && rule.asns.is_empty()
                && rule.countries.is_empty()
                && rule.continents.is_empty()
                && rule.subdivisions.is_empty();
            if matches_everybody {
                ended = Some(rule.at.clone());
            }
            rules.push(rule);
        }
    }
    rules
}

fn read_rule(node: &Node, sites: &Members<'_>, findings: &mut Findings) -> Option<Rule> {
    let mapping = node.mapping("a rule such as { country: [NO], sites: [osl] }", findings)?;
    mapping.know_only(&RULE_KEYS, findings);
    let errors_before = findings.iter().count();
    let rule = Rule {
        subnets: read_list(&mapping, "subnet", read_subnet, findings),
        asns: read_list(&mapping, "asn", read_asn, findings),
        countries: read_list(&mapping, "country", read_country, findings),
        continents: read_list(&mapping, "continent", read_continent, findings),
        subdivisions: read_list(&mapping, "subdivision", read_subdivision, findings),
        action: read_action(&mapping, sites, findings)?,
        at: node.at.clone(),
    };
    let selects = ["subnet", "asn", "country", "continent", "subdivision"];
    let is_selective = selects.iter().any(|key| mapping.get(key).is_some());
    let is_else = mapping.get("else").map(|node| (node, node.boolean(findings)));
    match is_else {
        Some((node, _)) if is_selective => {
            findings.error(&node.at, "else: true stands without other conditions");
        }
        Some((node, Some(false))) => findings.error(&node.at, "else: can only be true"),
        None if !is_selective => {
            findings.error(
                &node.at,
                "a rule needs a condition: subnet, asn, country, continent, subdivision, or else: true",
            );
        }
        _ => {}
    }
    // A rule that lost a condition would match too many.
    (findings.iter().count() == errors_before).then_some(rule)
}

fn read_list<T>(
    mapping: &Mapping<'_>,
    key: &str,
    read: impl Fn(&Node, &mut Findings) -> Option<T>,
    findings: &mut Findings,
) -> Vec<T> {
    let Some(node) = mapping.get(key) else { return Vec::new() };
    if node.items().is_empty() {
        findings.error(&node.at, format!("{key}: an empty list matches nobody; leave the key out"));
    }
    node.items().iter().filter_map(|item| read(item, findings)).collect()
}

fn read_subnet(node: &Node, findings: &mut Findings) -> Option<IpNetwork> {
    let text = node.text("a subnet such as 203.0.113.0/24", findings)?;
    let Ok(network) = text.parse::<IpNetwork>() else {
        findings.error(&node.at, format!("\"{text}\" is no subnet such as 203.0.113.0/24 or 2001:db8::/32"));
        return None;
    };
    if let IpNetwork::V6(v6) = network
        && let Some((form, instead)) = within_embedded(v6)
    {
        let text = format!("\"{text}\" is {form}, whose clients are known by their IPv4 address{instead}");
        findings.error(&node.at, text);
        return None;
    }
    if network.ip() != network.network() {
        let text = format!(
            "\"{text}\" has bits beyond its length; {}/{} was meant?",
            network.network(),
            network.prefix()
        );
        findings.error(&node.at, text);
        return None;
    }
    Some(network)
}

/// What a subnet of addresses that embed IPv4 ones is (meaning 2), and what to write instead.
fn within_embedded(network: Ipv6Network) -> Option<(&'static str, String)> {
    let Embedded { address, offset } = embedded(network.network())?;
    let (form, length_of_form) = match network.network().segments() {
        [0x64, ..] => ("of NAT64", 96),
        [0x2002, ..] => ("of 6to4", 16),
        [0x2001, ..] => ("of Teredo", 32),
        [_, _, _, _, 0xffff, ..] => ("of SIIT", 96),
        _ => ("of IPv4-mapped addresses", 96),
    };
    // A shorter prefix covers more than the form.
    if network.prefix() < length_of_form {
        return None;
    }
    let given =
        network.prefix().checked_sub(offset).and_then(|length| Ipv4Network::new(address, length).ok());
    let instead =
        given.map_or_else(String::new, |given| format!("; write {}/{}", given.network(), given.prefix()));
    Some((form, instead))
}

fn read_asn(node: &Node, findings: &mut Findings) -> Option<u32> {
    let text = node.text("an AS number such as 64500", findings)?;
    let number = text.strip_prefix("AS").unwrap_or(text).parse().ok();
    if number.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no AS number such as 64500"));
    }
    number
}

fn read_country(node: &Node, findings: &mut Findings) -> Option<Country> {
    let text = node.text("a country such as NO", findings)?;
    let country = Country::from_code(text);
    if country.is_none() {
        findings.error(&node.at, format!("unknown country \"{text}\"{}", code_hint(text)));
    }
    country
}

fn read_continent(node: &Node, findings: &mut Findings) -> Option<Continent> {
    let text = node.text("a continent such as EU", findings)?;
    let continent = Continent::from_code(text);
    if continent.is_none() {
        let codes = Continent::CODES.join(", ");
        findings.error(&node.at, format!("unknown continent \"{text}\"; there are {codes}"));
    }
    continent
}

fn read_subdivision(node: &Node, findings: &mut Findings) -> Option<String> {
    node.text("a subdivision such as US-CA", findings).map(str::to_owned)
}

fn read_action(mapping: &Mapping<'_>, sites: &Members<'_>, findings: &mut Findings) -> Option<RuleAction> {
    let deny = mapping.get("deny").map(|node| node.boolean(findings)).unwrap_or(Some(false))?;
    let only = mapping.get("only").map(|node| node.boolean(findings)).unwrap_or(Some(false))?;
    match (mapping.get("sites"), deny) {
        (None, true) => Some(RuleAction::Deny),
        (Some(node), true) => {
            findings.error(&node.at, "deny: true gives no sites");
            None
        }
        (None, false) => {
            findings.error(mapping.at, "a rule needs sites: [...] or deny: true");
            None
        }
        (Some(node), false) => {
            let mut chosen = Vec::new();
            for item in node.items() {
                let Some(name) = item.text("a site's name", findings) else { continue };
                match sites.index.get(name) {
                    Some(site) if chosen.contains(site) => {
                        findings.error(&item.at, format!("site \"{name}\" stands here twice"));
                    }
                    Some(site) => chosen.push(*site),
                    None if sites.broken.iter().any(|broken| broken == name) => {}
                    None => {
                        let hint = did_you_mean(name, sites.index.keys().copied());
                        findings.error(&item.at, format!("the service has no site \"{name}\"{hint}"));
                    }
                }
            }
            if chosen.is_empty() {
                if node.items().is_empty() {
                    findings.error(&node.at, "sites: at least one is expected");
                }
                return None;
            }
            Some(RuleAction::Sites { sites: chosen, only })
        }
    }
}
