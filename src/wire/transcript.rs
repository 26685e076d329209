//! What has the client been told so far, and could another target go on from there?
//!
//! A stream that breaks after content can be taken up by another target only if we know exactly
//! what text the client has. [`Transcript`] keeps the delivered bytes as they went out (shared, not
//! copied) and reads them when somebody asks, or when they grow beyond [`RAW_MAX`]; a stream that
//! ends well in few bytes is so never read twice.
//!
//! It cannot go on once the stream has entered tool-call arguments, a thinking block, a second
//! choice, a refusal or audio, once a finish reason was sent, or where the text grew beyond
//! [`TEXT_MAX`] (failure semantics, *Rescue*).

use super::json::{Broken, Scan};
use super::sse::{self, Block, Splitter};
use crate::base::api::Dialect;
use bytes::Bytes;

/// How many delivered bytes are kept unread: a few hundred tokens' worth of events.
const RAW_MAX: usize = 16 * 1024;
/// Longest text that is gone on from; beyond it a second telling costs more than it saves.
const TEXT_MAX: usize = 512 * 1024;

/// Why a stream cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// The dialect's events cannot be joined yet.
    Dialect,
    /// Arguments of a tool call are under way.
    ToolCall,
    /// A thinking block is or was open.
    Thinking,
    /// There is more than one choice.
    SecondChoice,
    /// A refusal, audio or anything else that is not plain text.
    OtherContent,
    /// The finish reason has been told.
    Finished,
    /// The text is too long.
    TooLong,
}

/// What a client has been told of one streamed answer.
#[derive(Debug)]
pub struct Transcript {
    dialect: Dialect,
    raw: Vec<Bytes>,
    raw_length: usize,
    id: Option<String>,
    text: String,
    /// Anthropic: the index of the open text block.
    block: u64,
    bar: Option<Bar>,
}

