//! All that `meridian status` tells, put together once: for people, for programs, and for metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{LastReload, Reply, findings_as_json, outcome_name, seconds_since_1970};
use crate::change::content::Digest;
use crate::config::Config;
use crate::finding::Findings;
use crate::geo::read::About;
use crate::health::board::{Board, Share, Verdict};
use crate::health::events::{self, Event};
use crate::health::overrides::Override;
use crate::health::spill;
use crate::health::tries::Tries;
use crate::health::{self, Held, Loaded};
use crate::nameserver::counters::Totals;
use crate::nameserver::limit::Deed;
use crate::nameserver::{NoSite, Transport};
use crate::observe::tally::OfService;
use crate::observe::{countries, query_log};
use crate::policy::rate_limit::Level;
use crate::reload::{Outcome, ZoneStatus};
use crate::site::Service;
use crate::snapshot::Snapshot;

/// All that `status` is made of.
pub struct Status<'a> {
    /// Since the start.
    pub uptime: Duration,
    /// What is served.
    pub snapshot: &'a Snapshot,
    /// And how its sites are.
    pub board: &'a Board,
    /// The snapshot's services, in its order.
    pub services: &'a [Arc<Service>],
    /// Its zones.
    pub zones: Vec<ZoneStatus>,
    /// What is checked.
    pub checks: Vec<health::Status>,
    /// What became of all attempts.
    pub tries: Tries,
    /// Of all that the snapshot was made of.
    pub digest: Digest,
    /// The earlier snapshot that is served instead of the files.
    pub rollback: Option<u64>,
    /// What operators said.
    pub overrides: Vec<Override>,
    /// What guards hold.
    pub held: Vec<Held>,
    /// What sites say of their load.
    pub loads: Vec<Loaded>,
    /// Whether all canaries fail; none where there are none.
    pub is_isolated: Option<bool>,
    /// What happened last, and how much did of each kind since the start.
    pub events: (Vec<Event>, [u64; events::Kind::ALL.len()]),
    /// The geo databases.
    pub databases: &'a [About],
    /// What was counted.
    pub totals: Totals,
    /// Answers by service, in the snapshot's order.
    pub answers: Vec<OfService>,
    /// What became of sampled queries, where any are.
    pub query_log: Option<query_log::Counts>,
    /// Answers by country, where they are counted.
    pub countries: Option<countries::Totals>,
    /// Messages that cost their own answer.
    pub panics: u64,
    /// What each thread that listens counted besides, by its name.
    pub transports: Vec<(String, Vec<(&'static str, u64)>)>,
    /// Reloads since the start, by outcome.
    pub reloads: [u64; Outcome::ALL.len()],
    /// The last of them.
    pub last_reload: Option<&'a LastReload>,
    /// When the snapshot was taken over.
    pub taken_over: SystemTime,
    /// Of the last reload.
    pub findings: &'a Findings,
    /// Where it listens.
    pub listen: &'a [SocketAddr],
    /// What it was told.
    pub config: &'a Config,
}

impl Status<'_> {
    /// Whether what is served is less than what was meant to be.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.databases.is_empty()
            || self.zones.iter().any(|zone| state_of(zone) != "good")
            || self.last_reload.is_some_and(|last| last.outcome == Outcome::TookNothing)
    }
}

