//! Asks a zone that compiled for each of its names, as clients would.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use meridian::health::board::Board;
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond};
use meridian::reload::expect;
use meridian::snapshot::{Snapshot, ZoneToPublish, services_of};
use meridian::wire::message::{Message, query};
use meridian::wire::{Name, Rtype};
use meridian::zone::{Zone, ZoneFile};

use super::world;

/// Names of one zone that are asked for; more of them say nothing new.
const MOST_NAMES: usize = 48;

/// No query about a zone's own names panics, and where the zone passed its check every response can be read.
pub(crate) fn ask_for_all(file: &ZoneFile, zone: Zone, is_good: bool) {
    let to_publish = [ZoneToPublish {
        name: file.apex.clone(),
        zone: Some(Arc::new(zone)),
        services: file.services.clone(),
    }];
    let catchments = world::catchments_of(&services_of(&to_publish));
    let (snapshot, layout) = Snapshot::new(1, &to_publish, catchments);
    let board = Board::new(layout.clone());
    let mut worker = Worker::default();
    let mut out = vec![0; 65_535];
    let mut names: Vec<Name> = file.records.iter().map(|record| record.owner_name()).collect();
    names.extend(file.steered.iter().map(|steered| steered.owner.clone()));
    names.dedup();
    names.truncate(MOST_NAMES);
    for name in &names {
        let below = name.child(b"a").ok();
        for name in below.iter().chain([name]) {
            for rtype in [Rtype::A, Rtype::NS, Rtype::MX, Rtype::TXT, Rtype::DS, Rtype::ANY] {
                let subnet = (rtype == Rtype::A).then(|| "192.0.2.0/24".parse().expect("a subnet"));
                let bytes = query(name, rtype, subnet);
                for transport in [Transport::Udp, Transport::Tcp] {
                    let client = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
                    let request = Request { bytes: &bytes, client, transport, now_ms: 0 };
                    let outcome = respond(&mut worker, &request, &snapshot, &board, &mut out);
                    let Outcome::Responded(responded) = outcome else {
                        panic!("{name} {rtype}: no response")
                    };
                    if is_good {
                        let message = Message::read(&out[..responded.length]);
                        let message = message.unwrap_or_else(|| panic!("{name} {rtype}: no message"));
                        let _ = message.print();
                    }
                }
            }
        }
    }
    for expectation in &file.expectations {
        let _ = expect::failure(expectation, &snapshot, &layout);
    }
}
