//! Coverage -> the world in the colours of its sites, with a legend.
//!
//! Plain equirectangular: a degree is as wide as it is high, everywhere. There is no coast: where people are shows the
//! continents. A database of countries has one point for each; those become circles, as large as their part of the address space.

use super::{Colour, LETTER, Picture, Shape, Size};
use crate::coverage::summary::{Cell, Grid};
use crate::geo::Coordinates;
use crate::nameserver::Given;

/// What a map is made of.
#[derive(Debug)]
pub struct Map<'a> {
    /// Above it.
    pub title: String,
    /// Who gets what where.
    pub grid: &'a Grid,
    /// The sites, by index.
    pub sites: Vec<Mark>,
    /// What a cell gets where nobody is known to be; none: it stays blank.
    pub elsewhere: Option<&'a dyn Elsewhere>,
    /// Only what moves is in full colour.
    pub shows_moves: bool,
    /// Below the legend, a line each.
    pub notes: Vec<String>,
}

/// What a place gets where no database knows anybody.
pub trait Elsewhere: std::fmt::Debug {
    /// The site.
    fn given(&self, point: Coordinates) -> Given;
}

/// A site on the map.
#[derive(Clone, Debug)]
pub struct Mark {
    /// What it is called.
    pub name: String,
    /// Where it stands.
    pub location: Option<Coordinates>,
    /// Behind the name in the legend.
    pub legend: String,
    /// Takes nobody.
    pub is_out: bool,
}

/// Colours that are told apart whatever the eye confuses (Okabe and Ito 2008, black a little lighter).
const COLOURS: [Colour; 8] = [
    Colour([0x00, 0x72, 0xb2]),
    Colour([0xe6, 0x9f, 0x00]),
    Colour([0x00, 0x9e, 0x73]),
    Colour([0xcc, 0x79, 0xa7]),
    Colour([0x56, 0xb4, 0xe9]),
    Colour([0xd5, 0x5e, 0x00]),
    Colour([0xf0, 0xe4, 0x42]),
    Colour([0x40, 0x40, 0x40]),
];

/// For those who get no site.
const NOBODY: Colour = Colour([0xa0; 3]);
/// Units a degree.
const DEGREE: u32 = 3;
/// The first and last row that are drawn: beyond them are ice and water.
const ROWS: std::ops::Range<usize> = 6..148;
const LEFT: u32 = 10;
const TOP: u32 = 36;
const WIDTH: u32 = Grid::COLUMNS as u32 * DEGREE;
const HEIGHT: u32 = (ROWS.end - ROWS.start) as u32 * DEGREE;
/// Fewer cells than any database of cities fills.
const FEW: usize = 1000;

/// Draws it.
#[must_use]
pub fn draw(map: &Map<'_>) -> Picture {
    let mut picture = Picture { width: WIDTH + 2 * LEFT, height: 0, shapes: Vec::new() };
    let shapes = &mut picture.shapes;
    let mut notes = map.notes.clone();
    shapes.push(Shape::Text([LEFT, 24], map.title.clone(), Size::Large, Colour::INK));
    draw_graticule(shapes);
    if map.grid.inhabited().count() < FEW {
        draw_cells(map, false, shapes);
        draw_circles(map, shapes);
        notes.insert(
            0,
            "Circles: where a database of countries puts each, as large as its part of the addresses."
                .to_owned(),
        );
    } else {
        draw_cells(map, true, shapes);
    }
    draw_sites(map, shapes);
    let bottom = draw_legend(map, &notes, TOP + HEIGHT + 14, shapes);
    picture.height = bottom + 8;
    picture
}

/// A line each 30 degrees.
fn draw_graticule(shapes: &mut Vec<Shape>) {
    const LINE: Colour = Colour([0xe4; 3]);
    for column in (0..=Grid::COLUMNS as u32).step_by(30) {
        shapes.push(Shape::Rect([LEFT + column * DEGREE, TOP, 1, HEIGHT], LINE));
    }
    for row in (0..Grid::ROWS as u32).step_by(30).filter(|row| ROWS.contains(&(*row as usize))) {
        shapes.push(Shape::Rect([LEFT, TOP + (row - ROWS.start as u32) * DEGREE, WIDTH, 1], LINE));
    }
}

