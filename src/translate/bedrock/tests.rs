//! What Converse wants beside what the golden files have, and what must hold of the dialects that
//! only providers speak.

#![cfg(feature = "bedrock")]

use super::super::form::{
    CacheMark, Content, Effort, Function, Json, OutputFormat, Part, Request, Role, Thinking, ThinkingLevel,
    Tool, ToolChoice, ToolResult, ToolUse, Turn,
};
use super::super::loss::{Loss, Losses};
use super::super::tests::common;
use super::super::{
    AnswerContext, Asked, RequestContext, State, Stream, ThinkingRule, answer, is_pair, write_request,
};
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::wire::cut::tests as frames;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

const CHAT: Dialect = Dialect::OpenAiChat;
const OWN: Dialect = Dialect::BedrockConverse;
const PROVIDERS: [Dialect; 4] = [OWN, Dialect::CohereChat, Dialect::OllamaChat, Dialect::GenerateBridge];
const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";

fn said(request: &Request, model: &str) -> (Value, Losses) {
    let translated = write_request(request, CHAT, OWN, &RequestContext::new(model)).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.lost)
}

fn ask() -> Request {
    Request { turns: vec![Turn::new(Role::User, vec![Part::text("x")])], ..Request::default() }
}

fn function(name: &str) -> Tool {
    Tool::Function(Function { name: name.to_owned(), ..Function::default() })
}

fn tool_round() -> [Turn; 2] {
    let call = ToolUse { id: "a".to_owned(), name: "f".to_owned(), arguments: String::new(), seal: None };
    let result = ToolResult { id: "a".to_owned(), name: None, parts: vec![Part::text("1")], is_error: true };
    [
        Turn::new(Role::Assistant, vec![Part::of(Content::ToolUse(call))]),
        Turn::new(Role::Tool, vec![Part::of(Content::ToolResult(result))]),
    ]
}

#[test]
fn claude_thinks_here_by_anthropics_rules() {
    let level = Some(ThinkingLevel::Enabled { budget: Some(20_000) });
    let mut on = ask();
    on.thinking = Thinking { level, ..Thinking::default() };
    on.max_tokens = Some(500);
    on.sampling.top_k = Some(5.into());
    let (body, lost) = said(&on, CLAUDE);
    let thinking = json!({ "type": "enabled", "budget_tokens": 20_000 });
    assert_eq!(body["additionalModelRequestFields"], json!({ "thinking": thinking }));
    assert_eq!(body["inferenceConfig"], json!({ "maxTokens": 24_096 }));
    assert!(lost.has(Loss::TopK));
    let (body, lost) = said(&on, "meta.llama3-1-8b-instruct-v1:0");
    assert_eq!(body.get("additionalModelRequestFields"), None);
    assert!(lost.has(Loss::Thinking) && lost.has(Loss::TopK));
    let mut forced = on.clone();
    forced.tools = vec![function("f")];
    forced.tool_choice = Some(ToolChoice::Named("f".to_owned()));
    let (body, lost) = said(&forced, CLAUDE);
    assert_eq!(body["toolConfig"]["toolChoice"], json!({ "tool": { "name": "f" } }));
    assert_eq!(body["additionalModelRequestFields"], json!({ "top_k": 5 }));
    assert!(lost.has(Loss::Thinking));
    let mut words = ask();
    words.thinking = Thinking { effort: Some(Effort::Max), ..Thinking::default() };
    let (body, _) = said(&words, "openai.gpt-oss-120b-1:0");
    assert_eq!(body["additionalModelRequestFields"], json!({ "reasoning_effort": "high" }));
    let (body, lost) = said(&on, "eu.anthropic.claude-opus-4-7-v1:0");
    assert_eq!(
        body["additionalModelRequestFields"],
        json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": "high" } })
    );
    assert_eq!(
        (&body["inferenceConfig"], lost.to_string()),
        (&json!({ "maxTokens": 500 }), "top_k".to_owned())
    );
    let off = RequestContext { thinking: ThinkingRule::Off, ..RequestContext::new(CLAUDE) };
    let translated = write_request(&on, CHAT, OWN, &off).unwrap();
    assert!(!String::from_utf8(translated.body).unwrap().contains("thinking"));
}

