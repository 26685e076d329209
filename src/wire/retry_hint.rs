//! Reads when a provider wants to be asked again.
//!
//! One answer from a dozen forms, in this order; the first that says something usable counts:
//! 1. `retry-after-ms`, `x-ms-retry-after-ms` (OpenAI, Azure);
//! 2. `retry-after`: seconds, also with a fraction, or an HTTP date, which is taken relative to
//!    the answer's own `Date` so that a wrong clock on either side does not matter;
//! 3. reset headers: Go durations (`x-ratelimit-reset-tokens: 6m0s`), RFC 3339
//!    (`anthropic-ratelimit-tokens-reset`), seconds from now (`ratelimit-reset`), epoch seconds or
//!    milliseconds (above 1e9); of several buckets those with nothing remaining, else all;
//! 4. the body: Gemini's `retryDelay`, "try again in 1m2.3s", "retry after 30 seconds",
//!    "resets at 2026-05-15T15:00:00Z".
//!
//! Of two values of one form the larger counts. A date in the past says nothing. 0, negative
//! numbers, NaN, words, and spans beyond 32 days (no quota window is longer) are
//! [`RetryHint::Absurd`] when nothing usable was found. Nothing is clamped here; `health` does.
//!
//! Source: failure table rows 6-8, OpenAI, Anthropic, Google and IETF rate limit documents.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};
use memchr::memmem::Finder;

use crate::base::time::WallTime;

/// Longest span taken seriously: a month, the longest quota window known, and a day.
const SPAN_MAX_S: f64 = 32.0 * 86_400.0;

/// How much of a body is searched.
const BODY_MAX: usize = 64 * 1024;

/// When to come back, as the provider said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryHint {
    /// Nothing was said.
    #[default]
    None,
    /// After this span; unclamped, at most 32 days.
    After(Duration),
    /// Something was said that cannot be meant: zero, negative, endless, not a number.
    Absurd,
}

impl RetryHint {
    /// Returns the span, where a usable one was given.
    #[must_use]
    pub fn span(self) -> Option<Duration> {
        match self {
            RetryHint::After(span) => Some(span),
            RetryHint::None | RetryHint::Absurd => None,
        }
    }

    /// Makes a hint of a number of seconds.
    fn of_seconds(seconds: f64) -> Self {
        match Duration::try_from_secs_f64(seconds) {
            // Also what is less than the least span there is.
            Ok(Duration::ZERO) | Err(_) => RetryHint::Absurd,
            Ok(span) if seconds <= SPAN_MAX_S => RetryHint::After(span),
            Ok(_) => RetryHint::Absurd,
        }
    }

    /// Makes a hint of a date.
    fn until_ms(date_ms: f64, now: WallTime) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "exact to a millisecond for 285,000 years")]
        let left = date_ms - now.0 as f64;
        if left <= 0.0 { RetryHint::None } else { RetryHint::of_seconds(left / 1000.0) }
    }

    /// Joins two hints of equal standing: the larger span, else whatever says something.
    fn or_larger(self, other: Self) -> Self {
        match (self, other) {
            (RetryHint::After(a), RetryHint::After(b)) => RetryHint::After(a.max(b)),
            (RetryHint::After(a), RetryHint::None | RetryHint::Absurd)
            | (RetryHint::None | RetryHint::Absurd, RetryHint::After(a)) => RetryHint::After(a),
            (RetryHint::Absurd, RetryHint::None | RetryHint::Absurd)
            | (RetryHint::None, RetryHint::Absurd) => RetryHint::Absurd,
            (RetryHint::None, RetryHint::None) => RetryHint::None,
        }
    }

    /// Falls back to a source of lower standing where this one has no span.
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            RetryHint::After(_) => self,
            RetryHint::None | RetryHint::Absurd => self.or_larger(other()),
        }
    }
}

