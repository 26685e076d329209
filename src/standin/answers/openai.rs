//! The four OpenAI calls: chat completions, completions, embeddings, responses.
//!
//! Source: OpenAI API reference (objects "chat completion chunk", "response", streaming events).
//! With `stream_options.include_usage` every chunk has `"usage":null` and one more chunk with
//! empty `choices` carries the numbers, as the API does it. Responses have no `[DONE]`.

use bytes::Bytes;

use super::{Stream, Words, event, message_of, quoted, tokens};
use crate::standin::reply::Refusal;

const CREATED: u64 = 1_700_000_000;
/// 0.25, -0.5, 0.75, 1.0 as little-endian f32 in base64, which the SDK asks for by default.
const VECTOR_BASE64: &str = "\"AACAPgAAAL8AAEA/AACAPw==\"";
const VECTOR_FLOATS: &str = "[0.25,-0.5,0.75,1.0]";

fn usage(words: &Words<'_>) -> String {
    let (input, output) = (words.input_tokens, words.output_tokens);
    format!(
        "{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}}",
        input.saturating_add(output)
    )
}

fn finish_reason<'a>(words: &Words<'a>) -> &'a str {
    words.finish_reason.unwrap_or(if words.tool.is_some() { "tool_calls" } else { "stop" })
}

/// A call of a tool, as it stands in a message; in a stream its place is told.
fn tool_call(words: &Words<'_>, name: &str, arguments: &str, place: &str) -> String {
    format!(
        "[{{{place}\"id\":\"call_{}\",\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}}}]",
        words.number,
        quoted(name),
        quoted(arguments),
    )
}

pub(super) fn chat(words: &Words<'_>) -> String {
    let tools = words.tool.map_or_else(String::new, |(name, arguments)| {
        format!(",\"tool_calls\":{}", tool_call(words, name, arguments, ""))
    });
    format!(
        "{{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion\",\"created\":{CREATED},\"model\":{},\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":{},\"refusal\":null{tools}}},\"logprobs\":null,\"finish_reason\":{}}}],\"usage\":{},\"system_fingerprint\":\"fp_standin\"}}",
        words.number,
        quoted(&words.model),
        quoted(words.text),
        quoted(finish_reason(words)),
        usage(words),
    )
}

pub(super) fn chat_stream(words: &Words<'_>) -> Stream {
    let head = format!(
        "{{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":{CREATED},\"model\":{},\"system_fingerprint\":\"fp_standin\",\"choices\":[",
        words.number,
        quoted(&words.model),
    );
    let tail = if words.ask.wants_usage { "],\"usage\":null}" } else { "]}" };
    let chunk = |delta: &str, finish: &str| {
        event(
            None,
            &format!(
                "{head}{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}{tail}"
            ),
        )
    };
    let mut closing = Vec::new();
    if let Some((name, arguments)) = words.tool {
        let (first, rest) = arguments.split_at(arguments.len() / 2);
        let call = tool_call(words, name, first, "\"index\":0,");
        closing.push(chunk(&format!("{{\"tool_calls\":{call}}}"), "null"));
        let rest = quoted(rest);
        let more = format!("{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{rest}}}}}]}}");
        closing.push(chunk(&more, "null"));
    }
    closing.push(chunk("{}", &quoted(finish_reason(words))));
    if words.ask.wants_usage {
        closing.push(event(None, &format!("{head}],\"usage\":{}}}", usage(words))));
    }
    Stream {
        opening: vec![chunk("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null")],
        tokens: tokens(words.text)
            .map(|token| chunk(&format!("{{\"content\":{}}}", quoted(token)), "null"))
            .collect(),
        closing,
        end_marker: Some(Bytes::from_static(b"data: [DONE]\n\n")),
    }
}

pub(super) fn completion(words: &Words<'_>) -> String {
    format!(
        "{{\"id\":\"cmpl-{}\",\"object\":\"text_completion\",\"created\":{CREATED},\"model\":{},\"choices\":[{{\"text\":{},\"index\":0,\"logprobs\":null,\"finish_reason\":{}}}],\"usage\":{}}}",
        words.number,
        quoted(&words.model),
        quoted(words.text),
        quoted(finish_reason(words)),
        usage(words),
    )
}

