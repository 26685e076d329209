//! What may the operator see and do?
//!
//! One HTTP listener of its own, never on a data address (contract section 4), as a Pingora
//! `HttpServerApp`: it needs no proxy, and the registry it shows is the instance's own.
//!
//! | room | its part |
//! |---|---|
//! | [`house`] | the trait through which it asks the rest of the program |
//! | [`view`] | what a target looks like from outside |
//! | `ask` | method and path to one of the things that can be asked |
//! | `gate` | who may ask: host names and the token |
//! | [`token`] | where the command line finds a token that was made at start |
//! | `usage` | what was used, and by which credential |
//! | `decisions` | why it went where it went, and where it would go |
//! | `page` | `/ui`, the page for a browser |
//! | `answer` | bodies, and `application/problem+json` |
//! | `stream` | events as they happen, as server-sent events |
//! | `openapi` | the description of all this for machines |
//!
//! **Who may ask.** Every writing verb wants the token. `livez`, `readyz` and `metrics` never do,
//! nor do the files of the page, which hold no data; everything else does where the listener can be
//! reached from other machines. On a loopback listener the `Host` must be a loopback name, so that a
//! web page cannot reach it through a name of its own that resolves to 127.0.0.1 (DNS rebinding,
//! threat A1). There is no CORS.
//!
//! **Limits.** [`BODY_BYTES_MAX`] and [`BODY_TIMEOUT`] a request body, `BUSY_MAX` requests at
//! once, `HEAD_TIMEOUT` until a head is whole, idle connections included. Who listens to events
//! holds none of these places: there are 16 of their own.
//!
//! Every writing call is noted in the audit log, refused ones too.

mod answer;
mod ask;
mod decisions;
mod gate;
pub mod house;
mod openapi;
mod page;
pub mod steward;
mod stream;
pub mod token;
mod usage;
pub mod view;

use crate::base::units::parse_duration;
use crate::observe::events::{ListenFault, Listener, RING};
use answer::{Answer, Head, problem};
use ask::{Ask, Lost};
use async_trait::async_trait;
use bytes::Bytes;
use gate::Fault;
use house::{Deed, House};
use http::{Method, Version};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use view::{ActFault, PinWish, Verb};

/// Longest request body but that of an `explain`, which may be a request of a coding tool and is
/// read up to 1 MiB once it is known who asks.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest time until a request body is whole.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time until a request head is whole, counted from the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(40);

/// Requests that are answered at once; more get a 503.
const BUSY_MAX: usize = 64;

/// How long an idle connection is kept, in seconds: longer than Prometheus' usual 15 s interval.
const KEEP_ALIVE_S: u64 = 30;

/// Longest time that a write may stand still.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time that a target may be pinned for; a longer one is meant to be for good.
const PIN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How it is told that there is no such target; the command line knows it by these words.
pub(crate) const NO_TARGET: &str = "no target is called";

/// Events on a page, where nobody says how many.
const EVENTS_SHOWN: usize = 50;

/// What goes back: at once, or bit by bit.
enum Reply {
    Whole(Answer),
    Stream(Listener),
}

/// The admin plane.
pub struct Admin<H> {
    house: Arc<H>,
    is_loopback: bool,
    hosts: Vec<String>,
    busy: Semaphore,
    body_timeout: Duration,
}

/// How reading a request's body ended.
enum Body {
    Whole(Vec<u8>),
    TooLarge,
    TooSlow,
}

impl<H: House> Admin<H> {
    /// Makes the admin plane of a listener at `address`. `hosts` are names, beside the loopback
    /// ones, by which a loopback listener may be called.
    #[must_use]
    pub fn new(house: Arc<H>, address: SocketAddr, hosts: Vec<String>) -> Self {
        Admin {
            house,
            is_loopback: address.ip().is_loopback(),
            hosts,
            busy: Semaphore::new(BUSY_MAX),
            body_timeout: BODY_TIMEOUT,
        }
    }

