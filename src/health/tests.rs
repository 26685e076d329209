//! The three scopes together.

use super::fixture::{at, policy, units};
use super::*;
use crate::config::plan::{Ladder, Permanent};
use crate::wire::retry_hint::RetryHint;
use smallvec::SmallVec;
use std::time::Duration;

/// Another model of the same key on the same host.
fn neighbour(of: &Units) -> Units {
    Units { target: Arc::default(), ..of.clone() }
}

fn tell(units: &Units, outcome: Outcome, account_wide: bool, now: Tick) -> SmallVec<[Change; 2]> {
    let permit = units.admit(now, &policy()).unwrap_or_default();
    let report = Report { outcome, hint: RetryHint::None, account_wide, is_permanent: false, began: now };
    units.report(permit, &report, now, &policy(), 20)
}

#[test]
fn each_fault_keeps_to_its_scope() {
    for (outcome, account_wide, own_rests, neighbour_rests) in [
        (Outcome::RateLimited, false, true, false),
        (Outcome::RateLimited, true, true, true),
        (Outcome::Overloaded, false, true, false),
        (Outcome::ModelUnavailable, false, true, false),
        (Outcome::Quota, false, true, true),
        (Outcome::Auth, false, true, true),
        (Outcome::Tls, false, true, true),
        (Outcome::Dns, false, true, true),
        (Outcome::ClientError, false, false, false),
        (Outcome::ClientGone, false, false, false),
        (Outcome::ContentFiltered, false, false, false),
    ] {
        let own = units();
        let other = neighbour(&own);
        tell(&own, outcome, account_wide, at(1));
        assert_eq!(own.look(at(1), &policy()).is_err(), own_rests, "{outcome:?} own");
        assert_eq!(other.look(at(1), &policy()).is_err(), neighbour_rests, "{outcome:?} neighbour");
    }
}

#[test]
fn five_server_errors_open_the_target_and_five_refusals_the_endpoint() {
    for (outcome, neighbour_rests) in [(Outcome::ServerError, false), (Outcome::Connect, true)] {
        let own = units();
        let other = neighbour(&own);
        for _ in 0..5 {
            tell(&own, outcome, false, at(1));
        }
        assert!(matches!(own.look(at(1), &policy()), Err(Resting::Open { .. })), "{outcome:?}");
        assert_eq!(other.look(at(1), &policy()).is_err(), neighbour_rests, "{outcome:?}");
    }
}

#[test]
fn an_overload_rests_the_same_model_behind_other_keys() {
    let other_key = units();
    let own = Units { siblings: Arc::from([Arc::clone(&other_key.target)]), ..units() };
    tell(&own, Outcome::Overloaded, false, at(1));
    assert!(other_key.look(at(1), &policy()).is_err());
}

#[test]
fn a_dropped_permit_gives_its_probe_back() {
    let own = units();
    for _ in 0..5 {
        tell(&own, Outcome::ServerError, false, at(0));
    }
    let permit = own.admit(at(6), &policy()).unwrap();
    assert_eq!(own.admit(at(6), &policy()).unwrap_err(), Resting::Probing);
    drop(permit);
    assert!(own.admit(at(6), &policy()).is_ok());
}

/// Ends an attempt that began at `began`.
fn end(units: &Units, permit: Permit, outcome: Outcome, began: Tick, now: Tick) {
    let report = Report { outcome, hint: RetryHint::None, account_wide: false, is_permanent: false, began };
    units.report(permit, &report, now, &policy(), 20);
}

#[test]
fn a_probe_that_hangs_keeps_nobody_away_for_longer_than_the_open_time() {
    let own = units();
    for _ in 0..5 {
        tell(&own, Outcome::ServerError, false, at(0));
    }
    let hangs = own.admit(at(6), &policy()).unwrap();
    assert_eq!(own.admit(at(10), &policy()).unwrap_err(), Resting::Probing);
    let second = own.admit(at(11), &policy()).unwrap();
    drop(hangs);
    assert_eq!(own.admit(at(11), &policy()).unwrap_err(), Resting::Probing, "the second's place");
    end(&own, second, Outcome::Ok, at(11), at(12));
    tell(&own, Outcome::Ok, false, at(12));
    assert!(own.is_closed(at(12), &policy()));
}

