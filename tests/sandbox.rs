//! What the server gives up, and what it is given and tells: the sandbox, root, systemd.
//!
//! Another process is played here that binds sockets, listens for notifications and never gets an answer. What needs root,
//! Landlock or systemd's tools is skipped with a word where they are not.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use meridian::wire::{Name, Rtype, message::query};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

#[path = "support/heir.rs"]
mod heir;
#[path = "support/server.rs"]
mod server;
#[path = "support/sockets.rs"]
mod sockets;

use heir::replace;
use server::{
    ANSWER_TIME, Home, PATIENCE, Process, Server, ask_tcp, ask_udp, in_words, install, install_script,
    tcp_client, udp_client,
};
use sockets::{bind, with_sockets};

const SERVE: [&str; 3] = ["serve", "--config", "meridian.yaml"];

const SOA: &str = "soa: { primary: ns1, contact: hostmaster@example.com }\n";

fn zone(address: &str) -> String {
    format!("{SOA}records:\n  \"@\": {{ NS: ns1 }}\n  ns1: {{ A: 192.0.2.53 }}\n  www: {{ A: {address} }}\n")
}

fn home() -> Home {
    let home = Home::new();
    home.write("zones/example.com.yaml", zone("192.0.2.1"));
    home
}

fn www() -> Vec<u8> {
    query(&Name::parse("www.example.com.", None).unwrap(), Rtype::A, None)
}

#[track_caller]
fn expect_answer(at: SocketAddr, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = in_words(&ask_udp(at, &www()));
        if answer == words {
            return;
        }
        assert!(Instant::now() < end, "{answer} and never {words}");
    }
}

/// Its home, for the next one.
fn without(server: Server) -> Home {
    let Server { mut process, home, .. } = server;
    process.kill();
    home
}

/// Whether the kernel confines a server; says so if it does not.
fn is_confined(process: &Process) -> bool {
    let line = process.wait_for_line("sandbox");
    let is_so = line.contains("are confined");
    if !is_so {
        println!("skipped: {line}");
    }
    is_so
}

// Sockets that systemd bound.

#[test]
fn passed_sockets_are_taken_and_what_arrives_without_a_server_waits_for_one() {
    let home = home();
    let (at, udp, tcp) = bind(1);
    let stray = UdpSocket::bind("127.0.0.1:0").unwrap();
    home.write("meridian.yaml", format!("listen: \"{at}\"\nworkers: 2\n"));
    let start = || {
        let copies = [udp[0].try_clone().unwrap().into(), tcp.try_clone().unwrap().into()];
        let stray = OwnedFd::from(stray.try_clone().unwrap());
        Process::spawn(with_sockets(&home.command(&SERVE), copies.into_iter().chain([stray]).collect()))
    };
    let mut process = start();
    process.wait_for_line(&format!("UDP at {at} was passed by systemd, 1 sockets for 2 threads"));
    process.wait_for_line(&format!("TCP at {at} was passed by systemd"));
    process.wait_for_line(&format!("UDP at {}, which listen: does not name", stray.local_addr().unwrap()));
    process.wait_for_line("ready after ");
    for _ in 0..8 {
        assert_eq!(in_words(&ask_udp(at, &www())), "192.0.2.1");
        assert_eq!(in_words(&ask_tcp(at, &www())), "192.0.2.1");
    }

    process.kill();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(ANSWER_TIME + PATIENCE)).unwrap();
    client.send_to(&www(), at).unwrap();
    let process = start();
    let mut answer = [0; 512];
    assert_eq!(client.recv_from(&mut answer).expect("the query was kept").1, at);
    drop(process);
}

