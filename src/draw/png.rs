//! A picture as PNG, at twice its size, so that letters and circles are smooth.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

use super::{Colour, Picture, Shape, Size};

/// Pixels a unit.
const SCALE: u32 = 2;

/// Draws every shape over what was there.
///
/// # Errors
/// If the encoder refuses; it has no reason to.
pub fn write(picture: &Picture) -> Result<Vec<u8>, String> {
    let (width, height) = (picture.width * SCALE, picture.height * SCALE);
    let mut canvas = Canvas { width, height, pixels: vec![255; width as usize * height as usize * 3] };
    for shape in &picture.shapes {
        match shape {
            Shape::Rect(place, colour) => canvas.fill(place.map(|length| length * SCALE), *colour),
            Shape::Circle([x, y], radius, colour) => {
                let [x, y, radius] = [*x, *y, *radius].map(|length| length * f64::from(SCALE));
                canvas.circle(x, y, radius + 1.0, Colour::WHITE);
                canvas.circle(x, y, radius - 1.0, *colour);
            }
            Shape::Text(at, text, size, colour) => canvas.text(*at, [0, 0], text, *size, *colour),
            Shape::Label(at, text) => {
                for offset in RIM {
                    canvas.text(*at, offset, text, Size::Small, Colour::WHITE);
                }
                canvas.text(*at, [0, 0], text, Size::Small, Colour::INK);
            }
        }
    }
    let mut octets = Vec::new();
    let mut encoder = png::Encoder::new(&mut octets, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(&canvas.pixels).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(octets)
}

/// Around a letter, in pixels.
const RIM: [[i64; 2]; 8] = [[-3, 0], [3, 0], [0, -3], [0, 3], [-2, -2], [-2, 2], [2, -2], [2, 2]];

struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Lays a colour over a pixel; what lies outside is not drawn.
    fn blend(&mut self, x: i64, y: i64, part: f64, colour: Colour) {
        if x < 0 || y < 0 || x >= i64::from(self.width) || y >= i64::from(self.height) {
            return;
        }
        let at = (y as usize * self.width as usize + x as usize) * 3;
        if let Some(pixel) = self.pixels.get_mut(at..at + 3) {
            let below = Colour([pixel[0], pixel[1], pixel[2]]);
            pixel.copy_from_slice(&colour.mix(part, below).0);
        }
    }

    fn fill(&mut self, [left, top, width, height]: [u32; 4], colour: Colour) {
        for y in top..(top + height).min(self.height) {
            let start = (y as usize * self.width as usize + left as usize) * 3;
            let end = start + (width.min(self.width.saturating_sub(left)) as usize) * 3;
            for pixel in self.pixels.get_mut(start..end).unwrap_or_default().chunks_exact_mut(3) {
                pixel.copy_from_slice(&colour.0);
            }
        }
    }

    /// A pixel at the rim is as full as the circle comes near.
    fn circle(&mut self, x: f64, y: f64, radius: f64, colour: Colour) {
        let reach = |middle: f64| (middle - radius - 1.0) as i64..=(middle + radius + 1.0) as i64;
        for row in reach(y) {
            for column in reach(x) {
                let distance = (column as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
                self.blend(column, row, (radius - distance + 0.5).clamp(0.0, 1.0), colour);
            }
        }
    }

    /// What the font does not have is a question mark.
    fn text(&mut self, at: [u32; 2], offset: [i64; 2], text: &str, size: Size, colour: Colour) {
        // The base line is four fifths down.
        let (height, above) =
            if size == Size::Large { (RasterHeight::Size32, 26) } else { (RasterHeight::Size24, 19) };
        let mut left = i64::from(at[0] * SCALE) + offset[0];
        let top = i64::from(at[1] * SCALE) + offset[1] - above;
        for character in text.chars() {
            let letter = |character| get_raster(character, FontWeight::Regular, height);
            let Some(letter) = letter(character).or_else(|| letter('?')) else { continue };
            for (y, row) in letter.rows().enumerate() {
                for (x, &intensity) in row.iter().enumerate() {
                    if intensity > 0 {
                        self.blend(left + x as i64, top + y as i64, f64::from(intensity) / 255.0, colour);
                    }
                }
            }
            left += letter.width() as i64;
        }
    }
}
