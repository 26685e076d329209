//! How long does a target or credential rest, on the provider's word?
//!
//! | outcome | rest | growth |
//! |---|---|---|
//! | rate limited, with a time | that, between 1 s and `cooldown.max` (300 s) | none |
//! | rate limited, none or absurd | `cooldown.default` (5 s), ±20 % | ×2 up to 60 s before the spread |
//! | overloaded | its time, else `cooldown.default`, ±20 % | ×2 up to 10 s before the spread |
//! | 5xx with a time | that, clamped | none |
//! | reset with a time (HTTP/2 was asked for calm) | that, clamped | none |
//! | quota | `cooldown.quota` (15 min), or its time where longer | ×2 up to `quota_max` (6 h) |
//! | auth | `cooldown.auth` (5 min) | ×2 up to `auth_max` (80 min) |
//! | permission, model unavailable | `cooldown.permission`, `cooldown.model` (10 min) | none |
//! | region | `cooldown.region` (1 h) | none |
//! | TLS | `cooldown.tls` (60 s) | none |
//! | DNS | `cooldown.dns` (5 s) | none |
//!
//! Where `cooldown.hold` is set, it is the rest for rate limits, overload, 5xx, quota and permission
//! alike, unless a time was said, and nothing grows.
//!
//! A cooldown is never shortened, only passes or is cleared by a success that *began after* it was
//! set. A fault of an attempt that began before the present rest does not climb the ladder: twenty
//! requests under way when a limit strikes are one event, not twenty. A duration of zero in the
//! configuration switches that rest off.
//!
//! *The first try after a rest is alone.* Nobody knows yet whether the limit is over, and a hundred
//! requests would find out no better than one. The others pass once it was answered otherwise than
//! with another rest, and at the latest after [`TRIAL`]: limits are told at once, and who still says
//! nothing by then is at work.
//!
//! *A guess does not shut the last door.* The ladder above is ours where the provider named no time.
//! A request that has no other target left tries one that rests on a guess after [`LONGEST_GUESS`],
//! alone as well: else an outage would outlast its cause by up to a minute.

use super::breaker::spread;
use super::effect::is_held;
use super::{Report, Resting};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::CooldownPolicy;
use crate::wire::retry_hint::RetryHint;
use std::time::Duration;

/// Cap of the ladder for rate limits without a time (failure table, row 8).
const RATE_LIMIT_CAP: Duration = Duration::from_secs(60);
/// Cap of the ladder for overloads (row 12); low, because overloads pass quickly.
const OVERLOAD_CAP: Duration = Duration::from_secs(10);
/// Least rest that a provider's word can bring about: `Retry-After: 0` must not make us hammer.
const LEAST: Duration = Duration::from_secs(1);
/// How long the first try after a rest keeps others away.
const TRIAL: Duration = Duration::from_secs(1);
/// How long a rest without a time from the provider keeps away a request that has nowhere else to
/// go, ±20 %: within the longest that a breaker stays open, for the same reason.
const LONGEST_GUESS: Duration = Duration::from_secs(8);

/// The rest of one unit.
#[derive(Debug, Default)]
pub struct Rest {
    until: Tick,
    /// Until when it keeps away those who have nowhere else to go; at most `until`.
    until_at_last: Tick,
    set_at: Tick,
    reason: Option<Outcome>,
    steps: u32,
    trial: Trial,
}

/// How the first try after a rest stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trial {
    /// Nobody tries yet.
    #[default]
    Due,
    /// Somebody does, since then.
    Running(Tick),
    /// It was not told to rest again.
    Over,
}

/// Who asks for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A request with other targets left, or any other look.
    Usual,
    /// A request that has nowhere else to go.
    Last,
}

impl Rest {
    /// Returns until when and why the unit rests; nothing when it does not.
    #[must_use]
    pub fn at(&self, now: Tick) -> Option<(Tick, Outcome)> {
        self.reason.filter(|_| now < self.until).map(|reason| (self.until, reason))
    }

