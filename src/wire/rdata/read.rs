//! Presentation format -> wire format.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXLOWER_PERMISSIVE};

use super::svcb;
use super::words::{Word, Words};
use super::{Field, RdataError, fields};
use crate::wire::{Name, Rtype};

/// Reads the RDATA of a type. Relative names are completed by `origin`.
///
/// # Errors
/// The first word that does not fit.
pub fn parse(rtype: Rtype, text: &str, origin: &Name) -> Result<Vec<u8>, RdataError> {
    let mut words = Words::new(text);
    if text.trim_start().starts_with("\\#") {
        return parse_unknown(rtype, &mut words);
    }
    let Some(fields) = fields(rtype) else {
        let text = format!("{rtype} has no format of its own here: write it as \\# LENGTH HEX (RFC 3597)");
        return Err(RdataError { offset: 0, text });
    };
    let mut reader = Reader { words, origin, out: Vec::new(), rtype };
    for &field in fields {
        reader.read(field)?;
    }
    if let Some(word) = reader.words.next()? {
        return Err(word.error(format!("\"{}\" is more than {rtype} takes", word.raw)));
    }
    if reader.out.len() > usize::from(u16::MAX) {
        return Err(RdataError { offset: 0, text: "more than 65,535 octets".to_owned() });
    }
    Ok(reader.out)
}

/// Whether octets are well-formed RDATA of a type, without compression.
///
/// # Errors
/// When they are not; the offset is of no use then.
pub fn check(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    let Some(fields) = fields(rtype) else { return Ok(()) };
    let error = || RdataError { offset: 0, text: format!("the octets are no {rtype} RDATA") };
    let mut at = 0;
    for field in fields {
        let length = field.length(&rdata[at..]).ok_or_else(error)?;
        if !is_well_formed(*field, &rdata[at..at + length]) {
            return Err(error());
        }
        at += length;
    }
    if at == rdata.len() { Ok(()) } else { Err(error()) }
}

fn is_well_formed(field: Field, octets: &[u8]) -> bool {
    match field {
        Field::Texts => {
            let mut rest = octets;
            while let Some((&length, after)) = rest.split_first() {
                let Some(after) = after.get(usize::from(length)..) else { return false };
                rest = after;
            }
            !octets.is_empty()
        }
        Field::TypeBitmap => read_bitmap(octets).is_some(),
        Field::SvcParams => svcb::is_well_formed(octets),
        Field::AddressPrefixes => super::print::address_prefixes(octets).is_some(),
        Field::IpsecGateway => super::print::ipsec_gateway(octets).is_some(),
        Field::AmtRelay => super::print::amt_relay(octets).is_some(),
        Field::HostIdentity => super::print::host_identity(octets).is_some(),
        Field::Location => super::print::location(octets).is_some(),
        Field::Tag => octets.len() > 1 && octets[1..].iter().all(u8::is_ascii_alphanumeric),
        _ => true,
    }
}

/// One text as character-strings, split at 255 octets: how SPF and DKIM are pasted.
#[must_use]
pub fn text_to_strings(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1);
    for part in text.as_bytes().chunks(255) {
        out.push(part.len() as u8);
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(0);
    }
    out
}

/// `\# LENGTH HEX...` (RFC 3597 5).
fn parse_unknown(rtype: Rtype, words: &mut Words<'_>) -> Result<Vec<u8>, RdataError> {
    words.expect("\\#")?;
    let length = words.expect("the length")?;
    let wanted: usize =
        length.raw.parse().map_err(|_| length.error("the length must be a number of octets"))?;
    let octets = hex(&words.rest()?)?;
    if octets.len() != wanted {
        return Err(length.error(format!("the length is {wanted}, but {} octets follow", octets.len())));
    }
    check(rtype, &octets).map_err(|error| length.error(error.text))?;
    Ok(octets)
}

