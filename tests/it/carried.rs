//! A client of one dialect is served by a target of another.
//!
//! `one` speaks OpenAI's dialect, `two` Anthropic's; route `chat` asks `one` first, `claude` asks
//! `two` first, `only-one` and `only-two` have one target each.

use crate::scene::{FORGETFUL, KEY_ONE, KEY_TWO, provider};
use crate::stage::Stage;
use pointsman::base::api::Dialect;
use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{GREETING, Provider, Reply, Script};
use pointsman::translate;
use serde_json::{Value, json};

const WORDS: &str = "the quick brown fox jumps over the lazy dog and runs away into the deep dark wood";

struct Scene {
    stage: Stage,
    one: Provider,
    two: Provider,
}

async fn scene(one: impl Into<Script>, two: impl Into<Script>, more: &str) -> Scene {
    let one = Provider::start(one).await.unwrap();
    let two = Provider::start(two).await.unwrap();
    let mut yaml = format!("{FORGETFUL}{more}retry: {{same_target: 0}}\nproviders:\n");
    yaml += &provider("one", "openai", &one.base_url(), KEY_ONE, "");
    yaml += &provider("two", "anthropic", &two.origin(), KEY_TWO, "");
    yaml += "routes:
  chat: {targets: [{provider: one, model: gpt, priority: 1}, {provider: two, model: opus, priority: 2}]}
  claude: {targets: [{provider: two, model: opus, priority: 1}, {provider: one, model: gpt, priority: 2}]}
  only-one: {targets: [{provider: one, model: gpt}], no_rescue: true}
  only-two: {targets: [{provider: two, model: opus}], no_rescue: true}
  brief: {targets: [{provider: two, model: opus}], defaults: {max_tokens: 77, temperature: 0.5}}
  exact: {translation: strict, targets: [{provider: two, model: opus, priority: 1}, {provider: one, model: gpt, priority: 2}]}
";
    Scene { stage: Stage::open(&yaml).await, one, two }
}

impl Scene {
    async fn send(&self, call: Call) -> Answer {
        call.send(self.stage.data).await.unwrap()
    }
}

fn data(answer: &Answer) -> Vec<Value> {
    answer.events.iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect()
}

/// Names of the events of a stream of Anthropic's, repeats left out.
fn names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = answer.events.iter().filter_map(|event| event.name.clone()).collect();
    names.retain(|name| name != "ping");
    names.dedup();
    names
}

const MESSAGE_EVENTS: [&str; 6] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
];

#[tokio::test]
async fn a_chat_is_had_with_an_anthropic_target_in_that_targets_own_way() {
    let scene = scene(Reply::ok(), Reply::ok().usage(11, 7).header("request-id", "req_x"), "").await;
    let call = Call::chat("only-two")
        .path("/v1/chat/completions?timeout=5")
        .bearer("client-key-0123456789")
        .header("openai-beta", "assistants=v2")
        .header("x-stainless-lang", "python")
        .header("x-title", "editor");
    let answer = scene.send(call).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, GREETING), "{}", answer.body_text());
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]),
        (&json!(11), &json!(7))
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(
        (answer.header("x-used-model"), answer.header("x-used-provider")),
        (Some("opus"), Some("two"))
    );
    assert_eq!(answer.header("request-id"), None, "a header of another dialect");

    let seen = scene.two.last().unwrap();
    assert_eq!(seen.path, "/v1/messages");
    assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (Some(KEY_TWO), None));
    assert!(seen.header("anthropic-version").is_some());
    assert_eq!(seen.header("x-title"), Some("editor"));
    for name in ["openai-beta", "x-stainless-lang"] {
        assert_eq!(seen.header(name), None, "{name} says nothing there");
    }
    let sent = seen.json();
    assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!("opus"), &json!(16_384)));
    assert_eq!(sent["messages"][0]["role"], "user");
    let line = &scene.stage.said("request")[0];
    assert_eq!((&line["dialect"], &line["target"]), (&json!("openai.chat"), &json!("two/k/opus")));
    assert_eq!((&line["in_tokens"], &line["out_tokens"]), (&json!(11), &json!(7)));
}

