//! Who is asked next?
//!
//! The first candidate in the order of choice that was neither asked nor ruled out, is large enough
//! where the one before was too small, and whose health allows it. Where health allows nobody, those
//! that rest on a guess of ours are asked after all. Whoever is passed over is noted with the reason
//! ([`super::course`]).
//!
//! A candidate is ruled out where the same fault would meet it ([`Exchange::exclude_alike`]), and where
//! its provider had all the attempts of one request. Moving on ends at `retry.failovers` and
//! where no time is left.

use super::course::{Halt, Passed};
use super::rules::{Onward, Rule};
use super::{Cause, Exchange, Step};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::health::{self, Permit, Policy, Resting, Units};
use crate::select::Candidate;
use std::sync::Arc;

impl Exchange {
    /// Claims the next candidate that may be asked.
    pub(super) fn claim_next(&mut self, after: Option<(usize, Rule)>, now: Tick) -> Option<(usize, Permit)> {
        self.choose(after, now, Units::admit, Units::admit_at_last)
    }

    /// Finds the next candidate that may be asked, and notes who was passed over and why. Health is
    /// asked by `usual`, and by `at_last` where it allows nobody.
    pub(super) fn choose<T>(
        &mut self,
        after: Option<(usize, Rule)>,
        now: Tick,
        usual: impl Fn(&Units, Tick, &Policy) -> Result<T, Resting>,
        at_last: impl Fn(&Units, Tick, &Policy) -> Result<T, Resting>,
    ) -> Option<(usize, T)> {
        let policy = Arc::clone(&self.rules.health);
        for at in 0..self.candidates.len() {
            if !self.is_left(at) {
                continue;
            }
            if !self.is_large_enough(at, after) {
                self.tallies[at].passed = Some(Passed::Smaller);
                continue;
            }
            match usual(&self.candidates[at].health, now, &policy) {
                Ok(claimed) => return Some((at, claimed)),
                Err(resting) => self.tallies[at].passed = Some(Passed::Resting(resting)),
            }
        }
        let mut open = (0..self.candidates.len()).filter(|at| self.is_open_to(*at, after));
        open.find_map(|at| Some((at, at_last(&self.candidates[at].health, now, &policy).ok()?)))
    }

    pub(super) fn move_on(&mut self, rule: Rule, current: usize, now: Tick) -> Step {
        if self.failovers >= self.rules.retry.failovers {
            self.halt = Halt::Failovers;
            return self.give_up(rule, now);
        }
        if !self.has_time(now) {
            self.halt = Halt::Deadline;
            // A provider's own word says more than our clock.
            let is_cut_off =
                rule.onward == Onward::Next && self.peek_next(Some((current, rule)), now).is_some();
            return if is_cut_off { self.out_of_time(now) } else { self.give_up(rule, now) };
        }
        if let Some((candidate, permit)) = self.claim_next(Some((current, rule)), now) {
            return self.attempt(candidate, permit, Cause::Failover, now);
        }
        self.halt = Halt::Final;
        self.give_up(rule, now)
    }

    pub(super) fn peek_next(&self, after: Option<(usize, Rule)>, now: Tick) -> Option<usize> {
        (0..self.candidates.len()).find(|at| {
            self.is_open_to(*at, after) && self.candidates[*at].health.look(now, &self.rules.health).is_ok()
        })
    }

    pub(super) fn is_open_to(&self, at: usize, after: Option<(usize, Rule)>) -> bool {
        self.is_left(at) && self.is_large_enough(at, after)
    }

    /// Tells whether a candidate was neither asked nor ruled out.
    fn is_left(&self, at: usize) -> bool {
        let tally = &self.tallies[at];
        tally.attempts == 0 && !tally.is_excluded && !self.is_spent(&self.candidates[at])
    }

    fn is_large_enough(&self, at: usize, after: Option<(usize, Rule)>) -> bool {
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

    /// Tells whether the candidate's provider had all the attempts that one request may make there.
    pub(super) fn is_spent(&self, candidate: &Candidate) -> bool {
        let most = self.rules.retry.provider_attempts;
        if most == 0 {
            return false;
        }
        let made = self.candidates.iter().zip(&self.tallies);
        let made = made.filter(|(other, _)| other.provider == candidate.provider);
        made.map(|(_, tally)| tally.attempts).sum::<u32>() >= most
    }

    /// Leaves a target for good: it climbs the ladder of `cooldown`, if there is one.
    pub(super) fn leave(&mut self, current: usize, outcome: Outcome, now: Tick) {
        let Some(began) = self.records.iter().find(|r| r.candidate == current).map(|r| r.began) else {
            return;
        };
        let units = &self.candidates[current].health;
        let change = units.exhausted(outcome, began, now, &self.rules.health);
        self.changes.extend(change.map(|change| (current, change)));
    }

    /// Rules out whom the same fault would meet: behind a provider's other keys its overloaded model
    /// (row 12), and everything of one that cannot be reached (rows 1 to 4) or does not serve our region
    /// (row 13). Each of them would cost the request one of its changes.
    pub(super) fn exclude_alike(&mut self, current: usize, outcome: Outcome) {
        let is_everything =
            matches!(outcome, Outcome::Connect | Outcome::Dns | Outcome::Tls | Outcome::Region);
        if !is_everything && !health::is_shared(outcome, &self.rules.health.cooldown) {
            return;
        }
        let (provider, model) = (self.candidates[current].provider, self.candidates[current].model.clone());
        for (candidate, tally) in self.candidates.iter().zip(&mut self.tallies) {
            if candidate.provider == provider && (is_everything || candidate.model == model) {
                tally.is_excluded = true;
            }
        }
    }
}
