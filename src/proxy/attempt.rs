//! One try at one target: connect, send, judge, hold, stream.
//!
//! Nothing goes downstream before it is judged: a refusal or an error inside a 200 must still be
//! able to become somebody else's answer. An answer that is not streamed is held until it is whole
//! (up to [`HELD_ANSWER`]; completions arrive in one piece, so this costs no time); a stream is
//! held until its first content event. From then on bytes are forwarded as they come, whole events
//! at a time, so that whatever ends the stream early never ends it inside an event.
//!
//! A refusing answer is read to its end within bounds and its connection kept: the next failover
//! then costs no handshake.

use super::incoming::{Incoming, Packing};
use super::outgoing;
use super::patience::{Cut, Limit, Patience};
use super::reply::{self, Framing, Head};
use super::story::Story;
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::classify::{self, TransportFault, Verdict};
use crate::config::plan::{Pattern, Timeouts};
use crate::exchange::rules::{self, Onward};
use crate::exchange::{Cause, Exchange, Failure};
use crate::health::Permit;
use crate::live::keyring::Signature;
use crate::live::{House, Live, Slot};
use crate::rewrite::Rewritten;
use crate::wire::splice::Splice;
use crate::wire::transcript::Transcript;
use crate::wire::{StreamReader, answer};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession as Upstream;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{ErrorType, RetryType};
use pingora_proxy::Session;
use smallvec::SmallVec;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// Longest answer that is held until it is whole (failure table, *Commit point*).
const HELD_ANSWER: usize = 1024 * 1024;
/// Longest opening of a stream that is held for its first content.
const HELD_STREAM: usize = 64 * 1024;
/// Most of a refusing answer's body that is read and judged.
const REFUSAL_BODY: usize = 64 * 1024;
/// Longest text under a 200 that is read as an error; longer ones are somebody's answer.
const WORDS_MAX: usize = 2048;
/// How long a refusing answer's body may take; its status is known and a client waits.
const REFUSAL_TIME: Duration = Duration::from_millis(1500);
/// How long a provider may keep the connection open behind the end of its stream.
const AFTER_COMPLETE: Duration = Duration::from_secs(2);
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
    pub(super) told: &'a mut Option<Transcript>,
    /// Set where this attempt takes up a broken stream.
    pub(super) splice: Option<Splice>,
    /// How many choices were asked for.
    pub(super) choices: u32,
}

