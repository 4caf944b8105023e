//! A server that takes the place of another: what main does of it. How they talk is `handover`.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::{error, info};

use super::handover::Successor;
use super::{Event, Main, Serving};
use crate::control::{self, Reply};

/// For connections of a server that was replaced: more than one may be idle, with a message at its end. Whoever goes on asking
/// after that has to ask the new one.
const DRAIN: Duration = Duration::from_secs(15);
/// For the one that was started to be ended.
const GIVE_UP: Duration = Duration::from_secs(2);

impl Main {
    /// Has another server started that takes this one's place. Until it is ready, all goes on but reloads.
    pub(super) fn replace(&mut self, reply: Option<oneshot::Sender<Reply>>) {
        self.replacing = Some(reply);
        let Some(starter) = self.starter.clone() else { return self.go_on("has nobody to start it") };
        if let Some(why) = self.health.orders_that_a_restart_would_not_know() {
            return self.go_on(&format!("would not know what is drained and forced ({why})"));
        }
        info!("another server is started to take the place of this one");
        let (kept, events) = (Arc::clone(&self.kept), self.events.clone());
        let wait = move || drop(events.send(Event::Replaced(starter.replace(&kept))));
        if let Err(error) = thread::Builder::new().name("replacement".to_owned()).spawn(wait) {
            self.go_on(&format!("cannot be waited for: {error}"));
        }
    }

    /// Nobody took this one's place.
    pub(super) fn go_on(&mut self, why: &str) {
        error!("the server that was to take the place of this one {why}; this one goes on");
        if let Some(reply) = self.replacing.take().flatten() {
            let _ = reply.send(control::replace_reply(&Err(why.to_owned())));
        }
        self.obey_what_was_put_off();
    }

    /// This one is told to stop: so nobody is to take its place either, who would else take it for gone. Whoever asked for that hears
    /// what all hear who have asked something of a server that stops.
    pub(super) fn give_up_replacing(&mut self, received: &Receiver<Event>) {
        let Some((starter, _)) = self.starter.as_ref().zip(self.replacing.take()) else { return };
        starter.give_up();
        let end = Instant::now() + GIVE_UP;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match received.recv_timeout(left) {
                Ok(Event::Replaced(result)) => {
                    // It was ready in the same moment.
                    if let Ok(successor) = &result {
                        successor.refuse();
                    }
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }

    /// Somebody did. Each thing is let go of here before it is taken there, but for what both may do at a time: reading UDP,
    /// and accepting connections. What has been read is answered, and who is connected is served.
    pub(super) fn hand_over(&mut self, successor: &Successor, received: &Receiver<Event>) {
        self.is_replaced = true;
        self.doors.control.leave(successor.has_control);
        self.doors.accepting.iter().for_each(AbortHandle::abort);
        if let Serving::Now { servers, .. } = &mut self.serving {
            servers.make_room();
        }
        self.health.give_state_away();
        self.manager.replaced_by(successor.pid);
        successor.take_over();
        if let Serving::Now { servers, .. } = &self.serving {
            servers.stop_reading();
        }
        info!("process {} is the server now; who is connected here is served to the end", successor.pid);
        if let Some(reply) = self.replacing.take().flatten() {
            let _ = reply.send(control::replace_reply(&Ok(successor.pid)));
        }
        let mut events: Vec<Event> = self.put_off.drain(..).collect();
        let end = Instant::now() + DRAIN;
        loop {
            for event in events.drain(..) {
                match event {
                    Event::Stop(_) => return,
                    Event::Command(_, reply) => {
                        let why = "another process has just become the server; tell that one";
                        let _ = reply.send(control::error_reply(why));
                    }
                    _ => {}
                }
            }
            events.extend(received.recv_timeout(Duration::from_millis(50)));
            let is_done = matches!(&self.serving, Serving::Now { servers, .. } if servers.is_done());
            if events.is_empty() && (is_done || Instant::now() > end) {
                return;
            }
        }
    }

    /// The other one has let go.
    pub(super) fn be_the_server(&mut self) -> Result<(), String> {
        self.health.take_state_over();
        self.open_doors()?;
        self.begin();
        info!("took the place of the server that was here");
        Ok(())
    }
}
