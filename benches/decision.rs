//! What does one decision cost?
//!
//! The pure rooms that a request passes, one by one and without a socket: reading and rewriting its
//! body, finding its route, ordering its targets, judging a refusal, the state machine of a request
//! that fails over once, and reading a streamed answer. `make load` says what all of it costs
//! together; this says which part a change has made dearer.
//!
//! ```text
//! cargo bench --bench decision                       all
//! cargo bench --bench decision -- stream             those with "stream" in their name
//! cargo bench --bench decision -- --measurement-time 1 --warm-up-time 1
//! ```

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench fails by panicking")]

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman::base::api::{Api, Dialect};
use pointsman::base::outcome::Outcome;
use pointsman::base::time::{Tick, WallTime};
use pointsman::config::plan::Plan;
use pointsman::config::{self, Outside, SecretFault, SecretRef, Source};
use pointsman::exchange::budget::RetryBudget;
use pointsman::exchange::{Exchange, Failure, Rules, Step};
use pointsman::health::{Policy, Report, Units};
use pointsman::select::{Candidate, Candidates, Turns};
use pointsman::wire::StreamReader;
use pointsman::wire::retry_hint::RetryHint;
use pointsman::{classify, parse, rewrite, route, select};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Sizes of request bodies: a question, a conversation, a coding agent's first turn.
const SIZES: [(&str, usize); 3] = [("1 KB", 1 << 10), ("32 KB", 32 << 10), ("300 KB", 300 << 10)];

/// Nothing comes from outside; the plans here have no keys.
struct Nowhere;

impl Outside for Nowhere {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }

    fn secret(&self, _what: &SecretRef) -> Result<pointsman::base::secret::Secret, SecretFault> {
        Err(SecretFault::NotSet)
    }
}

fn plan(yaml: &str) -> Plan {
    let reading = config::read(
        &Source { name: "bench.yaml", text: yaml, is_private: true, is_variable: false },
        &Nowhere,
    );
    reading.plan.unwrap_or_else(|| unreachable!("{:?}", reading.problems))
}

/// A chat request of about that size: turns of a conversation, with the escapes that code brings.
fn chat(size: usize) -> Bytes {
    let mut body = r#"{"model":"chat","stream":true,"temperature":0.2,"messages":[{"role":"system","content":"You are a helpful assistant."}"#.to_owned();
    while body.len() < size {
        body.push_str(r#",{"role":"user","content":"Why does this fail?\n\n```rust\nfn main() {\n    println!(\"{}\", 1);\n}\n```\nIt says: expected `;`, found `}` — every time."}"#);
        body.push_str(r#",{"role":"assistant","content":"Because the statement before the brace has no end; add one and it compiles."}"#);
    }
    body.push_str("]}");
    Bytes::from(body)
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse body");
    for (name, size) in SIZES {
        let body = chat(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &body, |b, body| {
            b.iter(|| parse::body(Api::ChatCompletions, black_box(body)).unwrap());
        });
    }
    group.finish();
    let mut group = c.benchmark_group("rewrite body");
    for (name, size) in SIZES {
        let body = chat(size);
        let parsed = parse::body(Api::ChatCompletions, &body).unwrap();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &body, |b, body| {
            b.iter(|| rewrite::body(black_box(body), &parsed, "gpt-4o-mini", &[]));
        });
    }
    group.finish();
}

/// Events of about 200 bytes, as the two large providers send them.
const EVENTS: [(&str, Dialect, &str); 2] = [
    (
        "chat",
        Dialect::OpenAiChat,
        "data: {\"id\":\"chatcmpl-BZ9x2kQm7Lw\",\"object\":\"chat.completion.chunk\",\"created\":1747000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" signal\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
    ),
    (
        "anthropic",
        Dialect::AnthropicMessages,
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" every switch is set and every signal is green\"}}\n\n",
    ),
];

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream");
    for (name, dialect, event) in EVENTS {
        let mut reader = StreamReader::new(dialect);
        let chunk = Bytes::from_static(event.as_bytes());
        assert!(reader.push(chunk.clone()).content_began, "{name}: the event is not read as content");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("one event", name), |b| {
            b.iter(|| reader.push(black_box(&chunk).clone()));
        });
        let chunk = Bytes::from(event.repeat((64 << 10) / event.len()));
        let mut reader = StreamReader::new(dialect);
        group.throughput(Throughput::Bytes(chunk.len() as u64));
        group.bench_function(BenchmarkId::new("64 KiB", name), |b| {
            b.iter(|| reader.push(black_box(&chunk).clone()));
        });
    }
    group.finish();
}

fn routes(c: &mut Criterion) {
    let mut yaml =
        "providers: {a: {kind: openai, base_url: \"http://127.0.0.1:9/v1\"}}\nroutes:\n".to_owned();
    for at in 0..1000 {
        // Writing into a string does not fail.
        let _ = writeln!(yaml, "  route-{at}: {{targets: [{{provider: a, model: m{at}}}]}}");
    }
    let plan = plan(&yaml);
    let mut group = c.benchmark_group("resolve among 1,000 routes");
    for (name, model) in
        [("a route", "route-777"), ("provider/model", "a/some-model"), ("unknown", "roote-77x")]
    {
        group.bench_function(name, |b| b.iter(|| route::resolve(&plan, Some(black_box(model)))));
    }
    group.finish();
}

