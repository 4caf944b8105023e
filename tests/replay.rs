//! Queries that clients sent, out of every kind of file, and what two sides make of them.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use meridian::health::board::Board;
use meridian::nameserver::Given;
use meridian::nameserver::edns::ClientSubnet;
use meridian::reload::Reloader;
use meridian::replay::compare::{Comparison, Side};
use meridian::replay::follow::Follow;
use meridian::replay::{Counts, read};
use meridian::snapshot::Snapshot;
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};

#[path = "support/capture.rs"]
mod capture;
#[path = "support/geo.rs"]
mod geo;

use capture::{
    ETHERNET, TCP, UDP, block, dnstap, ethernet, framed, ip, pcap, pcapng, query_packet, tapped, tcp, udp,
    with_length,
};

/// What is asked, and by whom, a line each.
type Read = (Vec<String>, Counts);

fn questions(file: &[u8]) -> std::io::Result<Read> {
    let mut lines = Vec::new();
    let counts = read(file, &mut |question| {
        let subnet = question.subnet.map_or_else(String::new, |subnet| {
            format!(" for family {} /{}", subnet.family, subnet.source_prefix_length)
        });
        lines.push(format!("{:?} {} from {}{subnet}", question.qname, question.qtype, question.source));
    })?;
    Ok((lines, counts))
}

fn counted(queries: u64, unreadable: u64, others: u64) -> Counts {
    Counts { queries, unreadable, others, is_cut_off: false }
}

