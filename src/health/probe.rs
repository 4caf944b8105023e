//! One attempt: a connection, an HTTP exchange, or one over TLS, to exactly this address.
//!
//! No pool, no redirects, no proxies, no name resolution: what is asked is whether *this* address works.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::judge::Attempt;
use crate::site::{Check, CheckKind, HttpCheck, TlsCheck};

/// What is read of a body in search of a text.
const LONGEST_BODY: usize = 64 << 10;

/// A check made ready: certificates are read once, not at each attempt.
pub struct Probe {
    check: Check,
    tls: Option<Result<TlsConnector, String>>,
}

impl Probe {
    /// Prepares a check.
    #[must_use]
    pub fn new(check: &Check) -> Probe {
        let tls = match &check.kind {
            CheckKind::Https(_, tls) => Some(connector(tls)),
            _ => None,
        };
        Probe { check: check.clone(), tls }
    }

    /// Tries once.
    pub async fn attempt(&self, address: IpAddr) -> Attempt {
        match timeout(self.check.timeout, self.try_once(SocketAddr::new(address, self.check.port))).await {
            Ok(Ok(())) => Attempt::Success,
            Ok(Err(Trouble::Theirs(text))) => Attempt::Failure(text),
            Ok(Err(Trouble::Ours(text))) => Attempt::LocalTrouble(text),
            Err(_) => Attempt::Failure(format!("nothing within {:?}", self.check.timeout)),
        }
    }

    async fn try_once(&self, address: SocketAddr) -> Result<(), Trouble> {
        let stream = TcpStream::connect(address).await.map_err(|error| Trouble::of_connect(address, &error))?;
        match (&self.check.kind, &self.tls) {
            (CheckKind::Https(http, tls), Some(connector)) => {
                let connector = connector.as_ref().map_err(|text| Trouble::Ours(text.clone()))?;
                let name = server_name(http, tls, address)?;
                let stream = connector
                    .connect(name, stream)
                    .await
                    .map_err(|error| Trouble::Theirs(format!("TLS: {error}")))?;
                exchange(stream, http, address, 443).await
            }
            (CheckKind::Http(http), _) => exchange(stream, http, address, 80).await,
            _ => Ok(()),
        }
    }
}

/// Why an attempt failed, and whose fault it is.
enum Trouble {
    Theirs(String),
    Ours(String),
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
                | Errno::EACCES
                | Errno::EPERM,
            ) => true,
            // Told by our own routing table, or by a router on the way to a network that is gone.
            Some(Errno::ENETUNREACH) => !has_route(address),
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
) -> Result<(), Trouble> {
    let theirs = |what: &str, error: &dyn std::fmt::Display| Trouble::Theirs(format!("{what}: {error}"));
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
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
        let response = sender.send_request(request).await.map_err(|error| theirs("HTTP", &error))?;
        let status = response.status().as_u16();
        if !http.status.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
            return Err(Trouble::Theirs(format!("status {status}")));
        }
        let Some(wanted) = &http.body else { return Ok(()) };
        let body = read_body(response.into_body()).await;
        if body.windows(wanted.len().max(1)).any(|window| window == wanted.as_bytes()) {
            Ok(())
        } else {
            Err(Trouble::Theirs(format!("the body has no \"{wanted}\"")))
        }
    };
    tokio::select! {
        answer = answer => answer,
        // The connection ends before the answer is complete only if it breaks.
        ended = connection => match ended {
            Err(error) => Err(theirs("HTTP", &error)),
            Ok(()) => Err(Trouble::Theirs("HTTP: the connection was closed".to_owned())),
        },
    }
}

/// As much of a body as is worth reading; what comes too late or breaks off counts as far as it came.
async fn read_body(body: hyper::body::Incoming) -> Vec<u8> {
    let mut limited = Limited::new(body, LONGEST_BODY);
    let mut octets = Vec::new();
    while let Some(Ok(frame)) = limited.frame().await {
        if let Ok(data) = frame.into_data() {
            octets.extend_from_slice(&data);
        }
    }
    octets
}

fn server_name(http: &HttpCheck, tls: &TlsCheck, address: SocketAddr) -> Result<ServerName<'static>, Trouble> {
    let without_port = |host: &String| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name.to_owned(),
        _ => host.clone(),
    };
    match tls.sni.clone().or_else(|| http.host.as_ref().map(without_port)) {
        Some(name) => ServerName::try_from(name).map_err(|error| Trouble::Ours(format!("sni: {error}"))),
        None => Ok(ServerName::from(address.ip())),
    }
}

fn connector(tls: &TlsCheck) -> Result<TlsConnector, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = if tls.verify {
        builder.with_root_certificates(roots(tls)?).with_no_client_auth()
    } else {
        let verifier = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(tls: &TlsCheck) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                let certificate = certificate.map_err(|error| told(&error))?;
                roots.add(certificate).map_err(|error| told(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there are no trusted certificates on this machine; name some with ca:".to_owned());
    }
    Ok(roots)
}

/// `verify: false`: whoever answers is who we asked. Signatures are checked all the same, so that it is TLS at all.
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
