//! What clients may name: routes, their groups of equal priority, and the entries of a group.
//!
//! A fallback route's groups stand behind the route's own, so that no choice follows a reference.

use super::TimeoutOverrides;
use crate::base::ids::TargetIdx;
use crate::catalog::Tier;
use crate::config::hedge::HedgePolicy;
use std::sync::Arc;

/// What a client names: priority groups of entries.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name; bounded by the configuration and so a metric label.
    pub name: Arc<str>,
    /// Whether it was made from a model name rather than written in the file.
    pub is_implicit: bool,
    /// Groups in order of priority, each with at least one entry; fallback routes' groups follow.
    pub groups: Vec<Group>,
    /// Values set in the request where the client set nothing: key and JSON text.
    pub defaults: Vec<(String, String)>,
    /// The timers that the route sets itself.
    pub timeouts: TimeoutOverrides,
    /// Whether rescue is switched off for it (`no_rescue`).
    pub no_rescue: bool,
    /// When a second target is asked beside the first; absent where the file's word stands.
    pub hedge: Option<HedgePolicy>,
    /// The size class that is wanted where the client wishes none.
    pub tier: Option<Tier>,
    /// What may be lost on the way to targets of another dialect than the client's.
    pub translation: Translation,
}

/// What may be lost on the way to a target of another dialect than the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Translation {
    /// What the target's dialect cannot say is left out.
    #[default]
    Lossy,
    /// A target is left out where something would be lost that was asked for.
    Strict,
    /// Only targets that take the client's call as it is are asked.
    None,
}

/// Entries of equal priority. Their targets are equals: "the same model".
#[derive(Clone, Debug)]
pub struct Group {
    /// The priority; 1 is first.
    pub priority: u32,
    /// Entries in the order of the file.
    pub entries: Vec<Entry>,
}

/// One line under `targets:`: a model with each credential of its provider.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Share inside the group, 1 or more (an entry of weight 0 is left out of the plan).
    pub weight: u32,
    /// Its targets, one per credential, in the order of the credentials.
    pub targets: Vec<TargetIdx>,
    /// Where the line names no model: the targets for each size class that may be wished.
    pub by_tier: Option<Box<[Vec<TargetIdx>; Tier::ALL.len()]>>,
}

impl Entry {
    /// Makes an entry of one model.
    #[must_use]
    pub fn of(weight: u32, targets: Vec<TargetIdx>) -> Self {
        Entry { weight, targets, by_tier: None }
    }

    /// Returns its targets for a size class that the client wishes.
    #[must_use]
    pub fn targets_for(&self, wish: Option<Tier>) -> &[TargetIdx] {
        match (wish, &self.by_tier) {
            (Some(tier), Some(by_tier)) => &by_tier[tier as usize],
            (Some(_) | None, _) => &self.targets,
        }
    }
}
