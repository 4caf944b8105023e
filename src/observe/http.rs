//! Where Prometheus asks: `/metrics` over HTTP/1.1, and nothing else.
//!
//! Whoever asks can hold little: a few connections of one request each, all of which end soon, however slow the other end is.
//! The page is made by main, at most ten times a second however many ask, so that to ask is no way to keep main busy.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::page;

/// Connections at a time, of each listener; the kernel keeps the next ones waiting.
const AT_ONCE: usize = 8;
/// For a whole connection. Prometheus itself gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a request to be written.
const PATIENCE_WITH_HEADS: Duration = Duration::from_secs(2);
/// For main, which may be reading a large database.
const PATIENCE_WITH_MAIN: Duration = Duration::from_secs(9);
/// Octets of a head.
const LONGEST_HEAD: usize = 8 << 10;
/// A page is told again for so long.
const FRESH: Duration = Duration::from_millis(100);

/// Has main make a page; if it drops the sender, there is nothing to tell yet.
pub type Ask = Box<dyn Fn(oneshot::Sender<String>) + Send + Sync>;

/// The page as it was told last.
struct Pages {
    ask: Ask,
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// Tells the metrics to whoever asks at some listeners, for as long as the runtime lives.
///
/// # Errors
/// The runtime does not take a listener.
pub fn serve(slow: &Runtime, listeners: Vec<TcpListener>, ask: Ask) -> io::Result<Vec<AbortHandle>> {
    let _entered = slow.enter();
    let mut accepting = Vec::new();
    let pages = Arc::new(Pages { ask, last: Mutex::new(None) });
    for listener in listeners {
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accepting.push(slow.spawn(accept(listener, Arc::clone(&pages))).abort_handle());
        info!("metrics at http://{address}/metrics");
    }
    Ok(accepting)
}

async fn accept(listener: tokio::net::TcpListener, pages: Arc<Pages>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    let _ = timeout(PATIENCE, converse(stream, &pages)).await;
                    drop(place);
                });
            }
            Err(error) => {
                debug!("metrics: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, pages: &Pages) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(pages.answer(&request).await) });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE_WITH_HEADS)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!("metrics: {error}");
    }
}

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return refuse(StatusCode::NOT_FOUND, "it is /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "GET it\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match timeout(PATIENCE_WITH_MAIN, self.page()).await {
            Ok(Some(text)) => of_type(page::CONTENT_TYPE, text),
            Ok(None) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the server does not answer queries yet\n"),
            Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is busy with a reload\n"),
        }
    }

    /// One that is fresh.
    async fn page(&self) -> Option<Bytes> {
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Some(text.clone());
        }
        let (sender, receiver) = oneshot::channel();
        (self.ask)(sender);
        let text = Bytes::from(receiver.await.ok()?);
        *last = Some((Instant::now(), text.clone()));
        Some(text)
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = of_type("text/plain", Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
}

fn of_type(kind: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