pub(super) fn completion_stream(words: &Words<'_>) -> Stream {
    let head = format!(
        "{{\"id\":\"cmpl-{}\",\"object\":\"text_completion\",\"created\":{CREATED},\"model\":{},\"choices\":[",
        words.number,
        quoted(&words.model),
    );
    let chunk = |text: &str, finish: &str| {
        event(
            None,
            &format!(
                "{head}{{\"text\":{},\"index\":0,\"logprobs\":null,\"finish_reason\":{finish}}}]}}",
                quoted(text)
            ),
        )
    };
    let mut closing = vec![chunk("", &quoted(finish_reason(words)))];
    if words.ask.wants_usage {
        closing.push(event(None, &format!("{head}],\"usage\":{}}}", usage(words))));
    }
    Stream {
        opening: Vec::new(),
        tokens: tokens(words.text).map(|token| chunk(token, "null")).collect(),
        closing,
        end_marker: Some(Bytes::from_static(b"data: [DONE]\n\n")),
    }
}

pub(super) fn embeddings(words: &Words<'_>) -> String {
    let vector = if words.ask.wants_base64 { VECTOR_BASE64 } else { VECTOR_FLOATS };
    let data: Vec<String> = (0..words.ask.inputs)
        .map(|index| format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":{vector}}}"))
        .collect();
    format!(
        "{{\"object\":\"list\",\"data\":[{}],\"model\":{},\"usage\":{{\"prompt_tokens\":{input},\"total_tokens\":{input}}}}}",
        data.join(","),
        quoted(&words.model),
        input = words.input_tokens,
    )
}

/// A message of a response, as it stands in `output` and in the events around its text.
fn message_item(words: &Words<'_>, status: &str, content: &str) -> String {
    format!(
        "{{\"id\":\"msg_{}\",\"type\":\"message\",\"status\":\"{status}\",\"role\":\"assistant\",\"content\":[{content}]}}",
        words.number
    )
}

/// A call of a tool, as it stands in `output` and in the events around its arguments.
fn call_item(words: &Words<'_>, status: &str) -> Option<String> {
    let (name, arguments) = words.tool?;
    let arguments = if status == "completed" { arguments } else { "" };
    Some(format!(
        "{{\"id\":\"fc_{0}\",\"type\":\"function_call\",\"status\":\"{status}\",\"call_id\":\"call_{0}\",\"name\":{1},\"arguments\":{2}}}",
        words.number,
        quoted(name),
        quoted(arguments),
    ))
}

fn text_part(text: &str) -> String {
    format!("{{\"type\":\"output_text\",\"text\":{},\"annotations\":[],\"logprobs\":[]}}", quoted(text))
}

/// A response object; `status` is `in_progress` (no output yet) or `completed`.
pub(super) fn response(words: &Words<'_>, status: &str) -> String {
    let (output, usage) = if status == "completed" {
        let (input, output) = (words.input_tokens, words.output_tokens);
        let usage = format!(
            "{{\"input_tokens\":{input},\"input_tokens_details\":{{\"cached_tokens\":0}},\"output_tokens\":{output},\"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":{}}}",
            input.saturating_add(output)
        );
        let call = call_item(words, "completed").map_or_else(String::new, |item| format!(",{item}"));
        (message_item(words, "completed", &text_part(words.text)) + &call, usage)
    } else {
        (String::new(), "null".to_owned())
    };
    format!(
        "{{\"id\":\"resp_{}\",\"object\":\"response\",\"created_at\":{CREATED},\"status\":\"{status}\",\"error\":null,\"incomplete_details\":null,\"instructions\":null,\"max_output_tokens\":null,\"model\":{},\"output\":[{output}],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"reasoning\":{{\"effort\":null,\"summary\":null}},\"store\":false,\"temperature\":1.0,\"text\":{{\"format\":{{\"type\":\"text\"}}}},\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,\"truncation\":\"disabled\",\"usage\":{usage},\"user\":null,\"metadata\":{{}}}}",
        words.number,
        quoted(&words.model),
    )
}

