//! Answers of our own, and the head of every answer.
//!
//! Head and first bytes go out in one write: apart they cost a system call and a packet. A HEAD
//! request gets the head alone. Everything that is ours to say about an answer (contract section
//! 3) is set here, on answers of providers and on our own alike.

use super::downstream;
use super::echo;
use super::fitted::fitted;
use super::patience::client_leaves;
use super::story::Story;
use crate::base::api::{Dialect, ErrorShape};
use crate::base::outcome::ErrorCode;
use crate::base::secret::Secret;
use crate::classify::ProviderType;
use crate::exchange::ending::Refusal;
use crate::observe::fault_text;
use crate::rewrite;
use crate::wire::listing::Listing;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession as Session;
use pingora::{ErrorType, OrErr};
use serde_json::json;
use std::time::Duration;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_USED_PROVIDER: HeaderName = HeaderName::from_static("x-used-provider");
const X_USED_MODEL: HeaderName = HeaderName::from_static("x-used-model");
const X_USED_FALLBACK: HeaderName = HeaderName::from_static("x-used-fallback");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-attempts");
const X_BREAKER: HeaderName = HeaderName::from_static("x-circuit-breaker-state");
const X_RESPONSE_TIME: HeaderName = HeaderName::from_static("x-provider-response-time");
const X_DEGRADED: HeaderName = HeaderName::from_static("x-model-degraded");
const X_TRAIL: HeaderName = HeaderName::from_static("x-pointsman-trail");
/// nginx's word, by which it passes a stream on as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Headers of our own that a usual answer carries.
const HEADERS_OWN: usize = 9;
/// Most headers of a provider that room is made for before they are looked at: many are dropped.
const HEADERS_KEPT: usize = 15;

/// How long a broken HTTP/2 stream is left open behind its error event. The reset that follows
/// throws away what the connection has not written yet, and nothing tells us when it has: without
/// this pause the client sees a reset and no event. What is written has the client's window
/// already, so only the socket is waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a client is told where a provider refused the key that we sent.
pub(super) const KEY_REFUSED: &str =
    "the provider did not accept the proxy's key for it; your own key is not concerned";

/// Most words of an error without a shape that are passed on, in bytes.
const WORDS_MAX: usize = 2048;

/// What goes on top of a head of our own.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) retry_after: Option<u64>,
    pub(super) should_retry: Option<bool>,
    pub(super) allow: Option<&'static str>,
    /// What the provider called it, in the place of our own word for the kind of error.
    pub(super) provider_type: Option<ProviderType>,
}

impl From<&Refusal> for Extra {
    fn from(refusal: &Refusal) -> Self {
        Extra { retry_after: refusal.retry_after, should_retry: refusal.should_retry, ..Extra::default() }
    }
}

/// Tells whether SDKs repeat what was answered with this status, unless they are told not to.
pub(super) fn is_repeated(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

/// How the body of an answer is framed.
#[derive(Clone, Copy)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Until the connection is closed: an HTTP/1.0 client knows no other of what has no length.
    Closed,
}

impl Framing {
    /// Returns how a body of unknown length is framed for this client, and has its connection end with
    /// it where there is no other way.
    pub(super) fn endless(session: &mut Session) -> Framing {
        if session.req_header().version != Version::HTTP_10 {
            return Framing::Chunked;
        }
        session.set_keepalive(None);
        Framing::Closed
    }
}

/// The head of an answer to the client. Pingora's own type spells a name out, title case and all,
/// and reads it again, each time one is set; here names are constants until the head is handed over.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl Head {
    fn new(status: StatusCode, upstream: usize) -> Self {
        Head { status, headers: HeaderMap::with_capacity(upstream.min(HEADERS_KEPT) + HEADERS_OWN) }
    }

    fn json(status: u16) -> pingora::Result<Self> {
        let status = StatusCode::from_u16(status).or_err(ErrorType::InternalError, "no such status")?;
        let mut head = Head::new(status, 0);
        head.set(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
        Ok(head)
    }

    /// Sets a header; fails where there are more than a map holds.
    fn set(&mut self, name: HeaderName, value: HeaderValue) -> pingora::Result<()> {
        let set = self.headers.try_insert(name, value);
        set.map(drop).or_err(ErrorType::InvalidHTTPHeader, "too many headers")
    }

    /// Keeps whoever stands in between from keeping or gathering a stream, where its provider said nothing
    /// of that.
    pub(super) fn for_stream(&mut self) -> pingora::Result<()> {
        for (name, value) in [(header::CACHE_CONTROL, "no-cache"), (X_ACCEL_BUFFERING, "no")] {
            if !self.headers.contains_key(&name) {
                self.set(name, HeaderValue::from_static(value))?;
            }
        }
        Ok(())
    }

    /// Tells a client not to repeat what comes to the same again, where its status alone says otherwise.
    pub(super) fn advise_against_retry(&mut self) {
        if is_repeated(self.status.as_u16()) && !self.headers.contains_key(&X_SHOULD_RETRY) {
            self.headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }

    /// Leaves no room behind the headers, but for the two of its own that Pingora adds: it keeps a head for as
    /// long as the body takes.
    pub(super) fn fitted(mut self) -> Self {
        for name in [header::DATE, header::CONNECTION] {
            self.headers.insert(name, HeaderValue::from_static(""));
        }
        Head { status: self.status, headers: fitted(self.headers) }
    }

    pub(super) fn into_pingora(self) -> Box<ResponseHeader> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers = self.headers;
        Box::new(ResponseHeader::from(parts))
    }
}

