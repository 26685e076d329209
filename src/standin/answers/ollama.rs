//! Ollama's own chat.
//!
//! Source: Ollama API reference, "Generate a chat completion". A line a piece; the last has `done` and
//! the counts. Calls of tools come whole, their arguments as an object, and without an id.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Stream, Words, message_of, tokens};
use crate::standin::reply::Refusal;

const CREATED: &str = "2023-11-14T22:13:20Z";

fn call(name: &str, arguments: &str) -> Value {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    json!([{"function": {"name": name, "arguments": arguments}}])
}

fn document(words: &Words<'_>, message: &Value, is_last: bool) -> Value {
    let mut document =
        json!({"model": words.model, "created_at": CREATED, "message": message, "done": is_last});
    if is_last {
        document["done_reason"] = words.finish_reason.unwrap_or("stop").into();
        document["total_duration"] = 1_000_000.into();
        document["prompt_eval_count"] = words.input_tokens.into();
        document["eval_count"] = words.output_tokens.into();
    }
    document
}

pub(super) fn message(words: &Words<'_>) -> String {
    let mut message = json!({"role": "assistant", "content": words.text});
    if let Some((name, arguments)) = words.tool {
        message["tool_calls"] = call(name, arguments);
    }
    document(words, &message, true).to_string()
}

fn line(document: &Value) -> Bytes {
    Bytes::from(format!("{document}\n"))
}

pub(super) fn message_stream(words: &Words<'_>) -> Stream {
    let piece = |message: Value| line(&document(words, &message, false));
    let tool = words.tool.map(|(name, arguments)| {
        piece(json!({"role": "assistant", "content": "", "tool_calls": call(name, arguments)}))
    });
    Stream {
        opening: Vec::new(),
        tokens: tokens(words.text)
            .map(|token| piece(json!({"role": "assistant", "content": token})))
            .collect(),
        closing: tool.into_iter().collect(),
        end_marker: Some(line(&document(words, &json!({"role": "assistant", "content": ""}), true))),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    json!({"error": refusal.message.as_deref().unwrap_or_else(|| message_of(refusal.status))}).to_string()
}

pub(super) fn error_event(refusal: &Refusal) -> Bytes {
    Bytes::from(self::refusal(refusal) + "\n")
}
