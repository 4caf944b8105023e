//! Who is let in, and what those who are share: buffers, the responder, limits.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{INPUT, LOOK_UP, Limits, OUTPUT, TICK};
use crate::transport::connections::{Connections, Phase};
use crate::transport::{Count, Counters, Responder};

/// What all connections of a thread share.
pub(in crate::transport) struct Door<R> {
    pub(super) responder: RefCell<R>,
    pub(super) buffers: RefCell<Buffers>,
    pub(super) connections: RefCell<Connections>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
}

/// What is used only while nothing else runs.
pub(super) struct Buffers {
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl<R: Responder> Door<R> {
    pub(in crate::transport) fn new(responder: R, limits: Limits, counters: Arc<Counters>) -> Rc<Door<R>> {
        Rc::new(Door {
            responder: RefCell::new(responder),
            buffers: RefCell::new(Buffers { input: vec![0; INPUT], output: vec![0; OUTPUT] }),
            connections: RefCell::new(Connections::new(limits)),
            limits,
            counters,
        })
    }

    /// Room for one more, given back when it is dropped, and whether somebody was told to go for it. Whose connection it
    /// is, a proxy may have yet to tell.
    pub(super) fn admit(self: &Rc<Self>, client: Option<IpAddr>) -> Option<(Room<R>, bool)> {
        let mut connections = self.connections.borrow_mut();
        let Ok((key, evicted)) = connections.admit(client, Instant::now()) else {
            self.counters.add(Count::Refused);
            return None;
        };
        if evicted.is_some() {
            self.counters.add(Count::Evicted);
        }
        self.counters.add(Count::Accepted);
        self.counters.set(Count::Connections, connections.count() as u64);
        Some((Room { door: Rc::clone(self), key }, evicted.is_some()))
    }

    /// Room for a connection of a known client, for transports that accept theirs in another way.
    pub(in crate::transport) fn receive(self: &Rc<Self>, client: IpAddr) -> Option<Guest<R>> {
        let (room, _) = self.admit(Some(client))?;
        Some(Guest { room, client, refuses_header: false })
    }

    /// Connections in all, and of a client.
    pub(in crate::transport) fn held(&self, client: IpAddr) -> (usize, usize) {
        let connections = self.connections.borrow();
        (connections.count(), connections.held_by(client))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().count() == 0
    }

    pub(in crate::transport) fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends away whose time is over; says when to look again.
    pub(in crate::transport) fn send_away(&self) -> Duration {
        let now = Instant::now();
        let mut connections = self.connections.borrow_mut();
        while let Some(phase) = connections.expire(now) {
            self.counters.add(match phase {
                Phase::Fresh | Phase::Idle => Count::CutOffIdle,
                Phase::Handshake | Phase::Message => Count::CutOffSlow,
                Phase::Output => Count::CutOffUnread,
            });
        }
        self.counters.set(Count::Connections, connections.count() as u64);
        connections.next_expiry().map_or(LOOK_UP, |next| (next - now).clamp(TICK, LOOK_UP))
    }

    pub(in crate::transport) fn refresh(&self) {
        self.responder.borrow_mut().refresh();
    }
}

/// A place among the connections.
pub(super) struct Room<R: Responder> {
    pub(super) door: Rc<Door<R>>,
    pub(super) key: usize,
}

impl<R: Responder> Drop for Room<R> {
    fn drop(&mut self) {
        let mut connections = self.door.connections.borrow_mut();
        connections.release(self.key);
        self.door.counters.set(Count::Connections, connections.count() as u64);
        // Of one connection: the runtime ends its task, and nobody else's.
        if std::thread::panicking() {
            self.door.counters.add(Count::Panics);
        }
    }
}

/// A connection that was let in.
pub(in crate::transport) struct Guest<R: Responder> {
    pub(super) room: Room<R>,
    /// Who asks, and whose limits count.
    pub(super) client: IpAddr,
    /// A header of the PROXY protocol must not come, or not again.
    pub(super) refuses_header: bool,
}

impl<R: Responder> Guest<R> {
    pub(in crate::transport) fn begin(&self, phase: Phase) {
        self.room.door.connections.borrow_mut().begin(self.room.key, phase, Instant::now());
    }

    pub(super) fn has_to_go(&self, context: &Context<'_>) -> bool {
        self.room.door.connections.borrow_mut().has_to_go(self.room.key, context)
    }

    pub(in crate::transport) fn limits(&self) -> Limits {
        self.room.door.limits
    }

    pub(in crate::transport) fn count(&self, count: Count) {
        self.room.door.counters.add(count);
    }

    /// Counts octets that the client has yet to take, until they are let go of. Should they be too many of all clients,
    /// whoever has been taking theirs for the longest has to go.
    pub(in crate::transport) fn hold(&self, octets: usize) {
        let Room { door, key } = &self.room;
        for _ in 0..door.connections.borrow_mut().hold(*key, octets) {
            self.count(Count::CutOffUnread);
        }
    }

    pub(in crate::transport) fn let_go(&self, octets: usize) {
        self.room.door.connections.borrow_mut().let_go(self.room.key, octets);
    }

    /// The response to a message that came whole, for transports that have other frames.
    pub(in crate::transport) fn respond(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Door { responder, buffers, .. } = &*self.room.door;
        let output = &mut buffers.borrow_mut().output;
        let mut responder = responder.borrow_mut();
        responder.refresh();
        let length = responder.respond(message, self.client, &mut output[..usize::from(u16::MAX)])?;
        Some(output[..length].to_vec())
    }

    /// A handshake, which comes before the first message.
    pub(in crate::transport) async fn prepare<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        self.begin(Phase::Handshake);
        let done = self.unless_sent_away(work).await?;
        self.begin(Phase::Fresh);
        Ok(done)
    }

    pub(in crate::transport) async fn unless_sent_away<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut work = std::pin::pin!(work);
        poll_fn(|context| match self.has_to_go(context) {
            true => Poll::Ready(Err(sent_away())),
            false => work.as_mut().poll(context),
        })
        .await
    }
}

pub(super) fn sent_away() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it was sent away")
}
