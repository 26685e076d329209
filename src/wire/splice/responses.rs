//! Joins the events of OpenAI responses.
//!
//! The client has a response, a message and a part open. Of the second stream those three are
//! dropped where the client has them, and everything that names them is renamed: the response's id
//! and time of creation, the message's id, the indices of both. Events are numbered on from the
//! last one told. The events at the end repeat the text whole: it is set to what the client has
//! heard, which after a continuation is more than the second target said.
//!
//! The first thing that the second target opens must be a message with text, since nothing else
//! can go on in what is open. Where the client was told that the text has ended, the events that told
//! it are left out, and more text than that is another answer.

use super::{GIANT_MAX, Splice, logprobs};
use crate::wire::transcript::Closing;
use serde_json::Value;

/// The message of the second stream that takes the place of the open one.
#[derive(Debug)]
pub(super) struct Joined {
    id: Option<String>,
    /// Its place in the second stream's output.
    index: i64,
    /// The part that takes the place of the open one.
    part: Option<i64>,
}

impl Splice {
    /// Works one event over; tells whether it passes.
    pub(super) fn take_responses(&mut self, value: &mut Value) -> bool {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let passes = match kind.as_str() {
            "response.created" | "response.queued" | "response.in_progress" => self.needs_opening,
            "response.output_item.added" => self.open_item(value),
            "response.content_part.added" => self.open_part(value),
            "response.output_text.delta" => self.take_delta(value),
            "response.output_text.done" => self.close_text(value),
            "response.output_text.annotation.added" => self.annotate(value),
            "response.content_part.done" => self.close_part(value),
            "response.output_item.done" => self.close_item(value),
            // Keep-alives and rate limits are the second stream's own affair.
            _ if !kind.starts_with("response.") => false,
            _ => self.owes_nothing(),
        };
        if !passes || self.has_diverged {
            return false;
        }
        self.rename(value);
        true
    }

    fn owes_nothing(&mut self) -> bool {
        self.has_diverged |= !self.owed.is_empty();
        !self.has_diverged
    }

    fn open_item(&mut self, value: &Value) -> bool {
        if self.joined.is_some() {
            return self.owes_nothing();
        }
        let item = value.get("item");
        let is_message = item.and_then(|item| item.get("type")).and_then(Value::as_str) == Some("message");
        self.has_diverged |= !is_message;
        let id = item.and_then(|item| item.get("id")).and_then(Value::as_str).map(str::to_owned);
        self.joined = Some(Joined { id, index: number(value, "output_index"), part: None });
        self.place.item.is_none()
    }

    fn open_part(&mut self, value: &Value) -> bool {
        let joined = self.join(value);
        if joined.part.is_some() {
            return self.owes_nothing();
        }
        joined.part = Some(number(value, "content_index"));
        let is_text = value.pointer("/part/type").and_then(Value::as_str) == Some("output_text");
        self.has_diverged |= !is_text;
        self.place.block.is_none()
    }

    fn take_delta(&mut self, value: &mut Value) -> bool {
        if !self.enters_joined_part(value) {
            return self.owes_nothing();
        }
        let Some(text) = value.get("delta").and_then(Value::as_str).map(str::to_owned) else { return false };
        self.said += text.chars().count();
        let rest = self.unheard(&text);
        if rest.is_empty() {
            return false;
        }
        if let Some(tokens) = value.get_mut("logprobs") {
            logprobs::forget(tokens, text.len() - rest.len(), text.len());
        }
        self.whole.push_str(&rest);
        self.has_diverged |= self.whole.len() > GIANT_MAX || self.place.closing > Closing::Open;
        if let Some(slot) = value.get_mut("delta") {
            *slot = Value::String(rest);
        }
        true
    }

    fn close_text(&mut self, value: &mut Value) -> bool {
        let is_joined = self.owes_nothing() && self.enters_joined_part(value);
        if is_joined {
            set(value, "text", Value::String(self.whole.clone()));
        }
        !self.has_heard(is_joined, Closing::Text)
    }

