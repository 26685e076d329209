//! What the outside was promised, sentence by sentence, as far as no other test asserts it.
//!
//! Verbs and their JSON (section 1), headers and paths of the data plane (3), paths, methods, ids and
//! the token of the admin plane (4), starting without a file (6), names of metrics (7), lines of the
//! log (8). The rest is where it is done: `exits`, `verbs`, `life`, `client_side`, `pass_through`,
//! `scrape`, `decisions`, `described`.

use crate::process::{HEAD, Launched, Process, Program, SOON, eventually, json, mode, openai};
use pointsman::base::outcome::Outcome;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply, Script};
use serde_json::Value;
use std::collections::BTreeSet;

const KEY: &str = "sk-contract-0123456789";
const TOKEN: &str = "at-contract-0123456789";

struct Scene {
    process: Process,
    one: Provider,
    two: Provider,
}

/// Two providers of three dialects; the second one's model has a slash and a colon in its name.
async fn scene() -> Scene {
    let [one, two] =
        [Provider::start(Reply::ok()).await.unwrap(), Provider::start(Reply::ok()).await.unwrap()];
    let yaml = format!(
        "{HEAD}log: {{format: json}}
retry: {{same_target: 0, wait_in_place: 0ms}}
providers:
{}{}routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: a/b:c, priority: 2}}]}}
default_route: chat
",
        openai("one", &one.base_url(), "KEY"),
        openai("two", &two.base_url(), "KEY"),
    );
    let process = Program::new(&yaml).env("KEY", KEY).start().await;
    Scene { process, one, two }
}

impl Scene {
    async fn verb(&self, arguments: &[&str]) -> (i32, String) {
        let admin = self.process.admin.to_string();
        let all: Vec<&str> = arguments.iter().copied().chain(["--admin", &admin]).collect();
        self.process.program.verb(&all).await
    }

    async fn data(&self, call: Call) -> Answer {
        call.limit(SOON).send(self.process.data).await.unwrap()
    }

    async fn chat(&self, id: &str) -> Answer {
        self.data(Call::chat("chat").header("x-request-id", id)).await
    }
}

// --- 1. The binary ---

/// Every verb that reads, as one types it; the others after them.
const READING: [&[&str]; 14] = [
    &["check", "-c", "CONFIG"],
    &["config", "show", "-c", "CONFIG"],
    &["config", "diff", "-c", "CONFIG"],
    &["status"],
    &["events"],
    &["why", "req-1"],
    &["explain", "--model", "chat"],
    &["target", "list"],
    &["target", "show", "one/k/m"],
    &["account", "list"],
    &["usage"],
    &["provider", "list", "-c", "CONFIG"],
    &["client", "curl"],
    &["version"],
];
const OTHERS: [&[&str]; 13] = [
    &["run"],
    &["demo"],
    &["config", "schema"],
    &["init"],
    &["reload"],
    &["target", "drain"],
    &["target", "disable"],
    &["target", "ready"],
    &["target", "reset"],
    &["target", "pin"],
    &["completions"],
    &["man"],
    &["provider"],
];

#[tokio::test]
async fn every_verb_is_there_and_every_reading_one_has_json() {
    let scene = scene().await;
    assert_eq!(scene.chat("req-1").await.status, 200);
    eventually("the decision is kept", async || scene.process.ask("/v1/decisions/req-1").await.status == 200)
        .await;
    for typed in READING {
        let json: Vec<&str> = typed.iter().copied().chain(["--json"]).collect();
        let asks =
            !["check", "version", "provider"].contains(&typed[0]) && !typed.starts_with(&["config", "show"]);
        let (code, said) =
            if asks { scene.verb(&json).await } else { scene.process.program.verb(&json).await };
        assert_eq!(code, 0, "{typed:?}: {said}");
        let is_json = if typed[0] == "events" {
            said.lines().all(|line| json_of(line).is_some_and(|event| event.is_object()))
        } else {
            // What is said beside it on standard error comes after it.
            let told = said.lines().next().unwrap_or_default();
            json_of(&said).or_else(|| json_of(told)).is_some_and(|told| told.is_object())
        };
        assert!(is_json && !said.trim().is_empty(), "{typed:?}: {said}");
        let (code, said) =
            if asks { scene.verb(typed).await } else { scene.process.program.verb(typed).await };
        assert!(code == 0 && json_of(&said).is_none(), "{typed:?} is for people: {said}");
    }
    for typed in OTHERS {
        let help: Vec<&str> = typed.iter().copied().chain(["--help"]).collect();
        let (code, said) = scene.process.program.verb(&help).await;
        let usage = format!("Usage: pointsman {}", typed.join(" "));
        assert!(code == 0 && said.contains(&usage), "{typed:?}: {said}");
    }
    let (code, said) = scene.verb(&["reload", "--json"]).await;
    assert_eq!((code, &json_of(&said).unwrap()["generation"]), (0, &2.into()), "{said}");
}

