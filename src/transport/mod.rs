//! Bytes in, bytes out: how messages come and go. Nothing here knows what a message means.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

pub mod tcp;
pub mod udp;

/// Answers one message: from its bytes and sender, into a buffer, as many octets as it gives; none for no answer.
pub trait Responder {
    /// Writes the response into `out`, and gives its length.
    fn respond(&mut self, message: &[u8], client: IpAddr, out: &mut [u8]) -> Option<usize>;

    /// Called before each batch, and now and then while nothing comes: the moment to look at the clock, and to let go of
    /// what is out of date.
    fn refresh(&mut self) {}
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are two listeners; IPv4 clients never show up as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
