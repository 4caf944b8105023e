//! What `meridian diff` found, for people and for programs.

use serde_json::{Value, json};

use super::{Changed, OfCountry, OfType, SentElsewhere, State, Told};
use crate::change::diff::{RecordChange, Records, ServiceChange, ZoneChange};
use crate::cli::coverage::{name_of, percent, quantile, shares_json, table};
use crate::cli::replayed::Replayed;
use crate::control::{findings_as_json, outcome_name};
use crate::coverage::Addresses;
use crate::coverage::summary::Move;
use crate::finding::printable;
use crate::nameserver::Given;
use crate::reload::Outcome;
use crate::wire::Name;

/// Lines of one zone that people read.
const MOST_LINES: usize = 100;

impl OfType {
    fn name_of(&self, given: Given) -> &str {
        name_of(&self.merged, given)
    }

    fn moved(&self) -> Addresses {
        let mut moved = Addresses::default();
        self.moves.iter().for_each(|one| moved += one.addresses);
        moved
    }

    /// Of the queries for this type, all and those that a move is about.
    fn queries(&self, is_meant: impl Fn([Given; 2]) -> bool) -> Option<(u64, u64)> {
        let queries = self.queries.as_ref()?;
        let meant = queries.given.iter().filter(|(given, _)| is_meant(*given));
        Some((meant.map(|(_, count)| count).sum(), queries.all))
    }

    fn part_of_queries(&self, moved: &Move) -> Option<f64> {
        part([self.queries(|given| given == [moved.from, moved.to])].into_iter())
    }

    /// `alike` are those of which the same is to be told, and this is one of them.
    fn to_text(&self, alike: &[&OfType]) -> String {
        let moved = self.moved().of(self.all);
        let types = alike.iter().map(|of_type| of_type.rtype.to_string()).collect::<Vec<_>>().join(", ");
        let mut text =
            format!("  {types}: {} of IPv4 and {} of IPv6 move", percent(moved.v4), percent(moved.v6));
        let queries =
            |is_meant: fn([Given; 2]) -> bool| alike.iter().map(move |of_type| of_type.queries(is_meant));
        if let Some(moving) = part(queries(|[from, to]| from != to)) {
            let all: u64 = queries(|_| true).flatten().map(|(_, all)| all).sum();
            text.push_str(&format!(", and so do {} of {all} queries", percent(moving)));
        }
        text.push('\n');
        let mut rows = vec![["", "from", "to", "IPv4", "IPv6"].map(str::to_owned).to_vec()];
        rows[0].extend(self.queries.is_some().then(|| "queries".to_owned()));
        rows[0].extend(["added km", "p95", "of countries"].map(str::to_owned));
        for (moved, countries) in self.moves.iter().zip(&self.countries) {
            let shares = moved.addresses.of(self.all);
            let [from, to] = [moved.from, moved.to].map(|given| self.name_of(given).to_owned());
            let mut row = vec![String::new(), from, to, percent(shares.v4), percent(shares.v6)];
            let way = [moved.from, moved.to];
            row.extend(part(alike.iter().map(|of_type| of_type.queries(|given| given == way))).map(percent));
            row.extend([0.5, 0.95].map(|part| quantile(&moved.added_km, part)));
            let told = |of: &OfCountry| format!("{} {:.0} %", of.country, of.part() * 100.0);
            row.push(countries.iter().map(told).collect::<Vec<_>>().join(", "));
            rows.push(row);
        }
        if !self.moves.is_empty() {
            let last = rows[0].len() - 1;
            text.push_str(&table(&rows, &[0, 1, 2, last]));
        }
        text
    }

    fn to_json(&self) -> Value {
        let told = |(moved, countries): (&Move, &Vec<OfCountry>)| {
            let countries = countries.iter().map(|of| {
                json!({
                    "country": of.country.to_string(),
                    "share": shares_json(of.moved.of(self.all)),
                    "of_country": shares_json(of.moved.of(of.all)),
                })
            });
            json!({
                "from": self.name_of(moved.from),
                "to": self.name_of(moved.to),
                "share": shares_json(moved.addresses.of(self.all)),
                "queries": self.part_of_queries(moved),
                "added_km": { "median": moved.added_km.quantile(0.5), "p95": moved.added_km.quantile(0.95) },
                "countries": countries.collect::<Vec<_>>(),
            })
        };
        json!({
            "type": self.rtype.to_string(),
            "share": shares_json(self.moved().of(self.all)),
            "moves": self.moves.iter().zip(&self.countries).map(told).collect::<Vec<_>>(),
            "queries": self.queries.as_ref().map(|queries| queries.all),
        })
    }
}

