//! Does a key ever show where it should not?
//!
//! Every secret that the process holds or is shown is a string of its own that is then looked for
//! in everything that comes out of it: both output streams at level `trace`, every page of the
//! admin plane (events as they are told among them), the audit log, every answer to a client that is an error, and every byte that each provider got.
//! (Issue "first light", threats L1, A2, C1 and P3.)

use crate::process::{HEAD, Process, Program, SOON, signal};
use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{Place, Provider, Reply, Script, Seen, Twist};
use std::time::Duration;

/// The client keys, one a form. The last two are references like any other.
const CLIENTS: [(&str, &str); 5] = [
    ("bearer", "ck-canary-bearer-7f3a91c2d4"),
    ("x-api-key", "ck-canary-xapikey-55b0e1a7f9"),
    ("api-key", "ck-canary-apikey-90c4d2e8b6"),
    ("x-goog-api-key", "ck-canary-goog-1be7a3059d"),
    ("query", "ck-canary-query-c86f20d4a1"),
];

const KEY_A: &str = "sk-canary-env-4e1d7c92ab60";
const KEY_B: &str = "sk-canary-file-b3f80a6597de";
const KEY_C: &str = "sk-canary-literal-8a25c7f013";
const KEY_D: &str = "sk-ant-canary-env-6d90e2b47f";
const TOKEN: &str = "at-canary-token-2f6b8d10c3e5";

/// What clients send beside their key, and nobody else may see.
const STRAYS: [(&str, &str); 5] = [
    ("cookie", "session=ck-canary-cookie-d7a1"),
    ("proxy-authorization", "Basic ck-canary-proxyauth-e4b2"),
    ("openai-organization", "org-canary-09ab"),
    ("openai-project", "proj-canary-71cd"),
    ("x-amz-security-token", "ck-canary-amz-5512"),
];

/// What somebody tries who has no key.
const GUESSES: [&str; 3] =
    ["ck-canary-guess-header-31", "ck-canary-guess-query-32", "at-canary-guess-token-33"];

/// What a client says to a model. Providers get it, and nobody else.
const PROMPT: &str = "prompt-canary-52d8e0b7c9";

fn config(a: &Provider, b: &Provider, c: &Provider, d: &Provider) -> String {
    let client = |(form, _): (&str, &str)| {
        format!("  - {{name: {form}, key: {{env: {}}}, routes: [\"*\"]}}\n", variable_of(form))
    };
    let clients: String = CLIENTS.map(client).concat();
    let head = HEAD
        .replace("admin: {address: \"127.0.0.1:0\"", "admin: {address: \"127.0.0.1:0\", token: {env: TOKEN}");
    format!(
        "{head}log: {{level: trace, format: json}}
audit: {{path: AUDITFILE}}
timeouts: {{connect: 500ms, first_content: 100ms, response: 200ms, stall: 100ms, stall_last: 150ms, total: 300ms}}
retry: {{wait_in_place: 0ms, same_target: 0, backoff: {{base: 1ms, max: 1ms, jitter: none}}}}
cooldown: {{default: 0s, max: 0s, quota: 0s, quota_max: 0s, auth: 0s, auth_max: 0s}}
breaker: {{enabled: false}}
clients:
{clients}providers:
  a: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_A}}}}]}}
  b: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{file: KEYFILE}}}}]}}
  c: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"{KEY_C}\"}}]}}
  d: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_D}}}}]}}
routes:
  chat:
    targets:
      - {{provider: a, model: m, priority: 1}}
      - {{provider: b, model: m, priority: 2}}
      - {{provider: c, model: m, priority: 3}}
      - {{provider: d, model: m, priority: 3}}
  bad: {{targets: [{{provider: a, model: m, priority: 1}}, {{provider: b, model: m, priority: 2}}]}}
  alone: {{targets: [{{provider: a, model: m}}]}}
default_route: chat
",
        a.base_url(),
        b.base_url(),
        c.base_url(),
        d.origin()
    )
}

/// Returns the variable that holds a client's key.
fn variable_of(form: &str) -> String {
    format!("CLIENT_{}", form.replace('-', "_").to_uppercase())
}

