//! Wire format -> presentation format.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXUPPER};

use super::read::{parse, read_bitmap};
use super::words::escape_into;
use super::{Field, fields, svcb};
use crate::wire::{Name, Rtype};

/// Prints RDATA, in the form for unknown types where the type's own cannot say what the octets are: what is printed reads
/// back as the same octets.
#[must_use]
pub fn print(rtype: Rtype, rdata: &[u8]) -> String {
    fields(rtype)
        .and_then(|fields| print_fields(fields, rdata))
        .filter(|text| parse(rtype, text, &Name::root()).is_ok_and(|octets| octets == rdata))
        .unwrap_or_else(|| format!("\\# {} {}", rdata.len(), HEXUPPER.encode(rdata)).trim_end().to_owned())
}

fn print_fields(fields: &[Field], rdata: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut at = 0;
    for &field in fields {
        let length = field.length(&rdata[at..])?;
        let octets = &rdata[at..at + length];
        at += length;
        if field == Field::SvcParams {
            svcb::print(octets, &mut text)?;
            continue;
        }
        let printed = print_field(field, octets)?;
        if !text.is_empty() && !printed.is_empty() {
            text.push(' ');
        }
        text.push_str(&printed);
    }
    (at == rdata.len()).then_some(text)
}

fn print_field(field: Field, octets: &[u8]) -> Option<String> {
    Some(match field {
        Field::Name => Name::from_wire(octets).ok()?.to_string(),
        Field::U8 | Field::Algorithm => octets[0].to_string(),
        Field::U16 | Field::CertificateType => be16(octets)?.to_string(),
        Field::U32 | Field::Period => be32(octets)?.to_string(),
        Field::Time => civil(be32(octets)?),
        Field::Rtype => Rtype(be16(octets)?).to_string(),
        Field::V4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).to_string(),
        Field::V6 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string(),
        Field::Text => quoted(&octets[1..]),
        Field::Tag => {
            let tag = octets.get(1..)?;
            if tag.is_empty() || !tag.iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            String::from_utf8_lossy(tag).into_owned()
        }
        Field::Texts => {
            let mut texts = Vec::new();
            let mut rest = octets;
            while let Some((&length, after)) = rest.split_first() {
                let (text, after) = after.split_at_checked(usize::from(length))?;
                texts.push(quoted(text));
                rest = after;
            }
            (!texts.is_empty()).then(|| texts.join(" "))?
        }
        Field::RestText => quoted(octets),
        Field::Hex => HEXUPPER.encode(octets),
        Field::Base64 => BASE64.encode(octets),
        Field::Salt if octets.len() == 1 => "-".to_owned(),
        Field::Salt => HEXUPPER.encode(&octets[1..]),
        Field::Hash => BASE32HEX_NOPAD.encode(&octets[1..]),
        Field::TypeBitmap => {
            let types: Vec<String> = read_bitmap(octets)?.iter().map(Rtype::to_string).collect();
            types.join(" ")
        }
        Field::SvcParams => return None,
        Field::Location => location(octets)?,
        Field::AddressPrefixes => address_prefixes(octets)?,
        Field::IpsecGateway => ipsec_gateway(octets)?,
        Field::AmtRelay => amt_relay(octets)?,
        Field::HostIdentity => host_identity(octets)?,
        Field::Eui(_) => octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join("-"),
        Field::Locator64 => octets
            .chunks(2)
            .map(|group| format!("{:04x}", u16::from_be_bytes([group[0], group[1]])))
            .collect::<Vec<_>>()
            .join(":"),
    })
}

fn be16(octets: &[u8]) -> Option<u16> {
    octets.try_into().ok().map(u16::from_be_bytes)
}

fn be32(octets: &[u8]) -> Option<u32> {
    octets.try_into().ok().map(u32::from_be_bytes)
}

fn quoted(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    escape_into(&mut text, octets);
    text.push('"');
    text
}

