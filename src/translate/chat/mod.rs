//! OpenAI chat completions, as OpenAI and the many servers like it speak it.
//!
//! What is written is what most of these servers take: instructions as `system`, text alone as one
//! string and not as an array (DeepSeek refuses arrays; blocks are joined by an empty line),
//! `max_tokens` except for the OpenAI models that want `max_completion_tokens`. What is read is
//! whatever they send: content as an array (Mistral), as an object (Cloudflare), split over two
//! choices (Copilot), thoughts under three names.

mod answer;
mod calls;
mod reading;
mod stream;
mod writing;

pub(super) use answer::{call_id, read as read_answer, write as write_answer};
pub(super) use reading::{is_unknown_format, read as read_request};
pub(super) use stream::{Reader, Writer};
pub(super) use writing::{any_object, write as write_request};

use super::form::{Content, Finish, Issuer, Part, Request, Seal, ToolChoice, ToolUse};
use super::loss::{Loss, Losses};
use super::read::{Object, Raw};
use super::write;
use crate::base::api::Dialect;

/// Longest name of the end user that OpenAI takes, in characters (its API reference, read 2026-11).
const USER_MAX: usize = 64;

/// The dialect of this folder.
const OWN: Dialect = Dialect::OpenAiChat;

/// Returns the end user's name as either of OpenAI's dialects takes it. One that is too long is a hint
/// that is lost, and not cut: what is left of it may be everybody's (Claude Code's are of 150 characters
/// and more, and differ in the last).
pub(super) fn user<'a>(request: &'a Request, lost: &mut Losses) -> Option<&'a str> {
    let user = request.user.as_deref()?;
    let fits = user.chars().nth(USER_MAX).is_none();
    lost.add_if(!fits, Loss::User);
    fits.then_some(user)
}

/// Reads why an answer ends; an empty word says nothing.
fn finish_of(word: &str) -> Option<Finish> {
    Some(match word {
        "" => return None,
        "length" | "max_tokens" | "model_length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolUse,
        // `sensitive` and `network_error` are GLM's (Z.ai's API reference, read 2026-11).
        "content_filter" | "sensitive" => Finish::ContentFilter,
        "refusal" => Finish::Refusal,
        "error" | "network_error" => Finish::Error,
        // `stop`, `eos` (Together), `end_turn` and whatever else means done.
        _ => Finish::Stop,
    })
}

/// Returns the word for why an answer ends; OpenAI has five.
fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence | Finish::Pause | Finish::Error => "stop",
        Finish::Length | Finish::ContextWindow => "length",
        Finish::ToolUse => "tool_calls",
        Finish::ContentFilter | Finish::Refusal => "content_filter",
    }
}

/// Takes the thoughts of a message or a delta, under whichever name they come.
fn take_thoughts(message: &mut Object<'_>) -> Vec<Content> {
    let plain = ["reasoning_content", "reasoning", "reasoning_text", "thinking"]
        .into_iter()
        .filter_map(|name| message.text(name))
        .reduce(|first, next| if first.is_empty() { next } else { first });
    let details: Vec<Content> = message.items("reasoning_details").into_iter().filter_map(detail).collect();
    if !details.is_empty() {
        return details;
    }
    plain
        .filter(|text| !text.is_empty())
        .map(|text| Content::Thinking { text, seal: None })
        .into_iter()
        .collect()
}

/// Reads one of OpenRouter's `reasoning_details`.
fn detail(raw: Raw<'_>) -> Option<Content> {
    let mut item = raw.object();
    let issuer = issuer_of(item.text("format").as_deref().unwrap_or_default());
    let id = item.text("id");
    let seal = |text: String| Seal { issuer, text, id: id.clone() };
    match item.text("type")?.as_str() {
        "reasoning.text" => {
            let signature = item.text("signature").filter(|text| !text.is_empty());
            let text = item.text("text").unwrap_or_default();
            let is_empty = text.is_empty() && signature.is_none();
            (!is_empty).then(|| Content::Thinking { text, seal: signature.map(seal) })
        }
        "reasoning.summary" => Some(Content::Thinking { text: item.text("summary")?, seal: None }),
        "reasoning.encrypted" => Some(Content::RedactedThinking(seal(item.text("data")?))),
        _ => None,
    }
}

/// Reads OpenRouter's word for who made a seal.
pub(super) fn issuer_of(format: &str) -> Issuer {
    match format {
        "anthropic-claude-v1" => Issuer::Anthropic,
        "openai-responses-v1" => Issuer::OpenAi,
        "google-gemini-v1" => Issuer::Google,
        _ => Issuer::Other,
    }
}

fn format_of(issuer: Issuer) -> &'static str {
    match issuer {
        Issuer::Anthropic => "anthropic-claude-v1",
        Issuer::OpenAi => "openai-responses-v1",
        Issuer::Google => "google-gemini-v1",
        Issuer::Other => "unknown",
    }
}

/// Writes sealed thoughts as `reasoning_details`, so that a client which sends them back brings
/// the seals along.
fn write_details(message: &mut write::Object<'_>, parts: &[&Content]) {
    let is_sealed = |content: &&Content| {
        matches!(content, Content::Thinking { seal: Some(_), .. } | Content::RedactedThinking(_))
    };
    if !parts.iter().any(is_sealed) {
        return;
    }
    message.array("reasoning_details", |array| {
        for (index, content) in parts.iter().enumerate() {
            match content {
                Content::Thinking { text, seal } => array.object(|o| {
                    o.text("type", "reasoning.text");
                    o.text("text", text);
                    o.text_if("signature", seal.as_ref().map(|seal| seal.text.as_str()));
                    write_seal(o, seal.as_ref(), index as u64);
                }),
                Content::RedactedThinking(seal) => array.object(|o| {
                    o.text("type", "reasoning.encrypted");
                    o.text("data", &seal.text);
                    write_seal(o, Some(seal), index as u64);
                }),
                _ => {}
            }
        }
    });
}

