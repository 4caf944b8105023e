//! What a client may do with a connection, and what it may not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use meridian::wire::message::Message;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::server::{PATIENCE, Server, ask_tcp, ask_udp, framed, in_words, read_framed, tcp_client};
use crate::world::{self, question, wait_for_answer};

/// Nobody waits for somebody else. (A few milliseconds, on a machine that has nothing else to do.)
const AT_ONCE: Duration = Duration::from_secs(1);

fn version_query() -> Vec<u8> {
    question("v.example.com", "TXT").to_wire()
}

#[track_caller]
fn assert_is_answered_at_once(at: SocketAddr) {
    let start = Instant::now();
    assert_eq!(in_words(&ask_tcp(at, &version_query())), "\"1\"");
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
}

/// Closed by the other side, orderly or not.
fn is_closed(result: std::io::Result<usize>) -> bool {
    match result {
        Ok(count) => count == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

#[test]
fn a_hundred_queries_in_one_go_are_all_answered() {
    let server = Server::start(world::home());
    let mut stream = tcp_client(server.at);
    let mut queries = Vec::new();
    for id in 0..100_u16 {
        let mut query = version_query();
        query[..2].copy_from_slice(&id.to_be_bytes());
        queries.extend(framed(&query));
    }
    stream.write_all(&queries).expect("they are sent");
    // Whoever has nothing more to ask still wants the answers.
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut ids: Vec<u16> = (0..100)
        .map(|_| Message::read(&read_framed(&mut stream).expect("a response")).expect("well-formed"))
        .inspect(|message| assert_eq!(in_words(message), "\"1\""))
        .map(|message| message.id)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert_eq!(stream.read(&mut [0; 16]).expect("it is closed in good order"), 0);
    server.stop();
}

#[test]
fn a_message_that_comes_octet_by_octet_is_answered() {
    let server = Server::start(world::home());
    let mut stream = tcp_client(server.at);
    for octet in framed(&version_query()) {
        stream.write_all(&[octet]).expect("it is sent");
    }
    assert!(read_framed(&mut stream).is_ok());
    server.stop();
}

#[test]
fn whoever_sends_half_a_message_is_cut_off_and_keeps_nobody_waiting() {
    let server = Server::start(world::home());
    let mut halves = [1, 2, 20].map(|length| {
        let mut stream = tcp_client(server.at);
        stream.write_all(&framed(&version_query())[..length]).expect("it is sent");
        stream
    });
    let start = Instant::now();
    assert_is_answered_at_once(server.at);
    for stream in &mut halves {
        assert!(is_closed(stream.read(&mut [0; 16])));
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_secs(4)).contains(&took), "cut off after {took:?}");
    assert_is_answered_at_once(server.at);
    server.wait_for_status("counted", |status| status["transports"]["tcp"]["cut_off_slow"] == 3);
    server.stop();
}

/// As one client of many.
fn connect_from(client: u8, at: SocketAddr) -> TcpStream {
    connect_from_address([127, 88, 3, client], at)
}

fn connect_from_address(address: [u8; 4], at: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((address, 0)).into()).expect("loopback is ours");
    socket.connect(&at.into()).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket.into()
}

#[test]
fn a_client_has_sixty_four_connections_and_no_more() {
    let server = Server::start(world::home());
    let mut open: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = tcp_client(server.at);
            stream.write_all(&framed(&version_query())).expect("it is sent");
            read_framed(&mut stream).expect("there is room");
            stream
        })
        .collect();
    let start = Instant::now();
    let mut one_too_many = tcp_client(server.at);
    assert!(is_closed(one_too_many.read(&mut [0; 16])));
    assert!(start.elapsed() < AT_ONCE);

    // Somebody else is served all the same.
    let of_another =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    of_another.bind(&SocketAddr::from(([127, 88, 3, 1], 0)).into()).expect("loopback is ours");
    of_another.connect(&server.at.into()).expect("a connection");
    let mut of_another = TcpStream::from(of_another);
    of_another.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    of_another.write_all(&framed(&version_query())).expect("it is sent");
    read_framed(&mut of_another).expect("there is room for another client");

    // Room that is given back is room.
    open.truncate(32);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut stream = tcp_client(server.at);
        let sent = stream.write_all(&framed(&version_query()));
        if sent.is_ok() && read_framed(&mut stream).is_ok() {
            break;
        }
        assert!(Instant::now() < end, "room is never given back");
        thread::sleep(Duration::from_millis(5));
    }
    server.stop();
}

