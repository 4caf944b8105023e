//! Laws of health, along random schedules of what may happen to a service: servers and networks that fail, operators, clocks
//! that are set, reloads, restarts. Time is virtual; all else, from the results of attempts to the board and the answers, is as it is
//! served.
//!
//! Each law says what has to be from what a schedule did, or from what the board showed before, never from how the health
//! side comes to it. `PROPTEST_CASES=1000` plays a thousand schedules for each.

mod play;
mod schedule;
mod words;
mod world;

use std::time::Duration;

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseResult, TestRunner};

use super::board::{Share, Verdict};
use super::events::Kind;
use super::guard::Hold;
use super::lock;
use super::overrides::{Forced, Wish};
use crate::site::BlastRadius;
use play::{Departures, Happened, Play, Shown, play};
use schedule::{
    Cut, Schedule, Step, Word, clock, failure, schedules, schedules_of, schedules_of_operators,
    schedules_of_outages, schedules_with_restarts, word,
};
use world::{MOST_SITES, client_of, elsewhere, home_of, network, somewhere};

/// Holds many schedules against a law, which may remember what it saw earlier in each.
fn along<Law>(schedules: impl Strategy<Value = Schedule>, law: impl Fn() -> Law)
where
    Law: FnMut(&Play, Happened) -> TestCaseResult,
{
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    // Few unless somebody says so, for each is some ten minutes of a service.
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 32 };
    let mut runner = TestRunner::new(ProptestConfig { cases, ..config });
    if let Err(failure) = runner.run(&schedules, |schedule| play(&schedule, law())) {
        panic!("{failure}");
    }
}

/// An answer holds something while operators have left any site in; where `all_down` is `nodata`, while one is up.
#[test]
fn meaning_9_no_answer_is_empty_while_a_site_is_left() {
    along(schedules(), || {
        |play, _| {
            let Play { world, shown, .. } = play;
            if !play.has_changed() {
                return Ok(());
            }
            let is_left = |site: usize| {
                let is_open = |slot: usize| match world.all_down {
                    "nodata" => shown.verdicts[slot].is_served(),
                    _ => shown.verdicts[slot] != Verdict::ForcedDown,
                };
                shown.shares[site] != Share::DRAINED && world.is_enough(site, true, is_open)
            };
            let is_kept = world.all_down.contains("last_resort") || (0..world.sites()).any(is_left);
            for client in [a_home(play), a_place(play), elsewhere()] {
                let (_, message) = world.ask(&play.board, client);
                let holds_something = message.rcode() == 0 && !message.answers().is_empty();
                prop_assert!(holds_something || !is_kept, "{client}: {shown:?}");
            }
            Ok(())
        }
    });
}

/// Of sites that were up, counted on the board: at most a part leaves within some time, and one always may. Where all are
/// down, all may.
#[test]
fn meaning_9_no_more_sites_leave_lately_than_the_blast_radius_lets_go() {
    along(schedules(), || {
        let mut departures = Departures::default();
        move |play, _| {
            let Play { world, shown, .. } = play;
            let has_left = !departures.count(play).is_empty();
            let Some(BlastRadius { most, within }) = world.service().guards.blast_radius else {
                return Ok(());
            };
            let counted: Vec<usize> = play.unset_sites().collect();
            let are_all_down = !counted.iter().any(|site| shown.is_alive(world, *site));
            let (left, may) = (departures.within(play, within), part_of(most, counted.len()));
            prop_assert!(!has_left || are_all_down || left <= may, "{left} instead of {may}: {shown:?}");
            Ok(())
        }
    });
}

/// Held for isolation is only what canaries speak for; and while the last attempt at each of them has failed nobody leaves.
#[test]
fn meaning_9_the_fault_is_here_when_canaries_say_so_and_only_then() {
    along(schedules_of_outages(), || {
        let mut departures = Departures::default();
        move |play, _| {
            let shown = &play.shown;
            let leaving = departures.count(play);
            let is_held = shown.holds.contains(&Some(Hold::Isolation));
            prop_assert!(!is_held || !play.is_trusted(), "a canary is well, or there is none: {shown:?}");
            let are_there = play.canaries().next().is_some();
            if are_there && play.canaries().all(|canary| canary.has_last_failed) {
                prop_assert!(leaving.is_empty(), "{leaving:?} left: {shown:?}");
            }
            Ok(())
        }
    });
}

