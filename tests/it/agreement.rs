//! Do counters, log, audit, decisions, usage and providers count the same?
//!
//! Mixed requests, 300 of them, 5,000 with `POINTSMAN_FULL=1`, several at a time: whole, streamed,
//! embeddings, messages; answered, failed over, rescued, refused, left. What each is to come to
//! stands in its body, so the stand-ins answer by it whatever the order, and add up the tokens they
//! say. Afterwards every account is compared with every other, to the unit.

use crate::process::{HEAD, Process, Program, SOON, eventually, is_full, sum};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script, Seen};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that are under way at once.
const AT_ONCE: usize = 8;

/// The audit log, in the folder of the program.
const AUDIT: &str = "audit.log";

/// What a request is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Chat,
    Stream,
    Embeddings,
    Message,
    MessageStream,
    Failover,
    StreamFailover,
    RateLimited,
    Rescued,
    BadRequest,
    AllDown,
    Gone,
    UnknownModel,
    NoKey,
    List,
}

const CASES: [Case; 15] = [
    Case::Chat,
    Case::Stream,
    Case::Embeddings,
    Case::Message,
    Case::MessageStream,
    Case::Failover,
    Case::StreamFailover,
    Case::RateLimited,
    Case::Rescued,
    Case::BadRequest,
    Case::AllDown,
    Case::Gone,
    Case::UnknownModel,
    Case::NoKey,
    Case::List,
];

const DEVICES: [&str; 4] = ["laptop", "phone", "none", "other"];

impl Case {
    fn of(number: usize) -> Case {
        CASES[number % CASES.len()]
    }

    fn call(self, number: usize) -> Call {
        let mut body = json!({
            "model": "chat",
            "messages": [{"role": "user", "content": "Say something."}],
            "user": format!("case-{number}-"),
        });
        let mut set = |name: &str, value: Value| {
            body[name] = value;
        };
        match self {
            Case::Stream | Case::StreamFailover | Case::Rescued | Case::Gone => {
                set("stream", json!(true));
                set("stream_options", json!({"include_usage": true}));
            }
            Case::Message | Case::MessageStream => {
                set("model", json!("talk"));
                set("max_tokens", json!(64));
                set("stream", json!(self == Case::MessageStream));
                set("user", Value::Null);
                set("metadata", json!({"user_id": format!("case-{number}-")}));
            }
            Case::Embeddings => set("input", json!("x")),
            Case::UnknownModel => set("model", json!("no-such-model")),
            Case::Chat
            | Case::Failover
            | Case::RateLimited
            | Case::BadRequest
            | Case::AllDown
            | Case::NoKey
            | Case::List => {}
        }
        let call = match self {
            Case::Message | Case::MessageStream => {
                Call::json("/v1/messages", &body).header("anthropic-version", "2023-06-01")
            }
            Case::Embeddings => Call::json("/v1/embeddings", &body),
            Case::List => Call::get("/v1/models"),
            _ => Call::json("/v1/chat/completions", &body),
        };
        let call = match self {
            Case::NoKey => call,
            _ => call.bearer(if number.is_multiple_of(2) { "alice-0123456789" } else { "bob-0123456789" }),
        };
        let call = if self == Case::Gone { call.leaving_after_events(2) } else { call };
        let call = call.header("x-request-id", &format!("case-{number}"));
        match DEVICES[number % DEVICES.len()] {
            "none" => call,
            "other" => call.header("x-pointsman-device", "two words"),
            device => call.header("x-pointsman-device", device),
        }
    }
}

/// A provider that counts what it says.
struct Counting {
    provider: Provider,
    input: Arc<AtomicU64>,
    output: Arc<AtomicU64>,
}

impl Counting {
    async fn start(reply: impl Fn(Case, Reply) -> Option<Reply> + Send + Sync + 'static) -> Counting {
        let (input, output) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (told_input, told_output) = (Arc::clone(&input), Arc::clone(&output));
        let rule = move |seen: &Seen| {
            let number = number_in(seen);
            let (input, output) = (10 + number % 7, 3 + number % 5);
            let case = Case::of(usize::try_from(number).unwrap());
            let ok = Reply::ok().usage(input, output);
            if let Some(other) = reply(case, ok.clone()) {
                return other;
            }
            told_input.fetch_add(input, Ordering::Relaxed);
            told_output.fetch_add(if case == Case::Embeddings { 0 } else { output }, Ordering::Relaxed);
            ok
        };
        Counting { provider: Provider::start(Script::rule(rule)).await.unwrap(), input, output }
    }

