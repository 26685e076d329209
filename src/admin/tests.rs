//! The admin plane as a client of its listener sees it: real sockets, a house of cards.

mod page;

use super::view::{Counts, LastError, TargetState, TargetView};
use super::*;
use crate::base::secret::Secret;
use crate::base::time::WallTime;
use crate::observe::decisions::question::{Question, Unexplained};
use crate::observe::events::{self, Event, Events, LISTENERS};
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const TOKEN: &str = "token-0123456789";

/// Verb, target, whether the token was shown, and the status.
type Noted = (&'static str, Option<String>, bool, u16);

#[derive(Default)]
struct Cards {
    is_open_to_others: bool,
    has_no_token: bool,
    is_unready: bool,
    acts: Mutex<Vec<(String, Verb)>>,
    decisions: crate::observe::decisions::Decisions,
    pins: Mutex<Vec<(String, PinWish)>>,
    deeds: Mutex<Vec<Noted>>,
    events: OnceLock<Arc<Events>>,
}

impl Cards {
    fn told(&self) -> &Arc<Events> {
        self.events.get_or_init(|| Events::new(WallTime(1000)))
    }
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
        pinned: Vec::new(),
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
        let failed = LastError {
            outcome: "overloaded",
            status: Some(529),
            at: "2026-11-21T02:14:22.123Z".to_owned(),
            detail: None,
        };
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
    async fn restore(&self) -> Result<Value, Vec<String>> {
        Ok(json!({ "generation": 9, "restored": 7 }))
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
    fn pin(&self, id: &str, wish: &PinWish) -> Result<TargetView, ActFault> {
        self.pins.lock().push((id.to_owned(), wish.clone()));
        self.targets().into_iter().find(|target| target.id == id).ok_or(ActFault::UnknownTarget)
    }
    fn events(&self, count: usize) -> Vec<Arc<events::Told>> {
        self.told().newest(count)
    }
    fn listen(&self, last_id: Option<&str>) -> Result<Listener, ListenFault> {
        self.told().listen(last_id)
    }
    fn wrote(&self, deed: &Deed<'_>) {
        // This listener knows no addresses; the black-box test does.
        assert_eq!(deed.from, None);
        let target = deed.target.map(str::to_owned);
        self.deeds.lock().push((deed.verb, target, deed.has_token, deed.status));
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
    assert!(served.raw(b"\x16\x03\x01\x02\x00\x01\r\n\r\n").await.is_problem(400));
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

/// Reads from a stream of events until `end` was seen, and gives the rest of the connection back.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut part = [0; 4096];
        let read = timeout(Duration::from_secs(20), socket.read(&mut part)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    text
}

async fn listen(served: &Served, path: &str, headers: &str) -> TcpStream {
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

fn tell_one(served: &Served, number: u64) {
    served.house.told().tell(WallTime(0), Event::Stopping { under_way: number });
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_end_with_the_process() {
    let served = Served::new(Cards::default()).await;
    tell_one(&served, 1);
    let mut socket = listen(&served, "/v1/events", "accept: text/event-stream\r\n").await;
    let opening = read_until(&mut socket, "retry: 2000\n\n").await;
    assert!(opening.to_lowercase().contains("content-type: text/event-stream"), "{opening}");
    tell_one(&served, 2);
    let text = read_until(&mut socket, "\"under_way\":2}\n\n").await;
    assert!(!text.contains("\"under_way\":1}"), "it begins now: {text}");
    assert!(text.contains("id: 1000-2\nevent: stopping\ndata: {\"id\":\"1000-2\""), "{text}");
    tell_one(&served, 3);
    served.house.told().close();
    let mut rest = String::new();
    timeout(Duration::from_secs(10), socket.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("\"under_way\":3}") && rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert!(served.get("/v1/events").await.is_problem(503), "nobody may begin to listen now");
}

#[tokio::test]
async fn a_listener_that_comes_back_gets_what_it_missed() {
    let served = Served::new(Cards::default()).await;
    (1..=5).for_each(|number| tell_one(&served, number));
    for (path, headers) in [
        ("/v1/events", "last-event-id: 1000-3\r\n"),
        ("/v1/events?after=1000-3", ""),
        ("/v1/events?after=1000-1", "last-event-id: 1000-3\r\n"),
    ] {
        let mut socket = listen(&served, path, headers).await;
        let text = read_until(&mut socket, "\"under_way\":5}\n\n").await;
        assert!(text.contains("1000-4") && !text.contains("1000-3"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_it_lost_and_holds_nobody_up() {
    let served = Served::new(Cards::default()).await;
    tell_one(&served, 0);
    // Where it stopped reading is long gone when it comes back.
    (1..=1500).for_each(|number| tell_one(&served, number));
    let mut socket = listen(&served, "/v1/events", "last-event-id: 1000-1\r\n").await;
    let text = read_until(&mut socket, "\"under_way\":1500}\n\n").await;
    assert!(text.contains("event: lost\ndata: {\"event\":\"lost\",\"lost\":500}\n\n"), "{text}");
    assert_eq!(text.matches("event: stopping").count(), 1000);
}

#[tokio::test]
async fn sixteen_may_listen_beside_all_other_requests() {
    let served = Served::new(Cards::default()).await;
    let mut sockets = Vec::new();
    for _ in 0..LISTENERS {
        let mut socket = listen(&served, "/v1/events", "").await;
        read_until(&mut socket, "retry").await;
        sockets.push(socket);
    }
    let told = served.get("/v1/events").await;
    assert!(told.is_problem(503) && told.json()["detail"].as_str().unwrap().contains("16"), "{told:?}");
    assert_eq!(served.get("/livez").await.status, 200);
    // One hangs up, and its place is free at once, not with the next heartbeat.
    sockets.pop();
    for _ in 0..500 {
        let mut socket = listen(&served, "/v1/events", "").await;
        if read_until(&mut socket, "\r\n\r\n").await.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the place was never given back");
}

#[tokio::test]
async fn events_come_on_a_page_for_who_wants_json_and_head_has_no_stream() {
    let served = Served::new(Cards::default()).await;
    (1..=60).for_each(|number| tell_one(&served, number));
    let told = served.call("GET", "/v1/events", "accept: application/json\r\n").await.json();
    let events = told["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["under_way"]), (50, &json!(60)), "newest first");
    let told = served.call("GET", "/v1/events?limit=2", "accept: application/json\r\n").await.json();
    assert_eq!(told["events"][1]["id"], "1000-59");
    for limit in ["0", "1001", "x", "", "-1"] {
        let path = format!("/v1/events?limit={limit}");
        let told = served.call("GET", &path, "accept: application/json\r\n").await;
        assert!(told.is_problem(400), "{limit}: {told:?}");
    }
    let told = served.call("HEAD", "/v1/events", "").await;
    assert_eq!((told.status, told.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_pin_says_where_and_for_how_long() {
    let served = Served::new(Cards::default()).await;
    let path = "/v1/targets/ollama/main/llama3:8b:pin";
    for (query, route, span) in [
        ("", None, None),
        ("?for=30m", None, Some(Duration::from_secs(1800))),
        ("?route=chat%20two&for=250ms", Some("chat two"), Some(Duration::from_millis(250))),
    ] {
        assert_eq!(served.post(&format!("{path}{query}")).await.status, 200, "{query}");
        let (id, wish) = served.house.pins.lock().pop().unwrap();
        assert_eq!((id.as_str(), wish.route.as_deref(), wish.span), ("ollama/main/llama3:8b", route, span));
    }
    for query in ["?for=0s", "?for=soon", "?for=721h", "?for=", "?for=-1s"] {
        let told = served.post(&format!("{path}{query}")).await;
        assert!(told.is_problem(400), "{query}: {told:?}");
    }
    assert!(served.post("/v1/targets/no/such/one:pin").await.is_problem(404));
}

#[tokio::test]
async fn whatever_is_written_or_tried_is_noted_with_its_result() {
    let served = Served::new(Cards::default()).await;
    served.post("/v1/targets/openai/work/gpt-4o:drain").await;
    served.post("/v1/targets/a/b/c:ready").await;
    served.post("/v1/reload").await;
    served.post("/admin/providers/gpt-4o/openai/reset").await;
    served.call("POST", "/v1/reload", "authorization: Bearer wrong\r\n").await;
    served.get("/v1/targets").await;
    served.get("/v1/reload").await;
    let head = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    served.raw(head.as_bytes()).await;
    let of = |text: &str| Some(text.to_owned());
    assert_eq!(
        *served.house.deeds.lock(),
        [
            ("drain", of("openai/work/gpt-4o"), true, 200),
            ("ready", of("a/b/c"), true, 404),
            ("reload", None, true, 422),
            ("reset", of("openai/gpt-4o"), true, 200),
            ("reload", None, false, 401),
            ("reload", None, true, 403),
        ]
    );
}

#[tokio::test]
async fn the_description_is_shown_as_json() {
    let served = Served::new(Cards::default()).await;
    let told = served.get("/v1/openapi.json").await.json();
    assert_eq!(told["openapi"], "3.1.0");
    assert!(told["paths"]["/v1/events"]["get"].is_object());
}
