//! What goes downstream: a stream from its first content on, and an answer too long to be held.
//!
//! [`Attempt::commit`] is the point of no return. Behind it bytes go on as they come, whole events
//! at a time.

use super::{Answer, Attempt, End, Fault};
use crate::base::outcome::Outcome;
use crate::classify;
use crate::proxy::incoming::Incoming;
use crate::proxy::patience::{Cut, Limit, Patience};
use crate::proxy::reply::{self, Framing};
use crate::proxy::telling::Telling;
use crate::wire::StreamReader;
use bytes::Bytes;
use smallvec::SmallVec;
use std::pin::pin;
use std::time::Duration;

/// Longest opening of a stream that is held for its first content.
const HELD_STREAM: usize = 64 * 1024;
/// How long a provider may keep the connection open behind the end of its stream.
const AFTER_COMPLETE: Duration = Duration::from_secs(2);

impl Attempt<'_> {
    /// Delivers an answer that is too long to be held: from here on it is committed.
    pub(super) async fn pour(
        &mut self,
        incoming: &mut Incoming<'_>,
        answer: Answer,
        held: SmallVec<[Bytes; 4]>,
    ) -> End {
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
    pub(super) async fn stream(&mut self, incoming: &mut Incoming<'_>, answer: Answer) -> End {
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
            let read = match self.read_on(incoming, limit).await {
                Ok(read) => read,
                Err(Cut::Gone) => return End::Gone,
                Err(Cut::Late(_)) if reader.is_complete() => Ok(None),
                Err(Cut::Late(outcome)) => return End::Failed(Fault::after_head(outcome, status)),
            };
            let is_clean_end = matches!(read, Ok(None));
            let has_ended = !matches!(read, Ok(Some(_)));
            let pushed = if let Ok(Some(chunk)) = read { reader.push(chunk) } else { reader.finish() };
            let (mut pieces, content_began, fault) = (pushed.release, pushed.content_began, pushed.fault);
            self.story.usage = reader.usage();
            let mut untold = None;
            if let Some(rendering) = &mut self.rendering {
                let is_last = has_ended && fault.is_none() && reader.is_complete();
                let rendered = rendering.feed(&pieces, is_last);
                self.story.next_sequence = rendering.next_sequence();
                (pieces, untold) = (rendered.pieces, rendered.fault.filter(|_| fault.is_none()));
            }
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
            if let Some(outcome) = untold {
                return End::Failed(Fault::after_head(outcome, status));
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

    /// Reads the next piece of the stream; what waits to be told goes out meanwhile.
    async fn read_on(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: Limit,
    ) -> Result<pingora::Result<Option<Bytes>>, Cut> {
        if self.told.as_ref().and_then(Telling::next_due).is_some() {
            // On the heap: streams that hold nothing back should not carry its timers.
            return Box::pin(self.read_holding(incoming, limit)).await;
        }
        self.read(incoming, limit).await
    }

    async fn read_holding(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: Limit,
    ) -> Result<pingora::Result<Option<Bytes>>, Cut> {
        let clock = &self.house.clock;
        let mut reading = pin!(incoming.next());
        while let Some(due) = self.told.as_ref().and_then(Telling::next_due) {
            let mut timer = Patience::default();
            let either = pin!(async {
                tokio::select! {
                    biased;
                    read = &mut reading => Some(read),
                    () = timer.pass(clock, due) => None,
                }
            });
            if let Some(read) = self.wait(limit, either).await? {
                return Ok(read);
            }
            let due = self.told.as_mut().and_then(|telling| telling.due(clock.tick()));
            if let Some(events) = due
                && self.session.write_response_body(Some(events), false).await.is_err()
            {
                return Err(Cut::Gone);
            }
        }
        self.wait(limit, reading).await
    }

    async fn forward(&mut self, pieces: SmallVec<[Bytes; 2]>) -> Result<(), End> {
        for piece in pieces {
            let Some(splice) = &mut self.splice else {
                self.pass(piece).await?;
                continue;
            };
            let spliced = splice.push(&piece);
            let has_spoken = !spliced.release.is_empty() || spliced.diverged;
            if has_spoken && let Some(telling) = self.told.as_mut() {
                telling.forget();
            }
            for event in spliced.release {
                self.pass(event).await?;
            }
            if spliced.diverged {
                return Err(End::Failed(Fault::plain(Outcome::Ok)));
            }
        }
        Ok(())
    }

    /// Sends on what need not wait.
    async fn pass(&mut self, events: Bytes) -> Result<(), End> {
        let events = match self.told.as_mut() {
            Some(telling) => telling.pass(events, &self.house.clock),
            None => Some(events),
        };
        if events.is_some() && self.session.write_response_body(events, false).await.is_err() {
            return Err(End::Gone);
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
        if let Some(rest) = self.told.as_mut().and_then(Telling::release)
            && self.session.write_response_body(Some(rest), false).await.is_err()
        {
            return End::Gone;
        }
        match self.session.write_response_body(None, true).await {
            Ok(()) => End::Delivered,
            Err(_) => End::Gone,
        }
    }

    /// The point of no return: the head and everything held go downstream in one write.
    pub(super) async fn commit(
        &mut self,
        mut answer: Answer,
        framing: Framing,
        mut held: SmallVec<[Bytes; 4]>,
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
            held = told.pass_all(held, &self.house.clock);
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
