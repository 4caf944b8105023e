//! What `meridian map` and `meridian simulate` count, held against asking for every single address.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use meridian::catchment::census::Census;
use meridian::coverage::summary::{by_site, moves, total};
use meridian::coverage::{Addresses, Part, Side, View, count, count_in};
use meridian::draw::{Colour, Picture, Shape, Size, png, svg};
use meridian::geo::Databases;
use meridian::health::board::{Board, Layout, Share};
use meridian::health::spill;
use meridian::nameserver::Given;
use meridian::reload::Reloader;
use meridian::reload::expect::{ask, take_down};
use meridian::snapshot::Snapshot;
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};

#[path = "support/geo.rs"]
mod geo;

use geo::{Record, Row};

const SITES: &str = "
sites:
  ams: { location: [52.4, 4.9], A: 192.0.2.1, weight: 1 }
  fra: { location: [50.1, 8.7], A: [192.0.2.2, 192.0.2.3], weight: 3 }
  syd: { location: [-33.9, 151.2], A: 192.0.2.4 }
services:
  web:
    sites: [ams, fra, syd]
    near: 600 km
    rules:
      - { subnet: [5.0.1.4/30], sites: [syd] }
      - { country: [KP], deny: true }
";

const ZONE: &str = "
soa: { primary: ns1, contact: hostmaster@example.com }
records:
  \"@\": { NS: ns1 }
  ns1: { A: 192.0.2.53 }
  www: { service: web }
";

/// Small enough to be asked about one by one. No more than four /56 in each IPv6 network: all of them are steered.
const NETWORKS: &[(&str, &str, f32, f32)] = &[
    ("5.0.0.0/22", "DE", 52.5, 13.4),
    ("5.0.4.0/23", "AU", -37.8, 145.0),
    ("5.0.6.0/24", "KP", 39.0, 125.8),
    ("5.0.7.0/25", "NL", 52.4, 4.9),
    ("10.0.0.0/24", "NL", 52.4, 4.9),
    ("100.63.255.0/24", "AU", -37.8, 145.0),
    ("2a00::/54", "DE", 52.5, 13.4),
    ("2a00:1::/55", "AU", -37.8, 145.0),
    ("2100::/54", "DE", 52.5, 13.4),
];

struct World {
    snapshot: Snapshot,
    layout: Layout,
    databases: Databases,
    census: Arc<Census>,
    reloader: Reloader,
}

fn world(folder: &Path) -> World {
    world_of(folder, SITES, NETWORKS)
}

fn world_of(folder: &Path, sites: &str, networks: &[(&str, &str, f32, f32)]) -> World {
    fs::create_dir_all(folder.join("zones")).expect("a folder");
    fs::create_dir_all(folder.join("geodb")).expect("a folder");
    fs::write(folder.join("zones/sites.yaml"), sites).expect("a file");
    fs::write(folder.join("zones/example.com.yaml"), ZONE).expect("a file");
    let row = |&(network, country, latitude, longitude): &(&str, &str, f32, f32)| Row {
        network: network.parse().expect("a network"),
        record: Record {
            country_code: Some(country.to_owned()),
            city: Some("C".to_owned()),
            latitude: Some(latitude),
            longitude: Some(longitude),
            ..Record::default()
        },
    };
    geo::write(&folder.join("geodb"), "test", &networks.iter().map(row).collect::<Vec<_>>());
    let mut reloader = Reloader::new(&folder.join("zones"), &[folder.join("geodb")], None);
    reloader.keep_databases();
    let reload = reloader.reload(false);
    assert!(!reload.findings.has_errors(), "{}", reload.findings);
    let (snapshot, layout) = reload.snapshot.expect("a snapshot");
    let databases = reloader.take_databases().expect("its databases");
    let census = reloader.take_census().expect("its census");
    World { snapshot, layout, databases, census, reloader }
}

