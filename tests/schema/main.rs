//! The schemas of the files that users write, held against the readers of these files and against every file here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::Validator;
use meridian::config::Config;
use meridian::finding::{Findings, Severity, Source};
use meridian::reload::Reloader;
use meridian::schema::{self, File};
use meridian::site::read::Shared;
use meridian::wire::{Name, Rtype};
use meridian::yaml::{self, Content, Node};
use meridian::zone;
use serde_json::Value;

mod dictionaries;
mod keys;
mod typed;

use typed::typed;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validator(file: File) -> Validator {
    jsonschema::draft202012::new(&schema::of(file)).expect("a schema")
}

/// What a file is, by its name and its keys.
fn kind_of(path: &Path, node: &Node) -> File {
    match path.file_name() {
        Some(name) if name == "meridian.yaml" => File::Config,
        _ if zone::yaml::is_zone(node) => File::Zone,
        _ => File::Sites,
    }
}

/// What a schema says against a text; none where it is no YAML.
fn complaints(path: &Path, text: &str) -> Option<Vec<String>> {
    let node = yaml::read(&Source::new(path, text), &mut Findings::new())?;
    let (validator, value) = (validator(kind_of(path, &node)), typed(&node));
    let told = validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path()));
    Some(told.collect())
}

#[test]
fn the_schemas_that_are_kept_are_those_that_are_printed() {
    for (word, file) in File::ALL {
        let path = root().join("packaging/schema").join(format!("{word}.json"));
        let kept: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a schema")).expect("JSON");
        // The whole of both is more than anybody reads.
        assert!(kept == schema::of(file), "meridian schema {word} > packaging/schema/{word}.json");
        jsonschema::draft202012::meta::validate(&kept).expect("a schema of draft 2020-12");
    }
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn the_samples_and_the_pages_are_valid_and_samples_name_their_schema() {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for path in yaml_files(&root().join("zones")) {
        let text = fs::read_to_string(&path).expect("a sample");
        let named =
            text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
        let schema = root().join("zones").join(named.expect("a schema is named"));
        let node = yaml::read(&Source::new(&path, &*text), &mut Findings::new()).expect("YAML");
        let kept: Value =
            serde_json::from_str(&fs::read_to_string(schema).expect("it is there")).expect("JSON");
        assert!(kept == schema::of(kind_of(&path, &node)), "{} names another schema", path.display());
        files.push((path, text));
    }
    let pages = fs::read_dir(root().join("docs")).expect("pages").flatten().map(|entry| entry.path());
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&page).expect("a page");
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or("sites.yaml");
            files.push((page.with_extension("").join(name), block.to_owned()));
        }
    }
    assert!(files.len() > 5, "{}", files.len());
    for (path, text) in files {
        assert_eq!(complaints(&path, &text).expect("YAML"), Vec::<String>::new(), "{}", path.display());
    }
}

/// Files of a folder, from `file PATH` and the indented lines below it, each time that something else is done.
fn folders_of(scenario: &str) -> Vec<Vec<(String, String)>> {
    let mut folders = Vec::new();
    let mut files: Vec<(String, String)> = Vec::new();
    let mut is_in_file = false;
    let mut has_changed = false;
    for line in scenario.lines() {
        match (line.strip_prefix("file "), line.strip_prefix("    ")) {
            (Some(path), _) => {
                is_in_file = true;
                has_changed = true;
                files.retain(|(known, _)| known != path);
                files.push((path.to_owned(), String::new()));
            }
            (None, Some(line)) if is_in_file => {
                if let Some((_, text)) = files.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            (None, None) if is_in_file && line.is_empty() => {
                if let Some((_, text)) = files.last_mut() {
                    text.push('\n');
                }
            }
            _ => {
                is_in_file = false;
                if std::mem::take(&mut has_changed) {
                    folders.push(files.clone());
                }
            }
        }
    }
    if has_changed {
        folders.push(files);
    }
    folders
}

#[test]
fn what_the_server_takes_is_valid_and_an_unknown_key_is_not() {
    let (mut good, mut unknown) = (0, 0);
    let scenarios = root().join("tests/scenarios");
    let topics = fs::read_dir(scenarios).expect("scenarios").flatten().map(|entry| entry.path());
    let paths =
        topics.flat_map(|topic| fs::read_dir(topic).expect("a topic").flatten().map(|entry| entry.path()));
    for path in paths {
        let scenario = fs::read_to_string(&path).expect("a scenario");
        for files in folders_of(&scenario) {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, text) in &files {
                let file = folder.path().join(name);
                fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                fs::write(file, text).expect("a file");
            }
            let config = Config {
                zones: folder.path().join("zones"),
                geodb: Vec::new(),
                state: folder.path().join("run"),
                ..Config::default()
            };
            let findings = Reloader::of(&config, false).reload(false).findings;
            for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".yaml")) {
                let file = folder.path().join(name);
                let mut told = findings.iter().filter(|finding| finding.path == file);
                let Some(complaints) = complaints(Path::new(name), text) else { continue };
                if told.clone().any(|finding| finding.text.starts_with("unknown key")) {
                    assert!(!complaints.is_empty(), "{}: {name} is not valid", path.display());
                    unknown += 1;
                } else if told.all(|finding| finding.severity == Severity::Warning) {
                    assert_eq!(complaints, Vec::<String>::new(), "{}: {name}", path.display());
                    good += 1;
                }
            }
        }
    }
    assert!(good > 50 && unknown > 3, "{good} good, {unknown} with an unknown key");
}
