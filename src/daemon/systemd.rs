//! What systemd gives and is told: sockets that it bound (sd_listen_fds(3)), and how the server is (sd_notify(3)). Sockets may
//! come from the server that this one replaces, too ([`super::handover`]); those are taken first.
//!
//! Sockets of systemd's outlive the process: what arrives while it is restarted, or after it crashed, waits in them. Passed
//! ones are taken for the configured addresses that they are bound to; all else is as without them.
//!
//! The watchdog is fed only after the server answered a query that came in over its own UDP socket. Any address is enough,
//! and several tries are made: a server that an attacker keeps busy must not be restarted, that would be the attack.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use tracing::{debug, info, warn};

use super::handover::{Kept, Predecessor};
use crate::transport::encrypted::quic;
use crate::transport::udp;
use crate::wire::message::query;
use crate::wire::{Name, Rtype};

/// Sockets that were passed and not yet asked for.
#[derive(Debug, Default)]
pub(super) struct Passed {
    udp: Vec<(SocketAddr, UdpSocket)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
    /// Names of what is neither.
    others: Vec<String>,
    /// Of the server that this one replaces.
    inherited: Vec<Kept>,
    /// For the one that replaces this one.
    kept: Vec<Kept>,
}

impl Passed {
    /// Takes what is there. Must come before any thread, for it clears the environment, and before anything is opened.
    ///
    /// # Errors
    /// The server that this one replaces is gone.
    pub(super) fn take(predecessor: Option<&Predecessor>) -> io::Result<Passed> {
        let mut passed = Passed::of_systemd();
        if let Some(predecessor) = predecessor {
            passed.inherited = predecessor.sockets()?;
            info!("{} sockets were handed over", passed.inherited.len());
        }
        Ok(passed)
    }

    fn of_systemd() -> Passed {
        let mut passed = Passed::default();
        // Meant for this very process, and not for one that it was started by.
        if env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return passed;
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty());
        let mut given = ListenFd::from_env();
        for index in 0..given.len() {
            let name = names.next().unwrap_or("unnamed");
            if let Ok(Some(socket)) = given.take_udp_socket(index)
                && let Ok(address) = socket.local_addr()
            {
                passed.udp.push((address, socket));
            } else if let Ok(Some(listener)) = given.take_tcp_listener(index)
                && let Ok(address) = listener.local_addr()
            {
                passed.tcp.push((address, listener));
            } else {
                passed.others.push(name.to_owned());
            }
        }
        passed
    }

    /// The listener at an address, if there is one.
    ///
    /// # Errors
    /// When it cannot be used as it is.
    pub(super) fn tcp(&mut self, kind: &str, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        if let Some(socket) = self.inherit(&format!("{kind} {address}")) {
            return Ok(Some(TcpListener::from(socket)));
        }
        let Some(index) = self.tcp.iter().position(|(at, _)| is_same(*at, address)) else { return Ok(None) };
        let (_, listener) = self.tcp.swap_remove(index);
        refuse_mapped(address, SockRef::from(&listener).only_v6())?;
        listener.set_nonblocking(true)?;
        info!("TCP at {address} was passed by systemd");
        Ok(Some(listener))
    }

    /// The sockets at an address, and clones of them until there is one for each worker; none if none was passed. There may be
    /// more of them than workers: each must be read, for the kernel spreads clients over all of them.
    ///
    /// # Errors
    /// When they cannot be used as they are.
    pub(super) fn udp(&mut self, address: SocketAddr, workers: usize) -> io::Result<Option<Vec<UdpSocket>>> {
        let how = self.how("udp", address);
        let mut sockets = self.all_udp("udp", address)?;
        let passed = sockets.len();
        if passed == 0 {
            return Ok(None);
        }
        for socket in &sockets {
            socket.set_nonblocking(false)?;
            udp::prepare(&SockRef::from(socket), address)?;
        }
        while sockets.len() < workers {
            sockets.push(sockets[sockets.len() % passed].try_clone()?);
        }
        info!("UDP at {address} was {how}, {passed} sockets for {} threads", sockets.len());
        Ok(Some(sockets))
    }

    /// All sockets at an address, for QUIC.
    ///
    /// # Errors
    /// When they cannot be used as they are.
    pub(super) fn quic(&mut self, address: SocketAddr) -> io::Result<Vec<UdpSocket>> {
        let how = self.how("quic", address);
        let sockets = self.all_udp("quic", address)?;
        for socket in &sockets {
            quic::prepare(&SockRef::from(socket))?;
        }
        if !sockets.is_empty() {
            info!("QUIC at {address} was {how}, {} sockets", sockets.len());
        }
        Ok(sockets)
    }

    /// The control socket.
    pub(super) fn control(&mut self, path: &Path) -> Option<UnixListener> {
        self.inherit(&format!("control {}", path.display())).map(UnixListener::from)
    }

    /// Remembers a socket for the server that replaces this one some day.
    pub(super) fn keep(
        &mut self,
        kind: &str,
        place: impl std::fmt::Display,
        socket: &impl AsFd,
    ) -> io::Result<()> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        self.kept.push(Kept { name: format!("{kind} {place}"), socket });
        Ok(())
    }

    /// Where they come from, for the log.
    fn how(&self, kind: &str, address: SocketAddr) -> &'static str {
        let name = format!("{kind} {address}");
        match self.inherited.iter().any(|kept| kept.name == name) {
            true => "handed over",
            false => "passed by systemd",
        }
    }

    /// The first of a name: there may be others, for ports that the kernel chose.
    fn inherit(&mut self, name: &str) -> Option<OwnedFd> {
        let index = self.inherited.iter().position(|kept| kept.name == name)?;
        Some(self.inherited.remove(index).socket)
    }

    fn all_udp(&mut self, kind: &str, address: SocketAddr) -> io::Result<Vec<UdpSocket>> {
        let name = format!("{kind} {address}");
        let inherited: Vec<UdpSocket> =
            std::iter::from_fn(|| self.inherit(&name)).map(UdpSocket::from).collect();
        if !inherited.is_empty() {
            return Ok(inherited);
        }
        let (own, others) = self.udp.drain(..).partition(|(at, _)| is_same(*at, address));
        self.udp = others;
        let own: Vec<(SocketAddr, UdpSocket)> = own;
        let check = |(_, socket): (SocketAddr, UdpSocket)| {
            refuse_mapped(address, SockRef::from(&socket).only_v6()).map(|()| socket)
        };
        own.into_iter().map(check).collect()
    }

    /// Tells of what nobody asked for. It is closed, but systemd keeps it open: what arrives there is never read. Gives what
    /// is to be handed on.
    pub(super) fn tell_of_the_rest(self) -> Vec<Kept> {
        let udp = self.udp.iter().map(|(address, _)| format!("UDP at {address}"));
        let tcp = self.tcp.iter().map(|(address, _)| format!("TCP at {address}"));
        for what in udp.chain(tcp).chain(self.others) {
            warn!("systemd passed {what}, which listen: does not name; nobody reads it");
        }
        for Kept { name, .. } in self.inherited {
            info!("{name} is no longer listened at");
        }
        self.kept
    }
}

