//! One query -> one response: no I/O, no clock, no lock, no await, no allocation, no panic.
//!
//! [`respond`] is the whole path; the files are in its order: `query` reads, `client` tells whose answer it
//! is, `lookup` finds what the zone has, `steer` chooses among sites, `response` writes.

use std::net::IpAddr;
use std::sync::Arc;

use crate::catchment::ServiceIndex;
use crate::health::board::Board;
use crate::site::compile::SiteRecord;
use crate::snapshot::{PublishedZone, Snapshot, ZoneIndex};
use crate::wire::{Qname, Rtype};
use crate::zone::Zone;
use crate::zone::tree::{Piece, Rrset};

pub mod client;
pub mod counters;
pub mod lookup;
pub mod query;
pub mod response;
pub mod steer;

use client::Client;
use counters::Counters;
use lookup::{Lookup, SteeredLookup, look_up};
use query::{Query, Question};
use response::{ExtendedError, Full, NamePosition, PLAIN_UDP_PAYLOAD, Rcode, Response, Section, UDP_PAYLOAD};
use steer::{Choice, Sites, Steering, steer};

/// The most links of CNAME and DNAME that one response follows; what leads on from there is the asker's to
/// follow.
const MOST_LINKS: usize = 16;

/// A message that came in.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The message.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub client: IpAddr,
    /// How it came.
    pub transport: Transport,
}

/// How a message came, and so how the response goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram: the response must fit what the asker takes.
    Udp,
    /// Over a connection: up to 65,535 octets.
    Tcp,
}

/// What one thread owns while it answers.
#[derive(Debug, Default)]
pub struct Worker {
    counters: Arc<Counters>,
    /// The name that is being looked up: QNAME, then the targets of a chain.
    sought: Qname,
}

impl Worker {
    /// For whoever reads the counters.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// Nothing is sent: less than a header, or a response.
    Dropped,
    /// The response stands in the buffer.
    Responded(Responded),
}

/// What was answered, for counters and query log.
#[derive(Clone, Copy, Debug)]
pub struct Responded {
    /// Octets of the response.
    pub length: usize,
    /// RCODE.
    pub rcode: Rcode,
    /// Whose zone it was.
    pub zone: Option<ZoneIndex>,
    /// Which service chose, and its first site, where it chose one.
    pub steered: Option<(ServiceIndex, Option<u16>)>,
    /// SCOPE PREFIX-LENGTH, where a client subnet is echoed.
    pub scope: Option<u8>,
    /// TC.
    pub is_truncated: bool,
    /// Its extended error, if any.
    pub extended_error: Option<ExtendedError>,
    /// The query went on after its last record.
    pub has_trailing_octets: bool,
}

impl Outcome {
    /// Octets of the response, if there is one.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        match self {
            Outcome::Dropped => None,
            Outcome::Responded(responded) => Some(responded.length),
        }
    }
}

/// Answers one message. `out` is at least 1,232 octets for UDP, 65,535 for TCP.
#[inline]
pub fn respond(
    worker: &mut Worker,
    request: &Request<'_>,
    snapshot: &Snapshot,
    board: &Board,
    out: &mut [u8],
) -> Outcome {
    let outcome = answer(&mut worker.sought, request, snapshot, board, out);
    worker.counters.register(request.transport, &outcome);
    outcome
}

fn answer(
    sought: &mut Qname,
    request: &Request<'_>,
    snapshot: &Snapshot,
    board: &Board,
    out: &mut [u8],
) -> Outcome {
    let Some(query) = Query::read(request.bytes, sought) else { return Outcome::Dropped };
    let mut response = Response::begin(&query, longest_response(&query, request.transport), out);
    let mut zone_index = None;
    let mut steered = None;

    match question(&query, request.transport) {
        Err(rcode) => response.set_rcode(rcode),
        Ok(question) => match snapshot.find_zone(sought, question.qtype) {
            None => answer_refused(&mut response),
            Some(index) => {
                zone_index = Some(index);
                let published = snapshot.zone(index);
                match &published.zone {
                    None => answer_broken(&mut response),
                    Some(zone) => {
                        let client_subnet = query.edns.and_then(|edns| edns.client_subnet);
                        let mut answering = Answering {
                            snapshot,
                            board,
                            index,
                            published,
                            zone,
                            question,
                            client: Client::new(request.client, client_subnet.as_ref()),
                            has_client_subnet: client_subnet.is_some(),
                            steered: None,
                        };
                        if answering.answer_from(sought, &mut response) == Err(Full) {
                            response.truncate();
                        }
                        steered = answering.steered;
                    }
                }
            }
        },
    }

    let finished = response.finish();
    Outcome::Responded(Responded {
        length: finished.length,
        rcode: finished.rcode,
        zone: zone_index,
        steered,
        scope: finished.scope,
        is_truncated: finished.is_truncated,
        extended_error: finished.extended_error,
        has_trailing_octets: query.has_trailing_octets,
    })
}

/// How long the response may be: what the asker takes, but never more than goes unfragmented.
fn longest_response(query: &Query<'_>, transport: Transport) -> usize {
    match (transport, query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(PLAIN_UDP_PAYLOAD),
        (Transport::Udp, Some(edns)) => usize::from(edns.udp_payload.clamp(PLAIN_UDP_PAYLOAD, UDP_PAYLOAD)),
    }
}

/// The question, or what its message or its types alone must be answered with.
fn question(query: &Query<'_>, transport: Transport) -> Result<Question, Rcode> {
    let question = query.fault.map_or(query.question.ok_or(Rcode::FORMERR), Err)?;
    question.fault(transport == Transport::Udp).map_or(Ok(question), Err)
}

