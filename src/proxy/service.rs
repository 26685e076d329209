//! What is asked, by whom, for which route; and the one `impl ProxyHttp`.
//!
//! [`Proxy::serve`] answers everything that we read ourselves. What is passed through is admitted by
//! the same function in `request_filter` and meets the remaining hooks. Either way the story is told
//! in one place, whatever way it ended.

use super::attempt::connect_fault;
use super::body::{self, BodyFault};
use super::carried::{self, Source};
use super::conduct::{self, Asked};
use super::decided::Lineup;
use super::forward::{self, Forward, NowhereToGo};
use super::framing::{self, FIELDS_MAX, TOO_MANY};
use super::guess;
use super::hop;
use super::line::{self, Effect};
use super::pace::Pace;
use super::reply::{self, Extra};
use super::story::Story;
use crate::authenticate;
use crate::base::api::{Api, ErrorShape};
use crate::base::outcome::{ErrorCode, Outcome};
use crate::classify::TransportFault;
use crate::config::plan::{Client, Plan};
use crate::exchange;
use crate::live::{House, Live, Slot};
use crate::parse;
use crate::rewrite;
use crate::route::{self, Call, Endpoint, Named};
use crate::select::fit::Wish;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::http::ServerSession as Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, Session as Hooked};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long a client may pause inside its body (HTTP/2 has no read timeout of its own).
const READ_STALL: Duration = Duration::from_secs(60);

/// How a provider's 401 to a request that is passed through goes from hook to hook.
const KEY_REFUSED: ErrorType = ErrorType::Custom("KeyRefused");

/// The data plane.
pub struct Proxy {
    house: Arc<House>,
    pace: Pace,
}

/// What a client may say of a request beside its body. Statics, because a name that is looked up as
/// text is read first.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static NO_RESCUE: HeaderName = HeaderName::from_static("x-pointsman-no-rescue");
static NO_RETRY: HeaderName = HeaderName::from_static("x-pointsman-no-retry");
static TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// What the hooks of one request share.
pub struct Context {
    story: Story,
    /// On the heap: calls have none.
    forward: Option<Box<Forward>>,
}

impl Proxy {
    /// Makes the data plane of a house.
    #[must_use]
    pub fn new(house: Arc<House>, pace: Pace) -> Self {
        Proxy { house, pace }
    }

