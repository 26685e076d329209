//! How does one endpoint, key or target stand?
//!
//! A [`Unit`] holds what is known of one of them behind a lock: its breaker, the provider's word, the
//! operator's ladder and what the operator wants. The operator's word comes first, then rests, then the
//! breaker. How that is called says [`Stance`], for everybody who tells it.

use super::Policy;
use super::Resting;
use super::breaker::{Breaker, BreakerState};
use super::climb::Climb;
use super::rest::{Need, Rest};
use super::told::Told;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::BreakerPolicy;
use parking_lot::Mutex;

/// What the operator wants of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// In use.
    #[default]
    Ready,
    /// Finishes what runs, takes no more.
    Drained,
    /// Taken out.
    Disabled,
}

/// How a unit or a target stands, in one word: for the log, the pages and the operator alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It may be used. So may one whose first try after a rest is under way: whether somebody is
    /// just trying is no state to be told.
    Ready,
    /// Its breaker lets a probe through.
    HalfOpen,
    /// It may not.
    Resting(Resting),
}

impl Stance {
    /// The word for who never had trouble, or has it no more.
    pub const READY: &str = "ready";
    pub(super) const COOLING: &str = "cooling";
    pub(super) const HALF_OPEN: &str = "half_open";

    /// Returns how it stands, of what a look and its breaker say.
    #[must_use]
    pub fn of(resting: Option<Resting>, breaker: BreakerState) -> Self {
        match (resting, breaker) {
            (None | Some(Resting::Probing), BreakerState::Closed) => Stance::Ready,
            (None | Some(Resting::Probing), BreakerState::HalfOpen | BreakerState::Open) => Stance::HalfOpen,
            (Some(resting), _) => Stance::Resting(resting),
        }
    }

    /// Returns the word.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Stance::Ready => Stance::READY,
            Stance::HalfOpen => Stance::HALF_OPEN,
            Stance::Resting(resting) => resting.as_label(),
        }
    }
}

/// The health of one endpoint, credential or target.
#[derive(Debug, Default)]
pub struct Unit(pub(super) Mutex<State>);

/// What is behind its lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) breaker: Breaker,
    pub(super) rest: Rest,
    pub(super) climb: Climb,
    pub(super) operation: Operation,
    pub(super) last_fault: Option<(Tick, Outcome)>,
    pub(super) told: Told,
}

impl State {
    pub(super) fn look(&self, now: Tick, policy: &BreakerPolicy) -> Result<(), Resting> {
        self.look_in(Need::Usual, now, policy)
    }

    pub(super) fn look_in(&self, need: Need, now: Tick, policy: &BreakerPolicy) -> Result<(), Resting> {
        match self.operation {
            Operation::Ready => {}
            Operation::Drained => return Err(Resting::Drained),
            Operation::Disabled => return Err(Resting::Disabled),
        }
        // The operator's ladder is no guess of ours.
        if self.climb.at(now).is_some()
            && let Some((until, reason)) = self.cooling(now)
        {
            return Err(Resting::Cooling { until, reason });
        }
        self.rest.look(now, need)?;
        self.breaker.look(now, policy)
    }

    /// The later of the provider's word and the ladder.
    fn cooling(&self, now: Tick) -> Option<(Tick, Outcome)> {
        let (said, climbed) = (self.rest.at(now), self.climb.at(now));
        [said, climbed].into_iter().flatten().max_by_key(|(until, _)| *until)
    }
}

/// A reading of one unit, for pages and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether and why not it may be used.
    pub resting: Option<Resting>,
    /// Its breaker.
    pub breaker: BreakerState,
    /// When the provider's word ends, where it has not.
    pub cooling_until: Option<Tick>,
    /// The last fault and when it was.
    pub last_fault: Option<(Tick, Outcome)>,
}

impl Unit {
    /// Returns how the unit stands.
    pub fn read(&self, now: Tick, policy: &Policy) -> Reading {
        let state = self.0.lock();
        Reading {
            resting: state.look(now, &policy.breaker).err(),
            breaker: state.breaker.state(now, &policy.breaker),
            cooling_until: state.cooling(now).map(|(until, _)| until),
            last_fault: state.last_fault,
        }
    }

    /// Returns the state of the breaker alone.
    pub fn breaker(&self, now: Tick, policy: &BreakerPolicy) -> BreakerState {
        self.0.lock().breaker.state(now, policy)
    }

    /// Sets what the operator wants.
    pub fn operate(&self, operation: Operation) {
        self.0.lock().operation = operation;
    }

    /// Forgets breaker, cooldown and ladder; what the operator wants stays.
    pub fn reset(&self) {
        let mut state = self.0.lock();
        state.breaker.reset();
        state.rest = Rest::default();
        state.climb = Climb::default();
    }

    /// Ends a rest for a rejected key or a spent quota, because the key was changed; a credential's
    /// breaker, which opens for nothing else, closes.
    pub fn key_changed(&self) {
        let mut state = self.0.lock();
        state.rest.end(&[Outcome::Auth, Outcome::Permission, Outcome::Quota]);
        state.breaker.reset();
    }
}
