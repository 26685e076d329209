//! Where does each name lead?
//!
//! Written routes first: their targets are resolved to provider × each credential × model, sorted
//! into groups by priority, and the groups of `fallback` routes follow, numbered on. Then, where
//! `implicit_routes` is on, every model that a provider has and no written route is named after
//! becomes a route of those providers, one group each, in the order of the file.
//!
//! The same target named by several routes is one target: its health is one thing.

use super::Bench;
use super::providers::{Inventory, index};
use crate::base::ids::{ProviderIdx, RouteIdx, TargetId, TargetIdx};
use crate::catalog::{self, Abilities, Ability, Tier};
use crate::config::file::{RouteFile, TargetFile};
use crate::config::path::{KeyPath, did_you_mean, shown};
use crate::config::plan::{Entry, Group, Model, Route, Target, TimeoutOverrides, Translation};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Targets of one file; metrics and status have a row for each.
const TARGETS_MAX: usize = 10_000;

/// Names and what they lead to, while it is being built.
pub(super) struct Directory<'i> {
    inventory: &'i Inventory,
    targets: Vec<Target>,
    target_ids: HashMap<TargetId, TargetIdx>,
    routes: Vec<Route>,
    names: HashMap<Arc<str>, RouteIdx>,
    used: HashSet<ProviderIdx>,
}

/// The finished directory.
pub(super) struct Finished {
    pub(super) targets: Vec<Target>,
    pub(super) routes: Vec<Route>,
    pub(super) names: HashMap<Arc<str>, RouteIdx>,
}

impl<'i> Directory<'i> {
    /// Starts with nothing.
    pub(super) fn new(inventory: &'i Inventory) -> Self {
        Directory {
            inventory,
            targets: Vec::new(),
            target_ids: HashMap::new(),
            routes: Vec::new(),
            names: HashMap::new(),
            used: HashSet::new(),
        }
    }

    /// Adds the routes of the file.
    pub(super) fn add_written(&mut self, bench: &Bench<'_>, files: &[RouteFile], translation: Translation) {
        let own: Vec<Vec<Group>> = files.iter().map(|file| self.groups(bench, file)).collect();
        let by_name: HashMap<&str, usize> =
            files.iter().enumerate().map(|(at, file)| (file.name.as_str(), at)).collect();
        let mut chains = Chains { bench, files, by_name: &by_name, reported: BTreeSet::new() };
        let followed: Vec<Vec<usize>> = (0..files.len()).map(|at| chains.follow(at)).collect();
        for (at, file) in files.iter().enumerate() {
            let mut groups = own.get(at).cloned().unwrap_or_default();
            for next in followed.get(at).into_iter().flatten() {
                append(&mut groups, own.get(*next).map(Vec::as_slice).unwrap_or_default());
            }
            if groups.is_empty() && file.targets.is_empty() && file.fallback.is_empty() {
                bench.faults.lacking(&file.at, "has no targets; add {provider: …, model: …}");
            }
            self.push(Route {
                name: file.name.as_str().into(),
                is_implicit: false,
                groups,
                defaults: file.defaults.clone(),
                timeouts: file.timeouts,
                no_rescue: file.no_rescue,
                hedge: file.hedge,
                tier: file.tier,
                translation: file.translation.unwrap_or(translation),
            });
        }
    }

    /// Adds a route for every model that has none: those that the file lists first.
    pub(super) fn add_implicit(&mut self, translation: Translation) {
        let inventory = self.inventory;
        let lists = || inventory.models.iter().zip(&inventory.written_models);
        let written = lists().flat_map(|(models, written)| models.iter().take(*written));
        let known = lists().flat_map(|(models, written)| models.iter().skip(*written));
        for model in written.chain(known) {
            if self.names.contains_key(model) || self.targets.len() > TARGETS_MAX {
                continue;
            }
            let mut groups = Vec::new();
            for (at, provider) in inventory.providers.iter().enumerate() {
                if provider.models.contains_key(model) {
                    let targets = self.targets_of(ProviderIdx(index(at)), model);
                    let priority = index(groups.len()) + 1;
                    groups.push(Group { priority, entries: vec![Entry::of(100, targets)] });
                }
            }
            self.push(Route {
                name: Arc::clone(model),
                is_implicit: true,
                groups,
                defaults: Vec::new(),
                timeouts: TimeoutOverrides::default(),
                no_rescue: false,
                hedge: None,
                tier: None,
                translation,
            });
        }
    }

    /// Tells whether a client may name this.
    pub(super) fn knows(&self, name: &str) -> bool {
        let is_direct =
            || name.split_once('/').is_some_and(|(provider, _)| self.inventory.names.contains(provider));
        self.names.contains_key(name) || is_direct()
    }

