//! One question that a zone of ours answers: RFC 1034 4.3.2, steps 3 to 6, around again for each link of a chain.

use std::net::IpAddr;

use super::Steered;
use super::client::Client;
use super::edns::ClientSubnet;
use super::lookup::{Lookup, SteeredLookup, look_up};
use super::query::Question;
use super::response::{ExtendedError, Full, NamePosition, Rcode, Response, Section};
use super::steer::{Choice, Sites, Steering, steer};
use crate::health::board::{Board, Verdict};
use crate::site::compile::SiteRecord;
use crate::snapshot::{PublishedZone, Snapshot, ZoneIndex};
use crate::wire::{Qname, Rtype};
use crate::zone::Zone;
use crate::zone::tree::{Piece, Rrset};

/// The most links of CNAME and DNAME that one response follows; what leads on from there is the asker's to
/// follow.
const MOST_LINKS: usize = 16;

/// The links of a chain that the response has by now.
#[derive(Default)]
struct Followed {
    pieces: [Piece; MOST_LINKS],
    count: usize,
}

/// What a link is to those before it.
#[derive(PartialEq, Eq)]
enum Link {
    New,
    /// It counts all the same: a chain may go around by it for ever.
    Repeated,
    TooMany,
}

impl Followed {
    fn follow(&mut self, link: &Rrset) -> Link {
        let is_repeated = self.pieces[..self.count].contains(&link.piece());
        let Some(place) = self.pieces.get_mut(self.count) else { return Link::TooMany };
        *place = link.piece();
        self.count += 1;
        if is_repeated { Link::Repeated } else { Link::New }
    }
}

/// One query that a zone of ours answers.
pub(super) struct Answering<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) board: &'a Board,
    pub(super) index: ZoneIndex,
    pub(super) published: &'a PublishedZone,
    pub(super) zone: &'a Zone,
    pub(super) question: Question,
    /// Who sent the query.
    pub(super) source: IpAddr,
    pub(super) client_subnet: Option<&'a ClientSubnet>,
    /// Which service chose, and what, as soon as one did.
    pub(super) steered: Option<Steered>,
}

