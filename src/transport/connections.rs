//! Who holds a connection, since when, and who has to go when there is no room: numbers and lists, no sockets and no clock,
//! so that a test of it is a function call.
//!
//! Every connection stands in one of five lists, by what it is doing, in the order in which it began to: whoever has to go
//! next stands at the front of one of them. So a full house costs a newcomer as much as an empty one, and no connection
//! needs a timer of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Waker};
use std::time::Instant;

use super::tcp::Limits;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not yet said anything.
    Fresh,
    /// It has yet to prove that it can talk to us: TLS, QUIC.
    Handshake,
    /// All that it asked is answered.
    Idle,
    /// It has sent a part of something: a message, the header of a proxy, a handshake.
    Message,
    /// It has yet to take what it asked for.
    Output,
}

const PHASES: [Phase; 5] = [Phase::Fresh, Phase::Handshake, Phase::Idle, Phase::Message, Phase::Output];

/// No connection.
const NONE: usize = usize::MAX;

/// All connections of one thread.
pub(super) struct Connections {
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// First and last of each list.
    lists: [(usize, usize); PHASES.len()],
    by_client: HashMap<IpAddr, usize>,
    /// Those that were not told to go.
    staying: usize,
    /// Octets that these have yet to take.
    unread: usize,
}

struct Slot {
    client: Option<IpAddr>,
    phase: Phase,
    since: Instant,
    earlier: usize,
    later: usize,
    /// Octets that it has yet to take.
    unread: usize,
    /// It is in no list, and counts no more; its task has yet to hear of it.
    has_to_go: bool,
    waker: Option<Waker>,
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Connections {
    pub(super) fn new(limits: Limits) -> Connections {
        Connections {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            lists: [(NONE, NONE); PHASES.len()],
            by_client: HashMap::new(),
            staying: 0,
            unread: 0,
        }
    }

    /// Connections that were not told to go.
    pub(super) fn count(&self) -> usize {
        self.staying
    }

    /// Octets that clients have yet to take.
    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    /// Those of one client.
    pub(super) fn held_by(&self, client: IpAddr) -> usize {
        self.by_client.get(&block(client)).copied().unwrap_or(0)
    }

    /// Room for one more, of whom may not be known yet; and who was told to go in its favour, if all was taken.
    pub(super) fn admit(
        &mut self,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<(usize, Option<usize>), Full> {
        if client.is_some_and(|client| !self.has_room_for(client)) || self.limits.connections == 0 {
            return Err(Full);
        }
        let evicted = match self.staying >= self.limits.connections {
            true => self.evict(now),
            false => None,
        };
        let slot = Slot {
            client: None,
            phase: Phase::Fresh,
            since: now,
            earlier: NONE,
            later: NONE,
            unread: 0,
            has_to_go: false,
            waker: None,
        };
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key] = slot;
                key
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.staying += 1;
        self.append(key);
        if let Some(client) = client {
            self.count_for(key, client);
        }
        Ok((key, evicted))
    }

    /// Says whose it is, which a proxy told. It has to go if that client has enough.
    pub(super) fn name(&mut self, key: usize, client: IpAddr) -> Result<(), Full> {
        if self.slots[key].has_to_go {
            return Ok(());
        }
        if !self.has_room_for(client) {
            return Err(Full);
        }
        self.count_for(key, client);
        Ok(())
    }

    /// It begins to do something, or something of the same kind anew.
    pub(super) fn begin(&mut self, key: usize, phase: Phase, now: Instant) {
        if self.slots[key].has_to_go {
            return;
        }
        let is_last = self.slots[key].phase == phase && self.slots[key].later == NONE;
        if !is_last {
            self.unlink(key);
            self.slots[key].phase = phase;
            self.append(key);
        }
        self.slots[key].since = now;
    }

    /// Counts octets that it has yet to take. When there are too many in all, those who have been taking theirs for the
    /// longest are told to go; as many as they are.
    pub(super) fn hold(&mut self, key: usize, octets: usize) -> usize {
        if self.slots[key].has_to_go {
            return 0;
        }
        self.slots[key].unread += octets;
        self.unread += octets;
        let mut told = 0;
        while self.unread > self.limits.unread_in_all {
            let (slowest, _) = self.lists[Phase::Output as usize];
            if slowest == NONE {
                break;
            }
            self.tell_to_go(slowest);
            told += 1;
        }
        told
    }

    /// They were taken, or will never be.
    pub(super) fn let_go(&mut self, key: usize, octets: usize) {
        if !self.slots[key].has_to_go {
            self.slots[key].unread -= octets;
            self.unread -= octets;
        }
    }

    /// Whether it was told to go; if not, its task is woken when it is.
    pub(super) fn has_to_go(&mut self, key: usize, context: &Context<'_>) -> bool {
        let slot = &mut self.slots[key];
        if !slot.has_to_go && !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            slot.waker = Some(context.waker().clone());
        }
        slot.has_to_go
    }

