//! The loop: ask `exchange`, perform, report, until it is over.
//!
//! Decides nothing. For each step of the state machine it makes one attempt or waits, tells health
//! what came of it, and hands the failure back. At the end it delivers, relays, refuses or breaks
//! off, as the machine says.

use super::attempt::{End, Filtered, Held, Stage};
use super::carried::{self, Carried};
use super::downstream;
use super::echo;
use super::line;
use super::patience::{Patience, client_leaves};
use super::race;
use super::reply::{self, Extra, Framing};
use super::story::Story;
use super::telling::Telling;
use super::trial::{self, Over, Round};
use crate::base::api::{Api, Dialect};
use crate::base::outcome::{ErrorCode, Outcome};
use crate::base::secret::Secret;
use crate::base::time::Tick;
use crate::classify::{self, ProviderType};
use crate::config::plan::{Continues, Route};
use crate::exchange::ending::{self, Refusal};
use crate::exchange::{Ending, Exchange, Record, Rules, Step};
use crate::health::{Change, Resting};
use crate::live::keyring::Signature;
use crate::live::{House, Live, Slot};
use crate::parse::{Parsed, Replay};
use crate::select::{Candidate, Candidates};
use crate::wire::listing::Listing;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::protocols::http::ServerSession as Session;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// What a client asked for.
pub(super) struct Asked<'a> {
    /// When its body had been read.
    pub(super) now: Tick,
    pub(super) api: Api,
    pub(super) body: Bytes,
    pub(super) parsed: Box<Parsed>,
    pub(super) query: Option<String>,
    /// Client headers that may go upstream.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The processes that it passed, this one included.
    pub(super) hop: HeaderValue,
    pub(super) route: Option<&'a Route>,
    /// The client sent `x-pointsman-no-retry`: one attempt, and its end is the answer.
    pub(super) refuses_retry: bool,
    /// The client sent that, or `x-pointsman-no-rescue`.
    pub(super) refuses_rescue: bool,
    /// How long the client wants to wait, where it said so (`x-request-timeout-ms`).
    pub(super) within: Option<Duration>,
}

impl Asked<'_> {
    /// Returns what makes an array of a stream, where the client wants that and no events.
    pub(super) fn listing(&self) -> Option<Listing> {
        let is_gemini = self.api == Api::GenerateContent && self.parsed.stream;
        (is_gemini && !Listing::is_events(self.query.as_deref())).then(Listing::default)
    }
}

/// Longest list of targets in an explanation to a client, in bytes.
pub(super) const EXPLANATION: usize = 1500;

/// What a client is told whose answer had to be had whole, to be translated, and could not.
const NO_ROOM: &str = "there is no room to hold the answer beside others (limits.replay_memory); try again in a moment, or have it streamed";

