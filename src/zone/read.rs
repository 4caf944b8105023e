//! A folder of zones -> the files of each zone, and what they share.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Owners, ZoneFile, check, master, yaml};
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
    /// What its folder allows.
    bounds: Arc<Bounds>,
}

/// What a folder allows its zones.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Included files lie in here.
    pub within: PathBuf,
    /// Octets of an RRset.
    pub largest_rrset: usize,
}

impl WrittenZone {
    fn is_master_file(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "zone")
    }

    /// Reads and checks the zone. None, or errors among the findings, when it must not be served.
    pub fn read(&self, shared: &Shared, findings: &mut Findings) -> Option<(ZoneFile, Owners)> {
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
            Some(master::read(source, &self.name, Some(&self.bounds.within), &mut own))
        } else {
            crate::yaml::read(source, &mut own).and_then(|root| {
                self.check_name(&root, &mut own);
                yaml::read(source, &root, &self.name, shared, &mut own)
            })
        };
        let zone = zone.map(|zone| {
            let owners = Owners::of(&zone);
            // A line that could not be read may be told as missing once more; better twice than not at all.
            check::check(&zone, &owners, self.bounds.largest_rrset, &mut own);
            (zone, owners)
        });
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

/// What a file was when it could last be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Was {
    /// Shared by all zones.
    Shared,
    /// This zone.
    Zone(Name),
}

/// Lists a folder and its subfolders. Dotfiles, `*~` and everything that is not `.yaml`, `.yml` or `.zone` are ignored.
/// A file that cannot be read is what it was.
#[must_use]
pub fn list(root: &Path, largest_rrset: usize, was: &BTreeMap<PathBuf, Was>) -> Folder {
    let bounds = Arc::new(Bounds { within: root.to_owned(), largest_rrset });
    let mut folder = Folder::default();
    let mut paths = Vec::new();
    collect(root, &mut Vec::new(), &mut paths, &mut folder.findings);
    for path in paths {
        let was = was.get(&path);
        folder.add(path, was, &bounds);
    }
    folder.find_rivals();
    folder
}

/// `above` are the folders that are being listed, by device and inode: a symbolic link back to one of them is no folder of its own.
fn collect(path: &Path, above: &mut Vec<(u64, u64)>, paths: &mut Vec<PathBuf>, findings: &mut Findings) {
    let here = match fs::metadata(path) {
        Ok(metadata) => (metadata.dev(), metadata.ino()),
        Err(error) => return findings.unreadable(path, error.to_string()),
    };
    if above.contains(&here) || above.len() == DEEPEST {
        return;
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return findings.unreadable(path, error.to_string()),
    };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    above.push(here);
    for entry in entries {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let is_ours = entry
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "zone"].iter().any(|known| extension == *known));
        if entry.is_dir() {
            collect(&entry, above, paths, findings);
        } else if is_ours {
            paths.push(entry);
        }
    }
    above.pop();
}

impl Folder {
    fn add(&mut self, path: PathBuf, was: Option<&Was>, bounds: &Arc<Bounds>) {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = master::read_text(&path).map(|text| Source::new(&path, text));
        let is_master_file = path.extension().is_some_and(|extension| extension == "zone");
        let root = match &text {
            Ok(source) if !is_master_file => Kind::of_yaml(source),
            _ => Kind::Unknown,
        };
        let (is_zone, inside) = match (root, was) {
            _ if is_master_file => (true, None),
            (Kind::Zone(inside), _) => (true, inside),
            (Kind::Shared, _) | (Kind::Unknown, Some(Was::Shared)) => (false, None),
            (Kind::Unknown, Some(Was::Zone(name))) => (true, Some(name.clone())),
            // What never could be read is what its name looks like: the shared file is `sites.yaml`.
            (Kind::Unknown, None) => (stem.contains('.'), None),
        };
        if !is_zone {
            match text {
                Ok(source) => self.shared.push(source),
                Err(reason) => self.findings.unreadable(&path, reason),
            }
            return;
        }
        let by_file = Name::parse(&stem, Some(&Name::root()));
        // A name with a slash (RFC 2317) and the root's cannot be a file's: there the name inside decides.
        let name = match (inside, by_file) {
            (Some(inside), _) if matches!(was, Some(Was::Zone(was)) if *was == inside) => inside,
            (Some(inside), _) if inside.is_root() || inside.labels().any(|label| label.contains(&b'/')) => {
                inside
            }
            (_, Ok(name)) => name,
            (_, Err(error)) => {
                self.findings.unreadable(&path, format!("\"{stem}\" is no zone's name: {error}"));
                return;
            }
        };
        self.zones.push(WrittenZone { name, text, path, rival: None, bounds: Arc::clone(bounds) });
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
            None => Kind::guess(&source.text),
        }
    }

    /// Of a file that is no YAML: what its lines look like.
    fn guess(text: &str) -> Kind {
        let has = |keys: &[&str]| text.lines().any(|line| keys.iter().any(|key| line.starts_with(key)));
        let inside = text.lines().find_map(|line| line.strip_prefix("zone:"));
        match inside {
            Some(name) => {
                Kind::Zone(Name::parse(name.trim().trim_matches(['"', '\'']), Some(&Name::root())).ok())
            }
            None if has(&["records:", "soa:"]) => Kind::Zone(None),
            None if has(&["sites:", "services:"]) => Kind::Shared,
            None => Kind::Unknown,
        }
    }
}
