//! DNS over QUIC (RFC 9250): quinn's connections under the limits of TCP's, and a stream for each query.
//!
//! A handshake costs a server more than a client, and its first packet may come in anybody's name: when many connections
//! are open, or many in that name, the client has to prove by a Retry that it hears us (RFC 9000 8.1.2) before anything is
//! kept for it. Who has enough connections is refused with one packet that is shorter than its own.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, ReadExactError, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Protocol, Socket, Type};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;
use tracing::{debug, error};

use super::{Identity, QUIC_VERSIONS, has_keepalive};
use crate::transport::connections::Phase;
use crate::transport::tcp::{Door, Guest, Limits};
use crate::transport::{Count, Counters, Responder, Stop, new_socket, restart_on_panic};

/// RFC 9250 4.1.1. QUIC refuses whoever does not name it.
const PROTOCOLS: &[&str] = &["doq"];

/// RFC 9250 4.3.
const DOQ_NO_ERROR: VarInt = VarInt::from_u32(0);
const DOQ_INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
const DOQ_PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const DOQ_REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const DOQ_EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// Queries that one connection may have under way.
const STREAMS: u32 = 100;
/// A length and the longest message.
const LONGEST_FRAME: usize = 2 + u16::MAX as usize;
/// Octets that one connection may hold of queries that are not whole, and of responses that were not taken.
const HELD: usize = 4 * LONGEST_FRAME;
/// From so many connections of one client on, the next has to prove that it hears us.
const UNPROVEN_OF_CLIENT: usize = 8;
/// Likewise when such a part of all connections is taken.
const UNPROVEN_PART: usize = 4;
/// Connections that were not looked at yet, and octets for each of them: they are looked at at once.
const INCOMING: usize = 1024;
const INCOMING_OCTETS: u64 = 16 << 10;
/// As for the other transport over UDP: the kernel's default is a burst of a few milliseconds.
const RECEIVE_BUFFER: usize = 4 << 20;
/// For the last packets, when the server stops.
const FAREWELL: Duration = Duration::from_millis(200);

/// A socket. No SO_REUSEPORT: a second server at the same address is a mistake, and is told here.
///
/// # Errors
/// The address cannot be had.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Makes a socket what [`serve`] expects of it; of those that another process bound, too.
///
/// # Errors
/// The kernel refuses.
pub fn prepare(socket: &Socket) -> io::Result<()> {
    // As much as the kernel allows (net.core.rmem_max).
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)
}

