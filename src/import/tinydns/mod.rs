//! The data of tinydns: a line a record, told by its first letter, fields between colons.
//!
//! Lines with a location are answered to clients of that location only: their owner is steered, each location is a site.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Imported, Zone, leave_out};
use crate::finding::{At, Findings, Source};
use crate::wire::{Name, Rtype, rdata};

mod locations;

/// What lines begin with.
pub(super) const LINES: [char; 14] = ['.', '&', '=', '+', '@', '-', '\'', '^', 'C', 'Z', ':', '%', '3', '6'];

/// Seconds, where a line says nothing.
const TTL_OF_SOA: u32 = 2560;
const TTL_OF_NS: u32 = 259_200;
const TTL: u32 = 86_400;

/// Reads all lines. Zones are those of which a line says that they are.
pub fn read(source: &Arc<Source>, imported: &mut Imported, findings: &mut Findings) {
    let mut reader = Reader { lines: Vec::new(), locations: Vec::new(), findings };
    for (index, text) in source.text.lines().enumerate() {
        reader.read_line(text, &At::new(source, index as u32 + 1, 1));
    }
    let Reader { lines, locations, findings } = reader;
    let mut zones: Vec<Zone> = Vec::new();
    for line in lines.iter().filter(|line| line.rtype == Rtype::SOA) {
        if !zones.iter().any(|zone| zone.apex == line.owner) {
            zones.push(Zone::new(line.owner.clone()));
        }
    }
    let numbers: HashMap<Name, usize> =
        zones.iter().enumerate().map(|(number, zone)| (zone.apex.to_lowercase(), number)).collect();
    let mut located: Vec<(usize, &Line)> = Vec::new();
    let is_located: HashSet<(Name, Rtype)> = lines
        .iter()
        .filter(|line| line.location.is_some())
        .map(|line| (line.owner.to_lowercase(), line.rtype))
        .collect();
    for line in &lines {
        let Some(number) = zone_of(&line.owner, &numbers) else {
            // Nobody can ask this server for the reverse of an address whose zone is elsewhere.
            if !line.is_reverse {
                leave_out(
                    findings,
                    &line.at,
                    format!("{} is in no zone that a line here begins with . or Z", line.owner),
                );
            }
            continue;
        };
        if !is_located.contains(&(line.owner.to_lowercase(), line.rtype)) {
            zones[number].push(&line.owner, line.rtype, line.ttl, &line.octets, &line.at, findings);
        } else if crate::site::read::belongs_to_a_site(line.rtype) {
            located.push((number, line));
        } else {
            leave_out(findings, &line.at, format!("{} records for one location only", line.rtype));
        }
    }
    locations::steer(&located, &locations, &mut zones, imported, findings);
    imported.zones.extend(zones);
}

/// A record as it was written.
struct Line {
    owner: Name,
    rtype: Rtype,
    ttl: u32,
    octets: Vec<u8>,
    location: Option<String>,
    at: At,
    /// The other half of a `=` line.
    is_reverse: bool,
}

struct Reader<'a> {
    lines: Vec<Line>,
    /// Their names and the networks of their clients.
    locations: Vec<(String, String)>,
    findings: &'a mut Findings,
}

/// The fields of a line behind its letter.
struct Fields<'t> {
    fields: Vec<&'t str>,
    at: &'t At,
}

impl<'t> Fields<'t> {
    fn get(&self, index: usize) -> &'t str {
        self.fields.get(index).copied().unwrap_or_default()
    }
}

/// TTL, time stamp and location: the last three fields of every line.
#[derive(Clone)]
struct Tail {
    ttl: Option<u32>,
    location: Option<String>,
}

