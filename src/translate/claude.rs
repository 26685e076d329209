//! What does a Claude model refuse that others of its dialect take?
//!
//! Since 4.6 Claude decides itself how long it thinks (`adaptive`, with an effort beside it), and since
//! Opus 4.7 it takes nothing else: a budget is refused with 400, and so is every `temperature`, `top_p`
//! and `top_k` but the one that it has unasked. The newest think always. The name tells which model it
//! is, at Anthropic, Bedrock and Vertex alike; a name that says nothing (a profile, a deployment) gets
//! what the client asked for.
//!
//! Source: Anthropic's migration guides of Opus 4.7 to Sonnet 5.5 and its page on adaptive thinking,
//! Bedrock's page on the same, inspect_ai#3721 ("`temperature` is deprecated for this model"),
//! read 2026-11.

use super::form::{Effort, Sampling, Thinking, ThinkingLevel};
use super::loss::{Loss, Losses};
use super::server;
use std::borrow::Cow;

/// Least `top_p` that it takes while it thinks.
pub(super) const TOP_P_MIN: f64 = 0.95;

/// A line of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Opus,
    Sonnet,
    Haiku,
    /// Fable and Mythos, which began with these rules.
    Myth,
}

/// A model of Anthropic's, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    family: Family,
    /// Both numbers of its generation.
    version: (u8, u8),
}

/// How a model is told not to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    /// In so many words.
    Said,
    /// By saying nothing: it is what it does unasked.
    Unsaid,
    /// It cannot be.
    Never,
}

impl Model {
    /// Reads `claude-opus-4-7`, `eu.anthropic.claude-sonnet-4-5-20250929-v1:0`, `claude-3-7-sonnet-latest`,
    /// `anthropic/claude-opus-4.7`; nothing where it is none or does not tell.
    fn of(name: &str) -> Option<Self> {
        let (_, name) = name.rsplit_once("claude")?;
        let mut family = None;
        let mut numbers = [None, None];
        for word in name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            let is_number = word.len() <= 2;
            match (word, word.parse::<u8>().ok().filter(|_| is_number)) {
                ("opus", _) => family = Some(Family::Opus),
                ("sonnet", _) => family = Some(Family::Sonnet),
                ("haiku", _) => family = Some(Family::Haiku),
                ("fable" | "mythos", _) => family = Some(Family::Myth),
                (_, Some(number)) if numbers[1].is_none() => {
                    let place = usize::from(numbers[0].is_some());
                    numbers[place] = Some(number);
                }
                // A date or an edition: what follows is no generation.
                _ if numbers[0].is_some() => break,
                _ => {}
            }
        }
        let family = family?;
        let is_known = numbers[0].is_some() || family == Family::Myth;
        let [major, minor] = numbers.map(|number| number.unwrap_or(0));
        is_known.then_some(Model { family, version: (major, minor) })
    }

    /// Tells whether it takes `adaptive`.
    fn adapts(self) -> bool {
        match self.family {
            Family::Opus | Family::Sonnet => self.version >= (4, 6),
            Family::Haiku => self.version >= (5, 0),
            Family::Myth => true,
        }
    }

    /// Tells whether it refuses what older models were steered by: budgets and sampling.
    fn steers_itself(self) -> bool {
        match self.family {
            Family::Opus => self.version >= (4, 7),
            Family::Sonnet | Family::Haiku => self.version >= (5, 0),
            Family::Myth => true,
        }
    }

    fn off(self) -> Off {
        match (self.family, self.version) {
            (Family::Myth, _) | (Family::Opus | Family::Sonnet, (5, 5..) | (6.., _)) => Off::Never,
            // Bedrock refuses the word.
            (Family::Opus, (4, 7..)) => Off::Unsaid,
            (Family::Opus | Family::Sonnet | Family::Haiku, _) => Off::Said,
        }
    }
}

