//! Whole messages, for people and tests: queries are made here, responses are read and printed as `dig` prints
//! them. Nothing on the query path comes this way.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::rdata;
use super::{Name, Rtype, number};

/// Mnemonics of RCODEs 0 to 10 (IANA).
pub const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];

/// A message that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// ID.
    pub id: u16,
    /// The third and fourth octet of the header.
    pub flags: u16,
    /// QNAME, QTYPE, QCLASS.
    pub questions: Vec<(Name, Rtype, u16)>,
    /// ANSWER, AUTHORITY, ADDITIONAL without the OPT.
    pub sections: [Vec<Record>; 3],
    /// What the OPT says, if there is one.
    pub edns: Option<Edns>,
}

/// One record of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its owner.
    pub owner: Name,
    /// Its type.
    pub rtype: Rtype,
    /// Its class.
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    /// In wire format without compression.
    pub rdata: Vec<u8>,
}

/// An OPT record.
#[derive(Clone, Debug, PartialEq)]
pub struct Edns {
    /// The largest UDP payload.
    pub udp_payload: u16,
    /// The upper bits of RCODE.
    pub extended_rcode: u8,
    /// EDNS version.
    pub version: u8,
    /// DO and what else there is.
    pub flags: u16,
    /// Codes and values.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Message {
    /// Reads a whole message; none when it is not well-formed.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader { bytes, at: 0 };
        let mut message = Message { id: reader.u16()?, flags: reader.u16()?, ..Message::default() };
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        for _ in 0..counts[0] {
            message.questions.push((reader.name()?, Rtype(reader.u16()?), reader.u16()?));
        }
        for (section, count) in counts[1..].iter().enumerate() {
            for _ in 0..*count {
                let record = reader.record()?;
                if record.rtype == Rtype::OPT {
                    message.edns = Some(Edns::read(&record)?);
                } else {
                    message.sections[section].push(record);
                }
            }
        }
        (reader.at == bytes.len()).then_some(message)
    }

    /// RCODE with its upper bits.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        self.flags & 0x0f | self.edns.as_ref().map_or(0, |edns| u16::from(edns.extended_rcode) << 4)
    }

    /// The answer section.
    #[must_use]
    pub fn answers(&self) -> &[Record] {
        &self.sections[0]
    }

    /// SCOPE PREFIX-LENGTH of the client subnet option, if there is one.
    #[must_use]
    pub fn scope(&self) -> Option<u8> {
        let options = &self.edns.as_ref()?.options;
        options.iter().find(|(code, _)| *code == 8).and_then(|(_, value)| value.get(3)).copied()
    }

    /// INFO-CODE of the first extended error, if there is one (RFC 8914).
    #[must_use]
    pub fn extended_error(&self) -> Option<u16> {
        let options = &self.edns.as_ref()?.options;
        let (_, value) = options.iter().find(|(code, value)| *code == 15 && value.len() >= 2)?;
        Some(u16::from_be_bytes([value[0], value[1]]))
    }

    /// As `dig` prints it, without the times and sizes that it adds.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = String::new();
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let flags = [(15, "qr"), (10, "aa"), (9, "tc"), (8, "rd"), (7, "ra"), (5, "ad"), (4, "cd")];
        let set: Vec<&str> =
            flags.iter().filter(|(bit, _)| self.flags >> bit & 1 != 0).map(|(_, name)| *name).collect();
        let opcode = match self.flags >> 11 & 0x0f {
            0 => "QUERY".to_owned(),
            4 => "NOTIFY".to_owned(),
            5 => "UPDATE".to_owned(),
            other => format!("RESERVED{other}"),
        };
        writeln!(
            out,
            ";; ->>HEADER<<- opcode: {opcode}, status: {}, id: {}",
            rcode_name(self.rcode()),
            self.id
        )?;
        let [answer, authority, additional] = [0, 1, 2].map(|section| self.sections[section].len());
        let additional = additional + usize::from(self.edns.is_some());
        writeln!(
            out,
            ";; flags: {}; QUERY: {}, ANSWER: {answer}, AUTHORITY: {authority}, ADDITIONAL: {additional}",
            set.join(" "),
            self.questions.len(),
        )?;
        if let Some(edns) = &self.edns {
            edns.write(out)?;
        }
        if !self.questions.is_empty() {
            writeln!(out, "\n;; QUESTION SECTION:")?;
            for (name, rtype, class) in &self.questions {
                writeln!(out, ";{name}\t{}\t{rtype}", class_name(*class))?;
            }
        }
        for (section, title) in self.sections.iter().zip(["ANSWER", "AUTHORITY", "ADDITIONAL"]) {
            if !section.is_empty() {
                writeln!(out, "\n;; {title} SECTION:")?;
            }
            for record in section {
                writeln!(out, "{record}")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = rdata::print(self.rtype, &self.rdata);
        write!(f, "{}\t{}\t{}\t{}\t{data}", self.owner, self.ttl, class_name(self.class), self.rtype)
    }
}

