//! SvcParams of SVCB and HTTPS (RFC 9460 2.1, 2.2, 7; appendix A).

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;

use super::RdataError;
use super::words::{Word, escape_into, unescape};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
/// Of IPv4 addresses (RFC 9460 7.3).
pub const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
/// Of IPv6 addresses (RFC 9460 7.3).
pub const IPV6HINT: u16 = 6;
const OHTTP: u16 = 8;

const KEYS: [(&str, u16); 9] = [
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6HINT),
    ("dohpath", 7),
    ("ohttp", OHTTP),
];

/// Reads the params after priority and target; in AliasMode there are none to be used (2.4.2).
pub(super) fn parse(words: &[Word<'_>], alias: bool, out: &mut Vec<u8>) -> Result<(), RdataError> {
    let mut params: Vec<(u16, Vec<u8>, &Word<'_>)> = Vec::new();
    for word in words {
        if alias {
            return Err(word.error("priority 0 is an alias and takes no parameters"));
        }
        let (key, value) = match word.raw.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word.raw, None),
        };
        let number = key_number(key).ok_or_else(|| {
            let hint = crate::finding::did_you_mean(key, KEYS.iter().map(|(name, _)| *name));
            word.error(format!("\"{key}\" is no parameter{hint}"))
        })?;
        if params.iter().any(|(known, ..)| *known == number) {
            return Err(word.error(format!("{key} stands here twice")));
        }
        let value =
            if is_known(key) { parse_value(number, value, word)? } else { wire_value(number, value, word)? };
        params.push((number, value, word));
    }
    params.sort_by_key(|(number, ..)| *number);
    check_mandatory(&params)?;
    for (number, value, word) in params {
        let length = u16::try_from(value.len()).map_err(|_| word.error("more than 65,535 octets"))?;
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

/// `keyNNNNN` takes the value as it goes on the wire, whatever is known of the key (RFC 9460 2.1).
fn wire_value(key: u16, value: Option<&str>, word: &Word<'_>) -> Result<Vec<u8>, RdataError> {
    let value = unquote(value.unwrap_or(""), word)?;
    if is_of_shape(key, &value) {
        Ok(value)
    } else {
        Err(word.error(format!("these octets are no value of {}", key_name(key))))
    }
}

fn unquote(value: &str, word: &Word<'_>) -> Result<Vec<u8>, RdataError> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    unescape(inner).ok_or_else(|| word.error("a backslash must be followed by a character or three digits"))
}

fn check_mandatory(params: &[(u16, Vec<u8>, &Word<'_>)]) -> Result<(), RdataError> {
    let has = |wanted: u16| params.iter().any(|(number, ..)| *number == wanted);
    for (number, value, word) in params {
        if *number == MANDATORY {
            for key in value.chunks_exact(2).map(|key| u16::from_be_bytes([key[0], key[1]])) {
                if !has(key) {
                    return Err(word.error(format!("{} is mandatory, but it is not here", key_name(key))));
                }
            }
        }
        if *number == NO_DEFAULT_ALPN && !has(ALPN) {
            return Err(word.error("no-default-alpn needs alpn beside it"));
        }
    }
    Ok(())
}

fn parse_value(key: u16, value: Option<&str>, word: &Word<'_>) -> Result<Vec<u8>, RdataError> {
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return match value {
            None => Ok(Vec::new()),
            Some(_) => Err(word.error(format!("{} takes no value", key_name(key)))),
        };
    }
    let value = unquote(value.unwrap_or(""), word)?;
    if value.is_empty() && key <= 7 {
        return Err(word.error(format!("{} needs a value", key_name(key))));
    }
    let items = || split_list(&value);
    let text = |item: &[u8]| String::from_utf8_lossy(item).into_owned();
    match key {
        MANDATORY => {
            let mut keys = Vec::new();
            for item in items() {
                let name = text(&item);
                match key_number(&name) {
                    Some(MANDATORY) => return Err(word.error("mandatory cannot name itself")),
                    Some(number) if keys.contains(&number) => {
                        return Err(word.error(format!("{name} stands here twice")));
                    }
                    Some(number) => keys.push(number),
                    None => return Err(word.error(format!("\"{name}\" is no parameter"))),
                }
            }
            keys.sort_unstable();
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        ALPN => {
            let mut out = Vec::new();
            for item in items() {
                let length = u8::try_from(item.len()).ok().filter(|length| *length > 0);
                out.push(length.ok_or_else(|| word.error("a protocol name has 1 to 255 octets"))?);
                out.extend_from_slice(&item);
            }
            Ok(out)
        }
        PORT => text(&value)
            .parse::<u16>()
            .map(|port| port.to_be_bytes().to_vec())
            .map_err(|_| word.error("port takes a number from 0 to 65535")),
        IPV4HINT => addresses(items(), |item| item.parse::<Ipv4Addr>().map(|a| a.octets().to_vec()).ok())
            .ok_or_else(|| word.error("ipv4hint takes IPv4 addresses with commas between")),
        IPV6HINT => addresses(items(), |item| item.parse::<Ipv6Addr>().map(|a| a.octets().to_vec()).ok())
            .ok_or_else(|| word.error("ipv6hint takes IPv6 addresses with commas between")),
        ECH => BASE64.decode(&value).map_err(|_| word.error("ech takes base 64")),
        _ => Ok(value),
    }
}

fn addresses(items: Vec<Vec<u8>>, parse: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for item in items {
        out.extend(parse(std::str::from_utf8(&item).ok()?)?);
    }
    Some(out)
}

/// A value list (appendix A.1): commas separate, a backslash before a comma or a backslash takes it as it is.
fn split_list(value: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut octets = value.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut().into_iter().for_each(|item| item.extend(octets.next())),
            _ => items.last_mut().into_iter().for_each(|item| item.push(octet)),
        }
    }
    items
}

fn is_known(name: &str) -> bool {
    KEYS.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn key_number(name: &str) -> Option<u16> {
    let known = KEYS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number);
    known.or_else(|| {
        let digits = name
            .strip_prefix("key")
            .filter(|digits| !digits.is_empty() && (*digits == "0" || !digits.starts_with('0')))?;
        digits.parse().ok().filter(|number| *number < u16::MAX)
    })
}

fn key_name(number: u16) -> String {
    KEYS.iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| format!("key{number}"), |(name, _)| (*name).to_owned())
}

fn is_of_shape(key: u16, value: &[u8]) -> bool {
    match key {
        MANDATORY => !value.is_empty() && value.len().is_multiple_of(2),
        ALPN => !value.is_empty() && strings(value).is_some(),
        NO_DEFAULT_ALPN | OHTTP => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6HINT => !value.is_empty() && value.len().is_multiple_of(16),
        _ => true,
    }
}

/// Where a param of some key would go into RDATA that is about its own owner: ServiceMode, with `.` as its target. None if it
/// is about another name, or has the param.
#[must_use]
pub fn place_of_param(rdata: &[u8], key: u16) -> Option<usize> {
    let [high, low, 0, params @ ..] = rdata else { return None };
    let is_alias = (*high, *low) == (0, 0);
    let mut rest = params;
    while let Some((number, _, after)) = next_param(rest).filter(|(number, ..)| *number <= key) {
        if number == key {
            return None;
        }
        rest = after;
    }
    (!is_alias).then_some(rdata.len() - rest.len())
}

/// Keys in strictly ascending order, values whole and of the right shape.
pub(super) fn is_well_formed(octets: &[u8]) -> bool {
    let mut last = None;
    let mut rest = octets;
    while !rest.is_empty() {
        let Some((number, value, after)) = next_param(rest) else { return false };
        if !is_of_shape(number, value) || last.is_some_and(|last| last >= number) {
            return false;
        }
        last = Some(number);
        rest = after;
    }
    true
}

fn next_param(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = octets.split_at_checked(4)?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
    Some((u16::from_be_bytes([head[0], head[1]]), value, rest))
}

fn strings(mut octets: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while let Some((&length, rest)) = octets.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(length))?;
        found.push(string);
        octets = rest;
    }
    Some(found)
}

