//! Who is asked for this request, in which order, and who was left out and why.
//!
//! `select` decides; this room brings the slots behind its indices together with the groups they
//! stand in, and keeps what the story needs: whether the first choice was left out, and how large
//! its model is.

use super::carried::{Carried, Source, Written};
use super::conduct;
use crate::base::api::{Api, Dialect};
use crate::base::ids::{ProviderIdx, RouteIdx, TargetId, TargetIdx};
use crate::base::outcome::ErrorCode;
use crate::base::time::Tick;
use crate::catalog::Tier;
use crate::config::plan::Translation;
use crate::live::{House, Live, Slot};
use crate::route::Named;
use crate::select;
use crate::select::fit::{self, Shed, Wish};
use crate::translate::{Loss, Losses, Untranslatable};
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::sync::Arc;

/// A target that does not stand in the line, and where it would have stood.
pub(super) struct Left<W> {
    pub(super) slot: Arc<Slot>,
    pub(super) why: W,
    pub(super) group: u32,
    /// How many of the line come before it.
    pub(super) before: usize,
}

/// Targets that were left out, each with the reason; by `before`.
pub(super) type LeftOut = Vec<Left<Shed>>;

/// The targets of a request, in the order of choice.
#[derive(Default)]
pub(super) struct Line {
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) groups: SmallVec<[u32; 4]>,
    pub(super) left_out: LeftOut,
    /// Those that do not take the call, nor one that it could be carried into.
    pub(super) unspoken: Vec<Left<()>>,
    pub(super) first: First,
    /// Whose provider has the state of earlier turns: that of the first choice, before anybody was left out.
    pub(super) home: Option<ProviderIdx>,
}

impl Line {
    /// Takes a target out.
    fn leave(&mut self, at: usize, why: Shed) {
        let (slot, group) = (self.slots.remove(at), self.groups.remove(at));
        let place = self.left_out.partition_point(|left| left.before <= at);
        let behind = self.left_out.iter_mut().map(|left| &mut left.before);
        for before in behind.chain(self.unspoken.iter_mut().map(|left| &mut left.before)) {
            *before -= usize::from(*before > at);
        }
        self.left_out.insert(place, Left { slot, why, group, before: at });
    }
}

/// Whether choosing leaves a trace: `explain` looks and nothing moves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Turns are taken, health is made for models that nobody asked for yet.
    Real,
    /// Nothing of that.
    None,
}

/// What is told of the first choice.
#[derive(Clone, Copy, Default)]
pub(super) struct First {
    /// It was left out for this request.
    pub(super) was_left_out: bool,
    /// The size of its model, where known.
    pub(super) tier: Option<Tier>,
}

/// Lines up the targets of what a request names; where the route is strict, only those to which
/// all can be said that was asked for. Of a request whose earlier turns a provider keeps, only those
/// that can be told which: another would answer half a conversation as if it were the whole.
pub(super) fn up(
    house: &House,
    live: &Live,
    named: &Named,
    wish: &Wish,
    source: &Source<'_>,
    effect: Effect,
    now: Tick,
) -> (Line, Carried) {
    let mut carried = Carried::default();
    let (mut line, translation) = match named {
        Named::Route(at) => {
            (of_route(house, live, source.api, *at, wish, effect, now), live.plan.route(*at).translation)
        }
        Named::Direct { provider, model } => {
            let line = of_model(house, live, source.api, *provider, model, wish, effect);
            (line, live.plan.translation)
        }
    };
    let bar = match translation {
        Translation::Strict => Some(Bar::All),
        Translation::Lossy => source.parsed.names_state.then_some(Bar::State),
        Translation::None => None,
    };
    if let Some(bar) = bar {
        keep_faithful(live, &mut line, source, &mut carried, bar);
    }
    if source.parsed.names_state {
        keep_at_home(&mut line);
    }
    (line, carried)
}

/// Lines the targets of a route up.
fn of_route(
    house: &House,
    live: &Live,
    api: Api,
    route_at: RouteIdx,
    wish: &Wish,
    effect: Effect,
    now: Tick,
) -> Line {
    let route = live.plan.route(route_at);
    let usable = |at: TargetIdx| {
        live.slot(at).is_some_and(|slot| {
            fit::fits(&slot.target.traits, wish) && slot.health.look(now, &live.policy).is_ok()
        })
    };
    let Some(turns) = live.turns(route_at) else { return Line::default() };
    let order = match effect {
        Effect::Real => select::order(&live.plan, route, turns, api, wish.tier, usable),
        Effect::None => select::order(&live.plan, route, &turns.clone(), api, wish.tier, usable),
    };
    let mut line: Vec<(Arc<Slot>, u32)> =
        order.line.iter().filter_map(|(group, at)| Some((Arc::clone(live.slot(*at)?), *group))).collect();
    let names_providers_only =
        || route.groups.iter().flat_map(|group| &group.entries).any(|entry| entry.by_tier.is_some());
    let tier = wish.tier.or(route.tier);
    if tier.is_some() && !names_providers_only() {
        fit::prefer(&mut line, tier, |(slot, _)| slot.target.traits);
    }
    let unspoken = order.unreached.iter().filter_map(|(group, at, before)| {
        Some(Left { slot: Arc::clone(live.slot(*at)?), why: (), group: *group, before: *before })
    });
    if let Some(pinned) = house.pins.first(&route.name, now) {
        put_first(&mut line, &pinned);
    }
    let home = home(&line, house.pins.first(&route.name, now).is_some());
    Line { home, ..take_out(line, unspoken.collect(), wish) }
}

