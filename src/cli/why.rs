//! A decision as people read it: `why REQUEST_ID` and `explain --model M`.
//!
//! Pure: the admin plane's JSON in, a text of lines of at most [`COLUMNS`] out. One line a candidate
//! with its state, in capitals where it was asked, and the reason in words, one line an attempt with its
//! times, then the verdict. What does not fit is cut with `…`, a target's name in its middle, because
//! both ends tell it apart; `--json` has everything. A field that is not there is passed over, so that
//! a newer command line reads an older server.

use serde_json::Value;
use std::fmt::Write as _;

/// Longest line, in characters.
pub const COLUMNS: usize = 100;

/// Longest name of a target in a line.
const TARGET: usize = 40;

/// Returns a decision of the past as text.
#[must_use]
pub fn why_text(decision: &Value) -> String {
    let mut text = String::new();
    let mut head = format!("request {}", word(decision, "request_id"));
    push(&mut head, "  ", &date(word(decision, "at")));
    for (name, before) in [("client", "  client "), ("route", "  route ")] {
        push(&mut head, before, word(decision, name));
    }
    let _ = write!(head, "  generation {}", decision["generation"].as_u64().unwrap_or_default());
    line(&mut text, &head);
    line(&mut text, &asked(decision));
    candidates(&mut text, decision);
    attempts(&mut text, decision);
    line(&mut text, "");
    line(&mut text, &verdict(decision));
    text
}

/// Returns an explanation as text.
#[must_use]
pub fn explain_text(explained: &Value) -> String {
    let mut text = String::new();
    let mut head = asked(explained);
    push(&mut head, "  route ", word(explained, "route"));
    push(&mut head, "  client ", word(explained, "client"));
    let _ = write!(head, "  generation {}", explained["generation"].as_u64().unwrap_or_default());
    line(&mut text, &head);
    candidates(&mut text, explained);
    line(&mut text, "");
    let chosen = list(explained, "candidates").iter().find(|c| word(c, "state") == "chosen");
    let verdict = match chosen {
        Some(candidate) => format!("it would go to {} now", word(candidate, "target")),
        None => format!("it would be refused now: {}", refusal(explained)),
    };
    line(&mut text, &verdict);
    text
}

fn asked(decision: &Value) -> String {
    let model = match word(decision, "model") {
        "" => "asked for no model".to_owned(),
        model => format!("asked for \"{model}\""),
    };
    let stream = if decision["stream"] == true { ", streamed" } else { "" };
    match word(decision, "dialect") {
        "" => format!("{model}{stream}"),
        dialect => format!("{model} in {dialect}{stream}"),
    }
}

fn candidates(text: &mut String, decision: &Value) {
    let all = list(decision, "candidates");
    if all.is_empty() {
        line(text, "no target was considered");
        return;
    }
    line(text, "");
    let width = names(all);
    for (at, candidate) in all.iter().enumerate() {
        let state = match word(candidate, "state") {
            "chosen" => "CHOSEN",
            "tried" => "TRIED",
            "not_reached" => "not reached",
            other => other,
        };
        let priority = candidate["priority"].as_u64().unwrap_or_default();
        let target = shortened(word(candidate, "target"), TARGET);
        let reason = reason(decision, candidate);
        line(text, &format!("{:>2}  {target:<width$}  pri {priority:<2} {state:<11}  {reason}", at + 1));
    }
}

/// The reason in words.
fn reason(decision: &Value, candidate: &Value) -> String {
    let reason = word(candidate, "reason");
    let is_past = decision.get("request_id").is_some();
    let mut text = match (reason, word(candidate, "detail")) {
        ("cooling", _) => "cooling".to_owned(),
        ("breaker_open", _) => "circuit breaker open".to_owned(),
        ("usable", _) => "may be used".to_owned(),
        ("not_needed", _) if is_past => "one before it answered".to_owned(),
        ("not_needed", _) => "would be asked after a failure".to_owned(),
        ("called_off", _) => "another one's answer came first, or there was no room for its own".to_owned(),
        (reason, "") => reason.replace('_', " "),
        (_, detail) => detail.to_owned(),
    };
    push(&mut text, " until ", &until(word(candidate, "until"), word(decision, "at")));
    if let Some(cause) = candidate.get("cause").and_then(Value::as_str) {
        let _ = write!(text, " ({})", cause.replace('_', " "));
    }
    let loses: Vec<&str> = list(candidate, "loses").iter().filter_map(Value::as_str).collect();
    if word(candidate, "state") != "skipped" {
        push(&mut text, "; translated, without ", &loses.join(", "));
    }
    text
}

