//! Whole answers of Gemini.

use super::super::chat::call_id;
use super::super::form::{Answer, Content, Finish, Part, Source, Usage};
use super::super::read::{Object, Raw};
use super::super::{AnswerContext, Untranslatable, write};
use super::{
    call_seal, finish_of, finish_word, parts, take, take_object, take_text, thought_seal, write_call,
    write_thought,
};

/// Reads an answer: its first candidate. A prompt that was blocked has none.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let candidates = body.take("candidates").filter(|raw| raw.is_array());
    let blocked = blocked(&mut body);
    if candidates.is_none() && blocked.is_none() {
        return Err(Untranslatable::Member("candidates"));
    }
    let first = candidates.and_then(|raw| raw.items().into_iter().next());
    let mut candidate = first.map(Raw::object).unwrap_or_default();
    let finish = take_text(&mut candidate, "finishReason").and_then(|word| finish_of(&word));
    Ok(Answer {
        id: take_text(&mut body, "responseId").unwrap_or_default(),
        model: take_text(&mut body, "modelVersion").unwrap_or_default(),
        created: None,
        parts: parts(candidate.object("content").items("parts")),
        finish: finish.or(blocked).unwrap_or_default(),
        stop_sequence: None,
        usage: usage_of(&mut body).unwrap_or_default(),
        logprobs: None,
    })
}

/// Takes the word that a prompt was blocked.
pub(super) fn blocked(body: &mut Object<'_>) -> Option<Finish> {
    let reason = take_text(&mut take_object(body, "promptFeedback"), "blockReason")?;
    (!reason.is_empty() && reason != "BLOCK_REASON_UNSPECIFIED").then_some(Finish::ContentFilter)
}

pub(super) fn usage_of(body: &mut Object<'_>) -> Option<Usage> {
    take(body, "usageMetadata").filter(|raw| raw.is_object()).map(|raw| Usage::parse(raw.as_str()))
}

/// Writes an answer.
pub(in super::super) fn write(answer: &Answer, context: &AnswerContext<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    write::object(&mut body, |o| {
        o.array("candidates", |array| {
            array.object(|o| {
                o.object("content", |o| {
                    o.text("role", "model");
                    o.array("parts", |array| write_parts(array, &answer.parts, context));
                });
                let refuses = answer.parts.iter().any(|part| matches!(part.content, Content::Refusal(_)));
                o.text("finishReason", finish_word(answer.finish.refused_if(refuses)));
                o.count("index", 0);
            });
        });
        o.object("usageMetadata", |o| write_usage(o, &answer.usage));
        o.text("modelVersion", &answer.model);
        let made = format!("resp-{}", context.request_id);
        o.text("responseId", if answer.id.is_empty() { &made } else { &answer.id });
    });
    body
}

fn write_parts(array: &mut write::Array<'_>, parts: &[Part], context: &AnswerContext<'_>) {
    let mut calls = 0;
    for part in parts {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => array.object(|o| o.text("text", text)),
            Content::Thinking { text, seal } => array.object(|o| {
                write_thought(o, text, thought_seal(seal.as_ref(), context.shows_thoughts).as_deref());
            }),
            Content::RedactedThinking(seal) => {
                if let Some(signature) = thought_seal(Some(seal), context.shows_thoughts) {
                    array.object(|o| write_thought(o, "", Some(&signature)));
                }
            }
            Content::ToolUse(call) => {
                let id = call_id(&call.id, context.request_id, calls);
                let must_sign = context.signs_calls && calls == 0;
                let signature = call_seal(call.seal.as_ref(), context.shows_thoughts, must_sign);
                calls += 1;
                array.object(|o| {
                    write_call(o, &id, &call.name, &call.arguments);
                    o.text_if("thoughtSignature", signature.as_deref());
                });
            }
            Content::Image { source: Source::Base64 { media_type, data }, .. } => array.object(|o| {
                o.object("inlineData", |o| {
                    o.text("mimeType", media_type);
                    o.text("data", data);
                });
            }),
            Content::Image { .. }
            | Content::Document { .. }
            | Content::Audio { .. }
            | Content::ToolResult(_)
            | Content::Foreign { .. } => {}
        }
    }
}

/// Writes usage; Gemini counts thoughts beside the answer.
pub(super) fn write_usage(o: &mut write::Object<'_>, usage: &Usage) {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    o.count("promptTokenCount", input);
    o.count("candidatesTokenCount", output.saturating_sub(usage.reasoning.unwrap_or(0)));
    o.count("totalTokenCount", input.saturating_add(output));
    o.count_if("cachedContentTokenCount", usage.cached);
    o.count_if("thoughtsTokenCount", usage.reasoning);
}
