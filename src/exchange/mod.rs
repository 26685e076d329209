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
//! 2. *Each target once* (`next`), but for such repeats and one free resend where a kept connection turned
//!    out dead before a byte came back or the provider disowned the request (rows 19 and 20), one where
//!    the key that was refused has been changed since (row 13), and one without the thinking that a
//!    translated request asked for and the target refused. At most `retry.failovers` changes.
//! 3. *A request that may not be replayed* moves on only when provably nothing was processed.
//! 4. *A timer without an alternative does not fire*: [`Exchange::has_alternative`] is asked when
//!    one runs out. The deadline always fires; how it is shared out says [`turn`].
//! 5. *Commit.* Once content went downstream nothing starts over visibly. What may still happen is
//!    *rescue*: the usable targets that are left, in the order of choice and the failed one last,
//!    are asked to go on (`continues: prefill`) or to begin anew and be held against what was told.
//!    A target that refuses to go on (400) is asked to begin anew, and one that was not reached
//!    because a kept connection was dead is asked again (rows 19 and 20 hold here as well). Where the stream cannot be gone
//!    on from, or nobody is left, the request breaks off.
//!
//! Repeats, hedges and restarts are paid from the [`budget::RetryBudget`]; failovers are free.

pub mod budget;
pub mod course;
pub mod ending;
pub mod hedge;
mod next;
mod repeat;
mod rescue;
pub mod rules;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod turn;

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::{Prefer, RetryPolicy};
use crate::health::{Change, Permit, Policy, Resting};
use crate::select::{Candidate, Candidates};
use crate::wire::retry_hint::RetryHint;
use budget::RetryBudget;
use course::{Halt, Passed};
use ending::Refusal;
use rules::{Class, Onward, Rule};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
pub use turn::wish;

/// The rules that a request is played by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When to repeat, wait and move on.
    pub retry: RetryPolicy,
    /// For asking health.
    pub health: Arc<Policy>,
    /// Whether a fault after which the provider may have worked allows another try.
    pub may_replay: bool,
    /// Whether a stream that breaks after content may be taken up by another target.
    pub may_rescue: bool,
    /// Whether the client wants one attempt and no more.
    pub is_single: bool,
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
    /// The same target at once, because a kept connection was dead or the provider said that it did not
    /// touch the request. Free.
    Resend,
    /// The same target at once, because the key that it refused was changed meanwhile. Free.
    NewKey,
    /// The same target at once, without the thinking that it refused. Free.
    WithoutThinking,
    /// Another target.
    Failover,
    /// Another target, beside one that keeps the client waiting.
    Hedge,
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
    /// Whether we called it off, because another attempt had the answer or we had no room for its own; it
    /// has no outcome then.
    pub is_called_off: bool,
    /// Whether nobody was asked: the request cannot be said in the target's dialect.
    pub is_unsaid: bool,
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
    /// How it came about.
    pub cause: Cause,
    /// Whether it wants a connection of its own, as a [`Cause::Resend`] does, and so does who takes up
    /// a stream for the second time because a kept one was dead.
    pub wants_fresh: bool,
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
    /// Whether a kept connection was dead before a byte came back.
    pub is_stale: bool,
    /// Whether the peer said that it did not touch the request (HTTP/2). A hint beside it is its wish
    /// for calm.
    pub is_disowned: bool,
    /// Whether the key was refused, and another one is in force now.
    pub has_new_key: bool,
    /// Whether it refused what was asked of its thinking, and can be asked without.
    pub refuses_thinking: bool,
    /// Whether the error stood inside a 200.
    pub is_inband: bool,
    /// Whether a connect fault was a time-out.
    pub timed_out: bool,
    /// Whether the request could not be said in the target's dialect, so that nobody was asked.
    pub is_unsaid: bool,
    /// Whether there was no room here for its answer, which is no fault of the target's.
    pub is_without_room: bool,
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
            is_disowned: false,
            has_new_key: false,
            refuses_thinking: false,
            is_inband: false,
            timed_out: false,
            is_unsaid: false,
            is_without_room: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    attempts: u32,
    repeats: u32,
    rescues: u32,
    was_resent: bool,
    had_new_key: bool,
    was_without_thinking: bool,
    is_excluded: bool,
    /// It ran beside another whose answer came first: nothing is known against it.
    was_called_off: bool,
    /// When its turn began: at the first attempt there.
    asked_at: Tick,
    /// Why it was passed over when the last choice was made.
    passed: Option<Passed>,
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
    tallies: Vec<Tally>,
    records: SmallVec<[Record; 2]>,
    failovers: u32,
    /// The least time that an attempt behind the first needs.
    least: Duration,
    is_committed: bool,
    /// How the stream first broke.
    first_break: Option<Break>,
    is_rescuable: bool,
    /// What a new beginning would be paid from, where that is known.
    purse: Option<RetryBudget>,
    budget_ran_dry: bool,
    /// Why nobody else is asked, once that is so.
    halt: Halt,
    /// Held while a Retry-After is waited out.
    reserved: Permit,
    changes: Vec<(usize, Change)>,
}

