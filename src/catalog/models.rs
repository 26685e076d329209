//! Well-known models of the built providers.
//!
//! A name here lets a client ask for the model without any route (`implicit_routes`) and gives
//! `context`, price and the reasoning timer where the file says nothing. A number stands only
//! where it was certain; absent means unknown, which costs nothing but the estimate. A model that
//! a provider has withdrawn answers 404 and the next target is taken, so an old line does no harm.
//!
//! Written from general knowledge and not yet held against the providers' pages; to check before
//! a release: platform.openai.com/docs/models and /docs/pricing,
//! docs.anthropic.com/en/docs/about-claude/models and /pricing, ai.google.dev/gemini-api/docs/models,
//! and the model pages of the other providers. Prices are US dollars per million tokens, standard
//! tier, without cache or batch discounts.

/// One model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownModel {
    /// The provider's name for it.
    pub name: &'static str,
    /// Context window in tokens.
    pub context: Option<u64>,
    /// US dollars per million tokens, in and out.
    pub price: Option<(f64, f64)>,
    /// Whether it thinks before it answers.
    pub reasoning: bool,
    /// Size class.
    pub tier: Option<&'static str>,
}

/// A model of which only the name is certain.
const fn named(name: &'static str) -> KnownModel {
    KnownModel { name, context: None, price: None, reasoning: false, tier: None }
}

/// A model whose window and price are certain.
const fn priced(
    name: &'static str,
    tier: &'static str,
    context: u64,
    (input, output): (f64, f64),
) -> KnownModel {
    KnownModel {
        name,
        context: Some(context),
        price: Some((input, output)),
        reasoning: false,
        tier: Some(tier),
    }
}

/// The same model, thinking first.
const fn thinking(model: KnownModel) -> KnownModel {
    KnownModel { reasoning: true, ..model }
}

pub(super) const OPENAI: &[KnownModel] = &[
    priced("gpt-4o", "large", 128_000, (2.5, 10.0)),
    priced("gpt-4o-mini", "fast", 128_000, (0.15, 0.6)),
    priced("gpt-4.1", "large", 1_047_576, (2.0, 8.0)),
    priced("gpt-4.1-mini", "medium", 1_047_576, (0.4, 1.6)),
    priced("gpt-4.1-nano", "fast", 1_047_576, (0.1, 0.4)),
    thinking(priced("o3", "reasoning", 200_000, (2.0, 8.0))),
    thinking(priced("o3-mini", "reasoning", 200_000, (1.1, 4.4))),
    thinking(priced("o4-mini", "reasoning", 200_000, (1.1, 4.4))),
    thinking(priced("gpt-5", "large", 400_000, (1.25, 10.0))),
    thinking(priced("gpt-5-mini", "medium", 400_000, (0.25, 2.0))),
    thinking(priced("gpt-5-nano", "fast", 400_000, (0.05, 0.4))),
    KnownModel { price: Some((0.02, 0.0)), context: Some(8192), ..named("text-embedding-3-small") },
    KnownModel { price: Some((0.13, 0.0)), context: Some(8192), ..named("text-embedding-3-large") },
];

pub(super) const ANTHROPIC: &[KnownModel] = &[
    priced("claude-haiku-4-5", "fast", 200_000, (1.0, 5.0)),
    priced("claude-sonnet-4-5", "large", 200_000, (3.0, 15.0)),
    priced("claude-sonnet-4-0", "large", 200_000, (3.0, 15.0)),
    priced("claude-opus-4-1", "large", 200_000, (15.0, 75.0)),
    priced("claude-opus-4-0", "large", 200_000, (15.0, 75.0)),
    priced("claude-3-5-haiku-latest", "fast", 200_000, (0.8, 4.0)),
    priced("claude-3-7-sonnet-latest", "large", 200_000, (3.0, 15.0)),
];

pub(super) const GEMINI: &[KnownModel] = &[
    named("gemini-2.5-flash"),
    named("gemini-2.5-flash-lite"),
    thinking(named("gemini-2.5-pro")),
    named("gemini-2.0-flash"),
];

pub(super) const GROQ: &[KnownModel] = &[
    named("llama-3.3-70b-versatile"),
    named("llama-3.1-8b-instant"),
    named("openai/gpt-oss-120b"),
    named("openai/gpt-oss-20b"),
];

pub(super) const MISTRAL: &[KnownModel] = &[
    named("mistral-large-latest"),
    named("mistral-medium-latest"),
    named("mistral-small-latest"),
    named("codestral-latest"),
    named("mistral-embed"),
];

pub(super) const TOGETHER: &[KnownModel] = &[
    named("meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    named("deepseek-ai/DeepSeek-V3"),
    thinking(named("deepseek-ai/DeepSeek-R1")),
];

pub(super) const CEREBRAS: &[KnownModel] =
    &[named("llama-3.3-70b"), named("llama3.1-8b"), named("gpt-oss-120b")];

pub(super) const NVIDIA: &[KnownModel] =
    &[named("meta/llama-3.3-70b-instruct"), named("meta/llama-3.1-8b-instruct")];

pub(super) const FIREWORKS: &[KnownModel] = &[
    named("accounts/fireworks/models/llama-v3p3-70b-instruct"),
    named("accounts/fireworks/models/deepseek-v3"),
];

pub(super) const OPENROUTER: &[KnownModel] = &[
    named("openrouter/auto"),
    named("openai/gpt-4o"),
    named("openai/gpt-4o-mini"),
    named("anthropic/claude-sonnet-4.5"),
    named("anthropic/claude-haiku-4.5"),
];

pub(super) const DEEPSEEK: &[KnownModel] = &[named("deepseek-chat"), thinking(named("deepseek-reasoner"))];

pub(super) const XAI: &[KnownModel] =
    &[thinking(named("grok-4")), named("grok-3"), thinking(named("grok-3-mini"))];

pub(super) const PERPLEXITY: &[KnownModel] =
    &[named("sonar"), named("sonar-pro"), thinking(named("sonar-reasoning-pro"))];
