//! Which call does a piece of arguments belong to, and when may it be told?
//!
//! A chunk names a call by its index, some servers by its id, some not at all, and nothing says that
//! a call is whole: servers send pieces of several calls by turns, and text between them. All
//! other dialects tell one part after another. So the first call is told as it comes, and what
//! comes before its arguments are a whole JSON object waits: further calls with their pieces, text,
//! thoughts. What waits is told in the order in which it began, as soon as the call before it is
//! whole, at the latest when the answer ends.
//!
//! At most [`EVENT_MAX`] bytes wait, and at most [`WAITING_MAX`] calls, for each piece is held against
//! each of them; more is a fault. So are arguments of a call that was closed or never named: nobody
//! could join them, and a call without them would be another call.

use super::super::form::{Event, Seal};
use super::super::frames::EVENT_MAX;
use crate::base::outcome::Outcome;
use std::collections::VecDeque;

/// What each thing that waits takes beside its text.
const OVERHEAD: usize = 128;

/// Calls that may wait. OpenAI lets a model have 128 tools, and no answer calls as many at once.
const WAITING_MAX: usize = 1_024;

/// A piece of a call as a chunk brings it.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) choice: u64,
    pub(super) index: Option<u64>,
    pub(super) id: String,
    /// Nothing in all pieces but the first, of most servers.
    pub(super) name: Option<String>,
    pub(super) seal: Option<Seal>,
    pub(super) arguments: String,
}

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The call that is told as it comes.
    open: Option<Call>,
    /// What is told behind that call.
    said: Vec<Event>,
    /// The calls behind it: at most [`WAITING_MAX`].
    waiting: VecDeque<Waiting>,
    /// What waits, in bytes.
    held: usize,
}

/// A call under way.
#[derive(Debug)]
struct Call {
    choice: u64,
    index: Option<u64>,
    id: String,
    shape: Shape,
}

/// A call that is told later.
#[derive(Debug)]
struct Waiting {
    call: Call,
    start: Event,
    arguments: String,
    /// What is told behind it. It stands here and not among the calls, so that finding the call of a
    /// piece takes no longer for it.
    said: Vec<Event>,
}

/// How far the JSON text of arguments has come.
#[derive(Debug, Default)]
struct Shape {
    depth: u32,
    is_text: bool,
    is_escaped: bool,
    has_begun: bool,
}

impl Calls {
    /// Takes what is no part of a call.
    pub(super) fn say(&mut self, event: Event, seen: &mut Vec<Event>) {
        if is_empty(&event) {
            return;
        }
        if self.is_busy() {
            self.held = self.held.saturating_add(size(&event));
            self.waiting.back_mut().map_or(&mut self.said, |last| &mut last.said).push(event);
            self.limit(seen);
        } else {
            self.open = None;
            seen.push(event);
        }
    }

    /// Takes a piece of a call. A name begins one, unless it repeats that of a call under way.
    pub(super) fn take(&mut self, piece: Piece, seen: &mut Vec<Event>) {
        if let Some(waiting) = self.waiting.iter_mut().rfind(|waiting| waiting.call.is_of(&piece)) {
            waiting.call.shape.take(&piece.arguments);
            waiting.arguments.push_str(&piece.arguments);
            self.held = self.held.saturating_add(piece.arguments.len());
            self.limit(seen);
        } else if self.open.as_ref().is_some_and(|call| call.is_of(&piece)) {
            self.tell(piece.arguments, seen);
        } else if let Some(name) = piece.name {
            let Piece { choice, index, id, seal, arguments, .. } = piece;
            let start = Event::ToolStart { id: id.clone(), name, seal };
            let mut call = Call { choice, index, id, shape: Shape::default() };
            if self.is_busy() {
                call.shape.take(&arguments);
                let waiting = Waiting { call, start, arguments, said: Vec::new() };
                self.held = self.held.saturating_add(waiting.size());
                self.waiting.push_back(waiting);
                self.limit(seen);
            } else {
                self.open = Some(call);
                seen.push(start);
                self.tell(arguments, seen);
            }
        } else if !piece.arguments.trim().is_empty() {
            seen.push(Event::Error(Outcome::BadBody));
        }
    }