impl Answering<'_> {
    /// Writes what there is to say; [`Full`] when it does not fit.
    pub(super) fn answer_from(
        &mut self,
        sought: &mut Qname,
        response: &mut Response<'_>,
    ) -> Result<(), Full> {
        response.within(self.zone);
        response.set_authoritative();
        let mut owner = NamePosition::QNAME;
        let mut walk = self.zone.walk(sought);
        let mut followed = None;
        for link in 0.. {
            // Most answers follow nothing: the room for links is made when there is one.
            let mut follow = |link: &Rrset| followed.get_or_insert_with(Followed::default).follow(link);
            let found = look_up(self.snapshot, self.published, self.zone, walk, self.question.qtype);
            let (alias, kept) = match found {
                Lookup::Answer(rrset) => return self.answer_rrset(response, rrset, owner),
                Lookup::Steered(steered) => {
                    // A chain that a resolver will keep must not end in what is for this client alone: it asks
                    // again for the target (RFC 7871 7.2.1; meaning 13).
                    let is_for_others = link > 0 && self.client_subnet.is_some() && steered.service.ecs;
                    return if is_for_others {
                        Ok(())
                    } else {
                        self.answer_steered(response, &steered, owner)
                    };
                }
                Lookup::Referral(ns, below) => {
                    return self.answer_referral(response, ns, sought, owner, below, link);
                }
                Lookup::Minimal => return response.push_minimal_any(self.zone.negative_ttl()),
                Lookup::NoData => return self.answer_nodata(response, self.zone.negative_ttl()),
                // DS of a zone of ours that this one does not delegate: the name exists.
                Lookup::NxDomain if self.is_anothers(sought) => {
                    return self.answer_nodata(response, self.zone.negative_ttl());
                }
                Lookup::NxDomain => return self.answer_nxdomain(response),
                Lookup::Cname(cname) => {
                    // The same CNAME again, and so the same target, is a loop.
                    if follow(cname) != Link::New {
                        return Ok(());
                    }
                    let target = response.next_rdata();
                    response.push_rrset(Section::Answer, self.zone, cname, owner)?;
                    owner = target;
                    if sought.read(self.zone.target(cname)).is_none() {
                        return Ok(());
                    }
                    (cname, 0)
                }
                Lookup::Dname(dname, below) => {
                    // One DNAME may redirect several names of a chain; it is sent once.
                    match follow(dname) {
                        Link::New => {
                            let dname_owner = NamePosition(owner.0 + sought.start(below));
                            response.push_rrset(Section::Answer, self.zone, dname, dname_owner)?;
                        }
                        Link::Repeated => {}
                        Link::TooMany => return Ok(()),
                    }
                    match self.follow_dname(response, dname, sought, owner, below)? {
                        Some(target) => owner = target,
                        None => {
                            response.set_rcode(Rcode::YXDOMAIN);
                            return Ok(());
                        }
                    }
                    // The CNAME that was made is the answer to a question for one.
                    if matches!(self.question.qtype, Rtype::CNAME | Rtype::ANY) {
                        return Ok(());
                    }
                    (dname, below)
                }
            };
            // What lies in another zone, be it ours, is that zone's to tell.
            let Some(next) = self.zone.walk_to_target(alias, sought, kept) else { break };
            if !self.snapshot.is_closest(self.index, sought, self.question.qtype) {
                break;
            }
            walk = next;
        }
        Ok(())
    }

    fn answer_rrset(
        &self,
        response: &mut Response<'_>,
        rrset: &Rrset,
        owner: NamePosition,
    ) -> Result<(), Full> {
        response.push_rrset(Section::Answer, self.zone, rrset, owner)?;
        // What is welcome there is left out when it does not fit, without TC (RFC 2181 9).
        let _ = response.push_piece(Section::Additional, self.zone, self.zone.additional(rrset).welcome);
        Ok(())
    }

    fn answer_steered(
        &mut self,
        response: &mut Response<'_>,
        steered: &SteeredLookup<'_>,
        owner: NamePosition,
    ) -> Result<(), Full> {
        let client = Client::new(self.source, self.client_subnet);
        let Steering { choice, scope } = steer(steered, &client, self.snapshot.catchments(), self.board);
        response.set_scope(scope);
        let service = steered.service;
        self.steered = Some(Steered { service: steered.index, given: choice.given() });
        // Nothing that health decided is kept for longer than the service allows (meaning 12).
        let ttl = steered.ttl.unwrap_or_else(|| self.board.ttl(steered.index));
        let soon = service.ttl.min(ttl);
        match choice {
            Choice::Sites(sites) => {
                let up = |record: &SiteRecord| self.board.verdict(record.verdict).is_served();
                if push_sites(response, steered, &sites, up, ttl, owner)? == 0 {
                    // Down between the choice and here: what stood a moment ago is better than nothing.
                    return self.answer_what_is_left(response, steered, &sites, soon, owner);
                }
                if service.is_binding(steered.rtype) {
                    push_addresses(response, steered, &sites, up, ttl, owner);
                }
                Ok(())
            }
            Choice::LastOnes(sites) => {
                response.set_extended_error(ExtendedError::ALL_DOWN);
                self.answer_what_is_left(response, steered, &sites, soon, owner)
            }
            Choice::LastResort => {
                response.set_extended_error(ExtendedError::LAST_RESORT);
                for record in service.last_resort(steered.rtype) {
                    response.push_site_record(Section::Answer, service, record, soon, owner)?;
                }
                Ok(())
            }
            Choice::NothingUp => {
                response.set_extended_error(ExtendedError::ALL_DOWN);
                self.answer_nodata(response, self.zone.negative_ttl().min(soon))
            }
            Choice::NoData { by_health: true } => {
                self.answer_nodata(response, self.zone.negative_ttl().min(soon))
            }
            Choice::NoData { by_health: false } => self.answer_nodata(response, self.zone.negative_ttl()),
            Choice::Denied => {
                response.set_extended_error(ExtendedError::BLOCKED);
                self.answer_nodata(response, self.zone.negative_ttl())
            }
            Choice::Failure => {
                response.set_extended_error(ExtendedError::ALL_DOWN);
                response.clear_authoritative();
                response.set_rcode(Rcode::SERVFAIL);
                Ok(())
            }
        }
    }

    /// All that sites have, up or not, but what an operator forced down (meaning 9).
    fn answer_what_is_left(
        &self,
        response: &mut Response<'_>,
        steered: &SteeredLookup<'_>,
        sites: &Sites,
        ttl: u32,
        owner: NamePosition,
    ) -> Result<(), Full> {
        let is_left = |record: &SiteRecord| self.board.verdict(record.verdict) != Verdict::ForcedDown;
        match push_sites(response, steered, sites, is_left, ttl, owner)? {
            0 => self.answer_nodata(response, self.zone.negative_ttl().min(ttl)),
            _ => Ok(()),
        }
    }

    /// Delegated: NS of the cut, and the glue without which they cannot be reached. Not authoritative, unless
    /// a chain of ours led here (RFC 1034 4.3.2: AA speaks of the first owner).
    fn answer_referral(
        &self,
        response: &mut Response<'_>,
        ns: &Rrset,
        sought: &Qname,
        owner: NamePosition,
        below: usize,
        link: usize,
    ) -> Result<(), Full> {
        if link == 0 {
            response.clear_authoritative();
        }
        let cut = NamePosition(owner.0 + sought.start(below));
        response.push_rrset(Section::Authority, self.zone, ns, cut)?;
        let glue = self.zone.additional(ns);
        if response.push_piece(Section::Additional, self.zone, glue.required).is_err() {
            response.mark_truncated();
            return Ok(());
        }
        let _ = response.push_piece(Section::Additional, self.zone, glue.welcome);
        Ok(())
    }

    fn answer_nodata(&self, response: &mut Response<'_>, ttl: u32) -> Result<(), Full> {
        response.push_negative_soa(self.zone, ttl)
    }

    fn answer_nxdomain(&self, response: &mut Response<'_>) -> Result<(), Full> {
        response.set_rcode(Rcode::NXDOMAIN);
        response.push_negative_soa(self.zone, self.zone.negative_ttl())
    }

    /// The CNAME that follows from a DNAME (RFC 6672 3.1). Gives where its target stands; none when that would be longer
    /// than a name can be.
    fn follow_dname(
        &self,
        response: &mut Response<'_>,
        dname: &Rrset,
        sought: &mut Qname,
        owner: NamePosition,
        below: usize,
    ) -> Result<Option<NamePosition>, Full> {
        if sought.redirect(below, self.zone.target(dname)).is_none() {
            return Ok(None);
        }
        let target = response.next_rdata();
        response.push_synthesized_cname(owner, self.zone.ttl(dname), sought.wire())?;
        Ok(Some(target))
    }

    /// Whether another zone of ours speaks for a name; DS apart, which its parent answers.
    fn is_anothers(&self, sought: &Qname) -> bool {
        self.question.qtype == Rtype::DS && self.snapshot.find_zone(sought, Rtype::SOA) != Some(self.index)
    }
}

