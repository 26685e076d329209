//! The four dialects that clients speak: how each asks, and what it heard.
//!
//! A client of any of them asks for the same: a text, perhaps with a tool at hand. What it heard is
//! read by a reader of this file's own, so that one assertion serves all.

use pointsman::standin::caller::{Answer, Call};
use serde_json::{Value, json};

/// The tool that every client offers where it offers one.
pub const TOOL: &str = "look";
/// What it is called with.
pub const ARGUMENTS: &str = "{\"at\":\"sea\",\"far\":true}";

/// A dialect that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Chat,
    Responses,
    Messages,
    Gemini,
}

pub const CLIENTS: [Client; 4] = [Client::Chat, Client::Responses, Client::Messages, Client::Gemini];

/// What a client heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    pub text: String,
    /// Names and arguments.
    pub calls: Vec<(String, Value)>,
    /// Why the answer ended: `stop`, `tools` or `length`; empty where it did not say.
    pub finish: &'static str,
    /// Input and output tokens.
    pub usage: Option<(u64, u64)>,
    /// Whether the dialect's own end came.
    pub has_ended: bool,
}

impl Client {
    /// Asks `route`, with a tool or without.
    pub fn ask(self, route: &str, is_stream: bool, has_tools: bool) -> Call {
        let schema =
            json!({"type": "object", "properties": {"at": {"type": "string"}, "far": {"type": "boolean"}}});
        let say = "Please look at the sea.";
        let (path, mut body) = match self {
            Client::Chat => (
                "/v1/chat/completions".to_owned(),
                json!({"model": route, "messages": [{"role": "user", "content": say}]}),
            ),
            Client::Responses => {
                ("/v1/responses".to_owned(), json!({"model": route, "input": say, "store": false}))
            }
            Client::Messages => (
                "/v1/messages".to_owned(),
                json!({"model": route, "max_tokens": 99, "messages": [{"role": "user", "content": say}]}),
            ),
            Client::Gemini => {
                let verb = if is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                (
                    format!("/v1beta/models/{route}:{verb}"),
                    json!({"contents": [{"role": "user", "parts": [{"text": say}]}]}),
                )
            }
        };
        if is_stream && self != Client::Gemini {
            body["stream"] = true.into();
        }
        if is_stream && self == Client::Chat {
            body["stream_options"] = json!({"include_usage": true});
        }
        if has_tools {
            body["tools"] = match self {
                Client::Chat => {
                    json!([{"type": "function", "function": {"name": TOOL, "parameters": schema}}])
                }
                Client::Responses => json!([{"type": "function", "name": TOOL, "parameters": schema}]),
                Client::Messages => json!([{"name": TOOL, "input_schema": schema}]),
                Client::Gemini => json!([{"functionDeclarations": [{"name": TOOL, "parameters": schema}]}]),
            };
        }
        Call::json(&path, &body)
    }

    /// Reads an answer.
    pub fn hear(self, answer: &Answer) -> Heard {
        if !answer.is_stream() {
            let heard = self.whole(&answer.json());
            return Heard { has_ended: !heard.finish.is_empty(), ..heard };
        }
        let mut heard = Heard::default();
        let mut open: Vec<(String, String)> = Vec::new();
        for event in &answer.events {
            if event.data == "[DONE]" {
                heard.has_ended = self == Client::Chat;
                continue;
            }
            let Ok(data) = serde_json::from_str::<Value>(&event.data) else { continue };
            match self {
                Client::Chat => chat_event(&data, &mut heard, &mut open),
                Client::Responses => self.response_event(&data, &mut heard),
                Client::Messages => message_event(&data, &mut heard, &mut open),
                Client::Gemini => {
                    let more = self.whole(&data);
                    heard.text += &more.text;
                    heard.calls.extend(more.calls);
                    heard.usage = more.usage.or(heard.usage);
                    heard.has_ended |= !more.finish.is_empty();
                    heard.finish = if more.finish.is_empty() { heard.finish } else { more.finish };
                }
            }
        }
        heard.calls.extend(open.into_iter().map(|(name, text)| (name, arguments(&text))));
        heard
    }