/// A server that has an answer of 50 KB, of which few fill what the kernel keeps for a connection.
fn server_with_a_large_answer() -> Server {
    let home = world::home();
    let texts: Vec<String> = (0..200).map(|number| format!("\"{number}{}\"", "x".repeat(250))).collect();
    let zone = world::zone(1) + &format!("  large: {{ TXT: [{}] }}\n", texts.join(", "));
    home.write("zones/example.com.yaml", zone);
    Server::start(home)
}

#[test]
fn who_asks_for_much_at_once_and_then_reads_gets_it_all() {
    let server = server_with_a_large_answer();
    let query = framed(&question("large.example.com", "TXT").to_wire());
    let mut stream = tcp_client(server.at);
    // 15 MB: more than anybody keeps for one client.
    stream.write_all(&query.repeat(300)).expect("it is sent");
    for _ in 0..300 {
        assert!(read_framed(&mut stream).is_ok_and(|response| response.len() > 50_000));
    }
    server.stop();
}

#[test]
fn whoever_never_reads_is_cut_off_and_keeps_nobody_waiting() {
    let server = server_with_a_large_answer();
    let query = framed(&question("large.example.com", "TXT").to_wire());
    let mut stream = tcp_client(server.at);
    stream.write_all(&query).expect("it is sent");
    assert!(read_framed(&mut stream).is_ok_and(|response| response.len() > 50_000));

    let start = Instant::now();
    let many = query.repeat(1000);
    loop {
        match stream.write(&many) {
            Ok(0) => break,
            Ok(_) => assert!(start.elapsed() < PATIENCE, "it is never cut off"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it is never cut off"),
            Err(_) => break,
        }
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "cut off after {took:?}");
    assert_is_answered_at_once(server.at);
    server.wait_for_status("counted", |status| status["transports"]["tcp"]["cut_off_unread"] == 1);
    server.stop();
}

/// Were all descriptors theirs, checks could not be made, dead sites would count as unknown and be answered with, and
/// nothing could be reloaded: whoever has a few addresses could bring that about.
#[test]
fn connections_leave_descriptors_for_checks_and_reloads() {
    let home = world::home();
    let dead = TcpListener::bind("127.88.4.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let check = format!("checks: [{{ tcp: {{}}, port: {}, every: 100ms, timeout: 100ms }}]", dead.port());
    let sites = world::sites(1).replace("192.0.2.10", "127.88.4.10").replace("192.0.2.1 ", "127.88.4.1 ");
    home.write("zones/sites.yaml", sites.replace("fra, iad]", &format!("fra, iad], {check}")));
    let process = home.spawn_with_descriptors(200, &["serve", "--config", "meridian.yaml"]);
    let server = Server::of(process, home);

    let mark = server.process.mark();
    let _connections: Vec<TcpStream> = (0..250).map(|client| connect_from(client, server.at)).collect();
    server.home.save("zones/example.com.yaml", world::zone(2));
    wait_for_answer(&server, &question("v.example.com", "TXT"), "\"2\"");
    server.tell(&["reload"]).expect(0);
    let log = server.process.lines()[mark..].join("\n");
    assert!(!log.contains("Too many open files"), "{log}");
    server.stop();
}

/// Of this process, which holds both ends of some.
fn allow_many_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be raised");
}

/// For half of the askings of somebody else. Whatever else a machine does makes single ones late, and not half of them; a
/// server that keeps people waiting makes all of them late. (A fifth of a millisecond, as a rule.)
const SOON: Duration = Duration::from_millis(25);

/// How long some queries take, each over a connection of its own, the slowest last.
fn times_of_answers(at: SocketAddr) -> Vec<Duration> {
    let ask = |number: u8| {
        let start = Instant::now();
        let mut stream = connect_from(number, at);
        stream.write_all(&framed(&version_query())).expect("it is sent");
        read_framed(&mut stream).expect("an answer");
        start.elapsed()
    };
    let mut times: Vec<Duration> = (1..=50).map(ask).collect();
    times.sort_unstable();
    times
}

/// A thousand half messages, and how long others wait meanwhile. `held` of them are let in, and are there to the end: where
/// they were cut off before, for a machine was slow, nothing was seen, and it begins anew.
fn times_with_half_messages(server: &Server, from: fn(u16) -> [u8; 4], held: u64) -> Vec<Duration> {
    let half = &framed(&version_query())[..9];
    let end = Instant::now() + PATIENCE;
    loop {
        let mut connections = Vec::new();
        for number in 1..=1000 {
            let mut stream = connect_from_address(from(number), server.at);
            let _ = stream.write_all(half);
            connections.push(stream);
        }
        let times = times_of_answers(server.at);
        let count = &server.status()["transports"]["tcp"]["connections"];
        if count.as_u64() >= Some(held) {
            return times;
        }
        assert!(Instant::now() < end, "{count} connections are held, and never {held}");
    }
}

fn assert_nobody_waits(server: &Server, from: fn(u16) -> [u8; 4], held: u64) {
    let times = times_with_half_messages(server, from, held);
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("with {held} half messages held, answers take {median:?}, the slowest of 50 {slowest:?}");
    assert!(median < SOON, "half of the answers take {median:?} and more");
    assert!(slowest < AT_ONCE, "{slowest:?}");
}

#[test]
fn a_thousand_half_messages_keep_nobody_waiting() {
    allow_many_descriptors();
    let server = Server::start(world::home());
    // From one address, of which 64 are let in, and then from a thousand.
    assert_nobody_waits(&server, |_| [127, 0, 0, 1], 64);
    assert_nobody_waits(&server, |number| [127, 89, (number >> 8) as u8, number as u8], 1000);
    server.stop();
}

/// All of the connections that 200 descriptors allow.
const HOUSE: u8 = 100;

#[test]
fn when_all_connections_are_taken_the_longest_idle_has_to_go() {
    let home = world::home();
    let process = home.spawn_with_descriptors(200, &["serve", "--config", "meridian.yaml"]);
    let server = Server::of(process, home);
    let mut open: Vec<TcpStream> = (0..HOUSE)
        .map(|number| {
            let mut stream = connect_from(number, server.at);
            stream.write_all(&framed(&version_query())).expect("it is sent");
            read_framed(&mut stream).expect("there is room");
            stream
        })
        .collect();
    // The first is at work again, so that the second is idle for the longest.
    open[0].write_all(&framed(&version_query())[..5]).expect("it is sent");
    ask_udp(server.at, &version_query());
    let mut newcomer = connect_from(200, server.at);
    newcomer.write_all(&framed(&version_query())).expect("it is sent");
    read_framed(&mut newcomer).expect("there is room for one more");
    assert!(is_closed(open[1].read(&mut [0; 16])));
    open[0].write_all(&framed(&version_query())[5..]).expect("it is sent");
    read_framed(&mut open[0]).expect("it was not told to go");
    open[2].write_all(&framed(&version_query())).expect("it is sent");
    read_framed(&mut open[2]).expect("it was not told to go");
    let counts = &server.status()["transports"]["tcp"];
    assert_eq!((&counts["evicted"], &counts["connections"]), (&1.into(), &HOUSE.into()), "{counts}");
    server.stop();
}

/// What a running process may have from now on.
fn limit_descriptors(server: &Server, count: u64) {
    let pid = rustix::process::Pid::from_raw(server.process.pid() as i32);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    let limit = rustix::process::Rlimit { current: Some(count), maximum: Some(hard) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).expect("it is ours");
}

/// Of a process so far, by the clock's ticks of a hundredth of a second.
fn processor_time(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.pid())).expect("it is there");
    // utime and stime, counted from behind the name, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// It tries ten times a second, and not without end: hickory-server burns half a core here, for nothing.
#[test]
fn without_descriptors_it_waits_and_goes_on_when_there_are_some() {
    let server = Server::start(world::home());
    assert_is_answered_at_once(server.at);
    limit_descriptors(&server, 3);
    let mut waiting = tcp_client(server.at);
    waiting.write_all(&framed(&version_query())).expect("the kernel takes it");
    let (since, spent) = (Instant::now(), processor_time(&server));
    thread::sleep(Duration::from_secs(1));
    // A tick may fall on whoever happens to run.
    let spent = processor_time(&server) - spent;
    assert!(spent <= Duration::from_millis(30), "{spent:?} of processor time in a second, for nothing");
    assert_eq!(in_words(&ask_udp(server.at, &version_query())), "\"1\"");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    limit_descriptors(&server, hard);
    if let Err(error) = read_framed(&mut waiting) {
        panic!("it is not accepted when there is room: {error}\n{}", server.process.lines().join("\n"));
    }
    let failures = &server.status()["transports"]["tcp"]["accept_failures"];
    let most = since.elapsed().as_millis() as u64 / 100 + 2;
    assert!(
        failures.as_u64().is_some_and(|failures| (1..=most).contains(&failures)),
        "{failures}, {most} at most"
    );
    server.stop();
}
