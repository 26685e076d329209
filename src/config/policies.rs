//! The sections without names: timers, retry, breaker, cooldown, rescue, limits, log.
//!
//! They are read straight into the plan's own types, with the defaults of contract section 2.
//! Where two keys of a section are an order (`open` and `open_max`), a default gives way to what
//! is written beside it; only where both are written can they contradict each other. A timer
//! cannot be zero: some proxies read that as "none", others as "at once".

use super::plan::{
    Backoff, BreakerPolicy, CooldownPolicy, Jitter, Level, Limits, LogFormat, LogPolicy, Prefer,
    RescuePolicy, RetryPolicy, TimeoutOverrides, Timeouts,
};
use super::walk::Map;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Range of every timer.
const TIMER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

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
    RetryPolicy {
        prefer: m.choice("prefer", Prefer::EqualFirst, &prefer, "an equal target first, or the same again"),
        same_target: m.small("same_target", 1, 0..=10, "how often the same target is repeated"),
        wait_in_place: m.duration(
            "wait_in_place",
            secs(5),
            Duration::ZERO..=secs(300),
            "longest Retry-After that is waited out at the same target",
        ),
        backoff: m.section("backoff", "waits between repeats", |m| {
            let jitter = [("full", Jitter::Full), ("equal", Jitter::Equal), ("none", Jitter::None)];
            let range = Duration::ZERO..=secs(300);
            let base = m.duration("base", Duration::from_millis(250), range.clone(), "first wait");
            let multiplier = m.number("multiplier", 2.0, 1.0..=10.0, "growth from wait to wait");
            let max = m.duration("max", secs(10), range, "longest wait");
            let (base, max) = in_order(m, ("base", base), ("max", max));
            let jitter = m.choice("jitter", Jitter::Full, &jitter, "how a wait is spread");
            Backoff { base, multiplier, max, jitter }
        }),
        failovers: m.small("failovers", 4, 0..=100, "how many changes of target one request may make"),
        budget_ratio: m.number(
            "budget_ratio",
            0.2,
            0.0..=100.0,
            "share of extra attempts on top of requests",
        ),
        budget_min_per_second: m.small(
            "budget_min_per_second",
            3,
            0..=1_000_000,
            "extra attempts per second that are always allowed",
        ),
    }
}

/// Reads `breaker`.
pub(super) fn read_breaker(m: &mut Map<'_, '_>) -> BreakerPolicy {
    let span = Duration::from_millis(1)..=hours(1);
    let enabled = m.boolean("enabled", true, "whether there is a breaker at all");
    let consecutive_failures =
        m.small("consecutive_failures", 5, 1..=10_000, "failures in a row that open it");
    let failure_ratio =
        m.number("failure_ratio", 0.5, 0.01..=1.0, "share of failures in the window that opens it");
    let min_requests = m.small("min_requests", 20, 1..=1_000_000, "requests before the share counts");
    let window = m.duration("window", secs(10), span.clone(), "length of the window");
    let open = m.duration("open", secs(5), span.clone(), "how long it stays open at first; doubles");
    let open_max = m.duration("open_max", secs(10), span, "longest it stays open");
    let (open, open_max) = in_order(m, ("open", open), ("open_max", open_max));
    BreakerPolicy {
        enabled,
        consecutive_failures,
        failure_ratio,
        min_requests,
        window,
        open,
        open_max,
        half_open_probes: m.small("half_open_probes", 1, 1..=100, "requests at once when half open"),
        close_after: m.small("close_after", 2, 1..=100, "successes in half open that close it"),
    }
}

/// Reads `cooldown`.
pub(super) fn read_cooldown(m: &mut Map<'_, '_>) -> CooldownPolicy {
    let span = Duration::ZERO..=hours(168);
    let default = m.duration("default", secs(5), span.clone(), "a 429 or 529 without a time; doubles");
    let max = m.duration("max", secs(300), span.clone(), "longest rest on the provider's word");
    let quota = m.duration("quota", secs(900), span.clone(), "quota used up; doubles");
    let quota_max = m.duration("quota_max", hours(6), span.clone(), "longest rest for quota");
    let auth = m.duration("auth", secs(300), span.clone(), "key rejected; doubles");
    let auth_max = m.duration("auth_max", secs(4800), span, "longest rest for a rejected key");
    let (default, max) = in_order(m, ("default", default), ("max", max));
    let (quota, quota_max) = in_order(m, ("quota", quota), ("quota_max", quota_max));
    let (auth, auth_max) = in_order(m, ("auth", auth), ("auth_max", auth_max));
    CooldownPolicy { default, max, quota, quota_max, auth, auth_max }
}

/// Keeps the first of two spans at most the second: where one of them is a default, it gives way
/// to what is written; where both are written, that is a fault.
fn in_order(
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
        "bodies kept at once, over all requests, so that they can be sent again",
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
    Limits {
        max_body,
        replay_memory,
        max_header: m.size("max_header", 64 * KIB, KIB..=MIB, "longest request head"),
        connections: m.small("connections", 10_000, 1..=1_000_000, "connections from clients"),
        in_flight: m.small("in_flight", 2000, 1..=1_000_000, "requests under way"),
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
