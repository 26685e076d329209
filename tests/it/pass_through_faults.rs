//! What is known afterwards of a provider that fails a request which is passed through, and who is asked?

use crate::papers::Authority;
use crate::scene::{KEY_ONE, ms, provider, trail};
use crate::stage::{GATEWAY_TOKEN, Stage, eventually};
use bytes::Bytes;
use pointsman::live::Slot;
use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{Gate, Place, Provider, Reply, Script, Twist};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// A proxy with one provider, of which this is the line in the file.
async fn open(line: &str, more: &str) -> Stage {
    let routes = "routes: {chat: {targets: [{provider: one, model: m}]}}\ndefault_route: chat\n";
    Stage::open(&format!("providers:\n{line}{routes}{more}")).await
}

async fn one(script: impl Into<Script>, more: &str) -> (Stage, Provider) {
    let standin = Provider::start(script).await.unwrap();
    (open(&provider("one", "openai", &standin.base_url(), KEY_ONE, ""), more).await, standin)
}

fn slot(stage: &Stage) -> Arc<Slot> {
    Arc::clone(&stage.house.live().slots[0])
}

fn is_usable(stage: &Stage) -> bool {
    slot(stage).health.look(stage.house.clock.tick(), &stage.house.live().policy).is_ok()
}

fn rests(stage: &Stage) -> Duration {
    slot(stage).state(stage.house.clock.tick(), &stage.house.live().policy).cooling
}

fn attempts(stage: &Stage, outcome: &str) -> f64 {
    stage.metric("pointsman_attempts_total", &[&format!("outcome=\"{outcome}\"")])
}

fn is(metric: f64, count: u32) -> bool {
    (metric - f64::from(count)).abs() < 0.5
}

async fn list(stage: &Stage) -> Answer {
    Call::get("/v1/files").send(stage.data).await.unwrap()
}

