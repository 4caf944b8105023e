//! One message to the whole query path. The first eight octets set the scene (client, board, world), the rest is the
//! message; it is sent over UDP and over TCP, twice each.
//!
//! What the response may be is told by `model`, which reads the query in its own way, and by two readers of messages: ours
//! and hickory's.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op;
use meridian::health::board::{Board, Share, Verdict};
use meridian::nameserver::{Outcome, Request, Transport, Worker, respond as answer};
use meridian::wire::message::{Message, Record};
use meridian::wire::{Name, Rtype};

use super::model::{Model, client_subnet};
use super::world::World;

const SCENE: usize = 8;

const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const NOTAUTH: u16 = 9;
const BADCOOKIE: u16 = 23;
const BADVERS: u16 = 16;

thread_local! {
    static WORLDS: [OnceCell<World>; 2] = const { [OnceCell::new(), OnceCell::new()] };
}

/// No panic; silence for what is no query; otherwise one well-formed response that fits, repeats what must be repeated,
/// and says nothing that contradicts itself.
///
/// # Panics
/// When that does not hold.
pub fn respond(bytes: &[u8]) {
    let Some((scene, message)) = bytes.split_first_chunk::<SCENE>() else { return };
    WORLDS.with(|worlds| {
        let has_root = usize::from(scene[0] >> 7);
        let world = worlds[has_root].get_or_init(|| World::new(has_root == 1));
        set(&world.board, scene);
        let client = client(scene);
        let udp = ask(world, message, client, Transport::Udp);
        let tcp = ask(world, message, client, Transport::Tcp);
        if let (Some(udp), Some(tcp)) = (udp, tcp) {
            check_same(&udp, &tcp, message);
        }
    });
}

fn set(board: &Board, scene: &[u8; SCENE]) {
    let layout = board.layout();
    let down = u16::from_be_bytes([scene[1], scene[2]]);
    let verdicts = if scene[0] & 4 == 0 {
        [Verdict::Up, Verdict::Down]
    } else {
        [Verdict::ForcedUp, Verdict::ForcedDown]
    };
    for slot in 0..layout.targets.len() as u32 {
        board.set_verdict(slot, verdicts[usize::from(down >> (slot % 16) & 1)]);
    }
    let shares = [Share::FULL, Share::DRAINED, Share(0x8000), Share(0x0100)];
    for slot in 0..layout.shares.len() as u32 {
        let chosen = if scene[0] & 8 == 0 { 0 } else { scene[3] >> (2 * (slot % 4)) & 3 };
        board.set_share(slot, shares[usize::from(chosen)]);
    }
}

fn client(scene: &[u8; SCENE]) -> IpAddr {
    let [.., a, b, c, d] = *scene;
    let v4 = Ipv4Addr::new(a, b, c, d);
    match scene[0] & 3 {
        0 => IpAddr::V4(v4),
        1 => IpAddr::V6(v4.to_ipv6_mapped()),
        2 => IpAddr::V6(Ipv6Addr::from(u128::from(u32::from(v4)) << 96)),
        _ => IpAddr::V6(Ipv6Addr::from(0x0064_ff9b << 96 | u128::from(u32::from(v4)))),
    }
}

fn ask(world: &World, message: &[u8], client: IpAddr, transport: Transport) -> Option<Message> {
    let mut out = vec![0xa5; if transport == Transport::Udp { 1232 } else { 65_535 }];
    let mut again = out.clone();
    let request = Request { bytes: message, client, transport, now_ms: 0 };
    let mut worker = Worker::default();
    let outcome = answer(&mut worker, &request, &world.snapshot, &world.board, &mut out);
    let second = answer(&mut worker, &request, &world.snapshot, &world.board, &mut again);
    assert_eq!(outcome.length(), second.length(), "another length the second time");
    let must_be_silent = message.len() < 12 || message[2] & 0x80 != 0;
    let Outcome::Responded(responded) = outcome else {
        assert!(must_be_silent, "a query without a response");
        return None;
    };
    assert!(!must_be_silent, "a response to what is no query");
    let out = &out[..responded.length];
    assert!(out == &again[..responded.length], "another response the second time");
    let model = Model::of(message);
    check_header(out, message, &model);
    let read = Message::read(out).unwrap_or_else(|| panic!("we cannot read our own response {out:02x?}"));
    check_length(out, &read, message, &model, transport);
    let _ = read.print();
    check_rcode(&read, message, &model, transport);
    check_edns(&read, &model);
    check_sections(&read);
    assert_eq!(read.rcode(), responded.rcode.0);
    assert_eq!(read.scope(), responded.scope);
    assert_eq!(read.flags & 0x0200 != 0, responded.is_truncated);
    let has_family_0 = read
        .edns
        .iter()
        .flat_map(|edns| &edns.options)
        .any(|(code, value)| *code == 8 && value.starts_with(&[0, 0]));
    if !has_family_0 {
        check_hickory(out, &read);
    }
    Some(read)
}

