//! The server's status as metrics for Prometheus. Names and labels are a promise: dashboards and alarms are built on them.
//!
//! Labels are what the operator wrote and what this program knows, never what a client sent; so the page is as long as the
//! configuration. It says what `meridian status` says, for it is made of the same.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::page::{Kind, Page};
use super::process::Process;
use crate::control::{self, Status};
use crate::health::board::{Share, Verdict};
use crate::health::{events, spill, tries};
use crate::nameserver::limit::Deed;
use crate::nameserver::response::Rcode;
use crate::nameserver::{NoSite, Transport};
use crate::policy::rate_limit::Level;
use crate::reload::Outcome;
use crate::site::checks::CheckKind;
use crate::wire::message::rcode_name;

use Kind::{Counter, Gauge, Histogram};

/// From here on zones' serials are left out: a page of a hundred thousand lines helps nobody.
pub const MOST_SERIALS: usize = 1000;

/// RCODEs that are always told, so that each one's first is seen as a step from 0.
const COMMON_RCODES: [u16; 10] = [0, 1, 2, 3, 4, 5, 6, 9, 16, 23];

/// All of it.
#[must_use]
pub fn render(status: &Status<'_>, process: &Process) -> String {
    let mut page = Page::default();
    tell_of_queries(&mut page, status);
    tell_of_services(&mut page, status);
    tell_of_checks(&mut page, status);
    tell_of_certificates(&mut page, status);
    tell_of_threads(&mut page, status);
    tell_of_what_is_served(&mut page, status);
    tell_of_countries(&mut page, status);
    tell_of_the_query_log(&mut page, status);
    tell_of_the_process(&mut page, process);
    page.into_text()
}

fn tell_of_queries(page: &mut Page, status: &Status<'_>) {
    let totals = &status.totals;
    let mut family = page.family("meridian_queries_total", Counter, "Messages that came, by transport.");
    for (transport, count) in Transport::ALL.iter().zip(totals.queries) {
        family.sample(&[("transport", transport.name())], count);
    }
    let mut family = page.family("meridian_responses_total", Counter, "Responses that were sent, by RCODE.");
    for (rcode, count) in (0..16).chain([Rcode::BADVERS.0, Rcode::BADCOOKIE.0]).zip(totals.rcodes) {
        if count > 0 || COMMON_RCODES.contains(&rcode) {
            family.sample(&[("rcode", &rcode_name(rcode))], count);
        }
    }
    let plain = [
        (
            "meridian_queries_dropped_total",
            "Messages that got no response: less than a header, or themselves responses.",
            totals.dropped,
        ),
        (
            "meridian_queries_with_trailing_octets_total",
            "Queries that went on after their last record.",
            totals.trailing_octets,
        ),
        (
            "meridian_queries_with_records_total",
            "Queries with records in their answer or authority section.",
            totals.with_records,
        ),
        ("meridian_responses_truncated_total", "Responses with TC.", totals.truncated),
        (
            "meridian_responses_would_amplify_total",
            "Negative responses that had TC and nothing else, for they would be more than three times as long as their query.",
            totals.would_amplify,
        ),
        (
            "meridian_responses_with_client_subnet_total",
            "Responses that echo an EDNS client subnet.",
            totals.client_subnets,
        ),
        ("meridian_responses_steered_total", "Responses that a service chose.", totals.steered),
        (
            "meridian_answer_panics_total",
            "Failures of the server's own that cost one answer each.",
            status.panics,
        ),
    ];
    for (name, help, count) in plain {
        page.family(name, Counter, help).sample(&[], count);
    }
    let help = "Queries with a DNS cookie, by whether it proved the client's address.";
    let mut family = page.family("meridian_queries_with_cookie_total", Counter, help);
    family.sample(&[("cookie", "proven")], totals.proven_cookies);
    family.sample(&[("cookie", "unproven")], totals.cookies.saturating_sub(totals.proven_cookies));
    let help = "Responses that were one too many, by what was done and whose rate was used up.";
    let mut family = page.family("meridian_rate_limited_total", Counter, help);
    for (deed, name) in
        [(Deed::Dropped, "dropped"), (Deed::Truncated, "truncated"), (Deed::Nothing, "would_have")]
    {
        for (level, count) in Level::ALL.iter().zip(totals.limited[deed as usize]) {
            family.sample(&[("deed", name), ("level", level.name())], count);
        }
    }
}

