//! Gemini generateContent.
//!
//! Source: Google "Gemini API" reference, GenerateContentResponse. Events are framed with CRLF,
//! each is a whole response with cumulative usage, and there is no end marker: the end is the end
//! of the body after a `finishReason`.

use bytes::Bytes;

use super::{Stream, Words, message_of, quoted, tokens};
use crate::standin::reply::Refusal;

fn response(words: &Words<'_>, text: &str, finish_reason: Option<&str>) -> String {
    let finish = finish_reason.map(|reason| format!(",\"finishReason\":{}", quoted(reason)));
    let (input, output) = (words.input_tokens, words.output_tokens);
    format!(
        "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":{}}}],\"role\":\"model\"}}{},\"index\":0}}],\"usageMetadata\":{{\"promptTokenCount\":{input},\"candidatesTokenCount\":{output},\"totalTokenCount\":{}}},\"modelVersion\":{},\"responseId\":\"r{}\"}}",
        quoted(text),
        finish.unwrap_or_default(),
        input.saturating_add(output),
        quoted(&words.model),
        words.number,
    )
}

pub(super) fn content(words: &Words<'_>) -> String {
    response(words, words.text, Some(words.finish_reason.unwrap_or("STOP")))
}

pub(super) fn content_stream(words: &Words<'_>) -> Stream {
    let framed = |data: String| Bytes::from(format!("data: {data}\r\n\r\n"));
    Stream {
        opening: Vec::new(),
        tokens: tokens(words.text).map(|token| framed(response(words, token, None))).collect(),
        closing: vec![framed(response(words, "", Some(words.finish_reason.unwrap_or("STOP"))))],
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
