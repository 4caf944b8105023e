//! `meridian drain`, `undrain`, `force`, `unforce`: an operator's word on sites, and `watch`: what comes of it.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ask::{Server, list, no_server, text, user};
use crate::control::{self, Command};
use crate::finding::printable;
use crate::health::overrides::{Order, Wish};
use crate::yaml::parse_duration;

/// Which sites, and why.
#[derive(Debug, Args)]
struct Sites {
    /// A site's name; `*` and `?` stand for any text and any character.
    site: String,
    /// Only in this service; `*` and `?` as above. All services without it.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Send no clients to a site any more: maintenance, without anybody noticing.
///
/// Exit 0: done; 2: there is no such site or service; 4: that would leave a service without a site, and needs --force.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian drain syd --for 2h --reason \"kernel upgrade\"")]
pub(super) struct Drain {
    #[command(flatten)]
    sites: Sites,
    /// After so long it takes clients again, by itself.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    lasts: Option<Duration>,
    /// Little by little, each client once.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    over: Option<Duration>,
    /// For whoever looks at the status, and for the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Also the last site of a service.
    #[arg(long)]
    force: bool,
}

/// Send clients to a site again.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian undrain syd --over 10m")]
pub(super) struct Undrain {
    #[command(flatten)]
    sites: Sites,
    /// Little by little, each client once.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    over: Option<Duration>,
}

/// Say whether a site works, whatever checks say.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian force syd down --for 30m --reason \"serves old pages\"")]
pub(super) struct Force {
    /// Which it is.
    #[arg(value_enum)]
    #[arg(index = 2)]
    state: State,
    #[command(flatten)]
    sites: Sites,
    /// After so long checks decide again.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    lasts: Option<Duration>,
    /// For whoever looks at the status, and for the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Also down the last site of a service.
    #[arg(long)]
    force: bool,
}

/// Let checks decide again.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian unforce syd")]
pub(super) struct Unforce {
    #[command(flatten)]
    sites: Sites,
}

/// Tell what happens at the running server, as it happens: verdicts, guards, orders, reloads.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian watch")]
pub(super) struct Watch {
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// Served.
    Up,
    /// Not served.
    Down,
}

impl Drain {
    pub(super) fn run(self) -> ExitCode {
        let Drain { sites, lasts, over, reason, force } = self;
        sites.order(Wish::Drain, |order| Order {
            lasts: lasts.map(as_ms),
            over: over.map_or(0, as_ms),
            reason,
            anyway: force,
            ..order
        })
    }
}

impl Undrain {
    pub(super) fn run(self) -> ExitCode {
        let over = self.over.map_or(0, as_ms);
        self.sites.order(Wish::Undrain, |order| Order { over, ..order })
    }
}

impl Force {
    pub(super) fn run(self) -> ExitCode {
        let Force { state, sites, lasts, reason, force } = self;
        let wish = match state {
            State::Up => Wish::ForceUp,
            State::Down => Wish::ForceDown,
        };
        sites.order(wish, |order| Order { lasts: lasts.map(as_ms), reason, anyway: force, ..order })
    }
}

impl Unforce {
    pub(super) fn run(self) -> ExitCode {
        self.sites.order(Wish::Unforce, |order| order)
    }
}

impl Watch {
    pub(super) fn run(self) -> ExitCode {
        let path = match self.server.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        let told = control::follow(&path, |event| {
            let line = match (self.server.json, event["missed"].as_u64()) {
                (true, _) => event.to_string(),
                (false, Some(missed)) => format!("{missed} more"),
                (false, None) => format!("{:8} {}", text(&event["kind"]), text(&event["text"])),
            };
            super::print(&format!("{line}\n"))
        });
        match told {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => no_server(&path, &error),
        }
    }
}

impl Sites {
    fn order(self, wish: Wish, with: impl FnOnce(Order) -> Order) -> ExitCode {
        let Sites { site, service, server } = self;
        let (reason, by) = (String::new(), user());
        let order = Order { wish, site, service, lasts: None, over: 0, reason, by, anyway: false };
        let reply = match server.tell(&Command::Order(with(order))) {
            Ok(reply) => reply,
            Err(code) => return code,
        };
        if server.json {
            super::print(&format!("{reply:#}\n"));
        } else {
            super::print(&list(&reply["done"]).iter().map(|line| text(line) + "\n").collect::<String>());
        }
        let trouble = [("wrong", 2), ("refused", 4)];
        let told = trouble.iter().find_map(|(kind, code)| Some((reply[kind].as_str()?, *code)));
        let Some((why, code)) = told else { return ExitCode::SUCCESS };
        eprintln!("{}", printable(why));
        ExitCode::from(code)
    }
}

fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time is expected, such as 90s, 30m, 2h or 1d".to_owned())
}
