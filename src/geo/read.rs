//! MMDB files: read whole, walked once when catchments are compiled, then dropped.
//!
//! Never mapped into memory: whoever truncates a mapped file kills the process that reads it. A damaged file
//! is refused, in bounded time: it may claim 2^128 networks in a few hundred octets (see `tree`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use ipnetwork::IpNetwork;
use maxminddb::Reader;
use serde::{Deserialize, Serialize};

use super::record::Value;
use super::tree::{Damaged, Network, Tree, Walk};
use super::{Block, Coordinates, Country, Geography, Place, Records, Walker, Whereabouts};
use crate::catchment::stored::digest_of;
use crate::change::content::Digest;
use crate::finding::Findings;
use crate::replace::is_beside_a_file;

/// A full city database has 140 MB; what is this large is something else.
const LARGEST_FILE: u64 = 4 << 30;
/// Files below this many nodes are walked whole when they are opened, so that damage is told then.
const SMALL: u32 = 100_000;

/// The files in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Databases {
    files: Vec<Database>,
    kept: Mutex<Kept>,
}

/// What was decoded while walking: each record of each file once, however many networks share it. A city database has
/// nearly a million, so only what decides is kept.
#[derive(Debug, Default)]
struct Kept {
    /// By number, from 1.
    places: Vec<KeptPlace>,
    subdivisions: HashMap<Box<str>, u32, FixedState>,
    /// By number, from 1.
    subdivision_names: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
struct KeptPlace {
    country: Option<Country>,
    point: Option<Coordinates>,
    subdivision: u32,
    asn: Option<u32>,
}

impl Kept {
    fn keep(&mut self, place: Place) -> u32 {
        let point = place.point();
        let subdivision = place.subdivision.map_or(0, |name| match self.subdivisions.get(&name) {
            Some(known) => *known,
            None => {
                self.subdivision_names.push(name.clone());
                let number = self.subdivision_names.len() as u32;
                self.subdivisions.insert(name, number);
                number
            }
        });
        self.places.push(KeptPlace { country: place.country, point, subdivision, asn: place.asn });
        self.places.len() as u32
    }

    /// The place that decides alike: its coordinates are the point that meaning 6 chose.
    fn place(&self, number: u32) -> Option<Place> {
        let kept = self.places.get(number.checked_sub(1)? as usize)?;
        let subdivision =
            kept.subdivision.checked_sub(1).map(|name| self.subdivision_names[name as usize].clone());
        Some(Place {
            country: kept.country,
            subdivision,
            city: Some(Box::default()),
            coordinates: kept.point,
            radius_km: None,
            asn: kept.asn,
        })
    }
}

fn whereabouts(places: &[KeptPlace], number: u32) -> Whereabouts {
    let place = number.checked_sub(1).and_then(|index| places.get(index as usize));
    place.map_or((None, None), |place| (place.country, place.point))
}

/// What one file says of an address.
#[derive(Clone, Debug)]
pub struct Match {
    /// The file.
    pub path: PathBuf,
    /// The network that has the record.
    pub network: IpNetwork,
    /// What the record says.
    pub place: Place,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The file.
    pub path: PathBuf,
    /// Its own words for what it is.
    pub kind: String,
    /// When it was made, in seconds since 1970.
    pub build_epoch: u64,
    /// Nodes of its search tree: about as many as it has networks.
    pub nodes: u32,
}

struct Database {
    path: PathBuf,
    reader: Reader<Octets>,
    octets: Octets,
    tree: Tree,
    /// By the record's offset in the file.
    known: Mutex<HashMap<u32, Known, ByOffset>>,
    is_damaged: AtomicBool,
}

/// A record that was decoded: the number of its place, and what it is good for.
#[derive(Clone, Copy, Default)]
struct Known {
    number: u32,
    has_place: bool,
    has_asn: bool,
}

impl Databases {
    /// Opens files, and the `*.mmdb` files of folders by name. What cannot be read is a finding, and the rest is
    /// opened all the same.
    pub fn open(paths: &[PathBuf], findings: &mut Findings) -> Databases {
        let mut files = Vec::new();
        for path in list(paths, findings) {
            match Database::open(&path) {
                Ok(file) => files.push(file),
                Err(reason) => findings.unreadable(&path, reason),
            }
        }
        Databases { files, kept: Mutex::default() }
    }

