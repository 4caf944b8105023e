//! One HTTP exchange over a connection that is there.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Deadline, LONGEST_BODY, Trouble, theirs};
use crate::site::{HttpCheck, LoadSource};

/// What is read of a head, in octets. A server may send for as long as it likes; hundreds of them at once
/// may.
const LONGEST_HEAD: usize = 64 << 10;

/// Gives the load that the answer tells, if it is asked for and is there: who does not tell it is no less well.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    http: &HttpCheck,
    address: SocketAddr,
    usual_port: u16,
    until: Deadline,
) -> Result<Option<f64>, Trouble> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| theirs("HTTP", &error))?;
    let host = match &http.host {
        Some(host) => host.clone(),
        None if address.port() == usual_port && address.is_ipv4() => address.ip().to_string(),
        None if address.port() == usual_port => format!("[{}]", address.ip()),
        None => address.to_string(),
    };
    let request = Request::get(http.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("meridian/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| Trouble::Ours(format!("HTTP: {error}")))?;
    let answer = async {
        let response = async { sender.send_request(request).await.map_err(|error| theirs("HTTP", &error)) };
        let response = until.bound("HTTP: no answer", response).await?;
        let status = response.status().as_u16();
        if !http.status.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
            return Err(Trouble::Theirs(format!("status {status}")));
        }
        let source = http.load.as_ref().map(|load| &load.source);
        let load = match source {
            Some(LoadSource::Header(name)) => {
                response.headers().get(name).and_then(|value| number(value.to_str().ok()?))
            }
            _ => None,
        };
        let missing = http.body.as_ref().map(|wanted| format!("the body has no \"{wanted}\""));
        let (found, load) = match (source, &http.body) {
            (None | Some(LoadSource::Header(_)), None) => return Ok(load),
            (None | Some(LoadSource::Header(_)), Some(wanted)) => {
                let missing = missing.as_deref().unwrap_or_default();
                let found = async { Ok(has_text(response.into_body(), wanted).await) };
                (until.bound(missing, found).await?, load)
            }
            (Some(source), wanted) => {
                let octets = until
                    .bound("the body does not end", async { Ok(read(response.into_body()).await) })
                    .await?;
                let wanted = wanted.as_deref().unwrap_or_default().as_bytes();
                let found = octets.windows(wanted.len().max(1)).any(|window| window.starts_with(wanted));
                (wanted.is_empty() || found, load_in(&octets, source))
            }
        };
        if found { Ok(load) } else { Err(Trouble::Theirs(missing.unwrap_or_default())) }
    };
    // The connection has to be driven, but its end is no verdict: a server that closes behind its answer, as
    // we asked it to, ends it in the very moment that delivers the answer. What breaks before the answer, the
    // answer itself says.
    let driven = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        never = driven => never,
    }
}

/// Whether a text is in as much of a body as is worth reading; of one that breaks off, in what came. Says yes
/// as soon as it is found: the body need not end.
async fn has_text(mut body: Incoming, wanted: &str) -> bool {
    let mut octets: Vec<u8> = Vec::new();
    while octets.len() < LONGEST_BODY {
        let Some(Ok(frame)) = body.frame().await else { return wanted.is_empty() };
        let Ok(data) = frame.into_data() else { continue };
        // The text may have begun in what came before.
        let new_from = octets.len().saturating_sub(wanted.len());
        octets.extend_from_slice(&data[..data.len().min(LONGEST_BODY - octets.len())]);
        if octets[new_from..].windows(wanted.len().max(1)).any(|window| window.starts_with(wanted.as_bytes()))
        {
            return true;
        }
    }
    false
}

/// As much of a body as is worth reading.
async fn read(mut body: Incoming) -> Vec<u8> {
    let mut octets: Vec<u8> = Vec::new();
    while octets.len() < LONGEST_BODY {
        let Some(Ok(frame)) = body.frame().await else { break };
        let Ok(data) = frame.into_data() else { continue };
        octets.extend_from_slice(&data[..data.len().min(LONGEST_BODY - octets.len())]);
    }
    octets
}

fn load_in(octets: &[u8], source: &LoadSource) -> Option<f64> {
    match source {
        LoadSource::Json(key) => {
            let object: Value = serde_json::from_slice(octets).ok()?;
            match key.split('.').try_fold(&object, |value, key| value.get(key))? {
                Value::String(text) => number(text),
                value => value.as_f64().and_then(|load| number(&load.to_string())),
            }
        }
        _ => number(std::str::from_utf8(octets).ok()?),
    }
}

/// A load is something that there may be nothing of, but not less.
fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|load| load.is_finite() && *load >= 0.0)
}
