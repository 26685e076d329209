//! Can Prometheus read us, and do we count the truth? (Contract section 7, threat C13.)

use crate::process::{HEAD, Process, Program, SOON, eventually, openai, skip, sum};
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply, Script};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

fn yaml(one: &Provider, two: &Provider, claude: &Provider) -> String {
    format!(
        "{HEAD}log: {{format: json}}
timeouts: {{connect: 500ms, first_content: 100ms, response: 200ms, stall: 100ms, stall_last: 150ms, total: 300ms}}
retry: {{same_target: 0, wait_in_place: 0ms, budget_ratio: 1, budget_min_per_second: 1000}}
cooldown: {{default: 0s, max: 0s, quota: 0s, quota_max: 0s, auth: 0s, auth_max: 0s}}
breaker: {{enabled: false}}
clients:
  - {{name: alice, key: {{env: KEY_ALICE}}, routes: [\"*\"]}}
  - {{name: bob, key: {{env: KEY_BOB}}, routes: [chat]}}
providers:
{}{}  claude: {{kind: anthropic, base_url: \"{}\", credentials: [{{name: k, key: {{env: KEY_TWO}}}}]}}
routes:
  chat:
    translation: none
    targets:
      - {{provider: one, model: m, priority: 1}}
      - {{provider: two, model: m, priority: 2}}
      - {{provider: claude, model: c, priority: 3}}
",
        openai("one", &one.base_url(), "KEY_ONE"),
        openai("two", &two.base_url(), "KEY_TWO"),
        claude.origin(),
    )
}

async fn start(one: &Provider, two: &Provider, claude: &Provider) -> Process {
    // Each wrong key beyond a limit would take a second.
    let limits = "limits: {wrong_keys_per_minute: 0}\n";
    let program = Program::new(&(yaml(one, two, claude) + limits));
    let keys = [
        ("KEY_ONE", "sk-one-0123456789"),
        ("KEY_TWO", "sk-two-0123456789"),
        ("KEY_ALICE", "alice-0123456789"),
        ("KEY_BOB", "bob-0123456789"),
    ];
    keys.into_iter().fold(program, |program, (name, value)| program.env(name, value)).start().await
}

async fn three() -> (Provider, Provider, Provider) {
    let start = || Provider::start(Reply::ok());
    (start().await.unwrap(), start().await.unwrap(), start().await.unwrap())
}

/// Sends one call and returns the class of its status, as `code_class` has it.
async fn send(process: &Process, call: Call) -> String {
    let status = call.limit(SOON).send(process.data).await.unwrap().status;
    format!("{}xx", status / 100)
}

fn alice(call: Call) -> Call {
    call.bearer("alice-0123456789")
}

/// Answers, failovers, refusals, broken streams, strangers, lists.
async fn mixed_traffic(process: &Process, one: &Provider) -> BTreeMap<String, u64> {
    let mut classes = BTreeMap::new();
    let scripts: Vec<Script> = vec![
        Reply::ok().into(),
        Reply::status(500).into(),
        Reply::rate_limited(Some("1")).into(),
        Reply::status(400).into(),
        Reply::status(401).into(),
        Reply::status(529).into(),
        Reply::error_event(500).into(),
        Reply::reset().into(),
        Reply::silence().into(),
        Reply::bad_json().into(),
        Reply::truncated().into(),
    ];
    for script in scripts {
        one.set_script(script);
        for call in [Call::chat("chat"), Call::chat_stream("chat"), Call::message("chat", true)] {
            *classes.entry(send(process, alice(call)).await).or_default() += 1;
        }
    }
    one.set_script(Reply::ok());
    for call in [
        alice(Call::json("/v1/embeddings", &serde_json::json!({"model": "chat", "input": "x"}))),
        alice(Call::chat("no-such-model")),
        alice(Call::post("/v1/chat/completions", "{")),
        Call::chat("chat"),
        Call::chat("chat").bearer("nobody"),
        Call::chat("one/m").bearer("bob-0123456789"),
    ] {
        *classes.entry(send(process, call).await).or_default() += 1;
    }
    classes
}

/// Runs `promtool check metrics`; nothing where there is none.
fn promtool(page: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some((output.status.success() && said.trim().is_empty(), said))
}

#[tokio::test]
async fn promtool_is_content_with_a_live_scrape() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    let fresh = process.metrics().await;
    mixed_traffic(&process, &one).await;
    let used = process.ask("/metrics").await;
    let kind = used.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    for page in [fresh, used.body_text()] {
        let Some((is_content, said)) = promtool(&page) else {
            return skip("the scrape was not checked: promtool is not installed (package prometheus)");
        };
        assert!(is_content, "{said}");
    }
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_with_its_labels() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    mixed_traffic(&process, &one).await;
    let page = process.metrics().await;
    for (name, labels) in [
        ("pointsman_requests_total", &["route", "dialect", "code_class"][..]),
        ("pointsman_attempts_total", &["route", "target", "outcome"]),
        ("pointsman_failovers_total", &["route", "from", "to", "reason"]),
        ("pointsman_request_duration_seconds_bucket", &["route", "target", "le"]),
        ("pointsman_time_to_first_content_seconds_bucket", &["route", "target", "le"]),
        ("pointsman_overhead_seconds_bucket", &["le"]),
        ("pointsman_in_flight", &["target"]),
        ("pointsman_target_available", &["target"]),
        ("pointsman_breaker_state", &["target"]),
        ("pointsman_cooldown_remaining_seconds", &["target"]),
        ("pointsman_tokens_total", &["target", "direction"]),
        ("pointsman_cost_usd_total", &["target"]),
        ("pointsman_config_reloads_total", &["result"]),
        ("pointsman_config_generation", &[]),
        ("pointsman_config_last_reload_successful", &[]),
        ("pointsman_build_info", &["version"]),
        ("process_resident_memory_bytes", &[]),
        ("process_open_fds", &[]),
    ] {
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not there:\n{page}"));
        assert_eq!(labels_of(line), labels.iter().map(|label| (*label).to_owned()).collect(), "{line}");
    }
}

#[tokio::test]
async fn the_page_of_metrics_names_each_of_them_and_no_other() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    mixed_traffic(&process, &one).await;
    let docs = include_str!("../../docs/operations.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `pointsman_")?.split('`').next());
    let named: BTreeSet<String> = rows.map(|name| format!("pointsman_{name}")).collect();
    let source =
        concat!(include_str!("../../src/observe/metrics.rs"), include_str!("../../src/observe/meter.rs"),);
    for name in &named {
        assert!(source.contains(&format!("\"{name}\"")), "{name} is on the page and nowhere else");
    }
    let page = process.metrics().await;
    let told = page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let missing: Vec<_> =
        told.filter(|name| name.starts_with("pointsman_") && !named.contains(*name)).collect();
    assert!(missing.is_empty() && named.len() > 25, "not on the page: {missing:?}");
}

/// Returns the names of a series' labels.
fn labels_of(line: &str) -> BTreeSet<String> {
    let inside =
        line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
    let names = inside.split("\",").filter_map(|label| label.split_once("=\""));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Returns every series without its value.
fn series(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[tokio::test]
async fn what_clients_make_up_makes_no_series() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    // Each kind once, so that whatever it adds is there before the flood.
    flood(&process, 4, 0).await;
    mixed_traffic(&process, &one).await;
    let before = series(&process.metrics().await);
    let rows = process.ask_json("/v1/usage?by=route,target,client").await["rows"].as_array().unwrap().len();
    // Two thousand calls.
    flood(&process, 400, 1).await;
    let after = series(&process.metrics().await);
    // A connection that waits ahead is opened and used when there is time for it; its target is configured.
    let is_warmth = |series: &&String| series.starts_with("pointsman_warm_connections_total{");
    let added: Vec<_> = after.difference(&before).filter(|series| !is_warmth(series)).collect();
    assert!(added.is_empty(), "{} new series: {added:#?}", added.len());
    assert!(!after.iter().any(|line| line.contains("made-up")), "{after:#?}");
    let page = process.ask_json("/v1/usage?by=route,target,client").await;
    assert_eq!(page["rows"].as_array().unwrap().len(), rows, "{page}");
    let devices = process.ask_json("/v1/usage?by=device").await["rows"].as_array().unwrap().len();
    assert!(devices <= pointsman::observe::usage::ledger::DEVICES_MAX + 2, "{devices} devices");
}

/// Calls with names, paths, keys, ids and methods that nobody configured.
async fn flood(process: &Process, count: usize, seed: usize) {
    for turn in 0..count {
        let word = format!("made-up-{seed}-{turn:x}-{:x}", turn * 7919 % 65_521);
        let model = match turn % 4 {
            0 => word.clone(),
            1 => format!("one/{word}"),
            2 => format!("claude/{word}"),
            _ => word.clone() + "\"} 1\n",
        };
        for call in [
            alice(Call::chat(&model)).header("x-request-id", &word),
            alice(Call::message(&model, false)).header("x-pointsman-device", &word),
            alice(Call::get(&format!("/v1/{word}"))),
            alice(Call::get(&format!("/v1/models/{word}"))),
            Call::chat("chat").bearer(&word),
        ] {
            call.limit(SOON).send(process.data).await.expect("an answer, whatever it says");
        }
    }
}

#[tokio::test]
async fn the_counters_agree_with_what_providers_and_clients_counted() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    let classes = mixed_traffic(&process, &one).await;
    // The last request is counted a moment after its last byte.
    let total = classes.values().sum::<u64>().to_string();
    eventually("every request is counted", async || {
        process.metric("pointsman_requests_total", &[]).await.to_string() == total
    })
    .await;
    let page = process.metrics().await;
    let counted = |name: &str, labels: &[&str]| sum(&page, name, labels).to_string();
    for (class, count) in &classes {
        let label = format!("code_class=\"{class}\"");
        assert_eq!(counted("pointsman_requests_total", &[&label]), count.to_string(), "{class}: {classes:?}");
    }
    for (target, provider) in [("one/k/m", &one), ("two/k/m", &two), ("claude/k/c", &claude)] {
        let label = format!("target=\"{target}\"");
        assert_eq!(counted("pointsman_attempts_total", &[&label]), provider.count().to_string(), "{target}");
        assert_eq!(counted("pointsman_in_flight", &[&label]), "0", "{target}");
    }
    // Each attempt at the second target came of a failover from the first.
    let moved = counted("pointsman_failovers_total", &["from=\"one/k/m\"", "to=\"two/k/m\""]);
    assert_eq!(moved, two.count().to_string());
    // The log gathers lines for a few milliseconds before it writes them.
    eventually("a line a request", async || process.log_of("request").len().to_string() == total).await;
    let lines = process.log_of("request");
    let attempts: u64 = lines.iter().filter_map(|line| line["attempts"].as_u64()).sum();
    assert_eq!(attempts, one.count() + two.count() + claude.count());
    let tokens = counted("pointsman_tokens_total", &["target=\"two/k/m\"", "direction=\"output\""]);
    assert!(tokens.parse::<f64>().unwrap() > 0.0);
}

/// Row 13, and what an alert looks at before it ever happened.
#[tokio::test]
async fn a_credential_that_its_provider_refuses_is_shown_until_it_has_another_key() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    let fresh = process.metrics().await;
    for credential in ["one/k", "two/k", "claude/k"] {
        let line = format!("pointsman_credential_invalid{{credential=\"{credential}\"}} 0");
        assert!(fresh.lines().any(|have| have == line), "{line}\n{fresh}");
    }
    let line = "pointsman_stream_interrupted_total{route=\"chat\"} 0";
    assert!(fresh.lines().any(|have| have == line), "{fresh}");

    let resting = yaml(&one, &two, &claude)
        .replace("auth: 0s, auth_max: 0s}", "auth: 60s, auth_max: 60s}")
        .replace("total: 300ms", "total: 30s");
    process.reload(&resting).await;
    one.set_script(Reply::status(401));
    two.set_script(Reply::rate_limited(None));
    assert_eq!(send(&process, alice(Call::chat("chat"))).await, "5xx");
    let invalid =
        async |credential| process.metric("pointsman_credential_invalid", &[credential]).await.to_string();
    assert_eq!(invalid("\"one/k\"").await, "1");
    assert_eq!(invalid("\"two/k\"").await, "0", "a rate limit is no refused key");
    process.reload(&resting.replacen("KEY_ONE", "KEY_TWO", 1)).await;
    assert_eq!(invalid("\"one/k\"").await, "0", "another key is in force");
}

#[tokio::test]
async fn gauges_tell_what_is_now() {
    let (one, two, claude) = three().await;
    let process = start(&one, &two, &claude).await;
    let resting = yaml(&one, &two, &claude)
        .replace("cooldown: {default: 0s, max: 0s,", "cooldown: {default: 30s, max: 60s,")
        .replace("total: 300ms", "total: 30s");
    process.reload(&resting).await;
    one.set_script(Reply::rate_limited(Some("30")));
    assert_eq!(send(&process, alice(Call::chat("chat"))).await, "2xx");
    let label = &["target=\"one/k/m\""][..];
    assert_eq!(process.metric("pointsman_target_available", label).await.to_string(), "0");
    let left = process.metric("pointsman_cooldown_remaining_seconds", label).await;
    assert!(left > 15.0 && left <= 30.0, "{left}");
    let gate = pointsman::standin::Gate::closed();
    two.set_script(Reply::ok().hold(pointsman::standin::Place::BeforeHead, &gate));
    let data = process.data;
    let sent = tokio::spawn(async move { alice(Call::chat("chat")).send(data).await });
    eventually("one is in flight", async || {
        process.metric("pointsman_in_flight", &["target=\"two/k/m\""]).await.to_string() == "1"
    })
    .await;
    gate.open();
    assert_eq!(sent.await.unwrap().unwrap().status, 200);
    eventually("none is in flight", async || {
        process.metric("pointsman_in_flight", &["target=\"two/k/m\""]).await.to_string() == "0"
    })
    .await;
    assert!(process.metric("process_start_time_seconds", &[]).await > Duration::from_secs(1).as_secs_f64());
}
