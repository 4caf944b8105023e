//! One attempt: a connection, an exchange over it, an echo, a program or a file, about exactly this address.
//!
//! No pool, no redirects, no proxies, no name resolution: what is asked is whether *this* address works.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::judge::Attempt;
use crate::finding::printable;
use crate::site::{Check, CheckKind};

mod dns;
mod exec;
mod file;
mod http;
mod icmp;
mod tls;

pub use tls::{Certificate, read_roots};

/// What is read of a body in search of a text, in octets.
pub const LONGEST_BODY: usize = 64 << 10;

/// What is told of another program's words, in characters.
const LONGEST_WORDS: usize = 200;

/// A check made ready.
pub struct Probe {
    check: Check,
    trusting: tls::Trusting,
    reading: file::Reading,
    learned: Mutex<Learned>,
}

/// What a success told besides.
#[derive(Clone, Debug, Default)]
struct Learned {
    /// A program's words.
    words: Option<String>,
    load: Option<f64>,
}

/// What the last attempt learned besides its result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remarks {
    /// What a program said of a success.
    pub words: Option<String>,
    /// What the site has to do, in the unit of its capacity.
    pub load: Option<f64>,
    /// What a server showed in the last handshake.
    pub certificate: Option<Certificate>,
}

impl Probe {
    /// Prepares a check. Never fails: what is wrong with its certificates is what each attempt says.
    #[must_use]
    pub fn new(check: &Check) -> Probe {
        Probe {
            check: check.clone(),
            trusting: tls::Trusting::default(),
            reading: file::Reading::default(),
            learned: Mutex::default(),
        }
    }

    /// Tries once, for at most the check's timeout.
    pub async fn attempt(&self, address: IpAddr) -> Attempt {
        let until = Deadline { at: Instant::now() + self.check.timeout, timeout: self.check.timeout };
        let (attempt, learned) = match self.try_once(address, until).await {
            Ok(learned) => (Attempt::Success, learned),
            Err(Trouble::Theirs(text)) => (Attempt::Failure(text), Learned::default()),
            Err(Trouble::Ours(text)) => (Attempt::LocalTrouble(text), Learned::default()),
        };
        *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = learned;
        attempt
    }

    /// What the last attempt learned besides.
    #[must_use]
    pub fn remarks(&self) -> Remarks {
        let Learned { words, load } = self.learned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Remarks { words, load, certificate: self.trusting.certificate() }
    }

    async fn try_once(&self, address: IpAddr, until: Deadline) -> Result<Learned, Trouble> {
        let at = SocketAddr::new(address, self.check.port.unwrap_or_default());
        let mut learned = Learned::default();
        match &self.check.kind {
            CheckKind::Tcp => drop(connect(at, until).await?),
            CheckKind::Http(http) => {
                learned.load = http::exchange(connect(at, until).await?, http, at, 80, until).await?;
            }
            CheckKind::Https(http, tls) => {
                // Before connecting: without certificates of ours nothing that a server does says anything.
                let connector = self.trusting.connector(tls).map_err(Trouble::Ours)?;
                let stream = connect(at, until).await?;
                let stream = self.trusting.shake_hands(connector, stream, (http, tls), at, until).await?;
                learned.load = http::exchange(stream, http, at, 443, until).await?;
            }
            CheckKind::Dns(dns) => dns::ask(dns, at, until).await?,
            CheckKind::Icmp => icmp::echo(address, until).await?,
            CheckKind::Exec(exec) => learned.words = exec::run(exec, at, until).await?,
            CheckKind::File(file) => learned.words = self.reading.read(file, address, until).await?,
        }
        Ok(learned)
    }
}

async fn connect(address: SocketAddr, until: Deadline) -> Result<TcpStream, Trouble> {
    let connected = async {
        TcpStream::connect(address).await.map_err(|error| Trouble::of_socket("connect", address, &error))
    };
    let stream = until.bound("connect: nothing", connected).await?;
    // A port of this machine's own that nobody listens on may be the one that the connection leaves from,
    // and TCP then connects it to itself.
    if stream.local_addr().is_ok_and(|own| own == address) {
        return Err(Trouble::Theirs("connect: nobody listens".to_owned()));
    }
    Ok(stream)
}

/// The first line that is not empty, as far as it is worth telling.
fn first_line(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(octets);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(printable(line).chars().take(LONGEST_WORDS).collect())
}

/// When an attempt has failed, and how long that is from its start.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// `missing` is what did not come.
    async fn bound<T>(
        self,
        missing: &str,
        step: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        match timeout_at(self.at, step).await {
            Ok(done) => done,
            Err(_) => Err(Trouble::Theirs(format!("{missing} within {:?}", self.timeout))),
        }
    }
}

/// Why an attempt failed, and whose fault it is.
#[derive(Debug, PartialEq)]
enum Trouble {
    Theirs(String),
    Ours(String),
}

fn theirs(what: &str, error: &dyn Display) -> Trouble {
    Trouble::Theirs(format!("{what}: {error}"))
}

impl Trouble {
    /// `what` is what the kernel refused, or told to have been refused.
    fn of_socket(what: &str, address: SocketAddr, error: &io::Error) -> Trouble {
        let text = format!("{what}: {error}");
        let is_ours = match error.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOBUFS
                | Errno::ENOMEM
                | Errno::EAFNOSUPPORT
                | Errno::EADDRNOTAVAIL
                | Errno::ENETDOWN
                | Errno::EACCES
                | Errno::EPERM,
            ) => true,
            // Told by our own routing table (EINVAL: a black hole, or a link-local address), or by a router
            // on the way to a network or machine that is gone.
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL) => !has_route(address),
            _ => false,
        };
        if is_ours { Trouble::Ours(text) } else { Trouble::Theirs(text) }
    }
}

/// Connecting a UDP socket asks the routing table and sends nothing.
fn has_route(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, errno: Errno) -> Trouble {
        Trouble::of_socket("connect", address.parse().unwrap(), &io::Error::from_raw_os_error(errno as i32))
    }

    #[test]
    fn meaning_7_what_this_machine_lacks_is_our_own_trouble() {
        for errno in
            [Errno::EMFILE, Errno::ENFILE, Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::ENETDOWN]
        {
            assert!(matches!(told("127.0.0.1:80", errno), Trouble::Ours(_)), "{errno}");
        }
    }

    #[test]
    fn meaning_7_unreachable_is_theirs_where_we_have_a_route_and_ours_where_we_have_none() {
        for errno in [Errno::ENETUNREACH, Errno::EHOSTUNREACH] {
            assert!(matches!(told("127.0.0.1:80", errno), Trouble::Theirs(_)), "{errno}");
            // A link-local address without its interface has no route anywhere.
            assert!(matches!(told("[fe80::1]:80", errno), Trouble::Ours(_)), "{errno}");
        }
    }
}
