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

/// What the bucket holds at most, and at the start.
const CAPACITY: f64 = 100.0;

/// The budget of one process.
#[derive(Debug)]
pub struct RetryBudget(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Tick,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget(Mutex::new(Bucket { tokens: CAPACITY, filled_at: Tick(0) }))
    }
}

impl RetryBudget {
    /// Adds what a new request brings.
    pub fn deposit(&self, policy: &RetryPolicy) {
        let mut bucket = self.0.lock();
        bucket.tokens = (bucket.tokens + policy.budget_ratio).min(CAPACITY);
    }

    /// Takes one token; `false` when there is none.
    pub fn withdraw(&self, now: Tick, policy: &RetryPolicy) -> bool {
        let mut bucket = self.0.lock();
        let passed = now.since(bucket.filled_at).as_secs_f64();
        let grown = passed * f64::from(policy.budget_min_per_second);
        bucket.tokens = (bucket.tokens + grown).min(CAPACITY);
        bucket.filled_at = bucket.filled_at.max(now);
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }
}
