//! YAML as nodes that know where they stand.
//!
//! What users write is read from these, by hand rather than by derive: RDATA must stay the text that was written
//! (`010` is no number, `NO` is Norway), every mistake of a file is to be told in one run, and each with its
//! place. Bounded in depth and in nodes, whatever anchors multiply to.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle};

use crate::finding::{At, Findings, Source, did_you_mean};
use crate::wire::Rtype;

/// Deeper than any file of ours is.
const DEEPEST: usize = 24;
/// A zone of a million names has about three million.
const MOST_NODES: usize = 8_000_000;
/// What aliases may add.
const MOST_ALIASED_NODES: usize = 100_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A text; plain or quoted makes a difference to null and to TXT records only.
    Scalar {
        /// Without quotes, escapes undone.
        text: String,
        /// Whether it was written without quotes.
        is_plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in the order written, no key twice.
    Mapping(Vec<(Node, Node)>),
}

/// Reads one document. None, and a finding, when it is no YAML or is empty.
pub fn read(source: &Arc<Source>, findings: &mut Findings) -> Option<Node> {
    match Composer::new(source).compose() {
        Ok(node) => {
            if node.is_none() {
                findings.error(&At::start(source), "the file is empty");
            }
            node
        }
        Err((at, text)) => {
            findings.error(&at, text);
            None
        }
    }
}

type Refusal = (At, String);

struct Composer<'s> {
    source: &'s Arc<Source>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    aliased: usize,
}

/// A collection whose end is still to come.
struct Open {
    at: At,
    anchor: usize,
    is_mapping: bool,
    items: Vec<Node>,
}

impl<'s> Composer<'s> {
    fn new(source: &'s Arc<Source>) -> Composer<'s> {
        Composer { source, open: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0, aliased: 0 }
    }

    fn compose(mut self) -> Result<Option<Node>, Refusal> {
        // The reader looks ahead, and would see too deep a file before we do.
        let options = granit_parser::options! {
            flow_nesting_limit: DEEPEST,
            block_nesting_limit: DEEPEST,
            // The longest name, each octet written as \\000 within double quotes.
            simple_key_max_lookahead: 2048,
        };
        for event in Parser::new_from_str_with_options(&self.source.text, options) {
            let (event, span) = event.map_err(|error| {
                let at = At::new(self.source, error.marker().line() as u32, error.marker().col() as u32 + 1);
                let text = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => format!("nested more than {DEEPEST} deep"),
                    _ => format!("no YAML: {}{}", error.info(), hint(&at, &error.info())),
                };
                (at, text)
            })?;
            let at = At::new(self.source, span.start.line() as u32, span.start.col() as u32 + 1);
            match event {
                Event::Scalar(text, style, anchor, _) => {
                    let is_plain = style == ScalarStyle::Plain;
                    self.add(
                        Node { at, content: Content::Scalar { text: text.into_owned(), is_plain } },
                        anchor,
                    )?;
                }
                Event::SequenceStart(_, anchor, _) => self.open(at, anchor, false)?,
                Event::MappingStart(_, anchor, _) => self.open(at, anchor, true)?,
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(anchor) => self.add_alias(at, anchor)?,
                Event::DocumentStart(..) if self.root.is_some() => {
                    return Err((at, "a second document; one file holds one".to_owned()));
                }
                _ => {}
            }
        }
        Ok(self.root)
    }

