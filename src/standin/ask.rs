//! What does a request want from the stand-in?
//!
//! The path says which call it is, the JSON body which model, whether a stream, and whether the
//! last message is the assistant's (a prefill). Only these fields are read; a 5 MB prompt is
//! skipped over, not built up. A body that is no JSON object asks for nothing: the answer is then
//! whole and names no model.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::base::api::{Api, ErrorShape};
use crate::base::percent;

/// What a request calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A call with an answer of its own shape.
    Api(Api),
    /// `GET /models` or `GET /models/{id}`.
    Models(Option<String>),
    /// Everything else.
    Other,
}

/// A request, reduced to what shapes the answer.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) call: Call,
    pub(super) shape: ErrorShape,
    pub(super) model: String,
    pub(super) is_streamed: bool,
    pub(super) wants_usage: bool,
    pub(super) wants_base64: bool,
    pub(super) inputs: usize,
    /// Text of a last message that is the assistant's.
    pub(super) prefill: Option<String>,
}

#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(borrow, default)]
    encoding_format: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    contents: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "parts")]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl Ask {
    /// Reads a request.
    pub(super) fn read(method: &str, target: &str, body: &[u8], is_anthropic: bool) -> Ask {
        let path = target.split('?').next().unwrap_or_default().trim_end_matches('/');
        let call = call_of(method, path);
        let fields: Fields<'_> = serde_json::from_slice(body).unwrap_or_default();
        let in_path = model_in(path);
        let says_path = [":streamGenerateContent", ":streamRawPredict", "/converse-stream"];
        // Who says nothing to Ollama gets a stream.
        let is_default = call == Call::Api(Api::OllamaChat);
        Ask {
            shape: match &call {
                Call::Api(api) => api.dialect().error_shape(),
                Call::Models(_) | Call::Other if is_anthropic => ErrorShape::Anthropic,
                Call::Models(_) | Call::Other => ErrorShape::OpenAi,
            },
            model: in_path.or(fields.model.map(Cow::into_owned)).unwrap_or_default(),
            is_streamed: fields.stream.unwrap_or(is_default)
                || says_path.iter().any(|ending| path.ends_with(ending)),
            wants_usage: fields.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
            wants_base64: fields.encoding_format.as_deref() == Some("base64"),
            inputs: fields.input.map_or(1, count_inputs),
            prefill: fields
                .messages
                .or(fields.input)
                .or(fields.contents)
                .and_then(last_words_of_the_assistant),
            call,
        }
    }
}

fn call_of(method: &str, path: &str) -> Call {
    if method == "GET" {
        if path.ends_with("/models") {
            return Call::Models(None);
        }
        return match path.split_once("/models/") {
            Some((_, id)) => Call::Models(Some(id.to_owned())),
            None => Call::Other,
        };
    }
    let by_suffix = [
        ("/chat/completions", Api::ChatCompletions),
        ("/completions", Api::Completions),
        ("/embeddings", Api::Embeddings),
        ("/responses", Api::Responses),
        ("/messages/count_tokens", Api::CountTokens),
        ("/messages", Api::Messages),
        (":generateContent", Api::GenerateContent),
        (":streamGenerateContent", Api::GenerateContent),
        (":rawPredict", Api::Messages),
        (":streamRawPredict", Api::Messages),
        ("/converse", Api::Converse),
        ("/converse-stream", Api::Converse),
        ("/v2/chat", Api::CohereChat),
        ("/api/chat", Api::OllamaChat),
        ("/api/generate", Api::Generate),
    ];
    by_suffix
        .into_iter()
        .find(|(suffix, _)| path.ends_with(suffix))
        .map_or(Call::Other, |(_, api)| Call::Api(api))
}

/// The model that a path of Google's or of Bedrock's carries.
fn model_in(path: &str) -> Option<String> {
    if let Some((_, last)) = path.rsplit_once("/models/") {
        let (model, _verb) = last.rsplit_once(':')?;
        return Some(model.to_owned());
    }
    let (_, last) = path.rsplit_once("/model/")?;
    let (model, _verb) = last.rsplit_once('/')?;
    percent::decode_utf8(model).map(Cow::into_owned)
}

