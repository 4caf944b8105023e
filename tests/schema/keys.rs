//! The same keys are known to the readers and to the schemas.
//!
//! The readers are asked: an unknown key in a mapping is answered with those that are known there. Files with every
//! mapping that there is stand beside this one; that they are complete is held too.

use super::*;

/// Near to nothing, so that all known keys are told.
const UNKNOWN: &str = "qqqqqqqqqqqqqqqqqqqqqqqq";

#[test]
fn the_readers_and_the_schemas_know_the_same_keys() {
    for (file, name) in
        [(File::Sites, "sites.yaml"), (File::Zone, "zone.yaml"), (File::Config, "meridian.yaml")]
    {
        let text = fs::read_to_string(root().join("tests/schema").join(name)).expect("a file");
        let source = Source::new(name, &*text);
        let mut findings = Findings::new();
        let node = yaml::read(&source, &mut findings).expect("YAML");
        assert_eq!(told_by_reader(file, &text), Vec::<String>::new(), "{name} is good");
        assert_eq!(complaints(Path::new(name), &text), Some(Vec::new()), "{name} is valid");
        let schema = with_definitions(&schema::of(file), &schema::of(file)["$defs"]);
        let mut seen = BTreeSet::new();
        visit(&schema, "", &node, &mut seen, &mut |place, keys, node| {
            let text = with_unknown_key(&text, node);
            let told = told_by_reader(file, &text);
            let known = told.iter().find_map(|told| told.strip_prefix(&format!("unknown key \"{UNKNOWN}\"")));
            let known = known.unwrap_or_else(|| panic!("{name}: {place} takes any key: {told:?}\n{text}"));
            assert_eq!(keys_told(known), keys, "{name}: {place}");
            let complaints = complaints(Path::new(name), &text).expect("YAML");
            assert!(!complaints.is_empty(), "{name}: the schema takes any key at {place}");
        });
        let all = mappings(&schema, "");
        let unseen: Vec<&String> = all.difference(&seen).filter(|place| !is_elsewhere(file, place)).collect();
        assert!(unseen.is_empty(), "tests/schema/{name} has no mapping for {unseen:?}");
    }
}

/// A zone's own sites and services are what shared ones are, and read by the same code.
fn is_elsewhere(file: File, place: &str) -> bool {
    file == File::Zone && ["/sites", "/services", "/profiles"].iter().any(|own| place.starts_with(own))
}

/// What the reader of such files says of a text.
fn told_by_reader(file: File, text: &str) -> Vec<String> {
    let mut findings = Findings::new();
    let folder = tempfile::tempdir().expect("a folder");
    let source = Source::new("written.yaml", text);
    match file {
        File::Config => {
            let path = folder.path().join("meridian.yaml");
            fs::write(&path, text).expect("a file");
            Config::read(Some(&path), &mut findings);
        }
        File::Sites => read_sites(&source, &mut findings),
        File::Zone => {
            let root = yaml::read(&source, &mut findings).expect("YAML");
            let apex = Name::parse("example.com.", None).expect("a name");
            zone::yaml::read(&source, &root, &apex, &Shared::default(), &mut findings);
        }
    }
    findings
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.text)
        .collect()
}

fn read_sites(source: &Arc<Source>, findings: &mut Findings) {
    let root = yaml::read(source, findings).expect("YAML");
    let mapping = root.mapping("sites", findings).expect("a mapping");
    Shared::read(&[mapping], findings);
}