#[test]
fn a_probe_that_was_overtaken_still_counts_unless_it_opened_again() {
    for (opens_again, want) in [(false, true), (true, false)] {
        let own = units();
        for _ in 0..5 {
            tell(&own, Outcome::ServerError, false, at(0));
        }
        let mut slow = own.admit(at(6), &policy()).unwrap();
        let second = own.admit(at(11), &policy()).unwrap();
        let outcome = if opens_again { Outcome::ServerError } else { Outcome::Ok };
        end(&own, second, outcome, at(11), at(12));
        own.content_began(&mut slow, at(23), &policy());
        if opens_again {
            tell(&own, Outcome::Ok, false, at(23));
        }
        assert_eq!(own.is_closed(at(23), &policy()), want, "opens again: {opens_again}");
    }
}

#[test]
fn a_half_open_breaker_opens_for_what_began_after_it_had_opened() {
    for (outcome, began, opens, why) in [
        (Outcome::ServerError, 1, false, "it was under way when the breaker opened"),
        (Outcome::Tls, 1, false, "so was this handshake"),
        (Outcome::Truncated, 6, true, "its probe was settled at the first content, and now it broke"),
    ] {
        let own = units();
        for _ in 0..5 {
            let fault = if outcome == Outcome::Tls { Outcome::Connect } else { Outcome::ServerError };
            tell(&own, fault, false, at(1));
        }
        end(&own, Permit::default(), outcome, at(began), at(7));
        let unit = if outcome == Outcome::Tls { &own.endpoint } else { &own.target };
        let is_open = unit.breaker(at(7), &policy().breaker) == BreakerState::Open;
        assert_eq!(is_open, opens, "{outcome:?}: {why}");
    }
}

#[test]
fn one_long_stream_is_one_success_of_a_half_open_breaker() {
    let own = units();
    for _ in 0..5 {
        tell(&own, Outcome::ServerError, false, at(0));
    }
    let mut permit = own.admit(at(6), &policy()).unwrap();
    own.content_began(&mut permit, at(6), &policy());
    let report = Report {
        outcome: Outcome::Ok,
        hint: RetryHint::None,
        account_wide: false,
        is_permanent: false,
        began: at(6),
    };
    own.report(permit, &report, at(7), &policy(), 20);
    assert!(!own.is_closed(at(7), &policy()), "the end of the same stream is no second success");
    tell(&own, Outcome::Ok, false, at(8));
    assert!(own.is_closed(at(8), &policy()));
}

#[test]
fn a_breaker_that_a_reload_switched_off_is_in_nobodys_way() {
    let off = Policy { breaker: BreakerPolicy { enabled: false, ..policy().breaker }, ..policy() };
    for outcome in [Outcome::ServerError, Outcome::Connect] {
        let own = units();
        for _ in 0..5 {
            tell(&own, outcome, false, at(0));
        }
        assert!(!own.is_closed(at(1), &policy()) && !own.may_repeat(at(1), &policy()), "{outcome:?}");
        assert!(own.is_closed(at(1), &off) && own.may_repeat(at(1), &off), "{outcome:?}");
        let told = own.news(at(1), &off);
        assert_eq!(told.last().map(|change| change.to), Some(Stance::READY), "{outcome:?}");
        assert_eq!(own.target.read(at(1), &off).breaker, BreakerState::Closed);
    }
}

