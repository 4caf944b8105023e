//! A running `meridian serve` with a folder of its own, and the commands that go with it.
//!
//! Nothing here waits for time: a test waits for a line of the log or for an answer, with a bound that no healthy machine
//! comes near ([`PATIENCE`]), and is shown the whole log when it waited in vain.

#![allow(dead_code)] // each test binary that includes this needs a part of it

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use meridian::wire::message::Message;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// For whatever has to happen some time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// For an answer: loopback loses nothing, and nobody may be kept waiting by a reload.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(2);

/// A folder with `meridian.yaml`, `zones/` and `geodb/`, in which commands run.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// Nothing but the configuration: a port that the kernel chooses, and two threads for UDP on every machine.
    pub(crate) fn new() -> Home {
        let home = Home { folder: tempfile::tempdir().expect("a folder of the test's own") };
        for folder in ["zones", "geodb"] {
            fs::create_dir(home.path(folder)).expect("a folder is made");
        }
        home.write("meridian.yaml", "listen: \"127.0.0.1:0\"\nworkers: 2\n");
        home
    }

    /// With the zones and the geo database that are shipped.
    pub(crate) fn of_sample() -> Home {
        let home = Home::new();
        for folder in ["zones", "geodb"] {
            let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in fs::read_dir(shipped).expect("the sample is there").flatten() {
                fs::copy(entry.path(), home.path(folder).join(entry.file_name())).expect("a file is copied");
            }
        }
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// In place, as `echo >` does.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("a file is written");
    }

    /// Beside it and renamed over, as editors do.
    pub(crate) fn save(&self, name: &str, text: impl AsRef<[u8]>) {
        let beside = self.path(&format!("{name}~"));
        fs::write(&beside, text).expect("a file is written");
        fs::rename(beside, self.path(name)).expect("a file is renamed");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file is read")
    }

    /// The same file with something else in it; the test is about nothing if it is not there.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from}");
        self.save(name, text.replace(from, to));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
        command.args(arguments).current_dir(self.folder.path()).env("RUST_LOG", "info").env("NO_COLOR", "1");
        command
    }

    /// A command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("the command runs");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Process {
        Process::spawn(self.command(arguments))
    }

    /// With so many file descriptors and no more.
    pub(crate) fn spawn_with_descriptors(&self, count: u32, arguments: &[&str]) -> Process {
        let command = self.command(arguments);
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("ulimit -n {count}; exec \"$0\" \"$@\""));
        limited.arg(command.get_program()).args(command.get_args()).current_dir(self.folder.path());
        Process::spawn(limited)
    }
}

/// Puts a program there. Another process writes it: what this one has open to write may be inherited by whatever other tests start
/// just then, and nobody can run a program that somebody has open to write.
pub(crate) fn install(program: impl AsRef<Path>, at: &Path) {
    let status = Command::new("install").args(["-m", "755"]).arg(program.as_ref()).arg(at).status();
    assert!(status.expect("there is such a command").success());
}

/// The same of a script for the shell.
pub(crate) fn install_script(script: &str, at: &Path) {
    let text = at.with_extension("sh");
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("a file is written");
    install(text, at);
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its exit code, and that it did not end in a panic.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Ran {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.code, Some(code), "stdout:\n{}stderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in stdout:\n{}stderr:\n{}", self.stdout, self.stderr))
    }
}

/// A process that runs beside the test, and all that it writes. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
}

/// Lines, as they come.
#[derive(Default)]
struct Log {
    written: Mutex<Written>,
    more: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    /// Of standard output and standard error.
    ended: usize,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("no reader panics")
    }

    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.lock().lines.push(line);
                log.more.notify_all();
            }
            log.lock().ended += 1;
            log.more.notify_all();
        });
    }
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Process {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("the process starts");
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("a pipe"));
        log.follow(child.stderr.take().expect("a pipe"));
        Process { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes its standard input; dropped, it is closed.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("taken once")
    }

    /// How many lines there are so far: what is waited for next comes after them.
    pub(crate) fn mark(&self) -> usize {
        self.log.lock().lines.len()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// The first line with a text in it.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        self.wait_for_line_after(0, text)
    }

    /// The first one after a mark.
    #[track_caller]
    pub(crate) fn wait_for_line_after(&self, mark: usize, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut written = self.log.lock();
        loop {
            if let Some(line) = written.lines[mark..].iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            if written.ended == 2 || left.is_zero() {
                let lines = std::mem::take(&mut written.lines);
                drop(written);
                panic!("no \"{text}\" after line {mark} of\n{}", lines.join("\n"));
            }
            written = self.log.more.wait_timeout(written, left).expect("no reader panics").0;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the process is there");
    }

    /// Until it ends by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                let written =
                    self.log.more.wait_timeout_while(self.log.lock(), PATIENCE, |log| log.ended < 2);
                drop(written.expect("no reader panics"));
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.lines().join("\n"));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Until it ends by itself, whoever else writes to the same log.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.lines().join("\n"));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Like a power cut.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is there");
        assert_eq!(self.wait().signal(), Some(Signal::SIGKILL as i32));
    }

    /// In KiB.
    pub(crate) fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `meridian serve` in its home.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) home: Home,
    /// Where it listens; the first address, if there are several.
    pub(crate) at: SocketAddr,
}

