//! RDATA: presentation format to wire format and back, for every type of the field.
//!
//! A type is a row of [`Field`]s; reading, printing and finding names all walk that row. What has no row is read and
//! printed in the form for unknown types (RFC 3597 5), which every type may be written in.

use std::borrow::Cow;
use std::fmt;

use crate::wire::Rtype;
use crate::wire::name::wire_length;

mod fields;
mod print;
mod read;
mod svcb;
#[cfg(test)]
mod tests;
mod words;

use fields::{Field, fields};
pub use print::print;
pub use read::{check, parse, parse_period, text_to_strings};
pub use svcb::{IPV4HINT, IPV6HINT, place_of_param};

/// Why a text is no RDATA of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdataError {
    /// Octets from the start of the text to the word that is wrong.
    pub offset: usize,
    /// What is wrong and what was expected.
    pub text: String,
}

impl fmt::Display for RdataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RdataError {}

/// What data of a type looks like, for types that are not names and not texts.
#[must_use]
pub fn example(rtype: Rtype) -> Option<&'static str> {
    Some(match rtype {
        Rtype::A => "192.0.2.1",
        Rtype::AAAA => "\"2001:db8::1\"",
        Rtype::CAA => "0 issue \"ca.example.net\"",
        Rtype::DS => "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
        Rtype::HTTPS | Rtype::SVCB => "1 . alpn=h2,h3",
        Rtype::MX => "10 mail",
        Rtype::NAPTR => "100 10 \"S\" \"SIP+D2U\" \"\" _sip._udp",
        Rtype::SRV => "10 60 5060 sip",
        Rtype::SSHFP => "4 2 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789",
        Rtype::TLSA => "3 1 1 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789",
        _ => return None,
    })
}

/// Where domain names begin in well-formed, uncompressed RDATA.
#[must_use]
pub fn names(rtype: Rtype, rdata: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    for field in fields(rtype).unwrap_or_default() {
        if *field == Field::Name {
            found.push(at);
        }
        match field.length(&rdata[at..]) {
            Some(length) => at += length,
            None => break,
        }
    }
    found
}

/// Whether a service binding is about the name that it stands at: ServiceMode, with `.` as its target (RFC 9460 2.5.2).
#[must_use]
pub fn is_about_its_owner(rtype: Rtype, rdata: &[u8]) -> bool {
    matches!(rtype, Rtype::SVCB | Rtype::HTTPS)
        && matches!(rdata, [high, low, 0, ..] if (*high, *low) != (0, 0))
}

/// RDATA as it is compared: names in lower case (RFC 4034 6.2, RFC 4343).
#[must_use]
pub fn canonical(rtype: Rtype, rdata: &[u8]) -> Cow<'_, [u8]> {
    let mut octets = Cow::Borrowed(rdata);
    for start in names(rtype, rdata) {
        let end = wire_length(&rdata[start..]).map_or(start, |length| start + length);
        if rdata[start..end].iter().any(u8::is_ascii_uppercase) {
            octets.to_mut()[start..end].make_ascii_lowercase();
        }
    }
    octets
}

/// Whether names in a type's RDATA may be compressed: only in the types of RFC 1035 (RFC 3597 4).
#[must_use]
pub fn may_be_compressed(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::NS
            | Rtype::MD
            | Rtype::MF
            | Rtype::CNAME
            | Rtype::SOA
            | Rtype::MB
            | Rtype::MG
            | Rtype::MR
            | Rtype::PTR
            | Rtype::MINFO
            | Rtype::MX
    )
}