    /// Finds what is asked, and whether whoever asks may.
    fn judge(&self, head: &Head<'_>, asked: Result<Ask, Lost>) -> Result<Ask, Answer> {
        if self.is_loopback
            && let Err(fault) = gate::host(head, &self.hosts)
        {
            return Err(refusal(fault));
        }
        let wants_token = match &asked {
            Ok(Ask::Live | Ask::Ready | Ask::Metrics) => false,
            Ok(ask) => ask.is_writing() || self.house.needs_token_to_read(),
            Err(_) => self.house.needs_token_to_read(),
        };
        let token = self.house.token();
        if wants_token && let Err(fault) = gate::token(head.headers, token.as_ref()) {
            let is_page = matches!(asked, Ok(Ask::Page(_)));
            if !is_page {
                return Err(refusal(fault));
            }
            if !gate::password(head.headers, token.as_ref()) {
                return Err(page::challenge(refusal(fault)));
            }
        }
        asked.map_err(|lost| match lost {
            Lost::NotFound => problem(404, "nothing is at this path"),
            Lost::MalformedPath => problem(400, "the path has a malformed escape"),
            Lost::MethodNotAllowed(allow) => not_allowed(allow),
        })
    }

    /// Lets somebody listen to events.
    fn listen(&self, last_id: Option<&str>) -> Reply {
        match self.house.listen(last_id) {
            Ok(listener) => Reply::Stream(listener),
            Err(fault @ (ListenFault::Full | ListenFault::Closed)) => {
                Reply::Whole(problem(503, &fault.to_string()))
            }
        }
    }

    async fn tell(&self, ask: Ask, query: Option<&str>, body: &[u8]) -> Answer {
        let house = &self.house;
        match ask {
            Ask::Live => Answer::text("ok\n"),
            Ask::Ready => match house.is_ready() {
                Ok(()) => Answer::text("ok\n"),
                Err(why) => problem(503, &why),
            },
            Ask::Metrics => Answer::metrics(house.metrics()),
            Ask::Page(asset) => page::answer(asset),
            Ask::Status => Answer::json(&house.status()),
            Ask::Routes => Answer::json(&house.routes()),
            Ask::Config => Answer::json(&house.config()),
            Ask::Targets => Answer::json(&serde_json::json!({ "targets": house.targets() })),
            Ask::Target(id) => match house.targets().into_iter().find(|target| target.id == id) {
                Some(target) => Answer::json(&target),
                None => no_target_to_read(&id),
            },
            Ask::Events => page(house.as_ref(), query),
            Ask::OpenApi => openapi::answer(),
            Ask::Act(id, Verb::Pin) => match pin_wish(query) {
                Ok(wish) => act(house.pin(&id, &wish), &id),
                Err(why) => problem(400, &why),
            },
            Ask::Act(id, verb) => act(house.act(&id, verb), &id),
            // A step back that is misspelt must not read the file.
            Ask::Reload if !matches!(ask::parameter(query, "previous").as_deref(), None | Some("false")) => {
                problem(400, "previous must be true or false")
            }
            Ask::Reload => match house.reload().await {
                Ok(told) => Answer::json(&told),
                Err(faults) => problem(422, "the configuration was refused; the one before stays in force")
                    .with_errors(&faults),
            },
            Ask::Restore => match house.restore().await {
                Ok(told) => Answer::json(&told),
                Err(faults) => {
                    problem(409, "the configuration before cannot be gone back to").with_errors(&faults)
                }
            },
            Ask::Usage => match house.usage(query) {
                Ok(told) => Answer::json(&told),
                Err(why) => problem(400, &why),
            },
            Ask::ReportUsage => match house.report_usage(body) {
                Ok(told) => Answer::json(&told),
                Err(faults) => {
                    problem(422, "the reports were refused; none was counted").with_errors(&faults)
                }
            },
            Ask::Accounts => Answer::json(&house.accounts()),
            Ask::ProvidersStatus => Answer::json(&view::providers_status(&house.targets())),
            Ask::Decisions => decisions::list(&**house, query),
            Ask::Decision(id) => decisions::one(&**house, &id).await,
            Ask::Explain => decisions::explain(&**house, body),
            Ask::ResetProvider { model, provider } => self.reset_provider(&model, &provider),
        }
    }

    /// Resets every target of a provider that serves a model, or a route of that name.
    fn reset_provider(&self, model: &str, provider: &str) -> Answer {
        let is_meant = |target: &view::TargetView| {
            target.provider == provider
                && (target.model == model || target.routes.iter().any(|name| name == model))
        };
        let ids: Vec<String> =
            self.house.targets().into_iter().filter(is_meant).map(|target| target.id).collect();
        if ids.is_empty() {
            return problem(404, "no target of this provider serves this model or route");
        }
        let mut done = Vec::with_capacity(ids.len());
        for id in ids {
            match self.house.act(&id, Verb::Reset) {
                Ok(target) => done.push(target),
                Err(fault) => return act(Err(fault), &id),
            }
        }
        Answer::json(&serde_json::json!({ "targets": done }))
    }

