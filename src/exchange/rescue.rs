//! Who takes up a stream that broke after content went downstream?
//!
//! The usable targets that are left, in the order of choice, and the one that broke last of all; it
//! is never asked again where it fell silent. A target that can go on from a text is asked to; any
//! other begins anew, which is paid for, and is held against what was told. A target that refuses to
//! go on (400) is asked to begin anew. All of it within `retry.provider_attempts`. What a content filter stopped, nobody else is asked to say.

use super::budget::RetryBudget;
use super::course::Passed;
use super::{Break, Cause, Ending, Exchange, Failure, Step};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::health::Permit;
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
        self.leave(current, failure.outcome, now);
        if !may_rescue || failure.outcome == Outcome::TimeoutTotal || !self.has_time(now) {
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
        if refused_to_continue && !self.is_spent(&self.candidates[current]) {
            return self.restart_at(current, Permit::default(), now, budget).unwrap_or(end);
        }
        let policy = Arc::clone(&self.rules.health);
        let mut next = None;
        for at in self.rescuers().collect::<SmallVec<[usize; 4]>>() {
            match self.candidates[at].health.admit(now, &policy) {
                Ok(permit) => {
                    next = Some((at, permit));
                    break;
                }
                Err(resting) => self.tallies[at].passed = Some(Passed::Resting(resting)),
            }
        }
        let Some((at, permit)) = next else { return end };
        if self.candidates[at].continues {
            return self.attempt(at, permit, Cause::Continue, now);
        }
        self.restart_at(at, permit, now, budget).unwrap_or(end)
    }

    /// Who may still take up the broken stream, in the order in which they are asked; health has
    /// its own say. Before a stream first breaks that is everybody who was not tried.
    pub(super) fn rescuers(&self) -> impl Iterator<Item = usize> + '_ {
        let broke_at = self.first_break.map(|first| first.at);
        let others = (0..self.candidates.len()).filter(move |at| {
            let tally = self.tallies[*at];
            let may_change =
                self.failovers < self.rules.retry.failovers && !self.is_spent(&self.candidates[*at]);
            broke_at != Some(*at) && tally.attempts == 0 && !tally.is_excluded && may_change
        });
        let itself = self.first_break.filter(|first| {
            let tally = self.tallies[first.at];
            let is_spent = self.is_spent(&self.candidates[first.at]);
            !first.was_silent && tally.rescues == 0 && !tally.is_excluded && !is_spent
        });
        others.chain(itself.map(|first| first.at))
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