fn write_seal(o: &mut write::Object<'_>, seal: Option<&Seal>, index: u64) {
    o.text_if("id", seal.and_then(|seal| seal.id.as_deref()));
    o.text("format", format_of(seal.map_or(Issuer::Other, |seal| seal.issuer)));
    o.count("index", index);
}

/// Reads a choice among some of the tools, in the form of either of OpenAI's dialects; nothing where
/// one of them is no function.
pub(super) fn allowed(raw: Raw<'_>) -> Option<(ToolChoice, Vec<String>)> {
    let mut choice = raw.object();
    if choice.text("type")? != "allowed_tools" {
        return None;
    }
    let mut among = choice.take("allowed_tools").map_or(choice, Raw::object);
    let mode = match among.text("mode").as_deref() {
        Some("required") => ToolChoice::Required,
        Some(_) | None => ToolChoice::Auto,
    };
    let name = |raw: Raw<'_>| {
        let mut tool = raw.object();
        let is_function = tool.text("type").as_deref() == Some("function");
        tool.object("function").text("name").or_else(|| tool.text("name")).filter(|_| is_function)
    };
    let names = among.items("tools").into_iter().map(name).collect::<Option<Vec<_>>>()?;
    (!names.is_empty()).then_some((mode, names))
}

/// Takes the seal of a call as Gemini's OpenAI dialect puts it.
fn google_seal(call: &mut Object<'_>) -> Option<Seal> {
    let text = call.object("extra_content").object("google").text("thought_signature")?;
    Some(Seal { issuer: Issuer::Google, text, id: None })
}

fn write_google_seal(call: &mut write::Object<'_>, seal: Option<&Seal>) {
    if let Some(seal) = seal.filter(|seal| seal.issuer == Issuer::Google) {
        call.object("extra_content", |o| {
            o.object("google", |o| o.text("thought_signature", &seal.text));
        });
    }
}

/// Writes a call; clients and servers parse its arguments, so none are an empty object.
fn write_call(o: &mut write::Object<'_>, id: &str, call: &ToolUse, seal: Option<&Seal>) {
    o.text("id", id);
    o.text("type", "function");
    o.object("function", |o| {
        o.text("name", &call.name);
        o.text("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
    });
    write_google_seal(o, seal);
}

/// Reads one of `tool_calls`, or a `function_call` of old. Custom tools take text, not JSON.
fn tool_use(mut call: Object<'_>) -> Option<ToolUse> {
    let id = call.text("id").unwrap_or_default();
    // Snowflake sends every sort of call at once, those that are none without a name.
    let named =
        |raw: Option<Raw<'_>>| raw.and_then(|raw| raw.object().text("name").filter(|name| !name.is_empty()));
    let custom = call.take("custom");
    if let Some(name) = named(custom) {
        let input = custom.and_then(|raw| raw.object().text("input")).unwrap_or_default();
        let mut arguments = Vec::new();
        write::object(&mut arguments, |o| o.text("input", &input));
        let arguments = String::from_utf8(arguments).unwrap_or_default();
        return Some(ToolUse { id, name, arguments, seal: None });
    }
    let seal = google_seal(&mut call);
    let mut function = call.take("function").map_or(call, Raw::object);
    let name = function.text("name").filter(|name| !name.is_empty())?;
    Some(ToolUse { id, name, arguments: whole_arguments(&mut function), seal })
}

/// Takes arguments: a string of JSON text, or (some servers) the object itself.
fn arguments(function: &mut Object<'_>) -> String {
    let raw = function.take("arguments");
    raw.map(|raw| raw.text().unwrap_or_else(|| raw.as_str().to_owned())).unwrap_or_default()
}

/// Takes the arguments of a whole call. Groq says `null` where there are none.
fn whole_arguments(function: &mut Object<'_>) -> String {
    let text = arguments(function);
    if text.trim() == "null" { String::new() } else { text }
}

/// Reads `content` of an answer in all the forms it is sent.
fn content(raw: Raw<'_>) -> Vec<Part> {
    if let Some(text) = raw.text() {
        return if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
    }
    if raw.is_object() {
        // Cloudflare, asked for JSON.
        return vec![Part::text(raw.as_str())];
    }
    raw.items().into_iter().filter_map(|item| item_of_content(item.object())).collect()
}

fn item_of_content(mut item: Object<'_>) -> Option<Part> {
    let content = match item.text("type")?.as_str() {
        "text" | "output_text" => Content::Text(item.text("text")?),
        "refusal" => Content::Refusal(item.text("refusal")?),
        "thinking" => thinking_item(&mut item)?,
        _ => return None,
    };
    Some(Part::of(content))
}

/// Reads Mistral's `{"type":"thinking","thinking":[{"type":"text","text":…}]}`.
fn thinking_item(item: &mut Object<'_>) -> Option<Content> {
    let raw = item.take("thinking")?;
    let text = raw.text().unwrap_or_else(|| {
        raw.items().into_iter().filter_map(|item| item.object().text("text")).collect::<String>()
    });
    Some(Content::Thinking { text, seal: None })
}
