//! Does a decision say exactly what happened, and an explanation what will?

use crate::process::{HEAD, Program};
use crate::scene::{Api, FORGETFUL, KEY_ONE, KEY_TWO, Pair, RESCUER, Wire, ms, provider};
use crate::stage::{Stage, eventually};
use pointsman::base::outcome::Outcome;
use pointsman::health::{Operation, Permit, Report};
use pointsman::observe::decisions::question::{Question, Unexplained};
use pointsman::observe::decisions::{Filter, KEPT};
use pointsman::proxy::explain;
use pointsman::standin::caller::{Answer, Call};
use pointsman::standin::{Place, Provider, Reply, Script, Twist};
use pointsman::wire::retry_hint::RetryHint;
use serde_json::{Value, json};
use std::time::Duration;

const WIRE: Wire = Wire { is_http2_client: false, is_http2_provider: false };
const ONCE: &str = "retry: {wait_in_place: 0ms, same_target: 0}\n";

async fn pair(first: impl Into<Script>, second: impl Into<Script>, more: &str) -> Pair {
    let first = Provider::start(first).await.unwrap();
    Pair::open(Api::Chat, WIRE, first, second, more).await
}

/// Waits until the decision of a request is kept.
async fn decided(stage: &Stage, id: &str) -> Value {
    let decisions = &stage.house.decisions;
    eventually("the decision is kept", || decisions.find(id).is_some()).await;
    decisions.find(id).unwrap()
}

async fn why(stage: &Stage, answer: &Answer) -> Value {
    decided(stage, answer.header("x-request-id").unwrap()).await
}

/// Each candidate as `one/k/alpha tried rate_limited`.
fn candidates(decision: &Value) -> Vec<String> {
    let all = decision["candidates"].as_array().unwrap();
    all.iter()
        .map(|c| ["target", "state", "reason"].map(|name| c[name].as_str().unwrap()).join(" "))
        .collect()
}

/// Each attempt as `one/k/alpha first rate_limited 429`.
fn attempts(decision: &Value) -> Vec<String> {
    let told = |a: &Value| {
        let words = ["target", "cause", "outcome"].map(|name| a[name].as_str().unwrap()).join(" ");
        format!("{words} {}", a["status"])
    };
    decision["attempts"].as_array().unwrap().iter().map(told).collect()
}

fn end(decision: &Value) -> (&str, u64) {
    (decision["ended"].as_str().unwrap(), decision["status"].as_u64().unwrap())
}

fn ask(stage: &Stage, question: &Value) -> Result<Value, Unexplained> {
    let question: Question = serde_json::from_str(&question.to_string()).unwrap();
    explain(&stage.house, &question).map(|decision| decision.page())
}

fn slot(stage: &Stage, id: &str) -> std::sync::Arc<pointsman::live::Slot> {
    let live = stage.house.live();
    live.slots.iter().find(|slot| slot.target.id.as_str() == id).cloned().unwrap()
}

/// Tells health that a target failed so.
fn fail(stage: &Stage, id: &str, outcome: Outcome, seconds: u64) {
    let hint = RetryHint::After(Duration::from_secs(seconds));
    let began = stage.house.clock.tick();
    let report = Report { outcome, hint, account_wide: false, is_permanent: false, began };
    slot(stage, id).health.report(Permit::default(), &report, began, &stage.house.live().policy, 20);
}

