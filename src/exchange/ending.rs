//! What is the client told when nothing worked?
//!
//! One owner of every answer that pointsman gives in a provider's place:
//!
//! * nothing could be tried: 429 if every target is rate limited, else 503;
//! * every attempt ended alike: that status (404, 429, 502, 503, 504);
//! * mixed: 503 `all_targets_unavailable`. "Model not found" drops out of the mix where another
//!   target said anything else;
//! * we had no room for an answer that must be had whole: 503, as for a request that finds none;
//! * the deadline passed, or is too near for a target that is left: 504 `deadline_exceeded`;
//! * a rejected provider key is 502, never 401: the client would rotate its own.
//!
//! `Retry-After` is the soonest end of a rest, in whole seconds, at least 1, where no target may be used
//! now; a 429 and a 503 say 1 then, others nothing. `x-should-retry` is
//! true only when that is at most 60 s, and false where waiting does not help.

use super::Record;
use crate::base::outcome::{ErrorCode, Outcome};
use crate::base::time::Tick;
use crate::health::Resting;
use std::time::Duration;

/// Longest wait that an SDK should sit out by itself.
const WORTH_RETRYING: u64 = 60;

/// Our own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The word for it.
    pub code: ErrorCode,
    /// Seconds until trying again makes sense.
    pub retry_after: Option<u64>,
    /// Advice to SDKs; absent where we do not know better than they.
    pub should_retry: Option<bool>,
}

/// Returns what a single failure is told as.
#[must_use]
pub fn told(record: &Record) -> (u16, ErrorCode) {
    match record.outcome {
        Outcome::RateLimited | Outcome::Quota => (429, ErrorCode::RateLimited),
        Outcome::Connect if record.timed_out => (504, ErrorCode::UpstreamUnreachable),
        Outcome::Connect | Outcome::Dns => (502, ErrorCode::UpstreamUnreachable),
        Outcome::Tls => (502, ErrorCode::UpstreamTls),
        Outcome::Auth | Outcome::Permission | Outcome::Region => (502, ErrorCode::UpstreamAuth),
        Outcome::ModelUnavailable => (404, ErrorCode::ModelNotFound),
        Outcome::Overloaded => (503, ErrorCode::AllTargetsUnavailable),
        Outcome::ServerError => match record.status {
            Some(503) => (503, ErrorCode::UpstreamError),
            Some(408 | 425 | 504) => (504, ErrorCode::UpstreamError),
            Some(_) | None => (502, ErrorCode::UpstreamError),
        },
        Outcome::TimeoutFirstContent | Outcome::TimeoutStall | Outcome::TimeoutTotal => {
            (504, ErrorCode::DeadlineExceeded)
        }
        Outcome::TooLarge => (413, ErrorCode::PayloadTooLarge),
        Outcome::ClientError | Outcome::ContentFiltered | Outcome::ContextLength => {
            (400, ErrorCode::ValidationFailed)
        }
        Outcome::Reset
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError
        | Outcome::ClientGone
        | Outcome::Ok => (502, ErrorCode::UpstreamError),
    }
}

/// Returns the answer for a request that is given up. `attempts` is what was tried, `resting` how
/// the targets stand now that nothing more can be tried.
#[must_use]
pub fn refusal<'a>(
    attempts: &[Record],
    resting: &(impl Iterator<Item = Option<Resting>> + Clone + 'a),
    now: Tick,
) -> Refusal {
    let retry_after = soonest(resting.clone(), now);
    let limited = |r: Option<Resting>| {
        matches!(r.and_then(Resting::reason), Some(Outcome::RateLimited | Outcome::Quota))
    };
    // Repeats of one target count by its last word, so that a 429 after a 500 is one answer.
    let mut last_words: Vec<&Record> = Vec::with_capacity(attempts.len());
    for record in attempts.iter().filter(|record| !record.is_called_off) {
        last_words.retain(|known| known.candidate != record.candidate);
        last_words.push(record);
    }
    if last_words.iter().any(|r| r.outcome != Outcome::ModelUnavailable) {
        last_words.retain(|r| r.outcome != Outcome::ModelUnavailable);
    }
    let is_out = |r: Option<Resting>| matches!(r, Some(Resting::Drained | Resting::Disabled));
    if last_words.is_empty() && resting.clone().all(is_out) {
        // No waiting mends what an operator wants.
        let (status, code) = (503, ErrorCode::AllTargetsUnavailable);
        return Refusal { status, code, retry_after: None, should_retry: Some(false) };
    }
    let mut told_all = last_words.iter().map(|record| told(record));
    let (status, code) = match told_all.next() {
        None if resting.clone().all(limited) => (429, ErrorCode::RateLimited),
        None => (503, ErrorCode::AllTargetsUnavailable),
        Some((429, code)) => {
            let untried_limited = resting.clone().flatten().all(|r| limited(Some(r)));
            let all_429 = told_all.all(|(status, _)| status == 429);
            if all_429 && untried_limited { (429, code) } else { (503, ErrorCode::AllTargetsUnavailable) }
        }
        Some((status, code)) => {
            let rest: Vec<_> = told_all.collect();
            if rest.iter().all(|(other, _)| *other == status) {
                let is_one_code = rest.iter().all(|(_, other)| *other == code);
                let code = if is_one_code { code } else { ErrorCode::UpstreamError };
                (status, if status == 503 { ErrorCode::AllTargetsUnavailable } else { code })
            } else {
                (503, ErrorCode::AllTargetsUnavailable)
            }
        }
    };
    advised(status, code, retry_after)
}

/// Returns the answer for a request whose time is up, or too short for the next target.
#[must_use]
pub fn out_of_time<'a>(resting: &(impl Iterator<Item = Option<Resting>> + Clone + 'a), now: Tick) -> Refusal {
    advised(504, ErrorCode::DeadlineExceeded, soonest(resting.clone(), now))
}

/// Returns the answer for a request whose answer we had no room for (failure table, row 32).
#[must_use]
pub fn without_room() -> Refusal {
    advised(503, ErrorCode::RateLimited, None)
}

/// Adds what the client should do.
fn advised(status: u16, code: ErrorCode, retry_after: Option<u64>) -> Refusal {
    let waiting_helps = matches!(status, 429 | 503);
    let is_hopeless =
        matches!(code, ErrorCode::UpstreamAuth | ErrorCode::UpstreamTls | ErrorCode::ModelNotFound);
    let retry_after =
        if waiting_helps { Some(retry_after.unwrap_or(1)) } else { retry_after.filter(|_| !is_hopeless) };
    let should_retry = match retry_after {
        Some(seconds) => Some(seconds <= WORTH_RETRYING),
        None if is_hopeless => Some(false),
        None => None,
    };
    Refusal { status, code, retry_after, should_retry }
}

/// Seconds until the first target may be used again, at least one; nothing where one may be used now,
/// or nobody knows when.
fn soonest(mut resting: impl Iterator<Item = Option<Resting>> + Clone, now: Tick) -> Option<u64> {
    let until = resting.clone().flatten().filter_map(Resting::until).min()?;
    if resting.any(|resting| resting.is_none()) {
        return None;
    }
    let left = until.left(now);
    let whole = left.as_secs() + u64::from(left > Duration::from_secs(left.as_secs()));
    Some(whole.max(1))
}
