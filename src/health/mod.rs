//! May this target be used now?
//!
//! Health has three scopes, and a target may be used only when all three allow it:
//!
//! * `endpoint` (host and port): connect, DNS and TLS faults, because they hit every key and model
//!   behind the address;
//! * `credential`: rejected keys, spent quota and limits that the provider calls account-wide;
//! * `target`: everything else. A 503 of one model never cools another model of the same host.
//!
//! Each scope is a [`Unit`] (`unit`): a [`breaker`] for what we *infer* from failures, a [`rest`] for what
//! the provider *said*, and a [`climb`] for targets that were left with their retries exhausted.
//! They are kept apart on purpose: a Retry-After never resets breaker history, and a success that
//! began before a cooldown was set never clears it. A credential's breaker opens only for faults
//! that the operator calls permanent.
//!
//! [`Units::news`] tells each change of state once (`told`).
//!
//! [`Units::admit`] asks for leave and claims the half-open probe where one is due; the returned
//! [`Permit`] gives the claim back when it is dropped, so that a cancelled attempt cannot hold a
//! target shut; nor can one that hangs, since a claim has an age ([`breaker`]). [`Units::report`] is the one place that turns an outcome into state (`report`; the
//! cooldown and breaker columns of the failure table).
//!
//! Pure: time, policy and dice are arguments.

pub mod breaker;
pub mod climb;
mod effect;
#[cfg(test)]
mod fixture;
pub mod permit;
mod report;
pub mod rest;
#[cfg(test)]
mod tests;
mod told;
mod unit;

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::{BreakerPolicy, CooldownPolicy};
use breaker::BreakerState;
pub use effect::is_shared;
pub use permit::Permit;
pub use report::Report;
use rest::Need;
use std::sync::Arc;
pub use unit::{Operation, Reading, Stance, Unit};

/// The two policies that health decides by.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// For what is inferred.
    pub breaker: BreakerPolicy,
    /// For what the provider said.
    pub cooldown: CooldownPolicy,
}

/// Why a target may not be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resting {
    /// The provider said so, or a key or quota is spent.
    Cooling {
        /// When it ends.
        until: Tick,
        /// What was said.
        reason: Outcome,
    },
    /// The breaker is open.
    Open {
        /// When a probe is due.
        until: Tick,
        /// The last failure.
        reason: Outcome,
    },
    /// The breaker is half open and its probe is under way.
    Probing,
    /// The operator drained it.
    Drained,
    /// The operator disabled it.
    Disabled,
}

impl Resting {
    /// Returns when it ends, where that is known.
    #[must_use]
    pub fn until(self) -> Option<Tick> {
        match self {
            Resting::Cooling { until, .. } | Resting::Open { until, .. } => Some(until),
            Resting::Probing | Resting::Drained | Resting::Disabled => None,
        }
    }

    /// Returns the word for the state: `cooling`, `open`, `half_open`, `drained`, `disabled`.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Resting::Cooling { .. } => Stance::COOLING,
            Resting::Open { .. } => "open",
            Resting::Probing => Stance::HALF_OPEN,
            Resting::Drained => "drained",
            Resting::Disabled => "disabled",
        }
    }

    /// Returns the outcome that led here, where one did.
    #[must_use]
    pub fn reason(self) -> Option<Outcome> {
        match self {
            Resting::Cooling { reason, .. } | Resting::Open { reason, .. } => Some(reason),
            Resting::Probing | Resting::Drained | Resting::Disabled => None,
        }
    }
}

/// Which scope a unit or a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Provider × credential × model.
    Target,
    /// One key.
    Credential,
    /// Host and port.
    Endpoint,
}

impl Scope {
    /// Returns the word for logs.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Scope::Target => "target",
            Scope::Credential => "credential",
            Scope::Endpoint => "endpoint",
        }
    }
}

/// A change of state, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub scope: Scope,
    /// State before.
    pub from: &'static str,
    /// State after.
    pub to: &'static str,
    /// What brought it about.
    pub reason: Outcome,
    /// When it ends, where it ends by itself.
    pub until: Option<Tick>,
}