#[test]
fn of_several_passed_sockets_each_is_read() {
    let home = home();
    let (at, udp, tcp) = bind(3);
    home.write("meridian.yaml", format!("listen: \"{at}\"\nworkers: 1\n"));
    let sockets = udp.into_iter().map(OwnedFd::from).chain([tcp.into()]);
    let process = Process::spawn(with_sockets(&home.command(&SERVE), sockets.collect()));
    process.wait_for_line(&format!("UDP at {at} was passed by systemd, 3 sockets for 3 threads"));
    process.wait_for_line("ready after ");
    for _ in 0..64 {
        assert!(udp_client(at).exchange(&www()).is_some(), "a socket that nobody reads");
    }
    // TCP was not passed, and so bound by the server itself.
    assert_eq!(in_words(&ask_tcp(at, &www())), "192.0.2.1");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let home = home();
    let mut command = home.command(&SERVE);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let server = Server::of(Process::spawn(command), home);
    expect_answer(server.at, "192.0.2.1");
    server.stop();
}

// What systemd is told.

/// Where a service manager listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn of(home: &Home) -> Manager {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { socket, path }
    }

    /// The next message, if one comes in time.
    fn next(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(length) => Some(String::from_utf8(message[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while let Some(message) = self.next(end.saturating_duration_since(Instant::now())) {
            if message.contains(text) {
                return message;
            }
        }
        panic!("systemd is never told {text}");
    }
}

#[test]
fn the_manager_is_told_of_readiness_reloads_and_the_end() {
    let home = home();
    let manager = Manager::of(&home);
    let mut command = home.command(&SERVE);
    command.env("NOTIFY_SOCKET", &manager.path);
    let server = Server::of(Process::spawn(command), home);
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=snapshot 1 is served: 1 zones\n"), "{ready}");

    server.tell(&["reload"]).expect(0);
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");

    server.home.save("zones/example.com.yaml", "records: nothing\n");
    server.process.signal(Signal::SIGHUP);
    manager.wait_for("RELOADING=1");
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=snapshot 1 is served: 1 zones; "), "{ready}");

    server.process.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1");
}

#[test]
fn the_watchdog_is_fed_while_queries_are_answered() {
    let home = home();
    let manager = Manager::of(&home);
    let mut command = home.command(&SERVE);
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "300000");
    let server = Server::of(Process::spawn(command), home);
    manager.wait_for("READY=1");
    let before = server.status()["counters"]["udp_queries"].as_u64().unwrap();
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let after = server.status()["counters"]["udp_queries"].as_u64().unwrap();
    assert!(after >= before + 2, "{before} queries, then {after}");
    server.stop();
}

#[test]
fn the_watchdog_is_not_fed_when_queries_are_not_answered() {
    let home = home();
    let manager = Manager::of(&home);
    // Connected to somebody else, it hears nobody else: a server that is there, and deaf.
    let (at, udp, tcp) = bind(1);
    udp[0].connect("127.0.0.1:1").unwrap();
    home.write("meridian.yaml", format!("listen: \"{at}\"\nworkers: 1\n"));
    let mut command =
        with_sockets(&home.command(&SERVE), udp.into_iter().map(OwnedFd::from).chain([tcp.into()]).collect());
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "300000");
    let process = Process::spawn(command);
    manager.wait_for("READY=1");
    process.wait_for_line("the server does not answer itself; the watchdog is not fed");
    let end = Instant::now() + Duration::from_millis(900);
    while let Some(message) = manager.next(end.saturating_duration_since(Instant::now())) {
        assert!(!message.contains("WATCHDOG"), "{message}");
        if Instant::now() >= end {
            break;
        }
    }
}

// The sandbox.

#[test]
fn files_outside_are_not_read_and_the_finding_says_so() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("example.com.yaml");
    fs::write(&file, zone("192.0.2.2")).unwrap();
    let home = Home::new();
    symlink(&file, home.path("zones/example.com.yaml")).unwrap();
    let server = Server::start(home);
    if !is_confined(&server.process) {
        return;
    }
    let line = server.process.wait_for_line("Permission denied");
    assert!(line.contains("zones/example.com.yaml"), "{line}");
    server.process.wait_for_line("readable:");
    assert_eq!(in_words(&ask_udp(server.at, &www())), "SERVFAIL");
    let home = without(server);

    // Named, or without a sandbox, it is.
    let config = home.read("meridian.yaml");
    home.write("meridian.yaml", format!("{config}readable: [{}]\n", outside.path().display()));
    let server = Server::start(home);
    assert_eq!(in_words(&ask_udp(server.at, &www())), "192.0.2.2");
    let home = without(server);
    home.write("meridian.yaml", &config);
    let process = home.spawn(&["serve", "--config", "meridian.yaml", "--no-sandbox"]);
    let server = Server::of(process, home);
    server.process.wait_for_line("no sandbox");
    assert_eq!(in_words(&ask_udp(server.at, &www())), "192.0.2.2");
}

