//! The request again, with the beginning of the answer in it.
//!
//! A model that continues an assistant message is given the text so far as the last message of the
//! conversation: one member is put before the closing bracket of `messages`, of `contents` where it
//! is Gemini that is asked, or of `input` where it is a response (a text there becomes the list that it stands for); nothing else
//! changes. Legacy completions have no conversation: they can only begin anew. Trailing white space is
//! left out, because Anthropic refuses it; the splice knows.

use crate::base::api::Api;
use crate::wire::json::{Broken, Scan};
use bytes::Bytes;
use std::ops::Range;

/// Returns the body of a call with the text so far as its last message; `is_marked` adds
/// `"prefix": true`. Nothing where the body has no conversation to add to, or the text is empty: then
/// the request can only be sent as it was.
#[must_use]
pub fn with_continuation(api: Api, body: &[u8], text: &str, is_marked: bool) -> Option<Bytes> {
    let text = text.trim_end();
    if text.is_empty() {
        return None;
    }
    let talk = conversation(body).ok()??;
    let inside = body.get(talk.clone())?;
    let text = serde_json::to_string(text).ok()?;
    let mark = if is_marked { ",\"prefix\":true" } else { "" };
    let message = match api {
        Api::GenerateContent => format!("{{\"role\":\"model\",\"parts\":[{{\"text\":{text}}}]}}"),
        Api::Converse => format!("{{\"role\":\"assistant\",\"content\":[{{\"text\":{text}}}]}}"),
        Api::ChatCompletions
        | Api::Completions
        | Api::Embeddings
        | Api::Responses
        | Api::Messages
        | Api::CountTokens
        | Api::CohereChat
        | Api::OllamaChat
        | Api::Generate => format!("{{\"role\":\"assistant\",\"content\":{text}{mark}}}"),
    };
    let pieces = match inside.first()? {
        b'[' => {
            let close = talk.start + inside.iter().rposition(|byte| *byte == b']')?;
            let is_empty = inside.iter().filter(|byte| !byte.is_ascii_whitespace()).count() == 2;
            let comma = if is_empty { "" } else { "," };
            [body.get(..close)?, comma.as_bytes(), message.as_bytes(), body.get(close..)?].concat()
        }
        b'"' => {
            let user = std::str::from_utf8(inside).ok()?;
            let both = format!("[{{\"role\":\"user\",\"content\":{user}}},{message}]");
            [body.get(..talk.start)?, both.as_bytes(), body.get(talk.end..)?].concat()
        }
        _ => return None,
    };
    Some(Bytes::from(pieces))
}

/// Finds where the conversation lies: `messages`, `contents` (Gemini), or `input` of a response.
fn conversation(body: &[u8]) -> Result<Option<Range<usize>>, Broken> {
    let (mut messages, mut input) = (None, None);
    Scan::new(body).members::<Broken>(|scan, key| {
        let value = scan.skip()?;
        match key.bytes().as_ref() {
            b"messages" | b"contents" => messages = Some(value),
            b"input" => input = Some(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(messages.or(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_becomes_the_last_message_and_nothing_else_changes() {
        for (body, text, is_marked, want) in [
            (
                r#"{"messages":[{"role":"user","content":"]"}],"x":[1]}"#,
                "so \"far\" \n",
                false,
                Some(
                    r#"{"messages":[{"role":"user","content":"]"},{"role":"assistant","content":"so \"far\""}],"x":[1]}"#,
                ),
            ),
            (
                r#"{"messages": [ ] }"#,
                "a",
                true,
                Some(r#"{"messages": [ {"role":"assistant","content":"a","prefix":true}] }"#),
            ),
            (
                r#"{"input":"say \"so\"","store":false}"#,
                "so far",
                false,
                Some(
                    r#"{"input":[{"role":"user","content":"say \"so\""},{"role":"assistant","content":"so far"}],"store":false}"#,
                ),
            ),
            (
                r#"{"store":false,"input":[{"role":"user","content":[{"type":"input_text","text":"q"}]}]}"#,
                "a",
                false,
                Some(
                    r#"{"store":false,"input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},{"role":"assistant","content":"a"}]}"#,
                ),
            ),
            (r#"{"input":null}"#, "a", false, None),
            (r#"{"input":{"a":[1]}}"#, "a", false, None),
            (r#"{"prompt":"p"}"#, "a", false, None),
            (r#"{"messages":[]}"#, " ", false, None),
        ] {
            let got = with_continuation(Api::ChatCompletions, body.as_bytes(), text, is_marked);
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{body}");
        }
        for (api, body, want) in [
            (
                Api::GenerateContent,
                r#"{"contents":[{"parts":[{"text":"q"}]}]}"#,
                r#"{"contents":[{"parts":[{"text":"q"}]},{"role":"model","parts":[{"text":"a"}]}]}"#,
            ),
            (
                Api::Converse,
                r#"{"messages":[]}"#,
                r#"{"messages":[{"role":"assistant","content":[{"text":"a"}]}]}"#,
            ),
        ] {
            assert_eq!(with_continuation(api, body.as_bytes(), "a", false).as_deref(), Some(want.as_bytes()));
        }
    }
}