    /// Tells whether a request may pass, without claiming the first try.
    pub(super) fn look(&self, now: Tick, need: Need) -> Result<(), Resting> {
        let Some(reason) = self.reason else { return Ok(()) };
        let until = match need {
            Need::Usual => self.until,
            Need::Last => self.until_at_last,
        };
        match self.trial {
            _ if now < until => Err(Resting::Cooling { until: self.until, reason }),
            Trial::Running(since) if now < since.after(TRIAL) => Err(Resting::Probing),
            Trial::Due | Trial::Running(_) | Trial::Over => Ok(()),
        }
    }

    /// Claims the first try where it is due, for a request that begins or will begin at `at`; `true`
    /// when the caller now holds it.
    pub(super) fn claim(&mut self, at: Tick) -> bool {
        let is_due = self.reason.is_some() && self.trial == Trial::Due;
        if is_due {
            self.trial = Trial::Running(at);
        }
        is_due
    }

    /// Gives the first try back, claimed for `at`: it did not show anything.
    pub(super) fn release(&mut self, at: Tick) {
        if self.trial == Trial::Running(at) {
            self.trial = Trial::Due;
        }
    }

    /// Lets the others pass, because the first try claimed for `at` was not told to rest again. Rest
    /// and ladder stay: only a success clears them.
    pub(super) fn pass(&mut self, at: Tick) {
        if self.trial == Trial::Running(at) {
            self.trial = Trial::Over;
        }
    }

    /// Starts or extends the rest.
    pub(super) fn begin(&mut self, report: &Report, now: Tick, policy: &CooldownPolicy, dice: u64) {
        let is_new_event = self.reason.is_none() || report.began >= self.set_at;
        let same_ladder = self.reason == Some(report.outcome);
        let steps = match (is_new_event, same_ladder) {
            (true, true) => self.steps.saturating_add(1),
            (false, true) => self.steps.max(1),
            (_, false) => 1,
        };
        let span = span(report, steps - 1, policy, dice);
        if span.is_zero() {
            return;
        }
        let until = now.after(span);
        let guess = spread(LONGEST_GUESS, dice).max(policy.default);
        let until_at_last = if is_guessed(report, policy) { until.min(now.after(guess)) } else { until };
        let is_longer = until > self.until;
        if is_longer {
            self.until = until;
            self.reason = Some(report.outcome);
        }
        // The ladder is its reason's: what passes sooner does not start it anew.
        if is_longer || same_ladder {
            self.steps = steps;
        }
        self.until_at_last = self.until_at_last.max(until_at_last);
        self.trial = Trial::Due;
        if is_new_event {
            self.set_at = now;
        }
    }

    /// Clears the rest and its ladder, if the success began after the rest was set.
    pub(super) fn success(&mut self, began: Tick) {
        if self.reason.is_some() && began >= self.set_at {
            *self = Rest::default();
        }
    }

    /// Ends the rest if it was set for one of `reasons`.
    pub(super) fn end(&mut self, reasons: &[Outcome]) {
        if self.reason.is_some_and(|reason| reasons.contains(&reason)) {
            *self = Rest::default();
        }
    }
}

/// Tells whether the rest is a guess of ours about something that may pass at any moment: the
/// provider named no time, and the operator none that holds for everything.
fn is_guessed(report: &Report, policy: &CooldownPolicy) -> bool {
    let has_time = matches!(report.hint, RetryHint::After(_));
    let is_limit = matches!(report.outcome, Outcome::RateLimited | Outcome::Overloaded);
    is_limit && !has_time && !is_held(report.outcome, policy)
}