impl Transcript {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        let bar = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiCompletions | Dialect::AnthropicMessages => None,
            Dialect::OpenAiResponses
            | Dialect::OpenAiEmbeddings
            | Dialect::GeminiGenerate
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => Some(Bar::Dialect),
        };
        Transcript { dialect, raw: Vec::new(), raw_length: 0, id: None, text: String::new(), block: 0, bar }
    }

    /// Returns the dialect of the stream.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Keeps what went downstream: whole events, in order.
    pub fn keep(&mut self, events: &Bytes) {
        if self.bar.is_some() {
            return;
        }
        self.raw_length += events.len();
        self.raw.push(events.clone());
        if self.raw_length > RAW_MAX {
            self.read();
        }
    }

    /// Tells whether the stream cannot be gone on from, and why.
    pub fn bar(&mut self) -> Option<Bar> {
        self.read();
        self.bar
    }

    /// Returns the text told so far.
    pub fn text(&mut self) -> &str {
        self.read();
        &self.text
    }

    /// Returns the id that the stream goes by, where its dialect repeats it in each event.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the index of the text block that is open (Anthropic).
    #[must_use]
    pub fn block(&self) -> u64 {
        self.block
    }

    fn read(&mut self) {
        self.raw_length = 0;
        for events in std::mem::take(&mut self.raw) {
            let mut splitter = Splitter::default();
            while let Some(block) = splitter.next(&events) {
                let event = match &block {
                    Block::Here(range) => events.get(range.clone()).unwrap_or_default(),
                    Block::Joined { bytes, .. } | Block::Long { bytes, .. } => bytes,
                };
                self.read_event(event);
            }
            let rest = splitter.take_rest();
            self.read_event(&rest);
        }
        if self.text.len() > TEXT_MAX {
            self.bar.get_or_insert(Bar::TooLong);
        }
    }

    fn read_event(&mut self, event: &[u8]) {
        let Some(data) = sse::fields(event).data else { return };
        let mut scan = Scan::new(&data);
        // An event that is not JSON said nothing that a client could have understood.
        let _ = match self.dialect {
            Dialect::AnthropicMessages => self.read_messages(&mut scan),
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiResponses
            | Dialect::OpenAiEmbeddings
            | Dialect::GeminiGenerate
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => self.read_chat(&mut scan),
        };
    }

    fn read_chat(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        scan.members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"id" => {
                    let id = scan.text()?;
                    if self.id.is_none() {
                        self.id = id.filter(|id| !id.is_empty()).map(|id| id.text().into_owned());
                    }
                }
                b"choices" => {
                    scan.items(|scan| self.read_choice(scan))?;
                }
                _ => {
                    scan.skip()?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn read_choice(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        let mut index = 0;
        let mut is_finished = false;
        scan.members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"index" => index = scan.count()?.unwrap_or(0),
                b"finish_reason" => is_finished = scan.says_something()?,
                b"delta" => self.read_delta(scan)?,
                b"text" => self.add(scan)?,
                _ => {
                    scan.skip()?;
                }
            }
            Ok(())
        })?;
        if index > 0 {
            self.bar.get_or_insert(Bar::SecondChoice);
        }
        if is_finished {
            self.bar.get_or_insert(Bar::Finished);
        }
        Ok(())
    }

    fn read_delta(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        scan.members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"content" => self.add(scan)?,
                b"reasoning_content" | b"reasoning" | b"reasoning_text" | b"reasoning_details"
                | b"thinking" => {
                    self.bar_if(scan, Bar::Thinking)?;
                }
                b"tool_calls" | b"function_call" => self.bar_if(scan, Bar::ToolCall)?,
                b"refusal" | b"audio" | b"images" => self.bar_if(scan, Bar::OtherContent)?,
                _ => {
                    scan.skip()?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn read_messages(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        let mut kind = Vec::new();
        let mut index = 0;
        let mut block_kind = Vec::new();
        let mut text = None;
        let mut is_stopped = false;
        scan.members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"type" => kind = scan.text()?.map(|t| t.bytes().into_owned()).unwrap_or_default(),
                b"index" => index = scan.count()?.unwrap_or(0),
                b"content_block" | b"delta" => {
                    scan.members::<Broken>(|scan, key| {
                        match key.bytes().as_ref() {
                            b"type" => {
                                block_kind = scan.text()?.map(|t| t.bytes().into_owned()).unwrap_or_default();
                            }
                            b"text" => text = scan.text()?.map(|t| t.text().into_owned()),
                            b"stop_reason" => is_stopped = scan.says_something()?,
                            _ => {
                                scan.skip()?;
                            }
                        }
                        Ok(())
                    })?;
                }
                _ => {
                    scan.skip()?;
                }
            }
            Ok(())
        })?;
        match kind.as_slice() {
            b"content_block_start" | b"content_block_delta" => {
                self.bar_of_block(&block_kind);
                self.block = index;
                self.text.push_str(text.as_deref().unwrap_or_default());
            }
            b"message_delta" if is_stopped => {
                self.bar.get_or_insert(Bar::Finished);
            }
            b"message_stop" => {
                self.bar.get_or_insert(Bar::Finished);
            }
            _ => {}
        }
        Ok(())
    }

    fn bar_of_block(&mut self, kind: &[u8]) {
        let bar = match kind {
            b"text" | b"text_delta" => return,
            b"thinking" | b"redacted_thinking" | b"thinking_delta" | b"signature_delta" => Bar::Thinking,
            b"tool_use" | b"server_tool_use" | b"input_json_delta" => Bar::ToolCall,
            _ => Bar::OtherContent,
        };
        self.bar.get_or_insert(bar);
    }

    /// Adds the text under the cursor; anything else there (an array, an object) bars.
    fn add(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        if scan.peek() == Some(b'"') {
            if let Some(text) = scan.text()? {
                self.text.push_str(&text.text());
            }
            return Ok(());
        }
        self.bar_if(scan, Bar::OtherContent)
    }

    fn bar_if(&mut self, scan: &mut Scan<'_>, bar: Bar) -> Result<(), Broken> {
        if scan.says_something()? {
            self.bar.get_or_insert(bar);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dialect: Dialect, events: &[&str]) -> Transcript {
        let mut transcript = Transcript::new(dialect);
        for event in events {
            transcript.keep(&Bytes::from(format!("data: {event}\n\n")));
        }
        transcript
    }

    #[test]
    fn the_text_is_what_the_client_was_told() {
        let mut chat = told(
            Dialect::OpenAiChat,
            &[
                r#"{"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"Grüß "}}]}"#,
                r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"G\u00f6tt\n"}}]}"#,
                "not json",
                r#"{"id":"c1","choices":[]}"#,
            ],
        );
        assert_eq!(chat.text(), "Grüß Gött\n");
        assert_eq!((chat.bar(), chat.id()), (None, Some("c1")));
        let mut messages = told(
            Dialect::AnthropicMessages,
            &[
                r#"{"type":"message_start","message":{"id":"m"}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one "}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"two"}}"#,
            ],
        );
        assert_eq!(messages.text(), "one two");
        assert_eq!(messages.bar(), None);
    }

    #[test]
    fn what_cannot_be_gone_on_from_bars() {
        use Dialect::{AnthropicMessages, OpenAiChat, OpenAiResponses};
        let chat = |delta: &str| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
        for (dialect, event, want) in [
            (OpenAiChat, chat(r#"{"content":"a"}"#), None),
            (OpenAiChat, chat(r#"{"tool_calls":[{"function":{"name":"f"}}]}"#), Some(Bar::ToolCall)),
            (OpenAiChat, chat(r#"{"reasoning_content":"hm"}"#), Some(Bar::Thinking)),
            (OpenAiChat, chat(r#"{"reasoning_content":null,"tool_calls":[],"content":"a"}"#), None),
            (OpenAiChat, chat(r#"{"refusal":"no"}"#), Some(Bar::OtherContent)),
            (OpenAiChat, r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#.to_owned(), Some(Bar::SecondChoice)),
            (OpenAiChat, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(), Some(Bar::Finished)),
            (
                AnthropicMessages,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"f"}}"#.to_owned(),
                Some(Bar::ToolCall),
            ),
            (
                AnthropicMessages,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#.to_owned(),
                Some(Bar::Thinking),
            ),
            (OpenAiResponses, "{}".to_owned(), Some(Bar::Dialect)),
        ] {
            assert_eq!(told(dialect, &[&event]).bar(), want, "{event}");
        }
    }

    #[test]
    fn a_long_stream_is_read_as_it_goes_and_one_too_long_bars() {
        let word = "w".repeat(1000);
        let event = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}"#);
        let mut transcript = told(Dialect::OpenAiChat, &vec![event.as_str(); 100]);
        assert!(transcript.raw_length <= RAW_MAX + event.len());
        assert_eq!(transcript.text().len(), 100_000);
        assert_eq!(told(Dialect::OpenAiChat, &vec![event.as_str(); 600]).bar(), Some(Bar::TooLong));
    }
}
