//! The YAML of PowerDNS' geoip backend.
//!
//! A service there makes a name of where the client is (`%cc.www.example.com`), and the records of that name are the
//! answer. Here each such name is a site, and what stands in its places the conditions of a rule.

use std::collections::HashMap;

use ipnetwork::IpNetwork;

use super::template::Template;
use super::{Conditions, Data, Imported, Rule, Service, Steered, Zone, alpha3, leave_out};
use crate::finding::{At, Findings};
use crate::geo::{Continent, Country};
use crate::wire::rdata::parse_period;
use crate::wire::{Name, Rtype};
use crate::yaml::{Content, Mapping, Node};
use crate::zone::yaml::read_rdata;

/// Seconds, where a domain says nothing.
const DEFAULT_TTL: u32 = 3600;

/// Reads all domains.
pub fn read(root: &Node, imported: &mut Imported, findings: &mut Findings) {
    let Some(mapping) = root.mapping("domains", findings) else { return };
    leave_out_others(&mapping, &["domains"], findings);
    let Some(domains) = mapping.get("domains") else {
        leave_out(findings, mapping.at, "there are no domains:");
        return;
    };
    for domain in domains.items() {
        let Some(mapping) = domain.mapping("a domain", findings) else { continue };
        DomainReader::read(&mapping, imported, findings);
    }
}

/// Keys that nothing here is like.
fn leave_out_others(mapping: &Mapping<'_>, known: &[&str], findings: &mut Findings) {
    for (key, _) in mapping.entries {
        let Some(text) = key.scalar().filter(|text| !known.contains(text)) else { continue };
        let why = match text {
            "mapping_lookup_formats" | "custom_mapping" => {
                format!("{text}: write rules with these places as their conditions instead")
            }
            _ => format!("{text}: nothing here is like it"),
        };
        leave_out(findings, &key.at, why);
    }
}

struct DomainReader<'a> {
    zone: Zone,
    ttl: u32,
    /// What each name has, in lower case and without the final dot; all but NS and SOA.
    data: HashMap<String, (u32, Data)>,
    /// The names of `data`, in the order written.
    names: Vec<String>,
    imported: &'a mut Imported,
    findings: &'a mut Findings,
}