    /// Tells all that waits: the answer has ended.
    pub(super) fn finish(&mut self, seen: &mut Vec<Event>) {
        while !self.waiting.is_empty() || !self.said.is_empty() {
            self.open = None;
            self.release(seen);
        }
    }

    /// Tells whether something must be told to its end before anything else.
    fn is_busy(&self) -> bool {
        self.open.as_ref().is_some_and(|call| !call.shape.is_whole()) || !self.waiting.is_empty()
    }

    /// Tells more of the open call's arguments, and what waited for their end.
    fn tell(&mut self, arguments: String, seen: &mut Vec<Event>) {
        let Some(call) = &mut self.open else { return };
        call.shape.take(&arguments);
        let is_whole = call.shape.is_whole();
        seen.push(Event::ToolArguments(arguments));
        if is_whole {
            self.release(seen);
        }
    }

    /// Tells what waits up to a call that is not whole.
    fn release(&mut self, seen: &mut Vec<Event>) {
        loop {
            if !self.said.is_empty() {
                self.open = None;
                self.held = self.held.saturating_sub(self.said.iter().map(size).sum());
                seen.append(&mut self.said);
            }
            let Some(next) = self.waiting.pop_front() else { return };
            self.held = self.held.saturating_sub(next.size());
            let Waiting { call, start, arguments, said } = next;
            let is_whole = call.shape.is_whole();
            (self.open, self.said) = (Some(call), said);
            seen.extend([start, Event::ToolArguments(arguments)]);
            if !is_whole {
                return;
            }
        }
    }

    fn limit(&mut self, seen: &mut Vec<Event>) {
        if self.held > EVENT_MAX || self.waiting.len() > WAITING_MAX {
            *self = Calls::default();
            seen.push(Event::Error(Outcome::BadBody));
        }
    }
}

impl Call {
    /// Tells whether a piece is of this call. Without a number and an id a name begins a call, and
    /// nothing at all goes on with the latest.
    fn is_of(&self, piece: &Piece) -> bool {
        let is_named = piece.name.is_some();
        match piece.index {
            None if piece.id.is_empty() => !is_named,
            None if !is_named => true,
            index => {
                self.choice == piece.choice
                    && self.index == index
                    && (!is_named || piece.id.is_empty() || self.id == piece.id)
            }
        }
    }
}

impl Waiting {
    /// Returns what it takes without what is told behind it. Names and ids count: a client chose the
    /// tools, but not what a provider calls them.
    fn size(&self) -> usize {
        let text = self.call.id.len().saturating_add(self.arguments.len());
        text.saturating_add(size(&self.start))
    }
}