/// Reads the hint of a rate-limited answer from headers and body. `date_now` is our clock, used
/// for dates where the answer has no `Date` of its own.
#[must_use]
pub fn read(headers: &HeaderMap, body: &[u8], date_now: WallTime) -> RetryHint {
    explicit(headers, body, date_now, true)
}

/// Reads the hint of a server fault: as [`read`], without the reset headers, which tell of rate
/// limits that had no part in it.
#[must_use]
pub fn read_without_resets(headers: &HeaderMap, body: &[u8], date_now: WallTime) -> RetryHint {
    explicit(headers, body, date_now, false)
}

/// Reads the hint that the body alone gives.
#[must_use]
pub fn spoken(body: &[u8], date_now: WallTime) -> RetryHint {
    of_body(body.get(..BODY_MAX).unwrap_or(body), date_now)
}

fn explicit(headers: &HeaderMap, body: &[u8], date_now: WallTime, with_resets: bool) -> RetryHint {
    let now = date_of(headers).unwrap_or(date_now);
    MILLIS
        .iter()
        .fold(RetryHint::None, |hint, name| hint.or_larger(each_value(headers, name, of_millis)))
        .or_else(|| each_value(headers, &RETRY_AFTER, |value| of_retry_after(value, now)))
        .or_else(|| if with_resets { of_resets(headers, now) } else { RetryHint::None })
        .or_else(|| spoken(body, now))
}

/// Folds `read` over every value of a header, a comma-separated list counting as several values
/// except in a date.
fn each_value(headers: &HeaderMap, name: &HeaderName, read: impl Fn(&str) -> RetryHint) -> RetryHint {
    headers.get_all(name).iter().fold(RetryHint::None, |hint, value| {
        let Ok(value) = value.to_str() else { return hint.or_larger(RetryHint::Absurd) };
        if httpdate::parse_http_date(value.trim()).is_ok() {
            return hint.or_larger(read(value.trim()));
        }
        value.split(',').fold(hint, |hint, part| hint.or_larger(read(part.trim())))
    })
}

fn date_of(headers: &HeaderMap) -> Option<WallTime> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let millis = date.duration_since(UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(millis).ok().map(WallTime)
}

fn of_millis(value: &str) -> RetryHint {
    value.parse::<f64>().map_or(RetryHint::Absurd, |millis| RetryHint::of_seconds(millis / 1000.0))
}

fn of_retry_after(value: &str, now: WallTime) -> RetryHint {
    if let Ok(seconds) = value.parse::<f64>() {
        return RetryHint::of_seconds(seconds);
    }
    if let Ok(date) = httpdate::parse_http_date(value) {
        let millis = date.duration_since(UNIX_EPOCH).map_or(0.0, |span| span.as_secs_f64() * 1000.0);
        return RetryHint::until_ms(millis, now);
    }
    // Some compatible servers write "30s" here.
    spoken_span(value).unwrap_or(RetryHint::Absurd)
}

/// Names are constants: one that is looked up by its letters is parsed each time.
const fn name(letters: &'static str) -> HeaderName {
    HeaderName::from_static(letters)
}

/// A span in milliseconds.
static MILLIS: [HeaderName; 2] = [name("retry-after-ms"), name("x-ms-retry-after-ms")];