#[test]
fn threads_that_are_started_later_are_confined_too() {
    let outside = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    // Of another length: the clock that times of files come from is a coarse one.
    fs::write(outside.path().join("ca.pem"), format!("{ca}\n")).unwrap();
    let home = home();
    home.write("ca.pem", &ca);
    home.write(
        "zones/sites.yaml",
        concat!(
            "sites: { here: { A: 127.0.0.1 } }\n",
            "services: { web: { checks: [{ https: { ca: ../ca.pem }, port: 1, every: 1s, timeout: 500ms }] } }\n",
        ),
    );
    home.write(
        "zones/example.net.yaml",
        format!("{SOA}records: {{ \"@\": {{ NS: ns.example.com. }}, www: {{ service: web }} }}\n"),
    );
    let server = Server::start(home);
    if !is_confined(&server.process) {
        return;
    }
    // Checks run on the slow threads, which read the file again when it is another.
    server.process.wait_for_line("127.0.0.1");
    symlink(outside.path().join("ca.pem"), server.home.path("next")).unwrap();
    fs::rename(server.home.path("next"), server.home.path("ca.pem")).unwrap();
    let line = server.process.wait_for_line("cannot be checked from here");
    assert!(line.contains("Permission denied"), "{line}");

    // All of them: no_new_privs comes with the sandbox, and is each thread's own.
    let threads = fs::read_dir(format!("/proc/{}/task", server.process.pid())).unwrap();
    let mut count = 0;
    for thread in threads.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        count += 1;
    }
    assert!(count >= 6, "{count} threads");
}

/// A service of one site, `here`, with these checks.
fn checked(home: &Home, checks: &str) {
    let services = format!("services: {{ web: {{ checks: [{checks}] }} }}\n");
    home.write("zones/sites.yaml", format!("sites: {{ here: {{ A: 127.0.0.1 }} }}\n{services}"));
    home.write(
        "zones/example.net.yaml",
        format!("{SOA}records: {{ \"@\": {{ NS: ns.example.com. }}, www: {{ service: web }} }}\n"),
    );
}

#[test]
fn programs_that_are_listed_are_run_and_others_are_our_own_trouble() {
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("check");
    install_script("echo \"$1 at $2 is full\"; exit 3", &program);
    let home = home();
    let check = format!("{{ exec: {{ command: [{}, '{{site}}', '{{address}}'] }} }}", program.display());
    checked(&home, &check);
    let server = Server::start(home);
    if !is_confined(&server.process) {
        return;
    }
    let line = server.process.wait_for_line("cannot be checked from here");
    assert!(line.contains("Permission denied"), "{line}");
    assert!(line.contains("what the sandbox lets run is listed under executable:"), "{line}");
    assert_eq!(server.status()["checks"][0]["verdict"], "unknown");
    let home = without(server);

    let config = home.read("meridian.yaml");
    let programs = programs.path().display();
    home.write("meridian.yaml", format!("{config}executable: [{programs}, /bin/sh]\n"));
    let server = Server::start(home);
    let line = server.process.wait_for_line(": down (");
    assert!(line.contains("(exit 3: here at 127.0.0.1 is full)"), "{line}");
    let check = &server.status()["checks"][0];
    assert_eq!((check["verdict"].as_str(), check["port"].as_u64()), (Some("down"), None));
    let told = server.tell(&["status"]).expect(0).stdout;
    assert!(told.contains("127.0.0.1 exec "), "{told}");
}

