//! `rules:` as written -> [`Rule`]s as meant.

use std::collections::HashMap;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::finding::{At, Findings, did_you_mean};
use crate::geo::country::code_hint;
use crate::geo::special::{Embedded, embedded};
use crate::geo::{Continent, Country};
use crate::site::read::Shared;
use crate::site::{Rule, RuleAction};
use crate::yaml::{Mapping, Node};

/// The sites of a service, for its rules to name.
pub(super) struct Members<'a> {
    pub(super) index: HashMap<&'a str, u16>,
    /// All that there are.
    pub(super) shared: &'a Shared,
}

const RULE_KEYS: [&str; 9] =
    ["subnet", "asn", "country", "continent", "subdivision", "else", "sites", "only", "deny"];

pub(super) fn read_rules(node: &Node, sites: &Members<'_>, findings: &mut Findings) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut ended: Option<At> = None;
    for item in node.items() {
        if let Some(rule) = read_rule(item, sites, findings) {
            if let Some(end) = &ended {
                let text =
                    format!("this rule can never match: the one in line {} matches everybody", end.line);
                findings.error(&rule.at, text);
            }
            let matches_everybody = rule.subnets.is_empty()
                && rule.asns.is_empty()
                && rule.countries.is_empty()
                && rule.continents.is_empty()
                && rule.subdivisions.is_empty();
            if matches_everybody {
                ended = Some(rule.at.clone());
            }
            rules.push(rule);
        }
    }
    rules
}

fn read_rule(node: &Node, sites: &Members<'_>, findings: &mut Findings) -> Option<Rule> {
    let mapping = node.mapping("a rule such as { country: [NO], sites: [osl] }", findings)?;
    mapping.know_only(&RULE_KEYS, findings);
    let errors_before = findings.iter().count();
    let rule = Rule {
        subnets: read_list(&mapping, "subnet", read_subnet, findings),
        asns: read_list(&mapping, "asn", read_asn, findings),
        countries: read_list(&mapping, "country", read_country, findings),
        continents: read_list(&mapping, "continent", read_continent, findings),
        subdivisions: read_list(&mapping, "subdivision", read_subdivision, findings),
        action: read_action(&mapping, sites, findings)?,
        at: node.at.clone(),
    };
    let selects = ["subnet", "asn", "country", "continent", "subdivision"];
    let is_selective = selects.iter().any(|key| mapping.get(key).is_some());
    let is_else = mapping.get("else").map(|node| (node, node.boolean(findings)));
    match is_else {
        Some((node, _)) if is_selective => {
            findings.error(&node.at, "else: true stands without other conditions");
        }
        Some((node, Some(false))) => findings.error(&node.at, "else: can only be true"),
        None if !is_selective => {
            findings.error(
                &node.at,
                "a rule needs a condition: subnet, asn, country, continent, subdivision, or else: true",
            );
        }
        _ => {}
    }
    // A rule that lost a condition would match too many.
    (findings.iter().count() == errors_before).then_some(rule)
}

fn read_list<T>(
    mapping: &Mapping<'_>,
    key: &str,
    read: impl Fn(&Node, &mut Findings) -> Option<T>,
    findings: &mut Findings,
) -> Vec<T> {
    let Some(node) = mapping.get(key) else { return Vec::new() };
    if node.items().is_empty() {
        findings.error(&node.at, format!("{key}: an empty list matches nobody; leave the key out"));
    }
    node.items().iter().filter_map(|item| read(item, findings)).collect()
}

fn read_subnet(node: &Node, findings: &mut Findings) -> Option<IpNetwork> {
    let text = node.text("a subnet such as 203.0.113.0/24", findings)?;
    let Ok(network) = text.parse::<IpNetwork>() else {
        findings.error(&node.at, format!("\"{text}\" is no subnet such as 203.0.113.0/24 or 2001:db8::/32"));
        return None;
    };
    if let IpNetwork::V6(v6) = network
        && let Some((form, instead)) = within_embedded(v6)
    {
        let text = format!("\"{text}\" is {form}, whose clients are known by their IPv4 address{instead}");
        findings.error(&node.at, text);
        return None;
    }
    if network.ip() != network.network() {
        let text = format!(
            "\"{text}\" has bits beyond its length; {}/{} was meant?",
            network.network(),
            network.prefix()
        );
        findings.error(&node.at, text);
        return None;
    }
    Some(network)
}