/// Params as they are written, a space before each.
pub(super) fn print(octets: &[u8], text: &mut String) -> Option<()> {
    let mut rest = octets;
    while !rest.is_empty() {
        let (number, value, after) = next_param(rest)?;
        rest = after;
        text.push(' ');
        text.push_str(&key_name(number));
        let joined = |items: Vec<String>| items.join(",");
        let printed = match number {
            NO_DEFAULT_ALPN | OHTTP if value.is_empty() => continue,
            MANDATORY => joined(
                value.chunks_exact(2).map(|key| key_name(u16::from_be_bytes([key[0], key[1]]))).collect(),
            ),
            ALPN => {
                let items = strings(value)?.into_iter().map(|item| {
                    let listed: Vec<u8> = item
                        .iter()
                        .flat_map(|&octet| {
                            if matches!(octet, b',' | b'\\') { vec![b'\\', octet] } else { vec![octet] }
                        })
                        .collect();
                    let mut escaped = String::new();
                    escape_into(&mut escaped, &listed);
                    escaped
                });
                format!("\"{}\"", joined(items.collect()))
            }
            PORT => u16::from_be_bytes(value.try_into().ok()?).to_string(),
            IPV4HINT => joined(
                value.chunks_exact(4).map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3]).to_string()).collect(),
            ),
            IPV6HINT => joined(
                value
                    .chunks_exact(16)
                    .filter_map(|a| <[u8; 16]>::try_from(a).ok())
                    .map(|a| Ipv6Addr::from(a).to_string())
                    .collect(),
            ),
            ECH => BASE64.encode(value),
            _ if value.is_empty() => continue,
            _ => {
                let mut escaped = String::new();
                escape_into(&mut escaped, value);
                format!("\"{escaped}\"")
            }
        };
        text.push('=');
        text.push_str(&printed);
    }
    Some(())
}
