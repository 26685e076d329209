//! Do the files under `conf/presets/` do what the systems did that they are named for?
//!
//! Each test reads the shipped file, shortens its times, and plays the check of one row of the
//! requirements (E4 to E16, E21 to E23, E32) against providers on real sockets. What is not
//! overridden is the file's own number. The numbers themselves are compared at the end, so that a
//! test with shortened times does not hide a wrong one.

use crate::scene::ms;
use crate::stage::{Stage, eventually, plan};
use pointsman::base::outcome::Outcome;
use pointsman::config::plan::{Jitter, Plan, Prefer};
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Gate, Place, Provider, Reply, Script, Seen};
use serde_yaml::{Mapping, Value};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::task::JoinSet;

const O_SWITCHER: &str = include_str!("../../conf/presets/o-switcher.yaml");
const OPENCODE_BALANCER: &str = include_str!("../../conf/presets/opencode-balancer.yaml");
const SWITCH: &str = include_str!("../../conf/presets/switch.yaml");
const GO_ROUTER: &str = include_str!("../../conf/presets/go-router.yaml");
const FALLBACK_CHAIN: &str = include_str!("../../conf/presets/fallback-chain.yaml");

/// Back-offs short enough to test: 100 ms is the least there is.
const QUICK: &str = "retry: {backoff: {base: 100ms, jitter: none}}";

/// Puts `over` into `into`, key by key.
fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Mapping(into), Value::Mapping(over)) => {
            for (key, value) in over {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over,
    }
}

/// Writes a configuration: the preset, what overrides it, and a route `chat` over the providers,
/// `p0` first, each with so many keys (`k0`, `k1`, …) and a model of its own (`m0`, `m1`, …).
fn written(preset: &str, over: &str, providers: &[(&Provider, usize)]) -> String {
    let mut tree: Value = serde_yaml::from_str(preset).unwrap();
    merge(&mut tree, serde_yaml::from_str(over).unwrap());
    let mut rest = String::from("providers:\n");
    let mut targets = Vec::new();
    for (at, (provider, keys)) in providers.iter().enumerate() {
        let keys: Vec<String> =
            (0..*keys).map(|key| format!("{{name: k{key}, key: \"sk-{at}-{key}-0123456789\"}}")).collect();
        let _ = writeln!(
            rest,
            "  p{at}: {{kind: openai, base_url: \"{}\", credentials: [{}]}}",
            provider.base_url(),
            keys.join(", ")
        );
        targets.push(format!("{{provider: p{at}, model: m{at}, priority: {}}}", at + 1));
    }
    let _ = writeln!(rest, "routes: {{chat: {{targets: [{}]}}}}", targets.join(", "));
    merge(&mut tree, serde_yaml::from_str(&rest).unwrap_or(Value::Mapping(Mapping::new())));
    serde_yaml::to_string(&tree).unwrap()
}

async fn open(preset: &str, over: &str, providers: &[&Provider]) -> Stage {
    let providers: Vec<_> = providers.iter().map(|provider| (*provider, 1)).collect();
    Stage::open(&written(preset, over, &providers)).await
}

async fn start(script: impl Into<Script>) -> Provider {
    Provider::start(script).await.unwrap()
}

fn breaker(stage: &Stage) -> &'static str {
    let live = stage.house.live();
    live.slots[0].breaker(stage.house.clock.tick(), &live.policy).as_label()
}

async fn ask(stage: &Stage) -> Answer {
    Call::chat("chat").send(stage.data).await.unwrap()
}

/// Asks until the provider was contacted more than `count` times; returns the last answer.
async fn ask_until_contacted(stage: &Stage, provider: &Provider, count: u64) -> Answer {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answer = ask(stage).await;
        if provider.count() > count {
            return answer;
        }
        assert!(tokio::time::Instant::now() < end, "not contacted within ten seconds");
        tokio::time::sleep(ms(5)).await;
    }
}

/// The times between one contact and the next.
fn gaps(seen: &[Seen]) -> Vec<Duration> {
    seen.windows(2).map(|pair| pair[1].arrived.saturating_sub(pair[0].arrived)).collect()
}

fn key_of(seen: &Seen) -> &str {
    seen.header("authorization").unwrap().trim_start_matches("Bearer ")
}

