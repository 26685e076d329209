//! Takes the tokens that the client has out of the log probabilities of a piece of text.
//!
//! Chat and responses list tokens with what is told of each, completions have one list for each thing
//! told. A token that the client has in part goes as well: no letter is listed twice. Where the tokens are
//! not those of the text nobody can say which ones the client has: then all go.

use serde_json::Value;

/// Drops what is told of the first `heard` bytes of a text of `length` bytes.
pub(super) fn forget(logprobs: &mut Value, heard: usize, length: usize) {
    if heard == 0 {
        return;
    }
    if let Some(tokens) = logprobs.as_array_mut() {
        let count = heard_of(tokens, heard, length);
        tokens.drain(..count);
        return;
    }
    let Some(lists) = logprobs.as_object_mut() else { return };
    let tokens = lists.get("content").or_else(|| lists.get("tokens")).and_then(Value::as_array);
    let Some(count) = tokens.map(|tokens| heard_of(tokens, heard, length)) else { return };
    for list in lists.values_mut().filter_map(Value::as_array_mut) {
        list.drain(..count.min(list.len()));
    }
}

/// Counts the tokens that begin in what was heard.
fn heard_of(tokens: &[Value], heard: usize, length: usize) -> usize {
    if tokens.iter().map(length_of).sum::<usize>() != length {
        return tokens.len();
    }
    let mut begin = 0;
    let is_heard = |token: &&Value| {
        let was_heard = begin < heard;
        begin += length_of(token);
        was_heard
    };
    tokens.iter().take_while(is_heard).count()
}

/// A token may be part of a letter: then only its bytes say how long it is.
fn length_of(token: &Value) -> usize {
    match token.get("bytes").and_then(Value::as_array) {
        Some(bytes) => bytes.len(),
        None => token.get("token").unwrap_or(token).as_str().map_or(0, str::len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_heard_is_not_listed_again() {
        let tokens = |texts: &[&str]| -> Value {
            texts.iter().map(|text| json!({"token": text, "logprob": -0.1})).collect()
        };
        for (had, heard, length, want) in [
            (tokens(&["a", "bc", "d"]), 0, 4, tokens(&["a", "bc", "d"])),
            (tokens(&["a", "bc", "d"]), 1, 4, tokens(&["bc", "d"])),
            (tokens(&["a", "bc", "d"]), 2, 4, tokens(&["d"])),
            (tokens(&["a", "bc", "d"]), 4, 4, tokens(&[])),
            // Not the tokens of this text.
            (tokens(&["a", "bc", "d"]), 1, 5, tokens(&[])),
        ] {
            let mut in_a_response = had.clone();
            forget(&mut in_a_response, heard, length);
            assert_eq!(in_a_response, want, "{heard} of {had}");
            let mut in_a_chat = json!({"content": had, "refusal": null});
            forget(&mut in_a_chat, heard, length);
            assert_eq!(in_a_chat, json!({"content": want, "refusal": null}), "{heard} of {had}");
        }
        let mut parts_of_a_letter = json!([{"token": "a", "bytes": [97]}, {"token": "\\xc3", "bytes": [195]}, {"token": "\\xa9", "bytes": [169]}]);
        forget(&mut parts_of_a_letter, 1, 3);
        assert_eq!(parts_of_a_letter[0]["bytes"], json!([195]));
        let mut in_a_completion = json!({"tokens": ["a", "b"], "token_logprobs": [-1, -2], "top_logprobs": null, "text_offset": [0, 1]});
        forget(&mut in_a_completion, 1, 2);
        assert_eq!(
            in_a_completion,
            json!({"tokens": ["b"], "token_logprobs": [-2], "top_logprobs": null, "text_offset": [1]})
        );
        let mut none = Value::Null;
        forget(&mut none, 1, 2);
        assert_eq!(none, Value::Null);
    }
}
