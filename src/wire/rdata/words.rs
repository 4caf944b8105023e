//! The words of a text in presentation format (RFC 1035 5.1): separated by space, or within double quotes.

use super::RdataError;

/// A word as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'t> {
    /// Without its quotes; escapes are still in it.
    pub(super) raw: &'t str,
    /// Octets from the start of the text.
    pub(super) offset: usize,
    pub(super) is_quoted: bool,
}

/// Reads words one after the other.
pub(super) struct Words<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Words<'t> {
    pub(super) fn new(text: &'t str) -> Words<'t> {
        Words { text, at: 0 }
    }

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Word<'t>>, RdataError> {
        let octets = self.text.as_bytes();
        while octets.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let offset = self.at;
        let Some(&first) = octets.get(self.at) else { return Ok(None) };
        if first == b'"' {
            let end = end_of_quoted(octets, self.at + 1)
                .ok_or_else(|| RdataError { offset, text: "a double quote that is not closed".to_owned() })?;
            self.at = end + 1;
            return Ok(Some(Word { raw: &self.text[offset + 1..end], offset, is_quoted: true }));
        }
        // A quote within a word opens a part that may hold space: alpn="h2,h3".
        while let Some(&octet) = octets.get(self.at) {
            match octet {
                b'\\' => self.at += 1,
                b'"' => {
                    let unclosed =
                        || RdataError { offset, text: "a double quote that is not closed".to_owned() };
                    self.at = end_of_quoted(octets, self.at + 1).ok_or_else(unclosed)?;
                }
                octet if octet.is_ascii_whitespace() => break,
                _ => {}
            }
            self.at += 1;
        }
        self.at = self.at.min(octets.len());
        // A backslash before a longer character leaves `at` within it.
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        Ok(Some(Word { raw: &self.text[offset..self.at], offset, is_quoted: false }))
    }

    /// The next word, which must be there.
    pub(super) fn expect(&mut self, what: &str) -> Result<Word<'t>, RdataError> {
        let missing = RdataError { offset: self.text.len(), text: format!("{what} is missing") };
        self.next()?.ok_or(missing)
    }

    /// All words that are left.
    pub(super) fn rest(&mut self) -> Result<Vec<Word<'t>>, RdataError> {
        let mut words = Vec::new();
        while let Some(word) = self.next()? {
            words.push(word);
        }
        Ok(words)
    }
}

fn end_of_quoted(octets: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match octets.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

impl Word<'_> {
    pub(super) fn error(&self, text: impl Into<String>) -> RdataError {
        RdataError { offset: self.offset, text: text.into() }
    }

    /// The octets that the word stands for, `\"` and `\065` undone.
    pub(super) fn octets(&self) -> Result<Vec<u8>, RdataError> {
        unescape(self.raw).ok_or_else(|| {
            self.error("a backslash must be followed by a character or by three digits up to 255")
        })
    }
}

/// Undoes escapes (RFC 1035 5.1).
pub(super) fn unescape(raw: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        let first = rest.next()?;
        if !first.is_ascii_digit() {
            octets.push(first);
            continue;
        }
        let mut number = u16::from(first - b'0');
        for _ in 0..2 {
            let digit = rest.next().filter(u8::is_ascii_digit)?;
            number = number * 10 + u16::from(digit - b'0');
        }
        octets.push(u8::try_from(number).ok()?);
    }
    Some(octets)
}

/// The reverse, for within double quotes.
pub(super) fn escape_into(text: &mut String, octets: &[u8]) {
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(octet as char);
            }
            0x20..=0x7e => text.push(octet as char),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
    }
}