fn units() -> Arc<Units> {
    Arc::new(Units {
        target: Arc::default(),
        credential: Arc::default(),
        endpoint: Arc::default(),
        siblings: Arc::from([]),
    })
}

fn orders(c: &mut Criterion) {
    let mut group = c.benchmark_group("order targets");
    for count in [3, 50] {
        let mut yaml =
            "providers: {a: {kind: openai, base_url: \"http://127.0.0.1:9/v1\"}}\nroutes: {chat: {targets: ["
                .to_owned();
        for at in 0..count {
            let _ = write!(yaml, "{{provider: a, model: m{at}, priority: 1, weight: {}}},", at + 1);
        }
        yaml.push_str("]}}");
        let plan = plan(&yaml);
        let route = plan.routes.iter().find(|route| &*route.name == "chat").unwrap();
        let turns = Turns::of(route);
        let health: Vec<_> = plan.targets.iter().map(|_| units()).collect();
        let policy = policy(&plan);
        let usable = |at: pointsman::base::ids::TargetIdx| {
            health.get(at.at()).is_some_and(|units| units.look(Tick(1), &policy).is_ok())
        };
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| select::order(&plan, black_box(route), &turns, Api::ChatCompletions, None, usable));
        });
    }
    group.finish();
}

fn policy(plan: &Plan) -> Policy {
    Policy { breaker: plan.breaker, cooldown: plan.cooldown }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn refusals(c: &mut Criterion) {
    let html = format!(
        "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502</h1>{}</body></html>",
        "<p>The web server reported a bad gateway error.</p>".repeat(40)
    );
    let cases = [
        (
            "429 of openai",
            429,
            headers(&[
                ("content-type", "application/json"),
                ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ]),
            r#"{"error":{"message":"Rate limit reached for gpt-4o-mini on tokens per min (TPM): Limit 200000, Used 198000. Please try again in 1.2s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
        ),
        (
            "529 of anthropic",
            529,
            headers(&[("content-type", "application/json")]),
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}"#,
        ),
        ("502 in HTML", 502, headers(&[("content-type", "text/html")]), html.as_str()),
    ];
    let mut group = c.benchmark_group("classify");
    for (name, status, headers, body) in cases {
        group.bench_function(name, |b| {
            b.iter(|| {
                classify::response(
                    &[],
                    status,
                    &headers,
                    black_box(body.as_bytes()),
                    WallTime(1_795_000_000_000),
                )
            });
        });
    }
    group.finish();
}

fn candidates() -> Candidates {
    (0..2)
        .map(|slot| Candidate {
            slot,
            group: slot,
            provider: slot,
            model: "m".into(),
            context: None,
            continues: false,
            health: units(),
        })
        .collect()
}

/// One request: the first target refuses with a 503, the second delivers.
fn fail_over_once(candidates: Candidates, rules: &Rules, budget: &RetryBudget) -> Exchange {
    let mut exchange = Exchange::new(rules.clone(), candidates);
    let Step::Try(first) = exchange.start(Tick(1)) else { unreachable!("the first target is usable") };
    exchange.answered(503);
    let report = |outcome| Report {
        outcome,
        hint: RetryHint::None,
        account_wide: false,
        is_permanent: false,
        began: Tick(1),
    };
    let health =
        |exchange: &Exchange, at: usize| exchange.candidates().get(at).map(|c| Arc::clone(&c.health));
    if let Some(units) = health(&exchange, first.candidate) {
        let _ = units.report(first.permit, &report(Outcome::ServerError), Tick(2), &rules.health, 7);
    }
    let failure = Failure { status: Some(503), ..Failure::plain(Outcome::ServerError) };
    let Step::Try(second) = exchange.failed(&failure, Tick(2), budget, 7) else {
        unreachable!("the second target is usable and equal")
    };
    exchange.answered(200);
    exchange.commit(Tick(3));
    let _ = exchange.delivered(Tick(4));
    if let Some(units) = health(&exchange, second.candidate) {
        let _ = units.report(second.permit, &report(Outcome::Ok), Tick(4), &rules.health, 7);
    }
    exchange
}

fn exchanges(c: &mut Criterion) {
    let plan = plan("providers: {a: {kind: openai, base_url: \"http://127.0.0.1:9/v1\"}}");
    let deadline = Tick::default().after(Duration::from_secs(600));
    let rules = Rules {
        is_single: false,
        retry: plan.retry,
        health: Arc::new(policy(&plan)),
        may_replay: true,
        may_rescue: true,
        deadline,
    };
    let budget = RetryBudget::default();
    // Fresh health for each, made and dropped outside the measurement: the breaker must not open.
    c.bench_function("exchange that fails over once, with health", |b| {
        b.iter_batched(candidates, |c| fail_over_once(c, &rules, &budget), BatchSize::SmallInput);
    });
}

criterion_group!(benches, bodies, streams, routes, orders, refusals, exchanges);
criterion_main!(benches);
