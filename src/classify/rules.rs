//! Which of the words counts?
//!
//! [`judge`] asks in this order: codes known to lie (`overrules`), [`CODES`] that name a fault
//! exactly, the operator's own patterns, [`PHRASES`] of the message, and [`CLASSES`], the wide types
//! (`invalid_request_error`) under which providers file everything. Inside a table the first row that
//! fits counts.

use std::cell::LazyCell;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::Confidence;
use super::facts::Facts;
use super::words::{CLASSES, CODES, PHRASES, When};
use crate::base::outcome::Outcome;
use crate::wire::retry_hint::RetryHint;

/// A wait that is no longer a rate limit: an hour (Azure says "retry after 86400 seconds" when the
/// day's quota is gone).
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// A wait short enough to believe that a limit by the day is not meant (Gemini names daily quotas
/// beside delays of seconds).
const SHORT_WAIT: Duration = Duration::from_secs(300);

/// The hint that a body gives, looked for where somebody asks: most codes need none.
pub(super) type Spoken<F> = LazyCell<RetryHint, F>;

/// Anthropic's word for the window of a subscription.
static SUBSCRIPTION: HeaderName = HeaderName::from_static("anthropic-ratelimit-unified-status");

/// Judges by words and phrases; nothing where neither says anything. `own` asks the operator's patterns.
pub(super) fn judge<F: FnOnce() -> RetryHint>(
    status: Option<u16>,
    facts: &Facts,
    spoken: &Spoken<F>,
    own: impl FnOnce() -> Option<Outcome>,
) -> Option<(Outcome, Confidence)> {
    let structured = |outcome| (outcome, Confidence::Structured);
    overrules(status, facts, spoken)
        .or_else(|| {
            let row = CODES.iter().find(|(_, codes)| facts.has_word(codes));
            row.map(|(outcome, _)| structured(*outcome))
        })
        .or_else(|| exhausted(facts, spoken).map(structured))
        .or_else(|| own().map(|outcome| (outcome, Confidence::Pattern)))
        .or_else(|| {
            let row = PHRASES.iter().find(|(_, when, phrases)| {
                when.covers(status) && phrases.iter().any(|phrase| says(facts.message(), phrase))
            });
            row.map(|(outcome, ..)| (*outcome, Confidence::Pattern))
        })
        .or_else(|| {
            // Only where nothing in the message named a rate: a long wait means a spent quota.
            let is_long = status == Some(429) && spoken.span().is_some_and(|span| span >= LONG_WAIT);
            is_long.then_some((Outcome::Quota, Confidence::Pattern))
        })
        .or_else(|| {
            let row = CLASSES.iter().find(|(_, when, words)| when.covers(status) && facts.has_word(words));
            row.map(|(outcome, ..)| structured(*outcome))
        })
}

/// Codes known to lie, and what the message says instead.
fn overrules<F: FnOnce() -> RetryHint>(
    status: Option<u16>,
    facts: &Facts,
    spoken: &Spoken<F>,
) -> Option<(Outcome, Confidence)> {
    let message = facts.message();
    let is_rate = facts.has_word(&["rate_limit_exceeded", "rate_limit_error"]);
    // OpenAI and Groq: the request alone is more than a minute's tokens; waiting never helps.
    let never_fits = || says(message, &["request too large", "limit", "requested"]);
    if (When::Client.covers(status) && never_fits()) || (is_rate && status == Some(413)) {
        return Some((Outcome::TooLarge, Confidence::Pattern));
    }
    // Amazon and Cerebras use one code for limits by the minute and by the day.
    let one_code = ["throttlingexception", "request_quota_exceeded", "token_quota_exceeded"];
    if facts.has_word(&one_code) && (says(message, &["per day"]) || says(message, &["daily"])) {
        return Some((Outcome::Quota, Confidence::Pattern));
    }
    // Azure: code "429", and a wait of a day in the message.
    let is_long = || spoken.span().is_some_and(|span| span >= LONG_WAIT);
    if status == Some(429) && facts.has_word(&["429", "ratelimitreached", "toomanyrequests"]) && is_long() {
        return Some((Outcome::Quota, Confidence::Pattern));
    }
    // Anthropic: an overload under `api_error` and 500 is no server fault.
    (facts.has_word(&["api_error"]) && says(message, &["overloaded"]))
        .then_some((Outcome::Overloaded, Confidence::Pattern))
}

