//! `meridian simulate`: who would move where, before anyone does it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::Places;
use super::coverage::{
    Failure, Ground, World, percent, quantile, shares_json, table, write_pictures, wrong_usage,
};
use super::map::notes_of;
use super::replayed::trouble;
use crate::coverage::summary::{Grid, Group, Move, by_site, moves, total};
use crate::coverage::{Addresses, Part};
use crate::draw::map::{Map, draw};
use crate::health::board::Board;
use crate::nameserver::Given;
use crate::replay::compare::{Comparison, Side};
use crate::replay::{self, Counts};

/// Tell where the clients of sites would go that fail or are drained, how much farther that is, and who would be loaded how much.
///
/// Guards (blast_radius, panic) are not played: the sites are taken out, whatever a guard would say.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: meridian simulate web --down syd --queries log/queries.log")]
pub(super) struct Simulate {
    /// The service's name; every service that has one of the sites, if none is given.
    service: Option<String>,
    /// A site to take as down; may be given several times.
    #[arg(long, value_name = "SITE", required_unless_present = "drain")]
    down: Vec<String>,
    /// A site to take as drained; may be given several times.
    #[arg(long, value_name = "SITE")]
    drain: Vec<String>,
    /// Queries that clients sent (query log, pcap, pcapng, dnstap): what they would get, beside the address space.
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// The type that is asked for; A if any site has it.
    #[arg(long = "type", value_name = "TYPE")]
    rtype: Option<String>,
    /// Draw who moves into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The same as pixels.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// From so much of what it had on, a site is warned of.
const OVERLOAD: f64 = 2.0;
/// From so much of its capacity on: IPv6 is counted by samples.
const OVERFULL: f64 = 1.05;

/// What comes of it.
struct Outcome {
    all: Addresses,
    moves: Vec<Move>,
    before: Vec<Group>,
    after: Vec<Group>,
    clients: Option<Answered>,
}

/// What the queries of a file that the service answers are given, and would be.
struct Answered {
    queries: u64,
    counts: Counts,
    given: Vec<([Given; 2], u64)>,
}

impl Answered {
    fn read(path: &Path, world: &World<'_>, boards: [&Board; 2]) -> Result<Answered, Failure> {
        let told = |error| wrong_usage(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(told)?;
        let sides = boards.map(|board| Side { snapshot: &world.ground.snapshot, board });
        let mut comparison = Comparison::default();
        let counts = replay::read(file, &mut |question| comparison.add(question, sides)).map_err(told)?;
        let given = comparison.moves_of([world.index; 2]);
        Ok(Answered { queries: given.iter().map(|(_, queries)| queries).sum(), counts, given })
    }

    fn part(&self, holds: impl Fn([Given; 2]) -> bool) -> f64 {
        let queries: u64 = self.given.iter().filter(|(given, _)| holds(*given)).map(|(_, count)| count).sum();
        queries as f64 / self.queries.max(1) as f64
    }
}

/// A site before and then.
struct Load<'a> {
    site: &'a str,
    is_out: bool,
    /// IPv4, IPv6, queries.
    before: [f64; 3],
    after: [f64; 3],
    /// What it would be given in parts of what it has room for, both families counting half, where the service spills.
    fullness: Option<f64>,
}

impl Load<'_> {
    /// How many times what it had.
    fn factors(&self) -> [Option<f64>; 3] {
        [0, 1, 2].map(|index| (self.before[index] > 0.0).then(|| self.after[index] / self.before[index]))
    }

    fn is_too_much(&self) -> bool {
        !self.is_out && self.factors().into_iter().flatten().any(|factor| factor > OVERLOAD)
    }
}

impl Simulate {
    pub(super) fn run(self) -> ExitCode {
        match self.simulate() {
            Ok(()) => ExitCode::SUCCESS,
            Err((text, code)) => {
                eprint!("{text}");
                code
            }
        }
    }

    fn simulate(&self) -> Result<(), Failure> {
        let ground = Ground::open(&self.places)?;
        match &self.service {
            Some(service) => self.in_one(&ground.world(service, self.rtype.as_deref())?),
            None => self.in_all(&ground),
        }
    }

