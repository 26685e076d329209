//! What is known of a provider's models?
//!
//! The file's word comes first, the catalogue's fills in. What the file says of abilities and of
//! the window may refuse a request; what the catalogue says only informs (see `catalog`).

use crate::catalog::{Abilities, Ability, KnownModel, Skills, Tier};
use crate::config::plan::{Model, ModelLimits};
use crate::config::servers::ModelFile;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry::Vacant;
use std::sync::Arc;

pub(super) type Models = BTreeMap<Arc<str>, Model>;

/// Joins the file's models with the catalogue's: names in order, how many of them the file wrote,
/// and what is known of each. `known` are offered, `described` only fill in.
pub(super) fn collect(
    files: Vec<ModelFile>,
    known: &[KnownModel],
    described: &[KnownModel],
) -> (Vec<Arc<str>>, usize, Models) {
    let mut order: Vec<Arc<str>> = Vec::new();
    let mut models = Models::new();
    for file in files {
        let Some(name) = file.name.as_deref().map(Arc::<str>::from) else { continue };
        let base = described.iter().find(|known| *known.name == *name).map(of_catalogue).unwrap_or_default();
        order.push(Arc::clone(&name));
        models.insert(name, overlay(base, file));
    }
    let written = order.len();
    for known in known {
        let name: Arc<str> = known.name.into();
        if let Vacant(vacant) = models.entry(Arc::clone(&name)) {
            order.push(name);
            vacant.insert(of_catalogue(known));
        }
    }
    (order, written, models)
}

/// Returns what the catalogue knows of a model that a route names and no list holds.
pub(super) fn of_catalogue(known: &KnownModel) -> Model {
    Model {
        context: known.context,
        written_context: None,
        max_output: known.max_output,
        price_input: known.price.map(|(input, _)| input),
        price_output: known.price.map(|(_, output)| output),
        reasoning: known.reasoning,
        capabilities: Vec::new(),
        skills: known.skills,
        tier: known.tier,
        continues: known.continues,
        limits: ModelLimits::default(),
    }
}

fn overlay(base: Model, file: ModelFile) -> Model {
    let skills =
        file.capabilities.as_deref().and_then(|words| written(words, base.skills)).unwrap_or(base.skills);
    let capabilities = file.capabilities.unwrap_or(base.capabilities);
    Model {
        context: file.context.or(base.context),
        written_context: file.context,
        max_output: file.max_output.or(base.max_output),
        price_input: file.price_input.or(base.price_input),
        price_output: file.price_output.or(base.price_output),
        reasoning: base.reasoning
            || file.tier == Some(Tier::Reasoning)
            || capabilities.iter().any(|word| word == "reasoning"),
        capabilities,
        skills,
        tier: file.tier.or(base.tier),
        continues: file.continues.unwrap_or(base.continues),
        limits: file.limits,
    }
}

/// Reads a list of capabilities: nothing where it holds no word of ours. Tools, images and JSON are
/// ways to converse. A model that the catalogue knows to answer in JSON keeps that with its tools:
/// who lists `[chat, tools, vision]` for it did not think of JSON, which came with the tools.
fn written(words: &[String], believed: Skills) -> Option<Skills> {
    let listed: Vec<Ability> = words.iter().filter_map(|word| Ability::from_word(word)).collect();
    if listed.is_empty() {
        return None;
    }
    let mut can = Abilities::of(&listed);
    if [Ability::Tools, Ability::Vision, Ability::Json].into_iter().any(|ability| can.has(ability)) {
        can = can.with(Ability::Chat);
    }
    if can.has(Ability::Tools) && believed.can().has(Ability::Json) {
        can = can.with(Ability::Json);
    }
    Some(Skills::written(can))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_whole_list_and_words_that_nobody_knows_say_nothing() {
        let lacks = |words: &[&str], believed: Skills, need: Ability| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            written(&words, believed).map(|skills| skills.lacks(Abilities::of(&[need])).is_some())
        };
        let unknown = Skills::default();
        let knows_json = Skills::believed(&[Ability::Json], &[]);
        for (words, believed, need, want) in [
            (&["chat"][..], unknown, Ability::Vision, Some(true)),
            (&["vision"], unknown, Ability::Chat, Some(false)),
            (&["embedding"], unknown, Ability::Chat, Some(true)),
            (&["chat", "tools"], unknown, Ability::Json, Some(true)),
            (&["chat", "tools"], knows_json, Ability::Json, Some(false)),
            (&["chat"], knows_json, Ability::Json, Some(true)),
            (&["reasoning", "streaming"], unknown, Ability::Chat, None),
            (&[], unknown, Ability::Chat, None),
        ] {
            assert_eq!(lacks(words, believed, need), want, "{words:?} and {need:?}");
        }
    }
}
