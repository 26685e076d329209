//! One try at one target: connect, send, judge, hold, stream.
//!
//! Nothing goes downstream before it is judged: a refusal or an error inside a 200 must still be
//! able to become somebody else's answer. An answer that is not streamed is held until it is whole
//! (up to 1 MiB; completions arrive in one piece, so this costs no time); a stream is
//! held until its first content event. From then on bytes are forwarded as they come, whole events
//! at a time, so that whatever ends the stream early never ends it inside an event.
//!
//! A refusing answer is read to its end within bounds and its connection kept: the next failover
//! then costs no handshake.
//!
//! Here: what an attempt is and how it goes. In the rooms behind: [`connect`], the way to the
//! provider; [`judge`], what came back, held until it is judged; [`stream`], what goes downstream.

mod connect;
mod judge;
mod stream;

use super::carried::Rendering;
use super::incoming::{Incoming, Packing};
use super::outgoing;
use super::patience::{Cut, Limit, Patience};
use super::reply::Head;
use super::story::Story;
use super::telling::Telling;
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::classify::{self, TransportFault, Verdict};
use crate::config::plan::{Pattern, Timeouts};
use crate::exchange::{Cause, Exchange, Failure};
use crate::health::Permit;
use crate::live::keyring::Signature;
use crate::live::{House, Live, Slot};
use crate::rewrite::Rewritten;
use crate::wire::splice::Splice;
use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession as Upstream;
use pingora::upstreams::peer::Peer;
use pingora::{ErrorType, RetryType};
use pingora_proxy::Session;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// How long an early answer is waited for after an upload broke.
const EARLY_ANSWER: Duration = Duration::from_millis(500);
/// Most interim (1xx) responses before one is called a fault (threat P5).
const MAX_INTERIM: usize = 8;

/// How an attempt ended.
pub(super) enum End {
    /// The whole answer went downstream.
    Delivered,
    /// The client left.
    Gone,
    /// It failed.
    Failed(Fault),
}

/// A failed attempt: what `exchange` and `health` need, and what could be relayed.
pub(super) struct Fault {
    pub(super) failure: Failure,
    pub(super) account_wide: bool,
    pub(super) held: Option<Held>,
}

/// A provider's own answer, kept in case it is to be relayed.
pub(super) struct Held {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

/// The head of a provider's answer: as the client may see it, and what we need to know of it.
struct Answer {
    status: u16,
    head: Head,
    is_event_stream: bool,
    is_encoded: bool,
    /// How the body is packed, where we unpack it.
    packing: Option<Packing>,
    length: Option<u64>,
}

/// What one attempt works with.
pub(super) struct Attempt<'a> {
    pub(super) house: &'a House,
    pub(super) live: &'a Live,
    pub(super) slots: &'a [Arc<Slot>],
    pub(super) at: usize,
    /// The target's.
    pub(super) dialect: Dialect,
    pub(super) timeouts: Timeouts,
    pub(super) wants_stream: bool,
    pub(super) wants_reasoning: bool,
    pub(super) drops_rate_limits: bool,
    pub(super) began: Tick,
    /// What proves us to the provider.
    pub(super) signature: &'a Signature,
    pub(super) session: &'a mut Session,
    pub(super) exchange: &'a mut Exchange,
    pub(super) patience: &'a mut Patience,
    pub(super) story: &'a mut Story,
    pub(super) permit: &'a mut Permit,
    /// What the client was told, where a break could be taken up.
    pub(super) told: &'a mut Option<Telling>,
    /// Set where this attempt takes up a broken stream.
    pub(super) splice: Option<Splice>,
    /// How many choices were asked for.
    pub(super) choices: u32,
    /// Set where the target speaks another dialect than the client.
    pub(super) rendering: Option<Box<Rendering>>,
}

impl Fault {
    pub(super) fn plain(outcome: Outcome) -> Self {
        Fault { failure: Failure::plain(outcome), account_wide: false, held: None }
    }

    fn after_head(outcome: Outcome, status: u16) -> Self {
        let failure = Failure { status: Some(status), ..Failure::plain(outcome) };
        Fault { failure, account_wide: false, held: None }
    }

    fn judged(verdict: &Verdict, status: u16, is_inband: bool, held: Option<Held>) -> Self {
        let failure = Failure {
            status: Some(status),
            hint: verdict.retry,
            is_inband,
            ..Failure::plain(verdict.outcome)
        };
        Fault { failure, account_wide: verdict.account_wide, held }
    }
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Gone => End::Gone,
            Cut::Late(outcome) => End::Failed(Fault::plain(outcome)),
        }
    }
}

