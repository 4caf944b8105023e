//! One service: verdicts of checks, words of operators, guards -> what is given out of each of its sites.
//!
//! Everything is decided for a site, from what checks say of its addresses:
//!
//! ```text
//!   force  >  drain  >  isolation  >  blast radius  >  panic  >  verdict  >  unknown        (meaning 9)
//! ```

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::board::{Board, ServiceSlots, Share, SiteOfService, Verdict};
use super::events::{Events, Kind};
use super::guard::{self, Hold, Remembered, Seen};
use super::memory::RememberedSite;
use super::overrides::{Forced, Milliseconds, Overrides};
use super::shed::{Report, Shedding};
use super::spill::{self, Part, Prices};
use crate::site::{MinUp, Window};

/// So long nothing speaks of a change before a TTL is long again.
const CALM: Duration = Duration::from_secs(60);

/// What is remembered of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct OfService {
    pub(super) sites: Vec<OfSite>,
    /// What its sites cost.
    prices: Prices,
    /// What those are for.
    parts: Vec<Part>,
    /// All of it was down, and whether this server knew itself to be cut off then.
    is_down: Option<bool>,
    /// Since when nothing about it has changed or was about to.
    calm: Option<Instant>,
    /// Whether time alone may change something.
    pub(super) is_moving: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfSite {
    pub(super) guard: Remembered,
    pub(super) hold: Option<Hold>,
    /// When it was last seen to come back.
    back: Option<Instant>,
    was_down: bool,
    /// What it said of its load, and what it is relieved of.
    pub(super) report: Option<Report>,
    pub(super) shedding: Shedding,
}

/// What decides besides the verdicts of checks.
pub(super) struct Around<'a> {
    pub(super) overrides: &'a Overrides,
    /// Since when this server's own link is in doubt.
    pub(super) isolated: Option<Instant>,
    pub(super) has_canaries: bool,
    pub(super) events: &'a mut Events,
    /// Whether shares that operators gave are on their way.
    pub(super) is_moving: bool,
    /// Whether what guards do is told: of two boards that are read at a time, one does.
    pub(super) tells: bool,
    /// Something has changed that the next run of the server has to know.
    pub(super) is_news: bool,
    /// On the wall, for overrides; and one that nobody sets, for the rest.
    pub(super) wall: Milliseconds,
    pub(super) now: Instant,
}

impl OfService {
    /// What is remembered, for a snapshot in which there may be other sites; by their names.
    pub(super) fn going_on(self, sites_before: &[SiteOfService], sites: &[SiteOfService]) -> OfService {
        let OfService { sites: states, prices, parts: _, is_down, calm, is_moving } = self;
        let places: HashMap<&str, usize> =
            sites_before.iter().enumerate().map(|(place, site)| (&*site.site, place)).collect();
        let places = sites.iter().map(|site| places.get(&*site.site).copied());
        let of_sites = |place: Option<usize>| prices.of_sites.get(place?).copied();
        OfService {
            sites: places
                .clone()
                .map(|place| place.map_or_else(OfSite::default, |place| states[place]))
                .collect(),
            prices: Prices { of_sites: places.map(|place| of_sites(place).unwrap_or(0)).collect(), ..prices },
            // They are asked for anew: there may be room for others, or for other clients.
            parts: Vec::new(),
            is_down,
            // Who is new may soon be out.
            calm: calm.filter(|_| sites_before == sites),
            is_moving,
        }
    }

    /// What is to be known of each of its sites in the next run of the server, if anything is.
    pub(super) fn remember(&self) -> impl Iterator<Item = Option<RememberedSite>> {
        self.sites.iter().zip(&self.prices.of_sites).map(|(site, price)| {
            let report = site.report.filter(|_| site.shedding.is_any());
            let relief = report.map(|report| (report, site.shedding));
            let known = RememberedSite { guard: site.guard, back: site.back, relief, price: *price };
            (known != RememberedSite::default()).then_some(known)
        })
    }

