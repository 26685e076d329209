//! What a target is known to refuse is not said to it: by translation, by the operator's defaults, by the
//! second try without thinking.

use crate::scene::{FORGETFUL, KEY_ONE, KEY_TWO, provider};
use crate::stage::Stage;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply, Script, Seen};
use serde_json::{Value, json};

/// Two providers of these kinds, and routes among them.
async fn scene(one: (&str, Script), two: (&str, Script), routes: &str) -> (Stage, Provider, Provider) {
    let first = Provider::start(one.1).await.unwrap();
    let second = Provider::start(two.1).await.unwrap();
    let base = |kind: &str, provider: &Provider| {
        if kind == "anthropic" { provider.origin() } else { provider.base_url() }
    };
    let mut yaml = format!("{FORGETFUL}retry: {{same_target: 0}}\nproviders:\n");
    yaml += &provider("one", one.0, &base(one.0, &first), KEY_ONE, "");
    yaml += &provider("two", two.0, &base(two.0, &second), KEY_TWO, "");
    yaml += "routes:\n";
    yaml += routes;
    (Stage::open(&yaml).await, first, second)
}

async fn sent(stage: &Stage, path: &str, body: &Value) -> Answer {
    Call::json(path, body).send(stage.data).await.unwrap()
}

fn said() -> Value {
    json!([{"role": "user", "content": "Say something."}])
}

const BOTH: &str =
    "targets: [{provider: one, model: m, priority: 1}, {provider: two, model: m, priority: 2}]";

#[tokio::test]
async fn what_was_written_for_one_server_is_not_sent_to_another_with_a_model_of_that_name() {
    let routes = format!("  chat: {{{BOTH}}}\n  exact: {{translation: strict, {BOTH}}}\n");
    for (kind, strict_asks) in [("groq", 0), ("mistral", 0)] {
        let (lost, ok) = (Script::from(Reply::status(503)), Script::from(Reply::ok()));
        let (stage, one, two) = scene(("openrouter", lost), (kind, ok), &routes).await;
        let call = json!({"type": "tool_use", "id": "toolu_01", "name": "f", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "toolu_01", "content": "x"});
        let ask = |model: &str| {
            json!({"model": model, "max_tokens": 9, "top_k": 5, "stop_sequences": ["a", "b", "c", "d", "e"],
                "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [call]},
                    {"role": "user", "content": [result]}]})
        };
        let answer = sent(&stage, "/v1/messages", &ask("chat")).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body_text());
        let (first, second) = (one.last().unwrap().json(), two.last().unwrap().json());
        assert_eq!((first["top_k"].as_u64(), second.get("top_k")), (Some(5), None), "{kind}");
        assert_eq!(first["stop"].as_array().unwrap().len(), 5);
        let id = second["messages"][2]["tool_call_id"].as_str().unwrap();
        if kind == "groq" {
            assert_eq!((second["stop"].as_array().unwrap().len(), id), (4, "toolu_01"));
        } else {
            assert_eq!(id.len(), 9, "{id}");
            assert_eq!(second["messages"][1]["tool_calls"][0]["id"], id);
        }
        two.reset();
        let answer = sent(&stage, "/v1/messages", &ask("exact")).await;
        assert_eq!((answer.status, two.count()), (503, strict_asks), "{kind}: what it loses is its own");
    }
}

