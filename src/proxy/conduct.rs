//! The loop: ask `exchange`, perform, report, until it is over.
//!
//! Decides nothing. For each step of the state machine it makes one attempt or waits, tells health
//! what came of it, and hands the failure back. At the end it delivers, relays, refuses or breaks
//! off, as the machine says.

use super::attempt::{Attempt, End, Fault, Held};
use super::carried::{self, Carried, Rendering, Source};
use super::echo;
use super::line::{self, LeftOut};
use super::outgoing;
use super::patience::{Patience, client_leaves};
use super::reply::{self, Extra, Framing};
use super::story::Story;
use super::telling::Telling;
use crate::base::api::{Api, Dialect};
use crate::base::outcome::{ErrorCode, Outcome};
use crate::base::secret::Secret;
use crate::base::time::Tick;
use crate::classify::{self, ProviderType};
use crate::config::plan::{Continues, Model, Provider, Route};
use crate::exchange::ending::{self, Refusal};
use crate::exchange::{Cause, Ending, Exchange, Failure, Record, Rules, Step, Try};
use crate::health::{Change, Report, Resting};
use crate::live::{House, Live, Slot};
use crate::observe::lines::TargetStateLine;
use crate::parse::{Parsed, Replay};
use crate::rewrite::{self, Rewritten};
use crate::select::{Candidate, Candidates};
use crate::wire::listing::Listing;
use crate::wire::retry_hint::RetryHint;
use crate::wire::splice::{Splice, Way};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_proxy::Session;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

/// What a client asked for.
pub(super) struct Asked<'a> {
    pub(super) api: Api,
    pub(super) body: Bytes,
    pub(super) parsed: Parsed,
    pub(super) query: Option<String>,
    /// Client headers that may go upstream.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) route: Option<&'a Route>,
    /// The client sent `x-pointsman-no-rescue`.
    pub(super) refuses_rescue: bool,
    /// Targets that cannot serve this request.
    pub(super) left_out: LeftOut,
}

impl Asked<'_> {
    /// Returns what makes an array of a stream, where the client wants that and no events.
    fn listing(&self) -> Option<Listing> {
        let is_gemini = self.api == Api::GenerateContent && self.parsed.stream;
        (is_gemini && !Listing::is_events(self.query.as_deref())).then(Listing::default)
    }
}

/// Longest list of targets in an explanation to a client, in bytes.
pub(super) const EXPLANATION: usize = 1500;

/// Plays the request through.
#[allow(clippy::too_many_arguments, reason = "what `service` has found out, each its own")]
pub(super) async fn conduct(
    house: &House,
    live: &Live,
    mut slots: Vec<Arc<Slot>>,
    groups: &[u32],
    asked: &Asked<'_>,
    mut carried: Carried,
    session: &mut Session,
    story: &mut Story,
) -> pingora::Result<bool> {
    let now = house.clock.tick();
    house.budget.deposit(&live.plan.retry);
    let total = slots.first().map(|slot| live.plan.timeouts(asked.route, slot.target.provider).total);
    let rules = Rules {
        retry: live.plan.retry,
        health: live.policy,
        may_replay: asked.parsed.replay == Replay::Safe,
        may_rescue: may_rescue(live, asked),
        deadline: now.after(total.unwrap_or_default()),
    };
    let mut exchange = Exchange::new(rules, candidates(live, &slots, groups));
    let mut patience = Patience::default();
    let mut held = None;
    let can_be_taken_up = rules.may_rescue && rules.may_replay;
    let mut told = can_be_taken_up.then(|| Telling::new(asked.api.dialect(), live.plan.rescue.hold));
    let mut step = exchange.start(now);
    let ending = loop {
        step = match step {
            Step::Try(order) => {
                let at = order.candidate;
                let (end, changes, now) = attempt(
                    house,
                    live,
                    &mut slots,
                    asked,
                    order,
                    &mut carried,
                    session,
                    &mut exchange,
                    &mut patience,
                    &mut told,
                    story,
                )
                .await;
                note(house, &slots, at, &changes);
                match end {
                    End::Delivered => exchange.delivered(now),
                    End::Gone => exchange.client_gone(now),
                    End::Failed(fault) => {
                        held = fault.held;
                        exchange.rescuable(told.as_mut().is_some_and(|told| told.bar().is_none()));
                        told.as_mut().into_iter().for_each(Telling::broke);
                        exchange.failed(&fault.failure, now, &house.budget, rand::random())
                    }
                }
            }
            Step::Pause { until } => {
                let from = house.clock.tick();
                let is_gone = tokio::select! {
                    () = client_leaves(session) => true,
                    () = patience.pass(&house.clock, until) => false,
                };
                let now = house.clock.tick();
                story.paused(now.since(from));
                if is_gone { exchange.client_gone(now) } else { exchange.resume(now) }
            }
            Step::End(ending) => break ending,
        };
        for (at, change) in exchange.take_changes() {
            note(house, &slots, at, &[change]);
        }
    };
    if exchange.budget_ran_dry() {
        house.metrics.retry_budget_exhausted();
    }
    let result = match ending {
        Ending::Answered => Ok(true),
        // On the heap: what is said when nobody answered is larger than the rest, and rare.
        ending => {
            let said = conclude(house, live, &slots, &exchange, ending, held, told, asked, session, story);
            Box::pin(said).await
        }
    };
    story.conclude(slots, exchange.records());
    result
}

