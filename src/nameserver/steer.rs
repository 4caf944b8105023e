//! Client + catchment + board -> sites, TTL, scope.
//!
//! The ranking says who is preferred; the board says who can. Nothing here depends on anything else, so
//! that within one snapshot and one board every address inside a returned scope gets the same
//! answer (meaning 5): what a share decides is decided by the client's /24 or /56 and by nothing
//! finer, and makes the scope at least that long.

use crate::catchment::ranking::{EXACT, MOST_NEAR};
use crate::catchment::{Catchments, Ranking};
use crate::health::board::{Board, Share, Verdict};
use crate::nameserver::client::{Client, Position};
use crate::nameserver::lookup::SteeredLookup;
use crate::nameserver::{Given, NoSite};
use crate::site::compile::{CompiledService, NO_ADDRESS, SiteRecord, TypeIndex, WhenAllDown};

/// The most sites that one answer holds, whatever `sites_per_answer` says.
pub const MOST_SITES: usize = 16;

/// What a client gets from a service.
#[derive(Clone, Copy, Debug)]
pub struct Steering {
    /// Which records.
    pub choice: Choice,
    /// SCOPE PREFIX-LENGTH.
    pub scope: u8,
}

/// Which records answer.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// Those of these sites that are up.
    Sites(Sites),
    /// No site is eligible: all that these sites have, up or not.
    LastOnes(Sites),
    /// No site is eligible: the records kept for that.
    LastResort,
    /// No site is eligible, and there is nothing for that: NODATA, for no longer than the service's TTL.
    NothingUp,
    /// No site is eligible, and that is to be SERVFAIL.
    Failure,
    /// No site that this client may get has the type.
    NoData {
        /// Another site would be the client's, were it not for its health.
        by_health: bool,
    },
    /// A rule denies this client.
    Denied,
}

impl Choice {
    /// In brief: the first site, or why there is none.
    #[inline]
    #[must_use]
    pub fn given(&self) -> Given {
        match self {
            Choice::Sites(sites) | Choice::LastOnes(sites) => {
                sites.as_slice().first().map_or(Given::NoSite(NoSite::NoData), |&site| Given::Site(site))
            }
            Choice::LastResort => Given::NoSite(NoSite::LastResort),
            Choice::NothingUp | Choice::Failure => Given::NoSite(NoSite::NothingUp),
            Choice::NoData { .. } => Given::NoSite(NoSite::NoData),
            Choice::Denied => Given::NoSite(NoSite::Denied),
        }
    }
}

/// A few sites of a service, in order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    list: [u16; MOST_SITES],
    count: usize,
}

impl Sites {
    /// In order of preference.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.list[..self.count]
    }

    /// Unless it is there already.
    fn push_once(&mut self, site: u16) {
        if !self.as_slice().contains(&site) {
            self.push(site);
        }
    }

    fn push(&mut self, site: u16) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = site;
            self.count += 1;
        }
    }
}

/// Chooses for a client.
#[inline]
#[must_use]
pub fn steer(
    steered: &SteeredLookup<'_>,
    client: &Client,
    catchments: &Catchments,
    board: &Board,
) -> Steering {
    let position = client.locate(catchments, steered.index, steered.service.ecs);
    steer_at(steered, position, catchments, board)
}

/// Chooses for whoever was located already.
#[inline]
#[must_use]
pub fn steer_at(
    steered: &SteeredLookup<'_>,
    position: Position,
    catchments: &Catchments,
    board: &Board,
) -> Steering {
    let service = steered.service;
    let ranking = catchments.ranking(steered.index, position.ranking);
    // Steps matter where something costs more than its distance, and else are not looked at.
    let steps = match service.spills && board.is_priced(steered.index) {
        true => catchments.steps(steered.index, position.ranking),
        false => &[],
    };
    let mut chooser = Chooser {
        service,
        rtype: steered.rtype,
        board,
        block: mix(service.hash ^ mix(position.block)),
        share_decided: false,
        health_decided: false,
        refused_by_share: false,
    };
    let choice = chooser.choose(&ranking, steps);
    Steering { choice, scope: chooser.scope(position) }
}

