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
//! So an attempt has two halves. Its [`Opening`] asks and holds, and needs nothing of the client's:
//! [`connect`] is the way to the provider, [`judge`] and [`hold`] what came back. It ends in a fault
//! or in an answer that is fit to be sent. Its [`Delivery`] has the client's side to itself.

mod apart;
mod connect;
mod hold;
mod judge;
mod stream;

pub(super) use apart::{Ready, deliver, open};
pub(super) use connect::connect_fault;
pub(super) use judge::is_encoded;
use stream::Delivery;

use super::carried::{Carried, Rendering};
use super::downstream::Unwritable;
use super::framing;
use super::incoming::{Incoming, Packing};
use super::outgoing;
use super::patience::{Cut, Limit, Patience};
use super::reply::{self, Head};
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
use crate::live::memory::Share;
use crate::live::{House, Live, Slot};
use crate::pools;
use crate::rewrite::Rewritten;
use crate::wire::StreamFault;
use crate::wire::cut::Framing;
use crate::wire::splice::Splice;
use crate::wire::{StreamReader, Usage, rate_limit};
use bytes::Bytes;
use pingora::ErrorType;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession as Session;
use pingora::protocols::http::client::HttpSession as Upstream;
use smallvec::SmallVec;
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
    /// Whether another attempt on the same connection has lost it before.
    pub(super) is_told: bool,
    pub(super) held: Option<Box<Held>>,
}

/// A provider's own answer, kept in case it is to be relayed.
pub(super) struct Held {
    pub(super) head: Head,
    pub(super) body: Bytes,
    /// What it used, where it is a whole answer in the client's dialect that a content filter stopped.
    filtered: Option<Usage>,
    /// The memory that this takes of what all share.
    pub(super) _share: Share,
}

/// What a content filter left: an answer that it stopped, or its refusal. For the client where nobody has a better one
/// (`retry.on_content_filter: failover`).
pub(super) struct Filtered {
    pub(super) at: usize,
    pub(super) held: Box<Held>,
}

/// A provider's answer: what we need to know of its head, and what is held of it. On the heap: whatever
/// one async function hands to the next is copied, and an open stream has no more use for most of it.
struct Answer {
    status: u16,
    /// As the client may see it; gone once it went downstream.
    head: Option<Head>,
    is_event_stream: bool,
    is_encoded: bool,
    /// How the body is packed, where we unpack it.
    packing: Option<Packing>,
    length: Option<u64>,
    /// Whether its end says nothing of whether it is whole.
    ends_anyhow: bool,
    /// What of the body is to go downstream with the head.
    held: SmallVec<[Bytes; 4]>,
    /// The memory that this takes of what all share.
    share: Share,
    /// Whether that is all of it.
    is_whole: bool,
    /// What an answer that is whole says of itself.
    usage: Usage,
    /// What the last held piece of a stream came to.
    mark: Mark,
    /// What says it in the client's dialect, where that is another.
    rendering: Option<Box<Rendering>>,
}

/// At whom an attempt is aimed, and what was asked.
pub(super) struct Aim<'a> {
    pub(super) house: &'a House,
    pub(super) live: &'a Live,
    pub(super) slots: &'a [Arc<Slot>],
    pub(super) at: usize,
    /// The slot there, proved.
    pub(super) slot: &'a Arc<Slot>,
    /// The target's.
    pub(super) dialect: Dialect,
    pub(super) timeouts: &'a Timeouts,
    pub(super) wants_stream: bool,
    pub(super) wants_reasoning: bool,
    pub(super) drops_rate_limits: bool,
    pub(super) began: Tick,
    /// What proves us to the provider.
    pub(super) signature: &'a Signature,
    /// Whether this attempt takes up a broken stream.
    pub(super) is_rescue: bool,
    /// How many choices were asked for.
    pub(super) choices: u32,
}

/// The client's side: what only one attempt at a time may hold.
pub(super) struct Stage<'a> {
    pub(super) session: &'a mut Session,
    pub(super) exchange: &'a mut Exchange,
    pub(super) patience: &'a mut Patience,
    pub(super) story: &'a mut Story,
    /// What the client was told, where a break could be taken up.
    pub(super) told: &'a mut Option<Telling>,
    /// The request in the dialects that it was translated to.
    pub(super) carried: &'a mut Carried,
    /// The first that a content filter left: an answer rather than a refusal.
    pub(super) filtered: &'a mut Option<Filtered>,
}

