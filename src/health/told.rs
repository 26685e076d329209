//! Which changes of state were told, and which are news?
//!
//! Each unit remembers the state that was told of it last. Whatever changes it, an attempt, a time that
//! has passed or the operator, is news until somebody asks: so each change is told once,
//! also those that only the clock brings about (a rest that ends, a breaker that lets a probe through).
//! What a state is called says [`Stance`].

use super::unit::State;
use super::{Change, Policy, Resting, Scope, Stance, Units};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::BreakerPolicy;
use smallvec::SmallVec;

/// The state that was told last.
#[derive(Debug)]
pub(super) struct Told(&'static str);

impl Default for Told {
    fn default() -> Self {
        Told(Stance::READY)
    }
}

impl State {
    /// Returns the change since the last one told, if there is one. `reason` is what brought it about,
    /// where that was not the time alone.
    pub(super) fn news(
        &mut self,
        scope: Scope,
        reason: Option<Outcome>,
        now: Tick,
        policy: &BreakerPolicy,
    ) -> Option<Change> {
        let to = Stance::of(self.look(now, policy).err(), self.breaker.state(now, policy)).as_label();
        let from = std::mem::replace(&mut self.told.0, to);
        if from == to {
            return None;
        }
        // Time ends a rest and lets a probe through; only successes close a breaker.
        let is_closed = to == Stance::READY && from != Stance::COOLING;
        let resting = self.look(now, policy).err();
        let last = || self.last_fault.filter(|_| !is_closed).map(|(_, outcome)| outcome);
        let said = reason.or_else(|| resting.and_then(Resting::reason));
        let reason = said.or_else(last).unwrap_or(Outcome::Ok);
        let until = resting.and_then(Resting::until);
        Some(Change { scope, from, to, reason, until })
    }
}

impl Units {
    /// Takes note of a change of the target's own that somebody else tells.
    pub fn target_was_told(&self, now: Tick, policy: &Policy) {
        self.target.0.lock().news(Scope::Target, None, now, &policy.breaker);
    }

    /// Returns what has changed since it was last told.
    #[must_use]
    pub fn news(&self, now: Tick, policy: &Policy) -> SmallVec<[Change; 2]> {
        let units = [
            (Scope::Endpoint, &self.endpoint),
            (Scope::Credential, &self.credential),
            (Scope::Target, &self.target),
        ];
        let news = units
            .into_iter()
            .filter_map(|(scope, unit)| unit.0.lock().news(scope, None, now, &policy.breaker));
        news.collect()
    }

    /// Returns when time alone changes a state next.
    #[must_use]
    pub fn next_change(&self, now: Tick, policy: &Policy) -> Option<Tick> {
        let units = [&self.target, &self.credential, &self.endpoint];
        let resting = units.into_iter().filter_map(|unit| unit.0.lock().look(now, &policy.breaker).err());
        resting.filter_map(Resting::until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fixture::{at, policy, units};
    use crate::health::{Operation, Permit, Report};
    use crate::wire::retry_hint::RetryHint;

    fn told(changes: &[Change]) -> Vec<(&'static str, &'static str, Outcome)> {
        changes.iter().map(|change| (change.from, change.to, change.reason)).collect()
    }

    fn end(units: &Units, permit: Permit, outcome: Outcome, now: Tick) -> SmallVec<[Change; 2]> {
        let report =
            Report { outcome, hint: RetryHint::None, account_wide: false, is_permanent: false, began: now };
        units.report(permit, &report, now, &policy(), 20)
    }

    #[test]
    fn a_breaker_is_told_on_its_whole_way_and_each_step_once() {
        let own = units();
        let bad = Outcome::ServerError;
        let opened: Vec<_> = (0..5).flat_map(|_| end(&own, Permit::default(), bad, at(0))).collect();
        assert_eq!(told(&opened), [("ready", "open", bad)]);
        assert_eq!(own.next_change(at(0), &policy()), Some(at(5)));
        assert!(own.news(at(4), &policy()).is_empty());
        assert_eq!(told(&own.news(at(5), &policy())), [("open", "half_open", bad)]);
        assert!(own.news(at(5), &policy()).is_empty() && own.next_change(at(5), &policy()).is_none());
        let mut first = own.admit(at(6), &policy()).unwrap();
        own.content_began(&mut first, at(6), &policy());
        assert!(end(&own, first, Outcome::Ok, at(7)).is_empty(), "one success is not enough");
        let second = own.admit(at(7), &policy()).unwrap();
        assert_eq!(told(&end(&own, second, Outcome::Ok, at(7))), [("half_open", "ready", Outcome::Ok)]);
    }

    #[test]
    fn a_recovery_at_the_first_content_is_news_before_the_stream_ends() {
        let own = units();
        for _ in 0..5 {
            end(&own, Permit::default(), Outcome::ServerError, at(0));
        }
        for second in [6, 7] {
            let mut permit = own.admit(at(second), &policy()).unwrap();
            assert!(own.content_began(&mut permit, at(second), &policy()));
        }
        assert_eq!(told(&own.news(at(7), &policy())), [("open", "ready", Outcome::Ok)]);
    }

    #[test]
    fn a_rest_that_ends_by_itself_is_told_and_so_is_the_next_one() {
        let own = units();
        let limit = Outcome::RateLimited;
        assert_eq!(told(&end(&own, Permit::default(), limit, at(0))), [("ready", "cooling", limit)]);
        let trial = own.admit(at(5), &policy()).unwrap();
        // Nobody asked in between: both steps at once.
        let both = [("cooling", "ready", limit), ("ready", "cooling", limit)];
        assert_eq!(told(&end(&own, trial, limit, at(5))), both);
        assert_eq!(told(&own.news(at(60), &policy())), [("cooling", "ready", limit)]);
        assert!(end(&own, Permit::default(), Outcome::Ok, at(61)).is_empty());
    }

    #[test]
    fn what_the_operator_wants_is_news_once() {
        let own = units();
        own.target.operate(Operation::Drained);
        assert_eq!(own.news(at(0), &policy()).len(), 1);
        assert!(own.news(at(0), &policy()).is_empty());
    }
}
