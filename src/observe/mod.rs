//! What the server tells of itself besides answers: counts by service and site, metrics, a log of queries.
//!
//! `tally` and the rings of `query_log` and `countries` are what workers write to, each to its own. All else is the slow side: `metrics` makes a
//! page of the same status that `meridian status` prints, `http` tells it to Prometheus.

pub mod countries;
pub mod http;
pub mod metrics;
pub mod page;
pub mod process;
pub mod query_log;
pub mod tally;
