//! Recorded provider traffic for whoever reads all of it.
//!
//! It lies beside the project and is no part of it; where it is absent, [`successes`] says so and
//! gives nothing. An exchange is a success when it was answered with 200 and nobody who collected
//! it found an error inside. What a recording says is read here without the library.

use crate::translate::{Said, hear_answer, hear_stream, others, words};
use crate::translate_clouds;
use bytes::Bytes;
use pointsman::base::api::Dialect;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// One exchange that went well.
pub struct Recording {
    pub id: String,
    pub provider: String,
    pub api: String,
    /// The wire format; none where it is not one of ours.
    pub dialect: Option<Dialect>,
    pub is_stream: bool,
    pub path: String,
    pub content_type: String,
    pub request: Option<Value>,
    pub body: Bytes,
}

/// Why an answer ended, in words that all dialects share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stop,
    Length,
    Tools,
    Filter,
    /// No more is said than that something went wrong.
    Other,
}

impl End {
    pub fn as_word(self) -> &'static str {
        match self {
            End::Stop => "stop",
            End::Length => "length",
            End::Tools => "tools",
            End::Filter => "filter",
            End::Other => "other",
        }
    }
}

/// Reads every success; empty where there is no recorded traffic, which is said.
pub fn successes() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/corpus/exchanges", "../../shared/corpus/exchanges"];
    let Some(folder) = places.iter().map(|place| root.join(place)).find(|place| place.is_dir()) else {
        crate::process::skip("no recorded traffic at ../shared/corpus; nothing was compared with it");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().filter_map(|file| success(&fs::read(file).unwrap())).collect()
}

fn success(text: &[u8]) -> Option<Recording> {
    let value: Value = serde_json::from_slice(text).unwrap();
    let (request, response) = (&value["request"], &value["response"]);
    let is_error = |feature: &Value| words(feature).starts_with("error");
    if response["status"] != 200 || value["features"].as_array().unwrap().iter().any(is_error) {
        return None;
    }
    let (api, is_stream) = (words(&value["api"]), value["streaming"] == true);
    let asked = &request["body_json"];
    let is_real = asked.is_object() && asked.get("_prompt_excerpt").is_none();
    let usual = if is_stream { "text/event-stream" } else { "application/json" };
    let body = words(&response["body"]);
    Some(Recording {
        id: words(&value["id"]).to_owned(),
        provider: words(&value["provider"]).to_owned(),
        api: api.to_owned(),
        dialect: dialect(api),
        is_stream,
        path: words(&request["path"]).to_owned(),
        content_type: response["headers"]["content-type"].as_str().unwrap_or(usual).to_owned(),
        request: is_real.then(|| asked.clone()),
        body: if response["body_encoding"] == "base64" {
            translate_clouds::of_base64(body).into()
        } else {
            Bytes::copy_from_slice(body.as_bytes())
        },
    })
}

fn dialect(api: &str) -> Option<Dialect> {
    Some(match api {
        "openai.chat" => Dialect::OpenAiChat,
        "openai.completions" => Dialect::OpenAiCompletions,
        "openai.embeddings" => Dialect::OpenAiEmbeddings,
        "openai.responses" => Dialect::OpenAiResponses,
        "anthropic.messages" => Dialect::AnthropicMessages,
        "gemini.generateContent" | "gemini.streamGenerateContent" => Dialect::GeminiGenerate,
        "bedrock.converse" | "bedrock.converseStream" if cfg!(feature = "bedrock") => {
            Dialect::BedrockConverse
        }
        "cohere.chat.v2" => Dialect::CohereChat,
        "ollama.chat" => Dialect::OllamaChat,
        _ => return None,
    })
}

/// Tells what an answer of a conversation says.
pub fn said(dialect: Dialect, is_stream: bool, body: &[u8]) -> Said {
    let json = || serde_json::from_slice::<Value>(body).unwrap();
    let text = || std::str::from_utf8(body).unwrap();
    match dialect {
        Dialect::OpenAiChat | Dialect::AnthropicMessages if is_stream => hear_stream(dialect, text()),
        Dialect::OpenAiChat | Dialect::AnthropicMessages => hear_answer(dialect, &json()),
        Dialect::OpenAiResponses | Dialect::GeminiGenerate if is_stream => {
            others::hear_events(dialect, text())
        }
        Dialect::OpenAiResponses | Dialect::GeminiGenerate => others::hear(dialect, &json()),
        Dialect::BedrockConverse | Dialect::CohereChat | Dialect::OllamaChat if is_stream => {
            translate_clouds::hear_events(dialect, body)
        }
        Dialect::BedrockConverse | Dialect::CohereChat | Dialect::OllamaChat => {
            translate_clouds::hear_whole(dialect, &json())
        }
        Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings | Dialect::GenerateBridge => {
            panic!("{dialect:?} is no conversation")
        }
    }
}

