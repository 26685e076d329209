//! What is a client told whose request goes nowhere?
//!
//! An error in its own dialect ([`shape_of`]), also where the path does not say which that is, and whether
//! to try again ([`advice`]). `guess` answers those who may not call, `reply` writes what is said here.

use super::body::BodyFault;
use super::hop;
use super::reply::{self, Extra};
use super::story::Story;
use crate::base::api::ErrorShape;
use crate::base::outcome::ErrorCode;
use crate::route::Endpoint;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession as Session;
use pingora::{Error, ErrorType};

/// What Google's SDKs send with every request; they ask for their list under `/v1` as well.
const GOOGLE_HEADERS: [&str; 2] = ["x-goog-api-client", "x-goog-api-key"];

/// Lists and errors are told in the caller's dialect also where no call of ours says it: Anthropic's SDKs
/// always send their version, Google's their own headers, and below `/v1beta` is nobody else but who asks
/// Google in OpenAI's words.
pub(super) fn shape_of(endpoint: &Endpoint, head: &RequestHeader) -> ErrorShape {
    let headers = &head.headers;
    let is_google = || {
        let below = head.uri.path().strip_prefix("/v1beta/");
        below.is_some_and(|below| !below.starts_with("openai/"))
            || GOOGLE_HEADERS.iter().any(|name| headers.contains_key(*name))
    };
    match endpoint {
        Endpoint::Llm(call) => call.api.dialect().error_shape(),
        Endpoint::GeminiModels | Endpoint::GeminiModel(_) => ErrorShape::Google,
        Endpoint::Models
        | Endpoint::Model(_)
        | Endpoint::Health
        | Endpoint::PassThrough
        | Endpoint::NotFound
        | Endpoint::MethodNotAllowed(_)
        | Endpoint::BadPath(_) => {
            if headers.contains_key("anthropic-version") {
                ErrorShape::Anthropic
            } else if is_google() {
                ErrorShape::Google
            } else {
                ErrorShape::OpenAi
            }
        }
    }
}

/// Tells tools not to try again what the client got wrong: it is as wrong the second time. A slow upload
/// may go better.
pub(super) fn advice(status: u16) -> Option<bool> {
    (matches!(status, 400..=499) && !matches!(status, 408 | 429)).then_some(false)
}

/// Answers with an error that says by its status whether trying again helps.
pub(super) async fn refuse(
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
    status: u16,
    code: ErrorCode,
    message: &str,
) -> pingora::Result<bool> {
    let extra = Extra { should_retry: advice(status), ..Extra::default() };
    reply::refuse(session, story, shape, status, code, message, &extra).await?;
    Ok(true)
}

/// Answers a request that has been here before. Its sender is this proxy, which goes elsewhere with it.
pub(super) async fn goes_round(
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
) -> pingora::Result<bool> {
    session.set_keepalive(None);
    refuse(session, story, shape, 508, ErrorCode::ValidationFailed, hop::LOOP).await
}

/// Answers a request without a body to work with.
pub(super) async fn no_body(
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
    fault: BodyFault,
) -> pingora::Result<bool> {
    match fault {
        BodyFault::Gone => {
            story.client_left();
            Err(Error::explain(ErrorType::ConnectionClosed, "client left").into_down())
        }
        BodyFault::Refused(status, code, message) => {
            session.set_keepalive(None);
            let retry_after = (status == 503).then_some(1);
            let extra = Extra { retry_after, should_retry: advice(status), ..Extra::default() };
            reply::refuse(session, story, shape, status, code, message, &extra).await?;
            Ok(true)
        }
    }
}
