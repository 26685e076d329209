//! Follows one streamed answer.
//!
//! [`StreamReader`] takes the bytes as they arrive and releases whole events for forwarding, in
//! order and unchanged; what is unfinished stays until its end arrives (at most 64 KiB, see
//! [`sse`]). On the way it notes what the proxy must know: has content begun (the commit point),
//! is the answer complete, how many tokens, does a fault lie inside.
//!
//! A fault is an event named `error`, an event whose data has a top-level `error` that says
//! something, `type: error`, `response.failed`; also a body that is no event stream at all but one
//! JSON error object, or an array around one, under the content type of a stream (Gemini); also
//! such an object bare between the events. Gemini's array of answers, which is its stream for whom
//! did not ask for events, is followed item by item. The
//! faulty event and all that follows is withheld, so that the client of a request that moves on
//! never sees it. An event that is not JSON is neither content nor fault and passes.
//!
//! How events are cut depends on the dialect (see [`cut`]): a line of Ollama's and a frame of
//! Bedrock's are events like others; a frame that is broken is a fault without words. The one
//! document of a generate bridge is an event that ends with the body.
//!
//! An event that repeats the last one but for its text is not read again (see [`super::template`]).
//!
//! Of an event, or an item of an array, longer than 64 KiB only the head and the last 8 KiB are read: its type, and the
//! finish reason and usage that stand at its end.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use smallvec::SmallVec;

use super::answer::{self, AnswerFault};
use super::cut::{self, Cutter};
use super::items::Items;
use super::json::{Broken, Scan};
use super::sse::{self, Block, EVENT_MAX, Piece};
use super::template::Template;
use super::{Progress, Usage, anthropic, bedrock, cohere, gemini, ollama, openai, responses, usage};
use crate::base::api::Dialect;

/// How much of an over-long event's end is looked at: finish reasons and usage stand there.
const LONG_END: usize = 8 * 1024;

/// Longest document of a generate bridge, which is kept until its end: far more than the 2048
/// tokens that it is asked for.
const DOCUMENT_MAX: usize = 1024 * 1024;

/// What may stand before any text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What one push came to.
#[derive(Clone, Debug, Default)]
pub struct Pushed {
    /// Bytes to send on, in order.
    pub release: SmallVec<[Bytes; 2]>,
    /// Whether the first content event of the stream lies in `release`.
    pub content_began: bool,
    /// The fault that ends the stream; it and what follows is not released.
    pub fault: Option<StreamFault>,
}

/// An error event inside a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFault {
    /// The data of the event, normally a JSON object; for `classify::inband`.
    pub body: Bytes,
    /// The event as it came, framing included, for a client that should see it after all.
    pub event: Bytes,
}

/// What sort of body this is, told by its first byte.
#[derive(Clone, Copy, Debug)]
enum Framing {
    /// Only white space so far.
    Unknown,
    /// Events as the dialect has them.
    Events,
    /// One JSON array of Gemini's answers, for whom did not ask for events.
    Array(Items),
    /// JSON without framing; kept until its end.
    Bare,
    /// JSON without framing, too long to keep; passed on unread.
    BareLong,
}

/// Reader of one streamed answer.
#[derive(Debug)]
pub struct StreamReader {
    dialect: Dialect,
    choices_expected: u32,
    cutter: Cutter,
    framing: Framing,
    /// How much of a byte order mark has come, while nothing else has.
    mark_seen: Option<usize>,
    bare: BytesMut,
    progress: Progress,
    has_event: bool,
    has_content: bool,
    faulted: bool,
    long_end: Vec<u8>,
    last: Template,
    /// Whether what stands before the next item of an array is being passed on in pieces.
    gap_is_long: bool,
    /// Whether the open item of an array is being passed on in pieces.
    item_is_long: bool,
}

