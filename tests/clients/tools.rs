//! How does a provider call a tool?
//!
//! The same call as events of a stream in the two dialects that cut arguments into pieces: `weather`
//! with a city whose name splits between two of them; in the others as the stand-in says it. Sources: the API references of OpenAI (chat completion chunk, `tool_calls`)
//! and Anthropic (`input_json_delta`).

use pointsman::standin::Reply;
use serde_json::{Value, json};

use crate::roster::Speech;

const PIECES: [&str; 2] = ["{\"city\": \"Mála", "ga\"}"];
/// Name of the tool.
pub const NAME: &str = "weather";

/// Returns a reply that calls the tool, in pieces where the dialect has them.
pub fn reply(speech: Speech) -> Reply {
    match speech {
        Speech::Chat => Reply::events(chat()),
        Speech::Messages => Reply::events(messages()),
        Speech::Responses | Speech::Gemini => call(),
    }
}

/// Returns a reply that calls the tool in whichever dialect it is asked.
pub fn call() -> Reply {
    Reply::ok().calls(NAME, &PIECES.concat())
}

fn chat() -> Vec<String> {
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "m", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let call = json!({"index": 0, "id": "call_1", "type": "function",
        "function": {"name": NAME, "arguments": ""}});
    let opening = chunk(json!({"role": "assistant", "content": null, "tool_calls": [call]}), None);
    let pieces = PIECES
        .map(|piece| json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        .map(|delta| chunk(delta, None));
    let mut events = vec![opening];
    events.extend(pieces);
    events.extend([chunk(json!({}), Some("tool_calls")), "data: [DONE]\n\n".to_owned()]);
    events
}

fn messages() -> Vec<String> {
    let event =
        |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default());
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 9, "output_tokens": 1}});
    let block = json!({"type": "tool_use", "id": "call_1", "name": NAME, "input": {}});
    let mut events = vec![
        event(json!({"type": "message_start", "message": message})),
        event(json!({"type": "content_block_start", "index": 0, "content_block": block})),
    ];
    events.extend(PIECES.map(|piece| {
        let delta = json!({"type": "input_json_delta", "partial_json": piece});
        event(json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    }));
    let end = json!({"stop_reason": "tool_use", "stop_sequence": null});
    events.extend([
        event(json!({"type": "content_block_stop", "index": 0})),
        event(json!({"type": "message_delta", "delta": end, "usage": {"output_tokens": 12}})),
        event(json!({"type": "message_stop"})),
    ]);
    events
}
