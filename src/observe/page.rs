//! Prometheus' text format, version 0.0.4: families of samples, each with its help and its type.

use std::fmt::{Display, Write};

/// What Prometheus knows it by.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many there were up to each of some bounds.
    Histogram,
}

/// The family that is being written.
#[derive(Debug)]
pub struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

/// Names and values.
pub type Labels<'l> = &'l [(&'static str, &'l str)];

impl Page {
    /// Begins a family. `help` is one line.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: self, name }
    }

    /// All of it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let text = &mut self.text;
        text.push_str(name);
        text.push_str(suffix);
        for (index, (label, of_label)) in labels.iter().enumerate() {
            let _ = write!(text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            push_escaped(text, of_label);
            text.push('"');
        }
        let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

impl Family<'_> {
    /// One number.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.page.sample(self.name, "", labels, value);
    }

    /// A distribution: bounds as they are written, each with how many kept it and not the one before; how many kept none; and
    /// the sum of all.
    pub fn distribution<'b>(
        &mut self,
        labels: Labels<'_>,
        buckets: impl IntoIterator<Item = (&'b str, u64)>,
        above: u64,
        sum: impl Display,
    ) {
        let mut count = 0;
        for (bound, more) in buckets.into_iter().chain([("+Inf", above)]) {
            count += more;
            let labels = [labels, &[("le", bound)]].concat();
            self.page.sample(self.name, "_bucket", &labels, count);
        }
        self.page.sample(self.name, "_sum", labels, sum);
        self.page.sample(self.name, "_count", labels, count);
    }
}

/// Within quotes. Names of services, sites and zones are the operator's, and may hold anything.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_prometheus_reads_it() {
        let mut page = Page::default();
        let mut family = page.family("meridian_x_total", Kind::Counter, "All x.");
        family.sample(&[], 1);
        family.sample(&[("a", "b"), ("c", "é")], 0.5);
        let mut family = page.family("meridian_y_seconds", Kind::Histogram, "All y.");
        family.distribution(&[("kind", "k")], [("0.1", 2), ("1", 3)], 4, 9.5);
        let expected = "\
# HELP meridian_x_total All x.
# TYPE meridian_x_total counter
meridian_x_total 1
meridian_x_total{a=\"b\",c=\"é\"} 0.5
# HELP meridian_y_seconds All y.
# TYPE meridian_y_seconds histogram
meridian_y_seconds_bucket{kind=\"k\",le=\"0.1\"} 2
meridian_y_seconds_bucket{kind=\"k\",le=\"1\"} 5
meridian_y_seconds_bucket{kind=\"k\",le=\"+Inf\"} 9
meridian_y_seconds_sum{kind=\"k\"} 9.5
meridian_y_seconds_count{kind=\"k\"} 9
";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn quotes_backslashes_and_line_ends_cannot_break_out_of_a_label() {
        let mut page = Page::default();
        page.family("m", Kind::Gauge, "M.").sample(&[("l", "a\"} 1\nb\\")], 2);
        let text = page.into_text();
        assert_eq!(text.lines().last(), Some(r#"m{l="a\"} 1\nb\\"} 2"#));
    }
}
