//! Reads what events say to a client: text, names, and what bars going on.
//!
//! [`Reading`] is told whole events in order. It adds up their text, notes where in the structure
//! of its stream the client stands ([`Place`]), and finds the first thing after which another
//! target could not go on ([`Bar`]). An event that is not JSON says nothing a client could have
//! understood; one too long to be kept in one piece bars, for nobody has read it.
//!
//! A text whose block is closed can be gone on from: whether another block or the end follows, whoever
//! takes the stream up will tell. What was told of its end is part of the place.

use super::{gemini, responses};
use crate::base::api::Dialect;
use crate::wire::json::{Broken, Scan, Text};
use crate::wire::openai;
use crate::wire::sse::{self, Block, Splitter};
use crate::wire::template::{Span, Template};
use bytes::Bytes;
use smallvec::SmallVec;

/// Why a stream cannot be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// The dialect's events cannot be joined.
    Dialect,
    /// Arguments of a tool call are under way.
    ToolCall,
    /// A thinking block or reasoning item is or was open.
    Thinking,
    /// There is more than one choice.
    SecondChoice,
    /// A refusal, audio or anything else that is not plain text.
    OtherContent,
    /// The answer has ended, or its text in a way that is not understood.
    Finished,
    /// The text is too long.
    TooLong,
}

/// Where in the structure of its stream a client stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The answer has begun: a role, `message_start` or `response.created` was told.
    pub has_begun: bool,
    /// The id that the stream goes by.
    pub id: Option<String>,
    /// Responses: when the response says it was created, in seconds since 1970.
    pub created_at: Option<u64>,
    /// Responses: the message that is open.
    pub item: Option<Item>,
    /// The index of the text block (Anthropic) that is open, or of the content part (responses) that was
    /// opened.
    pub block: Option<u64>,
    /// Anthropic: the index of the next block.
    pub next_block: u64,
    /// Anthropic: how many text blocks are closed.
    pub blocks_closed: u64,
    /// Responses: what was told of the end of the text.
    pub closing: Closing,
    /// Responses: the number that the next event gets, where they are numbered.
    pub next_number: Option<u64>,
}

/// How much of the end of a response's text was told. Its three events come in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closing {
    /// Nothing.
    #[default]
    Open,
    /// The text has ended (`response.output_text.done`).
    Text,
    /// The part has (`response.content_part.done`).
    Part,
    /// The message has (`response.output_item.done`).
    Message,
}

/// An output item of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its id, where the provider gave it one.
    pub id: Option<String>,
    /// Its place in the output.
    pub index: u64,
}

/// What was read so far.
#[derive(Debug)]
pub struct Reading {
    dialect: Dialect,
    pub(in crate::wire) text: String,
    pub(in crate::wire) place: Place,
    pub(in crate::wire) bar: Option<Bar>,
    /// Where the texts of the last event lie, in the dialects whose events repeat each other.
    texts: SmallVec<[Span; 1]>,
}

