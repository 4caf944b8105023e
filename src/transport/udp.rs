//! UDP: the hot path of the product. Each thread owns a socket of its own (SO_REUSEPORT spreads the clients over them)
//! and everything that it needs; a batch in, a batch out, no allocation and no lock in between.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike,
    recvmmsg, sendmmsg, setsockopt, sockopt,
};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Protocol, Socket, Type};
use tracing::debug;

use super::{Count, Counters, Responder, new_socket, proxy, restart_on_panic};

/// What a crash of one thread can lose; larger batches gain nothing more.
const BATCH: usize = 32;
/// As many are read at first, and then twice as many as there were: who has little to do loses little.
const FEWEST: usize = 4;
/// Longer datagrams are cut by the kernel; no query is that long. No power of two: the beginnings of all queries of a batch would
/// fall into the same few lines of the cache.
const LONGEST_QUERY: usize = 4096 + 192;
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
        prepare(&socket, address)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Makes a socket what [`serve`] expects of it; of those that another process bound, too.
pub fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // As much as the kernel allows (net.core.rmem_max).
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    set_fragments(socket, address.is_ipv4(), Fragments::Never)?;
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    Ok(())
}

/// Whether a datagram may leave in pieces. That a router asks for shorter ones is not believed either way: anybody can forge
/// that, and then the pieces (RFC 9715 3.1).
#[derive(Clone, Copy, PartialEq)]
enum Fragments {
    /// It goes whole. The kernel has least to do so, too: nothing to look up, no identifier to find.
    Never,
    /// Only where the interface cannot carry it whole.
    AtInterface,
}

fn set_fragments(socket: impl AsFd, is_v4: bool, fragments: Fragments) -> io::Result<()> {
    match (is_v4, fragments) {
        (true, Fragments::Never) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?,
        (true, Fragments::AtInterface) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT)?,
        (false, Fragments::Never) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?,
        (false, Fragments::AtInterface) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::OMIT)?,
    }
    Ok(())
}

/// Answers what comes in at a socket until `stop` is set. Who is listed must put a PROXY header before each message, and
/// nobody else may.
pub fn serve(
    socket: &UdpSocket,
    proxy_from: &[IpNetwork],
    responder: &mut impl Responder,
    counters: &Counters,
    stop: &AtomicBool,
) {
    let is_v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
    restart_on_panic("UDP", counters, || match is_v6 {
        true => serve_batches::<SockaddrIn6>(socket, proxy_from, responder, counters, stop),
        false => serve_batches::<SockaddrIn>(socket, proxy_from, responder, counters, stop),
    });
}

/// An address of one family, as a socket of that family has it: a fifth of what any address needs, and a batch is copied about
/// a few times.
trait Peer: SockaddrLike + Copy {
    fn ip(&self) -> IpAddr;
}

impl Peer for SockaddrIn {
    fn ip(&self) -> IpAddr {
        IpAddr::V4(SockaddrIn::ip(self))
    }
}

impl Peer for SockaddrIn6 {
    fn ip(&self) -> IpAddr {
        IpAddr::V6(SockaddrIn6::ip(self))
    }
}

