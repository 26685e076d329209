//! The body for a target that refused to think.
//!
//! `thinking` is taken out, and what Anthropic refuses without it: the edits of the context that clear
//! thoughts ("`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"). Other
//! edits stay, and so does every other byte. This costs a second pass over the body, and only the second
//! try after a refusal pays it.

use super::body::Rewritten;
use crate::wire::json::{Broken, Scan};
use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// What the names of edits begin with that clear thoughts; a date follows.
const CLEARS_THOUGHTS: &[u8] = b"clear_thinking_";

/// Takes out what asks for thoughts. The body was read before, so that it is JSON; one that cannot be
/// read again is sent as it is.
#[must_use]
pub fn without_thinking(body: Rewritten) -> Rewritten {
    let whole = body.pieces.concat();
    match thoughtless(&whole) {
        Ok(Some(bytes)) => Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([Bytes::from(bytes)]) },
        Ok(None) | Err(_) => body,
    }
}

/// What becomes of a member or an item.
enum Fate {
    Stays,
    Goes,
    /// Its value is this.
    Becomes(Vec<u8>),
}

/// A member or an item: where it lies with its key, where its value begins, and what becomes of it.
struct Piece {
    whole: Range<usize>,
    value_at: usize,
    fate: Fate,
}

fn thoughtless(body: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
    let pieces = members(body, |name, value| match name {
        b"thinking" => Ok(Fate::Goes),
        b"context_management" => management(value),
        _ => Ok(Fate::Stays),
    })?;
    Ok(joined(body, &pieces))
}

/// Reads `context_management`, which goes where no edit is left that it was there for.
fn management(value: &[u8]) -> Result<Fate, Broken> {
    let pieces = members(value, |name, value| if name == b"edits" { edits(value) } else { Ok(Fate::Stays) })?;
    let is_left = pieces.iter().any(|piece| !matches!(piece.fate, Fate::Goes));
    Ok(match joined(value, &pieces) {
        None => Fate::Stays,
        Some(_) if !is_left => Fate::Goes,
        Some(cut) => Fate::Becomes(cut),
    })
}

fn edits(value: &[u8]) -> Result<Fate, Broken> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut scan = Scan::new(value);
    scan.items::<Broken>(|scan| {
        scan.peek();
        let at = scan.skip()?;
        let edit = value.get(at.clone()).unwrap_or_default();
        let mut clears = false;
        Scan::new(edit).members::<Broken>(|scan, key| {
            match key.bytes().as_ref() {
                b"type" => {
                    clears |= scan.text()?.is_some_and(|kind| kind.bytes().starts_with(CLEARS_THOUGHTS));
                }
                _ => {
                    scan.skip()?;
                }
            }
            Ok(())
        })?;
        let fate = if clears { Fate::Goes } else { Fate::Stays };
        pieces.push(Piece { value_at: at.start, whole: at, fate });
        Ok(())
    })?;
    let is_left = pieces.iter().any(|piece| matches!(piece.fate, Fate::Stays));
    Ok(match joined(value, &pieces) {
        None => Fate::Stays,
        Some(_) if !is_left => Fate::Goes,
        Some(cut) => Fate::Becomes(cut),
    })
}

/// Reads the members of an object; none where it is none.
fn members(object: &[u8], fate: impl Fn(&[u8], &[u8]) -> Result<Fate, Broken>) -> Result<Vec<Piece>, Broken> {
    let mut pieces: Vec<Piece> = Vec::new();
    Scan::new(object).members::<Broken>(|scan, key| {
        let value = scan.skip()?;
        let fate = fate(key.bytes().as_ref(), object.get(value.clone()).unwrap_or_default())?;
        pieces.push(Piece { whole: key.range().start..value.end, value_at: value.start, fate });
        Ok(())
    })?;
    Ok(pieces)
}

/// Puts an object or a list together again; nothing where all stays.
fn joined(text: &[u8], pieces: &[Piece]) -> Option<Vec<u8>> {
    let (first, last) = (pieces.first()?, pieces.last()?);
    if pieces.iter().all(|piece| matches!(piece.fate, Fate::Stays)) {
        return None;
    }
    let slice = |range: Range<usize>| text.get(range).unwrap_or_default();
    let mut joined: Vec<u8> = Vec::with_capacity(text.len());
    joined.extend_from_slice(slice(0..first.whole.start));
    let mut is_first = true;
    for piece in pieces {
        if matches!(piece.fate, Fate::Goes) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            joined.push(b',');
        }
        match &piece.fate {
            Fate::Becomes(value) => {
                joined.extend_from_slice(slice(piece.whole.start..piece.value_at));
                joined.extend_from_slice(value);
            }
            Fate::Stays | Fate::Goes => joined.extend_from_slice(slice(piece.whole.clone())),
        }
    }
    joined.extend_from_slice(slice(last.whole.end..text.len()));
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_goes_and_so_do_the_edits_that_clear_thoughts() {
        let clear = r#"{"type":"clear_thinking_20251015","keep":"all"}"#;
        let tools = r#"{"type" : "clear_tool_uses_20250919"}"#;
        for (body, want) in [
            (r#"{"a":1, "b":[2]}"#.to_owned(), r#"{"a":1, "b":[2]}"#.to_owned()),
            (r#"{"a":1,"thinking":{"type":"enabled"},"b":2}"#.to_owned(), r#"{"a":1,"b":2}"#.to_owned()),
            (r#"{"thinking":{"type":"adaptive"}}"#.to_owned(), "{}".to_owned()),
            (
                format!(r#"{{"a":1,"context_management":{{"edits":[{clear}]}},"thinking":{{}}}}"#),
                r#"{"a":1}"#.to_owned(),
            ),
            (
                format!(r#"{{"context_management": {{"edits": [ {clear} , {tools}]}}, "b":1}}"#),
                format!(r#"{{"context_management": {{"edits": [ {tools}]}},"b":1}}"#),
            ),
            (
                format!(r#"{{"context_management":{{"x":1,"edits":[{clear}]}}}}"#),
                r#"{"context_management":{"x":1}}"#.to_owned(),
            ),
            (
                format!(r#"{{"thinking":1,"context_management":{{"edits":[{tools},7,"x"]}}}}"#),
                format!(r#"{{"context_management":{{"edits":[{tools},7,"x"]}}}}"#),
            ),
            (
                r#"{"thinking":1,"context_management":{"edits":[]},"b":{}}"#.to_owned(),
                r#"{"context_management":{"edits":[]},"b":{}}"#.to_owned(),
            ),
            (
                r#"{"thinking":1,"context_management":null}"#.to_owned(),
                r#"{"context_management":null}"#.to_owned(),
            ),
        ] {
            let bytes = Bytes::from(body.clone());
            let got = without_thinking(Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([bytes]) });
            assert_eq!(String::from_utf8(got.pieces.concat()).unwrap(), want, "{body}");
            assert_eq!(got.len, want.len());
        }
    }
}
