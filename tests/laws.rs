//! What must hold for every configuration, board and client, whatever they are.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use meridian::health::board::{Board, Share, Verdict};
use meridian::health::overrides::{Order, Overrides, Wish};
use meridian::nameserver::{Given, NoSite, Outcome, Request, Transport, Worker, respond};
use meridian::reload::{Reload, Reloader};
use meridian::snapshot::Snapshot;
use meridian::wire::message::{Message, Record, query};
use meridian::wire::{Name, Rtype};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

#[path = "support/geo.rs"]
mod geo;

/// Sites on a few spots, so that ties and near ones are common; some lack an address family.
#[derive(Clone, Debug)]
struct Site {
    spot: Option<usize>,
    weight: u16,
    handicap: u32,
    v4: u8,
    has_v6: bool,
}

/// A rule by whom it is for and what it gives.
#[derive(Clone, Debug)]
struct Rule {
    condition: String,
    action: String,
}

#[derive(Clone, Debug)]
struct World {
    sites: Vec<Site>,
    rules: Vec<Rule>,
    near: Option<&'static str>,
    /// In the place of `near`.
    spill: bool,
    sites_per_answer: u8,
    same_site: bool,
    min_up: u8,
    all_down: &'static str,
    rows: Vec<(IpNetwork, Place)>,
}

