//! Whether sites work: attempts -> verdicts -> published.
//!
//! `probe` makes attempts, `judge` turns their results into verdicts, `board` publishes them to the query
//! path, which reads it without a lock and never waits for any of this.

pub mod board;
