//! What was imported -> the files that a user would write.

use std::fmt::Write;

use super::{Check, Data, Imported, Rule, Service, Site, Zone};
use crate::wire::{Name, Rtype, rdata};
use crate::zone::write::{quote, to_yaml};

/// Names of files, and what they say: `sites.yaml` if there is anything to share, then a zone each.
#[must_use]
pub fn files(imported: &Imported) -> Vec<(String, String)> {
    let mut files = Vec::new();
    if !imported.sites.is_empty() || !imported.services.is_empty() {
        files.push(("sites.yaml".to_owned(), sites_yaml(imported)));
    }
    files.extend(imported.zones.iter().map(|zone| (file_name(&zone.apex), zone_yaml(zone))));
    files
}

/// Of a zone; where no file can have its name (RFC 2317), the file says it inside.
fn file_name(apex: &Name) -> String {
    let name = apex.to_string();
    let name = name.trim_end_matches('.').replace('/', "-");
    if name.is_empty() { "root.yaml".to_owned() } else { format!("{name}.yaml") }
}

fn zone_yaml(zone: &Zone) -> String {
    let steered: Vec<_> = zone
        .steered
        .iter()
        .map(|steered| (steered.owner.clone(), steered.service.as_str(), steered.ttl))
        .collect();
    to_yaml(&zone.apex, &zone.records, &steered)
}

fn sites_yaml(imported: &Imported) -> String {
    let mut out = String::from("sites:\n");
    for site in &imported.sites {
        let _ = writeln!(out, "  {}: {{ {} }}", quote(&site.name), site_keys(site).join(", "));
    }
    out.push_str("services:\n");
    for service in &imported.services {
        let _ = write_service(service, &mut out);
    }
    out
}

fn site_keys(site: &Site) -> Vec<String> {
    let location = site.location.map(|(latitude, longitude)| format!("location: [{latitude}, {longitude}]"));
    location.into_iter().chain(records(&site.records)).collect()
}

/// `A: [192.0.2.1, 192.0.2.2]`, a text for each type.
fn records(data: &Data) -> Vec<String> {
    let mut types: Vec<Rtype> = Vec::new();
    for (rtype, _) in data {
        if !types.contains(rtype) {
            types.push(*rtype);
        }
    }
    let of_type = |rtype: Rtype| {
        let texts = data.iter().filter(|(other, _)| *other == rtype);
        let texts: Vec<String> = texts.map(|(rtype, octets)| rdata::print(*rtype, octets)).collect();
        format!("{rtype}: {}", list(&texts))
    };
    types.into_iter().map(of_type).collect()
}

/// One as it is, several in brackets.
fn list(texts: &[String]) -> String {
    match texts {
        [text] => quote(text),
        texts => format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ")),
    }
}

fn write_service(service: &Service, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {}:", quote(&service.name))?;
    if let Some(ttl) = service.ttl {
        writeln!(out, "    ttl: {ttl}")?;
    }
    writeln!(out, "    sites: {}", list(&service.sites))?;
    if !service.ecs {
        writeln!(out, "    ecs: false")?;
    }
    if service.same_site {
        writeln!(out, "    same_site: true")?;
    }
    if !service.checks.is_empty() {
        writeln!(out, "    checks:")?;
    }
    for check in &service.checks {
        writeln!(out, "      - {}", check_yaml(check))?;
    }
    if !service.rules.is_empty() {
        writeln!(out, "    rules:")?;
    }
    for rule in &service.rules {
        writeln!(out, "      - {}", rule_yaml(rule))?;
    }
    if !service.last_resort.is_empty() {
        writeln!(out, "    all_down: {{ last_resort: {{ {} }} }}", records(&service.last_resort).join(", "))?;
    }
    Ok(())
}

fn check_yaml(check: &Check) -> String {
    let keys: Vec<String> = check.keys.iter().map(|(key, texts)| format!("{key}: {}", list(texts))).collect();
    let keys = if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) };
    let times = check.times.iter().map(|(key, text)| format!(", {key}: {}", quote(text))).collect::<String>();
    format!("{{ {}: {keys}{times} }}", check.kind)
}

fn rule_yaml(rule: &Rule) -> String {
    let mut keys: Vec<String> =
        rule.conditions.iter().map(|(key, texts)| format!("{key}: {}", list(texts))).collect();
    if keys.is_empty() {
        keys.push("else: true".to_owned());
    }
    match rule.sites.is_empty() {
        true => keys.push("deny: true".to_owned()),
        false => keys.push(format!("sites: {}, only: true", list(&rule.sites))),
    }
    format!("{{ {} }}", keys.join(", "))
}
