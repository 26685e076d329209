//! Anthropic messages.
//!
//! Source: Anthropic API reference, "Streaming messages" (order of events; a ping may come
//! anywhere) and "Errors". Input tokens stand in `message_start`, output tokens in
//! `message_delta`; there is no `[DONE]`, the end is `message_stop`.

use super::{Stream, Words, event, message_of, quoted, tokens};
use crate::standin::reply::Refusal;

fn finish_reason<'a>(words: &Words<'a>) -> &'a str {
    words.finish_reason.unwrap_or(if words.tool.is_some() { "tool_use" } else { "end_turn" })
}

fn envelope(words: &Words<'_>, content: &str, stop_reason: &str, output_tokens: u64) -> String {
    format!(
        "{{\"id\":\"msg_{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[{content}],\"stop_reason\":{stop_reason},\"stop_sequence\":null,\"usage\":{{\"input_tokens\":{},\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":{output_tokens}}}}}",
        words.number,
        quoted(&words.model),
        words.input_tokens,
    )
}

fn tool_use(words: &Words<'_>, name: &str, input: &str) -> String {
    let name = quoted(name);
    format!("{{\"type\":\"tool_use\",\"id\":\"toolu_{}\",\"name\":{name},\"input\":{input}}}", words.number)
}

pub(super) fn message(words: &Words<'_>) -> String {
    let mut content = format!("{{\"type\":\"text\",\"text\":{}}}", quoted(words.text));
    if let Some((name, arguments)) = words.tool {
        content.push(',');
        content += &tool_use(words, name, arguments);
    }
    envelope(words, &content, &quoted(finish_reason(words)), words.output_tokens)
}

pub(super) fn message_stream(words: &Words<'_>) -> Stream {
    let named = |name: &str, rest: &str| event(Some(name), &format!("{{\"type\":\"{name}\"{rest}}}"));
    let start = envelope(words, "", "null", 1);
    let mut closing = vec![named("content_block_stop", ",\"index\":0")];
    if let Some((name, arguments)) = words.tool {
        let block = tool_use(words, name, "{}");
        closing.push(named("content_block_start", &format!(",\"index\":1,\"content_block\":{block}")));
        let (first, rest) = arguments.split_at(arguments.len() / 2);
        for piece in [first, rest] {
            let piece = quoted(piece);
            let delta = format!("{{\"type\":\"input_json_delta\",\"partial_json\":{piece}}}");
            closing.push(named("content_block_delta", &format!(",\"index\":1,\"delta\":{delta}")));
        }
        closing.push(named("content_block_stop", ",\"index\":1"));
    }
    closing.push(named(
        "message_delta",
        &format!(
            ",\"delta\":{{\"stop_reason\":{},\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{}}}",
            quoted(finish_reason(words)),
            words.output_tokens
        ),
    ));
    Stream {
        opening: vec![
            named("message_start", &format!(",\"message\":{start}")),
            named("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
            named("ping", ""),
        ],
        tokens: tokens(words.text)
            .map(|token| {
                let delta =
                    format!(",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":{}}}", quoted(token));
                named("content_block_delta", &delta)
            })
            .collect(),
        closing,
        end_marker: Some(named("message_stop", "")),
    }
}

fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

pub(super) fn refusal(refusal: &Refusal, number: u64) -> String {
    // The dialect has no code; a test that sets only one still wants to see it.
    let kind = refusal.kind.as_deref().or(refusal.code.as_deref());
    let kind = kind.unwrap_or_else(|| kind_of(refusal.status));
    let message = refusal.message.as_deref().unwrap_or_else(|| message_of(refusal.status));
    format!(
        "{{\"type\":\"error\",\"error\":{{\"type\":{},\"message\":{}}},\"request_id\":\"req_{number}\"}}",
        quoted(kind),
        quoted(message),
    )
}
