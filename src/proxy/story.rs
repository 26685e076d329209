//! What is told about a request: its headers, its log line, its counters.
//!
//! Filled while the request runs, told once when it has ended, whatever way it ended. The log line
//! and the headers are rendered from the very records that `exchange` decided by, so that the two
//! cannot say different things.

mod chronicle;

use super::decided::{self, Lineup};
use super::line::First;
use super::spending::Spending;
use crate::base::api::Dialect;
use crate::base::ids::{ClientIdx, RouteIdx};
use crate::base::outcome::{ErrorCode, Outcome};
use crate::base::time::Tick;
use crate::exchange::course::Course;
use crate::exchange::{Cause, Record};
use crate::live::quotas::Turn;
use crate::live::{House, Live, Slot, UnderWay};
use crate::observe::lines::RequestLine;
use crate::observe::meter::RouteMeter;
use crate::observe::metrics::{HedgeResult, RescueResult};
use crate::observe::trail;
use crate::translate::Losses;
use http::HeaderValue;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Longest request id of a client that is kept (contract section 2).
const ID_LIMIT: usize = 128;
/// Length of an id of ours.
const ID_OURS: usize = uuid::fmt::Hyphenated::LENGTH;

/// The story of one request.
pub(super) struct Story {
    /// In its place: a new one is no longer.
    id: SmallVec<[u8; ID_OURS]>,
    began: Tick,
    /// When the body was there: what the deadline and the durations are reckoned from.
    pub(super) body_read: Option<Tick>,
    pub(super) live: Option<Arc<Live>>,
    pub(super) route: Option<RouteIdx>,
    pub(super) client: Option<ClientIdx>,
    pub(super) dialect: Option<Dialect>,
    pub(super) model: Option<String>,
    pub(super) is_stream: bool,
    pub(super) spending: Spending,
    /// The number of the next event of a stream, where the client's dialect counts them.
    pub(super) next_sequence: u64,
    /// What is told of the first choice.
    pub(super) first: First,
    pub(super) guard: Option<UnderWay>,
    /// Where the client has limits: what counts it, and its tokens.
    pub(super) turn: Option<Turn>,
    /// Who was left out of the line, and the groups of who was not.
    pub(super) lineup: Lineup,
    pub(super) course: Course,
    /// Whose answer the client got, where that is not the last one asked.
    given: Option<usize>,
    /// What candidates of other dialects were not told.
    pub(super) lost: Vec<(usize, Losses)>,
    pub(super) status: Option<u16>,
    /// Our own word to the client.
    pub(super) code: Option<ErrorCode>,
    told: Option<Told>,
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) records: Vec<Record>,
    /// How many of the records were told as events.
    chronicled: usize,
    paused: Duration,
    pub(super) is_client_gone: bool,
    pub(super) is_interrupted: bool,
    /// Health checks are neither counted nor logged as requests.
    is_quiet: bool,
}

/// How a request ended, for whoever adds it up.
pub(super) struct Ended<'a> {
    pub(super) route: Option<RouteIdx>,
    pub(super) client: Option<ClientIdx>,
    pub(super) dialect: Option<Dialect>,
    /// The status that the client got; 499 where it left.
    pub(super) status: u16,
    /// The candidates.
    pub(super) slots: &'a [Arc<Slot>],
    /// The one whose answer the client got, or the last one tried.
    pub(super) last: Option<usize>,
    pub(super) is_client_gone: bool,
    pub(super) is_interrupted: bool,
}

/// What the headers say about the target that answered and the way to it.
pub(super) struct Told {
    pub(super) target: Option<ToldTarget>,
    pub(super) attempts: u32,
    /// How many records that was, those included that came to no attempt.
    records: usize,
    pub(super) trail: String,
    slot: Option<Arc<Slot>>,
}

/// The target part of [`Told`], borrowed.
pub(super) struct ToldTarget {
    pub(super) is_fallback: bool,
    pub(super) is_degraded: bool,
    pub(super) breaker: &'static str,
    pub(super) response_ms: u64,
}

/// A reading of [`Told`] with names at hand.
pub(super) struct ToldView<'a> {
    pub(super) target: Option<TargetView<'a>>,
    pub(super) attempts: u32,
    pub(super) trail: &'a str,
}

/// A reading of [`ToldTarget`] with names at hand.
pub(super) struct TargetView<'a> {
    pub(super) provider: &'a HeaderValue,
    pub(super) model: Option<&'a HeaderValue>,
    pub(super) is_fallback: bool,
    pub(super) is_degraded: bool,
    pub(super) breaker: &'static str,
    pub(super) response_ms: u64,
}

