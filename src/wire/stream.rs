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
//! Of an event longer than 64 KiB only the head and the last 8 KiB are read: its type, and the
//! finish reason and usage that stand at its end.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use smallvec::SmallVec;

use super::answer::{self, AnswerFault};
use super::items::Items;
use super::json::{Broken, Scan};
use super::sse::{self, Block, EVENT_MAX, Piece, Splitter};
use super::{Progress, Usage, anthropic, gemini, openai, responses, usage};
use crate::base::api::Dialect;

/// How much of an over-long event's end is looked at: finish reasons and usage stand there.
const LONG_END: usize = 8 * 1024;

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
    /// Server-sent events.
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
    splitter: Splitter,
    framing: Framing,
    bare: BytesMut,
    progress: Progress,
    has_event: bool,
    has_content: bool,
    faulted: bool,
    long_end: Vec<u8>,
}

impl StreamReader {
    /// Starts before the first byte of the body.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        StreamReader {
            dialect,
            choices_expected: 1,
            splitter: Splitter::default(),
            framing: Framing::Unknown,
            bare: BytesMut::new(),
            progress: Progress::default(),
            has_event: false,
            has_content: false,
            faulted: false,
            long_end: Vec::new(),
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
            Framing::Unknown | Framing::Events => self.push_events(&chunk, &mut pushed),
        }
        pushed
    }

    /// Ends the stream: what is left is released when it forms a valid last event (`data: [DONE]`
    /// without its empty line), else it is dropped.
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
                // The end of the array; a piece of an item is dropped.
                if items.is_between() && !self.bare.is_empty() {
                    pushed.release.push(self.bare.split().freeze());
                }
                return pushed;
            }
            Framing::Unknown | Framing::Events | Framing::BareLong => {}
        }
        let rest = self.splitter.take_rest();
        if rest.is_empty() {
            return pushed;
        }
        let data = sse::fields(&rest).data.map(std::borrow::Cow::into_owned);
        let is_whole = match &data {
            Some(data) => is_done(data) || is_json(data),
            None => rest.trim_ascii().is_empty() || is_json(&rest),
        };
        if is_whole {
            let content_before = self.has_content;
            match self.inspect(&rest) {
                None => pushed.release.push(rest),
                Some(body) => self.fault(body, rest, &mut pushed),
            }
            pushed.content_began = self.has_content && !content_before;
        }
        pushed
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

    /// Returns the tokens counted so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.progress.usage
    }

    fn push_events(&mut self, chunk: &Bytes, pushed: &mut Pushed) {
        let content_before = self.has_content;
        // What of this chunk may go on: it is released as one slice.
        let (mut from, mut upto) = (0, 0);
        while let Some(block) = self.splitter.next(chunk) {
            match block {
                Block::Here(range) => {
                    let event = chunk.get(range.clone()).unwrap_or_default();
                    if let Some(body) = self.inspect(event) {
                        let event = chunk.slice(range);
                        self.fault(body, event, pushed);
                        break;
                    }
                    upto = range.end;
                }
                Block::Joined { bytes, end } => {
                    if let Some(body) = self.inspect(&bytes) {
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
        if upto > from {
            pushed.release.push(chunk.slice(from..upto));
        }
        pushed.content_began = self.has_content && !content_before;
    }

    fn fault(&mut self, body: Bytes, event: Bytes, pushed: &mut Pushed) {
        self.faulted = true;
        pushed.fault = Some(StreamFault { body, event });
    }

    /// Notes what one whole event says. Returns its data when it reports a fault.
    fn inspect(&mut self, event: &[u8]) -> Option<Bytes> {
        let fields = sse::fields(event);
        let Some(data) = fields.data else { return self.inspect_bare(event) };
        if data.is_empty() {
            return None;
        }
        self.has_event = true;
        if is_done(&data) {
            self.progress.ended = true;
            return None;
        }
        // An event that turns out not to be JSON must leave no trace.
        let mut progress = Progress { content: false, fault: fields.name == b"error", ..self.progress };
        let mut scan = Scan::new(&data);
        if self.read(&mut scan, &mut progress).and_then(|()| scan.end()).is_ok() {
            self.progress = progress;
            self.has_content |= progress.content && !progress.fault;
        } else if fields.name != b"error" {
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

    fn read(&self, scan: &mut Scan<'_>, progress: &mut Progress) -> Result<(), Broken> {
        match self.dialect {
            Dialect::OpenAiChat | Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings => {
                openai::read(scan, progress)
            }
            Dialect::OpenAiResponses => responses::read(scan, progress),
            Dialect::AnthropicMessages => anthropic::read(scan, progress),
            Dialect::GeminiGenerate => gemini::read(scan, progress),
            // No reader yet: an event neither begins nor ends anything.
            Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => scan.skip().map(drop),
        }
    }

    /// Notes what can be told of an event too long to keep. Returns what there is of its data
    /// when it reports a fault.
    fn inspect_long(&mut self, bytes: &[u8], piece: Piece) -> Option<Bytes> {
        if piece == Piece::First {
            self.long_end.clear();
            self.has_event = true;
            if let Some(body) = self.inspect_long_head(bytes) {
                return Some(body);
            }
        }
        let keep = bytes.len().min(LONG_END);
        self.long_end.extend_from_slice(bytes.get(bytes.len() - keep..).unwrap_or_default());
        let excess = self.long_end.len().saturating_sub(LONG_END);
        self.long_end.drain(..excess);
        if piece == Piece::Last {
            self.inspect_long_end();
        }
        None
    }

    fn inspect_long_head(&mut self, head: &[u8]) -> Option<Bytes> {
        let fields = sse::fields(head);
        let data = fields.data?;
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
        let mut progress = Progress { content: false, fault: fields.name == b"error", ..self.progress };
        match self.dialect {
            Dialect::OpenAiResponses => {
                let kind = kind.unwrap_or_else(|| fields.name.to_vec());
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
            let text = chunk.strip_prefix(b"\xef\xbb\xbf").unwrap_or(chunk);
            self.framing = match text.iter().find(|b| !b.is_ascii_whitespace()) {
                None => Framing::Unknown,
                Some(b'[') if self.dialect == Dialect::GeminiGenerate => Framing::Array(Items::default()),
                Some(b'{' | b'[') => Framing::Bare,
                Some(_) => Framing::Events,
            };
            if matches!(self.framing, Framing::Bare | Framing::Array(_)) {
                self.bare.extend_from_slice(&self.splitter.take_rest());
            }
        }
        self.framing
    }

    /// Releases whole items of an array with what stands before them, up to a fault.
    fn push_items(&mut self, mut items: Items, mut chunk: Bytes, pushed: &mut Pushed) {
        let content_before = self.has_content;
        while let Some(end) = items.next_end(&chunk) {
            self.bare.extend_from_slice(&chunk.split_to(end.min(chunk.len())));
            let item = self.bare.split().freeze();
            let start = memchr::memchr(b'{', &item).unwrap_or(0);
            let body = item.slice(start..);
            let mut progress = Progress { content: false, fault: false, ..self.progress };
            let mut scan = Scan::new(&body);
            if gemini::read(&mut scan, &mut progress).and_then(|()| scan.end()).is_ok() {
                if progress.fault {
                    self.fault(body, item, pushed);
                    return;
                }
                self.progress = progress;
                self.has_event = true;
                self.has_content |= progress.content;
            }
            pushed.release.push(item);
        }
        pushed.content_began = self.has_content && !content_before;
        self.framing = Framing::Array(items);
        self.keep_bare(&chunk, pushed);
    }

    fn keep_bare(&mut self, chunk: &Bytes, pushed: &mut Pushed) {
        self.bare.extend_from_slice(chunk);
        if self.bare.len() > EVENT_MAX {
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
            // It is no stream, but it is what the provider said: `has_event` stays false.
            Ok(_) | Err(AnswerFault::Empty | AnswerFault::NotJson) => {
                pushed.release.push(body);
            }
        }
    }
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
mod tests {
    use super::*;

    /// Pushes the text in pieces of `size` and returns what came of it all.
    fn run(dialect: Dialect, text: &str, size: usize) -> (StreamReader, Vec<u8>, Option<StreamFault>, usize) {
        let mut reader = StreamReader::new(dialect);
        let mut released = Vec::new();
        let mut fault = None;
        let mut began = 0;
        let chunks: Vec<Bytes> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let mut take = |pushed: Pushed| {
            released.extend(pushed.release.iter().flat_map(|b| b.iter().copied()));
            began += usize::from(pushed.content_began);
            fault = fault.take().or(pushed.fault);
        };
        for chunk in chunks {
            take(reader.push(chunk));
        }
        take(reader.finish());
        (reader, released, fault, began)
    }

    fn has_content(dialect: Dialect, data: &str) -> bool {
        let (reader, ..) = run(dialect, &format!("data: {data}\n\n"), 4096);
        assert!(reader.has_event(), "{data}");
        reader.has_content()
    }

    #[test]
    fn content_is_told_from_lifecycle_in_every_dialect() {
        use Dialect::{
            AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiCompletions as L,
            OpenAiResponses as R,
        };
        for (dialect, data, want) in [
            (
                C,
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
                false,
            ),
            (
                C,
                r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}"#,
                false,
            ),
            (C, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false),
            (C, r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}],"id":"","model":""}"#, false),
            (C, r#"{"choices":null}"#, false),
            (C, r#"{"choices":[null,7]}"#, false),
            (C, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, false),
            (C, r#"{"choices":[{"delta":{"content":"Hi"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"content":"\n\n"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"content":{"a":1}}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"c\u006fntent":"Hi"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"content":"","reasoning_content":"hm"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"content":"","reasoning":"hm"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"thinking":"hm"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"refusal":"I cannot"}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"audio":{"id":"a","transcript":"x"}}}]}"#, true),
            (
                C,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
                true,
            ),
            (C, r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#, true),
            (C, r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":""}}]}}]}"#, false),
            (C, r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#, true),
            (C, r#"{"choices":[{"message":{"role":"assistant","content":"whole"}}]}"#, true),
            (L, r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#, true),
            (L, r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#, false),
            (A, r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":1}}}"#, false),
            (A, r#"{"type":"ping"}"#, false),
            (
                A,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                false,
            ),
            (
                A,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                false,
            ),
            (
                A,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
                true,
            ),
            (
                A,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
                true,
            ),
            (A, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#, false),
            (A, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#, true),
            (
                A,
                r#"{"delta":{"thinking":"a","type":"thinking_delta"},"index":0,"type":"content_block_delta"}"#,
                true,
            ),
            (
                A,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
                true,
            ),
            (A, r#"{"type":"content_block_stop","index":0}"#, false),
            (
                A,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
                false,
            ),
            (R, r#"{"type":"response.created","response":{"error":null,"usage":null}}"#, false),
            (R, r#"{"type":"response.in_progress","response":{}}"#, false),
            (R, r#"{"type":"response.output_item.added","item":{"type":"message"}}"#, false),
            (R, r#"{"type":"response.content_part.added","part":{"text":""}}"#, false),
            (R, r#"{"type":"response.reasoning_summary_part.added"}"#, false),
            (R, r#"{"type":"keepalive","sequence_number":3}"#, false),
            (R, r#"{"type":"response.output_text.delta","delta":""}"#, false),
            (R, r#"{"type":"response.output_text.delta","delta":"a"}"#, true),
            (R, r#"{"type":"response.never_seen_before.delta","data":1}"#, true),
            (R, r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, true),
            (R, r#"{"type":"response.refusal.delta","delta":"no"}"#, true),
            (R, r#"{"type":"response.web_search_call.searching"}"#, true),
            (R, r#"{"type":"response.completed","response":{"output":[]}}"#, false),
            (G, r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}]}"#, true),
            (
                G,
                r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP"}]}"#,
                false,
            ),
            (G, r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}"#, true),
            (G, r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}"#, true),
            (G, r#"{"candidates":[{"content":{"role":"model"}}],"usageMetadata":{}}"#, false),
            (G, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, false),
        ] {
            assert_eq!(has_content(dialect, data), want, "{dialect:?} {data}");
        }
    }

    #[test]
    fn faults_are_found_and_withheld_with_all_that_follows() {
        use Dialect::{AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiResponses as R};
        for (dialect, event) in [
            (C, "event: error\ndata: {\"message\":\"no\"}\n\n"),
            (C, "event: error\ndata: plain words\n\n"),
            (C, "data: {\"error\":{\"message\":\"no\",\"code\":502}}\n\n"),
            (C, "data: {\"error\":\"no\"}\n\n"),
            (
                C,
                "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"error\":{\"code\":400}}\n\n",
            ),
            (C, "data: {\"object\":\"error\",\"message\":\"no\"}\n\n"),
            (A, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"),
            (A, "data: {\"error\":{\"type\":\"overloaded_error\"},\"type\":\"error\"}\r\n\r\n"),
            (R, "data: {\"type\":\"error\",\"code\":\"server_is_overloaded\"}\n\n"),
            (R, "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n"),
            (G, "data: {\"error\":{\"code\":503}}\r\n\r\n"),
            (G, "{\n  \"error\": {\n    \"code\": 499\n  }\n}\n\n"),
            (C, "data: {\"choices\":[],\"x_groq\":{\"id\":\"r\",\"error\":\"over capacity\"}}\n\n"),
        ] {
            let before = ": hi\n\ndata: {}\n\n";
            let text =
                format!("{before}{event}data: {{\"choices\":[{{\"delta\":{{\"content\":\"late\"}}}}]}}\n\n");
            for size in [1, 7, 4096] {
                let (reader, released, fault, began) = run(dialect, &text, size);
                assert_eq!(released, before.as_bytes(), "{event:?} in pieces of {size}");
                // A CR alone ends the event before its LF has come.
                assert_eq!(fault.expect(event).event.trim_ascii_end(), event.trim_ascii_end().as_bytes());
                assert_eq!((reader.has_content(), began), (false, 0), "{event:?}");
            }
        }
    }

    #[test]
    fn an_error_member_that_says_nothing_is_no_fault() {
        for data in
            [r#"{"error":null,"choices":[]}"#, r#"{"error":"","choices":[]}"#, r#"{"choices":[{"error":1}]}"#]
        {
            let (_, released, fault, _) = run(Dialect::OpenAiChat, &format!("data: {data}\n\n"), 4096);
            assert_eq!(fault, None, "{data}");
            assert!(!released.is_empty());
        }
    }

    #[test]
    fn an_event_that_is_not_json_passes_and_leaves_no_trace() {
        let text =
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"error\":1\n\n";
        let (reader, released, fault, began) = run(Dialect::OpenAiChat, text, 5);
        assert_eq!(released, text.as_bytes());
        assert_eq!((fault, began), (None, 0));
        assert!(reader.has_event() && !reader.has_content() && !reader.is_complete());
    }

    #[test]
    fn a_stream_is_complete_with_every_finish_reason_or_the_dialects_own_end() {
        use Dialect::{AnthropicMessages as A, GeminiGenerate as G, OpenAiChat as C, OpenAiResponses as R};
        let choice = |i: u32, reason: &str| {
            format!("data: {{\"choices\":[{{\"index\":{i},\"delta\":{{}},\"finish_reason\":{reason}}}]}}\n\n")
        };
        for (dialect, text, want) in [
            (C, choice(0, "null"), false),
            (C, choice(0, "\"stop\""), true),
            (C, choice(0, "\"content_filter\""), true),
            (C, choice(0, "\"\""), false),
            (C, choice(0, "\"stop\"") + &choice(1, "null"), false),
            (C, choice(0, "\"stop\"") + &choice(1, "\"length\""), true),
            (C, choice(0, "null") + "data: [DONE]\n\n", true),
            (C, choice(0, "null") + "data:[DONE]", true),
            (C, choice(0, "null") + "data: [DON", false),
            (C, choice(4_000_000_000, "\"stop\""), true),
            (C, "data: {\"choices\":[]}\n\n".to_owned(), false),
            (A, "data: {\"type\":\"message_stop\"}\n\n".to_owned(), true),
            (A, "data: {\"type\":\"message_stop\"}".to_owned(), true),
            (
                A,
                "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n".to_owned(),
                true,
            ),
            (A, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null}}\n\n".to_owned(), false),
            (R, "data: {\"type\":\"response.completed\",\"response\":{}}\n\n".to_owned(), true),
            (R, "data: {\"type\":\"response.incomplete\",\"response\":{}}\n\n".to_owned(), true),
            (R, "data: {\"type\":\"response.output_text.done\"}\n\n".to_owned(), false),
            (G, "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n".to_owned(), true),
            (G, "data: {\"promptFeedback\":{\"blockReason\":\"OTHER\"}}\r\n\r\n".to_owned(), true),
            (G, "data: {\"candidates\":[{\"content\":{}}]}\r\n\r\n".to_owned(), false),
        ] {
            for size in [1, 3, 4096] {
                assert_eq!(run(dialect, &text, size).0.is_complete(), want, "{text:?} in pieces of {size}");
            }
        }
        let mut two = StreamReader::new(C).with_choices(2);
        two.push(Bytes::from(choice(0, "\"stop\"")));
        assert!(!two.is_complete(), "the second choice has not begun");
    }

    #[test]
    fn a_partial_last_event_is_dropped_and_a_whole_one_without_its_empty_line_is_kept() {
        let whole = "data: {\"a\":1}\n\n";
        for (rest, kept) in [
            ("data: {\"a\":1}", true),
            ("data: {\"a\":1}\n", true),
            ("data: [DONE]", true),
            ("\n", true),
            ("data: {\"a\":", false),
            ("dat", false),
            (": comm", false),
            ("event: ping\n", false),
        ] {
            let text = format!("{whole}{rest}");
            let (_, released, fault, _) = run(Dialect::OpenAiChat, &text, 4);
            assert_eq!(fault, None);
            assert_eq!(
                String::from_utf8(released).unwrap(),
                if kept { text.as_str() } else { whole },
                "{rest:?}"
            );
        }
        let (_, released, fault, _) =
            run(Dialect::OpenAiChat, &format!("{whole}data: {{\"error\":\"x\"}}"), 4);
        assert_eq!((released, fault.is_some()), (whole.as_bytes().to_vec(), true));
    }

    #[test]
    fn an_error_object_without_framing_is_a_fault_and_other_json_is_released_at_the_end() {
        for text in [
            "{\"error\":{\"code\":400}}",
            "  [{\n \"error\": {\n\n\"code\":404}}\n]\n",
            "\n\n{\"error\":\"x\"}",
        ] {
            for size in [1, 5, 4096] {
                let (reader, released, fault, _) = run(Dialect::GeminiGenerate, text, size);
                assert!(fault.is_some(), "{text:?} in pieces of {size}");
                assert!(released.iter().all(u8::is_ascii_whitespace));
                assert!(!reader.has_event());
            }
        }
        let whole = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}";
        let (reader, released, fault, _) = run(Dialect::GeminiGenerate, whole, 9);
        assert_eq!((released.as_slice(), fault, reader.has_event()), (whole.as_bytes(), None, false));
        let long = format!("[{}1]", "1,".repeat(EVENT_MAX));
        assert_eq!(run(Dialect::GeminiGenerate, &long, 1000).1, long.as_bytes());
    }

    #[test]
    fn gemini_s_array_is_followed_item_by_item_up_to_a_fault() {
        let first = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"}\"}]}}]}\n";
        let last = ",\r\n{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":5}}\n]\n";
        let error = ",\n{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}\n]";
        for size in [1, 7, 4096] {
            let (reader, released, fault, began) =
                run(Dialect::GeminiGenerate, &format!("{first}{last}"), size);
            assert_eq!(String::from_utf8(released).unwrap(), format!("{first}{last}"));
            assert!(reader.is_complete() && reader.has_event() && fault.is_none() && began == 1, "{size}");
            assert_eq!(reader.usage().input, Some(5));
            let (reader, released, fault, _) = run(Dialect::GeminiGenerate, &format!("{first}{error}"), size);
            assert!(released.starts_with(b"[{\"cand") && !released.ends_with(b"]"));
            assert!(fault.unwrap().body.starts_with(b"{\"error\"") && !reader.is_complete());
            let (reader, released, ..) = run(Dialect::GeminiGenerate, &first[..first.len() - 5], size);
            assert!(released.is_empty() && !reader.has_event());
        }
    }

    #[test]
    fn an_over_long_event_passes_and_its_head_and_end_are_still_read() {
        let filler = "x".repeat(3 * EVENT_MAX);
        let completed = format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"text\":\"{filler}\",\"usage\":{{\"input_tokens\":7,\"output_tokens\":8}},\"user\":null}}}}\n\n"
        );
        let created = format!(
            "data: {{\"type\":\"response.created\",\"response\":{{\"instructions\":\"{filler} \\\"usage\\\": \"}}}}\n\n"
        );
        for size in [1000, 70_000] {
            let (reader, released, fault, _) = run(Dialect::OpenAiResponses, &completed, size);
            assert_eq!(released, completed.as_bytes());
            assert!(reader.is_complete() && fault.is_none());
            assert_eq!((reader.usage().input, reader.usage().output), (Some(7), Some(8)));
            let (reader, _, _, began) = run(Dialect::OpenAiResponses, &created, size);
            assert!(!reader.has_content() && began == 0 && !reader.is_complete());
            let image = format!(
                "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"inlineData\": \"{filler}\"}}]}},\"finishReason\": \"STOP\"}}],\"usageMetadata\": {{\"promptTokenCount\": 5}}}}\r\n\r\n"
            );
            let (reader, released, _, began) = run(Dialect::GeminiGenerate, &image, size);
            assert_eq!(released, image.as_bytes());
            assert!(reader.is_complete() && reader.has_content() && began == 1);
            assert_eq!(reader.usage().input, Some(5));
            let failed = completed.replace("response.completed", "response.failed");
            let (_, released, fault, _) = run(Dialect::OpenAiResponses, &failed, size);
            assert!(released.is_empty() && fault.is_some());
        }
    }

    #[test]
    fn content_begins_once_and_whole_chunks_are_not_copied() {
        let chunk =
            Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {}\n\n");
        let mut reader = StreamReader::new(Dialect::OpenAiChat);
        let first = reader.push(chunk.clone());
        assert!(first.content_began);
        assert_eq!(first.release.len(), 1);
        assert_eq!(first.release[0].as_ptr(), chunk.as_ptr());
        assert!(!reader.push(chunk).content_began);
    }
}
