//! DNS over TLS, QUIC and HTTPS, by clients of our own that say what no well-meaning client would.
//!
//! Every test has a server of its own, with a certificate of its own. What a response means is no matter here, but that it
//! is the same over every transport.

#[path = "encrypted/alike.rs"]
mod alike;
#[path = "encrypted/certificates.rs"]
mod certificates;
#[path = "encrypted/clients.rs"]
mod clients;
#[path = "encrypted/counts.rs"]
mod counts;
#[path = "support/geo.rs"]
mod geo;
#[path = "support/heir.rs"]
mod heir;
#[path = "encrypted/https.rs"]
mod https;
#[path = "encrypted/passed.rs"]
mod passed;
#[path = "support/question.rs"]
mod question;
#[path = "encrypted/quic.rs"]
mod quic;
#[path = "encrypted/replaced.rs"]
mod replaced;
#[path = "support/server.rs"]
mod server;
#[path = "support/sockets.rs"]
mod sockets;
#[path = "encrypted/tls.rs"]
mod tls;
#[allow(dead_code)] // a part of it is for other tests
#[path = "system/world.rs"]
mod world;
