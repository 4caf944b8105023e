//! The clients of a query log, steered as they were and as they would be.

use std::collections::HashMap;
use std::io::BufRead;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::Side;
use crate::nameserver::Given;
use crate::nameserver::client::Client;
use crate::nameserver::edns::ClientSubnet;
use crate::nameserver::steer::steer;

/// Of a line what says whose query it was; see `docs/operation.md`.
#[derive(Deserialize)]
struct Line {
    client: String,
    subnet: Option<String>,
    service: Option<String>,
}

impl Line {
    fn blocks(&self) -> Option<(IpNetwork, Option<IpNetwork>)> {
        let subnet = self.subnet.as_ref().map(|subnet| subnet.parse()).transpose().ok()?;
        Some((self.client.parse().ok()?, subnet))
    }
}

/// The queries of a log that a service answered.
#[derive(Debug, Default)]
pub struct Clients {
    /// How many queries each block sent, for itself or for a subnet.
    by_block: HashMap<(IpNetwork, Option<IpNetwork>), u64>,
    /// Lines that are none of a query log.
    pub unreadable: u64,
}

impl Clients {
    /// Reads a log to its end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(log: impl BufRead, service: &str) -> std::io::Result<Clients> {
        let mut clients = Clients::default();
        for line in log.split(b'\n') {
            let line = line?;
            if line.is_empty() {
                continue;
            }
            let read = serde_json::from_slice::<Line>(&line).ok();
            match read.and_then(|line| Some((line.blocks()?, line.service))) {
                Some((blocks, Some(of))) if of == service => {
                    *clients.by_block.entry(blocks).or_default() += 1;
                }
                Some(_) => {}
                None => clients.unreadable += 1,
            }
        }
        Ok(clients)
    }

    /// How many queries.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.by_block.values().sum()
    }

    /// What all of them are given on two sides: what, and how many queries.
    #[must_use]
    pub fn steer(&self, sides: [Side<'_>; 2]) -> Vec<([Given; 2], u64)> {
        let mut counts: Vec<([Given; 2], u64)> = Vec::new();
        for ((source, subnet), queries) in &self.by_block {
            let client = Client::new(source.ip(), subnet.as_ref().map(option).as_ref());
            let given = sides.map(|Side { view, board }| {
                steer(&view.lookup(), &client, view.snapshot.catchments(), board).choice.given()
            });
            match counts.iter_mut().find(|(known, _)| *known == given) {
                Some((_, count)) => *count += queries,
                None => counts.push((given, *queries)),
            }
        }
        counts
    }
}

/// As a resolver would have sent it.
fn option(subnet: &IpNetwork) -> ClientSubnet {
    let mut address = [0; 16];
    let family = match subnet.network() {
        IpAddr::V4(v4) => {
            address[..4].copy_from_slice(&v4.octets());
            1
        }
        IpAddr::V6(v6) => {
            address = v6.octets();
            2
        }
    };
    ClientSubnet { family, source_prefix_length: subnet.prefix(), address }
}