impl Reader<'_> {
    fn read_line(&mut self, text: &str, at: &At) {
        let text = text.trim_end();
        let Some(letter) = text.chars().next() else { return };
        if letter == '#' || letter == '-' {
            return;
        }
        if !LINES.contains(&letter) {
            leave_out(self.findings, at, format!("no line of tinydns begins with \"{letter}\""));
            return;
        }
        let line = Fields { fields: text[1..].split(':').collect(), at };
        let read = match letter {
            '%' => self.read_location(&line),
            '.' => self.read_name_server(&line, true),
            '&' => self.read_name_server(&line, false),
            '=' => self.read_address(&line, true),
            '+' => self.read_address(&line, false),
            '3' => self.read_address6(&line, false),
            '6' => self.read_address6(&line, true),
            '@' => self.read_exchange(&line),
            '\'' => self.read_text(&line),
            '^' => self.read_name_of(&line, Rtype::PTR),
            'C' => self.read_name_of(&line, Rtype::CNAME),
            'Z' => self.read_soa(&line),
            _ => self.read_generic(&line),
        };
        if let Err(why) = read {
            leave_out(self.findings, at, why);
        }
    }

    fn read_location(&mut self, line: &Fields<'_>) -> Result<(), String> {
        let name = line.get(0);
        let octets: Vec<&str> = line.get(1).split('.').filter(|octet| !octet.is_empty()).collect();
        if octets.len() > 4 || octets.iter().any(|octet| octet.parse::<u8>().is_err()) {
            return Err(format!("\"{}\" is no beginning of an IPv4 address", line.get(1)));
        }
        let length = octets.len() * 8;
        let padded: Vec<&str> = octets.into_iter().chain(["0"; 4]).take(4).collect();
        self.locations.push((name.to_owned(), format!("{}/{length}", padded.join("."))));
        Ok(())
    }

    fn read_name_server(&mut self, line: &Fields<'_>, is_zone: bool) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let server = server_name(line.get(2), "ns", &owner)?;
        let tail = self.tail(line, 3)?;
        if is_zone {
            let contact = owner.child(b"hostmaster").map_err(|error| error.to_string())?;
            let text = format!("{server} {contact} 0 16384 2048 1048576 2560");
            let ttl = if tail.ttl == Some(0) { 0 } else { TTL_OF_SOA };
            self.push(&owner, Rtype::SOA, &text, Tail { ttl: Some(ttl), ..tail.clone() }, ttl, line)?;
        }
        self.push(&owner, Rtype::NS, &server.to_string(), tail.clone(), TTL_OF_NS, line)?;
        self.push_address(&server, line.get(1), tail, TTL_OF_NS, line)
    }

    fn read_address(&mut self, line: &Fields<'_>, is_host: bool) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let tail = self.tail(line, 2)?;
        let address: Ipv4Addr =
            line.get(1).parse().map_err(|_| format!("\"{}\" is no IPv4 address", line.get(1)))?;
        self.push_address(&owner, line.get(1), tail.clone(), TTL, line)?;
        if is_host {
            let [first, second, third, fourth] = address.octets();
            let reverse = name(&format!("{fourth}.{third}.{second}.{first}.in-addr.arpa"))?;
            self.push_reverse(&reverse, &owner, tail, line)?;
        }
        Ok(())
    }

    /// Of a patch that many have: 32 hexadecimal digits.
    fn read_address6(&mut self, line: &Fields<'_>, is_host: bool) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let digits = line.get(1);
        let number = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32);
        let address = Ipv6Addr::from(number.ok_or(format!("\"{digits}\" is not 32 hexadecimal digits"))?);
        let tail = self.tail(line, 2)?;
        self.push(&owner, Rtype::AAAA, &address.to_string(), tail.clone(), TTL, line)?;
        if is_host {
            let labels: Vec<String> =
                digits.chars().rev().map(|digit| digit.to_ascii_lowercase().to_string()).collect();
            let reverse = name(&format!("{}.ip6.arpa", labels.join(".")))?;
            self.push_reverse(&reverse, &owner, tail, line)?;
        }
        Ok(())
    }

    fn read_exchange(&mut self, line: &Fields<'_>) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let exchange = server_name(line.get(2), "mx", &owner)?;
        let preference = if line.get(3).is_empty() { "0" } else { line.get(3) };
        let tail = self.tail(line, 4)?;
        self.push(&owner, Rtype::MX, &format!("{preference} {exchange}"), tail.clone(), TTL, line)?;
        self.push_address(&exchange, line.get(1), tail, TTL, line)
    }

    fn read_text(&mut self, line: &Fields<'_>) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let tail = self.tail(line, 2)?;
        let octets = unescape(line.get(1));
        // As tinydns splits it.
        let mut strings: Vec<u8> = Vec::new();
        for part in octets.chunks(127) {
            strings.push(part.len() as u8);
            strings.extend(part);
        }
        if octets.is_empty() {
            strings.push(0);
        }
        self.push_octets(owner, Rtype::TXT, strings, tail, TTL, line);
        Ok(())
    }

    fn read_name_of(&mut self, line: &Fields<'_>, rtype: Rtype) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let target = name(line.get(1))?;
        let tail = self.tail(line, 2)?;
        self.push(&owner, rtype, &target.to_string(), tail, TTL, line)
    }

    fn read_soa(&mut self, line: &Fields<'_>) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let or = |index: usize, default: &str| match line.get(index) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let (primary, contact) = (name(line.get(1))?, name(line.get(2))?);
        let numbers = [or(3, "0"), or(4, "16384"), or(5, "2048"), or(6, "1048576"), or(7, "2560")].join(" ");
        let tail = self.tail(line, 8)?;
        self.push(&owner, Rtype::SOA, &format!("{primary} {contact} {numbers}"), tail, TTL_OF_SOA, line)
    }

    fn read_generic(&mut self, line: &Fields<'_>) -> Result<(), String> {
        let owner = name(line.get(0))?;
        let number: u16 =
            line.get(1).parse().map_err(|_| format!("\"{}\" is no type's number", line.get(1)))?;
        let rtype = Rtype(number);
        if rtype.is_meta() {
            return Err(format!("{rtype} is no type that records have"));
        }
        let tail = self.tail(line, 3)?;
        let octets = unescape(line.get(2));
        // What is no record of its type would be served as it is; here it is looked at.
        let generic = format!("\\# {} {}", octets.len(), data_encoding::HEXUPPER.encode(&octets));
        self.push(&owner, rtype, &generic, tail, TTL, line)
    }

    fn tail(&mut self, line: &Fields<'_>, first: usize) -> Result<Tail, String> {
        let ttl = match line.get(first) {
            "" => None,
            text => Some(text.parse::<u32>().map_err(|_| format!("\"{text}\" is no TTL"))?),
        };
        if !line.get(first + 1).is_empty() {
            return Err("a record that begins or ends at a time".to_owned());
        }
        let location = Some(line.get(first + 2)).filter(|location| !location.is_empty());
        if line.fields.len() > first + 3 {
            return Err(format!("more than {} fields", first + 3));
        }
        Ok(Tail { ttl, location: location.map(str::to_owned) })
    }

    fn push_address(
        &mut self,
        owner: &Name,
        address: &str,
        tail: Tail,
        ttl: u32,
        line: &Fields<'_>,
    ) -> Result<(), String> {
        if address.is_empty() {
            return Ok(());
        }
        self.push(owner, Rtype::A, address, tail, ttl, line)
    }

    fn push_reverse(
        &mut self,
        owner: &Name,
        target: &Name,
        tail: Tail,
        line: &Fields<'_>,
    ) -> Result<(), String> {
        self.push(owner, Rtype::PTR, &target.to_string(), tail, TTL, line)?;
        if let Some(line) = self.lines.last_mut() {
            line.is_reverse = true;
        }
        Ok(())
    }

    fn push(
        &mut self,
        owner: &Name,
        rtype: Rtype,
        text: &str,
        tail: Tail,
        ttl: u32,
        line: &Fields<'_>,
    ) -> Result<(), String> {
        let octets =
            rdata::parse(rtype, text, &Name::root()).map_err(|error| format!("{rtype}: {}", error.text))?;
        self.push_octets(owner.clone(), rtype, octets, tail, ttl, line);
        Ok(())
    }

    fn push_octets(
        &mut self,
        owner: Name,
        rtype: Rtype,
        octets: Vec<u8>,
        tail: Tail,
        ttl: u32,
        line: &Fields<'_>,
    ) {
        let ttl = tail.ttl.unwrap_or(ttl);
        let at = line.at.clone();
        self.lines.push(Line { owner, rtype, ttl, octets, location: tail.location, at, is_reverse: false });
    }
}