/// All well; a site down; another drained.
fn boards(world: &World) -> [Board; 3] {
    let [well, down, drained] = [0, 1, 2].map(|_| Board::new(world.layout.clone()));
    take_down(&world.snapshot, &down, "fra");
    drained.set_share(world.snapshot.service(0).sites[2].share, Share::DRAINED);
    [well, down, drained]
}

/// What the server says.
fn asked(world: &World, board: &Board, address: IpAddr) -> Given {
    let question = query(&Name::parse("www.example.com.", None).expect("a name"), Rtype::A, None);
    let (responded, _) = ask(&world.snapshot, board, address, &question).expect("a response");
    responded.steered.expect("a steered name").given
}

#[test]
fn the_counts_are_those_of_asking_for_every_address() {
    counts_are_those_of_asking(SITES);
}

/// Then the census says the same.
#[test]
fn without_shares_too() {
    let (counted, of_census) = counts_are_those_of_asking(&without_shares());
    assert_eq!(of_census, counted);
}

/// A census does not know which blocks are somewhere: who shares what is drawn.
#[test]
fn by_a_census_shares_are_those_of_counting_and_nobody_is_lost() {
    const NETWORKS: &[(&str, &str, f32, f32)] = &[
        ("5.0.0.0/12", "DE", 52.5, 13.4),
        ("5.64.0.0/14", "AU", -37.8, 145.0),
        ("5.80.0.0/25", "NL", 52.4, 4.9),
        ("2a00::/32", "DE", 52.5, 13.4),
        ("2a01::/34", "AU", -37.8, 145.0),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let world = world_of(folder.path(), SITES, NETWORKS);
    let boards = boards(&world);
    let half = Board::new(world.layout.clone());
    half.set_share(world.snapshot.service(0).sites[1].share, Share(u16::MAX / 2));
    let boards = [&boards[0], &boards[1], &boards[2], &half];
    let rtype = world.snapshot.service(0).find_type(Rtype::A).expect("a type");
    let view = View { snapshot: &world.snapshot, service: 0, rtype };
    let walked = count(boards.map(|board| Side { view, board }), &world.databases);
    let (drawn, are_drawn) = count_in(&world.census, view, boards);
    assert!(are_drawn);
    assert_eq!(total(&drawn), total(&walked));
    let (all, walked, drawn) = (total(&walked), by_given(&walked), by_given(&drawn));
    // Who shares is told in the same lots: those who leave a site on one board are those who have it on the other.
    assert_eq!(walked.keys().collect::<HashSet<_>>(), drawn.keys().collect::<HashSet<_>>());
    for (given, addresses) in &walked {
        let [walked, drawn] = [*addresses, drawn[given]].map(|addresses| addresses.of(all));
        assert!((walked.v4 - drawn.v4).abs() < 0.01, "{given:?}: {walked:?}, drawn {drawn:?}");
        assert!((walked.v6 - drawn.v6).abs() < 0.1, "{given:?}: {walked:?}, drawn {drawn:?}");
    }
    assert!(walked.len() >= 4, "{walked:?}");
}

fn without_shares() -> String {
    SITES.replace("    near: 600 km\n", "")
}

#[test]
fn a_census_is_kept_with_the_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let World { snapshot, layout, census, .. } = world_of(folder.path(), &without_shares(), NETWORKS);
    let shares_of = |snapshot: &Snapshot, layout: Layout, census: &Census| {
        let rtype = snapshot.service(0).find_type(Rtype::A).expect("a type");
        let (view, board) = (View { snapshot, service: 0, rtype }, Board::new(layout));
        by_given(&count_in(census, view, [&board]).0)
    };
    let wanted = shares_of(&snapshot, layout, &census);
    let reloader = || {
        let geodb = [folder.path().join("geodb")];
        let mut reloader =
            Reloader::new(&folder.path().join("zones"), &geodb, Some(&folder.path().join("run")));
        reloader.keep_databases();
        reloader
    };
    drop({
        let mut first = reloader();
        first.reload(false);
        first
    });
    let mut second = reloader();
    let (snapshot, layout) = second.reload(false).snapshot.expect("a snapshot");
    assert!(second.take_databases().is_none(), "nobody opened them");
    let census = second.take_census().expect("the census that was kept");
    assert_eq!(shares_of(&snapshot, layout, &census), wanted);
}

