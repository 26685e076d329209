//! Streams of chat completions.
//!
//! Reading: the finish reason is held until the stream's end, because a second choice may go on
//! after the first has finished (Copilot). So are calls whose pieces come by turns (`calls`), and
//! half of a surrogate pair until the next piece of text. Writing: a role chunk, deltas, the finish,
//! usage if it was asked for, `[DONE]`.

use super::super::AnswerContext;
use super::super::fault;
use super::super::form::{Content, Event, Finish, PartKind, Seal, Usage};
use super::super::read::{Half, Object, Raw};
use super::super::write;
use super::answer::{call_id, write_usage};
use super::calls::{Calls, Piece};

/// Reads chunks.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    has_started: bool,
    calls: Calls,
    /// Half of an emoji that the text so far ends with.
    half: Half,
    finish: Option<Finish>,
}

impl Reader {
    /// Reads one event.
    pub(in super::super) fn event(&mut self, name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        if data.trim_ascii() == b"[DONE]" {
            self.end(seen);
            self.finish(seen);
            seen.push(Event::End);
            return;
        }
        let Some(raw) = Raw::parse(data) else { return };
        let mut chunk = raw.object();
        let says_error = chunk.take("error").is_some_and(|error| error.as_str() != "\"\"");
        if says_error || name == b"error" {
            seen.push(Event::Error(fault::class(raw)));
            return;
        }
        let choices = chunk.items("choices");
        self.start(&mut chunk, !choices.is_empty(), seen);
        for choice in choices {
            self.choice(choice.object(), seen);
        }
        // Groq says usage in a member of its own where nobody asked for it.
        let beside = chunk.object("x_groq").take("usage");
        if let Some(usage) = chunk.take("usage").filter(|raw| raw.is_object()).or(beside) {
            seen.push(Event::Usage(Usage::parse(usage.as_str())));
        }
    }

    /// Tells the finish that was held.
    pub(in super::super) fn finish(&mut self, seen: &mut Vec<Event>) {
        if let Some(reason) = self.finish.take() {
            self.end(seen);
            seen.push(Event::Finish { reason, stop_sequence: None });
        }
    }

    /// Tells what waits for more that does not come.
    fn end(&mut self, seen: &mut Vec<Event>) {
        if let Some(text) = self.half.end() {
            self.calls.say(Event::TextDelta(text), seen);
        }
        self.calls.finish(seen);
    }

    /// Begins with the first chunk that says whose it is; Azure's first has neither id nor choices.
    fn start(&mut self, chunk: &mut Object<'_>, has_choices: bool, seen: &mut Vec<Event>) {
        let id = chunk.text("id").unwrap_or_default();
        if self.has_started || (id.is_empty() && !has_choices) {
            return;
        }
        self.has_started = true;
        let model = chunk.text("model").unwrap_or_default();
        seen.push(Event::Start { id, model, created: chunk.count("created").filter(|at| *at > 0) });
    }

    fn choice(&mut self, mut choice: Object<'_>, seen: &mut Vec<Event>) {
        let index = choice.count("index").unwrap_or(0);
        // Perplexity repeats the whole message beside each delta.
        if let Some(delta) = choice.take("delta").or_else(|| choice.take("message")) {
            self.delta(index, delta.object(), seen);
        }
        // Moonshot says usage in the last choice, also where nobody asked for it.
        if let Some(usage) = choice.take("usage").filter(|raw| raw.is_object()) {
            seen.push(Event::Usage(Usage::parse(usage.as_str())));
        }
        let finish = choice.text("finish_reason").and_then(|word| super::finish_of(&word));
        if let Some(finish) = finish.filter(|_| self.finish != Some(Finish::ToolUse)) {
            self.finish = Some(finish);
        }
    }

    fn delta(&mut self, choice: u64, mut delta: Object<'_>, seen: &mut Vec<Event>) {
        let mut said = Vec::new();
        for content in super::take_thoughts(&mut delta) {
            tell_thought(content, &mut said);
        }
        if let Some(content) = delta.take("content") {
            match self.half.join(content) {
                Some(text) => said.push(Event::TextDelta(text)),
                None => super::content(content).into_iter().for_each(|part| tell(part.content, &mut said)),
            }
        }
        said.extend(delta.text("refusal").map(Event::RefusalDelta));
        for event in said {
            self.calls.say(event, seen);
        }
        for call in delta.items("tool_calls") {
            self.call(choice, call.object(), seen);
        }
        if let Some(call) = delta.take("function_call") {
            self.call(choice, call.object(), seen);
        }
    }

    fn call(&mut self, choice: u64, mut piece: Object<'_>, seen: &mut Vec<Event>) {
        let index = piece.count("index");
        let id = piece.text("id").unwrap_or_default();
        let seal = super::google_seal(&mut piece);
        let mut function = piece.take("function").map_or(piece, Raw::object);
        let name = function.text("name").filter(|name| !name.is_empty());
        let arguments = super::arguments(&mut function);
        self.calls.take(Piece { choice, index, id, name, seal, arguments }, seen);
    }
}