/// What is slower than this on a busy machine is not what the row is about.
fn lasts(span: Duration, least: u64, most: u64) {
    assert!(span >= ms(least) && span < ms(most), "{span:?} is not between {least} and {most} ms");
}

mod o_switcher {
    use super::*;

    #[tokio::test]
    async fn e4_three_retries_at_the_target_then_the_next_one() {
        let bad = || Reply::status(503);
        let (first, second) =
            (start(Script::of([bad(), bad(), bad(), Reply::ok()])).await, start(Reply::ok()).await);
        let stage = open(O_SWITCHER, QUICK, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p0"));
        assert_eq!((first.count(), second.count()), (4, 0));

        let (first, second) = (start(bad()).await, start(Reply::ok()).await);
        let stage = open(O_SWITCHER, QUICK, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        assert_eq!((first.count(), second.count()), (4, 1));
    }

    #[tokio::test]
    async fn e5_waits_double_from_the_base() {
        let (first, second) = (start(Reply::status(500)).await, start(Reply::ok()).await);
        let stage = open(O_SWITCHER, QUICK, &[&first, &second]).await;
        ask(&stage).await;
        let gaps = gaps(&first.seen());
        assert_eq!(gaps.len(), 3);
        for (gap, base) in gaps.into_iter().zip([100, 200, 400]) {
            lasts(gap, base - 1, base * 2 + 200);
        }
    }

    #[tokio::test]
    async fn e5_full_jitter_spreads_the_waits() {
        let (first, second) = (start(Reply::status(500)).await, start(Reply::ok()).await);
        // Where every wait may be as long as half a second, fifteen of them are not alike.
        let over = "{retry: {backoff: {base: 500ms, multiplier: 1}}, breaker: {enabled: false}}";
        let stage = open(O_SWITCHER, over, &[&first, &second]).await;
        let mut running = JoinSet::new();
        for _ in 0..5 {
            let data = stage.data;
            running.spawn(async move { Call::chat("chat").send(data).await.unwrap() });
        }
        while let Some(answer) = running.join_next().await {
            assert_eq!(answer.unwrap().header("x-used-provider"), Some("p1"));
        }
        assert_eq!(first.count(), 20);
        let gaps = gaps(&first.seen());
        assert!(gaps.iter().any(|gap| *gap > ms(5)) && gaps.iter().all(|gap| *gap <= ms(1_500)), "{gaps:?}");
    }

    #[tokio::test]
    async fn e6_a_short_retry_after_is_waited_out_at_the_target() {
        let first = start(Script::of([Reply::rate_limited(Some("1")), Reply::ok()])).await;
        let second = start(Reply::ok()).await;
        let stage = open(O_SWITCHER, QUICK, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p0"));
        lasts(gaps(&first.seen())[0], 1_000, 2_500);
        assert_eq!(second.count(), 0);
    }

    #[tokio::test]
    async fn e7_two_changes_of_target() {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(start(Reply::status(404)).await);
        }
        let stage = open(O_SWITCHER, QUICK, &all.iter().collect::<Vec<_>>()).await;
        assert_eq!(ask(&stage).await.status, 404);
        assert_eq!(all.iter().map(Provider::count).collect::<Vec<_>>(), [1, 1, 1, 0]);
    }

    #[tokio::test]
    async fn x3_a_rejected_key_stops_the_request_and_rests() {
        let (first, second) = (start(Reply::status(401)).await, start(Reply::ok()).await);
        let stage = open(O_SWITCHER, QUICK, &[&first, &second]).await;
        let answer = ask(&stage).await;
        assert_eq!((answer.status, answer.error_code()), (502, "upstream_auth".to_owned()));
        assert_eq!((first.count(), second.count()), (1, 0));
        // Marked for re-authentication: the next request goes round it.
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        assert_eq!(first.count(), 1);
    }

    #[tokio::test]
    async fn e10_five_failures_open_one_probe_passes_two_successes_close() {
        let gate = Gate::closed();
        let only = start(Reply::status(500)).await;
        let over = "{retry: {backoff: {base: 100ms, jitter: none}}, breaker: {open: 400ms, open_max: 400ms}}";
        let stage = open(O_SWITCHER, over, &[&only]).await;
        ask(&stage).await;
        ask(&stage).await;
        assert_eq!(only.count(), 5, "four of the first request, one of the second");
        let opened = only.now();
        let answer = ask(&stage).await;
        assert_eq!((answer.status, only.count()), (503, 5), "open");
        assert_eq!(breaker(&stage), "open");

        only.set_script(Script::of([Reply::ok().hold(Place::BeforeHead, &gate), Reply::ok()]));
        let data = stage.data;
        let probe = tokio::spawn(async move {
            loop {
                let answer = Call::chat("chat").send(data).await.unwrap();
                if answer.status == 200 {
                    return answer;
                }
                tokio::time::sleep(ms(5)).await;
            }
        });
        assert!(only.until(Duration::from_secs(5), |seen| seen.len() > 5).await);
        lasts(only.seen()[5].arrived.saturating_sub(opened), 300, 1_500);
        for _ in 0..5 {
            assert_eq!(ask(&stage).await.status, 503, "one probe at once");
        }
        assert_eq!(only.count(), 6);
        gate.open();
        probe.await.unwrap();
        let second = ask(&stage).await;
        assert_eq!((second.status, second.header("x-circuit-breaker-state")), (200, Some("closed")));
    }

    #[tokio::test]
    async fn e21_silence_is_left_after_the_timeout() {
        let (first, second) = (start(Reply::silence()).await, start(Reply::ok()).await);
        let over = "timeouts: {first_content: 150ms, response: 150ms}";
        let stage = open(O_SWITCHER, over, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        assert_eq!(first.count(), 1, "silence is never repeated");
    }

    #[tokio::test]
    async fn e32_a_client_that_leaves_during_the_wait_makes_no_further_contact() {
        let only = start(Reply::status(500)).await;
        let over = "retry: {backoff: {base: 300ms, jitter: none}}";
        let stage = open(O_SWITCHER, over, &[&only]).await;
        let left = Call::chat("chat").leaving_after(ms(100)).send(stage.data).await;
        assert!(left.is_err() || left.is_ok_and(|answer| answer.status == 0));
        eventually("the request ends", || !stage.said("request").is_empty()).await;
        assert_eq!(only.count(), 1);
    }
}

mod opencode_balancer {
    use super::*;

    async fn accounts(over: &str, provider: &Provider, keys: usize) -> Stage {
        Stage::open(&written(OPENCODE_BALANCER, over, &[(provider, keys)])).await
    }

    /// Answers well to every key but the first, to which it answers this.
    fn first_key_gets(reply: Reply) -> Script {
        Script::rule(move |seen| if key_of(seen).starts_with("sk-0-0") { reply.clone() } else { Reply::ok() })
    }

    #[tokio::test]
    async fn e8_three_attempts_inside_one_providers_accounts() {
        for reply in [Reply::rate_limited(None), Reply::status(503), Reply::status(529), Reply::status(402)] {
            let provider = start(reply).await;
            let stage = accounts("{}", &provider, 4).await;
            let answer = ask(&stage).await;
            let keys: Vec<String> = provider.seen().iter().map(|seen| key_of(seen).to_owned()).collect();
            assert_eq!(keys, ["sk-0-0-0123456789", "sk-0-1-0123456789", "sk-0-2-0123456789"]);
            assert!(matches!(answer.status, 429 | 503), "{}", answer.status);
        }
    }

    #[tokio::test]
    async fn e8_another_provider_of_the_route_may_still_answer() {
        let (first, second) = (start(Reply::rate_limited(None)).await, start(Reply::ok()).await);
        let stage = Stage::open(&written(OPENCODE_BALANCER, "{}", &[(&first, 4), (&second, 1)])).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        assert_eq!((first.count(), second.count()), (3, 1));
    }

    #[tokio::test]
    async fn e15_every_retryable_status_holds_the_account_for_all_its_models() {
        for status in [402, 403, 429, 500, 502, 503, 504, 529] {
            let provider = start(first_key_gets(Reply::status(status))).await;
            let stage = accounts("{}", &provider, 2).await;
            assert_eq!(ask(&stage).await.status, 200, "{status}");
            assert_eq!(provider.count(), 2, "{status}: the next account at once");
            // Another model of the same account: the hold is the account's.
            let other = Call::chat("p0/other").send(stage.data).await.unwrap();
            assert_eq!(other.status, 200, "{status}");
            let last = provider.last().unwrap();
            assert_eq!((provider.count(), key_of(&last)), (3, "sk-0-1-0123456789"), "{status}");
        }
        for status in [400, 404] {
            let provider = start(first_key_gets(Reply::status(status))).await;
            let stage = accounts("{}", &provider, 2).await;
            ask(&stage).await;
            let other = Call::chat("p0/other").send(stage.data).await.unwrap();
            let held = provider.seen().iter().filter(|seen| seen.model == "other").map(key_of).next()
                != Some("sk-0-0-0123456789");
            assert!(!held, "{status} holds nothing: {}", other.status);
        }
    }

    #[tokio::test]
    async fn e15_the_log_tells_of_the_hold_and_of_who_comes_next() {
        let provider = start(first_key_gets(Reply::rate_limited(None))).await;
        let stage = accounts("{}", &provider, 2).await;
        ask(&stage).await;
        eventually("the hold is in the log", || !stage.said("target_state").is_empty()).await;
        let line = &stage.said("target_state")[0];
        assert_eq!(line["target"], "p0/k0/m0", "{line}");
        assert_eq!((&line["to"], &line["reason"]), (&"cooling".into(), &"rate_limited".into()), "{line}");
        assert_eq!(line["next"], "p0/k1/m0", "{line}");
        eventually("the request is in the log", || !stage.said("request").is_empty()).await;
        assert_eq!(stage.said("request")[0]["target"], "p0/k1/m0");
    }

    #[tokio::test]
    async fn e6_retry_after_is_the_hold_and_then_the_account_is_used_again() {
        for (is_date, least, most) in [(false, 1_000, 2_500), (true, 900, 4_500)] {
            // A date has whole seconds: three from now is between two and three away.
            let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3));
            let said = if is_date { date } else { "1".to_owned() };
            let once = Script::of([Reply::rate_limited(Some(&said)), Reply::ok()]);
            let provider = start(once).await;
            let stage = accounts("{}", &provider, 1).await;
            let answer = ask(&stage).await;
            assert_eq!(answer.status, 429);
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3).contains(&wait), "{wait}");
            assert_eq!(ask_until_contacted(&stage, &provider, 1).await.status, 200);
            lasts(gaps(&provider.seen())[0], least, most);
        }
    }

    #[tokio::test]
    async fn e6_without_a_time_the_hold_is_the_files() {
        let provider = start(Reply::status(500)).await;
        let stage = accounts("{}", &provider, 1).await;
        ask(&stage).await;
        let answer = ask(&stage).await;
        assert_eq!((answer.status, provider.count()), (503, 1));
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((59..=60).contains(&wait), "{wait}");

        let provider = start(Script::of([Reply::status(500), Reply::ok()])).await;
        let stage = accounts("cooldown: {hold: 300ms}", &provider, 1).await;
        ask(&stage).await;
        assert_eq!(ask_until_contacted(&stage, &provider, 1).await.status, 200);
        lasts(gaps(&provider.seen())[0], 299, 2_000);
    }

    #[tokio::test]
    async fn e16_a_spent_quota_inside_a_200_holds_and_moves_on() {
        let spent = r#"{"error":{"type":"error","message":"Free usage exceeded, subscribe to go on"}}"#;
        let provider = start(first_key_gets(Reply::body(200, "application/json", spent))).await;
        let stage = accounts("{}", &provider, 2).await;
        for contacts in [2, 3] {
            assert_eq!(ask(&stage).await.status, 200);
            assert_eq!(provider.count(), contacts);
        }
    }
}

