//! What does the end of an attempt do to health?
//!
//! The columns *cooldown (scope)* and *breaker* of the failure table, and nothing else: which
//! breakers an outcome counts at, and which scope rests. How long is said by `rest` and
//! `breaker`.
//!
//! Two wishes of the operator bend the table:
//! * `breaker.permanent`: a fault whose text one of its patterns covers opens the breaker at once
//!   and takes the place of the rest. Scope as everywhere: a rejected key closes its credential,
//!   everything else the target, so that a model that one provider lost closes no other. What is
//!   of the client's making, or the provider's word on load and money, never counts as permanent:
//!   a prompt may quote any text;
//! * `cooldown.hold`: every status that another key may mend rests the credential.

use super::breaker::{BreakerState, Mark};
use super::{Permit, Policy, Report, Scope, Unit, Units};
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::{BreakerPolicy, CooldownPolicy};
use crate::wire::retry_hint::RetryHint;
use std::sync::Arc;

/// What an attempt does to the three scopes.
pub(super) struct Effect {
    pub(super) target: Mark,
    pub(super) credential: Mark,
    pub(super) endpoint: Mark,
    pub(super) rests: Option<Scope>,
}

impl Effect {
    /// Of a half-open breaker only those say more who began after it had opened. A success counts
    /// towards closing it only for the probe itself: one whose probe was settled at its first content
    /// was counted then. A failure counts without one too: that stream has broken since.
    /// A credential's breaker opens only for what is permanent, so that only its probe counts.
    pub(super) fn seen_by(
        mut self,
        permit: &Permit,
        units: &Units,
        began: Tick,
        now: Tick,
        policy: &BreakerPolicy,
    ) -> Self {
        let seen = |mark: Mark, unit: &Arc<Unit>| {
            let breaker = &unit.0.lock().breaker;
            if breaker.state(now, policy) != BreakerState::HalfOpen {
                return mark;
            }
            let is_news = breaker.is_news(began);
            match mark {
                Mark::Success if !is_news || !permit.probes(unit) => Mark::Neutral,
                Mark::Failure | Mark::Trip if !is_news => Mark::Neutral,
                Mark::Success | Mark::Failure | Mark::Trip | Mark::Permanent | Mark::Neutral => mark,
            }
        };
        self.target = seen(self.target, &units.target);
        self.endpoint = seen(self.endpoint, &units.endpoint);
        if self.credential == Mark::Success && !permit.probes(&units.credential) {
            self.credential = Mark::Neutral;
        }
        self
    }
}

/// Tells whether `cooldown.hold` rests the credential for this outcome.
pub(super) fn is_held(outcome: Outcome, policy: &CooldownPolicy) -> bool {
    !policy.hold.is_zero()
        && matches!(
            outcome,
            Outcome::RateLimited
                | Outcome::Overloaded
                | Outcome::ServerError
                | Outcome::Quota
                | Outcome::Permission
        )
}

/// Tells whether the fault concerns the same model behind the provider's other keys as well (row 12):
/// an overload does. Under `cooldown.hold` each key stands for itself, as accounts with limits of
/// their own do.
#[must_use]
pub fn is_shared(outcome: Outcome, policy: &CooldownPolicy) -> bool {
    outcome == Outcome::Overloaded && !is_held(outcome, policy)
}

/// Tells whether the report is of a fault that no waiting mends, and in which scope.
fn permanent(report: &Report, policy: &Policy) -> Option<Scope> {
    if !report.is_permanent || policy.breaker.permanent.is_none() {
        return None;
    }
    match report.outcome {
        Outcome::Auth => Some(Scope::Credential),
        Outcome::Permission | Outcome::Region | Outcome::ModelUnavailable | Outcome::ServerError => {
            Some(Scope::Target)
        }
        Outcome::Ok
        | Outcome::RateLimited
        | Outcome::Quota
        | Outcome::TooLarge
        | Outcome::Overloaded
        | Outcome::ClientError
        | Outcome::ContentFiltered
        | Outcome::ContextLength
        | Outcome::Connect
        | Outcome::Dns
        | Outcome::Tls
        | Outcome::TimeoutFirstContent
        | Outcome::TimeoutStall
        | Outcome::TimeoutTotal
        | Outcome::Reset
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError
        | Outcome::ClientGone => None,
    }
}

/// Returns what the end of an attempt does.
pub(super) fn effect(report: &Report, policy: &Policy) -> Effect {
    let limit_scope = if report.account_wide { Scope::Credential } else { Scope::Target };
    let said_when = matches!(report.hint, RetryHint::After(_));
    let (target, endpoint, rests) = match report.outcome {
        Outcome::Ok => (Mark::Success, Mark::Success, None),
        Outcome::RateLimited => (Mark::Neutral, Mark::Success, Some(limit_scope)),
        Outcome::Overloaded => (Mark::Neutral, Mark::Success, Some(Scope::Target)),
        Outcome::Quota | Outcome::Auth => (Mark::Neutral, Mark::Success, Some(Scope::Credential)),
        Outcome::Permission | Outcome::Region | Outcome::ModelUnavailable => {
            (Mark::Neutral, Mark::Success, Some(Scope::Target))
        }
        Outcome::TooLarge | Outcome::ClientError | Outcome::ContentFiltered | Outcome::ContextLength => {
            (Mark::Neutral, Mark::Success, None)
        }
        Outcome::ServerError => (Mark::Failure, Mark::Success, said_when.then_some(Scope::Target)),
        Outcome::TimeoutFirstContent | Outcome::TimeoutStall => (Mark::Failure, Mark::Neutral, None),
        // A time is said with it where HTTP/2 was asked for calm (row 20).
        Outcome::Reset => (Mark::Failure, Mark::Neutral, said_when.then_some(Scope::Target)),
        Outcome::Truncated | Outcome::BadBody | Outcome::InbandError => (Mark::Failure, Mark::Success, None),
        Outcome::Connect => (Mark::Neutral, Mark::Failure, None),
        Outcome::Dns => (Mark::Neutral, Mark::Failure, Some(Scope::Endpoint)),
        Outcome::Tls => (Mark::Neutral, Mark::Trip, Some(Scope::Endpoint)),
        Outcome::TimeoutTotal | Outcome::ClientGone => (Mark::Neutral, Mark::Neutral, None),
    };
    let credential = if report.outcome == Outcome::Ok { Mark::Success } else { Mark::Neutral };
    let usual = Effect { target, credential, endpoint, rests };
    match permanent(report, policy) {
        Some(Scope::Credential) => Effect { credential: Mark::Permanent, rests: None, ..usual },
        Some(Scope::Target | Scope::Endpoint) => Effect { target: Mark::Permanent, rests: None, ..usual },
        None if is_held(report.outcome, &policy.cooldown) => {
            Effect { rests: Some(Scope::Credential), ..usual }
        }
        None => usual,
    }
}
