//! What the tests of this room begin with.

use super::{Policy, Units};
use crate::base::time::Tick;
use crate::config::plan::{BreakerPolicy, CooldownPolicy};
use std::sync::Arc;

pub(super) fn policy() -> Policy {
    Policy { breaker: BreakerPolicy::default(), cooldown: CooldownPolicy::default() }
}

/// A target that nobody has asked yet.
pub(super) fn units() -> Units {
    Units {
        target: Arc::default(),
        credential: Arc::default(),
        endpoint: Arc::default(),
        siblings: Arc::from([]),
    }
}

pub(super) fn at(seconds: u64) -> Tick {
    Tick(seconds * 1_000_000)
}