#[test]
fn a_file_in_the_state_folder_may_be_another_programs() {
    let home = home();
    fs::create_dir_all(home.path("run/health")).unwrap();
    home.write("run/health/here", "down for repair\n");
    checked(&home, "{ file: { path: '../run/health/{site}' }, every: 200ms, timeout: 200ms }");
    let server = Server::start(home);
    let line = server.process.wait_for_line(": down (for repair");
    assert!(line.contains("127.0.0.1, file ") && line.contains("run/health/here"), "{line}");
    server.home.save("run/health/here", "up\n");
    server.process.wait_for_line(": up (good");
}

#[test]
fn what_is_replaced_within_the_named_folders_is_read() {
    let home = home();
    for (release, address) in [("1", "192.0.2.1"), ("2", "192.0.2.2")] {
        fs::create_dir_all(home.path("releases").join(release)).unwrap();
        home.write(&format!("releases/{release}/example.com.yaml"), zone(address));
    }
    fs::create_dir(home.path("etc")).unwrap();
    symlink("../releases/1", home.path("etc/zones")).unwrap();
    let config = |workers| {
        format!("listen: \"127.0.0.1:0\"\nworkers: {workers}\ncontrol: ../run/meridian.sock\nstate: ../run\n")
    };
    home.write("etc/meridian.yaml", config(1));
    let process = home.spawn(&["serve", "--config", "etc/meridian.yaml"]);
    let server = Server::of(process, home);
    is_confined(&server.process);
    expect_answer(server.at, "192.0.2.1");

    // A symbolic link that is swapped, to a folder beside the one that it pointed to.
    symlink("../releases/2", server.home.path("etc/next")).unwrap();
    fs::rename(server.home.path("etc/next"), server.home.path("etc/zones")).unwrap();
    expect_answer(server.at, "192.0.2.2");
    // A file that is renamed over another.
    server.home.save("releases/2/example.com.yaml", zone("192.0.2.3"));
    expect_answer(server.at, "192.0.2.3");
    // The folder itself, likewise.
    fs::remove_file(server.home.path("etc/zones")).unwrap();
    fs::rename(server.home.path("releases/1"), server.home.path("etc/zones")).unwrap();
    expect_answer(server.at, "192.0.2.1");
    // And the configuration.
    server.home.save("etc/meridian.yaml", config(2));
    server.process.wait_for_line("is another now");
    server.tell(&["reload"]).expect(0);
    assert!(server.home.read("run/serials").contains("example.com."));
    server.stop();
}

// Root.