/// Plays the request through.
#[allow(clippy::too_many_arguments, reason = "what `service` has found out, each its own")]
#[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
pub(super) fn conduct(
    house: &House,
    live: &Live,
    mut slots: Vec<Arc<Slot>>,
    asked: &Asked<'_>,
    mut carried: Carried,
    session: &mut Session,
    story: &mut Story,
) -> impl Future<Output = pingora::Result<bool>> {
    async move {
        let now = asked.now;
        house.budget.deposit(&live.plan.retry);
        let total = slots.first().map(|slot| live.plan.timeouts(asked.route, slot.target.provider).total);
        let total = total.unwrap_or_default();
        let rules = Rules {
            may_rescue: may_rescue(live, asked),
            deadline: now.after(asked.within.unwrap_or(total).min(total)),
            is_single: asked.refuses_retry,
            ..rules(live, &asked.parsed)
        };
        let can_be_taken_up = rules.may_rescue && rules.may_replay;
        let mut exchange = Exchange::new(rules, candidates(live, &slots, &story.lineup.groups));
        let mut patience = Patience::default();
        let mut held = None;
        let mut filtered = None;
        let mut told = can_be_taken_up.then(|| Telling::new(asked.api.dialect(), live.plan.rescue.hold));
        let hedge = live.plan.hedge(asked.route).filter(|_| exchange.could_hedge());
        if let Some(hedge) = hedge {
            house.hedges.deposit(hedge.max_ratio);
        }
        let mut step = exchange.start(now);
        let ending = loop {
            step = match step {
                Step::Try(order) => {
                    // Only the last refusal is ever told.
                    held = None;
                    let hedge = hedge.filter(|_| exchange.may_hedge());
                    let proving = match slots[order.candidate].purse {
                        // On the heap: few requests wait for a token, and none should carry the wait along.
                        Some(_) => {
                            let slot = &mut slots[order.candidate];
                            let deadline = exchange.deadline();
                            Box::pin(trial::prove_within(slot, house, deadline, session, &mut patience)).await
                        }
                        None => Ok(()),
                    };
                    let round = Round { house, live, slots: &slots, asked };
                    let mut stage = Stage {
                        session,
                        exchange: &mut exchange,
                        patience: &mut patience,
                        story,
                        told: &mut told,
                        carried: &mut carried,
                        filtered: &mut filtered,
                    };
                    let over = match hedge.filter(|_| proving.is_ok()) {
                        // On the heap: a request that is not hedged should not carry a second attempt.
                        Some(hedge) => Box::pin(race::run(&round, order, hedge.after, &mut stage)).await,
                        None => trial::alone(&round, order, proving, &mut stage).await,
                    };
                    let Over { at, mut end, changes, now, proved } = over;
                    stage.put_aside(at, &mut end);
                    if let Some(proved) = proved {
                        slots[at] = proved;
                    }
                    note(house, live, &slots, at, &changes);
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
                    let (is_gone, is_over) = tokio::select! {
                        () = client_leaves(session) => (true, false),
                        () = house.parting.comes() => (false, true),
                        () = patience.pass(&house.clock, until) => (false, false),
                    };
                    let now = house.clock.tick();
                    story.paused(now.since(from));
                    match (is_gone, is_over) {
                        (true, _) => exchange.client_gone(now),
                        // The process goes, as if the request's time were up.
                        (false, true) => exchange.resume(now.max(exchange.deadline())),
                        (false, false) => exchange.resume(now),
                    }
                }
                Step::End(ending) => break ending,
            };
            for (at, change) in exchange.take_changes() {
                note(house, live, &slots, at, &[change]);
            }
        };
        if exchange.budget_ran_dry() {
            house.metrics.retry_budget_exhausted();
        }
        let left = filtered.filter(|_| matches!(ending, Ending::Relay | Ending::Refuse(_)));
        let chosen = left.as_ref().map(|filtered| filtered.at);
        let result = if ending == Ending::Answered {
            Ok(true)
        } else {
            // On the heap: what is said when nobody answered is larger than the rest, and rare.
            let words = Words { held, filtered: left, told };
            Box::pin(conclude(house, live, &slots, &exchange, ending, words, asked, session, story)).await
        };
        let mut course = exchange.course(ending);
        course.chosen = chosen.or(course.chosen);
        let lost = carried.lost(live, &slots, exchange.records(), asked.api);
        story.conclude(slots, exchange.records(), course, lost);
        result
    }
}

/// What there is to say where nobody answered.
struct Words {
    /// The last refusal.
    held: Option<Box<Held>>,
    /// What a content filter left, which is better than any refusal.
    filtered: Option<Filtered>,
    /// What the client was told of a stream that broke.
    told: Option<Telling>,
}

/// The rules of a request as far as the plan and its body make them; its deadline is set by who asks.
pub(super) fn rules(live: &Live, parsed: &Parsed) -> Rules {
    Rules {
        retry: live.plan.retry,
        health: Arc::clone(&live.policy),
        may_replay: parsed.replay == Replay::Safe,
        may_rescue: false,
        is_single: false,
        deadline: Tick(u64::MAX),
    }
}