impl Server {
    /// Started, and answering.
    #[track_caller]
    pub(crate) fn start(home: Home) -> Server {
        let process = home.spawn(&["serve", "--config", "meridian.yaml"]);
        Server::of(process, home)
    }

    /// Once it answers.
    #[track_caller]
    pub(crate) fn of(process: Process, home: Home) -> Server {
        let line = process.wait_for_line("listening on ");
        process.wait_for_line("ready after ");
        Server { process, home, at: address_in(&line) }
    }

    /// A word with it through its control socket, whatever has become of its configuration.
    pub(crate) fn tell(&self, command: &[&str]) -> Ran {
        let mut arguments = command.to_vec();
        arguments.extend(["--control", "run/meridian.sock"]);
        self.home.run(&arguments)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.tell(&["status", "--json"]).expect(0).json()
    }

    /// Until its status is as wanted.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if is_so(&status) {
                return;
            }
            assert!(Instant::now() < end, "never {what}: {status:#}");
        }
    }

    /// Told to stop, it stops, and says that nothing went wrong. Its home may be another's.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Home {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait();
        let log = self.process.lines().join("\n");
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        self.home
    }
}

/// The address at the end of `listening on ADDRESS`.
pub(crate) fn address_in(line: &str) -> SocketAddr {
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("an address")
}

/// One query, one response.
#[track_caller]
pub(crate) fn ask_udp(at: SocketAddr, query: &[u8]) -> Message {
    let response = udp_client(at).exchange(query).expect("a response over UDP");
    Message::read(&response).expect("a response that is well-formed")
}

/// Likewise, over a connection of its own.
#[track_caller]
pub(crate) fn ask_tcp(at: SocketAddr, query: &[u8]) -> Message {
    let mut stream = tcp_client(at);
    stream.write_all(&framed(query)).expect("the query is sent");
    let response = read_framed(&mut stream).expect("a response over TCP");
    Message::read(&response).expect("a response that is well-formed")
}

/// A connected socket that numbers its queries, so that a late response is not taken for another's.
pub(crate) struct UdpClient {
    pub(crate) socket: UdpSocket,
    last_id: u16,
}

pub(crate) fn udp_client(at: SocketAddr) -> UdpClient {
    let local = if at.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).expect("a socket");
    socket.connect(at).expect("loopback has a route");
    socket.set_read_timeout(Some(ANSWER_TIME)).expect("a time-out can be set");
    UdpClient { socket, last_id: 0 }
}

impl UdpClient {
    /// Sends a query under the next ID, which it gives.
    pub(crate) fn send(&mut self, query: &[u8]) -> u16 {
        self.last_id = self.last_id.wrapping_add(1);
        let mut query = query.to_vec();
        query[..2].copy_from_slice(&self.last_id.to_be_bytes());
        // What could not be sent is not answered.
        let _ = self.socket.send(&query);
        self.last_id
    }

    /// Whatever comes next; none if nothing does in time.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut response = [0; 65_535];
        let length = self.socket.recv(&mut response).ok()?;
        Some(response[..length].to_vec())
    }

    /// Sends a query under the next ID; none if no response comes in time.
    pub(crate) fn exchange(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let id = self.send(query).to_be_bytes();
        loop {
            let response = self.receive()?;
            if response.starts_with(&id) {
                return Some(response);
            }
        }
    }
}

pub(crate) fn tcp_client(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("a connection");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream
}

/// Behind its length (RFC 1035 4.2.2).
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

/// # Errors
/// The connection ended, or nothing came in time.
pub(crate) fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// What is answered, in a few words: the data of the answer section in order, or else the RCODE.
pub(crate) fn in_words(message: &Message) -> String {
    let data = |record: &meridian::wire::message::Record| {
        record.to_string().rsplit('\t').next().unwrap_or_default().to_owned()
    };
    let mut words: Vec<String> = message.answers().iter().map(data).collect();
    words.sort();
    match words.is_empty() {
        true => meridian::wire::message::rcode_name(message.rcode()),
        false => words.join(" "),
    }
}
