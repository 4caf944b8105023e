//! DNS over HTTPS (RFC 8484), by HTTP/2 and HTTP/1.1: hyper reads, and everything that it lets a client hold is bounded
//! here: requests at a time, octets of heads, of bodies, and of responses that were not taken.

use std::borrow::Cow;
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
use hyper::body::{Body, Buf, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;

use super::tls::shake_hands;
use super::{Identity, TLS_VERSIONS, freshness};
use crate::transport::connections::Phase;
use crate::transport::tcp::{Door, Entrance, Guest, Limits, serve_with};
use crate::transport::{Count, Counters, Responder, Stop};

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
    stop: watch::Receiver<Stop>,
) -> io::Result<()> {
    let config = identity.config(TLS_VERSIONS, PROTOCOLS).map_err(io::Error::other)?;
    let path: Rc<str> = path.into();
    let going_in_all = Arc::new(Semaphore::new(limits.unread_in_all));
    let door = Door::new(responder, limits, counters);
    serve_with(entrances, door, stop, move |stream, guest| {
        converse(stream, guest, Arc::clone(&config), Rc::clone(&path), Arc::clone(&going_in_all))
    })
}

async fn converse<R: Responder + 'static>(
    stream: TcpStream,
    guest: Guest<R>,
    config: Arc<ServerConfig>,
    path: Rc<str>,
    going_in_all: Arc<Semaphore>,
) -> io::Result<()> {
    let stream = shake_hands(stream, &guest, config).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let guest = Rc::new(guest);
    let outgoing = Rc::new(Outgoing {
        guest: Rc::clone(&guest),
        responses: Cell::new(0),
        is_stalled: Cell::new(false),
        taken: Cell::new(0),
    });
    let desk = Rc::new(Desk {
        guest: Rc::clone(&guest),
        path,
        coming: Semaphore::new(HELD),
        going: Arc::new(Semaphore::new(HELD)),
        going_in_all,
        outgoing: Rc::clone(&outgoing),
    });
    let service = service_fn(move |request| {
        let desk = Rc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let io = TokioIo::new(Watched { stream, outgoing: Rc::clone(&outgoing) });
    // Both end alike, but share no trait.
    macro_rules! serve_until_sent_away {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            let work = async { Ok(connection.as_mut().await.map_err(io::Error::other)) };
            match guest.unless_sent_away(work).await {
                Ok(ended) => ended,
                // It would stand behind all that is not taken, and that has to go now.
                Err(error) if outgoing.is_waiting() => Err(error),
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
    /// The same of all connections.
    going_in_all: Arc<Semaphore>,
    outgoing: Rc<Outgoing<R>>,
}

/// A message, and the room that it takes, where it came as a body.
type Query<'a> = (Vec<u8>, Option<SemaphorePermit<'a>>);

/// Why there is no answer.
struct Refusal(StatusCode, &'static str);

impl<R: Responder> Desk<R> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Leaving<R>>> {
        let (head, mut body) = request.into_parts();
        match self.try_answer(&head, &mut body).await {
            Ok(response) => response,
            Err(Refusal(status, text)) => {
                self.drain(body).await;
                let is_head = head.method == Method::HEAD;
                let text = if is_head { "" } else { text };
                let mut response = Response::new(Full::new(Leaving::new(text.as_bytes().into(), None)));
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

    async fn try_answer(
        &self,
        head: &Parts,
        body: &mut Incoming,
    ) -> Result<Response<Full<Leaving<R>>>, Refusal> {
        let (query, _room_of_query) = self.query(head, body).await?;
        let answered = Place::wait_for(self).await.and_then(|mut place| {
            let octets = self.guest.respond(&query)?;
            place.take(octets.len());
            Some((place, octets))
        });
        let Some((place, octets)) = answered else {
            return Err(Refusal(StatusCode::BAD_REQUEST, "this is no query\n"));
        };
        // Between a client and a server that answers by who asks, no cache that others share may keep the answer.
        let control = format!("private, max-age={}", freshness(&octets).unwrap_or(0));
        let mut response = Response::new(Full::new(Leaving::new(octets.into(), Some(place))));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
        headers.extend(HeaderValue::try_from(control).ok().map(|control| (CACHE_CONTROL, control)));
        Ok(response)
    }

    /// The message in a request, and the room that it takes.
    async fn query(&self, head: &Parts, body: &mut Incoming) -> Result<Query<'_>, Refusal> {
        if head.uri.path() != &*self.path {
            return Err(Refusal(StatusCode::NOT_FOUND, "there is nothing here\n"));
        }
        match head.method {
            Method::GET => Ok((query_of_uri(head.uri.query().unwrap_or_default())?, None)),
            Method::POST => self.query_of_body(head, body).await,
            _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n")),
        }
    }

    async fn query_of_body(&self, head: &Parts, body: &mut Incoming) -> Result<Query<'_>, Refusal> {
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
            let room = self.coming.acquire_many(announced).await.ok();
            let body = Limited::new(body, LONGEST_MESSAGE).collect().await?;
            Ok((body.to_bytes().to_vec(), room))
        };
        match timeout(self.guest.limits().message, read).await {
            Ok(Ok(query)) => Ok(query),
            Ok(Err::<_, Box<dyn std::error::Error + Send + Sync>>(error))
                if error.is::<http_body_util::LengthLimitError>() =>
            {
                Err(too_long)
            }
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

/// What one connection has yet to send. While there is any, its client has as long for it as over TCP: all, or 64 KiB of
/// it, in 2 s. Whether the kernel has no room for more or the client keeps a window of HTTP/2 shut (RFC 9113 5.2) is the
/// same to whoever pays for the memory.
struct Outgoing<R: Responder> {
    guest: Rc<Guest<R>>,
    /// Responses that hyper has yet to write.
    responses: Cell<usize>,
    /// The kernel takes no more.
    is_stalled: Cell<bool>,
    /// Octets that were taken since the time began to run.
    taken: Cell<usize>,
}

impl<R: Responder> Outgoing<R> {
    fn is_waiting(&self) -> bool {
        self.responses.get() > 0 || self.is_stalled.get()
    }

    fn start_time(&self) {
        self.taken.set(0);
        self.guest.begin(Phase::Output);
    }

    fn stall(&self) {
        if !self.is_waiting() {
            self.start_time();
        }
        self.is_stalled.set(true);
    }

    /// Whoever takes a little is still slow.
    fn took(&self, count: usize) {
        self.taken.set(self.taken.get() + count);
        if self.is_waiting() && self.taken.get() >= LONGEST_MESSAGE {
            self.start_time();
        }
    }

    fn flushed(&self) {
        if self.is_stalled.take() && !self.is_waiting() {
            self.guest.begin(Phase::Idle);
        }
    }
}

/// The room that a response takes until hyper has written it, or its client wants it no more.
struct Place<R: Responder> {
    outgoing: Rc<Outgoing<R>>,
    octets: usize,
    /// Of its connection, and of all.
    rooms: Vec<OwnedSemaphorePermit>,
    has_response: bool,
}

impl<R: Responder> Place<R> {
    /// Room for any response, behind what was asked before. Whoever does not take that in time has to go, and when all
    /// clients together have too much to take, whoever has been at it for the longest: nobody waits for them.
    async fn wait_for(desk: &Desk<R>) -> Option<Place<R>> {
        let of_connection = Arc::clone(&desk.going).acquire_many_owned(LONGEST_MESSAGE as u32).await.ok()?;
        desk.guest.hold(LONGEST_MESSAGE);
        let outgoing = Rc::clone(&desk.outgoing);
        let rooms = vec![of_connection];
        let mut place = Place { outgoing, octets: LONGEST_MESSAGE, rooms, has_response: false };
        // Whoever was told to go has yet to do so.
        let of_all = Arc::clone(&desk.going_in_all).acquire_many_owned(LONGEST_MESSAGE as u32).await.ok()?;
        place.rooms.push(of_all);
        Some(place)
    }

    /// There is a response, of so many octets.
    fn take(&mut self, octets: usize) {
        let outgoing = &self.outgoing;
        if !outgoing.is_waiting() {
            outgoing.start_time();
        }
        outgoing.responses.set(outgoing.responses.get() + 1);
        self.has_response = true;
        let spared = self.octets - octets;
        outgoing.guest.let_go(spared);
        self.rooms.iter_mut().for_each(|room| drop(room.split(spared)));
        self.octets = octets;
    }
}

impl<R: Responder> Drop for Place<R> {
    fn drop(&mut self) {
        let outgoing = &self.outgoing;
        outgoing.guest.let_go(self.octets);
        if self.has_response {
            outgoing.responses.set(outgoing.responses.get() - 1);
            // A request that is answered is what keeps a connection; nothing else does.
            if !outgoing.is_waiting() {
                outgoing.guest.begin(Phase::Idle);
            }
        }
    }
}

/// A body, and the room that it takes if it is a response of DNS.
struct Leaving<R: Responder> {
    octets: Cow<'static, [u8]>,
    taken: usize,
    _place: Option<Place<R>>,
}

impl<R: Responder> Leaving<R> {
    fn new(octets: Cow<'static, [u8]>, place: Option<Place<R>>) -> Leaving<R> {
        Leaving { octets, taken: 0, _place: place }
    }
}

impl<R: Responder> Buf for Leaving<R> {
    fn remaining(&self) -> usize {
        self.octets.len() - self.taken
    }

    fn chunk(&self) -> &[u8] {
        &self.octets[self.taken..]
    }

    fn advance(&mut self, count: usize) {
        self.taken += count;
    }
}

/// A stream that tells when its client does not take what it asked for.
struct Watched<S, R: Responder> {
    stream: S,
    outgoing: Rc<Outgoing<R>>,
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

impl<S, R: Responder> Watched<S, R> {
    fn tell(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.outgoing.stall(),
            Poll::Ready(Ok(count)) => self.outgoing.took(*count),
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl<S: AsyncWrite + Unpin, R: Responder> AsyncWrite for Watched<S, R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.tell(&written);
        written
    }

    // With it hyper keeps a response until it is written, where otherwise it would copy it.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, octets);
        self.tell(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        match &flushed {
            Poll::Pending => self.outgoing.stall(),
            Poll::Ready(Ok(())) => self.outgoing.flushed(),
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
