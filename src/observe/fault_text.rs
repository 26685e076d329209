//! Our own errors, in the words of whoever asked.
//!
//! An SDK decides by the shape of the body, by its `type` and by its status whether it retries and
//! what it shows. So each dialect gets its provider's own shape and words, with our `code` (the
//! closed enum of contract section 3) where that dialect has room for it: `error.code` for OpenAI,
//! the same key beside `error.type` for Anthropic, the `reason` of an `ErrorInfo` detail for Google
//! (<https://google.aip.dev/193>). The request id is in the body too, because people paste bodies.
//!
//! `type` words: Anthropic's from the wire guide, OpenAI's from general knowledge. OpenAI has no word
//! of its own for a rejected key (`invalid_request_error` with a code); Anthropic has one for each.
//!
//! The message is the caller's sentence. It must never hold an upstream body, a host or a secret;
//! nothing here could tell.

use crate::base::api::{Dialect, ErrorShape};
use crate::base::outcome::ErrorCode;
use serde_json::{Value, json};

/// Returns the body of an error answer with this status.
#[must_use]
pub fn error_body(
    shape: ErrorShape,
    code: ErrorCode,
    status: u16,
    message: &str,
    request_id: &str,
) -> Vec<u8> {
    error_body_of_type(shape, code, status, message, request_id, None)
}

/// The same with another word for the kind of error, where the dialect has a place for a free one:
/// a provider's own.
#[must_use]
pub fn error_body_of_type(
    shape: ErrorShape,
    code: ErrorCode,
    status: u16,
    message: &str,
    request_id: &str,
    kind: Option<&str>,
) -> Vec<u8> {
    let mut body = match shape {
        ErrorShape::OpenAi => json!({ "error": openai(code, status, message), "request_id": request_id }),
        ErrorShape::Anthropic => anthropic(code, status, message, request_id),
        ErrorShape::Google => google(code, status, message, request_id),
    };
    let word = match shape {
        ErrorShape::OpenAi | ErrorShape::Anthropic => body.pointer_mut("/error/type"),
        ErrorShape::Google => None,
    };
    if let (Some(word), Some(kind)) = (word, kind) {
        *word = kind.into();
    }
    body.to_string().into_bytes()
}

/// Returns the event that ends a stream which cannot go on. The caller writes a blank line first,
/// so that an event cut off in the middle is closed, and no normal end after it.
///
/// `sequence` is the number of the next event where the dialect counts them (OpenAI responses:
/// clients that check types want a number); 0 where it is not known.
#[must_use]
pub fn error_event(
    dialect: Dialect,
    code: ErrorCode,
    message: &str,
    request_id: &str,
    sequence: u64,
) -> Vec<u8> {
    // A stream has no status any more; these are the words that go with 502.
    let status = 502;
    let (name, data) = match dialect {
        // The last four are spoken by providers only; nobody waits for these words.
        Dialect::OpenAiChat
        | Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::BedrockConverse
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => {
            (None, json!({ "error": openai(code, status, message), "request_id": request_id }))
        }
        Dialect::OpenAiResponses => {
            (Some("error"), responses_event(code, status, message, request_id, sequence))
        }
        Dialect::AnthropicMessages => (Some("error"), anthropic(code, status, message, request_id)),
        Dialect::GeminiGenerate => (None, google(code, status, message, request_id)),
    };
    // JSON text has no line breaks of its own, so the event is one line.
    let event = match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    };
    event.into_bytes()
}

fn openai(code: ErrorCode, status: u16, message: &str) -> Value {
    json!({ "message": message, "type": openai_type(code, status), "param": null, "code": code.as_label() })
}

/// The event of the responses API in both forms that clients read: flat, as OpenAI documents it,
/// and with an `error` object, as the Vercel AI SDK wants it.
fn responses_event(code: ErrorCode, status: u16, message: &str, request_id: &str, sequence: u64) -> Value {
    json!({
        "type": "error",
        "sequence_number": sequence,
        "code": code.as_label(),
        "message": message,
        "param": null,
        "error": openai(code, status, message),
        "request_id": request_id,
    })
}

fn anthropic(code: ErrorCode, status: u16, message: &str, request_id: &str) -> Value {
    json!({
        "type": "error",
        "error": { "type": anthropic_type(code, status), "message": message, "code": code.as_label() },
        "request_id": request_id,
    })
}

