//! The TLS of HTTPS checks: who is believed to be who, with which key, and until when.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{Deadline, Trouble, theirs};
use crate::site::{HttpCheck, TlsCheck};

/// How long before its end a certificate is worth a word; less for one that does not live three times as long.
const NOTICE: Duration = Duration::from_secs(14 * 86_400);

/// What a server showed in its last handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of it.
    pub fingerprint: [u8; 32],
    /// When it ends.
    pub expires: SystemTime,
    /// From when on that is worth a word: two weeks before, or a third of its time.
    pub is_due: SystemTime,
}

/// What TLS needs, made when it is first needed, and what it learned.
#[derive(Default)]
pub(super) struct Trusting {
    trust: Mutex<Option<Trust>>,
    certificate: Mutex<Option<Certificate>>,
}

impl Trusting {
    pub(super) fn certificate(&self) -> Option<Certificate> {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handshake with whoever is at the other end.
    pub(super) async fn shake_hands(
        &self,
        connector: TlsConnector,
        stream: TcpStream,
        (http, tls): (&HttpCheck, &TlsCheck),
        address: SocketAddr,
        until: Deadline,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let name = server_name(http, tls, address)?;
        let handshake =
            async { connector.connect(name, stream).await.map_err(|error| theirs("TLS", &error)) };
        let stream = until.bound("TLS: nothing", handshake).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some(leaf) = leaf else { return Err(Trouble::Theirs("TLS: no certificate".to_owned())) };
        self.remember(leaf);
        match key_is_pinned(leaf, &tls.pin) {
            Ok(()) => Ok(stream),
            Err(text) => Err(Trouble::Theirs(text)),
        }
    }

    fn remember(&self, leaf: &CertificateDer<'_>) {
        let fingerprint = sha_256(leaf);
        let mut known = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| known.fingerprint != fingerprint) {
            *known = validity(leaf).map(|(begins, expires)| {
                let third = expires.duration_since(begins).unwrap_or_default() / 3;
                Certificate { fingerprint, expires, is_due: expires - NOTICE.min(third) }
            });
        }
    }

    /// Reads the certificates when they are not those of the last attempt: a file that is mended or renewed
    /// counts from the next attempt on.
    pub(super) fn connector(&self, tls: &TlsCheck) -> Result<TlsConnector, String> {
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

/// Whether a certificate's key is one of these, if any are told; else which it is, in the words that `pin:` takes.
fn key_is_pinned(leaf: &CertificateDer<'_>, pins: &[[u8; 32]]) -> Result<(), String> {
    if pins.is_empty() {
        return Ok(());
    }
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| format!("TLS: {error}"))?;
    let key = sha_256(&parsed.subject_public_key_info());
    match pins.contains(&key) {
        true => Ok(()),
        false => Err(format!("TLS: the key is not a pinned one, but {}", BASE64.encode(&key))),
    }
}

/// From the cipher suites, which bring the hash along.
fn sha_256(octets: &[u8]) -> [u8; 32] {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let hash = suite.map(|suite| suite.common.hash_provider.hash(octets));
    hash.and_then(|hash| hash.as_ref().try_into().ok()).unwrap_or_default()
}

/// From when to when a certificate is valid. Nobody is trusted here: verified at a time before and behind all others, a
/// certificate is wrong about its time first, and the error says in what way.
fn validity(leaf: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    let parsed = ParsedCertificate::try_from(leaf).ok()?;
    let error_at = |since_1970| {
        let time = UnixTime::since_unix_epoch(since_1970);
        let verified =
            verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], time, &[]);
        match verified {
            Err(Error::InvalidCertificate(error)) => Some(error),
            _ => None,
        }
    };
    let CertificateError::ExpiredContext { not_after, .. } = error_at(YEAR_10000)? else { return None };
    let begins = match error_at(Duration::ZERO)? {
        CertificateError::NotValidYetContext { not_before, .. } => not_before.as_secs(),
        _ => 0,
    };
    Some((UNIX_EPOCH + Duration::from_secs(begins), UNIX_EPOCH + Duration::from_secs(not_after.as_secs())))
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

    #[test]
    fn the_time_of_a_certificate_is_read() {
        let mut params = rcgen::CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2049, 6, 30);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let seconds = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(validity(certificate.der()), Some((seconds(1_577_836_800), seconds(2_508_624_000))));
    }

    #[test]
    fn a_hash_is_that_of_everybody_else() {
        let hash = data_encoding::HEXLOWER.encode(&sha_256(b"abc"));
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
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
