//! What operators said of sites: drained, forced up or down; until when, why, and who said so.
//!
//! Pure but for its file: orders in, what stands out. An override is of one site, in one service or in all of them, so that
//! what a pattern meant is settled when it is given, and a site that is added later is not drained by surprise. One that expires
//! reverts by itself; all are kept over restarts.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::board::{Layout, Share};
use crate::finding::did_you_mean;
use crate::replace::replace;

/// Within the state folder.
const FILE: &str = "overrides.json";
/// What could not be written is tried again after so many times as long as that took.
const PATIENCE: u32 = 20;

/// Milliseconds since 1970: expiry goes by the clock on the wall, also over restarts.
pub type Milliseconds = u64;

/// One site, and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The site's name.
    pub site: String,
    /// The one service that it is said for; all where there is none.
    pub service: Option<String>,
    /// What.
    #[serde(flatten)]
    pub deed: Deed,
    /// Since when.
    pub since: Milliseconds,
    /// When it reverts; never by itself where there is none.
    pub until: Option<Milliseconds>,
    /// Why, for people.
    pub reason: String,
    /// Who said so.
    pub by: String,
}

/// What is said of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Deed {
    /// It is to take nobody, after so many milliseconds in which its share goes from what it was to nothing.
    Drain {
        /// Over how long.
        over: Milliseconds,
        /// The share that it had.
        from: u16,
    },
    /// The drain is over: its share goes back to all.
    Undrain {
        /// Over how long.
        over: Milliseconds,
        /// The share that it had.
        from: u16,
    },
    /// It works, whatever checks say.
    Up,
    /// It does not, whatever checks say.
    Down,
}

/// What a site is forced to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Served, whatever checks say.
    Up,
    /// Not served, whatever checks say.
    Down,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Take nobody.
    Drain,
    /// Take everybody again.
    Undrain,
    /// Be up.
    ForceUp,
    /// Be down.
    ForceDown,
    /// Be what checks say.
    Unforce,
}

/// One order of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What for.
    pub wish: Wish,
    /// Names of sites, with `*` and `?`.
    pub site: String,
    /// Names of services, with `*` and `?`; all where there is none.
    #[serde(default)]
    pub service: Option<String>,
    /// Milliseconds until it reverts.
    #[serde(default)]
    pub lasts: Option<Milliseconds>,
    /// Milliseconds over which the share goes where it goes.
    #[serde(default)]
    pub over: Milliseconds,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Who.
    #[serde(default)]
    pub by: String,
    /// Even where it leaves a service without a site.
    #[serde(default)]
    pub anyway: bool,
}

/// Why an order is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense.
    Wrong(String),
    /// It makes sense, and goes too far.
    TooMuch(String),
}

/// All that stands.
#[derive(Debug, Default)]
pub struct Overrides {
    path: Option<PathBuf>,
    /// Another process is the one that writes there.
    is_anothers: bool,
    list: Vec<Override>,
    /// Why what stands is not written down yet, and when it is tried again.
    unwritten: Option<(String, Instant)>,
    /// By the clock on the wall, when it was looked at last.
    looked: Milliseconds,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    overrides: Vec<Override>,
}

impl Overrides {
    /// Reads what stood before; without a folder nothing is kept.
    #[must_use]
    pub fn open(folder: Option<&Path>) -> Overrides {
        let path = folder.map(|folder| folder.join(FILE));
        let mut overrides = Overrides { path, ..Overrides::default() };
        overrides.read_again();
        overrides
    }

    /// The same, where it is another process that writes there.
    #[must_use]
    pub fn open_anothers(folder: &Path) -> Overrides {
        let path = Some(folder.join(FILE));
        let mut overrides = Overrides { path, is_anothers: true, ..Overrides::default() };
        overrides.read_again();
        overrides
    }

