//! Joins the events of Anthropic messages.
//!
//! Two tellings may cut one text into different blocks. So the text blocks of the second stream are not
//! the client's: what the client does not have of their text goes into the block that it has open, and
//! where none is open, into a new one. The end of a block passes where the client has one open and has
//! not heard of that end. Whatever else comes (a tool call, the end of the message) first ends what is
//! open, and gets the next index. A text block without a word is left out.
//!
//! What the second target thinks before it has gone on from the text is left out as well: a thought has
//! no place in the midst of a text, and what it came to the client reads.
//!
//! The input is counted in the opening, which the client has from the first target: where that of the
//! second is dropped, its counts go into the end, whose usage may have them (Anthropic docs, streaming,
//! read 2026-11: the counts in `message_delta` are cumulative).

use super::Splice;
use crate::wire::transcript::Place;
use serde_json::{Map, Value, json};

/// What a usage says of the input.
const INPUT_COUNTS: [&str; 3] = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];

/// The blocks as the client knows them.
#[derive(Debug)]
pub(super) struct Blocks {
    /// The text block that the client has open.
    open: Option<u64>,
    /// Whether nothing of the second stream's went into that one.
    is_untouched: bool,
    /// The index of the client's next block.
    next: u64,
    /// How many text blocks had ended for the client when the first stream broke.
    known_ends: u64,
    /// How many text blocks of the second stream have ended.
    ends: u64,
    second: Second,
    /// What the opening of the second stream counted of the input, where it was dropped.
    dropped_counts: Map<String, Value>,
}

/// The block that the second stream opened last.
#[derive(Debug)]
enum Second {
    Nothing,
    /// A thought that is left out.
    LeftOut,
    /// A text; the event that opened it, for when the client needs one.
    Text(Value),
    /// Anything else, with the index that the client knows it by.
    Other(u64),
}

impl Blocks {
    pub(super) fn new(place: &Place) -> Self {
        Blocks {
            open: place.block,
            is_untouched: true,
            next: place.next_block,
            known_ends: place.blocks_closed,
            ends: 0,
            second: Second::Nothing,
            dropped_counts: Map::new(),
        }
    }

    /// Tells whether the second stream has said nothing yet that goes on from what the client has.
    fn awaits_second(&self) -> bool {
        match self.second {
            Second::Nothing | Second::LeftOut => self.next > 0,
            Second::Text(_) | Second::Other(_) => false,
        }
    }
}