impl Story {
    /// Begins a story.
    pub(super) fn begin(began: Tick) -> Self {
        Story {
            id: SmallVec::new(),
            began,
            body_read: None,
            live: None,
            route: None,
            client: None,
            dialect: None,
            model: None,
            is_stream: false,
            spending: Spending::default(),
            given: None,
            next_sequence: 0,
            first: First::default(),
            guard: None,
            turn: None,
            lineup: Lineup::default(),
            course: Course::default(),
            lost: Vec::new(),
            status: None,
            code: None,
            told: None,
            slots: Vec::new(),
            records: Vec::new(),
            chronicled: 0,
            paused: Duration::ZERO,
            is_client_gone: false,
            is_interrupted: false,
            is_quiet: false,
        }
    }

    /// Names the request: by the client's own id where that is `[A-Za-z0-9._-]{1,128}`, else by a
    /// new one from `wall_ms` and `dice`.
    pub(super) fn name(&mut self, offered: Option<&HeaderValue>, wall_ms: u64, dice: [u8; 10]) {
        let kept = offered.and_then(|value| value.to_str().ok()).filter(|text| is_harmless(text));
        let made = || {
            let made = uuid::Builder::from_unix_timestamp_millis(wall_ms, &dice).into_uuid();
            SmallVec::from_slice(made.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes())
        };
        self.id = kept.map_or_else(made, |kept| SmallVec::from_slice(kept.as_bytes()));
    }

    pub(super) fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    pub(super) fn id_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    pub(super) fn body_was_read(&mut self, now: Tick) {
        self.body_read = Some(now);
    }

    pub(super) fn paused(&mut self, span: Duration) {
        self.paused += span;
    }

    pub(super) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    pub(super) fn refused(&mut self, status: u16, code: ErrorCode) {
        self.status = Some(status);
        self.code = Some(code);
    }

    pub(super) fn client_left(&mut self) {
        self.is_client_gone = true;
    }

    pub(super) fn was_interrupted(&mut self) {
        self.is_interrupted = true;
    }

    pub(super) fn keep_quiet(&mut self) {
        self.is_quiet = true;
    }

