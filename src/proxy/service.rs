//! What is asked, by whom, and for which route?
//!
//! [`Proxy::serve`] answers everything that we read ourselves. What is passed through is admitted by
//! the same function and meets Pingora's hooks (`hooks`). Either way the story is told in one place,
//! whatever way it ended.

use super::body;
use super::carried::{self, Carried, Source};
use super::conduct::{self, Asked};
use super::decided::Lineup;
use super::forward::{self, Forward};
use super::framing;
use super::guess;
use super::hooks::Context;
use super::hop;
use super::line::{self, Effect};
use super::origin;
use super::pace::Pace;
use super::pages;
use super::refusal::{advice, goes_round, no_body, refuse, shape_of};
use super::reply::{self, Extra};
use super::story::Story;
use super::wishes::Wishes;
use crate::authenticate;
use crate::base::api::{Api, ErrorShape};
use crate::base::outcome::ErrorCode;
use crate::config::plan::{Client, Plan};
use crate::live::memory::Share;
use crate::live::{House, Live, Slot};
use crate::parse;
use crate::rewrite;
use crate::route::{self, Call, Endpoint, Named};
use crate::select::fit::Wish;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession as Session;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::time::Duration;

/// How long a client may pause inside its body (HTTP/2 has no read timeout of its own).
const READ_STALL: Duration = Duration::from_secs(60);

/// What a client calls a request. A static, because a name that is looked up as text is read first.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The data plane.
pub struct Proxy {
    pub(super) house: Arc<House>,
    pub(super) pace: Pace,
}

/// A call that may go to its targets.
struct Ready<'a> {
    slots: Vec<Arc<Slot>>,
    carried: Carried,
    asked: Asked<'a>,
    /// The memory that its body takes of what all share.
    share: Share,
}

impl Proxy {
    /// Makes the data plane of a house.
    #[must_use]
    pub fn new(house: Arc<House>, pace: Pace) -> Self {
        Proxy { house, pace }
    }

    /// Answers one request whose head has been read; tells whether the connection can carry another.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    pub(super) fn serve(&self, session: &mut Session, mut context: Context) -> impl Future<Output = bool> {
        async move {
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
    }

