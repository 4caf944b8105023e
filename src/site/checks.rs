//! What an address is tried with, as meant; and what each kind is called, which is written here and nowhere else.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::wire::{Name, Rtype};

/// One way to tell whether an address works. Equal checks of equal addresses run once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// Of TCP or UDP, for the kinds that have one.
    pub port: Option<u16>,
    /// From the start of one attempt to the start of the next.
    pub every: Duration,
    /// An attempt that takes longer has failed; not longer than `every`.
    pub timeout: Duration,
    /// Failures in a row that make an address down, from 1.
    pub fall: u16,
    /// Successes in a row that make it up, from 1.
    pub rise: u16,
    /// Percent of `every` by which an attempt may come earlier, so that checks drift apart.
    pub jitter: u8,
}

/// What a check tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A connection, opened and closed.
    Tcp,
    /// One GET over HTTP/1.1.
    Http(HttpCheck),
    /// The same over TLS.
    Https(HttpCheck, TlsCheck),
    /// One question.
    Dns(DnsCheck),
    /// One echo request.
    Icmp,
    /// A program that is run.
    Exec(ExecCheck),
    /// A file that another program writes.
    File(FileCheck),
}

/// What an HTTP check asks for and accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// With its query, from the slash.
    pub path: String,
    /// The Host field; the address when absent.
    pub host: Option<String>,
    /// Inclusive ranges of accepted status codes.
    pub status: Vec<(u16, u16)>,
    /// A text that the first 64 KiB of the body must contain.
    pub body: Option<String>,
    /// Where it tells how much it has to do, if it does.
    pub load: Option<LoadCheck>,
}

/// Where an answer tells a site's load, in the unit of its capacity, and how much is too much.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoadCheck {
    /// Where.
    pub source: LoadSource,
    /// Above this part of its capacity, in percent, a site is relieved of clients.
    pub shed_above: u8,
    /// Below this one it gets them back.
    pub resume_below: u8,
}

/// Where a number stands in an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LoadSource {
    /// It is the value of a header field.
    Header(String),
    /// It is in a JSON object under this key; of objects within it, keys with a dot between.
    Json(String),
    /// The body is the number.
    Body,
}

/// What an HTTPS check demands of the TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsCheck {
    /// Server name indication, and the name that the certificate must be valid for; the check's host when
    /// absent.
    pub sni: Option<String>,
    /// Whether the certificate must chain to a trusted root. False accepts any certificate.
    pub verify: bool,
    /// Trust these roots (a PEM file) instead of the machine's.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the keys (SubjectPublicKeyInfo) that the server may have; any when empty.
    pub pin: Vec<[u8; 32]>,
}

/// What a DNS check asks, and which answer is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsCheck {
    /// QNAME.
    pub name: Name,
    /// QTYPE.
    pub rtype: Rtype,
    /// The RCODEs that are good.
    pub rcodes: Vec<u16>,
    /// Over TCP rather than UDP.
    pub tcp: bool,
}

/// A program, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecCheck {
    /// The program by its path, then its arguments. `{address}` and `{port}` in arguments stand for those of the
    /// attempt.
    pub command: Vec<String>,
}

/// A file whose first word is `up` or `down`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileCheck {
    /// Where it is; `{address}` in it stands for the address that is asked about.
    pub path: PathBuf,
    /// What was written longer ago tells nothing.
    pub max_age: Duration,
}

/// What stands for the site's name in commands and paths, until services are compiled.
const SITE: &str = "{site}";

impl Check {
    /// With the site's name where `{site}` stands.
    #[must_use]
    pub fn for_site(&self, site: &str) -> Check {
        let mut check = self.clone();
        match &mut check.kind {
            CheckKind::Exec(exec) => {
                for argument in exec.command.iter_mut().skip(1) {
                    *argument = argument.replace(SITE, site);
                }
            }
            CheckKind::File(file) => file.path = file.path.to_string_lossy().replace(SITE, site).into(),
            _ => {}
        }
        check
    }
}

impl Check {
    /// Where answers tell the load, if they do.
    #[must_use]
    pub fn load(&self) -> Option<&LoadCheck> {
        match &self.kind {
            CheckKind::Http(http) | CheckKind::Https(http, _) => http.load.as_ref(),
            _ => None,
        }
    }
}

impl CheckKind {
    /// What users call the kinds.
    pub const NAMES: [&str; 7] = ["tcp", "http", "https", "dns", "icmp", "exec", "file"];

    /// What users call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        CheckKind::NAMES[self.number()]
    }

    /// Its place in [`NAMES`](CheckKind::NAMES).
    #[must_use]
    pub fn number(&self) -> usize {
        match self {
            CheckKind::Tcp => 0,
            CheckKind::Http(_) => 1,
            CheckKind::Https(..) => 2,
            CheckKind::Dns(_) => 3,
            CheckKind::Icmp => 4,
            CheckKind::Exec(_) => 5,
            CheckKind::File(_) => 6,
        }
    }
}

impl fmt::Display for Check {
    /// `port 80, http www.example.com/healthz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(port) = self.port {
            write!(f, "port {port}, ")?;
        }
        write!(f, "{}", self.kind)
    }
}

impl fmt::Display for CheckKind {
    /// `http www.example.com/healthz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            CheckKind::Tcp | CheckKind::Icmp => Ok(()),
            CheckKind::Http(http) | CheckKind::Https(http, _) => {
                write!(f, " {}{}", http.host.as_deref().unwrap_or_default(), http.path)
            }
            CheckKind::Dns(dns) => write!(f, " {} {}", dns.name, dns.rtype),
            CheckKind::Exec(exec) => write!(f, " {}", exec.command.join(" ")),
            CheckKind::File(file) => write!(f, " {}", file.path.display()),
        }
    }
}
