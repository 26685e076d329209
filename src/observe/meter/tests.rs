//! Which series are there, when do they come, and what do they say to a scraper?

use super::*;
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::base::time::WallTime;
use crate::health::breaker::BreakerState;
use crate::observe::metrics::RescueResult;
use crate::route::fixture;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

fn metrics() -> Arc<Metrics> {
    Metrics::new("0.0.0", Arc::new(AtomicU64::new(3))).unwrap()
}

fn plan(model: &str) -> Plan {
    fixture::plan(
        &["openai", "groq"],
        &[("chat", false, &[("openai", "gpt-4o"), ("groq", model)]), ("listed", true, &[("groq", "listed")])],
    )
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render()).unwrap()
}

/// The value of a series, by its name and labels as they are written.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = text(metrics);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

#[test]
fn a_request_without_a_dialect_is_counted_with_no_dialects() {
    let metrics = metrics();
    let meters = Meters::new(&metrics, &plan("llama"));
    let route = meters.route(Some(RouteIdx(0)));
    route.answered(Some(Dialect::BedrockConverse), 200, None, Duration::ZERO);
    route.answered(None, 200, None, Duration::ZERO);
    for dialect in ["bedrock.converse", OTHER] {
        let line = text(&metrics).lines().any(|line| {
            line.starts_with("pointsman_requests_total{")
                && line.contains(&format!("\"{dialect}\""))
                && line.ends_with(" 1")
        });
        assert!(line, "{dialect}: {}", text(&metrics));
    }
}

fn touch_everything(metrics: &Metrics, meters: &Meters) {
    let dialects = [
        Dialect::OpenAiChat,
        Dialect::OpenAiCompletions,
        Dialect::OpenAiEmbeddings,
        Dialect::OpenAiResponses,
        Dialect::AnthropicMessages,
        Dialect::GeminiGenerate,
    ];
    let second = Duration::from_secs(1);
    for route in [meters.route(Some(RouteIdx(0))), meters.route(None)] {
        for target in
            [meters.target(TargetIdx(0)), meters.target(TargetIdx(1)), meters.unlisted(CredentialIdx(1))]
        {
            for outcome in Outcome::ALL {
                route.attempt(target, outcome);
            }
            for status in [101, 200, 302, 404, 503, 999] {
                for dialect in dialects {
                    route.answered(Some(dialect), status, Some(target), second);
                }
                route.answered(None, status, None, second);
            }
            route.first_content(target, second);
            metrics.failover(route, target, meters.target(TargetIdx(0)), Outcome::Overloaded);
            target.ambiguous();
            target.tokens(3, 4);
            target.cost(0.25);
            target.state(false, BreakerState::HalfOpen, second);
            for kind in
                [LimitKind::Requests, LimitKind::Tokens, LimitKind::InputTokens, LimitKind::OutputTokens]
            {
                target.ratelimit_remaining(kind, 7);
            }
            drop(target.in_flight());
        }
        for result in [RescueResult::Rescued, RescueResult::Failed, RescueResult::NotPossible] {
            metrics.rescue(route, result);
        }
        metrics.stream_interrupted(route);
    }
    meters.credential(CredentialIdx(1), true);
    metrics.overhead(Duration::from_micros(50));
    metrics.retry_budget_exhausted();
    metrics.plan_in_force(2, WallTime(1_795_227_262_123));
    metrics.reload_failed();
}

#[test]
fn a_guard_that_is_dropped_by_a_panic_still_leaves_the_gauge() {
    let metrics = metrics();
    let meters = Meters::new(&metrics, &plan("llama"));
    let target = Arc::clone(meters.target(TargetIdx(0)));
    let series = r#"pointsman_in_flight{target="openai/main/gpt-4o"}"#;
    let guard = target.in_flight();
    assert_eq!(value(&metrics, series), Some(1.0));
    let task = std::thread::spawn(move || {
        let _guard = guard;
        panic!("on purpose");
    });
    assert!(task.join().is_err());
    assert_eq!(value(&metrics, series), Some(0.0));
}