/// From `; known here: a, b, c`, without record types: those are known to both from one list.
fn keys_told(hint: &str) -> BTreeSet<String> {
    let list = hint.strip_prefix("; known here: ").unwrap_or_else(|| panic!("no keys in {hint:?}"));
    let list = list.trim_end_matches(", and record types such as A");
    list.split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

/// The text with an unknown key where a mapping begins.
fn with_unknown_key(text: &str, mapping: &Node) -> String {
    let mut out = String::new();
    for (index, line) in text.lines().enumerate() {
        if index + 1 == mapping.at.line as usize {
            let at = line.char_indices().nth(mapping.at.column as usize - 1).map_or(line.len(), |(at, _)| at);
            let (before, after) = line.split_at(at);
            match after.strip_prefix('{') {
                Some(rest) => out.push_str(&format!("{before}{{ {UNKNOWN}: 1, {rest}\n")),
                None => out.push_str(&format!("{before}{UNKNOWN}: 1\n{}{after}\n", " ".repeat(at))),
            }
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The schema with what it defines in the places where it refers to it.
fn with_definitions(schema: &Value, definitions: &Value) -> Value {
    match schema {
        Value::Object(entries) => match entries.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let name = reference.strip_prefix("#/$defs/").expect("a definition of the file itself");
                with_definitions(&definitions[name], definitions)
            }
            None => entries
                .iter()
                .map(|(key, value)| (key.clone(), with_definitions(value, definitions)))
                .collect(),
        },
        Value::Array(items) => items.iter().map(|item| with_definitions(item, definitions)).collect(),
        other => other.clone(),
    }
}

/// Shapes that a value may have, of which several may be given.
fn shapes(schema: &Value) -> Vec<&Value> {
    match schema["anyOf"].as_array().filter(|_| schema["properties"].is_null()) {
        Some(shapes) => shapes.iter().collect(),
        None => vec![schema],
    }
}

/// Keys of a mapping but for record types; none where the keys are somebody's names.
fn keys_of(shape: &Value) -> Option<BTreeSet<String>> {
    let properties = shape["properties"].as_object().filter(|_| shape["additionalProperties"] == false)?;
    let takes_types = !shape["patternProperties"].is_null();
    let is_key = |key: &&String| !takes_types || key.parse::<Rtype>().is_err();
    Some(properties.keys().filter(is_key).cloned().collect())
}

/// Calls `each` for every mapping with keys of ours that a document has.
fn visit<'n>(
    schema: &Value,
    place: &str,
    node: &'n Node,
    seen: &mut BTreeSet<String>,
    each: &mut impl FnMut(&str, BTreeSet<String>, &'n Node),
) {
    for shape in shapes(schema) {
        match &node.content {
            Content::Sequence(items) => {
                items.iter().for_each(|item| visit(&shape["items"], place, item, seen, each));
            }
            Content::Mapping(entries)
                if shape["properties"].is_object() || shape["additionalProperties"].is_object() =>
            {
                let keys = keys_of(shape);
                // Only types can stand in the records of a last resort.
                if let Some(keys) =
                    keys.filter(|keys| !keys.is_empty() || shape["patternProperties"].is_null())
                {
                    seen.insert(place.to_owned());
                    each(place, keys, node);
                }
                for (key, value) in entries {
                    let key = key.scalar().unwrap_or_default();
                    match shape["properties"].get(key) {
                        Some(schema) => {
                            visit(schema, &format!("{place}/{}", place_of(key)), value, seen, each);
                        }
                        None => {
                            visit(&shape["additionalProperties"], &format!("{place}/*"), value, seen, each);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// Record types are all alike.
fn place_of(key: &str) -> &str {
    if key.parse::<Rtype>().is_ok() { "TYPE" } else { key }
}

/// The places of all mappings with keys of ours that a schema knows.
fn mappings(schema: &Value, place: &str) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for shape in shapes(schema) {
        if keys_of(shape).is_some_and(|keys| !keys.is_empty() || shape["patternProperties"].is_null()) {
            places.insert(place.to_owned());
        }
        for (key, value) in shape["properties"].as_object().into_iter().flatten() {
            places.extend(mappings(value, &format!("{place}/{}", place_of(key))));
        }
        for (below, value) in [("/*", &shape["additionalProperties"]), ("", &shape["items"])] {
            if value.is_object() {
                places.extend(mappings(value, &format!("{place}{below}")));
            }
        }
    }
    places
}
