//! Seeded simulation of `exchange` and `health` under a virtual clock, with providers that fail in
//! every way of the table, before and after content. After each step the invariants are checked; a
//! failure prints its seed, `POINTSMAN_SEED=n` plays that one again, `POINTSMAN_SEEDS=n` that many.
//!
//! Before commit: no target more often than the rules allow, no more targets than `failovers`,
//! repeats within the budget, nothing replayed that may not be. After it: no attempt that is no
//! rescue, no rescue where one must not be (route, client, tool arguments, replay), each target once
//! (and once more, from the beginning, where it refused to go on), the one that broke last and never
//! where it fell silent, nobody after a content filter. Always: nothing past the deadline, no attempt
//! without its least time, no wait beyond a turn, one ending a request, no cooldown shortened by a
//! failure, no probe that nobody makes.

// Whether what was foreseen comes true, and whether what is told of the end is so.
mod foresight;
// What clients of broken streams hear, with text kept back and without.
mod listener;

use super::*;
use crate::config::plan::{Backoff, BreakerPolicy, CooldownPolicy, Jitter};
use crate::health::{Operation, Report, Unit, Units};
use listener::{Listener, Speech, Told};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Small, seeded and good enough: xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }
}

/// How a provider behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Healthy,
    Fails(Outcome, Option<u16>),
    Limits(RetryHint),
    Silent,
    /// Breaks after content, in this way.
    BreaksOff(Outcome),
    Stale,
}

/// What a target makes of a stream that it is asked to take up.
#[derive(Clone, Copy, Debug)]
struct Rescuer {
    continues: bool,
    refuses_prefill: bool,
    /// From which word on it says something else than others do.
    own_from: usize,
}

fn mood(dice: &mut Dice) -> Mood {
    match dice.below(16) {
        0..=3 => Mood::Healthy,
        4 => Mood::Fails(Outcome::ServerError, Some(500)),
        5 => Mood::Fails(Outcome::ServerError, Some(503)),
        6 => Mood::Fails(Outcome::Overloaded, Some(529)),
        7 => Mood::Fails(Outcome::Connect, None),
        8 => Mood::Fails(Outcome::Reset, None),
        9 => Mood::Fails(Outcome::Auth, Some(401)),
        10 => Mood::Limits(match dice.below(4) {
            0 => RetryHint::None,
            1 => RetryHint::Absurd,
            2 => RetryHint::After(Duration::from_millis(dice.below(4_000))),
            _ => RetryHint::After(Duration::from_secs(dice.below(100_000))),
        }),
        11 => Mood::Silent,
        12 => Mood::BreaksOff(Outcome::Truncated),
        13 => Mood::BreaksOff(Outcome::TimeoutStall),
        14 => Mood::BreaksOff(match dice.below(3) {
            0 => Outcome::Overloaded,
            1 => Outcome::ContentFiltered,
            _ => Outcome::ServerError,
        }),
        _ => Mood::Stale,
    }
}

fn policy() -> Policy {
    Policy {
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
    }
}

fn retry(dice: &mut Dice) -> RetryPolicy {
    RetryPolicy {
        prefer: if dice.below(3) == 0 { Prefer::SameTarget } else { Prefer::EqualFirst },
        same_target: u32::try_from(dice.below(4)).unwrap(),
        wait_in_place: Duration::from_secs(5),
        backoff: Backoff {
            base: Duration::from_millis(250),
            multiplier: 2.0,
            max: Duration::from_secs(10),
            jitter: Jitter::Full,
        },
        failovers: u32::try_from(dice.below(5)).unwrap(),
        budget_ratio: 0.2,
        budget_min_per_second: 3,
        ..RetryPolicy::default()
    }
}

