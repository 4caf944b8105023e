//! Zones of gdnsd, and the resources of its plugins that they name.
//!
//! `www 300 DYNA geoip!web` is a record to gdnsd alone; here it is read as one of a private type, so that the reader of
//! master files finds its owner and its TTL, and becomes a steered name. The resource becomes a service, its datacenters sites.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::{Check, Data, Imported, Rule, Service, Steered, Zone, address_record, leave_out};
use crate::finding::{At, Findings, Source};
use crate::geo::{Continent, Country};
use crate::wire::{Name, Rtype, rdata};
use crate::yaml::{Content, Mapping, Node};
use crate::zone::{Records, master};

/// Of private use (RFC 6895 3.1): what a DYNA or DYNC record refers to.
const DYNAMIC: Rtype = Rtype(65_400);

/// Configurations and zones that belong together.
#[derive(Debug, Default)]
pub struct Files {
    /// In the order given.
    pub configurations: Vec<Node>,
    /// Each with its name.
    pub zones: Vec<(Name, Arc<Source>)>,
}

/// Reads them all.
pub fn read(files: &Files, imported: &mut Imported, findings: &mut Findings) {
    let (services, within, maps) = (HashMap::new(), HashSet::new(), HashMap::new());
    let mut reader = Reader { files, services, within, maps, imported, findings };
    for (apex, source) in &files.zones {
        reader.read_zone(apex, source);
    }
    reader.tell_the_rest();
}

