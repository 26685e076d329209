//! One attempt, from the order to make it to what health is told of it.
//!
//! Counts it in and, however it ends, out again; dresses the request for its target; tells health
//! what came of it, where that says something of the target at all. [`alone`] makes one by itself;
//! [`super::race`] lets two run side by side.

use super::attempt::{self, Aim, End, Errand, Fault, Held, Stage};
use super::carried::{self, Carried, Homes, Rendering, Source};
use super::conduct::Asked;
use super::defaults;
use super::outgoing;
use super::patience::{Limit, Patience};
use super::reply;
use super::telling::Telling;
use crate::base::api::Api;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::config::plan::{Continues, Model, Timeouts};
use crate::exchange::{Cause, Failure, Try};
use crate::health::{Change, Permit, Report};
use crate::live::keyring::Signature;
use crate::live::{House, Live, Slot};
use crate::observe::meter::InFlight;
use crate::rewrite::{self, Rewritten};
use crate::wire::retry_hint::RetryHint;
use crate::wire::splice::{Splice, Way};
use pingora::protocols::http::ServerSession as Session;
use smallvec::SmallVec;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// What the attempts of one request share.
pub(super) struct Round<'a> {
    pub(super) house: &'a House,
    pub(super) live: &'a Live,
    pub(super) slots: &'a [Arc<Slot>],
    pub(super) asked: &'a Asked<'a>,
}

/// What came of an order.
pub(super) struct Over {
    /// Which candidate had the last word.
    pub(super) at: usize,
    pub(super) end: End,
    /// What that did to its health.
    pub(super) changes: SmallVec<[Change; 2]>,
    pub(super) now: Tick,
    /// The candidate's slot, where it got another proof meanwhile.
    pub(super) proved: Option<Arc<Slot>>,
}

/// No token could be had; the purse has said why.
pub(super) struct NoToken;

/// Puts a slot with the token in force in the place of one without, or with an older one.
pub(super) async fn prove(slot: &mut Arc<Slot>) -> Result<(), NoToken> {
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

/// The same, while the client is there and the request has time.
///
/// # Errors
/// How the attempt has ended with that.
pub(super) async fn prove_within(
    slot: &mut Arc<Slot>,
    house: &House,
    deadline: Tick,
    session: &mut Session,
    patience: &mut Patience,
) -> Result<(), Box<End>> {
    let proving = pin!(prove(slot));
    match patience.with(session, house, deadline, &Limit::UNWATCHED, |_| false, proving).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(no_token)) => Err(Box::new(End::Failed(no_token.into()))),
        Err(cut) => Err(Box::new(cut.into())),
    }
}

impl From<NoToken> for Fault {
    fn from(_: NoToken) -> Self {
        Fault::plain(Outcome::Auth)
    }
}

/// As which call a target is asked.
#[derive(Clone, Copy)]
pub(super) struct Tongue {
    api: Api,
    /// Whether that is another than the client's.
    is_translated: bool,
}

/// A request as it goes to a target.
pub(super) struct Letter {
    pub(super) tongue: Tongue,
    body: Rewritten,
    rendering: Option<Box<Rendering>>,
}

/// What sets one attempt apart.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) at: usize,
    pub(super) cause: Cause,
    wants_fresh: bool,
    pub(super) began: Tick,
    timeouts: Timeouts,
    reasons: bool,
}

/// An attempt on the books.
pub(super) struct Trial<'a> {
    pub(super) setting: Setting,
    pub(super) permit: Permit,
    /// Its slot, where that got another proof after it was begun.
    pub(super) proved: Option<Arc<Slot>>,
    signature: Arc<Signature>,
    round: &'a Round<'a>,
    counted: Counted<&'a Slot>,
}

/// Makes an attempt by itself. It is counted in before it is waited for: neither the order nor a second
/// place for the trial is in what waits.
pub(super) fn alone<'a>(
    round: &'a Round<'_>,
    order: Try,
    proving: Result<(), Box<End>>,
    stage: &'a mut Stage<'_>,
) -> impl Future<Output = Over> {
    let mut trial = Trial::begin(round, order);
    async move {
        let Prepared { aim, mut splice, errand } = match ready(round, &trial.setting, &trial.signature, stage)
        {
            Ok(ready) => ready,
            Err(fault) => return trial.unwritten(*fault),
        };
        let unsaid = |_| Box::new(End::Failed(Fault::plain(Outcome::ClientError)));
        let mut end = match proving.and_then(|()| errand.map_err(unsaid)) {
            Ok(errand) => attempt::run(&aim, stage, &mut trial.permit, &mut splice, errand).await,
            Err(end) => *end,
        };
        let (changes, now) = trial.conclude(&mut end, stage.carried).await;
        Over { at: trial.setting.at, end, changes, now, proved: None }
    }
}