#[test]
fn caches_are_marked_where_the_model_knows_marks() {
    let mut request = ask();
    request.turns.insert(0, Turn::new(Role::System, vec![Part::text("s")]));
    let point = json!({ "cachePoint": { "type": "default" } });
    assert_eq!(said(&request, CLAUDE).0["system"], json!([{ "text": "s" }, point]));
    for model in ["anthropic.claude-3-haiku-20240307-v1:0", "amazon.nova-lite-v1:0", "mistral.x"] {
        assert_eq!(said(&request, model).0["system"], json!([{ "text": "s" }]), "{model}");
    }
    request.turns[1].parts[0].cache = Some(CacheMark { ttl: Some("1h".to_owned()) });
    let (body, lost) = said(&request, CLAUDE);
    assert_eq!(body["system"], json!([{ "text": "s" }]), "the client marks itself");
    let point = json!({ "cachePoint": { "type": "default", "ttl": "1h" } });
    assert_eq!(body["messages"][0]["content"], json!([{ "text": "x" }, point]));
    assert!(lost.is_empty());
    assert!(said(&request, "mistral.x").1.has(Loss::CacheMark));
}

#[test]
fn a_history_with_calls_always_has_tools_beside_it() {
    let mut request = ask();
    request.turns.extend(tool_round());
    let (body, lost) = said(&request, CLAUDE);
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    assert_eq!(body["messages"][2]["content"][0]["toolResult"]["status"], "error");
    assert!(lost.is_empty(), "{lost:?}");
    request.tools = vec![function("g")];
    request.tool_choice = Some(ToolChoice::None);
    let (body, lost) = said(&request, CLAUDE);
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "g");
    assert!(lost.has(Loss::ToolChoice) && body["toolConfig"].get("toolChoice").is_none());
    let mut fresh = ask();
    (fresh.tools, fresh.tool_choice) = (vec![function("g")], Some(ToolChoice::None));
    let (body, lost) = said(&fresh, CLAUDE);
    assert!(body.get("toolConfig").is_none() && lost.is_empty(), "without tools none is called");
    fresh.tool_choice = Some(ToolChoice::Required);
    assert_eq!(said(&fresh, CLAUDE).0["toolConfig"]["toolChoice"], json!({ "any": {} }));
    let (body, lost) = said(&fresh, "meta.llama3-1-8b-instruct-v1:0");
    assert!(body["toolConfig"].get("toolChoice").is_none() && lost.has(Loss::ToolChoice));
    fresh.output = OutputFormat::JsonObject;
    assert!(said(&fresh, CLAUDE).1.has(Loss::OutputFormat));
}

/// Held against each other these names would take minutes.
#[test]
fn tools_that_were_called_are_offered_once_however_many_they_are() {
    const MANY: usize = 150_000;
    let call = |n: usize| {
        let (id, name) = (format!("c{n}"), format!("f{}", n % (MANY - 1)));
        Part::of(Content::ToolUse(ToolUse { id, name, arguments: String::new(), seal: None }))
    };
    let mut request = ask();
    request.turns.push(Turn::new(Role::Assistant, (0..MANY).map(call).collect()));
    let body = write_request(&request, CHAT, OWN, &RequestContext::new(CLAUDE)).unwrap().body;
    assert_eq!(memchr::memmem::find_iter(&body, b"\"toolSpec\"").count(), MANY - 1);
}

#[test]
fn thoughts_that_cannot_be_read_come_back_to_bedrock_unchanged() {
    let body = r#"{"output":{"message":{"content":[{"reasoningContent":{"redactedContent":"c2Vj"}},{"reasoningContent":{"reasoningText":{"text":"t","signature":"Er="}}},{"text":"a"}]}},"stopReason":"end_turn"}"#;
    let asked = Asked::default();
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
    let seen = answer(OWN, Dialect::AnthropicMessages, body.as_bytes(), &context).unwrap();
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    let turn = json!({ "role": "assistant", "content": seen["content"] });
    let asks = json!({ "role": "user", "content": "x" });
    let request = json!({ "max_tokens": 1, "messages": [asks, turn, asks] }).to_string();
    let from = Dialect::AnthropicMessages;
    let context = RequestContext::new(CLAUDE);
    let back = super::super::request(from, OWN, request.as_bytes(), &context).unwrap();
    let back: Value = serde_json::from_slice(&back.body).unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(back["messages"][1]["content"], body["output"]["message"]["content"]);
    let elsewhere = super::super::request(from, OWN, request.as_bytes(), &RequestContext::new("mistral.x"));
    assert!(elsewhere.unwrap().lost.has(Loss::ThinkingHistory));
}

