//! What has the client been told so far, and could another target go on from there?
//!
//! A stream that breaks after content can be taken up by another target only if we know exactly
//! what text the client has. [`Transcript`] keeps the delivered bytes as they went out (shared, not
//! copied) and reads them when somebody asks, or when they grow beyond [`RAW_MAX`]; a stream that
//! ends well in few bytes is so never read twice. What events say is [`Reading`]'s affair.
//!
//! It cannot go on once the stream has entered tool-call arguments, a thinking block, a second
//! choice, a refusal or audio, once a reason to finish was told, or where the text grew beyond
//! [`TEXT_MAX`] (failure semantics, *Rescue*).

mod gemini;
mod reading;
mod responses;

pub use reading::{Bar, Closing, Item, Place, Reading};

use super::template::Template;
use crate::base::api::Dialect;
use bytes::Bytes;

/// How many delivered bytes are kept unread: a few tens of events. Every open stream may hold as many.
const RAW_MAX: usize = 4 * 1024;
/// Longest text that is gone on from; beyond it a second telling costs more than it saves.
pub const TEXT_MAX: usize = 512 * 1024;

/// What a client has been told of one streamed answer.
#[derive(Debug)]
pub struct Transcript {
    dialect: Dialect,
    raw: Vec<Bytes>,
    raw_length: usize,
    /// On the heap, and from the first reading on: many a stream ends before it.
    reading: Option<Box<Reading>>,
}

