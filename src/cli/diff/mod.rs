//! `meridian diff`: what would be answered differently, before it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::Places;
use super::coverage::{Failure, percent, write_pictures, wrong_usage};
use super::history::time;
use crate::change::diff::{self, ServiceChange, ZoneChange, in_merged, merge};
use crate::change::history::{Entry, History};
use crate::config::Config;
use crate::control::{self, Command};
use crate::coverage::clients::Clients;
use crate::coverage::summary::{Grid, Group, Move, by_site, moves, total};
use crate::coverage::{Addresses, Part, Side, View, count};
use crate::draw::map::{Map, Mark, draw};
use crate::finding::{Findings, Severity, did_you_mean};
use crate::geo::{Country, Databases};
use crate::health::board::{Board, Layout};
use crate::nameserver::Given;
use crate::reload::{Answering, Outcome, Reload, Reloader};
use crate::site::{Service, Site};
use crate::snapshot::Snapshot;
use crate::stamp::Stamp;
use crate::wire::{Name, Rtype};
use clap::Args;

mod tell;

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
    /// A query log: what its clients would get, beside the address space.
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

/// One side of the comparison.
struct Version {
    zones: Vec<Answering>,
    services: Vec<Arc<Service>>,
    snapshot: Snapshot,
    layout: Layout,
}

/// Where one side comes from.
enum Origin {
    Folder(PathBuf),
    Snapshot(Box<Entry>),
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

/// Who moves, of those who ask for one type.
struct OfType {
    rtype: Rtype,
    merged: Service,
    all: Addresses,
    moves: Vec<Move>,
    /// By move, those countries that have most of it.
    countries: Vec<Vec<(Country, Addresses)>>,
    parts: Vec<Part<2>>,
    queries: Option<Queries>,
}

struct Queries {
    all: u64,
    unreadable: u64,
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
        let failed = |error: std::io::Error| (format!("{error}\n"), ExitCode::from(1));
        let folders = tempfile::tempdir().map_err(failed)?;
        let mut reloader = Reloader::to_compare(config);
        let mut notes = Vec::new();
        let begun = match old {
            Origin::Folder(folder) => {
                reloader.read_from(Some(folder.clone()));
                reloader.reload(false)
            }
            Origin::Snapshot(entry) => {
                let folder = folders.path().join("old");
                history.check_out(entry, &folder).map_err(failed)?;
                let databases =
                    entry.databases.iter().map(|known| (known.path.clone(), known.stamp)).collect();
                let begun = reloader.begin_with(&folder, databases);
                let has_databases = !entry.databases.is_empty();
                let is_as_it_was = reloader.take_unverified().is_some();
                if has_databases && !is_as_it_was && entry.databases.iter().any(|known| !known.is_there()) {
                    notes.push(format!(
                        "the geo databases of snapshot {} are not at hand any more: what they move is not told",
                        entry.number
                    ));
                }
                begun
            }
        };
        let geography = reloader.databases().to_vec();
        let old_version =
            Version::of(&reloader, begun.snapshot).ok_or((begun.findings.to_string(), ExitCode::from(1)))?;
        let is_forced = matches!(new, Origin::Snapshot(_));
        match new {
            Origin::Folder(folder) if !folder.is_dir() => {
                return Err(wrong_usage(format!("{}: there is no such folder", folder.display())));
            }
            Origin::Folder(folder) => reloader.read_from(Some(folder.clone())),
            Origin::Snapshot(entry) => {
                let folder = folders.path().join("new");
                history.check_out(entry, &folder).map_err(failed)?;
                reloader.read_from(Some(folder));
            }
        }
        let Reload { outcome, findings, mut snapshot } = reloader.reload(is_forced);
        if outcome == Outcome::Held {
            snapshot = reloader.reload(true).snapshot;
        }
        let mut told = Told {
            against: old.in_words(),
            with: new.in_words(),
            outcome,
            findings: findings
                .only(|finding| finding.severity == Severity::Error)
                .with_paths(|path| without_folder(path, folders.path())),
            notes,
            zones: BTreeMap::new(),
            services: Vec::new(),
        };
        if let Some(new_version) = Version::of(&reloader, snapshot) {
            told.zones = diff::zones(&old_version.zones, &new_version.zones);
            let is_moved = reloader.databases() != geography;
            told.services = self.services(&old_version, &new_version, is_moved, reloader.databases())?;
        }
        Ok(told)
    }

    /// Those that are not what they were.
    fn services(
        &self,
        old: &Version,
        new: &Version,
        is_moved: bool,
        databases: &[(PathBuf, Stamp)],
    ) -> Result<Vec<Changed>, Failure> {
        let sites = |service: &Service| service.sites.iter().map(|site| site.name.clone()).collect();
        let find =
            |version: &Version, name: &str| version.services.iter().position(|known| known.name == name);
        let mut changed = Vec::new();
        let mut opened = None;
        for (number, before) in old.services.iter().enumerate() {
            let name = before.name.clone();
            let Some(now) = find(new, &name) else {
                changed.push(Changed { name, state: State::Removed(sites(before)) });
                continue;
            };
            let change = diff::service(before, &new.services[now]);
            if change.is_none() && !is_moved {
                continue;
            }
            let databases = opened.get_or_insert_with(|| {
                let paths: Vec<PathBuf> = databases.iter().map(|(path, _)| path.clone()).collect();
                Databases::open(&paths, &mut Findings::new())
            });
            let of_types = self.who_moves((old, number), (new, now), databases)?;
            if change.is_some() || of_types.iter().any(|of_type| !of_type.moves.is_empty()) {
                changed.push(Changed { name, state: State::Other(change, of_types) });
            }
        }
        let added = new.services.iter().filter(|service| find(old, &service.name).is_none());
        changed.extend(
            added.map(|service| Changed { name: service.name.clone(), state: State::Added(sites(service)) }),
        );
        changed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(changed)
    }