/// A call that shows this client's key in its form, with all that clients should keep to themselves.
fn call_as((form, key): (&str, &str), call: Call, path: &str) -> Call {
    let call = match form {
        "bearer" => call.bearer(key),
        "query" => {
            let joint = if path.contains('?') { '&' } else { '?' };
            call.path(&format!("{path}{joint}key={key}"))
        }
        header => call.header(header, key),
    };
    STRAYS.iter().fold(call.limit(SOON), |call, (name, value)| call.header(name, value))
}

/// An answer that repeats the key it was called with, in its head and in its words.
fn telltale(reply: Reply, key: &str) -> Reply {
    reply
        .message(&format!("Incorrect API key provided: {key}. You can find your API key at https://x.test"))
        .header("x-debug-key", key)
        .header("www-authenticate", &format!("Bearer realm=\"{key}\""))
        .header("set-cookie", &format!("key={key}"))
        .header("x-request-id", key)
}

/// Everything that can go wrong with an answer, each time with the key in it.
fn failures(key: &'static str) -> Vec<Reply> {
    let mut replies: Vec<Reply> =
        [400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529, 301, 307]
            .into_iter()
            .map(|status| telltale(Reply::status(status), key))
            .collect();
    let body = |status, kind: &str| {
        telltale(Reply::body(status, kind, format!("<p>{key}</p> key={key} \"{key}\"")), key)
    };
    replies.extend([
        body(500, "text/html"),
        body(400, "text/plain"),
        body(400, "application/json"),
        body(200, "text/html"),
        telltale(
            Reply::body(200, "application/json", format!("{{\"error\":{{\"message\":\"{key}\"}}}}")),
            key,
        ),
        telltale(Reply::error_event(500), key),
        telltale(Reply::error_event(401), key),
        telltale(Reply::error_after_opening(529), key),
        telltale(Reply::error_after(2, 500), key),
        telltale(Reply::ok(), key)
            .at(Place::AfterTokens(2), Twist::Insert(format!(": {key}\n\n").into()))
            .at(Place::AfterTokens(2), Twist::Close),
        Reply::reset(),
        Reply::close(),
        Reply::silence(),
        Reply::silence_after_head(),
        Reply::stall_after(2),
        Reply::reset_after(2),
        Reply::truncated(),
        Reply::bad_json(),
        Reply::empty(),
        Reply::status(302).header("location", &format!("http://127.0.0.1:1/{key}")),
        Reply::status(400).message(&format!("{} {key}", "long ".repeat(10_000))),
        telltale(Reply::big_head(100 << 10), key),
        telltale(Reply::status(400), key).gzipped(),
    ]);
    replies
}

struct Crime {
    process: Process,
    a: Provider,
    b: Provider,
    c: Provider,
    d: Provider,
    /// What clients got, those answers that are errors.
    errors: Vec<(u16, String)>,
    heads: Vec<String>,
}

impl Crime {
    async fn begin() -> Crime {
        let a = Provider::start(Reply::says("a")).await.unwrap();
        let b = Provider::start(Reply::says("b")).await.unwrap();
        let c = Provider::start(Reply::says("c")).await.unwrap();
        let d = Provider::start(Reply::says("d")).await.unwrap();
        let mut program = Program::new("")
            .env("KEY_A", KEY_A)
            .env("KEY_D", KEY_D)
            .env("TOKEN", TOKEN)
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        for (form, key) in CLIENTS {
            program = program.env(&variable_of(form), key);
        }
        let file = program.write("key-b", &format!("{KEY_B}\n"));
        let audit = program.path("audit.log");
        let yaml = config(&a, &b, &c, &d).replace("KEYFILE", file.to_str().unwrap());
        program.configure(&yaml.replace("AUDITFILE", audit.to_str().unwrap()));
        let process = program.start().await;
        Crime { process, a, b, c, d, errors: Vec::new(), heads: Vec::new() }
    }

