//! What comes of queries that clients sent, for people and for programs.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use super::coverage::{Failure, percent, table, wrong_usage};
use crate::finding::printable;
use crate::replay::compare::{Comparison, Side};
use crate::replay::{self, Counts};

/// Names that people read, and the ways of each.
const MOST_NAMES: usize = 10;
const MOST_WAYS: usize = 3;

/// The queries of a file, and what they get on two sides.
pub(super) struct Replayed {
    pub(super) file: String,
    pub(super) counts: Counts,
    pub(super) comparison: Comparison,
}

impl Replayed {
    /// Asks both sides all that stands in a file.
    pub(super) fn read(path: &Path, sides: [Side<'_>; 2]) -> Result<Replayed, Failure> {
        let mut replayed = Replayed::of(path);
        let told = |error| wrong_usage(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(told)?;
        let comparison = &mut replayed.comparison;
        replayed.counts =
            replay::read(file, &mut |question| comparison.add(question, sides)).map_err(told)?;
        Ok(replayed)
    }

    /// Nothing yet.
    pub(super) fn of(path: &Path) -> Replayed {
        let file = printable(&path.display().to_string()).to_string();
        Replayed { file, counts: Counts::default(), comparison: Comparison::default() }
    }

    /// How many differ, in one line.
    pub(super) fn in_short(&self) -> String {
        let Comparison { queries, different, .. } = self.comparison;
        let part = percent(different as f64 / queries.max(1) as f64);
        format!("{queries} in {}, {different} would be answered differently ({part})", self.file)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!("queries  {}\n", self.in_short());
        if self.comparison.only_scope > 0 {
            text.push_str(&format!(
                "         {} would be answered alike, but for another scope\n",
                self.comparison.only_scope
            ));
        }
        trouble(self.counts).iter().for_each(|line| text.push_str(&format!("         {line}\n")));
        let names = self.comparison.names.in_order();
        if names.is_empty() {
            return text;
        }
        let mut rows = vec![["", "name", "type", "queries", "get", "would get"].map(str::to_owned).to_vec()];
        for (name, rtype, of_name) in names.iter().take(MOST_NAMES) {
            let ways = of_name.in_order();
            for (number, way) in ways.iter().take(MOST_WAYS).enumerate() {
                let [name, rtype] = match number {
                    0 => [name.to_string(), rtype.to_string()],
                    _ => [String::new(), String::new()],
                };
                let told = [String::new(), name, rtype, way.queries.to_string()];
                let answers = [&way.before, &way.after].map(|answer| printable(answer).to_string());
                rows.push(told.into_iter().chain(answers).collect());
            }
            if let Some(more) = ways.len().checked_sub(MOST_WAYS + 1) {
                let empty = [const { String::new() }; 4];
                rows.push(empty.into_iter().chain([format!("and {} ways more", more + 1)]).collect());
            }
        }
        text.push_str(&table(&rows, &[0, 1, 2, 4, 5]));
        if let Some(more) = names.len().checked_sub(MOST_NAMES + 1) {
            text.push_str(&format!("  and {} more; --json has them\n", more + 1));
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let Comparison { queries, different, only_scope, names, .. } = &self.comparison;
        let told = names.in_order().into_iter().map(|(name, rtype, of_name)| {
            let ways = of_name
                .in_order()
                .into_iter()
                .map(|way| json!({ "queries": way.queries, "before": way.before, "after": way.after }));
            json!({
                "name": name.to_string(),
                "type": rtype.to_string(),
                "queries": of_name.queries,
                "ways": ways.collect::<Vec<_>>(),
            })
        });
        json!({
            "file": self.file,
            "queries": queries,
            "different": different,
            "only_scope": only_scope,
            "unreadable": self.counts.unreadable,
            "no_queries": self.counts.others,
            "cut_off": self.counts.is_cut_off,
            "names": told.collect::<Vec<_>>(),
            "queries_of_other_names": names.let_go,
        })
    }
}

/// What of a file was not asked, a line each.
pub(super) fn trouble(counts: Counts) -> Vec<String> {
    let mut lines = Vec::new();
    if counts.unreadable > 0 {
        lines.push(format!("{} more cannot be read as queries", counts.unreadable));
    }
    if counts.is_cut_off {
        lines.push("the file is cut off or damaged: what is behind that is not counted".to_owned());
    }
    lines
}