    /// Finds the default route.
    pub(super) fn find_default(&self, bench: &Bench<'_>, name: Option<&str>) -> Option<RouteIdx> {
        let name = name?;
        let found = self.names.get(name).copied();
        if found.is_none() {
            let near = did_you_mean(name, self.names.keys().map(|name| &**name));
            let at = KeyPath::root().key("default_route");
            bench.faults.lacking(&at, format!("route {} is not defined{near}", shown(name)));
        }
        found
    }

    /// Looks at the whole and hands it over.
    pub(super) fn finish(self, bench: &Bench<'_>, has_implicit: bool) -> Finished {
        if self.targets.len() > TARGETS_MAX {
            let what = format!("make more than {TARGETS_MAX} targets (provider, credential and model)");
            bench.faults.error(&KeyPath::root().key("routes"), what);
        }
        if !has_implicit {
            for (at, place) in self.inventory.places.iter().enumerate() {
                if !self.used.contains(&ProviderIdx(index(at))) {
                    bench.faults.warning(place, "is used by no route, and implicit_routes is off");
                }
            }
            if self.routes.is_empty() {
                bench.faults.lacking(
                    &KeyPath::root().key("routes"),
                    "holds no route and implicit_routes is off, so nothing can be served",
                );
            }
        }
        Finished { targets: self.targets, routes: self.routes, names: self.names }
    }

    fn push(&mut self, route: Route) {
        self.names.entry(Arc::clone(&route.name)).or_insert_with(|| RouteIdx(index(self.routes.len())));
        self.routes.push(route);
    }

    /// Sorts the targets of one route into groups.
    fn groups(&mut self, bench: &Bench<'_>, file: &RouteFile) -> Vec<Group> {
        let mut groups: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        let mut seen: HashMap<(&str, &str), &KeyPath> = HashMap::new();
        let is_left_out = |target: &&TargetFile| {
            target.provider.as_deref().is_some_and(|name| self.inventory.is_left_out(name))
        };
        if !file.targets.is_empty()
            && file.fallback.is_empty()
            && file.targets.iter().all(|target| is_left_out(&target))
        {
            let what = "names only providers that are left out: set the variables of one of them";
            bench.faults.lacking(&file.at.key("targets"), what);
        }
        let present: Vec<&TargetFile> = file.targets.iter().filter(|target| !is_left_out(target)).collect();
        for target in present {
            let entries = groups.entry(target.priority).or_default();
            let Some((provider, model)) = self.resolve(bench, target) else {
                // It is a fault already; weight of the group must not become a second one.
                entries.push(Entry::of(1, Vec::new()));
                continue;
            };
            let named = (target.provider.as_deref().unwrap_or(""), model.unwrap_or("any model"));
            if let Some(first) = seen.insert(named, &target.at) {
                bench.faults.warning(&target.at, format!("names the same provider and model as {first}"));
            }
            if target.weight == 0 {
                continue;
            }
            let entry = match model {
                Some(model) => Entry::of(target.weight, self.targets_of(provider, model)),
                None => self.any_model(bench, target, provider, file.tier),
            };
            entries.push(entry);
        }
        for (priority, entries) in &groups {
            if entries.is_empty() {
                let what = format!("has only weights of 0 in the group of priority {priority}");
                bench.faults.error(&file.at.key("targets"), what);
            }
        }
        groups.into_iter().map(|(priority, entries)| Group { priority, entries }).collect()
    }

