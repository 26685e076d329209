//! Does an answer repeat our key?
//!
//! Some providers quote the key that they refuse, in words or in a header. The client must not
//! learn it (threat P3): a header that holds it is dropped, whatever the status, and in the body
//! of an error [`redacted`] stands in its place. Answers that are no errors pass byte for byte.
//! Only the key that the provider was sent is looked for; it knows no other.
//!
//! An error that is passed through as it comes ([`Overwriter`]) keeps its length, for its head has
//! gone ahead: the key is overwritten, and of a piece only the end that may be the beginning of a
//! key waits for the next one.

use crate::live::Slot;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// What stands in the key's place.
const REDACTED: &[u8] = b"[redacted]";
/// Shortest key that is looked for: a shorter one would be found in ordinary words.
const REDACTED_FROM: usize = 8;
/// Stands for each byte of a key whose place must keep its length.
const COVER: u8 = b'*';

/// Returns the key or token that a slot's provider is sent.
pub(super) fn key_of(slot: &Slot) -> Option<&str> {
    slot.key.as_ref().map(crate::base::secret::Secret::expose)
}

/// Tells whether a header's value holds the key.
pub(super) fn is_in(value: &HeaderValue, key: Option<&str>) -> bool {
    key.is_some_and(|key| holds(value.as_bytes(), key))
}

/// Returns a body without the key.
pub(super) fn redacted(body: Bytes, key: Option<&str>) -> Bytes {
    let Some(key) = key.filter(|key| holds(&body, key)) else { return body };
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = &body[..];
    while let Some(at) = memchr::memmem::find(rest, key.as_bytes()) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(REDACTED);
        rest = &rest[at + key.len()..];
    }
    clean.extend_from_slice(rest);
    Bytes::from(clean)
}

/// Tells whether a key, long enough to be one, lies in these bytes.
pub(super) fn holds(bytes: &[u8], key: &str) -> bool {
    key.len() >= REDACTED_FROM
        && bytes.len() >= key.len()
        && memchr::memmem::find(bytes, key.as_bytes()).is_some()
}

/// Takes the key out of a body that passes in pieces.
#[derive(Debug, Default)]
pub(super) struct Overwriter {
    /// What may be the beginning of a key; shorter than the key.
    rest: Bytes,
}

impl Overwriter {
    /// Takes a piece and leaves in its place what may go out now.
    pub(super) fn pass(&mut self, piece: &mut Option<Bytes>, is_last: bool, key: Option<&str>) {
        let Some(key) = key.filter(|key| key.len() >= REDACTED_FROM).map(str::as_bytes) else { return };
        let mut bytes = BytesMut::from(std::mem::take(&mut self.rest));
        bytes.extend_from_slice(piece.as_deref().unwrap_or_default());
        while let Some(at) = memchr::memmem::find(&bytes, key) {
            bytes[at..at + key.len()].fill(COVER);
        }
        if !is_last {
            let begun = (1..key.len()).rev().find(|count| bytes.ends_with(&key[..*count])).unwrap_or(0);
            self.rest = bytes.split_off(bytes.len() - begun).freeze();
        }
        *piece = (!bytes.is_empty()).then(|| bytes.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-0123456789";

    fn passed(text: &str, split: usize, key: &str) -> String {
        let mut overwriter = Overwriter::default();
        let mut out = Vec::new();
        for (part, is_last) in [(&text[..split], false), (&text[split..], false), ("", true)] {
            let mut piece = Some(Bytes::copy_from_slice(part.as_bytes()));
            overwriter.pass(&mut piece, is_last, Some(key));
            out.extend_from_slice(&piece.unwrap_or_default());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_key_is_overwritten_wherever_the_body_is_cut() {
        let text = format!("wrong key {KEY}, {KEY}{KEY}! sk-012");
        let stars = "*".repeat(KEY.len());
        for split in 0..=text.len() {
            let out = passed(&text, split, KEY);
            assert_eq!(out, format!("wrong key {stars}, {stars}{stars}! sk-012"), "split at {split}");
        }
    }

    #[test]
    fn what_holds_no_key_passes_at_once() {
        let mut overwriter = Overwriter::default();
        for text in ["no such file", "{\"error\":{}}", "sk-1"] {
            let mut piece = Some(Bytes::from_static(text.as_bytes()));
            overwriter.pass(&mut piece, false, Some(KEY));
            assert_eq!(piece.as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(passed("abc abc", 3, "abc"), "abc abc", "a key too short to look for");
    }

    #[test]
    fn a_relayed_error_loses_the_key_and_keeps_the_rest() {
        let body = Bytes::from(format!("[{KEY}] {KEY}"));
        assert_eq!(redacted(body.clone(), Some(KEY)), "[[redacted]] [redacted]");
        assert_eq!(redacted(body.clone(), None), body);
        let header = HeaderValue::from_static("Bearer sk-0123456789");
        assert!(is_in(&header, Some(KEY)));
        assert!(!is_in(&header, Some("sk-other-key")) && !is_in(&header, None));
    }
}
