//! A server with all transports, and a client for each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, VarInt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::server::{Home, PATIENCE, Server, address_in, framed};
use crate::world::{self, question};

pub(crate) const NAME: &str = "ns1.example.com";
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that listens for everything.
pub(crate) struct Encrypted {
    pub(crate) server: Server,
    pub(crate) tls: SocketAddr,
    pub(crate) quic: SocketAddr,
    pub(crate) https: SocketAddr,
    /// Whom clients believe.
    pub(crate) root: CertificateDer<'static>,
}

pub(crate) const LISTEN: &str = "workers: 1
listen:
  - 127.0.0.1:0
  - { address: 127.0.0.1:0, tls: { certificate: c.pem, key: k.pem } }
  - { address: 127.0.0.1:0, quic: { certificate: c.pem, key: k.pem } }
  - { address: 127.0.0.1:0, https: { certificate: c.pem, key: k.pem } }
";

/// Everything for a server but that it runs; and its certificate.
pub(crate) fn home() -> (Home, CertificateDer<'static>) {
    let home = world::home();
    home.write("meridian.yaml", LISTEN);
    let (certificate, key, root) = new_certificate();
    home.write("c.pem", certificate);
    home.write("k.pem", key);
    (home, root)
}

/// A certificate that nobody else signed, and its key, as PEM; and the certificate as clients want it.
pub(crate) fn new_certificate() -> (String, String, CertificateDer<'static>) {
    certificate_from_to(1975, 4096)
}

/// Likewise, valid between the beginnings of two years.
pub(crate) fn certificate_from_to(from: i32, to: i32) -> (String, String, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem(), certificate.der().clone())
}

pub(crate) fn start() -> Encrypted {
    let (home, root) = home();
    start_in(home, root)
}

pub(crate) fn start_in(home: Home, root: CertificateDer<'static>) -> Encrypted {
    let server = Server::start(home);
    let at = |name: &str| {
        let line = server.process.wait_for_line(&format!("DNS over {name} at "));
        address_in(line.split(" with ").next().expect("a part"))
    };
    let (tls, quic, https) = (at("TLS"), at("QUIC"), at("HTTPS"));
    Encrypted { server, tls, quic, https, root }
}

/// With a name, `large`, whose texts are some 50,000 octets.
pub(crate) fn start_with_large() -> Encrypted {
    let (home, root) = home();
    let texts: Vec<String> = (0..200).map(|number| format!("\"{number}{}\"", "x".repeat(250))).collect();
    home.write(
        "zones/example.com.yaml",
        world::zone(1) + &format!("  large: {{ TXT: [{}] }}\n", texts.join(", ")),
    );
    start_in(home, root)
}

/// A query for the version of the world, with this ID.
pub(crate) fn version_query(id: u16) -> Vec<u8> {
    let mut query = question("v.example.com", "TXT").to_wire();
    query[..2].copy_from_slice(&id.to_be_bytes());
    query
}

pub(crate) fn client_config(root: &CertificateDer<'static>, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// A TCP connection from an address of this machine.
pub(crate) async fn connect_from(client: IpAddr, at: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(client, 0))?;
    socket.connect(at).await
}

pub(crate) async fn tls_over(
    stream: TcpStream,
    root: &CertificateDer<'static>,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(NAME).expect("a name");
    TlsConnector::from(Arc::new(client_config(root, protocols))).connect(name, stream).await
}

pub(crate) async fn tls_to(
    at: SocketAddr,
    root: &CertificateDer<'static>,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    tls_over(connect_from(LOCALHOST, at).await?, root, protocols).await
}