impl Splice {
    /// Works one event over; tells whether it passes. What must go before it is added to `ahead`.
    pub(super) fn take_messages(&mut self, value: &mut Value, ahead: &mut Vec<Value>) -> bool {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "message_start" => self.start_message(value),
            "ping" => false,
            "content_block_start" => self.start_block(value, ahead),
            "content_block_delta" => self.take_block_delta(value, ahead),
            "content_block_stop" => self.stop_block(value),
            "message_delta" | "message_stop" => {
                self.has_diverged |= !self.owed.is_empty();
                self.close_block(ahead);
                self.count_input(value);
                true
            }
            _ => {
                self.has_diverged |= !self.owed.is_empty();
                true
            }
        }
    }

    fn start_message(&mut self, value: &Value) -> bool {
        let passes = std::mem::take(&mut self.needs_opening);
        if !passes && let Some(usage) = value.pointer("/message/usage").and_then(Value::as_object) {
            let counts = INPUT_COUNTS.iter().filter_map(|name| usage.get_key_value(*name));
            let told = counts.filter(|(_, count)| count.is_number());
            self.blocks.dropped_counts = told.map(|(name, count)| (name.clone(), count.clone())).collect();
        }
        passes
    }

    /// Adds to a usage that counts the output alone what the dropped opening counted.
    fn count_input(&mut self, value: &mut Value) {
        let Some(usage) = value.get_mut("usage").and_then(Value::as_object_mut) else { return };
        for (name, count) in std::mem::take(&mut self.blocks.dropped_counts) {
            let slot = usage.entry(name).or_insert(Value::Null);
            if slot.is_null() {
                *slot = count;
            }
        }
    }

    fn start_block(&mut self, value: &mut Value, ahead: &mut Vec<Value>) -> bool {
        match value.pointer("/content_block/type").and_then(Value::as_str) {
            Some("text") => {}
            Some("thinking" | "redacted_thinking")
                if !self.owed.is_empty() || self.blocks.awaits_second() =>
            {
                self.blocks.second = Second::LeftOut;
                return false;
            }
            Some(_) | None => return self.start_other(value, ahead),
        }
        let mut first = String::new();
        if let Some(slot) = value.pointer_mut("/content_block/text") {
            slot.as_str().unwrap_or_default().clone_into(&mut first);
            *slot = Value::from("");
        }
        self.blocks.second = Second::Text(value.take());
        let has_none_yet = self.owed.is_empty() && self.blocks.next == 0;
        let rest = self.unheard(&first);
        if has_none_yet || !rest.is_empty() {
            let index = self.open_block(ahead);
            if !rest.is_empty() {
                let delta = json!({"type": "text_delta", "text": rest});
                ahead.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
        }
        false
    }

    fn start_other(&mut self, value: &mut Value, ahead: &mut Vec<Value>) -> bool {
        self.has_diverged |= !self.owed.is_empty();
        self.close_block(ahead);
        let index = self.blocks.next;
        self.blocks.next += 1;
        self.blocks.second = Second::Other(index);
        set_index(value, index);
        true
    }

    fn take_block_delta(&mut self, value: &mut Value, ahead: &mut Vec<Value>) -> bool {
        match self.blocks.second {
            Second::Other(index) => {
                set_index(value, index);
                return true;
            }
            Second::LeftOut => return false,
            Second::Nothing | Second::Text(_) => {}
        }
        let Some(text) = value.pointer("/delta/text").and_then(Value::as_str).map(str::to_owned) else {
            self.has_diverged |= !self.owed.is_empty();
            // What is said of a text whose block has ended finds no place.
            let Some(index) = self.blocks.open else { return false };
            set_index(value, index);
            return true;
        };
        let rest = self.unheard(&text);
        if rest.is_empty() {
            return false;
        }
        let index = self.open_block(ahead);
        set_index(value, index);
        if let Some(slot) = value.pointer_mut("/delta/text") {
            *slot = Value::String(rest);
        }
        true
    }

    fn stop_block(&mut self, value: &mut Value) -> bool {
        match self.blocks.second {
            Second::Other(index) => {
                set_index(value, index);
                return true;
            }
            Second::LeftOut => return false,
            Second::Nothing | Second::Text(_) => {}
        }
        let blocks = &mut self.blocks;
        let is_known = blocks.is_untouched && blocks.ends < blocks.known_ends;
        blocks.ends += 1;
        if is_known || !self.owed.is_empty() {
            return false;
        }
        let Some(index) = blocks.open.take() else { return false };
        set_index(value, index);
        true
    }

    /// Returns the text block that the client has open; where it has none, opens one.
    fn open_block(&mut self, ahead: &mut Vec<Value>) -> u64 {
        let blocks = &mut self.blocks;
        blocks.is_untouched = false;
        if let Some(index) = blocks.open {
            return index;
        }
        let index = blocks.next;
        (blocks.open, blocks.next) = (Some(index), index + 1);
        let mut start = match &mut blocks.second {
            Second::Text(start) if start.is_object() => start.take(),
            Second::Nothing | Second::LeftOut | Second::Text(_) | Second::Other(_) => {
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            }
        };
        set_index(&mut start, index);
        ahead.push(start);
        index
    }

    fn close_block(&mut self, ahead: &mut Vec<Value>) {
        if let Some(index) = self.blocks.open.take() {
            ahead.push(json!({"type": "content_block_stop", "index": index}));
        }
    }
}

