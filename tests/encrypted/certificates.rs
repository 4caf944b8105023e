//! What the server proves its name by.

use crate::clients::{
    Http, LOCALHOST, NAME, ask_quic, ask_stream, certificate_from_to, home, new_certificate, quic_client,
    quic_to, start, start_in, tls_to, version_query,
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

/// As `meridian check` tells, too.
#[test]
fn without_a_certificate_and_its_key_it_does_not_start() {
    let (home, _) = home();
    let (certificate, key) = (home.read("c.pem"), home.read("k.pem"));
    let (_, other_key, _) = new_certificate();
    let told = |what: &str| {
        let ran = home.run(&["serve", "--config", "meridian.yaml"]).expect(1);
        assert!(
            ran.stderr.contains("cannot listen on 127.0.0.1:0: ") && ran.stderr.contains(what),
            "{}",
            ran.stderr
        );
        let checked = home.run(&["check"]).expect(1);
        // Once, although three listeners have it.
        assert_eq!(
            checked.stdout.lines().filter(|line| line.starts_with(what)).count(),
            1,
            "{}",
            checked.stdout
        );
    };
    home.write("k.pem", &other_key);
    told("k.pem: this is not the key of the first certificate in c.pem");
    home.write("k.pem", &certificate);
    told("k.pem: there is no private key in it; a private key is expected, PEM");
    home.write("k.pem", &key);
    home.write("c.pem", &key);
    told("c.pem: there is no certificate in it; a certificate is expected, PEM");
    home.write("c.pem", "");
    told("c.pem: there is no certificate in it");
    std::fs::remove_file(home.path("c.pem")).expect("it is there");
    told("c.pem: No such file");
    // Both of them, and what cannot be read.
    std::fs::remove_file(home.path("k.pem")).expect("it is there");
    std::fs::create_dir(home.path("k.pem")).expect("there is room");
    told("c.pem: No such file");
    told("k.pem: Is a directory");
}

/// Whoever does not verify it is served; the others are no worse off than without a server.
#[tokio::test]
async fn a_certificate_out_of_its_time_is_warned_of_and_served() {
    let (home, _) = home();
    let write = |from: i32, to: i32| {
        let (certificate, key, root) = certificate_from_to(from, to);
        home.write("c.pem", certificate);
        home.write("k.pem", key);
        root
    };
    let expect_warning = |what: &str| {
        let checked = home.run(&["check"]).expect(0).stdout;
        let warnings: Vec<&str> = checked.lines().filter(|line| line.contains(what)).collect();
        assert!(matches!(warnings[..], [line] if line.starts_with("c.pem: warning: ")), "{checked}");
    };
    write(2990, 2995);
    expect_warning("certificate 1 is not valid for another ");
    // One that signed it is looked at likewise.
    write(2000, 2990);
    let signer = certificate_from_to(2000, 2005).0;
    home.write("c.pem", home.read("c.pem") + &signer);
    expect_warning("certificate 2 expired ");
    let root = write(2000, 2005);
    expect_warning("certificate 1 expired ");

    let server = start_in(home, root);
    let line = server.server.process.wait_for_line("certificate 1 expired ");
    assert!(line.contains("WARN") && line.contains("c.pem: "), "{line}");
    let error = tls_to(server.tls, &server.root, &["dot"]).await.expect_err("this client verifies it");
    assert!(error.to_string().contains("expired"), "{error}");
    server.server.home.write("c.pem", "");
    let line = server.server.process.wait_for_line("the earlier certificate stays in use");
    assert!(line.contains("c.pem: there is no certificate in it"), "{line}");
    server.server.stop();
}

#[test]
fn whoever_checks_a_folder_of_zones_is_told_of_zones_alone() {
    let (home, _) = home();
    std::fs::remove_file(home.path("c.pem")).expect("it is there");
    home.run(&["check", "zones"]).expect(0);
    home.run(&["check", "zones/example.com.yaml"]).expect(0);
    home.run(&["check", "meridian.yaml"]).expect(1);
}