    /// Whether there is no file at all: rules and the written order of sites decide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What each file says of itself.
    #[must_use]
    pub fn about(&self) -> Vec<About> {
        let about = |file: &Database| About {
            path: file.path.clone(),
            kind: file.reader.metadata().database_type.clone(),
            build_epoch: file.reader.metadata().build_epoch,
            nodes: file.reader.metadata().node_count,
        };
        self.files.iter().map(about).collect()
    }

    /// Countries in which a network is known, as far as networks were walked.
    #[must_use]
    pub fn countries(&self) -> BTreeSet<Country> {
        self.lock().places.iter().filter_map(|place| place.country).collect()
    }

    /// Looks places up by their numbers, as far as networks were walked: what most of those need who look up all of them.
    pub(crate) fn places(&self) -> impl Fn(u32) -> Whereabouts + '_ {
        let kept = self.lock();
        move |number| whereabouts(&kept.places, number)
    }

    /// The same for who has no other use for them.
    pub(crate) fn into_places(self) -> impl Fn(u32) -> Whereabouts {
        let places = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner).places;
        move |number| whereabouts(&places, number)
    }

    /// Of the octets of each file, to tell whether one is still the same.
    #[must_use]
    pub fn digests(&self) -> Vec<u64> {
        self.files.iter().map(|file| digest_of(file.octets.as_ref()).unwrap_or_default()).collect()
    }

    /// Files that turned out to be damaged while they were walked.
    #[must_use]
    pub fn damaged(&self) -> Vec<PathBuf> {
        let damaged = |file: &&Database| file.is_damaged.load(Ordering::Relaxed);
        self.files.iter().filter(damaged).map(|file| file.path.clone()).collect()
    }

    /// What each file that knows an address says of it. Of IPv6 outside of 2000::/3 none is asked, as when catchments
    /// are compiled: nobody was given it, and files may fill it with anything.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> Vec<Match> {
        if matches!(address, IpAddr::V6(address) if address.segments()[0] >> 13 != 1) {
            return Vec::new();
        }
        let of_file = |file: &Database| {
            let found = file.reader.lookup(address).ok()?;
            let network = found.network().ok().filter(|network| network.is_ipv4() == address.is_ipv4())?;
            let place = found.decode::<Value>().ok()??.into_place();
            Some(Match { path: file.path.clone(), network, place })
        };
        self.files.iter().filter_map(of_file).collect()
    }

    /// All files together: the country group from the first that knows it, the ASN likewise.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Place {
        let mut matches = self.matches(address);
        let asn = matches.iter().find_map(|found| found.place.asn);
        let known = matches.iter().position(|found| found.place.is_known());
        Place { asn, ..known.map(|index| matches.swap_remove(index).place).unwrap_or_default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Geography for Databases {
    fn knows_nothing(&self) -> bool {
        self.is_empty()
    }

    fn begin(&self) {
        for file in &self.files {
            file.tree.begin();
        }
    }

    fn walker(&self) -> Box<dyn Walker + '_> {
        let seen = self.files.iter().map(|_| Seen::default()).collect();
        Box::new(DatabaseWalker { databases: self, seen })
    }

    fn place(&self, records: Records) -> Place {
        let kept = self.lock();
        let asn = kept.place(records.asn).and_then(|place| place.asn);
        Place { asn, ..kept.place(records.place).unwrap_or_default() }
    }
}

/// What one thread has met, by file.
struct DatabaseWalker<'d> {
    databases: &'d Databases,
    seen: Vec<Seen>,
}

/// Records of a file that were met. In front of the table of all is a small one that stays in the processor's cache: of the 15 million
/// networks of a city database, nine of ten share a record with one not far before.
struct Seen {
    recent: Box<[(u32, Known)]>,
    all: HashMap<u32, Known, ByOffset>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { recent: vec![(0, Known::default()); 1 << RECENT_BITS].into(), all: HashMap::default() }
    }
}

/// Hashes a record's offset so that records that lie near one another in the file are near one another in the map: those of one region mostly
/// are, and a million of them do not fit into the processor's cache. Offsets below 4 GiB cannot be chosen so that many of them
/// meet: those that share a place among as many as there are records lie as far apart as that.
#[derive(Clone, Copy, Debug, Default)]
struct ByOffset(u64);

impl BuildHasher for ByOffset {
    type Hasher = ByOffset;

    fn build_hasher(&self) -> ByOffset {
        ByOffset(0)
    }
}

