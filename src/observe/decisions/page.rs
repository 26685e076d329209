//! A decision as JSON, and which of them were asked for.
//!
//! The shape is contract section 4's: an explanation and a decision differ only in what has happened.
//! Fields are added to, never renamed. Times of attempts are whole milliseconds: `started_ms` from
//! the end of the request's body, `ttfc_ms` and `dur_ms` from the attempt's own beginning.

use super::reason::{self, State, verdict};
use super::{Decision, Decisions, Seat};
use crate::base::outcome::Outcome;
use crate::base::time::{Tick, WallTime};
use crate::exchange::Record;
use crate::observe::rfc3339;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Most decisions in one answer.
pub const LIMIT_MAX: usize = 1000;

/// What one word cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outcome: \"{0}\" is none of {known}", known = known_outcomes())]
pub struct UnknownFilter(pub String);

/// Which decisions are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that ended then or later.
    pub since: Option<WallTime>,
    /// Those in which this target was tried, chosen or skipped.
    pub target: Option<String>,
    /// Those with an attempt (at the target, where one is named) that came to this, or that ended so.
    pub outcome: Option<String>,
    /// At most this many.
    pub limit: usize,
}

impl Filter {
    /// Checks a word for `outcome`.
    ///
    /// # Errors
    /// With the words there are.
    pub fn outcome(word: &str) -> Result<String, UnknownFilter> {
        if words().any(|known| known == word) {
            Ok(word.to_owned())
        } else {
            Err(UnknownFilter(word.chars().filter(|c| !c.is_control()).take(64).collect()))
        }
    }

    fn fits(&self, decision: &Decision) -> bool {
        let is_meant = |seat: &&Seat| self.target.as_deref().is_none_or(|id| seat.target.as_str() == id);
        let has_target = self.target.is_none()
            || decision
                .seats
                .iter()
                .filter(is_meant)
                .any(|s| verdict(decision, s).state != State::NotReached);
        let ended = decision.ended.map(super::Ended::as_label);
        let has_outcome = self.outcome.as_deref().is_none_or(|word| {
            let came_to_it = decision.records.iter().any(|record| {
                reason::outcome(record) == word
                    && decision.seat_of(record).is_some_and(|seat| is_meant(&seat))
            });
            came_to_it || (self.target.is_none() && ended == Some(word))
        });
        has_target && has_outcome
    }
}

fn words() -> impl Iterator<Item = &'static str> {
    let ends = super::Ended::ALL.map(super::Ended::as_label);
    Outcome::ALL.map(Outcome::as_label).into_iter().chain(["called_off"]).chain(ends)
}

fn known_outcomes() -> String {
    let mut all: Vec<_> = words().collect();
    all.dedup();
    all.join(", ")
}

impl Decisions {
    /// Returns the newest decision of a request, as JSON.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Value> {
        let is_it = |entry: &std::sync::Arc<super::Entry>| entry.decision.id.as_deref() == Some(id);
        self.newest_first().find(is_it).map(|entry| entry.decision.page())
    }

    /// Returns when the oldest decision that is kept ended.
    #[must_use]
    pub fn oldest(&self) -> Option<WallTime> {
        self.newest_first().last().map(|entry| entry.decision.now.wall)
    }

    /// Returns the decisions that are asked for as JSON, newest first, with how many are kept.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Value {
        let mut found = Vec::new();
        let mut left_off = false;
        for entry in self.newest_first() {
            let decision = &entry.decision;
            // Two that end together may stand in either order; a second's grace finds both.
            if filter.since.is_some_and(|since| decision.now.wall.0 < since.0.saturating_sub(1000)) {
                break;
            }
            if filter.since.is_some_and(|since| decision.now.wall < since) || !filter.fits(decision) {
                continue;
            }
            if found.len() >= filter.limit.min(LIMIT_MAX) {
                left_off = true;
                break;
            }
            found.push(decision.page());
        }
        json!({
            "decisions": found,
            "left_off": left_off,
            "kept": self.len(),
            "kept_since": self.oldest().map(rfc3339),
        })
    }
}

impl Decision {
    /// Returns the decision as JSON.
    #[must_use]
    pub fn page(&self) -> Value {
        let mut page = Map::new();
        let mut put = |name: &str, value: Value| page.insert(name.to_owned(), value);
        if let Some(id) = &self.id {
            put("request_id", json!(id));
        }
        put("at", json!(rfc3339(self.now.wall)));
        put("generation", json!(self.generation));
        put("route", json!(self.route.as_deref()));
        put("client", json!(self.client.as_deref()));
        put("dialect", json!(self.dialect.map(crate::base::api::Dialect::as_label)));
        put("model", json!(self.model));
        put("stream", json!(self.is_stream));
        put("candidates", self.seats.iter().map(|seat| self.candidate(seat)).collect());
        put("attempts", (0..).zip(&self.records).map(|(at, record)| self.attempt(at, record)).collect());
        if let Some(ended) = self.ended {
            put("ended", json!(ended.as_label()));
            put("dur_ms", json!(millis(self.took)));
        }
        if let Some(code) = self.code {
            put("error", json!(code.as_label()));
        }
        if let Some(status) = self.status {
            put("status", json!(status));
        }
        Value::Object(page)
    }

    fn candidate(&self, seat: &Seat) -> Value {
        let verdict = verdict(self, seat);
        let mut page = json!({
            "target": seat.target.as_str(),
            "priority": seat.priority,
            "state": verdict.state.as_label(),
            "reason": verdict.reason,
        });
        if let Some(page) = page.as_object_mut() {
            let mut put = |name: &str, value: Value| page.insert(name.to_owned(), value);
            if let Some(until) = verdict.until {
                put("until", json!(rfc3339(self.now.wall_of(until))));
            }
            if let Some(cause) = verdict.cause {
                put("cause", json!(cause.as_label()));
            }
            if let Some(detail) = verdict.detail {
                put("detail", json!(detail));
            }
            if !seat.loses.is_empty() {
                put("loses", seat.loses.iter().map(|loss| json!(loss.as_label())).collect());
            }
        }
        page
    }

    fn attempt(&self, at: u32, record: &Record) -> Value {
        let spent = self.spent.iter().find(|spent| spent.record == at);
        let span = |until: Tick| millis(until.since(record.began));
        let ended = Some(record.ended).filter(|ended| *ended != Tick::default());
        json!({
            "target": self.seat_of(record).map(|seat| seat.target.as_str()),
            "cause": reason::cause(record.cause),
            "outcome": reason::outcome(record),
            "status": record.status,
            "started_ms": millis(record.began.since(self.began)),
            "ttfc_ms": record.first_content.map(span),
            "dur_ms": ended.map(span),
            "in_tokens": spent.and_then(|spent| spent.input),
            "out_tokens": spent.and_then(|spent| spent.output),
        })
    }

    fn seat_of(&self, record: &Record) -> Option<&Seat> {
        let is_it =
            |seat: &&Seat| matches!(seat.fate, super::Fate::Lined { at, .. } if at == record.candidate);
        self.seats.iter().find(is_it)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