fn by_given<const N: usize>(parts: &[Part<N>]) -> HashMap<[Given; N], Addresses> {
    let mut counted = HashMap::new();
    for part in parts {
        *counted.entry(part.given).or_default() += part.addresses;
    }
    counted
}

/// What is counted on three boards.
type Counted = HashMap<[Given; 3], Addresses>;

/// And what the census says of it.
fn counts_are_those_of_asking(sites: &str) -> (Counted, Counted) {
    let folder = tempfile::tempdir().expect("a folder");
    let world = world_of(folder.path(), sites, NETWORKS);
    let boards = boards(&world);
    let rtype = world.snapshot.service(0).find_type(Rtype::A).expect("a type");
    let view = View { snapshot: &world.snapshot, service: 0, rtype };
    let mut wanted = Counted::new();
    let mut add = |address: IpAddr, addresses: Addresses| {
        let given = boards.each_ref().map(|board| asked(&world, board, address));
        let told = boards.each_ref().map(|board| view.given(address, board));
        assert_eq!(told, given, "{address}");
        *wanted.entry(given).or_default() += addresses;
    };
    for (network, ..) in
        NETWORKS.iter().filter(|(network, ..)| !["10.0.0.0/24", "2100::/54"].contains(network))
    {
        match network.parse().expect("a network") {
            ipnetwork::IpNetwork::V4(v4) => {
                v4.iter().for_each(|address| add(address.into(), Addresses { v4: 1, v6: 0 }));
            }
            ipnetwork::IpNetwork::V6(v6) => {
                for block in 0..1_u128 << (56 - v6.prefix()) {
                    let address = Ipv6Addr::from(u128::from(v6.network()) + (block << 72));
                    add(address.into(), Addresses { v4: 0, v6: 1 << 72 });
                }
            }
        }
    }
    let sides = boards.each_ref().map(|board| Side { view, board });
    let parts = count(sides, &world.databases);
    assert_eq!(by_given(&parts), wanted);
    // Every kind of answer is there: shared by weight, by a rule, denied.
    assert!(wanted.len() >= 4, "{wanted:?}");
    assert_eq!(total(&parts).v4, 1024 + 512 + 256 + 128 + 256);

    let service = &world.reloader.services()[0];
    let groups = by_site(service, &parts);
    let sum: u64 = groups.iter().map(|group| group.addresses.v4).sum();
    assert_eq!(sum, total(&parts).v4);

    let (of_census, are_drawn) = count_in(&world.census, view, boards.each_ref());
    assert_eq!(are_drawn, sites.contains("near:"));
    assert_eq!(total(&of_census), total(&parts));
    (wanted, by_given(&of_census))
}

#[test]
fn what_moves_is_what_the_site_had_and_it_goes_to_its_neighbour() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = world(folder.path());
    let [well, down, _] = boards(&world);
    let rtype = world.snapshot.service(0).find_type(Rtype::A).expect("a type");
    let view = View { snapshot: &world.snapshot, service: 0, rtype };
    let service = &world.reloader.services()[0];
    let [well, down] = [&well, &down].map(|board| Side { view, board });
    let before = by_site(service, &count([well], &world.databases));
    let moved = moves(service, &count([well, down], &world.databases));
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!((moved[0].from, moved[0].to), (Given::Site(1), Given::Site(0)));
    assert_eq!(moved[0].addresses, before[1].addresses);
    // From Berlin: 577 km to Amsterdam, 424 km to Frankfurt.
    let added = moved[0].added_km.quantile(0.5).expect("kilometres");
    assert!((140..170).contains(&added), "{added}");
}

