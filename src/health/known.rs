//! All that the health side knows, behind one lock: what checks found, what operators said, what guards remember; and the boards
//! that are told of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

use super::board::{Target, Verdict};
use super::checked::{Checked, Subject, subjects_of};
use super::events::{Events, Kind};
use super::judge::{self, Attempt};
use super::memory::Memory;
use super::moment::Moment;
use super::overrides::{Deed, Order, Overrides, Refusal};
use super::probe::{Certificate, Remarks};
use super::publish::Published;
use super::service::Around;
use super::tries::Tries;

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) subjects: HashMap<Arc<Subject>, Checked>,
    pub(super) canaries: Vec<Arc<Subject>>,
    /// Since when the canaries fail, all of them.
    pub(super) isolated: Option<Instant>,
    /// Since when attempts at all canaries fail, whatever the verdicts are yet.
    pub(super) suspected: Option<Instant>,
    /// The newest last.
    pub(super) boards: Vec<Published>,
    pub(super) overrides: Overrides,
    /// Whether shares that operators gave are on their way.
    pub(super) is_moving: bool,
    pub(super) memory: Memory,
    /// Where that is kept, and what operators said.
    folder: Option<PathBuf>,
    pub(super) events: Events,
    pub(super) tries: Tries,
}

impl Known {
    /// What is left of the last run, in a folder if there is one.
    pub(super) fn recall(folder: Option<&Path>, at: Moment) -> Known {
        Known {
            overrides: Overrides::open(folder),
            memory: Memory::open(folder, at.wall, at.now),
            folder: folder.map(Path::to_owned),
            ..Known::default()
        }
    }

    /// What there is in the folder of another process, which goes on to write there.
    pub(super) fn recall_anothers(folder: &Path, at: Moment) -> Known {
        Known {
            overrides: Overrides::open_anothers(folder),
            memory: Memory::open(Some(folder), at.wall, at.now),
            folder: Some(folder.to_owned()),
            ..Known::default()
        }
    }

    /// The same anew, for nobody told this process of what another has learnt since.
    pub(super) fn recall_again(&mut self, at: Moment) {
        self.overrides.read_again();
        self.memory = Memory::open(self.folder.as_deref(), at.wall, at.now);
    }

    /// Catches up with another process, which has written for the last time: that one never ceased to look.
    pub(super) fn catch_up(&mut self, at: Moment) {
        self.recall_again(at);
        let Known { subjects, memory, canaries, .. } = self;
        let mut learnt = Vec::new();
        for (subject, checked) in subjects.iter_mut().filter(|(subject, _)| !canaries.contains(subject)) {
            let Some(known) = memory.take(&checked.key, at.now) else { continue };
            if checked.learn(known, at) {
                learnt.push(Arc::clone(subject));
            }
        }
        for subject in learnt {
            self.tell(&subject);
        }
        let Known { boards, memory, .. } = self;
        if let Some(newest) = boards.last_mut() {
            newest.resume(true, |site| memory.take_site(site, at.now));
        }
    }

    pub(super) fn register(
        &mut self,
        subject: &Subject,
        attempt: &Attempt,
        took: Duration,
        remarks: Remarks,
        at: Moment,
    ) {
        self.tries.register(&subject.check.kind, attempt, took);
        self.tell_of_certificate(subject, remarks.certificate, at.wall);
        let Some(checked) = self.subjects.get_mut(subject) else { return };
        let load = remarks.load;
        let was_wavering = checked.judge.is_wavering();
        let changed = checked.register(subject, attempt, took, remarks, at);
        let is_wavering = checked.judge.is_wavering();
        self.memory.is_outdated |= changed.is_some();
        let is_canary = self.canaries.iter().any(|canary| **canary == *subject);
        if is_canary {
            self.look_at_canaries(at);
        }
        if let Some((verdict, evidence)) = &changed {
            let of_what = if is_canary { "canary " } else { "" };
            let text = format!("{of_what}{subject}: {verdict} ({evidence})");
            match *verdict {
                Verdict::Up => self.events.note(Kind::Verdict, text),
                _ => self.events.warn(Kind::Verdict, text),
            }
        }
        if changed.is_some() || was_wavering != is_wavering {
            self.note(subject, at);
        }
        if let Some(load) = load {
            self.note_load(subject, load, at);
        }
    }