#[tokio::test]
async fn after_a_429_it_says_who_was_tried_and_who_answered() {
    let pair = pair(Reply::rate_limited(Some("60")), Reply::says(RESCUER), ONCE).await;
    let answer = pair.chat().await;
    assert_eq!(answer.status, 200);
    let decision = why(&pair.stage, &answer).await;
    assert_eq!(candidates(&decision), ["one/k/alpha tried rate_limited", "two/k/beta chosen ok"]);
    assert_eq!(attempts(&decision), ["one/k/alpha first rate_limited 429", "two/k/beta failover ok 200"]);
    assert_eq!(end(&decision), ("answered", 200));
    assert_eq!((&decision["route"], &decision["generation"]), (&json!("chat"), &json!(1)));
    assert_eq!((&decision["model"], &decision["dialect"]), (&json!("chat"), &json!("openai.chat")));
    let [first, second] = [0, 1].map(|at| &decision["attempts"][at]);
    let ms = |of: &Value, name: &str| of[name].as_u64().unwrap();
    assert!(ms(first, "started_ms") + ms(first, "dur_ms") <= ms(second, "started_ms") + 1, "{decision}");
    assert!(ms(second, "started_ms") + ms(second, "dur_ms") <= ms(&decision, "dur_ms") + 1, "{decision}");

    // The next one meets a target that rests, and is told until when.
    let answer = pair.chat().await;
    let decision = why(&pair.stage, &answer).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped cooling", "two/k/beta chosen ok"]);
    let resting = &decision["candidates"][0];
    assert_eq!(resting["cause"], "rate_limited");
    let date = |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap();
    let left = (date(&resting["until"]) - date(&decision["at"])).num_seconds();
    assert!((55..=60).contains(&left), "{decision}");
}

#[tokio::test]
async fn a_breaker_and_an_operator_are_told_as_such() {
    let pair = pair(Reply::ok(), Reply::ok(), "breaker: {consecutive_failures: 3, open: 9s}\n").await;
    for _ in 0..3 {
        fail(&pair.stage, "one/k/alpha", Outcome::TimeoutStall, 0);
    }
    let decision = why(&pair.stage, &pair.chat().await).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped breaker_open", "two/k/beta chosen ok"]);
    assert_eq!(decision["candidates"][0]["cause"], "timeout_stall");
    assert!(decision["candidates"][0]["until"].is_string());
    for (operation, word) in [(Operation::Drained, "drained"), (Operation::Disabled, "disabled")] {
        slot(&pair.stage, "one/k/alpha").reset();
        slot(&pair.stage, "one/k/alpha").operate(operation);
        let decision = why(&pair.stage, &pair.chat().await).await;
        assert_eq!(candidates(&decision), [&format!("one/k/alpha skipped {word}"), "two/k/beta chosen ok"]);
    }
}

