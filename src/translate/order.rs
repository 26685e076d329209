//! In which order may events of a streamed answer come?
//!
//! `Start (PartStart delta* PartEnd | ToolStart ToolArguments+ PartEnd | RedactedThinking)* Finish
//! End`, with `Usage` and `Ping` anywhere after the start and `Error` in the place of any. Not all
//! dialects open and close parts (chat just sends deltas), some never say that they ended, some
//! call the end of an answer with tool calls `stop`. Readers emit what they see; [`Order`] puts in
//! what is missing and drops what may not come, so that every writer can rely on the order:
//!
//! * A delta of another kind than the open part closes it and opens one of its own.
//! * A call without arguments gets `{}`: clients parse what they are given. `null` is none (Groq).
//!   White space before arguments is dropped, for some servers send it without end.
//! * An answer that ends because it failed (`error`, `MALFORMED_FUNCTION_CALL`) is a fault.
//! * After a finish only usage and the end pass. An end without a finish is given one.
//! * Empty deltas are dropped.

use super::form::{Event, Finish, PartKind};
use crate::base::outcome::Outcome;

/// Arguments that are none.
const NULL: &str = "null";

/// What is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Part(PartKind),
    Tool { has_arguments: bool },
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More is to come.
    Open,
    /// The answer is whole and its end was written.
    Ended,
    /// The provider broke it off, or sent what cannot be understood.
    Failed(Outcome),
}

/// Keeper of the order.
#[derive(Debug)]
pub(super) struct Order {
    has_started: bool,
    open: Open,
    /// The first of a call's arguments, as long as they may still be `null`: never longer than it,
    /// and without the white space around it.
    nothing: String,
    has_tools: bool,
    has_finished: bool,
    state: State,
}

impl Order {
    pub(super) fn new() -> Self {
        Order {
            has_started: false,
            open: Open::Nothing,
            nothing: String::new(),
            has_tools: false,
            has_finished: false,
            state: State::Open,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Tells whether the answer's finish has been told.
    pub(super) fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// Passes an event on to `out` in its order.
    pub(super) fn put(&mut self, event: Event, out: &mut Vec<Event>) {
        if self.state != State::Open {
            return;
        }
        match &event {
            Event::Error(outcome) => {
                self.state = State::Failed(*outcome);
                out.push(event);
                return;
            }
            Event::Start { .. } => {
                if !std::mem::replace(&mut self.has_started, true) {
                    out.push(event);
                }
                return;
            }
            Event::Ping if !self.has_started => return,
            _ => self.start(out),
        }
        if self.has_finished && !matches!(event, Event::Usage(_) | Event::End | Event::Ping) {
            return;
        }
        self.put_started(event, out);
    }

    fn put_started(&mut self, mut event: Event, out: &mut Vec<Event>) {
        match &mut event {
            Event::TextDelta(text) | Event::ThinkingDelta(text) | Event::RefusalDelta(text)
                if text.is_empty() =>
            {
                return;
            }
            Event::ToolArguments(text) if text.is_empty() => return,
            Event::TextDelta(_) => self.need(PartKind::Text, out),
            Event::ThinkingDelta(_) | Event::SignatureDelta(_) => self.need(PartKind::Thinking, out),
            Event::RefusalDelta(_) => self.need(PartKind::Refusal, out),
            Event::ToolArguments(text) => {
                let Open::Tool { has_arguments } = &mut self.open else {
                    // Arguments of a call that is closed or was never named: nobody could join
                    // them, and a call without them would be another call.
                    return self.fail(Outcome::BadBody, out);
                };
                if !*has_arguments {
                    let Some(begun) = begun(&mut self.nothing, text) else { return };
                    *text = begun;
                }
                *has_arguments = true;
            }
            Event::PartStart(kind) => {
                self.close(out);
                self.open = Open::Part(*kind);
            }
            Event::ToolStart { .. } => {
                self.close(out);
                self.has_tools = true;
                self.open = Open::Tool { has_arguments: false };
            }
            Event::RedactedThinking(_) => self.close(out),
            Event::PartEnd => {
                self.close(out);
                return;
            }
            Event::Finish { reason: Finish::Error, .. } => return self.fail(Outcome::InbandError, out),
            Event::Finish { reason, stop_sequence } => {
                self.close(out);
                self.has_finished = true;
                let reason = settled(*reason, self.has_tools);
                out.push(Event::Finish { reason, stop_sequence: stop_sequence.clone() });
                return;
            }
            Event::End => {
                if !self.has_finished {
                    self.put_started(Event::Finish { reason: Finish::Stop, stop_sequence: None }, out);
                }
                self.state = State::Ended;
            }
            Event::Usage(_) | Event::Ping | Event::Start { .. } | Event::Error(_) => {}
        }
        out.push(event);
    }

    fn start(&mut self, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.has_started, true) {
            out.push(Event::Start { id: String::new(), model: String::new(), created: None });
        }
    }

    fn fail(&mut self, outcome: Outcome, out: &mut Vec<Event>) {
        self.state = State::Failed(outcome);
        out.push(Event::Error(outcome));
    }

    fn need(&mut self, kind: PartKind, out: &mut Vec<Event>) {
        if self.open != Open::Part(kind) {
            self.close(out);
            self.open = Open::Part(kind);
            out.push(Event::PartStart(kind));
        }
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        let begun = std::mem::take(&mut self.nothing);
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => return,
            Open::Tool { has_arguments: false } => {
                let is_nothing = matches!(begun.as_str(), "" | NULL);
                out.push(Event::ToolArguments(if is_nothing { "{}".to_owned() } else { begun }));
            }
            Open::Part(_) | Open::Tool { has_arguments: true } => {}
        }
        out.push(Event::PartEnd);
    }
}