/// The units that a target depends on.
#[derive(Clone, Debug)]
pub struct Units {
    /// Its own.
    pub target: Arc<Unit>,
    /// Its credential's.
    pub credential: Arc<Unit>,
    /// Its endpoint's.
    pub endpoint: Arc<Unit>,
    /// The same model at the same provider behind other keys: an overload is theirs as well.
    pub siblings: Arc<[Arc<Unit>]>,
}

impl Units {
    /// Tells whether the target may be used, without claiming anything.
    ///
    /// # Errors
    /// Returns why not; where several scopes forbid it, the one that lasts longest.
    pub fn look(&self, now: Tick, policy: &Policy) -> Result<(), Resting> {
        self.look_in(Need::Usual, now, policy)
    }

    /// The same for a request that has nowhere else to go, see [`Units::admit_at_last`].
    ///
    /// # Errors
    /// Returns why not.
    pub fn look_at_last(&self, now: Tick, policy: &Policy) -> Result<(), Resting> {
        self.look_in(Need::Last, now, policy)
    }

    fn look_in(&self, need: Need, now: Tick, policy: &Policy) -> Result<(), Resting> {
        let mut worst: Option<Resting> = None;
        for unit in [&self.target, &self.credential, &self.endpoint] {
            let Err(resting) = unit.0.lock().look_in(need, now, &policy.breaker) else { continue };
            let lasts_longer = match (worst, resting.until()) {
                // Whose probe is under way may be used in a moment.
                (None, _) | (Some(Resting::Probing), Some(_)) => true,
                (Some(known), Some(until)) => known.until().is_some_and(|other| until > other),
                (Some(_), None) => matches!(resting, Resting::Drained | Resting::Disabled),
            };
            if lasts_longer {
                worst = Some(resting);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Claims the right to one attempt, and with it the half-open probe or the first try after a
    /// rest where one is due.
    ///
    /// # Errors
    /// Returns why not.
    pub fn admit(&self, now: Tick, policy: &Policy) -> Result<Permit, Resting> {
        self.admit_in(Need::Usual, now, policy)
    }

    /// The same for a request that has nowhere else to go: a rest that is only our guess does not
    /// keep it away for long.
    ///
    /// # Errors
    /// Returns why not.
    pub fn admit_at_last(&self, now: Tick, policy: &Policy) -> Result<Permit, Resting> {
        self.admit_in(Need::Last, now, policy)
    }

    fn admit_in(&self, need: Need, now: Tick, policy: &Policy) -> Result<Permit, Resting> {
        self.look_in(need, now, policy)?;
        let mut permit = Permit::default();
        for unit in [&self.endpoint, &self.credential, &self.target] {
            let mut state = unit.0.lock();
            // Somebody may have been quicker since the look.
            state.rest.look(now, need)?;
            if let Some(claim) = state.breaker.claim(now, &policy.breaker)? {
                permit.probes.push((Arc::clone(unit), claim));
            }
            if state.rest.claim(now) {
                permit.trials.push((Arc::clone(unit), now));
            }
        }
        Ok(permit)
    }

    /// Claims the first try after the rest that has just begun, for the request that waits it out
    /// until `until`: nobody else comes between.
    #[must_use]
    pub fn reserve(&self, until: Tick) -> Permit {
        let mut permit = Permit::default();
        if self.target.0.lock().rest.claim(until) {
            permit.trials.push((Arc::clone(&self.target), until));
        }
        permit
    }

    /// Tells whether the target may be tried again at once by a request whose own attempt has
    /// just failed there: its fresh cooldown does not count, an open breaker or the operator do.
    #[must_use]
    pub fn may_repeat(&self, now: Tick, policy: &Policy) -> bool {
        self.is_closed(now, policy)
            && self.credential.0.lock().rest.at(now).is_none()
            && self.target.0.lock().operation == Operation::Ready
    }

    /// Tells whether the breakers in the way of the target are closed: nobody has to find out first
    /// whether it works.
    #[must_use]
    pub fn is_closed(&self, now: Tick, policy: &Policy) -> bool {
        let mut units = [&self.target, &self.credential, &self.endpoint].into_iter();
        units.all(|unit| unit.breaker(now, &policy.breaker) == BreakerState::Closed)
    }
}
