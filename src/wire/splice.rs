//! Joins the stream of another target to what the client was told already.
//!
//! The client must see one answer: one id, one role, one finish, one terminator, and no word twice.
//! So the opening events of the second stream are dropped, ids and block indices are those of the
//! first, and its text is treated in one of two ways:
//!
//! * [`Way::Continue`]: the target was given the text so far and goes on from it; its first bytes
//!   are joined. Where trailing white space was left out of what it was given (Anthropic refuses it)
//!   and it begins with that same white space, the client has it already.
//! * [`Way::Verify`]: the target was asked afresh; output equal to the text told is swallowed, and
//!   from there on it is passed. At the first difference the splice has [`Spliced::diverged`] and
//!   nothing more comes of it: never shown twice, never a guess.
//!
//! Speed does not matter here (a stream broke); events are read whole.

use super::sse::{self, Block, Splitter};
use super::transcript::Transcript;
use crate::base::api::Dialect;
use bytes::Bytes;
use serde_json::Value;
use smallvec::SmallVec;

/// How a second stream is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It goes on where the first broke off.
    Continue,
    /// It begins anew and is held against what was told.
    Verify,
}

/// What came of some bytes of the second stream.
#[derive(Debug, Default)]
pub struct Spliced {
    /// Events for the client.
    pub release: SmallVec<[Bytes; 4]>,
    /// The second stream says something else than the first did.
    pub diverged: bool,
}

/// One joining.
#[derive(Debug)]
pub struct Splice {
    dialect: Dialect,
    id: Option<String>,
    /// Text that the client has and the second stream must say first.
    owed: String,
    /// White space that the client has and the second stream may say first.
    seam: String,
    /// Anthropic: what is added to the second stream's block indices.
    shift: Option<i64>,
    block: u64,
    has_diverged: bool,
}

impl Splice {
    /// Prepares the joining to what was told.
    #[must_use]
    pub fn new(told: &mut Transcript, way: Way) -> Self {
        let text = told.text().to_owned();
        let (owed, seam) = match way {
            Way::Verify => (text, String::new()),
            Way::Continue => {
                let kept = text.trim_end().len();
                (String::new(), text.get(kept..).unwrap_or_default().to_owned())
            }
        };
        Splice {
            dialect: told.dialect(),
            id: told.id().map(str::to_owned),
            owed,
            seam,
            shift: None,
            block: told.block(),
            has_diverged: false,
        }
    }

    /// Takes whole events of the second stream.
    pub fn push(&mut self, events: &Bytes) -> Spliced {
        let mut spliced = Spliced::default();
        let mut splitter = Splitter::default();
        while let Some(block) = splitter.next(events) {
            let event = match block {
                Block::Here(range) => events.slice(range),
                Block::Joined { bytes, .. } | Block::Long { bytes, .. } => bytes,
            };
            self.take(&event, &mut spliced);
        }
        let rest = splitter.take_rest();
        if !rest.is_empty() {
            self.take(&rest, &mut spliced);
        }
        spliced.diverged = self.has_diverged;
        spliced
    }