/// When this server is no longer cut off, sites that were well before are well: what failed meanwhile told nothing of them.
#[test]
fn meaning_9_who_failed_with_this_server_is_as_before_when_that_is_over() {
    along(schedules_of_outages(), || {
        let (mut were_well, mut was_cut_off) = ([false; MOST_SITES], false);
        move |play, _| {
            let Play { world, before, shown, .. } = play;
            let is_cut_off = play.health.is_isolated() == Some(true);
            let is_over = std::mem::replace(&mut was_cut_off, is_cut_off) && !is_cut_off;
            let is_held = |holds: &[Option<Hold>], site: usize| holds[site] == Some(Hold::Isolation);
            for site in play.unset_sites() {
                if is_held(&shown.holds, site) && !is_held(&before.holds, site) {
                    were_well[site] = before.is_alive(world, site) && !before.is_set(world, site);
                }
                let is_due = is_over && is_held(&before.holds, site) && were_well[site];
                prop_assert!(!is_due || shown.is_alive(world, site), "s{site}: {before:?}, then {shown:?}");
            }
            Ok(())
        }
    });
}

/// What is forced or drained is so from the word on and reverts within a second of its end; nobody but an operator
/// drains.
#[test]
fn meaning_9_what_an_operator_says_stands_until_it_expires_whatever_the_clock_is_set_to() {
    along(schedules_of_operators(), || {
        |play, _| {
            let Play { world, shown, words, .. } = play;
            for site in 0..world.sites() {
                let forced = words.forced(site);
                for verdict in &shown.verdicts[world.slots(site)] {
                    let published = match verdict {
                        Verdict::ForcedUp => Some(Forced::Up),
                        Verdict::ForcedDown => Some(Forced::Down),
                        _ => None,
                    };
                    prop_assert_eq!(published, forced, "s{}: {:?}", site, shown);
                }
                let share = shown.shares[site];
                if words.is_drained(site) {
                    prop_assert_eq!(share, Share::DRAINED, "s{}", site);
                } else if forced.is_some() || !words.is_any_drain(site) {
                    let may_be_slow = forced.is_none() && !world.service().slow_start.is_zero();
                    let is_some = share != Share::DRAINED && may_be_slow;
                    prop_assert!(share == Share::FULL || is_some, "s{site}: {share:?}");
                }
            }
            Ok(())
        }
    });
}

/// Whom an operator took away gets nobody, even where all others are down; whom one put in gets those that are at home with
/// it, while it has room for them.
#[test]
fn meaning_9_drained_sites_get_no_clients_and_forced_ones_get_theirs() {
    along(schedules_of_operators(), || {
        |play, _| {
            let Play { world, words, shown, .. } = play;
            let is_said = |site: &usize| words.is_out(*site) || words.forced(*site).is_some();
            for site in (0..world.sites()).filter(is_said).filter(|_| play.has_changed()) {
                let home = client_of(site, play.now as u8);
                for client in [home, a_place(play), elsewhere()] {
                    let (_, message) = world.ask(&play.board, client);
                    let sites = world.sites_in(&message);
                    prop_assert!(!sites.iter().any(|site| words.is_out(*site)), "{client}: {sites:?}");
                    let has_room = shown.prices[site] == 0;
                    let is_due = client == home && words.forced(site) == Some(Forced::Up) && has_room;
                    prop_assert!(!is_due || sites.contains(&site), "s{site} for {client}: {sites:?}");
                }
            }
            Ok(())
        }
    });
}

