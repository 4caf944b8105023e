//! Everything that fuzzing kept, again: each file of `fuzz/corpus/TARGET/` goes through its target, and so do a few
//! thousand variants of it, the same ones every time. Needs no cargo-fuzz; what the targets hold is written in `fuzz/src/`.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

#[path = "fuzz/src/lib.rs"]
pub mod targets;

/// Octets in, panic out.
type Target = fn(&[u8]);

/// Variants of one target; whichever comes first.
const MOST_TIME: Duration = Duration::from_millis(1500);
const MOST_ROUNDS: usize = 2000;

#[test]
fn respond() {
    replay("respond", targets::respond);
}

#[test]
fn client_subnet() {
    replay("client_subnet", targets::client_subnet);
}

#[test]
fn zone_yaml() {
    replay("zone_yaml", targets::zone_yaml);
}

#[test]
fn master_file() {
    replay("master_file", targets::master_file);
}

#[test]
fn rdata() {
    replay("rdata", targets::rdata);
}

#[test]
fn mmdb() {
    replay("mmdb", targets::mmdb);
}

#[test]
fn config() {
    replay("config", targets::config);
}

#[test]
fn import() {
    replay("import", targets::import);
}

#[test]
fn control() {
    replay("control", targets::control);
}

#[test]
fn cookie() {
    replay("cookie", targets::cookie);
}

#[test]
fn proxy() {
    replay("proxy", targets::proxy);
}

#[test]
fn replayed() {
    replay("replay", targets::replay);
}

fn replay(name: &str, target: Target) {
    let corpus = read_folder("corpus", name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    let words = read_dictionary(name);
    for (path, bytes) in &corpus {
        run(target, bytes, path, "");
    }
    let end = Instant::now() + MOST_TIME;
    let mut numbers = Numbers(0x6d65_7269_6469_616e);
    // One variant of each file in turn, so that a slow machine tries fewer of each and not fewer files.
    for _ in 0..MOST_ROUNDS {
        for index in 0..corpus.len() {
            if Instant::now() >= end {
                return;
            }
            let (path, bytes) = &corpus[index];
            let other = &corpus[numbers.below(corpus.len())].1;
            run(target, &vary(bytes, other, &words, &mut numbers), path, " varied");
        }
    }
}

fn read_folder(kind: &str, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind).join(name);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).expect("a file of the corpus can be read");
            (path, bytes)
        })
        .collect()
}

/// Words of the language of a target, as libFuzzer takes them: in quotes, with `\\`, `\"` and `\xAB`. Some targets have none.
fn read_dictionary(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/dictionaries").join(name);
    let Ok(text) = fs::read_to_string(&path) else { return Vec::new() };
    let told = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    told.map(|line| unquoted(line).unwrap_or_else(|| panic!("{}: {line}", path.display()))).collect()
}

fn unquoted(line: &str) -> Option<Vec<u8>> {
    let mut octets = line.strip_prefix('"')?.strip_suffix('"')?.bytes();
    let mut word = Vec::new();
    while let Some(octet) = octets.next() {
        word.push(match octet {
            b'"' => return None,
            b'\\' => match octets.next()? {
                octet @ (b'\\' | b'"') => octet,
                b'x' => {
                    let digits = [octets.next()?, octets.next()?];
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            octet => octet,
        });
    }
    Some(word)
}

/// A panic is told with the input that caused it: of a variant there is no file.
fn run(target: Target, bytes: &[u8], path: &Path, how: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let mut digits = String::new();
        for octet in bytes {
            let _ = write!(digits, "{octet:02x}");
        }
        eprintln!("{}{how}:\n{digits}", path.display());
        resume_unwind(panic);
    }
}

/// The same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// One to four small changes: what a fuzzer tries first.
fn vary(bytes: &[u8], other: &[u8], words: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    const TELLING: [u8; 16] = *b"\x00\x01\x7f\x80\xff\xc0\x3f\x0c\"\\\n $(:9";
    let mut varied = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(varied.len());
        let end = at + numbers.below((varied.len() - at).min(32) + 1);
        match numbers.below(9) {
            0 if !varied.is_empty() => varied[at] ^= 1 << numbers.below(8),
            1 if !varied.is_empty() => varied[at] = TELLING[numbers.below(TELLING.len())],
            2 => varied.insert(at, TELLING[numbers.below(TELLING.len())]),
            3 => drop(varied.drain(at..end)),
            4 => varied.truncate(at),
            5 => {
                let again = varied[at..end].to_vec();
                varied.splice(at..at, again);
            }
            6 | 7 if !words.is_empty() => {
                let word = &words[numbers.below(words.len())];
                let end = if numbers.below(2) == 0 { at } else { varied.len().min(at + word.len()) };
                varied.splice(at..end, word.iter().copied());
            }
            _ => {
                let from = numbers.below(other.len());
                let until = from + numbers.below((other.len() - from).min(32) + 1);
                varied.splice(at..end, other[from..until].iter().copied());
            }
        }
    }
    varied
}
