//! The control socket: one JSON line in, one JSON line out; of who watches, a line for each thing that happens. Whoever may open
//! the socket may command the server, so the file belongs to its user alone.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::debug;

use crate::change::Cause;
use crate::daemon::Event;
use crate::finding::{Findings, Severity};
use crate::health::overrides::Refusal;
use crate::reload::{Outcome, ZoneStatus};

mod command;
mod status;
mod verdicts;

pub use command::{Command, Word};
pub use status::{Status, event_as_json, state_of, status_reply};
pub use verdicts::publish_as;

/// Of one command.
const LONGEST_LINE: u64 = 64 << 10;
/// For a command to be written, and for a status.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a reload, which may have to wait for others, a large database and the first round of new checks.
const PATIENCE_WITH_RELOADS: Duration = Duration::from_secs(600);

/// What it answers.
pub type Reply = Value;

/// The last time that everything was read, for people.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When.
    pub at: SystemTime,
    /// What for.
    pub cause: Cause,
    /// How it went.
    pub outcome: Outcome,
}

/// Removes the socket when dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
    accepting: Option<AbortHandle>,
    /// It is another process's, and its file stays.
    is_left: bool,
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.is_left {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the socket; who comes waits until it is [served](Control::serve).
///
/// # Errors
/// When another server has it, or the file system refuses.
pub fn open(path: &Path) -> Result<Control, String> {
    let told = |error: io::Error| format!("control socket {}: {error}", path.display());
    if UnixStream::connect(path).is_ok() {
        return Err(format!("control socket {}: another server has it", path.display()));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    // What a server left that did not stop by itself; nothing else is ours to remove.
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path).map_err(told)?,
        Ok(_) => return Err(format!("control socket {}: there is a file of that name", path.display())),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(told)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(told)?;
    let mut control = Control::of(path, listener);
    control.is_left = false;
    Ok(control)
}

impl Control {
    /// One that another process opened, and whose it is until this one serves it.
    #[must_use]
    pub fn of(path: &Path, listener: UnixListener) -> Control {
        Control { path: path.to_owned(), listener, accepting: None, is_left: true }
    }

    /// The socket, for another process.
    #[must_use]
    pub fn socket(&self) -> &UnixListener {
        &self.listener
    }

    /// Sends what comes in to main.
    ///
    /// # Errors
    /// As the kernel has it.
    pub fn serve(&mut self, slow: &Runtime, events: Sender<Event>) -> Result<(), String> {
        let told = |error: io::Error| format!("control socket {}: {error}", self.path.display());
        let _entered = slow.enter();
        self.listener.set_nonblocking(true).map_err(told)?;
        let listener = self.listener.try_clone().map_err(told)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(told)?;
        let accepting = slow.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(converse(stream, events.clone()))),
                    Err(error) => {
                        debug!("control socket: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        self.accepting = Some(accepting.abort_handle());
        self.is_left = false;
        Ok(())
    }

    /// Takes nobody any more; who comes waits for another process, if that has the socket, too.
    pub fn leave(&mut self, to_another: bool) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        self.is_left = to_another;
    }
}

async fn converse(stream: tokio::net::UnixStream, events: Sender<Event>) {
    // The kernel knows who it is; what they call themselves stands before it.
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LONGEST_LINE));
    if !matches!(timeout(PATIENCE, reader.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let reply = match Command::from_line(&line) {
        Err(error) => error_reply(&error),
        Ok(Command::Watch) => return watch(reader, writer, &events).await,
        Ok(mut command) => {
            if let (Some(by), Ok(uid)) = (command.by(), uid) {
                let name = if by.is_empty() { String::new() } else { format!("{by}, ") };
                *by = format!("{name}uid {uid}");
            }
            let (sender, receiver) = oneshot::channel();
            let sent = events.send(Event::Command(command, sender)).is_ok();
            match receiver.await {
                Ok(reply) if sent => reply,
                _ => error_reply("the server is stopping"),
            }
        }
    };
    let _ = timeout(PATIENCE, writer.write_all(format!("{reply}\n").as_bytes())).await;
}

/// Tells what happens, a line each, until who watches hangs up.
async fn watch(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    events: &Sender<Event>,
) {
    let (sender, receiver) = oneshot::channel();
    let _ = events.send(Event::Watch(sender));
    let Ok(mut happening) = receiver.await else { return };
    let mut ignored = [0; 64];
    loop {
        let line = tokio::select! {
            event = happening.recv() => match event {
                Ok(event) => event_as_json(&event),
                Err(RecvError::Lagged(missed)) => json!({ "missed": missed }),
                Err(RecvError::Closed) => return,
            },
            read = reader.read(&mut ignored) => match read {
                Ok(1..) => continue,
                _ => return,
            },
        };
        if !matches!(timeout(PATIENCE, writer.write_all(format!("{line}\n").as_bytes())).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Tells a running server something, and waits for what it says.
///
/// # Errors
/// When there is none, or it does not answer in time; what the server itself calls an error.
pub fn tell(path: &Path, command: &Command) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(match command {
        Command::Reload { .. } | Command::Rollback { .. } | Command::Replace => PATIENCE_WITH_RELOADS,
        _ => PATIENCE,
    }))?;
    writeln!(stream, "{}", command.to_line())?;
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        _ => error,
    })?;
    if read == 0 {
        return Err(io::Error::other("it stopped"));
    }
    let reply: Reply = serde_json::from_str(&line).map_err(io::Error::other)?;
    match reply["error"].as_str() {
        Some(error) => Err(io::Error::other(error.to_owned())),
        None => Ok(reply),
    }
}