    /// Publishes what follows from a load that was told.
    fn note_load(&mut self, subject: &Subject, load: f64, at: Moment) {
        let Some(check) = subject.check.load() else { return };
        let lasts = 3 * subject.check.every + subject.check.timeout;
        self.publish(at, |published, around| {
            let slots = published.slots.get(subject).cloned().unwrap_or_default();
            for slot in &slots {
                published.note_load(*slot, load, check, lasts, around.now);
            }
            published.publish(Some(&slots), around);
        });
    }

    /// Publishes what is known of a subject wherever it has a say.
    fn note(&mut self, subject: &Subject, at: Moment) {
        let mut slots = self.tell(subject).into_iter();
        self.publish(at, |published, around| {
            published.publish(Some(&slots.next().unwrap_or_default()), around);
        });
    }

    /// Tells each board what is known of a subject. Nothing is published yet of these slots of theirs.
    fn tell(&mut self, subject: &Subject) -> Vec<Vec<u32>> {
        let of_slot =
            |(slot, target): (u32, Target)| (slot, self.verdict_on(&target), self.is_doubted(&target));
        let of_board = |published: &Published| published.targets_of(subject).map(of_slot).collect();
        let news: Vec<Vec<_>> = self.boards.iter().map(of_board).collect();
        for (published, news) in self.boards.iter_mut().zip(&news) {
            for (slot, verdict, is_doubted) in news {
                published.note(*slot, *verdict, *is_doubted);
            }
        }
        news.into_iter().map(|news| news.into_iter().map(|(slot, ..)| slot).collect()).collect()
    }

    /// Whether the fault is here: no canary is up, and at least one has said so.
    pub(super) fn look_at_canaries(&mut self, at: Moment) {
        let canaries: Vec<(&Subject, &Checked)> =
            self.canaries.iter().filter_map(|canary| Some((&**canary, self.subjects.get(canary)?))).collect();
        let fails = |checked: &Checked| {
            checked.judge.verdict() == Verdict::Down
                || checked.in_trouble && checked.judge.verdict() != Verdict::Up
        };
        let all_fail = !canaries.is_empty() && canaries.iter().all(|(_, checked)| fails(checked));
        // What broke may have broken just after the attempt before the first that failed.
        let since = canaries.iter().filter_map(|(canary, checked)| {
            checked.failing?.checked_sub(canary.check.every + canary.check.timeout)
        });
        let since = since.min();
        // Sites that are cut off with us may be told down a moment before the canaries are: they wait where the last attempt at
        // each canary has failed.
        let suspected = since.filter(|_| canaries.iter().all(|(_, checked)| checked.failing.is_some()));
        let is_news = suspected.is_some() != self.suspected.is_some();
        // What is written of those that fell meanwhile hangs on it.
        self.memory.is_outdated |= is_news;
        self.suspected = suspected;
        let since = since.filter(|_| all_fail);
        match (since, self.isolated) {
            (Some(since), None) => {
                self.isolated = Some(since);
                let text = "every canary fails: this server is cut off, and no site leaves";
                self.events.warn(Kind::Alarm, text.to_owned());
            }
            (None, Some(since)) => {
                self.isolated = None;
                let text = "a canary answers again: verdicts count again";
                self.events.note(Kind::Alarm, text.to_owned());
                self.absolve(since);
            }
            _ if is_news => {}
            _ => return,
        }
        self.publish(at, |published, around| published.publish(None, around));
    }