/// Over a drain clients of a site that is well only go, over the way back they only come, whatever becomes of others;
/// without a word all are at home.
#[test]
fn meaning_10_a_gradual_drain_moves_each_client_once_each_way() {
    along(drains_of_the_first_site(), || {
        let mut earlier: Option<[bool; 10]> = None;
        move |play, _| {
            let Play { world, board, shown, words, .. } = play;
            // Where it is the last one it is everybody's.
            let is_served = |slot: usize| shown.verdicts[slot].is_served();
            if !(1..world.sites()).any(|site| world.is_enough(site, true, is_served)) {
                earlier = None;
                return Ok(());
            }
            if !play.has_changed() {
                return Ok(());
            }
            let is_at_home = |number: usize| {
                let (_, message) = world.ask(board, client_of(0, number as u8 * 23));
                world.sites_in(&message).contains(&0)
            };
            let at_home = std::array::from_fn(is_at_home);
            for (before, now) in earlier.unwrap_or(at_home).into_iter().zip(at_home) {
                match (words.is_any_drain(0), words.is_back(0)) {
                    (false, _) => prop_assert!(now, "away, and nobody said anything: {shown:?}"),
                    (true, false) => prop_assert!(before || !now, "back, while it drains: {shown:?}"),
                    (true, true) => prop_assert!(now || !before, "away, on the way back: {shown:?}"),
                }
            }
            earlier = Some(at_home);
            Ok(())
        }
    });
}

/// With what the board shows at any moment.
#[test]
fn meaning_5_every_address_inside_the_scope_gets_the_same_answer_at_any_moment() {
    along(schedules(), || {
        let mut changes = 0;
        move |play, _| {
            changes += u32::from(play.has_changed());
            // One moment is as good as another.
            if !play.has_changed() || changes % 4 != 1 {
                return Ok(());
            }
            let Play { world, board, .. } = play;
            let homes = [a_home(play), home_of(play.now as usize % world.sites())];
            for client in homes.into_iter().chain([a_place(play), elsewhere()]) {
                let (responded, message) = world.ask(board, client);
                let scope = responded.scope.expect("a scope");
                for host in [0, u32::MAX, 0x1234_5678_u32.rotate_left(changes)] {
                    let other = within(client, scope, host);
                    let (_, others) = world.ask(board, other);
                    let (expected, got) = (message.answers(), others.answers());
                    prop_assert_eq!(got, expected, "{} has scope {}, not {}", client, scope, other);
                }
            }
            Ok(())
        }
    });
}

/// Whatever becomes of others, and whatever cannot be tried.
#[test]
fn meaning_7_who_never_failed_is_never_out() {
    along(schedules(), || {
        |play, _| {
            for (slot, verdict) in play.shown.verdicts.iter().enumerate() {
                let has_failed =
                    play.asked.iter().any(|asked| asked.slot == Some(slot) && asked.has_ever_failed());
                let is_down = matches!(verdict, Verdict::Down | Verdict::Held);
                prop_assert!(has_failed || !is_down, "{:?}", play.shown);
            }
            Ok(())
        }
    });
}

/// Whatever it is asked, so often in a row as `fall` says, and while a canary is well. Else it is held: as one more than may
/// leave, after others did, or in panic.
#[test]
fn meaning_7_who_fails_for_long_enough_is_out() {
    along(schedules(), || {
        let mut last_out: [Option<u64>; MOST_SITES] = [None; MOST_SITES];
        move |play, _| {
            let Play { world, shown, .. } = play;
            for site in (0..world.sites()).filter(|site| !shown.is_in(world, *site)) {
                last_out[site] = Some(play.now);
            }
            let guards = &world.service().guards;
            let may_be_held = |site: usize, hold: Hold| match (hold, guards.blast_radius) {
                (Hold::Isolation, _) | (Hold::BlastRadius, None) => false,
                // Who was let go in panic was not seen out.
                _ if guards.panic.is_some() => true,
                (Hold::Panic, _) => false,
                (Hold::BlastRadius, Some(BlastRadius { most, within })) => {
                    let others = last_out.iter().enumerate().filter(|(other, _)| *other != site);
                    let is_lately = |out: &u64| Duration::from_millis(play.now - *out) <= within;
                    let left = others.filter(|(_, out)| out.as_ref().is_some_and(is_lately)).count();
                    left >= part_of(most, play.unset_sites().count())
                }
            };
            for site in play.unset_sites() {
                let fails = play.of_site(site).all(|asked| asked.bad >= asked.subject.check.fall.into());
                let is_right = match shown.holds[site] {
                    None => !shown.is_in(world, site),
                    Some(hold) => may_be_held(site, hold),
                };
                prop_assert!(!fails || is_right, "s{site}: {shown:?}");
            }
            Ok(())
        }
    });
}