/// Answers what comes in at some sockets until `stop` says so. Needs a thread of its own.
///
/// # Errors
/// There is no runtime to be had, or no TLS.
pub fn serve(
    sockets: &[UdpSocket],
    identity: &Arc<Identity>,
    responder: impl Responder + 'static,
    limits: Limits,
    counters: &Arc<Counters>,
    stop: &watch::Receiver<Stop>,
) -> io::Result<()> {
    let config = server_config(identity, limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let door = Door::new(responder, limits, Arc::clone(counters));
    let local = LocalSet::new();
    let mut open: Vec<Option<(Endpoint, JoinHandle<()>)>> = sockets.iter().map(|_| None).collect();
    restart_on_panic("QUIC", counters, || {
        local.block_on(&runtime, async {
            let mut stop = stop.clone();
            loop {
                for (socket, open) in sockets.iter().zip(&mut open) {
                    // It never ends by itself.
                    if open.as_ref().is_none_or(|(_, accepting)| accepting.is_finished()) {
                        if open.is_some() {
                            counters.add(Count::Panics);
                            error!(
                                "QUIC: accepting connections failed in a way that it never should; it goes on"
                            );
                        }
                        *open = match open_endpoint(socket, config.clone()) {
                            Ok(endpoint) => {
                                Some((endpoint.clone(), spawn_local(accept(endpoint, Rc::clone(&door)))))
                            }
                            Err(error) => {
                                counters.add(Count::AcceptFailures);
                                debug!("QUIC: no endpoint: {error}");
                                None
                            }
                        };
                    }
                }
                door.refresh();
                let next = door.send_away();
                if timeout(next, stop.wait_for(|stop| *stop != Stop::No)).await.is_ok() {
                    break;
                }
            }
            for (endpoint, accepting) in open.iter_mut().filter_map(Option::take) {
                accepting.abort();
                // Who comes from here on is for whoever reads the socket next: told nothing, a client sends its first packet once
                // more. Refused, it would give up.
                endpoint.set_server_config(None);
                endpoint.close(DOQ_NO_ERROR, b"");
                let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
            }
        });
    });
    Ok(())
}

fn server_config(identity: &Arc<Identity>, limits: Limits) -> io::Result<ServerConfig> {
    let tls = identity.config(QUIC_VERSIONS, PROTOCOLS).map_err(io::Error::other)?;
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        // RFC 9250 4.3.3: a protocol error; QUIC itself says so.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(LONGEST_FRAME as u32))
        .receive_window(VarInt::from_u32(HELD as u32))
        .send_window(HELD as u64)
        .max_idle_timeout(Some(limits.idle.try_into().map_err(io::Error::other)?))
        // Responses are short, and so are connections: looking for a larger size costs more packets than it saves.
        .mtu_discovery_config(None);
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport))
        // Limits and answers go by the address.
        .migration(false)
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_OCTETS)
        .incoming_buffer_size_total(INCOMING as u64 * INCOMING_OCTETS);
    Ok(config)
}

fn open_endpoint(socket: &UdpSocket, config: ServerConfig) -> io::Result<Endpoint> {
    let socket = socket.try_clone()?;
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

async fn accept<R: Responder + 'static>(endpoint: Endpoint, door: Rc<Door<R>>) {
    while let Some(incoming) = endpoint.accept().await {
        let client = incoming.remote_address().ip();
        if !incoming.remote_address_validated() && needs_proof(&door, client) {
            let _ = incoming.retry();
            continue;
        }
        let Some(guest) = door.receive(client) else {
            debug!("no room for a connection from {client}");
            incoming.refuse();
            continue;
        };
        spawn_local(async move {
            if let Err(error) = converse(incoming, guest).await {
                debug!("a connection from {client} ended: {error}");
            }
        });
    }
}

fn needs_proof<R: Responder>(door: &Door<R>, client: IpAddr) -> bool {
    let (in_all, of_client) = door.held(client);
    of_client >= UNPROVEN_OF_CLIENT || in_all >= door.limits().connections / UNPROVEN_PART
}

/// A connection, and what its streams share.
struct Conversation<R: Responder> {
    connection: Connection,
    guest: Guest<R>,
    /// Room for queries that come, and for responses that leave.
    coming: Semaphore,
    going: Semaphore,
    /// Streams under way.
    streams: Cell<usize>,
}

async fn converse<R: Responder + 'static>(incoming: Incoming, guest: Guest<R>) -> io::Result<()> {
    let handshake = async { Ok(incoming.accept()?.await?) };
    let connection = guest.prepare(handshake).await.inspect_err(|_| guest.count(Count::FailedHandshakes))?;
    let conversation = Rc::new(Conversation {
        connection,
        guest,
        coming: Semaphore::new(HELD),
        going: Semaphore::new(HELD),
        streams: Cell::new(0),
    });
    let Conversation { connection, guest, .. } = &*conversation;
    loop {
        match guest.unless_sent_away(async { Ok(connection.accept_bi().await?) }).await {
            Ok((send, recv)) => {
                conversation.streams.set(conversation.streams.get() + 1);
                let conversation = Rc::clone(&conversation);
                spawn_local(async move {
                    exchange(&conversation, send, recv).await;
                    conversation.streams.set(conversation.streams.get() - 1);
                });
            }
            Err(error) => {
                // RFC 9250 5.5.1. Of a connection that is closed already this does nothing.
                let is_busy = conversation.streams.get() > 0;
                connection.close(if is_busy { DOQ_EXCESSIVE_LOAD } else { DOQ_NO_ERROR }, b"");
                return Err(error);
            }
        }
    }
}

