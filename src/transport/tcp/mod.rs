//! TCP (RFC 7766): several queries a connection, pipelined ones answered as they come, and a bound on everything that a
//! client can hold: connections in all and of its own, time for a message, time between messages, time to take a
//! response, memory.
//!
//! One thread does it all: answering takes less time than the system calls around it, and who needs more than a core of
//! TCP is being attacked. What comes with one read is answered with one write, as far as that goes. A connection owns memory only
//! for what is unfinished: what is not heard yet, or responses that its client has yet to take; all else is in buffers that all share.
//!
//! [`serve_connection`] takes any stream: DNS over TLS is the same but for what is under it. Here connections come in; `door` lets
//! them, and knows what each may hold; `connection` hears and answers.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use socket2::{Protocol, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};
use tokio::time::timeout;
use tracing::{debug, error};

use super::connections::Phase;
use super::proxy::{self, Header};
use super::{Count, Counters, Responder, Stop, new_socket, restart_on_panic};

mod connection;
mod door;

pub(super) use connection::serve_connection;
pub(super) use door::{Door, Guest};

/// What one client may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all. When they are taken, whoever has been idle for the longest has to go.
    pub connections: usize,
    /// Connections from one IPv4 address, or one IPv6 /64, which is as easily had.
    pub connections_per_client: usize,
    /// From the first octet of a message to its last, and for a client to take 64 KiB of what it asked for, or all.
    pub message: Duration,
    /// For a handshake, where there is one: more than for a message, since it goes there and back several times.
    pub handshake: Duration,
    /// Between messages. There is no bound on their number: who asks is served, and who does not soon has to go. (The
    /// option edns-tcp-keepalive tells this one, RFC 7828.)
    pub idle: Duration,
    /// Octets of responses that clients have not yet taken, of all together, beyond what the kernel keeps. Those who have been
    /// taking theirs for the longest have to go.
    pub unread_in_all: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            connections_per_client: 64,
            message: Duration::from_secs(2),
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            unread_in_all: 64 << 20,
        }
    }
}

/// How often out-of-date things are let go of.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Whose time is over goes at most so much later; less would be many wake-ups for nothing.
const TICK: Duration = Duration::from_millis(50);
/// After running out of descriptors: until others are closed, accepting would fail at once, again and again.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections that were gone before they were accepted are no reason to wait, unless nothing else comes.
const FAILURES_IN_A_ROW: u32 = 32;
/// One read: some 300 queries, so that nobody keeps the others waiting for longer than a fraction of a millisecond.
const INPUT: usize = 16 << 10;
/// A length and the longest message.
const LONGEST_FRAME: usize = 2 + u16::MAX as usize;
/// One write: at least one response of any length.
const OUTPUT: usize = 2 * LONGEST_FRAME;
/// After so many octets of queries and responses in a row, it is somebody else's turn.
const TURN: usize = 4 * INPUT;

/// A listener. No SO_REUSEPORT: a second server at the same address is a mistake, and is told here.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A listener, and who must put the PROXY protocol before what it sends there.
#[derive(Debug)]
pub struct Entrance {
    /// Where connections come in.
    pub listener: TcpListener,
    /// Nobody else may.
    pub proxy_from: Vec<IpNetwork>,
}

/// Answers what comes in at some listeners until `stop` says so. Needs a thread of its own.
pub fn serve(
    entrances: Vec<Entrance>,
    responder: impl Responder + 'static,
    limits: Limits,
    counters: Arc<Counters>,
    stop: watch::Receiver<Stop>,
) -> io::Result<()> {
    serve_with(entrances, Door::new(responder, limits, counters), stop, |stream, guest| async move {
        serve_connection(stream, &guest).await
    })
}

