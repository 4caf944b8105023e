//! Looks ahead: touches what the queries of a batch are going to be answered from, so that waiting for memory overlaps.
//!
//! Of a million names, or of ten thousand zones, what a query asks for lies in no cache. Its look-up waits for memory half a dozen
//! times, and each time cannot go on before: that is four fifths of its time. Queries of a batch do not depend on each other. So
//! here all of them make one short step, then all the next: while one waits, the processor is at the others already.
//!
//! Nothing is decided here, and nothing that is found is kept: a step that goes wrong, since it trusts a hash without looking at
//! the name, costs a cache line that nobody needed. Where all that is served fits into a cache this would be work for nothing, and
//! is not done.

use std::hint::black_box;

use super::query::HEADER_LENGTH;
use crate::snapshot::{Snapshot, ZoneIndex};
use crate::wire::Qname;
use crate::zone::Zone;
use crate::zone::name_tree::{NodeId, TOP};

/// Queries that are looked ahead for at once: a batch of UDP.
pub const MOST: usize = 32;

/// Room for names, which one thread owns.
#[derive(Clone, Debug)]
pub(super) struct Ahead(Box<[Qname; MOST]>);

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead(Box::new(std::array::from_fn(|_| Qname::default())))
    }
}

impl Ahead {
    /// Touches what messages are about, as far as they are queries and there is room.
    pub(super) fn look<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>, snapshot: &Snapshot) {
        let mut count = 0;
        for (message, qname) in messages.zip(self.0.iter_mut()) {
            if message.get(HEADER_LENGTH..).and_then(|octets| qname.read(octets)).is_none() {
                *qname = Qname::default();
            }
            count += 1;
        }
        let qnames = &self.0[..count];
        let mut indexes: [Option<ZoneIndex>; MOST] = [None; MOST];
        for (index, qname) in indexes.iter_mut().zip(qnames) {
            *index = snapshot.likely_zone(qname);
        }
        let mut zones: [Option<&Zone>; MOST] = [None; MOST];
        for (zone, index) in zones.iter_mut().zip(indexes) {
            *zone = index.and_then(|index| {
                black_box(snapshot.touch_zone(index));
                snapshot.zone(index).zone.as_deref()
            });
        }
        for zone in zones.iter().flatten() {
            black_box(zone.touch());
        }
        let mut nodes: [NodeId; MOST] = [TOP; MOST];
        for ((node, zone), qname) in nodes.iter_mut().zip(&zones).zip(qnames) {
            *node = zone.map_or(TOP, |zone| zone.likely_node(qname));
        }
        let all = || zones.iter().zip(nodes).filter_map(|(zone, node)| Some((zone.as_ref()?, node)));
        for (zone, node) in all() {
            black_box(zone.touch_node(node));
        }
        for (zone, node) in all() {
            black_box(zone.touch_rrset(node));
        }
        for (zone, node) in all() {
            black_box(zone.touch_piece(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::reload::Reloader;
    use crate::wire::message::query;
    use crate::wire::{Name, Rtype};

    fn sample() -> &'static Snapshot {
        static SAMPLE: OnceLock<Snapshot> = OnceLock::new();
        SAMPLE.get_or_init(|| {
            let none: [PathBuf; 0] = [];
            let reload = Reloader::new(Path::new("zones"), &none, None).reload(false);
            reload.snapshot.expect("the sample is served").0
        })
    }

    const NAMES: [&str; 7] = [
        "www.example.com.",
        "a.b.c.www.example.com.",
        "example.com.",
        "nowhere.example.com.",
        "x.partner.example.com.",
        "example.net.",
        ".",
    ];

    proptest! {
        /// Names that are there and names that are not, with octets changed and cut off anywhere, in batches of any size.
        #[test]
        fn it_looks_at_anything(
            messages in prop::collection::vec(
                (prop::sample::select(&NAMES[..]), any::<[(prop::sample::Index, u8); 2]>(), 0..3_usize, 0..90_usize),
                0..2 * MOST,
            ),
        ) {
            let messages: Vec<Vec<u8>> = messages
                .into_iter()
                .map(|(name, changes, changed, length)| {
                    let mut bytes = query(&Name::parse(name, None).unwrap(), Rtype::A, None);
                    for (at, octet) in &changes[..changed] {
                        let at = at.index(bytes.len());
                        bytes[at] = *octet;
                    }
                    bytes.truncate(if length < 80 { 200 } else { length - 80 });
                    bytes
                })
                .collect();
            Ahead::default().look(messages.iter().map(Vec::as_slice), sample());
        }
    }

    /// What is touched is what the query is answered from.
    #[test]
    fn it_finds_what_is_there() {
        let mut qname = Qname::default();
        for name in NAMES.iter().take(5) {
            qname.read(Name::parse(name, None).unwrap().wire()).unwrap();
            assert_eq!(sample().likely_zone(&qname), sample().find_zone(&qname, Rtype::A), "{name}");
        }
        qname.read(Name::parse("www.example.com.", None).unwrap().wire()).unwrap();
        let zone = sample().zone(sample().likely_zone(&qname).unwrap()).zone.as_ref().unwrap();
        assert_eq!(crate::zone::tree::Walk::Exact(zone.likely_node(&qname)), zone.walk(&qname));
    }
}