mod switch {
    use super::*;

    const QUICKLY: &str =
        "{retry: {backoff: {base: 100ms, max: 100ms}}, breaker: {permanent: {base: 300ms}}}";

    #[tokio::test]
    async fn e4_three_retries_at_a_fixed_pace() {
        let (first, second) = (start(Reply::status(500)).await, start(Reply::ok()).await);
        let stage = open(SWITCH, QUICKLY, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        let gaps = gaps(&first.seen());
        assert_eq!(gaps.len(), 3);
        for gap in gaps {
            // Doubled, the third would be 400 ms.
            lasts(gap, 99, 350);
        }
    }

    #[tokio::test]
    async fn e11_one_401_opens_at_once_and_the_second_for_twice_as_long() {
        let (first, second) = (start(Reply::status(401)).await, start(Reply::ok()).await);
        let stage = open(SWITCH, QUICKLY, &[&first, &second]).await;
        for _ in 0..5 {
            assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        }
        assert_eq!(first.count(), 1, "one fault is enough");
        let slot = stage.house.live().slots[0].clone();
        let resting = slot.health.look(stage.house.clock.tick(), &stage.house.live().policy).unwrap_err();
        assert_eq!((resting.as_label(), resting.reason()), ("open", Some(Outcome::Auth)));
        for contacts in [1, 2] {
            assert_eq!(
                ask_until_contacted(&stage, &first, contacts).await.header("x-used-provider"),
                Some("p1")
            );
        }
        let gaps = gaps(&first.seen());
        // Each opening is spread by a fifth.
        lasts(gaps[0], 240, 1_000);
        lasts(gaps[1], 480, 2_000);
    }

    #[tokio::test]
    async fn e11_one_success_closes_and_the_ladder_starts_again() {
        let script = Script::of([Reply::status(401), Reply::ok(), Reply::status(401), Reply::ok()]);
        let (first, second) = (start(script).await, start(Reply::ok()).await);
        let stage = open(SWITCH, QUICKLY, &[&first, &second]).await;
        ask(&stage).await;
        let answer = ask_until_contacted(&stage, &first, 1).await;
        assert_eq!(answer.header("x-used-provider"), Some("p0"));
        assert_eq!(answer.header("x-circuit-breaker-state"), Some("closed"));
        ask(&stage).await;
        ask_until_contacted(&stage, &first, 3).await;
        lasts(gaps(&first.seen())[2], 240, 1_000);
    }

    #[tokio::test]
    async fn e11_a_rejected_key_closes_its_account_and_a_lost_model_only_itself() {
        for (status, other_model_is_asked) in [(401, false), (403, true), (404, true)] {
            let provider =
                start(Script::by_model([("m0", Reply::status(status))]).otherwise(Reply::ok())).await;
            let stage = open(SWITCH, QUICKLY, &[&provider]).await;
            ask(&stage).await;
            ask(&stage).await;
            assert_eq!(provider.count(), 1, "{status} opens at once");
            let other = Call::chat("p0/other").send(stage.data).await.unwrap();
            assert_eq!(other.status == 200, other_model_is_asked, "{status}");
        }
    }

    #[tokio::test]
    async fn e11_what_is_of_the_clients_making_or_a_limit_is_never_permanent() {
        let prompt = r#"{"error":{"type":"invalid_request_error","message":"bad tool: the api key is invalid there"}}"#;
        let limit = r#"{"error":{"type":"rate_limit_error","code":"rate_limit_exceeded","message":"the api key is invalid for more"}}"#;
        for (status, body) in [(422, prompt), (429, limit)] {
            let first = start(Reply::body(status, "application/json", body)).await;
            let stage = open(SWITCH, QUICKLY, &[&first]).await;
            assert_eq!(ask(&stage).await.status, status);
            assert_ne!(breaker(&stage), "open", "{status}");
        }
    }

    #[tokio::test]
    async fn e11_disabled_the_usual_rules_hold() {
        let (first, second) = (start(Reply::status(404)).await, start(Reply::ok()).await);
        let over = "{breaker: {permanent: {enabled: false}}, cooldown: {model: 300ms}}";
        let stage = open(SWITCH, over, &[&first, &second]).await;
        ask(&stage).await;
        assert_eq!(breaker(&stage), "closed");
        ask_until_contacted(&stage, &first, 1).await;
        lasts(gaps(&first.seen())[0], 299, 2_000);
    }

    #[tokio::test]
    async fn e12_a_reset_ends_a_permanent_opening() {
        let (first, second) =
            (start(Script::of([Reply::status(401), Reply::ok()])).await, start(Reply::ok()).await);
        let stage = open(SWITCH, "{}", &[&first, &second]).await;
        ask(&stage).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        stage.house.live().slots[0].reset();
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p0"));
    }

    #[tokio::test]
    async fn a_changed_key_ends_a_permanent_opening() {
        let (first, second) =
            (start(Script::of([Reply::status(401), Reply::ok()])).await, start(Reply::ok()).await);
        let config = written(SWITCH, "{}", &[(&first, 1), (&second, 1)]);
        let stage = Stage::open(&config).await;
        ask(&stage).await;
        stage.swap(&config.replace("sk-0-0-0123456789", "sk-0-9-0123456789"));
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p0"));
    }

    #[tokio::test]
    async fn e10_half_of_ten_requests_open_and_one_success_closes() {
        let half = || Script::round([Reply::ok(), Reply::status(500)]);
        let (first, second) = (start(half()).await, start(Reply::ok()).await);
        let stage = open(SWITCH, "retry: {same_target: 0}", &[&first, &second]).await;
        for _ in 0..30 {
            ask(&stage).await;
        }
        assert_eq!(first.count(), 10, "ten requests, five of them failures");

        let first = start(half()).await;
        let over = "{retry: {same_target: 0}, breaker: {open: 300ms, open_max: 300ms}}";
        let stage = open(SWITCH, over, &[&first, &second]).await;
        for _ in 0..10 {
            ask(&stage).await;
        }
        first.set_script(Reply::ok());
        let answer = ask_until_contacted(&stage, &first, 10).await;
        assert_eq!(answer.header("x-circuit-breaker-state"), Some("closed"));
        lasts(gaps(&first.seen())[9], 240, 2_000);
    }

    #[tokio::test]
    async fn e22_without_a_second_left_no_attempt_begins() {
        let (first, second) = (start(Reply::status(500).after(ms(300))).await, start(Reply::ok()).await);
        let over = "{retry: {same_target: 0}, timeouts: {total: 1200ms}}";
        let stage = open(SWITCH, over, &[&first, &second]).await;
        assert_ne!(ask(&stage).await.status, 200);
        assert_eq!((first.count(), second.count()), (1, 0), "0.9 s are left");
        let over = "{retry: {same_target: 0, least_time: 500ms}, timeouts: {total: 1200ms}}";
        let stage = open(SWITCH, over, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.status, 200);
        // A timer that could only begin what has no time left does not fire.
        let (first, second) = (start(Reply::silence()).await, start(Reply::ok()).await);
        let over = "timeouts: {total: 700ms, response: 300ms}";
        let stage = open(SWITCH, over, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.status, 504);
        assert_eq!((first.count(), second.count()), (1, 0));
    }
}

mod go_router {
    use super::*;

