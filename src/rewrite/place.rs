//! Where does a value that the operator sets stand in a call, and under which name?
//!
//! Routes and providers set values by the names of OpenAI's dialect (`temperature`, `max_tokens`);
//! each call has its own name for it, some inside a member of their own (Gemini's
//! `generationConfig`), some none at all: then it is not set, because providers refuse members that
//! they do not know. A name that steers no generation is the provider's own word and stands where
//! and as it is written.

use super::body::LENGTH_LIMITS;
use crate::base::api::Api;
use std::borrow::Cow;

/// Members that hold what steers the generation, in the calls that keep it in one.
pub(super) const CONTAINERS: [&str; 4] =
    ["generationConfig", "generation_config", "inferenceConfig", "options"];

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The member that it stands in; absent at the top.
    pub(super) container: Option<&'static str>,
    /// Its name there.
    pub(super) name: &'a str,
    /// Whether it is a list, also where one text is given.
    pub(super) is_list: bool,
}

impl<'a> Place<'a> {
    fn top(name: &'a str) -> Self {
        Place { container: None, name, is_list: false }
    }
}

/// Finds the place of a value; nothing where the call has none.
pub(super) fn place(api: Api, name: &str) -> Option<Place<'_>> {
    let is_limit = LENGTH_LIMITS.contains(&name);
    if !is_limit && !steers_generation(name) {
        return Some(Place::top(name));
    }
    match api {
        Api::ChatCompletions if name == "max_output_tokens" => Some(Place::top("max_completion_tokens")),
        Api::Responses if is_limit => Some(Place::top("max_output_tokens")),
        Api::Completions if is_limit => Some(Place::top("max_tokens")),
        Api::ChatCompletions | Api::Completions | Api::Responses => Some(Place::top(name)),
        Api::Messages => named(&MESSAGES, name),
        // Routes serve every call that their providers take, and these are steered by nothing.
        Api::Embeddings | Api::CountTokens => None,
        Api::GenerateContent => inside("generationConfig", &GEMINI, name),
        Api::Converse => inside("inferenceConfig", &CONVERSE, name),
        Api::OllamaChat => inside("options", &OLLAMA, name),
        Api::CohereChat => named(&COHERE, name),
        Api::Generate => named(&GENERATE, name),
    }
}

const MESSAGES: [(&str, &str); 8] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("max_tokens", "max_tokens"),
    ("stop", "stop_sequences"),
    ("stop_sequences", "stop_sequences"),
    ("stream", "stream"),
    ("service_tier", "service_tier"),
];
const GEMINI: [(&str, &str); 10] = [
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("max_tokens", "maxOutputTokens"),
    ("stop", "stopSequences"),
    ("stop_sequences", "stopSequences"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("seed", "seed"),
    ("n", "candidateCount"),
];
const CONVERSE: [(&str, &str); 5] = [
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("max_tokens", "maxTokens"),
    ("stop", "stopSequences"),
    ("stop_sequences", "stopSequences"),
];
const OLLAMA: [(&str, &str); 11] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("max_tokens", "num_predict"),
    ("stop", "stop"),
    ("stop_sequences", "stop"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("repetition_penalty", "repeat_penalty"),
    ("seed", "seed"),
];
const COHERE: [(&str, &str); 10] = [
    ("temperature", "temperature"),
    ("top_p", "p"),
    ("top_k", "k"),
    ("max_tokens", "max_tokens"),
    ("stop", "stop_sequences"),
    ("stop_sequences", "stop_sequences"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("seed", "seed"),
    ("logprobs", "logprobs"),
];
const GENERATE: [(&str, &str); 2] = [("temperature", "temperature"), ("max_tokens", "max_tokens")];

fn inside(container: &'static str, names: &[(&str, &'static str)], name: &str) -> Option<Place<'static>> {
    named(names, name).map(|place| Place { container: Some(container), ..place })
}

fn named(names: &[(&str, &'static str)], name: &str) -> Option<Place<'static>> {
    let name = if LENGTH_LIMITS.contains(&name) { "max_tokens" } else { name };
    let (_, own) = names.iter().find(|(known, _)| *known == name)?;
    Some(Place { container: None, name: own, is_list: name.starts_with("stop") })
}

/// Writes a value as its place wants it.
pub(super) fn value<'a>(place: &Place<'_>, json: &'a str) -> Cow<'a, str> {
    if place.is_list && json.trim_start().starts_with('"') {
        return Cow::Owned(format!("[{json}]"));
    }
    Cow::Borrowed(json)
}

fn steers_generation(name: &str) -> bool {
    matches!(
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
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_name_for_a_value_or_none() {
        for (api, name, want) in [
            (Api::ChatCompletions, "temperature", Some((None, "temperature"))),
            (Api::ChatCompletions, "max_output_tokens", Some((None, "max_completion_tokens"))),
            (Api::Responses, "max_tokens", Some((None, "max_output_tokens"))),
            (Api::Messages, "max_completion_tokens", Some((None, "max_tokens"))),
            (Api::Messages, "stop", Some((None, "stop_sequences"))),
            (Api::Messages, "seed", None),
            (Api::Messages, "reasoning_effort", None),
            (Api::Messages, "thinking", Some((None, "thinking"))),
            (Api::Embeddings, "temperature", None),
            (Api::Embeddings, "user", Some((None, "user"))),
            (
                Api::GenerateContent,
                "max_completion_tokens",
                Some((Some("generationConfig"), "maxOutputTokens")),
            ),
            (Api::GenerateContent, "response_format", None),
            (Api::GenerateContent, "safetySettings", Some((None, "safetySettings"))),
            (Api::Converse, "max_tokens", Some((Some("inferenceConfig"), "maxTokens"))),
            (Api::Converse, "seed", None),
            (Api::OllamaChat, "max_tokens", Some((Some("options"), "num_predict"))),
            (Api::OllamaChat, "keep_alive", Some((None, "keep_alive"))),
            (Api::CohereChat, "top_p", Some((None, "p"))),
            (Api::Generate, "top_p", None),
        ] {
            let got = place(api, name).map(|place| (place.container, place.name));
            assert_eq!(got, want, "{api:?} {name}");
        }
        let stop = place(Api::Converse, "stop").unwrap();
        assert_eq!(value(&stop, "\"END\""), "[\"END\"]");
        assert_eq!(value(&stop, "[\"a\"]"), "[\"a\"]");
    }
}