    /// Reads the body; it is kept where it is a question.
    async fn take_body(session: &mut ServerSession, most: usize, is_kept: bool) -> pingora::Result<Body> {
        if session.get_header("expect").is_some() {
            session.write_continue_response().await?;
        }
        let (mut taken, mut kept) = (0, Vec::new());
        while let Some(part) = session.read_request_body().await? {
            taken += part.len();
            if taken > most {
                return Ok(Body::TooLarge);
            }
            if is_kept {
                kept.extend_from_slice(&part);
            }
        }
        Ok(Body::Whole(kept))
    }

    /// Serves one request; the answer is whether the connection can take another one.
    async fn serve(&self, session: &mut ServerSession) -> pingora::Result<bool> {
        let Ok(permit) = self.busy.try_acquire() else {
            return write(session, problem(503, "too many requests at once"), false).await;
        };
        let from = session.client_addr().and_then(|from| from.as_inet()).copied();
        let request = session.req_header();
        let head = Head {
            method: request.method.as_str(),
            path: request.uri.path(),
            query: request.uri.query(),
            authority: request.uri.authority().map(http::uri::Authority::as_str),
            may_lack_host: request.version < Version::HTTP_11,
            headers: &request.headers,
        };
        let read = ask::read(head.method, head.path).map(|ask| ask.with_query(head.query));
        let deed = read.as_ref().ok().and_then(Ask::deed);
        let has_token = deed.is_some() && gate::token(head.headers, self.house.token().as_ref()).is_ok();
        let asked = self.judge(&head, read);
        let query = head.query.map(str::to_owned);
        let listens = matches!(asked, Ok(Ask::Events)) && !wants_page(&head);
        let last_id = if listens { last_event_id(&head) } else { None };
        let is_question = matches!(asked, Ok(Ask::Explain));
        let is_kept = matches!(asked, Ok(Ask::Explain | Ask::ReportUsage));
        let most = if is_question { decisions::QUESTION_BYTES_MAX } else { BODY_BYTES_MAX };
        let body = match timeout(self.body_timeout, Self::take_body(session, most, is_kept)).await {
            Ok(body) => body?,
            Err(_) => Body::TooSlow,
        };
        let (reply, goes_on) = match (body, asked) {
            (Body::TooLarge, _) if is_question => {
                (Reply::Whole(problem(413, "the body is larger than 1 MiB")), false)
            }
            (Body::TooLarge, _) => (Reply::Whole(problem(413, "the body is larger than 64 KiB")), false),
            (Body::TooSlow, _) => (Reply::Whole(problem(408, "the body did not arrive in time")), false),
            (Body::Whole(_), Err(refusal)) => (Reply::Whole(refusal), true),
            (Body::Whole(_), Ok(Ask::Events)) if listens => (self.listen(last_id.as_deref()), true),
            (Body::Whole(body), Ok(ask)) => {
                (Reply::Whole(self.tell(ask, query.as_deref(), &body).await), true)
            }
        };
        if let (Some((verb, target)), Reply::Whole(answer)) = (deed, &reply) {
            let target = target.as_deref();
            self.house.wrote(&Deed { has_token, from, verb, target, status: answer.status });
        }
        match reply {
            Reply::Whole(answer) => write(session, answer, goes_on).await,
            Reply::Stream(listener) => {
                drop(permit);
                stream::tell(session, listener).await
            }
        }
    }
}