    /// Reads what stands by now. Where that cannot be read, what is known of it stands.
    pub fn read_again(&mut self) {
        let Some(path) = &self.path else { return };
        let read = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
            Err(error) => Err(error.to_string()),
            Ok(octets) => serde_json::from_slice(&octets).map_err(|error| error.to_string()),
        };
        match read {
            Ok(File { overrides }) => self.list = overrides,
            Err(error) if self.is_anothers => warn!("{}: {error}", path.display()),
            Err(error) => {
                // What an operator said is not thrown away with the next thing that one says.
                let aside = path.with_extension("json.broken");
                let kept = match fs::rename(path, &aside) {
                    Ok(()) => format!("is kept as {}", aside.display()),
                    Err(error) => format!("cannot be kept as {} ({error})", aside.display()),
                };
                warn!(
                    "{}: {error}; drains and forces that stand only there are void; it {kept}",
                    path.display()
                );
                if !self.list.is_empty() {
                    self.save();
                }
            }
        }
    }

    /// From now on another process writes down what operators say, or this one does again.
    pub fn set_anothers(&mut self, is_anothers: bool) {
        self.is_anothers = is_anothers;
    }

    /// Whether another process is the one that writes.
    #[must_use]
    pub fn is_anothers(&self) -> bool {
        self.is_anothers
    }

    /// Why a restart would not know what stands, where it would not.
    #[must_use]
    pub fn unwritten(&self) -> Option<&str> {
        self.unwritten.as_ref().map(|(why, _)| why.as_str())
    }

    /// Tries again what could not be written.
    pub fn write_what_is_unwritten(&mut self) {
        if self.unwritten.is_some() {
            self.save();
        }
    }

    /// The same, if it is time again: others wait meanwhile, and a disk may take long to say no.
    pub fn write_if_it_is_time(&mut self) {
        if self.unwritten.as_ref().is_some_and(|(_, again)| Instant::now() >= *again) {
            self.save();
        }
    }

    /// All that stands, in the order in which it was said.
    #[must_use]
    pub fn list(&self) -> &[Override] {
        &self.list
    }

    /// Does what is asked, to the sites of a layout. Gives what it comes to, for people: a line for each.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn follow(
        &mut self,
        order: &Order,
        layout: &Layout,
        now: Milliseconds,
    ) -> Result<Vec<String>, Refusal> {
        self.look_at_clock(now);
        let wrong = |text: String| Err(Refusal::Wrong(text));
        let sites: BTreeSet<&str> = layout.shares.iter().map(|share| share.site.as_str()).collect();
        let services: BTreeSet<&str> = layout.services.iter().map(|service| service.name.as_str()).collect();
        let chosen = matching(&order.site, sites.iter().copied());
        // What stands of a site that no zone has any more can still be taken back.
        let is_end = matches!(order.wish, Wish::Undrain | Wish::Unforce);
        let known = self.list.iter().map(|standing| standing.site.as_str()).filter(|_| is_end);
        let chosen: BTreeSet<String> =
            chosen.into_iter().chain(matching(&order.site, known)).map(str::to_owned).collect();
        if chosen.is_empty() {
            return wrong(format!("no site \"{}\"{}", order.site, did_you_mean(&order.site, sites)));
        }
        let in_services: Vec<Option<String>> = match &order.service {
            None => vec![None],
            Some(pattern) => {
                let known =
                    self.list.iter().filter_map(|standing| standing.service.as_deref()).filter(|_| is_end);
                let found: BTreeSet<&str> = matching(pattern, services.iter().copied())
                    .into_iter()
                    .chain(matching(pattern, known))
                    .collect();
                if found.is_empty() {
                    return wrong(format!("no service \"{pattern}\"{}", did_you_mean(pattern, services)));
                }
                found.into_iter().map(|service| Some(service.to_owned())).collect()
            }
        };
        let mut next = self.list.clone();
        let mut told = Vec::new();
        for site in &chosen {
            for service in &in_services {
                // A pattern of services takes those that have the site.
                let has = |service: &String| {
                    layout.shares.iter().any(|share| share.site == *site && share.service == *service)
                };
                if !is_end && service.as_ref().is_some_and(|service| !has(service)) {
                    continue;
                }
                told.extend(apply(&mut next, order, site, service.as_deref(), now)?);
            }
        }
        if told.is_empty() {
            return wrong(match is_end {
                true => format!("nothing of the kind stands for \"{}\"", order.site),
                false => format!("no such service has a site \"{}\"", order.site),
            });
        }
        if !order.anyway && matches!(order.wish, Wish::Drain | Wish::ForceDown) {
            let stripped = stripped(&self.list, &next, layout);
            if !stripped.is_empty() {
                let text =
                    format!("that leaves no site for {}; --force does it all the same", stripped.join(", "));
                return Err(Refusal::TooMuch(text));
            }
        }
        self.list = next;
        self.save();
        Ok(told)
    }

    /// Lets go of what is over; gives it.
    pub fn expire(&mut self, now: Milliseconds) -> Vec<Override> {
        self.look_at_clock(now);
        let is_over = |standing: &Override| match standing.deed {
            Deed::Undrain { over, .. } => now >= standing.since.saturating_add(over),
            _ => standing.until.is_some_and(|until| now >= until),
        };
        let (over, left): (Vec<_>, Vec<_>) = self.list.drain(..).partition(is_over);
        self.list = left;
        if !over.is_empty() {
            self.save();
        }
        over
    }

    /// A clock that is set back takes no client back to a site that it was moved from: shares that are on their way, or have
    /// arrived, stay as far as they were. Of those that began in what is the future by now, as after a start by a clock that was not
    /// set yet, nobody knows how far they were: they have arrived. To be told before what stands is published.
    pub fn look_at_clock(&mut self, now: Milliseconds) {
        let back = std::mem::replace(&mut self.looked, now).saturating_sub(now);
        let mut is_news = false;
        for standing in &mut self.list {
            let (Deed::Drain { over, .. } | Deed::Undrain { over, .. }) = &mut standing.deed else {
                continue;
            };
            let before = standing.since;
            standing.since = before.saturating_sub(back);
            if standing.since > now {
                (standing.since, *over) = (now, 0);
            }
            is_news |= standing.since != before;
        }
        if is_news {
            self.save();
        }
    }

    /// What a site is forced to be in a service, if it is.
    #[must_use]
    pub fn forced(&self, site: &str, service: &str) -> Option<Forced> {
        // The last word counts, and what was said of one service before what was said of all.
        let of = |exactly: bool| {
            self.about(site, service)
                .rev()
                .filter(move |standing| standing.service.is_some() == exactly)
                .find_map(|standing| match standing.deed {
                    Deed::Up => Some(Forced::Up),
                    Deed::Down => Some(Forced::Down),
                    _ => None,
                })
        };
        of(true).or_else(|| of(false))
    }

    /// Which part of its clients a site takes in a service.
    #[must_use]
    pub fn share(&self, site: &str, service: &str, now: Milliseconds) -> Share {
        // Force goes before drain (meaning 9).
        if self.forced(site, service).is_some() {
            return Share::FULL;
        }
        self.about(site, service)
            .map(|standing| standing.deed.share(now.saturating_sub(standing.since)))
            .min()
            .unwrap_or(Share::FULL)
    }

    /// Whether something about a site and a service changes with time.
    #[must_use]
    pub fn is_moving(&self, now: Milliseconds) -> bool {
        self.list.iter().any(|standing| match standing.deed {
            Deed::Drain { over, .. } | Deed::Undrain { over, .. } => {
                now < standing.since.saturating_add(over)
            }
            _ => false,
        })
    }

    fn about(&self, site: &str, service: &str) -> impl DoubleEndedIterator<Item = &Override> {
        self.list.iter().filter(move |standing| standing.is_about(site, service))
    }

    /// Trouble is told once, however often it is tried.
    fn save(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| !self.is_anothers) else { return };
        let file = File { overrides: self.list.clone() };
        let begun = Instant::now();
        let written = serde_json::to_vec_pretty(&file)
            .map_err(io::Error::other)
            .and_then(|octets| replace(path, &octets));
        let name = path.display();
        match (&written, &self.unwritten) {
            (Err(error), None) => {
                warn!(
                    "{name}: {error}; a restart will not know what is drained and forced until that is mended"
                );
            }
            (Ok(()), Some(_)) => info!("{name}: what is drained and forced is written down by now"),
            _ => {}
        }
        let again = Instant::now() + begun.elapsed() * PATIENCE;
        self.unwritten = written.err().map(|error| (format!("{name}: {error}"), again));
    }
}