/// Seconds since 1970 -> `YYYYMMDDHHmmSS`.
fn civil(seconds: u32) -> String {
    let (days, second) = (i64::from(seconds / 86_400), seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// RFC 1876 2.
pub(super) fn location(octets: &[u8]) -> Option<String> {
    let [0, size, horizontal, vertical, rest @ ..] = octets else { return None };
    let angle = |octets: &[u8], positive: char, negative: char| {
        let raw = i64::from(be32(octets)?) - (1 << 31);
        let sign = if raw < 0 { negative } else { positive };
        let milliseconds = raw.unsigned_abs();
        Some(format!(
            "{} {} {}.{:03} {sign}",
            milliseconds / 3_600_000,
            milliseconds / 60_000 % 60,
            milliseconds / 1000 % 60,
            milliseconds % 1000
        ))
    };
    let metres = |centimetres: i64| {
        let sign = if centimetres < 0 { "-" } else { "" };
        format!("{sign}{}.{:02}m", centimetres.abs() / 100, centimetres.abs() % 100)
    };
    let precision = |octet: u8| {
        let (mantissa, exponent) = (octet >> 4, octet & 15);
        (mantissa <= 9 && exponent <= 9)
            .then(|| metres(i64::from(mantissa) * 10_i64.pow(u32::from(exponent))))
    };
    Some(format!(
        "{} {} {} {} {} {}",
        angle(rest.get(..4)?, 'N', 'S')?,
        angle(rest.get(4..8)?, 'E', 'W')?,
        metres(i64::from(be32(rest.get(8..12)?)?) - 10_000_000),
        precision(*size)?,
        precision(*horizontal)?,
        precision(*vertical)?
    ))
}

/// RFC 3123 4.
pub(super) fn address_prefixes(mut octets: &[u8]) -> Option<String> {
    let mut items = Vec::new();
    while !octets.is_empty() {
        let (head, rest) = octets.split_at_checked(4)?;
        let length = usize::from(head[3] & 0x7f);
        let (address, rest) = rest.split_at_checked(length)?;
        octets = rest;
        let sign = if head[3] & 0x80 != 0 { "!" } else { "" };
        let prefix = head[2];
        if address.last() == Some(&0) {
            return None;
        }
        let mut whole = [0; 16];
        whole.get_mut(..length)?.copy_from_slice(address);
        items.push(match (u16::from_be_bytes([head[0], head[1]]), length) {
            (1, 0..=4) if prefix <= 32 => {
                format!("{sign}1:{}/{prefix}", Ipv4Addr::new(whole[0], whole[1], whole[2], whole[3]))
            }
            (2, _) if prefix <= 128 => format!("{sign}2:{}/{prefix}", Ipv6Addr::from(whole)),
            _ => return None,
        });
    }
    Some(items.join(" "))
}

/// RFC 4025 2.
pub(super) fn ipsec_gateway(octets: &[u8]) -> Option<String> {
    let [precedence, kind, algorithm, rest @ ..] = octets else { return None };
    let (gateway, key) = gateway(*kind, rest)?;
    Some(format!("{precedence} {kind} {algorithm} {gateway} {}", BASE64.encode(key)).trim_end().to_owned())
}

/// RFC 8777 4.2.
pub(super) fn amt_relay(octets: &[u8]) -> Option<String> {
    let [precedence, kind, rest @ ..] = octets else { return None };
    let (relay, rest) = gateway(kind & 0x7f, rest)?;
    rest.is_empty().then(|| format!("{precedence} {} {} {relay}", kind >> 7, kind & 0x7f))
}

fn gateway(kind: u8, octets: &[u8]) -> Option<(String, &[u8])> {
    match kind {
        0 => Some((".".to_owned(), octets)),
        1 => octets
            .split_at_checked(4)
            .and_then(|(address, rest)| Some((print_field(Field::V4, address)?, rest))),
        2 => octets
            .split_at_checked(16)
            .and_then(|(address, rest)| Some((print_field(Field::V6, address)?, rest))),
        3 => {
            let name = Name::first_of(octets).ok()?;
            Some((name.to_string(), &octets[name.wire().len()..]))
        }
        _ => None,
    }
}

/// RFC 8005 5.
pub(super) fn host_identity(octets: &[u8]) -> Option<String> {
    let (head, rest) = octets.split_at_checked(4)?;
    let (hit, rest) = rest.split_at_checked(usize::from(head[0]))?;
    let (key, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
    if hit.is_empty() || key.is_empty() {
        return None;
    }
    let mut text = format!("{} {} {}", head[1], HEXUPPER.encode(hit), BASE64.encode(key));
    while !rest.is_empty() {
        let name = Name::first_of(rest).ok()?;
        rest = &rest[name.wire().len()..];
        let _ = write!(text, " {name}");
    }
    Some(text)
}
