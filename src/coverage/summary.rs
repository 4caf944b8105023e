//! What was counted, by site: shares, countries, kilometres, and who moves where.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Addresses, Part};
use crate::geo::{Coordinates, Country};
use crate::nameserver::Given;
use crate::site::Service;
use crate::site::cost::cost;

/// What is counted by family.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Of IPv4, 0 to 1.
    pub v4: f64,
    /// Of IPv6.
    pub v6: f64,
}

impl Addresses {
    /// Which part these are of others.
    #[must_use]
    pub fn of(self, all: Addresses) -> Shares {
        let part = |some: f64, all: f64| if all > 0.0 { some / all } else { 0.0 };
        Shares { v4: part(self.v4 as f64, all.v4 as f64), v6: part(self.v6 as f64, all.v6 as f64) }
    }
}

impl Shares {
    /// Both families in one number, for what has room for one.
    #[must_use]
    pub fn weight(self) -> f64 {
        self.v4 + self.v6
    }
}

/// Those that are given one site, or none for one reason.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they are given.
    pub given: Given,
    /// How many.
    pub addresses: Addresses,
    /// Where they are, those with the most addresses first.
    pub countries: Vec<(Country, Addresses)>,
    /// How far it is, of those whose place is known.
    pub km: Distances,
}

/// All addresses of some parts.
#[must_use]
pub fn total<const N: usize>(parts: &[Part<N>]) -> Addresses {
    let mut all = Addresses::default();
    parts.iter().for_each(|part| all += part.addresses);
    all
}

/// By what the last board gives: the service's sites in their order, each, then the reasons for none that occur.
#[must_use]
pub fn by_site<const N: usize>(service: &Service, parts: &[Part<N>]) -> Vec<Group> {
    let group = |given| Group {
        given,
        addresses: Addresses::default(),
        countries: Vec::new(),
        km: Distances::default(),
    };
    let mut groups: Vec<Group> =
        (0..service.sites.len() as u16).map(|site| group(Given::Site(site))).collect();
    let mut countries: Vec<HashMap<Country, Addresses>> = vec![HashMap::new(); groups.len()];
    for part in parts {
        let given = part.given[N - 1];
        let index = groups.iter().position(|group| group.given == given).unwrap_or_else(|| {
            groups.push(group(given));
            countries.push(HashMap::new());
            groups.len() - 1
        });
        groups[index].addresses += part.addresses;
        if let Some(country) = part.country {
            *countries[index].entry(country).or_default() += part.addresses;
        }
        if let Some(km) = km(service, part.point, given) {
            groups[index].km.add(km, part.addresses);
        }
    }
    for (group, countries) in groups.iter_mut().zip(countries) {
        group.countries = countries.into_iter().collect();
        group.countries.sort_by_key(|&(country, Addresses { v4, v6 })| (Reverse((v4, v6)), country));
    }
    groups
}

/// How far it is to a site, where both stand somewhere.
#[must_use]
pub fn km(service: &Service, point: Option<Coordinates>, given: Given) -> Option<f64> {
    match given {
        Given::Site(site) => Some(cost(point?, &service.sites[usize::from(site)])?.km),
        Given::NoSite(_) => None,
    }
}

/// Those that go from one site to another.
#[derive(Clone, Debug)]
pub struct Move {
    /// What they are given before.
    pub from: Given,
    /// What they are given then.
    pub to: Given,
    /// How many.
    pub addresses: Addresses,
    /// How much farther it is, of those whose place is known.
    pub added_km: Distances,
}

/// Who moves between two boards, in the order of sites.
#[must_use]
pub fn moves(service: &Service, parts: &[Part<2>]) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for part in parts.iter().filter(|part| part.given[0] != part.given[1]) {
        let [from, to] = part.given;
        let index =
            moves.iter().position(|known| (known.from, known.to) == (from, to)).unwrap_or_else(|| {
                moves.push(Move {
                    from,
                    to,
                    addresses: Addresses::default(),
                    added_km: Distances::default(),
                });
                moves.len() - 1
            });
        moves[index].addresses += part.addresses;
        if let (Some(before), Some(after)) = (km(service, part.point, from), km(service, part.point, to)) {
            moves[index].added_km.add(after - before, part.addresses);
        }
    }
    let number = |given| match given {
        Given::Site(site) => usize::from(site),
        Given::NoSite(reason) => usize::from(u16::MAX) + 1 + reason as usize,
    };
    moves.sort_by_key(|known| (number(known.from), number(known.to)));
    moves
}

