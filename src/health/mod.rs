//! May this target be used now?
//!
//! Health has three scopes, and a target may be used only when all three allow it:
//!
//! * `endpoint` (host and port): connect, DNS and TLS faults, because they hit every key and model
//!   behind the address;
//! * `credential`: rejected keys, spent quota and limits that the provider calls account-wide;
//! * `target`: everything else. A 503 of one model never cools another model of the same host.
//!
//! Each scope is a [`Unit`]: a [`breaker`] for what we *infer* from failures, a [`rest`] for what
//! the provider *said*, and a [`climb`] for targets that were left with their retries exhausted.
//! They are kept apart on purpose: a Retry-After never resets breaker history, and a success that
//! began before a cooldown was set never clears it. A credential's breaker opens only for faults
//! that the operator calls permanent.
//!
//! [`Units::news`] tells each change of state once (`told`).
//!
//! [`Units::admit`] asks for leave and claims the half-open probe where one is due; the returned
//! [`Permit`] gives the claim back when it is dropped, so that a cancelled attempt cannot hold a
//! target shut. [`Units::report`] is the one place that turns an outcome into state (the cooldown
//! and breaker columns of the failure table).
//!
//! Pure: time, policy and dice are arguments.

pub mod breaker;
pub mod climb;
mod effect;
#[cfg(test)]
mod fixture;
pub mod permit;
pub mod rest;
mod told;

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::{BreakerPolicy, CooldownPolicy};
use crate::wire::retry_hint::RetryHint;
use breaker::{Breaker, BreakerState, Mark};
use climb::Climb;
pub use effect::is_shared;
use effect::{Effect, effect};
use parking_lot::Mutex;
pub use permit::Permit;
use rest::{Need, Rest};
use smallvec::SmallVec;
use std::sync::Arc;

/// The two policies that health decides by.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// For what is inferred.
    pub breaker: BreakerPolicy,
    /// For what the provider said.
    pub cooldown: CooldownPolicy,
}

/// What the operator wants of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// In use.
    #[default]
    Ready,
    /// Finishes what runs, takes no more.
    Drained,
    /// Taken out.
    Disabled,
}

/// Why a target may not be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resting {
    /// The provider said so, or a key or quota is spent.
    Cooling {
        /// When it ends.
        until: Tick,
        /// What was said.
        reason: Outcome,
    },
    /// The breaker is open.
    Open {
        /// When a probe is due.
        until: Tick,
        /// The last failure.
        reason: Outcome,
    },
    /// The breaker is half open and its probe is under way.
    Probing,
    /// The operator drained it.
    Drained,
    /// The operator disabled it.
    Disabled,
}

impl Resting {
    /// Returns when it ends, where that is known.
    #[must_use]
    pub fn until(self) -> Option<Tick> {
        match self {
            Resting::Cooling { until, .. } | Resting::Open { until, .. } => Some(until),
            Resting::Probing | Resting::Drained | Resting::Disabled => None,
        }
    }

    /// Returns the word for the state: `cooling`, `open`, `half_open`, `drained`, `disabled`.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Resting::Cooling { .. } => Stance::COOLING,
            Resting::Open { .. } => "open",
            Resting::Probing => Stance::HALF_OPEN,
            Resting::Drained => "drained",
            Resting::Disabled => "disabled",
        }
    }

    /// Returns the outcome that led here, where one did.
    #[must_use]
    pub fn reason(self) -> Option<Outcome> {
        match self {
            Resting::Cooling { reason, .. } | Resting::Open { reason, .. } => Some(reason),
            Resting::Probing | Resting::Drained | Resting::Disabled => None,
        }
    }
}

/// How a unit or a target stands, in one word: for the log, the pages and the operator alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It may be used. So may one whose first try after a rest is under way: whether somebody is
    /// just trying is no state to be told.
    Ready,
    /// Its breaker lets a probe through.
    HalfOpen,
    /// It may not.
    Resting(Resting),
}

impl Stance {
    /// The word for who never had trouble, or has it no more.
    pub const READY: &str = "ready";
    const COOLING: &str = "cooling";
    const HALF_OPEN: &str = "half_open";

