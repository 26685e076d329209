//! How long do we wait, and for whom?
//!
//! Every wait for a provider watches three things at once: the provider, the client (who may
//! leave at any time, and then nothing more is done for them) and the clock. Two clocks: a *soft*
//! limit (first content, response, stall) that counts only while the request could go elsewhere,
//! and the deadline, which always counts. A soft limit that ran out without an alternative is
//! asked again each second: a target may come back while we wait.
//!
//! What is there is taken before the clock is asked: a client that reads slowly is not the provider's
//! fault. But a provider that always has more would then never let the clock be asked, so the deadline,
//! and whether the process goes, are looked at before each wait as well.
//!
//! One timer serves a whole request. It is not set again for every chunk: when it fires early, it
//! is set to what is due by then. A stream of a thousand chunks so costs a handful of timer
//! operations instead of a thousand. The timers are Pingora's, which share one clock thread: one of
//! tokio's that is due before all others wakes the runtime's driver, a system call per request. Long
//! ones are set to quarters of a second, so that thousands of requests share them. That thread may be
//! ahead of the runtime where the whole process was stopped for a while (SIGSTOP, a machine that
//! swaps): every timer has run out then, and answers lie unread.

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::clock::Clock;
use crate::live::House;
use pingora::protocols::http::ServerSession as Session;
use pingora::time::fast_timeout::fast_sleep;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How often a soft limit without an alternative is asked again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Waits from this length on share their timers.
const LONG: Duration = Duration::from_secs(5);
/// Where shared timers fire.
const SHARED: Duration = Duration::from_millis(250);

/// A timer that fires so much too late says that this process stood still, not the provider.
const STALL: Duration = Duration::from_millis(250);
/// What came meanwhile is then given so long to be read before the timer is believed.
const SETTLE: Duration = Duration::from_millis(100);

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client left.
    Gone,
    /// Time ran out.
    Late(Outcome),
}

/// What a wait is bounded by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// When the soft limit runs out.
    pub(super) soft: Tick,
    /// What it is called.
    pub(super) outcome: Outcome,
    /// Whether it counts even without an alternative.
    pub(super) is_hard: bool,
    /// When it counts all the same.
    pub(super) last: Option<Tick>,
}

impl Limit {
    /// No limit here: somebody else watches.
    pub(super) const UNWATCHED: Limit =
        Limit { soft: Tick(u64::MAX), outcome: Outcome::TimeoutFirstContent, is_hard: false, last: None };

    /// A limit that counts whatever else could be done.
    pub(super) fn hard(at: Tick, outcome: Outcome) -> Self {
        Limit { soft: at, outcome, is_hard: true, last: None }
    }
}

/// The timer of one request.
#[derive(Default)]
pub(super) struct Patience {
    timer: Option<(Tick, Timer)>,
}

