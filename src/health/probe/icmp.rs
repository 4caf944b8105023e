//! One echo request, over the socket that the kernel has for those who are not root (icmp(7)): it fills in the identifier and
//! the checksum, and gives us the replies to our own requests alone.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::unistd::getegid;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Deadline, Trouble};

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Sends an echo request and waits for the reply with the same octets.
pub(super) async fn echo(address: IpAddr, until: Deadline) -> Result<(), Trouble> {
    let at = SocketAddr::new(address, 0);
    let told = |error| Trouble::of_socket("ICMP", at, &error);
    let socket = open(address).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => Trouble::Ours(format!(
            "ICMP: the kernel lets nobody of group {0} ask; sysctl net.ipv4.ping_group_range=\"{0} {0}\" would",
            getegid()
        )),
        _ => Trouble::Ours(format!("ICMP: {error}")),
    })?;
    let (request, reply_type) = match address {
        IpAddr::V4(_) => (8, 0),
        IpAddr::V6(_) => (128, 129),
    };
    let mut message = [0; HEADER + 16];
    getrandom::fill(&mut message[HEADER - 2..])
        .map_err(|error| Trouble::Ours(format!("ICMP: no random numbers: {error}")))?;
    message[0] = request;
    socket.connect(at).await.map_err(told)?;
    let exchange = async {
        socket.send(&message).await.map_err(told)?;
        let mut reply = [0; 256];
        loop {
            let length = socket.recv(&mut reply).await.map_err(told)?;
            if reply[0] == reply_type && reply[HEADER - 2..length.max(HEADER - 2)] == message[HEADER - 2..] {
                return Ok(());
            }
        }
    };
    until.bound("ICMP: no reply", exchange).await
}

fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = match address {
        IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)),
        IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::ICMPV6)),
    }?;
    socket.set_nonblocking(true)?;
    // Datagrams in and out of a connected socket: all that differs from UDP is what is in them.
    UdpSocket::from_std(socket.into())
}
