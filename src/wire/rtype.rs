//! RR types (RFC 1035 3.2.2, RFC 3597, and IANA's list).

use std::fmt;
use std::str::FromStr;

/// An RR TYPE or a QTYPE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rtype(pub u16);

macro_rules! rtypes {
    ($($mnemonic:ident = $number:literal),* $(,)?) => {
        #[allow(missing_docs)] // each is the mnemonic that IANA lists, and no more can be said of it here
        impl Rtype {
            $(pub const $mnemonic: Rtype = Rtype($number);)*
        }

        /// Mnemonic and number of every type that has a mnemonic, in the order of numbers.
        const MNEMONICS: &[(&str, u16)] = &[$((stringify!($mnemonic), $number)),*];
    };
}

rtypes! {
    A = 1, NS = 2, MD = 3, MF = 4, CNAME = 5, SOA = 6, MB = 7, MG = 8, MR = 9, NULL = 10, WKS = 11, PTR = 12,
    HINFO = 13, MINFO = 14, MX = 15, TXT = 16, RP = 17, AFSDB = 18, X25 = 19, ISDN = 20, RT = 21, NSAP = 22,
    SIG = 24, KEY = 25, PX = 26, GPOS = 27, AAAA = 28, LOC = 29, NXT = 30, EID = 31, NIMLOC = 32, SRV = 33, ATMA = 34, NAPTR = 35, KX = 36, CERT = 37, DNAME = 39, SINK = 40,
    OPT = 41, APL = 42, DS = 43, SSHFP = 44, IPSECKEY = 45, RRSIG = 46, NSEC = 47, DNSKEY = 48, DHCID = 49,
    NSEC3 = 50, NSEC3PARAM = 51, TLSA = 52, SMIMEA = 53, HIP = 55, CDS = 59, CDNSKEY = 60, OPENPGPKEY = 61,
    CSYNC = 62, ZONEMD = 63, SVCB = 64, HTTPS = 65, DSYNC = 66, SPF = 99, NID = 104, L32 = 105, L64 = 106, LP = 107, EUI48 = 108, EUI64 = 109,
    TKEY = 249, TSIG = 250, IXFR = 251, AXFR = 252, MAILB = 253, MAILA = 254, ANY = 255, URI = 256, CAA = 257, AVC = 258, AMTRELAY = 260, RESINFO = 261, WALLET = 262, TA = 32768, DLV = 32769,
}

impl Rtype {
    /// Whether this number can only stand in a question or in a message's machinery, never in a zone
    /// (RFC 6895 3.1: meta types and QTYPEs, 128 to 255; OPT; and 0, which is reserved).
    #[must_use]
    pub fn is_meta(self) -> bool {
        self == Rtype::OPT || self.0 == 0 || (128..=255).contains(&self.0)
    }

    /// The mnemonics of all types that have one.
    pub fn mnemonics() -> impl Iterator<Item = &'static str> {
        MNEMONICS.iter().map(|(mnemonic, _)| *mnemonic)
    }
}

/// Not a type's mnemonic and not `TYPE` with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRtype;

impl FromStr for Rtype {
    type Err = UnknownRtype;

    fn from_str(text: &str) -> Result<Rtype, UnknownRtype> {
        if let Some((_, number)) = MNEMONICS.iter().find(|(mnemonic, _)| mnemonic.eq_ignore_ascii_case(text))
        {
            return Ok(Rtype(*number));
        }
        match text.get(..4) {
            Some(word) if word.eq_ignore_ascii_case("TYPE") => {
                text[4..].parse().map(Rtype).map_err(|_| UnknownRtype)
            }
            _ => Err(UnknownRtype),
        }
    }
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MNEMONICS.binary_search_by_key(&self.0, |(_, number)| *number) {
            Ok(found) => f.write_str(MNEMONICS[found].0),
            Err(_) => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
