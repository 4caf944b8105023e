//! Maps of the geoip plugin: which datacenters serve whom -> rules, and where they stand.

use std::collections::HashMap;

use ipnetwork::IpNetwork;

use super::{Reader, texts};
use crate::finding::Findings;
use crate::geo::{Continent, Country};
use crate::import::{Conditions, leave_out};
use crate::yaml::{Content, Mapping, Node};

impl Reader<'_> {
    pub(super) fn find_map(&mut self, name: &Node) -> Option<Map> {
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

    pub(super) fn read_map(&mut self, mapping: &Mapping<'_>) -> Map {
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
    pub(super) fn read_nets(&mut self, nets: &Mapping<'_>, map: &mut Map) {
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
    pub(super) fn read_places(&mut self, tree: &Mapping<'_>, above: &[&str], map: &mut Map) {
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
}

/// Where which datacenters serve.
#[derive(Clone, Default)]
pub(super) struct Map {
    pub(super) datacenters: Vec<String>,
    pub(super) coordinates: HashMap<String, (f64, f64)>,
    pub(super) rules: Vec<(Conditions, Vec<String>)>,
}

/// Of a continent, a country in it, or a region of that; none for what is deeper or unknown.
pub(super) fn condition_of(places: &[&str]) -> Option<Conditions> {
    let one = |key: &'static str, value: String| Some(vec![(key, vec![value])]);
    match places {
        [] => Some(Vec::new()),
        [continent] => one("continent", Continent::from_code(continent)?.to_string()),
        [_, country] => one("country", Country::from_code(country)?.to_string()),
        [_, country, region] => one("subdivision", format!("{}-{region}", Country::from_code(country)?)),
        _ => None,
    }
}