    /// Tells whether everything the client has was said again.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.owed.is_empty() && !self.has_diverged
    }

    fn take(&mut self, event: &Bytes, spliced: &mut Spliced) {
        if self.has_diverged {
            return;
        }
        let Some(data) = sse::fields(event).data else {
            // Comments and bare `event:` lines of the second stream are its own affair.
            return;
        };
        if data.trim_ascii() == b"[DONE]" {
            self.pass_or_diverge(event.clone(), spliced);
            return;
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(&data) else { return };
        let name = String::from_utf8_lossy(sse::fields(event).name).into_owned();
        let passes = match self.dialect {
            Dialect::AnthropicMessages => self.take_messages(&mut value),
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiResponses
            | Dialect::OpenAiEmbeddings
            | Dialect::GeminiGenerate
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => self.take_chat(&mut value),
        };
        if passes && !self.has_diverged {
            let named = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
            spliced.release.push(Bytes::from(format!("{named}data: {value}\n\n")));
        }
    }

    fn pass_or_diverge(&mut self, event: Bytes, spliced: &mut Spliced) {
        if self.owed.is_empty() {
            spliced.release.push(event);
        } else {
            self.has_diverged = true;
        }
    }

    /// Returns what of a piece of text the client does not have yet.
    fn unheard(&mut self, text: &str) -> String {
        if !self.seam.is_empty() && !text.is_empty() {
            let seam = std::mem::take(&mut self.seam);
            return match (text.strip_prefix(seam.as_str()), seam.strip_prefix(text)) {
                (Some(rest), _) => rest.to_owned(),
                (None, Some(still)) => {
                    still.clone_into(&mut self.seam);
                    String::new()
                }
                (None, None) => text.to_owned(),
            };
        }
        if self.owed.is_empty() {
            return text.to_owned();
        }
        if let Some(rest) = text.strip_prefix(self.owed.as_str()) {
            self.owed.clear();
            return rest.to_owned();
        }
        match self.owed.strip_prefix(text) {
            Some(still) => self.owed = still.to_owned(),
            None => self.has_diverged = true,
        }
        String::new()
    }

    /// Works one chunk over; tells whether it passes.
    fn take_chat(&mut self, value: &mut Value) -> bool {
        if let (Some(id), Some(own)) = (&self.id, value.get_mut("id")) {
            *own = Value::String(id.clone());
        }
        let Some(choices) = value.get_mut("choices").and_then(Value::as_array_mut) else {
            return self.owed.is_empty();
        };
        if choices.is_empty() {
            // Usage counts at the end, or a provider's opening remark.
            return self.owed.is_empty();
        }
        let mut says_something = false;
        for choice in choices {
            says_something |= self.take_choice(choice);
        }
        says_something
    }

    fn take_choice(&mut self, choice: &mut Value) -> bool {
        let is_finish = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        let slot = if choice.get("text").is_some() {
            choice.get_mut("text")
        } else {
            if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
                delta.remove("role");
            }
            choice.get_mut("delta").and_then(|delta| delta.get_mut("content"))
        };
        let mut has_text = false;
        if let Some(slot) = slot
            && let Some(text) = slot.as_str()
        {
            let rest = self.unheard(text);
            has_text = !rest.is_empty();
            *slot = Value::String(rest);
        }
        let other = choice
            .get("delta")
            .and_then(Value::as_object)
            .is_some_and(|delta| delta.iter().any(|(key, value)| key != "content" && says_something(value)));
        if (is_finish || other) && !self.owed.is_empty() {
            self.has_diverged = true;
        }
        has_text || is_finish || other
    }

    fn take_messages(&mut self, value: &mut Value) -> bool {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "message_start" | "ping" => return false,
            "content_block_start" => {
                let is_first = self.shift.is_none();
                let is_text = value.pointer("/content_block/type").and_then(Value::as_str) == Some("text");
                self.shift_index(value);
                if is_first {
                    // The client has this block open; only text can go on in it.
                    self.has_diverged |= !is_text;
                    return false;
                }
                self.has_diverged |= !self.owed.is_empty();
            }
            "content_block_delta" => {
                self.shift_index(value);
                let Some(text) = value.pointer("/delta/text").and_then(Value::as_str).map(str::to_owned)
                else {
                    self.has_diverged |= !self.owed.is_empty();
                    return true;
                };
                let rest = self.unheard(&text);
                if rest.is_empty() {
                    return false;
                }
                if let Some(slot) = value.pointer_mut("/delta/text") {
                    *slot = Value::String(rest);
                }
            }
            _ => {
                self.shift_index(value);
                self.has_diverged |= !self.owed.is_empty();
            }
        }
        true
    }

    fn shift_index(&mut self, value: &mut Value) {
        let Some(index) = value.get("index").and_then(Value::as_i64) else { return };
        let block = i64::try_from(self.block).unwrap_or(0);
        let shift = *self.shift.get_or_insert(block - index);
        if let Some(slot) = value.get_mut("index") {
            *slot = Value::from(index + shift);
        }
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(text: &str) -> String {
        let text = Value::String(text.to_owned());
        format!(
            "data: {{\"id\":\"second\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"
        )
    }

    const OPENING: &str = "data: {\"id\":\"second\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    const FINISH: &str =
        "data: {\"id\":\"second\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn told(text: &str) -> Transcript {
        let mut told = Transcript::new(Dialect::OpenAiChat);
        let text = Value::String(text.to_owned());
        told.keep(&Bytes::from(format!(
            "data: {{\"id\":\"first\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"
        )));
        told
    }

    /// Returns the text that the client hears in the end, and whether the splice diverged.
    fn heard(before: &str, way: Way, second: &[String]) -> (String, bool, String) {
        let mut told = told(before);
        let mut splice = Splice::new(&mut told, way);
        let mut all = String::new();
        let mut diverged = false;
        for event in second {
            let spliced = splice.push(&Bytes::from(event.clone()));
            diverged |= spliced.diverged;
            for release in spliced.release {
                all.push_str(std::str::from_utf8(&release).unwrap());
                told.keep(&release);
            }
        }
        (told.text().to_owned(), diverged, all)
    }

    #[test]
    fn a_restart_is_swallowed_up_to_the_seam_wherever_its_chunks_break() {
        let answer = "the quick brown fox jumps";
        for size in 1..answer.len() {
            let mut second = vec![OPENING.to_owned()];
            second.extend(answer.as_bytes().chunks(size).map(|c| chat(std::str::from_utf8(c).unwrap())));
            second.extend([FINISH.to_owned(), DONE.to_owned()]);
            let (text, diverged, all) = heard("the quick br", Way::Verify, &second);
            assert_eq!((text.as_str(), diverged), (answer, false), "chunks of {size}");
            assert!(!all.contains("second") && !all.contains("role"), "one id and one role: {all}");
            assert!(all.ends_with(DONE));
        }
    }

    #[test]
    fn another_answer_diverges_and_shows_nothing() {
        for second in [
            vec![OPENING.to_owned(), chat("the slow"), FINISH.to_owned()],
            vec![OPENING.to_owned(), chat("the"), FINISH.to_owned(), DONE.to_owned()],
            vec![DONE.to_owned()],
        ] {
            let (_, diverged, all) = heard("the quick", Way::Verify, &second);
            assert!(diverged, "{second:?}");
            assert_eq!(all, "", "{second:?}");
        }
    }

    #[test]
    fn a_continuation_is_joined_and_white_space_at_the_seam_is_not_doubled() {
        for (before, pieces, want) in [
            ("one", vec![" two", " three"], "one two three"),
            ("one ", vec![" two"], "one two"),
            ("one ", vec!["two"], "one two"),
            ("one\n\n", vec!["\n", "\ntwo"], "one\n\ntwo"),
        ] {
            let mut second = vec![OPENING.to_owned()];
            second.extend(pieces.iter().map(|p| chat(p)));
            second.push(DONE.to_owned());
            let (text, diverged, _) = heard(before, Way::Continue, &second);
            assert_eq!((text.as_str(), diverged), (want, false), "{before:?} + {pieces:?}");
        }
    }

    #[test]
    fn anthropics_opening_is_dropped_and_its_indices_go_on() {
        let mut told = Transcript::new(Dialect::AnthropicMessages);
        told.keep(&Bytes::from_static(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":\"ab\"}}\n\n",
        ));
        let mut splice = Splice::new(&mut told, Way::Verify);
        let second = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n\
            event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
            event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"abc\"}}\n\n\
            event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
            event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let spliced = splice.push(&Bytes::from_static(second.as_bytes()));
        let all: String = spliced.release.iter().map(|b| std::str::from_utf8(b).unwrap()).collect();
        assert!(!spliced.diverged);
        assert_eq!(
            all,
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":\"c\"}}\n\n\
             event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        );
    }
}