/// What is known is written down within a second, whatever becomes of this server then.
#[test]
fn meaning_7_who_was_out_is_out_when_the_server_is_back() {
    along(schedules_of_outages(), || {
        let (mut last, mut trusted) = (0, None);
        let mut out: [Option<u64>; MOST_SITES] = [None; MOST_SITES];
        move |play, happened| {
            let Play { world, before, shown, .. } = play;
            let is_restart = matches!(happened, Happened::Restart);
            let is_written = |since: &Option<u64>| since.is_some_and(|since| last > since + 1000);
            if is_restart && is_written(&trusted) {
                for site in play.unset_sites().filter(|site| is_written(&out[*site])) {
                    let is_said = before.is_set(world, site);
                    prop_assert!(is_said || !shown.is_in(world, site), "s{site}: {before:?}, then {shown:?}");
                }
            }
            last = play.now;
            let is_cut_off = play.health.is_isolated() == Some(true);
            let is_well =
                play.canaries().next().is_none() || play.canaries().any(|canary| !canary.has_last_failed);
            trusted = trusted.or(Some(last)).filter(|_| is_well && !is_cut_off);
            for (site, out) in out.iter_mut().enumerate().take(world.sites()) {
                *out = out.or(Some(last)).filter(|_| !shown.is_in(world, site));
            }
            Ok(())
        }
    });
}

/// The board says of an address what enough of its checks say; only what is down is held, and in panic all of that is.
#[test]
fn meaning_9_what_is_published_is_what_checks_say_or_what_a_guard_holds() {
    along(schedules(), || {
        |play, _| {
            let Play { world, shown, .. } = play;
            let verdicts = verdicts_of_all(play);
            for (slot, published) in shown.verdicts.iter().enumerate() {
                let of_slot = play.asked.iter().zip(&verdicts).filter(|(asked, _)| asked.slot == Some(slot));
                let of_slot: Vec<Verdict> = of_slot.map(|(_, verdict)| *verdict).collect();
                let count = |wanted| of_slot.iter().filter(|verdict| **verdict == wanted).count();
                let (up, unknown) = (count(Verdict::Up), count(Verdict::Unknown));
                let need = usize::from(world.layout.targets[slot].need);
                let expected = match published {
                    Verdict::ForcedUp | Verdict::ForcedDown => *published,
                    _ if up >= need => Verdict::Up,
                    _ if up + unknown >= need => Verdict::Unknown,
                    _ if shown.holds[world.site_of(slot)].is_some() => Verdict::Held,
                    _ => Verdict::Down,
                };
                prop_assert_eq!(*published, expected, "of slot {}: {:?}", slot, shown);
            }
            let (all, alive) =
                (play.unset_sites(), play.unset_sites().filter(|site| shown.is_alive(world, *site)));
            let least = world.service().guards.panic.unwrap_or_default() * all.count() as f64;
            if (alive.count() as f64) < least && play.is_trusted() {
                prop_assert!(play.unset_sites().all(|site| shown.is_in(world, site)), "no panic: {shown:?}");
            }
            Ok(())
        }
    });
}