struct Running {
    exchange: Exchange,
    attempt: Option<(usize, Permit, Tick, Mood)>,
    may_replay: bool,
    may_rescue: bool,
    is_single: bool,
    /// Whether the stream stays where it can be gone on from.
    is_rescuable: bool,
    attempts_on: HashMap<usize, u32>,
    rescues: Vec<(usize, Cause)>,
    /// Who was asked once more because a kept connection was dead, after commit.
    resent: Vec<usize>,
    /// Who broke the stream first, and whether by silence.
    broke: Option<(usize, bool)>,
    was_filtered: bool,
    listener: Listener,
    began: Tick,
}

struct World {
    seed: u64,
    dice: Dice,
    now: Tick,
    retry: RetryPolicy,
    total: Duration,
    units: Vec<Arc<Units>>,
    groups: Vec<(u32, u32, Arc<str>)>,
    moods: Vec<Mood>,
    rescuers: Vec<Rescuer>,
    budget: RetryBudget,
    running: HashMap<u64, Running>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_event: u64,
    repeats: u64,
    requests: u64,
    ended: u64,
    succeeded: u64,
    rescued: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Change(usize),
    Finish(u64, u32),
    Timer(u64, u32),
    Wake(u64),
    Leave(u64),
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let count = usize::try_from(1 + dice.below(5)).unwrap();
        let endpoint: Arc<Unit> = Arc::default();
        let credential: Arc<Unit> = Arc::default();
        let mut units = Vec::new();
        let mut groups = Vec::new();
        for at in 0..count {
            let shares = dice.below(3) == 0;
            units.push(Arc::new(Units {
                target: Arc::default(),
                credential: if shares { Arc::clone(&credential) } else { Arc::default() },
                endpoint: if shares { Arc::clone(&endpoint) } else { Arc::default() },
                siblings: Arc::from([]),
            }));
            let group = u32::try_from(at).unwrap() / u32::try_from(1 + dice.below(2)).unwrap();
            let provider = u32::try_from(dice.below(3)).unwrap();
            groups.push((group, provider, Arc::from(format!("m{}", dice.below(3)))));
        }
        groups.sort_by_key(|(group, ..)| *group);
        let moods = (0..count).map(|_| mood(&mut dice)).collect();
        let rescuers = (0..count)
            .map(|_| Rescuer {
                continues: dice.below(2) == 0,
                refuses_prefill: dice.below(3) == 0,
                own_from: usize::try_from(dice.below(12)).unwrap(),
            })
            .collect();
        let retry = retry(&mut dice);
        let total = Duration::from_millis(1_000 + dice.below(100_000));
        World {
            seed,
            dice,
            now: Tick(1),
            retry,
            total,
            units,
            groups,
            moods,
            rescuers,
            budget: RetryBudget::default(),
            running: HashMap::new(),
            events: BinaryHeap::new(),
            next_event: 0,
            repeats: 0,
            requests: 0,
            ended: 0,
            succeeded: 0,
            rescued: 0,
        }
    }

    fn later(&mut self, wait: Duration, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((self.now.after(wait).0, self.next_event, event)));
    }

    fn run(&mut self) {
        for at in 0..60 {
            self.later(Duration::from_millis(at * 700), Event::Arrive);
        }
        for at in 0..self.moods.len() {
            for turn in 1..4 {
                self.later(Duration::from_secs(turn * 11), Event::Change(at));
            }
        }
        let mut steps = 0;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now = Tick(time);
            self.take(event);
            self.check();
            steps += 1;
            assert!(steps < 100_000, "seed {}: the world does not come to rest", self.seed);
        }
        assert_eq!(self.ended, self.requests, "seed {}: every request ends once", self.seed);
        assert!(self.running.is_empty(), "seed {}", self.seed);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Change(at) => self.moods[at] = mood(&mut self.dice),
            Event::Finish(id, attempt) => self.arrived(id, attempt),
            Event::Timer(id, attempt) => self.timer(id, attempt),
            Event::Wake(id) => {
                if let Some(mut running) = self.running.remove(&id) {
                    let step = running.exchange.resume(self.now);
                    self.perform(id, running, step);
                }
            }
            Event::Leave(id) => {
                if let Some(mut running) = self.running.remove(&id) {
                    running.exchange.client_gone(self.now);
                    self.ended += 1;
                }
            }
        }
    }

    /// Lets a request come; one of eleven wants no retry.
    fn arrive(&mut self) {
        self.arrive_as(self.requests % 11 == 7);
    }

    fn arrive_as(&mut self, is_single: bool) {
        let id = self.requests;
        self.requests += 1;
        self.budget.deposit(&self.retry);
        let may_replay = self.dice.below(5) != 0;
        let may_rescue = self.dice.below(6) != 0;
        let is_rescuable = self.dice.below(4) != 0;
        let rules = Rules {
            is_single,
            retry: self.retry,
            health: Arc::new(policy()),
            may_replay,
            may_rescue: may_rescue && !is_single,
            deadline: self.now.after(self.total),
        };
        let candidates = (0u32..)
            .zip(self.units.iter().zip(&self.groups).zip(&self.rescuers))
            .map(|(slot, ((health, (group, provider, model)), rescuer))| Candidate {
                slot,
                group: *group,
                provider: *provider,
                model: Arc::clone(model),
                context: None,
                continues: rescuer.continues,
                health: Arc::clone(health),
            })
            .collect();
        let foreseen = foresight::look(&rules, &candidates, self.now);
        let mut exchange = Exchange::new(rules, candidates);
        let step = exchange.start(self.now);
        foresight::check(foreseen, &step, self.seed);
        let running = Running {
            exchange,
            attempt: None,
            may_replay,
            is_single,
            may_rescue,
            is_rescuable,
            attempts_on: HashMap::new(),
            rescues: Vec::new(),
            resent: Vec::new(),
            broke: None,
            was_filtered: false,
            listener: Listener::new(self.seed.wrapping_add(id)),
            began: self.now,
        };
        if self.dice.below(20) == 0 {
            let stays = Duration::from_millis(self.dice.below(20_000));
            self.later(stays, Event::Leave(id));
        }
        self.perform(id, running, step);
    }

    fn perform(&mut self, id: u64, mut running: Running, step: Step) {
        match step {
            Step::Try(order) => {
                self.check_attempt(&running, &order);
                // Both are paid for out of the budget.
                if matches!(order.cause, Cause::Repeat | Cause::Restart) && !order.wants_fresh {
                    self.repeats += 1;
                }
                if order.cause.is_rescue() && order.wants_fresh {
                    running.resent.push(order.candidate);
                } else if order.cause.is_rescue() {
                    running.rescues.push((order.candidate, order.cause));
                }
                *running.attempts_on.entry(order.candidate).or_default() += 1;
                let mood = self.moods[order.candidate];
                let number = u32::try_from(running.exchange.records().len()).unwrap();
                running.attempt = Some((order.candidate, order.permit, self.now, mood));
                let limit =
                    running.exchange.curb(order.candidate, self.now.after(Duration::from_secs(12)), self.now);
                let deadline = running.exchange.deadline();
                self.running.insert(id, running);
                let deadline = deadline.left(self.now);
                let takes = Duration::from_millis(1 + self.dice.below(3_000));
                if mood != Mood::Silent && takes < deadline {
                    self.later(takes, Event::Finish(id, number));
                }
                self.later(limit.left(self.now).min(deadline), Event::Timer(id, number));
            }
            Step::Pause { until } => {
                let at = running.exchange.records().last().map(|record| record.candidate);
                let turn_end = running.exchange.turn_end(at.expect("waits after an attempt"), self.now);
                assert!(until < turn_end, "seed {}: waits past the turn", self.seed);
                self.running.insert(id, running);
                let wait = until.left(self.now);
                self.later(wait, Event::Wake(id));
            }
            Step::End(ending) => {
                self.ended += 1;
                self.succeeded += u64::from(ending == Ending::Answered);
                self.rescued += u64::from(ending == Ending::Answered && !running.rescues.is_empty());
                foresight::check_course(&running.exchange, ending, self.seed);
                self.check_ending(&running, ending);
            }
        }
    }

    /// The answer is there, unless the attempt was cut off before.
    fn arrived(&mut self, id: u64, attempt: u32) {
        if self.runs(id, attempt) {
            self.finish(id);
        }
    }

    fn runs(&self, id: u64, attempt: u32) -> bool {
        self.running.get(&id).is_some_and(|running| {
            running.exchange.records().len() == attempt as usize && running.attempt.is_some()
        })
    }

    fn finish(&mut self, id: u64) {
        let Some(mut running) = self.running.remove(&id) else { return };
        let Some((at, mut permit, began, mood)) = running.attempt.take() else { return };
        let units = Arc::clone(&self.units[at]);
        let mood = self.as_rescuer(&running, at, mood).and_then(|mood| {
            let is_heard = running.exchange.is_committed() || matches!(mood, Mood::BreaksOff(_));
            let is_told = matches!(mood, Mood::Healthy | Mood::BreaksOff(_));
            if is_heard && is_told && self.listen(&mut running, at, began, mood) == Told::Diverged {
                return Err(Failure::plain(Outcome::Ok));
            }
            Ok(mood)
        });
        let failure = match mood {
            Err(refusal) => Some(refusal),
            Ok(Mood::Healthy) => None,
            Ok(Mood::Fails(outcome, status)) => Some(Failure { status, ..Failure::plain(outcome) }),
            Ok(Mood::Limits(hint)) => {
                Some(Failure { status: Some(429), hint, ..Failure::plain(Outcome::RateLimited) })
            }
            Ok(Mood::Silent) => Some(Failure::plain(Outcome::TimeoutFirstContent)),
            Ok(Mood::BreaksOff(outcome)) => {
                running.exchange.answered(200);
                running.exchange.commit(self.now);
                running.exchange.rescuable(running.is_rescuable);
                running.exchange.pays_from(&self.budget);
                units.content_began(&mut permit, self.now, &policy());
                running.broke.get_or_insert((at, outcome == Outcome::TimeoutStall));
                running.was_filtered |= outcome == Outcome::ContentFiltered;
                Some(Failure { status: Some(200), ..Failure::plain(outcome) })
            }
            Ok(Mood::Stale) => Some(Failure { is_stale: true, ..Failure::plain(Outcome::Reset) }),
        };
        let outcome = failure.map_or(Outcome::Ok, |f| f.outcome);
        let hint = failure.map_or(RetryHint::None, |f| f.hint);
        let dice = self.dice.roll();
        let rest_before = units.target.read(self.now, &policy()).cooling_until;
        let is_stale = failure.is_some_and(|f| f.is_stale);
        if is_stale {
            drop(permit);
        } else {
            let report = Report { outcome, hint, account_wide: false, is_permanent: false, began };
            units.report(permit, &report, self.now, &policy(), dice);
        }
        let rest_after = units.target.read(self.now, &policy()).cooling_until;
        if outcome != Outcome::Ok {
            assert!(rest_after >= rest_before, "seed {}: a failure shortened a cooldown", self.seed);
        }
        let step = match failure {
            None => running.exchange.delivered(self.now),
            Some(failure) => {
                let dice = self.dice.roll();
                running.exchange.failed(&failure, self.now, &self.budget, dice)
            }
        };
        self.perform(id, running, step);
    }

    /// What a target in this mood makes of the attempt: who takes up a stream may refuse to go on
    /// from a text, or turn out to say something else.
    fn as_rescuer(&self, running: &Running, at: usize, mood: Mood) -> Result<Mood, Failure> {
        let cause = running.exchange.records().last().map(|record| record.cause);
        let rescuer = self.rescuers[at];
        match (mood, cause) {
            (Mood::Healthy, Some(Cause::Continue)) if rescuer.refuses_prefill => {
                Err(Failure { status: Some(400), ..Failure::plain(Outcome::ClientError) })
            }
            _ => Ok(mood),
        }
    }

    /// Lets the client hear what a target says.
    fn listen(&mut self, running: &mut Running, at: usize, began: Tick, mood: Mood) -> Told {
        let breaks_after = 1 + usize::try_from(self.dice.below(7)).unwrap();
        running.listener.hear(&Speech {
            target: at,
            own_from: self.rescuers[at].own_from,
            cause: running.exchange.records().last().map_or(Cause::First, |record| record.cause),
            began,
            ended: self.now,
            breaks_after: matches!(mood, Mood::BreaksOff(_)).then_some(breaks_after),
        })
    }

    fn timer(&mut self, id: u64, attempt: u32) {
        if !self.runs(id, attempt) {
            return;
        }
        let Some(running) = self.running.get_mut(&id) else { return };
        let deadline = running.exchange.deadline();
        let is_over = self.now >= deadline;
        if !is_over && !running.exchange.has_alternative(self.now) {
            // No alternative: silence is borne until there is one or the deadline comes.
            let step = Duration::from_secs(3).min(deadline.left(self.now));
            self.later(step, Event::Timer(id, attempt));
            return;
        }
        if let Some((.., mood)) = &mut running.attempt {
            *mood = if is_over { Mood::Fails(Outcome::TimeoutTotal, None) } else { Mood::Silent };
        }
        self.finish(id);
    }

    fn check_attempt(&self, running: &Running, order: &Try) {
        let seed = self.seed;
        assert_eq!(
            running.exchange.is_committed,
            order.cause.is_rescue(),
            "seed {seed}: {:?} after commit, or before",
            order.cause
        );
        if order.cause.is_rescue() {
            self.check_rescue(running, order);
        }
        let least = (self.total / 10).min(Duration::from_secs(1));
        let left = running.exchange.deadline().left(self.now);
        assert!(left >= least, "seed {seed}: an attempt with {left:?} left");
        let is_more = order.cause != Cause::First && order.cause != Cause::Resend;
        assert!(!(running.is_single && is_more), "seed {seed}: {:?} of a single attempt", order.cause);
        let before = running.attempts_on.get(&order.candidate).copied().unwrap_or(0);
        // One rescue at the target that broke, and a new beginning where it refused to go on. A resend
        // is counted for everybody.
        let as_rescuer = if order.cause.is_rescue() { 2 } else { 0 };
        let most = 1 + self.retry.same_target.max(1) + 1 + as_rescuer;
        assert!(before < most, "seed {seed}: target {} tried {} times", order.candidate, before + 1);
        let mut distinct = running.attempts_on.len();
        distinct += usize::from(!running.attempts_on.contains_key(&order.candidate));
        assert!(distinct <= 1 + self.retry.failovers as usize, "seed {seed}: too many targets");
        if order.cause == Cause::Failover && !running.may_replay {
            let last = &running.exchange.records()[running.exchange.records().len() - 2];
            let class = rules::rule(last.outcome, last.status, false).class;
            let was_stale = last.outcome == Outcome::Reset;
            assert!(class == Class::Unprocessed || was_stale, "seed {seed}: replayed what may not be");
        }
    }

    fn check_rescue(&self, running: &Running, order: &Try) {
        let seed = self.seed;
        let at = order.candidate;
        let is_allowed = running.may_rescue && running.is_rescuable && running.may_replay;
        assert!(is_allowed, "seed {seed}: rescued what must not be");
        assert!(!running.was_filtered, "seed {seed}: rescued from a content filter");
        if order.wants_fresh {
            let last = running.rescues.last();
            assert_eq!(last, Some(&(at, order.cause)), "seed {seed}: a resend of something else");
            assert!(!running.resent.contains(&at), "seed {seed}: target {at} is asked afresh again");
            return;
        }
        let (broke_at, was_silent) = running.broke.expect("a rescue follows a break");
        let before: Vec<Cause> =
            running.rescues.iter().filter(|(other, _)| *other == at).map(|(_, cause)| *cause).collect();
        let is_new_beginning = before == [Cause::Continue]
            && order.cause == Cause::Restart
            && running.rescues.last() == Some(&(at, Cause::Continue));
        assert!(before.is_empty() || is_new_beginning, "seed {seed}: target {at} rescues again: {before:?}");
        assert!(at != broke_at || !was_silent, "seed {seed}: a silent target is asked again");
        let was_tried = running.attempts_on.contains_key(&at);
        assert!(
            at == broke_at || !was_tried || is_new_beginning,
            "seed {seed}: target {at} was tried before"
        );
        if at == broke_at && !is_new_beginning && running.exchange.failovers < self.retry.failovers {
            let untried = (0..self.units.len()).filter(|other| !running.attempts_on.contains_key(other));
            for other in untried {
                let excluded = running.exchange.tallies[other].is_excluded;
                let rests = self.units[other].look(self.now, &policy()).is_err();
                // A new beginning there could not be paid for, and the one that broke goes on.
                let was_too_dear = running.exchange.budget_ran_dry() && order.cause == Cause::Continue;
                assert!(
                    excluded || rests || was_too_dear,
                    "seed {seed}: {other} was passed over for the one that broke"
                );
            }
        }
        assert_eq!(
            order.cause == Cause::Continue,
            self.rescuers[at].continues && !is_new_beginning,
            "seed {seed}: {:?} at a target that is {:?}",
            order.cause,
            self.rescuers[at]
        );
    }

    fn check_ending(&self, running: &Running, ending: Ending) {
        let seed = self.seed;
        let records = running.exchange.records();
        let is_open = records.last().is_some_and(|r| r.outcome == Outcome::Ok);
        let has_diverged = matches!(ending, Ending::BreakOff(Outcome::Ok));
        assert_eq!(
            ending == Ending::Answered,
            is_open && !has_diverged,
            "seed {seed}: {ending:?}, {records:?}"
        );
        let is_late = matches!(ending, Ending::BreakOff(_));
        let is_early = matches!(ending, Ending::Relay | Ending::Refuse(_));
        assert!(!(running.exchange.is_committed && is_early), "seed {seed}: {ending:?} after commit");
        assert!(running.exchange.is_committed || !is_late, "seed {seed}: {ending:?} before commit");
        if let Ending::Refuse(refusal) = ending {
            assert!((400..600).contains(&refusal.status), "seed {seed}");
            assert!(refusal.retry_after.is_none_or(|s| s >= 1), "seed {seed}");
            let may_have_gone_on = running.exchange.has_alternative(self.now);
            let had_budget = running.exchange.failovers < self.retry.failovers;
            let no_try = records.is_empty();
            assert!(
                !(may_have_gone_on && had_budget && self.now < running.exchange.deadline() && no_try),
                "seed {seed}: refused although a target was free"
            );
        }
        let deadline = running.exchange.deadline();
        assert!((running.began..=deadline).contains(&self.now), "seed {seed}: ends past the deadline");
    }

    fn check(&self) {
        for units in &self.units {
            let in_flight = self
                .running
                .values()
                .filter_map(|r| r.attempt.as_ref())
                .filter(|(at, ..)| Arc::ptr_eq(&self.units[*at], units))
                .count();
            let reading = units.target.read(self.now, &policy());
            if reading.resting == Some(Resting::Probing) {
                // Who waits out a Retry-After may hold the first try after it.
                let waits = |r: &&Running| {
                    let last = r.exchange.records().last().map(|record| record.candidate);
                    r.attempt.is_none() && last.is_some_and(|at| Arc::ptr_eq(&self.units[at], units))
                };
                let in_flight = in_flight + self.running.values().filter(waits).count();
                assert!(in_flight >= 1, "seed {}: a probe that nobody makes holds a target shut", self.seed);
            }
        }
        let seconds = self.now.since(Tick(0)).as_secs_f64();
        #[allow(clippy::cast_precision_loss)]
        let allowed = 100.0 + 0.2 * self.requests as f64 + 3.0 * seconds + 1.0;
        #[allow(clippy::cast_precision_loss)]
        let repeats = self.repeats as f64;
        assert!(repeats <= allowed, "seed {}: repeats beyond the budget", self.seed);
    }
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v: String| v.parse().ok());
    if let Some(seed) = number("POINTSMAN_SEED") {
        return vec![seed];
    }
    (0..number("POINTSMAN_SEEDS").unwrap_or(256)).collect()
}