pub(crate) async fn read_framed(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// One query over a stream.
pub(crate) async fn ask_stream(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    query: &[u8],
) -> io::Result<Vec<u8>> {
    stream.write_all(&framed(query)).await?;
    stream.flush().await?;
    read_framed(stream).await
}

/// An endpoint for DNS over QUIC.
pub(crate) fn quic_client(client: IpAddr, root: &CertificateDer<'static>, protocols: &[&str]) -> Endpoint {
    let mut endpoint = Endpoint::client(SocketAddr::new(client, 0)).expect("a socket");
    endpoint.set_default_client_config(quic_client_config(root, protocols));
    endpoint
}

pub(crate) fn quic_client_config(root: &CertificateDer<'static>, protocols: &[&str]) -> quinn::ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.enable_early_data = true;
    let config = QuicClientConfig::try_from(config).expect("TLS 1.3");
    quinn::ClientConfig::new(Arc::new(config))
}

pub(crate) async fn quic_to(at: SocketAddr, root: &CertificateDer<'static>) -> Connection {
    let endpoint = quic_client(LOCALHOST, root, &["doq"]);
    endpoint.connect(at, NAME).expect("a connection").await.expect("a handshake")
}

/// One query on a stream of its own.
pub(crate) async fn ask_quic(connection: &Connection, query: &[u8]) -> Result<Vec<u8>, String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(&framed(query)).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())?;
    let stream = recv.read_to_end(70_000).await.map_err(|error| format!("{error:?}"))?;
    let (length, message) = stream.split_at(2);
    assert_eq!(usize::from(u16::from_be_bytes([length[0], length[1]])), message.len());
    Ok(message.to_vec())
}

/// The code that the server closes a connection with.
pub(crate) async fn close_code(connection: &Connection) -> VarInt {
    match timeout(PATIENCE, connection.closed()).await.expect("it is closed") {
        ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("it ended otherwise: {other:?}"),
    }
}

pub(crate) enum Http {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Came {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    pub(crate) cache_control: String,
    pub(crate) allow: String,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) async fn over(stream: TcpStream, root: &CertificateDer<'static>, protocol: &str) -> Http {
        let stream = tls_over(stream, root, &[protocol]).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        let io = TokioIo::new(stream);
        if protocol == "h2" {
            let (requests, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
            tokio::spawn(connection);
            Http::Two(requests)
        } else {
            let (requests, connection) = http1::handshake(io).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            Http::One(requests)
        }
    }

    pub(crate) async fn to(at: SocketAddr, root: &CertificateDer<'static>, protocol: &str) -> Http {
        Http::over(connect_from(LOCALHOST, at).await.expect("a connection"), root, protocol).await
    }

    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<hyper::body::Incoming>> {
        match self {
            Http::One(requests) => {
                requests.ready().await?;
                request.headers_mut().insert(header::HOST, header::HeaderValue::from_static(NAME));
                requests.send_request(request).await
            }
            Http::Two(requests) => {
                requests.ready().await?;
                let path = request.uri().path_and_query().expect("a path").to_string();
                *request.uri_mut() = format!("https://{NAME}{path}").parse().expect("a URI");
                requests.send_request(request).await
            }
        }
    }

    pub(crate) async fn fetch(&mut self, request: Request<Full<Bytes>>) -> Came {
        let response = timeout(PATIENCE, self.send(request)).await.expect("in time").expect("a response");
        let field = |name: header::HeaderName| {
            let value = response.headers().get(name).map(|value| value.to_str().expect("text"));
            value.unwrap_or_default().to_owned()
        };
        let (kind, cache_control, allow) =
            (field(header::CONTENT_TYPE), field(header::CACHE_CONTROL), field(header::ALLOW));
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes().to_vec();
        Came { status, kind, cache_control, allow, body }
    }

    pub(crate) async fn get(&mut self, query: &[u8]) -> Came {
        self.fetch(get(&format!("/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(query)))).await
    }

    pub(crate) async fn post(&mut self, query: &[u8]) -> Came {
        self.fetch(post("application/dns-message", query)).await
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).body(Full::default()).expect("a request")
}

pub(crate) fn post(kind: &str, body: &[u8]) -> Request<Full<Bytes>> {
    let request = Request::builder().method("POST").uri("/dns-query").header(header::CONTENT_TYPE, kind);
    request.body(Full::from(body.to_vec())).expect("a request")
}

/// Whether the other side ends a stream within some time, in good order or not.
pub(crate) async fn ends_within(most: Duration, stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    timeout(most, async {
        let mut octets = [0; 4096];
        while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {}
    })
    .await
    .is_ok()
}

/// How a connection of HTTP/2 begins (RFC 9113 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// For what no library would send (RFC 9113 4.1).
pub(crate) fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