/// Tells whether a model refuses to be told how to draw tokens (`temperature`, `top_p`, `top_k`).
pub(super) fn draws_alone(model: &str) -> bool {
    Model::of(model).is_some_and(Model::steers_itself)
}

/// Returns the sampling that a model takes; what it does not is noted.
pub(super) fn sampling<'a>(asked: &'a Sampling, model: &str, lost: &mut Losses) -> Cow<'a, Sampling> {
    let is_steered = asked.temperature.is_some() || asked.top_p.is_some() || asked.top_k.is_some();
    if !is_steered || !draws_alone(model) {
        return Cow::Borrowed(asked);
    }
    // 1 is what it does unasked.
    lost.add_if(server::is_not(asked.temperature.as_ref(), 1.0), Loss::Temperature);
    lost.add_if(server::is_not(asked.top_p.as_ref(), 1.0), Loss::TopP);
    lost.add_if(asked.top_k.is_some(), Loss::TopK);
    Cow::Owned(Sampling { temperature: None, top_p: None, top_k: None, ..asked.clone() })
}

/// Returns the level that a model has which is nearest to the one asked for; what is none is noted.
pub(super) fn level(
    asked: &Thinking,
    level: Option<ThinkingLevel>,
    model: &str,
    lost: &mut Losses,
) -> Option<ThinkingLevel> {
    let (Some(level), Some(model)) = (level, Model::of(model)) else { return level };
    match level {
        ThinkingLevel::Off => {
            lost.add_if(model.off() == Off::Never, Loss::Thinking);
            (model.off() == Off::Said).then_some(ThinkingLevel::Off)
        }
        // A client that gives a number means it, where a number is taken.
        ThinkingLevel::Enabled { .. } if model.steers_itself() || (model.adapts() && !is_counted(asked)) => {
            Some(ThinkingLevel::Adaptive)
        }
        ThinkingLevel::Adaptive if !model.adapts() => Some(ThinkingLevel::Enabled { budget: None }),
        ThinkingLevel::Enabled { .. } | ThinkingLevel::Adaptive => Some(level),
    }
}

fn is_counted(asked: &Thinking) -> bool {
    matches!(asked.level, Some(ThinkingLevel::Enabled { budget: Some(_) }))
}

