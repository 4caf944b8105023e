//! dnstap: frame streams (as libfstrm writes them) of protobuf messages, as BIND, Knot, NSD, Unbound and dnsdist write them.
//!
//! Of a message five fields are needed, so that it is read here: `dnstap.proto` says which.

use std::io::{self, Read};
use std::net::IpAddr;

use super::{Questions, fill};

/// Octets of a frame: two messages of 65,535 octets, and all the rest.
const LONGEST: usize = 1 << 20;

/// Begins what is no data.
const ESCAPE: u32 = 0;
const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";

/// Control frames by which a stream begins: of a file, and of one that was recorded with what its reader said.
const START: u32 = 2;
const READY: u32 = 4;

/// `Dnstap.message`, and of it `type`, `query_address`, `query_message`.
const MESSAGE: u64 = 14;
const KIND: u64 = 1;
const QUERY_ADDRESS: u64 = 4;
const QUERY_MESSAGE: u64 = 10;

/// `AUTH_QUERY`, `RESOLVER_QUERY`, `CLIENT_QUERY`. The responses to them are written beside them, and are not counted again.
const QUERIES: [u64; 3] = [1, 3, 5];

pub(super) fn is_dnstap(head: &[u8]) -> bool {
    let numbers = head.as_chunks().0.iter().map(|octets| u32::from_be_bytes(*octets));
    matches!(numbers.collect::<Vec<_>>().as_slice(), [ESCAPE, _, START | READY])
}

pub(super) fn read(file: &mut impl Read, questions: &mut Questions<'_>) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let mut length = fill_length(file, &mut frame)?;
        if frame.is_empty() {
            return Ok(());
        }
        let is_data = length != Some(ESCAPE as usize);
        if !is_data {
            length = fill_length(file, &mut frame)?;
        }
        let length = length.filter(|length| *length <= LONGEST);
        if !matches!(length, Some(length) if fill(file, &mut frame, length)?) {
            questions.counts.is_cut_off = true;
            return Ok(());
        }
        if is_data {
            read_frame(&frame, questions);
        } else {
            check_content(&frame)?;
        }
    }
}

fn fill_length(file: &mut impl Read, octets: &mut Vec<u8>) -> io::Result<Option<usize>> {
    fill(file, octets, 4)?;
    Ok(octets.first_chunk().map(|octets| u32::from_be_bytes(*octets) as usize))
}

/// Whoever begins a stream says what is in it.
fn check_content(control: &[u8]) -> io::Result<()> {
    let is_start = control.first_chunk().is_some_and(|kind| u32::from_be_bytes(*kind) == START);
    let content = control.get(12..).unwrap_or_default();
    if is_start && !content.is_empty() && !content.starts_with(CONTENT) {
        let content = String::from_utf8_lossy(&content[..content.len().min(64)]).escape_debug().to_string();
        return Err(io::Error::other(format!("it is a stream of \"{content}\", and none of dnstap")));
    }
    Ok(())
}

fn read_frame(frame: &[u8], questions: &mut Questions<'_>) {
    let (mut kind, mut source, mut query) = (0, None, None);
    let read = last_octets(frame, MESSAGE).and_then(|message| {
        each_field(message, |number, value| match (number, value) {
            (KIND, Value::Number(number)) => kind = number,
            (QUERY_ADDRESS, Value::Octets(octets)) => source = address(octets),
            (QUERY_MESSAGE, Value::Octets(octets)) => query = Some(octets),
            _ => {}
        })
    });
    match (read, source, query) {
        (Some(()), ..) if !QUERIES.contains(&kind) => questions.counts.others += 1,
        (Some(()), Some(source), Some(query)) => questions.message(query, source),
        _ => questions.counts.unreadable += 1,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// What a field of a message holds.
enum Value<'a> {
    Number(u64),
    Octets(&'a [u8]),
}

fn last_octets(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut found = None;
    each_field(message, |number, value| match value {
        Value::Octets(octets) if number == wanted => found = Some(octets),
        _ => {}
    })?;
    found
}

/// Hands on all fields; none if they are malformed. Groups are out of use, and are not read.
fn each_field<'a>(mut rest: &'a [u8], mut each: impl FnMut(u64, Value<'a>)) -> Option<()> {
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Octets(take(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Value::Octets(take(&mut rest, length)?)
            }
            5 => Value::Octets(take(&mut rest, 4)?),
            _ => return None,
        };
        each(tag >> 3, value);
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

/// Seven bits an octet, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let octet = take(rest, 1)?[0];
        number |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
