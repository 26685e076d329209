//! Who takes up a stream that broke after content went downstream?
//!
//! The usable targets that are left, in the order of choice, then the one that broke, and those last that
//! ran beside it and were slower; it is never asked again where it fell silent. A target that can go on from a text is asked to; any
//! other begins anew, which is paid for, and is held against what was told. A target that refuses to
//! go on (400) is asked to begin anew. Who cannot be paid for is passed over for somebody behind who
//! goes on. All of it within `retry.provider_attempts`, but for one free resend where a kept connection
//! was dead. What a content filter stopped, nobody else is asked to say.

use super::budget::RetryBudget;
use super::course::Passed;
use super::{Break, Cause, Ending, Exchange, Failure, Step, Tally, Try};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::health::Permit;
use crate::wire::retry_hint::RetryHint;
use smallvec::SmallVec;
use std::sync::Arc;

impl Exchange {
    /// Finds who takes up a broken stream, and how.
    pub(super) fn rescue(
        &mut self,
        failure: &Failure,
        current: usize,
        now: Tick,
        budget: &RetryBudget,
    ) -> Step {
        let end = Step::End(Ending::BreakOff(failure.outcome));
        let may_rescue = self.rules.may_rescue && self.is_rescuable && self.rules.may_replay;
        let has_time = failure.outcome != Outcome::TimeoutTotal && self.has_time(now);
        if may_rescue
            && has_time
            && let Some(step) = self.resend_rescue(failure, current, now)
        {
            return step;
        }
        self.leave(current, failure.outcome, now);
        if !may_rescue || !has_time {
            return end;
        }
        let was_silent = matches!(failure.outcome, Outcome::TimeoutStall | Outcome::TimeoutFirstContent);
        self.first_break.get_or_insert(Break { at: current, was_silent });
        // Row 16: what one provider's filter stopped, no other is asked to say.
        if failure.outcome == Outcome::ContentFiltered {
            return end;
        }
        let last = self.records.last().map(|record| record.cause);
        let refused_to_continue = last == Some(Cause::Continue)
            && matches!(failure.outcome, Outcome::ClientError | Outcome::ModelUnavailable);
        if refused_to_continue
            && !self.is_spent(&self.candidates[current])
            && let Some(step) = self.restart_at(current, Permit::default(), now, budget)
        {
            return step;
        }
        let policy = Arc::clone(&self.rules.health);
        for at in self.rescuers().collect::<SmallVec<[usize; 4]>>() {
            match self.candidates[at].health.admit(now, &policy) {
                Ok(permit) if self.candidates[at].continues => {
                    return self.attempt(at, permit, Cause::Continue, now);
                }
                // Where nobody can pay for a new beginning, one that goes on may stand behind.
                Ok(permit) => {
                    if let Some(step) = self.restart_at(at, permit, now, budget) {
                        return step;
                    }
                }
                Err(resting) => self.tallies[at].passed = Some(Passed::Resting(resting)),
            }
        }
        end
    }

    /// Rows 19 and 20, of a target that was to take the stream up: its kept connection was dead, or it
    /// did not touch the request. Once per target, at once, free: a new beginning is paid for already.
    /// One that asks for calm beside it is left alone, since a client is in the middle of a stream.
    fn resend_rescue(&mut self, failure: &Failure, current: usize, now: Tick) -> Option<Step> {
        let cause = self.records.last().map(|record| record.cause).filter(|cause| cause.is_rescue())?;
        let is_untouched = failure.is_stale || failure.is_disowned;
        if !is_untouched || failure.hint != RetryHint::None || self.tallies[current].was_resent {
            return None;
        }
        let permit = self.candidates[current].health.admit(now, &self.rules.health).ok()?;
        self.tallies[current].was_resent = true;
        let again = self.begin(current, permit, cause, now);
        Some(Step::Try(Try { wants_fresh: true, ..again }))
    }

    /// Tells whether somebody else could take up the stream now, should it be broken off: a target that
    /// may be used and goes on from a text, or for whose new beginning there is a token.
    pub(super) fn has_rescuer(&self, now: Tick) -> bool {
        if !self.rules.may_rescue || !self.is_rescuable {
            return false;
        }
        let can_pay = || self.purse.as_ref().is_none_or(|purse| purse.has_token(now, &self.rules.retry));
        // Silence of the one that is asked now would be why, so it is no way out itself.
        let current = self.records.last().map(|record| record.candidate);
        self.rescuers().any(|at| {
            let candidate = &self.candidates[at];
            current != Some(at)
                && candidate.health.look(now, &self.rules.health).is_ok()
                && (candidate.continues || can_pay())
        })
    }

    /// Who may still take up the broken stream, in the order in which they are asked; health has
    /// its own say. Before a stream first breaks that is everybody who was not tried. Last of all come those
    /// that were called off for the one that broke: nothing is known against them, but they were slow.
    pub(super) fn rescuers(&self) -> impl Iterator<Item = usize> + '_ {
        let broke_at = self.first_break.map(|first| first.at);
        let elsewhere = move |at: &usize| {
            let may_change =
                self.failovers < self.rules.retry.failovers && !self.is_spent(&self.candidates[*at]);
            broke_at != Some(*at) && !self.tallies[*at].is_excluded && may_change
        };
        let everywhere = 0..self.candidates.len();
        let others = everywhere.clone().filter(|at| self.tallies[*at].attempts == 0).filter(elsewhere);
        let was_slow = |tally: &Tally| tally.was_called_off && tally.rescues == 0;
        let slow = everywhere.filter(move |at| was_slow(&self.tallies[*at])).filter(elsewhere);
        let itself = self.first_break.filter(|first| {
            let tally = self.tallies[first.at];
            let is_spent = self.is_spent(&self.candidates[first.at]);
            !first.was_silent && tally.rescues == 0 && !tally.is_excluded && !is_spent
        });
        others.chain(itself.map(|first| first.at)).chain(slow)
    }

    /// Starts anew at a target, if the budget allows.
    fn restart_at(&mut self, at: usize, permit: Permit, now: Tick, budget: &RetryBudget) -> Option<Step> {
        if !budget.withdraw(now, &self.rules.retry) {
            self.budget_ran_dry = true;
            return None;
        }
        Some(self.attempt(at, permit, Cause::Restart, now))
    }
}
