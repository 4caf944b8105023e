//! A folder of zones -> the files of each zone, and what they share.

use std::collections::HashMap;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Owners, ZoneFile, check, master, yaml};
use crate::finding::{Findings, Source};
use crate::parallel;
use crate::replace::is_beside_a_file;
use crate::site::read::Shared;
use crate::stamp::Stamp;
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

/// A zone's file.
#[derive(Clone, Debug)]
pub struct WrittenZone {
    /// From the file's name.
    pub name: Name,
    /// What it says.
    pub text: Text,
    /// Another stamp is another file; none, and only reading it tells.
    pub stamp: Option<Stamp>,
    /// Where it stands.
    pub path: PathBuf,
    /// Another file that claims the same name.
    pub rival: Option<PathBuf>,
    /// What its folder allows.
    pub bounds: Arc<Bounds>,
}

/// What is known of the text of a file.
#[derive(Clone, Debug)]
pub enum Text {
    /// All of it.
    Read(Arc<Source>),
    /// It is what it was when it was good, and nobody needs to read it.
    AsItWas,
    /// It cannot be read, and why.
    Unreadable(String),
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
    /// The same file, of which this much is known.
    #[must_use]
    pub fn with_text(&self, text: Text) -> WrittenZone {
        WrittenZone { text, ..self.clone() }
    }

    /// Reads and checks the zone. None, or errors among the findings, when it must not be served.
    pub fn read(&self, shared: &Shared, findings: &mut Findings) -> Option<(ZoneFile, Owners)> {
        if let Some(rival) = &self.rival {
            findings.unreadable(&self.path, format!("the zone {} is also in {}", self.name, rival.display()));
            return None;
        }
        let source = match &self.text {
            Text::Read(source) => Ok(Arc::clone(source)),
            Text::AsItWas => read_source(&self.path),
            Text::Unreadable(reason) => Err(reason.clone()),
        };
        let source = source.map_err(|reason| findings.unreadable(&self.path, reason)).ok()?;
        let source = &source;
        let mut own = Findings::new();
        let zone = if is_master_file(&self.path) {
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
        if let Some((inside, at)) = yaml::name_inside(root, findings)
            && inside != self.name
        {
            let name = inside.to_string();
            let text = format!(
                "zone: says {inside}, the file's name says {}; they must agree: was the file to be {}.yaml?",
                self.name,
                name.trim_end_matches('.')
            );
            findings.error(at, text);
        }
    }
}

/// What a file was when it could last be read.
#[derive(Clone, Copy, Debug)]
pub enum Was<'w> {
    /// Shared by all zones.
    Shared,
    /// A zone, and the stamp by which it is known to be that still.
    Zone(&'w Name, Option<Stamp>),
}

/// Lists a folder and its subfolders. Dotfiles, `*~` and everything that is not `.yaml`, `.yml` or `.zone` are ignored.
/// A zone whose file has the stamp that it had is not read. A file that cannot be read is what it was.
#[must_use]
pub fn list(root: &Path, largest_rrset: usize, was: &HashMap<&Path, Was<'_>>) -> Folder {
    let bounds = Arc::new(Bounds { within: root.to_owned(), largest_rrset });
    let mut folder = Folder::default();
    let mut entries = Vec::new();
    collect(root, &mut Vec::new(), &mut entries, &mut folder.findings);
    let now = SystemTime::now();
    let files = parallel::map(entries.len(), |number| entries[number].look(was, now));
    for (entry, file) in entries.into_iter().zip(files) {
        folder.add(entry.path, file, &bounds);
    }
    folder.find_rivals();
    folder
}

/// A file that lies in a folder.
struct Entry {
    path: PathBuf,
    /// None for a link: what it leads to is another entry.
    entry: Option<DirEntry>,
}

/// `above` are the folders that are being listed, by device and inode: a symbolic link back to one of them is no folder of its own.
fn collect(path: &Path, above: &mut Vec<(u64, u64)>, entries: &mut Vec<Entry>, findings: &mut Findings) {
    let here = match fs::metadata(path) {
        Ok(metadata) => Stamp::of(&metadata).identity(),
        Err(error) => return findings.unreadable(path, error.to_string()),
    };
    if above.contains(&here) || above.len() == DEEPEST {
        return;
    }
    let here_in = match fs::read_dir(path) {
        Ok(here_in) => here_in,
        Err(error) => return findings.unreadable(path, error.to_string()),
    };
    let mut here_in: Vec<_> = here_in.flatten().map(|entry| (entry.file_name(), entry)).collect();
    here_in.sort_by(|(a, _), (b, _)| a.cmp(b));
    above.push(here);
    for (name, entry) in here_in {
        let name = name.to_string_lossy();
        if is_beside_a_file(&name) {
            continue;
        }
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let is_folder = match is_link {
            true => path.is_dir(),
            false => entry.file_type().is_ok_and(|kind| kind.is_dir()),
        };
        let is_ours = path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "zone"].iter().any(|known| extension == *known));
        if is_folder {
            collect(&path, above, entries, findings);
        } else if is_ours {
            entries.push(Entry { path, entry: (!is_link).then_some(entry) });
        }
    }
    above.pop();
}

