//! What next: try, repeat, wait, move on, give up?
//!
//! The state machine of one request, from the end of its body to the last word to the client. It
//! does no I/O: `proxy` performs what a [`Step`] asks and reports what came of it; a simulation
//! does the same with made-up providers and a made-up clock, thousands of times per test run.
//!
//! The rule in words (design, section 4; failure table):
//!
//! 1. *Equal before lesser.* After a failure that may be repaired elsewhere, the next usable
//!    target in the order of choice is found. Serves it the same model, the request moves at once.
//!    Is it another model, or is there none, then first a Retry-After of at most
//!    `retry.wait_in_place` is waited out at the same target, or a 5xx, a reset or a 429 without a
//!    time is repeated there `retry.same_target` times after a back-off of at least 100 ms.
//!    `retry.prefer: same_target` repeats before it moves, whatever comes next.
//! 2. *Each target once*, but for such repeats and one free resend where a kept connection turned
//!    out dead before a byte came back (rows 19 and 20). At most `retry.failovers` changes.
//! 3. *A request that may not be replayed* moves on only when provably nothing was processed.
//! 4. *A timer without an alternative does not fire*: [`Exchange::has_alternative`] is asked when
//!    one runs out. The deadline always fires.
//! 5. *Commit.* Once content went downstream nothing starts over visibly. What may still happen is
//!    *rescue*: the usable targets that are left, in the order of choice and the failed one last,
//!    are asked to go on (`continues: prefill`) or to begin anew and be held against what was told.
//!    A target that refuses to go on (400) is asked to begin anew. Where the stream cannot be gone
//!    on from, or nobody is left, the request breaks off.
//!
//! Repeats are paid from the [`budget::RetryBudget`]; failovers to closed breakers are free.

pub mod budget;
pub mod ending;
pub mod rules;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::{Backoff, Jitter, Prefer, RetryPolicy};
use crate::health::{Permit, Policy, Resting};
use crate::select::{Candidate, Candidates};
use crate::wire::retry_hint::RetryHint;
use budget::RetryBudget;
use ending::Refusal;
use rules::{Again, Class, Onward, Rule};
use smallvec::SmallVec;
use std::time::Duration;

/// Least back-off before the same target is tried again (failure table, *Attempts*).
const LEAST_BACKOFF: Duration = Duration::from_millis(100);
/// A wait in place is stretched by up to this, so that a crowd does not come back in one instant.
const WAIT_SPREAD_MS: u64 = 50;

/// The rules that a request is played by.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// When to repeat, wait and move on.
    pub retry: RetryPolicy,
    /// For asking health.
    pub health: Policy,
    /// Whether a fault after which the provider may have worked allows another try.
    pub may_replay: bool,
    /// Whether a stream that breaks after content may be taken up by another target.
    pub may_rescue: bool,
    /// When the request must have ended.
    pub deadline: Tick,
}

/// How an attempt came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first.
    First,
    /// The same target again, after a wait.
    Repeat,
    /// The same target at once, because a kept connection was dead. Free.
    Resend,
    /// Another target.
    Failover,
    /// A broken stream is taken up: the target goes on from the text so far.
    Continue,
    /// A broken stream is taken up: the target begins anew and is held against the text so far.
    Restart,
}

impl Cause {
    /// Tells whether the attempt takes up a broken stream.
    #[must_use]
    pub fn is_rescue(self) -> bool {
        matches!(self, Cause::Continue | Cause::Restart)
    }
}

/// One attempt that was made.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Which candidate, by its place in the order.
    pub candidate: usize,
    /// How it came about.
    pub cause: Cause,
    /// When it began.
    pub began: Tick,
    /// When it ended.
    pub ended: Tick,
    /// When its first content arrived, if any did.
    pub first_content: Option<Tick>,
    /// What it came to; [`Outcome::Ok`] while it runs well.
    pub outcome: Outcome,
    /// The provider's status, where it sent a head.
    pub status: Option<u16>,
    /// Whether a connect fault was a time-out.
    pub timed_out: bool,
}

/// What to do now.
#[derive(Debug)]
pub enum Step {
    /// Make one attempt.
    Try(Try),
    /// Wait, then call [`Exchange::resume`].
    Pause {
        /// Until when.
        until: Tick,
    },
    /// It is over.
    End(Ending),
}

