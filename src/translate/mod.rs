//! How is what one dialect says said in another?
//!
//! A request in the client's dialect becomes one in the provider's ([`request`]); the provider's
//! answer becomes one in the client's ([`answer`], [`Stream`]). Both ways go through one
//! intermediate form ([`form`]): a folder or file for each dialect reads into it and writes from
//! it. Same dialect in and out never comes here.
//!
//! Rules:
//! * What the target's dialect cannot say is left out and listed ([`Losses`]); nothing is left out
//!   in silence.
//! * What must not be guessed is refused ([`Untranslatable`]).
//! * Thinking: signatures stay within their issuer and are dropped across; an answer hands out none
//!   that a target of the client's own dialect would refuse when it comes back; a level that the target
//!   cannot serve becomes the nearest (`thinking`, `claude`).
//! * The answer names the model that served it, as everywhere (contract section 3).
//! * A streamed answer has the order of the client's own dialect (see `order`), holds at most one
//!   event of 8 MiB and never ends normally unless the provider's did. A fault inside is told to
//!   the caller by its class ([`State::Failed`]), never by the provider's text; the caller writes
//!   the client's error event.
//! * What is not text to us stays text: schemas, arguments and numbers pass as they were written.
//!
//! Refuses to do: asking for several answers (`n`), translating calls other than conversations.
//! Source: the wire guide, the providers' API references, and recorded traffic.

mod bedrock;
mod bridge;
mod chat;
mod claude;
mod cohere;
mod defaults;
mod fault;
pub mod form;
mod frames;
mod gemini;
mod hints;
mod ids;
mod json_word;
mod loss;
mod media;
mod messages;
mod names;
mod ollama;
mod order;
mod read;
mod responses;
mod results;
mod schema;
mod seal;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod thinking;
mod write;

use crate::base::api::Dialect;
pub use defaults::{Beside, refuses};
pub use loss::{Loss, Losses};
pub use order::State;
pub use server::Server;
use std::collections::HashMap;
pub use stream::Stream;

/// Most tokens of an answer where the client set no limit and the dialect wants one.
pub const MAX_TOKENS_DEFAULT: u64 = 16_384;
/// Tokens for thinking where it is enabled without a number.
pub const THINKING_BUDGET: u64 = 8192;
/// How much longer than the thinking the answer may be where the client's limit is too small.
pub const BEYOND_BUDGET: u64 = 4096;

/// Most objects in a body, or in an event of a stream, that is taken apart: each may become a turn, a
/// part or a tool, which take some 900 bytes in memory whatever they say. Long sessions have thousands.
/// Nothing else does: what stands in the place of one and is no object is refused.
pub const OBJECTS_MAX: usize = 100_000;

/// What writing a request needs to know beside the request.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The provider's name for the model, put in the place of the client's.
    pub model: &'a str,
    /// Whose server it is, as far as that is known.
    pub server: Server,
    /// Most tokens of an answer where the client set no limit and the dialect wants one.
    pub max_tokens_default: u64,
    /// Most tokens that the model gives in one answer, where the catalogue or the operator knows.
    pub max_output: Option<u64>,
    /// Whether the target is asked to think.
    pub thinking: ThinkingRule,
    /// Whether the model can think, where the catalogue knows; one that cannot refuses the words
    /// that steer it.
    pub can_think: Option<bool>,
    /// Whether the instructions are marked for the prompt cache where the client's dialect has no
    /// such marks.
    pub marks_cache: bool,
    /// How long the written request is going to be, in bytes: a buffer that doubles on its way to a long
    /// one takes three times as much.
    pub length: usize,
}

impl<'a> RequestContext<'a> {
    /// Returns the defaults for a model.
    #[must_use]
    pub fn new(model: &'a str) -> Self {
        RequestContext {
            model,
            server: Server::Other,
            max_tokens_default: MAX_TOKENS_DEFAULT,
            max_output: None,
            thinking: ThinkingRule::AsAsked,
            can_think: None,
            marks_cache: true,
            length: 0,
        }
    }
}

/// Whether a request asks of a target's thinking what the client does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkingRule {
    /// As the client asks; a client that says nothing gets what the model does by itself.
    #[default]
    AsAsked,
    /// Nothing: the second try after a target refused the first for its thinking.
    Off,
}