fn attempts(text: &mut String, decision: &Value) {
    let all = list(decision, "attempts");
    if all.is_empty() {
        return;
    }
    line(text, "");
    let width = names(all);
    for (at, attempt) in all.iter().enumerate() {
        let cause = word(attempt, "cause").replace('_', " ");
        let mut outcome = word(attempt, "outcome").replace('_', " ");
        if let Some(status) = attempt["status"].as_u64() {
            let _ = write!(outcome, " ({status})");
        }
        let mut times = format!("+{}", ms(attempt, "started_ms"));
        push(&mut times, ", content after ", &ms(attempt, "ttfc_ms"));
        push(&mut times, ", took ", &ms(attempt, "dur_ms"));
        let target = shortened(word(attempt, "target"), TARGET);
        line(text, &format!("{:>2}  {target:<width$}  {cause}: {outcome}, {times}", at + 1));
    }
}

fn verdict(decision: &Value) -> String {
    let chosen = list(decision, "candidates").iter().find(|c| word(c, "state") == "chosen");
    let by = chosen.map_or("", |candidate| word(candidate, "target"));
    let mut text = match word(decision, "ended") {
        "answered" => format!("answered with {} by {by}", status(decision)),
        "relayed" => format!("the error of {by} went to the client: {}", status(decision)),
        "refused" => format!("refused: {}", refusal(decision)),
        "broken_off" => format!("the answer of {by} broke off after it had begun"),
        "client_gone" => "the client left".to_owned(),
        other => other.replace('_', " "),
    };
    push(&mut text, ", after ", &ms(decision, "dur_ms"));
    text
}

fn refusal(decision: &Value) -> String {
    format!("{} {}", status(decision), word(decision, "error")).trim_end().to_owned()
}

fn status(decision: &Value) -> String {
    decision["status"].as_u64().map_or_else(|| "no status".to_owned(), |status| status.to_string())
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn ms(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_u64).map_or_else(String::new, |ms| format!("{ms} ms"))
}

/// Appends a word where there is one.
fn push(text: &mut String, before: &str, word: &str) {
    if !word.is_empty() {
        text.push_str(before);
        text.push_str(word);
    }
}

