//! Services as operators configure them, differently guarded, and clients that have a site of their own each.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network};

use crate::health::Canary;
use crate::health::board::{Board, Layout, ServiceSlots};
use crate::nameserver::Responded;
use crate::reload::Reloader;
use crate::reload::expect::ask;
use crate::site::{Check, CheckKind};
use crate::snapshot::Snapshot;
use crate::wire::message::{Message, query};
use crate::wire::{Name, Rtype};

/// A service of its own, and what watches it from outside.
pub(super) struct World {
    pub(super) layout: Layout,
    pub(super) canaries: Vec<Canary>,
    pub(super) all_down: &'static str,
    snapshot: Snapshot,
}

/// In any of the worlds.
pub(super) const MOST_SITES: usize = 6;

/// What an answer holds of the last resort.
const LAST_RESORT: [u8; 4] = [198, 51, 100, 1];

const ZONE: &str = "soa: { primary: ns1.example.net., serial: 1 }\n\
    records:\n  \"@\": { NS: ns1.example.net. }\n  www: { service: web }\n";

/// `(addresses of each site: of type A, of type AAAA), canaries, all_down, all else of the service`.
type Configured = (&'static [(u8, u8)], u8, &'static str, &'static str);

const CONFIGURED: [Configured; 7] = [
    // As shipped.
    (&[(1, 0); 4], 1, "preferred", "checks: { tcp: {}, port: 80 }"),
    (
        &[(2, 1), (1, 1), (2, 0), (1, 0), (1, 0)],
        2,
        "{ last_resort: { A: 198.51.100.1 } }",
        "need: any, blast_radius: { sites: 30%, within: 5m },
         checks: [{ tcp: {}, port: 80 }, { tcp: {}, port: 443, every: 7s, timeout: 3s, fall: 3 }]",
    ),
    (
        &[(1, 1), (1, 1), (2, 2)],
        0,
        "all",
        "slow_start: 1m, ttl: 30..300, checks: [{ tcp: {}, port: 80, rise: 3 }, { tcp: {}, port: 443, every: 3s }]",
    ),
    (
        &[(1, 0); 5],
        1,
        "nodata",
        "panic: 50%, blast_radius: off, checks: { tcp: {}, port: 80, fall: 1, rise: 1 }",
    ),
    (
        &[(2, 0), (2, 0), (3, 0), (1, 0)],
        2,
        "preferred",
        "min_up: 2, sites_per_answer: 2, ttl: 30..300, checks: { tcp: {}, port: 80, fall: 3 }",
    ),
    (
        &[(1, 0); 6],
        0,
        "preferred",
        "need: 2, panic: 30%, slow_start: 2m, blast_radius: { sites: 25%, within: 3m },
         checks: [{ tcp: {}, port: 80 }, { tcp: {}, port: 81 }, { tcp: {}, port: 82 }]",
    ),
    // Where there is not room for its clients with others, they go farther.
    (
        &[(1, 1); 5],
        1,
        "preferred",
        "spill: true, blast_radius: off, checks: { tcp: {}, port: 80, every: 3s }",
    ),
];

pub(super) static WORLDS: LazyLock<[World; CONFIGURED.len()]> = LazyLock::new(|| CONFIGURED.map(World::new));

impl World {
    fn new((addresses, canaries, all_down, service): Configured) -> World {
        let mut sites = String::from("sites:\n");
        for (site, (v4, v6)) in addresses.iter().enumerate() {
            let v4: Vec<String> =
                (0..*v4).map(|n| format!("192.0.2.{}", site * 4 + usize::from(n))).collect();
            let v6: Vec<String> = (0..*v6).map(|n| format!("\"2001:db8:{site}::{n}\"")).collect();
            let (longitude, v4, v6) = (site * 20, v4.join(", "), v6.join(", "));
            let v6 = if v6.is_empty() { v6 } else { format!(", AAAA: [{v6}]") };
            let _ =
                writeln!(sites, "  s{site}: {{ location: [50, {longitude}], capacity: 100, A: [{v4}]{v6} }}");
        }
        let rule = |site: usize| format!("{{ subnet: {}, sites: [s{site}] }}", home_of(site));
        let rules: Vec<String> = (0..addresses.len()).map(rule).collect();
        let rules = rules.join(", ");
        let service =
            format!("services: {{ web: {{ {service}, all_down: {all_down}, rules: [{rules}] }} }}\n");
        let files = tempfile::tempdir().expect("a folder");
        std::fs::write(files.path().join("sites.yaml"), sites + &service)
            .and_then(|()| std::fs::write(files.path().join("example.com.yaml"), ZONE))
            .expect("files");
        let database = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/geodb/city-sample-flat.mmdb");
        let reload = Reloader::new(files.path(), &[database], None).reload(false);
        let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
        let check = Check {
            kind: CheckKind::Tcp,
            port: Some(53),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            fall: 2,
            rise: 2,
            jitter: 0,
        };
        let canary = |number| (IpAddr::from([203, 0, 113, number]), check.clone());
        World { layout, canaries: (0..canaries).map(canary).collect(), all_down, snapshot }
    }

    pub(super) fn service(&self) -> &ServiceSlots {
        &self.layout.services[0]
    }

    /// How many sites there are.
    pub(super) fn sites(&self) -> usize {
        self.service().targets.len()
    }

    /// The slots of a site's addresses.
    pub(super) fn slots(&self, site: usize) -> Range<usize> {
        let slots = &self.service().targets[site];
        slots.start as usize..slots.end as usize
    }

    pub(super) fn site_of(&self, slot: usize) -> usize {
        (0..self.sites()).find(|site| self.slots(*site).contains(&slot)).expect("a slot of the board")
    }

    /// Whether a site counts for a type of address, by which of its addresses do.
    pub(super) fn is_enough(&self, site: usize, is_v4: bool, is_good: impl Fn(usize) -> bool) -> bool {
        let min_up = self.service().min_up;
        let needed = usize::from(if is_v4 { min_up.v4 } else { min_up.v6 });
        let (mut all, mut good) = (0, 0);
        for slot in self.slots(site).filter(|slot| self.layout.targets[*slot].address.is_ipv4() == is_v4) {
            (all, good) = (all + 1, good + usize::from(is_good(slot)));
        }
        all > 0 && good >= needed.min(all)
    }

    /// The same, for any of its types.
    pub(super) fn is_enough_of_any(&self, site: usize, is_good: impl Fn(usize) -> bool) -> bool {
        self.is_enough(site, true, &is_good) || self.is_enough(site, false, &is_good)
    }

    /// What the clients of a network get from a board.
    pub(super) fn ask(&self, board: &Board, client: IpNetwork) -> (Responded, Message) {
        let name = Name::parse("www.example.com.", None).expect("a name");
        ask(&self.snapshot, board, [127, 0, 0, 1].into(), &query(&name, Rtype::A, Some(client)))
            .expect("a response")
    }

    /// The sites that an answer is of; the last resort is nobody's.
    pub(super) fn sites_in(&self, message: &Message) -> Vec<usize> {
        let of_sites = message.answers().iter().filter(|record| *record.rdata != LAST_RESORT);
        of_sites.map(|record| usize::from(record.rdata[3]) / 4).collect()
    }
}

/// The network whose clients have a site before all others.
pub(super) fn home_of(site: usize) -> IpNetwork {
    network([5, site as u8, 0, 0], 16)
}

/// One of the networks in there that shares are decided for.
pub(super) fn client_of(site: usize, number: u8) -> IpNetwork {
    network([5, site as u8, number, 0], 24)
}

/// One of some networks that the database knows, and no rule: they have the nearest site, if that has room for them.
pub(super) fn somewhere(number: usize) -> IpNetwork {
    const KNOWN: [[u8; 4]; 7] = [
        [90, 194, 121, 0],  // the United Kingdom
        [145, 254, 17, 0],  // Germany
        [194, 44, 35, 0],   // Ukraine
        [146, 158, 127, 0], // Russia
        [92, 49, 206, 0],   // Kazakhstan
        [103, 248, 117, 0], // India
        [125, 50, 69, 0],   // Japan
    ];
    network(KNOWN[number % KNOWN.len()], 24)
}

/// A network that no rule names, nor the database.
pub(super) fn elsewhere() -> IpNetwork {
    network([9, 9, 9, 0], 24)
}

pub(super) fn network(address: [u8; 4], length: u8) -> IpNetwork {
    Ipv4Network::new(address.into(), length).expect("a length of the family").into()
}
