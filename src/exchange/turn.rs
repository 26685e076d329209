//! How much of the deadline may one target use?
//!
//! One deadline covers all attempts, and a healthy target that is left must still have its time
//! when the ones before it have used theirs. The rule in words:
//!
//! 1. *A turn.* The time that was left when a target was first asked is divided evenly over it and
//!    the others that may still be asked: usable now, not yet tried, within `retry.failovers`. So
//!    each of n targets has at least an n-th of the whole; who is faster leaves the rest to the
//!    others. Where no other is left the turn lasts until the deadline.
//! 2. *A wait in place* (Retry-After, back-off) is taken only where the wait, and the least time of
//!    the attempt behind it, end within the turn.
//! 3. *First-content and response timers* run out with the turn, where they are longer than it.
//! 4. *A new attempt* needs a least time: 1 s, or a tenth of the whole where that is under 10 s.
//!    `retry.least_time` asks for more. With less left the request ends at once with `deadline_exceeded`, and no timer moves it on.
//!
//! Evenly, and not a larger share for the first, because nothing is known of who will answer. With
//! the default deadline of 600 s and five targets a turn is 120 s and changes nothing; it is felt
//! where an operator or a client (`x-request-timeout-ms`) sets a short one.

use super::Exchange;
use crate::base::time::Tick;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The least time of an attempt behind the first (requirement E22).
const LEAST: Duration = Duration::from_secs(1);
/// The least time as a part of the whole, where that is shorter.
const LEAST_PART: u32 = 10;

/// What a client may ask for in `x-request-timeout-ms` (requirement E22).
const WISH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// Reads a client's `x-request-timeout-ms`: a whole number of milliseconds, taken as 1 s where it is
/// less and as 300 s where it is more. Anything else is no wish.
#[must_use]
pub fn wish(header: &[u8]) -> Option<Duration> {
    let digits = header.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(digits).ok()?;
    // Only digits: what does not fit is more than the most.
    let wanted = Duration::from_millis(text.parse().unwrap_or(u64::MAX));
    Some(wanted.clamp(*WISH.start(), *WISH.end()))
}

/// Returns the least time that a new attempt needs in a request that has `whole` for all of them.
pub(super) fn least(whole: Duration) -> Duration {
    LEAST.min(whole / LEAST_PART)
}

impl Exchange {
    /// Returns when a timer of a running attempt that is set to `until` runs out: with the turn of
    /// its target, where that ends before.
    #[must_use]
    pub fn curb(&self, current: usize, until: Tick, now: Tick) -> Tick {
        let most = self.candidates.len().saturating_sub(1).min(self.changes_left());
        if self.turn_over(current, most) >= until {
            // However many are usable: nobody need be asked.
            return until;
        }
        until.min(self.turn_end(current, now))
    }

    /// Returns when the turn of a target ends.
    pub(super) fn turn_end(&self, current: usize, now: Tick) -> Tick {
        self.turn_over(current, self.others(current, now))
    }

    /// Tells whether a new attempt still has its least time.
    pub(super) fn has_time(&self, now: Tick) -> bool {
        now.after(self.least) <= self.rules.deadline
    }

    /// Returns when the turn of a target ends that shares its time with this many others.
    fn turn_over(&self, current: usize, others: usize) -> Tick {
        let from = self.tallies[current].asked_at;
        let whole = self.rules.deadline.left(from);
        from.after(whole / u32::try_from(others + 1).unwrap_or(u32::MAX))
    }

    /// Counts the targets that may still be asked after this one.
    fn others(&self, current: usize, now: Tick) -> usize {
        let policy = &self.rules.health;
        let is_usable = |at: &usize| *at != current && self.candidates[*at].health.look(now, policy).is_ok();
        let others = if self.is_committed {
            self.rescuers().filter(is_usable).count()
        } else {
            (0..self.candidates.len()).filter(|at| self.is_open_to(*at, None)).filter(is_usable).count()
        };
        others.min(self.changes_left())
    }

    fn changes_left(&self) -> usize {
        self.rules.retry.failovers.saturating_sub(self.failovers) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_wish_is_held_within_its_bounds() {
        for (header, want) in [
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("30s", None),
            ("١", None),
            ("0", Some(1_000)),
            ("999", Some(1_000)),
            (" 2500 ", Some(2_500)),
            ("300000", Some(300_000)),
            ("300001", Some(300_000)),
            ("99999999999999999999999999", Some(300_000)),
        ] {
            assert_eq!(wish(header.as_bytes()), want.map(Duration::from_millis), "{header:?}");
        }
    }

    #[test]
    fn an_attempt_needs_a_second_or_a_tenth_of_a_short_whole() {
        for (whole, want) in [(600_000, 1_000), (10_000, 1_000), (2_000, 200), (300, 30), (0, 0)] {
            let least = least(Duration::from_millis(whole));
            assert_eq!(least, Duration::from_millis(want), "of {whole} ms");
        }
    }
}
