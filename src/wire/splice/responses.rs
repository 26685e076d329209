//! Joins the events of OpenAI responses.
//!
//! The client has a response, a message and a part open. Of the second stream those three are
//! dropped where the client has them, and everything that names them is renamed: the response's id
//! and time of creation, the message's id, the indices of both. Events are numbered on from the
//! last one told. How the text is told whole at the end is the affair of [`whole`](super::whole).
//!
//! Where the first thing that the second target opens is no message (it calls a function at once), the
//! client's message is ended before it. Reasoning that comes before either is left out: it has no place
//! in the midst of a text, and what it came to the client reads. Where the client was told that the text
//! has ended, the events that told it are left out, and more text than that is another answer.

use super::{GIANT_MAX, Splice, logprobs};
use crate::wire::transcript::Closing;
use serde_json::Value;

/// How the second stream goes on from the message that the client has.
#[derive(Debug, Default)]
pub(super) struct Items {
    goes_on: GoesOn,
    /// How many items of reasoning were left out.
    pub(super) left_out: usize,
    /// Items with a lower index are those.
    from: i64,
}

#[derive(Debug, Default)]
enum GoesOn {
    /// It has said nothing yet.
    #[default]
    NotYet,
    /// In a message of its own, which is joined.
    Inside(Joined),
    /// With another item, which has this place in its output.
    Behind(i64),
}

/// The message of the second stream that takes the place of the open one.
#[derive(Debug)]
pub(super) struct Joined {
    id: Option<String>,
    /// Its place in the second stream's output.
    index: i64,
    /// The part that takes the place of the open one.
    pub(super) part: Option<i64>,
}

impl Joined {
    /// Tells whether an item is this one: by its place, where that is known, or its id. Copilot gives one
    /// item another id in each event.
    pub(super) fn is(&self, item: &Value, index: Option<i64>) -> bool {
        let is_same = match (&self.id, item.get("id").and_then(Value::as_str)) {
            (Some(own), Some(id)) => own == id,
            (None, _) | (_, None) => index.is_none(),
        };
        (is_same || index == Some(self.index)) && is_message(item)
    }
}

impl Items {
    pub(super) fn joined(&self) -> Option<&Joined> {
        match &self.goes_on {
            GoesOn::Inside(joined) => Some(joined),
            GoesOn::NotYet | GoesOn::Behind(_) => None,
        }
    }

    /// Goes on with the item at this index. Some servers give all items one.
    fn begin(&mut self, goes_on: GoesOn, index: i64) {
        self.goes_on = goes_on;
        self.from = self.from.min(index);
    }

    fn leaves_out(&self, event: &Value) -> bool {
        event.get("output_index").and_then(Value::as_i64).is_some_and(|index| index < self.from)
    }
}

