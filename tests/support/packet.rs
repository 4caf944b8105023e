//! Packets that no library would send, put together from words; and what a response says, in words.
//!
//! ```text
//! 0100:1,0,0,1        a header: ID 4944, the flags, the four counts
//! c00c 0001ffff       octets in lower-case hex; 100*c00c is the same 100 times
//! www.example.com.    a name without compression; . is the root
//! AAAA IN TYPE65280   types and classes, two octets each, in capitals
//! pointers:100        compression pointers, each to the one behind it; the last to what follows
//! ```

#![allow(dead_code)] // each test binary that includes this needs a part of it

use std::fmt::Write;
use std::net::IpAddr;

use meridian::wire::message::{Message, rcode_name};
use meridian::wire::{Name, Rtype};

/// The octets that the words stand for.
pub(crate) fn build<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>, String> {
    let mut packet = Vec::new();
    for word in words {
        push(&mut packet, word).ok_or_else(|| format!("no part of a packet: {word}"))?;
    }
    Ok(packet)
}

fn push(packet: &mut Vec<u8>, word: &str) -> Option<()> {
    if let Some((count, octets)) = word.split_once('*') {
        packet.extend(hex(octets)?.repeat(count.parse().ok()?));
    } else if let Some(count) = word.strip_prefix("pointers:") {
        for _ in 0..count.parse::<u16>().ok()? {
            let next = u16::try_from(packet.len()).ok()? + 2;
            packet.extend((0xc000 | next).to_be_bytes());
        }
    } else if let Some((flags, counts)) = word.split_once(':') {
        packet.extend(b"ID");
        packet.extend(hex(flags)?);
        for count in counts.split(',') {
            packet.extend(count.parse::<u16>().ok()?.to_be_bytes());
        }
    } else if word.ends_with('.') {
        packet.extend(Name::parse(word, None).ok()?.wire());
    } else if let Some(octets) = hex(word) {
        packet.extend(octets);
    } else {
        packet.extend(number_of(word)?.to_be_bytes());
    }
    Some(())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()
}

/// Of a class or a type; ANY is 255 as either.
fn number_of(word: &str) -> Option<u16> {
    match word {
        "IN" => Some(1),
        "CH" => Some(3),
        "HS" => Some(4),
        "NONE" => Some(254),
        _ => word.parse::<Rtype>().ok().map(|rtype| rtype.0),
    }
}

/// What every response owes its query, whatever it says; read by the other codec as well.
pub(crate) fn hold_against_the_query(query: &[u8], response: &[u8]) -> Result<(), String> {
    if query[..2] != response[..2] {
        return Err("the response has another ID".to_owned());
    }
    // OPCODE and RD are copied; RA, Z, AD and CD are never set (RFC 1035 4.1.1, RFC 4035 3.1.6, 3.2.2).
    if response[2] & 0xf9 != 0x80 | query[2] & 0x79 || response[3] & 0xf0 != 0 {
        return Err(format!("the flags {:02x?} became {:02x?}", &query[2..4], &response[2..4]));
    }
    let ours = Message::read(response).ok_or("we cannot read the response")?;
    match hickory_proto::op::Message::from_vec(response) {
        Ok(theirs) => {
            let signatures = usize::from(theirs.signature().is_some());
            let counts =
                [theirs.answers.len(), theirs.authorities.len(), theirs.additionals.len() + signatures];
            if counts != [0, 1, 2].map(|section| ours.sections[section].len()) {
                return Err(format!("hickory counts {counts:?} records"));
            }
        }
        // It knows no client subnet of family 0, which is how a client says that it has none to tell.
        Err(error) if error.to_string().contains("unknown address family: 0x0") => {}
        Err(error) => return Err(format!("hickory cannot read the response: {error}")),
    }
    if let Some(question) = query.get(12..).filter(|_| response[5] == 1)
        && !response[12..]
            .iter()
            .zip(question)
            .take(ours.questions[0].0.wire().len() + 4)
            .all(|(a, b)| a == b)
    {
        return Err("the question is not echoed as it came".to_owned());
    }
    Ok(())
}

/// RCODE and flags, records by section, then what EDNS says.
pub(crate) fn print(message: &Message) -> String {
    let flags = [(10, "aa"), (9, "tc"), (8, "rd"), (7, "ra"), (5, "ad"), (4, "cd")];
    let set =
        flags.iter().filter(|(bit, _)| message.flags >> bit & 1 != 0).map(|(_, name)| format!(" {name}"));
    let mut text = format!("{}{}\n", rcode_name(message.rcode()), set.collect::<String>());
    if message.questions.is_empty() {
        text.push_str("no question\n");
    }
    for (section, title) in message.sections.iter().zip(["answer", "authority", "additional"]) {
        for record in section {
            let _ = writeln!(text, "{title:10} {}", record.to_string().replace('\t', " "));
        }
    }
    if let Some(edns) = &message.edns {
        text.push_str("edns");
        if edns.version != 0 {
            let _ = write!(text, " version {}", edns.version);
        }
        if edns.flags & 0x8000 != 0 {
            text.push_str(" do");
        }
        for (code, value) in &edns.options {
            let _ = match (*code, value.as_slice()) {
                (8, [_, family, source, scope, address @ ..]) => {
                    let mut octets = [0; 16];
                    octets[..address.len().min(16)].copy_from_slice(&address[..address.len().min(16)]);
                    let address = match family {
                        1 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]).to_string(),
                        2 => IpAddr::from(octets).to_string(),
                        other => format!("family-{other}"),
                    };
                    write!(text, " subnet {address}/{source} scope {scope}")
                }
                (15, [high, low]) => write!(text, " error {}", u16::from_be_bytes([*high, *low])),
                (15, [high, low, words @ ..]) => {
                    let words = String::from_utf8_lossy(words);
                    write!(text, " error {} \"{words}\"", u16::from_be_bytes([*high, *low]))
                }
                (3, nsid) => write!(text, " nsid {}", String::from_utf8_lossy(nsid)),
                (10, cookie) => write!(text, " cookie {}", data_encoding::HEXLOWER.encode(cookie)),
                (11, [high, low]) => write!(text, " keepalive {}", u16::from_be_bytes([*high, *low])),
                (12, padding) => write!(text, " padding {}", padding.len()),
                (19, [labels, 0, a, b, c, d]) => {
                    let serial = u32::from_be_bytes([*a, *b, *c, *d]);
                    write!(text, " zone-version {labels} labels serial {serial}")
                }
                (code, value) => write!(text, " option {code} {}", data_encoding::HEXLOWER.encode(value)),
            };
        }
        text.push('\n');
    }
    text
}