/// Begins the head of a provider's answer: what of the provider's own the client may see. What
/// repeats one of `keys` is left out.
pub(super) fn draft<'a>(
    status: StatusCode,
    upstream: &HeaderMap,
    drops_rate_limits: bool,
    keys: &(impl Iterator<Item = &'a Secret> + Clone),
) -> pingora::Result<Head> {
    let mut head = Head::new(status, upstream.len());
    for (name, value) in upstream {
        if rewrite::keeps_response_header(name, drops_rate_limits) && !echo::is_in(value, keys.clone()) {
            let added = head.headers.try_append(name.clone(), value.clone());
            added.or_err(ErrorType::InvalidHTTPHeader, "too many headers")?;
        }
    }
    Ok(head)
}

/// Begins the head of an answer that is translated: of the provider's own nothing is left, since its
/// headers speak of another body in another dialect.
pub(super) fn draft_translated(status: StatusCode, is_stream: bool) -> pingora::Result<Head> {
    let mut head = Head::new(status, 3);
    let kind = if is_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    head.set(header::CONTENT_TYPE, HeaderValue::from_static(kind))?;
    if is_stream {
        head.for_stream()?;
    }
    Ok(head)
}

/// Completes the head of a provider's answer with its framing and our own headers.
pub(super) fn complete(head: &mut Head, framing: Framing, story: &Story) -> pingora::Result<()> {
    frame(head, framing)?;
    own_headers(story, |name, value| head.set(name, value))
}

fn frame(head: &mut Head, framing: Framing) -> pingora::Result<()> {
    match framing {
        Framing::Length(length) => head.set(header::CONTENT_LENGTH, decimal(length)),
        // Dropped again by the HTTP/2 writer, which frames by itself.
        Framing::Chunked => head.set(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        Framing::Closed => Ok(()),
    }
}

/// Sets our own headers on an answer that is passed through.
pub(super) fn sign(head: &mut ResponseHeader, story: &Story) -> pingora::Result<()> {
    own_headers(story, |name, value| head.insert_header(name, value))
}

fn own_headers(
    story: &Story,
    mut set: impl FnMut(HeaderName, HeaderValue) -> pingora::Result<()>,
) -> pingora::Result<()> {
    set(X_REQUEST_ID, story.id_header())?;
    let Some(told) = story.told() else { return Ok(()) };
    if let Some(target) = &told.target {
        set(X_USED_PROVIDER, target.provider.clone())?;
        if let Some(model) = target.model {
            set(X_USED_MODEL, model.clone())?;
        }
        let fallback = if target.is_fallback { "true" } else { "false" };
        set(X_USED_FALLBACK, HeaderValue::from_static(fallback))?;
        if target.is_degraded {
            set(X_DEGRADED, HeaderValue::from_static("true"))?;
        }
        set(X_BREAKER, HeaderValue::from_static(target.breaker))?;
        set(X_RESPONSE_TIME, decimal(target.response_ms))?;
    }
    set(X_ATTEMPTS, decimal(told.attempts.into()))?;
    if let Ok(trail) = HeaderValue::from_str(told.trail) {
        set(X_TRAIL, trail)?;
    }
    Ok(())
}

/// Writes a number into a header: in as many bytes as it has, where `From` takes a buffer that grows.
pub(super) fn decimal(number: u64) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    if let Some(digit) = usize::try_from(number).ok().and_then(|number| DIGITS.get(number)) {
        return HeaderValue::from_static(digit);
    }
    let mut digits = itoa::Buffer::new();
    HeaderValue::from_str(digits.format(number)).unwrap_or_else(|_| number.into())
}

