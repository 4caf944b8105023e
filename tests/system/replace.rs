//! One server takes the place of another, and nobody who asks can tell.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::heir::{Heir, replace};
use crate::server::{
    ANSWER_TIME, PATIENCE, Process, Server, framed, install, install_script, read_framed, tcp_client,
};
use crate::world::{self, SYDNEY, answer_from};

/// Asks at a steady rate until told to stop; how many were asked, and how many of these had no answer.
fn ask_steadily(at: SocketAddr, query: &[u8], stop: &AtomicBool) -> (usize, usize) {
    const EVERY: Duration = Duration::from_millis(1);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(at).expect("loopback has a route");
    let mut query = query.to_vec();
    let mut is_answered = Vec::new();
    let mut response = [0; 4096];
    let mut next = Instant::now();
    let mut hear = |is_answered: &mut Vec<bool>, within: Duration| {
        socket.set_read_timeout(Some(within.max(Duration::from_micros(10)))).expect("it can be set");
        if let Ok(2..) = socket.recv(&mut response) {
            let id = usize::from(u16::from_be_bytes([response[0], response[1]]));
            assert!(!std::mem::replace(&mut is_answered[id], true), "{id} is answered twice");
        }
    };
    while !stop.load(Ordering::Relaxed) && is_answered.len() < 65_000 {
        query[..2].copy_from_slice(&(is_answered.len() as u16).to_be_bytes());
        is_answered.push(false);
        socket.send(&query).expect("somebody has the socket at any time");
        next += EVERY;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            hear(&mut is_answered, left);
        }
    }
    let end = Instant::now() + ANSWER_TIME;
    while is_answered.contains(&false) && Instant::now() < end {
        hear(&mut is_answered, Duration::from_millis(50));
    }
    (is_answered.len(), is_answered.iter().filter(|is_answered| !**is_answered).count())
}

/// A connection for each query, one after the other; how many were not answered.
fn connect_steadily(at: SocketAddr, query: &[u8], stop: &AtomicBool) -> (usize, usize) {
    let (mut asked, mut lost) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let mut stream = tcp_client(at);
        asked += 1;
        let answer = stream.write_all(&framed(query)).and_then(|()| read_framed(&mut stream));
        lost += usize::from(answer.is_err());
        thread::sleep(Duration::from_millis(2));
    }
    (asked, lost)
}

#[test]
fn no_query_is_lost_while_servers_are_replaced() {
    const REPLACEMENTS: usize = 10;
    let mut server = Server::start(world::home());
    let query = world::question("www.example.com", "A").to_wire();
    let (at, stop) = (server.at, &AtomicBool::new(false));
    thread::scope(|scope| {
        let over_udp: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_steadily(at, &query, stop))).collect();
        let over_tcp = scope.spawn(|| connect_steadily(at, &query, stop));
        let mut heirs = Vec::new();
        let end = Instant::now() + Duration::from_secs(15);
        while heirs.len() < REPLACEMENTS && (heirs.len() < 3 || Instant::now() < end) {
            let ran = server.tell(&["replace"]);
            if ran.code != Some(0) {
                stop.store(true, Ordering::Relaxed);
                panic!("{ran:?}\n{}", server.process.lines().join("\n"));
            }
            heirs.push(Heir::of(&server));
            thread::sleep(Duration::from_millis(200));
        }
        stop.store(true, Ordering::Relaxed);
        let mut asked = 0;
        for client in over_udp {
            let (of_client, lost) = client.join().expect("no panic");
            assert_eq!(lost, 0, "of {of_client} over UDP; {}", server.process.lines().join("\n"));
            asked += of_client;
        }
        let (connections, lost) = over_tcp.join().expect("no panic");
        assert_eq!(lost, 0, "of {connections} connections");
        println!("{} replacements, {asked} queries, {connections} connections", heirs.len());
        assert_eq!(server.process.wait_for_exit().code(), Some(0));
        let last = heirs.pop().expect("the last one");
        heirs.iter().for_each(Heir::wait_for_exit);
        last.stop();
    });
    assert!(!server.home.path("run/meridian.sock").exists());
    assert!(!server.process.lines().iter().any(|line| line.contains("panicked")));
}

