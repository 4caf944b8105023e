//! A zone -> YAML, as a user would write it.

use std::collections::HashMap;
use std::fmt::Write;

use super::Records;
use super::records::Record;
use crate::wire::{Name, Rtype, rdata};

/// Writes static records, and steered owners with the service of each and the TTL that they set themselves.
#[must_use]
pub fn to_yaml(apex: &Name, records: &Records, steered: &[(Name, &str, Option<u32>)]) -> String {
    let mut out = String::new();
    let _ = write(apex, records, steered, &mut out);
    out
}

fn write(
    apex: &Name,
    records: &Records,
    steered: &[(Name, &str, Option<u32>)],
    out: &mut String,
) -> std::fmt::Result {
    if apex.is_root() || apex.labels().any(|label| label.contains(&b'/')) {
        writeln!(out, "zone: {}", quote(&apex.to_string()))?;
    }
    let default_ttl = most_common_ttl(records);
    writeln!(out, "ttl: {default_ttl}")?;
    let mut owners = group(records);
    for (owner, ..) in steered {
        if !owners.iter().any(|(known, _)| known == owner) {
            owners.push((owner.clone(), Vec::new()));
        }
    }
    // A zone has one, at its apex (RFC 1035 5.2); whoever read others told of them.
    let at_apex = owners.iter().filter(|(owner, _)| owner == apex).flat_map(|(_, rrsets)| rrsets);
    for records in at_apex.filter(|records| records[0].rtype == Rtype::SOA) {
        write_soa(&records[0], default_ttl, out)?;
    }
    writeln!(out, "records:")?;
    for (owner, rrsets) in &owners {
        let rrsets: Vec<_> = rrsets.iter().filter(|records| records[0].rtype != Rtype::SOA).collect();
        let services: Vec<_> = steered.iter().filter(|(steered, ..)| steered == owner).collect();
        if rrsets.is_empty() && services.is_empty() {
            continue;
        }
        writeln!(out, "  {}:", quote(&owner.relative_to(apex)))?;
        for (_, service, ttl) in services {
            match ttl {
                Some(ttl) => writeln!(out, "    service: {{ name: {}, ttl: {ttl} }}", quote(service))?,
                None => writeln!(out, "    service: {}", quote(service))?,
            }
        }
        for records in rrsets {
            write_rrset(records, default_ttl, out)?;
        }
    }
    Ok(())
}

/// Records by owner and type, both in the order written.
fn group(records: &Records) -> Vec<(Name, Vec<Vec<Record<'_>>>)> {
    let mut owners: Vec<(Name, Vec<Vec<Record<'_>>>)> = Vec::new();
    let mut index_of: HashMap<Name, usize> = HashMap::new();
    for record in records.iter() {
        let name = record.owner_name();
        let index = *index_of.entry(name.clone()).or_insert_with(|| {
            owners.push((name, Vec::new()));
            owners.len() - 1
        });
        let rrsets = &mut owners[index].1;
        match rrsets.iter_mut().find(|records| records[0].rtype == record.rtype) {
            Some(records) => records.push(record),
            None => rrsets.push(vec![record]),
        }
    }
    owners
}

fn most_common_ttl(records: &Records) -> u32 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for record in records.iter() {
        *counts.entry(record.ttl).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(ttl, count)| (count, ttl)).map_or(3600, |(ttl, _)| ttl)
}

fn write_soa(record: &Record<'_>, default_ttl: u32, out: &mut String) -> std::fmt::Result {
    let text = rdata::print(Rtype::SOA, record.rdata);
    let fields: Vec<&str> = text.split(' ').collect();
    let [primary, contact, serial, refresh, retry, expire, negative_ttl] = fields[..] else { return Ok(()) };
    let ttl = if record.ttl == default_ttl { String::new() } else { format!(", ttl: {}", record.ttl) };
    // A serial of 0 is one that nobody chose.
    let serial = if serial == "0" { String::new() } else { format!(", serial: {serial}") };
    writeln!(
        out,
        "soa: {{ primary: {}, contact: {}{serial}, refresh: {refresh}, retry: {retry}, expire: {expire}, negative_ttl: {negative_ttl}{ttl} }}",
        quote(primary),
        quote(contact),
    )
}

fn write_rrset(records: &[Record<'_>], default_ttl: u32, out: &mut String) -> std::fmt::Result {
    let data: Vec<String> = records.iter().map(|record| quote(&print(record))).collect();
    let data = if data.len() == 1 { data.concat() } else { format!("[{}]", data.join(", ")) };
    // One TTL an RRset (RFC 2181 5.2).
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(default_ttl);
    let rtype = records[0].rtype;
    if ttl == default_ttl {
        writeln!(out, "    {rtype}: {data}")
    } else {
        writeln!(out, "    {rtype}: {{ ttl: {ttl}, data: {data} }}")
    }
}

/// Presentation format, but a text of plain characters as it reads.
fn print(record: &Record<'_>) -> String {
    if record.rtype == Rtype::TXT
        && let Some(text) = plain_text(record.rdata)
    {
        return text;
    }
    rdata::print(record.rtype, record.rdata)
}

/// The text of a TXT record that would be read back as the same octets.
fn plain_text(octets: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut rest = octets;
    while let Some((&length, after)) = rest.split_first() {
        let (part, after) = after.split_at_checked(usize::from(length))?;
        text.push_str(std::str::from_utf8(part).ok().filter(|part| part.bytes().all(|octet| octet >= 0x20))?);
        rest = after;
    }
    let reads_back = !text.starts_with('"') && !text.starts_with("\\#") && !text.is_empty();
    (reads_back && rdata::text_to_strings(&text) == octets).then_some(text)
}

/// A YAML scalar that is read back as this text, in flow style too.
#[must_use]
pub fn quote(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-' | ' ' | '+' | '=');
    let first_is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_word = matches!(text, "null" | "true" | "false");
    if first_is_plain && !is_word && !text.ends_with(' ') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
