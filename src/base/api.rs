//! What a client may call and what a provider may speak.
//!
//! [`Api`] is the call (contract section 3), [`Dialect`] the wire format that goes with it, and
//! [`Kind`] what sort of server a provider is (contract section 5). A target serves a call when
//! its kind speaks the call's dialect, or `translate` carries the call into one that it speaks.

/// One call whose body we read, judge and replay. The last four no client makes: only we do, of
/// providers that take a conversation in no other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`
    GenerateContent,
    /// Bedrock's `POST /model/{model}/converse` and `converse-stream`
    Converse,
    /// Cohere's `POST /v2/chat`
    CohereChat,
    /// Ollama's `POST /api/chat`
    OllamaChat,
    /// The bridges' `POST /api/generate`
    Generate,
}

/// A wire format: how requests, answers, events and faults look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions.
    OpenAiChat,
    /// OpenAI legacy completions.
    OpenAiCompletions,
    /// OpenAI embeddings.
    OpenAiEmbeddings,
    /// OpenAI responses.
    OpenAiResponses,
    /// Anthropic messages (and its token count).
    AnthropicMessages,
    /// Gemini generateContent.
    GeminiGenerate,
    /// Bedrock converse and converse-stream. No client speaks it to us.
    BedrockConverse,
    /// Cohere chat, version 2. No client speaks it to us.
    CohereChat,
    /// Ollama's own chat. No client speaks it to us.
    OllamaChat,
    /// `POST /api/generate` of the bridges. No client speaks it to us.
    GenerateBridge,
}

/// How an error body is shaped for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorShape {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
    /// `{"error":{"code","message","status"}}`
    Google,
}

impl Api {
    /// Returns the wire format of the call.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Api::ChatCompletions => Dialect::OpenAiChat,
            Api::Completions => Dialect::OpenAiCompletions,
            Api::Embeddings => Dialect::OpenAiEmbeddings,
            Api::Responses => Dialect::OpenAiResponses,
            Api::Messages | Api::CountTokens => Dialect::AnthropicMessages,
            Api::GenerateContent => Dialect::GeminiGenerate,
            Api::Converse => Dialect::BedrockConverse,
            Api::CohereChat => Dialect::CohereChat,
            Api::OllamaChat => Dialect::OllamaChat,
            Api::Generate => Dialect::GenerateBridge,
        }
    }

    /// Returns the path of the call below the version prefix, as the provider's own SDK joins it
    /// to a base URL; nothing for calls that have no such prefix, or whose path carries the model.
    #[must_use]
    pub fn path_below_v1(self) -> Option<&'static str> {
        match self {
            Api::ChatCompletions => Some("/chat/completions"),
            Api::Completions => Some("/completions"),
            Api::Embeddings => Some("/embeddings"),
            Api::Responses => Some("/responses"),
            Api::Messages => Some("/messages"),
            Api::CountTokens => Some("/messages/count_tokens"),
            Api::GenerateContent | Api::Converse | Api::CohereChat | Api::OllamaChat | Api::Generate => None,
        }
    }
}

impl Dialect {
    /// Returns the word for metrics and logs.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Dialect::OpenAiChat => "openai.chat",
            Dialect::OpenAiCompletions => "openai.completions",
            Dialect::OpenAiEmbeddings => "openai.embeddings",
            Dialect::OpenAiResponses => "openai.responses",
            Dialect::AnthropicMessages => "anthropic.messages",
            Dialect::GeminiGenerate => "gemini.generate",
            Dialect::BedrockConverse => "bedrock.converse",
            Dialect::CohereChat => "cohere.chat.v2",
            Dialect::OllamaChat => "ollama.chat",
            Dialect::GenerateBridge => "generate-bridge",
        }
    }

    /// Returns the shape of error bodies for callers in this dialect. Nobody calls us in a dialect
    /// that only providers speak; their answers are told in the caller's own.
    #[must_use]
    pub fn error_shape(self) -> ErrorShape {
        match self {
            Dialect::OpenAiChat
            | Dialect::OpenAiCompletions
            | Dialect::OpenAiEmbeddings
            | Dialect::OpenAiResponses
            | Dialect::BedrockConverse
            | Dialect::CohereChat
            | Dialect::OllamaChat
            | Dialect::GenerateBridge => ErrorShape::OpenAi,
            Dialect::AnthropicMessages => ErrorShape::Anthropic,
            Dialect::GeminiGenerate => ErrorShape::Google,
        }
    }
}

