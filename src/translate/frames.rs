//! Where does one event of a provider's stream end?
//!
//! `wire::cut` knows how each dialect puts its events one after another. Unlike the pass-through
//! path, which lets a giant event through unread, translation must read whole events: they are
//! kept up to [`EVENT_MAX`], and a longer one ends the stream as a fault, as does a frame whose
//! checksum is wrong. Gemini streams one JSON array of answers where nobody asked for events
//! (`array`).

mod array;

use crate::base::api::Dialect;
use crate::wire::cut::{self, Cutter, Framing};
use crate::wire::sse::{Block, Piece};
use bytes::{Bytes, BytesMut};

/// Longest event that is read: 8 MiB, an image in base64 or the whole answer that
/// `response.completed` repeats.
pub(super) const EVENT_MAX: usize = 8 * 1024 * 1024;

/// A cutter of one stream.
#[derive(Debug)]
pub(super) struct Frames {
    framing: Framing,
    cutter: Cutter,
    /// What came of an event that the cutter does not keep.
    long: BytesMut,
    /// Gemini's array, once its first byte was seen.
    array: Option<array::Array>,
    /// Whether the first byte, which tells, is still to come.
    may_be_array: bool,
}

/// An event is longer than [`EVENT_MAX`], or a frame is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Frames {
    /// Starts before the first byte of a stream in this dialect.
    pub(super) fn new(dialect: Dialect) -> Self {
        let framing = Framing::of(dialect);
        Frames {
            framing,
            cutter: Cutter::new(framing),
            long: BytesMut::new(),
            array: None,
            may_be_array: dialect == Dialect::GeminiGenerate,
        }
    }

    /// Calls `on` with the name (may be empty) and the data of each event that this chunk
    /// completes.
    pub(super) fn push(&mut self, chunk: &Bytes, mut on: impl FnMut(&[u8], &[u8])) -> Result<(), Unreadable> {
        if self.may_be_array {
            match chunk.iter().find(|b| !b.is_ascii_whitespace()) {
                None => return Ok(()),
                Some(first) => self.array = (*first == b'[').then(array::Array::default),
            }
            self.may_be_array = false;
        }
        if let Some(array) = &mut self.array {
            return array.push(chunk, |item| on(b"", item));
        }
        while let Some(block) = self.cutter.next(chunk).map_err(|cut::Broken| Unreadable)? {
            match block {
                Block::Here(range) => {
                    event(self.framing, chunk.get(range).unwrap_or_default(), &mut on)?;
                }
                Block::Joined { bytes, .. } => event(self.framing, &bytes, &mut on)?,
                Block::Long { bytes, piece, .. } => {
                    if self.long.len() + bytes.len() > EVENT_MAX {
                        return Err(Unreadable);
                    }
                    self.long.extend_from_slice(&bytes);
                    if piece == Piece::Last {
                        event(self.framing, &self.long.split(), &mut on)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls `on` with what the end of the stream left open: a last event without its empty line,
    /// or the only document; half a frame is nothing.
    pub(super) fn finish(&mut self, mut on: impl FnMut(&[u8], &[u8])) {
        if self.array.is_some() {
            // An item without its end is none.
            return;
        }
        self.long.extend_from_slice(&self.cutter.take_rest());
        let _ = event(self.framing, &self.long.split(), &mut on);
    }
}

fn event(framing: Framing, bytes: &[u8], on: &mut impl FnMut(&[u8], &[u8])) -> Result<(), Unreadable> {
    if let Some(event) = cut::read(framing, bytes).map_err(|cut::Broken| Unreadable)? {
        on(&event.name, &event.data);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(dialect: Dialect, text: &str, size: usize) -> Result<Vec<String>, Unreadable> {
        let mut frames = Frames::new(dialect);
        let mut found = Vec::new();
        let mut on = |name: &[u8], data: &[u8]| {
            found.push(format!("{}|{}", String::from_utf8_lossy(name), String::from_utf8_lossy(data)));
        };
        for chunk in text.as_bytes().chunks(size) {
            frames.push(&Bytes::copy_from_slice(chunk), &mut on)?;
        }
        frames.finish(&mut on);
        Ok(found)
    }

    #[test]
    fn events_and_lines_are_found_however_the_stream_is_cut() {
        let giant = "x".repeat(200_000);
        let events = format!(": hi\r\n\r\nevent: a\r\ndata: 1\r\n\r\ndata: {giant}\n\ndata: [DONE]");
        let lines = format!("{{\"a\":1}}\n\r\n{giant}\n{{\"b\":2}}");
        for size in [1, 7, 70_000, 1_000_000] {
            let found = cut(Dialect::OpenAiChat, &events, size).unwrap();
            assert_eq!(found, ["a|1".to_owned(), format!("|{giant}"), "|[DONE]".to_owned()], "{size}");
            let found = cut(Dialect::OllamaChat, &lines, size).unwrap();
            assert_eq!(found, ["|{\"a\":1}".to_owned(), format!("|{giant}"), "|{\"b\":2}".to_owned()]);
        }
    }

    #[test]
    fn gemini_s_items_are_found_in_events_and_in_an_array() {
        let events = "\r\ndata: {\"a\":1}\r\n\r\ndata: {\"b\":\"]\"}\r\n\r\n";
        let array = "\n [{\"a\":1}\n,\r\n{\"b\":\"]\"}\n, {\"c\":[{}, \"\\\"}{\"]}]";
        for size in [1, 2, 5, 1000] {
            let found = cut(Dialect::GeminiGenerate, events, size).unwrap();
            assert_eq!(found, ["|{\"a\":1}", "|{\"b\":\"]\"}"], "{size}");
            let found = cut(Dialect::GeminiGenerate, array, size).unwrap();
            let third = "|{\"c\":[{}, \"\\\"}{\"]}";
            assert_eq!(found, ["|{\"a\":1}", "|{\"b\":\"]\"}", third], "{size}");
        }
    }

    #[test]
    fn an_event_without_end_is_a_fault_and_not_a_leak() {
        let endless = format!("data: {}", "x".repeat(EVENT_MAX + 1));
        for dialect in [Dialect::OpenAiChat, Dialect::OllamaChat] {
            assert_eq!(cut(dialect, &endless, 60_000), Err(Unreadable));
        }
    }
}
