//! Reading everything again, and publishing what came of it once its checks have had their say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::published::Published;
use super::{Event, Main, Serving, give_way};
use crate::change::Cause;
use crate::config::Config;
use crate::control::{self, LastReload, Reply};
use crate::finding::{Findings, Severity};
use crate::health::board::Layout;
use crate::health::events::Kind as Happening;
use crate::observe::countries::Countries;
use crate::observe::query_log::Log;
use crate::reload::{Outcome, Reload, in_one_line};
use crate::snapshot::Snapshot;

/// What is to be published, and who waits for that.
pub(super) struct Next {
    pub(super) published: Published,
    pub(super) cause: Cause,
    pub(super) began: Instant,
    pub(super) outcome: Outcome,
    pub(super) reply: Option<oneshot::Sender<Reply>>,
}

/// How the reloads went since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Reloads {
    pub(super) counts: [u64; Outcome::ALL.len()],
    pub(super) last: Option<LastReload>,
    /// When the last snapshot was published.
    pub(super) taken_over: Option<SystemTime>,
}

impl Main {
    /// Reads everything again. What is new is published when its checks have had their say.
    pub(super) fn reload(&mut self, cause: Cause, force: bool, reply: Option<oneshot::Sender<Reply>>) {
        let began = Instant::now();
        self.manager.reloading();
        let Reload { outcome, findings, snapshot } = self.read(&cause, force);
        log(&findings, self.is_confined);
        let trouble = match outcome {
            Outcome::Unchanged | Outcome::TookAll => None,
            Outcome::KeptSome => Some("what is wrong keeps its last good version"),
            Outcome::TookNothing => Some("nothing was taken over; everything stays as it was"),
            Outcome::Held => Some("held; everything stays as it was until somebody says that it is meant"),
        };
        match trouble {
            Some(trouble) => self.health.warn(Happening::Reload, format!("{}: {trouble}", cause.why)),
            None if outcome == Outcome::Unchanged => info!("{}: nothing is new", cause.why),
            None => {}
        }
        self.last_findings = findings;
        if let Some((snapshot, layout)) = snapshot {
            let published = self.put_together(snapshot, layout);
            self.wait_for_checks(Next { published, cause, began, outcome, reply });
            return;
        }
        self.manager.reloaded(&self.in_brief());
        if let Some(reply) = reply {
            let (number, zones) = (self.served_number(), self.reloader.zones());
            let _ = reply.send(control::reload_reply(outcome, number, &zones, &self.last_findings));
        }
    }

    pub(super) fn put_together(&self, snapshot: Snapshot, layout: Layout) -> Published {
        Published::new(snapshot, self.health.adopt(layout), self.workers)
    }

    /// The configuration, then all that it names.
    pub(super) fn read(&mut self, cause: &Cause, force: bool) -> Reload {
        let mut findings = Findings::new();
        let config = self.read_config(force, &mut findings);
        let reload = if findings.has_errors() {
            Reload { outcome: Outcome::TookNothing, findings, snapshot: None }
        } else {
            let is_another = |config: &Config| {
                self.file_config.as_ref().is_some_and(|earlier| !earlier.starts_like(config))
            };
            if config.as_ref().is_some_and(is_another) {
                findings
                    .note(&self.options.config_path, "is another now; that takes effect at the next start");
            }
            let config = config.unwrap_or_else(|| self.config.clone());
            self.reloader.set_policy(config.answers.policy(&self.own_secrets));
            self.reloader.set_gates(config.gates);
            self.reloader.set_overrides(self.health.overrides());
            self.follow_rollback(force);
            // Nothing is known to panic. Should a file be found that does, it costs its reload and not the server.
            let reload = catch_unwind(AssertUnwindSafe(|| self.reloader.reload(force)));
            let mut reload = reload.unwrap_or_else(|_| {
                let mut findings = Findings::new();
                findings.unreadable(
                    &self.config.zones,
                    "reading failed in a way that it never should; please report it",
                );
                Reload { outcome: Outcome::TookNothing, findings, snapshot: None }
            });
            self.look_into_databases();
            findings.extend(reload.findings);
            reload.findings = findings;
            reload
        };
        self.reloads.counts[reload.outcome as usize] += 1;
        self.reloads.last =
            Some(LastReload { at: SystemTime::now(), cause: cause.clone(), outcome: reload.outcome });
        reload
    }