struct Reader<'a> {
    files: &'a Files,
    /// By plugin and resource; none for what could not be made a service.
    services: HashMap<(String, String), Option<String>>,
    /// Plugins and resources whose addresses are those of a datacenter.
    within: HashSet<(String, String)>,
    /// Those that were read, by name.
    maps: HashMap<String, Option<Map>>,
    imported: &'a mut Imported,
    findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    fn read_zone(&mut self, apex: &Name, source: &Arc<Source>) {
        let text: Vec<String> = source.text.lines().map(as_master_file).collect();
        let readable = Source::new(&source.path, text.join("\n") + "\n");
        let zone = master::read(&readable, apex, None, self.findings);
        let (mut records, mut steered) = (Records::new(), Vec::new());
        for record in zone.records.iter() {
            let (owner, at) = (record.owner_name(), At::new(source, record.at().line, 1));
            if record.rtype != DYNAMIC {
                if records.push(&owner, record.rtype, record.ttl, record.rdata, &at).is_err() {
                    leave_out(self.findings, &at, "more than a zone can hold");
                }
                continue;
            }
            let reference = String::from_utf8_lossy(record.rdata).into_owned();
            if let Some(service) = self.service_of(&reference, &at) {
                steered.push(Steered { owner, service, ttl: Some(record.ttl) });
            }
        }
        let mut zone = Zone::of(apex.clone(), records);
        zone.steered = steered;
        self.imported.zones.push(zone);
    }

    /// The service that `plugin!resource` is.
    fn service_of(&mut self, reference: &str, at: &At) -> Option<String> {
        let Some((plugin, resource)) = reference.split_once('!') else {
            leave_out(self.findings, at, format!("\"{reference}\": plugin!resource is expected"));
            return None;
        };
        if let Some((resource, one)) = resource.split_once('/') {
            let why = format!("\"{one}\" of {resource} alone: write the records of that site");
            leave_out(self.findings, at, why);
            return None;
        }
        let key = (plugin.to_owned(), resource.to_owned());
        if let Some(known) = self.services.get(&key) {
            if known.is_none() {
                leave_out(self.findings, at, format!("{reference}, of which no service could be made"));
            }
            return known.clone();
        }
        let service = match self.find_resource(plugin, resource) {
            Some(node) => self.read_resource(plugin, resource, node),
            None => {
                leave_out(
                    self.findings,
                    at,
                    format!("{reference}: no configuration that was given has this resource"),
                );
                None
            }
        };
        let name = service.map(|mut service| {
            let names = [resource.to_owned(), format!("{resource}-{plugin}")];
            service.name = self.imported.free_service_name(names);
            let name = service.name.clone();
            self.imported.services.push(service);
            name
        });
        self.services.insert(key, name.clone());
        name
    }

    /// The mappings of a key of the configurations, or of one within `plugins`.
    fn mappings(&self, key: &str) -> Vec<Mapping<'a>> {
        let files: &'a Files = self.files;
        let mut ignored = Findings::new();
        let mut found = Vec::new();
        for root in &files.configurations {
            let Some(root) = root.mapping("", &mut ignored) else { continue };
            let within = root.get("plugins").and_then(|node| node.mapping("", &mut ignored));
            for holder in [within, Some(root)].into_iter().flatten() {
                found.extend(holder.get(key).and_then(|node| node.mapping("", &mut ignored)));
            }
        }
        found
    }

    /// Some plugins keep their resources within `resources`.
    fn find_resource(&self, plugin: &str, resource: &str) -> Option<&'a Node> {
        self.mappings(plugin).into_iter().find_map(|mapping| {
            let resources = mapping.get("resources").and_then(|node| node.mapping("", &mut Findings::new()));
            resources.unwrap_or(mapping).get(resource)
        })
    }

    /// None, and a finding, for what no service here is like. Its name is up to the caller.
    fn read_resource(&mut self, plugin: &str, resource: &str, node: &'a Node) -> Option<Service> {
        let mut service = Service::new(resource);
        match plugin {
            "geoip" | "metafo" => self.read_datacenters(plugin, resource, node, &mut service)?,
            "multifo" | "weighted" | "simplefo" | "static" => {
                let data = self.addresses_of(plugin, node);
                match plugin {
                    // In order: the second serves while the first is down.
                    "simplefo" => {
                        let of_each = data.into_iter().enumerate();
                        for (number, record) in of_each {
                            let name = ["primary", "secondary"].get(number).unwrap_or(&"more");
                            let names = [format!("{resource}-{name}"), format!("{resource}-{name}-{plugin}")];
                            service.sites.push(self.imported.site(names, None, vec![record]));
                        }
                    }
                    _ if data.is_empty() => {}
                    _ => {
                        let names = [resource.to_owned(), format!("{resource}-{plugin}")];
                        service.sites.push(self.imported.site(names, None, data));
                    }
                }
            }
            _ => {
                leave_out(
                    self.findings,
                    &node.at,
                    format!("{plugin}!{resource}: no service here is like this plugin"),
                );
                return None;
            }
        }
        if let Some(mapping) = node.mapping("", &mut Findings::new()) {
            service.checks = self.read_checks(&mapping);
        }
        if service.sites.is_empty() {
            leave_out(
                self.findings,
                &node.at,
                format!("{plugin}!{resource}: it has no addresses that can be read"),
            );
            return None;
        }
        Some(service)
    }

    fn read_datacenters(
        &mut self,
        plugin: &str,
        resource: &str,
        node: &'a Node,
        service: &mut Service,
    ) -> Option<()> {
        let mapping = node.mapping("a resource", self.findings)?;
        self.leave_out_others(&mapping, &["map", "dcmap", "datacenters", "service_types"]);
        let map = match mapping.get("map") {
            Some(name) => self.find_map(name)?,
            None => Map { datacenters: texts(mapping.get("datacenters")), ..Map::default() },
        };
        let Some(written) =
            mapping.get("dcmap").and_then(|node| node.mapping("addresses by datacenter", self.findings))
        else {
            leave_out(self.findings, &node.at, format!("{plugin}!{resource}: dcmap is missing"));
            return None;
        };
        let mut sites: HashMap<String, String> = HashMap::new();
        for (key, value) in written.entries {
            let datacenter = key.scalar().unwrap_or_default();
            let data = self.data_of(value);
            if data.is_empty() {
                leave_out(
                    self.findings,
                    &value.at,
                    format!("datacenter {datacenter} of {resource}: no addresses"),
                );
                continue;
            }
            let names = [datacenter.to_owned(), format!("{datacenter}-{resource}")];
            let site = self.imported.site(names, map.coordinates.get(datacenter).copied(), data);
            sites.insert(datacenter.to_owned(), site);
        }
        let named = |datacenters: &[String]| -> Vec<String> {
            datacenters.iter().filter_map(|datacenter| sites.get(datacenter).cloned()).collect()
        };
        service.sites = named(&map.datacenters);
        for (conditions, datacenters) in &map.rules {
            let of_rule = named(datacenters);
            if !of_rule.is_empty() {
                service.add_rule(Rule { conditions: conditions.clone(), sites: of_rule });
            }
        }
        Some(())
    }

    fn find_map(&mut self, name: &Node) -> Option<Map> {
        let text = name.scalar().unwrap_or_default();
        if let Some(known) = self.maps.get(text) {
            return known.clone();
        }
        let found = self.mappings("geoip").into_iter().find_map(|mapping| {
            mapping.get("maps").and_then(|node| node.mapping("", &mut Findings::new()))?.get(text)
        });
        let mapping = found.and_then(|node| node.mapping("a map", self.findings));
        if mapping.is_none() {
            leave_out(self.findings, &name.at, format!("no map is called \"{text}\""));
        }
        let map = mapping.map(|mapping| self.read_map(&mapping));
        self.maps.insert(text.to_owned(), map.clone());
        map
    }

    fn read_map(&mut self, mapping: &Mapping<'_>) -> Map {
        let mut map = Map { datacenters: texts(mapping.get("datacenters")), ..Map::default() };
        for (key, value) in mapping.entries {
            match key.scalar().unwrap_or_default() {
                "datacenters" | "nets" | "map" => {}
                "auto_dc_coords" => {
                    let coordinates = value.mapping("coordinates by datacenter", self.findings);
                    for (key, value) in coordinates.iter().flat_map(|mapping| mapping.entries) {
                        match texts(Some(value)).iter().map(|text| text.parse::<f64>()).collect::<Vec<_>>()[..]
                        {
                            [Ok(latitude), Ok(longitude)] => {
                                let name = key.scalar().unwrap_or_default().to_owned();
                                map.coordinates.insert(name, (latitude, longitude));
                            }
                            _ => leave_out(self.findings, &value.at, "these are no latitude and longitude"),
                        }
                    }
                }
                "auto_dc_limit" => {
                    let told = "auto_dc_limit: here all sites follow in order of distance";
                    self.findings.warning(&key.at, told);
                }
                other if other.contains("geoip") => {
                    let told = format!(
                        "{other}: databases are files of the folders that geodb: names in meridian.yaml"
                    );
                    self.findings.warning(&key.at, told);
                }
                other => leave_out(self.findings, &key.at, format!("{other}: nothing here is like it")),
            }
        }
        if let Some(nets) =
            mapping.get("nets").and_then(|node| node.mapping("datacenters by network", self.findings))
        {
            self.read_nets(&nets, &mut map);
        }
        if let Some(tree) =
            mapping.get("map").and_then(|node| node.mapping("datacenters by place", self.findings))
        {
            self.read_places(&tree, &[], &mut map);
        }
        map
    }

    /// The longest network decides.
    fn read_nets(&mut self, nets: &Mapping<'_>, map: &mut Map) {
        let mut read: Vec<(IpNetwork, Vec<String>)> = Vec::new();
        for (key, value) in nets.entries {
            match key.scalar().map(str::parse::<IpNetwork>) {
                Some(Ok(net)) => read.push((net, texts(Some(value)))),
                _ => leave_out(self.findings, &key.at, "this is no network"),
            }
        }
        read.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix()));
        map.rules.extend(
            read.into_iter().map(|(net, datacenters)| (vec![("subnet", vec![net.to_string()])], datacenters)),
        );
    }

    /// Continents, countries, regions, cities: what lies deeper is more particular and comes first, `default` last.
    fn read_places(&mut self, tree: &Mapping<'_>, above: &[&str], map: &mut Map) {
        let is_default = |key: &Node| key.scalar() == Some("default");
        let places = tree.entries.iter().filter(|(key, _)| !is_default(key));
        for (key, value) in places.chain(tree.entries.iter().filter(|(key, _)| is_default(key))) {
            let place = key.scalar().unwrap_or_default();
            let mut below: Vec<&str> = above.to_vec();
            if !is_default(key) {
                below.push(place);
            }
            let Some(conditions) = condition_of(&below) else {
                leave_out(
                    self.findings,
                    &key.at,
                    format!("\"{place}\": rules have no condition for such a place"),
                );
                continue;
            };
            match &value.content {
                Content::Mapping(entries) => {
                    self.read_places(&Mapping { at: &value.at, entries }, &below, map);
                }
                _ => map.rules.push((conditions, texts(Some(value)))),
            }
        }
    }

    /// What a datacenter has: addresses, a name (DYNC), or another resource.
    fn data_of(&mut self, node: &'a Node) -> Data {
        let Some(text) = node.scalar() else { return self.addresses_of("multifo", node) };
        if let Some((plugin, resource)) = text.strip_prefix('%').and_then(|text| text.split_once('!')) {
            return match self.find_resource(plugin, resource) {
                Some(node) if ["multifo", "weighted", "simplefo", "static"].contains(&plugin) => {
                    self.within.insert((plugin.to_owned(), resource.to_owned()));
                    self.addresses_of(plugin, node)
                }
                _ => {
                    leave_out(self.findings, &node.at, format!("{text} within a datacenter"));
                    Vec::new()
                }
            };
        }
        if text.parse::<IpAddr>().is_ok() {
            return self.addresses_of("static", node);
        }
        match rdata::parse(Rtype::CNAME, text, &Name::root()) {
            Ok(octets) => vec![(Rtype::CNAME, octets)],
            Err(error) => {
                leave_out(self.findings, &node.at, format!("CNAME: {}", error.text));
                Vec::new()
            }
        }
    }

    /// All addresses within a resource, whatever they are called.
    fn addresses_of(&mut self, plugin: &str, node: &Node) -> Data {
        let mut data = Data::new();
        match &node.content {
            Content::Scalar { text, .. } => match text.parse::<IpAddr>() {
                Ok(address) => data.push(address_record(address)),
                Err(_) => leave_out(self.findings, &node.at, format!("\"{text}\" is no address")),
            },
            Content::Sequence(items) => match (plugin, &items[..]) {
                ("weighted", [address, _]) if address.scalar().is_some() => {
                    data.extend(self.addresses_of(plugin, address));
                }
                _ => items.iter().for_each(|item| data.extend(self.addresses_of(plugin, item))),
            },
            Content::Mapping(entries) => {
                for (key, value) in entries {
                    match key.scalar().unwrap_or_default() {
                        "service_types" => {}
                        "up_thresh" | "ignore_health" | "multi" | "plugin" => {
                            let word = key.scalar().unwrap_or_default();
                            leave_out(self.findings, &key.at, format!("{word}: nothing here is like it"));
                        }
                        _ => data.extend(self.addresses_of(plugin, value)),
                    }
                }
                let weighs = |value: &Node| plugin == "weighted" && value.items().len() == 2;
                if entries.iter().any(|(_, value)| weighs(value)) {
                    let why = "weights of single addresses: all of them are answered together; sites that share clients have weights";
                    leave_out(self.findings, &node.at, why);
                }
            }
        }
        data
    }

    fn leave_out_others(&mut self, mapping: &Mapping<'_>, known: &[&str]) {
        for (key, _) in mapping.entries {
            let text = key.scalar().unwrap_or_default();
            if !known.contains(&text) {
                leave_out(self.findings, &key.at, format!("{text}: nothing here is like it"));
            }
        }
    }

    /// `service_types` of a resource, which are named at the top.
    fn read_checks(&mut self, resource: &Mapping<'_>) -> Vec<Check> {
        let Some(names) = resource.get("service_types") else { return Vec::new() };
        let mut checks = Vec::new();
        for item in names.items() {
            let name = item.scalar().unwrap_or_default();
            if ["up", "none", "default"].contains(&name) {
                continue;
            }
            let found = self.mappings("service_types").into_iter().find_map(|mapping| mapping.get(name));
            let Some(mapping) = found.and_then(|node| node.mapping("a service type", self.findings)) else {
                leave_out(self.findings, &item.at, format!("no service type is called \"{name}\""));
                continue;
            };
            checks.extend(self.read_check(name, &mapping));
        }
        checks
    }

    fn read_check(&mut self, name: &str, mapping: &Mapping<'_>) -> Option<Check> {
        let text = |key: &str, default: &str| {
            mapping.get(key).and_then(Node::scalar).map_or_else(|| default.to_owned(), str::to_owned)
        };
        let mut known = vec!["plugin", "interval", "timeout", "up_thresh", "down_thresh"];
        let mut check = match text("plugin", "").as_str() {
            "http_status" => {
                known.extend(["vhost", "url_path", "ok_codes", "port"]);
                let mut keys = vec![("path", vec![text("url_path", "/")])];
                keys.extend(
                    mapping.get("vhost").and_then(Node::scalar).map(|host| ("host", vec![host.to_owned()])),
                );
                let codes = texts(mapping.get("ok_codes"));
                keys.push(("status", if codes.is_empty() { vec!["200".to_owned()] } else { codes }));
                Check { kind: "http", keys, times: vec![("port", text("port", "80"))] }
            }
            "tcp_connect" => {
                known.push("port");
                Check { kind: "tcp", keys: Vec::new(), times: vec![("port", text("port", ""))] }
            }
            "extmon" => {
                known.push("cmd");
                let words = texts(mapping.get("cmd"));
                let words: Vec<String> =
                    words.iter().map(|word| word.replace("%%ITEM%%", "{address}")).collect();
                Check { kind: "exec", keys: vec![("command", words)], times: Vec::new() }
            }
            "null" | "static" => return None,
            other => {
                leave_out(
                    self.findings,
                    mapping.at,
                    format!("service type \"{name}\": no check here is like {other}"),
                );
                return None;
            }
        };
        self.leave_out_others(mapping, &known);
        // What gdnsd does where nothing is said, for the defaults here are others.
        check.times.push(("every", format!("{}s", text("interval", "10"))));
        check
            .times
            .push(("timeout", format!("{}s", text("timeout", if check.kind == "http" { "3" } else { "5" }))));
        check.times.push(("fall", text("down_thresh", "10")));
        check.times.push(("rise", text("up_thresh", "20")));
        Some(check)
    }

    /// Resources that no zone names, and what is the server's own.
    fn tell_the_rest(&mut self) {
        let files = self.files;
        for root in &files.configurations {
            let Some(root) = root.mapping("", &mut Findings::new()) else { continue };
            if let Some((key, _)) = root.entries.iter().find(|(key, _)| key.scalar() == Some("options")) {
                self.findings
                    .warning(&key.at, "options: what the server itself is told stands in meridian.yaml");
            }
        }
        for plugin in ["geoip", "metafo", "multifo", "weighted", "simplefo", "static"] {
            for mapping in self.mappings(plugin) {
                let resources =
                    mapping.get("resources").and_then(|node| node.mapping("", &mut Findings::new()));
                if plugin == "geoip" && resources.is_none() {
                    continue;
                }
                for (key, value) in resources.unwrap_or(mapping).entries {
                    let resource = key.scalar().unwrap_or_default();
                    let is_option = ["service_types", "up_thresh", "ignore_health", "multi"]
                        .contains(&resource)
                        && !matches!(value.content, Content::Mapping(_));
                    if is_option {
                        leave_out(
                            self.findings,
                            &key.at,
                            format!("{resource} for all resources of {plugin}"),
                        );
                    } else if !is_used(&self.services, &self.within, plugin, resource) {
                        leave_out(
                            self.findings,
                            &key.at,
                            format!("{plugin}!{resource}: no zone that was given names it"),
                        );
                    }
                }
            }
        }
    }
}

