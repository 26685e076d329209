//! Which class of fault does an error inside a stream name?
//!
//! The words of `type`, `code` and `status` decide, never the message. What `classify` says of the
//! whole event is better informed; this is for the few that reach the translator.

use super::read::{Object, Raw};
use crate::base::outcome::Outcome;

/// Returns the class of an error object, or of the object that holds one as `error`.
pub(super) fn class(raw: Raw<'_>) -> Outcome {
    let mut whole = raw.object();
    let words = match whole.take("error") {
        Some(inner) if inner.is_object() => words(inner.object()),
        _ => words(whole),
    };
    let found = words.iter().find_map(|word| of_word(word));
    found.unwrap_or(Outcome::InbandError)
}

fn words(mut error: Object<'_>) -> Vec<String> {
    ["code", "status", "type"].into_iter().filter_map(|name| error.text(name)).collect()
}

fn of_word(word: &str) -> Option<Outcome> {
    Some(match word.to_ascii_lowercase().as_str() {
        "overloaded_error" | "server_is_overloaded" | "slow_down" | "overloaded" | "unavailable" => {
            Outcome::Overloaded
        }
        "insufficient_quota" | "billing_error" | "quota_exceeded" => Outcome::Quota,
        "rate_limit_error" | "rate_limit_exceeded" | "resource_exhausted" | "throttlingexception" => {
            Outcome::RateLimited
        }
        "authentication_error" | "invalid_api_key" | "unauthenticated" => Outcome::Auth,
        "permission_error" | "permission_denied" => Outcome::Permission,
        "not_found_error" | "model_not_found" | "not_found" => Outcome::ModelUnavailable,
        "request_too_large" => Outcome::TooLarge,
        "context_length_exceeded" => Outcome::ContextLength,
        "content_filter" | "content_policy_violation" => Outcome::ContentFiltered,
        "invalid_request_error" | "invalid_argument" | "validationexception" => Outcome::ClientError,
        "timeout_error" | "deadline_exceeded" => Outcome::TimeoutTotal,
        "server_error" | "api_error" | "internal" | "internal_server_error" => Outcome::ServerError,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_in_the_words_and_never_in_the_message() {
        for (text, want) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"rate_limit_error"}}"#,
                Outcome::Overloaded,
            ),
            (r#"{"error":{"type":"x","code":"insufficient_quota"}}"#, Outcome::Quota),
            (r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#, Outcome::Overloaded),
            (r#"{"type":"error","code":"server_error","message":"m"}"#, Outcome::ServerError),
            (r#"{"error":"overloaded_error"}"#, Outcome::InbandError),
            (r#"{"error":{"message":"overloaded"}}"#, Outcome::InbandError),
            ("[]", Outcome::InbandError),
        ] {
            assert_eq!(class(Raw::parse(text.as_bytes()).unwrap()), want, "{text}");
        }
    }
}