    /// A site goes on as it was in the last run, or in another process. This one may have seen it come back before that one did, or
    /// not yet.
    pub(super) fn resume(&mut self, index: usize, known: RememberedSite) {
        let RememberedSite { guard, back, relief, price } = known;
        let (report, shedding) = relief.unzip();
        let shedding = shedding.unwrap_or_default();
        // What was told of already is not told again.
        let OfSite { hold, back: seen_back, was_down, .. } = self.sites[index];
        // Where it is not in there, it comes back here; where it is, it has come back for good, or is on its way.
        let (was_down, seen_back) = if guard.is_in() { (false, None) } else { (was_down, seen_back) };
        self.sites[index] = OfSite { guard, back: back.or(seen_back), report, shedding, hold, was_down };
        self.prices.of_sites[index] = price;
        // Whatever they were for: it is looked at anew.
        self.parts.clear();
    }

    /// Decides, and puts it on a board.
    pub(super) fn publish(
        &mut self,
        number: u16,
        service: &ServiceSlots,
        is_wavering: bool,
        board: &Board,
        verdicts: &[Verdict],
        around: &mut Around<'_>,
    ) {
        let sites = board.layout().sites(service);
        let stances: Vec<(Option<Forced>, Share)> = sites
            .iter()
            .zip(&service.windows)
            .map(|(site, windows)| {
                let Around { overrides, wall, .. } = around;
                let forced = overrides.forced(&site.site, &service.name);
                let share = overrides.share(&site.site, &service.name, *wall);
                let at = UNIX_EPOCH + Duration::from_millis(*wall);
                let of_window = |window: &Window| Share((f64::from(Share::FULL.0) * window.share(at)) as u16);
                // Force goes before drain, whoever wrote that down when.
                let of_windows = windows.iter().map(of_window).min().filter(|_| forced.is_none());
                (forced, share.min(of_windows.unwrap_or(Share::FULL)))
            })
            .collect();
        let seen: Vec<Seen> = service
            .targets
            .iter()
            .zip(&stances)
            .map(|(targets, stance)| match stance {
                (Some(_), _) | (None, Share::DRAINED) => Seen::Set,
                _ => see(board, targets, verdicts, service.min_up),
            })
            .collect();
        let mut remembered: Vec<Remembered> = self.sites.iter().map(|site| site.guard).collect();
        let holds = guard::judge(&service.guards, &mut remembered, &seen, around.isolated, around.now);
        for (state, guard) in self.sites.iter_mut().zip(remembered) {
            around.is_news |= state.guard != guard;
            state.guard = guard;
        }
        self.tell_of_holds(service, sites, &holds, around);
        self.tell_of_the_end(service, &seen, around);
        self.is_moving = holds.iter().any(Option::is_some);
        for (index, targets) in service.targets.iter().enumerate() {
            let (forced, share) = stances[index];
            for slot in targets.clone() {
                let verdict = match (forced, verdicts[slot as usize]) {
                    (Some(Forced::Up), _) => Verdict::ForcedUp,
                    (Some(Forced::Down), _) => Verdict::ForcedDown,
                    (None, Verdict::Down) if holds[index].is_some() => Verdict::Held,
                    (None, verdict) => verdict,
                };
                board.set_verdict(slot, verdict);
            }
            let back = self.sites[index].back;
            let share = share.min(self.slow_start(index, seen[index], service, around.now));
            around.is_news |= self.sites[index].back != back;
            board.set_share(service.first_share + index as u32, share);
        }
        let is_calm = !is_wavering && !self.is_moving && !seen.contains(&Seen::Down) && !around.is_moving;
        board.set_ttl(number, self.ttl(service, is_calm, around.now));
        self.shed(service, board.layout().sites(service), around);
        self.price(number, service, board, around);
    }

