//! `sites:` and `services:` as written -> [`Site`]s and [`Service`]s as meant.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{AllDown, BlastRadius, Guards, MinUp, Near, Service, Site, SiteRrset, Window};
use crate::finding::{At, Findings, did_you_mean};
use crate::geo::Coordinates;
use crate::wire::{Name, Rtype};
use crate::yaml::{Mapping, Node, unknown_key_or_type};
use crate::zone::yaml::read_rdata;

mod checks;
mod rules;

pub use checks::read_canaries;
use checks::{Profile, read_checks, read_need, read_profiles};
use rules::{Members, read_rules};

/// The sites and services that some zones may name, in the order written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    /// All sites.
    pub sites: Vec<Arc<Site>>,
    /// All services.
    pub services: Vec<Arc<Service>>,
    /// Times and counts that checks may name.
    profiles: Vec<Profile>,
    /// Sites and services that could not be read. Half a service is not served: a rule that is missing may be the one
    /// that keeps somebody out.
    broken: Vec<(String, At)>,
}

impl Shared {
    /// A service by its name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Where a site or a service of this name is written that could not be read.
    #[must_use]
    pub fn broken(&self, name: &str) -> Option<&At> {
        self.broken.iter().find(|(broken, _)| broken == name).map(|(_, at)| at)
    }

    /// Whether all sites and services that are written could be read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }

    /// Reads `sites:`, `profiles:` and `services:` of the shared files, one after the other.
    pub fn read(files: &[Mapping<'_>], findings: &mut Findings) -> Shared {
        let mut shared = Shared::default();
        for file in files {
            file.know_only(&["sites", "profiles", "services"], findings);
            read_profiles(file, &mut shared.profiles, findings);
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
        read_profiles(file, &mut own.profiles, findings);
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
                None => self.broken.push((name.to_owned(), key.at.clone())),
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
                None => self.broken.push((name, key.at.clone())),
            }
            findings.extend(own);
        }
    }
}

/// Besides record types.
const SITE_KEYS: [&str; 6] = ["location", "weight", "capacity", "handicap", "tags", "maintenance"];