fn asked(name: &str) -> Vec<u8> {
    query(&Name::parse(name, None).expect("a name"), Rtype::AAAA, None)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The one question of the tests about packets, in mixed case.
fn datagram() -> Vec<u8> {
    ip(address("198.51.100.7"), UDP, &udp(53, &asked("wWw.Example.com.")))
}

fn expected() -> Read {
    (vec!["www.example.com. AAAA from 198.51.100.7".to_owned()], counted(1, 0, 0))
}

#[test]
fn a_packet_is_the_same_on_every_link() {
    let v4 = datagram();
    let mut cooked_2 = vec![0; 20];
    cooked_2[..2].copy_from_slice(&[8, 0]);
    let mut cooked = vec![0; 16];
    cooked[14] = 8;
    let tags = [&[2; 12][..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat();
    let links = [
        (ETHERNET, ethernet(&v4)),
        // With a checksum of four octets behind each frame, and so said.
        (ETHERNET | 0x2400_0000, [ethernet(&v4), vec![1, 2, 3, 4]].concat()),
        (ETHERNET, framed(&tags, &v4)),
        (113, framed(&cooked, &v4)),
        (276, framed(&cooked_2, &v4)),
        (101, v4.clone()),
        (12, v4.clone()),
        (228, v4.clone()),
        (0, framed(&[2, 0, 0, 0], &v4)),
        (108, framed(&[0, 0, 0, 2], &v4)),
    ];
    for (link, packet) in links {
        for is_big in [false, true] {
            let file = pcap(link, std::slice::from_ref(&packet), is_big);
            assert_eq!(questions(&file).expect("a capture"), expected(), "{link}");
        }
    }
}

#[test]
fn pcapng_has_interfaces_of_several_links_in_either_order_of_octets() {
    for is_big in [false, true] {
        let packets = [(1, datagram()), (0, ethernet(&datagram())), (2, datagram())];
        let mut file = pcapng(&[1, 101], &packets, is_big);
        // Another section begins anew, and a simple packet is of its first interface.
        file.extend(pcapng(&[101], &[], !is_big));
        let length = datagram().len() as u32;
        let number = if is_big { length.to_le_bytes() } else { length.to_be_bytes() };
        file.extend(block(3, &[&number[..], &datagram()].concat(), !is_big));
        // What is of no interest here: statistics.
        file.extend(block(5, &[0; 12], !is_big));
        let (lines, counts) = questions(&file).expect("a capture");
        assert_eq!((lines.len(), counts), (3, counted(3, 1, 0)));
        assert!(lines.iter().all(|line| *line == expected().0[0]), "{lines:?}");
    }
}

#[test]
fn ipv6_is_read_past_its_extension_headers() {
    let source = address("2001:db8::7");
    let message = asked("www.example.com.");
    let datagram = udp(53, &message);
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let chain = [&options(60)[..], &options(44), &[UDP, 0, 0, 1, 0, 0, 0, 9], &datagram].concat();
    let later = [&[UDP, 0, 0, 9, 0, 0, 0, 9], &datagram[..]].concat();
    let packets = [ip(source, UDP, &datagram), ip(source, 0, &chain), ip(source, 44, &later)];
    let (lines, counts) = questions(&pcap(101, &packets, false)).expect("a capture");
    assert_eq!(lines, ["www.example.com. AAAA from 2001:db8::7"; 2]);
    assert_eq!(counts, counted(2, 0, 1));
}

#[test]
fn tcp_is_read_where_a_segment_holds_whole_queries() {
    let source = address("198.51.100.7");
    let whole = with_length(&asked("a.example.com."));
    let two = [whole.clone(), with_length(&asked("b.example.com."))].concat();
    let cut = [&whole[..], &whole[..20]].concat();
    let segments = [tcp(53, &whole), tcp(53, &two), tcp(53, &cut), tcp(53, &[]), tcp(443, &whole)];
    let packets: Vec<Vec<u8>> = segments.iter().map(|segment| ip(source, TCP, segment)).collect();
    let (lines, counts) = questions(&pcap(101, &packets, false)).expect("a capture");
    let names: Vec<&str> = lines.iter().map(|line| &line[..1]).collect();
    assert_eq!((names.as_slice(), counts), (&["a", "a", "b", "a"][..], counted(4, 1, 2)));
}

#[test]
fn what_is_no_query_is_counted_and_ends_nothing() {
    let source = address("198.51.100.7");
    let to = |port: u16, message: &[u8]| ethernet(&ip(source, UDP, &udp(port, message)));
    let message = asked("www.example.com.");
    let mut response = message.clone();
    response[2] |= 0x80;
    let mut notify = message.clone();
    notify[2] |= 4 << 3;
    let whole = to(53, &message);
    let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
    let packets = [
        to(53, &message[..20]),
        to(53, &notify),
        to(53, &[]),
        whole[..50].to_vec(),
        to(53, &response),
        to(5353, &message),
        arp,
        Vec::new(),
        whole.clone(),
    ];
    let (lines, counts) = questions(&pcap(ETHERNET, &packets, false)).expect("a capture");
    assert_eq!((lines, counts), (expected().0, counted(1, 4, 4)));
}

#[test]
fn a_file_that_is_cut_off_is_read_as_far_as_it_goes() {
    let packet = query_packet(address("198.51.100.7"), &asked("www.example.com."));
    let frame = tapped(1, address("198.51.100.7"), &asked("www.example.com."));
    let mut tap = dnstap(&[frame.clone(), frame], false);
    // What says that it ends.
    tap.truncate(tap.len() - 12);
    let packets = [packet.clone(), packet.clone()];
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(&pcap(ETHERNET, &packets, false)).expect("into memory");
    let compressed = compressed.finish().expect("into memory");
    for file in
        [pcap(ETHERNET, &packets, false), pcapng(&[1], &[(0, packet.clone()), (0, packet)], false), tap]
    {
        let (lines, counts) = questions(&file[..file.len() - 5]).expect("a capture");
        assert_eq!((lines.len(), counts), (1, Counts { is_cut_off: true, ..counted(1, 0, 0) }));
    }
    let (_, counts) = questions(&compressed[..compressed.len() - 10]).expect("a capture");
    assert!(counts.is_cut_off);
}

#[test]
fn dnstap_tells_what_servers_were_asked() {
    let (source, message) = (address("2001:db8::7"), asked("www.example.com."));
    let mut frames: Vec<Vec<u8>> = (1..=6).map(|kind| tapped(kind, source, &message)).collect();
    frames.push(tapped(1, source, &message[..20]));
    frames.push(vec![0x72, 0x7f, 1]);
    for is_both_ways in [false, true] {
        let (lines, counts) = questions(&dnstap(&frames, is_both_ways)).expect("a file of dnstap");
        // Half of the kinds are responses.
        assert_eq!(lines, ["www.example.com. AAAA from 2001:db8::7"; 3]);
        assert_eq!(counts, counted(3, 2, 3));
    }
}

#[test]
fn a_query_log_tells_block_and_subnet() {
    let log = "\
        {\"time\":\"x\",\"client\":\"192.0.2.0/24\",\"qname\":\"WWW.example.com.\",\"qtype\":\"A\",\"rcode\":\"NOERROR\"}\n\
        {\"client\":\"2001:db8::/56\",\"subnet\":\"5.0.4.0/24\",\"qname\":\"a\\\\.b.example.com.\",\"qtype\":\"TYPE65280\"}\n\
        \n\
        {\"client\":\"192.0.2.0/24\",\"transport\":\"udp\"}\n\
        {\"client\":\"192.0.2.0/33\",\"qname\":\"a.\",\"qtype\":\"A\"}\n\
        nonsense\n";
    let long = format!("{{\"client\":\"{}\"}}\n", "9".repeat(10_000));
    let last = "{\"client\":\"192.0.2.0/24\",\"qname\":\".\",\"qtype\":\"NS\"}";
    let text = format!("{log}{long}{last}");
    let wanted = [
        "www.example.com. A from 192.0.2.0",
        "a\\.b.example.com. TYPE65280 from 2001:db8:: for family 1 /24",
        ". NS from 192.0.2.0",
    ];
    let (lines, counts) = questions(text.as_bytes()).expect("a log");
    assert_eq!((lines.as_slice(), counts), (&wanted.map(str::to_owned)[..], counted(3, 4, 0)));

    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(text.as_bytes()).expect("into memory");
    let compressed = compressed.finish().expect("into memory");
    assert_eq!(questions(&compressed).expect("a log").0, lines);
}

#[test]
fn another_file_is_refused_with_what_is_expected() {
    let told = |file: &[u8]| questions(file).expect_err("it is refused").to_string();
    assert!(told(b"PK\x03\x04 something").contains("a capture (pcap, pcapng) or a dnstap file is expected"));
    assert!(told(&pcap(127, &[vec![0; 60]], false)).contains("link type 127"));
    let other = dnstap(&[], false);
    let at = other.windows(8).position(|part| part == b"protobuf").expect("it is there");
    let mut other = other.clone();
    other[at] = b'x';
    assert!(told(&other).contains("\"xrotobuf:dnstap.Dnstap\""));
    assert_eq!(questions(b"").expect("nothing").1, Counts::default());
}

/// A resolver's query and what is asked again are the same to a server.
#[test]
fn a_question_is_asked_again_as_it_was() {
    for (subnet, octets) in [("5.0.4.0/23", 3), ("2001:db8::/32", 4), ("0.0.0.0/0", 0)] {
        let name = Name::parse("www.example.com.", None).expect("a name");
        let message = query(&name, Rtype::A, Some(subnet.parse().expect("a subnet")));
        let file = pcap(ETHERNET, &[query_packet(address("198.51.100.7"), &message)], false);
        let mut again = Vec::new();
        let counts = read(&file[..], &mut |question| {
            let told = question.subnet.as_ref().map(ClientSubnet::address_length);
            assert_eq!(told, Some(octets));
            question.write(&mut again);
        });
        assert_eq!((counts.expect("a capture"), again), (counted(1, 0, 0), message));
    }
}

/// Zones with two sites, one of which may be elsewhere, and a name that may be another.
fn side(folder: &Path, sites: &str, text: &str) -> (Snapshot, Board) {
    let zones = folder.join("zones");
    fs::create_dir_all(&zones).expect("a folder");
    let zone = format!(
        "soa: {{ primary: ns1.example.net., serial: 1 }}\nrecords:\n  \"@\": {{ NS: ns1.example.net. }}\n  www: {{ service: web }}\n  {text}\n"
    );
    fs::write(zones.join("example.com.yaml"), zone).expect("a file");
    let sites = format!(
        "sites:\n  syd: {{ location: [-33.87, 151.21], A: 192.0.2.10 }}\n  fra: {{ location: [50.11, 8.68], A: 192.0.2.20 }}\n  ams: {{ location: [52.37, 4.9], A: 192.0.2.30 }}\nservices:\n  web: {{ sites: {sites} }}\n"
    );
    fs::write(zones.join("sites.yaml"), sites).expect("a file");
    let row = |network: &str, country: &str, latitude, longitude| geo::Row {
        network: network.parse().expect("a network"),
        record: geo::Record {
            country_code: Some(country.to_owned()),
            latitude: Some(latitude),
            longitude: Some(longitude),
            city: Some("A".to_owned()),
            ..geo::Record::default()
        },
    };
    let places = [row("5.0.0.0/24", "AU", -33.9, 151.2), row("5.0.1.0/24", "NL", 52.4, 4.9)];
    geo::write(&folder.join("geodb"), "place", &places);
    let reload = Reloader::new(&zones, &[folder.join("geodb")], None).reload(false);
    let (snapshot, layout) = reload.snapshot.unwrap_or_else(|| panic!("{}", reload.findings));
    (snapshot, Board::new(layout))
}

#[test]
fn who_is_answered_differently_is_told_by_name_and_by_service() {
    let [old, new] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    for folder in [&old, &new] {
        fs::create_dir(folder.path().join("geodb")).expect("a folder");
    }
    let (old, old_board) = side(old.path(), "[syd, fra]", "v: { TXT: one }");
    let (new, new_board) = side(new.path(), "[ams, syd, fra]", "v: { TXT: one, A: 192.0.2.1 }");
    let sides = [Side { snapshot: &old, board: &old_board }, Side { snapshot: &new, board: &new_board }];
    let line = |client: &str, name: &str, rtype: &str| {
        format!("{{\"client\":\"{client}\",\"qname\":\"{name}.example.com.\",\"qtype\":\"{rtype}\"}}\n")
    };
    let log = [
        line("5.0.1.0/24", "www", "A").repeat(3),
        line("5.0.0.0/24", "www", "A").repeat(2),
        line("5.0.0.0/24", "v", "TXT"),
        line("5.0.0.0/24", "v", "A"),
        line("5.0.0.0/24", "nowhere", "A"),
    ]
    .concat();
    let mut comparison = Comparison::default();
    read(log.as_bytes(), &mut |question| comparison.add(question, sides)).expect("a log");
    assert_eq!((comparison.queries, comparison.different), (8, 4));
    let names: Vec<String> = comparison
        .names
        .in_order()
        .iter()
        .flat_map(|(name, rtype, of_name)| {
            let told = move |way: &meridian::replay::names::Way| {
                format!("{name} {rtype} {}: {} -> {}", way.queries, way.before, way.after)
            };
            of_name.in_order().into_iter().map(told)
        })
        .collect();
    let wanted = [
        "www.example.com. A 3: fra 192.0.2.20 -> ams 192.0.2.30",
        "v.example.com. A 1: no data -> 192.0.2.1",
    ];
    assert_eq!(names, wanted);
    // In the numbers of each side.
    let mut moves = comparison.moves([0, 0], Rtype::A).to_vec();
    moves.sort_by_key(|(_, queries)| *queries);
    let wanted = [([Given::Site(0), Given::Site(1)], 2), ([Given::Site(1), Given::Site(0)], 3)];
    assert_eq!(moves, wanted);
    assert!(comparison.moves([0, 0], Rtype::AAAA).is_empty());
}

/// Anybody can ask for names that nobody else asks for.
#[test]
fn names_beyond_number_do_not_displace_the_ones_that_are_asked_for() {
    let [old, new] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    for folder in [&old, &new] {
        fs::create_dir(folder.path().join("geodb")).expect("a folder");
    }
    let (old, old_board) = side(old.path(), "[syd, fra]", "\"*\": { A: 192.0.2.1 }");
    let (new, new_board) = side(new.path(), "[syd, fra]", "\"*\": { A: 192.0.2.2 }");
    let sides = [Side { snapshot: &old, board: &old_board }, Side { snapshot: &new, board: &new_board }];
    let line = |name: &str| {
        format!("{{\"client\":\"5.0.1.0/24\",\"qname\":\"{name}.example.com.\",\"qtype\":\"A\"}}\n")
    };
    let noise: String = (0..21_000).map(|number| line(&format!("x{number}"))).collect();
    let log = [line("loud").repeat(5), noise, line("loud")].concat();
    let mut comparison = Comparison::default();
    read(log.as_bytes(), &mut |question| comparison.add(question, sides)).expect("a log");
    let names = comparison.names.in_order();
    assert!(names.len() <= 20_000, "{}", names.len());
    assert_eq!((names[0].0.to_string().as_str(), names[0].2.queries), ("loud.example.com.", 6));
    let told: u64 = names.iter().map(|(_, _, of_name)| of_name.queries).sum();
    assert_eq!(told + comparison.names.let_go, comparison.different);
}

fn log_line(name: &str) -> String {
    format!("{{\"client\":\"5.0.1.0/24\",\"qname\":\"{name}.\",\"qtype\":\"A\"}}\n")
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
}

fn new_names(follow: &mut Follow) -> Vec<String> {
    let mut names = Vec::new();
    follow.read(&mut |question| names.push(format!("{:?}", question.qname))).expect("it is read");
    names
}

#[test]
fn a_log_is_followed_over_files_that_are_exchanged_or_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("q.log");
    append(&path, &log_line("before"));
    let mut follow = Follow::begin(&path).expect("a log");
    assert!(new_names(&mut follow).is_empty());
    let half = log_line("b");
    append(&path, &log_line("a"));
    append(&path, &half[..10]);
    assert_eq!(new_names(&mut follow), ["a."]);
    append(&path, &half[10..]);
    append(&path, &log_line("c"));
    fs::rename(&path, folder.path().join("q.log.1")).expect("it is renamed");
    // Whoever writes may do so to the old file for a moment.
    assert_eq!(new_names(&mut follow), ["b.", "c."]);
    append(&folder.path().join("q.log.1"), &log_line("d"));
    append(&path, &log_line("e"));
    assert_eq!(new_names(&mut follow), ["d.", "e."]);
    fs::write(&path, "").expect("it is cut");
    assert!(new_names(&mut follow).is_empty());
    append(&path, &log_line("g"));
    assert_eq!(new_names(&mut follow), ["g."]);
}

#[test]
fn a_log_that_is_not_there_yet_is_followed_from_its_first_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("q.log");
    let mut follow = Follow::begin(&path).expect("a log");
    assert!(new_names(&mut follow).is_empty());
    append(&path, &log_line("a"));
    assert_eq!(new_names(&mut follow), ["a."]);
}
