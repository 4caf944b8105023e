use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, BinEncodable, BinEncoder, NameEncoding, Restrict};
use proptest::prelude::*;

use super::*;
use crate::wire::Name;

fn origin() -> Name {
    Name::parse("example.com.", None).unwrap()
}

fn rtype(text: &str) -> Rtype {
    text.parse().unwrap()
}

/// One record of every type that has a format of its own, as it is printed.
const RECORDS: &[(&str, &str)] = &[
    ("A", "192.0.2.1"),
    ("AAAA", "2001:db8::1"),
    ("NS", "ns1.example.com."),
    ("CNAME", "www.example.net."),
    ("DNAME", "example.net."),
    ("PTR", "host.example.com."),
    ("SOA", "ns1.example.com. hostmaster.example.com. 1 7200 900 1209600 60"),
    ("MX", "10 mail.example.com."),
    ("TXT", "\"v=spf1 -all\" \"a \\\"quoted\\\" \\\\ word\" \"\\000\\255\""),
    ("SPF", "\"v=spf1 -all\""),
    ("HINFO", "\"RFC8482\" \"\""),
    ("MINFO", "a.example.com. b.example.com."),
    ("RP", "admin.example.com. text.example.com."),
    ("AFSDB", "1 afs.example.com."),
    ("RT", "10 relay.example.com."),
    ("KX", "10 kx.example.com."),
    ("PX", "10 a.example.com. b.example.com."),
    ("SRV", "0 5 5060 sip.example.com."),
    ("NAPTR", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:info@example.com!\" ."),
    ("X25", "\"311061700956\""),
    ("GPOS", "\"-32.6882\" \"116.8652\" \"10.0\""),
    ("LOC", "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m"),
    ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8"),
    ("CERT", "1 2 5 aGVsbG8="),
    ("DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"),
    ("CDS", "0 0 0 00"),
    ("DNSKEY", "256 3 5 aGVsbG8="),
    ("CDNSKEY", "0 3 0 AA=="),
    ("RRSIG", "A 5 3 86400 20030322173103 20030220173103 2642 example.com. aGVsbG8="),
    ("NSEC", "host.example.com. A MX RRSIG NSEC TYPE1234"),
    ("NSEC3", "1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR MX DNSKEY NS SOA NSEC3PARAM RRSIG"),
    ("NSEC3PARAM", "1 0 12 AABBCCDD"),
    ("SSHFP", "2 1 123456789ABCDEF67890123456789ABCDEF67890"),
    ("TLSA", "3 1 1 0123456789ABCDEF"),
    ("SMIMEA", "3 1 1 0123456789ABCDEF"),
    ("IPSECKEY", "10 1 2 192.0.2.38 aGVsbG8="),
    ("IPSECKEY", "10 3 2 gateway.example.com. aGVsbG8="),
    ("AMTRELAY", "10 1 2 2001:db8::15"),
    ("HIP", "2 200100107B1A74DF365639CC39F1D578 aGVsbG8= rvs.example.com."),
    ("DHCID", "aGVsbG8="),
    ("OPENPGPKEY", "aGVsbG8="),
    ("CSYNC", "66 3 A NS AAAA"),
    (
        "ZONEMD",
        "2018031500 1 1 FEBE3D4CE2EC2FFA4BA99D46CD69D6D29711E55217057BEE7EB1A7B641A47BA7FED2DD5B97AE499FAFA4F22C6BD647DE",
    ),
    ("HTTPS", "1 . alpn=\"h2,h3\" port=8443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1"),
    ("HTTPS", "0 pool.example.com."),
    ("SVCB", "16 foo.example.org. mandatory=alpn,ipv4hint alpn=\"h2\" ipv4hint=192.0.2.1"),
    ("DSYNC", "CDS 1 5359 cds-scanner.example.net."),
    ("NID", "10 0014:4fff:ff20:ee64"),
    ("L32", "10 10.1.2.0"),
    ("L64", "10 2001:0db8:1140:1000"),
    ("LP", "10 l64.example.com."),
    ("EUI48", "00-00-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2a"),
    ("URI", "10 1 \"ftp://ftp1.example.com/public\""),
    ("CAA", "0 issue \"ca.example.net; policy=ev\""),
    ("TYPE65280", "\\# 4 0A000001"),
];

