//! Companies and servers with a dialect, a signature or a path of their own.

use super::{Auth, Built, Entry, PLAIN, SEED, WIRE, models};
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
        built: Built::Now(Kind::Anthropic),
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
        note: "the model is the name of the deployment; for the classic paths set paths: {chat_completions: \
               \"/openai/deployments/{model}/chat/completions?api-version=2024-10-21\"}; auth: bearer for Entra tokens",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "cohere",
        urls: &["https://api.cohere.com"],
        prefix: "/compatibility/v1",
        serves: &[Api::ChatCompletions, Api::Embeddings],
        env: &["COHERE_API_KEY", "CO_API_KEY"],
        models: models::COHERE,
        note: "by its OpenAI-compatible path",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "ollama",
        urls: &["http://localhost:11434"],
        prefix: "/v1",
        needs_key: false,
        env: &["OLLAMA_API_KEY"],
        note: "by its OpenAI-compatible path; a prompt longer than num_ctx is cut without a word",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "gemini",
        built: Built::Later(
            "until then use kind: openai with base_url https://generativelanguage.googleapis.com/v1beta/openai",
        ),
        urls: &["https://generativelanguage.googleapis.com"],
        serves: &[Api::GenerateContent],
        auth: Auth::Header("x-goog-api-key"),
        env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        models: models::GEMINI,
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "vertex",
        built: Built::Later("until then use Gemini's OpenAI-compatible address with kind: openai"),
        urls: &[
            "https://${GOOGLE_CLOUD_LOCATION}-aiplatform.googleapis.com/v1/projects/${GOOGLE_CLOUD_PROJECT}/locations/${GOOGLE_CLOUD_LOCATION}",
        ],
        serves: &[Api::GenerateContent],
        auth: Auth::Google,
        env: &["GOOGLE_APPLICATION_CREDENTIALS"],
        models: models::GEMINI,
        note: "the location global has the host aiplatform.googleapis.com",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "bedrock",
        built: Built::Later("until then use another provider of the same model"),
        urls: &["https://bedrock-runtime.${AWS_REGION}.amazonaws.com"],
        serves: &[],
        auth: Auth::Aws,
        env: &["AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK"],
        models: models::BEDROCK,
        note: "model ids are escaped in the path (: becomes %3A)",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "copilot",
        built: Built::Later("until then use another provider of the same model"),
        urls: &["https://api.githubcopilot.com"],
        serves: &[Api::ChatCompletions, Api::Responses, Api::Embeddings],
        auth: Auth::Copilot,
        env: &["GITHUB_TOKEN", "GH_TOKEN"],
        is_http1_only: true,
        models: models::COPILOT,
        note: "no /v1; the address comes with the token; wants editor headers",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "generate-bridge",
        built: Built::Later("until then use a bridge that speaks the OpenAI dialect, with kind: openai"),
        serves: &[Api::ChatCompletions],
        auth: Auth::None,
        needs_key: false,
        note: "POST /api/generate with one prompt; neither tools nor images",
        source: SEED,
        ..PLAIN
    },
];
