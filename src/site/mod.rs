//! Sites, services and what is preferred for whom: as meant, after the files were read.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;

use crate::finding::At;
use crate::geo::{Continent, Coordinates, Country};
use crate::wire::Rtype;

pub mod checks;
pub mod compile;
pub mod cost;
pub mod read;
pub mod rules;

pub use checks::{
    Check, CheckKind, DnsCheck, ExecCheck, FileCheck, HttpCheck, LoadCheck, LoadSource, TlsCheck,
};

/// A place that serves the user's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// As the user wrote it.
    pub name: String,
    /// Where it stands; without it no distance can be told and it comes after those that have one.
    pub location: Option<Coordinates>,
    /// Its records by type.
    pub rrsets: Vec<SiteRrset>,
    /// Its part among sites that share (`near`), 0 to 65535.
    pub weight: u16,
    /// What it has room for, above 0, in whatever unit the service's sites agree on.
    pub capacity: Option<f64>,
    /// Kilometres added to every distance to it.
    pub handicap_km: f64,
    /// Free words that rules and commands may name.
    pub tags: Vec<String>,
    /// When it is to take no clients.
    pub maintenance: Vec<Window>,
    /// Where it was written.
    pub at: At,
}

/// A time in which a site is drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// From when on.
    pub from: SystemTime,
    /// Until when; it is over then.
    pub until: SystemTime,
    /// Over how long its share goes, from the beginning on.
    pub over: Duration,
    /// For people.
    pub reason: String,
}

impl Window {
    /// Which part of its clients the site takes; all outside of the window.
    #[must_use]
    pub fn share(&self, now: SystemTime) -> f64 {
        match now.duration_since(self.from) {
            Ok(_) if now >= self.until => 1.0,
            Ok(since) if since < self.over => 1.0 - since.as_secs_f64() / self.over.as_secs_f64(),
            Ok(_) => 0.0,
            Err(_) => 1.0,
        }
    }
}

/// All records of one type at one site.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteRrset {
    /// A, AAAA, HTTPS, CNAME, ...
    pub rtype: Rtype,
    /// In wire format, in the order written.
    pub rdatas: Vec<Box<[u8]>>,
}

/// What a steered name refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// As the user wrote it; a zone's own services carry the zone's name behind an `@`.
    pub name: String,
    /// Seconds, of steered RRsets whose owner sets none: the first while something is about to change, the last in calm.
    pub ttl: RangeInclusive<u32>,
    /// In the order written. Everything else speaks of sites by their index here.
    pub sites: Vec<Arc<Site>>,
    /// What every address of every site is tried with.
    pub checks: Vec<Check>,
    /// How many of the checks an address must pass; 0 where there are none.
    pub need: u16,
    /// First match wins, before distance.
    pub rules: Vec<Rule>,
    /// How many sites an answer holds, from 1.
    pub sites_per_answer: u8,
    /// Sites about as close as the nearest share its clients.
    pub near: Option<Near>,
    /// Whether clients go to other sites where theirs has no room, those first for whom that is least farther.
    pub spill: bool,
    /// What all clients together ask for, in the unit of capacities; unknown, so much that the fullest site just has room for its own.
    pub demand: Option<f64>,
    /// Whether the client subnet option is used; if not, always the source address.
    pub ecs: bool,
    /// What is answered when no site is eligible.
    pub all_down: AllDown,
    /// Whether a nearest site that lacks the asked type means NODATA rather than the next site.
    pub same_site: bool,
    /// How many addresses of a type must be up for a site to count.
    pub min_up: MinUp,
    /// What keeps checks from taking too much of it away.
    pub guards: Guards,
    /// Over how long a site that comes back takes its clients back; zero: at once.
    pub slow_start: Duration,
    /// Where it was written.
    pub at: At,
}

impl Service {
    /// The longest that it takes until an address that dies is no longer given out, as far as this server has a say: the time
    /// to tell. None where nothing is checked.
    ///
    /// As many checks must fail as make `need` impossible; each takes `fall` attempts, the first of which begins up to `every`
    /// after the death, and the last of which may take all of its time.
    #[must_use]
    pub fn detection(&self) -> Option<Duration> {
        let mut times: Vec<Duration> =
            self.checks.iter().map(|check| check.every * u32::from(check.fall) + check.timeout).collect();
        times.sort_unstable();
        times.get(self.checks.len().checked_sub(usize::from(self.need))?).copied()
    }

    /// The longest that it takes until nobody goes to an address that died: [`detection`](Service::detection), and all of the
    /// TTL for a resolver that asked just before. `longest_ttl` is in seconds. None where nothing is checked.
    #[must_use]
    pub fn last_client(&self, longest_ttl: u32) -> Option<Duration> {
        Some(self.detection()? + Duration::from_secs(longest_ttl.into()))
    }
}

/// What keeps checks from taking too many sites of a service away (meaning 9).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guards {
    /// How much may leave in how short a time.
    pub blast_radius: Option<BlastRadius>,
    /// When fewer than this part of the sites are up, all of them are given out again.
    pub panic: Option<f64>,
}

/// How much of a service may leave in how short a time. One site always may.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlastRadius {
    /// A part of its sites, rounded up.
    pub most: f64,
    /// Counted over this long.
    pub within: Duration,
}

impl Default for Guards {
    fn default() -> Guards {
        let within = Duration::from_secs(600);
        Guards { blast_radius: Some(BlastRadius { most: 0.5, within }), panic: None }
    }
}

/// How many addresses must be up for a site to count, by their type: each from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinUp {
    /// Of type A.
    pub v4: u8,
    /// Of type AAAA.
    pub v6: u8,
}

impl MinUp {
    /// The same of both.
    #[must_use]
    pub fn of_both(count: u8) -> MinUp {
        MinUp { v4: count, v6: count }
    }
}

/// How close to the nearest a site must be to share its clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Near {
    /// Its cost at most this many kilometres above the nearest one's.
    Kilometres(f64),
    /// Its cost at most this fraction above the nearest one's (0.1 for `10%`).
    Fraction(f64),
}

/// What is answered when no site is eligible (meaning 9).
#[derive(Clone, Debug, PartialEq)]
pub enum AllDown {
    /// The client's first site, its whole RRset.
    Preferred,
    /// Every site's whole RRset.
    All,
    /// These records.
    LastResort(Vec<SiteRrset>),
    /// NODATA.
    NoData,
    /// SERVFAIL.
    ServFail,
}

/// One rule of a service: who it is for, and what they get.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Empty lists do not constrain; the others must each contain the client's.
    pub subnets: Vec<IpNetwork>,
    /// Autonomous system numbers.
    pub asns: Vec<u32>,
    /// Countries.
    pub countries: Vec<Country>,
    /// Continents.
    pub continents: Vec<Continent>,
    /// Subdivisions, as `US-CA` or, within the rule's countries, `CA`; compared without regard to case.
    pub subdivisions: Vec<String>,
    /// What a match means. A rule with all lists empty is `else: true` and matches everybody.
    pub action: RuleAction,
    /// Where it was written.
    pub at: At,
}

/// What a rule gives.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleAction {
    /// These sites first (indexes into the service's), and no others when `only`.
    Sites {
        /// In order of preference.
        sites: Vec<u16>,
        /// Whether the rest may follow.
        only: bool,
    },
    /// NODATA.
    Deny,
}