/// ID, opcode and RD are the query's, QR is set, and RA, Z, AD and CD are not; the question comes back octet for octet.
fn check_header(out: &[u8], message: &[u8], model: &Model<'_>) {
    assert_eq!(out[..2], message[..2], "ID");
    assert_eq!(out[2] & 0xf9, 0x80 | message[2] & 0x79, "QR, OPCODE, RD");
    assert_eq!(out[3] & 0xf0, 0, "RA, Z, AD, CD");
    let question = model.question.unwrap_or_default();
    assert_eq!(out[4..6], [0, u8::from(!question.is_empty())], "QDCOUNT");
    assert_eq!(out.get(12..12 + question.len()), Some(question), "the question");
}

fn check_length(out: &[u8], read: &Message, message: &[u8], model: &Model<'_>, transport: Transport) {
    let longest = match (transport, model.opt) {
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(opt)) => usize::from(opt.payload.clamp(512, 1232)),
        _ => 65_535,
    };
    assert!(out.len() <= longest, "{} octets where {longest} fit", out.len());
    let is_error = !matches!(read.rcode(), 0 | 3 | 6);
    if is_error {
        let more = if model.opt.is_some() { 64 } else { 0 };
        assert!(out.len() <= message.len() + more, "an error that is longer than the query");
    }
    let [answer, authority, _] = &read.sections;
    // Nobody guesses a cookie here.
    let is_negative = answer.is_empty() && authority.iter().any(|record| record.rtype == Rtype::SOA);
    if is_negative && transport == Transport::Udp {
        assert!(out.len() <= 3 * message.len(), "an amplifier: {} octets for {}", out.len(), message.len());
    }
}

/// What the message alone decides.
fn check_rcode(read: &Message, message: &[u8], model: &Model<'_>, transport: Transport) {
    let opcode = message[2] >> 3 & 0x0f;
    let question = model.question.map(|question| {
        let [.., a, b, c, d] = *question else { panic!("a question of less than four octets") };
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    });
    let wanted = match (question, model.opt) {
        _ if opcode != 0 => Some(NOTIMP),
        _ if !model.is_well_formed => Some(FORMERR),
        (_, Some(opt)) if opt.version > 0 => Some(BADVERS),
        _ if model.is_signed => Some(NOTAUTH),
        // A cookie that is not alone the client's is none of ours, whose secret nobody guesses.
        (None, Some(opt)) if opt.cookie.is_some_and(|cookie| cookie.len() > 8) => Some(BADCOOKIE),
        (None, _) => Some(0),
        (Some((41 | 249 | 250, _)), _) => Some(FORMERR),
        (Some((252, _)), _) if transport == Transport::Udp => Some(FORMERR),
        (Some((251 | 252, _)), _) => Some(REFUSED),
        (Some((_, class)), _) if class != 1 => Some(REFUSED),
        _ => None,
    };
    match wanted {
        Some(wanted) => {
            assert_eq!(read.rcode(), wanted, "RCODE");
            let are_signatures =
                |records: &Vec<Record>| records.iter().all(|record| record.rtype == Rtype::TSIG);
            assert!(read.sections.iter().all(are_signatures), "records with an error");
        }
        None => assert!(matches!(read.rcode(), 0 | 2 | 3 | 5 | 6), "RCODE {}", read.rcode()),
    }
}

/// An OPT for an OPT, a client subnet for a client subnet.
fn check_edns(read: &Message, model: &Model<'_>) {
    if model.is_well_formed {
        assert_eq!(read.edns.is_some(), model.opt.is_some(), "OPT");
    }
    let Some(edns) = &read.edns else { return };
    let cookies: Vec<&Vec<u8>> =
        edns.options.iter().filter(|(code, _)| *code == 10).map(|(_, value)| value).collect();
    let opt = model.opt.expect("an OPT that nobody asked for");
    assert_eq!((edns.version, edns.udp_payload, edns.flags & 0x7fff), (0, 1232, 0));
    if model.is_well_formed {
        let asked = opt.cookie.filter(|_| opt.version == 0);
        assert_eq!(cookies.len(), usize::from(asked.is_some()), "a cookie for a cookie");
        if let (Some(asked), [cookie]) = (asked, cookies.as_slice()) {
            assert_eq!((cookie.len(), &cookie[..8]), (24, &asked[..8]), "the client's part of a cookie");
        }
    }
    let echoed: Vec<&[u8]> =
        edns.options.iter().filter(|(code, _)| *code == 8).map(|(_, value)| value.as_slice()).collect();
    let asked = opt.subnet.filter(|_| opt.version == 0).and_then(client_subnet);
    let wanted = usize::from(asked.is_some());
    // Whether a broken message's client subnet comes back depends on how far it could be read.
    assert!(echoed.len() == wanted || !model.is_well_formed && echoed.is_empty(), "{echoed:?}");
    let ([echo], Some((family, source, address))) = (echoed.as_slice(), asked) else { return };
    let scope = echo[3];
    assert_eq!(echo[..3], [(family >> 8) as u8, family as u8, source], "family and source");
    assert_eq!(&echo[4..], address, "address");
    assert!(scope <= [0, 32, 128][usize::from(family)], "scope {scope}");
    if source == 0 || !matches!(read.rcode(), 0) {
        assert_eq!(scope, 0, "a scope for what does not depend on the client");
    }
}

