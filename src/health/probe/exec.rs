//! A program that is run: 0 is success, whatever else it exits with is not.
//!
//! It is a process group of its own, which ends with the attempt, whatever it left running: an attempt that is over leaves
//! nothing behind. Only then is the program waited for, so that its number cannot have become somebody else's before.

use std::io::{self, pipe};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;

use super::{Deadline, Trouble, first_line};
use crate::site::ExecCheck;

/// What is kept of what it says, in octets; the rest is read and forgotten, so that it never waits for us.
const LONGEST_OUTPUT: usize = 1024;

/// Where programs look for others, if this process was not told.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(super) async fn run(
    exec: &ExecCheck,
    at: SocketAddr,
    until: Deadline,
) -> Result<Option<String>, Trouble> {
    let program = exec.command.first().map_or("", String::as_str);
    let (running, mut output) = start(exec, at).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; what the sandbox lets run is listed under executable:",
            _ => "",
        };
        Trouble::Ours(format!("{program}: {error}{hint}"))
    })?;
    let mut said = Vec::new();
    let ended = async {
        tokio::select! {
            biased;
            ended = running.end() => ended.map_err(|error| Trouble::Ours(format!("{program}: {error}"))),
            never = listen(&mut output, &mut said) => never,
        }
    };
    until.bound("not done", ended).await?;
    take_the_rest(&output, &mut said);
    let status = running.stop().map_err(|error| Trouble::Ours(format!("{program}: {error}")))?;
    let words = first_line(&said);
    if status.success() {
        return Ok(words);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    };
    Err(Trouble::Theirs(words.map_or_else(|| how.clone(), |words| format!("{how}: {words}"))))
}

/// A program under way. Dropped, it is killed with all that it started.
struct Running {
    child: Option<Child>,
    /// Readable when it has ended. The kernel's number for a process is no pipe, but is waited for as if it were one, and
    /// never read.
    end: Option<Receiver>,
}

fn start(exec: &ExecCheck, at: SocketAddr) -> io::Result<(Running, Receiver)> {
    let (reader, writer) = pipe()?;
    let output = Receiver::from_owned_fd(reader.into())?;
    let (address, port) = (at.ip().to_string(), at.port().to_string());
    let arguments = exec.command.iter().skip(1);
    let arguments = arguments.map(|text| text.replace("{address}", &address).replace("{port}", &port));
    let mut command = Command::new(exec.command.first().map_or("", String::as_str));
    command.args(arguments).process_group(0);
    // Nothing of ours is its business, such as where systemd listens.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into()));
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut running = Running { child: Some(command.spawn()?), end: None };
    let end = pidfd_open(running.pid().ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    running.end = Some(Receiver::from_owned_fd_unchecked(end)?);
    Ok((running, output))
}

impl Running {
    fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(Pid::from_child)
    }

    async fn end(&self) -> io::Result<()> {
        if let Some(end) = &self.end {
            end.readable().await?;
        }
        Ok(())
    }

    /// Of one that has ended.
    fn stop(mut self) -> io::Result<ExitStatus> {
        self.kill();
        let Some(mut child) = self.child.take() else { return Err(io::ErrorKind::NotFound.into()) };
        child.wait()
    }

    fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let (Some(mut child), end) = (self.child.take(), self.end.take()) else { return };
        if let (Ok(None), Some(end), Ok(runtime)) = (child.try_wait(), end, Handle::try_current()) {
            // A moment, or for as long as a device keeps it: nobody else waits with us.
            runtime.spawn(async move {
                let _ = end.readable().await;
                let _ = child.wait();
            });
        }
    }
}

/// Keeps the beginning of what is said, for as long as somebody may say something.
async fn listen<T>(output: &mut Receiver, said: &mut Vec<u8>) -> T {
    let mut octets = [0; 1024];
    loop {
        if output.readable().await.is_err() {
            return std::future::pending().await;
        }
        match output.try_read(&mut octets) {
            // Whoever closes what it speaks through may still be at work.
            Ok(0) => return std::future::pending().await,
            Ok(length) => keep(said, &octets[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return std::future::pending().await,
        }
    }
}

/// What was said by the end; not all that others who were started go on to say.
fn take_the_rest(output: &Receiver, said: &mut Vec<u8>) {
    let mut octets = [0; 1024];
    while said.len() < LONGEST_OUTPUT {
        match output.try_read(&mut octets) {
            Ok(length @ 1..) => keep(said, &octets[..length]),
            _ => return,
        }
    }
}

fn keep(said: &mut Vec<u8>, octets: &[u8]) {
    said.extend_from_slice(&octets[..octets.len().min(LONGEST_OUTPUT - said.len())]);
}