    fn tokens(&self) -> (u64, u64) {
        (self.input.load(Ordering::Relaxed), self.output.load(Ordering::Relaxed))
    }
}

fn number_in(seen: &Seen) -> u64 {
    let text = String::from_utf8_lossy(&seen.body);
    let (_, rest) = text.split_once("case-").unwrap();
    rest.split_once('-').unwrap().0.parse().unwrap()
}

fn yaml(one: &Provider, two: &Provider, claude: &Provider, audit: &Path) -> String {
    format!(
        "{HEAD}log: {{format: json}}
audit: {{path: {}}}
usage: {{time_zone: Europe/Berlin}}
retry: {{same_target: 0, wait_in_place: 0ms, budget_ratio: 1, budget_min_per_second: 1000}}
cooldown: {{default: 0s, max: 0s, quota: 0s, quota_max: 0s, auth: 0s, auth_max: 0s}}
breaker: {{enabled: false}}
clients:
  - {{name: alice, key: {{env: KEY_ALICE}}}}
  - {{name: bob, key: {{env: KEY_BOB}}}}
providers:
  one: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_ONE}}}}], models: {{m: {{price: {{input: 2.5, output: 10}}}}}}}}
  two: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_TWO}}}}]}}
  claude: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_TWO}}}}], models: {{c: {{price: {{input: 1, output: 5}}}}}}}}
routes:
  chat:
    targets:
      - {{provider: one, model: m, priority: 1}}
      - {{provider: two, model: m, priority: 2}}
  talk:
    targets: [{{provider: claude, model: c}}]
",
        audit.display(),
        one.base_url(),
        two.base_url(),
        claude.origin(),
    )
}

async fn start(one: &Provider, two: &Provider, claude: &Provider) -> Process {
    let keys = [
        ("KEY_ONE", "sk-one-0123456789"),
        ("KEY_TWO", "sk-two-0123456789"),
        ("KEY_ALICE", "alice-0123456789"),
        ("KEY_BOB", "bob-0123456789"),
    ];
    let program = Program::new("");
    program.configure(&yaml(one, two, claude, &program.path(AUDIT)));
    keys.into_iter().fold(program, |program, (name, value)| program.env(name, value)).start().await
}

/// Sends them all; returns how often clients saw each status, 499 for those that left.
async fn send_all(process: &Process, count: usize) -> BTreeMap<u64, u64> {
    let mut seen = BTreeMap::new();
    let next = Arc::new(AtomicU64::new(0));
    let data = process.data;
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                loop {
                    let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    if number >= count {
                        return statuses;
                    }
                    let case = Case::of(number);
                    let answer = case.call(number).limit(SOON).send(data).await.unwrap();
                    match case {
                        Case::Gone => statuses.push(499),
                        _ => statuses.push(u64::from(answer.status)),
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        for status in worker.await.unwrap() {
            *seen.entry(status).or_default() += 1;
        }
    }
    seen
}

/// The numbers of a usage page by name: `requests` of `route=chat`.
async fn by(process: &Process, dimension: &str, number: &str) -> BTreeMap<String, u64> {
    let page = process.ask_json(&format!("/v1/usage?by={dimension}&since=2d")).await;
    let rows = page["rows"].as_array().unwrap();
    let of = |row: &Value| (row[dimension].as_str().unwrap().to_owned(), row[number].as_u64().unwrap());
    rows.iter().map(of).filter(|(_, count)| *count > 0).collect()
}

/// How often each value of a field of the log occurs; absent is `none`, or `other` for a route.
fn in_log(lines: &[Value], field: &str, absent: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line[field].as_str().unwrap_or(absent).to_owned()).or_default() += 1;
    }
    counts
}

fn near(one: f64, other: f64, by: f64, what: &str) {
    assert!((one - other).abs() <= by, "{what}: {one} and {other} are more than {by} apart");
}

