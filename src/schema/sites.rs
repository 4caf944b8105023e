//! Sites, services and rules: shared by all zones, or a zone's own.

use serde_json::{Value, json};

use super::checks::{check, profile, record_type};
use super::shape::{
    Key, any, boolean, by_name, defined, distance, duration, like, list, mapping, number, one_or_more,
    percent, text, with, with_records, word,
};
use crate::geo::{Continent, Country};
use crate::site::read::belongs_to_a_site;

pub(super) fn file() -> Value {
    let mut file = mapping(keys());
    file["$defs"] = definitions();
    file
}

/// What stands in it more than once.
pub(super) fn definitions() -> Value {
    json!({
        "check": check([]),
        "country": word(Country::codes()),
        "record_type": record_type(),
        "rule": rule(),
        "site_data": one_or_more(text()),
        "window": window(),
    })
}

/// Of a shared file, and of a zone's.
pub(super) fn keys() -> [Key; 3] {
    [
        ("sites", "Where content is served: by name", by_name(&site())),
        ("profiles", "Times and counts for checks: by name", by_name(&profile())),
        ("services", "What steered names refer to: by name", by_name(&service())),
    ]
}

fn site() -> Value {
    let own = mapping([
        ("location", "Latitude and longitude in degrees, as in [51.47, -0.45]", location()),
        ("weight", "Its part among sites that share clients; default 100", number(0, 65_535)),
        ("capacity", "What it has room for, in any unit that a service's sites agree on", amount()),
        ("handicap", "Added to every distance to it, such as 500 km", distance()),
        ("tags", "Free words", list(text())),
        ("maintenance", "When it is drained", list(defined("window"))),
    ]);
    with_records(own, belongs_to_a_site, "site_data")
}

fn location() -> Value {
    let degrees = |most: u32| {
        any([json!({ "type": "number", "minimum": -f64::from(most), "maximum": most }), like("^[-0-9.]+$")])
    };
    json!({ "type": "array", "prefixItems": [degrees(90), degrees(180)], "minItems": 2, "maxItems": 2 })
}

fn window() -> Value {
    let keys = [
        ("from", "A time such as 2026-12-01T22:00:00Z", text()),
        ("until", "A later time", text()),
        ("over", "How long it takes until the last client has left", duration()),
        ("reason", "Told in status", text()),
    ];
    with(mapping(keys), &["from", "until"])
}

fn service() -> Value {
    mapping([
        (
            "sites",
            "Which, by name; where nothing is known of a client this is their order; default: all",
            list(text()),
        ),
        (
            "ttl",
            "Seconds, of steered records whose owner sets none, or a range such as 30..300; default 30",
            ttl(),
        ),
        (
            "checks",
            "What each address of each site is tried with; without any a site counts as up",
            list(defined("check")),
        ),
        ("need", "How many checks an address must pass: all, any, or a number", text()),
        ("rules", "In order: the first that matches decides, before distance", list(defined("rule"))),
        (
            "sites_per_answer",
            "How many of the client's first sites an answer holds; default 1",
            number(1, 16),
        ),
        (
            "near",
            "Sites within so much of the nearest share its clients: 200 km or 10%",
            any([distance(), percent()]),
        ),
        (
            "spill",
            "Whether clients of a full site go where it is least farther, and what all ask for",
            spill(),
        ),
        ("ecs", "Whether the EDNS client subnet is used; default true", boolean()),
        ("all_down", "What is answered when no site is eligible; default preferred", all_down()),
        ("same_site", "Whether the nearest site answers NODATA for a type that it lacks", boolean()),
        ("min_up", "How many of a site's addresses of a type must be up for the site to count", min_up()),
        ("blast_radius", "How much of it may leave in how short a time, or off", blast_radius()),
        ("panic", "While fewer sites are up, all but drained ones are given out", percent()),
        ("slow_start", "Over how long a site that comes back takes its clients back", duration()),
    ])
}

fn spill() -> Value {
    let keys = [("demand", "What all clients together ask for, in the unit of capacities", amount())];
    any([boolean(), mapping(keys)])
}

fn amount() -> Value {
    any([json!({ "type": "number", "exclusiveMinimum": 0 }), like("^[0-9.eE+]+$")])
}

fn ttl() -> Value {
    any([number(0, i32::MAX as u64), like("^ *[0-9]+ *\\.\\. *[0-9]+ *$")])
}

fn min_up() -> Value {
    let keys = [("A", "Of IPv4 addresses", number(1, 16)), ("AAAA", "Of IPv6 addresses", number(1, 16))];
    any([number(1, 16), mapping(keys)])
}

fn blast_radius() -> Value {
    let keys =
        [("sites", "How much of the service", percent()), ("within", "In how short a time", duration())];
    any([word(["off"]), percent(), mapping(keys)])
}

fn all_down() -> Value {
    let records = with_records(mapping([]), belongs_to_a_site, "site_data");
    any([
        word(["preferred", "all", "nodata", "servfail"]),
        with(mapping([("last_resort", "Records of no site", records)]), &["last_resort"]),
    ])
}

fn rule() -> Value {
    let mut rule = mapping([
        ("subnet", "The client's address is within, as in 203.0.113.0/24", one_or_more(text())),
        ("asn", "The client's network is of this AS, as in 64500", one_or_more(like_asn())),
        ("country", "ISO 3166-1, in capitals, as in NZ", one_or_more(defined("country"))),
        ("continent", "AF, AN, AS, EU, NA, OC or SA", one_or_more(word(Continent::CODES))),
        ("subdivision", "As in US-CA, or as the database has it", one_or_more(text())),
        ("else", "Everybody else", json!({ "const": true })),
        ("sites", "That come first, by name", list(text())),
        ("only", "No others after them", boolean()),
        ("deny", "NODATA", boolean()),
    ]);
    rule["type"] = json!("object");
    rule["anyOf"] = json!([{ "required": ["sites"] }, { "required": ["deny"] }]);
    rule
}

fn like_asn() -> Value {
    any([json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }), like("^(AS)?[0-9]+$")])
}
