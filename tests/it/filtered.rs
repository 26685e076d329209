//! What becomes of an answer that a content filter stopped? (Failure table, row 16.)
//!
//! As a rule it is the answer. Where the operator wants that (`retry.on_content_filter: failover`),
//! another target is asked as long as nothing of it went to the client.

use crate::scene::{Api, KEY_ONE, KEY_TWO, Pair, RESCUER, Wire, ms, provider, trail};
use crate::stage::{Stage, eventually};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Gate, Place, Provider, Reply, Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FAILOVER: &str = "retry: {on_content_filter: failover, same_target: 0}\n";

/// A stream with these words, as one piece.
fn stream(words: &str) -> String {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let content =
        if words.is_empty() { String::new() } else { chunk(&format!("{{\"content\":\"{words}\"}}"), "null") };
    let opening = chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null");
    let closing = chunk("{}", "\"content_filter\"");
    let usage =
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
    opening + &content + &closing + usage + "data: [DONE]\n\n"
}

fn filtered_stream(words: &str) -> Reply {
    Reply::body(200, "text/event-stream", stream(words))
}

fn filtered() -> Reply {
    Reply::says("half of").finish_reason("content_filter").usage(5, 2)
}

async fn open(first: impl Into<Script>, second: impl Into<Script>, more: &str) -> Pair {
    let first = Provider::start(first).await.unwrap();
    Pair::open(Api::Chat, Wire::default(), first, second, more).await
}

#[tokio::test]
async fn a_filtered_answer_is_the_answer_as_a_rule() {
    let pair = open(filtered(), Reply::says(RESCUER), "").await;
    for answer in [pair.chat().await, pair.stream().await] {
        assert_eq!(trail(&answer), ["one/k:ok"]);
        assert!(answer.body_text().contains("content_filter"), "{}", answer.body_text());
    }
    assert_eq!(pair.second.count(), 0);
}

#[tokio::test]
async fn a_filtered_answer_is_left_where_the_operator_wants_that() {
    let pair = open(filtered(), Reply::says(RESCUER), FAILOVER).await;
    for _ in 0..6 {
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{}", answer.body_text());
        assert_eq!(trail(&answer), ["one/k:content_filtered", "two/k:ok"]);
    }
    assert_eq!(pair.first.count(), 6, "neither cooldown nor breaker");
    let used = pair.stage.metric("pointsman_tokens_total", &["one/k", "direction=\"output\""]);
    assert!((used - 12.0).abs() < 0.5, "what it used is counted: {used}");
    pair.first.set_script(filtered_stream(""));
    let answer = pair.stream().await;
    assert_eq!((answer.text().as_str(), answer.has_end_marker()), (RESCUER, true));
    assert_eq!(trail(&answer), ["one/k:content_filtered", "two/k:ok"]);
}

#[tokio::test]
async fn a_stream_that_is_filtered_before_anything_was_sent_on_is_left_with_its_words() {
    let pair = open(filtered_stream("half of"), Reply::says(RESCUER), FAILOVER).await;
    let answer = pair.stream().await;
    assert_eq!(trail(&answer), ["one/k:content_filtered", "two/k:ok"]);
    assert_eq!(answer.text(), RESCUER);
}

#[tokio::test]
async fn a_stream_that_is_filtered_after_its_first_words_were_sent_on_goes_on() {
    let gate = Gate::closed();
    let reply = Reply::says("half of it was said").finish_reason("content_filter");
    let pair = open(reply.hold(Place::AfterTokens(1), &gate), Reply::says(RESCUER), FAILOVER).await;
    let mut line = TcpStream::connect(pair.stage.data).await.unwrap();
    let body = Api::Chat.body("chat", true, 500, 1);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    line.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut told = String::new();
    for awaited in ["\"half", "content_filter", "[DONE]"] {
        while !told.contains(awaited) {
            let mut piece = [0; 4096];
            let count = line.read(&mut piece).await.unwrap();
            assert!(count > 0, "{awaited}: {told}");
            told += std::str::from_utf8(&piece[..count]).unwrap();
        }
        gate.open();
    }
    assert_eq!(pair.second.count(), 0);
}