    fn who_moves(
        &self,
        old: (&Version, usize),
        new: (&Version, usize),
        databases: &Databases,
    ) -> Result<Vec<OfType>, Failure> {
        let boards = [old.0, new.0].map(|version| Board::new(version.layout.clone()));
        let (merged, numbers) = merge(&old.0.services[old.1], &new.0.services[new.1]);
        let mut of_types: Vec<OfType> = Vec::new();
        for rtype in [Rtype::A, Rtype::AAAA] {
            let [Some(old_view), Some(new_view)] =
                [old, new].map(|(version, service)| version.view(service, rtype))
            else {
                continue;
            };
            let sides =
                [Side { view: old_view, board: &boards[0] }, Side { view: new_view, board: &boards[1] }];
            let parts = in_merged(count(sides, databases), &numbers);
            let moves = moves(&merged, &parts);
            let countries = moves.iter().map(|moved| countries(&parts, moved)).collect();
            let queries = self.queries.as_ref().map(|log| {
                let told = |error| wrong_usage(format!("{}: {error}", log.display()));
                let read = BufReader::new(File::open(log).map_err(told)?);
                let clients = Clients::read(read, &merged.name).map_err(told)?;
                let in_merged = |given| match given {
                    Given::Site(site) => Given::Site(numbers[usize::from(site)]),
                    other => other,
                };
                let given = clients.steer(sides).into_iter();
                let given =
                    given.map(|([before, now], queries)| ([in_merged(before), now], queries)).collect();
                Ok::<_, Failure>(Queries { all: clients.queries(), unreadable: clients.unreadable, given })
            });
            let (all, queries) = (total(&parts), queries.transpose()?);
            of_types.push(OfType { rtype, merged: merged.clone(), all, moves, countries, parts, queries });
        }
        Ok(of_types)
    }

    fn draw(&self, told: &Told) -> Result<(), Failure> {
        if self.svg.is_none() && self.png.is_none() {
            return Ok(());
        }
        let drawn: Vec<(&str, &OfType)> = told.services.iter().filter_map(Changed::to_draw).collect();
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

/// A file of a snapshot is that, and not where it lies while it is compared.
fn without_folder(path: &Path, folders: &Path) -> PathBuf {
    let within = path.strip_prefix(folders).ok().and_then(|path| path.strip_prefix("old").ok());
    within.map_or_else(|| path.to_owned(), |path| Path::new("(as it is served)").join(path))
}

/// What the server serves; without one, what was served last.
fn running(config: &Config, history: &History) -> Result<Entry, Failure> {
    let status = control::tell(&config.control, &Command::Status);
    let number = status.ok().and_then(|status| status["snapshot"].as_u64());
    let entry = number.map_or_else(|| history.last(), |number| history.entry(number));
    entry.ok_or_else(|| {
        let text = match number {
            Some(number) => format!("snapshot {number} is served, and history does not have it\n"),
            None => format!("nothing was served yet, as far as {} tells\n", config.state.display()),
        };
        (text, ExitCode::from(5))
    })
}

/// Those that move most, by what most of them have.
fn countries(parts: &[Part<2>], moved: &Move) -> Vec<(Country, Addresses)> {
    const MOST: usize = 5;
    let mut countries: BTreeMap<Country, Addresses> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.given == [moved.from, moved.to]) {
        if let Some(country) = part.country {
            *countries.entry(country).or_default() += part.addresses;
        }
    }
    let mut countries: Vec<(Country, Addresses)> = countries.into_iter().collect();
    countries.sort_by_key(|(country, Addresses { v4, v6 })| (std::cmp::Reverse((*v4, *v6)), *country));
    countries.truncate(MOST);
    countries
}

impl Version {
    fn of(reloader: &Reloader, snapshot: Option<(Snapshot, Layout)>) -> Option<Version> {
        let (snapshot, layout) = snapshot?;
        Some(Version {
            zones: reloader.answering(),
            services: reloader.services().to_vec(),
            snapshot,
            layout,
        })
    }

    fn view(&self, service: usize, rtype: Rtype) -> Option<View<'_>> {
        let rtype = self.snapshot.service(service as u16).find_type(rtype)?;
        Some(View { snapshot: &self.snapshot, service: service as u16, rtype })
    }
}

impl Origin {
    fn in_words(&self) -> String {
        match self {
            Origin::Folder(folder) => folder.display().to_string(),
            Origin::Snapshot(entry) => format!("snapshot {}, since {}", entry.number, time(entry.at)),
        }
    }
}

impl Changed {
    /// The first type of which anybody moves.
    fn to_draw(&self) -> Option<(&str, &OfType)> {
        let State::Other(_, of_types) = &self.state else { return None };
        of_types.iter().find(|of_type| !of_type.moves.is_empty()).map(|of_type| (self.name.as_str(), of_type))
    }
}
