//! The tables: which words and phrases mean what.
//!
//! [`judge`] asks in this order: codes known to lie (`overrules`), [`CODES`] that name a fault
//! exactly, the operator's own patterns, [`PHRASES`] of the message, and [`CLASSES`], the wide types
//! (`invalid_request_error`) under which providers file everything. Inside a table the first row that fits counts; rows are
//! ordered so that what must not be retried at the same account (quota, key) comes before what
//! may. A phrase is a list of parts that must follow one another; `^` binds the first to the start
//! of a line. Each row says under which statuses it is believed.
//!
//! To teach it a new error: a line in `tests/faults/`, then the word here.

use std::time::Duration;

use http::HeaderMap;

use super::Confidence;
use super::facts::Facts;
use crate::base::outcome::Outcome;
use crate::wire::retry_hint::RetryHint;

/// A wait that is no longer a rate limit: an hour (Azure says "retry after 86400 seconds" when the
/// day's quota is gone).
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// A wait short enough to believe that a limit by the day is not meant (Gemini names daily quotas
/// beside delays of seconds).
const SHORT_WAIT: Duration = Duration::from_secs(300);

/// Under which statuses a row is believed. An error inside a 200 may have none: then every row is.
#[derive(Clone, Copy, Debug)]
enum When {
    /// 4xx.
    Client,
    /// 400, 401, 403: the door.
    Door,
    /// 400: under 401 and 403 providers file keys and rights as invalid requests, too.
    Bad,
    /// 400, 403, 404, 410, 413, 422, 451, and 500, under which llama.cpp files the caller's mistakes.
    Request,
    /// 429, 498 and 5xx.
    Busy,
    /// 5xx but 529: a limit stays one, whatever its type.
    Server,
}

impl When {
    fn covers(self, status: Option<u16>) -> bool {
        let Some(status) = status else { return true };
        match self {
            When::Client => (400..500).contains(&status),
            When::Door => matches!(status, 400 | 401 | 403),
            When::Request => matches!(status, 400 | 403 | 404 | 410 | 413 | 422 | 451 | 500),
            When::Bad => status == 400,
            When::Server => status >= 500 && status != 529,
            When::Busy => matches!(status, 429 | 498 | 500..),
        }
    }
}

/// Codes, types and reasons that name a fault exactly; lower case.
const CODES: &[(Outcome, &[&str])] = &[
    (
        Outcome::Quota,
        &[
            "insufficient_quota",
            "insufficient_user_quota",
            "insufficient_credits",
            "insufficient_balance",
            "credits_exhausted",
            "creditserror",
            "quota_exceeded",
            "billing_hard_limit_reached",
            "billing_not_active",
            "billing_error",
            "payment_required",
            "usage_limit_reached",
            "usage_limit_exceeded",
            "usage_not_included",
            "freeusagelimiterror",
            "account_suspended",
            "servicequotaexceededexception",
            "1113",    // Z.ai: no balance.
            "cf:3036", // Cloudflare: the day's free allocation.
        ],
    ),
    (
        Outcome::Auth,
        &[
            "invalid_api_key",
            "incorrect_api_key",
            "wrong_api_key",
            "invalid_authentication",
            "authentication_error",
            "api_key_invalid",
            "api_key_expired",
            "unauthenticated",
            "unauthorized",
            "token_expired",
            "token_revoked",
            "account_deactivated",
            "unrecognizedclientexception",
            "expiredtokenexception",
            "invalidsignatureexception",
            "invalidclienttokenid",
            "missingauthenticationtoken",
            "missingauthenticationtokenexception",
        ],
    ),
    (
        Outcome::Region,
        &[
            "unsupported_country_region_territory",
            "unsupported_country",
            "region_not_supported",
            "unsupported_region",
        ],
    ),
    (
        Outcome::ContentFiltered,
        &[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "invalid_prompt",
            "moderated",
            "moderation_blocked",
            "data_inspection_failed",
            "datainspectionfailed",
            "safety_violation",
            "cyber_policy",
        ],
    ),
    (
        Outcome::ContextLength,
        &[
            "context_length_exceeded",
            "context_window_exceeded",
            "exceed_context_size_error",
            "model_max_prompt_tokens_exceeded",
            "max_prompt_tokens_exceeded",
        ],
    ),
    (Outcome::TooLarge, &["request_too_large", "payload_too_large", "string_above_max_length", "cf:3006"]),
    (
        Outcome::Overloaded,
        &[
            "overloaded_error",
            "overloaded",
            "server_is_overloaded",
            "engine_overloaded",
            "engine_overloaded_error",
            "slow_down",
            "model_capacity_exhausted",
            "service_tier_capacity_exceeded",
            "capacity_exceeded",
            "queue_exceeded",
            "cf:3040", // Cloudflare: out of capacity.
        ],
    ),
    (
        Outcome::ModelUnavailable,
        &[
            "model_not_found",
            "model_not_supported",
            "model_not_available",
            "model_deprecated",
            "model_decommissioned",
            "invalid_model",
            "unknown_model",
            "unsupported_model",
            "deploymentnotfound",
            "resourcenotfoundexception",
            // It is being loaded; others of the account are ready.
            "modelnotreadyexception",
            "cf:5007",
            "cf:3042",
        ],
    ),
    (
        Outcome::Permission,
        &[
            "accessdeniedexception",
            "access_terminated",
            "service_disabled",
            "api_key_service_blocked",
            "model_terms_required",
            "insufficient_permissions",
            "missing_scope",
            "organization_restricted",
        ],
    ),
    (
        Outcome::RateLimited,
        &[
            "rate_limit_exceeded",
            "rate_limit_error",
            "rate_limited",
            "too_many_requests",
            "too_many_requests_error",
            "throttlingexception",
            "request_quota_exceeded",
            "token_quota_exceeded",
        ],
    ),
    (
        // The model made a call that its own server could not read (Groq): no fault of the
        // client's, and the next try or target will likely do better.
        Outcome::ServerError,
        &[
            "tool_use_failed",
            "timeout_error",
            "modelerrorexception",
            "modeltimeoutexception",
            "modelstreamerrorexception",
            "internalserverexception",
            "serviceunavailableexception",
            "cf:3007",
            "cf:3008",
        ],
    ),
    (
        Outcome::ClientError,
        &[
            "unsupported_parameter",
            "unsupported_value",
            "unsupported_file",
            "invalid_value",
            "invalid_type",
            "invalid_image_url",
            "invalid_function_parameters",
            "missing_required_parameter",
            "previous_response_not_found",
            "cf:3003",
        ],
    ),
];

