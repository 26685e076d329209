//! Does an answer repeat our key?
//!
//! Some providers quote the key that they refuse, in words or in a header. The client must not
//! learn it (threat P3): a header that holds it is dropped, whatever the status, and in the body
//! of an error [`redacted`] stands in its place. Answers that are no errors pass byte for byte.
//! In headers only keys that the provider was sent are looked for (the one in force and former ones of the
//! same credential, and what a variable put into a header that the operator adds), in errors every key of ours. JSON may write some of a key's characters in other ways
//! (`\\/`, `\\u002B`); these are looked for as well.
//!
//! An error that is passed through as it comes ([`Overwriter`]) keeps its length, for its head has
//! gone ahead: the key is overwritten, and of a piece only the end that may be the beginning of a
//! key waits for the next one. Keys are looked for in what came, never in what is left of it, so that
//! neither the cut nor the order of keys decides what is found where two of them share bytes.

use crate::base::secret::Secret;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use smallvec::SmallVec;
use std::ops::Range;

/// What stands in the key's place.
const REDACTED: &[u8] = b"[redacted]";
/// Shortest key that is looked for: a shorter one would be found in ordinary words.
const REDACTED_FROM: usize = 8;
/// What encoders of JSON write in other ways, though they need not: PHP the first, .NET and Gson the others.
const SPELLED: [(u8, &[&[u8]]); 3] = [
    (b'/', &[b"\\/", b"\\u002F", b"\\u002f"]),
    (b'+', &[b"\\u002B", b"\\u002b"]),
    (b'=', &[b"\\u003D", b"\\u003d"]),
];
/// Stands for each byte of a key whose place must keep its length.
const COVER: u8 = b'*';

/// Tells whether a header's value holds one of the keys.
#[must_use]
pub fn is_in<'a>(value: &HeaderValue, mut keys: impl Iterator<Item = &'a Secret>) -> bool {
    keys.any(|key| holds(value.as_bytes(), key))
}

/// Returns a body without the keys.
#[must_use]
pub fn redacted<'a>(body: Bytes, keys: impl Iterator<Item = &'a Secret>) -> Bytes {
    keys.flat_map(spellings).fold(body, |body, key| without(body, &key))
}

fn without(body: Bytes, key: &[u8]) -> Bytes {
    if memchr::memmem::find(&body, key).is_none() {
        return body;
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = &body[..];
    while let Some(at) = memchr::memmem::find(rest, key) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(REDACTED);
        rest = &rest[at + key.len()..];
    }
    clean.extend_from_slice(rest);
    Bytes::from(clean)
}

/// Tells whether a key, long enough to be one, lies in these bytes.
#[must_use]
pub fn holds(bytes: &[u8], key: &Secret) -> bool {
    let plain = key.expose();
    if plain.len() < REDACTED_FROM || bytes.len() < plain.len() {
        return false;
    }
    memchr::memmem::find(bytes, plain.as_bytes()).is_some()
        || memchr::memchr(b'\\', bytes).is_some()
            && spellings(key).iter().any(|key| memchr::memmem::find(bytes, key).is_some())
}

/// The ways in which JSON may write a key that is long enough to be looked for.
fn spellings(key: &Secret) -> Vec<Vec<u8>> {
    let key = key.expose().as_bytes();
    if key.len() < REDACTED_FROM {
        return Vec::new();
    }
    let mut all = vec![key.to_vec()];
    for (plain, others) in SPELLED {
        if !key.contains(&plain) {
            continue;
        }
        let respelled = |other: &&[u8]| {
            let spell = |byte: &u8| if *byte == plain { other.to_vec() } else { vec![*byte] };
            all.iter().map(|known| known.iter().flat_map(spell).collect()).collect::<Vec<Vec<u8>>>()
        };
        let more: Vec<Vec<u8>> = others.iter().flat_map(respelled).collect();
        all.extend(more);
    }
    all
}

/// Takes keys out of a body that passes in pieces.
#[derive(Debug, Default)]
pub struct Overwriter {
    /// What may be the beginning of a key, as it came; shorter than the longest.
    rest: Bytes,
    /// How much of `rest` is the end of a key that was found.
    covered: usize,
}

impl Overwriter {
    /// Takes a piece and leaves in its place what may go out now.
    pub fn pass<'a>(
        &mut self,
        piece: &mut Option<Bytes>,
        is_last: bool,
        keys: impl Iterator<Item = &'a Secret>,
    ) {
        let keys: Vec<Vec<u8>> = keys.flat_map(spellings).collect();
        let keys = || keys.iter().map(Vec::as_slice);
        if keys().next().is_none() {
            return;
        }
        let mut bytes = BytesMut::from(std::mem::take(&mut self.rest));
        bytes.extend_from_slice(piece.as_deref().unwrap_or_default());
        let found = found(&bytes, keys(), std::mem::take(&mut self.covered));
        if !is_last {
            let begun = |key: &[u8]| (1..key.len()).rev().find(|count| bytes.ends_with(&key[..*count]));
            let longest = keys().filter_map(begun).max().unwrap_or(0);
            self.rest = Bytes::copy_from_slice(&bytes.split_off(bytes.len() - longest));
        }
        let ends = bytes.len();
        for range in found {
            bytes[range.start.min(ends)..range.end.min(ends)].fill(COVER);
            if range.start <= ends {
                self.covered = self.covered.max(range.end.saturating_sub(ends));
            }
        }
        *piece = (!bytes.is_empty()).then(|| bytes.freeze());
    }
}

