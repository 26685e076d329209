//! The body for a target.
//!
//! The model's name is put in the place of the client's, absent defaults are appended before the
//! closing brace, every other byte stays. Up to 64 KiB the result is one piece; above, it is
//! slices of the client's own bytes with the new text between them, so that a 20 MB upload is
//! never copied for an attempt.

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::base::api::Api;
use crate::wire::request::Parsed;

/// Largest body that is put together in one piece; copying this much costs less than another
/// write. 64 KiB, Pingora's own unit of body I/O.
pub const ONE_PIECE_MAX: usize = 64 * 1024;

/// A body as it goes to a provider.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    /// Pieces to send, in order.
    pub pieces: SmallVec<[Bytes; 4]>,
    /// Length of all pieces together.
    pub len: usize,
}

/// The names under which the dialects limit the answer's length; one is enough.
pub(super) const LENGTH_LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// Tells whether a member of this name limits the answer's length.
#[must_use]
pub fn is_length_limit(name: &str) -> bool {
    LENGTH_LIMITS.contains(&name)
}

/// Writes the body for a target: its model's name instead of the client's (added where the client
/// sent none), and the defaults for members that the client did not send. `original` is the body
/// that was parsed.
#[must_use]
pub fn body(original: &Bytes, parsed: &Parsed, model: &str, defaults: &[(String, String)]) -> Rewritten {
    let keeps_model = parsed.model.as_deref() == Some(model) || !names_model(parsed.api);
    let added = added_members(original, parsed, model, defaults, keeps_model);
    let mut pieces: SmallVec<[Cow<'_, [u8]>; 4]> = SmallVec::new();
    let mut from = 0;
    if let (Some(span), false) = (&parsed.model_span, keeps_model) {
        pieces.push(Cow::Borrowed(original.get(..span.start).unwrap_or_default()));
        pieces.push(Cow::Owned(quoted(model).into_bytes()));
        from = span.end;
    }
    if !added.is_empty() {
        pieces.push(Cow::Borrowed(original.get(from..parsed.close).unwrap_or_default()));
        pieces.push(Cow::Owned(added.into_bytes()));
        from = parsed.close;
    }
    pieces.push(Cow::Borrowed(original.get(from..).unwrap_or_default()));
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let pieces = if pieces.len() == 1 {
        SmallVec::from_iter([original.clone()])
    } else if original.len() <= ONE_PIECE_MAX {
        SmallVec::from_iter([Bytes::from(pieces.concat())])
    } else {
        let piece = |piece| match piece {
            Cow::Borrowed(slice) => original.slice_ref(slice),
            Cow::Owned(text) => Bytes::from(text),
        };
        pieces.into_iter().map(piece).collect()
    };
    Rewritten { pieces, len }
}

/// Writes the members to append, with their commas.
fn added_members(
    original: &[u8],
    parsed: &Parsed,
    model: &str,
    defaults: &[(String, String)],
    keeps_model: bool,
) -> String {
    let mut added = String::new();
    if defaults.is_empty() && (parsed.model_span.is_some() || keeps_model) {
        return added;
    }
    let mut add = |name: &str, json: &str| {
        if !added.is_empty() || !parsed.is_empty {
            added.push(',');
        }
        added.push_str(&quoted(name));
        added.push(':');
        added.push_str(json);
    };
    if parsed.model_span.is_none() && !keeps_model {
        add("model", &quoted(model));
    }
    let has_limit = LENGTH_LIMITS.iter().any(|name| parsed.has(original, name));
    let mut set_limit = false;
    for (name, json) in defaults {
        let is_limit = LENGTH_LIMITS.contains(&name.as_str());
        let is_there =
            parsed.has(original, name) || name == "model" || (is_limit && (has_limit || set_limit));
        if is_there || !takes_default(parsed.api, name) {
            continue;
        }
        set_limit |= is_limit;
        add(if is_limit { length_limit(parsed.api, name) } else { name }, json);
    }
    added
}

/// Tells whether the call names its model in the body.
fn names_model(api: Api) -> bool {
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::Embeddings
        | Api::Responses
        | Api::Messages
        | Api::CountTokens => true,
        Api::GenerateContent => false,
    }
}

/// Tells whether a default may be set in this call. A route serves every call that its providers
/// speak, and providers refuse members they do not know: embeddings and token counts take none of
/// the members that steer generation.
fn takes_default(api: Api, name: &str) -> bool {
    let steers_generation = LENGTH_LIMITS.contains(&name)
        || matches!(
            name,
            "temperature"
                | "top_p"
                | "top_k"
                | "min_p"
                | "stop"
                | "stop_sequences"
                | "presence_penalty"
                | "frequency_penalty"
                | "repetition_penalty"
                | "seed"
                | "n"
                | "logprobs"
                | "top_logprobs"
                | "stream"
                | "stream_options"
                | "reasoning_effort"
                | "response_format"
                | "service_tier"
        );
    match api {
        Api::Embeddings | Api::CountTokens => !steers_generation,
        Api::ChatCompletions | Api::Completions | Api::Responses | Api::Messages | Api::GenerateContent => {
            true
        }
    }
}

