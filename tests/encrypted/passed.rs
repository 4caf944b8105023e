//! Listeners on sockets that systemd bound.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::SockRef;
use tokio::time::{sleep, timeout};

use crate::clients::{Http, LOCALHOST, NAME, ask_quic, ask_stream, home, quic_client, tls_to, version_query};
use crate::server::{PATIENCE, Process};
use crate::sockets::{bind, with_sockets};

const SERVE: [&str; 3] = ["serve", "--config", "meridian.yaml"];

fn copies(udp: &[UdpSocket], tcp: &[&TcpListener]) -> Vec<OwnedFd> {
    let udp = udp.iter().map(|socket| OwnedFd::from(socket.try_clone().expect("a descriptor")));
    udp.chain(tcp.iter().map(|listener| listener.try_clone().expect("a descriptor").into())).collect()
}

/// TLS and QUIC have the same port, as they usually do: 853.
#[tokio::test]
async fn passed_sockets_are_taken_and_what_arrives_without_a_server_waits_for_one() {
    let (home, root) = home();
    let (at, udp, tls) = bind(1);
    let https = TcpListener::bind("127.0.0.1:0").expect("a port");
    let https_at = https.local_addr().expect("it is bound");
    home.replace("meridian.yaml", "address: 127.0.0.1:0, tls:", &format!("address: \"{at}\", tls:"));
    home.replace("meridian.yaml", "address: 127.0.0.1:0, quic:", &format!("address: \"{at}\", quic:"));
    home.replace(
        "meridian.yaml",
        "address: 127.0.0.1:0, https:",
        &format!("address: \"{https_at}\", https:"),
    );
    let start = || Process::spawn(with_sockets(&home.command(&SERVE), copies(&udp, &[&tls, &https])));
    let ask_all = async || {
        let over_tls = async {
            let mut stream = tls_to(at, &root, &["dot"]).await.expect("a handshake");
            ask_stream(&mut stream, &version_query(1)).await.expect("a response");
        };
        let over_quic = async {
            let endpoint = quic_client(LOCALHOST, &root, &["doq"]);
            let connection = endpoint.connect(at, NAME).expect("a connection").await.expect("a handshake");
            ask_quic(&connection, &version_query(0)).await.expect("a response");
        };
        let over_https = async {
            assert_eq!(Http::to(https_at, &root, "h2").await.get(&version_query(0)).await.status, 200);
        };
        let all = async { tokio::join!(over_tls, over_quic, over_https) };
        timeout(PATIENCE, all).await.expect("all are answered");
    };

    let mut process = start();
    process.wait_for_line(&format!("TCP at {at} was passed by systemd"));
    process.wait_for_line(&format!("QUIC at {at} was passed by systemd"));
    process.wait_for_line(&format!("TCP at {https_at} was passed by systemd"));
    process.wait_for_line("ready after ");
    assert!(!process.lines().join("\n").contains("nobody reads it"), "{:?}", process.lines());
    ask_all().await;

    process.kill();
    let once_somebody_waits = async {
        // It reads nothing away.
        while udp[0].peek(&mut [0]).is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        start()
    };
    let (process, ()) = tokio::join!(once_somebody_waits, ask_all());
    drop(process);
}

/// The kernel spreads clients over all sockets of an address.
#[tokio::test]
async fn of_several_passed_sockets_for_quic_each_is_read() {
    let (home, root) = home();
    let (at, udp, _tcp) = bind(3);
    home.replace("meridian.yaml", "address: 127.0.0.1:0, quic:", &format!("address: \"{at}\", quic:"));
    let room = |socket: &UdpSocket| SockRef::from(socket).recv_buffer_size().expect("it is open");
    let before: Vec<usize> = udp.iter().map(room).collect();
    let process = Process::spawn(with_sockets(&home.command(&SERVE), copies(&udp, &[])));
    process.wait_for_line(&format!("QUIC at {at} was passed by systemd, 3 sockets"));
    process.wait_for_line("ready after ");
    for _ in 0..32 {
        let endpoint = quic_client(LOCALHOST, &root, &["doq"]);
        let connecting = endpoint.connect(at, NAME).expect("a connection");
        let connection =
            timeout(PATIENCE, connecting).await.expect("a socket that nobody reads").expect("a handshake");
        ask_quic(&connection, &version_query(0)).await.expect("a response");
        connection.close(0_u8.into(), b"");
    }
    // As much room for bursts as sockets of the server's own have.
    for (socket, before) in udp.iter().zip(before) {
        assert!(room(socket) > before, "{} octets, as systemd left it", room(socket));
    }
}