fn json_of(text: &str) -> Option<Value> {
    json(text.trim())
}

#[tokio::test]
async fn what_verbs_say_for_people_holds_what_the_process_knows() {
    let scene = scene().await;
    scene.one.set_script(Reply::rate_limited(Some("60")));
    assert_eq!(scene.chat("req-1").await.status, 200);
    eventually("the decision is kept", async || scene.process.ask("/v1/decisions/req-1").await.status == 200)
        .await;
    let cases: [(&[&str], &[&str]); 6] = [
        (&["why", "req-1"], &["one/k/m", "rate limited", "429", "two/k/a/b:c", "ok"]),
        (&["explain", "--model", "chat"], &["one/k/m", "cooling", "would go to two/k/a/b:c"]),
        (&["explain", "--model", "chat", "--dialect", "anthropic"], &["would go to two/k/a/b:c"]),
        (&["events"], &["failover", "one/k/m", "rate_limited"]),
        (&["usage", "--by", "target"], &["two/k/a/b:c", "total", "1"]),
        (&["account", "list"], &["one/k", "two/k", "key"]),
    ];
    for (typed, words) in cases {
        let (code, said) = scene.verb(typed).await;
        assert_eq!(code, 0, "{typed:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{typed:?}: {said}");
        assert!(!said.contains('\x1b'), "escapes in a pipe: {said:?}");
    }
    // Nobody can be chosen: 69, with the reasons.
    let token = scene.process.token();
    scene.process.post("/v1/targets/two/k/a/b:c:drain", &token).await;
    let (code, said) = scene.verb(&["explain", "--model", "chat"]).await;
    assert!(code == 69 && said.contains("drained"), "{code} {said}");
    let (code, said) = scene.verb(&["why", "never-sent"]).await;
    assert!(code == 64 && said.contains("never-sent"), "{code} {said}");
}

// --- 3. The data plane ---

const TOLD: [&str; 8] = [
    "x-request-id",
    "x-used-provider",
    "x-used-model",
    "x-used-fallback",
    "x-attempts",
    "x-circuit-breaker-state",
    "x-provider-response-time",
    "x-pointsman-trail",
];

/// Every call of the data plane.
fn calls() -> Vec<Call> {
    let chat = serde_json::json!({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]});
    let mut message = chat.clone();
    message["max_tokens"] = 64.into();
    let generate = serde_json::json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    vec![
        Call::json("/v1/chat/completions", &chat),
        Call::chat_stream("chat"),
        Call::json("/v1/completions", &serde_json::json!({"model": "chat", "prompt": "Hello"})),
        Call::json("/v1/embeddings", &serde_json::json!({"model": "chat", "input": "Hello"})),
        Call::json("/v1/responses", &serde_json::json!({"model": "chat", "input": "Hello", "store": false})),
        Call::json("/v1/messages", &message),
        Call::json("/v1beta/models/chat:generateContent", &generate),
        Call::json("/v1beta/models/chat:streamGenerateContent", &generate),
    ]
}