    /// Returns how it stands, of what a look and its breaker say.
    #[must_use]
    pub fn of(resting: Option<Resting>, breaker: BreakerState) -> Self {
        match (resting, breaker) {
            (None | Some(Resting::Probing), BreakerState::Closed) => Stance::Ready,
            (None | Some(Resting::Probing), BreakerState::HalfOpen | BreakerState::Open) => Stance::HalfOpen,
            (Some(resting), _) => Stance::Resting(resting),
        }
    }

    /// Returns the word.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Stance::Ready => Stance::READY,
            Stance::HalfOpen => Stance::HALF_OPEN,
            Stance::Resting(resting) => resting.as_label(),
        }
    }
}

/// Which scope a unit or a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Provider × credential × model.
    Target,
    /// One key.
    Credential,
    /// Host and port.
    Endpoint,
}

impl Scope {
    /// Returns the word for logs.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Scope::Target => "target",
            Scope::Credential => "credential",
            Scope::Endpoint => "endpoint",
        }
    }
}

/// A change of state, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub scope: Scope,
    /// State before.
    pub from: &'static str,
    /// State after.
    pub to: &'static str,
    /// What brought it about.
    pub reason: Outcome,
    /// When it ends, where it ends by itself.
    pub until: Option<Tick>,
}

/// The health of one endpoint, credential or target.
#[derive(Debug, Default)]
pub struct Unit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    breaker: Breaker,
    rest: Rest,
    climb: Climb,
    operation: Operation,
    last_fault: Option<(Tick, Outcome)>,
    told: told::Told,
}

impl State {
    fn look(&self, now: Tick, policy: &BreakerPolicy) -> Result<(), Resting> {
        self.look_in(Need::Usual, now, policy)
    }

    fn look_in(&self, need: Need, now: Tick, policy: &BreakerPolicy) -> Result<(), Resting> {
        match self.operation {
            Operation::Ready => {}
            Operation::Drained => return Err(Resting::Drained),
            Operation::Disabled => return Err(Resting::Disabled),
        }
        // The operator's ladder is no guess of ours.
        if self.climb.at(now).is_some()
            && let Some((until, reason)) = self.cooling(now)
        {
            return Err(Resting::Cooling { until, reason });
        }
        self.rest.look(now, need)?;
        self.breaker.look(now, policy)
    }

    /// The later of the provider's word and the ladder.
    fn cooling(&self, now: Tick) -> Option<(Tick, Outcome)> {
        let (said, climbed) = (self.rest.at(now), self.climb.at(now));
        [said, climbed].into_iter().flatten().max_by_key(|(until, _)| *until)
    }
}

/// A reading of one unit, for pages and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether and why not it may be used.
    pub resting: Option<Resting>,
    /// Its breaker.
    pub breaker: BreakerState,
    /// When the provider's word ends, where it has not.
    pub cooling_until: Option<Tick>,
    /// The last fault and when it was.
    pub last_fault: Option<(Tick, Outcome)>,
}

impl Unit {
    /// Returns how the unit stands.
    pub fn read(&self, now: Tick, policy: &Policy) -> Reading {
        let state = self.0.lock();
        Reading {
            resting: state.look(now, &policy.breaker).err(),
            breaker: state.breaker.state(now, &policy.breaker),
            cooling_until: state.cooling(now).map(|(until, _)| until),
            last_fault: state.last_fault,
        }
    }

    /// Returns the state of the breaker alone.
    pub fn breaker(&self, now: Tick, policy: &BreakerPolicy) -> BreakerState {
        self.0.lock().breaker.state(now, policy)
    }

    /// Sets what the operator wants.
    pub fn operate(&self, operation: Operation) {
        self.0.lock().operation = operation;
    }

    /// Forgets breaker, cooldown and ladder; what the operator wants stays.
    pub fn reset(&self) {
        let mut state = self.0.lock();
        state.breaker = Breaker::default();
        state.rest = Rest::default();
        state.climb = Climb::default();
    }

    /// Ends a rest for a rejected key or a spent quota, because the key was changed; a credential's
    /// breaker, which opens for nothing else, closes.
    pub fn key_changed(&self) {
        let mut state = self.0.lock();
        state.rest.end(&[Outcome::Auth, Outcome::Permission, Outcome::Quota]);
        state.breaker = Breaker::default();
    }
}