fn tell(content: Content, said: &mut Vec<Event>) {
    match content {
        Content::Text(text) => said.push(Event::TextDelta(text)),
        Content::Refusal(text) => said.push(Event::RefusalDelta(text)),
        thought => tell_thought(thought, said),
    }
}

fn tell_thought(content: Content, seen: &mut Vec<Event>) {
    match content {
        Content::Thinking { text, seal } => {
            seen.push(Event::ThinkingDelta(text));
            seen.extend(seal.map(Event::SignatureDelta));
        }
        Content::RedactedThinking(seal) => seen.push(Event::RedactedThinking(seal)),
        Content::Text(_)
        | Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::Refusal(_)
        | Content::ToolUse(_)
        | Content::ToolResult(_)
        | Content::Foreign { .. } => {}
    }
}

/// Writes chunks.
#[derive(Debug)]
pub(in super::super) struct Writer {
    request_id: String,
    now: u64,
    include_usage: bool,
    /// What every chunk begins with, up to its choices.
    head: Vec<u8>,
    calls: usize,
    thoughts: u64,
    usage: Usage,
}

impl Writer {
    /// Starts before the first event.
    pub(in super::super) fn new(context: &AnswerContext<'_>) -> Self {
        Writer {
            request_id: context.request_id.to_owned(),
            now: context.now,
            include_usage: context.asked.include_usage,
            head: Vec::new(),
            calls: 0,
            thoughts: 0,
            usage: Usage::default(),
        }
    }

    /// Writes one event.
    pub(in super::super) fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created } => {
                self.begin(id, model, *created);
                self.delta(out, |o| {
                    o.text("role", "assistant");
                    o.text("content", "");
                });
            }
            Event::TextDelta(text) => self.delta(out, |o| o.text("content", text)),
            Event::ThinkingDelta(text) => self.delta(out, |o| o.text("reasoning_content", text)),
            Event::RefusalDelta(text) => self.delta(out, |o| o.text("refusal", text)),
            Event::SignatureDelta(seal) => self.sealed(seal, "reasoning.text", "signature", out),
            Event::RedactedThinking(seal) => {
                self.sealed(seal, "reasoning.encrypted", "data", out);
                self.thoughts += 1;
            }
            Event::ToolStart { id, name, seal } => self.tool(id, name, seal.as_ref(), out),
            Event::ToolArguments(text) => {
                let index = self.calls.saturating_sub(1) as u64;
                self.delta(out, |o| {
                    o.array("tool_calls", |array| {
                        array.object(|o| {
                            o.count("index", index);
                            o.object("function", |o| o.text("arguments", text));
                        });
                    });
                });
            }
            Event::PartStart(PartKind::Thinking) => self.thoughts += 1,
            Event::Usage(usage) => self.usage.replace_by(*usage),
            Event::Finish { reason, .. } => self.chunk(out, |o| {
                o.object("delta", |_| {});
                o.text("finish_reason", super::finish_word(*reason));
            }),
            Event::End => self.end(out),
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            // The caller writes the error.
            Event::Error(_) | Event::PartStart(PartKind::Text | PartKind::Refusal) | Event::PartEnd => {}
        }
    }

    fn begin(&mut self, id: &str, model: &str, created: Option<u64>) {
        let made = format!("chatcmpl-{}", self.request_id);
        self.head.extend_from_slice(b"data: ");
        write::object(&mut self.head, |o| {
            o.text("id", if id.is_empty() { &made } else { id });
            o.text("object", "chat.completion.chunk");
            o.count("created", created.unwrap_or(self.now));
            o.text("model", model);
        });
        // The object goes on in each chunk.
        self.head.pop();
    }

    fn delta(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut write::Object<'_>)) {
        self.chunk(out, |o| {
            o.object("delta", fill);
            o.null("finish_reason");
        });
    }

    fn chunk(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut write::Object<'_>)) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b",\"choices\":[");
        write::object(out, |o| {
            o.count("index", 0);
            fill(o);
        });
        out.extend_from_slice(b"]}\n\n");
    }

    fn sealed(&self, seal: &Seal, kind: &str, member: &str, out: &mut Vec<u8>) {
        self.delta(out, |o| {
            o.array("reasoning_details", |array| {
                array.object(|o| {
                    o.text("type", kind);
                    o.text(member, &seal.text);
                    super::write_seal(o, Some(seal), self.thoughts.saturating_sub(1));
                });
            });
        });
    }

    fn tool(&mut self, id: &str, name: &str, seal: Option<&Seal>, out: &mut Vec<u8>) {
        let index = self.calls;
        self.calls += 1;
        let id = call_id(id, &self.request_id, index);
        self.delta(out, |o| {
            o.array("tool_calls", |array| {
                array.object(|o| {
                    o.count("index", index as u64);
                    o.text("id", &id);
                    o.text("type", "function");
                    o.object("function", |o| {
                        o.text("name", name);
                        o.text("arguments", "");
                    });
                    super::write_google_seal(o, seal);
                });
            });
        });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.include_usage {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b",\"choices\":[],\"usage\":");
            write::object(out, |o| write_usage(o, &self.usage));
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}
