//! What is legal, and will not do what it was written for: each with what to do about it.
//!
//! Of `meridian check` alone. What says nothing of failures (rules that never match, sites that answer nobody, delegations) is told at each reload; this
//! looks further and takes longer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::finding::Findings;
use crate::geo::{Coordinates, Country, Databases};
use crate::reload::Answering;
use crate::site::cost::UnitVector;
use crate::site::{Service, Site};
use crate::wire::Rtype;
use crate::zone::Zone;

pub mod delegation;

/// Sites that are nearer to each other than this share power, exchanges and weather.
const ONE_REGION_KM: f64 = 500.0;

/// From here on a TTL is what decides how long a failover takes.
const LONG_TTL: u32 = 300;

/// Where nobody lives, there are no networks.
const UNINHABITED: [&str; 6] = ["AQ", "BV", "GS", "HM", "TF", "UM"];

/// Names that are told of one zone.
const MOST_NAMES: usize = 3;

/// Looks at services that are used, at zones, and at what the geo databases know.
#[must_use]
pub fn lint(services: &[Arc<Service>], zones: &[Answering], databases: &Databases) -> Findings {
    let mut findings = Findings::new();
    for service in services {
        warn_of_one_region(service, &mut findings);
        warn_of_long_ttl(service, &mut findings);
    }
    let addresses = addresses_that_fail_over(services);
    for zone in zones {
        if let Some(served) = &zone.zone {
            warn_of_long_ttls_of_owners(zone, served, &mut findings);
            warn_of_plain_records(&zone.path, served, &addresses, &mut findings);
        }
    }
    warn_of_unknown_countries(services, databases, &mut findings);
    findings.sort();
    findings
}

fn warn_of_one_region(service: &Service, findings: &mut Findings) {
    let places: Vec<(&Site, Coordinates)> =
        service.sites.iter().filter_map(|site| Some((&**site, site.location?))).collect();
    if places.len() < 2 || places.len() < service.sites.len() {
        return;
    }
    let km = |a: Coordinates, b: Coordinates| UnitVector::new(a).km(&UnitVector::new(b));
    let pairs =
        places.iter().enumerate().flat_map(|(index, a)| places[index + 1..].iter().map(move |b| (a, b)));
    let farthest = pairs.map(|((_, a), (_, b))| km(*a, *b)).fold(0.0, f64::max);
    if farthest < ONE_REGION_KM {
        let text = format!(
            "all sites of service \"{}\" stand within {farthest:.0} km of each other: what takes one out may take all of them; one that is farther away would be left",
            service.name
        );
        findings.warning(&service.at, text);
    }
}

fn warn_of_long_ttl(service: &Service, findings: &mut Findings) {
    let ttl = *service.ttl.end();
    if let Some(detection) = service.detection().filter(|_| ttl > LONG_TTL) {
        let text = format!(
            "service \"{}\" is told of a dead site within {detection:?}, and its clients stay {ttl} s longer; a `ttl:` of 60, or a range such as 30..{LONG_TTL}, lets them go",
            service.name
        );
        findings.warning(&service.at, text);
    }
}

fn warn_of_long_ttls_of_owners(zone: &Answering, served: &Zone, findings: &mut Findings) {
    let steered = (0..served.name_count() as u32).filter_map(|node| Some((node, served.steered(node)?)));
    for (node, steered) in steered {
        let Some(service) = zone.services.get(usize::from(steered.service)) else { continue };
        let Some(detection) = service.detection() else { continue };
        if let Some(ttl) = steered.ttl.filter(|ttl| *ttl > LONG_TTL) {
            let text = format!(
                "{} has a TTL of {ttl}: service \"{}\" is told of a dead site within {detection:?}, and clients of this name stay {ttl} s longer; without a `ttl:` of its own it has the service's",
                served.owner(node),
                service.name
            );
            findings.note(&zone.path, text);
        }
    }
}

/// Of services that somebody checks: which service and site has an address.
fn addresses_that_fail_over(services: &[Arc<Service>]) -> BTreeMap<IpAddr, (&str, &str)> {
    let mut addresses = BTreeMap::new();
    for service in services.iter().filter(|service| !service.checks.is_empty()) {
        for site in &service.sites {
            for rrset in &site.rrsets {
                for address in rrset.rdatas.iter().filter_map(|rdata| address_in(rrset.rtype, rdata)) {
                    addresses.entry(address).or_insert((service.name.as_str(), site.name.as_str()));
                }
            }
        }
    }
    addresses
}

fn address_in(rtype: Rtype, rdata: &[u8]) -> Option<IpAddr> {
    match rtype {
        Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        Rtype::AAAA => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        _ => None,
    }
}

fn warn_of_plain_records(
    path: &Path,
    zone: &Zone,
    addresses: &BTreeMap<IpAddr, (&str, &str)>,
    findings: &mut Findings,
) {
    if addresses.is_empty() {
        return;
    }
    // A name server has to have an address of its own, and one of several sites' is as good as any.
    let mut found = Vec::new();
    for node in 0..zone.name_count() as u32 {
        for (rtype, length) in [(Rtype::A, 4), (Rtype::AAAA, 16)] {
            let Some(rrset) = zone.rrset(node, rtype) else { continue };
            // Address records are all of one length, and their RDATA is at the end.
            let (octets, _) = zone.piece(rrset.piece());
            let count = usize::from(rrset.piece().record_count()).max(1);
            let of_record =
                |record: &[u8]| address_in(rtype, record.get(record.len().checked_sub(length)?..)?);
            let known = octets.chunks(octets.len() / count).filter_map(of_record).find_map(|address| {
                addresses.get(&address).map(|(service, site)| (address, *service, *site))
            });
            found.extend(known.map(|known| (zone.owner(node), known)));
        }
    }
    for (owner, (address, service, site)) in found.iter().take(MOST_NAMES) {
        let text = format!(
            "{owner} is {address} whether or not site \"{site}\" is up; `service: {service}` instead would fail over"
        );
        findings.note(path, text);
    }
    if let Some(more) = found.len().checked_sub(MOST_NAMES + 1) {
        findings.note(path, format!("{} names more have plain addresses of sites", more + 1));
    }
}

fn warn_of_unknown_countries(services: &[Arc<Service>], databases: &Databases, findings: &mut Findings) {
    let countries = databases.countries();
    let about = databases.about();
    // A database of ASNs alone knows none at all.
    let Some(first) = about.first().filter(|_| !countries.is_empty()) else { return };
    let is_unknown = |country: &Country| {
        !countries.contains(country) && !UNINHABITED.contains(&country.to_string().as_str())
    };
    let unknown: BTreeSet<Country> = Country::all().filter(is_unknown).collect();
    let told = |some: &BTreeSet<Country>| some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    for service in services {
        for rule in &service.rules {
            let unknown: BTreeSet<Country> =
                rule.countries.iter().copied().filter(|country| unknown.contains(country)).collect();
            if !unknown.is_empty() && unknown.len() < rule.countries.len() {
                let text = format!(
                    "no geo database knows a network in {}: for these the rule does nothing; another database, or `subnet:`, may",
                    told(&unknown)
                );
                findings.warning(&rule.at, text);
            }
        }
    }
    if !unknown.is_empty() {
        let text = format!(
            "no network is known in {}: clients there are given the sites in the order as written; another database behind this one may know them",
            told(&unknown)
        );
        findings.note(&first.path, text);
    }
}