/// A request in the target's dialect.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The body.
    pub body: Vec<u8>,
    /// What it cannot say.
    pub lost: Losses,
    /// What the answer's translation needs to know of the request.
    pub asked: Asked,
    /// What the client says, also where it could not be said.
    pub beside: Beside,
}

/// What the translation of an answer needs to know of its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The target's model, for answers that do not name theirs.
    pub model: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whether the client asked for usage in the stream.
    pub include_usage: bool,
    /// The client's names of functions by those under which the target knows them, where they differ.
    pub names: HashMap<String, String>,
}

/// What writing an answer needs to know beside the answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerContext<'a> {
    /// From [`Translated`].
    pub asked: &'a Asked,
    /// Our id of the request: ids are made from it where the provider gives none.
    pub request_id: &'a str,
    /// Seconds since 1970, for answers that do not say when they were made.
    pub now: u64,
    /// Whether a client gets what proves another's thoughts. Clients send thoughts back, and a
    /// provider refuses the whole conversation for one that it did not sign: `false` where a target
    /// of the same route takes the client's own calls. Anthropic and OpenAI (responses) refuse
    /// thoughts without a proof as well, so none are shown there.
    pub shows_thoughts: bool,
    /// Whether a client of Gemini gets calls with the signature that stands for none: `true` where a
    /// target of the same route wants one ([`wants_signed_calls`]) and takes the client's own calls.
    pub signs_calls: bool,
}

/// Why something is not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// Not between these two.
    #[error("{} is not translated to {}", from.as_label(), to.as_label())]
    Pair {
        /// What it is in.
        from: Dialect,
        /// What it should be in.
        to: Dialect,
    },
    /// The body is not a JSON object.
    #[error("the body is not a JSON object")]
    NotJson,
    /// It says so much in so few bytes that taking it apart would cost many times as many.
    #[error("the body has more than {OBJECTS_MAX} JSON objects")]
    TooMany,
    /// A member without which there is no request or answer.
    #[error("`{0}` is missing or has the wrong type")]
    Member(&'static str),
    /// The provider says that its answer failed, without an error object.
    #[error("the answer failed")]
    Failed,
}

/// Writes a client's request in the dialect of a target.
///
/// # Errors
/// When the pair is not translated or the body cannot be understood.
pub fn request(
    from: Dialect,
    to: Dialect,
    body: &[u8],
    context: &RequestContext<'_>,
) -> Result<Translated, Untranslatable> {
    write_request(&read_request(from, to, body)?, from, to, context)
}

/// Reads a client's request once for several targets; `to` is for the error alone.
///
/// # Errors
/// When the dialect is not read or the body cannot be understood.
pub fn read_request(from: Dialect, to: Dialect, body: &[u8]) -> Result<form::Request, Untranslatable> {
    let parsed = parsed(body)?;
    match from {
        Dialect::OpenAiChat => chat::read_request(parsed.object()),
        Dialect::AnthropicMessages => messages::read_request(parsed.object()),
        Dialect::OpenAiResponses => responses::read_request(parsed.object()),
        Dialect::GeminiGenerate => gemini::read_request(parsed.object()),
        Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::BedrockConverse
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => Err(Untranslatable::Pair { from, to }),
    }
}

/// Reads a body as one object that may be taken apart.
fn parsed(body: &[u8]) -> Result<read::Raw<'_>, Untranslatable> {
    let parsed = read::Raw::parse(body).filter(|raw| raw.is_object()).ok_or(Untranslatable::NotJson)?;
    if read::count_objects(body) > OBJECTS_MAX { Err(Untranslatable::TooMany) } else { Ok(parsed) }
}

