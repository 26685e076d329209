//! OpenAI responses.
//!
//! A conversation is a list of items and not of turns: messages, calls, their outputs and thoughts
//! stand side by side. Neighbouring items of the model are one turn to us. An answer is items too,
//! and its stream tells each of them three times: piece by piece, whole at its end, and once more
//! in `response.completed`.
//!
//! * Thoughts are summaries. What proves them (`encrypted_content`) goes to OpenAI alone; clients
//!   are given other issuers' seals with the issuer before them (`seal`), and no thoughts at all
//!   where they may ask OpenAI next: it refuses those that it did not seal or does not keep.
//! * An item that is only named (`item_reference`) is refused: nobody else has it. So is nothing
//!   else that OpenAI keeps (`previous_response_id`, `conversation`), but it is a loss that matters.
//! * What is written is never stored (`store: false`).

mod answer;
mod reading;
mod stream;
mod telling;
mod writing;

pub(super) use answer::{read as read_answer, write as write_answer};
pub(super) use reading::read as read_request;
pub(super) use stream::Reader;
pub(super) use telling::Writer;
pub(super) use writing::write as write_request;

use super::form::{Content, Extra, Finish, Issuer, Part, Seal, Source, ToolUse};
use super::read::{Object, Raw};
use super::{Untranslatable, chat, media, seal, write};
use crate::base::api::Dialect;

/// The dialect of this folder.
const OWN: Dialect = Dialect::OpenAiResponses;

/// Reads why an answer ends from its `status` and `incomplete_details`.
fn finish_of(response: &mut Object<'_>) -> Finish {
    let reason = response.object("incomplete_details").text("reason");
    match (response.text("status").as_deref(), reason.as_deref()) {
        (_, Some("content_filter")) => Finish::ContentFilter,
        (_, Some("max_output_tokens" | "max_tokens")) | (Some("incomplete"), _) => Finish::Length,
        (Some("failed" | "cancelled"), _) => Finish::Error,
        (Some(_) | None, _) => Finish::Stop,
    }
}

/// Returns why an answer is not complete, in OpenAI's words.
fn incomplete_word(finish: Finish) -> Option<&'static str> {
    match finish {
        Finish::Length | Finish::ContextWindow => Some("max_output_tokens"),
        Finish::ContentFilter | Finish::Refusal => Some("content_filter"),
        Finish::Stop | Finish::StopSequence | Finish::ToolUse | Finish::Pause | Finish::Error => None,
    }
}

/// Reads `content` of a message: one text or parts.
fn content(raw: Raw<'_>) -> Result<Vec<Part>, Untranslatable> {
    match raw.text() {
        Some(text) if text.is_empty() => Ok(Vec::new()),
        Some(text) => Ok(vec![Part::text(text)]),
        None => Ok(raw.objects_only("input[].content[]")?.into_iter().map(part).collect()),
    }
}

fn part(raw: Raw<'_>) -> Part {
    let mut item = raw.object();
    let content = match item.text("type").as_deref() {
        Some("input_text" | "output_text" | "text" | "summary_text" | "reasoning_text") => {
            item.text("text").map(Content::Text)
        }
        Some("refusal") => item.text("refusal").map(Content::Refusal),
        Some("input_image") => image(&mut item),
        Some("input_file") => file(&mut item),
        Some("input_audio") => audio(item.object("input_audio")),
        Some(_) | None => None,
    };
    match content {
        // Annotations and probabilities of an answer that comes back.
        Some(content) => Part { content, cache: None, extra: item.rest(OWN) },
        None => Part::of(Content::Foreign { owner: OWN, json: raw.json() }),
    }
}

fn image(item: &mut Object<'_>) -> Option<Content> {
    let detail = item.text("detail");
    let source = match item.text("file_id") {
        Some(id) => Source::File { owner: OWN, id },
        None => media::of_url(item.text("image_url")?, None),
    };
    Some(Content::Image { source, detail })
}

fn file(item: &mut Object<'_>) -> Option<Content> {
    let name = item.text("filename");
    let (id, url) = (item.text("file_id"), item.text("file_url"));
    let source = match (id, url) {
        (Some(id), _) => Source::File { owner: OWN, id },
        (None, Some(url)) => Source::Url { url, media_type: None },
        (None, None) => media::of_url(item.text("file_data")?, name.as_deref()),
    };
    Some(Content::Document { source, name })
}

