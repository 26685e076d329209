//! The sections without names: timers, retry, breaker, cooldown, rescue, limits, log.
//!
//! They are read straight into the plan's own types, with the defaults of contract section 2.
//! Where two keys of a section are an order (`open` and `open_max`), a default gives way to what
//! is written beside it; only where both are written can they contradict each other. A timer
//! cannot be zero: some proxies read that as "none", others as "at once".

use super::ladder::STEPS_MAX;
use super::permanent::read_permanent;
use super::plan::{
    Backoff, BreakerPolicy, CooldownPolicy, Jitter, Ladder, Level, Limits, LogFormat, LogPolicy,
    PermanentPatterns, PoolPolicy, Prefer, RescuePolicy, RetryPolicy, TimeoutOverrides, Timeouts,
};
use super::walk::Map;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Range of every timer.
const TIMER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

/// Passing a provider's refusal on, or asking another provider.
const RELAY_OR_MOVE: [(&str, bool); 2] = [("relay", false), ("failover", true)];

/// Reads `timeouts`.
pub(super) fn read_timeouts(m: &mut Map<'_, '_>) -> Timeouts {
    Timeouts {
        connect: m.duration("connect", secs(2), TIMER, "until a connection (TCP and TLS) stands"),
        first_content: m.duration("first_content", secs(12), TIMER, "until the first content of a stream"),
        first_content_reasoning: m.duration(
            "first_content_reasoning",
            secs(120),
            TIMER,
            "the same for a model that reasons first",
        ),
        stall: m.duration("stall", secs(30), TIMER, "longest silence in a stream while a target is left"),
        stall_last: m.duration("stall_last", secs(120), TIMER, "longest silence where none is left"),
        response: m.duration("response", secs(120), TIMER, "until the whole of an answer that is no stream"),
        total: m.duration("total", secs(600), TIMER, "the request's deadline, from the end of its body"),
    }
}

/// Reads `timeouts` of a provider or a route.
pub(super) fn read_overrides(m: &mut Map<'_, '_>) -> TimeoutOverrides {
    const HELP: &str = "as in the file's timeouts; null leaves it to the wider scope";
    TimeoutOverrides {
        connect: m.maybe_duration("connect", TIMER, HELP),
        first_content: m.maybe_duration("first_content", TIMER, HELP),
        first_content_reasoning: m.maybe_duration("first_content_reasoning", TIMER, HELP),
        stall: m.maybe_duration("stall", TIMER, HELP),
        stall_last: m.maybe_duration("stall_last", TIMER, HELP),
        response: m.maybe_duration("response", TIMER, HELP),
        total: m.maybe_duration("total", TIMER, HELP),
    }
}

/// Reads `retry`.
pub(super) fn read_retry(m: &mut Map<'_, '_>) -> RetryPolicy {
    let prefer = [("equal_first", Prefer::EqualFirst), ("same_target", Prefer::SameTarget)];
    let usual = RetryPolicy::default();
    RetryPolicy {
        prefer: m.choice("prefer", usual.prefer, &prefer, "an equal target first, or the same again"),
        same_target: m.small(
            "same_target",
            usual.same_target,
            0..=10,
            "how often the same target is repeated after a back-off; a Retry-After that is waited out (`wait_in_place`) is no back-off, and is repeated once where this is 0",
        ),
        wait_in_place: m.duration(
            "wait_in_place",
            usual.wait_in_place,
            Duration::ZERO..=secs(300),
            "longest Retry-After that is waited out at the same target",
        ),
        backoff: m.section("backoff", "waits between repeats", |m| {
            let jitter = [
                ("full", Jitter::Full),
                ("equal", Jitter::Equal),
                ("quarter", Jitter::Quarter),
                ("none", Jitter::None),
            ];
            let range = Duration::ZERO..=secs(300);
            let base = m.duration("base", usual.backoff.base, range.clone(), "first wait");
            let multiplier =
                m.number("multiplier", usual.backoff.multiplier, 1.0..=10.0, "growth from wait to wait");
            let max = m.duration("max", usual.backoff.max, range, "longest wait");
            let (base, max) = in_order(m, ("base", base), ("max", max));
            let jitter = m.choice("jitter", usual.backoff.jitter, &jitter, "how a wait is spread");
            Backoff { base, multiplier, max, jitter }
        }),
        failovers: m.small(
            "failovers",
            usual.failovers,
            0..=100,
            "how many changes of target one request may make",
        ),
        provider_attempts: m.small(
            "provider_attempts",
            usual.provider_attempts,
            0..=1000,
            "attempts of one request at one provider, over all its credentials; 0 is no limit",
        ),
        least_time: m.duration(
            "least_time",
            usual.least_time,
            Duration::ZERO..=secs(300),
            "time that must be left before the deadline for another attempt",
        ),
        stops_on_auth: m.choice(
            "on_auth_failure",
            usual.stops_on_auth,
            &[("failover", false), ("stop", true)],
            "what a rejected key does to the request",
        ),
        moves_on_client_error: m.choice(
            "on_client_error",
            usual.moves_on_client_error,
            &RELAY_OR_MOVE,
            "what a 4xx of the client's making does to the request",
        ),
        moves_on_content_filter: m.choice(
            "on_content_filter",
            usual.moves_on_content_filter,
            &RELAY_OR_MOVE,
            "what a content filter's refusal does to the request",
        ),
        budget_ratio: m.number(
            "budget_ratio",
            usual.budget_ratio,
            0.0..=100.0,
            "share of extra attempts on top of requests",
        ),
        budget_min_per_second: m.small(
            "budget_min_per_second",
            usual.budget_min_per_second,
            0..=1_000_000,
            "extra attempts per second that are always allowed",
        ),
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            prefer: Prefer::EqualFirst,
            same_target: 1,
            wait_in_place: secs(5),
            backoff: Backoff {
                base: Duration::from_millis(250),
                multiplier: 2.0,
                max: secs(10),
                jitter: Jitter::Full,
            },
            failovers: 4,
            provider_attempts: 0,
            least_time: Duration::ZERO,
            stops_on_auth: false,
            moves_on_client_error: false,
            moves_on_content_filter: false,
            budget_ratio: 0.2,
            budget_min_per_second: 3,
        }
    }
}