/// What the geo database says of a network.
#[derive(Clone, Copy, Debug)]
enum Place {
    Country(&'static str),
    City(usize),
}

/// What the board shows: verdicts and shares, as many as there are slots, over and over.
#[derive(Clone, Debug)]
struct Shown {
    verdicts: Vec<u8>,
    shares: Vec<u16>,
    /// Of services that spill.
    prices: Vec<u32>,
}

const SPOTS: [(f64, f64); 6] =
    [(50.11, 8.68), (50.94, 6.96), (51.47, -0.45), (38.95, -77.45), (-33.87, 151.21), (-23.55, -46.63)];
const COUNTRIES: [&str; 8] = ["DE", "GB", "US", "AU", "BR", "NO", "KP", "IN"];

/// Networks that overlap now and then, reserved ones and those that embed others among them.
fn networks() -> impl Strategy<Value = IpNetwork> {
    let v4 = (select(vec![1_u8, 5, 10, 127, 192]), any::<[u8; 3]>(), 0..33_u8).prop_map(
        |(first, rest, length)| {
            let [b, c, d] = rest.map(|octet| octet & 0x83);
            masked(IpAddr::from([first, b, c, d]), length)
        },
    );
    let heads = vec![0x2001_0db8_u128, 0x2400_0000, 0x2a00_0001, 0xfd00_0000, 0x2002_0101];
    let v6 = (select(heads), any::<u128>(), 12..129_u8).prop_map(|(head, rest, length)| {
        let sparse = rest & 0x8000_0001_8000_0000_8000_0001;
        masked(IpAddr::from(Ipv6Addr::from(head << 96 | sparse)), length)
    });
    prop_oneof![v4, v6]
}

fn masked(address: IpAddr, length: u8) -> IpNetwork {
    let network = IpNetwork::new(address, length).expect("a length of the family");
    IpNetwork::new(network.network(), length).expect("the same length")
}

fn worlds() -> impl Strategy<Value = World> {
    let site = (
        option::weighted(0.9, 0..SPOTS.len()),
        0..300_u16,
        select(vec![0_u32, 0, 300]),
        0..3_u8,
        any::<bool>(),
    )
        .prop_map(|(spot, weight, handicap, v4, has_v6)| Site { spot, weight, handicap, v4, has_v6 });
    let place =
        prop_oneof![select(&COUNTRIES[..]).prop_map(Place::Country), (0..SPOTS.len()).prop_map(Place::City)];
    // Nobody may write a rule for addresses that stand for others (meaning 2).
    let is_plain =
        |network: &IpNetwork| !matches!(network.ip(), IpAddr::V6(address) if address.segments()[0] == 0x2002);
    let condition = prop_oneof![
        vec(networks().prop_filter("plain", is_plain), 1..3).prop_map(|subnets| {
            let subnets: Vec<String> = subnets.iter().map(|subnet| format!("\"{subnet}\"")).collect();
            format!("subnet: [{}]", subnets.join(", "))
        }),
        select(&COUNTRIES[..]).prop_map(|country| format!("country: [{country}]")),
        select(vec!["EU", "NA", "AS"]).prop_map(|continent| format!("continent: [{continent}]")),
    ];
    let action = prop_oneof![
        Just("deny: true".to_owned()),
        Just("sites: [s0]".to_owned()),
        Just("sites: [s1, s0]".to_owned()),
        Just("sites: [s1], only: true".to_owned()),
    ];
    let rule = (condition, action).prop_map(|(condition, action)| Rule { condition, action });
    (
        vec(site, 2..12),
        vec(rule, 0..3),
        (option::of(select(vec!["150 km", "10%", "9000 km"])), any::<bool>()),
        1..4_u8,
        any::<bool>(),
        1..3_u8,
        select(vec!["preferred", "all", "nodata", "servfail", "{ last_resort: { A: 198.51.100.1 } }"]),
        vec((networks(), place), 0..12),
    )
        .prop_map(
            |(sites, rules, (near, spill), sites_per_answer, same_site, min_up, all_down, rows)| World {
                sites,
                rules,
                near: near.filter(|_| !spill),
                spill,
                sites_per_answer,
                same_site,
                min_up,
                all_down,
                rows,
            },
        )
}

fn shown() -> impl Strategy<Value = Shown> {
    let share = prop_oneof![3 => Just(u16::MAX), 1 => Just(0), 2 => any::<u16>()];
    // Whole steps and parts of them, up to and beyond the way around the earth.
    let price = prop_oneof![3 => Just(0), 1 => (0..900_u32).prop_map(|steps| steps << 16), 3 => 0..(8_u32 << 16), 2 => 0..(900_u32 << 16)];
    let verdicts = vec(prop_oneof![4 => 0..2_u8, 2 => Just(2_u8), 1 => 3..5_u8], 1..20);
    (verdicts, vec(share, 1..13), vec(price, 1..13)).prop_map(|(verdicts, shares, prices)| Shown {
        verdicts,
        shares,
        prices,
    })
}

impl World {
    fn sites_yaml(&self) -> String {
        let mut text = String::from("sites:\n");
        for (number, site) in self.sites.iter().enumerate() {
            let _ = write!(text, "  s{number}: {{ weight: {}, handicap: {} km", site.weight, site.handicap);
            if let Some((latitude, longitude)) = site.spot.map(|spot| SPOTS[spot]) {
                let _ = write!(text, ", location: [{latitude}, {longitude}]");
            }
            // A site of no address at all would be refused in a service of addresses: it gets one.
            let v4 = site.v4.max(u8::from(!site.has_v6));
            let addresses: Vec<String> =
                (0..v4).map(|n| format!("192.0.2.{}", number * 4 + usize::from(n))).collect();
            if !addresses.is_empty() {
                let _ = write!(text, ", A: [{}]", addresses.join(", "));
            }
            if site.has_v6 {
                let _ = write!(text, ", AAAA: \"2001:db8::{number}\"");
            }
            text.push_str(" }\n");
        }
        text.push_str("services:\n  web:\n");
        let near = self.near.map_or_else(String::new, |near| format!("    near: {near}\n"));
        let _ = write!(
            text,
            "{near}    spill: {}\n    sites_per_answer: {}\n    same_site: {}\n    min_up: {}\n    all_down: {}\n",
            self.spill, self.sites_per_answer, self.same_site, self.min_up, self.all_down
        );
        if !self.rules.is_empty() {
            text.push_str("    rules:\n");
        }
        for rule in &self.rules {
            let _ = writeln!(text, "      - {{ {}, {} }}", rule.condition, rule.action);
        }
        text
    }

    fn rows(&self) -> Vec<geo::Row> {
        let record = |place: &Place| match *place {
            Place::Country(country) => {
                geo::Record { country_code: Some(country.to_owned()), ..geo::Record::default() }
            }
            Place::City(spot) => geo::Record {
                city: Some("Somewhere".to_owned()),
                latitude: Some(SPOTS[spot].0 as f32),
                longitude: Some(SPOTS[spot].1 as f32),
                ..geo::Record::default()
            },
        };
        self.rows
            .iter()
            .map(|(network, place)| geo::Row { network: *network, record: record(place) })
            .collect()
    }

