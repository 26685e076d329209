//! How slow may a client be?
//!
//! A connection that is held open costs memory, and a few thousand of them cost a service that waits
//! for each as long as it likes (threat C7). So everything that a client sends or takes has a pace:
//!
//! * a whole head comes within 10 s of its first byte;
//! * a body comes within 60 s and a second more for each MiB of it that is there, and from its
//!   tenth second on it has come at 1 KiB/s at least, taken over all of it;
//! * one write to a client ends within 60 s.
//!
//! Pingora's own timers are one per read, which a byte now and then sets anew. The values are no
//! configuration: nobody has a reason for others but a test, which brings its own.

use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// The slowest that a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Longest time from the first byte of a head to its last.
    pub head: Duration,
    /// Longest time for a body of up to a MiB; each MiB more adds a second.
    pub body: Duration,
    /// From when on a body must have come at `rate`.
    pub grace: Duration,
    /// Fewest bytes of a body per second.
    pub rate: u64,
    /// Longest time for one write to the client.
    pub write: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            rate: 1024,
            write: Duration::from_secs(60),
        }
    }
}

impl Pace {
    /// Returns how long after its beginning a body of which `bytes` have come must have gone on or
    /// be over.
    #[must_use]
    pub fn next_by(&self, bytes: u64) -> Duration {
        let at_rate = Duration::from_millis(bytes.saturating_mul(1000) / self.rate.max(1));
        let whole = self.body.saturating_add(Duration::from_secs(bytes / MIB));
        at_rate.max(self.grace).min(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_says_how_long_the_rest_may_take() {
        let pace = Pace::default();
        for (bytes, seconds) in [
            (0, 10),
            (1, 10),
            (10 * 1024, 10),
            (20 * 1024, 20),
            (59 * 1024, 59),
            (61 * 1024, 60),
            (MIB, 61),
            (32 * MIB, 92),
            (u64::MAX, 60 + u64::MAX / MIB),
        ] {
            let expected = Duration::from_secs(seconds);
            if bytes == u64::MAX {
                assert!(pace.next_by(bytes) <= expected, "no overflow");
            } else {
                assert_eq!(pace.next_by(bytes), expected, "{bytes} bytes");
            }
        }
    }
}
