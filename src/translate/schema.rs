//! Which schemas are followed exactly, and by whom?
//!
//! Every dialect takes JSON schema for the form of an answer, none takes all of it. OpenAI follows a
//! schema exactly (`strict`) where every object says all of its members and allows no others, and
//! refuses any other that it is told to follow so. Anthropic always follows exactly, wants objects to
//! allow no other members, and knows no bounds of numbers, texts and lists: those are told in the
//! description, as its own SDKs do, and noted as lost.
//!
//! Source: OpenAI's and Anthropic's guides to structured outputs, read 2026-11.

use super::form::Json;
use super::read::Raw;
use super::write;
use std::borrow::Cow;
use std::collections::HashSet;

/// How deep a schema is read: each level is gone over once more for every one that it lies in. OpenAI takes
/// ten, and nobody is known to take as many.
pub(super) const LEVELS_MAX: usize = 32;

/// Words that OpenAI does not know in a strict schema.
const NOT_STRICT: [&str; 20] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
    "prefixItems",
    "contains",
    "uniqueItems",
    "minLength",
    "maxLength",
    "default",
    "unevaluatedItems",
];

/// Words that Anthropic refuses.
const NOT_CLAUDE: [&str; 24] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "prefixItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "not",
    "if",
    "then",
    "else",
];

/// Forms of texts that Anthropic knows.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Tells whether the answer is to be an object, which is all that OpenAI takes.
pub(super) fn is_object(schema: &Json) -> bool {
    Raw::of(schema).object().text("type").as_deref() == Some("object")
}

/// Returns the schema of a function's arguments with the type that Anthropic and Bedrock want to stand in
/// it: `{}` and members alone are taken elsewhere, and arguments are an object whatever is said.
pub(super) fn of_object(schema: &Json) -> Cow<'_, Json> {
    if is_object(schema) {
        return Cow::Borrowed(schema);
    }
    let mut out = Vec::with_capacity(schema.as_str().len() + 20);
    write::object(&mut out, |o| {
        o.text("type", "object");
        for (name, value) in Raw::of(schema).object().into_members().filter(|(name, _)| name != "type") {
            o.raw(&name, value.as_str());
        }
    });
    String::from_utf8(out).map_or(Cow::Borrowed(schema), |text| Cow::Owned(Json::checked(text)))
}

/// Tells whether OpenAI can follow a schema exactly.
pub(super) fn fits_strict(schema: &Json) -> bool {
    is_object(schema) && is_strict(Raw::of(schema), LEVELS_MAX)
}

fn is_strict(raw: Raw<'_>, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1).filter(|_| raw.is_object()) else { return false };
    let is_bound = !says_object(raw) || {
        let mut object = raw.object();
        let required: HashSet<String> = object.items("required").into_iter().filter_map(Raw::text).collect();
        let is_closed = object.flag("additionalProperties") == Some(false);
        let mut names = object.object("properties").into_members().map(|(name, _)| name);
        is_closed && names.all(|name| required.contains(name.as_ref()))
    };
    let mut says_what = false;
    let are_inner = raw.object().into_members().all(|(name, value)| {
        says_what |= matches!(name.as_ref(), "type" | "anyOf" | "$ref" | "enum" | "const");
        match name.as_ref() {
            "properties" | "$defs" | "definitions" => {
                value.object().into_members().all(|(_, inner)| is_strict(inner, levels))
            }
            "items" => is_strict(value, levels),
            "anyOf" => value.items().into_iter().all(|inner| is_strict(inner, levels)),
            name => !NOT_STRICT.contains(&name),
        }
    });
    is_bound && are_inner && says_what
}

/// Returns the schema as Anthropic takes it, and whether it says less.
pub(super) fn for_claude(schema: &Json) -> (Json, bool) {
    let (mut out, mut has_lost) = (Vec::with_capacity(schema.as_str().len() + 64), false);
    write_for_claude(&mut out, Raw::of(schema), LEVELS_MAX, &mut has_lost);
    (String::from_utf8(out).map_or_else(|_| schema.clone(), Json::checked), has_lost)
}

fn write_for_claude(out: &mut Vec<u8>, raw: Raw<'_>, levels: usize, has_lost: &mut bool) {
    let Some(levels) = levels.checked_sub(1).filter(|_| raw.is_object()) else {
        *has_lost |= raw.is_object();
        out.extend_from_slice(raw.as_str().as_bytes());
        return;
    };
    let is_object = says_object(raw);
    // Without members of its own an object is a map, or anything: it would have to be empty.
    let has_members = !raw.object().object("properties").is_empty() || !is_object;
    *has_lost |= !has_members;
    let (mut description, mut bounds) = (String::new(), Vec::new());
    write::object(out, |o| {
        for (name, value) in raw.object().into_members() {
            match name.as_ref() {
                "properties" | "$defs" | "definitions" => o.object(&name, |o| {
                    for (name, value) in value.object().into_members() {
                        o.raw(&name, &inner(value, levels, has_lost));
                    }
                }),
                "items" if value.is_object() => o.raw("items", &inner(value, levels, has_lost)),
                "anyOf" | "oneOf" | "allOf" => {
                    let word = if name == "oneOf" { "anyOf" } else { name.as_ref() };
                    let all: Vec<String> =
                        value.items().into_iter().map(|item| inner(item, levels, has_lost)).collect();
                    o.raw(word, &format!("[{}]", all.join(",")));
                }
                "additionalProperties" if is_object => *has_lost |= value.is_object(),
                "minItems" if value.count().is_some_and(|count| count <= 1) => o.raw(&name, value.as_str()),
                "description" => description = value.text().unwrap_or_default(),
                "format" if value.text().is_some_and(|word| !FORMATS.contains(&word.as_str())) => {
                    bounds.push(format!("{name}: {}", value.as_str()));
                }
                word if NOT_CLAUDE.contains(&word) => bounds.push(format!("{name}: {}", value.as_str())),
                _ => o.raw(&name, value.as_str()),
            }
        }
        if is_object {
            o.flag("additionalProperties", false);
        }
        if !bounds.is_empty() {
            *has_lost = true;
            let between = if description.is_empty() { "" } else { "\n\n" };
            description = format!("{description}{between}{{{}}}", bounds.join(", "));
        }
        if !description.is_empty() {
            o.text("description", &description);
        }
    });
}

