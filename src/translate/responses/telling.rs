//! Writes streams of responses.
//!
//! Each part becomes an item: added, its deltas, its whole text, done; and the last event repeats
//! all items, because SDKs take the answer from there. So the answer is kept until its end, up to
//! `frames::EVENT_MAX`; what comes after that is streamed, and left out where it is repeated.

use super::super::chat::call_id;
use super::super::form::{Event, Finish, Issuer, PartKind, Seal, Usage};
use super::super::frames::EVENT_MAX;
use super::super::{AnswerContext, seal, write};
use super::answer::{Head, ItemId, write_call, write_content, write_message, write_response};
use super::write_reasoning;

/// Writes events.
#[derive(Debug)]
pub(in super::super) struct Writer {
    request_id: String,
    shows_thoughts: bool,
    id: String,
    model: String,
    created: u64,
    /// The number of the next event.
    sequence: u64,
    /// The place of the open item, or of the next.
    index: u64,
    calls: usize,
    open: Item,
    /// What came of the open item.
    text: String,
    /// The items that are done, with commas.
    items: Vec<u8>,
    usage: Usage,
    finish: Finish,
}

/// The open item.
#[derive(Debug, Default)]
enum Item {
    #[default]
    None,
    /// A message, and the type of its part.
    Message(&'static str),
    Thoughts {
        has_text: bool,
        seal: Option<Seal>,
    },
    Call {
        id: String,
        name: String,
    },
}

impl Writer {
    /// Starts before the first event.
    pub(in super::super) fn new(context: &AnswerContext<'_>) -> Self {
        Writer {
            request_id: context.request_id.to_owned(),
            shows_thoughts: context.shows_thoughts,
            id: String::new(),
            model: String::new(),
            created: context.now,
            sequence: 0,
            index: 0,
            calls: 0,
            open: Item::None,
            text: String::new(),
            items: Vec::new(),
            usage: Usage::default(),
            finish: Finish::Stop,
        }
    }