    fn open(&mut self, at: At, anchor: usize, is_mapping: bool) -> Result<(), Refusal> {
        if self.open.len() == DEEPEST {
            return Err((at, format!("nested more than {DEEPEST} deep")));
        }
        self.open.push(Open { at, anchor, is_mapping, items: Vec::new() });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Refusal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = if open.is_mapping { mapping(open.items)? } else { Content::Sequence(open.items) };
        self.add(Node { at: open.at, content }, open.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Refusal> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err((node.at, format!("more than {MOST_NODES} values in one file")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }

    fn add_alias(&mut self, at: At, anchor: usize) -> Result<(), Refusal> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err((at, "an alias within what it stands for".to_owned()));
        };
        self.aliased += node.count();
        if self.aliased > MOST_ALIASED_NODES {
            return Err((at, format!("aliases add more than {MOST_ALIASED_NODES} values")));
        }
        let node = node.clone();
        self.add(node, 0)
    }
}

/// What usually is behind an error that YAML's own words do not explain.
fn hint(at: &At, info: &str) -> String {
    let line = |number: u32| at.source.line(number).unwrap_or("");
    // A plain text goes on over lines, so that a key without its space is noticed at the next.
    let joined = [at.line.saturating_sub(1), at.line].into_iter().find(|number| is_joined(line(*number)));
    let before_here: String = line(at.line).chars().take(at.column as usize - 1).collect();
    if line(at.line).contains('\t') {
        "; YAML indents with spaces, not with tabs".to_owned()
    } else if let Some(number) = joined {
        format!("; in line {number} a space is missing behind the colon")
    } else if before_here.trim().is_empty() && (info.contains("block") || info.contains("indent")) {
        let above = (1..at.line).rev().map(line).find(|line| !line.trim().is_empty()).unwrap_or("");
        let first = |line: &str| line.len() - line.trim_start().len() + 1;
        format!(
            "; keys of one mapping begin in the same column: this one in {}, the one above in {}",
            at.column,
            first(above)
        )
    } else if line(at.line).contains(['{', '[']) {
        format!("; {QUOTES}")
    } else {
        String::new()
    }
}

/// What else a comma or a colon is.
const QUOTES: &str = "within { } and [ ] a value with a comma, a colon or a bracket needs quotes, as in \"1 . alpn=h2,h3\" or \"fe80::\"";

/// Whether a line is a key, a colon, and its value without a space between.
fn is_joined(line: &str) -> bool {
    let Some((key, value)) = line.trim_start().split_once(':') else { return false };
    let is_word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*@".contains(c));
    is_word && value.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn mapping(items: Vec<Node>) -> Result<Content, Refusal> {
    let mut entries: Vec<(Node, Node)> = Vec::with_capacity(items.len() / 2);
    let mut merged: Vec<(Node, Node)> = Vec::new();
    let mut seen: HashSet<String> = HashSet::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        let Content::Scalar { text, is_plain } = &key.content else {
            return Err((key.at, "a key must be a text".to_owned()));
        };
        if *is_plain && text == "<<" {
            merged.extend(merge(value)?);
        } else if seen.insert(text.clone()) {
            entries.push((key, value));
        } else {
            let first = entries
                .iter()
                .find(|(known, _)| known.scalar() == Some(text))
                .map_or(0, |(known, _)| known.at.line);
            return Err((
                key.at.clone(),
                format!("\"{text}\" stands here twice; the first is in line {first}"),
            ));
        }
    }
    for (key, value) in merged {
        if key.scalar().is_some_and(|text| seen.insert(text.to_owned())) {
            entries.push((key, value));
        }
    }
    Ok(Content::Mapping(entries))
}

/// What `<<` brings in: the entries of a mapping, or of several.
fn merge(node: Node) -> Result<Vec<(Node, Node)>, Refusal> {
    match node.content {
        Content::Mapping(entries) => Ok(entries),
        Content::Sequence(nodes) => Ok(nodes.into_iter().map(merge).collect::<Result<Vec<_>, _>>()?.concat()),
        Content::Scalar { .. } => Err((node.at, "<< takes a mapping, such as an alias of one".to_owned())),
    }
}

impl Node {
    /// The text of a scalar.
    #[must_use]
    pub fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether nothing, or `null` or `~`, was written.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, is_plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// The text of a scalar, or a finding that says what was expected.
    pub fn text(&self, what: &str, findings: &mut Findings) -> Option<&str> {
        let text = self.scalar().filter(|_| !self.is_null());
        if text.is_none() {
            findings.error(&self.at, format!("{what} is expected here"));
        }
        text
    }

    /// The entries of a mapping, or a finding.
    pub fn mapping(&self, what: &str, findings: &mut Findings) -> Option<Mapping<'_>> {
        match &self.content {
            Content::Mapping(entries) => Some(Mapping { at: &self.at, entries }),
            _ if self.is_null() => Some(Mapping { at: &self.at, entries: &[] }),
            _ => {
                findings.error(&self.at, format!("{what} is expected here, as key: value"));
                None
            }
        }
    }

    /// The items of a list; anything else is a list of one.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::Sequence(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// A whole number.
    pub fn number<N: FromStr + PartialOrd + Display + Copy>(
        &self,
        least: N,
        most: N,
        findings: &mut Findings,
    ) -> Option<N> {
        let text = self.text(&format!("a number from {least} to {most}"), findings)?;
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            findings.error(&self.at, format!("\"{text}\" is no number from {least} to {most}"));
        }
        number
    }

    /// A number with or without a fraction.
    pub fn decimal(&self, least: f64, most: f64, findings: &mut Findings) -> Option<f64> {
        let text = self.text(&format!("a number from {least} to {most}"), findings)?;
        let number = text.parse().ok().filter(|number: &f64| (least..=most).contains(number));
        if number.is_none() {
            findings.error(&self.at, format!("\"{text}\" is no number from {least} to {most}"));
        }
        number
    }

    /// `true` or `false`.
    pub fn boolean(&self, findings: &mut Findings) -> Option<bool> {
        match self.scalar() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => {
                findings.error(&self.at, "true or false is expected here");
                None
            }
        }
    }

    /// `500ms`, `5s`, `2m`, `1h`.
    pub fn duration(&self, findings: &mut Findings) -> Option<Duration> {
        let text = self.text("a time such as 5s", findings)?;
        let duration = parse_duration(text);
        if duration.is_none() {
            findings.error(&self.at, format!("\"{text}\" is no time such as 500ms, 5s or 2m"));
        }
        duration
    }

    /// How much it takes; a long text counts as several values.
    fn count(&self) -> usize {
        1 + match &self.content {
            Content::Scalar { text, .. } => text.len() / 64,
            Content::Sequence(items) => items.iter().map(Node::count).sum(),
            Content::Mapping(entries) => entries.iter().map(|(_, value)| 1 + value.count()).sum(),
        }
    }
}

