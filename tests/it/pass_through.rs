//! Files, batches, images and the like go to one provider as they are.

use crate::scene::{KEY_ONE, KEY_TWO, outside_of, provider};
use crate::stage::{Stage, eventually};
use bytes::Bytes;
use pointsman::standin::caller::{self, Answer, BodyEnd, Call, Connection};
use pointsman::standin::{Provider, Reply};
use serde_json::json;
use std::time::Duration;

const LAPTOP: &str = "pm-laptop-0123456789";
const SECOND: Duration = Duration::from_secs(1);
const SERVED: [&str; 11] = [
    "files",
    "batches",
    "uploads",
    "fine_tuning",
    "images",
    "audio",
    "moderations",
    "rerank",
    "vector_stores",
    "assistants",
    "threads",
];

/// The default route prefers a provider of another kind; the first openai-kind one is `one`.
struct Scene {
    stage: Stage,
    claude: Provider,
    one: Provider,
    two: Provider,
}

impl Scene {
    async fn open(reply: Reply, base: &str, more: &str) -> Scene {
        let claude = Provider::start(Reply::ok()).await.unwrap();
        let one = Provider::start(reply).await.unwrap();
        let two = Provider::start(Reply::ok()).await.unwrap();
        let http = if more.contains("h2c: true") { "http: 2" } else { "" };
        let mut yaml = format!("clients: [{{name: laptop, key: \"{LAPTOP}\"}}]\nproviders:\n");
        yaml += &provider("claude", "anthropic", &claude.origin(), "sk-claude-0123456", "");
        yaml += &provider("two", "openai", &two.base_url(), KEY_TWO, "");
        yaml += &provider("one", "openai", &format!("{}{base}", one.origin()), KEY_ONE, http);
        yaml += "routes:\n  other: {targets: [{provider: two, model: m}]}\n  chat: {targets: [{provider: claude, model: c, priority: 1}, {provider: one, model: m, priority: 2}, {provider: two, model: m, priority: 3}]}\ndefault_route: chat\n";
        yaml += more;
        Scene { stage: Stage::open(&yaml).await, claude, one, two }
    }

    async fn plain(reply: Reply) -> Scene {
        Scene::open(reply, "/v1", "").await
    }

    async fn send(&self, call: Call) -> Answer {
        call.bearer(LAPTOP).send(self.stage.data).await.unwrap()
    }
}

/// A form with a binary file of about that many bytes.
fn form(length: usize) -> Bytes {
    let mut body = b"--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    body.extend((0..=255_u8).cycle().take(length));
    body.extend_from_slice(b"\r\n--xyz--\r\n");
    Bytes::from(body)
}

fn upload(length: usize) -> Call {
    Call::post("/v1/files", form(length)).header("content-type", "multipart/form-data; boundary=xyz")
}

#[tokio::test]
async fn an_upload_arrives_as_it_is_with_the_providers_key() {
    let scene = Scene::plain(Reply::ok()).await;
    for length in [0, 1000, 65_536, 300_000, 5_000_000] {
        for call in [upload(length), upload(length).chunked(), upload(length).expecting_continue()] {
            let answer = scene.send(call).await;
            assert_eq!((answer.status, &answer.end), (200, &BodyEnd::Clean), "{}", answer.body_text());
            let seen = scene.one.last().unwrap();
            assert!(seen.body == form(length), "{length} bytes: {} arrived", seen.body.len());
            assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/files"));
            assert_eq!(seen.header("content-type"), Some("multipart/form-data; boundary=xyz"));
            assert_eq!(seen.headers_named("authorization"), [format!("Bearer {KEY_ONE}")]);
            assert!(!outside_of(&seen).contains(LAPTOP), "{:?}", seen.headers);
            assert_eq!(seen.header("host"), Some(&*scene.one.address().to_string()));
        }
    }
    assert_eq!((scene.claude.count(), scene.two.count()), (0, 0));
}

#[tokio::test]
async fn http2_carries_it_on_either_side() {
    let h2c = "listen: [{address: \"127.0.0.1:0\", h2c: true}]\n";
    let scene = Scene::open(Reply::ok(), "/v1", h2c).await;
    for length in [1000, 300_000, 5_000_000] {
        for line in [
            Connection::open(scene.stage.data).await.unwrap(),
            Connection::open_http2(scene.stage.data).await.unwrap(),
        ] {
            let (answer, _) = line.send(&upload(length).bearer(LAPTOP)).await.unwrap();
            assert_eq!((answer.status, &answer.end), (200, &BodyEnd::Clean), "{}", answer.body_text());
            assert!(scene.one.last().unwrap().body == form(length));
            assert!(!outside_of(&scene.one.last().unwrap()).contains(LAPTOP));
        }
    }
}

