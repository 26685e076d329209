//! The ring stays bounded and in order; every word of the list is said, with its place and its date;
//! pages have the shape of the contract.

use super::*;
use crate::base::outcome::Outcome;
use crate::base::time::WallTime;
use crate::catalog::Ability;
use crate::exchange::Cause;
use crate::health::Resting;
use crate::observe::decisions::reason::REASONS;
use crate::translate::Loss;
use serde_json::{Value, json};

fn at(ms: u64) -> Tick {
    Tick(ms * 1000)
}

fn record(candidate: usize, cause: Cause, outcome: Outcome) -> Record {
    Record {
        candidate,
        cause,
        began: at(1_000),
        ended: at(1_250),
        first_content: None,
        outcome,
        status: None,
        timed_out: false,
        is_called_off: false,
        is_unsaid: false,
    }
}

fn seat(target: &str, fate: Fate) -> Seat {
    Seat { target: TargetId(target.into()), priority: 1, fate, loses: Losses::default() }
}

fn lined(place: usize, passed: Option<Passed>) -> Fate {
    Fate::Lined { at: place, passed }
}

/// A decision of request `id` that went from `a/k/m` to `b/k/m` on a 429.
fn decision(id: &str) -> Decision {
    let limited = Record { status: Some(429), ..record(0, Cause::First, Outcome::RateLimited) };
    let answered = Record {
        began: at(1_300),
        ended: at(2_000),
        first_content: Some(at(1_400)),
        status: Some(200),
        ..record(1, Cause::Failover, Outcome::Ok)
    };
    Decision {
        id: Some(id.to_owned()),
        now: Now { tick: at(2_010), wall: WallTime(1_795_227_262_123) },
        began: at(990),
        generation: 7,
        route: Some("chat".into()),
        client: None,
        dialect: Some(Dialect::OpenAiChat),
        model: Some("chat".to_owned()),
        is_stream: false,
        seats: vec![
            seat("a/k/m", lined(0, None)),
            seat("b/k/m", lined(1, None)),
            seat("c/k/m", lined(2, None)),
        ],
        records: vec![limited, answered],
        chosen: Some(1),
        halt: Halt::Answered,
        ended: Some(Ended::Answered),
        code: None,
        status: Some(200),
        spent: SmallVec::new(),
        took: Duration::from_millis(1_020),
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page["decisions"].as_array().unwrap().iter().map(|d| d["request_id"].as_str().unwrap()).collect()
}

fn all() -> Filter {
    Filter { limit: LIMIT_MAX, ..Filter::default() }
}

#[test]
fn the_ring_keeps_the_newest_and_stays_bounded() {
    let ring = Decisions::holding(4);
    assert!(ring.is_empty() && ring.find("r0").is_none() && ring.oldest().is_none());
    for number in 0..10 {
        ring.keep(decision(&format!("r{number}")));
        assert!(ring.len() <= 4);
    }
    assert_eq!(ids(&ring.list(&all())), ["r9", "r8", "r7", "r6"], "newest first");
    assert!(ring.find("r5").is_none() && ring.find("r6").is_some());
    assert_eq!(Decisions::default().slots.len(), 10_000);
}

#[test]
fn many_writers_at_once_lose_nothing_but_the_oldest() {
    let ring = Decisions::holding(64);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let ring = &ring;
            scope.spawn(move || {
                for number in 0..500 {
                    ring.keep(decision(&format!("{writer}-{number}")));
                }
            });
        }
    });
    assert_eq!(ids(&ring.list(&all())).len(), 64);
    assert_eq!(ring.written.load(Ordering::Relaxed), 2_000);
}

#[test]
fn a_client_that_uses_an_id_twice_finds_the_later_request() {
    let ring = Decisions::holding(4);
    ring.keep(decision("same"));
    ring.keep(Decision { generation: 8, ..decision("same") });
    assert_eq!(ring.find("same").unwrap()["generation"], 8);
}

#[test]
fn a_page_has_the_shape_of_the_contract() {
    let page = decision("r1").page();
    assert_eq!(
        page,
        json!({
            "request_id": "r1",
            "at": "2026-11-21T02:14:22.123Z",
            "generation": 7,
            "route": "chat",
            "client": null,
            "dialect": "openai.chat",
            "model": "chat",
            "stream": false,
            "candidates": [
                {"target": "a/k/m", "priority": 1, "state": "tried", "reason": "rate_limited"},
                {"target": "b/k/m", "priority": 1, "state": "chosen", "reason": "ok"},
                {"target": "c/k/m", "priority": 1, "state": "not_reached", "reason": "not_needed"},
            ],
            "attempts": [
                {"target": "a/k/m", "cause": "first", "outcome": "rate_limited", "status": 429, "started_ms": 10, "ttfc_ms": null, "dur_ms": 250, "in_tokens": null, "out_tokens": null},
                {"target": "b/k/m", "cause": "failover", "outcome": "ok", "status": 200, "started_ms": 310, "ttfc_ms": 100, "dur_ms": 700, "in_tokens": null, "out_tokens": null},
            ],
            "ended": "answered",
            "dur_ms": 1020,
            "status": 200,
        })
    );
}

