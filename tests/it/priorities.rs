//! Which target is asked, how often, for how long is it left alone, and what is said in the end?

use crate::scene::{Api, FORGETFUL, KEY_TWO, Pair, RESCUER, Wire, ms, provider, trail};
use crate::stage::{Stage, eventually};
use pointsman::standin::caller::{Answer, BodyEnd, Call};
use pointsman::standin::{Gate, Place, Provider, Refusal, Reply, Script, Seen, Twist};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

const H1: Wire = Wire { is_http2_client: false, is_http2_provider: false };
const H2: Wire = Wire { is_http2_client: true, is_http2_provider: true };
const SECOND: Duration = Duration::from_secs(1);

/// Opens the usual scene with models of different names.
async fn lesser(first: impl Into<Script>, second: impl Into<Script>, more: &str) -> Pair {
    Pair::open(Api::Chat, H1, Provider::start(first).await.unwrap(), second, more).await
}

/// Opens it with the same model at both.
async fn equal(first: impl Into<Script>, second: impl Into<Script>, more: &str) -> Pair {
    let first = Provider::start(first).await.unwrap();
    Pair::with_models(Api::Chat, H1, first, second, more, "same", "same").await
}

async fn providers<const N: usize>(replies: [Reply; N]) -> [Provider; N] {
    let mut started = Vec::new();
    for reply in replies {
        started.push(Provider::start(reply).await.unwrap());
    }
    started.try_into().ok().unwrap()
}

/// Opens one route over providers `p0`, `p1`, …; `targets` is its list.
async fn route_over(providers: &[Provider], targets: &str, more: &str) -> Stage {
    let mut yaml = "providers:\n".to_owned();
    for (at, one) in providers.iter().enumerate() {
        yaml += &provider(&format!("p{at}"), "openai", &one.base_url(), &format!("sk-p{at}-0123456789"), "");
    }
    let _ = write!(yaml, "routes:\n  chat: {{targets: [{targets}]}}\n{more}");
    Stage::open(&yaml).await
}

async fn ask(stage: &Stage) -> Answer {
    Call::chat("chat").send(stage.data).await.unwrap()
}

async fn ask_often(stage: &Stage, count: usize) {
    for _ in 0..count {
        let answer = ask(stage).await;
        assert_eq!(answer.status, 200, "{}", answer.body_text());
    }
}

fn counts<const N: usize>(providers: &[Provider; N]) -> [u64; N] {
    providers.each_ref().map(Provider::count)
}

// --- order ---

#[tokio::test]
async fn weights_share_a_group_and_the_next_group_waits() {
    let all = providers([Reply::ok(), Reply::ok(), Reply::ok()]).await;
    let targets = "{provider: p0, model: m, priority: 1, weight: 70}, {provider: p1, model: m, priority: 1, weight: 30}, {provider: p2, model: n, priority: 2}";
    let stage = route_over(&all, targets, "").await;
    ask_often(&stage, 100).await;
    assert_eq!(counts(&all), [70, 30, 0]);
    all[0].set_script(Reply::status(529));
    ask_often(&stage, 20).await;
    assert_eq!(all[1].count(), 50, "an equal target takes over");
    all[1].set_script(Reply::status(529));
    ask_often(&stage, 10).await;
    assert_eq!(all[2].count(), 10, "then the next group");
}

#[tokio::test]
async fn a_weight_of_nothing_is_left_out() {
    let all = providers([Reply::ok(), Reply::ok()]).await;
    let targets = "{provider: p0, model: m, weight: 0}, {provider: p1, model: m, weight: 1}";
    let stage = route_over(&all, targets, "").await;
    ask_often(&stage, 10).await;
    assert_eq!(counts(&all), [0, 10]);
}

#[tokio::test]
async fn the_number_of_the_priority_decides_and_not_the_place() {
    let all = providers([Reply::ok(), Reply::ok()]).await;
    let stage =
        route_over(&all, "{provider: p0, model: m, priority: 7}, {provider: p1, model: n, priority: 2}", "")
            .await;
    ask_often(&stage, 10).await;
    assert_eq!(counts(&all), [0, 10]);
    let answer = ask(&stage).await;
    assert_eq!(answer.header("x-used-fallback"), Some("false"));
}

/// One provider with keys `a` and `b`, and another.
async fn two_keys(first: &Provider, usage: &str, targets: &str, second: &Provider) -> Stage {
    let mut yaml = format!(
        "providers:\n  one: {{kind: openai, base_url: \"{}\", use: {usage}, credentials: [{{name: a, key: \"sk-key-aaaaaaaa\"}}, {{name: b, key: \"sk-key-bbbbbbbb\"}}]}}\n",
        first.base_url()
    );
    yaml += &provider("two", "openai", &second.base_url(), KEY_TWO, "");
    let _ = write!(yaml, "routes:\n  chat: {{targets: [{targets}]}}\n");
    Stage::open(&yaml).await
}

fn used(provider: &Provider, key: &str) -> usize {
    provider.seen().iter().filter(|seen| seen.header("authorization").unwrap().ends_with(key)).count()
}