fn serve_batches<P: Peer>(
    socket: &UdpSocket,
    proxy_from: &[IpNetwork],
    responder: &mut impl Responder,
    counters: &Counters,
    stop: &AtomicBool,
) {
    let fd = socket.as_raw_fd();
    let local = socket.local_addr().map(|address| address.ip());
    let wildcard = local.ok().filter(IpAddr::is_unspecified);
    let mut queries = vec![[0_u8; LONGEST_QUERY]; BATCH];
    let mut responses = vec![0_u8; BATCH * LONGEST_RESPONSE];
    let mut receiving = new_headers::<P>(wildcard);
    let mut sending =
        Sending { plain: new_headers(None), from: new_headers(wildcard), fragments: Fragments::Never };
    let mut most = FEWEST;
    while !stop.load(Ordering::Relaxed) {
        let mut arrivals: [Option<Arrival<P>>; BATCH] = [None; BATCH];
        let mut is_worn = false;
        let count = {
            let mut queries = queries.iter_mut();
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
                [IoSliceMut::new(queries.next().map(<[u8; LONGEST_QUERY]>::as_mut_slice).unwrap_or_default())]
            });
            match recvmmsg(fd, &mut receiving, &mut slices[..most], MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => {
                    let mut count = 0;
                    for message in messages {
                        let from = match wildcard {
                            None => None,
                            Some(_) => {
                                message.cmsgs().ok().and_then(|mut all| all.find_map(|one| came_to(&one)))
                            }
                        };
                        is_worn |= wildcard.is_some() && from.is_none();
                        arrivals[count] =
                            message.address.map(|peer| Arrival { length: message.bytes, peer, from });
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
        most = (2 * count).clamp(FEWEST, BATCH);
        if is_worn {
            receiving = new_headers(wildcard);
        }
        responder.refresh();
        if count > 1 && proxy_from.is_empty() {
            let arrived = queries.iter().zip(&arrivals).take(count);
            responder.look_ahead(
                arrived.filter_map(|(query, arrival)| arrival.map(|arrival| &query[..arrival.length])),
            );
        }
        let mut batch = Batch::new(&mut responses);
        for (query, arrival) in queries.iter().zip(&arrivals).take(count) {
            let Some(Arrival { length, peer, from }) = arrival else { continue };
            let (mut client, mut message) = (peer.ip(), &query[..*length]);
            if !proxy_from.is_empty() {
                let Some((source, behind)) = read_through_proxy(proxy_from, client, message) else {
                    counters.add(Count::ProxyRefused);
                    continue;
                };
                (client, message) = (source, behind);
            }
            if let Some(length) = responder.respond(message, client, batch.room()) {
                // To whom it came from, proxy or not, and without a header: as PowerDNS does, and dnsdist expects.
                batch.add(length, *peer, *from);
            }
        }
        sending.send_all(socket, &batch);
    }
}

/// Responses to a batch, one behind the other: so they lie on a page or two and not on as many as there are.
struct Batch<'b, P> {
    buffer: &'b mut [u8],
    ends: [usize; BATCH],
    peers: [Option<P>; BATCH],
    froms: [Option<Local>; BATCH],
    count: usize,
}

impl<'b, P: Peer> Batch<'b, P> {
    fn new(buffer: &'b mut [u8]) -> Batch<'b, P> {
        Batch { buffer, ends: [0; BATCH], peers: [None; BATCH], froms: [None; BATCH], count: 0 }
    }

    /// For the next response.
    fn room(&mut self) -> &mut [u8] {
        let start = self.start(self.count);
        &mut self.buffer[start..start + LONGEST_RESPONSE]
    }

    fn add(&mut self, length: usize, peer: P, from: Option<Local>) {
        self.ends[self.count] = self.start(self.count) + length;
        self.peers[self.count] = Some(peer);
        self.froms[self.count] = from;
        self.count += 1;
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn response(&self, index: usize) -> [IoSlice<'_>; 1] {
        [IoSlice::new(self.buffer.get(self.start(index)..self.ends[index]).unwrap_or_default())]
    }
}

/// Who asks, and what; none where a header is missing or must not be.
fn read_through_proxy<'a>(
    proxy_from: &[IpNetwork],
    peer: IpAddr,
    message: &'a [u8],
) -> Option<(IpAddr, &'a [u8])> {
    let is_header = |bytes: &[u8]| proxy::is_header(bytes) == Some(true);
    let (source, message) = match proxy::is_listed(proxy_from, peer) {
        true => proxy::read_datagram(message)?,
        false => (None, message),
    };
    // From those who are not listed any, from the others a second one.
    (!is_header(message)).then_some((source.unwrap_or(peer), message))
}

/// One that came.
#[derive(Clone, Copy)]
struct Arrival<P> {
    length: usize,
    peer: P,
    from: Option<Local>,
}

/// The address that a query came to, and so the one that its response has to leave from: else the asker does not take it.
/// Known and needed only at a wildcard address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    V4(u32),
    /// With the interface, for an address that means something only there.
    V6([u8; 16], u32),
}

fn came_to(message: &ControlMessageOwned) -> Option<Local> {
    match *message {
        // What the header said. The route decides on the interface.
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Local::V4(info.ipi_addr.s_addr)),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = info.ipi6_addr.s6_addr;
            let is_link_local = Ipv6Addr::from(address).is_unicast_link_local();
            Some(Local::V6(address, if is_link_local { info.ipi6_ifindex } else { 0 }))
        }
        _ => None,
    }
}