/// The units that a target depends on.
#[derive(Clone, Debug)]
pub struct Units {
    /// Its own.
    pub target: Arc<Unit>,
    /// Its credential's.
    pub credential: Arc<Unit>,
    /// Its endpoint's.
    pub endpoint: Arc<Unit>,
    /// The same model at the same provider behind other keys: an overload is theirs as well.
    pub siblings: Arc<[Arc<Unit>]>,
}

/// What an attempt came to, as far as health is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The provider's word on when to come back.
    pub hint: RetryHint,
    /// Whether the provider said that the limit is the account's, not the model's.
    pub account_wide: bool,
    /// Whether one of the operator's patterns calls the error permanent.
    pub is_permanent: bool,
    /// When the attempt began: knowledge older than a cooldown does not undo it.
    pub began: Tick,
}

impl Units {
    /// Tells whether the target may be used, without claiming anything.
    ///
    /// # Errors
    /// Returns why not; where several scopes forbid it, the one that lasts longest.
    pub fn look(&self, now: Tick, policy: &Policy) -> Result<(), Resting> {
        self.look_in(Need::Usual, now, policy)
    }

    /// The same for a request that has nowhere else to go, see [`Units::admit_at_last`].
    ///
    /// # Errors
    /// Returns why not.
    pub fn look_at_last(&self, now: Tick, policy: &Policy) -> Result<(), Resting> {
        self.look_in(Need::Last, now, policy)
    }

