//! What comes over one connection, cut into messages, and what goes back.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::door::{Buffers, Guest, sent_away};
use super::{LONGEST_FRAME, TURN};
use crate::transport::connections::Phase;
use crate::transport::{Count, Responder, proxy};

/// What happened to a stream.
enum Event {
    /// So many octets are in the shared buffer; 0 is the end.
    Read(usize),
    /// The client took something.
    Written,
    /// What was read before has not all been heard.
    More,
}

/// Answers what comes over a stream until it ends, or has to.
///
/// Whoever has 64 KiB or more yet to take is not heard any further: what it sends meanwhile waits where it is. Who sends all of its
/// queries before it reads the first response has that much, and what the kernel keeps.
pub(in crate::transport) async fn serve_connection<R: Responder>(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    guest: &Guest<R>,
) -> io::Result<()> {
    let door = &*guest.room.door;
    let mut connection = Connection::new(guest);
    let mut is_open = true;
    let mut in_a_row = 0;
    while is_open || connection.output.is_waiting() {
        let event = poll_fn(|context| {
            if guest.has_to_go(context) {
                return Poll::Ready(Err(sent_away()));
            }
            if connection.output.is_waiting()
                && let Poll::Ready(written) = connection.output.poll_write(context, &mut stream)
            {
                return Poll::Ready(written.map(|()| Event::Written));
            }
            if !is_open || connection.output.len() >= LONGEST_FRAME {
                return Poll::Pending;
            }
            if connection.has_more {
                return Poll::Ready(Ok(Event::More));
            }
            let input = &mut door.buffers.borrow_mut().input;
            let mut buffer = ReadBuf::new(input);
            let read = Pin::new(&mut stream).poll_read(context, &mut buffer);
            read.map_ok(|()| Event::Read(buffer.filled().len()))
        })
        .await?;
        let length = match event {
            Event::Read(length) => length,
            Event::More => 0,
            Event::Written => {
                connection.tell_phase(false);
                continue;
            }
        };
        // Whoever has nothing more to ask still wants the answers.
        if length == 0 && !connection.has_more {
            is_open = false;
            continue;
        }
        // From here to the write nothing is waited for: the shared buffers are this connection's.
        let heard = connection.hear(length)?;
        is_open = heard.goes_on;
        poll_fn(|context| {
            let output = &door.buffers.borrow().output[..heard.to_write];
            Poll::Ready(connection.output.write_now(context, &mut stream, output))
        })
        .await?;
        connection.tell_phase(heard.is_whole);
        in_a_row += length + heard.to_write;
        if in_a_row >= TURN {
            in_a_row = 0;
            yield_now().await;
        }
    }
    Ok(())
}

/// What became of one read.
pub(super) struct Heard {
    /// Octets of responses in the shared buffer.
    pub(super) to_write: usize,
    /// At least one message came to its end.
    is_whole: bool,
    /// False after a message that gets no answer: what follows it in the stream cannot be trusted either.
    pub(super) goes_on: bool,
}

pub(super) struct Connection<'a, R: Responder> {
    pub(super) guest: &'a Guest<R>,
    /// The beginning of a message, or messages that have to wait. Memory grows with what comes, not with what is announced, and goes
    /// with the message.
    pub(super) partial: Vec<u8>,
    /// There may be whole messages in there.
    pub(super) has_more: bool,
    pub(super) output: Output<'a, R>,
    phase: Phase,
    /// The stream may yet turn out to begin with a PROXY header that must not be.
    may_be_header: bool,
}

impl<'a, R: Responder> Connection<'a, R> {
    pub(super) fn new(guest: &'a Guest<R>) -> Self {
        Connection {
            guest,
            partial: Vec::new(),
            has_more: false,
            output: Output { guest, waiting: Vec::new(), taken: 0, since_told: 0, is_unflushed: false },
            phase: Phase::Fresh,
            may_be_header: guest.refuses_header,
        }
    }

