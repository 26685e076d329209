//! Streams of Gemini.
//!
//! Reading: every event is an answer of its own, whose parts go on where the last ended. The finish
//! is held until the stream's end, because usage may follow it. Writing: a part an event, calls
//! when they are whole, and the finish with the usage last.

use super::super::chat::call_id;
use super::super::fault;
use super::super::form::{Content, Event, Finish, Part, PartKind, Seal, Usage};
use super::super::frames::EVENT_MAX;
use super::super::read::Raw;
use super::super::{AnswerContext, write};
use super::answer::{blocked, usage_of, write_usage};
use super::{call_seal, finish_of, finish_word, parts, take_text, thought_seal, write_call, write_thought};

/// Reads events.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    has_started: bool,
    finish: Option<Finish>,
}

impl Reader {
    /// Reads one event.
    pub(in super::super) fn event(&mut self, name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        if data.trim_ascii() == b"[DONE]" {
            return;
        }
        let Some(raw) = Raw::parse(data) else { return };
        // Without `alt=sse` the whole stream is one array.
        let answers = if raw.is_array() { raw.items() } else { vec![raw] };
        for answer in answers {
            self.answer(name, answer, seen);
        }
    }

    /// Tells the finish that was held.
    pub(in super::super) fn finish(&mut self, seen: &mut Vec<Event>) {
        if let Some(reason) = self.finish.take() {
            seen.push(Event::Finish { reason, stop_sequence: None });
        }
    }

    fn answer(&mut self, name: &[u8], raw: Raw<'_>, seen: &mut Vec<Event>) {
        let mut body = raw.object();
        if body.take("error").is_some() || name == b"error" {
            seen.push(Event::Error(fault::class(raw)));
            return;
        }
        if !std::mem::replace(&mut self.has_started, true) {
            let id = take_text(&mut body, "responseId").unwrap_or_default();
            let model = take_text(&mut body, "modelVersion").unwrap_or_default();
            seen.push(Event::Start { id, model, created: None });
        }
        // Only the first candidate: no more are ever asked for.
        if let Some(candidate) = body.items("candidates").into_iter().next() {
            let mut candidate = candidate.object();
            for part in parts(candidate.object("content").items("parts")) {
                tell(part, seen);
            }
            let finish = take_text(&mut candidate, "finishReason").and_then(|word| finish_of(&word));
            self.finish = finish.or(self.finish);
        }
        self.finish = self.finish.or(blocked(&mut body));
        seen.extend(usage_of(&mut body).map(Event::Usage));
    }
}

fn tell(part: Part, seen: &mut Vec<Event>) {
    match part.content {
        Content::Text(text) => seen.push(Event::TextDelta(text)),
        Content::Thinking { text, seal } => {
            seen.push(Event::ThinkingDelta(text));
            seen.extend(seal.map(Event::SignatureDelta));
        }
        // The signature of thoughts that have come before.
        Content::RedactedThinking(seal) => seen.push(Event::SignatureDelta(seal)),
        Content::ToolUse(call) => {
            seen.push(Event::ToolStart { id: call.id, name: call.name, seal: call.seal });
            seen.push(Event::ToolArguments(call.arguments));
            seen.push(Event::PartEnd);
        }
        Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::Refusal(_)
        | Content::ToolResult(_)
        | Content::Foreign { .. } => {}
    }
}

/// Writes events.
#[derive(Debug)]
pub(in super::super) struct Writer {
    request_id: String,
    shows_thoughts: bool,
    signs_calls: bool,
    id: String,
    model: String,
    calls: usize,
    /// The open call: its id, name, signature, and what came of its arguments.
    call: Option<(String, String, Option<Seal>)>,
    arguments: String,
    usage: Usage,
    refuses: bool,
    finish: Finish,
}

impl Writer {
    /// Starts before the first event.
    pub(in super::super) fn new(context: &AnswerContext<'_>) -> Self {
        Writer {
            request_id: context.request_id.to_owned(),
            shows_thoughts: context.shows_thoughts,
            signs_calls: context.signs_calls,
            id: String::new(),
            model: String::new(),
            calls: 0,
            call: None,
            arguments: String::new(),
            usage: Usage::default(),
            refuses: false,
            finish: Finish::Stop,
        }
    }

    /// Writes one event.
    pub(in super::super) fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, .. } => {
                self.model.clone_from(model);
                self.id = if id.is_empty() { format!("resp-{}", self.request_id) } else { id.clone() };
            }
            Event::TextDelta(text) | Event::RefusalDelta(text) => self.part(out, |o| o.text("text", text)),
            Event::ThinkingDelta(text) => self.part(out, |o| write_thought(o, text, None)),
            Event::SignatureDelta(seal) | Event::RedactedThinking(seal) => {
                if let Some(signature) = thought_seal(Some(seal), self.shows_thoughts) {
                    self.part(out, |o| write_thought(o, "", Some(&signature)));
                }
            }
            Event::ToolStart { id, name, seal } => {
                let id = call_id(id, &self.request_id, self.calls);
                self.calls += 1;
                self.arguments.clear();
                self.call = Some((id, name.clone(), seal.clone()));
            }
            // Of a call that is longer than any event, the rest is left out.
            Event::ToolArguments(text) if self.arguments.len() + text.len() > EVENT_MAX => {}
            Event::ToolArguments(text) => self.arguments.push_str(text),
            Event::PartEnd => self.end_call(out),
            Event::Usage(usage) => self.usage.replace_by(*usage),
            Event::Finish { reason, .. } => self.finish = reason.refused_if(self.refuses),
            Event::End => self.send(out, Some(self.finish), |_| {}),
            // Google sends none, and its SDKs stumble over comments. The caller writes the error.
            Event::PartStart(kind) => self.refuses |= *kind == PartKind::Refusal,
            Event::Ping | Event::Error(_) => {}
        }
    }

    fn end_call(&mut self, out: &mut Vec<u8>) {
        let Some((id, name, seal)) = self.call.take() else { return };
        let arguments = std::mem::take(&mut self.arguments);
        let must_sign = self.signs_calls && self.calls == 1;
        let signature = call_seal(seal.as_ref(), self.shows_thoughts, must_sign);
        self.part(out, |o| {
            write_call(o, &id, &name, &arguments);
            o.text_if("thoughtSignature", signature.as_deref());
        });
    }

    fn part(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut write::Object<'_>)) {
        self.send(out, None, |array| array.object(fill));
    }

    fn send(&self, out: &mut Vec<u8>, finish: Option<Finish>, fill: impl FnOnce(&mut write::Array<'_>)) {
        out.extend_from_slice(b"data: ");
        write::object(out, |o| {
            o.array("candidates", |array| {
                array.object(|o| {
                    o.object("content", |o| {
                        o.text("role", "model");
                        o.array("parts", fill);
                    });
                    o.text_if("finishReason", finish.map(finish_word));
                    o.count("index", 0);
                });
            });
            if finish.is_some() {
                o.object("usageMetadata", |o| write_usage(o, &self.usage));
            }
            o.text("modelVersion", &self.model);
            o.text("responseId", &self.id);
        });
        out.extend_from_slice(b"\r\n\r\n");
    }
}