fn google(code: ErrorCode, status: u16, message: &str, request_id: &str) -> Value {
    json!({
        "error": {
            "code": status,
            "message": message,
            "status": google_status(code, status),
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": code.as_label(),
                    "domain": "pointsman",
                },
                { "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id },
            ],
        },
    })
}

fn openai_type(code: ErrorCode, status: u16) -> &'static str {
    match code {
        ErrorCode::MissingApiKey
        | ErrorCode::InvalidApiKey
        | ErrorCode::ModelNotFound
        | ErrorCode::ValidationFailed
        | ErrorCode::PayloadTooLarge
        | ErrorCode::CapabilityNotSupported => "invalid_request_error",
        ErrorCode::RateLimited => "rate_limit_error",
        ErrorCode::AllTargetsUnavailable => match status {
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        },
        ErrorCode::DeadlineExceeded
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamTls
        | ErrorCode::UpstreamAuth
        | ErrorCode::UpstreamError
        | ErrorCode::UpstreamStreamLost
        | ErrorCode::InternalError => "server_error",
    }
}

fn anthropic_type(code: ErrorCode, status: u16) -> &'static str {
    match code {
        ErrorCode::MissingApiKey | ErrorCode::InvalidApiKey => "authentication_error",
        ErrorCode::ModelNotFound => "not_found_error",
        ErrorCode::ValidationFailed | ErrorCode::CapabilityNotSupported => match status {
            403 => "permission_error",
            404 => "not_found_error",
            _ => "invalid_request_error",
        },
        ErrorCode::PayloadTooLarge => "request_too_large",
        ErrorCode::RateLimited => "rate_limit_error",
        ErrorCode::AllTargetsUnavailable => match status {
            429 => "rate_limit_error",
            404 => "not_found_error",
            400..=499 => "invalid_request_error",
            504 => "timeout_error",
            _ => "overloaded_error",
        },
        ErrorCode::DeadlineExceeded => "timeout_error",
        ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamTls
        | ErrorCode::UpstreamAuth
        | ErrorCode::UpstreamError
        | ErrorCode::UpstreamStreamLost
        | ErrorCode::InternalError => "api_error",
    }
}