#[tokio::test]
async fn credentials_are_used_in_order_and_the_next_at_once() {
    let first = Provider::start(Reply::ok()).await.unwrap();
    let second = Provider::start(Reply::ok()).await.unwrap();
    let targets = "{provider: one, model: m, priority: 1}, {provider: two, model: n, priority: 2}";
    let stage = two_keys(&first, "ordered", targets, &second).await;
    ask_often(&stage, 10).await;
    assert_eq!((used(&first, "aaaaaaaa"), used(&first, "bbbbbbbb")), (10, 0));
    first.set_script(Script::rule(|seen| {
        if seen.header("authorization").unwrap().ends_with("aaaaaaaa") {
            Reply::rate_limited(Some("2"))
        } else {
            Reply::ok()
        }
    }));
    let answer = ask(&stage).await;
    assert_eq!(trail(&answer), ["one/a:429", "one/b:ok"]);
    assert!(answer.took < SECOND, "the same model is taken at once: {:?}", answer.took);
    assert_eq!(answer.header("x-used-fallback"), Some("true"));
    ask_often(&stage, 5).await;
    assert_eq!((used(&first, "aaaaaaaa"), used(&first, "bbbbbbbb")), (11, 6));
    assert_eq!(second.count(), 0);
}

#[tokio::test]
async fn credentials_can_be_used_in_turn_and_do_not_weigh_double() {
    let first = Provider::start(Reply::ok()).await.unwrap();
    let second = Provider::start(Reply::ok()).await.unwrap();
    let targets = "{provider: one, model: m, weight: 50}, {provider: two, model: m, weight: 50}";
    let stage = two_keys(&first, "spread", targets, &second).await;
    ask_often(&stage, 40).await;
    assert_eq!((used(&first, "aaaaaaaa"), used(&first, "bbbbbbbb"), second.count()), (10, 10, 20));
}

/// Row 13: a rejected key is the credential's fault, whatever the model; others go on.
#[tokio::test]
async fn a_rejected_key_rests_for_all_its_models() {
    let first = Provider::start(Script::rule(|seen| {
        if seen.header("authorization").unwrap().ends_with("aaaaaaaa") {
            Reply::status(401)
        } else {
            Reply::ok()
        }
    }))
    .await
    .unwrap();
    let second = Provider::start(Reply::ok()).await.unwrap();
    let stage = two_keys(&first, "ordered", "{provider: one, model: m}", &second).await;
    ask_often(&stage, 3).await;
    let answer = Call::chat("one/another").send(stage.data).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(used(&first, "aaaaaaaa"), 1, "asked once in all");
}

/// Row 12: other keys of the same provider do not help against an overload; row 11: another model
/// of the same provider is another target.
#[tokio::test]
async fn an_overload_is_the_models_and_not_the_keys() {
    let first = Provider::start(Reply::status(529)).await.unwrap();
    let second = Provider::start(Reply::ok()).await.unwrap();
    let targets = "{provider: one, model: m, priority: 1}, {provider: two, model: n, priority: 2}";
    let stage = two_keys(&first, "ordered", targets, &second).await;
    let answer = ask(&stage).await;
    assert_eq!((answer.status, answer.header("x-used-provider")), (200, Some("two")));
    assert_eq!(first.count(), 1, "the second key was skipped: {:?}", trail(&answer));
}

#[tokio::test]
async fn a_503_of_one_model_leaves_the_other_models_alone() {
    let script = Script::by_model([("m", Reply::status(503)), ("n", Reply::ok())]);
    let only = Provider::start(script).await.unwrap();
    let all = [only];
    let stage =
        route_over(&all, "{provider: p0, model: m, priority: 1}, {provider: p0, model: n, priority: 2}", "")
            .await;
    for _ in 0..10 {
        let answer = ask(&stage).await;
        assert_eq!((answer.status, answer.header("x-used-model")), (200, Some("n")));
    }
}

// --- rest ---

fn date_in(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_rest_lasts_as_long_as_the_provider_says() {
    let now = date_in(0);
    let body = |text: &str| Reply::status(429).message(text);
    let table: Vec<(&str, Reply, std::ops::RangeInclusive<f64>)> = vec![
        ("seconds", Reply::rate_limited(Some("30")), 29.0..=30.1),
        ("a fraction", Reply::rate_limited(Some("30.5")), 29.5..=31.1),
        ("milliseconds", Reply::status(429).header("retry-after-ms", "30000"), 29.0..=30.1),
        ("a date", Reply::rate_limited(Some(&date_in(30))).header("date", &now), 28.0..=31.1),
        ("a past date", Reply::rate_limited(Some("Sun, 06 Nov 1994 08:49:37 GMT")), 3.0..=7.1),
        (
            "openai's reset",
            Reply::status(429)
                .header("x-ratelimit-remaining-requests", "0")
                .header("x-ratelimit-reset-requests", "1m30s"),
            89.0..=90.1,
        ),
        ("a sentence", body("Rate limit reached. Please try again in 20s."), 19.0..=20.6),
        (
            "google's",
            Reply::body(
                429,
                "application/json",
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"x","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"40s"}]}}"#,
            ),
            39.0..=40.6,
        ),
        ("nothing", Reply::rate_limited(None), 3.0..=7.1),
        ("too much", Reply::rate_limited(Some("86400")), 299.0..=300.1),
        ("what nobody means", Reply::rate_limited(Some("1000000000")), 3.0..=300.1),
        ("far too much", Reply::rate_limited(Some("100000000000000000000")), 1.0..=300.1),
        ("two values", Reply::rate_limited(Some("20")).header("retry-after", "40"), 39.0..=40.1),
        ("zero", Reply::rate_limited(Some("0")), 0.5..=7.1),
        ("less", Reply::rate_limited(Some("-1")), 0.5..=7.1),
        ("no number", Reply::rate_limited(Some("NaN")), 0.5..=7.1),
        ("a word", Reply::rate_limited(Some("soon")), 0.5..=7.1),
        ("on a 503", Reply::status(503).header("retry-after", "30"), 29.0..=30.1),
        ("on a 529", Reply::status(529).header("retry-after", "30"), 29.0..=30.1),
        ("a 529 without", Reply::status(529), 3.0..=7.1),
        ("a rejected key", Reply::status(401), 230.0..=361.0),
        ("an empty account", Reply::status(402), 700.0..=1090.0),
        ("a missing model", Reply::status(404).code("model_not_found"), 590.0..=600.1),
    ];
    for (what, reply, expected) in table {
        let pair = equal(reply, Reply::ok(), "").await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.header("x-used-provider")), (200, Some("two")), "{what}");
        assert_eq!(answer.header("retry-after"), None, "{what}: the answer is another's");
        let left = pair.stage.metric("pointsman_cooldown_remaining_seconds", &["target=\"one/k/same\""]);
        assert!(expected.contains(&left), "{what}: {left} s, not {expected:?}");
        assert!(pair.stage.metric("pointsman_target_available", &["target=\"one/k/same\""]) < 0.5, "{what}");
        let contacts = pair.first.count();
        let answer = pair.chat().await;
        assert_eq!((answer.status, pair.first.count()), (200, contacts), "{what}: it rests");
    }
}

