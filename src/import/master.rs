//! Master files (RFC 1035): everything but the names that others' plugins steer.

use std::sync::Arc;

use super::{Imported, Zone};
use crate::finding::{Findings, Source};
use crate::wire::Name;
use crate::zone::master;

/// Reads one zone.
pub fn read(source: &Arc<Source>, apex: &Name, imported: &mut Imported, findings: &mut Findings) {
    let zone = master::read(source, apex, None, findings);
    imported.zones.push(Zone::of(zone.apex, zone.records));
}