/// The request of one attempt.
pub(super) struct Errand {
    pub(super) head: Box<RequestHeader>,
    pub(super) body: Rewritten,
    /// Set where the target speaks another dialect than the client.
    pub(super) rendering: Option<Box<Rendering>>,
    pub(super) cause: Cause,
}

/// The first half of an attempt.
struct Opening<'a, 's> {
    aim: &'a Aim<'a>,
    watch: Watch<'a, 's>,
}

/// A connection, and the answer that was begun on it or how that failed.
type Begun = (Box<Upstream>, Result<Box<Answer>, Box<End>>);

/// Who watches the client, the deadline and the soft limits while the provider is waited for.
enum Watch<'a, 's> {
    /// The attempt itself.
    Stage(&'a mut Stage<'s>),
    /// Whoever lets it run beside another.
    Elsewhere(Patience),
}

/// What a piece of a stream came to, beside the bytes in it.
#[derive(Default)]
struct Mark {
    fault: Option<StreamFault>,
    /// Why the piece could not be said in the client's dialect.
    untold: Option<Outcome>,
    has_ended: bool,
    is_clean_end: bool,
}

impl Answer {
    /// Keeps what is still wanted of a stream whose beginning went downstream, and gives the rest back.
    fn into_rest(self: Box<Self>) -> (u16, Mark, Option<Box<Rendering>>) {
        (self.status, self.mark, self.rendering)
    }
}

impl Fault {
    pub(super) fn plain(outcome: Outcome) -> Self {
        Fault { failure: Failure::plain(outcome), account_wide: false, is_told: false, held: None }
    }

    fn after_head(outcome: Outcome, status: u16) -> Self {
        let failure = Failure { status: Some(status), ..Failure::plain(outcome) };
        Fault { failure, account_wide: false, is_told: false, held: None }
    }

    /// There was no room here for an answer that must be had whole. The provider did well as far as it came.
    fn without_room(status: u16) -> Self {
        let mut fault = Fault::after_head(Outcome::Ok, status);
        fault.failure.is_without_room = true;
        fault
    }

