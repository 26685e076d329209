//! What devices say that do not pass through.
//!
//! A device that calls a provider by itself posts what it used, so that pages show the whole. A
//! report names itself by an id of its own; a second one with the same id counts nothing, so that a
//! device may repeat whatever it is not sure about. The last [`REPORTS_MAX`](super::ledger::REPORTS_MAX)
//! ids are remembered.
//!
//! Members: `id`, `device`; then `requests` (1), `failed` (0), `input_tokens`, `output_tokens`,
//! `cached_tokens`, `reasoning_tokens` (0), `cost_usd`, `at` (now), `route`, `provider`, `credential`,
//! `model`, `client` (`none`). `tokens_in`, `tokens_out` and `caller` are taken for `input_tokens`,
//! `output_tokens` and `client`. What else stands in it is passed over. Faults are told all at once,
//! by name, never with the value.

use super::{Count, nanos};
use crate::base::time::WallTime;
use crate::observe::metrics::NONE;
use chrono::DateTime;
use serde_json::{Map, Value};

/// Reports that may come together.
pub const TOGETHER_MAX: usize = 100;

/// Largest count of a report: far above any day of any device, and sums of it stay far from the end.
const COUNT_MAX: u64 = 1_000_000_000_000;

/// Highest cost of a report in US dollars.
const USD_MAX: f64 = 1_000_000.0;

/// Signs in names, beside letters and digits.
const PLAIN: &str = "._-";

/// Signs in the names of models and routes.
const OF_MODELS: &str = "._:/@+-";

/// What one device says.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its own id: 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
    /// When it was used.
    pub at: WallTime,
    /// The device.
    pub device: String,
    /// What it calls a route; `none` where it says nothing, as with the names below.
    pub route: String,
    /// The provider.
    pub provider: String,
    /// The credential.
    pub credential: String,
    /// The model.
    pub model: String,
    /// Who used it.
    pub client: String,
    /// What was used; without its cost.
    pub count: Count,
    /// What it cost in billionths of a dollar, where the device knows.
    pub cost_nanos: Option<u64>,
}

/// Reads one report, or a list of them as it is or under `reports`.
///
/// # Errors
/// Every fault, with the number of the report and the member.
pub fn read(body: &[u8], now: WallTime) -> Result<Vec<Report>, Vec<String>> {
    let body: Value = serde_json::from_slice(body).map_err(|_| vec!["the body is not JSON".to_owned()])?;
    let list = match body {
        Value::Object(mut one) => match one.remove("reports") {
            Some(Value::Array(list)) => list,
            Some(_) => return Err(vec!["reports must be a list".to_owned()]),
            None => vec![Value::Object(one)],
        },
        Value::Array(list) => list,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    if list.is_empty() || list.len() > TOGETHER_MAX {
        return Err(vec![format!("a report or a list of 1 to {TOGETHER_MAX} is wanted")]);
    }
    let mut faults = Vec::new();
    let mut reports = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let Some(members) = value.as_object() else {
            faults.push(format!("reports[{at}] must be an object"));
            continue;
        };
        let mut reading = Reading { at, members, faults: &mut faults };
        reports.push(reading.report(now));
    }
    if faults.is_empty() { Ok(reports) } else { Err(faults) }
}

fn none() -> String {
    NONE.to_owned()
}

struct Reading<'a> {
    at: usize,
    members: &'a Map<String, Value>,
    faults: &'a mut Vec<String>,
}

