//! Joins the stream of another target to what the client was told already.
//!
//! The client must see one answer: one id, one role, one finish, one terminator, and no word twice.
//! So the opening events of the second stream are dropped where the client has them, ids and block
//! indices are those of the first, and its text is treated in one of two ways:
//!
//! * [`Way::Continue`]: the target was given the text so far and goes on from it; its first bytes
//!   are joined. Where trailing white space was left out of what it was given (Anthropic refuses it)
//!   and it begins with that same white space, the client has it already.
//! * [`Way::Verify`]: the target was asked afresh; output equal to the text told is swallowed, and
//!   from there on it is passed; what it thinks until then is left out. At the first difference the
//!   splice has [`Spliced::diverged`] and nothing more comes of it: never shown twice, never a guess.
//!
//! Speed does not matter here (a stream broke); events are read whole.

mod gemini;
mod logprobs;
mod messages;
mod responses;
mod whole;

use super::json::Scan;
use super::openai;
use super::sse::{self, Block, Piece, Splitter};
use super::transcript::{Place, Transcript};
use crate::base::api::Dialect;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use smallvec::SmallVec;

/// Longest event of a second stream: the end of a response repeats its instructions, its tools and
/// the whole text. No model writes as much.
const GIANT_MAX: usize = 4 * 1024 * 1024;

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
    splitter: Splitter,
    /// What there is of an event that came in pieces.
    giant: BytesMut,
    is_in_giant: bool,
    /// Where the client stands.
    place: Place,
    /// The client has nothing of the answer yet, not even its opening.
    needs_opening: bool,
    /// Text that the client has and the second stream must say first.
    owed: Owed,
    /// White space that the client has and the second stream may say first.
    seam: Owed,
    /// Anthropic: the blocks as the client knows them.
    blocks: messages::Blocks,
    /// Responses: what goes on from the message that is open.
    items: responses::Items,
    /// Responses: all that the client has heard.
    whole: String,
    /// Responses: how many letters the second stream has said.
    said: usize,
    has_diverged: bool,
}

/// Text that the client has, and how much of it the second stream has said.
///
/// It is as long as an answer and is said in small pieces: what is left of it is never copied.
#[derive(Debug, Default)]
struct Owed {
    text: String,
    /// Where that begins which the second stream has not said yet, in bytes.
    from: usize,
}

impl Splice {
    /// Prepares the joining to what was told.
    #[must_use]
    pub fn new(told: &mut Transcript, way: Way) -> Self {
        let text = told.text().to_owned();
        let place = told.place().clone();
        let whole = text.clone();
        let blocks = messages::Blocks::new(&place);
        let needs_opening = !place.has_begun && text.is_empty();
        let (owed, seam) = match way {
            Way::Verify => (Owed { text, from: 0 }, Owed::default()),
            Way::Continue => {
                let kept = text.trim_end().len();
                let seam = text.get(kept..).unwrap_or_default().to_owned();
                (Owed::default(), Owed { text: seam, from: 0 })
            }
        };
        Splice {
            dialect: told.dialect(),
            splitter: Splitter::default(),
            giant: BytesMut::new(),
            is_in_giant: false,
            place,
            needs_opening,
            owed,
            seam,
            blocks,
            items: responses::Items::default(),
            whole,
            said: 0,
            has_diverged: false,
        }
    }

    /// Returns the dialect of both streams.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Takes whole events of the second stream, or pieces of one that is too long to be kept whole.
    pub fn push(&mut self, events: &Bytes) -> Spliced {
        let mut spliced = Spliced::default();
        while let Some(block) = self.splitter.next(events) {
            match block {
                Block::Here(range) => self.take(&events.slice(range), &mut spliced),
                Block::Joined { bytes, .. } => self.take(&bytes, &mut spliced),
                Block::Long { bytes, piece, .. } => {
                    self.is_in_giant = piece != Piece::Last;
                    self.has_diverged |= self.giant.len() + bytes.len() > GIANT_MAX;
                    if !self.has_diverged {
                        self.giant.extend_from_slice(&bytes);
                    }
                    if piece == Piece::Last {
                        let whole = self.giant.split().freeze();
                        self.take(&whole, &mut spliced);
                    }
                }
            }
        }
        if !self.is_in_giant {
            // The last event of a stream may lack its empty line.
            let rest = self.splitter.take_rest();
            if !rest.is_empty() {
                self.take(&rest, &mut spliced);
            }
        }
        spliced.diverged = self.has_diverged;
        spliced
    }

