//! The request again, with the beginning of the answer in it.
//!
//! A model that continues an assistant message is given the text so far as the last message of the
//! conversation: one member is put before the closing bracket of `messages`, nothing else changes.
//! Trailing white space is left out, because Anthropic refuses it; the splice knows.

use crate::wire::json::{Broken, Scan};
use bytes::Bytes;

/// Returns the body with the text so far as its last message; `is_marked` adds `"prefix": true`.
/// Nothing where the body has no `messages` or the text is empty.
#[must_use]
pub fn with_continuation(body: &[u8], text: &str, is_marked: bool) -> Option<Bytes> {
    let text = text.trim_end();
    if text.is_empty() {
        return None;
    }
    let mut messages = None;
    let mut scan = Scan::new(body);
    scan.members::<Broken>(|scan, key| {
        let value = scan.skip()?;
        if key.bytes().as_ref() == b"messages" {
            messages = Some(value);
        }
        Ok(())
    })
    .ok()?;
    let messages = messages?;
    let inside = body.get(messages.clone())?;
    let close = messages.start + inside.iter().rposition(|byte| *byte == b']')?;
    let is_empty = inside.iter().filter(|byte| !byte.is_ascii_whitespace()).count() == 2;
    let text = serde_json::to_string(text).ok()?;
    let comma = if is_empty { "" } else { "," };
    let mark = if is_marked { ",\"prefix\":true" } else { "" };
    let message = format!("{comma}{{\"role\":\"assistant\",\"content\":{text}{mark}}}");
    let mut whole = Vec::with_capacity(body.len() + message.len());
    whole.extend_from_slice(body.get(..close)?);
    whole.extend_from_slice(message.as_bytes());
    whole.extend_from_slice(body.get(close..)?);
    Some(Bytes::from(whole))
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
            (r#"{"prompt":"p"}"#, "a", false, None),
            (r#"{"messages":[]}"#, " ", false, None),
        ] {
            let got = with_continuation(body.as_bytes(), text, is_marked);
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{body}");
        }
    }
}