/// The same for whatever is spoken over TCP, with what to do with each connection.
pub(super) fn serve_with<R, S, F>(
    entrances: Vec<Entrance>,
    door: Rc<Door<R>>,
    stop: watch::Receiver<Stop>,
    serve: S,
) -> io::Result<()>
where
    R: Responder + 'static,
    S: Fn(TcpStream, Guest<R>) -> F + Clone + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let Some(runtime) = new_runtime(&stop) else { return Ok(()) };
    let entered = runtime.enter();
    let mut accepting = Vec::new();
    for Entrance { listener, proxy_from } in entrances {
        let entrance = Rc::new((tokio::net::TcpListener::from_std(listener)?, proxy_from));
        accepting.push((entrance, None::<JoinHandle<()>>));
    }
    drop(entered);
    let local = LocalSet::new();
    // Connections live on when this starts again.
    restart_on_panic("TCP", &Arc::clone(&door.counters), move || {
        local.block_on(&runtime, async {
            let mut stop = stop.clone();
            while *stop.borrow() == Stop::No {
                for (entrance, accept_loop) in &mut accepting {
                    // It never ends by itself.
                    if accept_loop.as_ref().is_none_or(JoinHandle::is_finished) {
                        if accept_loop.is_some() {
                            door.counters.add(Count::Panics);
                            error!(
                                "TCP: accepting connections failed in a way that it never should; it goes on"
                            );
                        }
                        let next = accept(Rc::clone(entrance), Rc::clone(&door), serve.clone());
                        *accept_loop = Some(spawn_local(next));
                    }
                }
                door.refresh();
                let next = door.send_away();
                let _ = timeout(next, stop.wait_for(|stop| *stop != Stop::No)).await;
            }
            // Whoever was accepted has a task by now: nothing is waited for in between.
            for (_, accept_loop) in &accepting {
                accept_loop.iter().for_each(JoinHandle::abort);
            }
            while !door.is_empty() {
                door.refresh();
                let next = door.send_away().min(TICK);
                if timeout(next, stop.wait_for(|stop| *stop == Stop::Now)).await.is_ok() {
                    return;
                }
            }
        });
    });
    Ok(())
}

/// It takes a few descriptors, and a flood at the start may leave none: that is no reason never to serve. None if there is
/// nothing to serve any more.
fn new_runtime(stop: &watch::Receiver<Stop>) -> Option<Runtime> {
    loop {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => return Some(runtime),
            Err(error) => error!("TCP is not yet served: {error}"),
        }
        std::thread::sleep(LOOK_UP);
        if *stop.borrow() != Stop::No {
            return None;
        }
    }
}

async fn accept<R, S, F>(entrance: Rc<(tokio::net::TcpListener, Vec<IpNetwork>)>, door: Rc<Door<R>>, serve: S)
where
    R: Responder + 'static,
    S: Fn(TcpStream, Guest<R>) -> F + Clone + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let (listener, proxy_from) = &*entrance;
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failures = 0;
                let is_proxy = proxy::is_listed(proxy_from, peer.ip());
                let Some((room, evicted)) = door.admit((!is_proxy).then_some(peer.ip())) else {
                    debug!("no room for a connection from {peer}");
                    continue;
                };
                let guest = Guest { room, client: peer.ip(), refuses_header: !proxy_from.is_empty() };
                let serve = serve.clone();
                spawn_local(async move {
                    if let Err(error) = welcome(stream, guest, is_proxy, serve).await {
                        debug!("a connection from {peer} ended: {error}");
                    }
                });
                // Whoever was told to go gives its descriptor back before the next one is taken.
                if evicted {
                    yield_now().await;
                }
            }
            Err(error) => {
                debug!("no connection was accepted: {error}");
                failures += 1;
                // Whatever it is, it is no reason to stop listening.
                if !is_of_one_connection(&error) || failures > FAILURES_IN_A_ROW {
                    door.counters.add(Count::AcceptFailures);
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// Trouble of the connection that was to be accepted, which is gone with it (accept(2): "treat them like EAGAIN by
/// retrying"); not of this machine, such as EMFILE, ENFILE, ENOBUFS and ENOMEM.
fn is_of_one_connection(error: &io::Error) -> bool {
    use nix::libc;
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EPERM
                | libc::EINTR
                | libc::ETIMEDOUT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENONET
        )
    )
}

/// Hears whom a proxy speaks for, and serves.
async fn welcome<R, S, F>(
    mut stream: TcpStream,
    mut guest: Guest<R>,
    is_proxy: bool,
    serve: S,
) -> io::Result<()>
where
    R: Responder + 'static,
    S: Fn(TcpStream, Guest<R>) -> F,
    F: Future<Output = io::Result<()>>,
{
    stream.set_nodelay(true)?;
    if is_proxy {
        guest.begin(Phase::Message);
        let source = guest.unless_sent_away(read_header(&mut stream)).await;
        if source.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            guest.room.door.counters.add(Count::ProxyRefused);
        }
        guest.client = source?.unwrap_or(guest.client);
        let named = guest.room.door.connections.borrow_mut().name(guest.room.key, guest.client);
        if named.is_err() {
            guest.room.door.counters.add(Count::Refused);
            return Err(io::Error::other(format!("no room for {}", guest.client)));
        }
        guest.begin(Phase::Fresh);
    }
    serve(stream, guest).await
}