#[test]
fn root_is_given_up_once_sockets_are_bound() {
    if !geteuid().is_root() {
        println!("skipped: only root can stop being root");
        return;
    }
    let Ok(Some(nobody)) = User::from_name("nobody") else {
        println!("skipped: there is no user nobody");
        return;
    };
    let home = home();
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    // Ports that only root, or CAP_NET_BIND_SERVICE, may bind.
    let free = (600..1024).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let [port, for_metrics] = free.take(2).collect::<Vec<u16>>()[..] else { panic!("no free ports") };
    home.write(
        "meridian.yaml",
        format!(
            "listen: \"127.0.0.1:{port}\"\nworkers: 2\nuser: nobody\nmetrics: 127.0.0.1:{for_metrics}\n\
             query_log: {{ file: log/q.log, sample: 1/1 }}\n"
        ),
    );
    let server = Server::start(home);
    server.process.wait_for_line("runs as nobody");
    assert!(!server.process.lines().iter().any(|line| line.contains("runs as root")));

    let ids = |id: u32| format!("\t{id}\t{id}\t{id}\t{id}\n");
    for thread in fs::read_dir(format!("/proc/{}/task", server.process.pid())).unwrap().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
        assert!(status.contains(&format!("Uid:{}", ids(uid))), "{status}");
        assert!(status.contains(&format!("Gid:{}", ids(gid))), "{status}");
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line").trim();
        assert_eq!(groups, gid.to_string());
        for none in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert!(status.contains(&format!("{none}:\t0000000000000000\n")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    // It works on: answers, reloads, writes what is its own, and cleans up.
    expect_answer(server.at, "192.0.2.1");
    server.home.save("zones/example.com.yaml", zone("192.0.2.2"));
    expect_answer(server.at, "192.0.2.2");
    server.tell(&["reload"]).expect(0);
    server.wait_for_status("with a line", |status| status["query_log"]["written"].as_u64() > Some(0));
    // What the process may not look into any more, it was given before.
    let mut stream = tcp_client(([127, 0, 0, 1], for_metrics).into());
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(
        page.contains("\nprocess_resident_memory_bytes ") && page.contains("\nprocess_open_fds "),
        "{page}"
    );
    for file in ["run", "run/serials", "run/meridian.sock", "log", "log/q.log"] {
        assert_eq!(fs::metadata(server.home.path(file)).unwrap().uid(), nobody.uid.as_raw(), "{file}");
    }
    let socket = server.home.path("run/meridian.sock");
    let Server { mut process, home: _home, .. } = server;
    process.signal(Signal::SIGTERM);
    assert!(process.wait().success());
    assert!(!socket.exists());
}

/// Whoever takes the place of a server that gave up root never was root: ports and all that it needs are handed over.
#[test]
fn who_gave_up_root_is_replaced_by_one_of_the_same_user_at_the_same_ports() {
    if !geteuid().is_root() {
        println!("skipped: only root can stop being root");
        return;
    }
    let Ok(Some(nobody)) = User::from_name("nobody") else {
        println!("skipped: there is no user nobody");
        return;
    };
    let home = home();
    fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let program = home.path("meridian");
    install(env!("CARGO_BIN_EXE_meridian"), &program);
    let free = (600..1024).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let [port, for_metrics] = free.take(2).collect::<Vec<u16>>()[..] else { panic!("no free ports") };
    home.write(
        "meridian.yaml",
        format!(
            "listen: \"127.0.0.1:{port}\"\nworkers: 2\nuser: nobody\nmetrics: 127.0.0.1:{for_metrics}\n\
             query_log: {{ file: log/q.log, sample: 1/1 }}\n"
        ),
    );
    let mut command = Command::new(&program);
    command.args(SERVE).current_dir(home.path(".")).env("NO_COLOR", "1");
    let mut server = Server::of(Process::spawn(command), home);
    let first = u64::from(server.process.pid());

    let heir = replace(&server);
    assert_ne!(heir.0, first);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    let status = fs::read_to_string(format!("/proc/{}/status", heir.0)).unwrap();
    let uid = nobody.uid.as_raw();
    assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    assert!(!server.process.lines().iter().any(|line| line.contains("of no effect")));

    // It works on: answers, reloads, tells, writes, and can be replaced itself.
    expect_answer(server.at, "192.0.2.1");
    server.home.save("zones/example.com.yaml", zone("192.0.2.2"));
    server.tell(&["reload"]).expect(0);
    expect_answer(server.at, "192.0.2.2");
    server.wait_for_status("with a line", |status| status["query_log"]["written"].as_u64() > Some(0));
    let mut stream = tcp_client(([127, 0, 0, 1], for_metrics).into());
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("\nmeridian_build_info"), "{page}");
    for file in ["run/serials", "run/meridian.sock", "log/q.log"] {
        assert_eq!(fs::metadata(server.home.path(file)).unwrap().uid(), uid, "{file}");
    }
    let last = replace(&server);
    heir.wait_for_exit();
    expect_answer(server.at, "192.0.2.2");
    last.stop();
    assert!(!server.home.path("run/meridian.sock").exists());
}

#[test]
fn who_stays_root_is_told_once_and_keeps_little_of_it_and_a_wrong_user_is_no_start() {
    if !geteuid().is_root() {
        println!("skipped: only root can stop being root");
        return;
    }
    let server = Server::start(home());
    let told =
        server.process.lines().iter().filter(|line| line.contains("runs as root; name a user")).count();
    assert_eq!(told, 1);
    // In name only: of its capabilities those to read and write the files of others (1 and 2) are left, in each thread, as far
    // as it had them.
    let set = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    let left = set(&fs::read_to_string("/proc/self/status").unwrap(), "CapEff") & (1 << 1 | 1 << 2);
    let threads = fs::read_dir(format!("/proc/{}/task", server.process.pid())).unwrap().flatten();
    let statuses: Vec<String> =
        threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap()).collect();
    assert!(statuses.len() >= 6, "{statuses:?}");
    for status in &statuses {
        let set = |name| set(status, name);
        assert_eq!((set("CapEff"), set("CapPrm")), (left, left), "{status}");
        assert_eq!((set("CapInh"), set("CapAmb"), set("NoNewPrivs")), (0, 0, 1), "{status}");
    }
    let home = without(server);
    for (user, words) in [("nobody-of-that-name", "there is no user"), ("root", "name another")] {
        let mut process = home.spawn(&["serve", "--config", "meridian.yaml", "--user", user]);
        process.wait_for_line(words);
        assert_eq!(process.wait().code(), Some(1));
    }
}

