//! `pointsman events`: one line for each event of `/v1/events`.
//!
//! A pure function from the event's JSON to text, so that what follows a stream and what prints a page
//! look the same. A kind that this program does not know (a newer server's) is printed with its
//! fields as they came. What comes from the server is data: control characters never reach a
//! terminal.

use serde_json::Value;
use std::fmt::Write as _;

/// Writes an event as one line without a line break: time of day in UTC, kind, what happened.
#[must_use]
pub fn event_line(event: &Value) -> String {
    let kind = text(event, "event");
    let told = match kind {
        "started" => {
            format!("generation {}  version {}", number(event, "generation"), text(event, "version"))
        }
        "stopping" => format!("{} under way", number(event, "under_way")),
        "target_state" => target_state(event),
        "failover" => format!(
            "{}  {} -> {}  {}{}",
            route(event),
            text(event, "from"),
            text(event, "to"),
            text(event, "reason"),
            crowd(event)
        ),
        "rescue" => format!("{}  {}{}", route(event), text(event, "result"), crowd(event)),
        "reload" => reload(event),
        "reload_failed" => {
            let faults = counted(number(event, "faults"), "fault");
            format!("generation {} stays  {faults}  {}", number(event, "generation"), text(event, "fault"))
        }
        "operator" => operator(event),
        "credential_refreshed" => text(event, "credential").to_owned(),
        "credential_failed" => {
            let old = if event["has_old"] == true { "  (the old one still serves)" } else { "" };
            format!("{}  {}{old}", text(event, "credential"), text(event, "reason"))
        }
        "audit_failed" => text(event, "reason").to_owned(),
        "audit_resumed" => format!("{} dropped so far", counted(number(event, "dropped"), "line")),
        "lost" => format!("{} missed: too slow", counted(number(event, "lost"), "event")),
        _ => fields(event),
    };
    let at = text(event, "at");
    let time = at.get(11..23).unwrap_or("--:--:--.---");
    clean(format!("{time}  {kind:<20}  {told}").trim_end())
}

fn target_state(event: &Value) -> String {
    let (from, to, reason) = (text(event, "from"), text(event, "to"), text(event, "reason"));
    let mut line = format!("{}  {from} -> {to}  {reason}", text(event, "target"));
    let scope = text(event, "scope");
    if !scope.is_empty() && scope != "target" {
        // Writing into a string does not fail; here and below.
        let _ = write!(line, " ({scope})");
    }
    if let Some(until) = event["until"].as_str() {
        let _ = write!(line, "  until {}", until.get(11..19).unwrap_or(until));
    }
    if let Some(next) = event["next"].as_str() {
        let _ = write!(line, "  next {next}");
    }
    line
}

fn reload(event: &Value) -> String {
    let mut line = format!("generation {}", number(event, "generation"));
    let warnings = number(event, "warnings");
    if warnings > 0 {
        let _ = write!(line, "  {}", counted(warnings, "warning"));
    }
    for change in event["needs_restart"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = write!(line, "  {change}");
    }
    line
}

fn operator(event: &Value) -> String {
    let mut line = format!("{} {}", text(event, "verb"), text(event, "target"));
    let routes: Vec<&str> =
        event["routes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !routes.is_empty() {
        let _ = write!(line, "  on {}", routes.join(", "));
    }
    if let Some(until) = event["until"].as_str() {
        let _ = write!(line, "  until {until}");
    }
    line
}

/// The request, and how many more did the same.
fn crowd(event: &Value) -> String {
    let more = match number(event, "requests") {
        0 | 1 => String::new(),
        requests => format!("  x{requests}"),
    };
    format!("  request {}{more}", text(event, "request_id"))
}

fn route(event: &Value) -> &str {
    event["route"].as_str().unwrap_or("(no route)")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(event: &Value, name: &str) -> u64 {
    event.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// The fields of an event of an unknown kind.
fn fields(event: &Value) -> String {
    let known = ["id", "at", "event"];
    let fields = event.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str()));
    let words: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", value.as_str().map_or(value.to_string(), str::to_owned)))
        .collect();
    words.join(" ")
}

fn clean(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_kind_is_one_line_of_its_own() {
        let at = "2026-11-21T02:14:22.123Z";
        for (event, want) in [
            (
                json!({"event": "target_state", "target": "a/k/m", "scope": "credential", "from": "ready",
                       "to": "cooling", "reason": "quota", "until": "2026-11-21T03:00:00.000Z", "next": "b/k/m"}),
                "target_state          a/k/m  ready -> cooling  quota (credential)  until 03:00:00  next b/k/m",
            ),
            (
                json!({"event": "failover", "route": null, "from": "a/k/m", "to": "b/k/m", "reason": "reset",
                       "request_id": "r1", "requests": 37}),
                "failover              (no route)  a/k/m -> b/k/m  reset  request r1  x37",
            ),
            (
                json!({"event": "rescue", "route": "chat", "result": "rescued", "request_id": "r1", "requests": 1}),
                "rescue                chat  rescued  request r1",
            ),
            (
                json!({"event": "reload", "generation": 3, "warnings": 2, "needs_restart": ["listen: restart needed"]}),
                "reload                generation 3  2 warnings  listen: restart needed",
            ),
            (
                json!({"event": "operator", "verb": "pin", "target": "a/k/m", "routes": ["chat", "code"], "until": at}),
                "operator              pin a/k/m  on chat, code  until 2026-11-21T02:14:22.123Z",
            ),
            (
                json!({"event": "credential_failed", "credential": "a/k", "reason": "refused", "has_old": true}),
                "credential_failed     a/k  refused  (the old one still serves)",
            ),
            (json!({"event": "credential_refreshed", "credential": "a/k"}), "credential_refreshed  a/k"),
            (
                json!({"event": "audit_failed", "reason": "/x cannot be written"}),
                "audit_failed          /x cannot be written",
            ),
            (json!({"event": "audit_resumed", "dropped": 1}), "audit_resumed         1 line dropped so far"),
            (json!({"event": "lost", "lost": 7}), "lost                  7 events missed: too slow"),
            (json!({"event": "moon", "phase": "full", "day": 14}), "moon                  phase=full day=14"),
        ] {
            let mut event = event;
            event["at"] = at.into();
            event["id"] = "1-1".into();
            assert_eq!(event_line(&event), format!("02:14:22.123  {want}"));
        }
    }

    #[test]
    fn what_is_no_event_is_a_line_all_the_same_and_no_control_character_gets_through() {
        for (event, want) in [
            (json!(null), "--:--:--.---"),
            (json!({"at": "x", "event": 5}), "--:--:--.---"),
            (
                json!({"event": "operator", "verb": "\u{1b}[2J", "target": "a\nb"}),
                "--:--:--.---  operator               [2J a b",
            ),
        ] {
            assert_eq!(event_line(&event), want);
        }
    }
}