impl Edns {
    fn read(opt: &Record) -> Option<Edns> {
        let [extended_rcode, version, flags_high, flags_low] = opt.ttl.to_be_bytes();
        let mut options = Vec::new();
        let mut reader = Reader { bytes: &opt.rdata, at: 0 };
        while reader.at < opt.rdata.len() {
            let (code, length) = (reader.u16()?, reader.u16()?);
            options.push((code, reader.take(usize::from(length))?.to_vec()));
        }
        let flags = u16::from_be_bytes([flags_high, flags_low]);
        Some(Edns { udp_payload: opt.class, extended_rcode, version, flags, options })
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let flags = if self.flags & 0x8000 != 0 { " do" } else { "" };
        writeln!(out, "\n;; OPT PSEUDOSECTION:")?;
        writeln!(out, "; EDNS: version: {}, flags:{flags}; udp: {}", self.version, self.udp_payload)?;
        for (code, value) in &self.options {
            match (*code, value.as_slice()) {
                (8, [_, family, source, scope, address @ ..]) => {
                    let address = print_subnet_address(*family, address);
                    writeln!(out, "; CLIENT-SUBNET: {address}/{source}/{scope}")?;
                }
                (15, [high, low, text @ ..]) => {
                    let code = u16::from_be_bytes([*high, *low]);
                    let text = String::from_utf8_lossy(text);
                    let text = if text.is_empty() { String::new() } else { format!(": ({text})") };
                    writeln!(out, "; EDE: {code} ({}){text}", extended_error_name(code))?;
                }
                (code, value) => {
                    writeln!(out, "; OPT={code}: {}", data_encoding::HEXLOWER.encode(value))?;
                }
            }
        }
        Ok(())
    }
}

/// The first names of IANA's registry (RFC 8914 4), as far as we use them.
fn extended_error_name(code: u16) -> &'static str {
    match code {
        0 => "Other",
        14 => "Not Ready",
        15 => "Blocked",
        20 => "Not Authoritative",
        24 => "Invalid Data",
        _ => "Unknown",
    }
}

/// An RCODE's mnemonic.
#[must_use]
pub fn rcode_name(rcode: u16) -> String {
    match RCODES.get(usize::from(rcode)) {
        Some(name) => (*name).to_owned(),
        None if rcode == 16 => "BADVERS".to_owned(),
        None if rcode == 23 => "BADCOOKIE".to_owned(),
        None => format!("RCODE{rcode}"),
    }
}

fn class_name(class: u16) -> String {
    match class {
        number::IN => "IN".to_owned(),
        number::CH => "CH".to_owned(),
        number::CLASS_ANY => "ANY".to_owned(),
        other => format!("CLASS{other}"),
    }
}

fn print_subnet_address(family: u8, octets: &[u8]) -> String {
    let mut address = [0; 16];
    let given = octets.len().min(16);
    address[..given].copy_from_slice(&octets[..given]);
    let [a, b, c, d, ..] = address;
    match family {
        0 => "0".to_owned(),
        1 => Ipv4Addr::new(a, b, c, d).to_string(),
        _ => Ipv6Addr::from(address).to_string(),
    }
}

/// A query for a name and a type, with an OPT and a client subnet if one is given.
#[must_use]
pub fn query(name: &Name, qtype: Rtype, client_subnet: Option<IpNetwork>) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes[5] = 1;
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(&qtype.0.to_be_bytes());
    bytes.extend_from_slice(&number::IN.to_be_bytes());
    if let Some(subnet) = client_subnet {
        let (family, octets) = match subnet.network() {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (2, address.octets().to_vec()),
        };
        let octets = &octets[..usize::from(subnet.prefix()).div_ceil(8)];
        let length = octets.len() as u8;
        bytes[11] = 1;
        bytes.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 8 + length]);
        bytes.extend_from_slice(&[0, 8, 0, 4 + length, 0, family, subnet.prefix(), 0]);
        bytes.extend_from_slice(octets);
    }
    bytes
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    fn name(&mut self) -> Option<Name> {
        let mut wire = Vec::new();
        let after = self.expand(self.at, &mut wire)?;
        self.at = after;
        Name::from_wire(&wire).ok()
    }

    /// Writes the name that begins at `at` out in full; gives where the octets after it begin. Pointers lead
    /// backwards only, so that they come to an end.
    fn expand(&self, mut at: usize, wire: &mut Vec<u8>) -> Option<usize> {
        let mut after = None;
        let mut lowest = at;
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => {
                    wire.push(0);
                    return Some(after.unwrap_or(at + 1));
                }
                1..=63 => {
                    let end = at + 1 + usize::from(length);
                    wire.extend_from_slice(self.bytes.get(at..end)?);
                    at = end;
                }
                0xc0.. => {
                    let target = usize::from(length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    after.get_or_insert(at + 2);
                    if target >= lowest {
                        return None;
                    }
                    lowest = target;
                    at = target;
                }
                _ => return None,
            }
            if wire.len() > super::name::LONGEST {
                return None;
            }
        }
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let (rtype, class, ttl) = (Rtype(self.u16()?), self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let rdata = self.rdata(rtype, end)?;
        self.at = end;
        Some(Record { owner, rtype, class, ttl, rdata })
    }

    /// RDATA with its names written out; only types of RFC 1035 may have pointers in them (RFC 3597 4).
    fn rdata(&mut self, rtype: Rtype, end: usize) -> Option<Vec<u8>> {
        if !rdata::may_be_compressed(rtype) {
            return Some(self.bytes[self.at..end].to_vec());
        }
        let (fixed_before, names) = match rtype {
            Rtype::MX => (2, 1),
            Rtype::SOA | Rtype::MINFO => (0, 2),
            _ => (0, 1),
        };
        let mut octets = self.take(fixed_before)?.to_vec();
        for _ in 0..names {
            octets.extend_from_slice(self.name()?.wire());
        }
        (self.at <= end).then(|| octets.extend_from_slice(&self.bytes[self.at..end]))?;
        Some(octets)
    }
}
