//! What the server tells of itself besides answers: counts by service and site, metrics.
//!
//! `tally` is the part that workers write to, each to lines of its own. All else is the slow side: `metrics` makes a page of
//! the same status that `meridian status` prints, `http` tells it to Prometheus.

pub mod http;
pub mod metrics;
pub mod page;
pub mod process;
pub mod tally;