    pub(super) fn told(&self) -> Option<ToldView<'_>> {
        let told = self.told.as_ref()?;
        let target = told.target.as_ref().zip(told.slot.as_ref()).map(|(target, slot)| TargetView {
            provider: &slot.provider_header,
            model: slot.model_header.as_ref(),
            is_fallback: target.is_fallback,
            is_degraded: target.is_degraded,
            breaker: target.breaker,
            response_ms: target.response_ms,
        });
        Some(ToldView { target, attempts: told.attempts, trail: &told.trail })
    }

    /// Puts down how far the exchange has come, for the headers of the answer that begins now.
    /// `answering` is the candidate whose answer it is, `None` where the answer is ours.
    pub(super) fn tell(
        &mut self,
        house: &House,
        slots: &[Arc<Slot>],
        records: &[Record],
        answering: Option<usize>,
        now: Tick,
    ) {
        self.chronicle(house, slots, records);
        let record = answering.and_then(|at| records.iter().rfind(|record| record.candidate == at));
        // That of a filtered answer is not the last, and has ended.
        let is_last = record.map(|record| record.began) == records.last().map(|record| record.began);
        let target = answering.zip(record).map(|(at, record)| ToldTarget {
            is_fallback: at != 0 || self.first.was_left_out,
            is_degraded: slots.get(at).is_some_and(|slot| self.is_degraded(slot)),
            breaker: slots
                .get(at)
                .zip(self.live.as_ref())
                .map_or("closed", |(slot, live)| slot.breaker(now, &live.policy).as_label()),
            response_ms: millis(if is_last { now } else { record.ended }.since(record.began)),
        });
        let trail = way(slots, records);
        let slot = answering.and_then(|at| slots.get(at)).cloned();
        self.told = Some(Told { target, attempts: contacts(records), records: records.len(), trail, slot });
    }

    /// Keeps the whole course, for the log, the counters and `why`.
    pub(super) fn conclude(
        &mut self,
        slots: Vec<Arc<Slot>>,
        records: &[Record],
        course: Course,
        lost: Vec<(usize, Losses)>,
    ) {
        self.slots = slots;
        self.records = records.to_vec();
        self.course = course;
        self.lost = lost;
    }

    /// Tells the story: counters and one line. Called once, when the request has ended.
    pub(super) fn end(&mut self, house: &House, written: Option<u16>) {
        self.guard = None;
        let turn = self.turn.take();
        let Some(live) = self.live.take() else { return };
        if self.is_quiet {
            return;
        }
        let at = house.clock.now();
        let now = at.tick;
        let status = if self.is_client_gone { 499 } else { self.status.or(written).unwrap_or(0) };
        let counted_from = self.body_read.unwrap_or(self.began);
        let took = now.since(counted_from);
        let overhead = self.overhead(now);
        let answering = self.answering().and_then(|record| self.slots.get(record.candidate)).cloned();
        let route = live.meters.route(self.route);
        let by = answering.as_ref().map(|slot| &*slot.meter);
        route.answered(self.dialect, status, by, took);
        house.metrics.overhead(overhead);
        if self.is_interrupted && self.is_stream {
            house.metrics.stream_interrupted(route);
        }
        self.count_attempts(house, &live);
        self.count_rescue(house, &live, route);
        self.count_hedge(house, route);
        let bill = self.spending.settle(house, &live, &self.ended(status), at.wall);
        if let Some(turn) = turn {
            turn.used(bill.used.input.unwrap_or(0).saturating_add(bill.used.output.unwrap_or(0)), now);
        }
        let retold;
        let trail = match &self.told {
            // Nothing happened since the headers were written: the same words.
            Some(told) if told.records == self.records.len() && self.has_ended_well() => &*told.trail,
            Some(_) | None => {
                retold = way(&self.slots, &self.records);
                &retold
            }
        };
        self.record(house, &live, (status, millis(took)), trail);
        let first_content = first_content(&self.records);
        let spent = self.spending.by_target(&self.slots);
        house.log.request(&RequestLine {
            at: at.wall,
            id: self.id(),
            route: self.route.map(|at| &*live.plan.route(at).name),
            client: self.client.and_then(|at| live.plan.clients.get(at.at())).map(|c| &*c.name),
            dialect: self.dialect,
            model: self.model.as_deref(),
            target: answering.as_ref().map(|slot| slot.target.id.as_str()),
            attempts: contacts(&self.records),
            trail,
            status,
            stream: self.is_stream,
            ttfc_ms: first_content.map(|at| millis(at.since(counted_from))),
            dur_ms: millis(took),
            overhead_us: u64::try_from(overhead.as_micros()).unwrap_or(u64::MAX),
            in_tokens: bill.used.input,
            out_tokens: bill.used.output,
            cost_usd: bill.cost_usd,
            spent: spent.as_deref(),
            degraded: answering.as_ref().is_some_and(|slot| self.is_degraded(slot)),
            generation: live.generation,
        });
        // Last: it takes the records along.
        decided::keep(house, self, &live, status, counted_from, at);
    }

    /// Tells whether a target's model is of a smaller size than the first choice's.
    fn is_degraded(&self, slot: &Slot) -> bool {
        self.first.tier.zip(slot.target.traits.tier).is_some_and(|(first, answering)| answering < first)
    }

    fn ended(&self, status: u16) -> Ended<'_> {
        Ended {
            route: self.route,
            client: self.client,
            dialect: self.dialect,
            status,
            slots: &self.slots,
            last: self.answering().map(|record| record.candidate),
            is_client_gone: self.is_client_gone,
            is_interrupted: self.is_interrupted,
        }
    }

    /// The attempt whose answer the client got, or the last one where it got none.
    pub(super) fn answering(&self) -> Option<&Record> {
        let given = self.given.and_then(|at| self.records.iter().rfind(|record| record.candidate == at));
        given.or(self.records.last())
    }

    pub(super) fn has_ended_well(&self) -> bool {
        self.given.is_some() || self.records.last().is_some_and(|record| record.outcome == Outcome::Ok)
    }

    /// Notes whose answer the client gets where that is not the last one asked.
    pub(super) fn gives(&mut self, candidate: usize) {
        self.given = Some(candidate);
    }

    /// What was spent on neither the client, nor a provider, nor a wait that the rules asked for.
    fn overhead(&self, now: Tick) -> Duration {
        let reading = self.body_read.map_or(Duration::ZERO, |at| at.since(self.began));
        let at_providers = if self.records.iter().any(|record| record.cause == Cause::Hedge) {
            covered(&self.records)
        } else {
            self.records.iter().map(|r| r.ended.since(r.began)).sum()
        };
        now.since(self.began).saturating_sub(reading).saturating_sub(at_providers).saturating_sub(self.paused)
    }

    fn count_attempts(&self, house: &House, live: &Live) {
        let route = live.meters.route(self.route);
        for record in self.records.iter().filter(|record| !record.is_unsaid) {
            let Some(slot) = self.slots.get(record.candidate) else { continue };
            if record.is_called_off {
                // It has no outcome; perhaps it is billed all the same.
                slot.meter.ambiguous();
                continue;
            }
            route.attempt(&slot.meter, record.outcome);
            if let Some(at) = record.first_content {
                route.first_content(&slot.meter, at.since(record.began));
            }
            if matches!(record.outcome, Outcome::TimeoutFirstContent | Outcome::Reset | Outcome::TimeoutTotal)
            {
                slot.meter.ambiguous();
            }
        }
        for change in chronicle::moves(&self.slots, &self.records) {
            house.metrics.failover(route, &change.from.meter, &change.to.meter, change.reason);
        }
    }

    fn count_rescue(&self, house: &House, live: &Live, route: &RouteMeter) {
        let was_tried = self.records.iter().any(|record| record.cause.is_rescue());
        let result = match (was_tried, self.is_interrupted) {
            (true, false) if !self.is_client_gone => RescueResult::Rescued,
            (true, true) => RescueResult::Failed,
            (false, true) if self.is_stream => RescueResult::NotPossible,
            _ => return,
        };
        house.metrics.rescue(route, result);
        self.tell_rescue(house, live, result);
    }

    fn count_hedge(&self, house: &House, route: &RouteMeter) {
        let Some(hedge) = self.records.iter().find(|record| record.cause == Cause::Hedge) else { return };
        let result = match (hedge.is_called_off, hedge.first_content) {
            (true, _) => HedgeResult::Lost,
            (false, Some(_)) => HedgeResult::Won,
            (false, None) => HedgeResult::Failed,
        };
        house.metrics.hedge(route, result);
    }
}