/// The colour of a cell: of what it gets, where it lies, and how strong.
fn colour(given: Given, column: usize, row: usize, strength: f64) -> Colour {
    let plain = match given {
        Given::Site(site) => pattern(usize::from(site), column, row),
        Given::NoSite(_) if (column + row).is_multiple_of(2) => NOBODY,
        Given::NoSite(_) => NOBODY.mix(0.4, Colour::WHITE),
    };
    plain.mix(strength, Colour::WHITE)
}

/// From the ninth site on stripes tell it from another of its colour.
fn pattern(site: usize, column: usize, row: usize) -> Colour {
    let colour = COLOURS[site % COLOURS.len()];
    let is_stripe = match site / COLOURS.len() {
        0 => false,
        1 => (column + row).is_multiple_of(3),
        2 => row.is_multiple_of(2),
        3 => column.is_multiple_of(2),
        _ => (column + 3 - row % 3).is_multiple_of(3),
    };
    if is_stripe { colour.mix(0.35, Colour::WHITE) } else { colour }
}

/// How strong what is known, and what is guessed.
const PALE: f64 = 0.28;

fn strength(map: &Map<'_>, cell: Cell) -> f64 {
    if map.shows_moves && !cell.moves { PALE } else { 1.0 }
}

/// Runs of equal cells in one piece, those of one colour together.
fn draw_cells(map: &Map<'_>, with_inhabited: bool, shapes: &mut Vec<Shape>) {
    let mut runs: Vec<(Colour, [u32; 4])> = Vec::new();
    for row in ROWS {
        let mut last = None;
        for column in 0..Grid::COLUMNS {
            let inhabited = map.grid.cell(column, row).filter(|_| with_inhabited);
            let here = match inhabited {
                Some(cell) => Some(colour(cell.given, column, row, strength(map, cell))),
                None => map
                    .elsewhere
                    .map(|elsewhere| colour(elsewhere.given(Grid::middle(column, row)), column, row, PALE)),
            };
            match (here, runs.last_mut()) {
                (Some(colour), Some((_, run))) if last == Some(colour) => run[2] += DEGREE,
                (Some(colour), _) => {
                    let place = [
                        LEFT + column as u32 * DEGREE,
                        TOP + (row - ROWS.start) as u32 * DEGREE,
                        DEGREE,
                        DEGREE,
                    ];
                    runs.push((colour, place));
                }
                (None, _) => {}
            }
            last = here;
        }
    }
    // As tall as they go on below: seas are large.
    let mut tall: Vec<(Colour, [u32; 4])> = Vec::with_capacity(runs.len());
    runs.sort_by_key(|(colour, [x, y, width, _])| (colour.0, *x, *width, *y));
    for (colour, place) in runs {
        match tall.last_mut() {
            Some((open, [x, y, width, height]))
                if (*open, *x, *width, *y + *height) == (colour, place[0], place[2], place[1]) =>
            {
                *height += DEGREE;
            }
            _ => tall.push((colour, place)),
        }
    }
    tall.sort_by_key(|(colour, [x, y, ..])| (colour.0, *y, *x));
    shapes.extend(tall.into_iter().map(|(colour, place)| Shape::Rect(place, colour)));
}

/// The largest first, so that none is hidden.
fn draw_circles(map: &Map<'_>, shapes: &mut Vec<Shape>) {
    let mut cells: Vec<(usize, usize, Cell)> = map.grid.inhabited().collect();
    cells.sort_by(|a, b| b.2.weight.total_cmp(&a.2.weight));
    for (column, row, cell) in cells {
        let [x, y] = on_map(Grid::middle(column, row));
        let radius = 2.5 + (cell.weight * 1200.0).sqrt();
        shapes.push(Shape::Circle([x, y], radius, colour(cell.given, 1, 1, strength(map, cell))));
    }
}

