//! Where does one event of a provider's stream end?
//!
//! Server-sent events for most dialects, a JSON document a line for Ollama. Unlike the pass-through
//! path, which lets a giant event through unread, translation must read whole events: they are
//! kept up to [`EVENT_MAX`], and a longer one ends the stream as a fault. Gemini streams one JSON
//! array of answers where nobody asked for events (`array`).

mod array;

use crate::base::api::Dialect;
use crate::wire::sse::{self, Block, Splitter};
use bytes::{Bytes, BytesMut};

/// Longest event that is read: 8 MiB, an image in base64 or the whole answer that
/// `response.completed` repeats.
pub(super) const EVENT_MAX: usize = 8 * 1024 * 1024;

/// A cutter of one stream.
#[derive(Debug)]
pub(super) enum Frames {
    /// Server-sent events.
    Events {
        /// Finds where events end.
        splitter: Splitter,
        /// What came of an event that the splitter does not keep.
        long: BytesMut,
    },
    /// A JSON document a line; what came of the open line.
    Lines(BytesMut),
    /// Gemini before the first byte that tells which.
    Unknown,
    /// One JSON array.
    Array(array::Array),
}

/// An event is longer than [`EVENT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Frames {
    /// Starts before the first byte of a stream in this dialect; nothing where we cannot cut it.
    pub(super) fn new(dialect: Dialect) -> Option<Self> {
        match dialect {
            Dialect::OpenAiChat
            | Dialect::OpenAiResponses
            | Dialect::AnthropicMessages
            | Dialect::CohereChat => Some(Frames::events()),
            Dialect::GeminiGenerate => Some(Frames::Unknown),
            Dialect::OllamaChat => Some(Frames::Lines(BytesMut::new())),
            Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::BedrockConverse
            | Dialect::GenerateBridge => None,
        }
    }

    fn events() -> Self {
        Frames::Events { splitter: Splitter::default(), long: BytesMut::new() }
    }

    /// Calls `on` with the name (may be empty) and the data of each event that this chunk
    /// completes.
    pub(super) fn push(&mut self, chunk: &Bytes, mut on: impl FnMut(&[u8], &[u8])) -> Result<(), TooLong> {
        if matches!(self, Frames::Unknown) {
            match chunk.iter().find(|b| !b.is_ascii_whitespace()) {
                None => return Ok(()),
                Some(b'[') => *self = Frames::Array(array::Array::default()),
                Some(_) => *self = Frames::events(),
            }
        }
        match self {
            Frames::Unknown => {}
            Frames::Array(items) => items.push(chunk, |item| on(b"", item))?,
            Frames::Events { splitter, long } => {
                while let Some(block) = splitter.next(chunk) {
                    match block {
                        Block::Here(range) => event(chunk.get(range).unwrap_or_default(), &mut on),
                        Block::Joined { bytes, .. } => event(&bytes, &mut on),
                        Block::Long { bytes, piece, .. } => {
                            if long.len() + bytes.len() > EVENT_MAX {
                                return Err(TooLong);
                            }
                            long.extend_from_slice(&bytes);
                            if piece == sse::Piece::Last {
                                event(&long.split(), &mut on);
                            }
                        }
                    }
                }
            }
            Frames::Lines(open) => {
                let mut rest: &[u8] = chunk;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let (line, after) = rest.split_at(end + 1);
                    rest = after;
                    if open.is_empty() {
                        self::line(line, &mut on);
                    } else {
                        open.extend_from_slice(line);
                        self::line(&open.split(), &mut on);
                    }
                }
                if open.len() + rest.len() > EVENT_MAX {
                    return Err(TooLong);
                }
                open.extend_from_slice(rest);
            }
        }
        Ok(())
    }

    /// Calls `on` with what the end of the stream left open: a last event without its empty line.
    pub(super) fn finish(&mut self, mut on: impl FnMut(&[u8], &[u8])) {
        match self {
            Frames::Events { splitter, long } => {
                long.extend_from_slice(&splitter.take_rest());
                event(&long.split(), &mut on);
            }
            Frames::Lines(open) => line(&open.split(), &mut on),
            // An item without its end is none.
            Frames::Unknown | Frames::Array(_) => {}
        }
    }
}

fn event(bytes: &[u8], on: &mut impl FnMut(&[u8], &[u8])) {
    let fields = sse::fields(bytes);
    if let Some(data) = &fields.data {
        on(fields.name, data);
    }
}

fn line(bytes: &[u8], on: &mut impl FnMut(&[u8], &[u8])) {
    let line = bytes.trim_ascii();
    if !line.is_empty() {
        on(b"", line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(dialect: Dialect, text: &str, size: usize) -> Result<Vec<String>, TooLong> {
        let mut frames = Frames::new(dialect).unwrap();
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
            assert_eq!(cut(dialect, &endless, 60_000), Err(TooLong));
        }
        let endless = endless.replace("data: ", "[{\"a\":\"");
        assert_eq!(cut(Dialect::GeminiGenerate, &endless, 60_000), Err(TooLong));
    }
}
