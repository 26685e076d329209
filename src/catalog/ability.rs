//! What may a request need of a model, and what is known of the model?
//!
//! An [`Ability`] is one thing that a request can ask for and a model can lack. A model's [`Skills`]
//! have three answers for each: it can, it cannot, nobody knows. Nobody knows is the usual one and
//! stands in nobody's way.
//!
//! Who says so matters: what the operator wrote is taken at its word and may refuse a request,
//! what the catalogue believes only makes room for a target that is not known to be unfit.

use crate::base::api::Api;

/// One thing that a request can ask for and a model can lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ability {
    /// Answering a conversation.
    Chat,
    /// The legacy completion of a text.
    Completions,
    /// Vectors for texts.
    Embeddings,
    /// Calling tools.
    Tools,
    /// Reading images.
    Vision,
    /// Answering in JSON, with or without a schema.
    Json,
}

impl Ability {
    /// Every ability, in the order in which it is told.
    pub const ALL: [Ability; 6] = [
        Ability::Chat,
        Ability::Completions,
        Ability::Embeddings,
        Ability::Tools,
        Ability::Vision,
        Ability::Json,
    ];

    /// Returns the word of the configuration.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Ability::Chat => "chat",
            Ability::Completions => "completions",
            Ability::Embeddings => "embeddings",
            Ability::Tools => "tools",
            Ability::Vision => "vision",
            Ability::Json => "json",
        }
    }

    /// Finds an ability by its word, in the singular as well.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Ability> {
        let word = match word {
            "completion" => "completions",
            "embedding" => "embeddings",
            other => other,
        };
        Ability::ALL.into_iter().find(|ability| ability.as_label() == word)
    }

    /// Returns what a call needs whatever its body says.
    #[must_use]
    pub fn of_call(api: Api) -> Ability {
        match api {
            Api::ChatCompletions
            | Api::Responses
            | Api::Messages
            | Api::CountTokens
            | Api::GenerateContent
            | Api::Converse
            | Api::CohereChat
            | Api::OllamaChat
            | Api::Generate => Ability::Chat,
            Api::Completions => Ability::Completions,
            Api::Embeddings => Ability::Embeddings,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of abilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Abilities(u8);

impl Abilities {
    /// Makes the set of these.
    #[must_use]
    pub const fn of(list: &[Ability]) -> Self {
        let (mut bits, mut rest) = (0, list);
        // No iterators in a `const fn`.
        while let [first, others @ ..] = rest {
            bits |= first.bit();
            rest = others;
        }
        Abilities(bits)
    }

    /// Returns the set with one more.
    #[must_use]
    pub fn with(self, ability: Ability) -> Self {
        Abilities(self.0 | ability.bit())
    }

    /// Tells whether it is in the set.
    #[must_use]
    pub fn has(self, ability: Ability) -> bool {
        self.0 & ability.bit() != 0
    }

    /// Lists what is in it.
    pub fn iter(self) -> impl Iterator<Item = Ability> {
        Ability::ALL.into_iter().filter(move |ability| self.has(*ability))
    }
}

/// What is known of a model's abilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skills {
    can: Abilities,
    cannot: Abilities,
    is_written: bool,
}

impl Skills {
    /// What the operator wrote: what is not in the list, the model cannot.
    #[must_use]
    pub fn written(can: Abilities) -> Self {
        Skills { can, cannot: Abilities(!can.0), is_written: true }
    }

    /// What the catalogue believes; in neither list means nobody knows.
    #[must_use]
    pub const fn believed(can: &[Ability], cannot: &[Ability]) -> Self {
        Skills { can: Abilities::of(can), cannot: Abilities::of(cannot), is_written: false }
    }

    /// Returns what is known that the model can.
    #[must_use]
    pub fn can(self) -> Abilities {
        self.can
    }

    /// Tells whether the operator wrote it.
    #[must_use]
    pub fn is_written(self) -> bool {
        self.is_written
    }

    /// Finds the first of the needs that the model is known to lack.
    #[must_use]
    pub fn lacks(self, needs: Abilities) -> Option<Ability> {
        // Without an allocation and mostly without a loop: this is asked for every target.
        let lacking = Abilities(needs.0 & self.cannot.0);
        if lacking.0 == 0 { None } else { lacking.iter().next() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_a_written_list_is_lacking_and_what_nobody_knows_is_not() {
        let vision = Abilities::of(&[Ability::Chat, Ability::Vision]);
        let written = Skills::written(Abilities::of(&[Ability::Chat, Ability::Tools]));
        assert_eq!(written.lacks(vision), Some(Ability::Vision));
        assert_eq!(written.lacks(Abilities::of(&[Ability::Tools])), None);
        let believed = Skills::believed(&[Ability::Chat], &[Ability::Embeddings]);
        assert_eq!(believed.lacks(vision), None, "nobody knows");
        assert_eq!(believed.lacks(Abilities::of(&[Ability::Embeddings])), Some(Ability::Embeddings));
        for needs in Ability::ALL {
            assert_eq!(Skills::default().lacks(Abilities::of(&[needs])), None, "{needs:?}");
        }
    }

    #[test]
    fn every_word_finds_its_ability_also_in_the_singular() {
        for ability in Ability::ALL {
            assert_eq!(Ability::from_word(ability.as_label()), Some(ability));
        }
        assert_eq!(Ability::from_word("embedding"), Some(Ability::Embeddings));
        assert_eq!(Ability::from_word("completion"), Some(Ability::Completions));
        assert_eq!(Ability::from_word("streaming"), None, "every model streams as far as we know");
    }
}