/// The events of a stream, or the one document of an answer.
pub fn documents(dialect: Dialect, is_stream: bool, body: &[u8]) -> Vec<Value> {
    match dialect {
        _ if !is_stream => vec![serde_json::from_slice(body).unwrap()],
        Dialect::BedrockConverse | Dialect::CohereChat | Dialect::OllamaChat => {
            translate_clouds::events(dialect, body).into_iter().map(|(_, event)| event).collect()
        }
        Dialect::OpenAiChat
        | Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::OpenAiResponses
        | Dialect::AnthropicMessages
        | Dialect::GeminiGenerate
        | Dialect::GenerateBridge => crate::translate::events(std::str::from_utf8(body).unwrap()),
    }
}

/// Tells why an answer ended: the last reason of its first choice. A call of a tool makes `stop`
/// an end with tools, and none makes it none, whatever the provider calls it.
pub fn end(dialect: Dialect, is_stream: bool, body: &[u8], has_calls: bool) -> End {
    let reasons = ["/choices/0/finish_reason", "/candidates/0/finishReason"];
    let more =
        ["/stop_reason", "/delta/stop_reason", "/stopReason", "/finish_reason", "/delta/finish_reason"];
    let responses = ["/response/incomplete_details/reason", "/incomplete_details/reason", "/done_reason"];
    let statuses = ["/response/status", "/status"];
    let places = [&reasons[..], &more[..], &responses[..], &statuses[..]].concat();
    let told = |document: &Value| -> Option<String> {
        let told = places.iter().filter_map(|place| document.pointer(place).and_then(Value::as_str));
        told.map(str::to_owned).find(|reason| !reason.is_empty() && reason != "in_progress")
    };
    let documents = documents(dialect, is_stream, body);
    // The status of responses' items is not that of the response.
    let is_end = |document: &&Value| {
        dialect != Dialect::OpenAiResponses || !is_stream || document.get("response").is_some()
    };
    // Whatever it blocked the prompt for.
    if documents.iter().any(|document| document.pointer("/promptFeedback/blockReason").is_some()) {
        return End::Filter;
    }
    let reason = documents.iter().filter(is_end).filter_map(told).next_back().unwrap_or_default();
    let end = match reason.as_str() {
        // Snowflake and others leave it empty.
        "" | "stop" | "end_turn" | "STOP" | "COMPLETE" | "completed" | "eos" | "stop_sequence"
        | "STOP_SEQUENCE" => End::Stop,
        "length" | "max_tokens" | "MAX_TOKENS" | "max_output_tokens" => End::Length,
        "tool_calls" | "tool_use" | "TOOL_CALL" | "function_call" => End::Tools,
        "content_filter"
        | "refusal"
        | "SAFETY"
        | "PROHIBITED_CONTENT"
        | "content_filtered"
        | "guardrail_intervened" => End::Filter,
        _ => End::Other,
    };
    match end {
        End::Stop if documents.iter().any(|document| refuses(dialect, document)) => End::Filter,
        End::Stop if has_calls => End::Tools,
        End::Tools if !has_calls => End::Stop,
        end => end,
    }
}

/// Tells whether a document holds a refusal, which is a part in OpenAI's dialects and the reason to
/// stop in others.
fn refuses(dialect: Dialect, document: &Value) -> bool {
    let says =
        |place: &str| document.pointer(place).and_then(Value::as_str).is_some_and(|said| !said.is_empty());
    match dialect {
        Dialect::OpenAiChat => says("/choices/0/message/refusal") || says("/choices/0/delta/refusal"),
        Dialect::OpenAiResponses => {
            let output = document.pointer("/response/output").or_else(|| document.get("output"));
            let items = output.and_then(Value::as_array).into_iter().flatten();
            let mut parts = items.filter_map(|item| item["content"].as_array()).flatten();
            parts.any(|part| part["type"] == "refusal")
        }
        _ => false,
    }
}

/// Cuts bytes at places that are the same for the same recording.
pub fn cut(recording: &Recording, mean: usize) -> Vec<Bytes> {
    let seed = recording.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    crate::translate::cut(&recording.body, seed, mean)
}