#[tokio::test]
async fn reading_and_deleting_join_the_path_to_the_base() {
    for base in ["/v1", "/openai/v1", "/v1/"] {
        let scene = Scene::open(Reply::ok(), base, "").await;
        let base = base.trim_end_matches('/');
        let table = [
            ("GET", "/v1/files", format!("{base}/files")),
            ("GET", "/v1/files/", format!("{base}/files")),
            (
                "GET",
                "/v1/files/file-1/content?limit=2&after=x%20y",
                format!("{base}/files/file-1/content?limit=2&after=x%20y"),
            ),
            ("DELETE", "/v1/files/file-1", format!("{base}/files/file-1")),
            ("GET", "/v1/fine_tuning/jobs/ft-1/events", format!("{base}/fine_tuning/jobs/ft-1/events")),
            ("POST", "/v1/batches/b-1/cancel", format!("{base}/batches/b-1/cancel")),
        ];
        for (method, path, expected) in table {
            let answer = scene.send(Call::get(path).method(method)).await;
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body_text());
            let seen = scene.one.last().unwrap();
            let arrived = seen.path.trim_end_matches('/');
            assert_eq!((seen.method.as_str(), arrived), (method, expected.as_str()));
        }
        let head = scene.send(Call::get("/v1/files/file-1").method("HEAD")).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
}

#[tokio::test]
async fn every_path_of_the_list_is_served_and_no_other() {
    let scene = Scene::plain(Reply::ok()).await;
    for path in SERVED {
        for path in [format!("/v1/{path}"), format!("/v1/{path}/x/y")] {
            let answer = scene.send(Call::json(&path, &json!({"model": "chat", "x": 1}))).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body_text());
            let seen = scene.one.last().unwrap();
            assert_eq!(seen.path, path);
            assert_eq!(seen.body, r#"{"model":"chat","x":1}"#, "nothing is rewritten");
        }
    }
    let served = scene.one.count();
    for path in [
        "/v1/filesx",
        "/v1/file",
        "/files",
        "/v1/organization/users",
        "/v1/realtime",
        "/v1beta/files",
        "/v1/x/files",
    ] {
        let answer = scene.send(Call::get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().unwrap()["message"].is_string());
    }
    for (method, path) in [("OPTIONS", "/v1/files"), ("TRACE", "/v1/files"), ("PUT", "/v1/files/x")] {
        let answer = scene.send(Call::get(path).method(method)).await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.header("allow").is_some());
    }
    assert_eq!(scene.one.count(), served);
}

#[tokio::test]
async fn no_credential_of_the_client_goes_along() {
    let scene = Scene::plain(Reply::ok()).await;
    let other = "sk-other-0123456789";
    let call = |query: &str| Call::get(&format!("/v1/files{query}"));
    let calls = [
        call("").header("x-api-key", LAPTOP),
        call("").header("api-key", LAPTOP),
        call("").header("x-goog-api-key", LAPTOP),
        call(&format!("?key={LAPTOP}&limit=1")),
        call(&format!("?key={LAPTOP}&foo={LAPTOP}")),
        call("").bearer(LAPTOP).header("x-api-key", other).header("user-agent", other),
        call("").bearer(other).header("x-api-key", LAPTOP).header("x-title", LAPTOP),
    ];
    for call in calls {
        let call = call
            .header("cookie", &format!("a={LAPTOP}"))
            .header("proxy-authorization", "Basic stolen")
            .header("openai-organization", "org-stolen")
            .header("x-unheard-of", LAPTOP)
            .header("x-forwarded-for", "stolen");
        let answer = call.send(scene.stage.data).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        let outside = outside_of(&scene.one.last().unwrap());
        for secret in [LAPTOP, other, "stolen", "cookie"] {
            assert!(!outside.to_lowercase().contains(secret), "{secret}: {outside}");
        }
        assert_eq!(outside.matches(KEY_ONE).count(), 1, "{outside}");
    }
}

#[tokio::test]
async fn a_key_is_wanted_here_too() {
    let scene = Scene::plain(Reply::ok()).await;
    for (call, code) in [(upload(100), "missing_api_key"), (upload(100).bearer("wrong"), "invalid_api_key")] {
        let answer = call.send(scene.stage.data).await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (401, code));
    }
    assert_eq!(scene.one.count(), 0);
}

#[tokio::test]
async fn who_may_not_use_the_default_route_may_not_use_its_key_here_either() {
    let standin = Provider::start(Reply::ok()).await.unwrap();
    let stage = Stage::open(&format!(
        "clients:\n  - {{name: narrow, key: \"{LAPTOP}\", routes: [\"other*\"]}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: m}}]}}\ndefault_route: chat\n",
        provider("one", "openai", &standin.base_url(), KEY_ONE, ""),
    ))
    .await;
    for call in [Call::get("/v1/files"), upload(100)] {
        let answer = call.bearer(LAPTOP).send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "model_not_found"));
    }
    assert_eq!(standin.count(), 0);
}