/// Answers with an error of our own in the caller's shape.
pub(super) async fn refuse(
    session: &mut Session,
    story: &mut Story,
    shape: ErrorShape,
    status: u16,
    code: ErrorCode,
    message: &str,
    extra: &Extra,
) -> pingora::Result<()> {
    let kind = extra.provider_type.as_ref().filter(|_| status == 429).map(ProviderType::as_str);
    let body = fault_text::error_body_of_type(shape, code, status, message, story.id(), kind);
    story.refused(status, code);
    let mut head = Head::json(status)?;
    if let Some(seconds) = extra.retry_after {
        head.set(header::RETRY_AFTER, decimal(seconds))?;
    }
    if let Some(should) = extra.should_retry {
        let word = HeaderValue::from_static(if should { "true" } else { "false" });
        head.set(X_SHOULD_RETRY, word)?;
    }
    if let Some(allow) = extra.allow {
        head.set(header::ALLOW, HeaderValue::from_static(allow))?;
    }
    if story.told().is_none() {
        head.set(X_ATTEMPTS, decimal(0))?;
    }
    own_headers(story, |name, value| head.set(name, value))?;
    send_whole(session, head, Bytes::from(body)).await
}

/// Makes an answer that says that the request is not valid, to be relayed like a provider's.
pub(super) fn invalid(shape: ErrorShape, message: &str, id: &str) -> pingora::Result<(Head, Bytes)> {
    let body = fault_text::error_body(shape, ErrorCode::ValidationFailed, 400, message, id);
    Ok((Head::json(400)?, Bytes::from(body)))
}

/// Makes of an error that stood inside a success the answer that it would have been by itself: as it is
/// where it has the shape of one, else its words in that shape.
pub(super) fn twin(status: u16, dialect: Dialect, error: &[u8]) -> Option<(Head, Bytes)> {
    use serde_json::Value;
    let said: Value = serde_json::from_slice(error)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(error.get(..WORDS_MAX).unwrap_or(error))));
    let body = if said.get("error").is_some_and(Value::is_object) {
        error.to_vec()
    } else {
        let said = said.get(0).unwrap_or(&said);
        let inner = said.get("error").or_else(|| said.pointer("/response/error")).unwrap_or(said);
        let inner = if inner.is_object() { inner.clone() } else { json!({ "message": inner }) };
        let told = match dialect.error_shape() {
            ErrorShape::Anthropic => json!({"type": "error", "error": inner}),
            ErrorShape::OpenAi | ErrorShape::Google => json!({ "error": inner }),
        };
        told.to_string().into_bytes()
    };
    Some((Head::json(status).ok()?, Bytes::from(body)))
}

/// Answers with a JSON page of our own.
pub(super) async fn page(
    session: &mut Session,
    story: &mut Story,
    status: u16,
    body: Vec<u8>,
) -> pingora::Result<()> {
    story.answered(status);
    let mut head = Head::json(status)?;
    own_headers(story, |name, value| head.set(name, value))?;
    send_whole(session, head, Bytes::from(body)).await
}

async fn send_whole(session: &mut Session, mut head: Head, body: Bytes) -> pingora::Result<()> {
    frame(&mut head, Framing::Length(body.len() as u64))?;
    if session.req_header().method == Method::HEAD {
        return session.write_response_header(head.into_pingora()).await;
    }
    downstream::begin(session, head.into_pingora(), &[body], true).await
}

/// Ends a started stream that cannot go on: what was kept back of it, a blank line (so that a broken
/// event cannot swallow what follows), the dialect's error event with this number, and no end of the
/// body. The caller then drops the connection. `is_list` where the stream is an array.
pub(super) async fn break_off(
    session: &mut Session,
    (dialect, is_list): (Dialect, bool),
    tail: Option<Bytes>,
    number: u64,
    message: &str,
    story: &Story,
) {
    let code = ErrorCode::UpstreamStreamLost;
    let event = fault_text::error_event(dialect, code, message, story.id(), number);
    let tail = tail.unwrap_or_default();
    let mut bytes = Vec::with_capacity(tail.len() + event.len() + 2);
    bytes.extend_from_slice(&tail);
    if is_list {
        Listing::begun().push(&event, &mut bytes);
    } else {
        bytes.extend_from_slice(b"\n\n");
        bytes.extend_from_slice(&event);
    }
    // The client may be gone as well; there is nobody left to tell then.
    let written = downstream::write(session, Bytes::from(bytes)).await;
    if written.is_ok() && session.as_http2().is_some() {
        drop(tokio::time::timeout(LAST_WORDS, client_leaves(session)).await);
    }
}
