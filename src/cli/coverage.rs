//! What `map` and `simulate` share: the service that is asked about, boards, how figures are written.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Places;
use crate::catchment::ServiceIndex;
use crate::catchment::census::Census;
use crate::coverage::summary::{Distances, Group, Shares};
use crate::coverage::{Part, Side, View, count, count_in};
use crate::draw::map::{Elsewhere, Mark};
use crate::draw::{Picture, png, svg};
use crate::finding::{Findings, Severity, did_you_mean};
use crate::geo::read::About;
use crate::geo::{Coordinates, Databases};
use crate::health::board::{Board, Layout, Share};
use crate::health::spill;
use crate::nameserver::{Given, NoSite};
use crate::reload::Reloader;
use crate::reload::expect::take_down;
use crate::site::Service;
use crate::site::compile::TypeIndex;
use crate::site::cost::cost;
use crate::snapshot::Snapshot;
use crate::wire::Rtype;

/// Places of a city database: to walk them takes seconds.
const MANY: usize = 50_000;

/// What to print instead, and how to exit.
pub(super) type Failure = (String, ExitCode);

pub(super) fn wrong_usage(text: impl std::fmt::Display) -> Failure {
    (format!("{text}\n"), ExitCode::from(2))
}

/// All that services are answered from, and what the tables were made of.
pub(super) struct Ground {
    pub(super) snapshot: Snapshot,
    layout: Layout,
    services: Vec<Arc<Service>>,
    paths: Vec<PathBuf>,
    pub(super) about: Vec<About>,
    census: Option<Arc<Census>>,
    /// Where the census does not say all.
    databases: OnceCell<Databases>,
}

/// One of the services, and what is asked for.
pub(super) struct World<'g> {
    pub(super) ground: &'g Ground,
    pub(super) service: Arc<Service>,
    pub(super) index: ServiceIndex,
    rtype: TypeIndex,
    pub(super) type_name: Rtype,
}

impl Ground {
    pub(super) fn open(places: &Places) -> Result<Ground, Failure> {
        let config = places.config().map_err(|code| (String::new(), code))?;
        // Of a server that runs here tables and census are at hand, and the databases need not be walked.
        let mut reloader = Reloader::to_compare(&config);
        reloader.keep_databases();
        let reload = reloader.reload(false);
        let Some((snapshot, layout)) = reload.snapshot else {
            return Err((reload.findings.to_string(), ExitCode::from(1)));
        };
        // What is wrong with the files may well be why.
        eprint!("{}", reload.findings.only(|finding| finding.severity == Severity::Error));
        Ok(Ground {
            snapshot,
            layout,
            services: reloader.services().to_vec(),
            paths: reloader.databases().iter().map(|(path, _)| path.clone()).collect(),
            about: reloader.about().to_vec(),
            census: reloader.take_census(),
            databases: reloader.take_databases().map_or_else(OnceCell::new, OnceCell::from),
        })
    }

    /// The services that have one of some sites.
    pub(super) fn services_with(&self, sites: &[&String]) -> Result<Vec<Arc<Service>>, Failure> {
        let all = || self.services.iter().flat_map(|service| &service.sites).map(|site| site.name.as_str());
        if let Some(site) = sites.iter().find(|site| !all().any(|name| name == site.as_str())) {
            return Err(wrong_usage(format!(
                "no service has a site \"{site}\"{}",
                did_you_mean(site, all())
            )));
        }
        let has_one = |service: &&Arc<Service>| service.sites.iter().any(|site| sites.contains(&&site.name));
        Ok(self.services.iter().filter(has_one).cloned().collect())
    }

    pub(super) fn world(&self, service: &str, rtype: Option<&str>) -> Result<World<'_>, Failure> {
        let Some(index) = self.services.iter().position(|known| known.name == service) else {
            let hint = did_you_mean(service, self.services.iter().map(|known| known.name.as_str()));
            return Err(wrong_usage(format!("unknown service \"{service}\"{hint}")));
        };
        let service = Arc::clone(&self.services[index]);
        let index = index as ServiceIndex;
        let compiled = self.snapshot.service(index);
        let type_name = match rtype {
            Some(word) => word.parse::<Rtype>().map_err(|_| {
                wrong_usage(format!("unknown type \"{word}\"{}", did_you_mean(word, Rtype::mnemonics())))
            })?,
            None => {
                let usual =
                    [Rtype::A, Rtype::AAAA].into_iter().find(|rtype| compiled.types().contains(rtype));
                usual.or(compiled.types().first().copied()).unwrap_or(Rtype::A)
            }
        };
        let Some(rtype) = compiled.find_type(type_name) else {
            return Err(wrong_usage(format!("no site of \"{}\" has the type {type_name}", service.name)));
        };
        Ok(World { ground: self, service, index, rtype, type_name })
    }
}