/// Mnemonics of DNSSEC algorithms (IANA, "Domain Name System Security (DNSSEC) Algorithm Numbers").
const ALGORITHMS: [(&str, u8); 18] = [
    ("DELETE", 0),
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("SM2SM3", 17),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Mnemonics of certificate types (RFC 4398 2.1).
const CERTIFICATE_TYPES: [(&str, u16); 10] = [
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

struct Reader<'t> {
    words: Words<'t>,
    origin: &'t Name,
    out: Vec<u8>,
    rtype: Rtype,
}

impl<'t> Reader<'t> {
    fn read(&mut self, field: Field) -> Result<(), RdataError> {
        match field {
            Field::Name => self.read_name(),
            Field::U8 => self.read_number::<u8>(field).map(|n| self.out.push(n)),
            Field::U16 => self.read_number::<u16>(field).map(|n| self.put(&n.to_be_bytes())),
            Field::U32 => self.read_number::<u32>(field).map(|n| self.put(&n.to_be_bytes())),
            Field::Algorithm => self.read_named(&ALGORITHMS).map(|n: u8| self.out.push(n)),
            Field::CertificateType => {
                self.read_named(&CERTIFICATE_TYPES).map(|n: u16| self.put(&n.to_be_bytes()))
            }
            Field::Period => {
                let word = self.words.expect("a time in seconds")?;
                let seconds = parse_period(word.raw).ok_or_else(|| {
                    word.error(format!("\"{}\" is no time in seconds (or like 1h30m)", word.raw))
                })?;
                self.put(&seconds.to_be_bytes());
                Ok(())
            }
            Field::Time => self.read_time(),
            Field::Rtype => {
                let word = self.words.expect("a type")?;
                let rtype = Rtype::from_str(word.raw).map_err(|_| unknown_rtype(&word))?;
                self.put(&rtype.0.to_be_bytes());
                Ok(())
            }
            Field::V4 => self.read_address::<Ipv4Addr>("an IPv4 address").map(|a| self.put(&a.octets())),
            Field::V6 => self.read_address::<Ipv6Addr>("an IPv6 address").map(|a| self.put(&a.octets())),
            Field::Text => {
                let word = self.words.expect("a text")?;
                self.put_string(&word)
            }
            Field::Tag => {
                let word = self.words.expect("a tag such as issue")?;
                if word.raw.is_empty() || !word.raw.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
                    return Err(word.error("a tag is made of letters and digits, such as issue"));
                }
                self.put_string(&word)
            }
            Field::Texts => {
                let first = self.words.expect("a text")?;
                self.put_string(&first)?;
                for word in self.words.rest()? {
                    self.put_string(&word)?;
                }
                Ok(())
            }
            Field::RestText => {
                let octets = self.words.expect("a text")?.octets()?;
                self.put(&octets);
                Ok(())
            }
            Field::Hex => {
                let octets = hex(&self.words.rest()?)?;
                self.put(&octets);
                Ok(())
            }
            Field::Base64 => {
                let words = self.words.rest()?;
                let octets = base64(&words)?;
                self.put(&octets);
                Ok(())
            }
            Field::Salt => {
                let word = self.words.expect("a salt, or -")?;
                let octets = if word.raw == "-" { Vec::new() } else { hex(&[word])? };
                self.put_counted(&octets, &word)
            }
            Field::Hash => {
                let word = self.words.expect("a hash")?;
                let octets =
                    BASE32HEX_NOPAD.decode(word.raw.to_ascii_uppercase().as_bytes()).map_err(|_| {
                        word.error("a hash is written in base 32 with the digits 0 to 9 and a to v")
                    })?;
                self.put_counted(&octets, &word)
            }
            Field::TypeBitmap => self.read_bitmap(),
            Field::SvcParams => {
                let alias = self.out.starts_with(&[0, 0]);
                let words = self.words.rest()?;
                svcb::parse(&words, alias, &mut self.out)
            }
            Field::Location => self.read_location(),
            Field::AddressPrefixes => self.read_address_prefixes(),
            Field::IpsecGateway => self.read_ipsec_gateway(),
            Field::AmtRelay => self.read_amt_relay(),
            Field::HostIdentity => self.read_host_identity(),
            Field::Eui(count) => self.read_groups(usize::from(count), '-', 2),
            Field::Locator64 => self.read_groups(4, ':', 4),
        }
    }

    fn put(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    fn put_counted(&mut self, octets: &[u8], word: &Word<'_>) -> Result<(), RdataError> {
        let length = u8::try_from(octets.len()).map_err(|_| {
            word.error(format!("a text of {} octets; at most 255 fit, write several texts", octets.len()))
        })?;
        self.out.push(length);
        self.put(octets);
        Ok(())
    }

    fn put_string(&mut self, word: &Word<'_>) -> Result<(), RdataError> {
        let octets = word.octets()?;
        self.put_counted(&octets, word)
    }

    fn read_name(&mut self) -> Result<(), RdataError> {
        let word = self.words.expect("a name")?;
        let name = Name::parse(word.raw, Some(self.origin)).map_err(|error| word.error(error.to_string()))?;
        self.put(name.wire());
        Ok(())
    }

    fn read_number<N: FromStr + Into<u64>>(&mut self, field: Field) -> Result<N, RdataError> {
        let most = match field {
            Field::U8 => u64::from(u8::MAX),
            Field::U16 => u64::from(u16::MAX),
            _ => u64::from(u32::MAX),
        };
        let word = self.words.expect(&format!("a number from 0 to {most} of {}", self.rtype))?;
        let digits_only = word.raw.bytes().all(|octet| octet.is_ascii_digit());
        let number = word.raw.parse().ok().filter(|_| digits_only && !word.is_quoted);
        number.ok_or_else(|| word.error(format!("\"{}\" is no number from 0 to {most}", shorten(word.raw))))
    }

    /// A number, or one of its mnemonics.
    fn read_named<N: FromStr + Copy>(&mut self, names: &[(&str, N)]) -> Result<N, RdataError> {
        let word = self.words.expect("a number or its mnemonic")?;
        let named =
            names.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.raw)).map(|(_, number)| *number);
        named.or_else(|| word.raw.parse().ok()).ok_or_else(|| {
            let hint = crate::finding::did_you_mean(word.raw, names.iter().map(|(name, _)| *name));
            word.error(format!("\"{}\" is no number and no mnemonic{hint}", shorten(word.raw)))
        })
    }

    fn read_address<A: FromStr>(&mut self, what: &str) -> Result<A, RdataError> {
        let word = self.words.expect(what)?;
        word.raw.parse().map_err(|_| word.error(format!("\"{}\" is not {what}", shorten(word.raw))))
    }

    fn read_time(&mut self) -> Result<(), RdataError> {
        let word = self.words.expect("a time as YYYYMMDDHHmmSS")?;
        let seconds = match word.raw.len() {
            14 => seconds_of(word.raw),
            _ => word.raw.parse().ok(),
        };
        let seconds = seconds.ok_or_else(|| word.error("a time is written as YYYYMMDDHHmmSS, in UTC"))?;
        self.put(&seconds.to_be_bytes());
        Ok(())
    }

    fn read_bitmap(&mut self) -> Result<(), RdataError> {
        let mut types = Vec::new();
        for word in self.words.rest()? {
            types.push(Rtype::from_str(word.raw).map_err(|_| unknown_rtype(&word))?.0);
        }
        types.sort_unstable();
        types.dedup();
        for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
            let mut bits = [0; 32];
            for rtype in window {
                let low = usize::from(rtype & 0xff);
                bits[low / 8] |= 0x80 >> (low % 8);
            }
            let length = bits.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
            self.put(&[(window[0] >> 8) as u8, length as u8]);
            self.put(&bits[..length]);
        }
        Ok(())
    }

    fn read_groups(&mut self, count: usize, separator: char, digits: usize) -> Result<(), RdataError> {
        let word = self.words.expect("groups of hexadecimal digits")?;
        let groups: Vec<&str> = word.raw.split(separator).collect();
        let fits = |group: &&str| {
            (1..=digits).contains(&group.len()) && group.bytes().all(|o| o.is_ascii_hexdigit())
        };
        if groups.len() != count || !groups.iter().all(fits) {
            let text = format!(
                "{count} groups of {digits} hexadecimal digits with {separator} between are expected"
            );
            return Err(word.error(text));
        }
        for group in groups {
            let number = u16::from_str_radix(group, 16).unwrap_or(0);
            if digits == 2 {
                self.out.push(number as u8);
            } else {
                self.put(&number.to_be_bytes());
            }
        }
        Ok(())
    }

    /// `d1 [m1 [s1]] N|S d2 [m2 [s2]] E|W alt[m] [size[m] [hp[m] [vp[m]]]]` (RFC 1876 3).
    fn read_location(&mut self) -> Result<(), RdataError> {
        let latitude = self.read_angle(90, "N", "S")?;
        let longitude = self.read_angle(180, "E", "W")?;
        let word = self.words.expect("an altitude such as 10m")?;
        let altitude = centimetres(&word)? + 10_000_000;
        let altitude = u32::try_from(altitude).map_err(|_| word.error("the altitude is out of range"))?;
        let mut precisions = [0x12, 0x16, 0x13]; // 1 m, 10 km, 10 m: RFC 1876 3
        for precision in &mut precisions {
            let Some(word) = self.words.next()? else { break };
            *precision =
                precision_octet(centimetres(&word)?).ok_or_else(|| word.error("at most 90000000m"))?;
        }
        self.put(&[0]);
        self.put(&precisions);
        for number in [latitude, longitude, altitude] {
            self.put(&number.to_be_bytes());
        }
        Ok(())
    }

    fn read_angle(&mut self, most: u32, positive: &str, negative: &str) -> Result<u32, RdataError> {
        let mut parts = [0.0_f64; 3];
        for index in 0..4 {
            let word = self.words.expect(&format!("degrees and {positive} or {negative}"))?;
            let sign = match word.raw {
                letter if letter.eq_ignore_ascii_case(positive) => 1.0,
                letter if letter.eq_ignore_ascii_case(negative) => -1.0,
                number => {
                    let value: Option<f64> =
                        number.parse().ok().filter(|value: &f64| (0.0..=180.0).contains(value));
                    let place = parts.get_mut(index);
                    let (Some(value), Some(place)) = (value, place) else {
                        return Err(word.error(format!(
                            "\"{}\": degrees, minutes, seconds, then {positive} or {negative}",
                            shorten(number)
                        )));
                    };
                    *place = value;
                    continue;
                }
            };
            let [degrees, minutes, seconds] = parts;
            let angle = (degrees * 3600.0 + minutes * 60.0 + seconds) * 1000.0;
            if index == 0 || minutes >= 60.0 || seconds >= 60.0 || angle > f64::from(most) * 3_600_000.0 {
                return Err(word.error(format!("an angle of at most {most} degrees is expected")));
            }
            return Ok((f64::from(1_u32 << 31) + sign * angle.round()) as u32);
        }
        Err(RdataError { offset: 0, text: format!("{positive} or {negative} is missing") })
    }

    /// `[!]family:address/prefix ...` (RFC 3123 5).
    fn read_address_prefixes(&mut self) -> Result<(), RdataError> {
        for word in self.words.rest()? {
            let malformed = || {
                word.error(format!(
                    "\"{}\" is not like 1:192.0.2.0/24 or !2:2001:db8::/32",
                    shorten(word.raw)
                ))
            };
            let (negated, rest) = word.raw.strip_prefix('!').map_or((0, word.raw), |rest| (0x80, rest));
            let (family, rest) = rest.split_once(':').ok_or_else(malformed)?;
            let (address, prefix) = rest.split_once('/').ok_or_else(malformed)?;
            let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
            let (family, octets, longest): (u16, Vec<u8>, u8) = match family {
                "1" => (1, address.parse::<Ipv4Addr>().map_err(|_| malformed())?.octets().to_vec(), 32),
                "2" => (2, address.parse::<Ipv6Addr>().map_err(|_| malformed())?.octets().to_vec(), 128),
                _ => return Err(malformed()),
            };
            if prefix > longest {
                return Err(malformed());
            }
            let length = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
            self.put(&family.to_be_bytes());
            self.put(&[prefix, negated | length as u8]);
            self.put(&octets[..length]);
        }
        Ok(())
    }

    fn read_ipsec_gateway(&mut self) -> Result<(), RdataError> {
        let precedence = self.read_number::<u8>(Field::U8)?;
        let kind = self.read_number::<u8>(Field::U8)?;
        let algorithm = self.read_number::<u8>(Field::U8)?;
        self.put(&[precedence, kind, algorithm]);
        self.read_gateway(kind)?;
        let words = self.words.rest()?;
        let key = base64(&words)?;
        self.put(&key);
        Ok(())
    }

    fn read_amt_relay(&mut self) -> Result<(), RdataError> {
        let precedence = self.read_number::<u8>(Field::U8)?;
        let discovery = self.read_number::<u8>(Field::U8)?;
        let word = self.words.expect("the type of the relay")?;
        let kind: u8 = word
            .raw
            .parse()
            .ok()
            .filter(|kind| *kind <= 3)
            .ok_or_else(|| word.error("a type from 0 to 3"))?;
        if discovery > 1 {
            return Err(word.error("the discovery-optional bit is 0 or 1"));
        }
        self.put(&[precedence, discovery << 7 | kind]);
        self.read_gateway(kind)
    }

    fn read_gateway(&mut self, kind: u8) -> Result<(), RdataError> {
        match kind {
            0 => {
                let word = self.words.expect("a gateway, . for none")?;
                if word.raw == "." {
                    Ok(())
                } else {
                    Err(word.error("gateway type 0 goes with . as gateway"))
                }
            }
            1 => self.read(Field::V4),
            2 => self.read(Field::V6),
            3 => self.read(Field::Name),
            _ => Err(RdataError { offset: 0, text: "the gateway's type is 0, 1, 2 or 3".to_owned() }),
        }
    }

    fn read_host_identity(&mut self) -> Result<(), RdataError> {
        let algorithm = self.read_number::<u8>(Field::U8)?;
        let hit_word = self.words.expect("a host identity tag")?;
        let hit = hex(&[hit_word])?;
        let key_word = self.words.expect("a public key")?;
        let key = base64(&[key_word])?;
        // Either in quotes may be nothing at all (RFC 8005 5).
        for (octets, word) in [(&hit, hit_word), (&key, key_word)] {
            if octets.is_empty() {
                return Err(word.error("HIP has a host identity tag and a public key"));
            }
        }
        let hit_length = u8::try_from(hit.len()).map_err(|_| hit_word.error("at most 255 octets"))?;
        let key_length = u16::try_from(key.len()).map_err(|_| key_word.error("at most 65,535 octets"))?;
        self.put(&[hit_length, algorithm]);
        self.put(&key_length.to_be_bytes());
        self.put(&hit);
        self.put(&key);
        for word in self.words.rest()? {
            let name =
                Name::parse(word.raw, Some(self.origin)).map_err(|error| word.error(error.to_string()))?;
            self.put(name.wire());
        }
        Ok(())
    }
}