#[test]
fn pictures_are_well_formed_whatever_a_name_is() {
    let shapes = vec![
        Shape::Rect([1, 1, 3, 3], Colour::GREY),
        Shape::Rect([7, 1, 3, 3], Colour::GREY),
        Shape::Circle([5.0, 5.0], 3.0, Colour::INK),
        Shape::Text([1, 8], "<&\"\u{7}é".to_owned(), Size::Large, Colour::INK),
        Shape::Label([900, 900], "outside".to_owned()),
    ];
    let picture = Picture { width: 20, height: 10, shapes };
    let text = svg::write(&picture, "a < b");
    assert!(text.contains("<title>a &lt; b</title>") && text.contains("&lt;&amp;&quot;\u{fffd}é"), "{text}");
    assert!(text.contains("d=\"M0 0m1 1h3v3h-3zm6 0h3v3h-3z\""), "{text}");
    let octets = png::write(&picture).expect("a picture");
    let mut reader = png_reader(&octets);
    let mut pixels = vec![0; 40 * 20 * 3];
    reader.next_frame(&mut pixels).expect("pixels");
    assert_eq!(pixels[(3 * 40 + 3) * 3..][..3], Colour::GREY.0);
    assert_eq!(pixels[..3], [255; 3]);
}

fn png_reader(octets: &[u8]) -> ::png::Reader<std::io::Cursor<&[u8]>> {
    ::png::Decoder::new(std::io::Cursor::new(octets)).read_info().expect("a PNG")
}

/// What is counted to find prices and who is steered by them are the same people: with a site out, no other is given more than
/// it has room for, and those that cost something are full to the brim.
#[test]
fn spilled_clients_fill_sites_to_their_capacity() {
    const SITES: &str = "sites:
  fra: { location: [50.03, 8.57], A: 192.0.2.1, capacity: 10 }
  iad: { location: [38.95, -77.45], A: 192.0.2.2, capacity: 10 }
  gru: { location: [-23.43, -46.47], A: 192.0.2.3, capacity: 5 }
  nrt: { location: [35.76, 140.39], A: 192.0.2.4, capacity: 5 }
services:
  web: { spill: true }
";
    const NETWORKS: &[(&str, &str, f32, f32)] = &[
        ("5.0.0.0/16", "DE", 52.5, 13.4),
        ("5.1.0.0/16", "ES", 40.4, -3.7),
        ("5.2.0.0/15", "IN", 19.1, 72.9),
        ("5.4.0.0/16", "US", 40.7, -74.0),
        ("5.5.0.0/17", "BR", -23.5, -46.6),
        ("5.6.0.0/16", "JP", 35.7, 139.7),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let World { snapshot, layout, databases, reloader, .. } = world_of(folder.path(), SITES, NETWORKS);
    let rtype = snapshot.service(0).find_type(Rtype::A).expect("a type");
    let view = View { snapshot: &snapshot, service: 0, rtype };
    let loads = |board: &Board| -> Vec<f64> {
        let parts = count([Side { view, board }], &databases);
        let all = total(&parts);
        let groups = by_site(&reloader.services()[0], &parts);
        groups.iter().map(|group| group.addresses.of(all).v4).collect()
    };
    let board = Board::new(layout);
    spill::price(&board);
    assert!(!board.is_priced(0));
    // The fullest has just room for its own.
    let capacities = [10.0, 10.0, 5.0, 5.0];
    let fullness = loads(&board).into_iter().zip(capacities).map(|(load, capacity)| load / capacity);
    let unit = fullness.fold(0.0, f64::max);
    take_down(&snapshot, &board, "fra");
    spill::price(&board);
    assert!(board.is_priced(0));
    for (site, (load, capacity)) in loads(&board).into_iter().zip(capacities).enumerate() {
        let room = capacity * unit;
        assert!(load <= room * 1.03, "site {site} is given {load}, and has room for {room}");
        let is_full = board.price(site as u32) > 0;
        assert!(!is_full || load >= room * 0.97, "site {site} is given {load} of {room} and costs something");
    }
}
