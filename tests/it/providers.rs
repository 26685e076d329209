//! How is each provider spoken to, and which of them is asked for what?

use crate::process::{HEAD, Program};
use crate::scene::{Api, trail};
use crate::stage::Stage;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply, Seen};
use serde_json::{Value, json};
use std::fmt::Write as _;

const KEY: &str = "sk-provider-0123456789";

/// Opens one provider `one` of the given lines behind the route `chat`.
async fn one(provider: &Provider, lines: &str) -> Stage {
    let base = provider.origin();
    let yaml = format!(
        "providers:\n  one: {{base_url: \"{base}\", credentials: [{{name: k, key: \"{KEY}\"}}], {lines}}}\n\
         routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n"
    );
    Stage::open(&yaml).await
}

/// Opens providers `p0`, `p1`, … with these `models`, one target each, in this order.
async fn line_up(providers: &[Provider], models: &[&str], route: &str) -> Stage {
    let mut yaml = "providers:\n".to_owned();
    let mut targets = String::new();
    for (at, (provider, model)) in providers.iter().zip(models).enumerate() {
        let base = provider.base_url();
        let _ = writeln!(
            yaml,
            "  p{at}: {{kind: openai, base_url: \"{base}\", models: {{m{at}: {{{model}}}}}, credentials: [{{name: k, key: \"{KEY}\"}}]}}"
        );
        let _ = write!(targets, "{{provider: p{at}, model: m{at}, priority: {}}}, ", at + 1);
    }
    let _ = write!(yaml, "routes:\n  chat: {{{route}targets: [{targets}]}}\n");
    Stage::open(&yaml).await
}

async fn started<const N: usize>() -> [Provider; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Provider::start(Reply::ok()).await.unwrap());
    }
    all.try_into().ok().unwrap()
}

fn last(provider: &Provider) -> Seen {
    provider.seen().last().cloned().unwrap()
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body_text()).unwrap();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

// --- how it is spoken to ---

#[tokio::test]
async fn each_way_of_proof_is_the_only_one_that_arrives() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let everything = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "x-own"];
    let bearer = format!("Bearer {KEY}");
    for (lines, header, value) in [
        ("kind: openai", Some("authorization"), &*bearer),
        ("kind: openai, auth: bearer", Some("authorization"), &*bearer),
        ("kind: openai, auth: x-api-key", Some("x-api-key"), KEY),
        ("kind: openai, auth: x-goog-api-key", Some("x-goog-api-key"), KEY),
        ("kind: openai, auth: x-own", Some("x-own"), KEY),
        ("kind: openai, auth: none", None, ""),
        ("kind: azure", Some("api-key"), KEY),
        ("kind: azure, auth: bearer", Some("authorization"), &*bearer),
        ("kind: openai-bridge", Some("authorization"), &*bearer),
    ] {
        let stage = one(&provider, lines).await;
        let mut call = Call::chat("chat");
        for name in everything {
            call = call.header(name, "client-secret-0123456789");
        }
        assert_eq!(call.send(stage.data).await.unwrap().status, 200, "{lines}");
        let seen = last(&provider);
        for name in everything {
            let want = (header == Some(name)).then_some(value);
            assert_eq!(seen.header(name), want, "{lines}: {name}");
        }
    }
}

#[tokio::test]
async fn each_kind_is_called_below_its_own_path() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    for (lines, want) in [
        ("kind: openai", "/chat/completions"),
        ("kind: ollama", "/v1/chat/completions"),
        ("kind: cohere", "/compatibility/v1/chat/completions"),
        ("kind: azure", "/openai/v1/chat/completions"),
        ("kind: perplexity", "/chat/completions"),
        ("kind: openai-bridge", "/v1/chat/completions"),
        ("kind: openai, paths: {chat_completions: /odd/chat}", "/odd/chat"),
        (
            "kind: azure, paths: {chat_completions: \"/openai/deployments/{model}/chat/completions?api-version=2024-10-21\"}",
            "/openai/deployments/m/chat/completions?api-version=2024-10-21",
        ),
    ] {
        let stage = one(&provider, lines).await;
        let answer = Call::chat("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{lines}: {}", answer.body_text());
        assert_eq!(last(&provider).path, want, "{lines}");
    }
}

