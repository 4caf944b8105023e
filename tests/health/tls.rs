//! HTTPS: who is believed to be who.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use meridian::health::judge::Attempt;
use meridian::health::probe::Probe;
use meridian::site::{Check, CheckKind, HttpCheck, TlsCheck};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

use crate::server::{good, of_kind, own_address, play, read_head};

/// Somebody who signs, and a folder with `ca.pem`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Or it would carry the name that every certificate here has.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    fn ca(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("ca.pem"))
    }
}

/// The server name that was sent, and whether the handshake was a full one.
type Handshake = (Option<String>, bool);

/// A server, and what it was told in its handshakes.
struct TlsServer {
    at: SocketAddr,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
    task: JoinHandle<()>,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server with a certificate for a name (or address), signed by an authority or by itself.
async fn serve(at: SocketAddr, params: CertificateParams, authority: Option<&Authority>) -> TlsServer {
    let key = KeyPair::generate().unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(at).await.unwrap();
    let at = listener.local_addr().unwrap();
    let handshakes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&handshakes);
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let connection = stream.get_ref().1;
            let is_full = connection.handshake_kind() != Some(HandshakeKind::Resumed);
            told.lock().unwrap().push((connection.server_name().map(str::to_owned), is_full));
            if read_head(&mut stream).await.is_some() {
                play(&good(), &mut stream).await;
            }
        }
    });
    TlsServer { at, handshakes, task }
}

