//! What was used, by whom, and by which credential?
//!
//! `GET /v1/usage?by=day,route&since=7d`: the ledger's rows added up. `by` is any of `day route model
//! provider credential target client device source`, several with commas; without it there is one
//! sum. `since` is a span back from now, a time in RFC 3339 or a date; without it, today. Whole days
//! are counted, so the answer's `since` is the start of the day on which yours falls.
//!
//! `GET /v1/accounts`: every credential, how it stands, what it was used for today and what its
//! provider last said is left of its rate limits. Names only; no part of a key is shown.
//!
//! A cost is `null` where none of it is known; `unpriced_requests` above 0 says that a sum is a lower
//! bound.

use super::steward::state_of;
use crate::base::percent;
use crate::base::time::{Now, WallTime};
use crate::base::units::parse_duration;
use crate::config::credential::Login;
use crate::config::plan::{Credential, Plan};
use crate::health::Resting;
use crate::live::{House, Live, Slot};
use crate::observe::rfc3339;
use crate::observe::usage::ledger::{Sum, Sums};
use crate::observe::usage::report::{self, Report};
use crate::observe::usage::{self, Count, Dimension};
use chrono::DateTime;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Reads the query and adds up.
pub(super) fn usage(house: &House, query: Option<&str>) -> Result<Value, String> {
    let now = house.clock.wall();
    let asked = Asked::read(query.unwrap_or_default(), now)?;
    let since = match asked.since {
        Since::Today => None,
        Since::Moment(at) => Some(at),
        Since::Date(date) => Some(house.usage.start_of(date)),
    };
    let sums = house.usage.sums(&asked.by, since, now);
    Ok(told(&asked.by, &sums, &house.usage.time_zone(), now))
}

/// What a query asks.
#[derive(Debug, PartialEq)]
struct Asked {
    by: Vec<Dimension>,
    since: Since,
}

#[derive(Debug, PartialEq)]
enum Since {
    Today,
    Moment(WallTime),
    Date(usage::days::Day),
}

impl Asked {
    fn read(query: &str, now: WallTime) -> Result<Asked, String> {
        let mut asked = Asked { by: Vec::new(), since: Since::Today };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent::decode_utf8(value).ok_or("the query has a malformed escape")?;
            match name {
                "by" => asked.by = read_by(&value)?,
                "since" => asked.since = read_since(&value, now)?,
                _ => return Err("the query may hold by and since".to_owned()),
            }
        }
        Ok(asked)
    }
}

fn read_by(value: &str) -> Result<Vec<Dimension>, String> {
    let mut by = Vec::new();
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let Some(dimension) = Dimension::from_label(word) else {
            let words: Vec<&str> = Dimension::ALL.into_iter().map(Dimension::as_label).collect();
            return Err(format!("by is one or more of {}, separated by commas", words.join(", ")));
        };
        if !by.contains(&dimension) {
            by.push(dimension);
        }
    }
    Ok(by)
}

