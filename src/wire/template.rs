//! Is this event the last one over again, but for its text?
//!
//! The events of a stream repeat each other: id, model, time and all the members around stay byte for
//! byte, and a few letters of text change. [`Template`] keeps the last event that was read in full and
//! where its text lies. An event that begins as that one does, ends as it does, and has one whole
//! string that is not empty in between is sound JSON of the same structure, and says what the last one
//! said with another text. Comparing costs a tenth of reading.
//!
//! Whoever uses it reads an event so that the text matters only by being there, and that reading the
//! same event twice comes to the same as once; and tells the template of each event that was read in
//! full, so that nothing was read between the event that is kept and the one that is compared.

use super::json::{Broken, Scan, Text};
use bytes::Bytes;
use std::ops::Range;

/// Events longer than this are not kept: what is around the text is short, or it does not repeat.
const KEPT_MAX: usize = 1024;

/// Where a string lies in an event's data, quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl From<&Text<'_>> for Span {
    fn from(text: &Text<'_>) -> Span {
        let range = text.range();
        Span { start: range.start, end: range.end }
    }
}

/// Skips a value and tells whether it says anything; where it is a string, `text` becomes its place.
pub(super) fn says_text(scan: &mut Scan<'_>, text: &mut Option<Span>) -> Result<bool, Broken> {
    if scan.peek() != Some(b'"') {
        return scan.says_something();
    }
    let said = scan.text()?;
    *text = said.as_ref().map(Span::from);
    Ok(said.is_some_and(|said| !said.is_empty()))
}

/// The last event that was read in full; empty where it will not come again.
#[derive(Debug, Default)]
pub(super) struct Template {
    event: Bytes,
    /// Where its text begins.
    start: usize,
    /// How much stands behind its text.
    behind: usize,
}

impl Template {
    /// Takes note of an event that was read in full, of its data, and of where in them its text lies. Where the
    /// piece of the stream that it came in is not long, it is kept by that: whoever may have to go on from the
    /// stream keeps the piece as well.
    pub(super) fn learn(&mut self, event: &[u8], piece: Option<&Bytes>, data: &[u8], text: Option<Span>) {
        self.event = Bytes::new();
        // An empty text may mean something else than any other.
        let text = text.filter(|text| text.end - text.start > 2 && event.len() <= KEPT_MAX);
        let Some(text) = text else { return };
        // Data of several lines were put together elsewhere.
        let Some(Range { start: at, .. }) = place(data, event) else { return };
        let piece = piece.filter(|piece| piece.len() <= KEPT_MAX);
        let shared = piece.and_then(|piece| place(event, piece).map(|place| piece.slice(place)));
        self.event = shared.unwrap_or_else(|| Bytes::copy_from_slice(event));
        self.start = at + text.start;
        self.behind = event.len().saturating_sub(at + text.end);
    }

    /// Returns the text of an event that is the same but for that.
    pub(super) fn text<'a>(&self, event: &'a [u8]) -> Option<Text<'a>> {
        if self.event.is_empty() {
            return None;
        }
        let before = self.event.get(..self.start)?;
        let behind = self.event.get(self.event.len() - self.behind..)?;
        if !event.starts_with(before) || !event.ends_with(behind) {
            return None;
        }
        let middle = event.get(self.start..event.len().checked_sub(self.behind)?)?;
        if middle.first() != Some(&b'"') {
            return None;
        }
        let text = Scan::new(middle).text().ok()??;
        (text.range().end == middle.len() && !text.is_empty()).then_some(text)
    }
}

