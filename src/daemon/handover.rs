//! One server takes the place of another: the sockets go from process to process, and none is ever closed.
//!
//! ```text
//!   old                       starter                  new
//!   sockets, "all"     ...........................>    takes them, reads everything, tries its checks
//!                      <...........................    "ready": UDP and TCP are answered, by both
//!   lets go of all else
//!   "yours"            ...........................>    answers the control socket, metrics and QUIC
//!   answers what it has read and who is connected, and ends
//! ```
//!
//! Who gives up waiting, or is told to stop meanwhile, says "no", and the new one ends; only where nobody says anything any more the
//! old one is gone, and the new one is the server.
//!
//! The new process must be free of what the old one gave up: the sandbox cannot be left, and whoever is confined hands that
//! on to all that it starts (and could nest no more than 16 times). So a *starter* is started before the old one confines
//! itself. It waits, and starts one program with one list of arguments, whoever tells it to: nothing that comes from the
//! network gets near it. It is the same user by then.
//!
//! Each message is a packet of its own, of a few words, with one descriptor or none. A socket is called what it is and where
//! the configuration has it: so a port that the kernel chose is found again.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tracing::{info, warn};

/// What the new one is called with besides the old one's arguments.
pub const FLAG: &str = "--takes-over";
/// The command of the starter.
pub const STARTER: &str = "starter";

/// For the new one to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked whether the other side says something.
const LOOK_UP: Duration = Duration::from_millis(20);
/// Of a message; longer ones are cut.
const LONGEST: usize = 4096;

/// The program and what it was called with: how to start another like it.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub file: PathBuf,
    /// All behind its name.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// What this process was started from. A name that was given for the file goes before the file: it may be a link, and that
    /// to another version tomorrow.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn of_this_process() -> io::Result<Program> {
        let mut arguments = std::env::args_os();
        let file = std::env::current_exe()?;
        let name = arguments.next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let name = name.and_then(|name| std::path::absolute(name).ok());
        let is_same = |name: &PathBuf| name.canonicalize().is_ok_and(|real| real == file);
        let file = name.filter(is_same).unwrap_or(file);
        Ok(Program { file, arguments: arguments.filter(|argument| argument != FLAG).collect() })
    }
}

/// One end of a line between two processes.
#[derive(Debug)]
struct Line(OwnedFd);

impl Line {
    fn pair() -> io::Result<(Line, Line)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // Whoever does not listen must not hold the other one for ever.
        for end in [&one, &other] {
            set_socket_timeout(end, Timeout::Send, Some(READY_WITHIN))?;
        }
        Ok((Line(one), Line(other)))
    }

    fn say(&self, words: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut cut = words.len().min(LONGEST);
        while !words.is_char_boundary(cut) {
            cut -= 1;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|descriptor| [descriptor]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let octets = &words.as_bytes()[..cut];
        sendmsg(&self.0, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// What the other one said, if it says something in time; an error when it has hung up.
    fn hear(&self, within: Duration) -> io::Result<Option<(String, Option<OwnedFd>)>> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(within.max(Duration::from_millis(1))))?;
        let mut octets = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut octets)];
        let received = match recvmsg(&self.0, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptor = descriptors.flatten().next();
        // Nobody says nothing.
        match received {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Some((String::from_utf8_lossy(&octets[..received]).into_owned(), descriptor))),
        }
    }
}

/// A socket on its way to another process.
#[derive(Debug)]
pub struct Kept {
    /// What it is, and where the configuration has it.
    pub(super) name: String,
    pub(super) socket: OwnedFd,
}

/// Who can start another server.
#[derive(Debug)]
pub(super) struct Starter {
    line: Line,
    /// Nobody is to take this one's place any more.
    is_given_up: AtomicBool,
}

impl Starter {
    /// Must come before the process is confined, and after it has given up root.
    pub(super) fn start(program: &Program) -> io::Result<Starter> {
        let (ours, theirs) = Line::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(STARTER).arg("--").arg(&program.file).args(&program.arguments);
        // It ends with this process, when its line does; nobody else has the other end.
        command.stdin(theirs.0).spawn()?;
        Ok(Starter { line: ours, is_given_up: AtomicBool::new(false) })
    }

