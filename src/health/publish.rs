//! What checks say -> the services that it concerns, on each board that is read: who has to be decided about anew, and what goes on
//! from one board to the next.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::board::{Board, Layout, ServiceSlots, Share, SiteOfService, Target, Verdict};
use super::checked::Subject;
use super::guard::{Hold, Remembered};
use super::memory::RememberedSite;
use super::overrides::{Deed, Milliseconds, Override};
use super::service::{Around, OfService, OfSite};
use super::shed::Report;
use crate::site::LoadCheck;

/// A board that is written to, for as long as somebody holds it.
#[derive(Debug)]
pub(super) struct Published {
    board: Weak<Board>,
    /// Which slots a subject has a say in. Without it, a site of many addresses that fails would cost as many
    /// walks over the whole board.
    pub(super) slots: HashMap<Arc<Subject>, Vec<u32>>,
    /// What checks say, by slot.
    verdicts: Vec<Verdict>,
    /// Slots whose verdict is in doubt.
    wavering: BTreeSet<u32>,
    services: Vec<OfService>,
}

/// What a guard does to a site, for people.
#[derive(Clone, Debug)]
pub struct Held {
    /// The service.
    pub service: String,
    /// The site.
    pub site: String,
    /// Why.
    pub hold: Hold,
}

/// What a site says that it has to do, for people.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The service.
    pub service: String,
    /// The site.
    pub site: String,
    /// In parts of its capacity.
    pub load: f64,
    /// The part of its clients that it is relieved of.
    pub shed: f64,
}

impl Published {
    /// A board that says nothing yet; what guards remember goes on from the one before, by names.
    pub(super) fn new(
        board: &Arc<Board>,
        slots: HashMap<Arc<Subject>, Vec<u32>>,
        before: Option<&Published>,
    ) -> Published {
        let layout = board.layout();
        let earlier = before.and_then(|before| Some((before.layout()?, &before.services)));
        let earlier: HashMap<&str, (&[SiteOfService], &OfService)> = earlier
            .iter()
            .flat_map(|(layout, states)| {
                let sites = layout.services.iter().map(|service| (&*service.name, layout.sites(service)));
                sites.zip(*states).map(|((name, sites), state)| (name, (sites, state)))
            })
            .collect();
        let services = layout.services.iter().map(|service| {
            let sites = layout.sites(service);
            let (sites_before, before) = earlier.get(&*service.name).copied().unzip();
            before.cloned().unwrap_or_default().going_on(sites_before.unwrap_or_default(), sites)
        });
        let services = services.collect();
        let verdicts = vec![Verdict::Unknown; layout.targets.len()];
        Published { board: Arc::downgrade(board), slots, verdicts, wavering: BTreeSet::new(), services }
    }

    /// What was known in the last run: of sites of which nothing is known yet, or of all.
    pub(super) fn resume(
        &mut self,
        of_all: bool,
        mut known: impl FnMut(&SiteOfService) -> Option<RememberedSite>,
    ) {
        let Some(board) = self.board.upgrade() else { return };
        for (service, state) in board.layout().services.iter().zip(&mut self.services) {
            for (index, site) in board.layout().sites(service).iter().enumerate() {
                let is_due = of_all || state.sites[index].guard == Remembered::default();
                if let Some(known) = is_due.then(|| known(site)).flatten() {
                    state.resume(index, known);
                }
            }
        }
    }

    /// What is to be known of each site in the next run.
    pub(super) fn sites_to_remember(&self) -> Vec<(SiteOfService, RememberedSite)> {
        let Some(board) = self.board.upgrade() else { return Vec::new() };
        let services = board.layout().services.iter().zip(&self.services);
        let sites =
            services.flat_map(|(service, state)| board.layout().sites(service).iter().zip(state.remember()));
        sites.filter_map(|(site, known)| Some((site.clone(), known?))).collect()
    }

    pub(super) fn is_held(&self) -> bool {
        self.board.strong_count() > 0
    }

    pub(super) fn is_of(&self, board: &Arc<Board>) -> bool {
        self.board.as_ptr() == Arc::as_ptr(board)
    }

    /// The slots that a subject has a say in, and what they are about.
    pub(super) fn targets_of(&self, subject: &Subject) -> impl Iterator<Item = (u32, Target)> {
        let board = self.board.upgrade();
        let slots = self.slots.get(subject).into_iter().flatten();
        slots.filter_map(move |slot| {
            Some((*slot, board.as_ref()?.layout().targets.get(*slot as usize)?.clone()))
        })
    }

    /// What checks say of a slot, and whether attempts lately speak against that. Where it cannot be told any more, what was
    /// known last stands.
    pub(super) fn note(&mut self, slot: u32, verdict: Option<Verdict>, is_doubted: bool) {
        if let (Some(noted), Some(verdict)) = (self.verdicts.get_mut(slot as usize), verdict) {
            *noted = verdict;
        }
        if is_doubted {
            self.wavering.insert(slot);
        } else {
            self.wavering.remove(&slot);
        }
    }

