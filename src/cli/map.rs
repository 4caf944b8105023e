//! `meridian map`: who gets which site.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::Places;
use super::coverage::{
    Failure, Ground, Nearest, World, percent, quantile, shares_json, table, write_pictures,
};
use crate::coverage::summary::{Grid, Group, by_site, total};
use crate::draw::map::{Elsewhere, Map, draw};
use crate::geo::read::About;

/// Tell, or draw, which places get which site of a service, and how much of the address space each site has.
///
/// Every network that the geo databases know is answered as a query from it would be. Sites count as up, but for --down.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian map web --down syd --svg map.svg")]
pub(super) struct MapCommand {
    /// The service's name.
    service: String,
    /// A site to take as down; may be given several times.
    #[arg(long, value_name = "SITE")]
    down: Vec<String>,
    /// The type that is asked for; A if any site has it.
    #[arg(long = "type", value_name = "TYPE")]
    rtype: Option<String>,
    /// Draw the world into this file instead of telling it.
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

/// Cells that lie nearer to another site than they get, of all: beyond this distance tells little where nobody is known.
const MOST_EXCEPTIONS: f64 = 0.1;

impl MapCommand {
    pub(super) fn run(self) -> ExitCode {
        match self.map() {
            Ok(()) => ExitCode::SUCCESS,
            Err((text, code)) => {
                eprint!("{text}");
                code
            }
        }
    }

    fn map(&self) -> Result<(), Failure> {
        let ground = Ground::open(&self.places)?;
        let world = ground.world(&self.service, self.rtype.as_deref())?;
        let board = world.board(&self.down, &[])?;
        let parts = world.count([&board]);
        let all = total(&parts);
        let groups = by_site(&world.service, &parts);
        let shares = |group: &Group| group.addresses.of(all);
        if self.json {
            let site = |group: &Group| {
                json!({
                    "site": world.name_of(group.given),
                    "share": shares_json(shares(group)),
                    "ipv4_addresses": group.addresses.v4,
                    "km": { "median": group.km.quantile(0.5), "p95": group.km.quantile(0.95) },
                    "countries": group.countries.iter().map(|(country, addresses)| json!({
                        "country": country.to_string(), "share": shares_json(addresses.of(all)),
                    })).collect::<Vec<_>>(),
                })
            };
            let sites: Vec<Value> = groups.iter().map(site).collect();
            let told = json!({
                "service": world.service.name,
                "type": world.type_name.to_string(),
                "databases": world.ground.about.iter().map(|about| about.path.display().to_string()).collect::<Vec<_>>(),
                "down": self.down,
                "ipv4_addresses": all.v4,
                "sites": sites,
            });
            super::print(&format!("{told:#}\n"));
        } else if self.svg.is_none() && self.png.is_none() {
            let mut text = world.heading();
            if !self.down.is_empty() {
                text.push_str(&format!("down       {}\n", self.down.join(", ")));
            }
            text.push('\n');
            text.push_str(&tell(&world, &groups, &|group| shares(group)));
            super::print(&text);
        }
        let title = self.title(&world);
        let picture = || {
            let grid = Grid::new(&parts);
            let nearest = Nearest { service: &world.service, out: &self.down };
            let (mut cells, mut exceptions) = (0_u32, 0_u32);
            for (column, row, cell) in grid.inhabited() {
                cells += 1;
                exceptions += u32::from(nearest.given(Grid::middle(column, row)) != cell.given);
            }
            let is_near = cells > 0 && f64::from(exceptions) <= f64::from(cells) * MOST_EXCEPTIONS;
            let guess = if is_near {
                let of = percent(1.0 - f64::from(exceptions) / f64::from(cells.max(1)));
                format!(
                    "Paler: no network is known there; the site that is nearest by distance, as for {of} of the places that are known."
                )
            } else {
                "Blank: no network is known there, and the nearest site would often be wrong.".to_owned()
            };
            let mut notes = vec![guess];
            notes.extend(notes_of(&world));
            draw(&Map {
                title: title.clone(),
                grid: &grid,
                sites: world.marks(&groups, &self.down, |group| {
                    let shares = shares(group);
                    format!(
                        "IPv4 {:>6}  IPv6 {:>6}  median {} km",
                        percent(shares.v4),
                        percent(shares.v6),
                        quantile(&group.km, 0.5)
                    )
                }),
                elsewhere: if is_near { Some(&nearest) } else { None },
                shows_moves: false,
                notes,
            })
        };
        write_pictures(picture, &title, self.svg.as_deref(), self.png.as_deref(), !self.json)
    }

    fn title(&self, world: &World<'_>) -> String {
        let down =
            if self.down.is_empty() { String::new() } else { format!(", {} down", self.down.join(" and ")) };
        format!("{}: the site that each place gets{down}", world.service.name)
    }
}

/// What stands below every legend.
pub(super) fn notes_of(world: &World<'_>) -> Vec<String> {
    if world.ground.about.is_empty() {
        return vec![
            "No geo database: by rules and the order of sites only, and nobody's place is known.".to_owned(),
        ];
    }
    let mut notes = vec!["IPv4, IPv6: part of the addresses that the geo databases know.".to_owned()];
    let is_of_dbip = |about: &About| {
        let is_named = |text: &str| text.to_ascii_lowercase().contains("dbip");
        is_named(&about.kind) || is_named(&about.path.to_string_lossy())
    };
    if world.ground.about.iter().any(is_of_dbip) {
        // As its licence asks.
        notes.push("IP Geolocation by DB-IP, https://db-ip.com".to_owned());
    }
    notes
}

fn tell(
    world: &World<'_>,
    groups: &[Group],
    shares: &dyn Fn(&Group) -> crate::coverage::summary::Shares,
) -> String {
    let mut rows =
        vec![["site", "IPv4", "IPv6", "median km", "p95 km", "countries"].map(str::to_owned).to_vec()];
    for group in groups {
        let of_site = shares(group);
        let countries = group.countries.iter().take(5).map(|(country, addresses)| {
            let of_group = addresses.of(group.addresses);
            let part = if group.addresses.v4 > 0 { of_group.v4 } else { of_group.v6 };
            format!("{country} {:.0} %", part * 100.0)
        });
        rows.push(vec![
            world.name_of(group.given).to_owned(),
            percent(of_site.v4),
            percent(of_site.v6),
            quantile(&group.km, 0.5),
            quantile(&group.km, 0.95),
            countries.collect::<Vec<_>>().join(", "),
        ]);
    }
    table(&rows, &[0, 5])
}