    fn publish(&self, shown: &Shown) -> (Snapshot, Board) {
        const ZONE: &str = "soa: { primary: ns1.example.net., serial: 1 }\n\
            records:\n  \"@\": { NS: ns1.example.net. }\n  www: { service: web }\n";
        let folder = tempfile::tempdir().expect("a folder");
        let (zones, geodb) = (folder.path().join("zones"), folder.path().join("geodb"));
        fs::create_dir(&zones).and_then(|()| fs::create_dir(&geodb)).expect("folders within it");
        fs::write(zones.join("sites.yaml"), self.sites_yaml()).expect("a file");
        fs::write(zones.join("example.com.yaml"), ZONE).expect("a file");
        geo::write(&geodb, "place", &self.rows());
        let Reload { findings, snapshot, .. } = Reloader::new(&zones, &[geodb], None).reload(false);
        assert!(!findings.has_errors(), "{findings}\n{}", self.sites_yaml());
        let (snapshot, layout) = snapshot.expect("a snapshot");
        let board = Board::new(layout);
        const VERDICTS: [Verdict; 5] =
            [Verdict::Unknown, Verdict::Up, Verdict::Down, Verdict::ForcedUp, Verdict::ForcedDown];
        for (slot, verdict) in (0..board.layout().targets.len()).zip(shown.verdicts.iter().cycle()) {
            board.set_verdict(slot as u32, VERDICTS[usize::from(*verdict)]);
        }
        for (slot, share) in (0..board.layout().shares.len()).zip(shown.shares.iter().cycle()) {
            board.set_share(slot as u32, Share(*share));
        }
        for (slot, price) in (0..board.layout().shares.len()).zip(shown.prices.iter().cycle()) {
            board.set_price(slot as u32, *price);
        }
        board.set_priced(0, true);
        (snapshot, board)
    }
}

/// Without rules and words that leave a client fewer sites than there are.
fn with_every_site_for_everybody(mut world: World) -> World {
    world.same_site = false;
    world.rules.retain(|rule| !rule.action.contains("only"));
    world
}

/// Asks for somebody, from behind a resolver that stands somewhere.
fn ask(snapshot: &Snapshot, board: &Board, rtype: Rtype, subnet: IpNetwork) -> Message {
    ask_and_tell(snapshot, board, rtype, subnet).0
}

/// The same, and what the service chose.
fn ask_and_tell(
    snapshot: &Snapshot,
    board: &Board,
    rtype: Rtype,
    subnet: IpNetwork,
) -> (Message, Option<Given>) {
    let name = Name::parse("www.example.com.", None).expect("a name");
    let bytes = query(&name, rtype, Some(subnet));
    let client = IpAddr::V4(Ipv4Addr::new(5, 1, 1, 1));
    let request = Request { bytes: &bytes, client, transport: Transport::Tcp, now_ms: 0 };
    let mut out = vec![0; 65_535];
    match respond(&mut Worker::default(), &request, snapshot, board, &mut out) {
        Outcome::Responded(responded) => {
            let message = Message::read(&out[..responded.length]).expect("a well-formed response");
            (message, responded.steered.map(|steered| steered.given))
        }
        Outcome::Dropped | Outcome::Limited(_) => panic!("no response"),
    }
}

fn answer(message: &Message) -> (u16, Vec<Record>) {
    (message.rcode(), message.answers().to_vec())
}

/// An address of a block, chosen by some bits.
fn within(block: IpNetwork, bits: u128) -> IpNetwork {
    match block {
        IpNetwork::V4(block) => {
            let host = u32::MAX.checked_shr(u32::from(block.prefix())).unwrap_or(0);
            masked(IpAddr::V4(Ipv4Addr::from(u32::from(block.network()) | bits as u32 & host)), 32)
        }
        IpNetwork::V6(block) => {
            let host = u128::MAX.checked_shr(u32::from(block.prefix())).unwrap_or(0);
            masked(IpAddr::V6(Ipv6Addr::from(u128::from(block.network()) | bits & host)), 128)
        }
    }
}

/// Not many unless PROPTEST_CASES says so, but each tries many clients and many addresses around them.
fn some_cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 192 };
    ProptestConfig { cases, ..config }
}