    fn annotate(&mut self, value: &mut Value) -> bool {
        let is_joined = self.owes_nothing() && self.enters_joined_part(value);
        if is_joined && let Some(annotation) = value.get_mut("annotation") {
            self.shift_annotation(annotation);
        }
        // An end that was told named all that belongs to what it ended.
        !self.has_heard(is_joined, Closing::Part)
    }

    fn close_part(&mut self, value: &mut Value) -> bool {
        let is_joined = self.owes_nothing() && self.enters_joined_part(value);
        if is_joined && let Some(part) = value.get_mut("part") {
            self.make_part_whole(part);
        }
        !self.has_heard(is_joined, Closing::Part)
    }

    fn close_item(&mut self, value: &mut Value) -> bool {
        let mut is_joined = false;
        if self.owes_nothing()
            && let Some(item) = value.get_mut("item")
            && self.is_joined(item)
        {
            is_joined = true;
            self.make_whole(item);
        }
        !self.has_heard(is_joined, Closing::Message)
    }

    /// Tells whether an end need not be told; `is_joined` where it is one of the message that goes on.
    fn has_heard(&self, is_joined: bool, end: Closing) -> bool {
        is_joined && self.place.closing >= end
    }

    /// Returns the joined message, which where no event opened it is the one that is spoken of first.
    fn join(&mut self, value: &Value) -> &mut Joined {
        let id = || value.get("item_id").and_then(Value::as_str).map(str::to_owned);
        self.joined.get_or_insert_with(|| Joined {
            id: id(),
            index: number(value, "output_index"),
            part: None,
        })
    }

    /// Tells whether an event belongs to the part that is joined.
    fn enters_joined_part(&mut self, value: &Value) -> bool {
        let joined = self.join(value);
        let part = number(value, "content_index");
        let is_item = joined.index == number(value, "output_index");
        is_item && *joined.part.get_or_insert(part) == part
    }

    /// Tells whether an item is the joined message: by its id, or where it has none by its kind.
    fn is_joined(&self, item: &Value) -> bool {
        let Some(joined) = &self.joined else { return false };
        match (&joined.id, item.get("id").and_then(Value::as_str)) {
            (Some(own), Some(id)) => own == id,
            (None, _) | (_, None) => item.get("type").and_then(Value::as_str) == Some("message"),
        }
    }

    /// Gives the joined message its name and its whole text.
    fn make_whole(&self, item: &mut Value) {
        if let Some(id) = self.place.item.as_ref().and_then(|own| own.id.clone()) {
            set(item, "id", Value::String(id));
        }
        let parts = item.get_mut("content").and_then(Value::as_array_mut);
        let is_text = |part: &&mut Value| part.get("type").and_then(Value::as_str) == Some("output_text");
        if let Some(part) = parts.into_iter().flatten().find(is_text) {
            self.make_part_whole(part);
        }
    }

    fn make_part_whole(&self, part: &mut Value) {
        set(part, "text", Value::String(self.whole.clone()));
        let annotations = part.get_mut("annotations").and_then(Value::as_array_mut);
        annotations.into_iter().flatten().for_each(|annotation| self.shift_annotation(annotation));
    }

    /// A citation names letters of what the second target said; the client counts from what it heard.
    fn shift_annotation(&self, annotation: &mut Value) {
        let ahead = self.whole.chars().count().saturating_sub(self.said) as u64;
        for end in ["start_index", "end_index"] {
            if let Some(at) = annotation.get(end).and_then(Value::as_u64) {
                set(annotation, end, Value::from(at.saturating_add(ahead)));
            }
        }
    }

    /// Gives an event the names, indices and number by which the client knows things.
    fn rename(&mut self, value: &mut Value) {
        let Some(joined) = &self.joined else {
            self.rename_response(value);
            self.renumber(value);
            return;
        };
        let open = self.place.item.as_ref();
        let index = number(value, "output_index");
        if let (Some(open), true) = (open, value.get("output_index").is_some()) {
            let shift = i64::try_from(open.index).unwrap_or(0).saturating_sub(joined.index);
            set(value, "output_index", Value::from(index.saturating_add(shift)));
        }
        let is_of_joined = value.get("item_id").is_some() && index == joined.index;
        if is_of_joined && let Some(id) = open.and_then(|open| open.id.clone()) {
            set(value, "item_id", Value::String(id));
        }
        if is_of_joined
            && let (Some(block), Some(part)) = (self.place.block, joined.part)
            && value.get("content_index").is_some()
        {
            let shift = i64::try_from(block).unwrap_or(0).saturating_sub(part);
            let moved = number(value, "content_index").saturating_add(shift);
            set(value, "content_index", Value::from(moved));
        }
        self.rename_response(value);
        self.renumber(value);
    }