/// How the server is.
#[must_use]
pub fn status_reply(status: &Status<'_>) -> Reply {
    let size = status.snapshot.catchments().size();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": status.uptime.as_secs(),
        "listen": status.listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
        "zones_folder": status.config.zones.display().to_string(),
        "snapshot": status.snapshot.number(),
        "digest": status.digest,
        "rollback": status.rollback,
        "zones": status.zones.iter().map(zone_as_json).collect::<Vec<_>>(),
        "services": status.snapshot.services().iter().enumerate()
            .map(|(index, _)| service_as_json(status, index)).collect::<Vec<_>>(),
        "overrides": status.overrides.iter().map(override_as_json).collect::<Vec<_>>(),
        "isolated": status.is_isolated,
        "events": status.events.0.iter().map(event_as_json).collect::<Vec<_>>(),
        "event_counts": events::Kind::ALL.iter().zip(status.events.1)
            .map(|(kind, count)| (kind.name().to_owned(), json!(count)))
            .collect::<serde_json::Map<_, _>>(),
        "checks": status.checks.iter().map(check_as_json).collect::<Vec<_>>(),
        "geodb": status.databases.iter().map(|about| json!({
            "file": about.path.display().to_string(),
            "kind": about.kind,
            "build_epoch": about.build_epoch,
        })).collect::<Vec<_>>(),
        "degraded": status.is_degraded(),
        "catchments": {
            "ipv4_ranges": size.v4_ranges,
            "ipv6_ranges": size.v6_ranges,
            "rankings": size.rankings,
            "octets": size.octets,
        },
        "counters": counters_as_json(status),
        "transports": status.transports.iter()
            .map(|(name, counts)| {
                let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
                (name.clone(), Value::Object(counts))
            })
            .collect::<serde_json::Map<_, _>>(),
        "reloads": {
            "unchanged": status.reloads[Outcome::Unchanged as usize],
            "took_all": status.reloads[Outcome::TookAll as usize],
            "kept_some": status.reloads[Outcome::KeptSome as usize],
            "took_nothing": status.reloads[Outcome::TookNothing as usize],
            "held": status.reloads[Outcome::Held as usize],
            "taken_over": seconds_since_1970(status.taken_over),
            "last": status.last_reload.map(|last| json!({
                "at": seconds_since_1970(last.at),
                "why": last.cause.why,
                "by": last.cause.by,
                "reason": last.cause.reason,
                "outcome": outcome_name(last.outcome),
            })),
        },
        "query_log": status.query_log.zip(status.config.query_log.as_ref()).map(|(counts, log)| json!({
            "file": log.file.display().to_string(),
            "written": counts.written,
            "unwritten": counts.unwritten,
            "lost": counts.lost,
        })),
        "answers_by_country": status.countries.as_ref().map(|totals| json!({
            "sample": totals.every,
            "countries": totals.countries.iter().map(|(code, count)| (code.clone(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "unknown": totals.unknown,
            "lost": totals.lost,
        })),
        "findings": findings_as_json(status.findings),
    })
}

/// Responses that were one too many, by whose rate was used up.
fn by_level(totals: &Totals, deed: Deed) -> Value {
    let counts = totals.limited[deed as usize];
    Level::ALL.iter().zip(counts).map(|(level, count)| (level.name().to_owned(), json!(count))).collect()
}

/// How a zone is, in a word.
#[must_use]
pub fn state_of(zone: &ZoneStatus) -> &'static str {
    match zone {
        ZoneStatus { serial: None, .. } => "broken",
        ZoneStatus { is_kept: true, .. } => "kept",
        _ => "good",
    }
}

fn zone_as_json(zone: &ZoneStatus) -> Value {
    let state = state_of(zone);
    json!({ "name": zone.name.to_string(), "serial": zone.serial, "names": zone.names, "state": state })
}

