//! Companies and servers with a dialect, a signature or a path of their own.

use super::{Auth, Entry, PLAIN, SEED, WIRE, models};
use crate::base::api::{Api, Kind};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "openai",
        urls: &["https://api.openai.com/v1"],
        env: &["OPENAI_API_KEY"],
        env_base_url: Some("OPENAI_BASE_URL"),
        models: models::OPENAI,
        note: "every server that speaks like it, with its own base_url",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "anthropic",
        kind: Kind::Anthropic,
        urls: &["https://api.anthropic.com"],
        serves: &[Api::Messages, Api::CountTokens],
        auth: Auth::Anthropic,
        env: &["ANTHROPIC_API_KEY"],
        env_base_url: Some("ANTHROPIC_BASE_URL"),
        models: models::ANTHROPIC,
        note: "anthropic-version 2023-06-01 is sent where the client sends none; prompt caching needs no beta \
               header any more (it was prompt-caching-2024-07-31), a client's own passes",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "azure",
        urls: &["${AZURE_OPENAI_ENDPOINT}", "https://${AZURE_RESOURCE_NAME}.openai.azure.com"],
        prefix: "/openai/v1",
        serves: &[Api::ChatCompletions, Api::Embeddings, Api::Responses],
        auth: Auth::Header("api-key"),
        env: &["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"],
        note: "the model is the name of the deployment; api_version asks for the classic paths below \
               /openai/deployments; auth: bearer for Entra tokens, or the login azure_entra",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "cohere",
        kind: Kind::Cohere,
        urls: &["https://api.cohere.com"],
        prefix: "/compatibility/v1",
        serves: &[Api::CohereChat, Api::ChatCompletions, Api::Embeddings],
        env: &["COHERE_API_KEY", "CO_API_KEY"],
        models: models::COHERE,
        note: "chat clients by its OpenAI-compatible path, other conversations at /v2/chat",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "ollama",
        kind: Kind::Ollama,
        urls: &["http://localhost:11434"],
        prefix: "/v1",
        serves: &[Api::OllamaChat, Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses],
        needs_key: false,
        env: &["OLLAMA_API_KEY"],
        note: "chat and responses clients by its OpenAI-compatible paths, other conversations at /api/chat; \
               a prompt longer than num_ctx is cut without a word",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "gemini",
        kind: Kind::Gemini,
        urls: &["https://generativelanguage.googleapis.com"],
        serves: &[Api::GenerateContent, Api::Embeddings],
        auth: Auth::Header("x-goog-api-key"),
        env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        models: models::GEMINI,
        note: "embeddings by its OpenAI-compatible path, with the key as a bearer",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "vertex",
        kind: Kind::Vertex,
        urls: &[
            "https://${GOOGLE_CLOUD_LOCATION}-aiplatform.googleapis.com/v1/projects/${GOOGLE_CLOUD_PROJECT}/locations/${GOOGLE_CLOUD_LOCATION}",
        ],
        serves: &[Api::GenerateContent, Api::Messages, Api::ChatCompletions],
        auth: Auth::Google,
        env: &["GOOGLE_APPLICATION_CREDENTIALS"],
        models: models::VERTEX,
        note: "the location global has the host aiplatform.googleapis.com; claude-… are Anthropic's models in Anthropic's dialect, \
               publisher/model those of others in OpenAI's",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "bedrock",
        kind: Kind::Bedrock,
        urls: &["https://bedrock-runtime.${AWS_REGION}.amazonaws.com"],
        serves: &[Api::Converse],
        auth: Auth::Aws,
        env: &["AWS_BEARER_TOKEN_BEDROCK"],
        models: models::BEDROCK,
        note: "the login aws signs requests, a key goes as a bearer; model ids are escaped in the path \
               (: becomes %3A)",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "copilot",
        kind: Kind::Copilot,
        urls: &["https://api.githubcopilot.com"],
        serves: &[Api::ChatCompletions, Api::Responses, Api::Embeddings],
        auth: Auth::Copilot,
        env: &["COPILOT_GITHUB_TOKEN"],
        is_http1_only: true,
        models: models::COPILOT,
        note: "no /v1; the address comes with the token; the editor's headers are set",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "generate-bridge",
        kind: Kind::GenerateBridge,
        serves: &[Api::Generate],
        auth: Auth::None,
        needs_key: false,
        note: "POST /api/generate with one prompt; neither tools nor images",
        source: SEED,
        ..PLAIN
    },
];