#[tokio::test]
async fn a_rest_ends_when_it_is_over() {
    let script = Script::of([Reply::rate_limited(Some("1")), Reply::ok()]);
    let pair = equal(script, Reply::ok(), "").await;
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("two"));
    let began = tokio::time::Instant::now();
    while pair.chat().await.header("x-used-provider") != Some("one") {
        assert!(began.elapsed() < ms(1500), "it must come back");
        tokio::time::sleep(ms(20)).await;
    }
    assert!(began.elapsed() > ms(900), "{:?}", began.elapsed());
    assert_eq!(pair.first.count(), 2);
}

/// "Success of an older in-flight request must not clear a newer cooldown".
#[tokio::test]
async fn an_older_success_does_not_end_a_younger_rest() {
    let gate = Gate::closed();
    let script = Script::of([
        Reply::ok().hold(Place::BeforeHead, &gate),
        Reply::rate_limited(Some("60")),
        Reply::ok(),
    ]);
    let pair = equal(script, Reply::ok(), "").await;
    let data = pair.stage.data;
    let older = tokio::spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    assert!(pair.first.until(2 * SECOND, |seen| seen.len() == 1).await);
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("two"));
    gate.open();
    assert_eq!(older.await.unwrap().header("x-used-provider"), Some("one"));
    for _ in 0..3 {
        assert_eq!(pair.chat().await.header("x-used-provider"), Some("two"));
    }
    assert_eq!(pair.first.count(), 2);
}

#[tokio::test]
async fn a_new_key_ends_the_rest_of_the_old_one() {
    let first = Provider::start(Script::rule(|seen| {
        if seen.header("authorization").unwrap().ends_with("new") { Reply::ok() } else { Reply::status(401) }
    }))
    .await
    .unwrap();
    let second = Provider::start(Reply::ok()).await.unwrap();
    let yaml = |key: &str| {
        format!(
            "providers:\n{}{}routes:\n  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}\n",
            provider("one", "openai", &first.base_url(), key, ""),
            provider("two", "openai", &second.base_url(), KEY_TWO, "")
        )
    };
    let stage = Stage::open(&yaml("sk-0123456789-old")).await;
    assert_eq!(ask(&stage).await.header("x-used-provider"), Some("two"));
    stage.swap(&yaml("sk-0123456789-old"));
    assert_eq!(ask(&stage).await.header("x-used-provider"), Some("two"), "a reload alone changes nothing");
    assert_eq!(first.count(), 1);
    stage.swap(&yaml("sk-0123456789-new"));
    assert_eq!(ask(&stage).await.header("x-used-provider"), Some("one"));
}

// --- breaker ---

#[tokio::test]
async fn five_failures_open_the_breaker_and_one_probe_tries_again() {
    let breaker = "breaker: {open: 300ms, open_max: 300ms}\n";
    let pair = equal(Reply::status(500), Reply::ok(), breaker).await;
    let state = || pair.stage.metric("pointsman_breaker_state", &["target=\"one/k/same\""]);
    for number in 1..=5 {
        assert!(state().abs() < 0.1);
        assert_eq!(trail(&pair.chat().await), ["one/k:500", "two/k:ok"], "{number}");
    }
    assert!((state() - 1.0).abs() < 0.1, "{}", state());
    for _ in 0..5 {
        assert_eq!(pair.chat().await.status, 200);
    }
    assert_eq!(pair.first.count(), 5, "nothing reaches it while it is open");
    // Half open: one request of twenty is the probe, however long it takes.
    let gate = Gate::closed();
    pair.first.set_script(Script::of([Reply::ok().hold(Place::BeforeHead, &gate), Reply::ok()]));
    eventually("the breaker is half open", || (state() - 0.5).abs() < 0.1).await;
    let mut running = JoinSet::new();
    let data = pair.stage.data;
    for _ in 0..20 {
        running.spawn(async move { Call::chat("chat").send(data).await.unwrap() });
    }
    for _ in 0..19 {
        let answer = running.join_next().await.unwrap().unwrap();
        assert_eq!((answer.status, answer.header("x-used-provider")), (200, Some("two")));
    }
    assert_eq!(pair.first.count(), 6);
    gate.open();
    let probe = running.join_next().await.unwrap().unwrap();
    assert_eq!((probe.status, probe.header("x-used-provider")), (200, Some("one")));
    // Two successes close it.
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("one"));
    assert!(state().abs() < 0.1);
    assert_eq!(pair.chat().await.header("x-circuit-breaker-state"), Some("closed"));
}

