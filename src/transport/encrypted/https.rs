//! DNS over HTTPS (RFC 8484), by HTTP/2 and HTTP/1.1: hyper reads, and everything that it lets a client hold is bounded
//! here: requests at a time, octets of heads, of bodies, and of responses that were not taken.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;

use super::tls::shake_hands;
use super::{Identity, TLS_VERSIONS, freshness};
use crate::transport::connections::Phase;
use crate::transport::tcp::{Door, Entrance, Guest, Limits, serve_with};
use crate::transport::{Count, Counters, Responder};

/// A client that names none speaks HTTP/1.1.
const PROTOCOLS: &[&str] = &["h2", "http/1.1"];

/// The media type of a message (RFC 8484 6).
const DNS_MESSAGE: &str = "application/dns-message";

/// Requests that one connection may have under way.
const STREAMS: u32 = 100;
/// Octets of a head. A query in `?dns=` that is longer than this allows goes by POST.
const LONGEST_HEAD: usize = 16 << 10;
/// Fields of a head.
const MOST_FIELDS: usize = 64;
/// Requests that were reset before they were looked at, and those that were wrong in themselves: more, and the connection
/// has to go (CVE-2023-44487, RUSTSEC-2024-0332).
const RESETS: usize = 20;
const WRONG_STREAMS: usize = 100;
const LONGEST_MESSAGE: usize = u16::MAX as usize;
/// Octets that one connection may hold of bodies that come, and of responses that leave.
const HELD: usize = 4 * LONGEST_MESSAGE;
/// For a goodbye: whoever does not take it goes without.
const FAREWELL: Duration = Duration::from_millis(100);

/// Answers what comes in at some listeners until `stop` says so. Needs a thread of its own.
///
/// # Errors
/// There is no runtime to be had, or no TLS.
pub fn serve(
    entrances: Vec<Entrance>,
    identity: &Arc<Identity>,
    path: &str,
    responder: impl Responder + 'static,
    limits: Limits,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let config = identity.config(TLS_VERSIONS, PROTOCOLS).map_err(io::Error::other)?;
    let path: Rc<str> = path.into();
    let door = Door::new(responder, limits, counters);
    serve_with(entrances, door, stop, move |stream, guest| {
        converse(stream, guest, Arc::clone(&config), Rc::clone(&path))
    })
}

async fn converse<R: Responder + 'static>(
    stream: TcpStream,
    guest: Guest<R>,
    config: Arc<ServerConfig>,
    path: Rc<str>,
) -> io::Result<()> {
    let stream = shake_hands(stream, &guest, config).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let guest = Rc::new(guest);
    let stalled = Stalled::default();
    let desk = Rc::new(Desk {
        guest: Rc::clone(&guest),
        path,
        coming: Semaphore::new(HELD),
        going: Arc::new(Semaphore::new(HELD)),
        stalled: Rc::clone(&stalled),
    });
    let service = service_fn(move |request| {
        let desk = Rc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let io = TokioIo::new(Watched { stream, guest: Rc::clone(&guest), stalled });
    // Both end alike, but share no trait.
    macro_rules! serve_until_sent_away {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            let work = async { Ok(connection.as_mut().await.map_err(io::Error::other)) };
            match guest.unless_sent_away(work).await {
                Ok(ended) => ended,
                Err(error) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(FAREWELL, connection).await;
                    Err(error)
                }
            }
        }};
    }
    if is_http2 {
        serve_until_sent_away!(
            http2::Builder::new(Here)
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(LONGEST_HEAD as u32)
                .max_pending_accept_reset_streams(RESETS)
                .max_local_error_reset_streams(WRONG_STREAMS)
                .initial_stream_window_size(LONGEST_MESSAGE as u32)
                .initial_connection_window_size(HELD as u32)
                .max_send_buf_size(LONGEST_MESSAGE)
                .serve_connection(io, service)
        )
    } else {
        serve_until_sent_away!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // Whoever is idle, or slow, is sent away by other means.
                .header_read_timeout(None)
                .max_headers(MOST_FIELDS)
                .max_buf_size(LONGEST_HEAD)
                .serve_connection(io, service)
        )
    }
}

/// Runs what HTTP/2 has to run beside a connection on the thread that it lives on.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// Where the requests of one connection are answered.
struct Desk<R: Responder> {
    guest: Rc<Guest<R>>,
    path: Rc<str>,
    /// Room for bodies that come.
    coming: Semaphore,
    /// Room for responses that leave.
    going: Arc<Semaphore>,
    stalled: Stalled,
}

/// Octets that were taken since it was last told that the client does not take what it asked for; none if it does.
type Stalled = Rc<Cell<Option<usize>>>;