fn certificate_for(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn anywhere() -> SocketAddr {
    SocketAddr::new(own_address(), 0)
}

fn https_check(port: u16, host: Option<&str>, tls: TlsCheck) -> Check {
    let http = HttpCheck {
        path: "/".to_owned(),
        host: host.map(str::to_owned),
        status: vec![(200, 399)],
        body: None,
    };
    of_kind(CheckKind::Https(http, tls), Some(port))
}

/// One attempt as `host`, verified by the authority.
async fn attempt(server: &TlsServer, host: Option<&str>, authority: &Authority) -> Attempt {
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    Probe::new(&https_check(server.at.port(), host, tls)).attempt(server.at.ip()).await
}

fn refused_for(attempt: &Attempt, reason: &str) -> bool {
    matches!(attempt, Attempt::Failure(text) if text.starts_with("TLS: ") && text.contains(reason))
}

#[tokio::test]
async fn a_certificate_of_the_named_authority_is_good() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    assert_eq!(attempt(&server, Some("www.example.com"), &authority).await, Attempt::Success);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_bad() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&other)).await;
    let said = attempt(&server, Some("www.example.com"), &authority).await;
    assert!(refused_for(&said, "invalid peer certificate"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_bad() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("mail.example.com"), Some(&authority)).await;
    let said = attempt(&server, Some("www.example.com"), &authority).await;
    assert!(refused_for(&said, "not valid for name"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_bad() {
    let authority = Authority::new();
    let mut params = certificate_for("www.example.com");
    params.not_after = date_time_ymd(2020, 1, 1);
    let server = serve(anywhere(), params, Some(&authority)).await;
    let said = attempt(&server, Some("www.example.com"), &authority).await;
    assert!(refused_for(&said, "expired"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_bad() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("www.example.com"), None).await;
    let said = attempt(&server, Some("www.example.com"), &authority).await;
    assert!(refused_for(&said, "UnknownIssuer"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_not_trusted_by_the_machine() {
    let server = serve(anywhere(), certificate_for("www.example.com"), None).await;
    let tls = TlsCheck { sni: None, verify: true, ca: None, pin: vec![] };
    let check = https_check(server.at.port(), Some("www.example.com"), tls);
    // A machine without any roots says that it cannot tell.
    assert_ne!(Probe::new(&check).attempt(server.at.ip()).await, Attempt::Success);
}

#[tokio::test]
async fn verify_false_takes_any_certificate() {
    let mut params = certificate_for("mail.example.com");
    params.not_after = date_time_ymd(2020, 1, 1);
    let server = serve(anywhere(), params, None).await;
    let tls = TlsCheck { sni: None, verify: false, ca: None, pin: vec![] };
    let check = https_check(server.at.port(), Some("www.example.com"), tls);
    assert_eq!(Probe::new(&check).attempt(server.at.ip()).await, Attempt::Success);
}

#[tokio::test]
async fn the_host_without_its_port_is_sent_and_verified() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    assert_eq!(attempt(&server, Some("www.example.com:8443"), &authority).await, Attempt::Success);
    assert_eq!(*server.handshakes.lock().unwrap(), [(Some("www.example.com".to_owned()), true)]);
}

#[tokio::test]
async fn sni_is_sent_and_verified_instead_of_the_host() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("front.example.net"), Some(&authority)).await;
    let tls =
        TlsCheck { sni: Some("front.example.net".to_owned()), verify: true, ca: authority.ca(), pin: vec![] };
    let check = https_check(server.at.port(), Some("www.example.com"), tls);
    assert_eq!(Probe::new(&check).attempt(server.at.ip()).await, Attempt::Success);
    assert_eq!(*server.handshakes.lock().unwrap(), [(Some("front.example.net".to_owned()), true)]);
}

#[tokio::test]
async fn an_address_is_verified_and_not_sent() {
    let authority = Authority::new();
    let at = anywhere();
    let server = serve(at, certificate_for(&at.ip().to_string()), Some(&authority)).await;
    assert_eq!(attempt(&server, None, &authority).await, Attempt::Success);
    assert_eq!(*server.handshakes.lock().unwrap(), [(None, true)]);
}

#[tokio::test]
async fn each_attempt_sees_the_certificate_anew() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    let probe = Probe::new(&https_check(server.at.port(), Some("www.example.com"), tls));
    for _ in 0..3 {
        assert_eq!(probe.attempt(server.at.ip()).await, Attempt::Success);
    }
    let full = (Some("www.example.com".to_owned()), true);
    assert_eq!(*server.handshakes.lock().unwrap(), [full.clone(), full.clone(), full]);
}

#[tokio::test]
async fn no_tls_is_bad() {
    let server = crate::server::Server::start(good()).await;
    let authority = Authority::new();
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    let mut check = https_check(server.at.port(), Some("www.example.com"), tls);
    check.timeout = std::time::Duration::from_millis(250);
    let said = Probe::new(&check).attempt(server.at.ip()).await;
    // It waits for an empty line, and we for a handshake.
    assert_eq!(said, Attempt::Failure("TLS: nothing within 250ms".to_owned()));
}

#[tokio::test]
async fn meaning_7_a_ca_file_without_a_certificate_is_our_own_trouble() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    let ca = authority.ca().unwrap();
    std::fs::write(&ca, "").unwrap();
    let said = attempt(&server, Some("www.example.com"), &authority).await;
    assert_eq!(said, Attempt::LocalTrouble(format!("{} holds no certificate", ca.display())));
}

#[tokio::test]
async fn a_ca_file_that_is_mended_counts_from_the_next_attempt_on() {
    let authority = Authority::new();
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    let ca = authority.ca().unwrap();
    let mended = std::fs::read(&ca).unwrap();
    std::fs::remove_file(&ca).unwrap();
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    let probe = Probe::new(&https_check(server.at.port(), Some("www.example.com"), tls));
    let said = probe.attempt(server.at.ip()).await;
    assert!(matches!(said, Attempt::LocalTrouble(_)), "{said:?}");
    std::fs::write(&ca, mended).unwrap();
    assert_eq!(probe.attempt(server.at.ip()).await, Attempt::Success);
}

#[tokio::test]
async fn a_ca_file_that_is_replaced_counts_from_the_next_attempt_on() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = serve(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    let probe = Probe::new(&https_check(server.at.port(), Some("www.example.com"), tls));
    assert_eq!(probe.attempt(server.at.ip()).await, Attempt::Success);
    std::fs::copy(other.ca().unwrap(), authority.ca().unwrap()).unwrap();
    let said = probe.attempt(server.at.ip()).await;
    assert!(refused_for(&said, "invalid peer certificate"), "{said:?}");
}