/// The types in a bitmap; none if it is malformed.
pub(super) fn read_bitmap(mut octets: &[u8]) -> Option<Vec<Rtype>> {
    let mut types = Vec::new();
    let mut last_window = None;
    while let Some((head, rest)) = octets.split_at_checked(2) {
        let (window, length) = (head[0], usize::from(head[1]));
        let (bits, rest) = rest.split_at_checked(length)?;
        if !(1..=32).contains(&length) || last_window.is_some_and(|last| last >= window) {
            return None;
        }
        for (index, octet) in bits.iter().enumerate() {
            let set = (0..8).filter(|bit| octet & (0x80 >> bit) != 0);
            types.extend(set.map(|bit| Rtype(u16::from(window) << 8 | (index * 8 + bit) as u16)));
        }
        last_window = Some(window);
        octets = rest;
    }
    octets.is_empty().then_some(types)
}

/// Seconds, with or without the units w, d, h, m and s (`1h30m`).
#[must_use]
pub fn parse_period(text: &str) -> Option<u32> {
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for octet in text.bytes() {
        if octet.is_ascii_digit() {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(octet - b'0'))?);
            continue;
        }
        let unit = match octet.to_ascii_lowercase() {
            b'w' => 604_800,
            b'd' => 86_400,
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        // `1h30` is more likely a slip than 30 seconds.
        Some(_) if total > 0 => None,
        Some(seconds) => u32::try_from(seconds).ok(),
        None if text.is_empty() => None,
        None => u32::try_from(total).ok(),
    }
}