#[test]
fn a_probe_under_way_is_shorter_than_any_rest_with_a_time() {
    let own = units();
    for _ in 0..5 {
        tell(&own, Outcome::ServerError, false, at(0));
    }
    let _probe = own.admit(at(6), &policy()).unwrap();
    assert_eq!(own.look(at(6), &policy()), Err(Resting::Probing));
    let quota = Report {
        outcome: Outcome::Quota,
        hint: RetryHint::None,
        account_wide: true,
        is_permanent: false,
        began: at(6),
    };
    neighbour(&own).report(Permit::default(), &quota, at(6), &policy(), 20);
    let rests = Resting::Cooling { until: at(906), reason: Outcome::Quota };
    assert_eq!(own.look(at(6), &policy()), Err(rests));
    own.target.operate(Operation::Drained);
    assert_eq!(own.look(at(6), &policy()), Err(Resting::Drained), "for as long as the operator wants");
}

#[test]
fn a_change_names_where_from_and_to() {
    let own = units();
    let changes = tell(&own, Outcome::Quota, false, at(1));
    assert_eq!(
        changes.as_slice(),
        [Change {
            scope: Scope::Credential,
            from: "ready",
            to: "cooling",
            reason: Outcome::Quota,
            until: Some(at(901))
        }]
    );
}

#[test]
fn a_changed_key_ends_the_rest_of_its_credential_only_for_reasons_of_the_key() {
    let own = units();
    tell(&own, Outcome::Auth, false, at(1));
    own.credential.key_changed();
    assert!(own.look(at(1), &policy()).is_ok());
    tell(&own, Outcome::RateLimited, true, at(1));
    own.credential.key_changed();
    assert!(own.look(at(1), &policy()).is_err());
}

/// A policy under which every fault with a pattern is permanent.
fn strict() -> Policy {
    let (base, max) = (Duration::from_secs(300), Duration::from_secs(4_800));
    let permanent = Some(Permanent { base, factor: 2.0, max });
    Policy { breaker: BreakerPolicy { permanent, ..policy().breaker }, ..policy() }
}

fn tell_permanent(units: &Units, outcome: Outcome, now: Tick, policy: &Policy) -> SmallVec<[Change; 2]> {
    let permit = units.admit(now, policy).unwrap_or_default();
    let report =
        Report { outcome, hint: RetryHint::None, account_wide: false, is_permanent: true, began: now };
    units.report(permit, &report, now, policy, 20)
}

#[test]
fn a_permanent_fault_opens_its_scope_at_once_and_only_where_the_operator_wants_it() {
    for (outcome, own_opens, neighbour_opens) in [
        (Outcome::Auth, true, true),
        (Outcome::ModelUnavailable, true, false),
        (Outcome::Permission, true, false),
        (Outcome::ServerError, true, false),
        (Outcome::ClientError, false, false),
        (Outcome::RateLimited, false, false),
        (Outcome::ContextLength, false, false),
    ] {
        let own = units();
        let other = neighbour(&own);
        let changes = tell_permanent(&own, outcome, at(1), &strict());
        let open = |units: &Units| matches!(units.look(at(1), &strict()), Err(Resting::Open { .. }));
        assert_eq!((open(&own), open(&other)), (own_opens, neighbour_opens), "{outcome:?}");
        assert_eq!(changes.iter().any(|change| change.to == "open"), own_opens, "{outcome:?}");
        let usual = units();
        tell_permanent(&usual, outcome, at(1), &policy());
        assert!(!matches!(usual.look(at(1), &policy()), Err(Resting::Open { .. })), "{outcome:?}");
    }
}

