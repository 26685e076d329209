//! When is a token renewed, and until when is it used?
//!
//! Renewed ahead of its end: by two minutes for Copilot (requirements B14), by five for the others,
//! and never later than half-way through a life shorter than twice that. A service may say earlier
//! (`refresh_in`). Between two renewals lie at least 30 s, or half a life: metadata services hand
//! the same token out again until shortly before its end. A token without an end is taken to live
//! 25 minutes (requirements B14); none is believed to live longer than a day.
//!
//! Used until shortly before its end (5 s, or a tenth of a short life), as a request takes time to
//! arrive. In between the old token serves while the new one is fetched: nobody waits.
//!
//! A failed fetch is repeated after 1 s, 2 s, 4 s … at most 30 s, and at most 5 minutes where the
//! service refused it, for then something must be mended first.

use crate::base::time::Tick;
use std::time::Duration;

/// Life of a token whose end is not told.
const UNTOLD: Duration = Duration::from_secs(25 * 60);
/// Longest life that is believed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Least time between two renewals.
const LEAST: Duration = Duration::from_secs(30);
/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(5);

/// When a token is renewed and until when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From here on a new one is fetched.
    pub renew_at: Tick,
    /// From here on it is not used.
    pub usable_until: Tick,
}

impl Schedule {
    /// For what does not end.
    pub const FOR_EVER: Schedule = Schedule { renew_at: Tick(u64::MAX), usable_until: Tick(u64::MAX) };

    /// Plans a token that was had at `now`.
    #[must_use]
    pub fn new(now: Tick, life: Option<Duration>, refresh_in: Option<Duration>, lead: Duration) -> Self {
        let life = life.unwrap_or(UNTOLD).min(LONGEST);
        let ahead = life.saturating_sub(lead.min(life / 2));
        let renew = ahead.min(refresh_in.unwrap_or(ahead)).max(LEAST.min(life / 2));
        let usable = life.saturating_sub(MARGIN.min(life / 10));
        Schedule { renew_at: now.after(renew), usable_until: now.after(usable) }
    }
}

/// Returns how long to wait after that many failed fetches in a row.
#[must_use]
pub fn again_after(failures: u32, was_refused: bool) -> Duration {
    let most = Duration::from_secs(if was_refused { 300 } else { 30 });
    let doubled = 1_u64.checked_shl(failures.saturating_sub(1).min(32)).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_token_is_renewed_ahead_and_used_nearly_to_its_end() {
        for (life, refresh_in, lead, renew, usable, why) in [
            (Some(secs(1800)), None, 120, 1_680_000, 1_795_000, "copilot: two minutes ahead"),
            (
                Some(secs(1800)),
                Some(secs(1500)),
                120,
                1_500_000,
                1_795_000,
                "copilot: the service says earlier",
            ),
            (Some(secs(1800)), Some(secs(0)), 120, 30_000, 1_795_000, "not at once again"),
            (None, None, 120, 1_380_000, 1_495_000, "no end told: 25 minutes"),
            (Some(secs(3)), None, 120, 1_500, 2_700, "a short life: half-way"),
            (Some(secs(3599)), None, 300, 3_299_000, 3_594_000, "an hour"),
            (Some(secs(200)), None, 300, 100_000, 195_000, "what a metadata service still has"),
            (Some(Duration::MAX), None, 300, 86_100_000, 86_395_000, "at most a day"),
        ] {
            let got = Schedule::new(Tick(7), life, refresh_in, secs(lead));
            let want = Schedule { renew_at: Tick(7 + renew * 1000), usable_until: Tick(7 + usable * 1000) };
            assert_eq!(got, want, "{why}");
        }
    }

    #[test]
    fn failed_fetches_come_slower_and_refused_ones_slower_still() {
        let waits =
            |was_refused| [0, 1, 2, 5, 6, 9, 40, u32::MAX].map(|n| again_after(n, was_refused).as_secs());
        assert_eq!(waits(false), [1, 1, 2, 16, 30, 30, 30, 30]);
        assert_eq!(waits(true), [1, 1, 2, 16, 32, 256, 300, 300]);
    }
}