#[tokio::test]
async fn a_call_that_a_kind_does_not_take_is_not_sent_there() {
    let [first, second] = started().await;
    let yaml = format!(
        "providers:\n  chatty: {{kind: perplexity, base_url: \"{}\", credentials: [{{key: \"{KEY}\"}}]}}\n  \
         able: {{kind: openai, base_url: \"{}\", credentials: [{{key: \"{KEY}\"}}]}}\n\
         routes:\n  both: {{targets: [{{provider: chatty, model: m, priority: 1}}, {{provider: able, model: m, priority: 2}}]}}\n  \
         alone: {{targets: [{{provider: chatty, model: m}}]}}\ntranslation: none\n",
        first.base_url(),
        second.base_url()
    );
    let stage = Stage::open(&yaml).await;
    for api in [Api::Embeddings, Api::Completions, Api::Responses] {
        let answer = api.call(api.body("both", false, 300, 1)).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{api:?}: {}", answer.body_text());
        let answer = api.call(api.body("alone", false, 300, 1)).send(stage.data).await.unwrap();
        assert_eq!((answer.status, &*code(&answer)), (400, "capability_not_supported"), "{api:?}");
    }
    assert_eq!((first.count(), second.count()), (0, 3));
}

#[tokio::test]
async fn values_of_the_provider_are_set_where_neither_client_nor_route_set_one() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "providers:\n  one: {{kind: openai, base_url: \"{}\", params: {{top_p: 0.5, seed: 7, user: p}}, stream_params: {{seed: 8}}, credentials: [{{key: \"{KEY}\"}}]}}\n\
         routes:\n  chat: {{defaults: {{user: r}}, targets: [{{provider: one, model: m}}]}}\n",
        provider.base_url()
    );
    let stage = Stage::open(&yaml).await;
    for (is_streamed, seed) in [(false, 7), (true, 8)] {
        let body = json!({"model": "chat", "stream": is_streamed, "top_p": 1, "messages": []});
        Call::json("/v1/chat/completions", &body).send(stage.data).await.unwrap();
        let got = last(&provider).json();
        assert_eq!((&got["top_p"], &got["seed"], &got["user"]), (&json!(1), &json!(seed), &json!("r")));
    }
}

#[tokio::test]
async fn a_request_is_cut_to_what_a_model_takes() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let stage =
        one(&provider, "kind: openai, models: {m: {limits: {max_tokens: 100, drop_params: [logprobs]}}}")
            .await;
    let body = json!({"model": "chat", "logprobs": true, "max_tokens": 5000, "x": [1], "messages": []});
    Call::json("/v1/chat/completions", &body).send(stage.data).await.unwrap();
    assert_eq!(last(&provider).json(), json!({"model": "m", "max_tokens": 100, "x": [1], "messages": []}));
}

// --- who is asked ---

fn with_image() -> Value {
    let url = format!("data:image/png;base64,{}", "A".repeat(100_000));
    json!({"model": "chat", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}
    ]}]})
}

