//! `hedge`: whether a second target is asked while the first keeps a client waiting.
//!
//! Off where it is absent or `null`, since it costs money: a provider that is called off may bill
//! what it had begun. A route's own `hedge` stands in the place of the file's; `max_ratio: 0` is
//! never, which is how one route is left out.

use super::walk::Map;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Range of `after`. Below 10 ms nearly every request would be sent twice.
const AFTER: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);

/// When a second target is asked beside the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgePolicy {
    /// How long an attempt may run without content before that.
    pub after: Duration,
    /// Share of requests for which that may happen, 0 to 1.
    pub max_ratio: f64,
}

/// Reads `hedge`.
pub(super) fn read_hedge(m: &mut Map<'_, '_>, help: &'static str) -> Option<HedgePolicy> {
    m.maybe_section("hedge", help, |m| HedgePolicy {
        after: m.duration(
            "after",
            Duration::from_millis(800),
            AFTER,
            "how long an attempt may run without content before another target is asked beside it",
        ),
        max_ratio: m.number(
            "max_ratio",
            0.1,
            0.0..=1.0,
            "share of requests for which that may happen; 0 is never",
        ),
    })
}