    fn judged(verdict: &Verdict, status: u16, is_inband: bool, held: Option<Box<Held>>) -> Self {
        let failure = Failure {
            status: Some(status),
            hint: verdict.retry,
            is_inband,
            ..Failure::plain(verdict.outcome)
        };
        Fault { failure, account_wide: verdict.account_wide, is_told: false, held }
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

impl From<Unwritable> for End {
    fn from(_: Unwritable) -> Self {
        End::Gone
    }
}

/// Makes an attempt.
#[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
pub(super) fn run(
    aim: &Aim<'_>,
    stage: &mut Stage<'_>,
    permit: &mut Permit,
    splice: &mut Option<Box<Splice>>,
    errand: Box<Errand>,
) -> impl Future<Output = End> {
    async move {
        let begun = Opening { aim, watch: Watch::Stage(stage) }.begin(errand).await;
        let (mut upstream, drafted) = match begun {
            Ok(begun) => begun,
            Err(end) => return *end,
        };
        let mut end = match drafted {
            Ok(answer) => see_through(aim, stage, permit, splice, &mut upstream, answer).await,
            Err(end) => *end,
        };
        part_with(aim, upstream, &mut end).await;
        end
    }
}

/// Holds an answer until it is fit to be sent, and sends it. A function of its own, so that the room
/// that this takes is the room in which the provider was asked.
#[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
fn see_through(
    aim: &Aim<'_>,
    stage: &mut Stage<'_>,
    permit: &mut Permit,
    splice: &mut Option<Box<Splice>>,
    upstream: &mut Upstream,
    mut answer: Box<Answer>,
) -> impl Future<Output = End> {
    async move {
        let mut incoming = Incoming::new(upstream, answer.packing, answer.is_event_stream);
        let mut reader = None;
        let held = {
            let mut opening = Opening { aim, watch: Watch::Stage(stage) };
            opening.hold(&mut incoming, &mut answer, &mut reader).await.map_err(Box::new)
        };
        if let Err(end) = held {
            if let Some(reader) = &reader {
                stage.broke_early(aim.at, &end, reader.usage());
            }
            return *end;
        }
        let mut delivery = Delivery { aim, stage, permit, splice };
        delivery.run(&mut incoming, answer, reader.as_mut()).await
    }
}

/// Gives a connection back whose answer was read to its end, and closes any other; one of HTTP/2 loses
/// only the stream, unless it broke or fell silent. Where all its streams are lost with it, that is one
/// fault and not thirty: else a single lost connection could open a breaker.
async fn part_with(aim: &Aim<'_>, mut upstream: Box<Upstream>, end: &mut End) {
    let may_keep = match end {
        End::Delivered => true,
        End::Gone => false,
        End::Failed(fault) => fault.failure.status.is_some(),
    };
    if may_keep && upstream.response_done() {
        return aim.house.pools.give_back(upstream, aim.slot.way()).await;
    }
    let End::Failed(fault) = end else { return pools::break_off(upstream).await };
    let outcome = fault.failure.outcome;
    let is_lost = matches!(outcome, Outcome::Reset | Outcome::Truncated);
    let was_silent =
        matches!(outcome, Outcome::TimeoutFirstContent | Outcome::TimeoutStall | Outcome::TimeoutTotal);
    if is_lost || was_silent || fault.failure.status.is_none() {
        let is_news = pools::discard(upstream).await;
        fault.is_told = is_lost && !is_news;
    } else {
        pools::break_off(upstream).await;
    }
}

impl Aim<'_> {
    /// The limit until the first content of a stream, or the whole of another answer. The client of
    /// a rescue is in the middle of a stream: it is left silent no longer than in any other.
    fn first_limit(&self, exchange: &Exchange) -> Limit {
        let streams = self.wants_stream && comes_in_pieces(self.dialect);
        let span = first_span(self.timeouts, streams, self.wants_reasoning);
        Limit {
            soft: exchange.curb(self.at, self.began.after(span), self.house.clock.tick()),
            outcome: Outcome::TimeoutFirstContent,
            is_hard: false,
            last: self.is_rescue.then(|| self.began.after(self.timeouts.stall_last)),
        }
    }

    /// The operator's words for this provider's errors.
    fn patterns(&self) -> &[Pattern] {
        &self.live.plan.provider(self.slot.target.provider).patterns
    }

    /// What an error inside a 200 means.
    fn judge_inband(&self, error: &[u8], status: u16) -> Fault {
        let wall = self.house.clock.wall();
        let verdict = classify::inband(self.patterns(), error, wall);
        // What its twin would have been relayed as, should it be (row 24).
        let held = match verdict.outcome {
            Outcome::TooLarge => reply::twin(413, self.dialect, error),
            Outcome::ClientError | Outcome::ContentFiltered | Outcome::ContextLength => {
                reply::twin(400, self.dialect, error)
            }
            _ => None,
        };
        let held = held.map(|(head, body)| Box::new(Held::of_ours(head, body)));
        Fault::judged(&verdict, status, true, held)
    }
}

impl Stage<'_> {
    /// Puts aside what a content filter left, where another target may do better. What an answer used is
    /// counted: it is paid for, whoever answers in the end.
    pub(super) fn put_aside(&mut self, at: usize, end: &mut End) {
        let End::Failed(Fault { held, failure, .. }) = end else { return };
        let is_left = failure.outcome == Outcome::ContentFiltered && self.exchange.leaves_filtered();
        let Some(usage) = held.as_ref().filter(|_| is_left).map(|held| held.filtered) else { return };
        if let Some(usage) = usage {
            let attempt = self.exchange.records().iter().rposition(|record| record.candidate == at);
            self.story.spending.begin(at, attempt.unwrap_or_default());
            self.story.spending.say(usage);
        }
        let held = held.take();
        let is_better =
            usage.is_some() && self.filtered.as_ref().is_some_and(|known| !known.held.is_answer());
        if self.filtered.is_none() || is_better {
            *self.filtered = held.map(|held| Filtered { at, held });
        }
    }

    /// Counts what a stream used that broke, or was left, before its first content: the provider has read
    /// the prompt. Who says itself that it failed bills nothing.
    fn broke_early(&mut self, at: usize, end: &End, usage: Usage) {
        let is_billed = match end {
            End::Gone => true,
            End::Delivered => false,
            End::Failed(fault) => matches!(
                fault.failure.outcome,
                Outcome::Reset
                    | Outcome::Truncated
                    | Outcome::TimeoutFirstContent
                    | Outcome::TimeoutStall
                    | Outcome::TimeoutTotal
            ),
        };
        if is_billed && usage.input.is_some() {
            let attempt = self.exchange.records().iter().rposition(|record| record.candidate == at);
            self.story.spending.begin(at, attempt.unwrap_or_default());
            self.story.spending.say(usage);
        }
    }

