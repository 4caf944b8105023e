//! Which rule of a service speaks for a client.

use ipnetwork::IpNetwork;

use crate::geo::Place;
use crate::site::{Rule, Service};

/// The first rule that matches, in the order written. `is_in` tells whether the client's address lies in a subnet.
#[must_use]
pub fn first_match(service: &Service, place: &Place, is_in: impl Fn(&IpNetwork) -> bool) -> Option<usize> {
    service.rules.iter().position(|rule| matches(rule, place, &is_in))
}

/// The keys of a rule are all to hold, of a list one item; an empty list asks for nothing.
fn matches(rule: &Rule, place: &Place, is_in: &impl Fn(&IpNetwork) -> bool) -> bool {
    any_or_empty(&rule.subnets, is_in)
        && any_or_empty(&rule.asns, |asn| place.asn == Some(*asn))
        && any_or_empty(&rule.countries, |country| place.country == Some(*country))
        && any_or_empty(&rule.continents, |continent| place.continent() == Some(*continent))
        && any_or_empty(&rule.subdivisions, |subdivision| is_subdivision(subdivision, place))
}

fn any_or_empty<T>(list: &[T], holds: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(holds)
}

/// `US-CA` names country and subdivision (ISO 3166-2); without a hyphen after two letters it is the
/// subdivision alone, by code or by name as the database has it.
fn is_subdivision(wanted: &str, place: &Place) -> bool {
    let Some(subdivision) = &place.subdivision else { return false };
    if subdivision.eq_ignore_ascii_case(wanted) {
        return true;
    }
    match (wanted.split_once('-'), place.country) {
        (Some((country, code)), Some(here)) => {
            here.to_string().eq_ignore_ascii_case(country) && subdivision.eq_ignore_ascii_case(code)
        }
        _ => false,
    }
}
