//! Servers that took another's place.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::{PATIENCE, Server};

/// A server that nobody waits for: its parent has ended. Killed when dropped.
pub(crate) struct Heir(pub(crate) u64);

impl Heir {
    /// Whoever answers at the control socket now.
    #[track_caller]
    pub(crate) fn of(server: &Server) -> Heir {
        Heir(server.status()["pid"].as_u64().expect("a number"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.0 as i32), signal);
    }

    pub(crate) fn is_there(&self) -> bool {
        // What has ended and was not waited for yet is there all the same.
        fs::read_to_string(format!("/proc/{}/stat", self.0)).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(Signal::SIGTERM);
        self.wait_for_exit();
    }

    #[track_caller]
    pub(crate) fn wait_for_exit(&self) {
        let end = Instant::now() + PATIENCE;
        while self.is_there() {
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Replaces it, and gives the new one.
#[track_caller]
pub(crate) fn replace(server: &Server) -> Heir {
    server.tell(&["replace"]).expect(0);
    Heir::of(server)
}