/// Why a query did not come to its end.
enum Fault {
    /// RFC 9250 4.3.3: the connection has to go.
    Protocol(&'static str),
    /// The client gave up, or the connection did.
    Gone,
}

/// One query, one response.
async fn exchange<R: Responder>(conversation: &Conversation<R>, mut send: SendStream, mut recv: RecvStream) {
    let Conversation { connection, guest, coming, going, .. } = conversation;
    let most = guest.limits().message;
    let query = match timeout(most, read_query(&mut recv, coming)).await {
        Ok(Ok(query)) => query,
        Ok(Err(Fault::Protocol(what))) => {
            debug!("{} broke the protocol: {what}", connection.remote_address());
            return connection.close(DOQ_PROTOCOL_ERROR, what.as_bytes());
        }
        Ok(Err(Fault::Gone)) => {
            let _ = send.reset(DOQ_REQUEST_CANCELLED);
            return;
        }
        Err(_) => {
            guest.count(Count::CutOffSlow);
            let _ = recv.stop(DOQ_EXCESSIVE_LOAD);
            let _ = send.reset(DOQ_EXCESSIVE_LOAD);
            return;
        }
    };
    // Until the response is taken, as much room as it may need at most; then as much as it does.
    let leave = async {
        let mut room = going.acquire_many(LONGEST_FRAME as u32).await.ok()?;
        let response = guest.respond(&query)?;
        drop(query);
        drop(room.split(LONGEST_FRAME - 2 - response.len()));
        let length = (response.len() as u16).to_be_bytes();
        let framed = [&length[..], &response].concat();
        // A client that wants no more of it says so by STOP_SENDING.
        Some(send.write_all(&framed).await.is_ok())
    };
    match timeout(most, leave).await {
        Ok(Some(true)) => {
            let _ = send.finish();
            guest.begin(Phase::Idle);
        }
        Ok(Some(false)) => {}
        // It was no query (RFC 9250 4.3.2).
        Ok(None) => {
            let _ = send.reset(DOQ_INTERNAL_ERROR);
        }
        Err(_) => {
            guest.count(Count::CutOffUnread);
            let _ = send.reset(DOQ_EXCESSIVE_LOAD);
        }
    }
}

/// A message behind its length, then the end of the stream (RFC 9250 4.2), without which there might be a second query.
async fn read_query(recv: &mut RecvStream, coming: &Semaphore) -> Result<Vec<u8>, Fault> {
    let of_read = |error: ReadExactError| match error {
        ReadExactError::FinishedEarly(_) => Fault::Protocol("a stream ended within a message"),
        ReadExactError::ReadError(_) => Fault::Gone,
    };
    let mut length = [0; 2];
    recv.read_exact(&mut length).await.map_err(of_read)?;
    let length = u16::from_be_bytes(length);
    let _room = coming.acquire_many(u32::from(length)).await.map_err(|_| Fault::Gone)?;
    let mut query = vec![0; usize::from(length)];
    recv.read_exact(&mut query).await.map_err(of_read)?;
    match recv.read(&mut [0]).await {
        Ok(None) => {}
        Ok(Some(_)) => return Err(Fault::Protocol("more than one query on a stream")),
        Err(_) => return Err(Fault::Gone),
    }
    if query.len() >= 2 && query[..2] != [0, 0] {
        return Err(Fault::Protocol("a message ID other than 0"));
    }
    // RFC 9250 5.5.2: QUIC has its own.
    if has_keepalive(&query) {
        return Err(Fault::Protocol("the option edns-tcp-keepalive"));
    }
    Ok(query)
}