#[test]
fn invariants_hold_whatever_the_providers_do() {
    let (mut succeeded, mut rescued) = (0, 0);
    for seed in seeds() {
        let mut world = World::new(seed);
        world.run();
        succeeded += world.succeeded;
        rescued += world.rescued;
    }
    assert!(succeeded > 0, "a world in which nothing ever works tests nothing");
    let is_one_seed = std::env::var_os("POINTSMAN_SEED").is_some();
    assert!(rescued > 0 || is_one_seed, "a world in which nothing is ever rescued tests no rescue");
}

#[test]
fn one_healthy_target_among_failing_ones_answers_every_replayable_request() {
    for seed in seeds() {
        let mut world = World::new(seed);
        world.retry.failovers = 10;
        // Whoever comes back during a request halves what is left: 3 s, the longest that a healthy
        // answer takes here, must be in it four times over.
        world.total = Duration::from_millis(49_000 + world.dice.below(60_000));
        let good = usize::try_from(world.dice.below(world.units.len() as u64)).unwrap();
        // Its own key and host: otherwise a neighbour's rejected key would rightly rest it too.
        world.units[good] = Arc::new(Units {
            target: Arc::default(),
            credential: Arc::default(),
            endpoint: Arc::default(),
            siblings: Arc::from([]),
        });
        world.groups[good].1 = 99;
        for at in 0..40 {
            let mut mood = mood(&mut world.dice);
            if matches!(mood, Mood::BreaksOff(_)) {
                mood = Mood::Healthy;
            }
            for (target, slot) in world.moods.iter_mut().enumerate() {
                *slot = if target == good { Mood::Healthy } else { mood };
            }
            let before = (world.ended, world.succeeded);
            world.now = world.now.after(Duration::from_millis(500));
            world.dice.0 |= 1;
            let id = world.requests;
            world.arrive_replayable();
            while world.running.contains_key(&id) {
                let Some(Reverse((time, _, event))) = world.events.pop() else { break };
                world.now = Tick(time);
                world.take(event);
                world.check();
            }
            let after = (world.ended, world.succeeded);
            assert_eq!(after, (before.0 + 1, before.1 + 1), "seed {seed}, request {at}, mood {mood:?}");
        }
    }
}

impl World {
    fn arrive_replayable(&mut self) {
        loop {
            // The dice decide about replay and leaving; throw until they say neither.
            let saved = self.dice.0;
            let replay = self.dice.below(5) != 0;
            self.dice.below(6);
            self.dice.below(4);
            let leaves = self.dice.below(20) == 0;
            if replay && !leaves {
                self.dice.0 = saved;
                self.arrive_as(false);
                return;
            }
        }
    }
}

#[test]
fn an_operators_word_is_kept() {
    let mut world = World::new(7);
    for units in &world.units {
        units.target.operate(Operation::Disabled);
    }
    world.arrive();
    assert_eq!((world.ended, world.succeeded), (1, 0));
}