fn on_map(point: Coordinates) -> [f64; 2] {
    let x = f64::from(LEFT) + (point.longitude + 180.0) * f64::from(DEGREE);
    let y = f64::from(TOP) + (90.0 - point.latitude - ROWS.start as f64) * f64::from(DEGREE);
    [x, y.clamp(f64::from(TOP), f64::from(TOP + HEIGHT))]
}

/// A dot each, and its name where there is room.
fn draw_sites(map: &Map<'_>, shapes: &mut Vec<Shape>) {
    let mut taken: Vec<[u32; 4]> = Vec::new();
    let located = |(index, mark): (usize, &Mark)| mark.location.map(|location| (index, on_map(location)));
    let places: Vec<(usize, [f64; 2])> = map.sites.iter().enumerate().filter_map(located).collect();
    for &(index, [x, y]) in &places {
        let mark = &map.sites[index];
        shapes.push(Shape::Circle([x, y], 5.5, Colour::INK));
        let inner = if mark.is_out { Colour::WHITE } else { COLOURS[index % COLOURS.len()] };
        shapes.push(Shape::Circle([x, y], 3.5, inner));
        taken.push([x as u32 - 5, y as u32 - 5, 10, 10]);
    }
    for (index, [x, y]) in places {
        let mark = &map.sites[index];
        let text = if mark.is_out { format!("{} (out)", mark.name) } else { mark.name.clone() };
        let (x, y, width) = (x as u32, y as u32, text.chars().count() as u32 * LETTER);
        let left_of = x.saturating_sub(8 + width);
        let spots = [
            [x + 8, y + 4],
            [left_of, y + 4],
            [x.saturating_sub(width / 2), y + 18],
            [x.saturating_sub(width / 2), y - 9],
        ];
        let free = spots.into_iter().find(|[x, y]| {
            let is_apart = |other: &[u32; 4]| {
                x + width < other[0]
                    || other[0] + other[2] < *x
                    || *y < other[1]
                    || other[1] + other[3] < y - 10
            };
            *x >= LEFT && x + width <= LEFT + WIDTH && *y <= TOP + HEIGHT && taken.iter().all(is_apart)
        });
        // Where sites stand close together, the legend has to do.
        if let Some([x, y]) = free {
            taken.push([x, y - 10, width, 12]);
            shapes.push(Shape::Label([x, y], text));
        }
    }
}

/// In as many columns as there is room for; gives where it ends.
fn draw_legend(map: &Map<'_>, notes: &[String], top: u32, shapes: &mut Vec<Shape>) -> u32 {
    let longest =
        map.sites.iter().map(|mark| mark.name.chars().count() + mark.legend.chars().count() + 2).max();
    let width = longest.unwrap_or(0) as u32 * LETTER + 60;
    let columns = (WIDTH / width.max(1)).clamp(1, 4);
    let rows = (map.sites.len() as u32).div_ceil(columns);
    let name_width = map.sites.iter().map(|mark| mark.name.chars().count()).max().unwrap_or(0);
    for (index, mark) in map.sites.iter().enumerate() {
        let x = LEFT + index as u32 / rows * (WIDTH / columns);
        let y = top + index as u32 % rows * 18;
        // The pattern of a site needs some cells to be seen.
        for row in 0..4 {
            for column in 0..8 {
                let place = [x + column * DEGREE, y + row * DEGREE, DEGREE, DEGREE];
                let (column, row) = (column as usize, row as usize);
                shapes.push(Shape::Rect(place, pattern(index, column, row)));
            }
        }
        let text = format!("{:name_width$}  {}", mark.name, mark.legend);
        shapes.push(Shape::Text([x + 32, y + 10], text, Size::Small, Colour::INK));
    }
    let mut y = top + rows * 18 + 12;
    for note in notes {
        shapes.push(Shape::Text([LEFT, y], note.clone(), Size::Small, Colour::GREY));
        y += 16;
    }
    y - 8
}
