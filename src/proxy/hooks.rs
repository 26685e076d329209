//! How does what nobody reads pass through, hook by hook?
//!
//! The one `impl ProxyHttp`. [`Proxy`] admits a request in `request_filter` as it does every other; each
//! hook behind that is a few lines and asks [`Forward`]. How a request ends that could not be answered is
//! said here for all of them: Pingora's error becomes a status and a sentence, and goes no further.

use super::attempt::connect_fault;
use super::body;
use super::forward::{Forward, NowhereToGo};
use super::framing;
use super::refusal::{advice, shape_of};
use super::reply::{self, Extra};
use super::service::Proxy;
use super::story::Story;
use crate::base::outcome::{ErrorCode, Outcome};
use crate::classify::TransportFault;
use crate::route::Endpoint;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::http::ServerSession as Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, Session as Hooked};
use std::time::Duration;

/// How a provider's 401 to a request that is passed through goes from hook to hook.
const KEY_REFUSED: ErrorType = ErrorType::Custom("KeyRefused");

/// The same of an answer that leads elsewhere (threat P1).
const ASTRAY: ErrorType = ErrorType::Custom("Astray");

/// What a client is told whose request is not waited for when the process goes.
const LEAVING: &str = "this proxy is leaving and could not wait any longer";

/// What the hooks of one request share.
pub struct Context {
    pub(super) story: Story,
    /// The body of a call, where it came with its head; else nothing.
    pub(super) body: Bytes,
    /// On the heap: calls have none.
    pub(super) forward: Option<Box<Forward>>,
}

impl Proxy {
    /// Begins a request, whose body may have come with its head.
    pub(super) fn context(&self, body: Bytes) -> Context {
        Context { story: Story::begin(self.house.clock.tick()), body, forward: None }
    }

    /// Tells a client whose request could not be answered, where there is still something to tell;
    /// returns the status.
    pub(super) async fn failed(&self, session: &mut Session, error: &Error, context: &mut Context) -> u16 {
        let is_client = *error.esource() == pingora::ErrorSource::Downstream && !body::is_malformed(error);
        let is_nowhere = *error.etype() == ErrorType::HTTPStatus(503);
        // When the process goes, its own end of the connection gives up (`server::held_up`).
        let is_leaving = (is_client || is_nowhere) && self.house.parting.has_begun();
        if is_client && !is_leaving {
            context.story.client_left();
            return 0;
        }
        if session.response_written().is_some() {
            // What came before the break goes out, and no end of it.
            session.shutdown().await;
            return 0;
        }
        let (mut status, mut code, message) =
            if is_leaving { (504, ErrorCode::DeadlineExceeded, LEAVING) } else { told_of(error) };
        let shape = shape_of(&Endpoint::PassThrough, session.req_header());
        let has_new_key = context.forward.as_ref().is_some_and(|forward| forward.has_new_key());
        let should_retry = (code == ErrorCode::UpstreamAuth).then_some(has_new_key).or(advice(status));
        let retry_after = (status == 503).then_some(1);
        let mut extra = Extra { retry_after, should_retry, ..Extra::default() };
        if let Some(forward) = &context.forward {
            forward.tell_head(&self.house, &mut context.story);
            let live = context.story.live.as_ref().filter(|_| !is_leaving);
            let resting = live.and_then(|live| forward.resting(&self.house, live));
            if let Some(refusal) = resting {
                (status, code) = (refusal.status, refusal.code);
                extra = Extra::from(&refusal);
            }
        }
        session.set_keepalive(None);
        // A client that left meanwhile cannot be told.
        drop(reply::refuse(session, &mut context.story, shape, status, code, message, &extra).await);
        status
    }

    /// Tells the story, whatever way it ended.
    pub(super) fn end(&self, session: &Session, context: &mut Context) {
        if let Some(forward) = context.forward.take() {
            forward.tell(&self.house, &mut context.story);
        }
        let written = session.response_written().map(|head| head.status.as_u16());
        context.story.end(&self.house, written);
    }
}

