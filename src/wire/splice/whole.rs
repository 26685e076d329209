//! Tells a response's message whole.
//!
//! Three events end a message, and the last event of the response has it once more. Each repeats the
//! text: it is set to what the client has heard, which after a continuation is more than the second
//! target said. What the second stream does not tell of these ends (it has nothing to add, or calls a
//! function at once) is told in its place: an SDK gives its caller what stands in the last event, and
//! that was nothing.

use super::Splice;
use super::responses::{is_message, set};
use crate::wire::transcript::Closing;
use serde_json::{Value, json};

impl Splice {
    /// Gives the joined message its name and its whole text.
    pub(super) fn make_whole(&self, item: &mut Value) {
        if let Some(id) = self.place.item.as_ref().and_then(|own| own.id.clone()) {
            set(item, "id", Value::String(id));
        }
        let parts = item.get_mut("content").and_then(Value::as_array_mut);
        let is_text = |part: &&mut Value| part.get("type").and_then(Value::as_str) == Some("output_text");
        if let Some(part) = parts.into_iter().flatten().find(is_text) {
            self.make_part_whole(part);
        }
    }

    pub(super) fn make_part_whole(&self, part: &mut Value) {
        set(part, "text", Value::String(self.whole.clone()));
        let annotations = part.get_mut("annotations").and_then(Value::as_array_mut);
        annotations.into_iter().flatten().for_each(|annotation| self.shift_annotation(annotation));
    }

    /// A citation names letters of what the second target said; the client counts from what it heard.
    pub(super) fn shift_annotation(&self, annotation: &mut Value) {
        let ahead = self.whole.chars().count().saturating_sub(self.said) as u64;
        for end in ["start_index", "end_index"] {
            if let Some(at) = annotation.get(end).and_then(Value::as_u64) {
                set(annotation, end, Value::from(at.saturating_add(ahead)));
            }
        }
    }

    /// Ends the message that the client has open, as far as it was not told of its end.
    pub(super) fn end_message(&mut self, status: &str, ahead: &mut Vec<Value>) {
        let (Some(open), Some(item)) = (&self.place.item, self.told_message(status)) else { return };
        let had = std::mem::replace(&mut self.place.closing, Closing::Message);
        let index = open.index;
        let mut ends = Vec::new();
        if let Some(at) = self.told_part() {
            let mut text = json!({"type": "response.output_text.done", "output_index": index,
                "content_index": at, "text": self.whole, "logprobs": []});
            let mut part = json!({"type": "response.content_part.done", "output_index": index,
                "content_index": at, "part": self.text_part()});
            if let Some(id) = &open.id {
                set(&mut text, "item_id", Value::String(id.clone()));
                set(&mut part, "item_id", Value::String(id.clone()));
            }
            ends.extend([(Closing::Text, text), (Closing::Part, part)]);
        }
        let done = json!({"type": "response.output_item.done", "output_index": index, "item": item});
        ends.push((Closing::Message, done));
        for (_, mut event) in ends.into_iter().filter(|(end, _)| *end > had) {
            self.renumber(&mut event);
            ahead.push(event);
        }
    }

    /// Puts the message whole into the output of a response that has ended, and takes out what the
    /// client was not told.
    pub(super) fn fill_output(&self, response: &mut Value, status: &str) {
        if response.get("output").is_none_or(|output| !output.is_array()) {
            set(response, "output", json!([]));
        }
        let Some(output) = response.get_mut("output").and_then(Value::as_array_mut) else { return };
        let mut left_out = 0..self.items.left_out;
        output.retain(|item| {
            let is_reasoning = item.get("type").and_then(Value::as_str) == Some("reasoning");
            !is_reasoning || left_out.next().is_none()
        });
        let joined = self.items.joined().and_then(|joined| {
            let own = output.iter().position(|item| joined.is(item, None));
            own.or_else(|| output.iter().position(is_message))
        });
        if let Some(item) = joined.and_then(|at| output.get_mut(at)) {
            self.make_whole(item);
        } else if let Some(item) = self.told_message(status) {
            output.insert(0, item);
        }
    }

    /// Returns the message that the client has; nothing where it has none of the first stream's.
    fn told_message(&self, status: &str) -> Option<Value> {
        let own = self.place.item.as_ref()?;
        let parts: Vec<_> = self.told_part().map(|_| self.text_part()).into_iter().collect();
        let mut item = json!({"type": "message", "status": status, "role": "assistant", "content": parts});
        if let Some(id) = &own.id {
            set(&mut item, "id", Value::String(id.clone()));
        }
        Some(item)
    }

    /// Returns the place of the message's text in it, where that was opened.
    fn told_part(&self) -> Option<i64> {
        let own = self.place.block.and_then(|block| i64::try_from(block).ok());
        own.or_else(|| self.items.joined()?.part)
    }

    fn text_part(&self) -> Value {
        json!({"type": "output_text", "text": self.whole, "annotations": [], "logprobs": []})
    }
}