impl World<'_> {
    /// Who is given what on each of some boards.
    pub(super) fn count<const N: usize>(&self, boards: [&Board; N]) -> Vec<Part<N>> {
        let view = View { snapshot: &self.ground.snapshot, service: self.index, rtype: self.rtype };
        if let Some(census) = &self.ground.census {
            let (parts, are_drawn) = count_in(census, view, boards);
            // Few places are walked in a moment, and then each block counts for what it is given.
            if !are_drawn || parts.len() > MANY {
                return parts;
            }
        }
        let open = || Databases::open(&self.ground.paths, &mut Findings::new());
        count(boards.map(|board| Side { view, board }), self.ground.databases.get_or_init(open))
    }

    /// What each site has room for, in parts of all that clients ask for, where the service spills.
    pub(super) fn capacities(&self) -> Option<&[f64]> {
        self.ground.layout.services[usize::from(self.index)].market.as_ref().map(|market| market.capacities())
    }

    /// Some sites down, some drained, the others as they are when all is well.
    pub(super) fn board(&self, down: &[String], drained: &[String]) -> Result<Board, Failure> {
        let board = Board::new(self.ground.layout.clone());
        let names = || self.service.sites.iter().map(|site| site.name.as_str());
        if let Some(site) = down.iter().chain(drained).find(|site| !names().any(|name| name == *site)) {
            let hint = did_you_mean(site, names());
            return Err(wrong_usage(format!("unknown site \"{site}\"{hint}")));
        }
        for site in down {
            take_down(&self.ground.snapshot, &board, site);
        }
        for site in self.ground.snapshot.service(self.index).sites.iter() {
            if drained.contains(&board.layout().shares[site.share as usize].site) {
                board.set_share(site.share, Share::DRAINED);
            }
        }
        spill::price(&board);
        Ok(board)
    }

    pub(super) fn name_of(&self, given: Given) -> &str {
        name_of(&self.service, given)
    }

    /// What the figures are of, in the first lines of a table.
    pub(super) fn heading(&self) -> String {
        let files: Vec<String> =
            self.ground.about.iter().map(|about| about.path.display().to_string()).collect();
        let databases = match files.as_slice() {
            [] => "none: by rules and the order of sites only".to_owned(),
            files => files.join(", "),
        };
        format!("service    {}, type {}\ndatabases  {databases}\n", self.service.name, self.type_name)
    }

    /// For the picture. `groups` are those of all sites, in order.
    pub(super) fn marks(
        &self,
        groups: &[Group],
        out: &[String],
        legend: impl Fn(&Group) -> String,
    ) -> Vec<Mark> {
        let mark = |(site, group): (&Arc<crate::site::Site>, &Group)| Mark {
            name: site.name.clone(),
            location: site.location,
            legend: legend(group),
            is_out: out.contains(&site.name),
        };
        self.service.sites.iter().zip(groups).map(mark).collect()
    }
}

/// A site's name, or why there is none.
pub(super) fn name_of(service: &Service, given: Given) -> &str {
    match given {
        Given::Site(site) => &service.sites[usize::from(site)].name,
        Given::NoSite(NoSite::Denied) => "(denied)",
        Given::NoSite(NoSite::NoData) => "(no data)",
        Given::NoSite(NoSite::NothingUp) => "(nothing up)",
        Given::NoSite(NoSite::LastResort) => "(last resort)",
    }
}

/// The nearest of the sites that take anybody, rules aside.
#[derive(Debug)]
pub(super) struct Nearest<'a> {
    pub(super) service: &'a Service,
    pub(super) out: &'a [String],
}

impl Elsewhere for Nearest<'_> {
    fn given(&self, point: Coordinates) -> Given {
        let sites = self.service.sites.iter().enumerate();
        let costs = sites
            .filter(|(_, site)| !self.out.contains(&site.name))
            .filter_map(|(index, site)| Some((cost(point, site)?.cost, &site.name, index as u16)));
        let nearest = costs.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        nearest.map_or(Given::NoSite(NoSite::NothingUp), |(_, _, site)| Given::Site(site))
    }
}

/// Writes the pictures that are asked for; tells each on standard output, unless that is for programs.
pub(super) fn write_pictures(
    picture: impl Fn() -> Picture,
    title: &str,
    svg_file: Option<&Path>,
    png_file: Option<&Path>,
    is_told: bool,
) -> Result<(), Failure> {
    if svg_file.is_none() && png_file.is_none() {
        return Ok(());
    }
    let picture = picture();
    let write = |path: &Path, octets: &[u8]| {
        let written = fs::write(path, octets);
        written.map_err(|error| (format!("{}: {error}\n", path.display()), ExitCode::from(1)))?;
        if is_told {
            super::print(&format!("{}: {} KB\n", path.display(), octets.len().div_ceil(1000)));
        }
        Ok::<(), Failure>(())
    };
    if let Some(path) = svg_file {
        write(path, svg::write(&picture, title).as_bytes())?;
    }
    if let Some(path) = png_file {
        let octets = png::write(&picture).map_err(|error| (format!("{error}\n"), ExitCode::from(1)))?;
        write(path, &octets)?;
    }
    Ok(())
}

/// A part as hundredths.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// Kilometres, where any are known.
pub(super) fn quantile(km: &Distances, part: f64) -> String {
    km.quantile(part).map_or_else(|| "-".to_owned(), |km| km.to_string())
}

/// The same for programs: not rounded.
pub(super) fn shares_json(shares: Shares) -> Value {
    json!({ "ipv4": shares.v4, "ipv6": shares.v6 })
}

/// Columns as wide as they need, the first one to the left and so the last one; numbers between.
pub(super) fn table(rows: &[Vec<String>], left: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if left.contains(&column) { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