impl Override {
    fn is_about(&self, site: &str, service: &str) -> bool {
        self.site == site && self.service.as_deref().is_none_or(|only| only == service)
    }
}

impl Deed {
    /// The share, so many milliseconds after it was said. A step down or up moves each client once at most: which ones go first
    /// is decided by who they are (meaning 10).
    fn share(self, after: Milliseconds) -> Share {
        let part = |over: Milliseconds| if over == 0 { 1.0 } else { (after as f64 / over as f64).min(1.0) };
        match self {
            Deed::Drain { over, from } => Share((f64::from(from) * (1.0 - part(over))) as u16),
            Deed::Undrain { over, from } => {
                let missing = f64::from(Share::FULL.0 - from);
                Share(from + (missing * part(over)) as u16)
            }
            Deed::Up | Deed::Down => Share::FULL,
        }
    }

    /// In a word or two.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Deed::Drain { .. } => "drained",
            Deed::Undrain { .. } => "undrained",
            Deed::Up => "forced up",
            Deed::Down => "forced down",
        }
    }

    fn is_drain(self) -> bool {
        matches!(self, Deed::Drain { .. } | Deed::Undrain { .. })
    }
}

/// Names that a pattern means.
fn matching<'a>(pattern: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    names.into_iter().filter(|name| is_match(pattern.as_bytes(), name.as_bytes())).collect()
}