#[tokio::test]
async fn a_message_is_had_with_an_openai_target_in_that_targets_own_way() {
    let scene = scene(Reply::ok().usage(5, 3), Reply::ok(), "").await;
    let call = Call::message("only-one", false)
        .path("/v1/messages?beta=true")
        .header("x-api-key", "client-key-0123456789")
        .header("anthropic-beta", "context-1m-2025-08-07");
    let answer = scene.send(call).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, GREETING), "{}", answer.body_text());
    let body = answer.json();
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(body["stop_reason"], "end_turn");
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]), (&json!(5), &json!(3)));
    let seen = scene.one.last().unwrap();
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY_ONE}").as_str()));
    for name in ["x-api-key", "anthropic-beta", "anthropic-version"] {
        assert_eq!(seen.header(name), None, "{name} says nothing there");
    }
    assert_eq!(scene.stage.said("request")[0]["dialect"], "anthropic.messages");
}

#[tokio::test]
async fn a_stream_comes_in_the_clients_events_and_to_the_clients_end() {
    let scene = scene(Reply::ok().usage(5, 3), Reply::ok().usage(11, 7), "").await;
    let chat = scene.send(Call::chat_stream("only-two")).await;
    assert_eq!((chat.status, chat.text().as_str()), (200, GREETING), "{}", chat.body_text());
    assert!(chat.has_end_marker() && chat.end == BodyEnd::Clean);
    assert_eq!(chat.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(chat.usage().unwrap()["completion_tokens"], 7);
    assert!(scene.two.last().unwrap().is_streamed);
    assert!(chat.events.iter().all(|event| event.name.is_none()), "{}", chat.body_text());

    let message = scene.send(Call::message("only-one", true)).await;
    assert_eq!((message.status, message.text().as_str()), (200, GREETING), "{}", message.body_text());
    assert_eq!(names(&message), MESSAGE_EVENTS);
    assert_eq!(message.end, BodyEnd::Clean);
    assert_eq!(message.usage().unwrap()["output_tokens"], 3, "the usage comes behind the finish reason");
}

#[tokio::test]
async fn calls_of_tools_cross_in_a_stream() {
    let named = |name: &str, mut data: Value| {
        data["type"] = name.into();
        format!("event: {name}\ndata: {data}\n\n")
    };
    let delta = |json: &str| {
        let delta = json!({"type": "input_json_delta", "partial_json": json});
        named("content_block_delta", json!({"index": 0, "delta": delta}))
    };
    let usage = json!({"input_tokens": 3, "output_tokens": 1});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "opus", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    let block = json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}});
    let claude = Reply::events([
        named("message_start", json!({"message": message})),
        named("content_block_start", json!({"index": 0, "content_block": block})),
        delta("{\"at\":"),
        delta("\"sea\"}"),
        named("content_block_stop", json!({"index": 0})),
        named("message_delta", json!({"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}})),
        named("message_stop", json!({})),
    ]);
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let call = |part: Value| json!({"tool_calls": [part]});
    let first = json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}});
    let arguments = |text: &str| json!({"index": 0, "function": {"arguments": text}});
    let openai = Reply::events([
        chunk(json!({"role": "assistant", "content": null}), Value::Null),
        chunk(call(first), Value::Null),
        chunk(call(arguments("{\"at\":")), Value::Null),
        chunk(call(arguments("\"sea\"}")), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        "data: [DONE]\n\n".to_owned(),
    ]);
    let scene = scene(openai, claude, "").await;
    let schema = json!({"type": "object", "properties": {"at": {"type": "string"}}});
    let ask = json!([{"role": "user", "content": "Look."}]);

    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": schema}}]);
    let chat = json!({"model": "only-two", "messages": ask, "stream": true, "tools": tools});
    let chat = scene.send(Call::json("/v1/chat/completions", &chat)).await;
    let all = data(&chat);
    let calls = || all.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0].as_object());
    let text: String = calls().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(text, "{\"at\":\"sea\"}", "{}", chat.body_text());
    assert_eq!(calls().next().unwrap()["function"]["name"], "look");
    assert!(chat.body_text().contains("\"finish_reason\":\"tool_calls\"") && chat.has_end_marker());
    assert_eq!(scene.two.last().unwrap().json()["tools"][0]["input_schema"], schema);

    let tools = json!([{"name": "look", "input_schema": schema}]);
    let message =
        json!({"model": "only-one", "max_tokens": 99, "messages": ask, "stream": true, "tools": tools});
    let message = scene.send(Call::json("/v1/messages", &message)).await;
    let all = data(&message);
    let text: String = all.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(text, "{\"at\":\"sea\"}", "{}", message.body_text());
    assert!(all.iter().any(|event| event["content_block"]["name"] == "look"));
    assert!(all.iter().any(|event| event["delta"]["stop_reason"] == "tool_use"));
    assert_eq!(names(&message).last().map(String::as_str), Some("message_stop"));
}

