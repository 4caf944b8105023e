//! Zones of octoDNS: YAML, a record or a list of them for each name, with `dynamic:` pools and rules.
//!
//! A pool is a site, and `fallback:` the order in which a rule has its sites.

use super::{Check, Data, Imported, Rule, Service, Steered, Zone, leave_out};
use crate::finding::Findings;
use crate::geo::{Continent, Country};
use crate::wire::rdata::{self, parse_period};
use crate::wire::{Name, Rtype};
use crate::yaml::{Content, Mapping, Node};

/// Seconds, where a record says nothing.
const DEFAULT_TTL: u32 = 3600;

/// Reads a zone.
pub fn read(root: &Node, apex: &Name, imported: &mut Imported, findings: &mut Findings) {
    let Some(mapping) = root.mapping("records by name", findings) else { return };
    let mut reader = ZoneReader { zone: Zone::new(apex.clone()), imported, findings };
    for (key, value) in mapping.entries {
        let name = key.scalar().unwrap_or_default();
        let owner = Name::parse(if name.is_empty() { "@" } else { name }, Some(apex));
        match owner {
            Ok(owner) => reader.read_owner(&owner, value),
            Err(error) => leave_out(reader.findings, &key.at, format!("\"{name}\" is {error}")),
        }
    }
    let ZoneReader { mut zone, imported, findings } = reader;
    add_soa(&mut zone, root, findings);
    imported.zones.push(zone);
}

/// octoDNS leaves the SOA to whoever serves the zone; so it is made here, as `soa:` would be without more than `primary:`.
fn add_soa(zone: &mut Zone, root: &Node, findings: &mut Findings) {
    let apex = zone.apex.clone();
    let server = zone.records.iter().find(|record| record.rtype == Rtype::NS && record.owner_name() == apex);
    let server = server.map(|record| rdata::print(Rtype::NS, record.rdata));
    let Some(server) = server else {
        leave_out(
            findings,
            &root.at,
            "the zone's name servers: no NS records at '' say which they are, so write some, and soa:",
        );
        return;
    };
    let text = format!("{server} hostmaster 0 3600 600 1209600 300");
    zone.add(&apex, Rtype::SOA, DEFAULT_TTL, &text, &apex, &root.at, findings);
}

struct ZoneReader<'a> {
    zone: Zone,
    imported: &'a mut Imported,
    findings: &'a mut Findings,
}

/// A record's keys, and what it is.
struct Written<'n> {
    keys: Mapping<'n>,
    rtype: Rtype,
    ttl: u32,
}

