//! The rows of the failure table that decide where a request goes, one by one.

mod courses;
mod hedges;
mod turns;

use super::repeat::backoff;
use super::*;
use crate::base::outcome::ErrorCode;
use crate::config::plan::{Backoff, Jitter};
use crate::config::plan::{BreakerPolicy, CooldownPolicy, Ladder};
use crate::health::{Report, Units};
use std::sync::Arc;
use std::time::Duration;

struct Scene {
    exchange: Exchange,
    budget: RetryBudget,
    now: Tick,
    policy: Policy,
}

fn candidate(slot: u32, group: u32, model: &str) -> Candidate {
    Candidate {
        slot,
        group,
        provider: slot,
        model: model.into(),
        context: None,
        continues: false,
        health: Arc::new(Units {
            target: Arc::default(),
            credential: Arc::default(),
            endpoint: Arc::default(),
            siblings: Arc::from([]),
        }),
    }
}

/// Two targets that serve the same model.
fn equals() -> Vec<Candidate> {
    vec![candidate(0, 0, "m"), candidate(1, 1, "m")]
}

/// Two targets with different models.
fn lesser() -> Vec<Candidate> {
    vec![candidate(0, 0, "large"), candidate(1, 1, "small")]
}

fn scene(candidates: Vec<Candidate>, change: impl FnOnce(&mut Rules)) -> Scene {
    let policy = Policy {
        breaker: BreakerPolicy {
            enabled: true,
            consecutive_failures: 5,
            failure_ratio: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(10),
            half_open_probes: 1,
            close_after: 2,
            ..BreakerPolicy::default()
        },
        cooldown: CooldownPolicy {
            default: Duration::from_secs(5),
            max: Duration::from_secs(300),
            quota: Duration::from_secs(900),
            quota_max: Duration::from_secs(21_600),
            auth: Duration::from_secs(300),
            auth_max: Duration::from_secs(4_800),
            ..CooldownPolicy::default()
        },
    };
    let mut rules = Rules {
        is_single: false,
        retry: RetryPolicy {
            prefer: Prefer::EqualFirst,
            same_target: 1,
            wait_in_place: Duration::from_secs(5),
            backoff: Backoff {
                base: Duration::from_millis(250),
                multiplier: 2.0,
                max: Duration::from_secs(10),
                jitter: Jitter::None,
            },
            failovers: 4,
            budget_ratio: 0.2,
            budget_min_per_second: 3,
            ..RetryPolicy::default()
        },
        health: Arc::new(policy),
        may_replay: true,
        may_rescue: true,
        deadline: Tick(600_000_000),
    };
    change(&mut rules);
    let exchange = Exchange::new(rules, candidates);
    Scene { exchange, budget: RetryBudget::default(), now: Tick(1_000_000), policy }
}

impl Scene {
    fn start(&mut self) -> usize {
        match self.exchange.start(self.now) {
            Step::Try(order) => order.candidate,
            other => panic!("expected an attempt, got {other:?}"),
        }
    }

    /// Tells health and the machine of a failure of the running attempt.
    fn fail(&mut self, failure: &Failure) -> Step {
        let current = self.exchange.records().last().unwrap().candidate;
        let units = Arc::clone(&self.exchange.candidates()[current].health);
        let report = Report {
            outcome: failure.outcome,
            hint: failure.hint,
            account_wide: false,
            is_permanent: false,
            began: self.now,
        };
        let is_free = failure.is_stale || (failure.is_disowned && failure.hint == RetryHint::None);
        if !is_free && !failure.has_new_key {
            units.report(Permit::default(), &report, self.now, &self.policy, 20);
        }
        self.exchange.failed(failure, self.now, &self.budget, 0)
    }

    fn resume(&mut self, until: Tick) -> Step {
        self.now = until;
        self.exchange.resume(until)
    }
}

fn status(outcome: Outcome, status: u16) -> Failure {
    Failure { status: Some(status), ..Failure::plain(outcome) }
}