    /// Sends a call and keeps what may not hold a key: heads always, of bodies what is an error.
    /// (The part of an answer that came before is the provider's word to the client, byte for byte.)
    async fn commit(&mut self, call: &Call) -> Option<Answer> {
        let answer = call.send(self.process.data).await.ok()?;
        self.heads.push(format!("{:?}", answer.headers));
        let is_part = answer.is_stream() && !answer.text().is_empty();
        match answer.error() {
            Some(error) if is_part => self.errors.push((answer.status, error.to_string())),
            Some(_) => self.errors.push((answer.status, answer.body_text())),
            None if answer.status != 200 => self.errors.push((answer.status, answer.body_text())),
            None => {}
        }
        Some(answer)
    }

    /// Ends every rest that a failure has earned.
    async fn wake(&self) {
        for target in ["a/k/m", "b/k/m"] {
            let answer = self.process.post(&format!("/v1/targets/{target}:reset"), TOKEN).await;
            assert_eq!(answer.status, 200, "{}", answer.body_text());
        }
    }

    async fn every_failure(&mut self) {
        for (turn, (mine, other)) in failures(KEY_A).into_iter().zip(failures(KEY_B)).enumerate() {
            self.a.set_script(Script::always(mine));
            self.b.set_script(Script::always(other));
            let client = CLIENTS[turn % CLIENTS.len()];
            for route in ["chat", "bad", "alone"] {
                for call in [Call::chat(route), Call::chat_stream(route)] {
                    self.wake().await;
                    let before = self.a.count();
                    self.commit(&call_as(client, call, "/v1/chat/completions")).await;
                    assert!(self.a.count() > before, "failure {turn} was never seen");
                }
            }
        }
        // Where Pingora passes it through, hook by hook, in one piece and byte by byte.
        for status in [400, 401, 403, 404, 429, 500, 503] {
            for reply in [Reply::status(status), Reply::status(status).drip(Duration::ZERO)] {
                self.a.set_script(telltale(reply, KEY_A));
                let upload = Call::post("/v1/audio/speech", "text").chunked();
                for (call, path) in [(Call::get("/v1/files"), "/v1/files"), (upload, "/v1/audio/speech")] {
                    self.wake().await;
                    let answer = self.commit(&call_as(CLIENTS[0], call, path)).await.unwrap();
                    assert_eq!(answer.end, BodyEnd::Clean, "{status}");
                    // A refused key is told in our own words (row 13); else the provider's come through.
                    let words = if status == 401 { "upstream_auth" } else { "Incorrect API key" };
                    assert!(answer.body_text().contains(words), "{}", answer.body_text());
                }
            }
        }
        self.wake().await;
        self.a.set_script(Reply::says("a"));
        self.b.set_script(Reply::says("b"));
    }

    async fn every_form_and_path(&mut self) {
        for client in CLIENTS {
            for (call, path) in [
                (Call::chat("chat"), "/v1/chat/completions"),
                (Call::chat_stream("chat"), "/v1/chat/completions"),
                (Call::message("chat", true), "/v1/messages?beta=true"),
                (Call::message("d/m", false), "/v1/messages"),
                (Call::json("/v1/chat/completions", &prompt()), "/v1/chat/completions"),
                (Call::get("/v1/models"), "/v1/models"),
                (
                    Call::json("/v1/embeddings", &serde_json::json!({"model": "chat", "input": "x"})),
                    "/v1/embeddings",
                ),
                (
                    Call::post("/v1/files", "a file")
                        .header("content-type", "multipart/form-data; boundary=x"),
                    "/v1/files",
                ),
                (Call::get("/v1/files/file-1"), "/v1/files/file-1?after=1"),
                (Call::get("/v1/batches").method("DELETE"), "/v1/batches/b1"),
                (Call::get("/nowhere"), "/nowhere"),
                (Call::chat("no-such-model"), "/v1/chat/completions"),
                (Call::post("/v1/chat/completions", "{\"model\": "), "/v1/chat/completions"),
            ] {
                let answer = self.commit(&call_as(client, call.path(path), path)).await;
                let status = answer.map_or(0, |answer| answer.status);
                assert_ne!(status, 401, "{client:?} is not let in at {path}");
            }
        }
        let (_, key) = CLIENTS[0];
        // All five forms at once, twice the same header, odd case; and over HTTP/2's rules of names.
        let both = CLIENTS[1..4]
            .iter()
            .fold(Call::chat("chat").bearer(key), |call, (form, _)| call.header(form, key));
        self.commit(
            &both.path(&format!("/v1/chat/completions?KEY={key}&key={key}&api_key={key}&access_token={key}")),
        )
        .await;
        self.commit(
            &Call::chat("chat").header("AUTHORIZATION", &format!("bearer   {key}")).header("X-Api-Key", key),
        )
        .await;
    }

