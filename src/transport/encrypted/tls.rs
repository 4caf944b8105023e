//! DNS over TLS (RFC 7858): a stream like TCP's, with a handshake before it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::{Identity, TLS_VERSIONS};
use crate::transport::tcp::{Door, Entrance, Guest, Limits, serve_connection, serve_with};
use crate::transport::{Count, Counters, Responder, Stop};

/// For a goodbye: whoever does not take it goes without.
const FAREWELL: Duration = Duration::from_millis(100);

/// A client that names no protocol gets this one; one that names others alone is refused (RFC 7301 3.2).
const PROTOCOLS: &[&str] = &["dot"];

/// Answers what comes in at some listeners until `stop` says so. Needs a thread of its own.
///
/// # Errors
/// There is no runtime to be had, or no TLS.
pub fn serve(
    entrances: Vec<Entrance>,
    identity: &Arc<Identity>,
    responder: impl Responder + 'static,
    limits: Limits,
    counters: Arc<Counters>,
    stop: watch::Receiver<Stop>,
) -> io::Result<()> {
    let config = identity.config(TLS_VERSIONS, PROTOCOLS).map_err(io::Error::other)?;
    let door = Door::new(responder, limits, counters);
    serve_with(entrances, door, stop, move |stream, guest| converse(stream, guest, Arc::clone(&config)))
}

async fn converse<R: Responder>(
    stream: TcpStream,
    guest: Guest<R>,
    config: Arc<ServerConfig>,
) -> io::Result<()> {
    let mut stream = shake_hands(stream, &guest, config).await?;
    let result = serve_connection(&mut stream, &guest).await;
    // Without it the client cannot tell an end from somebody's cut (RFC 8446 6.1).
    let _ = timeout(FAREWELL, stream.shutdown()).await;
    result
}

/// A handshake, within its time.
pub(super) async fn shake_hands<R: Responder>(
    stream: TcpStream,
    guest: &Guest<R>,
    config: Arc<ServerConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let handshake = TlsAcceptor::from(config).accept(stream);
    guest.prepare(handshake).await.inspect_err(|_| guest.count(Count::FailedHandshakes))
}