/// Joins a piece to the first of a call's arguments. Returns them as soon as they can no longer be
/// `null`; until then they are kept in `nothing`, white space around them is not.
fn begun(nothing: &mut String, piece: &str) -> Option<String> {
    let piece = if nothing.is_empty() { piece.trim_start() } else { piece };
    let lacks = NULL.get(nothing.len()..).unwrap_or_default();
    let said = piece.trim_end();
    // White space within the word makes it another one; only what stands behind it is dropped.
    if lacks.starts_with(said) && (said == piece || said == lacks) {
        nothing.push_str(said);
        debug_assert!(nothing.len() <= NULL.len());
        return None;
    }
    Some(std::mem::take(nothing) + piece)
}

/// Returns why an answer really ends: many servers say `stop` where tools are to be called.
pub(super) fn settled(reason: Finish, has_tools: bool) -> Finish {
    if reason == Finish::Stop && has_tools { Finish::ToolUse } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::outcome::Outcome;
    use proptest::prelude::*;

    fn ordered(events: Vec<Event>) -> Vec<Event> {
        let mut order = Order::new();
        let mut out = Vec::new();
        for event in events {
            order.put(event, &mut out);
        }
        out
    }

    fn start() -> Event {
        Event::Start { id: String::new(), model: String::new(), created: None }
    }

    fn tool() -> Event {
        Event::ToolStart { id: "t".to_owned(), name: "f".to_owned(), seal: None }
    }

    fn finish(reason: Finish) -> Event {
        Event::Finish { reason, stop_sequence: None }
    }

    #[test]
    fn what_a_dialect_leaves_out_is_put_in() {
        let text = |text: &str| Event::TextDelta(text.to_owned());
        let thought = |text: &str| Event::ThinkingDelta(text.to_owned());
        assert_eq!(
            ordered(vec![
                Event::Ping,
                thought("hm"),
                text(""),
                text("a"),
                text("b"),
                tool(),
                finish(Finish::Stop),
                text("late"),
                Event::End,
                text("later")
            ]),
            [
                start(),
                Event::PartStart(PartKind::Thinking),
                thought("hm"),
                Event::PartEnd,
                Event::PartStart(PartKind::Text),
                text("a"),
                text("b"),
                Event::PartEnd,
                tool(),
                Event::ToolArguments("{}".to_owned()),
                Event::PartEnd,
                finish(Finish::ToolUse),
                Event::End,
            ]
        );
        assert_eq!(ordered(vec![start(), Event::End]), [start(), finish(Finish::Stop), Event::End]);
        assert_eq!(ordered(vec![start(), start(), Event::PartEnd]), [start()]);
    }

    #[test]
    fn arguments_that_are_null_are_none_however_they_are_cut() {
        let piece = |text: &str| Event::ToolArguments(text.to_owned());
        for (pieces, want) in [
            (&["null"][..], &["{}"][..]),
            (&["nu", "ll", " "], &["{}"]),
            (&["n"], &["n"]),
            (&["nu", "mber", "s"], &["number", "s"]),
            (&["null", "\n", " "], &["{}"]),
            (&[" \n", "", " null "], &["{}"]),
            (&[" ", "\n"], &["{}"]),
            (&["nu", " ", "ll"], &["nu ", "ll"]),
            (&["nul", "l", " ", "s"], &["nulls"]),
            (&[" ", "{", "}"], &["{", "}"]),
            (&["\t{ ", " }"], &["{ ", " }"]),
        ] {
            let events = [vec![tool()], pieces.iter().copied().map(piece).collect()].concat();
            let got = ordered([events, vec![Event::PartEnd]].concat());
            let want = want.iter().copied().map(piece).collect();
            assert_eq!(got, [vec![start(), tool()], want, vec![Event::PartEnd]].concat(), "{pieces:?}");
        }
    }

    #[test]
    fn white_space_without_end_is_not_kept() {
        for (first, last, want) in [("", "", "{}"), ("null", "", "{}"), (" ", "{\"a\":1}", "{\"a\":1}")] {
            let (mut order, mut out) = (Order::new(), Vec::new());
            order.put(tool(), &mut out);
            order.put(Event::ToolArguments(first.to_owned()), &mut out);
            for _ in 0..100_000 {
                order.put(Event::ToolArguments(" \n".to_owned()), &mut out);
                assert!(order.nothing.len() <= NULL.len(), "{:?}", order.nothing.len());
            }
            assert_eq!(out, [start(), tool()], "{first:?}: white space is not told");
            order.put(Event::ToolArguments(last.to_owned()), &mut out);
            order.put(Event::PartEnd, &mut out);
            let want = Event::ToolArguments(want.to_owned());
            assert_eq!(out, [start(), tool(), want, Event::PartEnd], "{first:?} and {last:?}");
        }
    }

    #[test]
    fn an_answer_that_failed_is_no_answer() {
        let got = ordered(vec![Event::TextDelta("a".to_owned()), finish(Finish::Error), Event::End]);
        assert_eq!(got.last(), Some(&Event::Error(Outcome::InbandError)));
    }

    #[test]
    fn arguments_that_belong_to_no_open_call_are_a_fault() {
        let late = Event::ToolArguments("1".to_owned());
        let got = ordered(vec![tool(), Event::PartEnd, late, Event::End]);
        assert_eq!(got.last(), Some(&Event::Error(Outcome::BadBody)));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let text = prop_oneof![Just(String::new()), Just("x".to_owned())];
        prop_oneof![
            Just(start()),
            Just(tool()),
            Just(finish(Finish::Stop)),
            Just(Event::PartEnd),
            Just(Event::Ping),
            Just(Event::End),
            Just(Event::PartStart(PartKind::Text)),
            Just(Event::PartStart(PartKind::Refusal)),
            text.clone().prop_map(Event::TextDelta),
            text.clone().prop_map(Event::ThinkingDelta),
            text.prop_map(Event::ToolArguments),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_in_comes_out_in_order(events in prop::collection::vec(any_event(), 0..30)) {
            let (mut open, mut finished, mut ended) = (None, false, false);
            for (at, event) in ordered(events).into_iter().enumerate() {
                prop_assert!(!ended);
                match event {
                    Event::Start { .. } => prop_assert_eq!(at, 0),
                    Event::Error(_) => break,
                    Event::PartStart(kind) => prop_assert!(open.replace(Open::Part(kind)).is_none() && !finished),
                    Event::ToolStart { .. } => {
                        let before = open.replace(Open::Tool { has_arguments: false });
                        prop_assert!(before.is_none() && !finished);
                    }
                    Event::TextDelta(_) => prop_assert_eq!(open, Some(Open::Part(PartKind::Text))),
                    Event::ThinkingDelta(_) => prop_assert_eq!(open, Some(Open::Part(PartKind::Thinking))),
                    Event::ToolArguments(_) => {
                        let is_tool = matches!(open, Some(Open::Tool { .. }));
                        prop_assert!(is_tool);
                        open = Some(Open::Tool { has_arguments: true });
                    }
                    Event::PartEnd => {
                        let bare = Some(Open::Tool { has_arguments: false });
                        prop_assert!(open.is_some() && open != bare);
                        open = None;
                    }
                    Event::Finish { .. } => {
                        prop_assert!(open.is_none() && !finished);
                        finished = true;
                    }
                    Event::End => {
                        prop_assert!(finished);
                        ended = true;
                    }
                    _ => {}
                }
            }
        }
    }
}