impl Told {
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("against  {}\nnew      {}\n", printable(&self.against), printable(&self.with));
        for note in &self.notes {
            text.push_str(&format!("note     {note}\n"));
        }
        if !self.findings.is_empty() {
            text.push_str(&format!(
                "\na reload would say: {}\n{}",
                outcome_name(self.outcome),
                self.findings
            ));
        }
        for (name, change) in &self.zones {
            match change {
                ZoneChange::Added(names) => {
                    text.push_str(&format!("\nzone {name} is new, with {names} names\n"));
                }
                ZoneChange::Removed(names) => {
                    text.push_str(&format!("\nzone {name} is gone, with {names} names\n"));
                }
                ZoneChange::Changed(changes) => {
                    text.push_str(&format!("\nzone {name}\n"));
                    let lines: Vec<String> =
                        changes.iter().flat_map(|change| record_lines(name, change)).collect();
                    lines.iter().take(MOST_LINES).for_each(|line| text.push_str(line));
                    if let Some(more) = lines.len().checked_sub(MOST_LINES + 1) {
                        text.push_str(&format!("  and {} lines more; --json has them\n", more + 1));
                    }
                }
            }
        }
        for Changed { name, state } in &self.services {
            match state {
                State::Added(sites) => {
                    text.push_str(&format!("\nservice {name} is new: {}\n", sites.join(", ")));
                }
                State::Removed(sites) => {
                    text.push_str(&format!("\nservice {name} is gone: {}\n", sites.join(", ")));
                }
                State::Other(change, of_types) => {
                    text.push_str(&format!("\nservice {name}\n"));
                    change.iter().for_each(|change| text.push_str(&service_lines(change)));
                    text.push_str(&types_to_text(of_types));
                }
            }
        }
        for SentElsewhere { names, from, to, of_types } in &self.sent_elsewhere {
            text.push_str(&format!("\n{}: service {from}, then {to}\n", list(names)));
            text.push_str(&types_to_text(of_types));
        }
        if let Some(replayed) = &self.replayed {
            text.push_str(&format!("\n{}", replayed.to_text()));
        }
        if self.zones.is_empty() && self.services.is_empty() && self.outcome != Outcome::TookNothing {
            text.push_str("\nnothing would be answered differently\n");
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let zones: serde_json::Map<String, Value> =
            self.zones.iter().map(|(name, change)| (name.to_string(), zone_json(change))).collect();
        let services: serde_json::Map<String, Value> = self
            .services
            .iter()
            .map(|changed| (changed.name.clone(), service_json(&changed.state)))
            .collect();
        json!({
            "against": self.against,
            "new": self.with,
            "outcome": outcome_name(self.outcome),
            "findings": findings_as_json(&self.findings),
            "notes": self.notes,
            "zones": zones,
            "services": services,
            "sent_elsewhere": self.sent_elsewhere.iter().map(|sent| json!({
                "names": sent.names.iter().map(Name::to_string).collect::<Vec<_>>(),
                "from": sent.from,
                "to": sent.to,
                "types": sent.of_types.iter().map(OfType::to_json).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "queries": self.replayed.as_ref().map(Replayed::to_json),
        })
    }
}

/// The first of some names, and how many more there are.
fn list(names: &[Name]) -> String {
    const MOST: usize = 5;
    let told = names.iter().take(MOST).map(Name::to_string).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST + 1) {
        Some(more) => format!("{told} and {} more", more + 1),
        None => told,
    }
}

/// What part the first numbers are of the second ones; none where there are none.
fn part(counts: impl Iterator<Item = Option<(u64, u64)>>) -> Option<f64> {
    let (mut part, mut all, mut has_any) = (0, 0, false);
    for (of_part, of_all) in counts.flatten() {
        (part, all, has_any) = (part + of_part, all + of_all, true);
    }
    has_any.then(|| part as f64 / all.max(1) as f64)
}

/// Types of which the same is to be told are told together.
fn types_to_text(of_types: &[OfType]) -> String {
    let key = |of_type: &OfType| -> Vec<_> {
        of_type.moves.iter().map(|moved| (moved.from, moved.to, moved.addresses)).collect()
    };
    let mut groups: Vec<Vec<&OfType>> = Vec::new();
    for of_type in of_types {
        match groups.iter_mut().find(|known| key(known[0]) == key(of_type)) {
            Some(alike) => alike.push(of_type),
            None => groups.push(vec![of_type]),
        }
    }
    groups.iter().map(|alike| alike[0].to_text(alike)).collect()
}

/// A line for each record, as in a master file, with `-` or `+` before it.
fn record_lines(zone: &Name, change: &RecordChange) -> Vec<String> {
    let owner = change.owner.relative_to(zone);
    let lines = |sign: char, records: &Option<Records>| -> Vec<String> {
        let of = |records: &Records| {
            let ttl = records.ttl.map_or_else(String::new, |ttl| format!(" {ttl}"));
            let line = |data: &String| format!("  {sign} {owner}{ttl} {} {}\n", change.what, printable(data));
            records.data.iter().map(line).collect::<Vec<_>>()
        };
        records.iter().flat_map(of).collect()
    };
    let (before, after) = (lines('-', &change.before), lines('+', &change.after));
    let tail = |line: &String| line[3..].to_owned();
    let is_in = |line: &String, others: &[String]| others.iter().any(|other| tail(other) == tail(line));
    // Of a set only what has changed.
    let gone = before.iter().filter(|line| !is_in(line, &after));
    let new = after.iter().filter(|line| !is_in(line, &before));
    let told: Vec<String> = gone.chain(new).cloned().collect();
    // The same in another order.
    if told.is_empty() { [before, after].concat() } else { told }
}

fn service_lines(change: &ServiceChange) -> String {
    let mut text = String::new();
    if !change.settings.is_empty() {
        text.push_str(&format!("  other {}\n", change.settings.join(", ")));
    }
    for site in &change.added {
        text.push_str(&format!("  + site {site}\n"));
    }
    for site in &change.removed {
        text.push_str(&format!("  - site {site}\n"));
    }
    for (site, what, before, after) in &change.sites {
        before
            .iter()
            .filter(|data| !after.contains(data))
            .for_each(|data| text.push_str(&format!("  - {site} {what} {data}\n")));
        after
            .iter()
            .filter(|data| !before.contains(data))
            .for_each(|data| text.push_str(&format!("  + {site} {what} {data}\n")));
    }
    text
}

fn zone_json(change: &ZoneChange) -> Value {
    let records = |records: &Option<Records>| {
        records.as_ref().map(|records| json!({ "ttl": records.ttl, "data": records.data }))
    };
    match change {
        ZoneChange::Added(names) => json!({ "state": "added", "names": names }),
        ZoneChange::Removed(names) => json!({ "state": "removed", "names": names }),
        ZoneChange::Changed(changes) => json!({
            "state": "changed",
            "records": changes.iter().map(|change| json!({
                "name": change.owner.to_string(),
                "type": change.what,
                "before": records(&change.before),
                "after": records(&change.after),
            })).collect::<Vec<_>>(),
        }),
    }
}

fn service_json(state: &State) -> Value {
    match state {
        State::Added(sites) => json!({ "state": "added", "sites": sites }),
        State::Removed(sites) => json!({ "state": "removed", "sites": sites }),
        State::Other(change, of_types) => json!({
            "state": "changed",
            "settings": change.as_ref().map(|change| &change.settings),
            "added": change.as_ref().map(|change| &change.added),
            "removed": change.as_ref().map(|change| &change.removed),
            "sites": change.iter().flat_map(|change| &change.sites).map(|(site, what, before, after)| json!({
                "site": site, "what": what, "before": before, "after": after,
            })).collect::<Vec<_>>(),
            "types": of_types.iter().map(OfType::to_json).collect::<Vec<_>>(),
        }),
    }
}
