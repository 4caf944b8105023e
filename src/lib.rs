//! meridian: authoritative DNS that answers with the nearest healthy site.
//!
//! A query walks forward through one room, `nameserver`, and meets nothing but data that was made for it. The slow side reads
//! files and databases, checks, compiles, and hands over a whole new *snapshot*; the health side keeps a *board* of verdicts beside it.
//!
//! ```text
//!   bytes -> transport -> nameserver -> transport -> bytes          every query
//!                             |  reads
//!               snapshot (zones, sites, catchments, policy)   board (verdicts, shares)
//!                             ^                             ^
//!   files -> yaml, zone, site, geo -> catchment -> reload   health <- probes
//!                                                  daemon: publishes, starts, stops;  cli, control: people
//!                                       |  asks
//!                                     change: gates, what differs, history and the way back
//!   others' files -> import -> files               coverage: counts who gets what, for people; draw: shows it
//!   files -> lint: what will not do what it is for replay: asks two snapshots what real clients asked
//!   schema: the files that people write, for editors
//! ```
//!
//! # What holds everywhere
//!
//! 1. Imports point one way: `cli` and `daemon` to everything; `transport` to nothing; `nameserver` to `snapshot`, the board and
//!    what these are made of; `reload` to all of the slow side. Nothing imports `transport`, `control` or `cli` but `daemon` and
//!    `cli`; `observe` makes its metrics of what `control` calls a status, so that both tell the same.
//! 2. [`nameserver::respond`] is the whole path of a query: bytes and data in, bytes and an outcome out. It does no I/O, reads no
//!    clock, takes no lock, allocates nothing and panics on nothing that can arrive; a test of it is a function call.
//! 3. What a query reads is immutable but for the board, whose atomics are read without a lock. A snapshot and its board are
//!    swapped together, so that zones, sites and geography never mix in one response.
//! 4. Whatever the network can cause is counted, and logged at debug only. What an operator caused is told once, with file,
//!    line and column ([`finding`]).
//! 5. The same step has the same file name in every room: `read` from files, `check` as a whole, `compile` for the query path.
//! 6. Numbered meanings ("meaning 5") are those of `docs/answers.md`; each has a scenario in `tests/scenarios` that carries its number.
//! 7. No unsafe code; `Cargo.toml` forbids it.

pub mod catchment;
pub mod change;
pub mod cli;
pub mod config;
pub mod control;
pub mod coverage;
pub mod daemon;
pub mod draw;
pub mod finding;
pub mod geo;
pub mod health;
pub mod import;
pub mod lint;
pub mod nameserver;
pub mod observe;
mod parallel;
pub mod policy;
pub mod reload;
mod replace;
pub mod replay;
pub mod schema;
pub mod site;
pub mod snapshot;
pub mod stamp;
pub mod transport;
pub mod wire;
pub mod yaml;
pub mod zone;
