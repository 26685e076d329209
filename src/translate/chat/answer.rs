//! Whole answers of chat completions.

use super::super::form::{Answer, Content, Finish, Part, Usage};
use super::super::read::{Object, Raw};
use super::super::write;
use super::super::{AnswerContext, Untranslatable, ids};

/// Reads an answer. Several choices are one answer in pieces: we never ask for more than one, and
/// Copilot puts text into one choice and tool calls into the next.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let choices = body.take("choices").filter(|raw| raw.is_array());
    let choices = choices.ok_or(Untranslatable::Member("choices"))?.items();
    let mut answer = Answer {
        id: body.text("id").unwrap_or_default(),
        model: body.text("model").unwrap_or_default(),
        created: body.count("created"),
        usage: body.take("usage").map(|raw| Usage::parse(raw.as_str())).unwrap_or_default(),
        ..Answer::default()
    };
    for choice in choices {
        let mut choice = choice.object();
        // A server that was asked for a whole answer and sends a chunk (seen at one).
        let message = choice.take("message").or_else(|| choice.take("delta"));
        answer.parts.extend(message.map(message_parts).unwrap_or_default());
        let finish = choice.text("finish_reason").and_then(|word| super::finish_of(&word));
        if let Some(finish) = finish.filter(|_| answer.finish != Finish::ToolUse) {
            answer.finish = finish;
        }
        answer.logprobs = answer.logprobs.or_else(|| choice.take("logprobs").map(Raw::json));
    }
    Ok(answer)
}

fn message_parts(raw: Raw<'_>) -> Vec<Part> {
    let mut message = raw.object();
    let mut parts: Vec<Part> = super::take_thoughts(&mut message).into_iter().map(Part::of).collect();
    parts.extend(message.take("content").map(super::content).unwrap_or_default());
    let refusal = message.text("refusal").filter(|text| !text.is_empty());
    parts.extend(refusal.map(|text| Part::of(Content::Refusal(text))));
    let calls = message.items("tool_calls").into_iter().filter_map(|raw| super::tool_use(raw.object()));
    let old = message.take("function_call").and_then(|raw| super::tool_use(raw.object()));
    parts.extend(calls.chain(old).map(|call| Part::of(Content::ToolUse(call))));
    parts
}

/// Writes an answer.
pub(in super::super) fn write(answer: &Answer, context: &AnswerContext<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    write::object(&mut body, |o| {
        if answer.id.is_empty() {
            o.text("id", &format!("chatcmpl-{}", context.request_id));
        } else {
            o.text("id", &answer.id);
        }
        o.text("object", "chat.completion");
        o.count("created", answer.created.unwrap_or(context.now));
        o.text("model", &answer.model);
        o.array("choices", |array| {
            array.object(|o| {
                o.count("index", 0);
                o.object("message", |o| write_message(o, answer, context));
                match &answer.logprobs {
                    Some(logprobs) => o.json("logprobs", logprobs),
                    None => o.null("logprobs"),
                }
                o.text("finish_reason", super::finish_word(answer.finish));
            });
        });
        o.object("usage", |o| write_usage(o, &answer.usage));
    });
    body
}

fn write_message(o: &mut write::Object<'_>, answer: &Answer, context: &AnswerContext<'_>) {
    let (mut text, mut refusal, mut thoughts) = (String::new(), String::new(), String::new());
    let (mut thinking, mut calls) = (Vec::new(), Vec::new());
    for part in &answer.parts {
        match &part.content {
            Content::Text(more) => text.push_str(more),
            Content::Refusal(more) => refusal.push_str(more),
            Content::Thinking { text: more, .. } => {
                thoughts.push_str(more);
                thinking.push(&part.content);
            }
            Content::RedactedThinking(_) => thinking.push(&part.content),
            Content::ToolUse(call) => calls.push(call),
            Content::Image { .. }
            | Content::Document { .. }
            | Content::Audio { .. }
            | Content::ToolResult(_)
            | Content::Foreign { .. } => {}
        }
    }
    o.text("role", "assistant");
    if text.is_empty() && (!calls.is_empty() || !refusal.is_empty()) {
        o.null("content");
    } else {
        o.text("content", &text);
    }
    if refusal.is_empty() {
        o.null("refusal");
    } else {
        o.text("refusal", &refusal);
    }
    if !thoughts.is_empty() {
        o.text("reasoning_content", &thoughts);
    }
    super::write_details(o, &thinking);
    if !calls.is_empty() {
        o.array("tool_calls", |array| {
            for (nth, call) in calls.iter().enumerate() {
                array.object(|o| {
                    let id = call_id(&call.id, context.request_id, nth);
                    super::write_call(o, &id, call, call.seal.as_ref());
                });
            }
        });
    }
}

/// Returns the id that a client sees for the `nth` call.
pub(in super::super) fn call_id(id: &str, request_id: &str, nth: usize) -> String {
    if id.is_empty() { ids::made(request_id, nth) } else { ids::safe(id).into_owned() }
}

pub(super) fn write_usage(o: &mut write::Object<'_>, usage: &Usage) {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    o.count("prompt_tokens", input);
    o.count("completion_tokens", output);
    o.count("total_tokens", input.saturating_add(output));
    if usage.cached.is_some() || usage.cache_written.is_some() {
        o.object("prompt_tokens_details", |o| {
            o.count("cached_tokens", usage.cached.unwrap_or(0));
            o.count_if("cache_write_tokens", usage.cache_written);
        });
    }
    if let Some(reasoning) = usage.reasoning {
        o.object("completion_tokens_details", |o| o.count("reasoning_tokens", reasoning));
    }
}
