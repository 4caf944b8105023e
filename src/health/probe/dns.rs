//! One question to a name server. The message is made and read here as anybody else's would be: nothing of the query path is
//! used, so that a mistake there cannot hide itself.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{Deadline, Trouble, connect, theirs};
use crate::site::DnsCheck;
use crate::wire::message::{query, rcode_name};

/// ID, flags, counts.
const HEADER: usize = 12;

/// Asks, and wants the question back with the right RCODE.
pub(super) async fn ask(dns: &DnsCheck, at: SocketAddr, until: Deadline) -> Result<(), Trouble> {
    let mut question = query(&dns.name, dns.rtype, None);
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| Trouble::Ours(format!("DNS: no random numbers: {error}")))?;
    question[..2].copy_from_slice(&id);
    let rcode = match dns.tcp {
        true => {
            let stream = connect(at, until).await?;
            until.bound("DNS: no answer", over_tcp(stream, &question)).await?
        }
        false => until.bound("DNS: no answer", over_udp(at, &question)).await?,
    };
    match dns.rcodes.contains(&rcode) {
        true => Ok(()),
        false => Err(Trouble::Theirs(rcode_name(rcode))),
    }
}

/// What comes with another ID or question is not the answer, whoever sent it, and the answer may still come.
async fn over_udp(at: SocketAddr, question: &[u8]) -> Result<u16, Trouble> {
    let told = |error| Trouble::of_socket("DNS", at, &error);
    let any = match at.ip() {
        IpAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    // Connected, so that nothing comes from any other address and an unreachable port is told.
    let socket = UdpSocket::bind(any).await.map_err(told)?;
    socket.connect(at).await.map_err(told)?;
    socket.send(question).await.map_err(told)?;
    let mut message = [0; 4096];
    loop {
        let length = socket.recv(&mut message).await.map_err(told)?;
        if is_about(question, &message[..length]) {
            return rcode_of(&message);
        }
    }
}

async fn over_tcp(mut stream: TcpStream, question: &[u8]) -> Result<u16, Trouble> {
    let told = |error| theirs("DNS", &error);
    let framed = [&(question.len() as u16).to_be_bytes(), question].concat();
    stream.write_all(&framed).await.map_err(told)?;
    let length = usize::from(stream.read_u16().await.map_err(told)?);
    // As much as the question takes: the records behind it tell nothing here.
    let mut message = vec![0; length.min(question.len())];
    stream.read_exact(&mut message).await.map_err(told)?;
    match is_about(question, &message) {
        true => rcode_of(&message),
        false => Err(Trouble::Theirs("DNS: an answer to another question".to_owned())),
    }
}

/// Whether a message has the ID and the one question of ours. Names may come back in other letters (RFC 4343), which are all
/// that differs by case.
fn is_about(question: &[u8], message: &[u8]) -> bool {
    message.len() >= question.len()
        && message[..2] == question[..2]
        && message[4..6] == question[4..6]
        && message[HEADER..question.len()].eq_ignore_ascii_case(&question[HEADER..])
}

fn rcode_of(message: &[u8]) -> Result<u16, Trouble> {
    match message[2] & 0x80 != 0 {
        true => Ok(u16::from(message[3] & 0x0f)),
        false => Err(Trouble::Theirs("DNS: the question came back as it was".to_owned())),
    }
}