/// Reads a header of the PROXY protocol and not an octet more: what follows may be a TLS handshake.
async fn read_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut bytes = [0; proxy::LONGEST];
    let mut have = 0;
    loop {
        match proxy::read(&bytes[..have]) {
            Header::Complete { source, .. } => return Ok(source),
            Header::Refused => return Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")),
            Header::Incomplete { missing } => {
                let count = stream.read(&mut bytes[have..have + missing]).await?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                have += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;
    use std::thread;
    use std::time::Instant;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};

    use super::connection::{Connection, split_frame};
    use super::*;

    /// Answers a message with itself, and as many octets more as its second octet says in KiB. Some messages it cannot stand,
    /// some it does not answer, and sometimes it fails for no reason.
    #[derive(Default)]
    struct Echo {
        fails_to_refresh: u32,
        refreshed: u32,
    }

    impl Responder for Echo {
        fn respond(&mut self, message: &[u8], _client: IpAddr, out: &mut [u8]) -> Option<usize> {
            assert_ne!(message, b"boom");
            let more = usize::from(*message.get(1)?) << 10;
            out[..message.len()].copy_from_slice(message);
            Some(message.len() + more)
        }

        fn refresh(&mut self) {
            self.refreshed += 1;
            assert_ne!(self.refreshed, self.fails_to_refresh, "no clock");
        }
    }

    const SOMEBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn guest(limits: Limits) -> Guest<Echo> {
        let door = Door::new(Echo::default(), limits, Arc::default());
        let (room, _) = door.admit(Some(SOMEBODY)).expect("there is room");
        Guest { room, client: SOMEBODY, refuses_header: false }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u16).to_be_bytes()[..], message].concat()
    }

    /// Hears octets as if one read had brought them; what is to be written, and whether it goes on.
    fn hear(connection: &mut Connection<'_, Echo>, octets: &[u8]) -> (Vec<u8>, bool) {
        let door = Rc::clone(&connection.guest.room.door);
        door.buffers.borrow_mut().input[..octets.len()].copy_from_slice(octets);
        let heard = connection.hear(octets.len()).expect("it is within limits");
        let mut output = door.buffers.borrow().output[..heard.to_write].to_vec();
        while connection.has_more {
            let heard = connection.hear(0).expect("it is within limits");
            assert!(heard.to_write > 0, "more, and nothing comes of it");
            output.extend_from_slice(&door.buffers.borrow().output[..heard.to_write]);
        }
        (output, heard.goes_on)
    }

    #[test]
    fn memory_goes_with_the_message() {
        let guest = guest(Limits::default());
        let mut connection = Connection::new(&guest);
        let long = framed(&[0; 65_535]);
        let (last, rest) = long.split_last().expect("it is not empty");
        let mut most = 0;
        for part in rest.chunks(1400) {
            assert!(hear(&mut connection, part).0.is_empty());
            most = most.max(connection.partial.capacity());
        }
        assert!((65_000..=LONGEST_FRAME).contains(&most), "{most}");
        assert_eq!(hear(&mut connection, &[*last]), (long, true));
        assert_eq!(connection.partial.capacity(), 0);
    }

    #[test]
    fn a_message_without_an_answer_is_the_last() {
        let guest = guest(Limits::default());
        let mut connection = Connection::new(&guest);
        let stream = [framed(&[0, 0]), framed(&[]), framed(&[0, 0])].concat();
        assert_eq!(hear(&mut connection, &stream), (framed(&[0, 0]), false));
    }

    proptest! {
        /// Wherever a stream is cut into reads, the responses are the same.
        #[test]
        fn pieces_are_as_good_as_the_whole(
            messages in prop::collection::vec((2..300_usize, 0..64_u8), 1..12),
            cuts in prop::collection::vec(1..400_usize, 1..20),
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (length, more) in messages {
                let mut message = vec![0xab; length];
                message[1] = more;
                stream.extend(framed(&message));
                let response_length = length + (usize::from(more) << 10);
                expected.push((response_length, message));
            }
            let guest = guest(Limits::default());
            let mut connection = Connection::new(&guest);
            let mut output = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.into_iter().cycle() {
                let (part, behind) = rest.split_at(cut.min(rest.len()));
                rest = behind;
                let (more, goes_on) = hear(&mut connection, part);
                prop_assert!(goes_on);
                output.extend(more);
                if rest.is_empty() {
                    break;
                }
            }
            let mut rest = &output[..];
            for (length, message) in expected {
                let (response, behind) = split_frame(rest).expect("a response");
                prop_assert_eq!(response.len(), length);
                prop_assert_eq!(&response[..message.len()], &message[..]);
                rest = behind;
            }
            prop_assert!(rest.is_empty() && connection.partial.is_empty());
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, future)
    }

    /// Any stream will do, and one that takes little at a time: what TLS is.
    #[test]
    fn a_narrow_stream_gets_everything() {
        run(async {
            let (mut ours, theirs) = duplex(100);
            let guest = guest(Limits::default());
            let door = Rc::clone(&guest.room.door);
            let served = spawn_local(async move { serve_connection(theirs, &guest).await });
            let query = framed(&[7, 1, 2, 3]);
            ours.write_all(&query.repeat(50)).await.expect("it is taken");
            ours.shutdown().await.expect("it is open");
            let mut response = Vec::new();
            ours.read_to_end(&mut response).await.expect("it is sent");
            assert_eq!(response.len(), 50 * (2 + 4 + 1024));
            served.await.expect("no panic").expect("it ends in good order");
            assert_eq!(door.connections.borrow().unread(), 0);
            assert_eq!(door.counters.get(Count::Connections), 0);
        });
    }

    /// What does not go on for now, and has not ended.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    #[test]
    fn whoever_does_not_read_is_not_heard_any_further_and_loses_nothing() {
        run(async {
            let (mut ours, theirs) = duplex(4096);
            let guest = guest(Limits::default());
            let door = Rc::clone(&guest.room.door);
            let served = spawn_local(async move { serve_connection(theirs, &guest).await });
            // The answers to what one read brings would be 200 MB.
            let many = framed(&[0, 50]).repeat(1 << 14);
            let mut sent = 0;
            loop {
                let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
                let written = std::pin::Pin::new(&mut ours).poll_write(context, &many[sent..]);
                let std::task::Poll::Ready(count) = written else { break };
                sent += count.expect("it is open");
                settle().await;
                assert!(door.connections.borrow().unread() <= LONGEST_FRAME + OUTPUT);
            }
            assert!((1..INPUT + 2 * 4096).contains(&sent), "{sent} octets are read of who does not read");
            ours.shutdown().await.expect("it is open");
            let mut response = Vec::new();
            ours.read_to_end(&mut response).await.expect("it is sent");
            assert_eq!(response.len(), sent / 4 * (2 + 2 + (50 << 10)));
            served.await.expect("no panic").expect("it ends in good order");
            assert_eq!(door.connections.borrow().unread(), 0);
        });
    }

    /// Memory is for what waits, not for what waited: of whoever never takes quite all of it, too.
    #[test]
    fn what_was_taken_is_let_go_of_while_more_waits() {
        run(async {
            let (mut ours, mut theirs) = duplex(1000);
            let guest = guest(Limits::default());
            let mut connection = Connection::new(&guest);
            for round in 0..1000 {
                let octets = if round == 0 { &[7; 5000][..] } else { &[7; 2000] };
                let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
                connection.output.write_now(context, &mut theirs, octets).expect("it is open");
                for _ in 0..2 {
                    ours.read_exact(&mut [0; 1000]).await.expect("it is sent");
                    // With a new budget (tokio::task::coop), for nobody asks again.
                    yield_now().await;
                    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
                    assert!(connection.output.poll_write(context, &mut theirs).is_ready());
                }
                assert!(connection.output.waiting.capacity() <= 16 << 10);
            }
            assert_eq!(guest.room.door.connections.borrow().unread(), 2000);
        });
    }

    #[test]
    fn when_too_much_waits_whoever_has_been_taking_for_the_longest_goes() {
        run(async {
            let limits = Limits { unread_in_all: 150_000, ..Limits::default() };
            let door = Door::new(Echo::default(), limits, Arc::default());
            let mut connections = Vec::new();
            for number in 0..3 {
                let (mut ours, theirs) = duplex(4096);
                let guest = door.receive([192, 0, 2, number].into()).expect("there is room");
                let served = spawn_local(async move { serve_connection(theirs, &guest).await });
                ours.write_all(&framed(&[number, 60])).await.expect("it is taken");
                settle().await;
                connections.push((ours, served));
            }
            assert_eq!(door.counters.get(Count::CutOffUnread), 1);
            for (number, (mut ours, served)) in connections.into_iter().enumerate() {
                ours.shutdown().await.ok();
                let mut response = Vec::new();
                let _ = ours.read_to_end(&mut response).await;
                let is_whole = response.len() == 2 + 2 + (60 << 10);
                assert_eq!((is_whole, served.await.expect("no panic").is_ok()), (number > 0, number > 0));
            }
        });
    }

    /// A server on a thread of its own.
    fn start(responder: Echo) -> (SocketAddr, Arc<Counters>, watch::Sender<Stop>, thread::JoinHandle<()>) {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let entrances = vec![Entrance { listener, proxy_from: Vec::new() }];
        let counters = Arc::<Counters>::default();
        let (stop, stopped) = watch::channel(Stop::No);
        let counted = Arc::clone(&counters);
        let thread = thread::spawn(move || {
            serve(entrances, responder, Limits::default(), counted, stopped).expect("it runs");
        });
        (address, counters, stop, thread)
    }

    fn exchange(client: &mut Client, message: &[u8]) -> io::Result<Vec<u8>> {
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        client.write_all(&framed(message))?;
        let mut response = vec![0; 2 + message.len()];
        client.read_exact(&mut response)?;
        Ok(response)
    }

    #[test]
    fn a_panic_costs_its_own_connection() {
        let (address, counters, stop, thread) = start(Echo::default());
        let mut other = Client::connect(address).expect("a connection");
        exchange(&mut other, &[1, 0]).expect("an answer");
        for panics in 1..4 {
            let mut client = Client::connect(address).expect("a connection");
            assert!(exchange(&mut client, b"boom").is_err());
            assert_eq!(exchange(&mut other, &[2, 0]).expect("an answer"), framed(&[2, 0]));
            assert_eq!(counters.get(Count::Panics), panics);
        }
        assert_eq!((counters.get(Count::Connections), counters.get(Count::Accepted)), (1, 4));
        stop.send(Stop::Now).expect("it runs");
        thread.join().expect("no panic of the thread");
    }

    #[test]
    fn who_is_there_is_served_when_nobody_else_is_let_in() {
        let (address, counters, stop, thread) = start(Echo::default());
        let mut client = Client::connect(address).expect("a connection");
        exchange(&mut client, &[1, 0]).expect("an answer");
        stop.send(Stop::WhenDone).expect("it runs");
        for number in 2..5 {
            exchange(&mut client, &[number, 0]).expect("an answer on the same connection");
        }
        assert_eq!(counters.get(Count::Accepted), 1);
        drop(client);
        thread.join().expect("no panic of the thread");
    }

    /// Its third look at the clock is that of the loop that all hangs on.
    #[test]
    fn a_panic_of_the_loop_costs_nobody_a_connection() {
        let (address, counters, stop, thread) = start(Echo { fails_to_refresh: 3, ..Echo::default() });
        let mut client = Client::connect(address).expect("a connection");
        exchange(&mut client, &[1, 0]).expect("an answer");
        let end = Instant::now() + Duration::from_secs(20);
        while counters.get(Count::Panics) == 0 {
            assert!(Instant::now() < end, "it never fails");
            thread::sleep(Duration::from_millis(5));
        }
        exchange(&mut client, &[2, 0]).expect("an answer on the same connection");
        let mut another = Client::connect(address).expect("a connection");
        exchange(&mut another, &[3, 0]).expect("an answer on a new one");
        assert_eq!(counters.get(Count::Panics), 1);
        stop.send(Stop::Now).expect("it runs");
        thread.join().expect("no panic of the thread");
    }
}
