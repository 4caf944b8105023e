//! Other servers' files -> sites, services and zones, and from these YAML as a user would write it.
//!
//! ```text
//!   text -> detect -> master | powerdns | octodns | gdnsd | tinydns -> Imported -> write -> YAML
//! ```
//!
//! Pure functions: each reader is given texts and adds to one [`Imported`]. What meridian cannot say, or says otherwise,
//! is an error among the findings, at the place where it was written; what is merely said elsewhere here is a warning.
//! Nothing is dropped without either.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::finding::{At, Findings};
use crate::wire::{Name, Rtype};
use crate::zone::Records;

mod alpha3;
pub mod detect;
pub mod gdnsd;
pub mod master;
pub mod octodns;
pub mod powerdns;
mod template;
pub mod tinydns;
pub mod vscf;
pub mod write;

/// Types and octets of records, in the order written.
pub type Data = Vec<(Rtype, Vec<u8>)>;

/// Keys of a rule, each with its values.
pub type Conditions = Vec<(&'static str, Vec<String>)>;

/// What was read, whatever it was written in.
#[derive(Debug, Default)]
pub struct Imported {
    /// In the order of need.
    pub sites: Vec<Site>,
    /// Each with a name of its own.
    pub services: Vec<Service>,
    /// In the order written.
    pub zones: Vec<Zone>,
}

/// A place that serves content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Its own among all sites.
    pub name: String,
    /// Latitude and longitude in degrees.
    pub location: Option<(f64, f64)>,
    /// Its records.
    pub records: Data,
}

/// What steered names refer to.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its own among all services.
    pub name: String,
    /// Seconds.
    pub ttl: Option<u32>,
    /// Names of sites, in order of preference.
    pub sites: Vec<String>,
    /// In order.
    pub rules: Vec<Rule>,
    /// All of them are to be passed.
    pub checks: Vec<Check>,
    /// Whether the EDNS client subnet counts.
    pub ecs: bool,
    /// Whether a client whose site lacks the type that is asked for is given nothing, rather than the next site.
    pub same_site: bool,
    /// What is answered when all sites are down; nothing: the client's first site.
    pub last_resort: Data,
}

impl Service {
    /// A service without anything.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Service {
        Service {
            name: name.into(),
            ttl: None,
            sites: Vec::new(),
            rules: Vec::new(),
            checks: Vec::new(),
            ecs: true,
            same_site: false,
            last_resort: Vec::new(),
        }
    }

    /// Adds a rule, and its sites to those of the service. After a rule for everybody there is none.
    pub fn add_rule(&mut self, rule: Rule) {
        for site in &rule.sites {
            if !self.sites.contains(site) {
                self.sites.push(site.clone());
            }
        }
        if !self.is_for_everybody() && !self.rules.iter().any(|known| known.conditions == rule.conditions) {
            self.rules.push(rule);
        }
    }

    /// Whether the last rule takes whoever no other one takes.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        self.rules.last().is_some_and(|rule| rule.conditions.is_empty())
    }
}

/// Who is sent to which sites, and to no others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// All must hold, each with one of its values; none is for everybody.
    pub conditions: Conditions,
    /// Names of sites; without any the answer is NODATA.
    pub sites: Vec<String>,
}

/// How a site's addresses are tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// `http`, `tcp`, ...
    pub kind: &'static str,
    /// What belongs to the kind.
    pub keys: Vec<(&'static str, Vec<String>)>,
    /// Port and times.
    pub times: Vec<(&'static str, String)>,
}

/// A zone.
#[derive(Debug)]
pub struct Zone {
    /// Its name.
    pub apex: Name,
    /// What is static.
    pub records: Records,
    /// What a service answers.
    pub steered: Vec<Steered>,
    /// Owner, type and data of each record.
    known: HashSet<Vec<u8>>,
}

/// A steered owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Steered {
    /// The name, possibly a wildcard.
    pub owner: Name,
    /// The service's name.
    pub service: String,
    /// Seconds, if they are not the service's.
    pub ttl: Option<u32>,
}

impl Zone {
    /// With these records.
    #[must_use]
    pub fn of(apex: Name, records: Records) -> Zone {
        Zone { apex, records, steered: Vec::new(), known: HashSet::new() }
    }

    /// Of SOAs a zone has one, at its apex: others are told, and are not written.
    pub(super) fn tell_of_other_soas(&self, findings: &mut Findings) {
        let mut has_one = false;
        for record in self.records.iter().filter(|record| record.rtype == Rtype::SOA) {
            let is_at_apex = record.owner_name() == self.apex;
            if has_one || !is_at_apex {
                leave_out(findings, &record.at(), format!("SOA: a zone has one, at {}", self.apex));
            }
            has_one |= is_at_apex;
        }
    }

    /// Without records.
    #[must_use]
    pub fn new(apex: Name) -> Zone {
        Zone::of(apex, Records::new())
    }

    /// Adds a record, unless it is there.
    pub fn push(
        &mut self,
        owner: &Name,
        rtype: Rtype,
        ttl: u32,
        octets: &[u8],
        at: &At,
        findings: &mut Findings,
    ) {
        let key = [owner.to_lowercase().wire(), &rtype.0.to_be_bytes()[..], octets].concat();
        if self.known.insert(key) && self.records.push(owner, rtype, ttl, octets, at).is_err() {
            leave_out(findings, at, "more than a record, or a zone, can hold");
        }
    }
}

impl Imported {
    /// The name of a site with these records: the first of `names` that no other site has.
    pub fn site(&mut self, names: [String; 2], location: Option<(f64, f64)>, records: Data) -> String {
        let mut number = 1;
        let numbered = names[1].clone();
        let mut names = names.into_iter();
        loop {
            let name = names.next().unwrap_or_else(|| {
                number += 1;
                format!("{numbered}-{number}")
            });
            match self.sites.iter().find(|site| site.name == name) {
                Some(site) if site.records == records && site.location == location => return name,
                Some(_) => {}
                None => {
                    self.sites.push(Site { name: name.clone(), location, records });
                    return name;
                }
            }
        }
    }

    /// The first of `names` that no service has.
    #[must_use]
    pub fn free_service_name(&self, names: &[String; 2]) -> String {
        let is_free = |name: &String| self.services.iter().all(|service| service.name != *name);
        let numbered = (2..).map(|number| format!("{}-{number}", names[1]));
        let mut candidates = names.iter().cloned().chain(numbered);
        candidates.find(is_free).unwrap_or_default()
    }
}

/// Tells what is not carried over, and why.
pub(super) fn leave_out(findings: &mut Findings, at: &At, why: impl AsRef<str>) {
    findings.error(at, format!("not carried over: {}", why.as_ref()));
}

/// The record that an address is.
pub(super) fn address_record(address: IpAddr) -> (Rtype, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (Rtype::A, address.octets().to_vec()),
        IpAddr::V6(address) => (Rtype::AAAA, address.octets().to_vec()),
    }
}