    fn rename_response(&self, value: &mut Value) {
        let Some(response) = value.get_mut("response") else { return };
        if let Some(id) = &self.place.id {
            set(response, "id", Value::String(id.clone()));
        }
        if let Some(created_at) = self.place.created_at {
            set(response, "created_at", Value::from(created_at));
        }
        let output = response.get_mut("output").and_then(Value::as_array_mut);
        if let Some(item) = output.into_iter().flatten().find(|item| self.is_joined(item)) {
            self.make_whole(item);
        }
    }

    fn renumber(&mut self, value: &mut Value) {
        let Some(next) = &mut self.place.next_number else { return };
        set(value, "sequence_number", Value::from(*next));
        *next = next.saturating_add(1);
    }
}

fn set(value: &mut Value, key: &str, new: Value) {
    if let Some(members) = value.as_object_mut() {
        members.insert(key.to_owned(), new);
    }
}

fn number(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::base::api::Dialect;
    use crate::wire::StreamReader;
    use crate::wire::splice::{Splice, Way};
    use crate::wire::transcript::Transcript;
    use bytes::Bytes;
    use serde_json::{Value, json};

    /// Numbers events on and frames them.
    fn stream(events: &[Value]) -> Bytes {
        let framed = events.iter().enumerate().map(|(number, event)| {
            let mut event = event.clone();
            event["sequence_number"] = number.into();
            format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
        });
        Bytes::from(framed.collect::<String>())
    }

    fn response(id: &str, created_at: u64, output: &Value) -> Value {
        json!({"id": id, "object": "response", "created_at": created_at, "output": output})
    }

    fn message(id: &str, text: &str) -> Value {
        json!({"id": id, "type": "message", "content": [{"type": "output_text", "text": text, "annotations": []}]})
    }

    fn opening(which: &str, created_at: u64) -> Vec<Value> {
        let (response_id, item_id) = (format!("resp_{which}"), format!("msg_{which}"));
        vec![
            json!({"type": "response.created", "response": response(&response_id, created_at, &json!([]))}),
            json!({"type": "response.in_progress", "response": response(&response_id, created_at, &json!([]))}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": item_id, "type": "message", "content": []}}),
            json!({"type": "response.content_part.added", "item_id": item_id, "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
        ]
    }

    fn deltas(which: &str, texts: &[&str]) -> Vec<Value> {
        let item_id = format!("msg_{which}");
        let delta = |text: &&str| json!({"type": "response.output_text.delta", "item_id": item_id, "output_index": 0, "content_index": 0, "delta": text});
        texts.iter().map(delta).collect()
    }

    fn closing(which: &str, text: &str) -> Vec<Value> {
        let item_id = format!("msg_{which}");
        vec![
            json!({"type": "response.output_text.done", "item_id": item_id, "output_index": 0, "content_index": 0, "text": text}),
            json!({"type": "response.content_part.done", "item_id": item_id, "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": text}}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": message(&item_id, text)}),
            json!({"type": "response.completed", "response": response(&format!("resp_{which}"), 99, &json!([message(&item_id, text)]))}),
        ]
    }

    fn told(texts: &[&str]) -> Transcript {
        let mut told = Transcript::new(Dialect::OpenAiResponses);
        told.keep(&stream(&[opening("one", 11), deltas("one", texts)].concat()));
        told
    }

    /// Returns what comes of the second stream, and whether it diverged.
    fn joined(told: &mut Transcript, way: Way, second: &[Value]) -> (Vec<Value>, bool) {
        let mut splice = Splice::new(told, way);
        let spliced = splice.push(&stream(second));
        let events = spliced.release.iter().map(|event| {
            let text = std::str::from_utf8(event).unwrap();
            let (name, data) = text.trim_end().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            data
        });
        (events.collect(), spliced.diverged)
    }

    #[test]
    fn a_restart_ends_under_the_names_and_numbers_of_the_first() {
        let second = [
            opening("two", 22),
            deltas("two", &["one tw", "o three", " four"]),
            closing("two", "one two three four"),
        ];
        let (events, diverged) = joined(&mut told(&["one", " two"]), Way::Verify, &second.concat());
        assert!(!diverged);
        let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let want = [
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ];
        assert_eq!(kinds, want, "one set of lifecycle events");
        assert_eq!((&events[0]["delta"], &events[1]["delta"]), (&json!(" three"), &json!(" four")));
        let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [6, 7, 8, 9, 10, 11]);
        let text = Value::from(events).to_string();
        assert!(!text.contains("_two") && text.contains("resp_one") && text.contains("msg_one"), "{text}");
        assert!(text.contains("\"created_at\":11"), "{text}");
    }

    #[test]
    fn a_continuation_ends_with_the_whole_text() {
        // The white space at the end was left out of what the target was given, and comes again.
        let second = [opening("two", 22), deltas("two", &[" three"]), closing("two", " three")];
        let (events, diverged) = joined(&mut told(&["one two "]), Way::Continue, &second.concat());
        assert!(!diverged);
        let whole = json!("one two three");
        assert_eq!(events[0]["delta"], "three");
        assert_eq!(events[1]["text"], whole);
        assert_eq!(events[2]["part"]["text"], whole);
        assert_eq!(events[3]["item"], message("msg_one", "one two three"));
        assert_eq!(events[4]["response"]["output"], json!([message("msg_one", "one two three")]));
        assert_eq!(events[4]["response"]["id"], "resp_one");
    }

    #[test]
    fn another_answer_and_anything_but_a_message_diverges_and_shows_nothing() {
        let open = || opening("two", 22);
        let item = |kind: &str| json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "x", "type": kind}});
        let part =
            json!({"type": "response.content_part.added", "item_id": "msg_two", "part": {"type": "refusal"}});
        for second in [
            [open(), deltas("two", &["one three"])].concat(),
            [open(), deltas("two", &["one"]), closing("two", "one")].concat(),
            [open()[..2].to_vec(), vec![item("reasoning")]].concat(),
            [open()[..2].to_vec(), vec![item("function_call")]].concat(),
            [open()[..3].to_vec(), vec![part]].concat(),
            vec![json!({"type": "response.incomplete", "response": response("resp_two", 22, &json!([]))})],
        ] {
            let (events, diverged) = joined(&mut told(&["one two"]), Way::Verify, &second);
            assert!(diverged, "{second:?}");
            assert!(events.is_empty(), "{events:?}");
        }
    }

    #[test]
    fn a_call_behind_the_text_keeps_its_own_name_and_citations_move_to_where_the_client_counts() {
        let call = json!({"type": "response.output_item.added", "output_index": 1, "item": {"id": "fc_1", "type": "function_call", "name": "f"}});
        let arguments = json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 1, "delta": "{}"});
        let note = json!({"type": "response.output_text.annotation.added", "item_id": "msg_two", "output_index": 0, "content_index": 0,
            "annotation": {"type": "url_citation", "start_index": 1, "end_index": 6}});
        let second = [opening("two", 22), deltas("two", &[" three"]), vec![note, call.clone(), arguments]];
        let (events, diverged) = joined(&mut told(&["ünö", " two"]), Way::Continue, &second.concat());
        assert!(!diverged);
        assert_eq!(
            events[1]["annotation"],
            json!({"type": "url_citation", "start_index": 8, "end_index": 13})
        );
        assert_eq!((&events[2]["item"], &events[2]["output_index"]), (&call["item"], &json!(1)));
        assert_eq!((&events[3]["item_id"], &events[3]["sequence_number"]), (&json!("fc_1"), &json!(9)));
    }

    #[test]
    fn an_end_too_long_to_be_kept_whole_is_put_together() {
        let mut second =
            [opening("two", 22), deltas("two", &["one two"]), closing("two", "one two")].concat();
        let tools = "t".repeat(200_000);
        second.last_mut().unwrap()["response"]["instructions"] = tools.into();
        let whole = stream(&second);
        for size in [1_000, 16_384, 1 << 20] {
            let mut told = told(&["one"]);
            let mut splice = Splice::new(&mut told, Way::Verify);
            let mut reader = StreamReader::new(Dialect::OpenAiResponses);
            let mut all = Vec::new();
            for chunk in whole.chunks(size) {
                for piece in reader.push(Bytes::copy_from_slice(chunk)).release {
                    all.extend(splice.push(&piece).release);
                }
            }
            let end = all.last().unwrap();
            assert!(end.len() > 200_000 && end.ends_with(b"\n\n"), "chunks of {size}: {}", end.len());
            let text = std::str::from_utf8(end).unwrap();
            assert!(text.contains("resp_one") && text.contains("msg_one"), "chunks of {size}");
            assert_eq!(all.len(), 5, "chunks of {size}");
        }
        let mut splice = Splice::new(&mut told(&["one"]), Way::Verify);
        let endless = Bytes::from(vec![b'x'; 1 << 20]);
        assert!((0..5).any(|_| splice.push(&endless).diverged), "there is a limit");
    }

    #[test]
    fn where_the_text_has_ended_for_the_client_only_what_it_lacks_is_told() {
        let ends = closing("one", "one two");
        for had in 1..ends.len() {
            for (way, says) in [(Way::Verify, "one two"), (Way::Continue, "")] {
                let first = [opening("one", 11), deltas("one", &["one two"]), ends[..had].to_vec()];
                let mut told = Transcript::new(Dialect::OpenAiResponses);
                told.keep(&stream(&first.concat()));
                assert_eq!(told.bar(), None);
                let second = [opening("two", 22), deltas("two", &[says]), closing("two", says)];
                let (events, diverged) = joined(&mut told, way, &second.concat());
                assert!(!diverged, "{way:?} after {had}");
                let kinds: Vec<_> = events.iter().map(|event| &event["type"]).collect();
                let want: Vec<_> = ends[had..].iter().map(|event| &event["type"]).collect();
                assert_eq!(kinds, want, "{way:?} after {had}");
                let end = events.last().unwrap();
                assert_eq!(end["response"]["output"], json!([message("msg_one", "one two")]));
                assert_eq!(end["sequence_number"], 8, "{way:?} after {had}");
            }
            // More than the text that was told whole.
            let mut told = Transcript::new(Dialect::OpenAiResponses);
            let first = [opening("one", 11), deltas("one", &["one two"]), ends[..had].to_vec()];
            told.keep(&stream(&first.concat()));
            let second = [opening("two", 22), deltas("two", &["one two three"])];
            assert_eq!(joined(&mut told, Way::Verify, &second.concat()), (vec![], true));
        }
    }

    #[test]
    fn tokens_that_the_client_has_are_not_listed_again() {
        let mut delta = deltas("two", &["one two"]).remove(0);
        delta["logprobs"] = json!([{"token": "one", "logprob": -1}, {"token": " two", "logprob": -2}]);
        let (events, _) =
            joined(&mut told(&["one"]), Way::Verify, &[opening("two", 22), vec![delta]].concat());
        assert_eq!(events[0]["logprobs"], json!([{"token": " two", "logprob": -2}]));
    }

    #[test]
    fn what_the_client_does_not_have_yet_is_not_dropped() {
        let whole = [opening("two", 22), deltas("two", &["one"]), closing("two", "one")].concat();
        for had in 0..4 {
            let mut told = Transcript::new(Dialect::OpenAiResponses);
            told.keep(&stream(&opening("one", 11)[..had]));
            let (events, diverged) = joined(&mut told, Way::Verify, &whole);
            assert!(!diverged);
            let from = if had == 1 { 2 } else { had };
            let kinds: Vec<_> = events.iter().map(|event| &event["type"]).collect();
            let want: Vec<_> = whole[from..].iter().map(|event| &event["type"]).collect();
            assert_eq!(kinds, want, "after {had} events");
        }
    }
}
