//! Domain names: absolute, in wire format, compared without regard to case (RFC 1035 2.3.3, RFC 4343).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest name in wire format, root label and length octets included (RFC 1035 2.3.4).
pub const LONGEST: usize = 255;
/// The longest label (RFC 1035 2.3.4).
pub const LONGEST_LABEL: usize = 63;

/// An absolute domain name in uncompressed wire format; case is kept and ignored.
#[derive(Clone)]
pub struct Name {
    wire: Box<[u8]>,
}

/// Why a text or some octets are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Two dots in a row, or a dot first.
    EmptyLabel,
    /// More than 63 octets between dots.
    LabelTooLong,
    /// More than 255 octets in all.
    NameTooLong,
    /// A backslash that is followed by no character, or by a number above 255.
    BadEscape,
    /// The text is relative and there is no origin to complete it.
    NoOrigin,
    /// Octets that end early, hold a pointer, or go on after the root.
    BadWire,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::EmptyLabel => "a name with an empty label",
            NameError::LabelTooLong => "a label of more than 63 octets",
            NameError::NameTooLong => "a name of more than 255 octets",
            NameError::BadEscape => {
                "a backslash must be followed by a character or by three digits up to 255"
            }
            NameError::NoOrigin => "a relative name where there is no origin",
            NameError::BadWire => "octets that are no name",
        })
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// The root.
    #[must_use]
    pub fn root() -> Name {
        Name { wire: Box::new([0]) }
    }

    /// Reads a name in presentation format (RFC 1035 5.1). `@` is the origin; a name without a final dot is
    /// completed by the origin.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str, origin: Option<&Name>) -> Result<Name, NameError> {
        if text == "@" {
            return origin.cloned().ok_or(NameError::NoOrigin);
        }
        if text == "." {
            return Ok(Name::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label_start = 0;
        wire.push(0);
        let mut octets = text.bytes();
        let mut ended_by_dot = false;
        while let Some(octet) = octets.next() {
            ended_by_dot = false;
            match octet {
                b'.' => {
                    close_label(&mut wire, label_start)?;
                    label_start = wire.len();
                    wire.push(0);
                    ended_by_dot = true;
                }
                b'\\' => wire.push(unescape(&mut octets).ok_or(NameError::BadEscape)?),
                _ => wire.push(octet),
            }
            if wire.len() > LONGEST + 1 {
                return Err(NameError::NameTooLong);
            }
        }
        if !ended_by_dot {
            close_label(&mut wire, label_start)?;
            wire.extend_from_slice(origin.ok_or(NameError::NoOrigin)?.wire());
        }
        if wire.len() > LONGEST {
            return Err(NameError::NameTooLong);
        }
        Ok(Name { wire: wire.into() })
    }

    /// A name from exactly its uncompressed octets.
    ///
    /// # Errors
    /// When the octets are not one whole name.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        match wire_length(wire) {
            Some(length) if length == wire.len() => Ok(Name { wire: wire.into() }),
            _ => Err(NameError::BadWire),
        }
    }

    /// The name that begins `octets`, uncompressed.
    ///
    /// # Errors
    /// When no whole name stands there.
    pub fn first_of(octets: &[u8]) -> Result<Name, NameError> {
        wire_length(octets).map(|length| Name { wire: octets[..length].into() }).ok_or(NameError::BadWire)
    }

    /// The octets, the root's included.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels without their length octets, leftmost first, the root not among them.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.wire }
    }

    /// The name without its leftmost label; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Name> {
        match self.wire[0] {
            0 => None,
            length => Some(Name { wire: self.wire[1 + usize::from(length)..].into() }),
        }
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// Whether the leftmost label is an asterisk (RFC 4592 2.1.1).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.wire.starts_with(b"\x01*")
    }

    /// Whether this name is `ancestor` or below it.
    #[must_use]
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        let mut labels = self.labels();
        loop {
            if labels.rest.len() == ancestor.wire.len() {
                return labels.rest.eq_ignore_ascii_case(&ancestor.wire);
            }
            if labels.next().is_none() {
                return false;
            }
        }
    }

    /// This name with a label put before it.
    ///
    /// # Errors
    /// When the label or the whole is too long, or the label is empty.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        match label.len() {
            0 => return Err(NameError::EmptyLabel),
            length if length > LONGEST_LABEL => return Err(NameError::LabelTooLong),
            length if length + 1 + self.wire.len() > LONGEST => return Err(NameError::NameTooLong),
            _ => {}
        }
        let mut wire = Vec::with_capacity(1 + label.len() + self.wire.len());
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
        wire.extend_from_slice(&self.wire);
        Ok(Name { wire: wire.into() })
    }

    /// In lower case.
    #[must_use]
    pub fn to_lowercase(&self) -> Name {
        Name { wire: self.wire.to_ascii_lowercase().into() }
    }

    /// In presentation format without `origin` and its dot where it ends in it, `@` for the origin itself.
    #[must_use]
    pub fn relative_to(&self, origin: &Name) -> String {
        if !self.is_at_or_below(origin) || origin.is_root() {
            return self.to_string();
        }
        if self == origin {
            return "@".to_owned();
        }
        let mut text = String::new();
        for label in self.labels().take(self.labels().count() - origin.labels().count()) {
            if !text.is_empty() {
                text.push('.');
            }
            let _ = write_label(&mut text, label);
        }
        text
    }
}