impl Attempt<'_> {
    /// Makes the attempt.
    pub(super) async fn run(mut self, mut head: Box<RequestHeader>, body: Rewritten, cause: Cause) -> End {
        let (peer, mut upstream, is_reused) = match self.connect(cause).await {
            Ok(connected) => connected,
            Err(end) => return end,
        };
        if matches!(upstream, Upstream::H2(_))
            && outgoing::for_http2(&mut head, &self.slots[self.at]).is_none()
        {
            return End::Failed(Fault::plain(Outcome::Connect));
        }
        let end = self.converse(&mut upstream, head, body, is_reused).await;
        let may_keep = match &end {
            End::Delivered => true,
            End::Gone => false,
            End::Failed(fault) => fault.failure.status.is_some() && upstream.response_done(),
        };
        if may_keep && upstream.response_done() {
            self.house.pools.give_back(upstream, &peer, peer.idle_timeout()).await;
        } else {
            upstream.shutdown().await;
        }
        end
    }

    /// The operator's words for this provider's errors.
    fn patterns(&self) -> &[Pattern] {
        &self.live.plan.provider(self.slots[self.at].target.provider).patterns
    }

    fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slots[self.at])
    }

    /// Waits for something of the provider's, with an eye on the client and the clock.
    async fn wait<T>(&mut self, limit: Limit, future: Pin<&mut impl Future<Output = T>>) -> Result<T, Cut> {
        let exchange = &*self.exchange;
        let told = &mut *self.told;
        let has_alternative = |now: Tick| {
            let can_go_on =
                !exchange.is_committed() || told.as_mut().is_some_and(|told| told.bar().is_none());
            can_go_on && exchange.has_alternative(now)
        };
        let deadline = exchange.deadline();
        self.patience.with(self.session, &self.house.clock, deadline, limit, has_alternative, future).await
    }

    /// Reads the next piece of the answer's body.
    async fn read(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: Limit,
    ) -> Result<pingora::Result<Option<Bytes>>, Cut> {
        let reading = pin!(incoming.next());
        self.wait(limit, reading).await
    }

    /// The limit until the first content of a stream, or the whole of another answer. The client of
    /// a rescue is in the middle of a stream: it is left silent no longer than in any other.
    fn first_limit(&self) -> Limit {
        let span = match (self.wants_stream, self.wants_reasoning) {
            (false, _) => self.timeouts.response,
            (true, false) => self.timeouts.first_content,
            (true, true) => self.timeouts.first_content_reasoning,
        };
        Limit {
            soft: self.began.after(span),
            outcome: Outcome::TimeoutFirstContent,
            is_hard: false,
            last: self.splice.is_some().then(|| self.began.after(self.timeouts.stall_last)),
        }
    }

    async fn converse(
        &mut self,
        upstream: &mut Upstream,
        head: Box<RequestHeader>,
        body: Rewritten,
        is_reused: bool,
    ) -> End {
        let limit = self.first_limit();
        let sent = {
            let sending = pin!(send(upstream, head, body));
            self.wait(limit, sending).await
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(cut) => return cut.into(),
        };
        let limit = match &sent {
            Ok(()) => limit,
            // The provider may have answered early and stopped reading: its answer may be there.
            Err(_) => Limit::hard(self.house.clock.tick().after(EARLY_ANSWER), Outcome::Reset),
        };
        let read = {
            let reading = pin!(read_head(upstream));
            self.wait(limit, reading).await
        };
        let read = match read {
            Ok(read) => read,
            Err(cut) => return cut.into(),
        };
        match read {
            Ok(()) => {}
            Err(HeadFault::Broken(error)) => return End::Failed(broken_before_head(&error, is_reused)),
            Err(HeadFault::TooManyInterim) => {
                return End::Failed(Fault::plain(classify::transport(TransportFault::UnexpectedHead)));
            }
        }
        let Some(answer) = upstream.response_header().and_then(|head| self.draft(head)) else {
            return End::Failed(Fault::plain(Outcome::Reset));
        };
        self.exchange.answered(answer.status);
        let mut incoming = Incoming::new(upstream, answer.packing);
        if !(200..300).contains(&answer.status) {
            return self.refused(&mut incoming, answer).await;
        }
        if answer.is_encoded {
            return End::Failed(Fault::after_head(Outcome::BadBody, answer.status));
        }
        if answer.is_event_stream {
            self.stream(&mut incoming, answer).await
        } else if self.splice.is_some() {
            End::Failed(Fault::after_head(Outcome::BadBody, answer.status))
        } else {
            self.whole(&mut incoming, answer).await
        }
    }
}

async fn send(upstream: &mut Upstream, head: Box<RequestHeader>, body: Rewritten) -> pingora::Result<()> {
    upstream.write_request_header(head).await?;
    let last = body.pieces.len().saturating_sub(1);
    for (at, piece) in body.pieces.into_iter().enumerate() {
        upstream.write_request_body(piece, at == last).await?;
    }
    upstream.finish_request_body().await
}

enum HeadFault {
    Broken(Box<pingora::Error>),
    TooManyInterim,
}

async fn read_head(upstream: &mut Upstream) -> Result<(), HeadFault> {
    for _ in 0..=MAX_INTERIM {
        upstream.read_response_header().await.map_err(HeadFault::Broken)?;
        let is_interim =
            upstream.response_header().is_some_and(|h| h.status.is_informational() && h.status != 101);
        if !is_interim {
            return Ok(());
        }
    }
    Err(HeadFault::TooManyInterim)
}

/// A connection that broke before the head: dead on arrival where it was a kept one (row 19),
/// refused by HTTP/2's own word (row 20), or lost on the way (row 21).
fn broken_before_head(error: &pingora::Error, is_reused: bool) -> Fault {
    let was_refused =
        matches!(error.etype(), ErrorType::H2Downgrade) || matches!(error.retry, RetryType::Decided(true));
    let transport = match error.etype() {
        _ if was_refused => TransportFault::NotProcessed,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => TransportFault::BadHead,
        _ if is_reused => TransportFault::StaleConnection,
        _ => TransportFault::ResetBeforeHead,
    };
    let mut fault = Fault::plain(classify::transport(transport));
    fault.failure.is_stale =
        matches!(transport, TransportFault::NotProcessed | TransportFault::StaleConnection);
    fault
}
