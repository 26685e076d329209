//! A second target is asked while the first keeps the client waiting: who wins, what becomes of the
//! other, and what it costs.

use crate::scene::{Api, KEY_ONE, KEY_TWO, Pair, RESCUER, Wire, ms, provider, trail};
use crate::stage::{Stage, eventually};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Gate, Place, Provider, Refusal, Reply, Script, Seen, Twist};
use std::time::Duration;
use tokio::task::JoinSet;

const H1: Wire = Wire { is_http2_client: false, is_http2_provider: false };
const H2: Wire = Wire { is_http2_client: true, is_http2_provider: true };
const HEDGED: &str = "hedge: {after: 50ms, max_ratio: 1}\n";
const FIRST: &str = "Hello from the first, señor caller.";

async fn pair(wire: Wire, first: impl Into<Script>, second: impl Into<Script>, more: &str) -> Pair {
    let more = format!("{HEDGED}{more}");
    Pair::with_models(Api::Chat, wire, Provider::start(first).await.unwrap(), second, &more, "same", "same")
        .await
}

async fn ask(pair: &Pair, wire: Wire, is_streamed: bool) -> Answer {
    let call = Api::Chat.call(Api::Chat.body("chat", is_streamed, 500, 7));
    wire.connect(pair.stage.data).await.send(&call).await.unwrap().0
}

fn hedges(pair: &Pair, result: &str) -> f64 {
    pair.stage.metric("pointsman_hedges_total", &[&format!("result=\"{result}\"")])
}

fn attempts(pair: &Pair, label: &str) -> f64 {
    pair.stage.metric("pointsman_attempts_total", &[label])
}

fn is(value: f64, want: u32) -> bool {
    (value - f64::from(want)).abs() < 0.5
}

async fn sees_the_client_leave(left: &Provider) {
    let left = left.until(Duration::from_secs(2), |seen| seen.iter().any(Seen::has_client_left)).await;
    assert!(left, "the call was not called off");
}

/// A first provider that says this once the gate is open.
fn gated(reply: Reply) -> (Reply, Gate) {
    let gate = Gate::closed();
    (reply.hold(Place::BeforeHead, &gate), gate)
}

/// Waits until the hedge was asked, or for as long as nobody would ask it, and opens the gate.
async fn open_once_asked(hedge: &Provider, gate: &Gate, limit: Duration) {
    hedge.until(limit, |seen| !seen.is_empty()).await;
    gate.open();
}

/// Waits until an attempt at this provider was counted as failed, and opens the gate.
async fn open_once_failed(pair: &Pair, provider: &str, gate: &Gate) {
    eventually("the fault is settled", || {
        let live = pair.stage.house.live();
        let slot = live.slots.iter().find(|slot| &*slot.provider == provider).unwrap();
        slot.tally.read().failed == 1
    })
    .await;
    gate.open();
}

#[tokio::test]
async fn a_slow_target_is_overtaken_and_called_off_at_once() {
    for wire in [H1, H2] {
        for (is_streamed, slow) in [
            (false, Reply::silence()),
            (true, Reply::silence()),
            (true, Reply::says(FIRST).at(Place::AfterOpening, Twist::Silence)),
            (false, Reply::says(FIRST).at(Place::AfterTokens(1), Twist::Silence)),
        ] {
            let pair = pair(wire, slow, Reply::says(RESCUER), "").await;
            let answer = ask(&pair, wire, is_streamed).await;
            let what = format!("{wire:?}, streamed {is_streamed}: {:?}", answer.headers);
            assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{what}");
            assert!(!is_streamed || answer.has_end_marker(), "{what}");
            assert!((ms(45)..ms(1500)).contains(&answer.took), "{what} {:?}", answer.took);
            assert_eq!(trail(&answer), ["one/k:hedge_lost", "two/k:ok"], "{what}");
            assert_eq!(answer.header("x-attempts"), Some("2"), "{what}");
            assert_eq!(answer.header("x-used-fallback"), Some("true"), "{what}");
            sees_the_client_leave(&pair.first).await;
            eventually("it is counted", || is(hedges(&pair, "won"), 1)).await;
            assert!(is(attempts(&pair, "target=\"one/k/same\""), 0), "no outcome: {}", pair.stage.metrics());
            assert!(is(attempts(&pair, "outcome=\"ok\""), 1));
            assert!(is(pair.stage.metric("pointsman_ambiguous_attempts_total", &["one/k/same"]), 1));
            assert!(is(pair.stage.metric("pointsman_in_flight", &[]), 0));
            assert!(is(pair.stage.metric("pointsman_failovers_total", &[]), 0));
        }
    }
}

