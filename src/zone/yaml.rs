//! A zone in YAML -> [`ZoneFile`].

use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::{Expectation, Records, Steered, Wanted, ZoneFile};
use crate::finding::{At, Findings, Source, did_you_mean};
use crate::site::Service;
use crate::site::read::{Shared, unknown_site};
use crate::wire::rdata::{self, parse_period};
use crate::wire::{Name, Rtype};
use crate::yaml::{Content, Mapping, Node, unknown_key_or_type};

const ZONE_KEYS: [&str; 8] = ["zone", "ttl", "soa", "records", "expect", "sites", "profiles", "services"];
/// What an expectation may say of an answer as a whole.
pub const EXPECTED_RCODES: [&str; 5] = ["NOERROR", "NODATA", "NXDOMAIN", "REFUSED", "SERVFAIL"];
/// Seconds, of records for which nothing says how long.
const DEFAULT_TTL: u32 = 3600;

/// Whether this YAML is a zone; any other is shared by all zones.
#[must_use]
pub fn is_zone(root: &Node) -> bool {
    matches!(&root.content, Content::Mapping(entries)
        if entries.iter().any(|(key, _)| matches!(key.scalar(), Some("records" | "soa" | "zone"))))
}

/// The zone's name, if the file itself gives one, and where.
pub fn name_inside<'n>(root: &'n Node, findings: &mut Findings) -> Option<(Name, &'n At)> {
    let Content::Mapping(entries) = &root.content else { return None };
    let node = &entries.iter().find(|(key, _)| key.scalar() == Some("zone"))?.1;
    Some((read_name(node, &Name::root(), findings)?, &node.at))
}

/// Reads a zone. What is wrong is a finding; what is right is read all the same.
pub fn read(
    source: &Arc<Source>,
    root: &Node,
    apex: &Name,
    shared: &Shared,
    findings: &mut Findings,
) -> Option<ZoneFile> {
    let mapping = root.mapping("a zone", findings)?;
    mapping.know_only(&ZONE_KEYS, findings);
    let shared = if ["sites", "profiles", "services"].iter().any(|key| mapping.get(key).is_some()) {
        &shared.with_own(&mapping, apex, findings)
    } else {
        shared
    };
    let ttl = mapping.get("ttl").and_then(|node| read_ttl(node, findings)).unwrap_or(DEFAULT_TTL);
    let mut reader = ZoneReader {
        shared,
        ttl,
        zone: ZoneFile {
            apex: apex.clone(),
            source: Arc::clone(source),
            included: Vec::new(),
            records: Records::new(),
            automatic_serial: false,
            steered: Vec::new(),
            services: Vec::new(),
            expectations: Vec::new(),
        },
        findings,
    };
    if let Some(soa) = mapping.get("soa") {
        reader.read_soa(soa);
    }
    match mapping.get("records") {
        Some(records) => reader.read_records(records),
        None => {
            // That it lacks records, too, says the same once more.
            reader.findings.error(mapping.at, "a zone needs records:");
            return None;
        }
    }
    if let Some(expect) = mapping.get("expect") {
        reader.read_expectations(expect);
    }
    Some(reader.zone)
}

/// One record's data as the user wrote it: presentation format, but a TXT that does not begin with a double quote is one
/// text as it stands (how SPF and DKIM are pasted).
pub fn read_rdata(rtype: Rtype, node: &Node, origin: &Name, findings: &mut Findings) -> Option<Vec<u8>> {
    let Content::Scalar { text, is_plain } = &node.content else {
        findings.error(&node.at, format!("the data of one {rtype} record is expected here"));
        return None;
    };
    if node.is_null() {
        findings.error(&node.at, format!("the data of a {rtype} record is missing"));
        return None;
    }
    if matches!(rtype, Rtype::TXT | Rtype::SPF) && !text.starts_with('"') && !text.starts_with("\\#") {
        return Some(rdata::text_to_strings(text));
    }
    match rdata::parse(rtype, text, origin) {
        Ok(octets) => Some(octets),
        Err(error) => {
            let mut at = node.at.clone();
            let shown = at.source.line(at.line).unwrap_or_default();
            // The place within the text, where the text stands in the file as it was read.
            if shown.contains(text.as_str()) {
                let before = text.get(..error.offset).map_or(0, |before| before.chars().count());
                at.column += before as u32 + u32::from(!is_plain);
            }
            findings.error(&at, format!("{rtype}: {}{}", error.text, hint_at_format(rtype, text)));
            None
        }
    }
}