/// A reset header and the header that says what remains of the same bucket.
static RESETS: [(HeaderName, Option<HeaderName>); 12] = [
    (name("x-ratelimit-reset-requests"), Some(name("x-ratelimit-remaining-requests"))),
    (name("x-ratelimit-reset-tokens"), Some(name("x-ratelimit-remaining-tokens"))),
    (name("x-ratelimit-reset-requests-day"), Some(name("x-ratelimit-remaining-requests-day"))),
    (name("x-ratelimit-reset-tokens-minute"), Some(name("x-ratelimit-remaining-tokens-minute"))),
    (name("anthropic-ratelimit-requests-reset"), Some(name("anthropic-ratelimit-requests-remaining"))),
    (name("anthropic-ratelimit-tokens-reset"), Some(name("anthropic-ratelimit-tokens-remaining"))),
    (
        name("anthropic-ratelimit-input-tokens-reset"),
        Some(name("anthropic-ratelimit-input-tokens-remaining")),
    ),
    (
        name("anthropic-ratelimit-output-tokens-reset"),
        Some(name("anthropic-ratelimit-output-tokens-remaining")),
    ),
    (name("anthropic-ratelimit-unified-reset"), Some(name("anthropic-ratelimit-unified-remaining"))),
    (name("x-ratelimit-reset"), Some(name("x-ratelimit-remaining"))),
    (name("ratelimit-reset"), Some(name("ratelimit-remaining"))),
    (name("ratelimit"), None),
];

fn of_resets(headers: &HeaderMap, now: WallTime) -> RetryHint {
    let (mut of_empty, mut of_all) = (RetryHint::None, RetryHint::None);
    // Most refusals have none of them.
    if !headers.keys().any(|name| name.as_str().contains("ratelimit")) {
        return RetryHint::None;
    }
    for (reset, remaining) in &RESETS {
        let hint = each_value(headers, reset, |value| of_reset(value, now));
        of_all = of_all.or_larger(hint);
        let left = remaining.as_ref().and_then(|name| headers.get(name)?.to_str().ok()).map(str::trim);
        if left == Some("0") {
            of_empty = of_empty.or_larger(hint);
        }
    }
    // A bucket that is full again at once (`0s`) is no word on this refusal.
    match of_empty.or_else(|| of_all) {
        hint @ RetryHint::After(_) => hint,
        RetryHint::None | RetryHint::Absurd => RetryHint::None,
    }
}

fn of_reset(value: &str, now: WallTime) -> RetryHint {
    // IETF draft: `limit=1, remaining=0, reset=50`, or `"api";r=0;t=120`.
    let value = value.rsplit(';').next().unwrap_or(value).trim();
    let value = value.strip_prefix("reset=").or_else(|| value.strip_prefix("t=")).unwrap_or(value);
    if let Ok(number) = value.parse::<f64>() {
        return match number {
            n if n > 1e12 => RetryHint::until_ms(n, now),
            n if n > 1e9 => RetryHint::until_ms(n * 1000.0, now),
            n => RetryHint::of_seconds(n),
        };
    }
    of_timestamp(value, now).or_else(|| spoken_span(value)).unwrap_or(RetryHint::Absurd)
}

fn of_timestamp(value: &str, now: WallTime) -> Option<RetryHint> {
    let date = chrono::DateTime::parse_from_rfc3339(value).ok()?;
    #[allow(clippy::cast_precision_loss, reason = "exact to a millisecond for 285,000 years")]
    let millis = date.timestamp_millis() as f64;
    Some(RetryHint::until_ms(millis, now))
}

/// What stands before a span in a body; lower case, as the text searched.
const BEFORE_SPANS: [&str; 7] = [
    "\"retrydelay\"",
    "try again in",
    "try again after",
    "retry after",
    "retry in",
    "wait",
    "\"retry_after\"",
];

/// What stands before a timestamp in a body.
const BEFORE_TIMESTAMPS: [&str; 4] = ["resets at", "reset at", "try again at", "regain access on"];