    /// Finds what a target names; no model means one of the provider's, picked by size.
    fn resolve<'f>(
        &self,
        bench: &Bench<'_>,
        target: &'f TargetFile,
    ) -> Option<(ProviderIdx, Option<&'f str>)> {
        let name = target.provider.as_deref()?;
        if !self.inventory.names.contains(name) {
            let near = did_you_mean(name, self.inventory.names.iter().map(String::as_str));
            let what = format!("provider {} is not defined{near}", shown(name));
            bench.faults.lacking(&target.at.key("provider"), what);
        }
        if target.has_model && target.model.is_none() {
            return None;
        }
        Some((self.inventory.find(name)?, target.model.as_deref()))
    }

    /// Makes an entry that stands for one of the provider's models: the one of the size that the
    /// route wants, and one for each size that a client may wish.
    fn any_model(
        &mut self,
        bench: &Bench<'_>,
        target: &TargetFile,
        at: ProviderIdx,
        tier: Option<Tier>,
    ) -> Entry {
        let inventory = self.inventory;
        let provider = inventory.providers.get(at.at());
        let names = inventory.models.get(at.at()).map(Vec::as_slice).unwrap_or_default();
        let converses = |model: &Model| model.skills.lacks(Abilities::of(&[Ability::Chat])).is_none();
        let models: Vec<(&Arc<str>, Option<Tier>)> = names
            .iter()
            .filter_map(|name| Some((name, provider?.models.get(name)?)))
            .filter(|(_, model)| converses(model))
            .map(|(name, model)| (name, model.tier))
            .collect();
        let picked = |wish| {
            models.get(catalog::pick(wish, models.iter().map(|(_, tier)| *tier))).map(|(name, _)| *name)
        };
        if tier.is_none() {
            let what = "model is missing; name one, or set tier on the route to have one picked by size";
            bench.faults.lacking(&target.at, what);
            return Entry::of(1, Vec::new());
        }
        let Some(first) = picked(tier) else {
            let what = "model is missing, and no model of this provider is known to pick one from";
            bench.faults.lacking(&target.at, what);
            return Entry::of(1, Vec::new());
        };
        let targets = self.targets_of(at, first);
        let by_tier =
            Tier::ALL.map(|wish| picked(Some(wish)).map_or_else(Vec::new, |name| self.targets_of(at, name)));
        Entry { weight: target.weight, targets, by_tier: Some(Box::new(by_tier)) }
    }

    /// Finds or makes the targets of a model: one per credential of the provider, in order.
    fn targets_of(&mut self, at: ProviderIdx, model: &str) -> Vec<TargetIdx> {
        self.used.insert(at);
        let Some(provider) = self.inventory.providers.get(at.at()) else { return Vec::new() };
        let mut found = Vec::new();
        for credential in &provider.credentials {
            let Some(named) = self.inventory.credentials.get(credential.at()) else { continue };
            let id = TargetId::new(&provider.name, &named.name, model);
            let next = TargetIdx(index(self.targets.len()));
            let target = *self.target_ids.entry(id.clone()).or_insert(next);
            if target == next {
                self.targets.push(Target {
                    id,
                    provider: at,
                    credential: *credential,
                    endpoint: provider.endpoint,
                    model: model.into(),
                    traits: provider.traits(model),
                });
            }
            found.push(target);
        }
        found
    }
}

/// Follows `fallback` from route to route.
struct Chains<'a> {
    bench: &'a Bench<'a>,
    files: &'a [RouteFile],
    by_name: &'a HashMap<&'a str, usize>,
    /// Paths at which a fault was noted: several routes may lead through the same line.
    reported: BTreeSet<KeyPath>,
}

impl Chains<'_> {
    /// Returns the routes whose groups follow those of `start`, each once, nearest first in the
    /// order in which they are written, each with its own fallbacks right behind it.
    fn follow(&mut self, start: usize) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = HashSet::from([start]);
        // The way down: route, and which of its fallbacks comes next.
        let mut way = vec![(start, 0_usize)];
        while let Some((at, next)) = way.pop() {
            let Some((place, name)) = self.files.get(at).and_then(|file| file.fallback.get(next)) else {
                continue;
            };
            way.push((at, next + 1));
            let Some(found) = self.by_name.get(name.as_str()).copied() else {
                let near = did_you_mean(name, self.by_name.keys().copied());
                if self.reported.insert(place.clone()) {
                    self.bench.faults.lacking(place, format!("route {} is not defined{near}", shown(name)));
                }
                continue;
            };
            if way.iter().any(|(open, _)| *open == found) {
                self.report(
                    place,
                    format!("leads back to route {}: fallbacks must not go in a circle", shown(name)),
                );
            } else if seen.insert(found) {
                order.push(found);
                way.push((found, 0));
            }
        }
        order
    }

    fn report(&mut self, at: &KeyPath, what: String) {
        if self.reported.insert(at.clone()) {
            self.bench.faults.error(at, what);
        }
    }
}

/// Puts another route's groups behind, without entries that are there already.
fn append(groups: &mut Vec<Group>, more: &[Group]) {
    let there: HashSet<TargetIdx> =
        groups.iter().flat_map(|group| &group.entries).flat_map(|entry| entry.targets.clone()).collect();
    for group in more {
        let is_new = |entry: &&Entry| !entry.targets.iter().all(|target| there.contains(target));
        let entries: Vec<Entry> = group.entries.iter().filter(is_new).cloned().collect();
        if !entries.is_empty() {
            let priority = groups.last().map_or(0, |last| last.priority) + 1;
            groups.push(Group { priority, entries });
        }
    }
}