impl Hasher for ByOffset {
    fn write_u32(&mut self, offset: u32) {
        /// A record of a city takes a few times as much.
        const SHORTEST: u64 = 16;
        // The map looks for the place by the lower bits, and tells records apart by the uppermost seven.
        let spread = u64::from(offset).wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xfe00_0000_0000_0000;
        self.0 = spread | (u64::from(offset) / SHORTEST);
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.0 = self.0 << 8 | u64::from(*octet));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Room of [`Seen::recent`]: 64 KiB.
const RECENT_BITS: u32 = 12;

impl Seen {
    #[inline]
    fn get(&mut self, record: u32, find: impl FnOnce() -> Result<Known, Damaged>) -> Result<Known, Damaged> {
        // Records lie at any octet; their differences are spread by a multiplication (Fibonacci hashing). None has number 0, which
        // is that of the root.
        let slot = record.wrapping_mul(0x9e37_79b1) >> (32 - RECENT_BITS);
        let recent = &mut self.recent[slot as usize];
        if recent.0 != record {
            let known = match self.all.get(&record) {
                Some(known) => *known,
                None => {
                    let known = find()?;
                    self.all.insert(record, known);
                    known
                }
            };
            *recent = (record, known);
        }
        Ok(recent.1)
    }
}

impl Walker for DatabaseWalker<'_> {
    fn walk_v4(&mut self, (first, length): (u32, u8), each: &mut dyn FnMut(Block<u32>)) {
        self.walk(true, u128::from(first), length, &mut |block| {
            each(Block { first: block.first as u32, last: block.last as u32, records: block.records });
        });
    }

    fn walk_v6(&mut self, (first, length): (u128, u8), each: &mut dyn FnMut(Block<u128>)) {
        self.walk(false, first, length, each);
    }
}

impl DatabaseWalker<'_> {
    fn walk(&mut self, is_v4: bool, first: u128, length: u8, each: &mut dyn FnMut(Block<u128>)) {
        let databases = self.databases;
        let layers = databases.files.iter().zip(&mut self.seen);
        let mut layers: Vec<(Layer<'_>, Option<Block<u128>>)> = layers
            .filter(|(file, _)| !file.is_damaged.load(Ordering::Relaxed))
            .map(|(file, seen)| Layer {
                databases,
                file,
                networks: file.tree.walk(file.octets.as_ref(), is_v4, first, length),
                seen,
                is_v4,
            })
            .filter_map(|mut layer| layer.next().map(|block| (layer, Some(block))))
            .collect();
        match layers.as_mut_slice() {
            // One file needs no sweep, and is the usual case.
            [(layer, first)] => {
                let mut next = *first;
                while let Some(block) = next {
                    each(block);
                    next = layer.next();
                }
            }
            layers => sweep(layers, each),
        }
    }
}

/// One file's blocks within one prefix, in order.
struct Layer<'d> {
    databases: &'d Databases,
    file: &'d Database,
    networks: Walk<'d>,
    seen: &'d mut Seen,
    is_v4: bool,
}

impl Layer<'_> {
    fn next(&mut self) -> Option<Block<u128>> {
        loop {
            let found = self.networks.next()?.and_then(|network| Ok((network, self.known(&network)?)));
            let Ok((Network { first, last, .. }, known)) = found else {
                self.file.is_damaged.store(true, Ordering::Relaxed);
                return None;
            };
            let records = Records {
                place: if known.has_place { known.number } else { 0 },
                asn: if known.has_asn { known.number } else { 0 },
            };
            if records != Records::default() {
                return Some(Block { first, last, records });
            }
        }
    }

    fn known(&mut self, network: &Network) -> Result<Known, Damaged> {
        self.seen.get(network.record, || self.file.know(network, self.is_v4, self.databases))
    }
}

