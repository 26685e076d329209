//! How much does the model think, after client and operator were heard?
//!
//! The operator's *off* is the last word. Otherwise the client's wish counts; where it has none,
//! the operator's level. *Adaptive* by the operator also turns a client's budget into "as you see
//! fit", because newer Claude models refuse budgets.

use super::form::{Effort, Thinking, ThinkingLevel};
use super::{THINKING_BUDGET, ThinkingRule};

/// Returns the level that client and operator come to; nothing where neither says anything.
pub(super) fn level(asked: &Thinking, rule: ThinkingRule) -> Option<ThinkingLevel> {
    let wish = asked
        .level
        .or_else(|| asked.effort.map(|effort| ThinkingLevel::Enabled { budget: Some(effort.budget()) }));
    match (rule, wish) {
        (ThinkingRule::Off, _) | (ThinkingRule::Adaptive, Some(ThinkingLevel::Off)) => {
            Some(ThinkingLevel::Off)
        }
        (ThinkingRule::AsAsked, wish) => wish,
        (ThinkingRule::Enabled { budget }, None) => Some(ThinkingLevel::Enabled { budget: Some(budget) }),
        (ThinkingRule::Enabled { .. }, Some(wish)) => Some(wish),
        (ThinkingRule::Adaptive, None | Some(ThinkingLevel::Enabled { .. } | ThinkingLevel::Adaptive)) => {
            Some(ThinkingLevel::Adaptive)
        }
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
    fn the_operator_s_off_is_final_and_otherwise_the_client_is_heard_first() {
        let none = Thinking::default();
        let off = Thinking { level: Some(Off), ..none.clone() };
        let on = Thinking { level: Some(Enabled { budget: Some(2000) }), ..none.clone() };
        let high = Thinking { effort: Some(Effort::High), ..none.clone() };
        let by_operator = ThinkingRule::Enabled { budget: 8192 };
        for (asked, rule, want, word) in [
            (&none, ThinkingRule::AsAsked, None, None),
            (&on, ThinkingRule::AsAsked, Some(Enabled { budget: Some(2000) }), Some(Effort::Low)),
            (&high, ThinkingRule::AsAsked, Some(Enabled { budget: Some(16_384) }), Some(Effort::High)),
            (&high, ThinkingRule::Off, Some(Off), None),
            (&none, by_operator, Some(Enabled { budget: Some(8192) }), Some(Effort::Medium)),
            (&off, by_operator, Some(Off), None),
            (&on, ThinkingRule::Adaptive, Some(Adaptive), None),
            (&off, ThinkingRule::Adaptive, Some(Off), None),
            (&none, ThinkingRule::Adaptive, Some(Adaptive), None),
        ] {
            assert_eq!(level(asked, rule), want, "{asked:?} {rule:?}");
            assert_eq!(effort(asked, rule), word, "{asked:?} {rule:?}");
        }
    }
}