#[tokio::test]
async fn a_failed_probe_opens_the_breaker_again_and_its_client_is_answered() {
    let pair = equal(Reply::status(500), Reply::ok(), "breaker: {open: 200ms, open_max: 200ms}\n").await;
    let state = || pair.stage.metric("pointsman_breaker_state", &["target=\"one/k/same\""]);
    for _ in 0..5 {
        pair.chat().await;
    }
    eventually("the breaker is half open", || (state() - 0.5).abs() < 0.1).await;
    let answer = pair.chat().await;
    assert_eq!((answer.status, trail(&answer)), (200, vec!["one/k:500".to_owned(), "two/k:ok".to_owned()]));
    assert!((state() - 1.0).abs() < 0.1);
    assert_eq!(pair.chat().await.status, 200);
    assert_eq!(pair.first.count(), 6);
}

#[tokio::test]
async fn half_of_many_failing_opens_the_breaker() {
    let pair = equal(Script::round([Reply::ok(), Reply::status(500)]), Reply::ok(), "").await;
    for _ in 0..40 {
        assert_eq!(pair.chat().await.status, 200);
    }
    let contacts = pair.first.count();
    assert!((20..=22).contains(&contacts), "open at half of 20: {contacts}");
}

#[tokio::test]
async fn a_stream_that_dies_after_content_counts_for_the_breaker() {
    let pair = equal(Reply::reset_after(2), Reply::ok(), "").await;
    for _ in 0..5 {
        let call = Call::chat_stream("chat").header("x-pointsman-no-rescue", "1");
        let answer = call.send(pair.stage.data).await.unwrap();
        assert!(matches!(answer.end, BodyEnd::Cut(_)), "{:?}", answer.end);
    }
    assert_eq!(pair.stream().await.header("x-used-provider"), Some("two"));
    assert_eq!(pair.first.count(), 5);
}

#[tokio::test]
async fn refused_connections_open_the_breaker_of_the_endpoint() {
    let first = Provider::refused().unwrap();
    let pair = Pair::with_models(Api::Chat, H1, first, Reply::ok(), "", "same", "same").await;
    for _ in 0..5 {
        assert_eq!(trail(&pair.chat().await), ["one/k:connect", "two/k:ok"]);
    }
    assert_eq!(trail(&pair.chat().await).last().unwrap(), "two/k:ok");
    assert_eq!(
        pair.chat().await.header("x-attempts"),
        Some("1"),
        "another model at that endpoint rests, too"
    );
    let answer = Call::chat("one/another").send(pair.stage.data).await.unwrap();
    assert_eq!((answer.status, answer.header("x-attempts")), (503, Some("0")), "{}", answer.body_text());
}

// --- repeats, waits, budget, deadline ---

#[tokio::test]
async fn a_short_wait_is_waited_out_before_a_different_model_is_taken() {
    let script = || Script::of([Reply::rate_limited(Some("1")), Reply::ok()]);
    let pair = lesser(script(), Reply::ok(), "").await;
    let answer = pair.chat().await;
    assert_eq!(trail(&answer), ["one/k:429", "one/k:ok"]);
    assert!((ms(950)..ms(2000)).contains(&answer.took), "{:?}", answer.took);
    assert_eq!(answer.header("x-used-fallback"), Some("false"));
    assert_eq!(answer.header("x-attempts"), Some("2"));
    // Nobody else at all: the same.
    let only = providers([Reply::ok()]).await;
    only[0].set_script(script());
    let stage = route_over(&only, "{provider: p0, model: m}", "").await;
    let answer = ask(&stage).await;
    assert_eq!((answer.status, trail(&answer)), (200, vec!["p0/k:429".to_owned(), "p0/k:ok".to_owned()]));
}

#[tokio::test]
async fn the_same_model_elsewhere_is_taken_at_once() {
    for reply in
        [Reply::rate_limited(Some("1")), Reply::rate_limited(None), Reply::status(500), Reply::reset()]
    {
        let pair = equal(reply, Reply::says(RESCUER), "").await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, answer.text().as_str(), pair.first.count()), (200, RESCUER, 1));
        assert!(answer.took < ms(500), "{:?}", answer.took);
    }
}

#[tokio::test]
async fn a_long_wait_is_not_waited_out() {
    for (wait, more) in
        [("6", ""), ("2", "retry: {wait_in_place: 1s}\n"), ("1", "retry: {wait_in_place: 0s}\n")]
    {
        let pair = lesser(Reply::rate_limited(Some(wait)), Reply::says(RESCUER), more).await;
        let answer = pair.chat().await;
        assert_eq!((answer.status, pair.first.count()), (200, 1), "{wait} {more}: {:?}", trail(&answer));
        assert!(answer.took < ms(900), "{wait} {more}: {:?}", answer.took);
    }
}