/// An attempt to be made.
#[derive(Debug)]
pub struct Try {
    /// Which candidate, by its place in the order.
    pub candidate: usize,
    /// The right to it; hand it to `Units::report` when it has ended.
    pub permit: Permit,
    /// How it came about. A [`Cause::Resend`] wants a fresh connection.
    pub cause: Cause,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A target answered.
    Answered,
    /// The provider's own error goes to the client.
    Relay,
    /// We answer.
    Refuse(Refusal),
    /// After commit: the dialect's error event and an unclean close.
    BreakOff(Outcome),
    /// The client has left.
    Abandoned,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// What `classify` said.
    pub outcome: Outcome,
    /// The provider's status, where it sent a head.
    pub status: Option<u16>,
    /// The provider's word on when to come back.
    pub hint: RetryHint,
    /// Whether a kept connection was dead before a byte came back, or the peer said that it did
    /// not touch the request.
    pub is_stale: bool,
    /// Whether the error stood inside a 200.
    pub is_inband: bool,
    /// Whether a connect fault was a time-out.
    pub timed_out: bool,
}

impl Failure {
    /// A failure of the given outcome about which nothing else is known.
    #[must_use]
    pub fn plain(outcome: Outcome) -> Self {
        Failure {
            outcome,
            status: None,
            hint: RetryHint::None,
            is_stale: false,
            is_inband: false,
            timed_out: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    attempts: u32,
    repeats: u32,
    rescues: u32,
    was_resent: bool,
    is_excluded: bool,
}

/// Who held the stream when it first broke: asked last, and never again where it fell silent.
#[derive(Clone, Copy, Debug)]
struct Break {
    at: usize,
    was_silent: bool,
}

/// One request.
#[derive(Debug)]
pub struct Exchange {
    rules: Rules,
    candidates: Candidates,
    tallies: SmallVec<[Tally; 4]>,
    records: SmallVec<[Record; 4]>,
    failovers: u32,
    is_committed: bool,
    /// How the stream first broke.
    first_break: Option<Break>,
    is_rescuable: bool,
    budget_ran_dry: bool,
    /// Held while a Retry-After is waited out.
    reserved: Permit,
}

impl Exchange {
    /// Starts a request over its candidates in the order of choice.
    #[must_use]
    pub fn new(rules: Rules, candidates: Candidates) -> Self {
        let tallies = SmallVec::from_elem(Tally::default(), candidates.len());
        Exchange {
            rules,
            candidates,
            tallies,
            records: SmallVec::new(),
            failovers: 0,
            is_committed: false,
            first_break: None,
            is_rescuable: false,
            budget_ran_dry: false,
            reserved: Permit::default(),
        }
    }

    /// Returns the first step.
    pub fn start(&mut self, now: Tick) -> Step {
        match self.claim_next(None, now) {
            Some((candidate, permit)) => self.attempt(candidate, permit, Cause::First, now),
            None => Step::End(Ending::Refuse(self.refusal(now))),
        }
    }

    /// Notes that the head of the answer arrived.
    pub fn answered(&mut self, status: u16) {
        if let Some(record) = self.records.last_mut() {
            record.status = Some(status);
        }
    }

    /// Notes that the first content is about to go downstream: from here on nothing starts over.
    pub fn commit(&mut self, now: Tick) {
        self.is_committed = true;
        if let Some(record) = self.records.last_mut() {
            record.first_content = Some(now);
        }
    }

    /// Says whether the stream could be gone on from as it stands: not inside a tool call, a
    /// thinking block or a second choice. Said before [`Exchange::failed`] and
    /// [`Exchange::has_alternative`] are asked about a committed stream.
    pub fn rescuable(&mut self, is_rescuable: bool) {
        self.is_rescuable = is_rescuable;
    }

    /// Notes that the attempt delivered its answer whole.
    pub fn delivered(&mut self, now: Tick) -> Step {
        self.close(Outcome::Ok, None, false, now);
        Step::End(Ending::Answered)
    }

    /// Notes that the client left.
    pub fn client_gone(&mut self, now: Tick) -> Step {
        let is_running = self.records.last().is_some_and(|r| r.ended == Tick::default());
        if is_running {
            self.close(Outcome::ClientGone, None, false, now);
        }
        Step::End(Ending::Abandoned)
    }

    /// Decides after a failed attempt. `health` must have been told before, so that the answer
    /// reckons with what the failure did there.
    pub fn failed(&mut self, failure: &Failure, now: Tick, budget: &RetryBudget, dice: u64) -> Step {
        self.close(failure.outcome, failure.status, failure.timed_out, now);
        let Some(current) = self.records.last().map(|r| r.candidate) else {
            return Step::End(Ending::Refuse(self.refusal(now)));
        };
        if failure.outcome == Outcome::ClientGone {
            return Step::End(Ending::Abandoned);
        }
        if self.is_committed {
            return self.rescue(failure, current, now, budget);
        }
        let rule = rules::rule(failure.outcome, failure.status, failure.is_inband);
        if rule.onward == Onward::Relay {
            return Step::End(Ending::Relay);
        }
        let may_go_on = self.rules.may_replay || rule.class == Class::Unprocessed || failure.is_stale;
        if !may_go_on || rule.onward == Onward::Stop || now >= self.rules.deadline {
            return self.give_up(rule, now);
        }
        if let Some(step) = self.resend(failure, current, now) {
            return step;
        }
        if failure.outcome == Outcome::Overloaded {
            self.exclude_same_model_at_same_provider(current);
        }
        let next = self.peek_next(Some((current, rule)), now);
        let next_is_equal = next.is_some_and(|at| self.candidates[at].is_equal(&self.candidates[current]));
        let repeats_first = !next_is_equal || self.rules.retry.prefer == Prefer::SameTarget;
        if repeats_first && let Some(until) = self.repeat_at(rule, failure, current, now, budget, dice) {
            return Step::Pause { until };
        }
        self.move_on(rule, current, now)
    }

    /// Decides after a pause.
    pub fn resume(&mut self, now: Tick) -> Step {
        let Some(last) = self.records.last().copied() else { return self.start(now) };
        let reserved = std::mem::take(&mut self.reserved);
        let units = &self.candidates[last.candidate].health;
        if now < self.rules.deadline && units.may_repeat(now, &self.rules.health) {
            return self.attempt(last.candidate, reserved, Cause::Repeat, now);
        }
        drop(reserved);
        self.move_on(rules::rule(last.outcome, last.status, false), last.candidate, now)
    }

    /// Tells whether the request could go elsewhere now: a first-content, response or stall timer
    /// that runs out counts only then.
    #[must_use]
    pub fn has_alternative(&self, now: Tick) -> bool {
        if !self.rules.may_replay {
            return false;
        }
        if self.is_committed {
            let policy = self.rules.health;
            let may_rescue = self.rules.may_rescue && self.is_rescuable;
            // Silence of the one that is asked now would be why, so it is no way out itself.
            let current = self.records.last().map(|record| record.candidate);
            return may_rescue
                && self
                    .rescuers()
                    .any(|at| current != Some(at) && self.candidates[at].health.look(now, &policy).is_ok());
        }
        self.failovers < self.rules.retry.failovers && self.peek_next(None, now).is_some()
    }

    /// Returns what was tried so far.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the candidates in the order of choice.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Returns when the request must have ended.
    #[must_use]
    pub fn deadline(&self) -> Tick {
        self.rules.deadline
    }

    /// Tells whether a repeat was refused because the budget was spent.
    #[must_use]
    pub fn budget_ran_dry(&self) -> bool {
        self.budget_ran_dry
    }

    /// Returns how each candidate stands: why it cannot be used now, if it cannot.
    pub fn standing(&self, now: Tick) -> impl Iterator<Item = Option<Resting>> + Clone + '_ {
        let policy = self.rules.health;
        self.candidates.iter().map(move |c| c.health.look(now, &policy).err())
    }

    /// Tells whether content went downstream.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.is_committed
    }