impl Exchange {
    /// Starts a request over its candidates in the order of choice.
    #[must_use]
    pub fn new(rules: Rules, candidates: Candidates) -> Self {
        let tallies = vec![Tally::default(); candidates.len()];
        Exchange {
            rules,
            candidates,
            tallies,
            records: SmallVec::new(),
            failovers: 0,
            least: Duration::ZERO,
            is_committed: false,
            first_break: None,
            is_rescuable: false,
            purse: None,
            budget_ran_dry: false,
            halt: Halt::default(),
            reserved: Permit::default(),
            changes: Vec::new(),
        }
    }

    /// Returns the first step.
    pub fn start(&mut self, now: Tick) -> Step {
        self.least = turn::least(self.rules.deadline.left(now)).max(self.rules.retry.least_time);
        if let Some((candidate, permit)) = self.claim_next(None, now) {
            return self.attempt(candidate, permit, Cause::First, now);
        }
        self.halt = Halt::Final;
        Step::End(Ending::Refuse(self.refusal(now)))
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

    /// Says what a new beginning would be paid from, so that [`Exchange::has_alternative`] counts on
    /// nobody who could not be paid for. Without it every rescuer counts.
    pub fn pays_from(&mut self, budget: &RetryBudget) {
        self.purse = Some(budget.clone());
    }

    /// Notes that the attempt delivered its answer whole.
    pub fn delivered(&mut self, now: Tick) -> Step {
        self.close(&Failure::plain(Outcome::Ok), now);
        Step::End(Ending::Answered)
    }

    /// Notes that the client left.
    pub fn client_gone(&mut self, now: Tick) -> Step {
        for record in self.records.iter_mut().filter(|record| record.ended == Tick::default()) {
            (record.outcome, record.ended) = (Outcome::ClientGone, now);
        }
        Step::End(Ending::Abandoned)
    }

    /// Decides after a failed attempt. `health` must have been told before, so that the answer
    /// reckons with what the failure did there.
    pub fn failed(&mut self, failure: &Failure, now: Tick, budget: &RetryBudget, dice: u64) -> Step {
        self.close(failure, now);
        let Some(current) = self.records.last().map(|r| r.candidate) else {
            return Step::End(Ending::Refuse(self.refusal(now)));
        };
        if failure.outcome == Outcome::ClientGone {
            return Step::End(Ending::Abandoned);
        }
        if self.is_committed {
            return self.rescue(failure, current, now, budget);
        }
        if failure.is_without_room {
            // Our own shortage: whoever is asked next has an answer as large, and is paid for it as well.
            self.halt = Halt::Final;
            return Step::End(Ending::Refuse(ending::without_room()));
        }
        if failure.outcome == Outcome::TimeoutTotal {
            self.leave(current, failure.outcome, now);
            self.halt = Halt::Deadline;
            return self.out_of_time(now);
        }
        let rule = self.rule_of(failure);
        if !self.rules.is_single
            && let Some(step) = self.without_thinking(failure, current, now)
        {
            return step;
        }
        if rule.onward == Onward::Relay {
            self.halt = Halt::RequestAtFault;
            return Step::End(Ending::Relay);
        }
        let is_untouched = rule.class == Class::Unprocessed || failure.is_stale || failure.is_disowned;
        let may_go_on = self.rules.may_replay || is_untouched;
        if !may_go_on || rule.onward == Onward::Stop {
            self.leave(current, failure.outcome, now);
            self.halt = if may_go_on { Halt::Final } else { Halt::NotReplayable };
            return self.give_up(rule, now);
        }
        // Not even where a kept connection was dead: it may have been read before it was reset.
        if self.rules.is_single {
            self.leave(current, failure.outcome, now);
            self.halt = Halt::Single;
            return self.give_up(rule, now);
        }
        if let Some(step) = self.resend(failure, rule, current, now) {
            return step;
        }
        self.exclude_alike(current, failure.outcome);
        let next = self.peek_next(Some((current, rule)), now);
        let next_is_equal = next.is_some_and(|at| self.candidates[at].is_equal(&self.candidates[current]));
        // Row 20 has its one resend behind it, and no more.
        let repeats_first =
            !failure.is_disowned && (!next_is_equal || self.rules.retry.prefer == Prefer::SameTarget);
        if repeats_first && let Some(until) = self.repeat_at(rule, failure, current, now, budget, dice) {
            return Step::Pause { until };
        }
        self.leave(current, failure.outcome, now);
        self.move_on(rule, current, now)
    }

    /// Decides after a pause.
    pub fn resume(&mut self, now: Tick) -> Step {
        let Some(last) = self.records.last().copied() else { return self.start(now) };
        let reserved = std::mem::take(&mut self.reserved);
        let units = &self.candidates[last.candidate].health;
        if self.has_time(now) && units.may_repeat(now, &self.rules.health) {
            return self.attempt(last.candidate, reserved, Cause::Repeat, now);
        }
        drop(reserved);
        self.leave(last.candidate, last.outcome, now);
        self.move_on(rules::rule(last.outcome, last.status, false), last.candidate, now)
    }

    /// Returns the changes of health that came of leaving targets, each with its candidate, once.
    pub fn take_changes(&mut self) -> Vec<(usize, Change)> {
        std::mem::take(&mut self.changes)
    }

    /// Tells whether the request could go elsewhere now: a first-content, response or stall timer
    /// that runs out counts only then.
    #[must_use]
    pub fn has_alternative(&self, now: Tick) -> bool {
        if !self.rules.may_replay || self.rules.is_single || !self.has_time(now) {
            return false;
        }
        if self.is_committed {
            return self.has_rescuer(now);
        }
        self.failovers < self.rules.retry.failovers && self.peek_next(None, now).is_some()
    }

    /// Tells whether what a content filter stopped is left for another target.
    #[must_use]
    pub fn leaves_filtered(&self) -> bool {
        self.rules.retry.moves_on_content_filter && !self.is_committed
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
        self.candidates.iter().map(move |c| c.health.look(now, &self.rules.health).err())
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
        let is_the_providers_word = match rule.onward {
            Onward::NextLarger | Onward::NextOrRelay | Onward::Relay => true,
            Onward::Next | Onward::Stop => false,
        };
        Step::End(if is_the_providers_word { Ending::Relay } else { Ending::Refuse(self.refusal(now)) })
    }

    /// The deadline has passed, or is too near for anybody else.
    fn out_of_time(&self, now: Tick) -> Step {
        Step::End(Ending::Refuse(ending::out_of_time(&self.standing(now), now)))
    }

    fn rule_of(&self, failure: &Failure) -> Rule {
        let Failure { outcome, status, is_inband, timed_out, .. } = *failure;
        rules::rule(outcome, status, is_inband).bent(outcome, timed_out, is_inband, &self.rules.retry)
    }

    fn attempt(&mut self, candidate: usize, permit: Permit, cause: Cause, now: Tick) -> Step {
        Step::Try(self.begin(candidate, permit, cause, now))
    }

    fn begin(&mut self, candidate: usize, permit: Permit, cause: Cause, now: Tick) -> Try {
        let is_elsewhere = self.records.last().is_some_and(|last| last.candidate != candidate);
        let tally = &mut self.tallies[candidate];
        if tally.attempts == 0 {
            tally.asked_at = now;
        }
        tally.attempts += 1;
        match cause {
            Cause::First => {}
            Cause::Repeat => tally.repeats += 1,
            Cause::Resend => tally.was_resent = true,
            Cause::NewKey => tally.had_new_key = true,
            Cause::WithoutThinking => tally.was_without_thinking = true,
            Cause::Failover | Cause::Hedge => self.failovers += 1,
            Cause::Continue | Cause::Restart => {
                tally.rescues += 1;
                // Who broke first takes its own stream up; who refused to go on begins anew.
                let is_own = self.first_break.is_some_and(|first| first.at == candidate);
                self.failovers += u32::from(is_elsewhere && !is_own);
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
            is_called_off: false,
            is_unsaid: false,
        });
        Try { candidate, permit, cause, wants_fresh: cause == Cause::Resend }
    }

    fn close(&mut self, failure: &Failure, now: Tick) {
        if let Some(record) = self.records.last_mut() {
            record.outcome = failure.outcome;
            record.status = failure.status.or(record.status);
            record.timed_out = failure.timed_out;
            record.is_unsaid = failure.is_unsaid;
            record.is_called_off = failure.is_without_room;
            record.ended = now;
        }
    }
}
