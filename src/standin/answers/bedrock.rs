//! Bedrock converse and converse-stream.
//!
//! Source: Amazon Bedrock API reference, "Converse" and "ConverseStream"; the event stream encoding of
//! Amazon Transcribe's documentation. Frames are written here byte by byte, so that the proxy's reader
//! is not tested with the library that it reads by. The usage comes last, behind the stop reason;
//! `p` is padding.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Crc;
use serde_json::{Value, json};

use super::{Stream, Words, message_of, tokens};
use crate::standin::reply::Refusal;

/// Writes one frame: lengths, checksum, headers (type 7 is a text), payload, checksum.
fn frame(headers: &[(&str, &str)], payload: &Value) -> Bytes {
    let payload = payload.to_string();
    let mut named = BytesMut::new();
    for (name, value) in headers {
        named.put_u8(u8::try_from(name.len()).unwrap_or(0));
        named.put_slice(name.as_bytes());
        named.put_u8(7);
        named.put_u16(u16::try_from(value.len()).unwrap_or(0));
        named.put_slice(value.as_bytes());
    }
    let length = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut frame = BytesMut::new();
    frame.put_u32(length(16 + named.len() + payload.len()));
    frame.put_u32(length(named.len()));
    frame.put_u32(checksum(&frame));
    frame.put_slice(&named);
    frame.put_slice(payload.as_bytes());
    frame.put_u32(checksum(&frame));
    frame.freeze()
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn event(name: &str, mut payload: Value) -> Bytes {
    payload["p"] = "abcdefgh".into();
    let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, &payload)
}

fn stop_reason<'a>(words: &Words<'a>) -> &'a str {
    words.finish_reason.unwrap_or(if words.tool.is_some() { "tool_use" } else { "end_turn" })
}

fn usage(words: &Words<'_>) -> Value {
    let (input, output) = (words.input_tokens, words.output_tokens);
    json!({"inputTokens": input, "outputTokens": output, "totalTokens": input.saturating_add(output)})
}

pub(super) fn message(words: &Words<'_>) -> String {
    let mut content = vec![json!({"text": words.text})];
    if let Some((name, input)) = words.tool {
        let input: Value = serde_json::from_str(input).unwrap_or_default();
        let id = format!("tooluse_{}", words.number);
        content.push(json!({"toolUse": {"toolUseId": id, "name": name, "input": input}}));
    }
    json!({
        "metrics": {"latencyMs": 12},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": stop_reason(words),
        "usage": usage(words),
    })
    .to_string()
}

pub(super) fn message_stream(words: &Words<'_>) -> Stream {
    let delta =
        |delta: Value, at: u8| event("contentBlockDelta", json!({"contentBlockIndex": at, "delta": delta}));
    let mut closing = vec![event("contentBlockStop", json!({"contentBlockIndex": 0}))];
    if let Some((name, input)) = words.tool {
        let start = json!({"toolUse": {"toolUseId": format!("tooluse_{}", words.number), "name": name}});
        let (first, rest) = input.split_at(input.len() / 2);
        closing.extend([
            event("contentBlockStart", json!({"contentBlockIndex": 1, "start": start})),
            delta(json!({"toolUse": {"input": first}}), 1),
            delta(json!({"toolUse": {"input": rest}}), 1),
            event("contentBlockStop", json!({"contentBlockIndex": 1})),
        ]);
    }
    closing.push(event("messageStop", json!({"stopReason": stop_reason(words)})));
    Stream {
        opening: vec![event("messageStart", json!({"role": "assistant"}))],
        tokens: tokens(words.text).map(|token| delta(json!({"text": token}), 0)).collect(),
        closing,
        end_marker: Some(event("metadata", json!({"metrics": {"latencyMs": 12}, "usage": usage(words)}))),
    }
}

/// Returns the name of the exception that goes with a status.
pub(super) fn exception(refusal: &Refusal) -> &str {
    refusal.kind.as_deref().or(refusal.code.as_deref()).unwrap_or(match refusal.status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 | 529 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    })
}

fn message_in(refusal: &Refusal) -> Value {
    json!({"message": refusal.message.as_deref().unwrap_or_else(|| message_of(refusal.status))})
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    message_in(refusal).to_string()
}

pub(super) fn error_event(refusal: &Refusal) -> Bytes {
    let name = exception(refusal);
    // In a stream it is spelt with a small letter.
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let name: String = first.into_iter().chain(letters).collect();
    let headers =
        [(":exception-type", &*name), (":content-type", "application/json"), (":message-type", "exception")];
    frame(&headers, &message_in(refusal))
}