#[allow(clippy::cast_precision_loss, clippy::float_cmp, reason = "counts far below 2^52")]
#[tokio::test(flavor = "multi_thread")]
async fn counters_log_audit_decisions_usage_and_providers_agree_to_the_unit() {
    let count = if is_full() { 5000 } else { 300 };
    let one = Counting::start(|case, ok| match case {
        Case::Failover | Case::StreamFailover | Case::AllDown => Some(Reply::status(500)),
        Case::RateLimited => Some(Reply::rate_limited(None)),
        Case::BadRequest => Some(Reply::status(400)),
        Case::Rescued => Some(Reply::end_after(3)),
        Case::Gone => Some(Reply::stall_after(5)),
        _ => {
            drop(ok);
            None
        }
    })
    .await;
    let two = Counting::start(|case, _| (case == Case::AllDown).then(|| Reply::status(503))).await;
    let claude = Counting::start(|_, _| None).await;
    let process = start(&one.provider, &two.provider, &claude.provider).await;
    let statuses = send_all(&process, count).await;
    let total: u64 = statuses.values().sum();
    let of_case = |wanted: &[Case]| (0..count).filter(|n| wanted.contains(&Case::of(*n))).count() as u64;
    assert_eq!(total, count as u64);

    // A request is counted a moment after its last byte, and its line is written a moment later.
    eventually("a line a request", async || process.log_of("request").len() as u64 == total).await;
    eventually("every request is counted", async || {
        process.metric("pointsman_requests_total", &[]).await == total as f64
    })
    .await;
    let page = process.metrics().await;
    let lines = process.log_of("request");
    let usage = process.ask_json("/v1/usage?since=2d").await["total"].clone();
    let metric = |name: &str, labels: &[&str]| sum(&page, name, labels);
    assert_eq!(metric("pointsman_log_dropped_total", &[]), 0.0);

    // Requests: clients, counters, log, usage.
    assert_eq!(usage["requests"], total);
    let mut logged = BTreeMap::new();
    for line in &lines {
        *logged.entry(line["status"].as_u64().unwrap()).or_default() += 1;
    }
    assert_eq!(logged, statuses, "statuses in the log and as clients saw them");
    for class in 2..6 {
        let seen: u64 = statuses.iter().filter(|(status, _)| **status / 100 == class).map(|(_, n)| n).sum();
        let label = format!("code_class=\"{class}xx\"");
        assert_eq!(metric("pointsman_requests_total", &[&label]), seen as f64, "{class}xx");
    }
    let gone = statuses.get(&499).copied().unwrap_or(0);
    assert!(gone > 0 && usage["client_gone_requests"] == gone, "{gone} left, {usage}");
    let refused: u64 = statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, n)| n).sum();
    let interrupted = metric("pointsman_stream_interrupted_total", &[]);
    assert_eq!(usage["failed_requests"].as_u64().unwrap() as f64, (refused - gone) as f64 + interrupted);

    // Whose they were: log, usage, and what was sent.
    for (field, dimension, absent) in
        [("route", "route", "other"), ("client", "client", "none"), ("target", "target", "none")]
    {
        assert_eq!(by(&process, dimension, "requests").await, in_log(&lines, field, absent), "{dimension}");
    }
    let devices = by(&process, "device", "requests").await;
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..count {
        // Who may not call has no device.
        let is_known = Case::of(number) != Case::NoKey;
        let device = if is_known { DEVICES[number % DEVICES.len()] } else { "none" };
        *sent.entry(device.to_owned()).or_default() += 1;
    }
    assert_eq!(devices, sent, "devices");
    for (client, requests) in by(&process, "client", "requests").await {
        assert!(requests > 0 && ["alice", "bob", "none"].contains(&&*client), "{client}");
    }

    // Attempts: counters, log, providers.
    let attempts: u64 = lines.iter().map(|line| line["attempts"].as_u64().unwrap()).sum();
    let providers = [("one/k/m", &one), ("two/k/m", &two), ("claude/k/c", &claude)];
    assert_eq!(attempts, providers.iter().map(|(_, counting)| counting.provider.count()).sum::<u64>());
    // Tokens: counters, usage, providers; their sum in the log.
    let (inputs, outputs) =
        (by(&process, "target", "input_tokens").await, by(&process, "target", "output_tokens").await);
    let (mut input_sum, mut output_sum, mut cost) = (0, 0, 0.0);
    for (target, counting) in providers {
        let label = format!("target=\"{target}\"");
        let of = |name: &str, more: &str| metric(name, &[&label, more]);
        assert_eq!(of("pointsman_attempts_total", ""), counting.provider.count() as f64, "{target}");
        let (input, output) = counting.tokens();
        assert!(input > 0 && output > 0, "{target} said nothing");
        assert_eq!(of("pointsman_tokens_total", "direction=\"input\""), input as f64, "{target}");
        assert_eq!(of("pointsman_tokens_total", "direction=\"output\""), output as f64, "{target}");
        assert_eq!((inputs[target], outputs[target]), (input, output), "{target}");
        let (price_input, price_output) = match target {
            "one/k/m" => (2.5, 10.0),
            "claude/k/c" => (1.0, 5.0),
            _ => (0.0, 0.0),
        };
        let own = (input as f64 * price_input + output as f64 * price_output) / 1e6;
        near(of("pointsman_cost_usd_total", ""), own, 1e-6, target);
        (input_sum, output_sum, cost) = (input_sum + input, output_sum + output, cost + own);
    }
    let logged = |field: &str| lines.iter().filter_map(|line| line[field].as_u64()).sum::<u64>();
    assert_eq!((logged("in_tokens"), logged("out_tokens")), (input_sum, output_sum));
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(input_sum), &json!(output_sum)));

    // Cost: prices times tokens, counters, usage; the log rounds each line to a millionth.
    near(usage["cost_usd"].as_f64().unwrap(), cost, 1e-6, "usage");
    let told: f64 = lines.iter().filter_map(|line| line["cost_usd"].as_f64()).sum();
    near(told, cost, 0.5e-6 * count as f64, "log");

    // What is not known is said: all that `two` answered, and what `one` began and did not end.
    let unpriced = by(&process, "target", "unpriced_requests").await;
    let moved = of_case(&[Case::Failover, Case::StreamFailover, Case::RateLimited, Case::Rescued]);
    let left_open = of_case(&[Case::Rescued, Case::Gone]);
    let want = [("one/k/m", left_open), ("two/k/m", moved)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(unpriced, BTreeMap::from(want));
    let of_two = process.ask_json("/v1/usage?by=provider&since=2d").await;
    let row = of_two["rows"].as_array().unwrap().iter().find(|row| row["provider"] == "two").unwrap();
    assert_eq!(row["cost_usd"], Value::Null, "an unknown price is not 0");

    audit_says_what_the_log_says(&process, &lines).await;
    let providers = providers.map(|(name, counting)| (name, counting.provider.count()));
    decisions_say_what_happened(&process, &page, &lines, providers).await;
    events_stand_for_what_was_counted(&process, &page).await;
}