/// Counts the vectors that an `input` asks for: one for a text or a list of token numbers.
fn count_inputs(input: &RawValue) -> usize {
    let text = input.get();
    let Some(inside) = text.strip_prefix('[') else { return 1 };
    if inside.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
        return 1;
    }
    serde_json::from_str::<Vec<IgnoredAny>>(text).map_or(1, |list| list.len())
}

fn last_words_of_the_assistant(messages: &RawValue) -> Option<String> {
    // Cheap way out for long conversations without an assistant, whom Gemini calls the model.
    let has = |word: &str| memchr::memmem::find(messages.get().as_bytes(), word.as_bytes()).is_some();
    if !has("assistant") && !has("model") {
        return None;
    }
    let messages: Vec<Message<'_>> = serde_json::from_str(messages.get()).ok()?;
    let last = messages.last().filter(|last| matches!(last.role.as_deref(), Some("assistant" | "model")))?;
    match serde_json::from_str(last.content?.get()).ok()? {
        Content::Text(text) => Some(text),
        Content::Parts(parts) => Some(parts.into_iter().map(|part| part.text).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_says_which_call_it_is() {
        let table = [
            ("POST", "/v1/chat/completions", Call::Api(Api::ChatCompletions)),
            ("POST", "/openai/v1/chat/completions/?x=1", Call::Api(Api::ChatCompletions)),
            ("POST", "/v1/completions", Call::Api(Api::Completions)),
            ("POST", "/v1/messages?beta=true", Call::Api(Api::Messages)),
            ("POST", "/v1/messages/count_tokens", Call::Api(Api::CountTokens)),
            ("POST", "/v1beta/models/gemini-x:generateContent", Call::Api(Api::GenerateContent)),
            ("POST", "/v1/projects/p/publishers/anthropic/models/c@1:rawPredict", Call::Api(Api::Messages)),
            ("POST", "/model/a%3A0/converse-stream", Call::Api(Api::Converse)),
            ("POST", "/v2/chat", Call::Api(Api::CohereChat)),
            ("POST", "/api/chat", Call::Api(Api::OllamaChat)),
            ("POST", "/api/generate", Call::Api(Api::Generate)),
            ("GET", "/v1/models", Call::Models(None)),
            ("GET", "/v1/models/a/b", Call::Models(Some("a/b".to_owned()))),
            ("POST", "/v1/files", Call::Other),
            ("GET", "/", Call::Other),
        ];
        for (method, target, call) in table {
            assert_eq!(Ask::read(method, target, b"", false).call, call, "{method} {target}");
        }
        let bedrock = Ask::read("POST", "/model/a%3A0/converse-stream", b"{}", false);
        assert_eq!((&*bedrock.model, bedrock.is_streamed), ("a:0", true));
    }

    #[test]
    fn a_prefill_is_the_text_of_a_last_assistant_message_only() {
        let table = [
            (
                r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"so far"}]}"#,
                Some("so far"),
            ),
            (
                r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"so "},{"type":"text","text":"far"}]}]}"#,
                Some("so far"),
            ),
            (r#"{"input":[{"role":"assistant","content":"so far"}]}"#, Some("so far")),
            (r#"{"contents":[{"role":"model","parts":[{"text":"so far"}]}]}"#, Some("so far")),
            (r#"{"messages":[{"role":"assistant","content":"a"},{"role":"user","content":"q"}]}"#, None),
            (r#"{"messages":[{"role":"user","content":"assistant"}]}"#, None),
            (r#"{"messages":[{"role":"assistant","content":null}]}"#, None),
            (r#"{"messages":"#, None),
        ];
        for (body, expected) in table {
            let ask = Ask::read("POST", "/v1/chat/completions", body.as_bytes(), false);
            assert_eq!(ask.prefill.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn inputs_are_counted_as_vectors() {
        let table = [
            (r#"{"input":"a"}"#, 1),
            (r#"{"input":["a","b"]}"#, 2),
            (r#"{"input":[1,2,3]}"#, 1),
            (r#"{"input":[[1],[2]]}"#, 2),
            (r"{}", 1),
        ];
        for (body, expected) in table {
            assert_eq!(
                Ask::read("POST", "/v1/embeddings", body.as_bytes(), false).inputs,
                expected,
                "{body}"
            );
        }
    }
}
