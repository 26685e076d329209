//! Which words mean what?
//!
//! [`CODES`] name a fault exactly, [`PHRASES`] stand in messages, [`CLASSES`] are the wide types. Rows
//! are ordered so that what must not be retried at the same account (quota, key) comes before what
//! may. A phrase is a list of parts that must follow one another; `^` binds the first to the start
//! of a line. Each row says under which statuses it is believed.
//!
//! To teach it a new error: a line in `tests/faults/`, then the word here.

use crate::base::outcome::Outcome;

/// Under which statuses a row is believed. An error inside a 200 may have none: then every row is.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
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
    /// Tells whether a row is believed under a status.
    pub(super) fn covers(self, status: Option<u16>) -> bool {
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
pub(super) const CODES: &[(Outcome, &[&str])] = &[
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
pub(super) const PHRASES: &[(Outcome, When, &[&[&str]])] = &[
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
            &["hit your usage limit"],
            &["usage limit exceeded"],
            &["add credits"],
            &["subscribe to go"],
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
pub(super) const CLASSES: &[(Outcome, When, &[&str])] = &[
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_phrases_are_written_as_they_are_compared() {
        let words = CODES.iter().flat_map(|(_, w)| *w).chain(CLASSES.iter().flat_map(|(_, _, w)| *w));
        let parts = PHRASES.iter().flat_map(|(_, _, p)| *p).flat_map(|p| *p);
        for text in words.chain(parts) {
            assert_eq!(*text, text.to_lowercase());
        }
    }
}