#[tokio::test]
async fn a_fault_is_repeated_once_before_a_different_model_is_taken() {
    let repeated = [
        Reply::status(500),
        Reply::status(502),
        Reply::status(503),
        Reply::status(504),
        Reply::reset(),
        Reply::rate_limited(None),
    ];
    for reply in repeated {
        let pair = lesser(Script::of([reply.clone(), Reply::ok()]), Reply::ok(), "").await;
        let answer = pair.chat().await;
        assert_eq!(
            (answer.status, answer.header("x-used-provider")),
            (200, Some("one")),
            "{:?}",
            trail(&answer)
        );
        assert!(answer.took >= ms(100), "at least 100 ms of back-off: {:?}", answer.took);
        let pair = lesser(reply, Reply::ok(), "").await;
        let answer = pair.chat().await;
        assert_eq!(
            (answer.header("x-used-provider"), pair.first.count()),
            (Some("two"), 2),
            "{:?}",
            trail(&answer)
        );
    }
    let timers = "timeouts: {first_content: 150ms, response: 150ms}\n";
    let once = [
        Reply::status(529),
        Reply::status(401),
        Reply::status(402),
        Reply::status(404).code("model_not_found"),
        Reply::silence(),
        Reply::empty(),
        Reply::bad_json(),
        Reply::truncated(),
        Reply::error_event(500),
    ];
    for reply in once {
        let pair = lesser(reply, Reply::ok(), timers).await;
        let answer = pair.chat().await;
        assert_eq!(
            (answer.header("x-used-provider"), pair.first.count()),
            (Some("two"), 1),
            "{:?}",
            trail(&answer)
        );
    }
}

#[tokio::test]
async fn repeats_are_as_many_as_configured() {
    let backoff = "backoff: {base: 100ms, multiplier: 1, jitter: none}";
    for (same_target, prefer, contacts) in
        [(0, "equal_first", 1), (3, "equal_first", 4), (2, "same_target", 3)]
    {
        let more = format!("retry: {{same_target: {same_target}, prefer: {prefer}, {backoff}}}\n");
        let pair = lesser(Reply::status(500), Reply::ok(), &more).await;
        assert_eq!(pair.chat().await.header("x-used-provider"), Some("two"));
        assert_eq!(pair.first.count(), contacts, "{more}");
    }
    // The same target is preferred even to the same model elsewhere.
    let more = format!("retry: {{same_target: 2, prefer: same_target, {backoff}}}\n");
    let pair =
        equal(Script::of([Reply::status(500), Reply::status(500), Reply::ok()]), Reply::ok(), &more).await;
    assert_eq!(pair.chat().await.header("x-used-provider"), Some("one"));
    assert_eq!(pair.second.count(), 0);
}

#[tokio::test]
async fn changes_of_target_are_as_many_as_configured() {
    let bad = || Reply::status(529);
    let targets = "{provider: p0, model: m}, {provider: p1, model: m, priority: 2}, {provider: p2, model: m, priority: 3}, {provider: p3, model: m, priority: 4}";
    for (failovers, expected) in [(0, [1, 0, 0, 0]), (1, [1, 1, 0, 0]), (2, [1, 1, 1, 0])] {
        let all = providers([bad(), bad(), bad(), Reply::ok()]).await;
        let stage = route_over(&all, targets, &format!("retry: {{failovers: {failovers}}}\n")).await;
        assert_eq!(ask(&stage).await.status, 503);
        assert_eq!(counts(&all), expected, "failovers: {failovers}");
    }
    let all = providers([bad(), bad(), bad(), Reply::ok()]).await;
    let stage = route_over(&all, targets, "").await;
    assert_eq!(trail(&ask(&stage).await), ["p0/k:529", "p1/k:529", "p2/k:529", "p3/k:ok"]);
}