/// Headers of a batch, with room for exactly the control message that a wildcard socket has and no other.
///
/// nix sets the room of control messages here and never again, while the kernel leaves what it used of it: each batch
/// finds the room that the one before needed. That is the same for every datagram, since IP_PKTINFO comes with each and
/// nothing else does; should one come without all the same, its headers are made anew. For what goes out the room must be
/// the message and nothing more, or the kernel would read on behind it.
fn new_headers<P: Peer>(wildcard: Option<IpAddr>) -> MultiHeaders<P> {
    let control = wildcard.map(|address| match address {
        IpAddr::V4(_) => nix::cmsg_space!(libc::in_pktinfo),
        IpAddr::V6(_) => nix::cmsg_space!(libc::in6_pktinfo),
    });
    MultiHeaders::preallocate(BATCH, control)
}

/// Headers for what goes out.
struct Sending<P> {
    plain: MultiHeaders<P>,
    /// With room for an address to leave from.
    from: MultiHeaders<P>,
    fragments: Fragments,
}

impl<P: Peer> Sending<P> {
    /// All that leave from one address go with one call; in most batches that is all.
    fn send_all(&mut self, socket: &UdpSocket, batch: &Batch<'_, P>) {
        let (peers, froms) = (&batch.peers[..batch.count], &batch.froms[..batch.count]);
        let Some(first) = froms.first() else { return };
        if froms.iter().all(|from| from == first) {
            let slices: [_; BATCH] = std::array::from_fn(|index| batch.response(index));
            return self.send(socket, *first, &slices[..batch.count], peers);
        }
        let mut is_sent = [false; BATCH];
        while let Some(first) = is_sent[..batch.count].iter().position(|is_sent| !is_sent) {
            let mut slices = [[IoSlice::new(&[])]; BATCH];
            let mut some_peers = [None; BATCH];
            let mut count = 0;
            for index in first..batch.count {
                if !is_sent[index] && froms[index] == froms[first] {
                    is_sent[index] = true;
                    slices[count] = batch.response(index);
                    some_peers[count] = peers[index];
                    count += 1;
                }
            }
            self.send(socket, froms[first], &slices[..count], &some_peers[..count]);
        }
    }

