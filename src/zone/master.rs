//! Master files (RFC 1035 5, RFC 2308 4, RFC 3597 5) -> records, in one pass.
//!
//! Directives: `$ORIGIN`, `$TTL`, `$INCLUDE` and BIND's `$GENERATE`, all bounded. What an entry leaves out (owner, TTL,
//! class) comes from the one before.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Records, ZoneFile};
use crate::finding::{At, Findings, Source, did_you_mean};
use crate::wire::rdata::{self, parse_period};
use crate::wire::{Name, Rtype};

/// Files within files; more is a file that includes itself.
const DEEPEST_INCLUDE: usize = 8;
/// In one zone.
const MOST_INCLUDES: usize = 1_000;
/// Octets of all files that a zone includes.
const MOST_INCLUDED: usize = if cfg!(test) { 4 << 20 } else { 512 << 20 };
/// Records that one `$GENERATE` may make.
const MOST_GENERATED: u64 = 65_536;
/// Records that all of a zone's may make.
const MOST_GENERATED_IN_ALL: u64 = 1_000_000;
/// An entry within parentheses.
const LONGEST_ENTRY: usize = 1 << 20;
/// Mistakes that are told; after so many it is some other kind of file.
const MOST_FINDINGS: usize = 100;

/// Reads a zone. What is wrong is a finding; what is right is read all the same. Files that it includes must lie `within` a
/// folder: who may write a zone need not be one who may read all files of this machine.
pub fn read(source: &Arc<Source>, apex: &Name, within: Option<&Path>, findings: &mut Findings) -> ZoneFile {
    let mut reader = Reader {
        apex,
        within,
        records: Records::new(),
        ttl: None,
        last_ttl: None,
        last_owner: None,
        included: Vec::new(),
        generated: 0,
        told: 0,
        findings,
    };
    reader.read_file(source, apex.clone(), 0);
    ZoneFile {
        apex: apex.clone(),
        source: Arc::clone(source),
        included: reader.included,
        records: reader.records,
        automatic_serial: false,
        steered: Vec::new(),
        services: Vec::new(),
        expectations: Vec::new(),
    }
}

struct Reader<'a> {
    apex: &'a Name,
    within: Option<&'a Path>,
    records: Records,
    /// `$TTL`.
    ttl: Option<u32>,
    last_ttl: Option<u32>,
    last_owner: Option<Name>,
    included: Vec<Arc<Source>>,
    generated: u64,
    told: usize,
    findings: &'a mut Findings,
}

/// A word of an entry, and where it begins.
#[derive(Clone, Debug)]
struct Word<'t> {
    text: &'t str,
    offset: usize,
}

/// What stands between two ends of line, parentheses taken into account.
struct Entry<'t> {
    words: Vec<Word<'t>>,
    /// The first word is no owner: white space stands before it.
    is_indented: bool,
}

/// Splits a file into entries.
struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

/// Where the text is no master file, and why.
struct Broken {
    offset: usize,
    text: String,
}

