//! A file with queries that clients sent.

use std::io::Read;

use meridian::replay::{Question, read};
use meridian::wire::message::Message;

/// What is read does not depend on how the octets come. Each question is counted, is a message that asks for one thing, and read from a
/// packet of its own it is the same question again.
///
/// # Panics
/// When it is otherwise.
pub fn replay(bytes: &[u8]) {
    let mut questions = Vec::new();
    let Ok(counts) = read(bytes, &mut |question| questions.push(question.clone())) else {
        return;
    };
    assert_eq!(counts.queries, questions.len() as u64);
    // How much of what is damaged can be unpacked is up to the unpacking.
    let is_damaged = bytes.starts_with(&[0x1f, 0x8b]) && counts.is_cut_off;
    if !is_damaged {
        let mut slowly = Vec::new();
        let again = read(InPieces(bytes), &mut |question| slowly.push(told(question)));
        assert_eq!(again.ok(), Some(counts));
        assert_eq!(slowly, questions.iter().map(told).collect::<Vec<_>>());
    }
    let mut message = Vec::new();
    for question in &questions {
        question.write(&mut message);
        let read_back = Message::read(&message).expect("a message");
        assert_eq!(read_back.questions.len(), 1);
        assert_eq!(read_back.edns.is_some(), question.subnet.is_some());
        let mut seen = Vec::new();
        let counts = read(&capture(&message)[..], &mut |again| seen.push(told(again))).expect("a capture");
        assert_eq!(counts.queries, 1, "{}", told(question));
        // All but where it came from, which the capture does not have.
        let without_source = |text: &str| text.rsplit_once(' ').map(|(text, _)| text.to_owned());
        assert_eq!(without_source(&seen[0]), without_source(&told(question)));
    }
}

fn told(question: &Question) -> String {
    let Question { qname, qtype, qclass, source, subnet } = question;
    format!("{qname:?} {qtype} {qclass} {subnet:?} {source}")
}

/// Gives one octet after the other.
struct InPieces<'a>(&'a [u8]);

impl Read for InPieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(1);
        self.0.read(&mut out[..most])
    }
}

/// One datagram over IPv4, as a file of pcap.
fn capture(message: &[u8]) -> Vec<u8> {
    let udp = 8 + message.len() as u16;
    let ip = 20 + udp;
    let mut file =
        vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 101];
    file.extend([0; 8]);
    file.extend(u32::from(ip).to_be_bytes());
    file.extend(u32::from(ip).to_be_bytes());
    file.extend([0x45, 0]);
    file.extend(ip.to_be_bytes());
    file.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 53, 0, 99, 0, 53]);
    file.extend(udp.to_be_bytes());
    file.extend([0, 0]);
    file.extend(message);
    file
}
