//! What did a target do since the process began?
//!
//! The numbers of a target's page, of `status` and of `top`; those of a scrape are its
//! [`TargetMeter`](crate::observe::meter::TargetMeter). They are kept by the target's name over all generations.
//! Attempts that say nothing of the target (a client that left, a request that was wrong) are neither
//! good nor bad.

use crate::base::outcome::Outcome;
use crate::base::time::WallTime;
use crate::wire::rate_limit::RateLimits;
use parking_lot::Mutex;
use std::time::Duration;

/// What a target did since the process began.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// A reading of a [`Tally`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Attempts under way.
    pub in_flight: u64,
    /// Attempts that ended well.
    pub ok: u64,
    /// Attempts that failed; clients that left, and faults of their own, are in neither.
    pub failed: u64,
    /// Time of those that ended well, together.
    pub ok_time: Duration,
    /// What the provider last said is left of its rate limits, and when.
    pub limits: Option<(WallTime, RateLimits)>,
    /// The last failure: when, what, and the provider's status.
    pub last_fault: Option<(WallTime, Outcome, Option<u16>)>,
}

impl Tally {
    /// Counts an attempt in.
    pub fn began(&self) {
        self.0.lock().in_flight += 1;
    }

    /// Counts an attempt out; `at` tells the time, which only a fault's page shows.
    pub fn ended(
        &self,
        outcome: Outcome,
        status: Option<u16>,
        took: Duration,
        at: impl FnOnce() -> WallTime,
    ) {
        let mut counts = self.0.lock();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        match outcome {
            // What is the client's own says nothing of the target.
            Outcome::ClientGone
            | Outcome::ClientError
            | Outcome::ContentFiltered
            | Outcome::ContextLength
            | Outcome::TooLarge => {}
            Outcome::Ok => {
                counts.ok += 1;
                counts.ok_time += took;
            }
            Outcome::RateLimited
            | Outcome::Quota
            | Outcome::Overloaded
            | Outcome::Auth
            | Outcome::Permission
            | Outcome::Region
            | Outcome::ModelUnavailable
            | Outcome::ServerError
            | Outcome::Connect
            | Outcome::Dns
            | Outcome::Tls
            | Outcome::TimeoutFirstContent
            | Outcome::TimeoutStall
            | Outcome::TimeoutTotal
            | Outcome::Reset
            | Outcome::Truncated
            | Outcome::BadBody
            | Outcome::InbandError => {
                counts.failed += 1;
                counts.last_fault = Some((at(), outcome, status));
            }
        }
    }

    /// Keeps what the provider says is left of its rate limits.
    pub fn limits_are(&self, at: WallTime, left: RateLimits) {
        self.0.lock().limits = Some((at, left));
    }

    /// Reads the counts.
    #[must_use]
    pub fn read(&self) -> Counts {
        *self.0.lock()
    }
}