    /// What an address says that its site has to do, and for how long that counts.
    pub(super) fn note_load(
        &mut self,
        slot: u32,
        load: f64,
        check: &LoadCheck,
        lasts: Duration,
        now: Instant,
    ) {
        let Some(board) = self.board.upgrade() else { return };
        let mut services = board.layout().services.iter().zip(&mut self.services);
        let Some((service, state)) = services.find(|(service, _)| slots_of(service).contains(&slot)) else {
            return;
        };
        let sites = service.targets.iter().zip(&mut state.sites).enumerate();
        let (Some(market), Some((site, (_, state)))) =
            (&service.market, sites.into_iter().find(|(_, (targets, _))| targets.contains(&slot)))
        else {
            return;
        };
        let report = Report {
            address: board.layout().targets[slot as usize].address,
            load: load / market.capacity(site),
            shed_above: f64::from(check.shed_above) / 100.0,
            resume_below: f64::from(check.resume_below) / 100.0,
            told: now,
            lasts,
        };
        if state.report.is_none_or(|earlier| earlier.is_outdone_by(&report, now)) {
            state.report = Some(report);
        }
    }

    /// Sites that told their load lately.
    pub(super) fn loads(&self) -> Vec<Loaded> {
        let Some(board) = self.board.upgrade() else { return Vec::new() };
        let (layout, now) = (board.layout(), Instant::now());
        let services = layout.services.iter().zip(&self.services);
        let sites = services.flat_map(|(service, state)| layout.sites(service).iter().zip(&state.sites));
        let loaded = |(site, state): (&SiteOfService, &OfSite)| {
            let report = state.report.filter(|report| report.is_fresh(now))?;
            let (service, site) = (site.service.clone(), site.site.clone());
            Some(Loaded { service, site, load: report.load, shed: 1.0 - state.shedding.relief() })
        };
        sites.filter_map(loaded).collect()
    }

    /// Publishes what follows for all services, or for those that have one of these slots.
    pub(super) fn publish(&mut self, only: Option<&[u32]>, around: &mut Around<'_>) {
        self.publish_where(around, |service, _, _| {
            let slots = slots_of(service);
            only.is_none_or(|only| only.iter().any(|slot| slots.contains(slot)))
        });
    }

    /// Publishes what time has changed.
    pub(super) fn move_on(&mut self, around: &mut Around<'_>) {
        self.publish_where(around, |service, state, around| {
            let has_windows = service.windows.iter().any(|windows| !windows.is_empty());
            around.is_moving || state.is_moving || has_windows
        });
    }

    fn publish_where(
        &mut self,
        around: &mut Around<'_>,
        is_concerned: impl Fn(&ServiceSlots, &OfService, &Around<'_>) -> bool,
    ) {
        let Some(board) = self.board.upgrade() else { return };
        let Published { verdicts, wavering, services, .. } = self;
        for (index, (service, state)) in board.layout().services.iter().zip(services).enumerate() {
            if is_concerned(service, state, around) {
                let slots = slots_of(service);
                let is_wavering = wavering.iter().any(|slot| slots.contains(slot));
                state.publish(index as u16, service, is_wavering, &board, verdicts, around);
            }
        }
    }

    /// Sites that a guard gives out at this moment.
    pub(super) fn held(&self) -> Vec<Held> {
        let Some(board) = self.board.upgrade() else { return Vec::new() };
        let layout = board.layout();
        let sites = layout
            .services
            .iter()
            .zip(&self.services)
            .flat_map(|(service, state)| layout.sites(service).iter().zip(&state.sites));
        sites
            .filter_map(|(site, state)| {
                Some(Held { service: site.service.clone(), site: site.site.clone(), hold: state.hold? })
            })
            .collect()
    }

    /// Windows that are open, as if an operator had said so when they opened.
    pub(super) fn open_windows(&self, now: Milliseconds) -> Vec<Override> {
        let Some(layout) = self.layout() else { return Vec::new() };
        let since_1970 = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as Milliseconds)
        };
        let of_service = |service: &ServiceSlots| -> Vec<Override> {
            let sites = layout.sites(service).iter().zip(&service.windows);
            let windows = sites.flat_map(|(site, windows)| windows.iter().map(move |window| (site, window)));
            let open = windows
                .filter(|(_, window)| (since_1970(window.from)..since_1970(window.until)).contains(&now));
            open.map(|(site, window)| Override {
                site: site.site.clone(),
                service: Some(service.name.clone()),
                deed: Deed::Drain { over: window.over.as_millis() as Milliseconds, from: Share::FULL.0 },
                since: since_1970(window.from),
                until: Some(since_1970(window.until)),
                reason: window.reason.clone(),
                by: "maintenance".to_owned(),
            })
            .collect()
        };
        layout.services.iter().flat_map(of_service).collect()
    }

    pub(super) fn layout(&self) -> Option<Layout> {
        self.board.upgrade().map(|board| board.layout().clone())
    }
}

fn slots_of(service: &ServiceSlots) -> Range<u32> {
    let start = service.targets.first().map_or(0, |targets| targets.start);
    start..service.targets.last().map_or(0, |targets| targets.end)
}