impl Fault {
    fn plain(outcome: Outcome) -> Self {
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

    async fn connect(&mut self, cause: Cause) -> Result<(Arc<HttpPeer>, Upstream, bool), End> {
        let slot = self.slot();
        let longest = self.timeouts.connect.saturating_mul(2) + Duration::from_secs(3);
        let hard = Limit::hard(self.began.after(longest), Outcome::Connect);
        let mut peer = if let Some(peer) = slot.ready_peer() {
            Arc::clone(peer)
        } else {
            let picking = pin!(slot.addresses.pick(self.began));
            let picked = self.wait(hard, picking).await?;
            match picked {
                Ok(address) => slot.peer_at(address),
                Err(_) => return Err(End::Failed(Fault::plain(classify::transport(TransportFault::Dns)))),
            }
        };
        self.fit(&mut peer, cause);
        let first = self.get_session(&peer, hard, cause).await?;
        let error = match first {
            Ok((upstream, is_reused)) => return Ok((peer, upstream, is_reused)),
            Err(error) => error,
        };
        let transport = connect_fault(&error);
        let outcome = classify::transport(transport);
        let other = peer_address(&peer).and_then(|a| slot.addresses.refused(a, self.house.clock.tick()));
        if outcome == Outcome::Connect
            && let Some(address) = other
        {
            peer = slot.peer_at(address);
            self.fit(&mut peer, cause);
            if let Ok((upstream, is_reused)) = self.get_session(&peer, hard, cause).await? {
                return Ok((peer, upstream, is_reused));
            }
        }
        tracing::debug!(target = %slot.target.id, fault = error.etype().as_str(), "no connection");
        let mut fault = Fault::plain(outcome);
        fault.failure.timed_out = transport == TransportFault::ConnectTimeout;
        Err(End::Failed(fault))
    }

    /// Fits a peer to this attempt: a route may have a connect limit of its own, and a resend wants
    /// a connection of its own (the pool may hold more that died with the first).
    fn fit(&self, peer: &mut Arc<HttpPeer>, cause: Cause) {
        let connect = Some(self.timeouts.connect);
        if cause != Cause::Resend && peer.options.total_connection_timeout == connect {
            return;
        }
        let own = Arc::make_mut(peer);
        own.options.connection_timeout = connect;
        own.options.total_connection_timeout = connect;
        if cause == Cause::Resend {
            own.group_key = fresh_key(self.began);
        }
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

    async fn get_session(
        &mut self,
        peer: &HttpPeer,
        limit: Limit,
        cause: Cause,
    ) -> Result<pingora::Result<(Upstream, bool)>, End> {
        let house = self.house;
        if cause != Cause::Resend
            && let Some(kept) = house.pools.kept(peer).await
        {
            return Ok(Ok((kept, true)));
        }
        // On the heap: see `pools`.
        let mut opening = Box::pin(house.pools.open(peer));
        Ok(self.wait(limit, opening.as_mut()).await?)
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

    /// Takes from the provider's head what is needed of it, in one pass.
    fn draft(&self, head: &ResponseHeader) -> Option<Answer> {
        let packing = Packing::of(&head.headers);
        let mut own =
            reply::draft(head.status, &head.headers, self.drops_rate_limits, self.signature.keys()).ok()?;
        if packing.is_some() {
            own.headers.remove(header::CONTENT_ENCODING);
            own.headers.remove(header::ETAG);
        }
        Some(Answer {
            status: head.status.as_u16(),
            is_event_stream: is_event_stream(&head.headers),
            is_encoded: packing.is_none() && is_encoded(&head.headers),
            length: content_length(&head.headers).filter(|_| packing.is_none()),
            packing,
            head: own,
        })
    }

    /// Reads a refusing answer's body within bounds and judges it.
    async fn refused(&mut self, incoming: &mut Incoming<'_>, answer: Answer) -> End {
        let limit = Limit::hard(self.house.clock.tick().after(REFUSAL_TIME), Outcome::Truncated);
        let mut body = BytesMut::new();
        while body.len() < REFUSAL_BODY {
            match self.read(incoming, limit).await {
                Ok(Ok(Some(piece))) => {
                    let room = REFUSAL_BODY - body.len();
                    body.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Err(Cut::Gone) => return End::Gone,
                // The status says enough; what there is of the body is judged.
                Ok(Ok(None) | Err(_)) | Err(Cut::Late(_)) => break,
            }
        }
        let body = body.freeze();
        let slot = &self.slots[self.at];
        let none = HeaderMap::new();
        let headers = incoming.headers().unwrap_or(&none);
        let wall = self.house.clock.wall();
        let verdict = classify::response(slot.kind, self.patterns(), answer.status, headers, &body, wall);
        // What cannot be read may hold our key: it is not passed on.
        let held = (!answer.is_encoded).then_some(Held { head: answer.head, body });
        End::Failed(Fault::judged(&verdict, answer.status, false, held))
    }

    /// Holds an answer that is not streamed until it is whole, judges it and delivers it.
    async fn whole(&mut self, incoming: &mut Incoming<'_>, answer: Answer) -> End {
        let limit = self.first_limit();
        let Answer { status, length: announced, .. } = answer;
        let mut pieces: SmallVec<[Bytes; 4]> = SmallVec::new();
        let mut length = 0;
        loop {
            let read = match self.read(incoming, limit).await {
                Ok(read) => read,
                Err(Cut::Gone) => return End::Gone,
                Err(Cut::Late(outcome)) => return End::Failed(Fault::after_head(outcome, status)),
            };
            match read {
                Ok(Some(piece)) => {
                    length += piece.len();
                    pieces.push(piece);
                    if length > HELD_ANSWER {
                        return self.pour(incoming, answer, pieces).await;
                    }
                }
                Ok(None) => break,
                Err(_) => return End::Failed(Fault::after_head(Outcome::Truncated, status)),
            }
        }
        if announced.is_some_and(|announced| announced != length as u64) {
            return End::Failed(Fault::after_head(Outcome::Truncated, status));
        }
        let body = join(pieces);
        if let Err(fault) = self.judge(&body) {
            return End::Failed(Fault { held: Some(Held { head: answer.head, body }), ..*fault });
        }
        let length = Framing::Length(body.len() as u64);
        match self.commit(answer, length, SmallVec::from_iter([body]), true).await {
            Ok(()) => End::Delivered,
            Err(end) => end,
        }
    }

    fn judge(&mut self, body: &Bytes) -> Result<(), Box<Fault>> {
        let slot = &self.slots[self.at];
        let wall = self.house.clock.wall();
        match answer::read(self.dialect, body) {
            Ok(answer) => {
                self.story.usage = answer.usage;
                Ok(())
            }
            Err(answer::AnswerFault::NotJson) if is_in_words(body) => {
                let none = HeaderMap::new();
                let verdict = classify::response(slot.kind, self.patterns(), 200, &none, body, wall);
                // Words that would be the client's own fault are no answer to pass on as a 200.
                let onward = rules::rule(verdict.outcome, Some(200), true).onward;
                let fault = match onward {
                    Onward::Next => Fault::judged(&verdict, 200, true, None),
                    Onward::NextLarger | Onward::NextOrRelay | Onward::Relay | Onward::Stop => {
                        Fault::after_head(Outcome::BadBody, 200)
                    }
                };
                Err(Box::new(fault))
            }
            Err(answer::AnswerFault::Empty | answer::AnswerFault::NotJson) => {
                Err(Box::new(Fault::after_head(Outcome::BadBody, 200)))
            }
            Err(answer::AnswerFault::Error(error)) => {
                let error = body.get(error).unwrap_or_default();
                let verdict = classify::inband(slot.kind, self.dialect, self.patterns(), error, wall);
                Err(Box::new(Fault::judged(&verdict, 200, true, None)))
            }
        }
    }

    /// Delivers an answer that is too long to be held: from here on it is committed.
    async fn pour(&mut self, incoming: &mut Incoming<'_>, answer: Answer, held: SmallVec<[Bytes; 4]>) -> End {
        let status = answer.status;
        let framing = answer.length.map_or(Framing::Chunked, Framing::Length);
        if let Err(end) = self.commit(answer, framing, held, false).await {
            return end;
        }
        loop {
            let limit = self.stall_limit();
            match self.read(incoming, limit).await {
                Ok(Ok(Some(piece))) => {
                    if self.session.write_response_body(Some(piece), false).await.is_err() {
                        return End::Gone;
                    }
                }
                Ok(Ok(None)) => return self.finish().await,
                Ok(Err(_)) => return End::Failed(Fault::after_head(Outcome::Truncated, status)),
                Err(Cut::Gone) => return End::Gone,
                Err(Cut::Late(outcome)) => return End::Failed(Fault::after_head(outcome, status)),
            }
        }
    }

    /// Holds a stream until its first content, then forwards it as it comes.
    async fn stream(&mut self, incoming: &mut Incoming<'_>, answer: Answer) -> End {
        self.story.is_stream = true;
        let status = answer.status;
        let mut answer = Some(answer);
        let mut reader = StreamReader::new(self.dialect).with_choices(self.choices);
        let mut held: SmallVec<[Bytes; 4]> = SmallVec::new();
        let mut held_length = 0;
        if self.splice.is_some() {
            answer = None;
        }
        // The head is there until it goes downstream; what is taken up has sent its own long ago.
        let mut is_committed = answer.is_none();
        if is_committed && let Err(end) = self.name_the_seam().await {
            return end;
        }
        loop {
            let is_awaited = !reader.has_content() && self.splice.is_some();
            let limit =
                if is_committed && !is_awaited { self.stream_limit(&reader) } else { self.first_limit() };
            let read = match self.read(incoming, limit).await {
                Ok(read) => read,
                Err(Cut::Gone) => return End::Gone,
                Err(Cut::Late(_)) if reader.is_complete() => Ok(None),
                Err(Cut::Late(outcome)) => return End::Failed(Fault::after_head(outcome, status)),
            };
            let is_clean_end = matches!(read, Ok(None));
            let has_ended = !matches!(read, Ok(Some(_)));
            let pushed = if let Ok(Some(chunk)) = read { reader.push(chunk) } else { reader.finish() };
            let (pieces, content_began, fault) = (pushed.release, pushed.content_began, pushed.fault);
            self.story.usage = reader.usage();
            if is_committed {
                if let Err(end) = self.forward(pieces).await {
                    return end;
                }
            } else {
                held_length += pieces.iter().map(Bytes::len).sum::<usize>();
                held.extend(pieces);
                let is_whole = has_ended && fault.is_none() && reader.is_complete();
                let is_due = content_began || held_length > HELD_STREAM || is_whole;
                if is_due && let Some(answer) = answer.take() {
                    let first = std::mem::take(&mut held);
                    if let Err(end) = self.commit(answer, Framing::Chunked, first, false).await {
                        return end;
                    }
                    is_committed = true;
                }
            }
            if let Some(fault) = fault {
                let slot = &self.slots[self.at];
                let wall = self.house.clock.wall();
                let verdict = classify::inband(slot.kind, self.dialect, self.patterns(), &fault.body, wall);
                return End::Failed(Fault::judged(&verdict, status, true, None));
            }
            if has_ended {
                if reader.is_complete() {
                    return self.finish().await;
                }
                let is_empty = is_clean_end && !reader.has_event();
                let outcome = if is_empty { Outcome::BadBody } else { Outcome::Truncated };
                return End::Failed(Fault::after_head(outcome, status));
            }
        }
    }

    async fn forward(&mut self, pieces: SmallVec<[Bytes; 2]>) -> Result<(), End> {
        for piece in pieces {
            if let Some(mut splice) = self.splice.take() {
                let spliced = splice.push(&piece);
                self.splice = Some(splice);
                self.send(spliced.release).await?;
                if spliced.diverged {
                    return Err(End::Failed(Fault::plain(Outcome::Ok)));
                }
                continue;
            }
            if let Some(told) = self.told.as_mut() {
                told.keep(&piece);
            }
            if self.session.write_response_body(Some(piece), false).await.is_err() {
                return Err(End::Gone);
            }
        }
        Ok(())
    }

    /// Sends spliced events, and keeps them as told.
    async fn send(&mut self, pieces: SmallVec<[Bytes; 4]>) -> Result<(), End> {
        for piece in pieces {
            if let Some(told) = self.told.as_mut() {
                told.keep(&piece);
            }
            if self.session.write_response_body(Some(piece), false).await.is_err() {
                return Err(End::Gone);
            }
        }
        Ok(())
    }

    /// A comment line that tells whoever reads the raw stream where another target took over.
    async fn name_the_seam(&mut self) -> Result<(), End> {
        let slot = &self.slots[self.at];
        let comment = format!(": pointsman: {} goes on\n\n", slot.provider);
        let written = self.session.write_response_body(Some(Bytes::from(comment)), false).await;
        written.map_err(|_| End::Gone)
    }

    async fn finish(&mut self) -> End {
        match self.session.write_response_body(None, true).await {
            Ok(()) => End::Delivered,
            Err(_) => End::Gone,
        }
    }

    /// The point of no return: the head and everything held go downstream in one write.
    async fn commit(
        &mut self,
        mut answer: Answer,
        framing: Framing,
        held: SmallVec<[Bytes; 4]>,
        is_whole: bool,
    ) -> Result<(), End> {
        let now = self.house.clock.tick();
        self.exchange.commit(now);
        self.exchange.rescuable(self.told.is_some());
        self.slots[self.at].health.content_began(self.permit, now, &self.live.policy);
        self.tell();
        if reply::complete(&mut answer.head, framing, self.story).is_err() {
            return Err(End::Failed(Fault::after_head(Outcome::BadBody, answer.status)));
        }
        self.story.answered(answer.status);
        if let Some(told) = self.told.as_mut() {
            held.iter().for_each(|piece| told.keep(piece));
        }
        let opened = reply::open(self.session, answer.head, held, is_whole).await;
        opened.map_err(|reply::Unwritable| End::Gone)
    }

    fn tell(&mut self) {
        let records = self.exchange.records();
        self.story.tell(self.house, self.slots, records, Some(self.at));
    }

    /// Silence is borne for `stall` while the stream could be taken up elsewhere, else for
    /// `stall_last`.
    fn stall_limit(&self) -> Limit {
        let now = self.house.clock.tick();
        Limit {
            soft: now.after(self.timeouts.stall),
            outcome: Outcome::TimeoutStall,
            is_hard: false,
            last: Some(now.after(self.timeouts.stall_last)),
        }
    }

    fn stream_limit(&self, reader: &StreamReader) -> Limit {
        if reader.is_complete() {
            return Limit::hard(self.house.clock.tick().after(AFTER_COMPLETE), Outcome::TimeoutStall);
        }
        self.stall_limit()
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

fn connect_fault(error: &pingora::Error) -> TransportFault {
    match error.etype() {
        ErrorType::TLSWantX509Lookup
        | ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => TransportFault::Tls,
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => TransportFault::ConnectTimeout,
        _ => TransportFault::Connect,
    }
}

fn peer_address(peer: &HttpPeer) -> Option<std::net::SocketAddr> {
    peer.address().as_inet().copied()
}

/// A pool key that nothing else has.
fn fresh_key(now: Tick) -> u64 {
    now.0 | (1 << 63)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

/// Packed in a way that [`Incoming`] does not undo: it cannot be judged, and so is no answer.
fn is_encoded(headers: &HeaderMap) -> bool {
    let is_plain = |value: &[u8]| value.is_empty() || value.eq_ignore_ascii_case(b"identity");
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !is_plain(value.as_bytes().trim_ascii()))
}

/// Tells whether a body that is not JSON may be an error in words: a page, or a short text. Broken
/// JSON is none, as what stands in it may be the model's.
fn is_in_words(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    match text.first() {
        None | Some(b'{' | b'[') => false,
        Some(b'<') => true,
        Some(_) => text.len() <= WORDS_MAX,
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value: &HeaderValue| value.to_str().ok()?.trim().parse().ok())
}

fn join(mut pieces: SmallVec<[Bytes; 4]>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}