fn span(report: &Report, step: u32, policy: &CooldownPolicy, dice: u64) -> Duration {
    let said = match report.hint {
        RetryHint::After(span) => Some(span),
        RetryHint::None | RetryHint::Absurd => None,
    };
    let ladder = |base: Duration, cap: Duration| base.saturating_mul(1 << step.min(16)).min(cap.max(base));
    let clamped = |span: Duration| span.clamp(LEAST.min(policy.max), policy.max);
    if is_held(report.outcome, policy) {
        return said.map_or(policy.hold, clamped);
    }
    match report.outcome {
        Outcome::RateLimited => {
            said.map_or_else(|| spread(ladder(policy.default, RATE_LIMIT_CAP), dice).min(policy.max), clamped)
        }
        Outcome::Overloaded => {
            said.map_or_else(|| spread(ladder(policy.default, OVERLOAD_CAP), dice).min(policy.max), clamped)
        }
        Outcome::ServerError | Outcome::Reset => said.map_or(Duration::ZERO, clamped),
        Outcome::Quota => {
            let own = ladder(policy.quota, policy.quota_max);
            said.map_or(own, |span| span.clamp(own, policy.quota_max.max(own)))
        }
        Outcome::Auth => ladder(policy.auth, policy.auth_max),
        Outcome::Permission => policy.permission,
        Outcome::ModelUnavailable => policy.model,
        Outcome::Region => policy.region,
        Outcome::Tls => policy.tls,
        Outcome::Dns => policy.dns,
        Outcome::Ok
        | Outcome::TooLarge
        | Outcome::ClientError
        | Outcome::ContentFiltered
        | Outcome::ContextLength
        | Outcome::Connect
        | Outcome::TimeoutFirstContent
        | Outcome::TimeoutStall
        | Outcome::TimeoutTotal
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError
        | Outcome::ClientGone => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A throw of the dice that leaves a span as it is.
    const EVEN: u64 = 20;

    fn policy() -> CooldownPolicy {
        CooldownPolicy::default()
    }

    fn report(outcome: Outcome, hint: RetryHint, began: u64) -> Report {
        Report { outcome, hint, account_wide: false, is_permanent: false, began: at(began) }
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    #[test]
    fn the_first_rest_follows_the_table() {
        let after = |seconds| RetryHint::After(Duration::from_secs(seconds));
        for (outcome, hint, want, why) in [
            (Outcome::RateLimited, after(2), 2, "row 6: the provider's time"),
            (
                Outcome::RateLimited,
                after(86_400),
                300,
                "row 6: clamped, or a provider could send us away for ever",
            ),
            (
                Outcome::RateLimited,
                RetryHint::After(Duration::from_millis(10)),
                1,
                "row 6: at least a second",
            ),
            (Outcome::RateLimited, RetryHint::None, 5, "row 8: the default"),
            (Outcome::RateLimited, RetryHint::Absurd, 5, "row 8: absurd is none"),
            (Outcome::Quota, after(60), 900, "row 9: a minute does not fill an account"),
            (Outcome::ServerError, RetryHint::None, 0, "row 10: the breaker's business"),
            (Outcome::ServerError, after(7), 7, "row 11: Retry-After counts on 5xx as well"),
            (Outcome::Overloaded, RetryHint::None, 5, "row 12"),
            (Outcome::Auth, RetryHint::None, 300, "row 13"),
            (Outcome::Region, RetryHint::None, 3600, "row 13"),
            (Outcome::ModelUnavailable, RetryHint::None, 600, "row 14"),
            (Outcome::ContextLength, RetryHint::None, 0, "row 15"),
            (Outcome::Reset, after(10), 10, "row 20: calm was asked for"),
            (Outcome::Reset, RetryHint::None, 0, "row 21: the breaker's business"),
            (Outcome::Tls, RetryHint::None, 60, "row 4"),
            (Outcome::Dns, RetryHint::None, 5, "row 3"),
        ] {
            let mut rest = Rest::default();
            rest.begin(&report(outcome, hint, 0), at(1), &policy(), EVEN);
            let got = rest.at(at(1)).map_or(0, |(until, _)| until.since(at(1)).as_secs());
            assert_eq!(got, want, "{outcome:?} {hint:?}: {why}");
        }
    }

    #[test]
    fn the_ladder_doubles_up_to_its_cap_and_a_later_success_resets_it() {
        let mut rest = Rest::default();
        let mut now = 0;
        for want in [5, 10, 20, 40, 60, 60] {
            rest.begin(&report(Outcome::RateLimited, RetryHint::None, now), at(now), &policy(), EVEN);
            let (until, _) = rest.at(at(now)).unwrap();
            assert_eq!(until.since(at(now)).as_secs(), want);
            now += want + 1;
        }
        rest.success(at(now));
        rest.begin(&report(Outcome::RateLimited, RetryHint::None, now), at(now), &policy(), EVEN);
        assert_eq!(rest.at(at(now)).unwrap().0, at(now + 5));
    }

    #[test]
    fn twenty_requests_under_way_are_one_event() {
        let mut rest = Rest::default();
        for _ in 0..20 {
            rest.begin(&report(Outcome::RateLimited, RetryHint::None, 1), at(2), &policy(), EVEN);
        }
        assert_eq!(rest.at(at(2)).unwrap().0, at(7));
    }

    #[test]
    fn a_rest_is_never_shortened_and_an_older_success_does_not_clear_it() {
        let mut rest = Rest::default();
        rest.begin(
            &report(Outcome::RateLimited, RetryHint::After(Duration::from_secs(60)), 0),
            at(1),
            &policy(),
            EVEN,
        );
        rest.begin(
            &report(Outcome::RateLimited, RetryHint::After(Duration::from_secs(1)), 2),
            at(3),
            &policy(),
            EVEN,
        );
        assert_eq!(rest.at(at(3)).unwrap().0, at(61));
        rest.success(at(0));
        assert!(rest.at(at(3)).is_some());
        rest.success(at(4));
        assert!(rest.at(at(4)).is_none());
    }

    #[test]
    fn a_shorter_fault_of_another_kind_does_not_restart_the_ladder() {
        let limited = |rest: &mut Rest, began, now| {
            rest.begin(&report(Outcome::RateLimited, RetryHint::None, began), at(now), &policy(), EVEN);
        };
        let mut rest = Rest::default();
        limited(&mut rest, 0, 0);
        limited(&mut rest, 6, 6);
        limited(&mut rest, 17, 17);
        assert_eq!(rest.at(at(17)), Some((at(37), Outcome::RateLimited)));
        rest.begin(&report(Outcome::Overloaded, RetryHint::None, 18), at(18), &policy(), EVEN);
        assert_eq!(rest.at(at(18)), Some((at(37), Outcome::RateLimited)));
        limited(&mut rest, 38, 38);
        assert_eq!(rest.at(at(38)), Some((at(78), Outcome::RateLimited)), "5, 10, 20, then 40 s");
    }

    #[test]
    fn zero_switches_a_rest_off() {
        let off = CooldownPolicy {
            default: Duration::ZERO,
            max: Duration::ZERO,
            quota: Duration::ZERO,
            quota_max: Duration::ZERO,
            auth: Duration::ZERO,
            auth_max: Duration::ZERO,
            ..CooldownPolicy::default()
        };
        for outcome in [Outcome::RateLimited, Outcome::Overloaded, Outcome::Quota, Outcome::Auth] {
            for hint in [RetryHint::None, RetryHint::After(Duration::from_secs(9))] {
                let mut rest = Rest::default();
                rest.begin(&report(outcome, hint, 0), at(1), &off, EVEN);
                assert!(rest.at(at(1)).is_none(), "{outcome:?} {hint:?}");
            }
        }
    }

    #[test]
    fn rests_without_a_ladder_are_as_long_as_configured_and_zero_is_none() {
        let span = |seconds| Duration::from_secs(seconds);
        let own = CooldownPolicy {
            permission: span(1),
            model: span(2),
            region: span(3),
            tls: span(4),
            dns: span(5),
            ..policy()
        };
        let none = CooldownPolicy {
            permission: span(0),
            model: span(0),
            region: span(0),
            tls: span(0),
            dns: span(0),
            ..policy()
        };
        for (outcome, want) in [
            (Outcome::Permission, 1),
            (Outcome::ModelUnavailable, 2),
            (Outcome::Region, 3),
            (Outcome::Tls, 4),
            (Outcome::Dns, 5),
        ] {
            for (policy, want) in [(&own, Some(at(1 + want))), (&none, None)] {
                let mut rest = Rest::default();
                rest.begin(&report(outcome, RetryHint::None, 0), at(1), policy, EVEN);
                assert_eq!(rest.at(at(1)).map(|(until, _)| until), want, "{outcome:?}");
            }
        }
    }
}