fn candidates(live: &Live, slots: &[Arc<Slot>], groups: &[u32]) -> Candidates {
    (0u32..)
        .zip(slots.iter().zip(groups))
        .map(|(at, (slot, group))| {
            let models = &live.plan.provider(slot.target.provider).models;
            (at, slot, group, models.get(&slot.target.model))
        })
        .map(|(at, slot, group, model)| Candidate {
            slot: at,
            group: *group,
            provider: slot.target.provider.0,
            model: Arc::clone(&slot.target.model),
            context: model.and_then(|model| model.context),
            continues: model.is_some_and(|model| model.continues != Continues::None),
            health: Arc::clone(&slot.health),
        })
        .collect()
}

#[allow(clippy::too_many_arguments, reason = "one step of `conduct`, with its parts borrowed apart")]
async fn attempt(
    house: &House,
    live: &Live,
    slots: &mut [Arc<Slot>],
    asked: &Asked<'_>,
    order: Try,
    carried: &mut Carried,
    session: &mut Session,
    exchange: &mut Exchange,
    patience: &mut Patience,
    told: &mut Option<Telling>,
    story: &mut Story,
) -> (End, SmallVec<[Change; 2]>, Tick) {
    let proving = match slots[order.candidate].purse {
        // On the heap: few requests wait for a token, and none should carry the wait along.
        Some(_) => Box::pin(prove(&mut slots[order.candidate])).await,
        None => Ok(()),
    };
    let slots = &*slots;
    let slot = &slots[order.candidate];
    let timeouts = live.plan.timeouts(asked.route, slot.target.provider);
    let began = house.clock.tick();
    let mut permit = order.permit;
    let _in_flight = slot.meter.in_flight();
    let mut counted = Counted::new(house, slot, began);
    let provider = live.plan.provider(slot.target.provider);
    let model = provider.models.get(&slot.target.model);
    let written = carry(live, slots, order.candidate, asked, carried, house, story);
    let (api, mut body, rendering) = match written {
        Ok(ready) => ready,
        Err(fault) => {
            let now = house.clock.tick();
            counted.ended = (Outcome::ClientError, None, Some(now));
            drop(permit);
            return (End::Failed(*fault), SmallVec::new(), now);
        }
    };
    if let Some(Model { limits, .. }) = model {
        body = rewrite::limited(body, limits);
    }
    let splice = told.as_mut().filter(|_| order.cause.is_rescue()).map(|told| {
        let more = match order.cause {
            Cause::Continue => continued(&body, told, continues(live, slot)),
            Cause::First
            | Cause::Repeat
            | Cause::Resend
            | Cause::NewKey
            | Cause::WithoutThinking
            | Cause::Failover
            | Cause::Restart => None,
        };
        let way = match more {
            Some(more) => {
                body = more;
                Way::Continue
            }
            // Where the text cannot be put into the request, the target begins anew all the same.
            None => Way::Verify,
        };
        Splice::new(told.told(), way)
    });
    let signature = slot.keyring.current();
    let head = outgoing::head(slot, &signature, asked, api, body.len)
        .and_then(|head| outgoing::signed(head, slot, &signature, &body, || house.clock.wall()));
    let mut end = match (proving, head) {
        (Err(NoToken), _) => {
            End::Failed(Fault { failure: Failure::plain(Outcome::Auth), account_wide: false, held: None })
        }
        (Ok(()), Ok(head)) => {
            let attempt = Attempt {
                house,
                live,
                slots,
                at: order.candidate,
                dialect: api.dialect(),
                timeouts,
                wants_stream: asked.parsed.stream,
                wants_reasoning: wants_reasoning(live, slot, asked),
                drops_rate_limits: slots.len() > 1,
                began,
                signature: &signature,
                session,
                exchange,
                patience,
                story,
                permit: &mut permit,
                told,
                splice,
                // Of a translated request nobody writes how many.
                choices: if rendering.is_some() { 1 } else { asked.parsed.n },
                rendering,
            };
            attempt.run(head, body, order.cause).await
        }
        (Ok(()), Err(_)) => End::Failed(Fault {
            failure: Failure::plain(Outcome::ClientError),
            account_wide: false,
            held: None,
        }),
    };
    let (outcome, hint, account_wide) = match &end {
        End::Delivered => (Outcome::Ok, RetryHint::None, false),
        End::Gone => (Outcome::ClientGone, RetryHint::None, false),
        End::Failed(f) => (f.failure.outcome, f.failure.hint, f.account_wide),
    };
    let now = house.clock.tick();
    counted.ended = (outcome, exchange_status(&end), Some(now));
    drop(counted);
    if let End::Failed(fault) = &mut end {
        // On the heap: it is rare, and would make every attempt's future larger.
        let is_refused = outcome == Outcome::Auth && fault.failure.status.is_some();
        fault.failure.has_new_key = is_refused && Box::pin(slot.keyring.renewed(&signature)).await;
        if fault.failure.is_stale || fault.failure.has_new_key {
            // A dead kept connection says nothing about the target, nor does a key that is changed.
            return (end, SmallVec::new(), now);
        }
    }
    if let End::Failed(Fault { failure, held: Some(held), .. }) = &mut end {
        failure.refuses_thinking = carried.gives_thinking_up(order.candidate, failure.status, &held.body);
    }
    let is_permanent = match &end {
        End::Failed(Fault { held: Some(held), .. }) => {
            live.plan.permanent.cover(held.head.status, &held.body)
        }
        End::Failed(_) | End::Delivered | End::Gone => false,
    };
    let report = Report { outcome, hint, account_wide, is_permanent, began };
    let changes = slot.health.report(permit, &report, now, &live.policy, rand::random());
    (end, changes, now)
}