fn is_used(
    services: &HashMap<(String, String), Option<String>>,
    within: &HashSet<(String, String)>,
    plugin: &str,
    resource: &str,
) -> bool {
    let key = (plugin.to_owned(), resource.to_owned());
    services.contains_key(&key) || within.contains(&key)
}

/// Where which datacenters serve.
#[derive(Clone, Default)]
struct Map {
    datacenters: Vec<String>,
    coordinates: HashMap<String, (f64, f64)>,
    rules: Vec<(Vec<(&'static str, Vec<String>)>, Vec<String>)>,
}

/// Of a continent, a country in it, or a region of that; none for what is deeper or unknown.
fn condition_of(places: &[&str]) -> Option<Vec<(&'static str, Vec<String>)>> {
    let one = |key: &'static str, value: String| Some(vec![(key, vec![value])]);
    match places {
        [] => Some(Vec::new()),
        [continent] => one("continent", Continent::from_code(continent)?.to_string()),
        [_, country] => one("country", Country::from_code(country)?.to_string()),
        [_, country, region] => one("subdivision", format!("{}-{region}", Country::from_code(country)?)),
        _ => None,
    }
}

fn texts(node: Option<&Node>) -> Vec<String> {
    node.map_or(&[][..], Node::items).iter().filter_map(Node::scalar).map(str::to_owned).collect()
}

/// A line as a master file has it: `DYNA` and `DYNC` as records of a private type, `300/60` as the first of both TTLs.
fn as_master_file(line: &str) -> String {
    let code = line.split(';').next().unwrap_or_default();
    let words: Vec<(usize, &str)> = words_of(code);
    let dynamic = words
        .iter()
        .position(|(_, word)| word.eq_ignore_ascii_case("DYNA") || word.eq_ignore_ascii_case("DYNC"));
    let Some((position, (_, reference))) =
        dynamic.and_then(|position| Some((position, *words.get(position + 1)?)))
    else {
        return line.to_owned();
    };
    let mut out = code[..words[position].0].to_owned();
    if let Some((at, ttl)) = words[..position]
        .iter()
        .find(|(_, word)| word.contains('/') && word.starts_with(|first: char| first.is_ascii_digit()))
        && let Some((most, _)) = ttl.split_once('/')
        && (position > 1 || code.starts_with(char::is_whitespace))
    {
        out.replace_range(*at..at + ttl.len(), most);
    }
    let hexadecimal = data_encoding::HEXUPPER.encode(reference.as_bytes());
    format!("{out}{DYNAMIC} \\# {} {hexadecimal}", reference.len())
}

/// Words and where they begin.
fn words_of(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        match (letter.is_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(begin)) => {
                words.push((begin, &text[begin..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}