#[tokio::test]
async fn repeats_are_paid_from_a_budget_and_failovers_are_free() {
    let more = format!(
        "{FORGETFUL}retry: {{budget_ratio: 0, budget_min_per_second: 0, backoff: {{base: 100ms, jitter: none}}}}\n"
    );
    let only = providers([Reply::status(500)]).await;
    let stage = route_over(&only, "{provider: p0, model: m}", &more).await;
    let mut running = JoinSet::new();
    let data = stage.data;
    for _ in 0..20 {
        running.spawn(async move {
            for _ in 0..8 {
                assert_eq!(Call::chat("chat").send(data).await.unwrap().status, 502);
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    assert_eq!(only[0].count(), 160 + 100, "one hundred repeats, then none");
    let all = providers([Reply::status(500), Reply::ok()]).await;
    let stage =
        route_over(&all, "{provider: p0, model: m}, {provider: p1, model: m, priority: 2}", &more).await;
    ask_often(&stage, 150).await;
    assert_eq!(counts(&all), [150, 150]);
}

#[tokio::test]
async fn one_deadline_covers_everything() {
    let timers = "timeouts: {first_content: 150ms, response: 150ms, total: 400ms}\n";
    for api in [Api::Chat, Api::Messages] {
        let first = Provider::start(Reply::silence()).await.unwrap();
        let pair = Pair::open(api, H1, first, Reply::silence(), timers).await;
        for is_streamed in [false, true] {
            let answer = api.call(api.body("chat", is_streamed, 500, 0)).send(pair.stage.data).await.unwrap();
            assert_eq!(answer.status, 504, "{}", answer.body_text());
            assert_eq!(answer.error().unwrap()["code"], "deadline_exceeded");
            assert!((ms(350)..ms(900)).contains(&answer.took), "{:?}", answer.took);
            if api.is_anthropic() {
                assert_eq!(answer.error().unwrap()["type"], "timeout_error");
            }
        }
    }
    // A wait that would outlast the deadline is not begun.
    let pair = lesser(Reply::rate_limited(Some("4")), Reply::ok(), "timeouts: {total: 1s}\n").await;
    let answer = pair.chat().await;
    assert_eq!((answer.status, answer.header("x-used-provider")), (200, Some("two")));
    assert!(answer.took < ms(900), "{:?}", answer.took);
}

#[tokio::test]
async fn a_timer_without_an_alternative_does_not_fire() {
    let timers = "timeouts: {first_content: 100ms, response: 100ms, stall: 100ms}\n";
    let slow = [
        (Reply::ok().after(ms(400)), false),
        (Reply::ok().after(ms(400)), true),
        (Reply::slow_first_content(ms(400)), true),
        (Reply::ok().at(Place::AfterOpening, Twist::Pause(ms(400))), true),
        (Reply::ok().at(Place::AfterTokens(2), Twist::Pause(ms(400))), true),
    ];
    for (reply, is_streamed) in slow {
        let only = providers([reply]).await;
        let stage = route_over(&only, "{provider: p0, model: m}", timers).await;
        let call = if is_streamed { Call::chat_stream("chat") } else { Call::chat("chat") };
        let answer = call.send(stage.data).await.unwrap();
        assert_eq!((answer.status, &answer.end), (200, &BodyEnd::Clean), "{}", answer.body_text());
        assert_eq!(only[0].count(), 1);
    }
}

/// A first-content timer is not stopped by a head, by comments or by lifecycle events.
#[tokio::test]
async fn lifecycle_events_are_no_content() {
    let timers = "timeouts: {first_content: 200ms}\n";
    for api in [Api::Chat, Api::Responses, Api::Messages] {
        for place in [Place::AfterHead, Place::AfterOpening] {
            let first = Provider::start(Reply::ok().at(place, Twist::Silence)).await.unwrap();
            let pair = Pair::open(api, H1, first, Reply::says(RESCUER), timers).await;
            let answer = api.call(api.body("chat", true, 500, 0)).send(pair.stage.data).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, RESCUER), "{api:?} {place:?}");
            assert!(answer.took < SECOND, "{:?}", answer.took);
            assert!(
                pair.first.until(SECOND, |seen| seen[0].has_client_left()).await,
                "the old attempt is cancelled"
            );
        }
    }
}

// --- the client leaves ---

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let places = [
        ("before the head", Reply::silence(), false),
        ("before the head of a stream", Reply::silence(), true),
        ("before content", Reply::ok().at(Place::AfterOpening, Twist::Silence), true),
        ("amid content", Reply::stall_after(2), true),
    ];
    for wire in [H1, H2] {
        for (what, reply, is_streamed) in &places {
            let first = Provider::start(reply.clone()).await.unwrap();
            let pair = Pair::open(Api::Chat, wire, first, Reply::ok(), "").await;
            for number in 0..6 {
                let call =
                    Api::Chat.call(Api::Chat.body("chat", *is_streamed, 500, number)).leaving_after(ms(60));
                let (answer, line) = wire.connect(pair.stage.data).await.send(&call).await.unwrap();
                assert_eq!(answer.end, BodyEnd::Left, "{what}");
                drop(line);
            }
            let all_left = pair
                .first
                .until(SECOND, |seen| seen.len() == 6 && seen.iter().all(Seen::has_client_left))
                .await;
            assert!(all_left, "{what}, {wire:?}: cancelled within a second");
            let gone = || pair.stage.metric("pointsman_attempts_total", &["outcome=\"client_gone\""]);
            eventually("the departures are counted", || (gone() - 6.0).abs() < 0.5).await;
            assert_eq!(pair.second.count(), 0, "{what}: no failover for a client that is gone");
            let state = pair.stage.metric("pointsman_breaker_state", &["target=\"one/k/alpha\""]);
            assert!(state.abs() < 0.1, "{what}: nobody's fault");
            assert!(pair.stage.metric("pointsman_in_flight", &[]).abs() < 0.5, "{what}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_a_wait_ends_it() {
    let waits = [
        (Reply::rate_limited(Some("4")), ""),
        (Reply::status(500), "retry: {backoff: {base: 5s, jitter: none}}\n"),
    ];
    for wire in [H1, H2] {
        for (reply, more) in &waits {
            let first = Provider::start(reply.clone()).await.unwrap();
            let pair = Pair::open(Api::Chat, wire, first, Reply::ok(), more).await;
            let call = Api::Chat.call(Api::Chat.body("chat", false, 500, 0)).leaving_after(ms(200));
            let (answer, line) = wire.connect(pair.stage.data).await.send(&call).await.unwrap();
            assert_eq!(answer.end, BodyEnd::Left);
            drop(line);
            let ended = || pair.stage.metric("pointsman_requests_total", &[]);
            eventually("the request has ended", || ended() > 0.5).await;
            assert_eq!((pair.first.count(), pair.second.count()), (1, 0), "{wire:?} {more}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_contacts_nobody() {
    let pair = lesser(Reply::ok(), Reply::ok(), "").await;
    let call = Api::Chat.call(Api::Chat.body("chat", false, 100_000, 0));
    let answer = call.paced(1000, ms(50)).leaving_after(ms(200)).send(pair.stage.data).await;
    assert!(answer.is_err() || answer.unwrap().status == 0);
    eventually("nothing is in flight", || pair.stage.metric("pointsman_in_flight", &[]).abs() < 0.5).await;
    assert_eq!(pair.chat().await.status, 200);
    assert_eq!((pair.first.count(), pair.second.count()), (1, 0));
}

// --- nobody is left ---

#[tokio::test]
async fn targets_that_all_rest_are_not_contacted_and_the_client_is_told_until_when() {
    let table = [
        (Reply::rate_limited(Some("40")), 429, "rate_limited", 39..=41, Some("true"), "rate_limit_error"),
        (Reply::rate_limited(Some("200")), 429, "rate_limited", 198..=201, Some("false"), "rate_limit_error"),
        (
            Reply::status(529).header("retry-after", "40"),
            503,
            "all_targets_unavailable",
            39..=41,
            Some("true"),
            "overloaded_error",
        ),
        (Reply::status(401), 503, "all_targets_unavailable", 230..=361, Some("false"), "overloaded_error"),
        (Reply::status(402), 429, "rate_limited", 700..=1090, Some("false"), "rate_limit_error"),
    ];
    for (reply, status, code, wait, should_retry, kind) in table {
        for api in [Api::Chat, Api::Messages] {
            let first = Provider::start(reply.clone()).await.unwrap();
            let pair = Pair::with_models(api, H1, first, reply.clone(), "", "same", "same").await;
            let call = api.call(api.body("chat", false, 500, 0));
            call.send(pair.stage.data).await.unwrap();
            let contacts = (pair.first.count(), pair.second.count());
            assert_eq!(contacts, (1, 1), "each was asked once");
            for is_streamed in [false, true] {
                let answer =
                    api.call(api.body("chat", is_streamed, 500, 0)).send(pair.stage.data).await.unwrap();
                let what = format!("{api:?}: {:?} {}", answer.headers, answer.body_text());
                assert_eq!(answer.status, status, "{what}");
                assert_eq!((pair.first.count(), pair.second.count()), contacts, "no contact");
                let error = answer.error().unwrap();
                assert_eq!(error["code"], code, "{what}");
                let told: i32 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!(wait.contains(&told), "{told} not in {wait:?}: {what}");
                assert_eq!(answer.header("x-should-retry"), should_retry, "{what}");
                assert_eq!(answer.header("x-attempts"), Some("0"), "{what}");
                let message = error["message"].as_str().unwrap();
                assert!(message.contains("one/k/same") && message.contains("two/k/same"), "{what}");
                assert!(message.contains(answer.header("x-request-id").unwrap()), "{what}");
                if api.is_anthropic() {
                    assert_eq!(
                        (answer.json()["type"].as_str(), error["type"].as_str()),
                        (Some("error"), Some(kind)),
                        "{what}"
                    );
                    assert_eq!(answer.json()["request_id"].as_str(), answer.header("x-request-id"), "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn faults_that_are_alike_are_told_as_one() {
    let timers = "timeouts: {first_content: 100ms, response: 100ms, total: 500ms}\n";
    let table = [
        (Reply::status(500), 502, "upstream_error"),
        (Reply::status(502), 502, "upstream_error"),
        (Reply::status(503), 503, "all_targets_unavailable"),
        (Reply::status(504), 504, "upstream_error"),
        (Reply::status(404).code("model_not_found"), 404, "model_not_found"),
        (Reply::rate_limited(Some("30")), 429, "rate_limited"),
        (Reply::status(529), 503, "all_targets_unavailable"),
        (Reply::status(401), 502, "upstream_auth"),
        (Reply::reset(), 502, "upstream_error"),
        (Reply::empty(), 502, "upstream_error"),
        (Reply::bad_json(), 502, "upstream_error"),
        (Reply::redirect("http://127.0.0.1:1/"), 502, "upstream_error"),
        (Reply::silence(), 504, "deadline_exceeded"),
    ];
    for (reply, status, code) in table {
        for is_streamed in [false, true] {
            let pair = equal(reply.clone(), reply.clone(), timers).await;
            let call = if is_streamed { Call::chat_stream("chat") } else { Call::chat("chat") };
            let answer = call.send(pair.stage.data).await.unwrap();
            assert_eq!(
                (answer.status, answer.error_code().as_str()),
                (status, code),
                "{}",
                answer.body_text()
            );
            if matches!(status, 429 | 503) {
                assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
            }
            if code == "upstream_auth" {
                assert_eq!(answer.header("x-should-retry"), Some("false"));
            }
            assert_ne!(answer.status, 401, "the client would rotate its own key");
        }
    }
    let first = Provider::refused().unwrap();
    let pair = Pair::with_models(Api::Chat, H1, first, Reply::ok(), "", "same", "same").await;
    let answer = Call::chat("one/x").send(pair.stage.data).await.unwrap();
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_unreachable"));
    let first = Provider::unreachable().await.unwrap();
    let pair =
        Pair::with_models(Api::Chat, H1, first, Reply::ok(), "timeouts: {connect: 100ms}\n", "same", "same")
            .await;
    let answer = Call::chat("one/x").send(pair.stage.data).await.unwrap();
    assert_eq!(answer.status, 504, "{}", answer.body_text());
}

#[tokio::test]
async fn faults_that_differ_are_told_together() {
    let pair = equal(Reply::status(500), Reply::rate_limited(Some("30")), "").await;
    let answer = pair.chat().await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (503, "all_targets_unavailable"),
        "{}",
        answer.body_text()
    );
    // "404 if all say 404, else the last other error".
    let pair = equal(Reply::status(404).code("model_not_found"), Reply::status(500), "").await;
    assert_eq!(pair.chat().await.status, 502);
    let pair = equal(Reply::status(500), Reply::status(404).code("model_not_found"), "").await;
    assert_eq!(pair.chat().await.status, 502);
}

/// Row 9: "429 with the provider's type".
#[tokio::test]
async fn an_empty_account_is_told_in_the_providers_word() {
    let reply = Reply::status(429)
        .kind("insufficient_quota")
        .code("insufficient_quota")
        .message("You exceeded your current quota.");
    let pair = equal(reply.clone(), reply, "").await;
    let answer = pair.chat().await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.error().unwrap()["type"], "insufficient_quota", "{}", answer.body_text());
}

// --- the stream is lost ---

#[tokio::test]
async fn a_lost_stream_ends_with_an_error_event_and_never_as_if_all_were_well() {
    let timers = "timeouts: {stall: 150ms, stall_last: 300ms}\n";
    let half = Twist::Insert("data: {\"choices\":[{\"index\":0,\"del".into());
    let faults = [
        ("reset", vec![Twist::Reset]),
        ("close", vec![Twist::Close]),
        ("end", vec![Twist::End]),
        ("stall", vec![Twist::Silence]),
        ("error", vec![Twist::Error(Refusal { status: 500, ..Refusal::default() })]),
        ("half an event", vec![half, Twist::Reset]),
    ];
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages] {
        for wire in [H1, H2, Wire { is_http2_client: true, is_http2_provider: false }] {
            for (what, twists) in &faults {
                // A reset on HTTP/2 throws away what was not read yet: it comes after the reading.
                let gate = Gate::closed();
                let reply = Reply::says("one two three four").hold(Place::AfterTokens(2), &gate);
                let reply =
                    twists.iter().fold(reply, |reply, twist| reply.at(Place::AfterTokens(2), twist.clone()));
                let first = Provider::start(reply).await.unwrap();
                let pair = Pair::open(api, wire, first, Reply::ok(), timers).await;
                let call = api.call(api.body("chat", true, 500, 0)).header("x-pointsman-no-rescue", "1");
                let mut talk = wire.connect(pair.stage.data).await.begin(&call).await.unwrap();
                talk.head().await.unwrap();
                while !talk.so_far().events.iter().any(|event| event.data.contains("\" two\"")) {
                    talk.next().await.unwrap();
                }
                gate.open();
                let (answer, _) = talk.finish(&call).await;
                let what = format!("{api:?} {wire:?} {what}: {}", answer.body_text());
                assert_eq!(answer.status, 200, "{what}");
                assert_eq!(answer.text(), "one two", "{what}");
                assert!(!answer.has_end_marker(), "{what}");
                assert!(matches!(answer.end, BodyEnd::Cut(_)), "{:?} {what}", answer.end);
                let error = answer.error().unwrap_or_else(|| panic!("no error event: {what}"));
                assert_eq!(error["code"], "upstream_stream_lost", "{what}");
                let last = answer.events.last().unwrap();
                match api {
                    Api::Messages => {
                        assert_eq!(last.name.as_deref(), Some("error"), "{what}");
                        let data: serde_json::Value = serde_json::from_str(&last.data).unwrap();
                        assert_eq!(data["type"], "error", "{what}");
                        assert!(data["error"]["type"].is_string(), "{what}");
                    }
                    Api::Responses => assert_eq!(last.name.as_deref(), Some("error"), "{what}"),
                    Api::Chat | Api::Completions | Api::Embeddings | Api::CountTokens => {
                        let data: serde_json::Value = serde_json::from_str(&last.data).unwrap();
                        assert!(data["error"]["message"].is_string(), "{what}");
                    }
                }
                assert_eq!(pair.second.count(), 0, "{what}");
            }
        }
    }
}

/// A whole answer longer than what is held goes on its way before it is complete.
#[tokio::test]
async fn a_lost_whole_answer_is_cut_and_never_ends_as_if_all_were_well() {
    let text = "word ".repeat(600_000);
    for wire in [H1, H2] {
        let gate = Gate::closed();
        let reply =
            Reply::says(&*text).hold(Place::AfterTokens(1), &gate).at(Place::AfterTokens(1), Twist::Reset);
        let first = Provider::start(reply).await.unwrap();
        let pair = Pair::open(Api::Chat, wire, first, Reply::ok(), "").await;
        let call = Api::Chat.call(Api::Chat.body("chat", false, 500, 0));
        let mut talk = wire.connect(pair.stage.data).await.begin(&call).await.unwrap();
        assert_eq!(talk.head().await.unwrap(), 200);
        gate.open();
        let (answer, _) = talk.finish(&call).await;
        let what = format!("{wire:?} {} {:?} {} bytes", answer.status, answer.headers, answer.body.len());
        assert!(matches!(answer.end, BodyEnd::Cut(_)), "{:?} {what}", answer.end);
        assert_eq!(pair.second.count(), 0, "{what}");
    }
}

#[tokio::test]
async fn the_deadline_holds_in_the_midst_of_a_stream() {
    let slow = Reply::says("word ".repeat(200)).delay(ms(20));
    let pair = equal(slow, Reply::ok(), "timeouts: {total: 500ms}\n").await;
    let call = Call::chat_stream("chat").header("x-pointsman-no-rescue", "1");
    let answer = call.send(pair.stage.data).await.unwrap();
    assert!(answer.took < ms(1500), "{:?}", answer.took);
    assert!(!answer.has_end_marker() && matches!(answer.end, BodyEnd::Cut(_)), "{:?}", answer.end);
    assert!(answer.error().is_some(), "{}", answer.body_text());
}