    /// Returns the number of the next event.
    pub(in super::super) fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes one event.
    pub(in super::super) fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
                self.created = created.unwrap_or(self.created);
                self.response("response.created", None, out);
                self.response("response.in_progress", None, out);
            }
            Event::PartStart(PartKind::Text) => self.message("output_text", out),
            Event::PartStart(PartKind::Refusal) => self.message("refusal", out),
            // Not shown, but a sign of life.
            Event::PartStart(PartKind::Thinking)
            | Event::ThinkingDelta(_)
            | Event::SignatureDelta(_)
            | Event::RedactedThinking(_)
                if !self.shows_thoughts =>
            {
                out.extend_from_slice(b": ping\n\n");
            }
            Event::PartStart(PartKind::Thinking) => {
                self.open = Item::Thoughts { has_text: false, seal: None };
                let id = self.item_id("rs");
                self.added(out, |o| write_reasoning(o, Some(&id), "", None));
            }
            Event::ToolStart { id, name, .. } => self.call(id, name, out),
            Event::TextDelta(text) => self.delta("response.output_text.delta", text, out),
            Event::RefusalDelta(text) => self.delta("response.refusal.delta", text, out),
            Event::ThinkingDelta(text) => self.thought(text, out),
            Event::SignatureDelta(sealed) => {
                if let Item::Thoughts { seal, .. } = &mut self.open {
                    *seal = Some(sealed.clone());
                }
            }
            Event::ToolArguments(text) => self.delta("response.function_call_arguments.delta", text, out),
            Event::RedactedThinking(sealed) => {
                self.open = Item::Thoughts { has_text: false, seal: Some(sealed.clone()) };
                let id = self.item_id("rs");
                self.added(out, |o| write_reasoning(o, Some(&id), "", None));
                self.end_part(out);
            }
            Event::PartEnd => self.end_part(out),
            Event::Usage(usage) => self.usage.replace_by(*usage),
            Event::Finish { reason, .. } => self.finish = *reason,
            Event::End => {
                let name = match super::incomplete_word(self.finish) {
                    Some(_) => "response.incomplete",
                    None => "response.completed",
                };
                self.response(name, Some(self.finish), out);
            }
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            // The caller writes the error.
            Event::Error(_) => {}
        }
    }

    fn item_id(&self, kind: &str) -> String {
        ItemId { request_id: &self.request_id, nth: self.index }.made(kind)
    }

    fn response(&mut self, name: &str, finish: Option<Finish>, out: &mut Vec<u8>) {
        let head =
            Head { id: &self.id, model: &self.model, created: self.created, request_id: &self.request_id };
        let usage = finish.map(|_| &self.usage);
        event(out, name, self.sequence, |o| {
            o.object("response", |o| write_response(o, &head, finish, &self.items, usage));
        });
        self.sequence += 1;
    }

    fn send(&mut self, name: &str, out: &mut Vec<u8>, fill: impl FnOnce(&mut write::Object<'_>)) {
        event(out, name, self.sequence, |o| {
            o.count("output_index", self.index);
            fill(o);
        });
        self.sequence += 1;
    }

    fn added(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut write::Object<'_>)) {
        self.text.clear();
        self.send("response.output_item.added", out, |o| o.object("item", fill));
    }

    fn message(&mut self, kind: &'static str, out: &mut Vec<u8>) {
        self.open = Item::Message(kind);
        let id = self.item_id("msg");
        self.added(out, |o| {
            o.text("id", &id);
            o.text("type", "message");
            o.text("status", "in_progress");
            o.text("role", "assistant");
            o.array("content", |_| {});
        });
        self.part("response.content_part.added", "content_index", &id, out, |o| {
            o.object("part", |o| write_content(o, kind, ""));
        });
    }

    fn call(&mut self, id: &str, name: &str, out: &mut Vec<u8>) {
        let id = call_id(id, &self.request_id, self.calls);
        self.calls += 1;
        let item = self.item_id("fc");
        self.added(out, |o| write_call(o, &item, &id, name, "in_progress", ""));
        self.open = Item::Call { id, name: name.to_owned() };
    }

    /// Sends an event about a part of the open item.
    fn part(
        &mut self,
        name: &str,
        index: &str,
        id: &str,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut write::Object<'_>),
    ) {
        self.send(name, out, |o| {
            o.text("item_id", id);
            if !index.is_empty() {
                o.count(index, 0);
            }
            fill(o);
        });
    }

    fn delta(&mut self, name: &str, text: &str, out: &mut Vec<u8>) {
        let (kind, index) = match &self.open {
            Item::None => return,
            Item::Message(_) => ("msg", "content_index"),
            Item::Thoughts { .. } => ("rs", "summary_index"),
            Item::Call { .. } => ("fc", ""),
        };
        if self.text.len().saturating_add(text.len()) <= EVENT_MAX {
            self.text.push_str(text);
        }
        let id = self.item_id(kind);
        self.part(name, index, &id, out, |o| {
            o.text("delta", text);
            if kind == "msg" && name == "response.output_text.delta" {
                o.array("logprobs", |_| {});
            }
        });
    }

    fn thought(&mut self, text: &str, out: &mut Vec<u8>) {
        if let Item::Thoughts { has_text, .. } = &mut self.open
            && !std::mem::replace(has_text, true)
        {
            let id = self.item_id("rs");
            self.part("response.reasoning_summary_part.added", "summary_index", &id, out, |o| {
                o.object("part", |o| super::write_text(o, "summary_text", ""));
            });
        }
        self.delta("response.reasoning_summary_text.delta", text, out);
    }

    /// Tells the open item whole, and that it is done.
    fn end_part(&mut self, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.text);
        let mut item = Vec::new();
        match std::mem::take(&mut self.open) {
            Item::None => return,
            Item::Message(kind) => {
                let id = self.item_id("msg");
                let name = format!("response.{kind}.done");
                self.part(&name, "content_index", &id, out, |o| {
                    super::write_text_member(o, kind, &text);
                    if kind == "output_text" {
                        o.array("logprobs", |_| {});
                    }
                });
                self.part("response.content_part.done", "content_index", &id, out, |o| {
                    o.object("part", |o| write_content(o, kind, &text));
                });
                write::object(&mut item, |o| write_message(o, &id, kind, &text));
            }
            Item::Thoughts { has_text, seal } => {
                let id = self.item_id("rs");
                if has_text {
                    self.part("response.reasoning_summary_text.done", "summary_index", &id, out, |o| {
                        o.text("text", &text);
                    });
                    self.part("response.reasoning_summary_part.done", "summary_index", &id, out, |o| {
                        o.object("part", |o| super::write_text(o, "summary_text", &text));
                    });
                }
                let sealed = seal.as_ref().map(|seal| seal::carried(seal, Issuer::OpenAi));
                // OpenAI takes its seals back under its own id only.
                let own = ItemId { request_id: &self.request_id, nth: self.index }.of_thoughts(seal.as_ref());
                write::object(&mut item, |o| write_reasoning(o, Some(&own), &text, sealed.as_deref()));
            }
            Item::Call { id: call_id, name } => {
                let id = self.item_id("fc");
                self.part("response.function_call_arguments.done", "", &id, out, |o| {
                    o.text("name", &name);
                    o.text("arguments", &text);
                });
                write::object(&mut item, |o| write_call(o, &id, &call_id, &name, "completed", &text));
            }
        }
        let json = String::from_utf8(item).unwrap_or_default();
        self.send("response.output_item.done", out, |o| o.raw("item", &json));
        self.index += 1;
        if self.items.len().saturating_add(json.len()) <= EVENT_MAX {
            if !self.items.is_empty() {
                self.items.push(b',');
            }
            self.items.extend_from_slice(json.as_bytes());
        }
    }
}

fn event(out: &mut Vec<u8>, kind: &str, sequence: u64, fill: impl FnOnce(&mut write::Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write::object(out, |o| {
        o.text("type", kind);
        o.count("sequence_number", sequence);
        fill(o);
    });
    out.extend_from_slice(b"\n\n");
}
