//! Each kind of provider, end to end: where it is called, how it is proved to, what it is sent, and
//! what clients of every dialect are told of its answer, whole and streamed.

use crate::scene::trail;
use crate::stage::Stage;
use crate::tongues::{ARGUMENTS, CLIENTS, Client, Heard, TOOL};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{GREETING, HttpVersion, Provider, Reply, Seen};
use serde_json::{Value, json};
use std::time::Duration;

const KEY: &str = "sk-provider-0123456789";

/// One provider `one` of these lines with a key, behind the route `chat` with this model.
async fn one(provider: &Provider, lines: &str, model: &str) -> Stage {
    with_proof(provider, lines, &format!("key: \"{KEY}\""), model).await
}

async fn with_proof(provider: &Provider, lines: &str, proof: &str, model: &str) -> Stage {
    let base = provider.origin();
    let yaml = format!(
        "retry: {{same_target: 0}}\nproviders:\n  one: {{base_url: \"{base}\", credentials: [{{name: k, {proof}}}], {lines}}}\n\
         routes:\n  chat: {{defaults: {{temperature: 0.25, max_tokens: 77}}, targets: [{{provider: one, model: \"{model}\"}}]}}\n"
    );
    Stage::open(&yaml).await
}

/// How a kind is spoken to by clients of a dialect.
struct Row {
    lines: &'static str,
    model: &'static str,
    client: Client,
    /// Paths of whole and streamed answers.
    paths: [&'static str; 2],
    /// Header and value that prove us.
    proof: (&'static str, &'static str),
    /// Where what is set stands in the body.
    temperature: &'static str,
    length: &'static str,
}

const BEARER: (&str, &str) = ("authorization", "Bearer sk-provider-0123456789");
const GOOGLE_KEY: (&str, &str) = ("x-goog-api-key", KEY);

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |lines, model, clients: &[Client], paths, proof, temperature, length| {
        rows.extend(clients.iter().map(|client| Row {
            lines,
            model,
            client: *client,
            paths,
            proof,
            temperature,
            length,
        }));
    };
    let others = [Client::Responses, Client::Messages, Client::Gemini];
    add(
        "kind: gemini",
        "gemini-x",
        &CLIENTS,
        ["/v1beta/models/gemini-x:generateContent", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"],
        GOOGLE_KEY,
        "/generationConfig/temperature",
        "/generationConfig/maxOutputTokens",
    );
    add(
        "kind: vertex, project: p, location: europe-west4",
        "gemini-x",
        &CLIENTS,
        [
            "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-x:generateContent",
            "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-x:streamGenerateContent?alt=sse",
        ],
        BEARER,
        "/generationConfig/temperature",
        "/generationConfig/maxOutputTokens",
    );
    add(
        "kind: vertex, project: p, location: europe-west4",
        "claude-x@20250101",
        &CLIENTS,
        [
            "/v1/projects/p/locations/europe-west4/publishers/anthropic/models/claude-x@20250101:rawPredict",
            "/v1/projects/p/locations/europe-west4/publishers/anthropic/models/claude-x@20250101:streamRawPredict",
        ],
        BEARER,
        "/temperature",
        "/max_tokens",
    );
    add(
        "kind: vertex, project: p, location: europe-west4",
        "meta/llama",
        &CLIENTS,
        ["/v1/projects/p/locations/europe-west4/endpoints/openapi/chat/completions"; 2],
        BEARER,
        "/temperature",
        "/max_tokens",
    );
    if cfg!(feature = "bedrock") {
        add(
            "kind: bedrock, region: eu-west-1",
            "eu.anthropic.claude-x-v1:0",
            &CLIENTS,
            [
                "/model/eu.anthropic.claude-x-v1%3A0/converse",
                "/model/eu.anthropic.claude-x-v1%3A0/converse-stream",
            ],
            BEARER,
            "/inferenceConfig/temperature",
            "/inferenceConfig/maxTokens",
        );
    }
    add("kind: cohere", "command-x", &others, ["/v2/chat"; 2], BEARER, "/temperature", "/max_tokens");
    add(
        "kind: cohere",
        "command-x",
        &[Client::Chat],
        ["/compatibility/v1/chat/completions"; 2],
        BEARER,
        "/temperature",
        "/max_tokens",
    );
    add(
        "kind: ollama",
        "llama:8b",
        &[Client::Messages, Client::Gemini],
        ["/api/chat"; 2],
        BEARER,
        "/options/temperature",
        "/options/num_predict",
    );
    add(
        "kind: ollama",
        "llama:8b",
        &[Client::Chat],
        ["/v1/chat/completions"; 2],
        BEARER,
        "/temperature",
        "/max_tokens",
    );
    add(
        "kind: azure, api_version: 2024-10-21",
        "deployed",
        &[Client::Chat, Client::Messages],
        ["/openai/deployments/deployed/chat/completions?api-version=2024-10-21"; 2],
        ("api-key", KEY),
        "/temperature",
        "/max_tokens",
    );
    rows
}

fn last(provider: &Provider) -> Seen {
    provider.last().unwrap()
}

/// What a body of Gemini's or Messages' must have, wherever it stands.
fn number(body: &Value, path: &str) -> Value {
    body.pointer(path).cloned().unwrap_or_default()
}

#[tokio::test]
async fn each_kind_is_asked_in_its_own_way_and_every_client_hears_the_same() {
    let provider = Provider::start(Reply::ok().usage(11, 7)).await.unwrap();
    for row in rows() {
        let Row { lines, model, client, .. } = row;
        let stage = one(&provider, lines, model).await;
        for (is_stream, path) in [(false, row.paths[0]), (true, row.paths[1])] {
            let what = format!("{lines} {model} {client:?} {is_stream}");
            let answer = client.ask("chat", is_stream, false).send(stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "{what}: {}", answer.body_text());
            assert_eq!(answer.is_stream(), is_stream, "{what}: {}", answer.body_text());
            let want = Heard {
                text: GREETING.to_owned(),
                calls: Vec::new(),
                finish: "stop",
                usage: Some((11, 7)),
                has_ended: true,
            };
            assert_eq!(client.hear(&answer), want, "{what}: {}", answer.body_text());
            let seen = last(&provider);
            assert_eq!(seen.path, path, "{what}");
            for name in ["authorization", "x-goog-api-key", "api-key", "x-api-key"] {
                let want = (row.proof.0 == name).then_some(row.proof.1);
                assert_eq!(seen.header(name), want, "{what}");
            }
            let body = seen.json();
            assert_eq!(number(&body, row.temperature), 0.25, "{what}: {body}");
            let length = if client == Client::Messages { 99 } else { 77 };
            assert_eq!(number(&body, row.length), length, "{what}: {body}");
            assert_eq!(seen.is_streamed, is_stream, "{what}: {body}");
            let line = stage.said("request").pop().unwrap();
            assert_eq!((&line["in_tokens"], &line["out_tokens"]), (&json!(11), &json!(7)), "{what}");
        }
    }
}

#[tokio::test]
async fn each_kind_calls_tools_for_every_client() {
    let provider = Provider::start(Reply::says("I look.").calls(TOOL, ARGUMENTS).usage(5, 3)).await.unwrap();
    let arguments: Value = serde_json::from_str(ARGUMENTS).unwrap();
    for row in rows() {
        let Row { lines, model, client, .. } = row;
        let stage = one(&provider, lines, model).await;
        for is_stream in [false, true] {
            let what = format!("{lines} {model} {client:?} {is_stream}");
            let answer = client.ask("chat", is_stream, true).send(stage.data).await.unwrap();
            let heard = client.hear(&answer);
            let calls = vec![(TOOL.to_owned(), arguments.clone())];
            assert_eq!(
                (heard.text.as_str(), heard.calls),
                ("I look.", calls),
                "{what}: {}",
                answer.body_text()
            );
            let finish = if client == Client::Gemini { "stop" } else { "tools" };
            assert_eq!((heard.finish, heard.usage, heard.has_ended), (finish, Some((5, 3)), true), "{what}");
            assert!(last(&provider).json().to_string().contains("far"), "the schema is sent: {what}");
        }
    }
}

#[tokio::test]
async fn what_a_client_and_a_target_both_speak_passes_byte_for_byte() {
    for (lines, model, client, keeps) in [
        ("kind: gemini", "gemini-x", Client::Gemini, true),
        ("kind: vertex, project: p, location: l", "gemini-x", Client::Gemini, true),
        ("kind: vertex, project: p, location: l", "claude-x", Client::Messages, false),
        ("kind: cohere", "chat", Client::Chat, true),
        ("kind: ollama", "chat", Client::Chat, true),
        ("kind: copilot", "chat", Client::Responses, true),
    ] {
        // Two that count their answers alike, one behind the proxy and one asked directly.
        let provider = Provider::start(Reply::ok()).await.unwrap();
        let other = Provider::start(Reply::ok()).await.unwrap();
        let base = provider.origin();
        let proof = if lines == "kind: copilot" {
            "oauth: {token_url: \"http://127.0.0.1:9\", client_id: c, refresh_token: r-0123456789}"
        } else {
            "key: sk-0123456789"
        };
        let exchange =
            Provider::start(pointsman::standin::grants::oauth("c", "r-0123456789", Duration::from_secs(60)))
                .await
                .unwrap();
        let proof = proof.replace("http://127.0.0.1:9", &format!("{}/token", exchange.origin()));
        let yaml = format!(
            "providers:\n  one: {{base_url: \"{base}\", credentials: [{{name: k, {proof}}}], {lines}}}\n\
             routes:\n  chat: {{targets: [{{provider: one, model: {model}}}]}}\n"
        );
        let stage = Stage::open(&yaml).await;
        for is_stream in [false, true] {
            let call = client.ask("chat", is_stream, true);
            let answer = call.send(stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "{lines}: {}", answer.body_text());
            let seen = last(&provider);
            let direct =
                client.ask("chat", is_stream, true).path(&seen.path).send(other.address()).await.unwrap();
            let sent = last(&other);
            if keeps {
                assert_eq!(seen.body, sent.body, "{lines}: the request");
            } else {
                let mut want: Value = sent.json();
                want.as_object_mut().unwrap().remove("model");
                want["anthropic_version"] = "vertex-2023-10-16".into();
                assert_eq!(seen.json(), want, "{lines}: the request");
            }
            assert_eq!(answer.body_text(), direct.body_text(), "{lines}: the answer");
        }
    }
}

#[tokio::test]
async fn a_stream_of_geminis_that_is_an_array_passes_as_one() {
    let array = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hello\"}]},\"index\":0}]}\r\n,\r\n\
                 {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" sea\"}]},\"finishReason\":\"STOP\",\"index\":0}],\
                 \"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2}}]";
    let provider = Provider::start(Reply::body(200, "application/json; charset=UTF-8", array)).await.unwrap();
    let stage = one(&provider, "kind: gemini", "g").await;
    let body = json!({"contents": [{"parts": [{"text": "q"}]}]});
    let call = Call::json("/v1beta/models/chat:streamGenerateContent", &body);
    let answer = call.send(stage.data).await.unwrap();
    assert_eq!((answer.status, answer.body_text().as_str()), (200, array));
    assert_eq!(last(&provider).path, "/v1beta/models/g:streamGenerateContent");
    let line = stage.said("request").pop().unwrap();
    assert_eq!(
        (&line["in_tokens"], &line["out_tokens"], &line["stream"]),
        (&json!(3), &json!(2), &json!(true))
    );
    // A server that does not know `alt=sse` is understood all the same.
    let chat = Client::Chat.ask("chat", true, false).send(stage.data).await.unwrap();
    let heard = Client::Chat.hear(&chat);
    assert_eq!((heard.text.as_str(), heard.usage, heard.has_ended), ("Hello sea", Some((3, 2)), true));
}

#[tokio::test]
async fn embeddings_reach_gemini_by_its_other_path_with_the_key_as_a_bearer() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let stage = one(&provider, "kind: gemini", "embed-x").await;
    let call = Call::json("/v1/embeddings", &json!({"model": "chat", "input": "x"}));
    let answer = call.send(stage.data).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let seen = last(&provider);
    assert_eq!(seen.path, "/v1beta/openai/embeddings");
    assert_eq!((seen.header("authorization"), seen.header("x-goog-api-key")), (Some(BEARER.1), None));
    assert_eq!(seen.json()["model"], "embed-x");
}

