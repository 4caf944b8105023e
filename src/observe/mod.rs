//! What the server tells of itself besides answers: counts by service and site.
//!
//! `tally` is the part that workers write to, each to lines of its own. All else is the slow side.

pub mod tally;
