//! One query -> one response: no I/O, no clock, no lock, no await, no allocation, no panic.
//!
//! [`respond`] is the whole path; the files are in its order: `query` and `edns` read, `client` tells whose answer it is;
//! `ahead` goes over a batch before; `answer` goes through the zone, where `lookup` finds what there is and `steer` chooses among sites; `limit` tells who is
//! answered too often; `response` writes.

use std::net::IpAddr;
use std::sync::Arc;

use crate::catchment::ServiceIndex;
use crate::health::board::Board;
use crate::policy::Policy;
use crate::policy::cookie::Standing;
use crate::snapshot::{Snapshot, ZoneIndex};
use crate::wire::{Qname, Rtype, number};

pub mod ahead;
mod answer;
pub mod client;
pub mod counters;
pub mod edns;
pub mod limit;
pub mod lookup;
pub mod query;
pub mod response;
pub mod steer;

use ahead::Ahead;
use answer::Answering;
use counters::Counters;
use limit::{Deed, Limited, Limiter};
use query::{Query, Question, Tsig};
use response::{ExtendedError, Full, Limits, Opt, PLAIN_UDP_PAYLOAD, Rcode, Response};

/// A negative answer to an address that may be forged is at most so many times as long as its query: else TC.
const NEGATIVE_FACTOR: usize = 3;

/// A message that came in.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The message.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub client: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// Milliseconds since 1970, as of a moment ago.
    pub now_ms: u64,
}

impl Request<'_> {
    /// Seconds since 1970, which come around in 2106.
    fn now_seconds(&self) -> u32 {
        (self.now_ms / 1000) as u32
    }
}

/// How a message came, and so how the response goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram: the response must fit what the asker takes.
    Udp,
    /// Over a connection: up to 65,535 octets.
    Tcp,
    /// Over TLS (RFC 7858).
    Tls,
    /// Over HTTPS (RFC 8484).
    Https,
    /// Over QUIC (RFC 9250).
    Quic,
}

impl Transport {
    /// All of them, in their order.
    pub const ALL: [Transport; 5] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic];

    /// What it is called where it is counted and logged.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
            Transport::Quic => "quic",
        }
    }

    /// Whether anybody could have sent it in somebody else's name.
    #[must_use]
    pub fn is_datagram(self) -> bool {
        self == Transport::Udp
    }

    /// Whether nobody between can read it, but for its length.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https | Transport::Quic)
    }
}

/// What one thread owns while it answers.
#[derive(Debug, Default)]
pub struct Worker {
    counters: Arc<Counters>,
    limiter: Limiter,
    /// The name that is being looked up: QNAME, then the targets of a chain.
    sought: Qname,
    ahead: Ahead,
}

impl Worker {
    /// One that remembers who was answered; the default one limits nobody.
    #[must_use]
    pub fn with_limiter(limiter: Limiter) -> Worker {
        Worker { limiter, ..Worker::default() }
    }

    /// Makes it remember who was answered, from now on.
    pub fn set_limiter(&mut self, limiter: Limiter) {
        self.limiter = limiter;
    }

    /// Has the memory come near that a batch of messages is going to be answered from, before the first of them is.
    #[inline]
    pub fn look_ahead<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>, snapshot: &Snapshot) {
        if snapshot.is_large() {
            self.ahead.look(messages, snapshot);
        }
    }

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
    /// Nothing is sent: one response too many.
    Limited(Limited),
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
    /// Which service chose, and what.
    pub steered: Option<Steered>,
    /// SCOPE PREFIX-LENGTH, where a client subnet is echoed.
    pub scope: Option<u8>,
    /// TC.
    pub is_truncated: bool,
    /// TC for its length beside the query's, and for nothing else.
    pub would_amplify: bool,
    /// Its extended error, if any.
    pub extended_error: Option<ExtendedError>,
    /// The query went on after its last record.
    pub has_trailing_octets: bool,
    /// The query had records in its answer or authority section.
    pub has_records: bool,
    /// What its cookie proved.
    pub cookie: Standing,
    /// Whether it is one too many, and so was truncated, or would have been.
    pub limited: Option<Limited>,
}

/// A service's choice for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    /// Which service chose.
    pub service: ServiceIndex,
    /// What the client was given.
    pub given: Given,
}

/// What a service gave a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Given {
    /// This site, and maybe others after it.
    Site(u16),
    /// None, and why.
    NoSite(NoSite),
}

/// Why a client was given no site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoSite {
    /// A rule denies it.
    Denied,
    /// No site that it may get has the type.
    NoData,
    /// No site is eligible, and there is nothing for that.
    NothingUp,
    /// No site is eligible: it got the records kept for that.
    LastResort,
}