/// Returns how hard a model is told to think that decides itself how long; nothing where it is not.
pub(super) fn effort(asked: &Thinking, level: Option<ThinkingLevel>) -> Option<Effort> {
    let of_budget = || match asked.level {
        Some(ThinkingLevel::Enabled { budget }) => budget.map(Effort::of_budget),
        Some(ThinkingLevel::Off | ThinkingLevel::Adaptive) | None => None,
    };
    (level == Some(ThinkingLevel::Adaptive)).then(|| asked.effort.or_else(of_budget)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ThinkingLevel::{Adaptive, Enabled};
    use serde_json::Number;

    #[test]
    fn the_generation_is_read_from_every_way_to_write_a_name() {
        for (name, want) in [
            ("claude-opus-4-7", Some((Family::Opus, 4, 7))),
            ("claude-opus-4-8-20260528", Some((Family::Opus, 4, 8))),
            ("claude-opus-4-20250514", Some((Family::Opus, 4, 0))),
            ("claude-sonnet-4-5@20250929", Some((Family::Sonnet, 4, 5))),
            ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", Some((Family::Haiku, 4, 5))),
            ("anthropic.claude-opus-4-6-v1", Some((Family::Opus, 4, 6))),
            ("anthropic.claude-sonnet-4-20250514-v1:0", Some((Family::Sonnet, 4, 0))),
            ("claude-3-7-sonnet-latest", Some((Family::Sonnet, 3, 7))),
            ("anthropic/claude-opus-4.7", Some((Family::Opus, 4, 7))),
            ("anthropic/claude-4.6-sonnet", Some((Family::Sonnet, 4, 6))),
            ("claude-sonnet-5", Some((Family::Sonnet, 5, 0))),
            ("claude-fable-5-1", Some((Family::Myth, 5, 1))),
            ("claude-mythos-preview", Some((Family::Myth, 0, 0))),
            ("claude-v2", None),
            ("claude-opus-latest", None),
            ("opus", None),
            ("gpt-4.1", None),
        ] {
            let got = Model::of(name).map(|model| (model.family, model.version.0, model.version.1));
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn what_a_model_refuses_of_the_sampling_is_left_out_and_noted() {
        let tenths = |n: u8| Number::from_f64(f64::from(n) / 10.0);
        let asked = Sampling {
            temperature: tenths(2),
            top_p: tenths(9),
            top_k: Some(40.into()),
            stop: vec!["a".to_owned()],
            ..Sampling::default()
        };
        for (model, want) in [
            ("claude-opus-4-6", ""),
            ("claude-sonnet-4-6", ""),
            ("claude-haiku-4-5", ""),
            ("target/model", ""),
            ("claude-opus-4-7", "temperature,top_p,top_k"),
            ("us.anthropic.claude-opus-4-8-v1:0", "temperature,top_p,top_k"),
            ("claude-sonnet-5-5", "temperature,top_p,top_k"),
            ("claude-fable-5", "temperature,top_p,top_k"),
        ] {
            let mut lost = Losses::default();
            let got = sampling(&asked, model, &mut lost);
            assert_eq!(lost.to_string(), want, "{model}");
            assert_eq!((got.temperature.is_some(), got.stop.len()), (want.is_empty(), 1), "{model}");
        }
        let usual = Sampling { temperature: tenths(10), top_p: tenths(10), ..Sampling::default() };
        let mut lost = Losses::default();
        assert_eq!(sampling(&usual, "claude-opus-4-7", &mut lost).temperature, None);
        assert!(lost.is_empty(), "1 is what it does unasked");
    }

    #[test]
    fn the_nearest_level_is_the_one_that_the_model_has() {
        let off = Thinking { level: Some(ThinkingLevel::Off), ..Thinking::default() };
        let hard = Thinking { effort: Some(Effort::High), ..Thinking::default() };
        let counted = Thinking { level: Some(Enabled { budget: Some(20_000) }), ..Thinking::default() };
        let free = Thinking { level: Some(Adaptive), ..Thinking::default() };
        let budget = |asked: &Thinking| match asked.level {
            None => Some(Enabled { budget: asked.effort.map(Effort::budget) }),
            said => said,
        };
        for (asked, model, want, word, is_lost) in [
            (&hard, "claude-haiku-4-5", Some(Enabled { budget: Some(16_384) }), None, false),
            (&hard, "some-model", Some(Enabled { budget: Some(16_384) }), None, false),
            (&hard, "claude-sonnet-4-6", Some(Adaptive), Some(Effort::High), false),
            (&hard, "claude-opus-4-7", Some(Adaptive), Some(Effort::High), false),
            (&counted, "claude-opus-4-6", Some(Enabled { budget: Some(20_000) }), None, false),
            (&counted, "claude-opus-4-7", Some(Adaptive), Some(Effort::High), false),
            (&free, "claude-sonnet-4-5", Some(Enabled { budget: None }), None, false),
            (&free, "claude-opus-5", Some(Adaptive), None, false),
            (&off, "claude-opus-4-6", Some(ThinkingLevel::Off), None, false),
            (&off, "claude-opus-4-7", None, None, false),
            (&off, "claude-opus-5", Some(ThinkingLevel::Off), None, false),
            (&off, "claude-haiku-5-5", Some(ThinkingLevel::Off), None, false),
            (&off, "claude-sonnet-5-5", None, None, true),
            (&off, "claude-mythos-preview", None, None, true),
        ] {
            let mut lost = Losses::default();
            let got = level(asked, budget(asked), model, &mut lost);
            assert_eq!((got, effort(asked, got)), (want, word), "{asked:?} {model}");
            assert_eq!(lost.has(Loss::Thinking), is_lost, "{asked:?} {model}");
        }
    }
}
