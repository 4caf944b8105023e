//! Texts by what they say, and folders by the texts in them.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::replace::is_beside_a_file;

/// SHA-256 of some octets: others have another.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these octets.
    #[must_use]
    pub fn of(octets: &[u8]) -> Digest {
        let mut own = [0; 32];
        own.copy_from_slice(digest(&SHA256, octets).as_ref());
        Digest(own)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        let octets = HEXLOWER.decode(text.as_bytes()).ok().and_then(|octets| octets.try_into().ok());
        octets.map(Digest).ok_or_else(|| format!("\"{text}\" is no SHA-256"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The files of a folder: the path of each within it, with `/` between, and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Digest>);

impl Tree {
    /// Of a folder as it is now: all of its files, but those that no zone can be made of.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of_folder(root: &Path) -> io::Result<Tree> {
        let mut tree = Tree::default();
        tree.collect(root, "", 0)?;
        Ok(tree)
    }

    fn collect(&mut self, folder: &Path, within: &str, depth: usize) -> io::Result<()> {
        /// As deep as zones are sought.
        const DEEPEST: usize = 16;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_beside_a_file(&name) {
                continue;
            }
            // What a link leads to may be gone; that is no file.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            let path = format!("{within}{name}");
            if metadata.is_dir() && depth < DEEPEST {
                self.collect(&entry.path(), &format!("{path}/"), depth + 1)?;
            } else if metadata.is_file() {
                self.0.insert(path, Digest::of(&fs::read(entry.path())?));
            }
        }
        Ok(())
    }

    /// A line for each file, as `sha256sum` writes it.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (path, digest)| {
            let _ = writeln!(text, "{digest}  {path}");
            text
        })
    }

    /// Reads that again; none where it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Tree> {
        let line = |line: &str| {
            let (digest, path) = line.split_once("  ")?;
            is_within(path).then_some((path.to_owned(), digest.parse().ok()?))
        };
        text.lines().map(line).collect::<Option<_>>().map(Tree)
    }

    /// Two folders with the same have the same files.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }
}

/// Whether a path stays within the folder that it is relative to.
fn is_within(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_sha256sum_and_reads_back() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("ba78".parse::<Digest>().is_err());
    }

    #[test]
    fn a_tree_reads_back_and_no_path_leads_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        for (name, text) in [("a.yaml", "1"), ("more/b c.zone", "2"), (".git", "3"), ("a.yaml~", "4")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let tree = Tree::of_folder(folder.path()).unwrap();
        assert_eq!(tree.0.keys().collect::<Vec<_>>(), ["a.yaml", "more/b c.zone"]);
        assert_eq!(Tree::from_text(&tree.to_text()), Some(tree.clone()));
        fs::write(folder.path().join("a.yaml"), "5").unwrap();
        assert_ne!(Tree::of_folder(folder.path()).unwrap().digest(), tree.digest());
        for path in ["../x", "/etc/x", "a/../../x", "a//x", ""] {
            assert_eq!(Tree::from_text(&format!("{}  {path}\n", Digest::of(b""))), None, "{path}");
        }
    }
}