    /// In each service that has one of the sites.
    fn in_all(&self, ground: &Ground) -> Result<(), Failure> {
        let services = ground.services_with(&self.down.iter().chain(&self.drain).collect::<Vec<_>>())?;
        if services.len() > 1 && (self.svg.is_some() || self.png.is_some()) {
            let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
            return Err(wrong_usage(format!("a picture is of one service: name {}", names.join(" or "))));
        }
        let mut told = Vec::new();
        for (number, service) in services.iter().enumerate() {
            let its = |sites: &[String]| -> Vec<String> {
                let has = |name: &&String| service.sites.iter().any(|site| site.name == **name);
                sites.iter().filter(has).cloned().collect()
            };
            let one = Simulate { down: its(&self.down), drain: its(&self.drain), ..self.clone() };
            let world = ground.world(&service.name, self.rtype.as_deref())?;
            if services.len() == 1 && !self.json {
                return one.in_one(&world);
            }
            let (outcome, _) = one.play(&world)?;
            if self.json {
                told.push(one.to_json(&world, &outcome));
            } else {
                let gap = if number > 0 { "\n" } else { "" };
                super::print(&format!("{gap}{}", one.tell(&world, &outcome)));
            }
        }
        if self.json {
            super::print(&format!("{:#}\n", json!({ "services": told })));
        }
        Ok(())
    }

    fn play(&self, world: &World<'_>) -> Result<(Outcome, Vec<Part<2>>), Failure> {
        let [before, after] = [world.board(&[], &[])?, world.board(&self.down, &self.drain)?];
        let clients = match &self.queries {
            None => None,
            Some(path) => Some(Answered::read(path, world, [&before, &after])?),
        };
        let parts = world.count([&before, &after]);
        let first: Vec<Part<1>> = parts
            .iter()
            .map(|part| Part {
                given: [part.given[0]],
                country: part.country,
                point: part.point,
                addresses: part.addresses,
            })
            .collect();
        let outcome = Outcome {
            all: total(&parts),
            moves: moves(&world.service, &parts),
            before: by_site(&world.service, &first),
            after: by_site(&world.service, &parts),
            clients,
        };
        Ok((outcome, parts))
    }

    fn in_one(&self, world: &World<'_>) -> Result<(), Failure> {
        let (outcome, parts) = self.play(world)?;
        if self.json {
            super::print(&format!("{:#}\n", self.to_json(world, &outcome)));
        } else if self.svg.is_none() && self.png.is_none() {
            super::print(&self.tell(world, &outcome));
        }
        let title = format!("{}: who moves when {}", world.service.name, self.what());
        let picture = || {
            let out: Vec<String> = self.down.iter().chain(&self.drain).cloned().collect();
            let mut notes = vec![
                "Full colour: moves to that site. Paler: stays with it. Blank: no network is known there."
                    .to_owned(),
            ];
            notes.extend(notes_of(world));
            let loads = self.loads(world, &outcome);
            draw(&Map {
                title: title.clone(),
                grid: &Grid::new(&parts),
                sites: world.marks(&outcome.after, &out, |group| {
                    let load = loads.iter().find(|load| load.site == world.name_of(group.given));
                    load.map_or_else(String::new, |load| {
                        let [v4, v6, _] = [0, 1, 2].map(|index| {
                            format!("{:>6} to {:>6}", percent(load.before[index]), percent(load.after[index]))
                        });
                        format!("IPv4 {v4}  IPv6 {v6}")
                    })
                }),
                elsewhere: None,
                shows_moves: true,
                notes,
            })
        };
        write_pictures(picture, &title, self.svg.as_deref(), self.png.as_deref(), !self.json)
    }

    fn what(&self) -> String {
        let down = self.down.iter().map(|site| format!("{site} is down"));
        let drained = self.drain.iter().map(|site| format!("{site} is drained"));
        down.chain(drained).collect::<Vec<_>>().join(", ")
    }

    fn loads<'w>(&self, world: &'w World<'_>, outcome: &Outcome) -> Vec<Load<'w>> {
        let of = |groups: &[Group], given: Given, board: usize| {
            let group = groups.iter().find(|group| group.given == given);
            let shares = group.map(|group| group.addresses.of(outcome.all)).unwrap_or_default();
            let queries = outcome.clients.as_ref();
            let queries = queries.map_or(0.0, |clients| clients.part(|of_boards| of_boards[board] == given));
            [shares.v4, shares.v6, queries]
        };
        let fullness = |given: Given| match (given, world.capacities()) {
            (Given::Site(site), Some(capacities)) => {
                let [v4, v6, _] = of(&outcome.after, given, 1);
                let families =
                    [outcome.all.v4 > 0, outcome.all.v6 > 0].into_iter().filter(|is_there| *is_there);
                let load = (v4 + v6) / families.count().max(1) as f64;
                Some(load / capacities[usize::from(site)])
            }
            _ => None,
        };
        let mut all: Vec<Given> = outcome.after.iter().map(|group| group.given).collect();
        all.extend(
            outcome
                .before
                .iter()
                .map(|group| group.given)
                .filter(|given| !all.contains(given))
                .collect::<Vec<_>>(),
        );
        all.into_iter()
            .map(|given| {
                let site = world.name_of(given);
                Load {
                    site,
                    is_out: self.down.iter().chain(&self.drain).any(|out| out == site),
                    before: of(&outcome.before, given, 0),
                    after: of(&outcome.after, given, 1),
                    fullness: fullness(given),
                }
            })
            .collect()
    }