fn read_site(name: &str, at: &At, node: &Node, origin: &Name, findings: &mut Findings) -> Option<Site> {
    let mapping = node.mapping("a site's location and records", findings)?;
    let mut site = Site {
        name: name.to_owned(),
        location: None,
        rrsets: Vec::new(),
        weight: 100,
        capacity: None,
        handicap_km: 0.0,
        tags: Vec::new(),
        maintenance: Vec::new(),
        at: at.clone(),
    };
    for (key, value) in mapping.entries {
        match key.scalar().unwrap_or_default() {
            "location" => site.location = read_location(value, findings),
            "weight" => site.weight = value.number(0, u16::MAX, findings).unwrap_or(site.weight),
            "capacity" => site.capacity = read_amount(value, findings),
            "maintenance" => {
                site.maintenance.extend(value.items().iter().filter_map(|item| read_window(item, findings)));
            }
            "handicap" => site.handicap_km = read_km(value, findings).unwrap_or(0.0),
            "tags" => {
                site.tags.extend(
                    value.items().iter().filter_map(|tag| tag.text("a tag", findings)).map(str::to_owned),
                );
            }
            rtype => match rtype.parse::<Rtype>() {
                Ok(rtype) => site.rrsets.extend(read_site_rrset(rtype, key, value, origin, findings)),
                Err(_) => findings.error(&key.at, unknown_key_or_type(rtype, value, &SITE_KEYS)),
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

/// Whether a site may have records of this type; others belong to a zone.
#[must_use]
pub fn belongs_to_a_site(rtype: Rtype) -> bool {
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
    !rtype.is_meta() && !NEVER.contains(&rtype)
}

/// The records of one type at a site, or of a last resort.
fn read_site_rrset(
    rtype: Rtype,
    key: &Node,
    value: &Node,
    origin: &Name,
    findings: &mut Findings,
) -> Option<SiteRrset> {
    if !belongs_to_a_site(rtype) {
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

/// `{ from: 2026-12-01T22:00:00Z, until: 2026-12-02T02:00:00Z, reason: move, over: 5m }`.
fn read_window(node: &Node, findings: &mut Findings) -> Option<Window> {
    const EXAMPLE: &str = "2026-12-01T22:00:00Z, or with +11:00 instead of Z";
    let mapping = node.mapping("a window with from and until", findings)?;
    mapping.know_only(&["from", "until", "over", "reason"], findings);
    let mut time = |key: &str| {
        let Some(value) = mapping.get(key) else {
            findings.error(&node.at, format!("{key}: is missing, a time such as {EXAMPLE}"));
            return None;
        };
        let text = value.text("a time", findings)?;
        let milliseconds = text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
        let since_1970 = milliseconds.and_then(|time| u64::try_from(time).ok()).map(Duration::from_millis);
        let time = since_1970.map(|since| SystemTime::UNIX_EPOCH + since);
        if time.is_none() {
            findings.error(&value.at, format!("\"{text}\" is no time such as {EXAMPLE}"));
        }
        time
    };
    let (from, until) = (time("from"), time("until"));
    let over =
        mapping.get("over").map_or(Some(Duration::ZERO), |node| read_time(node, MOST_TO_TAKE, findings));
    let reason = mapping.get("reason").map_or(Some(""), |node| node.text("a text", findings));
    let (from, until, over) = (from?, until?, over?);
    if from.checked_add(over).is_none_or(|drained| drained >= until) {
        findings.error(&node.at, "until: must be later than from, and than over lasts");
        return None;
    }
    Some(Window { from, until, over, reason: reason?.to_owned() })
}

fn read_location(node: &Node, findings: &mut Findings) -> Option<Coordinates> {
    let [latitude, longitude] = node.items() else {
        findings.error(&node.at, "a location is [latitude, longitude] in degrees, as in [51.47, -0.45]");
        return None;
    };
    let degrees = |node: &Node| node.scalar().and_then(|text| text.parse::<f64>().ok());
    if let (Some(first), Some(second)) = (degrees(latitude), degrees(longitude))
        && !(-90.0..=90.0).contains(&first)
        && (-90.0..=90.0).contains(&second)
    {
        let text = format!(
            "a latitude is from -90 to 90, and {first} is not; latitude comes first: was [{second}, {first}] meant?"
        );
        findings.error(&node.at, text);
        return None;
    }
    let latitude = latitude.decimal(-90.0, 90.0, findings);
    let longitude = longitude.decimal(-180.0, 180.0, findings);
    Some(Coordinates { latitude: latitude?, longitude: longitude? })
}

/// What there is room for, or what is asked for.
fn read_amount(node: &Node, findings: &mut Findings) -> Option<f64> {
    node.decimal(1e-6, 1e15, findings)
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

const SERVICE_KEYS: [&str; 15] = [
    "ttl",
    "sites",
    "checks",
    "need",
    "rules",
    "sites_per_answer",
    "near",
    "spill",
    "ecs",
    "all_down",
    "same_site",
    "min_up",
    "blast_radius",
    "panic",
    "slow_start",
];

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
            shared: self.shared,
        };
        let findings = &mut *self.findings;
        let written = mapping.get("checks").map_or(&[][..], Node::items);
        let checks = read_checks(written, &self.shared.profiles, findings);
        // Those of a profile that could not be read, too, which is told where that stands.
        self.is_whole &= checks.len() == written.len();
        let number = |key: &str, default: u8, findings: &mut Findings| {
            mapping.get(key).and_then(|node| node.number(1, 16, findings)).unwrap_or(default)
        };
        let boolean = |key: &str, default: bool, findings: &mut Findings| {
            mapping.get(key).and_then(|node| node.boolean(findings)).unwrap_or(default)
        };
        let (spill, demand) = mapping.get("spill").map_or((false, None), |node| read_spill(node, findings));
        let service = Service {
            spill,
            demand,
            ttl: mapping.get("ttl").and_then(|node| read_ttl(node, findings)).unwrap_or(30..=30),
            sites_per_answer: number("sites_per_answer", 1, findings),
            min_up: mapping
                .get("min_up")
                .and_then(|node| read_min_up(node, findings))
                .unwrap_or(MinUp::of_both(1)),
            guards: read_guards(&mapping, findings),
            slow_start: mapping
                .get("slow_start")
                .and_then(|node| read_time(node, MOST_TO_TAKE, findings))
                .unwrap_or_default(),
            near: mapping.get("near").and_then(|node| read_near(node, findings)),
            ecs: boolean("ecs", true, findings),
            same_site: boolean("same_site", false, findings),
            need: read_need(&mapping, findings),
            checks,
            rules: mapping.get("rules").map(|node| read_rules(node, &names, findings)).unwrap_or_default(),
            all_down: mapping
                .get("all_down")
                .and_then(|node| read_all_down(node, &self.origin, findings))
                .unwrap_or(AllDown::Preferred),
            name,
            sites,
            at: at.clone(),
        };
        self.check_spill(&service, &mapping);
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
                        None if self.shared.broken(name).is_some() => self.is_whole = false,
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
            let at = mapping.get("sites").map_or(at, |node| &node.at);
            let text = "a service needs at least one site; without the key sites: it has all that there are";
            self.findings.error(at, text);
        }
        if chosen.len() > usize::from(u16::MAX) {
            self.findings.error(at, "a service has at most 65,535 sites");
            chosen.clear();
        }
        chosen
    }

    /// Clients go by weight or by room, not by both; and where all sites have the same room, or some have none told, somebody
    /// should know.
    fn check_spill(&mut self, service: &Service, mapping: &Mapping<'_>) {
        let Some(spill) = mapping.get("spill").filter(|_| service.spill) else {
            if service.checks.iter().any(|check| check.load().is_some()) {
                let text = format!(
                    "service \"{}\" is told loads and does nothing with them, without spill: true",
                    service.name
                );
                self.findings.warning(&service.at, text);
            }
            return;
        };
        if let Some(near) = mapping.get("near") {
            let text = "near shares by weight and spill by capacity: a service has one of them";
            self.findings.error(&near.at, text);
        }
        let without: Vec<&str> = service
            .sites
            .iter()
            .filter(|site| site.capacity.is_none())
            .map(|site| site.name.as_str())
            .collect();
        if without.len() == service.sites.len() && service.demand.is_none() {
            let text = format!("service \"{}\": no site has a capacity, so all count alike", service.name);
            self.findings.warning(&spill.at, text);
        } else if !without.is_empty() {
            let few = without.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = if without.len() > 5 { ", ..." } else { "" };
            self.findings
                .error(&spill.at, format!("spill: {few}{more} has no capacity, as in {{ capacity: 100 }}"));
        }
        let Some(demand) = service.demand else { return };
        let in_all: f64 = service.sites.iter().filter_map(|site| site.capacity).sum();
        let least = |site: &&Arc<Site>| in_all - site.capacity.unwrap_or_default() < demand * (1.0 - 1e-9);
        let missed: Vec<&str> = service.sites.iter().filter(least).map(|site| site.name.as_str()).collect();
        if !missed.is_empty() {
            let few = missed.iter().take(5).copied().collect::<Vec<_>>().join(", or ");
            let more = if missed.len() > 5 { ", or others" } else { "" };
            let text = format!(
                "service \"{}\": without {few}{more} there is not room for a demand of {demand}",
                service.name
            );
            self.findings.warning(&spill.at, text);
        }
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

/// `true`, or `{ demand: 900 }`: what all clients together ask for.
fn read_spill(node: &Node, findings: &mut Findings) -> (bool, Option<f64>) {
    if node.scalar().is_some() {
        return (node.boolean(findings).unwrap_or_default(), None);
    }
    let Some(mapping) = node.mapping("true, or { demand: 900 },", findings) else { return (false, None) };
    mapping.know_only(&["demand"], findings);
    (true, mapping.get("demand").and_then(|node| read_amount(node, findings)))
}

/// `30`, or `30..300`.
fn read_ttl(node: &Node, findings: &mut Findings) -> Option<RangeInclusive<u32>> {
    const MOST: u32 = i32::MAX as u32;
    let text = node.text("seconds such as 30, or 30..300", findings)?;
    let Some((least, most)) = text.split_once("..") else {
        let ttl = text.parse().ok().filter(|ttl| *ttl <= MOST);
        if ttl.is_none() {
            findings.error(
                &node.at,
                format!("\"{text}\" is no number of seconds such as 30, nor a range such as 30..300"),
            );
        }
        return ttl.map(|ttl| ttl..=ttl);
    };
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number <= MOST);
    match (number(least), number(most)) {
        (Some(least), Some(most)) if least <= most => Some(least..=most),
        _ => {
            findings.error(&node.at, format!("\"{text}\" is no range of seconds such as 30..300"));
            None
        }
    }
}

/// `2`, or `{ A: 2, AAAA: 1 }`.
fn read_min_up(node: &Node, findings: &mut Findings) -> Option<MinUp> {
    const MOST: u8 = 16;
    if node.scalar().is_some() && !node.is_null() {
        return node.number(1, MOST, findings).map(MinUp::of_both);
    }
    let mapping = node.mapping("a number, or { A: 2, AAAA: 1 },", findings)?;
    mapping.know_only(&["A", "AAAA"], findings);
    let mut of_type = |key: &str| mapping.get(key).map_or(Some(1), |node| node.number(1, MOST, findings));
    let (v4, v6) = (of_type("A"), of_type("AAAA"));
    Some(MinUp { v4: v4?, v6: v6? })
}

/// A drain or a slow start of more than a day is no drain.
const MOST_TO_TAKE: Duration = Duration::from_secs(86_400);

fn read_time(node: &Node, most: Duration, findings: &mut Findings) -> Option<Duration> {
    let time = node.duration(findings)?;
    if time > most {
        findings.error(&node.at, format!("at most {} hours", most.as_secs() / 3600));
        return None;
    }
    Some(time)
}

/// `blast_radius: off`, `blast_radius: 50%` or `{ sites: 50%, within: 10m }`; `panic: 50%`.
fn read_guards(mapping: &Mapping<'_>, findings: &mut Findings) -> Guards {
    let panic = mapping.get("panic").and_then(|node| read_part(node, findings));
    let mut guards = Guards { panic, ..Guards::default() };
    let Some(node) = mapping.get("blast_radius") else { return guards };
    let mut blast_radius = guards.blast_radius.unwrap_or(BlastRadius { most: 1.0, within: Duration::ZERO });
    if node.scalar() == Some("off") {
        guards.blast_radius = None;
        return guards;
    }
    if node.scalar().is_some() {
        blast_radius.most = read_part(node, findings).unwrap_or(blast_radius.most);
    } else if let Some(mapping) = node.mapping("off, 50%, or { sites: 50%, within: 10m },", findings) {
        mapping.know_only(&["sites", "within"], findings);
        let part = mapping.get("sites").and_then(|node| read_part(node, findings));
        blast_radius.most = part.unwrap_or(blast_radius.most);
        let within = mapping.get("within").and_then(|node| read_time(node, MOST_TO_TAKE, findings));
        blast_radius.within = within.unwrap_or(blast_radius.within);
    }
    guards.blast_radius = Some(blast_radius);
    guards
}

/// `50%` is 0.5.
fn read_part(node: &Node, findings: &mut Findings) -> Option<f64> {
    let text = node.text("a part such as 50%", findings)?;
    let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
    let part = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0).map(|percent| percent / 100.0);
    if part.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no part such as 50%"));
    }
    part
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
