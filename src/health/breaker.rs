//! When do we leave a target alone because it fails?
//!
//! Two signals open it: failures in a row (`consecutive_failures`, 5) catch a target that is down
//! at any traffic, and the share of failures in a sliding window (`failure_ratio` 0.5 of at least
//! `min_requests` 20 in `window` 10 s) catches one that fails half the time under load, where
//! failures seldom come in a row. With `last_requests` the share is that of the last so many
//! requests instead, however long ago they were. A cold start is protected by `min_requests`.
//!
//! `closed` lets traffic flow, `open` lets none, `half_open` lets `half_open_probes` (1) through at
//! once: a real request that can still fail over, so that a probe costs a client nothing.
//! `close_after` (2) successes close it, one failure opens it again for twice as long, from `open`
//! (5 s) to `open_max` (10 s), each time spread by ±20 %, so that many edges do not come back in
//! step. The cap is low on purpose: with 4 s between requests any step over 18 s can miss a whole
//! recovery window (simulated for the flapping scenario S15).
//!
//! *A probe has an age.* One that was taken up and never answered, by a request with nowhere else to
//! go, would keep the target shut for everybody until that request's deadline (600 s). So after
//! `open`, and no sooner than [`PROBE`], it no longer fills its place and another may be made. What
//! it says in the end still counts, unless the breaker has opened again since.
//!
//! *Requests that were under way when it opened are one event.* What they come to while it is open
//! is noted and climbs no ladder: ten handshakes that fail together are one fault. What they come to
//! later, while it is half open, is older than the opening and says nothing.
//!
//! `breaker.permanent` is a second ladder: a fault that no waiting mends opens the breaker at its
//! first occurrence, for 5, 10, 20, 40, then 80 minutes, until a success closes it.
//!
//! What counts is decided by `health::effect`, not here: 4xx of the client's making and clients
//! that leave never do. Sources: Finagle's failure accrual, HAProxy's `rise 2`, requirements E10.

use super::Resting;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::BreakerPolicy;
use std::time::Duration;

/// Slots of the sliding window: a tenth of it each, so that old failures leave smoothly.
const SLOTS: usize = 10;
/// Least age at which a probe no longer fills its place: the default of `open`. A shorter `open` is a
/// wish for quick probes, and no measure of how long a first word takes.
const PROBE: Duration = Duration::from_secs(5);

/// How an attempt counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The target works.
    Success,
    /// It does not.
    Failure,
    /// It cannot work before someone mends it (TLS): opens at once.
    Trip,
    /// The same, and the operator called it permanent: stays open by `breaker.permanent`.
    Permanent,
    /// Says nothing about it.
    Neutral,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Traffic flows.
    Closed,
    /// None does.
    Open,
    /// A probe may.
    HalfOpen,
}

impl BreakerState {
    /// Returns the word for headers, logs and pages.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }

    /// Returns the value of the gauge `breaker_state`.
    #[must_use]
    pub fn as_gauge(self) -> f64 {
        match self {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 0.5,
            BreakerState::Open => 1.0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    good: u32,
    bad: u32,
}

/// One breaker; starts closed.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Set while open or half open: when the open time ends.
    open_until: Option<Tick>,
    /// How often it opened without closing in between.
    openings: u32,
    /// The probes under way, by when they were claimed; those that are too old may still be among them.
    probes: Vec<Tick>,
    /// What tells a claim from all others, also from those before a reset.
    last_claim: Tick,
    successes: u32,
    consecutive: u32,
    slots: [Slot; SLOTS],
    /// The last requests, newest in the lowest bit, failures set; `recent_count` of them are known.
    recent: u64,
    recent_count: u32,
    /// How often it opened for permanent faults without closing in between.
    permanents: u32,
    reason: Option<Outcome>,
}

impl Breaker {
    /// Returns the state; a breaker that is switched off is closed, whatever it was before.
    #[must_use]
    pub fn state(&self, now: Tick, policy: &BreakerPolicy) -> BreakerState {
        match self.open_until.filter(|_| policy.enabled) {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Tells whether a request may pass, without claiming a probe.
    ///
    /// # Errors
    /// Returns why not.
    pub fn look(&self, now: Tick, policy: &BreakerPolicy) -> Result<(), Resting> {
        match self.open_until.filter(|_| policy.enabled) {
            Some(until) if now < until => {
                Err(Resting::Open { until, reason: self.reason.unwrap_or(Outcome::ServerError) })
            }
            Some(_) if self.probing(now, policy) >= policy.half_open_probes as usize => Err(Resting::Probing),
            Some(_) | None => Ok(()),
        }
    }

    /// Claims a probe where one is due; returns the claim when the caller now holds one. It is the
    /// time at which it was made, or up to some microseconds later: no two are alike.
    ///
    /// # Errors
    /// Returns why nothing may pass.
    pub fn claim(&mut self, now: Tick, policy: &BreakerPolicy) -> Result<Option<Tick>, Resting> {
        self.look(now, policy)?;
        if !policy.enabled || self.open_until.is_none() {
            return Ok(None);
        }
        let claim = now.max(Tick(self.last_claim.0.saturating_add(1)));
        self.last_claim = claim;
        self.probes.retain(|since| is_fresh(*since, now, policy));
        self.probes.push(claim);
        Ok(Some(claim))
    }

    /// Gives a claimed probe back. One that was too old, or from before a reset, frees nobody else's
    /// place.
    pub fn release(&mut self, claim: Tick) {
        self.probes.retain(|since| *since != claim);
    }

    /// Tells whether what began at `began` can know more than the last opening did.
    #[must_use]
    pub fn is_news(&self, began: Tick) -> bool {
        self.open_until.is_none_or(|until| began >= until)
    }

    /// Closes it and forgets everything. Claims that are still held stay apart from later ones.
    pub fn reset(&mut self) {
        *self = Breaker { last_claim: self.last_claim, ..Breaker::default() };
    }

    /// Counts one attempt. A success while open (a stream that began before the breaker opened)
    /// does not close it: older knowledge does not undo newer. One that is switched off counts nothing.
    pub fn mark(&mut self, mark: Mark, reason: Outcome, now: Tick, policy: &BreakerPolicy, dice: u64) {
        if !policy.enabled {
            return;
        }
        match (mark, self.state(now, policy)) {
            (Mark::Neutral, _) | (Mark::Success, BreakerState::Open) => {}
            (Mark::Trip, BreakerState::Closed | BreakerState::HalfOpen)
            | (Mark::Failure, BreakerState::HalfOpen) => self.trip(reason, now, policy, dice),
            // Requests that were under way when it opened are one event.
            (Mark::Permanent, BreakerState::Open) if self.permanents > 0 => self.reason = Some(reason),
            (Mark::Permanent, _) => self.trip_for_long(reason, now, policy, dice),
            (Mark::Success, BreakerState::Closed) => {
                self.consecutive = 0;
                self.count(false, now, policy);
            }
            (Mark::Success, BreakerState::HalfOpen) => {
                self.successes += 1;
                if self.successes >= policy.close_after {
                    self.reset();
                }
            }
            (Mark::Failure, BreakerState::Closed) => {
                self.consecutive += 1;
                self.count(true, now, policy);
                if self.consecutive >= policy.consecutive_failures || self.fails_too_often(now, policy) {
                    self.trip(reason, now, policy, dice);
                }
            }
            (Mark::Failure | Mark::Trip, BreakerState::Open) => self.reason = Some(reason),
        }
    }

    /// Returns how many probes fill a place now.
    fn probing(&self, now: Tick, policy: &BreakerPolicy) -> usize {
        self.probes.iter().filter(|since| is_fresh(**since, now, policy)).count()
    }

    fn trip(&mut self, reason: Outcome, now: Tick, policy: &BreakerPolicy, dice: u64) {
        let doubled = policy.open.saturating_mul(1 << self.openings.min(16));
        self.openings = self.openings.saturating_add(1);
        self.open(reason, now.after(spread(doubled.min(policy.open_max), dice)));
    }

    fn trip_for_long(&mut self, reason: Outcome, now: Tick, policy: &BreakerPolicy, dice: u64) {
        let Some(permanent) = policy.permanent else { return };
        let open = permanent.open(self.permanents);
        self.permanents = self.permanents.saturating_add(1);
        self.open(reason, now.after(spread(open, dice)));
    }

    fn open(&mut self, reason: Outcome, until: Tick) {
        self.open_until = Some(self.open_until.map_or(until, |known| known.max(until)));
        self.successes = 0;
        self.consecutive = 0;
        self.slots = Default::default();
        self.recent_count = 0;
        self.reason = Some(reason);
    }

    fn count(&mut self, is_failure: bool, now: Tick, policy: &BreakerPolicy) {
        self.recent = (self.recent << 1) | u64::from(is_failure);
        self.recent_count = self.recent_count.saturating_add(1);
        let slot = self.slot(now, policy);
        if is_failure {
            slot.bad += 1;
        } else {
            slot.good += 1;
        }
    }

    fn fails_too_often(&self, now: Tick, policy: &BreakerPolicy) -> bool {
        if policy.last_requests > 0 {
            return self.fails_too_often_lately(policy);
        }
        let current = slot_number(now, policy);
        let (mut good, mut bad) = (0u32, 0u32);
        for slot in &self.slots {
            // A slot ahead of the current one was numbered under a shorter window: it is long past.
            if current.checked_sub(slot.number).is_some_and(|age| age < SLOTS as u64) {
                good += slot.good;
                bad += slot.bad;
            }
        }
        let total = good + bad;
        total >= policy.min_requests && f64::from(bad) >= policy.failure_ratio * f64::from(total)
    }

    /// The same over the last `last_requests`, however long ago.
    fn fails_too_often_lately(&self, policy: &BreakerPolicy) -> bool {
        let total = self.recent_count.min(policy.last_requests).min(u64::BITS);
        let known = u64::MAX.checked_shr(u64::BITS - total).unwrap_or(0);
        let bad = (self.recent & known).count_ones();
        total >= policy.min_requests.min(policy.last_requests)
            && f64::from(bad) >= policy.failure_ratio * f64::from(total)
    }

    fn slot(&mut self, now: Tick, policy: &BreakerPolicy) -> &mut Slot {
        let number = slot_number(now, policy);
        #[allow(clippy::cast_possible_truncation, reason = "a remainder below ten")]
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot { number, good: 0, bad: 0 };
        }
        slot
    }
}

/// Tells whether a probe claimed at `since` still fills its place.
fn is_fresh(since: Tick, now: Tick, policy: &BreakerPolicy) -> bool {
    now < since.after(policy.open.max(PROBE))
}

/// Slot numbers start at one, so that an untouched slot is never current.
fn slot_number(now: Tick, policy: &BreakerPolicy) -> u64 {
    let slot_micros = u64::try_from(policy.window.as_micros()).unwrap_or(u64::MAX) / SLOTS as u64;
    1 + SLOTS as u64 + now.0 / slot_micros.max(1)
}

/// Spreads a span by ±20 %.
pub(super) fn spread(span: Duration, dice: u64) -> Duration {
    let percent = 80 + u32::try_from(dice % 41).unwrap_or(20);
    span.saturating_mul(percent) / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Permanent;

    fn policy() -> BreakerPolicy {
        BreakerPolicy::default()
    }

    /// A throw of the dice that leaves a span as it is.
    const EVEN: u64 = 20;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    fn fail(breaker: &mut Breaker, times: u32, now: Tick) {
        for _ in 0..times {
            breaker.mark(Mark::Failure, Outcome::ServerError, now, &policy(), EVEN);
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_do_not() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 4, at(1));
        assert_eq!(breaker.state(at(1), &policy()), BreakerState::Closed);
        fail(&mut breaker, 1, at(1));
        assert_eq!(breaker.state(at(1), &policy()), BreakerState::Open);
        assert!(matches!(breaker.look(at(1), &policy()), Err(Resting::Open { until, .. }) if until == at(6)));
    }

    #[test]
    fn half_of_twenty_in_the_window_open_it_without_a_row() {
        let mut breaker = Breaker::default();
        for turn in 0..9 {
            breaker.mark(Mark::Success, Outcome::Ok, at(turn / 3), &policy(), EVEN);
            fail(&mut breaker, 1, at(turn / 3));
        }
        breaker.mark(Mark::Success, Outcome::Ok, at(3), &policy(), EVEN);
        assert_eq!(breaker.state(at(3), &policy()), BreakerState::Closed, "nineteen requests are not enough");
        fail(&mut breaker, 1, at(3));
        assert_eq!(breaker.state(at(3), &policy()), BreakerState::Open);
    }

    #[test]
    fn failures_older_than_the_window_do_not_count() {
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            fail(&mut breaker, 1, at(1));
            breaker.mark(Mark::Success, Outcome::Ok, at(1), &policy(), EVEN);
        }
        fail(&mut breaker, 1, at(12));
        breaker.mark(Mark::Success, Outcome::Ok, at(12), &policy(), EVEN);
        fail(&mut breaker, 1, at(12));
        assert_eq!(breaker.state(at(12), &policy()), BreakerState::Closed);
    }