#[tokio::test]
async fn every_answer_of_a_model_says_where_it_came_from() {
    let scene = scene().await;
    for call in calls() {
        let answer = scene.data(call.clone()).await;
        assert_eq!(answer.status, 200, "{call:?}: {}", answer.body_text());
        for name in TOLD {
            assert!(answer.header(name).is_some_and(|value| !value.is_empty()), "{call:?} lacks {name}");
        }
        assert_eq!(answer.header("x-used-provider"), Some("one"), "{call:?}");
        assert_eq!(answer.header("x-used-model"), Some("m"), "{call:?}");
        assert_eq!(answer.header("x-used-fallback"), Some("false"), "{call:?}");
        assert_eq!(answer.header("x-attempts"), Some("1"), "{call:?}");
        assert_eq!(answer.header("x-pointsman-trail"), Some("one/k:ok"), "{call:?}");
    }
    // Nobody answers: how often it was tried, what was seen, and whether to come again.
    let refusing = "cooldown: {default: 0s, max: 0s, quota: 0s, quota_max: 0s, auth: 0s, auth_max: 0s}\nbreaker: {enabled: false}\n";
    let yaml = std::fs::read_to_string(scene.process.program.config()).unwrap() + refusing;
    assert!(scene.process.reload(&yaml).await.is_last_good);
    for (reply, trail) in [(Reply::status(500), "500"), (Reply::status(503), "503")] {
        scene.one.set_script(reply.clone());
        scene.two.set_script(reply);
        for call in calls() {
            let answer = scene.data(call.clone()).await;
            assert!([502, 503].contains(&answer.status), "{call:?}: {}", answer.status);
            assert_eq!(answer.header("x-attempts"), Some("2"), "{call:?}");
            let want = format!("one/k:{trail},two/k:{trail}");
            assert_eq!(answer.header("x-pointsman-trail"), Some(&*want), "{call:?}");
            assert!(answer.header("x-request-id").is_some(), "{call:?}");
            let body = answer.body_text();
            assert!(
                body.contains("upstream_error") || body.contains("all_targets_unavailable"),
                "{call:?}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_trail_is_at_most_one_kibibyte() {
    let provider = Provider::start(Reply::status(500)).await.unwrap();
    let name = "a-provider-with-a-name-that-nobody-would-want-to-type-twice";
    let providers: String =
        (0..30).map(|at| openai(&format!("{name}-{at}"), &provider.base_url(), "KEY")).collect();
    let targets: Vec<String> = (0..30).map(|at| format!("{{provider: {name}-{at}, model: m}}")).collect();
    let yaml = format!(
        "{HEAD}retry: {{failovers: 30, same_target: 0, budget_ratio: 1, budget_min_per_second: 1000}}\nproviders:\n{providers}routes:\n  chat: {{targets: [{}]}}\n",
        targets.join(", ")
    );
    let process = Program::new(&yaml).env("KEY", KEY).start().await;
    let answer = Call::chat("chat").limit(SOON).send(process.data).await.unwrap();
    let trail = answer.header("x-pointsman-trail").unwrap();
    assert!(provider.count() > 10, "{}", provider.count());
    assert!(trail.len() <= 1024 && trail.contains(name), "{} bytes: {trail}", trail.len());
}

// --- 4. The admin plane ---

#[tokio::test]
async fn every_path_of_the_admin_plane_has_its_type_and_its_methods() {
    let scene = scene().await;
    assert_eq!(scene.chat("req-1").await.status, 200);
    eventually("the decision is kept", async || scene.process.ask("/v1/decisions/req-1").await.status == 200)
        .await;
    let (admin, token) = (scene.process.admin, scene.process.token());
    let json = "application/json";
    for (path, kind) in [
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/v1/status", json),
        ("/v1/routes", json),
        ("/v1/targets", json),
        ("/v1/targets/one/k/m", json),
        ("/v1/targets/one%2Fk%2Fm", json),
        ("/v1/targets/two/k/a/b:c", json),
        ("/v1/targets/two%2Fk%2Fa%2Fb%3Ac", json),
        ("/v1/accounts", json),
        ("/v1/config", json),
        ("/v1/decisions", json),
        ("/v1/decisions/req-1", json),
        ("/v1/usage", json),
        ("/v1/openapi.json", json),
        ("/admin/providers/status", json),
    ] {
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = Call::get(&path).limit(SOON).send(admin).await.unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
            assert_eq!(answer.header("content-type"), Some(kind), "{path}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            let head = Call::get(&path).method("HEAD").limit(SOON).send(admin).await.unwrap();
            assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
        }
        // Behind the last colon of an id a verb is looked for.
        let methods = ["PUT", "DELETE", "PATCH", "POST"];
        for method in &methods[..if path.contains(':') || path.contains("%3A") { 3 } else { 4 }] {
            let answer =
                Call::post(path, "").method(method).bearer(&token).limit(SOON).send(admin).await.unwrap();
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        }
    }
    for path in ["/v1/explain", "/v1/reload", "/v1/usage/reports", "/admin/providers/m/one/reset"] {
        let answer = Call::get(path).bearer(&token).limit(SOON).send(admin).await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{path}");
    }
    for path in ["/v1", "/v1/nothing", "/v1/targets/", "/admin", "/v1/chat/completions", "/v2/status"] {
        let answer = Call::get(path).limit(SOON).send(admin).await.unwrap();
        assert!([200, 404].contains(&answer.status), "{path}: {}", answer.status);
        let is_list = path == "/v1/targets/";
        assert_eq!(answer.status == 200, is_list, "{path}");
    }
    let events = Call::get("/v1/events").leaving_after_head().limit(SOON).send(admin).await.unwrap();
    assert_eq!((events.status, events.header("content-type")), (200, Some("text/event-stream")));
}

#[tokio::test]
async fn verbs_take_ids_raw_and_encoded_and_the_verb_is_behind_the_last_colon() {
    let scene = scene().await;
    let token = scene.process.token();
    for id in ["two/k/a/b:c", "two%2Fk%2Fa%2Fb%3Ac", "two/k/a%2Fb:c"] {
        for (verb, state) in
            [("drain", "drained"), ("ready", "ready"), ("disable", "disabled"), ("ready", "ready")]
        {
            let answer = scene.process.post(&format!("/v1/targets/{id}:{verb}"), &token).await;
            assert_eq!(answer.status, 200, "{id}:{verb}: {}", answer.body_text());
            let told = answer.json();
            assert_eq!((&told["id"], &told["state"]), (&"two/k/a/b:c".into(), &state.into()), "{id}:{verb}");
        }
    }
    let pinned = scene.process.post("/v1/targets/two/k/a/b:c:pin", &token).await.json();
    assert_eq!(pinned["pinned"][0]["route"], "chat");
    assert_eq!(scene.chat("pinned").await.header("x-used-provider"), Some("two"));
    let reset = scene.process.post("/v1/targets/two/k/a/b:c:reset", &token).await;
    assert_eq!(reset.status, 200);
    let unknown = scene.process.post("/v1/targets/two/k/a/b:c:explode", &token).await;
    assert_eq!(unknown.status, 404, "{}", unknown.body_text());
    for path in
        ["/v1/targets/one/k/m:drain", "/v1/reload", "/v1/usage/reports", "/admin/providers/m/one/reset"]
    {
        for call in [Call::post(path, ""), Call::post(path, "").bearer("not-the-token")] {
            let answer = call.limit(SOON).send(scene.process.admin).await.unwrap();
            assert_eq!(answer.status, 401, "{path}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        }
    }
    assert_eq!(scene.process.target("one/k/m").await["state"], "ready", "and nothing has changed");
}

#[tokio::test]
async fn switchs_paths_are_served() {
    let scene = scene().await;
    scene.one.set_script(Reply::rate_limited(Some("60")));
    assert_eq!(scene.chat("req-1").await.status, 200);
    eventually("its answer is counted", async || {
        let told = scene.process.ask_json("/admin/providers/status").await;
        told["chat-two"]["metrics"]["successfulRequests"] == 1
    })
    .await;
    assert_eq!(scene.process.target("one/k/m").await["state"], "cooling");
    let token = scene.process.token();
    assert_eq!(scene.process.post("/admin/providers/chat/one/reset", &token).await.status, 200);
    assert_eq!(scene.process.target("one/k/m").await["state"], "ready");
}

#[tokio::test]
async fn decisions_and_explanations_have_the_shape_that_was_promised() {
    let scene = scene().await;
    scene.one.set_script(Reply::rate_limited(Some("60")));
    for id in ["moved", "skipped"] {
        assert_eq!(scene.chat(id).await.status, 200);
        let path = format!("/v1/decisions/{id}");
        eventually("the decision is kept", async || scene.process.ask(&path).await.status == 200).await;
    }
    let moved = scene.process.ask_json("/v1/decisions/moved").await;
    let skipped = scene.process.ask_json("/v1/decisions/skipped").await;
    let question = Call::json("/v1/explain", &serde_json::json!({"model": "chat"}));
    let explained = question.limit(SOON).send(scene.process.admin).await.unwrap().json();
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let has = |of: &Value, wanted: &[&str]| wanted.iter().all(|name| names(of).contains(*name));
    for (decision, is_made) in [(&moved, true), (&skipped, true), (&explained, false)] {
        assert!(has(decision, &["generation", "route", "candidates", "attempts"]), "{decision}");
        assert_eq!(has(decision, &["request_id"]), is_made, "{decision}");
        assert_eq!(decision["status"], if is_made { 200.into() } else { Value::Null }, "{decision}");
        let order: Vec<&str> = decision["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["target"].as_str().unwrap())
            .collect();
        assert_eq!(order, ["one/k/m", "two/k/a/b:c"], "in the order of choice");
        for candidate in decision["candidates"].as_array().unwrap() {
            assert!(has(candidate, &["target", "priority", "state", "reason"]), "{candidate}");
            let state = candidate["state"].as_str().unwrap();
            assert!(["tried", "chosen", "skipped", "not_reached"].contains(&state), "{candidate}");
        }
        for attempt in decision["attempts"].as_array().unwrap() {
            let wanted = ["target", "outcome", "status", "started_ms", "ttfc_ms", "dur_ms"];
            assert!(has(attempt, &wanted), "{attempt}");
        }
        assert_eq!(decision["attempts"].as_array().unwrap().is_empty(), !is_made);
    }
    for resting in [&skipped, &explained] {
        assert_eq!(resting["candidates"][0]["state"], "skipped");
        assert!(resting["candidates"][0]["until"].is_string(), "{resting}");
    }
}

#[tokio::test]
async fn it_is_ready_whatever_its_providers_do() {
    let scene = scene().await;
    scene.one.set_script(Reply::status(401));
    scene.two.set_script(Reply::status(401));
    assert_eq!(scene.chat("req-1").await.status, 502);
    let health = Call::get("/health").limit(SOON).send(scene.process.data).await.unwrap();
    assert_eq!((health.status, &health.json()["status"]), (503, &"down".into()));
    for path in ["/livez", "/readyz"] {
        assert_eq!(scene.process.ask(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn where_others_can_reach_it_a_token_is_wanted_for_all_but_health_and_metrics() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let yaml = |token: &str| {
        format!(
            "{}log: {{format: json}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
            HEAD.replace(
                "admin: {address: \"127.0.0.1:0\"}",
                &format!("admin: {{address: \"0.0.0.0:0\"{token}}}")
            ),
            openai("one", &provider.base_url(), "KEY"),
        )
    };
    let bare = Program::new(&yaml("")).env("KEY", KEY);
    let (code, said) = bare.verb(&["run", "-c", "CONFIG"]).await;
    assert!(code == 78 && said.contains("admin.address") && said.contains("token"), "{code} {said}");

    let launched: Launched =
        Program::new(&yaml(", token: {env: TOKEN}")).env("KEY", KEY).env("TOKEN", TOKEN).launch();
    let (ready, mut process) = launched.until_ready().await;
    assert!(ready.is_some(), "{}", process.said());
    process.admin.set_ip([127, 0, 0, 1].into());
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(process.ask(path).await.status, 200, "{path}");
    }
    for path in ["/v1/status", "/v1/events", "/v1/openapi.json", "/admin/providers/status", "/nothing", "/ui"]
    {
        let answer = process.ask(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").is_some(), "{path}");
    }
    let own = Call::get("/v1/status").bearer(TOKEN).limit(SOON).send(process.admin).await.unwrap();
    assert_eq!(own.status, 200);
    assert!(
        !process.program.path("run/pointsman/admin-token").exists(),
        "none is made beside one that is set"
    );
}

#[tokio::test]
async fn a_token_that_is_made_at_start_lies_where_the_command_line_finds_it() {
    let provider = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "{HEAD}log: {{format: json}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\n",
        openai("one", &provider.base_url(), "KEY")
    );
    // As systemd says it; it comes before XDG_RUNTIME_DIR.
    let program = Program::new(&yaml).env("KEY", KEY);
    let folder = program.path("systemd");
    let process = program.env("RUNTIME_DIRECTORY", folder.to_str().unwrap()).start().await;
    let file = folder.join("admin-token");
    assert_eq!(mode(&file), 0o600);
    assert!(!process.program.path("run/pointsman/admin-token").exists());
    let token = std::fs::read_to_string(&file).unwrap();
    assert!(token.trim().len() >= 32, "{} signs", token.trim().len());
    let admin = process.admin.to_string();
    let (code, said) = process.program.verb(&["target", "drain", "one/k/m", "--admin", &admin]).await;
    assert_eq!(code, 0, "{said}");
    assert!(!process.said().contains(token.trim()), "it stands in no log");
}

// --- 6. Without a file ---

#[tokio::test]
async fn without_a_file_it_says_what_it_found_and_how_to_use_it() {
    let program = Program::new("")
        .env("OPENAI_API_KEY", "sk-first-zero-config-abcd")
        .env("OPENAI_API_KEY_2", "sk-second-zero-config-efgh")
        .env("ANTHROPIC_API_KEY_WORK", "sk-ant-work-zero-config-ijkl")
        .env("OLLAMA_HOST", "127.0.0.1:9")
        .env("AWS_BEARER_TOKEN_BEDROCK", "aws-zero-config-0123456789");
    let mut command = program.command(&["run"]);
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    for pipe in [
        Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
        Box::new(child.stderr.take().unwrap()),
    ] {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(pipe)).map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    // The usual ports may be taken here; what was found is said before they are bound.
    while let Ok(line) = receiver.recv_timeout(SOON) {
        said += &line;
        said.push('\n');
        if line.contains("ANTHROPIC_BASE_URL") || line.contains("cannot") {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    for word in ["openai", "anthropic", "ollama", "abcd", "efgh", "ijkl"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("  AWS_BEARER_TOKEN_BEDROCK is left out: AWS_REGION is not set"), "{said}");
    for secret in ["sk-first", "config-abcd", "sk-second", "sk-ant", "config-ijkl"] {
        assert!(!said.contains(secret), "only the last four signs: {said}");
    }
    if !said.contains("cannot") {
        assert!(said.contains("export OPENAI_BASE_URL=http://127.0.0.1:"), "{said}");
        assert!(said.contains("export ANTHROPIC_BASE_URL=http://127.0.0.1:"), "{said}");
    }
}

// --- 7. Metrics ---

#[tokio::test]
async fn a_lost_stream_and_told_limits_have_their_metrics() {
    let scene = scene().await;
    scene.one.set_script(
        Script::of([Reply::reset_after(2)]).then(Reply::ok().header("x-ratelimit-remaining-requests", "59")),
    );
    let lost = scene.data(Call::chat_stream("chat")).await;
    assert!(lost.has_end_marker(), "{}", lost.body_text());
    assert_eq!(scene.data(Call::chat("one/m")).await.status, 200);
    let page = scene.process.metrics().await;
    let series = |start: &str| {
        page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {page}"))
    };
    let rescue = series("pointsman_rescues_total{");
    assert!(rescue.contains("route=\"chat\"") && rescue.contains("result=\"rescued\""), "{rescue}");
    let left = series("pointsman_ratelimit_remaining{");
    assert!(
        left.contains("target=\"one/k/m\"") && left.contains("kind=\"requests\"") && left.ends_with(" 59"),
        "{left}"
    );
    // Every metric is ours or the process's own, and each value of `code_class` is a class.
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("pointsman_") || line.starts_with("process_"), "{line}");
    }
}

#[test]
fn outcomes_are_the_closed_list_of_the_contract() {
    let promised = "ok rate_limited quota auth permission region model_unavailable too_large overloaded server_error client_error content_filtered context_length connect dns tls timeout_first_content timeout_stall timeout_total reset truncated bad_body inband_error client_gone";
    let ours: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_label()).collect();
    assert_eq!(ours.join(" "), promised);
}

// --- 8. Log ---

/// The names of a line's fields in their order.
fn fields(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = line;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((name, behind)) = after.split_once("\":") else { break };
        names.push(name.to_owned());
        // Values of these lines hold no quotes and no commas of their own but trails.
        rest = match behind.strip_prefix('"') {
            Some(text) => text.split_once('"').map_or("", |(_, rest)| rest),
            None => behind,
        };
    }
    names
}

#[tokio::test]
async fn lines_of_the_log_have_the_fields_that_were_promised_in_their_order() {
    let scene = scene().await;
    scene.one.set_script(Reply::rate_limited(Some("60")));
    assert_eq!(scene.chat("req-1").await.status, 200);
    eventually("both lines are there", async || {
        !scene.process.log_of("request").is_empty() && !scene.process.log_of("target_state").is_empty()
    })
    .await;
    let said = scene.process.said();
    let line = |msg: &str| {
        said.lines().find(|line| line.contains(&format!("\"msg\":\"{msg}\""))).unwrap().to_owned()
    };
    let request = "ts level msg id route client dialect model target attempts trail status stream ttfc_ms dur_ms overhead_us in_tokens out_tokens cost_usd generation";
    assert_eq!(fields(&line("request")).join(" "), request);
    assert_eq!(fields(&line("target_state")).join(" "), "ts level msg target from to reason until next");
    let told = json(&line("target_state")).unwrap();
    let words = ["target", "from", "to", "reason", "next"].map(|name| told[name].as_str().unwrap());
    assert_eq!(words, ["one/k/m", "ready", "cooling", "rate_limited", "two/k/a/b:c"], "{told}");
    assert!(told["until"].is_string());
}
