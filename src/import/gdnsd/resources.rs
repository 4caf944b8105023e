//! Resources of plugins -> services and their sites.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::maps::Map;
use super::{Reader, texts};
use crate::finding::Findings;
use crate::import::{Data, Rule, Service, address_record, leave_out};
use crate::wire::{Name, Rtype, rdata};
use crate::yaml::{Content, Node};

impl<'a> Reader<'a> {
    /// None, and a finding, for what no service here is like. Its name is up to the caller.
    pub(super) fn read_resource(&mut self, plugin: &str, resource: &str, node: &'a Node) -> Option<Service> {
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

    pub(super) fn read_datacenters(
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
        let read: Vec<(&Node, &Node, Data)> =
            written.entries.iter().map(|(key, value)| (key, value, self.data_of(value))).collect();
        let is_name = |data: &Data| data.iter().any(|(rtype, _)| *rtype == Rtype::CNAME);
        let has_addresses = read.iter().any(|(.., data)| !data.is_empty() && !is_name(data));
        for (key, value, data) in read {
            let datacenter = key.scalar().unwrap_or_default();
            if data.is_empty() || (is_name(&data) && has_addresses) {
                let why = match data.is_empty() {
                    true => "no addresses",
                    false => {
                        "a name beside addresses; the sites of a service are all the one or all the other"
                    }
                };
                leave_out(self.findings, &value.at, format!("datacenter {datacenter} of {resource}: {why}"));
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
            // An empty list is for those who are to get nothing.
            if !of_rule.is_empty() || datacenters.is_empty() {
                service.add_rule(Rule { conditions: conditions.clone(), sites: of_rule });
            }
        }
        // Without coordinates gdnsd goes by the order written, whoever asks.
        if map.coordinates.is_empty() && service.sites.len() > 1 {
            service.add_rule(Rule { conditions: Vec::new(), sites: service.sites.clone() });
        }
        let types_of = |name: &String| {
            let site = self.imported.sites.iter().find(|site| site.name == *name);
            site.map(|site| site.records.iter().map(|(rtype, _)| *rtype).collect::<BTreeSet<_>>())
        };
        service.same_site = service.sites.iter().any(|name| types_of(name) != types_of(&service.sites[0]));
        Some(())
    }

    /// What a datacenter has: addresses, a name (DYNC), or another resource.
    pub(super) fn data_of(&mut self, node: &'a Node) -> Data {
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
    pub(super) fn addresses_of(&mut self, plugin: &str, node: &Node) -> Data {
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
}
