//! `meridian schema`.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::schema::{self, File};

/// Print the JSON Schema (draft 2020-12) of the files that you write, for your editor.
///
/// Without a kind: all three, by kind.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: meridian schema zone > zone.json\n\nand as the first line of a zone:\n\n    \
                        # yaml-language-server: $schema=zone.json"
)]
pub(super) struct Schema {
    /// `sites` that all zones share, a `zone`, or the `config` (meridian.yaml).
    #[arg(value_name = "KIND", value_parser = File::ALL.map(|(word, _)| word))]
    kind: Option<String>,
}

impl Schema {
    pub(super) fn run(&self) -> ExitCode {
        let mut all = File::ALL.into_iter();
        let schema = match &self.kind {
            Some(kind) => all.find(|(word, _)| word == kind).map(|(_, file)| schema::of(file)),
            None => Some(all.map(|(word, file)| (word.to_owned(), schema::of(file))).collect::<Value>()),
        };
        super::print(&format!("{:#}\n", schema.unwrap_or_default()));
        ExitCode::SUCCESS
    }
}
