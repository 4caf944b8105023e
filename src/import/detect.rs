//! Whose file it is, told by what it says.

use crate::finding::{Findings, Source};
use crate::yaml::{self, Content, Node};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 1035, of BIND, Knot DNS, NSD and most others.
    Master,
    /// The YAML of PowerDNS' geoip backend.
    PowerDns,
    /// A zone of octoDNS.
    OctoDns,
    /// A zone of gdnsd, or its configuration.
    Gdnsd,
    /// The data of tinydns.
    TinyDns,
}

impl Format {
    /// All of them, by the words of the command line.
    pub const ALL: [(&'static str, Format); 5] = [
        ("master", Format::Master),
        ("powerdns", Format::PowerDns),
        ("octodns", Format::OctoDns),
        ("gdnsd", Format::Gdnsd),
        ("tinydns", Format::TinyDns),
    ];

    /// By what a text says; what looks like nothing else is a master file.
    #[must_use]
    pub fn of(text: &str) -> Format {
        let lines = || text.lines().filter(|line| !line.trim().is_empty());
        if is_gdnsd_configuration(text) || lines().any(is_dynamic) {
            return Format::Gdnsd;
        }
        // Most and not all: a line with a mistake in it is told as one.
        let said = || lines().filter(|line| !line.starts_with('#'));
        if said().filter(|line| is_tinydns(line)).count() * 2 > said().count() {
            return Format::TinyDns;
        }
        // A zone of a million lines need not be read as YAML to see that it is none.
        let is_master = lines().take(100).any(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            line.starts_with('$') || line.starts_with(';') || words.contains(&"IN") || words.contains(&"SOA")
        });
        let root = if is_master { None } else { yaml::read(&Source::new("", text), &mut Findings::new()) };
        match root {
            Some(root) if is_powerdns(&root) => Format::PowerDns,
            Some(root) if is_octodns(&root) => Format::OctoDns,
            _ => Format::Master,
        }
    }
}

/// Whether this is the configuration of gdnsd, and not a zone.
#[must_use]
pub fn is_gdnsd_configuration(text: &str) -> bool {
    let words = [
        "plugins",
        "options",
        "service_types",
        "geoip",
        "multifo",
        "weighted",
        "metafo",
        "simplefo",
        "static",
    ];
    text.lines().any(|line| {
        let line = line.trim_start();
        let word = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let rest = line[word.len()..].trim_start();
        let value = rest.strip_prefix("=>").or_else(|| rest.strip_prefix('='));
        words.contains(&word) && value.is_some_and(|value| value.trim_start().starts_with('{'))
    })
}

fn is_dynamic(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace().take(5);
    words.any(|word| word.eq_ignore_ascii_case("DYNA") || word.eq_ignore_ascii_case("DYNC"))
        && line.contains('!')
}

/// A character, and words between colons. `@ AAAA 2001:db8::1` is of a master file, `'www': {` of YAML, and so is `---`.
fn is_tinydns(line: &str) -> bool {
    let (first, rest) = line.split_once(':').unwrap_or((line, " "));
    let has_words = !first.contains([' ', '\t']) && !rest.starts_with([' ', '\t']) && !rest.is_empty();
    line.starts_with(super::tinydns::LINES)
        && !line.starts_with("---")
        && (line.starts_with(['-', '%']) || has_words)
}

fn is_powerdns(root: &Node) -> bool {
    let Content::Mapping(entries) = &root.content else { return false };
    entries
        .iter()
        .any(|(key, value)| key.scalar() == Some("domains") && matches!(value.content, Content::Sequence(_)))
}

fn is_octodns(root: &Node) -> bool {
    let Content::Mapping(entries) = &root.content else { return false };
    let has_type = |node: &Node| {
        matches!(&node.content, Content::Mapping(entries)
            if entries.iter().any(|(key, _)| key.scalar() == Some("type")))
    };
    entries.iter().any(|(_, value)| value.items().iter().any(has_type))
}