impl Shape {
    fn take(&mut self, text: &str) {
        for byte in text.bytes() {
            let is_escaped = std::mem::take(&mut self.is_escaped);
            match byte {
                b'\\' if self.is_text => self.is_escaped = !is_escaped,
                b'"' if !is_escaped => self.is_text = !self.is_text,
                b'{' | b'[' if !self.is_text => {
                    self.has_begun = true;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' if !self.is_text => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.has_begun && self.depth == 0 && !self.is_text
    }
}

/// Returns what an event takes while it waits.
fn size(event: &Event) -> usize {
    let text = match event {
        Event::TextDelta(text)
        | Event::ThinkingDelta(text)
        | Event::RefusalDelta(text)
        | Event::ToolArguments(text) => text.len(),
        Event::SignatureDelta(seal) | Event::RedactedThinking(seal) => seal.text.len(),
        Event::ToolStart { id, name, seal } => {
            let seal = seal.as_ref().map_or(0, |seal| seal.text.len());
            id.len().saturating_add(name.len()).saturating_add(seal)
        }
        Event::Start { .. }
        | Event::PartStart(_)
        | Event::PartEnd
        | Event::Usage(_)
        | Event::Finish { .. }
        | Event::End
        | Event::Ping
        | Event::Error(_) => 0,
    };
    text.saturating_add(OVERHEAD)
}

/// Tells whether an event says nothing: such a one does not close a call.
fn is_empty(event: &Event) -> bool {
    matches!(
        event,
        Event::TextDelta(text) | Event::ThinkingDelta(text) | Event::RefusalDelta(text) if text.is_empty()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: u64, name: &str, arguments: &str) -> Piece {
        let (id, name) = (String::new(), (!name.is_empty()).then(|| name.to_owned()));
        Piece { choice: 0, index: Some(index), id, name, seal: None, arguments: arguments.to_owned() }
    }

    /// Writes what was told: `f(` a call, then its arguments, and text in quotes.
    fn told(events: &[Event]) -> String {
        events
            .iter()
            .map(|event| match event {
                Event::ToolStart { name, .. } => format!("{name}("),
                Event::ToolArguments(text) => text.clone(),
                Event::TextDelta(text) => format!("'{text}'"),
                Event::Error(_) => "!".to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn pieces_of_several_calls_are_told_call_by_call() {
        let mut seen = Vec::new();
        let mut calls = Calls::default();
        calls.take(piece(0, "f", ""), &mut seen);
        calls.take(piece(1, "g", ""), &mut seen);
        calls.take(piece(0, "", "{\"a\":\"}"), &mut seen);
        calls.say(Event::TextDelta("hm".to_owned()), &mut seen);
        calls.take(piece(1, "", "{}"), &mut seen);
        calls.take(piece(2, "h", "{"), &mut seen);
        assert_eq!(told(&seen), "f({\"a\":\"}", "the first is told as it comes");
        calls.take(piece(0, "", "\\\"\"}"), &mut seen);
        assert_eq!(told(&seen), "f({\"a\":\"}\\\"\"}g({}'hm'h({");
        calls.take(piece(2, "", "}"), &mut seen);
        calls.take(piece(3, "i", "{\"n\":[1"), &mut seen);
        calls.take(piece(4, "j", "[]"), &mut seen);
        assert_eq!(
            told(&seen),
            "f({\"a\":\"}\\\"\"}g({}'hm'h({}i({\"n\":[1",
            "one after another waits for nothing"
        );
        calls.finish(&mut seen);
        assert!(told(&seen).ends_with("i({\"n\":[1j([]"), "what was cut off goes out as it is");
    }

    #[test]
    fn what_belongs_to_no_call_and_what_is_too_much_is_a_fault() {
        let (mut seen, mut calls) = (Vec::new(), Calls::default());
        calls.take(piece(0, "f", "{}"), &mut seen);
        calls.take(piece(1, "", " "), &mut seen);
        assert_eq!(told(&seen), "f({}");
        calls.take(piece(1, "", "{}"), &mut seen);
        assert!(told(&seen).ends_with('!'));
        let (mut seen, mut calls) = (Vec::new(), Calls::default());
        calls.take(piece(0, "f", "{"), &mut seen);
        let long = "x".repeat(EVENT_MAX / 4);
        for _ in 0..4 {
            calls.say(Event::TextDelta(long.clone()), &mut seen);
        }
        assert!(told(&seen).ends_with('!'));
        let (mut seen, mut calls) = (Vec::new(), Calls::default());
        calls.take(piece(0, "f", "{"), &mut seen);
        for index in 1..=4 {
            calls.take(piece(index, &long, ""), &mut seen);
        }
        assert!(told(&seen).ends_with('!'), "names count too");
    }

    #[test]
    fn more_calls_under_way_than_any_answer_has_are_a_fault() {
        let most = WAITING_MAX as u64;
        let (mut seen, mut calls) = (Vec::new(), Calls::default());
        for index in 0..=most {
            calls.take(piece(index, "f", "{"), &mut seen);
            // What is said between them is not held against a piece.
            calls.say(Event::TextDelta("hm".to_owned()), &mut seen);
        }
        assert_eq!((told(&seen).as_str(), calls.waiting.len()), ("f({", WAITING_MAX));
        for index in 0..=most {
            calls.take(piece(index, "", "}"), &mut seen);
        }
        assert_eq!(told(&seen), "f({}'hm'".repeat(WAITING_MAX + 1));
        assert_eq!(calls.held, 0, "all that was held is let go");

        let (mut seen, mut calls) = (Vec::new(), Calls::default());
        for index in 0..=most + 1 {
            assert_eq!(told(&seen).matches('!').count(), 0, "call {index}");
            calls.take(piece(index, "f", "{"), &mut seen);
            assert!(calls.waiting.len() <= WAITING_MAX);
        }
        assert_eq!(seen.last(), Some(&Event::Error(Outcome::BadBody)));
    }
}
