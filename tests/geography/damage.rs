//! Damaged files are refused with a reason, or do no harm: in bounded time, without a panic.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::{fs, os::unix::fs::symlink};

use meridian::finding::Findings;
use meridian::geo::{Databases, Geography};

use crate::support::Field::{Double, List};
use crate::support::{Field, Mmdb, folder, ip, map, node_count, set_node_count, text, value_of, write};
use crate::world::Numbers;

/// Longer than any of these files takes, even beside other tests.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of a file.
#[derive(Debug, PartialEq)]
enum Fate {
    Refused(String),
    /// Opened, and found damaged while it was walked.
    Damaged,
    /// Opened and walked, with as many networks.
    Read(usize),
}

/// Opens and walks what may be anything, on a thread of its own: one that never ends fails the test.
fn try_to_read(path: &Path) -> Fate {
    let path = path.to_owned();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(read(path)));
    receiver.recv_timeout(PATIENCE).expect("an end, without a panic")
}

fn read(path: PathBuf) -> Fate {
    let mut findings = Findings::new();
    let databases = Databases::open(&[path], &mut findings);
    if findings.has_errors() {
        assert!(databases.is_empty());
        return Fate::Refused(findings.to_string());
    }
    for address in ["1.1.1.1", "198.41.0.1", "255.255.255.255", "2a01:4f8::1", "::1", "2002::1"] {
        let _ = databases.locate(ip(address));
    }
    let mut count = 0;
    let mut walker = databases.walker();
    let mut last = None;
    walker.walk_v4((0, 0), &mut |block| {
        assert!(last.is_none_or(|last| last < block.first) && block.first <= block.last);
        last = Some(block.last);
        let _ = databases.place(block.records);
        count += 1;
    });
    let mut last = None;
    walker.walk_v6((0x2000 << 112, 3), &mut |block| {
        assert!(last.is_none_or(|last| last < block.first) && block.first <= block.last);
        last = Some(block.last);
        let _ = databases.place(block.records);
        count += 1;
    });
    drop(walker);
    if databases.damaged().is_empty() { Fate::Read(count) } else { Fate::Damaged }
}

#[track_caller]
fn assert_refused(path: &Path) -> String {
    match try_to_read(path) {
        Fate::Refused(reason) => {
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(reason.contains(&*name), "{reason} does not name {name}");
            reason
        }
        other => panic!("{} is {other:?}", path.display()),
    }
}

fn try_octets(octets: &[u8]) -> Fate {
    let folder = folder();
    try_to_read(&write(&folder, "damaged.mmdb", octets))
}

#[track_caller]
fn assert_octets_refused(octets: &[u8]) -> String {
    let folder = folder();
    assert_refused(&write(&folder, "damaged.mmdb", octets))
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/geodb").join(name)).expect("the sample")
}

/// A file of a few networks in both families.
fn small() -> Mmdb {
    let record = |code: &'static str| {
        map([
            ("country_code", text(code)),
            ("city", text("City")),
            ("latitude", Double(-33.875)),
            ("longitude", Double(151.25)),
        ])
    };
    let mut file = Mmdb::v6();
    for (number, code) in ["AU", "GB", "DE", "US", "NZ", "NO"].into_iter().enumerate() {
        file = file.with(&format!("198.{number}.0.0/16"), &record(code));
        file = file.with(&format!("2a0{number}::/16"), &record(code));
    }
    file
}

/// A file made by hand: what no writer would write. Children above `nodes.len()` lead into the data section, which
/// has one record.
fn by_hand(ip_version: u8, nodes: &[[u32; 2]], data: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    for node in nodes {
        octets.extend(node.iter().flat_map(|child| child.to_be_bytes()));
    }
    octets.extend_from_slice(&[0; 16]);
    octets.extend_from_slice(data);
    let file = if ip_version == 6 { Mmdb::v6() } else { Mmdb::v4() };
    let metadata = file.with("128.0.0.0/1", &text("")).octets();
    let marker = metadata.windows(3).position(|window| window == [0xab, 0xcd, 0xef]).expect("the marker");
    let mut metadata = metadata[marker..].to_vec();
    let at = value_of("record_size", &metadata).start;
    metadata[at] = 32;
    set_node_count(&mut metadata, nodes.len() as u32);
    octets.extend(metadata);
    octets
}

/// `{ "country_code": "AU" }`.
fn record() -> Vec<u8> {
    [b"\xe1\x4ccountry_code".as_slice(), b"\x42AU"].concat()
}

#[test]
fn files_by_hand_are_sound_in_themselves() {
    // 0 -> (data, 1); 1 -> (nothing, data)
    for ip_version in [4, 6] {
        let nodes = [[2 + 16, 1], [2, 2 + 16]];
        assert!(matches!(try_octets(&by_hand(ip_version, &nodes, &record())), Fate::Read(_)));
    }
}