#[test]
fn a_credential_that_opened_for_good_is_probed_by_one_request_and_closed_by_successes() {
    let own = units();
    tell_permanent(&own, Outcome::Auth, at(1), &strict());
    assert!(!own.may_repeat(at(1), &strict()) && !own.is_closed(at(1), &strict()));
    let probe = own.admit(at(302), &strict()).unwrap();
    assert_eq!(neighbour(&own).admit(at(302), &strict()).unwrap_err(), Resting::Probing);
    drop(probe);
    for second in [303, 304] {
        assert!(!own.is_closed(at(second), &strict()));
        let permit = own.admit(at(second), &strict()).unwrap();
        let report = Report {
            outcome: Outcome::Ok,
            hint: RetryHint::None,
            account_wide: false,
            is_permanent: false,
            began: at(second),
        };
        own.report(permit, &report, at(second), &strict(), 20);
    }
    assert!(own.is_closed(at(305), &strict()));
    tell_permanent(&own, Outcome::Auth, at(306), &strict());
    own.credential.key_changed();
    assert!(own.look(at(306), &strict()).is_ok(), "a changed key closes it");
}

#[test]
fn a_hold_rests_the_key_for_every_status_that_another_key_may_mend() {
    let held = |seconds| {
        let hold = Duration::from_secs(seconds);
        Policy { cooldown: CooldownPolicy { hold, ..policy().cooldown }, ..policy() }
    };
    for (outcome, hint, want) in [
        (Outcome::RateLimited, RetryHint::None, Some(60)),
        (Outcome::RateLimited, RetryHint::After(Duration::from_secs(7)), Some(7)),
        (Outcome::RateLimited, RetryHint::After(Duration::from_millis(1)), Some(1)),
        (Outcome::RateLimited, RetryHint::Absurd, Some(60)),
        (Outcome::Overloaded, RetryHint::None, Some(60)),
        (Outcome::ServerError, RetryHint::None, Some(60)),
        (Outcome::Quota, RetryHint::None, Some(60)),
        (Outcome::Permission, RetryHint::None, Some(60)),
        (Outcome::Auth, RetryHint::None, Some(300)),
        (Outcome::ClientError, RetryHint::None, None),
        (Outcome::Reset, RetryHint::None, None),
    ] {
        let sibling = units();
        let own = Units { siblings: Arc::from([Arc::clone(&sibling.target)]), ..units() };
        let report = Report { outcome, hint, account_wide: false, is_permanent: false, began: at(1) };
        own.report(Permit::default(), &report, at(1), &held(60), 20);
        // Another model of the same key rests with it.
        let until = neighbour(&own).look(at(1), &held(60)).err().and_then(Resting::until);
        assert_eq!(until, want.map(|seconds| at(1 + seconds)), "{outcome:?} {hint:?}");
        assert!(sibling.look(at(1), &held(60)).is_ok(), "{outcome:?}: other keys are free");
    }
}

#[test]
fn the_ladder_and_the_providers_word_rest_together_and_a_reset_ends_both() {
    let cooldown = CooldownPolicy { ladder: Ladder::of([Duration::from_secs(60)]), ..policy().cooldown };
    let policy = Policy { cooldown, ..policy() };
    let own = units();
    tell(&own, Outcome::RateLimited, false, at(1));
    let change = own.exhausted(Outcome::RateLimited, at(1), at(1), &policy);
    assert!(change.is_none(), "it rested already: {change:?}");
    assert_eq!(own.look(at(1), &policy).unwrap_err().until(), Some(at(61)), "the longer of the two");
    assert_eq!(own.target.read(at(1), &policy).cooling_until, Some(at(61)));
    own.target.reset();
    assert!(own.look(at(1), &policy).is_ok());
}

#[test]
fn a_failed_probe_that_was_a_first_try_as_well_is_told() {
    let own = units();
    for _ in 0..5 {
        tell(&own, Outcome::ServerError, false, at(0));
    }
    let states =
        |changes: &[Change]| changes.iter().map(|change| (change.from, change.to)).collect::<Vec<_>>();
    assert_eq!(
        states(&tell(&own, Outcome::RateLimited, false, at(6))).last(),
        Some(&("half_open", "cooling"))
    );
    let again = tell(&own, Outcome::ServerError, false, at(300));
    assert_eq!(states(&again), [("cooling", "half_open"), ("half_open", "open")]);
    assert!(matches!(own.look(at(300), &policy()), Err(Resting::Open { .. })));
}