    /// Where tables were at hand, compares what they were made of; beside everything else, for it reads all of the databases.
    fn look_into_databases(&mut self) {
        let Some(unverified) = self.reloader.take_unverified() else { return };
        info!(
            "tables in the state folder are used; the geo databases are compared with what these were made of"
        );
        let events = self.events.clone();
        let look = move || {
            if unverified.are_as_they_were() {
                debug!("the geo databases are what the tables in the state folder were made of");
            } else {
                let _ = events.send(Event::TablesAreWrong);
            }
        };
        if let Err(error) = thread::Builder::new().name("verify".to_owned()).spawn(look) {
            warn!("the geo databases were not compared: {error}");
        }
    }

    fn read_config(&self, force: bool, findings: &mut Findings) -> Option<Config> {
        let path = &self.options.config_path;
        match path.exists() {
            true => Some(Config::read(Some(path), findings)),
            false => {
                if self.file_config.is_some() && !force {
                    findings
                        .unreadable(path, "is gone; what it said is kept until `meridian reload --force`");
                }
                None
            }
        }
    }

    pub(super) fn wait_for_checks(&mut self, next: Next) {
        self.next = Some(next);
        let round = self.health.first_round();
        let events = self.events.clone();
        self.slow.spawn(async move {
            round.await;
            let _ = events.send(Event::Checked);
        });
    }

    pub(super) fn publish(&mut self) -> Result<(), String> {
        let Some(Next { published, cause, began, outcome, reply }) = self.next.take() else { return Ok(()) };
        let number = published.snapshot.number();
        match std::mem::replace(&mut self.serving, Serving::Failed) {
            Serving::Now { published: live, mut servers } => {
                servers.look_at_databases();
                self.retired.push(live.swap(Arc::new(published)));
                self.serving = Serving::Now { published: live, servers };
                self.manager.reloaded(&self.in_brief());
                let took = began.elapsed().as_millis();
                let text = format!("{}: snapshot {number} is served after {took} ms", cause.why);
                self.health.note(Happening::Reload, text);
            }
            Serving::NotYet(listeners) => {
                let (zones, services) =
                    (published.snapshot.zones().len(), published.snapshot.services().len());
                self.health.hear_of_orders();
                let published = Arc::new(ArcSwap::from_pointee(published));
                let query_log = self.config.query_log.as_ref().map(Log::new);
                let countries = self.config.countries.map(|every| Countries::new(every, &self.config.geodb));
                let mut servers = Box::new(listeners.serve(&published, query_log, countries)?);
                servers.look_at_databases();
                for address in servers.addresses() {
                    info!("listening on {address}");
                }
                self.serving = Serving::Now { published, servers };
                give_way();
                info!(zones, services, "ready after {} ms", began.elapsed().as_millis());
                match self.predecessor.take() {
                    None => self.begin(),
                    Some(predecessor) => {
                        let (events, has_control) = (self.events.clone(), self.has_control);
                        let wait = move || {
                            let _ = events.send(match predecessor.ready(has_control) {
                                true => Event::Yours,
                                false => Event::Unwanted,
                            });
                        };
                        let thread = thread::Builder::new().name("replacement".to_owned()).spawn(wait);
                        thread.map_err(|error| format!("no thread: {error}"))?;
                    }
                }
            }
            Serving::Failed => return Ok(()),
        }
        self.reloads.taken_over = Some(SystemTime::now());
        self.record(number, cause);
        self.health.retire();
        self.ask_the_server_for_a_zone();
        if let Some(reply) = reply {
            let zones = self.reloader.zones();
            let _ = reply.send(control::reload_reply(outcome, Some(number), &zones, &self.last_findings));
        }
        Ok(())
    }
}

pub(super) fn log(findings: &Findings, is_confined: bool) {
    for finding in findings.iter() {
        match finding.severity {
            Severity::Error => error!("{}", in_one_line(finding)),
            Severity::Warning => warn!("{}", in_one_line(finding)),
        }
    }
    if is_confined && findings.iter().any(|finding| finding.text.contains("Permission denied")) {
        warn!("the sandbox grants the folders that meridian.yaml names, and what is listed under readable:");
    }
}
