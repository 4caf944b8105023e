//! Answers by service and site, counted: one row for each worker, written by it alone.
//!
//! A tally belongs to a snapshot, as its board does, and has the board's slots: so a site needs no name while queries are
//! answered. When no worker reads the snapshot any more, what was counted is kept by name ([`Kept`]), and the next
//! snapshot's tally goes on from there. A service or a site that comes back goes on as well.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::health::board::{Layout, SiteOfService};
use crate::nameserver::{Given, NoSite, Outcome, Steered};
use crate::snapshot::Snapshot;

/// Kinds of [`NoSite`].
pub const REASONS: usize = 4;

/// Counters of a line.
const OF_LINE: usize = 16;

/// Two cache lines, the unit that neighbouring cores pull back and forth: rows are whole ones, so that no two workers ever
/// write to the same.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; OF_LINE]);

/// What one worker counted of one snapshot.
#[derive(Debug)]
struct Row {
    /// By slot of the board's shares.
    sites: Box<[Line]>,
    /// By service, then by reason.
    without: Box<[Line]>,
}

/// What all workers counted of one snapshot.
#[derive(Debug)]
pub struct Tally {
    rows: Box<[Row]>,
}

/// Answers of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfService {
    /// By its sites, in its order. Of several sites in one answer the first counts.
    pub sites: Vec<u64>,
    /// Those without a site, in the order of [`NoSite`].
    pub without: [u64; REASONS],
}

/// What was counted of snapshots that nobody reads any more. What is gone from the files stays in here, for it may come back.
#[derive(Debug, Default)]
pub struct Kept {
    sites: HashMap<SiteOfService, u64>,
    without: HashMap<String, [u64; REASONS]>,
}

impl NoSite {
    /// All of them, in their order.
    pub const ALL: [NoSite; REASONS] =
        [NoSite::Denied, NoSite::NoData, NoSite::NothingUp, NoSite::LastResort];

    /// Under which name it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NoSite::Denied => "denied",
            NoSite::NoData => "no_data",
            NoSite::NothingUp => "nothing_up",
            NoSite::LastResort => "last_resort",
        }
    }
}

impl Row {
    fn new(sites: usize, services: usize) -> Row {
        let lines = |counters: usize| (0..counters.div_ceil(OF_LINE)).map(|_| Line::default()).collect();
        Row { sites: lines(sites), without: lines(services * REASONS) }
    }
}

#[inline]
fn counter(lines: &[Line], slot: usize) -> Option<&AtomicU64> {
    lines.get(slot / OF_LINE).map(|line| &line.0[slot % OF_LINE])
}

impl Tally {
    /// For a snapshot that so many workers answer from.
    #[must_use]
    pub fn new(workers: usize, snapshot: &Snapshot, layout: &Layout) -> Tally {
        let row = || Row::new(layout.shares.len(), snapshot.services().len());
        Tally { rows: (0..workers).map(|_| row()).collect() }
    }

    /// Counts an answer, if a service chose it. Only the worker of that number may.
    #[inline]
    pub fn count(&self, worker: usize, snapshot: &Snapshot, outcome: &Outcome) {
        if let Some(steered) = outcome.steered() {
            self.count_steered(worker, snapshot, steered);
        }
    }