/// Where each label of a whole name begins, the root's not counted; written to the front of `starts`.
#[must_use]
pub fn label_starts<'s>(name: &[u8], starts: &'s mut [u8; 127]) -> &'s [u8] {
    let mut at = 0;
    let mut count = 0;
    while let Some(&length) = name.get(at).filter(|&&length| length != 0) {
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(length);
    }
    &starts[..count]
}

fn lowercase_label(name: &[u8], start: u8) -> impl Iterator<Item = u8> {
    let start = usize::from(start);
    name[start + 1..start + 1 + usize::from(name[start])].iter().map(u8::to_ascii_lowercase)
}

/// The length of the uncompressed name that begins `octets`, or none.
#[must_use]
pub fn wire_length(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*octets.get(at)?);
        at += 1 + length;
        if at > LONGEST || length > LONGEST_LABEL {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

fn close_label(wire: &mut [u8], start: usize) -> Result<(), NameError> {
    match wire.len() - start - 1 {
        0 => Err(NameError::EmptyLabel),
        length if length > LONGEST_LABEL => Err(NameError::LabelTooLong),
        length => {
            wire[start] = length as u8;
            Ok(())
        }
    }
}

/// What follows a backslash: three digits, or one octet that stands for itself.
fn unescape(octets: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = octets.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut number = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = octets.next().filter(u8::is_ascii_digit)?;
        number = number * 10 + u16::from(digit - b'0');
    }
    u8::try_from(number).ok()
}

fn write_label(out: &mut impl fmt::Write, label: &[u8]) -> fmt::Result {
    for &octet in label {
        match octet {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(out, "\\{}", octet as char)?,
            0x21..=0x7e => out.write_char(octet as char)?,
            _ => write!(out, "\\{octet:03}")?,
        }
    }
    Ok(())
}

/// The labels of a name, leftmost first.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.rest.first()?);
        if length == 0 {
            return None;
        }
        let (label, rest) = self.rest[1..].split_at(length);
        self.rest = rest;
        Some(label)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // Length octets are at most 63, below the letters, so they compare as themselves.
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut lowercase = [0; LONGEST];
        let lowercase = &mut lowercase[..self.wire.len()];
        lowercase.copy_from_slice(&self.wire);
        lowercase.make_ascii_lowercase();
        state.write(lowercase);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// Canonical order: by labels from the right (RFC 4034 6.1).
    fn cmp(&self, other: &Name) -> Ordering {
        let (mut mine, mut theirs) = ([0; 127], [0; 127]);
        let (mine, theirs) = (label_starts(&self.wire, &mut mine), label_starts(&other.wire, &mut theirs));
        for (&a, &b) in mine.iter().rev().zip(theirs.iter().rev()) {
            let by_label = lowercase_label(&self.wire, a).cmp(lowercase_label(&other.wire, b));
            if by_label != Ordering::Equal {
                return by_label;
            }
        }
        mine.len().cmp(&theirs.len())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            write_label(f, label)?;
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
