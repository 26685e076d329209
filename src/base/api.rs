//! What a client may call and what a provider may speak.
//!
//! [`Api`] is the call (contract section 3), [`Dialect`] the wire format that goes with it, and
//! [`Kind`] what sort of server a provider is (contract section 5). A target serves a call when
//! its kind speaks the call's dialect, or `translate` carries the call into one that it speaks.

/// One call of the data plane whose body we read, judge and replay.
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
        }
    }

    /// Returns the path of the call below the version prefix, as the provider's own SDK joins it
    /// to a base URL; nothing for calls whose path carries the model.
    #[must_use]
    pub fn path_below_v1(self) -> Option<&'static str> {
        match self {
            Api::ChatCompletions => Some("/chat/completions"),
            Api::Completions => Some("/completions"),
            Api::Embeddings => Some("/embeddings"),
            Api::Responses => Some("/responses"),
            Api::Messages => Some("/messages"),
            Api::CountTokens => Some("/messages/count_tokens"),
            Api::GenerateContent => None,
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

/// What sort of server a provider is. Kinds that are not built yet are known to `catalog` by name
/// and refused by `config` with a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI, and every server that speaks like it.
    OpenAi,
    /// Anthropic, and every server that speaks like it.
    Anthropic,
}

impl Kind {
    /// Returns the word used in the configuration.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::Anthropic => "anthropic",
        }
    }

    /// Tells whether a server of this kind takes the call in its own dialect.
    #[must_use]
    pub fn speaks(self, api: Api) -> bool {
        match (self, api) {
            (Kind::OpenAi, Api::ChatCompletions | Api::Completions | Api::Embeddings | Api::Responses)
            | (Kind::Anthropic, Api::Messages | Api::CountTokens) => true,
            (Kind::OpenAi, Api::Messages | Api::CountTokens | Api::GenerateContent)
            | (
                Kind::Anthropic,
                Api::ChatCompletions
                | Api::Completions
                | Api::Embeddings
                | Api::Responses
                | Api::GenerateContent,
            ) => false,
        }
    }
}
