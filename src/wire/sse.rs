//! Cuts a byte stream into server-sent events.
//!
//! [`Splitter`] answers one question: where does an event end? An event ends with an empty line;
//! lines end with LF, CRLF or CR, also mixed, also with the CR in one chunk and its LF in the
//! next (WHATWG HTML 9.2.6; Gemini frames with CRLF, OpenRouter sends comment lines). Bytes are
//! never changed: a chunk of whole events is handed out as ranges of itself; only what a chunk
//! leaves unfinished is copied aside until its end arrives.
//!
//! An event longer than [`EVENT_MAX`] is not kept: its bytes are handed out as they come, marked
//! [`Block::Long`], until the next empty line. So memory per stream is bounded, and a
//! legitimate giant (an image in one event) still passes.
//!
//! [`fields`] reads the `event:` name and the `data:` of one event.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

/// Longest event that is kept over chunks: 64 KiB, the bound of threat P4.
pub const EVENT_MAX: usize = 64 * 1024;

/// A stretch of the stream, in order and without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A whole event, its empty line included, lying in the chunk at this range.
    Here(Range<usize>),
    /// A whole event begun in earlier chunks; it ends in the chunk at `end`.
    Joined {
        /// The event, put together.
        bytes: Bytes,
        /// Where it ends in the chunk.
        end: usize,
    },
    /// A piece of an event too long to keep; it ends in the chunk at `end`.
    Long {
        /// The piece.
        bytes: Bytes,
        /// Where it ends in the chunk.
        end: usize,
        /// Which piece of the event it is.
        piece: Piece,
    },
}

/// Which piece of an over-long event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All that was kept so far and the rest of the chunk.
    First,
    /// A chunk without the event's end.
    Middle,
    /// The end of the event.
    Last,
}

/// Incremental splitter of one stream.
#[derive(Debug)]
pub struct Splitter {
    /// The open event's bytes from earlier chunks.
    kept: BytesMut,
    /// Where the open event starts in the current chunk.
    start: usize,
    /// How far the current chunk has been searched for line ends.
    searched: usize,
    /// Whether the current line is empty so far.
    line_is_empty: bool,
    /// Whether the byte before the search was a CR, so that an LF now belongs to it.
    after_cr: bool,
    /// Whether the open event is over-long and is being passed on.
    long: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter {
            kept: BytesMut::new(),
            start: 0,
            searched: 0,
            line_is_empty: true,
            after_cr: false,
            long: false,
        }
    }
}

impl Splitter {
    /// Returns the next stretch that is complete with this chunk. Call it with the same chunk
    /// until it returns nothing, then with the next one.
    pub fn next(&mut self, chunk: &Bytes) -> Option<Block> {
        let start = self.start;
        if let Some(end) = self.event_end(chunk) {
            self.start = end;
            if self.long {
                self.long = false;
                return Some(Block::Long { bytes: chunk.slice(start..end), end, piece: Piece::Last });
            }
            if self.kept.is_empty() {
                return Some(Block::Here(start..end));
            }
            self.kept.extend_from_slice(chunk.get(start..end).unwrap_or_default());
            return Some(Block::Joined { bytes: self.kept.split().freeze(), end });
        }
        self.start = 0;
        self.searched = 0;
        let rest = chunk.get(start..).unwrap_or_default();
        let end = chunk.len();
        if rest.is_empty() {
            return None;
        }
        if self.long {
            // The next call with this chunk must find it used up.
            (self.start, self.searched) = (end, end);
            return Some(Block::Long { bytes: chunk.slice(start..), end, piece: Piece::Middle });
        }
        if self.kept.len() + rest.len() <= EVENT_MAX {
            self.kept.extend_from_slice(rest);
            return None;
        }
        self.long = true;
        (self.start, self.searched) = (end, end);
        let bytes = if self.kept.is_empty() {
            chunk.slice(start..)
        } else {
            self.kept.extend_from_slice(rest);
            self.kept.split().freeze()
        };
        Some(Block::Long { bytes, end, piece: Piece::First })
    }