fn set_index(value: &mut Value, index: u64) {
    if let Some(slot) = value.get_mut("index") {
        *slot = Value::from(index);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splice, Way};
    use crate::base::api::Dialect;
    use crate::wire::transcript::Transcript;
    use bytes::Bytes;
    use serde_json::{Value, json};

    const CALL: &str = "(f)";
    const THOUGHT: &str = "(hm)";

    /// An opened message with these blocks. The last one stays open unless the message `ends`.
    fn message(blocks: &[&str], ends: bool) -> Vec<Value> {
        let mut events = vec![json!({"type": "message_start", "message": {"id": "m"}})];
        for (index, text) in blocks.iter().enumerate() {
            let block = match *text {
                CALL => json!({"type": "tool_use", "name": "f"}),
                THOUGHT => json!({"type": "thinking", "thinking": ""}),
                _ => json!({"type": "text", "text": ""}),
            };
            events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
            // Two letters each.
            for piece in text.as_bytes().chunks(2).filter(|_| *text != CALL) {
                let piece = std::str::from_utf8(piece).unwrap();
                let delta = if *text == THOUGHT {
                    json!({"type": "thinking_delta", "thinking": piece})
                } else {
                    json!({"type": "text_delta", "text": piece})
                };
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            if ends || index + 1 < blocks.len() {
                events.push(json!({"type": "content_block_stop", "index": index}));
            }
        }
        if ends {
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}));
            events.push(json!({"type": "message_stop"}));
        }
        events
    }

    fn bytes(events: &[Value]) -> Bytes {
        let framed = events
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
        Bytes::from(framed.collect::<String>())
    }

    /// Complains of events that are no whole message, and returns its blocks.
    fn blocks(events: &[Value]) -> Vec<String> {
        let (mut found, mut open): (Vec<String>, Option<u64>) = (Vec::new(), None);
        for event in events {
            let index = event["index"].as_u64();
            match event["type"].as_str().unwrap() {
                "content_block_start" => {
                    assert_eq!((open, index), (None, Some(found.len() as u64)), "{events:?}");
                    open = index;
                    found.push(
                        if event["content_block"]["type"] == "tool_use" { CALL } else { "" }.to_owned(),
                    );
                }
                "content_block_delta" => {
                    assert_eq!(open, index, "{events:?}");
                    let delta = &event["delta"];
                    let piece = delta["text"].as_str().or(delta["thinking"].as_str()).unwrap();
                    found.last_mut().unwrap().push_str(piece);
                }
                "content_block_stop" => assert_eq!(open.take(), index, "{events:?}"),
                _ => assert_eq!(open, None, "{events:?}"),
            }
        }
        for (kind, at) in
            [("message_start", 0), ("message_delta", events.len() - 2), ("message_stop", events.len() - 1)]
        {
            let places: Vec<_> = (0..events.len()).filter(|at| events[*at]["type"] == kind).collect();
            assert_eq!(places, [at], "{kind}: {events:?}");
        }
        found
    }

    /// Returns the blocks that the client has in the end; nothing where the second diverged.
    fn joined(first: &[Value], way: Way, second: &[Value]) -> Option<Vec<String>> {
        let mut told = Transcript::new(Dialect::AnthropicMessages);
        told.keep(&bytes(first));
        assert_eq!(told.bar(), None);
        let spliced = Splice::new(&mut told, way).push(&bytes(second));
        let mut events = first.to_vec();
        for release in &spliced.release {
            let text = std::str::from_utf8(release).unwrap();
            let (name, data) = text.trim_end().split_once("\ndata: ").unwrap();
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
            events.push(event);
        }
        if spliced.diverged { None } else { Some(blocks(&events)) }
    }

    /// A message whose last block has ended, and that goes no further.
    fn closed(blocks: &[&str]) -> Vec<Value> {
        let mut events = message(blocks, true);
        events.truncate(events.len() - 2);
        events
    }

    #[test]
    fn the_client_has_one_whole_message_wherever_the_blocks_of_both_end() {
        use Way::{Continue, Verify};
        for (first, way, second, want) in [
            // All was told, and the block had ended.
            (closed(&["abcd"]), Verify, vec!["abcd"], Some(vec!["abcd"])),
            (closed(&["abcd"]), Continue, vec![], Some(vec!["abcd"])),
            (closed(&["abcd"]), Continue, vec![""], Some(vec!["abcd"])),
            (closed(&["abcd"]), Verify, vec!["abcd", CALL], Some(vec!["abcd", CALL])),
            (closed(&["abcd"]), Continue, vec![CALL], Some(vec!["abcd", CALL])),
            (closed(&["abcd"]), Verify, vec!["abcd", "efg"], Some(vec!["abcd", "efg"])),
            // The second cuts the text elsewhere.
            (closed(&["abcd"]), Verify, vec!["abcdefg"], Some(vec!["abcd", "efg"])),
            (closed(&["abcd"]), Verify, vec!["abc", "d"], Some(vec!["abcd"])),
            (closed(&["abcd"]), Verify, vec!["abc", "defg", "h"], Some(vec!["abcd", "efg", "h"])),
            (closed(&["abcd"]), Continue, vec!["ef"], Some(vec!["abcd", "ef"])),
            // In the midst of a second block.
            (message(&["abc", "d"], false), Verify, vec!["abc", "def"], Some(vec!["abc", "def"])),
            (message(&["abc", "d"], false), Verify, vec!["abcdef"], Some(vec!["abc", "def"])),
            (message(&["abc", "d"], false), Verify, vec!["abcd"], Some(vec!["abc", "d"])),
            (message(&["abc", ""], false), Verify, vec!["abc", "def"], Some(vec!["abc", "def"])),
            (message(&["abc", "d"], false), Continue, vec!["ef"], Some(vec!["abc", "def"])),
            // In the midst of the first.
            (message(&["abc"], false), Verify, vec!["abc", "def"], Some(vec!["abc", "def"])),
            (message(&["abc"], false), Verify, vec!["abcd", CALL], Some(vec!["abcd", CALL])),
            (message(&["abc"], false), Verify, vec!["a", "bcd"], Some(vec!["abcd"])),
            (message(&["abc"], false), Continue, vec![], Some(vec!["abc"])),
            (message(&[], false), Verify, vec!["abc"], Some(vec!["abc"])),
            // A call at once.
            (message(&["abc"], false), Continue, vec![CALL], Some(vec!["abc", CALL])),
            (message(&["abc"], false), Continue, vec!["", CALL], Some(vec!["abc", CALL])),
            (message(&["a", "bc"], false), Continue, vec![CALL, CALL], Some(vec!["a", "bc", CALL, CALL])),
            (message(&[""], false), Verify, vec![CALL], Some(vec!["", CALL])),
            // The second thinks first.
            (message(&["abc"], false), Continue, vec![THOUGHT, "de"], Some(vec!["abcde"])),
            (message(&["abc"], false), Continue, vec![THOUGHT, THOUGHT, CALL], Some(vec!["abc", CALL])),
            (message(&["abc"], false), Continue, vec![THOUGHT], Some(vec!["abc"])),
            (message(&["abc"], false), Verify, vec![THOUGHT, "abcd"], Some(vec!["abcd"])),
            (message(&["abc"], false), Verify, vec!["a", THOUGHT, "bcd"], Some(vec!["abcd"])),
            (closed(&["abc"]), Verify, vec![THOUGHT, "abc", "d"], Some(vec!["abc", "d"])),
            // What it thinks after that, and of what nobody has read yet, is its answer's.
            (
                message(&["abc"], false),
                Continue,
                vec!["de", THOUGHT, CALL],
                Some(vec!["abcde", THOUGHT, CALL]),
            ),
            (message(&[], false), Verify, vec![THOUGHT, "abc"], Some(vec![THOUGHT, "abc"])),
            // Another answer.
            (closed(&["abcd"]), Verify, vec!["abc"], None),
            (closed(&["abcd"]), Verify, vec!["abx"], None),
            (closed(&["abcd"]), Verify, vec!["ab", CALL], None),
            (message(&["abc"], false), Verify, vec![THOUGHT, "abx"], None),
            (message(&["abc"], false), Verify, vec![THOUGHT, CALL], None),
        ] {
            let got = joined(&first, way, &message(&second, true));
            let want: Option<Vec<String>> = want.map(|want| want.into_iter().map(str::to_owned).collect());
            assert_eq!(got, want, "{way:?} {first:?} and {second:?}");
        }
    }

    #[test]
    fn the_input_that_a_dropped_opening_counted_is_told_at_the_end() {
        let second = |start: &Value, end: &Value| {
            let mut events = message(&["abc"], true);
            events[0]["message"]["usage"] = start.clone();
            let at = events.len() - 2;
            events[at]["usage"] = end.clone();
            events
        };
        let start = json!({"input_tokens": 30, "cache_read_input_tokens": 7, "output_tokens": 1, "service_tier": "x"});
        for (first, start, end, want) in [
            (
                &message(&["a"], false)[..],
                start.clone(),
                json!({"output_tokens": 5}),
                json!({"output_tokens": 5, "input_tokens": 30, "cache_read_input_tokens": 7}),
            ),
            // The second says it itself.
            (
                &message(&["a"], false),
                start.clone(),
                json!({"output_tokens": 5, "input_tokens": 31, "cache_read_input_tokens": null}),
                json!({"output_tokens": 5, "input_tokens": 31, "cache_read_input_tokens": 7}),
            ),
            (&message(&["a"], false), Value::Null, json!({"output_tokens": 5}), json!({"output_tokens": 5})),
            (&message(&["a"], false), start.clone(), Value::Null, Value::Null),
            // The opening is told: as it came.
            (&[], start, json!({"output_tokens": 5}), json!({"output_tokens": 5})),
        ] {
            let mut told = Transcript::new(Dialect::AnthropicMessages);
            told.keep(&bytes(first));
            let spliced = Splice::new(&mut told, Way::Verify).push(&bytes(&second(&start, &end)));
            assert!(!spliced.diverged);
            let all: String =
                spliced.release.iter().map(|event| std::str::from_utf8(event).unwrap()).collect();
            let end = all.split("data: ").find(|data| data.contains("\"message_delta\"")).unwrap();
            let end: Value = serde_json::from_str(end.split('\n').next().unwrap()).unwrap();
            assert_eq!(end["usage"], want);
        }
    }

    #[test]
    fn a_text_that_stands_in_the_opening_of_its_block_is_told_once() {
        let start = |text: &str| json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": text}});
        let mut second = message(&["cd"], true);
        second[1] = start("ab");
        let first = closed(&["a"]);
        assert_eq!(joined(&first, Way::Verify, &second), Some(vec!["a".to_owned(), "bcd".to_owned()]));
    }
}