proptest! {
    #![proptest_config(some_cases())]

    /// Meaning 5. With a fixed snapshot and board, every address inside the scope that a client subnet was answered
    /// with gets the same answer section.
    #[test]
    fn meaning_5_every_address_inside_the_scope_gets_the_same_answer(
        world in worlds(),
        shown in shown(),
        more_clients in vec(networks(), 12),
        bits in vec(any::<u128>(), 12),
    ) {
        let (snapshot, board) = world.publish(&shown);
        let subnets = world.rows.iter().map(|(network, _)| *network).chain(more_clients);
        for subnet in subnets.filter(|subnet| subnet.prefix() > 0) {
            for rtype in [Rtype::A, Rtype::AAAA] {
                let message = ask(&snapshot, &board, rtype, subnet);
                let scope = message.scope().expect("a scope");
                let expected = answer(&message);
                let block = masked(subnet.network(), scope);
                for bits in bits.iter().chain(&[0, u128::MAX]) {
                    let other = within(block, *bits);
                    let got = answer(&ask(&snapshot, &board, rtype, other));
                    prop_assert_eq!(
                        &got, &expected,
                        "{} has scope {}, and {} differs\n{}", subnet, scope, other, world.sites_yaml()
                    );
                }
            }
        }
    }

    /// Whatever the board shows, what is drained or forced down is never given out, and nothing is given twice.
    #[test]
    fn meaning_9_what_an_operator_took_away_stays_away(world in worlds(), shown in shown(), client in networks()) {
        let (snapshot, board) = world.publish(&shown);
        let message = ask(&snapshot, &board, Rtype::A, client);
        let service = &snapshot.services()[0];
        let rtype = service.find_type(Rtype::A);
        for record in message.answers() {
            let holds = |site: u16| {
                let records = rtype.map(|rtype| service.records(rtype, site)).unwrap_or_default();
                let found = records.iter().find(|known| service.octets(known)[12..] == *record.rdata);
                found.map(|found| (service.sites[usize::from(site)].share, found.verdict))
            };
            let holders: Vec<(u32, u32)> = (0..service.sites.len() as u16).filter_map(holds).collect();
            let is_forced_down = |verdict: u32| board.verdict(verdict) == Verdict::ForcedDown;
            // The last resort is no site's.
            if record.rdata != [198, 51, 100, 1] {
                let may_be_given = |(share, verdict): &(u32, u32)| {
                    board.share(*share) != Share::DRAINED && !is_forced_down(*verdict)
                };
                prop_assert!(holders.iter().any(may_be_given));
            }
            let same = message.answers().iter().filter(|other| other.rdata == record.rdata).count();
            prop_assert_eq!(same, 1);
        }
    }

    /// Whatever is down, drained or forced: an answer is empty only where `all_down` says so, a rule denies, or there is nothing that
    /// may be given out at all.
    #[test]
    fn meaning_9_no_answer_is_empty_unless_all_down_says_so(
        world in worlds().prop_map(with_every_site_for_everybody),
        shown in shown(),
        clients in vec(networks(), 8),
    ) {
        let (snapshot, board) = world.publish(&shown);
        let service = &snapshot.services()[0];
        for rtype in [Rtype::A, Rtype::AAAA] {
            // What a site has of the type, of those that are not drained.
            let of_site = |site: usize| -> Vec<Verdict> {
                let found = service.find_type(rtype);
                let records = found.map(|rtype| service.records(rtype, site as u16)).unwrap_or_default();
                let is_open = board.share(service.sites[site].share) != Share::DRAINED;
                let verdicts = records.iter().map(|record| board.verdict(record.verdict));
                verdicts.filter(|_| is_open).collect()
            };
            let sites: Vec<Vec<Verdict>> = (0..world.sites.len()).map(of_site).collect();
            let counts = |site: &Vec<Verdict>| {
                let up = site.iter().filter(|verdict| verdict.is_served()).count();
                up > 0 && up >= site.len().min(usize::from(world.min_up))
            };
            let may_be_given = |site: &Vec<Verdict>| site.iter().any(|verdict| *verdict != Verdict::ForcedDown);
            let has_data = match world.all_down {
                _ if sites.iter().any(counts) => true,
                "nodata" => false,
                "servfail" | "preferred" | "all" => sites.iter().any(may_be_given),
                // Kept for A, where any site has that.
                _ => rtype == Rtype::A && world.sites.iter().any(|site| site.v4.max(u8::from(!site.has_v6)) > 0),
            };
            for client in &clients {
                let (message, given) = ask_and_tell(&snapshot, &board, rtype, *client);
                if given == Some(Given::NoSite(NoSite::Denied)) {
                    prop_assert!(world.rules.iter().any(|rule| rule.action == "deny: true"));
                    continue;
                }
                let is_failure = message.rcode() == 2;
                prop_assert!(!is_failure || world.all_down == "servfail" && !sites.iter().any(counts));
                prop_assert_eq!(
                    !message.answers().is_empty() || is_failure, has_data,
                    "{} for {}: {} of {:?}\n{}", rtype, client, message.rcode(), sites, world.sites_yaml()
                );
            }
        }
    }
}

