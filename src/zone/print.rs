//! A zone -> a master file (RFC 1035), for servers that know no steering.

use std::fmt::Write;

use super::ZoneFile;
use crate::wire::{Rtype, rdata};

/// Static records, the SOA first, with this serial if there is one; steered owners as comments. Names are whole.
#[must_use]
pub fn to_master_file(zone: &ZoneFile, serial: Option<u32>) -> String {
    let mut out = String::new();
    let _ = write(zone, serial, &mut out);
    out
}

fn write(zone: &ZoneFile, serial: Option<u32>, out: &mut String) -> std::fmt::Result {
    writeln!(out, "$ORIGIN {}", zone.apex)?;
    // BIND takes no other record before the SOA.
    let (soas, others): (Vec<_>, Vec<_>) = zone.records.iter().partition(|record| record.rtype == Rtype::SOA);
    for record in soas.into_iter().chain(others) {
        let data = match serial {
            Some(serial) if record.rtype == Rtype::SOA => {
                rdata::print(record.rtype, &with_serial(record.rdata, serial))
            }
            _ => rdata::print(record.rtype, record.rdata),
        };
        writeln!(out, "{} {} IN {} {data}", record.owner_name(), record.ttl, record.rtype)?;
    }
    for steered in &zone.steered {
        let service = &zone.services[steered.service];
        let ttl = steered.ttl.unwrap_or(*service.ttl.start());
        writeln!(out, "; {} {ttl} IN: the nearest healthy site of {}", steered.owner, service.name)?;
    }
    Ok(())
}

/// The serial is the first of the last five numbers (RFC 1035 3.3.13).
fn with_serial(soa: &[u8], serial: u32) -> Vec<u8> {
    let mut octets = soa.to_vec();
    if let Some(start) = octets.len().checked_sub(20) {
        octets[start..start + 4].copy_from_slice(&serial.to_be_bytes());
    }
    octets
}
