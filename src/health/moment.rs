//! When something happens. Whoever begins something reads both clocks once; all that follows from it is told, so that hours of it
//! can be played through in a moment.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::overrides::Milliseconds;

/// A point in time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// On the wall: for people, and for what operators say. It may be set.
    pub(super) wall: SystemTime,
    /// One that nobody sets: for all else.
    pub(super) now: Instant,
}

impl Moment {
    /// This one.
    pub(super) fn read() -> Moment {
        Moment { wall: SystemTime::now(), now: Instant::now() }
    }

    /// Since 1970.
    pub(super) fn milliseconds(self) -> Milliseconds {
        self.wall.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as Milliseconds)
    }
}
