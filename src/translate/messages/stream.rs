//! Streams of messages.
//!
//! Writing: `message_start`, blocks one after another, and, held until the end because usage
//! comes last elsewhere, `message_delta` and `message_stop`. Thoughts that the client is not to
//! see become `ping`, so that it knows that something is going on.

use super::super::chat::call_id;
use super::super::form::{Event, Finish, PartKind, Usage};
use super::super::read::{Object, Raw};
use super::super::{AnswerContext, fault, seal, write};
use super::answer::write_usage;

/// Reads events.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    /// The open block is of a kind that nobody else has (server tools).
    skips: bool,
}

impl Reader {
    /// Reads one event.
    pub(in super::super) fn event(&mut self, _name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        let Some(raw) = Raw::parse(data) else { return };
        let mut event = raw.object();
        match event.text("type").as_deref() {
            Some("message_start") => {
                let mut message = event.object("message");
                let id = message.text("id").unwrap_or_default();
                let model = message.text("model").unwrap_or_default();
                seen.push(Event::Start { id, model, created: None });
                tell_usage(&mut message, seen);
            }
            Some("content_block_start") => self.block(event.object("content_block"), seen),
            Some("content_block_delta") if !self.skips => delta(event.object("delta"), seen),
            Some("content_block_stop") => {
                let was_read = !std::mem::replace(&mut self.skips, false);
                seen.extend(was_read.then_some(Event::PartEnd));
            }
            Some("message_delta") => {
                tell_usage(&mut event, seen);
                let mut delta = event.object("delta");
                if let Some(word) = delta.text("stop_reason") {
                    let stop_sequence = delta.text("stop_sequence");
                    seen.push(Event::Finish { reason: super::finish_of(&word), stop_sequence });
                }
            }
            Some("message_stop") => seen.push(Event::End),
            Some("ping") => seen.push(Event::Ping),
            Some("error") => seen.push(Event::Error(fault::class(raw))),
            // The edge's form of an error lacks the type.
            None if event.take("error").is_some() => seen.push(Event::Error(fault::class(raw))),
            Some(_) | None => {}
        }
    }

    /// Takes the end of the stream; nothing is held.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(in super::super) fn finish(&mut self, _seen: &mut Vec<Event>) {}

    fn block(&mut self, mut block: Object<'_>, seen: &mut Vec<Event>) {
        self.skips = false;
        match block.text("type").as_deref() {
            Some("text") => {
                seen.push(Event::PartStart(PartKind::Text));
                seen.extend(block.text("text").map(Event::TextDelta));
            }
            Some("thinking") => {
                seen.push(Event::PartStart(PartKind::Thinking));
                seen.extend(block.text("thinking").map(Event::ThinkingDelta));
                let signature = block.text("signature").and_then(seal::of_signature);
                seen.extend(signature.map(Event::SignatureDelta));
            }
            Some("redacted_thinking") => {
                self.skips = true;
                let data = block.text("data").and_then(seal::of_signature);
                seen.extend(data.map(Event::RedactedThinking));
            }
            Some("tool_use") => {
                let id = block.text("id").unwrap_or_default();
                let name = block.text("name").unwrap_or_default();
                seen.push(Event::ToolStart { id, name, seal: None });
                let input = block.take("input").filter(|raw| !raw.object().is_empty());
                seen.extend(input.map(|raw| Event::ToolArguments(raw.as_str().to_owned())));
            }
            Some(_) | None => self.skips = true,
        }
    }
}

fn tell_usage(holder: &mut Object<'_>, seen: &mut Vec<Event>) {
    if let Some(usage) = holder.take("usage") {
        seen.push(Event::Usage(Usage::parse(usage.as_str())));
    }
}

fn delta(mut delta: Object<'_>, seen: &mut Vec<Event>) {
    let event = match delta.text("type").as_deref() {
        Some("text_delta") => delta.text("text").map(Event::TextDelta),
        Some("thinking_delta") => delta.text("thinking").map(Event::ThinkingDelta),
        Some("signature_delta") => {
            delta.text("signature").and_then(seal::of_signature).map(Event::SignatureDelta)
        }
        Some("input_json_delta") => delta.text("partial_json").map(Event::ToolArguments),
        Some(_) | None => None,
    };
    seen.extend(event);
}

/// Writes events.
#[derive(Debug)]
pub(in super::super) struct Writer {
    request_id: String,
    shows_thoughts: bool,
    /// The index of the open block, or of the next.
    index: u64,
    calls: usize,
    /// The open block is not shown.
    hides: bool,
    usage: Usage,
    refuses: bool,
    finish: (Finish, Option<String>),
}