/// The line of a request in one record is its line in the other.
async fn audit_says_what_the_log_says(process: &Process, lines: &[Value]) {
    let read = || -> BTreeMap<String, Value> {
        let text = std::fs::read_to_string(process.program.path(AUDIT)).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let all: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let requests = all.into_iter().filter(|line| line["kind"] == "request");
        requests.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
    };
    eventually("the audit log has every request", async || read().len() >= lines.len()).await;
    let audit = read();
    assert_eq!(audit.len(), lines.len());
    for line in lines {
        let id = line["id"].as_str().unwrap();
        let other = audit.get(id).unwrap_or_else(|| panic!("{id} is not in the audit log"));
        for field in ["route", "client", "target", "attempts", "trail", "status", "generation"] {
            assert_eq!(other[field], line[field], "{field} of {id}");
        }
    }
    let text = std::fs::read_to_string(process.program.path(AUDIT)).unwrap();
    assert_eq!(text.matches("\"kind\":\"request\"").count(), lines.len(), "none stands there twice");
    assert!(process.metric("pointsman_audit_dropped_total", &[]).await < 0.5);
}

/// A decision a request, each as the log has it; its attempts are those of counters and providers.
#[allow(clippy::cast_precision_loss, clippy::float_cmp, reason = "counts far below 2^52")]
async fn decisions_say_what_happened(
    process: &Process,
    page: &str,
    lines: &[Value],
    providers: [(&str, u64); 3],
) {
    let mut attempts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut moves: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    let mut kept = 0;
    for line in lines {
        let id = line["id"].as_str().unwrap();
        let answer = process.ask(&format!("/v1/decisions/{id}")).await;
        let number: usize = id.trim_start_matches("case-").parse().unwrap();
        if matches!(Case::of(number), Case::NoKey | Case::List) {
            assert_eq!(answer.status, 404, "strangers and lists leave no decision");
            continue;
        }
        assert_eq!(answer.status, 200, "{id}: {}", answer.body_text());
        let decision = answer.json();
        kept += 1;
        for field in ["route", "client", "status", "generation", "model", "dialect", "stream"] {
            assert_eq!(decision[field], line[field], "{field} of {id}: {decision}");
        }
        let tried = decision["attempts"].as_array().unwrap();
        assert_eq!(line["attempts"], tried.len(), "{id}: {decision}");
        assert_eq!(line["target"], tried.last().map_or(Value::Null, |last| last["target"].clone()), "{id}");
        assert_eq!(decision["ended"], ended(Case::of(number)), "{id}: {decision}");
        let word = |of: &Value, name: &str| of[name].as_str().unwrap().to_owned();
        let mut before: Option<&Value> = None;
        for attempt in tried {
            let target = word(attempt, "target");
            *attempts.entry((target.clone(), word(attempt, "outcome"))).or_default() += 1;
            if let Some(before) = before.filter(|before| before["target"] != attempt["target"]) {
                let change = (word(before, "target"), target.clone(), word(before, "outcome"));
                *moves.entry(change).or_default() += 1;
            }
            before = Some(attempt);
            let candidates = decision["candidates"].as_array().unwrap();
            let own = candidates.iter().find(|candidate| candidate["target"] == *target).unwrap();
            assert!(["tried", "chosen"].contains(&own["state"].as_str().unwrap()), "{id}: {decision}");
        }
    }
    let list = process.ask_json("/v1/decisions?limit=1").await;
    assert_eq!(list["kept"], kept, "as many as were asked for");
    let counted = |name: &str, labels: &[&str]| sum(page, name, labels);
    for ((target, outcome), count) in &attempts {
        let labels = [format!("target=\"{target}\""), format!("outcome=\"{outcome}\"")];
        let labels = labels.each_ref().map(|label| &**label);
        assert_eq!(counted("pointsman_attempts_total", &labels), *count as f64, "{target} {outcome}");
    }
    for (target, count) in providers {
        let own: u64 = attempts.iter().filter(|((at, _), _)| at == target).map(|(_, n)| n).sum();
        assert_eq!(own, count, "{target}");
    }
    for ((from, to, reason), count) in &moves {
        let labels = [format!("from=\"{from}\""), format!("to=\"{to}\""), format!("reason=\"{reason}\"")];
        let labels = labels.each_ref().map(|label| &**label);
        assert_eq!(counted("pointsman_failovers_total", &labels), *count as f64, "{from} {to} {reason}");
    }
    let all: u64 = moves.values().sum();
    assert_eq!(counted("pointsman_failovers_total", &[]), all as f64);
    assert!(moves.len() >= 3, "{moves:?}");
}