    /// Has [`replace`](Starter::replace), in another thread, end whom it started.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// Starts a server that takes the place of this one, and gives it sockets. Waits until it is ready.
    ///
    /// # Errors
    /// It is not, and is no more: with what it said last.
    pub(super) fn replace(&self, sockets: &[Kept]) -> Result<Successor, String> {
        let told = |error: io::Error| format!("cannot be started: {error}");
        // What was said of an earlier one is of no interest any more.
        while let Ok(Some(_)) = self.line.hear(Duration::ZERO) {}
        let (line, theirs) = Line::pair().map_err(told)?;
        self.line.say("start", Some(theirs.0.as_fd())).map_err(told)?;
        drop(theirs);
        let mut given = Ok(());
        for Kept { name, socket } in sockets {
            given = given.and_then(|()| line.say(name, Some(socket.as_fd())));
        }
        // Should that fail, it is gone, and the starter tells why.
        let _ = given.and_then(|()| line.say("all", None));
        let end = Instant::now() + READY_WITHIN;
        // The two lines are not in step: it may be ready before its starter has told who it is.
        let (mut pid, mut ready) = (None, None);
        let mut last_words = None;
        let ended = loop {
            if let (Some(pid), Some(has_control)) = (pid, ready) {
                return Ok(Successor { pid, line, has_control });
            }
            match line.hear(LOOK_UP) {
                Ok(Some((words, _))) => match words.split_once(' ') {
                    Some(("ready", control)) => ready = Some(control == "control"),
                    Some(("failed", why)) => last_words = Some(why.to_owned()),
                    _ => {}
                },
                Ok(None) => {}
                Err(_) => thread::sleep(LOOK_UP),
            }
            match self.line.hear(Duration::ZERO) {
                Ok(Some((words, _))) => match words.split_once(' ') {
                    Some(("started", number)) => pid = number.parse().ok(),
                    // Its last words may have come after we listened.
                    Some(("ended", how)) => {
                        if let Ok(Some((words, _))) = line.hear(Duration::ZERO) {
                            last_words = words.strip_prefix("failed ").map(str::to_owned).or(last_words);
                        }
                        break how.to_owned();
                    }
                    _ => break words,
                },
                Ok(None) => {}
                Err(error) => break format!("cannot be started: the starter is gone ({error})"),
            }
            let is_given_up = self.is_given_up.load(Ordering::Relaxed);
            if is_given_up || Instant::now() > end {
                let _ = self.line.say("kill", None);
                break match is_given_up {
                    true => "is not waited for any more".to_owned(),
                    false => format!("was not ready within {} s", READY_WITHIN.as_secs()),
                };
            }
        };
        // The starter may be gone, and with it who could end the new one.
        let _ = line.say("no", None);
        Err(match last_words {
            Some(words) => format!("{ended}: {words}"),
            None => ended,
        })
    }
}

/// The new one, which is ready.
#[derive(Debug)]
pub struct Successor {
    pub(super) pid: u32,
    /// Whether the control socket is where it was.
    pub(super) has_control: bool,
    line: Line,
}

impl Successor {
    /// From here on it is the server. It may have died since; then that is told, and nothing can be taken back.
    pub(super) fn take_over(&self) {
        if let Err(error) = self.line.say("yours", None) {
            warn!("process {} did not hear that it is the server now: {error}", self.pid);
        }
    }

    /// It is not, and ends.
    pub(super) fn refuse(&self) {
        let _ = self.line.say("no", None);
    }
}

/// The old one, as the new one sees it.
#[derive(Debug)]
pub struct Predecessor {
    line: Line,
}

impl Predecessor {
    /// The other end is standard input, which nobody needs afterwards. Must come before any thread: signals that the starter
    /// does not hear are heard from here on.
    ///
    /// # Errors
    /// It is something else.
    pub fn find() -> io::Result<Predecessor> {
        let line = Line(io::stdin().as_fd().try_clone_to_owned()?);
        rustix::net::sockopt::socket_type(&line.0)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        // What is blocked stays so in whatever is started.
        signals_of_servers().thread_unblock()?;
        Ok(Predecessor { line })
    }