impl DomainReader<'_> {
    fn read(mapping: &Mapping<'_>, imported: &mut Imported, findings: &mut Findings) {
        leave_out_others(mapping, &["domain", "ttl", "records", "services"], findings);
        let name = mapping.get("domain").and_then(|node| node.text("a domain's name", findings));
        let apex = match name.map(|name| Name::parse(name, Some(&Name::root()))) {
            Some(Ok(apex)) => apex,
            _ => {
                leave_out(findings, mapping.at, "a domain without a name: domain: is missing, or no name");
                return;
            }
        };
        let ttl = mapping.get("ttl").and_then(|node| read_ttl(node, findings)).unwrap_or(DEFAULT_TTL);
        let zone = Zone::new(apex);
        let mut reader =
            DomainReader { zone, ttl, data: HashMap::new(), names: Vec::new(), imported, findings };
        if let Some(records) =
            mapping.get("records").and_then(|node| node.mapping("records by name", reader.findings))
        {
            records.entries.iter().for_each(|(key, value)| reader.read_records(key, value));
        }
        if let Some(services) =
            mapping.get("services").and_then(|node| node.mapping("services by name", reader.findings))
        {
            services.entries.iter().for_each(|(key, value)| reader.read_service(key, value));
        }
        let zone = reader.zone;
        imported.zones.push(zone);
    }

    /// The owner, if it lies in the zone.
    fn owner(&mut self, key: &Node) -> Option<Name> {
        let text = key.text("a name", self.findings)?;
        match Name::parse(text, Some(&Name::root())) {
            Ok(name) if name.is_at_or_below(&self.zone.apex) => Some(name),
            Ok(name) => {
                leave_out(self.findings, &key.at, format!("{name} is not in {}", self.zone.apex));
                None
            }
            Err(error) => {
                leave_out(self.findings, &key.at, format!("\"{text}\" is {error}"));
                None
            }
        }
    }

    fn read_records(&mut self, key: &Node, node: &Node) {
        let Some(owner) = self.owner(key) else { return };
        let name = owner.to_lowercase().to_string().trim_end_matches('.').to_owned();
        for item in node.items() {
            let Some(mapping) = item.mapping("a record by its type", self.findings) else { continue };
            for (key, value) in mapping.entries {
                let word = key.scalar().unwrap_or_default();
                let Ok(rtype) = word.parse::<Rtype>() else {
                    leave_out(self.findings, &key.at, format!("\"{word}\" is no record type here"));
                    continue;
                };
                let (content, ttl) = self.read_content(value);
                let Some(content) = content else { continue };
                let text = content.scalar().unwrap_or_default();
                if Template::parse(text).is_ok_and(|template| template.places().next().is_some()) {
                    leave_out(
                        self.findings,
                        &content.at,
                        "data with places to fill in: records are the same for everybody",
                    );
                    continue;
                }
                if let Some(octets) = read_rdata(rtype, content, &Name::root(), self.findings) {
                    self.zone.push(&owner, rtype, ttl, &octets, &content.at, self.findings);
                    if !self.data.contains_key(&name) {
                        self.names.push(name.clone());
                    }
                    let (shortest, data) = self.data.entry(name.clone()).or_insert((ttl, Vec::new()));
                    *shortest = ttl.min(*shortest);
                    data.push((rtype, octets));
                }
            }
        }
    }

    /// A scalar, or `{ content, ttl, weight }`.
    fn read_content<'n>(&mut self, node: &'n Node) -> (Option<&'n Node>, u32) {
        let Content::Mapping(entries) = &node.content else { return (Some(node), self.ttl) };
        let mapping = Mapping { at: &node.at, entries };
        for (key, _) in entries {
            match key.scalar().unwrap_or_default() {
                "content" | "ttl" => {}
                "weight" => {
                    let why = "weight: all records of a name are answered together; sites that share clients have weights";
                    leave_out(self.findings, &key.at, why);
                }
                other => leave_out(self.findings, &key.at, format!("{other}: nothing here is like it")),
            }
        }
        let content = mapping.get("content");
        if content.is_none() {
            leave_out(self.findings, &node.at, "a record without content:");
        }
        let ttl = mapping.get("ttl").and_then(|node| read_ttl(node, self.findings));
        (content, ttl.unwrap_or(self.ttl))
    }

    fn read_service(&mut self, key: &Node, node: &Node) {
        let Some(owner) = self.owner(key) else { return };
        if self.zone.records.iter().any(|record| record.owner == owner.wire()) {
            leave_out(
                self.findings,
                &key.at,
                format!("the service of {owner}: the name has records too, which are"),
            );
            return;
        }
        let relative = owner.relative_to(&self.zone.apex);
        let whole = owner.to_string().trim_end_matches('.').to_owned();
        let mut service = Service::new(self.imported.free_service_name(&[relative, whole]));
        let mut ttl = None;
        match &node.content {
            Content::Mapping(entries) => {
                let mut nets: Vec<(IpNetwork, &Node)> = Vec::new();
                for (key, templates) in entries {
                    match key.scalar().map(str::parse::<IpNetwork>) {
                        Some(Ok(net)) => nets.push((net, templates)),
                        _ if key.scalar() == Some("default") => {}
                        _ => leave_out(self.findings, &key.at, "neither a network nor default:"),
                    }
                }
                nets.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix()));
                for (net, templates) in nets {
                    let within = vec![("subnet", vec![net.to_string()])];
                    self.add_rules(&mut service, &within, templates, &mut ttl);
                    // What is in the network and matches nothing there gets nothing.
                    service.add_rule(Rule { conditions: within, sites: Vec::new() });
                }
                let default = entries.iter().find(|(key, _)| key.scalar() == Some("default"));
                if let Some((_, templates)) = default {
                    self.add_rules(&mut service, &[], templates, &mut ttl);
                }
            }
            _ => self.add_rules(&mut service, &[], node, &mut ttl),
        }
        if service.sites.is_empty() {
            leave_out(
                self.findings,
                &node.at,
                format!("the service of {owner}: no name with records comes of it"),
            );
            return;
        }
        service.add_rule(Rule::default());
        service.ttl = ttl.or(Some(self.ttl));
        let steered = Steered { owner, service: service.name.clone(), ttl: None };
        self.zone.steered.push(steered);
        self.imported.services.push(service);
    }

    /// One template after the other, as they are tried; of each the more particular names first. What is for those of whom
    /// nothing is known comes after all of them.
    fn add_rules(
        &mut self,
        service: &mut Service,
        within: &[(&'static str, Vec<String>)],
        templates: &Node,
        ttl: &mut Option<u32>,
    ) {
        let mut of_unknown: Vec<(String, At)> = Vec::new();
        for node in templates.items() {
            let found = self.names_of(node);
            for (conditions, name) in found {
                if conditions.is_empty() && !of_unknown.iter().any(|(known, _)| *known == name) {
                    of_unknown.push((name, node.at.clone()));
                    continue;
                }
                let Some(conditions) = both(within, conditions) else { continue };
                let site = self.site_of(&name, ttl, &node.at);
                service.add_rule(Rule { conditions, sites: vec![site] });
            }
        }
        for (name, at) in of_unknown {
            if name.split('.').any(|label| label == "unknown") {
                let told = format!("{name} is here for all whom no other name fits, known or not");
                self.findings.warning(&at, told);
            }
            let site = self.site_of(&name, ttl, &at);
            service.add_rule(Rule { conditions: within.to_vec(), sites: vec![site] });
        }
    }

    /// The names with records that a template can become, and for whom.
    fn names_of(&mut self, node: &Node) -> Vec<(Conditions, String)> {
        let Some(text) = node.text("a name to look up", self.findings) else { return Vec::new() };
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(place) => {
                leave_out(self.findings, &node.at, format!("\"{text}\": {place} is not known"));
                return Vec::new();
            }
        };
        if let Some(place) = template.places().find(|place| !CARRIED.contains(place)) {
            leave_out(self.findings, &node.at, format!("\"{text}\": rules have no condition for %{place}"));
            return Vec::new();
        }
        let has_three = |(place, code): &(&str, String)| *place == "co" && alpha3::country(code).is_some();
        let values = |name: &String| values_of(&template, name);
        if let Some(name) =
            self.names.iter().find(|name| values(name).is_some_and(|all| all.iter().any(has_three)))
        {
            let told = format!(
                "{name}: of an MMDB file PowerDNS makes two letters of %co, and never comes to this name; here it is used"
            );
            self.findings.warning(&node.at, told);
        }
        let conditions_of = |name: &String| Some((conditions(&values_of(&template, name)?)?, name.clone()));
        let mut found: Vec<(Conditions, String)> = self.names.iter().filter_map(conditions_of).collect();
        if found.is_empty() {
            self.findings.warning(&node.at, format!("\"{text}\": no name with records comes of it"));
        }
        found.sort_by_key(|(conditions, _)| std::cmp::Reverse(conditions.len()));
        found
    }

    /// The site that has the records of a name.
    fn site_of(&mut self, name: &str, ttl: &mut Option<u32>, at: &At) -> String {
        let (shortest, data) = self.data.get(name).cloned().unwrap_or_default();
        if ttl.is_some_and(|ttl| ttl != shortest) {
            self.findings
                .warning(at, format!("the records of {name} have another TTL; the shortest is that of all"));
        }
        *ttl = Some(ttl.map_or(shortest, |ttl| ttl.min(shortest)));
        let apex = self.zone.apex.to_lowercase().to_string();
        let relative = name.strip_suffix(apex.trim_end_matches('.')).unwrap_or(name).trim_end_matches('.');
        let relative = if relative.is_empty() { name } else { relative };
        self.imported.site([relative.to_owned(), name.to_owned()], None, data)
    }
}

