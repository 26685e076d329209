//! How is a streamed answer told in another dialect?
//!
//! Bytes are cut into events (`frames`), a reader of the provider's dialect says what they mean,
//! `order` puts that into the order that every writer relies on, and a writer of the client's
//! dialect tells it. Each is a small state machine; nothing is kept beyond one event.

use super::form::Event;
use super::{
    AnswerContext, OBJECTS_MAX, State, Untranslatable, bedrock, bridge, chat, cohere, frames, gemini,
    messages, names, ollama, order, read, responses,
};
use crate::base::api::Dialect;
use crate::base::outcome::Outcome;
use bytes::Bytes;

/// Translator of one streamed answer.
#[derive(Debug)]
pub struct Stream {
    frames: frames::Frames,
    reader: Reader,
    order: order::Order,
    writer: Writer,
    /// The target's model, for answers that do not name theirs.
    model: String,
    /// The client's names of functions that the target knows by others.
    names: names::Names,
    /// Kept between events for their memory.
    seen: Vec<Event>,
    ordered: Vec<Event>,
}

/// Reads events of a provider's dialect.
#[derive(Debug)]
enum Reader {
    Chat(chat::Reader),
    Messages(messages::Reader),
    Responses(responses::Reader),
    Gemini(gemini::Reader),
    Bedrock(bedrock::Reader),
    Cohere(cohere::Reader),
    Ollama(ollama::Reader),
    Bridge(bridge::Reader),
}

/// Writes events of the client's dialect.
#[derive(Debug)]
enum Writer {
    Chat(chat::Writer),
    Messages(messages::Writer),
    Responses(responses::Writer),
    Gemini(gemini::Writer),
}

impl Stream {
    /// Starts before the first byte: `from` is the provider's dialect, `to` the client's.
    ///
    /// # Errors
    /// When the pair is not translated.
    pub fn new(from: Dialect, to: Dialect, context: &AnswerContext<'_>) -> Result<Self, Untranslatable> {
        let pair = Untranslatable::Pair { from, to };
        let reader = match from {
            Dialect::OpenAiChat => Reader::Chat(chat::Reader::default()),
            Dialect::AnthropicMessages => Reader::Messages(messages::Reader::default()),
            Dialect::OpenAiResponses => Reader::Responses(responses::Reader::default()),
            Dialect::GeminiGenerate => Reader::Gemini(gemini::Reader::default()),
            Dialect::BedrockConverse if bedrock::IS_BUILT_IN => Reader::Bedrock(bedrock::Reader::default()),
            Dialect::CohereChat => Reader::Cohere(cohere::Reader::default()),
            Dialect::OllamaChat => Reader::Ollama(ollama::Reader::default()),
            Dialect::GenerateBridge => Reader::Bridge(bridge::Reader::default()),
            Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings | Dialect::BedrockConverse => {
                return Err(pair);
            }
        };
        let writer = match to {
            Dialect::OpenAiChat => Writer::Chat(chat::Writer::new(context)),
            Dialect::AnthropicMessages => Writer::Messages(messages::Writer::new(context)),
            Dialect::OpenAiResponses => Writer::Responses(responses::Writer::new(context)),
            Dialect::GeminiGenerate => Writer::Gemini(gemini::Writer::new(context)),
            Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => return Err(pair),
        };
        Ok(Stream {
            frames: frames::Frames::new(from),
            reader,
            order: order::Order::new(),
            writer,
            model: context.asked.model.clone(),
            names: context.asked.names.clone(),
            seen: Vec::new(),
            ordered: Vec::new(),
        })
    }

    /// Takes bytes of the provider's stream, cut anywhere, and appends the client's whole events
    /// to `out`. After [`State::Failed`] the caller writes the error event (`observe::fault_text`)
    /// and nothing else; what follows is not read.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut Vec<u8>) -> State {
        if self.order.state() != State::Open {
            return self.order.state();
        }
        let Stream { frames, reader, seen, .. } = self;
        let whole = frames.push(chunk, |name, data| reader.event(name, data, seen));
        if whole.is_err() {
            seen.push(Event::Error(Outcome::BadBody));
        }
        self.tell(out);
        self.order.state()
    }

    /// Takes the end of the provider's stream. [`State::Open`] says that the answer is not whole:
    /// the stream broke off, and the caller writes the error event.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> State {
        let Stream { frames, reader, seen, .. } = self;
        frames.finish(|name, data| reader.event(name, data, seen));
        reader.finish(seen);
        self.tell(out);
        // Gemini never says that it ended, others forget to.
        if self.order.has_finished() {
            self.seen.push(Event::End);
            self.tell(out);
        }
        self.order.state()
    }

    /// Returns the number of the next event where the client's dialect counts them (OpenAI
    /// responses), for the error event; 0 elsewhere.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        match &self.writer {
            Writer::Chat(_) | Writer::Messages(_) | Writer::Gemini(_) => 0,
            Writer::Responses(writer) => writer.next_sequence(),
        }
    }

    /// Writes what was read.
    fn tell(&mut self, out: &mut Vec<u8>) {
        for event in self.seen.drain(..) {
            self.order.put(event, &mut self.ordered);
        }
        for mut event in self.ordered.drain(..) {
            match &mut event {
                Event::Start { model, .. } if model.is_empty() => model.clone_from(&self.model),
                Event::ToolStart { name, .. } => names::restore(name, &self.names),
                _ => {}
            }
            match &mut self.writer {
                Writer::Chat(writer) => writer.event(&event, out),
                Writer::Messages(writer) => writer.event(&event, out),
                Writer::Responses(writer) => writer.event(&event, out),
                Writer::Gemini(writer) => writer.event(&event, out),
            }
        }
    }
}

impl Reader {
    fn event(&mut self, name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        // An object has two bytes at least.
        if data.len() > 2 * OBJECTS_MAX && read::count_objects(data) > OBJECTS_MAX {
            return seen.push(Event::Error(Outcome::BadBody));
        }
        match self {
            Reader::Chat(reader) => reader.event(name, data, seen),
            Reader::Messages(reader) => reader.event(name, data, seen),
            Reader::Responses(reader) => reader.event(name, data, seen),
            Reader::Gemini(reader) => reader.event(name, data, seen),
            Reader::Bedrock(reader) => reader.event(name, data, seen),
            Reader::Cohere(reader) => reader.event(name, data, seen),
            Reader::Ollama(reader) => reader.event(name, data, seen),
            Reader::Bridge(reader) => reader.event(name, data, seen),
        }
    }

    /// Tells what was held until the stream's end.
    fn finish(&mut self, seen: &mut Vec<Event>) {
        match self {
            Reader::Chat(reader) => reader.finish(seen),
            Reader::Messages(reader) => reader.finish(seen),
            Reader::Responses(reader) => reader.finish(seen),
            Reader::Gemini(reader) => reader.finish(seen),
            Reader::Bedrock(reader) => reader.finish(seen),
            Reader::Cohere(reader) => reader.finish(seen),
            Reader::Ollama(reader) => reader.finish(seen),
            Reader::Bridge(reader) => reader.finish(seen),
        }
    }
}
