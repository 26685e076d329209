//! Cuts a byte stream into events, whatever stands between them.
//!
//! Four ways in which providers put one event after another ([`Framing`]): server-sent events
//! (most), a JSON document a line (Ollama), binary frames with their length in front and checksums
//! (`application/vnd.amazon.eventstream`, Bedrock), and no events at all but one document (the
//! generate bridges). [`Cutter`] says where an event ends, [`read`] what it says.
//!
//! The rules are those of [`sse`]: bytes are never changed, a chunk of whole events is handed out
//! as ranges of itself, an event longer than 64 KiB ([`sse::EVENT_MAX`]) is handed out in pieces
//! and not kept. A frame announces its length: one that cannot be (longer than 16 MiB, or with
//! another checksum than its first eight bytes have) breaks the stream at once, before anything is
//! kept for it. The checksum over a whole frame is held against it by [`read`].
//!
//! An AWS exception reads as an error object with the exception's name as its type, so that
//! `classify` judges it as the same fault in an answer's body.
//!
//! Source: the event stream encoding of Amazon Transcribe's and Bedrock's documentation, recorded
//! streams. Frames need the feature `bedrock`; without it they do not read.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::sse::{self, Block, EVENT_MAX, Piece, Splitter};
use crate::base::api::Dialect;

/// Longest frame that is believed: 16 MiB, the bound of AWS's own reader.
const FRAME_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a frame before its headers: two lengths and their checksum.
const PRELUDE: usize = 12;

/// What stands between the events of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Events,
    /// A JSON document a line.
    Lines,
    /// AWS event-stream frames.
    Frames,
    /// There is one document and nothing else.
    Whole,
}

impl Framing {
    /// Returns how a dialect streams.
    #[must_use]
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::OpenAiResponses
            | Dialect::AnthropicMessages
            | Dialect::GeminiGenerate
            | Dialect::CohereChat => Framing::Events,
            Dialect::OllamaChat => Framing::Lines,
            Dialect::BedrockConverse => Framing::Frames,
            Dialect::GenerateBridge => Framing::Whole,
        }
    }
}

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name; empty where the framing has none, `error` where it is one by its framing.
    pub name: Cow<'a, [u8]>,
    /// Its data, normally JSON.
    pub data: Cow<'a, [u8]>,
}

/// A frame whose checksums or lengths do not fit: the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Incremental cutter of one stream.
#[derive(Debug)]
pub struct Cutter(Rule);

#[derive(Debug)]
enum Rule {
    Events(Splitter),
    Lines(Pieces),
    Frames(Pieces, Frame),
    /// Nothing ends before the stream does.
    Whole(Pieces),
    Broken,
}

/// What of the open event was already seen.
#[derive(Debug, Default)]
struct Pieces {
    /// Its bytes from earlier chunks.
    kept: BytesMut,
    /// Where it starts in the current chunk.
    start: usize,
    /// How far the current chunk has been searched.
    searched: usize,
    /// Whether it is over-long and being passed on.
    is_long: bool,
}

/// How far the open frame has come.
#[derive(Debug, Default)]
struct Frame {
    prelude: [u8; PRELUDE],
    /// Bytes of the prelude that were seen.
    seen: usize,
    /// Bytes of the frame still to come, once its length is known.
    left: Option<usize>,
}

