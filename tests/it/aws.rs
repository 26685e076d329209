//! What do AWS's own SDK and moto make of us?
//!
//! boto3 speaks Bedrock's own dialect, which no client of ours may; so it is no client here but a
//! judge: it calls the stand-in for Bedrock (whose paths and event-stream frames are thereby the real
//! ones), its validators read what we send there, and its signer signs the same requests as we did.
//! moto serves STS and the metadata service. `tests/sdk/aws.py` has the Python; where its packages
//! cannot be had the tests are skipped, loudly.

use crate::sdk::{self, AWS};
use crate::stage::Stage;
use crate::tokens::{ACCOUNT, Platform, one};
use crate::tongues::{ARGUMENTS, CLIENTS, TOOL};
use pointsman::config::{self, Source};
use pointsman::standin::caller::Call;
use pointsman::standin::{GREETING, Provider, Reply, Seen, grants};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const SCRIPT: &str = "tests/sdk/aws.py";
/// Longest time until moto listens (3 s measured).
const START_LIMIT: Duration = Duration::from_secs(60);
const MODELS: [&str; 2] =
    ["eu.anthropic.claude-x-v1:0", "arn:aws:bedrock:eu-central-1:1:inference-profile/x-v1:0"];

fn login() -> String {
    let session = ACCOUNT.session_token.unwrap();
    format!(
        "aws: {{access_key_id: {}, secret_access_key: \"{}\", session_token: \"{session}\", region: eu-central-1}}",
        ACCOUNT.access_key_id, ACCOUNT.secret_access_key
    )
}

/// The route `chat` before a provider of the kind `bedrock`.
async fn bedrock(provider: &Provider, model: &str) -> Stage {
    let yaml = format!(
        "providers:\n  p: {{kind: bedrock, region: eu-central-1, base_url: \"{}\", credentials: [{{name: c, {}}}]}}\n\
         routes:\n  chat: {{targets: [{{provider: p, model: \"{model}\"}}]}}\n",
        provider.origin(),
        login()
    );
    Stage::open(&yaml).await
}

async fn script(arguments: &[&str]) -> bool {
    let Some((is_ok, output)) = sdk::script_in(AWS, SCRIPT, arguments).await else { return false };
    assert!(is_ok, "{output}");
    eprintln!("{output}");
    true
}

#[tokio::test]
async fn boto3_calls_the_stand_in_for_bedrock_and_pointsman_calls_it_by_the_same_paths() {
    let call = json!([TOOL, serde_json::from_str::<Value>(ARGUMENTS).unwrap()]).to_string();
    for model in MODELS {
        for (reply, calls) in [(Reply::ok(), "null"), (Reply::ok().calls(TOOL, ARGUMENTS), call.as_str())] {
            let provider = Provider::start(reply.usage(11, 7)).await.unwrap();
            if !script(&["ask", &provider.origin(), model, GREETING, calls]).await {
                return;
            }
            let paths = |seen: &[Seen]| seen.iter().map(|seen| seen.path.clone()).collect::<Vec<_>>();
            let of_boto3 = provider.seen();
            let wrong = of_boto3.iter().find_map(|seen| grants::signature_fault(seen, &ACCOUNT));
            assert_eq!(wrong, None, "our judge of signatures takes botocore's");
            provider.reset();
            let stage = bedrock(&provider, model).await;
            for is_stream in [false, true] {
                let answer = CLIENTS[0].ask("chat", is_stream, false).send(stage.data).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.body_text());
            }
            assert_eq!(paths(&provider.seen()), paths(&of_boto3));
        }
    }
}

/// Requests that say more than the ones of every client: pictures, documents, tools with their
/// results, choices, schemas, thinking and marks for the cache.
fn rich() -> Vec<Call> {
    let pixel =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let tools = json!([{"type": "function", "function": {"name": "look", "description": "Looks.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}]);
    let called = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"sea\"}"}}]});
    let chat = json!({"model": "chat", "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "max_tokens": 9,
        "tools": tools, "tool_choice": "required", "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{pixel}")}}]},
            called, {"role": "tool", "tool_call_id": "call_1", "content": "blue"}]});
    let messages = json!({"model": "chat", "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "document", "title": "A page",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"}},
                {"type": "text", "text": "Read it.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sea"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true,
                "content": [{"type": "text", "text": "dark"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}]}]}]});
    let responses = json!({"model": "chat", "store": false, "instructions": "Be brief.", "input": "x",
        "reasoning": {"effort": "low"}, "max_output_tokens": 3000,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}});
    let gemini = json!({"systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"topK": 4, "stopSequences": ["END"], "maxOutputTokens": 9},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "tools": [{"functionDeclarations": [{"name": "look"}]}],
        "contents": [{"role": "user", "parts": [{"text": "é"},
            {"inlineData": {"mimeType": "image/png", "data": pixel}}]}]});
    vec![
        Call::json("/v1/chat/completions", &chat),
        Call::json("/v1/messages", &messages),
        Call::json("/v1/responses", &responses),
        Call::json("/v1beta/models/chat:generateContent", &gemini),
    ]
}