    /// Tells one to go whose time is over, and what it was doing.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Phase> {
        for phase in PHASES {
            let first = self.lists[phase as usize].0;
            if first != NONE && now.duration_since(self.slots[first].since) >= self.time_for(phase) {
                self.tell_to_go(first);
                return Some(phase);
            }
        }
        None
    }

    /// When the next one's time is over.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let fronts = PHASES.into_iter().filter_map(|phase| {
            let first = self.slots.get(self.lists[phase as usize].0)?;
            Some(first.since + self.time_for(phase))
        });
        fronts.min()
    }

    /// Its task has ended.
    pub(super) fn release(&mut self, key: usize) {
        if !self.slots[key].has_to_go {
            self.forget(key);
        }
        self.slots[key].waker = None;
        self.free.push(key);
        // What a flood needed is not kept for ever.
        if self.staying == 0 && self.free.len() == self.slots.len() && self.slots.len() > 64 {
            self.slots = Vec::new();
            self.free = Vec::new();
            self.by_client = HashMap::new();
        }
    }

    fn time_for(&self, phase: Phase) -> std::time::Duration {
        match phase {
            Phase::Fresh | Phase::Idle => self.limits.idle,
            Phase::Handshake => self.limits.handshake,
            Phase::Message | Phase::Output => self.limits.message,
        }
    }

    /// Who has to go: the longest idle, to which those belong who have had the time for a message and sent nothing. Only
    /// when there is none, whoever has been at something for the longest.
    fn evict(&mut self, now: Instant) -> Option<usize> {
        let front = |phase: Phase| Some(self.lists[phase as usize].0).filter(|key| *key != NONE);
        let since = |key: &usize| self.slots[*key].since;
        let silent = [Phase::Fresh, Phase::Handshake]
            .map(|phase| front(phase).filter(|key| now.duration_since(since(key)) >= self.limits.message));
        let idle = silent.into_iter().chain([front(Phase::Idle)]).flatten().min_by_key(since);
        let victim = idle.or_else(|| PHASES.into_iter().filter_map(front).min_by_key(since))?;
        self.tell_to_go(victim);
        Some(victim)
    }

    fn tell_to_go(&mut self, key: usize) {
        self.forget(key);
        let slot = &mut self.slots[key];
        slot.has_to_go = true;
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// It counts no more.
    fn forget(&mut self, key: usize) {
        self.unlink(key);
        self.staying -= 1;
        self.unread -= self.slots[key].unread;
        if let Some(client) = self.slots[key].client
            && let Some(count) = self.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }

    fn has_room_for(&self, client: IpAddr) -> bool {
        self.held_by(client) < self.limits.connections_per_client
    }

    fn count_for(&mut self, key: usize, client: IpAddr) {
        let client = block(client);
        self.slots[key].client = Some(client);
        *self.by_client.entry(client).or_default() += 1;
    }

    fn append(&mut self, key: usize) {
        let (first, last) = &mut self.lists[self.slots[key].phase as usize];
        self.slots[key].earlier = *last;
        self.slots[key].later = NONE;
        match *last {
            NONE => *first = key,
            last => self.slots[last].later = key,
        }
        *last = key;
    }

    fn unlink(&mut self, key: usize) {
        let Slot { phase, earlier, later, .. } = self.slots[key];
        let (first, last) = &mut self.lists[phase as usize];
        match earlier {
            NONE => *first = later,
            earlier => self.slots[earlier].later = later,
        }
        match later {
            NONE => *last = earlier,
            later => self.slots[later].earlier = earlier,
        }
    }
}