    fn look_in(&self, need: Need, now: Tick, policy: &Policy) -> Result<(), Resting> {
        let mut worst: Option<Resting> = None;
        for unit in [&self.target, &self.credential, &self.endpoint] {
            let Err(resting) = unit.0.lock().look_in(need, now, &policy.breaker) else { continue };
            let lasts_longer = match (worst, resting.until()) {
                (None, _) => true,
                // Whose probe is under way may be used in a moment.
                (Some(Resting::Probing), Some(_)) => true,
                (Some(known), Some(until)) => known.until().is_some_and(|other| until > other),
                (Some(_), None) => matches!(resting, Resting::Drained | Resting::Disabled),
            };
            if lasts_longer {
                worst = Some(resting);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Claims the right to one attempt, and with it the half-open probe or the first try after a
    /// rest where one is due.
    ///
    /// # Errors
    /// Returns why not.
    pub fn admit(&self, now: Tick, policy: &Policy) -> Result<Permit, Resting> {
        self.admit_in(Need::Usual, now, policy)
    }

    /// The same for a request that has nowhere else to go: a rest that is only our guess does not
    /// keep it away for long.
    ///
    /// # Errors
    /// Returns why not.
    pub fn admit_at_last(&self, now: Tick, policy: &Policy) -> Result<Permit, Resting> {
        self.admit_in(Need::Last, now, policy)
    }

    fn admit_in(&self, need: Need, now: Tick, policy: &Policy) -> Result<Permit, Resting> {
        self.look_in(need, now, policy)?;
        let mut permit = Permit::default();
        for (unit, probe) in [
            (&self.endpoint, &mut permit.endpoint),
            (&self.credential, &mut permit.credential),
            (&self.target, &mut permit.target),
        ] {
            let mut state = unit.0.lock();
            // Somebody may have been quicker since the look.
            state.rest.look(now, need)?;
            if state.breaker.claim(now, &policy.breaker)? {
                *probe = Some(Arc::clone(unit));
            }
            if state.rest.claim(now) {
                permit.trials.push((Arc::clone(unit), now));
            }
        }
        Ok(permit)
    }

    /// Claims the first try after the rest that has just begun, for the request that waits it out
    /// until `until`: nobody else comes between.
    #[must_use]
    pub fn reserve(&self, until: Tick) -> Permit {
        let mut permit = Permit::default();
        if self.target.0.lock().rest.claim(until) {
            permit.trials.push((Arc::clone(&self.target), until));
        }
        permit
    }

    /// Tells whether the target may be tried again at once by a request whose own attempt has
    /// just failed there: its fresh cooldown does not count, an open breaker or the operator do.
    #[must_use]
    pub fn may_repeat(&self, now: Tick, policy: &Policy) -> bool {
        self.is_closed(now, policy)
            && self.credential.0.lock().rest.at(now).is_none()
            && self.target.0.lock().operation == Operation::Ready
    }

    /// Tells whether the breakers in the way of the target are closed: nobody has to find out first
    /// whether it works.
    #[must_use]
    pub fn is_closed(&self, now: Tick, policy: &Policy) -> bool {
        let mut units = [&self.target, &self.credential, &self.endpoint].into_iter();
        units.all(|unit| unit.breaker(now, &policy.breaker) == BreakerState::Closed)
    }

    /// Notes that the first content arrived: a half-open probe has done its work and need not
    /// keep the target shut for the length of a long stream. Tells whether there was one, so that
    /// [`Units::news`] may have something to tell.
    #[allow(clippy::must_use_candidate, reason = "whoever tells nobody has nothing to do with it")]
    pub fn content_began(&self, permit: &mut Permit, now: Tick, policy: &Policy) -> bool {
        let mut had_probe = false;
        for claimed in permit.take() {
            had_probe = true;
            let mut state = claimed.0.lock();
            state.breaker.mark(Mark::Success, Outcome::Ok, now, &policy.breaker, 0);
            state.breaker.release();
        }
        permit.pass();
        had_probe
    }

    /// Turns what an attempt came to into state: the one owner of the cooldown and breaker
    /// columns of the failure table. `dice` spreads what the policy spreads.
    #[allow(clippy::must_use_candidate, reason = "the changes are for the log, the state is what counts")]
    pub fn report(
        &self,
        mut permit: Permit,
        report: &Report,
        now: Tick,
        policy: &Policy,
        dice: u64,
    ) -> SmallVec<[Change; 2]> {
        let effect = effect(report, policy).seen_by(&permit, self, now, &policy.breaker);
        let mut changes = SmallVec::new();
        self.note(Scope::Endpoint, &effect, report, now, policy, dice, &mut changes);
        self.note(Scope::Credential, &effect, report, now, policy, dice, &mut changes);
        self.note(Scope::Target, &effect, report, now, policy, dice, &mut changes);
        if is_shared(report.outcome, &policy.cooldown) {
            for sibling in self.siblings.iter() {
                sibling.0.lock().rest.begin(report, now, &policy.cooldown, dice);
            }
        }
        // A provider that says something else than to rest has let us in. One that it told to rest
        // has a new rest by now, of which this permit claims nothing.
        if effect.endpoint == Mark::Success {
            permit.pass();
        }
        drop(permit);
        changes
    }

    /// Notes that a request leaves the target for good because of `outcome`: the target climbs
    /// `cooldown.ladder`. `began` is when the request's first attempt there did. Returns the change
    /// of state, if it is one.
    #[allow(clippy::must_use_candidate, reason = "the change is for the log, the state is what counts")]
    pub fn exhausted(&self, outcome: Outcome, began: Tick, now: Tick, policy: &Policy) -> Option<Change> {
        if policy.cooldown.ladder.is_empty() {
            return None;
        }
        let mut state = self.target.0.lock();
        state.climb.exhausted(outcome, began, now, &policy.cooldown);
        state.news(Scope::Target, Some(outcome), now, &policy.breaker)
    }

    #[allow(clippy::too_many_arguments, reason = "one private step of `report`, called three times")]
    fn note(
        &self,
        scope: Scope,
        effect: &Effect,
        report: &Report,
        now: Tick,
        policy: &Policy,
        dice: u64,
        changes: &mut SmallVec<[Change; 2]>,
    ) {
        let (unit, mark) = match scope {
            Scope::Target => (&self.target, effect.target),
            Scope::Credential => (&self.credential, effect.credential),
            Scope::Endpoint => (&self.endpoint, effect.endpoint),
        };
        let mut state = unit.0.lock();
        // What time has changed meanwhile comes first.
        changes.extend(state.news(scope, None, now, &policy.breaker));
        state.breaker.mark(mark, report.outcome, now, &policy.breaker, dice);
        if effect.rests == Some(scope) {
            state.rest.begin(report, now, &policy.cooldown, dice);
        } else if report.outcome == Outcome::Ok {
            state.rest.success(report.began);
            state.climb.success(report.began);
        }
        if matches!(mark, Mark::Failure | Mark::Permanent) || effect.rests == Some(scope) {
            state.last_fault = Some((now, report.outcome));
        }
        changes.extend(state.news(scope, Some(report.outcome), now, &policy.breaker));
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{at, policy, units};
    use super::*;
    use crate::config::plan::{Ladder, Permanent};
    use std::time::Duration;

    /// Another model of the same key on the same host.
    fn neighbour(of: &Units) -> Units {
        Units { target: Arc::default(), ..of.clone() }
    }

    fn tell(units: &Units, outcome: Outcome, account_wide: bool, now: Tick) -> SmallVec<[Change; 2]> {
        let permit = units.admit(now, &policy()).unwrap_or_default();
        let report = Report { outcome, hint: RetryHint::None, account_wide, is_permanent: false, began: now };
        units.report(permit, &report, now, &policy(), 20)
    }

    #[test]
    fn each_fault_keeps_to_its_scope() {
        for (outcome, account_wide, own_rests, neighbour_rests) in [
            (Outcome::RateLimited, false, true, false),
            (Outcome::RateLimited, true, true, true),
            (Outcome::Overloaded, false, true, false),
            (Outcome::ModelUnavailable, false, true, false),
            (Outcome::Quota, false, true, true),
            (Outcome::Auth, false, true, true),
            (Outcome::Tls, false, true, true),
            (Outcome::Dns, false, true, true),
            (Outcome::ClientError, false, false, false),
            (Outcome::ClientGone, false, false, false),
            (Outcome::ContentFiltered, false, false, false),
        ] {
            let own = units();
            let other = neighbour(&own);
            tell(&own, outcome, account_wide, at(1));
            assert_eq!(own.look(at(1), &policy()).is_err(), own_rests, "{outcome:?} own");
            assert_eq!(other.look(at(1), &policy()).is_err(), neighbour_rests, "{outcome:?} neighbour");
        }
    }

    #[test]
    fn five_server_errors_open_the_target_and_five_refusals_the_endpoint() {
        for (outcome, neighbour_rests) in [(Outcome::ServerError, false), (Outcome::Connect, true)] {
            let own = units();
            let other = neighbour(&own);
            for _ in 0..5 {
                tell(&own, outcome, false, at(1));
            }
            assert!(matches!(own.look(at(1), &policy()), Err(Resting::Open { .. })), "{outcome:?}");
            assert_eq!(other.look(at(1), &policy()).is_err(), neighbour_rests, "{outcome:?}");
        }
    }

    #[test]
    fn an_overload_rests_the_same_model_behind_other_keys() {
        let other_key = units();
        let own = Units { siblings: Arc::from([Arc::clone(&other_key.target)]), ..units() };
        tell(&own, Outcome::Overloaded, false, at(1));
        assert!(other_key.look(at(1), &policy()).is_err());
    }

    #[test]
    fn a_dropped_permit_gives_its_probe_back() {
        let own = units();
        for _ in 0..5 {
            tell(&own, Outcome::ServerError, false, at(0));
        }
        let permit = own.admit(at(6), &policy()).unwrap();
        assert_eq!(own.admit(at(6), &policy()).unwrap_err(), Resting::Probing);
        drop(permit);
        assert!(own.admit(at(6), &policy()).is_ok());
    }

    #[test]
    fn one_long_stream_is_one_success_of_a_half_open_breaker() {
        let own = units();
        for _ in 0..5 {
            tell(&own, Outcome::ServerError, false, at(0));
        }
        let mut permit = own.admit(at(6), &policy()).unwrap();
        own.content_began(&mut permit, at(6), &policy());
        let report = Report {
            outcome: Outcome::Ok,
            hint: RetryHint::None,
            account_wide: false,
            is_permanent: false,
            began: at(6),
        };
        own.report(permit, &report, at(7), &policy(), 20);
        assert!(!own.is_closed(at(7), &policy()), "the end of the same stream is no second success");
        tell(&own, Outcome::Ok, false, at(8));
        assert!(own.is_closed(at(8), &policy()));
    }

    #[test]
    fn a_breaker_that_a_reload_switched_off_is_in_nobodys_way() {
        let off = Policy { breaker: BreakerPolicy { enabled: false, ..policy().breaker }, ..policy() };
        for outcome in [Outcome::ServerError, Outcome::Connect] {
            let own = units();
            for _ in 0..5 {
                tell(&own, outcome, false, at(0));
            }
            assert!(!own.is_closed(at(1), &policy()) && !own.may_repeat(at(1), &policy()), "{outcome:?}");
            assert!(own.is_closed(at(1), &off) && own.may_repeat(at(1), &off), "{outcome:?}");
            let told = own.news(at(1), &off);
            assert_eq!(told.last().map(|change| change.to), Some(Stance::READY), "{outcome:?}");
            assert_eq!(own.target.read(at(1), &off).breaker, BreakerState::Closed);
        }
    }

    #[test]
    fn a_probe_under_way_is_shorter_than_any_rest_with_a_time() {
        let own = units();
        for _ in 0..5 {
            tell(&own, Outcome::ServerError, false, at(0));
        }
        let _probe = own.admit(at(6), &policy()).unwrap();
        assert_eq!(own.look(at(6), &policy()), Err(Resting::Probing));
        let quota = Report {
            outcome: Outcome::Quota,
            hint: RetryHint::None,
            account_wide: true,
            is_permanent: false,
            began: at(6),
        };
        neighbour(&own).report(Permit::default(), &quota, at(6), &policy(), 20);
        let rests = Resting::Cooling { until: at(906), reason: Outcome::Quota };
        assert_eq!(own.look(at(6), &policy()), Err(rests));
        own.target.operate(Operation::Drained);
        assert_eq!(own.look(at(6), &policy()), Err(Resting::Drained), "for as long as the operator wants");
    }

    #[test]
    fn a_change_names_where_from_and_to() {
        let own = units();
        let changes = tell(&own, Outcome::Quota, false, at(1));
        assert_eq!(
            changes.as_slice(),
            [Change {
                scope: Scope::Credential,
                from: "ready",
                to: "cooling",
                reason: Outcome::Quota,
                until: Some(at(901))
            }]
        );
    }

    #[test]
    fn a_changed_key_ends_the_rest_of_its_credential_only_for_reasons_of_the_key() {
        let own = units();
        tell(&own, Outcome::Auth, false, at(1));
        own.credential.key_changed();
        assert!(own.look(at(1), &policy()).is_ok());
        tell(&own, Outcome::RateLimited, true, at(1));
        own.credential.key_changed();
        assert!(own.look(at(1), &policy()).is_err());
    }

    /// A policy under which every fault with a pattern is permanent.
    fn strict() -> Policy {
        let (base, max) = (Duration::from_secs(300), Duration::from_secs(4_800));
        let permanent = Some(Permanent { base, factor: 2.0, max });
        Policy { breaker: BreakerPolicy { permanent, ..policy().breaker }, ..policy() }
    }

    fn tell_permanent(units: &Units, outcome: Outcome, now: Tick, policy: &Policy) -> SmallVec<[Change; 2]> {
        let permit = units.admit(now, policy).unwrap_or_default();
        let report =
            Report { outcome, hint: RetryHint::None, account_wide: false, is_permanent: true, began: now };
        units.report(permit, &report, now, policy, 20)
    }

    #[test]
    fn a_permanent_fault_opens_its_scope_at_once_and_only_where_the_operator_wants_it() {
        for (outcome, own_opens, neighbour_opens) in [
            (Outcome::Auth, true, true),
            (Outcome::ModelUnavailable, true, false),
            (Outcome::Permission, true, false),
            (Outcome::ServerError, true, false),
            (Outcome::ClientError, false, false),
            (Outcome::RateLimited, false, false),
            (Outcome::ContextLength, false, false),
        ] {
            let own = units();
            let other = neighbour(&own);
            let changes = tell_permanent(&own, outcome, at(1), &strict());
            let open = |units: &Units| matches!(units.look(at(1), &strict()), Err(Resting::Open { .. }));
            assert_eq!((open(&own), open(&other)), (own_opens, neighbour_opens), "{outcome:?}");
            assert_eq!(changes.iter().any(|change| change.to == "open"), own_opens, "{outcome:?}");
            let usual = units();
            tell_permanent(&usual, outcome, at(1), &policy());
            assert!(!matches!(usual.look(at(1), &policy()), Err(Resting::Open { .. })), "{outcome:?}");
        }
    }

    #[test]
    fn a_credential_that_opened_for_good_is_probed_by_one_request_and_closed_by_successes() {
        let own = units();
        tell_permanent(&own, Outcome::Auth, at(1), &strict());
        assert!(!own.may_repeat(at(1), &strict()) && !own.is_closed(at(1), &strict()));
        let probe = own.admit(at(302), &strict()).unwrap();
        assert_eq!(neighbour(&own).admit(at(302), &strict()).unwrap_err(), Resting::Probing);
        drop(probe);
        for second in [303, 304] {
            assert!(!own.is_closed(at(second), &strict()));
            let permit = own.admit(at(second), &strict()).unwrap();
            let report = Report {
                outcome: Outcome::Ok,
                hint: RetryHint::None,
                account_wide: false,
                is_permanent: false,
                began: at(second),
            };
            own.report(permit, &report, at(second), &strict(), 20);
        }
        assert!(own.is_closed(at(305), &strict()));
        tell_permanent(&own, Outcome::Auth, at(306), &strict());
        own.credential.key_changed();
        assert!(own.look(at(306), &strict()).is_ok(), "a changed key closes it");
    }

    #[test]
    fn a_hold_rests_the_key_for_every_status_that_another_key_may_mend() {
        let held = |seconds| {
            let hold = Duration::from_secs(seconds);
            Policy { cooldown: CooldownPolicy { hold, ..policy().cooldown }, ..policy() }
        };
        for (outcome, hint, want) in [
            (Outcome::RateLimited, RetryHint::None, Some(60)),
            (Outcome::RateLimited, RetryHint::After(Duration::from_secs(7)), Some(7)),
            (Outcome::RateLimited, RetryHint::After(Duration::from_millis(1)), Some(1)),
            (Outcome::RateLimited, RetryHint::Absurd, Some(60)),
            (Outcome::Overloaded, RetryHint::None, Some(60)),
            (Outcome::ServerError, RetryHint::None, Some(60)),
            (Outcome::Quota, RetryHint::None, Some(60)),
            (Outcome::Permission, RetryHint::None, Some(60)),
            (Outcome::Auth, RetryHint::None, Some(300)),
            (Outcome::ClientError, RetryHint::None, None),
            (Outcome::Reset, RetryHint::None, None),
        ] {
            let sibling = units();
            let own = Units { siblings: Arc::from([Arc::clone(&sibling.target)]), ..units() };
            let report = Report { outcome, hint, account_wide: false, is_permanent: false, began: at(1) };
            own.report(Permit::default(), &report, at(1), &held(60), 20);
            // Another model of the same key rests with it.
            let until = neighbour(&own).look(at(1), &held(60)).err().and_then(Resting::until);
            assert_eq!(until, want.map(|seconds| at(1 + seconds)), "{outcome:?} {hint:?}");
            assert!(sibling.look(at(1), &held(60)).is_ok(), "{outcome:?}: other keys are free");
        }
    }

    #[test]
    fn the_ladder_and_the_providers_word_rest_together_and_a_reset_ends_both() {
        let cooldown = CooldownPolicy { ladder: Ladder::of([Duration::from_secs(60)]), ..policy().cooldown };
        let policy = Policy { cooldown, ..policy() };
        let own = units();
        tell(&own, Outcome::RateLimited, false, at(1));
        let change = own.exhausted(Outcome::RateLimited, at(1), at(1), &policy);
        assert!(change.is_none(), "it rested already: {change:?}");
        assert_eq!(own.look(at(1), &policy).unwrap_err().until(), Some(at(61)), "the longer of the two");
        assert_eq!(own.target.read(at(1), &policy).cooling_until, Some(at(61)));
        own.target.reset();
        assert!(own.look(at(1), &policy).is_ok());
    }
}