    fn tell(&self, world: &World<'_>, outcome: &Outcome) -> String {
        let mut text = world.heading();
        text.push_str(&format!("simulated  {}\n", self.what()));
        let has_queries = outcome.clients.is_some();
        if let (Some(clients), Some(path)) = (&outcome.clients, &self.queries) {
            text.push_str(&format!("queries    {} of this service in {}", clients.queries, path.display()));
            text.push('\n');
            trouble(clients.counts).iter().for_each(|line| text.push_str(&format!("           {line}\n")));
        }
        let mut rows = vec![["from", "to", "IPv4", "IPv6"].map(str::to_owned).to_vec()];
        rows[0].extend(has_queries.then(|| "queries".to_owned()));
        rows[0].extend(["added km", "p95"].map(str::to_owned));
        for Move { from, to, addresses, added_km } in &outcome.moves {
            let shares = addresses.of(outcome.all);
            let mut row = vec![
                world.name_of(*from).to_owned(),
                world.name_of(*to).to_owned(),
                percent(shares.v4),
                percent(shares.v6),
            ];
            row.extend(
                outcome.clients.as_ref().map(|clients| percent(clients.part(|given| given == [*from, *to]))),
            );
            row.extend([0.5, 0.95].map(|part| quantile(added_km, part)));
            rows.push(row);
        }
        text.push('\n');
        text.push_str(&if outcome.moves.is_empty() {
            "nobody moves\n".to_owned()
        } else {
            table(&rows, &[0, 1])
        });
        let loads = self.loads(world, outcome);
        let families: &[(usize, &str)] = if has_queries {
            &[(0, "IPv4"), (1, "IPv6"), (2, "queries")]
        } else {
            &[(0, "IPv4"), (1, "IPv6")]
        };
        let mut rows = vec![vec!["site".to_owned()]];
        for (_, name) in families {
            rows[0].extend([(*name).to_owned(), "then".to_owned(), "times".to_owned()]);
        }
        rows[0].extend(world.capacities().map(|_| "of capacity".to_owned()));
        for load in &loads {
            let factors = load.factors();
            let mut row = vec![load.site.to_owned()];
            for &(index, _) in families {
                let times = factors[index].map_or_else(|| "-".to_owned(), |factor| format!("{factor:.1}x"));
                row.extend([percent(load.before[index]), percent(load.after[index]), times]);
            }
            row.extend(load.fullness.map(percent));
            rows.push(row);
        }
        text.push('\n');
        text.push_str(&table(&rows, &[0]));
        let too_much = loads.iter().filter(|load| load.is_too_much()).map(|load| load.site);
        for (number, site) in too_much.enumerate() {
            let gap = if number == 0 { "\n" } else { "" };
            text.push_str(&format!("{gap}warning: {site} takes more than twice what it had\n"));
        }
        if loads.iter().any(|load| load.fullness.is_some_and(|fullness| fullness > OVERFULL)) {
            text.push_str("\nwarning: there is not room for all\n");
        }
        text
    }

    fn to_json(&self, world: &World<'_>, outcome: &Outcome) -> Value {
        let clients = outcome.clients.as_ref();
        let told_move = |moved: &Move| {
            json!({
                "from": world.name_of(moved.from),
                "to": world.name_of(moved.to),
                "share": shares_json(moved.addresses.of(outcome.all)),
                "queries": clients.map(|clients| clients.part(|given| given == [moved.from, moved.to])),
                "added_km": { "median": moved.added_km.quantile(0.5), "p95": moved.added_km.quantile(0.95) },
            })
        };
        let told_load = |load: &Load<'_>| {
            let told =
                |of: [f64; 3]| json!({ "ipv4": of[0], "ipv6": of[1], "queries": clients.map(|_| of[2]) });
            let [v4, v6, queries] = load.factors();
            json!({
                "site": load.site,
                "out": load.is_out,
                "before": told(load.before),
                "after": told(load.after),
                "times": { "ipv4": v4, "ipv6": v6, "queries": queries },
                "overload": load.is_too_much(),
                "of_capacity": load.fullness,
            })
        };
        json!({
            "service": world.service.name,
            "type": world.type_name.to_string(),
            "down": self.down,
            "drained": self.drain,
            "queries": clients.map(|clients| clients.queries),
            "unreadable": clients.map(|clients| clients.counts.unreadable),
            "cut_off": clients.map(|clients| clients.counts.is_cut_off),
            "moves": outcome.moves.iter().map(told_move).collect::<Vec<_>>(),
            "sites": self.loads(world, outcome).iter().map(told_load).collect::<Vec<_>>(),
        })
    }
}
