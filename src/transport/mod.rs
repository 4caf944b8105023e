//! Bytes in, bytes out: how messages come and go. Nothing here knows what a message means.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::error;

mod connections;
pub mod encrypted;
pub mod proxy;
pub mod tcp;
pub mod udp;

/// Answers one message: from its bytes and sender, into a buffer, as many octets as it gives; none for no answer.
pub trait Responder {
    /// Writes the response into `out`, and gives its length.
    fn respond(&mut self, message: &[u8], client: IpAddr, out: &mut [u8]) -> Option<usize>;

    /// Called with the messages of a batch of several, before the first is answered.
    fn look_ahead<'m>(&mut self, _messages: impl Iterator<Item = &'m [u8]>) {}

    /// Called before each batch, and now and then while nothing comes: the moment to look at the clock, and to let go of
    /// what is out of date.
    fn refresh(&mut self) {}
}

/// Whether threads that serve connections are to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// They are.
    #[default]
    No,
    /// Nobody is let in any more; who is there is served until they leave or their time is over. Connections of QUIC end at
    /// once: their packets would come to whoever reads the socket next.
    WhenDone,
    /// At once.
    Now,
}

/// What one thread counts besides what becomes of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections at this moment.
    Connections,
    /// Connections that were let in.
    Accepted,
    /// Connections that were not: their client had enough.
    Refused,
    /// Connections that had to go for others.
    Evicted,
    /// Connections that did not bring a message to its end in time.
    CutOffSlow,
    /// Connections that had nothing more to say.
    CutOffIdle,
    /// Connections that did not take what they had asked for.
    CutOffUnread,
    /// Handshakes, of TLS or QUIC, that came to no good end, whoever gave up.
    FailedHandshakes,
    /// Times that no connection could be accepted, for want of descriptors or memory.
    AcceptFailures,
    /// Connections and datagrams without a PROXY header that had to have one, and with one that had not.
    ProxyRefused,
    /// Panics outside of answering, each of which cost a connection or a batch.
    Panics,
}

/// Their names, in order.
const COUNTS: [&str; 11] = [
    "connections",
    "accepted",
    "refused",
    "evicted",
    "cut_off_slow",
    "cut_off_idle",
    "cut_off_unread",
    "failed_handshakes",
    "accept_failures",
    "proxy_refused",
    "panics",
];

/// The counters of one thread, written by it alone. Aligned like those of answers, and for the same reason.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters([AtomicU64; COUNTS.len()]);

impl Counters {
    fn add(&self, count: Count) {
        self.set(count, self.get(count) + 1);
    }

    fn set(&self, count: Count, value: u64) {
        self.0[count as usize].store(value, Ordering::Relaxed);
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COUNTS.into_iter().zip(&self.0).map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Runs a loop until it ends by itself. Nothing in one is known to panic; should something, it costs what was in hand and
/// never the thread: a server that does not listen any more is worse than one that says every second what is wrong.
fn restart_on_panic(name: &str, counters: &Counters, mut run: impl FnMut()) {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);
    let mut pause = SHORTEST;
    loop {
        let began = Instant::now();
        if catch_unwind(AssertUnwindSafe(&mut run)).is_ok() {
            return;
        }
        counters.add(Count::Panics);
        error!("{name}: failed in a way that it never should, and starts again; please report it");
        pause = if began.elapsed() > 60 * LONGEST { SHORTEST } else { (2 * pause).min(LONGEST) };
        thread::sleep(pause);
    }
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are two listeners; IPv4 clients never show up as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_thread_that_failed_starts_again_is_counted_and_told_of() {
        let (log, counters, mut runs) = (Log::default(), Counters::default(), 0);
        let to_log = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || to_log.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            restart_on_panic("udp-0", &counters, || {
                runs += 1;
                assert!(runs > 2, "as if something were wrong");
            });
        });
        assert_eq!((runs, counters.get(Count::Panics)), (3, 2));
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let told = "udp-0: failed in a way that it never should, and starts again";
        assert_eq!(log.matches(told).count(), 2, "{log}");
        assert!(log.contains("ERROR"), "{log}");
    }
}
