//! `meridian import`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::finding::{Findings, Source};
use crate::import::detect::{Format, is_gdnsd_configuration};
use crate::import::{Imported, gdnsd, master as master_file, octodns, powerdns, tinydns, vscf, write};
use crate::wire::Name;
use crate::yaml;
use crate::zone::compile::LONGEST_RRSET;
use crate::zone::{Owners, ZoneFile, check, master};

/// Turn the files of other servers into YAML: master files (RFC 1035), PowerDNS' geoip backend, octoDNS, gdnsd, tinydns.
///
/// What cannot be carried over is told on standard error, with its place and why. Exit 0: all of it was; 1: not all; 2: wrong usage.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: meridian import /etc/bind/db.example.com > zones/example.com.yaml\n         \
                  meridian import /etc/gdnsd/config /etc/gdnsd/zones/example.com --to zones"
)]
pub(super) struct Import {
    /// Files that belong together.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The zone's name, for formats that leave it to the file's: default: without `.zone` or `.yaml`, and without `db.` in front.
    #[arg(long)]
    zone: Option<String>,
    /// Whose files they are; default: what they look like.
    #[arg(long, value_parser = Format::ALL.map(|(word, _)| word))]
    format: Option<String>,
    /// Write a file for each zone, and sites.yaml, into this folder instead of to standard output. Nothing is overwritten.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Import {
    pub(super) fn run(self) -> ExitCode {
        let mut findings = Findings::complete();
        let mut imported = Imported::default();
        let mut of_gdnsd = gdnsd::Files::default();
        for path in &self.files {
            match master::read_text(path) {
                Ok(text) => {
                    let source = Source::new(path, text);
                    if let Err(code) = self.read(&source, &mut imported, &mut of_gdnsd, &mut findings) {
                        return code;
                    }
                }
                Err(error) => findings.unreadable(path, error),
            }
        }
        gdnsd::read(&of_gdnsd, &mut imported, &mut findings);
        imported = check_all(imported, &mut findings);
        findings.sort();
        let written = match &self.to {
            Some(folder) => write_into(folder, &write::files(&imported)),
            None => {
                self.print(&imported);
                true
            }
        };
        eprint!("{findings}");
        if written && !findings.has_errors() { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }

    fn read(
        &self,
        source: &Arc<Source>,
        imported: &mut Imported,
        of_gdnsd: &mut gdnsd::Files,
        findings: &mut Findings,
    ) -> Result<(), ExitCode> {
        let forced = self.format.as_deref();
        let forced = Format::ALL.iter().find(|(word, _)| Some(*word) == forced).map(|(_, format)| *format);
        match forced.unwrap_or_else(|| Format::of(&source.text)) {
            Format::Master => master_file::read(source, &self.name_of(&source.path)?, imported, findings),
            Format::OctoDns => {
                if let Some(root) = yaml::read(source, findings) {
                    octodns::read(&root, &self.name_of(&source.path)?, imported, findings);
                }
            }
            Format::PowerDns => {
                if let Some(root) = yaml::read(source, findings) {
                    powerdns::read(&root, imported, findings);
                }
            }
            Format::Gdnsd if is_gdnsd_configuration(&source.text) => {
                of_gdnsd.configurations.extend(vscf::read(source, findings));
            }
            Format::Gdnsd => of_gdnsd.zones.push((self.name_of(&source.path)?, Arc::clone(source))),
            Format::TinyDns => tinydns::read(source, imported, findings),
        }
        Ok(())
    }

    /// The zone's name, from the command line or from the file's name.
    fn name_of(&self, path: &Path) -> Result<Name, ExitCode> {
        let file = || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = self.zone.clone().unwrap_or_else(|| {
            let file = file();
            let file =
                [".zone", ".yaml", ".yml"].iter().fold(file.as_str(), |name, end| name.trim_end_matches(end));
            file.trim_start_matches("db.").to_owned()
        });
        Name::parse(&name, Some(&Name::root())).map_err(|error| {
            eprintln!("\"{name}\" is no zone's name ({error}); give it with --zone");
            ExitCode::from(2)
        })
    }

    /// One file as it is; several one after the other, each behind its name.
    fn print(&self, imported: &Imported) {
        let files = write::files(imported);
        let from: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
        let from = from.join(", ");
        match &files[..] {
            [(name, text)] => {
                super::print(&format!("# {}, from {from}\n{text}", name.trim_end_matches(".yaml")));
            }
            files => {
                for (name, text) in files {
                    if !super::print(&format!("# {name}, from {from}\n{text}\n")) {
                        return;
                    }
                }
            }
        }
    }
}

/// Looks at the zones as `check` does. One that has steered names is looked at when its services are.
fn check_all(imported: Imported, findings: &mut Findings) -> Imported {
    let Imported { sites, services, zones } = imported;
    let check_one = |zone: crate::import::Zone, findings: &mut Findings| {
        let Some(source) = zone.records.iter().next().map(|record| record.at().source) else { return zone };
        if !zone.steered.is_empty() {
            return zone;
        }
        let file = ZoneFile {
            apex: zone.apex,
            source,
            included: Vec::new(),
            records: zone.records,
            automatic_serial: false,
            steered: Vec::new(),
            services: Vec::new(),
            expectations: Vec::new(),
        };
        check::check(&file, &Owners::of(&file), LONGEST_RRSET, findings);
        crate::import::Zone::of(file.apex, file.records)
    };
    let zones = zones.into_iter().map(|zone| check_one(zone, findings)).collect();
    Imported { sites, services, zones }
}

/// Makes new files only: what somebody has written stays.
fn write_into(folder: &Path, files: &[(String, String)]) -> bool {
    let written =
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display())).and_then(|()| {
            let taken = files.iter().map(|(name, _)| folder.join(name)).find(|path| path.exists());
            match taken {
                Some(path) => Err(format!("{} is there already; nothing was written", path.display())),
                None => files.iter().try_for_each(|(name, text)| {
                    let path = folder.join(name);
                    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
                }),
            }
        });
    match written {
        Ok(()) => {
            files.iter().for_each(|(name, _)| {
                super::print(&format!("{}\n", folder.join(name).display()));
            });
            true
        }
        Err(text) => {
            eprintln!("{text}");
            false
        }
    }
}