impl<'t> Lexer<'t> {
    /// The next entry that has any words.
    fn next(&mut self) -> Option<Result<Entry<'t>, Broken>> {
        loop {
            if self.at >= self.text.len() {
                return None;
            }
            match self.entry() {
                Ok(entry) if entry.words.is_empty() => {}
                Ok(entry) => return Some(Ok(entry)),
                Err(broken) => {
                    self.skip_line();
                    return Some(Err(broken));
                }
            }
        }
    }

    fn entry(&mut self) -> Result<Entry<'t>, Broken> {
        let start = self.at;
        let octets = self.text.as_bytes();
        let mut entry = Entry {
            words: Vec::new(),
            is_indented: octets.get(self.at).is_some_and(|octet| matches!(octet, b' ' | b'\t')),
        };
        let mut open: Option<usize> = None;
        while let Some(&octet) = octets.get(self.at) {
            match octet {
                b'\n' => {
                    self.at += 1;
                    if open.is_none() {
                        return Ok(entry);
                    }
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b';' => self.skip_comment(),
                b'(' => {
                    if open.is_some() {
                        return Err(self.broken("a parenthesis within parentheses"));
                    }
                    open = Some(self.at);
                    self.at += 1;
                }
                b')' => {
                    if open.take().is_none() {
                        return Err(self.broken("a closing parenthesis without an opening one"));
                    }
                    self.at += 1;
                }
                _ => {
                    let word = self.word()?;
                    entry.words.push(word);
                }
            }
            if self.at - start > LONGEST_ENTRY {
                return Err(Broken { offset: start, text: "an entry of more than 1 MiB".to_owned() });
            }
        }
        match open {
            Some(offset) => Err(Broken { offset, text: "this parenthesis is never closed".to_owned() }),
            None => Ok(entry),
        }
    }

    /// Up to white space; quotes and escapes stay in it, for RDATA is read by others.
    fn word(&mut self) -> Result<Word<'t>, Broken> {
        let octets = self.text.as_bytes();
        let start = self.at;
        let mut is_quoted = false;
        while let Some(&octet) = octets.get(self.at) {
            match octet {
                b'\n' if is_quoted => {
                    let text = "a quote that is not closed on its line".to_owned();
                    return Err(Broken { offset: start, text });
                }
                b'"' => {
                    self.at += 1;
                    is_quoted = !is_quoted;
                    // A word that begins with a quote ends with it; in others quotes enclose a part (RFC 9460 A.1).
                    if !is_quoted && octets[start] == b'"' {
                        break;
                    }
                }
                b'\\' => {
                    self.at += 1 + usize::from(octets.get(self.at + 1).is_some_and(|next| *next != b'\n'));
                }
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' if !is_quoted => break,
                _ => self.at += 1,
            }
        }
        // An escape may end within a character of several octets.
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        Ok(Word { text: &self.text[start..self.at], offset: start })
    }

    fn skip_comment(&mut self) {
        while self.text.as_bytes().get(self.at).is_some_and(|octet| *octet != b'\n') {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        self.skip_comment();
        self.at += 1;
    }

    fn broken(&self, text: &str) -> Broken {
        Broken { offset: self.at, text: text.to_owned() }
    }
}

/// Turns offsets into lines and columns; they come in ascending order, mostly.
struct Places<'s> {
    source: &'s Arc<Source>,
    offset: usize,
    line: u32,
    line_start: usize,
}

impl<'s> Places<'s> {
    fn new(source: &'s Arc<Source>) -> Places<'s> {
        Places { source, offset: 0, line: 1, line_start: 0 }
    }

    fn at(&mut self, offset: usize) -> At {
        if offset < self.line_start {
            *self = Places::new(self.source);
        }
        let text = &self.source.text;
        let offset = offset.min(text.len());
        if offset > self.offset {
            let between = &text.as_bytes()[self.offset..offset];
            for (index, _) in between.iter().enumerate().filter(|(_, octet)| **octet == b'\n') {
                self.line += 1;
                self.line_start = self.offset + index + 1;
            }
            self.offset = offset;
        }
        let column = text.get(self.line_start..offset).map_or(0, |before| before.chars().count());
        At::new(self.source, self.line, column as u32 + 1)
    }
}

impl Reader<'_> {
    fn read_file(&mut self, source: &Arc<Source>, mut origin: Name, depth: usize) {
        let mut lexer = Lexer { text: &source.text, at: 0 };
        let mut places = Places::new(source);
        while let Some(entry) = lexer.next() {
            if self.told >= MOST_FINDINGS {
                return;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(broken) => {
                    self.tell(&places.at(broken.offset), broken.text);
                    continue;
                }
            };
            let first = &entry.words[0];
            if first.text.starts_with('$') && !entry.is_indented {
                self.read_directive(source, &mut places, &entry.words, &mut origin, depth);
            } else {
                self.read_record(&mut places, &entry, &origin);
            }
        }
    }

    fn tell(&mut self, at: &At, text: impl Into<String>) {
        self.told += 1;
        self.findings.error(at, text);
    }