type Timer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Patience {
    /// Completes once `until` has passed.
    pub(super) async fn pass(&mut self, clock: &Clock, until: Tick) {
        loop {
            let now = clock.tick();
            if now >= until {
                return;
            }
            if self.timer.as_ref().is_none_or(|(set_to, _)| *set_to > until && *set_to > shared(until, now)) {
                let set_to = shared(until, now);
                self.timer = Some((set_to, Box::pin(fast_sleep(set_to.left(now)))));
            }
            if let Some((set_to, timer)) = &mut self.timer {
                timer.as_mut().await;
                let stood_still = clock.tick() > set_to.after(STALL);
                self.timer = None;
                if stood_still {
                    // On the heap: it is as good as never needed.
                    Box::pin(fast_sleep(SETTLE)).await;
                }
            }
        }
    }

    /// Waits for `future`, within a hard limit; a soft one is for somebody else to watch, who has
    /// the client and the deadline in view.
    pub(super) async fn alone<T>(
        &mut self,
        clock: &Clock,
        limit: &Limit,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Cut> {
        if !limit.is_hard {
            return Ok(future.await);
        }
        tokio::select! {
            biased;
            done = &mut future => Ok(done),
            () = self.pass(clock, limit.soft) => Err(Cut::Late(limit.outcome)),
        }
    }

    /// Waits for `future`, for the client to leave, or for time to run out. `has_alternative` is
    /// asked when the soft limit has passed. The future comes pinned by its owner: handed on by
    /// value it would be stored, and copied, once per function on the way.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while a stream is open")]
    pub(super) fn with<T>(
        &mut self,
        session: &mut Session,
        house: &House,
        deadline: Tick,
        limit: &Limit,
        mut has_alternative: impl FnMut(Tick) -> bool,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Cut>> {
        async move {
            let clock = &house.clock;
            if is_over(clock.tick(), deadline, house.parting.has_begun()) {
                return Err(Cut::Late(Outcome::TimeoutTotal));
            }
            let mut soft = limit.soft;
            loop {
                let until = soft.min(deadline);
                tokio::select! {
                    biased;
                    done = &mut future => return Ok(done),
                    () = client_leaves(session) => return Err(Cut::Gone),
                    () = house.parting.comes() => return Err(Cut::Late(Outcome::TimeoutTotal)),
                    () = self.pass(clock, until) => {
                        let now = clock.tick();
                        if now >= deadline {
                            return Err(Cut::Late(Outcome::TimeoutTotal));
                        }
                        let is_last = limit.last.is_some_and(|last| now >= last);
                        if limit.is_hard || is_last || has_alternative(now) {
                            return Err(Cut::Late(limit.outcome));
                        }
                        soft = now.after(ASK_AGAIN).min(limit.last.unwrap_or(Tick(u64::MAX)));
                    }
                }
            }
        }
    }
}

/// Tells whether a wait is not to be begun: the deadline has passed, or the process goes.
fn is_over(now: Tick, deadline: Tick, is_parting: bool) -> bool {
    is_parting || now >= deadline
}

/// Returns when a timer for `until` is to fire: a far one a little later, together with others.
fn shared(until: Tick, now: Tick) -> Tick {
    if until.left(now) < LONG {
        return until;
    }
    let grain = u64::try_from(SHARED.as_micros()).unwrap_or(1);
    Tick(until.0.div_ceil(grain).saturating_mul(grain))
}

/// Completes when the client is gone: FIN or RST on HTTP/1, RST_STREAM on HTTP/2.
pub(super) async fn client_leaves(session: &mut Session) {
    // Bytes after the body of a request (a pipelined next one) are no farewell; Pingora keeps them and
    // says no more. What it says of HTTP/2 behind an end is no farewell either: no spinning.
    // By name, as in `downstream`: no client comes by Pingora's other ways.
    let is_told = match session {
        Session::H1(session) => session.read_body_or_idle(true).await.is_err(),
        Session::H2(session) => session.read_body_or_idle(true).await.is_err(),
        Session::Subrequest(_) | Session::Custom(_) => false,
    };
    if !is_told {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::log::Log;
    use crate::observe::metrics::Metrics;
    use crate::route::fixture::plan;
    use std::pin::pin;

    #[tokio::test]
    async fn a_provider_that_always_has_more_does_not_outlast_the_deadline_or_the_process() {
        let far = Tick(u64::MAX);
        for (deadline, is_parting, want) in [
            (far, false, Ok(7)),
            (Tick(0), false, Err(Cut::Late(Outcome::TimeoutTotal))),
            (far, true, Err(Cut::Late(Outcome::TimeoutTotal))),
        ] {
            let (log, _lines) = Log::capture();
            let metrics = Metrics::new("test", log.dropped()).unwrap();
            let house = House::open(plan(&[], &[]), Clock::new(), metrics, log).unwrap();
            if is_parting {
                house.parting.begin();
            }
            let (ours, _theirs) = tokio::io::duplex(64);
            let mut session = Session::new_http1(Box::new(ours));
            let (mut patience, there) = (Patience::default(), pin!(std::future::ready(7)));
            let waited = patience.with(&mut session, &house, deadline, &Limit::UNWATCHED, |_| false, there);
            assert_eq!(waited.await, want, "deadline {deadline:?}, parting: {is_parting}");
        }
    }
}
