//! What is asked for that two sides answer differently, and how: the most of it, in bounded room.
//!
//! Anybody may ask for any number of names that nobody else asks for. When there are too many, those with the fewest queries are let go.

use std::collections::HashMap;

use super::Question;
use super::compare::{Said, Side};
use crate::nameserver::response::Rcode;
use crate::nameserver::{Given, NoSite, Steered};
use crate::wire::message::{Message, Record, rcode_name};
use crate::wire::{Name, Rtype, rdata};

/// How many are known at most.
const MOST_NAMES: usize = 20_000;
/// How many ways of one of them.
const MOST_WAYS: usize = 16;
/// Characters of what is told of a response.
const LONGEST_TEXT: usize = 120;

/// By name and type, how they differ.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<(Box<[u8]>, Rtype), OfName>,
    /// Queries of those that were let go.
    pub let_go: u64,
}

/// A name and a type.
#[derive(Clone, Debug, Default)]
pub struct OfName {
    /// Queries that are answered differently.
    pub queries: u64,
    /// The ways that were met first.
    pub ways: Vec<Way>,
}

/// What some of its queries get and would get.
#[derive(Clone, Debug)]
pub struct Way {
    /// Those alike in this are told as one, by the first of them.
    key: [(Rcode, Option<Steered>); 2],
    /// How many queries.
    pub queries: u64,
    /// In words.
    pub before: String,
    /// In words.
    pub after: String,
}

impl Names {
    pub(super) fn add(&mut self, question: &Question, said: [Said<'_>; 2], sides: [Side<'_>; 2]) {
        let name = (question.qname.wire().into(), question.qtype);
        let of_name = self.known.entry(name).or_default();
        of_name.queries += 1;
        let key = said.map(|said| (said.responded.rcode, said.responded.steered));
        if let Some(way) = of_name.ways.iter_mut().find(|way| way.key == key) {
            way.queries += 1;
        } else if of_name.ways.len() < MOST_WAYS {
            let [before, after] = in_words(said, sides);
            of_name.ways.push(Way { key, queries: 1, before, after });
        }
        if self.known.len() > MOST_NAMES {
            self.let_go_of_half();
        }
    }

    fn let_go_of_half(&mut self) {
        let mut counts: Vec<u64> = self.known.values().map(|of_name| of_name.queries).collect();
        let (_, &mut median, _) = counts.select_nth_unstable(MOST_NAMES / 2);
        // Of those that have as many, as many as must go; so the loudest stay, and at least one goes.
        let mut surplus = self.known.len() - MOST_NAMES / 2;
        self.known.retain(|_, of_name| {
            let goes = surplus > 0 && of_name.queries <= median;
            surplus -= usize::from(goes);
            self.let_go += if goes { of_name.queries } else { 0 };
            !goes
        });
    }

    /// Those with most queries first.
    #[must_use]
    pub fn in_order(&self) -> Vec<(Name, Rtype, &OfName)> {
        let mut all: Vec<(Name, Rtype, &OfName)> = self
            .known
            .iter()
            .filter_map(|((name, rtype), of_name)| Some((Name::from_wire(name).ok()?, *rtype, of_name)))
            .collect();
        all.sort_by(|a, b| (b.2.queries, &a.0, a.1).cmp(&(a.2.queries, &b.0, b.1)));
        all
    }
}

impl OfName {
    /// Those with most queries first.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Way> {
        let mut ways: Vec<&Way> = self.ways.iter().collect();
        ways.sort_by_key(|way| std::cmp::Reverse(way.queries));
        ways
    }
}

/// As much as tells the two apart.
fn in_words(said: [Said<'_>; 2], sides: [Side<'_>; 2]) -> [String; 2] {
    let messages = said.map(|said| Message::read(said.octets).unwrap_or_default());
    let told = |words: fn(&Message) -> String| {
        [0, 1].map(|side| {
            let site = said[side].responded.steered.map(|steered| chosen(steered, sides[side]));
            let words = words(&messages[side]);
            shorten([site.unwrap_or_default(), words].join(" ").trim())
        })
    };
    let ways: [fn(&Message) -> String; 3] = [data, with_ttl, whole];
    let mut differing = ways.into_iter().map(told).filter(|[before, after]| before != after);
    differing.next().unwrap_or_else(|| told(data))
}

fn chosen(steered: Steered, side: Side<'_>) -> String {
    match steered.given {
        Given::Site(site) => {
            let site = side.snapshot.service(steered.service).sites.get(usize::from(site));
            let slot = site.and_then(|site| side.board.layout().shares.get(site.share as usize));
            slot.map(|slot| slot.site.clone()).unwrap_or_default()
        }
        Given::NoSite(NoSite::Denied) => "(denied)".to_owned(),
        Given::NoSite(NoSite::NothingUp) => "(nothing up)".to_owned(),
        Given::NoSite(NoSite::LastResort) => "(last resort)".to_owned(),
        Given::NoSite(NoSite::NoData) => String::new(),
    }
}

/// What the last records of the chain say, or why there are none.
fn data(message: &Message) -> String {
    let Some(last) = message.answers().last() else { return without_answer(message) };
    let of_set = message.answers().iter().filter(|record| record.owner == last.owner);
    of_set.map(|record| rdata::print(record.rtype, &record.rdata)).collect::<Vec<_>>().join(", ")
}

fn without_answer(message: &Message) -> String {
    let authority = &message.sections[1];
    let servers: Vec<String> = authority
        .iter()
        .filter(|record| record.rtype == Rtype::NS)
        .map(|record| rdata::print(record.rtype, &record.rdata))
        .collect();
    match message.rcode() {
        0 if !servers.is_empty() => format!("see {}", servers.join(", ")),
        0 => "no data".to_owned(),
        rcode => rcode_name(rcode),
    }
}

fn with_ttl(message: &Message) -> String {
    let Some(last) = message.answers().last() else { return without_answer(message) };
    format!("{}, TTL {}", data(message), last.ttl)
}

fn whole(message: &Message) -> String {
    let records: Vec<String> = message.sections.iter().flatten().map(Record::to_string).collect();
    let rest = [
        rcode_name(message.rcode()),
        message.scope().map_or_else(String::new, |scope| format!("scope /{scope}")),
        message.extended_error().map_or_else(String::new, |code| format!("extended error {code}")),
    ];
    let rest = rest.into_iter().filter(|text| !text.is_empty());
    rest.chain(records).collect::<Vec<_>>().join("; ").replace('\t', " ")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}