/// One client: an IPv4 address, or an IPv6 /64, which is as easily had.
fn block(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits(connections: usize, connections_per_client: usize) -> Limits {
        Limits { connections, connections_per_client, ..Limits::default() }
    }

    fn client(number: u8) -> Option<IpAddr> {
        Some([192, 0, 2, number].into())
    }

    #[test]
    fn the_longest_idle_goes_first_and_half_a_message_last() {
        let mut all = Connections::new(limits(4, 9));
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let [a, b, c, d] = [0, 1, 2, 3].map(|number| all.admit(client(number), at(0)).expect("room").0);
        all.begin(a, Phase::Message, at(1));
        all.begin(c, Phase::Idle, at(2));
        all.begin(b, Phase::Idle, at(3));
        // d is fresh, and may yet send something.
        let (e, evicted) = all.admit(client(4), at(5)).expect("room");
        assert_eq!(evicted, Some(c));
        all.release(c);
        let (f, evicted) = all.admit(client(5), at(6)).expect("room");
        assert_eq!(evicted, Some(b));
        all.release(b);
        // Nobody is idle: the oldest of all.
        let (g, evicted) = all.admit(client(6), at(7)).expect("room");
        assert_eq!(evicted, Some(d));
        all.release(d);
        let (_, evicted) = all.admit(client(7), at(8)).expect("room");
        assert_eq!(evicted, Some(a));
        all.release(a);
        // Who has been silent for as long as a message may take is as good as idle.
        all.begin(f, Phase::Message, at(20));
        all.begin(g, Phase::Idle, at(10));
        assert_eq!(all.admit(client(8), at(26)).expect("room").1, Some(e));
        assert_eq!(all.count(), 4);
    }

    /// As the documentation promises (docs/security.md), not as a test would have it.
    #[test]
    fn of_4096_connections_64_may_be_of_one_client() {
        let mut all = Connections::new(Limits::default());
        let now = Instant::now();
        for number in 0..4096 {
            let client = Some(IpAddr::from([10, 0, (number / 64) as u8, 1]));
            assert_eq!(all.admit(client, now).map(|(_, evicted)| evicted), Ok(None));
        }
        assert_eq!(all.admit(Some(IpAddr::from([10, 0, 7, 1])), now), Err(Full));
        let (_, evicted) = all.admit(client(1), now).expect("room is made");
        assert!(evicted.is_some());
        assert_eq!(all.count(), 4096);
    }

    #[test]
    fn whoever_takes_too_much_for_the_longest_goes() {
        let mut all = Connections::new(Limits { unread_in_all: 100, ..limits(9, 9) });
        let now = Instant::now();
        let [a, b, c, d] = [0, 1, 2, 3].map(|number| all.admit(client(number), now).expect("room").0);
        for key in [b, a, c] {
            all.begin(key, Phase::Output, now);
            assert_eq!(all.hold(key, 30), 0);
        }
        // Whoever takes nothing is no part of it, however long it has been there.
        all.begin(d, Phase::Idle, now);
        all.begin(c, Phase::Output, now);
        assert_eq!(all.hold(c, 30), 1);
        let context = &mut Context::from_waker(Waker::noop());
        assert_eq!([a, b, c, d].map(|key| all.has_to_go(key, context)), [false, true, false, false]);
        // What it held counts no more, and is not given back twice.
        all.let_go(b, 30);
        all.release(b);
        assert_eq!(all.unread, 90);
        // As many as it takes, and itself if nobody else is left.
        assert_eq!(all.hold(c, 60), 2);
        assert_eq!(all.unread, 0);
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_a_slash_64() {
        let mut all = Connections::new(limits(100, 2));
        let now = Instant::now();
        let from = |address: &str| Some(address.parse::<IpAddr>().expect("an address"));
        let first = all.admit(from("2001:db8::1"), now).expect("room").0;
        all.admit(from("2001:db8::2"), now).expect("room");
        assert_eq!(all.admit(from("2001:db8::ffff:0:0:3"), now).err(), Some(Full));
        all.admit(from("2001:db8:0:1::1"), now).expect("room in another /64");
        all.release(first);
        all.admit(from("2001:db8::4"), now).expect("room that was given back");
        // Told later, by a proxy.
        let unknown = all.admit(None, now).expect("room").0;
        assert_eq!(all.name(unknown, from("2001:db8::5").expect("one")), Err(Full));
        assert_eq!(all.name(unknown, from("192.0.2.1").expect("one")), Ok(()));
    }

    #[test]
    fn time_runs_out_by_what_is_done() {
        let mut all = Connections::new(limits(100, 100));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let idle = all.admit(client(1), at(0)).expect("room").0;
        let half = all.admit(client(1), at(0)).expect("room").0;
        all.begin(idle, Phase::Idle, at(1));
        all.begin(half, Phase::Message, at(1));
        assert_eq!(all.next_expiry(), Some(at(3)));
        assert_eq!(all.expire(at(2)), None);
        assert_eq!(all.expire(at(3)), Some(Phase::Message));
        assert_eq!(all.expire(at(3)), None);
        assert_eq!(all.expire(at(11)), Some(Phase::Idle));
        assert_eq!((all.count(), all.next_expiry()), (0, None));
        all.release(idle);
        all.release(half);
        assert_eq!(all.by_client.len(), 0);
    }

    proptest! {
        /// Whatever comes in whatever order: limits hold, lists are in order and hold everybody once.
        #[test]
        fn lists_hold_everybody_once(steps in prop::collection::vec((0..8_u8, any::<u8>()), 1..300)) {
            let mut all = Connections::new(Limits { unread_in_all: 500, ..limits(12, 5) });
            let mut now = Instant::now();
            let mut held: Vec<usize> = Vec::new();
            for (what, number) in steps {
                now += Duration::from_millis(u64::from(number) * 5);
                let some = held.get(usize::from(number) % held.len().max(1)).copied();
                match (what, some) {
                    (0 | 1, _) => held.extend(all.admit(client(number % 4), now).ok().map(|(key, _)| key)),
                    (2 | 3, Some(key)) => all.begin(key, PHASES[usize::from(number) % PHASES.len()], now),
                    (4, Some(key)) => {
                        held.retain(|other| *other != key);
                        all.release(key);
                    }
                    (5, _) => drop(all.expire(now)),
                    (6, Some(key)) if !all.slots[key].has_to_go => {
                        all.hold(key, number.into());
                        let is_kept = all.unread <= 500 || all.lists[Phase::Output as usize].0 == NONE;
                        prop_assert!(is_kept, "{} octets", all.unread);
                    }
                    (7, Some(key)) => all.let_go(key, all.slots[key].unread),
                    _ => {}
                }
                let mut listed = Vec::new();
                for phase in PHASES {
                    let (mut key, mut earlier) = (all.lists[phase as usize].0, NONE);
                    while key != NONE {
                        prop_assert_eq!((all.slots[key].phase, all.slots[key].earlier), (phase, earlier));
                        prop_assert!(earlier == NONE || all.slots[earlier].since <= all.slots[key].since);
                        listed.push(key);
                        (earlier, key) = (key, all.slots[key].later);
                    }
                    prop_assert_eq!(all.lists[phase as usize].1, earlier);
                }
                listed.sort_unstable();
                let mut staying: Vec<usize> =
                    held.iter().copied().filter(|key| !all.slots[*key].has_to_go).collect();
                staying.sort_unstable();
                prop_assert_eq!(&listed, &staying);
                prop_assert!(all.count() == listed.len() && listed.len() <= 12);
                prop_assert!(all.by_client.values().all(|count| (1..=5).contains(count)));
                prop_assert_eq!(all.by_client.values().sum::<usize>(), listed.len());
                prop_assert_eq!(listed.iter().map(|key| all.slots[*key].unread).sum::<usize>(), all.unread);
            }
        }
    }
}
