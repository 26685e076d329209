//! What does the end of an attempt change?
//!
//! [`Units::report`] is the one place that turns an outcome into state: what it means for which scope
//! says `effect`, and each scope takes note of its part. [`Units::content_began`] and
//! [`Units::exhausted`] are the two steps of a request that change something before and after that.

use super::breaker::Mark;
use super::effect::{Effect, effect, is_shared};
use super::{Change, Permit, Policy, Scope, Units};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::wire::retry_hint::RetryHint;
use smallvec::SmallVec;

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
    /// Notes that the first content arrived: a half-open probe has done its work and need not
    /// keep the target shut for the length of a long stream. Tells whether there was one, so that
    /// [`Units::news`] may have something to tell.
    #[allow(clippy::must_use_candidate, reason = "whoever tells nobody has nothing to do with it")]
    pub fn content_began(&self, permit: &mut Permit, now: Tick, policy: &Policy) -> bool {
        let mut had_probe = false;
        for (unit, claim) in permit.probes.drain(..) {
            had_probe = true;
            let mut state = unit.0.lock();
            if state.breaker.is_news(claim) {
                state.breaker.mark(Mark::Success, Outcome::Ok, now, &policy.breaker, 0);
            }
            state.breaker.release(claim);
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
        let effect = effect(report, policy).seen_by(&permit, self, report.began, now, &policy.breaker);
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
        // What it claimed hides the state that the scope is in now.
        let has_claims = !permit.probes.is_empty() || !permit.trials.is_empty();
        drop(permit);
        if has_claims {
            let scopes = [
                (Scope::Endpoint, &self.endpoint),
                (Scope::Credential, &self.credential),
                (Scope::Target, &self.target),
            ];
            for (scope, unit) in scopes {
                changes.extend(unit.0.lock().news(scope, Some(report.outcome), now, &policy.breaker));
            }
        }
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