#[tokio::test]
async fn where_nobody_has_a_better_one_the_client_gets_the_filtered_answer_as_it_came() {
    for second in [Reply::status(500), Reply::status(400), Reply::reset()] {
        let pair = open(filtered(), second.clone(), FAILOVER).await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "half of"), "{}", answer.body_text());
        assert_eq!(answer.json()["choices"][0]["finish_reason"], "content_filter");
        assert_eq!((answer.header("x-used-provider"), answer.header("x-attempts")), (Some("one"), Some("2")));
        eventually("it has its line", || !pair.stage.said("request").is_empty()).await;
        assert_eq!(pair.stage.said("request")[0]["target"], "one/k/alpha", "who gave the answer");
        pair.first.set_script(filtered_stream(""));
        let answer = pair.stream().await;
        assert_eq!((answer.status, answer.body_text()), (200, stream("")), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_filtered_answer_of_the_only_target_or_of_several_choices_is_the_answer() {
    let pair = open(filtered(), Reply::says(RESCUER), FAILOVER).await;
    let alone = Call::chat("one/alpha").send(pair.stage.data).await.unwrap();
    assert_eq!(trail(&alone), ["one/k:ok"]);
    let body = serde_json::json!({"model": "chat", "n": 2, "messages": [{"role": "user", "content": "x"}]});
    let two = Call::json("/v1/chat/completions", &body).send(pair.stage.data).await.unwrap();
    assert_eq!(trail(&two), ["one/k:ok"]);
    let once = Call::chat("chat").header("x-pointsman-no-retry", "1").send(pair.stage.data).await.unwrap();
    assert_eq!(trail(&once), ["one/k:ok"]);
}

#[tokio::test]
async fn where_all_are_filtered_the_client_gets_the_last_one() {
    let pair = open(filtered(), filtered(), FAILOVER).await;
    let answer = pair.chat().await;
    assert_eq!(trail(&answer), ["one/k:content_filtered", "two/k:ok"]);
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "content_filter");
}

/// A refusal of Anthropic's, told in the client's dialect.
#[tokio::test]
async fn a_filtered_answer_is_told_in_the_clients_dialect() {
    let one = Provider::start(Reply::says("half of").finish_reason("refusal")).await.unwrap();
    let two = Provider::start(Reply::status(500)).await.unwrap();
    let mut yaml = format!("{FAILOVER}providers:\n");
    yaml += &provider("one", "anthropic", &one.origin(), KEY_ONE, "");
    yaml += &provider("two", "openai", &two.base_url(), KEY_TWO, "");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: opus, priority: 1}, {provider: two, model: gpt, priority: 2}]}\n";
    let stage = Stage::open(&yaml).await;
    let check = |answer: &Answer| {
        assert_eq!((answer.status, answer.text().as_str()), (200, "half of"), "{}", answer.body_text());
        assert!(answer.body_text().contains("\"content_filter\""), "{}", answer.body_text());
    };
    check(&Call::chat("chat").send(stage.data).await.unwrap());
    two.set_script(Reply::says(RESCUER));
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!((trail(&answer)[0].as_str(), answer.text().as_str()), ("one/k:content_filtered", RESCUER));
}

