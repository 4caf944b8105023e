//! Zones: files -> records -> checked -> a tree with prebuilt pieces of responses.

use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::finding::{At, Source};
use crate::site::Service;
use crate::wire::{Name, Rtype};

pub mod check;
pub mod compile;
pub mod master;
pub mod name_tree;
pub mod owners;
pub mod print;
pub mod read;
pub mod records;
pub mod tree;
pub mod write;
pub mod yaml;

pub use owners::Owners;
pub use records::Records;
pub use tree::Zone;

/// A zone as it was written, whether in YAML or as a master file.
#[derive(Debug)]
pub struct ZoneFile {
    /// The zone's name.
    pub apex: Name,
    /// The file that gave it.
    pub source: Arc<Source>,
    /// Files that it includes.
    pub included: Vec<Arc<Source>>,
    /// Static records, the SOA among them. The serial of a YAML zone that gives none is 0 here; whoever
    /// publishes the zone sets it.
    pub records: Records,
    /// Whether the zone leaves its serial to us.
    pub automatic_serial: bool,
    /// Owners that are steered.
    pub steered: Vec<Steered>,
    /// Services that `steered` refers to by index: the shared ones that it uses and its own.
    pub services: Vec<Arc<Service>>,
    /// Tests that live with the zone.
    pub expectations: Vec<Expectation>,
}

/// An owner whose answers a service chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Steered {
    /// The name, possibly a wildcard.
    pub owner: Name,
    /// Index into the zone's `services`.
    pub service: usize,
    /// Seconds, where the owner sets them itself.
    pub ttl: Option<u32>,
    /// Where it was written.
    pub at: At,
}

/// What a query from somewhere must be answered with: a test that lives with the zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// QNAME.
    pub name: Name,
    /// QTYPE.
    pub rtype: Rtype,
    /// The client: an address, or a prefix as a resolver would send it.
    pub from: IpNetwork,
    /// Sites that are taken as down.
    pub down: Vec<String>,
    /// What must come.
    pub wanted: Wanted,
    /// Where it was written.
    pub at: At,
}

/// What an expectation asserts; what is absent is not asserted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The site that is chosen first.
    pub site: Option<String>,
    /// RDATA of the answer section's records of the asked type in presentation format, in any order.
    pub data: Option<Vec<String>>,
    /// `NOERROR`, `NODATA`, `NXDOMAIN`, `REFUSED`, `SERVFAIL`.
    pub rcode: Option<String>,
    /// SCOPE PREFIX-LENGTH.
    pub scope: Option<u8>,
}