/// Returns the name that the call has for a limit of the answer's length.
fn length_limit(api: Api, name: &str) -> &str {
    match api {
        Api::Responses => "max_output_tokens",
        Api::Messages | Api::Completions => "max_tokens",
        Api::ChatCompletions if name == "max_output_tokens" => "max_completion_tokens",
        Api::ChatCompletions | Api::Embeddings | Api::CountTokens | Api::GenerateContent => name,
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use proptest::prelude::*;

    fn rewrite(api: Api, text: &str, model: &str, defaults: &[(&str, &str)]) -> String {
        let original = Bytes::copy_from_slice(text.as_bytes());
        let parsed = parse::body(api, &original).unwrap();
        let defaults: Vec<_> = defaults.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let rewritten = body(&original, &parsed, model, &defaults);
        let text = rewritten.pieces.concat();
        assert_eq!(text.len(), rewritten.len);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_model_is_spliced_and_absent_defaults_are_appended() {
        let temperature = [("temperature", "0.3")];
        for (text, model, defaults, want) in [
            (r#"{"model":"a","x":[1, 2]}"#, "b", vec![], r#"{"model":"b","x":[1, 2]}"#),
            (r#"{"model":"a"}"#, "a", vec![], r#"{"model":"a"}"#),
            (
                "{\"x\" : 1, \"mod\\u0065l\" :\t\"a\" }\n",
                "q\"\\",
                vec![],
                "{\"x\" : 1, \"mod\\u0065l\" :\t\"q\\\"\\\\\" }\n",
            ),
            (r#"{"model":null}"#, "b", vec![], r#"{"model":"b"}"#),
            (r#"{"x":1}"#, "b", vec![], r#"{"x":1,"model":"b"}"#),
            (" { } ", "b", temperature.to_vec(), " { \"model\":\"b\",\"temperature\":0.3} "),
            (
                r#"{"model":"a","temperature":1}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","temperature":1}"#,
            ),
            (
                r#"{"model":"a","temperature":null}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","temperature":null}"#,
            ),
            (
                r#"{"model":"a","t\u0065mperature":1}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","t\u0065mperature":1}"#,
            ),
            (
                r#"{"model":"a","m":{"temperature":1}}"#,
                "a",
                temperature.to_vec(),
                r#"{"model":"a","m":{"temperature":1},"temperature":0.3}"#,
            ),
            (
                r#"{"model":"a","max_completion_tokens":5}"#,
                "a",
                vec![("max_tokens", "9")],
                r#"{"model":"a","max_completion_tokens":5}"#,
            ),
            (
                r#"{"model":"a"}"#,
                "b",
                vec![("max_tokens", "9"), ("model", "\"x\"")],
                r#"{"model":"b","max_tokens":9}"#,
            ),
        ] {
            assert_eq!(rewrite(Api::ChatCompletions, text, model, &defaults), want, "{text}");
        }
    }

    #[test]
    fn a_default_goes_only_where_the_call_takes_it_and_under_its_own_name() {
        let defaults = [("temperature", "0.3"), ("max_tokens", "9")];
        for (api, want) in [
            (Api::Responses, r#"{"model":"a","temperature":0.3,"max_output_tokens":9}"#),
            (Api::Messages, r#"{"model":"a","temperature":0.3,"max_tokens":9}"#),
            (Api::Embeddings, r#"{"model":"a"}"#),
            (Api::CountTokens, r#"{"model":"a"}"#),
        ] {
            assert_eq!(rewrite(api, r#"{"model":"a"}"#, "a", &defaults), want, "{api:?}");
        }
        assert_eq!(rewrite(Api::GenerateContent, r#"{"a":1}"#, "b", &[]), r#"{"a":1}"#, "the path names it");
    }

    #[test]
    fn a_large_body_is_sliced_and_an_unchanged_one_is_the_client_s_own() {
        let text = format!(r#"{{"a":"{}","model":"m","b":1}}"#, "x".repeat(2 * ONE_PIECE_MAX));
        let original = Bytes::from(text.clone());
        let parsed = parse::body(Api::ChatCompletions, &original).unwrap();
        let rewritten = body(&original, &parsed, "other", &[("top_p".to_owned(), "1".to_owned())]);
        assert_eq!(rewritten.pieces.len(), 5);
        assert_eq!(rewritten.pieces[0].as_ptr(), original.as_ptr(), "not copied");
        let want = text.replace("\"m\"", "\"other\"").replace("1}", "1,\"top_p\":1}");
        assert_eq!(rewritten.pieces.concat(), want.as_bytes());
        let same = body(&original, &parsed, "m", &[]);
        assert_eq!((same.pieces.len(), same.pieces[0].as_ptr()), (1, original.as_ptr()));
    }

    proptest! {
        #[test]
        fn a_rewritten_body_differs_in_nothing_but_model_and_defaults(
            prompt in ".*", client_model in prop::option::of("[a-z\"\\\\]{0,8}"), model in ".{1,20}", pad in prop::bool::ANY
        ) {
            let mut value = serde_json::json!({"messages": [{"content": prompt}]});
            if pad { value["pad"] = "x".repeat(ONE_PIECE_MAX).into(); }
            if let Some(name) = client_model { value["model"] = name.into(); }
            let text = rewrite(Api::ChatCompletions, &value.to_string(), &model, &[("seed", "7")]);
            value["model"] = model.into();
            value["seed"] = 7.into();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }
}