/// The answer section is one chain from QNAME; what is negative has an SOA; nothing is empty without a reason.
fn check_sections(read: &Message) {
    let [answer, authority, _] = &read.sections;
    let is_truncated = read.flags & 0x0200 != 0;
    let is_authoritative = read.flags & 0x0400 != 0;
    let count = |records: &[Record], rtype| records.iter().filter(|record| record.rtype == rtype).count();
    for record in read.sections.iter().flatten().filter(|record| record.rtype != Rtype::TSIG) {
        assert_eq!(record.class, 1, "{record}");
        assert!(meridian::wire::rdata::check(record.rtype, &record.rdata).is_ok(), "{record}");
    }
    if let [(qname, qtype, _)] = &read.questions[..] {
        check_chain(qname, *qtype, answer);
    }
    match read.rcode() {
        0 if answer.is_empty() && !is_truncated && !read.questions.is_empty() => {
            let (soa, ns) = (count(authority, Rtype::SOA), count(authority, Rtype::NS));
            assert!(
                soa == 1 && ns == 0 && is_authoritative || soa == 0 && ns > 0 && !is_authoritative,
                "NODATA"
            );
        }
        NXDOMAIN if !is_truncated => {
            assert!(
                count(authority, Rtype::SOA) == 1 && authority.len() == 1 && is_authoritative,
                "NXDOMAIN"
            );
        }
        _ => {}
    }
}

fn check_chain(qname: &Name, qtype: Rtype, answer: &[Record]) {
    let mut reached = vec![qname.clone()];
    for record in answer {
        let is_above = |name: &Name| name != &record.owner && name.is_at_or_below(&record.owner);
        if record.rtype == Rtype::DNAME && reached.iter().any(is_above) {
            continue;
        }
        assert!(reached.contains(&record.owner), "{record} is not what was asked for");
        if record.rtype == Rtype::CNAME {
            reached.push(Name::from_wire(&record.rdata).expect("a target"));
        } else {
            assert!(qtype == record.rtype || qtype == Rtype::ANY, "{record} is of another type");
        }
    }
}

fn check_hickory(out: &[u8], read: &Message) {
    let theirs = op::Message::from_vec(out).unwrap_or_else(|error| panic!("hickory: {error}: {out:02x?}"));
    assert_eq!(theirs.metadata.id, read.id);
    let signatures = usize::from(theirs.signature().is_some());
    let counts = [theirs.answers.len(), theirs.authorities.len(), theirs.additionals.len() + signatures];
    assert_eq!(counts, read.sections.each_ref().map(Vec::len));
    assert_eq!(theirs.edns.is_some(), read.edns.is_some());
    let header = |at: usize| u16::from_be_bytes([out[at], out[at + 1]]);
    let [answers, authorities, additionals] = read.sections.each_ref().map(|records| records.len() as u16);
    assert_eq!([header(6), header(8)], [answers, authorities]);
    assert_eq!(header(10), additionals + u16::from(read.edns.is_some()), "more than one OPT");
}

/// What fits over UDP is what comes over TCP; only what was merely welcome may be missing.
fn check_same(udp: &Message, tcp: &Message, message: &[u8]) {
    let is_transfer = udp.questions.first().is_some_and(|(_, qtype, _)| qtype.0 == 252);
    let is_truncated = |read: &Message| read.flags & 0x0200 != 0;
    if is_transfer || is_truncated(udp) {
        return;
    }
    assert!(!is_truncated(tcp), "truncated over TCP only");
    assert_eq!(udp.rcode(), tcp.rcode(), "{message:02x?}");
    assert_eq!(udp.sections[..2], tcp.sections[..2], "{message:02x?}");
    // A connection has its keepalive.
    let options = |read: &Message| -> Vec<(u16, Vec<u8>)> {
        let options = read.edns.iter().flat_map(|edns| &edns.options);
        options.filter(|(code, _)| *code != 11).cloned().collect()
    };
    assert_eq!(options(udp), options(tcp), "{message:02x?}");
}