    async fn strangers(&mut self) {
        for call in [
            Call::chat("chat").bearer(GUESSES[0]),
            Call::chat("chat").header("x-api-key", GUESSES[0]),
            Call::chat("chat").path(&format!("/v1/chat/completions?key={}", GUESSES[1])),
            Call::get(&format!("/nowhere?key={}", GUESSES[1])),
            Call::chat("chat"),
        ] {
            let answer = self.commit(&call).await.unwrap();
            assert!(answer.status == 401 || answer.status == 404, "{}", answer.status);
        }
        // Broken requests, whose heads Pingora may want to tell about.
        let address = self.process.data;
        for text in [
            format!(
                "POST /v1/chat/completions?key={} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{",
                CLIENTS[4].1
            ),
            format!("GET / HTTP/1.1\r\nAuthorization: Bearer {}\r\nBad Header: x\r\n\r\n", CLIENTS[0].1),
            format!("{} {} nonsense\r\n\r\n", CLIENTS[0].1, CLIENTS[1].1),
            format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: {}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                CLIENTS[1].1
            ),
        ] {
            let _ =
                pointsman::standin::caller::raw(address, text.as_bytes(), Duration::from_millis(200)).await;
        }
        // Clients that leave in the middle.
        self.a.set_script(Reply::silence());
        let call = call_as(CLIENTS[4], Call::chat_stream("alone"), "/v1/chat/completions");
        let _ = call.leaving_after(Duration::from_millis(50)).send(address).await;
        self.a.set_script(Reply::says("a"));
        // And at the operator's door.
        let admin = self.process.admin;
        for call in [
            Call::post("/v1/reload", "").bearer(GUESSES[2]),
            Call::post("/v1/reload", "").header("host", "evil.test").bearer(TOKEN),
            Call::post(&format!("/v1/reload?token={TOKEN}"), ""),
            Call::post("/v1/targets/a%2Fk%2Fm:drain", "").bearer(TOKEN),
            Call::post("/v1/targets/a%2Fk%2Fm:ready", "").bearer(TOKEN),
        ] {
            let answer = call.send(admin).await.unwrap();
            self.heads.push(format!("{:?} {}", answer.headers, answer.body_text()));
        }
    }

    /// Files that are wrong in the very place where a secret stands, and good ones again.
    async fn reloads(&mut self) {
        let sound = std::fs::read_to_string(self.process.program.config()).unwrap();
        let key = format!("key: \"{KEY_C}\"");
        for broken in [
            sound.replace(&key, &format!("key: \"{KEY_C}")),
            sound.replace(&key, &format!("key: [{KEY_C}]")),
            sound.replace(&key, &format!("key: {{envv: {KEY_C}}}")),
            sound.replace(&key, &format!("key: {{env: {KEY_C}}}")),
            sound.replace(&key, &format!("key: {{file: {KEY_C}}}")),
            sound.replace(
                &key,
                &format!(
                    "key: {{command: [\"/bin/sh\", \"-c\", \"echo {KEY_C}; echo {KEY_C} >&2; exit 3\"]}}"
                ),
            ),
            sound.replace(&key, &format!("key: \"{KEY_C}\\n\"")),
            sound.replace(&key, &format!("key: \"{KEY_C}\\u0007\"")),
            sound.replace(&key, &format!("api_key: {KEY_C}")),
            sound.replace(&key, &format!("key: {KEY_C}, key: {KEY_C}")),
            sound.replace(&format!("credentials: [{{name: k, {key}}}]"), &format!("credentials: {KEY_C}")),
            sound.replace(&format!("credentials: [{{name: k, {key}}}]"), &format!("credentials: [{KEY_C}]")),
            sound.replace("{env: KEY_A}", &format!("!secret {KEY_C}")),
            sound.replace("{env: KEY_A}", &format!("*{KEY_C}")),
            sound.replace("{env: TOKEN}", &format!("[\"{TOKEN}\"]")),
            sound.replace("{env: CLIENT_QUERY}", &format!("{{{}: 1}}", CLIENTS[4].1)),
            sound.replace("threads: 2", &format!("threads: {KEY_C}")),
            sound.replace("grace:", &format!("{KEY_C}:")) + &format!("{KEY_C}: x\n"),
            sound.replace(&self.a.base_url(), &format!("http://user:{KEY_C}@127.0.0.1:1/v1")),
        ] {
            let before = self.process.reloads().await;
            let after = self.process.reload(&broken).await;
            assert!(after.error > before.error || broken == sound, "it was taken:\n{broken}");
            let answer = self.process.post("/v1/reload", TOKEN).await;
            self.heads.push(answer.body_text());
            let (code, said) = self.process.program.verb(&["check", "-c", "CONFIG"]).await;
            assert_eq!(code, 78, "{said}");
            self.heads.push(said);
            for verb in [&["run", "-c", "CONFIG"][..], &["config", "show", "-c", "CONFIG"]] {
                let (_, said) = self.process.program.verb(verb).await;
                self.heads.push(said);
            }
        }
        assert!(self.process.reload(&sound).await.is_last_good);
        let (code, said) = self.process.program.verb(&["check", "-c", "CONFIG"]).await;
        assert_eq!(code, 0, "{said}");
        self.heads.push(said);
    }

    /// Returns every page of the admin plane, with and without the token.
    async fn pages(&self) -> Vec<(String, String)> {
        let mut pages = Vec::new();
        for path in [
            "/metrics",
            "/v1/status",
            "/v1/targets",
            "/v1/targets/a%2Fk%2Fm",
            "/v1/targets/a/k/m",
            "/v1/routes",
            "/v1/config",
            "/v1/accounts",
            "/v1/usage",
            "/v1/decisions?limit=1000",
            "/v1/decisions?outcome=auth&limit=1000",
            "/v1/events?limit=1000",
            "/v1/openapi.json",
            "/admin/providers/status",
            "/readyz",
            "/ui",
            "/nowhere",
        ] {
            for call in [Call::get(path), Call::get(path).bearer(TOKEN)] {
                // Events as a page: the stream has no end, and tells the same.
                let call = call.header("accept", "application/json");
                let answer = call.limit(SOON).send(self.process.admin).await.unwrap();
                pages.push((path.to_owned(), format!("{:?}\n{}", answer.headers, answer.body_text())));
            }
        }
        // Questions that hold a key and a prompt, sound and not.
        let headers = serde_json::json!({"authorization": GUESSES[0], "x-pointsman-tier": GUESSES[1]});
        for question in [
            serde_json::json!({"model": "chat", "headers": {"authorization": GUESSES[0]}, "body": prompt()}),
            serde_json::json!({"model": "chat", "headers": headers}),
            serde_json::json!({"model": "chat", "headers": {"a b": GUESSES[0]}}),
            serde_json::json!({"model": [GUESSES[0]], "body": PROMPT}),
            serde_json::json!({"model": "chat", "body": [GUESSES[0], PROMPT]}),
            serde_json::json!({"model": "chat", "headers": {"x": [PROMPT]}}),
        ] {
            let call = Call::json("/v1/explain", &question).bearer(TOKEN).limit(SOON);
            let answer = call.send(self.process.admin).await.unwrap();
            assert!([200, 400].contains(&answer.status), "{}", answer.body_text());
            pages.push(("/v1/explain".to_owned(), answer.body_text()));
        }
        pages
    }
}

