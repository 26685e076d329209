//! How long is each rest when one follows another?
//!
//! A [`Ladder`] is the list of rests of `cooldown.ladder`, such as `[1m, 5m, 25m, 1h]`: the first
//! rest lasts as long as its first step, the next as the second, every one above the last as the
//! last. No steps: there is no ladder. At most [`STEPS_MAX`] steps, kept in place, so that the
//! policies that hold one stay plain values that are copied into a request.
//!
//! Why a list and not base, factor and cap: the one seed that has it is known for its four
//! numbers, the last of which is not the third times the factor.

use std::time::Duration;

/// Eight steps reach from a second to weeks at any factor worth having.
pub const STEPS_MAX: usize = 8;

/// Rests that follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    steps: [Duration; STEPS_MAX],
    count: usize,
}

impl Ladder {
    /// Makes a ladder of the first [`STEPS_MAX`] steps.
    #[must_use]
    pub fn of(steps: impl IntoIterator<Item = Duration>) -> Self {
        let mut ladder = Ladder::default();
        for (place, step) in ladder.steps.iter_mut().zip(steps) {
            *place = step;
            ladder.count += 1;
        }
        ladder
    }

    /// Tells whether there are no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the rest that follows `before` others; nothing where there is no ladder.
    #[must_use]
    pub fn step(&self, before: u32) -> Option<Duration> {
        let last = self.count.checked_sub(1)?;
        let at = usize::try_from(before).map_or(last, |before| before.min(last));
        self.steps.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_above_the_last_step_lasts_as_long_as_the_last() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let ladder = Ladder::of([1, 5, 25, 60].map(minutes));
        for (before, want) in [(0, 1), (1, 5), (2, 25), (3, 60), (4, 60), (u32::MAX, 60)] {
            assert_eq!(ladder.step(before), Some(minutes(want)), "after {before} others");
        }
        assert_eq!(Ladder::default().step(0), None);
        assert_eq!(Ladder::of([minutes(1); 12]).step(11), Some(minutes(1)), "more than fit are left out");
    }
}
