//! `meridian check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Places;
use crate::control::findings_as_json;
use crate::finding::Findings;
use crate::reload::Reloader;

/// Tell everything that is wrong with zones, sites and geo databases, and run the zones' expectations.
///
/// Exit 0: valid; 1: not.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian check zones/example.com.yaml")]
pub(super) struct Check {
    /// A folder of zones, one file in it, or a configuration; default: the folder that would be served.
    path: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(mut self) -> ExitCode {
        let mut only = None;
        if let Some(path) = self.path.take() {
            if path.is_dir() {
                self.places.zones = Some(path);
            } else if is_configuration(&path) {
                self.places.config = Some(path);
            } else if path.is_file() {
                // A zone means something only together with its neighbours: all are read, and the findings of one are told.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                self.places.zones = Some(folder.unwrap_or(Path::new(".")).to_owned());
                only = Some(path);
            } else {
                eprintln!("{}: there is no such file", path.display());
                return ExitCode::from(1);
            }
        }
        let config = match self.places.config() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let mut reloader = Reloader::new(&config.zones, &config.geodb, None);
        let findings = reloader.reload(false).findings;
        let findings = match &only {
            Some(path) => findings.only(|finding| is_same_file(&finding.path, path)),
            None => findings,
        };
        self.print(&findings, &reloader);
        if findings.has_errors() { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }

    fn print(&self, findings: &Findings, reloader: &Reloader) {
        if self.json {
            println!("{}", findings_as_json(findings));
            return;
        }
        print!("{findings}");
        if !findings.has_errors() {
            let zones = reloader.zones();
            let names: usize = zones.iter().map(|zone| zone.names).sum();
            println!("good: {} zones, {names} names, {} services", zones.len(), reloader.services().len());
        }
    }
}

fn is_configuration(path: &Path) -> bool {
    path.is_file() && path.file_name().is_some_and(|name| name == "meridian.yaml")
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