    fn send(
        &mut self,
        socket: &UdpSocket,
        from: Option<Local>,
        slices: &[[IoSlice<'_>; 1]],
        peers: &[Option<P>],
    ) {
        let fd = socket.as_raw_fd();
        let mut sent = 0;
        while sent < slices.len() {
            let (slices, peers) = (&slices[sent..], &peers[sent..]);
            let result = match from {
                None => {
                    sendmmsg(fd, &mut self.plain, slices, peers, [], MsgFlags::empty()).map(Iterator::count)
                }
                Some(Local::V4(address)) => {
                    let info = libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr { s_addr: address },
                        ipi_addr: libc::in_addr { s_addr: address },
                    };
                    let control = [ControlMessage::Ipv4PacketInfo(&info)];
                    sendmmsg(fd, &mut self.from, slices, peers, control, MsgFlags::empty())
                        .map(Iterator::count)
                }
                Some(Local::V6(address, interface)) => {
                    let info = libc::in6_pktinfo {
                        ipi6_addr: libc::in6_addr { s6_addr: address },
                        ipi6_ifindex: interface,
                    };
                    let control = [ControlMessage::Ipv6PacketInfo(&info)];
                    sendmmsg(fd, &mut self.from, slices, peers, control, MsgFlags::empty())
                        .map(Iterator::count)
                }
            };
            match result {
                Ok(done) => sent += done.max(1),
                Err(Errno::EMSGSIZE) if self.allow_fragments(socket) => {}
                // The first of them cannot be sent (no route, a firewall): the others can.
                Err(error) => {
                    debug!("a response was not sent: {error}");
                    sent += 1;
                }
            }
        }
    }
}

impl<P> Sending<P> {
    /// For a response that an interface cannot carry, as only an operator can want it who raised `udp_payload` above what is
    /// safe. False where this was done before.
    #[cold]
    fn allow_fragments(&mut self, socket: &UdpSocket) -> bool {
        if self.fragments == Fragments::AtInterface {
            return false;
        }
        self.fragments = Fragments::AtInterface;
        let is_v4 = socket.local_addr().is_ok_and(|address| address.is_ipv4());
        debug!("an interface cannot carry a response of this length: it leaves in fragments");
        set_fragments(socket, is_v4, self.fragments).is_ok()
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use nix::sched::{CloneFlags, unshare};
    use rustix::net::sockopt::{ip_mtu_discover, ipv6_mtu_discover};

    use super::*;

    /// Answers a message with itself; some it cannot stand.
    struct Echo;

    impl Responder for Echo {
        fn respond(&mut self, message: &[u8], _client: IpAddr, out: &mut [u8]) -> Option<usize> {
            assert_ne!(message, b"boom");
            out[..message.len()].copy_from_slice(message);
            Some(message.len())
        }
    }

    /// A server on a thread of its own, after something was sent to it: so that it comes in batches.
    fn with_server(address: &str, send: impl Fn(u16), then: impl Fn(u16)) -> Arc<Counters> {
        let socket = bind(address.parse().expect("an address"), 1).expect("a port").remove(0);
        let port = socket.local_addr().expect("it is bound").port();
        let counters = Arc::<Counters>::default();
        let stop = Arc::<AtomicBool>::default();
        send(port);
        let thread = {
            let (counters, stop) = (Arc::clone(&counters), Arc::clone(&stop));
            thread::spawn(move || serve(&socket, &[], &mut Echo, &counters, &stop))
        };
        then(port);
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("no panic of the thread");
        counters
    }

    fn client() -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
        client
    }

    #[test]
    fn at_a_wildcard_address_a_batch_leaves_from_where_each_came_to() {
        let client = client();
        // In turn, so that no two neighbours of a batch leave from the same address; several rounds with headers that are
        // used again.
        let ask = |port: u16| {
            for number in 0..100_u8 {
                client
                    .send_to(&[number], SocketAddr::from(([127, 0, 0, 1 + number % 7], port)))
                    .expect("loopback has a route");
            }
        };
        let hear = |port: u16| {
            for round in 0..4 {
                let mut seen = [false; 100];
                for _ in 0..100 {
                    let mut response = [0; 16];
                    let (length, from) = client.recv_from(&mut response).expect("a response");
                    assert_eq!(length, 1);
                    assert_eq!(from, SocketAddr::from(([127, 0, 0, 1 + response[0] % 7], port)));
                    seen[usize::from(response[0])] = true;
                }
                assert_eq!(seen, [true; 100]);
                if round < 3 {
                    ask(port);
                }
            }
        };
        with_server("0.0.0.0:0", ask, hear);
    }

    #[test]
    fn what_leaves_is_whole_whatever_a_router_is_said_to_want() {
        let [v4, v6] =
            ["127.0.0.1:0", "[::1]:0"].map(|address| bind(address.parse().expect("an address"), 1));
        assert_eq!(ip_mtu_discover(&v4.expect("loopback")[0]).unwrap(), Ipv4PathMtuDiscovery::PROBE);
        if let Ok(sockets) = v6 {
            assert_eq!(ipv6_mtu_discover(&sockets[0]).unwrap(), Ipv6PathMtuDiscovery::PROBE);
        }
    }

