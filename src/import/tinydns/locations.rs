//! Lines for the clients of a location -> services: each location is a site, with what is for everybody too.

use ipnetwork::Ipv4Network;

use super::Line;
use crate::finding::Findings;
use crate::import::{Data, Imported, Rule, Service, Steered, Zone, leave_out};
use crate::wire::Name;

/// A service for each owner with lines for locations: a client gets what is for its location and what is for everybody.
pub(super) fn steer(
    located: &[(usize, &Line)],
    locations: &[(String, String)],
    zones: &mut [Zone],
    imported: &mut Imported,
    findings: &mut Findings,
) {
    let mut owners: Vec<(usize, &Name)> = Vec::new();
    for (number, line) in located {
        if !owners.iter().any(|(_, owner)| **owner == line.owner) {
            owners.push((*number, &line.owner));
        }
    }
    for (number, owner) in owners {
        let lines: Vec<&Line> =
            located.iter().map(|(_, line)| *line).filter(|line| line.owner == *owner).collect();
        let relative = owner.relative_to(&zones[number].apex);
        let relative = if relative == "@" { "apex".to_owned() } else { relative };
        let whole = owner.to_string().trim_end_matches('.').to_owned();
        let mut service = Service::new(imported.free_service_name(&[relative.clone(), whole.clone()]));
        service.ecs = false;
        service.ttl = lines.iter().map(|line| line.ttl).min();
        for line in &lines {
            let is_known = |location: &String| locations.iter().any(|(name, _)| name == location);
            if let Some(location) = line.location.as_ref().filter(|location| !is_known(location)) {
                leave_out(findings, &line.at, format!("no line says where clients of \"{location}\" are"));
            }
        }
        // The longest network decides.
        let mut networks: Vec<&(String, String)> = locations.iter().collect();
        let length =
            |network: &str| network.rsplit_once('/').and_then(|(_, length)| length.parse::<u8>().ok());
        networks.sort_by_key(|(_, network)| std::cmp::Reverse(length(network)));
        for (location, network) in networks {
            let has_own = lines.iter().any(|line| line.location.as_ref() == Some(location));
            let is_within_another = || {
                let others = locations
                    .iter()
                    .filter(|(name, _)| lines.iter().any(|line| line.location.as_ref() == Some(name)));
                others.map(|(_, other)| other).any(|other| contains(other, network))
            };
            if !has_own && !is_within_another() {
                continue;
            }
            let data: Data = lines
                .iter()
                .filter(|line| line.location.as_ref().is_none_or(|own| own == location))
                .map(|line| (line.rtype, line.octets.clone()))
                .collect();
            let sites = match (has_own, data.is_empty()) {
                (_, true) => Vec::new(),
                (true, _) => {
                    let names = [format!("{relative}-{location}"), format!("{whole}-{location}")];
                    vec![imported.site(names, None, data)]
                }
                (false, _) => vec![imported.site([relative.clone(), whole.clone()], None, data)],
            };
            let conditions = match network.as_str() {
                "0.0.0.0/0" => Vec::new(),
                network => vec![("subnet", vec![network.to_owned()])],
            };
            service.add_rule(Rule { conditions, sites });
        }
        let everywhere: Data = lines
            .iter()
            .filter(|line| line.location.is_none())
            .map(|line| (line.rtype, line.octets.clone()))
            .collect();
        if !service.is_for_everybody() {
            let sites = match everywhere.is_empty() {
                true => Vec::new(),
                false => vec![imported.site([relative, whole], None, everywhere)],
            };
            service.add_rule(Rule { conditions: Vec::new(), sites });
        }
        if service.sites.is_empty() {
            continue;
        }
        zones[number].steered.push(Steered {
            owner: owner.clone(),
            service: service.name.clone(),
            ttl: None,
        });
        imported.services.push(service);
    }
}

pub(super) fn contains(outer: &str, inner: &str) -> bool {
    match (outer.parse::<Ipv4Network>(), inner.parse::<Ipv4Network>()) {
        (Ok(outer), Ok(inner)) => {
            outer != inner && outer.contains(inner.ip()) && outer.prefix() < inner.prefix()
        }
        _ => false,
    }
}
