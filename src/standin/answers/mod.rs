//! How does an answer look in each dialect?
//!
//! A [`Stream`] has an opening (events without content), content tokens, a closing (finish reason,
//! usage) and an end marker, so that faults can be placed between them; a whole answer is one
//! body. Shapes follow the providers' public API references; ids and dates are made up and
//! constant but for the request's number.

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;

use bytes::Bytes;

use super::ask::{Ask, Call};
use super::reply::{Refusal, Reply};
use crate::base::api::{Api, ErrorShape};

/// A streamed answer in its parts.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) opening: Vec<Bytes>,
    pub(super) tokens: Vec<Bytes>,
    pub(super) closing: Vec<Bytes>,
    pub(super) end_marker: Option<Bytes>,
}

/// The words of one answer: what is left to say, and under which names.
pub(super) struct Words<'a> {
    pub(super) ask: &'a Ask,
    /// Number of the request, for ids.
    pub(super) number: u64,
    pub(super) model: String,
    /// What is still to be said, without a prefilled beginning.
    pub(super) text: &'a str,
    /// The tool that is called behind the text: its name and the arguments as JSON.
    pub(super) tool: Option<(&'a str, &'a str)>,
    pub(super) finish_reason: Option<&'a str>,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl<'a> Words<'a> {
    pub(super) fn new(ask: &'a Ask, reply: &'a Reply, number: u64, text: &'a str) -> Words<'a> {
        let counted = u64::try_from(tokens(text).count()).unwrap_or(u64::MAX);
        let (input_tokens, output_tokens) = reply.usage.unwrap_or((9, counted));
        let model = reply.served_model.as_ref().unwrap_or(&ask.model).clone();
        let finish_reason = reply.finish_reason.as_deref();
        let tool = reply.tool.as_ref().map(|(name, arguments)| (name.as_str(), arguments.as_str()));
        Words { ask, number, model, text, tool, finish_reason, input_tokens, output_tokens }
    }
}

/// Splits a text into tokens, each but the first with its leading space.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let after_first = first.len_utf8();
        let end = rest.get(after_first..)?.find(' ').map_or(rest.len(), |at| at + after_first);
        let (token, left) = rest.split_at(end);
        rest = left;
        Some(token)
    })
}

/// Returns a text as a JSON string, quotes included.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Returns one event; `name` is left out where the dialect has none.
fn event(name: Option<&str>, data: &str) -> Bytes {
    match name {
        Some(name) => Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
        None => Bytes::from(format!("data: {data}\n\n")),
    }
}

/// Returns a whole healthy answer.
pub(super) fn whole(words: &Words<'_>) -> Bytes {
    let body = match &words.ask.call {
        Call::Api(Api::ChatCompletions) => openai::chat(words),
        Call::Api(Api::Completions) => openai::completion(words),
        Call::Api(Api::Embeddings) => openai::embeddings(words),
        Call::Api(Api::Responses) => openai::response(words, "completed"),
        Call::Api(Api::Messages) => anthropic::message(words),
        Call::Api(Api::CountTokens) => format!("{{\"input_tokens\":{}}}", words.input_tokens),
        Call::Api(Api::GenerateContent) => gemini::content(words),
        Call::Api(Api::Converse) => bedrock::message(words),
        Call::Api(Api::CohereChat) => cohere::message(words),
        Call::Api(Api::OllamaChat) => ollama::message(words),
        Call::Api(Api::Generate) => format!("{{\"response\":{}}}", quoted(words.text)),
        Call::Models(id) => models(words.ask.shape, id.as_deref()),
        Call::Other => "{\"object\":\"stand-in\",\"ok\":true}".to_owned(),
    };
    Bytes::from(body)
}

/// Returns a healthy stream, or nothing for calls that do not stream.
pub(super) fn stream(words: &Words<'_>) -> Option<Stream> {
    if !words.ask.is_streamed {
        return None;
    }
    match &words.ask.call {
        Call::Api(Api::ChatCompletions) => Some(openai::chat_stream(words)),
        Call::Api(Api::Completions) => Some(openai::completion_stream(words)),
        Call::Api(Api::Responses) => Some(openai::response_stream(words)),
        Call::Api(Api::Messages) => Some(anthropic::message_stream(words)),
        Call::Api(Api::GenerateContent) => Some(gemini::content_stream(words)),
        Call::Api(Api::Converse) => Some(bedrock::message_stream(words)),
        Call::Api(Api::CohereChat) => Some(cohere::message_stream(words)),
        Call::Api(Api::OllamaChat) => Some(ollama::message_stream(words)),
        Call::Api(Api::Embeddings | Api::CountTokens | Api::Generate) | Call::Models(_) | Call::Other => None,
    }
}

