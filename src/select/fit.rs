//! Which targets can serve this request at all?
//!
//! Two questions of each target, in the order of choice: does its model lack something that the
//! request needs, and does the request seem longer than its window? What the operator wrote is
//! taken at its word: such a target is shed, and where all are, the request is refused. What the
//! catalogue believes only makes room: such a target is shed while another is left that is not
//! known to be unfit, and asked all the same where none is.
//!
//! A wish for a size class puts targets of exactly that class first, then those of the next higher
//! ones, then the others, each in their own order; where a route names providers without models,
//! the wish has picked among the models already and the order of the providers stays.
//!
//! The window is held against an estimate (text bytes ÷ 4, and the tokens asked for), and only
//! where the file says the window: an estimate and a belief together are too little to refuse by.

use crate::catalog::{Abilities, Ability, Tier};
use crate::config::plan::Traits;
use crate::translate::{Losses, Untranslatable};
use smallvec::SmallVec;

/// What a request wants of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// What the model must be able to do.
    pub needs: Abilities,
    /// Estimated tokens, the answer included.
    pub tokens: u64,
    /// The size class that is wanted.
    pub tier: Option<Tier>,
}

/// Why a target was left out for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Its model cannot do it.
    Lacks(Ability),
    /// The request is longer than its window of this many tokens.
    Window(u64),
    /// The request would lose this on the way into its dialect, and the route is strict.
    Loses(Losses),
    /// The request cannot be said in its dialect.
    Untranslatable(Untranslatable),
    /// The request goes on from what another provider keeps.
    Elsewhere,
}

impl Shed {
    /// Returns what the request would lose there.
    #[must_use]
    pub fn losses(self) -> Losses {
        match self {
            Shed::Loses(losses) => losses,
            Shed::Lacks(_) | Shed::Window(_) | Shed::Untranslatable(_) | Shed::Elsewhere => Losses::default(),
        }
    }

    /// Returns the word for logs and pages.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Shed::Lacks(Ability::Chat) => "no_chat",
            Shed::Lacks(Ability::Completions) => "no_completions",
            Shed::Lacks(Ability::Embeddings) => "no_embeddings",
            Shed::Lacks(Ability::Tools) => "no_tools",
            Shed::Lacks(Ability::Vision) => "no_vision",
            Shed::Lacks(Ability::Json) => "no_json",
            Shed::Window(_) => "context_window",
            Shed::Loses(_) => "translation_loss",
            Shed::Untranslatable(_) => "untranslatable",
            Shed::Elsewhere => "state_elsewhere",
        }
    }
}

/// What a target is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    Believed(Shed),
    Unfit(Shed),
}

fn judge(traits: &Traits, wish: &Wish) -> Verdict {
    if let Some(window) = traits.written_context.filter(|window| wish.tokens > *window) {
        return Verdict::Unfit(Shed::Window(window));
    }
    match traits.skills.lacks(wish.needs) {
        None => Verdict::Fits,
        Some(lacking) if traits.skills.is_written() => Verdict::Unfit(Shed::Lacks(lacking)),
        Some(lacking) => Verdict::Believed(Shed::Lacks(lacking)),
    }
}

/// Tells whether nothing is known against a target.
#[must_use]
pub fn fits(traits: &Traits, wish: &Wish) -> bool {
    judge(traits, wish) == Verdict::Fits
}

/// Finds the targets of a line that cannot serve the wish: their places, in order, each with the
/// reason. `traits` finds what decides.
pub fn shed<T>(line: &[T], wish: &Wish, traits: impl Fn(&T) -> Traits) -> SmallVec<[(usize, Shed); 2]> {
    let mut unfit = SmallVec::new();
    // The usual case: all fit.
    if line.iter().all(|target| fits(&traits(target), wish)) {
        return unfit;
    }
    let any_fits = line.iter().any(|target| fits(&traits(target), wish));
    for (at, target) in line.iter().enumerate() {
        match judge(&traits(target), wish) {
            Verdict::Unfit(why) => unfit.push((at, why)),
            Verdict::Believed(why) if any_fits => unfit.push((at, why)),
            Verdict::Fits | Verdict::Believed(_) => {}
        }
    }
    unfit
}