/// Returns where in `whole` a part of it lies; none where it is no part of it.
fn place(part: &[u8], whole: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::api::Dialect;
    use crate::wire::StreamReader;
    use crate::wire::transcript::Transcript;
    use bytes::Bytes;
    use proptest::prelude::*;

    const BEFORE: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":";
    const BEHIND: &str = "},\"finish_reason\":null}]}\n\n";

    fn learned(text: &str) -> Template {
        let event = format!("{BEFORE}{text}{BEHIND}");
        let data = event.strip_prefix("data: ").unwrap().trim_end();
        let start = BEFORE.len() - "data: ".len();
        let mut template = Template::default();
        template.learn(
            event.as_bytes(),
            None,
            data.as_bytes(),
            Some(Span { start, end: start + text.len() }),
        );
        template
    }

    #[test]
    fn only_another_text_is_the_same_event() {
        let template = learned("\"one\"");
        for (middle, text) in [
            ("\"two\"", Some("two")),
            ("\"one\"", Some("one")),
            ("\"a longer \\\"text\\\"\\n\"", Some("a longer \"text\"\n")),
            ("\"\"", None),
            ("null", None),
            (" \"two\"", None),
            ("\"two\" ", None),
            ("\"two", None),
            ("\"two\\\"", None),
            ("\"tw\no\"", None),
            ("\"a\",\"role\":\"b\"", None),
        ] {
            let event = format!("{BEFORE}{middle}{BEHIND}");
            let found = template.text(event.as_bytes()).map(|text| text.text().into_owned());
            assert_eq!(found.as_deref(), text, "{middle}");
        }
        let other = format!("{BEFORE}\"two\"{BEHIND}").replace("null", "\"stop\"");
        assert!(template.text(other.as_bytes()).is_none());
        let other = format!("{BEFORE}\"two\"{BEHIND}").replace("\"index\":0", "\"index\":1");
        assert!(template.text(other.as_bytes()).is_none());
        // What stands before and behind must not be the same bytes.
        assert!(template.text(BEFORE.as_bytes()).is_none());
        assert!(learned("\"x\"").text(format!("{BEFORE}{BEHIND}").as_bytes()).is_none());
    }

    #[test]
    fn no_long_piece_of_a_stream_is_kept_for_one_event() {
        let event = format!("{BEFORE}\"one\"{BEHIND}");
        for (before, is_shared) in [(0, true), (20, true), (KEPT_MAX, false)] {
            let piece = Bytes::from(format!("{}{event}", "\n".repeat(before)));
            let came = piece.get(before..).unwrap();
            let data = came.get("data: ".len()..came.len() - "\n\n".len()).unwrap();
            let start = BEFORE.len() - "data: ".len();
            let mut template = Template::default();
            template.learn(came, Some(&piece), data, Some(Span { start, end: start + 5 }));
            assert_eq!(template.event, event.as_bytes());
            assert_eq!(place(&template.event, &piece).is_some(), is_shared, "{before} bytes before");
            assert_eq!(template.text(came).unwrap().text(), "one");
        }
    }

    #[test]
    fn what_has_no_text_or_is_long_is_not_kept() {
        let mut template = learned("\"one\"");
        let event = format!("{BEFORE}\"one\"{BEHIND}");
        template.learn(event.as_bytes(), None, event.as_bytes(), None);
        assert!(template.text(event.as_bytes()).is_none());
        assert!(learned("\"\"").text(event.as_bytes()).is_none());
        let long = format!("\"{}\"", "x".repeat(KEPT_MAX));
        assert!(learned(&long).text(event.as_bytes()).is_none());
    }

    /// Events of two dialects with few texts, so that many of them repeat each other.
    fn event() -> impl Strategy<Value = (bool, String)> {
        let text = prop::sample::select(vec![
            "\"a\"",
            "\"b \\\"c\\\"\"",
            "\"\"",
            "null",
            "\"\\ud83d\"",
            "[1]",
            "\"a",
        ]);
        let index = prop::sample::select(vec!["0", "1"]);
        let rest = prop::sample::select(vec![
            "\"finish_reason\":null}]",
            "\"finish_reason\":\"stop\"}]",
            "\"finish_reason\":\"content_filter\"}]",
            "\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}",
            "\"finish_reason\":null}],\"error\":{\"message\":\"x\"}",
            "\"finish_reason\":null},{\"index\":1,\"delta\":{\"content\":\"z\"}}]",
        ]);
        let member = prop::sample::select(vec!["content", "reasoning_content", "role", "refusal"]);
        let chat = (text.clone(), index.clone(), rest, member).prop_map(|(text, index, rest, member)| {
            let choice = format!("{{\"index\":{index},\"delta\":{{\"{member}\":{text}}}");
            (false, format!("data: {{\"id\":\"c\",\"choices\":[{choice},{rest}}}\n\n"))
        });
        let kind = prop::sample::select(vec![
            "text_delta\",\"text",
            "thinking_delta\",\"thinking",
            "input_json_delta\",\"partial_json",
        ]);
        let of = prop::sample::select(vec![
            "content_block_delta",
            "content_block_start",
            "message_delta",
            "message_stop",
        ]);
        let messages = (text, index, kind, of).prop_map(|(text, index, kind, of)| {
            let delta = format!("{{\"type\":\"{kind}\":{text}}}");
            (
                true,
                format!("event: {of}\ndata: {{\"type\":\"{of}\",\"index\":{index},\"delta\":{delta}}}\n\n"),
            )
        });
        prop_oneof![chat, messages]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_is_compared_is_understood_as_what_is_read(
            events in prop::collection::vec(event(), 1..12), repeats in prop::collection::vec(1usize..4, 12)
        ) {
            let is_messages = events[0].0;
            let dialect = if is_messages { Dialect::AnthropicMessages } else { Dialect::OpenAiChat };
            // Read in full it means nothing; behind it nothing is compared.
            let nothing = Bytes::from_static(if is_messages { b"data: {\"type\":\"ping\"}\n\n" } else { b"data: {\"choices\":[]}\n\n" });
            let mut readers = [StreamReader::new(dialect), StreamReader::new(dialect)];
            let mut told = [Transcript::new(dialect), Transcript::new(dialect)];
            let same = events.iter().filter(|(of, _)| *of == is_messages);
            for ((_, event), times) in same.zip(repeats) {
                for _ in 0..times {
                    let event = Bytes::from(event.clone());
                    let pushed = readers.each_mut().map(|reader| reader.push(event.clone()));
                    prop_assert_eq!(pushed[0].content_began, pushed[1].content_began);
                    prop_assert_eq!(&pushed[0].fault, &pushed[1].fault);
                    prop_assert_eq!(&pushed[0].release, &pushed[1].release);
                    readers[1].push(nothing.clone());
                    let says = |reader: &StreamReader| {
                        (reader.is_complete(), reader.has_content(), reader.was_filtered(), reader.usage())
                    };
                    prop_assert_eq!(says(&readers[0]), says(&readers[1]));
                    for told in &mut told {
                        told.keep(&event);
                    }
                    told[1].keep(&nothing);
                }
            }
            prop_assert_eq!(told[0].bar(), told[1].bar());
            let is_barred = told[0].bar().is_some();
            let text = told[1].text().to_owned();
            prop_assert!(is_barred || told[0].text() == text, "{:?} {:?}", told[0].text(), text);
            let place = told[1].place().clone();
            prop_assert_eq!(told[0].place(), &place);
        }
    }
}