#[tokio::test]
async fn a_failover_crosses_dialects_in_either_direction() {
    for fault in [Reply::rate_limited(None), Reply::status(500), Reply::error_event(529), Reply::reset()] {
        let to_claude = scene(fault.clone(), Reply::says("two"), "").await;
        for (call, is_stream) in [(Call::chat("chat"), false), (Call::chat_stream("chat"), true)] {
            let answer = to_claude.send(call).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "two"), "{}", answer.body_text());
            assert_eq!(
                (answer.header("x-attempts"), answer.header("x-used-fallback")),
                (Some("2"), Some("true"))
            );
            assert_eq!((answer.is_stream(), answer.has_end_marker()), (is_stream, is_stream));
        }
        let to_openai = scene(Reply::says("one"), fault, "").await;
        for is_stream in [false, true] {
            let answer = to_openai.send(Call::message("claude", is_stream)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "one"), "{}", answer.body_text());
            assert_eq!((answer.header("x-attempts"), answer.has_end_marker()), (Some("2"), is_stream));
        }
    }
}

#[tokio::test]
async fn a_translated_stream_that_breaks_ends_with_the_clients_error_event_and_uncleanly() {
    for broken in
        [Reply::close_after(3), Reply::reset_after(3), Reply::error_after(3, 529), Reply::end_after(3)]
    {
        let scene = scene(broken.clone(), broken, "").await;
        let chat = scene.send(Call::chat_stream("only-two")).await;
        assert!(!chat.text().is_empty() && !chat.has_end_marker(), "{}", chat.body_text());
        assert_eq!(chat.error_code(), "upstream_stream_lost", "{}", chat.body_text());
        assert!(matches!(chat.end, BodyEnd::Cut(_)), "{:?}", chat.end);
        let message = scene.send(Call::message("only-one", true)).await;
        assert!(!message.text().is_empty() && !message.has_end_marker(), "{}", message.body_text());
        assert_eq!(names(&message).last().map(String::as_str), Some("error"));
        assert!(matches!(message.end, BodyEnd::Cut(_)), "{:?}", message.end);
    }
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_across_dialects() {
    let broken = Reply::close_after(5).text(WORDS);
    let to_claude = scene(broken.clone(), Reply::says(WORDS), "").await;
    let to_openai = scene(Reply::says(WORDS), broken.clone(), "").await;
    for (scene, call) in [
        (&to_claude, Call::chat_stream("chat")),
        (&to_claude, Call::message("chat", true)),
        (&to_openai, Call::chat_stream("claude")),
        (&to_openai, Call::message("claude", true)),
    ] {
        let answer = scene.send(call).await;
        assert_eq!(answer.text(), WORDS, "{}", answer.body_text());
        assert!(answer.has_end_marker() && answer.end == BodyEnd::Clean, "{}", answer.body_text());
        for opening in ["\"message_start\"", "\"role\""] {
            assert!(answer.body_text().matches(opening).count() <= 1, "{}", answer.body_text());
        }
    }
}

#[tokio::test]
async fn a_refusal_of_another_dialect_is_told_by_its_class_in_the_clients() {
    let refusal = || Reply::status(400).message("messages.0.content: sk-two-0123456789 is not a word");
    let scene = scene(refusal(), refusal(), "").await;
    let chat = scene.send(Call::chat("only-two")).await;
    assert_eq!((chat.status, chat.error_code().as_str()), (400, "validation_failed"), "{}", chat.body_text());
    assert_eq!(chat.error().unwrap()["type"], "invalid_request_error");
    let message = scene.send(Call::message("only-one", false)).await;
    assert_eq!((message.status, message.json()["type"].as_str()), (400, Some("error")));
    for answer in [chat, message] {
        assert!(!answer.body_text().contains("0.content"), "{}", answer.body_text());
        assert_eq!(answer.header("x-attempts"), Some("1"));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_says_what_is_missing() {
    let scene = scene(Reply::ok(), Reply::ok(), "").await;
    for model in ["only-two", "claude", "exact"] {
        let answer = scene.send(Call::json("/v1/chat/completions", &json!({"model": model}))).await;
        if model == "exact" {
            // The other target takes it as it is.
            assert_eq!(answer.header("x-used-provider"), Some("one"), "{}", answer.body_text());
            continue;
        }
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "validation_failed"));
        assert!(answer.body_text().contains("`messages`"), "{}", answer.body_text());
        assert_eq!(answer.header("x-attempts"), Some("0"), "nobody was asked");
        assert_eq!(answer.header("x-pointsman-trail"), Some("two/k:client_error"), "{model}");
    }
    assert_eq!(scene.two.count(), 0);
    assert!(scene.stage.metric("pointsman_attempts_total", &["two/k"]) < 0.5, "{}", scene.stage.metrics());
}

#[tokio::test]
async fn a_strict_route_leaves_targets_out_that_would_lose_something() {
    let scene = scene(Reply::says("one"), Reply::says("two"), "").await;
    let ask = json!([{"role": "user", "content": "Say something."}]);
    let whole = json!({"model": "exact", "messages": ask});
    let lossy = json!({"model": "exact", "messages": ask, "seed": 7, "n": 1});
    let hint = json!({"model": "exact", "messages": ask, "user": "u", "metadata": {"a": "b"}});
    for (body, want) in [(&whole, "two"), (&lossy, "one"), (&hint, "two")] {
        let answer = scene.send(Call::json("/v1/chat/completions", body)).await;
        assert_eq!(answer.text(), want, "{body}: {}", answer.body_text());
        assert_eq!(answer.header("x-used-fallback"), Some(if want == "one" { "true" } else { "false" }));
    }
    // Nobody else can: the reason is told.
    scene.one.set_script(Reply::status(500));
    let answer = scene.send(Call::json("/v1/chat/completions", &lossy)).await;
    assert!(
        answer.body_text().contains("two/k/opus would lose seed in translation"),
        "{}",
        answer.body_text()
    );
    assert_eq!(scene.two.count(), 2);
    let claude = scene.send(Call::message("exact", false)).await;
    assert_eq!(claude.text(), "two", "its own dialect loses nothing");
}

#[tokio::test]
async fn the_whole_file_can_be_strict_and_a_route_alone_refuses_with_the_reason() {
    let scene = scene(Reply::ok(), Reply::ok(), "translation: strict\n").await;
    let ask = json!([{"role": "user", "content": "Say something."}]);
    let lossy = json!({"model": "only-two", "messages": ask, "seed": 7});
    let answer = scene.send(Call::json("/v1/chat/completions", &lossy)).await;
    let code = answer.error_code();
    assert_eq!((answer.status, code.as_str()), (400, "capability_not_supported"), "{}", answer.body_text());
    assert!(answer.body_text().contains("would lose seed in translation"), "{}", answer.body_text());
    assert_eq!(scene.two.count(), 0);
}

#[tokio::test]
async fn without_translation_every_client_has_the_targets_of_its_own_dialect() {
    let scene = scene(Reply::says("one"), Reply::says("two"), "translation: none\n").await;
    for (call, want) in [(Call::chat("claude"), "one"), (Call::message("chat", false), "two")] {
        let answer = scene.send(call).await;
        assert_eq!((answer.text().as_str(), answer.header("x-attempts")), (want, Some("1")));
    }
    for model in ["only-two", "two/opus"] {
        let answer = scene.send(Call::chat(model)).await;
        assert_eq!(answer.status, 400, "{model}: {}", answer.body_text());
    }
}

#[tokio::test]
async fn a_target_that_refuses_to_think_is_asked_once_more_without() {
    let refusal = || Reply::status(400).message("this model does not support Thinking");
    let scene = scene(Reply::ok(), Script::of([refusal(), Reply::ok()]), "").await;
    let ask = json!([{"role": "user", "content": "Think."}]);
    let thoughtful = json!({"model": "only-two", "messages": ask, "reasoning_effort": "high"});
    let answer = scene.send(Call::json("/v1/chat/completions", &thoughtful)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, GREETING), "{}", answer.body_text());
    assert_eq!(answer.header("x-pointsman-trail"), Some("two/k:400,two/k:ok"));
    let asked: Vec<bool> =
        scene.two.seen().iter().map(|seen| seen.json()["thinking"]["type"] == "enabled").collect();
    assert_eq!(asked, [true, false]);

    scene.two.set_script(refusal());
    let answer = scene.send(Call::json("/v1/chat/completions", &thoughtful)).await;
    assert_eq!((answer.status, answer.header("x-attempts")), (400, Some("2")), "once more, not for ever");
    let plain = json!({"model": "only-two", "messages": ask});
    let answer = scene.send(Call::json("/v1/chat/completions", &plain)).await;
    assert_eq!((answer.status, answer.header("x-attempts")), (400, Some("1")), "it asked for no thinking");
}