fn prompt() -> serde_json::Value {
    serde_json::json!({"model": "chat", "messages": [{"role": "user", "content": PROMPT}]})
}

/// Returns every secret there is.
fn canaries() -> Vec<&'static str> {
    let mut all = vec![KEY_A, KEY_B, KEY_C, KEY_D, TOKEN];
    all.extend(CLIENTS.map(|(_, key)| key));
    all.extend(GUESSES);
    all.extend(["ck-canary-cookie", "ck-canary-proxyauth", "ck-canary-amz"]);
    all
}

fn found_in(text: &str) -> Vec<&'static str> {
    canaries().into_iter().filter(|canary| text.contains(canary)).collect()
}

/// Returns the text round a secret, with its place.
fn context(text: &str, canary: &str) -> String {
    let at = text.find(canary).unwrap_or(0);
    let (from, to) = (at.saturating_sub(160), (at + 160).min(text.len()));
    String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()
}

/// Looks for secrets and tells every place at once.
fn look(what: &str, text: &str, leaks: &mut Vec<String>) {
    for canary in found_in(text) {
        leaks.push(format!("{canary} in {what}: …{}…", context(text, canary)));
    }
}

/// What a provider got, as one text.
fn whole(seen: &Seen) -> String {
    format!("{} {}\n{:?}\n{}", seen.method, seen.path, seen.headers, String::from_utf8_lossy(&seen.body))
}

