//! The body for a target.
//!
//! The model's name is put in the place of the client's, absent defaults are appended before the
//! closing brace (of the whole, or of the member that they stand in, see [`super::place`]), every
//! other byte stays. Where copying would cost more than another write, the result is slices of the
//! client's own bytes with the new text between them, so that a 20 MB upload is never copied for an
//! attempt: above 64 KiB, and above 16 KiB where nearly all of it comes last, because what is
//! short goes out in one write with what follows.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::place::{Place, place, value};
use crate::base::api::Api;
use crate::wire::json::{Broken, Scan};
use crate::wire::request::Parsed;

/// Largest body that is put together in one piece; copying this much costs less than another
/// write. 64 KiB, Pingora's own unit of body I/O.
pub const ONE_PIECE_MAX: usize = 64 * 1024;

/// The same, where no more than [`LEAD_MAX`] stands before the last piece.
const ONE_PIECE_MAX_BEHIND_A_LEAD: usize = 16 * 1024;

/// Bytes that wait for the long piece behind them and go out with it.
const LEAD_MAX: usize = 4 * 1024;

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
    let mut edits: SmallVec<[(Range<usize>, String); 3]> = SmallVec::new();
    if let (Some(span), false) = (&parsed.model_span, keeps_model) {
        edits.push((span.clone(), quoted(model)));
    }
    if !defaults.is_empty() || (parsed.model_span.is_none() && !keeps_model) {
        let added = Added::of(original, parsed, model, defaults, keeps_model);
        edits.extend(added.inside);
        if !added.at_the_top.is_empty() {
            edits.push((parsed.close..parsed.close, added.at_the_top));
        }
    }
    if edits.is_empty() {
        return Rewritten { pieces: SmallVec::from_iter([original.clone()]), len: original.len() };
    }
    edits.sort_by_key(|(range, _)| range.start);
    edited(original, edits)
}