/// The turn before was another target's, which signs no thoughts.
#[tokio::test]
async fn anthropic_is_asked_without_thinking_where_it_misses_the_thoughts_of_a_turn() {
    let refusal = |message: &str| Reply::status(400).message(message);
    let missed =
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.";
    let ask = json!({"model": "only-two", "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [{"role": "user", "content": "Say something."}]});
    let scene = scene(Reply::ok(), Script::of([refusal(missed), Reply::ok()]), "").await;
    let answer = scene.send(Call::json("/v1/messages", &ask)).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(answer.header("x-pointsman-trail"), Some("two/k:400,two/k:ok"));
    let mut sent = scene.two.seen().iter().map(pointsman::standin::Seen::json).collect::<Vec<_>>();
    let (second, first) = (sent.pop().unwrap(), sent.pop().unwrap());
    assert_eq!((first["thinking"]["type"].as_str(), second.get("thinking")), (Some("enabled"), None));
    assert_eq!((&first["max_tokens"], &first["messages"]), (&second["max_tokens"], &second["messages"]));

    scene.two.set_script(refusal("thinking.budget_tokens: Input should be greater than or equal to 1024"));
    let answer = scene.send(Call::json("/v1/messages", &ask)).await;
    assert_eq!(
        (answer.status, answer.header("x-attempts")),
        (400, Some("1")),
        "what it says of its own is its own"
    );
}

#[tokio::test]
async fn defaults_are_set_behind_the_translation_and_the_clients_word_counts() {
    let scene = scene(Reply::ok(), Reply::ok(), "").await;
    let ask = json!([{"role": "user", "content": "Say something."}]);
    for (body, length, temperature) in [
        (json!({"model": "brief", "messages": ask}), 77, json!(0.5)),
        (json!({"model": "brief", "messages": ask, "max_tokens": 5, "temperature": 0.25}), 5, json!(0.25)),
    ] {
        let answer = scene.send(Call::json("/v1/chat/completions", &body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let sent = scene.two.last().unwrap().json();
        assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(length), &temperature));
    }
}

#[tokio::test]
async fn only_conversations_are_translated() {
    let scene = scene(Reply::ok(), Reply::ok(), "").await;
    let input = json!({"model": "only-two", "input": "x", "prompt": "x"});
    for path in ["/v1/embeddings", "/v1/completions"] {
        let answer = scene.send(Call::json(path, &input)).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (400, "capability_not_supported"),
            "{path}"
        );
    }
    let count = json!({"model": "only-one", "messages": []});
    let answer = scene.send(Call::json("/v1/messages/count_tokens", &count)).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "capability_not_supported"));
}

