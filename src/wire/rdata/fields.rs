//! Of what fields each type's RDATA consists.

use crate::wire::Rtype;
use crate::wire::name::wire_length;

/// One field of RDATA. Those that take "the rest" stand last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    U8,
    U16,
    U32,
    /// Seconds, which may be written with units (`1h30m`).
    Period,
    /// Seconds since 1970, written as `YYYYMMDDHHmmSS` (RFC 4034 3.2).
    Time,
    /// A type's mnemonic.
    Rtype,
    /// A DNSSEC algorithm, by number or mnemonic (RFC 4034 2.2).
    Algorithm,
    /// What a CERT holds, by number or mnemonic (RFC 4398 2.2).
    CertificateType,
    V4,
    V6,
    /// One character-string.
    Text,
    /// A character-string that is a single word (CAA tags).
    Tag,
    /// Character-strings, at least one, to the end.
    Texts,
    /// The rest, as one text without a length.
    RestText,
    /// The rest in hexadecimal digits.
    Hex,
    /// The rest in base 64.
    Base64,
    /// A length octet and as many octets, in hexadecimal digits, `-` for none (NSEC3 salt).
    Salt,
    /// A length octet and as many octets, in base 32 with extended hex alphabet (NSEC3 hash).
    Hash,
    /// The rest: which types exist (RFC 4034 4.1.2).
    TypeBitmap,
    /// The rest: SvcParams (RFC 9460 2.2).
    SvcParams,
    /// RFC 1876.
    Location,
    /// The rest: RFC 3123.
    AddressPrefixes,
    /// Precedence, gateway type, algorithm, gateway, key (RFC 4025).
    IpsecGateway,
    /// Precedence, D bit and type, relay (RFC 8777).
    AmtRelay,
    /// HIT, public key, rendezvous servers (RFC 8005).
    HostIdentity,
    /// That many octets in pairs of hexadecimal digits with hyphens between (RFC 7043).
    Eui(u8),
    /// 64 bits in groups of four hexadecimal digits (RFC 6742).
    Locator64,
}

use Field::{
    AddressPrefixes, Algorithm, AmtRelay, Base64, Eui, Hash, Hex, HostIdentity, IpsecGateway, Locator64,
    Name, Period, RestText, Salt, SvcParams, Tag, Text, Texts, Time, TypeBitmap, U8, U16, U32, V4, V6,
};

/// The fields of a type; none when only the form for unknown types will do.
pub(super) fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    Some(match rtype {
        Rtype::A => &[V4],
        Rtype::AAAA => &[V6],
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::DNAME => &[Name],
        Rtype::SOA => &[Name, Name, U32, Period, Period, Period, Period],
        Rtype::MINFO | Rtype::RP => &[Name, Name],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP => &[U16, Name],
        Rtype::PX => &[U16, Name, Name],
        Rtype::SRV => &[U16, U16, U16, Name],
        Rtype::NAPTR => &[U16, U16, Text, Text, Text, Name],
        Rtype::HINFO => &[Text, Text],
        Rtype::X25 => &[Text],
        Rtype::GPOS => &[Text, Text, Text],
        Rtype::TXT | Rtype::SPF | Rtype::AVC | Rtype::ISDN | Rtype::RESINFO | Rtype::WALLET => &[Texts],
        Rtype::LOC => &[Field::Location],
        Rtype::APL => &[AddressPrefixes],
        Rtype::CERT => &[Field::CertificateType, U16, Algorithm, Base64],
        Rtype::DS | Rtype::CDS | Rtype::TA | Rtype::DLV => &[U16, Algorithm, U8, Hex],
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY => &[U16, U8, Algorithm, Base64],
        Rtype::RRSIG | Rtype::SIG => &[Field::Rtype, Algorithm, U8, Period, Time, Time, U16, Name, Base64],
        Rtype::NSEC => &[Name, TypeBitmap],
        Rtype::NSEC3 => &[U8, U8, U16, Salt, Hash, TypeBitmap],
        Rtype::NSEC3PARAM => &[U8, U8, U16, Salt],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::IPSECKEY => &[IpsecGateway],
        Rtype::AMTRELAY => &[AmtRelay],
        Rtype::HIP => &[HostIdentity],
        Rtype::DHCID | Rtype::OPENPGPKEY => &[Base64],
        Rtype::CSYNC => &[U32, U16, TypeBitmap],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::SVCB | Rtype::HTTPS => &[U16, Name, SvcParams],
        Rtype::DSYNC => &[Field::Rtype, U8, U16, Name],
        Rtype::NID | Rtype::L64 => &[U16, Locator64],
        Rtype::L32 => &[U16, V4],
        Rtype::EUI48 => &[Eui(6)],
        Rtype::EUI64 => &[Eui(8)],
        Rtype::URI => &[U16, U16, RestText],
        Rtype::CAA => &[U8, Tag, RestText],
        _ => return None,
    })
}

impl Field {
    /// Octets of the field that begins `rdata`; none when it is cut short.
    pub(super) fn length(self, rdata: &[u8]) -> Option<usize> {
        let length = match self {
            Name => wire_length(rdata)?,
            U8 | Algorithm => 1,
            U16 | Field::Rtype | Field::CertificateType => 2,
            U32 | Period | Time | V4 => 4,
            V6 | Field::Location => 16,
            Text | Tag | Salt | Hash => 1 + usize::from(*rdata.first()?),
            Eui(octets) => usize::from(octets),
            Locator64 => 8,
            Texts | RestText | Hex | Base64 | TypeBitmap | SvcParams | AddressPrefixes | IpsecGateway
            | AmtRelay | HostIdentity => rdata.len(),
        };
        (length <= rdata.len()).then_some(length)
    }
}