#[tokio::test]
async fn a_bridge_is_given_one_prompt_and_its_text_becomes_a_stream() {
    let long = "one two three four five six seven eight nine ten eleven twelve";
    for answered in [
        json!({"response": long}),
        json!({"content": long}),
        json!({"message": {"content": long}}),
        json!({"choices": [{"message": {"content": long}}]}),
    ] {
        let provider =
            Provider::start(Reply::body(200, "application/json", answered.to_string())).await.unwrap();
        let stage =
            with_proof(&provider, "kind: generate-bridge, auth: none", &format!("key: \"{KEY}\""), "sonnet")
                .await;
        for client in CLIENTS {
            for is_stream in [false, true] {
                let answer = client.ask("chat", is_stream, false).send(stage.data).await.unwrap();
                let heard = client.hear(&answer);
                let what = format!("{client:?} {is_stream}: {}", answer.body_text());
                assert_eq!((answer.status, answer.is_stream()), (200, is_stream), "{what}");
                assert_eq!(
                    (heard.text.as_str(), heard.finish, heard.has_ended),
                    (long, "stop", true),
                    "{what}"
                );
                if is_stream && client == Client::Chat {
                    let pieces: Vec<String> = answer
                        .events
                        .iter()
                        .filter_map(|event| serde_json::from_str::<Value>(&event.data).ok())
                        .filter_map(|data| data["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
                        .filter(|piece| !piece.is_empty())
                        .collect();
                    assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [32, long.len() - 32]);
                }
                let seen = last(&provider);
                assert_eq!((seen.path.as_str(), seen.header("authorization")), ("/api/generate", None));
                let sent = seen.json();
                assert_eq!(sent["prompt"], "user: Please look at the sea.");
                assert_eq!(sent["model"], "sonnet");
            }
        }
    }
}

#[tokio::test]
async fn a_bridge_is_no_target_of_a_request_with_tools() {
    let bridge = Provider::start(Reply::ok()).await.unwrap();
    let able = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "providers:\n  bridge: {{kind: claude-bridge, base_url: \"{}\"}}\n  able: {{kind: openai, base_url: \"{}\"}}\n\
         routes:\n  both: {{targets: [{{provider: bridge, model: opus, priority: 1}}, {{provider: able, model: m, priority: 2}}]}}\n  \
         alone: {{targets: [{{provider: bridge, model: opus}}]}}\n",
        bridge.origin(),
        able.base_url(),
    );
    let stage = Stage::open(&yaml).await;
    for client in CLIENTS {
        let answer = client.ask("both", false, true).send(stage.data).await.unwrap();
        assert_eq!((answer.status, trail(&answer)), (200, vec!["able/default:ok".to_owned()]), "{client:?}");
        let answer = client.ask("alone", false, true).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 400, "{client:?}: {}", answer.body_text());
        let answer = client.ask("alone", false, false).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{client:?}: {}", answer.body_text());
    }
    assert_eq!(bridge.count(), 4);
}