#[tokio::test]
async fn a_hedge_answers_in_the_place_of_a_filtered_answer_and_else_the_client_gets_that() {
    let hedge = format!("{FAILOVER}hedge: {{after: 20ms, max_ratio: 1}}\n");
    for (second, want) in [(Reply::says(RESCUER), RESCUER), (Reply::status(500), "half of")] {
        let (first_gate, second_gate) = (Gate::closed(), Gate::closed());
        let first = filtered().hold(Place::BeforeHead, &first_gate);
        let pair = open(first, second.hold(Place::BeforeHead, &second_gate), &hedge).await;
        let data = pair.stage.data;
        let sent = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
        assert!(pair.second.until(ms(5000), |seen| seen.len() == 1).await, "the hedge is asked");
        first_gate.open();
        assert!(pair.first.until(ms(5000), |seen| seen.iter().any(|one| one.ended.is_some())).await);
        second_gate.open();
        let answer = sent.await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, want), "{:?}", answer.headers);
    }
}

/// A refusal of a content filter: of OpenAI's, Azure's and many others' before they began.
fn refusal(status: u16) -> Reply {
    Reply::status(status).code("content_filter").message("the prompt was filtered")
}

#[tokio::test]
async fn where_nobody_has_a_better_one_the_client_gets_the_refusal_of_the_filter_as_it_came() {
    for status in [400, 403] {
        for second in [Reply::status(500), Reply::status(400), Reply::reset(), Reply::status(529)] {
            let pair = open(refusal(status), second.clone(), FAILOVER).await;
            let alone = Call::chat("one/alpha").send(pair.stage.data).await.unwrap();
            for answer in [pair.chat().await, pair.stream().await] {
                assert_eq!((answer.status, answer.body_text()), (status, alone.body_text()), "{second:?}");
                assert!(answer.body_text().contains("content_filter"), "{}", answer.body_text());
                assert_eq!(trail(&answer)[0], format!("one/k:{status}"));
                assert_eq!(answer.header("x-used-provider"), Some("one"));
            }
            assert!(pair.second.count() >= 1, "the other was asked");
        }
    }
    let pair = open(refusal(400), Reply::says(RESCUER), FAILOVER).await;
    assert_eq!(pair.chat().await.text(), RESCUER);
}

/// What there is of an answer is more than a refusal, whoever was asked first.
#[tokio::test]
async fn of_what_filters_left_an_answer_comes_before_a_refusal() {
    let mut yaml = format!("{FAILOVER}providers:\n");
    let one = Provider::start(refusal(400)).await.unwrap();
    let two = Provider::start(filtered()).await.unwrap();
    let three = Provider::start(Reply::status(500)).await.unwrap();
    for (name, provider_of) in [("one", &one), ("two", &two), ("three", &three)] {
        yaml += &provider(name, "openai", &provider_of.base_url(), KEY_ONE, "");
    }
    yaml += "routes:\n  chat: {targets: [{provider: one, model: a, priority: 1}, {provider: two, model: b, priority: 2}, {provider: three, model: c, priority: 3}]}\n";
    let stage = Stage::open(&yaml).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "half of"), "{}", answer.body_text());
    assert_eq!(trail(&answer), ["one/k:400", "two/k:content_filtered", "three/k:500"]);
}

/// Its own words may speak of what the client never wrote.
#[tokio::test]
async fn a_refusal_of_the_filter_is_told_in_the_clients_dialect() {
    let one = Provider::start(
        Reply::status(400)
            .kind("invalid_request_error")
            .message("Output blocked by content filtering policy"),
    )
    .await
    .unwrap();
    let two = Provider::start(Reply::status(500)).await.unwrap();
    let mut yaml = format!("{FAILOVER}providers:\n");
    yaml += &provider("one", "anthropic", &one.origin(), KEY_ONE, "");
    yaml += &provider("two", "openai", &two.base_url(), KEY_TWO, "");
    yaml += "routes:\n  chat: {targets: [{provider: one, model: opus, priority: 1}, {provider: two, model: gpt, priority: 2}]}\n";
    let stage = Stage::open(&yaml).await;
    let answer = Call::chat("chat").send(stage.data).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body_text());
    assert!(answer.body_text().contains("content filter"), "{}", answer.body_text());
    assert_eq!(trail(&answer), ["one/k:400", "two/k:500"]);
}
