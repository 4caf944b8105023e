//! What values look like. YAML types a plain scalar by its looks, while our readers take the text as it was written:
//! a number may stand in quotes, and a name may look like a number.

use serde_json::{Map, Value, json};

use crate::wire::{Rtype, rdata};

/// A key, what it means, and what its value looks like.
pub(super) type Key = (&'static str, &'static str, Value);

/// A mapping with these keys and no others; nothing at all is an empty one.
pub(super) fn mapping(keys: impl IntoIterator<Item = Key>) -> Value {
    let told = |(key, told, mut shape): Key| {
        shape["description"] = json!(told);
        (key.to_owned(), shape)
    };
    let properties: Map<String, Value> = keys.into_iter().map(told).collect();
    json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false })
}

/// A mapping whose keys are names that somebody chose.
pub(super) fn by_name(value: &Value) -> Value {
    json!({ "type": ["object", "null"], "additionalProperties": value })
}

/// That must have these keys.
pub(super) fn with(mut mapping: Value, required: &[&str]) -> Value {
    mapping["type"] = json!("object");
    mapping["required"] = json!(required);
    mapping
}

/// Any scalar but null.
pub(super) fn text() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A text that matches a regular expression.
pub(super) fn like(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// One of these words.
pub(super) fn word<W: Into<Value>>(words: impl IntoIterator<Item = W>) -> Value {
    json!({ "enum": words.into_iter().map(Into::into).collect::<Vec<Value>>() })
}

pub(super) fn boolean() -> Value {
    json!({ "type": "boolean" })
}

pub(super) fn number(least: u64, most: u64) -> Value {
    any([json!({ "type": "integer", "minimum": least, "maximum": most }), like("^[0-9]+$")])
}

/// Such as `500ms`, `5s`, `2m`.
pub(super) fn duration() -> Value {
    like("^[0-9.]+ *(ms|s|m|h|d)$")
}

/// Seconds, or such as `1h30m`.
pub(super) fn period() -> Value {
    any([
        json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        like("^([0-9]+|([0-9]+[wdhmsWDHMS])+)$"),
    ])
}

/// Such as `50%`.
pub(super) fn percent() -> Value {
    like("^[0-9.]+ *%$")
}

/// Such as `500 km`; a bare number is kilometres too.
pub(super) fn distance() -> Value {
    any([json!({ "type": "number", "minimum": 0, "maximum": 40_000 }), like("^[0-9.]+ *(km)?$")])
}

/// Any of several shapes.
pub(super) fn any(shapes: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": shapes.into_iter().collect::<Vec<_>>() })
}

/// One, or a list that may be empty.
pub(super) fn list(item: Value) -> Value {
    let several = json!({ "type": "array", "items": item });
    any([item, several])
}

/// One, or a list with at least one.
pub(super) fn one_or_more(item: Value) -> Value {
    let several = json!({ "type": "array", "items": item, "minItems": 1 });
    any([item, several])
}

/// What stands once in the file, for it is long and used often.
pub(super) fn defined(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// Gives a mapping the keys of record types, and `TYPE65280` as RFC 3597 has it; their data is defined under a name.
pub(super) fn with_records(mut mapping: Value, is_taken: impl Fn(Rtype) -> bool, data: &str) -> Value {
    for mnemonic in Rtype::mnemonics() {
        let Ok(rtype) = mnemonic.parse::<Rtype>() else { continue };
        if !rtype.is_meta() && is_taken(rtype) {
            let mut data = defined(data);
            data["description"] = json!(told_of(rtype));
            mapping["properties"][mnemonic] = data;
        }
    }
    mapping["patternProperties"] = json!({ "^TYPE[0-9]+$": defined(data) });
    mapping
}

fn told_of(rtype: Rtype) -> String {
    let told = match rtype {
        Rtype::CNAME | Rtype::DNAME => "another name, instead of everything else here",
        Rtype::NS => "the name of a name server",
        Rtype::PTR => "a name",
        Rtype::TXT => "one text, as it is pasted",
        _ => match rdata::example(rtype) {
            Some(example) => return format!("{rtype} records: as in {example}"),
            None => return format!("{rtype} records in presentation format"),
        },
    };
    format!("{rtype} records: {told}")
}
