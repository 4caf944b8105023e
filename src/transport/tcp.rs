//! TCP (RFC 7766): several queries a connection, pipelined ones answered as they come, and a bound on everything that a
//! client can hold: connections in all and per address, time for a message, time between messages, time to take a
//! response.
//!
//! One thread does it all: answering takes less time than the system calls around it, and who needs more than a core of
//! TCP is being attacked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Protocol, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::timeout;
use tracing::debug;

use super::{Responder, new_socket};

/// What one client may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one IPv4 address, or one IPv6 /64, which is as easily had.
    pub connections_per_client: usize,
    /// From the first octet of a message to its last, and from the first octet of a response to its last.
    pub message: Duration,
    /// Between messages.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            connections_per_client: 64,
            message: Duration::from_secs(2),
            idle: Duration::from_secs(10),
        }
    }
}

/// How often out-of-date things are let go of.
const LOOK_UP: Duration = Duration::from_secs(1);
/// After running out of descriptors: until others are closed, accepting would fail at once, again and again.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A listener. No SO_REUSEPORT: a second server at the same address is a mistake, and is told here.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Answers what comes in at some listeners until `stop` says so. Needs a thread of its own.
pub fn serve(
    listeners: Vec<TcpListener>,
    responder: impl Responder + 'static,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let door = Rc::new(Door {
        answering: RefCell::new(Answering { responder, out: vec![0; usize::from(u16::MAX)] }),
        limits,
        open: Cell::new(0),
        open_by_client: RefCell::default(),
    });
    LocalSet::new().block_on(&runtime, async move {
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::task::spawn_local(accept(listener, Rc::clone(&door)));
        }
        let mut stop = stop;
        while timeout(LOOK_UP, stop.wait_for(|stop| *stop)).await.is_err() {
            door.answering.borrow_mut().responder.refresh();
        }
        Ok(())
    })
}

/// What all connections share.
struct Door<R> {
    answering: RefCell<Answering<R>>,
    limits: Limits,
    open: Cell<usize>,
    open_by_client: RefCell<HashMap<IpAddr, usize>>,
}

struct Answering<R> {
    responder: R,
    out: Vec<u8>,
}

impl<R: Responder> Door<R> {
    /// Room for one more connection of a client, given back when it is dropped.
    fn admit(self: &Rc<Self>, client: IpAddr) -> Option<Admitted<R>> {
        let key = match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        };
        let mut by_client = self.open_by_client.borrow_mut();
        let of_client = by_client.entry(key).or_default();
        if self.open.get() >= self.limits.connections || *of_client >= self.limits.connections_per_client {
            if *of_client == 0 {
                by_client.remove(&key);
            }
            return None;
        }
        *of_client += 1;
        self.open.set(self.open.get() + 1);
        Some(Admitted { door: Rc::clone(self), key })
    }

    /// The response behind its length, or none.
    fn respond(&self, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        let Answering { responder, out } = &mut *self.answering.borrow_mut();
        responder.refresh();
        let length = responder.respond(message, client, out)?;
        let mut framed = Vec::with_capacity(2 + length);
        framed.extend_from_slice(&(length as u16).to_be_bytes());
        framed.extend_from_slice(&out[..length]);
        Some(framed)
    }
}

struct Admitted<R> {
    door: Rc<Door<R>>,
    key: IpAddr,
}

impl<R> Drop for Admitted<R> {
    fn drop(&mut self) {
        self.door.open.set(self.door.open.get() - 1);
        let mut by_client = self.door.open_by_client.borrow_mut();
        if let Some(count) = by_client.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.key);
            }
        }
    }
}

async fn accept<R: Responder + 'static>(listener: tokio::net::TcpListener, door: Rc<Door<R>>) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                if let Some(admitted) = door.admit(client.ip()) {
                    tokio::task::spawn_local(async move {
                        if let Err(error) = serve_connection(stream, client.ip(), &admitted.door).await {
                            debug!("a connection from {client} ended: {error}");
                        }
                    });
                } else {
                    debug!("no room for a connection from {client}");
                }
            }
            Err(error) => {
                debug!("no connection was accepted: {error}");
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
                {
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

async fn serve_connection<R: Responder>(
    mut stream: TcpStream,
    client: IpAddr,
    door: &Door<R>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = Vec::new();
    loop {
        let mut first = [0];
        if timeout(door.limits.idle, stream.read(&mut first)).await?? == 0 {
            return Ok(());
        }
        timeout(door.limits.message, read_message(&mut stream, first[0], &mut message)).await??;
        // No answer to a message that is none: what follows it in the stream cannot be trusted either.
        let Some(response) = door.respond(&message, client) else { return Ok(()) };
        timeout(door.limits.message, stream.write_all(&response)).await??;
    }
}

/// A message whose length begins with `first`. Memory grows with what comes, not with what is announced.
async fn read_message(stream: &mut TcpStream, first: u8, message: &mut Vec<u8>) -> io::Result<()> {
    let length = u16::from_be_bytes([first, stream.read_u8().await?]);
    message.clear();
    stream.take(u64::from(length)).read_to_end(message).await?;
    if message.len() < usize::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