impl Steered {
    /// The site, where there is one.
    #[must_use]
    pub fn site(self) -> Option<u16> {
        match self.given {
            Given::Site(site) => Some(site),
            Given::NoSite(_) => None,
        }
    }
}

impl Outcome {
    /// Octets of the response, if there is one.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        match self {
            Outcome::Dropped | Outcome::Limited(_) => None,
            Outcome::Responded(responded) => Some(responded.length),
        }
    }

    /// What a service chose, where one did.
    #[inline]
    #[must_use]
    pub fn steered(&self) -> Option<Steered> {
        match self {
            Outcome::Dropped | Outcome::Limited(_) => None,
            Outcome::Responded(responded) => responded.steered,
        }
    }
}

/// Answers one message. `out` is at least 1,232 octets for UDP, 65,535 for the others.
#[inline]
pub fn respond(
    worker: &mut Worker,
    request: &Request<'_>,
    snapshot: &Snapshot,
    board: &Board,
    out: &mut [u8],
) -> Outcome {
    let outcome = answer(worker, request, snapshot, board, out);
    worker.counters.register(request.transport, &outcome);
    outcome
}

fn answer(
    worker: &mut Worker,
    request: &Request<'_>,
    snapshot: &Snapshot,
    board: &Board,
    out: &mut [u8],
) -> Outcome {
    let Worker { limiter, sought, .. } = worker;
    if Query::is_none(request.bytes) {
        return Outcome::Dropped;
    }
    let query = Query::read(request.bytes, sought);
    let policy = snapshot.policy();
    let cookie = Cookies::read(&query, request, policy);
    let limits = limits(&query, request, policy, cookie.standing);
    let mut opt = opt(&query, request, policy, cookie.answer);
    let mut response = Response::begin(&query, limits, opt.as_ref(), out);
    let mut zone_index = None;
    let mut steered = None;

    match demand(&query, sought, request, policy, cookie.standing) {
        Demand::Fault(rcode) => response.set_rcode(rcode),
        Demand::UnknownKey(tsig) => response.set_unknown_key(&tsig),
        Demand::Nothing => {}
        Demand::Chaos(text) => response.push_chaos(text),
        Demand::Answer(question) => match snapshot.find_zone(sought, question.qtype) {
            None => answer_refused(&mut response),
            Some(index) => {
                zone_index = Some(index);
                let published = snapshot.zone(index);
                match &published.zone {
                    None => answer_broken(&mut response),
                    Some(zone) => {
                        let client_subnet = query.edns.as_ref().and_then(|edns| edns.client_subnet.as_ref());
                        let mut answering = Answering {
                            snapshot,
                            board,
                            index,
                            published,
                            zone,
                            question,
                            source: request.client,
                            client_subnet,
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

    let mut limited = None;
    if request.transport.is_datagram() && !cookie.standing.is_proven() {
        let is_nonsense = response.rcode() == Rcode::NXDOMAIN;
        let nonsense = zone_index.filter(|_| is_nonsense).map(|index| &snapshot.zone(index).name);
        limited = limiter.limit(&policy.rate_limit, request.client, nonsense, request.now_ms);
        match limited {
            None | Some(Limited { deed: Deed::Nothing, .. }) => {}
            Some(Limited { deed: Deed::Truncated, .. }) => {
                steered = None;
                response.withhold(cookie.standing);
                if let Some(opt) = &mut opt {
                    opt.nsid = None;
                }
            }
            Some(limited @ Limited { deed: Deed::Dropped, .. }) => return Outcome::Limited(limited),
        }
    }

    let finished = response.finish(opt.as_ref());
    Outcome::Responded(Responded {
        length: finished.length,
        rcode: finished.rcode,
        zone: zone_index,
        steered,
        scope: finished.scope,
        is_truncated: finished.is_truncated,
        would_amplify: finished.would_amplify,
        extended_error: finished.extended_error,
        has_trailing_octets: query.has_trailing_octets,
        has_records: query.has_records,
        cookie: cookie.standing,
        limited,
    })
}

/// What the query's cookie proves, and the one that is sent back.
struct Cookies {
    standing: Standing,
    answer: Option<[u8; 24]>,
}

impl Cookies {
    #[inline]
    fn read(query: &Query<'_>, request: &Request<'_>, policy: &Policy) -> Cookies {
        let (Some(secrets), Some(cookie)) =
            (&policy.cookies, query.edns.as_ref().and_then(|edns| edns.cookie))
        else {
            return Cookies { standing: Standing::None, answer: None };
        };
        let standing = secrets.judge(&cookie, request.client, request.now_seconds());
        let answer = secrets.answer(&cookie, standing, request.client, request.now_seconds());
        Cookies { standing, answer: Some(answer) }
    }
}

/// How long the response may be: over UDP what the asker takes, but never more than we send, nor more than an address that
/// anybody may have forged is to be hit with.
fn limits(query: &Query<'_>, request: &Request<'_>, policy: &Policy, standing: Standing) -> Limits {
    if !request.transport.is_datagram() {
        return Limits { longest: usize::from(u16::MAX), longest_negative: usize::from(u16::MAX) };
    }
    let most = if request.client.is_ipv4() { policy.udp_payload_v4 } else { policy.udp_payload_v6 };
    let longest =
        query.edns.as_ref().map_or(PLAIN_UDP_PAYLOAD, |edns| edns.udp_payload.clamp(PLAIN_UDP_PAYLOAD, most));
    if standing.is_proven() {
        return Limits { longest: usize::from(longest), longest_negative: usize::from(longest) };
    }
    let longest = usize::from(policy.max_without_cookie.map_or(longest, |most| most.min(longest)));
    Limits { longest, longest_negative: longest.min(NEGATIVE_FACTOR * request.bytes.len()) }
}

/// What goes into the response's OPT, where the query has one (RFC 6891 7).
fn opt<'a>(
    query: &Query<'_>,
    request: &Request<'_>,
    policy: &'a Policy,
    cookie: Option<[u8; 24]>,
) -> Option<Opt<'a>> {
    let edns = query.edns.as_ref()?;
    Some(Opt {
        udp_payload: if request.client.is_ipv4() { policy.udp_payload_v4 } else { policy.udp_payload_v6 },
        dnssec_ok: edns.dnssec_ok,
        client_subnet: edns.client_subnet,
        cookie,
        nsid: policy.nsid.as_deref().filter(|_| edns.asks_for.nsid),
        // Means nothing where there is no connection (RFC 7828 3.2.1), nor in DoQ and DoH, which have their own.
        keepalive: Some(policy.keepalive).filter(|_| {
            edns.asks_for.keepalive && matches!(request.transport, Transport::Tcp | Transport::Tls)
        }),
        has_zone_version: edns.asks_for.zone_version,
        is_padded: edns.asks_for.padding && request.transport.is_encrypted(),
    })
}

/// What a message wants.
enum Demand<'a> {
    /// To be told what is wrong with it.
    Fault(Rcode),
    /// To be told that we have not its key.
    UnknownKey(Tsig<'a>),
    /// A cookie, which it gets with every response (RFC 7873 5.4).
    Nothing,
    /// To know who we are, and that we tell.
    Chaos(&'a str),
    /// An answer.
    Answer(Question),
}

fn demand<'a>(
    query: &Query<'a>,
    sought: &Qname,
    request: &Request<'_>,
    policy: &'a Policy,
    standing: Standing,
) -> Demand<'a> {
    if let Some(rcode) = query.fault {
        return Demand::Fault(rcode);
    }
    if let Some(tsig) = query.tsig {
        return Demand::UnknownKey(tsig);
    }
    let Some(question) = query.question else {
        if standing == Standing::None {
            return Demand::Fault(Rcode::FORMERR);
        }
        let is_another =
            query.edns.as_ref().and_then(|edns| edns.cookie).is_some_and(|cookie| cookie.has_server_part());
        let is_bad = standing == Standing::Unproven && is_another;
        return if is_bad { Demand::Fault(Rcode::BADCOOKIE) } else { Demand::Nothing };
    };
    if policy.requires_cookie && request.transport.is_datagram() && standing == Standing::Unproven {
        return Demand::Fault(Rcode::BADCOOKIE);
    }
    if question.qclass == number::CH
        && let Some(text) = chaos_text(&question, sought, policy)
    {
        return Demand::Chaos(text);
    }
    question.fault(request.transport.is_datagram()).map_or(Demand::Answer(question), Demand::Fault)
}

/// The names in class CH by which servers tell who they are (RFC 4892 2).
fn chaos_text<'a>(question: &Question, sought: &Qname, policy: &'a Policy) -> Option<&'a str> {
    if !matches!(question.qtype, Rtype::TXT | Rtype::ANY) {
        return None;
    }
    match sought.wire() {
        b"\x07version\x04bind\0" | b"\x07version\x06server\0" => policy.version.as_deref(),
        b"\x02id\x06server\0" | b"\x08hostname\x04bind\0" => policy.identity.as_deref(),
        _ => None,
    }
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
