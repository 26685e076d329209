//! What one value of the tree is, and what may be said of it.
//!
//! A message says the type of a value and never its content: what stands in the wrong place may
//! be a key.

use super::fault::Faults;
use super::path::KeyPath;
use serde_yaml::Value;

/// Longest text value; paths and URLs stay far below.
const TEXT_MAX: usize = 4096;

/// Reads a text: no control characters, no blanks at the ends, not empty, not endless.
pub(super) fn read_text(faults: &Faults, at: &KeyPath, value: &Value) -> Option<String> {
    let Value::String(text) = value else {
        let hint = if matches!(value, Value::Number(_) | Value::Bool(_)) { "; put it in quotes" } else { "" };
        faults.error(at, format!("must be text, not {}{hint}", type_of(value)));
        return None;
    };
    let wrong = if text.is_empty() {
        "is empty"
    } else if text.len() > TEXT_MAX {
        "is longer than 4096 bytes"
    } else if text.chars().any(char::is_control) {
        "holds a control character (a line break, a tab or the like)"
    } else if text.trim() != text {
        "begins or ends with a blank"
    } else {
        return Some(text.clone());
    };
    faults.error(at, wrong);
    None
}

/// Says what a value is, never what it holds.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value (tags with ! are not taken)",
    }
}

/// The text of a string or number, for words that YAML reads as numbers (`http: 1`, `connect: 0`).
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

/// Turns YAML into JSON where JSON can say it.
pub(super) fn json_of(value: &Value) -> Result<serde_json::Value, &'static str> {
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => serde_json::Value::Bool(*value),
        Value::Number(number) => {
            if let Some(whole) = number.as_u64() {
                whole.into()
            } else if let Some(whole) = number.as_i64() {
                whole.into()
            } else {
                let number = number.as_f64().and_then(serde_json::Number::from_f64);
                serde_json::Value::Number(number.ok_or("holds a number that JSON cannot say")?)
            }
        }
        Value::String(text) => serde_json::Value::String(text.clone()),
        Value::Sequence(items) => items.iter().map(json_of).collect::<Result<_, _>>()?,
        Value::Mapping(entries) => {
            let mut object = serde_json::Map::new();
            for (key, value) in entries {
                let Value::String(key) = key else { return Err("holds a key that is not text") };
                object.insert(key.clone(), json_of(value)?);
            }
            serde_json::Value::Object(object)
        }
        Value::Tagged(_) => return Err("holds a tagged value (tags with ! are not taken)"),
    })
}