#[test]
fn a_tree_that_cycles_is_refused() {
    for ip_version in [4, 6] {
        assert_octets_refused(&by_hand(ip_version, &[[0, 0]], &record()));
        assert_octets_refused(&by_hand(ip_version, &[[1, 1 + 16 + 1], [0, 2]], &record()));
        assert_octets_refused(&by_hand(ip_version, &[[3 + 16, 1], [3, 2], [1, 3]], &record()));
    }
}

/// Each node leads to the next one twice: 2^32 or 2^128 ways through a file of a few hundred octets.
fn doubling(ip_version: u8, leaf: u32, data: &[u8]) -> Vec<u8> {
    let count = if ip_version == 6 { 128 } else { 32 };
    let mut nodes: Vec<[u32; 2]> = (1..=count).map(|next| [next, next]).collect();
    nodes[count as usize - 1] = [count + leaf, count + leaf];
    by_hand(ip_version, &nodes, data)
}

#[test]
fn a_tree_with_more_networks_than_nodes_is_refused() {
    for ip_version in [4, 6] {
        let reason = assert_octets_refused(&doubling(ip_version, 16, &record()));
        assert!(reason.contains("damaged"), "{reason}");
    }
}

#[test]
fn a_tree_with_endless_ways_to_nothing_is_refused() {
    for ip_version in [4, 6] {
        assert_octets_refused(&doubling(ip_version, 0, &record()));
    }
}

#[test]
fn a_tree_that_doubles_behind_good_networks_is_refused() {
    // The left half is a network, the right half doubles.
    let count = 32;
    let mut nodes: Vec<[u32; 2]> = (1..=count).map(|next| [next, next]).collect();
    nodes[0] = [count + 16, 1];
    nodes[count as usize - 1] = [count, count];
    assert_octets_refused(&by_hand(4, &nodes, &record()));
}

#[test]
fn ipv4_that_is_reached_in_several_ways_is_no_damage() {
    // As MaxMind writes: ::ffff:0:0/96, 2002::/16 and 2001::/32 lead to where ::/96 does.
    let mut nodes: Vec<[u32; 2]> = (1..=96).map(|next| [next, 0]).collect();
    let v4 = 96;
    nodes.push([0, 0]);
    // 2002::/16 in full: 0010 0000 0000 0010.
    let mut at = 0;
    for (bit, is_one) in (0..16).map(|bit| (bit, 0x2002_u16 >> (15 - bit) & 1 == 1)) {
        let next = if bit == 15 { v4 } else { nodes.len() as u32 };
        if is_one || at != bit {
            nodes[at as usize][usize::from(is_one)] = next;
            if bit < 15 {
                nodes.push([0, 0]);
            }
            at = next;
        } else {
            at += 1;
        }
    }
    let count = nodes.len() as u32;
    nodes[v4 as usize] = [count + 16, count + 16];
    // What leads nowhere is the number of nodes.
    for node in &mut nodes {
        for child in node {
            *child = if *child == 0 { count } else { *child };
        }
    }
    assert!(matches!(try_octets(&by_hand(6, &nodes, &record())), Fate::Read(2)), "two halves of IPv4");
}

#[test]
fn a_record_that_unfolds_without_end_is_no_location() {
    // Lists of two pointers each to the list before: 2^40 values. Pointers count from the data section's start.
    let mut data = record();
    let mut list = data.len() as u8;
    data.extend_from_slice(b"\x02\x04\x40\x40");
    for _ in 0..40 {
        let next = data.len() as u8;
        data.extend_from_slice(&[0x02, 0x04, 0x20, list, 0x20, list]);
        list = next;
    }
    let nodes = [[1 + 16, 1 + 16 + u32::from(list)]];
    assert_eq!(try_octets(&by_hand(4, &nodes, &data)), Fate::Read(1));
}

#[test]
fn a_record_nested_without_end_is_no_location() {
    // Maps in maps, and lists in lists: whoever reads them by recursion needs a stack for them.
    for level in [b"\xe1\x41a".as_slice(), b"\x01\x04"] {
        for depth in [100, 500, 100_000] {
            let mut data = record();
            let deep = data.len() as u32;
            data.extend(level.repeat(depth));
            data.extend_from_slice(b"\x41a");
            assert_eq!(try_octets(&by_hand(4, &[[1 + 16, 1 + 16 + deep]], &data)), Fate::Read(1));
        }
    }
}

#[test]
fn a_record_that_contains_itself_is_no_location() {
    let mut data = record();
    let itself = data.len() as u8;
    data.extend_from_slice(&[0xe1, 0x41, b'a', 0x20, itself]);
    assert_eq!(try_octets(&by_hand(4, &[[1 + 16, 1 + 16 + u32::from(itself)]], &data)), Fate::Read(1));
}

#[test]
fn what_lies_too_deep_does_not_hide_what_a_record_tells() {
    // { "country_code": "AU", "a": { "a": { ... } } }
    let mut data = [b"\xe2".as_slice(), &record()[1..], b"\x41a"].concat();
    data.extend(b"\xe1\x41a".repeat(20));
    data.extend_from_slice(b"\x41a");
    assert_eq!(try_octets(&by_hand(4, &[[1 + 16, 1]], &data)), Fate::Read(1));
}

