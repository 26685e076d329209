//! Well-known models.
//!
//! A name here lets a client ask for the model without any route (`implicit_routes`), lets a target
//! without a model pick one by size, and gives context, price, abilities and the reasoning timer
//! where the file says nothing. A number stands only where it was certain; absent means unknown,
//! which costs nothing but the estimate. A model that a provider has withdrawn answers 404 and the
//! next target is taken, so an old line does no harm.
//!
//! Written from general knowledge on 2026-11-21 and not yet held against the providers' pages; to
//! check before a release: platform.openai.com/docs/models and /docs/pricing,
//! docs.anthropic.com/en/docs/about-claude/models and /pricing, ai.google.dev/gemini-api/docs/models,
//! and the model pages of the other providers. Prices are US dollars per million tokens, standard
//! tier, without cache or batch discounts.

use super::super::{Ability, Continues, Skills, Tier};

/// One model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownModel {
    /// The provider's name for it.
    pub name: &'static str,
    /// Context window in tokens.
    pub context: Option<u64>,
    /// Most tokens of one answer.
    pub max_output: Option<u64>,
    /// US dollars per million tokens, in and out.
    pub price: Option<(f64, f64)>,
    /// Whether it thinks before it answers.
    pub reasoning: bool,
    /// Size class.
    pub tier: Option<Tier>,
    /// What it can and cannot.
    pub skills: Skills,
    /// How it goes on from the beginning of an answer.
    pub continues: Continues,
}

const UNKNOWN: Skills = Skills::believed(&[], &[]);
/// Conversations with tools, images and JSON.
const ALL_ROUND: Skills = Skills::believed(
    &[Ability::Chat, Ability::Tools, Ability::Vision, Ability::Json],
    &[Ability::Embeddings],
);
/// The same without images.
const TEXT_ONLY: Skills = Skills::believed(
    &[Ability::Chat, Ability::Tools, Ability::Json],
    &[Ability::Vision, Ability::Embeddings],
);
/// Vectors and nothing else.
const VECTORS: Skills = Skills::believed(
    &[Ability::Embeddings],
    &[Ability::Chat, Ability::Completions, Ability::Tools, Ability::Vision, Ability::Json],
);

/// A model of which only the name is certain.
const fn named(name: &'static str) -> KnownModel {
    KnownModel {
        name,
        context: None,
        max_output: None,
        price: None,
        reasoning: false,
        tier: None,
        skills: UNKNOWN,
        continues: Continues::None,
    }
}

impl KnownModel {
    const fn tier(self, tier: Tier) -> KnownModel {
        KnownModel { tier: Some(tier), ..self }
    }

    const fn window(self, context: u64) -> KnownModel {
        KnownModel { context: Some(context), ..self }
    }

    const fn output(self, max_output: u64) -> KnownModel {
        KnownModel { max_output: Some(max_output), ..self }
    }

    const fn price(self, input: f64, output: f64) -> KnownModel {
        KnownModel { price: Some((input, output)), ..self }
    }

    const fn can(self, skills: Skills) -> KnownModel {
        KnownModel { skills, ..self }
    }

    /// The same model, thinking first.
    const fn thinking(self) -> KnownModel {
        KnownModel { reasoning: true, ..self }
    }

    const fn prefill(self) -> KnownModel {
        KnownModel { continues: Continues::Prefill, ..self }
    }

    const fn prefix(self) -> KnownModel {
        KnownModel { continues: Continues::Prefix, ..self }
    }
}

const fn fast(name: &'static str) -> KnownModel {
    named(name).tier(Tier::Fast)
}

const fn medium(name: &'static str) -> KnownModel {
    named(name).tier(Tier::Medium)
}

const fn large(name: &'static str) -> KnownModel {
    named(name).tier(Tier::Large)
}

const fn reasoning(name: &'static str) -> KnownModel {
    named(name).tier(Tier::Reasoning).thinking()
}

