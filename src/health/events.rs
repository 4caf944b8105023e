//! What happened lately, for people and for who watches: verdicts that changed, guards that acted, orders that were followed. Each
//! is a line in the log, too.

use std::collections::VecDeque;
use std::time::SystemTime;

use tokio::sync::broadcast;
use tracing::{info, warn};

/// How many are remembered.
const REMEMBERED: usize = 200;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A verdict on an address changed.
    Verdict,
    /// A guard began or ceased to hold a site.
    Guard,
    /// An operator said something, or what one said expired.
    Override,
    /// Something that an operator should look at.
    Alarm,
    /// Something was read and is served.
    Reload,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Verdict, Kind::Guard, Kind::Override, Kind::Alarm, Kind::Reload];

    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Verdict => "verdict",
            Kind::Guard => "guard",
            Kind::Override => "override",
            Kind::Alarm => "alarm",
            Kind::Reload => "reload",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What kind of thing.
    pub kind: Kind,
    /// What, with the evidence.
    pub text: String,
}

/// The last of them, and how many there were.
#[derive(Debug)]
pub struct Events {
    ring: VecDeque<Event>,
    counts: [u64; Kind::ALL.len()],
    watchers: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Events {
        let (watchers, _) = broadcast::channel(REMEMBERED);
        Events { ring: VecDeque::with_capacity(REMEMBERED), counts: [0; Kind::ALL.len()], watchers }
    }
}

impl Events {
    /// Good news, or none.
    pub fn note(&mut self, kind: Kind, text: String) {
        info!("{text}");
        self.add(kind, text);
    }

    /// Bad news.
    pub fn warn(&mut self, kind: Kind, text: String) {
        warn!("{text}");
        self.add(kind, text);
    }

    fn add(&mut self, kind: Kind, text: String) {
        self.counts[kind as usize] += 1;
        if self.ring.len() == REMEMBERED {
            self.ring.pop_front();
        }
        let event = Event { at: SystemTime::now(), kind, text };
        self.ring.push_back(event.clone());
        // Nobody may be watching.
        let _ = self.watchers.send(event);
    }

    /// The last of them, in order.
    pub fn last(&self, most: usize) -> impl Iterator<Item = &Event> {
        self.ring.iter().skip(self.ring.len().saturating_sub(most))
    }

    /// How many there were of each kind since the start.
    #[must_use]
    pub fn counts(&self) -> [u64; Kind::ALL.len()] {
        self.counts
    }

    /// All that come from now on. Who is too slow misses some, and is told how many.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.watchers.subscribe()
    }
}