#[tokio::test]
async fn the_first_may_still_win_and_the_hedge_is_called_off() {
    for wire in [H1, H2] {
        for is_streamed in [false, true] {
            let (slow, gate) = gated(Reply::says(FIRST));
            let pair = pair(wire, slow, Reply::silence(), "").await;
            let opening = open_once_asked(&pair.second, &gate, Duration::from_secs(5));
            let (answer, ()) = tokio::join!(ask(&pair, wire, is_streamed), opening);
            let what = format!("{wire:?}, streamed {is_streamed}: {:?}", answer.headers);
            assert_eq!((answer.status, answer.text().as_str()), (200, FIRST), "{what}");
            assert_eq!(trail(&answer), ["two/k:hedge_lost", "one/k:ok"], "{what}");
            assert_eq!(answer.header("x-used-provider"), Some("one"), "{what}");
            assert_eq!(answer.header("x-used-fallback"), Some("false"), "{what}");
            sees_the_client_leave(&pair.second).await;
            eventually("it is counted", || is(hedges(&pair, "lost"), 1)).await;
        }
    }
}

#[tokio::test]
async fn who_answers_in_time_meets_no_hedge_and_keeps_its_connection() {
    let pair = pair(H1, Reply::ok(), Reply::ok(), "").await;
    for _ in 0..5 {
        assert_eq!(trail(&pair.chat().await), ["one/k:ok"]);
        assert_eq!(trail(&pair.stream().await), ["one/k:ok"]);
    }
    assert_eq!((pair.first.connections(), pair.second.count()), (1, 0));
    assert!(!pair.stage.metrics().contains("pointsman_hedges_total{"));
}

#[tokio::test]
async fn a_long_stream_and_a_long_answer_go_on_behind_the_first_content() {
    // An answer of more than a MiB is not held until it is whole.
    for (is_streamed, words) in [(false, 300_000), (true, 3_000)] {
        let long = "word ".repeat(words);
        let winner = Reply::says(&*long);
        let pair = pair(H1, Reply::silence(), winner, "timeouts: {total: 30s}\n").await;
        let answer = ask(&pair, H1, is_streamed).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text() == long, "{} bytes, streamed {is_streamed}", answer.body.len());
    }
    let long = "word ".repeat(3_000);
    let gzipped = pair(H1, Reply::silence(), Reply::says(&*long).gzipped(), "").await;
    assert!(gzipped.stream().await.text() == long, "unpacking goes on too");
}

#[tokio::test]
async fn a_fault_leaves_the_race_to_the_other() {
    // The hedge fails while the first is still at it; then the first answers.
    let (slow, gate) = gated(Reply::says(FIRST));
    let one = pair(H1, slow, Reply::status(500), "").await;
    let (answer, ()) = tokio::join!(one.chat(), open_once_failed(&one, "two", &gate));
    assert_eq!(trail(&answer), ["two/k:hedge_500", "one/k:ok"]);
    eventually("it is counted", || is(hedges(&one, "failed"), 1)).await;
    assert!(is(attempts(&one, "outcome=\"server_error\""), 1), "it has its true outcome");
    // The first fails while the hedge is at it.
    let ((slow, gate), (slower, last_gate)) = (gated(Reply::status(503)), gated(Reply::says(RESCUER)));
    let two = pair(H1, slow, slower, "").await;
    let opening = async {
        open_once_asked(&two.second, &gate, Duration::from_secs(5)).await;
        open_once_failed(&two, "one", &last_gate).await;
    };
    let (answer, ()) = tokio::join!(two.chat(), opening);
    assert_eq!((answer.text().as_str(), trail(&answer)), (RESCUER, stops(["one/k:503", "two/k:ok"])));
    eventually("it is counted", || is(hedges(&two, "won"), 1)).await;
    // Both fail: the request ends as it would have.
    let (slow, gate) = gated(Reply::status(500));
    let both = pair(H1, slow, Reply::status(500), "retry: {same_target: 0}\n").await;
    let (answer, ()) = tokio::join!(both.chat(), open_once_failed(&both, "two", &gate));
    assert_eq!((answer.status, trail(&answer)), (502, stops(["two/k:hedge_500", "one/k:500"])));
}