fn said(seconds: u64) -> Failure {
    Failure { hint: RetryHint::After(Duration::from_secs(seconds)), ..status(Outcome::RateLimited, 429) }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Went {
    To(usize, Cause),
    Waits(u64),
    Ends(&'static str),
}

fn went(step: &Step, now: Tick) -> Went {
    match step {
        Step::Try(order) => Went::To(order.candidate, order.cause),
        Step::Pause { until } => Went::Waits(u64::try_from(until.left(now).as_millis()).unwrap()),
        Step::End(Ending::Answered) => Went::Ends("answered"),
        Step::End(Ending::Relay) => Went::Ends("relay"),
        Step::End(Ending::Refuse(_)) => Went::Ends("refuse"),
        Step::End(Ending::BreakOff(_)) => Went::Ends("break off"),
        Step::End(Ending::Abandoned) => Went::Ends("abandoned"),
    }
}

#[test]
fn the_first_failure_leads_where_the_table_says() {
    let on = Went::To(1, Cause::Failover);
    let next = || Went::To(1, Cause::Failover);
    for (row, failure, before_equal, before_lesser) in [
        ("1", Failure::plain(Outcome::Connect), on, next()),
        ("3", Failure::plain(Outcome::Dns), next(), next()),
        ("4", Failure::plain(Outcome::Tls), next(), next()),
        ("5", Failure::plain(Outcome::TimeoutFirstContent), next(), next()),
        ("6 short", said(2), next(), Went::Waits(2_000)),
        ("6 long", said(6), next(), next()),
        ("8", status(Outcome::RateLimited, 429), next(), Went::Waits(250)),
        ("9", status(Outcome::Quota, 429), next(), next()),
        ("10", status(Outcome::ServerError, 500), next(), Went::Waits(250)),
        ("11", status(Outcome::ServerError, 503), next(), Went::Waits(250)),
        ("12", status(Outcome::Overloaded, 529), next(), next()),
        ("13", status(Outcome::Auth, 401), next(), next()),
        ("14", status(Outcome::ModelUnavailable, 404), next(), next()),
        ("15", status(Outcome::ContextLength, 400), Went::Ends("relay"), next()),
        ("16", status(Outcome::ContentFiltered, 400), Went::Ends("relay"), Went::Ends("relay")),
        ("17", status(Outcome::ClientError, 400), Went::Ends("relay"), Went::Ends("relay")),
        ("18", status(Outcome::BadBody, 200), next(), next()),
        ("21", Failure::plain(Outcome::Reset), next(), Went::Waits(250)),
        ("22", status(Outcome::Truncated, 200), next(), next()),
        ("24", Failure { is_inband: true, ..status(Outcome::RateLimited, 200) }, next(), next()),
        ("28", status(Outcome::TimeoutStall, 200), next(), next()),
        ("31", Failure::plain(Outcome::ClientGone), Went::Ends("abandoned"), Went::Ends("abandoned")),
    ] {
        for (candidates, want) in [(equals(), before_equal), (lesser(), before_lesser)] {
            let mut scene = scene(candidates, |_| {});
            assert_eq!(scene.start(), 0);
            let step = scene.fail(&failure);
            assert_eq!(went(&step, scene.now), want, "row {row}");
        }
    }
}

#[test]
fn a_repeat_goes_to_the_same_target_and_then_on() {
    let mut scene = scene(lesser(), |_| {});
    scene.start();
    let step = scene.fail(&status(Outcome::ServerError, 500));
    let Step::Pause { until } = step else { panic!("{step:?}") };
    let step = scene.resume(until);
    assert_eq!(went(&step, scene.now), Went::To(0, Cause::Repeat));
    let step = scene.fail(&status(Outcome::ServerError, 500));
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover));
    let step = scene.fail(&status(Outcome::ServerError, 500));
    let Step::Pause { until } = step else { panic!("the last one is repeated too: {step:?}") };
    scene.resume(until);
    let step = scene.fail(&status(Outcome::ServerError, 500));
    assert!(
        matches!(
            step,
            Step::End(Ending::Refuse(Refusal { status: 502, code: ErrorCode::UpstreamError, .. }))
        ),
        "{step:?}"
    );
}

/// The two have a key each: who wants neither sets both to nothing.
#[test]
fn a_short_retry_after_is_waited_out_once_though_nothing_is_repeated_after_a_back_off() {
    for (wait_in_place, want) in [(5, Went::Waits(2_000)), (0, Went::To(1, Cause::Failover))] {
        let mut scene = scene(lesser(), |rules| {
            rules.retry.same_target = 0;
            rules.retry.wait_in_place = Duration::from_secs(wait_in_place);
        });
        scene.start();
        let step = scene.fail(&said(2));
        assert_eq!(went(&step, scene.now), want, "{wait_in_place} s");
        if let Step::Pause { until } = step {
            scene.resume(until);
            let step = scene.fail(&said(2));
            assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover), "once");
        }
    }
    let mut scene = scene(lesser(), |rules| rules.retry.same_target = 0);
    scene.start();
    let step = scene.fail(&status(Outcome::ServerError, 500));
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover), "no back-off");
}

#[test]
fn prefer_same_target_repeats_before_an_equal_one() {
    let mut scene = scene(equals(), |rules| {
        rules.retry.prefer = Prefer::SameTarget;
        rules.retry.same_target = 3;
    });
    scene.start();
    for wait in [250, 500, 1_000] {
        let step = scene.fail(&status(Outcome::ServerError, 500));
        assert_eq!(went(&step, scene.now), Went::Waits(wait));
        let Step::Pause { until } = step else { unreachable!() };
        scene.resume(until);
    }
    let step = scene.fail(&status(Outcome::ServerError, 500));
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover));
}

#[test]
fn what_may_not_be_replayed_moves_on_only_when_nothing_was_processed() {
    for (failure, want) in [
        (Failure::plain(Outcome::Connect), Went::To(1, Cause::Failover)),
        (status(Outcome::RateLimited, 429), Went::To(1, Cause::Failover)),
        (status(Outcome::ServerError, 503), Went::To(1, Cause::Failover)),
        (status(Outcome::ServerError, 500), Went::Ends("refuse")),
        (Failure::plain(Outcome::Reset), Went::Ends("refuse")),
        (Failure::plain(Outcome::TimeoutFirstContent), Went::Ends("refuse")),
    ] {
        let mut scene = scene(equals(), |rules| rules.may_replay = false);
        scene.start();
        let step = scene.fail(&failure);
        assert_eq!(went(&step, scene.now), want, "{failure:?}");
    }
}

#[test]
fn a_dead_kept_connection_is_resent_once_and_free() {
    let mut scene = scene(lesser(), |rules| rules.retry.same_target = 0);
    scene.start();
    let stale = Failure { is_stale: true, ..Failure::plain(Outcome::Reset) };
    let step = scene.fail(&stale);
    assert_eq!(went(&step, scene.now), Went::To(0, Cause::Resend));
    let step = scene.fail(&stale);
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover), "then as row 21");
}