    /// Answers a request, or tells that it is to be passed through.
    pub(super) async fn answer(&self, session: &mut Session, context: &mut Context) -> pingora::Result<bool> {
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
        if is_chunked || house.is_draining() || framing::closes_after(session.req_header()) {
            session.set_keepalive(None);
        }
        let head = session.req_header();
        let endpoint = route::endpoint(head.method.as_str(), head.uri.path());
        let shape = shape_of(&endpoint, head);
        if let Some((status, message)) = framing::head_fault(head, live.plan.limits.max_header) {
            session.set_keepalive(None);
            let code = ErrorCode::ValidationFailed;
            return refuse(session, story, shape, status, code, message).await;
        }
        if framing::is_upgrade(&session.req_header().headers) {
            session.set_keepalive(None);
            let message = "this connection cannot become another protocol; call it with plain HTTP";
            return refuse(session, story, shape, 400, ErrorCode::ValidationFailed, message).await;
        }
        match endpoint {
            Endpoint::Health => pages::health(house, session, story, &live).await,
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
                let Some(wishes) = self.admit(session, story, &live, shape, is_call).await? else {
                    return Ok(true);
                };
                // Borrowed: whatever an async function is given has a place in it for as long as it lasts.
                match &endpoint {
                    Endpoint::Models | Endpoint::GeminiModels => {
                        pages::models(session, story, &live, shape).await
                    }
                    Endpoint::Model(id) | Endpoint::GeminiModel(id) => {
                        pages::model(session, story, &live, shape, id).await
                    }
                    Endpoint::PassThrough => self.pass_through(session, context, &live, shape).await,
                    Endpoint::Llm(call) => {
                        let came = &mut context.body;
                        self.call(session, story, &live, call, &wishes, came).await
                    }
                    Endpoint::Health
                    | Endpoint::NotFound
                    | Endpoint::BadPath(_)
                    | Endpoint::MethodNotAllowed(_) => Ok(true),
                }
            }
        }
    }

    /// Lets a client in, and returns what it wishes, or answers why not. Lists of models are no calls,
    /// and count towards no limit.
    async fn admit(
        &self,
        session: &mut Session,
        story: &mut Story,
        live: &Live,
        shape: ErrorShape,
        is_call: bool,
    ) -> pingora::Result<Option<Wishes>> {
        let head = session.req_header();
        if live.plan.clients.is_empty() && origin::is_foreign_page(&head.headers) {
            guess::refuse_page(&self.house, session, story, shape).await?;
            return Ok(None);
        }
        let presented = authenticate::presented(&head.headers, head.uri.query());
        let client = authenticate::check(&live.plan.clients, &presented);
        drop(presented);
        match client {
            Ok(client) => story.client = client,
            Err(fault) => {
                guess::refuse(&self.house, live, session, story, shape, fault).await?;
                return Ok(None);
            }
        }
        let mut wishes = Wishes::read(&session.req_header().headers);
        // Only of who may call: strangers fill no list of names.
        story.spending.by_device(wishes.device.take());
        story.guard = self.house.enter(live.plan.limits.in_flight);
        if story.guard.is_none() {
            session.set_keepalive(None);
            let extra = Extra { retry_after: Some(1), should_retry: Some(true), ..Extra::default() };
            let message = "too many requests are under way (limits.in_flight); try again in a second";
            reply::refuse(session, story, shape, 503, ErrorCode::RateLimited, message, &extra).await?;
            return Ok(None);
        }
        if let Some(client) = story.client.filter(|_| is_call).and_then(|at| live.plan.clients.get(at.at())) {
            match self.house.quotas.begin(client, self.house.clock.tick()) {
                Ok(turn) => story.turn = turn,
                Err(spent) => {
                    guess::refuse_spent(&self.house, session, story, shape, &spent).await?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(wishes))
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
        // It is a use of the default route like any other.
        let route = live.plan.default_route.map(|at| &*live.plan.route(at).name);
        if !client_may_use(&context.story, &live.plan, route.unwrap_or_default()) {
            session.set_keepalive(None);
            let message = "this path goes to the default route, which this key may not use";
            let code = ErrorCode::ModelNotFound;
            return refuse(session, &mut context.story, shape, 404, code, message).await;
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
        call: &Call,
        wishes: &Wishes,
        came: &mut Bytes,
    ) -> pingora::Result<bool> {
        // A function of its own: what it works with would stay there as long as the call takes.
        let Some(Ready { slots, carried, asked, share: _share }) =
            self.ready(session, story, live, call, wishes, std::mem::take(came)).await?
        else {
            return Ok(true);
        };
        conduct::conduct(&self.house, live, slots, &asked, carried, session, story).await
    }

    /// Reads a call and finds out who may be asked, or answers why nobody is.
    async fn ready<'a>(
        &self,
        session: &mut Session,
        story: &mut Story,
        live: &'a Arc<Live>,
        call: &Call,
        wishes: &Wishes,
        came: Bytes,
    ) -> pingora::Result<Option<Ready<'a>>> {
        let house = &*self.house;
        let api = call.api;
        let shape = api.dialect().error_shape();
        story.dialect = Some(api.dialect());
        if api == Api::CountTokens {
            story.spending.costs_nothing();
        }
        let Ok(hop) = hop::onward(house, &session.req_header().headers) else {
            return goes_round(session, story, shape).await.map(|_| None);
        };
        if session.req_header().headers.contains_key(http::header::CONTENT_ENCODING) {
            session.set_keepalive(None);
            let message = "compressed request bodies are not taken; send the body as it is";
            return refuse(session, story, shape, 415, ErrorCode::ValidationFailed, message)
                .await
                .map(|_| None);
        }
        let mut body = match body::read(house, session, &live.plan.limits, &self.pace, came).await {
            Ok(body) => body,
            Err(fault) => {
                story.body_was_read(house.clock.tick());
                return no_body(session, story, shape, fault).await.map(|_| None);
            }
        };
        let now = house.clock.tick();
        story.body_was_read(now);
        let mut parsed = match parse::body(api, &body.bytes) {
            // On the heap: it is moved, and every async function that has it keeps a place for it.
            Ok(parsed) => Box::new(parsed),
            Err(fault) => {
                let code = ErrorCode::ValidationFailed;
                return refuse(session, story, shape, 400, code, &fault.to_string()).await.map(|_| None);
            }
        };
        if let Some(in_path) = &call.in_path {
            parsed.model = Some(in_path.model.clone());
            parsed.stream = in_path.is_stream;
        }
        story.is_stream = parsed.stream;
        story.model.clone_from(&parsed.model);
        let Ok(named) = route::resolve(&live.plan, parsed.model.as_deref()) else {
            return self
                .unknown_model(session, story, live, shape, parsed.model.as_deref())
                .await
                .map(|_| None);
        };
        let Ok(tier) = wishes.tier() else {
            let message = "x-pointsman-tier must be fast, medium, large or reasoning";
            return refuse(session, story, shape, 400, ErrorCode::ValidationFailed, message)
                .await
                .map(|_| None);
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
            return self
                .unknown_model(session, story, live, shape, parsed.model.as_deref())
                .await
                .map(|_| None);
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
            return refuse(session, story, shape, 400, code, &message).await.map(|_| None);
        }
        if body.is_counted()
            && slots.iter().any(|slot| carried::api_of(live, slot, api) != api)
            && let Err(fault) = body.count_twice(house, &live.plan.limits)
        {
            return no_body(session, story, shape, fault).await.map(|_| None);
        }
        let (headers, query) = onward(session.req_header());
        let body::Body { bytes: body, share } = body;
        let asked = Asked {
            now,
            api,
            body,
            parsed,
            query,
            headers,
            hop,
            route,
            refuses_retry: wishes.refuses_retry,
            refuses_rescue: wishes.refuses_retry || wishes.refuses_rescue,
            within: wishes.within,
        };
        Ok(Some(Ready { slots, carried, asked, share }))
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
        let may = |name: &str| client_may_use(story, plan, name);
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
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
    // They last as long as the call.
    headers.shrink_to_fit();
    let query = head.uri.query().map(|query| rewrite::query_without_keys(query, &keys));
    (headers, query)
}

/// Tells whether the caller may use what goes by this name.
pub(super) fn client_may_use(story: &Story, plan: &Plan, name: &str) -> bool {
    let client: Option<&Client> = story.client.and_then(|at| plan.clients.get(at.at()));
    client.is_none_or(|client| authenticate::may_use(client, name))
}
