//! What a query costs over each transport: queries a second, and the server's own time for each of them.
//!
//! Client and server share the machine, so that the first number is a lower bound; the second is that of the server alone.
//! `cargo test --release --test encrypted_cost -- --nocapture`

use std::fs;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use clients::{
    Encrypted, Http, LOCALHOST, NAME, ask_quic, ask_stream, quic_client, quic_to, tls_to, version_query,
};
use server::{Server, framed};

#[path = "../encrypted/clients.rs"]
#[allow(dead_code)] // a part of it is for other tests
mod clients;
#[path = "../support/geo.rs"]
mod geo;
#[path = "../support/question.rs"]
mod question;
#[path = "../support/server.rs"]
mod server;
#[path = "../system/world.rs"]
#[allow(dead_code)] // likewise
mod world;

const TIME: Duration = Duration::from_secs(3);
/// Queries under way at a time.
const AT_A_TIME: usize = 50;

/// Of the whole server since its start. A tick is 10 ms on every Linux that there is.
fn cpu_time(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.process.pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|field| fields[*field].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}

async fn measure(what: &str, server: &Server, mut ask: impl AsyncFnMut() -> usize) {
    let (cpu, start) = (cpu_time(server), Instant::now());
    let mut count = 0;
    while start.elapsed() < TIME {
        count += ask().await;
    }
    let (took, cpu) = (start.elapsed(), cpu_time(server) - cpu);
    let (rate, cost) = (count as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count as f64);
    println!("{what:44} {rate:9.0}/s {cost:7.1} us of the server's time");
}

async fn ask_many<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S) -> usize {
    let queries = framed(&version_query(1)).repeat(AT_A_TIME);
    stream.write_all(&queries).await.expect("they are sent");
    stream.flush().await.expect("they are sent");
    for _ in 0..AT_A_TIME {
        clients::read_framed(stream).await.expect("a response");
    }
    AT_A_TIME
}

#[tokio::test]
async fn what_a_query_costs() {
    let all = clients::start();
    let Encrypted { server, tls, quic, https, root } = &all;
    let mut tcp = tokio::net::TcpStream::connect(server.at).await.expect("a connection");
    tcp.set_nodelay(true).expect("TCP");
    measure("TCP, 50 at a time", server, async || ask_many(&mut tcp).await).await;
    let mut stream = tls_to(*tls, root, &["dot"]).await.expect("a handshake");
    measure("TLS, 50 at a time", server, async || ask_many(&mut stream).await).await;
    measure("TLS, one after the other", server, async || {
        ask_stream(&mut stream, &version_query(1)).await.expect("a response");
        1
    })
    .await;
    let connection = quic_to(*quic, root).await;
    measure("QUIC, 50 streams at a time", server, async || {
        let mut tasks = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let connection = connection.clone();
            tasks.spawn(async move { ask_quic(&connection, &version_query(0)).await.expect("a response") });
        }
        tasks.join_all().await.len()
    })
    .await;
    measure("QUIC, one after the other", server, async || {
        ask_quic(&connection, &version_query(0)).await.expect("a response");
        1
    })
    .await;
    let Http::Two(requests) = Http::to(*https, root, "h2").await else { unreachable!() };
    measure("HTTPS, HTTP/2, 50 requests at a time", server, async || {
        let mut tasks = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let mut http = Http::Two(requests.clone());
            tasks.spawn(async move { http.post(&version_query(0)).await });
        }
        tasks.join_all().await.len()
    })
    .await;
    for protocol in ["h2", "http/1.1"] {
        let mut http = Http::to(*https, root, protocol).await;
        measure(&format!("HTTPS, {protocol}, one after the other"), server, async || {
            http.post(&version_query(0)).await;
            1
        })
        .await;
    }
    measure("TLS, a connection for each", server, async || {
        let mut stream = tls_to(*tls, root, &["dot"]).await.expect("a handshake");
        ask_stream(&mut stream, &version_query(1)).await.expect("a response");
        1
    })
    .await;
    measure("QUIC, a connection for each", server, async || {
        let endpoint = quic_client(LOCALHOST, root, &["doq"]);
        let connection = endpoint.connect(*quic, NAME).expect("a connection").await.expect("a handshake");
        ask_quic(&connection, &version_query(0)).await.expect("a response");
        connection.close(0_u8.into(), b"");
        1
    })
    .await;
    all.server.stop();
}