    #[test]
    fn what_an_interface_cannot_carry_whole_comes_in_pieces_and_all_the_rest_as_before() {
        // In a network of its own, whose loopback carries no more than IPv6 must; of this thread, and those that it starts.
        let lo = ["link", "set", "lo", "mtu", "1280", "up"];
        if unshare(CloneFlags::CLONE_NEWNET).is_err()
            || !Command::new("ip").args(lo).status().is_ok_and(|status| status.success())
        {
            eprintln!("skipped: no network of its own");
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let to: SocketAddr = address.parse().unwrap();
            let client = UdpSocket::bind(to).unwrap();
            // Only who may cut can send this.
            set_fragments(&client, to.is_ipv4(), Fragments::AtInterface).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let lengths = [1, 1_300, 2, 4_096, 1_232];
            let send = |port| {
                for length in lengths {
                    client.send_to(&vec![7; length], SocketAddr::new(to.ip(), port)).expect("it is cut");
                }
            };
            let counters = with_server(address, send, |_| {
                let mut response = [0; LONGEST_RESPONSE];
                let heard: Vec<usize> = lengths.iter().map(|_| client.recv(&mut response).unwrap()).collect();
                assert_eq!(heard, lengths);
            });
            assert_eq!(counters.get(Count::Panics), 0);
        }
    }

    #[test]
    fn a_panic_costs_its_batch() {
        let client = client();
        let send = |port: u16| {
            for message in [b"one", &b"boom"[..], b"two"] {
                client.send_to(message, ("127.0.0.1", port)).expect("loopback has a route");
            }
        };
        let counters = with_server("127.0.0.1:0", send, |port| {
            // What came with the message that did it is lost; what comes later is not.
            client.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out can be set");
            let end = Instant::now() + Duration::from_secs(20);
            let mut response = [0; 16];
            loop {
                assert!(Instant::now() < end, "it never goes on");
                client.send_to(b"later", ("127.0.0.1", port)).expect("loopback has a route");
                if client.recv(&mut response).is_ok_and(|length| &response[..length] == b"later") {
                    break;
                }
            }
        });
        assert_eq!(counters.get(Count::Panics), 1);
    }

    /// How many came with each batch; stops the server with the last.
    struct Sizes<'a> {
        batches: Vec<usize>,
        left: usize,
        stop: &'a AtomicBool,
    }

    impl Responder for Sizes<'_> {
        fn refresh(&mut self) {
            self.batches.push(0);
        }

        fn respond(&mut self, _message: &[u8], _client: IpAddr, _out: &mut [u8]) -> Option<usize> {
            *self.batches.last_mut().expect("a batch begins") += 1;
            self.left -= 1;
            self.stop.store(self.left == 0, Ordering::Relaxed);
            None
        }
    }

    #[test]
    fn batches_grow_as_long_as_they_are_full() {
        let socket = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("a port").remove(0);
        let (client, stop) = (client(), AtomicBool::new(false));
        for _ in 0..100 {
            client.send_to(b"x", socket.local_addr().expect("it is bound")).expect("loopback has a route");
        }
        let mut sizes = Sizes { batches: Vec::new(), left: 100, stop: &stop };
        serve(&socket, &[], &mut sizes, &Counters::default(), &stop);
        assert_eq!(sizes.batches, [4, 8, 16, 32, 32, 8]);
    }

    #[test]
    fn who_may_send_a_header_and_who_must() {
        let proxies = ["192.0.2.0/24".parse().expect("a network")];
        let proxy: IpAddr = [192, 0, 2, 9].into();
        let other: IpAddr = [198, 51, 100, 9].into();
        let source = SocketAddr::from(([203, 0, 113, 7], 1));
        let header = proxy::write(source, source, true);
        let with_header = [&header[..], b"query"].concat();
        let read = |peer, message| read_through_proxy(&proxies, peer, message);
        assert_eq!(read(proxy, &with_header), Some((source.ip(), &b"query"[..])));
        assert_eq!(read(other, b"query"), Some((other, &b"query"[..])));
        assert_eq!(read(proxy, b"query"), None);
        assert_eq!(read(other, &with_header), None);
        assert_eq!(read(proxy, &[&header[..], &with_header].concat()), None);
    }
}