/// Lays files over each other: at every address the first that knows it.
fn sweep(layers: &mut [(Layer<'_>, Option<Block<u128>>)], each: &mut dyn FnMut(Block<u128>)) {
    let Some(mut at) = layers.iter().filter_map(|(_, block)| block.as_ref()).map(|block| block.first).min()
    else {
        return;
    };
    loop {
        let mut records = Records::default();
        let mut end = u128::MAX;
        for block in layers.iter().filter_map(|(_, block)| block.as_ref()) {
            if block.first > at {
                end = end.min(block.first - 1);
                continue;
            }
            end = end.min(block.last);
            let or = |known: u32, other: u32| if known == 0 { other } else { known };
            records = Records {
                place: or(records.place, block.records.place),
                asn: or(records.asn, block.records.asn),
            };
        }
        if layers.iter().all(|(_, block)| block.is_none()) {
            return;
        }
        if records != Records::default() {
            each(Block { first: at, last: end, records });
        }
        let Some(next) = end.checked_add(1) else { return };
        at = next;
        for (layer, block) in layers.iter_mut() {
            while block.is_some_and(|block| block.last < at) {
                *block = layer.next();
            }
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// Holds a file against the SHA-256 that stands beside it, as `sha256sum` writes it, where there is one.
fn check_sum(path: &Path, octets: &[u8]) -> Result<(), String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sha256");
    let Ok(text) = fs::read_to_string(&beside) else { return Ok(()) };
    let beside = Path::new(&beside).file_name().unwrap_or_default().to_string_lossy();
    let written = text.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    match written.parse::<Digest>() {
        Ok(digest) if digest == Digest::of(octets) => Ok(()),
        Ok(_) => Err(format!("is not what {beside} says; one of them may be on its way")),
        Err(error) => Err(format!("{beside}: {error}")),
    }
}

impl Database {
    fn open(path: &Path) -> Result<Database, String> {
        let octets = Octets(Arc::new(read_whole(path)?));
        check_sum(path, octets.as_ref())?;
        let reader = Reader::from_source(octets.clone()).map_err(|error| format!("no MMDB file: {error}"))?;
        let file = Database {
            path: path.to_owned(),
            tree: Tree::new(octets.as_ref(), reader.metadata()),
            octets,
            reader,
            known: Mutex::default(),
            is_damaged: AtomicBool::new(false),
        };
        if file.reader.metadata().node_count <= SMALL {
            file.walk_whole()?;
        }
        Ok(file)
    }

    /// Finds damage, and files that are about something else.
    fn walk_whole(&self) -> Result<(), String> {
        self.tree.begin();
        let mut met = HashSet::new();
        let mut is_of_use = false;
        for is_v4 in [true, false] {
            for network in self.tree.walk(self.octets.as_ref(), is_v4, 0, 0) {
                let damaged = |Damaged| "damaged: its search tree leads nowhere, or has no end".to_owned();
                let network = network.map_err(damaged)?;
                if met.insert(network.record) {
                    // A record that cannot be decoded is no location; there may be others.
                    let place = self.place(&network, is_v4).map_err(damaged)?;
                    is_of_use |= place.is_known() || place.asn.is_some();
                }
            }
        }
        if !met.is_empty() && !is_of_use {
            return Err("none of its records tells a country, coordinates or an ASN".to_owned());
        }
        Ok(())
    }

    /// Decodes a record unless that was done before. Two threads may decode the same one; the first counts.
    fn know(&self, network: &Network, is_v4: bool, databases: &Databases) -> Result<Known, Damaged> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&network.record) {
            return Ok(*known);
        }
        let place = self.place(network, is_v4)?;
        let (has_place, has_asn) = (place.is_known(), place.asn.is_some());
        let mut known = lock();
        let known = known.entry(network.record).or_insert_with(|| Known {
            number: databases.lock().keep(place),
            has_place,
            has_asn,
        });
        Ok(*known)
    }

    /// What a network's record says; nothing when it cannot be decoded.
    fn place(&self, network: &Network, is_v4: bool) -> Result<Place, Damaged> {
        let address = match is_v4 {
            true => IpAddr::from(Ipv4Addr::from(network.first as u32)),
            false => IpAddr::from(Ipv6Addr::from(network.first)),
        };
        let found = self.reader.lookup(address).map_err(|_| Damaged)?;
        Ok(found.decode::<Value>().ok().flatten().map(Value::into_place).unwrap_or_default())
    }
}

/// A file's octets, for the crate's reader and for our own walks.
#[derive(Clone)]
struct Octets(Arc<Vec<u8>>);

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Regular files only: opening a FIFO would wait for ever.
fn read_whole(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("no regular file".to_owned());
    }
    if metadata.len() > LARGEST_FILE {
        return Err(format!("larger than {} GiB", LARGEST_FILE >> 30));
    }
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut octets = Vec::with_capacity(metadata.len() as usize);
    file.take(LARGEST_FILE).read_to_end(&mut octets).map_err(|error| error.to_string())?;
    Ok(octets)
}

/// The files behind some paths: folders stand for their `*.mmdb` files by name, but for what is not finished yet.
pub(crate) fn list(paths: &[PathBuf], findings: &mut Findings) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match fs::read_dir(path) {
            Ok(entries) => {
                let mut found: Vec<PathBuf> = entries
                    .flatten()
                    .filter(|entry| !is_beside_a_file(&entry.file_name().to_string_lossy()))
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|extension| extension == "mmdb"))
                    .collect();
                found.sort();
                files.extend(found);
            }
            Err(error) => findings.unreadable(path, error.to_string()),
        }
    }
    files
}
