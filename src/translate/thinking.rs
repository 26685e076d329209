//! How much does the model think, in the words that its dialect has?
//!
//! As the client wishes, a word being as good as a number; where it says nothing, as the model does
//! unasked. A target that refused to think is asked once more without, whatever the client wishes.
//! What only some models of a dialect take is decided by who knows them (`claude`, `server`).

use super::form::{Effort, Thinking, ThinkingLevel};
use super::{THINKING_BUDGET, ThinkingRule};

/// Returns the level that is asked for; nothing where nothing is.
pub(super) fn level(asked: &Thinking, rule: ThinkingRule) -> Option<ThinkingLevel> {
    match rule {
        ThinkingRule::Off => Some(ThinkingLevel::Off),
        ThinkingRule::AsAsked => asked
            .level
            .or_else(|| asked.effort.map(|effort| ThinkingLevel::Enabled { budget: Some(effort.budget()) })),
    }
}

/// Returns the tokens to think with where thinking is enabled.
pub(super) fn budget(asked: &Thinking, budget: Option<u64>) -> u64 {
    budget.or(asked.effort.map(Effort::budget)).unwrap_or(THINKING_BUDGET)
}

/// Returns the word for dialects that have one; nothing where the model is left to itself.
pub(super) fn effort(asked: &Thinking, rule: ThinkingRule) -> Option<Effort> {
    match level(asked, rule)? {
        ThinkingLevel::Off => None,
        ThinkingLevel::Adaptive => asked.effort,
        ThinkingLevel::Enabled { budget: tokens } => {
            Some(asked.effort.unwrap_or_else(|| Effort::of_budget(budget(asked, tokens))))
        }
    }
}

/// Returns the word of models that know three.
pub(super) fn word_of_three(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Max => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ThinkingLevel::{Adaptive, Enabled, Off};

    #[test]
    fn a_word_is_as_good_as_a_number_and_off_is_final() {
        let none = Thinking::default();
        let off = Thinking { level: Some(Off), ..none.clone() };
        let free = Thinking { level: Some(Adaptive), ..none.clone() };
        let on = Thinking { level: Some(Enabled { budget: Some(2000) }), ..none.clone() };
        let high = Thinking { effort: Some(Effort::High), ..none.clone() };
        for (asked, rule, want, word) in [
            (&none, ThinkingRule::AsAsked, None, None),
            (&off, ThinkingRule::AsAsked, Some(Off), None),
            (&free, ThinkingRule::AsAsked, Some(Adaptive), None),
            (&on, ThinkingRule::AsAsked, Some(Enabled { budget: Some(2000) }), Some(Effort::Low)),
            (&high, ThinkingRule::AsAsked, Some(Enabled { budget: Some(16_384) }), Some(Effort::High)),
            (&high, ThinkingRule::Off, Some(Off), None),
        ] {
            assert_eq!(level(asked, rule), want, "{asked:?} {rule:?}");
            assert_eq!(effort(asked, rule), word, "{asked:?} {rule:?}");
        }
    }
}