struct Chooser<'a> {
    service: &'a CompiledService,
    rtype: TypeIndex,
    board: &'a Board,
    /// A number of the client's block and the service.
    block: u64,
    /// Whether the choice hung on the block.
    share_decided: bool,
    /// Whether a site was passed over for its health.
    health_decided: bool,
    /// Whether a site was passed over for its share alone.
    refused_by_share: bool,
}

impl Chooser<'_> {
    fn scope(&self, position: Position) -> u8 {
        if self.share_decided { position.scope.max(position.share_scope) } else { position.scope }
    }

    fn choose(&mut self, ranking: &Ranking<'_>, steps: &[u16]) -> Choice {
        if ranking.denied {
            return Choice::Denied;
        }
        let wanted = self.service.sites_per_answer.min(MOST_SITES);
        let mut chosen = Sites::default();
        if ranking.near > 1 {
            let ends_here =
                self.choose_near(&ranking.exact[..usize::from(ranking.near)], wanted, &mut chosen);
            if ends_here {
                return self.end(chosen);
            }
        } else if !steps.is_empty() && self.choose_by_price(ranking.exact, steps, wanted, &mut chosen) {
            return self.end(chosen);
        }
        let looked_at = if ranking.near > 1 { usize::from(ranking.near) } else { steps.len() };
        // Two loops and no chain of iterators: hundreds of sites may be down, and each step counts. Those that are exact come once
        // more among the rest, which costs less than to leave them out.
        for sites in [ranking.exact.get(looked_at..).unwrap_or_default(), ranking.rest] {
            for &site in sites {
                if chosen.count == wanted {
                    return Choice::Sites(chosen);
                }
                match self.admit(site) {
                    Admission::Chosen => chosen.push_once(site),
                    Admission::EndsHere => return self.end(chosen),
                    Admission::PassedOver => {}
                }
            }
        }
        if chosen.count == 0 { self.choose_without(ranking) } else { Choice::Sites(chosen) }
    }

    /// At a site that lacks the type, with `same_site`.
    fn end(&self, chosen: Sites) -> Choice {
        if chosen.count == 0 {
            Choice::NoData { by_health: self.health_decided }
        } else {
            Choice::Sites(chosen)
        }
    }

    /// Whether a site answers this client. Hundreds may be asked before one does.
    #[inline(always)]
    fn admit(&mut self, site: u16) -> Admission {
        let share = self.share(site);
        if share == Share::DRAINED {
            return Admission::PassedOver;
        }
        if self.service.same_site {
            if !self.is_alive(site) {
                self.health_decided = true;
                return Admission::PassedOver;
            }
            if self.service.records(self.rtype, site).is_empty() {
                return Admission::EndsHere;
            }
        }
        if !self.is_eligible(site) {
            self.health_decided = true;
            return Admission::PassedOver;
        }
        if share < Share::FULL {
            self.share_decided = true;
            // Not the number of the lot: a site would be drawn where it is hardly ever admitted.
            if (mix(!self.hash_of(site)) >> 48) as u16 >= share.0 {
                self.refused_by_share = true;
                return Admission::PassedOver;
            }
        }
        Admission::Chosen
    }

    /// Among sites about as close, in the order that the client's block and their weights give: each block has
    /// its own order, which stays as it is for the others when one of them leaves (weighted rendezvous). True when the
    /// choice ends with them.
    fn choose_near(&mut self, near: &[u16], wanted: usize, chosen: &mut Sites) -> bool {
        self.share_decided = true;
        // A lot costs a logarithm: each is drawn once, however many sites are wanted or passed over.
        let mut lots = [(u64::MAX, u16::MAX); MOST_NEAR];
        let lots = &mut lots[..near.len().min(MOST_NEAR)];
        for (lot, &site) in lots.iter_mut().zip(near) {
            *lot = (self.lot(site), site);
        }
        lots.sort_unstable();
        for &(_, site) in lots.iter() {
            if chosen.count == wanted {
                break;
            }
            match self.admit(site) {
                Admission::Chosen => chosen.push(site),
                Admission::EndsHere => return true,
                Admission::PassedOver => {}
            }
        }
        false
    }

    /// Among the first sites, in the order of their distance and price together, of equals the first. True when the choice
    /// ends with them.
    #[inline(never)]
    fn choose_by_price(&mut self, exact: &[u16], steps: &[u16], wanted: usize, chosen: &mut Sites) -> bool {
        let mut costs = [(u32::MAX, u16::MAX); EXACT];
        for ((cost, &site), &steps) in costs.iter_mut().zip(exact).zip(steps) {
            let price = self.board.price(self.service.sites[usize::from(site)].share);
            // Between two whole steps it is the higher one for as many blocks as it is above the lower one. Each block has its own
            // point at which that happens, and so moves once while a price rises.
            self.share_decided |= price as u16 != 0;
            let rounded = price.saturating_add((mix(self.hash_of(site) ^ OF_PRICES) >> 48) as u32) >> 16;
            *cost = (u32::from(steps) + rounded, site);
        }
        // A stable sort of a few: where nothing costs anything they are in order already.
        let count = exact.len().min(steps.len()).min(EXACT);
        let costs = &mut costs[..count];
        for at in 1..count {
            let mut place = at;
            while place > 0 && costs[place - 1].0 > costs[place].0 {
                costs.swap(place - 1, place);
                place -= 1;
            }
        }
        for &(_, site) in costs.iter() {
            if chosen.count == wanted {
                break;
            }
            match self.admit(site) {
                Admission::Chosen => chosen.push(site),
                Admission::EndsHere => return true,
                Admission::PassedOver => {}
            }
        }
        false
    }

    /// Smaller is better; the site with the smallest wins in proportion to its weight.
    fn lot(&self, site: u16) -> u64 {
        let weight = u64::from(self.service.sites[usize::from(site)].weight);
        // -log2(u) / weight is exponentially distributed; in integers, so that all machines agree.
        minus_log2(self.hash_of(site) | 1).checked_div(weight).unwrap_or(u64::MAX)
    }

    /// When nobody was admitted: because of shares, because of the type, or because of health.
    #[cold]
    fn choose_without(&mut self, ranking: &Ranking<'_>) -> Choice {
        // A share below all is a preference: it gives way when nobody else is left. Of hundreds of sites that are down none needs
        // to be looked at again for that.
        let may_be_eligible = self.refused_by_share || self.service.same_site;
        let is_eligible = |&site: &u16| self.share(site) != Share::DRAINED && self.is_eligible(site);
        if may_be_eligible && let Some(site) = order(ranking).find(is_eligible) {
            let mut chosen = Sites::default();
            chosen.push(site);
            return Choice::Sites(chosen);
        }
        if order(ranking).all(|site| self.service.records(self.rtype, site).is_empty()) {
            return Choice::NoData { by_health: false };
        }
        let wanted = if self.service.when_all_down == WhenAllDown::All { MOST_SITES } else { 1 };
        let mut left = Sites::default();
        for site in order(ranking).filter(|&site| self.is_left(site)) {
            left.push_once(site);
            if left.count == wanted {
                break;
            }
        }
        match self.service.when_all_down {
            WhenAllDown::ServFail if left.count > 0 => Choice::Failure,
            WhenAllDown::All | WhenAllDown::Preferred if left.count > 0 => Choice::LastOnes(left),
            WhenAllDown::NoData => Choice::NothingUp,
            _ if self.service.last_resort(self.rtype).is_empty() => Choice::NothingUp,
            _ => Choice::LastResort,
        }
    }

    /// Whether a site that is not eligible may be given out when there is nothing better: what an operator
    /// drained or forced down may not (meaning 9).
    fn is_left(&self, site: u16) -> bool {
        let records = self.service.records(self.rtype, site);
        self.share(site) != Share::DRAINED
            && records.iter().any(|record| self.verdict(record) != Verdict::ForcedDown)
    }

    /// Enough of the site's records of the type are up (meaning 7). A type without addresses needs enough of A or of
    /// AAAA, where the site has addresses.
    #[inline]
    fn is_eligible(&self, site: u16) -> bool {
        let records = self.service.records(self.rtype, site);
        // One address, as most sites have: when hundreds of them are down, this is what each costs.
        if let [only] = records
            && only.verdict != NO_ADDRESS
        {
            return self.verdict(only).is_served();
        }
        match records.first() {
            None => false,
            Some(first) if first.verdict == NO_ADDRESS => {
                let addresses = self.service.addresses(site);
                let rtype =
                    |address: &SiteRecord| self.service.octets(address)[2..4].first_chunk::<2>().copied();
                addresses.is_empty()
                    || addresses.chunk_by(|a, b| rtype(a) == rtype(b)).any(|of_type| self.are_enough(of_type))
            }
            Some(_) => self.are_enough(records),
        }
    }

    #[inline]
    fn are_enough(&self, addresses: &[SiteRecord]) -> bool {
        let up = addresses.iter().filter(|address| self.verdict(address).is_served()).count();
        up >= self.service.min_up(addresses)
    }

    /// At least one of its addresses is up, or it has none.
    #[inline]
    fn is_alive(&self, site: u16) -> bool {
        let addresses = self.service.addresses(site);
        addresses.is_empty() || addresses.iter().any(|address| self.verdict(address).is_served())
    }

    #[inline]
    fn verdict(&self, record: &SiteRecord) -> Verdict {
        self.board.verdict(record.verdict)
    }

    #[inline]
    fn share(&self, site: u16) -> Share {
        self.board.share(self.service.sites[usize::from(site)].share)
    }

    fn hash_of(&self, site: u16) -> u64 {
        mix(self.block ^ self.service.sites[usize::from(site)].hash)
    }
}