/// Where it may be long it is not while a site is down that nobody set.
#[test]
fn a_ttl_is_short_while_a_site_is_down() {
    along(schedules(), || {
        |play, _| {
            let Play { world, shown, .. } = play;
            let (short, long) = world.service().ttl.clone().into_inner();
            let is_calm = play.unset_sites().all(|site| shown.is_alive(world, site));
            prop_assert!(shown.ttl == short || shown.ttl == long && is_calm, "{shown:?}");
            Ok(())
        }
    });
}

/// What guards, operators, prices and slow starts have come to is nothing that files say.
#[test]
fn meaning_16_another_snapshot_of_the_same_files_changes_nothing_that_is_given_out() {
    along(schedules(), || {
        |play, happened| {
            let is_reload = matches!(happened, Happened::Reload);
            prop_assert!(!is_reload || !play.has_changed(), "{:?}, then {:?}", play.before, play.shown);
            Ok(())
        }
    });
}

/// Nor is it anything that a server forgets which is stopped and started. Where it is cut off, what was never reached is not known to the
/// next one.
#[test]
fn a_server_that_is_back_at_once_gives_out_what_it_did() {
    along(schedules_with_restarts(), || {
        |play, happened| {
            let Play { before, shown, .. } = play;
            let served =
                |shown: &Shown| shown.verdicts.iter().map(|verdict| verdict.is_served()).collect::<Vec<_>>();
            let is_same = served(before) == served(shown)
                && (&before.shares, &before.prices) == (&shown.shares, &shown.prices);
            let is_due = matches!(happened, Happened::Restart)
                && (play.canaries().next().is_none()
                    || play.canaries().any(|canary| !canary.has_last_failed));
            prop_assert!(!is_due || is_same, "{before:?}, then {shown:?}");
            Ok(())
        }
    });
}

/// Each verdict that changes, each hold that begins or ends, and what becomes of each word is one event, which names it; each
/// attempt is counted.
#[test]
fn every_change_is_told_once_and_every_attempt_is_counted() {
    along(schedules(), || {
        let (mut verdicts, mut words, mut told) = (Vec::new(), 0, [0; Kind::ALL.len()]);
        move |play, happened| {
            let (_, counts) = play.health.last_events(0);
            if let Happened::Restart = happened {
                (verdicts, words, told) = (verdicts_of_all(play), play.health.overrides().len(), counts);
                return Ok(());
            }
            let before = std::mem::replace(&mut told, counts);
            let (events, _) =
                play.health.last_events((counts.iter().sum::<u64>() - before.iter().sum::<u64>()) as usize);
            let told_of = |kind: Kind| -> Vec<&str> {
                let of_kind = events.iter().filter(|event| event.kind == kind);
                of_kind.map(|event| event.text.as_str()).collect()
            };
            for kind in Kind::ALL {
                let news = counts[kind as usize] - before[kind as usize];
                prop_assert_eq!(told_of(kind).len() as u64, news, "{:?}", kind);
            }

            let now = verdicts_of_all(play);
            let before = std::mem::replace(&mut verdicts, now.clone());
            let before = if before.is_empty() { vec![Verdict::Unknown; now.len()] } else { before };
            let changed = (0..now.len()).filter(|index| before[*index] != now[*index]);
            let expected = changed.map(|index| {
                let asked = &play.asked[index];
                let of_what = if asked.slot.is_none() { "canary " } else { "" };
                format!("{of_what}{}: {}", asked.subject, now[index])
            });
            each_begins_with(told_of(Kind::Verdict), expected.collect())?;

            let changed =
                (0..play.world.sites()).filter(|site| play.before.holds[*site] != play.shown.holds[*site]);
            let expected = changed.map(|site| match play.shown.holds[site] {
                Some(hold) => {
                    format!("service web, site s{site}: is down, and is given out all the same ({hold})")
                }
                None => format!("service web, site s{site}: is no longer held"),
            });
            let (of_room, of_holds): (Vec<&str>, Vec<&str>) =
                told_of(Kind::Guard).into_iter().partition(|text| text.starts_with("service web: "));
            each_begins_with(of_holds, expected.collect())?;

            // Where there is not room for all, that is told instead.
            let is_right = match (play.before.full().next(), play.shown.full().next()) {
                (None, Some(site)) => of_room.iter().all(|text| text.contains(&format!("s{site} "))),
                (Some(_), None) => of_room.iter().all(|text| text.ends_with("no site is full any more")),
                _ => of_room.is_empty(),
            };
            prop_assert!(is_right && of_room.len() <= 1, "{of_room:?}: {:?}", play.shown);

            let before = std::mem::replace(&mut words, play.health.overrides().len());
            let expected = match happened {
                Happened::Word(done) => done.map_or(0, |lines| lines.len()),
                _ => before - words,
            };
            prop_assert_eq!(told_of(Kind::Override).len(), expected, "{:?}", events);

            let is_same = play.before.verdicts == play.shown.verdicts;
            prop_assert!(is_same || !events.is_empty(), "nobody told of {:?}", play.shown);
            let count = |result: usize| play.asked.iter().map(|asked| asked.results[result]).sum::<u64>();
            prop_assert_eq!(play.health.tries().0[0].results, [0, 1, 2].map(count));
            Ok(())
        }
    });
}

