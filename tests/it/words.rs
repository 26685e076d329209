//! Are the client and the books told what was really the case, where an answer goes wrong in an
//! unusual way?
//!
//! (Failure table, rows 16 to 18, 21, 22 and 24; contract sections 3, 7 and 8; requirements A16, E31;
//! threat P4.)

use crate::process::eventually;
use crate::scene::{Api, FORGETFUL, Pair, RESCUER, Wire, provider, trail};
use crate::stage::Stage;
use pointsman::standin::caller::{self, BodyEnd, Call};
use pointsman::standin::{Place, Provider, Reply, Twist};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

async fn pair(first: Reply) -> Pair {
    let first = Provider::start(first).await.unwrap();
    Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), FORGETFUL).await
}

/// A stream whose first event with anything in it is an error.
fn in_band(error: &str) -> Reply {
    let role = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#;
    Reply::events([format!("{role}\n\n"), format!("data: {error}\n\n")])
}

#[tokio::test]
async fn an_error_at_the_head_of_a_stream_is_told_as_its_twin_would_be() {
    for (error, status, word) in [
        (
            r#"{"error":{"message":"temperature too high","type":"invalid_request_error","code":"invalid_value"}}"#,
            400,
            "temperature too high",
        ),
        (
            r#"{"error":{"message":"no","type":"invalid_request_error","code":"content_policy_violation"}}"#,
            400,
            "no",
        ),
        (r#"{"error":{"message":"odd","code":400}}"#, 400, "odd"),
    ] {
        let pair = pair(in_band(error)).await;
        let answer = pair.stream().await;
        assert_eq!(answer.status, status, "{error}: {}", answer.body_text());
        assert_eq!(answer.header("content-type"), Some("application/json"), "{error}");
        assert_eq!(answer.json()["error"]["message"], word, "{error}: {}", answer.body_text());
        assert_eq!(pair.second.count(), 0, "{error}: nobody else is asked");
    }
}

#[tokio::test]
async fn an_error_inside_a_whole_200_is_never_a_success() {
    let invalid = r#"{"error":{"message":"bad","type":"invalid_request_error","code":"invalid_value"}}"#;
    let pair = pair(Reply::body(200, "application/json", invalid)).await;
    let answer = pair.chat().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER));
    assert_eq!(trail(&answer), ["one/k:inband_error", "two/k:ok"]);
    pair.second.set_script(Reply::body(200, "application/json", invalid));
    assert_eq!(pair.chat().await.status, 502, "everybody says so");
    let filtered = r#"{"error":{"message":"no","code":"content_policy_violation"}}"#;
    pair.first.set_script(Reply::body(200, "application/json", filtered));
    let answer = pair.chat().await;
    assert_eq!(
        (answer.status, answer.body_text().as_str()),
        (400, filtered),
        "a filter is not shopped around"
    );
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole_only_where_something_says_so() {
    let whole = Reply::ok().close_delimited();
    let pair = pair(whole).await;
    assert_eq!(pair.chat().await.status, 200, "a whole document");
    let stream = pair.stream().await;
    assert_eq!((stream.status, &stream.end), (200, &BodyEnd::Clean), "a stream with its own end");
    // Too long to be held, and so on its way before its end is seen.
    let half = format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}", "x".repeat(1_200_000));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    pair.first.set_script(Reply::raw(format!("{head}{half}")).then_close());
    let answer = pair.chat().await;
    assert!(matches!(answer.end, BodyEnd::Cut(_)), "{:?}", answer.end);
    eventually("it is counted", async || {
        pair.stage.metric("pointsman_attempts_total", &["outcome=\"truncated\""]) > 0.5
    })
    .await;
}

#[tokio::test]
async fn a_head_above_64_kib_is_no_answer_however_it_is_cut() {
    for reply in [
        Reply::ok().header("x-a", &"a".repeat(66 << 10)),
        (0..10).fold(Reply::ok(), |reply, at| reply.header(&format!("x-{at}"), &"a".repeat(6_700))),
    ] {
        let pair = pair(reply).await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{:?}", trail(&answer));
    }
    let pair = pair(Reply::ok().header("x-a", &"a".repeat(60 << 10))).await;
    assert_eq!(trail(&pair.chat().await), ["one/k:ok"]);
}

