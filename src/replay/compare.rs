//! Two sides that answer the same questions, through the same `respond()` as queries are answered by.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::Question;
use super::names::Names;
use crate::catchment::ServiceIndex;
use crate::health::board::Board;
use crate::nameserver::{Given, Outcome, Request, Responded, Transport, Worker, respond};
use crate::snapshot::Snapshot;
use crate::wire::Rtype;

/// What answers, and how its sites are.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What is asked.
    pub snapshot: &'a Snapshot,
    /// On which board.
    pub board: &'a Board,
}

/// Asks two sides. All that it needs is made once.
#[derive(Debug)]
pub struct Asker {
    worker: Worker,
    message: Vec<u8>,
    responses: [Vec<u8>; 2],
}

/// What clients were and would be given, and how many queries that was.
pub type Moved = ([Given; 2], u64);

/// What a side said.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// For counters.
    pub responded: Responded,
    /// The response.
    pub octets: &'a [u8],
}

impl Default for Asker {
    fn default() -> Asker {
        let room = || vec![0; usize::from(u16::MAX)];
        Asker { worker: Worker::default(), message: Vec::new(), responses: [room(), room()] }
    }
}

impl Asker {
    /// Over TCP, whatever the query came by: so all of a response is seen, and nobody is asked too often. None where a side says nothing,
    /// which to a question it never does.
    pub fn ask(&mut self, question: &Question, sides: [Side<'_>; 2]) -> Option<[Said<'_>; 2]> {
        let Asker { worker, message, responses } = self;
        question.write(message);
        let request =
            Request { bytes: message, client: question.source, transport: Transport::Tcp, now_ms: 0 };
        let [before, after] = responses;
        let mut ask = |side: Side<'_>, response: &mut Vec<u8>| match respond(
            worker,
            &request,
            side.snapshot,
            side.board,
            response,
        ) {
            Outcome::Responded(responded) => Some(responded),
            Outcome::Dropped | Outcome::Limited(_) => None,
        };
        let [old, new] = [ask(sides[0], before)?, ask(sides[1], after)?];
        Some([
            Said { responded: old, octets: &before[..old.length] },
            Said { responded: new, octets: &after[..new.length] },
        ])
    }
}

/// What comes of many questions.
#[derive(Debug, Default)]
pub struct Comparison {
    asker: Asker,
    /// How many were asked.
    pub queries: u64,
    /// How many are answered differently, other than below.
    pub different: u64,
    /// How many are answered alike but for the scope of the client subnet: by which resolvers know whom else they may tell it, and what no client sees.
    pub only_scope: u64,
    /// What is asked for that is answered differently.
    pub names: Names,
    moves: HashMap<([ServiceIndex; 2], Rtype), Vec<Moved>, FixedState>,
}

impl Comparison {
    /// Asks once more.
    pub fn add(&mut self, question: &Question, sides: [Side<'_>; 2]) {
        self.queries += 1;
        let Some(said) = self.asker.ask(question, sides) else { return };
        match difference(said) {
            Difference::None => {}
            Difference::Scope => self.only_scope += 1,
            Difference::Answer => {
                self.different += 1;
                self.names.add(question, said, sides);
            }
        }
        if let [Some(old), Some(new)] = said.map(|said| said.responded.steered) {
            let ways = self.moves.entry(([old.service, new.service], question.qtype)).or_default();
            let given = [old.given, new.given];
            match ways.iter_mut().find(|(known, _)| *known == given) {
                Some((_, queries)) => *queries += 1,
                None => ways.push((given, 1)),
            }
        }
    }

    /// What those were and would be given who ask a service for a type: what, in the numbers of each side, and how many queries.
    #[must_use]
    pub fn moves(&self, services: [ServiceIndex; 2], rtype: Rtype) -> &[Moved] {
        self.moves.get(&(services, rtype)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The same of those who ask for any type.
    #[must_use]
    pub fn moves_of(&self, services: [ServiceIndex; 2]) -> Vec<Moved> {
        let mut all: Vec<Moved> = Vec::new();
        let of_services = self.moves.iter().filter(|((known, _), _)| *known == services);
        for (given, queries) in of_services.flat_map(|(_, ways)| ways) {
            match all.iter_mut().find(|(known, _)| known == given) {
                Some((_, sum)) => *sum += queries,
                None => all.push((*given, *queries)),
            }
        }
        all
    }
}

enum Difference {
    None,
    Scope,
    Answer,
}

fn difference([old, new]: [Said<'_>; 2]) -> Difference {
    if old.octets == new.octets {
        return Difference::None;
    }
    let is_as_long = old.octets.len() == new.octets.len();
    // Of responses that are as long and differ in one octet, and in scope, that octet is the scope.
    let is_scope = is_as_long
        && old.responded.scope != new.responded.scope
        && old.octets.iter().zip(new.octets).filter(|(old, new)| old != new).count() == 1;
    if is_scope { Difference::Scope } else { Difference::Answer }
}
