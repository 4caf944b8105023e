//! What becomes of encrypted connections when another server takes the place of this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::clients::{
    Http, LOCALHOST, NAME, ask_quic, ask_stream, close_code, quic_client, quic_to, start, tls_to,
    version_query,
};
use crate::heir::{Heir, replace};
use crate::server::PATIENCE;

const DOQ_NO_ERROR: u8 = 0;

/// RFC 9250 4.3: who is told that there is no error asks again on a connection of its own choice.
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_https_the_old_server_serves_to_the_end_and_over_quic_it_says_good_bye() {
    let mut all = start();
    let mut over_tls = tls_to(all.tls, &all.root, &["dot"]).await.expect("a handshake");
    let mut over_http_2 = Http::to(all.https, &all.root, "h2").await;
    let mut over_http_1 = Http::to(all.https, &all.root, "http/1.1").await;
    let over_quic = quic_to(all.quic, &all.root).await;
    ask_quic(&over_quic, &version_query(0)).await.expect("a response");

    let heir = block_in_place(|| replace(&all.server));
    assert_ne!(heir.0, u64::from(all.server.process.pid()));
    ask_stream(&mut over_tls, &version_query(1)).await.expect("an answer on the same connection");
    for http in [&mut over_http_2, &mut over_http_1] {
        assert_eq!(http.get(&version_query(0)).await.status, 200);
    }
    assert_eq!(close_code(&over_quic).await, DOQ_NO_ERROR.into());

    // All of these connections were the old one's, and the next ones are not.
    drop((over_tls, over_http_2, over_http_1));
    assert_eq!(block_in_place(|| all.server.process.wait_for_exit()).code(), Some(0));
    let mut over_tls = tls_to(all.tls, &all.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut over_tls, &version_query(1)).await.expect("an answer");
    assert_eq!(Http::to(all.https, &all.root, "h2").await.get(&version_query(0)).await.status, 200);
    let over_quic = quic_to(all.quic, &all.root).await;
    ask_quic(&over_quic, &version_query(0)).await.expect("an answer");
    block_in_place(|| heir.stop());
}

/// A connection for each query, one after the other. How many there were, and how many of these were made again.
async fn ask_steadily(server: Arc<Target>, how: How, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut asked, mut again) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        if let Err(why) = server.ask(how).await {
            // A handshake that the old server had begun, or that came while it said good-bye.
            assert!(matches!(how, How::Quic), "{how:?}, connection {asked}: {why}");
            again += 1;
            server.ask(how).await.expect("a second try is answered");
        }
        sleep(Duration::from_millis(3)).await;
    }
    (asked, again)
}

#[derive(Clone, Copy, Debug)]
enum How {
    Tls,
    Https,
    Quic,
}

/// Where clients ask, and whom they believe.
struct Target {
    tls: SocketAddr,
    https: SocketAddr,
    quic: SocketAddr,
    root: CertificateDer<'static>,
}

impl Target {
    async fn ask(&self, how: How) -> Result<(), String> {
        timeout(PATIENCE, async {
            match how {
                How::Tls => {
                    let mut stream = tls_to(self.tls, &self.root, &["dot"]).await.map_err(in_words)?;
                    ask_stream(&mut stream, &version_query(1)).await.map_err(in_words)?;
                }
                How::Https => {
                    let came = Http::to(self.https, &self.root, "h2").await.get(&version_query(0)).await;
                    assert_eq!(came.status, 200);
                }
                How::Quic => {
                    let endpoint = quic_client(LOCALHOST, &self.root, &["doq"]);
                    let connecting = endpoint.connect(self.quic, NAME).map_err(in_words)?;
                    ask_quic(&connecting.await.map_err(in_words)?, &version_query(0)).await?;
                }
            }
            Ok(())
        })
        .await
        .map_err(in_words)?
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_connects_while_servers_are_replaced_is_left_without_an_answer() {
    const REPLACEMENTS: usize = 4;
    let all = start();
    let target = Target { tls: all.tls, https: all.https, quic: all.quic, root: all.root.clone() };
    let (target, stop) = (Arc::new(target), Arc::<AtomicBool>::default());
    let clients = [How::Tls, How::Https, How::Quic]
        .map(|how| (how, tokio::spawn(ask_steadily(Arc::clone(&target), how, Arc::clone(&stop)))));
    let mut heirs: Vec<Heir> = Vec::new();
    for _ in 0..REPLACEMENTS {
        heirs.push(block_in_place(|| replace(&all.server)));
        sleep(Duration::from_millis(300)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for (how, client) in clients {
        let (asked, again) = client.await.expect("each is answered");
        println!("{how:?}: {asked} connections, {again} made again");
        assert!(asked > REPLACEMENTS && again <= REPLACEMENTS, "{how:?}: {again} of {asked} were made again");
    }
    block_in_place(|| {
        let last = heirs.pop().expect("the last one");
        heirs.iter().for_each(Heir::wait_for_exit);
        last.stop();
    });
}