    fn refusal(&self, now: Tick) -> Refusal {
        ending::refusal(&self.records, &self.standing(now), now)
    }

    fn give_up(&self, rule: Rule, now: Tick) -> Step {
        let is_the_providers_word = rule.onward == Onward::NextLarger;
        Step::End(if is_the_providers_word { Ending::Relay } else { Ending::Refuse(self.refusal(now)) })
    }

    fn attempt(&mut self, candidate: usize, permit: Permit, cause: Cause, now: Tick) -> Step {
        let tally = &mut self.tallies[candidate];
        tally.attempts += 1;
        match cause {
            Cause::First => {}
            Cause::Repeat => tally.repeats += 1,
            Cause::Resend => tally.was_resent = true,
            Cause::Failover => self.failovers += 1,
            Cause::Continue | Cause::Restart => {
                tally.rescues += 1;
                self.failovers += u32::from(self.first_break.map(|first| first.at) != Some(candidate));
            }
        }
        self.records.push(Record {
            candidate,
            cause,
            began: now,
            ended: Tick::default(),
            first_content: None,
            outcome: Outcome::Ok,
            status: None,
            timed_out: false,
        });
        Step::Try(Try { candidate, permit, cause })
    }

    fn close(&mut self, outcome: Outcome, status: Option<u16>, timed_out: bool, now: Tick) {
        if let Some(record) = self.records.last_mut() {
            record.outcome = outcome;
            record.status = status.or(record.status);
            record.timed_out = timed_out;
            record.ended = now;
        }
    }

