//! What do we know of providers before anyone configures them?
//!
//! One [`Entry`] for every word that `kind` may take (contract section 5): the base URL as the
//! provider's own SDK has it, the environment variables in which its users keep keys, and whether
//! it is built. Names that are OpenAI-compatible servers with an address of their own are the kind
//! `openai` with that address. What is not built is known too, so that the refusal can say what to
//! do instead.
//!
//! Base URLs follow the project's provider list and wire guide; they are the
//! default and a file may override each.

mod models;

pub use models::KnownModel;

use crate::base::api::Kind;

/// One word that `kind` may take.
#[derive(Debug)]
pub struct Entry {
    /// The word.
    pub name: &'static str,
    /// Whether it is built, and as what.
    pub built: Built,
    /// Default base URL.
    pub base_url: Option<&'static str>,
    /// Environment variable with the key, where there is a usual one.
    pub env: Option<&'static str>,
    /// Environment variable with another base URL, where its SDK reads one.
    pub env_base_url: Option<&'static str>,
    /// Whether the server at the default base URL answers nobody without a key.
    pub needs_key: bool,
    /// Well-known models.
    pub models: &'static [KnownModel],
}

/// Whether a kind is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// It is, as this kind.
    Now(Kind),
    /// It is not; the text says what to do instead.
    Later(&'static str),
}

/// An OpenAI-compatible server with a key.
const fn compatible(
    name: &'static str,
    base_url: &'static str,
    env: &'static str,
    models: &'static [KnownModel],
) -> Entry {
    Entry {
        name,
        built: Built::Now(Kind::OpenAi),
        base_url: Some(base_url),
        env: Some(env),
        env_base_url: None,
        needs_key: true,
        models,
    }
}

/// Something known and not built.
const fn later(name: &'static str, remedy: &'static str) -> Entry {
    Entry {
        name,
        built: Built::Later(remedy),
        base_url: None,
        env: None,
        env_base_url: None,
        needs_key: true,
        models: &[],
    }
}

const BRIDGE: &str =
    "if the bridge answers /v1/chat/completions, use kind: openai with its address and /v1 as base_url";

/// Every word that `kind` may take, the built ones first, in the order in which zero configuration
/// tries them.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "openai",
        built: Built::Now(Kind::OpenAi),
        base_url: Some("https://api.openai.com/v1"),
        env: Some("OPENAI_API_KEY"),
        env_base_url: Some("OPENAI_BASE_URL"),
        needs_key: true,
        models: models::OPENAI,
    },
    Entry {
        name: "anthropic",
        built: Built::Now(Kind::Anthropic),
        base_url: Some("https://api.anthropic.com"),
        env: Some("ANTHROPIC_API_KEY"),
        env_base_url: Some("ANTHROPIC_BASE_URL"),
        needs_key: true,
        models: models::ANTHROPIC,
    },
    compatible("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", models::GROQ),
    compatible("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", models::MISTRAL),
    compatible("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY", models::TOGETHER),
    compatible("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", models::CEREBRAS),
    compatible("nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", models::NVIDIA),
    compatible("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", models::FIREWORKS),
    compatible("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", models::OPENROUTER),
    compatible("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", models::DEEPSEEK),
    compatible("xai", "https://api.x.ai/v1", "XAI_API_KEY", models::XAI),
    compatible("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY", models::PERPLEXITY),
    Entry {
        name: "lmstudio",
        built: Built::Now(Kind::OpenAi),
        base_url: Some("http://localhost:1234/v1"),
        env: None,
        env_base_url: None,
        needs_key: false,
        models: &[],
    },
    later(
        "gemini",
        "until then use kind: openai with base_url https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    later("vertex", "until then use Gemini's OpenAI-compatible address with kind: openai"),
    later("azure", "until then use kind: openai with base_url https://NAME.openai.azure.com/openai/v1"),
    later("bedrock", "until then use another provider of the same model"),
    later("copilot", "until then use another provider of the same model"),
    later("cohere", "until then use kind: openai with base_url https://api.cohere.ai/compatibility/v1"),
    later("ollama", "until then use kind: openai with base_url http://HOST:11434/v1"),
    later("generate-bridge", "until then use a bridge that speaks the OpenAI dialect, with kind: openai"),
    later(
        "cloudflare",
        "until then use kind: openai with base_url https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1",
    ),
    later("runpod", "until then use kind: openai with base_url https://api.runpod.ai/v2/ENDPOINT/openai/v1"),
    later(
        "alibaba",
        "until then use kind: openai with base_url https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ),
    later("openai-codex", "until then use kind: openai with an API key"),
    later("claude-code", "until then use kind: anthropic with an API key"),
    later("codex", "until then use kind: openai with an API key"),
    later("claude-bridge", BRIDGE),
    later("openai-bridge", BRIDGE),
    later("chatgpt-bridge", BRIDGE),
    later("copilot-bridge", BRIDGE),
    later("m365-copilot-bridge", BRIDGE),
];

/// Gemini's OpenAI-compatible address, used by zero configuration until the kind is built.
/// Source: Gemini API docs, "OpenAI compatibility" (not yet re-read).
pub const GEMINI_OPENAI_BASE_URL: &str = "https://generativelanguage.googleapis.com/v1beta/openai";

/// Models that zero configuration offers at [`GEMINI_OPENAI_BASE_URL`].
pub const GEMINI_MODELS: &[KnownModel] = models::GEMINI;

/// Finds what is known under a word.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_word_of_the_contract_is_known_once() {
        let words = "openai anthropic gemini vertex azure bedrock copilot cohere ollama generate-bridge groq \
                     mistral together cerebras nvidia cloudflare fireworks openrouter deepseek xai \
                     perplexity runpod alibaba lmstudio openai-codex claude-code codex";
        for word in words.split_whitespace() {
            assert!(find(word).is_some(), "{word}");
        }
        let names: HashSet<_> = ENTRIES.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), ENTRIES.len());
    }

    #[test]
    fn what_is_built_has_an_address_and_models_are_listed_once() {
        for entry in ENTRIES {
            assert_eq!(matches!(entry.built, Built::Now(_)), entry.base_url.is_some(), "{}", entry.name);
            let names: HashSet<_> = entry.models.iter().map(|model| model.name).collect();
            assert_eq!(names.len(), entry.models.len(), "{}", entry.name);
        }
    }
}