/// An attempt that may begin.
struct Prepared<'a> {
    aim: Aim<'a>,
    /// How a broken stream is taken up, where it is to do that.
    splice: Option<Box<Splice>>,
    errand: pingora::Result<Box<Errand>>,
}

/// Readies an attempt. No part of [`alone`]: what it works with would stay there as long as the attempt
/// takes.
fn ready<'a>(
    round: &'a Round<'_>,
    setting: &'a Setting,
    signature: &'a Signature,
    stage: &mut Stage<'_>,
) -> Result<Prepared<'a>, Box<Fault>> {
    let mut letter = round.letter(setting, stage)?;
    let mut splice = None;
    if setting.cause.is_rescue() {
        splice = stage.told.as_mut().map(|told| take_up(round, setting, told, &mut letter));
    }
    let aim = round.aim(setting, letter.tongue, &round.slots[setting.at], signature);
    let errand = round.errand(&aim, setting, letter);
    Ok(Prepared { aim, splice, errand })
}

/// Asks a target to take up a broken stream.
fn take_up(round: &Round<'_>, setting: &Setting, told: &mut Telling, letter: &mut Letter) -> Box<Splice> {
    let more = match setting.cause {
        Cause::Continue => continued(letter, told, continues(round.live, &round.slots[setting.at])),
        Cause::First
        | Cause::Repeat
        | Cause::Resend
        | Cause::NewKey
        | Cause::WithoutThinking
        | Cause::Failover
        | Cause::Hedge
        | Cause::Restart => None,
    };
    let way = match more {
        Some(more) => {
            letter.body = more;
            Way::Continue
        }
        // Where the text cannot be put into the request, the target begins anew all the same.
        None => Way::Verify,
    };
    Box::new(Splice::new(told.told(), way))
}

impl<'a> Round<'a> {
    /// Writes the request for a target: the call as which it is asked, the body, and what says the
    /// answer in the client's dialect where that is another.
    ///
    /// # Errors
    /// Where it cannot be translated.
    pub(super) fn letter(&self, setting: &Setting, stage: &mut Stage<'_>) -> Result<Letter, Box<Fault>> {
        let Round { house, live, slots, asked } = *self;
        let slot = &slots[setting.at];
        let provider = live.plan.provider(slot.target.provider);
        let all = defaults::of(asked, provider);
        let source = Source {
            api: asked.api,
            body: &asked.body,
            parsed: &asked.parsed,
            defaults: &all,
            memory: &house.memory,
        };
        let mut letter = match stage.carried.write(live, slot, setting.at, &source) {
            None => {
                let taken = defaults::own(&all, live, slot, asked);
                let body = rewrite::body(&asked.body, &asked.parsed, &slot.target.model, &taken);
                let tongue = Tongue { api: asked.api, is_translated: false };
                Letter { tongue, body, rendering: None }
            }
            Some(Ok(written)) => {
                let others = slots.iter().chain(stage.story.lineup.left_out.iter().map(|left| &left.slot));
                let (homes, now) = (Homes::among(live, others, asked.api), house.clock.wall());
                let rendering = Rendering::new(asked.api, written, stage.story, now, homes, asked.listing());
                let tongue = Tongue { api: written.api(), is_translated: true };
                let taken = defaults::beside(&all, live, slot, tongue.api, written.beside);
                Letter { tongue, body: written.body(&taken), rendering: Some(rendering) }
            }
            Some(Err(why)) => {
                let message = format!("the request cannot be translated for {}: {why}", slot.target.id);
                let shape = asked.api.dialect().error_shape();
                let held = reply::invalid(shape, &message, stage.story.id()).ok();
                let held = held.map(|(head, body)| Box::new(Held::of_ours(head, body)));
                let failure = Failure { is_unsaid: true, ..Failure::plain(Outcome::ClientError) };
                return Err(Box::new(Fault { failure, held, ..Fault::plain(Outcome::ClientError) }));
            }
        };
        if letter.tongue.api == Api::Messages && stage.carried.is_plain(setting.at) {
            letter.body = rewrite::without_thinking(letter.body);
        }
        if let Some(Model { limits, .. }) = provider.models.get(&slot.target.model) {
            letter.body = rewrite::limited(letter.body, limits);
        }
        letter.body = rewrite::for_publisher(slot.kind, letter.tongue.api, letter.body);
        Ok(letter)
    }