#[async_trait]
impl<H: House> HttpServerApp for Admin<H> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        match timeout(HEAD_TIMEOUT, session.read_request()).await {
            Ok(Ok(true)) => {}
            // Not a request: say so where somebody listens, and leave.
            Ok(Err(_)) => {
                let answer = problem(400, "this is no HTTP request");
                if let Ok(head) = head_of(&answer) {
                    let _ = session.write_error_response(head, Bytes::from(answer.body)).await;
                }
                return None;
            }
            Ok(Ok(false)) | Err(_) => return None,
        }
        // HTTP/1.0 reads until the connection closes; Pingora keeps it open if we do not say so.
        let is_last = *shutdown.borrow() || session.req_header().version < Version::HTTP_11;
        session.set_keepalive((!is_last).then_some(KEEP_ALIVE_S));
        match self.serve(&mut session).await {
            Ok(true) => {}
            Ok(false) => session.set_keepalive(None),
            Err(fault) => {
                tracing::debug!(error = %fault, "an admin request broke off");
                return None;
            }
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// The event that somebody heard last. A browser cannot set the header the first time, so the id may
/// stand in the query too; the header is what it sends when it comes back.
fn last_event_id(head: &Head<'_>) -> Option<String> {
    let header = head.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    header.or_else(|| ask::parameter(head.query, "after"))
}

async fn write(session: &mut ServerSession, answer: Answer, goes_on: bool) -> pingora::Result<bool> {
    if !goes_on {
        session.set_keepalive(None);
    }
    let answer = page::unless_known(answer, &session.req_header().headers);
    let head = head_of(&answer)?;
    let has_body = session.req_header().method != Method::HEAD && !answer.body.is_empty();
    // A head that names a length is held back by the listener's buffer until the body follows.
    session.write_response_header(Box::new(head)).await?;
    if has_body {
        session.write_response_body(Bytes::from(answer.body), true).await?;
    }
    Ok(goes_on)
}

fn head_of(answer: &Answer) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(answer.status, Some(16))?;
    head.insert_header("content-type", answer.content_type)?;
    // A length that a 304 tells is that of what it does not send.
    if answer.status != 304 {
        head.insert_header("content-length", answer.body.len())?;
    }
    head.insert_header("cache-control", "no-store")?;
    head.insert_header("x-content-type-options", "nosniff")?;
    if answer.status == 401 {
        head.insert_header("www-authenticate", "Bearer realm=\"pointsman admin\"")?;
    }
    for (name, value) in answer.headers {
        head.insert_header(*name, value)?;
    }
    if let Some(allow) = answer.allow {
        head.insert_header("allow", allow)?;
    }
    Ok(head)
}

/// Tells whether somebody wants the events as one page rather than as they happen.
fn wants_page(head: &Head<'_>) -> bool {
    let accepts = |kind: &str| {
        let mut said = head.headers.get_all("accept").iter().filter_map(|value| value.to_str().ok());
        said.any(|value| value.contains(kind))
    };
    accepts("application/json") && !accepts("text/event-stream")
}

/// The newest events on one page, newest first.
fn page(house: &impl House, query: Option<&str>) -> Answer {
    let limit = match ask::parameter(query, "limit").map(|text| text.parse::<usize>()) {
        None => EVENTS_SHOWN,
        Some(Ok(limit)) if (1..=RING).contains(&limit) => limit,
        Some(_) => return problem(400, "limit must be a whole number between 1 and 1000"),
    };
    let told = house.events(limit);
    let events: Vec<&str> = told.iter().rev().map(|told| told.json.as_str()).collect();
    Answer::json_text(&format!("{{\"events\":[{}]}}", events.join(",")))
}

fn pin_wish(query: Option<&str>) -> Result<PinWish, String> {
    let span = match ask::parameter(query, "for") {
        None => None,
        Some(text) => {
            let span = parse_duration(&text).map_err(|why| format!("for {why}"))?;
            if span.is_zero() || span > PIN_MAX {
                return Err("for must be between 1ms and 720h".to_owned());
            }
            Some(span)
        }
    };
    Ok(PinWish { route: ask::parameter(query, "route"), span })
}

fn act(done: Result<view::TargetView, ActFault>, id: &str) -> Answer {
    match done {
        Ok(target) => Answer::json(&target),
        Err(ActFault::UnknownTarget) => no_target(id),
        Err(ActFault::Refused(why)) => problem(409, &why),
    }
}

fn no_target(id: &str) -> Answer {
    problem(404, &format!("{NO_TARGET} {id:?}; GET /v1/targets lists them"))
}

/// Answers for what reads like a verb and is read: 405, where no target has that name.
fn no_target_to_read(id: &str) -> Answer {
    match ask::act_in(id) {
        Some(_) => not_allowed(ask::ALLOW_WRITE),
        None => no_target(id),
    }
}

fn not_allowed(allow: &'static str) -> Answer {
    problem(405, &format!("this path takes {allow}")).with_allow(allow)
}

fn refusal(fault: Fault) -> Answer {
    match fault {
        Fault::NoHost => problem(400, "the request has no Host, or more than one"),
        Fault::ForeignHost => problem(403, "this address answers to loopback names only"),
        Fault::NoToken => problem(401, "this wants the admin token: Authorization: Bearer <token>"),
        Fault::WrongToken => problem(401, "the admin token is wrong"),
        Fault::NoneConfigured => problem(403, "no admin token is set, so nothing can be changed here"),
    }
}

#[cfg(test)]
mod tests;