#[test]
fn what_was_disowned_is_resent_once_and_never_repeated() {
    let disowned = Failure { is_disowned: true, ..Failure::plain(Outcome::Reset) };
    for may_replay in [true, false] {
        let mut scene = scene(lesser(), |rules| {
            rules.retry.prefer = Prefer::SameTarget;
            rules.may_replay = may_replay;
        });
        scene.start();
        let step = scene.fail(&disowned);
        assert_eq!(went(&step, scene.now), Went::To(0, Cause::Resend));
        let step = scene.fail(&disowned);
        assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover), "nothing was processed");
    }
}

#[test]
fn who_asks_for_calm_is_asked_again_only_where_nobody_else_is_left() {
    let calm = Failure {
        is_disowned: true,
        hint: RetryHint::After(Duration::from_secs(10)),
        ..Failure::plain(Outcome::Reset)
    };
    for failovers in [0, 4] {
        let mut scene = scene(lesser(), |rules| {
            rules.retry.failovers = failovers;
            rules.may_replay = false;
            // Not even where this would be short enough to be waited out.
            rules.retry.wait_in_place = Duration::from_secs(20);
        });
        scene.start();
        let step = scene.fail(&calm);
        let here = Went::To(0, Cause::Resend);
        let there = Went::To(1, Cause::Failover);
        assert_eq!(went(&step, scene.now), if failovers == 0 { here } else { there }, "{failovers}");
        let step = scene.fail(&calm);
        let is_second = failovers == 4;
        let want = if is_second { Went::To(1, Cause::Resend) } else { Went::Ends("refuse") };
        assert_eq!(went(&step, scene.now), want, "{failovers}");
        if is_second {
            let step = scene.fail(&calm);
            assert_eq!(went(&step, scene.now), Went::Ends("refuse"));
        }
        let rest = scene.exchange.candidates()[0].health.look(scene.now, &scene.policy).unwrap_err();
        assert_eq!(rest.until(), Some(scene.now.after(Duration::from_secs(10))));
    }
}

#[test]
fn a_key_that_was_changed_is_tried_once_at_the_same_target_and_free() {
    let mut scene = scene(equals(), |rules| rules.may_replay = false);
    scene.start();
    let refused = Failure { has_new_key: true, ..status(Outcome::Auth, 401) };
    let step = scene.fail(&refused);
    assert_eq!(went(&step, scene.now), Went::To(0, Cause::NewKey), "a refused key is nothing processed");
    let step = scene.fail(&refused);
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover), "then as ever");
    let step = scene.fail(&status(Outcome::Auth, 401));
    assert!(matches!(step, Step::End(Ending::Refuse(refusal)) if refusal.status == 502), "{step:?}");
}

#[test]
fn who_cannot_be_reached_or_does_not_serve_us_is_not_tried_with_another_key() {
    for (outcome, want) in [
        (Outcome::Connect, 3),
        (Outcome::Tls, 3),
        (Outcome::Dns, 3),
        (Outcome::Region, 3),
        (Outcome::Auth, 1),
        (Outcome::ModelUnavailable, 1),
    ] {
        let mut candidates: Vec<_> =
            [(0, "m"), (1, "m"), (2, "other"), (3, "m")].map(|(at, model)| candidate(at, at, model)).to_vec();
        for same in 1..3 {
            candidates[same].provider = candidates[0].provider;
        }
        let mut scene = scene(candidates, |_| {});
        scene.start();
        let step = scene.fail(&Failure::plain(outcome));
        assert_eq!(went(&step, scene.now), Went::To(want, Cause::Failover), "{outcome:?}");
    }
}

#[test]
fn an_overload_skips_the_other_keys_of_the_same_model() {
    let mut candidates = vec![candidate(0, 0, "m"), candidate(1, 0, "m"), candidate(2, 1, "other")];
    candidates[1].provider = 0;
    let mut scene = scene(candidates, |_| {});
    scene.start();
    let step = scene.fail(&status(Outcome::Overloaded, 529));
    assert_eq!(went(&step, scene.now), Went::To(2, Cause::Failover));
}

#[test]
fn a_larger_window_is_looked_for_and_a_smaller_one_is_not() {
    let mut candidates = vec![candidate(0, 0, "a"), candidate(1, 1, "b"), candidate(2, 2, "c")];
    candidates[0].context = Some(8_000);
    candidates[1].context = Some(4_000);
    candidates[2].context = Some(128_000);
    let mut scene = scene(candidates, |_| {});
    scene.start();
    let step = scene.fail(&status(Outcome::ContextLength, 400));
    assert_eq!(went(&step, scene.now), Went::To(2, Cause::Failover));
    let step = scene.fail(&status(Outcome::ContextLength, 400));
    assert_eq!(went(&step, scene.now), Went::Ends("relay"));
}

#[test]
fn no_more_than_the_allowed_changes_of_target() {
    let candidates = (0..8).map(|at| candidate(at, 0, "m")).collect();
    let mut scene = scene(candidates, |rules| rules.retry.failovers = 2);
    scene.start();
    let mut tries = 1;
    while let Step::Try(_) = scene.fail(&status(Outcome::Auth, 401)) {
        tries += 1;
    }
    assert_eq!(tries, 3);
}