fn google_status(code: ErrorCode, status: u16) -> &'static str {
    match code {
        ErrorCode::MissingApiKey | ErrorCode::InvalidApiKey => "UNAUTHENTICATED",
        ErrorCode::ModelNotFound => "NOT_FOUND",
        // A path that is not there.
        ErrorCode::ValidationFailed if status == 404 => "NOT_FOUND",
        ErrorCode::ValidationFailed if status == 403 => "PERMISSION_DENIED",
        ErrorCode::ValidationFailed | ErrorCode::CapabilityNotSupported | ErrorCode::PayloadTooLarge => {
            "INVALID_ARGUMENT"
        }
        ErrorCode::RateLimited => "RESOURCE_EXHAUSTED",
        ErrorCode::AllTargetsUnavailable => match status {
            429 => "RESOURCE_EXHAUSTED",
            404 => "NOT_FOUND",
            400..=499 => "INVALID_ARGUMENT",
            504 => "DEADLINE_EXCEEDED",
            _ => "UNAVAILABLE",
        },
        ErrorCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
        ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamTls
        | ErrorCode::UpstreamAuth
        | ErrorCode::UpstreamError
        | ErrorCode::UpstreamStreamLost => "UNAVAILABLE",
        ErrorCode::InternalError => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a \"quoted\" line\r\n\r\ndata: [DONE]\u{0}\u{1b}[31m é";

    fn body(shape: ErrorShape, code: ErrorCode, status: u16) -> Value {
        serde_json::from_slice(&error_body(shape, code, status, HOSTILE, "req-1")).unwrap()
    }

    #[test]
    fn an_openai_client_reads_its_own_shape() {
        let got = body(ErrorShape::OpenAi, ErrorCode::ModelNotFound, 404);
        assert_eq!(got["error"]["message"], HOSTILE);
        assert_eq!(got["error"]["type"], "invalid_request_error");
        assert_eq!(got["error"]["param"], Value::Null);
        assert!(got["error"].as_object().unwrap().contains_key("param"));
        assert_eq!(got["error"]["code"], "model_not_found");
        assert_eq!(got["request_id"], "req-1");
    }

    #[test]
    fn an_anthropic_client_reads_its_own_shape() {
        let got = body(ErrorShape::Anthropic, ErrorCode::InvalidApiKey, 401);
        assert_eq!(got["type"], "error");
        assert_eq!(got["error"]["type"], "authentication_error");
        assert_eq!(got["error"]["message"], HOSTILE);
        assert_eq!(got["error"]["code"], "invalid_api_key");
        assert_eq!(got["request_id"], "req-1");
    }

    #[test]
    fn a_google_client_reads_its_own_shape() {
        let got = body(ErrorShape::Google, ErrorCode::RateLimited, 429);
        assert_eq!(got["error"]["code"], 429);
        assert_eq!(got["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(got["error"]["message"], HOSTILE);
        assert_eq!(got["error"]["details"][0]["reason"], "rate_limited");
        assert_eq!(got["error"]["details"][1]["requestId"], "req-1");
    }

    #[test]
    fn each_provider_has_its_own_word_for_a_fault() {
        let rows = [
            (
                ErrorCode::MissingApiKey,
                401,
                "invalid_request_error",
                "authentication_error",
                "UNAUTHENTICATED",
            ),
            (
                ErrorCode::ValidationFailed,
                400,
                "invalid_request_error",
                "invalid_request_error",
                "INVALID_ARGUMENT",
            ),
            (ErrorCode::ValidationFailed, 404, "invalid_request_error", "not_found_error", "NOT_FOUND"),
            (
                ErrorCode::PayloadTooLarge,
                413,
                "invalid_request_error",
                "request_too_large",
                "INVALID_ARGUMENT",
            ),
            (ErrorCode::RateLimited, 429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
            (ErrorCode::AllTargetsUnavailable, 503, "server_error", "overloaded_error", "UNAVAILABLE"),
            (
                ErrorCode::AllTargetsUnavailable,
                429,
                "rate_limit_error",
                "rate_limit_error",
                "RESOURCE_EXHAUSTED",
            ),
            (ErrorCode::AllTargetsUnavailable, 404, "invalid_request_error", "not_found_error", "NOT_FOUND"),
            (ErrorCode::DeadlineExceeded, 504, "server_error", "timeout_error", "DEADLINE_EXCEEDED"),
            (ErrorCode::UpstreamAuth, 502, "server_error", "api_error", "UNAVAILABLE"),
            (ErrorCode::InternalError, 500, "server_error", "api_error", "INTERNAL"),
        ];
        for (code, status, openai, anthropic, google) in rows {
            assert_eq!(body(ErrorShape::OpenAi, code, status)["error"]["type"], openai, "{code:?} {status}");
            assert_eq!(
                body(ErrorShape::Anthropic, code, status)["error"]["type"],
                anthropic,
                "{code:?} {status}"
            );
            assert_eq!(
                body(ErrorShape::Google, code, status)["error"]["status"],
                google,
                "{code:?} {status}"
            );
        }
    }

    #[test]
    fn an_error_event_is_one_event_whatever_the_message_holds() {
        for (dialect, starts, code_at) in [
            (Dialect::OpenAiChat, "data: {\"error\":{", "/error/code"),
            (Dialect::OpenAiCompletions, "data: {\"error\":{", "/error/code"),
            (Dialect::OpenAiEmbeddings, "data: {\"error\":{", "/error/code"),
            (Dialect::OpenAiResponses, "event: error\ndata: {\"type\":\"error\",", "/code"),
            (Dialect::AnthropicMessages, "event: error\ndata: {\"type\":\"error\",", "/error/code"),
            (Dialect::GeminiGenerate, "data: {\"error\":{", "/error/details/0/reason"),
        ] {
            let event = error_event(dialect, ErrorCode::UpstreamStreamLost, HOSTILE, "req-1", 7);
            let event = String::from_utf8(event).unwrap();
            assert!(event.starts_with(starts), "{event}");
            assert!(event.ends_with("}\n\n"), "{event}");
            assert_eq!(event.matches("\n\n").count(), 1, "{event}");
            assert_eq!(event.matches('\r').count(), 0, "{event}");
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data.pointer(code_at).unwrap(), "upstream_stream_lost", "{event}");
        }
    }

    #[test]
    fn a_responses_event_has_a_number_and_both_forms() {
        let event = error_event(Dialect::OpenAiResponses, ErrorCode::UpstreamStreamLost, "lost", "r", 7);
        let text = String::from_utf8(event).unwrap();
        let data: Value =
            serde_json::from_str(text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["sequence_number"], 7);
        assert_eq!(data["message"], "lost");
        assert_eq!(data["error"]["message"], "lost");
    }
}