    #[inline]
    fn count_steered(&self, worker: usize, snapshot: &Snapshot, steered: Steered) {
        let Some(row) = self.rows.get(worker) else { return };
        let counter = match steered.given {
            Given::Site(site) => {
                counter(&row.sites, snapshot.service(steered.service).sites[usize::from(site)].share as usize)
            }
            Given::NoSite(why) => {
                counter(&row.without, usize::from(steered.service) * REASONS + why as usize)
            }
        };
        if let Some(counter) = counter {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    fn site(&self, slot: usize) -> u64 {
        sum(self.rows.iter().filter_map(|row| counter(&row.sites, slot)))
    }

    fn without(&self, service: usize) -> [u64; REASONS] {
        std::array::from_fn(|why| {
            sum(self.rows.iter().filter_map(|row| counter(&row.without, service * REASONS + why)))
        })
    }

    /// What it counted, and all that was counted before, by service of its snapshot.
    #[must_use]
    pub fn totals(&self, snapshot: &Snapshot, layout: &Layout, earlier: &[&Kept]) -> Vec<OfService> {
        let services = snapshot.services().iter().enumerate();
        services
            .map(|(index, service)| {
                let of_site = |slot: usize| {
                    let name = &layout.shares[slot];
                    let before = earlier.iter().filter_map(|kept| kept.sites.get(name));
                    self.site(slot) + before.sum::<u64>()
                };
                let mut without = self.without(index);
                for before in earlier.iter().filter_map(|kept| kept.without.get(&service.name)) {
                    add(&mut without, before);
                }
                let sites = service.sites.iter().map(|site| of_site(site.share as usize)).collect();
                OfService { sites, without }
            })
            .collect()
    }
}

impl Kept {
    /// Adds what the workers counted of a snapshot that was served.
    pub fn add(&mut self, tally: &Tally, snapshot: &Snapshot, layout: &Layout) {
        for (slot, name) in layout.shares.iter().enumerate() {
            match tally.site(slot) {
                0 => {}
                count => *self.sites.entry(name.clone()).or_default() += count,
            }
        }
        for (index, service) in snapshot.services().iter().enumerate() {
            let counts = tally.without(index);
            if counts != [0; REASONS] {
                add(self.without.entry(service.name.clone()).or_default(), &counts);
            }
        }
    }
}

fn sum<'a>(counters: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
}

fn add(totals: &mut [u64; REASONS], counts: &[u64; REASONS]) {
    for (total, count) in totals.iter_mut().zip(counts) {
        *total += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use crate::reload::Reloader;

    /// Whatever was allocated one after the other: each row has its cache lines for itself.
    #[test]
    fn no_two_rows_share_a_line() {
        let mut seen = HashSet::new();
        let rows: Vec<Row> = (0..64).map(|_| Row::new(3, 2)).collect();
        for row in &rows {
            for line in row.sites.iter().chain(&row.without) {
                let at = std::ptr::from_ref(line).addr();
                assert_eq!((at % 128, size_of::<Line>()), (0, 128));
                assert!(seen.insert(at));
            }
        }
    }

    fn write(folder: &Path, sites: &str) {
        let zone = "soa: { primary: ns1, contact: h@example.com }\nrecords:\n  \"@\": { NS: ns1 }\n  \
                    ns1: { A: 192.0.2.53 }\n  www: { service: web }\n";
        fs::write(folder.join("example.com.yaml"), zone).unwrap();
        let of_site = |site: &str| format!("  {site}: {{ A: 192.0.2.1 }}\n");
        let listed: String = sites.split_whitespace().map(of_site).collect();
        let services = format!("services: {{ web: {{ sites: [{}] }} }}\n", sites.replace(' ', ", "));
        fs::write(folder.join("sites.yaml"), format!("sites:\n{listed}{services}")).unwrap();
    }

    /// Snapshots come and go, sites change places and go and come back: no count is lost, none goes to another site.
    #[test]
    fn counts_go_on_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut reloader = Reloader::new(folder.path(), &[], None);
        let mut read = |sites: &str| {
            write(folder.path(), sites);
            let reload = reloader.reload(true);
            let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
            let tally = Tally::new(2, &snapshot, &layout);
            (snapshot, layout, tally)
        };
        let given = |given| Steered { service: 0, given };
        let mut kept = Kept::default();

        let (snapshot, layout, tally) = read("a b");
        tally.count_steered(0, &snapshot, given(Given::Site(0)));
        tally.count_steered(1, &snapshot, given(Given::Site(0)));
        tally.count_steered(1, &snapshot, given(Given::Site(1)));
        tally.count_steered(0, &snapshot, given(Given::NoSite(NoSite::LastResort)));
        // Who is no worker counts nothing, and harms nobody.
        tally.count_steered(2, &snapshot, given(Given::Site(0)));
        let counted = OfService { sites: vec![2, 1], without: [0, 0, 0, 1] };
        assert_eq!(tally.totals(&snapshot, &layout, &[&kept]), [counted]);
        kept.add(&tally, &snapshot, &layout);

        let (snapshot, layout, tally) = read("b c");
        tally.count_steered(0, &snapshot, given(Given::Site(0)));
        tally.count_steered(0, &snapshot, given(Given::NoSite(NoSite::Denied)));
        let counted = OfService { sites: vec![2, 0], without: [1, 0, 0, 1] };
        assert_eq!(tally.totals(&snapshot, &layout, &[&kept]), [counted]);
        kept.add(&tally, &snapshot, &layout);

        let (snapshot, layout, tally) = read("c b a");
        let counted = OfService { sites: vec![0, 2, 2], without: [1, 0, 0, 1] };
        assert_eq!(tally.totals(&snapshot, &layout, &[&kept]), [counted]);
    }
}
