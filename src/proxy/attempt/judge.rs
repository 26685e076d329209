//! What came back, held until it is judged.
//!
//! A refusal's body is read within bounds and judged; an answer that is not streamed is held until
//! it is whole, because an error may stand inside a 200, as far as there is room
//! ([`memory`](crate::live::memory)).

use super::{Aim, Answer, End, Fault, Held, Mark, Opening, Watch};
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use crate::classify;
use crate::exchange::rules::{self, Onward};
use crate::live::memory::{FREE, Share};
use crate::proxy::carried::Rendering;
use crate::proxy::gathered::Gathered;
use crate::proxy::incoming::{Incoming, Packing};
use crate::proxy::patience::{Cut, Limit};
use crate::proxy::reply;
use crate::proxy::reply::Head;
use crate::wire::{Usage, answer, cut};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Version, header};
use pingora::http::ResponseHeader;
use smallvec::SmallVec;
use std::pin::pin;
use std::time::Duration;

/// Longest answer that is held until it is whole (failure table, *Commit point*).
const HELD_ANSWER: usize = 1024 * 1024;
/// Longest answer that is translated; the rooms of `wire` and `translate` hold no longer event.
const TRANSLATED_ANSWER: usize = 8 * 1024 * 1024;
/// Most of a refusing answer's body that is read and judged.
const REFUSAL_BODY: usize = 64 * 1024;
/// The same of one that goes to the client as it is, where there is room.
const RELAYED_BODY: usize = HELD_ANSWER;
/// Longest text under a 200 that is read as an error; longer ones are somebody's answer.
const WORDS_MAX: usize = 2048;
/// How often memory is looked for by an answer that must be had whole.
const ROOM_LOOK: Duration = Duration::from_millis(20);
/// How long a refusing answer's body may take; its status is known and a client waits.
const REFUSAL_TIME: Duration = Duration::from_millis(1500);

impl Aim<'_> {
    /// Takes from the provider's head what is needed of it, in one pass.
    pub(super) fn draft(
        &self,
        head: &ResponseHeader,
        rendering: Option<Box<Rendering>>,
    ) -> Option<Box<Answer>> {
        let packing = Packing::of(&head.headers);
        let is_event_stream = self.is_stream(&head.headers);
        let own = match &rendering {
            None => {
                let provider = self.live.plan.provider(self.slot.target.provider);
                let keys = self.signature.keys().iter().chain(&provider.header_secrets);
                reply::draft(head.status, &head.headers, self.drops_rate_limits, &keys)
            }
            Some(to) => reply::draft_translated(head.status, is_event_stream && !to.is_list()),
        };
        let mut own = own.ok()?;
        if is_event_stream && rendering.is_none() {
            own.for_stream().ok()?;
        }
        if packing.is_some() {
            own.headers.remove(header::CONTENT_ENCODING);
            own.headers.remove(header::ETAG);
        }
        Some(Box::new(Answer {
            status: head.status.as_u16(),
            is_event_stream,
            is_encoded: packing.is_none() && is_encoded(&head.headers),
            length: content_length(&head.headers).filter(|_| packing.is_none()),
            ends_anyhow: ends_anyhow(head),
            packing,
            head: Some(own),
            held: SmallVec::new(),
            share: Share::default(),
            is_whole: false,
            usage: Usage::default(),
            mark: Mark::default(),
            rendering,
        }))
    }

    /// Tells whether an answer is a stream: by its media type, and where a dialect streams under
    /// that of any document (an array of Gemini's, lines of Ollama's, the one text of a bridge) by
    /// what was asked for.
    fn is_stream(&self, headers: &HeaderMap) -> bool {
        let media = media_type(headers);
        let is = |name: &str| media.eq_ignore_ascii_case(name.as_bytes());
        let is_asked_for = self.wants_stream && is("application/json");
        match cut::Framing::of(self.dialect) {
            cut::Framing::Events if self.dialect == Dialect::GeminiGenerate => {
                is("text/event-stream") || is_asked_for
            }
            cut::Framing::Events => is("text/event-stream"),
            cut::Framing::Lines => is("application/x-ndjson") || is("application/ndjson") || is_asked_for,
            cut::Framing::Frames => is("application/vnd.amazon.eventstream"),
            cut::Framing::Whole => self.wants_stream,
        }
    }

    /// Sees to it that so much of an answer may be held; tells whether it may.
    fn has_room(&self, answer: &mut Answer, length: usize) -> bool {
        let room = self.house.room(self.live.plan.limits.replay_memory);
        answer.share.hold(&self.house.memory, length, room)
    }

    fn judge(&self, body: &Bytes) -> Result<answer::Answer, Box<Fault>> {
        match answer::read(self.dialect, body) {
            Ok(answer) => Ok(answer),
            Err(answer::AnswerFault::NotJson) if is_in_words(body) => {
                let none = HeaderMap::new();
                let wall = self.house.clock.wall();
                let verdict = classify::response(self.patterns(), 200, &none, body, wall);
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
                let fault = self.judge_inband(body.get(error).unwrap_or_default(), 200);
                // Row 18: who answers 200 to what it holds invalid may be wrong about that as well.
                let is_disputed = fault.failure.outcome == Outcome::ClientError;
                let outcome = Outcome::InbandError;
                Err(Box::new(if is_disputed { Fault::after_head(outcome, 200) } else { fault }))
            }
        }
    }
}