    /// Relieves sites that say that they have too much.
    fn shed(&mut self, service: &ServiceSlots, sites: &[SiteOfService], around: &mut Around<'_>) {
        // A step shows when whoever was told before it asks again.
        let pace = Duration::from_secs(u64::from(*service.ttl.start())).max(Duration::from_secs(1));
        for (site, state) in sites.iter().zip(&mut self.sites) {
            let (before, had_any) = (state.shedding, state.shedding.is_any());
            state.shedding.judge(state.report, pace, around.now);
            around.is_news |= state.shedding != before;
            self.is_moving |= state.shedding.is_any();
            if state.shedding.is_any() == had_any || !around.tells {
                continue;
            }
            let place = format!("service {}, site {}", service.name, site.site);
            match state.report {
                Some(report) if !had_any => {
                    let text = format!(
                        "{place}: is loaded to {:.0} %, and is relieved of clients",
                        report.load * 100.0
                    );
                    around.events.warn(Kind::Guard, text);
                }
                _ => around.events.note(Kind::Guard, format!("{place}: takes all of its clients again")),
            }
        }
    }

    /// Publishes what sites cost, where that may have changed.
    fn price(&mut self, number: u16, service: &ServiceSlots, board: &Board, around: &mut Around<'_>) {
        let Some(market) = &service.market else { return };
        let parts = spill::parts(board, service, |site| self.sites[site].shedding.relief());
        if parts == self.parts {
            return;
        }
        let prices = market.price(&parts, &self.prices);
        spill::publish(board, number, service.first_share, &prices);
        if around.tells {
            self.tell_of_prices(service, board.layout().sites(service), &prices, around.events);
        }
        around.is_news |= self.prices.of_sites != prices.of_sites;
        (self.parts, self.prices) = (parts, prices);
    }

    fn tell_of_prices(
        &self,
        service: &ServiceSlots,
        sites: &[SiteOfService],
        prices: &Prices,
        events: &mut Events,
    ) {
        let full = sites.iter().zip(&prices.of_sites).filter(|(_, price)| **price > 0);
        let full: Vec<&str> = full.map(|(site, _)| site.site.as_str()).collect();
        match (self.prices.are_in_vain(), prices.are_in_vain()) {
            (false, true) => {
                let most = prices.fullest * 100.0;
                let text = format!(
                    "service {}: there is not room for all; sites are loaded to {most:.0} %",
                    service.name
                );
                return events.warn(Kind::Alarm, text);
            }
            (true, false) => {
                events.note(Kind::Alarm, format!("service {}: there is room for all again", service.name));
            }
            _ => {}
        }
        match (self.prices.are_any(), prices.are_any()) {
            (false, true) => {
                let text = format!(
                    "service {}: {} full; clients for whom it is least farther go elsewhere",
                    service.name,
                    are(&full)
                );
                events.note(Kind::Guard, text);
            }
            (true, false) => {
                events.note(Kind::Guard, format!("service {}: no site is full any more", service.name));
            }
            _ => {}
        }
    }

    /// Long after some time without any sign of trouble; short as soon as there is one.
    fn ttl(&mut self, service: &ServiceSlots, is_calm: bool, now: Instant) -> u32 {
        let (least, most) = (*service.ttl.start(), *service.ttl.end());
        self.calm = if is_calm { self.calm.or(Some(now)) } else { None };
        match self.calm {
            _ if least == most => least,
            Some(calm) if now.duration_since(calm) >= CALM => most,
            calm => {
                self.is_moving |= calm.is_some();
                least
            }
        }
    }

    /// The share of a site that has just come back. It is never nothing: that would be a drain.
    fn slow_start(&mut self, index: usize, seen: Seen, service: &ServiceSlots, now: Instant) -> Share {
        let state = &mut self.sites[index];
        if seen == Seen::Up && state.was_down {
            state.back = Some(now);
        }
        state.was_down = seen == Seen::Down || seen == Seen::Unknown && state.was_down;
        let Some(back) = state.back else { return Share::FULL };
        let part = now.duration_since(back).as_secs_f64() / service.slow_start.as_secs_f64();
        if service.slow_start.is_zero() || part >= 1.0 || seen != Seen::Up {
            state.back = None;
            return Share::FULL;
        }
        self.is_moving = true;
        Share(((f64::from(Share::FULL.0) * part) as u16).max(1))
    }