    /// Waits for something of the provider's, with an eye on the client and the clock.
    fn wait<T>(
        &mut self,
        house: &House,
        limit: &Limit,
        future: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Cut>> {
        let exchange = &*self.exchange;
        let told = &mut *self.told;
        let has_alternative = |now: Tick| {
            let can_go_on =
                !exchange.is_committed() || told.as_mut().is_some_and(|told| told.bar().is_none());
            can_go_on && exchange.has_alternative(now)
        };
        self.patience.with(self.session, house, exchange.deadline(), limit, has_alternative, future)
    }
}

impl Opening<'_, '_> {
    /// Tells whether an answer that a content filter stopped is left for another target's: the operator
    /// wants that, and there is one. Of several choices the others may be good.
    fn leaves_filtered(&self) -> bool {
        if !self.aim.live.plan.retry.moves_on_content_filter || self.aim.choices > 1 || self.aim.is_rescue {
            return false;
        }
        match &self.watch {
            Watch::Stage(stage) => stage.exchange.has_alternative(self.aim.house.clock.tick()),
            Watch::Elsewhere(_) => true,
        }
    }

    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    fn wait<T>(
        &mut self,
        limit: &Limit,
        future: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Cut>> {
        async move {
            let house = self.aim.house;
            match &mut self.watch {
                Watch::Stage(stage) => stage.wait(house, limit, future).await,
                Watch::Elsewhere(patience) => patience.alone(&house.clock, limit, future).await,
            }
        }
    }

    fn first_limit(&self) -> Limit {
        match &self.watch {
            Watch::Stage(stage) => self.aim.first_limit(stage.exchange),
            Watch::Elsewhere(_) => Limit::UNWATCHED,
        }
    }

    /// Connects, asks, and begins the answer. Whoever is connected has a connection to part with, however
    /// that went.
    async fn begin(&mut self, mut errand: Box<Errand>) -> Result<Begun, Box<End>> {
        let rendering = errand.rendering.take();
        let (mut upstream, is_reused) = self.connect(errand.cause).await?;
        let asked = self.ask(&mut upstream, errand, is_reused).await;
        let drafted = asked.and_then(|()| self.draft(&upstream, rendering));
        Ok((upstream, drafted.map_err(Box::new)))
    }

    /// Sends the request and reads the head of the answer.
    async fn ask(
        &mut self,
        upstream: &mut Upstream,
        mut errand: Box<Errand>,
        is_reused: bool,
    ) -> Result<(), End> {
        let is_http2 = matches!(upstream, Upstream::H2(_));
        if is_http2 && outgoing::for_http2(&mut errand.head, self.aim.slot).is_none() {
            return Err(End::Failed(Fault::plain(Outcome::Connect)));
        }
        let limit = self.first_limit();
        let sent = {
            let sending = pin!(send(upstream, errand));
            self.wait(&limit, sending).await?
        };
        let limit = match &sent {
            Ok(()) => limit,
            // Without a request there is no stream of HTTP/2, and Pingora panics where it is read from.
            Err(Unsent::Head(error)) if is_http2 => {
                return Err(End::Failed(broken_before_head(error, is_reused)));
            }
            // The provider may have answered early and stopped reading: its answer may be there.
            Err(_) => Limit::hard(self.aim.house.clock.tick().after(EARLY_ANSWER), Outcome::Reset),
        };
        let read = {
            let reading = pin!(read_head(upstream));
            self.wait(&limit, reading).await?
        };
        match read {
            Ok(()) => Ok(()),
            Err(HeadFault::Broken(error)) => {
                let is_untouched = is_reused && !pools::was_heard(upstream);
                Err(End::Failed(broken_before_head(&error, is_untouched)))
            }
            Err(HeadFault::TooManyInterim) => {
                Err(End::Failed(Fault::plain(classify::transport(TransportFault::UnexpectedHead))))
            }
            Err(HeadFault::TooLarge) => {
                Err(End::Failed(Fault::plain(classify::transport(TransportFault::BadHead))))
            }
        }
    }

    /// Begins the answer with what its head says.
    fn draft(&mut self, upstream: &Upstream, rendering: Option<Box<Rendering>>) -> Result<Box<Answer>, End> {
        let head = upstream.response_header();
        if let Some(left) = head.and_then(|head| rate_limit::remaining(&head.headers)) {
            self.aim.slot.limits_are(left, || self.aim.house.clock.wall());
        }
        let answer = head.and_then(|head| self.aim.draft(head, rendering));
        let answer = answer.ok_or_else(|| End::Failed(Fault::plain(Outcome::Reset)))?;
        if let Watch::Stage(stage) = &mut self.watch {
            stage.exchange.answered(answer.status);
        }
        Ok(answer)
    }

    /// Holds an answer until it is fit to go downstream. A stream leaves its reader behind.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    fn hold(
        &mut self,
        incoming: &mut Incoming<'_>,
        answer: &mut Answer,
        reader: &mut Option<StreamReader>,
    ) -> impl Future<Output = Result<(), End>> {
        async move {
            if !(200..300).contains(&answer.status) {
                return Err(self.refused(incoming, answer).await);
            }
            if answer.is_encoded {
                return Err(End::Failed(Fault::after_head(Outcome::BadBody, answer.status)));
            }
            if answer.is_event_stream {
                let reader =
                    reader.insert(StreamReader::new(self.aim.dialect).with_choices(self.aim.choices));
                // What is taken up began long ago.
                return if self.aim.is_rescue { Ok(()) } else { self.stream(incoming, answer, reader).await };
            }
            if self.aim.is_rescue {
                return Err(End::Failed(Fault::after_head(Outcome::BadBody, answer.status)));
            }
            self.whole(incoming, answer).await
        }
    }
}

/// Until the first content of a stream, or the whole of another answer.
pub(super) fn first_span(timeouts: &Timeouts, wants_stream: bool, wants_reasoning: bool) -> Duration {
    match (wants_stream, wants_reasoning) {
        (false, _) => timeouts.response,
        (true, false) => timeouts.first_content,
        (true, true) => timeouts.first_content_reasoning,
    }
}

/// Tells whether an answer in a dialect that is streamed comes in pieces. A bridge's comes as a whole
/// all the same, and may take as long as one.
pub(super) fn comes_in_pieces(dialect: Dialect) -> bool {
    Framing::of(dialect) != Framing::Whole
}

/// How far a request came that could not be sent.
enum Unsent {
    Head(Box<pingora::Error>),
    Body,
}

async fn send(upstream: &mut Upstream, mut errand: Box<Errand>) -> Result<(), Unsent> {
    pools::hold_back(upstream);
    upstream.write_request_header(errand.head).await.map_err(Unsent::Head)?;
    let pieces = &mut errand.body.pieces;
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.iter_mut().enumerate() {
        let piece = std::mem::take(piece);
        upstream.write_request_body(piece, at == last).await.map_err(|_| Unsent::Body)?;
    }
    pools::let_go(upstream);
    upstream.finish_request_body().await.map_err(|_| Unsent::Body)
}

enum HeadFault {
    Broken(Box<pingora::Error>),
    TooManyInterim,
    TooLarge,
}

async fn read_head(upstream: &mut Upstream) -> Result<(), HeadFault> {
    for _ in 0..=MAX_INTERIM {
        upstream.read_response_header().await.map_err(HeadFault::Broken)?;
        let is_interim =
            upstream.response_header().is_some_and(|h| h.status.is_informational() && h.status != 101);
        if upstream
            .response_header()
            .is_some_and(|head| framing::length(&head.headers) > framing::ANSWER_HEAD_MAX)
        {
            return Err(HeadFault::TooLarge);
        }
        if !is_interim {
            return Ok(());
        }
    }
    Err(HeadFault::TooManyInterim)
}

/// A connection that broke before the head: dead on arrival where it was a kept one on which nothing came
/// back (row 19), refused by HTTP/2's own word (row 20), or lost on the way (row 21).
fn broken_before_head(error: &pingora::Error, is_untouched: bool) -> Fault {
    let transport = match error.etype() {
        ErrorType::H2Downgrade => TransportFault::NotProcessed,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => TransportFault::BadHead,
        _ => match error.root_cause().downcast_ref::<h2::Error>().and_then(word_of_http2) {
            Some(word) => word,
            None if is_untouched => TransportFault::StaleConnection,
            None => TransportFault::ResetBeforeHead,
        },
    };
    let mut fault = Fault::plain(classify::transport(transport));
    fault.failure.hint = classify::transport_hint(transport);
    fault.failure.is_stale = transport == TransportFault::StaleConnection;
    fault.failure.is_disowned = matches!(transport, TransportFault::NotProcessed | TransportFault::Calm);
    fault
}

/// What the provider's HTTP/2 said of a stream. A GOAWAY ends none but those above its last id,
/// which it did not touch, whatever its code (RFC 9113 section 6.8).
fn word_of_http2(error: &h2::Error) -> Option<TransportFault> {
    let reason = error.reason().filter(|_| error.is_remote())?;
    match reason {
        h2::Reason::ENHANCE_YOUR_CALM if error.is_go_away() => Some(TransportFault::Calm),
        _ if error.is_go_away() => Some(TransportFault::NotProcessed),
        h2::Reason::REFUSED_STREAM => Some(TransportFault::NotProcessed),
        // A connection on which it still speaks is not dead.
        _ => Some(TransportFault::ResetBeforeHead),
    }
}
