//! Whole answers of responses.

use super::super::chat::call_id;
use super::super::form::{Answer, Content, Finish, Issuer, Part, Seal, Usage};
use super::super::read::Object;
use super::super::{AnswerContext, Untranslatable, ids, seal, write};
use super::{finish_of, incomplete_word, said, write_reasoning, write_text};

/// Reads an answer.
pub(in super::super) fn read(mut body: Object<'_>) -> Result<Answer, Untranslatable> {
    let output = body.take("output").filter(|raw| raw.is_array());
    let output = output.ok_or(Untranslatable::Member("output"))?;
    let mut parts = Vec::new();
    for item in output.objects() {
        parts.extend(said(item)?);
    }
    Ok(Answer {
        id: body.text("id").unwrap_or_default(),
        model: body.text("model").unwrap_or_default(),
        created: body.count("created_at"),
        parts,
        finish: finish_of(&mut body),
        stop_sequence: None,
        usage: body.take("usage").map(|raw| Usage::parse(raw.as_str())).unwrap_or_default(),
        logprobs: None,
    })
}

/// Writes an answer.
pub(in super::super) fn write(answer: &Answer, context: &AnswerContext<'_>) -> Vec<u8> {
    let (mut items, mut calls, mut nth) = (Vec::new(), 0, 0);
    for part in &answer.parts {
        let before = items.len();
        if before > 0 {
            items.push(b',');
        }
        let id = ItemId { request_id: context.request_id, nth };
        if write_part(&mut items, part, &id, &mut calls, context) {
            nth += 1;
        } else {
            items.truncate(before);
        }
    }
    let head = Head {
        id: &answer.id,
        model: &answer.model,
        created: answer.created.unwrap_or(context.now),
        request_id: context.request_id,
    };
    let mut body = Vec::new();
    write::object(&mut body, |o| {
        write_response(o, &head, Some(answer.finish), &items, Some(&answer.usage));
    });
    body
}

/// What a response says of itself at its beginning and at its end.
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) created: u64,
    pub(super) request_id: &'a str,
}

/// Writes a response; without a finish it is in progress. SDKs with strict types want every member
/// that the reference calls required.
pub(super) fn write_response(
    o: &mut write::Object<'_>,
    head: &Head<'_>,
    finish: Option<Finish>,
    items: &[u8],
    usage: Option<&Usage>,
) {
    let incomplete = finish.and_then(incomplete_word);
    let status = match (finish, incomplete) {
        (None, _) => "in_progress",
        (Some(_), Some(_)) => "incomplete",
        (Some(_), None) => "completed",
    };
    if head.id.is_empty() {
        o.text("id", &format!("resp_{}", head.request_id));
    } else {
        o.text("id", head.id);
    }
    o.text("object", "response");
    o.count("created_at", head.created);
    o.text("status", status);
    o.null("error");
    match incomplete {
        Some(reason) => o.object("incomplete_details", |o| o.text("reason", reason)),
        None => o.null("incomplete_details"),
    }
    o.null("instructions");
    o.object("metadata", |_| {});
    o.text("model", head.model);
    let items = std::str::from_utf8(items).unwrap_or_default();
    o.raw("output", &format!("[{items}]"));
    o.flag("parallel_tool_calls", true);
    o.null("previous_response_id");
    o.flag("store", false);
    o.null("temperature");
    o.text("tool_choice", "auto");
    o.array("tools", |_| {});
    o.null("top_p");
    match usage {
        Some(usage) => o.object("usage", |o| write_usage(o, usage)),
        None => o.null("usage"),
    }
}

/// Makes ids of items, which no other dialect has.
pub(super) struct ItemId<'a> {
    pub(super) request_id: &'a str,
    pub(super) nth: u64,
}

impl ItemId<'_> {
    pub(super) fn made(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", ids::safe(self.request_id), self.nth)
    }

    /// Returns the id of thoughts: OpenAI's own where it gave one.
    pub(super) fn of_thoughts(&self, seal: Option<&Seal>) -> String {
        let own = seal.filter(|seal| seal.issuer == Issuer::OpenAi).and_then(|seal| seal.id.clone());
        own.unwrap_or_else(|| self.made("rs"))
    }
}

/// Writes a part as an item; tells whether there was anything to write.
fn write_part(
    out: &mut Vec<u8>,
    part: &Part,
    id: &ItemId<'_>,
    calls: &mut usize,
    context: &AnswerContext<'_>,
) -> bool {
    match &part.content {
        Content::Thinking { .. } | Content::RedactedThinking(_) if !context.shows_thoughts => return false,
        Content::Text(text) => write::object(out, |o| write_message(o, &id.made("msg"), "output_text", text)),
        Content::Refusal(text) => write::object(out, |o| write_message(o, &id.made("msg"), "refusal", text)),
        Content::Thinking { text, seal } => write::object(out, |o| {
            let sealed = seal.as_ref().map(|seal| seal::carried(seal, Issuer::OpenAi));
            write_reasoning(o, Some(&id.of_thoughts(seal.as_ref())), text, sealed.as_deref());
        }),
        Content::RedactedThinking(seal) => write::object(out, |o| {
            let sealed = seal::carried(seal, Issuer::OpenAi);
            write_reasoning(o, Some(&id.of_thoughts(Some(seal))), "", Some(&sealed));
        }),
        Content::ToolUse(call) => {
            let call_id = call_id(&call.id, context.request_id, *calls);
            *calls += 1;
            let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
            write::object(out, |o| {
                write_call(o, &id.made("fc"), &call_id, &call.name, "completed", arguments);
            });
        }
        Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::ToolResult(_)
        | Content::Foreign { .. } => return false,
    }
    true
}

/// Writes a whole message of one part.
pub(super) fn write_message(o: &mut write::Object<'_>, id: &str, kind: &str, text: &str) {
    o.text("id", id);
    o.text("type", "message");
    o.text("status", "completed");
    o.text("role", "assistant");
    o.array("content", |array| array.object(|o| write_content(o, kind, text)));
}

/// Writes a part of a message.
pub(super) fn write_content(o: &mut write::Object<'_>, kind: &str, text: &str) {
    write_text(o, kind, text);
    if kind == "output_text" {
        o.array("annotations", |_| {});
    }
}

/// Writes a call.
pub(super) fn write_call(
    o: &mut write::Object<'_>,
    id: &str,
    call_id: &str,
    name: &str,
    status: &str,
    arguments: &str,
) {
    o.text("id", id);
    o.text("type", "function_call");
    o.text("status", status);
    o.text("call_id", call_id);
    o.text("name", name);
    o.text("arguments", arguments);
}

fn write_usage(o: &mut write::Object<'_>, usage: &Usage) {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    o.count("input_tokens", input);
    o.object("input_tokens_details", |o| {
        o.count("cached_tokens", usage.cached.unwrap_or(0));
        o.count("cache_write_tokens", usage.cache_written.unwrap_or(0));
    });
    o.count("output_tokens", output);
    o.object("output_tokens_details", |o| o.count("reasoning_tokens", usage.reasoning.unwrap_or(0)));
    o.count("total_tokens", input.saturating_add(output));
}