#[tokio::test]
async fn no_key_shows_in_log_pages_or_errors_and_each_provider_gets_its_own_only() {
    let mut crime = Crime::begin().await;
    crime.every_form_and_path().await;
    crime.every_failure().await;
    crime.strangers().await;
    crime.reloads().await;
    crime.every_form_and_path().await;

    let mut leaks = Vec::new();
    for (path, page) in crime.pages().await {
        look(&format!("the page {path}"), &page, &mut leaks);
        if page.contains(PROMPT) {
            leaks.push(format!("the prompt in the page {path}: …{}…", context(&page, PROMPT)));
        }
    }
    for (status, text) in &crime.errors {
        look(&format!("an error {status} to a client"), text, &mut leaks);
    }
    for text in &crime.heads {
        look("a head to a client or an answer to the operator", text, &mut leaks);
    }
    let providers =
        [("a", &crime.a, KEY_A), ("b", &crime.b, KEY_B), ("c", &crime.c, KEY_C), ("d", &crime.d, KEY_D)];
    for (name, provider, own) in providers {
        assert!(provider.count() > 0, "{name} was never called");
        for seen in provider.seen() {
            let text = whole(&seen);
            let carried = if name == "d" { seen.header("x-api-key") } else { seen.header("authorization") };
            assert_eq!(
                carried.map(|value| value.trim_start_matches("Bearer ")),
                Some(own),
                "{name} got {text}"
            );
            look(&format!("a request to {name}"), &text.replace(own, ""), &mut leaks);
            let times = text.matches(own).count();
            if times != 1 {
                leaks.push(format!("{name} got its key {times} times: {text}"));
            }
            for (stray, value) in STRAYS {
                if text.contains(value) {
                    leaks.push(format!("{name} got the client's {stray}: {text}"));
                }
            }
        }
    }
    // The end of the process says something too.
    crime.process.signal("TERM");
    crime.process.end(SOON).await;
    crime.process.heard_out().await;
    assert!(crime.process.log_of("request").len() > 300, "nothing was logged");
    assert!(crime.errors.len() > 50, "there were only {} errors", crime.errors.len());
    for line in crime.process.said().lines() {
        look("the log", line, &mut leaks);
        if line.contains(PROMPT) {
            leaks.push(format!("the prompt in the log: {line}"));
        }
    }
    let audit = std::fs::read_to_string(crime.process.program.path("audit.log")).unwrap();
    for (kind, least) in [("request", 300), ("admin", 20), ("reload", 20), ("stop", 1)] {
        let count = audit.matches(&format!("\"kind\":\"{kind}\"")).count();
        assert!(count >= least, "the audit log has {count} lines of {kind}");
    }
    for line in audit.lines() {
        look("the audit log", line, &mut leaks);
    }
    leaks.sort();
    leaks.dedup_by_key(|leak| leak.split(": ").next().unwrap_or_default().to_owned());
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

#[tokio::test]
async fn a_key_in_a_crash_or_a_process_list_does_not_show() {
    let mut crime = Crime::begin().await;
    let pid = crime.process.pid();
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(found_in(&arguments), Vec::<&str>::new());
    signal(pid, "ABRT");
    crime.process.end(SOON).await;
    crime.process.heard_out().await;
    assert!(!crime.process.log_of("ready").is_empty(), "nothing was logged");
    assert_eq!(found_in(&crime.process.said()), Vec::<&str>::new());
}