#[test]
fn after_commit_nothing_starts_over() {
    let mut scene = scene(equals(), |_| {});
    scene.start();
    scene.exchange.commit(scene.now);
    assert!(!scene.exchange.has_alternative(scene.now));
    let step = scene.fail(&status(Outcome::Truncated, 200));
    assert_eq!(went(&step, scene.now), Went::Ends("break off"));
}

/// Three targets with models of their own; `continues` says which of them go on from a text.
fn three(continues: [bool; 3]) -> Vec<Candidate> {
    let names = ["large", "middle", "small"];
    (0..)
        .zip(names.into_iter().zip(continues))
        .map(|(at, (name, continues))| Candidate { continues, ..candidate(at, at, name) })
        .collect()
}

#[test]
fn a_broken_stream_is_taken_up_as_the_rules_of_rescue_say() {
    use Cause::{Continue, Restart};
    let cut = || status(Outcome::Truncated, 200);
    let refused = || status(Outcome::ClientError, 400);
    let diverged = || Failure::plain(Outcome::Ok);
    let late = || Failure::plain(Outcome::TimeoutFirstContent);
    let break_off = || Went::Ends("break off");
    for (what, continues, story) in [
        (
            "the others in order, the failed one last, each once",
            [false; 3],
            vec![
                (cut(), Went::To(1, Restart)),
                (diverged(), Went::To(2, Restart)),
                (cut(), Went::To(0, Restart)),
                (cut(), break_off()),
            ],
        ),
        (
            "a refused prefill is a new beginning at the same target, once",
            [false, true, false],
            vec![
                (cut(), Went::To(1, Continue)),
                (refused(), Went::To(1, Restart)),
                (refused(), Went::To(2, Restart)),
            ],
        ),
        (
            "a target that fell silent is not asked again, whatever its rescuers do",
            [false; 3],
            vec![
                (Failure::plain(Outcome::TimeoutStall), Went::To(1, Restart)),
                (cut(), Went::To(2, Restart)),
                (late(), break_off()),
            ],
        ),
        (
            "what one filter stopped no other is asked to say",
            [true; 3],
            vec![(status(Outcome::ContentFiltered, 200), break_off())],
        ),
    ] {
        let mut scene = scene(three(continues), |_| {});
        scene.start();
        scene.exchange.commit(scene.now);
        scene.exchange.rescuable(true);
        for (turn, (failure, want)) in story.into_iter().enumerate() {
            let step = scene.fail(&failure);
            assert_eq!(went(&step, scene.now), want, "{what}, failure {}", turn + 1);
        }
    }
}

#[test]
fn a_target_that_refuses_to_go_on_and_begins_anew_is_one_change() {
    let mut scene = scene(three([false, true, true]), |rules| rules.retry.failovers = 2);
    scene.start();
    scene.exchange.commit(scene.now);
    scene.exchange.rescuable(true);
    for (failure, want) in [
        (Failure::plain(Outcome::Truncated), Went::To(1, Cause::Continue)),
        (status(Outcome::ClientError, 400), Went::To(1, Cause::Restart)),
        (Failure::plain(Outcome::Truncated), Went::To(2, Cause::Continue)),
        (Failure::plain(Outcome::Truncated), Went::To(0, Cause::Restart)),
    ] {
        let step = scene.fail(&failure);
        assert_eq!(went(&step, scene.now), want);
    }
}

#[test]
fn rescues_count_among_the_attempts_at_a_provider() {
    // 0 and 1 are of one provider, 2 of another.
    let keys = || {
        let mut keys = three([false, true, true]);
        (keys[0].provider, keys[1].provider) = (9, 9);
        keys
    };
    for (most, want) in [
        (0, [Went::To(1, Cause::Restart), Went::To(2, Cause::Continue), Went::To(0, Cause::Restart)]),
        (3, [Went::To(1, Cause::Restart), Went::To(2, Cause::Continue), Went::Ends("break off")]),
        (2, [Went::To(2, Cause::Continue), Went::Ends("break off"), Went::Ends("break off")]),
    ] {
        let mut scene = scene(keys(), |rules| rules.retry.provider_attempts = most);
        scene.start();
        scene.exchange.commit(scene.now);
        scene.exchange.rescuable(true);
        let step = scene.fail(&Failure::plain(Outcome::Truncated));
        assert_eq!(went(&step, scene.now), Went::To(1, Cause::Continue));
        let refused = status(Outcome::ClientError, 400);
        for (failure, want) in
            [refused, Failure::plain(Outcome::Truncated), Failure::plain(Outcome::Truncated)].iter().zip(want)
        {
            let step = scene.fail(failure);
            assert_eq!(went(&step, scene.now), want, "provider_attempts: {most}");
            if matches!(want, Went::Ends(_)) {
                break;
            }
        }
    }
}

#[test]
fn what_is_asked_again_at_once_counts_among_the_attempts_at_a_provider() {
    let new_key = Failure { has_new_key: true, ..status(Outcome::Auth, 401) };
    let thoughtless = Failure { refuses_thinking: true, ..status(Outcome::ClientError, 400) };
    for (failure, again, otherwise) in [
        (new_key, Cause::NewKey, Went::To(1, Cause::Failover)),
        (thoughtless, Cause::WithoutThinking, Went::Ends("relay")),
    ] {
        for (most, want) in [(0, Went::To(0, again)), (2, Went::To(0, again)), (1, otherwise)] {
            let mut scene = scene(lesser(), |rules| rules.retry.provider_attempts = most);
            scene.start();
            let step = scene.fail(&failure);
            assert_eq!(went(&step, scene.now), want, "{again:?}, provider_attempts: {most}");
        }
    }
}

