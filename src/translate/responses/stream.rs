//! Reads streams of responses.
//!
//! The pieces are told as they come. What a server tells only at the end of an item, or only in
//! `response.completed`, is told from there: some send no deltas of arguments, some no items.
//!
//! At most [`ITEMS_MAX`] items are under way, for each event is held against each of them; more is a
//! fault.

use super::super::fault;
use super::super::form::{Content, Event, PartKind, ToolUse, Usage};
use super::super::read::{Object, Raw};
use super::{finish_of, said};
use crate::base::outcome::Outcome;

/// Items that may be under way. One is usual, and an answer of this many is none of a model's.
const ITEMS_MAX: usize = 1_024;

/// Reads events.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    /// The items under way: one, but OpenRouter begins the next before the last is done.
    /// At most [`ITEMS_MAX`].
    items: Vec<Item>,
    /// Whether any part of the answer was told.
    has_content: bool,
}

/// An item under way.
#[derive(Debug)]
struct Item {
    /// Its place among the items; nothing where the server does not say.
    index: Option<u64>,
    /// Whether anything of it was told.
    has_content: bool,
    /// Whether it is a call.
    is_call: bool,
    /// Whether it is a call that began while another was open: it is told when it is done.
    waits: bool,
}

impl Reader {
    /// Reads one event.
    pub(in super::super) fn event(&mut self, name: &[u8], data: &[u8], seen: &mut Vec<Event>) {
        if data.trim_ascii() == b"[DONE]" {
            // OpenRouter's, after the real end.
            return;
        }
        let Some(raw) = Raw::parse(data) else { return };
        let mut event = raw.object();
        let kind = event.text("type").unwrap_or_else(|| String::from_utf8_lossy(name).into_owned());
        match kind.as_str() {
            "response.created" => {
                let mut response = event.object("response");
                let id = response.text("id").unwrap_or_default();
                let model = response.text("model").unwrap_or_default();
                seen.push(Event::Start { id, model, created: response.count("created_at") });
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                self.end(event.object("response"), seen);
            }
            "response.failed" => {
                let response = event.take("response").unwrap_or(raw);
                seen.push(Event::Error(fault::class(response)));
            }
            "error" => seen.push(Event::Error(fault::class(raw))),
            "response.output_item.added" => self.begin(&mut event, seen),
            "response.output_item.done" => self.whole(&mut event, seen),
            "response.content_part.added" => part(event.object("part"), seen),
            "response.reasoning_summary_part.added" => {
                let is_next = event.count("summary_index").is_some_and(|nth| nth > 0);
                seen.extend(is_next.then(|| Event::ThinkingDelta("\n\n".to_owned())));
            }
            "response.output_text.delta" => self.delta(&mut event, Event::TextDelta, seen),
            "response.refusal.delta" => self.delta(&mut event, Event::RefusalDelta, seen),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.delta(&mut event, Event::ThinkingDelta, seen);
            }
            "response.function_call_arguments.delta" => self.arguments(&mut event, seen),
            _ if event.take("error").is_some_and(Raw::is_object) && kind.is_empty() => {
                seen.push(Event::Error(fault::class(raw)));
            }
            _ => {}
        }
    }

    /// Takes the end of the stream; nothing is held.
    #[allow(clippy::unused_self, reason = "every reader has it")]
    pub(in super::super) fn finish(&mut self, _seen: &mut Vec<Event>) {}

    fn item(&mut self, index: Option<u64>) -> Option<&mut Item> {
        self.items.iter_mut().rfind(|item| item.index == index)
    }

    fn delta(&mut self, event: &mut Object<'_>, make: fn(String) -> Event, seen: &mut Vec<Event>) {
        let Some(text) = event.text("delta").filter(|text| !text.is_empty()) else { return };
        self.has_content = true;
        if let Some(item) = self.item(event.count("output_index")) {
            item.has_content = true;
        }
        seen.push(make(text));
    }

    fn arguments(&mut self, event: &mut Object<'_>, seen: &mut Vec<Event>) {
        let Some(text) = event.text("delta").filter(|text| !text.is_empty()) else { return };
        match self.item(event.count("output_index")).filter(|item| item.is_call) {
            Some(item) if item.waits => return,
            Some(item) => item.has_content = true,
            // Nobody could join them, and `Order` makes it a fault.
            None => seen.push(Event::PartEnd),
        }
        seen.push(Event::ToolArguments(text));
    }

    fn begin(&mut self, event: &mut Object<'_>, seen: &mut Vec<Event>) {
        if self.items.len() >= ITEMS_MAX {
            return seen.push(Event::Error(Outcome::BadBody));
        }
        let index = event.count("output_index");
        let mut item = event.object("item");
        let is_call = item.text("type").as_deref() == Some("function_call");
        let waits = self.items.iter().any(|item| item.is_call && !item.waits);
        if !waits {
            seen.push(Event::PartEnd);
        }
        if is_call && !waits {
            self.has_content = true;
            let id = item.text("call_id").or_else(|| item.text("id")).unwrap_or_default();
            seen.push(Event::ToolStart { id, name: item.text("name").unwrap_or_default(), seal: None });
        }
        self.items.push(Item { index, has_content: false, is_call, waits: is_call && waits });
    }

    /// Reads an item at its end: what was not told of it yet, and the seal of thoughts.
    fn whole(&mut self, event: &mut Object<'_>, seen: &mut Vec<Event>) {
        let index = event.count("output_index");
        let Some(raw) = event.take("item") else { return };
        let at = self.items.iter().rposition(|item| item.index == index);
        let item = at.map(|at| self.items.remove(at));
        let was_begun = item.as_ref().is_some_and(|item| item.is_call && !item.waits);
        let was_told = item.is_some_and(|item| item.has_content);
        let Ok(parts) = said(raw) else { return seen.push(Event::Error(Outcome::BadBody)) };
        for part in parts {
            match part.content {
                Content::Thinking { seal, .. } if was_told => seen.extend(seal.map(Event::SignatureDelta)),
                Content::ToolUse(call) if was_begun => {
                    seen.extend((!was_told).then_some(Event::ToolArguments(call.arguments)));
                }
                _ if was_told => {}
                content => self.tell(content, seen),
            }
        }
        if was_begun || self.items.iter().all(|item| !item.is_call || item.waits) {
            seen.push(Event::PartEnd);
        }
    }

    /// Tells content that came whole.
    fn tell(&mut self, content: Content, seen: &mut Vec<Event>) {
        match content {
            Content::Text(text) => seen.push(Event::TextDelta(text)),
            Content::Refusal(text) => seen.push(Event::RefusalDelta(text)),
            Content::Thinking { text, seal } => {
                seen.push(Event::ThinkingDelta(text));
                seen.extend(seal.map(Event::SignatureDelta));
            }
            Content::RedactedThinking(seal) => seen.push(Event::RedactedThinking(seal)),
            Content::ToolUse(ToolUse { id, name, arguments, seal }) => {
                seen.push(Event::ToolStart { id, name, seal });
                seen.push(Event::ToolArguments(arguments));
            }
            Content::Image { .. }
            | Content::Document { .. }
            | Content::Audio { .. }
            | Content::ToolResult(_)
            | Content::Foreign { .. } => return,
        }
        self.has_content = true;
        seen.push(Event::PartEnd);
    }

    fn end(&mut self, mut response: Object<'_>, seen: &mut Vec<Event>) {
        if !self.has_content {
            for item in response.items("output") {
                let Ok(parts) = said(item) else { return seen.push(Event::Error(Outcome::BadBody)) };
                for part in parts {
                    self.tell(part.content, seen);
                }
            }
        }
        if let Some(usage) = response.take("usage") {
            seen.push(Event::Usage(Usage::parse(usage.as_str())));
        }
        seen.push(Event::Finish { reason: finish_of(&mut response), stop_sequence: None });
        seen.push(Event::End);
    }
}

