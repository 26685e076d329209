//! What goes downstream: an answer from its first byte on.
//!
//! [`Delivery::commit`] is the point of no return. Behind it bytes go on as they come, of a stream
//! whole events at a time.
//!
//! Silence is borne for `stall`, and a stream of nothing but pings and comments for [`ONLY_PINGS`]
//! (row 28): each byte shows that the provider's end is alive, but only events show that it works.

use super::hold::taken;
use super::{Aim, Answer, End, Fault, Mark, Stage};
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::base::time::Tick;
use crate::config::plan::Timeouts;
use crate::health::Permit;
use crate::proxy::carried::Rendering;
use crate::proxy::downstream;
use crate::proxy::incoming::Incoming;
use crate::proxy::patience::{Cut, Limit, Patience};
use crate::proxy::reply::{self, Framing};
use crate::proxy::telling::Telling;
use crate::wire::StreamReader;
use crate::wire::splice::Splice;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use smallvec::SmallVec;
use std::pin::pin;
use std::time::Duration;

/// How long a provider may keep the connection open behind the end of its stream.
pub(super) const AFTER_COMPLETE: Duration = Duration::from_secs(2);

/// How long a stream of nothing but pings is borne (row 28); a longer `stall` is the operator's word.
const ONLY_PINGS: Duration = Duration::from_secs(300);

/// The second half of an attempt.
pub(super) struct Delivery<'a, 's> {
    pub(super) aim: &'a Aim<'a>,
    pub(super) stage: &'a mut Stage<'s>,
    pub(super) permit: &'a mut Permit,
    /// Set where this attempt takes up a broken stream.
    pub(super) splice: &'a mut Option<Box<Splice>>,
}

impl Delivery<'_, '_> {
    /// Delivers an answer; a stream with its reader.
    pub(super) async fn run(
        &mut self,
        incoming: &mut Incoming<'_>,
        mut answer: Box<Answer>,
        reader: Option<&mut StreamReader>,
    ) -> End {
        if let Some(reader) = reader {
            return self.stream(incoming, answer, reader).await;
        }
        if !answer.is_whole {
            return self.pour(incoming, answer).await;
        }
        self.spend();
        self.stage.story.spending.say(answer.usage);
        let length = answer.held.iter().map(Bytes::len).sum::<usize>();
        match self.commit(&mut answer, Framing::Length(length as u64)).await {
            Ok(()) => End::Delivered,
            Err(end) => end,
        }
    }

    /// Has what follows counted as this attempt's: the one that delivers is the last.
    fn spend(&mut self) {
        let attempt = self.stage.exchange.records().len().saturating_sub(1);
        self.stage.story.spending.begin(self.aim.at, attempt);
    }

    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while a stream is open")]
    fn read(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: &Limit,
    ) -> impl Future<Output = Result<pingora::Result<Option<Bytes>>, Cut>> {
        async move {
            let reading = pin!(incoming.next());
            self.stage.wait(self.aim.house, limit, reading).await
        }
    }

    /// Delivers an answer that is too long to be held: from here on it is committed.
    async fn pour(&mut self, incoming: &mut Incoming<'_>, mut answer: Box<Answer>) -> End {
        let (status, ends_anyhow) = (answer.status, answer.ends_anyhow);
        let framing = match answer.length {
            Some(length) => Framing::Length(length),
            None => Framing::endless(self.stage.session),
        };
        if let Err(end) = self.commit(&mut answer, framing).await {
            return end;
        }
        drop(answer);
        loop {
            let now = self.aim.house.clock.tick();
            let limit = stall_limit(self.aim.timeouts, now, now);
            match self.read(incoming, &limit).await {
                Ok(Ok(Some(piece))) => {
                    if downstream::write(self.stage.session, piece).await.is_err() {
                        return End::Gone;
                    }
                }
                Ok(Ok(None)) if !ends_anyhow => return self.finish().await,
                Ok(Ok(None) | Err(_)) => return End::Failed(Fault::after_head(Outcome::Truncated, status)),
                Err(Cut::Gone) => return End::Gone,
                Err(Cut::Late(outcome)) => return End::Failed(Fault::after_head(outcome, status)),
            }
        }
    }