pub(in super::super) const OPENAI: &[KnownModel] = &[
    large("gpt-4o").window(128_000).output(16_384).price(2.5, 10.0).can(ALL_ROUND),
    fast("gpt-4o-mini").window(128_000).output(16_384).price(0.15, 0.6).can(ALL_ROUND),
    large("gpt-4.1").window(1_047_576).output(32_768).price(2.0, 8.0).can(ALL_ROUND),
    medium("gpt-4.1-mini").window(1_047_576).output(32_768).price(0.4, 1.6).can(ALL_ROUND),
    fast("gpt-4.1-nano").window(1_047_576).output(32_768).price(0.1, 0.4).can(ALL_ROUND),
    reasoning("o3").window(200_000).output(100_000).price(2.0, 8.0).can(ALL_ROUND),
    reasoning("o3-mini").window(200_000).output(100_000).price(1.1, 4.4).can(TEXT_ONLY),
    reasoning("o4-mini").window(200_000).output(100_000).price(1.1, 4.4).can(ALL_ROUND),
    large("gpt-5").thinking().window(400_000).output(128_000).price(1.25, 10.0).can(ALL_ROUND),
    medium("gpt-5-mini").thinking().window(400_000).output(128_000).price(0.25, 2.0).can(ALL_ROUND),
    fast("gpt-5-nano").thinking().window(400_000).output(128_000).price(0.05, 0.4).can(ALL_ROUND),
    named("text-embedding-3-small").window(8192).price(0.02, 0.0).can(VECTORS),
    named("text-embedding-3-large").window(8192).price(0.13, 0.0).can(VECTORS),
];

pub(in super::super) const ANTHROPIC: &[KnownModel] = &[
    fast("claude-haiku-4-5").window(200_000).output(64_000).price(1.0, 5.0).can(ALL_ROUND).prefill(),
    large("claude-sonnet-4-5").window(200_000).output(64_000).price(3.0, 15.0).can(ALL_ROUND).prefill(),
    large("claude-sonnet-4-0").window(200_000).output(64_000).price(3.0, 15.0).can(ALL_ROUND).prefill(),
    large("claude-opus-4-1").window(200_000).output(32_000).price(15.0, 75.0).can(ALL_ROUND).prefill(),
    large("claude-opus-4-0").window(200_000).output(32_000).price(15.0, 75.0).can(ALL_ROUND).prefill(),
    fast("claude-3-5-haiku-latest").window(200_000).output(8192).price(0.8, 4.0).can(ALL_ROUND).prefill(),
    large("claude-3-7-sonnet-latest")
        .window(200_000)
        .output(64_000)
        .price(3.0, 15.0)
        .can(ALL_ROUND)
        .prefill(),
];

pub(in super::super) const GEMINI: &[KnownModel] = &[
    fast("gemini-2.5-flash").window(1_048_576).output(65_536).can(ALL_ROUND),
    fast("gemini-2.5-flash-lite").window(1_048_576).output(65_536).can(ALL_ROUND),
    large("gemini-2.5-pro").thinking().window(1_048_576).output(65_536).can(ALL_ROUND),
    fast("gemini-2.0-flash").window(1_048_576).output(8192).can(ALL_ROUND),
];

/// Google's own and, in Anthropic's dialect, Anthropic's.
pub(in super::super) const VERTEX: &[KnownModel] = &[
    fast("gemini-2.5-flash").window(1_048_576).output(65_536).can(ALL_ROUND),
    large("gemini-2.5-pro").thinking().window(1_048_576).output(65_536).can(ALL_ROUND),
    large("claude-sonnet-4-5@20250929").window(200_000).can(ALL_ROUND).prefill(),
    fast("claude-haiku-4-5@20251001").window(200_000).can(ALL_ROUND).prefill(),
];

pub(in super::super) const GROQ: &[KnownModel] = &[
    large("llama-3.3-70b-versatile").window(131_072).output(32_768).can(TEXT_ONLY),
    fast("llama-3.1-8b-instant").window(131_072).output(131_072).can(TEXT_ONLY),
    reasoning("openai/gpt-oss-120b").window(131_072).output(65_536).can(TEXT_ONLY),
    medium("openai/gpt-oss-20b").thinking().window(131_072).output(65_536).can(TEXT_ONLY),
];

pub(in super::super) const MISTRAL: &[KnownModel] = &[
    large("mistral-large-latest").window(131_072).prefix(),
    medium("mistral-medium-latest").window(131_072).can(ALL_ROUND).prefix(),
    fast("mistral-small-latest").window(131_072).can(ALL_ROUND).prefix(),
    named("codestral-latest").window(262_144).prefix(),
    named("mistral-embed").window(8192).can(VECTORS),
];