/// Names end with or without a dot, and `\052` is an octet.
fn name(text: &str) -> Result<Name, String> {
    let decoded = String::from_utf8(unescape(text)).map_err(|_| format!("\"{text}\" is no name"))?;
    Name::parse(&decoded, Some(&Name::root())).map_err(|error| format!("\"{text}\" is {error}"))
}

/// `a` is `a.ns.example.com`, a name with a dot is that name, and nothing is `ns.example.com`.
fn server_name(text: &str, kind: &str, owner: &Name) -> Result<Name, String> {
    let of_owner = |relative: &str| Name::parse(relative, Some(owner)).map_err(|error| error.to_string());
    match text {
        "" => of_owner(kind),
        text if text.contains('.') => name(text),
        text => of_owner(&format!("{text}.{kind}")),
    }
}

/// `\072` is the octet of three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits.filter(|_| first == b'\\') {
            Some(digits) => {
                octets.push(
                    digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &after[3..];
            }
            None => {
                octets.push(first);
                rest = after;
            }
        }
    }
    octets
}

/// The zone that a name is in: the one with the longest name.
fn zone_of(owner: &Name, numbers: &HashMap<Name, usize>) -> Option<usize> {
    let mut name = Some(owner.to_lowercase());
    while let Some(at) = name {
        if let Some(number) = numbers.get(&at) {
            return Some(*number);
        }
        name = at.parent();
    }
    None
}
