//! Who is asked for this request, in which order, and who was left out and why.
//!
//! `select` decides; this room brings the slots behind its indices together with the groups they
//! stand in, and keeps what the story needs: whether the first choice was left out, and how large
//! its model is.

use super::carried::{Carried, Source};
use super::conduct;
use crate::base::api::Api;
use crate::base::ids::{ProviderIdx, RouteIdx, TargetId, TargetIdx};
use crate::catalog::Tier;
use crate::live::{House, Live, Slot};
use crate::select;
use crate::select::fit::{self, Shed, Wish};
use http::HeaderMap;
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::sync::Arc;

/// The header by which a client asks for a size of model.
const TIER_HEADER: &str = "x-pointsman-tier";

/// Targets that were left out, each with the reason.
pub(super) type LeftOut = SmallVec<[(Arc<Slot>, Shed); 2]>;

/// The targets of a request, in the order of choice.
#[derive(Default)]
pub(super) struct Line {
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) groups: SmallVec<[u32; 4]>,
    pub(super) left_out: LeftOut,
    pub(super) first: First,
}

/// What is told of the first choice.
#[derive(Clone, Copy, Default)]
pub(super) struct First {
    /// It was left out for this request.
    pub(super) was_left_out: bool,
    /// The size of its model, where known.
    pub(super) tier: Option<Tier>,
}

/// A word in the header that is no size.
pub(super) struct UnknownTier;

/// Reads the size that a client asks for.
pub(super) fn wished_tier(headers: &HeaderMap) -> Result<Option<Tier>, UnknownTier> {
    let Some(value) = headers.get(TIER_HEADER) else { return Ok(None) };
    let word = value.to_str().unwrap_or_default();
    Tier::from_word(word.trim()).map(Some).ok_or(UnknownTier)
}

/// Lines the targets of a route up.
pub(super) fn of_route(house: &House, live: &Live, api: Api, route_at: RouteIdx, wish: &Wish) -> Line {
    let route = live.plan.route(route_at);
    let now = house.clock.tick();
    let usable = |at: TargetIdx| {
        live.slot(at).is_some_and(|slot| {
            fit::fits(&slot.target.traits, wish) && slot.health.look(now, &live.policy).is_ok()
        })
    };
    let Some(turns) = live.turns(route_at) else { return Line::default() };
    let order = select::order(&live.plan, route, turns, api, wish.tier, usable);
    let mut line: Vec<(Arc<Slot>, u32)> =
        order.iter().filter_map(|(group, at)| Some((Arc::clone(live.slot(*at)?), *group))).collect();
    let names_providers_only =
        || route.groups.iter().flat_map(|group| &group.entries).any(|entry| entry.by_tier.is_some());
    let tier = wish.tier.or(route.tier);
    if tier.is_some() && !names_providers_only() {
        fit::prefer(&mut line, tier, |(slot, _)| slot.target.traits);
    }
    if let Some(pinned) = house.pins.first(&route.name, now) {
        put_first(&mut line, &pinned);
    }
    take_out(line, wish)
}

/// Puts the target that an operator pinned before all others, which keep their order.
fn put_first(line: &mut [(Arc<Slot>, u32)], pinned: &TargetId) {
    if let Some(at) = line.iter().position(|(slot, _)| slot.target.id == *pinned)
        && let Some(head) = line.get_mut(..=at)
    {
        head.rotate_right(1);
    }
}

/// Lines one model of one provider up.
pub(super) fn of_model(
    house: &House,
    live: &Live,
    api: Api,
    at: ProviderIdx,
    model: &str,
    wish: &Wish,
) -> Line {
    if select::reach(live.plan.provider(at).serves, api, live.plan.translation).is_none() {
        return Line::default();
    }
    take_out(house.direct(live, at, model).into_iter().map(|slot| (slot, 0)).collect(), wish)
}

fn take_out(mut line: Vec<(Arc<Slot>, u32)>, wish: &Wish) -> Line {
    let first = line.first().map(|(slot, _)| Arc::clone(slot));
    let left_out = fit::shed(&mut line, wish, |(slot, _)| slot.target.traits);
    let left_out: LeftOut = left_out.into_iter().map(|((slot, _), why)| (slot, why)).collect();
    let was_left_out =
        first.as_ref().is_some_and(|first| left_out.iter().any(|(slot, _)| Arc::ptr_eq(slot, first)));
    let tier = first.and_then(|first| first.target.traits.tier);
    let (slots, groups) = line.into_iter().unzip();
    Line { slots, groups, left_out, first: First { was_left_out, tier } }
}

/// Takes out the targets to which a strict route cannot say all that was asked for.
pub(super) fn keep_faithful(live: &Live, line: &mut Line, source: &Source<'_>, carried: &mut Carried) {
    let mut at = 0;
    let mut is_first = true;
    while let Some(slot) = line.slots.get(at) {
        let shed = match carried.write(live, slot, at, source) {
            None => None,
            Some(Ok(written)) => written.lost.matter().then_some(Shed::Loses(written.lost)),
            Some(Err(why)) => Some(Shed::Untranslatable(why)),
        };
        match shed {
            None => at += 1,
            Some(why) => {
                line.first.was_left_out |= is_first && at == 0;
                line.left_out.push((line.slots.remove(at), why));
                line.groups.remove(at);
            }
        }
        is_first = false;
    }
}

/// Says why nobody can serve a request.
pub(super) fn nobody(name: &str, left_out: &LeftOut, wish: &Wish) -> String {
    let windows = left_out.iter().filter_map(|(_, why)| match why {
        Shed::Window(window) => Some(*window),
        Shed::Lacks(_) | Shed::Loses(_) | Shed::Untranslatable(_) => None,
    });
    if let Some(window) = windows.max() {
        // Tools know a prompt that is too long by these words of the two large providers.
        return format!(
            "prompt is too long: about {} tokens > {window}, the maximum context length of \"{name}\"",
            wish.tokens
        );
    }
    let mut text = format!("no target of \"{name}\" can serve this request: ");
    tell(&mut text, left_out);
    text
}

/// Appends the targets that were left out, with the reasons.
pub(super) fn tell(text: &mut String, left_out: &LeftOut) {
    for (at, (slot, why)) in left_out.iter().enumerate() {
        if text.len() > conduct::EXPLANATION {
            text.push_str(", and more");
            break;
        }
        let separator = if at == 0 { "" } else { ", " };
        // Writing into a string does not fail.
        let _ = match why {
            Shed::Lacks(ability) => {
                write!(text, "{separator}{} cannot do {}", slot.target.id, ability.as_label())
            }
            Shed::Window(window) => {
                write!(text, "{separator}{} has a window of {window} tokens", slot.target.id)
            }
            Shed::Loses(losses) => {
                write!(text, "{separator}{} would lose {losses} in translation", slot.target.id)
            }
            Shed::Untranslatable(why) => write!(text, "{separator}{}: {why}", slot.target.id),
        };
    }
}
