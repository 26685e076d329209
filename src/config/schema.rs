//! The JSON Schema and the list of keys, from the walk that reads.
//!
//! The walk is run in its describing mode; what it records is turned into a draft 2020-12 schema.
//! It says what an editor can use: names, types, closed lists, one sentence each. Ranges of
//! durations and sizes, names and everything between keys stay with `check`.

use super::file::read_file;
use super::keydoc::{KeyDoc, Shape};
use super::walk::Walk;
use crate::base::units::{format_duration, format_size};
use serde_json::{Map, Value, json};

/// Returns every key with its default, in the order of the sample.
#[must_use]
pub fn keys() -> Vec<KeyDoc> {
    let walk = Walk::describing();
    walk.root(None, |m| {
        read_file(m, &walk.faults);
    });
    walk.into_docs()
}

/// Returns the JSON Schema of the configuration.
#[must_use]
pub fn schema() -> Value {
    let docs = keys();
    let mut schema = object(&docs, "");
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("pointsman configuration"));
    Value::Object(schema)
}

/// The schema of the mapping whose keys are recorded right below `prefix`.
fn object(docs: &[KeyDoc], prefix: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for doc in docs {
        let Some(name) = name_below(&doc.path, prefix) else { continue };
        if doc.is_required {
            required.push(json!(name));
        }
        properties.insert(name.to_owned(), property(docs, doc));
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

/// The last step of a path that stands directly below `prefix`.
fn name_below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let name = if prefix.is_empty() { path } else { path.strip_prefix(prefix)?.strip_prefix('.')? };
    (!name.contains('.')).then_some(name)
}

fn property(docs: &[KeyDoc], doc: &KeyDoc) -> Value {
    let mut schema = shape(docs, doc);
    let help = match &doc.shape {
        Shape::Duration(least, most) | Shape::Durations(least, most, _) => {
            format!("{} ({} to {})", doc.help, format_duration(*least), format_duration(*most))
        }
        Shape::Size(least, most) => {
            format!("{} ({} to {})", doc.help, format_size(*least), format_size(*most))
        }
        Shape::Unbuilt => format!("{} (not built yet)", doc.help),
        Shape::Integer(..)
        | Shape::Number(..)
        | Shape::Boolean
        | Shape::Choice(_)
        | Shape::Text
        | Shape::Secret
        | Shape::Texts
        | Shape::Integers(..)
        | Shape::TextTable
        | Shape::JsonTable
        | Shape::List
        | Shape::Table
        | Shape::Section => doc.help.to_owned(),
    };
    if doc.is_nullable || matches!(doc.shape, Shape::Section | Shape::List | Shape::Table) {
        schema = json!({"anyOf": [schema, {"type": "null"}]});
    }
    if let Value::Object(fields) = &mut schema {
        fields.insert("description".to_owned(), json!(help));
        if let Some(default) = json_default(doc) {
            fields.insert("default".to_owned(), default);
        }
    }
    schema
}

/// The default as JSON, where there is one.
fn json_default(doc: &KeyDoc) -> Option<Value> {
    let default = serde_yaml::from_str::<serde_yaml::Value>(&doc.default).ok()?;
    if doc.is_required { None } else { serde_json::to_value(default).ok() }
}

fn shape(docs: &[KeyDoc], doc: &KeyDoc) -> Value {
    match &doc.shape {
        Shape::Duration(..) => duration(),
        Shape::Durations(_, _, most) => json!({"type": "array", "items": duration(), "maxItems": most}),
        Shape::Size(..) => json!({"type": "string", "pattern": r"^[0-9]*\.?[0-9]+ ?(B|KiB|MiB|GiB)$"}),
        Shape::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Choice(words) => {
            // Words that YAML reads as numbers may be written without quotes.
            let mut list: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            list.extend(
                words.iter().filter_map(|word| word.parse::<serde_json::Number>().ok()).map(Value::Number),
            );
            json!({"enum": list})
        }
        Shape::Text => json!({"type": "string", "minLength": 1}),
        Shape::Secret => secret(),
        Shape::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Shape::Integers(least, most) => {
            json!({"type": "array", "items": {"type": "integer", "minimum": least, "maximum": most}})
        }
        Shape::TextTable => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Shape::JsonTable => json!({"type": "object"}),
        Shape::List => json!({"type": "array", "items": object(docs, &format!("{}[]", doc.path))}),
        Shape::Table => {
            json!({"type": "object", "additionalProperties": {"anyOf": [object(docs, &format!("{}.*", doc.path)), {"type": "null"}]}})
        }
        Shape::Section => Value::Object(object(docs, &doc.path)),
        Shape::Unbuilt => json!({"type": "null"}),
    }
}

fn duration() -> Value {
    json!({"anyOf": [{"type": "string", "pattern": r"^[0-9]*\.?[0-9]+ ?(us|ms|s|m|h|d)$"}, {"const": 0}]})
}

fn secret() -> Value {
    let place = |name: &str, value: Value| json!({"type": "object", "additionalProperties": false, "required": [name], "properties": {name: value}});
    json!({"anyOf": [
        place("env", json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})),
        place("file", json!({"type": "string"})),
        place("credential", json!({"type": "string"})),
        place("command", json!({"type": "array", "items": {"type": "string"}, "minItems": 1})),
        {"type": "string", "description": "the secret itself: only in a file that nobody but its owner can read"},
    ]})
}
