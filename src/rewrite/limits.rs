//! The body cut to what a model takes.
//!
//! Where the file gives a model `limits`, members that it refuses are taken out and a number of
//! tokens that is too high is lowered, also inside the member that some calls keep it in; every
//! other byte stays. This costs a second pass over the
//! body, and only those models pay it.

use super::body::{LENGTH_LIMITS, Rewritten};
use super::place::CONTAINERS;
use crate::config::plan::ModelLimits;
use crate::wire::json::{Broken, Scan};
use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// Cuts a body that is ready to be sent. The body was read before, so that it is JSON; one that
/// cannot be read again is sent as it is.
#[must_use]
pub fn limited(body: Rewritten, limits: &ModelLimits) -> Rewritten {
    if *limits == ModelLimits::default() {
        return body;
    }
    let whole = body.pieces.concat();
    match cut(&whole, limits, &LENGTH_LIMITS) {
        Ok(Some(bytes)) => Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([Bytes::from(bytes)]) },
        Ok(None) | Err(_) => body,
    }
}

/// Names of the length inside the members that some calls keep it in.
const NESTED_LIMITS: [&str; 4] = ["maxOutputTokens", "max_output_tokens", "maxTokens", "num_predict"];

/// A member: where it begins and ends, and its value.
struct Member {
    whole: Range<usize>,
    value: Range<usize>,
    is_dropped: bool,
    is_limit: bool,
    /// Its value cut, where that is an object with limits of its own.
    cut: Option<Vec<u8>>,
}

/// Cuts an object; nothing where it stays as it is. `lengths` are the names of a length in it.
fn cut(body: &[u8], limits: &ModelLimits, lengths: &[&str]) -> Result<Option<Vec<u8>>, Broken> {
    let mut members: Vec<Member> = Vec::new();
    let mut scan = Scan::new(body);
    scan.members::<Broken>(|scan, key| {
        let start = key.range().start;
        let name = key.bytes();
        // Servers in Go take `MAX_TOKENS` for `max_tokens`.
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(&name);
        let is_container = lengths == LENGTH_LIMITS && CONTAINERS.iter().any(|known| is(known));
        let is_object = scan.peek() == Some(b'{');
        let value = scan.skip()?;
        let inside = body.get(value.clone()).filter(|_| is_container && is_object);
        members.push(Member {
            whole: start..value.end,
            value,
            is_dropped: limits.drop_params.iter().any(|drop| is(drop)),
            is_limit: lengths.iter().any(|limit| is(limit)),
            cut: inside.map(|inside| cut(inside, limits, &NESTED_LIMITS)).transpose()?.flatten(),
        });
        Ok(())
    })?;
    let is_too_high = |member: &Member| {
        let number = body.get(member.value.clone()).and_then(|text| std::str::from_utf8(text).ok());
        let number = number.and_then(|text| text.trim().parse::<f64>().ok());
        #[allow(clippy::cast_precision_loss, reason = "limits stay far below 2^52")]
        let limit = limits.max_tokens.map(|limit| limit as f64);
        member.is_limit && number.zip(limit).is_some_and(|(number, limit)| number > limit)
    };
    if !members.iter().any(|member| member.is_dropped || member.cut.is_some() || is_too_high(member)) {
        return Ok(None);
    }
    let (Some(first), Some(last)) = (members.first(), members.last()) else { return Ok(None) };
    let piece = |range: Range<usize>| body.get(range).unwrap_or_default();
    let mut cut: Vec<u8> = Vec::with_capacity(body.len());
    cut.extend_from_slice(piece(0..first.whole.start));
    let mut is_first = true;
    for member in members.iter().filter(|member| !member.is_dropped) {
        if !std::mem::take(&mut is_first) {
            cut.push(b',');
        }
        let lowered =
            limits.max_tokens.filter(|_| is_too_high(member)).map(|limit| limit.to_string().into_bytes());
        match member.cut.clone().or(lowered) {
            Some(value) => {
                cut.extend_from_slice(piece(member.whole.start..member.value.start));
                cut.extend_from_slice(&value);
            }
            None => cut.extend_from_slice(piece(member.whole.clone())),
        }
    }
    cut.extend_from_slice(piece(last.whole.end..body.len()));
    Ok(Some(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_out_and_numbers_lowered_and_nothing_else_changes() {
        let limits = ModelLimits {
            max_tokens: Some(100),
            drop_params: vec!["logprobs".to_owned(), "user".to_owned()],
        };
        for (body, want) in [
            (r#"{"a":1,"max_tokens":100}"#, r#"{"a":1,"max_tokens":100}"#),
            (r#"{"a":1,"max_tokens" : 101 }"#, r#"{"a":1,"max_tokens" : 100 }"#),
            (r#"{"max_completion_tokens":1e9,"b":2}"#, r#"{"max_completion_tokens":100,"b":2}"#),
            (r#"{"max_output_tokens":"many"}"#, r#"{"max_output_tokens":"many"}"#),
            (r#"{"logprobs":true,"a":{"logprobs":1}}"#, r#"{"a":{"logprobs":1}}"#),
            (r#"{"a":1, "user" : "x" , "b":[1, 2]}"#, r#"{"a":1,"b":[1, 2]}"#),
            (r#"{"logpr\u006fbs":1}"#, r"{}"),
            (r#"{"LogProbs":1,"MAX_TOKENS":101}"#, r#"{"MAX_TOKENS":100}"#),
            (
                r#"{"generationConfig":{"maxOutputTokens": 500,"user":1},"b":{"maxOutputTokens":500}}"#,
                r#"{"generationConfig":{"maxOutputTokens": 100},"b":{"maxOutputTokens":500}}"#,
            ),
            (r#"{"options":{"num_predict":101}}"#, r#"{"options":{"num_predict":100}}"#),
            (r#"{"inferenceConfig":{"maxTokens":9}}"#, r#"{"inferenceConfig":{"maxTokens":9}}"#),
            (r#" { "user":1 } "#, r" {  } "),
            (r"{}", r"{}"),
        ] {
            let bytes = Bytes::copy_from_slice(body.as_bytes());
            let given = Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([bytes]) };
            let got = limited(given, &limits);
            assert_eq!(String::from_utf8(got.pieces.concat()).unwrap(), want, "{body}");
            assert_eq!(got.len, want.len());
        }
    }

    #[test]
    fn without_limits_the_pieces_stay_the_client_s_own() {
        let bytes = Bytes::from_static(br#"{"max_tokens":5}"#);
        let given = Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([bytes.clone()]) };
        assert_eq!(limited(given, &ModelLimits::default()).pieces[0].as_ptr(), bytes.as_ptr());
    }
}