/// A stream that has broken, taken up by the next target.
fn taken_up(continues: [bool; 3], change: impl FnOnce(&mut Rules)) -> Scene {
    let mut scene = scene(three(continues), change);
    scene.start();
    scene.exchange.commit(scene.now);
    scene.exchange.rescuable(true);
    scene.exchange.pays_from(&scene.budget);
    scene
}

fn fresh(step: &Step) -> bool {
    matches!(step, Step::Try(Try { wants_fresh: true, .. }))
}

#[test]
fn a_rescuer_that_was_not_reached_is_asked_once_more_on_a_fresh_connection() {
    let stale = Failure { is_stale: true, ..Failure::plain(Outcome::Reset) };
    let disowned = Failure { is_disowned: true, ..Failure::plain(Outcome::Reset) };
    let calm = Failure { hint: RetryHint::After(Duration::from_secs(10)), ..disowned };
    let reset = Failure::plain(Outcome::Reset);
    for (failure, continues, is_again, why) in [
        (stale, true, true, "row 19"),
        (stale, false, true, "row 19, and a new beginning is paid for once"),
        (disowned, true, true, "row 20"),
        (calm, true, false, "it asked for calm"),
        (reset, true, false, "a fresh connection broke"),
    ] {
        let mut scene = taken_up([false, continues, true], |rules| rules.retry.budget_min_per_second = 0);
        let cause = if continues { Cause::Continue } else { Cause::Restart };
        let step = scene.fail(&Failure::plain(Outcome::Truncated));
        assert_eq!((went(&step, scene.now), fresh(&step)), (Went::To(1, cause), false), "{why}");
        while scene.budget.withdraw(scene.now, &scene.exchange.rules.retry) {}
        if is_again {
            let step = scene.fail(&failure);
            assert_eq!((went(&step, scene.now), fresh(&step)), (Went::To(1, cause), true), "{why}");
        }
        let step = scene.fail(&failure);
        assert_eq!(
            (went(&step, scene.now), fresh(&step)),
            (Went::To(2, Cause::Continue), false),
            "{why}: no more than once"
        );
        let changes = scene.exchange.records().iter().filter(|record| record.candidate == 1).count();
        assert_eq!((changes, scene.exchange.failovers), (1 + usize::from(is_again), 2), "{why}");
    }
}

#[test]
fn a_refusal_to_go_on_after_a_resend_is_still_a_new_beginning() {
    let mut scene = taken_up([false, true, true], |_| {});
    scene.fail(&Failure::plain(Outcome::Truncated));
    scene.fail(&Failure { is_stale: true, ..Failure::plain(Outcome::Reset) });
    let step = scene.fail(&status(Outcome::ClientError, 400));
    assert_eq!((went(&step, scene.now), fresh(&step)), (Went::To(1, Cause::Restart), false));
}

#[test]
fn a_target_that_was_asked_afresh_before_commit_is_not_again_after_it() {
    let stale = Failure { is_stale: true, ..Failure::plain(Outcome::Reset) };
    let mut scene = scene(vec![candidate(0, 0, "m")], |_| {});
    scene.start();
    let step = scene.fail(&stale);
    assert_eq!((went(&step, scene.now), fresh(&step)), (Went::To(0, Cause::Resend), true));
    scene.exchange.commit(scene.now);
    scene.exchange.rescuable(true);
    let step = scene.fail(&Failure::plain(Outcome::Truncated));
    assert_eq!((went(&step, scene.now), fresh(&step)), (Went::To(0, Cause::Restart), false));
    assert_eq!(went(&scene.fail(&stale), scene.now), Went::Ends("break off"));
}

#[test]
fn a_stream_is_cut_off_only_for_somebody_who_can_be_paid() {
    for (continues, has_token, want, why) in [
        ([false, false, false], true, true, "there is a token for a new beginning"),
        ([false, false, false], false, false, "nobody could take it up"),
        ([true, false, false], false, false, "the silent one itself is no way out"),
        ([false, false, true], false, true, "the last goes on, which is free"),
    ] {
        let mut scene = taken_up(continues, |rules| rules.retry.budget_min_per_second = 0);
        while !has_token && scene.budget.withdraw(scene.now, &scene.exchange.rules.retry) {}
        assert_eq!(scene.exchange.has_alternative(scene.now), want, "{why}");
        assert!(scene.exchange.has_alternative(scene.now) == want, "{why}: looking takes none");
        let step = scene.fail(&Failure::plain(Outcome::TimeoutStall));
        assert_eq!(matches!(step, Step::Try(_)), want, "{why}");
    }
}

#[test]
fn who_cannot_be_paid_for_is_passed_over_for_one_that_goes_on() {
    for (continues, want) in [
        ([false, false, true], Went::To(2, Cause::Continue)),
        ([true, false, false], Went::To(0, Cause::Continue)),
        ([false, false, false], Went::Ends("break off")),
    ] {
        let mut scene = taken_up(continues, |rules| rules.retry.budget_min_per_second = 0);
        while scene.budget.withdraw(scene.now, &scene.exchange.rules.retry) {}
        let step = scene.fail(&Failure::plain(Outcome::Truncated));
        assert_eq!(went(&step, scene.now), want, "{continues:?}");
        assert!(scene.exchange.budget_ran_dry());
    }
}