    const QUICKLY: &str = "{retry: {backoff: {base: 100ms, multiplier: 1, max: 100ms, jitter: none}}, cooldown: {ladder: [200ms, 600ms, 1800ms]}}";

    /// Asks until the provider fell three times more, and returns for how long it was left alone.
    async fn left_alone(stage: &Stage, provider: &Provider) -> Duration {
        let before = provider.seen();
        ask_until_contacted(stage, provider, before.len() as u64).await;
        let seen = provider.seen();
        assert_eq!(seen.len(), before.len() + 3, "two retries");
        seen[before.len()].arrived.saturating_sub(before.last().unwrap().arrived)
    }

    #[tokio::test]
    async fn e13_exhausted_requests_climb_the_ladder_and_a_success_clears_it() {
        let (first, second) = (start(Reply::status(503)).await, start(Reply::ok()).await);
        let stage = open(GO_ROUTER, QUICKLY, &[&first, &second]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p1"));
        assert_eq!(first.count(), 3);
        for least in [200, 600, 1800] {
            lasts(left_alone(&stage, &first).await, least - 1, least * 2 + 200);
        }
        // The last rest is 1.8 s again; a success ends the story.
        first.set_script(Script::of([Reply::ok()]).then(Reply::status(503)));
        let answer = ask_until_contacted(&stage, &first, 12).await;
        assert_eq!(answer.header("x-used-provider"), Some("p0"));
        ask(&stage).await;
        lasts(left_alone(&stage, &first).await, 199, 600);
    }

    #[tokio::test]
    async fn e13_only_an_exhausted_request_climbs() {
        // A retry that works leaves no trace.
        let first = start(Script::round([Reply::status(503), Reply::status(429), Reply::ok()])).await;
        let second = start(Reply::ok()).await;
        let stage = open(GO_ROUTER, QUICKLY, &[&first, &second]).await;
        for _ in 0..3 {
            assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p0"));
        }
        // Nor does what is not worth a retry.
        first.set_script(Reply::status(400));
        for contacts in [10, 11, 12] {
            assert_eq!(ask(&stage).await.status, 400);
            assert_eq!(first.count(), contacts);
        }
        assert_eq!(second.count(), 0);
    }

    #[tokio::test]
    async fn e13_a_client_that_leaves_during_the_retries_costs_the_target_nothing() {
        let (first, second) = (start(Reply::status(503)).await, start(Reply::ok()).await);
        let over = "{retry: {backoff: {base: 2s, jitter: none}}}";
        let stage = open(GO_ROUTER, over, &[&first, &second]).await;
        let _ = Call::chat("chat").leaving_after(ms(150)).send(stage.data).await;
        eventually("the request ends", || !stage.said("request").is_empty()).await;
        first.set_script(Reply::ok());
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p0"));
    }

    #[tokio::test]
    async fn e13_a_change_of_state_is_told() {
        let (first, second) = (start(Reply::status(503)).await, start(Reply::ok()).await);
        let stage = open(GO_ROUTER, QUICKLY, &[&first, &second]).await;
        ask(&stage).await;
        eventually("the rest is in the log", || !stage.said("target_state").is_empty()).await;
        let line = &stage.said("target_state")[0];
        assert_eq!((&line["target"], &line["to"]), (&"p0/k0/m0".into(), &"cooling".into()), "{line}");
        assert_eq!((&line["reason"], &line["next"]), (&"server_error".into(), &"p1/k0/m1".into()), "{line}");
    }

    #[tokio::test]
    async fn e14_all_in_cooldown_is_said_at_once_without_a_contact() {
        for (reply, status) in [(Reply::status(503), 503), (Reply::rate_limited(None), 429)] {
            let (first, second) = (start(reply.clone()).await, start(reply).await);
            let over = "retry: {backoff: {base: 100ms, multiplier: 1, jitter: none}}";
            let stage = open(GO_ROUTER, over, &[&first, &second]).await;
            let answer = ask(&stage).await;
            assert_eq!(answer.status, status);
            let said: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((58..=60).contains(&said), "the request that exhausts them says so, too: {said}");
            assert_eq!((first.count(), second.count()), (3, 3));
            let before = tokio::time::Instant::now();
            let answer = ask(&stage).await;
            assert!(before.elapsed() < ms(500), "{:?}", before.elapsed());
            assert_eq!(answer.status, status);
            let said: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((58..=60).contains(&said), "{said}");
            assert_eq!((first.count(), second.count()), (3, 3));
        }
    }

    #[tokio::test]
    async fn e21_and_e23_a_silent_primary_is_left_and_a_long_stream_is_not_cut() {
        let (first, second) = (start(Reply::silence()).await, start(Reply::sixty_words()).await);
        let over = "timeouts: {first_content: 150ms, response: 150ms}";
        let stage = open(GO_ROUTER, over, &[&first, &second]).await;
        let before = tokio::time::Instant::now();
        let answer = Call::chat_stream("chat").send(stage.data).await.unwrap();
        assert_eq!(answer.header("x-used-provider"), Some("p1"));
        assert!(
            answer.has_end_marker() && before.elapsed() > ms(700),
            "a stream of 0.9 s behind a limit of 0.15"
        );
        assert_eq!(first.count(), 1);
        // Without a fallback the same silence is borne.
        let slow = start(Reply::ok().after(ms(400))).await;
        let stage = open(GO_ROUTER, over, &[&slow]).await;
        assert_eq!(ask(&stage).await.status, 200);
    }
}

mod fallback_chain {
    use super::*;

