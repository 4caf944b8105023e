//! `meridian diff`: what would be answered differently, before it is.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::Places;
use super::coverage::{Failure, percent, write_pictures, wrong_usage};
use super::replayed::Replayed;
use crate::change::diff::{self, ServiceChange, ZoneChange, in_merged, merge};
use crate::change::history::History;
use crate::config::Config;
use crate::coverage::summary::{Grid, Group, Move, Shares, by_site, moves, total};
use crate::coverage::{Addresses, Part, Side, count};
use crate::draw::map::{Map, Mark, draw};
use crate::finding::{Findings, did_you_mean};
use crate::geo::{Country, Databases};
use crate::nameserver::Given;
use crate::reload::Outcome;
use crate::site::{Service, Site};
use crate::wire::{Name, Rtype};
use clap::Args;

pub(super) mod sides;
mod tell;

use sides::{Origin, Sides, Version, running};

/// Tell what would be answered differently, and to whom: records, and who moves from which site to which.
///
/// Compares a folder of zones with what is served. The zones' expectations are run and the gates are asked, as a reload does: what it would say
/// is told first.
///
/// Exit 0: a reload would take it over, whether or not anything differs; 1: not all of it; 4: it would be held.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian diff next/ --queries log/queries.log")]
pub(super) struct Diff {
    /// A folder of zones, default: that which is served; or two snapshots of history, as in 12..15.
    #[arg(value_name = "DIR|N..M")]
    what: Option<String>,
    /// Compare with this: what is served, a folder of zones, or a snapshot of history.
    #[arg(long, value_name = "running|DIR|N", default_value = "running")]
    against: String,
    /// Queries that clients sent (query log, pcap, pcapng, dnstap): how many would be answered differently.
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Draw who moves into this file; with several services that change, of the one that is named by --service.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The same as pixels.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// The service that is drawn.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    places: Places,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// All that there is to tell.
struct Told {
    against: String,
    with: String,
    outcome: Outcome,
    findings: Findings,
    notes: Vec<String>,
    zones: BTreeMap<Name, ZoneChange>,
    services: Vec<Changed>,
    sent_elsewhere: Vec<SentElsewhere>,
    replayed: Option<Replayed>,
}

/// A service that is not what it was.
struct Changed {
    name: String,
    state: State,
}

enum State {
    Added(Vec<String>),
    Removed(Vec<String>),
    Other(Option<ServiceChange>, Vec<OfType>),
}

/// Names that another service steers than before, and so all who ask for them.
struct SentElsewhere {
    names: Vec<Name>,
    from: String,
    to: String,
    of_types: Vec<OfType>,
}

/// Who moves, of those who ask for one type.
struct OfType {
    rtype: Rtype,
    merged: Service,
    all: Addresses,
    moves: Vec<Move>,
    /// By move, those countries that have most of it, how many, and of how many in all.
    countries: Vec<Vec<OfCountry>>,
    parts: Vec<Part<2>>,
    queries: Option<Queries>,
}

/// Of a country's addresses those that move, and all.
struct OfCountry {
    country: Country,
    moved: Addresses,
    all: Addresses,
}

/// Of a file's queries those that ask the service for the type.
struct Queries {
    all: u64,
    given: Vec<([Given; 2], u64)>,
}

impl Diff {
    pub(super) fn run(self) -> ExitCode {
        match self.diff() {
            Ok(code) => code,
            Err((text, code)) => {
                eprint!("{text}");
                code
            }
        }
    }

    fn diff(&self) -> Result<ExitCode, Failure> {
        let config = self.places.config().map_err(|code| (String::new(), code))?;
        let history = History::of(&config.state, config.history);
        let (old, new) = self.sides(&config, &history)?;
        let told = self.compare(&config, &history, &old, &new)?;
        if self.json {
            super::print(&format!("{:#}\n", told.to_json()));
        } else {
            super::print(&told.to_text());
        }
        self.draw(&told)?;
        Ok(match told.outcome {
            Outcome::Held => ExitCode::from(4),
            _ if told.findings.has_errors() => ExitCode::from(1),
            _ => ExitCode::SUCCESS,
        })
    }

    fn sides(&self, config: &Config, history: &History) -> Result<(Origin, Origin), Failure> {
        let kept = |text: &str| {
            let number =
                text.parse().map_err(|_| wrong_usage(format!("\"{text}\" is no number of a snapshot")))?;
            let entry = history.entry(number);
            let entry = entry.ok_or_else(|| wrong_usage(format!("snapshot {number} is not kept")))?;
            Ok::<Origin, Failure>(Origin::Snapshot(Box::new(entry)))
        };
        if let Some((old, new)) = self.what.as_ref().and_then(|what| what.split_once("..")) {
            return Ok((kept(old)?, kept(new)?));
        }
        let new = Origin::Folder(self.what.as_ref().map_or_else(|| config.zones.clone(), PathBuf::from));
        let old = match self.against.as_str() {
            "running" => Origin::Snapshot(Box::new(running(config, history)?)),
            other if Path::new(other).is_dir() => Origin::Folder(PathBuf::from(other)),
            other => kept(other)?,
        };
        Ok((old, new))
    }