#[test]
fn a_record_beyond_the_data_is_refused() {
    let reason = assert_octets_refused(&by_hand(4, &[[1 + 16, 1 + 16 + 5000]], &record()));
    assert!(reason.contains("damaged"), "{reason}");
    // Into the sixteen zeros between tree and data.
    assert_octets_refused(&by_hand(4, &[[1 + 16, 1 + 3]], &record()));
}

#[test]
fn more_nodes_than_there_are_is_refused() {
    for octets in [small().octets(), sample("city-sample-flat.mmdb"), sample("city-sample-nested.mmdb")] {
        let count = node_count(&octets);
        for claimed in [count * 2, u32::MAX / 2, u32::MAX, 0] {
            let mut damaged = octets.clone();
            set_node_count(&mut damaged, claimed);
            assert_octets_refused(&damaged);
        }
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = folder();
    let inner = folder.path().join("folder.mmdb");
    fs::create_dir(&inner).expect("a folder");
    let fifo = folder.path().join("fifo.mmdb");
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let link = folder.path().join("link.mmdb");
    symlink("nowhere", &link).expect("a link");
    assert!(assert_refused(&fifo).contains("no regular file"));
    assert_refused(&link);
    assert_refused(&folder.path().join("absent.mmdb"));
    assert_refused(Path::new("/dev/zero"));
    // A folder is the files in it: none here. Within a folder it is no file.
    assert_eq!(try_to_read(&inner), Fate::Read(0));
    let mut findings = Findings::new();
    Databases::open(&[folder.path().to_owned()], &mut findings);
    assert_eq!(findings.iter().count(), 3, "{findings}");
}

#[test]
fn an_empty_file_is_refused() {
    assert_octets_refused(b"");
    assert_octets_refused(&[0; 1 << 16]);
    assert_octets_refused(b"\xab\xcd\xefMaxMind.com");
}

#[test]
fn a_truncated_file_is_refused() {
    // The metadata stand at the end: without them there is nothing to go by.
    for (octets, places) in [(small().octets(), 200), (sample("city-sample-nested.mmdb"), 30)] {
        let mut numbers = Numbers::new(21);
        for _ in 0..places {
            assert_octets_refused(&octets[..numbers.below(octets.len() - 200)]);
        }
    }
}

#[test]
fn a_file_cut_short_in_front_of_its_metadata_does_no_harm() {
    let octets = sample("city-sample-flat.mmdb");
    let marker = octets.windows(3).rposition(|window| window == [0xab, 0xcd, 0xef]).expect("the marker");
    let mut numbers = Numbers::new(22);
    for _ in 0..30 {
        let from = numbers.below(marker);
        let damaged = [&octets[..from], &octets[marker..]].concat();
        // The tree is a third of it: what is cut off in the data leaves records that are no locations.
        let fate = try_octets(&damaged);
        assert!(!matches!(fate, Fate::Read(0)), "{fate:?}");
    }
    assert_octets_refused(&octets[marker..]);
}

#[test]
fn flipped_bits_do_no_harm() {
    let mut numbers = Numbers::new(23);
    for (octets, times) in [
        (small().octets(), 1000),
        (sample("city-sample-flat.mmdb"), 20),
        (sample("city-sample-nested.mmdb"), 20),
    ] {
        let mut refused = 0;
        for _ in 0..times {
            let mut damaged = octets.clone();
            for _ in 0..1 + numbers.below(3) {
                let at = numbers.below(damaged.len());
                damaged[at] ^= 1 << numbers.below(8);
            }
            refused += u32::from(matches!(try_octets(&damaged), Fate::Refused(_)));
        }
        assert!(refused < times, "most flips hit something that only one network depends on");
    }
}

#[test]
fn flipped_octets_of_metadata_do_no_harm() {
    let octets = small().octets();
    let marker = octets.windows(3).rposition(|window| window == [0xab, 0xcd, 0xef]).expect("the marker");
    let mut numbers = Numbers::new(24);
    for at in marker..octets.len() {
        for _ in 0..4 {
            let mut damaged = octets.clone();
            damaged[at] = numbers.next() as u8;
            try_octets(&damaged);
        }
    }
}

#[test]
fn random_octets_behind_a_sound_head_do_no_harm() {
    let octets = small().octets();
    let nodes = node_count(&octets) as usize;
    let mut numbers = Numbers::new(25);
    for _ in 0..300 {
        let mut damaged = octets.clone();
        // The tree anew, of node numbers that all look sound.
        for child in damaged[..nodes * 6].chunks_mut(3) {
            let number = numbers.below(nodes + 200) as u32;
            child.copy_from_slice(&number.to_be_bytes()[1..]);
        }
        try_octets(&damaged);
    }
}

#[test]
fn a_good_file_is_read_whole() {
    assert_eq!(try_octets(&small().octets()), Fate::Read(12));
    let nested: Field = map([("country_code", text("AU")), ("names", List(vec![text("a"); 40]))]);
    assert_eq!(try_octets(&Mmdb::v4().with("1.0.0.0/8", &nested).octets()), Fate::Read(1));
}