#[test]
fn who_is_connected_is_served_to_the_end_by_the_server_that_was_replaced() {
    let mut server = Server::start(world::home());
    let query = framed(&world::question("www.example.com", "A").to_wire());
    let mut stream = tcp_client(server.at);
    stream.write_all(&query).expect("it is sent");
    read_framed(&mut stream).expect("an answer");
    // Half of a message, and the other half when another server is there.
    stream.write_all(&query[..9]).expect("it is sent");
    server.process.signal(Signal::SIGUSR2);
    server.process.wait_for_line("took the place of the server that was here");
    let heir = Heir::of(&server);
    assert_ne!(heir.0, u64::from(server.process.pid()));
    stream.write_all(&query[9..]).expect("it is sent");
    read_framed(&mut stream).expect("an answer on the same connection");
    stream.write_all(&query).expect("it is sent");
    read_framed(&mut stream).expect("another one");
    drop(stream);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    assert_ne!(answer_from(&server, "www.example.com", SYDNEY), "");
    heir.stop();
}

/// Its starter must not hear them, and hands nothing of that on.
#[test]
fn signals_are_heard_by_the_server_that_took_the_place() {
    let mut server = Server::start(world::home());
    let heir = replace(&server);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    let mark = server.process.mark();
    heir.signal(Signal::SIGHUP);
    server.process.wait_for_line_after(mark, "HUP: nothing is new");
    heir.signal(Signal::SIGUSR2);
    server.process.wait_for_line_after(mark, "took the place of the server that was here");
    heir.wait_for_exit();
    Heir::of(&server).stop();
}

#[test]
fn a_new_server_that_is_none_leaves_the_old_one_where_it_was() {
    let home = world::home();
    let file = home.path("meridian");
    install(env!("CARGO_BIN_EXE_meridian"), &file);
    let mut command = Command::new(&file);
    command.args(["serve", "--strict"]).current_dir(home.path(".")).env("NO_COLOR", "1");
    let mut server = Server::of(Process::spawn(command), home);
    let pid = u64::from(server.process.pid());

    server.home.write("zones/broken.yaml", "zone: [");
    let ran = server.tell(&["replace"]).expect(3);
    assert!(ran.stderr.contains("--strict: there are errors, such as"), "{}", ran.stderr);
    assert!(ran.stderr.contains("broken.yaml"), "{}", ran.stderr);
    fs::remove_file(server.home.path("zones/broken.yaml")).expect("it is there");

    // Another package, whose program does not even start.
    let good = server.home.path("good");
    fs::rename(&file, &good).expect("it is there");
    let ran = server.tell(&["replace"]).expect(3);
    assert!(ran.stderr.contains("No such file"), "{}", ran.stderr);
    install_script("exit 7", &file);
    let ran = server.tell(&["replace"]).expect(3);
    assert_eq!(ran.stderr, "the new server exit status: 7; the old one goes on\n");
    assert_eq!(server.status()["pid"], pid);
    // What the old one does not do while another starts, it does again.
    server.tell(&["reload"]).expect(0);

    fs::rename(good, &file).expect("it is there");
    let heir = replace(&server);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    heir.stop();
}

#[test]
fn what_an_operator_said_to_the_old_one_the_new_one_knows() {
    let home = world::home();
    home.write(
        "zones/sites.yaml",
        "sites:
  syd: { location: [-33.87, 151.21], A: 192.0.2.10 }
  fra: { location: [50.11, 8.68], A: 192.0.2.20 }
services:
  web: { sites: [syd, fra] }
",
    );
    let mut server = Server::start(home);
    server.tell(&["drain", "syd", "--reason", "a move"]).expect(0);
    let heir = replace(&server);
    assert_eq!(answer_from(&server, "www.example.com", SYDNEY), "192.0.2.20");
    server.tell(&["undrain", "syd"]).expect(0);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    // The old one wrote nothing over it when it ended.
    let last = replace(&server);
    heir.wait_for_exit();
    assert_eq!(answer_from(&server, "www.example.com", SYDNEY), "192.0.2.10");
    assert_eq!(server.status()["overrides"], serde_json::json!([]));
    last.stop();
}