#[tokio::test]
async fn a_bridge_may_take_as_long_as_a_whole_answer() {
    let slow =
        Reply::body(200, "application/json", "{\"response\":\"late\"}").after(Duration::from_millis(600));
    let provider = Provider::start(slow).await.unwrap();
    let yaml = format!(
        "timeouts: {{first_content: 200ms}}\nproviders:\n  b: {{kind: generate-bridge, base_url: \"{}\"}}\n\
         routes:\n  chat: {{targets: [{{provider: b, model: m}}]}}\n",
        provider.origin()
    );
    let stage = Stage::open(&yaml).await;
    let answer = Client::Chat.ask("chat", true, false).send(stage.data).await.unwrap();
    assert_eq!(Client::Chat.hear(&answer).text, "late", "{}", answer.body_text());
}

#[tokio::test]
async fn copilot_exchanges_the_github_token_and_is_told_of_images() {
    let named = Provider::start(Reply::ok()).await.unwrap();
    let script = pointsman::standin::grants::copilot(
        "gho-0123456789",
        Some(Duration::from_secs(1800)),
        named.origin(),
    );
    let exchange = Provider::start(script).await.unwrap();
    let login = format!("copilot: {{token: \"gho-0123456789\", endpoint: \"{}\"}}", exchange.origin());
    let stage = with_proof(&named, "kind: copilot", &login, "gpt-x").await;
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    for (content, vision) in [(json!("q"), None), (image, Some("true"))] {
        let body = json!({"model": "chat", "messages": [{"role": "user", "content": content}]});
        let answer = Call::json("/v1/chat/completions", &body).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let seen = last(&named);
        assert_eq!((seen.path.as_str(), seen.version), ("/chat/completions", HttpVersion::Http11));
        assert_eq!(seen.header("authorization"), Some("Bearer tid-1"));
        assert_eq!(seen.header("editor-version"), Some("vscode/1.85.1"));
        assert_eq!(seen.header("copilot-vision-request"), vision);
    }
    for client in [Client::Messages, Client::Gemini] {
        let answer = client.ask("chat", true, false).send(stage.data).await.unwrap();
        assert_eq!(client.hear(&answer).text, GREETING, "{client:?}: {}", answer.body_text());
    }
    let responses = Client::Responses.ask("chat", false, false).send(stage.data).await.unwrap();
    assert_eq!((responses.status, last(&named).path.as_str()), (200, "/responses"));
}