#[test]
fn a_name_that_left_the_plan_is_counted_until_nobody_is_under_way_there_and_gets_no_series_back() {
    let metrics = metrics();
    let (old_plan, new_plan) = (plan("llama"), plan("qwen"));
    let old = Meters::new(&metrics, &old_plan);
    touch_everything(&metrics, &old);
    let guard = old.target(TargetIdx(1)).in_flight();
    let (route, gone) = (Arc::clone(old.route(Some(RouteIdx(0)))), Arc::clone(old.target(TargetIdx(1))));

    let new = Meters::new(&metrics, &new_plan);
    metrics.retain(&new_plan);
    let attempts = r#"pointsman_attempts_total{outcome="ok",route="chat",target="groq/main/llama"}"#;
    let under_way = r#"pointsman_in_flight{target="groq/main/llama"}"#;
    let (before, first) = (value(&metrics, attempts).unwrap(), value(&metrics, under_way));
    assert_eq!(first, Some(1.0));
    drop(guard);
    touch_everything(&metrics, &old);
    assert_eq!(value(&metrics, attempts), Some(before + 1.0), "what ends now is counted");
    let states = ["target_available", "breaker_state", "cooldown_remaining_seconds", "ratelimit_remaining"];
    for line in text(&metrics).lines().filter(|line| line.contains("groq/main/llama")) {
        assert!(!states.iter().any(|state| line.contains(state)), "nobody brings it up to date: {line}");
    }

    route.attempt(old.target(TargetIdx(2)), Outcome::Ok);
    drop(old);
    assert_eq!(value(&metrics, attempts), Some(before + 1.0), "one page shows the last of it");
    assert_eq!(value(&metrics, under_way), None, "and no other");
    route.attempt(&gone, Outcome::Ok);
    gone.tokens(1, 1);
    assert!(!text(&metrics).contains("groq/main/llama"), "{}", text(&metrics));
    assert!(text(&metrics).contains("groq/main/listed"), "what the new plan has is counted");

    touch_everything(&metrics, &new);
    assert!(text(&metrics).contains("groq/main/qwen"));
}

#[test]
fn a_name_that_came_back_goes_on_and_one_of_two_reloads_ago_is_gone_unseen() {
    let metrics = metrics();
    let series = r#"pointsman_attempts_total{outcome="ok",route="chat",target="groq/main/llama"}"#;
    let put_in_force = |model: &str| {
        let plan = plan(model);
        let meters = Meters::new(&metrics, &plan);
        metrics.retain(&plan);
        meters
    };
    let count = |meters: &Meters| {
        meters.route(Some(RouteIdx(0))).attempt(meters.target(TargetIdx(1)), Outcome::Ok);
    };
    let first = put_in_force("llama");
    count(&first);
    let second = put_in_force("qwen");
    let third = put_in_force("llama");
    count(&third);
    count(&first);
    drop(first);
    assert_eq!(value(&metrics, series), Some(3.0));
    count(&third);
    assert_eq!(value(&metrics, series), Some(4.0), "it is in force again, whoever has left");
    drop((second, third));
    let _fourth = put_in_force("qwen");
    assert_eq!(value(&metrics, series), None, "pages that nobody asks for keep nothing");
}

#[test]
fn what_ends_after_a_reload_that_kept_its_name_counts_in_the_same_series() {
    let metrics = metrics();
    let (old_plan, new_plan) = (plan("llama"), plan("qwen"));
    let old = Meters::new(&metrics, &old_plan);
    let new = Meters::new(&metrics, &new_plan);
    metrics.retain(&new_plan);
    for meters in [&old, &new] {
        let route = meters.route(Some(RouteIdx(0)));
        route.answered(Some(Dialect::OpenAiChat), 200, Some(meters.target(TargetIdx(1))), Duration::ZERO);
    }
    let series = r#"pointsman_requests_total{code_class="2xx",dialect="openai.chat",route="chat"}"#;
    assert_eq!(value(&metrics, series), Some(2.0));
}

