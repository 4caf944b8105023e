//! What is answered from, and what was answered from before it.

use std::sync::Arc;

use crate::health::board::Board;
use crate::observe::tally::{Kept, OfService, Tally};
use crate::snapshot::Snapshot;

/// A snapshot, its board and its tally, which are swapped together: slots of one mean nothing in another.
pub(super) struct Published {
    pub(super) snapshot: Snapshot,
    pub(super) board: Arc<Board>,
    pub(super) tally: Tally,
}

impl Published {
    /// For so many threads that answer.
    pub(super) fn new(snapshot: Snapshot, board: Arc<Board>, workers: usize) -> Published {
        let tally = Tally::new(workers, &snapshot, board.layout());
        Published { snapshot, board, tally }
    }

    fn count_into(&self, kept: &mut Kept) {
        kept.add(&self.tally, &self.snapshot, self.board.layout());
    }
}

/// Snapshots that are not served any more.
#[derive(Default)]
pub(super) struct Retired {
    /// Those that a thread may still read. They are let go of by main: freeing one takes longer than a query may.
    still_read: Vec<Arc<Published>>,
    /// What was answered from those that are gone.
    kept: Kept,
}

impl Retired {
    /// Takes one that was served until now.
    pub(super) fn push(&mut self, published: Arc<Published>) {
        self.still_read.push(published);
    }

    /// Lets go of those that no thread reads any more, and keeps what was counted in them.
    pub(super) fn tidy_up(&mut self) {
        for published in std::mem::take(&mut self.still_read) {
            // To be its only owner is to see all that was counted in it.
            match Arc::try_unwrap(published) {
                Ok(published) => published.count_into(&mut self.kept),
                Err(published) => self.still_read.push(published),
            }
        }
    }

    /// Answers so far, by service of the snapshot that is served.
    pub(super) fn answers(&self, live: &Published) -> Vec<OfService> {
        let mut still_read = Kept::default();
        for published in &self.still_read {
            published.count_into(&mut still_read);
        }
        live.tally.totals(&live.snapshot, live.board.layout(), &[&self.kept, &still_read])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    use crate::nameserver::{Request, Transport, Worker, respond};
    use crate::reload::Reloader;
    use crate::wire::message::query;
    use crate::wire::{Name, Rtype};

    /// A worker that is slow to take the next snapshot counts in the one before, until it is let go of and ever after.
    #[test]
    fn nothing_that_was_counted_is_lost_while_snapshots_go() {
        let home = tempfile::tempdir().unwrap();
        let zone = "soa: { primary: ns1, contact: h@example.com }\nsites: { syd: { A: 192.0.2.1 } }\n\
                    services: { web: {} }\nrecords: { '@': { NS: ns1 }, ns1: { A: 192.0.2.53 }, www: { service: web } }\n";
        let publish = || {
            fs::write(home.path().join("example.com.yaml"), zone).unwrap();
            let no_databases: [PathBuf; 0] = [];
            let reload = Reloader::new(home.path(), &no_databases, None).reload(false);
            let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
            Arc::new(Published::new(snapshot, Arc::new(Board::new(layout)), 2))
        };
        let bytes = query(&Name::parse("www.example.com.", None).unwrap(), Rtype::A, None);
        let answer_from = |published: &Published, number: usize| {
            let client = [192, 0, 2, 7].into();
            let request = Request { bytes: &bytes, client, transport: Transport::Tcp, now_ms: 0 };
            let Published { snapshot, board, tally } = published;
            let outcome = respond(&mut Worker::default(), &request, snapshot, board, &mut [0; 65_535]);
            tally.count(number, snapshot, &outcome);
        };
        let mut retired = Retired::default();
        let first = publish();
        answer_from(&first, 0);
        answer_from(&first, 1);
        assert_eq!(retired.answers(&first)[0].sites, [2]);

        let second = publish();
        let of_slow_worker = Arc::clone(&first);
        retired.push(first);
        answer_from(&second, 0);
        answer_from(&of_slow_worker, 1);
        assert_eq!(retired.answers(&second)[0].sites, [4]);
        retired.tidy_up();
        assert_eq!((retired.still_read.len(), retired.answers(&second)[0].sites[0]), (1, 4));
        drop(of_slow_worker);
        retired.tidy_up();
        assert_eq!((retired.still_read.len(), retired.answers(&second)[0].sites[0]), (0, 4));
    }
}