/// `*` is any text, `?` any character of ASCII.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on after the last star, which takes one octet more each time that what follows it does not fit.
    let (mut at, mut of_name, mut star) = (0, 0, None);
    while of_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of_name));
                at += 1;
            }
            Some(octet) if *octet == name[of_name] || *octet == b'?' => {
                (at, of_name) = (at + 1, of_name + 1);
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                (at, of_name) = (after, taken + 1);
                star = Some((after, taken + 1));
            }
        }
    }
    pattern[at..].iter().all(|octet| *octet == b'*')
}

/// One site's part of an order; none where it changes nothing.
fn apply(
    list: &mut Vec<Override>,
    order: &Order,
    site: &str,
    service: Option<&str>,
    now: Milliseconds,
) -> Result<Option<String>, Refusal> {
    let is_drain = matches!(order.wish, Wish::Drain | Wish::Undrain);
    let is_same = |standing: &Override| {
        standing.site == site
            && standing.service.as_deref() == service
            && standing.deed.is_drain() == is_drain
    };
    let earlier = list.iter().position(is_same).map(|index| list[index].clone());
    let place = service.map_or_else(|| site.to_owned(), |service| format!("{site} in {service}"));
    if matches!(order.wish, Wish::Undrain | Wish::Unforce) {
        let Some(earlier) = earlier.filter(|earlier| !matches!(earlier.deed, Deed::Undrain { .. })) else {
            let is_wider = |standing: &Override| {
                standing.site == site && standing.service.is_none() && standing.deed.is_drain() == is_drain
            };
            if service.is_some() && list.iter().any(is_wider) {
                let text =
                    format!("{site} is so in all services; take that back first, then say it of the others");
                return Err(Refusal::Wrong(text));
            }
            return Ok(None);
        };
        list.retain(|standing| !is_same(standing));
        if order.wish == Wish::Unforce {
            return Ok(Some(format!("{place}: checks decide again")));
        }
        if order.over > 0 {
            let from = earlier.deed.share(now.saturating_sub(earlier.since)).0;
            let deed = Deed::Undrain { over: order.over, from };
            list.push(Override { deed, since: now, until: None, ..earlier });
        }
        return Ok(Some(format!("{place}: takes clients again{}", over(order.over))));
    }
    let from = earlier
        .as_ref()
        .map_or(Share::FULL, |earlier| earlier.deed.share(now.saturating_sub(earlier.since)))
        .0;
    let (deed, told) = match order.wish {
        Wish::ForceUp => (Deed::Up, "up, whatever checks say".to_owned()),
        Wish::ForceDown => (Deed::Down, "down, whatever checks say".to_owned()),
        _ => (Deed::Drain { over: order.over, from }, format!("drained{}", over(order.over))),
    };
    list.retain(|standing| !is_same(standing));
    list.push(Override {
        site: site.to_owned(),
        service: service.map(str::to_owned),
        deed,
        since: now,
        until: order.lasts.map(|lasts| now.saturating_add(lasts)),
        reason: order.reason.clone(),
        by: order.by.clone(),
    });
    let lasts = order.lasts.map_or_else(String::new, |lasts| format!(", for {}", in_words(lasts)));
    Ok(Some(format!("{place}: {told}{lasts}")))
}

fn over(milliseconds: Milliseconds) -> String {
    match milliseconds {
        0 => String::new(),
        _ => format!(" over {}", in_words(milliseconds)),
    }
}

/// `1h 30m`.
#[must_use]
pub fn in_words(milliseconds: Milliseconds) -> String {
    let seconds = Duration::from_millis(milliseconds).as_secs();
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .take(2)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if parts.is_empty() { format!("{milliseconds}ms") } else { parts.join(" ") }
}

/// Services that lose their last site: none of theirs will be left that nobody took out.
fn stripped(before: &[Override], after: &[Override], layout: &Layout) -> Vec<String> {
    let is_out = |list: &[Override], site: &str, service: &str| {
        let all = Overrides { list: list.to_vec(), ..Overrides::default() };
        match all.forced(site, service) {
            Some(forced) => forced == Forced::Down,
            // Where a drain leads to, however slowly.
            None => all.share(site, service, Milliseconds::MAX) == Share::DRAINED,
        }
    };
    let is_stripped = |list: &[Override], name: &str, sites: &[super::board::SiteOfService]| {
        sites.iter().all(|site| is_out(list, &site.site, name))
    };
    let services = layout.services.iter().filter(|service| {
        let sites = layout.sites(service);
        is_stripped(after, &service.name, sites) && !is_stripped(before, &service.name, sites)
    });
    services.map(|service| service.name.clone()).collect()
}