    fn tell_of_holds(
        &mut self,
        service: &ServiceSlots,
        sites: &[SiteOfService],
        holds: &[Option<Hold>],
        around: &mut Around<'_>,
    ) {
        for ((site, state), hold) in sites.iter().zip(&mut self.sites).zip(holds) {
            if state.hold == *hold {
                continue;
            }
            let place = format!("service {}, site {}", service.name, site.site);
            match (hold, state.hold) {
                _ if !around.tells => {}
                (Some(hold), _) => {
                    around.events.warn(
                        Kind::Guard,
                        format!("{place}: is down, and is given out all the same ({hold})"),
                    );
                }
                (None, earlier) => {
                    let why = earlier.map_or_else(String::new, |hold| format!(" ({hold})"));
                    around.events.note(Kind::Guard, format!("{place}: is no longer held{why}"));
                }
            }
            state.hold = *hold;
        }
    }

    /// When all sites of a service are down, either the service is or this server is cut off; nobody should have to guess.
    fn tell_of_the_end(&mut self, service: &ServiceSlots, seen: &[Seen], around: &mut Around<'_>) {
        let counted = || seen.iter().filter(|seen| **seen != Seen::Set);
        // Of a single site, its verdict has told all.
        let are_all = counted().count() > 1 && counted().all(|seen| *seen == Seen::Down);
        let is_down = are_all.then_some(around.isolated.is_some());
        if let Some(is_isolated) = is_down.filter(|_| is_down != self.is_down && around.tells) {
            let doubt = match around.has_canaries {
                true if is_isolated => "the canaries fail, too: the fault is here",
                true => "the canaries are well, so this is believed",
                false => "no canaries are configured that could tell whether the fault is here",
            };
            around.events.warn(Kind::Alarm, format!("service {}: every site is down; {doubt}", service.name));
        }
        self.is_down = is_down;
    }
}

/// `fra is`, `fra and iad are`.
fn are(names: &[&str]) -> String {
    match names {
        [name] => format!("{name} is"),
        names => format!("{} are", names.join(" and ")),
    }
}

