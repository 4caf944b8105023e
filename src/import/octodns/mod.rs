//! Zones of octoDNS: YAML, a record or a list of them for each name, with `dynamic:` pools and rules.

use super::{Imported, Zone, leave_out};
use crate::finding::Findings;
use crate::wire::rdata::{self, parse_period};
use crate::wire::{Name, Rtype};
use crate::yaml::{Content, Mapping, Node};

mod dynamic;

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
    match rdata::parse(Rtype::SOA, &text, &apex) {
        Ok(octets) => zone.push(&apex, Rtype::SOA, DEFAULT_TTL, &octets, &root.at, findings),
        Err(error) => leave_out(findings, &root.at, format!("SOA: {}", error.text)),
    }
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