/// What a subnet of addresses that embed IPv4 ones is (meaning 2), and what to write instead.
fn within_embedded(network: Ipv6Network) -> Option<(&'static str, String)> {
    let Embedded { address, offset } = embedded(network.network())?;
    let (form, length_of_form) = match network.network().segments() {
        [0x64, ..] => ("of NAT64", 96),
        [0x2002, ..] => ("of 6to4", 16),
        [0x2001, ..] => ("of Teredo", 32),
        [_, _, _, _, 0xffff, ..] => ("of SIIT", 96),
        _ => ("of IPv4-mapped addresses", 96),
    };
    // A shorter prefix covers more than the form.
    if network.prefix() < length_of_form {
        return None;
    }
    let given =
        network.prefix().checked_sub(offset).and_then(|length| Ipv4Network::new(address, length).ok());
    let instead =
        given.map_or_else(String::new, |given| format!("; write {}/{}", given.network(), given.prefix()));
    Some((form, instead))
}

fn read_asn(node: &Node, findings: &mut Findings) -> Option<u32> {
    let text = node.text("an AS number such as 64500", findings)?;
    let number = text.strip_prefix("AS").unwrap_or(text).parse().ok();
    if number.is_none() {
        findings.error(&node.at, format!("\"{text}\" is no AS number such as 64500"));
    }
    number
}

fn read_country(node: &Node, findings: &mut Findings) -> Option<Country> {
    let text = node.text("a country such as NO", findings)?;
    let country = Country::from_code(text);
    if country.is_none() {
        findings.error(&node.at, format!("unknown country \"{text}\"{}", code_hint(text)));
    }
    country
}

fn read_continent(node: &Node, findings: &mut Findings) -> Option<Continent> {
    let text = node.text("a continent such as EU", findings)?;
    let continent = Continent::from_code(text);
    if continent.is_none() {
        let codes = Continent::CODES.join(", ");
        findings.error(&node.at, format!("unknown continent \"{text}\"; there are {codes}"));
    }
    continent
}

fn read_subdivision(node: &Node, findings: &mut Findings) -> Option<String> {
    node.text("a subdivision such as US-CA", findings).map(str::to_owned)
}

fn read_action(mapping: &Mapping<'_>, sites: &Members<'_>, findings: &mut Findings) -> Option<RuleAction> {
    let deny = mapping.get("deny").map(|node| node.boolean(findings)).unwrap_or(Some(false))?;
    let only = mapping.get("only").map(|node| node.boolean(findings)).unwrap_or(Some(false))?;
    match (mapping.get("sites"), deny) {
        (None, true) => Some(RuleAction::Deny),
        (Some(node), true) => {
            findings.error(&node.at, "deny: true gives no sites");
            None
        }
        (None, false) => {
            findings.error(mapping.at, "a rule needs sites: [...] or deny: true");
            None
        }
        (Some(node), false) => {
            let mut chosen = Vec::new();
            for item in node.items() {
                let Some(name) = item.text("a site's name", findings) else { continue };
                match sites.index.get(name) {
                    Some(site) if chosen.contains(site) => {
                        findings.error(&item.at, format!("site \"{name}\" stands here twice"));
                    }
                    Some(site) => chosen.push(*site),
                    // Told where it stands.
                    None if sites.shared.broken(name).is_some() => {}
                    None => {
                        let elsewhere = sites.shared.sites.iter().find(|site| site.name == name);
                        let hint = match elsewhere {
                            Some(site) => {
                                format!("; it is written at {}, but not among the service's sites:", site.at)
                            }
                            None => did_you_mean(name, sites.index.keys().copied()),
                        };
                        findings.error(&item.at, format!("the service has no site \"{name}\"{hint}"));
                    }
                }
            }
            if chosen.is_empty() {
                if node.items().is_empty() {
                    findings.error(&node.at, "sites: at least one is expected");
                }
                return None;
            }
            Some(RuleAction::Sites { sites: chosen, only })
        }
    }
}
