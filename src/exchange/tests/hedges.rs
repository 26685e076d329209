//! A second target beside the first.

use super::*;
use crate::exchange::hedge::Hedges;
use crate::health::Operation;
use proptest::prelude::*;

fn full() -> Hedges {
    let hedges = Hedges::default();
    (0..10).for_each(|_| hedges.deposit(1.0));
    hedges
}

fn three() -> Vec<Candidate> {
    vec![candidate(0, 0, "m"), candidate(1, 1, "m"), candidate(2, 2, "other")]
}

fn hedge(scene: &mut Scene) -> Option<usize> {
    let order = scene.exchange.hedge(scene.now, &full(), &scene.budget)?;
    assert_eq!(order.cause, Cause::Hedge);
    Some(order.candidate)
}

/// Tells health and the machine that one of two attempts failed.
fn fall_out(scene: &mut Scene, at: usize, failure: &Failure) {
    let units = Arc::clone(&scene.exchange.candidates()[at].health);
    let Failure { outcome, hint, .. } = *failure;
    let report = Report { outcome, hint, account_wide: false, is_permanent: false, began: scene.now };
    units.report(Permit::default(), &report, scene.now, &scene.policy, 20);
    scene.exchange.fell_out(at, failure, scene.now);
}

/// Who was asked, in the order of the records, and whether each was called off.
fn told(scene: &Scene) -> Vec<(usize, Cause, bool)> {
    let record = |record: &Record| (record.candidate, record.cause, record.is_called_off);
    scene.exchange.records().iter().map(record).collect()
}