fn upload() -> Call {
    Call::post("/v1/files", Bytes::from_static(b"some file"))
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_counted_as_that() {
    let standin = Provider::refused().unwrap();
    // More keys than Pingora makes attempts.
    for keys in [1, 2, 20] {
        let mut line = format!("  one: {{kind: openai, base_url: \"{}\", credentials: [", standin.base_url());
        for key in 0..keys {
            let _ = write!(line, "{{name: k{key}, key: \"{KEY_ONE}{key}\"}}, ");
        }
        let stage = open(&(line + "]}\n"), "").await;
        assert_eq!(list(&stage).await.status, 502);
        eventually("it is counted", || is(attempts(&stage, "connect"), 1)).await;
        assert!(is(attempts(&stage, "ok"), 0), "{keys} keys");
        let ok: u64 = stage.house.live().slots.iter().map(|slot| slot.tally.read().ok).sum();
        assert_eq!(ok, 0, "{keys} keys");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_counted_as_that() {
    let more = "allow_plaintext: true";
    let stage = open(&provider("one", "openai", "http://no-such-host.invalid/v1", KEY_ONE, more), "").await;
    assert_eq!(list(&stage).await.status, 503);
    eventually("it is counted", || is(attempts(&stage, "dns"), 1)).await;
    assert!(is(attempts(&stage, "ok"), 0));
}

/// The first try after a rest is alone, but not kept away by itself.
#[tokio::test]
async fn a_first_try_on_a_dead_connection_is_made_again() {
    let fault = Reply::status(503).header("retry-after-ms", "100");
    let (stage, standin) = one(Script::of([fault.then_stale()]).then(Reply::ok()), "").await;
    assert_eq!(list(&stage).await.status, 503);
    eventually("the rest is over", || is_usable(&stage)).await;
    let answer = list(&stage).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    assert_eq!(trail(&answer), ["one/k:ok"]);
    assert_eq!(standin.count(), 3, "the dead connection was met");
}

#[tokio::test]
async fn a_certificate_that_nobody_stands_for_rests_its_server() {
    let authority = Authority::new();
    let standin = authority.papers("localhost", false).provider(Reply::ok(), &["http/1.1"]).await;
    let base_url = format!("{}/v1", standin.origin_as("localhost"));
    let stage = open(&provider("one", "openai", &base_url, KEY_ONE, ""), "").await;
    let answer = list(&stage).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_tls"));
    eventually("it is counted", || is(attempts(&stage, "tls"), 1)).await;
    assert!(rests(&stage) > Duration::from_secs(30), "{:?}", rests(&stage));
}

fn at(standin: &Provider, addresses: &str) -> String {
    let base_url = format!("http://provider.localhost:{}/v1", standin.address().port());
    provider("one", "openai", &base_url, KEY_ONE, &format!("addresses: [{addresses}]"))
}

#[tokio::test]
async fn an_address_that_refuses_is_left_for_another() {
    let standin = Provider::start(Reply::ok().then_close()).await.unwrap();
    let stage = open(&at(&standin, "\"127.0.0.2\", \"127.0.0.1\""), "").await;
    for turn in 0..4 {
        for call in [Call::get("/v1/files"), upload()] {
            let answer = call.send(stage.data).await.unwrap();
            assert_eq!(answer.status, 200, "turn {turn}: {}", answer.body_text());
            assert_eq!(trail(&answer), ["one/k:ok"]);
        }
    }
    assert_eq!(standin.count(), 8);
}

#[tokio::test]
async fn where_no_address_answers_that_is_one_fault() {
    let standin = Provider::refused().unwrap();
    let stage = open(&at(&standin, "\"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\""), "").await;
    let answer = list(&stage).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_unreachable"));
    eventually("it is counted", || is(attempts(&stage, "connect"), 1)).await;
    assert_eq!(slot(&stage).tally.read().failed, 1);
}

#[tokio::test]
async fn what_is_under_way_shows() {
    let gate = Gate::closed();
    let held = Reply::ok().at(Place::AfterHead, Twist::Hold(gate.clone()));
    let (stage, standin) = one(held, "").await;
    let data = stage.data;
    let under_way = tokio::spawn(async move { upload().send(data).await.unwrap() });
    assert!(standin.until(ms(5000), |seen| seen.len() == 1).await);
    assert!(is(stage.metric("pointsman_in_flight", &["one/k/m"]), 1));
    assert_eq!(slot(&stage).tally.read().in_flight, 1);
    gate.open();
    assert_eq!(under_way.await.unwrap().status, 200);
    eventually("it is over", || is(stage.metric("pointsman_in_flight", &[]), 0)).await;
    let counts = slot(&stage).tally.read();
    assert_eq!((counts.in_flight, counts.ok), (0, 1));
}

#[tokio::test]
async fn a_provider_rests_as_long_as_it_says() {
    let (stage, _standin) = one(Reply::status(503).header("retry-after", "100"), "").await;
    assert_eq!(list(&stage).await.status, 503);
    eventually("it rests", || !is_usable(&stage)).await;
    let span = rests(&stage);
    assert!(span > Duration::from_secs(80) && span < Duration::from_secs(130), "{span:?}");
    // What is left of a rate limit says nothing of a server fault.
    let fault = Reply::status(503).header("x-ratelimit-reset-requests", "100s");
    let (stage, _standin) = one(fault, "").await;
    assert_eq!(list(&stage).await.status, 503);
    assert!(is_usable(&stage));
}

/// A limit of pictures says nothing of the model that calls go to.
#[tokio::test]
async fn a_limit_is_the_clients_to_wait_for_and_keeps_no_call_away() {
    for (status, outcome) in [(429, "rate_limited"), (529, "overloaded"), (498, "overloaded")] {
        let (stage, standin) = one(Reply::status(status).header("retry-after", "100"), "").await;
        for turn in 1..=2 {
            let answer = list(&stage).await;
            assert_eq!((answer.status, answer.header("retry-after")), (status, Some("100")));
            eventually("it is counted", || is(attempts(&stage, outcome), turn)).await;
            assert!(is_usable(&stage), "{status}");
        }
        assert_eq!(standin.count(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_status_means_here_what_it_means_elsewhere_but_for_what_is_the_clients() {
    for (status, outcome, rests) in [
        (402, "quota", true),
        (424, "server_error", false),
        (499, "server_error", false),
        (500, "server_error", false),
        (400, "client_error", false),
        (409, "client_error", false),
        // A file that is not there, or not this key's, an upload that came slowly.
        (403, "client_error", false),
        (404, "client_error", false),
        (405, "client_error", false),
        (408, "client_error", false),
        (410, "client_error", false),
    ] {
        let (stage, _standin) = one(Reply::body(status, "text/plain", "no"), "").await;
        assert_eq!(list(&stage).await.status, status);
        eventually("it is counted", || is(attempts(&stage, outcome), 1)).await;
        assert_eq!(!is_usable(&stage), rests, "{status}");
    }
}

/// Threat P3: fields behind the body are fields all the same.
#[tokio::test]
async fn no_field_behind_the_body_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}/v1", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"content"), false).unwrap();
                    let mut fields = http::HeaderMap::new();
                    fields.insert("set-cookie", http::HeaderValue::from_static("a=b"));
                    fields.insert("x-key", http::HeaderValue::from_static(KEY_ONE));
                    body.send_trailers(fields).unwrap();
                }
            });
        }
    });
    let h2c = "listen: [{address: \"127.0.0.1:0\", h2c: true}]\n";
    let stage = open(&provider("one", "openai", &origin, KEY_ONE, "http: 2"), h2c).await;
    let socket = tokio::net::TcpStream::connect(stage.data).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/v1/files", stage.data)).body(()).unwrap();
    let (answer, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut content = Vec::new();
    while let Some(piece) = body.data().await {
        content.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(content, b"content");
    assert!(body.trailers().await.unwrap().is_none_or(|fields| fields.is_empty()));
    driving.abort();
    serving.abort();
}

#[tokio::test]
async fn silence_ends_with_the_time_that_an_answer_has() {
    for (timeouts, reply) in [
        ("{response: 300ms}", Reply::ok().at(Place::BeforeHead, Twist::Silence)),
        ("{total: 300ms}", Reply::ok().at(Place::BeforeHead, Twist::Silence)),
    ] {
        let (stage, _standin) = one(reply, &format!("timeouts: {timeouts}\n")).await;
        let answer = list(&stage).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "deadline_exceeded"), "{timeouts}");
        eventually("it is counted", || is(attempts(&stage, "timeout_total"), 1)).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_no_success_and_what_came_of_it_reaches_the_client() {
    let cut = Reply::body(200, "text/plain", "a".repeat(100)).header("content-length", "200").then_close();
    for (reply, body) in [(Reply::ok().at(Place::AfterHead, Twist::Close), 0), (cut, 100)] {
        let (stage, _standin) = one(reply, "").await;
        let answer = list(&stage).await;
        assert!(matches!(answer.end, BodyEnd::Cut(_)), "{:?}", answer.end);
        assert_eq!((answer.status, answer.body.len()), (200, body));
        eventually("it is counted", || is(attempts(&stage, "truncated"), 1)).await;
        assert!(is(attempts(&stage, "ok"), 0));
        let decided = stage.said("request");
        assert_eq!(decided[0]["trail"], "one/k:truncated");
    }
}

/// Packed, it could hold our key where nobody sees it.
#[tokio::test]
async fn an_error_that_is_packed_has_no_body() {
    for status in [400, 500] {
        let packed =
            Reply::body(status, "application/json", "not really gzip").header("content-encoding", "gzip");
        let (stage, standin) = one(packed, "").await;
        let answer = list(&stage).await;
        assert_eq!((answer.status, answer.body_text().as_str()), (status, ""));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(standin.last().unwrap().header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn no_key_of_ours_leaves_in_an_error_however_json_writes_it() {
    let other = "sk-other+key/with=signs";
    let text = format!("{{\"error\":\"{KEY_ONE} {other} sk-other\\u002Bkey\\/with\\u003dsigns\"}}");
    let standin = Provider::start(Reply::body(400, "application/json", text)).await.unwrap();
    let line = provider("one", "openai", &standin.base_url(), KEY_ONE, "")
        + &provider("two", "openai", &standin.base_url(), other, "");
    let stage = open(&line, "").await;
    for answer in [list(&stage).await, Call::chat("chat").send(stage.data).await.unwrap()] {
        let body = answer.body_text();
        assert_eq!(answer.status, 400, "{body}");
        for part in [KEY_ONE, other, "with"] {
            assert!(!body.contains(part), "{part} in {body}");
        }
    }
}

/// What a variable put into a header that the operator adds is as secret as a key.
#[tokio::test]
async fn no_header_from_a_variable_leaves_in_an_answer() {
    let text = format!("{{\"error\":\"{GATEWAY_TOKEN} not-a-secret\"}}");
    let quoting =
        Reply::body(400, "application/json", text).header("x-said", &format!("Bearer {GATEWAY_TOKEN}"));
    let standin = Provider::start(quoting).await.unwrap();
    let more = "headers: {x-gateway: \"Bearer ${GATEWAY_TOKEN}\", x-plain: not-a-secret}";
    let stage = open(&provider("one", "openai", &standin.base_url(), KEY_ONE, more), "").await;
    for answer in [list(&stage).await, Call::chat("chat").send(stage.data).await.unwrap()] {
        let body = answer.body_text();
        assert_eq!((answer.status, answer.header("x-said")), (400, None), "{body}");
        assert!(!body.contains(GATEWAY_TOKEN) && body.contains("not-a-secret"), "{body}");
    }
    assert_eq!(standin.last().unwrap().header("x-gateway"), Some(&*format!("Bearer {GATEWAY_TOKEN}")));
}

#[tokio::test]
async fn a_redirect_is_a_fault_and_leads_nobody() {
    for status in [301, 302, 307, 308] {
        let (stage, _standin) =
            one(Reply::status(status).header("location", "http://169.254.169.254/"), "").await;
        let answer = list(&stage).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_error"), "{status}");
        eventually("it is counted", || is(attempts(&stage, "bad_body"), 1)).await;
    }
}

#[tokio::test]
async fn a_key_that_is_refused_is_counted_as_that() {
    let (stage, _standin) = one(Reply::status(401), "").await;
    let answer = list(&stage).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_auth"));
    eventually("it is counted", || is(attempts(&stage, "auth"), 1)).await;
    assert!(is(attempts(&stage, "truncated"), 0));
    let answer = list(&stage).await;
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(answer.status == 503 && wait > 100, "{} {wait}", answer.status);
}

#[tokio::test]
async fn a_provider_that_rests_is_told_as_for_any_call() {
    let (stage, standin) = one(Reply::status(503).header("retry-after", "30"), "").await;
    list(&stage).await;
    let answer = list(&stage).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "all_targets_unavailable"));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((29..=30).contains(&wait), "{wait}");
    assert_eq!(standin.count(), 1);
}
