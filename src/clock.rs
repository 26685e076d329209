//! What time is it?
//!
//! The one reader of the clocks. Everything below floor 5 takes a [`Tick`] or a [`Now`] as an
//! argument, so that a simulation can say what time it is; the shell asks here.
//!
//! [`Clock::tick`] is one `Instant::now` (about 25 ns through the vDSO) and is what hot paths take
//! several times a request. [`Clock::now`] reads the wall clock as well, for the places that turn
//! a tick into a date: log lines, pages, a provider's HTTP-date.
//!
//! Ticks count from the clock's construction. One clock serves a process: ticks of two clocks
//! cannot be compared.

use crate::base::time::{Now, Tick, WallTime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Stands for ticks that no timer can be set to.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads both clocks of the machine. Copies share the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting ticks now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn new() -> Self {
        Clock { start: Instant::now() }
    }

    /// Returns the monotonic time since construction.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn tick(&self) -> Tick {
        Tick::default().after(Instant::now().saturating_duration_since(self.start))
    }

    /// Returns when a tick is on the machine's own clock, for timers; a tick too far away for it is
    /// a year from the start.
    #[must_use]
    pub fn instant(&self, tick: Tick) -> Instant {
        let after = |span| self.start.checked_add(span);
        after(tick.left(Tick::default())).or_else(|| after(FAR)).unwrap_or(self.start)
    }

    /// Returns the wall clock; a clock set before 1970 reads as 1970.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn wall(&self) -> WallTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns both clocks, read one after the other.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { tick: self.tick(), wall: self.wall() }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_never_go_back_and_copies_agree() {
        let clock = Clock::new();
        let copy = clock;
        let mut last = Tick::default();
        for _ in 0..1000 {
            let (one, other) = (clock.tick(), copy.tick());
            assert!(last <= one && one <= other, "{last:?} {one:?} {other:?}");
            last = other;
        }
    }

    #[test]
    fn ticks_are_instants_as_far_apart() {
        let clock = Clock::new();
        let (one, other) = (Tick(1_000_000), Tick(3_500_000));
        assert_eq!(clock.instant(other) - clock.instant(one), Duration::from_millis(2500));
        assert!(clock.instant(Tick(u64::MAX)) > clock.instant(other));
    }

    #[test]
    fn the_wall_clock_is_in_milliseconds_of_this_century() {
        let wall = Clock::new().now().wall;
        assert!(wall.0 > 1_600_000_000_000, "{wall:?}");
        assert!(wall.0 < 4_100_000_000_000, "{wall:?}");
    }
}