/// Some sites that stand at one spot, and clients there.
fn one_spot(sites: usize, near: Option<&'static str>, spill: bool) -> World {
    let site = Site { spot: Some(0), weight: 100, handicap: 0, v4: 1, has_v6: false };
    World {
        sites: vec![site; sites],
        rules: Vec::new(),
        near,
        spill,
        sites_per_answer: 1,
        same_site: false,
        min_up: 1,
        all_down: "preferred",
        rows: vec![(IpNetwork::new(Ipv4Addr::new(5, 0, 0, 0).into(), 8).expect("a network"), Place::City(0))],
    }
}

/// Which site each of so many clients gets.
fn sites_of_clients(snapshot: &Snapshot, board: &Board, clients: u16) -> Vec<usize> {
    let site = |client: u16| {
        let [high, low] = client.to_be_bytes();
        let subnet = IpNetwork::new(Ipv4Addr::new(5, high, low, 0).into(), 24).expect("a network");
        let message = ask(snapshot, board, Rtype::A, subnet);
        usize::from(message.answers()[0].rdata[3]) / 4
    };
    (0..clients).map(site).collect()
}

/// How many of the clients get each of some sites that stand at one spot.
fn count_by_site(sites: usize, share_of_first: Share) -> Vec<u32> {
    let mut shares = vec![Share::FULL.0; sites];
    shares[0] = share_of_first.0;
    let world = one_spot(sites, Some("150 km"), false);
    let (snapshot, board) = world.publish(&Shown { verdicts: vec![1], shares, prices: vec![0] });
    let mut counts = vec![0; sites];
    for site in sites_of_clients(&snapshot, &board, 2_000) {
        counts[site] += 1;
    }
    counts
}

#[test]
fn meaning_10_all_near_sites_share_alike_however_many() {
    for count in count_by_site(10, Share::FULL) {
        assert!((150..=250).contains(&count), "{count} of 2,000 clients instead of 200");
    }
}

#[test]
fn meaning_10_a_share_takes_its_part_of_what_a_site_would_have() {
    let half = count_by_site(2, Share(Share::FULL.0 / 2))[0];
    assert!((440..=560).contains(&half), "{half} of 2,000 clients instead of 500");
}

/// An operator drains a site over ten minutes, and later takes that back over five: whoever has to move does so once each way.
#[test]
fn meaning_10_over_a_drain_and_back_each_client_moves_once_each_way() {
    const CLIENTS: u16 = 400;
    const STEPS: u64 = 20;
    for (near, spill) in [(Some("150 km"), false), (None, false), (None, true)] {
        let world = one_spot(3, near, spill);
        let (snapshot, board) =
            world.publish(&Shown { verdicts: vec![1], shares: vec![u16::MAX], prices: vec![0] });
        let mut overrides = Overrides::default();
        // What each client gets at each step of the way.
        let mut follow = |wish: Wish, now: u64, over: u64| -> Vec<Vec<usize>> {
            let order = Order {
                wish,
                site: "s0".to_owned(),
                service: None,
                lasts: None,
                over,
                reason: String::new(),
                by: String::new(),
                anyway: false,
            };
            overrides.follow(&order, board.layout(), now).expect("it is followed");
            let step = |number: u64| {
                let now = now + over * number / STEPS;
                overrides.expire(now);
                for (slot, of) in board.layout().shares.iter().enumerate() {
                    board.set_share(slot as u32, overrides.share(&of.site, &of.service, now));
                }
                sites_of_clients(&snapshot, &board, CLIENTS)
            };
            (0..=STEPS).map(step).collect()
        };
        let away = follow(Wish::Drain, 1_000_000, 600_000);
        let back = follow(Wish::Undrain, 9_000_000, 300_000);
        let at_home = |step: &Vec<usize>| step.iter().filter(|site| **site == 0).count();
        let all = at_home(&away[0]);
        assert!(all > usize::from(CLIENTS) / 4, "{all}");
        // Little by little.
        for half in [&away, &back].map(|way| at_home(&way[STEPS as usize / 2])) {
            assert!((all * 2 / 5..=all * 3 / 5).contains(&half), "{half} of {all} at half the time");
        }
        assert_eq!((at_home(&away[STEPS as usize]), at_home(&back[0])), (0, 0));
        assert_eq!(back[STEPS as usize], away[0], "who is where in the end");
        for client in 0..usize::from(CLIENTS) {
            let moves =
                |way: &[Vec<usize>]| way.windows(2).filter(|step| step[0][client] != step[1][client]).count();
            let expected = usize::from(away[0][client] == 0);
            assert_eq!(
                (moves(&away), moves(&back)),
                (expected, expected),
                "moves of {client}, near {near:?}"
            );
        }
    }
}