/// Why there is no answer.
struct Refusal(StatusCode, &'static str);

impl<R: Responder> Desk<R> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        match self.try_answer(&head, &mut body).await {
            Ok(response) => response,
            Err(Refusal(status, text)) => {
                self.drain(body).await;
                let is_head = head.method == Method::HEAD;
                let mut response = Response::new(Full::from(if is_head { "" } else { text }));
                *response.status_mut() = status;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                }
                response
            }
        }
    }

    /// Hears a body out, within limits: over HTTP/2 its stream would be reset behind the response, which some clients take
    /// for a failure of the whole (curl 7.88).
    async fn drain(&self, mut body: Incoming) {
        let read = async {
            let mut left = LONGEST_MESSAGE;
            while let Some(Ok(frame)) = body.frame().await
                && let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len))
            {
                left = rest;
            }
        };
        let _ = timeout(self.guest.limits().message, read).await;
    }

    async fn try_answer(&self, head: &Parts, body: &mut Incoming) -> Result<Response<Full<Bytes>>, Refusal> {
        let query = self.query(head, body).await?;
        let room = Arc::clone(&self.going).acquire_many_owned(LONGEST_MESSAGE as u32);
        let Ok(Ok(mut room)) = timeout(self.guest.limits().message, room).await else {
            self.guest.count(Count::CutOffUnread);
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "take what you asked for first\n"));
        };
        let Some(octets) = self.guest.respond(&query) else {
            return Err(Refusal(StatusCode::BAD_REQUEST, "this is no query\n"));
        };
        // A request that is answered is what keeps a connection; nothing else does.
        if self.stalled.get().is_none() {
            self.guest.begin(Phase::Idle);
        }
        drop(room.split(LONGEST_MESSAGE - octets.len()));
        // Between a client and a server that answers by who asks, no cache that others share may keep the answer.
        let control = format!("private, max-age={}", freshness(&octets).unwrap_or(0));
        let mut response = Response::new(Full::new(Bytes::from_owner(Leaving { octets, _room: room })));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
        headers.extend(HeaderValue::try_from(control).ok().map(|control| (CACHE_CONTROL, control)));
        Ok(response)
    }

    /// The message in a request.
    async fn query(&self, head: &Parts, body: &mut Incoming) -> Result<Vec<u8>, Refusal> {
        if head.uri.path() != &*self.path {
            return Err(Refusal(StatusCode::NOT_FOUND, "there is nothing here\n"));
        }
        match head.method {
            Method::GET => query_of_uri(head.uri.query().unwrap_or_default()),
            Method::POST => self.query_of_body(head, body).await,
            _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n")),
        }
    }

    async fn query_of_body(&self, head: &Parts, body: &mut Incoming) -> Result<Vec<u8>, Refusal> {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(DNS_MESSAGE) {
            return Err(Refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content-type: application/dns-message\n",
            ));
        }
        let too_long = Refusal(StatusCode::PAYLOAD_TOO_LARGE, "longer than a message can be\n");
        let announced = body.size_hint().upper().unwrap_or(LONGEST_MESSAGE as u64);
        let Some(announced) = u32::try_from(announced).ok().filter(|length| *length <= u32::from(u16::MAX))
        else {
            return Err(too_long);
        };
        let read = async {
            let _room = self.coming.acquire_many(announced).await.ok();
            Limited::new(body, LONGEST_MESSAGE).collect().await.map(|body| body.to_bytes().to_vec())
        };
        match timeout(self.guest.limits().message, read).await {
            Ok(Ok(query)) => Ok(query),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_long),
            Ok(Err(_)) => Err(Refusal(StatusCode::BAD_REQUEST, "the body broke off\n")),
            Err(_) => {
                self.guest.count(Count::CutOffSlow);
                Err(Refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"))
            }
        }
    }
}

/// RFC 8484 4.1: the parameter `dns`, base64url without padding.
fn query_of_uri(parameters: &str) -> Result<Vec<u8>, Refusal> {
    let Some(text) = parameters.split('&').find_map(|parameter| parameter.strip_prefix("dns=")) else {
        return Err(Refusal(StatusCode::BAD_REQUEST, "?dns= is missing\n"));
    };
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|_| Refusal(StatusCode::BAD_REQUEST, "?dns= is no base64url without padding\n"))
}

/// A response, and its room, which is given back when hyper has written it.
struct Leaving {
    octets: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// A stream that tells when its client does not take what it asked for.
struct Watched<S, R: Responder> {
    stream: S,
    guest: Rc<Guest<R>>,
    stalled: Stalled,
}

impl<S, R: Responder> Watched<S, R> {
    fn stall(&self) {
        if self.stalled.get().is_none() {
            self.stalled.set(Some(0));
            self.guest.begin(Phase::Output);
        }
    }

    /// Whoever takes a little is still slow.
    fn took(&self, count: usize) {
        if let Some(taken) = self.stalled.get() {
            self.stalled.set(Some(taken + count));
            if taken + count >= LONGEST_MESSAGE {
                self.stalled.set(Some(0));
                self.guest.begin(Phase::Output);
            }
        }
    }
}

impl<S: AsyncRead + Unpin, R: Responder> AsyncRead for Watched<S, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, R: Responder> AsyncWrite for Watched<S, R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        match &written {
            Poll::Pending => self.stall(),
            Poll::Ready(Ok(count)) => self.took(*count),
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        match &flushed {
            Poll::Pending => self.stall(),
            Poll::Ready(Ok(())) => {
                if self.stalled.take().is_some() {
                    self.guest.begin(Phase::Idle);
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(parameters: &str) -> Result<Vec<u8>, u16> {
        query_of_uri(parameters).map_err(|Refusal(status, _)| status.as_u16())
    }

    #[test]
    fn queries_in_uris() {
        // The example of RFC 8484 4.1.1.
        let query = told("dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB").expect("a query");
        assert_eq!(&query[12..], b"\x03www\x07example\x03com\0\0\x01\0\x01");
        assert_eq!(told("ct&dns=AAA&x=1"), Ok(vec![0, 0]));
        for wrong in ["", "dsn=AAA", "dns=AAA=", "dns=A+A/", "dns=A", "dns=%41AA", "dns=\u{e9}"] {
            assert_eq!(told(wrong), Err(400), "{wrong}");
        }
    }
}