    /// Reads a whole answer.
    fn whole(self, body: &Value) -> Heard {
        let mut heard = Heard::default();
        match self {
            Client::Chat => {
                let choice = &body["choices"][0];
                heard.text += words(&choice["message"]["content"]);
                for call in list(&choice["message"]["tool_calls"]) {
                    let function = &call["function"];
                    heard.calls.push((
                        words(&function["name"]).to_owned(),
                        arguments(words(&function["arguments"])),
                    ));
                }
                heard.finish = finish(words(&choice["finish_reason"]));
                heard.usage = usage(body, "/usage/prompt_tokens", "/usage/completion_tokens");
            }
            Client::Responses => {
                for item in list(&body["output"]) {
                    if item["type"] == "function_call" {
                        heard
                            .calls
                            .push((words(&item["name"]).to_owned(), arguments(words(&item["arguments"]))));
                    }
                    heard.text.extend(list(&item["content"]).iter().map(|part| words(&part["text"])));
                }
                let is_whole = body["status"] == "completed";
                heard.finish = match (is_whole, heard.calls.is_empty()) {
                    (true, true) => "stop",
                    (true, false) => "tools",
                    (false, _) => "",
                };
                heard.usage = usage(body, "/usage/input_tokens", "/usage/output_tokens");
            }
            Client::Messages => {
                for block in list(&body["content"]) {
                    heard.text += words(&block["text"]);
                    if block["type"] == "tool_use" {
                        heard.calls.push((words(&block["name"]).to_owned(), block["input"].clone()));
                    }
                }
                heard.finish = finish(words(&body["stop_reason"]));
                heard.usage = usage(body, "/usage/input_tokens", "/usage/output_tokens");
            }
            Client::Gemini => {
                let candidate = &body["candidates"][0];
                for part in list(&candidate["content"]["parts"]) {
                    heard.text += words(&part["text"]);
                    if let Some(call) = part.get("functionCall") {
                        heard.calls.push((words(&call["name"]).to_owned(), call["args"].clone()));
                    }
                }
                heard.finish = finish(words(&candidate["finishReason"]));
                heard.usage =
                    usage(body, "/usageMetadata/promptTokenCount", "/usageMetadata/candidatesTokenCount");
            }
        }
        heard
    }

    fn response_event(self, data: &Value, heard: &mut Heard) {
        match words(&data["type"]) {
            "response.output_text.delta" => heard.text += words(&data["delta"]),
            "response.completed" => {
                let whole = self.whole(&data["response"]);
                assert_eq!(whole.text, heard.text, "the deltas and the whole say the same");
                *heard = Heard { has_ended: true, ..whole };
            }
            _ => {}
        }
    }
}

fn chat_event(data: &Value, heard: &mut Heard, open: &mut Vec<(String, String)>) {
    let choice = &data["choices"][0];
    heard.text += words(&choice["delta"]["content"]);
    for call in list(&choice["delta"]["tool_calls"]) {
        let function = &call["function"];
        if function["name"].is_string() {
            open.push((words(&function["name"]).to_owned(), String::new()));
        }
        open.last_mut().unwrap().1.push_str(words(&function["arguments"]));
    }
    if choice["finish_reason"].is_string() {
        heard.finish = finish(words(&choice["finish_reason"]));
    }
    heard.usage = usage(data, "/usage/prompt_tokens", "/usage/completion_tokens").or(heard.usage);
}

fn message_event(data: &Value, heard: &mut Heard, open: &mut Vec<(String, String)>) {
    match words(&data["type"]) {
        "message_start" => {
            heard.usage = usage(data, "/message/usage/input_tokens", "/message/usage/output_tokens");
        }
        "content_block_start" if data["content_block"]["type"] == "tool_use" => {
            open.push((words(&data["content_block"]["name"]).to_owned(), String::new()));
        }
        "content_block_delta" => {
            heard.text += words(&data["delta"]["text"]);
            if data["delta"]["type"] == "input_json_delta" {
                open.last_mut().unwrap().1.push_str(words(&data["delta"]["partial_json"]));
            }
        }
        "message_delta" => {
            heard.finish = finish(words(&data["delta"]["stop_reason"]));
            let said = &data["usage"];
            let before = heard.usage.unwrap_or_default();
            let count = |name: &str, before: u64| said[name].as_u64().unwrap_or(before);
            heard.usage = Some((count("input_tokens", before.0), count("output_tokens", before.1)));
        }
        "message_stop" => heard.has_ended = true,
        _ => {}
    }
}

fn finish(word: &str) -> &'static str {
    match word {
        // Gemini says STOP of calls of tools as well.
        "stop" | "end_turn" | "STOP" => "stop",
        "tool_calls" | "tool_use" => "tools",
        "length" | "max_tokens" | "MAX_TOKENS" => "length",
        "" => "",
        other => panic!("an unknown finish: {other}"),
    }
}

fn usage(body: &Value, input: &str, output: &str) -> Option<(u64, u64)> {
    let count = |path: &str| body.pointer(path).and_then(Value::as_u64);
    Some((count(input)?, count(output)?))
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn arguments(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("arguments {text:?}: {why}"))
}
