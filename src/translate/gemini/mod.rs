//! Gemini generateContent, at Google's Gemini API and at Vertex.
//!
//! The model and whether to stream stand in the path, so a reader leaves both open. Names of
//! members are read in both spellings that Google takes (`inlineData`, `inline_data`). Calls came
//! without ids for long: results were tied to them by name and order, and still may be (`ties`).
//!
//! * Schemas: Google's own (`parameters`, `responseSchema`, types in capitals) are read into JSON
//!   schema; JSON schema is written under its own names (`parametersJsonSchema`).
//! * Gemini 3 refuses a call of its own that comes back without its `thoughtSignature`; a call that
//!   another model made gets the text that Google gives for this case ([`UNSIGNED`]), on its way to
//!   Google and to a client that may ask Google next.
//! * A signature on words alone is a hint to Google and is not carried.
//! * `safetySettings` and the like are kept for Google and lost elsewhere.
//! * A stream has no end of its own: it is whole when it ends after a `finishReason`.

mod answer;
mod reading;
mod schema;
mod seals;
mod stream;
mod ties;
mod writing;

pub(super) use answer::{read as read_answer, write as write_answer};
pub(super) use reading::read as read_request;
pub(super) use stream::{Reader, Writer};
pub(super) use writing::{is_third, write as write_request};

use super::form::{Content, Finish, Issuer, Json, Part, Seal, Source, ToolUse};
use super::read::{Object, Raw};
use super::{media, write};
use crate::base::api::Dialect;
use seals::{brought, carried, decoded};

/// The dialect of this folder.
const OWN: Dialect = Dialect::GeminiGenerate;

/// Signature of a call that Gemini did not make (Google's documentation of thought signatures).
const UNSIGNED: &str = "skip_thought_signature_validator";

/// The same bytes in the alphabet that every client's decoder takes.
const UNSIGNED_FOR_CLIENTS: &str = "skip/thought/signature/validator";

/// Takes a member in either spelling.
fn take<'a>(object: &mut Object<'a>, camel: &str) -> Option<Raw<'a>> {
    let found = object.take(camel);
    if found.is_some() || !camel.contains(|c: char| c.is_ascii_uppercase()) {
        return found;
    }
    let mut snake = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    object.take(&snake)
}

fn take_text(object: &mut Object<'_>, camel: &str) -> Option<String> {
    take(object, camel)?.text()
}

fn take_object<'a>(object: &mut Object<'a>, camel: &str) -> Object<'a> {
    take(object, camel).map(Raw::object).unwrap_or_default()
}

/// Reads why an answer ends.
fn finish_of(word: &str) -> Option<Finish> {
    Some(match word {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        "STOP" => Finish::Stop,
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Finish::ContentFilter,
        // `MALFORMED_FUNCTION_CALL`, `OTHER`, `LANGUAGE` and what may come.
        _ => Finish::Error,
    })
}

/// Returns the word for why an answer ends.
fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence | Finish::ToolUse | Finish::Pause => "STOP",
        Finish::Length | Finish::ContextWindow => "MAX_TOKENS",
        Finish::ContentFilter | Finish::Refusal => "SAFETY",
        Finish::Error => "OTHER",
    }
}

/// Reads the parts of one content. Neighbouring thoughts are one, up to the one that is signed:
/// clients send back a stream's pieces as they came.
fn parts(items: Vec<Raw<'_>>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for raw in items {
        let Some(part) = part(raw) else { continue };
        let last = parts.last_mut().map(|part| &mut part.content);
        match (last, part.content) {
            (
                Some(Content::Thinking { text, seal: seal @ None }),
                Content::Thinking { text: more, seal: sealed },
            ) => {
                text.push_str(&more);
                *seal = sealed;
            }
            (Some(Content::Thinking { seal: seal @ None, .. }), Content::RedactedThinking(sealed)) => {
                *seal = Some(sealed);
            }
            (_, content) => parts.push(Part { content, ..part }),
        }
    }
    parts
}

/// Reads a part; nothing of one that says nothing.
fn part(raw: Raw<'_>) -> Option<Part> {
    let mut part = raw.object();
    let is_thought = part.take("thought").and_then(Raw::flag) == Some(true);
    let seal = take_text(&mut part, "thoughtSignature").and_then(|text| brought(&text));
    let text = part.text("text");
    let content = if let Some(text) = text {
        match (is_thought, seal) {
            (true, Some(seal)) if text.is_empty() => Content::RedactedThinking(seal),
            (true, seal) if !text.is_empty() => Content::Thinking { text, seal },
            (false, _) if !text.is_empty() => Content::Text(text),
            // An empty piece with at most a signature of words.
            (true | false, _) => return None,
        }
    } else if let Some(call) = take(&mut part, "functionCall") {
        Content::ToolUse(call_of(call.object(), seal)?)
    } else if let Some(content) = medium(&mut part, raw) {
        content
    } else if part.is_empty() {
        return None;
    } else {
        Content::Foreign { owner: OWN, json: raw.json() }
    };
    Some(Part::of(content))
}