    /// The sockets.
    ///
    /// # Errors
    /// It is gone, and with it some of them.
    pub(super) fn sockets(&self) -> io::Result<Vec<Kept>> {
        let mut sockets = Vec::new();
        let end = Instant::now() + READY_WITHIN;
        while Instant::now() < end {
            match self.line.hear(READY_WITHIN)? {
                Some((name, Some(socket))) => sockets.push(Kept { name, socket }),
                Some((words, None)) if words == "all" => return Ok(sockets),
                _ => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Tells that nothing will come of it.
    pub fn fail(&self, why: &str) {
        let _ = self.line.say(&format!("failed {why}"), None);
    }

    /// Tells that queries are answered, and waits until all else is ours, too. Should the old one die, it is. False where it goes on
    /// by itself.
    pub(super) fn ready(&self, has_control: bool) -> bool {
        let words = if has_control { "ready control" } else { "ready elsewhere" };
        let _ = self.line.say(words, None);
        self.is_ours()
    }

    /// Waits until one of both is the server.
    fn is_ours(&self) -> bool {
        loop {
            match self.line.hear(READY_WITHIN) {
                Ok(Some((words, _))) if words == "yours" => return true,
                Ok(Some((words, _))) if words == "no" => return false,
                Ok(_) => {}
                // It was gone before it read what it was told; what it had said itself comes all the same.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => {
                    info!("the server that was to be replaced is gone ({error})");
                    return true;
                }
            }
        }
    }
}

/// What servers are told by signals, and starters are not.
fn signals_of_servers() -> SigSet {
    [Signal::SIGHUP, Signal::SIGUSR2].into_iter().collect()
}

/// The starter: waits at its standard input until it is told to start the program, or until nobody is there any more.
///
/// # Errors
/// It was started by hand.
pub fn run_starter(file: &PathBuf, arguments: &[OsString]) -> io::Result<()> {
    let line = Line(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::net::sockopt::socket_type(&line.0)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    // They may be sent to all of a group.
    signals_of_servers().thread_block()?;
    let mut started: Option<Child> = None;
    loop {
        let patience = if started.is_some() { LOOK_UP } else { READY_WITHIN };
        match line.hear(patience) {
            Ok(Some((_, Some(descriptor)))) => {
                let mut command = Command::new(file);
                command.args(arguments).arg(FLAG).stdin(Stdio::from(descriptor));
                // Of the process that systemd started, and for no other.
                for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
                    command.env_remove(name);
                }
                let said = match command.spawn() {
                    Ok(child) => {
                        let said = format!("started {}", child.id());
                        started = Some(child);
                        said
                    }
                    Err(error) => format!("ended {}: {error}", file.display()),
                };
                // Who is gone by now may have said "kill" before.
                let _ = line.say(&said, None);
            }
            Ok(Some(_)) => {
                if let Some(child) = &mut started {
                    child.kill()?;
                }
            }
            Ok(None) => {}
            Err(_) => return Ok(()),
        }
        if let Some(child) = &mut started
            && let Some(status) = child.try_wait()?
        {
            started = None;
            let _ = line.say(&format!("ended {status}"), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn what_is_said_arrives_with_the_descriptor_that_goes_with_it() {
        let (one, other) = Line::pair().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(other.hear(Duration::ZERO).unwrap().is_none());
        one.say("udp 127.0.0.1:0", Some(socket.as_fd())).unwrap();
        one.say(&"ä".repeat(LONGEST), None).unwrap();
        let (words, descriptor) = other.hear(Duration::ZERO).unwrap().unwrap();
        assert_eq!(words, "udp 127.0.0.1:0");
        let same = UdpSocket::from(descriptor.unwrap());
        assert_eq!(same.local_addr().unwrap(), socket.local_addr().unwrap());
        let (words, descriptor) = other.hear(Duration::ZERO).unwrap().unwrap();
        assert_eq!((words.len(), descriptor.is_none()), (LONGEST, true));
        drop(one);
        assert!(other.hear(Duration::ZERO).is_err());
    }

    /// Of one that says these words after the new one is ready, or hangs up.
    fn is_ours_after(words: Option<&str>) -> bool {
        let (old, new) = Line::pair().unwrap();
        if let Some(words) = words {
            old.say("of another version", None).unwrap();
            old.say(words, None).unwrap();
        }
        drop(old);
        Predecessor { line: new }.ready(true)
    }

    /// Which it had no more reason to read.
    #[test]
    fn the_old_one_goes_on_also_where_it_did_not_hear_that_the_new_one_is_ready() {
        let (old, new) = Line::pair().unwrap();
        new.say("ready control", None).unwrap();
        old.say("no", None).unwrap();
        drop(old);
        assert!(!Predecessor { line: new }.is_ours());
    }

    #[test]
    fn all_is_ours_when_the_old_one_says_so_or_is_gone_and_not_when_it_goes_on() {
        assert!(is_ours_after(Some("yours")));
        assert!(is_ours_after(None));
        assert!(!is_ours_after(Some("no")));
    }

    /// It could start nobody else, nor end who is started.
    #[test]
    fn a_new_one_whose_starter_is_gone_is_told_that_the_old_one_goes_on() {
        let (ours, theirs) = Line::pair().unwrap();
        let starter = Starter { line: ours, is_given_up: AtomicBool::new(false) };
        let waiting = thread::spawn(move || starter.replace(&[]));
        let line = loop {
            if let Some((words, Some(line))) = theirs.hear(READY_WITHIN).unwrap() {
                assert_eq!(words, "start");
                break line;
            }
        };
        drop(theirs);
        let why = waiting.join().unwrap().expect_err("nobody is started");
        assert!(why.contains("the starter is gone"), "{why}");
        let new = Predecessor { line: Line(line) };
        assert!(new.sockets().unwrap().is_empty());
        assert!(!new.ready(true));
    }
}