/// It would give out what somebody took away.
#[test]
fn a_server_that_alone_knows_what_an_operator_said_is_not_replaced() {
    let mut server = Server::start(world::home());
    // Where there is a folder no file can be put.
    fs::create_dir(server.home.path("run/overrides.json")).expect("nothing is there yet");
    let ran = server.tell(&["drain", "syd"]).expect(0);
    assert!(ran.stdout.contains("would not know yet"), "{}", ran.stdout);
    let ran = server.tell(&["replace"]).expect(3);
    assert!(ran.stderr.contains("would not know what is drained and forced"), "{}", ran.stderr);
    fs::remove_dir(server.home.path("run/overrides.json")).expect("it is there");
    let heir = replace(&server);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    assert_eq!(server.status()["overrides"][0]["site"], "syd");
    heir.stop();
}

/// A server whose program waits, before it starts, until there is a file `go`; it leaves its number in `pid`.
fn with_a_program_that_waits() -> Server {
    let home = world::home();
    let file = home.path("meridian");
    install(env!("CARGO_BIN_EXE_meridian"), &file);
    let mut command = Command::new(&file);
    command.args(["serve"]).current_dir(home.path(".")).env("NO_COLOR", "1");
    let server = Server::of(Process::spawn(command), home);
    fs::rename(&file, server.home.path("real")).expect("it is there");
    let wait = "echo $$ >pid.new && mv pid.new pid; while [ ! -e go ]; do sleep 0.02; done";
    install_script(&format!("{wait}; exec ./real \"$@\""), &file);
    server
}

/// Who is on its way to take the place of a server that was just told to be replaced.
fn who_waits(server: &Server) -> Heir {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(pid) =
            fs::read_to_string(server.home.path("pid")).ok().and_then(|pid| pid.trim().parse().ok())
        {
            return Heir(pid);
        }
        assert!(Instant::now() < end, "nobody is started; {}", server.process.lines().join("\n"));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_is_told_to_stop_while_another_starts_leaves_nobody_behind() {
    let mut server = with_a_program_that_waits();
    server.process.signal(Signal::SIGUSR2);
    let heir = who_waits(&server);
    server.process.signal(Signal::SIGTERM);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
    heir.wait_for_exit();
    assert!(!server.home.path("run/meridian.sock").exists());
}

/// What it is told then, it hears when it is ready itself, for nobody is left who could end it.
#[test]
fn who_is_not_wanted_any_more_ends_and_the_old_one_goes_on() {
    let mut server = with_a_program_that_waits();
    let children = format!("/proc/{0}/task/{0}/children", server.process.pid());
    let children = fs::read_to_string(children).expect("a list");
    let starter = Heir(children.trim().parse().expect("the starter, and nobody else"));
    server.process.signal(Signal::SIGUSR2);
    let heir = who_waits(&server);
    starter.signal(Signal::SIGKILL);
    server.process.wait_for_line("the starter is gone");
    server.tell(&["drain", "syd", "--reason", "a move"]).expect(0);
    let drained = server.home.read("run/overrides.json");
    server.home.write("go", "");
    server.process.wait_for_line("the server that was here is not to be replaced any more");
    heir.wait_for_exit();
    assert_eq!(server.status()["pid"], u64::from(server.process.pid()));
    assert_eq!(server.home.read("run/overrides.json"), drained);
    assert_ne!(answer_from(&server, "www.example.com", SYDNEY), "");
    server.process.signal(Signal::SIGTERM);
    assert_eq!(server.process.wait_for_exit().code(), Some(0));
}
