//! How the deadline is shared out.

use super::*;
use crate::health::Operation;
use proptest::prelude::*;

const START: Tick = Tick(1_000_000);

fn secs(seconds: u64) -> Tick {
    START.after(Duration::from_secs(seconds))
}

fn within(candidates: Vec<Candidate>, whole: u64, change: impl FnOnce(&mut Rules)) -> Scene {
    scene(candidates, |rules| {
        rules.deadline = secs(whole);
        change(rules);
    })
}

#[test]
fn a_wait_in_place_leaves_the_others_their_share() {
    let on = || Went::To(1, Cause::Failover);
    for (candidates, whole, wait, want, why) in [
        (lesser(), 10, 3, Went::Waits(3_000), "half of ten seconds are its own"),
        (lesser(), 10, 4, Went::Waits(4_000), "and the attempt behind it has its second"),
        (lesser(), 10, 5, on(), "no time for an attempt behind it"),
        (lesser(), 6, 3, on(), "the other one's half"),
        (lesser()[..1].to_vec(), 6, 5, Went::Waits(5_000), "nobody else needs the time"),
        (lesser()[..1].to_vec(), 5, 5, Went::Ends("refuse"), "past the deadline"),
    ] {
        let mut scene = within(candidates, whole, |_| {});
        scene.start();
        let step = scene.fail(&said(wait));
        assert_eq!(went(&step, scene.now), want, "{wait} s of {whole} s: {why}");
    }
}

#[test]
fn repeats_at_one_target_share_its_turn() {
    let mut scene = within(equals(), 20, |rules| {
        rules.retry.prefer = Prefer::SameTarget;
        rules.retry.same_target = 10;
    });
    scene.start();
    for _ in 0..2 {
        let step = scene.fail(&said(4));
        assert_eq!(went(&step, scene.now), Went::Waits(4_000));
        let Step::Pause { until } = step else { unreachable!() };
        scene.resume(until);
    }
    let step = scene.fail(&said(4));
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover), "a third wait would end after 12 s");
}

#[test]
fn a_timer_ends_with_the_turn_and_only_where_somebody_else_is_left() {
    let three = || vec![candidate(0, 0, "a"), candidate(1, 1, "b"), candidate(2, 2, "c")];
    let span = Duration::from_secs(12);
    let curbed = |scene: &Scene| scene.exchange.curb(0, scene.now.after(span), scene.now).since(scene.now);
    for (whole, failovers, resting, want, why) in [
        (600, 4, 0, 12, "the default changes nothing"),
        (24, 4, 0, 8, "a third each"),
        (24, 1, 0, 12, "only one change is allowed: half each"),
        (24, 4, 1, 12, "one of them rests: half each"),
        (20, 4, 2, 12, "nobody is left: its own timer, which will not fire"),
        (9, 4, 0, 3, "a third each"),
    ] {
        let mut scene = within(three(), whole, |rules| rules.retry.failovers = failovers);
        for at in 0..resting {
            scene.exchange.candidates()[2 - at].health.target.operate(Operation::Disabled);
        }
        scene.start();
        assert_eq!(curbed(&scene), Duration::from_secs(want), "{why}");
    }
}

#[test]
fn a_new_attempt_needs_its_least_time() {
    for (whole, failed_at, failure, want) in [
        (20, 18, status(Outcome::ServerError, 500), Went::To(1, Cause::Failover)),
        (20, 19, Failure::plain(Outcome::Connect), Went::To(1, Cause::Failover)),
        (2, 1, Failure::plain(Outcome::Connect), Went::To(1, Cause::Failover)),
    ] {
        let mut scene = within(equals(), whole, |_| {});
        scene.start();
        scene.now = secs(failed_at);
        let step = scene.fail(&failure);
        assert_eq!(went(&step, scene.now), want, "{failure:?} after {failed_at} s of {whole} s");
    }
    for (failure, is_ours) in [
        (status(Outcome::ServerError, 500), true),
        (said(2), true),
        (Failure { is_stale: true, ..Failure::plain(Outcome::Reset) }, true),
        (status(Outcome::ContextLength, 400), false),
    ] {
        let mut scene = within(lesser(), 20, |_| {});
        scene.start();
        scene.now = secs(19).after(Duration::from_millis(1));
        assert!(!scene.exchange.has_alternative(scene.now), "no timer gives up what is there for nothing");
        let step = scene.fail(&failure);
        match step {
            Step::End(Ending::Refuse(refusal)) if is_ours => {
                let told = (refusal.status, refusal.code);
                assert_eq!(told, (504, ErrorCode::DeadlineExceeded), "{failure:?}");
            }
            Step::End(Ending::Relay) if !is_ours => {}
            other => panic!("{failure:?}: {other:?}"),
        }
    }
}

proptest! {
    /// However long the timers are: of n usable targets each is asked with an n-th of the whole.
    #[test]
    fn each_target_is_asked_with_its_share_left(
        count in 1_u32..=5, whole_ms in 100_u64..600_000, span_ms in 1_u64..600_000,
    ) {
        let candidates = (0..count).map(|at| candidate(at, at, "m")).collect();
        let deadline = START.after(Duration::from_millis(whole_ms));
        let mut scene = scene(candidates, |rules| rules.deadline = deadline);
        let share = Duration::from_millis(whole_ms) / count;
        prop_assert_eq!(scene.start(), 0);
        for asked in 1..=count {
            let left = deadline.left(scene.now);
            let due = share * (count - asked + 1);
            // A division may lose a microsecond a turn.
            prop_assert!(left + Duration::from_micros(10) >= due, "target {} has {:?}", asked, left);
            let limit = scene.exchange.curb(asked as usize - 1, scene.now.after(Duration::from_millis(span_ms)), scene.now);
            scene.now = limit.min(deadline);
            if asked < count {
                prop_assert!(scene.exchange.has_alternative(scene.now));
                let step = scene.fail(&Failure::plain(Outcome::TimeoutFirstContent));
                prop_assert_eq!(went(&step, scene.now), Went::To(asked as usize, Cause::Failover));
            }
        }
    }
}