/// How often a provider was asked: not where the request could not be said in its dialect.
fn contacts(records: &[Record]) -> u32 {
    let count = records.iter().filter(|record| !record.is_unsaid).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// When the client's first content came: with a stream that was taken up, from the target that began it.
fn first_content(records: &[Record]) -> Option<Tick> {
    let began = records.iter().rposition(|record| !record.cause.is_rescue())?;
    records.get(began..)?.iter().find_map(|record| record.first_content)
}

/// The way of a request, as trail: one word for each attempt.
fn way(slots: &[Arc<Slot>], records: &[Record]) -> String {
    let is_race = records.iter().any(|record| record.cause == Cause::Hedge);
    let words: SmallVec<[_; 4]> = records
        .iter()
        .filter_map(|record| Some((slots.get(record.candidate)?, word(record, is_race))))
        .collect();
    trail::render(words.iter().map(|(slot, word)| (&*slot.provider, &*slot.credential, word.as_ref())))
}

/// The word of one attempt in the trail: the status a provider refused with, else the outcome. That
/// two ran side by side shows in `hedge_lost`, who was called off, and `hedge_` before the fault of
/// the second. Outside of a race we had no room for the answer.
fn word(record: &Record, is_race: bool) -> Cow<'static, str> {
    if record.is_called_off {
        return Cow::Borrowed(if is_race { "hedge_lost" } else { "called_off" });
    }
    let word = own_word(record);
    if record.cause == Cause::Hedge && record.outcome != Outcome::Ok {
        return Cow::Owned(format!("hedge_{word}"));
    }
    word
}

fn own_word(record: &Record) -> Cow<'static, str> {
    match record.status {
        Some(status) if record.outcome != Outcome::Ok && status >= 300 => Cow::Owned(status.to_string()),
        Some(_) | None => Cow::Borrowed(record.outcome.as_label()),
    }
}

/// The time during which at least one attempt ran.
fn covered(records: &[Record]) -> Duration {
    let mut spans: SmallVec<[_; 4]> = records.iter().map(|record| (record.began, record.ended)).collect();
    spans.sort_unstable();
    let mut until = Tick(0);
    let mut covered = Duration::ZERO;
    for (began, ended) in spans {
        covered += ended.since(began.max(until));
        until = until.max(ended);
    }
    covered
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn is_harmless(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= ID_LIMIT
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