impl Cutter {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Cutter(match framing {
            Framing::Events => Rule::Events(Splitter::default()),
            Framing::Lines => Rule::Lines(Pieces::default()),
            Framing::Frames => Rule::Frames(Pieces::default(), Frame::default()),
            Framing::Whole => Rule::Whole(Pieces::default()),
        })
    }

    /// Returns the next stretch that is complete with this chunk. Call it with the same chunk
    /// until it returns nothing, then with the next one.
    ///
    /// # Errors
    /// When a frame's prelude cannot be; nothing is returned from there on.
    pub fn next(&mut self, chunk: &Bytes) -> Result<Option<Block>, Broken> {
        match &mut self.0 {
            Rule::Events(splitter) => Ok(splitter.next(chunk)),
            Rule::Lines(pieces) => {
                let rest = chunk.get(pieces.searched..).unwrap_or_default();
                let end = memchr::memchr(b'\n', rest).map(|at| pieces.searched + at + 1);
                Ok(pieces.next(chunk, end))
            }
            Rule::Frames(pieces, frame) => {
                if let Ok(end) = frame.end(chunk, pieces.searched) {
                    return Ok(pieces.next(chunk, end));
                }
                self.0 = Rule::Broken;
                Err(Broken)
            }
            Rule::Whole(pieces) => Ok(pieces.next(chunk, None)),
            Rule::Broken => Ok(None),
        }
    }

    /// Returns the bytes of the event that nothing has ended; nothing is left after that.
    pub fn take_rest(&mut self) -> Bytes {
        match &mut self.0 {
            Rule::Events(splitter) => splitter.take_rest(),
            Rule::Lines(pieces) | Rule::Frames(pieces, _) | Rule::Whole(pieces) => {
                pieces.kept.split().freeze()
            }
            Rule::Broken => Bytes::new(),
        }
    }
}

impl Pieces {
    /// Hands out what ends at `end`, or what must not be kept.
    fn next(&mut self, chunk: &Bytes, end: Option<usize>) -> Option<Block> {
        let start = self.start;
        if let Some(end) = end {
            (self.start, self.searched) = (end, end);
            if std::mem::take(&mut self.is_long) {
                return Some(Block::Long { bytes: chunk.slice(start..end), end, piece: Piece::Last });
            }
            if self.kept.is_empty() {
                return Some(Block::Here(start..end));
            }
            self.kept.extend_from_slice(chunk.get(start..end).unwrap_or_default());
            return Some(Block::Joined { bytes: self.kept.split().freeze(), end });
        }
        (self.start, self.searched) = (0, 0);
        let rest = chunk.get(start..).unwrap_or_default();
        if rest.is_empty() {
            return None;
        }
        if !self.is_long && self.kept.len() + rest.len() <= EVENT_MAX {
            self.kept.extend_from_slice(rest);
            return None;
        }
        let end = chunk.len();
        // The next call with this chunk must find it used up.
        (self.start, self.searched) = (end, end);
        let piece = if std::mem::replace(&mut self.is_long, true) { Piece::Middle } else { Piece::First };
        let bytes = if self.kept.is_empty() {
            chunk.slice(start..)
        } else {
            self.kept.extend_from_slice(rest);
            self.kept.split().freeze()
        };
        Some(Block::Long { bytes, end, piece })
    }
}

impl Frame {
    /// Looks for the frame's end from `from` on and returns the offset behind it.
    fn end(&mut self, chunk: &[u8], from: usize) -> Result<Option<usize>, Broken> {
        let mut rest = chunk.get(from..).unwrap_or_default();
        let left = if let Some(left) = self.left {
            left
        } else {
            let more = rest.len().min(PRELUDE - self.seen);
            let (prelude, after) = rest.split_at(more);
            if let Some(open) = self.prelude.get_mut(self.seen..self.seen + more) {
                open.copy_from_slice(prelude);
            }
            rest = after;
            self.seen += more;
            if self.seen < PRELUDE {
                return Ok(None);
            }
            length(&self.prelude)? - PRELUDE
        };
        if rest.len() < left {
            self.left = Some(left - rest.len());
            return Ok(None);
        }
        *self = Frame::default();
        Ok(Some(chunk.len() - rest.len() + left))
    }
}

/// Returns how long the frame with this prelude is.
fn length(prelude: &[u8; PRELUDE]) -> Result<usize, Broken> {
    let number = |four: &[u8]| four.iter().fold(0, |number: u32, byte| (number << 8) | u32::from(*byte));
    let mut numbers = prelude.chunks_exact(4).map(number);
    let mut next = || numbers.next().unwrap_or_default();
    let (total, headers, crc) = (next() as usize, next() as usize, next());
    let is_sound = prelude.get(..8).map(crc32) == Some(crc);
    // The frame's own checksum is its last four bytes.
    let fits = (PRELUDE + 4..=FRAME_MAX).contains(&total) && headers <= total - PRELUDE - 4;
    if is_sound && fits { Ok(total) } else { Err(Broken) }
}