/// What is said of a request that could not be answered.
fn told_of(error: &Error) -> (u16, ErrorCode, &'static str) {
    match error.etype() {
        _ if body::is_malformed(error) && *error.esource() == pingora::ErrorSource::Downstream => {
            (400, ErrorCode::ValidationFailed, body::MALFORMED)
        }
        ErrorType::HTTPStatus(400) => (400, ErrorCode::ValidationFailed, "the request target must be a path"),
        ErrorType::HTTPStatus(408) => (408, ErrorCode::ValidationFailed, body::TOO_SLOW),
        ErrorType::HTTPStatus(413) => (413, ErrorCode::PayloadTooLarge, body::TOO_LARGE),
        ErrorType::HTTPStatus(503) => {
            (503, ErrorCode::AllTargetsUnavailable, "the provider cannot be used now")
        }
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::HandshakeError
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert => match connect_fault(error) {
            TransportFault::Tls => (502, ErrorCode::UpstreamTls, "the provider's certificate or TLS failed"),
            fault => {
                let status = if fault == TransportFault::ConnectTimeout { 504 } else { 502 };
                (status, ErrorCode::UpstreamUnreachable, "the provider cannot be reached")
            }
        },
        ErrorType::ReadTimedout if *error.esource() == pingora::ErrorSource::Upstream => {
            (504, ErrorCode::DeadlineExceeded, "the provider was silent for too long")
        }
        ErrorType::WriteTimedout if *error.esource() == pingora::ErrorSource::Upstream => {
            (504, ErrorCode::DeadlineExceeded, "the provider did not take the request in time")
        }
        kind if *kind == ASTRAY => {
            (502, ErrorCode::UpstreamError, "the provider answered with a redirect, which is not followed")
        }
        kind if *kind == KEY_REFUSED => (502, ErrorCode::UpstreamAuth, reply::KEY_REFUSED),
        _ if *error.esource() == pingora::ErrorSource::Upstream => {
            (502, ErrorCode::UpstreamError, "the provider broke off before it answered")
        }
        _ => (500, ErrorCode::InternalError, "an internal error; please report it with the request id"),
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        self.context(Bytes::new())
    }

    /// No modules: Pingora's default adds a compressor that would look at every answer.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Hooked, context: &mut Context) -> pingora::Result<bool> {
        self.answer(session.as_downstream_mut(), context).await
    }

    async fn upstream_peer(
        &self,
        _session: &mut Hooked,
        context: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        let live = context.story.live.clone();
        let chosen = match (context.forward.as_mut(), live) {
            (Some(forward), Some(live)) => tokio::select! {
                biased;
                chosen = forward.peer(&self.house, &live) => chosen,
                () = self.house.parting.comes() => Err(NowhereToGo),
            },
            (Some(_), None) | (None, _) => Err(NowhereToGo),
        };
        chosen.map_err(|NowhereToGo| Error::explain(ErrorType::HTTPStatus(503), "no usable provider"))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Hooked,
        upstream: &mut RequestHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let Some(forward) = context.forward.as_mut() else { return Ok(()) };
        forward.upload.begin(session.as_downstream(), self.house.clock.tick());
        forward.rewrite(upstream)
    }

    async fn request_body_filter(
        &self,
        session: &mut Hooked,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let Context { story, forward, .. } = context;
        let (Some(forward), Some(live), Some(piece)) = (forward.as_mut(), story.live.as_ref(), body) else {
            return Ok(());
        };
        if !forward.upload.fits(piece.len(), live.plan.limits.max_body) {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "request body too large").into_in());
        }
        let now = self.house.clock.tick();
        if !forward.upload.keeps_pace(&self.pace, session.as_downstream(), now) {
            return Err(Error::explain(ErrorType::HTTPStatus(408), "request body too slow").into_in());
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Hooked,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> pingora::Result<()> {
        let Context { story, forward, .. } = context;
        if let (Some(forward), Some(live)) = (forward.as_mut(), story.live.clone()) {
            let status = response.status.as_u16();
            if status == 401 {
                let can_repeat = session.is_body_empty();
                let repeats = forward.key_refused(&self.house, &live, can_repeat).await;
                let mut error = Error::explain(KEY_REFUSED, "the provider refused our key").into_up();
                error.set_retry(repeats);
                return Err(error);
            }
            if framing::length(&response.headers) > framing::ANSWER_HEAD_MAX {
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, "a head without end").into_up());
            }
            if response.status.is_redirection() && status != 304 {
                forward.led_astray(&self.house, &live, status);
                return Err(Error::explain(ASTRAY, "the provider answered with a redirect").into_up());
            }
            if status >= 200 {
                // An HTTP/1.0 client knows no chunks (RFC 9112 section 6.1).
                if session.req_header().version == http::Version::HTTP_10 {
                    response.remove_header(&http::header::TRANSFER_ENCODING);
                }
                forward.answered(&self.house, &live, response)?;
                forward.tell_head(&self.house, story);
                story.answered(status);
                reply::sign(response, story)?;
            }
        }
        Ok(())
    }

    /// Nothing of what may stand behind a body is wanted: among a provider's fields there are its
    /// affairs and, where it repeats it, our key (threat P3).
    async fn response_trailer_filter(
        &self,
        _session: &mut Hooked,
        trailers: &mut HeaderMap,
        _context: &mut Context,
    ) -> pingora::Result<Option<Bytes>> {
        trailers.clear();
        Ok(None)
    }

    fn response_body_filter(
        &self,
        _session: &mut Hooked,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        context: &mut Context,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(forward) = context.forward.as_mut() {
            forward.body(body, end_of_stream, context.story.live.as_deref());
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Hooked,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let (Some(forward), Some(live)) = (context.forward.as_mut(), context.story.live.as_ref()) {
            let may_go_on = forward.unconnected(&self.house, live, &error);
            error.set_retry(may_go_on);
        }
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Hooked,
        mut error: Box<Error>,
        context: &mut Context,
        is_reused: bool,
    ) -> Box<Error> {
        // Only a kept connection that was dead before a byte came back proves that nothing was
        // processed, and only a request without a body can be sent again from here.
        let is_untouched = session.response_written().is_none() && session.is_body_empty();
        error.retry.decide_reuse(is_reused);
        let may_go_on = error.retry() && is_untouched;
        error.set_retry(may_go_on);
        if let (Some(forward), Some(live)) = (context.forward.as_mut(), context.story.live.as_ref()) {
            if may_go_on {
                forward.was_stale(&self.house);
                return error;
            }
            if [KEY_REFUSED, ASTRAY].contains(error.etype()) {
                // Told where its head was read.
                return error;
            }
            let outcome = match error.esource() {
                // Our own limit, in the middle of an upload: never counted against a target (row 32).
                pingora::ErrorSource::Internal
                    if matches!(error.etype(), ErrorType::HTTPStatus(408 | 413)) =>
                {
                    Outcome::ClientError
                }
                pingora::ErrorSource::Downstream if body::is_malformed(&error) => Outcome::ClientError,
                pingora::ErrorSource::Downstream if self.house.parting.has_begun() => Outcome::TimeoutTotal,
                pingora::ErrorSource::Downstream => Outcome::ClientGone,
                pingora::ErrorSource::Upstream
                | pingora::ErrorSource::Internal
                | pingora::ErrorSource::Unset => match (error.etype(), forward.has_head()) {
                    (ErrorType::ReadTimedout | ErrorType::WriteTimedout, false) => Outcome::TimeoutTotal,
                    (ErrorType::ReadTimedout, true) => Outcome::TimeoutStall,
                    (_, true) => Outcome::Truncated,
                    (_, false) => Outcome::Reset,
                },
            };
            let is_cut = forward.has_head() && outcome != Outcome::ClientGone;
            forward.broke(&self.house, live, outcome);
            if is_cut {
                context.story.was_interrupted();
            }
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Hooked, error: &Error, context: &mut Context) -> FailToProxy {
        let error_code = self.failed(session.as_downstream_mut(), error, context).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Hooked, _context: &Context, _error: &Error) -> bool {
        // Each request has its own line; Pingora's would repeat it with path, query and host.
        true
    }

    fn request_summary(&self, session: &Hooked, context: &Context) -> String {
        // Without the query, which may hold a key.
        format!(
            "{} {} id {}",
            session.req_header().method,
            session.req_header().uri.path(),
            context.story.id()
        )
    }

    async fn logging(&self, session: &mut Hooked, _error: Option<&Error>, context: &mut Context) {
        self.end(session.as_downstream(), context);
    }
}
