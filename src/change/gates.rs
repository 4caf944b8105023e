//! What is about to be served, held against what is: a step that is larger than people take knowingly waits for an operator's word.
//!
//! Most outages of DNS are changes, and most of those are files that lost something: half a zone, all sites of a service, a geo database that
//! was cut off or is an old one. None of them is an error in itself.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::catchment::Catchments;
use crate::coverage::summary::{Shares, total};
use crate::coverage::{Addresses, Side, View, count};
use crate::geo::Databases;
use crate::geo::read::About;
use crate::health::board::{Board, Layout};
use crate::health::spill;
use crate::nameserver::Given;
use crate::site::compile::TypeIndex;
use crate::site::{Service, Site};
use crate::snapshot::Snapshot;
use crate::wire::Rtype;
use crate::zone::Zone;

/// How far a change may go by itself; none: as far as it likes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gates {
    /// The part of a zone's names that may go.
    pub names: Option<f64>,
    /// The part of IPv4 that another geo database may send to another site.
    pub moves: Option<f64>,
    /// The part of its networks that a geo database may lose.
    pub networks: Option<f64>,
}

impl Default for Gates {
    fn default() -> Gates {
        Gates { names: Some(0.5), moves: Some(0.2), networks: Some(0.2) }
    }
}

/// A snapshot as it is looked at here: all sites well.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// What answers.
    pub snapshot: &'a Snapshot,
    /// The layout of its boards.
    pub layout: &'a Layout,
    /// Its services, in its order.
    pub services: &'a [Arc<Service>],
}

/// Names of a zone that are gone.
#[must_use]
pub fn names(most: f64, old: &Zone, new: &Zone) -> Option<String> {
    // A zone that has grown may have lost its names all the same.
    let lost = old.nodes_in(new).iter().filter(|node| node.is_none()).count();
    let all = old.name_count();
    (lost as f64 > all as f64 * most).then(|| format!("{lost} of {all} names are gone"))
}

/// Services none of whose sites may answer any more, though one could before. `is_out` says which were drained or forced down.
#[must_use]
pub fn sites(
    is_out: &dyn Fn(&Service, &Site) -> bool,
    (old, old_tables): (&[Arc<Service>], &Catchments),
    (new, new_tables): (&[Arc<Service>], &Catchments),
) -> Vec<String> {
    let answers = |service: &Service, index: usize, tables: &Catchments| {
        let mut sites = service.sites.iter().enumerate();
        sites.any(|(number, site)| {
            tables.reaches(index as u16, number as u16) && !site.rrsets.is_empty() && !is_out(service, site)
        })
    };
    let before: HashMap<&str, (usize, &Service)> =
        old.iter().enumerate().map(|(index, service)| (service.name.as_str(), (index, &**service))).collect();
    let is_left_alone = |(index, service): &(usize, &Arc<Service>)| {
        let before = before.get(service.name.as_str());
        before.is_some_and(|(before, old)| answers(old, *before, old_tables))
            && !answers(service, *index, new_tables)
    };
    let told = |(_, service): (usize, &Arc<Service>)| {
        format!("service \"{}\" has no site left that takes clients", service.name)
    };
    new.iter().enumerate().filter(is_left_alone).map(told).collect()
}

/// A geo database that is older than the one before, or has lost much of it; with the file that it is about.
#[must_use]
pub fn databases<'a>(most: Option<f64>, old: &[About], new: &'a [About]) -> Vec<(&'a About, String)> {
    let mut held = Vec::new();
    for about in new {
        let Some(before) = old.iter().find(|before| before.path == about.path) else { continue };
        if about.build_epoch < before.build_epoch {
            let (is, was) = (date(about.build_epoch), date(before.build_epoch));
            held.push((about, format!("was built on {is}, the one before on {was}")));
        }
        let lost = before.nodes.saturating_sub(about.nodes);
        let part = f64::from(lost) / f64::from(before.nodes.max(1));
        if most.is_some_and(|most| part > most) {
            held.push((about, format!("{:.0} % of its networks are gone", part * 100.0)));
        }
    }
    held
}

/// Services that send more of IPv4, or of IPv6, to another site than they may.
#[must_use]
pub fn moves(most: f64, old: &Live<'_>, new: &Live<'_>) -> Vec<String> {
    let mut held = Vec::new();
    let boards = [Board::new(old.layout.clone()), Board::new(new.layout.clone())];
    boards.iter().for_each(spill::price);
    for (index, service) in new.services.iter().enumerate() {
        let Some(before) = old.services.iter().position(|before| before.name == service.name) else {
            continue;
        };
        let views = view(old, before).zip(view(new, index));
        let Some((old_view, new_view)) = views else { continue };
        let sides = [Side { view: old_view, board: &boards[0] }, Side { view: new_view, board: &boards[1] }];
        // Without the databases: every address counts, known or not.
        let parts = count(sides, &Databases::default());
        let name = |given, service: &Service| match given {
            Given::Site(site) => Ok(service.sites[usize::from(site)].name.clone()),
            Given::NoSite(reason) => Err(reason),
        };
        let mut moved = Addresses::default();
        for part in &parts {
            if name(part.given[0], &old.services[before]) != name(part.given[1], service) {
                moved += part.addresses;
            }
        }
        let Shares { v4, v6 } = moved.of(total(&parts));
        for (part, family) in [(v4, "IPv4"), (v6, "IPv6")].into_iter().filter(|(part, _)| *part > most) {
            held.push(format!(
                "{:.1} % of {family} go to another site of service \"{}\"",
                part * 100.0,
                service.name
            ));
        }
    }
    held
}

/// Of the type that most ask for.
fn view<'a>(live: &Live<'a>, index: usize) -> Option<View<'a>> {
    let compiled = live.snapshot.service(index as u16);
    let rtype: Option<TypeIndex> =
        [Rtype::A, Rtype::AAAA].into_iter().find_map(|rtype| compiled.find_type(rtype));
    let rtype = rtype.or_else(|| compiled.find_type(*compiled.types().first()?))?;
    Some(View { snapshot: live.snapshot, service: index as u16, rtype })
}

fn date(epoch: u64) -> String {
    let time = i64::try_from(epoch).ok().and_then(|epoch| Timestamp::from_second(epoch).ok());
    time.map_or_else(|| "no date".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}
