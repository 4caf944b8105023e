//! Zones of gdnsd, and the resources of its plugins that they name.
//!
//! `www 300 DYNA geoip!web` is a record to gdnsd alone; here it is read as one of a private type, so that the reader of
//! master files finds its owner and its TTL, and becomes a steered name. The resource becomes a service, its datacenters sites.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Imported, Steered, Zone, leave_out};
use crate::finding::{At, Findings, Severity, Source};
use crate::wire::{Name, Rtype};
use crate::yaml::{Content, Mapping, Node};
use crate::zone::{Records, master};

mod checks;
mod maps;
mod resources;

use maps::Map;

/// Of private use (RFC 6895 3.1): what a DYNA or DYNC record refers to.
const DYNAMIC: Rtype = Rtype(65_400);

/// Those whose resources are read.
const PLUGINS: [&str; 6] = ["geoip", "metafo", "multifo", "weighted", "simplefo", "static"];

/// Seconds, of records for which nothing says how long.
const DEFAULT_TTL: &str = "86400";

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
        // What gdnsd takes where neither the zone nor a record says a TTL. It is a line more than the file has.
        let ttl = self.mappings("options").into_iter().find_map(|options| options.get("zones_default_ttl"));
        let ttl = ttl.and_then(Node::scalar).unwrap_or(DEFAULT_TTL);
        let text: Vec<String> = source.text.lines().map(as_master_file).collect();
        let readable = Source::new(&source.path, format!("$TTL {ttl}\n{}\n", text.join("\n")));
        let mut own = Findings::complete();
        let zone = master::read(&readable, apex, None, &mut own);
        for finding in own.iter().filter(|finding| finding.severity == Severity::Error) {
            let at = At::new(source, finding.line.saturating_sub(1).max(1), finding.column);
            self.findings.error(&at, &finding.text);
        }
        let (mut records, mut steered) = (Records::new(), Vec::new());
        for record in zone.records.iter() {
            let (owner, at) = (record.owner_name(), At::new(source, record.at().line.saturating_sub(1), 1));
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
        zone.tell_of_other_soas(self.findings);
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
            service.name = self.imported.free_service_name(&names);
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

    fn leave_out_others(&mut self, mapping: &Mapping<'_>, known: &[&str]) {
        for (key, _) in mapping.entries {
            let text = key.scalar().unwrap_or_default();
            if !known.contains(&text) {
                leave_out(self.findings, &key.at, format!("{text}: nothing here is like it"));
            }
        }
    }

    /// Resources that no zone names, and what is the server's own.
    fn tell_the_rest(&mut self) {
        let files = self.files;
        for root in &files.configurations {
            let Some(root) = root.mapping("", &mut Findings::new()) else { continue };
            let is_read = |key: &Node| {
                let text = key.scalar().unwrap_or_default();
                ["plugins", "service_types"].contains(&text) || PLUGINS.contains(&text)
            };
            for (key, _) in root.entries.iter().filter(|(key, _)| !is_read(key)) {
                let text = key.scalar().unwrap_or_default();
                let told = format!("{text}: what the server itself is told stands in meridian.yaml");
                self.findings.warning(&key.at, told);
            }
        }
        for plugin in PLUGINS {
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
