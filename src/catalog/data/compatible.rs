//! Servers that speak OpenAI's dialect at an address of their own.

use super::super::Chain;
use super::{Entry, PLAIN, SEED, WIRE, models};
use crate::base::api::Api;

/// Calls of a server that is known to have nothing but conversations.
const CHAT_ONLY: &[Api] = &[Api::ChatCompletions];

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: "groq",
        urls: &["https://api.groq.com/openai/v1"],
        serves: &[Api::ChatCompletions, Api::Responses, Api::Embeddings],
        env: &["GROQ_API_KEY"],
        drop_params: &["logprobs", "top_logprobs", "logit_bias"],
        chain: Some(Chain { place: 7, rpm: 30 }),
        models: models::GROQ,
        note: "a 413 with the code rate_limit_exceeded is the token limit",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "mistral",
        urls: &["https://api.mistral.ai/v1"],
        serves: &[Api::ChatCompletions, Api::Embeddings],
        env: &["MISTRAL_API_KEY"],
        chain: Some(Chain { place: 8, rpm: 60 }),
        models: models::MISTRAL,
        note: "ids of tool calls must be nine letters or digits",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "together",
        urls: &["https://api.together.xyz/v1"],
        serves: &[Api::ChatCompletions, Api::Completions, Api::Embeddings],
        env: &["TOGETHER_API_KEY"],
        models: models::TOGETHER,
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "cerebras",
        urls: &["https://api.cerebras.ai/v1"],
        serves: &[Api::ChatCompletions, Api::Completions],
        env: &["CEREBRAS_API_KEY"],
        chain: Some(Chain { place: 6, rpm: 30 }),
        models: models::CEREBRAS,
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "nvidia",
        urls: &["https://integrate.api.nvidia.com/v1"],
        env: &["NVIDIA_API_KEY"],
        chain: Some(Chain { place: 9, rpm: 40 }),
        models: models::NVIDIA,
        note: "slow calls may answer 202",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "fireworks",
        urls: &["https://api.fireworks.ai/inference/v1"],
        env: &["FIREWORKS_API_KEY"],
        models: models::FIREWORKS,
        note: "a 412 is a suspended account",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "openrouter",
        urls: &["https://openrouter.ai/api/v1"],
        env: &["OPENROUTER_API_KEY"],
        models: models::OPENROUTER,
        note: "also takes Anthropic's dialect: paths: {messages: /messages}",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "deepseek",
        urls: &["https://api.deepseek.com/v1"],
        serves: &[Api::ChatCompletions, Api::Responses],
        env: &["DEEPSEEK_API_KEY"],
        models: models::DEEPSEEK,
        note: "goes on from a marked message only below /beta; Anthropic's dialect is below /anthropic",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "xai",
        urls: &["https://api.x.ai/v1"],
        serves: &[Api::ChatCompletions, Api::Responses],
        env: &["XAI_API_KEY"],
        models: models::XAI,
        note: "a wrong key is a 400",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "perplexity",
        urls: &["https://api.perplexity.ai"],
        serves: CHAT_ONLY,
        env: &["PERPLEXITY_API_KEY", "PPLX_API_KEY"],
        models: models::PERPLEXITY,
        note: "no /v1",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "cloudflare",
        urls: &["https://api.cloudflare.com/client/v4/accounts/${CLOUDFLARE_ACCOUNT_ID}/ai/v1"],
        serves: &[Api::ChatCompletions, Api::Embeddings],
        env: &["CLOUDFLARE_AI_TOKEN", "CLOUDFLARE_API_TOKEN"],
        chain: Some(Chain { place: 10, rpm: 100 }),
        models: models::CLOUDFLARE,
        note: "with a JSON schema the content is an object and no text",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "runpod",
        urls: &["https://api.runpod.ai/v2/${RUNPOD_ENDPOINT_ID}/openai/v1"],
        serves: &[Api::ChatCompletions, Api::Completions, Api::Embeddings],
        env: &["RUNPOD_API_KEY"],
        note: "a cold start takes minutes: raise timeouts.first_content",
        source: WIRE,
        ..PLAIN
    },
    Entry {
        name: "alibaba",
        urls: &["https://dashscope-intl.aliyuncs.com/compatible-mode/v1"],
        serves: &[Api::ChatCompletions, Api::Embeddings],
        env: &["DASHSCOPE_API_KEY", "ALIBABA_API_KEY"],
        models: models::ALIBABA,
        note: "in China the host is dashscope.aliyuncs.com",
        source: WIRE,
        ..PLAIN
    },
    Entry { name: "lmstudio", urls: &["http://localhost:1234/v1"], needs_key: false, source: SEED, ..PLAIN },
];