/// A date without its fraction of a second.
fn date(rfc3339: &str) -> String {
    rfc3339.split_once('.').map_or_else(|| rfc3339.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

/// A time of the same day without the day.
fn until(time: &str, at: &str) -> String {
    let time = date(time);
    match (time.split_once('T'), at.split_once('T')) {
        (Some((day, clock)), Some((today, _))) if day == today => clock.trim_end_matches('Z').to_owned(),
        _ => time,
    }
}

/// The width of the column of targets.
fn names(all: &[Value]) -> usize {
    all.iter().map(|one| word(one, "target").chars().count()).max().unwrap_or(0).min(TARGET)
}

/// Cuts the middle out of a text that is too long.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let (head, tail) = ((most - 1) / 2, most - 1 - (most - 1) / 2);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

/// Appends a line; what a terminal would obey and what is too long is left out.
fn line(text: &mut String, line: &str) {
    let plain = || line.chars().filter(|c| !c.is_control());
    if plain().count() > COLUMNS {
        text.extend(plain().take(COLUMNS - 1).chain(['…']));
    } else {
        text.push_str(plain().collect::<String>().trim_end());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn moved() -> Value {
        json!({
            "request_id": "0199-a", "at": "2026-11-21T02:14:22.123Z", "generation": 7, "route": "chat",
            "client": "laptop", "dialect": "openai.chat", "model": "chat", "stream": true,
            "candidates": [
                {"target": "openai/work/gpt-4o", "priority": 1, "state": "skipped", "reason": "cooling",
                 "until": "2026-11-21T02:15:03.000Z", "cause": "rate_limited"},
                {"target": "groq/main/llama-3.3-70b-versatile", "priority": 1, "state": "skipped",
                 "reason": "no_vision", "detail": "cannot do vision"},
                {"target": "mistral/main/large", "priority": 2, "state": "tried", "reason": "server_error"},
                {"target": "anthropic/main/claude-haiku-4-5", "priority": 2, "state": "chosen", "reason": "ok",
                 "loses": ["seed", "cache_mark"]},
                {"target": "ollama/main/llama3:8b", "priority": 3, "state": "not_reached", "reason": "not_needed"},
            ],
            "attempts": [
                {"target": "mistral/main/large", "cause": "first", "outcome": "server_error", "status": 500,
                 "started_ms": 0, "ttfc_ms": null, "dur_ms": 38},
                {"target": "anthropic/main/claude-haiku-4-5", "cause": "failover", "outcome": "ok", "status": 200,
                 "started_ms": 40, "ttfc_ms": 402, "dur_ms": 9080},
            ],
            "ended": "answered", "status": 200, "dur_ms": 9120,
        })
    }

    #[test]
    fn a_decision_reads_as_a_story() {
        let want = "\
request 0199-a  2026-11-21T02:14:22Z  client laptop  route chat  generation 7
asked for \"chat\" in openai.chat, streamed

 1  openai/work/gpt-4o                 pri 1  skipped      cooling until 02:15:03 (rate limited)
 2  groq/main/llama-3.3-70b-versatile  pri 1  skipped      cannot do vision
 3  mistral/main/large                 pri 2  TRIED        server error
 4  anthropic/main/claude-haiku-4-5    pri 2  CHOSEN       ok; translated, without seed, cache_mark
 5  ollama/main/llama3:8b              pri 3  not reached  one before it answered

 1  mistral/main/large               first: server error (500), +0 ms, took 38 ms
 2  anthropic/main/claude-haiku-4-5  failover: ok (200), +40 ms, content after 402 ms, took 9080 ms

answered with 200 by anthropic/main/claude-haiku-4-5, after 9120 ms
";
        assert_eq!(why_text(&moved()), want);
    }

    #[test]
    fn an_explanation_ends_in_where_it_would_go() {
        let explained = json!({
            "at": "2026-11-21T02:14:22.123Z", "generation": 7, "route": "chat", "client": null,
            "dialect": "anthropic.messages", "model": "chat", "stream": false, "attempts": [],
            "candidates": [
                {"target": "one/k/m", "priority": 1, "state": "skipped", "reason": "breaker_open",
                 "until": "2026-11-22T02:15:03.000Z", "cause": "timeout_stall"},
                {"target": "two/k/m", "priority": 2, "state": "chosen", "reason": "usable"},
                {"target": "three/k/m", "priority": 3, "state": "not_reached", "reason": "not_needed"},
            ],
        });
        let want = "\
asked for \"chat\" in anthropic.messages  route chat  generation 7

 1  one/k/m    pri 1  skipped      circuit breaker open until 2026-11-22T02:15:03Z (timeout stall)
 2  two/k/m    pri 2  CHOSEN       may be used
 3  three/k/m  pri 3  not reached  would be asked after a failure

it would go to two/k/m now
";
        assert_eq!(explain_text(&explained), want);
    }

    #[test]
    fn every_end_has_its_sentence() {
        for (ended, more, want) in [
            (
                "relayed",
                json!({"status": 400}),
                "the error of anthropic/main/claude-haiku-4-5 went to the client: 400",
            ),
            (
                "refused",
                json!({"status": 503, "error": "all_targets_unavailable"}),
                "refused: 503 all_targets_unavailable",
            ),
            (
                "broken_off",
                json!({}),
                "the answer of anthropic/main/claude-haiku-4-5 broke off after it had begun",
            ),
            ("client_gone", json!({"status": 499}), "the client left"),
        ] {
            let mut decision = moved();
            decision["ended"] = json!(ended);
            for (name, value) in more.as_object().unwrap() {
                decision[name] = value.clone();
            }
            let text = why_text(&decision);
            assert_eq!(text.lines().last().unwrap(), format!("{want}, after 9120 ms"), "{ended}");
        }
        let nobody =
            json!({"generation": 1, "status": 503, "error": "all_targets_unavailable", "candidates": []});
        let text = explain_text(&nobody);
        assert!(text.contains("no target was considered"), "{text}");
        assert!(text.ends_with("it would be refused now: 503 all_targets_unavailable\n"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_comes_no_line_is_too_long_and_no_terminal_obeys(
            target in ".{0,300}", model in "\\PC{0,200}|.*\x1b.*", detail in ".{0,300}", state in "[a-z_]{0,20}"
        ) {
            let decision = json!({
                "request_id": model, "model": model, "route": target, "generation": "x",
                "candidates": [{"target": target, "state": state, "reason": "x", "detail": detail}, 7, null],
                "attempts": [{"target": target, "cause": detail, "outcome": state, "dur_ms": -1}],
            });
            for text in [why_text(&decision), explain_text(&decision), why_text(&json!(null)), explain_text(&json!([1]))] {
                for line in text.lines() {
                    prop_assert!(line.chars().count() <= COLUMNS, "{line}");
                    prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                }
            }
        }
    }
}