    fn compare(
        &self,
        config: &Config,
        history: &History,
        old: &Origin,
        new: &Origin,
    ) -> Result<Told, Failure> {
        let sides = Sides::read(config, history, old, new)?;
        let mut told = Told {
            against: old.in_words(),
            with: new.in_words(),
            outcome: sides.outcome,
            findings: sides.findings.clone(),
            notes: sides.notes.clone(),
            zones: BTreeMap::new(),
            services: Vec::new(),
            sent_elsewhere: Vec::new(),
            replayed: None,
        };
        if let (Some(file), Some(both)) = (&self.queries, sides.both()) {
            told.replayed = Some(Replayed::read(file, both)?);
        }
        if let Some(new) = &sides.new {
            told.zones = diff::zones(&sides.old.zones, &new.zones);
            let opened = OnceCell::new();
            let databases = || {
                opened.get_or_init(|| Databases::open(&sides.databases, &mut Findings::new())) as &Databases
            };
            told.services = services(&sides, new, &databases, told.replayed.as_ref());
            told.sent_elsewhere =
                sent_elsewhere(&told.zones, &sides.old, new, &databases, told.replayed.as_ref());
        }
        Ok(told)
    }

    fn draw(&self, told: &Told) -> Result<(), Failure> {
        if self.svg.is_none() && self.png.is_none() {
            return Ok(());
        }
        let of_services = told.services.iter().filter_map(Changed::to_draw);
        let drawn: Vec<(&str, &OfType)> =
            of_services.chain(told.sent_elsewhere.iter().filter_map(SentElsewhere::to_draw)).collect();
        let names = || drawn.iter().map(|(name, _)| *name);
        let (name, of_type) = match (&self.service, drawn.as_slice()) {
            (None, []) => return Err(wrong_usage("nobody moves: there is nothing to draw")),
            (None, [one]) => *one,
            (None, _) => {
                let names = names().collect::<Vec<_>>().join(", ");
                return Err(wrong_usage(format!("--service says which of {names} is drawn")));
            }
            (Some(wanted), all) => *all.iter().find(|(name, _)| name == wanted).ok_or_else(|| {
                wrong_usage(format!("nobody of service \"{wanted}\" moves{}", did_you_mean(wanted, names())))
            })?,
        };
        let title = format!("{name}: who moves from {} to {}", told.against, told.with);
        let groups = by_site(&of_type.merged, &of_type.parts);
        let picture = || {
            let mark = |(site, group): (&Arc<Site>, &Group)| Mark {
                name: site.name.clone(),
                location: site.location,
                legend: {
                    let shares = group.addresses.of(of_type.all);
                    format!("IPv4 {:>6}  IPv6 {:>6}", percent(shares.v4), percent(shares.v6))
                },
                is_out: false,
            };
            draw(&Map {
                title: title.clone(),
                grid: &Grid::new(&of_type.parts),
                sites: of_type.merged.sites.iter().zip(&groups).map(mark).collect(),
                elsewhere: None,
                shows_moves: true,
                notes: vec![
                    "Full colour: moves to that site. Paler: stays with it. Blank: no network is known there."
                        .to_owned(),
                ],
            })
        };
        write_pictures(picture, &title, self.svg.as_deref(), self.png.as_deref(), !self.json)
    }
}

/// Those that are not what they were.
fn services<'d>(
    sides: &Sides,
    new: &Version,
    databases: &impl Fn() -> &'d Databases,
    replayed: Option<&Replayed>,
) -> Vec<Changed> {
    let old = &sides.old;
    let sites = |service: &Service| service.sites.iter().map(|site| site.name.clone()).collect();
    let find = |version: &Version, name: &str| version.services.iter().position(|known| known.name == name);
    let mut changed = Vec::new();
    for (number, before) in old.services.iter().enumerate() {
        let name = before.name.clone();
        let Some(now) = find(new, &name) else {
            changed.push(Changed { name, state: State::Removed(sites(before)) });
            continue;
        };
        let change = diff::service(before, &new.services[now]);
        if change.is_none() && !sides.is_moved {
            continue;
        }
        let of_types = who_moves((old, number), (new, now), databases(), replayed);
        if change.is_some() || of_types.iter().any(|of_type| !of_type.moves.is_empty()) {
            changed.push(Changed { name, state: State::Other(change, of_types) });
        }
    }
    let added = new.services.iter().filter(|service| find(old, &service.name).is_none());
    changed.extend(
        added.map(|service| Changed { name: service.name.clone(), state: State::Added(sites(service)) }),
    );
    changed.sort_by(|a, b| a.name.cmp(&b.name));
    changed
}

