//! Whole answers of messages.

use super::super::chat::call_id;
use super::super::form::{Answer, Content, Part, Usage};
use super::super::read::Object;
use super::super::{AnswerContext, Untranslatable, seal, write};
use super::{OWN, write_input};

/// Reads an answer.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let content = body.take("content").filter(|raw| raw.is_array());
    let content = content.ok_or(Untranslatable::Member("content"))?;
    Ok(Answer {
        id: body.text("id").unwrap_or_default(),
        model: body.text("model").unwrap_or_default(),
        created: None,
        parts: super::content(content)?,
        finish: body.text("stop_reason").map(|word| super::finish_of(&word)).unwrap_or_default(),
        stop_sequence: body.text("stop_sequence"),
        usage: body.take("usage").map(|raw| Usage::parse(raw.as_str())).unwrap_or_default(),
        logprobs: None,
    })
}

/// Writes an answer.
pub(in super::super) fn write(answer: &Answer, context: &AnswerContext<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    write::object(&mut body, |o| {
        if answer.id.is_empty() {
            o.text("id", &format!("msg_{}", context.request_id));
        } else {
            o.text("id", &answer.id);
        }
        o.text("type", "message");
        o.text("role", "assistant");
        o.text("model", &answer.model);
        o.array("content", |array| {
            let mut calls = 0;
            for part in &answer.parts {
                write_block(array, part, &mut calls, context);
            }
        });
        let refuses = answer.parts.iter().any(|part| matches!(part.content, Content::Refusal(_)));
        o.text("stop_reason", super::finish_word(answer.finish.refused_if(refuses)));
        match &answer.stop_sequence {
            Some(text) => o.text("stop_sequence", text),
            None => o.null("stop_sequence"),
        }
        o.object("usage", |o| write_usage(o, &answer.usage));
    });
    body
}

fn write_block(array: &mut write::Array<'_>, part: &Part, calls: &mut usize, context: &AnswerContext<'_>) {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => array.object(|o| {
            o.text("type", "text");
            o.text("text", text);
        }),
        Content::Thinking { text, seal } => {
            if context.shows_thoughts || seal.as_ref().is_some_and(super::is_own) {
                array.object(|o| {
                    o.text("type", "thinking");
                    o.text("thinking", text);
                    o.text("signature", &seal.as_ref().map(seal::to_signature).unwrap_or_default());
                });
            }
        }
        Content::RedactedThinking(seal) => {
            if context.shows_thoughts || super::is_own(seal) {
                array.object(|o| {
                    o.text("type", "redacted_thinking");
                    o.text("data", &seal::to_signature(seal));
                });
            }
        }
        Content::ToolUse(call) => {
            let id = call_id(&call.id, context.request_id, *calls);
            *calls += 1;
            array.object(|o| {
                o.text("type", "tool_use");
                o.text("id", &id);
                o.text("name", &call.name);
                write_input(o, call);
            });
        }
        Content::Foreign { owner, json } if *owner == OWN => array.json(json),
        Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::ToolResult(_)
        | Content::Foreign { .. } => {}
    }
}

/// Writes usage; Anthropic counts cached tokens beside the input.
pub(super) fn write_usage(o: &mut write::Object<'_>, usage: &Usage) {
    let (cached, written) = (usage.cached.unwrap_or(0), usage.cache_written.unwrap_or(0));
    let input = usage.input.unwrap_or(0).saturating_sub(cached.saturating_add(written));
    o.count("input_tokens", input);
    o.count_if("cache_creation_input_tokens", usage.cache_written);
    o.count_if("cache_read_input_tokens", usage.cached);
    o.count("output_tokens", usage.output.unwrap_or(0));
    if let Some(reasoning) = usage.reasoning {
        o.object("output_tokens_details", |o| o.count("thinking_tokens", reasoning));
    }
}
