//! How much extra load may we make?
//!
//! When a provider is down, every client request wants a second try, and a proxy that grants them
//! all doubles the load on whatever is failing. So repeats at the same target, hedges and restarts
//! are paid for: each request adds `budget_ratio` (0.2) tokens and each second
//! `budget_min_per_second` (3), so that quiet edges can retry at all; a repeat takes one. The
//! bucket starts full with 100 and holds no more. A failover is free: `retry.failovers` and the
//! breakers bound it (a half-open one lets one probe through), and it is what we are here for.
//!
//! Budgets rather than a largest number of tries, for the reason that Finagle and tower give: a
//! number per request still multiplies in an outage, a share does not.

use crate::base::time::Tick;
use crate::config::plan::RetryPolicy;
use parking_lot::Mutex;
use std::sync::Arc;

/// What the bucket holds at most, and at the start.
const CAPACITY: f64 = 100.0;

/// The budget of one process. A clone draws on the same bucket.
#[derive(Clone, Debug)]
pub struct RetryBudget(Arc<Mutex<Bucket>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Tick,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget(Arc::new(Mutex::new(Bucket { tokens: CAPACITY, filled_at: Tick(0) })))
    }
}

impl RetryBudget {
    /// Adds what a new request brings.
    pub fn deposit(&self, policy: &RetryPolicy) {
        let mut bucket = self.0.lock();
        bucket.tokens = (bucket.tokens + policy.budget_ratio).min(CAPACITY);
    }

    /// Takes one token; `false` when there is none.
    #[must_use]
    pub fn withdraw(&self, now: Tick, policy: &RetryPolicy) -> bool {
        let mut bucket = self.0.lock();
        bucket.fill(now, policy);
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }

    /// Tells whether there is a token, without taking it.
    #[must_use]
    pub fn has_token(&self, now: Tick, policy: &RetryPolicy) -> bool {
        let mut bucket = self.0.lock();
        bucket.fill(now, policy);
        bucket.tokens >= 1.0
    }
}

impl Bucket {
    /// Adds what time has brought.
    fn fill(&mut self, now: Tick, policy: &RetryPolicy) {
        let passed = now.since(self.filled_at).as_secs_f64();
        let grown = passed * f64::from(policy.budget_min_per_second);
        self.tokens = (self.tokens + grown).min(CAPACITY);
        self.filled_at = self.filled_at.max(now);
    }
}
