//! UDP: the hot path of the product. Each thread owns a socket of its own (SO_REUSEPORT spreads the clients over them)
//! and everything that it needs; a batch in, a batch out, no allocation and no lock in between.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrLike,
    SockaddrStorage, recvmmsg, recvmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Protocol, Type};
use tracing::debug;

use super::{Responder, new_socket};

/// What a crash of one thread can lose; larger batches gain nothing more.
const BATCH: usize = 32;
/// Longer datagrams are cut by the kernel; no query is that long.
const LONGEST_QUERY: usize = 4096;
/// As long as any response over UDP ever is.
const LONGEST_RESPONSE: usize = 4096;
/// The default holds 256 small queries: a burst of a few milliseconds.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How often a thread without queries looks whether it is to stop.
const LOOK_UP: Duration = Duration::from_millis(200);

/// One socket for each thread, all at one address. Port 0 is chosen by the first.
pub fn bind(mut address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(true)?;
        // As much as the kernel allows (net.core.rmem_max).
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        if address.ip().is_unspecified() {
            match address {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Answers what comes in at a socket until `stop` is set.
pub fn serve(socket: &UdpSocket, responder: &mut impl Responder, stop: &AtomicBool) {
    let is_wildcard = socket.local_addr().is_ok_and(|address| address.ip().is_unspecified());
    if is_wildcard {
        serve_one_by_one(socket, responder, stop);
    } else {
        serve_batches(socket, responder, stop);
    }
}

fn serve_batches(socket: &UdpSocket, responder: &mut impl Responder, stop: &AtomicBool) {
    let fd = socket.as_raw_fd();
    let mut queries = vec![[0_u8; LONGEST_QUERY]; BATCH];
    let mut responses = vec![[0_u8; LONGEST_RESPONSE]; BATCH];
    let mut received = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut sending = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    while !stop.load(Ordering::Relaxed) {
        let mut arrivals = [(0, None); BATCH];
        let count = {
            let mut queries = queries.iter_mut();
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
                [IoSliceMut::new(queries.next().map(<[u8; LONGEST_QUERY]>::as_mut_slice).unwrap_or_default())]
            });
            match recvmmsg(fd, &mut received, &mut slices, MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => {
                    let mut count = 0;
                    for message in messages {
                        arrivals[count] = (message.bytes, message.address);
                        count += 1;
                    }
                    count
                }
                Err(error) => {
                    wait_after(error, responder);
                    continue;
                }
            }
        };
        responder.refresh();
        let mut lengths = [0; BATCH];
        let mut addresses = [None; BATCH];
        let mut answered = 0;
        for (query, (length, address)) in queries.iter().zip(arrivals).take(count) {
            let Some(client) = address.as_ref().and_then(client_of) else { continue };
            if let Some(length) = responder.respond(&query[..length], client, &mut responses[answered]) {
                lengths[answered] = length;
                addresses[answered] = address;
                answered += 1;
            }
        }
        send_all(fd, &mut sending, &responses, &lengths[..answered], &addresses[..answered]);
    }
}

fn send_all(
    fd: i32,
    headers: &mut MultiHeaders<SockaddrStorage>,
    responses: &[[u8; LONGEST_RESPONSE]],
    lengths: &[usize],
    addresses: &[Option<SockaddrStorage>],
) {
    let mut sent = 0;
    while sent < lengths.len() {
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
            let length = lengths.get(sent + index).copied().unwrap_or(0);
            [IoSlice::new(
                responses.get(sent + index).map(|response| &response[..length]).unwrap_or_default(),
            )]
        });
        let left = lengths.len() - sent;
        match sendmmsg(fd, headers, &slices[..left], &addresses[sent..], [], MsgFlags::empty()) {
            Ok(done) => sent += done.count().max(1),
            // The first of them cannot be sent (no route, a firewall): the others can.
            Err(error) => {
                debug!("a response was not sent: {error}");
                sent += 1;
            }
        }
    }
}

/// At a wildcard address each response must leave from the address that its query came to, else the asker does not take
/// it. That goes one message at a time; whoever needs speed names the addresses.
fn serve_one_by_one(socket: &UdpSocket, responder: &mut impl Responder, stop: &AtomicBool) {
    let fd = socket.as_raw_fd();
    let mut query = [0; LONGEST_QUERY];
    let mut response = [0; LONGEST_RESPONSE];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::in_pktinfo);
    while !stop.load(Ordering::Relaxed) {
        let (length, address, arrived_at) = {
            let mut slices = [IoSliceMut::new(&mut query)];
            match recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty()) {
                Ok(message) => {
                    let arrived_at = message
                        .cmsgs()
                        .ok()
                        .and_then(|mut messages| messages.find_map(|message| packet_info(&message)));
                    (message.bytes, message.address, arrived_at)
                }
                Err(error) => {
                    wait_after(error, responder);
                    continue;
                }
            }
        };
        let Some(client) = address.as_ref().and_then(client_of) else { continue };
        responder.refresh();
        let Some(length) = responder.respond(&query[..length], client, &mut response) else { continue };
        let slices = [IoSlice::new(&response[..length])];
        let result = match &arrived_at {
            Some(PacketInfo::V4(info)) => {
                let control = [ControlMessage::Ipv4PacketInfo(info)];
                sendmsg(fd, &slices, &control, MsgFlags::empty(), address.as_ref())
            }
            Some(PacketInfo::V6(info)) => {
                let control = [ControlMessage::Ipv6PacketInfo(info)];
                sendmsg(fd, &slices, &control, MsgFlags::empty(), address.as_ref())
            }
            None => sendmsg(fd, &slices, &[], MsgFlags::empty(), address.as_ref()),
        };
        if let Err(error) = result {
            debug!("a response was not sent: {error}");
        }
    }
}

/// The address that a query came to, as the one that its response leaves from.
enum PacketInfo {
    V4(nix::libc::in_pktinfo),
    V6(nix::libc::in6_pktinfo),
}

fn packet_info(message: &ControlMessageOwned) -> Option<PacketInfo> {
    match *message {
        ControlMessageOwned::Ipv4PacketInfo(mut info) => {
            // The route decides on the interface; ipi_addr is what the header said, ipi_spec_dst where it leaves from.
            info.ipi_ifindex = 0;
            info.ipi_spec_dst = info.ipi_addr;
            Some(PacketInfo::V4(info))
        }
        ControlMessageOwned::Ipv6PacketInfo(mut info) => {
            // Likewise, but a link-local address means something only on its link.
            let is_link_local = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local();
            if !is_link_local {
                info.ipi6_ifindex = 0;
            }
            Some(PacketInfo::V6(info))
        }
        _ => None,
    }
}

fn client_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())),
        AddressFamily::Inet6 => {
            address.as_sockaddr_in6().map(|v6| IpAddr::V6(Ipv6Addr::from(v6.ip().octets())))
        }
        _ => None,
    }
}

/// A time-out is the usual case. Anything else must not become a loop that burns a core.
#[cold]
fn wait_after(error: Errno, responder: &mut impl Responder) {
    responder.refresh();
    if !matches!(error, Errno::EAGAIN | Errno::EINTR) {
        debug!("nothing was received: {error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
