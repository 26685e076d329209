//! When is the same target asked again?
//!
//! At once and free, where a kept connection was dead before a byte came back, where the provider said
//! that it did not touch the request, or where the key that was refused has been changed since. Else after a
//! Retry-After that is short enough to be waited out, or after a back-off; both are paid for.
//! `retry.provider_attempts` bounds them all but the first: of a dead connection the provider never knew.

use super::budget::RetryBudget;
use super::rules::{Again, Rule};
use super::{Cause, Exchange, Failure, Step};
use crate::base::time::Tick;
use crate::config::plan::{Backoff, Jitter};
use crate::wire::retry_hint::RetryHint;
use std::time::Duration;

/// Least back-off before the same target is tried again (failure table, *Attempts*).
const LEAST_BACKOFF: Duration = Duration::from_millis(100);
/// A wait in place is stretched by up to this, so that a crowd does not come back in one instant.
const WAIT_SPREAD_MS: u64 = 50;

impl Exchange {
    /// Rows 13, 19 and 20: once per target, at once, free.
    pub(super) fn resend(
        &mut self,
        failure: &Failure,
        rule: Rule,
        current: usize,
        now: Tick,
    ) -> Option<Step> {
        if !self.has_time(now) {
            return None;
        }
        let tally = &self.tallies[current];
        let cause = if (failure.is_stale || failure.is_disowned) && !tally.was_resent {
            if failure.hint != RetryHint::None {
                return self.resend_where_alone(current, rule, now);
            }
            Cause::Resend
        } else if failure.has_new_key && !tally.had_new_key && !self.is_spent(&self.candidates[current]) {
            Cause::NewKey
        } else {
            return None;
        };
        let permit = self.candidates[current].health.admit(now, &self.rules.health).ok()?;
        Some(self.attempt(current, permit, cause, now))
    }

    /// Row 20, where the provider asks for calm: whoever else may be asked is asked rather than it. Its
    /// rest, which has just begun, does not count against the request that brought it about.
    fn resend_where_alone(&mut self, current: usize, rule: Rule, now: Tick) -> Option<Step> {
        let is_elsewhere = self.failovers < self.rules.retry.failovers
            && self.peek_next(Some((current, rule)), now).is_some();
        let units = &self.candidates[current].health;
        if is_elsewhere || !units.may_repeat(now, &self.rules.health) {
            return None;
        }
        let permit = units.reserve(now);
        Some(self.attempt(current, permit, Cause::Resend, now))
    }

    /// Once per target, at once, free: the provider refused before it did anything.
    pub(super) fn without_thinking(&mut self, failure: &Failure, current: usize, now: Tick) -> Option<Step> {
        let tally = &self.tallies[current];
        if !failure.refuses_thinking
            || tally.was_without_thinking
            || self.is_spent(&self.candidates[current])
            || !self.has_time(now)
        {
            return None;
        }
        let permit = self.candidates[current].health.admit(now, &self.rules.health).ok()?;
        Some(self.attempt(current, permit, Cause::WithoutThinking, now))
    }

    /// Returns until when to wait before the same target is tried again, if it is to be.
    pub(super) fn repeat_at(
        &mut self,
        rule: Rule,
        failure: &Failure,
        current: usize,
        now: Tick,
        budget: &RetryBudget,
        dice: u64,
    ) -> Option<Tick> {
        if rule.again == Again::No {
            return None;
        }
        let retry = &self.rules.retry;
        let repeats = self.tallies[current].repeats;
        let wait = match failure.hint {
            RetryHint::After(span) if span <= retry.wait_in_place => {
                (repeats < retry.same_target.max(1)).then(|| span + spread_ms(dice))?
            }
            RetryHint::After(_) => return None,
            RetryHint::None | RetryHint::Absurd => (repeats < retry.same_target)
                .then(|| backoff(&retry.backoff, repeats, dice).max(LEAST_BACKOFF))?,
        };
        let until = now.after(wait);
        if until.after(self.least) > self.turn_end(current, now)
            || self.is_spent(&self.candidates[current])
            || !self.candidates[current].health.may_repeat(now, &self.rules.health)
        {
            return None;
        }
        if !budget.withdraw(now, retry) {
            self.budget_ran_dry = true;
            return None;
        }
        self.reserved = self.candidates[current].health.reserve(until);
        Some(until)
    }
}

fn spread_ms(dice: u64) -> Duration {
    Duration::from_millis(dice % WAIT_SPREAD_MS)
}

/// Returns the wait before repeat number `repeats` (0 is the first).
pub(super) fn backoff(policy: &Backoff, repeats: u32, dice: u64) -> Duration {
    let exponent = i32::try_from(repeats.min(64)).unwrap_or(64);
    let grown = policy.base.as_secs_f64() * policy.multiplier.powi(exponent);
    let whole = grown.min(policy.max.as_secs_f64()).max(0.0);
    #[allow(clippy::cast_precision_loss, reason = "dice need no more than 52 bits")]
    let share = (dice >> 12) as f64 / (1u64 << 52) as f64;
    let spread = match policy.jitter {
        Jitter::Full => whole * share,
        Jitter::Equal => whole * (0.5 + share / 2.0),
        Jitter::Quarter => whole * (0.75 + share / 2.0),
        Jitter::None => whole,
    };
    Duration::try_from_secs_f64(spread).unwrap_or(policy.max)
}