/// How such a record is written, or that several of them are a list.
fn hint_at_format(rtype: Rtype, text: &str) -> String {
    if matches!(rtype, Rtype::A | Rtype::AAAA) && text.contains([',', ' ']) {
        let several: Vec<&str> = text.split([',', ' ']).filter(|text| !text.is_empty()).collect();
        return format!("; several are a list: [{}]", several.join(", "));
    }
    rdata::example(rtype).map_or_else(String::new, |example| format!("; as in {rtype}: {example}"))
}

fn read_ttl(node: &Node, findings: &mut Findings) -> Option<u32> {
    let text = node.text("seconds, or a time such as 1h", findings)?;
    let ttl = parse_period(text).filter(|ttl| *ttl <= i32::MAX as u32);
    if ttl.is_none() {
        findings.error(
            &node.at,
            format!("\"{text}\" is no TTL: seconds, or a time such as 1h, up to 2147483647 s"),
        );
    }
    ttl
}

/// Times of an SOA are whatever 32 bits hold (RFC 1035 3.3.13).
fn read_time(node: &Node, findings: &mut Findings) -> Option<u32> {
    let text = node.text("seconds, or a time such as 1h", findings)?;
    let time = parse_period(text);
    if time.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no time: seconds, or one such as 1h"));
    }
    time
}

fn read_name(node: &Node, origin: &Name, findings: &mut Findings) -> Option<Name> {
    let text = node.text("a domain name", findings)?;
    match Name::parse(text, Some(origin)) {
        Ok(name) => Some(name),
        Err(error) => {
            findings.error(&node.at, format!("\"{text}\" is {error}"));
            None
        }
    }
}

/// What was meant by an owner that has a text where its records belong.
fn what_is_no_owner(key: &Node, value: &Node) -> Option<String> {
    let (key, value) = (key.scalar()?, value.scalar().filter(|_| !value.is_null())?);
    if let Some((owner, _)) = key.split_once(['{', '[']) {
        return Some(format!("a colon is missing behind \"{}\"", owner.trim()));
    }
    if key.parse::<Rtype>().is_ok() || matches!(key, "service" | "ttl") {
        let text = format!(
            "\"{key}\" stands where owners stand; it belongs further in, below its owner, as in www: {{ {key}: {value} }}"
        );
        return Some(text);
    }
    None
}

struct ZoneReader<'a> {
    shared: &'a Shared,
    ttl: u32,
    zone: ZoneFile,
    findings: &'a mut Findings,
}

