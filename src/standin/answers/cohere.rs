//! Cohere chat, version 2.
//!
//! Source: Cohere API reference, "Chat (v2)" and its streamed events. `message-end` has the finish
//! reason and the usage, and `[DONE]` follows.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Stream, Words, event, message_of, tokens};
use crate::standin::reply::Refusal;

fn finish_reason<'a>(words: &Words<'a>) -> &'a str {
    words.finish_reason.unwrap_or(if words.tool.is_some() { "TOOL_CALL" } else { "COMPLETE" })
}

fn usage(words: &Words<'_>) -> Value {
    let tokens = json!({"input_tokens": words.input_tokens, "output_tokens": words.output_tokens});
    json!({"billed_units": tokens, "tokens": tokens})
}

fn call(words: &Words<'_>, name: &str, arguments: &str) -> Value {
    let id = format!("{name}_{}", words.number);
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

pub(super) fn message(words: &Words<'_>) -> String {
    let mut message = json!({"role": "assistant", "content": [{"type": "text", "text": words.text}]});
    if let Some((name, arguments)) = words.tool {
        message["tool_calls"] = json!([call(words, name, arguments)]);
    }
    let id = format!("co-{}", words.number);
    json!({"id": id, "finish_reason": finish_reason(words), "message": message, "usage": usage(words)})
        .to_string()
}

fn named(kind: &str, mut data: Value) -> Bytes {
    data["type"] = kind.into();
    event(Some(kind), &data.to_string())
}

pub(super) fn message_stream(words: &Words<'_>) -> Stream {
    let content = |text: &str| json!({"message": {"content": {"text": text}}});
    let start = json!({"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}});
    let block = json!({"message": {"content": {"type": "text", "text": ""}}});
    let mut closing = vec![named("content-end", json!({"index": 0}))];
    if let Some((name, arguments)) = words.tool {
        let (first, rest) = arguments.split_at(arguments.len() / 2);
        let calls = |calls: Value| json!({"index": 0, "delta": {"message": {"tool_calls": calls}}});
        closing.extend([
            named("tool-call-start", calls(call(words, name, ""))),
            named("tool-call-delta", calls(json!({"function": {"arguments": first}}))),
            named("tool-call-delta", calls(json!({"function": {"arguments": rest}}))),
            named("tool-call-end", json!({"index": 0})),
        ]);
    }
    let end = json!({"finish_reason": finish_reason(words), "usage": usage(words)});
    closing.push(named("message-end", json!({"delta": end})));
    Stream {
        opening: vec![
            named("message-start", json!({"id": format!("co-{}", words.number), "delta": start})),
            named("content-start", json!({"index": 0, "delta": block})),
        ],
        tokens: tokens(words.text)
            .map(|token| named("content-delta", json!({"index": 0, "delta": content(token)})))
            .collect(),
        closing,
        end_marker: Some(Bytes::from_static(b"data: [DONE]\n\n")),
    }
}

fn words_of(refusal: &Refusal) -> &str {
    refusal.message.as_deref().unwrap_or_else(|| message_of(refusal.status))
}

pub(super) fn refusal(refusal: &Refusal, number: u64) -> String {
    json!({"id": format!("co-{number}"), "message": words_of(refusal)}).to_string()
}

pub(super) fn error_event(refusal: &Refusal) -> Bytes {
    named("message-end", json!({"delta": {"finish_reason": "ERROR", "error": words_of(refusal)}}))
}
