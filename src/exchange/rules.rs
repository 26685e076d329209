//! What may be done about a failure: the columns *class*, *same target again* and *fail over* of
//! the failure table, and nothing else (cooldown and breaker are `health`'s).
//!
//! Class U: provably not processed, always safe to move on. Class A: sent and unanswered or
//! half-answered, perhaps billed; only a request that may be replayed moves on. Class P: processed.
//!
//! The operator may bend four rows ([`Rule::bent`]): `retry.prefer: same_target` repeats also what
//! the table leaves at once because another target is the better bet (overload, a refused
//! connection, an answer cut off), but never silence; `on_auth_failure: stop`, `on_client_error:
//! failover` and `on_content_filter: failover` do what they say.

use crate::base::outcome::Outcome;
use crate::config::plan::{Prefer, RetryPolicy};

/// Whether the provider may have worked (and billed) already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Provably not processed.
    Unprocessed,
    /// Perhaps processed.
    Ambiguous,
}

/// Whether the same target is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Never: silence, an open wound, or the client's own fault.
    No,
    /// After the provider's time when it is short, else once after a back-off.
    WaitOrBackOff,
}

/// Where the request goes after the same target is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// To the next target.
    Next,
    /// To the next target with another model and a larger (or undeclared) window.
    NextLarger,
    /// To the next target; where none is left, the provider's answer goes to the client as it is.
    NextOrRelay,
    /// Nowhere: the provider's answer goes to the client as it is.
    Relay,
    /// Nowhere.
    Stop,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it may have been processed.
    pub class: Class,
    /// Whether to try the same target again.
    pub again: Again,
    /// Where to go then.
    pub onward: Onward,
}

impl Rule {
    /// Bends the rule for `outcome` to what the operator wants. `timed_out` marks a connection that
    /// did not come in time; `inband` an error inside a 200.
    #[must_use]
    pub fn bent(self, outcome: Outcome, timed_out: bool, inband: bool, retry: &RetryPolicy) -> Rule {
        let onward = if outcome == Outcome::Auth && retry.stops_on_auth {
            Onward::Stop
        } else if (outcome == Outcome::ClientError && retry.moves_on_client_error)
            || (outcome == Outcome::ContentFiltered && retry.moves_on_content_filter)
        {
            Onward::NextOrRelay
        } else {
            self.onward
        };
        let is_worth_it = matches!(outcome, Outcome::Overloaded | Outcome::Truncated)
            || (outcome == Outcome::Connect && !timed_out);
        let repeats = retry.prefer == Prefer::SameTarget && is_worth_it && !inband;
        Rule { again: if repeats { Again::WaitOrBackOff } else { self.again }, onward, ..self }
    }
}