/// Not our zone (RFC 8914 4.21).
fn answer_refused(response: &mut Response<'_>) {
    response.set_rcode(Rcode::REFUSED);
    response.set_extended_error(ExtendedError::NOT_AUTHORITATIVE);
}

/// Our zone, but its files could not be read: nothing may be said of any name in it (RFC 8914 4.25).
fn answer_broken(response: &mut Response<'_>) {
    response.set_rcode(Rcode::SERVFAIL);
    response.set_extended_error(ExtendedError::INVALID_DATA);
}

/// The links of a chain that the response has by now.
#[derive(Default)]
struct Followed {
    pieces: [Piece; MOST_LINKS],
    count: usize,
}

impl Followed {
    fn has(&self, link: &Rrset) -> bool {
        self.pieces[..self.count].contains(&link.piece())
    }

    /// False when there are enough.
    fn add(&mut self, link: &Rrset) -> bool {
        let Some(place) = self.pieces.get_mut(self.count) else { return false };
        *place = link.piece();
        self.count += 1;
        true
    }
}

/// One query that a zone of ours answers.
struct Answering<'a> {
    snapshot: &'a Snapshot,
    board: &'a Board,
    index: ZoneIndex,
    published: &'a PublishedZone,
    zone: &'a Zone,
    question: Question,
    client: Client,
    has_client_subnet: bool,
    steered: Option<(ServiceIndex, Option<u16>)>,
}

impl Answering<'_> {
    /// RFC 1034 4.3.2, steps 3 to 6, around again for each link of a chain.
    fn answer_from(&mut self, sought: &mut Qname, response: &mut Response<'_>) -> Result<(), Full> {
        response.within(self.zone);
        response.set_authoritative();
        let mut owner = NamePosition::QNAME;
        let mut followed = Followed::default();
        for link in 0.. {
            match look_up(self.snapshot, self.published, self.zone, sought, self.question.qtype) {
                Lookup::Answer(rrset) => return self.answer_rrset(response, rrset, owner),
                Lookup::Steered(steered) => {
                    // A chain that a resolver will keep must not end in what is for this client alone: it asks
                    // again for the target (RFC 7871 7.2.1; meaning 13).
                    let is_for_others = link > 0 && self.has_client_subnet && steered.service.ecs;
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
                // The same CNAME again, and so the same target: a loop.
                Lookup::Cname(cname) if followed.has(cname) || !followed.add(cname) => return Ok(()),
                Lookup::Cname(cname) => {
                    let target = response.next_rdata();
                    response.push_rrset(Section::Answer, self.zone, cname, owner)?;
                    owner = target;
                    if sought.read(self.zone.target(cname)).is_none() {
                        return Ok(());
                    }
                }
                Lookup::Dname(dname, below) => {
                    // One DNAME may redirect several names of a chain; it is sent once.
                    if !followed.has(dname) {
                        let dname_owner = NamePosition(owner.0 + sought.start(below));
                        response.push_rrset(Section::Answer, self.zone, dname, dname_owner)?;
                    }
                    if !followed.add(dname) {
                        return Ok(());
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
                }
            }
            // What lies in another zone, be it ours, is that zone's to tell.
            if self.snapshot.find_zone(sought, self.question.qtype) != Some(self.index) {
                break;
            }
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
        let Steering { choice, scope } = steer(steered, &self.client, self.snapshot.catchments(), self.board);
        response.set_scope(scope);
        let service = steered.service;
        self.steered = Some((steered.index, None));
        // Nothing that health decided is kept for longer than the service allows (meaning 12).
        let soon = service.ttl.min(steered.ttl);
        match choice {
            Choice::Sites(sites) => {
                self.steered = Some((steered.index, sites.as_slice().first().copied()));
                let up = |record: &SiteRecord| self.board.verdict(record.verdict).is_served();
                if push_sites(response, steered, &sites, up, steered.ttl, owner)? == 0 {
                    // Down between the choice and here: what stood a moment ago is better than nothing.
                    push_sites(response, steered, &sites, |_| true, soon, owner)?;
                }
                Ok(())
            }
            Choice::LastOnes(sites) => {
                self.steered = Some((steered.index, sites.as_slice().first().copied()));
                push_sites(response, steered, &sites, |_| true, soon, owner).map(|_| ())
            }
            Choice::LastResort => {
                for record in service.last_resort(steered.rtype) {
                    response.push_site_record(service, record, soon, owner)?;
                }
                Ok(())
            }
            Choice::NothingUp => self.answer_nodata(response, self.zone.negative_ttl().min(soon)),
            Choice::NoData => self.answer_nodata(response, self.zone.negative_ttl()),
            Choice::Denied => {
                response.set_extended_error(ExtendedError::BLOCKED);
                self.answer_nodata(response, self.zone.negative_ttl())
            }
            Choice::Failure => {
                response.clear_authoritative();
                response.set_rcode(Rcode::SERVFAIL);
                Ok(())
            }
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
    is_shown: impl Fn(&SiteRecord) -> bool,
    ttl: u32,
    owner: NamePosition,
) -> Result<usize, Full> {
    let service = steered.service;
    let sites = sites.as_slice();
    let mut count = 0;
    for (number, &site) in sites.iter().enumerate() {
        for record in service.records(steered.rtype, site).iter().filter(|record| is_shown(record)) {
            let mut earlier = sites[..number].iter().flat_map(|&site| service.records(steered.rtype, site));
            if earlier.any(|other| other.is_equal_to(record) && is_shown(other)) {
                continue;
            }
            response.push_site_record(service, record, ttl, owner)?;
            count += 1;
        }
    }
    Ok(count)
}