impl Reading<'_> {
    fn report(&mut self, now: WallTime) -> Report {
        let count = Count {
            requests: self.number(&["requests"], 1),
            failed: self.number(&["failed"], 0),
            client_gone: 0,
            unpriced: 0,
            input_tokens: self.number(&["input_tokens", "tokens_in"], 0),
            output_tokens: self.number(&["output_tokens", "tokens_out"], 0),
            cached_tokens: self.number(&["cached_tokens"], 0),
            reasoning_tokens: self.number(&["reasoning_tokens"], 0),
            cost_nanos: 0,
        };
        if count.failed > count.requests {
            self.fault("failed", "is more than requests");
        }
        Report {
            id: self.name(&["id"], PLAIN, 128).unwrap_or_else(|| self.missing("id")),
            at: self.time(now),
            device: self.name(&["device"], PLAIN, 64).unwrap_or_else(|| self.missing("device")),
            route: self.name(&["route"], OF_MODELS, 256).unwrap_or_else(none),
            provider: self.name(&["provider"], PLAIN, 64).unwrap_or_else(none),
            credential: self.name(&["credential"], PLAIN, 64).unwrap_or_else(none),
            model: self.name(&["model"], OF_MODELS, 256).unwrap_or_else(none),
            client: self.name(&["client", "caller"], PLAIN, 64).unwrap_or_else(none),
            count,
            cost_nanos: self.cost(),
        }
    }

    fn fault(&mut self, name: &str, why: &str) {
        self.faults.push(format!("reports[{}].{name} {why}", self.at));
    }

    /// Finds a member by the first of its names that is there.
    fn find(&self, names: &[&'static str]) -> (&'static str, Option<&Value>) {
        let value = |name: &str| self.members.get(name).filter(|value| !value.is_null());
        let first = names.first().copied().unwrap_or_default();
        names.iter().find_map(|name| Some((*name, Some(value(name)?)))).unwrap_or((first, None))
    }

    fn number(&mut self, names: &[&'static str], default: u64) -> u64 {
        let (name, value) = self.find(names);
        let read = value.map_or(Some(default), |value| value.as_u64().filter(|count| *count <= COUNT_MAX));
        read.unwrap_or_else(|| {
            self.fault(name, "must be a whole number between 0 and 10^12");
            default
        })
    }

    /// Reads a name of so many of letters, digits and `signs`; an empty one where it is malformed.
    fn name(&mut self, names: &[&'static str], signs: &str, max: usize) -> Option<String> {
        let (name, value) = self.find(names);
        let is_sound = |text: &&str| {
            !text.is_empty()
                && text.len() <= max
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || signs.as_bytes().contains(&b))
        };
        let sound = value?.as_str().filter(is_sound).map(str::to_owned);
        if sound.is_none() {
            self.fault(name, &format!("must be text of 1 to {max} letters, digits and {signs}"));
        }
        Some(sound.unwrap_or_default())
    }

    fn missing(&mut self, name: &str) -> String {
        self.fault(name, "is missing");
        String::new()
    }

    fn time(&mut self, now: WallTime) -> WallTime {
        let (name, value) = self.find(&["at"]);
        let Some(value) = value else { return now };
        let read = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        read.map_or_else(
            || {
                self.fault(name, "must be a time in RFC 3339, such as 2026-11-21T02:14:22Z");
                now
            },
            |at| WallTime(at.timestamp_millis()),
        )
    }

    fn cost(&mut self) -> Option<u64> {
        let (name, value) = self.find(&["cost_usd", "cost"]);
        let usd = value?.as_f64().filter(|usd| (0.0..=USD_MAX).contains(usd));
        if usd.is_none() {
            self.fault(name, "must be a number between 0 and a million");
        }
        usd.map(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_795_227_262_000);

    #[test]
    fn what_is_wrong_is_told_all_at_once_and_without_the_value() {
        for (body, want) in [
            ("{", &["the body is not JSON"][..]),
            ("5", &["a report or a list of 1 to 100 is wanted"]),
            ("[]", &["a report or a list of 1 to 100 is wanted"]),
            (r#"{"reports":{}}"#, &["reports must be a list"]),
            ("[5]", &["reports[0] must be an object"]),
            ("{}", &["reports[0].id is missing", "reports[0].device is missing"]),
            (
                r#"[{"id":"a","device":"d"},{"id":"b c","device":7,"requests":-1,"tokens_in":1.5,"cost_usd":"1","at":"today","failed":2}]"#,
                &[
                    "reports[1].requests must be a whole number between 0 and 10^12",
                    "reports[1].tokens_in must be a whole number between 0 and 10^12",
                    "reports[1].failed is more than requests",
                    "reports[1].id must be text of 1 to 128 letters, digits and ._-",
                    "reports[1].at must be a time in RFC 3339, such as 2026-11-21T02:14:22Z",
                    "reports[1].device must be text of 1 to 64 letters, digits and ._-",
                    "reports[1].cost_usd must be a number between 0 and a million",
                ],
            ),
        ] {
            assert_eq!(read(body.as_bytes(), NOW).unwrap_err(), want, "{body}");
        }
    }

    #[test]
    fn both_spellings_are_taken_and_what_is_left_out_has_a_default() {
        let body = r#"{"id":"r-1","device":"phone","caller":"ann","provider":"openai","model":"gpt-4o","requests":3,
            "tokens_in":10,"tokens_out":4,"tokens_compressed":99,"cost":0.5,"at":"2026-11-21T03:14:22+01:00"}"#;
        let count = Count { requests: 3, input_tokens: 10, output_tokens: 4, ..Count::default() };
        let text = str::to_owned;
        let want = Report {
            id: text("r-1"),
            at: NOW,
            device: text("phone"),
            route: text("none"),
            provider: text("openai"),
            credential: text("none"),
            model: text("gpt-4o"),
            client: text("ann"),
            count,
            cost_nanos: Some(500_000_000),
        };
        assert_eq!(read(body.as_bytes(), NOW).unwrap(), [want]);
        let least = read(br#"{"reports":[{"id":"r","device":"d"}]}"#, NOW).unwrap();
        assert_eq!((least[0].count.requests, least[0].cost_nanos, least[0].at), (1, None, NOW));
    }
}