/// A request as it goes to a target: the call, the body, and the way back into the client's dialect
/// where that is another.
type Ready = (Api, Rewritten, Option<Box<Rendering>>);

/// Writes the request for a target: the call as which it is asked, the body, and what says the answer
/// in the client's dialect where that is another.
fn carry(
    live: &Live,
    slots: &[Arc<Slot>],
    at: usize,
    asked: &Asked<'_>,
    carried: &mut Carried,
    house: &House,
    story: &Story,
) -> Result<Ready, Box<Fault>> {
    let slot = &slots[at];
    let provider = live.plan.provider(slot.target.provider);
    let defaults = defaults(asked, provider);
    let source = Source { api: asked.api, body: &asked.body, parsed: &asked.parsed, defaults: &defaults };
    match carried.write(live, slot, at, &source) {
        None => {
            let body = rewrite::body(&asked.body, &asked.parsed, &slot.target.model, &defaults);
            Ok((asked.api, body, None))
        }
        Some(Ok(written)) => {
            let all = slots.iter().chain(asked.left_out.iter().map(|(slot, _)| slot));
            let is_claude = |slot: &Arc<Slot>| carried::api_of(live, slot, Api::Messages) == Api::Messages;
            let now = house.clock.wall();
            let has_claude = all.clone().any(is_claude);
            let rendering = Rendering::new(asked.api, written, story, now, !has_claude, asked.listing());
            Ok((written.api(), written.body(&defaults), Some(rendering)))
        }
        Some(Err(why)) => {
            let message = format!("the request cannot be translated for {}: {why}", slot.target.id);
            let shape = asked.api.dialect().error_shape();
            let held = reply::invalid(shape, &message, story.id()).ok();
            let held = held.map(|(head, body)| Held { head, body });
            Err(Box::new(Fault { held, ..Fault::plain(Outcome::ClientError) }))
        }
    }
}