    #[tokio::test]
    async fn e7_one_attempt_each_down_the_chain_and_nothing_is_remembered() {
        let faults = [500, 429, 401, 403, 404, 400, 529, 402];
        let mut all = Vec::new();
        for status in faults {
            all.push(start(Reply::status(status)).await);
        }
        all.push(start(Reply::ok()).await);
        let stage = open(FALLBACK_CHAIN, "{}", &all.iter().collect::<Vec<_>>()).await;
        for round in 1..=3 {
            let answer = ask(&stage).await;
            assert_eq!(answer.header("x-used-provider"), Some("p8"), "{}", answer.body_text());
            assert_eq!(answer.header("x-attempts"), Some("9"));
            assert!(all.iter().all(|provider| provider.count() == round), "each once a request");
        }
    }

    #[tokio::test]
    async fn x6_a_client_error_that_all_give_is_passed_on_as_the_last_gave_it() {
        let (first, second) = (start(Reply::status(422)).await, start(Reply::status(400)).await);
        let stage = open(FALLBACK_CHAIN, "{}", &[&first, &second]).await;
        let answer = ask(&stage).await;
        assert_eq!((answer.status, first.count(), second.count()), (400, 1, 1));
        assert!(answer.body_text().contains("The request is not valid."), "{}", answer.body_text());
    }

