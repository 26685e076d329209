//! May a second target be asked while the first still keeps the client waiting?
//!
//! Some requests are slow for no reason that a breaker could see: a cold replica, a queue, a lost
//! packet. Asking another target beside them buys back most of that wait for a few percent more
//! requests. The rule in words:
//!
//! 1. *Whom.* The next target in the order of choice that may be used, whose breaker is closed: a
//!    half-open one is probed by requests that have no other.
//! 2. *When.* Before commit, for a request that may be replayed, once a request, within
//!    `retry.failovers` and with the least time of an attempt left ([`super::turn`]).
//! 3. *How often.* At most `max_ratio` of the requests that could be hedged: each brings that
//!    share of a hedge into a bucket that starts empty and holds ten. A hedge is paid for out of
//!    the retry budget besides.
//! 4. *Who wins.* Who is first fit to go downstream. The other is *called off*: that is our doing
//!    and counts neither for nor against it. A fault of one leaves the race to the other, but for
//!    a fault that would end the request: that is the answer of both.
//!
//! The record of whoever goes on stands last: what follows (commit, fault, rescue) is its story.

use super::budget::RetryBudget;
use super::course::Passed;
use super::rules::Onward;
use super::{Cause, Exchange, Failure, Try};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::health::Permit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One hedge, in the units of the bucket: whole numbers, so that ten tenths are one.
const ONE: u64 = 1_000_000;
/// What the bucket holds at most.
const CAPACITY: u64 = 10 * ONE;

/// The hedges that the process may make.
#[derive(Debug, Default)]
pub struct Hedges(AtomicU64);

impl Hedges {
    /// Adds what a request brings that could be hedged: the share `ratio` of a hedge.
    pub fn deposit(&self, ratio: f64) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a million")]
        let share = (ratio.clamp(0.0, 1.0) * 1e6).round() as u64;
        self.add(share);
    }

    fn add(&self, share: u64) {
        let more = |held: u64| Some(held.saturating_add(share).min(CAPACITY));
        // Never refused: `more` always has an answer.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn withdraw(&self) -> bool {
        let less = |held: u64| held.checked_sub(ONE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Exchange {
    /// Tells whether the request is one of those of which a share may be hedged.
    #[must_use]
    pub fn could_hedge(&self) -> bool {
        self.rules.may_replay
            && !self.rules.is_single
            && self.rules.retry.failovers > 0
            && self.candidates.len() > 1
    }

    /// Tells whether another target could be asked beside an attempt that begins now, should it
    /// be slow.
    #[must_use]
    pub fn may_hedge(&self) -> bool {
        self.rules.may_replay
            && !self.rules.is_single
            && !self.is_committed
            && self.failovers < self.rules.retry.failovers
            && !self.records.iter().any(|record| record.cause == Cause::Hedge)
            && (0..self.candidates.len()).any(|at| self.is_open_to(at, None))
    }

    /// Finds who is asked beside the running attempt; nobody where nobody may.
    pub fn hedge(&mut self, now: Tick, hedges: &Hedges, budget: &RetryBudget) -> Option<Try> {
        if !self.may_hedge() || !self.has_time(now) {
            return None;
        }
        let (at, permit) = self.claim_sound(now)?;
        if !hedges.withdraw() {
            return None;
        }
        if !budget.withdraw(now, &self.rules.retry) {
            hedges.add(ONE);
            self.budget_ran_dry = true;
            return None;
        }
        Some(self.begin(at, permit, Cause::Hedge, now))
    }

    /// Claims the next target whose breaker is closed. It comes before the payment: somebody may be
    /// quicker, and then nothing is owed.
    fn claim_sound(&mut self, now: Tick) -> Option<(usize, Permit)> {
        let policy = Arc::clone(&self.rules.health);
        for at in 0..self.candidates.len() {
            if !self.is_open_to(at, None) {
                continue;
            }
            let health = &self.candidates[at].health;
            let claimed = if health.is_closed(now, &policy) {
                health.admit(now, &policy).map(Some)
            } else {
                health.look(now, &policy).map(|()| None)
            };
            match claimed {
                Ok(Some(permit)) => return Some((at, permit)),
                Ok(None) => {}
                Err(resting) => self.tallies[at].passed = Some(Passed::Resting(resting)),
            }
        }
        None
    }

    /// Tells whether a fault of one of two attempts ends the request for both: it lies with the
    /// request, or the rules say to stop there.
    #[must_use]
    pub fn ends_both(&self, failure: &Failure) -> bool {
        if failure.is_without_room {
            return false;
        }
        match self.rule_of(failure).onward {
            // It is this target that cannot be asked so.
            Onward::Relay | Onward::Stop if failure.refuses_thinking => false,
            Onward::Relay | Onward::Stop => true,
            Onward::Next | Onward::NextLarger | Onward::NextOrRelay => false,
        }
    }

    /// Notes that one of two attempts failed while the other goes on. `health` must have been told
    /// before.
    pub fn fell_out(&mut self, candidate: usize, failure: &Failure, now: Tick) {
        self.set_last(candidate);
        self.close(failure, now);
        self.exclude_alike(candidate, failure.outcome);
        self.leave(candidate, failure.outcome, now);
        self.put_behind();
    }

    /// Notes that one of two attempts was called off because the other has the answer.
    pub fn call_off(&mut self, candidate: usize, now: Tick) {
        self.set_last(candidate);
        self.close(&Failure::plain(Outcome::Ok), now);
        if let Some(record) = self.records.last_mut() {
            record.is_called_off = true;
        }
        self.tallies[candidate].was_called_off = true;
        self.put_behind();
    }

    /// Puts the running attempt at a candidate last.
    fn set_last(&mut self, candidate: usize) {
        if self.records.last().is_some_and(|record| record.candidate != candidate) {
            self.put_behind();
        }
    }

    /// Changes the places of the two attempts that run side by side.
    fn put_behind(&mut self) {
        if let [.., one, other] = &mut self.records[..] {
            std::mem::swap(one, other);
        }
    }
}
