//! What a change does, before it is live and after.
//!
//! ```text
//!   diff      what would be answered differently
//!   gates     what is about to be served, held against what is: a step that is too large waits for an operator's word
//!   history   every snapshot that went live, as the texts that it was made of; so there is a way back
//!   content   texts by what they say: what history keeps, and how two folders are told apart
//!   checkout  the git checkout that zones are in, if they are in one
//! ```
//!
//! Nothing here decides what is served: `reload` does, and `daemon` tells it where to read from.

use serde::{Deserialize, Serialize};

pub mod checkout;
pub mod content;
pub mod diff;
pub mod gates;
pub mod history;

/// What made a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `start`, `files changed`, `reload`, ...
    pub why: String,
    /// Who asked for it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// And what for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<&str> for Cause {
    fn from(why: &str) -> Cause {
        Cause { why: why.to_owned(), ..Cause::default() }
    }
}