/// Finds the provider that a turn before went to, unless it failed over: that of the first group where
/// the group is of one provider, and else the one that comes first in this line.
fn home(line: &[(Arc<Slot>, u32)], is_pinned: bool) -> Option<ProviderIdx> {
    let provider = |(slot, _): &(Arc<Slot>, u32)| slot.target.provider;
    let group = line.iter().map(|(_, group)| *group).min();
    let mut of_group = line.iter().filter(|(_, of)| Some(*of) == group).map(provider);
    let first = of_group.next().filter(|first| !is_pinned && of_group.all(|other| other == *first));
    first.or_else(|| line.first().map(provider))
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
fn of_model(
    house: &House,
    live: &Live,
    api: Api,
    at: ProviderIdx,
    model: &str,
    wish: &Wish,
    effect: Effect,
) -> Line {
    let slots = match effect {
        Effect::Real => house.direct(live, at, model),
        Effect::None => house.direct_unkept(live, at, model),
    };
    if select::reach(live.plan.provider(at).takes(model), api, live.plan.translation).is_none() {
        let unspoken = slots.into_iter().map(|slot| Left { slot, why: (), group: 0, before: 0 });
        return Line { unspoken: unspoken.collect(), ..Line::default() };
    }
    Line { home: Some(at), ..take_out(slots.into_iter().map(|slot| (slot, 0)).collect(), Vec::new(), wish) }
}

fn take_out(all: Vec<(Arc<Slot>, u32)>, unspoken: Vec<Left<()>>, wish: &Wish) -> Line {
    let unfit = fit::shed(&all, wish, |(slot, _)| slot.target.traits);
    let is_unspoken = unspoken.iter().any(|left| left.before == 0);
    let was_left_out = is_unspoken || unfit.first().is_some_and(|(at, _)| *at == 0);
    let tier = all.first().and_then(|(slot, _)| slot.target.traits.tier);
    let (slots, groups) = all.into_iter().unzip();
    let first = First { was_left_out, tier };
    let mut line = Line { slots, groups, left_out: LeftOut::new(), unspoken, first, home: None };
    for (gone, (at, why)) in unfit.into_iter().enumerate() {
        line.leave(at - gone, why);
    }
    line
}

/// What must not be lost on the way to a target.
#[derive(Clone, Copy)]
enum Bar {
    /// Anything that was asked for.
    All,
    /// The earlier turns that a provider keeps.
    State,
}

impl Bar {
    fn sheds(self, written: Result<&Written, Untranslatable>) -> Option<Shed> {
        match (self, written) {
            (Bar::All, Ok(written)) => written.lost.matter().then_some(Shed::Loses(written.lost)),
            (Bar::All, Err(why)) => Some(Shed::Untranslatable(why)),
            (Bar::State, Ok(written)) => {
                let mut state = Losses::default();
                state.add(Loss::State);
                written.lost.has(Loss::State).then_some(Shed::Loses(state))
            }
            // What cannot be said at all fails where it is asked, as without state.
            (Bar::State, Err(_)) => None,
        }
    }
}

/// Takes out the targets to which not all can be said that must be.
fn keep_faithful(live: &Live, line: &mut Line, source: &Source<'_>, carried: &mut Carried, bar: Bar) {
    let mut at = 0;
    let mut is_first = true;
    while let Some(slot) = line.slots.get(at) {
        let shed = carried.write(live, slot, at, source).and_then(|written| bar.sheds(written));
        match shed {
            None => at += 1,
            Some(why) => {
                line.first.was_left_out |= is_first && at == 0;
                line.leave(at, why);
            }
        }
        is_first = false;
    }
}

/// Takes out the targets of all providers but the one at home: what a request refers to by an id does
/// not exist elsewhere.
fn keep_at_home(line: &mut Line) {
    // Whose dialect cannot even name the state does not have it.
    let is_mute = |left: &Left<Shed>| matches!(left.why, Shed::Loses(_) | Shed::Untranslatable(_));
    let of = |provider| {
        let mut left = line.left_out.iter().filter(move |left| left.slot.target.provider == provider);
        line.slots.iter().any(|slot| slot.target.provider == provider) || !left.all(is_mute)
    };
    let home = line.home.filter(|home| of(*home));
    let Some(home) = home.or_else(|| line.slots.first().map(|slot| slot.target.provider)) else { return };
    let mut at = 0;
    let mut is_first = true;
    while let Some(slot) = line.slots.get(at) {
        if slot.target.provider == home {
            at += 1;
        } else {
            line.first.was_left_out |= is_first && at == 0;
            line.leave(at, Shed::Elsewhere);
        }
        is_first = false;
    }
}

/// Returns the word for a request that nobody can serve.
pub(super) fn code_of_nobody(left_out: &LeftOut) -> ErrorCode {
    let is_long = left_out.iter().any(|left| matches!(left.why, Shed::Window(_)));
    if is_long { ErrorCode::ValidationFailed } else { ErrorCode::CapabilityNotSupported }
}

/// Says why nobody can serve a request.
pub(super) fn nobody(name: &str, left_out: &LeftOut, wish: &Wish, dialect: Dialect) -> String {
    if left_out.is_empty() {
        return format!(
            "no target of \"{name}\" speaks {} or can be translated to; call it in a dialect of one of its providers",
            dialect.as_label()
        );
    }
    let windows = left_out.iter().filter_map(|left| match &left.why {
        Shed::Window(window) => Some(*window),
        Shed::Lacks(_) | Shed::Loses(_) | Shed::Untranslatable(_) | Shed::Elsewhere => None,
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
    for (at, Left { slot, why, .. }) in left_out.iter().enumerate() {
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
            Shed::Elsewhere => {
                write!(text, "{separator}{} does not have the earlier turns", slot.target.id)
            }
        };
    }
}