#[test]
fn what_is_printed_reads_back_the_same_for_every_type() {
    for (name, text) in RECORDS {
        let rtype = rtype(name);
        let rdata = parse(rtype, text, &origin()).unwrap_or_else(|error| panic!("{name} {text}: {error}"));
        check(rtype, &rdata).unwrap_or_else(|error| panic!("{name}: {error}"));
        let printed = print(rtype, &rdata);
        assert_eq!(parse(rtype, &printed, &origin()).as_ref(), Ok(&rdata), "{name} {printed}");
        let unknown = format!("\\# {} {}", rdata.len(), data_encoding::HEXLOWER.encode(&rdata));
        assert_eq!(parse(rtype, &unknown, &origin()).as_ref(), Ok(&rdata), "{name} {unknown}");
        if !matches!(*name, "NSEC3") {
            assert_eq!(printed, *text, "{name}");
        }
    }
}

#[test]
fn the_other_codec_reads_the_same_and_writes_the_same() {
    for (name, text) in RECORDS {
        let rdata = parse(rtype(name), text, &origin()).unwrap();
        let theirs = RecordType::from(rtype(name).0);
        let mut decoder = BinDecoder::new(&rdata);
        let read = RData::read(&mut decoder, theirs, Restrict::new(rdata.len() as u16));
        let read = read.unwrap_or_else(|error| panic!("{name} {text}: {error}"));
        let mut written = Vec::new();
        let mut encoder = BinEncoder::new(&mut written);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        read.emit(&mut encoder).unwrap();
        assert_eq!(written, rdata, "{name} {text}");
    }
}

#[test]
fn names_are_found_where_they_begin() {
    let rdata = parse(Rtype::SOA, "ns1 hostmaster 1 2 3 4 5", &origin()).unwrap();
    assert_eq!(names(Rtype::SOA, &rdata), [0, 17]);
    assert_eq!(names(Rtype::MX, &parse(Rtype::MX, "10 mail", &origin()).unwrap()), [2]);
    assert_eq!(names(Rtype::TXT, b"\x01a"), [0_usize; 0]);
}

#[test]
fn relative_names_are_completed_by_the_origin() {
    let rdata = parse(Rtype::MX, "10 mail", &origin()).unwrap();
    assert_eq!(print(Rtype::MX, &rdata), "10 mail.example.com.");
    let rdata = parse(Rtype::HTTPS, "1 @", &origin()).unwrap();
    assert_eq!(print(Rtype::HTTPS, &rdata), "1 example.com.");
}

#[test]
fn a_long_text_is_split_at_255_octets() {
    let strings = text_to_strings(&"x".repeat(300));
    assert_eq!((strings[0], strings[256], strings.len()), (255, 45, 302));
    assert_eq!(text_to_strings(""), [0]);
}

