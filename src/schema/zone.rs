//! A zone.

use serde_json::{Value, json};

use super::shape::{
    Key, any, by_name, defined, list, mapping, number, one_or_more, period, text, with, with_records, word,
};
use super::sites;
use crate::zone::yaml::EXPECTED_RCODES;

pub(super) fn file() -> Value {
    let own: [Key; 5] = [
        ("zone", "The zone's name, where no file can have it", text()),
        ("ttl", "Seconds or 1h, of static records; default 3600", period()),
        ("soa", "The first name server, a mail address and times", soa()),
        (
            "records",
            "By owner, then by type; @ is the zone itself, and names without a final dot are completed by the zone's",
            by_name(&owner()),
        ),
        ("expect", "Tests that live with the zone", list(defined("expectation"))),
    ];
    let mut file = with(mapping(own.into_iter().chain(sites::keys())), &["records"]);
    file["$defs"] = sites::definitions();
    file["$defs"]["data"] = data();
    file["$defs"]["expectation"] = expectation();
    file
}

fn soa() -> Value {
    let keys = [
        ("primary", "The name of the first name server, as in ns1", text()),
        ("contact", "A mail address; default: hostmaster in the zone", text()),
        ("serial", "Default: the time of the last change", number(0, u32::MAX.into())),
        ("refresh", "Default 1h", period()),
        ("retry", "Default 10m", period()),
        ("expire", "Default 2w", period()),
        ("negative_ttl", "How long others remember that a name does not exist; default 5m", period()),
        ("ttl", "Of the SOA record itself", period()),
    ];
    with(mapping(keys), &["primary"])
}

fn owner() -> Value {
    let name = ("name", "The service", text());
    let service =
        any([text(), with(mapping([name, ("ttl", "Of this owner's answers", period())]), &["name"])]);
    let own = mapping([
        ("ttl", "Of all records here", period()),
        ("service", "The records of the nearest healthy site of this service", service),
    ]);
    with_records(own, |_| true, "data")
}

/// Records of one type at an owner.
fn data() -> Value {
    let keys = [("ttl", "Of these records", period()), ("data", "One, or a list", one_or_more(text()))];
    any([text(), json!({ "type": "array", "items": text(), "minItems": 1 }), with(mapping(keys), &["data"])])
}

fn expectation() -> Value {
    let keys = [
        ("name", "Who is asked for", text()),
        ("type", "Default A", defined("record_type")),
        ("from", "A client's address, or a subnet", text()),
        ("down", "Sites that are taken as down", list(text())),
        ("site", "The first site chosen", text()),
        ("data", "The records of the type, all of them", list(text())),
        ("rcode", "What came instead of records", word(EXPECTED_RCODES)),
        ("scope", "The length of the block that the answer holds for", number(0, 128)),
    ];
    with(mapping(keys), &["name", "from"])
}
