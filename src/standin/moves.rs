//! Which moves on the wire make up an answer?
//!
//! A reply and a request are compiled into a flat list of [`Move`]s, once; `http1` and `http2`
//! only perform them. So every fault exists once, and a new one is a new move or a new order of
//! old ones.

use std::time::Duration;

use bytes::Bytes;

use super::answers::{self, Stream, Words};
use super::ask::Ask;
use super::gzip::Gzip;
use super::journal::Seen;
use super::reply::{Act, Gate, Place, Prefill, Refusal, Reply, Twist};
use crate::base::api::ErrorShape;

/// How the receiver finds the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length in bytes.
    Length(usize),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Interim(u16),
    Head {
        status: u16,
        headers: Vec<(String, String)>,
        framing: Framing,
    },
    Body(Bytes),
    /// Bytes that replace the protocol; HTTP/2 has no such thing and resets the stream.
    Raw(Bytes),
    Wait(Duration),
    Hold(Gate),
    Finish,
    Hush,
    Reset,
    Close,
    StreamReset(u32),
    GoAway(u32),
}

/// Compiles the answer to a request.
pub(super) fn compile(reply: &Reply, ask: &Ask, seen: &Seen) -> Vec<Move> {
    let composer = Composer { reply, ask, number: seen.number, is_stream: false, moves: Vec::new() };
    match &reply.act {
        Act::Answer => composer.answer(),
        Act::Refuse(refusal) => composer.refuse(refusal),
        Act::Events(events) => composer.streamed(Stream { tokens: events.clone(), ..Stream::default() }),
        Act::Body { status, content_type, body } => composer.whole(*status, content_type, body.clone()),
        Act::Raw(bytes) => composer.raw(bytes.clone()),
        Act::Echo => composer.whole(200, JSON, account_of(seen)),
    }
}

const JSON: &str = "application/json";
/// Longer bodies are counted in an echo, not repeated.
const ECHO_BODY_MAX: usize = 64 << 10;

struct Composer<'a> {
    reply: &'a Reply,
    ask: &'a Ask,
    number: u64,
    is_stream: bool,
    moves: Vec<Move>,
}

/// Whether the answer goes on after a twist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onward {
    Yes,
    No,
}