fn unknown_rtype(word: &Word<'_>) -> RdataError {
    let hint = crate::finding::did_you_mean(word.raw, Rtype::mnemonics());
    word.error(format!("\"{}\" is no type{hint}", shorten(word.raw)))
}

/// So that a mistake of a megabyte makes no message of a megabyte.
fn shorten(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &word[..end]),
        None => word.to_owned(),
    }
}

fn hex(words: &[Word<'_>]) -> Result<Vec<u8>, RdataError> {
    let digits: String = words.iter().map(|word| word.raw).collect();
    let error = || RdataError {
        offset: words.first().map_or(0, |word| word.offset),
        text: "an even number of hexadecimal digits is expected".to_owned(),
    };
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| error())
}

fn base64(words: &[Word<'_>]) -> Result<Vec<u8>, RdataError> {
    let digits: String = words.iter().map(|word| word.raw).collect();
    let error = || RdataError {
        offset: words.first().map_or(0, |word| word.offset),
        text: "base 64 is expected, padded with = to a multiple of four".to_owned(),
    };
    BASE64.decode(digits.as_bytes()).map_err(|_| error())
}

/// `YYYYMMDDHHmmSS` in UTC -> seconds since 1970, modulo 2^32 (RFC 4034 3.1.5).
fn seconds_of(text: &str) -> Option<u32> {
    if !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
        || year < 1970
    {
        return None;
    }
    Some(
        ((days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second) & 0xffff_ffff)
            as u32,
    )
}

/// Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `12.34m` or `12.34` -> centimetres.
fn centimetres(word: &Word<'_>) -> Result<i64, RdataError> {
    let number = word.raw.strip_suffix(['m', 'M']).unwrap_or(word.raw);
    let metres: Option<f64> =
        number.parse().ok().filter(|metres: &f64| (-100_000.0..=90_000_000.0).contains(metres));
    metres
        .map(|metres| (metres * 100.0).round() as i64)
        .ok_or_else(|| word.error(format!("\"{}\" is no length in metres", shorten(word.raw))))
}

/// Mantissa and power of ten in four bits each (RFC 1876 2).
fn precision_octet(centimetres: i64) -> Option<u8> {
    let mut mantissa = u64::try_from(centimetres).ok()?;
    let mut exponent = 0;
    while mantissa > 9 {
        mantissa /= 10;
        exponent += 1;
    }
    (exponent <= 9).then_some((mantissa as u8) << 4 | exponent)
}