    /// Answers one request whose head has been read; tells whether the connection can carry another.
    pub(super) async fn serve(&self, session: &mut Session) -> bool {
        let mut context = self.new_ctx();
        let answered = self.answer(session, &mut context).await;
        let fault = match answered {
            Ok(true) => None,
            // Only a path that is no path to `front` (a whole URI) and one that is passed through.
            Ok(false) => Some(Error::explain(ErrorType::HTTPStatus(400), "not an origin-form target")),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = &fault {
            self.failed(session, fault, &mut context).await;
        }
        self.end(session, &mut context);
        fault.is_none()
    }

    /// Tells a client whose request could not be answered, where there is still something to tell;
    /// returns the status.
    async fn failed(&self, session: &mut Session, error: &Error, context: &mut Context) -> u16 {
        let is_gone = *error.esource() == pingora::ErrorSource::Downstream;
        if is_gone {
            context.story.client_left();
        }
        if is_gone || session.response_written().is_some() {
            return 0;
        }
        let (status, code, message) = told_of(error);
        let shape = shape_of(&Endpoint::PassThrough, &session.req_header().headers);
        let has_new_key = context.forward.as_ref().is_some_and(|forward| forward.has_new_key());
        let should_retry = (code == ErrorCode::UpstreamAuth).then_some(has_new_key).or(advice(status));
        if let Some(forward) = &context.forward {
            forward.tell_head(&self.house, &mut context.story);
        }
        let retry_after = (status == 503).then_some(1);
        let extra = Extra { retry_after, should_retry, ..Extra::default() };
        session.set_keepalive(None);
        // A client that left meanwhile cannot be told.
        drop(reply::refuse(session, &mut context.story, shape, status, code, message, &extra).await);
        status
    }

    fn end(&self, session: &Session, context: &mut Context) {
        if let Some(forward) = context.forward.take() {
            forward.tell(&mut context.story);
        }
        let written = session.response_written().map(|head| head.status.as_u16());
        context.story.end(&self.house, written);
    }

    async fn answer(&self, session: &mut Session, context: &mut Context) -> pingora::Result<bool> {
        let house = &self.house;
        let live = house.live();
        let story = &mut context.story;
        story.live = Some(Arc::clone(&live));
        let offered = session.req_header().headers.get(&REQUEST_ID);
        let wall = u64::try_from(house.clock.wall().0).unwrap_or(0);
        story.name(offered, wall, rand::random());
        session.set_write_timeout(Some(self.pace.write));
        session.set_read_timeout(Some(READ_STALL));
        // Nothing is read as a request that others may have read as the end of a body (`framing`).
        let is_chunked = session.req_header().headers.contains_key(http::header::TRANSFER_ENCODING);
        if is_chunked || house.is_draining() || closes_after(session.req_header()) {
            session.set_keepalive(None);
        }
        let head = session.req_header();
        let endpoint = route::endpoint(head.method.as_str(), head.uri.path());
        let shape = shape_of(&endpoint, &head.headers);
        if let Some((status, message)) = head_fault(&head.headers, live.plan.limits.max_header) {
            session.set_keepalive(None);
            let code = ErrorCode::ValidationFailed;
            return refuse(session, story, shape, status, code, message).await;
        }
        if is_upgrade(&session.req_header().headers) {
            session.set_keepalive(None);
            let message = "this connection cannot become another protocol; call it with plain HTTP";
            return refuse(session, story, shape, 400, ErrorCode::ValidationFailed, message).await;
        }
        match endpoint {
            Endpoint::Health => self.health(session, story, &live).await,
            Endpoint::NotFound => {
                let message = "there is no such path here; see GET /v1/models for what is served";
                refuse(session, story, shape, 404, ErrorCode::ValidationFailed, message).await
            }
            Endpoint::BadPath(why) => {
                session.set_keepalive(None);
                refuse(session, story, shape, 400, ErrorCode::ValidationFailed, why).await
            }
            Endpoint::MethodNotAllowed(allow) => {
                let extra = Extra { allow: Some(allow), should_retry: advice(405), ..Extra::default() };
                let message = "this path does not take this method";
                let code = ErrorCode::ValidationFailed;
                session.set_keepalive(None);
                reply::refuse(session, story, shape, 405, code, message, &extra).await?;
                Ok(true)
            }
            Endpoint::Models
            | Endpoint::Model(_)
            | Endpoint::GeminiModels
            | Endpoint::GeminiModel(_)
            | Endpoint::PassThrough
            | Endpoint::Llm(_) => {
                let is_call = matches!(endpoint, Endpoint::Llm(_) | Endpoint::PassThrough);
                if !self.admit(session, story, &live, shape, is_call).await? {
                    return Ok(true);
                }
                match endpoint {
                    Endpoint::Models | Endpoint::GeminiModels => models(session, story, &live, shape).await,
                    Endpoint::Model(id) | Endpoint::GeminiModel(id) => {
                        model(session, story, &live, shape, &id).await
                    }
                    Endpoint::PassThrough => self.pass_through(session, context, &live, shape).await,
                    Endpoint::Llm(call) => self.call(session, story, &live, call).await,
                    Endpoint::Health
                    | Endpoint::NotFound
                    | Endpoint::BadPath(_)
                    | Endpoint::MethodNotAllowed(_) => Ok(true),
                }
            }
        }
    }

    /// Lets a client in, or answers why not. Lists of models are no calls, and count towards no limit.
    async fn admit(
        &self,
        session: &mut Session,
        story: &mut Story,
        live: &Live,
        shape: ErrorShape,
        is_call: bool,
    ) -> pingora::Result<bool> {
        let head = session.req_header();
        let presented = authenticate::presented(&head.headers, head.uri.query());
        let client = authenticate::check(&live.plan.clients, &presented);
        drop(presented);
        match client {
            Ok(client) => {
                story.client = client;
                // Only of who may call: strangers fill no list of names.
                story.spending.by_device(&session.req_header().headers);
            }
            Err(fault) => {
                guess::refuse(&self.house, live, session, story, shape, fault).await?;
                return Ok(false);
            }
        }
        story.guard = self.house.enter(live.plan.limits.in_flight);
        if story.guard.is_none() {
            session.set_keepalive(None);
            let extra = Extra { retry_after: Some(1), should_retry: Some(true), ..Extra::default() };
            let message = "too many requests are under way (limits.in_flight); try again in a second";
            reply::refuse(session, story, shape, 503, ErrorCode::RateLimited, message, &extra).await?;
            return Ok(false);
        }
        if let Some(client) = story.client.filter(|_| is_call).and_then(|at| live.plan.clients.get(at.at())) {
            match self.house.quotas.begin(client, self.house.clock.tick()) {
                Ok(turn) => story.turn = turn,
                Err(spent) => {
                    guess::refuse_spent(&self.house, session, story, shape, &spent).await?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn health(&self, session: &mut Session, story: &mut Story, live: &Live) -> pingora::Result<bool> {
        story.keep_quiet();
        let now = self.house.clock.tick();
        let usable = |slot: &Arc<Slot>| slot.health.look(now, &live.policy).is_ok();
        let routes = live.plan.routes.iter().filter(|route| !route.is_implicit);
        let mut any_down = false;
        let mut all_down = true;
        for route in routes {
            let mut targets = route
                .groups
                .iter()
                .flat_map(|g| &g.entries)
                .flat_map(|e| &e.targets)
                .filter_map(|t| live.slot(*t));
            let is_up = targets.any(usable);
            any_down |= !is_up;
            all_down &= !is_up;
        }
        let has_routes = live.plan.routes.iter().any(|route| !route.is_implicit);
        let all_slots_down = !live.slots.is_empty() && !live.slots.iter().any(usable);
        let any_slot_down = live.slots.iter().any(|slot| !usable(slot));
        let is_down = if has_routes { all_down } else { all_slots_down };
        let (status, word) = match (is_down, any_down || any_slot_down) {
            (true, _) => (503, "down"),
            (false, true) => (200, "degraded"),
            (false, false) => (200, "up"),
        };
        reply::page(session, story, status, json!({ "status": word }).to_string().into_bytes()).await?;
        Ok(true)
    }

    async fn pass_through(
        &self,
        session: &mut Session,
        context: &mut Context,
        live: &Live,
        shape: ErrorShape,
    ) -> pingora::Result<bool> {
        let slots = forward::choose(live);
        if slots.is_empty() {
            let message = "this path needs an openai-kind provider in the default route (default_route)";
            let code = ErrorCode::CapabilityNotSupported;
            session.set_keepalive(None);
            return refuse(session, &mut context.story, shape, 400, code, message).await;
        }
        let head = session.req_header();
        let Ok(hop) = hop::onward(&self.house, &head.headers) else {
            return goes_round(session, &mut context.story, shape).await;
        };
        let presented = authenticate::presented(&head.headers, head.uri.query());
        let keys = presented.all().into_iter().map(<[u8]>::to_vec).collect();
        drop(presented);
        match body::pass(session, live.plan.limits.max_body).await {
            Ok(()) => {
                context.forward = Some(Box::new(Forward::new(slots, keys, hop)));
                Ok(false)
            }
            Err(fault) => no_body(session, &mut context.story, shape, fault).await,
        }
    }

    /// A call whose body we read.
    async fn call(
        &self,
        session: &mut Session,
        story: &mut Story,
        live: &Arc<Live>,
        call: Call,
    ) -> pingora::Result<bool> {
        let house = &*self.house;
        let api = call.api;
        let shape = api.dialect().error_shape();
        story.dialect = Some(api.dialect());
        story.is_free = api == Api::CountTokens;
        let Ok(hop) = hop::onward(house, &session.req_header().headers) else {
            return goes_round(session, story, shape).await;
        };
        if session.req_header().headers.contains_key(http::header::CONTENT_ENCODING) {
            session.set_keepalive(None);
            let message = "compressed request bodies are not taken; send the body as it is";
            return refuse(session, story, shape, 415, ErrorCode::ValidationFailed, message).await;
        }
        let mut body = match body::read(house, session, &live.plan.limits, &self.pace).await {
            Ok(body) => body,
            Err(fault) => return no_body(session, story, shape, fault).await,
        };
        let now = house.clock.tick();
        story.body_was_read(now);
        let mut parsed = match parse::body(api, &body.bytes) {
            // On the heap: it is moved, and every async function that has it keeps a place for it.
            Ok(parsed) => Box::new(parsed),
            Err(fault) => {
                let code = ErrorCode::ValidationFailed;
                return refuse(session, story, shape, 400, code, &fault.to_string()).await;
            }
        };
        if let Some(in_path) = call.in_path {
            parsed.model = Some(in_path.model);
            parsed.stream = in_path.is_stream;
        }
        story.is_stream = parsed.stream;
        story.model.clone_from(&parsed.model);
        let Ok(named) = route::resolve(&live.plan, parsed.model.as_deref()) else {
            return self.unknown_model(session, story, live, shape, parsed.model.as_deref()).await;
        };
        let Ok(tier) = line::wished_tier(&session.req_header().headers) else {
            let message = "x-pointsman-tier must be fast, medium, large or reasoning";
            return refuse(session, story, shape, 400, ErrorCode::ValidationFailed, message).await;
        };
        let wish = Wish { needs: parsed.needs, tokens: parsed.tokens_estimate(), tier };
        let route = match &named {
            Named::Route(at) => {
                story.route = Some(*at);
                Some(live.plan.route(*at))
            }
            Named::Direct { .. } => None,
        };
        let name = route.map(|route| &*route.name).or(parsed.model.as_deref()).unwrap_or_default();
        if !client_may_use(story, &live.plan, name) {
            return self.unknown_model(session, story, live, shape, parsed.model.as_deref()).await;
        }
        if let Named::Route(at) = &named {
            self.house.route_used(live, *at, now);
        }
        let (slots, carried) = {
            let (body, memory) = (&body.bytes, &house.memory);
            let source = Source { api, body, parsed: &parsed, defaults: &[], memory };
            let (line, carried) = line::up(house, live, &named, &wish, &source, Effect::Real, now);
            story.first = line.first;
            let (slots, lineup) = Lineup::of(line);
            story.lineup = lineup;
            (slots, carried)
        };
        if slots.is_empty() {
            let left_out = &story.lineup.left_out;
            let code = line::code_of_nobody(left_out);
            let message = line::nobody(name, left_out, &wish, api.dialect());
            return refuse(session, story, shape, 400, code, &message).await;
        }
        if body.is_counted()
            && slots.iter().any(|slot| carried::api_of(live, slot, api) != api)
            && let Err(fault) = body.count_twice(house, &live.plan.limits)
        {
            return no_body(session, story, shape, fault).await;
        }
        let (headers, query) = onward(session.req_header());
        let refuses_retry = session.req_header().headers.contains_key(&NO_RETRY);
        let refuses_rescue = refuses_retry || session.req_header().headers.contains_key(&NO_RESCUE);
        let within = session.req_header().headers.get(&TIMEOUT);
        let within = within.and_then(|value| exchange::wish(value.as_bytes()));
        let body = std::mem::take(&mut body.bytes);
        let asked = Asked {
            now,
            api,
            body,
            parsed,
            query,
            headers,
            hop,
            route,
            refuses_retry,
            refuses_rescue,
            within,
        };
        conduct::conduct(house, live, slots, &asked, carried, session, story).await
    }

    async fn unknown_model(
        &self,
        session: &mut Session,
        story: &mut Story,
        live: &Live,
        shape: ErrorShape,
        model: Option<&str>,
    ) -> pingora::Result<bool> {
        let plan = &live.plan;
        let client = story.client.and_then(|at| plan.clients.get(at.at()));
        let may = |name: &str| client.is_none_or(|client| authenticate::may_use(client, name));
        let shown: String = model.unwrap_or("").chars().take(64).filter(|c| !c.is_control()).collect();
        let nearest = route::nearest(plan, model.unwrap_or(""), may);
        let hint = match nearest.first() {
            Some(name) => format!("did you mean \"{name}\"? "),
            None => String::new(),
        };
        let message = format!("no route serves model \"{shown}\"; {hint}GET /v1/models lists what is served");
        let extra = Extra { should_retry: Some(false), ..Extra::default() };
        reply::refuse(session, story, shape, 404, ErrorCode::ModelNotFound, &message, &extra).await?;
        Ok(true)
    }
}

/// What of a client's head goes on to a provider: headers and query, without what proves the client to us.
fn onward(head: &RequestHeader) -> (Vec<(HeaderName, HeaderValue)>, Option<String>) {
    let presented = authenticate::presented(&head.headers, head.uri.query());
    let keys = presented.all();
    let headers = rewrite::request_headers(&head.headers, &keys);
    let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
    let query = head.uri.query().map(|query| rewrite::query_without_keys(query, &keys));
    (headers, query)
}

/// What is said of a request that could not be answered.
fn told_of(error: &Error) -> (u16, ErrorCode, &'static str) {
    match error.etype() {
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
        kind if *kind == KEY_REFUSED => (502, ErrorCode::UpstreamAuth, reply::KEY_REFUSED),
        _ if *error.esource() == pingora::ErrorSource::Upstream => {
            (502, ErrorCode::UpstreamError, "the provider broke off before it answered")
        }
        _ => (500, ErrorCode::InternalError, "an internal error; please report it with the request id"),
    }
}

/// Tells tools not to try again what the client got wrong: it is as wrong the second time. A slow upload
/// may go better.
fn advice(status: u16) -> Option<bool> {
    (matches!(status, 400..=499) && !matches!(status, 408 | 429)).then_some(false)
}

async fn refuse(
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
async fn goes_round(session: &mut Session, story: &mut Story, shape: ErrorShape) -> pingora::Result<bool> {
    session.set_keepalive(None);
    refuse(session, story, shape, 508, ErrorCode::ValidationFailed, hop::LOOP).await
}

/// Answers a request without a body to work with.
async fn no_body(
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

fn client_may_use(story: &Story, plan: &Plan, name: &str) -> bool {
    let client: Option<&Client> = story.client.and_then(|at| plan.clients.get(at.at()));
    client.is_none_or(|client| authenticate::may_use(client, name))
}

/// What Google's SDKs send with every request; they ask for their list under `/v1` as well.
const GOOGLE_HEADERS: [&str; 2] = ["x-goog-api-client", "x-goog-api-key"];

/// Lists and errors are told in the caller's dialect also where the path does not say it:
/// Anthropic's SDKs always send their version, Google's their own headers.
fn shape_of(endpoint: &Endpoint, headers: &HeaderMap) -> ErrorShape {
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
            } else if GOOGLE_HEADERS.iter().any(|name| headers.contains_key(*name)) {
                ErrorShape::Google
            } else {
                ErrorShape::OpenAi
            }
        }
    }
}

/// An HTTP/1.0 client that did not ask for it expects the connection to be closed, and waits for
/// that; Pingora would keep it open.
fn closes_after(head: &RequestHeader) -> bool {
    head.version == http::Version::HTTP_10
        && !head
            .headers
            .get(http::header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// A client that asks for another protocol means to go on in it (threat C4). `h2c` is the exception:
/// Java's client offers it on every first request and is content with an answer in HTTP/1.1.
fn is_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::UPGRADE)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

fn head_fault(headers: &HeaderMap, max: u64) -> Option<(u16, &'static str)> {
    let bytes = framing::length(headers);
    if headers.len() > FIELDS_MAX {
        return Some((431, TOO_MANY));
    }
    (bytes as u64 > max).then_some((431, "the request head is larger than limits.max_header allows"))
}

/// One entry of the model list. The shape of OpenAI's and Anthropic's SDKs is one, so that a client
/// that shows neither dialect in its headers can read it too.
fn listed(shape: ErrorShape, name: &str) -> serde_json::Value {
    if shape == ErrorShape::Google {
        return json!({
            "name": format!("models/{name}"),
            "version": "1",
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        });
    }
    json!({
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "pointsman",
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    })
}

fn listed_routes<'a>(story: &Story, plan: &'a Plan) -> impl Iterator<Item = &'a str> {
    let client: Option<&Client> = story.client.and_then(|at| plan.clients.get(at.at()));
    plan.routes
        .iter()
        .map(|route| &*route.name)
        .filter(move |name| client.is_none_or(|client| authenticate::may_use(client, name)))
}

async fn models(
    session: &mut Session,
    story: &mut Story,
    live: &Live,
    shape: ErrorShape,
) -> pingora::Result<bool> {
    let data: Vec<_> = listed_routes(story, &live.plan).map(|name| listed(shape, name)).collect();
    let edge = |at: Option<&serde_json::Value>| at.and_then(|v| v.get("id")).cloned();
    let page = match shape {
        ErrorShape::Google => json!({ "models": data }),
        ErrorShape::OpenAi | ErrorShape::Anthropic => json!({
            "object": "list",
            "first_id": edge(data.first()),
            "last_id": edge(data.last()),
            "has_more": false,
            "data": data,
        }),
    };
    story.keep_quiet();
    reply::page(session, story, 200, page.to_string().into_bytes()).await?;
    Ok(true)
}

async fn model(
    session: &mut Session,
    story: &mut Story,
    live: &Live,
    shape: ErrorShape,
    id: &str,
) -> pingora::Result<bool> {
    story.keep_quiet();
    if listed_routes(story, &live.plan).any(|name| name == id) {
        reply::page(session, story, 200, listed(shape, id).to_string().into_bytes()).await?;
        return Ok(true);
    }
    let message = "no such model; GET /v1/models lists what is served";
    refuse(session, story, shape, 404, ErrorCode::ModelNotFound, message).await
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context { story: Story::begin(self.house.clock.tick()), forward: None }
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
            (Some(forward), Some(live)) => forward.peer(&self.house, &live).await,
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
        let Context { story, forward } = context;
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
        let Context { story, forward } = context;
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
            if status >= 200 {
                // An HTTP/1.0 client knows no chunks (RFC 9112 section 6.1).
                if session.req_header().version == http::Version::HTTP_10 {
                    response.remove_header(&http::header::TRANSFER_ENCODING);
                }
                forward.answered(&self.house, &live, response);
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
            forward.body(body, end_of_stream);
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
            let outcome = match error.esource() {
                // Our own limit, in the middle of an upload: never counted against a target (row 32).
                pingora::ErrorSource::Internal
                    if matches!(error.etype(), ErrorType::HTTPStatus(408 | 413)) =>
                {
                    Outcome::ClientError
                }
                pingora::ErrorSource::Downstream => Outcome::ClientGone,
                pingora::ErrorSource::Upstream
                | pingora::ErrorSource::Internal
                | pingora::ErrorSource::Unset => Outcome::Reset,
            };
            forward.broke(&self.house, live, outcome);
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
