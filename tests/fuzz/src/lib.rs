//! What must hold of any input, one function a target: octets in, panic out.
//!
//! libFuzzer calls them through `fuzz_targets/`, and `tests/corpus.rs` includes this file as it is, so that what was once
//! found stays found in plain `cargo test`. Each target checks more than the absence of panics; what it holds is
//! written at the head of its file.

mod asking;
mod client_subnet;
mod config;
mod control;
mod cookie;
mod import;
mod master_file;
mod mmdb;
mod model;
mod proxy;
mod rdata;
mod replay;
mod respond;
mod scratch;
mod world;
mod zone_yaml;

pub use client_subnet::client_subnet;
pub use config::config;
pub use control::control;
pub use cookie::cookie;
pub use import::import;
pub use master_file::master_file;
pub use mmdb::mmdb;
pub use proxy::proxy;
pub use rdata::rdata;
pub use replay::replay;
pub use respond::respond;
pub use zone_yaml::zone_yaml;