/// How a request of a case ends, in the word of decisions.
fn ended(case: Case) -> &'static str {
    match case {
        Case::Chat
        | Case::Stream
        | Case::Embeddings
        | Case::Message
        | Case::MessageStream
        | Case::Failover
        | Case::StreamFailover
        | Case::RateLimited
        | Case::Rescued => "answered",
        Case::BadRequest => "relayed",
        Case::AllDown | Case::UnknownModel => "refused",
        Case::Gone => "client_gone",
        Case::NoKey | Case::List => "never kept",
    }
}

/// One event a second stands for all of a change; it never stands for more than were counted.
async fn events_stand_for_what_was_counted(process: &Process, page: &str) {
    let call = Call::get("/v1/events?limit=1000").header("accept", "application/json");
    let told = call.limit(SOON).send(process.admin).await.unwrap().json();
    let mut stood: BTreeMap<[String; 3], u64> = BTreeMap::new();
    for event in told["events"].as_array().unwrap().iter().filter(|event| event["event"] == "failover") {
        let change = ["from", "to", "reason"].map(|name| event[name].as_str().unwrap().to_owned());
        *stood.entry(change).or_default() += event["requests"].as_u64().unwrap();
    }
    assert!(stood.len() >= 3, "{told}");
    for (change, requests) in stood {
        let labels: Vec<String> = ["from", "to", "reason"]
            .iter()
            .zip(&change)
            .map(|(name, is)| format!("{name}=\"{is}\""))
            .collect();
        let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
        let counted = sum(page, "pointsman_failovers_total", &labels);
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let stood = requests as f64;
        assert!((1.0..=counted).contains(&stood), "{change:?}: told of {stood}, counted {counted}");
    }
}