/// Writes a request that was read before; `from` is for the error alone.
///
/// # Errors
/// When the dialect is not written.
pub fn write_request(
    request: &form::Request,
    from: Dialect,
    to: Dialect,
    context: &RequestContext<'_>,
) -> Result<Translated, Untranslatable> {
    let fitted = names::fitted(request, to);
    let (request, names) = match &fitted {
        Some((request, names)) => (request, names.clone()),
        None => (request, names::Names::new()),
    };
    let (body, mut lost) = match to {
        Dialect::OpenAiChat => chat::write_request(request, context),
        Dialect::AnthropicMessages => messages::write_request(request, context),
        Dialect::OpenAiResponses => responses::write_request(request, context),
        Dialect::GeminiGenerate => gemini::write_request(request, context),
        Dialect::BedrockConverse if bedrock::IS_BUILT_IN => bedrock::write_request(request, context),
        Dialect::CohereChat => cohere::write_request(request, context),
        Dialect::OllamaChat => ollama::write_request(request, context),
        Dialect::GenerateBridge => bridge::write_request(request, context),
        Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings | Dialect::BedrockConverse => {
            return Err(Untranslatable::Pair { from, to });
        }
    };
    lost.add_if(request.choices.is_some_and(|n| n > 1), Loss::Choices);
    hints::add(request, to, &mut lost);
    lost.add_if(request.extra.is_foreign_to(to), Loss::UnknownMember);
    lost.add_if(request.extra.is_foreign_to(to) && request.extra.has_state(), Loss::State);
    let asked = Asked {
        model: context.model.to_owned(),
        stream: request.stream,
        include_usage: request.include_usage,
        names,
    };
    Ok(Translated { body, lost, asked, beside: Beside::of(request) })
}

/// Tells whether a model refuses a call of its dialect's that comes back without a signature.
#[must_use]
pub fn wants_signed_calls(model: &str) -> bool {
    gemini::is_third(model)
}

/// Tells whether conversations in one dialect can be had with a target that speaks another.
#[must_use]
pub fn is_pair(client: Dialect, target: Dialect) -> bool {
    let is_client = match client {
        Dialect::OpenAiChat
        | Dialect::AnthropicMessages
        | Dialect::OpenAiResponses
        | Dialect::GeminiGenerate => true,
        Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::BedrockConverse
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => false,
    };
    let is_target = match target {
        Dialect::OpenAiChat
        | Dialect::AnthropicMessages
        | Dialect::OpenAiResponses
        | Dialect::GeminiGenerate
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => true,
        Dialect::BedrockConverse => bedrock::IS_BUILT_IN,
        Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings => false,
    };
    is_client && is_target && client != target
}

/// Writes a provider's whole answer (one that `wire::answer` has found to be one) in the client's
/// dialect: `from` is the provider's.
///
/// # Errors
/// When the pair is not translated or the body cannot be understood.
pub fn answer(
    from: Dialect,
    to: Dialect,
    body: &[u8],
    context: &AnswerContext<'_>,
) -> Result<Vec<u8>, Untranslatable> {
    let mut answer = read_answer(from, to, body)?;
    if answer.finish == form::Finish::Error {
        return Err(Untranslatable::Failed);
    }
    let has_tools = answer.parts.iter().any(|part| matches!(part.content, form::Content::ToolUse(_)));
    answer.finish = order::settled(answer.finish, has_tools);
    for part in &mut answer.parts {
        if let form::Content::ToolUse(call) = &mut part.content {
            names::restore(&mut call.name, &context.asked.names);
        }
    }
    if answer.model.is_empty() {
        answer.model.clone_from(&context.asked.model);
    }
    match to {
        Dialect::OpenAiChat => Ok(chat::write_answer(&answer, context)),
        Dialect::AnthropicMessages => Ok(messages::write_answer(&answer, context)),
        Dialect::OpenAiResponses => Ok(responses::write_answer(&answer, context)),
        Dialect::GeminiGenerate => Ok(gemini::write_answer(&answer, context)),
        Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::BedrockConverse
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => Err(Untranslatable::Pair { from, to }),
    }
}

fn read_answer(from: Dialect, to: Dialect, body: &[u8]) -> Result<form::Answer, Untranslatable> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let parsed = parsed(body)?;
    match from {
        Dialect::OpenAiChat => chat::read_answer(parsed.object()),
        Dialect::AnthropicMessages => messages::read_answer(parsed.object()),
        Dialect::OpenAiResponses => responses::read_answer(parsed.object()),
        Dialect::GeminiGenerate => gemini::read_answer(parsed.object()),
        Dialect::BedrockConverse if bedrock::IS_BUILT_IN => bedrock::read_answer(parsed.object()),
        Dialect::CohereChat => cohere::read_answer(parsed.object()),
        Dialect::OllamaChat => ollama::read_answer(parsed.object()),
        Dialect::GenerateBridge => bridge::read_answer(parsed.object()),
        Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings | Dialect::BedrockConverse => {
            Err(Untranslatable::Pair { from, to })
        }
    }
}