/// No token could be had; the purse has said why.
struct NoToken;

/// Puts a slot with the token in force in the place of one without, or with an older one.
async fn prove(slot: &mut Arc<Slot>) -> Result<(), NoToken> {
    match slot.prove().await {
        Ok(proved) => {
            *slot = proved;
            Ok(())
        }
        Err(fault) => {
            tracing::debug!(target = %slot.target.id, %fault, "no token");
            Err(NoToken)
        }
    }
}

/// Returns what is set where the client set nothing: the route's values come before the provider's.
fn defaults<'a>(asked: &Asked<'a>, provider: &'a Provider) -> Cow<'a, [(String, String)]> {
    let own = asked.route.map_or(&[][..], |route| &route.defaults);
    let streamed = if asked.parsed.stream { &*provider.stream_params } else { &[] };
    if provider.params.is_empty() && streamed.is_empty() {
        return Cow::Borrowed(own);
    }
    let mut all = own.to_vec();
    for (name, json) in streamed.iter().chain(&provider.params) {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.clone(), json.clone()));
        }
    }
    Cow::Owned(all)
}

/// Rescue is off for JSON output and more than one choice, for a route or a client that wants none.
fn may_rescue(live: &Live, asked: &Asked<'_>) -> bool {
    live.plan.rescue.enabled
        && asked.parsed.stream
        && asked.parsed.n == 1
        && !asked.parsed.wants_json
        && !asked.refuses_rescue
        // An array has no place for a comment at the seam, nor is it read back.
        && asked.listing().is_none()
        && !asked.route.is_some_and(|route| route.no_rescue)
}

fn continues(live: &Live, slot: &Slot) -> Continues {
    let models = &live.plan.provider(slot.target.provider).models;
    models.get(&slot.target.model).map_or(Continues::None, |model| model.continues)
}

/// Puts the text told so far into a request as its last message.
fn continued(body: &Rewritten, told: &mut Telling, continues: Continues) -> Option<Rewritten> {
    let whole = body.pieces.concat();
    let bytes = rewrite::with_continuation(&whole, told.told().text(), continues == Continues::Prefix)?;
    Some(Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([bytes]) })
}

/// Counts an attempt in and, however it ends, out again.
struct Counted<'a> {
    house: &'a House,
    slot: &'a Slot,
    began: Tick,
    ended: (Outcome, Option<u16>, Option<Tick>),
}

impl<'a> Counted<'a> {
    fn new(house: &'a House, slot: &'a Slot, began: Tick) -> Self {
        slot.tally.began();
        Counted { house, slot, began, ended: (Outcome::ClientGone, None, None) }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let (outcome, status, at) = self.ended;
        let took = at.unwrap_or_else(|| self.house.clock.tick()).since(self.began);
        self.slot.tally.ended(outcome, status, took, || self.house.clock.wall());
    }
}

fn exchange_status(end: &End) -> Option<u16> {
    match end {
        End::Failed(fault) => fault.failure.status,
        End::Delivered | End::Gone => None,
    }
}

fn wants_reasoning(live: &Live, slot: &Slot, asked: &Asked<'_>) -> bool {
    let provider = live.plan.provider(slot.target.provider);
    asked.parsed.wants_reasoning
        || provider.models.get(&slot.target.model).is_some_and(|model| model.reasoning)
}

/// Writes one line for each change of state.
pub(super) fn note(house: &House, slots: &[Arc<Slot>], at: usize, changes: &[Change]) {
    let Some(slot) = slots.get(at) else { return };
    for change in changes {
        let now = house.clock.now();
        let next = slots.get(at + 1).map(|slot| slot.target.id.as_str());
        house.log.target_state(&TargetStateLine {
            at: now.wall,
            target: slot.target.id.as_str(),
            from: change.from,
            to: change.to,
            reason: change.reason.as_label(),
            until: change.until.map(|until| now.wall_of(until)),
            next,
        });
    }
}

