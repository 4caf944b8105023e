//! Sites that go and come back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{Home, Server};
use crate::world::{self, SYDNEY, answer_from, question_from, wait_for_answer};

/// fall * every + timeout, and a second for a machine that does other things as well.
const PROMISED: Duration = Duration::from_millis(2 * 200 + 200 + 1000);

/// A web server of one site; dropped, its port is closed.
pub(crate) struct Website {
    pub(crate) at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Website {
    fn start(at: SocketAddr) -> std::io::Result<Website> {
        Website::start_saying(at, "")
    }

    /// With a body in each of its answers.
    pub(crate) fn start_saying(at: SocketAddr, body: &'static str) -> std::io::Result<Website> {
        let listener = TcpListener::bind(at)?;
        let at = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.and_then(|stream| Website::answer(stream, body));
            }
        });
        Ok(Website { at, stop, thread: Some(thread) })
    }

    fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let _ = stream.read(&mut [0; 4096])?;
        let length = body.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    }
}

impl Drop for Website {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for somebody to come.
        let _ = TcpStream::connect(self.at);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Sydney's, Frankfurt's and Washington's: one port at addresses that no other test has.
fn three_websites() -> [Website; 3] {
    for _ in 0..50 {
        let at = |site: u8, port: u16| SocketAddr::from((Ipv4Addr::new(127, 88, 1, site), port));
        let first = Website::start(at(1, 0)).expect("a port");
        let port = first.at.port();
        if let (Ok(second), Ok(third)) = (Website::start(at(2, port)), Website::start(at(3, port))) {
            return [first, second, third];
        }
    }
    panic!("no port is free at three addresses");
}

#[test]
fn answers_follow_sites_that_stop_and_come_back() {
    let [syd, fra, iad] = three_websites();
    let (at, port) = ([syd.at, fra.at, iad.at], syd.at.port());
    let home = world::home();
    home.write(
        "zones/sites.yaml",
        format!(
            "sites:
  syd: {{ location: [-33.87, 151.21], A: 127.88.1.1 }}
  fra: {{ location: [50.11, 8.68], A: 127.88.1.2 }}
  iad: {{ location: [38.95, -77.45], A: 127.88.1.3 }}
services:
  web:
    sites: [syd, fra, iad]
    checks:
      - {{ http: {{ path: / }}, port: {port}, every: 200ms, timeout: 200ms, fall: 2, rise: 2 }}
"
        ),
    );
    let server = Server::start(home);
    let question = question_from("www.example.com", "A", SYDNEY);
    let moves_to = |address: &str| {
        let took = wait_for_answer(&server, &question, address);
        assert!(took <= PROMISED, "it took {took:?}");
    };
    assert_eq!(answer_from(&server, "www.example.com", SYDNEY), "127.88.1.1");
    assert_eq!(verdicts(&server.status()), ["up", "up", "up"]);

    drop(syd);
    moves_to("127.88.1.3"); // Washington is nearer to Sydney than Frankfurt is
    assert_eq!(verdicts(&server.status()), ["down", "up", "up"]);
    drop(iad);
    moves_to("127.88.1.2");

    // With the last one gone, all_down: preferred answers as if nothing was wrong.
    drop(fra);
    moves_to("127.88.1.1");
    let status = server.status();
    assert_eq!(verdicts(&status), ["down", "down", "down"]);
    assert_eq!(sites_up(&status), [("syd", 0), ("fra", 0), ("iad", 0)]);

    let _fra = Website::start(at[1]).expect("its port is free");
    moves_to("127.88.1.2");
    let _iad = Website::start(at[2]).expect("its port is free");
    moves_to("127.88.1.3");
    let _syd = Website::start(at[0]).expect("its port is free");
    moves_to("127.88.1.1");
    assert_eq!(sites_up(&server.status()), [("syd", 1), ("fra", 1), ("iad", 1)]);

    // Each change of a verdict is told once.
    let lines = server.process.lines();
    for address in at.map(|at| at.ip().to_string()) {
        let of_site: Vec<&str> = lines
            .iter()
            .filter(|line| line.contains(&format!(" {address} port ")))
            .map(|line| if line.contains(": down") { "down" } else { "up" })
            .collect();
        assert_eq!(of_site, ["up", "down", "up"], "of {address} in {lines:#?}");
    }
    server.stop();
}

/// By address.
fn verdicts(status: &Value) -> Vec<&str> {
    let checks = status["checks"].as_array().expect("a list");
    checks.iter().map(|check| check["verdict"].as_str().expect("a word")).collect()
}

/// Of the only service.
fn sites_up(status: &Value) -> Vec<(&str, u64)> {
    let sites = status["services"][0]["sites"].as_array().expect("a list");
    let of_site = |site: &'_ Value| -> Option<u64> { site["up"].as_u64() };
    sites
        .iter()
        .map(|site| (site["site"].as_str().expect("a name"), of_site(site).expect("a number")))
        .collect()
}

#[test]
fn a_demo_site_is_stopped_and_started_by_its_name() {
    let home = Home::of_sample();
    let free = TcpListener::bind("127.0.0.11:0").and_then(|listener| listener.local_addr()).expect("a port");
    home.replace("zones/sites.yaml", "port: 8080, every: 1s, timeout: 500ms", &{
        format!("port: {}, every: 200ms, timeout: 200ms", free.port())
    });
    let mut sites = home.spawn(&["demo-sites", "--config", "meridian.yaml"]);
    sites.wait_for_line("write a site's name to stop it");
    let mut keyboard = sites.stdin();
    let server = Server::start(home);
    let question = question_from("demo.example.com", "A", SYDNEY);
    wait_for_answer(&server, &question, "127.0.0.11");

    writeln!(keyboard, "demo-syd").expect("it reads");
    sites.wait_for_line("demo-syd is stopped");
    assert!(wait_for_answer(&server, &question, "127.0.0.12") <= PROMISED);
    server.process.wait_for_line("127.0.0.11 port");

    let mark = sites.mark();
    writeln!(keyboard, "demo-sid").expect("it reads");
    sites.wait_for_line_after(mark, "there is no site demo-sid");
    writeln!(keyboard, "demo-syd").expect("it reads");
    sites.wait_for_line_after(mark, "demo-syd runs at");
    assert!(wait_for_answer(&server, &question, "127.0.0.11") <= PROMISED);
    server.stop();
}

/// With the profile that is meant for this: the first answer without a dead site, twenty deaths in a row, each at another moment
/// between two attempts.
#[test]
fn twenty_deaths_are_over_in_less_than_three_seconds_each() {
    const DEATHS: usize = 20;
    const BOUND: Duration = Duration::from_secs(3);
    let spare = Website::start(SocketAddr::from(([127, 88, 21, 1], 0))).expect("a port");
    let port = spare.at.port();
    let mut dying: Vec<Option<Website>> = (0..DEATHS as u8)
        .map(|site| Some(Website::start(SocketAddr::from(([127, 88, 20, 1 + site], port))).expect("a port")))
        .collect();
    let home = world::home();
    let each = |text: &dyn Fn(usize) -> String| (0..DEATHS).map(text).collect::<String>();
    home.write(
        "zones/sites.yaml",
        format!(
            "profiles:\n  fast: {{ every: 1s, timeout: 500ms, fall: 2, rise: 2 }}\nsites:\n  spare: {{ A: 127.88.21.1 }}\n{}services:\n{}",
            each(&|site| format!("  s{site}: {{ A: 127.88.20.{} }}\n", site + 1)),
            each(&|site| format!(
                "  w{site}: {{ sites: [s{site}, spare], checks: [{{ http: {{}}, port: {port}, profile: fast }}] }}\n"
            )),
        ),
    );
    let owners = each(&|site| format!("  w{site}: {{ service: w{site} }}\n"));
    home.write("zones/example.com.yaml", world::zone(1).replace("  www: { service: web }\n", &owners));
    let server = Server::start(home);
    let answer = |site: usize| answer_from(&server, &format!("w{site}.example.com"), SYDNEY);
    for site in 0..DEATHS {
        assert_eq!(answer(site), format!("127.88.20.{}", site + 1));
    }
    let died: Vec<Instant> = dying
        .iter_mut()
        .map(|site| {
            // A twentieth of the time between attempts, so that all moments of it come.
            thread::sleep(Duration::from_millis(50));
            drop(site.take());
            Instant::now()
        })
        .collect();
    let mut left: Vec<usize> = (0..DEATHS).collect();
    let mut took = Vec::new();
    while !left.is_empty() {
        left.retain(|&site| {
            let is_over = answer(site) == "127.88.21.1";
            if is_over {
                took.push(died[site].elapsed());
            }
            assert!(is_over || died[site].elapsed() < BOUND, "{site} is given out after {BOUND:?}");
            !is_over
        });
    }
    took.sort_unstable();
    println!("from {:?} to {:?}, median {:?}", took[0], took[DEATHS - 1], took[DEATHS / 2]);
    server.stop();
}
