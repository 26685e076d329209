//! Amazon Bedrock's Converse and ConverseStream.
//!
//! One dialect before models of many makers. Model and streaming stand in the path, not in the
//! body. What the models of one maker alone understand goes into `additionalModelRequestFields`;
//! which maker it is, the model's name tells ([`Family`]); the name of a profile does not, and such
//! a model is asked for what all can do. Documents and images are bytes or lie in S3, never at an
//! address. The thoughts of Claude are sealed here as at Anthropic's, and their seals hold at both;
//! thoughts that cannot be read come back to Bedrock alone.
//!
//! A stream's events have their names in the frame (`wire::cut`); the usage comes last, after the
//! stop reason. Needs the feature `bedrock`.

mod documents;
#[cfg(test)]
mod tests;
mod writing;

pub(super) use writing::write as write_request;

use super::form::{Answer, Content, Event, Finish, Issuer, Part, Seal, ToolUse, Usage};
use super::read::{Object, Raw};
use super::{Untranslatable, fault};

/// Whether this program speaks it: what signs and frames it is a feature of the build.
pub(super) const IS_BUILT_IN: bool = cfg!(feature = "bedrock");

/// What stands before thoughts that only Bedrock can read, wherever they are kept.
const REDACTED: &str = "bedrock:";

/// Whose model it is, as far as that changes what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Claude,
    Nova,
    GptOss,
    Other,
}

impl Family {
    fn of(model: &str) -> Self {
        let has = |word: &str| model.contains(word);
        match () {
            () if has("anthropic.") || has("claude") => Family::Claude,
            () if has("amazon.nova") => Family::Nova,
            () if has("gpt-oss") => Family::GptOss,
            () => Family::Other,
        }
    }
}

/// Reads why an answer ends.
fn finish_of(word: &str) -> Finish {
    match word {
        "max_tokens" => Finish::Length,
        "stop_sequence" => Finish::StopSequence,
        "tool_use" => Finish::ToolUse,
        "content_filtered" | "guardrail_intervened" => Finish::ContentFilter,
        "refusal" => Finish::Refusal,
        "model_context_window_exceeded" => Finish::ContextWindow,
        "malformed_model_output" | "malformed_tool_use" => Finish::Error,
        _ => Finish::Stop,
    }
}

/// Reads an answer. The model is not named in it.
pub(super) fn read_answer(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let message = body.object("output").take("message").filter(|raw| raw.is_object());
    let mut message = message.ok_or(Untranslatable::Member("output.message"))?.object();
    Ok(Answer {
        parts: message.items("content").into_iter().flat_map(|raw| parts(raw.object())).collect(),
        finish: body.text("stopReason").map(|word| finish_of(&word)).unwrap_or_default(),
        usage: body.take("usage").map(|raw| Usage::parse(raw.as_str())).unwrap_or_default(),
        ..Answer::default()
    })
}

/// Reads a block: its only member says its kind.
fn parts(mut block: Object<'_>) -> Vec<Part> {
    if let Some(text) = block.text("text") {
        return vec![Part::text(text)];
    }
    if let Some(call) = block.take("toolUse") {
        return vec![Part::of(Content::ToolUse(tool_use(call.object())))];
    }
    if let Some(thought) = block.take("reasoningContent") {
        return reasoning(thought.object()).map(Part::of).into_iter().collect();
    }
    // A text with its sources, which nobody else has words for.
    let cited = block.object("citationsContent").items("content").into_iter();
    cited.filter_map(|raw| raw.object().text("text").map(Part::text)).collect()
}

fn tool_use(mut call: Object<'_>) -> ToolUse {
    ToolUse {
        id: call.text("toolUseId").unwrap_or_default(),
        name: call.text("name").unwrap_or_default(),
        arguments: call.take("input").map(|raw| raw.as_str().to_owned()).unwrap_or_default(),
        seal: None,
    }
}

fn reasoning(mut content: Object<'_>) -> Option<Content> {
    if let Some(data) = content.text("redactedContent") {
        return Some(Content::RedactedThinking(redacted(&data)));
    }
    let mut thought = content.object("reasoningText");
    let text = thought.text("text")?;
    Some(Content::Thinking { text, seal: thought.text("signature").and_then(signature) })
}

fn redacted(data: &str) -> Seal {
    Seal { issuer: Issuer::Other, text: format!("{REDACTED}{data}"), id: None }
}

/// Of all models here only Claude signs.
fn signature(text: String) -> Option<Seal> {
    (!text.is_empty()).then_some(Seal { issuer: Issuer::Anthropic, text, id: None })
}

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Reader {}

impl Reader {
    /// Reads one event.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn event(&mut self, name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        let Some(raw) = Raw::parse(data) else { return };
        let mut event = raw.object();
        match name {
            b"messageStart" => {
                seen.push(Event::Start { id: String::new(), model: String::new(), created: None });
            }
            b"contentBlockStart" => {
                if let Some(call) = event.object("start").take("toolUse") {
                    let ToolUse { id, name, seal, .. } = tool_use(call.object());
                    seen.push(Event::ToolStart { id, name, seal });
                }
            }
            b"contentBlockDelta" => delta(event.object("delta"), seen),
            b"contentBlockStop" => seen.push(Event::PartEnd),
            b"messageStop" => {
                let reason = event.text("stopReason").map(|word| finish_of(&word)).unwrap_or_default();
                let mut fields = event.object("additionalModelResponseFields");
                seen.push(Event::Finish { reason, stop_sequence: fields.text("stop_sequence") });
            }
            b"metadata" => {
                let usage = event.take("usage").map(|raw| Usage::parse(raw.as_str()));
                seen.extend(usage.map(Event::Usage));
                // Nothing comes after it; a stream without it ends with its bytes.
                seen.push(Event::End);
            }
            b"error" => seen.push(Event::Error(fault::class(raw))),
            _ => {}
        }
    }

    /// Takes the end of the stream; nothing is held.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(super) fn finish(&mut self, _seen: &mut Vec<Event>) {}
}

fn delta(mut delta: Object<'_>, seen: &mut Vec<Event>) {
    seen.extend(delta.text("text").map(Event::TextDelta));
    if let Some(call) = delta.take("toolUse") {
        seen.extend(call.object().text("input").map(Event::ToolArguments));
    }
    if let Some(thought) = delta.take("reasoningContent") {
        let mut thought = thought.object();
        if let Some(data) = thought.text("redactedContent") {
            seen.push(Event::RedactedThinking(redacted(&data)));
            return;
        }
        seen.extend(thought.text("text").map(Event::ThinkingDelta));
        seen.extend(thought.text("signature").and_then(signature).map(Event::SignatureDelta));
    }
}