impl ZoneReader<'_> {
    fn read_owner(&mut self, owner: &Name, node: &Node) {
        let mut dynamic: Vec<Written<'_>> = Vec::new();
        for item in node.items() {
            let Some(written) = self.read_keys(item) else { continue };
            if written.keys.get("dynamic").is_some() {
                dynamic.push(written);
            } else {
                self.read_static(owner, &written);
            }
        }
        if !dynamic.is_empty() {
            self.read_dynamic(owner, &dynamic);
        }
    }

    fn read_keys<'n>(&mut self, node: &'n Node) -> Option<Written<'n>> {
        let keys = node.mapping("a record with type and value", self.findings)?;
        let Some(kind) = keys.get("type") else {
            leave_out(self.findings, &node.at, "a record without type:");
            return None;
        };
        let word = kind.scalar().unwrap_or_default();
        let Ok(rtype) = word.parse::<Rtype>() else {
            let why = match word {
                "ALIAS" => {
                    "ALIAS: at an apex a service with the addresses themselves does what it does".to_owned()
                }
                _ => format!("{word} is no record type: it is an order to one provider"),
            };
            leave_out(self.findings, &kind.at, why);
            return None;
        };
        let ttl = match keys.get("ttl") {
            Some(node) => node.scalar().and_then(parse_period).or_else(|| {
                leave_out(self.findings, &node.at, "this is no TTL");
                None
            }),
            None => None,
        };
        for (key, _) in keys.entries {
            match key.scalar().unwrap_or_default() {
                "type" | "ttl" | "value" | "values" | "dynamic" | "octodns" => {}
                "geo" => leave_out(self.findings, &key.at, "geo: octoDNS itself has dynamic: in its place"),
                other => leave_out(self.findings, &key.at, format!("{other}: nothing here is like it")),
            }
        }
        Some(Written { keys, rtype, ttl: ttl.unwrap_or(DEFAULT_TTL) })
    }

    fn read_static(&mut self, owner: &Name, written: &Written<'_>) {
        if let Some(node) = written.keys.get("octodns") {
            self.leave_out_orders(node, &[]);
        }
        for (octets, node) in self.read_values(written) {
            self.zone.push(owner, written.rtype, written.ttl, &octets, &node.at, self.findings);
        }
    }

    /// What is said to octoDNS about the record.
    fn leave_out_orders(&mut self, node: &Node, known: &[&str]) {
        let Some(mapping) = node.mapping("orders", self.findings) else { return };
        for (key, _) in mapping.entries {
            let text = key.scalar().unwrap_or_default();
            if !known.contains(&text) {
                leave_out(self.findings, &key.at, format!("octodns: {text}: an order to octoDNS"));
            }
        }
    }

    fn read_values<'n>(&mut self, written: &Written<'n>) -> Vec<(Vec<u8>, &'n Node)> {
        let nodes = match (written.keys.get("value"), written.keys.get("values")) {
            (Some(node), _) | (None, Some(node)) => node.items(),
            (None, None) => {
                leave_out(self.findings, written.keys.at, "a record without value:");
                &[]
            }
        };
        nodes.iter().filter_map(|node| Some((self.read_value(written.rtype, node)?, node))).collect()
    }

    fn read_value(&mut self, rtype: Rtype, node: &Node) -> Option<Vec<u8>> {
        let text = match &node.content {
            Content::Scalar { text, .. } if matches!(rtype, Rtype::TXT | Rtype::SPF) => {
                return Some(rdata::text_to_strings(&text.replace("\\;", ";")));
            }
            Content::Scalar { text, .. } => text.clone(),
            Content::Mapping(entries) => self.presentation(rtype, &Mapping { at: &node.at, entries })?,
            Content::Sequence(_) => {
                leave_out(self.findings, &node.at, "a list within a list of values");
                return None;
            }
        };
        // Names without a final dot are relative, as in a zone's file.
        match rdata::parse(rtype, &text, &self.zone.apex) {
            Ok(octets) => Some(octets),
            Err(error) => {
                leave_out(self.findings, &node.at, format!("{rtype}: {}", error.text));
                None
            }
        }
    }

    /// The fields of a value in the order in which presentation format has them.
    fn presentation(&mut self, rtype: Rtype, value: &Mapping<'_>) -> Option<String> {
        let fields = fields_of(rtype);
        if fields.is_empty() {
            leave_out(self.findings, value.at, format!("{rtype} records with fields of their own"));
            return None;
        }
        let mut words = Vec::new();
        for names in fields {
            let node = names.split('|').find_map(|name| value.get(name));
            let Some(text) = node.and_then(Node::scalar) else {
                leave_out(
                    self.findings,
                    value.at,
                    format!("{rtype}: {} is missing", names.replace('|', " or ")),
                );
                return None;
            };
            let is_quoted = matches!(*names, "flags" | "service" | "regexp" if rtype == Rtype::NAPTR)
                || (*names == "value" && rtype == Rtype::CAA)
                || (rtype == Rtype::URI && *names == "target");
            words.push(if is_quoted {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            } else {
                text.to_owned()
            });
        }
        if let Some(parameters) =
            value.get("svcparams").filter(|_| matches!(rtype, Rtype::SVCB | Rtype::HTTPS))
        {
            let entries = parameters.mapping("parameters by name", self.findings)?.entries;
            for (key, value) in entries {
                let texts: Vec<&str> = value.items().iter().filter_map(Node::scalar).collect();
                let key = key.scalar().unwrap_or_default();
                words.push(if texts.concat().is_empty() {
                    key.to_owned()
                } else {
                    format!("{key}=\"{}\"", texts.join(","))
                });
            }
        }
        Some(words.join(" "))
    }

    /// Records of several types at one owner are one service here: their pools and rules must be alike.
    fn read_dynamic(&mut self, owner: &Name, written: &[Written<'_>]) {
        let relative = owner.relative_to(&self.zone.apex);
        let relative = if relative == "@" { "apex".to_owned() } else { relative };
        let whole = owner.to_string().trim_end_matches('.').to_owned();
        let mut service = Service::new(self.imported.free_service_name([relative.clone(), whole.clone()]));
        service.ttl = written.iter().map(|written| written.ttl).min();
        let mut pools: Vec<Pool> = Vec::new();
        let mut rules: Option<Vec<WrittenRule>> = None;
        for written in written {
            let Some(dynamic) =
                written.keys.get("dynamic").and_then(|node| node.mapping("pools and rules", self.findings))
            else {
                continue;
            };
            let own_pools = self.read_pools(written.rtype, &dynamic);
            let own_rules = self.read_rules(&dynamic);
            match &rules {
                Some(rules) if *rules != own_rules || !are_alike(&pools, &own_pools) => {
                    let why = format!(
                        "the {} records of {owner}: their pools or rules differ from those of the other type",
                        written.rtype
                    );
                    leave_out(self.findings, dynamic.at, why);
                    continue;
                }
                _ => rules = Some(own_rules),
            }
            for own in own_pools {
                match pools.iter_mut().find(|pool| pool.name == own.name) {
                    Some(pool) => pool.data.extend(own.data),
                    None => pools.push(own),
                }
            }
            let values = self.read_values(written);
            service.last_resort.extend(values.into_iter().map(|(octets, _)| (written.rtype, octets)));
            if service.checks.is_empty() {
                service.checks =
                    written.keys.get("octodns").map(|node| self.read_checks(node)).unwrap_or_default();
            }
        }
        self.add_rules(owner, &pools, &rules.unwrap_or_default(), &mut service);
        if !service.is_for_everybody() && !service.last_resort.is_empty() {
            let site = self.imported.site([relative, whole], None, service.last_resort.clone());
            service.add_rule(Rule { conditions: Vec::new(), sites: vec![site] });
        }
        if service.sites.is_empty() {
            return;
        }
        self.zone.steered.push(Steered { owner: owner.clone(), service: service.name.clone(), ttl: None });
        self.imported.services.push(service);
    }

    fn read_pools(&mut self, rtype: Rtype, dynamic: &Mapping<'_>) -> Vec<Pool> {
        let entries = dynamic.get("pools").and_then(|node| node.mapping("pools by name", self.findings));
        let mut pools = Vec::new();
        for (key, value) in entries.iter().flat_map(|mapping| mapping.entries) {
            let Some(mapping) = value.mapping("a pool", self.findings) else { continue };
            let fallback = mapping.get("fallback").and_then(Node::scalar).map(str::to_owned);
            let mut pool =
                Pool { name: key.scalar().unwrap_or_default().to_owned(), fallback, data: Vec::new() };
            let mut weights = Vec::new();
            for item in mapping.get("values").map_or(&[][..], Node::items) {
                let Some(value) = item.mapping("a value", self.findings) else { continue };
                match value.get("status").and_then(Node::scalar) {
                    Some("down") => continue,
                    Some("up") => {
                        leave_out(
                            self.findings,
                            &item.at,
                            "status: up: a check decides for all addresses of a service",
                        );
                    }
                    _ => {}
                }
                weights.push(value.get("weight").and_then(Node::scalar).unwrap_or("1").to_owned());
                let octets = value.get("value").and_then(|node| self.read_value(rtype, node));
                pool.data.extend(octets.map(|octets| (rtype, octets)));
            }
            if weights.iter().any(|weight| *weight != weights[0]) {
                let why =
                    format!("the weights of pool \"{}\": all of its values are answered together", pool.name);
                leave_out(self.findings, &value.at, why);
            }
            pools.push(pool);
        }
        pools
    }

    fn read_rules(&mut self, dynamic: &Mapping<'_>) -> Vec<WrittenRule> {
        let mut rules = Vec::new();
        for item in dynamic.get("rules").map_or(&[][..], Node::items) {
            let Some(mapping) = item.mapping("a rule", self.findings) else { continue };
            let Some(pool) = mapping.get("pool").and_then(Node::scalar) else {
                leave_out(self.findings, &item.at, "a rule without pool:");
                continue;
            };
            let mut conditions = Vec::new();
            let mut is_lost = false;
            for node in mapping.get("subnets").map_or(&[][..], Node::items) {
                conditions.push(("subnet", node.scalar().unwrap_or_default().to_owned()));
            }
            for node in mapping.get("geos").map_or(&[][..], Node::items) {
                match condition_of(node.scalar().unwrap_or_default()) {
                    Some(condition) => conditions.push(condition),
                    None => {
                        is_lost = true;
                        let text = node.scalar().unwrap_or_default();
                        leave_out(
                            self.findings,
                            &node.at,
                            format!("\"{text}\" is no continent, country or subdivision here"),
                        );
                    }
                }
            }
            for (key, _) in mapping.entries {
                let text = key.scalar().unwrap_or_default();
                if !["pool", "geos", "subnets"].contains(&text) {
                    leave_out(
                        self.findings,
                        &key.at,
                        format!("{text}: no condition of rules here is like it"),
                    );
                }
            }
            // A rule that lost all of its conditions would take everybody.
            if !(is_lost && conditions.is_empty()) {
                rules.push(WrittenRule { conditions, pool: pool.to_owned() });
            }
        }
        rules
    }

    fn add_rules(&mut self, owner: &Name, pools: &[Pool], rules: &[WrittenRule], service: &mut Service) {
        for rule in rules {
            let mut sites = Vec::new();
            let mut next = Some(&rule.pool);
            while let Some(pool) = next.and_then(|name| pools.iter().find(|pool| pool.name == *name)) {
                let names =
                    [pool.name.clone(), format!("{}-{}", pool.name, owner.to_string().trim_end_matches('.'))];
                if !pool.data.is_empty() {
                    let site = self.imported.site(names, None, pool.data.clone());
                    if sites.contains(&site) {
                        break;
                    }
                    sites.push(site);
                }
                next = pool.fallback.as_ref();
            }
            // Conditions of one rule are ANDed here; those of octoDNS are alternatives.
            let mut kinds: Vec<(&'static str, Vec<String>)> = Vec::new();
            for (key, value) in &rule.conditions {
                match kinds.iter_mut().find(|(known, _)| known == key) {
                    Some((_, values)) => values.push(value.clone()),
                    None => kinds.push((key, vec![value.clone()])),
                }
            }
            if kinds.is_empty() {
                service.add_rule(Rule { conditions: Vec::new(), sites });
            } else {
                kinds.into_iter().for_each(|kind| {
                    service.add_rule(Rule { conditions: vec![kind], sites: sites.clone() });
                });
            }
        }
    }

    /// `octodns: { healthcheck: { protocol, host, path, port } }`.
    fn read_checks(&mut self, node: &Node) -> Vec<Check> {
        self.leave_out_orders(node, &["healthcheck"]);
        let orders = node.mapping("orders", self.findings);
        let Some(node) = orders.and_then(|mapping| mapping.get("healthcheck")) else { return Vec::new() };
        let Some(mapping) = node.mapping("a health check", self.findings) else { return Vec::new() };
        let text = |key: &str| mapping.get(key).and_then(Node::scalar).map(str::to_owned);
        let protocol = text("protocol").unwrap_or_else(|| "HTTPS".to_owned());
        let mut check = match protocol.as_str() {
            "HTTP" => Check { kind: "http", ..Check::default() },
            "HTTPS" => Check { kind: "https", ..Check::default() },
            "TCP" => Check { kind: "tcp", ..Check::default() },
            "ICMP" => Check { kind: "icmp", ..Check::default() },
            _ => {
                leave_out(self.findings, &node.at, format!("a health check by {protocol}"));
                return Vec::new();
            }
        };
        let is_http = check.kind.starts_with("http");
        if is_http {
            check.keys.push(("path", vec![text("path").unwrap_or_else(|| "/_dns".to_owned())]));
            check.keys.extend(text("host").map(|host| ("host", vec![host])));
        }
        if check.kind != "icmp" {
            check.times.push(("port", text("port").unwrap_or_else(|| "443".to_owned())));
        }
        for (key, _) in mapping.entries {
            let text = key.scalar().unwrap_or_default();
            let known: &[&str] =
                if is_http { &["protocol", "port", "path", "host"] } else { &["protocol", "port"] };
            if !known.contains(&text) {
                leave_out(self.findings, &key.at, format!("healthcheck: {text}"));
            }
        }
        vec![check]
    }
}

struct Pool {
    name: String,
    fallback: Option<String>,
    data: Data,
}

#[derive(PartialEq)]
struct WrittenRule {
    conditions: Vec<(&'static str, String)>,
    pool: String,
}

/// Whether two types' pools have the same names and fall back alike.
fn are_alike(pools: &[Pool], others: &[Pool]) -> bool {
    pools.len() == others.len()
        && pools
            .iter()
            .zip(others)
            .all(|(pool, other)| pool.name == other.name && pool.fallback == other.fallback)
}

/// `AF`, `AF-ZA` or `NA-US-CA`; a subnet is none.
fn condition_of(geo: &str) -> Option<(&'static str, String)> {
    let parts: Vec<&str> = geo.split('-').collect();
    let continent = Continent::from_code(parts.first()?)?;
    match parts[..] {
        [_] => Some(("continent", continent.to_string())),
        [_, country] => Some(("country", Country::from_code(country)?.to_string())),
        [_, country, region] => Some(("subdivision", format!("{}-{region}", Country::from_code(country)?))),
        _ => None,
    }
}

/// What octoDNS calls the fields of a type; other names that it had are behind a bar.
fn fields_of(rtype: Rtype) -> &'static [&'static str] {
    match rtype {
        Rtype::MX => &["preference|priority", "exchange|value"],
        Rtype::SRV => &["priority", "weight", "port", "target"],
        Rtype::CAA => &["flags", "tag", "value"],
        Rtype::SSHFP => &["algorithm", "fingerprint_type", "fingerprint"],
        Rtype::NAPTR => &["order", "preference", "flags", "service", "regexp", "replacement"],
        Rtype::TLSA => &["certificate_usage", "selector", "matching_type", "certificate_association_data"],
        Rtype::DS => &["key_tag", "algorithm", "digest_type", "digest"],
        Rtype::URI => &["priority", "weight", "target"],
        Rtype::SVCB | Rtype::HTTPS => &["svcpriority", "targetname"],
        Rtype::LOC => &[
            "lat_degrees",
            "lat_minutes",
            "lat_seconds",
            "lat_direction",
            "long_degrees",
            "long_minutes",
            "long_seconds",
            "long_direction",
            "altitude",
            "size",
            "precision_horz",
            "precision_vert",
        ],
        _ => &[],
    }
}
