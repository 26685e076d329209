//! What is in an answer?
//!
//! Events are split at empty lines (LF or CRLF) and stamped with the time since the call began;
//! the text of an answer is read out of any of the dialects, so that one assertion serves all.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::standin::HttpVersion;

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// As the protocol wants it: full length, last chunk, `END_STREAM`.
    Clean,
    /// Broken off, with the reason.
    Cut(String),
    /// The caller left.
    Left,
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time since the call began.
    pub at: Duration,
    /// The `event` field.
    pub name: Option<String>,
    /// The `data` lines, joined; empty for comments.
    pub data: String,
}

/// An answer and its times, all of them counted from the moment the call began.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP version of the answer.
    pub version: HttpVersion,
    /// Status; 0 when the caller left before the head.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Interim (1xx) statuses before the head.
    pub interims: Vec<u16>,
    /// Body without transfer coding.
    pub body: Bytes,
    /// Events, where the body is a stream.
    pub events: Vec<Event>,
    /// When the head had arrived.
    pub ttfb: Duration,
    /// When the first content had arrived: the first event with text in it, else the first byte
    /// of the body.
    pub ttfc: Option<Duration>,
    /// When the last byte had arrived.
    pub took: Duration,
    /// How the body ended.
    pub end: BodyEnd,
}

impl Answer {
    /// Returns the first header of that name, whatever the case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON, or `null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns what the model said, of a stream or of a whole answer, in any dialect.
    #[must_use]
    pub fn text(&self) -> String {
        if self.is_stream() {
            self.events.iter().filter_map(|event| content_of(&event.data)).collect()
        } else {
            whole_text(&self.json()).unwrap_or_default()
        }
    }

    /// Returns the error in the answer: that of an error body, or the first in a stream.
    #[must_use]
    pub fn error(&self) -> Option<Value> {
        if !self.is_stream() {
            return self.json().get("error").cloned();
        }
        self.events.iter().find_map(|event| {
            let data: Value = serde_json::from_str(&event.data).ok()?;
            // The error event of the responses API is flat.
            let is_flat = event.name.as_deref() == Some("error") && data.get("error").is_none();
            if is_flat { Some(data) } else { data.get("error").filter(|error| !error.is_null()).cloned() }
        })
    }

    /// Returns `code` of the error, or its `type` where it has no code; empty without an error.
    #[must_use]
    pub fn error_code(&self) -> String {
        let error = self.error().unwrap_or_default();
        let word = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        word("code").or_else(|| word("type")).unwrap_or_default()
    }

    /// Tells whether the stream came to the normal end of its dialect, marker included.
    #[must_use]
    pub fn has_end_marker(&self) -> bool {
        self.events.iter().any(|event| {
            event.data == "[DONE]"
                || matches!(event.name.as_deref(), Some("message_stop" | "response.completed"))
        })
    }

    /// Returns the last `usage` that is not null, of a stream or of a whole answer.
    #[must_use]
    pub fn usage(&self) -> Option<Value> {
        let of = |data: &Value| data.get("usage").filter(|usage| usage.is_object()).cloned();
        if !self.is_stream() {
            return of(&self.json());
        }
        let parsed = |event: &Event| serde_json::from_str::<Value>(&event.data).ok();
        self.events
            .iter()
            .rev()
            .filter_map(parsed)
            .find_map(|data| of(&data).or_else(|| data.get("response").and_then(of)))
    }

    /// Returns the times between events, to judge whether a stream flows or comes in lumps.
    #[must_use]
    pub fn gaps(&self) -> Vec<Duration> {
        self.events.iter().zip(self.events.iter().skip(1)).map(|(a, b)| b.at.saturating_sub(a.at)).collect()
    }

    /// Tells whether the body is a stream of events.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }
}

/// Returns the text that an event adds, of any dialect; nothing for an event without any.
pub(super) fn content_of(data: &str) -> Option<String> {
    let data: Value = serde_json::from_str(data).ok()?;
    let text = match data.get("type").and_then(Value::as_str) {
        Some("content_block_delta") => data.pointer("/delta/text"),
        Some("response.output_text.delta") => data.get("delta"),
        Some(_) => None,
        None => ["/choices/0/delta/content", "/choices/0/text", "/candidates/0/content/parts/0/text"]
            .iter()
            .find_map(|path| data.pointer(path)),
    };
    text.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn whole_text(body: &Value) -> Option<String> {
    let paths = [
        "/choices/0/message/content",
        "/choices/0/text",
        "/content/0/text",
        "/output/0/content/0/text",
        "/candidates/0/content/parts/0/text",
    ];
    paths.iter().find_map(|path| body.pointer(path)).and_then(Value::as_str).map(str::to_owned)
}

/// Cuts body bytes into events as they come.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    rest: BytesMut,
}

impl Splitter {
    /// Adds bytes and returns the events that are complete by now.
    pub(super) fn push(&mut self, bytes: &[u8], at: Duration) -> Vec<Event> {
        // An empty line may begin in the last three bytes of what was here before.
        let mut from = self.rest.len().saturating_sub(3);
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some((end, next)) = blank_line(&self.rest, from) {
            let block = self.rest.split_to(next);
            events.extend(event_of(block.get(..end).unwrap_or_default(), at));
            from = 0;
        }
        events
    }
}

/// Finds the end of a block and the start of the one after it.
fn blank_line(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let tail = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', tail).find_map(|at| match tail.get(at + 1..)? {
        [b'\n', ..] => Some((from + at, from + at + 2)),
        [b'\r', b'\n', ..] => Some((from + at, from + at + 3)),
        _ => None,
    })
}

fn event_of(block: &[u8], at: Duration) -> Option<Event> {
    let text = String::from_utf8_lossy(block);
    let mut event = Event { at, name: None, data: String::new() };
    // The block ends before its last line feed, so `lines` leaves that line its CR.
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(value) = line.strip_prefix("data:") {
            if !event.data.is_empty() {
                event.data.push('\n');
            }
            event.data.push_str(value.strip_prefix(' ').unwrap_or(value));
        } else if let Some(value) = line.strip_prefix("event:") {
            event.name = Some(value.trim().to_owned());
        }
    }
    (!text.trim().is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_at_every_split() {
        let stream = b"event: a\ndata: 1\n\n: comment\n\ndata: 2\r\n\r\ndata: x\ndata: y\n\n";
        let whole = Splitter::default().push(stream, Duration::ZERO);
        assert_eq!(whole.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), ["1", "", "2", "x\ny"]);
        for at in 0..stream.len() {
            let mut splitter = Splitter::default();
            let mut events = splitter.push(&stream[..at], Duration::ZERO);
            events.extend(splitter.push(&stream[at..], Duration::ZERO));
            assert_eq!(events, whole, "split at {at}");
        }
    }
}