/// Phrases of messages.
const PHRASES: &[(Outcome, When, &[&[&str]])] = &[
    (
        // What is missing is something the request points at, not the model.
        Outcome::ClientError,
        When::Request,
        &[
            &["item with id", "not found"],
            &["response with id", "not found"],
            &["conversation with id", "not found"],
            &["no such file"],
            &["not found: cache"],
            &["image input is not supported"],
            &["cannot use both"],
            &["--jinja"],
        ],
    ),
    (
        Outcome::Quota,
        When::Client,
        &[
            &["credit balance"],
            &["credits are depleted"],
            &["insufficient balance"],
            &["insufficient credit"],
            &["insufficient_quota"],
            &["insufficient quota"],
            &["insufficient fund"],
            &["out of credit"],
            &["used all available credits"],
            &["not enough credits"],
            &["requires more credits"],
            &["monthly included credits"],
            &["spending limit"],
            &["spend limit"],
            &["api usage limits"],
            &["usage limit", "reached"],
            &["reached", "usage limit"],
            &["free usage", "exceeded"],
            &["exceeded", "free usage"],
            &["exceeded your current quota"],
            &["exceeded your monthly quota"],
            &["too many tokens per day"],
            &["api calls / month"],
            &["daily", "allocation"],
            &["enable billing"],
            &["account", "suspended"],
            &["payment required"],
        ],
    ),
    (
        Outcome::Auth,
        When::Door,
        &[
            &["api key not valid"],
            &["incorrect api key"],
            &["invalid api key"],
            &["invalid api_key"],
            &["invalid x-api-key"],
            &["api key", "expired"],
            &["api key", "revoked"],
            &["no api key"],
            &["missing api key"],
            &["invalid subscription key"],
            &["token expired"],
            &["token has expired"],
            &["token has been revoked"],
            &["invalid token"],
            &["invalid bearer token"],
            &["authentication token"],
            &["authentication fail"],
            &["invalid authentication"],
            &["security token", "invalid"],
            &["security token", "expired"],
        ],
    ),
    (
        Outcome::Region,
        When::Door,
        &[
            &["location is not supported"],
            &["country, region, or territory"],
            &["not available in your country"],
            &["not available in your region"],
            &["not supported in your country"],
            &["not supported in your region"],
            &["unsupported country"],
        ],
    ),
    (
        Outcome::ContentFiltered,
        When::Request,
        &[
            &["content management policy"],
            &["content policy"],
            &["content filter"],
            &["content_filter"],
            &["responsible ai"],
            &["requires moderation"],
            &["flagged", "moderation"],
            &["violat", "usage polic"],
            &["violat", "content polic"],
            &["violat", "safety"],
            &["safety system"],
            &["content exists risk"],
            &["considered high risk"],
            &["inappropriate content"],
        ],
    ),
    (
        Outcome::ContextLength,
        When::Request,
        &[
            &["maximum context length"],
            &["context length"],
            &["context_length"],
            &["context window"],
            &["context size"],
            &["context limit"],
            &["prompt is too long"],
            &["prompt too long"],
            &["input is too long"],
            &["input token count", "exceed"],
            &["prompt token count", "exceed"],
            &["input tokens exceed"],
            &["maximum prompt length"],
            &["too many tokens"],
            &["reduce the length of the messages"],
        ],
    ),
    (
        Outcome::TooLarge,
        When::Request,
        &[
            &["request entity too large"],
            &["payload too large"],
            &["request exceeds the maximum size"],
            &["request_too_large"],
            &["physical batch size"],
        ],
    ),
    (
        Outcome::Overloaded,
        When::Busy,
        &[
            &["overloaded"],
            &["over capacity"],
            &["at capacity"],
            &["capacity exceeded"],
            &["out of capacity"],
            &["no capacity"],
            &["insufficient capacity"],
            &["high demand"],
            &["high load"],
            &["heavy load"],
            &["server is busy"],
        ],
    ),
    (
        Outcome::ModelUnavailable,
        When::Request,
        &[
            &["model", "does not exist"],
            &["model", "not found"],
            &["models/", "is not found"],
            &["not a valid model"],
            &["invalid model"],
            &["unknown model"],
            &["no such model"],
            &["model identifier is invalid"],
            &["model is not supported"],
            &["^model ", " is not supported"],
            &["model", "was removed"],
            &["model", "has been deprecated"],
            &["model", "decommissioned"],
            &["model", "end of its life"],
            &["on-demand throughput isn"],
            &["does not have access to model"],
        ],
    ),
    (
        Outcome::RateLimited,
        When::Client,
        &[
            &["rate limit"],
            &["rate_limit"],
            &["rate-limited"],
            &["too many requests"],
            &["requests per minute"],
        ],
    ),
];

