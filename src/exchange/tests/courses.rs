//! What is told of candidates that were not asked, fault by fault.

use super::*;
use crate::exchange::course::{Halt, Passed};
use crate::health::Operation;

/// The course after these failures, one after the other.
fn course_of(scene: &mut Scene, failures: &[Failure]) -> crate::exchange::course::Course {
    scene.start();
    let mut ending = None;
    for failure in failures {
        let mut step = scene.fail(failure);
        if let Step::Pause { until } = step {
            step = scene.resume(until);
        }
        if let Step::End(end) = step {
            ending = Some(end);
        }
    }
    let ending = ending.unwrap_or_else(|| match scene.exchange.delivered(scene.now) {
        Step::End(ending) => ending,
        other => panic!("{other:?}"),
    });
    scene.exchange.course(ending)
}

#[test]
fn why_nobody_else_was_asked_is_told_by_the_place_that_decided() {
    let three = || vec![candidate(0, 0, "m"), candidate(1, 1, "m"), candidate(2, 2, "m")];
    for (what, change, failure, want) in [
        ("the client's own fault", None, status(Outcome::ClientError, 400), Halt::RequestAtFault),
        ("the time is up", None, Failure::plain(Outcome::TimeoutTotal), Halt::Deadline),
        ("it left", None, Failure::plain(Outcome::ClientGone), Halt::ClientGone),
        ("not twice", Some("no replay"), Failure::plain(Outcome::Reset), Halt::NotReplayable),
        ("no moves", Some("no failovers"), status(Outcome::Auth, 401), Halt::Failovers),
    ] {
        let mut scene = scene(three(), |rules| match change {
            Some("no replay") => rules.may_replay = false,
            Some(_) => rules.retry.failovers = 0,
            None => {}
        });
        let course = course_of(&mut scene, &[failure]);
        assert_eq!(course.halt, want, "{what}");
        assert!(course.passed.iter().all(Option::is_none), "{what}: {course:?}");
        assert_eq!(course.chosen, (want == Halt::RequestAtFault).then_some(0), "{what}");
    }
}

#[test]
fn who_rests_when_the_choice_is_made_is_told_to_have_rested_then() {
    let mut scene = scene(vec![candidate(0, 0, "m"), candidate(1, 1, "m"), candidate(2, 2, "m")], |_| {});
    let health = |at: usize| Arc::clone(&scene.exchange.candidates()[at].health);
    let (first, second) = (health(0), health(1));
    let report = Report {
        outcome: Outcome::RateLimited,
        hint: RetryHint::After(Duration::from_secs(60)),
        account_wide: false,
        is_permanent: false,
        began: scene.now,
    };
    first.report(Permit::default(), &report, scene.now, &scene.policy, 20);
    second.target.operate(Operation::Drained);
    let course = course_of(&mut scene, &[]);
    assert_eq!(course.chosen, Some(2));
    let until = scene.now.after(Duration::from_secs(60));
    let cooling = Resting::Cooling { until, reason: Outcome::RateLimited };
    let want = [Some(Passed::Resting(cooling)), Some(Passed::Resting(Resting::Drained)), None];
    assert_eq!(course.passed[..], want);
}

#[test]
fn an_overloaded_model_and_a_window_no_larger_pass_candidates_over() {
    let mut sisters = vec![candidate(0, 0, "m"), candidate(1, 0, "m"), candidate(2, 1, "other")];
    sisters[1].provider = 0;
    let mut scene_of_sisters = scene(sisters, |_| {});
    let course = course_of(&mut scene_of_sisters, &[status(Outcome::Overloaded, 529)]);
    assert_eq!((course.chosen, course.passed[1]), (Some(2), Some(Passed::Overloaded)));

    let sized = |at, model: &str, window| Candidate { context: Some(window), ..candidate(at, at, model) };
    let mut windows =
        scene(vec![sized(0, "small", 8_000), sized(1, "smaller", 4_000), sized(2, "large", 32_000)], |_| {});
    let course = course_of(&mut windows, &[status(Outcome::ContextLength, 400)]);
    assert_eq!((course.chosen, course.passed[1]), (Some(2), Some(Passed::Smaller)));

    let mut keys = vec![candidate(0, 0, "m"), candidate(1, 0, "n"), candidate(2, 1, "m")];
    keys[1].provider = 0;
    let mut spent = scene(keys, |rules| rules.retry.provider_attempts = 1);
    let course = course_of(&mut spent, &[status(Outcome::Auth, 401)]);
    assert_eq!((course.chosen, course.passed[1]), (Some(2), Some(Passed::Spent)));
}