/// Apart from the numbers that lots and shares are drawn by. Fixed for ever.
const OF_PRICES: u64 = 0x9e37_79b9_7f4a_7c15;

enum Admission {
    Chosen,
    PassedOver,
    /// This is the client's site, and it lacks the type (`same_site`).
    EndsHere,
}

/// All sites of a ranking, best first; those that are exact once more among the rest.
#[inline]
fn order<'r>(ranking: &Ranking<'r>) -> impl Iterator<Item = u16> + use<'r> {
    ranking.exact.iter().chain(ranking.rest).copied()
}

/// The finalizer of MurmurHash3: every bit of the input moves every bit of the output. Fixed for
/// ever, like all that shares hang on.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// -log2(x / 2^64) in units of 2^-40, for x above 0.
fn minus_log2(x: u64) -> u64 {
    let shift = x.leading_zeros();
    let mut mantissa = x << shift; // 1 to 2, in units of 2^-63
    let mut fraction = 0;
    for _ in 0..40 {
        // Squaring doubles the logarithm: what reaches 2 has a one in the next place. No branch, for nobody could foretell it.
        let square = u128::from(mantissa) * u128::from(mantissa);
        let (whole, half) = ((square >> 64) as u64, (square >> 63) as u64);
        let is_two = whole >> 63;
        fraction = fraction << 1 | is_two;
        mantissa = if is_two == 1 { whole } else { half };
    }
    ((u64::from(shift) + 1) << 40) - fraction
}

#[cfg(test)]
mod tests {
    use super::minus_log2;

    #[test]
    fn the_logarithm_is_right_to_ten_digits() {
        for x in [1, 2, 3, 1 << 40, u64::MAX / 3, u64::MAX / 2, u64::MAX] {
            let exact = 64.0 - (x as f64).log2();
            let ours = minus_log2(x) as f64 / (1_u64 << 40) as f64;
            assert!((exact - ours).abs() < 1e-10 * 64.0, "{x}: {ours} for {exact}");
        }
    }
}
