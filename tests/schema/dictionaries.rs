//! The words that fuzzers write zones and configurations with are the words that there are. libFuzzer cannot find them by
//! itself: how texts are compared is hidden from it.

use super::*;

#[test]
fn the_dictionaries_of_the_fuzzers_know_every_key_and_type() {
    let kept = |target: &str| -> BTreeSet<String> {
        let path = root().join("tests/fuzz/dictionaries").join(target);
        let text = fs::read_to_string(path).expect("a dictionary");
        let words = text.lines().filter(|line| line.starts_with('"'));
        words.map(|word| word.trim_matches('"').trim_end().trim_end_matches(':').to_owned()).collect()
    };
    let types = || {
        let in_zones = |name: &&str| name.parse::<Rtype>().is_ok_and(|rtype| !rtype.is_meta());
        Rtype::mnemonics().filter(in_zones).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let of_file = |file| {
        let mut words = BTreeSet::new();
        gather(&schema::of(file), &mut words);
        words
    };
    let of_zones: BTreeSet<String> =
        of_file(File::Zone).into_iter().chain(of_file(File::Sites)).chain(types()).collect();
    for (target, words) in [
        ("config", of_file(File::Config)),
        ("zone_yaml", of_zones),
        ("master_file", types()),
        ("rdata", types()),
    ] {
        let kept = kept(target);
        let missing: Vec<&String> = words.difference(&kept).collect();
        assert!(missing.is_empty(), "tests/fuzz/dictionaries/{target} has no {missing:?}");
    }
}

/// Keys, and values that are words of ours; types of records apart, which some schemas list.
fn gather(schema: &Value, words: &mut BTreeSet<String>) {
    let is_ours = |word: &&str| word.chars().any(char::is_lowercase);
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => {
                        words.extend(properties.keys().filter(|key| is_ours(&key.as_str())).cloned());
                        properties.values().for_each(|value| gather(value, words));
                    }
                    ("enum", Value::Array(values)) => {
                        words.extend(
                            values.iter().filter_map(Value::as_str).filter(is_ours).map(str::to_owned),
                        );
                    }
                    ("const", Value::String(word)) => drop(words.insert(word.clone())),
                    _ => gather(value, words),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, words)),
        _ => {}
    }
}