/// Puts texts in the place of ranges, which come in order.
fn edited(original: &Bytes, edits: SmallVec<[(Range<usize>, String); 3]>) -> Rewritten {
    let mut pieces: SmallVec<[Cow<'_, [u8]>; 8]> = SmallVec::new();
    let mut from = 0;
    for (range, text) in edits {
        pieces.push(Cow::Borrowed(original.get(from..range.start).unwrap_or_default()));
        pieces.push(Cow::Owned(text.into_bytes()));
        from = range.end;
    }
    pieces.push(Cow::Borrowed(original.get(from..).unwrap_or_default()));
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let lead = len - pieces.last().map_or(0, |piece| piece.len());
    let one_piece_max = if lead <= LEAD_MAX { ONE_PIECE_MAX_BEHIND_A_LEAD } else { ONE_PIECE_MAX };
    let pieces = if original.len() <= one_piece_max {
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

/// Members to add, with their commas.
struct Added {
    /// Before the closing brace of the whole.
    at_the_top: String,
    /// Before the closing brace of a member that the client sent.
    inside: Option<(Range<usize>, String)>,
}

impl Added {
    fn of(
        original: &[u8],
        parsed: &Parsed,
        model: &str,
        defaults: &[(String, String)],
        keeps_model: bool,
    ) -> Added {
        let mut top = Members::new(!parsed.is_empty);
        if parsed.model_span.is_none() && !keeps_model {
            top.add("model", &quoted(model));
        }
        let has_limit = LENGTH_LIMITS.iter().any(|name| parsed.has(original, name));
        let mut set_limit = false;
        let mut nested: SmallVec<[(&'static str, Place<'_>, Cow<'_, str>); 4]> = SmallVec::new();
        for (name, json) in defaults {
            let is_limit = is_length_limit(name);
            let is_there =
                parsed.has(original, name) || name == "model" || (is_limit && (has_limit || set_limit));
            let Some(place) = place(parsed.api, name).filter(|_| !is_there) else { continue };
            if place.container.is_none() && place.name != name && parsed.has(original, place.name) {
                continue;
            }
            set_limit |= is_limit;
            match place.container {
                None => top.add(place.name, &value(&place, json)),
                Some(container) => nested.push((container, place, value(&place, json))),
            }
        }
        let Some((container, ..)) = nested.first() else {
            return Added { at_the_top: top.text, inside: None };
        };
        match Container::find(original, parsed, container) {
            Found::Object(known) => {
                let mut members = Members::new(!known.names.is_empty());
                for (_, place, json) in &nested {
                    if !known.names.contains(&camel(place.name)) {
                        members.add(place.name, json);
                    }
                }
                let inside = (!members.text.is_empty()).then_some((known.close..known.close, members.text));
                Added { at_the_top: top.text, inside }
            }
            Found::Nothing => {
                let mut members = Members::new(false);
                nested.iter().for_each(|(_, place, json)| members.add(place.name, json));
                top.add(container, &format!("{{{}}}", members.text));
                Added { at_the_top: top.text, inside: None }
            }
            // What the client put there is the provider's to judge.
            Found::Other => Added { at_the_top: top.text, inside: None },
        }
    }
}

/// Members of an object under way.
struct Members {
    text: String,
    needs_comma: bool,
}

impl Members {
    fn new(needs_comma: bool) -> Self {
        Members { text: String::new(), needs_comma }
    }

    fn add(&mut self, name: &str, json: &str) {
        if std::mem::replace(&mut self.needs_comma, true) {
            self.text.push(',');
        }
        self.text.push_str(&quoted(name));
        self.text.push(':');
        self.text.push_str(json);
    }
}

/// An object inside the body.
struct Container {
    /// Where its closing brace lies.
    close: usize,
    /// Names of its members, spelt without underscores.
    names: Vec<String>,
}

enum Found {
    Object(Container),
    /// Something else has the name.
    Other,
    Nothing,
}

impl Container {
    /// Finds a member, also where it is spelt with underscores, which Google takes as well.
    fn find(original: &[u8], parsed: &Parsed, container: &str) -> Found {
        let is_it = |range: &Range<usize>| {
            let key = original.get(range.clone()).unwrap_or_default();
            let name = Scan::new(key).text().ok().flatten().map(|name| name.text().into_owned());
            name.is_some_and(|name| camel(&name) == container)
        };
        let Some(key) = parsed.keys.iter().map(|key| key.range()).find(is_it) else { return Found::Nothing };
        let Some(rest) = original.get(key.end..) else { return Found::Other };
        let Some(colon) = memchr::memchr(b':', rest) else { return Found::Other };
        let from = key.end + colon + 1;
        let mut scan = Scan::new(original.get(from..).unwrap_or_default());
        if scan.peek() != Some(b'{') {
            return Found::Other;
        }
        let mut names = Vec::new();
        let read = scan.members::<Broken>(|scan, key| {
            names.push(camel(&key.text()));
            scan.skip().map(drop)
        });
        match read {
            Ok(_) => Found::Object(Container { close: from + scan.at().saturating_sub(1), names }),
            Err(_) => Found::Other,
        }
    }
}

/// Spells a name without underscores, as Google's JSON has it.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// Tells whether the call names its model in the body.
fn names_model(api: Api) -> bool {
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::Embeddings
        | Api::Responses
        | Api::Messages
        | Api::CountTokens
        | Api::CohereChat
        | Api::OllamaChat
        | Api::Generate => true,
        Api::GenerateContent | Api::Converse => false,
    }
}

fn quoted(text: &str) -> String {
    // Text can always be written.
    serde_json::to_string(text).unwrap_or_default()
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
    fn a_default_that_stands_in_a_member_goes_into_the_one_that_is_there() {
        let defaults = [("temperature", "0.3"), ("max_tokens", "9"), ("response_format", "{}"), ("x", "1")];
        for (api, text, want) in [
            (
                Api::GenerateContent,
                r#"{"contents":[]}"#,
                r#"{"contents":[],"x":1,"generationConfig":{"temperature":0.3,"maxOutputTokens":9}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"generationConfig": {"temperature": 1 }, "contents":[]}"#,
                r#"{"generationConfig": {"temperature": 1 ,"maxOutputTokens":9}, "contents":[],"x":1}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"generation_config" : {"max_output_tokens":1}}"#,
                r#"{"generation_config" : {"max_output_tokens":1,"temperature":0.3},"x":1}"#,
            ),
            (Api::GenerateContent, r#"{"generationConfig":null}"#, r#"{"generationConfig":null,"x":1}"#),
            (
                Api::Converse,
                r#"{"inferenceConfig":{}}"#,
                r#"{"inferenceConfig":{"temperature":0.3,"maxTokens":9},"x":1}"#,
            ),
            (
                Api::OllamaChat,
                r#"{"model":"b","options":{"num_predict":2,"a":1}}"#,
                r#"{"model":"b","options":{"num_predict":2,"a":1,"temperature":0.3},"x":1}"#,
            ),
            (Api::CohereChat, r#"{"model":"a"}"#, r#"{"model":"b","temperature":0.3,"max_tokens":9,"x":1}"#),
        ] {
            assert_eq!(rewrite(api, text, "b", &defaults), want, "{api:?} {text}");
        }
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

    #[test]
    fn a_long_body_that_comes_last_is_not_copied() {
        let long = "x".repeat(ONE_PIECE_MAX_BEHIND_A_LEAD);
        for (text, pieces) in [
            (format!(r#"{{"model":"m","a":"{long}"}}"#), 3),
            (format!(r#"{{"a":"{long}","model":"m"}}"#), 1),
            (r#"{"model":"m","a":"short"}"#.to_owned(), 1),
        ] {
            let original = Bytes::from(text.clone());
            let parsed = parse::body(Api::ChatCompletions, &original).unwrap();
            let rewritten = body(&original, &parsed, "other", &[]);
            assert_eq!(rewritten.pieces.len(), pieces, "{} bytes", text.len());
            assert_eq!(rewritten.pieces.concat(), text.replace("\"m\"", "\"other\"").as_bytes());
        }
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