/// The records of some sites that are to be shown, equal ones once (RFC 2181 5); gives how many.
fn push_sites(
    response: &mut Response<'_>,
    steered: &SteeredLookup<'_>,
    sites: &Sites,
    is_shown: impl Fn(&SiteRecord) -> bool + Copy,
    ttl: u32,
    owner: NamePosition,
) -> Result<usize, Full> {
    let service = steered.service;
    let mut count = 0;
    for (site, record) in distinct(sites.as_slice(), |site| service.records(steered.rtype, site), is_shown) {
        match service.hints(record) {
            None => response.push_site_record(Section::Answer, service, record, ttl, owner)?,
            Some(hints) => {
                let addresses = service.addresses(site).iter().filter(|address| is_shown(address));
                response.push_hinted_record(service, record, hints, &addresses, ttl, owner)?;
            }
        }
        count += 1;
    }
    Ok(count)
}

/// With a record of HTTPS or SVCB that is about its own owner, the addresses of the same sites (RFC 9460 4.1), where they
/// fit (meaning 14).
fn push_addresses(
    response: &mut Response<'_>,
    steered: &SteeredLookup<'_>,
    sites: &Sites,
    is_shown: impl Fn(&SiteRecord) -> bool + Copy,
    ttl: u32,
    owner: NamePosition,
) {
    let service = steered.service;
    let addresses = |site| {
        let mut bindings = service.records(steered.rtype, site).iter();
        let is_about_itself = bindings.any(|record| service.is_about_its_owner(record));
        if is_about_itself { service.addresses(site) } else { &[] }
    };
    for (_, record) in distinct(sites.as_slice(), addresses, is_shown) {
        if response.push_site_record(Section::Additional, service, record, ttl, owner).is_err() {
            return;
        }
    }
}

/// Each record that is to be shown, with the first site that has it.
fn distinct<'s>(
    sites: &[u16],
    records: impl Fn(u16) -> &'s [SiteRecord] + Copy,
    is_shown: impl Fn(&SiteRecord) -> bool + Copy,
) -> impl Iterator<Item = (u16, &'s SiteRecord)> {
    sites.iter().enumerate().flat_map(move |(number, &site)| {
        records(site).iter().filter(move |record| is_shown(record)).filter_map(move |record| {
            let mut earlier = sites[..number].iter().flat_map(|&site| records(site));
            let is_repeated = earlier.any(|other| other.is_equal_to(record) && is_shown(other));
            (!is_repeated).then_some((site, record))
        })
    })
}