/// A file that was looked at.
struct LookedAt {
    kind: Kind,
    text: Text,
    stamp: Option<Stamp>,
    /// The zone that it was.
    was: Option<Name>,
}

impl Entry {
    /// Of the entry itself the kernel need not walk the whole path.
    fn metadata(&self) -> io::Result<Metadata> {
        self.entry.as_ref().map_or_else(|| fs::metadata(&self.path), DirEntry::metadata)
    }

    fn look(&self, was: &HashMap<&Path, Was<'_>>, now: SystemTime) -> LookedAt {
        let was = was.get(self.path.as_path()).copied();
        // Taken before the file is read: what is written while that goes on makes it another.
        let stamp = self.metadata().ok().as_ref().map(Stamp::of).filter(|stamp| stamp.is_settled(now));
        let was_zone = match was {
            Some(Was::Zone(name, _)) => Some(name.clone()),
            _ => None,
        };
        if let Some(Was::Zone(name, known)) = was
            && stamp.is_some()
            && stamp == known
        {
            return LookedAt {
                kind: Kind::Zone(Some(name.clone())),
                text: Text::AsItWas,
                stamp,
                was: was_zone,
            };
        }
        let text = read_source(&self.path);
        let kind = match &text {
            _ if is_master_file(&self.path) => Kind::Zone(None),
            Ok(source) => Kind::of_yaml(source),
            Err(_) => Kind::Unknown,
        };
        let kind = match (kind, was) {
            (Kind::Unknown, Some(Was::Shared)) => Kind::Shared,
            (Kind::Unknown, Some(Was::Zone(name, _))) => Kind::Zone(Some(name.clone())),
            // What never could be read is what its name looks like: the shared file is `sites.yaml`.
            (Kind::Unknown, None) if stem(&self.path).contains('.') => Kind::Zone(None),
            (Kind::Unknown, None) => Kind::Shared,
            (kind, _) => kind,
        };
        LookedAt { kind, text: text.map_or_else(Text::Unreadable, Text::Read), stamp, was: was_zone }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_master_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zone")
}

fn read_source(path: &Path) -> Result<Arc<Source>, String> {
    master::read_text(path).map(|text| Source::new(path, text))
}

impl Folder {
    fn add(&mut self, path: PathBuf, file: LookedAt, bounds: &Arc<Bounds>) {
        let LookedAt { kind, text, stamp, was } = file;
        let Kind::Zone(inside) = kind else {
            match text {
                Text::Read(source) => self.shared.push(source),
                Text::AsItWas => {}
                Text::Unreadable(reason) => self.findings.unreadable(&path, reason),
            }
            return;
        };
        let stem = stem(&path);
        let by_file = Name::parse(&stem, Some(&Name::root()));
        // A name with a slash (RFC 2317) and the root's cannot be a file's: there the name inside decides.
        let name = match (inside, by_file) {
            (Some(inside), _) if was.as_ref() == Some(&inside) => inside,
            (Some(inside), _) if inside.is_root() || inside.labels().any(|label| label.contains(&b'/')) => {
                inside
            }
            (_, Ok(name)) => name,
            (_, Err(error)) => {
                self.findings.unreadable(&path, format!("\"{stem}\" is no zone's name: {error}"));
                return;
            }
        };
        self.zones.push(WrittenZone { name, text, stamp, path, rival: None, bounds: Arc::clone(bounds) });
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
    /// Told from the text where that is easy, for there may be many thousand zones, and all are to be read once more.
    fn of_yaml(source: &Arc<Source>) -> Kind {
        let has = |key: &str| source.text.lines().any(|line| line.starts_with(key));
        if has("records:") || has("soa:") {
            let mut names = source.text.lines().filter_map(|line| line.strip_prefix("zone:"));
            match (names.next().map(plain_name), names.next()) {
                (None, _) => return Kind::Zone(None),
                (Some(Some(name)), None) => return Kind::Zone(Some(name)),
                _ => {}
            }
        }
        let mut ignored = Findings::new();
        match crate::yaml::read(source, &mut ignored) {
            Some(root) if yaml::is_zone(&root) => {
                Kind::Zone(yaml::name_inside(&root, &mut ignored).map(|(name, _)| name))
            }
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

/// A name that is written without quotes, tags, or anything else that would need a reader of YAML.
fn plain_name(value: &str) -> Option<Name> {
    let value = value.strip_prefix(' ')?.trim();
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    let begins = value.starts_with(|first: char| first.is_ascii_alphanumeric());
    (begins && value.bytes().all(is_plain)).then(|| Name::parse(value, Some(&Name::root())).ok()).flatten()
}