    #[test]
    fn half_open_lets_one_probe_through_and_two_successes_close_it() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, at(0));
        assert_eq!(breaker.claim(at(4), &policy()).ok(), None, "still open");
        let claim = breaker.claim(at(5), &policy()).unwrap().expect("a probe is due");
        assert_eq!(breaker.claim(at(5), &policy()), Err(Resting::Probing));
        breaker.mark(Mark::Success, Outcome::Ok, at(5), &policy(), EVEN);
        breaker.release(claim);
        assert_eq!(breaker.state(at(5), &policy()), BreakerState::HalfOpen, "one success is not enough");
        assert!(matches!(breaker.claim(at(6), &policy()), Ok(Some(_))));
        breaker.mark(Mark::Success, Outcome::Ok, at(6), &policy(), EVEN);
        assert_eq!(breaker.state(at(6), &policy()), BreakerState::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_for_twice_as_long_up_to_the_cap() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, at(0));
        let mut now = at(5);
        for expected in [10, 10, 10] {
            let claim = breaker.claim(now, &policy()).unwrap().expect("a probe is due");
            fail(&mut breaker, 1, now);
            breaker.release(claim);
            let until = now.after(Duration::from_secs(expected));
            assert!(
                matches!(breaker.look(now, &policy()), Err(Resting::Open { until: u, .. }) if u == until)
            );
            now = until;
        }
    }

    #[test]
    fn a_probe_that_hangs_fills_its_place_for_the_open_time_and_no_longer() {
        let short = BreakerPolicy { open: Duration::from_millis(100), ..policy() };
        let long = BreakerPolicy { open: Duration::from_secs(30), ..policy() };
        for (policy, age) in [(policy(), 5), (short, 5), (long, 30)] {
            let mut breaker = Breaker::default();
            for _ in 0..5 {
                breaker.mark(Mark::Failure, Outcome::ServerError, at(0), &policy, EVEN);
            }
            let hung = breaker.claim(at(40), &policy).unwrap().expect("a probe is due");
            let almost = Tick(at(40 + age).0 - 1);
            assert_eq!(breaker.look(almost, &policy), Err(Resting::Probing), "open: {:?}", policy.open);
            let other = breaker.claim(at(40 + age), &policy).unwrap().expect("its place is free");
            assert_eq!(breaker.look(at(40 + age), &policy), Err(Resting::Probing), "one place, no more");
            breaker.release(hung);
            assert_eq!(breaker.look(at(40 + age), &policy), Err(Resting::Probing), "not the other's");
            breaker.release(hung);
            breaker.release(other);
            breaker.release(other);
            assert!(matches!(breaker.claim(at(40 + age), &policy), Ok(Some(_))), "as many places as ever");
            assert_eq!(breaker.look(at(40 + age), &policy), Err(Resting::Probing));
        }
    }

    #[test]
    fn a_claim_from_before_a_reset_frees_nobody_elses_place() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, at(0));
        let before = breaker.claim(at(5), &policy()).unwrap().expect("a probe is due");
        breaker.reset();
        fail(&mut breaker, 5, at(0));
        let after = breaker.claim(at(5), &policy()).unwrap().expect("a probe is due");
        breaker.release(before);
        assert_eq!(breaker.look(at(5), &policy()), Err(Resting::Probing));
        breaker.release(after);
        assert!(breaker.look(at(5), &policy()).is_ok());
    }

    #[test]
    fn ten_handshakes_that_fail_together_open_it_once() {
        let policy = BreakerPolicy { open_max: minutes(60), ..policy() };
        let mut breaker = Breaker::default();
        for millis in 0..10 {
            breaker.mark(Mark::Trip, Outcome::Tls, Tick(millis * 1000), &policy, EVEN);
        }
        let until = at(5);
        assert_eq!(breaker.look(at(1), &policy), Err(Resting::Open { until, reason: Outcome::Tls }));
        breaker.mark(Mark::Trip, Outcome::Tls, at(5), &policy, EVEN);
        assert!(matches!(breaker.look(at(5), &policy), Err(Resting::Open { until, .. }) if until == at(15)));
    }

    #[test]
    fn a_success_from_before_it_opened_does_not_close_it() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, at(0));
        breaker.mark(Mark::Success, Outcome::Ok, at(1), &policy(), EVEN);
        breaker.mark(Mark::Success, Outcome::Ok, at(1), &policy(), EVEN);
        assert_eq!(breaker.state(at(1), &policy()), BreakerState::Open);
    }

    #[test]
    fn an_open_breaker_that_is_switched_off_is_closed_and_counts_nothing() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, at(0));
        let off = BreakerPolicy { enabled: false, ..policy() };
        for now in [at(1), at(60)] {
            assert_eq!(breaker.state(now, &off), BreakerState::Closed);
            assert_eq!(breaker.claim(now, &off), Ok(None));
        }
        breaker.mark(Mark::Trip, Outcome::Tls, at(60), &off, EVEN);
        assert_eq!(breaker.state(at(60), &policy()), BreakerState::HalfOpen, "as it was, when on again");
    }

    #[test]
    fn what_was_counted_under_a_shorter_window_is_past_under_a_longer_one() {
        let short = BreakerPolicy { consecutive_failures: 100, ..policy() };
        let long = BreakerPolicy { window: short.window * 6, ..short };
        let mut breaker = Breaker::default();
        for _ in 0..19 {
            breaker.mark(Mark::Failure, Outcome::ServerError, at(3_600), &short, EVEN);
        }
        let later = at(7_200);
        breaker.mark(Mark::Failure, Outcome::ServerError, later, &long, EVEN);
        assert_eq!(breaker.state(later, &long), BreakerState::Closed, "one failure in this window");
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn one_permanent_fault_opens_it_and_each_further_one_for_twice_as_long() {
        let permanent = Some(Permanent { base: minutes(5), factor: 2.0, max: minutes(80) });
        let policy = BreakerPolicy { permanent, close_after: 1, ..policy() };
        let mut breaker = Breaker::default();
        let mut now = at(1);
        for want in [5, 10, 20, 40, 80, 80] {
            // Ten requests under way together are one event.
            for _ in 0..10 {
                breaker.mark(Mark::Permanent, Outcome::Auth, now, &policy, EVEN);
            }
            let until = now.after(minutes(want));
            assert_eq!(breaker.look(now, &policy), Err(Resting::Open { until, reason: Outcome::Auth }));
            now = until;
            assert_eq!(breaker.state(now, &policy), BreakerState::HalfOpen);
        }
        breaker.mark(Mark::Success, Outcome::Ok, now, &policy, EVEN);
        assert_eq!(breaker.state(now, &policy), BreakerState::Closed);
        breaker.mark(Mark::Permanent, Outcome::Auth, now, &policy, EVEN);
        let until = now.after(minutes(5));
        assert!(matches!(breaker.look(now, &policy), Err(Resting::Open { until: u, .. }) if u == until));
    }

    #[test]
    fn a_permanent_fault_extends_a_breaker_that_is_open_already() {
        let permanent = Some(Permanent { base: minutes(5), factor: 2.0, max: minutes(80) });
        let policy = BreakerPolicy { permanent, ..policy() };
        let mut breaker = Breaker::default();
        fail(&mut breaker, 5, at(1));
        breaker.mark(Mark::Permanent, Outcome::ModelUnavailable, at(2), &policy, EVEN);
        let until = at(2 + 300);
        assert!(matches!(breaker.look(at(2), &policy), Err(Resting::Open { until: u, .. }) if u == until));
    }

    #[test]
    fn half_of_the_last_ten_open_it_however_long_they_took() {
        let policy = BreakerPolicy { last_requests: 10, min_requests: 10, ..policy() };
        let mut breaker = Breaker::default();
        // One an hour, four of ten failures: the window of 10 s never sees more than one.
        for turn in 0..30u64 {
            let mark = if matches!(turn % 10, 0 | 3 | 6 | 8) { Mark::Failure } else { Mark::Success };
            breaker.mark(mark, Outcome::ServerError, at(turn * 3600), &policy, EVEN);
            assert_eq!(breaker.state(at(turn * 3600), &policy), BreakerState::Closed, "request {turn}");
        }
        // The oldest of the ten, a failure, leaves as a failure comes; then a success does.
        breaker.mark(Mark::Failure, Outcome::ServerError, at(30 * 3600), &policy, EVEN);
        assert_eq!(breaker.state(at(30 * 3600), &policy), BreakerState::Closed, "four of ten");
        breaker.mark(Mark::Failure, Outcome::ServerError, at(31 * 3600), &policy, EVEN);
        assert_eq!(breaker.state(at(31 * 3600), &policy), BreakerState::Open, "five of ten");
    }

    #[test]
    fn nine_requests_are_not_enough_for_a_share_of_ten() {
        let policy = BreakerPolicy { last_requests: 10, min_requests: 10, ..policy() };
        let mut breaker = Breaker::default();
        for turn in 0..9 {
            let mark = if turn % 2 == 0 { Mark::Failure } else { Mark::Success };
            breaker.mark(mark, Outcome::ServerError, at(1), &policy, EVEN);
        }
        assert_eq!(breaker.state(at(1), &policy), BreakerState::Closed);
        breaker.mark(Mark::Failure, Outcome::ServerError, at(1), &policy, EVEN);
        assert_eq!(breaker.state(at(1), &policy), BreakerState::Open);
    }

    #[test]
    fn the_spread_stays_within_a_fifth() {
        for dice in 0..1000 {
            let span = spread(Duration::from_secs(10), dice);
            assert!(span >= Duration::from_secs(8) && span <= Duration::from_secs(12), "{dice}: {span:?}");
        }
    }
}