/// Returns the rule for a failure. `status` is the provider's, where it sent a head; `inband`
/// marks an error inside a 200.
#[must_use]
pub fn rule(outcome: Outcome, status: Option<u16>, inband: bool) -> Rule {
    use {Again as A, Class as C, Onward as O};
    let (class, again, onward) = match outcome {
        Outcome::RateLimited => (C::Unprocessed, A::WaitOrBackOff, O::Next),
        Outcome::Connect
        | Outcome::Dns
        | Outcome::Tls
        | Outcome::Quota
        | Outcome::Overloaded
        | Outcome::Auth
        | Outcome::Permission
        | Outcome::Region
        | Outcome::ModelUnavailable => (C::Unprocessed, A::No, O::Next),
        Outcome::ContextLength | Outcome::TooLarge => (C::Unprocessed, A::No, O::NextLarger),
        // Row 17: who did not want to begin did nothing; who gave up waiting is not asked again.
        Outcome::ServerError if status == Some(425) => (C::Unprocessed, A::No, O::Next),
        Outcome::ServerError if status == Some(408) => (C::Ambiguous, A::No, O::Next),
        // Row 11: a 503 says that nothing was done; every other 5xx may have been.
        Outcome::ServerError if status == Some(503) => (C::Unprocessed, A::WaitOrBackOff, O::Next),
        Outcome::ServerError | Outcome::Reset => (C::Ambiguous, A::WaitOrBackOff, O::Next),
        Outcome::TimeoutFirstContent
        | Outcome::TimeoutStall
        | Outcome::Truncated
        | Outcome::BadBody
        | Outcome::InbandError => (C::Ambiguous, A::No, O::Next),
        Outcome::ContentFiltered | Outcome::ClientError => (C::Ambiguous, A::No, O::Relay),
        Outcome::Ok | Outcome::TimeoutTotal | Outcome::ClientGone => (C::Ambiguous, A::No, O::Stop),
    };
    // Row 24: a stream that begins with an error is left at once, whatever the error's twin allows.
    Rule { class, again: if inband { Again::No } else { again }, onward }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_never_repeated_and_the_clients_own_faults_never_move_on() {
        for outcome in Outcome::ALL {
            let rule = rule(outcome, None, false);
            let is_silence = matches!(outcome, Outcome::TimeoutFirstContent | Outcome::TimeoutStall);
            assert!(!(is_silence && rule.again != Again::No), "{outcome:?}");
            if matches!(outcome, Outcome::ClientError | Outcome::ContentFiltered) {
                assert_eq!(rule.onward, Onward::Relay, "{outcome:?}");
            }
            if outcome == Outcome::ClientGone {
                assert_eq!(rule.onward, Onward::Stop);
            }
        }
    }

    #[test]
    fn a_503_was_not_processed_and_a_500_perhaps_was() {
        assert_eq!(rule(Outcome::ServerError, Some(503), false).class, Class::Unprocessed);
        assert_eq!(rule(Outcome::ServerError, Some(500), false).class, Class::Ambiguous);
    }

    #[test]
    fn a_408_and_a_425_are_left_at_once_and_only_one_of_them_was_perhaps_processed() {
        for (status, class) in [(408, Class::Ambiguous), (425, Class::Unprocessed)] {
            let rule = rule(Outcome::ServerError, Some(status), false);
            assert_eq!((rule.class, rule.again, rule.onward), (class, Again::No, Onward::Next), "{status}");
        }
    }

    #[test]
    fn the_operator_bends_only_the_rows_that_were_named() {
        let wishes = RetryPolicy {
            prefer: Prefer::SameTarget,
            stops_on_auth: true,
            moves_on_client_error: true,
            moves_on_content_filter: true,
            ..RetryPolicy::default()
        };
        for outcome in Outcome::ALL {
            let usual = rule(outcome, None, false);
            assert_eq!(usual.bent(outcome, false, false, &RetryPolicy::default()), usual, "{outcome:?}");
            let bent = usual.bent(outcome, false, false, &wishes);
            let onward = match outcome {
                Outcome::Auth => Onward::Stop,
                Outcome::ClientError | Outcome::ContentFiltered => Onward::NextOrRelay,
                _ => usual.onward,
            };
            assert_eq!(bent.onward, onward, "{outcome:?}");
            let repeats = usual.again == Again::WaitOrBackOff
                || matches!(outcome, Outcome::Overloaded | Outcome::Connect | Outcome::Truncated);
            assert_eq!(bent.again == Again::WaitOrBackOff, repeats, "{outcome:?}");
        }
        let late = rule(Outcome::Connect, None, false).bent(Outcome::Connect, true, false, &wishes);
        assert_eq!(late.again, Again::No, "a connect time-out is silence");
        let inband =
            rule(Outcome::Overloaded, Some(200), true).bent(Outcome::Overloaded, false, true, &wishes);
        assert_eq!(inband.again, Again::No);
    }

    #[test]
    fn an_error_inside_a_200_is_not_repeated_at_the_same_target() {
        assert_eq!(rule(Outcome::RateLimited, Some(200), true).again, Again::No);
        assert_eq!(rule(Outcome::RateLimited, Some(429), false).again, Again::WaitOrBackOff);
    }
}