    /// Puts a letter under its head, signed where the credential signs whole requests.
    pub(super) fn errand(
        &self,
        aim: &Aim<'_>,
        setting: &Setting,
        letter: Letter,
    ) -> pingora::Result<Box<Errand>> {
        let Letter { tongue, body, rendering } = letter;
        let head = outgoing::head(aim.slot, aim.signature, self.asked, tongue.api, body.len)?;
        let head = outgoing::signed(head, aim.slot, aim.signature, &body, || self.house.clock.wall())?;
        // An errand's cause says which connection it takes: a rescue on a fresh one goes as a resend.
        let cause = if setting.wants_fresh { Cause::Resend } else { setting.cause };
        Ok(Box::new(Errand { head, body, rendering, cause }))
    }

    /// Aims an attempt.
    pub(super) fn aim<'b>(
        &self,
        setting: &'b Setting,
        tongue: Tongue,
        slot: &'b Arc<Slot>,
        signature: &'b Signature,
    ) -> Aim<'b>
    where
        'a: 'b,
    {
        let parsed = &self.asked.parsed;
        Aim {
            house: self.house,
            live: self.live,
            slots: self.slots,
            slot,
            at: setting.at,
            dialect: tongue.api.dialect(),
            timeouts: &setting.timeouts,
            wants_stream: parsed.stream,
            wants_reasoning: setting.reasons,
            drops_rate_limits: self.slots.len() > 1,
            began: setting.began,
            signature,
            is_rescue: setting.cause.is_rescue(),
            // Of a translated request nobody writes how many.
            choices: if tongue.is_translated { 1 } else { parsed.n },
        }
    }

    /// How long an attempt may take until its first content, or its whole answer.
    pub(super) fn first_span(&self, setting: &Setting) -> Duration {
        let api = carried::api_of(self.live, &self.slots[setting.at], self.asked.api);
        let streams = self.asked.parsed.stream && attempt::comes_in_pieces(api.dialect());
        attempt::first_span(&setting.timeouts, streams, setting.reasons)
    }
}

impl<'a> Trial<'a> {
    /// Counts an attempt in.
    pub(super) fn begin(round: &'a Round<'a>, order: Try) -> Self {
        let slot = &round.slots[order.candidate];
        let began = round.house.clock.tick();
        let setting = Setting {
            at: order.candidate,
            cause: order.cause,
            wants_fresh: order.wants_fresh,
            began,
            timeouts: round.live.plan.timeouts(round.asked.route, slot.target.provider),
            reasons: wants_reasoning(round.live, slot, round.asked),
        };
        Trial {
            setting,
            permit: order.permit,
            proved: None,
            signature: slot.keyring.current(),
            round,
            counted: Counted::new(&**slot, round.house.clock, began),
        }
    }

    /// Notes that its slot got another proof.
    pub(super) fn proved(&mut self, slot: Arc<Slot>) {
        self.signature = slot.keyring.current();
        self.proved = Some(slot);
    }

