//! How much of a text is kept back, and for how long?
//!
//! A stream that breaks can be taken up more easily the less the client has of it: what was never
//! told need not be said again. [`Hold`] keeps each event of text for a span before it goes out
//! (`rescue.hold`). A break finds it here, and whoever takes the stream up is held against what
//! was told alone.
//!
//! The rules:
//!
//! * Only text waits. Events that say nothing pass at once, or behind the text that waits, so that
//!   order is kept.
//! * Whatever ends or bars the text (a finish reason, a tool call, a thought, a second choice; see
//!   [`Bar`](super::transcript::Bar)) lets go of all that waits, and nothing is kept from there on:
//!   nobody could go on from there.
//! * At most [`HELD_MAX`] bytes wait; the oldest go first.
//!
//! Time is an argument: whoever holds asks [`Hold::next_due`] when to come back.

use super::sse::{Block, Splitter};
use super::transcript::{Reading, TEXT_MAX};
use crate::base::api::Dialect;
use crate::base::time::Tick;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::Duration;

/// Most bytes of events that wait; an event more is let in, and is itself at most 64 KiB.
pub const HELD_MAX: usize = 64 * 1024;

/// The text of one stream that waits.
#[derive(Debug)]
pub struct Hold {
    span: Duration,
    reading: Reading,
    /// Events, the oldest first, with the time from which each may go out.
    waiting: VecDeque<(Tick, Bytes)>,
    length: usize,
    /// How much text has passed; beyond what can be gone on from nothing need wait.
    said: usize,
    is_over: bool,
}

/// What an event is to a hold.
enum Kind {
    Text,
    Silent,
    /// Nothing waits from here on.
    End,
}

impl Hold {
    /// Keeps text of a stream of that dialect for `span`.
    #[must_use]
    pub fn new(dialect: Dialect, span: Duration) -> Self {
        Hold {
            span,
            reading: Reading::new(dialect),
            waiting: VecDeque::new(),
            length: 0,
            said: 0,
            is_over: false,
        }
    }

    /// Takes whole events and returns what may go out now, in order.
    pub fn push(&mut self, events: &Bytes, now: Tick) -> Option<Bytes> {
        if self.is_over {
            return Some(events.clone());
        }
        let mut out = self.take_due(now);
        let mut splitter = Splitter::default();
        let mut end = 0;
        while let Some(block) = splitter.next(events) {
            // A chunk of its own: no event began in an earlier one.
            let Block::Here(range) = block else { break };
            end = range.end;
            let begin = range.start;
            match self.kind_of(events.get(range.clone()).unwrap_or_default()) {
                Kind::Silent if self.waiting.is_empty() => out.push(events.slice(range)),
                Kind::Silent | Kind::Text => self.keep(events.slice(range), now),
                Kind::End => {
                    self.end(events.slice(begin..), &mut out);
                    return join(out);
                }
            }
        }
        if end < events.len() {
            // Part of an event that nobody keeps whole, or the last of a stream.
            self.end(events.slice(end..), &mut out);
        }
        while self.length > HELD_MAX
            && let Some(oldest) = self.pop()
        {
            out.push(oldest);
        }
        join(out)
    }

    /// Returns what has waited long enough, in order.
    pub fn due(&mut self, now: Tick) -> Option<Bytes> {
        join(self.take_due(now))
    }

    /// Tells when the oldest of what waits is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Tick> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Returns all that waits: the stream has come to its end.
    pub fn release(&mut self) -> Option<Bytes> {
        self.length = 0;
        join(std::mem::take(&mut self.waiting).into_iter().map(|(_, event)| event).collect())
    }

    /// Forgets what waits: somebody else goes on from what was told.
    pub fn forget(&mut self) {
        self.length = 0;
        self.waiting.clear();
    }

    fn kind_of(&mut self, event: &[u8]) -> Kind {
        self.reading.read_event(event);
        let text = std::mem::take(&mut self.reading.text);
        self.said += text.len();
        if self.reading.bar.is_some() || self.said > TEXT_MAX {
            return Kind::End;
        }
        if text.is_empty() { Kind::Silent } else { Kind::Text }
    }

    fn keep(&mut self, event: Bytes, now: Tick) {
        self.length += event.len();
        self.waiting.push_back((now.after(self.span), event));
    }

    fn end(&mut self, rest: Bytes, out: &mut SmallVec<[Bytes; 4]>) {
        self.is_over = true;
        out.extend(self.release());
        out.push(rest);
    }

    fn take_due(&mut self, now: Tick) -> SmallVec<[Bytes; 4]> {
        let mut due = SmallVec::new();
        while self.next_due().is_some_and(|at| at <= now)
            && let Some(oldest) = self.pop()
        {
            due.push(oldest);
        }
        due
    }

