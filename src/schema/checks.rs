//! Checks, and the times of profiles.

use serde_json::{Value, json};

use super::shape::{
    Key, any, boolean, defined, duration, like, list, mapping, number, one_or_more, percent, text, with, word,
};
use crate::site::CheckKind;
use crate::wire::Rtype;
use crate::wire::message::RCODES;

/// A check of sites, or with more keys one of something else.
pub(super) fn check(more: impl IntoIterator<Item = Key>) -> Value {
    let keys = kinds().into_iter().chain(times()).chain(more).chain([
        ("port", "Where the check knocks: 80 for http, 443 for https, 53 for dns", number(1, 65_535)),
        ("profile", "Whose times and counts apply where the check itself says nothing", text()),
    ]);
    let mut check = with(mapping(keys), &[]);
    let one_kind: Vec<Value> = CheckKind::NAMES.iter().map(|kind| json!({ "required": [kind] })).collect();
    check["oneOf"] = json!(one_kind);
    check
}

/// `profiles:` by name.
pub(super) fn profile() -> Value {
    mapping(times())
}

fn times() -> [Key; 5] {
    [
        ("every", "From one attempt to the next, 50ms to 24h; default 5s", duration()),
        ("timeout", "An attempt that takes longer has failed; default 2s", duration()),
        ("fall", "Failures in a row until an address is down; default 2", number(1, 100)),
        ("rise", "Successes in a row until it is up again; default 2", number(1, 100)),
        ("jitter", "How much of every an attempt may come earlier, up to 50%; default 10%", percent()),
    ]
}

fn kinds() -> [Key; 7] {
    [
        ("tcp", "A connection is made", mapping([])),
        ("http", "GET is answered", mapping(http())),
        ("https", "GET is answered over TLS", mapping(http().into_iter().chain(tls()))),
        ("dns", "A question is answered", with(mapping(dns()), &["name"])),
        ("icmp", "An echo request comes back", mapping([])),
        ("exec", "A program exits with 0", with(mapping([command()]), &["command"])),
        ("file", "Another program writes up or down into a file", with(mapping(file()), &["path"])),
    ]
}

fn http() -> [Key; 5] {
    let status = any([
        json!({ "type": "integer", "minimum": 100, "maximum": 599 }),
        like("^[0-9]{3}( *- *[0-9]{3})?$"),
    ]);
    [
        ("path", "Default /", like("^/[!-~]*$")),
        ("host", "What the Host header says; default: the address", text()),
        ("status", "Which are good, such as 200-399", one_or_more(status)),
        ("body", "A text that must be among the first 64 KiB", text()),
        ("load", "Where the answer tells how much the site has to do, in the unit of its capacity", load()),
    ]
}

fn load() -> Value {
    let mut load = mapping([
        ("header", "The field that holds it", text()),
        ("json", "Its key in a JSON object; of objects within it, with dots between", text()),
        ("body", "The body is the number", word(["number"])),
        ("shed_above", "Above this part of its capacity a site gives clients away; default 90%", percent()),
        ("resume_below", "Below this part it gets them back", percent()),
    ]);
    let sources: Vec<Value> =
        ["header", "json", "body"].iter().map(|key| json!({ "required": [key] })).collect();
    load["oneOf"] = json!(sources);
    load
}

fn tls() -> [Key; 4] {
    [
        ("sni", "The name that is asked for; default: host", text()),
        ("verify", "false accepts any certificate", boolean()),
        ("ca", "A PEM file to trust instead of the machine's roots", text()),
        ("pin", "SHA-256 of the keys that the server may have, hexadecimal or base64", one_or_more(text())),
    ]
}

fn dns() -> [Key; 4] {
    [
        ("name", "The whole name", text()),
        ("type", "Default SOA", defined("record_type")),
        ("rcode", "Which are good; default NOERROR", one_or_more(word(RCODES))),
        ("tcp", "Ask over TCP", boolean()),
    ]
}

/// A type in a question.
pub(super) fn record_type() -> Value {
    any([word(Rtype::mnemonics()), like("^TYPE[0-9]+$")])
}

fn command() -> Key {
    let arguments = list(json!({ "type": ["string", "number", "boolean", "null"] }));
    (
        "command",
        "The program's whole path, and its arguments: {address}, {port} and {site} stand for those of the attempt",
        arguments,
    )
}

fn file() -> [Key; 2] {
    [
        ("path", "Seen from this file; {address} and {site} stand for those of the attempt", text()),
        ("max_age", "What was written longer ago tells nothing; default 30s", duration()),
    ]
}