fn is_same(at: SocketAddr, wanted: SocketAddr) -> bool {
    (at.ip(), at.port()) == (wanted.ip(), wanted.port())
}

/// Whoever is ::ffff:192.0.2.1 is nowhere on a map of IPv4.
fn refuse_mapped(address: SocketAddr, only_v6: io::Result<bool>) -> io::Result<()> {
    if address.is_ipv6() && address.ip().is_unspecified() && !only_v6? {
        return Err(io::Error::other("systemd's socket takes IPv4 too; it needs BindIPv6Only=ipv6-only"));
    }
    Ok(())
}

/// Starting may take as long again as this, told anew every [`STILL_STARTING`].
const MORE_TIME: Duration = Duration::from_secs(30);
const STILL_STARTING: Duration = Duration::from_secs(10);
/// Then it hangs, and systemd is to decide.
const LONGEST_START: Duration = Duration::from_secs(30 * 60);
/// Within the time for one question. Each try comes from a port of its own, and so perhaps to another thread.
const TRIES: u32 = 8;

/// The service manager, if there is one that wants to be told.
pub(super) struct Manager {
    words: Option<Sender<Word>>,
    thread: Option<JoinHandle<()>>,
}

/// What its thread is told.
enum Word {
    /// Queries are answered at these addresses; those that anybody may ask at.
    Ready(Vec<SocketAddr>),
    /// What to ask for.
    Ask(Name),
}