fn audio(mut audio: Object<'_>) -> Option<Content> {
    let media_type = format!("audio/{}", audio.text("format")?);
    Some(Content::Audio { source: Source::Base64 { media_type, data: audio.text("data")? } })
}

/// Reads what the model said in one item; nothing of items that are no answer.
fn said(raw: Raw<'_>) -> Result<Vec<Part>, Untranslatable> {
    let mut item = raw.object();
    Ok(match item.text("type").as_deref() {
        Some("message") => item.take("content").map_or(Ok(Vec::new()), content)?,
        Some("reasoning") => vec![Part::of(thoughts(&mut item))],
        Some("function_call") => vec![Part::of(Content::ToolUse(ToolUse {
            id: item.text("call_id").or_else(|| item.text("id")).unwrap_or_default(),
            name: item.text("name").unwrap_or_default(),
            arguments: item.text("arguments").filter(|text| text.trim() != "null").unwrap_or_default(),
            seal: None,
        }))],
        Some("custom_tool_call") => vec![Part::of(Content::ToolUse(custom(&mut item)))],
        Some(_) | None => vec![Part::of(Content::Foreign { owner: OWN, json: raw.json() })],
    })
}

/// Reads a call of a tool that takes text: others take an object.
fn custom(item: &mut Object<'_>) -> ToolUse {
    let input = item.text("input").unwrap_or_default();
    let mut arguments = Vec::new();
    write::object(&mut arguments, |o| o.text("input", &input));
    ToolUse {
        id: item.text("call_id").unwrap_or_default(),
        name: item.text("name").unwrap_or_default(),
        arguments: String::from_utf8(arguments).unwrap_or_default(),
        seal: None,
    }
}

/// Reads a reasoning item: the summary's parts, or the thoughts themselves where they are shown.
fn thoughts(item: &mut Object<'_>) -> Content {
    let seal = sealed(item);
    let mut texts = |name: &str| -> Vec<String> {
        item.items(name).into_iter().filter_map(|raw| raw.object().text("text")).collect()
    };
    let (summary, full) = (texts("summary"), texts("content"));
    let text = if summary.is_empty() { full.join("\n\n") } else { summary.join("\n\n") };
    match seal {
        Some(seal) if text.is_empty() => Content::RedactedThinking(seal),
        seal => Content::Thinking { text, seal },
    }
}

/// Takes the seal of a reasoning item; an id without the text is OpenAI's to know. OpenRouter says
/// whose it is.
fn sealed(item: &mut Object<'_>) -> Option<Seal> {
    let id = item.text("id").filter(|id| !id.is_empty());
    let issuer = item.text("format").map_or(Issuer::OpenAi, |format| chat::issuer_of(&format));
    let seal = seal::brought(item.text("encrypted_content")?, issuer)?;
    let id = if seal.issuer == Issuer::OpenAi { id } else { seal.id };
    Some(Seal { id, ..seal })
}

/// Writes a reasoning item; `summary` is nothing where only the seal is known.
fn write_reasoning(o: &mut write::Object<'_>, id: Option<&str>, summary: &str, sealed: Option<&str>) {
    o.text_if("id", id);
    o.text("type", "reasoning");
    o.array("summary", |array| {
        if !summary.is_empty() {
            array.object(|o| write_text(o, "summary_text", summary));
        }
    });
    o.text_if("encrypted_content", sealed);
}

fn write_text(o: &mut write::Object<'_>, kind: &str, text: &str) {
    o.text("type", kind);
    write_text_member(o, kind, text);
}

fn write_text_member(o: &mut write::Object<'_>, kind: &str, text: &str) {
    o.text(if kind == "refusal" { "refusal" } else { "text" }, text);
}

/// Returns members that are not read as what they were, under one name.
fn keep(extra: &mut Extra, name: &str, raw: Option<Raw<'_>>) {
    if let Some(raw) = raw {
        extra.owner = Some(OWN);
        extra.members.push((name.to_owned(), raw.json()));
    }
}
