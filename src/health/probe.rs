//! One attempt: a connection, an HTTP exchange, or one over TLS, to exactly this address.
//!
//! No pool, no redirects, no proxies, no name resolution: what is asked is whether *this* address works.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::judge::Attempt;
use crate::site::{Check, CheckKind, HttpCheck, TlsCheck};

/// What is read of a body in search of a text, in octets.
pub const LONGEST_BODY: usize = 64 << 10;

/// What is read of a head, in octets. A server may send for as long as it likes; hundreds of them at once
/// may.
const LONGEST_HEAD: usize = 64 << 10;

/// A check made ready.
pub struct Probe {
    check: Check,
    trust: Mutex<Option<Trust>>,
}

impl Probe {
    /// Prepares a check. Never fails: what is wrong with its certificates is what each attempt says.
    #[must_use]
    pub fn new(check: &Check) -> Probe {
        Probe { check: check.clone(), trust: Mutex::new(None) }
    }

    /// Tries once, for at most the check's timeout.
    pub async fn attempt(&self, address: IpAddr) -> Attempt {
        let until = Deadline { at: Instant::now() + self.check.timeout, timeout: self.check.timeout };
        match self.try_once(SocketAddr::new(address, self.check.port), until).await {
            Ok(()) => Attempt::Success,
            Err(Trouble::Theirs(text)) => Attempt::Failure(text),
            Err(Trouble::Ours(text)) => Attempt::LocalTrouble(text),
        }
    }

    async fn try_once(&self, address: SocketAddr, until: Deadline) -> Result<(), Trouble> {
        // Before connecting: without certificates of ours nothing that a server does says anything.
        let connector = match &self.check.kind {
            CheckKind::Https(_, tls) => Some(self.connector(tls).map_err(Trouble::Ours)?),
            _ => None,
        };
        let stream =
            async { TcpStream::connect(address).await.map_err(|error| Trouble::of_connect(address, &error)) };
        let stream = until.bound("connect: nothing", stream).await?;
        // A port of this machine's own that nobody listens on may be the one that the connection leaves from,
        // and TCP then connects it to itself.
        if stream.local_addr().is_ok_and(|own| own == address) {
            return Err(Trouble::Theirs("connect: nobody listens".to_owned()));
        }
        match (&self.check.kind, connector) {
            (CheckKind::Https(http, tls), Some(connector)) => {
                let name = server_name(http, tls, address)?;
                let handshake =
                    async { connector.connect(name, stream).await.map_err(|error| theirs("TLS", &error)) };
                let stream = until.bound("TLS: nothing", handshake).await?;
                exchange(stream, http, address, 443, until).await
            }
            (CheckKind::Http(http), _) => exchange(stream, http, address, 80, until).await,
            _ => Ok(()),
        }
    }

    /// Reads the certificates when they are not those of the last attempt: a file that is mended or renewed
    /// counts from the next attempt on.
    fn connector(&self, tls: &TlsCheck) -> Result<TlsConnector, String> {
        let stamp = tls.ca.as_deref().filter(|_| tls.verify).and_then(stamp_of);
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trust) = trust.as_ref().filter(|trust| trust.stamp == stamp) {
            return Ok(trust.connector.clone());
        }
        let connector = connector(tls)?;
        *trust = Some(Trust { stamp, connector: connector.clone() });
        Ok(connector)
    }
}

/// What TLS needs, and the state of the file that it came from.
struct Trust {
    stamp: Option<(SystemTime, u64)>,
    connector: TlsConnector,
}

fn stamp_of(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
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
    fn of_connect(address: SocketAddr, error: &io::Error) -> Trouble {
        let text = format!("connect: {error}");
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

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    http: &HttpCheck,
    address: SocketAddr,
    usual_port: u16,
    until: Deadline,
) -> Result<(), Trouble> {
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
        let Some(wanted) = &http.body else { return Ok(()) };
        let missing = format!("the body has no \"{wanted}\"");
        let found = until.bound(&missing, async { Ok(has_text(response.into_body(), wanted).await) }).await?;
        if found { Ok(()) } else { Err(Trouble::Theirs(missing)) }
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

/// What the certificate must be valid for; a name is also sent as server name indication, an address is not
/// (RFC 6066 3).
fn server_name(
    http: &HttpCheck,
    tls: &TlsCheck,
    address: SocketAddr,
) -> Result<ServerName<'static>, Trouble> {
    match tls.sni.as_deref().or_else(|| http.host.as_deref().map(without_port)) {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|error| Trouble::Ours(format!("sni \"{name}\": {error}"))),
        None => Ok(ServerName::from(address.ip())),
    }
}

/// `www.example.com:8443` -> `www.example.com`, `[2001:db8::1]:8443` -> `2001:db8::1`.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

fn connector(tls: &TlsCheck) -> Result<TlsConnector, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = if tls.verify {
        let roots = match &tls.ca {
            Some(path) => Arc::new(read_roots(path)?),
            None => machine_roots()?,
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let verifier = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    // A resumed session shows no certificate, and one that has expired since would go unseen.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The trusted certificates of a PEM file (a check's `ca:`).
///
/// # Errors
/// For people, with the path: that it cannot be read, holds none, or holds one that is no certificate.
pub fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let told = |error: &dyn Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
        roots.add(certificate.map_err(|error| told(&error))?).map_err(|error| told(&error))?;
    }
    if roots.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(roots)
}

/// Those of the machine, read once: all checks share them, and each set is some hundred kilobytes.
fn machine_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("there are no trusted certificates on this machine; name some with ca:".to_owned());
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// `verify: false`: whoever answers is who we asked. Signatures are checked all the same, so that it is TLS
/// at all.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, errno: Errno) -> Trouble {
        Trouble::of_connect(address.parse().unwrap(), &io::Error::from_raw_os_error(errno as i32))
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

    #[test]
    fn a_host_is_verified_without_its_port_and_brackets() {
        for (host, name) in [
            ("www.example.com", "www.example.com"),
            ("www.example.com:8443", "www.example.com"),
            ("[2001:db8::1]:8443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("192.0.2.1:443", "192.0.2.1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