/// Hands on what happens at a running server, a line of JSON each, until `each` has enough of it.
///
/// # Errors
/// When there is none, or it stops.
pub fn follow(path: &Path, mut each: impl FnMut(&Value) -> bool) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "{}", Command::Watch.to_line())?;
    for line in BufReader::new(stream).lines() {
        if !each(&serde_json::from_str(&line?).map_err(io::Error::other)?) {
            return Ok(());
        }
    }
    Err(io::Error::other("it stopped"))
}

/// Why a command was not obeyed.
#[must_use]
pub fn error_reply(text: &str) -> Reply {
    json!({ "error": text })
}

/// Why a command makes no sense.
#[must_use]
pub fn wrong_reply(text: &str) -> Reply {
    json!({ "wrong": text })
}

/// What an operator's order came to.
#[must_use]
pub fn order_reply(done: Result<Vec<String>, Refusal>) -> Reply {
    match done {
        Ok(done) => json!({ "done": done }),
        Err(Refusal::Wrong(text)) => wrong_reply(&text),
        Err(Refusal::TooMuch(text)) => json!({ "refused": text }),
    }
}

/// Which process is the server now, or why this one still is.
#[must_use]
pub fn replace_reply(replaced: &Result<u32, String>) -> Reply {
    match replaced {
        Ok(pid) => json!({ "replaced_by": pid }),
        Err(why) => json!({ "failed": why }),
    }
}

/// How a reload went, which snapshot is served now, and which zones are not as their files say.
#[must_use]
pub fn reload_reply(
    outcome: Outcome,
    snapshot: Option<u64>,
    zones: &[ZoneStatus],
    findings: &Findings,
) -> Reply {
    let in_state = |state: &str| -> Vec<String> {
        zones.iter().filter(|zone| state_of(zone) == state).map(|zone| zone.name.to_string()).collect()
    };
    json!({
        "outcome": outcome_name(outcome),
        "snapshot": snapshot,
        "zones": { "all": zones.len(), "kept": in_state("kept"), "broken": in_state("broken") },
        "findings": findings_as_json(findings),
    })
}

/// How a reload went, in words.
#[must_use]
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::TookAll => "took all",
        Outcome::KeptSome => "kept some",
        Outcome::TookNothing => "took nothing",
        Outcome::Held => "held",
    }
}

fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Findings for programs.
#[must_use]
pub fn findings_as_json(findings: &Findings) -> Value {
    findings
        .iter()
        .map(|finding| {
            json!({
                "severity": if finding.severity == Severity::Error { "error" } else { "warning" },
                "file": finding.path.display().to_string(),
                "line": finding.line,
                "column": finding.column,
                "text": finding.text,
                "shown": finding.shown,
            })
        })
        .collect()
}