#[tokio::test]
async fn who_gave_up_waiting_is_not_asked_again() {
    for status in [408, 425] {
        let pair = pair(Reply::status(status)).await;
        assert_eq!(trail(&pair.chat().await), [format!("one/k:{status}"), "two/k:ok".to_owned()]);
        pair.second.set_script(Reply::status(status));
        assert_eq!(pair.chat().await.status, 504, "{status}");
    }
}

#[tokio::test]
async fn what_a_provider_keeps_is_asked_of_that_provider_alone() {
    let first = Provider::start(Reply::status(503)).await.unwrap();
    let pair = Pair::open(Api::Responses, Wire::default(), first, Reply::says(RESCUER), FORGETFUL).await;
    for state in [r#""previous_response_id":"resp_1""#, r#""conversation":"conv_1""#] {
        let body = format!(r#"{{"model":"chat","input":"hello","store":false,{state}}}"#);
        let answer = Call::post("/v1/responses", body).send(pair.stage.data).await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.body_text());
        assert_eq!(pair.second.count(), 0, "{state}");
    }
    let body = r#"{"model":"chat","input":"hello","store":false}"#;
    let answer = Call::post("/v1/responses", body).send(pair.stage.data).await.unwrap();
    assert_eq!(answer.status, 200, "without state it moves on");
}

#[tokio::test]
async fn a_client_that_wants_no_retry_gets_one_attempt() {
    let pair = pair(Reply::status(500)).await;
    let call = Call::chat("chat").header("x-pointsman-no-retry", "1");
    let answer = call.send(pair.stage.data).await.unwrap();
    assert_eq!((answer.status, trail(&answer)), (502, vec!["one/k:500".to_owned()]));
    assert_eq!((pair.first.count(), pair.second.count()), (1, 0));
    assert!(pair.first.last().unwrap().header("x-pointsman-no-retry").is_none());
    let call = Call::chat_stream("chat").header("x-pointsman-no-retry", "1");
    pair.first.set_script(Reply::sixty_words().at(Place::AfterTokens(20), Twist::Reset));
    let answer = call.send(pair.stage.data).await.unwrap();
    assert!(answer.error().is_some() && pair.second.count() == 0, "a broken stream is not taken up");
}

#[tokio::test]
async fn a_refusal_in_the_providers_own_words_is_whole() {
    let body =
        format!("{{\"error\":{{\"message\":\"{}\",\"code\":\"invalid_value\"}}}}", "x".repeat(100_000));
    let pair = pair(Reply::body(400, "application/json", body.clone())).await;
    let answer = pair.chat().await;
    assert_eq!(answer.status, 400);
    assert!(answer.body_text() == body, "{} of {} bytes", answer.body_text().len(), body.len());
}

#[tokio::test]
async fn a_stream_that_its_own_target_takes_up_changes_no_target_and_keeps_its_first_content() {
    let first = Provider::start(Reply::sixty_words()).await.unwrap();
    let yaml = format!(
        "providers:\n{}routes:\n  chat: {{targets: [{{provider: one, model: alpha}}]}}\n{FORGETFUL}",
        provider("one", "openai", &first.base_url(), "sk-one-0123456789", "")
    );
    let stage = Stage::open(&yaml).await;
    first.set_script(pointsman::standin::Script::of([Reply::reset_after(20)]).then(Reply::sixty_words()));
    let answer = Call::chat_stream("chat").limit(SOON).send(stage.data).await.unwrap();
    assert_eq!((answer.status, first.count()), (200, 2), "{}", answer.body_text());
    eventually("the request is told", async || !stage.said("request").is_empty()).await;
    assert!(stage.metric("pointsman_failovers_total", &[]) < 0.5);
    assert!(stage.said("request")[0]["ttfc_ms"].is_u64(), "{}", stage.said("request")[0]);
}

#[tokio::test]
async fn a_stream_says_that_nobody_in_between_may_keep_or_gather_it() {
    let pair = pair(Reply::ok()).await;
    let answer = pair.stream().await;
    assert_eq!(
        (answer.header("cache-control"), answer.header("x-accel-buffering")),
        (Some("no-cache"), Some("no"))
    );
    pair.first.set_script(Reply::ok().header("cache-control", "no-store"));
    assert_eq!(
        pair.stream().await.header("cache-control"),
        Some("no-store"),
        "the provider's own word stays"
    );
    assert_eq!(pair.chat().await.header("x-accel-buffering"), None);
}