/// Each is refused, with these words in what is said and the offset of the word that is wrong.
#[test]
fn mistakes_are_told_with_what_was_expected() {
    let cases = [
        ("A", "192.0.2.999", 0, "\"192.0.2.999\" is not an IPv4 address"),
        ("A", "192.0.2.1 192.0.2.2", 10, "more than A takes"),
        ("A", "", 0, "an IPv4 address is missing"),
        ("AAAA", "192.0.2.1", 0, "is not an IPv6 address"),
        ("MX", "mail", 0, "\"mail\" is no number from 0 to 65535"),
        ("MX", "65536 mail", 0, "no number from 0 to 65535"),
        ("MX", "10", 2, "a name is missing"),
        ("SRV", "0 5 5060", 8, "a name is missing"),
        ("TXT", "\"open", 0, "a double quote that is not closed"),
        ("TXT", "\\256", 0, "three digits up to 255"),
        ("CNAME", "a..b", 0, "empty label"),
        ("HIP", "2 07 \"\"", 5, "a host identity tag and a public key"),
        ("TYPE65280", "4 0A000001", 0, "write it as \\# LENGTH HEX"),
        ("TYPE65280", "\\# 3 0A000001", 3, "the length is 3, but 4 octets follow"),
        ("A", "\\# 3 0A0000", 3, "the octets are no A RDATA"),
        ("HTTPS", "1 . alpn=h2 alpn=h3", 12, "alpn stands here twice"),
        ("HTTPS", "1 . apln=h2", 4, "did you mean \"alpn\"?"),
        ("HTTPS", "0 . alpn=h2", 4, "takes no parameters"),
        ("HTTPS", "1 . mandatory=alpn", 4, "alpn is mandatory, but it is not here"),
        ("HTTPS", "1 . mandatory=mandatory", 4, "cannot name itself"),
        ("HTTPS", "1 . no-default-alpn", 4, "needs alpn beside it"),
        ("HTTPS", "1 . port=", 4, "port needs a value"),
        ("NSEC", "a AAA", 2, "\"AAA\" is no type; did you mean \"AAAA\"?"),
        ("LOC", "91 N 0 E 0m", 3, "at most 90 degrees"),
        ("CAA", "0 is-sue x", 2, "a tag is made of letters and digits"),
        ("APL", "1:192.0.2.0/33", 0, "is not like"),
        ("DNSKEY", "256 3 5 aGVsbG8", 8, "base 64"),
        ("SOA", "a b 1 1h30 1 1 1", 6, "is no time in seconds"),
    ];
    for (name, text, offset, words) in cases {
        let error = parse(rtype(name), text, &origin()).expect_err(text);
        assert!(error.text.contains(words), "{name} {text}: {error}");
        assert_eq!(error.offset, offset, "{name} {text}: {error}");
    }
    let long = format!("192.0.2.1{}", "1".repeat(4000));
    assert!(parse(Rtype::A, &long, &origin()).unwrap_err().text.len() < 100);
}

/// RFC 9460 appendix D.2, figures 2, 4, 6 and 10.
#[test]
fn rfc_9460_test_vectors() {
    let vectors: &[(&str, &[u8])] = &[
        ("0 foo.example.com.", b"\0\0\x03foo\x07example\x03com\0"),
        ("16 foo.example.com. port=53", b"\0\x10\x03foo\x07example\x03com\0\0\x03\0\x02\0\x35"),
        (
            "1 foo.example.com. key667=\"hello\\210qoo\"",
            b"\0\x01\x03foo\x07example\x03com\0\x02\x9b\0\x09hello\xd2qoo",
        ),
        (
            "16 foo.example.org. alpn=\"f\\\\\\\\oo\\\\,bar,h2\"",
            b"\0\x10\x03foo\x07example\x03org\0\0\x01\0\x0c\x08f\\oo,bar\x02h2",
        ),
    ];
    for (text, wire) in vectors {
        assert_eq!(parse(Rtype::SVCB, text, &origin()).as_deref(), Ok(*wire), "{text}");
        assert_eq!(parse(Rtype::SVCB, &print(Rtype::SVCB, wire), &origin()).as_deref(), Ok(*wire), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(number in 0..300_u16, text in ".{0,80}") {
        let _ = parse(Rtype(number), &text, &origin());
    }

    #[test]
    fn any_octets_that_are_well_formed_print_and_read_back(number in 0..270_u16, octets in proptest::collection::vec(any::<u8>(), 0..60)) {
        let rtype = Rtype(number);
        let printed = print(rtype, &octets);
        if check(rtype, &octets).is_ok() {
            let read = parse(rtype, &printed, &origin());
            prop_assert_eq!(read.as_ref(), Ok(&octets), "{} {}", rtype, printed);
        }
    }

    #[test]
    fn any_text_record_reads_back(octets in proptest::collection::vec(any::<u8>(), 0..255)) {
        let mut rdata = vec![octets.len() as u8];
        rdata.extend(octets);
        prop_assert_eq!(parse(Rtype::TXT, &print(Rtype::TXT, &rdata), &origin()), Ok(rdata));
    }
}
