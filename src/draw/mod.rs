//! Pictures: a list of simple shapes, written as SVG by hand or as PNG.
//!
//! Pure functions: shapes in, octets out. There is as much here as maps need, and no more.

pub mod map;
pub mod png;
pub mod svg;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// White.
    pub const WHITE: Colour = Colour([255; 3]);
    /// What letters have.
    pub const INK: Colour = Colour([0x22; 3]);
    /// For what is less important.
    pub const GREY: Colour = Colour([0x77; 3]);

    /// So much of this colour, the rest of another.
    #[must_use]
    pub fn mix(self, part: f64, other: Colour) -> Colour {
        let channel = |index: usize| {
            (f64::from(self.0[index]) * part + f64::from(other.0[index]) * (1.0 - part)).round() as u8
        };
        Colour([channel(0), channel(1), channel(2)])
    }
}

/// Something to be drawn, over what came before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Left, top, width and height.
    Rect([u32; 4], Colour),
    /// Centre and radius, with a thin white ring around it.
    Circle([f64; 2], f64, Colour),
    /// Where the base line of a text begins; larger letters for titles.
    Text([u32; 2], String, Size, Colour),
    /// A text with a white rim, to be read on whatever lies below.
    Label([u32; 2], String),
}

/// Of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 12.
    Small,
    /// 16.
    Large,
}

/// How wide a small letter is, in both forms: a hundredth more than it takes.
pub const LETTER: u32 = 7;

/// Shapes on white.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Of the whole.
    pub width: u32,
    /// Of the whole.
    pub height: u32,
    /// The first is the lowest.
    pub shapes: Vec<Shape>,
}