/// Finds where keys lie, also within one another; the first `covered` bytes are the end of one.
fn found<'a>(
    bytes: &[u8],
    keys: impl Iterator<Item = &'a [u8]>,
    covered: usize,
) -> SmallVec<[Range<usize>; 4]> {
    let mut found = SmallVec::from_iter((covered > 0).then_some(0..covered));
    for key in keys {
        let mut from = 0;
        while let Some(at) = bytes.get(from..).and_then(|rest| memchr::memmem::find(rest, key)) {
            from += at + 1;
            found.push(from - 1..from - 1 + key.len());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-0123456789";
    const FORMER: &str = "sk-former-012345";

    fn keys(keys: &[&str]) -> Vec<Secret> {
        keys.iter().map(|key| Secret::new((*key).to_owned())).collect()
    }

    fn passed(text: &str, split: usize, sent: &[&str]) -> String {
        let mut overwriter = Overwriter::default();
        let mut out = Vec::new();
        for (part, is_last) in [(&text[..split], false), (&text[split..], false), ("", true)] {
            let mut piece = Some(Bytes::copy_from_slice(part.as_bytes()));
            overwriter.pass(&mut piece, is_last, keys(sent).iter());
            out.extend_from_slice(&piece.unwrap_or_default());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_key_is_overwritten_wherever_the_body_is_cut() {
        let text = format!("wrong key {KEY}, {KEY}{KEY}! {FORMER} sk-012");
        let stars = "*".repeat(KEY.len());
        let former = "*".repeat(FORMER.len());
        for split in 0..=text.len() {
            let out = passed(&text, split, &[KEY, FORMER]);
            let want = format!("wrong key {stars}, {stars}{stars}! {former} sk-012");
            assert_eq!(out, want, "split at {split}");
        }
    }

    #[test]
    fn keys_that_share_bytes_are_overwritten_whole_wherever_the_body_is_cut() {
        let (one, other, stars) = ("abcdefgh", "efghijkl", "********");
        for (text, want) in [
            ("abcdefghijkl.", "************."),
            ("aababcdefghijk", "aab********ijk"),
            // One that looks like what covers it.
            ("* ******** *********", "* ******** *********"),
        ] {
            for sent in [[one, other, stars], [stars, other, one]] {
                for split in 0..=text.len() {
                    assert_eq!(passed(text, split, &sent), want, "split at {split}");
                }
            }
        }
    }

    #[test]
    fn what_holds_no_key_passes_at_once() {
        let mut overwriter = Overwriter::default();
        for text in ["no such file", "{\"error\":{}}", "sk-1"] {
            let mut piece = Some(Bytes::from_static(text.as_bytes()));
            overwriter.pass(&mut piece, false, keys(&[KEY]).iter());
            assert_eq!(piece.as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(passed("abc abc", 3, &["abc"]), "abc abc", "a key too short to look for");
    }

    #[test]
    fn a_relayed_error_loses_the_key_and_keeps_the_rest() {
        let body = Bytes::from(format!("[{KEY}] {KEY}"));
        assert_eq!(redacted(body.clone(), keys(&[KEY]).iter()), "[[redacted]] [redacted]");
        assert_eq!(redacted(body.clone(), std::iter::empty()), body);
        let both = Bytes::from(format!("{FORMER} {KEY}"));
        assert_eq!(redacted(both, keys(&[KEY, FORMER]).iter()), "[redacted] [redacted]");
        let header = HeaderValue::from_static("Bearer sk-0123456789");
        assert!(is_in(&header, keys(&[FORMER, KEY]).iter()));
        assert!(!is_in(&header, keys(&["sk-other-key"]).iter()) && !is_in(&header, [].iter()));
    }

    #[test]
    fn a_key_is_found_in_each_way_of_writing_it() {
        let key = "ab+cd/ef==";
        for text in
            ["ab+cd/ef==", "ab+cd\\/ef==", "ab\\u002Bcd/ef\\u003D\\u003D", "ab\\u002bcd\\/ef\\u003d\\u003d"]
        {
            let body = Bytes::from(format!("<{text}>"));
            assert_eq!(redacted(body, keys(&[key]).iter()), "<[redacted]>", "{text}");
            assert!(is_in(&HeaderValue::from_str(text).unwrap(), keys(&[key]).iter()), "{text}");
            for split in 0..text.len() {
                assert_eq!(passed(text, split, &[key]), "*".repeat(text.len()), "{text} at {split}");
            }
        }
        assert_eq!(redacted(Bytes::from_static(b"ab-cd/ef=="), keys(&[key]).iter()), "ab-cd/ef==");
    }
}