    /// Forwards a stream as it comes.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    fn stream(
        &mut self,
        incoming: &mut Incoming<'_>,
        mut answer: Box<Answer>,
        reader: &mut StreamReader,
    ) -> impl Future<Output = End> {
        async move {
            self.stage.story.is_stream = true;
            self.spend();
            self.stage.story.spending.say(reader.usage());
            if let Err(end) = self.begin_stream(&mut answer).await {
                return end;
            }
            let (status, mark, mut rendering) = answer.into_rest();
            if let Some(end) = self.settle(mark, rendering.as_deref(), reader, status).await {
                return end;
            }
            // When an event last came that was more than a ping.
            let mut heard = self.aim.house.clock.tick();
            let mut is_ping = false;
            loop {
                let is_awaited = !reader.has_content() && self.splice.is_some();
                let limit = if is_awaited {
                    self.aim.first_limit(self.stage.exchange)
                } else {
                    self.stream_limit(reader, &mut heard, is_ping)
                };
                let read = match self.read_on(incoming, &limit).await {
                    Ok(read) => read,
                    Err(Cut::Gone) => return End::Gone,
                    Err(Cut::Late(_)) if reader.is_complete() => Ok(None),
                    Err(Cut::Late(outcome)) => return End::Failed(Fault::after_head(outcome, status)),
                };
                let (pieces, mark);
                (is_ping, pieces, mark) = take(reader, rendering.as_deref_mut(), read);
                // Before it is sent on: who leaves meanwhile has used it all the same.
                self.stage.story.spending.say(reader.usage());
                if let Err(end) = self.forward(pieces, status).await {
                    return end;
                }
                if let Some(end) = self.settle(mark, rendering.as_deref(), reader, status).await {
                    return end;
                }
            }
        }
    }

    /// Looks at what a piece came to that has been sent on, and returns how the stream ended with it. The
    /// mark is kept no longer: most of the time a stream waits.
    async fn settle(
        &mut self,
        mark: Mark,
        rendering: Option<&Rendering>,
        reader: &StreamReader,
        status: u16,
    ) -> Option<End> {
        self.stage.story.next_sequence = self.next_sequence(rendering, reader);
        match self.aim.broken_off(&mark, reader, status) {
            Some(end) => Some(end),
            None if mark.has_ended => Some(self.finish().await),
            None => None,
        }
    }

    /// Sends the head and what was held of a stream.
    async fn begin_stream(&mut self, answer: &mut Answer) -> Result<(), End> {
        if self.splice.is_some() {
            // What is taken up has sent its head long ago.
            return self.name_the_seam().await;
        }
        let framing = Framing::endless(self.stage.session);
        self.commit(answer, framing).await?;
        downstream::forget_fields(self.stage.session);
        Ok(())
    }

    /// Returns the number of the client's next event, where its dialect counts them.
    fn next_sequence(&self, rendering: Option<&Rendering>, reader: &StreamReader) -> u64 {
        match (&*self.splice, rendering) {
            (Some(splice), _) => splice.next_sequence(),
            (None, Some(rendering)) => rendering.next_sequence(),
            (None, None) => reader.next_sequence(),
        }
    }

    /// Reads the next piece of the stream; what waits to be told goes out meanwhile.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while a stream is open")]
    fn read_on(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: &Limit,
    ) -> impl Future<Output = Result<pingora::Result<Option<Bytes>>, Cut>> {
        async move {
            if self.stage.told.as_ref().and_then(Telling::next_due).is_some() {
                // On the heap: streams that hold nothing back should not carry its timers.
                return Box::pin(self.read_holding(incoming, limit)).await;
            }
            self.read(incoming, limit).await
        }
    }

    async fn read_holding(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: &Limit,
    ) -> Result<pingora::Result<Option<Bytes>>, Cut> {
        let clock = &self.aim.house.clock;
        let mut reading = pin!(incoming.next());
        while let Some(due) = self.stage.told.as_ref().and_then(Telling::next_due) {
            let mut timer = Patience::default();
            let either = pin!(async {
                tokio::select! {
                    biased;
                    read = &mut reading => Some(read),
                    () = timer.pass(clock, due) => None,
                }
            });
            if let Some(read) = self.stage.wait(self.aim.house, limit, either).await? {
                return Ok(read);
            }
            let due = self.stage.told.as_mut().and_then(|telling| telling.due(clock.tick()));
            if let Some(events) = due
                && downstream::write(self.stage.session, events).await.is_err()
            {
                return Err(Cut::Gone);
            }
        }
        self.stage.wait(self.aim.house, limit, reading).await
    }

    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while a stream is open")]
    fn forward(
        &mut self,
        pieces: SmallVec<[Bytes; 2]>,
        status: u16,
    ) -> impl Future<Output = Result<(), End>> {
        let mut pieces = pieces.into_iter();
        async move {
            loop {
                let Some(piece) = pieces.next() else { return Ok(()) };
                if self.splice.is_some() {
                    // On the heap: few streams are taken up, and the others should not carry the wait along.
                    Box::pin(self.forward_spliced(piece, status)).await?;
                } else {
                    self.pass(piece).await?;
                }
            }
        }
    }

    /// Sends on what of a piece goes on from what was told.
    async fn forward_spliced(&mut self, piece: Bytes, status: u16) -> Result<(), End> {
        let Some(spliced) = self.splice.as_mut().map(|splice| splice.push(&piece)) else { return Ok(()) };
        let has_spoken = !spliced.release.is_empty() || spliced.diverged;
        if has_spoken && let Some(telling) = self.stage.told.as_mut() {
            telling.forget();
        }
        for event in spliced.release {
            self.pass(event).await?;
        }
        // With its status: without one its connection, with all other streams on it, would be given up.
        if spliced.diverged { Err(End::Failed(Fault::after_head(Outcome::Ok, status))) } else { Ok(()) }
    }

    /// Sends on what need not wait.
    fn pass(&mut self, events: Bytes) -> impl Future<Output = Result<(), End>> {
        let events = match self.stage.told.as_mut() {
            Some(telling) => telling.pass(events, &self.aim.house.clock).unwrap_or_default(),
            None => events,
        };
        async move { downstream::write(self.stage.session, events).await.map_err(End::from) }
    }

    /// A comment line that tells whoever reads the raw stream where another target took over. Google's
    /// own clients read every line that is not empty as JSON: they are told nothing.
    async fn name_the_seam(&mut self) -> Result<(), End> {
        let slot = self.aim.slot;
        if self.splice.as_ref().is_some_and(|splice| splice.dialect() == Dialect::GeminiGenerate) {
            return Ok(());
        }
        let comment = format!(": pointsman: {} goes on\n\n", slot.provider);
        downstream::write(self.stage.session, Bytes::from(comment)).await.map_err(End::from)
    }

    async fn finish(&mut self) -> End {
        if let Some(rest) = self.stage.told.as_mut().and_then(Telling::release)
            && downstream::write(self.stage.session, rest).await.is_err()
        {
            return End::Gone;
        }
        downstream::end(self.stage.session).await.map_or_else(End::from, |()| End::Delivered)
    }

    /// The point of no return: the head and everything held go downstream in one write.
    async fn commit(&mut self, answer: &mut Answer, framing: Framing) -> Result<(), End> {
        let head = self.begun(answer, framing)?;
        let begun = downstream::begin(self.stage.session, head, &answer.held, answer.is_whole).await;
        begun.map_err(|_| End::Gone)
    }

    /// Commits, and returns the head; what goes downstream with it is what is held.
    fn begun(&mut self, answer: &mut Answer, framing: Framing) -> Result<Box<ResponseHeader>, End> {
        let now = self.aim.house.clock.tick();
        self.stage.exchange.commit(now);
        self.stage.exchange.rescuable(self.stage.told.is_some());
        if self.stage.told.is_some() {
            self.stage.exchange.pays_from(&self.aim.house.budget);
        }
        if self.aim.slot.health.content_began(self.permit, now, &self.aim.live.policy) {
            self.aim.house.states_moved();
        }
        self.tell(now);
        let head = answer
            .head
            .take()
            .and_then(|mut head| reply::complete(&mut head, framing, self.stage.story).ok().map(|()| head));
        let Some(head) = head else {
            return Err(End::Failed(Fault::after_head(Outcome::BadBody, answer.status)));
        };
        self.stage.story.answered(answer.status);
        if let Some(told) = self.stage.told.as_mut() {
            answer.held = told.pass_all(std::mem::take(&mut answer.held), &self.aim.house.clock);
        }
        let head = if answer.is_whole { head } else { head.fitted() };
        Ok(head.into_pingora())
    }

    fn tell(&mut self, now: Tick) {
        let records = self.stage.exchange.records();
        self.stage.story.tell(self.aim.house, self.aim.slots, records, Some(self.aim.at), now);
    }

    /// How long the next piece of a stream is waited for. `heard` is when it last said more than a ping;
    /// what came since then did where it was none.
    fn stream_limit(&self, reader: &StreamReader, heard: &mut Tick, is_ping: bool) -> Limit {
        let now = self.aim.house.clock.tick();
        if !is_ping {
            *heard = now;
        }
        if reader.is_complete() {
            return Limit::hard(now.after(AFTER_COMPLETE), Outcome::TimeoutStall);
        }
        stall_limit(self.aim.timeouts, now, *heard)
    }
}

