//! meridian: authoritative DNS that answers with the nearest healthy site.

pub mod catchment;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod finding;
pub mod geo;
pub mod health;
pub mod nameserver;
pub mod reload;
pub mod site;
pub mod snapshot;
pub mod transport;
pub mod wire;
pub mod yaml;
pub mod zone;
