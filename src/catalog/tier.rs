//! How large is a model?
//!
//! Four size classes, `fast < medium < large < reasoning`. Who asks for one gets a model of exactly
//! that class, else of the next higher one that there is, else the first: better too good than too
//! simple, and better any than none.
//!
//! Source: the seed with the fallback chain (requirements, 0.5, "Tier pick").

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Small and quick.
    Fast,
    /// In between.
    Medium,
    /// Large.
    Large,
    /// Thinks before it answers.
    Reasoning,
}

impl Tier {
    /// Every class, the smallest first.
    pub const ALL: [Tier; 4] = [Tier::Fast, Tier::Medium, Tier::Large, Tier::Reasoning];

    /// Returns the word of the configuration.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Tier::Fast => "fast",
            Tier::Medium => "medium",
            Tier::Large => "large",
            Tier::Reasoning => "reasoning",
        }
    }

    /// Finds a class by its word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.as_label() == word)
    }

    /// Returns how well a model of some class serves this wish: 0 exactly, then the higher ones by
    /// how much higher they are, then all others alike.
    #[must_use]
    pub fn distance(self, other: Option<Tier>) -> u8 {
        match other {
            Some(other) if other >= self => other as u8 - self as u8,
            Some(_) | None => u8::MAX,
        }
    }
}

/// Picks the place of the model that serves the wish best; without a wish the first.
#[must_use]
pub fn pick(wish: Option<Tier>, tiers: impl Iterator<Item = Option<Tier>>) -> usize {
    let Some(wish) = wish else { return 0 };
    // Of equals the first is kept.
    tiers.map(|tier| wish.distance(tier)).enumerate().min_by_key(|(_, far)| *far).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_class_comes_before_the_next_higher_and_that_before_the_first() {
        let models = [Some(Tier::Medium), None, Some(Tier::Reasoning), Some(Tier::Large), Some(Tier::Medium)];
        for (wish, want, why) in [
            (None, 0, "no wish"),
            (Some(Tier::Medium), 0, "exact, the first of two"),
            (Some(Tier::Large), 3, "exact"),
            (Some(Tier::Fast), 0, "the next higher"),
            (Some(Tier::Reasoning), 2, "exact"),
        ] {
            assert_eq!(pick(wish, models.into_iter()), want, "{why}");
        }
        assert_eq!(pick(Some(Tier::Large), [None, Some(Tier::Fast)].into_iter()), 0, "none fits: the first");
        assert_eq!(pick(Some(Tier::Large), std::iter::empty()), 0);
    }
}