    /// Returns the bytes of the event that no empty line has ended; nothing is left after that.
    pub fn take_rest(&mut self) -> Bytes {
        self.kept.split().freeze()
    }

    /// Searches on for an empty line and returns the offset behind it.
    fn event_end(&mut self, chunk: &[u8]) -> Option<usize> {
        loop {
            if self.after_cr {
                let next = chunk.get(self.searched)?;
                self.after_cr = false;
                if *next == b'\n' {
                    self.searched += 1;
                    // The event was already handed out with its CR: the LF follows it at once.
                    let begins_nothing = self.start + 1 == self.searched && self.kept.is_empty();
                    if begins_nothing && self.line_is_empty && !self.long {
                        return Some(self.searched);
                    }
                }
            }
            let rest = chunk.get(self.searched..).unwrap_or_default();
            let Some(offset) = memchr2(b'\n', b'\r', rest) else {
                self.line_is_empty &= rest.is_empty();
                self.searched = chunk.len();
                return None;
            };
            let ends_event = self.line_is_empty && offset == 0;
            self.after_cr = rest.get(offset) == Some(&b'\r');
            self.searched += offset + 1;
            self.line_is_empty = true;
            if ends_event {
                if self.after_cr && chunk.get(self.searched) == Some(&b'\n') {
                    self.after_cr = false;
                    self.searched += 1;
                }
                return Some(self.searched);
            }
        }
    }
}

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The `event:` name; empty where there is none.
    pub name: &'a [u8],
    /// The `data:` lines joined with LF; nothing where there is none (a comment, `retry:`).
    pub data: Option<Cow<'a, [u8]>>,
}

/// Reads the fields of one event. One `data:` line, which is all that providers send, is
/// borrowed; several are joined.
#[must_use]
pub fn fields(event: &[u8]) -> Fields<'_> {
    let mut found = Fields { name: b"", data: None };
    let mut rest = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        rest.advance((end + 1).min(rest.len()));
        if let Some(value) = value_of(line, b"data") {
            match &mut found.data {
                None => found.data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        } else if let Some(value) = value_of(line, b"event") {
            found.name = value;
        }
    }
    found
}

/// Returns what an event lacks whose empty line did not come, in its own line ends.
#[must_use]
pub fn end_of(event: &[u8]) -> &'static [u8] {
    if event.ends_with(b"\r\n") {
        b"\r\n"
    } else if event.ends_with(b"\n") {
        b"\n"
    } else if event.ends_with(b"\r") {
        // Where it is a line end by itself it becomes one of two bytes.
        b"\n\r\n"
    } else {
        b"\n\n"
    }
}