fn service_as_json(status: &Status<'_>, index: usize) -> Value {
    let compiled = &status.snapshot.services()[index];
    let answers = &status.answers[index];
    let sites: Vec<Value> = compiled
        .sites
        .iter()
        .enumerate()
        .map(|(number, site)| {
            let addresses = compiled.addresses(number as u16);
            let verdict = |slot: u32| status.board.verdict(slot);
            let up = addresses.iter().filter(|address| verdict(address.verdict).is_served()).count();
            let name = &status.board.layout().shares[site.share as usize].site;
            let held = status.held.iter().find(|held| held.service == compiled.name && held.site == *name);
            let loaded =
                status.loads.iter().find(|loaded| loaded.service == compiled.name && loaded.site == *name);
            let targets = &status.board.layout().targets;
            json!({
                "site": name,
                "addresses": addresses.len(),
                "up": up,
                "verdicts": addresses.iter()
                    .map(|address| (targets[address.verdict as usize].address, verdict(address.verdict)))
                    .map(|(address, verdict): (_, Verdict)| (address.to_string(), json!(verdict.to_string())))
                    .collect::<serde_json::Map<_, _>>(),
                "held": held.map(|held| held.hold.to_string()),
                "answers": answers.sites[number],
                "share": f64::from(status.board.share(site.share).0) / f64::from(Share::FULL.0),
                "load": loaded.map(|loaded| loaded.load),
                "shed": loaded.map(|loaded| loaded.shed),
                "price_km": compiled.spills.then(|| spill::in_km(status.board.price(site.share))),
            })
        })
        .collect();
    let checked = status.services.get(index).is_some_and(|service| !service.checks.is_empty());
    let without = NoSite::ALL.iter().zip(answers.without);
    let without: Value = without.map(|(why, count)| (why.name().to_owned(), json!(count))).collect();
    json!({ "name": compiled.name, "checked": checked, "sites": sites, "answers_without_site": without })
}

fn counters_as_json(status: &Status<'_>) -> Value {
    let totals = status.totals;
    json!({
        "udp_queries": totals.queries[Transport::Udp as usize],
        "tcp_queries": totals.queries[Transport::Tcp as usize],
        "tls_queries": totals.queries[Transport::Tls as usize],
        "https_queries": totals.queries[Transport::Https as usize],
        "quic_queries": totals.queries[Transport::Quic as usize],
        "dropped": totals.dropped,
        "truncated": totals.truncated,
        "would_amplify": totals.would_amplify,
        "client_subnets": totals.client_subnets,
        "steered": totals.steered,
        "trailing_octets": totals.trailing_octets,
        "with_records": totals.with_records,
        "cookies": totals.cookies,
        "proven_cookies": totals.proven_cookies,
        "panics": status.panics,
        "noerror": totals.rcodes[0],
        "formerr": totals.rcodes[1],
        "servfail": totals.rcodes[2],
        "nxdomain": totals.rcodes[3],
        "notimp": totals.rcodes[4],
        "refused": totals.rcodes[5],
        "yxdomain": totals.rcodes[6],
        "notauth": totals.rcodes[9],
        "badvers": totals.rcodes[16],
        "badcookie": totals.rcodes[17],
        "limited_truncated": by_level(&totals, Deed::Truncated),
        "limited_dropped": by_level(&totals, Deed::Dropped),
        "would_have_limited": by_level(&totals, Deed::Nothing),
    })
}

/// For programs, and for who watches.
#[must_use]
pub fn event_as_json(event: &Event) -> Value {
    json!({ "at": seconds_since_1970(event.at), "kind": event.kind.name(), "text": event.text })
}

fn override_as_json(standing: &Override) -> Value {
    json!({
        "site": standing.site,
        "service": standing.service,
        "what": standing.deed.name(),
        "since": standing.since / 1000,
        "until": standing.until.map(|until| until / 1000),
        "reason": standing.reason,
        "by": standing.by,
    })
}

fn check_as_json(check: &health::Status) -> Value {
    json!({
        "address": check.address.to_string(),
        "port": check.check.port,
        "verdict": check.verdict.to_string(),
        "kind": check.check.kind.to_string(),
        "since": seconds_since_1970(check.since),
        "last": check.last,
        "rtt_ms": check.took.map(|took| took.as_micros() as f64 / 1000.0),
        "last_error": check.last_error.as_ref().map(|(at, text)| json!({
            "at": seconds_since_1970(*at),
            "text": text,
        })),
        "certificate_expires": check.certificate_expires.map(seconds_since_1970),
    })
}
