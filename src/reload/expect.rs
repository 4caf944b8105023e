//! Runs the tests that live with a zone, through the same `respond` that answers queries.

use std::net::{IpAddr, Ipv4Addr};

use crate::catchment::ServiceIndex;
use crate::health::board::{Board, Layout, Share, Verdict};
use crate::health::spill;
use crate::nameserver::client::{Client, Position};
use crate::nameserver::{Outcome, Request, Responded, Transport, Worker, respond};
use crate::site::compile::SiteRecord;
use crate::snapshot::Snapshot;
use crate::wire::message::{Message, query, rcode_name};
use crate::wire::rdata;
use crate::zone::Expectation;

/// What is not as expected, if anything.
#[must_use]
pub fn failure(expectation: &Expectation, snapshot: &Snapshot, layout: &Layout) -> Option<String> {
    let board = Board::new(layout.clone());
    for site in &expectation.down {
        take_down(snapshot, &board, site);
    }
    spill::price(&board);
    let is_address = expectation.from.prefix() == if expectation.from.is_ipv4() { 32 } else { 128 };
    // An address asks for itself; a subnet is asked for by a resolver that tells it.
    let sends_subnet = !is_address || expectation.wanted.scope.is_some();
    let question = query(&expectation.name, expectation.rtype, sends_subnet.then_some(expectation.from));
    let source = if is_address { expectation.from.ip() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let (responded, message) = ask(snapshot, &board, source, &question)?;
    let from = if is_address { expectation.from.ip().to_string() } else { expectation.from.to_string() };
    let name = format!("{} {} from {from}", expectation.name, expectation.rtype);
    let wanted = &expectation.wanted;
    let got_site = responded.steered.and_then(|steered| {
        let site = snapshot.service(steered.service).sites.get(usize::from(steered.site()?))?;
        Some(layout.shares[site.share as usize].site.as_str())
    });
    // Of a chain, what it leads to.
    let got_data: Vec<String> = message
        .answers()
        .iter()
        .filter(|record| record.rtype == expectation.rtype)
        .map(|record| rdata::print(record.rtype, &record.rdata))
        .collect();
    let got_rcode = match message.rcode() {
        0 if message.answers().is_empty() => "NODATA".to_owned(),
        rcode => rcode_name(rcode),
    };
    let why = responded.steered.map_or_else(String::new, |steered| {
        format!(" ({})", why(snapshot, &board, steered.service, expectation.from.ip()))
    });
    if let Some(wanted) = &wanted.site
        && got_site != Some(wanted)
    {
        let got = got_site.map_or_else(|| got_rcode.clone(), |site| format!("site {site}"));
        return Some(format!("{name}: site {wanted} is expected, {got} answers{why}"));
    }
    if let Some(wanted) = &wanted.data {
        let (mut wanted, mut got) = (wanted.clone(), got_data.clone());
        wanted.sort();
        got.sort();
        if wanted != got {
            let got = if got.is_empty() { got_rcode } else { got.join(", ") };
            return Some(format!("{name}: {} is expected, {got} comes{why}", wanted.join(", ")));
        }
    }
    if let Some(wanted) = &wanted.rcode
        && *wanted != got_rcode
        && !(wanted == "NOERROR" && got_rcode == "NODATA")
    {
        return Some(format!("{name}: {wanted} is expected, {got_rcode} comes{why}"));
    }
    if let Some(wanted) = wanted.scope
        && responded.scope != Some(wanted)
    {
        let got = responded.scope.map_or_else(|| "none".to_owned(), |scope| format!("/{scope}"));
        return Some(format!("{name}: scope /{wanted} is expected, {got} comes{why}"));
    }
    None
}

/// The rule that speaks for a client, if any, and its sites, best first, with those that are not well.
fn why(snapshot: &Snapshot, board: &Board, service: ServiceIndex, client: IpAddr) -> String {
    let compiled = snapshot.service(service);
    let position = Position::of(client, snapshot.catchments(), service);
    let ranking = snapshot.catchments().ranking(service, position.ranking);
    let rest = ranking.rest.iter().filter(|site| !ranking.exact.contains(site));
    let told = ranking.exact.iter().chain(rest).map(|&site| {
        let name = &board.layout().shares[compiled.sites[usize::from(site)].share as usize].site;
        let is_down = |address: &SiteRecord| !board.verdict(address.verdict).is_served();
        let addresses = compiled.addresses(site);
        let is_out = !addresses.is_empty() && addresses.iter().all(is_down);
        format!("{name}{}", if is_out { " down" } else { "" })
    });
    let order = told.collect::<Vec<_>>().join(", ");
    match Client::new(client, None).rule(snapshot.catchments(), service, false) {
        Some(rule) if ranking.denied => format!("rule {} denies", rule + 1),
        Some(rule) => format!("rule {}, in order: {order}", rule + 1),
        None => format!("in order: {order}"),
    }
}

/// Asks a snapshot, as a resolver at `source` would over TCP.
#[must_use]
pub fn ask(
    snapshot: &Snapshot,
    board: &Board,
    source: IpAddr,
    question: &[u8],
) -> Option<(Responded, Message)> {
    let mut out = vec![0; usize::from(u16::MAX)];
    let request = Request { bytes: question, client: source, transport: Transport::Tcp, now_ms: 0 };
    match respond(&mut Worker::default(), &request, snapshot, board, &mut out) {
        Outcome::Responded(responded) => Some((responded, Message::read(&out[..responded.length])?)),
        Outcome::Dropped | Outcome::Limited(_) => None,
    }
}

/// Makes all addresses of a site down, in every service that has it. A site without addresses takes nobody.
pub fn take_down(snapshot: &Snapshot, board: &Board, name: &str) {
    for service in snapshot.services() {
        for (index, site) in service.sites.iter().enumerate() {
            if board.layout().shares[site.share as usize].site != name {
                continue;
            }
            let addresses = service.addresses(index as u16);
            for address in addresses {
                board.set_verdict(address.verdict, Verdict::Down);
            }
            if addresses.is_empty() {
                board.set_share(site.share, Share::DRAINED);
            }
        }
    }
}