    #[tokio::test]
    async fn e21_each_has_its_own_time() {
        let (first, second) = (start(Reply::silence()).await, start(Reply::silence()).await);
        let third = start(Reply::ok()).await;
        let over = "timeouts: {first_content: 150ms, response: 150ms}";
        let stage = open(FALLBACK_CHAIN, over, &[&first, &second, &third]).await;
        assert_eq!(ask(&stage).await.header("x-used-provider"), Some("p2"));
        assert_eq!((first.count(), second.count()), (1, 1));
    }
}

/// Reads a preset as an operator would: as a fragment beside a file with a provider.
fn in_force(preset: &str) -> Plan {
    plan(&format!(
        "providers: {{a: {{kind: openai, base_url: \"http://127.0.0.1:1/v1\"}}}}\nroutes: {{chat: {{targets: [{{provider: a, model: m}}]}}}}\n{preset}"
    ))
}

#[test]
fn the_presets_hold_the_numbers_of_their_seeds() {
    let secs = Duration::from_secs;
    let minutes = |n: u64| secs(60 * n);

    let plan = in_force(O_SWITCHER);
    let (retry, breaker) = (plan.retry, plan.breaker);
    assert_eq!((retry.prefer, retry.same_target, retry.failovers), (Prefer::SameTarget, 3, 2));
    assert_eq!(
        (retry.backoff.base, retry.backoff.max, retry.backoff.jitter),
        (secs(1), secs(30), Jitter::Full)
    );
    assert_eq!((breaker.consecutive_failures, breaker.last_requests, breaker.min_requests), (5, 10, 10));
    assert_eq!((breaker.open, breaker.open_max, breaker.close_after), (secs(30), secs(30), 2));
    assert_eq!(plan.timeouts(None, plan.targets[0].provider).response, secs(30));

    let plan = in_force(OPENCODE_BALANCER);
    assert_eq!((plan.cooldown.hold, plan.retry.provider_attempts, plan.retry.same_target), (secs(60), 3, 0));

    let plan = in_force(SWITCH);
    let (breaker, ladder) = (plan.breaker, plan.breaker.permanent.unwrap());
    assert_eq!((breaker.window, breaker.min_requests, breaker.open), (minutes(5), 10, secs(60)));
    assert_eq!((breaker.open_max, breaker.close_after), (secs(60), 1));
    assert_eq!([0, 1, 2, 3, 4, 5].map(|n| ladder.open(n)), [5, 10, 20, 40, 80, 80].map(minutes));
    assert_eq!((plan.retry.same_target, plan.retry.failovers, plan.retry.least_time), (3, 2, secs(1)));

    let plan = in_force(GO_ROUTER);
    let ladder = plan.cooldown.ladder;
    assert_eq!([0, 1, 2, 3, 4].map(|n| ladder.step(n).unwrap()), [1, 5, 25, 60, 60].map(minutes));
    assert_eq!((plan.retry.same_target, plan.retry.backoff.base), (2, ms(500)));
    assert_eq!((plan.retry.backoff.max, plan.retry.backoff.jitter), (secs(10), Jitter::Quarter));

    let plan = in_force(FALLBACK_CHAIN);
    assert_eq!(
        (plan.retry.same_target, plan.retry.moves_on_client_error, plan.breaker.enabled),
        (0, true, false)
    );
    assert_eq!(plan.timeouts(None, plan.targets[0].provider).response, secs(30));
}

#[test]
fn every_preset_is_tested_here_and_told_in_the_document() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/presets");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let known =
        ["fallback-chain.yaml", "go-router.yaml", "o-switcher.yaml", "opencode-balancer.yaml", "switch.yaml"];
    assert_eq!(names, known);
    let document = include_str!("../../docs/presets.md");
    assert!(known.iter().all(|name| document.contains(name)));
}
