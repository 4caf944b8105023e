//! HTTPS: who is believed to be who.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

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
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    /// A certificate for a name, and its key, both PEM.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = certificate_for(name).signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Or it would carry the name that every certificate here has.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    pub(crate) fn ca(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("ca.pem"))
    }
}

/// The server name that was sent, and whether the handshake was a full one.
type Handshake = (Option<String>, bool);

/// A server, and what it was told in its handshakes.
pub(crate) struct TlsServer {
    pub(crate) at: SocketAddr,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
    task: JoinHandle<()>,
}

impl TlsServer {
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.lock().unwrap().len()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server with a certificate for a name (or address), signed by an authority or by itself.
pub(crate) async fn serve(
    at: SocketAddr,
    params: CertificateParams,
    authority: Option<&Authority>,
) -> TlsServer {
    serve_and_show(at, params, authority).await.0
}

async fn serve_and_show(
    at: SocketAddr,
    params: CertificateParams,
    authority: Option<&Authority>,
) -> (TlsServer, rcgen::Certificate) {
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
    let listener = listen_at(at).await;
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
    (TlsServer { at, handshakes, task }, certificate)
}

/// At once, where another listened a moment ago.
async fn listen_at(at: SocketAddr) -> TcpListener {
    for _ in 0..1000 {
        match TcpListener::bind(at).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
    panic!("{at} is not free");
}

pub(crate) fn certificate_for(name: &str) -> CertificateParams {
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
        load: None,
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

/// SHA-256 of a server's key, as an operator computes it: with another program.
fn pin_of(certificate: &rcgen::Certificate) -> Option<[u8; 32]> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certificate.pem");
    std::fs::write(&path, certificate.pem()).unwrap();
    let script = "openssl x509 -pubkey -noout -in \"$0\" | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary";
    let output = Command::new("sh").args(["-c", script]).arg(&path).output().unwrap();
    output.stdout.try_into().ok()
}

#[tokio::test]
async fn a_pinned_key_is_good_and_any_other_is_told() {
    let authority = Authority::new();
    let (server, certificate) =
        serve_and_show(anywhere(), certificate_for("www.example.com"), Some(&authority)).await;
    let Some(pin) = pin_of(&certificate) else {
        println!("skipped: there is no openssl");
        return;
    };
    let said = async |verify, ca, pin| {
        let tls = TlsCheck { sni: None, verify, ca, pin };
        let check = https_check(server.at.port(), Some("www.example.com"), tls);
        Probe::new(&check).attempt(server.at.ip()).await
    };
    let told = format!("TLS: the key is not a pinned one, but {}", data_encoding::BASE64.encode(&pin));
    assert_eq!(said(true, authority.ca(), vec![[0; 32], pin]).await, Attempt::Success);
    assert_eq!(said(true, authority.ca(), vec![[0; 32]]).await, Attempt::Failure(told.clone()));
    // Whoever signed it.
    assert_eq!(said(false, None, vec![pin]).await, Attempt::Success);
    assert_eq!(said(false, None, vec![[0; 32]]).await, Attempt::Failure(told));
    // A pin is no reason to trust.
    let said = said(true, None, vec![pin]).await;
    assert_ne!(said, Attempt::Success);
}

#[tokio::test]
async fn what_a_server_showed_in_its_last_handshake_is_remembered() {
    let mut params = certificate_for("www.example.com");
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 1, 31));
    let at = anywhere();
    let old = serve(at, params.clone(), None).await;
    let at = old.at;
    let tls = TlsCheck { sni: None, verify: false, ca: None, pin: vec![] };
    let probe = Probe::new(&https_check(at.port(), Some("www.example.com"), tls));
    assert_eq!(probe.remarks().certificate, None);
    assert_eq!(probe.attempt(at.ip()).await, Attempt::Success);
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let shown = probe.remarks().certificate.expect("a certificate");
    assert_eq!(seconds(shown.expires), 1_580_428_800);
    // A third of its thirty days, which is less than two weeks.
    assert_eq!(seconds(shown.expires) - seconds(shown.is_due), 10 * 86_400);

    drop(old);
    params.not_after = date_time_ymd(2049, 6, 30);
    let _new = serve(at, params, None).await;
    assert_eq!(probe.attempt(at.ip()).await, Attempt::Success);
    let shown = probe.remarks().certificate.expect("a certificate");
    assert_eq!(seconds(shown.expires), 2_508_624_000);
    assert_eq!(seconds(shown.expires) - seconds(shown.is_due), 14 * 86_400);
}