/// Google's `RESOURCE_EXHAUSTED` is every limit there is; the quota's name, or a limit of 0, tells.
fn exhausted<F: FnOnce() -> RetryHint>(facts: &Facts, spoken: &Spoken<F>) -> Option<Outcome> {
    if !facts.has_word(&["resource_exhausted"]) {
        return None;
    }
    let by_day = facts.quotas().iter().any(|id| id.contains("perday"));
    let comes_back_soon = spoken.span().is_some_and(|span| span <= SHORT_WAIT);
    let message = facts.message();
    let no_entitlement = message
        .split("limit: 0")
        .skip(1)
        .any(|rest| !rest.starts_with(|c: char| c == '.' || c.is_ascii_digit()));
    let no_money = says(message, &["credits are depleted"]) || says(message, &["spending cap"]);
    let is_quota = (by_day && !comes_back_soon) || no_entitlement || no_money;
    Some(if is_quota { Outcome::Quota } else { Outcome::RateLimited })
}

/// Tells whether a rate limit holds for the whole account, as the provider says.
pub(super) fn is_account_wide(facts: &Facts, headers: &HeaderMap) -> bool {
    const PHRASES: [&[&str]; 6] = [
        &["your account"],
        &["account's rate limit"],
        &["trial key"],
        &["copilot token usage"],
        &["free-models-per-"],
        &["across all models"],
    ];
    let of_project = |id: &String| id.contains("perproject") && !id.contains("permodel");
    let by_quota = !facts.quotas().is_empty() && facts.quotas().iter().all(of_project);
    // Anthropic's subscriptions: one window for all models.
    let subscription = headers.get(&SUBSCRIPTION).is_some_and(|v| v == "rejected");
    by_quota || subscription || PHRASES.iter().any(|phrase| says(facts.message(), phrase))
}

/// Tells whether the parts of the phrase follow one another in one line of the message.
fn says(message: &str, phrase: &[&str]) -> bool {
    // Some two hundred phrases are asked for, and nearly all end here.
    let begins = phrase.first().is_none_or(|part| find(message, part.trim_start_matches('^')).is_some());
    begins
        && message.lines().any(|line| {
            let mut rest = line;
            phrase.iter().all(|part| {
                if let Some(start) = part.strip_prefix('^') {
                    return rest.strip_prefix(start).inspect(|after| rest = after).is_some();
                }
                rest.split_once(part).inspect(|(_, after)| rest = after).is_some()
            })
        })
}

/// Returns where a part begins. Parts are a few letters of ours: whatever searches faster in a long text
/// takes longer to be made ready than this takes in a message.
fn find(message: &str, part: &str) -> Option<usize> {
    let (first, rest) = part.as_bytes().split_first()?;
    let message = message.as_bytes();
    memchr::memchr_iter(*first, message)
        .find(|at| message.get(at + 1..).is_some_and(|behind| behind.starts_with(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_is_found_where_it_stands(message in "[ab é]{0,12}", part in "[ab]{1,4}") {
            prop_assert_eq!(find(&message, &part), message.find(&part));
        }
    }

    #[test]
    fn the_parts_of_a_phrase_must_follow_one_another_in_one_line() {
        for (message, phrase, want) in [
            ("the model `x` does not exist", ["model", "does not exist"], true),
            ("does not exist for this model", ["model", "does not exist"], false),
            ("a model\ndoes not exist", ["model", "does not exist"], false),
            ("model x is not supported", ["^model ", " is not supported"], true),
            ("stop is not supported with this model", ["^model ", " is not supported"], false),
        ] {
            assert_eq!(says(message, &phrase), want, "{message}");
        }
    }
}