#[tokio::test]
async fn a_request_goes_to_the_target_that_can_serve_it_and_says_that_it_is_not_the_first() {
    let tools =
        json!({"model": "chat", "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]});
    let in_json = json!({"model": "chat", "messages": [], "response_format": {"type": "json_object"}});
    let long = json!({"model": "chat", "messages": [{"role": "user", "content": "word ".repeat(8000)}]});
    let asks_much = json!({"model": "chat", "max_tokens": 9000, "messages": []});
    let embeddings = json!({"model": "chat", "input": "x"});
    let completion = json!({"model": "chat", "prompt": "x"});
    let chat = "/v1/chat/completions";
    for (path, body, weak, able) in [
        (chat, with_image(), "capabilities: [chat, tools]", "capabilities: [chat, vision]"),
        (chat, tools, "capabilities: [chat]", "capabilities: [tools]"),
        (chat, in_json, "capabilities: [chat, tools]", "capabilities: [chat, json]"),
        (chat, long, "context: 8000", "context: 32000"),
        (chat, asks_much, "context: 8000", ""),
        (chat, with_image(), "capabilities: [embeddings]", ""),
        ("/v1/embeddings", embeddings, "capabilities: [chat]", "capabilities: [embedding]"),
        ("/v1/completions", completion, "capabilities: [chat]", "capabilities: [completions]"),
    ] {
        let all: [Provider; 2] = started().await;
        let stage = line_up(&all, &[weak, able], "").await;
        let answer = Call::json(path, &body).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{weak}: {}", answer.body_text());
        assert_eq!((all[0].count(), all[1].count()), (0, 1), "{weak}");
        assert_eq!(answer.header("x-used-fallback"), Some("true"), "{weak}");
        assert_eq!(trail(&answer), ["p1/k:ok"], "{weak}");

        let stage = line_up(&all, &[weak], "").await;
        let answer = Call::json(path, &body).send(stage.data).await.unwrap();
        let want = if weak.starts_with("context") { "validation_failed" } else { "capability_not_supported" };
        assert_eq!((answer.status, &*code(&answer)), (400, want), "{weak}: {}", answer.body_text());
        assert_eq!(all[0].count(), 0, "{weak}");
    }
}

#[tokio::test]
async fn what_fits_goes_to_the_first_and_what_nobody_knows_stands_in_nobodys_way() {
    let all: [Provider; 2] = started().await;
    for first in ["", "capabilities: [vision]", "context: 1000", "capabilities: [something_else]"] {
        let stage = line_up(&all, &[first, ""], "").await;
        let answer = Call::json("/v1/chat/completions", &with_image()).send(stage.data).await.unwrap();
        assert_eq!(answer.header("x-used-fallback"), Some("false"), "{first}: an image is no text");
    }
    assert_eq!(all[1].count(), 0);
}

#[tokio::test]
async fn a_belief_of_the_catalogue_makes_room_and_refuses_nothing() {
    let all: [Provider; 2] = started().await;
    let yaml = |targets: &str| {
        let provider = |name: &str, kind: &str, of: &Provider| {
            format!(
                "  {name}: {{kind: {kind}, base_url: \"{}\", models: {{llama-3.3-70b-versatile: {{}}, other: {{}}}}, credentials: [{{name: k, key: \"{KEY}\"}}]}}\n",
                of.base_url()
            )
        };
        format!(
            "providers:\n{}{}routes:\n  chat: {{targets: [{targets}]}}\n",
            provider("blind", "groq", &all[0]),
            provider("any", "openai", &all[1])
        )
    };
    let blind = "{provider: blind, model: llama-3.3-70b-versatile, priority: 1}";
    let stage = Stage::open(&yaml(&format!("{blind}, {{provider: any, model: other, priority: 2}}"))).await;
    let image = Call::json("/v1/chat/completions", &with_image());
    assert_eq!(image.send(stage.data).await.unwrap().status, 200);
    assert_eq!((all[0].count(), all[1].count()), (0, 1));
    let stage = Stage::open(&yaml(blind)).await;
    assert_eq!(image.send(stage.data).await.unwrap().status, 200, "nobody else is there");
    assert_eq!(all[0].count(), 1);
}

#[tokio::test]
async fn the_explanation_names_who_was_left_out_and_why() {
    let all: [Provider; 2] = started().await;
    all[1].set_script(Reply::status(503));
    let stage = line_up(&all, &["capabilities: [chat]", ""], "").await;
    let answer = Call::json("/v1/chat/completions", &with_image()).send(stage.data).await.unwrap();
    assert!(answer.body_text().contains("left out: p0/k/m0 cannot do vision"), "{}", answer.body_text());
}

// --- sizes ---

const SIZES: [&str; 3] = ["tier: fast", "tier: reasoning", "tier: large"];

async fn asked_for(stage: &Stage, tier: Option<&str>) -> Answer {
    let call = Call::chat("chat");
    let call = tier.map_or(call.clone(), |tier| call.header("x-pointsman-tier", tier));
    call.send(stage.data).await.unwrap()
}

#[tokio::test]
async fn a_size_is_met_exactly_then_by_the_next_higher_then_by_the_first() {
    let all: [Provider; 3] = started().await;
    for (route, header, want) in [
        ("", None, "p0"),
        ("", Some("fast"), "p0"),
        ("", Some("medium"), "p2"),
        ("", Some("large"), "p2"),
        ("", Some("reasoning"), "p1"),
        ("tier: large, ", None, "p2"),
        ("tier: large, ", Some("reasoning"), "p1"),
    ] {
        let stage = line_up(&all, &SIZES, route).await;
        let answer = asked_for(&stage, header).await;
        assert_eq!(answer.header("x-used-provider"), Some(want), "{route}{header:?}");
        assert_eq!(answer.header("x-used-fallback"), Some("false"), "a wish is the client's own choice");
        assert!(last(&all[usize::from(want.as_bytes()[1] - b'0')]).header("x-pointsman-tier").is_none());
    }
    let stage = line_up(&all, &["tier: medium", "tier: fast"], "").await;
    assert_eq!(
        asked_for(&stage, Some("large")).await.header("x-used-provider"),
        Some("p0"),
        "none: the first"
    );
    let answer = asked_for(&stage, Some("huge")).await;
    assert_eq!((answer.status, &*code(&answer)), (400, "validation_failed"));
}

#[tokio::test]
async fn a_provider_without_a_model_is_asked_for_the_one_of_the_size() {
    let [first, second] = started().await;
    let provider = |name: &str, of: &Provider, models: &str| {
        format!(
            "  {name}: {{kind: openai, base_url: \"{}\", models: {{{models}}}, credentials: [{{name: k, key: \"{KEY}\"}}]}}\n",
            of.base_url()
        )
    };
    let yaml = format!(
        "providers:\n{}{}routes:\n  chat: {{tier: medium, targets: [{{provider: a, priority: 1}}, {{provider: b, priority: 2}}]}}\n",
        provider(
            "a",
            &first,
            "big: {tier: large}, small: {tier: fast}, vectors: {tier: medium, capabilities: [embeddings]}"
        ),
        provider("b", &second, "middle: {tier: medium}"),
    );
    let stage = Stage::open(&yaml).await;
    for (tier, want) in [(None, "big"), (Some("fast"), "small"), (Some("reasoning"), "big")] {
        let answer = asked_for(&stage, tier).await;
        assert_eq!(answer.header("x-used-model"), Some(want), "{tier:?}: the order of the providers stays");
    }
    first.set_script(Reply::status(503));
    let answer = asked_for(&stage, None).await;
    assert_eq!(answer.header("x-used-model"), Some("middle"));
    assert_eq!(answer.header("x-model-degraded"), Some("true"), "medium after large");
}

#[tokio::test]
async fn an_answer_of_a_smaller_model_is_marked_and_of_a_larger_one_not() {
    for (models, is_marked) in [
        (["tier: large", "tier: fast"], true),
        (["tier: fast", "tier: large"], false),
        (["tier: large", "tier: large"], false),
        (["tier: large", ""], false),
    ] {
        let all: [Provider; 2] = started().await;
        let stage = line_up(&all, &models, "").await;
        assert!(asked_for(&stage, None).await.header("x-model-degraded").is_none(), "{models:?}");
        all[0].set_script(Reply::status(529));
        let answer = asked_for(&stage, None).await;
        assert_eq!(answer.header("x-model-degraded").is_some(), is_marked, "{models:?}");
        assert_eq!(answer.header("x-used-fallback"), Some("true"));
    }
}

// --- what is there ---

fn listed(said: &str, name: &str) -> Value {
    let list: Value = serde_json::from_str(said.trim()).unwrap_or_else(|fault| panic!("{fault}: {said}"));
    let rows = list["providers"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).cloned().unwrap_or_else(|| panic!("{name} is not in {said}"))
}

#[tokio::test]
async fn the_list_tells_who_is_usable_and_what_the_others_lack() {
    let yaml = format!(
        "{HEAD}providers:\n  groq: {{kind: groq, optional: true}}\n  mistral: {{kind: mistral, optional: true}}\n  \
         own: {{kind: openai, base_url: \"http://127.0.0.1:9/v1\"}}\n\
         routes:\n  chat: {{tier: fast, targets: [{{provider: mistral, priority: 1}}, {{provider: groq, priority: 2}}]}}\n"
    );
    let program = Program::new(&yaml).env("GROQ_API_KEY", "gsk-canary-0123456789");
    let (code, said) = program.verb(&["provider", "list", "-c", "CONFIG", "--json"]).await;
    assert_eq!(code, 0, "{said}");
    for (name, status, configured, why) in [
        ("groq", "usable", true, Value::Null),
        ("own", "usable", true, Value::Null),
        ("mistral", "unconfigured", true, json!("set MISTRAL_API_KEY")),
        ("nvidia", "unconfigured", false, json!("set NVIDIA_API_KEY")),
    ] {
        let row = listed(&said, name);
        assert_eq!(
            (&row["status"], &row["configured"]),
            (&json!(status), &json!(configured)),
            "{name}: {row}"
        );
        assert_eq!(row["why"], why, "{name}");
    }
    assert_eq!(listed(&said, "bedrock")["status"], "unconfigured");
    assert_eq!(listed(&said, "groq")["credentials"], 1);
    assert!(!said.contains("canary"), "a key is told");
    let (code, said) = program.verb(&["provider", "list", "-c", "CONFIG"]).await;
    assert!(
        code == 0
            && said.lines().any(|line| line.starts_with("mistral") && line.contains("set MISTRAL_API_KEY")),
        "{said}"
    );
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert!(
        code == 0 && said.contains("providers.mistral: is left out: MISTRAL_API_KEY is not set"),
        "{said}"
    );
    assert_eq!(program.verb(&["provider", "list", "-c", "missing.yaml"]).await.0, 66);
}

#[tokio::test]
async fn the_shipped_chain_serves_with_what_is_there_and_says_what_is_not() {
    let chain = include_str!("../../conf/examples/chain.yaml");
    let program = Program::new(chain)
        .env("OPENAI_BRIDGE_URL", "http://127.0.0.1:9")
        .env("CEREBRAS_API_KEY", "csk-0123456789");
    let (code, said) = program.verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 0, "{said}");
    let (_, said) = program.verb(&["provider", "list", "-c", "CONFIG", "--json"]).await;
    for (name, status) in [
        ("openai-bridge", "usable"),
        ("chatgpt-bridge", "usable"),
        ("cerebras", "usable"),
        ("groq", "unconfigured"),
    ] {
        assert_eq!(listed(&said, name)["status"], status, "{name}");
    }
    let (code, said) = Program::new(chain).verb(&["check", "-c", "CONFIG"]).await;
    assert_eq!(code, 78, "with nothing there is nothing to serve: {said}");
}
