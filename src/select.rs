//! Which targets, in which order?
//!
//! Priority groups come first, whatever the strategy. Inside a group the entries take turns by
//! smooth weighted round robin over those that can be used now; inside an entry the credentials
//! come in the order listed (`use: ordered`) or in turn (`spread`), so that two credentials do not
//! weigh double. The order is made once per request; whether a target may be used is asked again
//! at each step by `exchange`, because minutes may pass between two steps.
//!
//! Targets that cannot serve the request at all are taken out afterwards, and a wish for a size of
//! model is met: see [`fit`].
//!
//! Smooth weighted round robin is nginx's: each turn adds every weight to its entry's score, takes
//! the highest and subtracts the sum, so that 5:1:1 becomes a a b a c a a and not a a a a a b c.

pub mod fit;
mod reach;

use crate::base::api::Api;
use crate::base::ids::TargetIdx;
use crate::catalog::Tier;
use crate::config::plan::{Group, Plan, Route, Translation};
use crate::health::Units;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;

pub use reach::reach;

/// A target that a request may use.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where the caller finds it again.
    pub slot: u32,
    /// Targets of one group are equals.
    pub group: u32,
    /// Targets of one provider share its overloads.
    pub provider: u32,
    /// The provider's name for the model; equal names are the same model across groups.
    pub model: Arc<str>,
    /// The model's window in tokens, where declared.
    pub context: Option<u64>,
    /// Whether the model goes on from an assistant message that the request ends with.
    pub continues: bool,
    /// Its health.
    pub health: Arc<Units>,
}

impl Candidate {
    /// Tells whether a client would notice the difference between this target and another.
    #[must_use]
    pub fn is_equal(&self, other: &Candidate) -> bool {
        self.group == other.group || self.model == other.model
    }
}

/// The candidates of one request. On the heap: an open stream has no more room for them than it needs.
pub type Candidates = Vec<Candidate>;

/// The turns of one route: kept from request to request, not from plan to plan.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Vec<Scores>>);

#[derive(Debug, Default, Clone)]
struct Scores {
    entries: Vec<i64>,
    /// How often each entry came first: its credentials' turn. Counted by entry, because requests
    /// that another entry answers must not use up a credential's turn.
    firsts: Vec<u32>,
}

impl Turns {
    /// Makes the turns for a route.
    #[must_use]
    pub fn of(route: &Route) -> Self {
        let scores = |group: &Group| {
            let count = group.entries.len();
            Scores { entries: vec![0; count], firsts: vec![0; count] }
        };
        Turns(Mutex::new(route.groups.iter().map(scores).collect()))
    }
}

impl Clone for Turns {
    /// Returns turns of their own that stand where these do, for a choice without effect.
    fn clone(&self) -> Self {
        Turns(Mutex::new(self.0.lock().clone()))
    }
}

/// Targets of a route in the order in which a request is to try them.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Those that can be asked, each with the number of its group.
    pub line: SmallVec<[(u32, TargetIdx); 4]>,
    /// Those that neither speak the call's dialect nor can be reached in another, each with its
    /// group and how many of the line come before it.
    pub unreached: SmallVec<[(u32, TargetIdx, usize); 2]>,
}

/// Puts the targets of a route in the order in which a request is to try them. `usable` tells
/// whether a target can be used now; `spread` whether its provider uses its credentials in turn.
/// Targets that neither speak the call's dialect nor can be reached in another are kept apart.
/// `wish` is the size class that the client asks for, which decides which model is meant where the
/// route names none.
pub fn order(
    plan: &Plan,
    route: &Route,
    turns: &Turns,
    api: Api,
    wish: Option<Tier>,
    usable: impl Fn(TargetIdx) -> bool,
) -> Order {
    let mut ordered = Order::default();
    for (group_number, group) in (0u32..).zip(&route.groups) {
        let is_single = group.entries.len() == 1 && group.entries.iter().all(|e| e.targets.len() == 1);
        let (first, spread) = if is_single {
            (0, 0)
        } else {
            take_turn(group, group_number, turns, plan, (api, route.translation), wish, &usable)
        };
        let count = group.entries.len();
        let in_turn = std::iter::once(first).chain((0..count).filter(|at| *at != first));
        for entry in in_turn.filter_map(|at| group.entries.get(at)) {
            let targets = entry.targets_for(wish);
            let keys = targets.len();
            let is_spread = targets.first().is_some_and(|at| plan.provider_of(*at).spread_credentials);
            let shift = if is_spread { spread as usize % keys.max(1) } else { 0 };
            for step in 0..keys {
                let target = targets[(step + shift) % keys];
                if is_reached(plan, target, api, route.translation) {
                    ordered.line.push((group_number, target));
                } else {
                    ordered.unreached.push((group_number, target, ordered.line.len()));
                }
            }
        }
    }
    ordered
}

fn is_reached(plan: &Plan, target: TargetIdx, api: Api, translation: Translation) -> bool {
    reach(plan.takes(target), api, translation).is_some()
}

fn take_turn(
    group: &Group,
    number: u32,
    turns: &Turns,
    plan: &Plan,
    (api, translation): (Api, Translation),
    wish: Option<Tier>,
    usable: &impl Fn(TargetIdx) -> bool,
) -> (usize, u32) {
    let mut all = turns.0.lock();
    let Some(scores) = all.get_mut(number as usize) else { return (0, 0) };
    let mut sum = 0;
    let mut best: Option<usize> = None;
    for (at, entry) in group.entries.iter().enumerate() {
        if !entry
            .targets_for(wish)
            .iter()
            .any(|target| is_reached(plan, *target, api, translation) && usable(*target))
        {
            continue;
        }
        let Some(score) = scores.entries.get_mut(at) else { continue };
        *score += i64::from(entry.weight);
        sum += i64::from(entry.weight);
        if best.is_none_or(|known| scores.entries[at] > scores.entries[known]) {
            best = Some(at);
        }
    }
    let Some(at) = best else { return (0, 0) };
    if let Some(score) = scores.entries.get_mut(at) {
        *score -= sum;
    }
    let Some(firsts) = scores.firsts.get_mut(at) else { return (at, 0) };
    let turn = *firsts;
    *firsts = turn.wrapping_add(1);
    (at, turn)
}