#[test]
fn who_refuses_to_go_on_and_cannot_begin_anew_leaves_the_stream_to_others() {
    let mut scene = taken_up([false, true, true], |rules| rules.retry.budget_min_per_second = 0);
    scene.fail(&Failure::plain(Outcome::Truncated));
    while scene.budget.withdraw(scene.now, &scene.exchange.rules.retry) {}
    let step = scene.fail(&status(Outcome::ClientError, 400));
    assert_eq!(went(&step, scene.now), Went::To(2, Cause::Continue));
}

#[test]
fn a_look_at_the_budget_takes_nothing() {
    let policy = RetryPolicy { budget_min_per_second: 1, ..RetryPolicy::default() };
    let budget = RetryBudget::default();
    while budget.withdraw(Tick(0), &policy) {}
    assert!(!budget.has_token(Tick(0), &policy));
    let later = Tick(1_000_000);
    assert!(budget.has_token(later, &policy) && budget.has_token(later, &policy));
    assert!(budget.clone().withdraw(later, &policy), "it was still there");
    assert!(!budget.has_token(later, &policy), "a clone draws on the same bucket");
}

#[test]
fn a_silent_rescuer_is_left_for_the_target_that_only_broke_off() {
    for (outcome, want) in [(Outcome::Truncated, true), (Outcome::TimeoutStall, false)] {
        let mut scene = scene(lesser(), |_| {});
        scene.start();
        scene.exchange.commit(scene.now);
        scene.exchange.rescuable(true);
        scene.fail(&Failure::plain(outcome));
        assert_eq!(scene.exchange.has_alternative(scene.now), want, "{outcome:?}");
    }
}

#[test]
fn a_timer_has_an_alternative_only_while_a_usable_target_is_left() {
    let mut scene = scene(equals(), |_| {});
    scene.start();
    assert!(scene.exchange.has_alternative(scene.now));
    let other = Arc::clone(&scene.exchange.candidates()[1].health);
    let report = Report {
        outcome: Outcome::Auth,
        hint: RetryHint::None,
        account_wide: false,
        is_permanent: false,
        began: scene.now,
    };
    other.report(Permit::default(), &report, scene.now, &scene.policy, 20);
    assert!(!scene.exchange.has_alternative(scene.now));
}

#[test]
fn when_nothing_is_usable_the_answer_says_when_to_come_back() {
    for (outcome, want_status, want_code, want_retry, want_should) in [
        (Outcome::RateLimited, 429, ErrorCode::RateLimited, 5, Some(true)),
        (Outcome::Overloaded, 503, ErrorCode::AllTargetsUnavailable, 5, Some(true)),
        (Outcome::Quota, 429, ErrorCode::RateLimited, 900, Some(false)),
        (Outcome::Auth, 503, ErrorCode::AllTargetsUnavailable, 300, Some(false)),
    ] {
        let mut scene = scene(equals(), |_| {});
        for candidate in scene.exchange.candidates() {
            let report = Report {
                outcome,
                hint: RetryHint::None,
                account_wide: false,
                is_permanent: false,
                began: scene.now,
            };
            candidate.health.report(Permit::default(), &report, scene.now, &scene.policy, 20);
        }
        let step = scene.exchange.start(scene.now);
        let Step::End(Ending::Refuse(refusal)) = step else { panic!("{step:?}") };
        assert_eq!(
            (refusal.status, refusal.code, refusal.retry_after, refusal.should_retry),
            (want_status, want_code, Some(want_retry), want_should),
            "{outcome:?}"
        );
        assert!(scene.exchange.records().is_empty(), "no upstream contact");
    }
}

#[test]
fn attempts_that_ended_alike_give_their_common_answer_and_mixed_ones_503() {
    let error = |s| status(Outcome::ServerError, s);
    for (first, second, want, code) in [
        (
            status(Outcome::ModelUnavailable, 404),
            status(Outcome::ModelUnavailable, 404),
            404,
            ErrorCode::ModelNotFound,
        ),
        (status(Outcome::ModelUnavailable, 404), error(500), 502, ErrorCode::UpstreamError),
        (error(504), error(504), 504, ErrorCode::UpstreamError),
        (error(500), error(502), 502, ErrorCode::UpstreamError),
        (error(500), error(503), 503, ErrorCode::AllTargetsUnavailable),
        (status(Outcome::Auth, 401), status(Outcome::Auth, 403), 502, ErrorCode::UpstreamAuth),
        (Failure::plain(Outcome::Connect), Failure::plain(Outcome::Dns), 502, ErrorCode::UpstreamUnreachable),
        (Failure::plain(Outcome::Tls), Failure::plain(Outcome::Tls), 502, ErrorCode::UpstreamTls),
        (said(60), said(90), 429, ErrorCode::RateLimited),
        (said(60), error(500), 503, ErrorCode::AllTargetsUnavailable),
    ] {
        let mut scene = scene(equals(), |rules| rules.retry.same_target = 0);
        scene.start();
        scene.fail(&first);
        let step = scene.fail(&second);
        let Step::End(Ending::Refuse(refusal)) = step else { panic!("{step:?}") };
        assert_eq!((refusal.status, refusal.code), (want, code), "{first:?} then {second:?}");
    }
}

