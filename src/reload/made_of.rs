//! What the served snapshot was made of, to be kept and compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Reloader;
use crate::change::Cause;
use crate::change::content::{Digest, Tree};
use crate::change::history::{Database, Entry, Ingredient};
use crate::site::Service;
use crate::stamp::Stamp;
use crate::wire::Name;
use crate::zone::Zone;

/// A zone as it is served, to be compared with another version.
#[derive(Clone, Debug)]
pub struct Answering {
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub path: PathBuf,
    /// None for one that is broken.
    pub zone: Option<Arc<Zone>>,
    /// What its numbers of services stand for.
    pub services: Vec<Arc<Service>>,
    /// Of its text.
    pub digest: Digest,
}

impl Reloader {
    /// All zones that are served.
    #[must_use]
    pub fn answering(&self) -> Vec<Answering> {
        let answering = |(name, zone): (&Name, &super::ServedZone)| Answering {
            name: name.clone(),
            path: zone.version.path().to_owned(),
            zone: zone.version.zone.clone(),
            services: zone.version.services.clone(),
            digest: zone.version.digest,
        };
        self.served.iter().flat_map(|served| &served.zones).map(answering).collect()
    }

    /// The files of the geo databases as they were when the snapshot was built.
    #[must_use]
    pub fn databases(&self) -> &[(PathBuf, Stamp)] {
        self.served.as_ref().map(|served| served.geography.files.as_slice()).unwrap_or_default()
    }

    /// The texts of all zones and shared files as they are served: of a zone that is kept the last good one.
    #[must_use]
    pub fn ingredients(&self) -> Vec<Ingredient> {
        let Some(served) = &self.served else { return Vec::new() };
        let ingredient = |path: &Path, root: &Path, digest, source| Ingredient {
            name: path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned(),
            path: path.to_owned(),
            digest,
            source,
        };
        let shared = served.shared_files.iter().map(|source| {
            let digest = Digest::of(source.text.as_bytes());
            ingredient(&source.path, &served.root, digest, Some(Arc::clone(source)))
        });
        let versions = served.zones.values().map(|zone| &zone.version);
        let zones = versions.filter(|version| version.zone.is_some()).flat_map(|version| {
            let root = &version.written.bounds.within;
            let own = ingredient(version.path(), root, version.digest, version.text());
            let included =
                version.included.iter().map(move |(path, digest)| ingredient(path, root, *digest, None));
            std::iter::once(own).chain(included)
        });
        shared.chain(zones).collect()
    }

    /// Of all zones, sites and geo databases: servers that answer alike for they were given the same have the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let files = self.ingredients().into_iter().map(|ingredient| (ingredient.name, ingredient.digest));
        let mut text = Tree(files.collect()).to_text();
        for about in self.about() {
            let name = about.path.file_name().unwrap_or_default().to_string_lossy();
            text.push_str(&format!("{name} {} {} {}\n", about.kind, about.build_epoch, about.nodes));
        }
        Digest::of(text.as_bytes())
    }

    /// What history is to say of the served snapshot.
    #[must_use]
    pub fn entry(&self, number: u64, cause: Cause) -> Entry {
        let database = |(path, stamp): &(PathBuf, _)| Database {
            path: path.clone(),
            stamp: *stamp,
            about: self.about().iter().find(|about| about.path == *path).cloned(),
        };
        let zones = self.zones();
        Entry {
            number,
            at: Entry::now(),
            cause,
            commit: None,
            digest: self.digest(),
            tree: Digest::default(),
            databases: self.databases().iter().map(database).collect(),
            names: zones.iter().map(|zone| zone.names).sum(),
            zones: zones.len(),
        }
    }
}