pub(super) fn candidates(live: &Live, slots: &[Arc<Slot>], groups: &[u32]) -> Candidates {
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

/// Tells each change of state, with who is asked instead: the next in the line that may be.
pub(super) fn note(house: &House, live: &Live, slots: &[Arc<Slot>], at: usize, changes: &[Change]) {
    let Some(slot) = slots.get(at).filter(|_| !changes.is_empty()) else { return };
    let now = house.clock.tick();
    let mut behind = slots.iter().skip(at + 1);
    let next = behind.find(|slot| slot.health.look(now, &live.policy).is_ok());
    for change in changes {
        house.tell_state(slot, change, next.map(|slot| slot.target.id.as_str()));
    }
}

#[allow(clippy::too_many_arguments, reason = "the last step of `conduct`")]
async fn conclude(
    house: &House,
    live: &Live,
    slots: &[Arc<Slot>],
    exchange: &Exchange,
    ending: Ending,
    words: Words,
    asked: &Asked<'_>,
    session: &mut Session,
    story: &mut Story,
) -> pingora::Result<bool> {
    let Words { held, filtered, told } = words;
    if let Some(filtered) = filtered {
        return relay_filtered((house, live), slots, exchange, filtered, asked, session, story).await;
    }
    let dialect = asked.api.dialect();
    match ending {
        Ending::Answered => Ok(true),
        Ending::Abandoned => {
            story.client_left();
            Err(gone())
        }
        Ending::Relay => {
            let at = exchange.records().last().map(|record| record.candidate);
            story.tell(house, slots, exchange.records(), at, house.clock.tick());
            match held {
                // Whatever its words, a provider's 401 would have the client rotate its own key.
                Some(held) if held.head.status == StatusCode::UNAUTHORIZED => {
                    let shape = dialect.error_shape();
                    let extra = Extra { should_retry: Some(false), ..Extra::default() };
                    let code = ErrorCode::UpstreamAuth;
                    reply::refuse(session, story, shape, 502, code, reply::KEY_REFUSED, &extra).await?;
                    Ok(true)
                }
                Some(held) if is_translated(live, slots, exchange.records().last(), asked) => {
                    let record = exchange.records().last();
                    refuse_translated(session, story, &held, record, dialect).await.map(|()| true)
                }
                Some(mut held) => {
                    let sent = at.and_then(|at| slots.get(at)).map(|slot| slot.keyring.current());
                    // Row 14: that it is too large comes under 429 as well, which SDKs repeat.
                    held.head.advise_against_retry();
                    relay(session, story, *held, (live, sent)).await.map(|()| true)
                }
                None => refuse_badly(session, story, asked).await.map(|()| true),
            }
        }
        Ending::Refuse(refusal) => {
            story.tell(house, slots, exchange.records(), None, house.clock.tick());
            let message = if refusal == ending::without_room() {
                format!("{NO_ROOM}; request id {}", story.id())
            } else {
                explain(house, live, slots, exchange, &refusal, asked, story)
            };
            let shape = dialect.error_shape();
            let provider_type = quota_type(house, live, slots, exchange, held.as_deref());
            let extra = Extra { provider_type, ..Extra::from(&refusal) };
            reply::refuse(session, story, shape, refusal.status, refusal.code, &message, &extra)
                .await
                .map(|()| true)
        }
        Ending::BreakOff(_) => {
            story.was_interrupted();
            // At a restart nobody else is to blame.
            let what = if house.parting.has_begun() {
                "this proxy is leaving and could not wait any longer for the end of the stream"
            } else {
                "the provider's stream broke off"
            };
            let message = format!("{what}; request id {}", story.id());
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
fn is_translated(live: &Live, slots: &[Arc<Slot>], record: Option<&Record>, asked: &Asked<'_>) -> bool {
    let said = record.filter(|record| record.status.is_some());
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
    let extra = Extra { should_retry: reply::is_repeated(status).then_some(false), ..Extra::default() };
    reply::refuse(session, story, shape, status, code, &message, &extra).await
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
    let verdict = classify::response(patterns, status, headers, &held.body, house.clock.wall());
    let is_told = |word: &ProviderType| {
        let holds = |key: &Secret| echo::holds(word.as_str().as_bytes(), key);
        !live.unquotable(&live.signatures()).any(holds)
    };
    verdict.provider_type.filter(is_told)
}

/// Passes a provider's own error on, less our keys should it say them: those that it was sent, and every
/// other.
async fn relay(
    session: &mut Session,
    story: &mut Story,
    held: Held,
    (live, sent): (&Live, Option<Arc<Signature>>),
) -> pingora::Result<()> {
    let Held { mut head, body, _share, .. } = held;
    let all: Vec<_> = sent.into_iter().chain(live.signatures()).collect();
    let body = echo::redacted(body, live.unquotable(&all));
    reply::complete(&mut head, Framing::Length(body.len() as u64), story)?;
    story.answered(head.status.as_u16());
    downstream::begin(session, head.into_pingora(), &[body], true).await.map_err(|_| gone())
}

/// Passes on what a content filter left of an answer, or its refusal, since nobody else had a better one.
async fn relay_filtered(
    (house, live): (&House, &Live),
    slots: &[Arc<Slot>],
    exchange: &Exchange,
    Filtered { at, held }: Filtered,
    asked: &Asked<'_>,
    session: &mut Session,
    story: &mut Story,
) -> pingora::Result<bool> {
    story.is_stream = asked.parsed.stream && held.is_answer();
    story.gives(at);
    story.tell(house, slots, exchange.records(), Some(at), house.clock.tick());
    let record = exchange.records().iter().rfind(|record| record.candidate == at);
    if !held.is_answer() && is_translated(live, slots, record, asked) {
        let dialect = asked.api.dialect();
        return refuse_translated(session, story, &held, record, dialect).await.map(|()| true);
    }
    let sent = slots.get(at).map(|slot| slot.keyring.current());
    relay(session, story, *held, (live, sent)).await.map(|()| true)
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
    story: &Story,
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
    let left_out = &story.lineup.left_out;
    if !left_out.is_empty() {
        text.push_str("; left out: ");
        line::tell(&mut text, left_out);
    }
    let _ = write!(text, "; request id {}, generation {}", story.id(), live.generation);
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
