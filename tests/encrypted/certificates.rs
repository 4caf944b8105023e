//! What the server proves its name by.

use crate::clients::{
    Http, LOCALHOST, NAME, ask_quic, ask_stream, home, new_certificate, quic_client, quic_to, start, tls_to,
    version_query,
};

#[tokio::test]
async fn a_new_certificate_is_taken_over_while_the_server_runs() {
    let server = start();
    let mut earlier = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    let (certificate, key, root) = new_certificate();
    let home = &server.server.home;
    home.save("c.pem", certificate);
    home.save("k.pem", key);
    server.server.process.wait_for_line("c.pem: a new certificate is in use");
    // Over every transport, and for new connections alone.
    let mut stream = tls_to(server.tls, &root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &version_query(1)).await.expect("a response");
    ask_quic(&quic_to(server.quic, &root).await, &version_query(0)).await.expect("a response");
    assert_eq!(Http::to(server.https, &root, "h2").await.get(&version_query(0)).await.status, 200);
    assert!(tls_to(server.tls, &server.root, &["dot"]).await.is_err());
    let old = quic_client(LOCALHOST, &server.root, &["doq"]);
    assert!(old.connect(server.quic, NAME).expect("a connection").await.is_err());
    ask_stream(&mut earlier, &version_query(2)).await.expect("a response on the earlier connection");
    server.server.stop();
}

#[tokio::test]
async fn a_broken_certificate_changes_nothing_and_is_told_once() {
    let server = start();
    let (certificate, key, root) = new_certificate();
    let home = &server.server.home;
    let process = &server.server.process;
    home.write("c.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    let line = process.wait_for_line("the earlier certificate stays in use");
    assert!(line.contains("c.pem: ") && line.contains("ERROR"), "{line}");
    // A certificate whose key is still the old one.
    let mark = process.mark();
    home.write("c.pem", certificate);
    let line = process.wait_for_line_after(mark, "the earlier certificate stays in use");
    assert!(line.contains("k.pem: this is not the key of the first certificate in "), "{line}");
    let mut stream = tls_to(server.tls, &server.root, &["dot"]).await.expect("a handshake");
    ask_stream(&mut stream, &version_query(1)).await.expect("a response");
    // Mended, it is taken.
    home.write("k.pem", key);
    process.wait_for_line("c.pem: a new certificate is in use");
    tls_to(server.tls, &root, &["dot"]).await.expect("a handshake");
    let told = process.lines().iter().filter(|line| line.contains("stays in use")).count();
    assert_eq!(told, 2);
    server.server.stop();
}

#[test]
fn without_a_certificate_and_its_key_it_does_not_start() {
    let (home, _) = home();
    let (certificate, key) = (home.read("c.pem"), home.read("k.pem"));
    let (_, other_key, _) = new_certificate();
    let told = |what: &str| {
        let ran = home.run(&["serve", "--config", "meridian.yaml"]);
        assert_ne!(ran.code, Some(0), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("cannot listen on 127.0.0.1:0: ") && ran.stderr.contains(what),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    };
    home.write("k.pem", &other_key);
    told("k.pem: this is not the key of the first certificate in c.pem");
    home.write("k.pem", &certificate);
    told("k.pem: there is no private key in it");
    home.write("k.pem", &key);
    home.write("c.pem", &key);
    told("c.pem: there is no certificate in it");
    home.write("c.pem", "");
    told("c.pem: there is no certificate in it");
    std::fs::remove_file(home.path("c.pem")).expect("it is there");
    told("c.pem: No such file");
}