/// `breaker`: the policy, and what is too large to be copied with it.
#[derive(Debug)]
pub struct BreakerFile {
    /// The policy.
    pub policy: BreakerPolicy,
    /// `breaker.permanent.patterns`.
    pub permanent: PermanentPatterns,
}

/// Reads `breaker`.
pub(super) fn read_breaker(m: &mut Map<'_, '_>) -> BreakerFile {
    let span = Duration::from_millis(1)..=hours(24);
    let usual = BreakerPolicy::default();
    let enabled = m.boolean("enabled", usual.enabled, "whether there is a breaker at all");
    let consecutive_failures = m.small(
        "consecutive_failures",
        usual.consecutive_failures,
        1..=10_000,
        "failures in a row that open it",
    );
    let failure_ratio = m.number(
        "failure_ratio",
        usual.failure_ratio,
        0.01..=1.0,
        "share of failures in the window that opens it",
    );
    let min_requests =
        m.small("min_requests", usual.min_requests, 1..=1_000_000, "requests before the share counts");
    let window = m.duration("window", usual.window, span.clone(), "length of the window");
    let last_requests = m.small(
        "last_requests",
        usual.last_requests,
        0..=64,
        "the share counts over the last so many requests; 0 is over the window",
    );
    let open = m.duration("open", usual.open, span.clone(), "how long it stays open at first; doubles");
    let open_max = m.duration("open_max", usual.open_max, span, "longest it stays open");
    let (open, open_max) = in_order(m, ("open", open), ("open_max", open_max));
    let half_open_probes =
        m.small("half_open_probes", usual.half_open_probes, 1..=100, "requests at once when half open");
    let close_after =
        m.small("close_after", usual.close_after, 1..=100, "successes in half open that close it");
    let (permanent, patterns) =
        m.section("permanent", "faults that no waiting mends open it at once, for long", read_permanent);
    if permanent.is_some() && !enabled {
        m.fault("permanent", "has nothing to open while breaker.enabled is false; set one of them otherwise");
    }
    let policy = BreakerPolicy {
        enabled,
        consecutive_failures,
        failure_ratio,
        min_requests,
        window,
        last_requests,
        open,
        open_max,
        half_open_probes,
        close_after,
        permanent,
    };
    BreakerFile { policy, permanent: patterns }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        BreakerPolicy {
            enabled: true,
            consecutive_failures: 5,
            failure_ratio: 0.5,
            min_requests: 20,
            window: secs(10),
            last_requests: 0,
            open: secs(5),
            open_max: secs(10),
            half_open_probes: 1,
            close_after: 2,
            permanent: None,
        }
    }
}

/// Reads `cooldown`.
pub(super) fn read_cooldown(m: &mut Map<'_, '_>) -> CooldownPolicy {
    let span = Duration::ZERO..=hours(168);
    let usual = CooldownPolicy::default();
    let mut rest = |name, default, help| m.duration(name, default, span.clone(), help);
    let default = rest("default", usual.default, "a 429 or 529 without a time; doubles");
    let max = rest("max", usual.max, "longest rest on the provider's word");
    let quota = rest("quota", usual.quota, "quota used up; doubles");
    let quota_max = rest("quota_max", usual.quota_max, "longest rest for quota");
    let auth = rest("auth", usual.auth, "key rejected; doubles");
    let auth_max = rest("auth_max", usual.auth_max, "longest rest for a rejected key");
    let permission = rest("permission", usual.permission, "a key that may not do this");
    let model = rest("model", usual.model, "a model that the provider does not have");
    let region = rest("region", usual.region, "a provider that does not serve this place");
    let tls = rest("tls", usual.tls, "an address whose certificate or handshake fails");
    let dns = rest("dns", usual.dns, "an address whose name does not resolve");
    let hold = rest(
        "hold",
        usual.hold,
        "every status that another key may mend rests its credential that long without a time; 0s is off",
    );
    let forget_after = rest("forget_after", usual.forget_after, "how long a ladder is kept after its rest");
    let (default, max) = in_order(m, ("default", default), ("max", max));
    let (quota, quota_max) = in_order(m, ("quota", quota), ("quota_max", quota_max));
    let (auth, auth_max) = in_order(m, ("auth", auth), ("auth_max", auth_max));
    let steps = Duration::from_millis(1)..=hours(168);
    let ladder = m.durations(
        "ladder",
        steps,
        STEPS_MAX,
        "rests of a target whose attempts in a request are exhausted, one after another",
    );
    if let Some(at) = (1..ladder.len()).find(|at| ladder[*at] < ladder[at - 1]) {
        m.fault_at("ladder", at, "must not be shorter than the step before it");
    }
    CooldownPolicy {
        default,
        max,
        quota,
        quota_max,
        auth,
        auth_max,
        permission,
        model,
        region,
        tls,
        dns,
        hold,
        ladder: Ladder::of(ladder),
        forget_after,
    }
}