#[test]
fn counters_of_a_target_that_stays_go_on_over_a_reload() {
    let metrics = metrics();
    let series = r#"pointsman_attempts_total{outcome="ok",route="chat",target="openai/main/gpt-4o"}"#;
    for (generation, model) in [(1.0, "llama"), (2.0, "qwen")] {
        let plan = plan(model);
        let meters = Meters::new(&metrics, &plan);
        metrics.retain(&plan);
        meters.route(Some(RouteIdx(0))).attempt(meters.target(TargetIdx(0)), Outcome::Ok);
        assert_eq!(value(&metrics, series), Some(generation));
    }
}

#[test]
fn targets_of_the_files_routes_are_shown_before_any_request_and_implicit_ones_are_not() {
    let metrics = metrics();
    let meters = Meters::new(&metrics, &plan("llama"));
    meters.target(TargetIdx(1)).state(true, BreakerState::Closed, Duration::ZERO);
    assert_eq!(value(&metrics, r#"pointsman_target_available{target="groq/main/llama"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"pointsman_in_flight{target="groq/main/llama"}"#), Some(0.0));
    let implicit = meters.target(TargetIdx(2));
    implicit.state(true, BreakerState::Closed, Duration::ZERO);
    assert!(!text(&metrics).contains("groq/main/listed"));
    implicit.state(false, BreakerState::Open, Duration::from_secs(9));
    let of = |name: &str| value(&metrics, &format!(r#"{name}{{target="groq/main/listed"}}"#));
    assert_eq!(of("pointsman_breaker_state"), Some(1.0));
    assert_eq!(of("pointsman_cooldown_remaining_seconds"), Some(9.0));
    implicit.state(true, BreakerState::Closed, Duration::ZERO);
    assert_eq!(of("pointsman_breaker_state"), Some(0.0), "what rested shows that it rests no more");
    assert_eq!(of("pointsman_target_available"), Some(1.0));
}

#[test]
fn what_alerts_look_at_is_there_before_it_happens_and_only_for_what_is_configured() {
    let metrics = metrics();
    let _meters = Meters::new(&metrics, &plan("llama"));
    let text = text(&metrics);
    let series = |name: &str| -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')).collect()
    };
    let invalid = [r#"credential="groq/main"} 0"#, r#"credential="openai/main"} 0"#];
    assert_eq!(series("pointsman_credential_invalid"), invalid);
    let interrupted = [r#"route="chat"} 0"#, r#"route="other"} 0"#];
    assert_eq!(series("pointsman_stream_interrupted_total"), interrupted, "not the implicit route");
}

#[test]
fn a_credential_that_left_the_plan_is_not_shown_as_refused_for_ever() {
    let metrics = metrics();
    let (both, one) = (plan("llama"), fixture::plan(&["openai"], &[("chat", false, &[("openai", "m")])]));
    let meters = Meters::new(&metrics, &both);
    meters.credential(CredentialIdx(1), true);
    let _next = Meters::new(&metrics, &one);
    metrics.retain(&one);
    assert_eq!(value(&metrics, r#"pointsman_credential_invalid{credential="groq/main"}"#), None);
    assert_eq!(value(&metrics, r#"pointsman_credential_invalid{credential="openai/main"}"#), Some(0.0));
}

#[test]
fn numbers_that_make_no_sense_are_not_counted() {
    let metrics = metrics();
    let meters = Meters::new(&metrics, &plan("llama"));
    for usd in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.5] {
        meters.target(TargetIdx(0)).cost(usd);
    }
    assert_eq!(value(&metrics, r#"pointsman_cost_usd_total{target="openai/main/gpt-4o"}"#), Some(0.5));
    meters.route(None).answered(None, 42, None, Duration::ZERO);
    let series = r#"pointsman_requests_total{code_class="other",dialect="other",route="other"}"#;
    assert_eq!(value(&metrics, series), Some(1.0));
}

#[test]
fn two_instances_count_apart() {
    let (one, other) = (metrics(), metrics());
    one.retry_budget_exhausted();
    assert_eq!(value(&one, "pointsman_retry_budget_exhausted_total"), Some(1.0));
    assert_eq!(value(&other, "pointsman_retry_budget_exhausted_total"), Some(0.0));
}

#[test]
fn a_page_shows_a_reload_whole_or_not_at_all() {
    let metrics = metrics();
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            for generation in 2..2_000_u32 {
                metrics.reload_failed();
                metrics.plan_in_force(generation.into(), WallTime(0));
            }
        });
        while !told.is_finished() {
            let page = text(&metrics);
            let count = |series: &str| -> f64 {
                let line = page.lines().find_map(|line| line.strip_prefix(series)).unwrap();
                line.trim().parse().unwrap()
            };
            let ok = count(r#"pointsman_config_reloads_total{result="ok"}"#);
            let failed = count(r#"pointsman_config_reloads_total{result="error"}"#);
            let last = count("pointsman_config_last_reload_successful");
            assert!((failed - ok - (1.0 - last)).abs() < 0.5 || failed < 0.5, "{ok} {failed} {last}");
            let generation = count("pointsman_config_generation");
            assert!((generation - ok - 1.0).abs() < 0.5 || ok < 0.5, "{generation} after {ok}");
        }
    });
}

#[test]
fn every_metric_of_the_contract_is_there_with_its_labels() {
    let metrics = metrics();
    let meters = Meters::new(&metrics, &plan("llama"));
    touch_everything(&metrics, &meters);
    let text = text(&metrics);
    for line in [
        r#"pointsman_requests_total{code_class="2xx",dialect="anthropic.messages",route="chat"} 3"#,
        r#"pointsman_attempts_total{outcome="inband_error",route="chat",target="groq/main/llama"} 1"#,
        r#"pointsman_ambiguous_attempts_total{target="groq/main/other"} 2"#,
        r#"pointsman_failovers_total{from="groq/main/llama",reason="overloaded",route="chat",to="openai/main/gpt-4o"} 1"#,
        r#"pointsman_rescues_total{result="rescued",route="chat"} 1"#,
        r#"pointsman_stream_interrupted_total{route="chat"} 1"#,
        r#"pointsman_credential_invalid{credential="groq/main"} 1"#,
        r#"pointsman_request_duration_seconds_bucket{route="chat",target="openai/main/gpt-4o",le="600"} 36"#,
        r#"pointsman_request_duration_seconds_count{route="chat",target="other"} 18"#,
        r#"pointsman_time_to_first_content_seconds_count{route="chat",target="groq/main/llama"} 1"#,
        r#"pointsman_overhead_seconds_bucket{le="0.00005"} 1"#,
        r#"pointsman_in_flight{target="groq/main/llama"} 0"#,
        r#"pointsman_target_available{target="groq/main/llama"} 0"#,
        r#"pointsman_breaker_state{target="groq/main/llama"} 0.5"#,
        r#"pointsman_cooldown_remaining_seconds{target="groq/main/llama"} 1"#,
        r#"pointsman_tokens_total{direction="input",target="groq/main/llama"} 6"#,
        r#"pointsman_tokens_total{direction="output",target="groq/main/llama"} 8"#,
        r#"pointsman_cost_usd_total{target="groq/main/llama"} 0.5"#,
        r#"pointsman_ratelimit_remaining{kind="requests",target="groq/main/llama"} 7"#,
        "pointsman_retry_budget_exhausted_total 1",
        "pointsman_log_dropped_total 3",
        r#"pointsman_config_reloads_total{result="ok"} 1"#,
        r#"pointsman_config_reloads_total{result="error"} 1"#,
        "pointsman_config_generation 2",
        "pointsman_config_last_reload_successful 0",
        r#"pointsman_build_info{version="0.0.0"} 1"#,
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    for outcome in Outcome::ALL {
        assert!(text.contains(&format!("outcome=\"{}\"", outcome.as_label())), "{outcome:?}");
    }
    if cfg!(target_os = "linux") {
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

/// `promtool` comes with Prometheus; where it is not installed there is nothing to ask.
#[test]
fn promtool_has_nothing_to_say() {
    let metrics = metrics();
    touch_everything(&metrics, &Meters::new(&metrics, &plan("llama")));
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else { return };
    promtool.stdin.take().unwrap().write_all(&metrics.render()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}