fn stops<const N: usize>(stops: [&str; N]) -> Vec<String> {
    stops.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn a_fault_of_the_request_ends_both() {
    let (refusal, gate) = gated(Reply::status(400).message("temperature must be below 2"));
    let pair = pair(H1, refusal, Reply::silence(), "").await;
    let opening = open_once_asked(&pair.second, &gate, Duration::from_secs(5));
    let (answer, ()) = tokio::join!(pair.chat(), opening);
    assert_eq!(answer.status, 400, "{:?}", answer.headers);
    assert!(answer.body_text().contains("temperature"), "{}", answer.body_text());
    assert_eq!(trail(&answer), ["two/k:hedge_lost", "one/k:400"]);
    sees_the_client_leave(&pair.second).await;
}

#[tokio::test]
async fn a_client_that_leaves_and_a_deadline_end_both() {
    let pair = pair(H1, Reply::silence(), Reply::silence(), "timeouts: {total: 1500ms}\n").await;
    let call = Api::Chat.call(Api::Chat.body("chat", false, 500, 7)).leaving_after(ms(700));
    drop(call.send(pair.stage.data).await);
    sees_the_client_leave(&pair.first).await;
    sees_the_client_leave(&pair.second).await;
    eventually("both are counted", || is(attempts(&pair, "outcome=\"client_gone\""), 2)).await;
    assert!(is(hedges(&pair, "failed"), 1));
    let answer = pair.chat().await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "deadline_exceeded"));
    assert!(is(attempts(&pair, "outcome=\"timeout_total\""), 2), "{}", pair.stage.metrics());
}

#[tokio::test]
async fn nothing_is_held_against_who_was_called_off() {
    let pair = pair(H1, Reply::silence(), Reply::ok(), "").await;
    let mut running = JoinSet::new();
    for _ in 0..8 {
        let at = pair.stage.data;
        running.spawn(async move { Call::chat("chat").send(at).await.unwrap() });
    }
    while let Some(answer) = running.join_next().await {
        assert_eq!(trail(&answer.unwrap()), ["one/k:hedge_lost", "two/k:ok"]);
    }
    let breaker = pair.stage.metric("pointsman_breaker_state", &["one/k/same"]);
    assert!(is(breaker, 0), "eight silences and no failure: {breaker}");
    assert_eq!(pair.first.count(), 8);
}

#[tokio::test]
async fn no_more_than_the_ratio_is_hedged() {
    let gate = Gate::closed();
    let slow = Reply::says(FIRST).hold(Place::BeforeHead, &gate);
    let first = Provider::start(slow).await.unwrap();
    let more = "hedge: {after: 50ms, max_ratio: 0.25}\n";
    let pair = Pair::with_models(Api::Chat, H1, first, Reply::ok(), more, "same", "same").await;
    let mut running = JoinSet::new();
    for _ in 0..20 {
        let at = pair.stage.data;
        running.spawn(async move { Call::chat("chat").send(at).await.unwrap() });
    }
    eventually("all wait", || pair.first.count() == 20).await;
    eventually("some are hedged", || pair.second.count() == 5).await;
    // Who was not hedged at its time never is: the last one's is over 60 ms after it arrived.
    let last = pair.first.seen().iter().map(|seen| seen.arrived).max().unwrap();
    eventually("the time of the last is over", || pair.first.now() > last + ms(60)).await;
    gate.open();
    let mut overtaken = 0;
    while let Some(answer) = running.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200);
        overtaken += usize::from(trail(&answer) == ["one/k:hedge_lost", "two/k:ok"]);
    }
    assert_eq!(overtaken, 5, "a quarter");
    assert_eq!(pair.second.count(), 5, "a quarter");
    eventually("they are counted", || is(hedges(&pair, "won"), 5)).await;
}

#[tokio::test]
async fn only_where_it_is_wanted_and_may_be_sent_twice() {
    let slow = || Reply::says(FIRST).after(ms(200));
    for (more, why) in [
        ("", "it is off unless it is asked for"),
        ("hedge: null\n", "null is off"),
        ("hedge: {after: 50ms, max_ratio: 0}\n", "no share is never"),
        ("hedge: {after: 50ms}\n", "the first request of a tenth"),
        ("hedge: {after: 50ms, max_ratio: 1}\nretry: {failovers: 0}\n", "nobody else may be asked"),
    ] {
        let first = Provider::start(slow()).await.unwrap();
        let pair = Pair::with_models(Api::Chat, H1, first, Reply::ok(), more, "same", "same").await;
        assert_eq!(trail(&pair.chat().await), ["one/k:ok"], "{why}");
        assert_eq!(pair.second.count(), 0, "{why}");
    }
    let first = Provider::start(slow()).await.unwrap();
    let pair = Pair::open(Api::Responses, H1, first, Reply::ok(), HEDGED).await;
    let body = br#"{"model":"chat","input":"hello","store":true}"#;
    let answer = Api::Responses.call(body.as_slice().into()).send(pair.stage.data).await.unwrap();
    assert_eq!((answer.status, pair.second.count()), (200, 0), "a stored response is not asked for twice");
}