#[tokio::test]
async fn the_answer_comes_as_it_is_and_tells_who_gave_it() {
    let content = Bytes::from((0..=255_u8).cycle().take(3_000_000).collect::<Vec<u8>>());
    let reply = Reply::body(200, "application/octet-stream", content.clone())
        .header("set-cookie", "a=b")
        .header("server", "secret")
        .header("openai-organization", "org-1")
        .header("content-disposition", "attachment; filename=\"a\"");
    let scene = Scene::plain(reply).await;
    let answer = scene.send(Call::get("/v1/files/file-1/content").header("x-request-id", "mine")).await;
    assert_eq!((answer.status, &answer.end), (200, &BodyEnd::Clean));
    assert!(answer.body == content, "{} of {} bytes", answer.body.len(), content.len());
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"a\""));
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert_eq!(answer.header("x-used-provider"), Some("one"));
    for name in ["set-cookie", "server", "openai-organization"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    // A provider's own refusal is the answer; ids do not exist elsewhere.
    for status in [404, 400, 500] {
        scene.one.set_script(Reply::status(status));
        let answer = scene.send(Call::get("/v1/files/file-2")).await;
        assert_eq!(answer.status, status);
        assert!(answer.error().unwrap()["message"].is_string());
    }
    assert_eq!((scene.claude.count(), scene.two.count()), (0, 0));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_told() {
    let scene = Scene::plain(Reply::ok()).await;
    let Scene { stage, mut one, two, .. } = scene;
    one.stop();
    for call in [upload(1000), upload(300_000), Call::get("/v1/files")] {
        let answer = call.bearer(LAPTOP).send(stage.data).await.unwrap();
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (502, "upstream_unreachable"),
            "{}",
            answer.body_text()
        );
    }
    assert_eq!(two.count(), 0, "what belongs to one provider goes to no other");
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_told() {
    for reply in [Reply::reset(), Reply::close()] {
        let scene = Scene::plain(reply).await;
        let answer = scene.send(upload(1000)).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (502, "upstream_error"),
            "{}",
            answer.body_text()
        );
        assert_eq!(scene.one.count(), 1, "an upload is not sent twice");
    }
    let scene = Scene::plain(Reply::truncated()).await;
    let answer = scene.send(Call::get("/v1/files/x/content")).await;
    assert!(matches!(answer.end, BodyEnd::Cut(_)), "{:?}", answer.end);
}

#[tokio::test]
async fn without_a_provider_of_that_kind_nobody_is_asked() {
    let claude = Provider::start(Reply::ok()).await.unwrap();
    let one = Provider::start(Reply::ok()).await.unwrap();
    for more in ["default_route: chat\n", ""] {
        let mut yaml = "providers:\n".to_owned();
        yaml += &provider("claude", "anthropic", &claude.origin(), KEY_TWO, "");
        yaml += &provider("one", "openai", &one.base_url(), KEY_ONE, "");
        yaml += "routes:\n  chat: {targets: [{provider: claude, model: c}]}\n  other: {targets: [{provider: one, model: m}]}\n";
        yaml += more;
        let stage = Stage::open(&yaml).await;
        let answer = upload(100).send(stage.data).await.unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        assert!(answer.error().unwrap()["message"].is_string());
    }
    assert_eq!(claude.count() + one.count(), 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let scene = Scene::open(Reply::ok(), "/v1", "limits: {max_body: 64KiB}\n").await;
    assert_eq!(scene.send(upload(60_000)).await.status, 200);
    for call in [upload(70_000), upload(70_000).chunked()] {
        let answer = scene.send(call).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (413, "payload_too_large"));
    }
    for _ in 0..8 {
        assert_eq!(scene.send(upload(70_000).chunked()).await.status, 413);
    }
    let answer = scene.send(Call::get("/v1/files")).await;
    assert_eq!(answer.status, 200, "our own limit is nobody's fault: {}", answer.body_text());
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let scene = Scene::plain(Reply::silence()).await;
    let call = Call::get("/v1/files").bearer(LAPTOP).leaving_after(Duration::from_millis(100));
    assert_eq!(call.send(scene.stage.data).await.unwrap().end, BodyEnd::Left);
    assert!(scene.one.until(SECOND, |seen| seen.len() == 1 && seen[0].has_client_left()).await);
    eventually("nothing is in flight", || scene.stage.metric("pointsman_in_flight", &[]).abs() < 0.5).await;
}

#[tokio::test]
async fn an_upgrade_is_refused() {
    let scene = Scene::plain(Reply::switching_protocols()).await;
    for path in ["/v1/files", "/v1/responses", "/v1/realtime", "/v1/chat/completions", "/v1/threads/x"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {LAPTOP}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = caller::raw(scene.stage.data, request.as_bytes(), SECOND).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
    assert_eq!(scene.one.count(), 0, "no provider is asked to switch protocols");
}