fn read_since(value: &str, now: WallTime) -> Result<Since, String> {
    if value == "today" {
        return Ok(Since::Today);
    }
    if let Some(day) = usage::days::Day::parse(value) {
        return Ok(Since::Date(day));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(value) {
        return Ok(Since::Moment(WallTime(at.timestamp_millis())));
    }
    let span = parse_duration(value).map_err(|_| {
        "since is a span such as 7d or 12h, a date, or a time such as 2026-11-21T02:14:22Z".to_owned()
    })?;
    let back = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Ok(Since::Moment(WallTime(now.0.saturating_sub(back))))
}

fn told(by: &[Dimension], sums: &Sums, time_zone: &str, now: WallTime) -> Value {
    let rows = sums.groups.iter().map(|(names, sum)| {
        let mut row: Map<String, Value> =
            by.iter().zip(names).map(|(along, name)| (along.as_label().to_owned(), json!(**name))).collect();
        row.extend(numbers(sum));
        Value::Object(row)
    });
    json!({
        "by": by.iter().map(|along| along.as_label()).collect::<Vec<_>>(),
        "time_zone": time_zone,
        "since": rfc3339(sums.since),
        "until": rfc3339(now),
        "rows": rows.collect::<Vec<_>>(),
        "total": Value::Object(numbers(&sums.total)),
    })
}

fn numbers(sum: &Sum) -> Map<String, Value> {
    let Sum { count, reported, last_seen } = sum;
    let mut numbers = Map::new();
    for (name, number) in [
        ("requests", count.requests),
        ("failed_requests", count.failed),
        ("client_gone_requests", count.client_gone),
        ("reported_requests", *reported),
        ("input_tokens", count.input_tokens),
        ("output_tokens", count.output_tokens),
        ("cached_tokens", count.cached_tokens),
        ("reasoning_tokens", count.reasoning_tokens),
    ] {
        numbers.insert(name.to_owned(), json!(number));
    }
    numbers.insert("cost_usd".to_owned(), json!(count.cost_usd()));
    numbers.insert("unpriced_requests".to_owned(), json!(count.unpriced));
    numbers.insert("last_seen".to_owned(), json!(last_seen.map(rfc3339)));
    numbers
}

/// Takes reports, all or none.
pub(super) fn report(house: &House, body: &[u8]) -> Result<Value, Vec<String>> {
    let now = house.clock.wall();
    let reports = report::read(body, now)?;
    let faults: Vec<String> = reports
        .iter()
        .enumerate()
        .filter(|(_, report)| !house.usage.keeps(report.at, now))
        .map(|(at, _)| format!("reports[{at}].at is not on one of the days that are kept"))
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let live = house.live();
    let mut accepted = 0;
    for report in &reports {
        accepted += u32::from(house.usage.report(report, &counted(&live.plan, report)));
    }
    let repeated = reports.len().saturating_sub(accepted as usize);
    Ok(json!({ "accepted": accepted, "repeated": repeated }))
}

/// The numbers of a report, with its cost: the device's word, else our prices.
fn counted(plan: &Plan, report: &Report) -> Count {
    let count = report.count;
    let cost = report.cost_nanos.or_else(|| {
        let provider = plan.providers.iter().find(|provider| *provider.name == *report.provider)?;
        let model = provider.models.get(&*report.model)?;
        usage::cost(model, Some(count.input_tokens), Some(count.output_tokens))
    });
    let unpriced = if cost.is_some() { 0 } else { count.requests - count.failed.min(count.requests) };
    Count { cost_nanos: cost.unwrap_or(0), unpriced, ..count }
}

/// Tells every credential.
pub(super) fn accounts(house: &House) -> Value {
    let live = house.live();
    let now = house.clock.now();
    let today = house.usage.sums(&[Dimension::Credential], None, now.wall);
    let accounts = live.plan.credentials.iter().zip(&live.keyrings).map(|(credential, keyring)| {
        let provider = live.plan.provider(credential.provider);
        let id = format!("{}/{}", provider.name, credential.name);
        let reading = keyring.unit().read(now.tick, &live.policy);
        let until = reading.resting.and_then(Resting::until);
        let slots: Vec<&Arc<Slot>> = of_credential(&live, credential);
        let usable = slots.iter().filter(|slot| slot.health.look(now.tick, &live.policy).is_ok()).count();
        let used = today.groups.iter().find(|(names, _)| names.first().is_some_and(|name| **name == *id));
        json!({
            "id": id,
            "provider": &*provider.name,
            "credential": &*credential.name,
            "kind": provider.kind.as_label(),
            "login": login(credential),
            "state": state_of(reading.resting, reading.breaker),
            "reason": reading.resting.map(|resting| resting.reason().map_or(resting.as_label(), |why| why.as_label())),
            "until": until.map(|until| rfc3339(now.wall_of(until))),
            "retry_in_s": until.map(|until| until.left(now.tick).as_secs_f64()),
            "targets": slots.len(),
            "usable_targets": usable,
            "today": Value::Object(numbers(&used.map(|(_, sum)| *sum).unwrap_or_default())),
            "rate_limits": rate_limits(&slots, now),
        })
    });
    json!({ "time_zone": house.usage.time_zone(), "accounts": accounts.collect::<Vec<_>>() })
}

fn of_credential<'a>(live: &'a Live, credential: &Credential) -> Vec<&'a Arc<Slot>> {
    let is_own = |slot: &&Arc<Slot>| {
        slot.target.provider == credential.provider
            && live
                .plan
                .credentials
                .get(slot.target.credential.at())
                .is_some_and(|own| own.name == credential.name)
    };
    live.slots.iter().filter(is_own).collect()
}

/// What sort of proof it is; nothing where the provider wants none.
fn login(credential: &Credential) -> Option<&'static str> {
    let key = credential.key.as_ref().map(|_| "key");
    credential.login.as_ref().map(Login::as_label).or(key)
}

/// What is left of rate limits, as each target was told last. Providers count by key and model, so
/// there is no one number for a credential.
fn rate_limits(slots: &[&Arc<Slot>], now: Now) -> Vec<Value> {
    let told = slots.iter().filter_map(|slot| Some((slot, slot.tally.read().limits?)));
    told.map(|(slot, (at, left))| {
        json!({
            "target": slot.target.id.as_str(),
            "requests": left.requests,
            "tokens": left.tokens,
            "input_tokens": left.input_tokens,
            "output_tokens": left.output_tokens,
            "at": rfc3339(at),
            "age_s": now.wall.0.saturating_sub(at.0).max(0) / 1000,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_795_227_262_000);

    #[test]
    fn a_query_is_read_strictly() {
        let asked = |by: &[Dimension], since| Asked { by: by.to_vec(), since };
        let day = usage::days::Day::parse("2026-11-01").unwrap();
        for (query, want) in [
            ("", Ok(asked(&[], Since::Today))),
            ("by=", Ok(asked(&[], Since::Today))),
            (
                "by=day,route&since=7d",
                Ok(asked(
                    &[Dimension::Day, Dimension::Route],
                    Since::Moment(WallTime(NOW.0 - 7 * 86_400_000)),
                )),
            ),
            ("by=route%2Cday,route", Ok(asked(&[Dimension::Route, Dimension::Day], Since::Today))),
            ("since=2026-11-01", Ok(asked(&[], Since::Date(day)))),
            ("since=2026-11-21T03:14:22%2B01:00", Ok(asked(&[], Since::Moment(NOW)))),
            ("since=2026-11-21T03:14:22+01:00", Ok(asked(&[], Since::Moment(NOW)))),
            ("since=today&", Ok(asked(&[], Since::Today))),
            ("since=week", Err("since is a span")),
            ("since=7", Err("since is a span")),
            ("since", Err("since is a span")),
            ("by=routes", Err("by is one or more of day, route")),
            ("by=%zz", Err("malformed escape")),
            ("form=json", Err("the query may hold by and since")),
        ] {
            match (Asked::read(query, NOW), want) {
                (Err(why), Err(want)) => assert!(why.contains(want), "{query}: {why}"),
                (got, want) => assert_eq!(got, want.map_err(str::to_owned), "{query}"),
            }
        }
    }
}