/// Returns the media type of a stream.
pub(super) fn media_type(ask: &Ask) -> &'static str {
    match &ask.call {
        Call::Api(Api::Converse) => "application/vnd.amazon.eventstream",
        Call::Api(Api::OllamaChat) => "application/x-ndjson",
        Call::Api(_) | Call::Models(_) | Call::Other => "text/event-stream; charset=utf-8",
    }
}

/// Returns an error body.
pub(super) fn refusal(ask: &Ask, refusal: &Refusal, number: u64) -> Bytes {
    Bytes::from(match (&ask.call, ask.shape) {
        (Call::Api(Api::Converse), _) => bedrock::refusal(refusal),
        (Call::Api(Api::CohereChat), _) => cohere::refusal(refusal, number),
        (Call::Api(Api::OllamaChat | Api::Generate), _) => ollama::refusal(refusal),
        (_, ErrorShape::OpenAi) => openai::refusal(refusal),
        (_, ErrorShape::Anthropic) => anthropic::refusal(refusal, number),
        (_, ErrorShape::Google) => gemini::refusal(refusal),
    })
}

/// Returns a header that names the error, where the dialect has one.
pub(super) fn refusal_header(ask: &Ask, refusal: &Refusal) -> Option<(String, String)> {
    let is_aws = matches!(ask.call, Call::Api(Api::Converse));
    let name = bedrock::exception(refusal);
    let page = "http://internal.amazon.com/coral/com.amazon.bedrock/";
    is_aws.then(|| ("x-amzn-errortype".to_owned(), format!("{name}:{page}")))
}

/// Returns an error as it stands inside a stream; `position` is the number of events before it.
pub(super) fn error_event(ask: &Ask, refusal: &Refusal, number: u64, position: usize) -> Bytes {
    match (&ask.call, ask.shape) {
        (Call::Api(Api::Responses), _) => openai::response_error_event(refusal, position),
        (Call::Api(Api::Converse), _) => bedrock::error_event(refusal),
        (Call::Api(Api::CohereChat), _) => cohere::error_event(refusal),
        (Call::Api(Api::OllamaChat), _) => ollama::error_event(refusal),
        (_, ErrorShape::OpenAi) => event(None, &openai::refusal(refusal)),
        (_, ErrorShape::Anthropic) => event(Some("error"), &anthropic::refusal(refusal, number)),
        (_, ErrorShape::Google) => event(None, &gemini::refusal(refusal)),
    }
}

fn models(shape: ErrorShape, id: Option<&str>) -> String {
    let entry = |id: &str| match shape {
        ErrorShape::OpenAi | ErrorShape::Google => {
            format!(
                "{{\"id\":{},\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"stand-in\"}}",
                quoted(id)
            )
        }
        ErrorShape::Anthropic => {
            let id = quoted(id);
            format!(
                "{{\"type\":\"model\",\"id\":{id},\"display_name\":{id},\"created_at\":\"2023-11-14T00:00:00Z\"}}"
            )
        }
    };
    let Some(id) = id else {
        let list = format!("{},{}", entry("stand-in-large"), entry("stand-in-small"));
        return match shape {
            ErrorShape::OpenAi | ErrorShape::Google => format!("{{\"object\":\"list\",\"data\":[{list}]}}"),
            ErrorShape::Anthropic => format!(
                "{{\"data\":[{list}],\"has_more\":false,\"first_id\":\"stand-in-large\",\"last_id\":\"stand-in-small\"}}"
            ),
        };
    };
    entry(id)
}

/// Returns what a large provider says with a status where the test says nothing else.
fn message_of(status: u16) -> &'static str {
    match status {
        400 => "The request is not valid.",
        401 => "Incorrect API key provided.",
        402 => "Your account has run out of credit.",
        403 => "You are not allowed to use this resource.",
        404 => "The model does not exist or you do not have access to it.",
        408 | 504 => "The request timed out.",
        413 => "The request is too large.",
        422 => "The request could not be processed.",
        429 => "Rate limit reached for requests.",
        503 => "The service is temporarily unavailable.",
        529 => "Overloaded",
        _ => "The server had an error while processing your request.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_every_byte_of_the_text() {
        for text in ["", "one", "one two", " leading", "double  space ", "ñ é", "   "] {
            assert_eq!(tokens(text).collect::<String>(), text);
        }
        assert_eq!(tokens("one two three").collect::<Vec<_>>(), ["one", " two", " three"]);
    }
}