impl ZoneReader<'_> {
    fn read_soa(&mut self, node: &Node) {
        let Some(mapping) = node.mapping("primary, contact and times", self.findings) else { return };
        let keys = ["primary", "contact", "serial", "refresh", "retry", "expire", "negative_ttl", "ttl"];
        mapping.know_only(&keys, self.findings);
        let apex = self.zone.apex.clone();
        let primary = match mapping.get("primary") {
            Some(node) => read_name(node, &apex, self.findings),
            None => {
                self.findings.error(&node.at, "soa: needs primary:, the name of the first name server");
                None
            }
        };
        let contact = match mapping.get("contact") {
            Some(node) => self.read_contact(node),
            None => apex.child(b"hostmaster").ok(),
        };
        let mut time = |key: &str, default: u32| {
            mapping.get(key).and_then(|node| read_time(node, self.findings)).unwrap_or(default)
        };
        let refresh = time("refresh", 3600);
        let retry = time("retry", 600);
        let expire = time("expire", 1_209_600);
        let negative_ttl = time("negative_ttl", 300);
        let ttl = mapping.get("ttl").and_then(|node| read_ttl(node, self.findings)).unwrap_or(self.ttl);
        let serial = mapping.get("serial").and_then(|node| node.number(0, u32::MAX, self.findings));
        self.zone.automatic_serial = mapping.get("serial").is_none();
        let (Some(primary), Some(contact)) = (primary, contact) else { return };
        let mut octets = [primary.wire(), contact.wire()].concat();
        for number in [serial.unwrap_or(0), refresh, retry, expire, negative_ttl] {
            octets.extend_from_slice(&number.to_be_bytes());
        }
        self.push(&apex, Rtype::SOA, ttl, &octets, &node.at);
    }

    /// `hostmaster@example.com`, or the same as a domain name; dots before the @ belong to the label (RFC 1035 8).
    fn read_contact(&mut self, node: &Node) -> Option<Name> {
        let is_bare =
            |text: &&str| text.bytes().filter(|octet| *octet == b'@').count() == 1 && !text.contains("\\@");
        let Some((mailbox, domain)) = node.scalar().filter(is_bare).and_then(|text| text.split_once('@'))
        else {
            return read_name(node, &self.zone.apex, self.findings);
        };
        let domain = Name::parse(domain, Some(&Name::root()));
        let name = domain.and_then(|domain| domain.child(mailbox.replace("\\.", ".").as_bytes()));
        match name {
            Ok(name) => Some(name),
            Err(error) => {
                let text = node.scalar().unwrap_or_default();
                let told = format!("\"{text}\" is no mail address such as hostmaster@example.com: {error}");
                self.findings.error(&node.at, told);
                None
            }
        }
    }

    fn read_records(&mut self, node: &Node) {
        let Some(mapping) = node.mapping("records by owner", self.findings) else { return };
        for (key, value) in mapping.entries {
            let apex = self.zone.apex.clone();
            let Some(owner) = read_name(key, &apex, self.findings) else { continue };
            if !owner.is_at_or_below(&apex) {
                let text = format!("{owner} is not in the zone {apex}, which this file is by its name");
                self.findings.error(&key.at, text);
                continue;
            }
            self.read_owner(&owner, key, value);
        }
    }

    fn read_owner(&mut self, owner: &Name, key: &Node, node: &Node) {
        if let Some(text) = what_is_no_owner(key, node) {
            self.findings.error(&key.at, text);
            return;
        }
        let Some(mapping) = node.mapping("records by type", self.findings) else { return };
        let ttl = mapping.get("ttl").and_then(|node| read_ttl(node, self.findings));
        for (key, value) in mapping.entries {
            match key.scalar().unwrap_or_default() {
                "ttl" => {}
                "service" => self.read_steered(owner, ttl, value),
                word => match word.parse::<Rtype>() {
                    Ok(rtype) if rtype.is_meta() => {
                        self.findings.error(&key.at, format!("{rtype} is no type that records have"));
                    }
                    Ok(rtype) => self.read_rrset(owner, rtype, ttl.unwrap_or(self.ttl), value),
                    Err(_) => {
                        self.findings.error(&key.at, unknown_key_or_type(word, value, &["service", "ttl"]));
                    }
                },
            }
        }
        if mapping.entries.iter().all(|(key, _)| key.scalar() == Some("ttl")) {
            self.findings.warning(&key.at, format!("{owner} has no records and so does not exist"));
        }
    }

    /// A scalar, a list of them, or `{ ttl, data }`.
    fn read_rrset(&mut self, owner: &Name, rtype: Rtype, ttl: u32, node: &Node) {
        let (ttl, data) = match &node.content {
            Content::Mapping(entries) => {
                let mapping = Mapping { at: &node.at, entries };
                mapping.know_only(&["ttl", "data"], self.findings);
                let Some(data) = mapping.get("data") else {
                    self.findings.error(&node.at, "data: is missing, as in { ttl: 60, data: [192.0.2.25] }");
                    return;
                };
                let ttl = mapping.get("ttl").and_then(|node| read_ttl(node, self.findings)).unwrap_or(ttl);
                (ttl, data)
            }
            _ => (ttl, node),
        };
        if data.items().is_empty() {
            self.findings.error(&data.at, format!("{rtype}: an empty list; leave the key out"));
        }
        let apex = self.zone.apex.clone();
        for item in data.items() {
            if let Some(octets) = read_rdata(rtype, item, &apex, self.findings) {
                self.push(owner, rtype, ttl, &octets, &item.at);
            }
        }
    }

    /// `service: web`, or `service: { name: web, ttl: 60 }`.
    fn read_steered(&mut self, owner: &Name, ttl: Option<u32>, node: &Node) {
        let (name, ttl) = match &node.content {
            Content::Mapping(entries) => {
                let mapping = Mapping { at: &node.at, entries };
                mapping.know_only(&["name", "ttl"], self.findings);
                let Some(name) = mapping.get("name") else {
                    self.findings.error(&node.at, "name: is missing, as in { name: web, ttl: 60 }");
                    return;
                };
                let own = mapping.get("ttl").and_then(|node| read_ttl(node, self.findings));
                (name, own.or(ttl))
            }
            _ => (node, ttl),
        };
        let Some(text) = name.text("a service's name", self.findings) else { return };
        let Some(service) = self.find_service(text) else {
            let own = format!("{text}@{}", self.zone.apex);
            if let Some(at) = self.shared.broken(&own).or_else(|| self.shared.broken(text)) {
                let told =
                    format!("service \"{text}\" could not be read; what is wrong with it is told at {at}");
                self.findings.error(&name.at, told);
                return;
            }
            let suffix = format!("@{}", self.zone.apex);
            let known = self
                .shared
                .services
                .iter()
                .map(|service| service.name.strip_suffix(&suffix).unwrap_or(&service.name));
            let hint = did_you_mean(text, known);
            self.findings.error(&name.at, format!("unknown service \"{text}\"{hint}"));
            return;
        };
        let service = Arc::clone(service);
        let index = match self.zone.services.iter().position(|known| known.name == service.name) {
            Some(index) => index,
            None => {
                self.zone.services.push(service);
                self.zone.services.len() - 1
            }
        };
        self.zone.steered.push(Steered { owner: owner.clone(), service: index, ttl, at: node.at.clone() });
    }

    /// The zone's own service of that name, else the shared one.
    fn find_service(&self, name: &str) -> Option<&Arc<Service>> {
        let own = format!("{name}@{}", self.zone.apex);
        self.shared.service(&own).or_else(|| self.shared.service(name))
    }

    fn push(&mut self, owner: &Name, rtype: Rtype, ttl: u32, octets: &[u8], at: &At) {
        if self.zone.records.push(owner, rtype, ttl, octets, at).is_err() {
            self.findings.error(at, "more than a record of 65,535 octets, or a zone of 4 GiB, can hold");
        }
    }

    fn read_expectations(&mut self, node: &Node) {
        for item in node.items() {
            if let Some(expectation) = self.read_expectation(item) {
                self.zone.expectations.push(expectation);
            }
        }
    }

    fn read_expectation(&mut self, node: &Node) -> Option<Expectation> {
        let mapping =
            node.mapping("an expectation such as { name: www, from: 1.1.1.1, site: syd }", self.findings)?;
        mapping.know_only(&["name", "type", "from", "down", "site", "data", "rcode", "scope"], self.findings);
        let apex = self.zone.apex.clone();
        let name = match mapping.get("name") {
            Some(node) => read_name(node, &apex, self.findings)?,
            None => {
                self.findings.error(&node.at, "name: is missing");
                return None;
            }
        };
        if !name.is_at_or_below(&apex) {
            self.findings.error(&node.at, format!("{name} is not in the zone {apex}"));
            return None;
        }
        let rtype = mapping.get("type").map_or(Some(Rtype::A), |node| {
            let text = node.text("a record type", self.findings)?;
            let rtype = text.parse::<Rtype>().ok();
            if rtype.is_none() {
                let hint = did_you_mean(text, Rtype::mnemonics());
                self.findings.error(&node.at, format!("unknown type \"{text}\"{hint}"));
            }
            rtype
        })?;
        let from = match mapping.get("from") {
            Some(node) => self.read_client(node)?,
            None => {
                self.findings.error(&node.at, "from: is missing, an address or a subnet");
                return None;
            }
        };
        let down = match mapping.get("down") {
            Some(node) => node.items().iter().filter_map(|item| self.read_site(item)).collect(),
            None => Vec::new(),
        };
        let wanted = Wanted {
            site: mapping.get("site").map(|node| self.read_site(node).ok_or(())).transpose().ok()?,
            data: mapping.get("data").map(|node| {
                node.items()
                    .iter()
                    .filter_map(|item| read_rdata(rtype, item, &apex, self.findings))
                    .map(|octets| rdata::print(rtype, &octets))
                    .collect()
            }),
            rcode: mapping.get("rcode").map(|node| self.read_rcode(node).ok_or(())).transpose().ok()?,
            scope: mapping.get("scope").and_then(|node| node.number(0, 128, self.findings)),
        };
        if wanted == Wanted::default() {
            self.findings.error(&node.at, "nothing is expected: site, data, rcode or scope is missing");
        }
        Some(Expectation { name, rtype, from, down, wanted, at: node.at.clone() })
    }

    fn read_client(&mut self, node: &Node) -> Option<IpNetwork> {
        let text = node.text("an address or a subnet", self.findings)?;
        let network = text.parse::<IpNetwork>().ok();
        if network.is_none() {
            self.findings.error(&node.at, format!("\"{text}\" is no address and no subnet"));
        }
        network.and_then(|network| IpNetwork::new(network.network(), network.prefix()).ok())
    }

    fn read_site(&mut self, node: &Node) -> Option<String> {
        let name = node.text("a site's name", self.findings)?;
        if !self.shared.sites.iter().any(|site| site.name == name) {
            self.findings.error(&node.at, unknown_site(name, &self.shared.sites));
            return None;
        }
        Some(name.to_owned())
    }

    fn read_rcode(&mut self, node: &Node) -> Option<String> {
        let word = node.text("an RCODE", self.findings)?.to_ascii_uppercase();
        if !EXPECTED_RCODES.contains(&word.as_str()) {
            let hint = did_you_mean(&word, EXPECTED_RCODES);
            let known = EXPECTED_RCODES.join(", ");
            self.findings.error(&node.at, format!("\"{word}\" is none of {known}{hint}"));
            return None;
        }
        Some(word)
    }
}
