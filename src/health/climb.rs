//! How long does a target rest whose attempts in one request are exhausted?
//!
//! `cooldown.ladder`, such as `[1m, 5m, 25m, 1h]`: the first time the first step, the next time the
//! second, above the last as long as the last. Only faults that were worth a retry climb
//! ([`is_retryable`]); a rejected key or a missing model has a rest of its own. A success that
//! began after the rest was set clears it; its end does not: the next exhausted request climbs
//! on, until `cooldown.forget_after` has passed since the end of the last rest.
//!
//! A request counts from its first attempt at the target: twenty that were under way when the rest
//! began are one event. The rest begins when a request *leaves* the target and not with its first
//! fault, so that a retry that succeeds, or a client that goes away while we wait, costs nothing.
//!
//! Source: requirements 0.4 and E13. An empty ladder, the default, does nothing.

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::CooldownPolicy;

/// The place of one target on the ladder.
#[derive(Debug, Default)]
pub struct Climb {
    until: Tick,
    set_at: Tick,
    steps: u32,
    reason: Option<Outcome>,
}

impl Climb {
    /// Returns until when and why the target rests; nothing when it does not.
    #[must_use]
    pub fn at(&self, now: Tick) -> Option<(Tick, Outcome)> {
        self.reason.filter(|_| now < self.until).map(|reason| (self.until, reason))
    }

    /// Notes that a request left the target because of `outcome`; `began` is when its first
    /// attempt there did.
    pub(super) fn exhausted(&mut self, outcome: Outcome, began: Tick, now: Tick, policy: &CooldownPolicy) {
        let is_same_event = self.reason.is_some() && began < self.set_at;
        if !is_retryable(outcome) || is_same_event {
            return;
        }
        if now >= self.until.after(policy.forget_after) {
            self.steps = 0;
        }
        let Some(span) = policy.ladder.step(self.steps) else { return };
        self.steps = self.steps.saturating_add(1);
        self.until = self.until.max(now.after(span));
        self.set_at = now;
        self.reason = Some(outcome);
    }

    /// Goes back to the foot, if the success began after the rest was set.
    pub(super) fn success(&mut self, began: Tick) {
        if self.reason.is_some() && began >= self.set_at {
            *self = Climb::default();
        }
    }
}

/// Tells whether a fault is one that trying again may mend.
fn is_retryable(outcome: Outcome) -> bool {
    match outcome {
        Outcome::RateLimited
        | Outcome::Overloaded
        | Outcome::ServerError
        | Outcome::Connect
        | Outcome::Reset
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError
        | Outcome::TimeoutFirstContent
        | Outcome::TimeoutStall => true,
        Outcome::Ok
        | Outcome::Quota
        | Outcome::Auth
        | Outcome::Permission
        | Outcome::Region
        | Outcome::ModelUnavailable
        | Outcome::TooLarge
        | Outcome::ClientError
        | Outcome::ContentFiltered
        | Outcome::ContextLength
        | Outcome::Dns
        | Outcome::Tls
        | Outcome::TimeoutTotal
        | Outcome::ClientGone => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Ladder;
    use std::time::Duration;

    /// The Go router's: 1 m, 5 m, 25 m, 1 h.
    fn policy() -> CooldownPolicy {
        let steps = [60, 300, 1500, 3600].map(Duration::from_secs);
        CooldownPolicy { ladder: Ladder::of(steps), ..CooldownPolicy::default() }
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    /// Leaves the target at `now` and returns for how many seconds it rests.
    fn leave(climb: &mut Climb, outcome: Outcome, now: u64) -> u64 {
        climb.exhausted(outcome, at(now), at(now), &policy());
        climb.at(at(now)).map_or(0, |(until, _)| until.since(at(now)).as_secs())
    }

    #[test]
    fn each_exhausted_request_climbs_a_step_and_the_end_of_a_rest_does_not_step_down() {
        let mut climb = Climb::default();
        let mut now = 10;
        for want in [60, 300, 1500, 3600, 3600] {
            assert_eq!(leave(&mut climb, Outcome::ServerError, now), want);
            assert!(climb.at(at(now + want)).is_none(), "the rest of {want} s has ended");
            now += want + 600;
        }
        climb.success(at(now));
        assert_eq!(leave(&mut climb, Outcome::Reset, now), 60, "a success clears");
    }

    #[test]
    fn a_ladder_not_climbed_for_a_day_starts_again() {
        for (pause, want) in [(86_399, 300), (86_400, 60)] {
            let mut climb = Climb::default();
            leave(&mut climb, Outcome::ServerError, 0);
            assert_eq!(leave(&mut climb, Outcome::ServerError, 60 + pause), want, "after {pause} s");
        }
    }

    #[test]
    fn only_faults_worth_a_retry_climb() {
        for outcome in Outcome::ALL {
            let rests = leave(&mut Climb::default(), outcome, 1) > 0;
            assert_eq!(rests, is_retryable(outcome), "{outcome:?}");
        }
        for outcome in [Outcome::ClientError, Outcome::Auth, Outcome::ClientGone, Outcome::ContentFiltered] {
            assert_eq!(leave(&mut Climb::default(), outcome, 1), 0, "{outcome:?}");
        }
    }

    #[test]
    fn requests_under_way_together_climb_one_step_and_an_older_success_clears_nothing() {
        let mut climb = Climb::default();
        for _ in 0..20 {
            climb.exhausted(Outcome::ServerError, at(1), at(2), &policy());
        }
        assert_eq!(climb.at(at(2)), Some((at(62), Outcome::ServerError)));
        climb.success(at(1));
        assert!(climb.at(at(2)).is_some());
        climb.success(at(3));
        assert!(climb.at(at(3)).is_none());
    }

    #[test]
    fn without_a_ladder_nothing_rests() {
        let mut climb = Climb::default();
        climb.exhausted(Outcome::ServerError, at(1), at(1), &CooldownPolicy::default());
        assert!(climb.at(at(1)).is_none());
    }
}
