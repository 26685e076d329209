//! Gemini generateContent.
//!
//! Source: Google "Gemini API" reference, GenerateContentResponse. Events are framed with CRLF,
//! each is a whole response with cumulative usage, and there is no end marker: the end is the end
//! of the body after a `finishReason`.

use bytes::Bytes;

use super::{Stream, Words, message_of, quoted, tokens};
use crate::standin::reply::Refusal;

fn text_part(text: &str) -> String {
    format!("{{\"text\":{}}}", quoted(text))
}

/// Calls come whole, also in a stream.
fn call_part(words: &Words<'_>) -> Option<String> {
    let (name, arguments) = words.tool?;
    Some(format!("{{\"functionCall\":{{\"name\":{},\"args\":{arguments}}}}}", quoted(name)))
}

fn response(words: &Words<'_>, parts: &str, finish_reason: Option<&str>) -> String {
    let finish = finish_reason.map(|reason| format!(",\"finishReason\":{}", quoted(reason)));
    let (input, output) = (words.input_tokens, words.output_tokens);
    format!(
        "{{\"candidates\":[{{\"content\":{{\"parts\":[{parts}],\"role\":\"model\"}}{},\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":{input},\"candidatesTokenCount\":{output},\"totalTokenCount\":{}}},\"modelVersion\":{},\"responseId\":\"r{}\"}}",
        finish.unwrap_or_default(),
        input.saturating_add(output),
        quoted(&words.model),
        words.number,
    )
}

pub(super) fn content(words: &Words<'_>) -> String {
    let parts: Vec<String> = [text_part(words.text)].into_iter().chain(call_part(words)).collect();
    response(words, &parts.join(","), Some(words.finish_reason.unwrap_or("STOP")))
}

pub(super) fn content_stream(words: &Words<'_>) -> Stream {
    let framed = |data: String| Bytes::from(format!("data: {data}\r\n\r\n"));
    let last = call_part(words).unwrap_or_else(|| text_part(""));
    Stream {
        opening: Vec::new(),
        tokens: tokens(words.text).map(|token| framed(response(words, &text_part(token), None))).collect(),
        closing: vec![framed(response(words, &last, Some(words.finish_reason.unwrap_or("STOP"))))],
        end_marker: None,
    }
}

fn status_word(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    format!(
        "{{\"error\":{{\"code\":{},\"message\":{},\"status\":{}}}}}",
        refusal.status,
        quoted(refusal.message.as_deref().unwrap_or_else(|| message_of(refusal.status))),
        quoted(refusal.kind.as_deref().unwrap_or_else(|| status_word(refusal.status))),
    )
}