#[allow(clippy::too_many_arguments, reason = "the last step of `conduct`")]
async fn conclude(
    house: &House,
    live: &Live,
    slots: &[Arc<Slot>],
    exchange: &Exchange,
    ending: Ending,
    held: Option<Held>,
    told: Option<Telling>,
    asked: &Asked<'_>,
    session: &mut Session,
    story: &mut Story,
) -> pingora::Result<bool> {
    let dialect = asked.api.dialect();
    match ending {
        Ending::Answered => Ok(true),
        Ending::Abandoned => {
            story.client_left();
            Err(gone())
        }
        Ending::Relay => {
            let at = exchange.records().last().map(|record| record.candidate);
            story.tell(house, slots, exchange.records(), at);
            match held {
                // Whatever its words, a provider's 401 would have the client rotate its own key.
                Some(held) if held.head.status == StatusCode::UNAUTHORIZED => {
                    let shape = dialect.error_shape();
                    let extra = Extra { should_retry: Some(false), ..Extra::default() };
                    let code = ErrorCode::UpstreamAuth;
                    reply::refuse(session, story, shape, 502, code, reply::KEY_REFUSED, &extra).await?;
                    Ok(true)
                }
                Some(held) if is_translated(live, slots, exchange, asked) => {
                    let record = exchange.records().last();
                    refuse_translated(session, story, &held, record, dialect).await.map(|()| true)
                }
                Some(held) => {
                    let sent = at.and_then(|at| slots.get(at)).map(|slot| slot.keyring.current());
                    let keys = sent.as_ref().map_or(&[][..], |sent| sent.keys());
                    relay(session, story, held, keys).await.map(|()| true)
                }
                None => refuse_badly(session, story, asked).await.map(|()| true),
            }
        }
        Ending::Refuse(refusal) => {
            story.tell(house, slots, exchange.records(), None);
            let message = explain(house, live, slots, exchange, &refusal, asked, story.id());
            let shape = dialect.error_shape();
            let provider_type = quota_type(house, live, slots, exchange, held.as_ref());
            let extra = Extra { provider_type, ..Extra::from(&refusal) };
            reply::refuse(session, story, shape, refusal.status, refusal.code, &message, &extra)
                .await
                .map(|()| true)
        }
        Ending::BreakOff(_) => {
            story.was_interrupted();
            let message = format!("the provider's stream broke off; request id {}", story.id());
            if story.is_stream {
                let (tail, number) = told.map(|mut told| told.last_words()).unwrap_or_default();
                let number = if number == 0 { story.next_sequence } else { number };
                let form = (dialect, asked.listing().is_some());
                reply::break_off(session, form, tail, number, &message, story).await;
            }
            // An error, so that Pingora drops the connection instead of ending the body cleanly.
            Err(pingora::Error::explain(pingora::ErrorType::ConnectionClosed, "upstream stream lost"))
        }
    }
}

/// Tells whether what is to be relayed are a provider's words in another dialect than the client's.
fn is_translated(live: &Live, slots: &[Arc<Slot>], exchange: &Exchange, asked: &Asked<'_>) -> bool {
    let said = exchange.records().last().filter(|record| record.status.is_some());
    let slot = said.and_then(|record| slots.get(record.candidate));
    slot.is_some_and(|slot| carried::api_of(live, slot, asked.api) != asked.api)
}

/// Tells a refusal of another dialect by its class: its own words may speak of members that the
/// client never wrote.
async fn refuse_translated(
    session: &mut Session,
    story: &mut Story,
    held: &Held,
    record: Option<&Record>,
    dialect: Dialect,
) -> pingora::Result<()> {
    let (told, code) = record.map_or((502, ErrorCode::UpstreamError), ending::told);
    let said = held.head.status.as_u16();
    let status = if (400..500).contains(&said) { said } else { told };
    let outcome = record.map_or(Outcome::ClientError, |record| record.outcome);
    let what = match outcome {
        Outcome::ContextLength => "prompt is too long: it exceeds the maximum context length of the model",
        Outcome::ContentFiltered => "the provider's content filter refused the request",
        _ => "the provider refused the request, which was translated for it, as invalid",
    };
    let message = format!("{what} (status {said}, {}); request id {}", outcome.as_label(), story.id());
    let shape = dialect.error_shape();
    reply::refuse(session, story, shape, status, code, &message, &Extra::default()).await
}