#[test]
fn what_we_had_no_room_for_ends_in_our_own_shortage_and_counts_among_no_faults() {
    let no_room = Failure { is_without_room: true, ..status(Outcome::Ok, 200) };
    let mut scene = scene(equals(), |rules| rules.retry.same_target = 0);
    scene.start();
    scene.fail(&status(Outcome::ServerError, 500));
    let Step::End(Ending::Refuse(refusal)) = scene.fail(&no_room) else { panic!() };
    assert_eq!((refusal.status, refusal.code), (503, ErrorCode::RateLimited));
    assert_eq!((refusal.retry_after, refusal.should_retry), (Some(1), Some(true)));
    assert!(scene.exchange.records().last().unwrap().is_called_off);
    assert!(!scene.exchange.ends_both(&no_room), "the other of two may have a smaller answer");
}

#[test]
fn a_spent_budget_means_no_repeat_but_failovers_stay_free() {
    let mut scene = scene(lesser(), |rules| rules.retry.budget_min_per_second = 0);
    while scene.budget.withdraw(scene.now, &scene.exchange.rules.retry) {}
    scene.start();
    let step = scene.fail(&status(Outcome::ServerError, 500));
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover));
    assert!(scene.exchange.budget_ran_dry());
}

#[test]
fn the_deadline_ends_everything() {
    let mut scene = scene(equals(), |rules| rules.deadline = Tick(1_100_000));
    scene.start();
    let step = scene.fail(&said(2));
    assert_eq!(went(&step, scene.now), Went::To(1, Cause::Failover));
    scene.now = Tick(1_100_000);
    let step = scene.fail(&Failure::plain(Outcome::TimeoutTotal));
    assert!(matches!(step, Step::End(Ending::Refuse(_))), "{step:?}");
}

#[test]
fn backoff_grows_is_capped_and_jitter_stays_inside() {
    let policy = |jitter| Backoff {
        base: Duration::from_millis(250),
        multiplier: 2.0,
        max: Duration::from_secs(1),
        jitter,
    };
    let waits: Vec<_> = (0..4).map(|n| backoff(&policy(Jitter::None), n, 9).as_millis()).collect();
    assert_eq!(waits, [250, 500, 1_000, 1_000]);
    for dice in [0, u64::MAX / 3, u64::MAX] {
        assert!(backoff(&policy(Jitter::Full), 1, dice) <= Duration::from_millis(500));
        let equal = backoff(&policy(Jitter::Equal), 1, dice);
        assert!(equal >= Duration::from_millis(250) && equal <= Duration::from_millis(500));
    }
}

#[test]
fn a_target_that_rests_on_a_guess_is_tried_where_nothing_else_is_left() {
    for (others, expected, why) in [
        (vec![], Some(0), "nowhere else to go"),
        (vec![candidate(1, 1, "m")], Some(1), "another is free, though it comes later"),
    ] {
        let candidates: Vec<_> = [vec![candidate(0, 0, "m")], others].concat();
        let mut scene = scene(candidates, |_| {});
        let policy = scene.policy;
        let report = Report {
            outcome: Outcome::RateLimited,
            hint: RetryHint::None,
            account_wide: false,
            is_permanent: false,
            began: scene.now,
        };
        for _ in 0..4 {
            let units = Arc::clone(&scene.exchange.candidates()[0].health);
            units.report(Permit::default(), &report, scene.now, &policy, 20);
        }
        // The rest lasts forty seconds.
        scene.now = scene.now.after(Duration::from_secs(9));
        let tried = match scene.exchange.start(scene.now) {
            Step::Try(order) => Some(order.candidate),
            Step::Pause { .. } | Step::End(_) => None,
        };
        assert_eq!(tried, expected, "{why}");
    }
}

#[test]
fn prefer_same_target_repeats_what_is_left_at_once_otherwise_but_never_silence() {
    let (stays, leaves) = (Went::Waits(250), Went::To(1, Cause::Failover));
    for (failure, want) in [
        (status(Outcome::Overloaded, 529), &stays),
        (Failure::plain(Outcome::Connect), &stays),
        (status(Outcome::Truncated, 200), &stays),
        (Failure { timed_out: true, ..Failure::plain(Outcome::Connect) }, &leaves),
        (Failure { is_inband: true, ..status(Outcome::Overloaded, 200) }, &leaves),
        (Failure::plain(Outcome::TimeoutFirstContent), &leaves),
        (status(Outcome::ModelUnavailable, 404), &leaves),
    ] {
        let mut scene = scene(equals(), |rules| rules.retry.prefer = Prefer::SameTarget);
        scene.start();
        let step = scene.fail(&failure);
        assert_eq!(went(&step, scene.now), *want, "{failure:?}");
    }
}

#[test]
fn what_the_operator_wants_of_keys_clients_and_filters_is_done() {
    let next = || Went::To(1, Cause::Failover);
    for (failure, want) in [
        (status(Outcome::Auth, 401), Went::Ends("refuse")),
        (status(Outcome::ClientError, 400), next()),
        (status(Outcome::ContentFiltered, 400), next()),
        (status(Outcome::Permission, 403), next()),
    ] {
        let mut scene = scene(equals(), |rules| {
            rules.retry.stops_on_auth = true;
            rules.retry.moves_on_client_error = true;
            rules.retry.moves_on_content_filter = true;
        });
        scene.start();
        let step = scene.fail(&failure);
        assert_eq!(went(&step, scene.now), want, "{failure:?}");
        if failure.outcome == Outcome::ClientError {
            let step = scene.fail(&failure);
            assert_eq!(went(&step, scene.now), Went::Ends("relay"), "the last one's words are passed on");
        }
    }
}

