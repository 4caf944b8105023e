//! What lies over the geo databases: special-purpose blocks, and the subnets that rules name; laid once for all services, then walked along
//! with the databases' blocks.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::ranking::Interner;
use crate::geo::Records;
use crate::geo::special;
use crate::site::Service;

/// What lies over the databases: special-purpose blocks and the subnets of rules.
pub(super) struct Overlays {
    /// Distinct combinations; 0 is that of nothing at all.
    pub(super) kinds: Vec<Overlay>,
    pub(super) v4: Vec<(u128, u32)>,
    pub(super) v6: Vec<(u128, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Overlay {
    /// Number of the special-purpose run, from 1; 0 elsewhere.
    pub(super) special: u32,
    /// The rules' subnets that the addresses lie in.
    pub(super) subnets: Vec<IpNetwork>,
}

impl Overlays {
    pub(super) fn is_special(&self, kind: u32) -> bool {
        self.kinds[kind as usize].special != 0
    }

    pub(super) fn new(services: &[Arc<Service>]) -> Overlays {
        let subnets = services.iter().flat_map(|service| &service.rules).flat_map(|rule| &rule.subnets);
        let (v4_subnets, v6_subnets): (Vec<IpNetwork>, Vec<IpNetwork>) =
            subnets.copied().partition(IpNetwork::is_ipv4);
        let v4_runs: Vec<_> = special::v4_runs()
            .into_iter()
            .map(|(first, last)| (u128::from(first), u128::from(last)))
            .collect();
        let v6_runs = special::v6_runs();
        let mut kinds = Interner::default();
        kinds.number(Overlay::default());
        let v4 = lay(&v4_runs, 0, &v4_subnets, |_| false, &mut kinds);
        // However wide a rule's subnet is, there the embedded addresses decide, each for itself (meaning 2).
        let embeds = |first| special::embedded(Ipv6Addr::from(first)).is_some();
        let v6 = lay(&v6_runs, v4_runs.len() as u32, &v6_subnets, embeds, &mut kinds);
        Overlays { kinds: kinds.into_list(), v4, v6 }
    }
}

/// Cuts an address space wherever a run or a subnet begins or ends; gives each part's start and kind. A run that `is_closed`,
/// by its first address, no subnet reaches into.
fn lay(
    runs: &[special::Run<u128>],
    numbered_from: u32,
    subnets: &[IpNetwork],
    is_closed: impl Fn(u128) -> bool,
    kinds: &mut Interner<Overlay>,
) -> Vec<(u128, u32)> {
    let mut events: BTreeMap<u128, Vec<(IpNetwork, bool)>> = BTreeMap::from([(0, Vec::new())]);
    for &(first, last) in runs {
        events.entry(first).or_default();
        events.entry(last.wrapping_add(1)).or_default();
    }
    let mut distinct = subnets.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    for subnet in distinct {
        let (first, last) = match subnet {
            IpNetwork::V4(v4) => (u128::from(u32::from(v4.network())), u128::from(u32::from(v4.broadcast()))),
            IpNetwork::V6(v6) => (u128::from(v6.network()), u128::from(v6.broadcast())),
        };
        events.entry(first).or_default().push((subnet, true));
        // Where the space ends nothing needs to end; for IPv4 that is a start that no shard ever gets to.
        if let Some(after) = last.checked_add(1) {
            events.entry(after).or_default().push((subnet, false));
        }
    }
    let mut open: Vec<IpNetwork> = Vec::new();
    let mut parts = Vec::with_capacity(events.len());
    for (start, changes) in events {
        for (subnet, begins) in changes {
            if begins {
                open.push(subnet);
            } else {
                open.retain(|other| *other != subnet);
            }
        }
        let run = runs.partition_point(|(_, last)| *last < start);
        let (special, closed) = match runs.get(run) {
            Some((first, _)) if *first <= start => (numbered_from + run as u32 + 1, is_closed(*first)),
            _ => (0, false),
        };
        let subnets = if closed { Vec::new() } else { open.clone() };
        parts.push((start, kinds.number(Overlay { special, subnets })));
    }
    parts
}

/// Walks along the overlays of one shard, as the databases' blocks come in.
pub(super) struct Cut<'o> {
    overlays: &'o [(u128, u32)],
    /// The overlay that `at` lies in.
    current: usize,
    at: u128,
    last: u128,
    is_done: bool,
}

impl<'o> Cut<'o> {
    pub(super) fn new(overlays: &'o [(u128, u32)], first: u128, last: u128) -> Cut<'o> {
        let current = overlays.partition_point(|(start, _)| *start <= first) - 1;
        Cut { overlays, current, at: first, last, is_done: false }
    }

    /// Gives the parts, from first to last address, of what lies before a block, of which nothing is known, and then those of the block.
    #[inline]
    pub(super) fn until(
        &mut self,
        first: u128,
        last: u128,
        records: Records,
        each: &mut impl FnMut(u128, u128, Records, u32),
    ) {
        if self.at < first {
            self.advance(first - 1, Records::default(), each);
        }
        self.advance(last, records, each);
    }

    pub(super) fn finish(mut self, each: &mut impl FnMut(u128, u128, Records, u32)) {
        self.advance(self.last, Records::default(), each);
    }

    #[inline]
    fn advance(&mut self, last: u128, records: Records, each: &mut impl FnMut(u128, u128, Records, u32)) {
        while !self.is_done && self.at <= last {
            let overlay = self.overlays[self.current].1;
            let end = match self.overlays.get(self.current + 1) {
                Some((next, _)) if *next <= last => {
                    self.current += 1;
                    next - 1
                }
                _ => last,
            };
            each(self.at, end, records, overlay);
            self.is_done = end >= self.last;
            self.at = end.wrapping_add(1);
            if let Some((next, _)) = self.overlays.get(self.current + 1)
                && *next == self.at
            {
                self.current += 1;
            }
        }
    }
}