/// By the services that steer them before and now.
fn sent_elsewhere<'d>(
    zones: &BTreeMap<Name, ZoneChange>,
    old: &Version,
    new: &Version,
    databases: &impl Fn() -> &'d Databases,
    replayed: Option<&Replayed>,
) -> Vec<SentElsewhere> {
    let mut names: BTreeMap<(&str, &str), Vec<Name>> = BTreeMap::new();
    for change in zones.values() {
        let ZoneChange::Changed(records) = change else { continue };
        for (owner, from, to) in records.iter().filter_map(|record| {
            let (from, to) = record.services()?;
            (from != to).then_some((&record.owner, from, to))
        }) {
            names.entry((from, to)).or_default().push(owner.clone());
        }
    }
    let find = |version: &Version, name: &str| version.services.iter().position(|known| known.name == name);
    let sent = |((from, to), names): ((&str, &str), Vec<Name>)| {
        let of_types = who_moves((old, find(old, from)?), (new, find(new, to)?), databases(), replayed);
        Some(SentElsewhere { names, from: from.to_owned(), to: to.to_owned(), of_types })
    };
    names.into_iter().filter_map(sent).collect()
}

fn who_moves(
    old: (&Version, usize),
    new: (&Version, usize),
    databases: &Databases,
    replayed: Option<&Replayed>,
) -> Vec<OfType> {
    let (merged, numbers) = merge(&old.0.services[old.1], &new.0.services[new.1]);
    let mut of_types: Vec<OfType> = Vec::new();
    for rtype in types(old, new) {
        let [Some(old_view), Some(new_view)] =
            [old, new].map(|(version, service)| version.view(service, rtype))
        else {
            continue;
        };
        let sides =
            [Side { view: old_view, board: &old.0.board }, Side { view: new_view, board: &new.0.board }];
        let parts = in_merged(count(sides, databases), &numbers);
        let moves = moves(&merged, &parts);
        let countries = moves.iter().map(|moved| countries(&parts, moved)).collect();
        let queries = replayed.map(|replayed| {
            let moved = replayed.comparison.moves([old.1 as u16, new.1 as u16], rtype);
            let in_merged = |given| match given {
                Given::Site(site) => Given::Site(numbers[usize::from(site)]),
                other => other,
            };
            let given = moved.iter().map(|([before, now], queries)| ([in_merged(*before), *now], *queries));
            Queries { all: moved.iter().map(|(_, queries)| queries).sum(), given: given.collect() }
        });
        let all = total(&parts);
        of_types.push(OfType { rtype, merged: merged.clone(), all, moves, countries, parts, queries });
    }
    of_types
}

/// A and AAAA; of services whose sites have neither, what they have.
fn types(old: (&Version, usize), new: (&Version, usize)) -> Vec<Rtype> {
    let [of_old, of_new] =
        [old, new].map(|(version, service)| version.snapshot.service(service as u16).types());
    let both = || of_old.iter().filter(|rtype| of_new.contains(rtype)).copied();
    let usual: Vec<Rtype> = both().filter(|rtype| [Rtype::A, Rtype::AAAA].contains(rtype)).collect();
    if usual.is_empty() { both().take(1).collect() } else { usual }
}

/// Those that move most, by what most of them have.
fn countries(parts: &[Part<2>], way: &Move) -> Vec<OfCountry> {
    const MOST: usize = 5;
    let mut countries: BTreeMap<Country, [Addresses; 2]> = BTreeMap::new();
    for part in parts {
        let Some(country) = part.country else { continue };
        let [moved, all] = countries.entry(country).or_default();
        *all += part.addresses;
        if part.given == [way.from, way.to] {
            *moved += part.addresses;
        }
    }
    let mut countries: Vec<OfCountry> = countries
        .into_iter()
        .filter(|(_, [moved, _])| *moved != Addresses::default())
        .map(|(country, [moved, all])| OfCountry { country, moved, all })
        .collect();
    countries.sort_by_key(|of| (std::cmp::Reverse((of.moved.v4, of.moved.v6)), of.country));
    countries.truncate(MOST);
    countries
}

impl OfCountry {
    /// Which part of the country moves, of IPv4; of IPv6 where it has no IPv4.
    fn part(&self) -> f64 {
        let Shares { v4, v6 } = self.moved.of(self.all);
        if self.all.v4 > 0 { v4 } else { v6 }
    }
}

impl SentElsewhere {
    fn to_draw(&self) -> Option<(&str, &OfType)> {
        let of_type = self.of_types.iter().find(|of_type| !of_type.moves.is_empty())?;
        Some((self.to.as_str(), of_type))
    }
}

impl Changed {
    /// The first type of which anybody moves.
    fn to_draw(&self) -> Option<(&str, &OfType)> {
        let State::Other(_, of_types) = &self.state else { return None };
        of_types.iter().find(|of_type| !of_type.moves.is_empty()).map(|of_type| (self.name.as_str(), of_type))
    }
}
