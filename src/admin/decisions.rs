//! `/v1/decisions`, `/v1/decisions/{request_id}` and `POST /v1/explain`: why it went where it went,
//! and where it would go now.
//!
//! Read only, the explanation too: it asks by `POST` because a request's body is part of the question,
//! and nothing moves by it. What is asked wrongly is told with what can be asked; nothing that a
//! question holds is repeated but names.

use super::answer::{Answer, problem};
use super::house::House;
use super::view::TargetView;
use crate::base::outcome::Outcome;
use crate::base::percent;
use crate::base::time::WallTime;
use crate::base::units::parse_duration;
use crate::observe::decisions::question::{Question, Unexplained};
use crate::observe::decisions::{Filter, LIMIT_MAX};
use crate::observe::rfc3339;
use serde_json::Value;
use std::time::Duration;

/// Longest body of a question: the first request of the large coding tools is 76 KB.
pub(super) const QUESTION_BYTES_MAX: usize = 1024 * 1024;

/// Decisions in an answer where no limit is named.
const LIMIT: usize = 100;

/// Why no address could be used, in a line of `why`.
const INSIDE: &str = "resolves to inner addresses only: deny_private_ips";

/// How often and how long a decision is waited for that is not there: who has just got an answer may ask
/// before its last word is written down.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(10);

/// Answers why a request went where it went.
pub(super) async fn one(house: &impl House, id: &str) -> Answer {
    for _ in 0..LOOKS {
        if let Some(mut decision) = house.decisions().find(id) {
            say_more(house, &mut decision);
            return Answer::json(&decision);
        }
        tokio::time::sleep(LOOK).await;
    }
    let decisions = house.decisions();
    let id: String = id.chars().filter(|c| !c.is_control()).take(128).collect();
    let kept = match decisions.oldest() {
        Some(oldest) => format!("the last {} are, since {}", decisions.len(), rfc3339(oldest)),
        None => "none is yet".to_owned(),
    };
    problem(404, &format!("no decision of request \"{id}\" is kept ({kept}); the log has one line a request"))
}

/// Says what is known of a candidate's fault beside its word: a name that stands for inner addresses.
fn say_more(house: &impl House, decision: &mut Value) {
    let candidates = decision.get_mut("candidates").and_then(Value::as_array_mut);
    let of_dns = |candidate: &&mut Value| candidate["reason"] == Outcome::Dns.as_label();
    for candidate in candidates.into_iter().flatten().filter(of_dns) {
        let is_it = |target: &TargetView| candidate["target"] == target.id.as_str();
        let fault = house.targets().into_iter().find(is_it).and_then(|target| target.last_error);
        if fault.is_some_and(|fault| fault.detail.is_some()) {
            candidate["detail"] = INSIDE.into();
        }
    }
}

/// Lists decisions, newest first.
pub(super) fn list(house: &impl House, query: Option<&str>) -> Answer {
    match filter(query.unwrap_or_default(), house.wall()) {
        Ok(filter) => Answer::json(&house.decisions().list(&filter)),
        Err(why) => problem(400, &why),
    }
}

/// Answers where a request would go.
pub(super) fn explain(house: &impl House, body: &[u8]) -> Answer {
    let question: Question = match serde_json::from_slice(body) {
        Ok(question) => question,
        Err(fault) => return problem(400, &unread(&fault)),
    };
    match house.explain(&question) {
        Ok(explained) => Answer::json(&explained),
        Err(Unexplained::Invalid(why)) => problem(400, &why),
        Err(Unexplained::Forbidden(why)) => problem(403, &why),
        Err(Unexplained::UnknownModel(why)) => problem(404, &why),
    }
}

/// Says why a question cannot be read. A fault's own words may repeat a value, which may be a key or
/// a prompt, so only those about members are passed on, and of others the place.
fn unread(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    let is_about_a_member =
        ["unknown field", "missing field", "duplicate field"].iter().any(|w| text.starts_with(w));
    if is_about_a_member {
        // `unknown field `x`, expected one of …`: the name is short or cut.
        return format!(
            "explain: {}",
            text.chars().filter(|c| !c.is_control()).take(200).collect::<String>()
        );
    }
    format!(
        "explain: the body is no question at line {}, column {}; it takes {{\"model\", \"dialect\", \"client\", \"headers\": {{name: text}}, \"body\"}}",
        fault.line(),
        fault.column()
    )
}

fn filter(query: &str, now: WallTime) -> Result<Filter, String> {
    let mut filter = Filter { limit: LIMIT, ..Filter::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value =
            percent::decode_utf8(value).ok_or_else(|| "the query has a malformed escape".to_owned())?;
        match name {
            "since" => filter.since = Some(since(&value, now)?),
            "target" => filter.target = Some(value.into_owned()).filter(|id| !id.is_empty()),
            "outcome" if value.is_empty() => filter.outcome = None,
            "outcome" => filter.outcome = Some(Filter::outcome(&value).map_err(|fault| fault.to_string())?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                filter.limit =
                    limit.ok_or_else(|| format!("limit must be a number from 1 to {LIMIT_MAX}"))?;
            }
            _ => return Err("decisions can be asked for by since, target, outcome and limit".to_owned()),
        }
    }
    Ok(filter)
}

/// Reads a date, or how long ago.
fn since(text: &str, now: WallTime) -> Result<WallTime, String> {
    if let Ok(span) = parse_duration(text) {
        let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        return Ok(WallTime(now.0.saturating_sub(ms)));
    }
    let date = chrono::DateTime::parse_from_rfc3339(text);
    date.map(|date| WallTime(date.timestamp_millis()))
        .map_err(|_| "since must be a span such as 5m, or a date such as 2026-11-21T02:14:22Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly_and_told_what_it_can_be() {
        let now = WallTime(1_795_227_262_123);
        let since = |text: &str| filter(&format!("since={text}"), now).map(|f| f.since.unwrap().0);
        assert_eq!(since("5m"), Ok(now.0 - 300_000));
        assert_eq!(since("2026-11-21T02:14:22.123Z"), Ok(now.0));
        assert_eq!(since("2026-11-21T03:14:22.123%2B01:00"), Ok(now.0));
        assert_eq!(since("2026-11-21T03:14:22.123+01:00"), Ok(now.0), "a plus is a plus");
        for (query, word) in [
            ("since=yesterday", "since must be"),
            ("since=", "since must be"),
            ("since=%zz", "malformed escape"),
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("limit=-1", "from 1 to 1000"),
            ("outcome=broken", "rate_limited"),
            ("status=200", "since, target, outcome and limit"),
        ] {
            let told = filter(query, now).unwrap_err();
            assert!(told.contains(word), "{query}: {told}");
        }
        let all = filter("target=a%2Fk%2Fllama3%3A8b&outcome=client_gone&limit=7&", now).unwrap();
        assert_eq!(all.target.as_deref(), Some("a/k/llama3:8b"));
        assert_eq!((all.outcome.as_deref(), all.limit), (Some("client_gone"), 7));
    }

    #[test]
    fn a_question_that_cannot_be_read_is_not_repeated() {
        for (body, word) in [
            ("", "line 1"),
            ("[\"sk-secret\"]", "it takes"),
            ("{\"model\": [\"sk-secret\"]}", "it takes"),
            ("{\"modell\": \"x\"}", "unknown field `modell`"),
            ("{\"headers\": {\"x\": 1}}", "it takes"),
        ] {
            let fault = serde_json::from_slice::<Question>(body.as_bytes()).unwrap_err();
            let told = unread(&fault);
            assert!(told.contains(word) && !told.contains("secret"), "{body}: {told}");
        }
    }
}