impl Opening<'_, '_> {
    /// Reads the next piece of the answer's body.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    pub(super) fn read(
        &mut self,
        incoming: &mut Incoming<'_>,
        limit: &Limit,
    ) -> impl Future<Output = Result<pingora::Result<Option<Bytes>>, Cut>> {
        async move {
            let reading = pin!(incoming.next());
            self.wait(limit, reading).await
        }
    }

    /// Reads a refusing answer's body within bounds and judges it.
    pub(super) async fn refused(&mut self, incoming: &mut Incoming<'_>, answer: &mut Answer) -> End {
        let limit = Limit::hard(self.aim.house.clock.tick().after(REFUSAL_TIME), Outcome::Truncated);
        let mut body = BytesMut::new();
        // The client's own fault in the provider's own words: half a document would help nobody.
        let is_relayed = answer.rendering.is_none()
            && !answer.is_encoded
            && matches!(answer.status, 400 | 406 | 409 | 413..=418 | 420..=423 | 426..=428 | 431 | 451);
        let most = if is_relayed { RELAYED_BODY } else { REFUSAL_BODY };
        let mut is_whole = false;
        while body.len() < most && (body.len() < REFUSAL_BODY || self.aim.has_room(answer, body.len())) {
            match self.read(incoming, &limit).await {
                Ok(Ok(Some(piece))) => {
                    let room = most - body.len();
                    body.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Ok(Ok(None)) => {
                    is_whole = true;
                    break;
                }
                Err(Cut::Gone) => return End::Gone,
                // The status says enough; what there is of the body is judged.
                Ok(Err(_)) | Err(Cut::Late(_)) => break,
            }
        }
        let body = body.freeze();
        let aim = self.aim;
        let none = HeaderMap::new();
        let headers = incoming.headers().unwrap_or(&none);
        let wall = aim.house.clock.wall();
        let verdict = classify::response(aim.patterns(), answer.status, headers, &body, wall);
        // What cannot be read may hold our key, and a part is not sold as the whole: neither is passed on.
        let is_held = !answer.is_encoded && (is_whole || !is_relayed);
        let held = if is_held { Held::of(answer, body) } else { None };
        End::Failed(Fault::judged(&verdict, answer.status, false, held))
    }

    /// Waits until so much of an answer that must be had whole may be held, and returns how long that took.
    /// What never could be is given up at once. So is what runs beside another attempt: whoever watches
    /// both would take the wait for the provider's silence.
    async fn find_room(
        &mut self,
        answer: &mut Answer,
        length: usize,
        limit: &Limit,
    ) -> Result<Duration, End> {
        let whole = answer.length.unwrap_or_default().max(length as u64);
        let fits = whole <= (self.aim.live.plan.limits.replay_memory / 2).max(FREE);
        if fits && self.aim.has_room(answer, length) {
            return Ok(Duration::ZERO);
        }
        let from = self.aim.house.clock.tick();
        while fits && matches!(self.watch, Watch::Stage(_)) {
            let pause = pin!(pingora::time::sleep(ROOM_LOOK));
            match self.wait(limit, pause).await {
                Ok(()) => {}
                Err(Cut::Gone) => return Err(End::Gone),
                Err(Cut::Late(_)) => break,
            }
            if self.aim.has_room(answer, length) {
                return Ok(self.aim.house.clock.tick().since(from));
            }
        }
        Err(End::Failed(Fault::without_room(answer.status)))
    }

    /// Holds an answer that is not streamed until it is whole, and judges it.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps each argument twice while it waits")]
    pub(super) fn whole(
        &mut self,
        incoming: &mut Incoming<'_>,
        answer: &mut Answer,
    ) -> impl Future<Output = Result<(), End>> {
        async move {
            let mut limit = self.first_limit();
            let status = answer.status;
            let memory = &self.aim.house.memory;
            let mut body = Gathered::new(memory, answer.length, HELD_ANSWER as u64);
            loop {
                let read = match self.read(incoming, &limit).await {
                    Ok(read) => read,
                    Err(Cut::Gone) => return Err(End::Gone),
                    Err(Cut::Late(outcome)) => return Err(End::Failed(Fault::after_head(outcome, status))),
                };
                match read {
                    Ok(Some(piece)) => {
                        body.push(piece);
                        let has_room = self.aim.has_room(answer, body.len());
                        if answer.rendering.is_none() && (body.len() > HELD_ANSWER || !has_room) {
                            answer.held.push(body.into_bytes());
                            return Ok(());
                        }
                        // Translated as a whole or not at all.
                        if body.len() > TRANSLATED_ANSWER {
                            return Err(End::Failed(Fault::after_head(Outcome::BadBody, status)));
                        }
                        if answer.rendering.is_some() {
                            let waited = self.find_room(answer, body.len(), &limit).await?;
                            // It was not the provider that took this time.
                            limit.soft = limit.soft.after(waited);
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        let is_bomb = incoming.is_bomb();
                        let outcome = if is_bomb { Outcome::BadBody } else { Outcome::Truncated };
                        return Err(End::Failed(Fault::after_head(outcome, status)));
                    }
                }
            }
            if answer.length.is_some_and(|announced| announced != body.len() as u64) {
                return Err(End::Failed(Fault::after_head(Outcome::Truncated, status)));
            }
            let body = body.into_bytes();
            let was_filtered = match self.aim.judge(&body) {
                Ok(judged) => {
                    answer.usage = judged.usage;
                    judged.was_filtered
                }
                Err(fault) => {
                    let held = fault.held.or_else(|| Held::of(answer, body));
                    return Err(End::Failed(Fault { held, ..*fault }));
                }
            };
            let body = match answer.rendering.as_ref().map(|rendering| rendering.answer(memory, &body)) {
                None => body,
                Some(Ok(translated)) => translated,
                Some(Err(outcome)) => return Err(End::Failed(Fault::after_head(outcome, status))),
            };
            if was_filtered && self.leaves_filtered() {
                return Err(End::Failed(Fault::filtered(answer, body)));
            }
            answer.held.push(body);
            answer.is_whole = true;
            Ok(())
        }
    }
}

impl Fault {
    /// A good answer that a content filter stopped, which another target may answer better.
    pub(super) fn filtered(answer: &mut Answer, body: Bytes) -> Fault {
        let mut held = Held::of(answer, body);
        if let Some(held) = &mut held {
            held.filtered = Some(answer.usage);
        }
        Fault { held, ..Fault::after_head(Outcome::ContentFiltered, answer.status) }
    }
}

impl Held {
    /// Words of our own in the place of a provider's.
    pub(in crate::proxy) fn of_ours(head: Head, body: Bytes) -> Held {
        Held { head, body, filtered: None, _share: Share::default() }
    }

    /// Tells whether it is an answer, of which a content filter stopped the rest.
    pub(in crate::proxy) fn is_answer(&self) -> bool {
        self.filtered.is_some()
    }

    fn of(answer: &mut Answer, body: Bytes) -> Option<Box<Held>> {
        let share = std::mem::take(&mut answer.share);
        answer.head.take().map(|head| Box::new(Held { head, body, filtered: None, _share: share }))
    }
}

/// The media type of an answer, without its parameters.
fn media_type(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Packed in a way that [`Incoming`] does not undo: it cannot be judged, and so is no answer.
pub(in crate::proxy) fn is_encoded(headers: &HeaderMap) -> bool {
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

/// Tells whether the end of a body says nothing of whether it is whole: that the connection was closed.
/// HTTP/1.0 knew no other (failure table, row 22).
fn ends_anyhow(head: &ResponseHeader) -> bool {
    head.version == Version::HTTP_11
        && !head.headers.contains_key(header::CONTENT_LENGTH)
        && !head.headers.contains_key(header::TRANSFER_ENCODING)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value: &HeaderValue| value.to_str().ok()?.trim().parse().ok())
}