impl Composer<'_> {
    fn answer(self) -> Vec<Move> {
        let (reply, ask) = (self.reply, self.ask);
        if ask.prefill.is_some() && reply.prefill == Prefill::Refuse {
            let refusal =
                Refusal { status: 400, code: Some("invalid_prefill".to_owned()), ..Refusal::default() };
            return self.refuse(&refusal);
        }
        let rest = match &ask.prefill {
            Some(said) if reply.prefill == Prefill::Continue => reply.text.strip_prefix(said.as_str()),
            Some(_) | None => None,
        };
        let words = Words::new(ask, reply, self.number, rest.unwrap_or(&reply.text));
        match answers::stream(&words) {
            Some(stream) => self.streamed(stream),
            None => self.whole_after_thinking(&words),
        }
    }

    /// A whole answer takes as long as its tokens would have taken.
    fn whole_after_thinking(mut self, words: &Words<'_>) -> Vec<Move> {
        let tokens = u32::try_from(answers::tokens(words.text).count()).unwrap_or(u32::MAX);
        let thinking = self.reply.token_delay.saturating_mul(tokens);
        if !thinking.is_zero() {
            self.moves.push(Move::Wait(thinking));
        }
        self.whole(200, JSON, answers::whole(words))
    }

    fn refuse(self, refusal: &Refusal) -> Vec<Move> {
        let body = answers::refusal(self.ask, refusal, self.number);
        self.whole(refusal.status, JSON, body)
    }

    fn raw(mut self, bytes: Bytes) -> Vec<Move> {
        if self.twist(Place::BeforeHead, 0) == Onward::Yes {
            self.moves.extend([Move::Raw(bytes), Move::Close]);
        }
        self.moves
    }

    fn whole(mut self, status: u16, content_type: &str, body: Bytes) -> Vec<Move> {
        let (body, framing) = self.whole_body(body);
        if self.before_body(status, content_type, framing) == Onward::No {
            return self.moves;
        }
        let middle =
            self.places(|place| matches!(place, Place::AfterHead | Place::AfterEnd | Place::BeforeHead));
        let (first, rest) = body.split_at(body.len() / 2);
        if !middle.is_empty() {
            self.moves.push(Move::Body(Bytes::copy_from_slice(first)));
            for place in middle {
                if self.twist(place, 0) == Onward::No {
                    return self.moves;
                }
            }
            self.moves.push(Move::Body(Bytes::copy_from_slice(rest)));
        } else if !body.is_empty() {
            self.moves.push(Move::Body(body));
        }
        self.end();
        self.drip()
    }

    /// Returns the places of the reply's twists but the ones that `is_elsewhere` names, each once.
    fn places(&self, is_elsewhere: impl Fn(Place) -> bool) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for (place, _) in &self.reply.twists {
            if !is_elsewhere(*place) && !places.contains(place) {
                places.push(*place);
            }
        }
        places
    }

    /// Applies to a whole body what changes its bytes, and says how it is framed.
    fn whole_body(&self, body: Bytes) -> (Bytes, Framing) {
        let mut body = body;
        for (place, twist) in &self.reply.twists {
            if matches!(place, Place::BeforeHead | Place::AfterEnd) {
                continue;
            }
            match twist {
                Twist::Error(refusal) => body = answers::refusal(self.ask, refusal, self.number),
                Twist::Insert(bytes) => {
                    let (first, rest) = body.split_at(body.len() / 2);
                    body = Bytes::from([first, bytes, rest].concat());
                }
                Twist::End if *place == Place::AfterHead => body = Bytes::new(),
                Twist::End => body.truncate(body.len() / 2),
                Twist::Reset
                | Twist::Close
                | Twist::Silence
                | Twist::Pause(_)
                | Twist::Hold(_)
                | Twist::StreamReset(_)
                | Twist::GoAway(_) => {}
            }
        }
        if self.reply.is_gzipped {
            body = Gzip::whole(&body);
        }
        let framing = if self.reply.is_close_delimited {
            Framing::UntilClose
        } else {
            Framing::Length(body.len().saturating_add(self.reply.missing_bytes))
        };
        (body, framing)
    }

    fn streamed(mut self, stream: Stream) -> Vec<Move> {
        self.is_stream = true;
        let framing = if self.reply.is_close_delimited { Framing::UntilClose } else { Framing::Chunked };
        if self.before_body(200, answers::media_type(self.ask), framing) == Onward::Yes {
            self.stream_body(stream);
        }
        if self.reply.is_gzipped {
            self.gzip_stream();
        }
        self.drip()
    }

    fn stream_body(&mut self, stream: Stream) {
        let Stream { opening, tokens, closing, end_marker } = stream;
        let mut position = opening.len();
        self.moves.extend(opening.into_iter().map(Move::Body));
        for place in [Place::AfterOpening, Place::AfterTokens(0)] {
            if self.twist(place, position) == Onward::No {
                return;
            }
        }
        let count = tokens.len();
        for (index, token) in tokens.into_iter().enumerate() {
            self.moves.push(Move::Body(token));
            position += 1;
            if !self.reply.token_delay.is_zero() {
                self.moves.push(Move::Wait(self.reply.token_delay));
            }
            if self.twist(Place::AfterTokens(index + 1), position) == Onward::No {
                return;
            }
        }
        // A fault after more tokens than the answer has must not get lost.
        for place in self.places(|place| !matches!(place, Place::AfterTokens(wanted) if wanted > count)) {
            if self.twist(place, position) == Onward::No {
                return;
            }
        }
        position += closing.len();
        self.moves.extend(closing.into_iter().map(Move::Body));
        if self.twist(Place::BeforeEnd, position) == Onward::No {
            return;
        }
        if self.reply.has_end_marker {
            self.moves.extend(end_marker.map(Move::Body));
        }
        self.end();
    }

    fn before_body(&mut self, status: u16, content_type: &str, framing: Framing) -> Onward {
        if self.twist(Place::BeforeHead, 0) == Onward::No {
            return Onward::No;
        }
        self.moves.extend(self.reply.interims.iter().copied().map(Move::Interim));
        let headers = self.headers(content_type);
        self.moves.push(Move::Head { status, headers, framing });
        self.twist(Place::AfterHead, 0)
    }

    fn headers(&self, content_type: &str) -> Vec<(String, String)> {
        let request_id = match self.ask.shape {
            ErrorShape::OpenAi | ErrorShape::Google => "x-request-id",
            ErrorShape::Anthropic => "request-id",
        };
        let mut headers = vec![
            ("content-type".to_owned(), content_type.to_owned()),
            (request_id.to_owned(), format!("req_{}", self.number)),
        ];
        if self.reply.is_gzipped {
            headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        }
        if let Act::Refuse(refusal) = &self.reply.act {
            headers.extend(answers::refusal_header(self.ask, refusal));
        }
        headers.retain(|(name, _)| !self.reply.headers.iter().any(|(own, _)| own == name));
        headers.extend(self.reply.headers.iter().cloned());
        headers
    }

    /// Adds the moves of every twist at a place; `position` is the number of events before it.
    fn twist(&mut self, place: Place, position: usize) -> Onward {
        let reply = self.reply;
        for (_, twist) in reply.twists.iter().filter(|(at, _)| *at == place) {
            let last = match twist {
                Twist::Reset => Move::Reset,
                Twist::Close => Move::Close,
                Twist::Silence => Move::Hush,
                Twist::StreamReset(code) => Move::StreamReset(*code),
                Twist::GoAway(code) => Move::GoAway(*code),
                Twist::Pause(span) => {
                    self.moves.push(Move::Wait(*span));
                    continue;
                }
                Twist::Hold(gate) => {
                    self.moves.push(Move::Hold(gate.clone()));
                    continue;
                }
                // In a whole body these three are part of its bytes already.
                Twist::End | Twist::Insert(_) | Twist::Error(_) if !self.is_stream => continue,
                Twist::End => Move::Finish,
                Twist::Insert(bytes) => {
                    self.moves.push(Move::Body(bytes.clone()));
                    continue;
                }
                Twist::Error(refusal) => {
                    let event = answers::error_event(self.ask, refusal, self.number, position);
                    self.moves.push(Move::Body(event));
                    Move::Finish
                }
            };
            self.moves.push(last);
            return Onward::No;
        }
        Onward::Yes
    }

    fn end(&mut self) {
        if self.reply.missing_bytes > 0 {
            self.moves.push(Move::Close);
            return;
        }
        self.moves.push(Move::Finish);
        self.twist(Place::AfterEnd, 0);
    }

    fn gzip_stream(&mut self) {
        let mut gzip = Gzip::new();
        let mut is_ended = false;
        let moves = std::mem::take(&mut self.moves);
        for step in moves {
            match step {
                Move::Body(bytes) => self.moves.push(Move::Body(gzip.piece(&bytes))),
                Move::Finish if !is_ended => {
                    is_ended = true;
                    self.moves.extend([Move::Body(gzip.end()), Move::Finish]);
                }
                other @ (Move::Interim(_)
                | Move::Head { .. }
                | Move::Raw(_)
                | Move::Wait(_)
                | Move::Hold(_)
                | Move::Finish
                | Move::Hush
                | Move::Reset
                | Move::Close
                | Move::StreamReset(_)
                | Move::GoAway(_)) => self.moves.push(other),
            }
        }
    }

    fn drip(self) -> Vec<Move> {
        let Some(gap) = self.reply.drip else { return self.moves };
        let mut dripped = Vec::new();
        for step in self.moves {
            let Move::Body(bytes) = step else {
                dripped.push(step);
                continue;
            };
            for at in 0..bytes.len() {
                dripped.extend([Move::Body(bytes.slice(at..=at)), Move::Wait(gap)]);
            }
        }
        dripped
    }
}

/// Returns the JSON account of a request that [`Reply::echo`] sends.
fn account_of(seen: &Seen) -> Bytes {
    let body = match std::str::from_utf8(&seen.body) {
        Ok(text) if text.len() <= ECHO_BODY_MAX => Some(text),
        Ok(_) | Err(_) => None,
    };
    let account = serde_json::json!({
        "method": seen.method,
        "path": seen.path,
        "version": format!("{:?}", seen.version),
        "headers": seen.headers,
        "bytes": seen.body.len(),
        "body": body,
    });
    Bytes::from(account.to_string())
}