    /// Answers what is whole of what came, until a buffer is full of answers.
    pub(super) fn hear(&mut self, length: usize) -> io::Result<Heard> {
        let door = &*self.guest.room.door;
        let Buffers { input, output } = &mut *door.buffers.borrow_mut();
        let had_partial = !self.partial.is_empty();
        if had_partial {
            grow(&mut self.partial, length);
            self.partial.extend_from_slice(&input[..length]);
        }
        let all = if had_partial { &self.partial[..] } else { &input[..length] };
        if self.may_be_header {
            let is_header = proxy::is_header(all);
            if is_header == Some(true) {
                door.counters.add(Count::ProxyRefused);
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a PROXY header that must not be"));
            }
            self.may_be_header = is_header.is_none();
        }
        let mut responder = door.responder.borrow_mut();
        responder.refresh();
        let mut heard = Heard { to_write: 0, is_whole: false, goes_on: true };
        let mut rest = all;
        self.has_more = false;
        while let Some((message, behind)) = split_frame(rest) {
            if heard.to_write + LONGEST_FRAME > output.len() {
                self.has_more = true;
                break;
            }
            rest = behind;
            heard.is_whole = true;
            let (framed, room) = output[heard.to_write..heard.to_write + LONGEST_FRAME].split_at_mut(2);
            let Some(length) = responder.respond(message, self.guest.client, room) else {
                heard.goes_on = false;
                rest = &[];
                break;
            };
            framed.copy_from_slice(&(length as u16).to_be_bytes());
            heard.to_write += 2 + length;
        }
        if !had_partial || heard.is_whole {
            self.partial = rest.to_vec();
        }
        Ok(heard)
    }

    /// Tells what it is doing now, and so for how long it may. Half a message does not get younger by more of it.
    fn tell_phase(&mut self, is_whole: bool) {
        let phase = match (self.output.is_waiting(), self.partial.is_empty()) {
            (true, _) => Phase::Output,
            (false, false) => Phase::Message,
            (false, true) => Phase::Idle,
        };
        let begins = match phase {
            Phase::Output => self.output.since_told >= LONGEST_FRAME,
            _ => is_whole,
        };
        if begins || phase != self.phase {
            self.phase = phase;
            self.output.since_told = 0;
            self.guest.begin(phase);
        }
    }
}

/// A length and its message, and what is behind it.
pub(super) fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Twice as large each time, but not twice the message.
fn grow(partial: &mut Vec<u8>, by: usize) {
    let announced = match partial[..] {
        [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    let needed = partial.len() + by;
    if needed > partial.capacity() {
        let wanted = (2 * partial.len()).min(announced).max(needed);
        partial.reserve_exact(wanted - partial.len());
    }
}

/// Responses that could not be sent yet, since the client takes them too slowly.
pub(super) struct Output<'a, R: Responder> {
    guest: &'a Guest<R>,
    pub(super) waiting: Vec<u8>,
    /// Of those, as many are sent.
    taken: usize,
    /// Octets that were sent since it was last told that it goes on.
    since_told: usize,
    /// What a stream may keep to itself: TLS does.
    is_unflushed: bool,
}

impl<R: Responder> Output<'_, R> {
    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.is_unflushed
    }

    /// Octets that wait.
    fn len(&self) -> usize {
        self.waiting.len() - self.taken
    }

    /// Sends as much as goes without waiting; the rest waits.
    pub(super) fn write_now(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
        mut octets: &[u8],
    ) -> io::Result<()> {
        while self.waiting.is_empty() && !octets.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, octets) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => octets = &octets[written?..],
            }
            self.is_unflushed = true;
        }
        if self.waiting.is_empty() && octets.is_empty() && self.is_unflushed {
            match Pin::new(stream).poll_flush(context) {
                Poll::Pending => {}
                Poll::Ready(flushed) => {
                    flushed?;
                    self.is_unflushed = false;
                }
            }
        }
        if octets.is_empty() {
            return Ok(());
        }
        // They count as held, by whom and by all, until they are taken.
        self.guest.hold(octets.len());
        // Else what is long sent would stay as long as anything waits.
        self.waiting.drain(..std::mem::take(&mut self.taken));
        self.waiting.extend_from_slice(octets);
        Ok(())
    }

    /// Ready when something of it was sent.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        let mut has_written = false;
        while self.taken < self.waiting.len() {
            match Pin::new(&mut *stream).poll_write(context, &self.waiting[self.taken..]) {
                Poll::Pending if has_written => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.taken += count;
                    self.since_told += count;
                    self.guest.let_go(count);
                    self.is_unflushed = true;
                    has_written = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.waiting = Vec::new();
        self.taken = 0;
        match Pin::new(stream).poll_flush(context) {
            Poll::Pending if has_written => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(flushed) => {
                self.is_unflushed = false;
                Poll::Ready(flushed)
            }
        }
    }
}
