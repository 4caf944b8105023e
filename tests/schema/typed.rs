//! Values as an editor sees them: plain scalars typed by their looks (YAML 1.2, the core schema).

use meridian::yaml::{Content, Node};
use serde_json::{Value, json};

pub(crate) fn typed(node: &Node) -> Value {
    match &node.content {
        Content::Scalar { text, is_plain: true } => plain(text),
        Content::Scalar { text, is_plain: false } => json!(text),
        Content::Sequence(items) => items.iter().map(typed).collect(),
        Content::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| (key.scalar().unwrap_or_default().to_owned(), typed(value)))
            .collect(),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return json!(true),
        "false" | "False" | "FALSE" => return json!(false),
        _ => {}
    }
    let looks_like_a_number =
        text.trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit() || first == '.');
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) if looks_like_a_number => json!(number),
        (_, Ok(number)) if looks_like_a_number => json!(number),
        _ => json!(text),
    }
}