fn told(from: Dialect, chunks: &[&[u8]]) -> (String, State) {
    let asked = Asked { model: "m".to_owned(), ..Asked::default() };
    let context =
        AnswerContext { asked: &asked, request_id: "r", now: 7, shows_thoughts: false, signs_calls: false };
    let (mut stream, mut out) = (Stream::new(from, CHAT, &context).unwrap(), Vec::new());
    for chunk in chunks {
        stream.feed(&Bytes::copy_from_slice(chunk), &mut out);
    }
    let state = stream.finish(&mut out);
    (String::from_utf8(out).unwrap(), state)
}

#[test]
fn an_exception_or_a_broken_frame_ends_a_stream_as_a_fault() {
    let text = frames::event("contentBlockDelta", r#"{"delta":{"text":"a"}}"#);
    let stop = frames::event("messageStop", r#"{"stopReason":"end_turn"}"#);
    let exception = [(":message-type", "exception"), (":exception-type", "throttlingException")];
    let thrown = frames::made(&exception, r#"{"message":"secret"}"#);
    let mut broken = stop.clone();
    *broken.last_mut().unwrap() ^= 1;
    for (chunks, want) in [
        (vec![&text, &stop], State::Ended),
        (vec![&text], State::Open),
        (vec![&text, &thrown, &stop], State::Failed(Outcome::RateLimited)),
        (vec![&text, &broken, &stop], State::Failed(Outcome::BadBody)),
    ] {
        let chunks: Vec<&[u8]> = chunks.into_iter().map(Vec::as_slice).collect();
        let (out, state) = told(OWN, &chunks);
        assert_eq!(state, want);
        assert_eq!(out.contains("[DONE]"), want == State::Ended);
        assert!(out.contains("\"a\"") && !out.contains("secret"));
    }
}

proptest! {
    #[test]
    fn what_is_written_for_a_provider_is_json_with_every_loss_named(request in common()) {
        for to in PROVIDERS {
            for model in [CLAUDE, "amazon.nova-pro-v1:0", "m"] {
                let context = RequestContext::new(model);
                let translated = write_request(&request, CHAT, to, &context).unwrap();
                // Numbers beyond a double stay: no tree can be made of them.
                let all = String::from_utf8(translated.body).unwrap();
                prop_assert!(Json::new(&all).is_some(), "{to:?} {all}");
                for part in request.turns.iter().flat_map(|turn| &turn.parts) {
                    if let Content::Text(text) = &part.content {
                        let escaped = Value::from(text.as_str()).to_string();
                        prop_assert!(all.contains(escaped.trim_matches('"')), "{to:?} {text:?} {all}");
                    }
                }
                let has_images =
                    request.turns.iter().flat_map(|t| &t.parts).any(|p| matches!(p.content, Content::Image { .. }));
                let is_bridge = to == Dialect::GenerateBridge;
                prop_assert!(!is_bridge || !has_images || translated.lost.has(Loss::Image));
                prop_assert!(!is_bridge || request.tools.is_empty() || translated.lost.has(Loss::Tools));
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        name in "(messageStart|contentBlockStart|contentBlockDelta|messageStop|metadata|error|x)",
        body in "\\{\"(delta|message|output|start|usage|stopReason|type|error|done|response|choices)\":[\\[\\]{}\":,a-z0-9]{0,40}\\}?",
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let asked = Asked::default();
        let context = AnswerContext { asked: &asked, request_id: "r", now: 0, shows_thoughts: true, signs_calls: false };
        for from in PROVIDERS {
            prop_assert!(is_pair(CHAT, from));
            let _ = answer(from, CHAT, body.as_bytes(), &context);
            let event = format!("event: {name}\ndata: {body}\n\n");
            told(from, &[&frames::event(&name, &body), &bytes]);
            told(from, &[event.as_bytes(), body.as_bytes(), b"\n", &bytes]);
        }
    }
}