/// Places that conditions of rules can say.
const CARRIED: [&str; 6] = ["cc", "co", "cn", "re", "as", "af"];

/// The conditions of a network and of a name. A rule says a key once, and the network is the narrower of both; none where
/// the name is for the other address family.
fn both(within: &[(&'static str, Vec<String>)], of_name: Conditions) -> Option<Conditions> {
    let is_v6 = |subnets: &[String]| subnets.iter().any(|subnet| subnet.contains(':'));
    let mut conditions = within.to_vec();
    for (key, values) in of_name {
        match within.iter().find(|(known, _)| *known == key) {
            Some((_, subnets)) if is_v6(subnets) != is_v6(&values) => return None,
            Some(_) => {}
            None => conditions.push((key, values)),
        }
    }
    Some(conditions)
}

/// What stands in each place of a name. A wildcard stands for the labels of as many places as there are.
fn values_of<'t>(template: &'t Template, name: &str) -> Option<Vec<(&'t str, String)>> {
    /// More than templates have places.
    const MOST_LABELS: usize = 8;
    let Some(below) = name.strip_prefix("*.") else { return template.values(name) };
    (1..=MOST_LABELS).find_map(|labels| template.values(&format!("{}{below}", "*.".repeat(labels))))
}

/// What the values of places ask of a client; `unknown` stands where nothing is known of it. None for what no client's place
/// can be: a name that looks like one, and is none.
fn conditions(values: &[(&str, String)]) -> Option<Conditions> {
    let value =
        |place: &str| values.iter().find(|(known, _)| *known == place).map(|(_, value)| value.as_str());
    let known = |place: &str| value(place).filter(|value| !matches!(*value, "unknown" | "*"));
    let mut conditions = Vec::new();
    let one = |key: &'static str, value: String| (key, vec![value]);
    let country = match (known("cc"), known("co")) {
        (Some(code), _) => Some(Country::from_code(code)?),
        (None, Some(code)) => Some(alpha3::country(code).or_else(|| Country::from_code(code))?),
        (None, None) => None,
    };
    match (known("re"), country) {
        (Some(region), Some(country)) => {
            conditions.push(one("subdivision", format!("{country}-{}", region.to_ascii_uppercase())));
        }
        // A region without its country says nothing.
        (Some(_), None) => return None,
        (None, Some(country)) => conditions.push(one("country", country.to_string())),
        (None, None) => {}
    }
    if let Some(code) = known("cn") {
        conditions.push(one("continent", Continent::from_code(code)?.to_string()));
    }
    if let Some(number) = known("as") {
        conditions.push(one("asn", number.parse::<u32>().ok()?.to_string()));
    }
    match known("af") {
        Some("v4") => conditions.push(one("subnet", "0.0.0.0/0".to_owned())),
        Some("v6") => conditions.push(one("subnet", "::/0".to_owned())),
        Some(_) => return None,
        None => {}
    }
    Some(conditions)
}

fn read_ttl(node: &Node, findings: &mut Findings) -> Option<u32> {
    let ttl = node.scalar().and_then(parse_period).filter(|ttl| *ttl <= i32::MAX as u32);
    if ttl.is_none() {
        leave_out(findings, &node.at, "this is no TTL");
    }
    ttl
}