#[cfg(feature = "bedrock")]
#[tokio::test]
async fn requests_to_bedrock_are_signed_over_the_escaped_path() {
    use pointsman::standin::grants::{self, AwsAccount};
    let account = AwsAccount {
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        session_token: None,
        region: "eu-central-1",
        service: "bedrock",
    };
    let provider = Provider::start(grants::aws(account)).await.unwrap();
    let login = format!(
        "aws: {{access_key_id: {}, secret_access_key: \"{}\"}}",
        account.access_key_id, account.secret_access_key
    );
    let stage =
        with_proof(&provider, "kind: bedrock, region: eu-central-1", &login, "arn:aws:bedrock:x/y-v1:0")
            .await;
    for client in CLIENTS {
        for is_stream in [false, true] {
            let answer = client.ask("chat", is_stream, true).send(stage.data).await.unwrap();
            assert_eq!(client.hear(&answer).text, GREETING, "{client:?}: {}", answer.body_text());
        }
    }
    assert!(last(&provider).path.starts_with("/model/arn%3Aaws%3Abedrock%3Ax%2Fy-v1%3A0/converse"));
}

fn status_of(answer: &Answer) -> (u16, Vec<String>) {
    (answer.status, trail(answer))
}

/// What each kind's own errors are taken for, in a head and inside a 200.
#[tokio::test]
async fn errors_of_each_kind_are_understood_and_the_next_target_serves() {
    let broken = Provider::start(Reply::ok()).await.unwrap();
    let sound = Provider::start(Reply::says("rescued")).await.unwrap();
    for (lines, model) in [
        ("kind: gemini", "g"),
        ("kind: vertex, project: p, location: l", "g"),
        ("kind: vertex, project: p, location: l", "claude-x"),
        ("kind: bedrock, region: r", "b"),
        ("kind: cohere", "c"),
        ("kind: ollama", "o"),
        ("kind: generate-bridge", "s"),
    ] {
        if lines.contains("bedrock") && !cfg!(feature = "bedrock") {
            continue;
        }
        let yaml = format!(
            "{}retry: {{same_target: 0, wait_in_place: 0s}}\nproviders:\n  one: {{base_url: \"{}\", credentials: [{{name: k, key: \"{KEY}\"}}], {lines}}}\n  \
             two: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"{KEY}\"}}]}}\n\
             routes:\n  chat: {{targets: [{{provider: one, model: {model}, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}\n",
            crate::scene::FORGETFUL,
            broken.origin(),
            sound.base_url(),
        );
        let stage = Stage::open(&yaml).await;
        let is_bridge = lines.contains("bridge");
        for (reply, told) in [
            (Reply::rate_limited(None), "429"),
            (Reply::status(503), "503"),
            (Reply::error_event(529), ""),
            (Reply::error_after_opening(429), ""),
            (Reply::html(200), ""),
            (Reply::empty(), ""),
            (Reply::reset(), "reset"),
        ] {
            broken.set_script(reply.clone());
            for is_stream in [false, true] {
                if is_bridge && told.is_empty() && is_stream {
                    continue;
                }
                let answer = Client::Messages.ask("chat", is_stream, false).send(stage.data).await.unwrap();
                let (status, trail) = status_of(&answer);
                let what = format!("{lines} {reply:?} {is_stream}: {trail:?} {}", answer.body_text());
                assert_eq!(
                    (status, Client::Messages.hear(&answer).text.as_str()),
                    (200, "rescued"),
                    "{what}"
                );
                assert!(trail[0].starts_with("one/k:") && trail.last().unwrap() == "two/k:ok", "{what}");
                assert!(trail[0].ends_with(told), "{what}");
            }
        }
    }
}