impl Transcript {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        // Of a dialect that nobody can go on in nothing is kept.
        let reading = Some(Reading::new(dialect)).filter(|reading| reading.bar.is_some()).map(Box::new);
        Transcript { dialect, raw: Vec::new(), raw_length: 0, reading }
    }

    /// Returns the dialect of the stream.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Keeps what went downstream: whole events, in order.
    pub fn keep(&mut self, events: &Bytes) {
        if self.reading.as_ref().is_some_and(|reading| reading.bar.is_some()) {
            return;
        }
        self.raw_length += events.len();
        self.raw.push(events.clone());
        if self.raw_length > RAW_MAX {
            self.read();
        }
    }

    /// Tells whether the stream cannot be gone on from, and why.
    pub fn bar(&mut self) -> Option<Bar> {
        self.read().bar
    }

    /// Returns the text told so far.
    pub fn text(&mut self) -> &str {
        &self.read().text
    }

    /// Returns where in the structure of its stream the client stands.
    pub fn place(&mut self) -> &Place {
        &self.read().place
    }

    fn read(&mut self) -> &Reading {
        let reading = self.reading.get_or_insert_with(|| Box::new(Reading::new(self.dialect)));
        self.raw_length = 0;
        let mut last = Template::default();
        for events in std::mem::take(&mut self.raw) {
            reading.read(&events, &mut last);
        }
        if reading.text.len() > TEXT_MAX {
            reading.bar.get_or_insert(Bar::TooLong);
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dialect: Dialect, events: &[&str]) -> Transcript {
        let mut transcript = Transcript::new(dialect);
        for event in events {
            transcript.keep(&Bytes::from(format!("data: {event}\n\n")));
        }
        transcript
    }

    #[test]
    fn the_text_is_what_the_client_was_told() {
        let mut chat = told(
            Dialect::OpenAiChat,
            &[
                r#"{"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"Grüß "}}]}"#,
                r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"G\u00f6tt\n"}}]}"#,
                "not json",
                r#"{"id":"c1","choices":[]}"#,
            ],
        );
        assert_eq!(chat.text(), "Grüß Gött\n");
        assert_eq!((chat.bar(), chat.place().id.as_deref()), (None, Some("c1")));
        assert!(chat.place().has_begun);
        let mut messages = told(
            Dialect::AnthropicMessages,
            &[
                r#"{"type":"message_start","message":{"id":"m"}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one "}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"two"}}"#,
            ],
        );
        assert_eq!(messages.text(), "one two");
        assert_eq!((messages.bar(), messages.place().block), (None, Some(0)));
    }

    #[test]
    fn of_a_response_the_text_and_the_place_of_the_message_are_known() {
        let mut response = told(
            Dialect::OpenAiResponses,
            &[
                r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","created_at":17,"output":[]}}"#,
                r#"{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","created_at":17}}"#,
                r#"{"type":"keepalive","sequence_number":2}"#,
                r#"{"type":"response.output_item.added","sequence_number":3,"output_index":0,"item":{"type":"message","id":"msg_1","content":[]}}"#,
                r#"{"type":"response.content_part.added","sequence_number":4,"item_id":"msg_1","content_index":0,"part":{"type":"output_text","text":""}}"#,
                r#"{"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_1","delta":"one "}"#,
                r#"{"delta":"two","item_id":"msg_1","sequence_number":6,"type":"response.output_text.delta"}"#,
            ],
        );
        assert_eq!(response.text(), "one two");
        assert_eq!(response.bar(), None);
        let place = Place {
            has_begun: true,
            id: Some("resp_1".to_owned()),
            created_at: Some(17),
            item: Some(Item { id: Some("msg_1".to_owned()), index: 0 }),
            block: Some(0),
            next_number: Some(7),
            ..Place::default()
        };
        assert_eq!(response.place(), &place);
    }

    #[test]
    fn a_text_that_has_ended_is_gone_on_from_and_its_end_is_known() {
        let mut messages = told(
            Dialect::AnthropicMessages,
            &[
                r#"{"type":"message_start","message":{"id":"m"}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one "}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"two"}}"#,
            ],
        );
        assert_eq!(messages.text(), "one two");
        assert_eq!(messages.bar(), None);
        let place = messages.place();
        assert_eq!((place.block, place.next_block, place.blocks_closed), (Some(1), 2, 1));
        messages.keep(&Bytes::from_static(b"data: {\"type\":\"content_block_stop\",\"index\":1}\n\n"));
        assert_eq!((messages.place().block, messages.bar()), (None, None));

        let delta = r#"{"type":"response.output_text.delta","item_id":"m","output_index":1,"delta":"one"}"#;
        let ends = [
            r#"{"type":"response.output_text.done","item_id":"m","output_index":1,"content_index":0,"text":"one"}"#,
            r#"{"type":"response.content_part.done","item_id":"m","output_index":1,"content_index":0,"part":{}}"#,
            r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"m","type":"message"}}"#,
        ];
        for (count, closing) in
            [(0, Closing::Open), (1, Closing::Text), (2, Closing::Part), (3, Closing::Message)]
        {
            let mut response = told(Dialect::OpenAiResponses, &[&[delta], &ends[..count]].concat());
            assert_eq!((response.bar(), response.place().closing), (None, closing));
        }
        // An end out of turn, of another message or with another text.
        for events in [
            vec![delta, ends[1]],
            vec![delta, ends[0], ends[0]],
            vec![delta, r#"{"type":"response.output_text.done","output_index":0,"text":"one"}"#],
            vec![delta, r#"{"type":"response.output_text.done","output_index":1,"text":"one two"}"#],
        ] {
            assert_eq!(told(Dialect::OpenAiResponses, &events).bar(), Some(Bar::Finished), "{events:?}");
        }
        let more = told(Dialect::OpenAiResponses, &[delta, ends[0], delta]).bar();
        assert_eq!(more, Some(Bar::OtherContent), "text behind its end");
    }

    #[test]
    fn half_a_letter_and_an_event_that_nobody_read_whole_bar() {
        let half = r#"{"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}"#;
        assert_eq!(told(Dialect::OpenAiChat, &[half]).bar(), Some(Bar::OtherContent));
        let mut cut = Transcript::new(Dialect::OpenAiChat);
        cut.keep(&Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"abc"));
        assert_eq!(cut.bar(), Some(Bar::OtherContent));
    }

    #[test]
    fn what_cannot_be_gone_on_from_bars() {
        use Dialect::{AnthropicMessages, BedrockConverse, GeminiGenerate, OpenAiChat, OpenAiResponses};
        let gemini = |part: &str, more: &str| {
            format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}{more}}}]}}"#)
        };
        let response = |name: &str, rest: &str| format!(r#"{{"type":"response.{name}",{rest}}}"#);
        let chat = |delta: &str| format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
        for (dialect, event, want) in [
            (OpenAiChat, chat(r#"{"content":"a"}"#), None),
            (OpenAiChat, chat(r#"{"tool_calls":[{"function":{"name":"f"}}]}"#), Some(Bar::ToolCall)),
            (OpenAiChat, chat(r#"{"reasoning_content":"hm"}"#), Some(Bar::Thinking)),
            (OpenAiChat, chat(r#"{"reasoning_content":null,"tool_calls":[],"content":"a"}"#), None),
            (OpenAiChat, chat(r#"{"refusal":"no"}"#), Some(Bar::OtherContent)),
            (OpenAiChat, r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#.to_owned(), Some(Bar::SecondChoice)),
            (OpenAiChat, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(), Some(Bar::Finished)),
            (
                AnthropicMessages,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"f"}}"#.to_owned(),
                Some(Bar::ToolCall),
            ),
            (
                AnthropicMessages,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#.to_owned(),
                Some(Bar::Thinking),
            ),
            (AnthropicMessages, r#"{"type":"content_block_stop","index":0}"#.to_owned(), Some(Bar::Finished)),
            (OpenAiChat, "[DONE]".to_owned(), Some(Bar::Finished)),
            (GeminiGenerate, gemini(r#"{"text":"a"}"#, ""), None),
            (GeminiGenerate, gemini(r#"{"text":"","thoughtSignature":"s"}"#, ""), None),
            (GeminiGenerate, gemini(r#"{"text":"hm","thought":true}"#, ""), Some(Bar::Thinking)),
            (GeminiGenerate, gemini(r#"{"functionCall":{"name":"f"}}"#, ""), Some(Bar::ToolCall)),
            (GeminiGenerate, gemini(r#"{"inlineData":{"data":"AA"}}"#, ""), Some(Bar::OtherContent)),
            (GeminiGenerate, gemini(r#"{"text":"a"}"#, r#","finishReason":"STOP""#), Some(Bar::Finished)),
            (GeminiGenerate, gemini(r#"{"text":"a"}"#, r#","index":1"#), Some(Bar::SecondChoice)),
            (BedrockConverse, "{}".to_owned(), Some(Bar::Dialect)),
            (OpenAiResponses, "{}".to_owned(), None),
            (OpenAiResponses, response("output_item.added", r#""item":{"type":"message"}"#), None),
            (OpenAiResponses, response("output_item.added", r#""item":{"type":"reasoning"}"#), Some(Bar::Thinking)),
            (OpenAiResponses, response("output_item.added", r#""item":{"type":"function_call"}"#), Some(Bar::ToolCall)),
            (OpenAiResponses, response("output_item.added", r#""item":{"type":"mystery"}"#), Some(Bar::OtherContent)),
            (OpenAiResponses, response("content_part.added", r#""part":{"type":"refusal"}"#), Some(Bar::OtherContent)),
            (OpenAiResponses, response("reasoning_summary_text.delta", r#""delta":"hm""#), Some(Bar::Thinking)),
            (OpenAiResponses, response("function_call_arguments.delta", r#""delta":"{""#), Some(Bar::ToolCall)),
            (OpenAiResponses, response("custom_tool_call_input.delta", r#""delta":"{""#), Some(Bar::ToolCall)),
            (OpenAiResponses, response("web_search_call.searching", r#""item_id":"w""#), Some(Bar::ToolCall)),
            (OpenAiResponses, response("refusal.delta", r#""delta":"no""#), Some(Bar::OtherContent)),
            (OpenAiResponses, response("output_text.annotation.added", r#""annotation":{}"#), Some(Bar::OtherContent)),
            (OpenAiResponses, response("output_text.done", r#""text":"a""#), Some(Bar::Finished)),
            (OpenAiResponses, response("completed", r#""response":{}"#), Some(Bar::Finished)),
        ] {
            assert_eq!(told(dialect, &[&event]).bar(), want, "{event}");
        }
    }

    #[test]
    fn a_long_stream_is_read_as_it_goes_and_one_too_long_bars() {
        let word = "w".repeat(1000);
        let event = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}"#);
        let mut transcript = told(Dialect::OpenAiChat, &vec![event.as_str(); 100]);
        assert!(transcript.raw_length <= RAW_MAX + event.len());
        assert_eq!(transcript.text().len(), 100_000);
        assert_eq!(told(Dialect::OpenAiChat, &vec![event.as_str(); 600]).bar(), Some(Bar::TooLong));
    }
}