/// Returns what follows `name:` and at most one space; a line that is the bare name has an empty
/// value.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The events (as bytes) that the chunks hold, over-long ones put together again.
    fn events(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = Splitter::default();
        let mut found: Vec<Vec<u8>> = Vec::new();
        for chunk in chunks {
            let chunk = Bytes::copy_from_slice(chunk);
            while let Some(block) = splitter.next(&chunk) {
                match block {
                    Block::Here(range) => found.push(chunk[range].to_vec()),
                    Block::Joined { bytes, .. } | Block::Long { bytes, piece: Piece::First, .. } => {
                        found.push(bytes.to_vec());
                    }
                    Block::Long { bytes, .. } => found.last_mut().unwrap().extend_from_slice(&bytes),
                }
            }
        }
        (found, splitter.take_rest().to_vec())
    }

    fn data_of(events: &[Vec<u8>]) -> Vec<String> {
        events
            .iter()
            .filter_map(|e| fields(e).data.map(|d| String::from_utf8_lossy(&d).into_owned()))
            .collect()
    }

    #[test]
    fn every_line_ending_ends_an_event() {
        for text in [
            "data: a\n\ndata:b\n\n",
            "data: a\r\n\r\ndata:b\r\n\r\n",
            "data: a\r\rdata:b\r\r",
            "data: a\r\n\ndata:b\n\r\n",
        ] {
            let (found, rest) = events(&[text.as_bytes()]);
            assert_eq!(data_of(&found), ["a", "b"], "{text:?}");
            assert!(rest.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn comments_names_several_data_lines_and_a_byte_order_mark_are_read() {
        let event = b"\xef\xbb\xbf: hello\nevent: message\nid: 7\ndata: one\ndata:two\ndata\nretry: 5\n\n";
        let found = fields(event);
        assert_eq!(found.name, b"message");
        assert_eq!(found.data.unwrap().as_ref(), b"one\ntwo\n");
        assert_eq!(fields(b": OPENROUTER PROCESSING\n\n").data, None);
        assert_eq!(fields(b"database: x\n\n").data, None);
    }

    #[test]
    fn an_event_whose_end_did_not_come_is_one_event_with_what_it_lacks() {
        for event in ["data: a", "data: a\n", "data: a\r", "data: a\r\n", "event: b\r\ndata: a"] {
            let whole = [event.as_bytes(), end_of(event.as_bytes())].concat();
            let (found, rest) = events(&[&whole]);
            assert_eq!((data_of(&found), found.len()), (vec!["a".to_owned()], 1), "{event:?}");
            assert!(rest.is_empty(), "{event:?}");
        }
    }

    #[test]
    fn a_line_feed_that_comes_after_its_carriage_return_is_passed_on_at_once() {
        let mut splitter = Splitter::default();
        let first = Bytes::from_static(b"data: a\r\n\r");
        assert_eq!(splitter.next(&first), Some(Block::Here(0..10)));
        assert_eq!(splitter.next(&first), None);
        let second = Bytes::from_static(b"\n");
        assert_eq!(splitter.next(&second), Some(Block::Here(0..1)));
        assert_eq!(splitter.next(&second), None);
        assert!(splitter.take_rest().is_empty());
    }

    #[test]
    fn an_event_without_end_is_passed_on_and_never_kept_beyond_the_limit() {
        let mut splitter = Splitter::default();
        let chunk = Bytes::from(vec![b'x'; 1000]);
        let mut passed = 0;
        for _ in 0..10_000 {
            while let Some(block) = splitter.next(&chunk) {
                let Block::Long { bytes, .. } = block else { panic!("not long: {block:?}") };
                passed += bytes.len();
            }
            assert!(splitter.kept.len() <= EVENT_MAX);
        }
        assert_eq!(passed, 10_000_000);
        let end = Bytes::from_static(b"\n\ndata: a\n\n");
        assert!(matches!(splitter.next(&end), Some(Block::Long { piece: Piece::Last, end: 2, .. })));
        assert_eq!(splitter.next(&end), Some(Block::Here(2..11)));
        assert_eq!(splitter.next(&end), None);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("data: {\"a\":1}"),
            Just("data:x"),
            Just("event: error"),
            Just(": comment"),
            Just("\n"),
            Just("\r"),
            Just("\r\n"),
            Just("\n\n"),
            Just("\r\n\r\n"),
            Just("\u{feff}"),
            Just("é")
        ];
        prop::collection::vec(piece, 0..24).prop_map(|p| p.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_stream_split_anywhere_gives_the_same_events_and_bytes(text in stream(), size in 1usize..9) {
            let (whole, rest) = events(&[&text]);
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let (split, split_rest) = events(&chunks);
            prop_assert_eq!(data_of(&whole), data_of(&split));
            prop_assert_eq!([whole.concat(), rest].concat(), text.clone());
            prop_assert_eq!([split.concat(), split_rest].concat(), text);
        }

        #[test]
        fn a_stream_split_in_two_anywhere_gives_the_same_events(text in stream(), at in any::<prop::sample::Index>()) {
            let (head, tail) = text.split_at(at.index(text.len() + 1));
            prop_assert_eq!(data_of(&events(&[head, tail]).0), data_of(&events(&[&text]).0));
        }
    }
}