impl StreamReader {
    /// Starts before the first byte of the body.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        StreamReader {
            dialect,
            choices_expected: 1,
            cutter: Cutter::new(cut::Framing::of(dialect)),
            framing: match cut::Framing::of(dialect) {
                cut::Framing::Events => Framing::Unknown,
                cut::Framing::Lines | cut::Framing::Frames => Framing::Events,
                cut::Framing::Whole => Framing::Bare,
            },
            mark_seen: Some(0),
            bare: BytesMut::new(),
            progress: Progress::default(),
            has_event: false,
            has_content: false,
            faulted: false,
            long_end: Vec::new(),
            last: Template::default(),
            gap_is_long: false,
            item_is_long: false,
        }
    }

    /// Sets how many choices the request asked for (`n`), so that a stream in which only some of
    /// them have begun and finished is not taken for complete.
    #[must_use]
    pub fn with_choices(mut self, n: u32) -> Self {
        self.choices_expected = n.max(1);
        self
    }

    /// Feeds bytes. Whole events are released in order for forwarding; after a fault nothing is.
    pub fn push(&mut self, chunk: Bytes) -> Pushed {
        let mut pushed = Pushed::default();
        if self.faulted || chunk.is_empty() {
            return pushed;
        }
        match self.framing_of(&chunk) {
            Framing::Array(items) => self.push_items(items, chunk, &mut pushed),
            Framing::Bare => self.keep_bare(&chunk, &mut pushed),
            Framing::BareLong => pushed.release.push(chunk),
            Framing::Unknown | Framing::Events => self.push_events(chunk, &mut pushed),
        }
        pushed
    }

    /// Ends the stream: what is left is released when it forms a valid last event (`data: [DONE]`
    /// without its empty line), else it is dropped. Where the answer is not whole with it, it gets the
    /// line ends that it lacks: something else is to follow, and must not run into it.
    pub fn finish(&mut self) -> Pushed {
        let mut pushed = Pushed::default();
        if self.faulted {
            return pushed;
        }
        match self.framing {
            Framing::Bare => {
                self.finish_bare(&mut pushed);
                return pushed;
            }
            Framing::Array(items) => {
                // The end of the array. A piece of an item is dropped, but for what is blank before it,
                // which goes out earlier where it comes earlier.
                let blank = self.bare.len() - without_blank(&self.bare).len();
                let goes = if items.open() == 0 { self.bare.len() } else { blank };
                if goes > 0 {
                    pushed.release.push(self.bare.split_to(goes).freeze());
                }
                return pushed;
            }
            Framing::Unknown | Framing::Events | Framing::BareLong => {}
        }
        let rest = self.cutter.take_rest();
        if rest.is_empty() {
            return pushed;
        }
        let is_whole = match cut::read(cut::Framing::of(self.dialect), &rest) {
            Ok(Some(event)) => is_done(&event.data) || is_json(&event.data),
            Ok(None) => rest.trim_ascii().is_empty() || is_json(&rest),
            // A frame that was cut off.
            Err(cut::Broken) => false,
        };
        if is_whole {
            let content_before = self.has_content;
            match self.inspect(&rest, &rest) {
                None if self.is_complete() => pushed.release.push(rest),
                None => pushed.release.push(self.ended(rest)),
                Some(body) => self.fault(body, rest, &mut pushed),
            }
            pushed.content_began = self.has_content && !content_before;
        }
        pushed
    }

    /// Ends an event whose last bytes did not come.
    fn ended(&self, event: Bytes) -> Bytes {
        match cut::Framing::of(self.dialect) {
            cut::Framing::Events => [&event[..], sse::end_of(&event)].concat().into(),
            cut::Framing::Lines | cut::Framing::Frames | cut::Framing::Whole => event,
        }
    }

    /// Tells whether the answer is whole: every choice has its finish reason, or the dialect's own
    /// end (`[DONE]`, `message_stop`, `response.completed`, `response.incomplete`) was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Progress { choices_seen: seen, choices_finished: finished, ended, .. } = self.progress;
        // Bits end at 128 choices; no provider gives more.
        ended || (seen != 0 && seen == finished && finished.count_ones() >= self.choices_expected.min(128))
    }

    /// Tells whether any event with data was seen.
    #[must_use]
    pub fn has_event(&self) -> bool {
        self.has_event
    }

    /// Tells whether any content was seen.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.has_content
    }

    /// Tells whether the provider's content filter stopped the answer.
    #[must_use]
    pub fn was_filtered(&self) -> bool {
        self.progress.filtered
    }

    /// Returns the number that the next event gets; 0 where they are not numbered.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.progress.next_number.unwrap_or(0)
    }

    /// Returns the tokens counted so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.progress.usage
    }

    fn push_events(&mut self, chunk: Bytes, pushed: &mut Pushed) {
        let content_before = self.has_content;
        // What of this chunk may go on: it is released in one piece.
        let (mut from, mut upto) = (0, 0);
        loop {
            let block = match self.cutter.next(&chunk) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(cut::Broken) => {
                    self.fault(Bytes::new(), chunk.slice(upto..), pushed);
                    break;
                }
            };
            match block {
                Block::Here(range) => {
                    let event = chunk.get(range.clone()).unwrap_or_default();
                    if let Some(body) = self.inspect(event, &chunk) {
                        let event = chunk.slice(range);
                        self.fault(body, event, pushed);
                        break;
                    }
                    upto = range.end;
                }
                Block::Joined { bytes, end } => {
                    if let Some(body) = self.inspect(&bytes, &bytes) {
                        self.fault(body, bytes, pushed);
                        break;
                    }
                    pushed.release.push(bytes);
                    (from, upto) = (end, end);
                }
                Block::Long { bytes, end, piece } => {
                    if let Some(body) = self.inspect_long(&bytes, piece) {
                        self.fault(body, bytes, pushed);
                        break;
                    }
                    if upto > from {
                        pushed.release.push(chunk.slice(from..upto));
                    }
                    pushed.release.push(bytes);
                    (from, upto) = (end, end);
                }
            }
        }
        if from == 0 && upto == chunk.len() {
            // As it came: a slice would share it, which costs an allocation.
            pushed.release.push(chunk);
        } else if upto > from {
            pushed.release.push(chunk.slice(from..upto));
        }
        pushed.content_began = self.has_content && !content_before;
    }

    fn fault(&mut self, body: Bytes, event: Bytes, pushed: &mut Pushed) {
        self.faulted = true;
        pushed.fault = Some(StreamFault { body, event });
    }

    /// Notes what one whole event says, which came in `piece`. Returns its data when it reports a fault.
    fn inspect(&mut self, event: &[u8], piece: &Bytes) -> Option<Bytes> {
        // It says what the last one said, and that is noted.
        if self.last.text(event).is_some() {
            return None;
        }
        let (name, data) = match cut::read(cut::Framing::of(self.dialect), event) {
            Ok(Some(event)) => (event.name, event.data),
            Ok(None) => return self.inspect_bare(event),
            Err(cut::Broken) => return Some(Bytes::new()),
        };
        if data.is_empty() {
            return None;
        }
        let is_error = name.as_ref() == b"error";
        self.has_event = true;
        if is_done(&data) {
            self.progress.ended = true;
            return None;
        }
        // An event that turns out not to be JSON must leave no trace.
        let mut progress = Progress { content: false, fault: is_error, text: None, ..self.progress };
        let mut scan = Scan::new(&data);
        if self.read(&name, &mut scan, &mut progress).and_then(|()| scan.end()).is_ok() {
            self.progress = progress;
            self.has_content |= progress.content && !progress.fault;
            self.last.learn(event, Some(piece), &data, progress.text.filter(|_| !progress.fault));
        } else if !is_error {
            return None;
        }
        progress.fault.then(|| Bytes::copy_from_slice(&data))
    }

    /// Judges lines that are no fields: Google breaks streams off with an error object that stands
    /// between the events without any framing.
    fn inspect_bare(&self, event: &[u8]) -> Option<Bytes> {
        let text = event.trim_ascii();
        if !text.starts_with(b"{") && !text.starts_with(b"[") {
            return None;
        }
        match answer::read(self.dialect, text) {
            Err(AnswerFault::Error(range)) => Some(Bytes::copy_from_slice(text.get(range)?)),
            Ok(_) | Err(AnswerFault::Empty | AnswerFault::NotJson) => None,
        }
    }

    fn read(&self, name: &[u8], scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
        match self.dialect {
            Dialect::OpenAiChat | Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings => {
                openai::read(scan, progress)
            }
            Dialect::OpenAiResponses => responses::read(scan, progress),
            Dialect::AnthropicMessages => anthropic::read(scan, progress),
            Dialect::GeminiGenerate => gemini::read(scan, progress),
            Dialect::BedrockConverse => bedrock::read(name, scan, progress),
            Dialect::CohereChat => cohere::read(scan, progress),
            Dialect::OllamaChat => ollama::read(scan, progress),
            // No events: its document is judged at its end.
            Dialect::GenerateBridge => scan.skip().map(drop),
        }
    }

    /// Notes what can be told of an event too long to keep. Returns what there is of its data
    /// when it reports a fault.
    fn inspect_long(&mut self, bytes: &[u8], piece: Piece) -> Option<Bytes> {
        self.last = Template::default();
        if piece == Piece::First {
            self.long_end.clear();
            self.has_event = true;
            if let Some(body) = self.inspect_long_head(bytes) {
                return Some(body);
            }
        }
        self.keep_long_end(bytes, piece);
        None
    }

    /// Keeps the end of an over-long event, and reads it once it is whole.
    fn keep_long_end(&mut self, bytes: &[u8], piece: Piece) {
        let keep = bytes.len().min(LONG_END);
        self.long_end.extend_from_slice(bytes.get(bytes.len() - keep..).unwrap_or_default());
        let excess = self.long_end.len().saturating_sub(LONG_END);
        self.long_end.drain(..excess);
        if piece == Piece::Last {
            self.inspect_long_end();
        }
    }

    fn inspect_long_head(&mut self, head: &[u8]) -> Option<Bytes> {
        let framing = cut::Framing::of(self.dialect);
        // A frame that is not whole cannot be read; only content is that long.
        let event = if framing == cut::Framing::Frames { None } else { cut::read(framing, head).ok()? };
        let (name, data) = event.map(|event| (event.name, event.data)).unwrap_or_default();
        if data.is_empty() && framing == cut::Framing::Events {
            return None;
        }
        let mut kind = None;
        // The text is cut off, so this ends in an error; what came before that is good.
        let _ = Scan::new(&data).members::<Broken>(|scan, key| {
            if key.bytes().as_ref() == b"type" {
                kind = scan.text()?.map(|t| t.bytes().into_owned());
            } else {
                scan.skip()?;
            }
            Ok(())
        });
        let mut progress = Progress { content: false, fault: name.as_ref() == b"error", ..self.progress };
        match self.dialect {
            Dialect::OpenAiResponses => {
                let kind = kind.unwrap_or_else(|| name.to_vec());
                responses::note(&kind, false, &mut progress);
            }
            Dialect::AnthropicMessages
            | Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::GeminiGenerate
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => {
                progress.content = true;
                progress.choices_seen |= u128::from(self.dialect != Dialect::AnthropicMessages);
            }
        }
        self.progress = progress;
        self.has_content |= progress.content && !progress.fault;
        progress.fault.then(|| Bytes::copy_from_slice(&data))
    }

    fn inspect_long_end(&mut self) {
        let end = std::mem::take(&mut self.long_end);
        if self.dialect == Dialect::OllamaChat {
            let done = last_member(&end, "\"done\"").map(|mut scan| scan.flag());
            self.progress.ended |= done == Some(Ok(Some(true)));
        }
        for name in ["\"finish_reason\"", "\"finishReason\""] {
            if let Some(Ok(Some(reason))) = last_member(&end, name).map(|mut scan| scan.text()) {
                let seen = self.progress.choices_seen;
                self.progress.note_choice(0, Some(&reason));
                // Which choice it is stands too far back; a giant event has one.
                self.progress.choices_finished |= if reason.is_empty() { 0 } else { seen };
            }
        }
        for name in ["\"usage\"", "\"usageMetadata\""] {
            if let Some(Ok(counted)) = last_member(&end, name).map(|mut scan| usage::read(&mut scan)) {
                self.progress.usage.replace_by(counted);
            }
        }
    }

    /// Tells what the body is, once a byte that is not white space has been seen.
    fn framing_of(&mut self, chunk: &[u8]) -> Framing {
        if matches!(self.framing, Framing::Unknown) {
            let text = self.without_mark(chunk);
            self.framing = match text.map(|text| text.iter().find(|b| !b.is_ascii_whitespace())) {
                Some(None) => Framing::Unknown,
                Some(Some(b'[')) if self.dialect == Dialect::GeminiGenerate => {
                    Framing::Array(Items::default())
                }
                Some(Some(b'{' | b'[')) => Framing::Bare,
                Some(Some(_)) | None => Framing::Events,
            };
            if matches!(self.framing, Framing::Bare | Framing::Array(_)) {
                self.bare.extend_from_slice(&self.cutter.take_rest());
            }
        }
        self.framing
    }

    /// Returns the chunk without what of a byte order mark lies in it; nothing where one has begun and
    /// does not go on.
    fn without_mark<'a>(&mut self, chunk: &'a [u8]) -> Option<&'a [u8]> {
        let Some(seen) = self.mark_seen.take() else { return Some(chunk) };
        let mark = BYTE_ORDER_MARK.get(seen..).unwrap_or_default();
        let same = mark.iter().zip(chunk).take_while(|(of_mark, came)| of_mark == came).count();
        let is_open = same == chunk.len() && same < mark.len();
        self.mark_seen = is_open.then_some(seen + same);
        if same == mark.len() || is_open {
            return chunk.get(same..);
        }
        (seen == 0).then_some(chunk)
    }

    /// Releases whole items of an array with what stands before them, up to a fault.
    fn push_items(&mut self, mut items: Items, mut chunk: Bytes, pushed: &mut Pushed) {
        let content_before = self.has_content;
        while let Some(end) = items.next_end(&chunk) {
            let piece = chunk.split_to(end.min(chunk.len()));
            self.gap_is_long = false;
            if std::mem::take(&mut self.item_is_long) {
                self.keep_long_end(&piece, Piece::Last);
                pushed.release.push(piece);
                continue;
            }
            self.bare.extend_from_slice(&piece);
            let item = self.bare.split().freeze();
            let start = memchr::memchr(b'{', &item).unwrap_or(0);
            let body = item.slice(start..);
            let mut progress = Progress { content: false, fault: false, ..self.progress };
            let mut scan = Scan::new(&body);
            if gemini::read(&mut scan, &mut progress).and_then(|()| scan.end()).is_ok() {
                if progress.fault {
                    self.fault(body, item, pushed);
                    break;
                }
                self.progress = progress;
                self.has_event = true;
                self.has_content |= progress.content;
            }
            pushed.release.push(item);
        }
        if !self.faulted {
            self.framing = Framing::Array(items);
            self.keep_item(&chunk, items.open(), pushed);
        }
        pushed.content_began = self.has_content && !content_before;
    }

    /// Keeps what has come of an item and of the gap before it, or passes on what is too long: the gap
    /// first, which is then passed on whole; of the item, of which `open` bytes have come, only content is.
    fn keep_item(&mut self, chunk: &Bytes, open: usize, pushed: &mut Pushed) {
        self.bare.extend_from_slice(chunk);
        if !self.item_is_long {
            let gap = self.bare.len().saturating_sub(open);
            self.gap_is_long |= self.bare.len() > EVENT_MAX;
            if self.gap_is_long && gap > 0 {
                pushed.release.push(self.bare.split_to(gap).freeze());
            }
            if self.bare.len() <= EVENT_MAX {
                return;
            }
            self.item_is_long = true;
            self.long_end.clear();
            (self.has_event, self.has_content) = (true, true);
            self.progress.choices_seen |= 1;
        }
        let piece = self.bare.split().freeze();
        self.keep_long_end(&piece, Piece::Middle);
        pushed.release.push(piece);
    }

    fn keep_bare(&mut self, chunk: &Bytes, pushed: &mut Pushed) {
        self.bare.extend_from_slice(chunk);
        let is_document = self.dialect == Dialect::GenerateBridge;
        if is_document && self.bare.len() > DOCUMENT_MAX {
            let body = self.bare.split().freeze();
            self.fault(Bytes::new(), body, pushed);
        } else if !is_document && self.bare.len() > EVENT_MAX {
            self.framing = Framing::BareLong;
            pushed.release.push(self.bare.split().freeze());
        }
    }

    fn finish_bare(&mut self, pushed: &mut Pushed) {
        let body = self.bare.split().freeze();
        match answer::read(self.dialect, &body) {
            Err(AnswerFault::Error(range)) => {
                let json = body.slice(range);
                self.fault(json, body, pushed);
            }
            Ok(answer) if self.dialect == Dialect::GenerateBridge => {
                (self.has_event, self.has_content, self.progress.ended) = (true, true, true);
                self.progress.usage = answer.usage;
                pushed.content_began = true;
                pushed.release.push(body);
            }
            // It is no stream, but it is what the provider said: `has_event` stays false.
            Ok(_) | Err(AnswerFault::Empty | AnswerFault::NotJson) => {
                pushed.release.push(body);
            }
        }
    }
}

/// Leaves out a byte order mark and the white space behind it.
fn without_blank(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_ascii_start()
}

fn is_done(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]"
}

fn is_json(data: &[u8]) -> bool {
    let mut scan = Scan::new(data);
    scan.skip().and_then(|_| scan.end()).is_ok()
}

/// Returns a cursor before the value of the last member of that name. A name inside a string has
/// escaped quotes and does not match.
fn last_member<'a>(text: &'a [u8], quoted_name: &str) -> Option<Scan<'a>> {
    let at = memmem::rfind(text, quoted_name.as_bytes())?;
    let rest = text.get(at + quoted_name.len()..)?.trim_ascii_start();
    rest.strip_prefix(b":").map(Scan::new)
}

#[cfg(test)]
mod tests;
