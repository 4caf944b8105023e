//! What is wrong with a file, told so that it can be mended: where, what, and the line itself.
//!
//! Reading never stops at the first mistake: every reader is given a [`Findings`] and adds to it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// One file as it was read; kept while anything read from it may still be complained about.
#[derive(Debug)]
pub struct Source {
    /// As the user named it, for messages.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
    /// Where each line begins; made when the first mistake is told, for files without one have no use for it.
    starts: OnceLock<Vec<usize>>,
}

impl Source {
    /// A source from its parts.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Source> {
        Arc::new(Source { path: path.into(), text: text.into(), starts: OnceLock::new() })
    }

    /// The text of a line, counted from 1, without its line ending.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<&str> {
        let starts = self.starts.get_or_init(|| {
            let after_each = self.text.match_indices('\n').map(|(end, _)| end + 1);
            std::iter::once(0).chain(after_each).collect()
        });
        let start = *starts.get((number as usize).checked_sub(1)?)?;
        self.text[start..].lines().next()
    }
}

/// Where in a file something was written. Two of them always compare equal: where a thing stands is
/// not part of what it means, so that a moved line does not count as a change.
#[derive(Clone)]
pub struct At {
    /// The file.
    pub source: Arc<Source>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl At {
    /// The head of a file, for what concerns the whole of it.
    #[must_use]
    pub fn start(source: &Arc<Source>) -> At {
        At { source: Arc::clone(source), line: 1, column: 1 }
    }

    /// A place in a file.
    #[must_use]
    pub fn new(source: &Arc<Source>, line: u32, column: u32) -> At {
        At { source: Arc::clone(source), line, column }
    }
}

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}

impl Eq for At {}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.path.display(), self.line, self.column)
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Legal, served, and probably not what was meant.
    Warning,
    /// Not served; the last good version stays.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Whether it stops the file from being served.
    pub severity: Severity,
    /// The file, as the user named it.
    pub path: PathBuf,
    /// From 1; 0 where the whole file is meant.
    pub line: u32,
    /// From 1; 0 where the whole line is meant.
    pub column: u32,
    /// What is wrong and what was expected, in one sentence without a final stop.
    pub text: String,
    /// The line itself, where there is one.
    pub shown: Option<String>,
}

impl fmt::Display for Finding {
    /// `file:line:column: text`, then the line and a caret under the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.path.display().to_string()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column.max(1))?;
        }
        let word = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, ": {word}{}", printable(&self.text))?;
        if let Some(shown) = &self.shown {
            let (shown, caret) = excerpt(shown, self.column.max(1) as usize);
            write!(f, "\n    {shown}\n    {:>caret$}", "^")?;
        }
        Ok(())
    }
}

/// At most 160 characters of a line around `column`, tabs and control characters made visible, and the
/// caret's column in it.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    const WIDEST: usize = 160;
    let skipped = column.saturating_sub(WIDEST - 40);
    let part: String = line.trim_end().chars().skip(skipped).take(WIDEST).collect();
    (printable(&part), column - skipped)
}

/// The text without anything that a terminal would act on.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Everything that was found, in the order it was found; of each file not more than somebody reads.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    /// How many errors and warnings each file has.
    of_file: HashMap<(PathBuf, Severity), usize>,
    /// Whether all of them are told, however many.
    tells_all: bool,
}

/// Errors, and warnings, that are told of one file: after so many it is some other kind of file.
const MOST_OF_ONE_FILE: usize = 100;

impl Findings {
    /// Nothing found yet.
    #[must_use]
    pub fn new() -> Findings {
        Findings::default()
    }

    /// Nothing found yet, and everything will be told: for what somebody has to do by hand, one after the other.
    #[must_use]
    pub fn complete() -> Findings {
        Findings { tells_all: true, ..Findings::default() }
    }

    /// Adds an error at a place.
    pub fn error(&mut self, at: &At, text: impl Into<String>) {
        self.add(Severity::Error, at, text.into());
    }

    /// Adds a warning at a place.
    pub fn warning(&mut self, at: &At, text: impl Into<String>) {
        self.add(Severity::Warning, at, text.into());
    }

    /// Adds an error about a file that could not be read at all.
    pub fn unreadable(&mut self, path: &Path, text: impl Into<String>) {
        self.of_whole_file(Severity::Error, path, text.into());
    }

    /// Adds a warning about a file as a whole.
    pub fn note(&mut self, path: &Path, text: impl Into<String>) {
        self.of_whole_file(Severity::Warning, path, text.into());
    }

    fn of_whole_file(&mut self, severity: Severity, path: &Path, text: String) {
        self.list.push(Finding { severity, path: path.to_owned(), line: 0, column: 0, text, shown: None });
    }

    /// Adds what another reader found.
    pub fn extend(&mut self, other: Findings) {
        self.list.extend(other.list);
    }

    /// By file and place.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
    }

    /// Whether anything found stops the file from being served.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Those that `keep` says.
    #[must_use]
    pub fn only(self, keep: impl Fn(&Finding) -> bool) -> Findings {
        Findings { list: self.list.into_iter().filter(keep).collect(), ..self }
    }

    /// The same of files that have other names for whoever reads it.
    #[must_use]
    pub fn with_paths(mut self, path: impl Fn(&Path) -> PathBuf) -> Findings {
        self.list.iter_mut().for_each(|finding| finding.path = path(&finding.path));
        self
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order found.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.list.iter()
    }

    fn add(&mut self, severity: Severity, at: &At, text: String) {
        let count = self.of_file.entry((at.source.path.clone(), severity)).or_default();
        *count += 1;
        let text = match *count {
            _ if self.tells_all => text,
            count if count > MOST_OF_ONE_FILE => return,
            MOST_OF_ONE_FILE => "there are more of these in this file; mend the others first".to_owned(),
            _ => text,
        };
        self.list.push(Finding {
            severity,
            path: at.source.path.clone(),
            line: at.line,
            column: at.column,
            text,
            shown: at.source.line(at.line).map(str::to_owned),
        });
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.list {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// `; did you mean "lhr"?` for the nearest of `valid` to `word`, or nothing when none is near.
#[must_use]
pub fn did_you_mean<'a>(word: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    /// Comparing takes the time of both lengths multiplied; nobody mistypes a word of this length.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return String::new();
    }
    let word = word.to_lowercase();
    let length = word.chars().count();
    let farthest = 1 + length / 3;
    // Words differ by no less than their lengths do.
    let is_near = |candidate: &&str| candidate.chars().count().abs_diff(length) <= farthest;
    let nearest = valid
        .into_iter()
        .filter(is_near)
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, candidate)) if distance <= farthest => {
            format!("; did you mean \"{candidate}\"?")
        }
        _ => String::new(),
    }
}
