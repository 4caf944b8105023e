//! JSON Schemas (draft 2020-12) of the files that users write, for editors that complete and check while one types.
//!
//! A schema tells which keys there are, what they mean, and what their values look like; what only the whole of the
//! files can tell (a site that does not exist, a CNAME beside other data) is for `meridian check`. It never refuses
//! what a reader takes, but for codes and types that are not in capitals. `tests/schema.rs` asks the readers for
//! their keys, and fails when one side knows a key that the other does not.

use serde_json::{Value, json};

mod checks;
mod config;
mod shape;
mod sites;
mod zone;

/// A kind of file that users write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Sites and services that all zones share.
    Sites,
    /// A zone.
    Zone,
    /// `meridian.yaml`.
    Config,
}

impl File {
    /// All of them, by the words of the command line.
    pub const ALL: [(&'static str, File); 3] =
        [("sites", File::Sites), ("zone", File::Zone), ("config", File::Config)];
}

/// The schema of a kind of file.
#[must_use]
pub fn of(file: File) -> Value {
    let (title, told, mut schema) = match file {
        File::Sites => ("Sites and services of meridian", "Shared by all zones", sites::file()),
        File::Zone => ("A zone of meridian", "The file's name is the zone's name", zone::file()),
        File::Config => ("The configuration of meridian", "What the whole server is told", config::file()),
    };
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    schema["description"] = json!(told);
    schema
}
