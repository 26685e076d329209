//! Reads what a provider says is left of its rate limits.
//!
//! Told with most answers, good and bad: `x-ratelimit-remaining-requests` and `-tokens` (OpenAI and
//! who follows it; per day or minute at Cerebras), `anthropic-ratelimit-requests-remaining`,
//! `-tokens-`, `-input-tokens-`, `-output-tokens-`, and `x-ratelimit-remaining` or
//! `ratelimit-remaining`, which count requests. Of several windows of one kind the one with the
//! least left counts: it ends first.
//!
//! For people and dashboards only; whether a target rests is for `retry_hint` and `health` to say.

use http::HeaderMap;

/// What is left, where the provider said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens of either direction.
    pub tokens: Option<u64>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
}

/// Reads the headers of an answer; nothing where none of them speaks of limits.
#[must_use]
pub fn remaining(headers: &HeaderMap) -> Option<RateLimits> {
    let mut found = RateLimits::default();
    for (name, value) in headers {
        let Some(kind) = bucket(name.as_str()) else { continue };
        let slot = match kind {
            "" | "requests" => &mut found.requests,
            "tokens" => &mut found.tokens,
            "input-tokens" => &mut found.input_tokens,
            "output-tokens" => &mut found.output_tokens,
            _ => continue,
        };
        if let Some(left) = value.to_str().ok().and_then(count) {
            *slot = Some(slot.map_or(left, |other| other.min(left)));
        }
    }
    (found != RateLimits::default()).then_some(found)
}

/// What a header counts, without its window.
fn bucket(name: &str) -> Option<&str> {
    if let Some(kind) = name.strip_prefix("anthropic-ratelimit-") {
        return kind.strip_suffix("-remaining");
    }
    let name = name.strip_prefix("x-").unwrap_or(name).strip_prefix("ratelimit-remaining")?;
    let kind = name.strip_prefix('-').unwrap_or(name);
    let windows = ["-day", "-hour", "-minute"];
    Some(windows.iter().find_map(|window| kind.strip_suffix(window)).unwrap_or(kind))
}

/// Reads `59` or `59.5`; what is below zero has nothing left.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn count(value: &str) -> Option<u64> {
    let value = value.trim();
    value.parse().ok().or_else(|| {
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite())?;
        Some(number.max(0.0) as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn each_provider_has_its_own_words_for_what_is_left() {
        let of = |requests, tokens, input_tokens, output_tokens| {
            Some(RateLimits { requests, tokens, input_tokens, output_tokens })
        };
        for (headers, want) in [
            (&[][..], None),
            (&[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-reset-tokens", "6m0s")], None),
            (&[("x-ratelimit-remaining-requests", "soon")], None),
            (&[("anthropic-ratelimit-unified-remaining", "3")], None),
            (
                &[("x-ratelimit-remaining-requests", "59"), ("x-ratelimit-remaining-tokens", "149984")],
                of(Some(59), Some(149_984), None, None),
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "4"),
                    ("anthropic-ratelimit-input-tokens-remaining", "1000"),
                    ("anthropic-ratelimit-output-tokens-remaining", " 0"),
                ],
                of(Some(4), None, Some(1000), Some(0)),
            ),
            (
                &[("x-ratelimit-remaining-tokens-minute", "70"), ("x-ratelimit-remaining-tokens-day", "50")],
                of(None, Some(50), None, None),
            ),
            (&[("x-ratelimit-remaining", "12.9")], of(Some(12), None, None, None)),
            (&[("ratelimit-remaining", "-1")], of(Some(0), None, None, None)),
            (&[("x-ratelimit-remaining-tokens", "1e400")], None),
        ] {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(remaining(&map), want, "{headers:?}");
        }
    }
}