/// How many addresses are how far, in whole kilometres.
#[derive(Clone, Debug, Default)]
pub struct Distances {
    /// From `-FARTHEST` on; empty where nothing was added.
    by_km: Vec<Addresses>,
    all: Addresses,
}

/// Half the way around the earth, rounded up.
const FARTHEST: i32 = 20_016;

impl Distances {
    /// Adds some.
    pub fn add(&mut self, km: f64, addresses: Addresses) {
        if self.by_km.is_empty() {
            self.by_km.resize(2 * FARTHEST as usize + 1, Addresses::default());
        }
        let km = (km.round() as i32).clamp(-FARTHEST, FARTHEST);
        self.by_km[(km + FARTHEST) as usize] += addresses;
        self.all += addresses;
    }

    /// The least kilometres that a part of all addresses is not beyond: 0.5 for the median. Of IPv4; of IPv6 where there is no IPv4.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<i32> {
        let is_v4 = self.all.v4 > 0;
        let number = |addresses: &Addresses| if is_v4 { addresses.v4 as f64 } else { addresses.v6 as f64 };
        let wanted = number(&self.all) * part;
        let mut below = 0.0;
        let found = self.by_km.iter().position(|addresses| {
            below += number(addresses);
            below > 0.0 && below >= wanted
        });
        found.map(|index| index as i32 - FARTHEST)
    }
}

/// The world in cells of one degree, by what most of each is given.
#[derive(Clone, Debug)]
pub struct Grid {
    cells: Vec<Option<Cell>>,
}

/// A cell in which somebody is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// What most of it is given on the last board.
    pub given: Given,
    /// Whether that is something else than on the first.
    pub moves: bool,
    /// Its part of IPv4 and of IPv6, added.
    pub weight: f64,
}

impl Grid {
    /// Cells from west to east.
    pub const COLUMNS: usize = 360;
    /// Cells from north to south.
    pub const ROWS: usize = 180;

    /// Lays parts out.
    #[must_use]
    pub fn new<const N: usize>(parts: &[Part<N>]) -> Grid {
        let all = total(parts);
        // Few things are given in one cell.
        let mut in_cell: Vec<Vec<Cell>> = vec![Vec::new(); Grid::COLUMNS * Grid::ROWS];
        for part in parts {
            let Some(point) = part.point else { continue };
            let (given, moves) = (part.given[N - 1], part.given[0] != part.given[N - 1]);
            let weight = part.addresses.of(all).weight();
            let here = &mut in_cell[Grid::index(point)];
            match here.iter_mut().find(|cell| cell.given == given && cell.moves == moves) {
                Some(cell) => cell.weight += weight,
                None => here.push(Cell { given, moves, weight }),
            }
        }
        let most = |here: Vec<Cell>| {
            let weight = here.iter().map(|cell| cell.weight).sum();
            // The first of equals, whichever thread came first.
            let order = |cell: &Cell| match cell.given {
                Given::Site(site) => u32::from(site),
                Given::NoSite(_) => u32::MAX,
            };
            let most = here
                .into_iter()
                .max_by(|a, b| a.weight.total_cmp(&b.weight).then(order(b).cmp(&order(a))))?;
            Some(Cell { weight, ..most })
        };
        Grid { cells: in_cell.into_iter().map(most).collect() }
    }

    fn index(point: Coordinates) -> usize {
        let column = ((point.longitude + 180.0) as usize).min(Grid::COLUMNS - 1);
        let row = ((90.0 - point.latitude) as usize).min(Grid::ROWS - 1);
        row * Grid::COLUMNS + column
    }

    /// A cell by column and row, if anybody is there.
    #[must_use]
    pub fn cell(&self, column: usize, row: usize) -> Option<Cell> {
        self.cells[row * Grid::COLUMNS + column]
    }

    /// The middle of a cell.
    #[must_use]
    pub fn middle(column: usize, row: usize) -> Coordinates {
        Coordinates { latitude: 89.5 - row as f64, longitude: column as f64 - 179.5 }
    }

    /// All cells in which somebody is, with column and row.
    pub fn inhabited(&self) -> impl Iterator<Item = (usize, usize, Cell)> + '_ {
        let place = |(index, cell): (usize, &Option<Cell>)| {
            cell.map(|cell| (index % Grid::COLUMNS, index / Grid::COLUMNS, cell))
        };
        self.cells.iter().enumerate().filter_map(place)
    }
}