/// CRC-32 (IEEE), bit by bit: a prelude has eight bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Reads one whole event; nothing where it has no data (a comment, an empty line).
///
/// # Errors
/// When a frame's checksum does not fit.
pub fn read(framing: Framing, event: &[u8]) -> Result<Option<Event<'_>>, Broken> {
    match framing {
        Framing::Events => {
            let fields = sse::fields(event);
            Ok(fields.data.map(|data| Event { name: Cow::Borrowed(fields.name), data }))
        }
        Framing::Lines | Framing::Whole => {
            let data = event.trim_ascii();
            let event = Event { name: Cow::Borrowed(b""), data: Cow::Borrowed(data) };
            Ok((!data.is_empty()).then_some(event))
        }
        Framing::Frames => frame(event).map(Some),
    }
}

#[cfg(not(feature = "bedrock"))]
fn frame(_frame: &[u8]) -> Result<Event<'static>, Broken> {
    Err(Broken)
}

/// Reads a frame: an event by its `:event-type`, an exception or an error as an error object.
#[cfg(feature = "bedrock")]
fn frame(frame: &[u8]) -> Result<Event<'static>, Broken> {
    let message = aws_smithy_eventstream::frame::read_message_from(frame).map_err(|_| Broken)?;
    let header = |name: &str| {
        let found = message.headers().iter().find(|header| header.name().as_str() == name)?;
        let text = found.value().as_string().ok()?;
        Some(text.as_str())
    };
    let (kind, text) = match header(":message-type") {
        Some("exception") => (header(":exception-type"), message_of(message.payload())),
        Some("error") => (header(":error-code"), header(":error-message").map(str::to_owned)),
        Some(_) | None => {
            let name = header(":event-type").unwrap_or_default().as_bytes().to_vec();
            return Ok(Event { name: name.into(), data: message.payload().to_vec().into() });
        }
    };
    let error = serde_json::json!({ "error": { "type": kind, "message": text } });
    Ok(Event { name: Cow::Borrowed(b"error"), data: error.to_string().into_bytes().into() })
}