    /// Returns the number that the client's next event gets; 0 where they are not numbered.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.place.next_number.unwrap_or(0)
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
        let Ok(mut value) = serde_json::from_slice::<Value>(&data) else {
            // Half of a surrogate pair passes as it came; what is no JSON says nothing.
            let mut scan = Scan::new(&data);
            if scan.skip().and_then(|_| scan.end()).is_ok() {
                self.pass_or_diverge(event.clone(), spliced);
            }
            return;
        };
        let name = String::from_utf8_lossy(sse::fields(event).name).into_owned();
        let mut ahead = Vec::new();
        let passes = match self.dialect {
            Dialect::AnthropicMessages => self.take_messages(&mut value, &mut ahead),
            Dialect::OpenAiResponses => self.take_responses(&mut value, &mut ahead),
            Dialect::GeminiGenerate => self.take_gemini(&mut value),
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => self.take_chat(&mut value),
        };
        if self.has_diverged {
            return;
        }
        if passes {
            ahead.push(value);
        }
        for event in ahead {
            // Only an event that was added goes by another name than the one that came.
            let kind = event.get("type").and_then(Value::as_str).unwrap_or(&name);
            let named = if name.is_empty() { String::new() } else { format!("event: {kind}\n") };
            spliced.release.push(Bytes::from(format!("{named}data: {event}\n\n")));
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
            return self.seam.hear(text).map_or_else(
                || {
                    self.seam = Owed::default();
                    text.to_owned()
                },
                str::to_owned,
            );
        }
        let rest = self.owed.hear(text);
        self.has_diverged |= rest.is_none();
        rest.unwrap_or_default().to_owned()
    }

    /// Works one chunk over; tells whether it passes.
    fn take_chat(&mut self, value: &mut Value) -> bool {
        if let (Some(id), Some(own)) = (&self.place.id, value.get_mut("id")) {
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
        let mut opens = false;
        let slot = if choice.get("text").is_some() {
            choice.get_mut("text")
        } else {
            if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
                let role = delta.get("role").is_some_and(says_something);
                opens = role && std::mem::take(&mut self.needs_opening);
                if !opens {
                    delta.remove("role");
                }
                if !self.owed.is_empty() {
                    // What it came to, the client has read.
                    delta.retain(|name, _| !openai::is_thought(name.as_bytes()));
                }
            }
            choice.get_mut("delta").and_then(|delta| delta.get_mut("content"))
        };
        let mut has_text = false;
        if let Some(slot) = slot
            && let Some(text) = slot.as_str()
        {
            let length = text.len();
            let rest = self.unheard(text);
            let heard = length - rest.len();
            has_text = !rest.is_empty();
            *slot = Value::String(rest);
            if let Some(logprobs) = choice.get_mut("logprobs") {
                logprobs::forget(logprobs, heard, length);
            }
        }
        let other = choice.get("delta").and_then(Value::as_object).is_some_and(|delta| {
            delta.iter().any(|(key, value)| key != "content" && key != "role" && says_something(value))
        });
        if (is_finish || other) && !self.owed.is_empty() {
            self.has_diverged = true;
        }
        has_text || is_finish || other || opens
    }
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Returns what the second stream has not said yet.
    fn rest(&self) -> &str {
        self.text.get(self.from..).unwrap_or_default()
    }

    /// Hears a piece of the second stream. Returns what of it goes beyond what was owed, or nothing
    /// where it says something else.
    fn hear<'a>(&mut self, piece: &'a str) -> Option<&'a str> {
        let owed = self.rest();
        if let Some(more) = piece.strip_prefix(owed) {
            *self = Owed::default();
            return Some(more);
        }
        if !owed.starts_with(piece) {
            return None;
        }
        self.from += piece.len();
        Some("")
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
    fn tokens_that_the_client_has_are_not_listed_again() {
        let tokens = [" w07", " w08", " w09"].map(|token| serde_json::json!({"token": token}));
        let tokens = Value::from(tokens.to_vec());
        let chunk = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" w07 w08 w09\"}},\"logprobs\":{{\"content\":{tokens}}}}}]}}\n\n"
        );
        let (text, _, all) = heard(" w07 w08", Way::Verify, &[chunk]);
        assert_eq!(text, " w07 w08 w09");
        assert!(all.contains("{\"content\":[{\"token\":\" w09\"}]}"), "{all}");
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
    fn a_long_text_is_heard_piece_by_piece_without_being_copied() {
        for (way, piece) in [(Way::Verify, "é "), (Way::Continue, "\n ")] {
            let before = piece.repeat(5_000);
            let mut splice = Splice::new(&mut told(&before), way);
            let owed = |splice: &Splice| match way {
                Way::Verify => (splice.owed.text.as_ptr(), splice.owed.rest().to_owned()),
                Way::Continue => (splice.seam.text.as_ptr(), splice.seam.rest().to_owned()),
            };
            let (home, _) = owed(&splice);
            for said in 1..5_000 {
                assert_eq!(splice.unheard(piece), "");
                let (at, rest) = owed(&splice);
                assert_eq!(at, home, "{way:?}: copied by piece {said}");
                assert_eq!(Some(rest.as_str()), before.get(said * piece.len()..), "{way:?} after {said}");
            }
            assert_eq!(splice.unheard(&format!("{piece}x")), "x");
            assert!(splice.owed.is_empty() && splice.seam.is_empty() && !splice.has_diverged);
            assert_eq!(splice.unheard("é"), "é");
        }
    }

    #[test]
    fn what_differs_behind_the_first_pieces_is_told_apart_where_it_differs() {
        let mut splice = Splice::new(&mut told("the quick"), Way::Verify);
        assert_eq!(splice.unheard("the "), "");
        assert_eq!((splice.unheard("the "), splice.has_diverged), (String::new(), true), "said once more");
        let mut splice = Splice::new(&mut told("one\n\n "), Way::Continue);
        assert_eq!(splice.unheard("\n"), "");
        assert_eq!((splice.unheard("two").as_str(), splice.has_diverged), ("two", false));
        assert_eq!(splice.unheard("\n "), "\n ", "the seam is behind");
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

    #[test]
    fn what_was_kept_back_with_the_opening_is_opened_by_the_second() {
        let mut told = Transcript::new(Dialect::OpenAiChat);
        let mut splice = Splice::new(&mut told, Way::Verify);
        let second = format!("{OPENING}{}{}", chat("a"), chat("b"));
        let spliced = splice.push(&Bytes::from(second));
        let all: String = spliced.release.iter().map(|b| std::str::from_utf8(b).unwrap()).collect();
        assert_eq!(all.matches("\"role\"").count(), 1, "{all}");

        let mut told = Transcript::new(Dialect::AnthropicMessages);
        told.keep(&Bytes::from_static(b"data: {\"type\":\"message_start\",\"message\":{}}\n\n"));
        let mut splice = Splice::new(&mut told, Way::Verify);
        let second = "data: {\"type\":\"message_start\",\"message\":{}}\n\n\
            data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
        let spliced = splice.push(&Bytes::from_static(second.as_bytes()));
        let all: String = spliced.release.iter().map(|b| std::str::from_utf8(b).unwrap()).collect();
        assert!(all.contains("content_block_start") && !all.contains("message_start"), "{all}");
    }

    #[test]
    fn what_the_second_thinks_before_it_has_caught_up_is_left_out() {
        let thought = |name: &str, more: &str| {
            let thought = if name == "reasoning_details" { "[{\"text\":\"hm\"}]" } else { "\"hm\"" };
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"{name}\":{thought}{more}}}}}]}}\n\n")
        };
        for name in ["reasoning_content", "reasoning", "reasoning_text", "reasoning_details", "thinking"] {
            let second = [
                OPENING.to_owned(),
                thought(name, ""),
                thought(name, ",\"content\":null"),
                chat("the qu"),
                thought(name, ",\"content\":\"ick br\""),
                FINISH.to_owned(),
                DONE.to_owned(),
            ];
            let (text, diverged, all) = heard("the quick", Way::Verify, &second);
            assert_eq!((text.as_str(), diverged), ("the quick br", false), "{name}");
            assert!(!all.contains("hm"), "{name}: {all}");
            // It thinks of something else.
            let (_, diverged, all) = heard("the quick", Way::Verify, &[thought(name, ""), FINISH.to_owned()]);
            assert!(diverged && all.is_empty(), "{name}: {all}");
            let (_, _, all) = heard("the", Way::Verify, &[chat("the"), thought(name, "")]);
            assert!(all.contains("hm"), "what it thinks after that is its answer's: {all}");
        }
    }

    #[test]
    fn an_opening_by_a_first_that_names_no_role_does_not_diverge() {
        let mut told = Transcript::new(Dialect::OpenAiCompletions);
        told.keep(&Bytes::from(chat("the quick")));
        let mut splice = Splice::new(&mut told, Way::Verify);
        let spliced = splice.push(&Bytes::from(format!("{OPENING}{}", chat("the quick brown"))));
        assert!(!spliced.diverged);
        assert_eq!(spliced.release.len(), 1);
    }

    #[test]
    fn half_a_letter_diverges_while_text_is_owed_and_passes_as_it_came_after() {
        let half = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud83d\"}}]}\n\n";
        let (_, diverged, _) = heard("the quick", Way::Verify, &[half.to_owned()]);
        assert!(diverged);
        let (_, diverged, all) = heard("the", Way::Verify, &[chat("the"), half.to_owned()]);
        assert!(!diverged);
        assert_eq!(all, half);
    }
}
