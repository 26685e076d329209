//! One deadline covers all attempts: who gets how much of it, and what a client may say to it.

use crate::scene::{Api, Pair, Wire, ms, trail};
use crate::stage::Stage;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Provider, Reply, Script};
use std::time::Duration;
use tokio::task::JoinSet;

const H1: Wire = Wire { is_http2_client: false, is_http2_provider: false };
const WISH: &str = "x-request-timeout-ms";

async fn pair(first: impl Into<Script>, second: impl Into<Script>, more: &str) -> Pair {
    Pair::open(Api::Chat, H1, Provider::start(first).await.unwrap(), second, more).await
}

async fn within(pair: &Pair, wish: &str) -> Answer {
    Call::chat("chat").header(WISH, wish).send(pair.stage.data).await.unwrap()
}

fn breaker(stage: &Stage, target: &str) -> f64 {
    stage.metric("pointsman_breaker_state", &[target])
}

#[tokio::test]
async fn waits_in_place_leave_a_healthy_target_its_time() {
    let more = "timeouts: {total: 3s}\nretry: {prefer: same_target, same_target: 10}\n";
    let slow = Reply::ok().after(ms(1200));
    let pair = pair(Reply::rate_limited(Some("1")), slow, more).await;
    let answer = pair.chat().await;
    assert_eq!(answer.status, 200, "{} {:?}", answer.body_text(), trail(&answer));
    assert_eq!(pair.first.count(), 2, "one wait of a second in a turn of one and a half");
}

#[tokio::test]
async fn a_silent_target_leaves_the_next_its_time() {
    for more in ["timeouts: {total: 1200ms}\n", "timeouts: {total: 1200ms, first_content: 1100ms}\n"] {
        let pair = pair(Reply::silence(), Reply::ok().after(ms(300)), more).await;
        for answer in [pair.chat().await, pair.stream().await] {
            assert_eq!(answer.status, 200, "{} {:?}", answer.body_text(), trail(&answer));
            assert_eq!(trail(&answer), ["one/k:timeout_first_content", "two/k:ok"]);
            assert!((ms(850)..ms(1200)).contains(&answer.took), "{:?}", answer.took);
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_who_would_not_have_the_time() {
    // Perhaps processed, and so no timer moves it on; but a 503 would.
    let late = Reply::status(503).after(ms(930));
    let first = Provider::start(late).await.unwrap();
    let pair = Pair::open(Api::Responses, H1, first, Reply::ok(), "timeouts: {total: 1s}\n").await;
    let body = br#"{"model":"chat","input":"hello","store":true}"#;
    let answer = Api::Responses.call(body.as_slice().into()).send(pair.stage.data).await.unwrap();
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "deadline_exceeded"));
    assert!(answer.took < ms(995), "at once: {:?}", answer.took);
    assert_eq!((pair.first.count(), pair.second.count()), (1, 0));
}

#[tokio::test]
async fn a_clients_wish_shortens_its_own_deadline_and_goes_no_further() {
    let pair = pair(Reply::silence(), Reply::ok(), "").await;
    let answer = within(&pair, "1000").await;
    assert_eq!((answer.status, answer.header("x-used-provider")), (200, Some("two")));
    assert!((ms(400)..ms(1000)).contains(&answer.took), "half of it for each: {:?}", answer.took);
    for provider in [&pair.first, &pair.second] {
        let seen = provider.last().unwrap();
        assert_eq!(seen.header(WISH), None, "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn a_wish_is_held_within_its_bounds_and_below_the_operators_deadline() {
    let second = Duration::from_secs(1);
    for (total, wish, want, why) in [
        ("30s", "1", second, "a second at least"),
        ("700ms", "300000", ms(700), "never longer than total"),
        ("700ms", "99999999999999999999", ms(700), "nor by a huge number"),
        ("700ms", "soon", ms(700), "no wish at all"),
    ] {
        let only = Provider::start(Reply::silence()).await.unwrap();
        let more = format!("timeouts: {{total: {total}}}\nretry: {{failovers: 0}}\n");
        let pair = Pair::open(Api::Chat, H1, only, Reply::ok(), &more).await;
        let answer = within(&pair, wish).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "deadline_exceeded"), "{why}");
        let took = answer.took + ms(30);
        assert!((want..want + ms(500)).contains(&took), "{why}: {:?}", answer.took);
    }
}

#[tokio::test]
async fn clients_in_a_hurry_open_no_breaker() {
    for (more, wish, is_held_against_it) in [
        ("", Some("1000"), false),
        ("timeouts: {total: 1s}\n", None, true),
        ("timeouts: {total: 1s}\n", Some("1000"), true),
    ] {
        let pair = pair(Reply::silence(), Reply::ok(), more).await;
        let mut running = JoinSet::new();
        for _ in 0..6 {
            let call = Call::chat("chat");
            let call = wish.map_or(call.clone(), |wish| call.header(WISH, wish));
            let at = pair.stage.data;
            running.spawn(async move { call.send(at).await.unwrap() });
        }
        while let Some(answer) = running.join_next().await {
            assert_eq!(answer.unwrap().header("x-used-provider"), Some("two"));
        }
        let is_open = breaker(&pair.stage, "target=\"one/k/alpha\"") > 0.5;
        assert_eq!(is_open, is_held_against_it, "{more:?} {wish:?}");
    }
}