#[tokio::test]
async fn botocore_takes_every_body_that_is_sent_to_bedrock_and_signs_it_as_we_do() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    for model in MODELS {
        let stage = bedrock(&provider, model).await;
        let mut calls = rich();
        for client in CLIENTS {
            let forms = [(false, false), (false, true), (true, false), (true, true)];
            calls.extend(forms.map(|(is_stream, has_tools)| client.ask("chat", is_stream, has_tools)));
        }
        for call in calls {
            let answer = call.send(stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body_text());
        }
    }
    // Bedrock's OpenAI-compatible path, with a query and a header that has inner spaces.
    let base = format!("{}/openai/v1", provider.origin());
    let stage = Stage::open(&one(&base, &login(), ", headers: {x-extra: \"a   b\"}")).await;
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "é"}]});
    let call = Call::json("/v1/chat/completions?b=2&a=%3A&c", &body);
    assert_eq!(call.send(stage.data).await.unwrap().status, 200);

    let seen = provider.seen();
    assert_eq!(seen.len(), MODELS.len() * (4 + 16) + 1);
    let told: Vec<Value> = seen
        .iter()
        .map(|seen| {
            json!({"method": seen.method, "path": seen.path, "headers": seen.headers,
                "body": String::from_utf8_lossy(&seen.body),
                "secret": ACCOUNT.secret_access_key})
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.json");
    std::fs::write(&file, Value::from(told).to_string()).unwrap();
    script(&["judge", file.to_str().unwrap()]).await;
}

/// moto in a process of its own, which ends with this value.
struct Moto {
    origin: String,
    _child: Child,
}

impl Moto {
    /// Starts it; none where it cannot be had, which is said.
    async fn start() -> Option<Moto> {
        let mut command: Command = sdk::command(AWS, SCRIPT, &["serve"]).await?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let origin = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("http://127.0.0.1:") {
                    return line;
                }
            }
            panic!("moto ended before it listened");
        };
        let origin = tokio::time::timeout(START_LIMIT, origin).await.expect("moto listens");
        Some(Moto { origin, _child: child })
    }
}

/// Signs a request with keys that come from where `login` says; returns the headers that arrived.
async fn signed_by(login: &str, variables: Vec<(&'static str, String)>) -> Seen {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let yaml = "version: 1\nlisten: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\n"
        .to_owned()
        + &one(&provider.base_url(), login, "");
    let source = Source { name: "test.yaml", text: &yaml, is_private: true, is_variable: false };
    let reading = config::read(&source, &Platform(variables));
    let problems = format!("{:?}", reading.problems);
    let stage = Stage::of(reading.plan.expect(&problems)).await;
    for _ in 0..2 {
        let answer = Call::chat("chat").limit(START_LIMIT).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    }
    provider.last().unwrap()
}

#[tokio::test]
async fn moto_s_sts_gives_keys_for_a_web_identity_and_they_sign() {
    let Some(moto) = Moto::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the.web.identity\n").unwrap();
    let variables = vec![
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/edge".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("AWS_ENDPOINT_URL_STS", moto.origin.clone()),
    ];
    let seen = signed_by("aws: {from: web_identity, region: eu-central-1}", variables).await;
    let proof = seen.header("authorization").unwrap();
    // Keys of a role begin so, at AWS and at moto.
    assert!(proof.starts_with("AWS4-HMAC-SHA256 Credential=ASIA"), "{proof}");
    assert!(seen.header("x-amz-security-token").is_some_and(|token| token.len() > 100), "{seen:?}");
}

#[tokio::test]
async fn moto_s_metadata_service_gives_keys_of_the_instance_and_they_sign() {
    let Some(moto) = Moto::start().await else { return };
    let login = format!("aws: {{from: imds, endpoint: \"{}\", region: eu-central-1}}", moto.origin);
    let seen = signed_by(&login, Vec::new()).await;
    let account = grants::AwsAccount {
        access_key_id: "test-key",
        secret_access_key: "test-secret-key",
        session_token: Some("test-session-token"),
        region: "eu-central-1",
        service: "bedrock",
    };
    assert_eq!(grants::signature_fault(&seen, &account), None, "{seen:?}");
}