fn call_of(mut call: Object<'_>, seal: Option<Seal>) -> Option<ToolUse> {
    Some(ToolUse {
        id: call.text("id").unwrap_or_default(),
        name: call.text("name").filter(|name| !name.is_empty())?,
        arguments: call.take("args").map_or_else(|| "{}".to_owned(), |raw| raw.as_str().to_owned()),
        seal,
    })
}

/// Takes bytes or an address; sorts that nobody else has (video) are Google's.
fn medium(part: &mut Object<'_>, raw: Raw<'_>) -> Option<Content> {
    let (inline, file) = (take_object(part, "inlineData"), take_object(part, "fileData"));
    if inline.is_empty() && file.is_empty() {
        return None;
    }
    known_medium(inline, file).or_else(|| Some(Content::Foreign { owner: OWN, json: raw.json() }))
}

fn known_medium(mut inline: Object<'_>, mut file: Object<'_>) -> Option<Content> {
    let media_type = take_text(&mut inline, "mimeType").or_else(|| take_text(&mut file, "mimeType"));
    let media_type = media_type.map(|name| media::named(&name));
    let name = take_text(&mut inline, "displayName").or_else(|| take_text(&mut file, "displayName"));
    let source = match (inline.text("data"), take_text(&mut file, "fileUri")) {
        (Some(data), _) => Source::Base64 { media_type: media_type.clone()?, data },
        (None, Some(id)) if is_kept(&id) => Source::File { owner: OWN, id },
        (None, Some(url)) => Source::Url { url, media_type: media_type.clone() },
        (None, None) => return None,
    };
    let media_type = media_type.unwrap_or_default();
    Some(match media_type.split('/').next() {
        Some("image") => Content::Image { source, detail: None },
        Some("audio") => Content::Audio { source },
        Some("video") => return None,
        Some("text") => Content::Document { source: plain(source), name },
        Some(_) | None => Content::Document { source, name },
    })
}

/// Returns bytes that are text as text, which more dialects take.
fn plain(source: Source) -> Source {
    let text = match &source {
        Source::Base64 { data, .. } => decoded(data).and_then(|bytes| String::from_utf8(bytes).ok()),
        Source::Url { .. } | Source::Text(_) | Source::File { .. } => None,
    };
    text.map_or(source, Source::Text)
}

/// Tells whether an address is of a file that Google keeps for its own customers.
fn is_kept(uri: &str) -> bool {
    uri.starts_with("gs://") || uri.contains("generativelanguage.googleapis.com/")
}

/// Returns the signature that a client of Gemini gets with thoughts.
fn thought_seal(seal: Option<&Seal>, shows_others: bool) -> Option<String> {
    seal.filter(|seal| shows_others || seal.issuer == Issuer::Google).map(carried)
}

/// Returns the signature that a client of Gemini gets with a call: the first of an answer has one.
fn call_seal(seal: Option<&Seal>, shows_others: bool, must_sign: bool) -> Option<String> {
    thought_seal(seal, shows_others).or_else(|| must_sign.then(|| UNSIGNED_FOR_CLIENTS.to_owned()))
}

/// Writes a part of thoughts.
fn write_thought(o: &mut write::Object<'_>, text: &str, signature: Option<&str>) {
    o.text("text", text);
    o.flag("thought", true);
    o.text_if("thoughtSignature", signature);
}

/// Writes a call; arguments that are no JSON object stay readable inside one.
fn write_call(o: &mut write::Object<'_>, id: &str, name: &str, arguments: &str) {
    o.object("functionCall", |o| {
        if !id.is_empty() {
            o.text("id", id);
        }
        o.text("name", name);
        write_object(o, "args", "arguments", arguments);
    });
}

/// Writes text that should be a JSON object; another goes into one under `inner`. Some models set
/// their arguments in lines (Cohere's do), and a line that ends inside an event ends its data.
fn write_object(o: &mut write::Object<'_>, name: &str, inner: &str, text: &str) {
    let trimmed = text.trim_ascii();
    if inner == "arguments" && trimmed.is_empty() {
        o.object(name, |_| {});
    } else if trimmed.starts_with('{') && Json::new(trimmed).is_some() {
        o.raw_in_line(name, trimmed);
    } else {
        o.object(name, |o| o.text(inner, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_set_in_lines_are_written_in_one() {
        let mut body = Vec::new();
        write::object(&mut body, |o| write_object(o, "args", "arguments", "{\n  \"a\":\r\n \"b\\n\"\n}"));
        let body = String::from_utf8(body).unwrap();
        assert!(!body.contains(['\r', '\n']), "{body}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            serde_json::json!({"args": {"a": "b\n"}})
        );
    }

    #[test]
    fn members_are_read_in_both_spellings() {
        for text in [r#"{"thoughtSignature":"a"}"#, r#"{"thought_signature":"a"}"#] {
            let mut object = Raw::parse(text.as_bytes()).unwrap().object();
            assert_eq!(take_text(&mut object, "thoughtSignature").as_deref(), Some("a"), "{text}");
        }
    }
}
