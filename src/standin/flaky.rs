//! How does a provider fail in turns?
//!
//! For the demo: a healthy while, then one kind of trouble after another, each for the same span,
//! over and over. The order alternates health and trouble, so that a viewer sees both the failover
//! and the way back, and each phase has a name for the status line.

use std::time::Duration;

use super::{Place, Reply, Script, Twist};

/// What the viewer reads, and what the provider does.
type Phase = (&'static str, fn() -> Reply);

/// What both providers say when all is well.
pub const WORDS: &str = "The trains run on time today, all switches are set and every signal is green.";

/// The phases in order.
const PHASES: [Phase; 10] = [
    ("healthy", healthy),
    ("rate limited: 429, Retry-After 2", || Reply::rate_limited(Some("2"))),
    ("breaks off after 6 words", || healthy().at(Place::AfterTokens(6), Twist::Close)),
    ("healthy", healthy),
    ("unavailable: 503", || Reply::status(503)),
    ("resets connections", Reply::reset),
    ("healthy", healthy),
    ("an error event in a 200", || Reply::error_event(529)),
    ("overloaded: 529", || Reply::status(529)),
    ("silent", Reply::silence),
];

/// 20 ms a word, so that a stream can be watched; about 0.3 s in all.
fn healthy() -> Reply {
    Reply::says(WORDS).delay(Duration::from_millis(20))
}

/// Returns a provider's script with phases of `span` each.
#[must_use]
pub fn script(span: Duration) -> Script {
    Script::phases(PHASES.map(|(_, reply)| (span, Script::always(reply()))))
}

/// Returns the script of the steady provider beside it, which says the same at the same pace.
#[must_use]
pub fn steady() -> Script {
    Script::always(healthy())
}

/// Returns the name of the phase that a provider is in, that long after its start.
#[must_use]
pub fn phase(elapsed: Duration, span: Duration) -> &'static str {
    let turn = elapsed.as_nanos().checked_div(span.as_nanos()).unwrap_or(0);
    // The remainder is below the number of phases, so the default is never taken.
    let turn = usize::try_from(turn % PHASES.len() as u128).unwrap_or(0);
    PHASES.get(turn).map_or("healthy", |(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::Seen;

    #[test]
    fn names_and_replies_change_together() {
        let span = Duration::from_secs(2);
        let script = script(span);
        for turn in 0..20_u32 {
            let now = span * turn + Duration::from_millis(1);
            let reply = script.choose(&Seen::default(), now);
            let is_healthy = reply.twists.is_empty() && format!("{:?}", reply.act) == "Answer";
            assert_eq!(phase(now, span) == "healthy", is_healthy, "turn {turn}: {}", phase(now, span));
        }
        assert_eq!(phase(Duration::from_secs(1), Duration::ZERO), "healthy");
    }
}