/// `500ms`, `5s`, `2m`, `1h`, `1d`; none for nothing, and for no time at all.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok().filter(|duration| !duration.is_zero())
}

/// A mapping that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'n> {
    /// Where it begins.
    pub at: &'n At,
    /// In the order written.
    pub entries: &'n [(Node, Node)],
}

impl<'n> Mapping<'n> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(known, _)| known.scalar() == Some(key)).map(|(_, value)| value)
    }

    /// Refuses every key that is not among these.
    pub fn know_only(&self, keys: &[&str], findings: &mut Findings) {
        for (key, value) in self.entries {
            let Some(text) = key.scalar() else { continue };
            if !keys.contains(&text) {
                let hint = match did_you_mean(text, keys.iter().copied()) {
                    none if none.is_empty() => format!("; known here: {}", keys.join(", ")),
                    hint => hint,
                };
                findings.error(&key.at, format!("unknown key \"{text}\"{hint}{}", hint_at_quotes(value)));
            }
        }
    }
}

/// What to say of a key that is none of these, where record types may stand too.
#[must_use]
pub fn unknown_key_or_type(key: &str, value: &Node, keys: &[&'static str]) -> String {
    let hint = match did_you_mean(key, keys.iter().copied().chain(Rtype::mnemonics())) {
        none if none.is_empty() => {
            format!("; known here: {}, and record types such as A", keys.join(", "))
        }
        hint => hint,
    };
    format!("unknown key \"{key}\"{hint}{}", hint_at_quotes(value))
}

/// A key without a value is often the rest of a text with a comma.
fn hint_at_quotes(value: &Node) -> String {
    if value.is_null() { format!("; {QUOTES}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_of(text: &str) -> String {
        let mut findings = Findings::new();
        read(&Source::new("f.yaml", text), &mut findings);
        findings
            .iter()
            .map(|finding| format!("{}:{}: {}", finding.line, finding.column, finding.text))
            .collect()
    }

    #[test]
    fn scalars_stay_the_text_that_was_written() {
        let text = "[010, 1.10, NO, 1e3, 'a b', \"x\\ty\", 2001:db8::1]";
        let mut findings = Findings::new();
        let node = read(&Source::new("f.yaml", text), &mut findings).unwrap();
        let texts: Vec<&str> = node.items().iter().filter_map(Node::scalar).collect();
        assert_eq!(texts, ["010", "1.10", "NO", "1e3", "a b", "x\ty", "2001:db8::1"]);
    }

    #[test]
    fn a_key_that_stands_twice_is_told_with_both_places() {
        assert_eq!(findings_of("a: 1\nb: 2\na: 3\n"), "3:1: \"a\" stands here twice; the first is in line 1");
    }

    #[test]
    fn aliases_and_merge_keys_work_and_bombs_do_not() {
        let mut findings = Findings::new();
        let text = "base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\n";
        let node = read(&Source::new("f.yaml", text), &mut findings).unwrap();
        let more = node.mapping("", &mut findings).unwrap().get("more").unwrap();
        let more = more.mapping("", &mut findings).unwrap();
        assert_eq!(more.get("x").and_then(Node::scalar), Some("1"));
        assert_eq!(more.get("y").and_then(Node::scalar), Some("3"));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let refs = vec![format!("*a{}", n - 1); 9].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
        }
        assert!(findings_of(&bomb).contains("aliases add more than"));
        assert!(findings_of("a: &a [*a]\n").contains("alias"));
    }

    #[test]
    fn what_is_deep_or_no_yaml_is_refused_with_a_place() {
        assert!(findings_of(&"[".repeat(200_000)).contains("nested more than"));
        assert!(findings_of("a: [1, 2\nb: }\n").contains("no YAML"));
        assert!(findings_of("a:\n\t- b\n").contains("not with tabs"));
        assert_eq!(findings_of(""), "1:1: the file is empty");
        assert!(findings_of("a: 1\n---\nb: 2\n").contains("a second document"));
    }

    #[test]
    fn times_need_a_unit() {
        for (text, milliseconds) in
            [("500ms", 500), ("5s", 5000), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["5", "s", "-5s", "0s", "5 apples", "1e9s", ""] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
