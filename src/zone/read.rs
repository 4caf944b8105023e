//! A folder of zones -> the files of each zone, and what they share.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ZoneFile, check, master, yaml};
use crate::finding::{Findings, Source};
use crate::site::read::Shared;
use crate::wire::Name;

/// Folders within folders; more is a loop of symbolic links.
const DEEPEST: usize = 16;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Folder {
    /// By name of file.
    pub zones: Vec<WrittenZone>,
    /// YAML that is no zone.
    pub shared: Vec<Arc<Source>>,
    /// What could not be read, and is no zone.
    pub findings: Findings,
}

/// A zone's file, not read yet.
#[derive(Clone, Debug)]
pub struct WrittenZone {
    /// From the file's name.
    pub name: Name,
    /// The text, or why there is none.
    pub text: Result<Arc<Source>, String>,
    /// Where it stands.
    pub path: PathBuf,
    /// Another file that claims the same name.
    pub rival: Option<PathBuf>,
}

impl WrittenZone {
    fn is_master_file(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "zone")
    }

    /// Reads and checks the zone. None, or errors among the findings, when it must not be served.
    pub fn read(&self, shared: &Shared, findings: &mut Findings) -> Option<ZoneFile> {
        let source = match &self.text {
            Ok(source) => source,
            Err(reason) => {
                findings.unreadable(&self.path, reason);
                return None;
            }
        };
        if let Some(rival) = &self.rival {
            findings.unreadable(&self.path, format!("the zone {} is also in {}", self.name, rival.display()));
            return None;
        }
        let mut own = Findings::new();
        let zone = if self.is_master_file() {
            Some(master::read(source, &self.name, &mut own))
        } else {
            crate::yaml::read(source, &mut own).and_then(|root| {
                self.check_name(&root, &mut own);
                yaml::read(source, &root, &self.name, shared, &mut own)
            })
        };
        if let Some(zone) = &zone {
            // A line that could not be read may be told as missing once more; better twice than not at all.
            check::check(zone, &mut own);
        }
        own.sort();
        findings.extend(own);
        zone
    }

    fn check_name(&self, root: &crate::yaml::Node, findings: &mut Findings) {
        if let Some(inside) = yaml::name_inside(root, findings)
            && inside != self.name
        {
            findings.unreadable(
                &self.path,
                format!("zone: says {inside}, the file's name says {}; they must agree", self.name),
            );
        }
    }
}

/// Lists a folder and its subfolders. Dotfiles, `*~` and everything that is not `.yaml`, `.yml` or `.zone` are ignored.
#[must_use]
pub fn list(root: &Path) -> Folder {
    let mut folder = Folder::default();
    let mut paths = Vec::new();
    collect(root, 0, &mut paths, &mut folder.findings);
    for path in paths {
        folder.add(path);
    }
    folder.find_rivals();
    folder
}

fn collect(path: &Path, depth: usize, paths: &mut Vec<PathBuf>, findings: &mut Findings) {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return findings.unreadable(path, error.to_string()),
    };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let is_ours = entry
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "zone"].iter().any(|known| extension == *known));
        if entry.is_dir() {
            if depth < DEEPEST {
                collect(&entry, depth + 1, paths, findings);
            }
        } else if is_ours {
            paths.push(entry);
        }
    }
}

impl Folder {
    fn add(&mut self, path: PathBuf) {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = master::read_text(&path).map(|text| Source::new(&path, text));
        let is_master_file = path.extension().is_some_and(|extension| extension == "zone");
        let root = match &text {
            Ok(source) if !is_master_file => Kind::of_yaml(source),
            _ => Kind::Unknown,
        };
        let (is_zone, inside) = match root {
            _ if is_master_file => (true, None),
            Kind::Zone(inside) => (true, inside),
            Kind::Shared => (false, None),
            // What cannot be read is what its name looks like: the shared file is `sites.yaml`.
            Kind::Unknown => (stem.contains('.'), None),
        };
        if !is_zone {
            match text {
                Ok(source) => self.shared.push(source),
                Err(reason) => self.findings.unreadable(&path, reason),
            }
            return;
        }
        let by_file = Name::parse(&stem, Some(&Name::root()));
        // A name with a slash (RFC 2317) cannot be a file's: there the name inside decides.
        let name = match (inside, by_file) {
            (Some(inside), _) if inside.wire().contains(&b'/') => inside,
            (_, Ok(name)) => name,
            (_, Err(error)) => {
                self.findings.unreadable(&path, format!("\"{stem}\" is no zone's name: {error}"));
                return;
            }
        };
        self.zones.push(WrittenZone { name, text, path, rival: None });
    }

    fn find_rivals(&mut self) {
        let mut first: HashMap<Name, usize> = HashMap::new();
        for index in 0..self.zones.len() {
            let name = self.zones[index].name.clone();
            if let Some(&earlier) = first.get(&name) {
                self.zones[index].rival = Some(self.zones[earlier].path.clone());
                self.zones[earlier].rival = Some(self.zones[index].path.clone());
            } else {
                first.insert(name, index);
            }
        }
    }
}

enum Kind {
    Zone(Option<Name>),
    Shared,
    Unknown,
}

impl Kind {
    /// Told from the text where that is easy, for there may be many thousand zones and most did not change.
    fn of_yaml(source: &Arc<Source>) -> Kind {
        let has = |key: &str| source.text.lines().any(|line| line.starts_with(key));
        if (has("records:") || has("soa:")) && !has("zone:") {
            return Kind::Zone(None);
        }
        let mut ignored = Findings::new();
        match crate::yaml::read(source, &mut ignored) {
            Some(root) if yaml::is_zone(&root) => Kind::Zone(yaml::name_inside(&root, &mut ignored)),
            Some(root) if root.is_null() => Kind::Unknown,
            Some(_) => Kind::Shared,
            None => Kind::Unknown,
        }
    }
}