fn tell_of_services(page: &mut Page, status: &Status<'_>) {
    let services = || status.snapshot.services().iter().zip(&status.answers);
    let name_of = |share: u32| status.board.layout().shares[share as usize].site.as_str();
    let help = "Answers by service and site; of several sites in one answer the first counts.";
    let mut family = page.family("meridian_answers_total", Counter, help);
    for (service, answers) in services() {
        for (site, count) in service.sites.iter().zip(&answers.sites) {
            family.sample(&[("service", &service.name), ("site", name_of(site.share))], count);
        }
    }
    let help = "Answers of services that gave no site, by why.";
    let mut family = page.family("meridian_answers_without_site_total", Counter, help);
    for (service, answers) in services() {
        for (why, count) in NoSite::ALL.iter().zip(answers.without) {
            family.sample(&[("service", &service.name), ("reason", why.name())], count);
        }
    }
    let help = "How much of its clients a site takes: 0 is drained, 1 is all.";
    let mut family = page.family("meridian_site_share_ratio", Gauge, help);
    for (service, _) in services() {
        for site in &service.sites {
            let share = f64::from(status.board.share(site.share).0) / f64::from(Share::FULL.0);
            family.sample(&[("service", &service.name), ("site", name_of(site.share))], share);
        }
    }
    let help = "Metres that count besides the distance to a site while it is full, in services that spill; 0 while there is room.";
    let mut family = page.family("meridian_site_price_metres", Gauge, help);
    for (service, _) in services().filter(|(service, _)| service.spills) {
        for site in &service.sites {
            // In base units, as promtool wants it.
            let price = 1000.0 * spill::in_km(status.board.price(site.share));
            family.sample(&[("service", &service.name), ("site", name_of(site.share))], price);
        }
    }
    let help = "What a site said last of its load, in parts of its capacity.";
    let mut family = page.family("meridian_site_load_ratio", Gauge, help);
    for loaded in &status.loads {
        family.sample(&[("service", &loaded.service), ("site", &loaded.site)], loaded.load);
    }
    let help = "The part of its clients that a site is relieved of, for it said that it has too much.";
    let mut family = page.family("meridian_site_shed_ratio", Gauge, help);
    for loaded in &status.loads {
        family.sample(&[("service", &loaded.service), ("site", &loaded.site)], loaded.shed);
    }
    tell_of_verdicts(page, status);
    tell_of_overrides(page, status);
}

/// Of addresses that are checked, or of which an operator said something.
fn tell_of_verdicts(page: &mut Page, status: &Status<'_>) {
    let targets = &status.board.layout().targets;
    let mut seen = HashSet::new();
    let mut told = Vec::new();
    for service in status.snapshot.services() {
        for (number, site) in service.sites.iter().enumerate() {
            for record in service.addresses(number as u16) {
                let Some(target) = targets.get(record.verdict as usize) else { continue };
                let verdict = status.board.verdict(record.verdict);
                let is_judged = !target.checks.is_empty() || verdict != Verdict::Unknown;
                if is_judged && seen.insert((site.share, target.address)) {
                    told.push((&status.board.layout().shares[site.share as usize], target.address, verdict));
                }
            }
        }
    }
    let mut family = |name, help, is_so: fn(Verdict) -> bool| {
        let mut family = page.family(name, Gauge, help);
        for (of, address, verdict) in &told {
            let labels =
                [("service", of.service.as_str()), ("site", &of.site), ("address", &address.to_string())];
            family.sample(&labels, u8::from(is_so(*verdict)));
        }
    };
    let help = "1 while an address that is checked is given out, 0 while it is down. Unknown is 1, and told apart below.";
    family("meridian_address_up", help, Verdict::is_served);
    let help = "1 while nothing is known of an address that is checked, through trouble of this machine or before its first check.";
    family("meridian_address_unknown", help, |verdict| verdict == Verdict::Unknown);
}

/// What stands between checks and answers: operators' words and guards.
fn tell_of_overrides(page: &mut Page, status: &Status<'_>) {
    let help =
        "1 for each site that an operator drained or forced; of all services where the label is empty.";
    let mut family = page.family("meridian_override", Gauge, help);
    for standing in &status.overrides {
        let service = standing.service.as_deref().unwrap_or_default();
        family.sample(&[("service", service), ("site", &standing.site), ("what", standing.deed.name())], 1);
    }
    let help = "1 for each site that is down and given out all the same, by the guard that holds it.";
    let mut family = page.family("meridian_site_held", Gauge, help);
    for held in &status.held {
        let guard = held.hold.to_string();
        family.sample(&[("service", &held.service), ("site", &held.site), ("guard", &guard)], 1);
    }
    let help = "1 while all canaries fail, and no site leaves. Nothing where there are none.";
    let mut family = page.family("meridian_isolated", Gauge, help);
    if let Some(is_isolated) = status.is_isolated {
        family.sample(&[], u8::from(is_isolated));
    }
    let help =
        "What happened since the start, by kind: verdicts that changed, guards that acted, orders, alarms.";
    let mut family = page.family("meridian_events_total", Counter, help);
    for (kind, count) in events::Kind::ALL.iter().zip(status.events.1) {
        family.sample(&[("kind", kind.name())], count);
    }
}