/// One text for each that is expected, in whatever order.
fn each_begins_with(mut texts: Vec<&str>, mut expected: Vec<String>) -> TestCaseResult {
    texts.sort_unstable();
    expected.sort_unstable();
    let are_alike = texts.iter().zip(&expected).all(|(text, expected)| text.starts_with(expected.as_str()));
    prop_assert!(texts.len() == expected.len() && are_alike, "{texts:?} instead of {expected:?}");
    Ok(())
}

/// As many of some sites as are a part of them, rounded up; one always is.
fn part_of(part: f64, sites: usize) -> usize {
    ((part * sites as f64).ceil() as usize).max(1)
}

/// A client that has a site of its own, each time another.
fn a_home(play: &Play) -> IpNetwork {
    client_of(play.now as usize / 1000 % play.world.sites(), (play.now / 7) as u8)
}

/// One of those that a database knows, each time another.
fn a_place(play: &Play) -> IpNetwork {
    somewhere(play.now as usize / 1000)
}

/// An address of the block of so many bits around a network, chosen by some bits.
fn within(client: IpNetwork, scope: u8, bits: u32) -> IpNetwork {
    let IpNetwork::V4(client) = client else { unreachable!("clients are of IPv4") };
    let host = u32::MAX.checked_shr(scope.into()).unwrap_or(0);
    network((u32::from(client.ip()) & !host | bits & host).to_be_bytes(), 32)
}

/// What is believed of each that is asked.
fn verdicts_of_all(play: &Play) -> Vec<Verdict> {
    let known = lock(&play.health.known);
    play.asked.iter().map(|asked| known.subjects[&asked.subject].judge.verdict()).collect()
}

/// Nothing fails of the first site, nor of this server; operators drain that site and take it back. Where sites start slowly,
/// or more than one is given, who is at home says less.
fn drains_of_the_first_site() -> impl Strategy<Value = Schedule> {
    let of_others = failure().prop_filter_map("the first site is well", |step| match step {
        Step::Site(site, fate) => Some(Step::Site(1 + site % 3, fate)),
        Step::Cut(Cut::Sites(sites), is_cut) => Some(Step::Cut(Cut::Sites(sites & !1), is_cut)),
        Step::Cut(Cut::Canaries(_), _) | Step::SetClock(_) | Step::Reload => Some(step),
        Step::Restart(..) | Step::Replace(_) => Some(step),
        _ => None,
    });
    let wish = select(vec![Wish::Drain, Wish::Drain, Wish::Undrain]);
    let of_all_services = |word: Word| Step::Word(Word { is_of_service: false, anyway: true, ..word });
    let word = word(wish, Just(Some(0))).prop_map(of_all_services);
    let schedules = schedules_of(prop_oneof![2 => of_others, 3 => word, 1 => clock()]);
    (select(vec![0, 1, 3]), schedules).prop_map(|(world, schedule)| Schedule { world, ..schedule })
}
