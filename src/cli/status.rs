//! `pointsman status`: what goes where now, who rests and until when. One screen, the same facts as
//! `/v1/status`; `--watch` draws it anew every two seconds, `--json` prints the answer as it is.

use super::ask::{Desk, Whom};
use super::table::{Paint, Table, Tint, is_terminal};
use super::{Exit, say};
use crate::base::units::format_duration;
use crate::server::Keeper;
use serde_json::Value;
use std::time::Duration;

/// Time between two drawings of `--watch`.
const BEAT: Duration = Duration::from_secs(2);
/// To the upper left corner, and clear from there.
const HOME: &str = "\x1b[H\x1b[J";
/// Clear once, so that what stood there before is not mixed in.
const CLEAR: &str = "\x1b[2J";

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// Show it anew every two seconds, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Print as JSON; with --watch one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn status(keeper: &Keeper, arguments: &Arguments) -> Exit {
    let desk = match Desk::find(keeper, &arguments.whom) {
        Ok(desk) => desk,
        Err(fault) => return fault.tell(),
    };
    let paint = Paint::of_stdout();
    let redraws = arguments.watch && !arguments.json && is_terminal();
    let mut is_first = true;
    loop {
        let block = match desk.get("/v1/status") {
            Ok(status) if arguments.json => vec![status.to_string()],
            Ok(status) => page(&status, paint),
            // Who watches wants to see it come back.
            Err(fault) if arguments.watch && !is_first => fault.lines,
            Err(fault) => return fault.tell(),
        };
        let start = match (redraws, is_first) {
            (true, true) => format!("{CLEAR}{HOME}"),
            (true, false) => HOME.to_owned(),
            (false, true) => String::new(),
            (false, false) if arguments.json => String::new(),
            (false, false) => "\n".to_owned(),
        };
        if !say(&format!("{start}{}", block.join("\n"))) || !arguments.watch {
            return Exit::Done;
        }
        is_first = false;
        keeper.pause(BEAT);
    }
}

