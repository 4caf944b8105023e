//! `meridian.yaml`.

use serde_json::{Value, json};

use super::checks::{check, record_type};
use super::shape::{Key, any, boolean, defined, like, list, mapping, number, percent, text, with, word};

pub(super) fn file() -> Value {
    let mut file = mapping([
        (
            "listen",
            "Addresses with ports, UDP and TCP, or mappings for what is encrypted; default 127.0.0.1:5300",
            list(defined("listener")),
        ),
        ("zones", "The folder of zones and shared YAML; default zones/", text()),
        ("geodb", "MMDB files and folders of them, in the order in which they are asked", list(text())),
        ("control", "What status and reload talk to; default run/meridian.sock", text()),
        ("state", "Serials that were served and compiled tables, kept across restarts; default run/", text()),
        ("workers", "UDP threads; 0, the default, is one for each core", number(0, 1024)),
        ("largest_rrset", "Octets that an RRset of a zone may take", number(512, 65_200)),
        ("answers", "What responses are like in general", answers()),
        ("user", "Whom root becomes once sockets are bound: NAME or NAME:GROUP", text()),
        ("sandbox", "Whether the kernel holds the server to its files; default true", boolean()),
        ("readable", "What may be read besides what is named here", list(text())),
        ("executable", "Programs that exec checks may run, and folders of them", list(text())),
        (
            "canaries",
            "Addresses beside all sites: while none of them answers, the fault is here",
            list(defined("canary")),
        ),
        ("metrics", "Where /metrics is told over HTTP, as in 127.0.0.1:9853", list(text())),
        ("query_log", "Which queries are written down", query_log()),
        ("countries", "One query of so many is counted by country, as in 1/100", part_of_queries()),
        ("gates", "How far a change may go by itself", gates()),
        ("history", "How many snapshots are kept, for a way back", history()),
    ]);
    file["$defs"] = json!({ "canary": canary(), "listener": listener(), "record_type": record_type() });
    file
}

fn listener() -> Value {
    let files =
        || -> [Key; 2] { [("certificate", "PEM, the server's own first", text()), ("key", "PEM", text())] };
    let pem = || with(mapping(files()), &["certificate", "key"]);
    let path = ("path", "Default /dns-query", like("^/[!->@-~]*$"));
    let keys = [
        ("address", "Address and port", text()),
        ("tls", "DNS over TLS, usually at port 853", pem()),
        ("quic", "DNS over QUIC, usually at port 853", pem()),
        (
            "https",
            "DNS over HTTPS, usually at port 443",
            with(mapping(files().into_iter().chain([path])), &["certificate", "key"]),
        ),
        ("proxy_from", "Load balancers that must put the PROXY protocol before what they send", list(text())),
    ];
    any([text(), with(mapping(keys), &["address"])])
}

fn canary() -> Value {
    let mut canary = check([("address", "What is checked", text())]);
    canary["required"] = json!(["address"]);
    canary
}

fn query_log() -> Value {
    let keys = [
        ("file", "Where to", text()),
        ("sample", "One query of so many; default 1/100", part_of_queries()),
        ("max_size", "Octets, 4K to 1024G, after which another file is begun; default 64M", size()),
        ("keep", "How many full ones stay; default 2", number(0, 1000)),
    ];
    with(mapping(keys), &["file"])
}

fn part_of_queries() -> Value {
    like("^1/[0-9]+$")
}

fn size() -> Value {
    any([json!({ "type": "integer" }), like("^[0-9]+[KMG]?$")])
}

fn gates() -> Value {
    let part = || any([percent(), word(["off"])]);
    mapping([
        ("names", "Which part of a zone's names may go; default 50%", part()),
        ("moves", "Which part of the address space a geo database may move; default 20%", part()),
        ("networks", "Which part of its networks a geo database may lose; default 20%", part()),
    ])
}

fn history() -> Value {
    mapping([
        ("keep", "How many", number(0, 100_000)),
        ("max_size", "Octets that all of them may take, as in 64M", size()),
    ])
}

fn answers() -> Value {
    let octets = || number(512, 4096);
    let families = mapping([("v4", "Over IPv4", octets()), ("v6", "Over IPv6", octets())]);
    let cookies = mapping([
        ("secrets", "A file with one or two secrets of 32 hexadecimal digits", text()),
        ("require", "Whether a query over UDP without a valid cookie is BADCOOKIE", boolean()),
    ]);
    mapping([
        ("udp_payload", "No response over UDP is longer; default 1232", any([octets(), families])),
        ("nsid", "What NSID tells, at most 32 octets", text()),
        ("version", "What version.bind tells", text()),
        ("identity", "What id.server and hostname.bind tell", text()),
        ("cookies", "DNS cookies; default true", any([boolean(), cookies])),
        ("max_without_cookie", "Octets that a client without a valid cookie gets over UDP", octets()),
        (
            "rate_limit",
            "Response rate limiting; true: in earnest, with the defaults",
            any([boolean(), rate_limit()]),
        ),
    ])
}

fn rate_limit() -> Value {
    mapping([
        ("per_second", "Responses a second to one address; default 50", number(1, 100_000)),
        ("burst", "Responses at once to an address that was quiet", number(1, 1_500_000)),
        ("slip", "Of the limited responses each so manieth is sent truncated; default 1", number(0, 1000)),
        (
            "nxdomain_per_second",
            "NXDOMAIN a second from one zone; 0, the default, is no limit",
            number(0, 1_000_000_000),
        ),
        ("table", "Addresses and blocks that each UDP thread remembers", number(1 << 10, 1 << 24)),
        ("dry_run", "Whether what would be limited is only counted; default true", boolean()),
    ])
}