    /// Aims it.
    pub(super) fn aim(&self, tongue: Tongue) -> Aim<'_> {
        let slot = self.proved.as_ref().unwrap_or(&self.round.slots[self.setting.at]);
        self.round.aim(&self.setting, tongue, slot, &self.signature)
    }

    /// Ends it before it was made: the request cannot be said to its target. That is no matter of
    /// health.
    pub(super) fn unwritten(&mut self, fault: Fault) -> Over {
        let now = self.round.house.clock.tick();
        self.counted.ended = (Outcome::ClientError, None, Some(now));
        Over { at: self.setting.at, end: End::Failed(fault), changes: SmallVec::new(), now, proved: None }
    }

    /// Counts it out and tells health what came of it; returns what that did there, and when.
    pub(super) async fn conclude(
        &mut self,
        end: &mut End,
        carried: &mut Carried,
    ) -> (SmallVec<[Change; 2]>, Tick) {
        let Round { house, live, asked, .. } = *self.round;
        let slot = self.proved.as_ref().unwrap_or(&self.round.slots[self.setting.at]);
        let Setting { began, timeouts, .. } = &self.setting;
        let (outcome, hint, account_wide) = match &*end {
            End::Delivered => (Outcome::Ok, RetryHint::None, false),
            End::Gone => (Outcome::ClientGone, RetryHint::None, false),
            End::Failed(f) => (f.failure.outcome, f.failure.hint, f.account_wide),
        };
        let now = house.clock.tick();
        if matches!(&*end, End::Failed(fault) if fault.failure.is_without_room) {
            return (SmallVec::new(), now);
        }
        self.counted.ended = (outcome, status_of(end), Some(now));
        if let End::Failed(fault) = end {
            // On the heap: it is rare, and would make every attempt's future larger.
            fault.failure.has_new_key = match outcome {
                _ if fault.failure.status.is_none() => false,
                Outcome::Auth => Box::pin(slot.keyring.renewed(&self.signature)).await,
                // What the former key spent, or was not allowed, is no matter of the one in force.
                Outcome::Quota | Outcome::Permission => slot.keyring.is_another_than(&self.signature),
                _ => false,
            };
            // A turn that is short because the client's patience is says nothing about the target:
            // else a client in a hurry could open breakers for everybody.
            let is_hurried = asked.within.is_some_and(|within| within < timeouts.total)
                && outcome == Outcome::TimeoutFirstContent
                && now < began.after(self.round.first_span(&self.setting));
            if fault.failure.has_new_key {
                // The change has ended rests.
                house.states_moved();
            }
            // Nor does a dead kept connection, nor what the provider did not touch, unless it asks for
            // calm, nor a key that is changed, nor a lost connection that another has told of.
            let is_free = fault.failure.is_stale || (fault.failure.is_disowned && hint == RetryHint::None);
            if is_free || fault.failure.has_new_key || fault.is_told || is_hurried {
                return (SmallVec::new(), now);
            }
        }
        if let End::Failed(Fault { failure, held: Some(held), .. }) = end {
            let own = (carried::api_of(live, slot, asked.api) == asked.api).then_some(asked.api);
            failure.refuses_thinking =
                carried.gives_thinking_up(self.setting.at, own, failure.status, &held.body);
        }
        let is_permanent = match &*end {
            End::Failed(Fault { held: Some(held), .. }) => {
                live.plan.permanent.cover(held.head.status, &held.body)
            }
            End::Failed(_) | End::Delivered | End::Gone => false,
        };
        let report = Report { outcome, hint, account_wide, is_permanent, began: *began };
        let permit = std::mem::take(&mut self.permit);
        let changes = slot.health.report(permit, &report, now, &live.policy, rand::random());
        if let (Outcome::Auth, None, Some(purse)) = (outcome, self.counted.ended.1, &slot.purse) {
            purse.missed();
        }
        (changes, now)
    }
}

fn continues(live: &Live, slot: &Slot) -> Continues {
    let models = &live.plan.provider(slot.target.provider).models;
    models.get(&slot.target.model).map_or(Continues::None, |model| model.continues)
}

/// Puts the text told so far into a request as its last message.
fn continued(letter: &Letter, told: &mut Telling, continues: Continues) -> Option<Rewritten> {
    let whole = letter.body.pieces.concat();
    let (text, is_marked) = (told.told().text(), continues == Continues::Prefix);
    let bytes = rewrite::with_continuation(letter.tongue.api, &whole, text, is_marked)?;
    Some(Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([bytes]) })
}

fn wants_reasoning(live: &Live, slot: &Slot, asked: &Asked<'_>) -> bool {
    let provider = live.plan.provider(slot.target.provider);
    asked.parsed.wants_reasoning
        || provider.models.get(&slot.target.model).is_some_and(|model| model.reasoning)
}

fn status_of(end: &End) -> Option<u16> {
    match end {
        End::Failed(fault) => fault.failure.status,
        End::Delivered | End::Gone => None,
    }
}

/// Counts an attempt in and, however it ends, out again.
pub(super) struct Counted<S: Deref<Target = Slot>> {
    slot: S,
    clock: Clock,
    began: Tick,
    /// Outcome and status, and when that was known; unless it is said, nobody waited for it any more.
    pub(super) ended: (Outcome, Option<u16>, Option<Tick>),
    _in_flight: InFlight,
}

impl<S: Deref<Target = Slot>> Counted<S> {
    pub(super) fn new(slot: S, clock: Clock, began: Tick) -> Self {
        slot.tally.began();
        let in_flight = slot.meter.in_flight();
        Counted { slot, clock, began, ended: (Outcome::ClientGone, None, None), _in_flight: in_flight }
    }
}

impl<S: Deref<Target = Slot>> Drop for Counted<S> {
    fn drop(&mut self) {
        let (outcome, status, at) = self.ended;
        let took = at.unwrap_or_else(|| self.clock.tick()).since(self.began);
        self.slot.tally.ended(outcome, status, took, || self.clock.wall());
    }
}
