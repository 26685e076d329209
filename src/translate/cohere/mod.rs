//! Cohere's chat, version 2.
//!
//! Near to OpenAI's chat with other words: `p`, `k`, `stop_sequences`, finish reasons in capitals,
//! `tool_plan` (what the model says before it calls tools, text to us) and content in parts with
//! their kind. The model is not named in an answer. Events have a `type` like Anthropic's; a piece
//! of a call is an object, not an array.

#[cfg(test)]
mod tests;
mod writing;

pub(super) use writing::write as write_request;

use super::form::{Answer, Content, Event, Finish, Part, PartKind, ToolUse, Usage};
use super::read::{Object, Raw};
use super::{Untranslatable, fault};

/// Reads why an answer ends.
fn finish_of(word: &str) -> Finish {
    match word {
        "MAX_TOKENS" => Finish::Length,
        "STOP_SEQUENCE" => Finish::StopSequence,
        "TOOL_CALL" => Finish::ToolUse,
        "ERROR_TOXIC" => Finish::ContentFilter,
        "ERROR" | "ERROR_LIMIT" | "TIMEOUT" => Finish::Error,
        _ => Finish::Stop,
    }
}

/// Reads an answer.
pub(super) fn read_answer(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let message = body.take("message").filter(|raw| raw.is_object());
    let mut message = message.ok_or(Untranslatable::Member("message"))?.object();
    let plan = message.text("tool_plan").filter(|text| !text.is_empty()).map(Part::text);
    let content = message.take("content");
    let said = content.and_then(Raw::text).map(Part::text);
    let said: Vec<Part> = said.into_iter().chain(content.into_iter().flat_map(items)).collect();
    let (thoughts, texts): (Vec<Part>, Vec<Part>) =
        said.into_iter().partition(|part| matches!(part.content, Content::Thinking { .. }));
    let calls = message.items("tool_calls").into_iter();
    let calls = calls.map(|raw| Part::of(Content::ToolUse(tool_use(raw.object()))));
    Ok(Answer {
        id: body.text("id").unwrap_or_default(),
        parts: thoughts.into_iter().chain(plan).chain(texts).chain(calls).collect(),
        finish: body.text("finish_reason").map(|word| finish_of(&word)).unwrap_or_default(),
        usage: body.take("usage").map(|raw| Usage::parse(raw.as_str())).unwrap_or_default(),
        ..Answer::default()
    })
}

fn items(content: Raw<'_>) -> Vec<Part> {
    let item = |raw: Raw<'_>| {
        let mut item = raw.object();
        let content = match item.text("type")?.as_str() {
            "text" => Content::Text(item.text("text")?),
            "thinking" => Content::Thinking { text: item.text("thinking")?, seal: None },
            _ => return None,
        };
        Some(Part::of(content))
    };
    content.items().into_iter().filter_map(item).collect()
}

fn tool_use(mut call: Object<'_>) -> ToolUse {
    let mut function = call.object("function");
    ToolUse {
        id: call.text("id").unwrap_or_default(),
        name: function.text("name").unwrap_or_default(),
        arguments: function.text("arguments").unwrap_or_default(),
        seal: None,
    }
}

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Reader {}

impl Reader {
    /// Reads one event.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn event(&mut self, name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        if data.trim_ascii() == b"[DONE]" {
            seen.push(Event::End);
            return;
        }
        let Some(raw) = Raw::parse(data) else { return };
        let mut event = raw.object();
        let kind = event.text("type");
        let mut delta = event.object("delta");
        let mut message = delta.object("message");
        match kind.as_deref() {
            Some("message-start") => {
                let id = event.text("id").unwrap_or_default();
                seen.push(Event::Start { id, model: String::new(), created: None });
            }
            Some("content-start") => {
                let mut content = message.object("content");
                let is_thinking = content.text("type").as_deref() == Some("thinking");
                seen.push(Event::PartStart(if is_thinking { PartKind::Thinking } else { PartKind::Text }));
                tell_content(content, seen);
            }
            Some("content-delta") => tell_content(message.object("content"), seen),
            Some("tool-plan-delta") => seen.extend(message.text("tool_plan").map(Event::TextDelta)),
            Some("tool-call-start") => {
                let ToolUse { id, name, arguments, seal } = tool_use(message.object("tool_calls"));
                seen.push(Event::ToolStart { id, name, seal });
                seen.push(Event::ToolArguments(arguments));
            }
            Some("tool-call-delta") => {
                let arguments = message.object("tool_calls").object("function").text("arguments");
                seen.extend(arguments.map(Event::ToolArguments));
            }
            Some("content-end" | "tool-call-end") => seen.push(Event::PartEnd),
            Some("message-end") => end(delta, raw, seen),
            // A flat error: `{"id","message"}`.
            None if name == b"error" || event.take("message").is_some() => {
                seen.push(Event::Error(fault::class(raw)));
            }
            Some(_) | None => {}
        }
    }

    /// Takes the end of the stream; nothing is held.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn finish(&mut self, _seen: &mut Vec<Event>) {}
}

fn tell_content(mut content: Object<'_>, seen: &mut Vec<Event>) {
    seen.extend(content.text("thinking").map(Event::ThinkingDelta));
    seen.extend(content.text("text").map(Event::TextDelta));
}

fn end(mut delta: Object<'_>, raw: Raw<'_>, seen: &mut Vec<Event>) {
    let reason = delta.text("finish_reason").map(|word| finish_of(&word)).unwrap_or_default();
    if reason == Finish::Error || delta.take("error").is_some() {
        seen.push(Event::Error(fault::class(raw)));
        return;
    }
    let usage = delta.take("usage").map(|raw| Usage::parse(raw.as_str()));
    seen.extend(usage.map(Event::Usage));
    seen.push(Event::Finish { reason, stop_sequence: None });
}