/// What finds each of them: made once, for making one costs more than a search.
static SPANS: LazyLock<[Finder<'static>; 7]> = LazyLock::new(|| BEFORE_SPANS.map(Finder::new));
static TIMESTAMPS: LazyLock<[Finder<'static>; 4]> = LazyLock::new(|| BEFORE_TIMESTAMPS.map(Finder::new));

fn of_body(body: &[u8], now: WallTime) -> RetryHint {
    let text = body.to_ascii_lowercase();
    let text = String::from_utf8_lossy(&text);
    let behind = |needle: &Finder<'_>| {
        let at = needle.find(text.as_bytes())?;
        Some(
            text.get(at + needle.needle().len()..)?
                .trim_start_matches([' ', ':', '"', '\t', '\n', '\r', '~']),
        )
    };
    let spans = SPANS.iter().filter_map(|needle| spoken_span(behind(needle)?));
    let hint = spans.fold(RetryHint::None, |hint, span| hint.or_else(|| span));
    hint.or_else(|| {
        let dates = TIMESTAMPS.iter().filter_map(|needle| {
            let rest = behind(needle)?.to_ascii_uppercase();
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-:.+".contains(c)));
            of_timestamp(rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches('.'), now)
        });
        dates.fold(RetryHint::None, RetryHint::or_larger)
    })
}

/// Reads a span such as `26.604s`, `174ms`, `1m2.3s`, `6m0s`, `20 seconds`, `1 hour` from the
/// start of the text; nothing when it does not start with a number and a unit of time.
fn spoken_span(text: &str) -> Option<RetryHint> {
    let mut rest = text;
    let mut seconds = 0.0;
    let mut parts = 0;
    loop {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, behind) = rest.split_at_checked(digits)?;
        // A full stop may end the sentence rather than begin a fraction.
        let Ok(number) = number.trim_end_matches('.').parse::<f64>() else { break };
        let behind = behind.trim_start_matches(' ');
        let letters = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(letters)?;
        let Some(scale) = seconds_in(unit) else { break };
        seconds += number * scale;
        parts += 1;
        rest = behind.trim_start_matches(' ');
    }
    (parts > 0).then(|| RetryHint::of_seconds(seconds))
}