impl Manager {
    /// Tells that the server is starting, and goes on to do so.
    pub(super) fn start() -> Manager {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Manager { words: None, thread: None };
        }
        let watchdog = sd_notify::watchdog_enabled().filter(|period| !period.is_zero());
        let (words, received) = channel();
        let thread = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || tell_while_starting(&received, watchdog))
            .inspect_err(|error| warn!("the watchdog is not fed: {error}"))
            .ok();
        Manager { words: Some(words), thread }
    }

    /// Queries are answered. `addresses` are those that the server itself may ask at.
    pub(super) fn ready(&self, addresses: Vec<SocketAddr>, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
        self.say(Word::Ready(addresses));
    }

    /// A zone that is served from now on.
    pub(super) fn ask_for(&self, zone: Option<&Name>) {
        if let Some(zone) = zone {
            self.say(Word::Ask(zone.clone()));
        }
    }

    /// Everything is read again.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(error) => debug!("no monotonic clock: {error}"),
        }
    }

    /// That is over, one way or the other.
    pub(super) fn reloaded(&self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It ends.
    pub(super) fn stopping(&mut self) {
        self.notify(&[NotifyState::Stopping]);
        self.say_no_more();
    }

    /// Another process is the server from now on, and tells how it is; this one may not even say that it stops.
    pub(super) fn replaced_by(&mut self, pid: u32) {
        self.notify(&[NotifyState::MainPid(pid)]);
        self.say_no_more();
    }

    fn say_no_more(&mut self) {
        self.words = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.words {
            let _ = words.send(word);
        }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if self.words.is_some() {
            notify(states);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("systemd was not told: {error}");
    }
}

/// Asks for more time until there is word that the server is ready.
fn tell_while_starting(words: &Receiver<Word>, watchdog: Option<Duration>) {
    let started = Instant::now();
    let mut zone = Name::root();
    loop {
        match words.recv_timeout(STILL_STARTING) {
            Ok(Word::Ask(name)) => zone = name,
            Ok(Word::Ready(addresses)) => {
                let Some(period) = watchdog else { return };
                let feed = || notify(&[NotifyState::Watchdog]);
                return watch_over(words, &addresses, zone, period / 3, &feed);
            }
            Err(RecvTimeoutError::Timeout) if started.elapsed() < LONGEST_START => {
                notify(&[NotifyState::ExtendTimeoutUsec(MORE_TIME.as_micros() as u32)]);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Asks the server, and feeds the watchdog if it answers, until told to stop.
fn watch_over(
    words: &Receiver<Word>,
    addresses: &[SocketAddr],
    mut zone: Name,
    every: Duration,
    feed: &dyn Fn(),
) {
    if addresses.is_empty() {
        warn!("the watchdog is fed without a question: no listener takes plain UDP from anybody");
    }
    let mut is_silent = false;
    let mut next = Instant::now();
    loop {
        match words.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Word::Ask(name)) => {
                zone = name;
                continue;
            }
            Ok(Word::Ready(_)) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => next = Instant::now() + every,
        }
        if addresses.is_empty() || answers_itself(addresses, &zone, every / 2) {
            feed();
            if std::mem::take(&mut is_silent) {
                info!("the server answers itself again");
            }
        } else if !std::mem::replace(&mut is_silent, true) {
            warn!("the server does not answer itself; the watchdog is not fed");
        }
    }
}

/// Whether a query to one of the addresses is answered in time, whatever the answer.
fn answers_itself(addresses: &[SocketAddr], zone: &Name, time: Duration) -> bool {
    (1..=TRIES).any(|number| {
        let address = addresses[number as usize % addresses.len()];
        is_answered(address, zone, number as u16, time / TRIES)
            .inspect_err(|error| debug!("no answer of our own at {address}: {error}"))
            .is_ok()
    })
}

fn is_answered(address: SocketAddr, zone: &Name, number: u16, time: Duration) -> io::Result<()> {
    let (any, own): (IpAddr, IpAddr) = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
    };
    let mut to = address;
    if to.ip().is_unspecified() {
        to.set_ip(own);
    }
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    let mut question = query(zone, Rtype::SOA, None);
    question[..2].copy_from_slice(&number.to_be_bytes());
    socket.send(&question)?;
    let end = Instant::now() + time;
    let mut answer = [0; 512];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut answer)?;
        // With QR set: a response.
        if length >= 12 && answer[..2] == question[..2] && answer[2] & 0x80 != 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_query_counts_only_when_it_was_answered() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        assert!(!answers_itself(&[at], &Name::root(), Duration::from_millis(80)));
        let answering = thread::spawn(move || {
            let mut query = [0; 512];
            for _ in 0..=TRIES {
                let (length, from) = server.recv_from(&mut query).unwrap();
                // Sent back as it is, it is no response; the next time it is one.
                let _ = server.send_to(&query[..length], from);
                query[2] |= 0x80;
                let _ = server.send_to(&query[..length], from);
            }
        });
        assert!(answers_itself(&[at], &Name::root(), Duration::from_secs(8)));
        answering.join().unwrap();
    }

    #[test]
    fn the_watchdog_starves_with_the_server() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let (words, received) = channel();
        let fed = &AtomicUsize::new(0);
        thread::scope(|scope| {
            let feed = || {
                fed.fetch_add(1, Ordering::Relaxed);
            };
            scope.spawn(move || watch_over(&received, &[at], Name::root(), Duration::from_millis(30), &feed));
            thread::sleep(Duration::from_millis(200));
            drop(words);
        });
        assert_eq!(fed.load(Ordering::Relaxed), 0);
    }
}