fn inner(raw: Raw<'_>, levels: usize, has_lost: &mut bool) -> String {
    let mut out = Vec::new();
    write_for_claude(&mut out, raw, levels, has_lost);
    String::from_utf8(out).unwrap_or_default()
}

/// Tells whether a schema is of objects, among others perhaps.
fn says_object(raw: Raw<'_>) -> bool {
    let mut schema = raw.object();
    let kind = schema.take("type");
    let is_named = kind.is_some_and(|kind| {
        kind.text().is_some_and(|word| word == "object")
            || kind.items().into_iter().any(|word| word.text().is_some_and(|word| word == "object"))
    });
    is_named || schema.take("properties").is_some() || schema.take("additionalProperties").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::new(text).unwrap()
    }

    #[test]
    fn only_what_openai_can_follow_exactly_fits() {
        let closed = |more: &str| {
            format!(
                r#"{{"type":"object","properties":{{"a":{more}}},"required":["a"],"additionalProperties":false}}"#
            )
        };
        for (schema, want) in [
            (closed(r#"{"type":"string"}"#), true),
            (closed(r##"{"anyOf":[{"type":"null"},{"$ref":"#"}]}"##), true),
            (closed(r#"{"type":"array","items":{"type":"integer","minimum":1}}"#), true),
            (closed(r#"{"type":"string","minLength":2}"#), false),
            (closed("{}"), false),
            (closed(r#"{"type":"array","items":{"type":"object","properties":{}}}"#), false),
            (closed(r#"{"type":"string"}"#).replace(r#"["a"]"#, "[]"), false),
            (closed(r#"{"type":"string"}"#).replace(r#","additionalProperties":false"#, ""), false),
            (r#"{"type":"string"}"#.to_owned(), false),
            ("true".to_owned(), false),
        ] {
            assert_eq!(fits_strict(&json(&schema)), want, "{schema}");
        }
        assert!(is_object(&json(r#"{"type":"object"}"#)) && !is_object(&json(r#"{"type":"string"}"#)));
    }

    #[test]
    fn levels_beyond_what_anybody_takes_are_not_read() {
        let deep = |levels: usize| {
            let (head, tail) = (r#"{"type":"array","items":"#.repeat(levels), "}".repeat(levels));
            json(&format!(r#"{head}{{"type":"string","minLength":2}}{tail}"#))
        };
        let (told, has_lost) = for_claude(&deep(LEVELS_MAX - 1));
        assert!(has_lost && told.as_str().contains("{minLength: 2}"));
        assert_eq!(for_claude(&deep(LEVELS_MAX)), (deep(LEVELS_MAX), true));
        let strict = |levels: usize| {
            let head = r#"{"type":"object","additionalProperties":false,"properties":{"a":"#.repeat(levels);
            json(&format!(r#"{head}{{"type":"string"}}{}"#, r#"},"required":["a"]}"#.repeat(levels)))
        };
        assert!(fits_strict(&strict(LEVELS_MAX - 1)) && !fits_strict(&strict(LEVELS_MAX)));
    }

    #[test]
    fn a_schema_of_arguments_says_that_they_are_an_object() {
        for (schema, want) in [
            ("{}", r#"{"type":"object"}"#),
            (
                r#"{"properties":{"a":{"type":"string"}}}"#,
                r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
            ),
            (r#"{"type":["object","null"],"x":1.0}"#, r#"{"type":"object","x":1.0}"#),
            (r#"{"type":null}"#, r#"{"type":"object"}"#),
            (r#"{"x":1, "type":"object"}"#, r#"{"x":1, "type":"object"}"#),
        ] {
            assert_eq!(of_object(&json(schema)).as_str(), want, "{schema}");
        }
    }

    #[test]
    fn a_schema_for_claude_is_closed_and_tells_its_bounds_in_words() {
        for (schema, want, lost) in [
            (
                r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#,
                r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#,
                false,
            ),
            (
                r#"{"type":"object","additionalProperties":true,"properties":{"a":{"type":"string","description":"d","minLength":2,"format":"color"}}}"#,
                r#"{"type":"object","properties":{"a":{"type":"string","description":"d\n\n{minLength: 2, format: \"color\"}"}},"additionalProperties":false}"#,
                true,
            ),
            (
                r#"{"type":"array","minItems":1,"items":{"oneOf":[{"type":"null"},{"type":"string","format":"date"}]}}"#,
                r#"{"type":"array","minItems":1,"items":{"anyOf":[{"type":"null"},{"type":"string","format":"date"}]}}"#,
                false,
            ),
            (
                r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
                r#"{"type":"object","additionalProperties":false}"#,
                true,
            ),
            (r#"{"type":"object"}"#, r#"{"type":"object","additionalProperties":false}"#, true),
        ] {
            let (got, has_lost) = for_claude(&json(schema));
            assert_eq!((got.as_str(), has_lost), (want, lost), "{schema}");
            assert_eq!(for_claude(&got).0, got, "twice is once");
        }
    }
}