// The log.

#[test]
fn nothing_in_the_log_acts_on_a_terminal() {
    let home = home();
    home.write("zones/bad\u{1b}[2J\u{9b}31m.example.yaml", "records: \u{1b}]0;title\u{7}\n");
    home.write(
        "zones/example.org.yaml",
        "records: { \"w\\e[2Jw\": { A: \"1.2.3\\e[31m\" } }\nsites: { \"a\\e[2J\": {} }\n",
    );
    home.write(
        "zones/example.net.zone",
        "@ 60 SOA ns1 h 1 1 1 1 1\n@ NS \\027[2J.x\n\\027[2J CNAME a\u{1b}[2J\nfoo BAR\u{1b}[2J\n",
    );
    let server = Server::start(home);
    server.tell(&["reload"]);
    let check = server.home.run(&["check"]);
    let status = server.tell(&["status"]);
    let log = server.process.lines().join("\n");
    assert!(log.contains("example.org.yaml") && log.contains("example.net.zone"), "{log}");
    for (name, text) in
        [("log", &log), ("check", &check.stdout), ("check", &check.stderr), ("status", &status.stdout)]
    {
        let raw = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(raw, None, "in {name}: {text:?}");
    }
}

// Unit files.

/// systemd's own tool; a word and none where it is not installed.
fn systemd_analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    match Command::new("systemd-analyze").args(arguments).current_dir(folder).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(_) => {
            println!("skipped: systemd-analyze is not installed");
            None
        }
    }
}

#[test]
fn the_units_expose_as_little_as_promised() {
    for (unit, most) in [("meridian.service", 16), ("meridian-socket-activated.service", 12)] {
        let threshold = format!("--threshold={most}");
        let arguments = ["security", "--offline=true", "--no-pager", threshold.as_str(), unit];
        let Some((is_good, text)) = systemd_analyze(&arguments) else { return };
        assert!(is_good, "{text}");
    }
}

#[test]
fn the_units_are_understood() {
    let units = ["./meridian.service", "./meridian-socket-activated.service", "./meridian.socket"];
    let Some((_, text)) = systemd_analyze(&["verify", "--man=no", units[0], units[1], units[2]]) else {
        return;
    };
    // The server is not installed here; anything else is a mistake.
    let wrong: Vec<&str> =
        text.lines().filter(|line| !line.contains("/usr/bin/meridian is not executable")).collect();
    assert!(wrong.is_empty(), "{text}");
}

/// The two services are one but for how they come by their sockets.
#[test]
fn the_units_differ_in_nothing_else() {
    let read = |unit: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(unit);
        let text = fs::read_to_string(path).unwrap();
        text.split("[Service]").nth(1).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (own, passed) = (read("meridian.service"), read("meridian-socket-activated.service"));
    let only = |of: &[String], other: &[String]| {
        let lines = of.iter().filter(|line| !other.contains(line) && !line.starts_with('#'));
        lines.cloned().collect::<Vec<_>>()
    };
    let (capability, bounding) = ("AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=");
    assert_eq!(only(&own, &passed), [capability, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"]);
    assert_eq!(only(&passed, &own), [bounding, "PrivateUsers=yes", "Also=meridian.socket"]);
}