#[tokio::test]
async fn when_all_are_unavailable_it_says_why_each_is() {
    let pair = pair(Reply::status(503), Reply::status(503), &format!("{ONCE}{FORGETFUL}")).await;
    let answer = pair.chat().await;
    let decision = why(&pair.stage, &answer).await;
    assert_eq!(candidates(&decision), ["one/k/alpha tried server_error", "two/k/beta tried server_error"]);
    assert_eq!(end(&decision), ("refused", u64::from(answer.status)));

    fail(&pair.stage, "one/k/alpha", Outcome::Dns, 0);
    slot(&pair.stage, "one/k/alpha").operate(Operation::Drained);
    slot(&pair.stage, "two/k/beta").operate(Operation::Disabled);
    let answer = pair.chat().await;
    let decision = why(&pair.stage, &answer).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped drained", "two/k/beta skipped disabled"]);
    assert_eq!(end(&decision), ("refused", 503));
    assert_eq!(decision["error"], "all_targets_unavailable");
    assert_eq!(attempts(&decision), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_model_cannot_do_and_what_translation_would_lose_are_reasons() {
    let [one, two] =
        [Provider::start(Reply::ok()).await.unwrap(), Provider::start(Reply::ok()).await.unwrap()];
    let one = provider("one", "openai", &one.base_url(), KEY_ONE, "models: {alpha: {capabilities: [chat]}}");
    let two = provider("two", "anthropic", &two.origin(), KEY_TWO, "");
    let route = |translation: &str| {
        let targets = "targets: [{provider: one, model: alpha, priority: 1}, {provider: two, model: beta, priority: 2}]";
        format!("providers:\n{one}{two}routes: {{chat: {{translation: {translation}, {targets}}}}}\n")
    };
    let image = json!({"model": "chat", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    ]}]});
    let seeded = json!({"model": "chat", "seed": 7, "messages": [{"role": "user", "content": "Hello"}]});
    let send = async |stage: &Stage, body: &Value| {
        let answer = Call::json("/v1/chat/completions", body).send(stage.data).await.unwrap();
        why(stage, &answer).await
    };

    let lossy = Stage::open(&route("lossy")).await;
    let decision = send(&lossy, &image).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped no_vision", "two/k/beta chosen ok"]);
    assert_eq!(decision["candidates"][0]["detail"], "cannot do vision");
    slot(&lossy, "one/k/alpha").operate(Operation::Drained);
    let decision = send(&lossy, &seeded).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped drained", "two/k/beta chosen ok"]);
    assert_eq!(decision["candidates"][1]["loses"], json!(["seed"]), "told, though it is asked");

    let strict = Stage::open(&route("strict")).await;
    let decision = send(&strict, &seeded).await;
    assert_eq!(candidates(&decision), ["one/k/alpha chosen ok", "two/k/beta skipped translation_loss"]);
    assert_eq!(decision["candidates"][1]["loses"], json!(["seed"]));

    let none = Stage::open(&route("none")).await;
    let decision = send(&none, &seeded).await;
    assert_eq!(candidates(&decision), ["one/k/alpha chosen ok", "two/k/beta skipped dialect"]);
    let message = Call::message("chat", false).send(none.data).await.unwrap();
    let decision = why(&none, &message).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped dialect", "two/k/beta chosen ok"], "in order");

    // Nobody is left: it ends before anybody is asked.
    let embedding = json!({"model": "two/beta", "input": "x"});
    let answer = Call::json("/v1/embeddings", &embedding).send(strict.data).await.unwrap();
    let decision = why(&strict, &answer).await;
    assert_eq!(candidates(&decision), ["two/k/beta skipped dialect"]);
    assert_eq!(end(&decision), ("refused", 400));
    assert_eq!(decision["error"], "capability_not_supported");
}