fn gone() -> Box<pingora::Error> {
    pingora::Error::explain(pingora::ErrorType::ConnectionClosed, "client left").into_down()
}

/// What the provider called a used-up account, where that is the last word of the request: tools
/// tell by it that waiting does not help (failure table, row 9).
fn quota_type(
    house: &House,
    live: &Live,
    slots: &[Arc<Slot>],
    exchange: &Exchange,
    held: Option<&Held>,
) -> Option<ProviderType> {
    let last = exchange.records().last().filter(|record| record.outcome == Outcome::Quota)?;
    let (slot, held) = (slots.get(last.candidate)?, held?);
    let (status, headers) = (held.head.status.as_u16(), &held.head.headers);
    let patterns = &live.plan.provider(slot.target.provider).patterns;
    let verdict = classify::response(slot.kind, patterns, status, headers, &held.body, house.clock.wall());
    let is_told = |word: &ProviderType| {
        let holds = |key: &Secret| echo::holds(word.as_str().as_bytes(), key);
        !live.keyrings.iter().any(|ring| ring.current().keys().iter().any(holds))
    };
    verdict.provider_type.filter(is_told)
}

/// Passes a provider's own error on, less our keys should it echo them.
async fn relay(session: &mut Session, story: &mut Story, held: Held, keys: &[Secret]) -> pingora::Result<()> {
    let Held { mut head, body } = held;
    let body = echo::redacted(body, keys);
    reply::complete(&mut head, Framing::Length(body.len() as u64), story)?;
    story.answered(head.status.as_u16());
    reply::open(session, head, Some(body), true).await.map_err(|reply::Unwritable| gone())
}

async fn refuse_badly(session: &mut Session, story: &mut Story, asked: &Asked<'_>) -> pingora::Result<()> {
    let shape = asked.api.dialect().error_shape();
    let message = "the provider refused the request without a word";
    reply::refuse(session, story, shape, 502, ErrorCode::UpstreamError, message, &Extra::default()).await
}

/// Says which targets there are and what is wrong with each: names and reasons, never a provider's
/// own text.
fn explain(
    house: &House,
    live: &Live,
    slots: &[Arc<Slot>],
    exchange: &Exchange,
    refusal: &Refusal,
    asked: &Asked<'_>,
    id: &str,
) -> String {
    let now = house.clock.tick();
    let name = asked.route.map_or("this model", |route| &*route.name);
    let mut text = match refusal.code {
        ErrorCode::DeadlineExceeded => format!("gave up on \"{name}\" in time: "),
        _ if slots.len() == 1 => format!("the target of \"{name}\" is unavailable: "),
        _ => format!("all {} targets of \"{name}\" are unavailable: ", slots.len()),
    };
    for (at, (slot, resting)) in slots.iter().zip(exchange.standing(now)).enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let tried = exchange.records().iter().rev().find(|record| record.candidate == at);
        let reason = reason(tried, resting, now);
        let _ = write!(text, "{separator}{} {reason}", slot.target.id);
        if text.len() > EXPLANATION {
            text.push_str(", and more");
            break;
        }
    }
    if !asked.left_out.is_empty() {
        text.push_str("; left out: ");
        line::tell(&mut text, &asked.left_out);
    }
    let _ = write!(text, "; request id {id}, generation {}", live.generation);
    text
}

fn reason(tried: Option<&Record>, resting: Option<Resting>, now: Tick) -> String {
    let until = resting.and_then(Resting::until).map(|until| until.left(now).as_secs() + 1);
    match (tried, resting, until) {
        (Some(record), _, Some(seconds)) => format!("{} (again in {seconds} s)", record.outcome.as_label()),
        (Some(record), _, None) => record.outcome.as_label().to_owned(),
        (None, Some(resting), Some(seconds)) => format!("{} for {seconds} s", resting.as_label()),
        (None, Some(resting), None) => resting.as_label().to_owned(),
        (None, None, _) => "not tried".to_owned(),
    }
}
