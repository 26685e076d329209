//! Seeded simulation of `exchange` and `health` under a virtual clock, with providers that fail in
//! every way of the table. After each step the invariants are checked; a failure prints its seed,
//! and `POINTSMAN_SEED=n` plays that one again.

use super::*;
use crate::config::plan::{BreakerPolicy, CooldownPolicy};
use crate::health::{Operation, Report, Unit, Units};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

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
    CutsMidStream,
    Stale,
}

fn mood(dice: &mut Dice) -> Mood {
    match dice.below(14) {
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
        12 => Mood::CutsMidStream,
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
        },
        cooldown: CooldownPolicy {
            default: Duration::from_secs(5),
            max: Duration::from_secs(300),
            quota: Duration::from_secs(900),
            quota_max: Duration::from_secs(21_600),
            auth: Duration::from_secs(300),
            auth_max: Duration::from_secs(4_800),
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
    }
}

struct Running {
    exchange: Exchange,
    attempt: Option<(usize, Permit, Tick, Mood)>,
    may_replay: bool,
    attempts_on: HashMap<usize, u32>,
    began: Tick,
}

struct World {
    seed: u64,
    dice: Dice,
    now: Tick,
    retry: RetryPolicy,
    units: Vec<Arc<Units>>,
    groups: Vec<(u32, u32, Arc<str>)>,
    moods: Vec<Mood>,
    budget: RetryBudget,
    running: HashMap<u64, Running>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_event: u64,
    repeats: u64,
    requests: u64,
    ended: u64,
    succeeded: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Change(usize),
    Finish(u64),
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
        let retry = retry(&mut dice);
        World {
            seed,
            dice,
            now: Tick(1),
            retry,
            units,
            groups,
            moods,
            budget: RetryBudget::default(),
            running: HashMap::new(),
            events: BinaryHeap::new(),
            next_event: 0,
            repeats: 0,
            requests: 0,
            ended: 0,
            succeeded: 0,
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
            Event::Finish(id) => self.finish(id),
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

    fn arrive(&mut self) {
        let id = self.requests;
        self.requests += 1;
        self.budget.deposit(&self.retry);
        let may_replay = self.dice.below(5) != 0;
        let rules = Rules {
            retry: self.retry,
            health: policy(),
            may_replay,
            may_rescue: true,
            deadline: self.now.after(Duration::from_secs(60)),
        };
        let candidates = (0u32..)
            .zip(self.units.iter().zip(&self.groups))
            .map(|(slot, (health, (group, provider, model)))| Candidate {
                slot,
                group: *group,
                provider: *provider,
                model: Arc::clone(model),
                context: None,
                continues: false,
                health: Arc::clone(health),
            })
            .collect();
        let mut exchange = Exchange::new(rules, candidates);
        let step = exchange.start(self.now);
        let running =
            Running { exchange, attempt: None, may_replay, attempts_on: HashMap::new(), began: self.now };
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
                if order.cause == Cause::Repeat {
                    self.repeats += 1;
                }
                *running.attempts_on.entry(order.candidate).or_default() += 1;
                let mood = self.moods[order.candidate];
                let number = u32::try_from(running.exchange.records().len()).unwrap();
                running.attempt = Some((order.candidate, order.permit, self.now, mood));
                self.running.insert(id, running);
                if mood == Mood::Silent {
                    self.later(Duration::from_secs(12), Event::Timer(id, number));
                } else {
                    let takes = Duration::from_millis(1 + self.dice.below(3_000));
                    self.later(takes, Event::Finish(id));
                }
            }
            Step::Pause { until } => {
                assert!(until < running.exchange.deadline(), "seed {}: waits past the deadline", self.seed);
                self.running.insert(id, running);
                let wait = until.left(self.now);
                self.later(wait, Event::Wake(id));
            }
            Step::End(ending) => {
                self.ended += 1;
                self.succeeded += u64::from(ending == Ending::Answered);
                self.check_ending(&running, ending);
            }
        }
    }

    fn finish(&mut self, id: u64) {
        let Some(mut running) = self.running.remove(&id) else { return };
        let Some((at, mut permit, began, mood)) = running.attempt.take() else { return };
        let units = Arc::clone(&self.units[at]);
        let failure = match mood {
            Mood::Healthy => None,
            Mood::Fails(outcome, status) => Some(Failure { status, ..Failure::plain(outcome) }),
            Mood::Limits(hint) => {
                Some(Failure { status: Some(429), hint, ..Failure::plain(Outcome::RateLimited) })
            }
            Mood::Silent => Some(Failure::plain(Outcome::TimeoutFirstContent)),
            Mood::CutsMidStream => {
                running.exchange.answered(200);
                running.exchange.commit(self.now);
                units.content_began(&mut permit, self.now, &policy());
                Some(Failure { status: Some(200), ..Failure::plain(Outcome::Truncated) })
            }
            Mood::Stale => Some(Failure { is_stale: true, ..Failure::plain(Outcome::Reset) }),
        };
        let outcome = failure.map_or(Outcome::Ok, |f| f.outcome);
        let hint = failure.map_or(RetryHint::None, |f| f.hint);
        let dice = self.dice.roll();
        let rest_before = units.target.read(self.now, &policy()).cooling_until;
        let is_stale = failure.is_some_and(|f| f.is_stale);
        if is_stale {
            drop(permit);
        } else {
            let report = Report { outcome, hint, account_wide: false, began };
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

    fn timer(&mut self, id: u64, attempt: u32) {
        let Some(running) = self.running.get(&id) else { return };
        let is_current = running.exchange.records().len() == attempt as usize && running.attempt.is_some();
        if !is_current {
            return;
        }
        let deadline = running.exchange.deadline();
        if self.now < deadline && !running.exchange.has_alternative(self.now) {
            // No alternative: silence is borne until there is one or the deadline comes.
            let step = Duration::from_secs(3).min(deadline.left(self.now));
            self.later(step, Event::Timer(id, attempt));
            return;
        }
        self.finish(id);
    }

    fn check_attempt(&self, running: &Running, order: &Try) {
        let seed = self.seed;
        assert!(!running.exchange.is_committed, "seed {seed}: an attempt after commit");
        assert!(self.now < running.exchange.deadline(), "seed {seed}: an attempt past the deadline");
        let seen = running.attempts_on.get(&order.candidate).copied().unwrap_or(0);
        let most = 1 + self.retry.same_target.max(1) + 1;
        assert!(seen < most, "seed {seed}: target {} tried {} times", order.candidate, seen + 1);
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

    fn check_ending(&self, running: &Running, ending: Ending) {
        let seed = self.seed;
        let records = running.exchange.records();
        let healthy_answer = records.last().is_some_and(|r| r.outcome == Outcome::Ok);
        assert_eq!(ending == Ending::Answered, healthy_answer, "seed {seed}: {ending:?} after {records:?}");
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
        assert!(self.now >= running.began, "seed {seed}");
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
    let mut succeeded = 0;
    for seed in seeds() {
        let mut world = World::new(seed);
        world.run();
        succeeded += world.succeeded;
    }
    assert!(succeeded > 0, "a world in which nothing ever works tests nothing");
}

#[test]
fn one_healthy_target_among_failing_ones_answers_every_replayable_request() {
    for seed in seeds() {
        let mut world = World::new(seed);
        world.retry.failovers = 10;
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
            let breaks_after_commit = mood == Mood::CutsMidStream;
            if breaks_after_commit {
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
            let leaves = self.dice.below(20) == 0;
            if replay && !leaves {
                self.dice.0 = saved;
                self.arrive();
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