impl Reading {
    /// Starts before the first event.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        let bar = match dialect {
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiResponses
            | Dialect::AnthropicMessages
            | Dialect::GeminiGenerate => None,
            Dialect::OpenAiEmbeddings
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => Some(Bar::Dialect),
        };
        Reading { dialect, text: String::new(), place: Place::default(), bar, texts: SmallVec::new() }
    }

    /// Reads whole events; `last` is the one that was read before them.
    pub(super) fn read(&mut self, events: &Bytes, last: &mut Template) {
        let mut splitter = Splitter::default();
        while let Some(block) = splitter.next(events) {
            match block {
                Block::Here(range) => {
                    let event = events.get(range).unwrap_or_default();
                    if let Some(text) = last.text(event) {
                        self.add(&text);
                    } else {
                        self.read_and_learn(event, last);
                    }
                }
                Block::Joined { bytes, .. } => self.read_and_learn(&bytes, last),
                Block::Long { .. } => self.bar_by(Bar::OtherContent),
            }
        }
        let rest = splitter.take_rest();
        if !rest.trim_ascii().is_empty() {
            // The last event of a stream may lack its empty line; anything else is part of one.
            self.read_and_learn(&rest, last);
            self.bar_by(Bar::OtherContent);
        }
    }

    /// Reads one event.
    pub fn read_event(&mut self, event: &[u8]) {
        self.read_and_learn(event, &mut Template::default());
    }

    fn read_and_learn(&mut self, event: &[u8], last: &mut Template) {
        let Some(data) = sse::fields(event).data else { return };
        if data.trim_ascii() == b"[DONE]" {
            self.bar_by(Bar::Finished);
            return;
        }
        self.texts.clear();
        let mut scan = Scan::new(&data);
        let read = match self.dialect {
            Dialect::AnthropicMessages => self.read_messages(&mut scan),
            Dialect::OpenAiResponses => responses::read(self, &mut scan),
            Dialect::GeminiGenerate => gemini::read(self, &mut scan),
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => self.read_chat(&mut scan),
        };
        let text = match (read, self.texts.as_slice()) {
            (Ok(()), [text]) => Some(*text),
            _ => None,
        };
        last.learn(event, None, &data, text);
    }

    /// Notes what bars, unless something did before.
    pub(super) fn bar_by(&mut self, bar: Bar) {
        self.bar.get_or_insert(bar);
    }

    /// Adds a piece of text; half a letter bars.
    pub(super) fn add(&mut self, text: &Text<'_>) {
        match text.whole() {
            Some(text) => self.text.push_str(&text),
            None => self.bar_by(Bar::OtherContent),
        }
    }

    fn read_chat(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        scan.members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"id" => {
                    let id = scan.text()?;
                    if self.place.id.is_none() {
                        self.place.id = id.filter(|id| !id.is_empty()).map(|id| id.text().into_owned());
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
                b"text" => self.add_or_bar(scan)?,
                _ => {
                    scan.skip()?;
                }
            }
            Ok(())
        })?;
        if index > 0 {
            self.bar_by(Bar::SecondChoice);
        }
        if is_finished {
            self.bar_by(Bar::Finished);
        }
        Ok(())
    }

    fn read_delta(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        scan.members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"content" => self.add_or_bar(scan)?,
                b"role" => self.place.has_begun |= scan.says_something()?,
                name if openai::is_thought(name) => self.bar_if(scan, Bar::Thinking)?,
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
                            b"text" => text = scan.text()?,
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
            b"message_start" => self.place.has_begun = true,
            b"content_block_start" | b"content_block_delta" => {
                self.bar_by_block(&block_kind);
                self.place.block = Some(index);
                self.place.next_block = index.saturating_add(1);
                if let Some(text) = text {
                    self.texts.push(Span::from(&text));
                    self.add(&text);
                }
            }
            b"message_delta" if is_stopped => self.bar_by(Bar::Finished),
            b"content_block_stop" if self.place.block == Some(index) => {
                self.place.block = None;
                self.place.blocks_closed += 1;
            }
            b"content_block_stop" | b"message_stop" => self.bar_by(Bar::Finished),
            _ => {}
        }
        Ok(())
    }

    fn bar_by_block(&mut self, kind: &[u8]) {
        let bar = match kind {
            b"text" | b"text_delta" => return,
            b"thinking" | b"redacted_thinking" | b"thinking_delta" | b"signature_delta" => Bar::Thinking,
            b"tool_use" | b"server_tool_use" | b"input_json_delta" => Bar::ToolCall,
            _ => Bar::OtherContent,
        };
        self.bar_by(bar);
    }

    /// Adds the text under the cursor; anything else there (an array, an object) bars.
    fn add_or_bar(&mut self, scan: &mut Scan<'_>) -> Result<(), Broken> {
        if scan.peek() == Some(b'"') {
            if let Some(text) = scan.text()? {
                self.texts.push(Span::from(&text));
                self.add(&text);
            }
            return Ok(());
        }
        self.bar_if(scan, Bar::OtherContent)
    }

    pub(super) fn bar_if(&mut self, scan: &mut Scan<'_>, bar: Bar) -> Result<(), Broken> {
        if scan.says_something()? {
            self.bar_by(bar);
        }
        Ok(())
    }
}