    fn pop(&mut self) -> Option<Bytes> {
        let (_, event) = self.waiting.pop_front()?;
        self.length -= event.len();
        Some(event)
    }
}

/// Puts events together: one write costs less than many.
fn join(mut events: SmallVec<[Bytes; 4]>) -> Option<Bytes> {
    if events.len() <= 1 {
        return events.pop();
    }
    let mut whole = BytesMut::with_capacity(events.iter().map(Bytes::len).sum());
    for event in events {
        whole.extend_from_slice(&event);
    }
    Some(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Tick {
        Tick(ms * 1000)
    }

    fn event(data: &str) -> Bytes {
        Bytes::from(format!("data: {data}\n\n"))
    }

    fn chat(text: &str) -> Bytes {
        event(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#))
    }

    fn hold() -> Hold {
        Hold::new(Dialect::OpenAiChat, SPAN)
    }

    #[test]
    fn text_waits_its_span_and_what_says_nothing_passes_unless_text_waits_before_it() {
        let mut hold = hold();
        let opening = event(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#);
        let ping = Bytes::from_static(b": ping\n\n");
        assert_eq!(hold.push(&opening, at(0)), Some(opening));
        assert_eq!(hold.push(&ping, at(1)), Some(ping.clone()));
        assert_eq!(hold.push(&chat("a"), at(2)), None);
        assert_eq!(hold.push(&ping, at(50)), None);
        assert_eq!((hold.next_due(), hold.due(at(101))), (Some(at(102)), None));
        assert_eq!(hold.due(at(102)), Some(chat("a")));
        assert_eq!(hold.push(&chat("b"), at(150)), Some(ping), "behind the text, and due with the next");
        assert_eq!(hold.release(), Some(chat("b")));
        assert_eq!((hold.next_due(), hold.release()), (None, None));
    }

    #[test]
    fn of_one_piece_the_opening_passes_and_the_text_waits() {
        let mut hold = Hold::new(Dialect::AnthropicMessages, SPAN);
        let start = r#"{"type":"message_start","message":{"id":"m"}}"#;
        let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
        let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#;
        let opening = [event(start), event(block)].concat();
        let piece = Bytes::from([&opening[..], &event(delta)].concat());
        assert_eq!(hold.push(&piece, at(0)), Some(Bytes::from(opening)));
        assert_eq!(hold.release(), Some(event(delta)));
    }

    #[test]
    fn what_ends_or_bars_the_text_lets_go_of_all_and_of_what_follows() {
        for end in [
            event(r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}"#),
            event(r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#),
            event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#),
            event(r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#),
            event("[DONE]"),
            Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"part of a giant"),
        ] {
            let mut hold = hold();
            assert_eq!(hold.push(&chat("a"), at(0)), None);
            let both = Bytes::from([&chat("b")[..], &end].concat());
            let all = [&chat("a")[..], &chat("b"), &end].concat();
            assert_eq!(hold.push(&both, at(1)), Some(Bytes::from(all)), "{end:?}");
            assert_eq!(hold.push(&chat("c"), at(2)), Some(chat("c")), "nothing waits any more");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_go_first() {
        let mut hold = hold();
        let word = chat(&"w".repeat(10_000));
        let mut out = 0;
        for _ in 0..20 {
            out += hold.push(&word, at(0)).map_or(0, |out| out.len());
            assert!(hold.length <= HELD_MAX);
        }
        out += hold.release().map_or(0, |rest| rest.len());
        assert_eq!(out, 20 * word.len());
    }

    #[test]
    fn what_is_forgotten_is_never_shown() {
        let mut hold = hold();
        hold.push(&chat("a"), at(0));
        hold.forget();
        assert_eq!(hold.push(&chat("b"), at(500)), None);
        assert_eq!(hold.release(), Some(chat("b")));
    }

    proptest! {
        #[test]
        fn every_byte_goes_out_once_and_in_order(
            steps in prop::collection::vec((0u8..5, 0u64..80, 1usize..4), 0..40),
        ) {
            let mut hold = hold();
            let (mut now, mut sent, mut got) = (0, Vec::new(), Vec::new());
            for (turn, (kind, wait, count)) in steps.into_iter().enumerate() {
                now += wait;
                let piece = match kind {
                    0 => Bytes::from_static(b": ping\n\n"),
                    1 => event(r#"{"choices":[]}"#),
                    _ => Bytes::from(chat(&turn.to_string()).repeat(count)),
                };
                sent.extend_from_slice(&piece);
                got.extend_from_slice(&hold.push(&piece, at(now)).unwrap_or_default());
                prop_assert!(sent.starts_with(&got));
                prop_assert!(hold.next_due().is_none_or(|due| due > at(now) && due <= at(now + 100)));
            }
            got.extend_from_slice(&hold.release().unwrap_or_default());
            prop_assert_eq!(sent, got);
        }
    }
}