#[tokio::test]
async fn edits_that_clear_thoughts_go_with_the_thinking() {
    let missed = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.";
    let script = Script::of([Reply::status(400).message(missed), Reply::ok()]);
    let routes = "  chat: {targets: [{provider: one, model: opus}]}\n";
    let (stage, one, _two) = scene(("anthropic", script), ("openai", Reply::ok().into()), routes).await;
    let tools = json!({"type": "clear_tool_uses_20250919"});
    let ask = json!({"model": "chat", "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}, tools]},
        "messages": said()});
    let answer = sent(&stage, "/v1/messages", &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let bodies: Vec<Value> = one.seen().iter().map(Seen::json).collect();
    assert_eq!(bodies[0]["context_management"], ask["context_management"]);
    assert_eq!(bodies[1].get("thinking"), None);
    assert_eq!(bodies[1]["context_management"], json!({"edits": [tools]}));
}

#[tokio::test]
async fn a_claude_that_steers_itself_is_told_neither_how_to_draw_nor_how_long_to_think() {
    let routes =
        "  chat: {targets: [{provider: one, model: claude-opus-4-7}], defaults: {temperature: 0.3}}\n";
    let (stage, one, _two) =
        scene(("anthropic", Reply::ok().into()), ("openai", Reply::ok().into()), routes).await;
    let ask = json!({"model": "chat", "temperature": 0.2, "top_p": 0.5, "reasoning_effort": "high",
        "messages": said()});
    let answer = sent(&stage, "/v1/chat/completions", &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let body = one.last().unwrap().json();
    assert_eq!((body.get("temperature"), body.get("top_p")), (None, None), "{body}");
    assert_eq!(
        (&body["thinking"], &body["output_config"]),
        (&json!({"type": "adaptive"}), &json!({"effort": "high"}))
    );
    let own = json!({"model": "chat", "max_tokens": 9, "top_k": 3, "messages": said()});
    sent(&stage, "/v1/messages", &own).await;
    let body = one.last().unwrap().json();
    assert_eq!(
        (body.get("temperature"), &body["top_k"]),
        (None, &json!(3)),
        "what a client says itself is its own"
    );
}

#[tokio::test]
async fn a_default_that_the_target_or_the_request_excludes_is_skipped() {
    let routes = "  claude: {targets: [{provider: one, model: claude-sonnet-4-5}], defaults: {temperature: 0.3, seed: 7}}
  o3: {targets: [{provider: two, model: o3}], defaults: {temperature: 0.3, seed: 7}}\n";
    let (stage, one, two) =
        scene(("anthropic", Reply::ok().into()), ("openai", Reply::ok().into()), routes).await;
    let thinking = json!({"type": "enabled", "budget_tokens": 2000});
    let chat = "/v1/chat/completions";
    for (path, body, provider, temperature, seed) in [
        ("/v1/messages", json!({"model": "claude", "max_tokens": 4000}), &one, json!(0.3), Value::Null),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 4000, "thinking": thinking}),
            &one,
            Value::Null,
            Value::Null,
        ),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 9, "top_p": 0.5}),
            &one,
            Value::Null,
            Value::Null,
        ),
        (chat, json!({"model": "claude"}), &one, json!(0.3), Value::Null),
        (chat, json!({"model": "claude", "reasoning_effort": "high"}), &one, Value::Null, Value::Null),
        (chat, json!({"model": "o3"}), &two, Value::Null, json!(7)),
        (
            "/v1/messages",
            json!({"model": "o3", "max_tokens": 9, "temperature": 0.7}),
            &two,
            Value::Null,
            json!(7),
        ),
    ] {
        let mut body = body;
        body["messages"] = said();
        let answer = sent(&stage, path, &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body_text());
        let sent = provider.last().unwrap().json();
        assert_eq!((&sent["temperature"], &sent["seed"]), (&temperature, &seed), "{body}: {sent}");
    }
}

#[tokio::test]
async fn mistral_is_told_nothing_that_it_does_not_know() {
    let routes = "  small: {targets: [{provider: one, model: mistral-small-latest}]}
  large: {targets: [{provider: one, model: mistral-large-latest}]}\n";
    let (stage, one, _two) =
        scene(("mistral", Reply::ok().into()), ("openai", Reply::ok().into()), routes).await;
    let ask = |model: &str| {
        json!({"model": model, "max_tokens": 9, "stream": true, "metadata": {"user_id": "u"},
            "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "messages": said()})
    };
    for (model, effort) in [("small", json!("high")), ("large", Value::Null)] {
        let answer = sent(&stage, "/v1/messages", &ask(model)).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let body = one.last().unwrap().json();
        assert_eq!((body.get("user"), body.get("stream_options")), (None, None), "{body}");
        assert_eq!(
            body["reasoning_effort"],
            if effort.is_null() { Value::Null } else { json!("high") },
            "{body}"
        );
    }
    let seeded = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"seed": 4}});
    sent(&stage, "/v1beta/models/small:generateContent", &seeded).await;
    let body = one.last().unwrap().json();
    assert_eq!((body.get("seed"), &body["random_seed"]), (None, &json!(4)), "{body}");

    // It answers 422 where others say 400.
    let refusal = Reply::status(422).message("body.reasoning_effort: Extra inputs are not permitted");
    one.set_script(Script::of([refusal, Reply::ok()]));
    let mut plain = ask("small");
    plain["stream"] = json!(false);
    let answer = sent(&stage, "/v1/messages", &plain).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(answer.header("x-pointsman-trail"), Some("one/k:422,one/k:ok"));
    assert_eq!(one.last().unwrap().json().get("reasoning_effort"), None);
}

#[tokio::test]
async fn a_strict_route_refuses_what_only_the_clients_dialect_knows() {
    let routes = "  exact: {translation: strict, targets: [{provider: one, model: opus}]}\n";
    let (stage, one, _two) =
        scene(("anthropic", Reply::ok().into()), ("openai", Reply::ok().into()), routes).await;
    for (name, value, is_lost) in [
        ("service_tier", json!("flex"), true),
        ("service_tier", json!("auto"), false),
        ("prediction", json!({"type": "content", "content": "x"}), true),
        ("response_format", json!({"type": "grammar", "grammar": "x"}), true),
        ("response_format", json!({"type": "text"}), false),
    ] {
        let mut ask = json!({"model": "exact", "messages": said()});
        ask[name] = value.clone();
        let answer = sent(&stage, "/v1/chat/completions", &ask).await;
        let what = format!("{name} {value}: {}", answer.body_text());
        assert_eq!(answer.status, if is_lost { 400 } else { 200 }, "{what}");
        assert_eq!(answer.body_text().contains("would lose unknown_member"), is_lost, "{what}");
    }
    let ask =
        json!({"model": "exact", "input": "x", "store": false, "text": {"format": {"type": "grammar"}}});
    let answer = sent(&stage, "/v1/responses", &ask).await;
    assert_eq!(answer.status, 400, "{}", answer.body_text());
    assert_eq!(one.count(), 2);
}
