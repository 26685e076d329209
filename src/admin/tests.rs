//! The admin plane as a client of its listener sees it: real sockets, a house of cards.

use super::view::{Counts, LastError, TargetState, TargetView};
use super::*;
use crate::base::secret::Secret;
use crate::observe::decisions::question::{Question, Unexplained};
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const TOKEN: &str = "token-0123456789";

#[derive(Default)]
struct Cards {
    is_open_to_others: bool,
    has_no_token: bool,
    is_unready: bool,
    acts: Mutex<Vec<(String, Verb)>>,
    decisions: crate::observe::decisions::Decisions,
}

fn target(id: &str, breaker: &'static str, counts: Counts) -> TargetView {
    let mut names = id.splitn(3, '/').map(str::to_owned);
    let mut next = || names.next().unwrap_or_default();
    TargetView {
        id: id.to_owned(),
        provider: next(),
        credential: next(),
        model: next(),
        endpoint: "https://api.invalid:443".to_owned(),
        routes: vec!["chat".to_owned()],
        state: TargetState::Ready,
        reason: None,
        until: None,
        retry_in_s: None,
        breaker,
        in_flight: 0,
        last_error: None,
        counts,
    }
}

#[async_trait]
impl House for Cards {
    fn metrics(&self) -> Vec<u8> {
        b"# HELP x X.\n".to_vec()
    }
    fn is_ready(&self) -> Result<(), String> {
        if self.is_unready { Err("draining".to_owned()) } else { Ok(()) }
    }
    fn status(&self) -> Value {
        json!({ "generation": 7 })
    }
    fn targets(&self) -> Vec<TargetView> {
        let failed =
            LastError { outcome: "overloaded", status: Some(529), at: "2026-11-21T02:14:22.123Z".to_owned() };
        let one = Counts { attempts: 4, ok: 3, failed: 1, average_ms: 100.0 };
        let other = Counts { attempts: 1, ok: 1, failed: 0, average_ms: 500.0 };
        vec![
            TargetView { last_error: Some(failed), ..target("openai/work/gpt-4o", "open", one) },
            target("openai/home/gpt-4o", "closed", other),
            target("ollama/main/llama3:8b", "closed", Counts::default()),
        ]
    }
    fn routes(&self) -> Value {
        json!({ "routes": [] })
    }
    fn config(&self) -> Value {
        json!({ "version": 1 })
    }
    fn decisions(&self) -> &crate::observe::decisions::Decisions {
        &self.decisions
    }
    fn explain(&self, question: &Question) -> Result<Value, Unexplained> {
        match question.model.as_deref() {
            Some("chat") => Ok(json!({ "body": question.body.as_ref().map_or(0, |body| body.get().len()) })),
            Some("theirs") => Err(Unexplained::Forbidden("not yours".to_owned())),
            Some(_) | None => Err(Unexplained::UnknownModel("routes: chat, theirs".to_owned())),
        }
    }
    fn wall(&self) -> crate::base::time::WallTime {
        crate::base::time::WallTime(0)
    }
    async fn reload(&self) -> Result<Value, Vec<String>> {
        Err(vec!["routes.chat: no targets".to_owned(), "listen: empty".to_owned()])
    }
    fn act(&self, id: &str, verb: Verb) -> Result<TargetView, ActFault> {
        let found =
            self.targets().into_iter().find(|target| target.id == id).ok_or(ActFault::UnknownTarget)?;
        if verb == Verb::Disable {
            return Err(ActFault::Refused("it is the last one".to_owned()));
        }
        self.acts.lock().push((id.to_owned(), verb));
        Ok(found)
    }
    fn usage(&self, query: Option<&str>) -> Result<Value, String> {
        let query = query.map(str::to_owned).ok_or("no query came")?;
        Ok(json!({ "query": query }))
    }
    fn report_usage(&self, body: &[u8]) -> Result<Value, Vec<String>> {
        serde_json::from_slice(body).map_err(|_| vec!["the body is not JSON".to_owned()])
    }
    fn accounts(&self) -> Value {
        json!({ "accounts": [] })
    }
    fn token(&self) -> Option<Secret> {
        (!self.has_no_token).then(|| Secret::new(TOKEN.to_owned()))
    }
    fn needs_token_to_read(&self) -> bool {
        self.is_open_to_others
    }
}