    /// What fell while this server was cut off is as before, up or not known: that told nothing of it. It leaves if it fails
    /// from now on. Nothing is published before all of it is: guards would take the others to have fallen just now.
    fn absolve(&mut self, since: Instant) {
        let mut absolved = Vec::new();
        for (subject, checked) in &mut self.subjects {
            absolved.extend(checked.absolve(since).map(|before| (Arc::clone(subject), before)));
        }
        self.memory.is_outdated |= !absolved.is_empty();
        for (subject, before) in absolved {
            let of_what = if self.canaries.contains(&subject) { "canary " } else { "" };
            let text = format!("{of_what}{subject}: {before}, as it was before this server was cut off");
            self.events.note(Kind::Verdict, text);
            self.tell(&subject);
        }
    }

    /// Hands each board what it takes to be written.
    pub(super) fn publish(&mut self, at: Moment, mut publish: impl FnMut(&mut Published, &mut Around<'_>)) {
        self.overrides.look_at_clock(at.milliseconds());
        let Known { boards, overrides, events, isolated, suspected, canaries, is_moving, .. } = self;
        let mut around = Around {
            overrides,
            isolated: isolated.or(*suspected),
            has_canaries: !canaries.is_empty(),
            events,
            is_moving: *is_moving,
            tells: false,
            is_news: false,
            wall: at.milliseconds(),
            now: at.now,
        };
        let newest = boards.len().saturating_sub(1);
        for (index, published) in boards.iter_mut().enumerate() {
            around.tells = index == newest;
            publish(published, &mut around);
        }
        self.memory.is_outdated |= around.is_news;
    }

    /// Once a second. Gives what it takes to write down what is known, where that is due.
    pub(super) fn tick(&mut self, at: Moment) -> Option<impl FnOnce() -> Result<(), String> + Send + use<>> {
        self.overrides.write_if_it_is_time();
        self.expire(at);
        self.boards.retain(Published::is_held);
        // Once more after the last step: that is the one that arrives.
        let moves = self.overrides.is_moving(at.milliseconds());
        self.is_moving |= moves;
        self.publish(at, Published::move_on);
        self.is_moving = moves;
        if self.memory.is_due(at.wall) { self.remember(at) } else { None }
    }

    /// What operators said stands no longer than they said.
    pub(super) fn expire(&mut self, at: Moment) {
        for over in self.overrides.expire(at.milliseconds()) {
            let service = over.service.map_or_else(String::new, |service| format!(" in {service}"));
            let text = match over.deed {
                Deed::Undrain { .. } => "takes all of its clients again",
                Deed::Drain { .. } => "the drain has expired",
                Deed::Up | Deed::Down => "what it was forced to be has expired",
            };
            self.events.note(Kind::Override, format!("{}{service}: {text}", over.site));
            self.publish(at, |published, around| published.publish(None, around));
        }
    }

    /// Does what an operator asks. Gives what it comes to, a line for each site.
    pub(super) fn follow(&mut self, order: &Order, at: Moment) -> Result<Vec<String>, Refusal> {
        let layout = self.boards.last().and_then(Published::layout).unwrap_or_default();
        let mut done = self.overrides.follow(order, &layout, at.milliseconds())?;
        for line in &done {
            let why = if order.reason.is_empty() { String::new() } else { format!(": {}", order.reason) };
            self.events.warn(Kind::Override, format!("{line} (by {}{why})", order.by));
        }
        // It may arrive before anybody looks again.
        self.is_moving |= self.overrides.is_moving(at.milliseconds());
        self.publish(at, |published, around| published.publish(None, around));
        done.extend(self.overrides.unwritten().map(|why| {
            format!("but a restart or a replacement would not know yet, for it cannot be written ({why})")
        }));
        Ok(done)
    }

    /// What it takes to write down what is known, if there is somewhere to write it. Before there is a board, nothing is known but
    /// what stands there already.
    pub(super) fn remember(
        &mut self,
        at: Moment,
    ) -> Option<impl FnOnce() -> Result<(), String> + Send + use<>> {
        let newest = self.boards.iter().rfind(|board| board.is_held())?;
        if self.overrides.is_anothers() {
            return None;
        }
        // What fell with this server's own link is as before when that is over: the next run must not believe it either.
        let cut_off = self.isolated.or(self.suspected);
        let verdicts = self.subjects.iter().filter_map(|(subject, checked)| {
            let is_canary = self.canaries.contains(subject);
            Some((checked.key.clone(), checked.remember(is_canary, cut_off)?))
        });
        let verdicts = verdicts.collect();
        self.memory.begin_to_write(verdicts, newest.sites_to_remember(), at.wall, at.now)
    }

    /// Once for each certificate, at however many addresses it is.
    fn tell_of_certificate(&mut self, subject: &Subject, shown: Option<Certificate>, now: SystemTime) {
        let Some(certificate) = shown.filter(|certificate| certificate.is_due <= now) else { return };
        let is_told = |checked: &Checked| checked.told == Some(certificate);
        if self.subjects.get(subject).is_none_or(is_told) {
            return;
        }
        if !self.subjects.values().any(is_told) {
            match certificate.expires.duration_since(now) {
                Ok(left) => warn!("{subject}: its certificate ends in {}", in_days(left)),
                Err(past) => warn!("{subject}: its certificate ended {} ago", in_days(past.duration())),
            }
        }
        if let Some(checked) = self.subjects.get_mut(subject) {
            checked.told = Some(certificate);
        }
    }

    /// Whether attempts lately speak against what is known of it.
    pub(super) fn is_doubted(&self, target: &Target) -> bool {
        let is_wavering =
            |subject| self.subjects.get(&subject).is_some_and(|checked| checked.judge.is_wavering());
        subjects_of(target).any(is_wavering)
    }

    /// None where it cannot be told, for want of checks that are not made any more.
    pub(super) fn verdict_on(&self, target: &Target) -> Option<Verdict> {
        let verdict_of = |subject| self.subjects.get(&subject).map(|checked| checked.judge.verdict());
        judge::combine(subjects_of(target).map(verdict_of), target.need)
    }
}

/// `13 days`, or of less than two `31 hours`.
fn in_days(time: Duration) -> String {
    match time.as_secs() / 3600 {
        hours @ 0..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::runtime::Handle;

    use super::*;
    use crate::health::board::{Board, Layout, ServiceSlots, Share, SiteOfService};
    use crate::health::overrides::Wish;
    use crate::health::{Health, Status, lock};
    use crate::site::{BlastRadius, Check, CheckKind, Guards, MinUp};

    const SITES: u8 = 3;
    const CANARY: u8 = 100;

    fn subject(number: u8) -> Subject {
        let check = Check {
            kind: CheckKind::Tcp,
            port: Some(1),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
            jitter: 0,
        };
        Subject { address: IpAddr::from([192, 0, 2, number]), check }
    }

    /// Of whose sites one may leave at a time.
    fn layout() -> Layout {
        let target = |site| Target {
            address: subject(site).address,
            checks: Arc::from([subject(site).check]),
            need: 1,
        };
        let site = |site| SiteOfService { service: "web".to_owned(), site: format!("s{site}") };
        Layout {
            targets: (0..SITES).map(target).collect(),
            shares: (0..SITES).map(site).collect(),
            services: vec![ServiceSlots {
                name: "web".to_owned(),
                first_share: 0,
                targets: (0..u32::from(SITES)).map(|slot| slot..slot + 1).collect(),
                min_up: MinUp::of_both(1),
                guards: Guards {
                    blast_radius: Some(BlastRadius { most: 0.3, within: Duration::from_secs(600) }),
                    ..Guards::default()
                },
                windows: vec![Vec::new(); usize::from(SITES)],
                slow_start: Duration::ZERO,
                ttl: 30..=30,
                is_checked: true,
                market: None,
            }],
        }
    }

    fn hear(health: &Health, number: u8, attempt: &Attempt) {
        let remarks = Remarks::default();
        let took = Duration::from_millis(1);
        lock(&health.known).register(&subject(number), attempt, took, remarks, Moment::read());
    }

    /// Nothing here waits, so that no check is made but those that are told.
    #[tokio::test]
    async fn meaning_9_each_that_fell_with_this_server_is_told_to_be_up_again_and_no_guard_takes_it_for_gone()
    {
        let health = Health::new(Handle::current(), None);
        health.watch_canaries(vec![(subject(CANARY).address, subject(CANARY).check)]);
        let board = health.adopt(layout());
        let all = || std::iter::once(CANARY).chain(0..SITES);
        all().for_each(|number| hear(&health, number, &Attempt::Success));
        let since = || -> Vec<SystemTime> {
            let of_sites = |status: &Status| status.address != subject(CANARY).address;
            health.status().into_iter().filter(of_sites).map(|status| status.since).collect()
        };
        let since_up = since();
        let refused = Attempt::Failure("refused".to_owned());
        (0..2).for_each(|_| all().for_each(|number| hear(&health, number, &refused)));
        assert_eq!(health.is_isolated(), Some(true));
        let (before, counted) = health.last_events(200);
        (0..2).for_each(|_| hear(&health, CANARY, &Attempt::Success));
        assert_eq!(health.is_isolated(), Some(false));
        assert!((0..u32::from(SITES)).all(|slot| board.verdict(slot) == Verdict::Up));
        assert_eq!(since(), since_up);

        let (events, counts) = health.last_events(200);
        let texts: Vec<&str> = events[before.len()..].iter().map(|event| event.text.as_str()).collect();
        for site in 0..SITES {
            let told = format!("{}: up, as it was before this server was cut off", subject(site));
            assert_eq!(texts.iter().filter(|text| **text == told).count(), 1, "{texts:?}");
        }
        // With the canary's own, which is told apart.
        assert!(texts.iter().any(|text| text.starts_with("canary ") && text.contains(": up")), "{texts:?}");
        let kind = Kind::Verdict as usize;
        assert_eq!(counts[kind] - counted[kind], u64::from(SITES) + 1, "{texts:?}");
        assert!(texts.iter().all(|text| !text.contains("blast radius")), "{texts:?}");
        // Nobody has left, so one still may.
        (0..2).for_each(|_| hear(&health, 1, &refused));
        assert_eq!(board.verdict(1), Verdict::Down);
    }

    /// As at a start without a link.
    #[tokio::test]
    async fn meaning_9_who_was_never_reached_while_this_server_was_cut_off_is_not_known_after_it() {
        let health = Health::new(Handle::current(), None);
        health.watch_canaries(vec![(subject(CANARY).address, subject(CANARY).check)]);
        let board = health.adopt(layout());
        let verdicts = || [0, 1, 2].map(|slot| board.verdict(slot));
        let silent = Attempt::Failure("silent".to_owned());
        std::iter::once(CANARY).chain(0..SITES).for_each(|number| hear(&health, number, &silent));
        assert_eq!(health.is_isolated(), Some(true));
        assert_eq!(verdicts(), [Verdict::Down; 3]);
        (0..2).for_each(|_| hear(&health, CANARY, &Attempt::Success));
        assert_eq!(health.is_isolated(), Some(false));
        assert_eq!(verdicts(), [Verdict::Unknown; 3]);
        hear(&health, 1, &silent);
        assert_eq!(verdicts(), [Verdict::Unknown, Verdict::Down, Verdict::Unknown]);
    }

    /// What is written while canaries are doubted leaves out what fell meanwhile; it may have been no fault of this server's.
    #[tokio::test]
    async fn who_fell_while_canaries_stumbled_is_written_down_when_they_are_well() {
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            let health = Health::new(Handle::current(), Some(folder.path()));
            health.watch_canaries(vec![(subject(CANARY).address, subject(CANARY).check)]);
            let board = health.adopt(layout());
            (health, board)
        };
        let write = |health: &Health| {
            let write = lock(&health.known).tick(Moment::read());
            write.map(|write| write().unwrap())
        };
        let refused = Attempt::Failure("refused".to_owned());
        let (health, board) = start();
        std::iter::once(CANARY).chain(0..SITES).for_each(|number| hear(&health, number, &Attempt::Success));
        hear(&health, CANARY, &refused);
        (0..2).for_each(|_| hear(&health, 1, &refused));
        assert_eq!(board.verdict(1), Verdict::Held);
        assert!(write(&health).is_some());
        hear(&health, CANARY, &Attempt::Success);
        assert_eq!(board.verdict(1), Verdict::Down);
        assert!(write(&health).is_some(), "what was written is not so any more");
        // As if it were killed.
        lock(&health.known).overrides.set_anothers(true);
        let (_health, board) = start();
        assert_eq!([0, 1].map(|slot| board.verdict(slot)), [Verdict::Up, Verdict::Down]);
    }

    /// It may be for hours that somebody looks for what is wrong with the files.
    #[tokio::test]
    async fn a_start_that_comes_to_nothing_leaves_what_is_known_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            let health = Health::new(Handle::current(), Some(folder.path()));
            health.watch_canaries(vec![(subject(CANARY).address, subject(CANARY).check)]);
            health
        };
        let refused = Attempt::Failure("refused".to_owned());
        let health = start();
        let board = health.adopt(layout());
        std::iter::once(CANARY).chain(0..SITES).for_each(|number| hear(&health, number, &Attempt::Success));
        (0..2).for_each(|_| hear(&health, 1, &refused));
        (0..2).for_each(|_| hear(&health, 2, &refused));
        let verdicts = |board: &Board| [0, 1, 2].map(|slot| board.verdict(slot));
        // One may leave.
        let known = [Verdict::Up, Verdict::Down, Verdict::Held];
        assert_eq!(verdicts(&board), known);
        drop(health);