pub(super) fn response_stream(words: &Words<'_>) -> Stream {
    let mut position = 0_usize;
    let mut numbered = |name: &str, rest: &str| {
        let data = format!("{{\"type\":\"{name}\",\"sequence_number\":{position},{rest}}}");
        position += 1;
        event(Some(name), &data)
    };
    let place = format!("\"item_id\":\"msg_{}\",\"output_index\":0,\"content_index\":0", words.number);
    let under_way = format!("\"response\":{}", response(words, "in_progress"));
    let opening = vec![
        numbered("response.created", &under_way),
        numbered("response.in_progress", &under_way),
        numbered(
            "response.output_item.added",
            &format!("\"output_index\":0,\"item\":{}", message_item(words, "in_progress", "")),
        ),
        numbered("response.content_part.added", &format!("{place},\"part\":{}", text_part(""))),
    ];
    let tokens = tokens(words.text)
        .map(|token| {
            let delta = format!("{place},\"delta\":{},\"logprobs\":[]", quoted(token));
            numbered("response.output_text.delta", &delta)
        })
        .collect();
    let part = text_part(words.text);
    let mut closing = vec![
        numbered(
            "response.output_text.done",
            &format!("{place},\"text\":{},\"logprobs\":[]", quoted(words.text)),
        ),
        numbered("response.content_part.done", &format!("{place},\"part\":{part}")),
        numbered(
            "response.output_item.done",
            &format!("\"output_index\":0,\"item\":{}", message_item(words, "completed", &part)),
        ),
    ];
    if let Some((_, arguments)) = words.tool {
        let item =
            |status| format!("\"output_index\":1,\"item\":{}", call_item(words, status).unwrap_or_default());
        let place = format!("\"item_id\":\"fc_{}\",\"output_index\":1", words.number);
        closing.push(numbered("response.output_item.added", &item("in_progress")));
        let (first, rest) = arguments.split_at(arguments.len() / 2);
        for piece in [first, rest] {
            let delta = format!("{place},\"delta\":{}", quoted(piece));
            closing.push(numbered("response.function_call_arguments.delta", &delta));
        }
        let done = format!("{place},\"arguments\":{}", quoted(arguments));
        closing.push(numbered("response.function_call_arguments.done", &done));
        closing.push(numbered("response.output_item.done", &item("completed")));
    }
    let completed = format!("\"response\":{}", response(words, "completed"));
    let end_marker = Some(numbered("response.completed", &completed));
    Stream { opening, tokens, closing, end_marker }
}

/// `error.type` and `error.code` that go with a status.
fn kind_and_code(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("permission_error", None),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        529 => ("server_error", Some("overloaded")),
        400..=499 => ("invalid_request_error", None),
        _ => ("server_error", None),
    }
}

fn parts_of(refusal: &Refusal) -> (String, String, String) {
    let (kind, code) = kind_and_code(refusal.status);
    let code = refusal.code.as_deref().or(code);
    (
        quoted(refusal.kind.as_deref().unwrap_or(kind)),
        code.map_or_else(|| "null".to_owned(), quoted),
        quoted(refusal.message.as_deref().unwrap_or_else(|| message_of(refusal.status))),
    )
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    let (kind, code, message) = parts_of(refusal);
    format!("{{\"error\":{{\"message\":{message},\"type\":{kind},\"param\":null,\"code\":{code}}}}}")
}

pub(super) fn response_error_event(refusal: &Refusal, position: usize) -> Bytes {
    let (kind, code, message) = parts_of(refusal);
    // The code is what names the fault here; an error without one shows its type instead.
    let code = if code == "null" { kind } else { code };
    event(
        Some("error"),
        &format!(
            "{{\"type\":\"error\",\"sequence_number\":{position},\"code\":{code},\"message\":{message},\"param\":null}}"
        ),
    )
}