pub(in super::super) const TOGETHER: &[KnownModel] = &[
    large("meta-llama/Llama-3.3-70B-Instruct-Turbo").window(131_072).can(TEXT_ONLY),
    large("deepseek-ai/DeepSeek-V3").window(131_072).can(TEXT_ONLY),
    reasoning("deepseek-ai/DeepSeek-R1").window(163_840),
];

pub(in super::super) const CEREBRAS: &[KnownModel] = &[
    large("llama-3.3-70b").can(TEXT_ONLY),
    fast("llama3.1-8b").can(TEXT_ONLY),
    reasoning("gpt-oss-120b").window(131_072).can(TEXT_ONLY),
];

pub(in super::super) const NVIDIA: &[KnownModel] = &[
    large("meta/llama-3.3-70b-instruct").window(131_072).can(TEXT_ONLY),
    fast("meta/llama-3.1-8b-instruct").window(131_072).can(TEXT_ONLY),
];

pub(in super::super) const FIREWORKS: &[KnownModel] = &[
    large("accounts/fireworks/models/llama-v3p3-70b-instruct").window(131_072).can(TEXT_ONLY),
    large("accounts/fireworks/models/deepseek-v3").window(131_072).can(TEXT_ONLY),
];

pub(in super::super) const OPENROUTER: &[KnownModel] = &[
    named("openrouter/auto"),
    large("openai/gpt-4o").window(128_000).can(ALL_ROUND),
    fast("openai/gpt-4o-mini").window(128_000).can(ALL_ROUND),
    large("anthropic/claude-sonnet-4.5").can(ALL_ROUND),
    fast("anthropic/claude-haiku-4.5").window(200_000).can(ALL_ROUND),
];

pub(in super::super) const DEEPSEEK: &[KnownModel] = &[
    large("deepseek-chat").window(131_072).output(8192).can(TEXT_ONLY),
    reasoning("deepseek-reasoner").window(131_072).output(65_536),
];

pub(in super::super) const XAI: &[KnownModel] = &[
    reasoning("grok-4").window(262_144),
    large("grok-3").window(131_072),
    medium("grok-3-mini").thinking().window(131_072),
];

pub(in super::super) const PERPLEXITY: &[KnownModel] =
    &[fast("sonar"), large("sonar-pro"), reasoning("sonar-reasoning-pro")];

pub(in super::super) const CLOUDFLARE: &[KnownModel] = &[
    large("@cf/meta/llama-3.3-70b-instruct-fp8-fast").can(TEXT_ONLY),
    fast("@cf/meta/llama-3.1-8b-instruct").can(TEXT_ONLY),
    named("@cf/baai/bge-base-en-v1.5").can(VECTORS),
];

pub(in super::super) const ALIBABA: &[KnownModel] =
    &[large("qwen-max"), medium("qwen-plus"), fast("qwen-turbo")];

pub(in super::super) const COHERE: &[KnownModel] =
    &[large("command-a-03-2025").window(262_144), fast("command-r7b-12-2024").window(131_072)];

pub(in super::super) const BEDROCK: &[KnownModel] = &[
    large("anthropic.claude-sonnet-4-5-20250929-v1:0").window(200_000).can(ALL_ROUND).prefill(),
    fast("anthropic.claude-haiku-4-5-20251001-v1:0").window(200_000).can(ALL_ROUND).prefill(),
    medium("amazon.nova-pro-v1:0").window(300_000),
];

/// The first is meant where none is named.
pub(in super::super) const COPILOT: &[KnownModel] =
    &[medium("gpt-4.1").can(ALL_ROUND), large("gpt-4o").can(ALL_ROUND), fast("gpt-4o-mini").can(ALL_ROUND)];

pub(in super::super) const CLAUDE_BRIDGE: &[KnownModel] =
    &[large("sonnet").window(200_000), fast("haiku").window(200_000), reasoning("opus").window(200_000)];

/// `medium` is `gpt-4-turbo` at the seed (requirements, row B19); the rest is from general knowledge.
pub(in super::super) const OPENAI_BRIDGE: &[KnownModel] = &[
    large("gpt-4o").window(128_000).can(ALL_ROUND),
    medium("gpt-4-turbo").window(128_000).can(ALL_ROUND),
    fast("gpt-4o-mini").window(128_000).can(ALL_ROUND),
];

pub(in super::super) const M365: &[KnownModel] = &[large("m365-copilot")];

pub(in super::super) const CODEX: &[KnownModel] =
    &[large("gpt-5-codex").thinking().window(400_000), fast("codex-mini-latest").thinking().window(200_000)];