#[cfg(feature = "bedrock")]
fn message_of(payload: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let text = value.get("message").or_else(|| value.get("Message"))?.as_str()?;
    Some(text.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Makes a frame of headers with text values.
    pub(crate) fn made(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let total = u32::try_from(PRELUDE + head.len() + payload.len() + 4).unwrap();
        let mut frame = total.to_be_bytes().to_vec();
        frame.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&crc32(&frame).to_be_bytes());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload.as_bytes());
        frame.extend_from_slice(&crc32(&frame).to_be_bytes());
        frame
    }

    /// Makes the frame of an event.
    pub(crate) fn event(name: &str, payload: &str) -> Vec<u8> {
        made(&[(":event-type", name), (":message-type", "event")], payload)
    }

    /// The events of the stream, over-long ones put together again, and what was left.
    fn cut(framing: Framing, stream: &[u8], size: usize) -> Result<(Vec<Vec<u8>>, Bytes), Broken> {
        let (mut cutter, mut found, mut long) = (Cutter::new(framing), Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            let chunk = Bytes::copy_from_slice(chunk);
            let mut upto = 0;
            while let Some(block) = cutter.next(&chunk)? {
                match block {
                    Block::Here(range) => {
                        assert_eq!(range.start, upto, "no gap");
                        upto = range.end;
                        found.push(chunk[range].to_vec());
                    }
                    Block::Joined { bytes, end } => {
                        upto = end;
                        found.push(bytes.to_vec());
                    }
                    Block::Long { bytes, end, piece } => {
                        upto = end;
                        long.extend_from_slice(&bytes);
                        if piece == Piece::Last {
                            found.push(std::mem::take(&mut long));
                        }
                    }
                }
            }
        }
        Ok((found, cutter.take_rest()))
    }

    #[test]
    fn lines_and_frames_are_found_however_the_stream_is_cut() {
        let giant = "x".repeat(200_000);
        let lines =
            ["{\"a\":1}\n", "\r\n", &format!("{giant}\n"), "{}\n"].map(|line| line.as_bytes().to_vec());
        let frames = [event("a", "{}"), event("b", &giant), made(&[], ""), event("c", "{\"n\":1}")];
        for size in [1, 5, 70_000, 1_000_000] {
            for (framing, events, rest) in
                [(Framing::Lines, &lines, &b"{\"b"[..]), (Framing::Frames, &frames, &[0, 0, 0, 40, 0])]
            {
                let stream = [&events.concat(), rest].concat();
                let (found, left) = cut(framing, &stream, size).unwrap();
                assert_eq!((found.as_slice(), &left[..]), (&events[..], rest), "{framing:?} {size}");
            }
            assert_eq!(cut(Framing::Whole, b"{\n\n}", size).unwrap(), (Vec::new(), Bytes::from("{\n\n}")));
        }
    }

    #[test]
    fn a_frame_that_cannot_be_breaks_the_stream_before_anything_is_kept() {
        let good = event("a", "{}");
        let prelude = |total: u32, headers: u32| {
            let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            [lengths.clone(), crc32(&lengths).to_be_bytes().to_vec()].concat()
        };
        for bad in [
            b"<html><body>".to_vec(),
            prelude(u32::MAX, 0),
            prelude(15, 0),
            prelude(100, 85),
            [&prelude(100, 10)[..11], &[9]].concat(),
        ] {
            for size in [1, 1000] {
                assert_eq!(cut(Framing::Frames, &[good.clone(), bad.clone()].concat(), size), Err(Broken));
            }
        }
        let mut cutter = Cutter::new(Framing::Frames);
        assert_eq!(cutter.next(&Bytes::from_static(b"<html><body>")), Err(Broken));
        assert_eq!((cutter.next(&Bytes::from(good)), cutter.take_rest()), (Ok(None), Bytes::new()));
    }

    #[cfg(feature = "bedrock")]
    #[test]
    fn a_frame_says_its_event_or_its_exception_and_nothing_when_its_checksum_is_wrong() {
        let said = |frame: &[u8]| {
            let event = read(Framing::Frames, frame).unwrap().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(&event.name), text(&event.data))
        };
        let frame = event("messageStop", "{\"stopReason\":\"end_turn\"}");
        assert_eq!(said(&frame), ("messageStop".to_owned(), "{\"stopReason\":\"end_turn\"}".to_owned()));
        let thrown = [(":message-type", "exception"), (":exception-type", "throttlingException")];
        let error = r#"{"error":{"type":"throttlingException","message":"Too many"}}"#;
        let thrown = made(&thrown, "{\"message\":\"Too many\"}");
        assert_eq!(said(&thrown), ("error".to_owned(), error.to_owned()));
        let lost = [(":message-type", "error"), (":error-code", "x"), (":error-message", "y")];
        let error = r#"{"error":{"type":"x","message":"y"}}"#;
        assert_eq!(said(&made(&lost, "")), ("error".to_owned(), error.to_owned()));
        for at in [8, 13, 40, frame.len() - 1] {
            let mut broken = frame.clone();
            broken[at] ^= 1;
            assert_eq!(read(Framing::Frames, &broken), Err(Broken), "byte {at}");
        }
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            for framing in [Framing::Events, Framing::Lines, Framing::Frames, Framing::Whole] {
                let _ = cut(framing, &bytes, size);
                let _ = read(framing, &bytes);
            }
            // Garbage inside sound lengths and checksums.
            let payload = String::from_utf8_lossy(&bytes);
            let mut frame = made(&[(":message-type", "exception")], &payload);
            let _ = read(Framing::Frames, &frame);
            let at = 12 + bytes.first().map_or(0, |b| usize::from(*b)) % (frame.len() - 16);
            frame[at] ^= 0xff;
            let end = frame.len() - 4;
            let crc = crc32(&frame[..end]).to_be_bytes();
            frame[end..].copy_from_slice(&crc);
            let _ = read(Framing::Frames, &frame);
        }
    }
}