fn tell_of_checks(page: &mut Page, status: &Status<'_>) {
    let kinds = || CheckKind::NAMES.iter().zip(&status.tries.0);
    let help =
        "Attempts of checks, by kind and by what became of them; local_trouble is none of the site's fault.";
    let mut family = page.family("meridian_check_attempts_total", Counter, help);
    for (kind, tries) in kinds() {
        for (result, count) in tries::RESULTS.iter().zip(tries.results) {
            family.sample(&[("kind", kind), ("result", result)], count);
        }
    }
    let help = "How long attempts of checks took.";
    let mut family = page.family("meridian_check_duration_seconds", Histogram, help);
    let bounds = tries::BOUNDS.map(|milliseconds| (milliseconds as f64 / 1000.0).to_string());
    for (kind, tries) in kinds() {
        let buckets = bounds.iter().map(String::as_str).zip(tries.took);
        let above = tries.took[tries::BOUNDS.len()];
        family.distribution(&[("kind", kind)], buckets, above, tries.in_all.as_secs_f64());
    }
}

/// By address and port, of several certificates the one that ends first: who looks at it wants to be in time.
fn tell_of_certificates(page: &mut Page, status: &Status<'_>) {
    let mut ends: BTreeMap<(IpAddr, u16), SystemTime> = BTreeMap::new();
    for check in &status.checks {
        if let Some(expires) = check.certificate_expires {
            let port = check.check.port.unwrap_or_default();
            let end = ends.entry((check.address, port)).or_insert(expires);
            *end = expires.min(*end);
        }
    }
    let help = "When the certificate ends that an HTTPS check was shown last.";
    let mut family = page.family("meridian_check_certificate_expiry_timestamp_seconds", Gauge, help);
    for ((address, port), end) in ends {
        let labels = [("address", address.to_string()), ("port", port.to_string())];
        family
            .sample(&labels.each_ref().map(|(name, value)| (*name, value.as_str())), seconds_since_1970(end));
    }
}

/// What each thread that listens counts besides answers.
fn tell_of_threads(page: &mut Page, status: &Status<'_>) {
    let plain = [
        ("connections", "meridian_connections", Gauge, "Connections at this moment."),
        ("accepted", "meridian_connections_accepted_total", Counter, "Connections that were let in."),
        (
            "refused",
            "meridian_connections_refused_total",
            Counter,
            "Connections that were not let in, for their client had enough.",
        ),
        (
            "failed_handshakes",
            "meridian_failed_handshakes_total",
            Counter,
            "Handshakes of TLS and QUIC that came to no good end.",
        ),
        (
            "accept_failures",
            "meridian_accept_failures_total",
            Counter,
            "Times that no connection could be accepted, for want of descriptors or memory.",
        ),
        (
            "proxy_refused",
            "meridian_proxy_refused_total",
            Counter,
            "Connections and datagrams without a PROXY header that must have one, or with one that must not.",
        ),
        (
            "panics",
            "meridian_thread_panics_total",
            Counter,
            "Failures of the server's own outside of answers, each of which cost a connection or a batch.",
        ),
    ];
    for (count, name, kind, help) in plain {
        let mut family = page.family(name, kind, help);
        for (thread, counts) in &status.transports {
            for (_, value) in counts.iter().filter(|(known, _)| *known == count) {
                family.sample(&[("thread", thread)], value);
            }
        }
    }
    let help =
        "Connections that were closed by the server, since their time was over or others needed the room.";
    let mut family = page.family("meridian_connections_cut_off_total", Counter, help);
    let reasons = [
        ("evicted", "evicted"),
        ("cut_off_slow", "slow"),
        ("cut_off_idle", "idle"),
        ("cut_off_unread", "unread"),
    ];
    for (thread, counts) in &status.transports {
        for (count, reason) in reasons {
            for (_, value) in counts.iter().filter(|(known, _)| *known == count) {
                family.sample(&[("thread", thread), ("reason", reason)], value);
            }
        }
    }
}

