//! `dynamic:` -> a service: a pool is a site, and `fallback:` the order in which a rule has its sites.

use super::{Written, ZoneReader};
use crate::finding::At;
use crate::geo::{Continent, Country};
use crate::import::{Check, Conditions, Data, Rule, Service, Steered, leave_out};
use crate::wire::{Name, Rtype};
use crate::yaml::{Mapping, Node};

impl ZoneReader<'_> {
    /// Records of several types at one owner are one service here: their pools and rules must be alike.
    pub(super) fn read_dynamic(&mut self, owner: &Name, written: &[Written<'_>]) {
        let relative = owner.relative_to(&self.zone.apex);
        let relative = if relative == "@" { "apex".to_owned() } else { relative };
        let whole = owner.to_string().trim_end_matches('.').to_owned();
        let mut service = Service::new(self.imported.free_service_name(&[relative.clone(), whole.clone()]));
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

    pub(super) fn read_pools(&mut self, rtype: Rtype, dynamic: &Mapping<'_>) -> Vec<Pool> {
        let entries = dynamic.get("pools").and_then(|node| node.mapping("pools by name", self.findings));
        let mut pools = Vec::new();
        for (key, value) in entries.iter().flat_map(|mapping| mapping.entries) {
            let Some(mapping) = value.mapping("a pool", self.findings) else { continue };
            let fallback = mapping.get("fallback").and_then(Node::scalar).map(str::to_owned);
            let name = key.scalar().unwrap_or_default().to_owned();
            let mut pool = Pool { at: key.at.clone(), name, fallback, data: Vec::new() };
            let mut weights = Vec::new();
            for item in mapping.get("values").map_or(&[][..], Node::items) {
                let Some(value) = item.mapping("a value", self.findings) else { continue };
                match value.get("status").and_then(Node::scalar) {
                    Some("down") => {
                        leave_out(
                            self.findings,
                            &item.at,
                            "status: down: an address that is never answered; write it when it is up",
                        );
                        continue;
                    }
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

    pub(super) fn read_rules(&mut self, dynamic: &Mapping<'_>) -> Vec<WrittenRule> {
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

    pub(super) fn add_rules(
        &mut self,
        owner: &Name,
        pools: &[Pool],
        rules: &[WrittenRule],
        service: &mut Service,
    ) {
        let mut used: Vec<&str> = Vec::new();
        for rule in rules {
            let mut sites = Vec::new();
            let mut next = Some(&rule.pool);
            while let Some(pool) = next.and_then(|name| pools.iter().find(|pool| pool.name == *name)) {
                used.push(&pool.name);
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
            let mut kinds: Conditions = Vec::new();
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
        for pool in pools.iter().filter(|pool| !used.contains(&pool.name.as_str())) {
            leave_out(self.findings, &pool.at, format!("the pool \"{}\": no rule comes to it", pool.name));
        }
    }

    /// `octodns: { healthcheck: { protocol, host, path, port } }`.
    pub(super) fn read_checks(&mut self, node: &Node) -> Vec<Check> {
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

pub(super) struct Pool {
    at: At,
    name: String,
    fallback: Option<String>,
    data: Data,
}

#[derive(PartialEq)]
pub(super) struct WrittenRule {
    conditions: Vec<(&'static str, String)>,
    pool: String,
}

/// Whether two types' pools have the same names and fall back alike.
pub(super) fn are_alike(pools: &[Pool], others: &[Pool]) -> bool {
    pools.len() == others.len()
        && pools
            .iter()
            .zip(others)
            .all(|(pool, other)| pool.name == other.name && pool.fallback == other.fallback)
}

/// `AF`, `AF-ZA` or `NA-US-CA`; a subnet is none.
pub(super) fn condition_of(geo: &str) -> Option<(&'static str, String)> {
    let parts: Vec<&str> = geo.split('-').collect();
    let continent = Continent::from_code(parts.first()?)?;
    match parts[..] {
        [_] => Some(("continent", continent.to_string())),
        [_, country] => Some(("country", Country::from_code(country)?.to_string())),
        [_, country, region] => Some(("subdivision", format!("{}-{region}", Country::from_code(country)?))),
        _ => None,
    }
}