/// A site is down when it has too little for every type of address that it has (meaning 7).
fn see(board: &Board, targets: &Range<u32>, verdicts: &[Verdict], min_up: MinUp) -> Seen {
    let of_family = |is_v4: bool| {
        let in_family = move |slot: &u32| board.layout().targets[*slot as usize].address.is_ipv4() == is_v4;
        targets.clone().filter(in_family).map(|slot| verdicts[slot as usize])
    };
    let is_enough = |is_v4: bool, needed: u8| {
        let count = of_family(is_v4).count();
        let up = of_family(is_v4).filter(|verdict| verdict.is_served()).count();
        count > 0 && up >= usize::from(needed.max(1)).min(count)
    };
    let mut all = targets.clone().map(|slot| verdicts[slot as usize]);
    match () {
        () if targets.is_empty() => Seen::Up,
        () if !is_enough(true, min_up.v4) && !is_enough(false, min_up.v6) => Seen::Down,
        () if all.any(|verdict| verdict == Verdict::Up) => Seen::Up,
        () => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::board::{Layout, Target};
    use super::super::publish::Published;
    use super::*;
    use crate::reload::Reloader;
    use crate::reload::expect::ask;
    use crate::site::Guards;
    use crate::wire::message::query;
    use crate::wire::{Name, Rtype};

    const SITES: usize = 4;

    fn layout() -> Layout {
        let address = |site: usize| std::net::IpAddr::from([192, 0, 2, site as u8]);
        let target = |site| Target { address: address(site), checks: Arc::from([]), need: 0 };
        Layout {
            targets: (0..SITES).map(target).collect(),
            shares: (0..SITES)
                .map(|site| SiteOfService { service: "web".to_owned(), site: format!("s{site}") })
                .collect(),
            services: vec![ServiceSlots {
                name: "web".to_owned(),
                first_share: 0,
                targets: (0..SITES as u32).map(|slot| slot..slot + 1).collect(),
                min_up: MinUp::of_both(1),
                guards: Guards::default(),
                windows: vec![Vec::new(); SITES],
                slow_start: Duration::from_secs(60),
                ttl: 30..=300,
                is_checked: true,
                market: None,
            }],
        }
    }

    /// Nobody said anything but checks, and this server is well.
    fn around<'a>(overrides: &'a Overrides, events: &'a mut Events, now: Instant) -> Around<'a> {
        Around {
            overrides,
            isolated: None,
            has_canaries: false,
            events,
            is_moving: false,
            tells: true,
            is_news: false,
            wall: 0,
            now,
        }
    }

    /// The share that a site has in a server that takes another's place, a moment after: of one that was seen to be down here, and
    /// maybe to come back; and that takes clients there, all of them or for so many seconds, or none.
    fn share_after_resuming(is_up_here: bool, is_in_there: bool, back_there: Option<u64>) -> Share {
        let board = Arc::new(Board::new(layout()));
        let mut published = Published::new(&board, HashMap::new(), None);
        let (overrides, mut events, start) = (Overrides::default(), Events::default(), Instant::now());
        let mut publish = |published: &mut Published, seconds| {
            let now = start + Duration::from_secs(seconds);
            published.publish(None, &mut around(&overrides, &mut events, now));
        };
        published.note(0, Some(Verdict::Down), false);
        publish(&mut published, 100);
        if is_up_here {
            published.note(0, Some(Verdict::Up), false);
            publish(&mut published, 130);
        }
        let back = back_there.map(|seconds| start + Duration::from_secs(130 - seconds));
        let guard = Remembered::new(is_in_there, None);
        let known = RememberedSite { guard, back, ..RememberedSite::default() };
        published.resume(true, |site| (site.site == "s0").then_some(known));
        published.note(0, Some(Verdict::Up), false);
        publish(&mut published, 130);
        board.share(0)
    }

    #[test]
    fn who_comes_back_when_a_server_is_replaced_starts_slowly_once() {
        let part = |seconds: f64| Share((f64::from(Share::FULL.0) * seconds / 60.0) as u16);
        for is_up_here in [true, false] {
            assert_eq!(share_after_resuming(is_up_here, false, None), Share(1));
            assert_eq!(share_after_resuming(is_up_here, true, Some(30)), part(30.0));
            assert_eq!(share_after_resuming(is_up_here, true, None), Share::FULL);
        }
    }

    #[test]
    fn a_ttl_is_long_after_a_minute_of_calm_and_short_at_the_first_sign_of_trouble() {
        let board = Arc::new(Board::new(layout()));
        let mut published = Published::new(&board, HashMap::new(), None);
        let (overrides, mut events, start) = (Overrides::default(), Events::default(), Instant::now());
        let mut ttl_at = |seconds: u64, published: &mut Published| {
            let now = start + Duration::from_secs(seconds);
            published.publish(None, &mut around(&overrides, &mut events, now));
            board.ttl(0)
        };
        assert_eq!([0, 59, 60].map(|seconds| ttl_at(seconds, &mut published)), [30, 30, 300]);
        // One site in doubt is enough.
        published.note(2, None, true);
        assert_eq!(ttl_at(101, &mut published), 30);
        published.note(2, None, false);
        assert_eq!([102, 161, 162].map(|seconds| ttl_at(seconds, &mut published)), [30, 30, 300]);
        published.note(1, Some(Verdict::Down), false);
        assert_eq!([163, 1000].map(|seconds| ttl_at(seconds, &mut published)), [30, 30]);
    }

    /// Answers of a service with this TTL, before and after time has gone by and checks have said something: data and TTL.
    fn answers_with_ttl(ttl: &str, said: &[(u64, Option<Verdict>, bool)]) -> Vec<(u8, u32)> {
        let folder = tempfile::tempdir().unwrap();
        let sites = format!(
            "sites:\n  a: {{ A: 192.0.2.1 }}\n  b: {{ A: 192.0.2.2 }}\nservices:\n  web: {{ ttl: {ttl} }}\n"
        );
        let zone = "soa: { primary: ns1.example.net. }\nrecords:\n  \"@\": { NS: ns1.example.net. }\n  www: { service: web }\n";
        std::fs::write(folder.path().join("sites.yaml"), sites).unwrap();
        std::fs::write(folder.path().join("example.com.yaml"), zone).unwrap();
        let no_databases: [std::path::PathBuf; 0] = [];
        let reload = Reloader::new(folder.path(), &no_databases, None).reload(false);
        let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
        let board = Arc::new(Board::new(layout));
        let mut published = Published::new(&board, HashMap::new(), None);
        let (overrides, mut events, start) = (Overrides::default(), Events::default(), Instant::now());
        let name = Name::parse("www.example.com.", None).unwrap();
        let mut answer_at = |(seconds, verdict, is_doubted)| {
            published.note(0, verdict, is_doubted);
            let now = start + Duration::from_secs(seconds);
            published.publish(None, &mut around(&overrides, &mut events, now));
            let (_, message) =
                ask(&snapshot, &board, [127, 0, 0, 1].into(), &query(&name, Rtype::A, None)).unwrap();
            let [record] = message.answers() else { panic!("{message:?}") };
            (record.rdata[3], record.ttl)
        };
        said.iter().copied().map(&mut answer_at).collect()
    }

    #[test]
    fn answers_may_be_kept_for_long_only_while_all_is_calm() {
        let said = [
            (0, Some(Verdict::Up), false),
            (59, None, false),
            (60, None, false),
            // About to leave, and gone.
            (70, None, true),
            (71, Some(Verdict::Down), false),
            (500, None, false),
            (501, Some(Verdict::Up), false),
            (561, None, false),
        ];
        let answers = [(1, 30), (1, 30), (1, 300), (1, 30), (2, 30), (2, 30), (1, 30), (1, 300)];
        assert_eq!(answers_with_ttl("30..300", &said), answers);
        let always = answers.map(|(site, _)| (site, 120));
        assert_eq!(answers_with_ttl("120", &said), always);
    }

    #[test]
    fn a_site_that_comes_back_takes_its_clients_step_by_step() {
        let board = Arc::new(Board::new(layout()));
        let mut published = Published::new(&board, HashMap::new(), None);
        let (overrides, mut events, start) = (Overrides::default(), Events::default(), Instant::now());
        // What is said of one of the sites, or that time alone goes by; slow_start is a minute.
        let mut share_at = |seconds: u64, said: Option<Verdict>| {
            let around = &mut around(&overrides, &mut events, start + Duration::from_secs(seconds));
            match said {
                Some(_) => {
                    published.note(1, said, false);
                    published.publish(Some(&[1]), around);
                }
                None => published.move_on(around),
            }
            assert!([0, 2, 3].iter().all(|other| board.share(*other) == Share::FULL), "of others");
            board.share(1).0
        };
        const ALL: u16 = Share::FULL.0;
        // Who is up at the start does not come back.
        assert_eq!(share_at(0, Some(Verdict::Up)), ALL);
        share_at(10, Some(Verdict::Down));
        assert_eq!(share_at(100, Some(Verdict::Up)), 1);
        let steps = [115, 130, 145, 159, 160, 200].map(|seconds| share_at(seconds, None));
        assert_eq!(steps, [16_383, 32_767, 49_151, 64_442, ALL, ALL]);
        // Another failure, and it begins anew; through what is not known for a while it is not up.
        share_at(300, Some(Verdict::Down));
        share_at(310, Some(Verdict::Unknown));
        assert_eq!(share_at(320, Some(Verdict::Up)), 1);
        assert_eq!(share_at(350, None), 32_767);
        share_at(355, Some(Verdict::Down));
        assert_eq!(share_at(360, Some(Verdict::Up)), 1);
        assert_eq!([390, 420].map(|seconds| share_at(seconds, None)), [32_767, ALL]);
    }
}