fn tell_of_what_is_served(page: &mut Page, status: &Status<'_>) {
    let help = "Times that everything was read, the start among them, by how it went.";
    let mut family = page.family("meridian_reloads_total", Counter, help);
    for outcome in Outcome::ALL {
        let name = control::outcome_name(outcome).replace(' ', "_");
        family.sample(&[("outcome", &name)], status.reloads[outcome as usize]);
    }
    let last = status.last_reload.map(|last| last.outcome);
    let is_good = matches!(last, Some(Outcome::Unchanged | Outcome::TookAll));
    let help = "1 if all was in order when it was read last, 0 if something keeps its last good version.";
    page.family("meridian_last_reload_successful", Gauge, help).sample(&[], u8::from(is_good));
    let help = "When the snapshot that is served was taken over.";
    page.family("meridian_last_reload_taken_over_timestamp_seconds", Gauge, help)
        .sample(&[], seconds_since_1970(status.taken_over));
    page.family("meridian_snapshot_number", Gauge, "The snapshot that is served; counts up from the start.")
        .sample(&[], status.snapshot.number());
    let help = "Octets that the compiled tables of all services take.";
    page.family("meridian_catchments_bytes", Gauge, help)
        .sample(&[], status.snapshot.catchments().size().octets);

    let help = "Zones: good; kept, whose file is broken or gone; broken, which answer SERVFAIL.";
    let mut family = page.family("meridian_zones", Gauge, help);
    for state in ["good", "kept", "broken"] {
        let count = status.zones.iter().filter(|zone| control::state_of(zone) == state).count();
        family.sample(&[("state", state)], count);
    }
    let help = "SOA SERIAL by zone; of no zone where there are more than a thousand.";
    let mut family = page.family("meridian_zone_serial", Gauge, help);
    for zone in status.zones.iter().filter(|_| status.zones.len() <= MOST_SERIALS) {
        if let Some(serial) = zone.serial {
            family.sample(&[("zone", &zone.name.to_string())], serial);
        }
    }
    let help = "When each geo database was made.";
    let mut family = page.family("meridian_geo_database_build_timestamp_seconds", Gauge, help);
    for about in status.databases {
        family.sample(&[("file", &about.path.display().to_string())], about.build_epoch);
    }
    let help =
        "1 while there is no geo database, or something is served as it was because what is new is broken.";
    page.family("meridian_degraded", Gauge, help).sample(&[], u8::from(status.is_degraded()));
    let help = "1 while an earlier snapshot is served instead of the files.";
    page.family("meridian_rolled_back", Gauge, help).sample(&[], u8::from(status.rollback.is_some()));
    let help = "Of zones, sites and geo databases: servers that were given the same have the same.";
    page.family("meridian_snapshot_info", Gauge, help).sample(&[("digest", &status.digest.to_string())], 1);
}

/// Nothing where they are not counted.
fn tell_of_countries(page: &mut Page, status: &Status<'_>) {
    let totals = status.countries.as_ref();
    let factor = totals.map_or_else(
        || "countries: says of how many queries one is looked at, and it does not".to_owned(),
        |totals| format!("one query in {} is looked at, and counts as many times", totals.every),
    );
    let help =
        format!("Responses by the country of the client subnet, or else of the source address; {factor}.");
    let mut family = page.family("meridian_answers_by_country_total", Counter, &help);
    if let Some(totals) = totals {
        for (code, count) in &totals.countries {
            family.sample(&[("country", code)], count);
        }
        family.sample(&[("country", "unknown")], totals.unknown);
    }
    let help = "Of the queries that are looked at for their country, those that were not: too many at once.";
    let mut family = page.family("meridian_answers_by_country_lost_total", Counter, help);
    if let Some(totals) = totals {
        family.sample(&[], totals.lost);
    }
}

fn tell_of_the_query_log(page: &mut Page, status: &Status<'_>) {
    let counts = status.query_log.unwrap_or_default();
    page.family("meridian_query_log_lines_total", Counter, "Lines that were written to the query log.")
        .sample(&[], counts.written);
    let help = "Sampled queries that are not in the query log: too many at once, or it could not be written.";
    let mut family = page.family("meridian_query_log_lost_total", Counter, help);
    family.sample(&[("reason", "full")], counts.lost);
    family.sample(&[("reason", "unwritten")], counts.unwritten);
}

/// By the names that every exporter gives them, and so every dashboard asks for.
fn tell_of_the_process(page: &mut Page, process: &Process) {
    page.family("meridian_build_info", Gauge, "1, with the version as its label.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let known = [
        (
            "process_start_time_seconds",
            "When the server was started.",
            Some(seconds_since_1970(process.started)),
        ),
        (
            "process_resident_memory_bytes",
            "Octets of memory that the process holds.",
            process.resident_memory(),
        ),
        ("process_open_fds", "Descriptors that are open.", process.descriptors()),
        ("process_max_fds", "Descriptors that may be open.", process.most_descriptors()),
    ];
    for (name, help, value) in known {
        if let Some(value) = value {
            page.family(name, Gauge, help).sample(&[], value);
        }
    }
}

fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