fn part(mut part: Object<'_>, seen: &mut Vec<Event>) {
    match part.text("type").as_deref() {
        Some("output_text") => seen.push(Event::PartStart(PartKind::Text)),
        Some("refusal") => seen.push(Event::PartStart(PartKind::Refusal)),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(reader: &mut Reader, event: &str, index: usize, seen: &mut Vec<Event>) {
        let text = format!(
            r#"{{"type":"response.output_item.{event}","output_index":{index},"item":{{"type":"message","content":[]}}}}"#
        );
        reader.event(b"", text.as_bytes(), seen);
    }

    #[test]
    fn more_items_under_way_than_any_answer_has_are_a_fault() {
        let (mut reader, mut seen) = (Reader::default(), Vec::new());
        for index in 0..2 * ITEMS_MAX {
            item(&mut reader, "added", index, &mut seen);
            item(&mut reader, "done", index, &mut seen);
        }
        assert!(reader.items.is_empty(), "one after another is never too much");
        for index in 0..ITEMS_MAX {
            item(&mut reader, "added", index, &mut seen);
        }
        assert!(!seen.contains(&Event::Error(Outcome::BadBody)));
        assert_eq!(reader.items.len(), ITEMS_MAX);
        item(&mut reader, "added", ITEMS_MAX, &mut seen);
        assert_eq!(seen.last(), Some(&Event::Error(Outcome::BadBody)));
        assert_eq!(reader.items.len(), ITEMS_MAX);
    }
}