/// What sort of server a provider is: which calls it takes, below which paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenAI, and every server that speaks like it.
    OpenAi,
    /// Anthropic, and every server that speaks like it.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Google Cloud's Vertex AI; the model decides which call its publisher takes.
    Vertex,
    /// AWS Bedrock's runtime.
    Bedrock,
    /// GitHub Copilot.
    Copilot,
    /// Cohere.
    Cohere,
    /// Ollama.
    Ollama,
    /// A bridge that answers one prompt with one text.
    GenerateBridge,
}

impl Kind {
    /// Returns the word used in the configuration.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Gemini => "gemini",
            Kind::Vertex => "vertex",
            Kind::Bedrock => "bedrock",
            Kind::Copilot => "copilot",
            Kind::Cohere => "cohere",
            Kind::Ollama => "ollama",
            Kind::GenerateBridge => "generate-bridge",
        }
    }

    /// Lists the calls that a server of this kind may take.
    #[must_use]
    pub fn calls(self) -> &'static [Api] {
        match self {
            Kind::OpenAi => &[Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses],
            Kind::Anthropic => &[Api::Messages, Api::CountTokens],
            Kind::Gemini => &[Api::GenerateContent, Api::Embeddings],
            Kind::Vertex => &[Api::GenerateContent, Api::Messages, Api::ChatCompletions],
            Kind::Bedrock => &[Api::Converse],
            Kind::Copilot => &[Api::ChatCompletions, Api::Responses, Api::Embeddings],
            Kind::Cohere => &[Api::CohereChat, Api::ChatCompletions, Api::Embeddings],
            Kind::Ollama => {
                &[Api::OllamaChat, Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses]
            }
            Kind::GenerateBridge => &[Api::Generate],
        }
    }

    /// Tells whether a server of this kind may take the call.
    #[must_use]
    pub fn speaks(self, api: Api) -> bool {
        self.calls().contains(&api)
    }

    /// Returns the one call that a model takes where that is a matter of the model: on Vertex it is
    /// one of its publisher's. Google's own and Anthropic's have their dialects; those with a
    /// publisher before their name (`meta/llama…`) are reached in OpenAI's.
    #[must_use]
    pub fn call_of(self, model: &str) -> Option<Api> {
        match self {
            Kind::Vertex if model.starts_with("claude") => Some(Api::Messages),
            Kind::Vertex if model.contains('/') => Some(Api::ChatCompletions),
            Kind::Vertex => Some(Api::GenerateContent),
            Kind::OpenAi
            | Kind::Anthropic
            | Kind::Gemini
            | Kind::Bedrock
            | Kind::Copilot
            | Kind::Cohere
            | Kind::Ollama
            | Kind::GenerateBridge => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_vertex_the_publisher_of_a_model_decides_which_call_it_takes() {
        for (model, want) in [
            ("gemini-2.5-pro", Api::GenerateContent),
            ("claude-sonnet-4-5@20250929", Api::Messages),
            ("meta/llama-3.3-70b-instruct-maas", Api::ChatCompletions),
        ] {
            assert_eq!(Kind::Vertex.call_of(model), Some(want), "{model}");
            assert!(Kind::Vertex.speaks(want));
        }
        assert_eq!(Kind::Anthropic.call_of("claude"), None);
    }
}