/// Puts targets of the wished size class first. Keeps the order of equals.
pub fn prefer<T>(line: &mut [T], wish: Option<Tier>, traits: impl Fn(&T) -> Traits) {
    if let Some(tier) = wish {
        line.sort_by_key(|target| tier.distance(traits(target).tier));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Skills;
    use proptest::prelude::*;

    fn written(can: &[Ability]) -> Traits {
        Traits { skills: Skills::written(Abilities::of(can)), ..Traits::default() }
    }

    fn believed(cannot: &[Ability]) -> Traits {
        Traits { skills: Skills::believed(&[], cannot), ..Traits::default() }
    }

    fn window(tokens: u64) -> Traits {
        Traits { written_context: Some(tokens), ..Traits::default() }
    }

    fn vision() -> Wish {
        Wish { needs: Abilities::of(&[Ability::Chat, Ability::Vision]), ..Wish::default() }
    }

    /// Places that are kept, and what the others lack.
    fn told(traits: &[Traits], wish: &Wish) -> (Vec<usize>, Vec<&'static str>) {
        let mut line: Vec<usize> = (0..traits.len()).collect();
        let left_out = shed(&line, wish, |at| traits[*at]);
        line.retain(|at| left_out.iter().all(|(unfit, _)| unfit != at));
        (line, left_out.iter().map(|(_, why)| why.as_label()).collect())
    }

    #[test]
    fn what_the_operator_wrote_refuses_and_what_the_catalogue_believes_makes_room() {
        let blind = written(&[Ability::Chat]);
        let sees = written(&[Ability::Chat, Ability::Vision]);
        let perhaps_blind = believed(&[Ability::Vision]);
        let unknown = Traits::default();
        for (traits, kept, why) in [
            (&[blind, sees][..], &[1][..], "the one that can"),
            (&[blind, blind], &[], "nobody can"),
            (&[perhaps_blind, unknown], &[1], "room is made for one that nothing is known of"),
            (&[perhaps_blind, sees], &[1], "and for one that can"),
            (&[perhaps_blind, perhaps_blind], &[0, 1], "a belief alone refuses nothing"),
            (&[blind, perhaps_blind], &[1], "nor beside one that was written"),
            (&[unknown, blind, sees], &[0, 2], "the order stays"),
        ] {
            let (line, left_out) = told(traits, &vision());
            assert_eq!(line, kept, "{why}");
            assert!(left_out.iter().all(|word| *word == "no_vision"), "{why}");
            assert_eq!(line.len() + left_out.len(), traits.len(), "{why}");
        }
    }

    #[test]
    fn a_request_longer_than_a_written_window_goes_to_a_larger_one() {
        let long = Wish { tokens: 9000, ..Wish::default() };
        assert_eq!(told(&[window(8000), window(9000), Traits::default()], &long).0, [1, 2]);
        assert_eq!(told(&[window(8000)], &long), (vec![], vec!["context_window"]));
    }

    #[test]
    fn a_wish_for_a_size_moves_the_exact_ones_first_and_loses_nobody() {
        let sized = |tier| Traits { tier, ..Traits::default() };
        let traits = [
            sized(Some(Tier::Fast)),
            sized(None),
            sized(Some(Tier::Reasoning)),
            sized(Some(Tier::Large)),
            sized(Some(Tier::Large)),
        ];
        for (wish, want) in [
            (None, [0, 1, 2, 3, 4]),
            (Some(Tier::Large), [3, 4, 2, 0, 1]),
            (Some(Tier::Medium), [3, 4, 2, 0, 1]),
            (Some(Tier::Fast), [0, 3, 4, 2, 1]),
            (Some(Tier::Reasoning), [2, 0, 1, 3, 4]),
        ] {
            let mut line = [0, 1, 2, 3, 4];
            prefer(&mut line, wish, |at: &usize| traits[*at]);
            assert_eq!(line, want, "{wish:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_a_belief_never_empties_the_line(
            known in prop::collection::vec((any::<bool>(), any::<bool>()), 1..6)
        ) {
            let traits: Vec<Traits> = known
                .iter()
                .map(|(is_written, can)| match (is_written, can) {
                    (true, true) => written(&[Ability::Vision, Ability::Chat]),
                    (true, false) => written(&[Ability::Chat]),
                    (false, true) => Traits::default(),
                    (false, false) => believed(&[Ability::Vision]),
                })
                .collect();
            let (line, left_out) = told(&traits, &vision());
            prop_assert_eq!(line.len() + left_out.len(), traits.len());
            prop_assert_eq!(line.is_empty(), known.iter().all(|(is_written, can)| *is_written && !can));
        }
    }
}
