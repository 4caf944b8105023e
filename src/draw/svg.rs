//! A picture as SVG.

use std::fmt::Write;

use super::{Colour, Picture, Shape, Size};

/// Rectangles of one colour that follow each other become one path.
#[must_use]
pub fn write(picture: &Picture, title: &str) -> String {
    let Picture { width, height, shapes } = picture;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"'Noto Sans Mono','DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"11.6\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n",
        escaped(title)
    );
    let mut path: Option<(Colour, [u32; 2])> = None;
    for shape in shapes {
        match (shape, &mut path) {
            (Shape::Rect(place, colour), Some((open, at))) if open == colour => {
                push_rect(&mut out, *place, at);
            }
            (Shape::Rect(place, colour), _) => {
                end(&mut out, &mut path);
                let _ =
                    write!(out, "<path shape-rendering=\"crispEdges\" fill=\"{}\" d=\"M0 0", hex(*colour));
                let mut at = [0, 0];
                push_rect(&mut out, *place, &mut at);
                path = Some((*colour, at));
            }
            _ => {
                end(&mut out, &mut path);
                push_other(&mut out, shape);
            }
        }
    }
    end(&mut out, &mut path);
    out.push_str("</svg>\n");
    out
}

fn end(out: &mut String, path: &mut Option<(Colour, [u32; 2])>) {
    if path.take().is_some() {
        out.push_str("\"/>\n");
    }
}

/// Relative to where the last one began: most lie close together.
fn push_rect(out: &mut String, [x, y, width, height]: [u32; 4], at: &mut [u32; 2]) {
    let (right, down) = (i64::from(x) - i64::from(at[0]), i64::from(y) - i64::from(at[1]));
    let space = if down < 0 { "" } else { " " };
    let _ = write!(out, "m{right}{space}{down}h{width}v{height}h-{width}z");
    *at = [x, y];
}

fn push_other(out: &mut String, shape: &Shape) {
    let _ = match shape {
        Shape::Rect(..) => Ok(()),
        Shape::Circle([x, y], radius, colour) => writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{}\" stroke=\"#fff\"/>",
            hex(*colour)
        ),
        Shape::Text([x, y], text, size, colour) => {
            let size = if *size == Size::Large { " font-size=\"16\"" } else { "" };
            let text = escaped(text);
            let colour = hex(*colour);
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\"{size} xml:space=\"preserve\">{text}</text>"
            )
        }
        Shape::Label([x, y], text) => writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\" fill=\"{}\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\" \
             stroke-linejoin=\"round\">{}</text>",
            hex(Colour::INK),
            escaped(text)
        ),
    };
}

fn hex(Colour([red, green, blue]): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Names are whatever somebody wrote.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}