#[tokio::test]
async fn an_http10_client_gets_a_stream_without_chunks_that_ends_with_the_connection() {
    let pair = pair(Reply::ok()).await;
    let body = r#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: keep-alive\r\n\r\n",
        body.len()
    );
    let said = caller::raw(pair.stage.data, (head + body).as_bytes(), SOON).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    let (head, rest) = said.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(rest.starts_with("data: ") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
}

#[tokio::test]
async fn requests_that_come_before_the_answer_are_answered_in_their_turn() {
    let pair = pair(Reply::echo()).await;
    let one = |number: usize, more: &str| {
        let body = format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"{number}"}}]}}"#);
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-request-id: r{number}\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    let health = "GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
    let all = [one(1, ""), one(2, ""), health.to_owned(), one(3, "connection: close\r\n")].concat();
    let said = caller::raw(pair.stage.data, all.as_bytes(), SOON).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.matches("HTTP/1.1 200").count(), 4, "{said}");
    let at = |word: &str| said.find(word).unwrap_or_else(|| panic!("{word} in {said}"));
    assert!(
        at("x-request-id: r1") < at("x-request-id: r2") && at("x-request-id: r2") < at("x-request-id: r3"),
        "{said}"
    );
    assert_eq!(pair.first.count(), 3);
}

#[tokio::test]
async fn a_refusal_that_no_waiting_mends_says_so() {
    let first = Provider::start(Reply::ok()).await.unwrap();
    let yaml = format!(
        "limits: {{max_body: 1KiB}}\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: alpha}}]}}\n",
        provider("one", "openai", &first.base_url(), "sk-one-0123456789", "")
    );
    let stage = Stage::open(&yaml).await;
    for (call, status) in [
        (Call::post("/v1/chat/completions", vec![b' '; 4096]), 413),
        (Call::get("/v1/chat/completions"), 405),
        (Call::chat("chat").header("x-a", &"a".repeat(15_000)).header("x-b", &"b".repeat(60_000)), 431),
    ] {
        let answer = call.send(stage.data).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{status}");
    }
}

#[tokio::test]
async fn what_an_operator_took_out_is_not_waited_for() {
    let pair = pair(Reply::ok()).await;
    for slot in &pair.stage.house.live().slots {
        slot.operate(pointsman::health::Operation::Disabled);
    }
    let answer = pair.chat().await;
    assert_eq!((answer.status, answer.header("x-attempts")), (503, Some("0")));
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (None, Some("false")));
}

#[tokio::test]
async fn a_dead_fallback_does_not_tell_tools_to_stay_away_from_a_live_target() {
    let pair = pair(Reply::status(500)).await;
    pair.second.set_script(Reply::status(401));
    let answer = pair.chat().await;
    assert_eq!(answer.status, 502, "{}", answer.body_text());
    let answer = pair.chat().await;
    assert_eq!(
        (answer.header("retry-after"), answer.header("x-should-retry")),
        (None, None),
        "{:?}",
        answer.headers
    );
}

#[tokio::test]
async fn what_each_target_of_a_stream_used_is_told_apart() {
    let words = "one two three four five six seven eight nine ten";
    let first = Provider::start(Reply::reset_after(5).text(words).usage(21, 2)).await.unwrap();
    let second = Reply::says(words).usage(33, 44);
    let pair = Pair::open(Api::Chat, Wire::default(), first, second, FORGETFUL).await;
    let answer = pair.stream().await;
    assert_eq!(trail(&answer).len(), 1, "the head names the first");
    eventually("the request is told", async || !pair.stage.said("request").is_empty()).await;
    let line = &pair.stage.said("request")[0];
    let spent = line["spent"].as_str().unwrap_or_default();
    assert!(spent.starts_with("one/k/alpha:") && spent.ends_with(",two/k/beta:33+44"), "{line}");
    let page = pair.stage.house.decisions.find(line["id"].as_str().unwrap()).unwrap();
    assert_eq!(page["attempts"][1]["out_tokens"], 44, "{page}");
    pair.first.set_script(Reply::ok());
    pair.stream().await;
    eventually("the next one too", async || pair.stage.said("request").len() == 2).await;
    assert!(pair.stage.said("request")[1].get("spent").is_none(), "one target needs no list");
}
