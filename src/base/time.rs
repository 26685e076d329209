//! Time as an argument.
//!
//! The core never reads a clock: it is given a [`Tick`] (monotonic, for every timer, cooldown and
//! deadline) and, where a provider speaks in dates, a [`WallTime`]. `clock` is the one room that
//! makes them. Ticks are unaffected by NTP steps and suspend jumps of the wall clock.
//!
//! All arithmetic saturates: a provider that asks for 10^20 seconds must not overflow anything
//! (`Instant + huge` panics; `Tick + huge` is the end of time).

use std::time::Duration;

/// A point on the monotonic clock, in microseconds since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Returns the tick that lies `span` later, or the end of time where that overflows.
    #[must_use]
    pub fn after(self, span: Duration) -> Tick {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(micros))
    }

    /// Returns the time from `earlier` until this tick; zero when `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Returns the time that is left until this tick; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Tick) -> Duration {
        self.since(now)
    }
}

/// A point on the wall clock, in milliseconds since the Unix epoch. Only for logs, for pages and
/// for reading dates that a provider sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

/// One reading of both clocks, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub tick: Tick,
    /// The wall clock.
    pub wall: WallTime,
}

impl Now {
    /// Returns the wall time at which `tick` falls or fell, reckoned from this reading.
    #[must_use]
    pub fn wall_of(self, tick: Tick) -> WallTime {
        let ahead = i64::try_from(tick.since(self.tick).as_millis()).unwrap_or(i64::MAX);
        let behind = i64::try_from(self.tick.since(tick).as_millis()).unwrap_or(i64::MAX);
        WallTime(self.wall.0.saturating_add(ahead).saturating_sub(behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        assert_eq!(Tick(5).after(Duration::MAX), Tick(u64::MAX));
        assert_eq!(Tick(5).since(Tick(9)), Duration::ZERO);
        assert_eq!(Tick(9).left(Tick(5)), Duration::from_micros(4));
    }

    #[test]
    fn wall_time_of_a_tick_lies_on_the_right_side_of_now() {
        let now = Now { tick: Tick(10_000_000), wall: WallTime(1_000) };
        assert_eq!(now.wall_of(Tick(12_000_000)), WallTime(3_000));
        assert_eq!(now.wall_of(Tick(9_000_000)), WallTime(0));
        assert_eq!(now.wall_of(Tick(u64::MAX)).0, 1_000 + ((u64::MAX - 10_000_000) / 1000).cast_signed());
    }
}
