//! `explain` is the first step of the same machine without its effect, and `why` tells its course:
//! for every request of the simulation, whatever state health is in, the one foresees what then
//! happens, moves nothing, and the other leaves no candidate without a true word.

use super::*;
use crate::exchange::course::{Halt, Passed};

/// Foresees the first step, and holds that looking moved nothing.
pub(super) fn look(rules: &Rules, candidates: &Candidates, now: Tick) -> Option<usize> {
    let stands = || -> Vec<_> {
        let units =
            candidates.iter().flat_map(|c| [&c.health.target, &c.health.credential, &c.health.endpoint]);
        units.map(|unit| unit.read(now, &rules.health)).collect()
    };
    let before = stands();
    let mut dry = Exchange::new(rules.clone(), candidates.clone());
    let first = dry.preview(now).ok();
    assert_eq!(dry.preview(now).ok(), first, "a second look sees the same");
    assert_eq!(stands(), before, "a look moves nothing");
    first
}

/// Holds that it came true.
pub(super) fn check(foreseen: Option<usize>, step: &Step, seed: u64) {
    let first = match step {
        Step::Try(order) => Some(order.candidate),
        Step::Pause { .. } | Step::End(_) => None,
    };
    assert_eq!(foreseen, first, "seed {seed}: something else was foreseen");
}

/// Holds that what is told of a request that has ended is so.
pub(super) fn check_course(exchange: &Exchange, ending: Ending, seed: u64) {
    let course = exchange.course(ending);
    let was_tried = |at: usize| exchange.records().iter().any(|record| record.candidate == at);
    for (at, passed) in course.passed.iter().enumerate() {
        assert!(!(was_tried(at) && passed.is_some()), "seed {seed}: {at} was tried and passed over");
        let is_told = was_tried(at) || passed.is_some() || course.halt != Halt::Final;
        assert!(is_told, "seed {seed}: nobody was left, and of {at} nothing is told");
        if let Some(Passed::Resting(resting)) = passed {
            assert!(resting.until().is_none_or(|until| until > Tick::default()), "seed {seed}");
        }
    }
    assert_eq!(course.halt == Halt::Answered, ending == Ending::Answered, "seed {seed}: {ending:?}");
    assert!(course.chosen.is_none_or(was_tried), "seed {seed}: who was chosen was asked");
    assert_eq!(course.passed.len(), exchange.candidates().len(), "seed {seed}");
}
