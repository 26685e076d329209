//! Anthropic messages.
//!
//! Instructions are top-level, results of tools stand first in the user's next message, roles
//! take turns, and `max_tokens` is a must. Blocks are read here, for requests and answers alike;
//! a block of a kind that we do not know is kept as it came.

mod answer;
mod reading;
mod stream;
mod writing;

pub(super) use answer::{read as read_answer, write as write_answer};
pub(super) use reading::read as read_request;
pub(super) use stream::{Reader, Writer};
pub(super) use writing::{
    Message, effort_word, max_tokens, thinking_level, write as write_request, write_thinking,
};

use super::form::{CacheMark, Content, Finish, Issuer, Part, Seal, Source, ToolResult, ToolUse};
use super::read::{Object, Raw};
use super::{Untranslatable, form, media, seal, write};
use crate::base::api::Dialect;

/// The dialect of this folder.
const OWN: Dialect = Dialect::AnthropicMessages;

/// Reads why an answer ends.
fn finish_of(word: &str) -> Finish {
    match word {
        "max_tokens" => Finish::Length,
        "stop_sequence" => Finish::StopSequence,
        "tool_use" => Finish::ToolUse,
        "pause_turn" => Finish::Pause,
        "refusal" => Finish::Refusal,
        "model_context_window_exceeded" => Finish::ContextWindow,
        _ => Finish::Stop,
    }
}

/// Returns the word for why an answer ends.
fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Error => "end_turn",
        Finish::StopSequence => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ContextWindow => "model_context_window_exceeded",
        Finish::ToolUse => "tool_use",
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Pause => "pause_turn",
    }
}

/// Reads `content`: one text or blocks.
fn content(raw: Raw<'_>) -> Result<Vec<Part>, Untranslatable> {
    match raw.text() {
        Some(text) => Ok(vec![Part::text(text)]),
        None => raw.objects_only("content[]")?.into_iter().map(block).collect(),
    }
}

/// Reads a block.
fn block(raw: Raw<'_>) -> Result<Part, Untranslatable> {
    let mut block = raw.object();
    let cache = cache_mark(&mut block);
    let kind = block.text("type").unwrap_or_default();
    let content = match kind.as_str() {
        "text" => block.text("text").map(Content::Text),
        "image" => source(&mut block).map(|source| Content::Image { source, detail: None }),
        "document" => {
            source(&mut block).map(|source| Content::Document { source, name: block.text("title") })
        }
        "search_result" => search_result(&mut block),
        "thinking" => Some(Content::Thinking {
            text: block.text("thinking").unwrap_or_default(),
            seal: block.text("signature").and_then(seal::of_signature),
        }),
        "redacted_thinking" => block.text("data").and_then(seal::of_signature).map(Content::RedactedThinking),
        "tool_use" => Some(Content::ToolUse(ToolUse {
            id: block.text("id").unwrap_or_default(),
            name: block.text("name").unwrap_or_default(),
            arguments: block.take("input").map(|raw| raw.as_str().to_owned()).unwrap_or_default(),
            seal: None,
        })),
        "tool_result" => Some(Content::ToolResult(ToolResult {
            id: block.text("tool_use_id").unwrap_or_default(),
            name: None,
            parts: block.take("content").map_or(Ok(Vec::new()), self::content)?,
            is_error: block.flag("is_error").unwrap_or(false),
        })),
        _ => None,
    };
    if let Some(content) = content {
        return Ok(Part { content, cache, extra: block.rest(OWN) });
    }
    Ok(Part::of(Content::Foreign { owner: OWN, json: raw.json() }))
}

fn cache_mark(object: &mut Object<'_>) -> Option<CacheMark> {
    object.take("cache_control").map(|raw| CacheMark { ttl: raw.object().text("ttl") })
}

fn write_cache_mark(o: &mut write::Object<'_>, mark: Option<&CacheMark>) {
    if let Some(mark) = mark {
        o.object("cache_control", |o| {
            o.text("type", "ephemeral");
            o.text_if("ttl", mark.ttl.as_deref());
        });
    }
}

/// Reads what a search found: words with a title and an address before them.
fn search_result(block: &mut Object<'_>) -> Option<Content> {
    let (title, address) = (block.text("title"), block.text("source"));
    let words = words(block.take("content")?)?;
    let said = [title, address, Some(words)].into_iter().flatten();
    let all: Vec<String> = said.filter(|text| !text.is_empty()).collect();
    Some(Content::Document { source: Source::Text(all.join("\n")), name: None })
}

/// Reads content that is nothing but words.
fn words(raw: Raw<'_>) -> Option<String> {
    let of_block = |raw: Raw<'_>| {
        let mut block = raw.object();
        let is_text = block.text("type").as_deref() == Some("text");
        block.text("text").filter(|_| is_text)
    };
    let blocks = || raw.items().into_iter().map(of_block).collect::<Option<Vec<_>>>();
    raw.text().or_else(|| blocks().map(|texts| texts.join("\n")))
}

/// Takes the source of an image or a document; one made of blocks that are not all words is only
/// Anthropic's.
fn source(block: &mut Object<'_>) -> Option<Source> {
    let mut source = block.object("source");
    match source.text("type")?.as_str() {
        "base64" => {
            let media_type = media::named(&source.text("media_type")?);
            Some(Source::Base64 { media_type, data: source.text("data")? })
        }
        "url" => Some(Source::Url { url: source.text("url")?, media_type: None }),
        "file" => Some(Source::File { owner: OWN, id: source.text("file_id")? }),
        "text" => Some(Source::Text(source.text("data")?)),
        "content" => Some(Source::Text(words(source.take("content")?)?)),
        _ => None,
    }
}

/// Tells whether Anthropic made the seal.
pub(super) fn is_own(seal: &Seal) -> bool {
    seal.issuer == Issuer::Anthropic
}

/// Writes the arguments of a call, which Anthropic wants as an object. What the model wrote and
/// is none stays readable inside one.
pub(super) fn write_input(o: &mut write::Object<'_>, call: &ToolUse) {
    write_input_as(o, "input", call);
}

/// Writes the same under another name.
pub(super) fn write_input_as(o: &mut write::Object<'_>, name: &str, call: &ToolUse) {
    let text = call.arguments.trim_ascii();
    let is_object = text.starts_with('{') && form::Json::new(text).is_some();
    match (text.is_empty(), is_object) {
        (true, _) => o.object(name, |_| {}),
        (false, true) => o.raw(name, text),
        (false, false) => o.object(name, |o| o.text("arguments", text)),
    }
}