#[tokio::test]
async fn an_answer_too_long_to_be_passed_on_unread_is_translated_whole() {
    let long = "word ".repeat(400_000);
    let scene = scene(Reply::ok(), Reply::says(long.clone()), "").await;
    let answer = scene.send(Call::chat("only-two")).await;
    assert_eq!((answer.status, answer.text().len()), (200, long.len()));
    scene.two.set_script(Reply::says("word ".repeat(2_000_000)));
    let answer = scene.send(Call::chat("claude")).await;
    assert_eq!((answer.status, answer.header("x-used-provider")), (200, Some("one")), "8 MiB and no more");
}

#[tokio::test]
async fn a_gemini_client_is_heard_in_its_own_words() {
    let scene = scene(Reply::says("one"), Reply::ok(), "").await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Say something."}]}]});
    let unknown = scene.send(Call::json("/v1beta/models/nobody:generateContent", &body)).await;
    assert_eq!((unknown.status, unknown.error().unwrap()["status"].as_str()), (404, Some("NOT_FOUND")));
    for (path, is_events) in [
        ("/v1beta/models/only-one:generateContent", None),
        ("/v1beta/models/only-one:streamGenerateContent?alt=sse", Some(true)),
        ("/v1beta/models/only-one:streamGenerateContent", Some(false)),
    ] {
        let answer = scene.send(Call::json(path, &body)).await;
        if !translate::is_pair(Dialect::GeminiGenerate, Dialect::OpenAiChat) {
            assert_eq!((answer.status, answer.error().unwrap()["code"].as_u64()), (400, Some(400)), "{path}");
            continue;
        }
        assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
        let text = match is_events {
            None => answer.json()["candidates"][0]["content"]["parts"][0]["text"].clone(),
            Some(true) => data(&answer)[0]["candidates"][0]["content"]["parts"][0]["text"].clone(),
            Some(false) => answer.json()[0]["candidates"][0]["content"]["parts"][0]["text"].clone(),
        };
        assert_eq!(text, "one", "{path}: {}", answer.body_text());
        assert_eq!(scene.one.last().unwrap().is_streamed, is_events.is_some(), "{path}");
    }
}