    /// Finds who takes up a broken stream, and how.
    fn rescue(&mut self, failure: &Failure, current: usize, now: Tick, budget: &RetryBudget) -> Step {
        let end = Step::End(Ending::BreakOff(failure.outcome));
        let may_rescue = self.rules.may_rescue && self.is_rescuable && self.rules.may_replay;
        if !may_rescue || now >= self.rules.deadline {
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
        if refused_to_continue {
            return self.restart_at(current, Permit::default(), now, budget).unwrap_or(end);
        }
        let policy = self.rules.health;
        let next = self
            .rescuers()
            .find_map(|at| self.candidates[at].health.admit(now, &policy).ok().map(|permit| (at, permit)));
        let Some((at, permit)) = next else { return end };
        if self.candidates[at].continues {
            return self.attempt(at, permit, Cause::Continue, now);
        }
        self.restart_at(at, permit, now, budget).unwrap_or(end)
    }

    /// Who may still take up the broken stream, in the order in which they are asked; health has
    /// its own say. Before a stream first breaks that is everybody who was not tried.
    fn rescuers(&self) -> impl Iterator<Item = usize> + '_ {
        let broke_at = self.first_break.map(|first| first.at);
        let others = (0..self.candidates.len()).filter(move |at| {
            let tally = self.tallies[*at];
            let may_change = self.failovers < self.rules.retry.failovers;
            broke_at != Some(*at) && tally.attempts == 0 && !tally.is_excluded && may_change
        });
        let itself = self.first_break.filter(|first| {
            let tally = self.tallies[first.at];
            !first.was_silent && tally.rescues == 0 && !tally.is_excluded
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

    /// Rows 19 and 20: once per target, at once, free.
    fn resend(&mut self, failure: &Failure, current: usize, now: Tick) -> Option<Step> {
        if !failure.is_stale || self.tallies[current].was_resent {
            return None;
        }
        let permit = self.candidates[current].health.admit(now, &self.rules.health).ok()?;
        Some(self.attempt(current, permit, Cause::Resend, now))
    }

    /// Returns until when to wait before the same target is tried again, if it is to be.
    fn repeat_at(
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
        if until >= self.rules.deadline
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

    fn move_on(&mut self, rule: Rule, current: usize, now: Tick) -> Step {
        if now < self.rules.deadline
            && self.failovers < self.rules.retry.failovers
            && let Some((candidate, permit)) = self.claim_next(Some((current, rule)), now)
        {
            return self.attempt(candidate, permit, Cause::Failover, now);
        }
        self.give_up(rule, now)
    }

    fn peek_next(&self, after: Option<(usize, Rule)>, now: Tick) -> Option<usize> {
        (0..self.candidates.len()).find(|at| {
            self.is_open_to(*at, after) && self.candidates[*at].health.look(now, &self.rules.health).is_ok()
        })
    }

    fn claim_next(&self, after: Option<(usize, Rule)>, now: Tick) -> Option<(usize, Permit)> {
        let policy = &self.rules.health;
        let open = || (0..self.candidates.len()).filter(|at| self.is_open_to(*at, after));
        let health = |at: usize| &self.candidates[at].health;
        open()
            .find_map(|at| Some((at, health(at).admit(now, policy).ok()?)))
            .or_else(|| open().find_map(|at| Some((at, health(at).admit_at_last(now, policy).ok()?))))
    }

    fn is_open_to(&self, at: usize, after: Option<(usize, Rule)>) -> bool {
        let tally = &self.tallies[at];
        if tally.attempts > 0 || tally.is_excluded {
            return false;
        }
        match after {
            Some((current, rule)) if rule.onward == Onward::NextLarger => {
                let (from, to) = (&self.candidates[current], &self.candidates[at]);
                to.model != from.model
                    && match (from.context, to.context) {
                        (Some(small), Some(large)) => large > small,
                        (None, _) | (_, None) => true,
                    }
            }
            Some(_) | None => true,
        }
    }

    /// Row 12: other keys of the same provider do not help against an overloaded model.
    fn exclude_same_model_at_same_provider(&mut self, current: usize) {
        let (provider, model) = (self.candidates[current].provider, self.candidates[current].model.clone());
        for (candidate, tally) in self.candidates.iter().zip(&mut self.tallies) {
            if candidate.provider == provider && candidate.model == model {
                tally.is_excluded = true;
            }
        }
    }
}

fn spread_ms(dice: u64) -> Duration {
    Duration::from_millis(dice % WAIT_SPREAD_MS)
}

/// Returns the wait before repeat number `repeats` (0 is the first).
fn backoff(policy: &Backoff, repeats: u32, dice: u64) -> Duration {
    let exponent = i32::try_from(repeats.min(64)).unwrap_or(64);
    let grown = policy.base.as_secs_f64() * policy.multiplier.powi(exponent);
    let whole = grown.min(policy.max.as_secs_f64()).max(0.0);
    #[allow(clippy::cast_precision_loss, reason = "dice need no more than 52 bits")]
    let share = (dice >> 12) as f64 / (1u64 << 52) as f64;
    let spread = match policy.jitter {
        Jitter::Full => whole * share,
        Jitter::Equal => whole * (0.5 + share / 2.0),
        Jitter::None => whole,
    };
    Duration::try_from_secs_f64(spread).unwrap_or(policy.max)
}