#[tokio::test]
async fn a_route_has_a_hedge_of_its_own() {
    let table = [
        ("", "hedge: {after: 50ms, max_ratio: 1}", 1),
        ("hedge: {after: 50ms, max_ratio: 1}\n", "hedge: {max_ratio: 0}", 0),
        ("hedge: {after: 50ms, max_ratio: 1}\n", "hedge: {after: 10s, max_ratio: 1}", 0),
        ("hedge: {after: 10s, max_ratio: 1}\n", "hedge: {after: 50ms, max_ratio: 1}", 1),
    ];
    for (of_file, of_route, asked) in table {
        let (slow, gate) = gated(Reply::says(FIRST));
        let first = Provider::start(slow).await.unwrap();
        let pair = Pair::open(Api::Chat, H1, first, Reply::silence(), "").await;
        let yaml = format!(
            "providers:\n  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"sk-one-0123456789\"}}]}}\n  two: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: \"sk-two-0123456789\"}}]}}\nroutes:\n  chat: {{targets: [{{provider: one, model: a}}, {{provider: two, model: b, priority: 2}}], {of_route}}}\n{of_file}",
            pair.first.base_url(),
            pair.second.base_url()
        );
        pair.stage.swap(&yaml);
        let limit = if asked == 0 { ms(250) } else { Duration::from_secs(5) };
        let (answer, ()) = tokio::join!(pair.chat(), open_once_asked(&pair.second, &gate, limit));
        assert_eq!((answer.status, pair.second.count()), (200, asked), "{of_file:?} {of_route:?}");
    }
}

#[tokio::test]
async fn a_winner_that_breaks_is_rescued_like_any_other_and_never_by_who_was_called_off() {
    let broken = Reply::says(RESCUER).at(Place::AfterTokens(2), Twist::Reset);
    let pair = pair(H1, Reply::silence(), Script::of([broken, Reply::says(RESCUER)]), "").await;
    let answer = pair.stream().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{}", answer.body_text());
    assert_eq!((pair.first.count(), pair.second.count()), (1, 2));
}

#[tokio::test]
async fn a_hedge_that_limits_rests_and_a_slow_one_is_left_to_its_timer() {
    let limited = Reply::rate_limited(Some("30"));
    let (slow, gate) = gated(Reply::says(FIRST));
    let one = pair(H1, slow, limited, "").await;
    let (answer, ()) = tokio::join!(one.chat(), open_once_failed(&one, "two", &gate));
    assert_eq!(trail(&answer), ["two/k:hedge_429", "one/k:ok"]);
    assert!(one.stage.metric("pointsman_cooldown_remaining_seconds", &["two/k/same"]) > 20.0);
    // The first has its time and is given up, as a silent one is; the hedge goes on.
    let timers = "timeouts: {first_content: 150ms, response: 150ms}\n";
    let two = pair(H1, Reply::silence(), Reply::says(RESCUER).after(ms(190)), timers).await;
    let answer = two.chat().await;
    assert_eq!(answer.text(), RESCUER, "{:?}", answer.headers);
    assert_eq!(trail(&answer), ["one/k:timeout_first_content", "two/k:ok"]);
}

#[tokio::test]
async fn an_error_inside_a_200_wins_no_race() {
    let refusal = Refusal { status: 503, ..Refusal::default() };
    let (slow, gate) = gated(Reply::says(FIRST));
    let error = Reply::ok().at(Place::AfterOpening, Twist::Error(refusal));
    let pair = pair(H1, slow, error, "").await;
    let (answer, ()) = tokio::join!(pair.stream(), open_once_failed(&pair, "two", &gate));
    assert_eq!(answer.text(), FIRST, "{:?}", answer.headers);
    assert_eq!(answer.header("x-used-provider"), Some("one"));
}

#[tokio::test]
async fn a_hedge_in_another_dialect_answers_in_the_clients() {
    for is_streamed in [false, true] {
        let first = Provider::start(Reply::silence()).await.unwrap();
        let second = Provider::start(Reply::says(RESCUER)).await.unwrap();
        let mut yaml = format!("{HEDGED}providers:\n");
        yaml += &provider("one", "openai", &first.base_url(), KEY_ONE, "");
        yaml += &provider("two", "anthropic", &second.origin(), KEY_TWO, "");
        yaml += "routes: {chat: {targets: [{provider: one, model: a}, {provider: two, model: b, priority: 2}]}}\n";
        let stage = Stage::open(&yaml).await;
        let call = if is_streamed { Call::chat_stream("chat") } else { Call::chat("chat") };
        let answer = call.send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{}", answer.body_text());
        assert!(!is_streamed || answer.has_end_marker(), "{}", answer.body_text());
        assert_eq!(trail(&answer), ["one/k:hedge_lost", "two/k:ok"]);
        assert_eq!(second.last().unwrap().path, "/v1/messages");
    }
}