impl Writer {
    /// Starts before the first event.
    pub(in super::super) fn new(context: &AnswerContext<'_>) -> Self {
        Writer {
            request_id: context.request_id.to_owned(),
            shows_thoughts: context.shows_thoughts,
            index: 0,
            calls: 0,
            hides: false,
            usage: Usage::default(),
            refuses: false,
            finish: (Finish::Stop, None),
        }
    }

    /// Writes one event.
    pub(in super::super) fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, .. } => self.start(id, model, out),
            Event::PartStart(kind @ (PartKind::Text | PartKind::Refusal)) => {
                self.refuses |= *kind == PartKind::Refusal;
                self.block(out, |o| {
                    o.text("type", "text");
                    o.text("text", "");
                });
            }
            Event::PartStart(PartKind::Thinking) => {
                self.hides = !self.shows_thoughts;
                if !self.hides {
                    self.block(out, |o| {
                        o.text("type", "thinking");
                        o.text("thinking", "");
                        o.text("signature", "");
                    });
                }
            }
            Event::ToolStart { id, name, .. } => {
                let id = call_id(id, &self.request_id, self.calls);
                self.calls += 1;
                self.block(out, |o| {
                    o.text("type", "tool_use");
                    o.text("id", &id);
                    o.text("name", name);
                    o.object("input", |_| {});
                });
            }
            Event::TextDelta(text) | Event::RefusalDelta(text) => self.delta("text_delta", "text", text, out),
            Event::ThinkingDelta(_) | Event::SignatureDelta(_) if self.hides => ping(out),
            Event::ThinkingDelta(text) => self.delta("thinking_delta", "thinking", text, out),
            Event::SignatureDelta(seal) => {
                self.delta("signature_delta", "signature", &seal::to_signature(seal), out);
            }
            Event::ToolArguments(text) => self.delta("input_json_delta", "partial_json", text, out),
            Event::RedactedThinking(seal) => {
                if self.shows_thoughts || super::is_own(seal) {
                    let data = seal::to_signature(seal);
                    self.block(out, |o| {
                        o.text("type", "redacted_thinking");
                        o.text("data", &data);
                    });
                    self.stop(out);
                }
            }
            Event::PartEnd => {
                if !std::mem::replace(&mut self.hides, false) {
                    self.stop(out);
                }
            }
            Event::Usage(usage) => self.usage.replace_by(*usage),
            Event::Finish { reason, stop_sequence } => {
                self.finish = (reason.refused_if(self.refuses), stop_sequence.clone());
            }
            Event::End => self.end(out),
            Event::Ping => ping(out),
            // The caller writes the error.
            Event::Error(_) => {}
        }
    }

    fn start(&self, id: &str, model: &str, out: &mut Vec<u8>) {
        let made = format!("msg_{}", self.request_id);
        event(out, "message_start", |o| {
            o.object("message", |o| {
                o.text("id", if id.is_empty() { &made } else { id });
                o.text("type", "message");
                o.text("role", "assistant");
                o.text("model", model);
                o.array("content", |_| {});
                o.null("stop_reason");
                o.null("stop_sequence");
                // Not known yet; the last word is in `message_delta`.
                o.object("usage", |o| {
                    o.count("input_tokens", 0);
                    o.count("output_tokens", 0);
                });
            });
        });
    }

    fn block(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut write::Object<'_>)) {
        event(out, "content_block_start", |o| {
            o.count("index", self.index);
            o.object("content_block", fill);
        });
    }

    fn delta(&self, kind: &str, member: &str, text: &str, out: &mut Vec<u8>) {
        event(out, "content_block_delta", |o| {
            o.count("index", self.index);
            o.object("delta", |o| {
                o.text("type", kind);
                o.text(member, text);
            });
        });
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        event(out, "content_block_stop", |o| o.count("index", self.index));
        self.index += 1;
    }

    fn end(&self, out: &mut Vec<u8>) {
        let (reason, stop_sequence) = &self.finish;
        event(out, "message_delta", |o| {
            o.object("delta", |o| {
                o.text("stop_reason", super::finish_word(*reason));
                match stop_sequence {
                    Some(text) => o.text("stop_sequence", text),
                    None => o.null("stop_sequence"),
                }
            });
            o.object("usage", |o| write_usage(o, &self.usage));
        });
        event(out, "message_stop", |_| {});
    }
}

fn ping(out: &mut Vec<u8>) {
    event(out, "ping", |_| {});
}

fn event(out: &mut Vec<u8>, kind: &str, fill: impl FnOnce(&mut write::Object<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write::object(out, |o| {
        o.text("type", kind);
        fill(o);
    });
    out.extend_from_slice(b"\n\n");
}
