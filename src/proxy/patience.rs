//! How long do we wait, and for whom?
//!
//! Every wait for a provider watches three things at once: the provider, the client (who may
//! leave at any time, and then nothing more is done for them) and the clock. Two clocks: a *soft*
//! limit (first content, response, stall) that counts only while the request could go elsewhere,
//! and the deadline, which always counts. A soft limit that ran out without an alternative is
//! asked again each second: a target may come back while we wait.
//!
//! One timer serves a whole request. It is not set again for every chunk: when it fires early, it
//! is set to what is due by then. A stream of a thousand chunks so costs a handful of timer
//! operations instead of a thousand.

use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::clock::Clock;
use pingora_proxy::Session;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::time::Sleep;

/// How often a soft limit without an alternative is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    /// A limit that counts whatever else could be done.
    pub(super) fn hard(at: Tick, outcome: Outcome) -> Self {
        Limit { soft: at, outcome, is_hard: true, last: None }
    }
}

/// The timer of one request.
pub(super) struct Patience {
    sleep: Pin<Box<Sleep>>,
    set_to: Tick,
}

impl Patience {
    pub(super) fn new() -> Self {
        Patience { sleep: Box::pin(tokio::time::sleep(Duration::from_secs(3600))), set_to: Tick(u64::MAX) }
    }

    /// Completes once `until` has passed.
    pub(super) async fn pass(&mut self, clock: &Clock, until: Tick) {
        loop {
            let now = clock.tick();
            if now >= until {
                return;
            }
            if self.set_to > until || self.set_to <= now || self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(tokio::time::Instant::now() + until.left(now));
                self.set_to = until;
            }
            self.sleep.as_mut().await;
        }
    }

    /// Waits for `future`, for the client to leave, or for time to run out. `has_alternative` is
    /// asked when the soft limit has passed.
    pub(super) async fn with<T>(
        &mut self,
        session: &mut Session,
        clock: &Clock,
        deadline: Tick,
        limit: Limit,
        mut has_alternative: impl FnMut(Tick) -> bool,
        future: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        let mut future = pin!(future);
        let mut soft = limit.soft;
        loop {
            let until = soft.min(deadline);
            tokio::select! {
                biased;
                done = &mut future => return Ok(done),
                () = client_leaves(session) => return Err(Cut::Gone),
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

/// Completes when the client is gone: FIN or RST on HTTP/1, RST_STREAM on HTTP/2.
pub(super) async fn client_leaves(session: &mut Session) {
    // Bytes after the body of a request (a pipelined next one) are no farewell, but Pingora then
    // has nothing more to tell us: stop listening rather than spin.
    if session.downstream_session.read_body_or_idle(true).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
