//! `meridian export`.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;

use super::Places;
use crate::finding::{Findings, did_you_mean};
use crate::reload::serials::Serials;
use crate::site::read::Shared;
use crate::wire::Name;
use crate::yaml;
use crate::zone::{print, read};

/// Print the static part of a zone as a master file (RFC 1035), for other servers; steered names are comments.
///
/// Exit 0: it is whole; 1: the zone has errors, which are told; 2: there is no such zone.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian export example.com > db.example.com")]
pub(super) struct Export {
    /// The zone's name.
    zone: String,
    #[command(flatten)]
    places: Places,
}

impl Export {
    pub(super) fn run(&self) -> ExitCode {
        let config = match self.places.config() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let folder = read::list(&config.zones, config.largest_rrset, &HashMap::new());
        let wanted = Name::parse(&self.zone, Some(&Name::root())).ok();
        let Some(written) = folder.zones.iter().find(|zone| Some(&zone.name) == wanted.as_ref()) else {
            let names: Vec<String> = folder
                .zones
                .iter()
                .map(|zone| zone.name.to_string().trim_end_matches('.').to_owned())
                .collect();
            let hint = did_you_mean(&self.zone, names.iter().map(String::as_str));
            eprintln!("{} has no zone \"{}\"{hint}", config.zones.display(), self.zone);
            return ExitCode::from(2);
        };
        let mut findings = Findings::new();
        let roots: Vec<_> =
            folder.shared.iter().filter_map(|source| yaml::read(source, &mut findings)).collect();
        let files: Vec<_> =
            roots.iter().filter_map(|root| root.mapping("sites and services", &mut findings)).collect();
        let shared = Shared::read(&files, &mut findings);
        let zone = written.read(&shared, &mut findings);
        eprint!("{findings}");
        if let Some((zone, _)) = zone.filter(|_| !findings.has_errors()) {
            let proposed = || Serials::open(Some(&config.state)).propose(&zone).number;
            let serial = zone.automatic_serial.then(proposed);
            super::print(&print::to_master_file(&zone, serial));
            return ExitCode::SUCCESS;
        }
        ExitCode::from(1)
    }
}
