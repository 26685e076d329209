//! What do the operator's own words for errors change?
//!
//! (Requirements E2 and E16: the same fault comes to the same whatever dress it wears.)

use crate::scene::{Api, FORGETFUL, Pair, RESCUER, Wire};
use pointsman::standin::{Provider, Reply};

const MESSAGE: &str = "The team pool is drained until Monday.";

/// A fault in every dress: with an error status as JSON, text and page, and hidden behind a 200.
fn dresses(message: &str) -> Vec<(&'static str, Reply)> {
    let object = format!("{{\"error\":{{\"message\":\"{message}\",\"type\":\"forbidden\"}}}}");
    let page = format!("<html><head><title>Sorry</title></head><body><p>{message}</p></body></html>");
    vec![
        ("an error object", Reply::body(403, "application/json", object.clone())),
        ("text", Reply::body(403, "text/plain", message.to_owned())),
        ("a page", Reply::body(403, "text/html", page.clone())),
        ("an error object in a 200", Reply::body(200, "application/json", object.clone())),
        (
            "a message in a 200",
            Reply::body(200, "application/json", format!("{{\"message\":\"{message}\"}}")),
        ),
        ("a message of another name in a 200", {
            Reply::body(200, "application/json", format!("{{\"code\":1,\"msg\":\"{message}\"}}"))
        }),
        ("text in a 200", Reply::body(200, "text/plain", message.to_owned())),
        ("a page in a 200", Reply::body(200, "text/html", page)),
        ("an event", Reply::body(200, "text/event-stream", format!("data: {object}\n\n"))),
    ]
}

async fn pair(reply: Reply, more: &str) -> Pair {
    let first = Provider::start(reply).await.unwrap();
    Pair::open(Api::Chat, Wire::default(), first, Reply::says(RESCUER), more).await
}

/// Attempts at the first provider that came to a spent quota.
fn quotas(pair: &Pair) -> f64 {
    pair.stage.metric("pointsman_attempts_total", &["target=\"one/k/alpha\"", "outcome=\"quota\""])
}

#[tokio::test]
async fn a_pattern_tells_a_fault_in_every_dress_and_the_credential_rests() {
    let patterns = "classifier: {patterns: [{match: \"pool is (drained|empty)\", status: [403, 200], outcome: quota}]}\n";
    for (dress, reply) in dresses(MESSAGE) {
        let pair = pair(reply, patterns).await;
        for call in 0..2 {
            let answer = if dress == "an event" { pair.stream().await } else { pair.chat().await };
            assert_eq!((answer.status, answer.text()), (200, RESCUER.to_owned()), "{dress}, call {call}");
        }
        assert_eq!(pair.first.count(), 1, "{dress}: a spent quota was asked again");
        assert!(quotas(&pair) > 0.5, "{dress}");
        let rest = pair.stage.metric("pointsman_cooldown_remaining_seconds", &["target=\"one/k/alpha\""]);
        assert!(rest > 600.0, "{dress}: {rest} s of rest");
    }
}

#[tokio::test]
async fn what_says_quota_behind_a_200_is_known_without_a_pattern() {
    for (dress, reply) in dresses("Free usage exceeded, add credits to go on.") {
        if dress == "a page" || dress == "a page in a 200" {
            // Of a page only the title is believed unasked.
            continue;
        }
        let pair = pair(reply, "").await;
        let answer = if dress == "an event" { pair.stream().await } else { pair.chat().await };
        assert_eq!(answer.text(), RESCUER, "{dress}");
        assert!(quotas(&pair) > 0.5, "{dress}");
    }
}

#[tokio::test]
async fn without_the_pattern_the_same_words_are_no_quota() {
    for (dress, reply) in dresses(MESSAGE) {
        let pair = pair(reply, FORGETFUL).await;
        let answer = if dress == "an event" { pair.stream().await } else { pair.chat().await };
        assert_eq!(answer.text(), RESCUER, "{dress}");
        assert!(quotas(&pair) < 0.5, "{dress}");
    }
}

#[tokio::test]
async fn an_answer_is_never_searched() {
    let patterns = "classifier: {patterns: [{match: \"pool is drained\", outcome: quota}, {match: \".*\", status: [200], outcome: quota}]}\n";
    let pair = pair(Reply::says(MESSAGE), patterns).await;
    for answer in [pair.chat().await, pair.stream().await] {
        assert_eq!((answer.status, answer.text()), (200, MESSAGE.to_owned()));
    }
    let cut = format!("{{\"choices\":[{{\"message\":{{\"content\":\"{MESSAGE} your credit balance");
    pair.first.set_script(Reply::body(200, "application/json", cut));
    assert_eq!(pair.chat().await.text(), RESCUER);
    assert!(quotas(&pair) < 0.5, "the model's own words in a cut answer were taken for the provider's");
}
