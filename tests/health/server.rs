//! Servers of a few lines: what they send is written down octet by octet.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian::site::{Check, CheckKind, HttpCheck};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Long enough never to be the reason; a test that needs a time-out sets its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One step of what a server does after it was asked.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A packet.
    Send(Vec<u8>),
    /// Long enough for what was sent to be read before the next.
    Pause,
    /// The same octets until the other side has had enough.
    SendForEver(Vec<u8>),
    /// Say nothing until the other side leaves.
    Hold,
}

/// A server of one script for everybody; dropped, it is gone at once with all of its connections.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Reads a request's head, then does what the script says, then closes.
    pub(crate) async fn start(script: Vec<Step>) -> Server {
        Server::start_at(SocketAddr::new(own_address(), 0), script).await
    }

    /// At an address where one stood before. Meanwhile somebody else may have been given the same port at all addresses, for a moment.
    pub(crate) async fn start_at(at: SocketAddr, script: Vec<Step>) -> Server {
        let end = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(at).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                bound => break bound.unwrap(),
            }
        };
        let at = SocketAddr::new(at.ip(), listener.local_addr().unwrap().port());
        let (connections, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, written) = (Arc::clone(&connections), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            let mut conversations = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let (script, written) = (script.clone(), Arc::clone(&written));
                conversations.spawn(async move {
                    let mut stream: TcpStream = stream;
                    if let Some(head) = read_head(&mut stream).await {
                        written.lock().unwrap().push(head);
                        play(&script, &mut stream).await;
                    }
                });
                while conversations.try_join_next().is_some() {}
            }
        });
        Server { at, connections, heads, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Until nobody listens at its address.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A healthy web server, as short as it gets.
pub(crate) fn good() -> Vec<Step> {
    vec![Step::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())]
}

/// One that says that it is not well.
pub(crate) fn ill() -> Vec<Step> {
    vec![Step::Send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec())]
}

/// An address that no other server of this test run has.
pub(crate) fn own_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 77, high, low))
}

/// `GET /`, anything from 200 to 399, once in as long as tests are patient.
pub(crate) fn http_check(port: u16) -> Check {
    let http =
        HttpCheck { path: "/".to_owned(), host: None, status: vec![(200, 399)], body: None, load: None };
    of_kind(CheckKind::Http(http), Some(port))
}

/// Once in as long as tests are patient.
pub(crate) fn of_kind(kind: CheckKind, port: Option<u16>) -> Check {
    Check { kind, port, every: PATIENCE, timeout: PATIENCE, fall: 2, rise: 2, jitter: 10 }
}

/// Up to the empty line; None when the other side leaves before it.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

pub(crate) async fn play(script: &[Step], stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    for step in script {
        match step {
            Step::Send(octets) => {
                if stream.write_all(octets).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Step::Pause => tokio::time::sleep(Duration::from_millis(3)).await,
            Step::SendForEver(octets) => while stream.write_all(octets).await.is_ok() {},
            Step::Hold => while stream.read_u8().await.is_ok() {},
        }
    }
    let _ = stream.shutdown().await;
}