/// A listener that serves the admin plane; it ends with the test's runtime.
struct Served {
    house: Arc<Cards>,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Served {
    async fn new(cards: Cards) -> Served {
        Served::with_body_timeout(cards, BODY_TIMEOUT).await
    }

    async fn with_body_timeout(cards: Cards, body_timeout: Duration) -> Served {
        let house = Arc::new(cards);
        let at = if house.is_open_to_others { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let admin = Admin::new(Arc::clone(&house), SocketAddr::new(IpAddr::V4(at), 9901), Vec::new());
        let admin = Arc::new(Admin { body_timeout, ..admin });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, watch) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (admin, watch) = (Arc::clone(&admin), watch.clone());
                // As Pingora's own listeners do.
                socket.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let mut next: Option<Stream> =
                        Some(Box::new(pingora::protocols::l4::stream::Stream::from(socket)));
                    while let Some(stream) = next.take() {
                        next = admin.process_new(stream, &watch).await;
                    }
                });
            }
        });
        Served { house, address, _stop: stop }
    }

    /// Sends bytes as they are and reads until the other side closes.
    async fn raw(&self, bytes: &[u8]) -> Told {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let _ = socket.write_all(bytes).await;
        let mut text = Vec::new();
        let read = socket.read_to_end(&mut text);
        // The other side may reset a connection whose body it did not read; what came counts.
        let _ = timeout(Duration::from_secs(20), read).await.unwrap();
        Told::read(&String::from_utf8(text).unwrap())
    }

    async fn call(&self, method: &str, path: &str, headers: &str) -> Told {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        self.raw(head.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Told {
        self.call("GET", path, "").await
    }

    async fn post(&self, path: &str) -> Told {
        self.call("POST", path, &format!("content-length: 0\r\nauthorization: Bearer {TOKEN}\r\n")).await
    }
}

/// An answer.
#[derive(Debug)]
struct Told {
    status: u16,
    head: String,
    body: String,
}

impl Told {
    fn read(text: &str) -> Told {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Told { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn is_problem(&self, status: u16) -> bool {
        let body = self.json();
        self.status == status
            && self.head.contains("content-type: application/problem+json")
            && body["status"] == status
            && body["title"].is_string()
            && body["detail"].is_string()
            && body["type"] == "about:blank"
    }
}

#[tokio::test]
async fn writing_wants_the_token_and_changes_nothing_without_it() {
    let served = Served::new(Cards::default()).await;
    for headers in
        ["", "authorization: Bearer wrong\r\n", "authorization: Basic dG9rZW4=\r\n", "cookie: token\r\n"]
    {
        for path in
            ["/v1/reload", "/v1/targets/openai/work/gpt-4o:drain", "/admin/providers/chat/openai/reset"]
        {
            let told = served.call("POST", path, headers).await;
            assert!(told.is_problem(401), "{path} {headers:?} {told:?}");
            assert!(told.head.contains("www-authenticate: bearer"), "{told:?}");
            assert!(!told.body.contains(TOKEN), "{told:?}");
        }
    }
    let told = served.call("POST", &format!("/v1/reload?key={TOKEN}"), "").await;
    assert!(told.is_problem(401), "a token in the query is none: {told:?}");
    assert!(served.house.acts.lock().is_empty());
}

#[tokio::test]
async fn without_a_token_nothing_can_be_written() {
    let served = Served::new(Cards { has_no_token: true, ..Cards::default() }).await;
    let told = served.post("/v1/targets/openai/work/gpt-4o:drain").await;
    assert!(told.is_problem(403), "{told:?}");
    assert!(served.house.acts.lock().is_empty());
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_to_loopback_gets_nothing() {
    let served = Served::new(Cards::default()).await;
    for path in ["/v1/config", "/metrics", "/livez", "/nowhere"] {
        let told = served
            .raw(
                format!("GET {path} HTTP/1.1\r\nhost: evil.example:9901\r\nconnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        assert_eq!(told.status, 403, "{path} {told:?}");
        assert!(!told.head.contains("access-control"), "{told:?}");
    }
    let told = served.raw(b"GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(told.status, 200, "an old health check names no host: {told:?}");
}

#[tokio::test]
async fn a_listener_that_others_reach_shows_only_health_and_metrics_without_the_token() {
    let served = Served::new(Cards { is_open_to_others: true, ..Cards::default() }).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    for path in
        ["/v1/status", "/v1/targets", "/v1/config", "/admin/providers/status", "/nowhere", "/v1/reload"]
    {
        assert!(served.get(path).await.is_problem(401), "{path}");
        let told = served.call("GET", path, &format!("authorization: bearer {TOKEN}\r\n")).await;
        assert_ne!(told.status, 401, "{path} {told:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_connection_closed() {
    let served = Served::new(Cards::default()).await;
    let head = format!("POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
    let length = BODY_BYTES_MAX + 1;
    let mut whole = format!("{head}content-length: {length}\r\n\r\n").into_bytes();
    whole.resize(whole.len() + length, b'x');
    let told = served.raw(&whole).await;
    assert!(told.is_problem(413), "{told:?}");
    assert!(told.head.contains("connection: close"), "{told:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let served = Served::with_body_timeout(Cards::default(), Duration::from_millis(50)).await;
    let told = served
        .raw(
            format!(
                "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 5\r\n\r\nab"
            )
            .as_bytes(),
        )
        .await;
    assert!(told.is_problem(408), "{told:?}");
}

#[tokio::test]
async fn what_is_no_request_gets_a_400() {
    let served = Served::new(Cards::default()).await;
    assert_eq!(served.raw(b"\x16\x03\x01\x02\x00\x01\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems() {
    let served = Served::new(Cards::default()).await;
    assert!(served.get("/nowhere").await.is_problem(404));
    assert!(served.get("/v1/targets/a/b/c").await.is_problem(404));
    assert!(served.post("/v1/targets/a/b/c:drain").await.is_problem(404));
    let told = served.get("/v1/reload").await;
    assert!(told.is_problem(405), "{told:?}");
    assert!(told.head.contains("\r\nallow: post"), "{told:?}");
    let told = served.call("OPTIONS", "/v1/config", "origin: https://evil.example\r\n").await;
    assert!(told.is_problem(405), "{told:?}");
    assert!(!told.head.contains("access-control"), "{told:?}");
}

#[tokio::test]
async fn readiness_says_why_not() {
    let served = Served::new(Cards { is_unready: true, ..Cards::default() }).await;
    assert_eq!(served.get("/livez").await.status, 200);
    let told = served.get("/readyz").await;
    assert!(told.is_problem(503), "{told:?}");
    assert_eq!(told.json()["detail"], "draining");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let served = Served::new(Cards::default()).await;
    let (get, head) = (served.get("/metrics").await, served.call("HEAD", "/metrics", "").await);
    assert_eq!(head.body, "");
    for told in [get, head] {
        assert_eq!(told.status, 200);
        for line in
            ["content-type: text/plain; version=0.0.4", "content-length: 12", "cache-control: no-store"]
        {
            assert!(told.head.contains(line), "{line} {told:?}");
        }
    }
}

#[tokio::test]
async fn two_requests_share_a_connection() {
    let served = Served::new(Cards::default()).await;
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut text = String::new();
        while !text.ends_with("\r\n\r\nok\n") {
            let mut part = [0; 512];
            let read = timeout(Duration::from_secs(10), socket.read(&mut part)).await.unwrap().unwrap();
            assert_ne!(read, 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
    }
}

#[tokio::test]
async fn verbs_reach_the_target_raw_or_encoded() {
    let served = Served::new(Cards::default()).await;
    let told = served.post("/v1/targets/ollama/main/llama3:8b:drain").await;
    assert_eq!((told.status, told.json()["id"].as_str()), (200, Some("ollama/main/llama3:8b")));
    assert_eq!(served.post("/v1/targets/openai%2Fwork%2Fgpt-4o:ready").await.status, 200);
    let told = served.post("/v1/targets/openai/work/gpt-4o:disable").await;
    assert!(told.is_problem(409), "{told:?}");
    assert_eq!(
        *served.house.acts.lock(),
        [("ollama/main/llama3:8b".to_owned(), Verb::Drain), ("openai/work/gpt-4o".to_owned(), Verb::Ready)]
    );
}

#[tokio::test]
async fn a_provider_is_reset_by_model_or_route_over_all_its_credentials() {
    for name in ["gpt-4o", "chat"] {
        let served = Served::new(Cards::default()).await;
        let told = served.post(&format!("/admin/providers/{name}/openai/reset")).await;
        assert_eq!(told.status, 200, "{told:?}");
        let reset: Vec<String> = served.house.acts.lock().iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(reset, ["openai/work/gpt-4o", "openai/home/gpt-4o"], "{name}");
        assert!(served.post("/admin/providers/gpt-4o/nobody/reset").await.is_problem(404));
    }
}

#[tokio::test]
async fn a_refused_reload_tells_every_fault() {
    let served = Served::new(Cards::default()).await;
    let told = served.post("/v1/reload").await;
    assert!(told.is_problem(422), "{told:?}");
    assert_eq!(told.json()["errors"], json!(["routes.chat: no targets", "listen: empty"]));
}

#[tokio::test]
async fn pages_show_what_the_house_says() {
    let served = Served::new(Cards::default()).await;
    assert_eq!(served.get("/v1/status").await.json()["generation"], 7);
    assert_eq!(served.get("/v1/config/").await.json()["version"], 1);
    assert_eq!(served.get("/v1/routes").await.json(), json!({ "routes": [] }));
    let targets = served.get("/v1/targets").await.json();
    assert_eq!(targets["targets"][0]["state"], "ready");
    assert_eq!(targets["targets"][0]["last_error"]["outcome"], "overloaded");
    let one = served.get("/v1/targets/ollama%2Fmain%2Fllama3:8b").await.json();
    assert_eq!(one["model"], "llama3:8b");
    assert_eq!(
        served.get("/admin/providers/status").await.json(),
        json!({
            "chat-openai": {
                "state": "closed",
                "metrics": {
                    "totalRequests": 5,
                    "successfulRequests": 4,
                    "failedRequests": 1,
                    "averageResponseTime": 200.0,
                    "errorRate": 20.0,
                },
                "open_until": null,
                "last_error": "overloaded",
            },
            "chat-ollama": {
                "state": "closed",
                "metrics": {
                    "totalRequests": 0,
                    "successfulRequests": 0,
                    "failedRequests": 0,
                    "averageResponseTime": 0.0,
                    "errorRate": 0.0,
                },
                "open_until": null,
                "last_error": null,
            },
        })
    );
}

/// The value of a field of an answer's head, which is lower case there.
fn field<'a>(told: &'a Told, name: &str) -> Option<&'a str> {
    told.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn the_page_may_load_and_call_nothing_but_its_own_origin() {
    let served = Served::new(Cards::default()).await;
    for (path, kind) in [
        ("/ui", "text/html"),
        ("/ui/", "text/html"),
        ("/ui/app.js", "text/javascript"),
        ("/ui/style.css", "text/css"),
    ] {
        let told = served.get(path).await;
        assert_eq!(told.status, 200, "{path} {told:?}");
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(field(&told, name), Some(value), "{path}");
            assert_eq!(told.head.matches(&format!("{name}:")).count(), 1, "{path} {name}");
        }
        assert_eq!(field(&told, "content-type"), Some(format!("{kind}; charset=utf-8").as_str()), "{path}");
        assert!(!told.head.contains("access-control"), "{path} {told:?}");
    }
    let told = served.post("/ui").await;
    assert!(told.is_problem(405), "{told:?}");
}

#[tokio::test]
async fn the_page_names_no_other_host_and_has_nothing_inline() {
    let served = Served::new(Cards::default()).await;
    for path in ["/ui", "/ui/app.js", "/ui/style.css"] {
        let body = served.get(path).await.body;
        let hosts: Vec<&str> = body.match_indices("://").map(|(at, _)| body.split_at(at + 3).1).collect();
        // Both are names of a format and are never fetched.
        assert!(hosts.iter().all(|rest| rest.starts_with("www.w3.org/2000/svg")), "{path} {hosts:?}");
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"]
        {
            let is_said_to_be_missing = word == "innerHTML" && body.contains("no innerHTML here");
            assert!(
                !body.contains(word) || is_said_to_be_missing && body.matches(word).count() == 1,
                "{path} {word}"
            );
        }
    }
    let page = served.get("/ui").await.body;
    for word in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<script").count(), 1, "the one with src");
}

#[tokio::test]
async fn a_browser_that_has_the_page_is_told_so() {
    let served = Served::new(Cards::default()).await;
    let first = served.get("/ui/app.js").await;
    let tag = field(&first, "etag").expect("a tag").to_owned();
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let told = served.call("GET", "/ui/app.js", &format!("if-none-match: {known}\r\n")).await;
        assert_eq!((told.status, told.body.as_str()), (304, ""), "{known} {told:?}");
        assert_eq!(field(&told, "etag"), Some(tag.as_str()));
        assert!(field(&told, "content-security-policy").is_some());
    }
    for (path, known) in [("/ui/app.js", "\"other\""), ("/ui/style.css", tag.as_str()), ("/livez", "*")] {
        let told = served.call("GET", path, &format!("if-none-match: {known}\r\n")).await;
        assert_eq!(told.status, 200, "{path} {told:?}");
    }
    let head = served.call("HEAD", "/ui/app.js", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(field(&head, "content-length"), field(&first, "content-length"));
}

#[tokio::test]
async fn the_page_opens_without_the_token_where_its_data_want_it() {
    let served = Served::new(Cards { is_open_to_others: true, ..Cards::default() }).await;
    for path in ["/ui", "/ui/app.js", "/ui/style.css"] {
        let told = served.get(path).await;
        assert_eq!(told.status, 200, "{path}");
        assert!(!told.body.contains(TOKEN), "{path}");
    }
    assert!(served.get("/v1/status").await.is_problem(401));
    let own = Served::new(Cards::default()).await;
    let told = own.raw(b"GET /ui HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(told.status, 403, "a foreign name gets no page either: {told:?}");
}