/// Puts what was read through the reader and the rendering; tells first whether it was nothing but pings.
fn take(
    reader: &mut StreamReader,
    rendering: Option<&mut Rendering>,
    read: pingora::Result<Option<Bytes>>,
) -> (bool, SmallVec<[Bytes; 2]>, Mark) {
    let is_ping = matches!(&read, Ok(Some(chunk)) if is_only_pings(chunk));
    let (pieces, mark) = taken(reader, rendering, read);
    (is_ping, pieces, mark)
}

/// Silence is borne for `stall` while the stream could be taken up elsewhere, else for `stall_last`.
/// Pings alone are from `heard` on borne for [`ONLY_PINGS`] in the place of `stall`, and for
/// `stall_last` more where nobody could take the stream up.
fn stall_limit(timeouts: &Timeouts, now: Tick, heard: Tick) -> Limit {
    let pinged_out = heard.after(timeouts.stall.max(ONLY_PINGS));
    Limit {
        soft: now.after(timeouts.stall).min(pinged_out),
        outcome: Outcome::TimeoutStall,
        is_hard: false,
        last: Some(now.after(timeouts.stall_last).min(pinged_out.after(timeouts.stall_last))),
    }
}

/// Tells whether a chunk holds nothing but comments and pings: Anthropic's `event: ping`, the
/// `keepalive` of OpenAI's Responses, the comment lines of many (`: OPENROUTER PROCESSING`). What cannot
/// be told, as the second half of an event, is more than that: a stream is rather borne than cut off.
fn is_only_pings(chunk: &[u8]) -> bool {
    let mut is_ping = false;
    chunk.split(|byte| *byte == b'\n').all(|line| {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            is_ping = false;
        } else if let Some(name) = line.strip_prefix(b"event:") {
            is_ping = matches!(name.trim_ascii(), b"ping" | b"keepalive");
            return is_ping;
        }
        is_ping || line.is_empty() || line.starts_with(b":") || line == br#"data: {"type": "ping"}"#
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000)
    }

    #[test]
    fn a_stream_of_nothing_but_pings_does_not_last_for_ever() {
        let minute = Duration::from_secs(60);
        let usual = Timeouts {
            connect: minute,
            first_content: minute,
            first_content_reasoning: minute,
            stall: Duration::from_secs(30),
            stall_last: Duration::from_secs(120),
            response: minute,
            total: minute * 10,
        };
        let patient = Timeouts { stall: Duration::from_secs(400), ..usual };
        for (timeouts, now, heard, soft, last, why) in [
            (usual, 1000, 1000, 1030, 1120, "a word has just come"),
            (usual, 1260, 1000, 1290, 1380, "the pings may still be a long thought"),
            (usual, 1290, 1000, 1300, 1410, "300 s behind the last word"),
            (usual, 1400, 1000, 1300, 1420, "however many pings come"),
            (patient, 1100, 1000, 1400, 1220, "the operator bears longer silence than that"),
        ] {
            let limit = stall_limit(&timeouts, at(now), at(heard));
            assert_eq!((limit.soft, limit.last), (at(soft), Some(at(last))), "{why}");
            assert_eq!((limit.outcome, limit.is_hard), (Outcome::TimeoutStall, false));
        }
    }

    #[test]
    fn pings_and_comments_are_told_from_words() {
        for (chunk, want) in [
            (&b": OPENROUTER PROCESSING\n\n"[..], true),
            (b":\r\n\r\n: again\r\n\r\n", true),
            (b"event: ping\ndata: {\"type\": \"ping\"}\n\n", true),
            (b"event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":3}\n\n", true),
            (b"data: {\"type\": \"ping\"}\n\n", true),
            (b"\n", true),
            (b"data: {\"choices\":[]}\n\n", false),
            (b": hi\n\ndata: {}\n\n", false),
            (b"event: ping\ndata: {}\n\ndata: {}\n\n", false),
            (b"event: content_block_delta\ndata: {}\n\n", false),
            (b"g\"}\n\n", false),
            (b"[{\"candidates\":[]}", false),
            (b"\x00\x00\x00\x65", false),
        ] {
            assert_eq!(is_only_pings(chunk), want, "{}", String::from_utf8_lossy(chunk));
        }
    }
}