/// Issue 4: a target of another dialect would answer half a conversation as if it were the whole.
#[tokio::test]
async fn a_conversation_that_a_provider_keeps_is_never_answered_without_its_history() {
    let [one, two] =
        [Provider::start(Reply::ok()).await.unwrap(), Provider::start(Reply::ok()).await.unwrap()];
    let providers = provider("one", "openai", &one.base_url(), KEY_ONE, "")
        + &provider("two", "anthropic", &two.origin(), KEY_TWO, "");
    let stage = Stage::open(&format!(
        "{ONCE}providers:\n{providers}routes:\n  \
         chat: {{targets: [{{provider: two, model: beta, priority: 1}}, {{provider: one, model: alpha, priority: 2}}]}}\n  \
         other: {{targets: [{{provider: two, model: beta}}]}}\n"
    ))
    .await;
    let loses = |decision: &Value| decision["candidates"][0]["loses"].clone();
    let named = [
        ("/v1/responses", json!({"input": "and then?", "previous_response_id": "resp_1"})),
        ("/v1/responses", json!({"input": "and then?", "conversation": {"id": "conv_1"}, "store": false})),
    ];
    let cached =
        json!({"contents": [{"parts": [{"text": "and then?"}]}], "cachedContent": "cachedContents/1"});
    for (path, body) in &named {
        let asked = |route: &str| {
            let mut body = body.clone();
            body["model"] = route.into();
            Call::json(path, &body)
        };
        let answer = asked("chat").send(stage.data).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, pointsman::standin::GREETING), "{body}");
        let decision = why(&stage, &answer).await;
        assert_eq!(candidates(&decision), ["two/k/beta skipped translation_loss", "one/k/alpha chosen ok"]);
        assert_eq!(loses(&decision), json!(["state"]));
        assert_eq!(answer.header("x-used-fallback"), Some("true"), "the first choice was left out");
    }
    let calls = [
        Call::json(
            "/v1/responses",
            &json!({"model": "other", "input": "x", "previous_response_id": "resp_1"}),
        ),
        Call::json("/v1beta/models/other:generateContent", &cached),
    ];
    for call in calls {
        let answer = call.send(stage.data).await.unwrap();
        let decision = why(&stage, &answer).await;
        assert_eq!(candidates(&decision), ["two/k/beta skipped translation_loss"]);
        assert_eq!((answer.status, &decision["error"]), (400, &json!("capability_not_supported")));
        assert!(
            answer.body_text().contains("two/k/beta would lose state in translation"),
            "{}",
            answer.body_text()
        );
    }
    // Whoever keeps it is the only one who can answer: its fault is the answer.
    one.set_script(Reply::rate_limited(None));
    let body = json!({"model": "chat", "input": "x", "previous_response_id": "resp_1"});
    let answer = Call::json("/v1/responses", &body).send(stage.data).await.unwrap();
    assert_eq!(answer.status, 429, "{}", answer.body_text());
    assert_eq!(two.count(), 0, "nobody without the history was asked");

    // Empty names name nothing.
    let first = json!({"model": "other", "input": "x", "previous_response_id": null, "conversation": null});
    assert_eq!(Call::json("/v1/responses", &first).send(stage.data).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_hedge_and_a_rescue_are_told_as_what_they_were() {
    let hedged = pair(Reply::silence(), Reply::says(RESCUER), "hedge: {after: 50ms, max_ratio: 1}\n").await;
    let decision = why(&hedged.stage, &hedged.chat().await).await;
    assert_eq!(candidates(&decision), ["one/k/alpha tried called_off", "two/k/beta chosen ok"]);
    assert_eq!(attempts(&decision), ["one/k/alpha first called_off null", "two/k/beta hedge ok 200"]);

    let broken = Reply::says(RESCUER).at(Place::AfterTokens(2), Twist::Reset);
    let rescued = pair(broken, Reply::says(RESCUER), "").await;
    let answer = rescued.stream().await;
    assert_eq!(answer.text(), RESCUER);
    let decision = why(&rescued.stage, &answer).await;
    assert_eq!(decision["candidates"][0]["state"], "tried");
    assert_eq!(candidates(&decision)[1], "two/k/beta chosen ok");
    assert_eq!(attempts(&decision)[1], "two/k/beta rescue_restart ok 200");
    assert!(decision["attempts"][0]["ttfc_ms"].is_u64(), "{decision}");
    assert_eq!((end(&decision), &decision["stream"]), (("answered", 200), &json!(true)));

    let lost = pair(Reply::reset_after(2), Reply::ok(), "rescue: {enabled: false}\n").await;
    let decision = why(&lost.stage, &lost.stream().await).await;
    let [first, second] = candidates(&decision).try_into().unwrap();
    // Whether the end of the connection or the missing end of the body is seen first is the network's.
    assert!(["one/k/alpha chosen reset", "one/k/alpha chosen truncated"].contains(&&*first), "{decision}");
    assert_eq!(second, "two/k/beta not_reached stream_begun");
    assert_eq!(end(&decision), ("broken_off", 200));
}

#[tokio::test]
async fn a_client_that_leaves_and_one_that_asks_wrongly_are_told_too() {
    let silent = pair(Reply::silence(), Reply::ok(), "").await;
    let call = Call::chat("chat").header("x-request-id", "left-1").leaving_after(ms(100));
    let _ = call.send(silent.stage.data).await;
    let decision = decided(&silent.stage, "left-1").await;
    assert_eq!(
        candidates(&decision),
        ["one/k/alpha tried client_gone", "two/k/beta not_reached client_gone"]
    );
    assert_eq!(end(&decision), ("client_gone", 499));

    let strict = pair(Reply::status(400), Reply::ok(), "").await;
    let answer = strict.chat().await;
    let decision = why(&strict.stage, &answer).await;
    let want = ["one/k/alpha chosen client_error", "two/k/beta not_reached request_at_fault"];
    assert_eq!((candidates(&decision), end(&decision)), (want.map(str::to_owned).to_vec(), ("relayed", 400)));

    let broken = Call::post("/v1/chat/completions", "{\"model\": ").header("x-request-id", "broken-1");
    assert_eq!(broken.send(strict.stage.data).await.unwrap().status, 400);
    let decision = decided(&strict.stage, "broken-1").await;
    assert_eq!((candidates(&decision), end(&decision)), (vec![], ("refused", 400)));

    let limited = pair(Reply::status(500), Reply::ok(), "retry: {failovers: 0, same_target: 0}\n").await;
    let decision = why(&limited.stage, &limited.chat().await).await;
    assert_eq!(
        candidates(&decision),
        ["one/k/alpha tried server_error", "two/k/beta not_reached failovers_spent"]
    );
}

#[tokio::test]
async fn a_request_that_is_passed_through_is_told_as_well() {
    let pair = pair(Reply::ok(), Reply::ok(), "default_route: chat\n").await;
    let answer = Call::get("/v1/files").send(pair.stage.data).await.unwrap();
    let decision = why(&pair.stage, &answer).await;
    assert_eq!(candidates(&decision), ["one/k/alpha chosen ok"]);
    slot(&pair.stage, "one/k/alpha").operate(Operation::Drained);
    let answer = Call::get("/v1/files").send(pair.stage.data).await.unwrap();
    let decision = why(&pair.stage, &answer).await;
    assert_eq!(candidates(&decision), ["one/k/alpha skipped drained"]);
    assert_eq!(end(&decision), ("refused", u64::from(answer.status)));
}

#[tokio::test]
async fn who_shows_no_key_is_not_kept_and_the_ring_is_bounded() {
    let yaml = |of: &Provider| {
        format!(
            "clients: [{{name: laptop, key: ck-laptop-0123456789, routes: [chat]}}]\nproviders:\n{}routes: {{chat: {{targets: [{{provider: one, model: alpha}}]}}}}\n",
            provider("one", "openai", &of.base_url(), KEY_ONE, "")
        )
    };
    let one = Provider::start(Reply::ok()).await.unwrap();
    let stage = Stage::open(&yaml(&one)).await;
    for _ in 0..5 {
        assert_eq!(Call::chat("chat").send(stage.data).await.unwrap().status, 401);
    }
    let answer = Call::chat("chat").bearer("ck-laptop-0123456789").send(stage.data).await.unwrap();
    let decision = why(&stage, &answer).await;
    assert_eq!(decision["client"], "laptop");
    assert_eq!(stage.house.decisions.len(), 1, "strangers push nothing out");
    assert!(stage.house.decisions.len() <= KEPT);
    let page = stage.house.decisions.list(&Filter { limit: 10, ..Filter::default() });
    assert_eq!(page["decisions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_decision_keeps_its_generation_and_no_plan_alive() {
    let pair = pair(Reply::ok(), Reply::ok(), "").await;
    let answer = pair.chat().await;
    let before = why(&pair.stage, &answer).await;
    let old = std::sync::Arc::downgrade(&pair.stage.house.live());
    pair.stage.swap(&format!(
        "providers:\n{}routes: {{other: {{targets: [{{provider: two, model: beta}}]}}}}\n",
        provider("two", "openai", &pair.second.base_url(), KEY_TWO, "")
    ));
    eventually("the old generation is gone", || old.upgrade().is_none()).await;
    assert_eq!(why(&pair.stage, &answer).await, before, "and is told as it was");
}

// --- explain ---

#[tokio::test]
async fn an_explanation_says_where_it_would_go_and_moves_nothing() {
    let pair = pair(Reply::ok(), Reply::ok(), "").await;
    let explained = ask(&pair.stage, &json!({"model": "chat"})).unwrap();
    assert_eq!(candidates(&explained), ["one/k/alpha chosen usable", "two/k/beta not_reached not_needed"]);
    assert_eq!((&explained["route"], &explained["attempts"]), (&json!("chat"), &json!([])));
    assert!(explained.get("request_id").is_none() && explained.get("status").is_none(), "{explained}");
    fail(&pair.stage, "one/k/alpha", Outcome::RateLimited, 60);
    let explained = ask(&pair.stage, &json!({"model": "chat", "dialect": "anthropic.messages"})).unwrap();
    assert_eq!(candidates(&explained), ["one/k/alpha skipped cooling", "two/k/beta chosen usable"]);
    slot(&pair.stage, "two/k/beta").operate(Operation::Drained);
    let explained = ask(&pair.stage, &json!({"model": "chat"})).unwrap();
    assert_eq!((&explained["status"], &explained["error"]), (&json!(503), &json!("all_targets_unavailable")));
    assert_eq!((pair.first.count(), pair.second.count()), (0, 0), "nobody was asked");
    assert!(pair.stage.house.decisions.is_empty(), "nor is it kept");
    assert!(
        pair.stage.said("request").is_empty() && pair.stage.metric("pointsman_requests_total", &[]) < 0.5
    );
    let direct = ask(&pair.stage, &json!({"model": "one/never-heard-of"})).unwrap();
    assert_eq!(candidates(&direct), ["one/k/never-heard-of chosen usable"]);
}

#[tokio::test]
async fn what_cannot_be_explained_is_told_with_what_can() {
    let one = Provider::start(Reply::ok()).await.unwrap();
    let stage = Stage::open(&format!(
        "clients: [{{name: laptop, key: ck-laptop-0123456789, routes: [chat]}}]\nimplicit_routes: true\nproviders:\n{}routes:\n  chat: {{targets: [{{provider: one, model: alpha}}]}}\n  chat-large: {{targets: [{{provider: one, model: beta}}]}}\n",
        provider("one", "openai", &one.base_url(), KEY_ONE, "")
    ))
    .await;
    let told = |question: Value| match ask(&stage, &question).unwrap_err() {
        Unexplained::Invalid(why) => format!("400 {why}"),
        Unexplained::Forbidden(why) => format!("403 {why}"),
        Unexplained::UnknownModel(why) => format!("404 {why}"),
    };
    for (question, words) in [
        (
            json!({"model": "chatt"}),
            &["404", "did you mean \"chat\"?", "chat-large", "PROVIDER/MODEL", "one"][..],
        ),
        (json!({"model": "chat-large", "client": "laptop"}), &["403", "laptop", "chat-large"]),
        (json!({"model": "nothing", "client": "laptop"}), &["404", "routes: chat"]),
        (json!({"model": "chat", "client": "nobody"}), &["400", "client", "laptop"]),
        (json!({"model": "chat", "dialect": "french"}), &["400", "dialect", "anthropic.messages"]),
        (json!({"model": "chat", "headers": {"x-pointsman-tier": "huge"}}), &["400", "fast, medium"]),
        (json!({"model": "chat", "headers": {"bad name": "sk-secret"}}), &["400", "bad name"]),
        (json!({"model": "chat", "body": ["sk-secret"]}), &["400", "JSON object"]),
        (json!({"model": "chat", "body": {"stream": "sk-secret"}}), &["400", "stream must be"]),
    ] {
        let told = told(question.clone());
        assert!(words.iter().all(|word| told.contains(word)), "{question}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
    assert!(
        !told(json!({"model": "nothing", "client": "laptop"})).contains("chat-large"),
        "what it may not use"
    );
}

/// Small, seeded and good enough: xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

const TARGETS: [&str; 5] = ["a/k1/m", "a/k2/m", "b/k/n", "c/k/o", "d/k/claude"];

/// Puts some of the targets into some state.
fn shake(stage: &Stage, dice: &mut Dice) {
    for id in TARGETS {
        let slot = slot(stage, id);
        match dice.below(7) {
            0 => slot.operate(Operation::Drained),
            1 => slot.operate(Operation::Ready),
            2 => slot.reset(),
            3 => fail(stage, id, Outcome::RateLimited, 1 + dice.below(60)),
            4 => fail(stage, id, Outcome::Quota, 60),
            5 => (0..5).for_each(|_| fail(stage, id, Outcome::TimeoutStall, 0)),
            _ => {}
        }
    }
}

fn body(dice: &mut Dice) -> Value {
    let content = dice.of(&[
        r#""Hello""#,
        r#"[{"type":"text","text":"What?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]"#,
    ]);
    let content: Value = serde_json::from_str(content).unwrap();
    let mut body = json!({"model": "chat", "messages": [{"role": "user", "content": content}]});
    if dice.below(3) == 0 {
        body["seed"] = json!(7);
    }
    if dice.below(5) == 0 {
        body["max_tokens"] = json!(9_000);
    }
    body
}

#[tokio::test]
async fn an_explanation_equals_what_then_happens() {
    let all = [Reply::ok(), Reply::ok(), Reply::ok(), Reply::ok()];
    let mut started = Vec::new();
    for reply in all {
        started.push(Provider::start(reply).await.unwrap());
    }
    let keys = "credentials: [{name: k1, key: \"sk-a1-0123456789\"}, {name: k2, key: \"sk-a2-0123456789\"}], use: spread";
    let yaml = |translation: &str| {
        format!(
            "providers:
  a: {{kind: openai, base_url: \"{}\", {keys}, models: {{m: {{tier: large}}}}}}
{}{}{}routes:
  chat:
    translation: {translation}
    targets:
      - {{provider: a, model: m, priority: 1, weight: 3}}
      - {{provider: b, model: n, priority: 1, weight: 2}}
      - {{provider: c, model: o, priority: 2}}
      - {{provider: d, model: claude, priority: 3}}
",
            started[0].base_url(),
            provider(
                "b",
                "openai",
                &started[1].base_url(),
                "sk-b-0123456789",
                "models: {n: {capabilities: [chat]}}"
            ),
            provider(
                "c",
                "openai",
                &started[2].base_url(),
                "sk-c-0123456789",
                "models: {o: {context: 8000, tier: fast}}"
            ),
            provider("d", "anthropic", &started[3].origin(), "sk-d-0123456789", ""),
        )
    };
    let mut words = std::collections::BTreeSet::new();
    for translation in ["lossy", "strict", "none"] {
        let stage = Stage::open(&yaml(translation)).await;
        for seed in 1..=60u64 {
            let mut dice = Dice(seed * 7919);
            shake(&stage, &mut dice);
            let (body, tier) = (body(&mut dice), dice.of(&[None, None, Some("fast"), Some("large")]));
            let headers = tier.map_or(json!({}), |tier| json!({"x-pointsman-tier": tier}));
            let question = json!({"model": "chat", "headers": headers, "body": body});
            let explained = ask(&stage, &question).unwrap();
            assert_eq!(candidates(&ask(&stage, &question).unwrap()), candidates(&explained), "seed {seed}");
            let call = Call::json("/v1/chat/completions", &body);
            let call = tier.map_or(call.clone(), |tier| call.header("x-pointsman-tier", tier));
            let answer = call.send(stage.data).await.unwrap();
            let decision = why(&stage, &answer).await;
            let happened: Vec<String> =
                candidates(&decision).iter().map(|one| one.replace(" chosen ok", " chosen usable")).collect();
            let what = format!("{translation}, seed {seed}: {body} {tier:?}\n{explained:#}\n{decision:#}");
            // Where nobody could be asked, the others are told to have been passed over either way.
            assert_eq!(candidates(&explained), happened, "{what}");
            words.extend(happened.iter().map(|one| one.rsplit(' ').next().unwrap().to_owned()));
            let loses = |page: &Value| {
                page["candidates"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|c| c["state"] == "chosen")
                    .map(|c| c["loses"].clone())
                    .collect::<Vec<_>>()
            };
            assert_eq!(loses(&explained), loses(&decision), "{what}");
            let status = explained["status"].as_u64().unwrap_or(200);
            assert_eq!(status, u64::from(answer.status), "{what}");
            if status != 200 {
                assert_eq!(explained["error"], decision["error"], "{what}");
                words.insert("refused".to_owned());
            }
        }
    }
    for word in [
        "usable",
        "cooling",
        "breaker_open",
        "drained",
        "no_vision",
        "context_window",
        "translation_loss",
        "dialect",
        "not_needed",
        "refused",
    ] {
        assert!(words.contains(word), "the seeds never met {word}: {words:?}");
    }
}

// --- over the admin plane ---

#[tokio::test]
async fn the_admin_plane_tells_decisions_and_explanations() {
    let one = Provider::start(Script::of([Reply::rate_limited(Some("60"))]).then(Reply::ok())).await.unwrap();
    let two = Provider::start(Reply::ok()).await.unwrap();
    let program = Program::new(&format!(
        "{HEAD}{ONCE}providers:\n{}{}routes: {{chat: {{targets: [{{provider: one, model: alpha, priority: 1}}, {{provider: two, model: beta, priority: 2}}]}}}}\n",
        provider("one", "openai", &one.base_url(), KEY_ONE, ""),
        provider("two", "openai", &two.base_url(), KEY_TWO, ""),
    ));
    let process = program.start().await;
    for number in 0..3 {
        let call = Call::chat("chat").header("x-request-id", &format!("req-{number}"));
        assert_eq!(call.send(process.data).await.unwrap().status, 200);
    }
    crate::process::eventually("all three are kept", async || {
        process.ask("/v1/decisions/req-2").await.status == 200
    })
    .await;
    let decision = process.ask_json("/v1/decisions/req-0").await;
    assert_eq!(candidates(&decision), ["one/k/alpha tried rate_limited", "two/k/beta chosen ok"]);
    let ids = async |query: &str| {
        let page = process.ask_json(&format!("/v1/decisions{query}")).await;
        let all = page["decisions"].as_array().unwrap();
        all.iter().map(|d| d["request_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["req-2", "req-1", "req-0"]);
    assert_eq!(ids("?since=5m&limit=2").await, ["req-2", "req-1"]);
    assert_eq!(ids("?outcome=rate_limited&target=one%2Fk%2Falpha").await, ["req-0"]);
    assert_eq!(ids("?since=2100-01-01T00:00:00Z").await, Vec::<String>::new());
    for (path, status, word) in [
        ("/v1/decisions/req-9", 404, "the last 3 are, since "),
        ("/v1/decisions?since=tomorrow", 400, "since must be"),
        ("/v1/decisions?outcome=bad", 400, "rate_limited"),
        ("/v1/decisions?limit=5000", 400, "1000"),
        ("/v1/explain", 405, "POST"),
    ] {
        let answer = process.ask(path).await;
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body_text().contains(word), "{path}: {}", answer.body_text());
    }

    let question = async |value: Value| Call::json("/v1/explain", &value).send(process.admin).await;
    let explained = question(json!({"model": "chat"})).await.unwrap().json();
    assert_eq!(candidates(&explained), ["one/k/alpha skipped cooling", "two/k/beta chosen usable"]);
    let long = json!({"model": "chat", "messages": [{"role": "user", "content": "word ".repeat(40_000)}]});
    let answer = question(json!({"body": long})).await.unwrap();
    assert_eq!(answer.status, 200, "a body of 200 KB: {}", answer.body_text());
    for (asked, status, word) in [
        (json!({"model": "chatt"}), 404, "did you mean \\\"chat\\\"?"),
        (json!({"modell": "chat"}), 400, "unknown field"),
        (json!([1]), 400, "it takes"),
    ] {
        let answer = question(asked).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json"))
        );
        assert!(answer.body_text().contains(word), "{}", answer.body_text());
    }
}

#[test]
fn the_page_of_reasons_says_what_the_program_says() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/decisions.md")).unwrap();
    for (word, meaning) in pointsman::observe::decisions::reason::REASONS {
        let row = format!("| `{word}` | {meaning} |");
        assert!(page.contains(&row), "docs/decisions.md lacks the row\n{row}");
    }
}
