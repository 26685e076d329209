//! Who holds the right to find out whether a target works again?
//!
//! A [`Permit`] is the right to one attempt. Where a breaker is half open it holds the probe, where
//! a rest has just passed it holds the first try after it: rights that few may hold at once, so
//! that a provider that is coming back meets one request and not all of them. Dropping a permit
//! gives back what it holds without counting it, so that a cancelled attempt cannot keep a target
//! shut.

use super::Unit;
use crate::base::time::Tick;
use std::sync::Arc;

/// The right to one attempt. Dropping it gives claimed probes back without counting them.
#[derive(Debug, Default)]
pub struct Permit {
    /// Half-open probes, and the breaker's claims for them. Nearly always empty.
    pub(super) probes: Vec<(Arc<Unit>, Tick)>,
    /// First tries after a rest, and for when they were claimed. Nearly always empty.
    pub(super) trials: Vec<(Arc<Unit>, Tick)>,
}

impl Permit {
    /// Tells whether it holds a probe of a unit.
    pub(super) fn probes(&self, unit: &Arc<Unit>) -> bool {
        self.probes.iter().any(|(claimed, _)| Arc::ptr_eq(claimed, unit))
    }

    /// Lets others follow where this was the first try after a rest.
    pub(super) fn pass(&mut self) {
        for (unit, claimed) in self.trials.drain(..) {
            unit.0.lock().rest.pass(claimed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for (unit, claim) in self.probes.drain(..) {
            unit.0.lock().breaker.release(claim);
        }
        for (unit, claimed) in self.trials.drain(..) {
            unit.0.lock().rest.release(claimed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::outcome::Outcome;
    use crate::health::fixture::{at, policy, units};
    use crate::health::{Report, Resting, Units};
    use crate::wire::retry_hint::RetryHint;
    use std::time::Duration;

    fn ms(millis: u64) -> Tick {
        Tick(millis * 1000)
    }

    fn report(outcome: Outcome, hint: RetryHint, began: Tick) -> Report {
        Report { outcome, hint, account_wide: false, is_permanent: false, began }
    }

    /// Ends an attempt with a throw of the dice that leaves a span as it is.
    fn end(units: &Units, permit: Permit, outcome: Outcome, hint: RetryHint, now: Tick) {
        units.report(permit, &report(outcome, hint, now), now, &policy(), 20);
    }

    fn limited(units: &Units, hint: RetryHint, now: Tick) {
        end(units, Permit::default(), Outcome::RateLimited, hint, now);
    }

    #[test]
    fn the_first_try_after_a_rest_is_alone() {
        for (outcome, account_wide) in
            [(Outcome::RateLimited, false), (Outcome::RateLimited, true), (Outcome::Overloaded, false)]
        {
            let own = units();
            let fault = Report { account_wide, ..report(outcome, RetryHint::None, at(0)) };
            own.report(Permit::default(), &fault, at(0), &policy(), 20);
            let first = own.admit(at(5), &policy()).unwrap();
            assert_eq!(own.admit(at(5), &policy()).unwrap_err(), Resting::Probing, "{outcome:?}");
            let fault = Report { account_wide, ..report(outcome, RetryHint::None, at(5)) };
            own.report(first, &fault, at(5), &policy(), 20);
            assert!(matches!(own.look(at(14), &policy()), Err(Resting::Cooling { .. })), "{outcome:?}");
            assert!(own.admit(at(15), &policy()).is_ok(), "{outcome:?}: nobody tries yet");
        }
    }

    #[test]
    fn others_follow_the_first_try_unless_it_is_told_to_rest_again() {
        for (outcome, follow, why) in [
            (Outcome::Ok, true, "it works"),
            (Outcome::ClientError, true, "it reads requests"),
            (Outcome::ServerError, true, "the breaker's business from here on"),
            (Outcome::RateLimited, false, "the limit lasts"),
            (Outcome::Connect, false, "it says nothing about the limit, so one more tries"),
            (Outcome::ClientGone, false, "it showed nothing, so one more tries"),
        ] {
            let own = units();
            limited(&own, RetryHint::None, at(0));
            let first = own.admit(at(5), &policy()).unwrap();
            end(&own, first, outcome, RetryHint::None, at(5));
            let now = if outcome == Outcome::RateLimited { at(15) } else { at(6) };
            let second = own.admit(now, &policy()).unwrap();
            assert_eq!(own.admit(now, &policy()).is_ok(), follow, "{outcome:?}: {why}");
            drop(second);
        }
    }

    #[test]
    fn the_first_content_lets_others_follow() {
        let own = units();
        limited(&own, RetryHint::None, at(0));
        let mut first = own.admit(at(5), &policy()).unwrap();
        own.content_began(&mut first, at(5), &policy());
        let second = own.admit(at(5), &policy());
        assert!(second.is_ok() && own.admit(at(5), &policy()).is_ok());
    }

    #[test]
    fn a_first_try_that_is_silent_for_a_second_holds_nobody_back() {
        let own = units();
        limited(&own, RetryHint::None, at(0));
        let _first = own.admit(at(5), &policy()).unwrap();
        assert!(own.admit(ms(5_999), &policy()).is_err());
        assert!(own.admit(ms(6_000), &policy()).is_ok());
    }

    #[test]
    fn who_waits_out_a_retry_after_comes_first() {
        let own = units();
        limited(&own, RetryHint::After(Duration::from_secs(2)), at(0));
        let waiting = own.reserve(ms(2_040));
        assert_eq!(own.admit(ms(2_010), &policy()).unwrap_err(), Resting::Probing);
        drop(waiting);
        assert!(own.admit(ms(2_010), &policy()).is_ok(), "the client left");
    }

    #[test]
    fn a_guess_does_not_shut_the_last_door_but_a_providers_word_does() {
        let minute = RetryHint::After(Duration::from_secs(60));
        for (outcome, hint, opens, why) in [
            (Outcome::RateLimited, RetryHint::None, true, "rests of 5, 10, 20 and 40 s are guesses"),
            (Outcome::RateLimited, minute, false, "it said when"),
            (Outcome::Quota, RetryHint::None, false, "waiting does not help"),
            (Outcome::Auth, RetryHint::None, false, "trying does not help"),
        ] {
            let own = units();
            for _ in 0..4 {
                end(&own, Permit::default(), outcome, hint, at(0));
            }
            assert!(own.admit_at_last(at(7), &policy()).is_err(), "{outcome:?}: {why}");
            assert!(own.admit(at(8), &policy()).is_err(), "{outcome:?}: {why}");
            let first = own.admit_at_last(at(8), &policy());
            assert_eq!(first.is_ok(), opens, "{outcome:?}: {why}");
            assert!(own.admit_at_last(at(8), &policy()).is_err(), "{outcome:?}: alone");
        }
    }
}