/// Every way in which a candidate can come to be passed over or not reached.
fn every_fate() -> Vec<(Fate, Halt)> {
    let mut resting = vec![Resting::Probing, Resting::Drained, Resting::Disabled];
    let (until, reason) = (at(62_010), Outcome::RateLimited);
    resting.extend([Resting::Cooling { until, reason }, Resting::Open { until, reason }]);
    let mut passed: Vec<Passed> = resting.into_iter().map(Passed::Resting).collect();
    passed.extend([Passed::Overloaded, Passed::Spent, Passed::Smaller]);
    let mut fates: Vec<(Fate, Halt)> =
        passed.into_iter().map(|why| (lined(0, Some(why)), Halt::Answered)).collect();
    let abilities = [
        Ability::Chat,
        Ability::Completions,
        Ability::Embeddings,
        Ability::Tools,
        Ability::Vision,
        Ability::Json,
    ];
    let mut shed: Vec<Shed> = abilities.into_iter().map(Shed::Lacks).collect();
    shed.extend([
        Shed::Window(8_000),
        Shed::Loses(Losses::default()),
        Shed::Untranslatable(crate::translate::Untranslatable::NotJson),
        Shed::Elsewhere,
    ]);
    fates.extend(shed.into_iter().map(|why| (Fate::Shed(why), Halt::Answered)));
    fates.push((Fate::Unspoken, Halt::Answered));
    fates.extend(
        [
            Halt::Answered,
            Halt::RequestAtFault,
            Halt::Final,
            Halt::NotReplayable,
            Halt::Single,
            Halt::Failovers,
            Halt::Deadline,
            Halt::ClientGone,
            Halt::Committed,
        ]
        .map(|halt| (lined(0, None), halt)),
    );
    fates
}

#[test]
fn every_reason_is_in_the_list_and_every_word_of_the_list_is_used() {
    let mut used = vec!["usable", "called_off"];
    for (fate, halt) in every_fate() {
        let decision = Decision {
            seats: vec![seat("a/k/m", fate)],
            records: vec![],
            chosen: None,
            halt,
            ..decision("r")
        };
        let page = decision.page();
        let candidate = &page["candidates"][0];
        let reason = candidate["reason"].as_str().unwrap();
        let (word, _) =
            REASONS.iter().find(|(word, _)| *word == reason).unwrap_or_else(|| panic!("{reason}"));
        used.push(word);
        let state = candidate["state"].as_str().unwrap();
        let is_passed = !matches!(fate, Fate::Lined { passed: None, .. });
        assert_eq!(state, if is_passed { "skipped" } else { "not_reached" }, "{reason}");
        let waits = matches!(reason, "cooling" | "breaker_open");
        assert_eq!(candidate.get("until").is_some(), waits, "{candidate}");
        assert!(!waits || candidate["until"] == "2026-11-21T02:15:22.123Z", "{candidate}");
        assert!(!waits || candidate["cause"] == "rate_limited", "{candidate}");
    }
    for (word, meaning) in REASONS {
        assert!(used.contains(&word), "{word} is never said");
        assert!(!meaning.is_empty());
    }
}

#[test]
fn what_was_lost_in_translation_is_listed() {
    let mut loses = Losses::default();
    loses.add(Loss::Seed);
    loses.add(Loss::CacheMark);
    let seats = vec![Seat { loses, ..seat("a/k/m", lined(0, None)) }];
    let page = Decision { seats, ..decision("r") }.page();
    assert_eq!(page["candidates"][0]["loses"], json!(["seed", "cache_mark"]));
}

#[test]
fn an_attempt_that_was_called_off_has_no_outcome() {
    let off = Record { is_called_off: true, ..record(0, Cause::First, Outcome::Ok) };
    let page = Decision { records: vec![off], chosen: None, ..decision("r") }.page();
    assert_eq!(page["attempts"][0]["outcome"], "called_off");
    assert_eq!(page["candidates"][0]["reason"], "called_off");
    assert_eq!(page["candidates"][0]["state"], "tried");
}

#[test]
fn decisions_are_found_by_time_target_and_outcome() {
    let ring = Decisions::holding(100);
    let later = |ms: i64| Now { wall: WallTime(1_795_227_262_123 + ms), ..decision("x").now };
    ring.keep(decision("moved"));
    let skipped = lined(0, Some(Passed::Resting(Resting::Drained)));
    let straight = vec![seat("a/k/m", skipped), seat("b/k/m", lined(1, None))];
    let ok = record(1, Cause::First, Outcome::Ok);
    ring.keep(Decision { now: later(5_000), seats: straight, records: vec![ok], ..decision("straight") });
    ring.keep(Decision {
        now: later(9_000),
        seats: vec![],
        records: vec![],
        ended: Some(Ended::Refused),
        ..decision("none")
    });
    let listed =
        |filter: Filter| -> Vec<String> { ids(&ring.list(&filter)).into_iter().map(str::to_owned).collect() };
    let by = |target: Option<&str>, outcome: Option<&str>| {
        listed(Filter {
            target: target.map(str::to_owned),
            outcome: outcome.map(|word| Filter::outcome(word).unwrap()),
            ..all()
        })
    };
    assert_eq!(by(None, None), ["none", "straight", "moved"]);
    assert_eq!(by(Some("a/k/m"), None), ["straight", "moved"], "skipped and tried");
    assert_eq!(by(Some("c/k/m"), None), Vec::<String>::new(), "not reached is not touched");
    assert_eq!(by(None, Some("rate_limited")), ["moved"]);
    assert_eq!(by(Some("b/k/m"), Some("rate_limited")), Vec::<String>::new(), "that was another target's");
    assert_eq!(by(None, Some("refused")), ["none"]);
    assert_eq!(listed(Filter { since: Some(later(5_000).wall), ..all() }), ["none", "straight"]);
    let page = ring.list(&Filter { limit: 1, ..Filter::default() });
    assert_eq!((ids(&page), &page["left_off"], &page["kept"]), (vec!["none"], &json!(true), &json!(3)));
    assert!(Filter::outcome("brokn").unwrap_err().to_string().contains("broken_off"));
}