impl Default for CooldownPolicy {
    fn default() -> Self {
        CooldownPolicy {
            default: secs(5),
            max: secs(300),
            quota: secs(900),
            quota_max: hours(6),
            auth: secs(300),
            auth_max: secs(4800),
            permission: secs(600),
            model: secs(600),
            region: hours(1),
            tls: secs(60),
            dns: secs(5),
            hold: Duration::ZERO,
            ladder: Ladder::default(),
            forget_after: hours(24),
        }
    }
}

/// Keeps the first of two spans at most the second: where one of them is a default, it gives way
/// to what is written; where both are written, that is a fault.
pub(super) fn in_order(
    m: &Map<'_, '_>,
    (less_name, less): (&str, Duration),
    (more_name, more): (&str, Duration),
) -> (Duration, Duration) {
    if less <= more {
        return (less, more);
    }
    match (m.has(less_name), m.has(more_name)) {
        (true, true) => {
            m.fault(less_name, format!("must not be longer than {more_name}"));
            (more, more)
        }
        (true, false) => (less, less),
        (false, true | false) => (more, more),
    }
}

/// Reads `pool`.
pub(super) fn read_pool(m: &mut Map<'_, '_>) -> PoolPolicy {
    PoolPolicy {
        warm: m.small(
            "warm",
            1,
            0..=8,
            "connections kept ready to each target that may be asked next; 0 is none",
        ),
        warm_for: m.duration(
            "warm_for",
            secs(300),
            secs(1)..=secs(86_400),
            "how long after a route's last request that goes on",
        ),
    }
}

/// Reads `rescue`.
pub(super) fn read_rescue(m: &mut Map<'_, '_>) -> RescuePolicy {
    let enabled = m.boolean("enabled", true, "whether a broken stream is taken up by another target");
    let hold = m.duration(
        "hold",
        Duration::ZERO,
        Duration::ZERO..=secs(10),
        "how long text is kept back, so that a break loses less",
    );
    RescuePolicy { enabled, hold }
}

/// Reads `limits`.
pub(super) fn read_limits(m: &mut Map<'_, '_>) -> Limits {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let max_body = m.size("max_body", 32 * MIB, KIB..=GIB, "longest request body");
    let replay_memory = m.size(
        "replay_memory",
        256 * MIB,
        KIB..=1024 * GIB,
        "bodies kept at once, over all requests, so that they can be sent again (one that is translated counts twice); answers that are held fill half of it at most, and beside thousands of connections up to half of it stands for what those hold",
    );
    let (max_body, replay_memory) =
        match (max_body <= replay_memory, m.has("max_body"), m.has("replay_memory")) {
            (true, _, _) => (max_body, replay_memory),
            (false, true, true) => {
                m.fault("max_body", "must not be larger than replay_memory");
                (max_body, max_body)
            }
            (false, true, false) => (max_body, max_body),
            (false, false, _) => (replay_memory, replay_memory),
        };
    let connections = m.small("connections", 10_000, 1..=1_000_000, "connections from clients");
    let of_one = m.small(
        "connections_per_address",
        5000,
        1..=1_000_000,
        "the same from one address; half of them where it is not written",
    );
    let connections_per_address =
        if m.has("connections_per_address") { of_one } else { connections.div_ceil(2) };
    Limits {
        max_body,
        replay_memory,
        max_header: m.size("max_header", 64 * KIB, KIB..=MIB, "longest request head"),
        connections,
        connections_per_address,
        in_flight: m.small("in_flight", 2000, 1..=1_000_000, "requests under way"),
        wrong_keys_per_minute: m.small(
            "wrong_keys_per_minute",
            20,
            0..=1_000_000,
            "wrong client keys from one address, behind which further ones get 429 for a while; 0 is no limit",
        ),
    }
}

/// Reads `log`.
pub(super) fn read_log(m: &mut Map<'_, '_>) -> LogPolicy {
    let levels = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogPolicy {
        level: m.choice("level", Level::Info, &levels, "least severity that is written"),
        format: m.choice("format", LogFormat::Auto, &formats, "auto is text on a terminal, JSON elsewhere"),
    }
}

/// Makes a span of seconds.
pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Makes a span of hours.
pub(super) const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}