fn seconds_in(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    /// 2026-05-15T14:00:00Z.
    const NOW: WallTime = WallTime(1_778_853_600_000);

    fn hint(headers: &[(&'static str, &str)], body: &str) -> RetryHint {
        let map = headers
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap()))
            .collect::<Vec<_>>();
        let mut headers = HeaderMap::new();
        for (name, value) in map {
            headers.append(name, value);
        }
        read(&headers, body.as_bytes(), NOW)
    }

    fn ms(millis: u64) -> RetryHint {
        RetryHint::After(Duration::from_millis(millis))
    }

    #[test]
    fn every_header_form_is_read() {
        let date = ("date", "Fri, 15 May 2026 14:00:00 GMT");
        for (headers, want) in [
            (vec![], RetryHint::None),
            (vec![("retry-after", "30")], ms(30_000)),
            (vec![("retry-after", " 1.5 ")], ms(1_500)),
            (vec![("retry-after", "30s")], ms(30_000)),
            (vec![("retry-after-ms", "1250"), ("retry-after", "30")], ms(1_250)),
            (vec![("retry-after-ms", "soon"), ("retry-after", "30")], ms(30_000)),
            (vec![("retry-after", "5"), ("retry-after", "10")], ms(10_000)),
            (vec![("retry-after", "5, 10")], ms(10_000)),
            (vec![("retry-after", "5"), ("retry-after", "1e9")], ms(5_000)),
            (vec![date, ("retry-after", "Fri, 15 May 2026 14:00:20 GMT")], ms(20_000)),
            (vec![("retry-after", "Fri, 15 May 2026 14:00:20 GMT")], ms(20_000)),
            (
                vec![
                    ("date", "Fri, 15 May 2026 13:59:00 GMT"),
                    ("retry-after", "Fri, 15 May 2026 14:00:20 GMT"),
                ],
                ms(80_000),
            ),
            (vec![date, ("retry-after", "Fri, 15 May 2026 13:00:00 GMT")], RetryHint::None),
            (vec![("x-ratelimit-reset-requests", "12ms"), ("x-ratelimit-reset-tokens", "6m0s")], ms(360_000)),
            (
                vec![
                    ("x-ratelimit-reset-requests", "12ms"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                    ("x-ratelimit-remaining-tokens", "99"),
                ],
                ms(12),
            ),
            (vec![("anthropic-ratelimit-tokens-reset", "2026-05-15T14:00:07Z")], ms(7_000)),
            (vec![("anthropic-ratelimit-unified-reset", "1778853660")], ms(60_000)),
            (vec![("ratelimit-reset", "50")], ms(50_000)),
            (vec![("ratelimit", "limit=10, remaining=0, reset=50")], ms(50_000)),
            (vec![("ratelimit", "\"api\";r=0;t=120")], ms(120_000)),
            (vec![("x-ratelimit-reset", "1778853660")], ms(60_000)),
            (vec![("x-ratelimit-reset", "1778853660500")], ms(60_500)),
            (vec![("x-ratelimit-reset-requests", "0s")], RetryHint::None),
            (vec![("retry-after", "0"), ("x-ratelimit-reset-requests", "2s")], ms(2_000)),
        ] {
            assert_eq!(hint(&headers, ""), want, "{headers:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_absurd_and_never_panics() {
        for value in [
            "0",
            "-1",
            "NaN",
            "inf",
            "-inf",
            "1e9",
            "1e308",
            "100000000000000000000",
            "soon",
            "",
            "0x10",
            "99999999999999999999h",
            "2764801",
            "Fri, 99 Foo 2026 14:00:20 GMT",
            "9e999",
        ] {
            assert_eq!(hint(&[("retry-after", value)], ""), RetryHint::Absurd, "{value:?}");
            assert_eq!(
                hint(&[("retry-after-ms", value)], "").span().is_some(),
                ["1e9", "2764801"].contains(&value),
                "{value:?} ms"
            );
        }
        let odd = HeaderValue::from_bytes(b"\xff5").unwrap();
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, odd)]);
        assert_eq!(read(&headers, b"", NOW), RetryHint::Absurd);
    }

    #[test]
    fn every_body_form_is_read() {
        for (body, want) in [
            (r#"{"error":{"details":[{"@type":"RetryInfo","retryDelay": "36s"}]}}"#, ms(36_000)),
            (r#"{"retryDelay":"36.4s"}"#, ms(36_400)),
            ("Please retry in 36.429760048s.", RetryHint::After(Duration::from_nanos(36_429_760_048))),
            ("Rate limit reached. Please try again in 26.604s. Visit", ms(26_604)),
            ("Please try again in 174ms.", ms(174)),
            ("Please try again in 1m2.3s.", ms(62_300)),
            ("try again in 1h2m3s", ms(3_723_000)),
            ("Please retry after 6 seconds.", ms(6_000)),
            ("Please retry after 86400 seconds", ms(86_400_000)),
            ("Try again in 20 minutes and", ms(1_200_000)),
            ("try again in 3.", RetryHint::None),
            ("Your limit resets at 2026-05-15T15:00:00Z.", ms(3_600_000)),
            ("resets at 2026-05-15T13:00:00Z", RetryHint::None),
            ("please wait and be kind", RetryHint::None),
            ("try again in 0s", RetryHint::Absurd),
            ("<html>429</html>", RetryHint::None),
        ] {
            assert_eq!(hint(&[], body), want, "{body}");
        }
        assert_eq!(hint(&[("retry-after", "3")], "try again in 20s"), ms(3_000), "headers come first");
        assert_eq!(hint(&[("retry-after", "0")], "try again in 20s"), ms(20_000), "a usable word wins");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(value in "[ -~]{0,40}", body in "(try again in |retry after |resets at )?[ -~µ]{0,40}") {
            for name in ["retry-after", "retry-after-ms", "date", "ratelimit", "x-ratelimit-reset", "anthropic-ratelimit-tokens-reset"] {
                if let RetryHint::After(span) = hint(&[(name, &value)], &body) {
                    prop_assert!(!span.is_zero() && span <= Duration::from_secs(32 * 86_400));
                }
            }
        }
    }
}
