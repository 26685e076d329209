//! What an attempt came to, and what a client is told: the two closed enums of the failure table.
//!
//! [`Outcome`] is said by `classify`, decided upon by `exchange` and `health`, and is at the same
//! time the metric label and the log field (contract section 7), so that the three never differ.
//! [`ErrorCode`] is the `code` of our own error answers (contract section 3).

/// How an attempt at a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A whole, usable answer.
    Ok,
    /// 429 without a word about money.
    RateLimited,
    /// The account has used up its quota, credit or spend limit; waiting does not help soon.
    Quota,
    /// The key is not accepted.
    Auth,
    /// The key is good but may not do this.
    Permission,
    /// The provider does not serve this place.
    Region,
    /// The provider does not have (or no longer has) the model.
    ModelUnavailable,
    /// The request is larger than the provider takes, by its own limits (413 and kin).
    TooLarge,
    /// 529, or any status whose body says the model is overloaded.
    Overloaded,
    /// 5xx.
    ServerError,
    /// A 4xx of the client's making.
    ClientError,
    /// A content filter or a refusal by policy.
    ContentFiltered,
    /// The prompt does not fit the model's window.
    ContextLength,
    /// No connection: refused, unreachable or not in time.
    Connect,
    /// The name could not be resolved.
    Dns,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// No first content (streamed) or no whole answer (not streamed) in time.
    TimeoutFirstContent,
    /// The stream went silent.
    TimeoutStall,
    /// The request's deadline passed.
    TimeoutTotal,
    /// The connection broke before the head of the answer.
    Reset,
    /// The answer broke off.
    Truncated,
    /// A 2xx whose body is not what it should be: empty, malformed, HTML, a redirect.
    BadBody,
    /// An error event or error object inside a 200 that fits no other outcome.
    InbandError,
    /// The client left. Nobody's fault.
    ClientGone,
}

impl Outcome {
    /// Every outcome, in the order of contract section 7.
    pub const ALL: [Outcome; 24] = [
        Outcome::Ok,
        Outcome::RateLimited,
        Outcome::Quota,
        Outcome::Auth,
        Outcome::Permission,
        Outcome::Region,
        Outcome::ModelUnavailable,
        Outcome::TooLarge,
        Outcome::Overloaded,
        Outcome::ServerError,
        Outcome::ClientError,
        Outcome::ContentFiltered,
        Outcome::ContextLength,
        Outcome::Connect,
        Outcome::Dns,
        Outcome::Tls,
        Outcome::TimeoutFirstContent,
        Outcome::TimeoutStall,
        Outcome::TimeoutTotal,
        Outcome::Reset,
        Outcome::Truncated,
        Outcome::BadBody,
        Outcome::InbandError,
        Outcome::ClientGone,
    ];

    /// Returns the word for metrics, logs and pages.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::RateLimited => "rate_limited",
            Outcome::Quota => "quota",
            Outcome::Auth => "auth",
            Outcome::Permission => "permission",
            Outcome::Region => "region",
            Outcome::ModelUnavailable => "model_unavailable",
            Outcome::TooLarge => "too_large",
            Outcome::Overloaded => "overloaded",
            Outcome::ServerError => "server_error",
            Outcome::ClientError => "client_error",
            Outcome::ContentFiltered => "content_filtered",
            Outcome::ContextLength => "context_length",
            Outcome::Connect => "connect",
            Outcome::Dns => "dns",
            Outcome::Tls => "tls",
            Outcome::TimeoutFirstContent => "timeout_first_content",
            Outcome::TimeoutStall => "timeout_stall",
            Outcome::TimeoutTotal => "timeout_total",
            Outcome::Reset => "reset",
            Outcome::Truncated => "truncated",
            Outcome::BadBody => "bad_body",
            Outcome::InbandError => "inband_error",
            Outcome::ClientGone => "client_gone",
        }
    }
}

/// The `code` of an error that pointsman itself answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No key was presented.
    MissingApiKey,
    /// The key presented is not ours.
    InvalidApiKey,
    /// Nothing serves this model, or the client may not use it.
    ModelNotFound,
    /// The request is malformed.
    ValidationFailed,
    /// The body exceeds `limits.max_body`.
    PayloadTooLarge,
    /// Every target is rate limited, or one of our own limits was reached.
    RateLimited,
    /// No target can be used now.
    AllTargetsUnavailable,
    /// The deadline passed, or every target was silent.
    DeadlineExceeded,
    /// No target of the route speaks this dialect or has this capability.
    CapabilityNotSupported,
    /// No connection to the provider.
    UpstreamUnreachable,
    /// TLS to the provider failed.
    UpstreamTls,
    /// The provider rejected its key; never told as a 401, which would blame the client's.
    UpstreamAuth,
    /// The provider failed otherwise.
    UpstreamError,
    /// A stream broke after content had been delivered.
    UpstreamStreamLost,
    /// A fault of our own.
    InternalError,
}

impl ErrorCode {
    /// Returns the word that goes into the error body.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            ErrorCode::MissingApiKey => "missing_api_key",
            ErrorCode::InvalidApiKey => "invalid_api_key",
            ErrorCode::ModelNotFound => "model_not_found",
            ErrorCode::ValidationFailed => "validation_failed",
            ErrorCode::PayloadTooLarge => "payload_too_large",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::AllTargetsUnavailable => "all_targets_unavailable",
            ErrorCode::DeadlineExceeded => "deadline_exceeded",
            ErrorCode::CapabilityNotSupported => "capability_not_supported",
            ErrorCode::UpstreamUnreachable => "upstream_unreachable",
            ErrorCode::UpstreamTls => "upstream_tls",
            ErrorCode::UpstreamAuth => "upstream_auth",
            ErrorCode::UpstreamError => "upstream_error",
            ErrorCode::UpstreamStreamLost => "upstream_stream_lost",
            ErrorCode::InternalError => "internal_error",
        }
    }
}
