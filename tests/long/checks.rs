//! What checking 5,000 addresses every 5 seconds costs: when all are up, when all refuse, when all are silent.
//!
//!     cargo test --release --test checks -- --nocapture
//!
//! Processor time is that of the threads that check, without those that accept; what the kernel does for a connection over
//! loopback, the other side's part of it too, is in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use meridian::health::Health;
use meridian::health::board::{Board, Layout, ServiceSlots, SiteOfService, Target, Verdict};
use meridian::site::{Check, CheckKind, Guards, HttpCheck, MinUp};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const TARGETS: u16 = 5000;
const EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
/// Long enough for three rounds.
const MEASURED: Duration = Duration::from_secs(15);

/// Most that is bearable, in processor time of one core.
const MOST: f64 = 0.10;
/// KiB that may be there after the last round that were not after the first: memory is the same whatever was checked before.
const MOST_GROWTH: u64 = 2048;
/// KiB by which one state of the world may take more than another: a socket and a task for each check that is under way.
const MOST_APART: u64 = 24 << 10;

fn main() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    println!("descriptors: {} (were {soft})", hard.min(65_536));
    let http =
        HttpCheck { path: "/".to_owned(), host: None, status: vec![(200, 399)], body: None, load: None };
    for kind in [CheckKind::Tcp, CheckKind::Http(http)] {
        measure(&kind);
    }
}

fn measure(kind: &CheckKind) {
    let server = Server::start(4096);
    let port = server.port;
    let check = Check {
        kind: kind.clone(),
        port: Some(port),
        every: EVERY,
        timeout: TIMEOUT,
        fall: 2,
        rise: 2,
        jitter: 10,
    };
    let checks: Arc<[Check]> = vec![check].into();
    let address = |number: u16| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 80, 0, 0)) + u32::from(number));
    let target =
        |number| Target { address: IpAddr::V4(address(number)), checks: Arc::clone(&checks), need: 1 };
    let slots = 0..u32::from(TARGETS);
    let layout = Layout {
        targets: (0..TARGETS).map(target).collect(),
        shares: slots
            .clone()
            .map(|slot| SiteOfService { service: "all".to_owned(), site: slot.to_string() })
            .collect(),
        services: vec![ServiceSlots {
            name: "all".to_owned(),
            first_share: 0,
            targets: slots.clone().map(|slot| slot..slot + 1).collect(),
            min_up: MinUp::of_both(1),
            guards: Guards::default(),
            windows: slots.map(|_| Vec::new()).collect(),
            slow_start: Duration::ZERO,
            ttl: 30..=30,
            is_checked: true,
            market: None,
        }],
    };
    // As the daemon has it.
    let slow =
        Builder::new_multi_thread().worker_threads(2).thread_name("slow").enable_all().build().unwrap();
    let health = Health::new(slow.handle().clone(), None);
    let begun = Instant::now();
    let board = health.adopt(layout);
    slow.block_on(health.first_round());
    println!("\n{}: {TARGETS} targets every {EVERY:?}; first round {:?}", kind.name(), begun.elapsed());
    wait_for(&board, Verdict::Up);
    let up = report("all up", &slow);
    server.stop();
    wait_for(&board, Verdict::Down);
    let refused = report("all refused", &slow);
    let _silent = listen(port, 1).expect("the port is free again");
    thread::sleep(EVERY * 2);
    let silent = report("all silent", &slow);
    assert!((0..u32::from(TARGETS)).all(|slot| board.verdict(slot) == Verdict::Down));
    let states = [("up", up), ("refused", refused), ("silent", silent)];
    for (what, Spent { cost, memory, growth }) in &states {
        assert!(*cost < MOST, "{} {what}: {:.1} % of a core", kind.name(), cost * 100.0);
        assert!(*growth < MOST_GROWTH, "{} {what}: {memory} KiB are {growth} more than before", kind.name());
    }
    let memory = || states.iter().map(|(_, spent)| spent.memory);
    let apart = memory().max().unwrap() - memory().min().unwrap();
    assert!(apart < MOST_APART, "{}: one state takes {apart} KiB more than another", kind.name());
    drop(health);
    slow.shutdown_background();
}

/// Answers HTTP at every address of 127.0.0.0/8.
struct Server {
    port: u16,
    runtime: Runtime,
}

impl Server {
    fn start(backlog: i32) -> Server {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("server").enable_all().build().unwrap();
        let socket = listen(0, backlog).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let _entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = [0; 1024];
                    if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    }
                });
            }
        });
        drop(_entered);
        Server { port, runtime }
    }

    fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

fn listen(port: u16, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

fn wait_for(board: &Board, verdict: Verdict) {
    let end = Instant::now() + Duration::from_secs(60);
    while !(0..u32::from(TARGETS)).all(|slot| board.verdict(slot) == verdict) {
        assert!(Instant::now() < end, "not all are {verdict}");
        thread::sleep(Duration::from_millis(50));
    }
}

struct Spent {
    /// Part of a core.
    cost: f64,
    /// KiB at most in the last round, and by how many that is more than in the first.
    memory: u64,
    growth: u64,
}

/// Prints processor time and memory of a while.
fn report(what: &str, slow: &Runtime) -> Spent {
    let (before, begun) = (processor_time(), Instant::now());
    let (mut most_descriptors, mut most_memory) = (0, Vec::new());
    while begun.elapsed() < MEASURED {
        thread::sleep(Duration::from_millis(50));
        most_descriptors = most_descriptors.max(fs::read_dir("/proc/self/fd").unwrap().count());
        let round = begun.elapsed().div_duration_f32(EVERY) as usize;
        most_memory.resize(most_memory.len().max(round + 1), 0);
        most_memory[round] = resident_memory().max(most_memory[round]);
    }
    let cost = (processor_time() - before).as_secs_f64() / MEASURED.as_secs_f64();
    most_memory.truncate(MEASURED.div_duration_f32(EVERY) as usize);
    let (first, memory) = (most_memory[0], *most_memory.last().unwrap());
    let tasks = slow.metrics().num_alive_tasks();
    println!(
        "{what:12} {:5.1} % of a core, {memory:6} KiB resident (in the first round {first}), {tasks} tasks, at most {most_descriptors} descriptors",
        cost * 100.0,
    );
    Spent { cost, memory, growth: memory.saturating_sub(first) }
}

/// Of the threads that check.
fn processor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let checking = threads.filter(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "slow")
    });
    let spent = checking.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    spent.sum()
}

/// In KiB.
fn resident_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