impl Splice {
    /// Works one event over; tells whether it passes. What must go before it is added to `ahead`.
    pub(super) fn take_responses(&mut self, value: &mut Value, ahead: &mut Vec<Value>) -> bool {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if self.items.leaves_out(value) && kind != "response.output_item.added" {
            return false;
        }
        let passes = match kind.as_str() {
            "response.created" | "response.queued" | "response.in_progress" => self.needs_opening,
            "response.output_item.added" => self.open_item(value, ahead),
            "response.content_part.added" => self.open_part(value),
            "response.output_text.delta" => self.take_delta(value),
            "response.output_text.done" => self.close_text(value),
            "response.output_text.annotation.added" => self.annotate(value),
            "response.content_part.done" => self.close_part(value),
            "response.output_item.done" => self.close_item(value),
            "response.completed" | "response.done" => self.end_response(value, "completed", ahead),
            "response.incomplete" => self.end_response(value, "incomplete", ahead),
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

    fn open_item(&mut self, value: &Value, ahead: &mut Vec<Value>) -> bool {
        if !matches!(self.items.goes_on, GoesOn::NotYet) {
            return self.owes_nothing();
        }
        let index = number(value, "output_index");
        let item = value.get("item");
        let word = |key| item.and_then(|item| item.get(key)).and_then(Value::as_str);
        match word("type") {
            Some("message") => {
                let id = word("id").map(str::to_owned);
                self.items.begin(GoesOn::Inside(Joined { id, index, part: None }), index);
                self.place.item.is_none()
            }
            Some("reasoning") if self.place.item.is_some() => {
                self.items.left_out += 1;
                self.items.from = self.items.from.max(index.saturating_add(1));
                false
            }
            Some(_) | None => {
                if self.owes_nothing() {
                    self.end_message("completed", ahead);
                    self.items.begin(GoesOn::Behind(index), index);
                }
                !self.has_diverged
            }
        }
    }

    fn open_part(&mut self, value: &Value) -> bool {
        let Some(joined) = self.join(value).filter(|joined| joined.part.is_none()) else {
            return self.owes_nothing();
        };
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
        self.ends(is_joined, Closing::Text)
    }

    fn annotate(&mut self, value: &mut Value) -> bool {
        let is_joined = self.owes_nothing() && self.enters_joined_part(value);
        if is_joined && let Some(annotation) = value.get_mut("annotation") {
            self.shift_annotation(annotation);
        }
        // An end that was told named all that belongs to what it ended.
        !(is_joined && self.place.closing >= Closing::Part)
    }

    fn close_part(&mut self, value: &mut Value) -> bool {
        let is_joined = self.owes_nothing() && self.enters_joined_part(value);
        if is_joined && let Some(part) = value.get_mut("part") {
            self.make_part_whole(part);
        }
        self.ends(is_joined, Closing::Part)
    }

    fn close_item(&mut self, value: &mut Value) -> bool {
        let index = value.get("output_index").and_then(Value::as_i64);
        let mut is_joined = false;
        if self.owes_nothing()
            && let Some(item) = value.get_mut("item")
            && self.items.joined().is_some_and(|joined| joined.is(item, index))
        {
            is_joined = true;
            self.make_whole(item);
        }
        self.ends(is_joined, Closing::Message)
    }

    fn end_response(&mut self, value: &mut Value, status: &str, ahead: &mut Vec<Value>) -> bool {
        if !self.owes_nothing() {
            return false;
        }
        self.end_message(status, ahead);
        if let Some(response) = value.get_mut("response") {
            self.fill_output(response, status);
        }
        true
    }

    /// Tells whether an end is to be told; `is_joined` where it is one of the message that goes on.
    fn ends(&mut self, is_joined: bool, end: Closing) -> bool {
        if !is_joined {
            return true;
        }
        let is_news = self.place.closing < end;
        self.place.closing = self.place.closing.max(end);
        is_news
    }

    /// Returns the joined message, which where no event opened an item is the one that is spoken of
    /// first; nothing where another item was opened.
    fn join(&mut self, value: &Value) -> Option<&mut Joined> {
        if matches!(self.items.goes_on, GoesOn::NotYet) {
            let id = value.get("item_id").and_then(Value::as_str).map(str::to_owned);
            let index = number(value, "output_index");
            self.items.goes_on = GoesOn::Inside(Joined { id, index, part: None });
        }
        match &mut self.items.goes_on {
            GoesOn::Inside(joined) => Some(joined),
            GoesOn::NotYet | GoesOn::Behind(_) => None,
        }
    }

    /// Tells whether an event belongs to the part that is joined.
    fn enters_joined_part(&mut self, value: &Value) -> bool {
        let Some(joined) = self.join(value) else { return false };
        let part = number(value, "content_index");
        let is_item = joined.index == number(value, "output_index");
        is_item && *joined.part.get_or_insert(part) == part
    }

    /// Gives an event the names, indices and number by which the client knows things.
    fn rename(&mut self, value: &mut Value) {
        let index = number(value, "output_index");
        self.rename_joined(value, index);
        if let (Some(shift), true) = (self.shift(), value.get("output_index").is_some()) {
            set(value, "output_index", Value::from(index.saturating_add(shift)));
        }
        if let Some(response) = value.get_mut("response") {
            self.rename_response(response);
        }
        self.renumber(value);
    }

    /// Returns by how much the places in the second stream's output differ from the client's.
    fn shift(&self) -> Option<i64> {
        let open = i64::try_from(self.place.item.as_ref()?.index).unwrap_or(0);
        match &self.items.goes_on {
            GoesOn::NotYet => None,
            GoesOn::Inside(joined) => Some(open.saturating_sub(joined.index)),
            GoesOn::Behind(index) => Some(open.saturating_add(1).saturating_sub(*index)),
        }
    }

    fn rename_joined(&self, value: &mut Value, index: i64) {
        let Some(joined) = self.items.joined().filter(|joined| joined.index == index) else { return };
        if value.get("item_id").is_none() {
            return;
        }
        if let Some(id) = self.place.item.as_ref().and_then(|open| open.id.clone()) {
            set(value, "item_id", Value::String(id));
        }
        if let (Some(block), Some(part)) = (self.place.block, joined.part)
            && value.get("content_index").is_some()
        {
            let shift = i64::try_from(block).unwrap_or(0).saturating_sub(part);
            let moved = number(value, "content_index").saturating_add(shift);
            set(value, "content_index", Value::from(moved));
        }
    }

    fn rename_response(&self, response: &mut Value) {
        if let Some(id) = &self.place.id {
            set(response, "id", Value::String(id.clone()));
        }
        if let Some(created_at) = self.place.created_at {
            set(response, "created_at", Value::from(created_at));
        }
    }

    pub(super) fn renumber(&mut self, value: &mut Value) {
        let Some(next) = &mut self.place.next_number else { return };
        set(value, "sequence_number", Value::from(*next));
        *next = next.saturating_add(1);
    }
}

pub(super) fn set(value: &mut Value, key: &str, new: Value) {
    if let Some(members) = value.as_object_mut() {
        members.insert(key.to_owned(), new);
    }
}

pub(super) fn is_message(item: &Value) -> bool {
    item.get("type").and_then(Value::as_str) == Some("message")
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
            [open()[..2].to_vec(), vec![item("reasoning"), item("function_call")]].concat(),
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

    /// Moves events to this place in the output.
    fn placed(mut events: Vec<Value>, index: u64) -> Vec<Value> {
        for event in events.iter_mut().filter(|event| event.get("output_index").is_some()) {
            event["output_index"] = index.into();
        }
        events
    }

    fn call(id: &str) -> Vec<Value> {
        let item = json!({"id": id, "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        vec![
            json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
            json!({"type": "response.function_call_arguments.delta", "item_id": id, "output_index": 0, "delta": "{}"}),
            json!({"type": "response.function_call_arguments.done", "item_id": id, "output_index": 0, "arguments": "{}"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        ]
    }

    fn thought() -> Vec<Value> {
        let item = json!({"id": "rs", "type": "reasoning", "summary": []});
        let of_item = |kind: &str, key: &str, value: Value| json!({"type": format!("response.{kind}"), "item_id": "rs", "output_index": 0, "content_index": 0, key: value});
        vec![
            json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
            of_item("reasoning_summary_text.delta", "delta", "hm".into()),
            of_item("content_part.added", "part", json!({"type": "reasoning_text", "text": ""})),
            of_item("reasoning_text.delta", "delta", "hm".into()),
            of_item("reasoning_text.done", "text", "hm".into()),
            of_item("content_part.done", "part", json!({"type": "reasoning_text", "text": "hm"})),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        ]
    }

    /// The end of the second's response, with these items in its output.
    fn end(items: &[&Value]) -> Vec<Value> {
        vec![json!({"type": "response.completed", "response": response("resp_two", 99, &json!(items))})]
    }

    fn kinds(events: &[Value]) -> Vec<&str> {
        events.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }

    /// What was told until `had` events of the end of the text, and what is left to tell of it.
    fn told_until(had: usize) -> (Transcript, Vec<Value>) {
        let ends = closing("one", "one two");
        let mut told = Transcript::new(Dialect::OpenAiResponses);
        told.keep(&stream(&[opening("one", 11), deltas("one", &["one two"]), ends[..had].to_vec()].concat()));
        assert_eq!(told.bar(), None);
        (told, ends[had..3].to_vec())
    }

    /// Complains where the events are not numbered on or do not tell the whole text, and returns the
    /// output of the last one.
    fn output_of(events: &[Value], first_number: u64) -> Vec<Value> {
        for (number, event) in (first_number..).zip(events) {
            assert_eq!(event["sequence_number"], number, "{event}");
            for (pointer, id) in
                [("/text", "/item_id"), ("/part/text", "/item_id"), ("/item/content/0/text", "/item/id")]
            {
                if let Some(text) = event.pointer(pointer) {
                    assert_eq!(
                        (text, event.pointer(id)),
                        (&json!("one two"), Some(&json!("msg_one"))),
                        "{event}"
                    );
                    assert_eq!(event["output_index"], 0, "{event}");
                }
            }
        }
        let output = &events.last().unwrap()["response"]["output"];
        assert_eq!(output[0]["id"], "msg_one");
        assert_eq!(output[0]["content"][0]["text"], "one two");
        output.as_array().unwrap().clone()
    }

    #[test]
    fn a_call_at_once_comes_behind_the_end_of_the_message() {
        let own = call("fc_1");
        let item = own[3]["item"].clone();
        let reasoning = thought()[0]["item"].clone();
        for had in 0..=3 {
            let plain = [opening("two", 22)[..2].to_vec(), own.clone(), end(&[&item])].concat();
            let thoughtful = [
                opening("two", 22)[..2].to_vec(),
                thought(),
                placed(own.clone(), 1),
                end(&[&reasoning, &item]),
            ];
            for second in [plain, thoughtful.concat()] {
                let (mut told, left) = told_until(had);
                let (events, diverged) = joined(&mut told, Way::Continue, &second);
                assert!(!diverged);
                let want = [left, own.clone(), end(&[])].concat();
                assert_eq!(kinds(&events), kinds(&want), "after {had}");
                let output = output_of(&events, 5 + had as u64);
                assert_eq!(output[1..], *std::slice::from_ref(&item));
                let calls = &events[3 - had..7 - had];
                assert!(calls.iter().all(|event| event["output_index"] == 1), "{calls:?}");
                assert!(calls[1..3].iter().all(|event| event["item_id"] == "fc_1"), "{calls:?}");
            }
        }
    }

    #[test]
    fn a_target_with_nothing_to_add_leaves_no_end_untold() {
        let mut without_output = end(&[]);
        without_output[0]["response"].as_object_mut().unwrap().remove("output");
        for had in 0..=3 {
            for last in [end(&[]), without_output.clone(), end(&[&thought()[0]["item"]])] {
                let before = if last[0]["response"]["output"][0].is_object() { thought() } else { vec![] };
                let second = [opening("two", 22)[..2].to_vec(), before, last].concat();
                let (mut told, left) = told_until(had);
                let (events, diverged) = joined(&mut told, Way::Continue, &second);
                assert!(!diverged);
                assert_eq!(kinds(&events), kinds(&[left, end(&[])].concat()), "after {had}");
                let output = output_of(&events, 5 + had as u64);
                assert_eq!((output.len(), &output[0]["status"]), (1, &json!("completed")));
            }
        }
        let mut cut = end(&[]);
        cut[0]["type"] = "response.incomplete".into();
        let (events, _) = joined(&mut told_until(0).0, Way::Continue, &cut);
        assert_eq!(events[2]["item"]["status"], "incomplete");
        // A message of which nothing was told but that it is there.
        let mut told = Transcript::new(Dialect::OpenAiResponses);
        told.keep(&stream(&opening("one", 11)[..3]));
        let second = [opening("two", 22)[..2].to_vec(), call("fc_1"), end(&[])].concat();
        let (events, diverged) = joined(&mut told, Way::Verify, &second);
        assert!(!diverged);
        assert_eq!(events[0]["item"]["content"], json!([]));
        assert_eq!(
            kinds(&events),
            kinds(&[closing("one", "")[2..3].to_vec(), call("fc_1"), end(&[])].concat())
        );
    }

    #[test]
    fn what_the_second_reasons_before_its_message_is_left_out() {
        let reasoning = thought()[0]["item"].clone();
        for (way, says) in [(Way::Verify, "one two"), (Way::Continue, " two")] {
            let mut message_events =
                [opening("two", 22)[2..].to_vec(), deltas("two", &[says]), closing("two", says)].concat();
            message_events.pop();
            // Some servers give all items one place.
            for place in [1, 0] {
                let second = [
                    opening("two", 22)[..2].to_vec(),
                    thought(),
                    placed(message_events.clone(), place),
                    end(&[&reasoning, &message("msg_two", says)]),
                ];
                let (events, diverged) = joined(&mut told(&["one"]), way, &second.concat());
                assert!(!diverged, "{way:?}");
                assert_eq!(kinds(&events)[0], "response.output_text.delta");
                assert_eq!(events[0]["delta"], " two");
                assert_eq!(output_of(&events, 5).len(), 1);
                assert!(!Value::from(events).to_string().contains("hm"), "{way:?}");
            }
        }
    }

    #[test]
    fn a_message_that_goes_by_several_ids_is_told_once() {
        let mut second = [opening("two", 22), deltas("two", &[" two"]), closing("two", " two")].concat();
        second[7]["item"]["id"] = "another".into();
        second[8]["response"]["output"][0]["id"] = "a third".into();
        let (events, _) = joined(&mut told(&["one"]), Way::Continue, &second);
        assert_eq!(events.len(), 5);
        assert_eq!(output_of(&events, 5).len(), 1);
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
