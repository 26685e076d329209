//! How long, how often and how much: timers, retry, breaker, cooldown, rescue, pool and limits.
//!
//! Numbers only, in range and with their defaults; what is decided by them stands in `exchange` and `health`.

use super::Permanent;
use crate::config::ladder::Ladder;
use std::time::Duration;

/// Timers of an attempt and of the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection (TCP and TLS) stands.
    pub connect: Duration,
    /// Until the first content of a streamed answer.
    pub first_content: Duration,
    /// The same for a model that reasons first.
    pub first_content_reasoning: Duration,
    /// Longest silence inside a stream while another target is left.
    pub stall: Duration,
    /// Longest silence where none is left.
    pub stall_last: Duration,
    /// Until the whole of an answer that is not streamed.
    pub response: Duration,
    /// The request's deadline, from the end of its body.
    pub total: Duration,
}

/// Timers that a provider or a route sets itself; what is absent comes from the wider scope
/// (route over provider over the file's `timeouts`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// As [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// As [`Timeouts::first_content`].
    pub first_content: Option<Duration>,
    /// As [`Timeouts::first_content_reasoning`].
    pub first_content_reasoning: Option<Duration>,
    /// As [`Timeouts::stall`].
    pub stall: Option<Duration>,
    /// As [`Timeouts::stall_last`].
    pub stall_last: Option<Duration>,
    /// As [`Timeouts::response`].
    pub response: Option<Duration>,
    /// As [`Timeouts::total`].
    pub total: Option<Duration>,
}

impl Timeouts {
    /// Returns these timers with the overrides in place.
    #[must_use]
    pub fn with(self, over: &TimeoutOverrides) -> Timeouts {
        Timeouts {
            connect: over.connect.unwrap_or(self.connect),
            first_content: over.first_content.unwrap_or(self.first_content),
            first_content_reasoning: over.first_content_reasoning.unwrap_or(self.first_content_reasoning),
            stall: over.stall.unwrap_or(self.stall),
            stall_last: over.stall_last.unwrap_or(self.stall_last),
            response: over.response.unwrap_or(self.response),
            total: over.total.unwrap_or(self.total),
        }
    }
}

/// When to repeat, wait and move on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Which comes first: another target, or the same again.
    pub prefer: Prefer,
    /// How often the same target is repeated.
    pub same_target: u32,
    /// Longest Retry-After that is waited out at the same target.
    pub wait_in_place: Duration,
    /// Waits between repeats.
    pub backoff: Backoff,
    /// How many changes of target one request may make.
    pub failovers: u32,
    /// How many attempts one request may make at one provider, over all its credentials and
    /// models; 0 is as many as there are.
    pub provider_attempts: u32,
    /// Time that must be left before the deadline for another attempt to begin.
    pub least_time: Duration,
    /// Whether a rejected key ends the request instead of moving it on.
    pub stops_on_auth: bool,
    /// Whether a 4xx of the client's making moves on instead of being passed on.
    pub moves_on_client_error: bool,
    /// Whether a content filter's refusal moves on instead of being passed on.
    pub moves_on_content_filter: bool,
    /// Share of extra attempts on top of requests.
    pub budget_ratio: f64,
    /// Extra attempts per second that are always allowed.
    pub budget_min_per_second: u32,
}

/// Which comes first after a fault that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// An equal target at once; before a lesser one the same again.
    EqualFirst,
    /// The same target again before any other.
    SameTarget,
}

/// Waits between repeats: `base * multiplier^n`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// First wait.
    pub base: Duration,
    /// Growth from wait to wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max: Duration,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// How a wait is spread so that many requests do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Anywhere between nothing and the wait.
    Full,
    /// Anywhere between half the wait and the wait.
    Equal,
    /// Anywhere between three and five quarters of the wait.
    Quarter,
    /// Exactly the wait (tests, and the seeds' literal behaviour).
    None,
}

/// When a target is left alone because it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Whether there is a breaker at all.
    pub enabled: bool,
    /// Failures in a row that open it.
    pub consecutive_failures: u32,
    /// Share of failures in the window that opens it.
    pub failure_ratio: f64,
    /// Requests in the window before the share counts.
    pub min_requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// The share counts over the last so many requests instead of the window; 0 is by the window.
    pub last_requests: u32,
    /// How long it stays open the first time; doubles from time to time.
    pub open: Duration,
    /// Longest it stays open.
    pub open_max: Duration,
    /// Requests let through at once when half open.
    pub half_open_probes: u32,
    /// Successes in half open that close it.
    pub close_after: u32,
    /// How long it stays open after a fault that no waiting mends; absent: as after any other.
    pub permanent: Option<Permanent>,
}

/// How long a target or credential rests. Zero means: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooldownPolicy {
    /// A 429 or 529 without a time; doubles from time to time.
    pub default: Duration,
    /// Longest rest on the provider's word.
    pub max: Duration,
    /// Quota used up; doubles.
    pub quota: Duration,
    /// Longest rest for quota.
    pub quota_max: Duration,
    /// Key rejected; doubles.
    pub auth: Duration,
    /// Longest rest for a rejected key.
    pub auth_max: Duration,
    /// A key that may not do this (403).
    pub permission: Duration,
    /// A model that the provider does not have.
    pub model: Duration,
    /// A provider that does not serve this place.
    pub region: Duration,
    /// A broken certificate (endpoint).
    pub tls: Duration,
    /// A name that does not resolve (endpoint).
    pub dns: Duration,
    /// Where set, every status that another key may mend rests the credential that long, or the
    /// provider's time; takes the place of the rests for rate limits, overload, quota, permission.
    pub hold: Duration,
    /// Where it has steps: rests of a target whose attempts in one request are exhausted.
    pub ladder: Ladder,
    /// How long after its last rest a ladder starts again at its first step.
    pub forget_after: Duration,
}

/// Going on after content went downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RescuePolicy {
    /// Whether a broken stream is taken up by another target.
    pub enabled: bool,
    /// How long text is kept back to make that easier; zero is not at all.
    pub hold: Duration,
}

/// Connections to providers that are opened before anybody needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// How many are kept ready to each target that may be asked next; 0 is none.
    pub warm: u32,
    /// How long after a route's last request that goes on.
    pub warm_for: Duration,
}

/// Bounds on what clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request body in bytes.
    pub max_body: u64,
    /// Bytes of request bodies kept at once over all requests; held answers fill half of it.
    pub replay_memory: u64,
    /// Longest request head in bytes.
    pub max_header: u64,
    /// Connections from clients.
    pub connections: u32,
    /// Connections from one address of clients.
    pub connections_per_address: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Wrong keys of one address in a minute, behind which it is slowed down; 0 is never.
    pub wrong_keys_per_minute: u32,
}
