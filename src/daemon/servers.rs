//! The threads that answer: sockets bound first, read when there is something to answer from.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch as flag;
use tracing::{error, warn};

use super::Published;
use crate::config::Config;
use crate::nameserver::counters::{Counters, Totals};
use crate::nameserver::{Request, Transport, Worker, respond};
use crate::transport::{Responder, tcp, udp};

/// Sockets that are bound and not read yet: the kernel keeps what comes until there is something to answer from.
pub(super) struct Listeners {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Listeners {
    pub(super) fn bind(config: &Config) -> Result<Listeners, String> {
        let workers = match config.workers {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        let mut listeners = Listeners { udp: Vec::new(), tcp: Vec::new(), addresses: Vec::new() };
        for listener in &config.listen {
            let address = listener.address;
            let told = |error: io::Error| {
                let hint = match error.kind() {
                    io::ErrorKind::AddrInUse => "; does another server run there?",
                    io::ErrorKind::PermissionDenied => {
                        "; ports below 1024 need root, CAP_NET_BIND_SERVICE or a systemd socket"
                    }
                    io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
                    _ => "",
                };
                format!("cannot listen on {address}: {error}{hint}")
            };
            // TCP first: it refuses an address that another process uses, UDP would share it.
            let (tcp, udp) = bind_both(address, workers).map_err(told)?;
            listeners.addresses.extend(tcp.local_addr());
            listeners.tcp.push(tcp);
            listeners.udp.extend(udp);
        }
        Ok(listeners)
    }

    pub(super) fn serve(self, published: &Arc<ArcSwap<Published>>) -> Result<Servers, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stopped) = flag::channel(false);
        let mut servers = Servers {
            threads: Vec::new(),
            counters: Vec::new(),
            panics: Arc::default(),
            stop,
            stop_tcp,
            addresses: self.addresses,
        };
        for (number, socket) in self.udp.into_iter().enumerate() {
            let mut answerer = servers.answerer(published, Transport::Udp);
            let stop = Arc::clone(&servers.stop);
            servers.spawn(format!("udp-{number}"), move || udp::serve(&socket, &mut answerer, &stop))?;
        }
        let answerer = servers.answerer(published, Transport::Tcp);
        let tcp_listeners = self.tcp;
        servers.spawn("tcp".to_owned(), move || {
            let limits = tcp::Limits { connections: connections(), ..tcp::Limits::default() };
            if let Err(error) = tcp::serve(tcp_listeners, answerer, limits, stopped) {
                error!("TCP is not served: {error}");
            }
        })?;
        Ok(servers)
    }
}

/// As many as are allowed, but for the descriptors that checks, reloads and the control socket need: with none left, our
/// own trouble would count every site as up. Takes what the system allows at most.
fn connections() -> usize {
    const RESERVE: u64 = 128;
    let most = tcp::Limits::default().connections;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return most };
    let descriptors = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let left = descriptors.saturating_sub(RESERVE.max(descriptors / 4));
    let connections = most.min(usize::try_from(left).unwrap_or(most)).max(1);
    if connections < most {
        warn!(
            "at most {connections} TCP connections: {descriptors} descriptors are allowed (ulimit -n, LimitNOFILE=)"
        );
    }
    connections
}

/// Port 0 is chosen by TCP; UDP may find it taken, and then another is tried.
fn bind_both(address: SocketAddr, workers: usize) -> io::Result<(TcpListener, Vec<UdpSocket>)> {
    let mut tries = if address.port() == 0 { 20 } else { 1 };
    loop {
        tries -= 1;
        let tcp = tcp::bind(address)?;
        match udp::bind(tcp.local_addr()?, workers) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// The threads that answer.
pub(super) struct Servers {
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
    panics: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    stop_tcp: flag::Sender<bool>,
    addresses: Vec<SocketAddr>,
}

impl Servers {
    fn answerer(&mut self, published: &Arc<ArcSwap<Published>>, transport: Transport) -> Answerer {
        let worker = Worker::default();
        self.counters.push(worker.counters());
        Answerer {
            worker,
            published: arc_swap::Cache::new(Arc::clone(published)),
            transport,
            now: 0,
            panics: Arc::clone(&self.panics),
        }
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let thread =
            thread::Builder::new().name(name).spawn(run).map_err(|error| format!("no thread: {error}"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Messages that cost their own answer.
    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// What all of them counted.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.counters {
            counters.add_to(&mut totals);
        }
        totals
    }

    /// Ends them, and waits until they did.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stop_tcp.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers on one thread, from what is published at the time.
struct Answerer {
    worker: Worker,
    published: arc_swap::Cache<Arc<ArcSwap<Published>>, Arc<Published>>,
    transport: Transport,
    /// Seconds since 1970, as of the last batch.
    now: u32,
    panics: Arc<AtomicU64>,
}

impl Responder for Answerer {
    fn respond(&mut self, message: &[u8], client: IpAddr, out: &mut [u8]) -> Option<usize> {
        let Answerer { worker, published, transport, now, panics } = self;
        let Published { snapshot, board } = &**published.load();
        let request = Request { bytes: message, client, transport: *transport, now: *now };
        // Nothing is known to panic. Should a message be found that does, it costs its own answer and no other.
        let answer = AssertUnwindSafe(|| respond(worker, &request, snapshot, board, out).length());
        catch_unwind(answer).unwrap_or_else(|_| {
            panics.fetch_add(1, Ordering::Relaxed);
            None
        })
    }

    fn refresh(&mut self) {
        self.published.load();
        self.now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32);
    }
}
