//! What does a schema of Google's say in JSON schema?
//!
//! Google's is a part of OpenAPI 3.0: types in capitals, `nullable` in the place of a type `null`,
//! an order of properties. Everything else is the same and stays as it was written. JSON schema
//! itself passes unchanged.

use super::super::form::Json;
use super::super::read::Raw;
use super::super::schema::LEVELS_MAX;
use super::super::write;

/// Returns the schema as JSON schema.
pub(super) fn to_json_schema(raw: Raw<'_>) -> Json {
    inner(raw, LEVELS_MAX)
}

fn schema(out: &mut Vec<u8>, raw: Raw<'_>, levels: usize) {
    let Some(levels) = levels.checked_sub(1).filter(|_| raw.is_object()) else {
        out.extend_from_slice(raw.as_str().as_bytes());
        return;
    };
    let is_nullable = raw.object().flag("nullable") == Some(true);
    write::object(out, |o| {
        for (name, value) in raw.object().into_members() {
            match (name.as_ref(), value.text()) {
                ("nullable" | "propertyOrdering" | "property_ordering", _) => {}
                ("type", Some(kind)) if is_nullable => {
                    o.array("type", |array| {
                        array.text(&kind.to_ascii_lowercase());
                        array.text("null");
                    });
                }
                ("type", Some(kind)) => o.text("type", &kind.to_ascii_lowercase()),
                ("items" | "additionalProperties" | "not", _) => o.raw(&name, inner(value, levels).as_str()),
                ("anyOf" | "any_of" | "oneOf" | "allOf" | "prefixItems", _) => {
                    let name = if name == "any_of" { "anyOf" } else { name.as_ref() };
                    o.array(name, |array| {
                        value.items().into_iter().for_each(|item| array.json(&inner(item, levels)));
                    });
                }
                ("properties" | "$defs" | "defs", _) => o.object(&name, |o| {
                    for (name, value) in value.object().into_members() {
                        o.raw(&name, inner(value, levels).as_str());
                    }
                }),
                // Google writes counts as strings where they are 64 bits wide.
                ("minItems" | "maxItems" | "minLength" | "maxLength", Some(count))
                    if count.parse::<u64>().is_ok() =>
                {
                    o.raw(&name, &count);
                }
                _ => o.raw(&name, value.as_str()),
            }
        }
    });
}

fn inner(raw: Raw<'_>, levels: usize) -> Json {
    let mut out = Vec::new();
    schema(&mut out, raw, levels);
    String::from_utf8(out).ok().map_or_else(|| raw.json(), Json::checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn google_s_words_become_json_schema_s_and_all_else_stays() {
        let text = r#"{"type":"OBJECT","properties":{"type":{"type":"STRING","nullable":true,"enum":["A"]},"n":{"type":"ARRAY","items":{"type":"INTEGER"},"maxItems":"3"}},"required":["type"],"propertyOrdering":["type"],"x":1.0}"#;
        let want = r#"{"type":"object","properties":{"type":{"type":["string","null"],"enum":["A"]},"n":{"type":"array","items":{"type":"integer"},"maxItems":3}},"required":["type"],"x":1.0}"#;
        let got = to_json_schema(Raw::parse(text.as_bytes()).unwrap());
        assert_eq!(got.as_str(), want);
        assert_eq!(to_json_schema(Raw::parse(want.as_bytes()).unwrap()).as_str(), want, "twice is once");
    }
}