    fn read_directive(
        &mut self,
        source: &Arc<Source>,
        places: &mut Places<'_>,
        words: &[Word<'_>],
        origin: &mut Name,
        depth: usize,
    ) {
        let at = places.at(words[0].offset);
        match (words[0].text.to_ascii_uppercase().as_str(), &words[1..]) {
            ("$ORIGIN", [name]) => {
                if let Some(name) = self.name(places, name, origin) {
                    *origin = name;
                }
            }
            ("$TTL", [ttl]) => match parse_period(ttl.text).filter(|ttl| *ttl <= i32::MAX as u32) {
                Some(ttl) => self.ttl = Some(ttl),
                None => self.tell(&places.at(ttl.offset), format!("\"{}\" is no TTL", ttl.text)),
            },
            ("$INCLUDE", [file]) => self.include(source, places, file, origin.clone(), depth),
            ("$INCLUDE", [file, name]) => {
                if let Some(name) = self.name(places, name, origin) {
                    self.include(source, places, file, name, depth);
                }
            }
            ("$GENERATE", [range, rest @ ..]) if rest.len() >= 3 => {
                self.generate(places, range, rest, origin);
            }
            ("$ORIGIN", _) => self.tell(&at, "$ORIGIN takes a name"),
            ("$TTL", _) => self.tell(&at, "$TTL takes a time"),
            ("$INCLUDE", _) => self.tell(&at, "$INCLUDE takes a file and perhaps an origin"),
            ("$GENERATE", _) => {
                self.tell(
                    &at,
                    "$GENERATE takes a range, an owner, a type and data, as in: 1-9 host$ A 192.0.2.$",
                );
            }
            (word, _) => {
                let hint = did_you_mean(word, ["$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE"]);
                self.tell(&at, format!("unknown directive {}{hint}", words[0].text));
            }
        }
    }

    fn name(&mut self, places: &mut Places<'_>, word: &Word<'_>, origin: &Name) -> Option<Name> {
        match Name::parse(word.text, Some(origin)) {
            Ok(name) => Some(name),
            Err(error) => {
                self.tell(&places.at(word.offset), format!("\"{}\" is {error}", word.text));
                None
            }
        }
    }

    /// RFC 1035 5.1: the origin goes back to what it was, and so does the last owner.
    fn include(
        &mut self,
        source: &Arc<Source>,
        places: &mut Places<'_>,
        file: &Word<'_>,
        origin: Name,
        depth: usize,
    ) {
        let at = places.at(file.offset);
        if depth == DEEPEST_INCLUDE || self.included.len() == MOST_INCLUDES {
            return self.tell(&at, "too many files within files; does one include itself?");
        }
        let folder = source.path.parent().unwrap_or(Path::new(""));
        let path = folder.join(file.text.trim_matches('"'));
        match self.read_included(&path) {
            Ok(text) => {
                let included = Source::new(path, text);
                self.included.push(Arc::clone(&included));
                let owner = self.last_owner.clone();
                self.read_file(&included, origin, depth + 1);
                self.last_owner = owner;
            }
            Err(error) => self.tell(&at, format!("{}: {error}", path.display())),
        }
    }

    fn read_included(&self, path: &Path) -> Result<String, String> {
        if let Some(within) = self.within {
            // Where symbolic links lead to counts.
            let (path, within) = (path.canonicalize(), within.canonicalize());
            let (path, within) =
                path.and_then(|path| Ok((path, within?))).map_err(|error| error.to_string())?;
            if !path.starts_with(within) {
                return Err("files that are included lie in the folder of zones".to_owned());
            }
        }
        let text = read_text(path)?;
        let length = self.included.iter().map(|included| included.text.len()).sum::<usize>() + text.len();
        if length > MOST_INCLUDED {
            return Err(format!("more than {} MiB are included", MOST_INCLUDED >> 20));
        }
        Ok(text)
    }

    fn read_record(&mut self, places: &mut Places<'_>, entry: &Entry<'_>, origin: &Name) {
        let mut words = entry.words.as_slice();
        let at = places.at(words[0].offset);
        let owner = if entry.is_indented {
            let Some(owner) = self.last_owner.clone() else {
                return self.tell(&at, "the first record needs an owner");
            };
            owner
        } else {
            let Some(owner) = self.name(places, &words[0], origin) else { return };
            words = &words[1..];
            owner
        };
        self.last_owner = Some(owner.clone());
        self.read_after_owner(places, &owner, &at, words, origin);
    }

    /// TTL and class in either order, then type and data (RFC 1035 5.1).
    fn read_after_owner(
        &mut self,
        places: &mut Places<'_>,
        owner: &Name,
        at: &At,
        mut words: &[Word<'_>],
        origin: &Name,
    ) {
        let mut ttl = None;
        let mut has_class = false;
        let rtype = loop {
            let Some((word, rest)) = words.split_first() else {
                return self.tell(at, "a type and data are missing");
            };
            words = rest;
            let is_number = word.text.starts_with(|c: char| c.is_ascii_digit());
            match word.text.to_ascii_uppercase().as_str() {
                "IN" | "CLASS1" if !has_class => has_class = true,
                "CH" | "HS" | "CS" if !has_class => {
                    return self.tell(&places.at(word.offset), "only class IN is served");
                }
                text if is_number && ttl.is_none() => match parse_period(text) {
                    Some(period) if period <= i32::MAX as u32 => ttl = Some(period),
                    _ => return self.tell(&places.at(word.offset), format!("\"{}\" is no TTL", word.text)),
                },
                text => match text.parse::<Rtype>() {
                    Ok(rtype) if !rtype.is_meta() => break rtype,
                    Ok(rtype) => {
                        let text = format!("{rtype} is no type that records have");
                        return self.tell(&places.at(word.offset), text);
                    }
                    Err(_) => {
                        let hint = did_you_mean(word.text, Rtype::mnemonics());
                        let text = format!("unknown type \"{}\"{hint}", word.text);
                        return self.tell(&places.at(word.offset), text);
                    }
                },
            }
        };
        let has_ttl = ttl.or(self.ttl).or(self.last_ttl).is_some();
        let ttl = match ttl.or(self.ttl).or(self.last_ttl) {
            Some(ttl) => ttl,
            // Before there was $TTL, the SOA's minimum was the default (RFC 1035 3.3.13).
            None if rtype == Rtype::SOA => 0,
            None => return self.tell(at, "no TTL: give one here, or write $TTL 3600 above"),
        };
        // The words again as one text, for comments and parentheses are no part of data.
        let mut data = String::new();
        let mut offsets = Vec::with_capacity(words.len());
        for word in words {
            if !data.is_empty() {
                data.push(' ');
            }
            offsets.push((data.len(), word.offset));
            data.push_str(word.text);
        }
        match rdata::parse(rtype, &data, origin) {
            Ok(octets) => {
                let ttl = match octets.len().checked_sub(4) {
                    Some(at) if rtype == Rtype::SOA && !has_ttl => {
                        let minimum = [octets[at], octets[at + 1], octets[at + 2], octets[at + 3]];
                        u32::from_be_bytes(minimum).min(i32::MAX as u32)
                    }
                    _ => ttl,
                };
                self.last_ttl = Some(ttl);
                if !owner.is_at_or_below(self.apex) {
                    return self.tell(at, format!("{owner} is not in the zone {}", self.apex));
                }
                if self.records.push(owner, rtype, ttl, &octets, at).is_err() {
                    self.tell(at, "more than a record of 65,535 octets, or a zone of 4 GiB, can hold");
                }
            }
            Err(error) => {
                let word = offsets.iter().rev().find(|(start, _)| *start <= error.offset);
                let place = word
                    .map_or_else(|| at.clone(), |(start, offset)| places.at(offset + (error.offset - start)));
                self.tell(&place, format!("{rtype}: {}", error.text));
            }
        }
    }

    /// BIND's loop: `$GENERATE 1-9 host$ [TTL] [class] A 192.0.2.$`.
    fn generate(&mut self, places: &mut Places<'_>, range: &Word<'_>, words: &[Word<'_>], origin: &Name) {
        let at = places.at(range.offset);
        let Some((first, last, step)) = parse_range(range.text) else {
            return self.tell(&at, format!("\"{}\" is no range such as 1-9 or 0-100/10", range.text));
        };
        if (last - first) / step >= MOST_GENERATED {
            return self.tell(&at, format!("a range of more than {MOST_GENERATED} numbers"));
        }
        self.generated += (last - first) / step + 1;
        if self.generated > MOST_GENERATED_IN_ALL {
            return self
                .tell(&at, format!("more than {MOST_GENERATED_IN_ALL} records are generated in this zone"));
        }
        for number in (first..=last).step_by(step as usize) {
            let mut generated: Vec<String> = Vec::with_capacity(words.len());
            for word in words {
                match substitute(word.text, number) {
                    Some(text) => generated.push(text),
                    None => {
                        let text =
                            format!("\"{}\": after $ comes nothing, or {{offset,width,base}}", word.text);
                        return self.tell(&places.at(word.offset), text);
                    }
                }
            }
            let Some(owner) =
                self.name(places, &Word { text: &generated[0], offset: words[0].offset }, origin)
            else {
                return;
            };
            let rest: Vec<Word<'_>> = generated[1..]
                .iter()
                .zip(&words[1..])
                .map(|(text, word)| Word { text, offset: word.offset })
                .collect();
            let told = self.told;
            self.read_after_owner(places, &owner, &at, &rest, origin);
            if self.told > told {
                return;
            }
        }
    }
}

/// `start-stop` or `start-stop/step`.
fn parse_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (first, last) = range.split_once('-')?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let step: u32 = step.parse().ok().filter(|step| *step > 0)?;
    (first <= last).then_some((first.into(), last.into(), step.into()))
}

/// Puts the number in for each `$`; `$$` and `\$` are a dollar sign.
fn substitute(text: &str, number: u64) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let (sign, after) = rest[at..].split_at(1);
        if sign == "\\" {
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else {
                out.push('\\');
                rest = after;
            }
        } else if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(braced) = after.strip_prefix('{') {
            let (modifiers, after) = braced.split_once('}')?;
            out.push_str(&format_number(modifiers, number)?);
            rest = after;
        } else {
            out.push_str(&number.to_string());
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}

/// `offset[,width[,base]]`; base is d, o, x, X, or n and N for reversed nibbles.
fn format_number(modifiers: &str, number: u64) -> Option<String> {
    let mut parts = modifiers.split(',').map(str::trim);
    let offset: i64 = parts.next()?.parse().ok()?;
    let width: usize =
        parts.next().map_or(Some(0), |width| width.parse().ok()).filter(|width| *width <= 255)?;
    let base = parts.next().unwrap_or("d");
    let value = u64::try_from(i64::try_from(number).ok()?.checked_add(offset)?).ok()?;
    let nibbles = |digits: String| digits.chars().rev().map(String::from).collect::<Vec<_>>().join(".");
    Some(match base {
        "d" => format!("{value:0width$}"),
        "o" => format!("{value:0width$o}"),
        "x" => format!("{value:0width$x}"),
        "X" => format!("{value:0width$X}"),
        // The width counts digits and dots.
        "n" => nibbles(format!("{value:0digits$x}", digits = width.div_ceil(2))),
        "N" => nibbles(format!("{value:0digits$X}", digits = width.div_ceil(2))),
        _ => return None,
    })
}

/// A file of text; regular files only, since a FIFO would wait for ever.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    /// A zone of a million names has about 60 MB.
    const LARGEST: u64 = 512 << 20;
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("no regular file".to_owned());
    }
    let too_large = || format!("larger than {} MiB", LARGEST >> 20);
    if metadata.len() > LARGEST {
        return Err(too_large());
    }
    // Files of /proc have no length, and some no end.
    let mut octets = Vec::with_capacity(metadata.len() as usize);
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut octets));
    if read.map_err(|error| error.to_string())? as u64 > LARGEST {
        return Err(too_large());
    }
    let text = String::from_utf8(octets).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
        format!("line {line} is not UTF-8; `iconv -f latin1 -t utf8` turns older files into it")
    })?;
    // Editors of some systems put a byte order mark first.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text_as(text: &str) -> (Vec<String>, Vec<String>) {
        let apex = Name::parse("example.com.", None).unwrap();
        let mut findings = Findings::new();
        let file = read(&Source::new("example.com.zone", text), &apex, None, &mut findings);
        let record = |record: super::super::records::Record<'_>| {
            let data = rdata::print(record.rtype, record.rdata);
            format!("{} {} {} {data}", record.owner_name(), record.ttl, record.rtype)
        };
        let findings =
            findings.iter().map(|finding| format!("{}:{} {}", finding.line, finding.column, finding.text));
        (file.records.iter().map(record).collect(), findings.collect())
    }

    #[test]
    fn what_an_entry_leaves_out_comes_from_the_one_before() {
        let (records, findings) = read_text_as(concat!(
            "$TTL 1h\n@ IN SOA ns1 hostmaster (\n\t2024010101 ; serial\n\t1d 2h 4w 5m )\n",
            "\tNS ns1\n\t60 IN NS ns2.example.net.\nwww IN 30 A 192.0.2.1\n TXT \"a;b\" \"(c)\" ; comment\n",
            "$ORIGIN sub.example.com.\n@ A 192.0.2.2\nx TYPE65280 \\# 2 abcd\n",
        ));
        assert_eq!(findings, [""; 0]);
        assert_eq!(
            records,
            [
                "example.com. 3600 SOA ns1.example.com. hostmaster.example.com. 2024010101 86400 7200 2419200 300",
                "example.com. 3600 NS ns1.example.com.",
                "example.com. 60 NS ns2.example.net.",
                "www.example.com. 30 A 192.0.2.1",
                "www.example.com. 3600 TXT \"a;b\" \"(c)\"",
                "sub.example.com. 3600 A 192.0.2.2",
                "x.sub.example.com. 3600 TYPE65280 \\# 2 ABCD",
            ]
        );
    }

    #[test]
    fn generate_counts() {
        let (records, findings) = read_text_as(
            "$TTL 60\n$GENERATE 1-3/2 host$ A 192.0.2.${10}\n$GENERATE 0-0 n${0,4,x} CNAME \\$x\n",
        );
        assert_eq!(findings, [""; 0]);
        assert_eq!(
            records,
            [
                "host1.example.com. 60 A 192.0.2.11",
                "host3.example.com. 60 A 192.0.2.13",
                "n0000.example.com. 60 CNAME \\$x.example.com.",
            ]
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let (records, findings) = read_text_as(concat!(
            "a A 192.0.2.1\n$TTL 60\nb A 192.0.2.300\nc AAAAA ::1\nwww.example.net. A 192.0.2.1\n",
            "$ORIGEN x\nd TXT \"open\ne NS ( x\n",
        ));
        assert_eq!(records, [""; 0]);
        let places: Vec<&str> = findings.iter().map(|finding| finding.split(' ').next().unwrap()).collect();
        assert_eq!(places, ["1:1", "3:5", "4:3", "5:1", "6:1", "7:7", "8:6"], "{findings:#?}");
        assert!(findings[2].contains("did you mean \"AAAA\""), "{findings:#?}");
    }

    #[test]
    fn a_zone_of_many_ranges_ends() {
        // No record comes of these, so that the test is quick.
        let text = "$GENERATE 0-65535 a..b$ A 192.0.2.1\n".repeat(17);
        let (_, findings) = read_text_as(&text);
        assert!(findings.last().unwrap().contains("more than 1000000 records"), "{findings:?}");
    }

    /// What is found in the master file of a folder, which may take in what lies there.
    fn findings_in(folder: &Path) -> String {
        let path = folder.join("example.com.zone");
        let mut findings = Findings::new();
        let source = Source::new(&path, read_text(&path).unwrap());
        read(&source, &Name::parse("example.com.", None).unwrap(), Some(folder), &mut findings);
        findings.to_string()
    }

    fn folder_with(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("example.com.zone"), text).unwrap();
        folder
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let folder = folder_with("$TTL 60\na A 192.0.2.1\n$INCLUDE example.com.zone\n");
        let findings = findings_in(folder.path());
        assert!(findings.contains("include itself"), "{findings}");
    }

    #[test]
    fn no_more_than_a_thousand_files_are_included() {
        for (count, is_too_many) in [(MOST_INCLUDES, false), (MOST_INCLUDES + 1, true)] {
            let folder = folder_with(&"$INCLUDE nothing.inc\n".repeat(count));
            std::fs::write(folder.path().join("nothing.inc"), "; nothing\n").unwrap();
            let findings = findings_in(folder.path());
            let told: Vec<&str> = findings.lines().filter(|line| line.contains("too many files")).collect();
            let place = format!("{}:10: ", MOST_INCLUDES + 1);
            assert_eq!(told.len(), usize::from(is_too_many), "{findings}");
            assert!(told.iter().all(|line| line.contains(&place)), "{findings}");
        }
    }

    #[test]
    fn what_is_included_has_a_length_in_all() {
        let folder = folder_with(&"$INCLUDE long.inc\n".repeat(3));
        std::fs::write(folder.path().join("long.inc"), ";\n".repeat(MOST_INCLUDED / 4)).unwrap();
        let findings = findings_in(folder.path());
        assert!(findings.contains("3:10: ") && findings.contains("are included"), "{findings}");
        assert!(!findings.contains("2:10: "), "{findings}");
    }

    #[test]
    fn where_a_link_leads_to_counts() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "a A 192.0.2.1\n").unwrap();
        let folder = folder_with("$TTL 60\n$INCLUDE link.inc\n$INCLUDE inner.inc\n");
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link.inc")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("data"), folder.path().join("inner.inc")).unwrap();
        std::fs::write(folder.path().join("data"), "b A 192.0.2.2\n").unwrap();
        let findings = findings_in(folder.path());
        assert!(findings.contains("2:10: "), "{findings}");
        assert!(findings.contains("files that are included lie in the folder of zones"), "{findings}");
        assert!(!findings.contains("3:10: "), "{findings}");
    }
}