#[test]
fn the_next_sound_target_is_asked_and_only_where_it_may_be() {
    type Row = (&'static str, fn(&mut Rules), fn(&mut Scene), Option<usize>);
    let table: [Row; 9] = [
        ("the next", |_| {}, |_| {}, Some(1)),
        ("the next rests", |_| {}, |scene| operate(scene, 1), Some(2)),
        ("the next would be probed", |_| {}, open_and_wait, Some(2)),
        ("nobody is left", |_| {}, |scene| [1, 2].into_iter().for_each(|at| operate(scene, at)), None),
        ("may not be sent twice", |rules| rules.may_replay = false, |_| {}, None),
        ("no change is left", |rules| rules.retry.failovers = 0, |_| {}, None),
        ("no time is left", |rules| rules.deadline = Tick(1_100_000), |s| s.now = Tick(1_095_000), None),
        ("content went out", |_| {}, |scene| scene.exchange.commit(scene.now), None),
        ("once a request", |_| {}, |scene| assert_eq!(hedge(scene), Some(1)), None),
    ];
    for (why, rules, change, want) in table {
        let mut scene = scene(three(), rules);
        scene.start();
        change(&mut scene);
        assert_eq!(hedge(&mut scene), want, "{why}");
    }
}

fn operate(scene: &mut Scene, at: usize) {
    scene.exchange.candidates()[at].health.target.operate(Operation::Disabled);
}

/// Opens the breaker of the second target and lets its time pass: a probe is due.
fn open_and_wait(scene: &mut Scene) {
    let units = Arc::clone(&scene.exchange.candidates()[1].health);
    let report = Report {
        outcome: Outcome::Reset,
        hint: RetryHint::None,
        account_wide: false,
        is_permanent: false,
        began: scene.now,
    };
    for _ in 0..5 {
        units.report(Permit::default(), &report, scene.now, &scene.policy, 0);
    }
    scene.now = scene.now.after(Duration::from_secs(20));
    assert!(units.look(scene.now, &scene.policy).is_ok() && !units.is_closed(scene.now, &scene.policy));
}

#[test]
fn a_hedge_is_paid_for_from_both_purses_or_none() {
    let mut scene = scene(three(), |rules| rules.retry.budget_min_per_second = 0);
    scene.start();
    let hedges = Hedges::default();
    hedges.deposit(0.999);
    assert!(scene.exchange.hedge(scene.now, &hedges, &scene.budget).is_none(), "not a whole one");
    hedges.deposit(0.001);
    while scene.budget.withdraw(scene.now, &scene.exchange.rules.retry) {}
    assert!(scene.exchange.hedge(scene.now, &hedges, &scene.budget).is_none());
    assert!(scene.exchange.budget_ran_dry());
    scene.budget = RetryBudget::default();
    assert!(scene.exchange.hedge(scene.now, &hedges, &scene.budget).is_some(), "the bucket was not touched");
}

#[test]
fn a_hedge_that_nobody_pays_for_claims_nothing() {
    let mut scene = scene(three(), |_| {});
    scene.start();
    let units = Arc::clone(&scene.exchange.candidates()[1].health);
    let report = Report {
        outcome: Outcome::RateLimited,
        hint: RetryHint::None,
        account_wide: false,
        is_permanent: false,
        began: scene.now,
    };
    units.report(Permit::default(), &report, scene.now, &scene.policy, 20);
    scene.now = scene.now.after(Duration::from_secs(5));
    assert!(scene.exchange.hedge(scene.now, &Hedges::default(), &scene.budget).is_none());
    assert!(units.admit(scene.now, &scene.policy).is_ok(), "the first try after its rest is still to be had");
    assert_eq!(hedge(&mut scene), Some(1));
}

#[test]
fn who_goes_on_stands_last_and_who_was_called_off_has_no_outcome() {
    for (loser, winner) in [(0, 1), (1, 0)] {
        let mut scene = scene(three(), |_| {});
        scene.start();
        assert_eq!(hedge(&mut scene), Some(1));
        scene.exchange.call_off(loser, scene.now);
        scene.exchange.answered(200);
        scene.exchange.commit(scene.now);
        let records = scene.exchange.records();
        assert_eq!((records[0].candidate, records[0].status, records[0].first_content), (loser, None, None));
        assert_eq!((records[1].candidate, records[1].status), (winner, Some(200)));
        let step = scene.exchange.delivered(scene.now);
        assert_eq!(went(&step, scene.now), Went::Ends("answered"));
        let called_off: Vec<_> = told(&scene).iter().map(|(.., is_called_off)| *is_called_off).collect();
        assert_eq!(called_off, [true, false]);
    }
}

#[test]
fn a_fault_of_one_leaves_the_race_to_the_other_and_both_lead_on() {
    for (first_out, other) in [(0, 1), (1, 0)] {
        let mut scene = scene(three(), |rules| rules.retry.same_target = 0);
        scene.start();
        hedge(&mut scene);
        let failure = status(Outcome::ServerError, 500);
        assert!(!scene.exchange.ends_both(&failure));
        fall_out(&mut scene, first_out, &failure);
        assert_eq!(scene.exchange.records().last().unwrap().candidate, other);
        let step = scene.fail(&failure);
        assert_eq!(went(&step, scene.now), Went::To(2, Cause::Failover), "neither is asked again");
    }
}

#[test]
fn a_fault_of_the_request_is_the_answer_of_both() {
    for (failure, want) in [
        (status(Outcome::ClientError, 400), true),
        (status(Outcome::ContentFiltered, 400), true),
        (status(Outcome::ContextLength, 400), false),
        (status(Outcome::RateLimited, 429), false),
        (status(Outcome::Auth, 401), false),
        (Failure::plain(Outcome::TimeoutFirstContent), false),
    ] {
        let mut scene = scene(three(), |_| {});
        scene.start();
        hedge(&mut scene);
        assert_eq!(scene.exchange.ends_both(&failure), want, "{failure:?}");
    }
    let mut scene = scene(three(), |rules| rules.retry.stops_on_auth = true);
    scene.start();
    hedge(&mut scene);
    assert!(scene.exchange.ends_both(&status(Outcome::Auth, 401)), "retry.on_auth_failure: stop");
}

#[test]
fn a_client_that_leaves_leaves_both() {
    let mut scene = scene(three(), |_| {});
    scene.start();
    hedge(&mut scene);
    scene.exchange.client_gone(scene.now);
    for record in scene.exchange.records() {
        assert_eq!((record.outcome, record.ended), (Outcome::ClientGone, scene.now));
    }
}

proptest! {
    /// However the requests come, no more than their share is hedged.
    #[test]
    fn no_more_than_the_ratio_is_hedged(
        ratio in 0.0_f64..=1.0, wants in proptest::collection::vec(proptest::bool::ANY, 1..400),
    ) {
        let hedges = Hedges::default();
        let mut made = 0_u32;
        for (at, wants) in (1_u32..).zip(wants) {
            hedges.deposit(ratio);
            if wants {
                let mut scene = scene(three(), |_| {});
                scene.start();
                made += u32::from(scene.exchange.hedge(scene.now, &hedges, &scene.budget).is_some());
            }
            // A share is rounded to a millionth.
            let most = (ratio + 1e-6) * f64::from(at);
            prop_assert!(f64::from(made) <= most, "{} of {} at {}", made, at, ratio);
        }
    }
}

#[test]
fn who_was_called_off_takes_up_the_stream_of_who_was_faster() {
    for (loser, winner) in [(0, 1), (1, 0)] {
        let mut scene = scene(three(), |_| {});
        scene.start();
        assert_eq!(hedge(&mut scene), Some(1));
        scene.exchange.call_off(loser, scene.now);
        scene.exchange.commit(scene.now);
        scene.exchange.rescuable(true);
        let broke = Failure::plain(Outcome::Truncated);
        for (at, why) in [(2, "who was not tried"), (winner, "itself"), (loser, "who was slow, last")] {
            let step = scene.fail(&broke);
            assert_eq!(went(&step, scene.now), Went::To(at, Cause::Restart), "{why}");
        }
    }
}