        let health = start();
        (0..2).for_each(|_| hear(&health, CANARY, &refused));
        let long_after = Moment { wall: SystemTime::now() + Duration::from_secs(100), ..Moment::read() };
        assert!(lock(&health.known).tick(long_after).is_none());
        drop(health);
        let next = start();
        assert_eq!(verdicts(&next.adopt(layout())), known);
    }

    #[test]
    fn what_operators_said_stands_where_it_cannot_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("overrides.json");
        let mut overrides = Overrides::open(Some(folder.path()));
        overrides.follow(&drain_over(0), &layout(), 1000).unwrap();
        let said = overrides.list().to_vec();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        // What another process has is its own.
        assert!(Overrides::open_anothers(folder.path()).list().is_empty() && file.is_dir());
        overrides.set_anothers(true);
        overrides.read_again();
        assert!(overrides.list() == said && file.is_dir());
        overrides.set_anothers(false);
        overrides.read_again();
        assert_eq!(overrides.list(), said);
        assert!(folder.path().join("overrides.json.broken").is_dir());
        assert_eq!(Overrides::open(Some(folder.path())).list(), said);
    }

    /// A disk may be full for hours; what an operator says meanwhile is to be known when it is not.
    #[tokio::test]
    async fn what_operators_said_is_written_when_it_can_be_and_they_hear_that_it_is_not_yet() {
        let home = tempfile::tempdir().unwrap();
        let (folder, aside) = (home.path().join("state"), home.path().join("aside"));
        // Nothing can be written below what is no folder.
        std::fs::write(&folder, "").unwrap();
        let health = Health::new(Handle::current(), Some(&folder));
        let _board = health.adopt(layout());
        let done = health.follow(&drain_over(0)).unwrap();
        assert!(
            done.len() == 2 && done[1].contains("a restart or a replacement would not know yet"),
            "{done:?}"
        );
        let tick = || drop(lock(&health.known).tick(Moment::read()));
        tick();
        std::fs::remove_file(&folder).unwrap();
        while lock(&health.known).overrides.unwritten().is_some() {
            tick();
        }
        assert_eq!(Overrides::open(Some(&folder)).list(), health.overrides());

        // Nor is it forgotten where another server takes over first.
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::write(&folder, "").unwrap();
        health.follow(&Order { site: "s1".to_owned(), ..drain_over(0) }).unwrap();
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        let next = Health::beside(Handle::current(), &folder);
        let board = next.adopt(layout());
        let drained = || [0, 1, 2].map(|site| board.share(site) == Share::DRAINED);
        assert_eq!(drained(), [true, false, false]);
        health.give_state_away();
        next.take_state_over();
        assert_eq!(drained(), [true, true, false]);
    }

    #[tokio::test]
    async fn who_is_about_to_answer_beside_another_server_hears_what_operators_told_that_one() {
        let folder = tempfile::tempdir().unwrap();
        let health = Health::new(Handle::current(), Some(folder.path()));
        let _served = health.adopt(layout());
        let next = Health::beside(Handle::current(), folder.path());
        let board = next.adopt(layout());
        health.follow(&drain_over(0)).unwrap();
        assert_eq!(board.share(0), Share::FULL);
        next.hear_of_orders();
        assert_eq!(board.share(0), Share::DRAINED);
    }

    /// The first site, over so many seconds.
    fn drain_over(seconds: u64) -> Order {
        Order {
            wish: Wish::Drain,
            site: "s0".to_owned(),
            service: None,
            lasts: None,
            over: seconds * 1000,
            reason: String::new(),
            by: String::new(),
            anyway: false,
        }
    }

    /// The shares of the first site, drained over so many seconds, when so many have gone by and the clock on the wall shows so
    /// many more.
    fn shares_of_drained(over: u64, looks: &[(u64, u64)]) -> Vec<Share> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let health = Health::new(runtime.handle().clone(), None);
        let board = health.adopt(layout());
        let start = Moment::read();
        lock(&health.known).follow(&drain_over(over), start).unwrap();
        let look = |&(after, shown): &(u64, u64)| {
            let wall = start.wall + Duration::from_secs(shown);
            lock(&health.known).tick(Moment { wall, now: start.now + Duration::from_secs(after) });
            board.share(0)
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn meaning_9_a_drain_that_is_over_before_the_next_look_arrives() {
        assert_eq!(shares_of_drained(1, &[(1, 1), (2, 2)]), [Share::DRAINED; 2]);
        // Somebody sets the clock to after it.
        assert_eq!(shares_of_drained(600, &[(1, 3601)]), [Share::DRAINED]);
    }

    #[test]
    fn meaning_10_a_clock_that_is_set_back_takes_no_client_back_to_a_drained_site() {
        let half = Share(Share::FULL.0 / 2);
        assert_eq!(shares_of_drained(100, &[(50, 50), (51, 20), (76, 45)]), [half, half, Share(16_383)]);
        assert_eq!(shares_of_drained(100, &[(100, 100), (101, 0), (102, 1)]), [Share::DRAINED; 3]);
    }

    /// As on a machine without a battery, before it has heard the time.
    #[test]
    fn meaning_10_nor_does_a_start_by_a_clock_that_is_not_set_yet() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout();
        let mut before = Overrides::open(Some(folder.path()));
        before.follow(&drain_over(100), &layout, 1_000_000).unwrap();
        let mut after = Overrides::open(Some(folder.path()));
        for now in [5000, 6000, 1_000_000] {
            after.look_at_clock(now);
            assert_eq!(after.share("s0", &layout.services[0].name, now), Share::DRAINED);
        }
    }
}
