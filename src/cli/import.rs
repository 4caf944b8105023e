//! `meridian import`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::finding::{Findings, Source};
use crate::wire::Name;
use crate::zone::compile::LONGEST_RRSET;
use crate::zone::{Owners, check, master, write};

/// Turn a master file (RFC 1035) into a YAML zone, on standard output.
///
/// Exit 0: all of it; 1: what could not be read is told on standard error, and is missing.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: meridian import /etc/bind/db.example.com --zone example.com > zones/example.com.yaml"
)]
pub(super) struct Import {
    /// The master file.
    file: PathBuf,
    /// The zone's name; default: the file's name without `.zone`, or without `db.` in front.
    #[arg(long)]
    zone: Option<String>,
}

impl Import {
    pub(super) fn run(self) -> ExitCode {
        let name = self.zone.clone().unwrap_or_else(|| {
            let name =
                self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.trim_end_matches(".zone").trim_start_matches("db.").to_owned()
        });
        let apex = match Name::parse(&name, Some(&Name::root())) {
            Ok(apex) => apex,
            Err(error) => {
                eprintln!("\"{name}\" is no zone's name ({error}); give it with --zone");
                return ExitCode::from(2);
            }
        };
        let text = match master::read_text(&self.file) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{}: {error}", self.file.display());
                return ExitCode::from(1);
            }
        };
        let mut findings = Findings::new();
        let zone = master::read(&Source::new(&self.file, text), &apex, None, &mut findings);
        check::check(&zone, &Owners::of(&zone), LONGEST_RRSET, &mut findings);
        eprint!("{findings}");
        super::print(&format!("# {name}, from {}\n{}", self.file.display(), write::to_yaml(&zone)));
        if findings.has_errors() { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }
}