/// Writes the page.
pub(super) fn page(status: &Value, paint: Paint) -> Vec<String> {
    let count = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let is = |name: &str| status.get(name).and_then(Value::as_bool).unwrap_or(false);
    let (state, tint) = match (is("draining"), is("ready")) {
        (true, _) => ("draining", Tint::Uneasy),
        (false, true) => ("ready", Tint::Good),
        (false, false) => ("not ready", Tint::Bad),
    };
    let version = status.get("version").and_then(Value::as_str).unwrap_or("?");
    let mut lines = vec![format!(
        "pointsman {version}  {}  generation {}  up {}  in flight {}",
        paint.tint(Some(tint), state),
        count("generation"),
        span(count("uptime_s")),
        count("in_flight")
    )];
    let waiting = list(status, "needs_restart").iter().filter_map(Value::as_str);
    lines.extend(waiting.map(|line| paint.tint(Some(Tint::Uneasy), &format!("not in force yet: {line}"))));
    let targets = list(status, "targets");
    lines.push(String::new());
    lines.extend(routes(list(status, "routes"), targets, paint));
    lines.push(String::new());
    let named: Vec<&str> =
        list(status, "routes").iter().flat_map(|r| list(r, "targets")).filter_map(Value::as_str).collect();
    // Routes that a known model's name makes by itself would bury the others.
    let shown: Vec<Value> = targets.iter().filter(|target| !is_quiet(target, &named)).cloned().collect();
    lines.extend(table(&shown, paint));
    if shown.len() < targets.len() {
        lines.push(format!(
            "and {} ready that nobody has asked (pointsman target list)",
            targets.len() - shown.len()
        ));
    }
    lines.extend(remedies(&shown));
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// What is wrong where the outcome alone does not say what to do: one line an endpoint.
fn remedies(targets: &[Value]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for target in targets {
        if let Some(detail) = target.pointer("/last_error/detail").and_then(Value::as_str) {
            let line = format!("{}: {detail}", text(target, "endpoint"));
            if !told.contains(&line) {
                told.push(line);
            }
        }
    }
    told
}

/// Tells whether a target is one that no route of the file names and nobody has asked.
pub(super) fn is_quiet(target: &Value, named: &[&str]) -> bool {
    let attempts = target.pointer("/counts/attempts").and_then(Value::as_u64).unwrap_or(0);
    attempts == 0 && text(target, "state") == "ready" && !named.contains(&text(target, "id"))
}

/// One line a route: where it leads now, and why not to its first choice.
fn routes(routes: &[Value], targets: &[Value], paint: Paint) -> Vec<String> {
    let mut table = Table::new(&["ROUTE", "NOW", "WHY NOT THE FIRST CHOICE"], 2);
    for route in routes {
        let name = text(route, "name");
        let now = route.get("target").and_then(Value::as_str);
        table.row([name.to_owned(), now.unwrap_or("-").to_owned(), why_not_first(route, targets)]);
    }
    table.lines(paint)
}

/// Why a route does not lead to its first choice; nothing where it does.
pub(super) fn why_not_first(route: &Value, targets: &[Value]) -> String {
    let now = route.get("target").and_then(Value::as_str);
    let listed = list(route, "targets").first().and_then(Value::as_str);
    let pinned = route.get("pinned").and_then(Value::as_str);
    match (now, pinned.or(listed)) {
        (None, _) => "no target can be used".to_owned(),
        (Some(now), Some(first)) if now != first => {
            let target = targets.iter().find(|target| text(target, "id") == first);
            let told = target.map(reason).unwrap_or_default();
            format!(
                "{first}{} {}{}{told}",
                if pinned.is_some() { ", pinned," } else { "" },
                target.map_or("?", |t| text(t, "state")),
                if told.is_empty() { "" } else { ": " }
            )
        }
        (Some(now), _) if pinned == Some(now) && listed != pinned => format!("pinned to {now}"),
        (Some(_), _) => String::new(),
    }
}

/// One line a target.
pub(super) fn table(targets: &[Value], paint: Paint) -> Vec<String> {
    let heads = ["TARGET", "STATE", "WHY", "BREAKER", "OK", "FAILED", "MEAN", "NOW"];
    let mut table = Table::new(&heads, 2).with_state(1);
    for target in targets {
        let count =
            |name: &str| target.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or(0);
        let mean = target.pointer("/counts/average_ms").and_then(Value::as_f64).unwrap_or(0.0);
        let mean = if count("ok") == 0 { "-".to_owned() } else { format!("{mean:.0} ms") };
        let in_flight = target.get("in_flight").and_then(Value::as_u64).unwrap_or(0);
        table.row([
            text(target, "id").to_owned(),
            text(target, "state").to_owned(),
            reason(target),
            text(target, "breaker").to_owned(),
            count("ok").to_string(),
            count("failed").to_string(),
            mean,
            in_flight.to_string(),
        ]);
    }
    table.lines(paint)
}

/// Why a target is not ready and for how long, or what it failed with last.
pub(super) fn reason(target: &Value) -> String {
    let why = text(target, "reason");
    let why = if why == text(target, "state") { "" } else { why };
    let left = target.get("retry_in_s").and_then(Value::as_f64).map(|left| {
        let seconds = Duration::try_from_secs_f64(left.max(0.0)).map_or(0, |left| left.as_secs());
        format!("{} left", span(seconds))
    });
    let told: Vec<&str> =
        [Some(why), left.as_deref()].into_iter().flatten().filter(|t| !t.is_empty()).collect();
    if !told.is_empty() {
        return told.join(", ");
    }
    let last = target.get("last_error").filter(|last| last.is_object());
    last.map_or_else(String::new, |last| {
        let status = last.get("status").and_then(Value::as_u64).map(|status| format!(" {status}"));
        let at = text(last, "at").get(11..19).unwrap_or_default();
        format!("last: {}{} at {at}", text(last, "outcome"), status.unwrap_or_default())
    })
}

/// A span in at most two units.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format_duration(Duration::from_secs(seconds)),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_says_where_each_route_leads_and_why() {
        let target = |id: &str, state: &str, more: &Value| {
            let mut target = json!({"id": id, "state": state, "breaker": "closed", "in_flight": 2,
                "counts": {"attempts": 5, "ok": 3, "failed": 2, "average_ms": 310.4}});
            for (name, value) in more.as_object().unwrap() {
                target[name] = value.clone();
            }
            target
        };
        let status = json!({
            "version": "1.2.3", "generation": 7, "ready": true, "draining": false, "in_flight": 14,
            "uptime_s": 270_000,
            "routes": [
                {"name": "chat", "target": "b/k/m", "targets": ["a/k/m", "b/k/m"]},
                {"name": "code", "target": null, "targets": ["c/k/m"]},
                {"name": "held", "target": "b/k/m", "pinned": "b/k/m", "targets": ["e/k/m", "b/k/m"]},
                {"name": "kept", "target": "b/k/m", "pinned": "a/k/m", "targets": ["b/k/m", "a/k/m"]},
            ],
            "targets": [
                target("a/k/m", "cooling", &json!({"reason": "overloaded", "retry_in_s": 41.2})),
                target("b/k/m", "ready", &json!({"last_error": {"outcome": "rate_limited", "status": 429, "at": "2026-11-21T02:14:22.123Z"}})),
                target("c/k/m", "drained", &json!({"reason": "drained"})),
                target("d/k/m", "ready", &json!({"counts": {"attempts": 0}})),
            ],
        });
        let lines = page(&status, Paint::plain());
        let want = "pointsman 1.2.3  ready  generation 7  up 3d 3h  in flight 14

ROUTE  NOW    WHY NOT THE FIRST CHOICE
chat   b/k/m  a/k/m cooling: overloaded, 41s left
code   -      no target can be used
held   b/k/m  pinned to b/k/m
kept   b/k/m  a/k/m, pinned, cooling: overloaded, 41s left

TARGET  STATE    WHY                                 BREAKER  OK  FAILED  MEAN    NOW
a/k/m   cooling  overloaded, 41s left                closed   3   2       310 ms  2
b/k/m   ready    last: rate_limited 429 at 02:14:22  closed   3   2       310 ms  2
c/k/m   drained                                      closed   3   2       310 ms  2
and 1 ready that nobody has asked (pointsman target list)";
        assert_eq!(lines.join("\n"), want);
        assert!(lines.iter().all(|line| line.chars().count() <= super::super::table::WIDTH));
    }

    #[test]
    fn spans_have_at_most_two_units() {
        for (seconds, want) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3700, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(span(seconds), want);
        }
    }
}