/// Wide types, under which providers file much; asked last, and only under statuses that agree
/// (Mistral calls a full house `invalid_request_error`).
const CLASSES: &[(Outcome, When, &[&str])] = &[
    (Outcome::RateLimited, When::Client, &["resource_exhausted"]),
    (Outcome::Permission, When::Door, &["permission_error", "permission_denied", "forbidden"]),
    (Outcome::ModelUnavailable, When::Request, &["not_found_error", "not_found"]),
    (
        Outcome::ClientError,
        When::Bad,
        &[
            "invalid_request_error",
            "invalid_request",
            "invalid_argument",
            "invalid-argument",
            "failed_precondition",
            "validationexception",
            "bad_request",
        ],
    ),
    (
        Outcome::ServerError,
        When::Server,
        &[
            "api_error",
            "server_error",
            "internal_error",
            "internal_server_error",
            "internal",
            "unavailable",
            "deadline_exceeded",
        ],
    ),
];

/// Judges by words and phrases; nothing where neither says anything. `spoken` is the hint that
/// the body gives; `own` asks the operator's patterns.
pub(super) fn judge(
    status: Option<u16>,
    facts: &Facts,
    spoken: RetryHint,
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
fn overrules(status: Option<u16>, facts: &Facts, spoken: RetryHint) -> Option<(Outcome, Confidence)> {
    let message = facts.message();
    let is_rate = facts.has_word(&["rate_limit_exceeded", "rate_limit_error"]);
    // OpenAI and Groq: the request alone is more than a minute's tokens; waiting never helps.
    let never_fits = says(message, &["request too large", "limit", "requested"]);
    if (never_fits && When::Client.covers(status)) || (is_rate && status == Some(413)) {
        return Some((Outcome::TooLarge, Confidence::Pattern));
    }
    // Amazon and Cerebras use one code for limits by the minute and by the day.
    let one_code = ["throttlingexception", "request_quota_exceeded", "token_quota_exceeded"];
    if facts.has_word(&one_code) && (says(message, &["per day"]) || says(message, &["daily"])) {
        return Some((Outcome::Quota, Confidence::Pattern));
    }
    // Azure: code "429", and a wait of a day in the message.
    let is_long = spoken.span().is_some_and(|span| span >= LONG_WAIT);
    if status == Some(429) && is_long && facts.has_word(&["429", "ratelimitreached", "toomanyrequests"]) {
        return Some((Outcome::Quota, Confidence::Pattern));
    }
    // Anthropic: an overload under `api_error` and 500 is no server fault.
    (facts.has_word(&["api_error"]) && says(message, &["overloaded"]))
        .then_some((Outcome::Overloaded, Confidence::Pattern))
}

/// Google's `RESOURCE_EXHAUSTED` is every limit there is; the quota's name, or a limit of 0, tells.
fn exhausted(facts: &Facts, spoken: RetryHint) -> Option<Outcome> {
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
    let subscription = headers.get("anthropic-ratelimit-unified-status").is_some_and(|v| v == "rejected");
    by_quota || subscription || PHRASES.iter().any(|phrase| says(facts.message(), phrase))
}

/// Tells whether the parts of the phrase follow one another in one line of the message.
fn says(message: &str, phrase: &[&str]) -> bool {
    message.lines().any(|line| {
        let mut rest = line;
        phrase.iter().all(|part| {
            if let Some(start) = part.strip_prefix('^') {
                return rest.strip_prefix(start).inspect(|after| rest = after).is_some();
            }
            rest.split_once(part).inspect(|(_, after)| rest = after).is_some()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn words_and_phrases_are_written_as_they_are_compared() {
        let words = CODES.iter().flat_map(|(_, w)| *w).chain(CLASSES.iter().flat_map(|(_, _, w)| *w));
        let parts = PHRASES.iter().flat_map(|(_, _, p)| *p).flat_map(|p| *p);
        for text in words.chain(parts) {
            assert_eq!(*text, text.to_lowercase());
        }
    }
}