#[test]
fn a_provider_gets_as_many_attempts_as_it_may_have_repeats_included() {
    for (most, want) in [(0, vec![0, 0, 1, 2]), (3, vec![0, 0, 1, 3]), (1, vec![0, 3])] {
        // Three keys of one provider, then another.
        let mut candidates: Vec<_> = (0..4).map(|slot| candidate(slot, slot, "m")).collect();
        for of_the_first in &mut candidates[..3] {
            of_the_first.provider = 9;
        }
        let mut scene = scene(candidates, |rules| {
            rules.retry.prefer = Prefer::SameTarget;
            rules.retry.provider_attempts = most;
        });
        let mut tried = vec![scene.start()];
        while tried.len() < want.len() {
            // Only the first target is worth a repeat.
            let outcome = if tried.len() == 1 { Outcome::ServerError } else { Outcome::ModelUnavailable };
            let mut step = scene.fail(&Failure::plain(outcome));
            if let Step::Pause { until } = step {
                step = scene.resume(until);
            }
            let Step::Try(order) = step else { panic!("{tried:?}, then {step:?}") };
            tried.push(order.candidate);
        }
        assert_eq!(tried, want, "provider_attempts: {most}");
    }
}

#[test]
fn an_attempt_begins_only_with_its_least_time_left() {
    for (left, want) in [(1_000, Went::To(1, Cause::Failover)), (999, Went::Ends("refuse"))] {
        let mut scene = scene(equals(), |rules| {
            rules.retry.least_time = Duration::from_secs(1);
            rules.deadline = Tick(1_000_000 + left * 1_000);
        });
        scene.start();
        assert_eq!(scene.exchange.has_alternative(scene.now), left >= 1_000);
        let step = scene.fail(&status(Outcome::ServerError, 500));
        assert_eq!(went(&step, scene.now), want, "{left} ms left");
    }
    // A repeat needs it after its wait.
    for (left, want) in [(1_250, Went::Waits(250)), (1_249, Went::Ends("refuse"))] {
        let mut scene = scene(lesser()[..1].to_vec(), |rules| {
            rules.retry.least_time = Duration::from_secs(1);
            rules.deadline = Tick(1_000_000 + left * 1_000);
        });
        scene.start();
        let step = scene.fail(&status(Outcome::ServerError, 500));
        assert_eq!(went(&step, scene.now), want, "{left} ms left");
    }
}

#[test]
fn under_a_hold_another_key_is_asked_where_an_overload_would_skip_it() {
    for (hold, want) in [(0, Went::Ends("refuse")), (60, Went::To(1, Cause::Failover))] {
        let mut candidates = equals();
        candidates[1].provider = candidates[0].provider;
        let mut scene = scene(candidates, |rules| {
            Arc::make_mut(&mut rules.health).cooldown.hold = Duration::from_secs(hold);
        });
        scene.policy.cooldown.hold = Duration::from_secs(hold);
        scene.start();
        let step = scene.fail(&status(Outcome::Overloaded, 529));
        assert_eq!(went(&step, scene.now), want, "hold {hold} s");
    }
}

#[test]
fn a_target_climbs_the_ladder_when_a_request_leaves_it_and_not_before() {
    let ladder = Ladder::of([60, 300].map(Duration::from_secs));
    let mut scene = scene(lesser(), |rules| Arc::make_mut(&mut rules.health).cooldown.ladder = ladder);
    let rests = |scene: &Scene, at: usize| scene.exchange.standing(scene.now).nth(at).flatten();
    scene.start();
    let step = scene.fail(&status(Outcome::ServerError, 500));
    let Step::Pause { until } = step else { panic!("{step:?}") };
    assert_eq!(rests(&scene, 0), None, "a retry is still to come");
    scene.resume(until);
    scene.fail(&status(Outcome::ServerError, 500));
    let until = scene.now.after(Duration::from_secs(60));
    assert_eq!(rests(&scene, 0), Some(Resting::Cooling { until, reason: Outcome::ServerError }));
    let changes = scene.exchange.take_changes();
    assert_eq!((changes.len(), changes[0].0, changes[0].1.to), (1, 0, "cooling"));
    assert!(scene.exchange.take_changes().is_empty(), "each is told once");
    // The last target's rest is in the answer of the request that exhausts it.
    let step = scene.fail(&status(Outcome::ServerError, 500));
    let Step::Pause { until } = step else { panic!("{step:?}") };
    scene.resume(until);
    let step = scene.fail(&status(Outcome::ServerError, 500));
    let Step::End(Ending::Refuse(refusal)) = step else { panic!("{step:?}") };
    assert!(refusal.retry_after.is_some_and(|seconds| (59..=60).contains(&seconds)), "{refusal:?}");
}

#[test]
fn a_quarter_of_jitter_stays_within_a_quarter() {
    let policy = Backoff {
        base: Duration::from_millis(500),
        multiplier: 2.0,
        max: Duration::from_secs(10),
        jitter: Jitter::Quarter,
    };
    for (dice, want) in [(0, 750), (1 << 63, 1_000), (u64::MAX, 1_250)] {
        assert_eq!(backoff(&policy, 1, dice).as_millis(), want);
    }
}
